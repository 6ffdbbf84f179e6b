#include "client/flagshm.h"
#include "server/instance.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void clear_environment(void)
{
    (void)unsetenv("FLAGSHM_INSTANCE");
    (void)unsetenv("FLAGSHM_DIR");
    (void)unsetenv("XDG_STATE_HOME");
    (void)unsetenv("XDG_RUNTIME_DIR");
    (void)setenv("HOME", "/home/ada", 1);
}

TestSuite(instance, .init = clear_environment);

/* What resolve gives as another user. A child, since there is no way back from being one. 0, or the error. */
static int resolve_as(uid_t uid, struct flagshm_instance *instance, struct flagshm_error *error)
{
    struct answer {
        int result;
        struct flagshm_instance instance;
        struct flagshm_error error;
    } answer = {.result = -EIO};
    int pipes[2], status;
    pid_t child;

    cr_assert_eq(pipe(pipes), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        if (geteuid() == uid || seteuid(uid) == 0)
            answer.result = flagshm_instance_resolve(&answer.instance, NULL, NULL, NULL, NULL, &answer.error);
        _exit(write(pipes[1], &answer, sizeof answer) == (ssize_t)sizeof answer ? 0 : 1);
    }
    (void)close(pipes[1]);
    cr_assert_eq(read(pipes[0], &answer, sizeof answer), (ssize_t)sizeof answer);
    (void)close(pipes[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    *instance = answer.instance;
    *error = answer.error;
    return answer.result;
}

static void need_root(void)
{
    if (geteuid() != 0)
        cr_skip_test("only root can become another user");
}

Test(instance, defaults_of_root_and_system_users)
{
    static const uid_t system_users[] = {0, 33, 999};
    struct flagshm_instance instance;
    struct flagshm_error error;
    size_t i;

    need_root();
    (void)setenv("XDG_STATE_HOME", "/home/ada/state", 1);
    (void)setenv("XDG_RUNTIME_DIR", "/run/user/0", 1);
    for (i = 0; i < sizeof system_users / sizeof system_users[0]; i++) {
        cr_assert_eq(resolve_as(system_users[i], &instance, &error), 0, "%s", error.text);
        cr_assert_str_eq(instance.name, "default");
        cr_assert_str_eq(instance.dir, "");
        cr_assert_str_eq(instance.table_path, "/dev/shm/flagshm.default.table");
        cr_assert_str_eq(instance.state_dir, "/var/lib/flagshm/default");
        cr_assert_str_eq(instance.socket_path, "/run/flagshm/default.sock");
    }
}

Test(instance, defaults_of_a_person_are_the_xdg_directories)
{
    struct flagshm_instance instance;
    struct flagshm_error error;

    need_root();
    (void)setenv("XDG_STATE_HOME", "/home/ada/state", 1);
    (void)setenv("XDG_RUNTIME_DIR", "/run/user/1234", 1);
    (void)setenv("FLAGSHM_INSTANCE", "blue", 1);
    cr_assert_eq(resolve_as(1234, &instance, &error), 0, "%s", error.text);
    cr_assert_str_eq(instance.state_dir, "/home/ada/state/flagshm/blue");
    cr_assert_str_eq(instance.socket_path, "/run/user/1234/flagshm/blue.sock");
    cr_assert_str_eq(instance.table_path, "/dev/shm/flagshm.blue.table");
}

Test(instance, a_person_without_xdg_has_the_home_directory)
{
    struct flagshm_instance instance;
    struct flagshm_error error;

    need_root();
    (void)setenv("XDG_STATE_HOME", "relative/is/ignored", 1);
    (void)setenv("XDG_RUNTIME_DIR", "relative", 1);
    cr_assert_eq(resolve_as(54321, &instance, &error), 0, "%s", error.text);
    cr_assert_str_eq(instance.state_dir, "/home/ada/.local/state/flagshm/default");
    cr_assert_str_eq(instance.socket_path, "/home/ada/.local/state/flagshm/default/flagshmd.sock");
}

Test(instance, a_person_without_any_home_is_told_what_to_set)
{
    struct flagshm_instance instance;
    struct flagshm_error error;

    need_root();
    (void)unsetenv("HOME");
    cr_assert_eq(resolve_as(54321, &instance, &error), -ENOENT);
    cr_assert_str_eq(error.text,
                     "no state directory can be told for uid 54321: neither XDG_STATE_HOME nor HOME is an "
                     "absolute path: set one, or give --state-dir");
}

Test(instance, arguments_come_before_the_environment)
{
    struct flagshm_instance instance;
    struct flagshm_error error;

    (void)setenv("FLAGSHM_INSTANCE", "env", 1);
    (void)setenv("FLAGSHM_DIR", "/run/env", 1);
    cr_assert_eq(flagshm_instance_resolve(&instance, NULL, NULL, "/s", "/k", &error), 0);
    cr_assert_str_eq(instance.name, "env");
    cr_assert_str_eq(instance.dir, "/run/env");
    cr_assert_str_eq(instance.table_path, "/run/env/flagshm.env.table");
    cr_assert_str_eq(instance.state_dir, "/s");
    cr_assert_str_eq(instance.socket_path, "/k");

    cr_assert_eq(flagshm_instance_resolve(&instance, "arg", "/run/arg//", "/s", "/k", &error), 0);
    cr_assert_str_eq(instance.name, "arg");
    cr_assert_str_eq(instance.dir, "/run/arg");
    cr_assert_str_eq(instance.table_path, "/run/arg/flagshm.arg.table");

    cr_assert_eq(flagshm_instance_resolve(&instance, "", "", "/s", "/k", &error), 0);
    cr_assert_str_eq(instance.name, "default");
    cr_assert_str_eq(instance.table_path, "/dev/shm/flagshm.default.table");
}

Test(instance, an_empty_variable_is_as_none)
{
    struct flagshm_instance instance;
    struct flagshm_error error;

    (void)setenv("FLAGSHM_INSTANCE", "", 1);
    (void)setenv("FLAGSHM_DIR", "", 1);
    cr_assert_eq(flagshm_instance_resolve(&instance, NULL, NULL, "/s", "/k", &error), 0);
    cr_assert_str_eq(instance.table_path, "/dev/shm/flagshm.default.table");
}

Test(instance, relative_paths_come_out_absolute)
{
    struct flagshm_instance instance;
    struct flagshm_error error;

    cr_assert_eq(chdir("/tmp"), 0);
    cr_assert_eq(flagshm_instance_resolve(&instance, "a", "run", "state/", "s.sock", &error), 0);
    cr_assert_str_eq(instance.dir, "/tmp/run");
    cr_assert_str_eq(instance.state_dir, "/tmp/state");
    cr_assert_str_eq(instance.socket_path, "/tmp/s.sock");
    cr_assert_eq(chdir("/"), 0);
    cr_assert_eq(flagshm_instance_resolve(&instance, "a", "run", "state", "s.sock", &error), 0);
    cr_assert_str_eq(instance.dir, "/run");
    cr_assert_str_eq(instance.state_dir, "/state");
}

Test(instance, a_bad_name_is_quoted_with_its_mend)
{
    static const char *const bad[] = {
        "a/b", "-a", "_a", "..", "a b", "a.b", "a:b", "\xc3\xa9", "a23456789012345678901234567890123"};
    struct flagshm_instance instance;
    struct flagshm_error error;
    char expected[256];
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(flagshm_instance_resolve(&instance, bad[i], NULL, "/s", "/k", &error), -EINVAL, "%s",
                     bad[i]);
        (void)snprintf(
            expected, sizeof expected,
            "the instance's name \"%s\" is not valid: give 1 to 32 of A-Z a-z 0-9 _ -, the first a letter or "
            "a digit",
            bad[i]);
        cr_assert_str_eq(error.text, expected);
        (void)setenv("FLAGSHM_INSTANCE", bad[i], 1);
        cr_assert_eq(flagshm_instance_resolve(&instance, NULL, NULL, "/s", "/k", NULL), -EINVAL);
        cr_assert_eq(flagshm_instance_resolve(&instance, NULL, NULL, "/s", "/k", &error), -EINVAL);
        cr_assert_eq(strncmp(error.text, "FLAGSHM_INSTANCE \"", 18), 0, "%s", error.text);
    }
    cr_assert_eq(flagshm_instance_resolve(&instance, "a\x1b[31m\n", NULL, "/s", "/k", &error), -EINVAL);
    cr_assert(strstr(error.text, "\"a?[31m?\""), "what a terminal obeys is not passed on: %s", error.text);
    cr_assert_eq(
        flagshm_instance_resolve(&instance, "a2345678901234567890123456789012", NULL, "/s", "/k", &error), 0);
}

/* The longest value that is taken, and one byte more. */
static void check_limit(int which, size_t limit, const char *mend)
{
    struct flagshm_instance instance;
    struct flagshm_error error;
    char path[2048];
    size_t extra;

    for (extra = 0; extra <= 1; extra++) {
        int result;

        memset(path, 'a', sizeof path);
        path[0] = '/';
        path[limit + extra] = '\0';
        result = flagshm_instance_resolve(&instance, NULL, which == 0 ? path : NULL, which == 1 ? path : "/s",
                                          which == 2 ? path : "/k", &error);
        cr_assert_eq(result, extra ? -ENAMETOOLONG : 0, "%d: %s", which, error.text);
        if (extra)
            cr_assert(strstr(error.text, mend) && strstr(error.text, "\"/aaaa"), "%s", error.text);
    }
}

Test(instance, a_path_that_does_not_fit_is_refused_not_cut)
{
    check_limit(0, 200, "at most 200 are possible: give a shorter --dir");
    check_limit(1, 1023, "at most 1023 are possible: give a shorter --state-dir");
    check_limit(2, 107,
                "at most 107 are possible: a socket's address takes no more: give a shorter --socket");
}

/* The server must look where the clients look. */
Test(instance, the_clients_take_the_same_path)
{
    struct flagshm_instance instance;
    struct flagshm_error error;
    struct flagshm client;
    char dir[256];

    memset(dir, 'a', sizeof dir);
    dir[0] = '/';
    dir[200] = '\0';
    (void)setenv("FLAGSHM_DIR", dir, 1);
    (void)setenv("FLAGSHM_INSTANCE", "a2345678901234567890123456789012", 1);
    cr_assert_eq(flagshm_instance_resolve(&instance, NULL, NULL, "/s", "/k", &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_open(&client, NULL), -ENOENT);
    cr_assert_str_eq(client.path_, instance.table_path);
    flagshm_close(&client);
}
