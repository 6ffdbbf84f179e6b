/* watch_probe: prints a line for each report of a watch, for the shell that tries real editors on the file. A text
 * without a brace at its end is doubted, as the server doubts what is no JSON.
 * Usage: watch_probe FILE SECONDS, and ends after that time at the latest.
 *
 * Its clock stands still while nothing happens for longer than a quiet period or a doubt takes: so no poll ever comes
 * due, and what is seen was seen by inotify. */
#include "server/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS      UINT64_C(1000000)
#define NEAR_NS (200 * MS)

static uint64_t real_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

static bool is_whole(const struct flagshm_watch_report *report)
{
    size_t end = report->bytes;

    while (end > 0 && strchr(" \r\n", report->text[end - 1]))
        end--;
    return end > 0 && report->text[end - 1] == '}';
}

static void take(struct flagshm_watch *watch, uint64_t mono_ns, const struct flagshm_watch_report *report)
{
    if (report->news == FLAGSHM_WATCH_TEXT && !report->is_settled && !is_whole(report))
        flagshm_watch_doubt(watch, mono_ns);
    else if (report->news == FLAGSHM_WATCH_TEXT)
        (void)printf("TEXT %.*s\n", (int)strcspn(report->text, "\n"), report->text);
    else if (report->news == FLAGSHM_WATCH_GONE)
        (void)printf("GONE %s\n", report->error.text);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    struct flagshm_watch *watch;
    struct flagshm_watch_report report;
    struct flagshm_error error;
    uint64_t clock_ns, last_ns = real_ns(), end_ns;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: watch_probe FILE SECONDS\n");
        return 2;
    }
    if (flagshm_watch_open(&watch, argv[1], &error) != 0 || flagshm_watch_is_polling_only(watch)) {
        (void)fprintf(stderr, "watch_probe: %s\n", error.text);
        return 1;
    }
    clock_ns = last_ns;
    end_ns = last_ns + strtoul(argv[2], NULL, 10) * 1000 * MS;
    for (;;) {
        struct pollfd events = {.fd = flagshm_watch_fd(watch), .events = POLLIN};
        uint64_t now_ns = real_ns(), due_ns;
        int wait_ms = (int)((end_ns - now_ns) / MS);

        if (now_ns >= end_ns)
            break;
        clock_ns += now_ns - last_ns < NEAR_NS ? now_ns - last_ns : NEAR_NS;
        last_ns = now_ns;
        flagshm_watch_work(watch, clock_ns, &report);
        take(watch, clock_ns, &report);
        due_ns = flagshm_watch_deadline(watch);
        if (due_ns < clock_ns + NEAR_NS)
            wait_ms = due_ns > clock_ns ? (int)((due_ns - clock_ns) / MS) + 1 : 0;
        if (poll(&events, 1, wait_ms) < 0 && errno != EINTR)
            break;
    }
    flagshm_watch_close(watch);
    return 0;
}
