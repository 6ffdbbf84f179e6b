/* bench_common: what the parts of the benchmark share: how time is taken, the tables that are read, the report.
 *
 * All rivals of a comparison are measured in turn, round by round, on one processor, so that a noisy moment hits them
 * alike; a ratio is the median of the rounds' ratios, never the quotient of two numbers from different moments.
 * Where it says "one after another", each call's argument hangs on the whole answer of the call before: nothing
 * overlaps, as in a program that needs the answer before it can go on. Times are the processor time of the reading
 * thread: on an idle machine the same as the clock's, on a busy one without the turns of others.
 */
#ifndef FLAGSHM_TESTS_BENCH_COMMON_H
#define FLAGSHM_TESTS_BENCH_COMMON_H

#include "client/flagshm.h"
#include "server/flagfile.h"
#include "server/segment.h"
#include "server/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_ROUNDS_MAX 101

/* What the command line chose. */
struct bench_setup {
    const char *dir;          /* a directory of our own: segments, files, data bases */
    const char *bin;          /* where flagshmd, flagctl and the small programs were built; NULL: none */
    const char *redis_socket; /* NULL: none */
    const char *only;         /* the one group that is run; NULL: all */
    bool is_quick, is_json, is_markdown;
    int cpu[2]; /* the reader's, and another one; -1: there is none */
};

/* ---- bench_engine.c: time ---- */

struct bench_op {
    const char *what;
    void (*run)(void *context, size_t n);     /* does it n times */
    double (*timed)(void *context, size_t n); /* or: does it n times and says how many ns that took */
    void *context;
    bool waits; /* for another process: wall-clock time counts, not the thread's own processor time */
    size_t n;   /* times a round; 0: found out */
    double ns[BENCH_ROUNDS_MAX];
    int rounds;
};

struct bench_effort {
    int rounds;
    double chunk_ns; /* that one op gets in one round */
};

uint64_t bench_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t bench_own_ns(void); /* processor time of the calling thread */
/* In a child: ends it when its parent ends. */
void bench_end_with_parent(void);
void bench_pin(int cpu); /* the calling thread; cpu < 0: nothing */
/* 0, of which the compiler knows nothing: what is masked with it still has to be waited for. */
size_t bench_zero(void);
void bench_interleave(struct bench_op *ops, size_t count, const struct bench_effort *effort);
/* One round of one op; n as it stands, or found out. */
double bench_once(struct bench_op *op, double chunk_ns);
double bench_median(const double *values, int count);
double bench_quantile(const double *values, int count, double quantile);
double bench_min(const struct bench_op *op);
/* Median over the rounds of a's time divided by b's. */
double bench_ratio(const struct bench_op *a, const struct bench_op *b);

/* ---- bench_report.c: what is said ---- */

enum bench_unit { BENCH_NS, BENCH_BYTES, BENCH_PER_SECOND, BENCH_COUNT };

struct bench_row {
    char group[96], what[96], against[64]; /* against: "" where the row stands for itself */
    enum bench_unit unit;
    double value, best; /* median, minimum; best < 0: not known */
    double ratio;       /* < 0: none */
    bool is_percent;    /* ratio is shown as what it adds, in percent */
    char
        goal_sign; /* '<' at most, '>' at least, 0: no goal. For the ratio where there is one, else for the value */
    double goal;
};

