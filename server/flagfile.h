/* flagfile: the text of a flag file -> flags, and everything that is wrong with it.
 *
 * Pure: no I/O, no clock, no globals. Nothing is dropped by a typo (P1): each fault is an entry in `diags`,
 * and a flag with a fault is marked broken, never half-read. Whether a flag is sound never hangs on the
 * file's defaults.
 */
#ifndef FLAGSHM_SERVER_FLAGFILE_H
#define FLAGSHM_SERVER_FLAGFILE_H

#include "server/arena.h"
#include "server/diagnostics.h"
#include "server/flag.h"

#include <stdbool.h>
#include <stddef.h>

#define FLAGSHM_FILE_MAX      (64u * 1024u * 1024u)
#define FLAGSHM_FLAGS_DEFAULT 10000u

struct flagshm_flagfile_entry {
    /* Whole where !broken; where broken only name, text, offset and the two spans are set. */
    struct flagshm_flag flag;
    bool broken;
    bool is_warned;     /* a warning was told of it */
    bool says_disabled; /* a sound `"enabled": false` stands in the entry (also where it is broken) */
    bool says_rollout;  /* a sound rollout_pct stands in the entry (also where it is broken) */
    size_t key_offset;  /* where its key begins in the file, with the quote */
    bool is_held;       /* in a last good text: the file no longer has it, its deletion waits for a person */
    uint32_t says_rollout_mpct; /* its value; the lowest where it stands there twice */
};

struct flagshm_flagfile_base;
struct flagshm_flagfile {
    /* Sound JSON with a "flags" object, of a version that we know, with no more flags than allowed: only then
     * does anything change. Duplicate keys break the entry that they stand in, not the file (but for a second
     * "flags"). */
    bool is_usable;
    struct flagshm_flagfile_entry *entries; /* in the file's order, names unique */
    size_t count;
    bool defaults_broken;
    const char *defaults_text; /* the "defaults" object as it stands, NULL where absent or broken */
    size_t defaults_bytes;
    struct flagshm_arena arena; /* holds all of the above; the text is copied into it */
    struct flagshm_flagfile_base
        *base;        /* holds what an edit left as it was: see flagshm_flagfile_parse_edit */
    const char *text; /* with a NUL behind it */
    size_t text_bytes;
    size_t errors; /* that this text added to diags */
};

struct flagshm_flagfile_options {
    size_t max_flags; /* 0 = FLAGSHM_FLAGS_DEFAULT */
};

/* Reads a text of any bytes into `file`, whose former content is not looked at; `options` may be NULL.
 * Adds to `diags` and sorts it. Returns 0 also where the text is full of faults (see is_usable and diags);
 * -ENOMEM, or -EFBIG for a text over FLAGSHM_FILE_MAX (with its entry in diags); `file` is empty then.
 * Cost: about 0.7 ms for 1000 flags (176 KB). Not for two threads at once: cJSON keeps its last error in a
 * global. */
int flagshm_flagfile_parse(struct flagshm_flagfile *file, const char *text, size_t length,
                           const struct flagshm_flagfile_options *options, struct flagshm_diags *diags);
/* The same, with the same outcome, faster where the text is an edit of `before` (NULL: of nothing): flags
 * that stand in both, byte for byte, are not read again. `before` stays as good as it was, and either may
 * be freed first: they share memory, so both belong to one thread. Only a `before` that was wholly good,
 * and an edit that is, of at most some 60 flags, are faster; else all is read. Where it is fast it costs a
 * look at all bytes and a copy of all entries: about 0.03 ms for 1000 flags. */
int flagshm_flagfile_parse_edit(struct flagshm_flagfile *file, struct flagshm_flagfile *before,
                                const char *text, size_t length,
                                const struct flagshm_flagfile_options *options, struct flagshm_diags *diags);
void flagshm_flagfile_free(struct flagshm_flagfile *file); /* leaves an empty one; may be called again */

/* The flag of that name, or NULL. Linear. */
const struct flagshm_flagfile_entry *flagshm_flagfile_find(const struct flagshm_flagfile *file,
                                                           const char *name);

bool flagshm_is_flag_name(const char *name, size_t length);     /* [A-Za-z0-9][A-Za-z0-9_.-]{0,63} */
bool flagshm_is_instance_name(const char *name, size_t length); /* [A-Za-z0-9][A-Za-z0-9_-]{0,31} */

/* "5", "0.5", "12.125" -> thousandths of a percent; false where it is no plain decimal in 0..100 with at
 * most three decimals, spelled as JSON spells it (no sign, no leading zeros, digits on both sides of the
 * point). Exact: works on the digits, not on a double. */
bool flagshm_mpct_from_text(const char *text, size_t length, uint32_t *mpct);
/* 12125 -> "12.125", 5000 -> "5". `out` needs 16 bytes. Returns `out`. */
char *flagshm_mpct_to_text(uint32_t mpct, char out[16]);

#endif
