/* The net under inotify: the poll, and what is said where it serves alone. */
#include "tests/watch_fixture.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

TestSuite(watch_poll, .fini = scene_clear);

#define SKIPPED 77

/* A watch that got no inotify: all descriptors were taken when it was opened. */
static void watch_without_inotify(struct scene *scene, const char *name)
{
    struct rlimit before, none;
    struct flagshm_error error;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), result;

    must(fd, "open");
    MUST(close(fd));
    MUST(getrlimit(RLIMIT_NOFILE, &before));
    none = before;
    none.rlim_cur = (rlim_t)fd; /* the lowest free one */
    MUST(setrlimit(RLIMIT_NOFILE, &none));
    result = flagshm_watch_open(&scene->watch, at(scene, name), &error);
    MUST(setrlimit(RLIMIT_NOFILE, &before));
    cr_assert_eq(result, 0);
    cr_assert(strstr(error.text, "inotify cannot be used for ") &&
                  strstr(error.text, "Too many open files; changes are seen within 2 seconds only: raise "
                                     "fs.inotify.max_user_instances (sysctl), or the limit of open files"),
              "%s", error.text);
    cr_assert_eq(flagshm_watch_fd(scene->watch), -1);
    cr_assert(flagshm_watch_is_polling_only(scene->watch));
    drain(scene);
}

/* Lets the time pass from one deadline to the next; at most `ns`. True as soon as there is news. */
static bool pass(struct scene *scene, uint64_t ns)
{
    uint64_t end = scene->now + ns;

    for (;;) {
        uint64_t due = flagshm_watch_deadline(scene->watch);

        if (due > end) {
            scene->now = end;
            return false;
        }
        cr_assert_gt(due, scene->now, "a deadline that does not move");
        scene->now = due;
        if (work(scene))
            return true;
    }
}

Test(watch_poll, without_inotify_a_change_is_seen_within_two_seconds)
{
    struct scene scene;
    char text[32];
    int i;

    scene_begin(&scene, "/tmp");
    make_file(&scene, "flags.json", "{\"n\": 0}");
    watch_without_inotify(&scene, "flags.json");
    cr_assert_eq(scene.texts, 1);
    for (i = 1; i <= 6; i++) {
        (void)snprintf(text, sizeof text, "{\"n\": %d}", i);
        scene.texts = 0;
        if (i % 2) {
            make_file(&scene, "new", text);
            shell(&scene, "touch -d '2001-02-03 04:05' new");
            rename_in(&scene, "new", "flags.json");
        } else {
            write_file(&scene, "flags.json", O_TRUNC, text);
        }
        cr_assert(pass(&scene, 2050 * MS));
        cr_assert_str_eq(scene.text, text);
        cr_assert_not(pass(&scene, 130000 * MS), "one change, one report");
        cr_assert_eq(scene.texts, 1);
    }
    scene_end(&scene);
}

Test(watch_poll, without_inotify_a_file_goes_and_comes)
{
    struct scene scene;

    scene_begin(&scene, "/tmp");
    make_file(&scene, "flags.json", "{}");
    watch_without_inotify(&scene, "flags.json");
    remove_in(&scene, "flags.json");
    cr_assert(pass(&scene, 2150 * MS));
    cr_assert_eq(scene.gones, 1);
    cr_assert_not(pass(&scene, 130000 * MS));
    make_file(&scene, "flags.json", "{}");
    cr_assert(pass(&scene, 2050 * MS));
    cr_assert_eq(scene.texts, 2);
    scene_end(&scene);
}

Test(watch_poll, nothing_happens_more_often_than_each_two_seconds)
{
    struct scene scene;
    uint64_t end;
    int calls = 0;

    scene_begin(&scene, "/tmp");
    make_file(&scene, "flags.json", "{}");
    scene_watch(&scene, "flags.json");
    for (end = scene.now + 600000 * MS; scene.now < end; calls++) {
        scene.now = flagshm_watch_deadline(scene.watch);
        cr_assert_not(work(&scene));
    }
    cr_assert_leq(calls, 301);
    scene_end(&scene);
}

/* A shared mapping on tmpfs: once its page is there, it is written to without an event and without a new time. */
struct mapped {
    char *map;
    int fd;
};

static struct mapped map_file(struct scene *scene)
{
    struct mapped mapped;

    make_file(scene, "flags.json", "{\"n\": 0}");
    mapped.fd = open(at(scene, "flags.json"), O_RDWR | O_CLOEXEC);
    must(mapped.fd, "open");
    mapped.map = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, mapped.fd, 0);
    cr_assert_neq(mapped.map, MAP_FAILED);
    mapped.map[6] = '0';
    return mapped;
}

static void write_unseen(struct mapped *mapped, char digit)
{
    struct stat before, after;

    MUST(fstat(mapped->fd, &before));
    mapped->map[6] = digit;
    MUST(fstat(mapped->fd, &after));
    if (before.st_mtim.tv_nsec != after.st_mtim.tv_nsec || before.st_ctim.tv_nsec != after.st_ctim.tv_nsec)
        cr_skip_test("/dev/shm is no tmpfs: a mapping's writes change the file's times");
}

static void unmap_file(struct mapped *mapped)
{
    MUST(munmap(mapped->map, 8));
    MUST(close(mapped->fd));
}

