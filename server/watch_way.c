/* watch_way: which directories lead to the file. The path is walked component by component, as the kernel does, since
 * a change of any symbolic link on the way, Kubernetes' `..data` above all, changes the file without one event that
 * names it. Nothing is read by way of this walk: it serves to be woken, and a mistake here costs only the time until
 * the next poll. */
#include "server/watch_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LINKS_MAX  40 /* as many as the kernel follows */
#define ROUNDS_MAX 4  /* what a name is may change while we look: then the next event has us walk again */

/* A directory that merely lies on the way tells when it goes itself: its other entries are no concern of ours. */
#define SELF_BITS (IN_MOVE_SELF | IN_DELETE_SELF)
#define NAME_BITS (SELF_BITS | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB)
#define LAST_BITS (NAME_BITS | IN_MODIFY | IN_CLOSE_WRITE)

struct walk {
    struct flagshm_way *way;
    int inotify_fd;
    int links;
    char at[PATH_MAX];   /* the directory reached, without links; "" is the root */
    char rest[PATH_MAX]; /* what is still to go */
};

static struct flagshm_way_place *place_of(struct flagshm_way *way, const struct stat *directory)
{
    size_t i;

    for (i = 0; i < way->place_count; i++)
        if (way->places[i].device == directory->st_dev && way->places[i].inode == directory->st_ino)
            return &way->places[i];
    if (way->place_count == FLAGSHM_WAY_MAX)
        return NULL;
    way->places[way->place_count] =
        (struct flagshm_way_place){.wd = -1, .device = directory->st_dev, .inode = directory->st_ino};
    return &way->places[way->place_count++];
}

/* Has the directory that was reached watched for at least `bits`. Returns its watch descriptor, or -errno. */
static int arm(struct walk *walk, uint32_t bits)
{
    const char *directory = walk->at[0] ? walk->at : "/";
    struct flagshm_way_place *place;
    struct stat status;

    if (walk->inotify_fd < 0)
        return -EBADF;
    if (stat(directory, &status) != 0)
        return -errno;
    place = place_of(walk->way, &status);
    if (!place)
        return -ENOSPC;
    if (place->wd < 0 || (place->mask & bits) != bits) {
        place->mask |= bits;
        /* What was unlinked but is still written to is no longer the file of that name. */
        place->wd = inotify_add_watch(walk->inotify_fd, directory, place->mask | IN_ONLYDIR | IN_EXCL_UNLINK);
        if (place->wd < 0)
            place->wd = -errno;
    }
    return place->wd;
}

static void note_name(struct walk *walk, int wd, const char *name, bool is_last)
{
    struct flagshm_way *way = walk->way;
    struct flagshm_way_name *noted;

    if (wd < 0 || way->name_count == FLAGSHM_WAY_MAX || strlen(name) > NAME_MAX)
        return;
    noted = &way->names[way->name_count++];
    noted->wd = wd;
    noted->is_last = is_last;
    memcpy(noted->name, name, strlen(name) + 1);
}

/* Cuts the next component off what is still to go; false at the end. */
static bool next_component(struct walk *walk, char name[PATH_MAX], bool *is_last)
{
    char *begin = walk->rest, *end;

    while (*begin == '/')
        begin++;
    if (!*begin)
        return false;
    end = strchrnul(begin, '/');
    memcpy(name, begin, (size_t)(end - begin));
    name[end - begin] = '\0';
    while (*end == '/')
        end++;
    *is_last = *end == '\0';
    memmove(walk->rest, end, strlen(end) + 1);
    return true;
}

/* DIRECTORY/NAME into `path`; false where it does not fit. */
static bool join(char path[PATH_MAX], const char *directory, const char *name)
{
    size_t directory_bytes = strlen(directory), name_bytes = strlen(name);

    if (directory_bytes + 1 + name_bytes >= PATH_MAX)
        return false;
    memcpy(path, directory, directory_bytes);
    path[directory_bytes] = '/';
    memcpy(path + directory_bytes + 1, name, name_bytes + 1);
    return true;
}

static bool follow(struct walk *walk)
{
    char target[PATH_MAX], joined[PATH_MAX];
    ssize_t length = readlink(walk->way->end, target, sizeof target - 1);

    if (length <= 0 || ++walk->links > LINKS_MAX)
        return false;
    target[length] = '\0';
    if (!join(joined, target, walk->rest))
        return false;
    memcpy(walk->rest, joined, strlen(joined) + 1);
    if (target[0] == '/')
        walk->at[0] = '\0';
    return true;
}

