/* edit, the edge: see the header. A new file is written beside the old one and takes its name in one step; whoever reads meanwhile
 * gets the one or the other, whole. What would silently be undone, or would change who owns the file, is refused beforehand with
 * the place where the change belongs. */
#include "tools/edit_internal.h"

#include "server/flagfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define LOCK_WAIT_MS 2000
#define LOCK_NAP_MS  10

const char *flagshm_edit_mend(uid_t uid, char out[160])
{
    const struct passwd *user = getpwuid(uid);
    char name[64];

    if (user)
        snprintf(name, sizeof name, "%s", user->pw_name);
    else
        snprintf(name, sizeof name, "uid %u", (unsigned)uid);
    if (uid == 0)
        snprintf(out, 160, "owner root: run as root");
    else
        snprintf(out, 160, "owner %s: run as %s or as root", name, name);
    return out;
}

/* ---- open: what is it, and should it be edited here ---- */

/* The kubelet's volumes: the file leads through "..data" to a directory "..TIME". */
static bool is_configmap(const char *path)
{
    const char *part;

    for (part = strstr(path, "/.."); part; part = strstr(part + 1, "/.."))
        if (part[3] != '\0' && part[3] != '/')
            return true;
    return false;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Places whose files are made by something else: it would undo the edit, or cannot be written at all. */
static int refuse_made(const struct flagshm_edit_file *file, struct flagshm_error *error)
{
    struct statvfs system;
    struct statx more;

    if (is_configmap(file->path))
        return flagshm_error_set(
            error, -EROFS,
            "%s is a Kubernetes ConfigMap or Secret volume (it leads to %s), which the kubelet "
            "writes anew: edit the object itself, with `kubectl edit configmap NAME` or where it "
            "is kept",
            file->given, file->path);
    if (begins(file->path, "/nix/store/") || begins(file->path, "/gnu/store/"))
        return flagshm_error_set(error, -EROFS,
                                 "%s leads into a package store (%s), which is never edited: change the "
                                 "expression that makes the file, and rebuild",
                                 file->given, file->path);
    if (fstatvfs(file->dir_fd, &system) == 0 && (system.f_flag & ST_RDONLY) != 0)
        return flagshm_error_set(
            error, -EROFS,
            "%s is on a read-only file system: edit the source that it is made or mounted from", file->path);
    if (statx(file->dir_fd, file->name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &more) == 0) {
        if ((more.stx_attributes & more.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0)
            return flagshm_error_set(
                error, -EROFS,
                "%s is mounted by itself (a container's single-file volume), so that it cannot be "
                "replaced: edit it on the host, or mount its directory instead",
                file->path);
        if ((more.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0)
            return flagshm_error_set(
                error, -EROFS, "%s is immutable (chattr): edit what manages it, or `chattr -ia` it first",
                file->path);
    }
    return 0;
}

static int refuse_forbidden(const struct flagshm_edit_file *file, struct flagshm_error *error)
{
    unsigned mode = (unsigned)file->stat.st_mode & 07777;
    struct stat directory;
    char mend[160];

    if ((mode & 0222) == 0)
        return flagshm_error_set(
            error, -EROFS, "%s is read-only (mode %04o): edit what it is made from, or `chmod u+w` it first",
            file->path, mode);
    if (faccessat(file->dir_fd, file->name, W_OK, AT_EACCESS) != 0)
        return flagshm_error_set(error, -EACCES, "%s is not ours to write: mode %04o, %s", file->path, mode,
                                 flagshm_edit_mend(file->stat.st_uid, mend));
    if (faccessat(file->dir_fd, ".", W_OK | X_OK, AT_EACCESS) != 0 && fstat(file->dir_fd, &directory) == 0)
        return flagshm_error_set(
            error, -EACCES, "%s is replaced whole, and its directory is not ours to write: mode %04o, %s",
            file->path, (unsigned)directory.st_mode & 07777, flagshm_edit_mend(directory.st_uid, mend));
    return 0;
}

/* Reads a whole file under a directory. *text is malloc'ed. */
static int read_at(int dir_fd, const char *name, char **text, size_t *bytes, struct stat *status)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), result = 0;
    size_t room, got = 0;
    char *out = NULL;

    *text = NULL;
    if (fd < 0)
        return -errno;
    if (fstat(fd, status) != 0)
        result = -errno;
    else if (!S_ISREG(status->st_mode))
        result = S_ISDIR(status->st_mode) ? -EISDIR : -EINVAL;
    else if (status->st_size > (off_t)FLAGSHM_FILE_MAX)
        result = -EFBIG;
    room = result == 0 ? (size_t)status->st_size + 1 : 0;
    if (result == 0 && !(out = malloc(room + 1)))
        result = -ENOMEM;
    while (result == 0 && got < room) {
        ssize_t n = read(fd, out + got, room - got);

        if (n < 0 && errno != EINTR)
            result = -errno;
        else if (n == 0)
            break;
        else if (n > 0)
            got += (size_t)n;
    }
    if (result == 0 && got == room) /* it grew while it was read */
        result = -EAGAIN;
    close(fd);
    if (result != 0) {
        free(out);
        return result;
    }
    out[got] = '\0';
    *text = out;
    *bytes = got;
    return 0;
}

static int read_file(struct flagshm_edit_file *file, struct flagshm_error *error)
{
    int result = read_at(file->dir_fd, file->name, &file->text, &file->bytes, &file->stat);

    switch (result) {
    case 0:
        return 0;
    case -EISDIR:
        return flagshm_error_set(error, result, "%s is a directory, not a flag file", file->path);
    case -EINVAL:
        return flagshm_error_set(error, -EPERM, "%s is not a regular file", file->path);
    case -EFBIG:
        return flagshm_error_set(error, result, "%s is larger than a flag file may be (%u MiB)", file->path,
                                 FLAGSHM_FILE_MAX >> 20);
    case -EAGAIN:
        return flagshm_error_set(error, -ESTALE, "%s is being written by somebody else: try again",
                                 file->path);
    default:
        return flagshm_error_set(error, result, "cannot read %s: %s", file->path, strerror(-result));
    }
}

static int resolve(const char *given, char path[4096], struct flagshm_error *error)
{
    char *real = realpath(given, NULL);
    int result = real ? 0 : -errno;

    if (!real)
        return flagshm_error_set(error, result, "cannot find %s: %s", given, strerror(-result));
    if (strlen(real) >= 4096)
        result = flagshm_error_set(error, -ENAMETOOLONG, "the path of %s is too long", given);
    else
        memcpy(path, real, strlen(real) + 1);
    free(real);
    return result;
}

char *flagshm_edit_read(const char *path, size_t *bytes, struct flagshm_error *error)
{
    struct flagshm_edit_file file = {.dir_fd = -1};

    if (resolve(path, file.path, error) != 0)
        return NULL;
    file.dir_fd = AT_FDCWD; /* the path is absolute */
    file.name = file.path;
    if (read_file(&file, error) != 0)
        return NULL;
    if (bytes)
        *bytes = file.bytes;
    return file.text;
}

/* Other editors of ours wait here. Who keeps the lock for longer than that does not edit: the change is still found before the rename. */
static void lock_directory(int dir_fd)
{
    const struct timespec nap = {.tv_nsec = LOCK_NAP_MS * 1000000L};
    int waited;

    for (waited = 0; waited < LOCK_WAIT_MS; waited += LOCK_NAP_MS) {
        if (flock(dir_fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR))
            return;
        nanosleep(&nap, NULL);
    }
}

static int open_directory(struct flagshm_edit_file *file, struct flagshm_error *error)
{
    char *slash = strrchr(file->path, '/');
    char directory[4096];
    int result;

    file->name = slash + 1;
    snprintf(directory, sizeof directory, "%.*s", slash == file->path ? 1 : (int)(slash - file->path),
             file->path);
    file->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->dir_fd >= 0)
        return 0;
    result = -errno;
    return flagshm_error_set(error, result, "cannot open the directory %s: %s", directory, strerror(-result));
}

