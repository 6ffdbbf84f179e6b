/* notify_probe: gives notices to targets and prints what becomes of them, for tests/cli/notify.sh.
 * notify_probe DIR SECONDS [ID=TARGET=BODY]...   One line a report: ID TARGET delivered|given_up|failed TRIES ERROR
 * Ends when each notice has come to its end, or after so many seconds. Exit code 0: all were delivered. */
#include "server/clock.h"
#include "server/notify.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int give_all(struct flagshm_notify *notify, char **words, int count)
{
    int i;

    for (i = 0; i < count; i++) {
        char *target = strchr(words[i], '='), *body = target != NULL ? strchr(target + 1, '=') : NULL;

        if (body == NULL)
            return i;
        *target = *body = '\0';
        flagshm_notify_give(notify, words[i], target + 1, body + 1, flagshm_realtime_ns());
    }
    return count;
}

/* Those that were delivered. */
static int watch(struct flagshm_notify *notify, int left, int seconds)
{
    struct pollfd entry = {.fd = flagshm_notify_fd(notify), .events = POLLIN};
    uint64_t until_ns = flagshm_mono_ns() + (uint64_t)seconds * 1000000000u, now_ns;
    struct flagshm_notify_report report;
    int delivered = 0;

    while (left > 0 && (now_ns = flagshm_mono_ns()) < until_ns) {
        (void)poll(&entry, 1, (int)((until_ns - now_ns) / 1000000) + 1);
        while (flagshm_notify_take(notify, &report)) {
            (void)printf("%s %s %s %u %s\n", report.id, report.target,
                         report.is_delivered  ? "delivered"
                         : report.is_given_up ? "given_up"
                                              : "failed",
                         report.tries, report.error.text);
            left -= report.is_delivered || report.is_given_up;
            delivered += report.is_delivered;
        }
        (void)fflush(stdout);
    }
    return delivered;
}

int main(int argc, char **argv)
{
    struct flagshm_notify_options options = {.instance = "probe"};
    struct flagshm_notify *notify;
    struct flagshm_error error;
    int given, delivered;

    if (argc < 3) {
        (void)fprintf(stderr, "usage: notify_probe DIR SECONDS [ID=TARGET=BODY]...\n");
        return 2;
    }
    options.dir = argv[1];
    if (flagshm_notify_open(&notify, &options, &error) != 0) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    given = give_all(notify, argv + 3, argc - 3);
    delivered = watch(notify, given, atoi(argv[2]));
    flagshm_notify_close(notify);
    return delivered == argc - 3 ? 0 : 1;
}
