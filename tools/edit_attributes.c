/* edit, the attributes: the new file gets the owner, the mode and the extended attributes (access lists among them) of the one that it
 * replaces, or the edit is refused: a flag file that changed hands by a rename could not be written by its owner any more. */
#include "tools/edit_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Signatures over the content: whoever signs must sign anew. */
static bool is_of_content(const char *name)
{
    return strcmp(name, "security.ima") == 0 || strcmp(name, "security.evm") == 0;
}

/* The value of an attribute, malloc'ed; NULL and -errno in *bytes. */
static char *get_attribute(int fd, const char *name, ssize_t *bytes)
{
    ssize_t room = fgetxattr(fd, name, NULL, 0);
    char *value = room >= 0 ? malloc((size_t)room + 1) : NULL;

    *bytes = value ? fgetxattr(fd, name, value, (size_t)room) : room;
    if (value && *bytes >= 0)
        return value;
    *bytes = value || room < 0 ? -errno : -ENOMEM;
    free(value);
    return NULL;
}

/* Sets it where the new file does not have it already, from its directory or its label. */
static int keep_attribute(int fd, int old_fd, const char *name)
{
    ssize_t bytes, has_bytes;
    char *value = get_attribute(old_fd, name, &bytes), *has;
    int result = 0;

    if (!value)
        return bytes == -ENODATA ? 0 : (int)bytes;
    has = get_attribute(fd, name, &has_bytes);
    if (!has || has_bytes != bytes || memcmp(has, value, (size_t)bytes) != 0)
        result = fsetxattr(fd, name, value, (size_t)bytes, 0) == 0 ? 0 : -errno;
    free(has);
    free(value);
    return result;
}

static char *list_attributes(int fd, ssize_t *bytes)
{
    ssize_t room = flistxattr(fd, NULL, 0);
    char *names;

    *bytes = room;
    if (room <= 0 || !(names = malloc((size_t)room)))
        return NULL;
    *bytes = flistxattr(fd, names, (size_t)room);
    if (*bytes > 0)
        return names;
    free(names);
    return NULL;
}

static int keep_attributes(int fd, int old_fd, const char *path, struct flagshm_error *error)
{
    ssize_t bytes, at;
    char *names = list_attributes(old_fd, &bytes);
    bool has_access_list = false;
    int result = 0;

    for (at = 0; names && at < bytes && result == 0; at += (ssize_t)strlen(names + at) + 1) {
        const char *name = names + at;

        if (is_of_content(name))
            continue;
        has_access_list |= strcmp(name, "system.posix_acl_access") == 0;
        result = keep_attribute(fd, old_fd, name);
        if (result != 0)
            flagshm_error_set(error, 0, "cannot keep the attribute %s of %s: %s; the file is as it was", name,
                              path, strerror(-result));
    }
    free(names);
    /* The directory may have given the new file an access list of its own. */
    if (result == 0 && !has_access_list && fremovexattr(fd, "system.posix_acl_access") != 0 &&
        errno != ENODATA && errno != EOPNOTSUPP)
        result = flagshm_error_set(
            error, -errno,
            "cannot take the directory's access list from the new %s: %s; the file is as it was", path,
            strerror(errno));
    return result;
}

static int keep_owner(int fd, const struct flagshm_edit_file *file, struct flagshm_error *error)
{
    struct stat now;
    char mend[160];
    int result;

    if (fstat(fd, &now) == 0 && now.st_uid == file->stat.st_uid && now.st_gid == file->stat.st_gid)
        return 0;
    if (fchown(fd, file->stat.st_uid, file->stat.st_gid) == 0)
        return 0;
    result = -errno;
    if (result != -EPERM)
        return flagshm_error_set(error, result, "cannot keep the owner of %s: %s", file->path,
                                 strerror(-result));
    return flagshm_error_set(error, -EACCES, "%s would change hands: gid %u, %s", file->path,
                             (unsigned)file->stat.st_gid, flagshm_edit_mend(file->stat.st_uid, mend));
}

int flagshm_edit_keep_attributes(int fd, int old_fd, const struct flagshm_edit_file *file,
                                 struct flagshm_error *error)
{
    int result = keep_owner(fd, file, error);

    if (result == 0)
        result = keep_attributes(fd, old_fd, file->path, error);
    /* Last: an access list's mask is the mode's group bits, and a change of owner takes bits away. */
    if (result == 0 && fchmod(fd, file->stat.st_mode & 07777) != 0)
        result =
            flagshm_error_set(error, -errno, "cannot keep the mode of %s: %s", file->path, strerror(errno));
    return result;
}
