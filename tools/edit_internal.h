/* edit_internal: what the two files of the edge share. For no one else. */
#ifndef FLAGSHM_TOOLS_EDIT_INTERNAL_H
#define FLAGSHM_TOOLS_EDIT_INTERNAL_H

#include "tools/edit.h"

/* Gives the new file what the old one has: owner, group, extended attributes, mode. 0, or -errno with its sentence. */
int flagshm_edit_keep_attributes(int fd, int old_fd, const struct flagshm_edit_file *file,
                                 struct flagshm_error *error);
/* "owner ada: run as ada or as root", for an error. Returns `out`. */
const char *flagshm_edit_mend(uid_t uid, char out[160]);

#endif
