/* watch_read: the content of a file that others may be writing to, replacing or taking away at this moment. What stands
 * under the name may be anything: only a regular file is opened, so that no pipe or device ever feels us. */
#include "server/flagfile.h"
#include "server/watch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void stamp_from(struct flagshm_stamp *stamp, const struct stat *status)
{
    *stamp = (struct flagshm_stamp){.device = status->st_dev,
                                    .inode = status->st_ino,
                                    .bytes = status->st_size,
                                    .modified = status->st_mtim,
                                    .changed = status->st_ctim};
}

void flagshm_stamp_take(const char *path, struct flagshm_stamp *stamp)
{
    struct stat status;

    memset(stamp, 0, sizeof *stamp);
    if (stat(path, &status) == 0)
        stamp_from(stamp, &status);
}

bool flagshm_stamp_equal(const struct flagshm_stamp *a, const struct flagshm_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static int say_unreadable(const char *path, const char *end, int code, struct flagshm_error *error)
{
    bool is_elsewhere = strcmp(path, end) != 0;

    switch (code) {
    case ENOENT:
    case ENOTDIR:
        if (code == ENOTDIR)
            return flagshm_error_set(error, -code, "%s does not exist: %s is not a directory", path, end);
        if (!is_elsewhere)
            return flagshm_error_set(error, -code, "%s does not exist", path);
        return flagshm_error_set(error, -code, "%s does not exist: there is no %s", path, end);
    case EACCES:
    case EPERM:
        return flagshm_error_set(error, -code,
                                 "%s cannot be read by uid %u: %s: give it read permission, and search "
                                 "permission on each directory on the way (the way ends at %s)",
                                 path, (unsigned)geteuid(), strerror(code), end);
    case ELOOP:
        return flagshm_error_set(error, -code, "%s cannot be read: its symbolic links form a circle (at %s)",
                                 path, end);
    default:
        return flagshm_error_set(error, -code, "%s cannot be read: %s", path, strerror(code));
    }
}

static int say_kind(const char *path, mode_t mode, struct flagshm_error *error)
{
    const char *kind = S_ISDIR(mode)    ? "a directory"
                       : S_ISFIFO(mode) ? "a named pipe"
                       : S_ISSOCK(mode) ? "a socket"
                                        : "a device";

    return flagshm_error_set(error, S_ISDIR(mode) ? -EISDIR : -ENXIO,
                             "%s is %s, not a regular file: it is not read%s", path, kind,
                             S_ISDIR(mode) ? "; name the file in it" : "");
}

static int say_too_long(const char *path, struct flagshm_error *error)
{
    return flagshm_error_set(error, -EFBIG, "%s is longer than %u bytes: no more is read", path,
                             FLAGSHM_FILE_MAX);
}

/* Reads to the end, whatever size was announced. */
static int read_all(int fd, size_t expected, char **text, size_t *bytes)
{
    size_t capacity = expected + 2, used = 0; /* one to meet the end without growing, one for the NUL */
    char *buffer = malloc(capacity), *grown;

    while (buffer) {
        ssize_t got = read(fd, buffer + used, capacity - used - 1);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || (used += (size_t)got) > FLAGSHM_FILE_MAX) {
            int code = got < 0 ? errno : got > 0 ? EFBIG : 0;

            if (code) {
                free(buffer);
                return -code;
            }
            buffer[used] = '\0';
            *text = buffer;
            *bytes = used;
            return 0;
        }
        if (used == capacity - 1) {
            grown = realloc(buffer, capacity * 2);
            if (!grown)
                free(buffer);
            buffer = grown;
            capacity *= 2;
        }
    }
    return -ENOMEM;
}

/* The file behind fd, if it is whole: what the path leads to afterwards must be the same file, untouched. */
static int read_open(int fd, const char *path, const char *end, char **text, size_t *bytes,
                     struct flagshm_stamp *stamp, struct flagshm_error *error)
{
    struct flagshm_stamp named;
    struct stat status;
    int result;

    if (fstat(fd, &status) != 0)
        return say_unreadable(path, end, errno, error);
    if (!S_ISREG(status.st_mode))
        return say_kind(path, status.st_mode, error);
    stamp_from(stamp, &status);
    if (status.st_size > (off_t)FLAGSHM_FILE_MAX)
        return say_too_long(path, error);
    result = read_all(fd, (size_t)status.st_size, text, bytes);
    if (result)
        return result == -EFBIG ? say_too_long(path, error) : say_unreadable(path, end, -result, error);
    flagshm_stamp_take(path, &named);
    if (flagshm_stamp_equal(stamp, &named))
        return 0;
    free(*text);
    *text = NULL;
    return flagshm_error_set(error, -EAGAIN, "%s is being changed while it is read", path);
}

int flagshm_read_stable(const char *path, const char *end, char **text, size_t *bytes,
                        struct flagshm_stamp *stamp, struct flagshm_error *error)
{
    struct stat status;
    int fd, result;

    *text = NULL;
    memset(stamp, 0, sizeof *stamp);
    if (stat(path, &status) != 0)
        return say_unreadable(path, end, errno, error);
    stamp_from(stamp, &status);
    if (!S_ISREG(status.st_mode))
        return say_kind(path, status.st_mode, error);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return say_unreadable(path, end, errno, error);
    result = read_open(fd, path, end, text, bytes, stamp, error);
    (void)close(fd);
    return result;
}
