#include "server/control.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

/* The server is driven by hand, in this one thread; what must block runs in a child. */
struct world {
    char dir[64], path[100];
    struct flagshm_control *control;
    uint64_t now_ns;
    unsigned requests;
    uint64_t late_ticket;
    struct flagshm_peer last_peer;
};

static cJSON *handle(void *context, const struct flagshm_peer *peer, const cJSON *request)
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

static int world_open(struct world *w, gid_t group, struct flagshm_error *error)
{
    return flagshm_control_open(&w->control, w->path, group, handle, w, error);
}

static void world_make(struct world *w)
{
    struct timespec now;

    memset(w, 0, sizeof *w);
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/flagshm-control-XXXXXX");
    cr_assert_not_null(mkdtemp(w->dir));
    chmod(w->dir, 0755);
    (void)snprintf(w->path, sizeof w->path, "%s/control.sock", w->dir);
    clock_gettime(CLOCK_MONOTONIC, &now);
    w->now_ns = (uint64_t)now.tv_sec * SECOND + SECOND;
}

static void world_start(struct world *w, gid_t group)
{
    struct flagshm_error error = {""};

    world_make(w);
    cr_assert_eq(world_open(w, group, &error), 0, "%s", error.text);
    flagshm_control_tick(w->control, w->now_ns);
}

static void world_end(struct world *w)
{
    flagshm_control_close(w->control);
    cr_assert_neq(access(w->path, F_OK), 0, "the socket file is left");
    cr_assert_eq(rmdir(w->dir), 0);
}

/* Works until nothing is to be done. */
static void pump(struct world *w)
{
    struct pollfd entry = {.fd = flagshm_control_fd(w->control), .events = POLLIN};
    int round;

    for (round = 0; round < 100000 && poll(&entry, 1, 0) > 0; round++)
        flagshm_control_work(w->control);
    cr_assert_lt(round, 100000, "the control socket spins");
}

static void pass_seconds(struct world *w, int seconds)
{
    while (seconds-- > 0) {
        w->now_ns += SECOND;
        flagshm_control_tick(w->control, w->now_ns);
    }
}

