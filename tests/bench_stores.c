/* bench_stores: where flags might be kept instead, each used as its makers advise for fast reads, on the same tmpfs:
 * LMDB (a fresh read transaction each time, so that it sees what was written last), SQLite (a prepared statement, WAL,
 * mapped memory), Redis over its unix socket, a table under a process-shared rwlock, and the flag file itself, read and
 * parsed by cJSON each time. */
#include "tests/bench_common.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <lmdb.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct rwlock_table {
    pthread_rwlock_t lock;
    uint32_t shares[];
};

struct bench_rivals {
    const struct bench_store *store;
    struct rwlock_table *rwlock;
    size_t rwlock_bytes;
    MDB_env *env;
    MDB_dbi dbi;
    sqlite3 *sqlite;
    sqlite3_stmt *select;
    redisContext *redis;
    char lmdb_path[300], sqlite_path[300];
};

/* ---- making them ---- */

static void make_rwlock(struct bench_rivals *r)
{
    pthread_rwlockattr_t attributes;

    r->rwlock_bytes = sizeof *r->rwlock + r->store->count * sizeof r->rwlock->shares[0];
    r->rwlock = mmap(NULL, r->rwlock_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r->rwlock == MAP_FAILED)
        bench_die("no memory");
    memcpy(r->rwlock->shares, r->store->shares, r->store->count * sizeof r->rwlock->shares[0]);
    if (pthread_rwlockattr_init(&attributes) != 0 ||
        pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_rwlock_init(&r->rwlock->lock, &attributes) != 0)
        bench_die("no process-shared rwlock");
    pthread_rwlockattr_destroy(&attributes);
}

static void lmdb(int error)
{
    if (error != 0)
        bench_die("LMDB: %s", mdb_strerror(error));
}

static void make_lmdb(struct bench_rivals *r, const struct bench_setup *setup)
{
    MDB_txn *txn;
    size_t i;

    (void)snprintf(r->lmdb_path, sizeof r->lmdb_path, "%s/lmdb", setup->dir);
    lmdb(mdb_env_create(&r->env));
    lmdb(mdb_env_set_mapsize(r->env, (size_t)256 << 20));
    lmdb(mdb_env_open(r->env, r->lmdb_path, MDB_NOSUBDIR | MDB_NOSYNC, 0600));
    lmdb(mdb_txn_begin(r->env, NULL, 0, &txn));
    lmdb(mdb_dbi_open(txn, NULL, 0, &r->dbi));
    for (i = 0; i < r->store->count; i++) {
        MDB_val key = {strlen(r->store->names[i]), r->store->names[i]};
        MDB_val value = {sizeof r->store->shares[i], &r->store->shares[i]};

        lmdb(mdb_put(txn, r->dbi, &key, &value, 0));
    }
    lmdb(mdb_txn_commit(txn));
}

static void sqlite(struct bench_rivals *r, const char *sql)
{
    if (sqlite3_exec(r->sqlite, sql, NULL, NULL, NULL) != SQLITE_OK)
        bench_die("SQLite: %s", sqlite3_errmsg(r->sqlite));
}

