/* journal_fixture: a state directory with a journal, and what of it can be seen from outside. */
#ifndef FLAGSHM_TESTS_JOURNAL_FIXTURE_H
#define FLAGSHM_TESTS_JOURNAL_FIXTURE_H

#include "server/journal.h"
#include "server/journal_store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define DAY    (86400 * SECOND)
#define NOON   UINT64_C(1764072000123456789) /* 2025-11-25T12:00:00.123 */

struct world {
    char root[64], dir[80], db[120];
    struct flagshm_journal *journal;
    struct flagshm_journal_start start;
    struct flagshm_error error;
};

static inline void world_make(struct world *w)
{
    memset(w, 0, sizeof *w);
    /* not in TMPDIR: a fixed room for a short name, in a place that a test which becomes another user can enter */
    (void)snprintf(w->root, sizeof w->root, "/tmp/flagshm-journal-XXXXXX");
    cr_assert_not_null(mkdtemp(w->root));
    (void)snprintf(w->dir, sizeof w->dir, "%s/state", w->root);
    (void)snprintf(w->db, sizeof w->db, "%s/journal.sqlite", w->dir);
}

static inline void open_journal(struct world *w)
{
    w->error.text[0] = '\0';
    cr_assert_eq(flagshm_journal_open(&w->journal, w->dir, &w->start, &w->error), 0, "%s", w->error.text);
}

static inline void open_well(struct world *w)
{
    open_journal(w);
    cr_assert(w->start.is_writable, "%s", w->error.text);
    cr_assert_str_empty(w->error.text);
}

static inline void reopen_well(struct world *w)
{
    flagshm_journal_close(w->journal);
    open_well(w);
}

static inline int remove_one(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status;
    (void)kind;
    (void)at;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void world_end(struct world *w)
{
    flagshm_journal_close(w->journal);
    remove_tree(w->root);
}

static inline void flush(struct world *w)
{
    cr_assert(flagshm_journal_flush(w->journal, 20000));
}

static inline const char *health(struct world *w)
{
    static char text[2200];

    flagshm_journal_health(w->journal, text, sizeof text);
    return text;
}

static inline void flush_well(struct world *w)
{
    flush(w);
    cr_assert_str_empty(health(w));
}

static inline void event(struct world *w, uint64_t time_ns, const char *kind, const char *flag,
                         const char *detail)
{
    flagshm_journal_event(w->journal, time_ns, kind, flag, "ann", detail);
}

static inline void file(struct world *w, uint64_t time_ns, uint64_t file_rev, const char *text)
{
    flagshm_journal_file(w->journal, time_ns, file_rev, text, strlen(text), NULL);
}

/* The history as "kind:detail,kind:detail,...". Also called in children, where an assert would wait for ever. */
static inline const char *told(struct world *w, const char *flag, size_t limit)
{
    static char text[4096];
    cJSON *events = flagshm_journal_history(w->journal, flag, limit), *one;
    size_t at = 0;

    (void)snprintf(text, sizeof text, "%s", events != NULL ? "" : "unreadable");
    cJSON_ArrayForEach(one, events)
    {
        const char *detail = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "detail"));

        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s:%s", at > 0 ? "," : "",
                               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "kind")),
                               detail != NULL ? detail : "-");
    }
    cJSON_Delete(events);
    return text;
}

/* What another program sees in the file. */
static inline long long seen(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    long long number = -1;

    cr_assert_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    if (sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

static inline void write_file(const char *path, const char *text, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    cr_assert_eq(write(fd, text, bytes), (ssize_t)bytes);
    close(fd);
}

/* How many files of the state directory begin with `prefix`. */
static inline int files_like(const struct world *w, const char *prefix)
{
    char command[300], answer[32] = "";
    FILE *pipe;

    (void)snprintf(command, sizeof command, "ls -A %s | grep -c '^%s'", w->dir, prefix);
    pipe = popen(command, "r");
    cr_assert_not_null(fgets(answer, sizeof answer, pipe));
    pclose(pipe);
    return atoi(answer);
}

/* ---- what needs a process of its own ---- */

static inline int in_child(struct world *w, int (*work)(struct world *w))
{
    pid_t child = fork();
    int status = -1;

    if (child == 0)
        _exit(work(w));
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "the child died of signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* In a child criterion's asserts do not reach the test. */
#define NO_NAMESPACE 77
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                    \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

static inline bool has_mounts_of_its_own(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* Until nothing more goes into the state directory's file system; `filler` is the file to remove. */
static inline void fill_disk(const struct world *w)
{
    static const char page[4096];
    char path[120];
    int fd;

    (void)snprintf(path, sizeof path, "%s/filler", w->dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    while (write(fd, page, sizeof page) > 0)
        continue;
    close(fd);
}

#endif
