/* log: see the header. One thread (the server's loop).
 *
 * Each line is one write of at most PIPE_BUF bytes to a descriptor that says it has room: such a write does not wait, neither on a
 * pipe nor on a socket. Not O_NONBLOCK, since that would hold for everyone who shares the descriptor.
 */
#include "server/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES   2048
#define PREFIX_BYTES 96

static char last_line[LINE_BYTES];
static unsigned long repeats, lost;
static bool is_cut; /* the last line went out in part */

static bool is_under_systemd(void)
{
    const char *stream = getenv("JOURNAL_STREAM");

    return stream != NULL && stream[0] != '\0';
}

static void make_prefix(char out[PREFIX_BYTES], enum flagshm_log_level level)
{
    static const char *const words[] = {"", "", "", "error: ", "warning: ", "", ""};
    struct timespec now;
    struct tm parts;
    char time[40];

    if (is_under_systemd()) {
        (void)snprintf(out, PREFIX_BYTES, "<%d>", (int)level);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(out, PREFIX_BYTES, "%s.%03ldZ flagshmd: %s", time, now.tv_nsec / 1000000, words[level]);
}

/* False: it cannot be said without waiting, or not at all. */
static bool put(const char *text, size_t bytes)
{
    struct pollfd entry = {.fd = STDERR_FILENO, .events = POLLOUT};
    size_t begin = bytes;
    ssize_t written = 0;

    while (bytes > 0 && written >= 0) {
        if (poll(&entry, 1, 0) <= 0 || (entry.revents & POLLOUT) == 0)
            break;
        written = write(STDERR_FILENO, text, bytes < PIPE_BUF ? bytes : PIPE_BUF);
        if (written > 0) {
            text += written;
            bytes -= (size_t)written;
        }
    }
    is_cut = bytes > 0 ? is_cut || bytes < begin : false;
    return bytes == 0;
}

static bool put_line(enum flagshm_log_level level, const char *line)
{
    char text[1 + PREFIX_BYTES + LINE_BYTES + 1], prefix[PREFIX_BYTES];

    make_prefix(prefix, level);
    (void)snprintf(text, sizeof text, "%s%s%s\n", is_cut ? "\n" : "", prefix, line);
    return put(text, strlen(text));
}

void flagshm_log(enum flagshm_log_level level, const char *format, ...)
{
    char line[LINE_BYTES], note[80];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (strcmp(line, last_line) == 0) {
        repeats++;
        return;
    }
    if (lost > 0) {
        (void)snprintf(note, sizeof note, "%lu lines of this log were lost: nobody took them", lost);
        if (put_line(FLAGSHM_LOG_WARNING, note))
            lost = 0;
    }
    if (repeats > 0) {
        (void)snprintf(note, sizeof note, "(the line before, %lu more times)", repeats);
        lost += !put_line(level, note);
        repeats = 0;
    }
    memcpy(last_line, line, strlen(line) + 1);
    lost += !put_line(level, line);
}

void flagshm_log_more(const char *text)
{
    lost += !put(text, strlen(text));
    last_line[0] = '\0';
}
