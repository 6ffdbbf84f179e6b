/* control: the server's unix socket: one JSON object a line asked, one JSON object a line answered.
 *
 * Ask:    {"verb":"kill","flag":"x","reason":"...","all":false}
 * Answer: {"ok":true, ...} or {"ok":false,"code":"no_such_flag","message":"..."}; code is one of: usage, denied, no_such_flag,
 *         already, conflict, invalid, failed.
 * code also: refused (a rollout does not do that now; the message says why, and the mend).
 * Verbs of this release: ping, status, kill, unkill, accept, reload, history, show (the text of a file revision), stats (what was
 * booked, of one flag or of all), rollouts (of one flag or of all: governor_view.c has the keys), rollback, clear, approve, pause,
 * resume, advance, waive, freeze, thaw, drill, drill_end. Verbs that change
 * need root, the server's own uid, or membership of the admin group (SO_PEERCRED; the kernel's word, not the caller's).
 * Lines are at most 64 KiB asked, 80 MiB answered. What is no sound JSON object with a verb is answered here, with code "usage".
 * A connection may ask any number of requests, also without waiting for answers; they are answered in order, and it is read no
 * further than it takes its answers. At most 64 connections, 32 of a user who may not change anything. A client that is slow or
 * silent is dropped after 10 s and never holds the loop. A line without its end is no request. A change, but for a kill, whose client
 * has hung up before it is begun (a server that was stopped finds such in its socket) is not done: its sender was told that it failed.
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
    bool has_gone;   /* hung up before this request was begun: to its sender it has failed */
    char user[64];   /* name by /etc/passwd (a directory service could hold the loop), else the number */
    uint64_t ticket; /* of this request, for flagshm_control_reply */
};

/* Answers one request. Returns a new object (the caller owns it); NULL where the answer comes later through flagshm_control_reply. */
typedef cJSON *flagshm_control_handler(void *context, const struct flagshm_peer *peer, const cJSON *request);

struct flagshm_control;

/* Binds PATH (mode 0660 whatever the umask, `admin_group` where not -1). Its directory is made (0755) where it is missing; a
 * socket file that nobody listens on is replaced. -EADDRINUSE: somebody listens; -EEXIST: no socket stands there (left as it
 * is); -ENAMETOOLONG; -EPERM: not a member of the group; -errno. */
int flagshm_control_open(struct flagshm_control **control, const char *path, gid_t admin_group,
                         flagshm_control_handler *handler, void *context, struct flagshm_error *error);
void flagshm_control_close(
    struct flagshm_control *control); /* removes the socket file, if it is ours still */
/* The late answer to a request whose handler gave NULL; takes over `answer`. Where the client has gone meanwhile it is dropped. A
 * connection's next request waits until this one is answered. */
void flagshm_control_reply(struct flagshm_control *control, uint64_t ticket, cJSON *answer);
int flagshm_control_fd(const struct flagshm_control *control); /* an epoll fd: readable when there is work */
void flagshm_control_work(struct flagshm_control *control);    /* does what can be done without waiting */
/* Makes the socket file anew where PATH no longer leads to it (swept away by hand, or with its directory): a server that nobody can
 * reach cannot be told to kill. 1: made anew; 0: it is there; -errno as flagshm_control_open, and the next call tries again. */
int flagshm_control_mend(struct flagshm_control *control, struct flagshm_error *error);
void flagshm_control_tick(struct flagshm_control *control,
                          unsigned long long mono_ns); /* CLOCK_MONOTONIC; drops the slow; each second */

/* The asking side, for flagctl. Sends one request and waits at most timeout_ms, all in all, for the answer. *answer (the
 * caller's) is an object with a boolean "ok", and NULL on a failure. 0; -ENOENT or -ECONNREFUSED: no server listens; -ETIMEDOUT:
 * it does not answer (stopped, or overloaded); -EACCES: the sentence names the group to join; -ECONNRESET: it went away;
 * -EBADMSG: something else listens there; -EMSGSIZE; -errno. Blocks; any thread. */
int flagshm_control_ask(const char *path, const cJSON *request, int timeout_ms, cJSON **answer,
                        struct flagshm_error *error);

#endif
