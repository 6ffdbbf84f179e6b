/* Every way in which a file is changed, each three times in a row. */
#include "tests/watch_fixture.h"

TestSuite(watch_matrix, .fini = scene_clear);

static void truncate_and_write(struct scene *scene, const char *text)
{
    write_file(scene, "conf/flags.json", O_TRUNC, text);
}

static void move_over_from_elsewhere(struct scene *scene, const char *text)
{
    make_file(scene, "flags.json.new", text);
    rename_in(scene, "flags.json.new", "conf/flags.json");
}

static void hard_link_over(struct scene *scene, const char *text)
{
    make_file(scene, "conf/new", text);
    remove_in(scene, "conf/flags.json");
    MUST(link(at(scene, "conf/new"), at(scene, "conf/flags.json")));
    pause_here(scene);
    remove_in(scene, "conf/new");
}

/* As vim writes with its defaults: tries out a name, renames the old file, writes a new one, sets its mode, removes. */
static void vim_save(struct scene *scene, const char *text)
{
    make_file(scene, "conf/.flags.json.swp", "swap");
    make_file(scene, "conf/4913", "");
    remove_in(scene, "conf/4913");
    rename_in(scene, "conf/flags.json", "conf/flags.json~");
    make_file(scene, "conf/flags.json", text);
    MUST(chmod(at(scene, "conf/flags.json"), 0644));
    pause_here(scene);
    remove_in(scene, "conf/flags.json~");
    remove_in(scene, "conf/.flags.json.swp");
}

/* As vim writes with backupcopy=yes. */
static void vim_save_copy(struct scene *scene, const char *text)
{
    make_file(scene, "conf/flags.json~", "backup");
    write_file(scene, "conf/flags.json", O_TRUNC, text);
    MUST(chmod(at(scene, "conf/flags.json"), 0644));
    pause_here(scene);
    remove_in(scene, "conf/flags.json~");
}

static void sed_in_place(struct scene *scene, const char *text)
{
    shell(scene, "sed -i 's/.*/%s/' conf/flags.json", text);
}

static void copy_with_an_older_time(struct scene *scene, const char *text)
{
    make_file(scene, "old.json", text);
    shell(scene, "touch -d '2001-02-03 0%d:00' old.json && cp -p old.json conf/flags.json",
          scene->number % 10);
}

static void move_over_with_an_older_time(struct scene *scene, const char *text)
{
    make_file(scene, "old.json", text);
    shell(scene, "touch -d '2001-02-03 04:05' old.json && mv -f old.json conf/flags.json");
}

static void install_over(struct scene *scene, const char *text)
{
    make_file(scene, "new.json", text);
    shell(scene, "install -m 0644 new.json conf/flags.json");
}

static void directory_away_and_back(struct scene *scene, const char *text)
{
    rename_in(scene, "conf", "away");
    write_file(scene, "away/flags.json", O_TRUNC, text);
    rename_in(scene, "away", "conf");
}

static void directory_replaced(struct scene *scene, const char *text)
{
    rename_in(scene, "conf", "away");
    mkdir_in(scene, "conf");
    make_file(scene, "conf/flags.json", text);
    remove_in(scene, "away/flags.json");
    remove_in(scene, "away");
}

static void directory_deleted_and_made(struct scene *scene, const char *text)
{
    remove_in(scene, "conf/flags.json");
    remove_in(scene, "conf");
    mkdir_in(scene, "conf");
    make_file(scene, "conf/flags.json", text);
}

static void directory_exchanged(struct scene *scene, const char *text)
{
    mkdir_in(scene, "other");
    make_file(scene, "other/flags.json", text);
    MUST(renameat2(AT_FDCWD, at(scene, "other"), AT_FDCWD, at(scene, "conf"), RENAME_EXCHANGE));
    pause_here(scene);
    remove_in(scene, "other/flags.json");
    remove_in(scene, "other");
}

/* A ConfigMap's volume: flags.json -> ..data/flags.json, ..data -> ..N. */
static void kubernetes_swap(struct scene *scene, const char *text)
{
    char name[64], old[64];
    ssize_t length = readlink(at(scene, "conf/..data"), old, sizeof old - 1);
    int step = 0;

    (void)snprintf(name, sizeof name, "conf/..2026_%03d", scene->number);
    mkdir_in(scene, name);
    (void)snprintf(name, sizeof name, "conf/..2026_%03d/flags.json", scene->number);
    make_file(scene, name, text);
    (void)snprintf(name, sizeof name, "..2026_%03d", scene->number);
    symlink_in(scene, name, "conf/..data_tmp");
    rename_in(scene, "conf/..data_tmp", "conf/..data");
    for (step = 0; length > 0 && step < 2; step++) {
        (void)snprintf(name, sizeof name, "conf/%.*s%s", (int)length, old, step == 0 ? "/flags.json" : "");
        remove_in(scene, name);
    }
}

