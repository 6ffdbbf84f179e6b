/* watch_fixture: a directory, a watch on a file in it, and a clock that the test moves. The kernel queues its events before
 * a system call returns, so no test has to sleep. The clock is moved to the ends of quiet periods and doubts, never to
 * a poll: what is seen was seen by inotify. */
#ifndef FLAGSHM_TESTS_WATCH_FIXTURE_H
#define FLAGSHM_TESTS_WATCH_FIXTURE_H

#include "server/watch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

struct scene {
    char dir[64];
    struct flagshm_watch *watch;
    uint64_t now;        /* monotonic, of the test's own making */
    bool is_interleaved; /* the watch works after each step of a change, not only at its end */
    bool is_doubting;    /* each text that is not settled */
    int texts, gones, settled;
    char text[256], error[1024];
    size_t bytes;
    int number; /* of changes so far */
    char paths[4][128];
    unsigned next_path;
};

/* A path under the scene's directory; the last four are kept. */
static inline const char *at(struct scene *scene, const char *name)
{
    char *path = scene->paths[scene->next_path++ % 4];

    size_t length = strlen(scene->dir);

    cr_assert_lt(length + strlen(name) + 1, sizeof scene->paths[0]);
    memcpy(path, scene->dir, length);
    path[length] = '/';
    memcpy(path + length + 1, name, strlen(name) + 1);
    return path;
}

static char scene_left[64]; /* the directory of the scene that has not ended */

static inline int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

/* For a test that failed or was skipped before its scene's end: the suite's .fini. */
static inline void scene_clear(void)
{
    if (scene_left[0]) {
        (void)!seteuid(getuid());
        (void)nftw(scene_left, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
    scene_left[0] = '\0';
}

static inline void scene_begin(struct scene *scene, const char *parent)
{
    memset(scene, 0, sizeof *scene);
    (void)snprintf(scene->dir, sizeof scene->dir, "%s/flagshm-watch-XXXXXX", parent);
    cr_assert(mkdtemp(scene->dir), "%s", strerror(errno));
    memcpy(scene_left, scene->dir, sizeof scene_left);
    scene->now = 1000000 * MS;
}

static inline void scene_end(struct scene *scene)
{
    flagshm_watch_close(scene->watch);
    scene_clear();
}

/* One work; true where there was news. */
static inline bool work(struct scene *scene)
{
    struct flagshm_watch_report report;

    flagshm_watch_work(scene->watch, scene->now, &report);
    scene->texts += report.news == FLAGSHM_WATCH_TEXT;
    scene->gones += report.news == FLAGSHM_WATCH_GONE;
    scene->settled += report.is_settled;
    if (report.news == FLAGSHM_WATCH_TEXT) {
        cr_assert_eq(report.text[report.bytes], '\0');
        (void)snprintf(scene->text, sizeof scene->text, "%s", report.text);
        scene->bytes = report.bytes;
        cr_assert_str_eq(report.error.text, "");
        if (scene->is_doubting && !report.is_settled)
            flagshm_watch_doubt(scene->watch, scene->now);
    } else if (report.news == FLAGSHM_WATCH_GONE) {
        (void)snprintf(scene->error, sizeof scene->error, "%s", report.error.text);
        cr_assert_str_neq(report.error.text, "");
    } else {
        cr_assert_str_eq(report.error.text, "");
    }
    return report.news != FLAGSHM_WATCH_NOTHING;
}

/* Works until all that is due within 200 ms is done. */
static inline void drain(struct scene *scene)
{
    int rounds;

    for (rounds = 0; rounds < 100; rounds++) {
        uint64_t due;

        (void)work(scene);
        due = flagshm_watch_deadline(scene->watch);
        if (due > scene->now + 200 * MS)
            return;
        if (due > scene->now)
            scene->now = due;
    }
    cr_assert_fail("the watch does not come to rest");
}

static inline void scene_watch(struct scene *scene, const char *name)
{
    struct flagshm_error error;

    cr_assert_eq(flagshm_watch_open(&scene->watch, at(scene, name), &error), 0, "%s", error.text);
    cr_assert_str_eq(error.text, "");
    cr_assert_geq(flagshm_watch_fd(scene->watch), 0);
    cr_assert_not(flagshm_watch_is_polling_only(scene->watch));
    drain(scene);
    scene->texts = scene->gones = scene->settled = 0;
}

/* Between two steps of a change. */
static inline void pause_here(struct scene *scene)
{
    if (!scene->is_interleaved)
        return;
    scene->now += MS;
    (void)work(scene);
}

static inline void must(int result, const char *what)
{
    cr_assert_geq(result, 0, "%s: %s", what, strerror(errno));
}

#define MUST(call) must((call), #call)

static inline void put(int fd, const char *text, size_t bytes)
{
    cr_assert_eq(write(fd, text, bytes), (ssize_t)bytes, "%s", strerror(errno));
}

/* Opens with `flags`, writes in two halves, closes. */
static inline void write_file(struct scene *scene, const char *name, int flags, const char *text)
{
    size_t half = strlen(text) / 2;
    int fd = open(at(scene, name), O_WRONLY | flags, 0644);

    must(fd, name);
    pause_here(scene);
    put(fd, text, half);
    pause_here(scene);
    put(fd, text + half, strlen(text) - half);
    pause_here(scene);
    MUST(close(fd));
    pause_here(scene);
}

static inline void make_file(struct scene *scene, const char *name, const char *text)
{
    write_file(scene, name, O_CREAT | O_TRUNC, text);
}

static inline void rename_in(struct scene *scene, const char *from, const char *to)
{
    MUST(rename(at(scene, from), at(scene, to)));
    pause_here(scene);
}

static inline void symlink_in(struct scene *scene, const char *target, const char *name)
{
    MUST(symlink(target, at(scene, name)));
    pause_here(scene);
}

static inline void remove_in(struct scene *scene, const char *name)
{
    MUST(remove(at(scene, name)));
    pause_here(scene);
}

static inline void mkdir_in(struct scene *scene, const char *name)
{
    MUST(mkdir(at(scene, name), 0755));
    pause_here(scene);
}

/* A command of the shell, in the scene's directory. */
__attribute__((format(printf, 2, 3))) static inline void shell(struct scene *scene, const char *format, ...)
{
    char command[512], whole[1024];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    (void)snprintf(whole, sizeof whole, "cd '%s' && %s", scene->dir, command);
    cr_assert_eq(system(whole), 0, "%s", whole);
    pause_here(scene);
}

/* ---- scenes and changes that more than one test uses ---- */

static inline void prepare_plain(struct scene *scene)
{
    mkdir_in(scene, "conf");
    make_file(scene, "conf/flags.json", "{\"n\": 0}");
}

static inline void in_place(struct scene *scene, const char *text)
{
    write_file(scene, "conf/flags.json", 0, text);
}

static inline void move_over(struct scene *scene, const char *text)
{
    make_file(scene, "conf/.flags.json.tmp", text);
    rename_in(scene, "conf/.flags.json.tmp", "conf/flags.json");
}

static inline void delete_and_create(struct scene *scene, const char *text)
{
    remove_in(scene, "conf/flags.json");
    make_file(scene, "conf/flags.json", text);
}

static inline void prepare_deep(struct scene *scene)
{
    mkdir_in(scene, "a");
    mkdir_in(scene, "a/b");
    mkdir_in(scene, "a/b/c");
    make_file(scene, "a/b/c/flags.json", "{\"n\": 0}");
}

#endif
