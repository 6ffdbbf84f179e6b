/* test_journal_faults: damage, disks that do not serve, sudden death: nothing that was flushed is lost, and what is wrong is said. */
#include "tests/journal_fixture.h"

#include <grp.h>
#include <signal.h>

/* ---- damage ---- */

Test(journal_faults, a_damaged_file_is_set_aside_and_a_new_one_begun)
{
    static const struct {
        const char *text;
        size_t bytes;
    } cases[] = {{"this is not a data base at all, but it is long enough to look like a file", 73},
                 {"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20", 24}};
    struct world w;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world_make(&w);
        cr_assert_eq(mkdir(w.dir, 0700), 0);
        write_file(w.db, cases[i].text, cases[i].bytes);
        open_journal(&w);
        cr_assert(w.start.is_writable, "%s", w.error.text);
        cr_assert(w.start.was_damaged);
        cr_assert_not_null(strstr(w.error.text, "was damaged and is set aside as"), "%s", w.error.text);
        cr_assert_not_null(strstr(health(&w), "set aside"));
        cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
        event(&w, NOON, "kill", "a", "after");
        flush(&w);
        cr_assert_eq(memcmp(told(&w, NULL, 10), "kill:after,damaged:", 19), 0);
        reopen_well(&w);
        world_end(&w);
    }
}

Test(journal_faults, a_data_base_of_somebody_else_is_set_aside_too)
{
    struct world w;
    sqlite3 *db;

    world_make(&w);
    cr_assert_eq(mkdir(w.dir, 0700), 0);
    cr_assert_eq(sqlite3_open(w.db, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "CREATE TABLE event(x); INSERT INTO event VALUES(1)", NULL, NULL, NULL),
                 SQLITE_OK);
    sqlite3_close(db);
    open_journal(&w);
    cr_assert(w.start.is_writable && w.start.was_damaged, "%s", w.error.text);
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
    world_end(&w);
}

Test(journal_faults, a_journal_of_a_newer_release_is_left_alone_and_its_numbers_are_heeded)
{
    struct world w;
    sqlite3 *db;

    world_make(&w);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 12, 3);
    flagshm_journal_close(w.journal);
    cr_assert_eq(sqlite3_open(w.db, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "PRAGMA user_version=3", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    open_journal(&w);
    cr_assert_not(w.start.is_writable);
    cr_assert_not(w.start.was_damaged);
    cr_assert_eq(w.start.version, 12);
    cr_assert_eq(w.start.file_rev, 3);
    cr_assert_not_null(strstr(w.error.text, "newer flagshmd (schema 3, this one knows 2)"), "%s",
                       w.error.text);
    event(&w, NOON, "kill", "a", "kept in memory");
    flush(&w);
    cr_assert_not_null(strstr(health(&w), "newer flagshmd"));
    cr_assert_eq(seen(w.db, "PRAGMA user_version"), 3);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 1);
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged"), 0);
    cr_assert_eq(rename(w.db, "/tmp/flagshm-journal-moved"), 0); /* as the sentence bids */
    flush_well(&w);
    cr_assert_str_eq(told(&w, NULL, 5), "kill:kept in memory");
    cr_assert_eq(seen(w.db, "SELECT value FROM number WHERE name = 'version'"), 12);
    unlink("/tmp/flagshm-journal-moved");
    world_end(&w);
}

/* Writes over the middle of the file while nobody looks. */
static void hurt(const struct world *w)
{
    char noise[4096];
    struct stat status;
    int fd = open(w->db, O_WRONLY);
    off_t at;

    memset(noise, 0xA5, sizeof noise);
    cr_assert_eq(fstat(fd, &status), 0);
    for (at = 4096; at < status.st_size; at += 4096)
        cr_assert_eq(pwrite(fd, noise, sizeof noise, at), (ssize_t)sizeof noise);
    close(fd);
}