static void prepare_kubernetes(struct scene *scene)
{
    mkdir_in(scene, "conf");
    symlink_in(scene, "..data/flags.json", "conf/flags.json");
    kubernetes_swap(scene, "{\"n\": 0}");
}

/* conf/flags.json -> ../hop/flags.json -> SCENE/real/flags.json */
static void prepare_links(struct scene *scene)
{
    mkdir_in(scene, "conf");
    mkdir_in(scene, "hop");
    mkdir_in(scene, "real");
    make_file(scene, "real/flags.json", "{\"n\": 0}");
    symlink_in(scene, at(scene, "real/flags.json"), "hop/flags.json");
    symlink_in(scene, "../hop/flags.json", "conf/flags.json");
}

static void target_edited(struct scene *scene, const char *text)
{
    write_file(scene, "real/flags.json", O_TRUNC, text);
}

static void target_replaced(struct scene *scene, const char *text)
{
    make_file(scene, "real/new", text);
    rename_in(scene, "real/new", "real/flags.json");
}

static void last_link_changed(struct scene *scene, const char *text)
{
    char name[64];

    (void)snprintf(name, sizeof name, "real/%d.json", scene->number);
    make_file(scene, name, text);
    symlink_in(scene, at(scene, name), "hop/new");
    rename_in(scene, "hop/new", "hop/flags.json");
}

static void first_link_removed_and_made(struct scene *scene, const char *text)
{
    char name[64];

    (void)snprintf(name, sizeof name, "real/%d.json", scene->number);
    make_file(scene, name, text);
    remove_in(scene, "conf/flags.json");
    (void)snprintf(name, sizeof name, "../real/%d.json", scene->number);
    symlink_in(scene, name, "conf/flags.json");
}

static void link_becomes_a_file_and_back(struct scene *scene, const char *text)
{
    if (scene->number % 2) {
        remove_in(scene, "conf/flags.json");
        make_file(scene, "conf/flags.json", text);
    } else {
        make_file(scene, "real/flags.json", text);
        symlink_in(scene, "../real/flags.json", "conf/new");
        rename_in(scene, "conf/new", "conf/flags.json");
    }
}

/* current -> releases/0, as with deployments; the file lies two directories deep in it. */
static void release_switched(struct scene *scene, const char *text)
{
    char name[64];

    (void)snprintf(name, sizeof name, "releases/%d", scene->number);
    mkdir_in(scene, name);
    (void)snprintf(name, sizeof name, "releases/%d/conf", scene->number);
    mkdir_in(scene, name);
    (void)snprintf(name, sizeof name, "releases/%d/conf/flags.json", scene->number);
    make_file(scene, name, text);
    (void)snprintf(name, sizeof name, "releases/%d", scene->number);
    symlink_in(scene, name, "new");
    rename_in(scene, "new", "current");
}

static void prepare_release(struct scene *scene)
{
    mkdir_in(scene, "releases");
    release_switched(scene, "{\"n\": 0}");
}

static void ancestor_away_and_back(struct scene *scene, const char *text)
{
    rename_in(scene, "a", "away");
    write_file(scene, "away/b/c/flags.json", O_TRUNC, text);
    rename_in(scene, "away", "a");
}

static void queue_overflow(struct scene *scene, const char *text)
{
    FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    int events = 0, i;

    cr_assert(limit && fscanf(limit, "%d", &events) == 1);
    (void)fclose(limit);
    if (events > 1000000)
        cr_skip_test("fs.inotify.max_queued_events is too high to fill the queue");
    make_file(scene, "conf/a", "");
    /* Two events each, and none that the kernel could merge. */
    for (i = 0; i <= events / 2; i++) {
        MUST(rename(at(scene, "conf/a"), at(scene, "conf/b")));
        MUST(rename(at(scene, "conf/b"), at(scene, "conf/a")));
    }
    write_file(scene, "conf/flags.json", O_TRUNC, text);
    remove_in(scene, "conf/a");
}

struct row {
    const char *name;
    const char *path;
    void (*prepare)(struct scene *scene);
    void (*change)(struct scene *scene, const char *text);
};

