/* revision: the texts of the flag file that the server's journal keeps, and what is different between two of them. */
#ifndef FLAGSHM_TOOLS_REVISION_H
#define FLAGSHM_TOOLS_REVISION_H

#include "tools/flagctl.h"

/* The number of a file revision on the command line; 0, having said so, where it is none. */
uint64_t flagctl_revision(const struct flagctl *ctl, const char *text);
/* Its text, malloc'ed, from the server; NULL, having said so, with *code set. */
char *flagctl_revision_text(struct flagctl *ctl, uint64_t file_rev, int *code);

/* What differs, value by value: "flags", "x", "variant", "temperature". Values are JSON as they stand, white space taken out. */
struct flagctl_difference {
    const char *flag;       /* NULL: outside of the flags */
    const char *path;       /* inside of the flag, joined with '.'; "" : the whole flag came or went */
    const char *old, *new_; /* NULL: absent */
};

/* Calls `each` for each difference, in the order of the old text, then of what only the new one has. False where one of the two is no
 * sound JSON, or without memory. Pure. */
bool flagctl_differences(const char *old, size_t old_bytes, const char *new_, size_t new_bytes,
                         void (*each)(void *context, const struct flagctl_difference *difference),
                         void *context);

/* Prints them: under each flag what changed there. Returns how many there are, or -1 where they cannot be told. */
int flagctl_differences_print(struct flagctl *ctl, const char *old, const char *new_);
/* The same as a list of {flag, path, old, new}; NULL where they cannot be told. */
cJSON *flagctl_differences_json(const char *old, const char *new_);

#endif
