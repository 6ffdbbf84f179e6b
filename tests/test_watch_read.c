/* A file that changes while it is read. The program has a read() of its own, through which the library's call goes as
 * well: it lets a change happen right after the first part was read. */
#include "server/watch_internal.h"
#include "tests/watch_fixture.h"

#include <sys/syscall.h>

TestSuite(watch_read, .fini = scene_clear);

static void (*on_read)(struct scene *scene); /* called once, by the next read of a regular file */
static struct scene *on_read_scene;

ssize_t read(int fd, void *buffer, size_t bytes)
{
    ssize_t got = syscall(SYS_read, fd, buffer, bytes);
    void (*change)(struct scene *) = on_read;
    struct stat status;

    if (change && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        on_read = NULL;
        change(on_read_scene);
    }
    return got;
}

static void rewrite(struct scene *scene)
{
    in_place(scene, "{\"n\": 1}");
}

static void replace(struct scene *scene)
{
    move_over(scene, "{\"n\": 1}");
}

static void delete (struct scene *scene)
{
    remove_in(scene, "conf/flags.json");
}

/* A file of long ago, so that the change shows in its times however coarse they are. */
static void begin(struct scene *scene)
{
    static const struct timespec long_ago[2] = {{.tv_sec = 981173100}, {.tv_sec = 981173100}};

    scene_begin(scene, "/tmp");
    prepare_plain(scene);
    MUST(utimensat(AT_FDCWD, at(scene, "conf/flags.json"), long_ago, 0));
    on_read_scene = scene;
}

static int read_while(struct scene *scene, void (*change)(struct scene *scene), char **text)
{
    struct flagshm_stamp stamp;
    struct flagshm_error error;
    const char *path = at(scene, "conf/flags.json");
    size_t bytes = 0;
    int result;

    on_read = change;
    result = flagshm_read_stable(path, path, text, &bytes, &stamp, &error);
    if (on_read)
        cr_skip_test("the library does not read through our read()");
    return result;
}

Test(watch_read, what_changes_while_it_is_read_is_not_taken)
{
    static void (*const changes[])(struct scene *) = {rewrite, replace, delete};
    struct scene scene;
    char *text;
    size_t i;

    for (i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        begin(&scene);
        cr_assert_eq(read_while(&scene, changes[i], &text), -EAGAIN, "change %zu", i);
        cr_assert_null(text);
        scene_end(&scene);
    }
}

static void touch_another(struct scene *scene)
{
    make_file(scene, "conf/other", "");
}

Test(watch_read, what_changes_beside_it_is_of_no_concern)
{
    struct scene scene;
    char *text;

    begin(&scene);
    cr_assert_eq(read_while(&scene, touch_another, &text), 0);
    cr_assert_str_eq(text, "{\"n\": 0}");
    free(text);
    scene_end(&scene);
}

Test(watch_read, the_watch_reads_again_at_once_and_reports_the_new_text_alone)
{
    struct scene scene;
    struct flagshm_error error;

    begin(&scene);
    cr_assert_eq(flagshm_watch_open(&scene.watch, at(&scene, "conf/flags.json"), &error), 0);
    on_read = rewrite;
    cr_assert(work(&scene));
    if (on_read)
        cr_skip_test("the library does not read through our read()");
    cr_assert_str_eq(scene.text, "{\"n\": 1}");
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    scene_end(&scene);
}

/* Rewrites the file in each of the next reads, for ever. */
static void rewrite_always(struct scene *scene)
{
    static int number;
    struct timespec times[2] = {{.tv_sec = 981173100 + ++number}, {.tv_sec = 981173100}};

    times[1].tv_sec += number;
    in_place(scene, number % 2 ? "{\"n\": 1}" : "{\"n\": 2}");
    MUST(utimensat(AT_FDCWD, at(scene, "conf/flags.json"), times, 0));
    on_read = rewrite_always;
}

Test(watch_read, a_file_that_never_holds_still_is_tried_each_fifty_ms_not_for_ever)
{
    struct scene scene;
    struct flagshm_error error;

    begin(&scene);
    cr_assert_eq(flagshm_watch_open(&scene.watch, at(&scene, "conf/flags.json"), &error), 0);
    on_read = rewrite_always;
    cr_assert_not(work(&scene));
    cr_assert_eq(flagshm_watch_deadline(scene.watch), scene.now + 50 * MS);
    on_read = NULL;
    drain(&scene);
    cr_assert_eq(scene.texts, 1);
    scene_end(&scene);
}
