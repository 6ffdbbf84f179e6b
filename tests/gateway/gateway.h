/* gateway: the edge. One thread serves all connections: libmicrohttpd's epoll set, a heap of calls that wait for their time, signals. */
#ifndef FLAGSHM_GATEWAY_GATEWAY_H
#define FLAGSHM_GATEWAY_GATEWAY_H

#include "tests/gateway/answer.h"
#include "tests/gateway/config.h"
#include "tests/gateway/log.h"
#include "tests/gateway/request.h"
#include "tests/gateway/script.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#define GATEWAY_NOT_WAITING SIZE_MAX
#define GATEWAY_FOREVER     UINT64_MAX

struct gateway_call;

struct gateway_waits {
    struct gateway_call **calls; /* a heap: the first is due first */
    size_t count, capacity;
};

/* One connection. libmicrohttpd sees a caller leave only while it reads or writes, and not always then: see peers.c. */
struct gateway_peer {
    struct gateway_peer *previous, *next;
    struct gateway_call *call; /* NULL: between two */
    int fd;
};

struct gateway {
    struct MHD_Daemon *daemon;
    struct gateway_config config;
    struct gateway_log log;
    struct gateway_chance chance;
    struct gateway_waits waits;
    struct gateway_peer *peers;
    uint64_t peers_checked_ns;
    const struct gateway_scenario *fallback; /* --scenario */
    bool logs_bodies, is_ending;
    uint64_t in_flight, served;
    uint64_t body_bytes; /* held by all calls together */
};

/* One HTTP request and its answer. */
struct gateway_call {
    struct gateway *gateway;
    struct MHD_Connection *connection;
    struct gateway_peer *peer;
    struct gateway_text body;
    bool is_too_large, is_planned, is_message, is_gone;
    uint64_t begin_ns;
    uint64_t due_ns; /* of the pause it is in; 0: in none */
    size_t wait_index;
    struct gateway_request request;
    struct gateway_answer answer;
    struct gateway_script script;
    size_t pause_next;
    uint64_t sent;
};

uint64_t gateway_now_ns(void); /* monotonic */

/* Suspends the connection until then. */
void gateway_wait(struct gateway_call *call, uint64_t due_ns);
void gateway_waits_resume_due(struct gateway *gateway, uint64_t now_ns);
/* At once, whatever it waits for. */
void gateway_wait_end(struct gateway_call *call);
void gateway_waits_end_all(struct gateway *gateway);

/* Calls whose caller has left go on, to their end. Looks ten times a second at most. */
void gateway_peers_check(struct gateway *gateway, uint64_t now_ns);
struct gateway_peer *gateway_peer_of(struct MHD_Connection *connection);
void gateway_on_connection(void *gateway, struct MHD_Connection *connection, void **peer,
                           enum MHD_ConnectionNotificationCode code);
/* When waits or peers have work again; GATEWAY_FOREVER: never. */
uint64_t gateway_next_ns(const struct gateway *gateway);

/* Plays the script: queues the reply whose bytes it gives in time. */
enum MHD_Result gateway_play(struct gateway_call *call);

/* Makes the script of a request whose body has arrived. */
void gateway_messages(struct gateway_call *call);
void gateway_messages_log(struct gateway_call *call, bool is_sent);
void gateway_control(struct gateway_call *call, const char *method, const char *path);
void gateway_reply_error(struct gateway_call *call, unsigned status, const char *text);

enum MHD_Result gateway_on_request(void *gateway, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version, const char *upload,
                                   size_t *upload_bytes, void **call);
void gateway_on_completed(void *gateway, struct MHD_Connection *connection, void **call,
                          enum MHD_RequestTerminationCode code);

#endif
