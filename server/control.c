/* control: see the header. The connections: each reads lines, has one request answered at a time, and takes the answer.
 *
 * Nothing here waits. A connection that has a further request in its buffer asks epoll for room to write, which an empty
 * socket has: so the rest is done in the next round, and a client that sends a thousand requests takes turns with others.
 */
#include "server/control.h"
#include "server/clock.h"
#include "server/control_internal.h"
#include "server/json_scan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX     64
#define CONNECTIONS_OF_USER 32 /* of one who may not change anything: nobody locks the others out */
#define PATIENCE_NS         UINT64_C(10000000000)
#define PACE_BYTES          65536 /* a reader that takes this much within the patience is not slow */
/* What clients have not yet taken, altogether; beyond it only short answers are given. */
#define PENDING_MAX ((size_t)256 << 20)
#define SHORT_MAX   ((size_t)1 << 20)
#define LISTENER    UINT32_MAX

struct connection {
    int fd; /* -1: a free place */
    struct flagshm_peer peer;
    char *in; /* what came and is not yet used; CONTROL_REQUEST_MAX bytes where there is room */
    size_t in_bytes, in_capacity;
    char *out;
    size_t out_bytes, out_sent, out_paced;
    uint64_t deadline_ns;
    uint32_t interest;
    bool is_waiting; /* for a late answer to peer.ticket */
    bool is_ended;   /* the client has said all that it will */
    bool is_closing; /* after what is in `out` */
};

struct flagshm_control {
    int listen_fd, epoll_fd;
    struct stat file;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    gid_t admin_group;
    flagshm_control_handler *handler;
    void *context;
    struct connection connections[CONNECTIONS_MAX];
    struct flagshm_arena scratch;
    size_t pending;
    uint64_t now_ns, ticket;
    bool is_accepting;
};

/* ---- a connection ---- */

static void forget_answer(struct flagshm_control *control, struct connection *c)
{
    control->pending -= c->out_bytes;
    free(c->out);
    c->out = NULL;
    c->out_bytes = c->out_sent = c->out_paced = 0;
}

static void drop(struct flagshm_control *control, struct connection *c)
{
    if (c->fd < 0)
        return;
    /* Said, not left to close: a child between fork and exec still holds the descriptor, and epoll would go by it. */
    (void)epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    forget_answer(control, c);
    free(c->in);
    memset(c, 0, sizeof *c);
    c->fd = -1;
}

static char *line_end(const struct connection *c)
{
    return c->in_bytes > 0 ? memchr(c->in, '\n', c->in_bytes) : NULL;
}

static void set_interest(struct flagshm_control *control, struct connection *c)
{
    struct epoll_event event = {.data.u32 = (uint32_t)(c - control->connections)};

    if (c->out != NULL)
        event.events = EPOLLOUT;
    else if (c->is_waiting)
        event.events = 0; /* a client that has gone is told nevertheless */
    else
        event.events = line_end(c) != NULL || c->is_ended ? EPOLLOUT : EPOLLIN;
    if (event.events == c->interest)
        return;
    c->interest = event.events;
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
        drop(control, c);
}

static void send_some(struct flagshm_control *control, struct connection *c)
{
    ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_bytes - c->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR)
            drop(control, c);
        return;
    }
    c->out_sent += (size_t)sent;
    if (c->out_sent - c->out_paced >= PACE_BYTES) {
        c->out_paced = c->out_sent;
        c->deadline_ns = control->now_ns + PATIENCE_NS;
    }
    if (c->out_sent < c->out_bytes)
        return;
    forget_answer(control, c);
    c->deadline_ns = control->now_ns + PATIENCE_NS;
    if (c->is_closing)
        drop(control, c);
}

static cJSON *refusal(const char *code, const char *message)
{
    cJSON *answer = cJSON_CreateObject();

    cJSON_AddFalseToObject(answer, "ok");
    cJSON_AddStringToObject(answer, "code", code);
    cJSON_AddStringToObject(answer, "message", message);
    return answer;
}

