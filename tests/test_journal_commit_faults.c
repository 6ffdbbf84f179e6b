/* test_journal_commit_faults: a condition that cannot be written comes to nothing for good; all else waits and is written; and
 * damage costs no state. */
#include "server/clock.h"
#include "server/journal_internal.h"
#include "tests/journal_commit_fixture.h"

#include <grp.h>
#include <signal.h>

/* ---- conditions ---- */

/* In three: while the disk fails, in the same run when it is well, after a restart. */
static int condition_fails(struct world *w)
{
    CHECK(flagshm_journal_flush(w->journal, 5000));
    commit_state(w, "kept", "lowered", 1);
    commit_condition(w, "given up", "raised", 2);
    CHECK(reported(w, 1) < 0);
    CHECK(reported(w, 2) < 0);
    CHECK(w->error.text[0] != '\0');
    flagshm_journal_event(w->journal, NOON, "kill", "a", "ann", "waits");
    return 0;
}

static int only_the_condition_is_missing(struct world *w)
{
    const char *text = told(w, NULL, 10);

    CHECK(strstr(text, "kill:waits") != NULL && strstr(text, "advance") == NULL);
    CHECK(strcmp(states(w), "{\"kept\":\"lowered\"}") == 0);
    return 0;
}

static int condition_came_to_nothing(struct world *w)
{
    struct flagshm_journal_report report;

    CHECK(flagshm_journal_flush(w->journal, 5000));
    CHECK(health(w)[0] == '\0');
    CHECK(!flagshm_journal_take(w->journal, &report));
    CHECK(only_the_condition_is_missing(w) == 0);
    flagshm_journal_close(w->journal);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0 && w->start.is_writable);
    return only_the_condition_is_missing(w);
}

Test(journal_commit_faults, a_condition_that_cannot_be_written_is_given_up_and_all_else_waits)
{
    struct world w;

    world_make(&w);
    write_file(w.dir, "a file where the directory should be", 36);
    open_journal(&w);
    cr_assert_eq(condition_fails(&w), 0);
    cr_assert_not_null(strstr(w.error.text, "is not a directory"), "%s", w.error.text);
    unlink(w.dir);
    cr_assert_eq(condition_came_to_nothing(&w), 0);
    world_end(&w);
}

static int lives_with_a_small_disk(struct world *w)
{
    static char large[1 << 20];
    char path[120];

    memset(large, 'x', sizeof large - 1);
    CHECK(has_mounts_of_its_own());
    CHECK(mkdir(w->dir, 0700) == 0 && mount("none", w->dir, "tmpfs", 0, "size=1m") == 0);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0 && w->start.is_writable);
    fill_disk(w);
    flagshm_journal_commit(w->journal,
                           &(struct flagshm_journal_commit){
                               .flag = "given up", .state = large, .is_condition = true, .ticket = 9});
    CHECK(reported(w, 9) == -ENOSPC);
    CHECK(strstr(w->error.text, "the disk is full") != NULL);
    (void)snprintf(path, sizeof path, "%s/filler", w->dir);
    CHECK(condition_fails(w) == 0);
    CHECK(unlink(path) == 0);
    CHECK(condition_came_to_nothing(w) == 0);
    flagshm_journal_close(w->journal);
    return 0;
}

