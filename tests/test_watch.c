#include "server/flagfile.h"
#include "tests/watch_fixture.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <utime.h>

TestSuite(watch, .fini = scene_clear);

Test(watch, the_same_bytes_are_no_news)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    in_place(&scene, "{\"n\": 0}");
    drain(&scene);
    move_over(&scene, "{\"n\": 0}");
    drain(&scene);
    MUST(chmod(at(&scene, "conf/flags.json"), 0600));
    MUST(utime(at(&scene, "conf/flags.json"), NULL));
    drain(&scene);
    delete_and_create(&scene, "{\"n\": 0}");
    drain(&scene);
    cr_assert_eq(scene.texts + scene.gones, 0);
    scene_end(&scene);
}

Test(watch, entries_beside_the_file_are_not_looked_at)
{
    struct scene scene;
    uint64_t due;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    due = flagshm_watch_deadline(scene.watch);
    scene.now += 500 * MS;
    make_file(&scene, "conf/flags.json.bak", "other");
    make_file(&scene, "conf/flags.jso", "other");
    remove_in(&scene, "conf/flags.jso");
    (void)work(&scene);
    cr_assert_eq(flagshm_watch_deadline(scene.watch), due, "a look would have moved the next poll");
    scene_end(&scene);
}

Test(watch, who_still_writes_to_the_file_that_was_replaced_is_not_heard)
{
    struct scene scene;
    uint64_t due;
    int fd;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    fd = open(at(&scene, "conf/flags.json"), O_WRONLY | O_CLOEXEC);
    must(fd, "open");
    move_over(&scene, "{\"n\": 1}");
    drain(&scene);
    due = flagshm_watch_deadline(scene.watch);
    scene.now += 500 * MS;
    put(fd, "?", 1);
    MUST(close(fd));
    cr_assert_not(work(&scene));
    cr_assert_eq(flagshm_watch_deadline(scene.watch), due, "a look would have moved the next poll");
    scene_end(&scene);
}

/* How many directories inotify watches for us, as the kernel counts. */
static int count_watches(const struct scene *scene)
{
    char path[64], line[512];
    int count = 0;
    FILE *info;

    (void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", flagshm_watch_fd(scene->watch));
    info = fopen(path, "re");
    cr_assert(info);
    while (fgets(line, sizeof line, info))
        count += strncmp(line, "inotify ", 8) == 0;
    (void)fclose(info);
    return count;
}

Test(watch, directories_that_are_left_are_let_go_of)
{
    struct scene scene;
    char name[32];
    int before, i;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    before = count_watches(&scene);
    cr_assert_eq(before, 4, "/, /tmp, the scene's and conf, but %d", before);
    for (i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof name, "old%d", i);
        rename_in(&scene, "conf", name);
        mkdir_in(&scene, "conf");
        make_file(&scene, "conf/flags.json", "{}");
        drain(&scene);
        cr_assert_eq(count_watches(&scene), before);
    }
    scene_end(&scene);
}

/* ---- writers who take their time ---- */

/* Opens the file and writes the first part; the caller goes on. */
static int begin_writing(struct scene *scene, const char *part)
{
    int fd;

    prepare_plain(scene);
    scene_watch(scene, "conf/flags.json");
    fd = open(at(scene, "conf/flags.json"), O_WRONLY | O_TRUNC | O_CLOEXEC);
    must(fd, "open");
    put(fd, part, strlen(part));
    return fd;
}

Test(watch, a_bare_modification_waits_for_fifty_ms_of_quiet)
{
    struct scene scene;
    uint64_t begin;
    int fd;

    scene_begin(&scene, "/tmp");
    fd = begin_writing(&scene, "{\"n\"");
    begin = scene.now;
    cr_assert_not(work(&scene));
    cr_assert_eq(flagshm_watch_deadline(scene.watch), begin + 50 * MS);
    scene.now = begin + 40 * MS;
    put(fd, ": 1", 3);
    cr_assert_not(work(&scene));
    cr_assert_eq(flagshm_watch_deadline(scene.watch), begin + 90 * MS, "each write begins the quiet anew");
    scene.now = begin + 60 * MS;
    put(fd, "}", 1);
    MUST(close(fd));
    cr_assert(work(&scene), "the close ends the wait");
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    scene_end(&scene);
}

