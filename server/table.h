/* table: flags -> the image of one bank, ready to be copied into shared memory.
 *
 * Pure: no I/O, no clock, no globals. The image is laid out as client/flagshm.h says and is the same for the same input, byte for
 * byte, so that an edit which changes nothing is seen to change nothing.
 */
#ifndef FLAGSHM_SERVER_TABLE_H
#define FLAGSHM_SERVER_TABLE_H

#include "client/flagshm.h"
#include "server/flag.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_rollout;

/* One flag with what the server adds to the file's word. */
struct flagshm_table_entry {
    const struct flagshm_flag *flag;
    bool is_killed;
    const struct flagshm_rollout *rollout; /* NULL: the file's share is served, 0 where it has a plan */
    /* What its slot is judged by. NULL: where it has one, outcomes are booked, and nobody judges them. */
    const struct flagshm_guards *guards;
    uint64_t wash_in_ns; /* of a slot that is taken now; read where guards is not NULL */
};

/* Where things stand in a segment; chosen once for its life. */
struct flagshm_geometry {
    uint64_t segment_bytes, bank_offset[2], bank_bytes;
    uint64_t index_offset, records_offset, heap_offset, heap_bytes;
    uint32_t index_slots, record_capacity;
};

struct flagshm_table {
    unsigned char *bytes; /* geometry.bank_bytes of them: a whole bank, its header included; 8-byte aligned */
    struct flagshm_geometry geometry;
    uint32_t flag_count;
    uint64_t heap_used;
    uint64_t
        content_hash; /* of records and heap, but the records' changed_version; any geometry has the same */
};

/* The share that is served now, in mpct: 0 where killed or disabled, and never above the file's number. */
uint32_t flagshm_table_share_mpct(const struct flagshm_table_entry *entry);

/* Compiles `count` entries with unique names. `within`: the geometry of the segment that is in use, or NULL. Where the
 * content fits it, the image is made for it; else a new geometry is chosen: with a quarter of head-room, or, where a segment
 * in use was grown out of, with as much again; at least 64 KiB. 0 or -ENOMEM; -E2BIG: no 32-bit heap offset reaches all, or names crowd in
 * the index; -EEXIST: two names with one 64-bit hash. Nothing is held after an error. Free with flagshm_table_free.
 * About 0.25 ms for 1000 flags. */
int flagshm_table_build(struct flagshm_table *table, const struct flagshm_table_entry *entries, size_t count,
                        const struct flagshm_geometry *within);

/* Gives a record whose decisions are booked its slot and slot_generation. `key` stands for all of the record that its outcomes
 * depend on; what they are judged by is the entry's. */
struct flagshm_table_booking {
    void *context;
    void (*book)(void *context, struct flagshm_flag_entry *record, const struct flagshm_table_entry *entry,
                 uint64_t key);
};
/* flagshm_table_build that asks for the slots of flags that split their users, or are watched at 100 %: first those that are guarded. A
 * flag at 100 % that gets none is as one that nobody watches: it does not hash. */
int flagshm_table_build_booked(struct flagshm_table *table, const struct flagshm_table_entry *entries,
                               size_t count, const struct flagshm_geometry *within,
                               const struct flagshm_table_booking *booking);
/* The key of a record of a table: of its salt, share, arms, weights and force list. Never 0. Safe on any bytes. */
uint64_t flagshm_table_form_key(const unsigned char *heap, uint64_t heap_used,
                                const struct flagshm_flag_entry *r);
void flagshm_table_free(struct flagshm_table *table);

/* What hashing starts from, for a salt of at most FLAGSHM_SALT_MAX bytes. Its `pending` holds the text of salt and ':' where that has less
 * than 64 bytes. */
void flagshm_table_prefix(struct flagshm_md5_prefix_ *prefix, const char *salt, size_t bytes);

/* What content_hash must be. Cost: one pass over records and heap. The counts must be within the geometry. */
uint64_t flagshm_table_hash(const struct flagshm_table *table);

/* The record of a name by its hash, or NULL. Safe on any bytes as long as the geometry is sound. */
struct flagshm_flag_entry *flagshm_table_find(const struct flagshm_table *table, uint64_t name_hash);

/* Gives each record its changed_version: that of the equal record in `served`, else `version`. `served` NULL: no table was
 * served before. Records are equal where a client would decide alike and show the same; where their texts stand does not count. */
void flagshm_table_carry_versions(struct flagshm_table *table, const struct flagshm_table *served,
                                  uint64_t version);

/* Makes a flag killed, as a build of the same flags with is_killed would. */
void flagshm_table_kill(struct flagshm_table *table, struct flagshm_flag_entry *record);

#endif
