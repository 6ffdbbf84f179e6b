/* word: what kill and unkill share: whom a person's word is about, what the table makes of it now, and how its outcome is told. */
#ifndef FLAGSHM_TOOLS_WORD_H
#define FLAGSHM_TOOLS_WORD_H

#include "tools/flagctl.h"

struct flagctl_word { /* one run of kill or unkill */
    const char *undo; /* the other command */
    const char *flag; /* NULL: all */
    bool always_undo; /* print the undo also where nothing had to be done */
    cJSON *result;    /* for -o json */
};

/* Reads the line: one flag's name, or --all. FLAGCTL_OK; else it is said. Ends with flagctl_word_end. */
int flagctl_word_begin(struct flagctl *ctl, struct flagctl_word *word, int argc, char **argv);
/* Ends a run: prints the result of one that is FLAGCTL_OK. Returns the exit code. */
int flagctl_word_end(struct flagctl *ctl, struct flagctl_word *word, int code);

const char *flagctl_word_name(const struct flagctl_word *word); /* "all flags", or the flag */

/* What has been done, or had been already; `by`: server, lock, switch or file; version 0: not known. Always FLAGCTL_OK. */
int flagctl_word_done(struct flagctl *ctl, struct flagctl_word *word, const char *by, bool already,
                      uint64_t version, const char *sentence);

/* The version in a server's answer, 0 where it names none; *already: nothing had to be done. */
uint64_t flagctl_word_version(const cJSON *answer, bool *already);

struct flagctl_seen { /* in the table */
    bool
        is_there; /* there is one that clients can read; without it the rest is a guess: known, not killed, silent */
    bool is_known, is_killed;
    uint64_t version;
    int64_t age_ns; /* of the heartbeat */
};
struct flagctl_seen flagctl_word_look(struct flagctl *ctl, const struct flagctl_word *word);

#endif
