/* bench_read: reading one flag's percentage here and elsewhere, among 10, 1000 and 100 000 flags. */
#include "tests/bench_common.h"

enum { SHARE_REF, SHARE_NAME, DECIDE, RWLOCK, LMDB, SQLITE, JSON, REDIS, OPS };

static void say(const struct bench_op *op, bool is_shuffled, bool has_redis)
{
    const char *ours = "ours, resolved";

    bench_row_plain(&op[SHARE_REF]);
    bench_row_times(&op[SHARE_NAME], &op[SHARE_REF], ours, 0);
    bench_row_times(&op[DECIDE], &op[SHARE_REF], ours, 0);
    bench_row_rival(&op[RWLOCK], &op[SHARE_REF], ours, 0);
    bench_row_rival(&op[LMDB], &op[SHARE_REF], ours, is_shuffled ? 0 : 20);
    bench_row_rival(&op[SQLITE], &op[SHARE_REF], ours, 0);
    if (has_redis)
        bench_row_rival(&op[REDIS], &op[SHARE_REF], ours, is_shuffled ? 0 : 1500);
    bench_row_rival(&op[JSON], &op[SHARE_REF], ours, 0);
}

static void compare(struct bench_store *store, struct bench_rivals *rivals, bool is_shuffled,
                    const struct bench_effort *effort)
{
    bool has_redis = bench_rivals_have_redis(rivals);
    struct bench_reader reader;
    struct bench_rival_reader rival = {rivals, is_shuffled, 0};
    struct bench_rwlock_reader rwlock = {bench_rivals_rwlock(rivals), store, is_shuffled, 0};
    struct bench_op ops[OPS] = {
        [SHARE_REF] = {.what = "percentage, resolved flag", .run = bench_run_share_ref, .context = &reader},
        [SHARE_NAME] = {.what = "percentage, by name", .run = bench_run_share_name, .context = &reader},
        [DECIDE] = {.what = "decision, by name", .run = bench_run_decide_name, .context = &reader},
        [RWLOCK] = {.what = "process-shared rwlock, by number", .run = bench_run_rwlock, .context = &rwlock},
        [LMDB] = {.what = "LMDB get, fresh read transaction", .run = bench_run_lmdb, .context = &rival},
        [SQLITE] = {.what = "SQLite prepared SELECT", .run = bench_run_sqlite, .context = &rival},
        [JSON] = {.what = "read and parse the file (cJSON)", .run = bench_run_json, .context = &rival},
        [REDIS] = {.what = "Redis GET, unix socket, same core",
                   .run = bench_run_redis,
                   .context = &rival,
                   .waits = true},
    };

    bench_reader_open(&reader, store, BENCH_FLAG, is_shuffled);
    bench_interleave(ops, has_redis ? OPS : REDIS, effort);
    bench_group("%zu flags, %s", store->count,
                is_shuffled ? "a random one each time" : "the same one each time");
    say(ops, is_shuffled, has_redis);
    if (reader.doubts != 0)
        bench_die("decisions ended with an error");
    bench_reader_close(&reader);
}

void bench_group_read(const struct bench_setup *setup)
{
    static const size_t counts[] = {10, 1000, 100000};
    const struct bench_effort effort = {setup->is_quick ? 5 : 11, setup->is_quick ? 3e6 : 8e6};
    struct bench_store store;
    struct bench_rivals *rivals;
    size_t i;

    for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        bench_progress("reading, %zu flags", counts[i]);
        bench_store_open(&store, setup, counts[i]);
        rivals = bench_rivals_open(setup, &store);
        compare(&store, rivals, false, &effort);
        compare(&store, rivals, true, &effort);
        bench_rivals_close(rivals);
        bench_store_close(&store);
    }
    if (setup->redis_socket == NULL)
        bench_note("Redis was not measured: no redis-server");
}
