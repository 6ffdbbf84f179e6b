/* table: see table.h.
 *
 * In three steps: the records and the heap are made as if alone in the world; then a geometry is found or
 * chosen that holds them; then the index is filled in and all is laid into one bank. Records and heap do not
 * depend on the geometry, so that the content's hash does not either: an unchanged file compiled for a larger
 * segment is seen to be unchanged.
 */
#include "server/table.h"

#include "server/flagfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_BANK_MIN     32768u /* a header and two such banks: a little over 64 KiB */
#define TABLE_CAPACITY_MIN 64u    /* flags in the smallest bank; leaves some 300 bytes of heap for each */
#define TABLE_PAGE         4096u

struct text_slot {
    uint64_t hash;
    uint32_t offset, bytes; /* offset 0: free, since no text but the empty one stands there */
};

struct builder {
    struct flagshm_flag_entry *records;
    unsigned char *heap;
    size_t used, room;
    struct text_slot *texts; /* those that are stored once for all that are equal */
    size_t text_mask, text_count;
    int error; /* of the first step that failed; the rest does nothing then */
};

uint32_t flagshm_table_share_mpct(const struct flagshm_table_entry *entry)
{
    if (entry->is_killed || !entry->flag->enabled || entry->flag->has_rollout)
        return 0;
    return entry->flag->rollout_mpct;
}

/* ---- the heap ---- */

/* Room for so many bytes, zeroed and 8-byte aligned; its offset, or 0 on an error. */
static uint32_t heap_take(struct builder *b, size_t bytes)
{
    size_t padded = (bytes + 7) & ~(size_t)7, at = b->used;

    if (b->error)
        return 0;
    if (bytes > UINT32_MAX || at + padded > UINT32_MAX - 7u) {
        b->error = -E2BIG;
        return 0;
    }
    if (at + padded > b->room) {
        size_t room = (at + padded) * 2;
        unsigned char *heap = realloc(b->heap, room);

        if (!heap) {
            b->error = -ENOMEM;
            return 0;
        }
        memset(heap + b->room, 0, room - b->room);
        b->heap = heap;
        b->room = room;
    }
    b->used = at + padded;
    return (uint32_t)at;
}

/* Each text has at least one zero behind it: readers compare names with their NUL. */
static uint32_t text_add(struct builder *b, const char *text, size_t bytes)
{
    uint32_t offset = heap_take(b, bytes + 1);

    if (offset)
        memcpy(b->heap + offset, text, bytes);
    return offset;
}

static void texts_grow(struct builder *b)
{
    size_t slots = (b->text_mask + 1) * 2, i, at;
    struct text_slot *texts = calloc(slots, sizeof *texts);

    if (!texts) {
        b->error = -ENOMEM;
        return;
    }
    for (i = 0; i <= b->text_mask; i++) {
        if (!b->texts[i].offset)
            continue;
        for (at = b->texts[i].hash & (slots - 1); texts[at].offset; at = (at + 1) & (slots - 1))
            continue;
        texts[at] = b->texts[i];
    }
    free(b->texts);
    b->texts = texts;
    b->text_mask = slots - 1;
}

/* As text_add, but equal texts are stored once: arms' names, models and values repeat from flag to flag. */
static uint32_t text_share(struct builder *b, const char *text, size_t bytes, uint64_t hash)
{
    size_t at;

    if (b->error || bytes == 0)
        return 0;
    if (b->text_count * 2 > b->text_mask)
        texts_grow(b);
    if (b->error)
        return 0;
    for (at = hash & b->text_mask; b->texts[at].offset; at = (at + 1) & b->text_mask)
        if (b->texts[at].hash == hash && b->texts[at].bytes == bytes &&
            memcmp(b->heap + b->texts[at].offset, text, bytes) == 0)
            return b->texts[at].offset;
    b->texts[at] = (struct text_slot){hash, text_add(b, text, bytes), (uint32_t)bytes};
    b->text_count++;
    return b->texts[at].offset;
}

