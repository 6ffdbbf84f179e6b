/* segment: the life of the table segment: the writer's lock, create or adopt, publish, heartbeat, switches, retire.
 *
 * The only writer of shared memory. A segment is never shrunk and never written in the bank that readers use, so that a writer killed at any
 * instruction leaves a whole table. Errors come as -errno with a sentence for people in struct flagshm_error.
 */
#ifndef FLAGSHM_SERVER_SEGMENT_H
#define FLAGSHM_SERVER_SEGMENT_H

#include "client/flagshm.h"
#include "server/error.h"
#include "server/table.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct flagshm_segment_options {
    const char *dir; /* FLAGSHM_DIR, or NULL: /dev/shm */
    const char *instance;
    mode_t mode;                        /* of the table; 0 = 0644; bits for writing by others are refused */
    gid_t group;                        /* (gid_t)-1: as it comes */
    uint64_t period_ns, stale_after_ns; /* 0 = 1 s, 10 s */
    const char *socket_path, *state_dir, *file_path; /* for tools; NULL = "" */
    int lock_wait_ms;                                /* how long to wait for another writer; < 0 = 2000 */
    /* For flagctl: touches no more than a kill needs. Root may then act on a table of any owner, whom a missing lock file is
     * given to; where there is no table, no lock is taken or made. mode, group and paths stay as they are. */
    bool is_tool;
};

struct flagshm_segment {
    struct flagshm_header *header; /* NULL until the first publish or adoption */
    struct flagshm_geometry geometry;
    struct flagshm_segment_options options;
    int lock_fd, fd;
    uint64_t device, inode;
    char path[320], lock_path[336];
    bool is_adopted; /* the table was there before us */
    bool is_forgotten_, is_all_control_;
    uid_t owner_; /* of lock and table: us, but for a tool that root runs */
    char dir_[256], instance_[40], socket_path_[128], state_dir_[1024], file_path_[2048];
};

/* Takes the writer's lock (OFD lock on PATH.lock, mode 0600, our own, no link followed), finishes a predecessor's half-done
 * replacement (PATH.old) and adopts the segment where every gate holds: size, magic, byte order, layout, kind, boot id, owner, geometry.
 * 0 also where there is nothing to adopt (header NULL). -EBUSY: another writer holds the lock; -EPERM: an object of our
 * name belongs to a stranger (names path, uid and the mend); -errno of the system. */
int flagshm_segment_open(struct flagshm_segment *segment, const struct flagshm_segment_options *options,
                         struct flagshm_error *error);

/* Publishes a table as `version` (must be greater than the one served; sets the records' changed_version in `table`). Fits the table's geometry into the segment in use, or builds a new
 * segment beside it (posix_fallocate: a full tmpfs is -ENOSPC, never SIGBUS), publishes into it, renames it in and retires the old one. On an
 * error the old table stays whole and served. The switch bits survive. */
int flagshm_segment_publish(struct flagshm_segment *segment, struct flagshm_table *table, uint64_t version,
                            uint64_t file_rev, struct flagshm_error *error);

/* Sets or clears ALL_CONTROL at one step, and wakes. Remembered: a segment that is built later begins with it; where
 * there is no segment yet it is only remembered. */
void flagshm_segment_set_all_control(struct flagshm_segment *segment, bool all_control);
bool flagshm_segment_is_all_control(const struct flagshm_segment *segment);

/* Once a period, by the main loop only: the coarse clock into the liveness line. Returns false where our name no longer leads to our object
 * (removed or replaced by hand): publish again after flagshm_segment_forget. */
bool flagshm_segment_heartbeat(struct flagshm_segment *segment);
/* Each period too: is the lock's file still the one that we hold? One that was removed by hand keeps nobody out; it is made and taken
 * anew. 0: it is; 1: made anew; -EBUSY: another writer has taken the instance meanwhile; -errno: not ours to make. */
int flagshm_segment_keep_lock(struct flagshm_segment *segment, struct flagshm_error *error);
/* Lets go of the object that is held: the next publish builds a new one, renames it in and then retires the held one, so that
 * readers find the new one at their first look. content_hash is 0 until then. */
void flagshm_segment_forget(struct flagshm_segment *segment);

uint64_t flagshm_segment_version(const struct flagshm_segment *segment); /* 0: none */
uint64_t flagshm_segment_file_rev(const struct flagshm_segment *segment);
uint64_t
flagshm_segment_content_hash(const struct flagshm_segment *segment); /* of the served bank; 0: none */

/* Unmaps and releases the lock; the table stays for readers. */
void flagshm_segment_close(struct flagshm_segment *segment);

/* The names of killed flags in the served table: each is given to `each` with its length. For start-up, and for tools. */
void flagshm_segment_each_killed(const struct flagshm_segment *segment,
                                 void (*each)(void *context, const char *name, size_t bytes), void *context);

/* An ordinary publish by a tool that holds the lock while no server runs: the served bank copied into the other with one
 * flag's killed switch set, version + 1. -ENOENT: no such flag; -EALREADY: it is killed. (To take a kill back needs the file: start the server.) */
int flagshm_segment_kill(struct flagshm_segment *segment, const char *flag, struct flagshm_error *error);

/* Sets ALL_CONTROL on the table of an instance without the lock: for a server that holds it and does not answer. An atomic OR and a wake. Needs
 * write permission on the object. 0 or -errno. */
int flagshm_segment_force_all_control(const char *dir, const char *instance, struct flagshm_error *error);

#endif