Test(journal_faults, damage_that_shows_later_is_met_by_whoever_finds_it)
{
    struct world w;
    char name[80] = "";
    int i;

    world_make(&w);
    open_well(&w);
    for (i = 0; i < 2000; i++) {
        (void)snprintf(name, sizeof name, "a-long-name-of-a-flag-that-takes-room-%d", i);
        event(&w, NOON, "kill", name, "x");
    }
    flagshm_journal_close(w.journal); /* all of it out of the log and in the file */
    hurt(&w);
    open_journal(&w);
    event(&w, NOON, "kill", "a", "after");
    flush(&w);
    if (!w.start.was_damaged) {
        cr_assert_null(flagshm_journal_history(w.journal, NULL, 10000));
        flush(&w);
    }
    cr_assert_eq(files_like(&w, "journal.sqlite.damaged-2"), 1);
    cr_assert_not_null(strstr(health(&w), "set aside"));
    event(&w, NOON, "kill", "a", "later");
    flush(&w);
    cr_assert_eq(memcmp(told(&w, NULL, 1), "kill:later", 11), 0);
    world_end(&w);
}

Test(journal_faults, what_is_no_file_is_said_and_left)
{
    struct world w;

    world_make(&w);
    cr_assert_eq(mkdir(w.dir, 0700), 0);
    cr_assert_eq(mkdir(w.db, 0700), 0);
    open_journal(&w);
    cr_assert_not(w.start.is_writable);
    cr_assert_not_null(strstr(w.error.text, "is not a file"), "%s", w.error.text);
    event(&w, NOON, "kill", "a", "x");
    cr_assert_null(flagshm_journal_history(w.journal, NULL, 10));
    world_end(&w);
}

/* ---- when the disk does not serve ---- */

Test(journal_faults, a_directory_that_goes_away_is_made_again)
{
    struct world w;

    world_make(&w);
    open_well(&w);
    event(&w, NOON, "kill", "a", "before");
    flush_well(&w);
    remove_tree(w.dir);
    event(&w, NOON, "kill", "a", "after");
    flagshm_journal_last_good(w.journal, "{}", 2);
    flush_well(&w);
    cr_assert_str_eq(told(&w, NULL, 10), "kill:after");
    cr_assert_eq(files_like(&w, "last-good.json"), 1);
    world_end(&w);
}

Test(journal_faults, a_queue_that_overflows_gives_up_the_oldest_and_says_how_many)
{
    struct world w;
    size_t bytes = 1 << 20;
    char *large = malloc(bytes), *text;
    int i;

    world_make(&w);
    write_file(w.dir, "a file where the directory should be", 36);
    open_journal(&w);
    cr_assert_not(w.start.is_writable);
    cr_assert_not_null(strstr(w.error.text, "is not a directory"), "%s", w.error.text);
    for (i = 1; i <= 130; i++) { /* two too many */
        memset(large, 'a' + i % 26, bytes);
        memcpy(large, &i, sizeof i);
        flagshm_journal_file(w.journal, NOON, (uint64_t)i, large, bytes, NULL);
    }
    for (i = 0; i < 9874; i++) /* four too many */
        event(&w, NOON, "kill", "a", "x");
    flagshm_journal_publish(w.journal, NOON, 77, 0);
    flagshm_journal_last_good(w.journal, "{}", 2);
    flush(&w);
    cr_assert_not_null(strstr(health(&w), "is not a directory"));
    unlink(w.dir);
    flush_well(&w);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM event"), 10001);
    cr_assert_eq(
        seen(w.db,
             "SELECT count(*) FROM event WHERE kind = 'lost' AND id = 1 AND detail LIKE '5 records and 2 "
             "texts%'"),
        1);
    cr_assert_eq(seen(w.db, "SELECT count(*) FROM text"), 125);
    cr_assert_eq(seen(w.db, "SELECT value FROM number WHERE name = 'version'"), 77);
    text = flagshm_journal_text(w.journal, 130, &bytes);
    cr_assert_not_null(text);
    cr_assert_eq(bytes, 1 << 20);
    cr_assert_eq(files_like(&w, "last-good.json"), 1);
    free(text);
    free(large);
    world_end(&w);
}

