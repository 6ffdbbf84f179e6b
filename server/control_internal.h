/* control_internal: what control.c (connections), control_listen.c (the socket file) and control_ask.c share. */
#ifndef FLAGSHM_SERVER_CONTROL_INTERNAL_H
#define FLAGSHM_SERVER_CONTROL_INTERNAL_H

#include "server/control.h"

#include <sys/stat.h>
#include <sys/un.h>

#define CONTROL_REQUEST_MAX 65536
#define CONTROL_ANSWER_MAX  ((size_t)80 << 20)

/* The address of PATH; -ENAMETOOLONG, said in words, where it does not fit. */
int control_address(const char *path, struct sockaddr_un *address, struct flagshm_error *error);

/* Makes the listening socket and its file. Returns the descriptor or -errno; *file is the socket file's identity. */
int control_listen(const char *path, gid_t group, struct stat *file, struct flagshm_error *error);

/* Who stands at the other end of the connection, by the kernel's word. 0 or -errno. */
int control_peer(int fd, gid_t admin_group, struct flagshm_peer *peer);

/* Has the other end closed, not merely said all that it will? Then nobody waits for an answer. */
bool control_has_hung_up(int fd);

#endif
