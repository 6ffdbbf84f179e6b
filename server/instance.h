/* instance: where an instance's things are: segment directory, state directory, socket. One place for the defaults.
 *
 *   segment  $FLAGSHM_DIR or /dev/shm: flagshm.NAME.table (.lock, .old)
 *   state    root and system users: /var/lib/flagshm/NAME; others: $XDG_STATE_HOME/flagshm/NAME or ~/.local/state/flagshm/NAME
 *   socket   root and system users: /run/flagshm/NAME.sock; others: $XDG_RUNTIME_DIR/flagshm/NAME.sock; where that is
 *            not set, /run/user/UID/flagshm/NAME.sock where /run/user/UID is ours, else STATE/flagshmd.sock
 * (a system user is a uid below 1000; of the effective uid)
 */
#ifndef FLAGSHM_SERVER_INSTANCE_H
#define FLAGSHM_SERVER_INSTANCE_H

#include "server/error.h"

#include <stddef.h>

struct flagshm_instance {
    char name[40];
    char dir[256]; /* "" : /dev/shm */
    char table_path[320];
    char state_dir[1024];
    char socket_path[108]; /* fits sockaddr_un */
};

/* Each argument may be NULL: then the environment (FLAGSHM_INSTANCE, FLAGSHM_DIR; not in a set-uid program), then the
 * default, decides; "" asks for the default whatever the environment says. Relative paths are taken from the working
 * directory and come out absolute; nothing is made or opened. -EINVAL for a bad name; -ENAMETOOLONG, also for a
 * directory over the 200 bytes that a client takes; -ENOENT: no home, so no default for the state directory. */
int flagshm_instance_resolve(struct flagshm_instance *instance, const char *name, const char *dir,
                             const char *state_dir, const char *socket_path, struct flagshm_error *error);

#endif
