/* bench_decide: what a decision costs, beside the hash that it cannot do without. */
#include "tests/bench_common.h"

#include <time.h>

static void run_clock(void *context, size_t n)
{
    struct timespec now[1];
    size_t zero = bench_zero(), hang = 0, i;

    (void)context;
    for (i = 0; i < n; i++) {
        clock_gettime(CLOCK_MONOTONIC, now + hang);
        hang = (size_t)now->tv_nsec & zero;
    }
}

enum { CLOCK, BLOCK, EVP, EVP_REUSED, PYTHON, SHARE_REF, SHARE_NAME, NAME, REF, NOBODY, ALL, OBJECTS, OPS };

static void say(const struct bench_op *op)
{
    bench_row_plain(&op[CLOCK]);
    bench_row_plain(&op[BLOCK]);
    bench_row_times(&op[EVP], &op[BLOCK], "the MD5 block", 0);
    bench_row_times(&op[EVP_REUSED], &op[BLOCK], "the MD5 block", 0);
    bench_row_times(&op[SHARE_REF], &op[CLOCK], "clock_gettime", 0.3);
    bench_row_times(&op[SHARE_NAME], &op[CLOCK], "clock_gettime", 1.0);
    bench_row_times(&op[NAME], &op[BLOCK], "the MD5 block", 1.25);
    bench_row_times(&op[NAME], &op[EVP], "OpenSSL EVP_Digest", 0.35);
    bench_row_times(&op[NAME], &op[EVP_REUSED], "OpenSSL, context reused", 0);
    if (op[PYTHON].rounds > 0)
        bench_row_rival(&op[PYTHON], &op[NAME], "our decision, by name", 9);
    bench_row_times(&op[REF], &op[BLOCK], "the MD5 block", 1.1);
    bench_row_times(&op[NOBODY], &op[BLOCK], "the MD5 block", 0.25);
    bench_row_times(&op[ALL], &op[BLOCK], "the MD5 block", 0.25);
    bench_row_times(&op[OBJECTS], &op[BLOCK], "the MD5 block", 0);
}

static void group_dependent(const struct bench_setup *setup, struct bench_store *store,
                            struct bench_hash *hash, const struct bench_effort *effort)
{
    struct bench_reader hot, nobody, all, objects;
    struct bench_python *python = bench_python_open(store->names[BENCH_FLAG], store->shares[BENCH_FLAG]);
    struct bench_op ops[OPS] = {
        [CLOCK] = {.what = "vDSO clock_gettime", .run = run_clock},
        [BLOCK] = {.what = "bare MD5 block of the same message", .run = bench_run_block, .context = hash},
        [EVP] = {.what = "OpenSSL EVP_Digest of it", .run = bench_run_evp, .context = hash},
        [EVP_REUSED] = {.what = "OpenSSL, context reused", .run = bench_run_evp_reused, .context = hash},
        [PYTHON] = {.what = "Python, the seed's function (hashlib)",
                    .timed = bench_timed_python,
                    .context = python},
        [SHARE_REF] = {.what = "percentage, resolved flag", .run = bench_run_share_ref, .context = &hot},
        [SHARE_NAME] = {.what = "percentage, by name", .run = bench_run_share_name, .context = &hot},
        [NAME] = {.what = "decision, by name", .run = bench_run_decide_name, .context = &hot},
        [REF] = {.what = "decision, resolved flag", .run = bench_run_decide_ref, .context = &hot},
        [NOBODY] = {.what = "decision, by name, flag at 0 %",
                    .run = bench_run_decide_name,
                    .context = &nobody},
        [ALL] = {.what = "decision, by name, flag at 100 %", .run = bench_run_decide_name, .context = &all},
        [OBJECTS] = {.what = "decision, by name, 150-byte value",
                     .run = bench_run_decide_name,
                     .context = &objects},
    };

    bench_reader_open(&hot, store, BENCH_FLAG, false);
    bench_reader_open(&nobody, store, BENCH_FLAG_NOBODY, false);
    bench_reader_open(&all, store, BENCH_FLAG_ALL, false);
    bench_reader_open(&objects, store, BENCH_FLAG_OBJECTS, false);
    if (python == NULL) { /* the last one takes its place, and has no rounds there */
        bench_interleave(ops, PYTHON, effort);
        bench_interleave(ops + SHARE_REF, OPS - SHARE_REF, effort);
    } else {
        bench_interleave(ops, OPS, effort);
        bench_python_close(python);
    }
    bench_group("Deciding, one after another");
    say(ops);
    bench_note(
        "each call's argument hangs on the whole answer before; 1000 flags, flag \"%s\" at 5 %%, %u users; "
        "the bare block is the header's MD5 over a block that is padded already",
        store->names[BENCH_FLAG], BENCH_IDS);
    if (python == NULL)
        bench_note("no python3 here");
    if (hot.doubts + nobody.doubts + all.doubts + objects.doubts != 0)
        bench_die("decisions ended with an error");
    bench_reader_close(&hot);
    bench_reader_close(&nobody);
    bench_reader_close(&all);
    bench_reader_close(&objects);
    (void)setup;
}

static void group_independent(struct bench_store *store, struct bench_hash *hash,
                              const struct bench_effort *effort)
{
    struct bench_reader hot;
    struct bench_batch *batch = bench_batch_open(store, BENCH_FLAG);
    struct bench_op ops[] = {
        {.what = "bare MD5 block of the same message", .run = bench_run_block_independent, .context = hash},
        {.what = "decision, by name", .run = bench_run_decide_name_independent, .context = &hot},
        {.what = "decision, resolved flag", .run = bench_run_decide_ref_independent, .context = &hot},
        {.what = "batches, as flagctl assign decides", .run = bench_run_batch, .context = batch},
    };

    bench_reader_open(&hot, store, BENCH_FLAG, false);
    bench_interleave(ops, 4, effort);
    bench_group("Deciding, calls may overlap");
    bench_row_plain(&ops[0]);
    bench_row_times(&ops[1], &ops[0], "the MD5 block", 0);
    bench_row_times(&ops[2], &ops[0], "the MD5 block", 0);
    bench_row_times(&ops[3], &ops[0], "the MD5 block", 0);
    bench_note("independent users in a loop: the processor works on two at once; batches: for each id, "
               "without reading "
               "and writing");
    bench_batch_close(batch);
    bench_reader_close(&hot);
}

void bench_group_decide(const struct bench_setup *setup)
{
    const struct bench_effort effort = {setup->is_quick ? 9 : 25, setup->is_quick ? 4e6 : 10e6};
    struct bench_store store;
    struct bench_hash *hash;

    bench_progress("deciding");
    bench_store_open(&store, setup, 1000);
    hash = bench_hash_open(store.names[BENCH_FLAG]);
    group_dependent(setup, &store, hash, &effort);
    group_independent(&store, hash, &effort);
    bench_hash_close(hash);
    bench_store_close(&store);
}