static bool builder_begin(struct builder *b, size_t count)
{
    size_t slots = 64;

    while (slots < count * 2)
        slots *= 2;
    memset(b, 0, sizeof *b);
    b->records = calloc(count ? count : 1, sizeof *b->records);
    b->room = 4096 + count * 256;
    b->heap = calloc(1, b->room);
    b->texts = calloc(slots, sizeof *b->texts);
    b->text_mask = slots - 1;
    b->used = 8; /* the empty text */
    return b->records && b->heap && b->texts;
}

static void builder_end(struct builder *b)
{
    free(b->records);
    free(b->heap);
    free(b->texts);
}

/* ---- one record ---- */

/* MD5's first round, one step, on words that keep their names: step i replaces a, d, c, b in turn. */
static void md5_step(uint32_t state[4], unsigned step, uint32_t word)
{
    static const uint32_t sines[16] = {0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a,
                                       0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be,
                                       0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821};
    static const unsigned shifts[4] = {7, 12, 17, 22};
    unsigned at = (4 - step % 4) % 4, shift = shifts[step % 4];
    uint32_t b = state[(at + 1) % 4], c = state[(at + 2) % 4], d = state[(at + 3) % 4];
    uint32_t sum = state[at] + word + sines[step] + (d ^ (b & (c ^ d)));

    state[at] = (sum << shift | sum >> (32 - shift)) + b;
}

/* A salt of 63 or 64 bytes and its ':' fill a whole block. */
void flagshm_table_prefix(struct flagshm_md5_prefix_ *prefix, const char *salt, size_t bytes)
{
    static const uint32_t init[4] = FLAGSHM_MD5_INIT_;
    unsigned char text[FLAGSHM_SALT_MAX + 64] = {0};
    size_t whole = (bytes + 1) / 64 * 64, i;

    memcpy(text, salt, bytes);
    text[bytes] = ':';
    memcpy(prefix->start, init, sizeof init);
    if (whole > 0) {
        uint64_t block[8];

        for (i = 0; i < 8; i++)
            block[i] = flagshm_get64_(text + 8 * i);
        flagshm_md5_block_(prefix->start, init, 0, block);
    }
    memcpy(prefix->state, prefix->start, sizeof prefix->state);
    for (i = 0; i < (bytes + 1 - whole) / 4; i++)
        md5_step(prefix->state, (unsigned)i, flagshm_get32_(text + whole + 4 * i));
    for (i = 0; i < 8; i++)
        prefix->pending[i] = flagshm_get64_(text + whole + 8 * i);
    prefix->bytes = (uint32_t)bytes + 1;
}

static void record_prefix(struct flagshm_flag_entry *r, const struct flagshm_md5_prefix_ *prefix)
{
    size_t i;

    r->prefix_bytes = prefix->bytes;
    memcpy(r->md5_start, prefix->start, sizeof r->md5_start);
    memcpy(r->md5_state, prefix->state, sizeof r->md5_state);
    for (i = 0; i < 8; i++) {
        uint64_t word = flagshm_le64_(prefix->pending[i]);

        memcpy(r->pending + 8 * i, &word, 8);
    }
}

static int force_order(const void *left, const void *right)
{
    const struct flagshm_force_id *a = left, *b = right;

    if (a->high != b->high)
        return a->high < b->high ? -1 : 1;
    if (a->low != b->low)
        return a->low < b->low ? -1 : 1;
    return a->arm < b->arm ? -1 : a->arm > b->arm;
}

/* Ids are personal data: only their hashes go into shared memory. */
static void record_force(struct builder *b, struct flagshm_flag_entry *r, const struct flagshm_flag *flag,
                         const struct flagshm_md5_prefix_ *prefix)
{
    struct flagshm_force_id *ids;
    uint32_t i;

    if (flag->force_count == 0)
        return;
    r->force_offset = heap_take(b, flag->force_count * sizeof *ids);
    if (b->error)
        return;
    r->force_count = flag->force_count;
    ids = (struct flagshm_force_id *)(void *)(b->heap + r->force_offset);
    for (i = 0; i < flag->force_count; i++) {
        uint32_t words[4];

        flagshm_md5_id_(prefix, (const unsigned char *)flag->force[i].id, flag->force[i].id_bytes, words);
        ids[i] = (struct flagshm_force_id){(uint64_t)words[0] << 32 | words[1],
                                           (uint64_t)words[2] << 32 | words[3], flag->force[i].arm};
    }
    qsort(ids, flag->force_count, sizeof *ids, force_order);
}

