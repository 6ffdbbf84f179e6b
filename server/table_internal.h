/* table_internal: what the files of the compiler share: table.c lays out heap, index and bank; table_record.c makes one flag's record. For no
 * one else.
 */
#ifndef FLAGSHM_SERVER_TABLE_INTERNAL_H
#define FLAGSHM_SERVER_TABLE_INTERNAL_H

#include "server/table.h"

struct flagshm_heap_slot {
    uint64_t hash;
    uint32_t offset, bytes; /* offset 0: free, since no text but the empty one stands there */
};

struct flagshm_table_builder {
    struct flagshm_flag_entry *records;
    unsigned char *heap;
    size_t used, room;
    struct flagshm_heap_slot *texts; /* those that are stored once for all that are equal */
    size_t text_mask, text_count;
    int error; /* of the first step that failed; the rest does nothing then */
};

/* Room for so many bytes, zeroed and 8-byte aligned; its offset, or 0 on an error. */
uint32_t flagshm_heap_take(struct flagshm_table_builder *b, size_t bytes);
/* Each text has at least one zero behind it: readers compare names with their NUL. */
uint32_t flagshm_heap_text(struct flagshm_table_builder *b, const char *text, size_t bytes);
/* The same, but equal texts are stored once: arms' names, models and values repeat from flag to flag. */
uint32_t flagshm_heap_share(struct flagshm_table_builder *b, const char *text, size_t bytes, uint64_t hash);

/* Fills in a zeroed record, but its slot. */
void flagshm_record_build(struct flagshm_table_builder *b, struct flagshm_flag_entry *r,
                          const struct flagshm_table_entry *entry);
/* Is a slot to be asked for? Where it needs one to hash at all, *only_with_slot. */
bool flagshm_record_wants_slot(const struct flagshm_flag_entry *r, const struct flagshm_table_entry *entry,
                               bool *only_with_slot);

#endif
