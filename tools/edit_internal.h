/* edit_internal: what the files of edit share. For no one else. */
#ifndef FLAGSHM_TOOLS_EDIT_INTERNAL_H
#define FLAGSHM_TOOLS_EDIT_INTERNAL_H

#include "server/flagfile.h"
#include "tools/edit.h"

/* ---- pure: edit.c ---- */

/* "line LINE, column COLUMN: message" of the first error (of that flag, where one is named and has one). */
void flagshm_edit_tell_fault(const struct flagshm_diags *diags, const char *flag, const char *text,
                             size_t bytes, char *out, size_t size);
/* Reads a text into `file`, its faults into edit->diags: 0; -EBADMSG where it is no usable flag file; -ENOMEM. Free `file` after every
 * return. */
int flagshm_edit_parse(struct flagshm_edit *edit, struct flagshm_flagfile *file, const char *text,
                       size_t bytes, struct flagshm_error *error);
/* The same, and *entry, which is sound: else -ENOENT, -EBADMSG. */
int flagshm_edit_find(struct flagshm_edit *edit, struct flagshm_flagfile *file, const char *text,
                      size_t bytes, const char *flag, const struct flagshm_flagfile_entry **entry,
                      struct flagshm_error *error);
/* Reads the new text as the server will, into `after`, which is freed after every return, and holds it against the old one. Gives
 * edit->diags its faults. */
int flagshm_edit_verify(struct flagshm_edit *edit, const struct flagshm_flagfile *before,
                        struct flagshm_flagfile *after, struct flagshm_error *error);
/* text[0...at) INSERT text[at + cut...), malloc'ed, with a NUL behind it; NULL: no memory. */
char *flagshm_edit_splice(const char *text, size_t bytes, size_t at, size_t cut, const char *insert,
                          size_t insert_bytes, size_t *new_bytes);
/* Where the white space begins that stands between a member's key and the comma or brace before it: one line break at most, with its
 * indentation. */
size_t flagshm_edit_white_before(const char *text, size_t key);

/* ---- the edge ---- */

/* Gives the new file what the old one has: owner, group, extended attributes, mode. 0, or -errno with its sentence. */
int flagshm_edit_keep_attributes(int fd, int old_fd, const struct flagshm_edit_file *file,
                                 struct flagshm_error *error);
/* "owner ada: run as ada or as root", for an error. Returns `out`. */
const char *flagshm_edit_mend(uid_t uid, char out[160]);

#endif
