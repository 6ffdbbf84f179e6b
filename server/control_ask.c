/* control_ask: the asking side of the control socket, for tools: one connection, one request, one answer, one limit of time. */
#include "server/control.h"
#include "server/control_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct asking {
    const char *path;
    int fd, timeout_ms;
    int64_t deadline_ms;
    char *in;
    size_t in_bytes, in_capacity;
    struct flagshm_error *error;
};

static int64_t mono_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int say_mute(const struct asking *a)
{
    return flagshm_error_set(a->error, -ETIMEDOUT,
                             "the server on %s did not answer within %d ms: it may be stopped or overloaded",
                             a->path, a->timeout_ms);
}

/* ---- connecting ---- */

static int say_denied(const struct asking *a)
{
    char buffer[4096];
    struct group entry, *found = NULL;
    struct stat file;

    if (stat(a->path, &file) != 0)
        return flagshm_error_set(
            a->error, -EACCES,
            "you may not use the control socket %s: its directory is closed to you; ask as root", a->path);
    if (getgrgid_r(file.st_gid, &entry, buffer, sizeof buffer, &found) == 0 && found != NULL)
        return flagshm_error_set(a->error, -EACCES,
                                 "you may not use the control socket %s: join the group %s, or ask as root",
                                 a->path, found->gr_name);
    return flagshm_error_set(a->error, -EACCES,
                             "you may not use the control socket %s: join the group %lu, or ask as root",
                             a->path, (unsigned long)file.st_gid);
}

static int say_not_connected(const struct asking *a, int reason)
{
    switch (reason) {
    case ENOENT:
        return flagshm_error_set(a->error, -ENOENT, "no server: there is no control socket %s", a->path);
    case ENOTDIR:
        return flagshm_error_set(a->error, -ENOENT, "no server: the path of %s leads through a file",
                                 a->path);
    case ECONNREFUSED:
        return flagshm_error_set(a->error, -ECONNREFUSED, "no server: nobody listens on %s", a->path);
    case EAGAIN:
        return say_mute(a);
    case EACCES:
    case EPERM:
        return say_denied(a);
    default:
        return flagshm_error_set(a->error, -reason, "cannot connect to %s: %s", a->path, strerror(reason));
    }
}

/* A unix socket whose queue is full makes connect wait; the limit for sending holds for that too. */
static int connect_in_time(struct asking *a)
{
    struct timeval limit = {.tv_sec = a->timeout_ms / 1000, .tv_usec = (a->timeout_ms % 1000) * 1000};
    struct sockaddr_un address;
    int result = control_address(a->path, &address, a->error);

    if (result != 0)
        return result;
    a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (a->fd < 0)
        return flagshm_error_set(a->error, -errno, "cannot make a socket: %s", strerror(errno));
    (void)setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (connect(a->fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno != EINTR)
            return say_not_connected(a, errno);
        if (mono_ms() >= a->deadline_ms)
            return say_mute(a);
    }
    return fcntl(a->fd, F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
}

/* ---- sending and receiving ---- */

static int wait_for(const struct asking *a, short events)
{
    struct pollfd entry = {.fd = a->fd, .events = events};
    int64_t left;
    int ready;

    do {
        left = a->deadline_ms - mono_ms();
        if (left <= 0)
            return say_mute(a);
        ready = poll(&entry, 1, (int)left);
    } while (ready == 0 || (ready < 0 && errno == EINTR));
    return ready > 0 ? 0 : flagshm_error_set(a->error, -errno, "poll: %s", strerror(errno));
}

/* A server that closes early may have said why before: the answer is read all the same. */
static int send_all(const struct asking *a, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(a->fd, text, bytes, MSG_NOSIGNAL);
        int result;

        if (sent >= 0) {
            text += sent;
            bytes -= (size_t)sent;
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET)
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return flagshm_error_set(a->error, -errno, "cannot send to %s: %s", a->path, strerror(errno));
        result = wait_for(a, POLLOUT);
        if (result != 0)
            return result;
    }
    return 0;
}

static int make_room(struct asking *a)
{
    size_t capacity = a->in_capacity > 0 ? a->in_capacity * 2 : 16384;
    char *larger;

    if (a->in_bytes < a->in_capacity)
        return 0;
    if (a->in_bytes >= CONTROL_ANSWER_MAX)
        return flagshm_error_set(a->error, -EMSGSIZE, "the answer of the server on %s is longer than 80 MiB",
                                 a->path);
    larger = realloc(a->in, capacity);
    if (larger == NULL)
        return flagshm_error_set(a->error, -ENOMEM, "no memory for the answer of the server on %s", a->path);
    a->in = larger;
    a->in_capacity = capacity;
    return 0;
}

/* Reads up to the end of the line; *bytes is its length without it. */
static int receive_line(struct asking *a, size_t *bytes)
{
    for (;;) {
        int result = make_room(a);
        ssize_t got;
        char *end;

        if (result != 0)
            return result;
        got = recv(a->fd, a->in + a->in_bytes, a->in_capacity - a->in_bytes, 0);
        if (got > 0) {
            end = memchr(a->in + a->in_bytes, '\n', (size_t)got);
            a->in_bytes += (size_t)got;
            if (end == NULL)
                continue;
            *bytes = (size_t)(end - a->in);
            return 0;
        }
        if (got == 0 || errno == ECONNRESET)
            return flagshm_error_set(a->error, -ECONNRESET, "the server on %s closed without an answer",
                                     a->path);
        if (errno != EAGAIN && errno != EINTR)
            return flagshm_error_set(a->error, -errno, "cannot read from %s: %s", a->path, strerror(errno));
        result = wait_for(a, POLLIN);
        if (result != 0)
            return result;
    }
}

static int converse(struct asking *a, char *text, cJSON **answer)
{
    size_t request_bytes = strlen(text), bytes = 0;
    int result;

    text[request_bytes++] = '\n'; /* in the place of the closing NUL */
    if (request_bytes > CONTROL_REQUEST_MAX)
        return flagshm_error_set(a->error, -EMSGSIZE, "a request of %zu bytes: at most %d are taken",
                                 request_bytes, CONTROL_REQUEST_MAX);
    result = connect_in_time(a);
    if (result == 0)
        result = send_all(a, text, request_bytes);
    if (result == 0)
        result = receive_line(a, &bytes);
    if (result != 0)
        return result;
    *answer = cJSON_ParseWithLength(a->in, bytes);
    if (cJSON_IsBool(cJSON_GetObjectItemCaseSensitive(*answer, "ok")))
        return 0;
    cJSON_Delete(*answer);
    *answer = NULL;
    return flagshm_error_set(a->error, -EBADMSG, "what listens on %s does not answer as flagshmd does",
                             a->path);
}

int flagshm_control_ask(const char *path, const cJSON *request, int timeout_ms, cJSON **answer,
                        struct flagshm_error *error)
{
    struct asking a = {.path = path, .fd = -1, .timeout_ms = timeout_ms > 0 ? timeout_ms : 1, .error = error};
    char *text = cJSON_PrintUnformatted(request);
    int result;

    *answer = NULL;
    if (text == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory for the request");
    a.deadline_ms = mono_ms() + a.timeout_ms;
    result = converse(&a, text, answer);
    if (a.fd >= 0)
        close(a.fd);
    free(a.in);
    cJSON_free(text);
    return result;
}