void bench_group(const char *format, ...) __attribute__((format(printf, 1, 2))); /* of the rows that follow */
void bench_note(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* below those rows */
void bench_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* An op as a row of its own. */
void bench_row_plain(const struct bench_op *op);
/* "as long as": ratio op / against, a goal of at most `goal`; goal 0: none. */
void bench_row_times(const struct bench_op *op, const struct bench_op *against, const char *name,
                     double goal);
/* A rival: ratio op / ours, a goal of at least `goal`; goal 0: none. */
void bench_row_rival(const struct bench_op *op, const struct bench_op *ours, const char *name, double goal);
/* Any other row. */
void bench_row_add(const struct bench_row *row);
/* A duration, a size or a rate with an upper (or lower) limit; sign 0: none. */
void bench_row_value(const char *what, enum bench_unit unit, double value, double best, char sign,
                     double goal);
void bench_report_print(const struct bench_setup *setup);

/* ---- bench_store.c: flags ---- */

#define BENCH_NAME_BYTES 64
#define BENCH_IDS        4096u /* a power of two */
#define BENCH_ID_BYTES   32

/* Flags as a team has them, published in a segment of their own, and a handle on it. Flag 0 is the hot one. */
struct bench_store {
    size_t count;
    char (*names)[BENCH_NAME_BYTES];
    uint32_t *shares; /* whole percents */
    uint32_t *order;  /* each number once, shuffled */
    char *text;       /* the flag file */
    size_t text_bytes;
    char instance[33], file_path[300];
    struct flagshm_flagfile file;
    struct flagshm_table_entry *entries;
    struct flagshm_table tables[2]; /* the same flags, the hot one at 5 and at 6 percent */
    uint64_t version;
    struct flagshm_segment segment;
    struct flagshm handle;
};

#define BENCH_FLAG         0 /* "new_summarizer_model", 5 % */
#define BENCH_FLAG_NOBODY  1 /* 0 % */
#define BENCH_FLAG_ALL     2 /* 100 % */
#define BENCH_FLAG_OBJECTS 3 /* 25 %, its arms are objects with a prompt */

/* Makes text, tables, segment and file. Says what is wrong, and ends the program, where it cannot. */
void bench_store_open(struct bench_store *store, const struct bench_setup *setup, size_t count);
void bench_store_publish(struct bench_store *store); /* the two tables in turn */
void bench_store_close(struct bench_store *store);
/* The text of a flag file; malloc'ed. The hot flag has `hot_mpct` thousandths of a percent. */
char *bench_store_text(size_t count, uint32_t hot_mpct, size_t *bytes);
void bench_write_file(const char *path, const char *text, size_t bytes);
/* "user-0012345" and so on: ids as they are in logs. */
const char (*bench_ids(void))[BENCH_ID_BYTES];
void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- bench_ops.c: what a reader does, one after another ---- */

struct bench_reader {
    struct flagshm *fs;
    const struct bench_store *store;
    size_t flag;              /* the one that is read, or */
    bool is_shuffled;         /* every flag once, in the store's order */
    const char *name;         /* of the flag */
    struct flagshm_ref *refs; /* of all flags where is_shuffled, else of the one */
    size_t at;
    uint64_t doubts; /* decisions that ended with an error */
} __attribute__((aligned(128)));

void bench_reader_open(struct bench_reader *reader, struct bench_store *store, size_t flag, bool is_shuffled);
void bench_reader_close(struct bench_reader *reader);
/* context: struct bench_reader */
void bench_run_share_ref(void *context, size_t n);
void bench_run_share_name(void *context, size_t n);
void bench_run_decide_ref(void *context, size_t n);
void bench_run_decide_name(void *context, size_t n);
void bench_run_decide_name_independent(void *context, size_t n);
void bench_run_decide_ref_independent(void *context, size_t n);

/* Batches of `flagctl assign`, without its reading and writing; n ids. context: struct bench_batch from open. */
struct bench_batch;
struct bench_batch *bench_batch_open(struct bench_store *store, size_t flag);
void bench_batch_close(struct bench_batch *batch);
void bench_run_batch(void *context, size_t n);

/* ---- bench_hash.c: MD5 of the same messages ---- */

struct bench_hash; /* one for each flag */
struct bench_hash *bench_hash_open(const char *flag);
void bench_hash_close(struct bench_hash *hash);
void bench_run_block(void *context, size_t n); /* the header's MD5 of one block that is laid out already */
void bench_run_block_independent(void *context, size_t n); /* the same, calls may overlap */
void bench_run_evp(void *context, size_t n);               /* OpenSSL, EVP_Digest */
void bench_run_evp_reused(void *context, size_t n);        /* OpenSSL, one context and a fetched algorithm */

/* ---- bench_stores.c: where flags might be kept instead ---- */

struct bench_rivals;
struct bench_rivals *bench_rivals_open(const struct bench_setup *setup, const struct bench_store *store);
void bench_rivals_close(struct bench_rivals *rivals);
bool bench_rivals_have_redis(const struct bench_rivals *rivals);
void *bench_rivals_rwlock(
    struct bench_rivals *rivals); /* in memory that forked processes share; for bench_run_rwlock */
void bench_run_rwlock(void *context, size_t n); /* context: struct bench_rwlock_reader */
void bench_run_lmdb(void *context, size_t n);   /* context: struct bench_rival_reader, as all below */
void bench_run_sqlite(void *context, size_t n);
void bench_run_redis(void *context, size_t n);
void bench_run_json(void *context, size_t n);

/* Reads every flag in the store's order, or one and the same. */
struct bench_rival_reader {
    struct bench_rivals *rivals;
    bool is_shuffled;
    size_t at;
};
struct bench_rwlock_reader {
    void *table;
    const struct bench_store *store;
    bool is_shuffled;
    size_t at;
} __attribute__((aligned(128)));

/* ---- bench_record.c: outcomes ---- */

struct bench_record;
struct bench_record *bench_record_open(const struct bench_setup *setup);
void bench_record_close(struct bench_record *record);
void *bench_record_writer(struct bench_record *record); /* the context of both */
void bench_run_record(void *context, size_t n);         /* a full outcome of a guarded flag */
void bench_run_adds(void *context, size_t n);           /* seven atomic additions */

/* ---- bench_python.c ---- */

struct bench_python;
struct bench_python *bench_python_open(const char *flag, unsigned share); /* NULL: there is no python3 */
void bench_python_close(struct bench_python *python);
double bench_timed_python(void *context, size_t n);

/* ---- the groups ---- */

void bench_group_decide(const struct bench_setup *setup);
void bench_group_read(const struct bench_setup *setup);
void bench_group_writer(const struct bench_setup *setup);
void bench_group_readers(const struct bench_setup *setup);
void bench_group_publish(const struct bench_setup *setup);
void bench_group_process(const struct bench_setup *setup);
void bench_group_latency(const struct bench_setup *setup);
void bench_group_assign(const struct bench_setup *setup);
void bench_group_record(const struct bench_setup *setup);
void bench_group_rollouts(const struct bench_setup *setup);

/* bench_count.c: --callgrind: each operation n times between two marks that valgrind counts between. */
int bench_count(const struct bench_setup *setup);

#endif
