/* replace_file: see the header. */
#include "server/replace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t part = write(fd, text, bytes);

        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            return part < 0 ? -errno : -EIO;
        text += part;
        bytes -= (size_t)part;
    }
    return 0;
}

/* What a crash left of an earlier try is written over. */
static int write_new(const char *path, const char *text, size_t bytes, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode), result;

    if (fd < 0)
        return -errno;
    result = fchmod(fd, mode) == 0 ? write_all(fd, text, bytes) : -errno;
    if (result == 0 && fsync(fd) != 0)
        result = -errno;
    if (close(fd) != 0 && result == 0)
        result = -errno;
    return result;
}

static int sync_directory_of(const char *path)
{
    char directory[PATH_MAX];
    char *slash;
    int fd, result;

    (void)snprintf(directory, sizeof directory, "%s", path);
    slash = strrchr(directory, '/');
    if (slash == NULL)
        (void)snprintf(directory, sizeof directory, ".");
    else
        slash[slash == directory ? 1 : 0] = '\0';
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    result = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return result;
}

int flagshm_replace_file(const char *path, const char *text, size_t bytes, mode_t mode,
                         struct flagshm_error *error)
{
    char fresh[PATH_MAX];
    int result;

    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
        return flagshm_error_set(error, -ENAMETOOLONG, "the path of a file to be written is too long");
    result = write_new(fresh, text, bytes, mode);
    if (result == 0 && rename(fresh, path) != 0)
        result = -errno;
    if (result != 0) {
        (void)unlink(fresh);
        return flagshm_error_set(error, result, "%s cannot be written: %s", path, strerror(-result));
    }
    result = sync_directory_of(path);
    if (result != 0)
        return flagshm_error_set(error, result, "the directory of %s cannot be written to the disk: %s", path,
                                 strerror(-result));
    return 0;
}
