/* test_control: the connections of the control socket, see server/control.c */
#include "tests/control_fixture.h"

#include <signal.h>
#include <sys/resource.h>

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

Test(control, a_request_says_whether_its_sender_has_hung_up)
{
    struct world w;
    int fd;

    world_start(&w, (gid_t)-1);
    fd = dial(&w);
    say(fd, "{\"verb\":\"change\"}\n");
    close(fd);
    pump(&w);
    cr_assert_eq(w.requests, 1);
    cr_assert(w.last_peer.has_gone);
    fd = dial(&w);
    say(fd, "{\"verb\":\"change\"}\n");
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    pump(&w);
    cr_assert_eq(w.requests, 2);
    cr_assert_not(w.last_peer.has_gone, "who has said all may still listen");
    cr_assert_not_null(strstr(hear(fd), "\"ok\":true"));
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
