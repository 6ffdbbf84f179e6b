/* watch_internal: what the parts of watch share: the way (which directories are watched, and what an event means) and
 * the reading of the file. */
#ifndef FLAGSHM_SERVER_WATCH_INTERNAL_H
#define FLAGSHM_SERVER_WATCH_INTERNAL_H

#include "server/error.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/inotify.h>
#include <sys/stat.h>

/* ---- watch_way.c: the directories that the path leads through ---- */

#define FLAGSHM_WAY_MAX 64 /* of directories and of names; what lies beyond is left to the poll */

/* A directory under watch. */
struct flagshm_way_place {
    int wd;
    uint32_t mask;
    dev_t device;
    ino_t inode;
};

/* A name whose change may change what the path leads to. */
struct flagshm_way_name {
    int wd;
    bool
        is_last; /* the file itself, or where it would be; else a symbolic link, or what is missing on the way */
    char name[NAME_MAX + 1];
};

struct flagshm_way {
    struct flagshm_way_place places[FLAGSHM_WAY_MAX];
    struct flagshm_way_name names[FLAGSHM_WAY_MAX];
    size_t place_count, name_count;
    int watch_error; /* why a directory that matters could not be watched (errno of the first); 0: all are */
    char
        end[PATH_MAX]; /* where the walk ended, without links: the file, or the first thing that is missing */
};

enum flagshm_way_meaning {
    FLAGSHM_WAY_NOISE,
    FLAGSHM_WAY_TOUCHED, /* the file's or the directory's attributes: look, in a while */
    FLAGSHM_WAY_MOVING,  /* somebody may be in the middle of writing: wait for the end, or for quiet */
    FLAGSHM_WAY_CHANGED, /* look at once */
};

/* Walks along `path` (absolute), through every symbolic link, and has inotify watch what it passes. Each directory is
 * watched before it is looked into: whatever changes after the walk makes an event. Directories of the former walk that
 * are not on the way any more are let go of. inotify_fd < 0: only walks. */
void flagshm_way_walk(struct flagshm_way *way, int inotify_fd, const char *path);
enum flagshm_way_meaning flagshm_way_meaning(const struct flagshm_way *way,
                                             const struct inotify_event *event);

/* ---- watch_read.c: the content of the file ---- */

/* What a poll compares. */
struct flagshm_stamp {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec modified, changed;
};

/* Reads the file without ever waiting on it. 0: *text is malloc'ed, with a NUL behind it. -EAGAIN: it was being changed
 * or replaced meanwhile. Else -errno with a sentence, also for what is no regular file (-EISDIR, -ENXIO) or too long
 * (-EFBIG). `end` is where the way ends, for the sentence. */
int flagshm_read_stable(const char *path, const char *end, char **text, size_t *bytes,
                        struct flagshm_stamp *stamp, struct flagshm_error *error);
/* What stands there now: all zeroes where there is nothing. */
void flagshm_stamp_take(const char *path, struct flagshm_stamp *stamp);
bool flagshm_stamp_equal(const struct flagshm_stamp *a, const struct flagshm_stamp *b);

#endif
