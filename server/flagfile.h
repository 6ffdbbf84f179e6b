/* flagfile: the text of a flag file -> flags, and everything that is wrong with it.
 *
 * Pure: no I/O, no clock, no globals. Nothing is dropped by a typo (P1): each fault is an entry in `diags`, and a flag
 * with a fault is marked broken, never half-read.
 */
#ifndef FLAGSHM_SERVER_FLAGFILE_H
#define FLAGSHM_SERVER_FLAGFILE_H

#include "server/arena.h"
#include "server/diagnostics.h"
#include "server/flag.h"

#include <stdbool.h>
#include <stddef.h>

#define FLAGSHM_FILE_MAX (64u * 1024u * 1024u)

struct flagshm_flagfile_entry {
    struct flagshm_flag flag; /* whole where !broken; where broken only name, text and the two spans below are set */
    bool broken;
    bool says_disabled;         /* a sound `"enabled": false` stands in the entry (also where it is broken) */
    bool says_rollout;          /* a sound rollout_pct stands in the entry (also where it is broken) */
    uint32_t says_rollout_mpct; /* its value */
};

struct flagshm_flagfile {
    bool is_usable; /* sound JSON with a "flags" object: only then does anything change */
    struct flagshm_flagfile_entry *entries; /* in the file's order, names unique */
    size_t count;
    bool defaults_broken;
    const char *defaults_text; /* the "defaults" object as it stands, NULL where absent or broken */
    size_t defaults_bytes;
    struct flagshm_arena arena; /* holds all of the above; the text is copied into it */
    const char *text;
    size_t text_bytes;
};

struct flagshm_flagfile_options {
    size_t max_flags; /* 0 = 10000 */
    const char *last_good_defaults; /* used where the file's defaults are broken; NULL = none */
    size_t last_good_defaults_bytes;
};

/* Reads a text of any bytes. Returns 0 also where the text is full of faults (see is_usable and diags); -ENOMEM, or
 * -EFBIG for a text over FLAGSHM_FILE_MAX (with its entry in diags). Cost: about 0.4 ms for 1000 flags (143 KB). */
int flagshm_flagfile_parse(struct flagshm_flagfile *file, const char *text, size_t length,
                           const struct flagshm_flagfile_options *options, struct flagshm_diags *diags);
void flagshm_flagfile_free(struct flagshm_flagfile *file);

/* The flag of that name, or NULL. Linear. */
const struct flagshm_flagfile_entry *flagshm_flagfile_find(const struct flagshm_flagfile *file, const char *name);

bool flagshm_is_flag_name(const char *name, size_t length);     /* [A-Za-z0-9][A-Za-z0-9_.-]{0,63} */
bool flagshm_is_instance_name(const char *name, size_t length); /* [A-Za-z0-9][A-Za-z0-9_-]{0,31} */
/* "5", "0.5", "12.125" -> thousandths of a percent; false where it is no plain decimal in 0..100 with at most three decimals. Exact:
 * works on the digits, not on a double. */
bool flagshm_mpct_from_text(const char *text, size_t length, uint32_t *mpct);
/* 12125 -> "12.125", 5000 -> "5". `out` needs 16 bytes. */
char *flagshm_mpct_to_text(uint32_t mpct, char out[16]);

#endif
