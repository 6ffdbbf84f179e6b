/* table: see table.h.
 *
 * In three steps: the records and the heap are made as if alone in the world; then a geometry is found or
 * chosen that holds them; then the index is filled in and all is laid into one bank. Records and heap do not
 * depend on the geometry, so that the content's hash does not either: an unchanged file compiled for a larger
 * segment is seen to be unchanged.
 */
#include "server/table_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_BANK_MIN     32768u /* a header and two such banks: a little over 64 KiB */
#define TABLE_CAPACITY_MIN 64u    /* flags in the smallest bank; leaves some 300 bytes of heap for each */
#define TABLE_PAGE         4096u

/* ---- the heap ---- */

uint32_t flagshm_heap_take(struct flagshm_table_builder *b, size_t bytes)
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

uint32_t flagshm_heap_text(struct flagshm_table_builder *b, const char *text, size_t bytes)
{
    uint32_t offset = flagshm_heap_take(b, bytes + 1);

    if (offset)
        memcpy(b->heap + offset, text, bytes);
    return offset;
}

static void texts_grow(struct flagshm_table_builder *b)
{
    size_t slots = (b->text_mask + 1) * 2, i, at;
    struct flagshm_heap_slot *texts = calloc(slots, sizeof *texts);

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

uint32_t flagshm_heap_share(struct flagshm_table_builder *b, const char *text, size_t bytes, uint64_t hash)
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
    b->texts[at] = (struct flagshm_heap_slot){hash, flagshm_heap_text(b, text, bytes), (uint32_t)bytes};
    b->text_count++;
    return b->texts[at].offset;
}

static bool builder_begin(struct flagshm_table_builder *b, size_t count)
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

static void builder_end(struct flagshm_table_builder *b)
{
    free(b->records);
    free(b->heap);
    free(b->texts);
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
static int bank_fill(struct flagshm_table *table, const struct flagshm_table_builder *b, size_t count)
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
static int table_lay_out(struct flagshm_table *table, const struct flagshm_table_builder *b, size_t count,
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
static void book(const struct flagshm_table_builder *b, const struct flagshm_table_entry *entries,
                 size_t count, const struct flagshm_table_booking *booking)
{
    int pass;
    size_t i;

    for (pass = 0; pass < 2; pass++)
        for (i = 0; i < count; i++) {
            struct flagshm_flag_entry *r = &b->records[i];
            bool is_guarded = (r->switches & FLAGSHM_SWITCH_GUARDED) != 0, only_with_slot;

            if (is_guarded != (pass == 0) || !flagshm_record_wants_slot(r, &entries[i], &only_with_slot))
                continue;
            if (only_with_slot)
                r->switches |= FLAGSHM_SWITCH_HASH;
            booking->book(booking->context, r, &entries[i], flagshm_table_form_key(b->heap, b->used, r));
            if (only_with_slot && r->slot == FLAGSHM_NO_SLOT)
                r->switches &= ~FLAGSHM_SWITCH_HASH;
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
    struct flagshm_table_builder b;
    size_t i;
    int error = -ENOMEM;

    memset(table, 0, sizeof *table);
    if (builder_begin(&b, count)) {
        for (i = 0; i < count; i++)
            flagshm_record_build(&b, &b.records[i], &entries[i]);
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
