/* log: see the header. One thread (the server's loop). */
#include "server/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_BYTES 2048

static char last_line[LINE_BYTES];
static unsigned long repeats;

static bool is_under_systemd(void)
{
    const char *stream = getenv("JOURNAL_STREAM");

    return stream != NULL && stream[0] != '\0';
}

static void put_prefix(enum flagshm_log_level level)
{
    static const char *const words[] = {"", "", "", "error: ", "warning: ", "", ""};
    struct timespec now;
    struct tm parts;
    char time[40];

    if (is_under_systemd()) {
        fprintf(stderr, "<%d>", (int)level);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &parts);
    fprintf(stderr, "%s.%03ldZ flagshmd: %s", time, now.tv_nsec / 1000000, words[level]);
}

void flagshm_log(enum flagshm_log_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (strcmp(line, last_line) == 0) {
        repeats++;
        return;
    }
    if (repeats > 0) {
        put_prefix(level);
        fprintf(stderr, "(the line before, %lu more times)\n", repeats);
        repeats = 0;
    }
    memcpy(last_line, line, strlen(line) + 1);
    put_prefix(level);
    fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

void flagshm_log_more(const char *text)
{
    fputs(text, stderr);
    fflush(stderr);
    last_line[0] = '\0';
}
