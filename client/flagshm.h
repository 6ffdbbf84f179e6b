/* flagshm.h - decide feature flags from a table in shared memory
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One server (flagshmd) on the host watches a JSON flag file and publishes it as a versioned table in shared
 * memory. This header, and nothing else, lets any process of the host decide by that table which arm of a
 * flag a user gets: without a lock, a system call, an allocation, a thread or a socket, and in about the time
 * of one MD5 block. It works after fork(), in cron jobs and in CGI programs.
 *
 *     #include "flagshm.h"
 *     #include <stdio.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct flagshm flags;
 *         struct flagshm_decision d;
 *         const char *user = argc > 1 ? argv[1] : "user-1";
 *
 *         flagshm_open(&flags, NULL);
 *         printf("%s\n", flagshm_model(&flags, "new_summarizer_model", user, "claude-haiku-4-5", &d));
 *         printf("%s: arm %s, stage %s, ", user, d.arm_name, d.stage);
 *         printf("bucket %u, because %s\n", (unsigned)d.bucket, flagshm_reason_name(d.reason));
 *         flagshm_close(&flags);
 *         return 0;
 *     }
 *
 * Contents:  1 what a program sees  2 layout of the table segment  3 words and clocks  4 hashing  5 attaching
 *            6 reading  7 the functions  8 recording
 *
 * Promises
 * - A reader is never harmed by a server that is killed, stopped, upgraded or absent, nor by hostile bytes in
 *   the table: it keeps the last version, re-opens by itself, and says so in the decision's reason and in
 *   flagshm_age_ns().
 * - All processes of the host move from one version to the next at one step; a decision carries the version it
 *   was made from.
 * - On every doubt the answer is the control arm.
 * - Raising a share only adds users to a variant, lowering it only removes the last ones added.
 * - A handle follows 15 replacements of the segment. After that it stays on the last one that it has: its age
 *   grows, flags with "on_stale": "control" give control; close it and open it again.
 *
 * Threads and processes: a handle may be used by any number of threads at once and is inherited by fork();
 * nothing needs to be called in the child. flagshm_open and flagshm_close are for one thread, before and after
 * all others. A struct flagshm_ref belongs to one thread at a time. No function calls back, takes a signal or
 * touches errno; all but flagshm_open, flagshm_close and flagshm_wait may be called in a signal handler.
 *
 * Environment (read once, by flagshm_open; ignored in set-uid programs):
 *   FLAGSHM_INSTANCE  the server's instance name, [A-Za-z0-9][A-Za-z0-9_-]{0,31}; "default" where unset or empty
 *   FLAGSHM_DIR       a directory that holds the objects as files, an absolute path; POSIX shared memory where
 *                     unset or empty
 *   FLAGSHM_OWNER     a user id whose table is trusted beside root's, one's own, and that of the owner of a
 *                     FLAGSHM_DIR that group and others cannot write
 *
 * Needs Linux and gcc or clang; C11 ... C23 and C++11 ... C++20, strict modes too; after any system header. A
 * 32-bit program reads a 64-bit server's table. No library is linked.
 */
#ifndef FLAGSHM_H
#define FLAGSHM_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLAGSHM_VERSION_MAJOR 0
#define FLAGSHM_VERSION_MINOR 1
#define FLAGSHM_VERSION_PATCH 0
#define FLAGSHM_VERSION       "0.1.0"
#define FLAGSHM_LAYOUT_MAJOR  1 /* another major has another object name; readers accept any minor */
#define FLAGSHM_LAYOUT_MINOR  0

#ifdef __cplusplus
extern "C" {
#define FLAGSHM_ASSERT_(condition, text) static_assert(condition, text)
#else
#define FLAGSHM_ASSERT_(condition, text) _Static_assert(condition, text)
#endif

/* (clang says LLONG_LOCK_FREE 1 on 32-bit x86, where a long long may stand at 4 bytes; ours stand at 8) */
#if __GCC_ATOMIC_LLONG_LOCK_FREE != 2 && !defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_8)
#error "flagshm needs lock-free 64-bit atomics (on 32-bit x86: -march=i586 or later)"
#endif

/* ---- 1 What a program sees ---- */

/* Why a decision is what it is, in OpenFeature's words. From FLAGSHM_FLAG_NOT_FOUND on it is an error: arm 0
 * (control), empty model. */
enum flagshm_reason {
    FLAGSHM_SPLIT = 1,           /* the user's bucket decided */
    FLAGSHM_STATIC = 2,          /* everyone gets this arm: 0 or 100 %; nothing was hashed */
    FLAGSHM_TARGETING_MATCH = 3, /* the id stands in the flag's force list */
    FLAGSHM_DISABLED = 4,        /* control: switched off, killed or rolled back */
    FLAGSHM_STALE = 5,           /* control: the server is silent and the flag asks for control then */
    FLAGSHM_FLAG_NOT_FOUND = 16,
    FLAGSHM_NOT_READY = 17,             /* no table yet: no server has run */
    FLAGSHM_TARGETING_KEY_MISSING = 18, /* NULL or empty id */
    FLAGSHM_GENERAL = 19 /* id over 4096 bytes, or a table that is damaged or never stands still */
};

#define FLAGSHM_ID_MAX    4096       /* bytes of an id */
#define FLAGSHM_NAME_MAX  64         /* bytes of a flag's name */
#define FLAGSHM_NO_BUCKET UINT32_MAX /* nothing was hashed */
#define FLAGSHM_NO_SLOT   UINT32_MAX /* outcomes of this decision are not booked */

/* A decision: plain data. Copy it, keep it through retries, over a fork, for a later event. Strings end in
 * NUL; what follows the NUL is undefined. */
struct flagshm_decision {
    uint64_t version;      /* of the table that it was made from; 0: none */
    uint64_t segment_id;   /* of the segment that held that table */
    uint64_t flag_hash;    /* names the flag for flagshm_value */
    uint64_t id_hash;      /* a 64-bit mix of the id's bytes, never bits of the MD5; 0 without an id */
    uint64_t value_hash;   /* of the whole value's bytes */
    uint32_t arm;          /* 0 control, 1... variants in the file's order */
    uint32_t bucket;       /* 0...99999, thousandths of a percent, or FLAGSHM_NO_BUCKET */
    uint32_t rollout_mpct; /* share of users who get any variant just now, in thousandths of a percent */
    enum flagshm_reason reason;
    uint32_t slot; /* where outcomes are booked, or FLAGSHM_NO_SLOT */
    uint32_t slot_generation;
    uint32_t value_bytes; /* of the whole value, also where it does not fit below */
    bool shadow;          /* call shadow_model as well, in the background, and serve the answer of model */
    __attribute__((aligned(8))) char arm_name[32]; /* "control", "variant", or the variant's name */
    char model[128]; /* at most 127 bytes; empty on an error, or where the arm's value names no model */
    char shadow_model[128];
    /* static-5pct (no plan), off, shadow-10pct, canary-5pct, ramp-25pct, full (100 %, watched), complete, probe-50pct, drill, rolled-back,
     * killed, disabled */
    char stage[32];
    char value[256]; /* the arm's value where it has at most 255 bytes, else empty: see flagshm_value */
};

/* What happened to a call, or later on because of it. FLAGSHM_CUSTOM + n is the event of the flag's custom
 * guardrail with index n. */
enum flagshm_event {
    FLAGSHM_FINISHED = 0,
    FLAGSHM_STARTED,
    FLAGSHM_THUMBS_UP,
    FLAGSHM_THUMBS_DOWN,
    FLAGSHM_RETRY,
    FLAGSHM_SUPPORT_CONTACT,
    FLAGSHM_CUSTOM,
    FLAGSHM_CUSTOM_1,
    FLAGSHM_CUSTOM_2,
    FLAGSHM_CUSTOM_3,
    FLAGSHM_CUSTOM_4,
    FLAGSHM_CUSTOM_5,
    FLAGSHM_CUSTOM_6,
    FLAGSHM_CUSTOM_7
};

/* What became of a call, for flagshm_record. Zero it, fill in what is known. A call has failed where
 * transport_error is set or http_status is none of 2xx and 429, unless it was cancelled. */
struct flagshm_outcome {
    enum flagshm_event event;
    uint32_t http_status; /* of the last attempt; 0: no answer. A call that is not HTTP says 200, or 500 */
    bool transport_error; /* no connection, time-out, broken stream */
    bool cancelled;       /* by the caller itself: neither success nor failure */
    bool limited;  /* an attempt met 429 or 529: the latency says nothing about the model, and is left out */
    bool fallback; /* control answers in the failed variant's stead: it is left out of the quality checks */
    bool altered;  /* not the same call as the other arm's (tools stripped): no evidence in a shadow pair */
    bool json_checked, json_valid, schema_checked, schema_valid, tool_checked, tool_valid;
    bool refusal, truncated, empty; /* stopped for these reasons; neither text nor tool call */
    uint64_t latency_ns;            /* of the attempt that answered; 0: unknown */
    uint64_t ttft_ns;               /* until its first token; 0: unknown */
    uint64_t call_ns; /* since FLAGSHM_STARTED was booked, with all attempts; 0: as latency_ns */
    uint64_t input_tokens, output_tokens,
        cache_tokens;  /* cache_tokens: read or written, beside input_tokens */
    uint32_t attempts; /* 0 counts as 1 */
    uint32_t custom;   /* 0...7, with FLAGSHM_CUSTOM */
};

struct flagshm_map_;
struct flagshm_outcomes_map_;
typedef uint64_t flagshm_u64_ __attribute__((aligned(8))); /* on 32-bit machines too */

/* A handle. Its fields are private. */
struct flagshm {
    struct flagshm_map_ *map_;   /* the newest attachment; older ones hang behind it until close */
    flagshm_u64_ retry_mono_ns_; /* no attempt to attach before this time */
    uint32_t owner_;             /* $FLAGSHM_OWNER */
    uint32_t checks_;            /* counted by processes of one thread only */
    uint8_t has_owner_, in_dir_;
    char path_[256];                         /* of the table; empty where the instance's name is not valid */
    struct flagshm_outcomes_map_ *outcomes_; /* the newest attachment of the outcome segment */
    flagshm_u64_ outcomes_retry_mono_ns_;
    int32_t outcomes_error_; /* of the last attempt to attach it */
};

/* A flag looked up once. Its fields are private; stays right over publishes, deletions, kills and new
 * segments. */
struct flagshm_ref {
    const struct flagshm_map_ *map_;
    const unsigned char *record_;
    uint64_t seq_, hash_; /* of the name */
    double pct_;          /* the share, where has_pct_ */
    uint32_t checks_, has_pct_;
};

/* ---- 2 Layout of the table segment ----
 *
 * One page of header, then two whole banks. The header's first 192 bytes (prefix, publish line, liveness
 * line) are frozen for ever. All words are in the host's byte order, all 64-bit words 8-byte aligned, so that
 * 32-bit and 64-bit programs agree. There are no pointers: offsets count bytes from the beginning of the heap
 * of the same bank. Everything shared is read and written word by word with relaxed atomic operations.
 *
 * The seqlock is a latch: readers use bank (seq & 1). The writer, single by a lock, fills the other bank and
 * then adds 1 to seq. W1  the writer never stores into bank (seq & 1). W2  a release fence stands before the
 * first data store of a publish; it pairs with R3. W3  seq is advanced by one atomic add with release order;
 * it pairs with R1. R1  seq is loaded with acquire order before any data. R2  what is read is checked or
 * clamped before it is used: it may be a mix of two tables. R3  an acquire fence stands after the last data
 * load and before seq is loaded again; where it has moved, all is read anew. If a reader of bank b loads a
 * word that a later publish stored into b, that store stands behind the fence W2 of that publish, which
 * itself stands behind the add W3 of the publish before (seq has moved past the reader's value). W2
 * synchronises with R3, so the second load sees a moved seq. Hence no mix is ever accepted. There is no odd
 * state: a writer killed anywhere leaves bank (seq & 1) whole, and its successor, which goes on from the seq
 * that it finds, keeps W1.
 */

#define FLAGSHM_TABLE_MAGIC     UINT64_C(0x3142545348474c46) /* "FLGHSTB1" on a little-endian host */
#define FLAGSHM_BYTE_ORDER      UINT32_C(0x01020304)
#define FLAGSHM_KIND_TABLE      1u
#define FLAGSHM_SEQ_RETIRED     (UINT64_C(1) << 63) /* a successor stands under the name */
#define FLAGSHM_SEQ_ALL_CONTROL (UINT64_C(1) << 62) /* every flag gives control */
#define FLAGSHM_SEQ_SWITCHES    (FLAGSHM_SEQ_RETIRED | FLAGSHM_SEQ_ALL_CONTROL)
#define FLAGSHM_HEADER_BYTES    4096u
#define FLAGSHM_PROBES_MAX      1024u /* a server never publishes an index with longer runs */
#define FLAGSHM_RETRIES_MAX     64

struct flagshm_header { /* of the table segment */
    /* prefix: written once */
    flagshm_u64_ magic;
    uint32_t byte_order;
    uint16_t layout_major, layout_minor;
    uint32_t header_bytes, kind;
    flagshm_u64_ segment_bytes;
    flagshm_u64_ segment_id; /* random, never 0 */
    uint8_t boot_id[16];
    flagshm_u64_ created_realtime_ns;
    /* publish line */
    flagshm_u64_ seq;
    uint32_t wake; /* futex word: moves with every publish and switch */
    uint32_t reserved_publish[13];
    /* liveness line */
    flagshm_u64_ heartbeat_mono_ns; /* CLOCK_MONOTONIC_COARSE, by the server's main loop only */
    flagshm_u64_ period_ns, stale_after_ns;
    uint32_t window_4h, window_1h; /* numbers of the outcome windows */
    flagshm_u64_ outcomes_id;      /* segment id of the outcome segment; 0: none */
    uint32_t pid;                  /* for people only */
    uint32_t reserved_liveness[5];
    /* geometry: written once; readers copy it when they attach */
    flagshm_u64_ bank_offset[2], bank_bytes; /* from the beginning of the segment */
    flagshm_u64_ index_offset, records_offset, heap_offset, heap_bytes; /* from the beginning of a bank */
    uint32_t index_slots;                                               /* a power of two */
    uint32_t record_stride, record_capacity, arm_stride;
    uint32_t reserved_geometry[14];
    /* paths, for tools; empty where they do not fit */
    char socket_path[128];
    char state_dir[1024];
    char file_path[2048];
    uint8_t reserved_header[576];
};

struct flagshm_bank {
    flagshm_u64_ version;  /* numbers publishes */
    flagshm_u64_ file_rev; /* numbers accepted files */
    flagshm_u64_ published_realtime_ns, published_mono_ns;
    flagshm_u64_ content_hash; /* of records and heap, but the records' changed_version */
    uint32_t flag_count, reserved_count;
    flagshm_u64_ heap_used;
    uint32_t reserved_bank[18];
};

/* An index slot is one 64-bit word: the upper half of the name's hash, and in the lower half the record's
 * number + 1; 0 is empty. Linear probing from (hash & (slots - 1)). */

#define FLAGSHM_SWITCH_KILLED        (1u << 0)
#define FLAGSHM_SWITCH_DISABLED      (1u << 1) /* "enabled": false */
#define FLAGSHM_SWITCH_ROLLED_BACK   (1u << 2)
#define FLAGSHM_SWITCH_OFF           7u
#define FLAGSHM_SWITCH_STALE_CONTROL (1u << 3) /* "on_stale": "control", or a guarded canary */
#define FLAGSHM_SWITCH_HASH          (1u << 4) /* neither 0 nor 100 % of one variant, or a slot or shadow: hash */
#define FLAGSHM_SWITCH_GUARDED       (1u << 5)
#define FLAGSHM_SWITCH_ORG           (1u << 6) /* identity, for people and tools */
#define FLAGSHM_SWITCH_SESSION       (1u << 7)

struct flagshm_flag_entry {
    flagshm_u64_ name_hash; /* flagshm_hash64_ of the name; unique in a table */
    uint32_t switches;
    uint16_t name_bytes, arm_count;
    uint32_t rollout_mpct, shadow_mpct; /* as served: 0 where killed, rolled back or disabled */
    uint32_t name_offset;
    uint32_t prefix_bytes; /* of salt and ':' */
    uint32_t weight_sum, arms_offset;
    uint32_t force_offset, force_count; /* struct flagshm_force_id, sorted */
    uint32_t slot, slot_generation;
    uint32_t md5_start[4]; /* chaining state after the whole blocks of the prefix */
    uint32_t md5_state[4]; /* md5_start moved on by the whole 32-bit words of pending */
    uint8_t pending[64];   /* the prefix's last, partial block; zeros behind it */
    char stage[24];
    flagshm_u64_ latch_fingerprint; /* the value that was rolled back; 0: none */
    flagshm_u64_ changed_version;   /* of the last publish that changed this record */
};

struct flagshm_arm_entry {
    uint32_t weight_end; /* sum of the variants' weights up to and with this one; 0 for control */
    uint16_t name_bytes, model_bytes;
    uint32_t name_offset, model_offset, value_offset,
        value_bytes; /* texts are padded with zeros to 8 bytes */
    flagshm_u64_ value_hash, fingerprint;
};

struct flagshm_force_id {
    flagshm_u64_ high, low; /* the MD5 of salt ':' id, as two big-endian halves; sorted by (high, low) */
    flagshm_u64_ arm;
};

FLAGSHM_ASSERT_(sizeof(struct flagshm_header) == FLAGSHM_HEADER_BYTES, "header is one page");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, byte_order) == 8, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, layout_major) == 12, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, layout_minor) == 14, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, header_bytes) == 16, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, kind) == 20, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, segment_bytes) == 24, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, segment_id) == 32, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, boot_id) == 40, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, created_realtime_ns) == 56, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, seq) == 64, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, wake) == 72, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, heartbeat_mono_ns) == 128, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, period_ns) == 136, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, stale_after_ns) == 144, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, window_4h) == 152, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, window_1h) == 156, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, outcomes_id) == 160, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, pid) == 168, "frozen");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, bank_offset) == 192, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, bank_bytes) == 208, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, index_offset) == 216, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, records_offset) == 224, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, heap_offset) == 232, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, heap_bytes) == 240, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, index_slots) == 248, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, record_stride) == 252, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, record_capacity) == 256, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, arm_stride) == 260, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, socket_path) == 320, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, state_dir) == 448, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_header, file_path) == 1472, "layout");
FLAGSHM_ASSERT_(sizeof(struct flagshm_bank) == 128, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_bank, content_hash) == 32, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_bank, flag_count) == 40, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_bank, heap_used) == 48, "layout");
FLAGSHM_ASSERT_(sizeof(struct flagshm_flag_entry) == 192, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, switches) == 8, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, rollout_mpct) == 16, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, name_offset) == 24, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, weight_sum) == 32, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, force_offset) == 40, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, slot) == 48, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, md5_start) == 56, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, md5_state) == 72, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, pending) == 88, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, stage) == 152, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, latch_fingerprint) == 176, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_flag_entry, changed_version) == 184, "layout");
FLAGSHM_ASSERT_(sizeof(struct flagshm_arm_entry) == 40, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_arm_entry, value_hash) == 24, "layout");
FLAGSHM_ASSERT_(sizeof(struct flagshm_force_id) == 24, "layout");

