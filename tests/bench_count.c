/* bench_count: runs each operation between two marks for valgrind's callgrind, which counts the instructions between
 * them: a measure that no busy neighbour moves. tests/bench --callgrind reads what it writes. */
#include "tests/bench_common.h"

#include <valgrind/callgrind.h>

#define TIMES 1000

static void count(const char *what, void (*run)(void *context, size_t n), void *context)
{
    run(context, 300); /* attached, resolved, bound */
    CALLGRIND_ZERO_STATS;
    run(context, TIMES);
    CALLGRIND_DUMP_STATS_AT(what);
}

int bench_count(const struct bench_setup *setup)
{
    struct bench_store store;
    struct bench_reader hot, nobody, all, objects;
    struct bench_hash *hash;
    struct bench_batch *batch;
    struct bench_record *record;

    if (RUNNING_ON_VALGRIND == 0)
        bench_die("--count runs under valgrind --tool=callgrind");
    bench_store_open(&store, setup, 10);
    bench_reader_open(&hot, &store, BENCH_FLAG, false);
    bench_reader_open(&nobody, &store, BENCH_FLAG_NOBODY, false);
    bench_reader_open(&all, &store, BENCH_FLAG_ALL, false);
    bench_reader_open(&objects, &store, BENCH_FLAG_OBJECTS, false);
    hash = bench_hash_open(store.names[BENCH_FLAG]);
    count("bare MD5 block", bench_run_block, hash);
    count("OpenSSL EVP_Digest", bench_run_evp, hash);
    count("OpenSSL, context reused", bench_run_evp_reused, hash);
    count("percentage, resolved flag", bench_run_share_ref, &hot);
    count("percentage, by name", bench_run_share_name, &hot);
    count("decision, by name", bench_run_decide_name, &hot);
    count("decision, resolved flag", bench_run_decide_ref, &hot);
    count("decision, by name, flag at 0 %", bench_run_decide_name, &nobody);
    count("decision, by name, flag at 100 %", bench_run_decide_name, &all);
    count("decision, by name, 150-byte value", bench_run_decide_name, &objects);
    batch = bench_batch_open(&store, BENCH_FLAG);
    count("batches, as flagctl assign decides", bench_run_batch, batch);
    bench_batch_close(batch);
    record = bench_record_open(setup);
    count("seven atomic additions", bench_run_adds, bench_record_writer(record));
    count("outcome of a call, guarded flag", bench_run_record, bench_record_writer(record));
    bench_record_close(record);
    bench_hash_close(hash);
    bench_reader_close(&hot);
    bench_reader_close(&nobody);
    bench_reader_close(&all);
    bench_reader_close(&objects);
    bench_store_close(&store);
    return 0;
}
