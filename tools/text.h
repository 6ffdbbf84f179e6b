/* text: a whole file in memory. */
#ifndef FLAGSHM_TOOLS_TEXT_H
#define FLAGSHM_TOOLS_TEXT_H

#include "server/error.h"

#include <stddef.h>

/* Reads a file of at most FLAGSHM_FILE_MAX bytes, or one byte more to show that it is longer; "-": standard input. The caller frees it;
 * NULL: `error` says why. */
char *flagctl_text_read(const char *path, size_t *length, struct flagshm_error *error);

#endif