/* ---- Layout of the outcome segment ----
 *
 * Writable by the clients' group, so whoever can write it can lie: nothing in it is ever trusted. Offsets are constants or
 * are clamped. The file is sparse: the server allocates what a slot needs before it announces the slot in the table, and
 * never takes it back. A slot's counters only grow; where one slot ends and the next begins, the generation says.
 *
 * A call's own counters are spread over 16 shards by CPU. What must be counted by user is shared by all: a cell is one of
 * 4096 16-bit counts, chosen by the id's hash; whoever moves a cell to a power of two, 2^l, adds 1 to level l of the arm
 * that the user has. Denominators are added first, bad counts last with release order; who reads them the other way round,
 * with acquire order, never sees more bad calls than calls. */

#define FLAGSHM_OUTCOMES_MAGIC   UINT64_C(0x31434f5348474c46) /* "FLGHSOC1" on a little-endian host */
#define FLAGSHM_KIND_OUTCOMES    2u
#define FLAGSHM_SLOTS            256u
#define FLAGSHM_SHARDS           16u /* of counters */
#define FLAGSHM_HISTOGRAM_SHARDS 4u
#define FLAGSHM_HISTOGRAM_BUCKETS                                                                            \
    200u /* 0...7 one by one, then 8 steps an octave; the last one takes what is above */
#define FLAGSHM_TIME_SHIFT  16u /* times are counted in units of 2^16 ns */
#define FLAGSHM_CELLS       4096u
#define FLAGSHM_LEVELS      15u /* a cell stops at 2^15 */
#define FLAGSHM_CELL_STOP   32768u
#define FLAGSHM_SEEN_BITS   131072u
#define FLAGSHM_DISTINCT    1024u /* registers of the HyperLogLog */
#define FLAGSHM_CALLS_CAP   16u   /* of each cell only so many calls of an hour count for rates */
#define FLAGSHM_SIGNALS_MAX 16u
#define FLAGSHM_CELL_TABLES 64u
#define FLAGSHM_WINDOWS     5u /* of a signal: the slot; 4 h twice; 1 h twice. The number's low bit picks one */

/* Of one arm, in each shard. */
enum flagshm_counter {
    FLAGSHM_N_STARTED,
    FLAGSHM_N_FINISHED,
    FLAGSHM_N_INPUT_TOKENS,
    FLAGSHM_N_OUTPUT_TOKENS,
    FLAGSHM_N_CACHE_TOKENS,
    FLAGSHM_N_FAILED,
    FLAGSHM_N_JSON_CHECKED,
    FLAGSHM_N_SCHEMA_CHECKED,
    FLAGSHM_N_JSON_INVALID, /* the second line: bad news */
    FLAGSHM_N_SCHEMA_INVALID,
    FLAGSHM_N_TOOL_CHECKED,
    FLAGSHM_N_TOOL_INVALID,
    FLAGSHM_N_LIMITED, /* 429 at the end */
    FLAGSHM_N_CANCELLED,
    FLAGSHM_N_TRANSPORT, /* among the failed: no whole answer */
    FLAGSHM_N_RETRIES,   /* attempts beyond the first */
    FLAGSHM_N_REFUSAL,
    FLAGSHM_N_TRUNCATED,
    FLAGSHM_N_EMPTY,
    FLAGSHM_N_FALLBACK,
    FLAGSHM_N_USERS_STARTED,  /* users first seen at STARTED */
    FLAGSHM_N_USERS_FINISHED, /* users first seen at FINISHED: no STARTED came before */
    FLAGSHM_N_MET_LIMIT,      /* an attempt met 429 or 529 */
    FLAGSHM_N_JUDGED,         /* finished after the wash-in */
    FLAGSHM_N_THUMBS_UP,
    FLAGSHM_N_THUMBS_DOWN,
    FLAGSHM_N_RETRY,
    FLAGSHM_N_SUPPORT_CONTACT,
    FLAGSHM_N_LOST,        /* by the server: started, and not finished for so long that it counts as lost */
    FLAGSHM_N_MISBOOKED,   /* an arm that its bucket does not allow: counted here, and nowhere else */
    FLAGSHM_N_CUSTOM = 32, /* ... 39 */
    FLAGSHM_COUNTERS = 40
};

/* Of calls that succeeded; times of those that met no limit. */
enum flagshm_histogram {
    FLAGSHM_H_LATENCY,
    FLAGSHM_H_TTFT,
    FLAGSHM_H_TOKENS, /* input with cache, and output */
    FLAGSHM_H_OUTPUT_TOKENS,
    FLAGSHM_HISTOGRAMS
};

/* What a guardrail counts by user. */
enum flagshm_signal_kind {
    FLAGSHM_SIGNAL_NONE,
    FLAGSHM_SIGNAL_ERROR, /* a call that failed */
    FLAGSHM_SIGNAL_JSON_INVALID,
    FLAGSHM_SIGNAL_SCHEMA_INVALID,
    FLAGSHM_SIGNAL_TOOL_INVALID,
    FLAGSHM_SIGNAL_REFUSAL,
    FLAGSHM_SIGNAL_TRUNCATED,
    FLAGSHM_SIGNAL_EMPTY,
    FLAGSHM_SIGNAL_LOST,
    FLAGSHM_SIGNAL_THUMBS_DOWN,
    FLAGSHM_SIGNAL_RETRY,
    FLAGSHM_SIGNAL_SUPPORT_CONTACT,
    FLAGSHM_SIGNAL_CUSTOM,       /* ... 19, by index */
    FLAGSHM_SIGNAL_LATENCY = 20, /* from here on: an amount above the threshold */
    FLAGSHM_SIGNAL_TTFT,
    FLAGSHM_SIGNAL_TOKENS,
    FLAGSHM_SIGNAL_OUTPUT_TOKENS,
    FLAGSHM_SIGNAL_KINDS
};

struct flagshm_signal {
    uint32_t kind;        /* enum flagshm_signal_kind */
    uint16_t first_table; /* its cells: this table, and where it is timed the next four */
    uint16_t is_timed;
    flagshm_u64_ threshold; /* of an amount; of LOST: ns that a call may take; UINT64_MAX: not known yet */
};

struct flagshm_arm_outcomes { /* one arm of a slot; whole pages */
    flagshm_u64_ counters[FLAGSHM_SHARDS][FLAGSHM_COUNTERS];
    uint32_t histograms[FLAGSHM_HISTOGRAM_SHARDS][FLAGSHM_HISTOGRAMS][FLAGSHM_HISTOGRAM_BUCKETS];
    uint8_t reserved[2560];
};

struct flagshm_slot {
    uint32_t generation; /* 0: none; nothing is booked */
    uint32_t arm_count;  /* the outcomes of shadow calls stand behind the last arm */
    flagshm_u64_ flag_hash;
    uint32_t signal_count;
    uint32_t is_open;      /* the wash-in is over: cells and users count */
    uint32_t signal_kinds; /* bit 1 << kind of each signal */
    uint32_t lost_window;  /* number of the window that calls start in now, each as long as a call may take */
    char flag[72];
    struct flagshm_signal signals[FLAGSHM_SIGNALS_MAX];
    flagshm_u64_ capped_calls[2]; /* of control and variant; never more than 16 an hour of each cell */
    flagshm_u64_ capped_bad[2][FLAGSHM_SIGNALS_MAX]; /* bad ones among those */
    flagshm_u64_ opened_mono_ns, opened_realtime_ns; /* for the server, and for people */
    flagshm_u64_ guards_hash;                        /* for the server: what it was prepared for */
    uint8_t reserved_page[3440];
    uint32_t levels[FLAGSHM_SIGNALS_MAX][FLAGSHM_WINDOWS][2][FLAGSHM_LEVELS + 1]; /* [][][1]: the variant */
    uint8_t reserved_levels[2048];
    uint8_t distinct[FLAGSHM_DISTINCT];
    uint8_t reserved_distinct[3072];
    flagshm_u64_ seen[FLAGSHM_SEEN_BITS / 64];
    uint16_t calls[2][FLAGSHM_CELLS]; /* of the hour; the number's low bit picks one */
    struct flagshm_arm_outcomes arms[8];
    uint16_t cells[FLAGSHM_CELL_TABLES][FLAGSHM_CELLS];
};

struct flagshm_outcomes { /* header of the segment; the slots follow */
    /* prefix, as the table's */
    flagshm_u64_ magic;
    uint32_t byte_order;
    uint16_t layout_major, layout_minor;
    uint32_t header_bytes, kind;
    flagshm_u64_ segment_bytes;
    flagshm_u64_ segment_id; /* the table's outcomes_id says which one is in use */
    uint8_t boot_id[16];
    flagshm_u64_ created_realtime_ns;
    /* doorbell line */
    flagshm_u64_ dirty[FLAGSHM_SLOTS / 64]; /* slots with bad news */
    uint32_t armed;                         /* 1: the server wants to be woken; who takes it rings */
    uint32_t rung;                          /* futex word: moves with each ring; the server waits for it */
    uint32_t reserved_doorbell[6];
    flagshm_u64_ shadow_tokens; /* of today: days since 1970 << 48 | tokens */
    uint8_t reserved_outcomes[3960];
};

#define FLAGSHM_OUTCOMES_BYTES                                                                               \
    ((uint64_t)sizeof(struct flagshm_outcomes) + FLAGSHM_SLOTS * (uint64_t)sizeof(struct flagshm_slot))

FLAGSHM_ASSERT_(sizeof(struct flagshm_outcomes) == 4096, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_outcomes, dirty) == 64, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_outcomes, armed) == 96, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_outcomes, rung) == 100, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_outcomes, shadow_tokens) == 128, "layout");
FLAGSHM_ASSERT_(sizeof(struct flagshm_signal) == 16, "layout");
FLAGSHM_ASSERT_(sizeof(struct flagshm_arm_outcomes) == 20480, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_slot, signals) == 104, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_slot, levels) == 4096, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_slot, distinct) == 16384, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_slot, seen) == 20480, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_slot, calls) == 36864, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_slot, arms) == 53248, "layout");
FLAGSHM_ASSERT_(offsetof(struct flagshm_slot, cells) == 217088, "layout");
FLAGSHM_ASSERT_(sizeof(struct flagshm_slot) == 741376, "layout");

/* ---- 3 Words and clocks ---- */

#define FLAGSHM_LIKELY_(x)   __builtin_expect(!!(x), 1)
#define FLAGSHM_UNLIKELY_(x) __builtin_expect(!!(x), 0)
#define FLAGSHM_INLINE_      static inline __attribute__((always_inline, unused))
#define FLAGSHM_API_         static inline __attribute__((unused))
#define FLAGSHM_COLD_        static __attribute__((noinline, cold, unused))

/* The thread sanitizer does not model fences: for it every word is loaded with acquire (and stored with
 * release) order, which is right by itself. */
#if defined(__SANITIZE_THREAD__)
#define FLAGSHM_DATA_LOAD_  __ATOMIC_ACQUIRE
#define FLAGSHM_DATA_STORE_ __ATOMIC_RELEASE
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FLAGSHM_DATA_LOAD_  __ATOMIC_ACQUIRE
#define FLAGSHM_DATA_STORE_ __ATOMIC_RELEASE
#endif
#endif
#ifndef FLAGSHM_DATA_LOAD_
#define FLAGSHM_DATA_LOAD_  __ATOMIC_RELAXED
#define FLAGSHM_DATA_STORE_ __ATOMIC_RELAXED
#endif

FLAGSHM_INLINE_ uint64_t flagshm_load64_(const void *shared)
{
    return __atomic_load_n((const flagshm_u64_ *)shared, FLAGSHM_DATA_LOAD_);
}
FLAGSHM_INLINE_ uint32_t flagshm_load32_(const void *shared)
{
    return __atomic_load_n((const uint32_t *)shared, FLAGSHM_DATA_LOAD_);
}
FLAGSHM_INLINE_ uint16_t flagshm_load16_(const void *shared)
{
    return __atomic_load_n((const uint16_t *)shared, FLAGSHM_DATA_LOAD_);
}
/* A word by its place in memory order: byte 0 in the low bits on every host. */
FLAGSHM_INLINE_ uint64_t flagshm_le64_(uint64_t word)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}
FLAGSHM_INLINE_ uint64_t flagshm_get64_(const void *private_bytes)
{
    uint64_t word;
    memcpy(&word, private_bytes, 8);
    return flagshm_le64_(word);
}
FLAGSHM_INLINE_ uint32_t flagshm_get32_(const void *private_bytes)
{
    uint32_t word;
    memcpy(&word, private_bytes, 4);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}
/* The first n (0...7) bytes of a text, the rest zero; reads nothing beyond them. */
FLAGSHM_INLINE_ uint64_t flagshm_get_short_(const unsigned char *bytes, size_t n)
{
    if (n >= 4) {
        uint64_t low = flagshm_get32_(bytes), high = flagshm_get32_(bytes + n - 4);
        return low | high << (8 * (n - 4));
    }
    if (n == 0)
        return 0;
    return (uint64_t)bytes[0] | (uint64_t)bytes[n / 2] << (8 * (n / 2)) |
           (uint64_t)bytes[n - 1] << (8 * (n - 1));
}
/* Strict modes hide these calls of the C library; names of our own for the same symbols bring them back
 * without touching what the including program sees. The struct is the one of the symbol clock_gettime (and of
 * the system call futex), whatever _TIME_BITS says: two longs, but on the 32-bit ABIs that never had a 32-bit
 * time. */
#if (defined(__x86_64__) && defined(__ILP32__)) || (defined(__riscv) && __riscv_xlen == 32)
typedef int64_t flagshm_time_word_;
#else
typedef long flagshm_time_word_;
#endif
struct flagshm_timespec_ {
    flagshm_time_word_ seconds, nanoseconds;
};
extern int flagshm_libc_clock_gettime_(int clock, struct flagshm_timespec_ *time) __asm__("clock_gettime");
extern long flagshm_libc_syscall_(long number, ...) __asm__("syscall");
extern char *flagshm_libc_secure_getenv_(const char *name) __asm__("secure_getenv");
extern char flagshm_libc_single_threaded_ __asm__("__libc_single_threaded") __attribute__((weak));

#define FLAGSHM_CLOCK_MONOTONIC_        1
#define FLAGSHM_CLOCK_MONOTONIC_COARSE_ 6
#define FLAGSHM_FUTEX_WAIT_             0
#define FLAGSHM_FUTEX_WAKE_             1

FLAGSHM_INLINE_ uint64_t flagshm_clock_ns_(int clock)
{
    struct flagshm_timespec_ now = {0, 0};
    (void)flagshm_libc_clock_gettime_(clock, &now);
    return (uint64_t)now.seconds * 1000000000u + (uint64_t)now.nanoseconds;
}

/* ---- 4 Hashing ---- */

/* High half XOR low half of a 64 x 64 bit product. */
FLAGSHM_INLINE_ uint64_t flagshm_fold_(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__)
    __extension__ typedef unsigned __int128 flagshm_u128_;
    flagshm_u128_ product = (flagshm_u128_)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), cross = a0 * b1 + (uint32_t)middle;
    return (a1 * b1 + (middle >> 32) + (cross >> 32)) ^ (cross << 32 | (uint32_t)low);
#endif
}

#define FLAGSHM_MIX_1_                                                                                       \
    UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio; odd, no long runs of equal bits  \
                                                     */
#define FLAGSHM_MIX_2_ UINT64_C(0xd6e8feb86659fd93)

FLAGSHM_INLINE_ uint64_t flagshm_hash64_begin_(size_t length, uint64_t seed)
{
    return (seed ^ FLAGSHM_MIX_2_) + (uint64_t)length * FLAGSHM_MIX_1_;
}
FLAGSHM_INLINE_ uint64_t flagshm_hash64_word_(uint64_t hash, uint64_t word)
{
    return flagshm_fold_(hash ^ word, FLAGSHM_MIX_1_) + word;
}
FLAGSHM_INLINE_ uint64_t flagshm_hash64_end_(uint64_t hash)
{
    return flagshm_fold_(hash ^ (hash >> 32), FLAGSHM_MIX_2_);
}
FLAGSHM_INLINE_ uint64_t flagshm_hash64_pair_(uint64_t hash, uint64_t a, uint64_t b)
{
    b ^= hash;
    return flagshm_fold_(a ^ FLAGSHM_MIX_1_, b) + b;
}
/* A fast 64-bit hash of bytes: the same on every host, for tables and cells; not for secrets. Sixteen bytes at a
 * time; the last 1...16 as two words that may overlap, which the length tells apart. */
FLAGSHM_INLINE_ uint64_t flagshm_hash64_inline_(const void *bytes, size_t length, uint64_t seed)
{
    const unsigned char *p = (const unsigned char *)bytes;
    uint64_t hash = flagshm_hash64_begin_(length, seed), a = 0, b = 0;
    for (; length > 16; length -= 16, p += 16)
        hash = flagshm_hash64_pair_(hash, flagshm_get64_(p), flagshm_get64_(p + 8));
    if (length >= 8) {
        a = flagshm_get64_(p);
        b = flagshm_get64_(p + length - 8);
    } else if (length >= 4) {
        a = flagshm_get32_(p);
        b = flagshm_get32_(p + length - 4);
    } else if (length > 0) {
        a = (uint64_t)p[0] | (uint64_t)p[length / 2] << 8 | (uint64_t)p[length - 1] << 16;
    }
    return flagshm_hash64_end_(flagshm_hash64_pair_(hash, a, b));
}
FLAGSHM_API_ uint64_t flagshm_hash64_(const void *bytes, size_t length, uint64_t seed)
{
    return flagshm_hash64_inline_(bytes, length, seed);
}

