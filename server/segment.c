/* segment: opening, heartbeat, switches, closing. See segment.h. */
#include "server/segment.h"

#include "server/flagfile.h"
#include "server/segment_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_DIR_MAX 200u /* bytes; clients take no more */

char *flagshm_segment_beside(const struct flagshm_segment *segment, const char *ending, char room[336])
{
    (void)snprintf(room, 336, "%s%s", segment->path, ending);
    return room;
}

void flagshm_segment_unmap(struct flagshm_segment *segment)
{
    if (segment->header)
        (void)munmap(segment->header, (size_t)segment->geometry.segment_bytes);
    if (segment->fd >= 0)
        (void)close(segment->fd);
    segment->header = NULL;
    segment->fd = -1;
    segment->device = 0;
    segment->inode = 0;
}

/* ---- opening ---- */

static int copy_option(char *out, size_t room, const char *text, const char *what,
                       struct flagshm_error *error)
{
    size_t bytes = text ? strlen(text) : 0;

    if (bytes >= room)
        return flagshm_error_set(error, -ENAMETOOLONG, "%s is %zu bytes long, at most %zu fit: %.80s...",
                                 what, bytes, room - 1, text);
    if (bytes)
        memcpy(out, text, bytes);
    out[bytes] = '\0';
    return 0;
}

static int take_options(struct flagshm_segment *segment, const struct flagshm_segment_options *options,
                        struct flagshm_error *error)
{
    struct flagshm_segment_options *o = &segment->options;
    const char *dir = options->dir && options->dir[0] ? options->dir : "/dev/shm";
    int code;

    if (!options->instance || !flagshm_is_instance_name(options->instance, strlen(options->instance)))
        return flagshm_error_set(error, -EINVAL,
                                 "\"%.64s\" is no instance name: [A-Za-z0-9][A-Za-z0-9_-]{0,31}",
                                 options->instance ? options->instance : "");
    if ((code = copy_option(segment->dir_, SEGMENT_DIR_MAX + 1, dir, "FLAGSHM_DIR", error)) ||
        (code = copy_option(segment->instance_, sizeof segment->instance_, options->instance, "the instance",
                            error)) ||
        (code = copy_option(segment->socket_path_, sizeof segment->socket_path_, options->socket_path,
                            "the socket's path", error)) ||
        (code = copy_option(segment->state_dir_, sizeof segment->state_dir_, options->state_dir,
                            "the state directory", error)) ||
        (code = copy_option(segment->file_path_, sizeof segment->file_path_, options->file_path,
                            "the flag file's path", error)))
        return code;
    *o = *options;
    o->dir = segment->dir_;
    o->instance = segment->instance_;
    o->socket_path = segment->socket_path_;
    o->state_dir = segment->state_dir_;
    o->file_path = segment->file_path_;
    o->mode = options->mode ? options->mode : 0644;
    o->period_ns = options->period_ns ? options->period_ns : UINT64_C(1000000000);
    o->stale_after_ns = options->stale_after_ns ? options->stale_after_ns : UINT64_C(10000000000);
    o->lock_wait_ms = options->lock_wait_ms < 0 ? 2000 : options->lock_wait_ms;
    if ((o->mode & ~0644u) != 0 || (o->mode & 0600) != 0600)
        return flagshm_error_set(
            error, -EINVAL,
            "table mode %04o: only 0600, 0640, 0604 and 0644 are allowed: clients refuse "
            "a table that others than its owner can write",
            (unsigned)o->mode);
    (void)snprintf(segment->path, sizeof segment->path, "%s/flagshm.%s.table", segment->dir_,
                   segment->instance_);
    (void)snprintf(segment->lock_path, sizeof segment->lock_path, "%s.lock", segment->path);
    return 0;
}

/* Shared words that tools read while we write them. */
static void store_path(char *shared, size_t room, const char *path)
{
    char whole[2048] = {0};
    size_t i;

    if (strlen(path) < room)
        memcpy(whole, path, strlen(path));
    for (i = 0; i < room; i += 8) {
        uint64_t word;

        memcpy(&word, whole + i, 8);
        __atomic_store_n((flagshm_u64_ *)(void *)(shared + i), word, FLAGSHM_DATA_STORE_);
    }
}