/* One component further. False where the way ends. */
static bool step(struct walk *walk, const char *name, bool is_last)
{
    struct stat status;
    uint32_t armed = 0, needed = 0;
    bool is_there = false;
    int wd = -1, round;

    if (strcmp(name, ".") == 0)
        return true;
    if (strcmp(name, "..") == 0) {
        char *slash = strrchr(walk->at, '/');

        if (slash)
            *slash = '\0';
        return true;
    }
    if (!join(walk->way->end, walk->at, name))
        return false;
    for (round = 0; round < ROUNDS_MAX; round++) {
        is_there = lstat(walk->way->end, &status) == 0;
        if (is_there && !is_last && S_ISDIR(status.st_mode))
            needed = SELF_BITS;
        else
            needed = is_last ? LAST_BITS : NAME_BITS;
        if ((armed & needed) == needed)
            break;
        wd = arm(walk, needed);
        armed = needed;
    }
    if (needed != SELF_BITS) {
        note_name(walk, wd, name, is_last && !(is_there && S_ISLNK(status.st_mode)));
        if (wd < 0 && !walk->way->watch_error)
            walk->way->watch_error = -wd;
    }
    if (is_there && S_ISLNK(status.st_mode))
        return follow(walk);
    if (is_last || !is_there || !S_ISDIR(status.st_mode))
        return false;
    memcpy(walk->at, walk->way->end, strlen(walk->way->end) + 1);
    return true;
}

static void let_go(const struct flagshm_way *old, const struct flagshm_way *way, int inotify_fd)
{
    size_t i, j;

    for (i = 0; i < old->place_count; i++) {
        for (j = 0; j < way->place_count && way->places[j].wd != old->places[i].wd; j++)
            continue;
        if (j == way->place_count && old->places[i].wd >= 0)
            (void)inotify_rm_watch(inotify_fd, old->places[i].wd);
    }
}

void flagshm_way_walk(struct flagshm_way *way, int inotify_fd, const char *path)
{
    struct flagshm_way old = *way;
    struct walk walk = {.way = way, .inotify_fd = inotify_fd};
    char name[PATH_MAX];
    bool is_last;

    memset(way, 0, sizeof *way);
    memcpy(walk.rest, path, strlen(path) + 1);
    while (next_component(&walk, name, &is_last))
        if (!step(&walk, name, is_last))
            break;
    let_go(&old, way, inotify_fd);
}

static enum flagshm_way_meaning meaning_for(const struct flagshm_way *way,
                                            const struct flagshm_way_name *name, uint32_t mask)
{
    struct stat status;

    if (mask & (IN_MOVED_TO | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_DELETE))
        return FLAGSHM_WAY_CHANGED;
    /* A new symbolic link or directory is whole from the start. */
    if (mask & IN_CREATE && (!name->is_last || (lstat(way->end, &status) == 0 && S_ISLNK(status.st_mode))))
        return FLAGSHM_WAY_CHANGED;
    return mask & (IN_CREATE | IN_MODIFY) ? FLAGSHM_WAY_MOVING : FLAGSHM_WAY_TOUCHED;
}

enum flagshm_way_meaning flagshm_way_meaning(const struct flagshm_way *way, const struct inotify_event *event)
{
    enum flagshm_way_meaning meaning = FLAGSHM_WAY_NOISE;
    bool is_ours = false;
    size_t i;

    /* What was lost may have told of a writer who is not done. */
    if (event->mask & IN_Q_OVERFLOW)
        return FLAGSHM_WAY_MOVING;
    for (i = 0; i < way->place_count; i++)
        is_ours = is_ours || way->places[i].wd == event->wd;
    if (!is_ours)
        return FLAGSHM_WAY_NOISE;
    if (event->mask & (SELF_BITS | IN_IGNORED | IN_UNMOUNT))
        return FLAGSHM_WAY_CHANGED;
    if (event->len == 0)
        return FLAGSHM_WAY_TOUCHED;
    for (i = 0; i < way->name_count; i++) {
        enum flagshm_way_meaning one;

        if (way->names[i].wd != event->wd || strcmp(way->names[i].name, event->name) != 0)
            continue;
        one = meaning_for(way, &way->names[i], event->mask);
        meaning = one > meaning ? one : meaning;
    }
    return meaning;
}