/* MD5 (RFC 1321), because the buckets must agree with those of the programs that it replaces. Not used as
 * protection.
 *
 * Each step is a chain: the word made last enters its function, is added, rotated, added. What does not
 * depend on that word is added up beforehand; the empty asm keeps compilers from moving that sum behind the
 * late word. G's two halves have no bit in common, so + takes the place of |, and its late half is one AND
 * away. */
#define FLAGSHM_KEEP_(x)    __asm__("" : "+r"(x))
#define FLAGSHM_ROTL_(x, s) ((x) << (s) | (x) >> (32 - (s)))
#define FLAGSHM_MD5_F_(a, b, c, d, k, s, t)                                                                  \
    do {                                                                                                     \
        a += m[k] + UINT32_C(t);                                                                             \
        FLAGSHM_KEEP_(a);                                                                                    \
        a += d ^ (b & (c ^ d));                                                                              \
        a = FLAGSHM_ROTL_(a, s) + b;                                                                         \
    } while (0)
#define FLAGSHM_MD5_G_(a, b, c, d, k, s, t)                                                                  \
    do {                                                                                                     \
        a += m[k] + UINT32_C(t) + (c & ~d);                                                                  \
        FLAGSHM_KEEP_(a);                                                                                    \
        a += b & d;                                                                                          \
        a = FLAGSHM_ROTL_(a, s) + b;                                                                         \
    } while (0)
#define FLAGSHM_MD5_H_(a, b, c, d, k, s, t)                                                                  \
    do {                                                                                                     \
        uint32_t early = c ^ d;                                                                              \
        a += m[k] + UINT32_C(t);                                                                             \
        FLAGSHM_KEEP_(a);                                                                                    \
        FLAGSHM_KEEP_(early);                                                                                \
        a += b ^ early;                                                                                      \
        a = FLAGSHM_ROTL_(a, s) + b;                                                                         \
    } while (0)
#define FLAGSHM_MD5_I_(a, b, c, d, k, s, t)                                                                  \
    do {                                                                                                     \
        a += m[k] + UINT32_C(t);                                                                             \
        FLAGSHM_KEEP_(a);                                                                                    \
        a += c ^ (b | ~d);                                                                                   \
        a = FLAGSHM_ROTL_(a, s) + b;                                                                         \
    } while (0)

/* Eight bytes of a message, byte 0 in the low bits, as two of MD5's words. One store on a little-endian host:
 * words are read back as halves of what was stored, which processors forward without waiting. */
FLAGSHM_INLINE_ void flagshm_md5_put_(uint32_t m[2], uint64_t word)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    m[0] = (uint32_t)word;
    m[1] = (uint32_t)(word >> 32);
#else
    memcpy(m, &word, 8);
#endif
}

struct flagshm_md5_state_ {
    uint32_t a, b, c, d;
};

/* The four rounds over the block m, each by itself. `at`: the state inside this block after its first `steps`
 * (0...15) steps, which depend on the prefix alone; its four words are named as the step after them finds
 * them. */
FLAGSHM_INLINE_ void flagshm_md5_round_1_(struct flagshm_md5_state_ *at, unsigned steps, const uint32_t m[16])
{
    uint32_t a = at->a, b = at->b, c = at->c, d = at->d;
    switch (steps) {
    default:
        FLAGSHM_MD5_F_(a, b, c, d, 0, 7, 0xd76aa478);
        __attribute__((fallthrough));
    case 1:
        FLAGSHM_MD5_F_(d, a, b, c, 1, 12, 0xe8c7b756);
        __attribute__((fallthrough));
    case 2:
        FLAGSHM_MD5_F_(c, d, a, b, 2, 17, 0x242070db);
        __attribute__((fallthrough));
    case 3:
        FLAGSHM_MD5_F_(b, c, d, a, 3, 22, 0xc1bdceee);
        __attribute__((fallthrough));
    case 4:
        FLAGSHM_MD5_F_(a, b, c, d, 4, 7, 0xf57c0faf);
        __attribute__((fallthrough));
    case 5:
        FLAGSHM_MD5_F_(d, a, b, c, 5, 12, 0x4787c62a);
        __attribute__((fallthrough));
    case 6:
        FLAGSHM_MD5_F_(c, d, a, b, 6, 17, 0xa8304613);
        __attribute__((fallthrough));
    case 7:
        FLAGSHM_MD5_F_(b, c, d, a, 7, 22, 0xfd469501);
        __attribute__((fallthrough));
    case 8:
        FLAGSHM_MD5_F_(a, b, c, d, 8, 7, 0x698098d8);
        __attribute__((fallthrough));
    case 9:
        FLAGSHM_MD5_F_(d, a, b, c, 9, 12, 0x8b44f7af);
        __attribute__((fallthrough));
    case 10:
        FLAGSHM_MD5_F_(c, d, a, b, 10, 17, 0xffff5bb1);
        __attribute__((fallthrough));
    case 11:
        FLAGSHM_MD5_F_(b, c, d, a, 11, 22, 0x895cd7be);
        __attribute__((fallthrough));
    case 12:
        FLAGSHM_MD5_F_(a, b, c, d, 12, 7, 0x6b901122);
        __attribute__((fallthrough));
    case 13:
        FLAGSHM_MD5_F_(d, a, b, c, 13, 12, 0xfd987193);
        __attribute__((fallthrough));
    case 14:
        FLAGSHM_MD5_F_(c, d, a, b, 14, 17, 0xa679438e);
        __attribute__((fallthrough));
    case 15:
        FLAGSHM_MD5_F_(b, c, d, a, 15, 22, 0x49b40821);
    }
    at->a = a;
    at->b = b;
    at->c = c;
    at->d = d;
}
FLAGSHM_INLINE_ void flagshm_md5_round_2_(struct flagshm_md5_state_ *at, const uint32_t m[16])
{
    uint32_t a = at->a, b = at->b, c = at->c, d = at->d;
    FLAGSHM_MD5_G_(a, b, c, d, 1, 5, 0xf61e2562);
    FLAGSHM_MD5_G_(d, a, b, c, 6, 9, 0xc040b340);
    FLAGSHM_MD5_G_(c, d, a, b, 11, 14, 0x265e5a51);
    FLAGSHM_MD5_G_(b, c, d, a, 0, 20, 0xe9b6c7aa);
    FLAGSHM_MD5_G_(a, b, c, d, 5, 5, 0xd62f105d);
    FLAGSHM_MD5_G_(d, a, b, c, 10, 9, 0x02441453);
    FLAGSHM_MD5_G_(c, d, a, b, 15, 14, 0xd8a1e681);
    FLAGSHM_MD5_G_(b, c, d, a, 4, 20, 0xe7d3fbc8);
    FLAGSHM_MD5_G_(a, b, c, d, 9, 5, 0x21e1cde6);
    FLAGSHM_MD5_G_(d, a, b, c, 14, 9, 0xc33707d6);
    FLAGSHM_MD5_G_(c, d, a, b, 3, 14, 0xf4d50d87);
    FLAGSHM_MD5_G_(b, c, d, a, 8, 20, 0x455a14ed);
    FLAGSHM_MD5_G_(a, b, c, d, 13, 5, 0xa9e3e905);
    FLAGSHM_MD5_G_(d, a, b, c, 2, 9, 0xfcefa3f8);
    FLAGSHM_MD5_G_(c, d, a, b, 7, 14, 0x676f02d9);
    FLAGSHM_MD5_G_(b, c, d, a, 12, 20, 0x8d2a4c8a);
    at->a = a;
    at->b = b;
    at->c = c;
    at->d = d;
}

FLAGSHM_INLINE_ void flagshm_md5_round_3_(struct flagshm_md5_state_ *at, const uint32_t m[16])
{
    uint32_t a = at->a, b = at->b, c = at->c, d = at->d;
    FLAGSHM_MD5_H_(a, b, c, d, 5, 4, 0xfffa3942);
    FLAGSHM_MD5_H_(d, a, b, c, 8, 11, 0x8771f681);
    FLAGSHM_MD5_H_(c, d, a, b, 11, 16, 0x6d9d6122);
    FLAGSHM_MD5_H_(b, c, d, a, 14, 23, 0xfde5380c);
    FLAGSHM_MD5_H_(a, b, c, d, 1, 4, 0xa4beea44);
    FLAGSHM_MD5_H_(d, a, b, c, 4, 11, 0x4bdecfa9);
    FLAGSHM_MD5_H_(c, d, a, b, 7, 16, 0xf6bb4b60);
    FLAGSHM_MD5_H_(b, c, d, a, 10, 23, 0xbebfbc70);
    FLAGSHM_MD5_H_(a, b, c, d, 13, 4, 0x289b7ec6);
    FLAGSHM_MD5_H_(d, a, b, c, 0, 11, 0xeaa127fa);
    FLAGSHM_MD5_H_(c, d, a, b, 3, 16, 0xd4ef3085);
    FLAGSHM_MD5_H_(b, c, d, a, 6, 23, 0x04881d05);
    FLAGSHM_MD5_H_(a, b, c, d, 9, 4, 0xd9d4d039);
    FLAGSHM_MD5_H_(d, a, b, c, 12, 11, 0xe6db99e5);
    FLAGSHM_MD5_H_(c, d, a, b, 15, 16, 0x1fa27cf8);
    FLAGSHM_MD5_H_(b, c, d, a, 2, 23, 0xc4ac5665);
    at->a = a;
    at->b = b;
    at->c = c;
    at->d = d;
}
/* The last round, and the chaining state after the block. */
FLAGSHM_INLINE_ void flagshm_md5_round_4_(uint32_t chain[4], const struct flagshm_md5_state_ *at,
                                          const uint32_t m[16])
{
    uint32_t a = at->a, b = at->b, c = at->c, d = at->d;
    FLAGSHM_MD5_I_(a, b, c, d, 0, 6, 0xf4292244);
    FLAGSHM_MD5_I_(d, a, b, c, 7, 10, 0x432aff97);
    FLAGSHM_MD5_I_(c, d, a, b, 14, 15, 0xab9423a7);
    FLAGSHM_MD5_I_(b, c, d, a, 5, 21, 0xfc93a039);
    FLAGSHM_MD5_I_(a, b, c, d, 12, 6, 0x655b59c3);
    FLAGSHM_MD5_I_(d, a, b, c, 3, 10, 0x8f0ccc92);
    FLAGSHM_MD5_I_(c, d, a, b, 10, 15, 0xffeff47d);
    FLAGSHM_MD5_I_(b, c, d, a, 1, 21, 0x85845dd1);
    FLAGSHM_MD5_I_(a, b, c, d, 8, 6, 0x6fa87e4f);
    FLAGSHM_MD5_I_(d, a, b, c, 15, 10, 0xfe2ce6e0);
    FLAGSHM_MD5_I_(c, d, a, b, 6, 15, 0xa3014314);
    FLAGSHM_MD5_I_(b, c, d, a, 13, 21, 0x4e0811a1);
    FLAGSHM_MD5_I_(a, b, c, d, 4, 6, 0xf7537e82);
    FLAGSHM_MD5_I_(d, a, b, c, 11, 10, 0xbd3af235);
    FLAGSHM_MD5_I_(c, d, a, b, 2, 15, 0x2ad7d2bb);
    FLAGSHM_MD5_I_(b, c, d, a, 9, 21, 0xeb86d391);
    chain[0] += a;
    chain[1] += b;
    chain[2] += c;
    chain[3] += d;
}

/* The chaining state after a block of 8 words of 64 bits, each with its first byte in the low bits. */
FLAGSHM_INLINE_ void flagshm_md5_block_(uint32_t chain[4], const uint32_t at[4], unsigned steps,
                                        const uint64_t block[8])
{
    struct flagshm_md5_state_ state;
    uint32_t m[16];
    int i;
    for (i = 0; i < 8; i++)
        flagshm_md5_put_(m + 2 * i, block[i]);
    state.a = at[0];
    state.b = at[1];
    state.c = at[2];
    state.d = at[3];
    flagshm_md5_round_1_(&state, steps, m);
    flagshm_md5_round_2_(&state, m);
    flagshm_md5_round_3_(&state, m);
    flagshm_md5_round_4_(chain, &state, m);
}

#define FLAGSHM_MD5_INIT_                                                                                    \
    {                                                                                                        \
        0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u                                                   \
    }

/* What hashing needs to know of a flag: private copies of the record's words. */
struct flagshm_md5_prefix_ {
    uint64_t pending[8]; /* in memory order */
    uint32_t start[4], state[4];
    uint32_t bytes; /* of salt and ':', 2...65 */
};

/* What is left of the message when the id fills its first block: the rare way, any length up to
 * FLAGSHM_ID_MAX. */
FLAGSHM_COLD_ void flagshm_md5_long_(const struct flagshm_md5_prefix_ *prefix, const unsigned char *id,
                                     size_t id_bytes, uint32_t chain[4])
{
    unsigned char bytes[64];
    uint64_t block[8];
    uint32_t at[4];
    size_t filled = prefix->bytes & 63u, taken = 0, i;
    unsigned steps = (unsigned)filled / 4;
    bool has_ended = false;

    for (i = 0; i < 8; i++) {
        uint64_t word = flagshm_le64_(prefix->pending[i]);
        memcpy(bytes + 8 * i, &word, 8);
    }
    memcpy(chain, prefix->start, sizeof prefix->start);
    memcpy(at, prefix->state, sizeof at);
    for (;;) {
        size_t part = id_bytes - taken < 64 - filled ? id_bytes - taken : 64 - filled;
        memcpy(bytes + filled, id + taken, part);
        filled += part;
        taken += part;
        if (filled < 64 && !has_ended) {
            bytes[filled++] = 0x80;
            has_ended = true;
        }
        memset(bytes + filled, 0, 64 - filled);
        for (i = 0; i < 8; i++)
            block[i] = flagshm_get64_(bytes + 8 * i);
        if (has_ended && filled <= 56) {
            block[7] = ((uint64_t)prefix->bytes + id_bytes) * 8;
            flagshm_md5_block_(chain, at, steps, block);
            return;
        }
        flagshm_md5_block_(chain, at, steps, block);
        memcpy(at, chain, sizeof at);
        steps = 0;
        filled = 0;
    }
}

/* Lays an id and the padding into a block m that holds `filled` bytes of the prefix and zeros behind them;
 * filled + id_bytes <= 55. By whole words, shifted into place: bytes that are copied one by one would be read
 * back by the rounds as words that several stores have written, and the processor would wait for them all.
 * `word >> 1 >> (63 - shift)` is a shift by 64 - shift that is defined at shift 0. m has room for 20 words. */
FLAGSHM_INLINE_ void flagshm_md5_lay_(uint32_t m[20], size_t filled, uint64_t prefix_bytes,
                                      const unsigned char *id, size_t id_bytes)
{
    uint32_t *to = m + filled / 8 * 2;
    unsigned shift = (unsigned)(filled & 7) * 8;
    size_t left = id_bytes;
    uint64_t carry = (uint64_t)to[1] << 32 | to[0], word;

    for (; left >= 8; left -= 8, id += 8, to += 2) {
        word = flagshm_get64_(id);
        flagshm_md5_put_(to, carry | word << shift);
        carry = word >> 1 >> (63 - shift);
    }
    word = UINT64_C(0x80) << (8 * left);
    if (left != 0)
        word |=
            id_bytes >= 8 ? flagshm_get64_(id + left - 8) >> (8 * (8 - left)) : flagshm_get_short_(id, left);
    flagshm_md5_put_(to, carry | word << shift);
    flagshm_md5_put_(to + 2, word >> 1 >> (63 - shift));
    flagshm_md5_put_(m + 14, (prefix_bytes + id_bytes) * 8);
}

/* MD5 of the prefix and the id, as the digest's four big-endian words. */
FLAGSHM_INLINE_ void flagshm_md5_id_(const struct flagshm_md5_prefix_ *prefix, const unsigned char *id,
                                     size_t id_bytes, uint32_t words[4])
{
    struct flagshm_md5_state_ state;
    uint32_t chain[4], m[20];
    size_t filled = prefix->bytes & 63u, i;

    if (FLAGSHM_LIKELY_(filled + id_bytes <= 55)) {
        for (i = 0; i < 8; i++)
            flagshm_md5_put_(m + 2 * i, prefix->pending[i]);
        flagshm_md5_lay_(m, filled, prefix->bytes, id, id_bytes);
        for (i = 0; i < 4; i++)
            chain[i] = prefix->start[i];
        state.a = prefix->state[0];
        state.b = prefix->state[1];
        state.c = prefix->state[2];
        state.d = prefix->state[3];
        flagshm_md5_round_1_(&state, (unsigned)filled / 4, m);
        flagshm_md5_round_2_(&state, m);
        flagshm_md5_round_3_(&state, m);
        flagshm_md5_round_4_(chain, &state, m);
    } else {
        flagshm_md5_long_(prefix, id, id_bytes, chain);
    }
    for (i = 0; i < 4; i++)
        words[i] = __builtin_bswap32(chain[i]);
}

/* With h the digest as one big-endian number: (h % 100) * 1000 + (h / 100) % 1000. From r = h mod 100000,
 * since 100 divides 100000; the factors are 2^96, 2^64 and 2^32 mod 100000. */
FLAGSHM_INLINE_ uint32_t flagshm_bucket_(const uint32_t w[4])
{
    uint32_t r =
        (uint32_t)(((uint64_t)w[0] * 50336u + (uint64_t)w[1] * 51616u + (uint64_t)w[2] * 67296u + w[3]) %
                   100000u);
    return r * 1000u - r / 100u * 99999u; /* with q = r / 100: (r - 100 q) * 1000 + q */
}

/* (h / 100000) % modulus, by long division; modulus >= 1. */
FLAGSHM_API_ uint32_t flagshm_lot_(const uint32_t w[4], uint32_t modulus)
{
    uint64_t rest = 0, lot = 0;
    int i;
    for (i = 0; i < 4; i++) {
        uint64_t part = rest << 32 | w[i];
        rest = part % 100000u;
        lot = (lot << 32 | part / 100000u) % modulus;
    }
    return (uint32_t)lot;
}

/* ---- 5 Attaching ----
 *
 * An attachment is a private page with a checked copy of the segment's geometry; a handle points to the
 * newest, each points to the one before. Who sees that a segment is retired maps the successor and installs
 * it by one compare-and-swap; the loser of that race unmaps its own. Nothing is unmapped before
 * flagshm_close, since other threads may be reading it, and there is no state "in progress" that a fork()
 * could freeze. That bounds the number of segments that a handle can follow; a server replaces its segment
 * only where the table has outgrown it twofold, or where the object was removed by hand. */

#define FLAGSHM_ATTACHMENTS_MAX 16

