/* change: what the commands that change something share: the undo, warnings that go where the result goes, and waiting until the
 * table shows what the file says. */
#ifndef FLAGSHM_TOOLS_CHANGE_H
#define FLAGSHM_TOOLS_CHANGE_H

#include "tools/edit.h"
#include "tools/flagctl.h"

/* A line for the shell that runs a command against the same instance: "flagctl unkill x", with the options that name it. Returns `out`. */
const char *flagctl_again(const struct flagctl *ctl, char out[2048], const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A warning: with -o json into result's "warnings", else to stderr. */
void flagctl_note(const struct flagctl *ctl, cJSON *result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Prints a result with -o json: flagctl_json, and "warnings" is there also where it is empty. Takes over `result`. */
int flagctl_result(struct flagctl *ctl, cJSON *result);

/* Says what flagshm_edit_... found wrong with `path`; returns the exit code. */
int flagctl_edit_fail(const struct flagctl *ctl, const char *path, int code,
                      const struct flagshm_error *error);

/* The value of --wait=SEC in milliseconds, 2000 where it is not given; -1, having said so, where it is no number. */
int flagctl_wait_ms(const struct flagctl *ctl);
#define FLAGCTL_WAIT_OPTION                                                                                  \
    {                                                                                                        \
        "wait", 0, "SEC", FLAGCTL_NUMBER, "how long to wait until the table shows it (2; 0: not at all)"     \
    }

/* Why a change of `path` cannot be expected in the table of this instance, in words; "" where it can. */
void flagctl_doubt(struct flagctl *ctl, const char *path, char out[2600]);
/* The highest revision of the file that the server has accepted; 0: it does not say. */
uint64_t flagctl_accepted_rev(struct flagctl *ctl);
/* Waits until the server has accepted one above `before_rev` (0: not at all), and tells it: "new_file_rev" with -o json. */
void flagctl_follow_rev(struct flagctl *ctl, cJSON *result, uint64_t before_rev, int wait_ms);
/* After a wait in vain: what the server says of its file, in words; "" where it says nothing wrong. */
void flagctl_reproach(struct flagctl *ctl, char *out, size_t room);

#endif