static void make_sqlite(struct bench_rivals *r, const struct bench_setup *setup)
{
    sqlite3_stmt *insert = NULL;
    size_t i;

    (void)snprintf(r->sqlite_path, sizeof r->sqlite_path, "%s/flags.sqlite", setup->dir);
    if (sqlite3_open_v2(r->sqlite_path, &r->sqlite,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        bench_die("SQLite: %s", sqlite3_errmsg(r->sqlite));
    sqlite(r, "PRAGMA journal_mode=WAL; PRAGMA mmap_size=268435456;"
              "CREATE TABLE flag(name TEXT PRIMARY KEY, share INTEGER) WITHOUT ROWID; BEGIN");
    if (sqlite3_prepare_v2(r->sqlite, "INSERT INTO flag VALUES(?,?)", -1, &insert, NULL) != SQLITE_OK)
        bench_die("SQLite: %s", sqlite3_errmsg(r->sqlite));
    for (i = 0; i < r->store->count; i++) {
        sqlite3_bind_text(insert, 1, r->store->names[i], -1, SQLITE_STATIC);
        sqlite3_bind_int(insert, 2, (int)r->store->shares[i]);
        if (sqlite3_step(insert) != SQLITE_DONE)
            bench_die("SQLite: %s", sqlite3_errmsg(r->sqlite));
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    sqlite(r, "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
    if (sqlite3_prepare_v3(r->sqlite, "SELECT share FROM flag WHERE name=?", -1, SQLITE_PREPARE_PERSISTENT,
                           &r->select, NULL) != SQLITE_OK)
        bench_die("SQLite: %s", sqlite3_errmsg(r->sqlite));
}

static void redis_answer(struct bench_rivals *r)
{
    redisReply *reply = NULL;

    if (redisGetReply(r->redis, (void **)&reply) != REDIS_OK || reply->type == REDIS_REPLY_ERROR)
        bench_die("Redis: %s", reply != NULL ? reply->str : r->redis->errstr);
    freeReplyObject(reply);
}

static void make_redis(struct bench_rivals *r, const struct bench_setup *setup)
{
    size_t i, asked = 0;

    r->redis = redisConnectUnix(setup->redis_socket);
    if (r->redis == NULL || r->redis->err != 0)
        bench_die("Redis: %s: %s", setup->redis_socket, r->redis != NULL ? r->redis->errstr : "no memory");
    redisAppendCommand(r->redis, "FLUSHALL");
    redis_answer(r);
    for (i = 0; i < r->store->count; i++) {
        redisAppendCommand(r->redis, "SET %s %u", r->store->names[i], (unsigned)r->store->shares[i]);
        if (++asked == 1000 || i + 1 == r->store->count)
            for (; asked > 0; asked--)
                redis_answer(r);
    }
}

struct bench_rivals *bench_rivals_open(const struct bench_setup *setup, const struct bench_store *store)
{
    struct bench_rivals *r = calloc(1, sizeof *r);

    if (r == NULL)
        bench_die("no memory");
    r->store = store;
    make_rwlock(r);
    make_lmdb(r, setup);
    make_sqlite(r, setup);
    if (setup->redis_socket != NULL)
        make_redis(r, setup);
    return r;
}

static void remove_with(const char *path, const char *ending)
{
    char beside[320];

    (void)snprintf(beside, sizeof beside, "%s%s", path, ending);
    (void)unlink(beside);
}

void bench_rivals_close(struct bench_rivals *r)
{
    pthread_rwlock_destroy(&r->rwlock->lock);
    (void)munmap(r->rwlock, r->rwlock_bytes);
    mdb_env_close(r->env);
    sqlite3_finalize(r->select);
    sqlite3_close(r->sqlite);
    if (r->redis != NULL)
        redisFree(r->redis);
    remove_with(r->lmdb_path, "");
    remove_with(r->lmdb_path, "-lock");
    remove_with(r->sqlite_path, "");
    remove_with(r->sqlite_path, "-wal");
    remove_with(r->sqlite_path, "-shm");
    free(r);
}

bool bench_rivals_have_redis(const struct bench_rivals *r)
{
    return r->redis != NULL;
}

void *bench_rivals_rwlock(struct bench_rivals *r)
{
    return r->rwlock;
}

/* ---- reading them: a flag's share by its name; the rwlock's table by its number, which is less work ---- */

static size_t next_number(struct bench_rival_reader *reader)
{
    const struct bench_store *store = reader->rivals->store;
    size_t at = reader->at;

    if (!reader->is_shuffled)
        return BENCH_FLAG;
    reader->at = at + 1 < store->count ? at + 1 : 0;
    return store->order[at];
}

static void check(const struct bench_rivals *r, size_t number, uint32_t share, const char *who)
{
    if (share != r->store->shares[number])
        bench_die("%s says %u %% for %s, the file says %u %%", who, (unsigned)share, r->store->names[number],
                  (unsigned)r->store->shares[number]);
}

void bench_run_rwlock(void *context, size_t n)
{
    struct bench_rwlock_reader *r = context;
    struct rwlock_table *table = r->table;
    size_t zero = bench_zero(), hang = 0, i;

    for (i = 0; i < n; i++) {
        size_t at = BENCH_FLAG;

        if (r->is_shuffled) {
            at = r->store->order[r->at];
            r->at = r->at + 1 < r->store->count ? r->at + 1 : 0;
        }
        pthread_rwlock_rdlock(&table->lock);
        hang = table->shares[at + hang] & zero;
        pthread_rwlock_unlock(&table->lock);
    }
    __asm__ volatile("" : : "r"(hang));
}

void bench_run_lmdb(void *context, size_t n)
{
    struct bench_rival_reader *reader = context;
    struct bench_rivals *r = reader->rivals;
    size_t i;

    for (i = 0; i < n; i++) {
        size_t number = next_number(reader);
        MDB_val key = {strlen(r->store->names[number]), r->store->names[number]}, value;
        MDB_txn *txn;
        uint32_t share;

        if (mdb_txn_begin(r->env, NULL, MDB_RDONLY, &txn) != 0 || mdb_get(txn, r->dbi, &key, &value) != 0)
            bench_die("LMDB cannot read");
        memcpy(&share, value.mv_data, sizeof share);
        mdb_txn_abort(txn);
        check(r, number, share, "LMDB");
    }
}

void bench_run_sqlite(void *context, size_t n)
{
    struct bench_rival_reader *reader = context;
    struct bench_rivals *r = reader->rivals;
    size_t i;

    for (i = 0; i < n; i++) {
        size_t number = next_number(reader);

        sqlite3_bind_text(r->select, 1, r->store->names[number], -1, SQLITE_STATIC);
        if (sqlite3_step(r->select) != SQLITE_ROW)
            bench_die("SQLite cannot read: %s", sqlite3_errmsg(r->sqlite));
        check(r, number, (uint32_t)sqlite3_column_int(r->select, 0), "SQLite");
        sqlite3_reset(r->select);
    }
}

void bench_run_redis(void *context, size_t n)
{
    struct bench_rival_reader *reader = context;
    struct bench_rivals *r = reader->rivals;
    size_t i;

    for (i = 0; i < n; i++) {
        size_t number = next_number(reader);
        redisReply *reply = redisCommand(r->redis, "GET %s", r->store->names[number]);

        if (reply == NULL || reply->type != REDIS_REPLY_STRING)
            bench_die("Redis cannot read: %s", r->redis->errstr);
        check(r, number, (uint32_t)strtoul(reply->str, NULL, 10), "Redis");
        freeReplyObject(reply);
    }
}

static char *read_file(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;

    if (fd >= 0 && fstat(fd, &status) == 0 && (text = malloc((size_t)status.st_size + 1)) != NULL) {
        if (read(fd, text, (size_t)status.st_size) == status.st_size) {
            text[status.st_size] = '\0';
        } else {
            free(text);
            text = NULL;
        }
    }
    if (fd >= 0)
        (void)close(fd);
    return text;
}

void bench_run_json(void *context, size_t n)
{
    struct bench_rival_reader *reader = context;
    struct bench_rivals *r = reader->rivals;
    size_t i;

    for (i = 0; i < n; i++) {
        size_t number = next_number(reader);
        char *text = read_file(r->store->file_path);
        cJSON *root = text != NULL ? cJSON_Parse(text) : NULL;
        const cJSON *flags = cJSON_GetObjectItemCaseSensitive(root, "flags");
        const cJSON *flag = cJSON_GetObjectItemCaseSensitive(flags, r->store->names[number]);
        const cJSON *share = cJSON_GetObjectItemCaseSensitive(flag, "rollout_pct");

        if (!cJSON_IsNumber(share))
            bench_die("%s cannot be read", r->store->file_path);
        if (number != BENCH_FLAG) /* the text written last has it at 6 % */
            check(r, number, (uint32_t)share->valuedouble, "the file");
        cJSON_Delete(root);
        free(text);
    }
}