/* The answer as a line; what is too long for the client or for us is refused instead. NULL: no memory. */
static char *print_line(const struct flagshm_control *control, const cJSON *answer, size_t *bytes)
{
    char *text = answer != NULL ? cJSON_PrintUnformatted(answer) : NULL;
    const char *complaint = NULL;

    *bytes = text != NULL ? strlen(text) : 0;
    if (text == NULL)
        complaint =
            "{\"ok\":false,\"code\":\"failed\",\"message\":\"the server has no memory for the answer\"}";
    else if (*bytes >= CONTROL_ANSWER_MAX)
        complaint =
            "{\"ok\":false,\"code\":\"failed\",\"message\":\"the answer would be longer than 80 MiB: ask for "
            "less\"}";
    else if (*bytes > SHORT_MAX && control->pending + *bytes > PENDING_MAX)
        complaint =
            "{\"ok\":false,\"code\":\"failed\",\"message\":\"the server is busy with long answers to others: "
            "ask again\"}";
    if (complaint != NULL) {
        free(text);
        text = strdup(complaint);
        if (text == NULL)
            return NULL;
        *bytes = strlen(text);
    }
    text[(*bytes)++] = '\n'; /* in the place of the closing NUL */
    return text;
}

static void answer_connection(struct flagshm_control *control, struct connection *c, cJSON *answer)
{
    c->out = print_line(control, answer, &c->out_bytes);
    cJSON_Delete(answer);
    c->is_waiting = false;
    if (c->out == NULL) {
        c->out_bytes = 0;
        drop(control, c);
        return;
    }
    control->pending += c->out_bytes;
    c->deadline_ns = control->now_ns + PATIENCE_NS;
    send_some(control, c);
}

void flagshm_control_reply(struct flagshm_control *control, uint64_t ticket, cJSON *answer)
{
    size_t i;

    for (i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &control->connections[i];

        if (c->fd < 0 || !c->is_waiting || c->peer.ticket != ticket)
            continue;
        answer_connection(control, c, answer);
        if (c->fd >= 0)
            set_interest(control, c);
        return;
    }
    cJSON_Delete(answer);
}

/* ---- a request ---- */

/* A strictly sound object with a verb; otherwise NULL and `why`. */
static cJSON *parse_request(struct flagshm_control *control, const char *line, size_t bytes, char *why,
                            size_t room)
{
    struct flagshm_json_places places;
    struct flagshm_diags diags = {0};
    cJSON *request = NULL;

    if (flagshm_json_scan(line, bytes, &control->scratch, &places, &diags))
        request = cJSON_ParseWithLength(line, bytes);
    else if (diags.count > 0)
        (void)snprintf(why, room, "the request is not sound JSON, at byte %zu: %s", diags.items[0].offset + 1,
                       diags.items[0].message != NULL ? diags.items[0].message : "out of memory");
    else
        (void)snprintf(why, room, "out of memory");
    flagshm_diags_free(&diags);
    flagshm_arena_reset(&control->scratch);
    if (request != NULL && cJSON_IsObject(request) &&
        cJSON_IsString(cJSON_GetObjectItemCaseSensitive(request, "verb")))
        return request;
    if (request != NULL)
        (void)snprintf(why, room, "a request is an object with a verb, as {\"verb\":\"ping\"}");
    else if (why[0] == '\0')
        (void)snprintf(why, room, "the request cannot be read");
    cJSON_Delete(request);
    return NULL;
}

static void do_request(struct flagshm_control *control, struct connection *c, size_t line_bytes)
{
    struct flagshm_peer peer;
    char why[512] = "";
    cJSON *request = parse_request(control, c->in, line_bytes, why, sizeof why), *answer;

    c->in_bytes -= line_bytes + 1;
    memmove(c->in, c->in + line_bytes + 1, c->in_bytes);
    c->is_waiting = true;
    c->peer.ticket = ++control->ticket;
    c->peer.has_gone = control_has_hung_up(c->fd);
    peer = c->peer;
    answer = request != NULL ? control->handler(control->context, &peer, request) : refusal("usage", why);
    cJSON_Delete(request);
    if (answer != NULL)
        flagshm_control_reply(control, peer.ticket, answer);
}