struct flagshm_map_ {
    struct flagshm_map_ *older;
    const unsigned char *segment; /* struct flagshm_header, then the banks */
    const unsigned char *bank[2];
    uint64_t segment_id;
    uint64_t index_offset, records_offset, heap_offset, heap_bytes;
    uint64_t heap_short; /* the last offset with 32 bytes behind it */
    uint32_t index_mask, record_stride, record_capacity, arm_stride;
    size_t segment_bytes;
    uint64_t device, inode;
    uint32_t attachments; /* in the chain from here on */
};

FLAGSHM_INLINE_ const unsigned char *flagshm_seq_at_(const struct flagshm_map_ *map)
{
    return map->segment + offsetof(struct flagshm_header, seq);
}
FLAGSHM_INLINE_ uint64_t flagshm_seq_acquire_(const struct flagshm_map_ *map) /* R1 */
{
    return __atomic_load_n((const flagshm_u64_ *)(const void *)flagshm_seq_at_(map), __ATOMIC_ACQUIRE);
}
FLAGSHM_INLINE_ uint64_t flagshm_seq_again_(const struct flagshm_map_ *map) /* R3 */
{
#if !defined(__SANITIZE_THREAD__)
    if (FLAGSHM_DATA_LOAD_ == __ATOMIC_RELAXED)
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
    return __atomic_load_n((const flagshm_u64_ *)(const void *)flagshm_seq_at_(map), __ATOMIC_RELAXED);
}

#if defined(O_NOFOLLOW)
#define FLAGSHM_O_NOFOLLOW_ O_NOFOLLOW
#elif defined(__O_NOFOLLOW)
#define FLAGSHM_O_NOFOLLOW_ __O_NOFOLLOW
#elif defined(__aarch64__) || defined(__arm__) || defined(__powerpc__) || defined(__m68k__)
#define FLAGSHM_O_NOFOLLOW_ 0100000
#else
#define FLAGSHM_O_NOFOLLOW_ 0400000
#endif
#if defined(O_CLOEXEC)
#define FLAGSHM_O_CLOEXEC_ O_CLOEXEC
#elif defined(__O_CLOEXEC)
#define FLAGSHM_O_CLOEXEC_ __O_CLOEXEC
#else
#define FLAGSHM_O_CLOEXEC_ 02000000
#endif
#if defined(MAP_ANONYMOUS)
#define FLAGSHM_MAP_ANONYMOUS_ MAP_ANONYMOUS
#elif defined(__mips__)
#define FLAGSHM_MAP_ANONYMOUS_ 0x800
#elif defined(__alpha__) || defined(__hppa__)
#define FLAGSHM_MAP_ANONYMOUS_ 0x10
#else
#define FLAGSHM_MAP_ANONYMOUS_ 0x20
#endif

/* Is `bytes` from `offset` on, both from hostile hands, inside `whole`, and aligned? */
FLAGSHM_INLINE_ bool flagshm_is_inside_(uint64_t offset, uint64_t bytes, uint64_t whole)
{
    return (offset & 7) == 0 && offset <= whole && bytes <= whole - offset;
}

/* Copies the geometry and checks it. 0, -EPROTO: not our kind of object or layout, -EBADMSG: damaged. */
FLAGSHM_COLD_ int flagshm_geometry_(struct flagshm_map_ *map, const unsigned char *segment,
                                    uint64_t segment_bytes)
{
    const struct flagshm_header *h = (const struct flagshm_header *)(const void *)segment;
    uint64_t bank_bytes = flagshm_load64_(&h->bank_bytes), index_bytes, records_bytes;
    uint64_t version_and_order = flagshm_load64_(&h->byte_order);
    uint32_t order = 0, slots = flagshm_load32_(&h->index_slots);
    uint16_t major = 0;
    int i;

    memcpy(&order, &version_and_order, sizeof order);
    memcpy(&major, (const unsigned char *)&version_and_order + 4, sizeof major);
    if (flagshm_load64_(&h->magic) != FLAGSHM_TABLE_MAGIC || order != FLAGSHM_BYTE_ORDER ||
        major != FLAGSHM_LAYOUT_MAJOR || flagshm_load32_(&h->kind) != FLAGSHM_KIND_TABLE)
        return -EPROTO;
    if (flagshm_load64_(&h->segment_bytes) != segment_bytes ||
        flagshm_load32_(&h->header_bytes) < FLAGSHM_HEADER_BYTES)
        return -EBADMSG;
    map->segment = segment;
    map->segment_bytes = (size_t)segment_bytes;
    map->segment_id = flagshm_load64_(&h->segment_id);
    map->index_offset = flagshm_load64_(&h->index_offset);
    map->records_offset = flagshm_load64_(&h->records_offset);
    map->heap_offset = flagshm_load64_(&h->heap_offset);
    map->heap_bytes = flagshm_load64_(&h->heap_bytes) & ~UINT64_C(7);
    map->record_stride = flagshm_load32_(&h->record_stride);
    map->record_capacity = flagshm_load32_(&h->record_capacity);
    map->arm_stride = flagshm_load32_(&h->arm_stride);
    map->heap_short = map->heap_bytes - 32; /* heap_bytes >= 64, see below */
    map->index_mask = slots - 1;
    index_bytes = (uint64_t)slots * 8;
    records_bytes = (uint64_t)map->record_capacity * map->record_stride;
    if (slots == 0 || (slots & (slots - 1)) != 0 || map->record_stride < sizeof(struct flagshm_flag_entry) ||
        map->record_stride % 8 != 0 || map->record_stride > 65536 ||
        map->arm_stride < sizeof(struct flagshm_arm_entry) || map->arm_stride % 8 != 0 ||
        map->arm_stride > 65536 || map->heap_bytes < 64 || map->heap_bytes > UINT32_MAX ||
        !flagshm_is_inside_(map->index_offset, index_bytes, bank_bytes) ||
        !flagshm_is_inside_(map->records_offset, records_bytes, bank_bytes) ||
        !flagshm_is_inside_(map->heap_offset, map->heap_bytes, bank_bytes) ||
        bank_bytes < sizeof(struct flagshm_bank))
        return -EBADMSG;
    for (i = 0; i < 2; i++) {
        uint64_t offset = flagshm_load64_(&h->bank_offset[i]);
        if (offset < FLAGSHM_HEADER_BYTES || !flagshm_is_inside_(offset, bank_bytes, segment_bytes))
            return -EBADMSG;
        map->bank[i] = segment + offset;
    }
    return 0;
}

/* May an object with this owner and mode decide for us? In a FLAGSHM_DIR that only its owner can write to,
 * that owner is trusted too. */
FLAGSHM_COLD_ bool flagshm_is_trusted_(const struct flagshm *fs, const struct stat *object)
{
    if (!S_ISREG(object->st_mode) || (object->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return false;
    if (object->st_uid == 0 || object->st_uid == geteuid() ||
        (fs->has_owner_ && (uint32_t)object->st_uid == fs->owner_))
        return true;
    if (fs->in_dir_) {
        char dir[sizeof fs->path_];
        struct stat place;
        char *slash;
        memcpy(dir, fs->path_, sizeof dir);
        slash = strrchr(dir, '/');
        if (slash != NULL)
            slash[slash == dir] = '\0';
        return slash != NULL && stat(dir, &place) == 0 && S_ISDIR(place.st_mode) &&
               (place.st_mode & (S_IWGRP | S_IWOTH)) == 0 && place.st_uid == object->st_uid;
    }
    return false;
}

/* Maps what stands under the name now and installs it in front of `seen`. 0; -EALREADY: it is `seen` itself;
 * -errno. */
FLAGSHM_COLD_ int flagshm_attach_once_(struct flagshm *fs, struct flagshm_map_ *seen)
{
    struct flagshm_map_ *map = NULL;
    void *segment = NULL, *page;
    struct stat object;
    int error = 0, fd;

    if (fs->path_[0] == '\0')
        return -EINVAL;
    if (__atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE) != seen)
        return 0; /* another thread was first */
    if (seen != NULL && seen->attachments >= FLAGSHM_ATTACHMENTS_MAX)
        return -EMFILE;
    fd = open(fs->path_, O_RDONLY | O_NONBLOCK | O_NOCTTY | FLAGSHM_O_CLOEXEC_ | FLAGSHM_O_NOFOLLOW_);
    if (fd < 0)
        return errno == ELOOP ? -EPERM : -errno;
    if (fstat(fd, &object) != 0)
        error = -errno;
    else if (seen != NULL && seen->device == (uint64_t)object.st_dev &&
             seen->inode == (uint64_t)object.st_ino)
        error = -EALREADY;
    else if (!flagshm_is_trusted_(fs, &object))
        error = -EPERM;
    else if (object.st_size < (off_t)FLAGSHM_HEADER_BYTES)
        error = -EBADMSG;
    else if ((uint64_t)object.st_size > SIZE_MAX / 2)
        error = -EFBIG;
    if (error == 0) {
        segment = mmap(NULL, (size_t)object.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (segment == (void *)-1)
            error = -errno;
    }
    (void)close(fd);
    if (error != 0)
        return error;

    page = mmap(NULL, sizeof *map, PROT_READ | PROT_WRITE, MAP_PRIVATE | FLAGSHM_MAP_ANONYMOUS_, -1, 0);
    if (page == (void *)-1) {
        error = -errno;
    } else {
        map = (struct flagshm_map_ *)page;
        error = flagshm_geometry_(map, (const unsigned char *)segment, (uint64_t)object.st_size);
    }
    if (error == 0) {
        struct flagshm_map_ *expected = seen;
        map->device = (uint64_t)object.st_dev;
        map->inode = (uint64_t)object.st_ino;
        map->older = seen;
        map->attachments = seen != NULL ? seen->attachments + 1 : 1;
        if (__atomic_compare_exchange_n(&fs->map_, &expected, map, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return 0;
    }
    if (map != NULL)
        (void)munmap(page, sizeof *map);
    (void)munmap(segment, (size_t)object.st_size);
    return error; /* 0: another thread was first */
}

/* The newest attachment after at most one attempt a second to find a newer one than `seen`; NULL: there is
 * none. It is asked where there is no table yet, where the segment is retired, and where the heartbeat has
 * stopped: a server that died between renaming a new segment in and retiring the old one, or whose segment
 * somebody removed by hand, leaves readers on an orphan that nobody can retire any more. So decisions by name
 * look at the heartbeat each 8th time where the process has one thread, and each time where it may have more; those by
 * a reference each 32nd time. */
FLAGSHM_COLD_ struct flagshm_map_ *flagshm_newer_(struct flagshm *fs, struct flagshm_map_ *seen)
{
    uint64_t now = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_);
    uint64_t retry = __atomic_load_n(&fs->retry_mono_ns_, __ATOMIC_RELAXED);
    int saved = errno;

    if ((retry == 0 || now >= retry || retry - now > UINT64_C(2000000000)) &&
        __atomic_compare_exchange_n(&fs->retry_mono_ns_, &retry, now + UINT64_C(1000000000), false,
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
        flagshm_attach_once_(fs, seen) == 0)
        __atomic_store_n(&fs->retry_mono_ns_, 0, __ATOMIC_RELAXED); /* the next one may be followed at once */
    errno = saved;
    return __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
}

/* Is it time to look at the heartbeat? A process of one thread may count in the handle, since no other CPU wants that line; with
 * more threads the clock is cheaper than a line that all of them write. glibc and musl say which it is. */
FLAGSHM_INLINE_ bool flagshm_looks_(struct flagshm *fs)
{
    uint32_t count;
    if (&flagshm_libc_single_threaded_ == NULL || flagshm_libc_single_threaded_ == 0)
        return true;
    count = __atomic_load_n(&fs->checks_, __ATOMIC_RELAXED) + 1;
    __atomic_store_n(&fs->checks_, count, __ATOMIC_RELAXED);
    return (count & 7) == 0;
}

/* Signed age of the heartbeat in ns: slightly ahead (coarse clocks of two CPUs) counts as 0. */
FLAGSHM_INLINE_ int64_t flagshm_map_age_ns_(const struct flagshm_map_ *map)
{
    const struct flagshm_header *h = (const struct flagshm_header *)(const void *)map->segment;
    uint64_t beat = flagshm_load64_(&h->heartbeat_mono_ns);
    int64_t age = (int64_t)(flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) - beat);
    return age < 0 && age >= -INT64_C(2000000000) ? 0 : age;
}
FLAGSHM_INLINE_ bool flagshm_is_stale_(const struct flagshm_map_ *map)
{
    const struct flagshm_header *h = (const struct flagshm_header *)(const void *)map->segment;
    uint64_t beat = flagshm_load64_(&h->heartbeat_mono_ns), ahead = UINT64_C(2000000000);
    uint64_t now = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_);
    return now - beat + ahead >
           flagshm_load64_(&h->stale_after_ns) + ahead; /* from -2 s on in one comparison */
}

/* An attachment of the outcome segment; as for the table, nothing is unmapped before flagshm_close. */
struct flagshm_outcomes_map_ {
    struct flagshm_outcomes_map_ *older;
    struct flagshm_outcomes *segment;
    uint64_t segment_id;
    uint32_t attachments;
};

/* Maps the outcome segment `wanted`, which the table names, and installs it. 0 or -errno. */
FLAGSHM_COLD_ int flagshm_outcomes_attach_(struct flagshm *fs, uint64_t wanted)
{
    struct flagshm_outcomes_map_ *seen = __atomic_load_n(&fs->outcomes_, __ATOMIC_ACQUIRE), *map;
    struct flagshm_outcomes *segment;
    size_t at = strlen(fs->path_), slash = at;
    char path[sizeof fs->path_ + 16];
    struct stat object;
    void *memory;
    int fd, error = 0;

    if (seen != NULL && seen->attachments >= FLAGSHM_ATTACHMENTS_MAX)
        return -EMFILE;
    while (slash > 0 && fs->path_[slash - 1] != '/')
        slash--;
    if (at < slash + 6)
        return -EINVAL;
    memcpy(path, fs->path_, slash); /* DIR/flagshm.NAME.table: DIR/outcomes/flagshm.NAME.outcomes */
    if (fs->in_dir_) {
        memcpy(path + slash, "outcomes/", 9);
        memcpy(path + slash + 9, fs->path_ + slash, at - slash - 5);
        at += 9;
    } else {
        memcpy(path + slash, fs->path_ + slash, at - slash - 5);
    }
    memcpy(path + at - 5, "outcomes", 9);
    fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | FLAGSHM_O_CLOEXEC_ | FLAGSHM_O_NOFOLLOW_);
    if (fd < 0)
        return errno == ELOOP ? -EPERM : -errno;
    if (fstat(fd, &object) != 0) {
        error = -errno;
    } else {
        object.st_mode &= ~(mode_t)S_IWGRP; /* the clients' group may write this one */
        if (!flagshm_is_trusted_(fs, &object))
            error = -EPERM;
        else if ((uint64_t)object.st_size != FLAGSHM_OUTCOMES_BYTES)
            error = -EPROTO;
    }
    memory = (void *)-1;
    if (error == 0) {
        memory = mmap(NULL, (size_t)object.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (memory == (void *)-1)
            error = -errno;
    }
    (void)close(fd);
    if (error != 0)
        return error;
    segment = (struct flagshm_outcomes *)memory;
    if (flagshm_load64_(&segment->magic) != FLAGSHM_OUTCOMES_MAGIC ||
        flagshm_load32_(&segment->byte_order) != FLAGSHM_BYTE_ORDER ||
        flagshm_load32_(&segment->kind) != FLAGSHM_KIND_OUTCOMES)
        error = -EPROTO;
    else if (flagshm_load64_(&segment->segment_id) != wanted)
        error = -ESTALE; /* another one than the table names: about to be replaced */
    if (error == 0) {
        void *page =
            mmap(NULL, sizeof *map, PROT_READ | PROT_WRITE, MAP_PRIVATE | FLAGSHM_MAP_ANONYMOUS_, -1, 0);
        if (page == (void *)-1) {
            error = -errno;
        } else {
            struct flagshm_outcomes_map_ *expected = seen;
            map = (struct flagshm_outcomes_map_ *)page;
            map->older = seen;
            map->segment = segment;
            map->segment_id = wanted;
            map->attachments = seen != NULL ? seen->attachments + 1 : 1;
            if (__atomic_compare_exchange_n(&fs->outcomes_, &expected, map, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE))
                return 0;
            (void)munmap(page, sizeof *map);
        }
    }
    (void)munmap(memory, (size_t)object.st_size);
    return error; /* 0: another thread was first */
}

/* The outcome segment that the table names, attached at most once a second; NULL with *error. */
FLAGSHM_COLD_ struct flagshm_outcomes *flagshm_outcomes_find_(struct flagshm *fs, uint64_t wanted, int *error)
{
    uint64_t now = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_);
    uint64_t retry = __atomic_load_n(&fs->outcomes_retry_mono_ns_, __ATOMIC_RELAXED);
    struct flagshm_outcomes_map_ *map;
    int saved = errno;

    /* Where no attempt has failed, several threads may map it at once: the losers unmap theirs, and none loses an outcome. */
    if (retry == 0 ||
        ((now >= retry || retry - now > UINT64_C(2000000000)) &&
         __atomic_compare_exchange_n(&fs->outcomes_retry_mono_ns_, &retry, now + UINT64_C(1000000000), false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED))) {
        int result = flagshm_outcomes_attach_(fs, wanted);
        __atomic_store_n(&fs->outcomes_error_, (int32_t)result, __ATOMIC_RELAXED);
        __atomic_store_n(&fs->outcomes_retry_mono_ns_, result == 0 ? 0 : now + UINT64_C(1000000000),
                         __ATOMIC_RELAXED);
    }
    errno = saved;
    map = __atomic_load_n(&fs->outcomes_, __ATOMIC_ACQUIRE);
    if (map != NULL && map->segment_id == wanted)
        return map->segment;
    *error = (int)__atomic_load_n(&fs->outcomes_error_, __ATOMIC_RELAXED);
    if (*error == 0)
        *error = -EAGAIN;
    return NULL;
}

/* ---- 6 Reading ---- */

/* Where a flag stands, or NULL. The hash decides: it is unique among the names of a table, and a name that is in
 * none has one of their 64-bit hashes with a chance of 1 in 10^15 for 10 000 flags. So no decision waits for the
 * memory of a name. With a name (of `bytes` bytes) that is compared too. */
FLAGSHM_INLINE_ const unsigned char *flagshm_find_(const struct flagshm_map_ *map, const unsigned char *bank,
                                                   uint64_t hash, const char *name, size_t bytes)
{
    const unsigned char *index = bank + map->index_offset;
    uint32_t at = (uint32_t)hash & map->index_mask, probes;

    for (probes = 0; probes < FLAGSHM_PROBES_MAX; probes++, at = (at + 1) & map->index_mask) {
        uint64_t slot = flagshm_load64_(index + (size_t)at * 8);
        uint32_t number = (uint32_t)slot - 1;
        const unsigned char *r;
        const unsigned char *text;
        uint32_t offset;
        size_t i;

        if (slot == 0)
            return NULL;
        if ((uint32_t)(slot >> 32) != (uint32_t)(hash >> 32) || number >= map->record_capacity)
            continue;
        r = bank + map->records_offset + (size_t)number * map->record_stride;
        if (flagshm_load64_(r + offsetof(struct flagshm_flag_entry, name_hash)) != hash)
            continue;
        if (name == NULL)
            return r;
        offset = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, name_offset));
        if (flagshm_load16_(r + offsetof(struct flagshm_flag_entry, name_bytes)) != bytes ||
            !flagshm_is_inside_(offset, (bytes + 7) & ~(size_t)7, map->heap_bytes))
            continue;
        text = bank + map->heap_offset + offset;
        for (i = 0; i + 8 <= bytes; i += 8)
            if (flagshm_le64_(flagshm_load64_(text + i)) != flagshm_get64_(name + i))
                break;
        if (i == bytes ||
            (i + 8 > bytes && flagshm_le64_(flagshm_load64_(text + i)) ==
                                  flagshm_get_short_((const unsigned char *)name + i, bytes - i)))
            return r;
    }
    return NULL;
}