Test(watch, a_write_after_a_close_is_waited_for_again)
{
    struct scene scene;
    int fd, other;

    scene_begin(&scene, "/tmp");
    fd = begin_writing(&scene, "{\"n\": 1}");
    MUST(close(fd));
    other = open(at(&scene, "conf/flags.json"), O_WRONLY | O_TRUNC | O_CLOEXEC);
    must(other, "open");
    cr_assert_not(work(&scene), "it is being written again");
    put(other, "{\"n\": 2}", 8);
    MUST(close(other));
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    cr_assert_str_eq(scene.text, "{\"n\": 2}");
    scene_end(&scene);
}

Test(watch, a_writer_that_never_pauses_is_looked_at_after_two_seconds)
{
    struct scene scene;
    uint64_t begin;
    int fd;

    scene_begin(&scene, "/tmp");
    fd = begin_writing(&scene, "{\"n\": 1}");
    begin = scene.now;
    while (!work(&scene) && scene.now < begin + 5000 * MS) {
        put(fd, " ", 1);
        scene.now += 20 * MS;
    }
    cr_assert_eq(scene.now, begin + 2000 * MS);
    MUST(close(fd));
    scene_end(&scene);
}

Test(watch, a_doubted_text_that_stays_is_reported_once_more)
{
    struct scene scene;
    uint64_t begin;
    int fd;

    scene_begin(&scene, "/tmp");
    fd = begin_writing(&scene, "{\"n\"");
    scene.is_doubting = true;
    (void)work(&scene);
    scene.now += 50 * MS;
    cr_assert(work(&scene));
    cr_assert_eq(scene.settled, 0);
    begin = scene.now;
    cr_assert_eq(flagshm_watch_deadline(scene.watch), begin + 100 * MS);
    scene.now = begin + 99 * MS;
    cr_assert_not(work(&scene));
    scene.now = begin + 100 * MS;
    cr_assert(work(&scene));
    cr_assert_eq(scene.settled, 1);
    cr_assert_str_eq(scene.text, "{\"n\"");
    drain(&scene);
    cr_assert_eq(scene.texts, 2, "and never again");
    put(fd, ": 1}", 4);
    MUST(close(fd));
    drain(&scene);
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    scene_end(&scene);
}

Test(watch, a_doubted_text_that_is_completed_is_reported_whole_and_unsettled)
{
    struct scene scene;
    int fd;

    scene_begin(&scene, "/tmp");
    fd = begin_writing(&scene, "{\"n\"");
    scene.is_doubting = true;
    (void)work(&scene);
    scene.now += 50 * MS;
    cr_assert(work(&scene));
    scene.is_doubting = false;
    scene.now += 60 * MS;
    put(fd, ": 1}", 4);
    MUST(close(fd));
    drain(&scene);
    cr_assert_eq(scene.texts, 2);
    cr_assert_eq(scene.settled, 0);
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    scene_end(&scene);
}

Test(watch, a_doubt_waits_for_a_writer_who_goes_on)
{
    struct scene scene;
    int fd;

    scene_begin(&scene, "/tmp");
    fd = begin_writing(&scene, "{\"n\"");
    scene.is_doubting = true;
    (void)work(&scene);
    scene.now += 50 * MS;
    cr_assert(work(&scene));
    scene.now += 90 * MS;
    put(fd, ":", 1);
    cr_assert_not(work(&scene));
    scene.now += 20 * MS;
    cr_assert_not(work(&scene), "the doubt is over, the quiet is not");
    put(fd, " 1}", 3);
    MUST(close(fd));
    cr_assert(work(&scene));
    cr_assert_eq(scene.settled, 0);
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    scene_end(&scene);
}

