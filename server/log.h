/* log: what the server tells the person who runs it: one line each, on standard error.
 *
 * Under systemd (where $JOURNAL_STREAM says so) lines carry its priority prefix and no time; elsewhere an RFC 3339
 * time. A line that repeats the one before is counted, not printed, so that a lasting fault does not fill a disk. A reader that has
 * stopped (a pipe or a socket that is full) holds nobody up: lines are lost then, and counted when it takes some again.
 */
#ifndef FLAGSHM_SERVER_LOG_H
#define FLAGSHM_SERVER_LOG_H

#include <stdio.h>

enum flagshm_log_level {
    FLAGSHM_LOG_ERROR = 3,
    FLAGSHM_LOG_WARNING = 4,
    FLAGSHM_LOG_NOTICE = 5,
    FLAGSHM_LOG_INFO = 6
};

void flagshm_log(enum flagshm_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints a text of several lines that says more of the line before, without a prefix of its own. */
void flagshm_log_more(const char *text);

#endif
