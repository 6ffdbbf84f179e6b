/* segment_adopt: is the table that stands under our name one that we can go on with? See segment_internal.h.
 *
 * Adopting makes a restart invisible to readers. But what is adopted is trusted from then on, so every gate must hold, the
 * served bank's hash included; on any doubt a new segment is built and the old one retired, which costs
 * readers one re-attach.
 */
#include "server/segment_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEQ_MAX (UINT64_C(1) << 61) /* no writer lives to count so far */

bool flagshm_segment_boot_id(uint8_t boot_id[16])
{
    char text[40];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text) : -1;
    unsigned nibbles = 0;
    ssize_t i;

    if (fd >= 0)
        (void)close(fd);
    memset(boot_id, 0, 16);
    for (i = 0; i < got && nibbles < 32; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;

        if (!digit)
            continue;
        boot_id[nibbles / 2] = (uint8_t)(boot_id[nibbles / 2] << 4 | (digit - digits));
        nibbles++;
    }
    return nibbles == 32;
}

struct flagshm_table flagshm_segment_served(const struct flagshm_segment *segment)
{
    uint64_t seq = __atomic_load_n(&segment->header->seq, __ATOMIC_RELAXED);
    struct flagshm_table served = {.bytes = (unsigned char *)segment->header +
                                            segment->geometry.bank_offset[seq & 1],
                                   .geometry = segment->geometry};
    const struct flagshm_bank *bank = (const struct flagshm_bank *)(const void *)served.bytes;

    served.flag_count = bank->flag_count;
    served.heap_used = bank->heap_used;
    served.content_hash = bank->content_hash;
    return served;
}

/* Ours to the letter: the strides that we write with, and nothing laid over anything else. */
static bool take_geometry(struct flagshm_geometry *g, const struct flagshm_header *h, uint64_t bytes)
{
    struct flagshm_map_ map; /* readers' own checks come first */

    if (flagshm_geometry_(&map, (const unsigned char *)h, bytes) != 0)
        return false;
    *g = (struct flagshm_geometry){.segment_bytes = h->segment_bytes,
                                   .bank_offset = {h->bank_offset[0], h->bank_offset[1]},
                                   .bank_bytes = h->bank_bytes,
                                   .index_offset = h->index_offset,
                                   .records_offset = h->records_offset,
                                   .heap_offset = h->heap_offset,
                                   .heap_bytes = h->heap_bytes,
                                   .index_slots = h->index_slots,
                                   .record_capacity = h->record_capacity};
    return h->layout_minor == FLAGSHM_LAYOUT_MINOR && h->header_bytes == FLAGSHM_HEADER_BYTES &&
           h->record_stride == sizeof(struct flagshm_flag_entry) &&
           h->arm_stride == sizeof(struct flagshm_arm_entry) && g->heap_bytes % 8 == 0 &&
           g->bank_offset[0] >= FLAGSHM_HEADER_BYTES &&
           g->bank_offset[1] >= g->bank_offset[0] + g->bank_bytes &&
           g->index_offset >= sizeof(struct flagshm_bank) &&
           g->records_offset >= g->index_offset + (uint64_t)g->index_slots * 8 &&
           g->heap_offset >=
               g->records_offset + (uint64_t)g->record_capacity * sizeof(struct flagshm_flag_entry);
}

static bool has_whole_bank(const struct flagshm_segment *segment)
{
    struct flagshm_table served = flagshm_segment_served(segment);

    return ((const struct flagshm_bank *)(const void *)served.bytes)->version != 0 &&
           served.flag_count <= served.geometry.record_capacity &&
           served.heap_used <= served.geometry.heap_bytes && served.heap_used % 8 == 0 &&
           flagshm_table_hash(&served) == served.content_hash;
}

/* Whether its switches mean something: it is a table of this boot, whatever else is wrong with it. */
static bool has_our_switches(const struct flagshm_header *h)
{
    uint8_t boot_id[16];

    return h->magic == FLAGSHM_TABLE_MAGIC && h->byte_order == FLAGSHM_BYTE_ORDER &&
           h->kind == FLAGSHM_KIND_TABLE && flagshm_segment_boot_id(boot_id) &&
           memcmp(boot_id, h->boot_id, sizeof boot_id) == 0;
}

static bool passes_gates(struct flagshm_segment *segment, const struct stat *object)
{
    const struct flagshm_header *h = segment->header;

    return has_our_switches(h) && (object->st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
           take_geometry(&segment->geometry, h, (uint64_t)object->st_size) &&
           (h->seq & FLAGSHM_SEQ_RETIRED) == 0 && (h->seq & ~FLAGSHM_SEQ_SWITCHES) < SEQ_MAX &&
           h->segment_id != 0 && has_whole_bank(segment);
}

int flagshm_segment_adopt(struct flagshm_segment *segment, struct flagshm_error *error)
{
    struct stat object;
    void *map;
    int fd = flagshm_segment_open_ours(segment, segment->path, O_RDWR, &object, error);

    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    if (object.st_size < (off_t)FLAGSHM_HEADER_BYTES || (uint64_t)object.st_size > SIZE_MAX / 2) {
        (void)close(fd);
        return 0;
    }
    map = mmap(NULL, (size_t)object.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        int code = flagshm_error_set(error, -errno, "%s: mapping %lld bytes: %s", segment->path,
                                     (long long)object.st_size, strerror(errno));
        (void)close(fd);
        return code;
    }
    segment->fd = fd;
    segment->header = map;
    segment->geometry.segment_bytes = (uint64_t)object.st_size;
    segment->device = (uint64_t)object.st_dev;
    segment->inode = (uint64_t)object.st_ino;
    segment->is_adopted = passes_gates(segment, &object);
    if (has_our_switches(segment->header))
        segment->is_all_control_ = (segment->header->seq & FLAGSHM_SEQ_ALL_CONTROL) != 0;
    if (!segment->is_adopted) {
        segment->geometry.segment_bytes = (uint64_t)object.st_size;
        flagshm_segment_unmap(segment);
    }
    return 0;
}
