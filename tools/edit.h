/* edit: changes of the flag file by a tool, such that a careful person would not have done it better by hand.
 *
 * Two parts. The pure one takes a text and gives another, in which nothing but the wanted bytes differs, and judges whether a text
 * may take another's place. The edge replaces the file: whole or not at all, with its owner, mode and attributes, never over
 * somebody else's change, and never where the file is made by something else, which would undo it.
 */
#ifndef FLAGSHM_TOOLS_EDIT_H
#define FLAGSHM_TOOLS_EDIT_H

#include "server/diagnostics.h"
#include "server/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* ---- pure ---- */

struct flagshm_edit {
    char *text; /* malloc'ed, with a NUL behind it; NULL where is_same, or on an error */
    size_t bytes;
    bool is_same;                 /* the flag says so already */
    bool is_planned;              /* it has a "rollout": its rollout_pct is a cap */
    bool is_enabled;              /* its "enabled" */
    uint32_t old_mpct;            /* what it said, or its default */
    uint32_t forced_control;      /* ids that its "force" gives control */
    uint64_t variant_fingerprint; /* of the value that flagshm_edit_finish makes the control's */
    struct flagshm_diags diags;   /* of the new text; of the old one where is_same or on an error */
};

/* Gives `flag` another share: the number behind its "rollout_pct" is replaced, or a member is put behind its last one, laid out like
 * that. 0; -ENOENT: no such flag (the error says whom one may have meant); -EBADMSG: the file or the flag's entry is broken, and
 * the error tells where; -EINVAL: the new text would have faults that the old one has not; -ENOMEM. Free with flagshm_edit_free after every
 * return. */
int flagshm_edit_share(struct flagshm_edit *edit, const char *text, size_t bytes, const char *flag,
                       uint32_t mpct, struct flagshm_error *error);
/* Ends a roll-out that everyone has: `flag`'s control gets the bytes of its variant's value, "rollout" goes, and a "rollout_pct" becomes 0,
 * so that each share serves the same value and the next variant begins at nobody. Errors as flagshm_edit_share; -EPERM: it has several
 * variants, or is disabled. */
int flagshm_edit_finish(struct flagshm_edit *edit, const char *text, size_t bytes, const char *flag,
                        struct flagshm_error *error);

struct flagshm_edit_flag {                       /* a new one, with a plan */
    const char *name, *control, *variant, *plan; /* models; "b2b" or "b2c" */
    const char *owner, *created, *expires;       /* NULL: none */
    uint32_t shadow_mpct;                        /* a first step of shadow calls; 0: none */
};
/* Puts a flag behind the last one, laid out like that. -EEXIST: there is one; -EDOM: what it is to be is no sound flag, and the error
 * says why without a place; else errors as flagshm_edit_share. */
int flagshm_edit_add(struct flagshm_edit *edit, const char *text, size_t bytes,
                     const struct flagshm_edit_flag *flag, struct flagshm_error *error);

void flagshm_edit_free(struct flagshm_edit *edit);

/* May `after` take the place of `before`? Not where it is no usable flag file, has more errors, or breaks a flag that was sound (or
 * absent) before: -EINVAL. `diags` gets all that is wrong with `after`. */
int flagshm_edit_check(const char *before, size_t before_bytes, const char *after, size_t after_bytes,
                       struct flagshm_diags *diags, struct flagshm_error *error);

/* ---- the edge ---- */

struct flagshm_edit_file {
    char given[4096];          /* the path as the caller named it */
    char path[4096];           /* of the file itself: links resolved */
    const char *name;          /* its last part */
    char *text;                /* what stands there, with a NUL behind it */
    size_t bytes;              /* of the text */
    struct stat stat;          /* when it was read */
    int dir_fd;                /* of its directory, locked against other flagctl; -1 where it is not open */
    uint64_t renamed_mono_ns;  /* CLOCK_MONOTONIC when the new text took the name */
    struct flagshm_error note; /* what a person should know beside the success; "" */
};

/* Resolves links, reads the file, and makes sure that it can be replaced and should be: -EROFS, naming what to edit instead, for a
 * ConfigMap, a store, a read-only file or file system, a file mounted by itself; -EACCES, naming who may; -EISDIR, -EFBIG, -errno.
 * Another flagctl that edits in the same directory is waited for, 2 s at most. Close it after every return. */
int flagshm_edit_open(struct flagshm_edit_file *file, const char *path, struct flagshm_error *error);

/* Replaces the file by a new one with this text, and the same owner, mode and extended attributes: written beside it, synced, renamed, the
 * directory synced. -ESTALE: somebody else has changed the file since it was read. On every error the file is as it was and nothing is
 * left beside it. Signals wait meanwhile. */
int flagshm_edit_replace(struct flagshm_edit_file *file, const char *text, size_t bytes,
                         struct flagshm_error *error);
/* Makes a file where there is none, as the umask says: whole or not at all. -EEXIST: there is one by now. Close `file` after every
 * return. */
int flagshm_edit_create(struct flagshm_edit_file *file, const char *path, const char *text, size_t bytes,
                        struct flagshm_error *error);
/* Only reads: the text behind a path, malloc'ed, with a NUL behind it; NULL with a sentence. `bytes` may be NULL. */
char *flagshm_edit_read(const char *path, size_t *bytes, struct flagshm_error *error);
/* Lets other flagctl edit, once all is done but the telling. */
void flagshm_edit_release(struct flagshm_edit_file *file);
void flagshm_edit_close(struct flagshm_edit_file *file);

#endif