static const struct row rows[] = {
    {"in place", "conf/flags.json", prepare_plain, in_place},
    {"truncate and write", "conf/flags.json", prepare_plain, truncate_and_write},
    {"mv over", "conf/flags.json", prepare_plain, move_over},
    {"mv over from elsewhere", "conf/flags.json", prepare_plain, move_over_from_elsewhere},
    {"hard link over", "conf/flags.json", prepare_plain, hard_link_over},
    {"vim", "conf/flags.json", prepare_plain, vim_save},
    {"vim, backupcopy=yes", "conf/flags.json", prepare_plain, vim_save_copy},
    {"sed -i", "conf/flags.json", prepare_plain, sed_in_place},
    {"delete and create", "conf/flags.json", prepare_plain, delete_and_create},
    {"cp -p, older", "conf/flags.json", prepare_plain, copy_with_an_older_time},
    {"mv over, older", "conf/flags.json", prepare_plain, move_over_with_an_older_time},
    {"install", "conf/flags.json", prepare_plain, install_over},
    {"directory away and back", "conf/flags.json", prepare_plain, directory_away_and_back},
    {"directory replaced", "conf/flags.json", prepare_plain, directory_replaced},
    {"directory deleted and made", "conf/flags.json", prepare_plain, directory_deleted_and_made},
    {"directory exchanged", "conf/flags.json", prepare_plain, directory_exchanged},
    {"ancestor away and back", "a/b/c/flags.json", prepare_deep, ancestor_away_and_back},
    {"..data swapped", "conf/flags.json", prepare_kubernetes, kubernetes_swap},
    {"target edited", "conf/flags.json", prepare_links, target_edited},
    {"target replaced", "conf/flags.json", prepare_links, target_replaced},
    {"last link changed", "conf/flags.json", prepare_links, last_link_changed},
    {"first link made again", "conf/flags.json", prepare_links, first_link_removed_and_made},
    {"link becomes a file", "conf/flags.json", prepare_links, link_becomes_a_file_and_back},
    {"directory link switched", "current/conf/flags.json", prepare_release, release_switched},
    {"queue overflow", "conf/flags.json", prepare_plain, queue_overflow},
};

static void check_row(const struct row *row, bool is_interleaved)
{
    struct scene scene;
    char text[64];

    scene_begin(&scene, "/tmp");
    row->prepare(&scene);
    scene_watch(&scene, row->path);
    scene.is_interleaved = is_interleaved;
    for (scene.number = 1; scene.number <= 3; scene.number++) {
        (void)snprintf(text, sizeof text, "{\"n\": %d}", scene.number);
        scene.texts = scene.gones = 0;
        row->change(&scene, text);
        drain(&scene);
        cr_assert_eq(scene.texts, 1, "%s, change %d: %d reports", row->name, scene.number, scene.texts);
        cr_assert_eq(scene.gones, 0, "%s, change %d: reported gone: %s", row->name, scene.number,
                     scene.error);
        cr_assert_str_eq(scene.text, text, "%s", row->name);
        cr_assert_not(flagshm_watch_is_polling_only(scene.watch));
    }
    scene_end(&scene);
}

Test(watch_matrix, each_kind_of_change_is_one_report_three_times_in_a_row)
{
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_row(&rows[i], false);
}

Test(watch_matrix, each_kind_of_change_is_one_report_when_it_is_watched_at_each_step)
{
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_row(&rows[i], true);
}

/* Changes that are whole at their end: no quiet need be waited for. */
Test(watch_matrix, what_is_whole_is_read_at_once)
{
    static const char *const waited_for[] = {"hard link over", "queue overflow"};
    struct scene scene;
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, waited_for[0]) == 0 || strcmp(rows[i].name, waited_for[1]) == 0)
            continue;
        scene_begin(&scene, "/tmp");
        rows[i].prepare(&scene);
        scene_watch(&scene, rows[i].path);
        scene.number = 1;
        rows[i].change(&scene, "{\"n\": 1}");
        cr_assert(work(&scene), "%s", rows[i].name);
        cr_assert_str_eq(scene.text, "{\"n\": 1}", "%s", rows[i].name);
        scene_end(&scene);
    }
}

Test(watch_matrix, nothing_is_lost_while_nobody_listens)
{
    struct scene scene;
    size_t i;
    char text[64];

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        scene_begin(&scene, "/tmp");
        rows[i].prepare(&scene);
        scene_watch(&scene, rows[i].path);
        for (scene.number = 1; scene.number <= 3; scene.number++) {
            (void)snprintf(text, sizeof text, "{\"n\": %d}", scene.number);
            rows[i].change(&scene, text);
        }
        drain(&scene);
        cr_assert_eq(scene.texts, 1, "%s: %d reports", rows[i].name, scene.texts);
        cr_assert_eq(scene.gones, 0, "%s: %s", rows[i].name, scene.error);
        cr_assert_str_eq(scene.text, text, "%s", rows[i].name);
        scene_end(&scene);
    }
}
