/* kills: see kills.h.
 *
 * What counts is that a file stands there, so a write that is cut off half-way still kills. Root writes for the
 * server's user: whatever it creates belongs to the owner of the state directory, who must be able to take it back. */
#include "server/kills.h"

#include "server/flagfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KILLS_ALL       ".all"
#define KILLS_SETTLE_NS 100000000u /* file times move in steps of up to 10 ms */

/* ---- in memory ---- */

/* Where the name stands, or would; *found says which. */
static size_t place_of(const struct flagshm_kills *kills, const char *flag, size_t bytes, bool *found)
{
    size_t first = 0, end = kills->count;

    *found = false;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        int order = strncmp(kills->names[middle], flag, bytes);

        if (order == 0)
            order = kills->names[middle][bytes] != '\0';
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

bool flagshm_kills_has(const struct flagshm_kills *kills, const char *flag)
{
    bool found;

    if (kills->count == 0) /* as good as always, and asked of every flag */
        return false;
    (void)place_of(kills, flag, strlen(flag), &found);
    return found;
}

int flagshm_kills_insert(struct flagshm_kills *kills, const char *flag, size_t bytes)
{
    bool found;
    size_t at = place_of(kills, flag, bytes, &found);
    char *name;

    if (found)
        return 0;
    if (kills->count == kills->capacity) {
        size_t capacity = kills->capacity ? kills->capacity * 2 : 16;
        char **names = realloc(kills->names, capacity * sizeof *names);

        if (!names)
            return -ENOMEM;
        kills->names = names;
        kills->capacity = capacity;
    }
    name = strndup(flag, bytes);
    if (!name)
        return -ENOMEM;
    memmove(kills->names + at + 1, kills->names + at, (kills->count - at) * sizeof *kills->names);
    kills->names[at] = name;
    kills->count++;
    return 0;
}

void flagshm_kills_remove(struct flagshm_kills *kills, const char *flag)
{
    bool found;
    size_t at = place_of(kills, flag, strlen(flag), &found);

    if (!found)
        return;
    free(kills->names[at]);
    kills->count--;
    memmove(kills->names + at, kills->names + at + 1, (kills->count - at) * sizeof *kills->names);
}

void flagshm_kills_free(struct flagshm_kills *kills)
{
    size_t i;

    for (i = 0; i < kills->count; i++)
        free(kills->names[i]);
    free(kills->names);
    memset(kills, 0, sizeof *kills);
}

/* ---- on the disk ---- */

static int fail(struct flagshm_error *error, const char *state_dir, const char *name, const char *doing)
{
    int code = -errno;

    return flagshm_error_set(error, code, "%s/kills%s%s: %s: %s", state_dir, name[0] ? "/" : "", name, doing,
                             strerror(-code));
}

/* The directory's descriptor, or -errno. */
static int open_kills(const char *state_dir, int *state_fd)
{
    int fd = -1, code = 0;

    *state_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*state_fd < 0)
        return -errno;
    fd = openat(*state_fd, "kills", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        code = -errno;
        (void)close(*state_fd);
        *state_fd = -1;
    }
    return fd < 0 ? code : fd;
}

static int read_names(struct flagshm_kills *kills, DIR *dir)
{
    struct dirent *entry;

    for (errno = 0; (entry = readdir(dir)) != NULL; errno = 0) {
        size_t bytes = strlen(entry->d_name);

        if (strcmp(entry->d_name, KILLS_ALL) == 0)
            kills->all = true;
        else if (flagshm_is_flag_name(entry->d_name, bytes) &&
                 flagshm_kills_insert(kills, entry->d_name, bytes) != 0)
            return -ENOMEM;
    }
    return -errno;
}

int flagshm_kills_load(struct flagshm_kills *kills, const char *state_dir, struct flagshm_error *error)
{
    int state_fd, fd = open_kills(state_dir, &state_fd), code;
    DIR *dir;

    memset(kills, 0, sizeof *kills);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0) {
        errno = -fd;
        return fail(error, state_dir, "", "cannot be opened, so the kills that stand there are not known");
    }
    (void)close(state_fd);
    dir = fdopendir(fd);
    if (!dir) {
        code = -ENOMEM;
        (void)close(fd);
    } else {
        code = read_names(kills, dir);
        (void)closedir(dir);
    }
    if (code != 0) {
        flagshm_kills_free(kills);
        errno = -code;
        return fail(error, state_dir, "", "cannot be read");
    }
    return 0;
}

