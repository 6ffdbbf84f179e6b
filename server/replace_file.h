/* replace_file: puts a whole new text in a file's place, so that a reader, or a loss of power, sees the old or the new one. */
#ifndef FLAGSHM_SERVER_REPLACE_FILE_H
#define FLAGSHM_SERVER_REPLACE_FILE_H

#include "server/error.h"

#include <stddef.h>
#include <sys/types.h>

/* Writes PATH.new, has it on the disk, renames it and has the directory on the disk. 0 or -errno, and PATH is as it was (or, where
 * only the last step failed, new). Waits for the disk. */
int flagshm_replace_file(const char *path, const char *text, size_t bytes, mode_t mode,
                         struct flagshm_error *error);

#endif
