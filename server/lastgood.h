/* lastgood: what is served when the file on disk is not, or not wholly, good (P2).
 *
 * Pure. The good set is itself a flag file: a text in which each flag stands as it was last accepted. Merging
 * a new file into it gives the next good text, so the same parser reads it after a reboot without an error,
 * and a person can read it too. Deletions that wait for a person are named in the text's top-level
 * "$comment", so they still wait after a reboot.
 */
#ifndef FLAGSHM_SERVER_LASTGOOD_H
#define FLAGSHM_SERVER_LASTGOOD_H

#include "server/flagfile.h"

struct flagshm_merge {
    struct flagshm_flagfile good; /* the next good set, already parsed; empty where changed_nothing */
    bool changed_nothing;         /* the file was not usable: go on with the old set */
    size_t kept;                  /* flags that kept their last good form because their entry is broken */
    size_t absent;       /* flags of the file that are not served: never good, or too many beside kept ones */
    size_t lowered;      /* kept flags to which a sound `enabled: false` or a lower share was applied */
    size_t deletions;    /* flags of the old set that the file no longer has */
    bool deletions_held; /* some of them wait: they were over half of the flags, and at least 4 */
};

/* Merges `file` into `old` (NULL: nothing was ever good). `accept_deletions`: a person said so.
 *
 * Where all of the file is good, nothing is composed: out->good takes over the file's memory, and `file`
 * stays readable only as long as out->good lives (freeing `file` first is right, and does nothing). Otherwise
 * `file` is left as it was, and out->good shares nothing with it. `old` is only read.
 *
 * An accepted flag may not share its salt with a kept one: it is then kept in its last good form too. A kept
 * flag that a lower share would bring to share its salt with another kept one is lowered to 0: less than was
 * asked for, never more.
 *
 * Returns 0, -ENOMEM, or -EFBIG where the good set would be no flag file any more (over FLAGSHM_FILE_MAX):
 * go on with the old set. out->good is empty on an error. Cost: where nothing is composed that of a look
 * at each entry, else that of another flagshm_flagfile_parse. */
int flagshm_lastgood_merge(const struct flagshm_flagfile *old, struct flagshm_flagfile *file,
                           bool accept_deletions, const struct flagshm_flagfile_options *options,
                           struct flagshm_merge *out);

#endif