static bool make_room(struct connection *c)
{
    size_t capacity = c->in_capacity > 0 ? c->in_capacity * 4 : 1024;
    char *larger;

    if (c->in_bytes < c->in_capacity)
        return true;
    larger = realloc(c->in, capacity);
    if (larger == NULL)
        return false;
    c->in = larger;
    c->in_capacity = capacity;
    return true;
}

static void read_some(struct flagshm_control *control, struct connection *c)
{
    ssize_t got;

    if (!make_room(c)) {
        drop(control, c);
        return;
    }
    got = recv(c->fd, c->in + c->in_bytes, c->in_capacity - c->in_bytes, MSG_DONTWAIT);
    if (got > 0)
        c->in_bytes += (size_t)got;
    else if (got == 0)
        c->is_ended = true;
    else if (errno != EAGAIN && errno != EINTR)
        drop(control, c);
}

/* One step of one connection: a piece of an answer, or a read and a request. */
static void step(struct flagshm_control *control, struct connection *c, uint32_t events)
{
    char *end;

    if (c->out != NULL) {
        send_some(control, c);
    } else if (c->is_waiting) {
        if (events & (EPOLLHUP | EPOLLERR))
            drop(control, c);
    } else {
        if (line_end(c) == NULL && !c->is_ended)
            read_some(control, c);
        end = c->fd >= 0 ? line_end(c) : NULL;
        if (end != NULL) {
            do_request(control, c, (size_t)(end - c->in));
        } else if (c->in_bytes >= CONTROL_REQUEST_MAX) {
            c->is_closing = true;
            answer_connection(control, c,
                              refusal("usage", "a request has at most 65536 bytes with its line's end"));
        } else if (c->is_ended) {
            drop(control, c); /* half a line is no request */
        }
    }
    if (c->fd >= 0)
        set_interest(control, c);
}

/* ---- who comes ---- */

static struct connection *free_place(struct flagshm_control *control, const struct flagshm_peer *peer)
{
    struct connection *place = NULL;
    size_t same_user = 0, i;

    for (i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &control->connections[i];

        if (c->fd < 0)
            place = c;
        else
            same_user += c->peer.uid == peer->uid;
    }
    return peer->may_change || same_user < CONNECTIONS_OF_USER ? place : NULL;
}

static void welcome(struct flagshm_control *control, int fd)
{
    static const char full[] = "{\"ok\":false,\"code\":\"failed\",\"message\":\"the server has too many "
                               "connections: ask again\"}\n";
    struct epoll_event event = {.events = EPOLLIN};
    struct flagshm_peer peer;
    struct connection *c;

    if (control_peer(fd, control->admin_group, &peer) != 0) {
        close(fd);
        return;
    }
    c = free_place(control, &peer);
    if (c == NULL) {
        (void)send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
        return;
    }
    *c = (struct connection){
        .fd = fd, .peer = peer, .interest = EPOLLIN, .deadline_ns = control->now_ns + PATIENCE_NS};
    event.data.u32 = (uint32_t)(c - control->connections);
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        drop(control, c);
}

/* Where descriptors have run out the socket would stay readable and the loop would spin: it is looked at again with
 * the next tick. */
static void accept_on(struct flagshm_control *control, bool is_accepting)
{
    struct epoll_event event = {.events = is_accepting ? EPOLLIN : 0, .data.u32 = LISTENER};

    if (control->is_accepting != is_accepting &&
        epoll_ctl(control->epoll_fd, EPOLL_CTL_MOD, control->listen_fd, &event) == 0)
        control->is_accepting = is_accepting;
}

static void accept_some(struct flagshm_control *control)
{
    int round, fd;

    for (round = 0; round < CONNECTIONS_MAX; round++) {
        fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            welcome(control, fd);
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR && errno != ECONNABORTED)
            break;
    }
    if (round < CONNECTIONS_MAX)
        accept_on(control, false);
}