Test(watch, a_doubted_file_that_goes_away_is_waited_for_as_any)
{
    struct scene scene;
    uint64_t begin;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    scene.is_doubting = true;
    move_over(&scene, "{");
    cr_assert(work(&scene));
    begin = scene.now;
    scene.now = begin + 90 * MS;
    remove_in(&scene, "conf/flags.json");
    cr_assert_not(work(&scene));
    scene.now = begin + 100 * MS;
    cr_assert_not(work(&scene));
    cr_assert_eq(flagshm_watch_deadline(scene.watch), begin + 190 * MS);
    scene.now = begin + 190 * MS;
    cr_assert(work(&scene));
    cr_assert_eq(scene.gones, 1);
    cr_assert_gt(flagshm_watch_deadline(scene.watch), scene.now + 1000 * MS);
    scene_end(&scene);
}

Test(watch, texts_that_are_wrong_in_a_new_way_for_two_seconds_are_settled)
{
    struct scene scene;
    uint64_t begin;
    char text[32];

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    scene.is_doubting = true;
    begin = scene.now;
    while (scene.settled == 0 && scene.now < begin + 5000 * MS) {
        (void)snprintf(text, sizeof text, "wrong %d", ++scene.number);
        move_over(&scene, text);
        cr_assert(work(&scene));
        scene.now += 50 * MS;
    }
    cr_assert_eq(scene.now, begin + 2050 * MS);
    scene_end(&scene);
}

Test(watch, again_reports_what_is_there)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    flagshm_watch_again(scene.watch);
    cr_assert_leq(flagshm_watch_deadline(scene.watch), scene.now);
    cr_assert(work(&scene));
    cr_assert_eq(scene.texts, 1);
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    scene_end(&scene);
}

/* ---- no file, or none that can be read ---- */

Test(watch, a_file_that_does_not_exist_yet_is_awaited_with_its_directories)
{
    struct scene scene;
    struct flagshm_error error;

    scene_begin(&scene, "/tmp");
    cr_assert_eq(flagshm_watch_open(&scene.watch, at(&scene, "a/b/flags.json"), &error), 0);
    cr_assert(work(&scene), "the first call says at once that there is none");
    cr_assert_eq(scene.gones, 1);
    cr_assert(strstr(scene.error, "/a/b/flags.json does not exist: there is no ") &&
                  strstr(scene.error, "/a"),
              "%s", scene.error);
    scene.is_interleaved = true;
    mkdir_in(&scene, "a");
    mkdir_in(&scene, "a/b");
    make_file(&scene, "a/b/flags.json", "{}");
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    cr_assert_eq(scene.gones, 1);
    scene_end(&scene);
}

Test(watch, directories_made_at_once_are_not_missed)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    scene_watch(&scene, "a/b/flags.json");
    prepare_deep(&scene);
    make_file(&scene, "a/b/flags.json", "{}");
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    scene_end(&scene);
}

Test(watch, a_deleted_file_is_reported_once_and_its_return_always)
{
    struct scene scene;
    int i;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    for (i = 0; i < 3; i++) {
        uint64_t begin = scene.now;

        scene.texts = scene.gones = 0;
        remove_in(&scene, "conf/flags.json");
        cr_assert_not(work(&scene));
        scene.now = begin + 99 * MS;
        cr_assert_not(work(&scene));
        scene.now = begin + 100 * MS;
        cr_assert(work(&scene));
        cr_assert_eq(scene.gones, 1);
        cr_assert(strstr(scene.error, "/conf/flags.json does not exist"), "%s", scene.error);
        scene.now += 10000 * MS;
        drain(&scene);
        cr_assert_eq(scene.gones, 1);
        make_file(&scene, "conf/flags.json", "{\"n\": 0}");
        drain(&scene);
        cr_assert_eq(scene.texts, 1);
    }
    scene_end(&scene);
}