static int lives_on_a_mount_that_turns_read_only(struct world *w)
{
    CHECK(has_mounts_of_its_own());
    CHECK(mount(w->dir, w->dir, NULL, MS_BIND, NULL) == 0);
    CHECK(mount(NULL, w->dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0 && !w->start.is_writable);
    CHECK(condition_fails(w) == 0);
    CHECK(strstr(w->error.text, "its file system is read-only") != NULL);
    CHECK(mount(NULL, w->dir, NULL, MS_BIND | MS_REMOUNT, NULL) == 0);
    CHECK(condition_came_to_nothing(w) == 0);
    flagshm_journal_close(w->journal);
    return 0;
}

static int has_mounts(struct world *w)
{
    (void)w;
    return has_mounts_of_its_own() ? 0 : NO_NAMESPACE;
}

Test(journal_commit_faults, a_condition_on_a_full_or_read_only_disk_comes_to_nothing)
{
    struct world w;

    world_make(&w);
    if (in_child(&w, has_mounts) == NO_NAMESPACE) {
        remove_tree(w.root);
        cr_skip_test("needs root and a mount namespace, to mount a small disk");
    }
    cr_assert_eq(in_child(&w, lives_with_a_small_disk), 0);
    open_well(&w);
    flagshm_journal_close(w.journal);
    w.journal = NULL;
    cr_assert_eq(in_child(&w, lives_on_a_mount_that_turns_read_only), 0);
    world_end(&w);
}

Test(journal_commit_faults, who_waits_for_a_report_does_not_wait_for_the_next_try_in_time)
{
    struct world w;

    world_make(&w);
    write_file(w.dir, "a file where the directory should be", 36);
    open_journal(&w);
    pthread_mutex_lock(&w.journal->mutex);
    w.journal->store_trouble.retry_ns = flagshm_mono_ns() + 3600 * SECOND;
    pthread_mutex_unlock(&w.journal->mutex);
    commit_condition(&w, "a", "1", 1);
    cr_assert_eq(reported(&w, 1), -ENOTDIR);
    commit_state(&w, "a", "2", 2);
    cr_assert_eq(reported(&w, 2), -ENOTDIR);
    pthread_mutex_lock(&w.journal->mutex);
    cr_assert_gt(w.journal->store_trouble.retry_ns, flagshm_mono_ns() + 3500 * SECOND, "others still wait");
    pthread_mutex_unlock(&w.journal->mutex);
    unlink(w.dir);
    commit_condition(&w, "a", "3", 3);
    cr_assert_eq(reported(&w, 3), 0);
    cr_assert_str_eq(states(&w), "{\"a\":\"3\"}", "the one that waited came before");
    cr_assert_str_empty(health(&w));
    world_end(&w);
}

/* ---- a disk that takes the bytes and cannot say whether they stay ---- */

static int (*sync_well)(sqlite3_file *, int);
static sqlite3_io_methods unsure;
static sqlite3_vfs *well;
static _Atomic bool is_unsure;

static int sync_unsure(sqlite3_file *file, int flags)
{
    return is_unsure ? SQLITE_IOERR_FSYNC : sync_well(file, flags);
}

static int open_unsure(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    int code = well->xOpen(well, name, file, flags, out);

    (void)vfs;
    if (code == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0) {
        unsure = *file->pMethods;
        sync_well = unsure.xSync;
        unsure.xSync = sync_unsure;
        file->pMethods = &unsure;
    }
    return code;
}

static int dies_after_the_report(struct world *w)
{
    static sqlite3_vfs vfs;

    well = sqlite3_vfs_find(NULL);
    vfs = *well;
    vfs.zName = "unsure";
    vfs.xOpen = open_unsure;
    CHECK(sqlite3_vfs_register(&vfs, true) == SQLITE_OK);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0 && w->start.is_writable);
    commit_condition(w, "a", "before", 1);
    CHECK(reported(w, 1) == 0);
    is_unsure = true;
    commit_condition(w, "a", "given up", 2);
    CHECK(reported(w, 2) == -EIO);
    return 0;
}

Test(journal_commit_faults, a_condition_that_failed_at_the_last_step_is_not_found_after_a_sudden_death)
{
    struct world w;

    world_make(&w);
    cr_assert_eq(in_child(&w, dies_after_the_report), 0);
    open_well(&w);
    cr_assert_str_eq(states(&w), "{\"a\":\"before\"}");
    cr_assert_str_eq(told(&w, NULL, 10), "advance:before");
    world_end(&w);
}

static void commit_until_killed(struct world *w, int pipe_fd)
{
    char text[32];
    uint64_t i;

    if (flagshm_journal_open(&w->journal, w->dir, &w->start, NULL) != 0 || !w->start.is_writable)
        _exit(1);
    for (i = 1;; i++) {
        (void)snprintf(text, sizeof text, "%d", (int)i);
        commit_condition(w, "a", text, i);
        if (reported(w, i) != 0 || write(pipe_fd, &i, sizeof i) < 0)
            _exit(2);
    }
}

Test(journal_commit_faults, what_was_reported_outlives_a_sudden_death)
{
    struct world w;
    int round, pipe_fds[2];
    uint64_t last, number;
    pid_t child;

    world_make(&w);
    for (round = 0; round < 5; round++) {
        cr_assert_eq(pipe(pipe_fds), 0);
        child = fork();
        if (child == 0)
            commit_until_killed(&w, pipe_fds[1]);
        close(pipe_fds[1]);
        cr_assert_eq(read(pipe_fds[0], &last, sizeof last), (ssize_t)sizeof last);
        usleep((useconds_t)(round * 3700));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipe_fds[0], &number, sizeof number) == (ssize_t)sizeof number)
            last = number;
        close(pipe_fds[0]);
        open_well(&w);
        cr_assert_geq((uint64_t)seen(w.db, "SELECT CAST(body AS INTEGER) FROM state"), last);
        cr_assert_eq(seen(w.db, "SELECT max(CAST(detail AS INTEGER)) FROM event"),
                     seen(w.db, "SELECT CAST(body AS INTEGER) FROM state"), "the event came with the state");
        flagshm_journal_close(w.journal);
        remove_tree(w.dir);
    }
    open_well(&w);
    world_end(&w);
}

/* ---- damage ---- */

