/* server: the one loop that everything else hangs on: file changes, the heartbeat, signals, the control socket, the disk.
 *
 * The loop never waits for a disk, a client or a lock.
 */
#ifndef FLAGSHM_SERVER_SERVER_H
#define FLAGSHM_SERVER_SERVER_H

#include "server/error.h"
#include "server/publisher.h"

#include <sys/types.h>

struct flagshm_server_options {
    struct flagshm_publisher_options publisher;
    const char *socket_path;
    const char *instance;
    const char *notify_dir; /* the targets of notices */
    gid_t admin_group;      /* (gid_t)-1: root and the server's own user only */
};

/* Serves until SIGTERM or SIGINT: 0 then. -errno, with a sentence, where it cannot start: -EBUSY: another server; -EPERM, -EACCES: not ours
 * to write; -ENOSPC: no room for the table. Blocks those signals and SIGHUP for the process. */
int flagshm_server_run(const struct flagshm_server_options *options, struct flagshm_error *error);

#endif