static void record_arms(struct builder *b, struct flagshm_flag_entry *r, const struct flagshm_flag *flag)
{
    uint32_t offset = heap_take(b, flag->arm_count * sizeof(struct flagshm_arm_entry)), sum = 0, i;

    r->arms_offset = offset;
    r->arm_count = (uint16_t)flag->arm_count;
    for (i = 0; i < flag->arm_count; i++) {
        const struct flagshm_arm *arm = &flag->arms[i];
        size_t name_bytes = strlen(arm->name);
        struct flagshm_arm_entry entry = {.name_bytes = (uint16_t)name_bytes,
                                          .model_bytes = (uint16_t)arm->model_bytes,
                                          .value_bytes = (uint32_t)arm->value_bytes,
                                          .value_hash = arm->value_hash,
                                          .fingerprint = arm->fingerprint};

        sum += i > 0 ? arm->weight : 0;
        entry.weight_end = sum;
        entry.name_offset = text_share(b, arm->name, name_bytes, flagshm_hash64_(arm->name, name_bytes, 0));
        entry.model_offset = arm->model == arm->value /* a string names the model and is the value */
                                 ? text_share(b, arm->model, arm->model_bytes, arm->value_hash)
                                 : text_share(b, arm->model, arm->model_bytes,
                                              flagshm_hash64_(arm->model, arm->model_bytes, 0));
        entry.value_offset = text_share(b, arm->value, arm->value_bytes, arm->value_hash);
        if (!b->error)
            memcpy(b->heap + offset + i * sizeof entry, &entry, sizeof entry);
    }
    r->weight_sum = sum;
}

static uint32_t record_switches(const struct flagshm_table_entry *entry, uint32_t share_mpct)
{
    const struct flagshm_flag *flag = entry->flag;
    uint32_t switches = 0;

    if (entry->is_killed)
        switches |= FLAGSHM_SWITCH_KILLED;
    if (!flag->enabled)
        switches |= FLAGSHM_SWITCH_DISABLED;
    if (flag->on_stale_control)
        switches |= FLAGSHM_SWITCH_STALE_CONTROL;
    if (share_mpct != 0 && (share_mpct != FLAGSHM_MPCT_FULL || flag->arm_count > 2))
        switches |= FLAGSHM_SWITCH_HASH;
    if (flag->has_guardrails)
        switches |= FLAGSHM_SWITCH_GUARDED;
    if (flag->identity == FLAGSHM_IDENTITY_ORG)
        switches |= FLAGSHM_SWITCH_ORG;
    if (flag->identity == FLAGSHM_IDENTITY_SESSION)
        switches |= FLAGSHM_SWITCH_SESSION;
    return switches;
}

/* Without printf: it would be a third of the work on a plain flag. */
static void record_stage(char stage[24], const struct flagshm_table_entry *entry, uint32_t share_mpct)
{
    char share[16];
    size_t bytes;

    memset(stage, 0, 24); /* the same input gives the same bytes */
    if (entry->is_killed) {
        memcpy(stage, "killed", 6);
    } else if (!entry->flag->enabled) {
        memcpy(stage, "disabled", 8);
    } else {
        bytes = strlen(flagshm_mpct_to_text(share_mpct, share));
        memcpy(stage, "static-", 7);
        memcpy(stage + 7, share, bytes); /* at most "99.999" */
        memcpy(stage + 7 + bytes, "pct", 3);
    }
}

