/* lastgood: what is served when the file on disk is not, or not wholly, good (P2).
 *
 * Pure. The good set is itself a flag file: a text in which each flag stands as it was last accepted. Merging a new file
 * into it gives the next good text, so the same parser reads it after a reboot, and a person can read it too.
 */
#ifndef FLAGSHM_SERVER_LASTGOOD_H
#define FLAGSHM_SERVER_LASTGOOD_H

#include "server/flagfile.h"

struct flagshm_merge {
    struct flagshm_flagfile good; /* the next good set, already parsed; valid where changed_nothing is false */
    bool changed_nothing;         /* the file was not usable: go on with the old set */
    size_t kept;                  /* flags that kept their last good form because their entry is broken */
    size_t absent;                /* broken flags that have no last good form */
    size_t lowered;               /* kept flags to which a sound `enabled: false` or a lower share was applied */
    size_t deletions;             /* flags of the old set that the file no longer has */
    bool deletions_held;          /* they were over half of the flags, and at least 4: kept until accepted */
};

/* Merges `file` into `old` (NULL: nothing was ever good). `accept_deletions`: a person said so. 0 or -ENOMEM. */
int flagshm_lastgood_merge(const struct flagshm_flagfile *old, const struct flagshm_flagfile *file,
                           bool accept_deletions, const struct flagshm_flagfile_options *options,
                           struct flagshm_merge *out);

#endif
