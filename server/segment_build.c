/* segment_build: publishing a table, in the segment in use or in a new one that replaces it. See segment.h.
 *
 * The argument that no reader ever accepts a mix stands with the layout in client/flagshm.h; W1, W2 and W3 are
 * kept in flagshm_segment_flip and nowhere else.
 *
 * A replacement takes these steps, and a writer may die after each: PATH.new is built whole; the served object gets a second
 * name, PATH.old; PATH.new is renamed to PATH; the old object is marked RETIRED; PATH.old is removed. Who comes
 * next finds by the names alone how far it got, and goes on from there.
 */
#include "server/clock.h"
#include "server/segment_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

void flagshm_segment_wake(struct flagshm_header *header)
{
    (void)__atomic_fetch_add(&header->wake, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &header->wake, FLAGSHM_FUTEX_WAKE_, INT_MAX, NULL, NULL, 0);
}

uint64_t flagshm_segment_switch(struct flagshm_header *header, uint64_t bit, bool on)
{
    uint64_t before = on ? __atomic_fetch_or(&header->seq, bit, __ATOMIC_RELEASE)
                         : __atomic_fetch_and(&header->seq, ~bit, __ATOMIC_RELEASE);

    flagshm_segment_wake(header);
    return before;
}

/* ---- publishing ---- */

static void store_words(unsigned char *shared, const unsigned char *bytes, uint64_t count)
{
    uint64_t i;

    for (i = 0; i < count; i += 8) {
        uint64_t word;

        memcpy(&word, bytes + i, 8);
        __atomic_store_n((flagshm_u64_ *)(void *)(shared + i), word, FLAGSHM_DATA_STORE_);
    }
}

void flagshm_segment_flip(struct flagshm_segment *segment, struct flagshm_table *table, uint64_t version,
                          uint64_t file_rev)
{
    const struct flagshm_geometry *g = &segment->geometry;
    struct flagshm_header *header = segment->header;
    struct flagshm_bank *bank = (struct flagshm_bank *)(void *)table->bytes;
    uint64_t seq = __atomic_load_n(&header->seq, __ATOMIC_RELAXED);
    unsigned char *free_bank = (unsigned char *)header + g->bank_offset[(seq & 1) ^ 1]; /* W1 */

    bank->version = version;
    bank->file_rev = file_rev;
    bank->published_realtime_ns = flagshm_realtime_ns();
    bank->published_mono_ns = flagshm_mono_ns();
#if !defined(__SANITIZE_THREAD__)
    if (FLAGSHM_DATA_STORE_ == __ATOMIC_RELAXED)
        __atomic_thread_fence(__ATOMIC_RELEASE); /* W2, pairs with R3; else each store releases by itself */
#endif
    store_words(free_bank, table->bytes, g->records_offset);
    store_words(free_bank + g->records_offset, table->bytes + g->records_offset,
                (uint64_t)table->flag_count * sizeof(struct flagshm_flag_entry));
    store_words(free_bank + g->heap_offset, table->bytes + g->heap_offset, table->heap_used);
    (void)__atomic_fetch_add(&header->seq, 1, __ATOMIC_RELEASE); /* W3, pairs with R1 */
    flagshm_segment_wake(header);
}

/* ---- replacing ---- */

/* Marks the object RETIRED, whatever its layout is: the prefix and the publish line are frozen. Returns the switches that it
 * had; an object that is none of ours is left alone. */
static uint64_t retire_object(int fd, const struct stat *object)
{
    struct flagshm_header *header;
    uint64_t before = 0;

    if (object->st_size < (off_t)FLAGSHM_HEADER_BYTES)
        return 0;
    header = mmap(NULL, FLAGSHM_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED)
        return 0;
    if (header->magic == FLAGSHM_TABLE_MAGIC && header->byte_order == FLAGSHM_BYTE_ORDER &&
        header->kind == FLAGSHM_KIND_TABLE)
        before = flagshm_segment_switch(header, FLAGSHM_SEQ_RETIRED, true);
    (void)munmap(header, FLAGSHM_HEADER_BYTES);
    return before & FLAGSHM_SEQ_SWITCHES;
}

static int remove_beside(const char *path, struct flagshm_error *error)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return flagshm_error_set(error, -errno, "%s: left by a writer that died, cannot be removed: %s", path,
                                 strerror(errno));
    return 0;
}