/* Four words of shared memory; written out, since compilers keep loops over atomic loads as loops. */
FLAGSHM_INLINE_ void flagshm_copy32_(char *out, const unsigned char *shared)
{
    uint64_t a = flagshm_load64_(shared), b = flagshm_load64_(shared + 8);
    uint64_t c = flagshm_load64_(shared + 16), d = flagshm_load64_(shared + 24);
    memcpy(out, &a, 8);
    memcpy(out + 8, &b, 8);
    memcpy(out + 16, &c, 8);
    memcpy(out + 24, &d, 8);
}

/* Copies a text of the heap, at most `room` - 1 bytes, and ends it; room is a multiple of 8. False: offset or length make no
 * sense. For texts that flagshm_serve_ cannot take straight away. */
static __attribute__((noinline, unused)) bool flagshm_text_(const struct flagshm_map_ *map,
                                                            const unsigned char *heap, uint32_t offset,
                                                            uint32_t bytes, char *out, uint32_t room)
{
    uint32_t i = 0;

    offset &= ~7u;
    if (bytes >= room || (uint64_t)offset + ((bytes + 7u) & ~7u) > map->heap_bytes)
        return false;
    for (; i + 32 <= bytes; i += 32)
        flagshm_copy32_(out + i, heap + offset + i);
    for (; i < bytes; i += 8) {
        uint64_t word = flagshm_load64_(heap + offset + i);
        memcpy(out + i, &word, 8);
    }
    out[bytes] = '\0';
    return true;
}

struct flagshm_key_ { /* who is asked for */
    const unsigned char *bytes;
    size_t length; /* 0: missing */
};

FLAGSHM_INLINE_ uint64_t flagshm_key_hash_(struct flagshm_key_ id)
{
    return id.length != 0 ? flagshm_hash64_inline_(id.bytes, id.length, 1) : 0;
}

/* Fills in what an answer without an arm's text has. */
FLAGSHM_COLD_ enum flagshm_reason flagshm_nothing_(struct flagshm_decision *d, enum flagshm_reason reason,
                                                   uint64_t flag_hash, struct flagshm_key_ id,
                                                   uint64_t segment_id, uint64_t version)
{
    memset(d, 0, sizeof *d);
    d->version = version;
    d->segment_id = segment_id;
    d->flag_hash = flag_hash;
    d->id_hash = flagshm_key_hash_(id);
    d->reason = reason;
    d->bucket = FLAGSHM_NO_BUCKET;
    d->slot = FLAGSHM_NO_SLOT;
    memcpy(d->arm_name, "control", 8);
    return reason;
}

/* The arm of a forced id, by binary search over hostile words; 0 or the arm's number, or -1. */
FLAGSHM_COLD_ int flagshm_forced_(const struct flagshm_map_ *map, const unsigned char *bank, uint32_t offset,
                                  uint32_t count, const uint32_t words[4])
{
    uint64_t high = (uint64_t)words[0] << 32 | words[1], low = (uint64_t)words[2] << 32 | words[3];
    uint32_t first = 0, end = count;
    const unsigned char *ids;

    if (!flagshm_is_inside_(offset, (uint64_t)count * sizeof(struct flagshm_force_id), map->heap_bytes))
        return -1;
    ids = bank + map->heap_offset + offset;
    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        const unsigned char *entry = ids + (size_t)middle * sizeof(struct flagshm_force_id);
        uint64_t h = flagshm_load64_(entry), l = flagshm_load64_(entry + 8);
        if (h == high && l == low) {
            uint64_t arm = flagshm_load64_(entry + 16);
            return arm < 8 ? (int)arm : -1;
        }
        if (h < high || (h == high && l < low))
            first = middle + 1;
        else
            end = middle;
    }
    return -1;
}

/* Which of several variants a user gets, by weight; never beyond `arms`. */
FLAGSHM_COLD_ uint32_t flagshm_pick_(const struct flagshm_map_ *map, const unsigned char *arm_entries,
                                     uint32_t arms, uint32_t weight_sum, const uint32_t words[4])
{
    uint32_t lot = flagshm_lot_(words, weight_sum ? weight_sum : 1), arm;
    for (arm = 1; arm + 1 < arms; arm++)
        if (lot < flagshm_load32_(arm_entries + (size_t)arm * map->arm_stride))
            break;
    return arm;
}

/* flagshm_serve_ for texts of 32 bytes or more, and for those at the end of the heap. */
static __attribute__((noinline, unused)) bool flagshm_serve_long_(const struct flagshm_map_ *map,
                                                                  const unsigned char *heap,
                                                                  const unsigned char *entry,
                                                                  struct flagshm_decision *d)
{
    uint32_t name = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, name_offset));
    uint32_t model = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, model_offset));
    uint32_t value = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, value_offset));
    uint32_t name_bytes = flagshm_load16_(entry + offsetof(struct flagshm_arm_entry, name_bytes));
    uint32_t model_bytes = flagshm_load16_(entry + offsetof(struct flagshm_arm_entry, model_bytes));
    uint32_t value_bytes = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, value_bytes));

    if (value_bytes >= sizeof d->value) {
        value_bytes = 0;
        value = 0;
    }
    return flagshm_text_(map, heap, name, name_bytes, d->arm_name, sizeof d->arm_name) &&
           flagshm_text_(map, heap, model, model_bytes, d->model, sizeof d->model) &&
           flagshm_text_(map, heap, value, value_bytes, d->value, sizeof d->value);
}

/* Copies an arm's texts into a decision: short ones, of any length, take one straight way. False where the words
 * make no sense: a mix of two tables, or damage. */
FLAGSHM_INLINE_ bool flagshm_serve_(const struct flagshm_map_ *map, const unsigned char *heap,
                                    const unsigned char *entry, struct flagshm_decision *d)
{
    uint32_t name = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, name_offset)) & ~7u;
    uint32_t model = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, model_offset)) & ~7u;
    uint32_t value = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, value_offset)) & ~7u;
    uint32_t name_bytes = flagshm_load16_(entry + offsetof(struct flagshm_arm_entry, name_bytes));
    uint32_t model_bytes = flagshm_load16_(entry + offsetof(struct flagshm_arm_entry, model_bytes));
    uint32_t value_bytes = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, value_bytes));
    uint64_t room = map->heap_short;

    d->value_hash = flagshm_load64_(entry + offsetof(struct flagshm_arm_entry, value_hash));
    d->value_bytes = value_bytes;
    if (FLAGSHM_UNLIKELY_((name_bytes | model_bytes | value_bytes) >= 32 || name > room || model > room ||
                          value > room))
        return flagshm_serve_long_(map, heap, entry, d);
    flagshm_copy32_(d->arm_name, heap + name);
    flagshm_copy32_(d->model, heap + model);
    flagshm_copy32_(d->value, heap + value);
    d->arm_name[name_bytes] = '\0';
    d->model[model_bytes] = '\0';
    d->value[value_bytes] = '\0';
    return true;
}

/* The rare way to hash: an id that does not fit into the prefix's block. */
FLAGSHM_COLD_ void flagshm_hash_long_(const unsigned char *r, struct flagshm_key_ id, uint32_t chain[4])
{
    struct flagshm_md5_prefix_ prefix;
    size_t i;
    for (i = 0; i < 4; i++) {
        prefix.start[i] = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, md5_start) + 4 * i);
        prefix.state[i] = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, md5_state) + 4 * i);
    }
    for (i = 0; i < 8; i++)
        prefix.pending[i] =
            flagshm_le64_(flagshm_load64_(r + offsetof(struct flagshm_flag_entry, pending) + 8 * i));
    prefix.bytes = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, prefix_bytes));
    flagshm_md5_long_(&prefix, id.bytes, id.length, chain);
}

/* The beginning of MD5 over a record's salt, ':' and an id: lays the block m out and runs the first round. False
 * where the id does not fit into the block: then the whole hash is done, and *at is what it ends with. */
FLAGSHM_INLINE_ bool flagshm_hash_begin_(struct flagshm_md5_state_ *at, uint32_t m[20],
                                         const unsigned char *r, struct flagshm_key_ id)
{
    uint32_t prefix_bytes = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, prefix_bytes));
    size_t filled = prefix_bytes & 63u;
    const unsigned char *state = r + offsetof(struct flagshm_flag_entry, md5_state);
    const unsigned char *pending = r + offsetof(struct flagshm_flag_entry, pending);

    if (FLAGSHM_UNLIKELY_(filled + id.length > 55)) {
        uint32_t chain[4];
        flagshm_hash_long_(r, id, chain);
        at->a = chain[0];
        at->b = chain[1];
        at->c = chain[2];
        at->d = chain[3];
        return false;
    }
    flagshm_md5_put_(m, flagshm_le64_(flagshm_load64_(pending)));
    flagshm_md5_put_(m + 2, flagshm_le64_(flagshm_load64_(pending + 8)));
    flagshm_md5_put_(m + 4, flagshm_le64_(flagshm_load64_(pending + 16)));
    flagshm_md5_put_(m + 6, flagshm_le64_(flagshm_load64_(pending + 24)));
    flagshm_md5_put_(m + 8, flagshm_le64_(flagshm_load64_(pending + 32)));
    flagshm_md5_put_(m + 10, flagshm_le64_(flagshm_load64_(pending + 40)));
    flagshm_md5_put_(m + 12, flagshm_le64_(flagshm_load64_(pending + 48)));
    flagshm_md5_lay_(m, filled, prefix_bytes, id.bytes, id.length);
    at->a = flagshm_load32_(state);
    at->b = flagshm_load32_(state + 4);
    at->c = flagshm_load32_(state + 8);
    at->d = flagshm_load32_(state + 12);
    flagshm_md5_round_1_(at, (unsigned)filled / 4, m);
    return true;
}

/* The model to call in the background, from the first variant. */
FLAGSHM_COLD_ bool flagshm_shadow_(const struct flagshm_map_ *map, const unsigned char *heap,
                                   const unsigned char *entry, struct flagshm_decision *d)
{
    d->shadow =
        flagshm_text_(map, heap, flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, model_offset)),
                      flagshm_load16_(entry + offsetof(struct flagshm_arm_entry, model_bytes)),
                      d->shadow_model, sizeof d->shadow_model);
    return d->shadow;
}

/* One record of one bank, and what of it says how to go on. */
struct flagshm_case_ {
    const struct flagshm_map_ *map;
    const unsigned char *bank, *record, *heap, *arms;
    struct flagshm_key_ id;
    uint64_t flag_hash;
    uint32_t switches, force_count, share, arm_count, shadow;
};

/* Finds the arms. False where the words make no sense. */
FLAGSHM_INLINE_ bool flagshm_frame_(struct flagshm_case_ *c)
{
    const unsigned char *r = c->record;
    uint32_t offset = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, arms_offset)) & ~7u;
    c->share = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, rollout_mpct));
    c->arm_count = flagshm_load16_(r + offsetof(struct flagshm_flag_entry, arm_count));
    c->heap = c->bank + c->map->heap_offset;
    if (FLAGSHM_UNLIKELY_(c->arm_count - 2 > 6 || c->share > 100000 ||
                          offset + (uint64_t)c->arm_count * c->map->arm_stride > c->map->heap_bytes))
        return false;
    c->arms = c->heap + offset;
    return true;
}

/* Fills in what does not depend on the arm. */
FLAGSHM_INLINE_ void flagshm_describe_(const struct flagshm_case_ *c, uint32_t share,
                                       struct flagshm_decision *d)
{
    const unsigned char *stage = c->record + offsetof(struct flagshm_flag_entry, stage);
    uint64_t word = flagshm_load64_(stage);
    memcpy(d->stage, &word, 8);
    word = flagshm_load64_(stage + 8);
    memcpy(d->stage + 8, &word, 8);
    word = flagshm_load64_(stage + 16);
    memcpy(d->stage + 16, &word, 8);
    d->stage[23] = '\0';
    d->version = flagshm_load64_(c->bank + offsetof(struct flagshm_bank, version));
    d->segment_id = c->map->segment_id;
    d->flag_hash = c->flag_hash;
    d->id_hash = flagshm_key_hash_(c->id);
    d->rollout_mpct = share;
    d->shadow = false;
    d->shadow_model[0] = '\0';
}

/* The rest of flagshm_split_, for who gets another arm than was guessed, and for flags with more to look at.
 * False where the words make no sense. */
static __attribute__((noinline, unused)) bool flagshm_settle_far_(const struct flagshm_case_ *c,
                                                                  const uint32_t words[4], uint32_t guess,
                                                                  struct flagshm_decision *d)
{
    const unsigned char *r = c->record;
    uint32_t arm = d->bucket < c->share;
    int forced = -1;

    if (c->force_count != 0)
        forced = flagshm_forced_(c->map, c->bank,
                                 flagshm_load32_(r + offsetof(struct flagshm_flag_entry, force_offset)),
                                 c->force_count, words);
    if (forced >= 0) {
        arm = (uint32_t)forced;
        d->reason = FLAGSHM_TARGETING_MATCH;
    } else if ((c->switches & FLAGSHM_SWITCH_HASH) == 0) {
        arm = c->share == 100000;
        d->reason = FLAGSHM_STATIC;
        d->bucket = FLAGSHM_NO_BUCKET;
    } else if (arm != 0 && c->arm_count > 2) {
        arm = flagshm_pick_(c->map, c->arms, c->arm_count,
                            flagshm_load32_(r + offsetof(struct flagshm_flag_entry, weight_sum)), words);
    }
    d->arm = arm;
    if (arm >= c->arm_count)
        return false;
    if (d->reason != FLAGSHM_SPLIT) {
        d->slot = FLAGSHM_NO_SLOT;
        d->slot_generation = 0;
    } else if (arm == 0 && d->bucket < c->shadow &&
               !flagshm_shadow_(c->map, c->heap, c->arms + c->map->arm_stride, d)) {
        return false;
    }
    return arm == guess || flagshm_serve_(c->map, c->heap, c->arms + (size_t)arm * c->map->arm_stride, d);
}

/* Hands over copies, so that what the caller works with need not lie in memory. */
FLAGSHM_INLINE_ bool flagshm_settle_(const struct flagshm_case_ *c, const uint32_t words[4], uint32_t guess,
                                     struct flagshm_decision *d)
{
    struct flagshm_case_ copy = *c;
    uint32_t w[4];
    w[0] = words[0];
    w[1] = words[1];
    w[2] = words[2];
    w[3] = words[3];
    return flagshm_settle_far_(&copy, w, guess, d);
}

/* Decides by the user's hash: force list, share, weights. False where the words make no sense. *is_stale in:
 * look at the heartbeat; out: it has stopped. */
FLAGSHM_INLINE_ bool flagshm_split_(struct flagshm_case_ *c, bool *is_stale, struct flagshm_decision *d)
{
    const unsigned char *r = c->record;
    const unsigned char *start = r + offsetof(struct flagshm_flag_entry, md5_start);
    struct flagshm_md5_state_ at;
    uint32_t m[20], words[4], guess;
    bool is_sound, is_plain, is_short;

    /* MD5 is one long chain and leaves most of the processor idle: so what can be done without its result is
     * done in its midst, a third after each round: the processor looks only so far ahead, and more at one place
     * would starve the chain. The arm that is more likely served is filled in, and taken back for the others: so
     * no load hangs on the hash. */
    is_short = flagshm_hash_begin_(&at, m, r, c->id);
    if (FLAGSHM_UNLIKELY_(!flagshm_frame_(c)))
        return false;
    guess = c->share > 50000;
    flagshm_describe_(c, c->share, d);
    if (FLAGSHM_LIKELY_(is_short))
        flagshm_md5_round_2_(&at, m);
    d->reason = FLAGSHM_SPLIT;
    d->arm = guess;
    d->slot = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, slot));
    d->slot_generation = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, slot_generation));
    c->shadow = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, shadow_mpct));
    is_plain = c->arm_count == 2 && (c->force_count | c->shadow) == 0;
    is_sound = flagshm_serve_(c->map, c->heap, c->arms + (size_t)guess * c->map->arm_stride, d);
    if (FLAGSHM_LIKELY_(is_short))
        flagshm_md5_round_3_(&at, m);
    if (*is_stale)
        *is_stale = flagshm_is_stale_(c->map);
    words[0] = at.a;
    words[1] = at.b;
    words[2] = at.c;
    words[3] = at.d;
    if (FLAGSHM_LIKELY_(is_short)) {
        words[0] = flagshm_load32_(start);
        words[1] = flagshm_load32_(start + 4);
        words[2] = flagshm_load32_(start + 8);
        words[3] = flagshm_load32_(start + 12);
        flagshm_md5_round_4_(words, &at, m);
    }
    words[0] = __builtin_bswap32(words[0]);
    words[1] = __builtin_bswap32(words[1]);
    words[2] = __builtin_bswap32(words[2]);
    words[3] = __builtin_bswap32(words[3]);

    d->bucket = flagshm_bucket_(words);
    if (FLAGSHM_LIKELY_(is_plain && (d->bucket < c->share) == (guess != 0)))
        return is_sound;
    return flagshm_settle_(c, words, guess, d) && is_sound;
}