Test(journal_commit_faults, after_a_start_with_a_damaged_file_nothing_is_known)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    commit_state(&w, "a", "1", 0);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.setting = "frozen", .value = "yes"});
    flagshm_journal_close(w.journal);
    write_file(w.db, "this is not a data base at all, but it is long enough to look like a file", 73);
    open_journal(&w);
    cr_assert(w.start.is_writable && w.start.was_damaged);
    cr_assert_str_eq(states(&w), "{}");
    cr_assert_str_empty(notices(&w));
    cr_assert_null(flagshm_journal_setting(w.journal, "frozen"));
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
    world_end(&w);
}

/* Writes over the page where the states lie: once it is read from the file again, that shows. In a process of its own: whoever
 * closes a file lets go of the locks that the journal has on it. */
static void hurt_states(struct world *w)
{
    long long page = seen(w->db, "SELECT rootpage FROM sqlite_schema WHERE name = 'state'");
    long long bytes = seen(w->db, "PRAGMA page_size");
    char noise[4096];
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        memset(noise, 0xA5, sizeof noise);
        _exit(pwrite(open(w->db, O_WRONLY), noise, sizeof noise, (off_t)((page - 1) * bytes)) !=
              sizeof noise);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
}

/* Of another program: what the journal has read before is no longer taken for new. */
static void write_something(struct world *w)
{
    sqlite3 *db = NULL;

    cr_assert_eq(sqlite3_open(w->db, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "INSERT INTO number VALUES('x', 0)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

Test(journal_commit_faults, a_start_with_damaged_states_sets_the_file_aside_and_heeds_its_numbers)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 42, 6);
    commit_state(&w, "a", "1", 0);
    flagshm_journal_close(w.journal);
    hurt_states(&w);
    open_journal(&w);
    cr_assert(w.start.is_writable && w.start.was_damaged);
    cr_assert_eq(w.start.version, 42);
    cr_assert_str_eq(states(&w), "{}");
    commit_state(&w, "a", "2", 1);
    cr_assert_eq(reported(&w, 1), 0);
    reopen_well(&w);
    cr_assert_eq(w.start.version, 42);
    cr_assert_str_eq(states(&w), "{\"a\":\"2\"}");
    world_end(&w);
}

Test(journal_commit_faults, a_data_base_that_is_lost_while_the_server_runs_costs_no_state)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    commit_state(&w, "a", "latched", 0);
    commit_state(&w, "b", "1", 0);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.setting = "frozen", .value = "yes"});
    reopen_well(&w); /* known by reading as well as by writing */
    commit_state(&w, "b", "2", 0);
    commit_state(&w, "c", "3", 0);
    flagshm_journal_commit(w.journal, &(struct flagshm_journal_commit){.flag = "c", .is_forgotten = true});
    flush_well(&w);
    remove_tree(w.dir);
    event(&w, NOON, "kill", "a", "after");
    flush_well(&w);
    cr_assert_str_eq(told(&w, NULL, 10), "kill:after");
    reopen_well(&w);
    cr_assert_str_eq(states(&w), "{\"a\":\"latched\",\"b\":\"2\"}");
    cr_assert_str_eq(setting(&w, "frozen"), "yes");
    hurt_states(&w);
    write_something(&w);
    journal_suspect(w.journal); /* as a reader does who meets damage */
    flush(&w);
    cr_assert_not_null(strstr(health(&w), "set aside"));
    reopen_well(&w);
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
    cr_assert_str_eq(states(&w), "{\"a\":\"latched\",\"b\":\"2\"}");
    world_end(&w);
}

/* ---- an old journal that cannot be brought up to date ---- */

static int reads_what_it_cannot_write(struct world *w)
{
    CHECK(geteuid() != 0 || (setgroups(0, NULL) == 0 && setgid(54321) == 0 && setuid(54321) == 0));
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0 && !w->start.is_writable);
    CHECK(w->start.version == 12);
    CHECK(strcmp(told(w, NULL, 5), "kill:hurts,file:-") == 0);
    CHECK(strcmp(told(w, "a", 5), "kill:hurts") == 0);
    CHECK(strcmp(states(w), "{}") == 0 && strcmp(notices(w), "") == 0 &&
          strcmp(setting(w, "frozen"), "") == 0);
    flagshm_journal_close(w->journal);
    return 0;
}

Test(journal_commit_faults, an_old_journal_that_cannot_be_written_is_read_all_the_same)
{
    struct world w;

    world_make(&w);
    make_schema_1(&w, "");
    chmod(w.root, 0755);
    chmod(w.dir, 0500);
    if (geteuid() == 0)
        cr_assert(chown(w.dir, 54321, 54321) == 0 && chown(w.db, 54321, 54321) == 0);
    cr_assert_eq(in_child(&w, reads_what_it_cannot_write), 0);
    world_end(&w);
}
