/* directory: makes the directory that a server's files live in. */
#ifndef FLAGSHM_SERVER_DIRECTORY_H
#define FLAGSHM_SERVER_DIRECTORY_H

#include "server/error.h"

#include <sys/types.h>

/* Makes PATH with exactly `mode`, whatever the umask, and what is missing above it with 0755 less the umask. What exists
 * is left as it is. 0; -ENOTDIR: something else stands there; -errno: the sentence names the directory that failed. */
int flagshm_directory_make(const char *path, mode_t mode, struct flagshm_error *error);

#endif