int flagshm_segment_finish(const struct flagshm_segment *segment, struct flagshm_error *error)
{
    char old[336], fresh[336];
    struct stat object, named;
    int fd, code;

    flagshm_segment_beside(segment, ".old", old);
    flagshm_segment_beside(segment, ".new", fresh);
    fd = flagshm_segment_open_ours(segment, old, O_RDWR, &object, error);
    if (fd < 0 && fd != -ENOENT)
        return fd;
    if (fd >= 0) {
        if (lstat(segment->path, &named) != 0 || named.st_ino != object.st_ino ||
            named.st_dev != object.st_dev)
            (void)retire_object(fd, &object); /* it died between the rename and RETIRED */
        (void)close(fd);
        code = remove_beside(old, error);
        if (code != 0)
            return code;
    }
    code = flagshm_segment_check_name(segment, fresh, error);
    return code != 0 ? code : remove_beside(fresh, error);
}

static int allocate(const char *path, int fd, uint64_t bytes, struct flagshm_error *error)
{
    struct statvfs room;
    int code, tries = 0;

    do
        code = posix_fallocate(fd, 0, (off_t)bytes);
    while (code == EINTR && ++tries < 100);
    if (code == 0)
        return 0;
    if (code == ENOSPC && fstatvfs(fd, &room) == 0)
        return flagshm_error_set(
            error, -ENOSPC,
            "%s: no space: the table needs %llu KiB and its file system has %llu KiB free; free some, or "
            "enlarge it (mount -o remount,size=...), or set FLAGSHM_DIR; the old table stays in use",
            path, (unsigned long long)(bytes / 1024),
            (unsigned long long)((uint64_t)room.f_bavail * room.f_frsize / 1024));
    return flagshm_error_set(error, -code, "%s: allocating %llu KiB: %s", path,
                             (unsigned long long)(bytes / 1024), strerror(code));
}

uint64_t flagshm_segment_new_id(void)
{
    uint64_t id = 0;

    while (id == 0)
        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
            id = flagshm_realtime_ns() ^ (uint64_t)getpid() << 48;
    return id;
}

static void copy_path(char *out, size_t room, const char *path)
{
    if (strlen(path) < room)
        memcpy(out, path, strlen(path) + 1);
}

static void fill_header(const struct flagshm_segment *segment, struct flagshm_header *h,
                        const struct flagshm_geometry *g)
{
    h->magic = FLAGSHM_TABLE_MAGIC;
    h->byte_order = FLAGSHM_BYTE_ORDER;
    h->layout_major = FLAGSHM_LAYOUT_MAJOR;
    h->layout_minor = FLAGSHM_LAYOUT_MINOR;
    h->header_bytes = FLAGSHM_HEADER_BYTES;
    h->kind = FLAGSHM_KIND_TABLE;
    h->segment_bytes = g->segment_bytes;
    h->segment_id = flagshm_segment_new_id();
    (void)flagshm_segment_boot_id(h->boot_id);
    h->created_realtime_ns = flagshm_realtime_ns();
    h->seq = flagshm_segment_is_all_control(segment) ? FLAGSHM_SEQ_ALL_CONTROL : 0;
    h->heartbeat_mono_ns = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_);
    h->period_ns = segment->options.period_ns;
    h->stale_after_ns = segment->options.stale_after_ns;
    h->outcomes_id = segment->header ? segment->header->outcomes_id : 0;
    h->window_4h = segment->header ? segment->header->window_4h : 0;
    h->window_1h = segment->header ? segment->header->window_1h : 0;
    h->pid = (uint32_t)getpid();
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
    copy_path(h->socket_path, sizeof h->socket_path, segment->socket_path_);
    copy_path(h->state_dir, sizeof h->state_dir, segment->state_dir_);
    copy_path(h->file_path, sizeof h->file_path, segment->file_path_);
}