Test(journal_faults, a_lock_held_by_another_is_said_and_waited_for_and_readers_are_told_not_to_wait)
{
    struct world w;
    sqlite3 *other;
    int i;

    world_make(&w);
    open_well(&w);
    event(&w, NOON, "kill", "a", "before");
    flush_well(&w);
    cr_assert_eq(sqlite3_open(w.db, &other), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    event(&w, NOON, "kill", "a", "waits");
    cr_assert_not(flagshm_journal_flush(w.journal, 1300));
    cr_assert_null(flagshm_journal_history(w.journal, NULL, 10), "the thread hangs: nobody else shall");
    flush(&w);
    cr_assert_not_null(strstr(health(&w), "locked by another process"), "%s", health(&w));
    cr_assert_str_eq(told(&w, NULL, 10), "kill:before");
    cr_assert_eq(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    for (i = 0; i < 100 && health(&w)[0] != '\0'; i++) /* by itself: nobody asks for it */
        usleep(100000);
    cr_assert_str_empty(health(&w));
    cr_assert_str_eq(told(&w, NULL, 10), "kill:waits,kill:before");
    world_end(&w);
}

static int lives_with_a_closed_directory(struct world *w)
{
    char text[2200];

    CHECK(geteuid() != 0 || (setgroups(0, NULL) == 0 && setgid(54321) == 0 && setuid(54321) == 0));
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0);
    CHECK(!w->start.is_writable);
    CHECK(w->start.version == 5 && w->start.file_rev == 2);
    CHECK(strstr(w->error.text, "permission denied") != NULL);
    flagshm_journal_event(w->journal, NOON, "kill", "a", "ann", "meanwhile");
    flagshm_journal_last_good(w->journal, "{}", 2);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(strstr(text, "journal.sqlite cannot be written: permission denied") != NULL);
    CHECK(strstr(text, "last-good.json cannot be written") != NULL);
    CHECK(strcmp(told(w, NULL, 5), "publish:-") == 0);
    CHECK(chmod(w->dir, 0700) == 0);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(text[0] == '\0');
    CHECK(strcmp(told(w, NULL, 5), "kill:meanwhile,publish:-") == 0);
    flagshm_journal_close(w->journal);
    return 0;
}

Test(journal_faults, a_directory_that_is_closed_is_said_read_all_the_same_and_used_when_it_opens)
{
    struct world w;

    world_make(&w);
    chmod(w.root, 0755);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 5, 2);
    flagshm_journal_close(w.journal);
    w.journal = NULL;
    chmod(w.dir, 0500);
    if (geteuid() == 0)
        cr_assert(chown(w.dir, 54321, 54321) == 0 && chown(w.db, 54321, 54321) == 0);
    cr_assert_eq(in_child(&w, lives_with_a_closed_directory), 0);
    world_end(&w);
}

static int lives_with_a_small_disk(struct world *w)
{
    char path[120], text[2200], *large = calloc(1, 100000);
    cJSON *events;
    int i, count;

    if (!has_mounts_of_its_own())
        return NO_NAMESPACE;
    CHECK(mkdir(w->dir, 0700) == 0 && mount("none", w->dir, "tmpfs", 0, "size=2m") == 0);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0 && w->start.is_writable);
    flagshm_journal_last_good(w->journal, "old", 3);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    fill_disk(w);
    for (i = 0; i < 20; i++) {
        (void)snprintf(large, 100000, "%d", i);
        flagshm_journal_file(w->journal, NOON, (uint64_t)i + 1, large, 40000, NULL);
        flagshm_journal_event(w->journal, NOON, "kill", "a", "ann", "x");
    }
    flagshm_journal_last_good(w->journal, large, 100000);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(strstr(text, "the disk is full") != NULL && strstr(text, "last-good.json") != NULL);
    (void)snprintf(path, sizeof path, "%s/last-good.json.new", w->dir);
    CHECK(access(path, F_OK) != 0);
    (void)snprintf(path, sizeof path, "%s/last-good.json", w->dir);
    i = open(path, O_RDONLY);
    CHECK(read(i, text, 100) == 3 && memcmp(text, "old", 3) == 0);
    close(i);
    flagshm_journal_close(w->journal); /* a server that starts on a full disk */
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0);
    CHECK(strstr(w->error.text, "the disk is full") != NULL && !w->start.is_writable &&
          !w->start.was_damaged);
    for (i = 0; i < 20; i++)
        flagshm_journal_event(w->journal, NOON, "kill", "a", "ann", "waits");
    flagshm_journal_last_good(w->journal, "new!", 4);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    (void)snprintf(path, sizeof path, "%s/filler", w->dir);
    CHECK(unlink(path) == 0);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(text[0] == '\0');
    events = flagshm_journal_history(w->journal, NULL, 100);
    count = cJSON_GetArraySize(events);
    CHECK(count == 20);
    cJSON_Delete(events);
    flagshm_journal_close(w->journal);
    free(large);
    return 0;
}

