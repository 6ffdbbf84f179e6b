/* bench_ops: what a reader does. Each call's argument hangs on every part of the answer before, except in the
 * functions named independent, where the processor may overlap calls as far as it can. */
#include "tests/bench_common.h"
#include "tools/assign.h"

#include <stdlib.h>

void bench_reader_open(struct bench_reader *reader, struct bench_store *store, size_t flag, bool is_shuffled)
{
    size_t count = is_shuffled ? store->count : 1, i;

    *reader =
        (struct bench_reader){.fs = &store->handle, .store = store, .flag = flag, .is_shuffled = is_shuffled};
    reader->name = store->names[flag];
    reader->refs = calloc(count, sizeof *reader->refs);
    if (reader->refs == NULL)
        bench_die("no memory");
    for (i = 0; i < count; i++)
        if (flagshm_resolve(reader->fs, store->names[is_shuffled ? i : flag], &reader->refs[i]) != 0)
            bench_die("flag %s is not in the table", store->names[is_shuffled ? i : flag]);
}

void bench_reader_close(struct bench_reader *reader)
{
    free(reader->refs);
    reader->refs = NULL;
}

static size_t bits_of(double share)
{
    uint64_t bits;

    memcpy(&bits, &share, sizeof bits);
    return (size_t)bits;
}

/* The number of the next flag in the shuffled order. */

static size_t next_place(struct bench_reader *r)
{
    size_t at = r->at;

    r->at = at + 1 < r->store->count ? at + 1 : 0;
    return r->store->order[at];
}

void bench_run_share_ref(void *context, size_t n)
{
    struct bench_reader *r = context;
    size_t zero = bench_zero(), hang = 0, i;

    if (r->is_shuffled) {
        for (i = 0; i < n; i++)
            hang = bits_of(flagshm_rollout_pct_ref(r->fs, r->refs + next_place(r) + hang)) & zero;
    } else {
        struct flagshm *fs = r->fs;
        char *ref = (char *)r->refs; /* one addition, not a multiplication, hangs on the answer */
        for (i = 0; i < n; i++)
            hang = bits_of(flagshm_rollout_pct_ref(fs, (struct flagshm_ref *)(void *)(ref + hang))) & zero;
    }
    r->doubts += hang;
}

void bench_run_share_name(void *context, size_t n)
{
    struct bench_reader *r = context;
    size_t zero = bench_zero(), hang = 0, i;

    if (r->is_shuffled) {
        for (i = 0; i < n; i++)
            hang = bits_of(flagshm_rollout_pct(r->fs, r->store->names[next_place(r)] + hang)) & zero;
    } else {
        struct flagshm *fs = r->fs;
        const char *name = r->name;
        for (i = 0; i < n; i++)
            hang = bits_of(flagshm_rollout_pct(fs, name + hang)) & zero;
    }
    r->doubts += hang;
}

/* Something of every part of a decision that the next call can hang on; what comes last is added last. */
static inline size_t whole(const struct flagshm_decision *d)
{
    size_t early;

    __asm__ volatile("" : : "r"(d) : "memory"); /* every field has been written */
    early = (size_t)d->arm + (size_t)d->id_hash + (unsigned char)d->arm_name[0] + (unsigned char)d->model[0] +
            (unsigned char)d->value[0] + (unsigned char)d->stage[0];
    __asm__("" : "+r"(early));
    return early + d->bucket;
}

void bench_run_decide_name(void *context, size_t n)
{
    struct bench_reader *r = context;
    const char(*ids)[BENCH_ID_BYTES] = bench_ids();
    size_t zero = bench_zero(), hang = 0, i;
    struct flagshm_decision d;

    for (i = 0; i < n; i++) {
        const char *name = r->is_shuffled ? r->store->names[next_place(r)] : r->name;

        r->doubts +=
            flagshm_decide(r->fs, name, ids[(i + hang) & (BENCH_IDS - 1)], &d) >= FLAGSHM_FLAG_NOT_FOUND;
        hang = whole(&d) & zero;
    }
}

void bench_run_decide_ref(void *context, size_t n)
{
    struct bench_reader *r = context;
    const char(*ids)[BENCH_ID_BYTES] = bench_ids();
    size_t zero = bench_zero(), hang = 0, i;
    struct flagshm_decision d;

    for (i = 0; i < n; i++) {
        struct flagshm_ref *ref = r->is_shuffled ? r->refs + next_place(r) : r->refs;

        r->doubts +=
            flagshm_decide_ref(r->fs, ref, ids[(i + hang) & (BENCH_IDS - 1)], &d) >= FLAGSHM_FLAG_NOT_FOUND;
        hang = whole(&d) & zero;
    }
}

void bench_run_decide_name_independent(void *context, size_t n)
{
    struct bench_reader *r = context;
    const char(*ids)[BENCH_ID_BYTES] = bench_ids();
    struct flagshm_decision d;
    size_t i;

    for (i = 0; i < n; i++) {
        r->doubts += flagshm_decide(r->fs, r->name, ids[i & (BENCH_IDS - 1)], &d) >= FLAGSHM_FLAG_NOT_FOUND;
        __asm__ volatile("" : : "r"(&d) : "memory");
    }
}

void bench_run_decide_ref_independent(void *context, size_t n)
{
    struct bench_reader *r = context;
    const char(*ids)[BENCH_ID_BYTES] = bench_ids();
    struct flagshm_decision d;
    size_t i;

    for (i = 0; i < n; i++) {
        r->doubts +=
            flagshm_decide_ref(r->fs, r->refs, ids[i & (BENCH_IDS - 1)], &d) >= FLAGSHM_FLAG_NOT_FOUND;
        __asm__ volatile("" : : "r"(&d) : "memory");
    }
}

struct bench_batch {
    struct assign_plan plan;
    struct assign_id ids[BENCH_IDS];
};

struct bench_batch *bench_batch_open(struct bench_store *store, size_t flag)
{
    struct bench_batch *b = calloc(1, sizeof *b);
    struct flagshm_error error = {{0}};
    size_t i;

    if (b == NULL)
        bench_die("no memory");
    if (assign_plan_take(&b->plan, &store->handle, store->names[flag], &error) != 0)
        bench_die("%s", error.text);
    for (i = 0; i < BENCH_IDS; i++) {
        b->ids[i].bytes = (const unsigned char *)bench_ids()[i];
        b->ids[i].length = (uint32_t)strlen(bench_ids()[i]);
    }
    return b;
}

void bench_batch_close(struct bench_batch *batch)
{
    assign_plan_free(&batch->plan);
    free(batch);
}

void bench_run_batch(void *context, size_t n)
{
    struct bench_batch *b = context;
    size_t at = 0, part;

    for (; n > 0; n -= part) {
        part = n < ASSIGN_BATCH ? n : ASSIGN_BATCH;
        assign_decide(&b->plan, b->ids + at, part);
        at = (at + ASSIGN_BATCH) & (BENCH_IDS - 1);
    }
}