static int dial(const struct world *w)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", w->path);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0, "%s", strerror(errno));
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What has come so far; "" : nothing; NULL: the server has closed. */
static const char *hear(int fd)
{
    static char text[1 << 16];
    ssize_t got = recv(fd, text, sizeof text - 1, 0);

    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return NULL;
    cr_assert(got > 0 || errno == EAGAIN);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static size_t lines_in(const char *text)
{
    size_t lines = 0;

    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

static cJSON *request_of(const char *text)
{
    cJSON *request = cJSON_Parse(text);

    cr_assert_not_null(request);
    return request;
}

/* Runs `client` in a child while this process serves; returns its exit code. */
static int serve_child(struct world *w, int (*client)(const struct world *w))
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

/* ---- framing ---- */

Test(control, a_line_is_answered_with_a_line)
{
    struct world w;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    say(fd, "{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_not_null(strstr(hear(fd), "{\"ok\":true,\"user\":"));
    cr_assert_eq(w.last_peer.uid, geteuid());
    cr_assert_eq(w.last_peer.pid, getpid());
    cr_assert(w.last_peer.may_change);
    if (geteuid() == 0)
        cr_assert_str_eq(w.last_peer.user, "root");
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, several_requests_of_one_connection_are_answered_in_order)
{
    struct world w;
    char heard[16384] = "", expected[32];
    const char *at = heard;
    int fd, i;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    for (i = 0; i < 100; i++)
        say(fd, "{\"verb\":\"ping\"}\n");
    for (i = 0; i < 10; i++) { /* it answers no further than it is listened to */
        pump(&w);
        strcat(heard, hear(fd));
    }
    cr_assert_eq(lines_in(heard), 100);
    for (i = 1; i <= 100; i++) {
        (void)snprintf(expected, sizeof expected, "\"number\":%d}", i);
        at = strstr(at, expected);
        cr_assert_not_null(at, "%d", i);
    }
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, a_client_that_sends_much_does_not_hold_another)
{
    struct world w;
    int greedy, modest, i;

    world_start(&w, (gid_t)-1);
    greedy = dial(&w);
    modest = dial(&w);
    pump(&w);
    for (i = 0; i < 200; i++)
        say(greedy, "{\"verb\":\"ping\"}\n");
    say(modest, "{\"verb\":\"ping\"}\n");
    flagshm_control_work(w.control);
    cr_assert_eq(lines_in(hear(modest)), 1);
    cr_assert_leq(w.requests, 2);
    close(greedy);
    close(modest);
    pump(&w);
    world_end(&w);
}

Test(control, a_request_in_pieces_is_one_request)
{
    struct world w;
    static const char request[] = "{\"verb\":\"ping\"}\n";
    size_t i;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    for (i = 0; request[i] != '\0'; i++) {
        cr_assert_eq(send(fd, request + i, 1, MSG_NOSIGNAL), 1);
        pump(&w);
        cr_assert_eq(w.requests, request[i] == '\n');
    }
    cr_assert_eq(lines_in(hear(fd)), 1);
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, a_client_that_has_said_all_still_gets_its_answers)
{
    struct world w;
    const char *heard;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    say(fd, "{\"verb\":\"ping\"}\n{\"verb\":\"ping\"}\n{\"verb\":\"kill\"}");
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    pump(&w);
    heard = hear(fd);
    cr_assert_not_null(heard);
    cr_assert_eq(lines_in(heard), 2);
    cr_assert_eq(w.requests, 2, "a line without its end is no request");
    cr_assert_null(hear(fd));
    close(fd);
    world_end(&w);
}

Test(control, what_is_no_request_is_answered_with_its_fault_and_the_next_one_is_served)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"", "not sound JSON"},
        {"garbage", "not sound JSON"},
        {"{\"verb\":\"ping\"} x", "not sound JSON"},
        {"{\"verb\":\"ping\",\"verb\":\"kill\"}", "not sound JSON"},
        {"{\"verb\":\"ping\\u0000\"}", "not sound JSON"},
        {"{\"verb\":\"\xff\"}", "not sound JSON"},
        {"{\"verb\":\"ping\"", "not sound JSON"},
        {"[]", "is an object with a verb"},
        {"7", "is an object with a verb"},
        {"{}", "is an object with a verb"},
        {"{\"VERB\":\"ping\"}", "is an object with a verb"},
        {"{\"verb\":null}", "is an object with a verb"},
    };
    struct world w;
    const char *heard;
    size_t i;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        say(fd, cases[i].line);
        say(fd, "\n");
        pump(&w);
        heard = hear(fd);
        cr_assert_not_null(heard, "case %zu", i);
        cr_assert_eq(memcmp(heard, "{\"ok\":false,\"code\":\"usage\"", 26), 0, "case %zu: %s", i, heard);
        cr_assert_not_null(strstr(heard, cases[i].says), "case %zu: %s", i, heard);
        cr_assert_eq(lines_in(heard), 1);
    }
    cr_assert_eq(w.requests, 0);
    say(fd, "{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_not_null(strstr(hear(fd), "\"ok\":true"));
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, a_request_of_64_KiB_is_taken_and_a_longer_one_is_refused)
{
    struct world w;
    char *line = malloc(65537);
    const char *heard;
    int fd;

    world_start(&w, (gid_t)-1);
    memset(line, ' ', 65536);
    memcpy(line, "{\"verb\":\"ping\"}", 15);
    line[65535] = '\n';
    line[65536] = '\0';
    fd = dial(&w);
    say(fd, line);
    pump(&w);
    cr_assert_not_null(strstr(hear(fd), "\"ok\":true"));
    line[65535] = ' ';
    say(fd, line);
    pump(&w);
    heard = hear(fd);
    cr_assert_not_null(heard);
    cr_assert_not_null(strstr(heard, "\"code\":\"usage\""));
    cr_assert_not_null(strstr(heard, "65536 bytes"));
    cr_assert_null(hear(fd));
    cr_assert_eq(w.requests, 1);
    close(fd);
    free(line);
    world_end(&w);
}