Test(watch, a_directory_that_stays_away_is_reported_and_seen_to_come_back)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    prepare_deep(&scene);
    scene_watch(&scene, "a/b/c/flags.json");
    rename_in(&scene, "a/b", "a/away");
    drain(&scene);
    cr_assert_eq(scene.gones, 1);
    cr_assert(strstr(scene.error, "there is no") && strstr(scene.error, "/a/b"), "%s", scene.error);
    rename_in(&scene, "a/away", "a/b");
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    cr_assert_eq(scene.gones, 1);
    scene_end(&scene);
}

Test(watch, another_directory_under_the_name_is_seen_at_once)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    prepare_deep(&scene);
    scene_watch(&scene, "a/b/c/flags.json");
    mkdir_in(&scene, "a/x");
    mkdir_in(&scene, "a/x/c");
    make_file(&scene, "a/x/c/flags.json", "{}");
    cr_assert_not(work(&scene));
    MUST(renameat2(AT_FDCWD, at(&scene, "a/x"), AT_FDCWD, at(&scene, "a/b"), RENAME_EXCHANGE));
    cr_assert(work(&scene));
    cr_assert_str_eq(scene.text, "{}");
    scene_end(&scene);
}

/* Puts what `make` makes under the name, and wants one report with `expected` in it; then a file, and wants its text. */
static void check_unreadable(void (*make)(struct scene *scene), const char *expected)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    scene_watch(&scene, "conf/flags.json");
    remove_in(&scene, "conf/flags.json");
    make(&scene);
    drain(&scene);
    scene.now += 10000 * MS;
    drain(&scene);
    cr_assert_eq(scene.gones, 1);
    cr_assert_eq(scene.texts, 0);
    cr_assert(strstr(scene.error, expected), "%s", scene.error);
    remove_in(&scene, "conf/flags.json");
    make_file(&scene, "conf/flags.json", "{\"n\": 0}");
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    cr_assert_eq(scene.gones, 1);
    scene_end(&scene);
}

static void make_fifo(struct scene *scene)
{
    MUST(mkfifo(at(scene, "conf/flags.json"), 0644));
}

static void make_directory(struct scene *scene)
{
    mkdir_in(scene, "conf/flags.json");
}

static void make_device_link(struct scene *scene)
{
    symlink_in(scene, "/dev/zero", "conf/flags.json");
}

static void make_loop(struct scene *scene)
{
    symlink_in(scene, "flags.json", "conf/flags.json");
}

static void make_dangling(struct scene *scene)
{
    symlink_in(scene, "../nowhere/x.json", "conf/flags.json");
}

static void make_under_a_file(struct scene *scene)
{
    make_file(scene, "plain", "");
    symlink_in(scene, "../plain/x.json", "conf/flags.json");
}

static void make_socket(struct scene *scene)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd, "socket");
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/conf/flags.json", scene->dir);
    MUST(bind(fd, (struct sockaddr *)&address, sizeof address));
    MUST(close(fd));
}

