/* notify_target: a target of notices as its file says it. */
#ifndef FLAGSHM_SERVER_NOTIFY_TARGET_H
#define FLAGSHM_SERVER_NOTIFY_TARGET_H

#include "server/error.h"
#include "server/notify_sign.h"

#include <stddef.h>
#include <stdint.h>

struct notify_target {
    char *url;    /* NULL: a program */
    char *origin; /* of the url what may be shown: its scheme, host and port */
    char **argv;
    unsigned char secret[NOTIFY_SECRET_ROOM];
    size_t secret_bytes; /* 0: not signed */
    unsigned timeout_s;
};

/* Reads DIR/NAME. -errno with file, key and mend; what may be secret is not quoted. Free it either way. */
int notify_target_read(struct notify_target *target, const char *dir, const char *name,
                       struct flagshm_error *error);
void notify_target_free(struct notify_target *target); /* secrets are wiped */

#endif