static void record_build(struct builder *b, struct flagshm_flag_entry *r,
                         const struct flagshm_table_entry *entry)
{
    const struct flagshm_flag *flag = entry->flag;
    struct flagshm_md5_prefix_ prefix;
    uint32_t share_mpct = flagshm_table_share_mpct(entry);

    r->name_hash = flagshm_hash64_(flag->name, flag->name_bytes, 0);
    r->name_bytes = (uint16_t)flag->name_bytes;
    r->name_offset = text_add(b, flag->name, flag->name_bytes);
    if (flag->salt_bytes + 1 >= 64) /* `pending` has lost it: for people, its text stands behind the name's */
        (void)text_add(b, flag->salt, flag->salt_bytes);
    r->switches = record_switches(entry, share_mpct);
    r->rollout_mpct = share_mpct;
    r->slot = FLAGSHM_NO_SLOT;
    record_stage(r->stage, entry, share_mpct);
    flagshm_table_prefix(&prefix, flag->salt, flag->salt_bytes);
    record_prefix(r, &prefix);
    record_arms(b, r, flag);
    record_force(b, r, flag, &prefix);
}

/* ---- the geometry ---- */

static uint64_t align_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Where things stand for so many flags, index slots and bytes of heap. What the last page has left belongs to
 * the heap. */
static void geometry_lay_out(struct flagshm_geometry *g, uint64_t capacity, uint64_t slots, uint64_t heap)
{
    g->record_capacity = (uint32_t)capacity;
    g->index_slots = (uint32_t)slots;
    g->index_offset = sizeof(struct flagshm_bank);
    g->records_offset = align_up(g->index_offset + slots * 8, 64);
    g->heap_offset = align_up(g->records_offset + capacity * sizeof(struct flagshm_flag_entry), 64);
    g->bank_bytes = align_up(g->heap_offset + heap, TABLE_PAGE);
    if (g->bank_bytes < TABLE_BANK_MIN)
        g->bank_bytes = TABLE_BANK_MIN;
    g->heap_bytes = g->bank_bytes - g->heap_offset;
    if (g->heap_bytes > UINT32_MAX)
        g->heap_bytes = UINT32_MAX & ~UINT64_C(7);
    g->bank_offset[0] = FLAGSHM_HEADER_BYTES;
    g->bank_offset[1] = g->bank_offset[0] + g->bank_bytes;
    g->segment_bytes = g->bank_offset[1] + g->bank_bytes;
}

/* The first segment has a quarter of head-room: most tables never grow out of it. One that did, has as much
 * again: a client holds a limited number of attachments, so segments must not follow each other in small
 * steps. */
static int geometry_choose(struct flagshm_geometry *g, size_t count, size_t heap_used, bool has_grown,
                           unsigned index_doublings)
{
    uint64_t capacity = has_grown ? (uint64_t)count * 2 : count + (uint64_t)count / 4, slots = 2;
    uint64_t heap = has_grown ? (uint64_t)heap_used * 2 : heap_used + (uint64_t)heap_used / 4;

    if (capacity < TABLE_CAPACITY_MIN)
        capacity = TABLE_CAPACITY_MIN;
    if (heap > (UINT32_MAX & ~UINT64_C(7)))
        heap = UINT32_MAX & ~UINT64_C(7);
    while (slots < capacity * 2)
        slots *= 2;
    slots <<= index_doublings;
    if (capacity >= UINT32_MAX / 2 || slots > (UINT64_C(1) << 31) || heap < heap_used)
        return -E2BIG;
    geometry_lay_out(g, capacity, slots, heap);
    return 0;
}

/* ---- the bank ---- */

/* 0; -EEXIST: two names with one hash; -E2BIG: a run that readers would not follow to its end. */
static int index_fill(uint64_t *index, uint32_t slots, const struct flagshm_flag_entry *records, size_t count)
{
    size_t i;

    memset(index, 0, (size_t)slots * 8);
    for (i = 0; i < count; i++) {
        uint64_t hash = records[i].name_hash;
        uint32_t at = (uint32_t)hash & (slots - 1), probes;

        for (probes = 0; index[at] != 0; probes++, at = (at + 1) & (slots - 1)) {
            if (records[(uint32_t)index[at] - 1].name_hash == hash)
                return -EEXIST;
            if (probes + 1 >= FLAGSHM_PROBES_MAX)
                return -E2BIG;
        }
        index[at] = (hash >> 32 << 32) | (i + 1);
    }
    return 0;
}