Test(journal_faults, a_full_disk_is_said_and_what_waited_is_written_when_there_is_room)
{
    struct world w;
    int code;

    world_make(&w);
    code = in_child(&w, lives_with_a_small_disk);
    remove_tree(w.root);
    if (code == NO_NAMESPACE)
        cr_skip_test("needs root and a mount namespace, to mount a small disk");
    cr_assert_eq(code, 0);
}

static int lives_on_a_read_only_mount(struct world *w)
{
    char text[2200];

    if (!has_mounts_of_its_own())
        return NO_NAMESPACE;
    CHECK(mount(w->dir, w->dir, NULL, MS_BIND, NULL) == 0);
    CHECK(mount(NULL, w->dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error) == 0);
    CHECK(!w->start.is_writable && w->start.version == 5);
    CHECK(strstr(w->error.text, "its file system is read-only") != NULL);
    flagshm_journal_last_good(w->journal, "{}", 2);
    CHECK(flagshm_journal_flush(w->journal, 5000));
    flagshm_journal_health(w->journal, text, sizeof text);
    CHECK(strstr(text, "last-good.json cannot be written: Read-only file system") != NULL);
    flagshm_journal_close(w->journal);
    return 0;
}

Test(journal_faults, a_read_only_file_system_is_said)
{
    struct world w;
    int code;

    world_make(&w);
    open_well(&w);
    flagshm_journal_publish(w.journal, NOON, 5, 2);
    flagshm_journal_close(w.journal);
    w.journal = NULL;
    code = in_child(&w, lives_on_a_read_only_mount);
    world_end(&w);
    if (code == NO_NAMESPACE)
        cr_skip_test("needs root and a mount namespace, to mount read-only");
    cr_assert_eq(code, 0);
}

/* ---- sudden death ---- */

/* Writes events one by one and tells through the pipe which are on the disk, until it is killed. */
static void write_until_killed(const struct world *w, int pipe_fd)
{
    struct flagshm_journal_start start;
    struct flagshm_journal *journal;
    char detail[32];
    int i;

    if (flagshm_journal_open(&journal, w->dir, &start, NULL) != 0 || !start.is_writable)
        _exit(1);
    for (i = 1;; i++) {
        (void)snprintf(detail, sizeof detail, "%d", i);
        flagshm_journal_event(journal, NOON, "kill", "a", "ann", detail);
        flagshm_journal_file(journal, NOON, (uint64_t)i, detail, strlen(detail), NULL);
        flagshm_journal_publish(journal, NOON, (uint64_t)i, (uint64_t)i);
        if (i % 3 == 0 && (!flagshm_journal_flush(journal, 10000) || write(pipe_fd, &i, sizeof i) < 0))
            _exit(2);
    }
}

Test(journal_faults, a_sudden_death_loses_nothing_that_was_flushed)
{
    struct world w;
    int round, last, number, pipe_fds[2];
    char sql[100];
    pid_t child;

    world_make(&w);
    for (round = 0; round < 8; round++) {
        cr_assert_eq(pipe(pipe_fds), 0);
        child = fork();
        if (child == 0)
            write_until_killed(&w, pipe_fds[1]);
        close(pipe_fds[1]);
        cr_assert_eq(read(pipe_fds[0], &last, sizeof last), (ssize_t)sizeof last);
        usleep((useconds_t)(round * 3700));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipe_fds[0], &number, sizeof number) == (ssize_t)sizeof number)
            last = number;
        close(pipe_fds[0]);
        open_well(&w);
        cr_assert_geq(w.start.version, (uint64_t)last);
        (void)snprintf(sql, sizeof sql,
                       "SELECT count(DISTINCT detail) FROM event WHERE kind = 'kill' AND "
                       "CAST(detail AS INTEGER) <= %d",
                       last);
        cr_assert_eq(seen(w.db, sql), last);
        cr_assert_eq(seen(w.db, "SELECT count(*) FROM event WHERE text NOT IN (SELECT id FROM text)"), 0);
        flagshm_journal_close(w.journal);
        remove_tree(w.dir);
    }
    open_well(&w);
    world_end(&w);
}
