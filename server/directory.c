/* directory: see the header. */
#include "server/directory.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

static int make_one(const char *path, mode_t mode, int is_last, struct flagshm_error *error)
{
    struct stat status;

    if (mkdir(path, mode) == 0) {
        if (is_last && chmod(path, mode) != 0)
            return flagshm_error_set(error, -errno, "cannot set the mode of %s: %s", path, strerror(errno));
        return 0;
    }
    if (errno != EEXIST && stat(path, &status) != 0)
        return flagshm_error_set(error, -errno, "cannot make the directory %s: %s", path, strerror(errno));
    if (stat(path, &status) != 0)
        return flagshm_error_set(error, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISDIR(status.st_mode))
        return flagshm_error_set(error, -ENOTDIR, "%s is not a directory", path);
    return 0;
}

int flagshm_directory_make(const char *path, mode_t mode, struct flagshm_error *error)
{
    size_t bytes = strlen(path), i;
    char part[PATH_MAX];
    int result;

    if (bytes == 0)
        return flagshm_error_set(error, -ENOENT, "a directory must have a name");
    if (bytes >= sizeof part)
        return flagshm_error_set(error, -ENAMETOOLONG, "a directory's path of %zu bytes is too long", bytes);
    memcpy(part, path, bytes + 1);
    while (bytes > 1 && part[bytes - 1] == '/')
        part[--bytes] = '\0';
    for (i = 1; i < bytes; i++) {
        if (part[i] != '/')
            continue;
        part[i] = '\0';
        result = make_one(part, 0755, 0, error);
        part[i] = '/';
        if (result != 0)
            return result;
    }
    return make_one(part, mode, 1, error);
}