int flagshm_edit_open(struct flagshm_edit_file *file, const char *path, struct flagshm_error *error)
{
    int result;

    *file = (struct flagshm_edit_file){.dir_fd = -1};
    if (strlen(path) >= sizeof file->given)
        return flagshm_error_set(error, -ENAMETOOLONG, "the path is too long");
    memcpy(file->given, path, strlen(path) + 1);
    if ((result = resolve(path, file->path, error)) != 0 || (result = open_directory(file, error)) != 0)
        return result;
    if ((result = refuse_made(file, error)) != 0)
        return result;
    lock_directory(file->dir_fd);
    if ((result = read_file(file, error)) != 0)
        return result;
    return refuse_forbidden(file, error);
}

void flagshm_edit_release(struct flagshm_edit_file *file)
{
    if (file->dir_fd >= 0)
        (void)flock(file->dir_fd, LOCK_UN);
}

void flagshm_edit_close(struct flagshm_edit_file *file)
{
    free(file->text);
    if (file->dir_fd >= 0)
        close(file->dir_fd); /* and the lock with it */
    *file = (struct flagshm_edit_file){.dir_fd = -1};
}

/* ---- replace ---- */

static int write_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, text, bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        bytes -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

/* Is it still the file that was read? Also where it leads elsewhere by now. */
static int check_unchanged(const struct flagshm_edit_file *file, struct flagshm_error *error)
{
    char path[4096], *text;
    struct flagshm_error ignored;
    struct stat status;
    size_t bytes;
    bool is_same = false;

    if (resolve(file->given, path, &ignored) == 0 && strcmp(path, file->path) == 0 &&
        read_at(file->dir_fd, file->name, &text, &bytes, &status) == 0) {
        is_same = bytes == file->bytes && memcmp(text, file->text, bytes) == 0 &&
                  status.st_mode == file->stat.st_mode && status.st_uid == file->stat.st_uid &&
                  status.st_gid == file->stat.st_gid;
        free(text);
    }
    return is_same ? 0
                   : flagshm_error_set(
                         error, -ESTALE,
                         "%s was changed by somebody else meanwhile; nothing was written: look at it and try "
                         "again",
                         file->path);
}

