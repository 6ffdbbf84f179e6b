/* segment_lock: the writer's lock, and whose an object is. See segment_internal.h.
 *
 * An open-file-description lock: the kernel frees it however the writer ends, in every pid namespace. The file is never
 * removed (else two writers could hold locks on two files of one name), and nobody else can read it: who can open a lock
 * file can lock it and block us. /dev/shm is for everyone to write, so whatever has our name may be a
 * stranger's; nothing is followed, opened for long or changed before its owner is known.
 */
#include "server/segment_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_POLL_NS 20000000 /* between two tries for the lock */

static int refuse(const struct flagshm_segment *segment, const char *path, const struct stat *object,
                  struct flagshm_error *error)
{
    if (!S_ISREG(object->st_mode))
        return flagshm_error_set(error, -EPERM, "%s: is %s, not a regular file of ours; remove it: rm %s",
                                 path, S_ISLNK(object->st_mode) ? "a symbolic link" : "something else", path);
    if (object->st_uid != segment->owner_)
        return flagshm_error_set(
            error, -EPERM,
            "%s: belongs to uid %u, and we run as uid %u; run as that user, or remove it as root (rm %s), or "
            "choose another instance or directory",
            path, (unsigned)object->st_uid, (unsigned)segment->owner_, path);
    return 0;
}

int flagshm_segment_check_name(const struct flagshm_segment *segment, const char *path,
                               struct flagshm_error *error)
{
    struct stat object;

    if (lstat(path, &object) != 0)
        return errno == ENOENT ? 0 : flagshm_error_set(error, -errno, "%s: %s", path, strerror(errno));
    return refuse(segment, path, &object, error);
}

int flagshm_segment_open_ours(const struct flagshm_segment *segment, const char *path, int flags,
                              struct stat *object, struct flagshm_error *error)
{
    int fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600), code;

    if (fd < 0) {
        code = -errno;
        if (code == -ENOENT && (flags & O_CREAT) == 0)
            return code; /* nothing wrong as such: no sentence */
        if (code != -EEXIST && lstat(path, object) == 0 && refuse(segment, path, object, error) != 0)
            return -EPERM; /* says more than ELOOP, ENXIO, EACCES do */
        return flagshm_error_set(error, code, "%s: %s", path, strerror(-code));
    }
    code = fstat(fd, object) != 0 ? flagshm_error_set(error, -errno, "%s: %s", path, strerror(errno))
                                  : refuse(segment, path, object, error);
    if (code != 0) {
        (void)close(fd);
        return code;
    }
    return fd;
}

/* Opens the lock file or makes it. Never both at once: with fs.protected_regular an O_CREAT on a stranger's file in
 * /dev/shm fails with EACCES, which says nothing. */
static int lock_file(const struct flagshm_segment *segment, struct stat *object, struct flagshm_error *error)
{
    int tries, fd = -ENOENT;

    for (tries = 0; tries < 8; tries++) {
        fd = flagshm_segment_open_ours(segment, segment->lock_path, O_RDWR, object, error);
        if (fd != -ENOENT)
            return fd;
        fd = open(segment->lock_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
            if (segment->owner_ != geteuid()) /* where this fails, the next look at the file says so */
                (void)!fchown(fd, segment->owner_, (gid_t)-1);
            (void)close(fd);
        } else if (errno != EEXIST) {
            return flagshm_error_set(
                error, -errno,
                "%s: cannot be created: %s; does the directory exist, and may uid %u write to it?",
                segment->lock_path, strerror(errno), (unsigned)geteuid());
        }
    }
    return flagshm_error_set(error, -EAGAIN, "%s: is created and removed by someone all the time",
                             segment->lock_path);
}

static int64_t mono_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Tries until the lock is held or the time is over. */
static int lock_wait(int fd, int wait_ms)
{
    const struct timespec nap = {0, LOCK_POLL_NS};
    int64_t end = mono_ms() + wait_ms;

    for (;;) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
            return 0;
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return -errno;
        if (mono_ms() >= end)
            return -EBUSY;
        (void)nanosleep(&nap, NULL);
    }
}

int flagshm_segment_lock(struct flagshm_segment *segment, struct flagshm_error *error)
{
    struct stat object, named;
    int fd, code, tries;

    for (tries = 0; tries < 8; tries++) {
        fd = lock_file(segment, &object, error);
        if (fd < 0)
            return fd;
        code = lock_wait(fd, segment->options.lock_wait_ms);
        if (code == -EBUSY)
            (void)flagshm_error_set(error, code,
                                    "%s: another writer holds the lock; instance \"%s\" has its server "
                                    "already: stop that one, or choose another --instance",
                                    segment->lock_path, segment->instance_);
        else if (code != 0)
            (void)flagshm_error_set(error, code, "%s: %s", segment->lock_path, strerror(-code));
        if (code != 0) {
            (void)close(fd);
            return code;
        }
        if (lstat(segment->lock_path, &named) == 0 && named.st_ino == object.st_ino &&
            named.st_dev == object.st_dev) {
            (void)fchmod(fd, 0600);
            segment->lock_fd = fd;
            return 0;
        }
        (void)close(fd); /* removed by hand while we waited: that lock keeps nobody out */
    }
    return flagshm_error_set(error, -EAGAIN, "%s: is removed by someone all the time", segment->lock_path);
}

int flagshm_segment_keep_lock(struct flagshm_segment *segment, struct flagshm_error *error)
{
    int held_fd = segment->lock_fd, wait_ms = segment->options.lock_wait_ms, code;
    struct stat named, held;

    if (lstat(segment->lock_path, &named) == 0 && fstat(held_fd, &held) == 0 && named.st_ino == held.st_ino &&
        named.st_dev == held.st_dev)
        return 0;
    segment->options.lock_wait_ms = 0;
    code = flagshm_segment_lock(segment, error);
    segment->options.lock_wait_ms = wait_ms;
    if (code != 0)
        return code;
    (void)close(held_fd);
    return 1;
}