/* ---- the whole ---- */

int flagshm_control_open(struct flagshm_control **out, const char *path, gid_t admin_group,
                         flagshm_control_handler *handler, void *context, struct flagshm_error *error)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = LISTENER};
    struct flagshm_control *control = calloc(1, sizeof *control);
    int result;
    size_t i;

    *out = NULL;
    if (control == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory for the control socket");
    for (i = 0; i < CONNECTIONS_MAX; i++)
        control->connections[i].fd = -1;
    control->admin_group = admin_group;
    control->handler = handler;
    control->context = context;
    control->now_ns = flagshm_mono_ns();
    control->is_accepting = true;
    control->epoll_fd = -1;
    control->listen_fd = control_listen(path, admin_group, &control->file, error);
    result = control->listen_fd < 0 ? control->listen_fd : 0;
    if (result == 0) {
        (void)snprintf(control->path, sizeof control->path, "%s", path);
        control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (control->epoll_fd < 0 ||
            epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, control->listen_fd, &event) != 0)
            result = flagshm_error_set(error, -errno, "cannot watch the control socket: %s", strerror(errno));
    }
    if (result != 0) {
        flagshm_control_close(control);
        return result;
    }
    *out = control;
    return 0;
}

void flagshm_control_close(struct flagshm_control *control)
{
    struct stat now;
    size_t i;

    if (control == NULL)
        return;
    for (i = 0; i < CONNECTIONS_MAX; i++)
        drop(control, &control->connections[i]);
    if (control->path[0] != '\0' && lstat(control->path, &now) == 0 && now.st_dev == control->file.st_dev &&
        now.st_ino == control->file.st_ino)
        (void)unlink(control->path); /* ours still, not that of a server that came after */
    if (control->listen_fd >= 0)
        close(control->listen_fd);
    if (control->epoll_fd >= 0)
        close(control->epoll_fd);
    flagshm_arena_free(&control->scratch);
    free(control);
}

int flagshm_control_mend(struct flagshm_control *control, struct flagshm_error *error)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = LISTENER};
    struct stat file;
    int fd, code;

    if (lstat(control->path, &file) == 0 && file.st_dev == control->file.st_dev &&
        file.st_ino == control->file.st_ino)
        return 0;
    fd = control_listen(control->path, control->admin_group, &file, error);
    if (fd < 0)
        return fd;
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        code = flagshm_error_set(error, -errno, "cannot watch the control socket: %s", strerror(errno));
        (void)unlink(control->path);
        close(fd);
        return code;
    }
    close(control->listen_fd); /* who waits there unaccepted is told, and asks again */
    control->listen_fd = fd;
    control->file = file;
    control->is_accepting = true;
    return 1;
}

int flagshm_control_fd(const struct flagshm_control *control)
{
    return control->epoll_fd;
}

void flagshm_control_work(struct flagshm_control *control)
{
    struct epoll_event events[CONNECTIONS_MAX + 1];
    int count = epoll_wait(control->epoll_fd, events, CONNECTIONS_MAX + 1, 0), i;
    bool is_somebody_new = false;

    for (i = 0; i < count; i++) {
        if (events[i].data.u32 == LISTENER)
            is_somebody_new =
                true; /* last: a place freed in this round must not be mistaken for its next holder */
        else if (control->connections[events[i].data.u32].fd >= 0)
            step(control, &control->connections[events[i].data.u32], events[i].events);
    }
    if (is_somebody_new)
        accept_some(control);
}

void flagshm_control_tick(struct flagshm_control *control, unsigned long long now_ns)
{
    uint64_t gap_ns = now_ns > control->now_ns ? now_ns - control->now_ns : 0;
    size_t i;

    control->now_ns = now_ns;
    accept_on(control, true);
    for (i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &control->connections[i];

        if (gap_ns > PATIENCE_NS / 2)
            c->deadline_ns += gap_ns; /* it was the server that stood still, not its clients */
        if (c->fd >= 0 && !c->is_waiting && now_ns >= c->deadline_ns)
            drop(control, c);
    }
}