/* Makes PATH.new with room for the geometry, all of it really there, and maps it into `fresh`. */
static int build_object(const struct flagshm_segment *segment, struct flagshm_segment *fresh,
                        const struct flagshm_geometry *g, const char *path, struct flagshm_error *error)
{
    struct stat object;
    void *map;
    int code;

    fresh->geometry = *g;
    fresh->header = NULL;
    fresh->fd = flagshm_segment_open_ours(segment, path, O_RDWR | O_CREAT | O_EXCL, &object, error);
    if (fresh->fd < 0)
        return fresh->fd;
    code = allocate(path, fresh->fd, g->segment_bytes, error);
    if (code != 0)
        return code;
    map = mmap(NULL, (size_t)g->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fresh->fd, 0);
    if (map == MAP_FAILED)
        return flagshm_error_set(error, -errno, "%s: mapping %llu bytes: %s", path,
                                 (unsigned long long)g->segment_bytes, strerror(errno));
    fresh->header = map;
    fresh->device = (uint64_t)object.st_dev;
    fresh->inode = (uint64_t)object.st_ino;
    fill_header(segment, fresh->header, g);
    if (segment->options.group != (gid_t)-1 && fchown(fresh->fd, (uid_t)-1, segment->options.group) != 0)
        return flagshm_error_set(error, -errno, "%s: giving it to group %u: %s", path,
                                 (unsigned)segment->options.group, strerror(errno));
    if (fchmod(fresh->fd, segment->options.mode) != 0) /* umask has no say */
        return flagshm_error_set(error, -errno, "%s: mode %o: %s", path, (unsigned)segment->options.mode,
                                 strerror(errno));
    return 0;
}

/* Renames the new object in. From here on readers find it; whom the old one still holds is told last. */
static int replace_object(struct flagshm_segment *segment, struct flagshm_segment *fresh, const char *path,
                          struct flagshm_error *error)
{
    char old[336];
    uint64_t switches;
    int code = flagshm_segment_check_name(segment, segment->path, error);

    if (code != 0)
        return code;
    flagshm_segment_beside(segment, ".old", old);
    /* Some file systems know no second names: then only a death between the next two steps costs readers more, until
     * they look at the stopped heartbeat. */
    (void)(link(segment->path, old) == 0);
    if (rename(path, segment->path) != 0)
        return flagshm_error_set(error, -errno, "%s: renaming it to %s: %s", path, segment->path,
                                 strerror(errno));
    if (segment->header) {
        switches = flagshm_segment_switch(segment->header, FLAGSHM_SEQ_RETIRED, true);
        if ((switches & FLAGSHM_SEQ_ALL_CONTROL) != 0) /* set by a tool while we were building */
            (void)flagshm_segment_switch(fresh->header, FLAGSHM_SEQ_ALL_CONTROL, true);
    }
    return 0;
}

static int publish_new(struct flagshm_segment *segment, struct flagshm_table *table, uint64_t version,
                       uint64_t file_rev, struct flagshm_error *error)
{
    struct flagshm_segment fresh = {.fd = -1};
    char path[336];
    int code = flagshm_segment_finish(segment, error); /* of an earlier try of ours */

    if (code != 0)
        return code;
    flagshm_segment_beside(segment, ".new", path);
    code = build_object(segment, &fresh, &table->geometry, path, error);
    if (code == 0) {
        flagshm_segment_flip(&fresh, table, version, file_rev);
        code = replace_object(segment, &fresh, path, error);
    }
    if (code != 0) {
        if (fresh.fd >= 0)
            (void)unlink(path);
        flagshm_segment_unmap(&fresh);
        return code;
    }
    flagshm_segment_unmap(segment);
    segment->header = fresh.header;
    segment->geometry = fresh.geometry;
    segment->fd = fresh.fd;
    segment->device = fresh.device;
    segment->inode = fresh.inode;
    segment->is_adopted = false;
    segment->is_forgotten_ = false;
    (void)flagshm_segment_finish(segment, NULL); /* retires one that was not adopted, removes PATH.old */
    return 0;
}

int flagshm_segment_publish(struct flagshm_segment *segment, struct flagshm_table *table, uint64_t version,
                            uint64_t file_rev, struct flagshm_error *error)
{
    struct flagshm_table served;

    if (version <= flagshm_segment_version(segment))
        return flagshm_error_set(error, -EINVAL, "%s: version %llu is not above the served %llu",
                                 segment->path, (unsigned long long)version,
                                 (unsigned long long)flagshm_segment_version(segment));
    if (segment->header)
        served = flagshm_segment_served(segment);
    flagshm_table_carry_versions(table, segment->header ? &served : NULL, version);
    if (segment->header && !segment->is_forgotten_ &&
        memcmp(&table->geometry, &segment->geometry, sizeof table->geometry) == 0) {
        flagshm_segment_flip(segment, table, version, file_rev);
        return 0;
    }
    return publish_new(segment, table, version, file_rev, error);
}