/* Decides by one record, in the order that the contract gives: switches, dead-man rule, force list, missing
 * id, static share, split. Returns false where the words make no sense; the caller then finds out whether
 * they moved meanwhile or are damaged. *is_stale as for flagshm_split_. */
FLAGSHM_INLINE_ bool flagshm_judge_(struct flagshm_case_ *c, uint64_t seq, bool *is_stale,
                                    struct flagshm_decision *d)
{
    struct flagshm_key_ id = c->id;
    bool is_all_control = (seq & FLAGSHM_SEQ_ALL_CONTROL) != 0;
    enum flagshm_reason reason = FLAGSHM_STATIC;
    uint32_t share, arm = 0;

    c->switches = flagshm_load32_(c->record + offsetof(struct flagshm_flag_entry, switches));
    c->force_count = flagshm_load32_(c->record + offsetof(struct flagshm_flag_entry, force_count));
    if (FLAGSHM_UNLIKELY_(is_all_control || (c->switches & FLAGSHM_SWITCH_OFF) != 0)) {
        reason = FLAGSHM_DISABLED;
    } else if (FLAGSHM_UNLIKELY_((c->switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0 &&
                                 flagshm_is_stale_(c->map))) {
        reason = FLAGSHM_STALE;
        *is_stale = true;
    } else if (FLAGSHM_UNLIKELY_(id.length - 1 >= FLAGSHM_ID_MAX)) {
        reason = id.length == 0 ? FLAGSHM_TARGETING_KEY_MISSING : FLAGSHM_GENERAL;
    } else if ((c->switches & FLAGSHM_SWITCH_HASH) != 0 || FLAGSHM_UNLIKELY_(c->force_count != 0)) {
        return flagshm_split_(c, is_stale, d);
    }
    if (*is_stale)
        *is_stale = flagshm_is_stale_(c->map);
    if (FLAGSHM_UNLIKELY_(!flagshm_frame_(c)))
        return false;
    share = c->share;
    if (FLAGSHM_LIKELY_(reason == FLAGSHM_STATIC))
        arm = share == 100000;
    else if (reason < FLAGSHM_FLAG_NOT_FOUND)
        share = 0;
    flagshm_describe_(c, share, d);
    d->reason = reason;
    d->arm = arm;
    d->bucket = FLAGSHM_NO_BUCKET;
    d->slot = FLAGSHM_NO_SLOT;
    d->slot_generation = 0;
    if (FLAGSHM_UNLIKELY_(is_all_control))
        memcpy(d->stage, "killed", 7);
    if (FLAGSHM_LIKELY_(reason < FLAGSHM_FLAG_NOT_FOUND))
        return flagshm_serve_(c->map, c->heap, c->arms + (size_t)arm * c->map->arm_stride, d);
    d->value_hash = 0;
    d->value_bytes = 0;
    d->value[0] = '\0';
    d->model[0] = '\0';
    memcpy(d->arm_name, "control", 8);
    return true;
}

/* Where a flag stands in a bank; with a reference, its place is remembered while seq stands still. */
FLAGSHM_INLINE_ const unsigned char *flagshm_record_at_(const struct flagshm_map_ *map, uint64_t seq,
                                                        struct flagshm_ref *ref, uint64_t hash)
{
    const unsigned char *record;
    if (ref != NULL && FLAGSHM_LIKELY_(ref->map_ == map && ref->seq_ == seq))
        return ref->record_;
    record = flagshm_find_(map, map->bank[seq & 1], hash, NULL, 0);
    if (ref != NULL) {
        ref->map_ = NULL; /* until seq is seen to stand still */
        ref->has_pct_ = 0;
        ref->record_ = record;
        ref->seq_ = seq;
    }
    return record;
}

/* The one decision function behind the public ones, compiled once for names and once for references. */
FLAGSHM_INLINE_ enum flagshm_reason flagshm_decide_in_(struct flagshm *fs, struct flagshm_ref *ref,
                                                       uint64_t name_hash, const char *id,
                                                       struct flagshm_decision *d)
{
    struct flagshm_map_ *map = __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
    struct flagshm_key_ key;
    bool looks = ref == NULL ? flagshm_looks_(fs) : (++ref->checks_ & 31) == 0;
    enum flagshm_reason reason = FLAGSHM_GENERAL;
    uint64_t segment_id = 0, version = 0;
    int tries;

    key.bytes = (const unsigned char *)id;
    key.length = id != NULL ? strlen(id) : 0;
    if (FLAGSHM_UNLIKELY_(map == NULL) && (map = flagshm_newer_(fs, NULL)) == NULL)
        return flagshm_nothing_(d, FLAGSHM_NOT_READY, name_hash, key, 0, 0);
    for (tries = 0; tries < FLAGSHM_RETRIES_MAX; tries++) {
        uint64_t seq = flagshm_seq_acquire_(map);
        struct flagshm_case_ c;
        bool is_stale = looks, is_sound = false;

        c.map = map;
        c.bank = map->bank[seq & 1];
        c.record = flagshm_record_at_(map, seq, ref, name_hash);
        c.id = key;
        c.flag_hash = name_hash;
        if (FLAGSHM_LIKELY_(c.record != NULL))
            is_sound = flagshm_judge_(&c, seq, &is_stale, d);
        if (FLAGSHM_UNLIKELY_(!is_sound)) {
            is_stale = is_stale && flagshm_is_stale_(map);
            version = flagshm_load64_(c.bank + offsetof(struct flagshm_bank, version));
        }
        if (FLAGSHM_UNLIKELY_(flagshm_seq_again_(map) != seq))
            continue;
        if (ref != NULL)
            ref->map_ = map;
        if (FLAGSHM_UNLIKELY_((seq & FLAGSHM_SEQ_RETIRED) != 0 || is_stale)) {
            struct flagshm_map_ *newer = flagshm_newer_(fs, map);
            if (newer != map) {
                map = newer;
                continue;
            }
        }
        if (FLAGSHM_LIKELY_(is_sound))
            return d->reason;
        reason = c.record == NULL ? FLAGSHM_FLAG_NOT_FOUND : FLAGSHM_GENERAL;
        segment_id = map->segment_id;
        break;
    }
    return flagshm_nothing_(d, reason, name_hash, key, segment_id, segment_id ? version : 0);
}
static __attribute__((noinline, unused)) enum flagshm_reason
flagshm_decide_named_(struct flagshm *fs, uint64_t name_hash, const char *id, struct flagshm_decision *d)
{
    return flagshm_decide_in_(fs, NULL, name_hash, id, d);
}

/* The share served now, for flagshm_rollout_pct. */
FLAGSHM_INLINE_ double flagshm_share_in_(struct flagshm *fs, struct flagshm_ref *ref, uint64_t name_hash)
{
    struct flagshm_map_ *map = __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
    bool looks = ref == NULL ? flagshm_looks_(fs) : (++ref->checks_ & 31) == 0;
    int tries;

    if (FLAGSHM_UNLIKELY_(map == NULL) && (map = flagshm_newer_(fs, NULL)) == NULL)
        return -1.0;
    for (tries = 0; tries < FLAGSHM_RETRIES_MAX; tries++) {
        uint64_t seq = flagshm_seq_acquire_(map);
        const unsigned char *record = flagshm_record_at_(map, seq, ref, name_hash);
        uint32_t switches = 0, share = 0, whole;
        bool is_stale = false;
        double pct = -1.0;

        if (record != NULL) {
            switches = flagshm_load32_(record + offsetof(struct flagshm_flag_entry, switches));
            share = flagshm_load32_(record + offsetof(struct flagshm_flag_entry, rollout_mpct));
        }
        if (FLAGSHM_UNLIKELY_(flagshm_seq_again_(map) != seq))
            continue;
        if (ref != NULL)
            ref->map_ = map;
        if (looks || FLAGSHM_UNLIKELY_((switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0))
            is_stale = flagshm_is_stale_(map);
        if (FLAGSHM_UNLIKELY_(is_stale || (seq & FLAGSHM_SEQ_RETIRED) != 0)) {
            struct flagshm_map_ *newer = flagshm_newer_(fs, map);
            if (newer != map) {
                map = newer;
                continue;
            }
        }
        if (record != NULL)
            pct = 0.0;
        whole = share / 1000u;
        if (FLAGSHM_LIKELY_((seq & FLAGSHM_SEQ_ALL_CONTROL) == 0 && (switches & FLAGSHM_SWITCH_OFF) == 0 &&
                            !(is_stale && (switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0) &&
                            share <= 100000 && record != NULL))
            pct = share == whole * 1000u ? (double)whole /* no division that is waited for */
                                         : (double)share / 1000.0;
        if (ref != NULL) { /* nothing but seq can change it then */
            ref->pct_ = pct;
            ref->has_pct_ =
                (seq & FLAGSHM_SEQ_RETIRED) == 0 && (switches & FLAGSHM_SWITCH_STALE_CONTROL) == 0;
        }
        return pct;
    }
    return 0.0;
}

/* ---- 7 The functions ---- */

/* Releases all that the handle holds; it may be opened again. For one thread, when no other uses the handle
 * any more. */
FLAGSHM_API_ void flagshm_close(struct flagshm *fs)
{
    struct flagshm_map_ *map = fs->map_;
    struct flagshm_outcomes_map_ *outcomes = fs->outcomes_;
    int saved = errno;
    fs->map_ = NULL;
    fs->outcomes_ = NULL;
    fs->path_[0] = '\0';
    while (outcomes != NULL) {
        struct flagshm_outcomes_map_ *older = outcomes->older;
        (void)munmap((void *)outcomes->segment, (size_t)FLAGSHM_OUTCOMES_BYTES);
        (void)munmap((void *)outcomes, sizeof *outcomes);
        outcomes = older;
    }
    while (map != NULL) {
        struct flagshm_map_ *older = map->older;
        (void)munmap((void *)(uintptr_t)map->segment, map->segment_bytes);
        (void)munmap((void *)map, sizeof *map);
        map = older;
    }
    errno = saved;
}

FLAGSHM_COLD_ bool flagshm_is_instance_(const char *name)
{
    size_t i;
    for (i = 0; name[i] != '\0'; i++) {
        char c = name[i];
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (i >= 32 || !(is_alnum || (i > 0 && (c == '_' || c == '-'))))
            return false;
    }
    return i > 0;
}

/* Opens the table of an instance; NULL: $FLAGSHM_INSTANCE or "default". Returns 0 or -errno:
 *   -ENOENT        no server has run yet
 *   -EACCES        we may not read it
 *   -EPERM         not trusted: a link, not a regular file, writable by group or others, owned by a stranger
 *   -EPROTO        no table of this layout and byte order
 *   -EBADMSG       damaged, or cut short
 *   -EINVAL        the instance's name is not valid
 *   -ENAMETOOLONG  $FLAGSHM_DIR has over 200 bytes
 *   any other      the system's: -ENOMEM, -EMFILE, ...
 * The handle works after every return: while there is no table, decisions are control with reason
 * FLAGSHM_NOT_READY, and it attaches by itself (one attempt a second at most) as soon as there is one. After
 * -EINVAL and -ENAMETOOLONG it stays so. Cost: 5 system calls, about 15 us; some 5 KiB of private memory, and
 * the page tables of the table. */
FLAGSHM_API_ int flagshm_open(struct flagshm *fs, const char *instance)
{
    const char *dir = flagshm_libc_secure_getenv_("FLAGSHM_DIR"),
               *owner = flagshm_libc_secure_getenv_("FLAGSHM_OWNER");
    size_t at = 0, part;
    int error, saved = errno;

    memset(fs, 0, sizeof *fs);
    if (instance == NULL) {
        instance = flagshm_libc_secure_getenv_("FLAGSHM_INSTANCE");
        if (instance == NULL || instance[0] == '\0')
            instance = "default";
    }
    if (!flagshm_is_instance_(instance))
        return -EINVAL;
    if (owner != NULL && owner[0] != '\0') {
        uint64_t uid = 0;
        for (; *owner >= '0' && *owner <= '9' && uid <= UINT32_MAX; owner++)
            uid = uid * 10 + (uint64_t)(*owner - '0');
        fs->has_owner_ = *owner == '\0' && uid < UINT32_MAX;
        fs->owner_ = (uint32_t)uid;
    }
    fs->in_dir_ = dir != NULL && dir[0] != '\0';
    if (!fs->in_dir_)
        dir = "/dev/shm";
    part = strlen(dir);
    if (part > 200)
        return -ENAMETOOLONG;
    memcpy(fs->path_, dir, part);
    at = part;
    memcpy(fs->path_ + at, "/flagshm.", 9);
    at += 9;
    part = strlen(instance);
    memcpy(fs->path_ + at, instance, part);
    memcpy(fs->path_ + at + part, ".table", 7);
    error = flagshm_attach_once_(fs, NULL);
    if (error != 0)
        fs->retry_mono_ns_ = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) + UINT64_C(1000000000);
    errno = saved;
    return error;
}

/* Decides which arm of a flag a user (or org, or session: what the flag's identity says) gets, and fills in
 * every field of *d. `flag` and `id` end in NUL; their bytes are taken as they come, UTF-8. A NULL or unknown
 * flag: FLAGSHM_FLAG_NOT_FOUND. Never fails, never blocks: no system call, lock, allocation or shared write
 * once attached. Cost: that of MD5 over salt ':' id, one block up to 55 bytes, and next to nothing at 0 and
 * 100 %. Thread-safe, fork-safe. */
FLAGSHM_API_ enum flagshm_reason flagshm_decide(struct flagshm *fs, const char *flag, const char *id,
                                                struct flagshm_decision *d)
{
    const char *name = flag != NULL ? flag : "";
    return flagshm_decide_named_(fs, flagshm_hash64_(name, strlen(name), 0), id, d);
}

/* Looks a flag up once, for a hot path. 0, or -ENOENT where there is no such flag now, or -EINVAL where the
 * name can be none (NULL, empty, over 64 bytes). After 0 and -ENOENT the reference is good until flagshm_close:
 * it follows every publish, deletion, kill and new segment. It must be used with this handle only. */
FLAGSHM_API_ int flagshm_resolve(struct flagshm *fs, const char *flag, struct flagshm_ref *ref)
{
    size_t bytes = flag != NULL ? strlen(flag) : 0;
    memset(ref, 0, sizeof *ref);
    if (bytes == 0 || bytes > FLAGSHM_NAME_MAX)
        return -EINVAL;
    ref->hash_ = flagshm_hash64_(flag, bytes, 0);
    return flagshm_share_in_(fs, ref, ref->hash_) < 0 ? -ENOENT : 0;
}

/* flagshm_decide for a resolved flag: the name's hash and search are saved. One thread at a time for each
 * reference. */
static __attribute__((noinline, unused)) enum flagshm_reason
flagshm_decide_ref(struct flagshm *fs, struct flagshm_ref *ref, const char *id, struct flagshm_decision *d)
{
    return flagshm_decide_in_(fs, ref, ref->hash_, id, d);
}

/* Does this user get a variant? False on every doubt. */
FLAGSHM_API_ bool flagshm_in_variant(struct flagshm *fs, const char *flag, const char *id)
{
    struct flagshm_decision d;
    (void)flagshm_decide(fs, flag, id, &d);
    return d.arm != 0;
}

/* The share of users who get any variant just now, in percent: 0 where disabled, killed, rolled back or
 * stale; -1.0 where the flag is unknown. Nothing is hashed but the name. */
FLAGSHM_API_ double flagshm_rollout_pct(struct flagshm *fs, const char *flag)
{
    const char *name = flag != NULL ? flag : "";
    return flagshm_share_in_(fs, NULL, flagshm_hash64_(name, strlen(name), 0));
}

/* The same for a resolved flag. */
FLAGSHM_API_ double flagshm_rollout_pct_ref(struct flagshm *fs, struct flagshm_ref *ref)
{
    const struct flagshm_map_ *map = __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
    if (FLAGSHM_LIKELY_(ref->has_pct_ != 0 && ref->map_ == map && ref->seq_ == flagshm_seq_acquire_(map) &&
                        ((ref->checks_ + 1) & 31) != 0)) {
        ref->checks_++;
        return ref->pct_;
    }
    return flagshm_share_in_(fs, ref, ref->hash_);
}

/* The model to call for this user: the served arm's, or `fallback` on every error and where the arm names
 * none. The text lives in *d (which keeps the decision for flagshm_record), or is `fallback` itself; d ==
 * NULL gives `fallback`. */
FLAGSHM_API_ const char *flagshm_model(struct flagshm *fs, const char *flag, const char *id,
                                       const char *fallback, struct flagshm_decision *d)
{
    if (d == NULL)
        return fallback;
    (void)flagshm_decide(fs, flag, id, d);
    return d->model[0] != '\0' ? d->model : fallback;
}

/* The attachment to read from: the newest, after following a retired one. NULL: there is no table. */
FLAGSHM_INLINE_ struct flagshm_map_ *flagshm_current_(struct flagshm *fs)
{
    struct flagshm_map_ *map = __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
    if (map == NULL || (flagshm_seq_acquire_(map) & FLAGSHM_SEQ_RETIRED) != 0)
        map = flagshm_newer_(fs, map);
    return map;
}

/* Where the arm with this value stands in a bank; NULL: there is none any more. */
FLAGSHM_COLD_ const unsigned char *flagshm_arm_of_value_(const struct flagshm_map_ *map,
                                                         const unsigned char *bank,
                                                         const struct flagshm_decision *d)
{
    const unsigned char *r = flagshm_find_(map, bank, d->flag_hash, NULL, 0), *entry;
    uint32_t offset, arms, arm;

    if (r == NULL)
        return NULL;
    offset = flagshm_load32_(r + offsetof(struct flagshm_flag_entry, arms_offset));
    arms = flagshm_load16_(r + offsetof(struct flagshm_flag_entry, arm_count));
    if (arms > 8 || !flagshm_is_inside_(offset, (uint64_t)arms * map->arm_stride, map->heap_bytes))
        return NULL;
    for (arm = 0; arm < arms; arm++) { /* arms may have changed places since */
        entry = bank + map->heap_offset + offset + (size_t)arm * map->arm_stride;
        if (flagshm_load64_(entry + offsetof(struct flagshm_arm_entry, value_hash)) == d->value_hash &&
            flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, value_bytes)) == d->value_bytes)
            return entry;
    }
    return NULL;
}

