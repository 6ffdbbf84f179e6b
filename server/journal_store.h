/* journal_store: the journal's SQLite file: making, writing, keeping it small. On the journal's thread (and at the start).
 *
 * Only the journal's own files and the tests use it.
 */
#ifndef FLAGSHM_SERVER_JOURNAL_STORE_H
#define FLAGSHM_SERVER_JOURNAL_STORE_H

#include "server/error.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_SCHEMA 2

struct journal_report;

struct journal_record {
    struct journal_record *next;
    uint64_t time_ns;           /* CLOCK_REALTIME */
    uint64_t file_rev, version; /* 0: none */
    /* Any may be NULL; they lie behind the record. Without a kind it is no event. */
    const char *kind, *flag, *user, *detail, *faults, *numbers;
    char *text; /* of a file; NULL: none, or lost; owned */
    size_t text_bytes;
    bool is_text_lost;

    /* What lasts: the flag's state, the setting's word, the notices. */
    const char *state, *setting, *value, *notice_id, *notice;
    const char *const *targets;
    size_t target_count;
    bool is_forgotten;             /* the flag's state is taken out */
    bool is_notice_done;           /* the notice is taken out for these targets */
    bool is_condition;             /* given up where it cannot be written at once */
    bool is_refused;               /* the schema could not hold it */
    struct journal_report *report; /* somebody waits for the first try; owned */
};

struct journal_limits {
    uint64_t age_ns, bytes;
};
#define JOURNAL_LIMITS                                                                                       \
    (struct journal_limits)                                                                                  \
    {                                                                                                        \
        .age_ns = UINT64_C(90) * 86400 * 1000000000, .bytes = UINT64_C(256) << 20                            \
    }

enum journal_statement {
    JOURNAL_FIND_TEXT,
    JOURNAL_PUT_TEXT,
    JOURNAL_PUT_EVENT,
    JOURNAL_PUT_NUMBER,
    JOURNAL_PUT_STATE,
    JOURNAL_DROP_STATE,
    JOURNAL_PUT_SETTING,
    JOURNAL_DROP_SETTING,
    JOURNAL_PUT_NOTICE,
    JOURNAL_DROP_NOTICE,
    JOURNAL_BEGIN_RECORD,
    JOURNAL_UNDO_RECORD,
    JOURNAL_END_RECORD,
    JOURNAL_STATEMENTS
};

struct journal_store {
    sqlite3 *db; /* NULL: not open */
    sqlite3_stmt *statements[JOURNAL_STATEMENTS];
    char path[1100];
    uint64_t version, file_rev; /* the highest ever, as they were found */
    bool was_damaged;
    char damaged[1200]; /* what the old file is called now */
};

/* Makes the directory and the file where they are missing, sets a damaged file aside, proves by a write that it can be written.
 * 0; -EPROTO: of a newer release; -ENOSPC, -EROFS, -EACCES, -EBUSY, -errno: the sentence says what is wrong and the mend. After a
 * failure version and file_rev are nevertheless filled where they can be read. */
int journal_store_open(struct journal_store *store, const char *state_dir, struct flagshm_error *error);
void journal_store_close(struct journal_store *store);

/* For journal_store_open. */
int journal_write_prepare(struct journal_store *store, struct flagshm_error *error);
/* Shows by a write whether it can be written, and puts something harmless where a failed write may have left its bytes. */
int journal_write_prove(struct journal_store *store, struct flagshm_error *error);
/* Writes all records in one transaction, with the highest numbers; returns when they are on the disk. A record that the schema
 * cannot hold is passed over as a whole, marked, and counted in *refused. 0; -EBADMSG: damaged; else as above, and nothing is
 * written, nor found there after a sudden death. */
int journal_store_write(struct journal_store *store, struct journal_record *records, uint64_t version,
                        uint64_t file_rev, size_t *refused, struct flagshm_error *error);
/* Forgets what is too old or too much; never the text of the newest accepted file. */
int journal_store_prune(struct journal_store *store, uint64_t now_ns, const struct journal_limits *limits,
                        struct flagshm_error *error);
/* False where the file was moved or removed under us. */
bool journal_store_is_in_place(struct journal_store *store);
/* 0 or -EBADMSG: reads all of it. */
int journal_store_check(struct journal_store *store, struct flagshm_error *error);
/* Closes; the file and its log get the name `damaged`. */
int journal_store_set_aside(struct journal_store *store, struct flagshm_error *error);

/* Runs statements that give no rows, or whose rows nobody wants. */
int journal_store_run(struct journal_store *store, const char *sql, struct flagshm_error *error);
/* The first number of the first row; *number stays where there is none. */
int journal_store_ask(struct journal_store *store, const char *sql, int64_t *number,
                      struct flagshm_error *error);
/* The sentence of the connection's last failure, and its -errno. `code`: what SQLite returned. */
int journal_store_fail(sqlite3 *db, int code, const char *path, struct flagshm_error *error);

/* A connection for reading alone: the usual one, or where that cannot be (a read-only directory) one that takes the file as
 * unchanging. NULL: neither. */
sqlite3 *journal_read_open(const char *path);
/* The file's schema; 0: it is empty, or that cannot be read. */
int64_t journal_read_schema(sqlite3 *db);
/* The highest numbers, by such a connection; 0 where they cannot be read. */
void journal_read_numbers(sqlite3 *db, uint64_t *version, uint64_t *file_rev);

#endif