static void make_too_long(struct scene *scene)
{
    int fd = open(at(scene, "conf/flags.json"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    must(fd, "open");
    MUST(ftruncate(fd, (off_t)FLAGSHM_FILE_MAX + 1));
    MUST(close(fd));
}

Test(watch, only_a_regular_file_is_read, .timeout = 30)
{
    check_unreadable(make_fifo, "flags.json is a named pipe, not a regular file: it is not read");
    check_unreadable(make_directory,
                     "flags.json is a directory, not a regular file: it is not read; name the file in it");
    check_unreadable(make_device_link, "flags.json is a device, not a regular file: it is not read");
    check_unreadable(make_socket, "flags.json is a socket, not a regular file: it is not read");
}

Test(watch, links_that_lead_nowhere_are_named)
{
    check_unreadable(make_loop, "its symbolic links form a circle (at ");
    check_unreadable(make_dangling, "/nowhere");
    check_unreadable(make_under_a_file, "/plain is not a directory");
}

Test(watch, a_file_over_the_limit_is_not_read)
{
    check_unreadable(make_too_long, "is longer than 67108864 bytes: no more is read");
}

Test(watch, a_file_of_the_limit_is_read_whole)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    MUST(truncate(at(&scene, "conf/flags.json"), (off_t)FLAGSHM_FILE_MAX));
    scene_watch(&scene, "conf/flags.json");
    cr_assert_eq(scene.bytes, FLAGSHM_FILE_MAX);
    scene_end(&scene);
}

Test(watch, a_file_without_permission_is_reported_and_read_when_it_is_given)
{
    struct scene scene;
    bool is_root = geteuid() == 0;

    scene_begin(&scene, "/tmp");
    MUST(chmod(scene.dir, 0755));
    prepare_plain(&scene);
    if (is_root)
        MUST(seteuid(65534));
    scene_watch(&scene, "conf/flags.json");
    if (is_root)
        MUST(seteuid(0));
    MUST(chmod(at(&scene, "conf/flags.json"), 0));
    if (is_root)
        MUST(seteuid(65534));
    drain(&scene);
    cr_assert_eq(scene.gones, 1);
    cr_assert(strstr(scene.error, "Permission denied: give it read permission"), "%s", scene.error);
    if (is_root)
        MUST(seteuid(0));
    MUST(chmod(at(&scene, "conf/flags.json"), 0644));
    if (is_root)
        MUST(seteuid(65534));
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    if (is_root)
        MUST(seteuid(0));
    scene_end(&scene);
}

Test(watch, more_links_than_the_kernel_follows_are_an_error_and_forty_are_not)
{
    struct scene scene;
    char name[32], target[32];
    int i;

    scene_begin(&scene, "/tmp");
    make_file(&scene, "0", "{}");
    for (i = 1; i <= 41; i++) {
        (void)snprintf(name, sizeof name, "%d", i);
        (void)snprintf(target, sizeof target, "%d", i - 1);
        symlink_in(&scene, target, name);
    }
    scene_watch(&scene, "40");
    cr_assert_str_eq(scene.text, "{}");
    write_file(&scene, "0", O_TRUNC, "{ }");
    drain(&scene);
    cr_assert_str_eq(scene.text, "{ }");
    flagshm_watch_close(scene.watch);
    scene_watch(&scene, "41");
    cr_assert(strstr(scene.error, "form a circle"), "%s", scene.error);
    scene_end(&scene);
}

Test(watch, a_bad_path_is_refused)
{
    struct flagshm_watch *watch;
    struct flagshm_error error;
    char path[5000];

    cr_assert_eq(flagshm_watch_open(&watch, "", &error), -EINVAL);
    cr_assert_str_eq(error.text, "the path of the flag file is empty");
    cr_assert_null(watch);
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    path[0] = '/';
    cr_assert_eq(flagshm_watch_open(&watch, path, &error), -ENAMETOOLONG);
    cr_assert_str_eq(error.text, "the path of the flag file is 4999 bytes long, at most 4095 are possible");
    flagshm_watch_close(watch);
}

Test(watch, a_relative_path_stays_the_same_file_after_a_chdir)
{
    struct scene scene;
    struct flagshm_error error;

    scene_begin(&scene, "/tmp");
    prepare_plain(&scene);
    MUST(chdir(scene.dir));
    cr_assert_eq(flagshm_watch_open(&scene.watch, "conf/./../conf//flags.json", &error), 0);
    MUST(chdir("/"));
    drain(&scene);
    in_place(&scene, "{\"n\": 1}");
    drain(&scene);
    cr_assert_eq(scene.texts, 2);
    scene_end(&scene);
}
