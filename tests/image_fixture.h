/* image_fixture: a table segment in plain memory, and a handle that reads it as if it were attached. No files, no shared
 * memory: the sanitizers see every byte beyond the image. */
#ifndef FLAGSHM_TESTS_IMAGE_FIXTURE_H
#define FLAGSHM_TESTS_IMAGE_FIXTURE_H

#include "client/flagshm.h"
#include "server/table.h"

#include <stdlib.h>

/* The whole segment around one bank, as a server would publish it first; malloc'ed, *bytes long. NULL: no memory. */
__attribute__((unused)) static unsigned char *image_make(const struct flagshm_table *table, uint64_t version,
                                                         size_t *bytes)
{
    const struct flagshm_geometry *g = &table->geometry;
    unsigned char *image = calloc(1, g->segment_bytes);
    struct flagshm_header *h = (struct flagshm_header *)(void *)image;

    if (!image)
        return NULL;
    h->magic = FLAGSHM_TABLE_MAGIC;
    h->byte_order = FLAGSHM_BYTE_ORDER;
    h->layout_major = FLAGSHM_LAYOUT_MAJOR;
    h->header_bytes = FLAGSHM_HEADER_BYTES;
    h->kind = FLAGSHM_KIND_TABLE;
    h->segment_bytes = g->segment_bytes;
    h->segment_id = UINT64_C(0x1234567890abcdef);
    h->heartbeat_mono_ns = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_);
    h->period_ns = UINT64_C(1000000000);
    h->stale_after_ns = UINT64_C(3600000000000);
    h->bank_offset[0] = g->bank_offset[0];
    h->bank_offset[1] = g->bank_offset[1];
    h->bank_bytes = g->bank_bytes;
    h->index_offset = g->index_offset;
    h->records_offset = g->records_offset;
    h->heap_offset = g->heap_offset;
    h->heap_bytes = g->heap_bytes;
    h->index_slots = g->index_slots;
    h->record_stride = sizeof(struct flagshm_flag_entry);
    h->record_capacity = g->record_capacity;
    h->arm_stride = sizeof(struct flagshm_arm_entry);
    memcpy(image + g->bank_offset[0], table->bytes, (size_t)g->bank_bytes);
    ((struct flagshm_bank *)(void *)(image + g->bank_offset[0]))->version = version;
    *bytes = (size_t)g->segment_bytes;
    return image;
}

/* Makes `fs` read the image. 0 or what attaching would have answered. The handle owns nothing: never close it. */
__attribute__((unused)) static int image_attach(struct flagshm *fs, struct flagshm_map_ *map,
                                                const unsigned char *image, size_t bytes)
{
    int error;

    memset(fs, 0, sizeof *fs); /* without a path it never looks for a newer segment */
    memset(map, 0, sizeof *map);
    if (bytes < FLAGSHM_HEADER_BYTES)
        return -EBADMSG;
    error = flagshm_geometry_(map, image, bytes);
    if (error == 0) {
        map->attachments = 1;
        fs->map_ = map;
    }
    return error;
}

#endif