/* Makes an adopted segment say what our options say. */
static int mark_adopted(struct flagshm_segment *segment, struct flagshm_error *error)
{
    const struct flagshm_segment_options *o = &segment->options;
    struct flagshm_header *h = segment->header;
    struct stat object;

    if (o->group != (gid_t)-1 && fstat(segment->fd, &object) == 0 && object.st_gid != o->group &&
        fchown(segment->fd, (uid_t)-1, o->group) != 0)
        return flagshm_error_set(error, -errno, "%s: giving it to group %u: %s", segment->path,
                                 (unsigned)o->group, strerror(errno));
    if (fchmod(segment->fd, o->mode) != 0)
        return flagshm_error_set(error, -errno, "%s: mode %o: %s", segment->path, (unsigned)o->mode,
                                 strerror(errno));
    __atomic_store_n(&h->period_ns, o->period_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&h->stale_after_ns, o->stale_after_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&h->pid, (uint32_t)getpid(), __ATOMIC_RELAXED);
    store_path(h->socket_path, sizeof h->socket_path, segment->socket_path_);
    store_path(h->state_dir, sizeof h->state_dir, segment->state_dir_);
    store_path(h->file_path, sizeof h->file_path, segment->file_path_);
    return 0;
}

/* For a tool that root runs, the table's owner counts as us. */
static int find_owner(struct flagshm_segment *segment)
{
    struct stat object;

    if (lstat(segment->path, &object) != 0)
        return -ENOENT;
    if (geteuid() == 0 && S_ISREG(object.st_mode))
        segment->owner_ = object.st_uid;
    return 0;
}

int flagshm_segment_open(struct flagshm_segment *segment, const struct flagshm_segment_options *options,
                         struct flagshm_error *error)
{
    int code;

    memset(segment, 0, sizeof *segment);
    segment->lock_fd = -1;
    segment->fd = -1;
    segment->owner_ = geteuid();
    code = take_options(segment, options, error);
    if (code == 0 && options->is_tool && find_owner(segment) != 0)
        return 0;
    if (code == 0)
        code = flagshm_segment_check_name(segment, segment->path, error);
    if (code == 0)
        code = flagshm_segment_lock(segment, error);
    if (code == 0)
        code = flagshm_segment_finish(segment, error);
    if (code == 0)
        code = flagshm_segment_adopt(segment, error);
    if (code == 0 && segment->header && !options->is_tool)
        code = mark_adopted(segment, error);
    if (code != 0)
        flagshm_segment_close(segment);
    return code;
}

void flagshm_segment_close(struct flagshm_segment *segment)
{
    flagshm_segment_unmap(segment);
    if (segment->lock_fd >= 0)
        (void)close(segment->lock_fd);
    segment->lock_fd = -1;
}

/* ---- switches and heartbeat ---- */

bool flagshm_segment_is_all_control(const struct flagshm_segment *segment)
{
    if (!segment->header)
        return segment->is_all_control_;
    return (__atomic_load_n(&segment->header->seq, __ATOMIC_RELAXED) & FLAGSHM_SEQ_ALL_CONTROL) != 0;
}

void flagshm_segment_set_all_control(struct flagshm_segment *segment, bool all_control)
{
    segment->is_all_control_ = all_control;
    if (segment->header && flagshm_segment_is_all_control(segment) != all_control)
        (void)flagshm_segment_switch(segment->header, FLAGSHM_SEQ_ALL_CONTROL, all_control);
}

bool flagshm_segment_heartbeat(struct flagshm_segment *segment)
{
    struct stat named;

    if (!segment->header)
        return true;
    __atomic_store_n(&segment->header->heartbeat_mono_ns, flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_),
                     __ATOMIC_RELAXED);
    return !segment->is_forgotten_ && lstat(segment->path, &named) == 0 &&
           (uint64_t)named.st_dev == segment->device && (uint64_t)named.st_ino == segment->inode;
}

void flagshm_segment_forget(struct flagshm_segment *segment)
{
    segment->is_forgotten_ = segment->header != NULL;
}

/* ---- what is served ---- */

static const struct flagshm_bank *served_bank(const struct flagshm_segment *segment)
{
    return (const struct flagshm_bank *)(const void *)flagshm_segment_served(segment).bytes;
}

uint64_t flagshm_segment_version(const struct flagshm_segment *segment)
{
    return segment->header ? served_bank(segment)->version : 0;
}

uint64_t flagshm_segment_file_rev(const struct flagshm_segment *segment)
{
    return segment->header ? served_bank(segment)->file_rev : 0;
}

uint64_t flagshm_segment_content_hash(const struct flagshm_segment *segment)
{
    return segment->header && !segment->is_forgotten_ ? served_bank(segment)->content_hash : 0;
}
