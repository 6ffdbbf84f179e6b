/* test_control_ask: the asking side, see server/control_ask.c */
#include "tests/control_fixture.h"

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

Test(control_ask, asking_gives_the_answer_also_a_long_one)
{
    struct world w;

    world_start(&w, (gid_t)-1);
    cr_assert_eq(serve_child(&w, asks_and_is_answered), 0);
    cr_assert_eq(serve_child(&w, asks_for_much), 0);
    cr_assert_eq(serve_child(&w, asks_for_too_much), 0);
    cr_assert_eq(serve_child(&w, asks_in_vain), 0);
    world_end(&w);
}

Test(control_ask, no_server_is_told_from_a_mute_one_and_from_a_stranger)
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

Test(control_ask, an_answer_that_is_none_is_an_error)
{
    struct flagshm_error error = {""};

    cr_assert_eq(ask_a_stranger("", &error), -ECONNRESET);
    cr_assert_eq(ask_a_stranger("{\"ok\":true", &error), -ECONNRESET);
    cr_assert_eq(ask_a_stranger("SSH-2.0\n", &error), -EBADMSG);
    cr_assert_eq(ask_a_stranger("{}\n", &error), -EBADMSG);
    cr_assert_not_null(strstr(error.text, "does not answer as flagshmd"), "%s", error.text);
}