/* Lays records, index and heap into a bank of this geometry. */
static int bank_fill(struct flagshm_table *table, const struct builder *b, size_t count)
{
    const struct flagshm_geometry *g = &table->geometry;
    struct flagshm_bank *bank;
    int error;

    table->bytes = calloc(1, (size_t)g->bank_bytes);
    if (!table->bytes)
        return -ENOMEM;
    error =
        index_fill((uint64_t *)(void *)(table->bytes + g->index_offset), g->index_slots, b->records, count);
    if (error) {
        flagshm_table_free(table);
        return error;
    }
    memcpy(table->bytes + g->records_offset, b->records, count * sizeof *b->records);
    memcpy(table->bytes + g->heap_offset, b->heap, b->used);
    table->flag_count = (uint32_t)count;
    table->heap_used = b->used;
    table->content_hash = flagshm_table_hash(table);
    bank = (struct flagshm_bank *)(void *)table->bytes;
    bank->flag_count = table->flag_count;
    bank->heap_used = table->heap_used;
    bank->content_hash = table->content_hash;
    return 0;
}

/* Lays the content out for the segment in use where that holds it, else for a new one; where names crowd in
 * the index, for one with a larger index. */
static int table_lay_out(struct flagshm_table *table, const struct builder *b, size_t count,
                         const struct flagshm_geometry *within)
{
    unsigned doublings;
    int error = -E2BIG;

    if (within && count <= within->record_capacity && b->used <= within->heap_bytes) {
        table->geometry = *within;
        error = bank_fill(table, b, count);
    }
    for (doublings = 0; error == -E2BIG && doublings < 4; doublings++) {
        error = geometry_choose(&table->geometry, count, b->used, within != NULL, doublings);
        if (!error)
            error = bank_fill(table, b, count);
    }
    return error;
}

/* Where there are fewer slots than flags, those come first that a guardrail watches. */
static void book(const struct builder *b, const struct flagshm_table_entry *entries, size_t count,
                 const struct flagshm_table_booking *booking)
{
    int pass;
    size_t i;

    for (pass = 0; pass < 2; pass++)
        for (i = 0; i < count; i++) {
            struct flagshm_flag_entry *r = &b->records[i];
            bool is_guarded = (r->switches & FLAGSHM_SWITCH_GUARDED) != 0;

            if ((r->switches & FLAGSHM_SWITCH_HASH) != 0 && (r->switches & FLAGSHM_SWITCH_OFF) == 0 &&
                is_guarded == (pass == 0))
                booking->book(booking->context, r, &entries[i], flagshm_table_form_key(b->heap, b->used, r));
        }
}

int flagshm_table_build(struct flagshm_table *table, const struct flagshm_table_entry *entries, size_t count,
                        const struct flagshm_geometry *within)
{
    return flagshm_table_build_booked(table, entries, count, within, NULL);
}

int flagshm_table_build_booked(struct flagshm_table *table, const struct flagshm_table_entry *entries,
                               size_t count, const struct flagshm_geometry *within,
                               const struct flagshm_table_booking *booking)
{
    struct builder b;
    size_t i;
    int error = -ENOMEM;

    memset(table, 0, sizeof *table);
    if (builder_begin(&b, count)) {
        for (i = 0; i < count; i++)
            record_build(&b, &b.records[i], &entries[i]);
        if (booking != NULL && !b.error)
            book(&b, entries, count, booking);
        error = b.error ? b.error : table_lay_out(table, &b, count, within);
    }
    builder_end(&b);
    return error;
}

void flagshm_table_free(struct flagshm_table *table)
{
    free(table->bytes);
    table->bytes = NULL;
}