static int open_new(const struct flagshm_edit_file *file, char name[64], struct flagshm_error *error)
{
    int tries, fd = -1;

    for (tries = 0; tries < 16 && fd < 0; tries++) {
        uint64_t lot = 0;

        if (getrandom(&lot, sizeof lot, 0) != (ssize_t)sizeof lot)
            lot = (uint64_t)getpid() * 1000 + (uint64_t)tries;
        snprintf(name, 64, ".flagctl-%016llx.tmp", (unsigned long long)lot);
        fd = openat(file->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd >= 0)
        return fd;
    return flagshm_error_set(error, -errno, "cannot create a file beside %s: %s", file->path,
                             strerror(errno));
}

/* Puts the finished file under the name. */
static int take_name(struct flagshm_edit_file *file, const char *new_name, struct flagshm_error *error)
{
    struct timespec now;
    int result = check_unchanged(file, error);

    if (result != 0)
        return result;
    if (renameat(file->dir_fd, new_name, file->dir_fd, file->name) != 0) {
        result = -errno;
        if (result == -EBUSY)
            return flagshm_error_set(
                error, -EROFS,
                "%s is mounted by itself (a container's single-file volume), so that it cannot be "
                "replaced: edit it on the host, or mount its directory instead",
                file->path);
        return flagshm_error_set(error, result, "cannot replace %s: %s", file->path, strerror(-result));
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    file->renamed_mono_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (fsync(file->dir_fd) != 0 && errno != EINVAL && errno != EBADF)
        flagshm_error_set(&file->note, 0, "%s is changed, but it is not sure to outlive a power cut: %s",
                          file->path, strerror(errno));
    else if (file->stat.st_nlink > 1)
        flagshm_error_set(
            &file->note, 0,
            "%s had %lu names (hard links): only this one has the new text, the others keep the old one",
            file->path, (unsigned long)file->stat.st_nlink);
    return 0;
}

int flagshm_edit_replace(struct flagshm_edit_file *file, const char *text, size_t bytes,
                         struct flagshm_error *error)
{
    char new_name[64];
    sigset_t all, before;
    int old_fd, fd, result;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    old_fd = openat(file->dir_fd, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    fd = old_fd < 0
             ? flagshm_error_set(error, -ESTALE, "%s went away meanwhile; nothing was written", file->path)
             : open_new(file, new_name, error);
    result = fd < 0 ? fd : 0;
    if (result == 0)
        result = flagshm_edit_keep_attributes(fd, old_fd, file, error);
    if (result == 0 && (result = write_all(fd, text, bytes)) != 0)
        flagshm_error_set(error, 0, "cannot write beside %s: %s; the file is as it was", file->path,
                          strerror(-result));
    if (result == 0)
        result = take_name(file, new_name, error);
    if (result != 0 && fd >= 0)
        unlinkat(file->dir_fd, new_name, 0);
    if (fd >= 0)
        close(fd);
    if (old_fd >= 0)
        close(old_fd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

/* ---- create ---- */

/* Splits the path, and opens its directory, whatever links lead there. */
static int open_place(struct flagshm_edit_file *file, const char *path, struct flagshm_error *error)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char directory[4096];
    struct stat status;

    *file = (struct flagshm_edit_file){.dir_fd = -1};
    if (strlen(path) >= sizeof file->given || strlen(name) > NAME_MAX)
        return flagshm_error_set(error, -ENAMETOOLONG, "the path is too long");
    memcpy(file->given, path, strlen(path) + 1);
    if (*name == '\0')
        return flagshm_error_set(error, -EISDIR, "%s is a directory, not a flag file", path);
    if (lstat(path, &status) == 0)
        return flagshm_error_set(error, -EEXIST,
                                 S_ISLNK(status.st_mode) ? "%s is a link that leads nowhere: mend it first"
                                                         : "%s is there already",
                                 path);
    snprintf(directory, sizeof directory, "%.*s",
             slash == path ? 1
             : slash       ? (int)(slash - path)
                           : 1,
             slash ? path : ".");
    if (resolve(directory, file->path, error) != 0)
        return flagshm_error_set(error, -ENOENT, "there is no directory %s for the new file: make it first",
                                 directory);
    if (strlen(file->path) + strlen(name) + 2 > sizeof file->path)
        return flagshm_error_set(error, -ENAMETOOLONG, "the path of %s is too long", path);
    snprintf(file->path + strlen(file->path), sizeof file->path - strlen(file->path), "%s%s",
             strcmp(file->path, "/") == 0 ? "" : "/", name);
    return open_directory(file, error);
}

/* Gives the finished file its name, unless another one has it by now. */
static int link_name(struct flagshm_edit_file *file, int fd, const char *new_name,
                     struct flagshm_error *error)
{
    mode_t mask = umask(0);
    int result;

    (void)umask(mask);
    if (fchmod(fd, 0666 & ~mask) != 0 || linkat(file->dir_fd, new_name, file->dir_fd, file->name, 0) != 0) {
        result = -errno;
        return flagshm_error_set(error, result, "cannot make %s: %s", file->path, strerror(-result));
    }
    if (fsync(file->dir_fd) != 0 && errno != EINVAL && errno != EBADF)
        flagshm_error_set(&file->note, 0, "%s is made, but it is not sure to outlive a power cut: %s",
                          file->path, strerror(errno));
    return 0;
}

int flagshm_edit_create(struct flagshm_edit_file *file, const char *path, const char *text, size_t bytes,
                        struct flagshm_error *error)
{
    char new_name[64];
    sigset_t all, before;
    int fd, result = open_place(file, path, error);

    if (result == 0)
        result = refuse_made(file, error);
    if (result != 0)
        return result;
    lock_directory(file->dir_fd);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    fd = open_new(file, new_name, error);
    result = fd < 0 ? fd : write_all(fd, text, bytes);
    if (fd >= 0 && result != 0)
        flagshm_error_set(error, 0, "cannot write beside %s: %s", file->path, strerror(-result));
    if (result == 0)
        result = link_name(file, fd, new_name, error);
    if (fd >= 0) {
        unlinkat(file->dir_fd, new_name, 0);
        close(fd);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}