/* The whole value of the served arm: a string's text, or an object's JSON without insignificant white space.
 * Returns its length in bytes; it and a NUL are copied where cap is greater than the length, else nothing is
 * (ask with cap 0 for the size). -ESTALE: the table has moved on and that value is no longer in it (buf is
 * undefined then): decide again. A value of at most 255 bytes comes from *d itself and is never stale. */
FLAGSHM_API_ int64_t flagshm_value(struct flagshm *fs, const struct flagshm_decision *d, char *buf,
                                   size_t cap)
{
    uint32_t bytes = d->value_bytes, i;
    int tries;

    if (bytes < sizeof d->value) {
        if (cap > bytes) {
            memcpy(buf, d->value, bytes);
            buf[bytes] = '\0';
        }
        return (int64_t)bytes;
    }
    for (tries = 0; tries < FLAGSHM_RETRIES_MAX; tries++) {
        struct flagshm_map_ *map = flagshm_current_(fs);
        const unsigned char *bank, *entry;
        bool is_there = false;
        uint64_t seq;

        if (map == NULL)
            return -ESTALE;
        seq = flagshm_seq_acquire_(map);
        bank = map->bank[seq & 1];
        entry = flagshm_arm_of_value_(map, bank, d);
        if (entry != NULL) {
            uint32_t offset = flagshm_load32_(entry + offsetof(struct flagshm_arm_entry, value_offset));
            is_there = flagshm_is_inside_(offset, ((uint64_t)bytes + 7) & ~UINT64_C(7), map->heap_bytes);
            for (i = 0; is_there && cap > bytes && i < bytes; i += 8) {
                uint64_t word = flagshm_load64_(bank + map->heap_offset + offset + i);
                memcpy(buf + i, &word, bytes - i < 8 ? bytes - i : 8);
            }
        }
        if (flagshm_seq_again_(map) != seq)
            continue;
        if (!is_there)
            return -ESTALE;
        if (cap > bytes)
            buf[bytes] = '\0';
        return (int64_t)bytes;
    }
    return -ESTALE;
}

/* The version of the table that decisions are made from now; 0: none yet. */
FLAGSHM_API_ uint64_t flagshm_version(const struct flagshm *fs)
{
    /* the handle may move on to a newer attachment, nothing else */
    struct flagshm *handle = (struct flagshm *)(uintptr_t)fs;
    uint64_t version = 0;
    int tries;
    for (tries = 0; tries < FLAGSHM_RETRIES_MAX; tries++) {
        struct flagshm_map_ *map = flagshm_current_(handle);
        uint64_t seq;
        if (map == NULL)
            return 0;
        seq = flagshm_seq_acquire_(map);
        version = flagshm_load64_(map->bank[seq & 1] + offsetof(struct flagshm_bank, version));
        if (flagshm_seq_again_(map) == seq)
            break;
    }
    return version;
}

/* Nanoseconds since the server's last heartbeat; up to 2 s ahead counts as 0, more is negative (and stale);
 * INT64_MAX: no table. Over 10 s the server is gone or stopped: flags whose on_stale is "control" give
 * control, all others stay as they are. Cost: one coarse clock reading. */
FLAGSHM_API_ int64_t flagshm_age_ns(const struct flagshm *fs)
{
    struct flagshm *handle = (struct flagshm *)(uintptr_t)fs;
    struct flagshm_map_ *map = flagshm_current_(handle);
    if (map != NULL && flagshm_is_stale_(map))
        map = flagshm_newer_(handle, map);
    return map == NULL ? INT64_MAX : flagshm_map_age_ns_(map);
}

/* Sleeps until the version is another than `seen` (0: until there is a table), at most timeout_ms
 * milliseconds; below 0: for ever. 0 when the version moved; -ETIMEDOUT; -EINVAL: the handle can never attach
 * (see flagshm_open), or is closed. One futex for all waiters of the host; also wakes once a second to look
 * whether the server has gone or come. Signals do not end it. */
FLAGSHM_API_ int flagshm_wait(struct flagshm *fs, uint64_t seen, int timeout_ms)
{
    uint64_t begin = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_),
             limit = (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * 1000000u;
    uint32_t nothing = 0;
    int saved = errno, result = fs->path_[0] == '\0' ? -EINVAL : -ETIMEDOUT;

    while (result != -EINVAL) {
        struct flagshm_map_ *map = __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
        const uint32_t *word = &nothing;
        uint32_t value = 0;
        uint64_t nap = UINT64_C(1010000000), passed; /* an attempt a second, and a tick of the coarse clock */
        struct flagshm_timespec_ span;

        if (map != NULL) {
            word = (const uint32_t *)(const void *)(map->segment + offsetof(struct flagshm_header, wake));
            value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
            if (flagshm_is_stale_(map))
                (void)flagshm_newer_(fs, map);
        }
        if (flagshm_version(fs) != seen) {
            result = 0;
            break;
        }
        if (__atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE) != map)
            continue; /* its word is the one to sleep on */
        passed = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - begin;
        if (timeout_ms >= 0 && passed >= limit)
            break;
        if (timeout_ms >= 0 && limit - passed < nap)
            nap = limit - passed;
        span.seconds = (flagshm_time_word_)(nap / 1000000000u);
        span.nanoseconds = (flagshm_time_word_)(nap % 1000000000u);
        (void)flagshm_libc_syscall_(SYS_futex, word, FLAGSHM_FUTEX_WAIT_, value, &span, NULL, 0);
    }
    errno = saved;
    return result;
}

/* ---- 8 Recording ---- */

FLAGSHM_INLINE_ void flagshm_add64_(flagshm_u64_ *counter, uint64_t n)
{
    (void)__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}