/* Makes the directory where it is missing, for the owner of the state directory. */
static int make_kills(const char *state_dir, struct flagshm_error *error, int *state_fd)
{
    int fd;

    *state_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*state_fd < 0) {
        int code = -errno;

        return flagshm_error_set(error, code, "%s: the state directory cannot be opened: %s", state_dir,
                                 strerror(-code));
    }
    fd = openat(*state_fd, "kills", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT && (mkdirat(*state_fd, "kills", 0700) == 0 || errno == EEXIST)) {
        fd = openat(*state_fd, "kills", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fsync(*state_fd) == 0)
            return fd;
    }
    (void)fail(error, state_dir, "", "cannot be made");
    if (fd >= 0)
        (void)close(fd);
    (void)close(*state_fd);
    return -errno;
}

/* As root: to the owner of the state directory. */
static void give_to_owner(int state_fd, int fd)
{
    struct stat state;

    if (geteuid() == 0 && fstat(state_fd, &state) == 0 && state.st_uid != 0)
        (void)!fchown(fd, state.st_uid, state.st_gid);
}

/* One line, whatever the reason holds. */
static int write_why(int fd, const char *why)
{
    char line[1024];
    size_t length = 0, at = 0;

    for (; why && why[length] != '\0' && length + 1 < sizeof line; length++)
        line[length] = (unsigned char)why[length] < ' ' ? ' ' : why[length];
    line[length++] = '\n';
    while (at < length) {
        ssize_t part = write(fd, line + at, length - at);

        if (part < 0 && errno != EINTR)
            return -errno;
        at += part > 0 ? (size_t)part : 0;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

static const char *file_name(const char *flag, struct flagshm_error *error)
{
    if (!flag)
        return KILLS_ALL;
    if (flagshm_is_flag_name(flag, strlen(flag)))
        return flag;
    (void)flagshm_error_set(error, -EINVAL, "\"%.80s\" is no flag's name", flag);
    return NULL;
}

int flagshm_kills_write(const char *state_dir, const char *flag, const char *why, struct flagshm_error *error)
{
    const char *name = file_name(flag, error);
    int state_fd, dir_fd, fd, code = 0;

    if (!name)
        return -EINVAL;
    dir_fd = make_kills(state_dir, error, &state_fd);
    if (dir_fd < 0)
        return dir_fd;
    give_to_owner(state_fd, dir_fd);
    fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0) {
        code = fail(error, state_dir, name, "cannot be created");
    } else {
        give_to_owner(state_fd, fd);
        code = write_why(fd, why);
        if (code == 0 && fsync(dir_fd) != 0)
            code = -errno;
        if (code != 0) {
            errno = -code;
            code = fail(error, state_dir, name, "does not reach the disk");
        }
        (void)close(fd);
    }
    (void)close(dir_fd);
    (void)close(state_fd);
    return code;
}

int flagshm_kills_erase(const char *state_dir, const char *flag, struct flagshm_error *error)
{
    const char *name = file_name(flag, error);
    int state_fd, dir_fd, code = 0;

    if (!name)
        return -EINVAL;
    dir_fd = open_kills(state_dir, &state_fd);
    if (dir_fd == -ENOENT)
        return 0;
    if (dir_fd < 0) {
        errno = -dir_fd;
        return fail(error, state_dir, "", "cannot be opened");
    }
    if (unlinkat(dir_fd, name, 0) != 0) {
        if (errno != ENOENT)
            code = fail(error, state_dir, name, "cannot be removed");
    } else if (fsync(dir_fd) != 0) {
        code = fail(error, state_dir, name, "its removal does not reach the disk");
    }
    (void)close(dir_fd);
    (void)close(state_fd);
    return code;
}

void flagshm_kills_why(const char *state_dir, const char *flag, char *why, size_t room)
{
    const char *name = file_name(flag, NULL);
    int state_fd, dir_fd = name != NULL ? open_kills(state_dir, &state_fd) : -EINVAL, fd;
    ssize_t bytes = 0;

    why[0] = '\0';
    if (dir_fd < 0)
        return;
    fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        bytes = read(fd, why, room - 1);
        (void)close(fd);
    }
    why[bytes > 0 ? bytes : 0] = '\0';
    why[strcspn(why, "\n")] = '\0';
    (void)close(dir_fd);
    (void)close(state_fd);
}

uint64_t flagshm_kills_stamp(const char *state_dir)
{
    struct timespec now;
    struct stat kills;
    uint64_t changed, now_ns;
    int state_fd, fd = open_kills(state_dir, &state_fd);

    if (fd < 0)
        return 0;
    if (fstat(fd, &kills) != 0)
        memset(&kills, 0, sizeof kills);
    (void)close(fd);
    (void)close(state_fd);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    changed = (uint64_t)kills.st_mtim.tv_sec * 1000000000u + (uint64_t)kills.st_mtim.tv_nsec;
    now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return now_ns - changed < KILLS_SETTLE_NS ? now_ns : changed;
}
