/* outcomes: see the header. Here: the object and the doorbell; outcomes_slot.c has the slots. */
#include "server/outcomes.h"
#include "server/clock.h"
#include "server/outcomes_guard.h"
#include "server/segment_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE 0660

/* ---- the object ---- */

/* 0 where it is a file of ours that others cannot write. */
static int check_object(const char *path, const struct stat *object, struct flagshm_error *error)
{
    if (!S_ISREG(object->st_mode))
        return flagshm_error_set(error, -EPERM, "%s: is not a regular file; remove it: rm %s", path, path);
    if (object->st_uid != geteuid())
        return flagshm_error_set(error, -EPERM,
                                 "%s: belongs to uid %u, and we run as uid %u; remove it as root: rm %s",
                                 path, (unsigned)object->st_uid, (unsigned)geteuid(), path);
    return 0;
}

static int map(struct flagshm_outcomes_file *file, int fd, const struct stat *object,
               struct flagshm_error *error)
{
    void *memory = mmap(NULL, (size_t)FLAGSHM_OUTCOMES_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        return flagshm_error_set(error, -errno, "%s: cannot be mapped: %s", file->path, strerror(errno));
    file->is_torn_ = flagshm_outcomes_guard(memory, (size_t)FLAGSHM_OUTCOMES_BYTES);
    if (file->is_torn_ == NULL) {
        (void)munmap(memory, (size_t)FLAGSHM_OUTCOMES_BYTES);
        return flagshm_error_set(error, -EBUSY, "%s: too many segments are guarded", file->path);
    }
    file->segment = memory;
    file->fd = fd;
    file->device = (uint64_t)object->st_dev;
    file->inode = (uint64_t)object->st_ino;
    return 0;
}

/* Does what we mapped carry what an adoption asks for? */
static bool passes_gates(const struct flagshm_outcomes_file *file, uint64_t wanted)
{
    const struct flagshm_outcomes *s = file->segment;
    uint8_t boot_id[16], theirs[16];
    size_t i;

    for (i = 0; i < sizeof theirs; i++)
        theirs[i] = __atomic_load_n(&s->boot_id[i], __ATOMIC_RELAXED);
    return flagshm_load64_(&s->magic) == FLAGSHM_OUTCOMES_MAGIC &&
           flagshm_load32_(&s->byte_order) == FLAGSHM_BYTE_ORDER &&
           flagshm_load32_(&s->kind) == FLAGSHM_KIND_OUTCOMES &&
           flagshm_load64_(&s->segment_bytes) == FLAGSHM_OUTCOMES_BYTES &&
           flagshm_load64_(&s->segment_id) == wanted && flagshm_segment_boot_id(boot_id) &&
           memcmp(boot_id, theirs, sizeof boot_id) == 0 && *file->is_torn_ == 0;
}

static int adopt(struct flagshm_outcomes_file *file, uint64_t wanted, struct flagshm_error *error)
{
    struct stat object;
    int fd = open(file->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), result;

    if (fd < 0)
        return -errno;
    result = fstat(fd, &object) != 0 ? -errno : check_object(file->path, &object, error);
    if (result == 0 &&
        ((uint64_t)object.st_size != FLAGSHM_OUTCOMES_BYTES || (object.st_mode & S_IWOTH) != 0))
        result = -EPROTO; /* others may hold it open: another one is built */
    if (result == 0)
        result = map(file, fd, &object, error);
    if (result != 0) {
        (void)close(fd);
        return result;
    }
    if (!passes_gates(file, wanted)) {
        flagshm_outcomes_close(file);
        return -EPROTO;
    }
    flagshm_outcomes_keep_mode(file);
    file->id = wanted;
    file->is_adopted = true;
    return 0;
}

static void fill_header(struct flagshm_outcomes *s, uint64_t id)
{
    s->magic = FLAGSHM_OUTCOMES_MAGIC;
    s->byte_order = FLAGSHM_BYTE_ORDER;
    s->layout_major = FLAGSHM_LAYOUT_MAJOR;
    s->layout_minor = FLAGSHM_LAYOUT_MINOR;
    s->header_bytes = sizeof *s;
    s->kind = FLAGSHM_KIND_OUTCOMES;
    s->segment_bytes = FLAGSHM_OUTCOMES_BYTES;
    s->segment_id = id;
    (void)flagshm_segment_boot_id(s->boot_id);
    s->created_realtime_ns = flagshm_realtime_ns();
}

/* Makes the file under a temporary name, with its first page really there, and renames it in: clients that hold the old one find
 * by the id in the table that it is another one. */
static int build(struct flagshm_outcomes_file *file, struct flagshm_error *error)
{
    char path[340];
    struct stat object;
    uint64_t id = 0;
    int fd, result;

    if (lstat(file->path, &object) == 0 && (result = check_object(file->path, &object, error)) != 0)
        return result;
    (void)snprintf(path, sizeof path, "%s.new", file->path);
    (void)unlink(path); /* of a predecessor that died here */
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST
                   ? flagshm_error_set(error, -EPERM,
                                       "%s: belongs to somebody else; remove it as root: rm %s", path, path)
                   : flagshm_error_set(error, -errno, "%s: cannot be made: %s", path, strerror(errno));
    result = ftruncate(fd, (off_t)FLAGSHM_OUTCOMES_BYTES) != 0
                 ? -errno
                 : -posix_fallocate(fd, 0, sizeof *file->segment);
    if (result == 0 && file->group != (gid_t)-1 && fchown(fd, (uid_t)-1, file->group) != 0)
        result = -errno;
    if (result == 0 && (fchmod(fd, MODE) != 0 || fstat(fd, &object) != 0)) /* umask has no say */
        result = -errno;
    if (result != 0) {
        flagshm_error_set(error, result, "%s: %s", path,
                          result == -ENOSPC ? "no room for the outcome segment" : strerror(-result));
    } else {
        id = flagshm_segment_new_id();
        result = map(file, fd, &object, error);
    }
    if (result == 0) {
        fill_header(file->segment, id);
        file->id = id;
        if (rename(path, file->path) == 0)
            return 0;
        result =
            flagshm_error_set(error, -errno, "%s: renaming it to %s: %s", path, file->path, strerror(errno));
        flagshm_outcomes_close(file);
    } else {
        (void)close(fd);
    }
    (void)unlink(path);
    return result;
}

static int make_directory(const char *path, gid_t group, struct flagshm_error *error)
{
    if (mkdir(path, 0755) == 0) {
        if (group != (gid_t)-1)
            (void)!chown(path, (uid_t)-1, group);
        (void)chmod(path, 0755);
    } else if (errno != EEXIST) {
        return flagshm_error_set(error, -errno, "%s: cannot be made: %s", path, strerror(errno));
    }
    return 0;
}

int flagshm_outcomes_open(struct flagshm_outcomes_file *file, const struct flagshm_outcomes_options *options,
                          uint64_t wanted, struct flagshm_error *error)
{
    const char *dir = options->dir != NULL ? options->dir : "/dev/shm";
    const char *below = options->dir != NULL ? "/outcomes" : "";
    char place[256];
    int result;

    *file = (struct flagshm_outcomes_file){.fd = -1, .group = options->group};
    if (snprintf(place, sizeof place, "%s%s", dir, below) >= (int)sizeof place)
        return flagshm_error_set(error, -ENAMETOOLONG, "%s: is too long a path", dir);
    (void)snprintf(file->path, sizeof file->path, "%s/flagshm.%s.outcomes", place, options->instance);
    if (options->dir != NULL && (result = make_directory(place, options->group, error)) != 0)
        return result;
    if (wanted != 0) {
        result = adopt(file, wanted, error);
        if (result == 0 || result == -EPERM)
            return result;
    }
    return build(file, error);
}

void flagshm_outcomes_keep_mode(const struct flagshm_outcomes_file *file)
{
    struct stat held;

    if (file->segment == NULL || fstat(file->fd, &held) != 0)
        return;
    if (file->group != (gid_t)-1 && held.st_gid != file->group)
        (void)!fchown(file->fd, (uid_t)-1, file->group);
    if ((held.st_mode & 07777) != MODE)
        (void)fchmod(file->fd, MODE);
}

void flagshm_outcomes_close(struct flagshm_outcomes_file *file)
{
    if (file->segment != NULL) {
        flagshm_outcomes_unguard(file->segment);
        (void)munmap(file->segment, (size_t)FLAGSHM_OUTCOMES_BYTES);
    }
    if (file->fd >= 0)
        (void)close(file->fd);
    file->segment = NULL;
    file->fd = -1;
    file->id = 0;
    file->is_adopted = false;
}

bool flagshm_outcomes_is_sound(const struct flagshm_outcomes_file *file)
{
    struct stat named, held;

    return file->segment != NULL && *file->is_torn_ == 0 && lstat(file->path, &named) == 0 &&
           fstat(file->fd, &held) == 0 && (uint64_t)held.st_size == FLAGSHM_OUTCOMES_BYTES &&
           (uint64_t)named.st_ino == file->inode && (uint64_t)named.st_dev == file->device &&
           flagshm_load64_(&file->segment->segment_id) == file->id;
}

/* ---- the doorbell ---- */

void flagshm_outcomes_arm(struct flagshm_outcomes_file *file)
{
    if (file->segment != NULL)
        __atomic_store_n(&file->segment->armed, 1, __ATOMIC_SEQ_CST);
}

bool flagshm_outcomes_take(struct flagshm_outcomes_file *file, uint64_t dirty[FLAGSHM_SLOTS / 64])
{
    uint64_t any = 0;
    size_t i;

    for (i = 0; i < FLAGSHM_SLOTS / 64; i++) {
        dirty[i] = 0;
        if (file->segment != NULL && __atomic_load_n(&file->segment->dirty[i], __ATOMIC_SEQ_CST) != 0)
            dirty[i] = __atomic_exchange_n(&file->segment->dirty[i], 0, __ATOMIC_ACQ_REL);
        any |= dirty[i];
    }
    return any != 0;
}

uint32_t *flagshm_outcomes_bell(struct flagshm_outcomes_file *file)
{
    return file->segment != NULL ? &file->segment->rung : NULL;
}