/* Bad counts come last: who loads them with acquire order and the denominators after that, finds these whole. */
FLAGSHM_INLINE_ void flagshm_add64_last_(flagshm_u64_ *counter, uint64_t n)
{
    (void)__atomic_fetch_add(counter, n, __ATOMIC_RELEASE);
}
FLAGSHM_INLINE_ void flagshm_add32_(uint32_t *counter)
{
    (void)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* The bucket of a value: 0...7 have one each; then 8 an octave, each an eighth of it wide. */
FLAGSHM_INLINE_ uint32_t flagshm_bucket_of_(uint64_t value)
{
    uint32_t octave, bucket;
    if (value < 8)
        return (uint32_t)value;
    octave = 63u - (uint32_t)__builtin_clzll(value);
    bucket = (octave - 2) * 8 + (uint32_t)(value >> (octave - 3) & 7);
    return bucket < FLAGSHM_HISTOGRAM_BUCKETS ? bucket : FLAGSHM_HISTOGRAM_BUCKETS - 1;
}
/* The least value of a bucket. */
FLAGSHM_INLINE_ uint64_t flagshm_bucket_low_(uint32_t bucket)
{
    return bucket < 8 ? bucket : (uint64_t)(8 + bucket % 8) << (bucket / 8 - 1);
}

#define FLAGSHM_CLOCK_REALTIME_COARSE_ 5
extern int flagshm_libc_sched_getcpu_(void) __asm__("sched_getcpu");
/* Where a slot stands in its segment; whatever the number, it is one of them. */
FLAGSHM_INLINE_ size_t flagshm_slot_offset_(uint32_t slot)
{
    return sizeof(struct flagshm_outcomes) + (size_t)(slot % FLAGSHM_SLOTS) * sizeof(struct flagshm_slot);
}
FLAGSHM_INLINE_ struct flagshm_slot *flagshm_slot_at_(struct flagshm_outcomes *segment, uint32_t slot)
{
    return (struct flagshm_slot *)(void *)((unsigned char *)segment + flagshm_slot_offset_(slot));
}

/* Where a decision's outcomes are booked. */
struct flagshm_booked_ {
    struct flagshm_outcomes *segment;
    struct flagshm_slot *slot;
    struct flagshm_arm_outcomes *arm;
    flagshm_u64_ *counters; /* of this CPU */
    uint32_t *histograms;
    uint64_t id_hash;
    uint32_t number, label, window_4h, window_1h;
    bool is_open;
};

/* 1: found; 0: nothing is to be booked; -errno. `is_shadow`: the block behind the last arm. */
FLAGSHM_INLINE_ int flagshm_book_(struct flagshm *fs, const struct flagshm_decision *d, bool is_shadow,
                                  struct flagshm_booked_ *b)
{
    struct flagshm_outcomes_map_ *outcomes = __atomic_load_n(&fs->outcomes_, __ATOMIC_ACQUIRE);
    const struct flagshm_header *h;
    struct flagshm_map_ *map;
    uint64_t wanted;
    uint32_t cpu, arms, arm = d->arm;
    int error = 0;

    if (d->slot == FLAGSHM_NO_SLOT)
        return 0;
    if (FLAGSHM_UNLIKELY_(d->slot >= FLAGSHM_SLOTS || d->slot_generation == 0))
        return -EINVAL;
    map = flagshm_current_(fs); /* a retired table would name a segment that nobody reads any more */
    if (FLAGSHM_UNLIKELY_(map == NULL))
        return -ENOENT;
    h = (const struct flagshm_header *)(const void *)map->segment;
    wanted = flagshm_load64_(&h->outcomes_id);
    if (FLAGSHM_UNLIKELY_(wanted == 0))
        return -ENOENT;
    if (FLAGSHM_LIKELY_(outcomes != NULL && outcomes->segment_id == wanted))
        b->segment = outcomes->segment;
    else if ((b->segment = flagshm_outcomes_find_(fs, wanted, &error)) == NULL)
        return error;
    b->number = d->slot;
    b->slot = flagshm_slot_at_(b->segment, d->slot);
    if (FLAGSHM_UNLIKELY_(__atomic_load_n(&b->slot->generation, __ATOMIC_ACQUIRE) != d->slot_generation))
        return -ESTALE;
    arms = flagshm_load32_(&b->slot->arm_count);
    if (is_shadow)
        arm = arms++;
    if (FLAGSHM_UNLIKELY_(arms > 8 || arm >= arms))
        return -EINVAL;
    cpu = (uint32_t)flagshm_libc_sched_getcpu_();
    b->arm = &b->slot->arms[arm];
    b->counters = b->arm->counters[cpu % FLAGSHM_SHARDS];
    b->histograms = b->arm->histograms[cpu % FLAGSHM_HISTOGRAM_SHARDS][0];
    b->id_hash = d->id_hash;
    b->label = arm != 0;
    b->is_open = flagshm_load32_(&b->slot->is_open) != 0;
    b->window_4h = flagshm_load32_(&h->window_4h);
    b->window_1h = flagshm_load32_(&h->window_1h);
    return 1;
}

/* One more event of this user in a table of cells, where it has room; and in a level's count, where the cell comes to a
 * power of two. */
FLAGSHM_INLINE_ void flagshm_cell_(const struct flagshm_booked_ *b, uint32_t signal, uint32_t table,
                                   uint32_t window, uint32_t label)
{
    uint16_t *cell = &b->slot->cells[table % FLAGSHM_CELL_TABLES][b->id_hash % FLAGSHM_CELLS];
    uint32_t count = __atomic_load_n(cell, __ATOMIC_RELAXED);
    if (count >= FLAGSHM_CELL_STOP)
        return;
    count = (uint32_t)__atomic_fetch_add(cell, (uint16_t)1, __ATOMIC_RELAXED) + 1u;
    if ((count & (count - 1)) == 0 && count < FLAGSHM_CELL_STOP)
        flagshm_add32_(&b->slot->levels[signal][window][label][31 - __builtin_clz(count)]);
}

/* Books the signals in `kinds` under a label: in the slot's cells and, where they are timed, in those of the 4 h and 1 h
 * windows of now. */
static __attribute__((noinline, unused)) void flagshm_signals_(const struct flagshm_booked_ *b,
                                                               uint32_t kinds, const uint64_t amounts[4],
                                                               uint32_t label, bool is_capped)
{
    uint32_t count = flagshm_load32_(&b->slot->signal_count), i;

    for (i = 0; i < count && i < FLAGSHM_SIGNALS_MAX; i++) {
        const struct flagshm_signal *signal = &b->slot->signals[i];
        uint32_t kind = flagshm_load32_(&signal->kind), table;

        if (kind >= FLAGSHM_SIGNAL_KINDS || (kinds >> kind & 1) == 0)
            continue;
        if (kind >= FLAGSHM_SIGNAL_LATENCY && (amounts == NULL || amounts[kind - FLAGSHM_SIGNAL_LATENCY] <=
                                                                      flagshm_load64_(&signal->threshold)))
            continue;
        table = __atomic_load_n(&signal->first_table, __ATOMIC_RELAXED);
        flagshm_cell_(b, i, table, 0, label);
        if (__atomic_load_n(&signal->is_timed, __ATOMIC_RELAXED) != 0) {
            uint32_t w4 = 1 + (b->window_4h & 1), w1 = 3 + (b->window_1h & 1);
            flagshm_cell_(b, i, table + w4, w4, label);
            flagshm_cell_(b, i, table + w1, w1, label);
        }
        if (is_capped)
            flagshm_add64_last_(&b->slot->capped_bad[label & 1][i], 1);
    }
}

/* Takes one call out of a cell, or puts one in. False: there is none, or no room. */
FLAGSHM_INLINE_ bool flagshm_under_way_cell_(const struct flagshm_booked_ *b, uint32_t table, bool has_ended)
{
    uint16_t *cell = &b->slot->cells[table % FLAGSHM_CELL_TABLES][b->id_hash % FLAGSHM_CELLS];
    uint16_t held = __atomic_load_n(cell, __ATOMIC_RELAXED);

    do {
        if (held == (has_ended ? 0 : UINT16_MAX))
            return false;
    } while (!__atomic_compare_exchange_n(cell, &held, (uint16_t)(has_ended ? held - 1 : held + 1), true,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return true;
}

/* Calls under way, by user and arm, in the four tables behind the cells of LOST: two windows of starts, each as long as a call may
 * take. A call adds 1 where it starts and takes it back where it ends; the server counts what is left of a window when the next but
 * one begins. It turns windows with its beats, so a call may have been put into the window before the one that its start lies in. Never
 * below zero: a client may end what another one, killed since, began. */
FLAGSHM_COLD_ void flagshm_under_way_(const struct flagshm_booked_ *b, bool has_ended, uint64_t age_ns)
{
    uint32_t count = flagshm_load32_(&b->slot->signal_count), now = flagshm_load32_(&b->slot->lost_window), i;

    for (i = 0; i < count && i < FLAGSHM_SIGNALS_MAX; i++) {
        const struct flagshm_signal *signal = &b->slot->signals[i];
        uint64_t most = flagshm_load64_(&signal->threshold), clock_ns;
        uint32_t table = __atomic_load_n(&signal->first_table, __ATOMIC_RELAXED), window = now;

        if (flagshm_load32_(&signal->kind) != FLAGSHM_SIGNAL_LOST || most == 0)
            continue;
        if (has_ended) {
            clock_ns = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_);
            if (age_ns > clock_ns)
                continue;
            window = (uint32_t)((clock_ns - age_ns) / most);
            if ((int32_t)(window - now) > 0)
                window = now;
        }
        if (now - window > 1)
            continue; /* it counts as lost already */
        table += (__atomic_load_n(&signal->is_timed, __ATOMIC_RELAXED) != 0 ? FLAGSHM_WINDOWS : 1) +
                 (b->label & 1);
        if (!flagshm_under_way_cell_(b, table + (window & 1) * 2, has_ended) && has_ended && window == now)
            (void)flagshm_under_way_cell_(b, table + ((window - 1) & 1) * 2, true);
    }
}

/* Marks a user as seen; the first time, counts the user. Keeps the estimate of distinct ids. */
FLAGSHM_INLINE_ void flagshm_seen_(const struct flagshm_booked_ *b, uint32_t counter)
{
    uint64_t bit = b->id_hash >> 12 & (FLAGSHM_SEEN_BITS - 1), mask = UINT64_C(1) << (bit & 63);
    flagshm_u64_ *word = &b->slot->seen[bit / 64];
    uint64_t rest = b->id_hash << 10 | UINT64_C(1) << 9; /* 54 bits, then one that ends the run of zeros */
    uint8_t rank = (uint8_t)(1 + __builtin_clzll(rest)), *distinct = &b->slot->distinct[b->id_hash >> 54],
            held = __atomic_load_n(distinct, __ATOMIC_RELAXED);

    while (FLAGSHM_UNLIKELY_(held < rank) &&
           !__atomic_compare_exchange_n(distinct, &held, rank, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (b->is_open && (flagshm_load64_(word) & mask) == 0 &&
        (__atomic_fetch_or(word, mask, __ATOMIC_RELAXED) & mask) == 0)
        flagshm_add64_(&b->counters[counter], 1);
}

/* Is this one of the first 16 calls of an hour in its user's cell? Rates are made of these, so that nobody swings them. */
FLAGSHM_INLINE_ bool flagshm_capped_(const struct flagshm_booked_ *b)
{
    uint16_t *cell = &b->slot->calls[b->window_1h & 1][b->id_hash % FLAGSHM_CELLS];
    if (__atomic_load_n(cell, __ATOMIC_RELAXED) >= FLAGSHM_CALLS_CAP ||
        __atomic_fetch_add(cell, (uint16_t)1, __ATOMIC_RELAXED) >= FLAGSHM_CALLS_CAP)
        return false;
    flagshm_add64_(&b->slot->capped_calls[b->label & 1], 1);
    return true;
}

/* Tells the server that a slot has bad news: marks it, and wakes the server where it asks to be woken. By a bare futex, not by the C
 * library's semaphore: that one ends the process where its words in shared memory make no sense. */
FLAGSHM_COLD_ void flagshm_ring_(const struct flagshm_booked_ *b)
{
    struct flagshm_outcomes *segment = b->segment;
    flagshm_u64_ *word = &segment->dirty[b->number / 64];
    uint64_t mask = UINT64_C(1) << (b->number & 63);
    int saved = errno;

    if ((flagshm_load64_(word) & mask) == 0)
        (void)__atomic_fetch_or(word, mask, __ATOMIC_RELEASE);
    /* the mark stands before armed is looked at: the server arms, then looks */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (flagshm_load32_(&segment->armed) == 0 ||
        __atomic_exchange_n(&segment->armed, 0, __ATOMIC_ACQ_REL) != 1)
        return;
    (void)__atomic_fetch_add(&segment->rung, 1, __ATOMIC_RELEASE);
    (void)flagshm_libc_syscall_(SYS_futex, &segment->rung, FLAGSHM_FUTEX_WAKE_, 1, NULL, NULL, 0);
    errno = saved;
}

FLAGSHM_INLINE_ bool flagshm_has_failed_(const struct flagshm_outcome *o)
{
    return !o->cancelled && (o->transport_error || (o->http_status - 200u >= 100u && o->http_status != 429));
}

/* Books one finished call in the counters and histograms. Returns the kinds of signals that it gives, and the amounts. */
FLAGSHM_INLINE_ uint32_t flagshm_finished_(const struct flagshm_booked_ *b, const struct flagshm_outcome *o,
                                           uint64_t amounts[4])
{
    flagshm_u64_ *n = b->counters;
    bool has_failed = flagshm_has_failed_(o);
    bool is_limited = o->http_status == 429 && !o->transport_error && !o->cancelled;
    bool is_answered = !has_failed && !is_limited && !o->cancelled;
    bool is_checked = is_answered && !o->fallback;
    uint32_t kinds = 0;

    amounts[0] = amounts[1] = amounts[2] = amounts[3] = 0;
    flagshm_add64_(&n[FLAGSHM_N_FINISHED], 1);
    if (o->input_tokens != 0)
        flagshm_add64_(&n[FLAGSHM_N_INPUT_TOKENS], o->input_tokens);
    if (o->output_tokens != 0)
        flagshm_add64_(&n[FLAGSHM_N_OUTPUT_TOKENS], o->output_tokens);
    if (FLAGSHM_UNLIKELY_(o->cache_tokens != 0))
        flagshm_add64_(&n[FLAGSHM_N_CACHE_TOKENS], o->cache_tokens);
    if (FLAGSHM_UNLIKELY_(o->attempts > 1))
        flagshm_add64_(&n[FLAGSHM_N_RETRIES], o->attempts - 1);
    if (FLAGSHM_UNLIKELY_(o->limited || is_limited || o->http_status == 529))
        flagshm_add64_(&n[FLAGSHM_N_MET_LIMIT], 1);
    if (FLAGSHM_LIKELY_(is_answered)) {
        uint64_t tokens = o->input_tokens + o->output_tokens + o->cache_tokens;
        uint32_t *h = b->histograms;
        if (o->latency_ns != 0 && !o->limited) {
            amounts[0] = o->latency_ns >> FLAGSHM_TIME_SHIFT;
            flagshm_add32_(
                &h[FLAGSHM_H_LATENCY * FLAGSHM_HISTOGRAM_BUCKETS + flagshm_bucket_of_(amounts[0])]);
        }
        if (o->ttft_ns != 0 && !o->limited) {
            amounts[1] = o->ttft_ns >> FLAGSHM_TIME_SHIFT;
            flagshm_add32_(&h[FLAGSHM_H_TTFT * FLAGSHM_HISTOGRAM_BUCKETS + flagshm_bucket_of_(amounts[1])]);
        }
        if (tokens != 0) {
            amounts[2] = tokens;
            amounts[3] = o->output_tokens;
            flagshm_add32_(&h[FLAGSHM_H_TOKENS * FLAGSHM_HISTOGRAM_BUCKETS + flagshm_bucket_of_(tokens)]);
            flagshm_add32_(&h[FLAGSHM_H_OUTPUT_TOKENS * FLAGSHM_HISTOGRAM_BUCKETS +
                              flagshm_bucket_of_(o->output_tokens)]);
        }
        kinds |= 15u << FLAGSHM_SIGNAL_LATENCY;
    }
    if (FLAGSHM_LIKELY_(is_checked)) {
        if (o->json_checked)
            flagshm_add64_(&n[FLAGSHM_N_JSON_CHECKED], 1);
        if (o->schema_checked)
            flagshm_add64_(&n[FLAGSHM_N_SCHEMA_CHECKED], 1);
        if (o->tool_checked)
            flagshm_add64_(&n[FLAGSHM_N_TOOL_CHECKED], 1);
        if (FLAGSHM_UNLIKELY_(o->json_checked && !o->json_valid)) {
            flagshm_add64_last_(&n[FLAGSHM_N_JSON_INVALID], 1);
            kinds |= 1u << FLAGSHM_SIGNAL_JSON_INVALID;
        }
        if (FLAGSHM_UNLIKELY_(o->schema_checked && !o->schema_valid)) {
            flagshm_add64_last_(&n[FLAGSHM_N_SCHEMA_INVALID], 1);
            kinds |= 1u << FLAGSHM_SIGNAL_SCHEMA_INVALID;
        }
        if (FLAGSHM_UNLIKELY_(o->tool_checked && !o->tool_valid)) {
            flagshm_add64_last_(&n[FLAGSHM_N_TOOL_INVALID], 1);
            kinds |= 1u << FLAGSHM_SIGNAL_TOOL_INVALID;
        }
        if (FLAGSHM_UNLIKELY_(o->refusal)) {
            flagshm_add64_last_(&n[FLAGSHM_N_REFUSAL], 1);
            kinds |= 1u << FLAGSHM_SIGNAL_REFUSAL;
        }
        if (FLAGSHM_UNLIKELY_(o->truncated)) {
            flagshm_add64_last_(&n[FLAGSHM_N_TRUNCATED], 1);
            kinds |= 1u << FLAGSHM_SIGNAL_TRUNCATED;
        }
        if (FLAGSHM_UNLIKELY_(o->empty)) {
            flagshm_add64_last_(&n[FLAGSHM_N_EMPTY], 1);
            kinds |= 1u << FLAGSHM_SIGNAL_EMPTY;
        }
        return kinds;
    }
    if (o->fallback)
        flagshm_add64_(&n[FLAGSHM_N_FALLBACK], 1);
    if (o->cancelled)
        flagshm_add64_(&n[FLAGSHM_N_CANCELLED], 1);
    if (is_limited)
        flagshm_add64_last_(&n[FLAGSHM_N_LIMITED], 1);
    if (has_failed) {
        flagshm_add64_last_(&n[FLAGSHM_N_FAILED], 1);
        if (o->transport_error || o->http_status == 0) /* after what it is a part of */
            flagshm_add64_last_(&n[FLAGSHM_N_TRANSPORT], 1);
        kinds |= 1u << FLAGSHM_SIGNAL_ERROR;
    }
    return kinds;
}

/* A thumb, a retry, a contact or a custom event: its counter and its signal. */
FLAGSHM_COLD_ int flagshm_later_(const struct flagshm_booked_ *b, uint32_t event, uint32_t custom)
{
    uint32_t counter, kind = FLAGSHM_SIGNAL_NONE;

    if (event == FLAGSHM_THUMBS_UP) {
        counter = FLAGSHM_N_THUMBS_UP;
    } else if (event < FLAGSHM_CUSTOM) {
        counter = FLAGSHM_N_THUMBS_DOWN + event - FLAGSHM_THUMBS_DOWN;
        kind = FLAGSHM_SIGNAL_THUMBS_DOWN + event - FLAGSHM_THUMBS_DOWN;
    } else {
        if (custom > 7 || (custom += event - FLAGSHM_CUSTOM) > 7)
            return -EINVAL;
        counter = FLAGSHM_N_CUSTOM + custom;
        kind = FLAGSHM_SIGNAL_CUSTOM + custom;
    }
    flagshm_add64_last_(&b->counters[counter], 1);
    if (kind != FLAGSHM_SIGNAL_NONE && (flagshm_load32_(&b->slot->signal_kinds) >> kind & 1) != 0) {
        if (b->is_open)
            flagshm_signals_(b, 1u << kind, NULL, b->label, false);
        flagshm_ring_(b);
    }
    return 0;
}

/* Books what happened to a call: FLAGSHM_STARTED before it, FLAGSHM_FINISHED with what became of it (the shares of failures and
 * the like are of finished calls; users, and calls that never end, are counted by STARTED). Later events may be booked with
 * the decision too, as long as its slot stands; flagshm_event does without it. Returns 0, also where the decision has no slot:
 * it was no SPLIT, or nobody watches the flag; and where its arm is not the one that its bucket has: then only that is counted. Else
 * nothing is booked:
 *   -ESTALE  the slot is another flag's by now: the decision's flag, arms, share or salt changed, an hour ago at least; or the
 *            server has lost its memory of outcomes
 *   -EACCES  no permission to write the segment: the process is not in the clients' group
 *   -ENOENT  there is no such segment: no server runs, or it could not make one
 *   -EINVAL  no decision of ours, or no such event
 *   any other  -EPERM, -EPROTO, -ENOMEM, -EMFILE, -EAGAIN: it could not be attached; tried again each second
 * Never blocks: no lock, no allocation, no system call once attached, but for waking a server that asks for it after a bad
 * outcome. Cost: about ten atomic additions. Thread-safe, fork-safe; an event is lost, and no more, where the process is
 * killed within. A segment that somebody of the group cuts short raises SIGBUS. */
FLAGSHM_API_ int flagshm_record(struct flagshm *fs, const struct flagshm_decision *d,
                                const struct flagshm_outcome *o)
{
    struct flagshm_booked_ b;
    uint64_t amounts[4];
    uint32_t kinds, watched, event = (uint32_t)o->event;
    bool is_capped = false;
    int found = flagshm_book_(fs, d, false, &b);

    if (FLAGSHM_UNLIKELY_(found <= 0))
        return found;
    if (FLAGSHM_UNLIKELY_((d->arm != 0) != (d->bucket < d->rollout_mpct))) {
        /* the hash or a client is broken: it is news of neither arm */
        flagshm_add64_(&b.counters[FLAGSHM_N_MISBOOKED], 1);
        return 0;
    }
    if (FLAGSHM_UNLIKELY_(event == FLAGSHM_STARTED)) {
        flagshm_add64_(&b.counters[FLAGSHM_N_STARTED], 1);
        flagshm_seen_(&b, FLAGSHM_N_USERS_STARTED);
        if (FLAGSHM_UNLIKELY_((flagshm_load32_(&b.slot->signal_kinds) >> FLAGSHM_SIGNAL_LOST & 1) != 0) &&
            b.is_open)
            flagshm_under_way_(&b, false, 0);
        return 0;
    }
    if (FLAGSHM_UNLIKELY_(event != FLAGSHM_FINISHED))
        return event <= FLAGSHM_CUSTOM_7 ? flagshm_later_(&b, event, o->custom) : -EINVAL;
    kinds = flagshm_finished_(&b, o, amounts);
    flagshm_seen_(&b, FLAGSHM_N_USERS_FINISHED);
    if (FLAGSHM_LIKELY_(b.is_open)) {
        watched = flagshm_load32_(&b.slot->signal_kinds);
        flagshm_add64_(&b.counters[FLAGSHM_N_JUDGED], 1);
        is_capped = flagshm_capped_(&b);
        if (FLAGSHM_UNLIKELY_((watched >> FLAGSHM_SIGNAL_LOST & 1) != 0))
            flagshm_under_way_(&b, true, o->call_ns != 0 ? o->call_ns : o->latency_ns);
        /* where nobody gets the variant, only shadow pairs are evidence: control's own failures would be the first events of their users */
        if ((kinds & watched) != 0 && d->rollout_mpct != 0)
            flagshm_signals_(&b, kinds & watched, amounts, b.label, is_capped);
    }
    if (FLAGSHM_UNLIKELY_((kinds & ((1u << FLAGSHM_SIGNAL_LATENCY) - 1)) != 0))
        flagshm_ring_(&b);
    return 0;
}

/* Books a shadow call, and the pair that it makes with control's answer to the same prompt (which flagshm_record has booked
 * already): where one of the two has failed, or is invalid, or long, and the other is not, that is evidence. A call
 * that was cancelled, limited or altered makes no pair. Returns as flagshm_record. */
FLAGSHM_API_ int flagshm_record_shadow(struct flagshm *fs, const struct flagshm_decision *d,
                                       const struct flagshm_outcome *control,
                                       const struct flagshm_outcome *shadow)
{
    struct flagshm_booked_ b;
    uint64_t ours[4], theirs[4];
    uint32_t bad, control_bad = 0, watched, i, count;
    int found = flagshm_book_(fs, d, true, &b);

    if (found <= 0)
        return found;
    if (!d->shadow) /* the slot may have no room for shadow calls */
        return -EINVAL;
    bad = flagshm_finished_(&b, shadow, ours) & ((1u << FLAGSHM_SIGNAL_LATENCY) - 1);
    if (!b.is_open || control->cancelled || control->limited || control->altered || control->fallback ||
        shadow->cancelled || shadow->limited || shadow->altered || control->http_status == 429 ||
        shadow->http_status == 429)
        return 0;
    watched = flagshm_load32_(&b.slot->signal_kinds);
    control_bad |= flagshm_has_failed_(control) ? 1u << FLAGSHM_SIGNAL_ERROR : 0;
    if (control_bad == 0) {
        control_bad |= control->json_checked && !control->json_valid ? 1u << FLAGSHM_SIGNAL_JSON_INVALID : 0;
        control_bad |=
            control->schema_checked && !control->schema_valid ? 1u << FLAGSHM_SIGNAL_SCHEMA_INVALID : 0;
        control_bad |= control->tool_checked && !control->tool_valid ? 1u << FLAGSHM_SIGNAL_TOOL_INVALID : 0;
        control_bad |= control->refusal ? 1u << FLAGSHM_SIGNAL_REFUSAL : 0;
        control_bad |= control->truncated ? 1u << FLAGSHM_SIGNAL_TRUNCATED : 0;
        control_bad |= control->empty ? 1u << FLAGSHM_SIGNAL_EMPTY : 0;
    }
    flagshm_signals_(&b, bad & ~control_bad & watched, NULL, 1, false);
    flagshm_signals_(&b, control_bad & ~bad & watched, NULL, 0, false);
    theirs[2] = theirs[3] = 0;
    if ((control_bad & 1u << FLAGSHM_SIGNAL_ERROR) == 0) {
        theirs[2] = control->input_tokens + control->output_tokens + control->cache_tokens;
        theirs[3] = control->output_tokens;
    }
    count = flagshm_load32_(&b.slot->signal_count);
    for (i = 0; i < count && i < FLAGSHM_SIGNALS_MAX; i++) { /* amounts; latency is not compared */
        uint32_t kind = flagshm_load32_(&b.slot->signals[i].kind);
        uint64_t threshold = flagshm_load64_(&b.slot->signals[i].threshold);
        if (kind != FLAGSHM_SIGNAL_TOKENS && kind != FLAGSHM_SIGNAL_OUTPUT_TOKENS)
            continue;
        if ((ours[kind - FLAGSHM_SIGNAL_LATENCY] > threshold) !=
            (theirs[kind - FLAGSHM_SIGNAL_LATENCY] > threshold))
            flagshm_cell_(&b, i, __atomic_load_n(&b.slot->signals[i].first_table, __ATOMIC_RELAXED), 0,
                          ours[kind - FLAGSHM_SIGNAL_LATENCY] > threshold);
    }
    if ((bad & ~control_bad) != 0)
        flagshm_ring_(&b);
    return 0;
}

/* Books a later event (a thumb, a retry, a contact, a custom event) by flag and id alone: hours after the call, from any
 * process, in the flag's slot of now under the arm that the id has now. Returns as flagshm_record; -ENOENT too for an unknown
 * flag. Cost: that of a decision. */
FLAGSHM_API_ int flagshm_event(struct flagshm *fs, const char *flag, const char *id, enum flagshm_event event)
{
    struct flagshm_decision d;
    struct flagshm_booked_ b;
    enum flagshm_reason reason;
    int found;

    if ((uint32_t)event < FLAGSHM_THUMBS_UP || (uint32_t)event > FLAGSHM_CUSTOM_7)
        return -EINVAL;
    reason = flagshm_decide(fs, flag, id, &d);
    if (reason == FLAGSHM_FLAG_NOT_FOUND || reason == FLAGSHM_NOT_READY)
        return -ENOENT;
    found = flagshm_book_(fs, &d, false, &b);
    return found <= 0 ? found : flagshm_later_(&b, (uint32_t)event, 0);
}

/* Takes `tokens` from the host's budget of today (UTC) for shadow calls: 0, or -EDQUOT where less than that is left of `limit`.
 * A limit of 0 takes them in any case: to book what an estimate fell short of. Other returns as flagshm_record. */
FLAGSHM_API_ int flagshm_shadow_budget(struct flagshm *fs, uint64_t limit, uint64_t tokens)
{
    struct flagshm_map_ *map = flagshm_current_(fs);
    struct flagshm_outcomes_map_ *outcomes = __atomic_load_n(&fs->outcomes_, __ATOMIC_ACQUIRE);
    struct flagshm_outcomes *segment;
    uint64_t day = flagshm_clock_ns_(FLAGSHM_CLOCK_REALTIME_COARSE_) / UINT64_C(86400000000000) & 0xffff;
    uint64_t wanted, held, spent, most = (UINT64_C(1) << 48) - 1;
    int error = 0;

    if (map == NULL)
        return -ENOENT;
    wanted = flagshm_load64_(&((const struct flagshm_header *)(const void *)map->segment)->outcomes_id);
    if (wanted == 0)
        return -ENOENT;
    segment = outcomes != NULL && outcomes->segment_id == wanted ? outcomes->segment
                                                                 : flagshm_outcomes_find_(fs, wanted, &error);
    if (segment == NULL)
        return error;
    held = flagshm_load64_(&segment->shadow_tokens);
    do {
        spent = held >> 48 == day ? held & most : 0;
        if (limit != 0 && (tokens > limit || spent > limit - tokens))
            return -EDQUOT;
        spent = tokens < most - spent ? spent + tokens : most;
    } while (!__atomic_compare_exchange_n(&segment->shadow_tokens, &held, day << 48 | spent, true,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return 0;
}

/* "SPLIT", "STATIC", ... as OpenFeature spells them; "UNKNOWN" for any other number. */
FLAGSHM_API_ const char *flagshm_reason_name(enum flagshm_reason reason)
{
    switch (reason) {
    case FLAGSHM_SPLIT:
        return "SPLIT";
    case FLAGSHM_STATIC:
        return "STATIC";
    case FLAGSHM_TARGETING_MATCH:
        return "TARGETING_MATCH";
    case FLAGSHM_DISABLED:
        return "DISABLED";
    case FLAGSHM_STALE:
        return "STALE";
    case FLAGSHM_FLAG_NOT_FOUND:
        return "FLAG_NOT_FOUND";
    case FLAGSHM_NOT_READY:
        return "NOT_READY";
    case FLAGSHM_TARGETING_KEY_MISSING:
        return "TARGETING_KEY_MISSING";
    case FLAGSHM_GENERAL:
        return "GENERAL";
    default:
        return "UNKNOWN";
    }
}

#ifdef __cplusplus
}
#endif

#endif