/* ---- late answers ---- */

Test(control, a_late_answer_reaches_its_client_and_the_next_request_waits_for_it)
{
    struct world w;
    const char *heard;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    say(fd, "{\"verb\":\"late\"}\n{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_eq(w.requests, 1);
    cr_assert_str_empty(hear(fd));
    pass_seconds(&w, 60);
    flagshm_control_reply(w.control, w.late_ticket + 1, cJSON_CreateObject());
    cr_assert_str_empty(hear(fd), "another ticket's answer");
    flagshm_control_reply(w.control, w.late_ticket, cJSON_Parse("{\"ok\":true,\"late\":1}"));
    pump(&w);
    cr_assert_eq(w.requests, 2);
    heard = hear(fd);
    cr_assert_eq(lines_in(heard), 2);
    cr_assert_eq(memcmp(heard, "{\"ok\":true,\"late\":1}\n", 21), 0);
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, a_handler_may_answer_by_reply_at_once)
{
    struct world w;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    say(fd, "{\"verb\":\"at_once\"}\n{\"verb\":\"at_once\"}\n");
    pump(&w);
    cr_assert_eq(lines_in(hear(fd)), 2);
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, a_late_answer_for_a_client_that_has_gone_is_dropped)
{
    struct world w;
    uint64_t ticket;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    say(fd, "{\"verb\":\"late\"}\n");
    pump(&w);
    close(fd);
    pump(&w);
    ticket = w.late_ticket;
    fd = dial(&w); /* takes the same place */
    say(fd, "{\"verb\":\"late\"}\n");
    pump(&w);
    flagshm_control_reply(w.control, ticket, cJSON_Parse("{\"ok\":true}"));
    pump(&w);
    cr_assert_str_empty(hear(fd));
    close(fd);
    pump(&w);
    world_end(&w);
}

/* ---- hostile clients ---- */

Test(control, the_silent_and_the_slow_are_dropped_after_10_s_and_the_busy_are_not)
{
    struct world w;
    int silent, dripping, busy, i;

    world_start(&w, (gid_t)-1);
    silent = dial(&w);
    dripping = dial(&w);
    busy = dial(&w);
    pump(&w);
    for (i = 0; i < 9; i++) {
        say(dripping, "{");
        say(busy, "{\"verb\":\"ping\"}\n");
        pump(&w);
        pass_seconds(&w, 1);
    }
    cr_assert_str_empty(hear(silent));
    cr_assert_str_empty(hear(dripping));
    pass_seconds(&w, 1);
    cr_assert_null(hear(silent));
    cr_assert_null(hear(dripping));
    cr_assert_eq(lines_in(hear(busy)), 9);
    close(silent);
    close(dripping);
    close(busy);
    pump(&w);
    world_end(&w);
}

Test(control, a_pause_of_the_server_itself_drops_nobody)
{
    struct world w;
    int fd;

    world_start(&w, (gid_t)-1);
    flagshm_control_tick(w.control, w.now_ns);
    fd = dial(&w);
    pump(&w);
    say(fd, "{\"verb\":\"ping\"}\n");
    w.now_ns += 3600 * SECOND;
    flagshm_control_tick(w.control, w.now_ns);
    pump(&w);
    cr_assert_eq(lines_in(hear(fd)), 1);
    pass_seconds(&w, 10);
    cr_assert_null(hear(fd));
    close(fd);
    world_end(&w);
}

Test(control, a_client_that_takes_no_answer_is_dropped)
{
    struct world w;
    int fd, other, i;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    say(fd, "{\"verb\":\"ping\",\"bytes\":8000000}\n");
    pump(&w);
    other = dial(&w);
    say(other, "{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_eq(lines_in(hear(other)), 1);
    pass_seconds(&w, 10);
    for (i = 0; i < 1000 && hear(fd) != NULL; i++)
        continue;
    cr_assert_lt(i, 1000, "it is still there");
    close(fd);
    close(other);
    pump(&w);
    world_end(&w);
}

Test(control, clients_that_vanish_at_any_moment_leave_nothing_behind)
{
    struct world w;
    struct linger at_once = {.l_onoff = 1};
    int fd, i;

    world_start(&w, (gid_t)-1);
    for (i = 0; i < 105; i++) {
        fd = dial(&w);
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        if (i % 5 == 1)
            say(fd, "{\"ver");
        if (i % 5 >= 2)
            say(fd, "{\"verb\":\"ping\",\"bytes\":300000}\n");
        if (i % 5 == 3)
            pump(&w); /* closes with the answer half sent */
        if (i % 5 == 4) {
            pump(&w);
            (void)hear(fd);
        }
        close(fd);
        if (i % 7 == 0)
            pump(&w);
    }
    pump(&w);
    fd = dial(&w);
    say(fd, "{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_eq(lines_in(hear(fd)), 1);
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, a_hundred_connections_are_64_and_a_word_to_the_others)
{
    struct world w;
    int fds[100], i, served = 0, refused = 0;
    const char *heard;

    world_start(&w, (gid_t)-1);
    for (i = 0; i < 100; i++) {
        fds[i] = dial(&w);
        pump(&w);
    }
    for (i = 0; i < 100; i++) {
        heard = hear(fds[i]);
        if (heard != NULL && heard[0] != '\0') {
            cr_assert_not_null(strstr(heard, "too many connections"));
            cr_assert_null(hear(fds[i]));
            refused++;
            continue;
        }
        say(fds[i], "{\"verb\":\"ping\"}\n");
        pump(&w);
        served += lines_in(hear(fds[i])) == 1;
    }
    cr_assert_eq(served, 64);
    cr_assert_eq(refused, 36);
    close(fds[0]);
    pump(&w);
    fds[0] = dial(&w);
    say(fds[0], "{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_eq(lines_in(hear(fds[0])), 1);
    for (i = 0; i < 100; i++)
        close(fds[i]);
    pump(&w);
    world_end(&w);
}

Test(control, random_bytes_never_hurt)
{
    struct world w;
    unsigned seed = 7;
    char noise[512];
    int fd = -1, i, k;

    world_start(&w, (gid_t)-1);
    for (i = 0; i < 2000; i++) {
        if (fd < 0)
            fd = dial(&w);
        for (k = 0; k < (int)sizeof noise; k++)
            noise[k] = "{}[]\",:\n\\verb0ping\xff "[rand_r(&seed) % 19];
        if (send(fd, noise, (size_t)rand_r(&seed) % sizeof noise, MSG_NOSIGNAL) < 0 || hear(fd) == NULL) {
            close(fd);
            fd = -1;
        }
        pump(&w);
    }
    close(fd);
    pump(&w);
    fd = dial(&w);
    say(fd, "{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_not_null(strstr(hear(fd), "\"ok\":true"));
    close(fd);
    pump(&w);
    world_end(&w);
}

Test(control, a_want_of_descriptors_does_not_make_the_loop_spin_and_passes)
{
    struct world w;
    struct rlimit old, none;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)fd + 1, .rlim_max = old.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    pump(&w);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    say(fd, "{\"verb\":\"ping\"}\n");
    pump(&w);
    cr_assert_eq(w.requests, 0);
    pass_seconds(&w, 1);
    pump(&w);
    cr_assert_eq(lines_in(hear(fd)), 1);
    close(fd);
    pump(&w);
    world_end(&w);
}

/* ---- the socket file ---- */

Test(control, the_socket_has_mode_0660_whatever_the_umask_and_its_directory_is_made)
{
    struct world w;
    struct flagshm_error error = {""};
    char sub[80];
    struct stat status;
    mode_t old;

    world_make(&w);
    (void)snprintf(sub, sizeof sub, "%s/run", w.dir);
    (void)snprintf(w.path, sizeof w.path, "%s/control.sock", sub);
    old = umask(0077);
    cr_assert_eq(world_open(&w, (gid_t)-1, &error), 0, "%s", error.text);
    umask(old);
    cr_assert_eq(stat(w.path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0660);
    cr_assert_eq(stat(sub, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0755);
    flagshm_control_close(w.control);
    cr_assert_eq(rmdir(sub), 0);
    cr_assert_eq(rmdir(w.dir), 0);
}

Test(control, a_stale_socket_is_replaced_a_live_one_and_a_file_are_not)
{
    struct world w, second;
    struct flagshm_error error = {""};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int stale = socket(AF_UNIX, SOCK_STREAM, 0), file;

    world_make(&w);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", w.path);
    cr_assert_eq(bind(stale, (struct sockaddr *)&address, sizeof address), 0);
    close(stale);
    cr_assert_eq(world_open(&w, (gid_t)-1, &error), 0, "%s", error.text);
    second = w;
    cr_assert_eq(world_open(&second, (gid_t)-1, &error), -EADDRINUSE);
    cr_assert_not_null(strstr(error.text, "another process listens on"), "%s", error.text);
    cr_assert_null(second.control);
    flagshm_control_close(w.control);

    file = open(w.path, O_CREAT | O_WRONLY, 0600);
    cr_assert_eq(write(file, "precious", 8), 8);
    close(file);
    cr_assert_eq(world_open(&w, (gid_t)-1, &error), -EEXIST);
    cr_assert_not_null(strstr(error.text, "is not a socket"), "%s", error.text);
    cr_assert_eq(unlink(w.path), 0, "the file was replaced");
    cr_assert_eq(symlink("/tmp/nowhere-at-all", w.path), 0);
    cr_assert_eq(world_open(&w, (gid_t)-1, &error), -EEXIST);
    cr_assert_eq(unlink(w.path), 0);
    cr_assert_eq(rmdir(w.dir), 0);
}

Test(control, a_close_leaves_the_socket_of_a_server_that_came_after)
{
    struct world w, second;
    struct flagshm_error error = {""};

    world_start(&w, (gid_t)-1);
    second = w;
    cr_assert_eq(unlink(w.path), 0);
    cr_assert_eq(world_open(&second, (gid_t)-1, &error), 0, "%s", error.text);
    flagshm_control_close(w.control);
    cr_assert_eq(access(w.path, F_OK), 0);
    world_end(&second);
}

Test(control, a_socket_file_that_was_swept_away_is_made_anew)
{
    struct world w, second;
    struct flagshm_error error = {""};
    struct stat status;

    world_start(&w, (gid_t)-1);
    cr_assert_eq(flagshm_control_mend(w.control, &error), 0, "nothing was wrong");
    cr_assert_eq(unlink(w.path), 0);
    cr_assert_eq(rmdir(w.dir), 0);
    cr_assert_eq(flagshm_control_mend(w.control, &error), 1, "%s", error.text);
    cr_assert_eq(stat(w.path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0660);
    cr_assert_eq(flagshm_control_mend(w.control, &error), 0, "%s", error.text);

    cr_assert_eq(unlink(w.path), 0);
    second = w;
    cr_assert_eq(world_open(&second, (gid_t)-1, &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_control_mend(w.control, &error), -EADDRINUSE,
                 "another server's socket is left alone");
    flagshm_control_close(second.control);
    cr_assert_eq(flagshm_control_mend(w.control, &error), 1, "%s", error.text);
    world_end(&w);
}

Test(control, a_path_that_cannot_be_is_said_in_words)
{
    struct world w;
    struct flagshm_error error = {""};
    char file[80], path[300];

    world_make(&w);
    memset(path, 'y', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    cr_assert_eq(flagshm_control_open(&w.control, path, (gid_t)-1, handle, &w, &error), -ENAMETOOLONG);
    cr_assert_not_null(strstr(error.text, "299 bytes, at most 107"), "%s", error.text);
    (void)snprintf(file, sizeof file, "%s/file", w.dir);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    (void)snprintf(w.path, sizeof w.path, "%s/control.sock", file);
    cr_assert_eq(world_open(&w, (gid_t)-1, &error), -ENOTDIR);
    cr_assert_not_null(strstr(error.text, "is not a directory"), "%s", error.text);
    unlink(file);
    cr_assert_eq(rmdir(w.dir), 0);
}

/* ---- the asking side ---- */

static int ask(const struct world *w, const char *text, int timeout_ms, cJSON **answer,
               struct flagshm_error *error)
{
    cJSON *request = cJSON_Parse(text);
    int result = flagshm_control_ask(w->path, request, timeout_ms, answer, error);

    cJSON_Delete(request);
    return result;
}

static int asks_and_is_answered(const struct world *w)
{
    struct flagshm_error error = {""};
    cJSON *answer;
    int result = ask(w, "{\"verb\":\"change\"}", 5000, &answer, &error);

    if (result != 0)
        return 1;
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok")) ? 0 : 2;
}

static int asks_for_much(const struct world *w)
{
    cJSON *answer;
    int result = ask(w, "{\"verb\":\"ping\",\"bytes\":4000000}", 20000, &answer, NULL);

    if (result != 0)
        return 1;
    return strlen(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "text"))) == 4000000 ? 0 : 2;
}

static int asks_for_too_much(const struct world *w)
{
    cJSON *answer;
    int result = ask(w, "{\"verb\":\"ping\",\"bytes\":90000000}", 20000, &answer, NULL);
    const char *message;

    if (result != 0)
        return 1;
    message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "message"));
    return message != NULL && strstr(message, "80 MiB") != NULL ? 0 : 2;
}

static int asks_in_vain(const struct world *w)
{
    struct flagshm_error error = {""};
    cJSON *answer;
    int result = ask(w, "{\"verb\":\"late\"}", 100, &answer, &error);

    return result == -ETIMEDOUT && strstr(error.text, "did not answer within 100 ms") != NULL && !answer ? 0
                                                                                                         : 1;
}

Test(control, asking_gives_the_answer_also_a_long_one)
{
    struct world w;

    world_start(&w, (gid_t)-1);
    cr_assert_eq(serve_child(&w, asks_and_is_answered), 0);
    cr_assert_eq(serve_child(&w, asks_for_much), 0);
    cr_assert_eq(serve_child(&w, asks_for_too_much), 0);
    cr_assert_eq(serve_child(&w, asks_in_vain), 0);
    world_end(&w);
}

Test(control, no_server_is_told_from_a_mute_one_and_from_a_stranger)
{
    struct world w;
    struct flagshm_error error = {""};
    cJSON *answer = NULL, *request = request_of("{\"verb\":\"ping\"}");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), fds[8], i, filler = 0;

    world_make(&w);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", w.path);
    cr_assert_eq(flagshm_control_ask(w.path, request, 100, &answer, &error), -ENOENT);
    cr_assert_not_null(strstr(error.text, "no server"), "%s", error.text);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(flagshm_control_ask(w.path, request, 100, &answer, &error), -ECONNREFUSED);
    cr_assert_not_null(strstr(error.text, "no server"), "%s", error.text);
    cr_assert_eq(listen(listener, 0), 0);
    cr_assert_eq(flagshm_control_ask(w.path, request, 50, &answer, &error), -ETIMEDOUT);
    for (i = 0; i < 8; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        filler += connect(fds[i], (struct sockaddr *)&address, sizeof address) == 0;
    }
    cr_assert_lt(filler, 8, "the queue is full");
    cr_assert_eq(flagshm_control_ask(w.path, request, 50, &answer, &error), -ETIMEDOUT, "%s", error.text);
    cr_assert_null(answer);
    for (i = 0; i < 8; i++)
        close(fds[i]);
    close(listener);
    unlink(w.path);
    rmdir(w.dir);
    cJSON_Delete(request);
}

/* Answers one connection with `text`, then closes. */
static int ask_a_stranger(const char *text, struct flagshm_error *error)
{
    struct world w;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), result, fd;
    cJSON *answer, *request = request_of("{\"verb\":\"ping\"}");
    pid_t child;

    world_make(&w);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", w.path);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(listener, 1), 0);
    child = fork();
    if (child == 0) {
        fd = accept(listener, NULL, NULL);
        _exit(send(fd, text, strlen(text), MSG_NOSIGNAL) < 0);
    }
    close(listener);
    result = flagshm_control_ask(w.path, request, 5000, &answer, error);
    cr_assert_null(answer);
    waitpid(child, NULL, 0);
    unlink(w.path);
    rmdir(w.dir);
    cJSON_Delete(request);
    return result;
}

Test(control, an_answer_that_is_none_is_an_error)
{
    struct flagshm_error error = {""};

    cr_assert_eq(ask_a_stranger("", &error), -ECONNRESET);
    cr_assert_eq(ask_a_stranger("{\"ok\":true", &error), -ECONNRESET);
    cr_assert_eq(ask_a_stranger("SSH-2.0\n", &error), -EBADMSG);
    cr_assert_eq(ask_a_stranger("{}\n", &error), -EBADMSG);
    cr_assert_not_null(strstr(error.text, "does not answer as flagshmd"), "%s", error.text);
}

/* ---- who may ---- */

static void become(uid_t uid, gid_t gid, gid_t extra)
{
    if (setgroups(extra != 0, &extra) != 0 || setgid(gid) != 0 || setuid(uid) != 0)
        _exit(99);
}

static int asks_as_member(const struct world *w)
{
    become(54321, 54321, 54399);
    return asks_and_is_answered(w);
}

static int asks_with_the_group_as_its_own(const struct world *w)
{
    become(54321, 54399, 0);
    return asks_and_is_answered(w);
}

static int asks_as_stranger(const struct world *w)
{
    become(54321, 54321, 54322);
    return asks_and_is_answered(w);
}

static int is_told_the_group(const struct world *w)
{
    struct flagshm_error error = {""};
    cJSON *answer;

    become(54321, 54321, 0);
    return ask(w, "{\"verb\":\"ping\"}", 1000, &answer, &error) == -EACCES &&
                   strstr(error.text, "join the group 54399")
               ? 0
               : 1;
}

static int holds_40_connections(const struct world *w)
{
    int fds[40], i, refused = 0;
    char byte;

    become(54321, 54321, 0);
    for (i = 0; i < 40; i++)
        fds[i] = dial(w);
    usleep(100000);
    for (i = 0; i < 40; i++)
        refused += recv(fds[i], &byte, 1, 0) == 1;
    return refused;
}

Test(control, only_root_the_server_and_the_admin_group_may_change)
{
    struct world w;

    if (geteuid() != 0)
        cr_skip_test("needs root, to ask as other users");
    world_start(&w, 54399);
    cr_assert_eq(serve_child(&w, is_told_the_group), 0);
    cr_assert_eq(serve_child(&w, asks_as_member), 0);
    cr_assert_str_eq(w.last_peer.user, "54321");
    cr_assert_eq(serve_child(&w, asks_with_the_group_as_its_own), 0);
    cr_assert_eq(serve_child(&w, asks_as_stranger), 1, "the file's mode keeps strangers out");
    chmod(w.path, 0666);
    cr_assert_eq(serve_child(&w, asks_as_stranger), 2, "and so does the server where the mode does not");
    cr_assert_not(w.last_peer.may_change);
    cr_assert_eq(serve_child(&w, holds_40_connections), 8);
    world_end(&w);
}

Test(control, a_server_without_an_admin_group_gives_the_word_to_no_group)
{
    struct world w;

    if (geteuid() != 0)
        cr_skip_test("needs root, to ask as other users");
    world_start(&w, (gid_t)-1);
    chmod(w.path, 0666);
    cr_assert_eq(serve_child(&w, asks_as_member), 2);
    world_end(&w);
}