Test(watch_poll, bytes_that_change_without_a_trace_are_seen_within_a_minute)
{
    struct scene scene;
    struct mapped mapped;

    scene_begin(&scene, "/dev/shm");
    mapped = map_file(&scene);
    scene_watch(&scene, "flags.json");
    cr_assert_not(pass(&scene, 10000 * MS));
    write_unseen(&mapped, '1');
    cr_assert(pass(&scene, 60000 * MS));
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    unmap_file(&mapped);
    scene_end(&scene);
}

/* The times of a file move in steps of some ms: a second write within one step leaves no trace in them. */
Test(watch_poll, a_change_is_read_once_more_at_the_next_poll)
{
    struct scene scene;
    struct mapped mapped;

    scene_begin(&scene, "/dev/shm");
    mapped = map_file(&scene);
    scene_watch(&scene, "flags.json");
    cr_assert_not(pass(&scene, 10000 * MS));
    write_file(&scene, "flags.json", 0, "{\"n\": 1}");
    drain(&scene);
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    write_unseen(&mapped, '2');
    cr_assert(pass(&scene, 2050 * MS));
    cr_assert_str_eq(scene.text, "{\"n\": 2}");
    unmap_file(&mapped);
    scene_end(&scene);
}

Test(watch_poll, what_could_not_be_read_is_tried_at_each_poll)
{
    struct scene scene;

    if (geteuid() != 0)
        cr_skip_test("only root can become another user");
    scene_begin(&scene, "/tmp");
    MUST(chmod(scene.dir, 0755));
    make_file(&scene, "flags.json", "{}");
    scene_watch(&scene, "flags.json");
    cr_assert_not(pass(&scene, 10000 * MS));
    MUST(chmod(at(&scene, "flags.json"), 0600));
    MUST(seteuid(65534));
    drain(&scene);
    cr_assert_eq(scene.gones, 1);
    cr_assert_not(pass(&scene, 10000 * MS));
    MUST(seteuid(0)); /* nothing about the file changes */
    cr_assert(pass(&scene, 2050 * MS));
    cr_assert_eq(scene.texts, 1);
    scene_end(&scene);
}

static bool set_watch_limit(const char *limit)
{
    int fd = open("/proc/sys/user/max_inotify_watches", O_WRONLY | O_CLOEXEC);
    bool is_set = fd >= 0 && write(fd, limit, strlen(limit)) == (ssize_t)strlen(limit);

    if (fd >= 0)
        (void)close(fd);
    return is_set;
}

/* In a user namespace of its own, which has its own limit of watches. The exit code says how it went. */
static int without_watches(struct scene *scene)
{
    struct flagshm_error error;

    if (unshare(CLONE_NEWUSER) != 0 || !set_watch_limit("0"))
        return SKIPPED;
    if (flagshm_watch_open(&scene->watch, at(scene, "flags.json"), &error) != 0)
        return 1;
    if (!strstr(error.text, "inotify has no watch left for ") ||
        !strstr(error.text, "raise fs.inotify.max_user_watches (sysctl)"))
        return 2;
    if (flagshm_watch_fd(scene->watch) < 0 || !flagshm_watch_is_polling_only(scene->watch))
        return 3;
    (void)work(scene);
    write_file(scene, "flags.json", O_TRUNC, "{\"n\": 1}");
    if (work(scene) || !pass(scene, 2050 * MS) || strcmp(scene->text, "{\"n\": 1}") != 0)
        return 4;
    /* The mend helps without a restart. */
    if (!set_watch_limit("1000"))
        return 5;
    (void)pass(scene, 2050 * MS);
    if (flagshm_watch_is_polling_only(scene->watch))
        return 6;
    write_file(scene, "flags.json", O_TRUNC, "{\"n\": 2}");
    return work(scene) ? 0 : 7;
}

Test(watch_poll, without_a_watch_left_the_poll_serves_until_the_limit_is_raised)
{
    struct scene scene;
    int status;
    pid_t child;

    scene_begin(&scene, "/tmp");
    make_file(&scene, "flags.json", "{\"n\": 0}");
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0)
        _exit(without_watches(&scene));
    cr_assert_eq(waitpid(child, &status, 0), child);
    scene_end(&scene);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        cr_skip_test("no user namespace of our own, in which the limit of watches could be lowered");
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %d", status);
}

Test(watch_poll, a_directory_that_may_be_searched_but_not_read_is_polled)
{
    struct scene scene;
    struct flagshm_error error;

    if (geteuid() != 0)
        cr_skip_test("only root can become another user");
    scene_begin(&scene, "/tmp");
    make_file(&scene, "flags.json", "{\"n\": 0}");
    MUST(chmod(scene.dir, 0711));
    MUST(seteuid(65534));
    cr_assert_eq(flagshm_watch_open(&scene.watch, at(&scene, "flags.json"), &error), 0);
    cr_assert(strstr(error.text,
                     "cannot be watched: Permission denied; changes are seen within 2 seconds only: give "
                     "read permission on them"),
              "%s", error.text);
    (void)work(&scene);
    MUST(seteuid(0));
    write_file(&scene, "flags.json", O_TRUNC, "{\"n\": 1}");
    MUST(seteuid(65534));
    cr_assert(pass(&scene, 2050 * MS));
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    MUST(seteuid(0));
    scene_end(&scene);
}
