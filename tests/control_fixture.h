/* control_fixture: a control socket that the test drives by hand, in this one thread; what must block runs in a child. */
#ifndef FLAGSHM_TESTS_CONTROL_FIXTURE_H
#define FLAGSHM_TESTS_CONTROL_FIXTURE_H

#include "server/control.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

struct world {
    char dir[64], path[100];
    struct flagshm_control *control;
    uint64_t now_ns;
    unsigned requests;
    uint64_t late_ticket;
    struct flagshm_peer last_peer;
};

static inline cJSON *handle(void *context, const struct flagshm_peer *peer, const cJSON *request)
{
    struct world *w = context;
    const char *verb = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "verb"));
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(request, "bytes");
    cJSON *answer;
    char *text;

    w->requests++;
    w->last_peer = *peer;
    if (strcmp(verb, "late") == 0) {
        w->late_ticket = peer->ticket;
        return NULL;
    }
    answer = cJSON_CreateObject();
    cJSON_AddBoolToObject(answer, "ok", strcmp(verb, "change") != 0 || peer->may_change);
    cJSON_AddStringToObject(answer, "user", peer->user);
    cJSON_AddNumberToObject(answer, "number", w->requests);
    if (cJSON_IsNumber(bytes)) {
        text = malloc((size_t)bytes->valuedouble + 1);
        memset(text, 'x', (size_t)bytes->valuedouble);
        text[(size_t)bytes->valuedouble] = '\0';
        cJSON_AddItemToObject(answer, "text", cJSON_CreateString(text));
        free(text);
    }
    if (strcmp(verb, "at_once") == 0) {
        flagshm_control_reply(w->control, peer->ticket, answer);
        return NULL;
    }
    return answer;
}

static inline int world_open(struct world *w, gid_t group, struct flagshm_error *error)
{
    return flagshm_control_open(&w->control, w->path, group, handle, w, error);
}

static inline void world_make(struct world *w)
{
    struct timespec now;

    memset(w, 0, sizeof *w);
    /* not in TMPDIR: the path of a socket has 107 bytes at most */
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/flagshm-control-XXXXXX");
    cr_assert_not_null(mkdtemp(w->dir));
    chmod(w->dir, 0755);
    (void)snprintf(w->path, sizeof w->path, "%s/control.sock", w->dir);
    clock_gettime(CLOCK_MONOTONIC, &now);
    w->now_ns = (uint64_t)now.tv_sec * SECOND + SECOND;
}

static inline void world_start(struct world *w, gid_t group)
{
    struct flagshm_error error = {""};

    world_make(w);
    cr_assert_eq(world_open(w, group, &error), 0, "%s", error.text);
    flagshm_control_tick(w->control, w->now_ns);
}

static inline void world_end(struct world *w)
{
    flagshm_control_close(w->control);
    cr_assert_neq(access(w->path, F_OK), 0, "the socket file is left");
    cr_assert_eq(rmdir(w->dir), 0);
}

/* Works until nothing is to be done. */
static inline void pump(struct world *w)
{
    struct pollfd entry = {.fd = flagshm_control_fd(w->control), .events = POLLIN};
    int round;

    for (round = 0; round < 100000 && poll(&entry, 1, 0) > 0; round++)
        flagshm_control_work(w->control);
    cr_assert_lt(round, 100000, "the control socket spins");
}

static inline void pass_seconds(struct world *w, int seconds)
{
    while (seconds-- > 0) {
        w->now_ns += SECOND;
        flagshm_control_tick(w->control, w->now_ns);
    }
}

static inline int dial(const struct world *w)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", w->path);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0, "%s", strerror(errno));
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static inline void say(int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What has come so far; "" : nothing; NULL: the server has closed. */
static inline const char *hear(int fd)
{
    static char text[1 << 16];
    ssize_t got = recv(fd, text, sizeof text - 1, 0);

    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return NULL;
    cr_assert(got > 0 || errno == EAGAIN);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static inline size_t lines_in(const char *text)
{
    size_t lines = 0;

    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

static inline cJSON *request_of(const char *text)
{
    cJSON *request = cJSON_Parse(text);

    cr_assert_not_null(request);
    return request;
}

/* Runs `client` in a child while this process serves; returns its exit code. */
static inline int serve_child(struct world *w, int (*client)(const struct world *w))
{
    struct pollfd entry = {.fd = flagshm_control_fd(w->control), .events = POLLIN};
    pid_t child = fork();
    int status = -1;

    if (child == 0)
        _exit(client(w));
    while (waitpid(child, &status, WNOHANG) == 0)
        if (poll(&entry, 1, 5) > 0)
            flagshm_control_work(w->control);
    cr_assert(WIFEXITED(status), "the client died of signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* ---- clients for serve_child ---- */

static inline int ask(const struct world *w, const char *text, int timeout_ms, cJSON **answer,
                      struct flagshm_error *error)
{
    cJSON *request = cJSON_Parse(text);
    int result = flagshm_control_ask(w->path, request, timeout_ms, answer, error);

    cJSON_Delete(request);
    return result;
}

static inline int asks_and_is_answered(const struct world *w)
{
    struct flagshm_error error = {""};
    cJSON *answer;
    int result = ask(w, "{\"verb\":\"change\"}", 5000, &answer, &error);

    if (result != 0)
        return 1;
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok")) ? 0 : 2;
}

#endif
