/* test_control_listen: the socket file, and who may ask for what; see server/control_listen.c */
#include "tests/control_fixture.h"

#include <grp.h>

/* ---- the socket file ---- */

Test(control_listen, the_socket_has_mode_0660_whatever_the_umask_and_its_directory_is_made)
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

Test(control_listen, a_stale_socket_is_replaced_a_live_one_and_a_file_are_not)
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

Test(control_listen, a_close_leaves_the_socket_of_a_server_that_came_after)
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

Test(control_listen, a_socket_file_that_was_swept_away_is_made_anew)
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

Test(control_listen, a_path_that_cannot_be_is_said_in_words)
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

Test(control_listen, only_root_the_server_and_the_admin_group_may_change)
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

Test(control_listen, a_server_without_an_admin_group_gives_the_word_to_no_group)
{
    struct world w;

    if (geteuid() != 0)
        cr_skip_test("needs root, to ask as other users");
    world_start(&w, (gid_t)-1);
    chmod(w.path, 0666);
    cr_assert_eq(serve_child(&w, asks_as_member), 2);
    world_end(&w);
}
