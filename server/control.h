/* control: the server's unix socket: one JSON object a line asked, one JSON object a line answered.
 *
 * Ask:    {"verb":"kill","flag":"x","reason":"...","all":false}
 * Answer: {"ok":true, ...} or {"ok":false,"code":"no_such_flag","message":"..."}; code is one of: usage, denied, no_such_flag,
 *         already, conflict, invalid, failed.
 * Verbs of this release: ping, status, kill, unkill, accept, reload, history, show (the text of a file revision). Verbs that change
 * need root, the server's own uid, or membership of the admin group (SO_PEERCRED; the kernel's word, not the caller's).
 * Lines are at most 64 KiB asked, 80 MiB answered; a client that is slow or silent is dropped after 10 s and never holds the loop.
 */
#ifndef FLAGSHM_SERVER_CONTROL_H
#define FLAGSHM_SERVER_CONTROL_H

#include "server/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct flagshm_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    bool may_change;
    char user[64];   /* name, or the number where it has none */
    uint64_t ticket; /* of this request, for flagshm_control_reply */
};

/* Answers one request. Returns a new object (the caller owns it); NULL where the answer comes later through flagshm_control_reply. */
typedef cJSON *flagshm_control_handler(void *context, const struct flagshm_peer *peer, const cJSON *request);

struct flagshm_control;

/* Binds PATH (mode 0660, `group` where not -1; a socket file nobody listens on is replaced). */
int flagshm_control_open(struct flagshm_control **control, const char *path, gid_t admin_group,
                         flagshm_control_handler *handler, void *context, struct flagshm_error *error);
void flagshm_control_close(struct flagshm_control *control); /* removes the socket file */
/* The late answer to a request whose handler gave NULL; takes over `answer`. Where the client has gone meanwhile it is dropped. A
 * connection's next request waits until this one is answered. */
void flagshm_control_reply(struct flagshm_control *control, uint64_t ticket, cJSON *answer);
int flagshm_control_fd(const struct flagshm_control *control); /* an epoll fd: readable when there is work */
void flagshm_control_work(struct flagshm_control *control);    /* does what can be done without waiting */
void flagshm_control_tick(struct flagshm_control *control,
                          unsigned long long mono_ns); /* drops the slow; each second */

/* The asking side, for flagctl. Sends one request and waits at most timeout_ms for the answer. *answer is the caller's. 0; -ENOENT or -ECONNREFUSED: no
 * server listens; -ETIMEDOUT: it does not answer; -errno. */
int flagshm_control_ask(const char *path, const cJSON *request, int timeout_ms, cJSON **answer,
                        struct flagshm_error *error);

#endif
