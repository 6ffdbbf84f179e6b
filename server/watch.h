/* watch: sees every change of one file, however it is made, by inotify on its directory and on its target's directory, with a poll as
 * net. It reports that the content changed, and the new bytes; it knows nothing of flags.
 *
 * Reads at once after a rename, a close after writing, a deletion or an event that names a symbolic link; after a bare modification or creation it
 * waits for the close or for 50 ms of quiet. Looks at inode, size and times before and after reading. One change, one report.
 * Time is an argument (CLOCK_MONOTONIC ns).
 */
#ifndef FLAGSHM_SERVER_WATCH_H
#define FLAGSHM_SERVER_WATCH_H

#include "server/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_watch;

enum flagshm_watch_news {
    FLAGSHM_WATCH_NOTHING, /* no change */
    FLAGSHM_WATCH_TEXT,    /* another content: text and bytes are set; valid until the next call */
    FLAGSHM_WATCH_GONE,    /* the file went away, or cannot be read (error says why); reported once */
};

struct flagshm_watch_report {
    enum flagshm_watch_news news;
    const char *text;
    size_t bytes;
    struct flagshm_error error;
};

/* Watches `path` (which need not exist yet). Where inotify has no watch left (-ENOSPC, -EMFILE) the poll alone serves, and `error` says so with
 * the sysctl that mends it; 0 all the same. */
int flagshm_watch_open(struct flagshm_watch **watch, const char *path, struct flagshm_error *error);
void flagshm_watch_close(struct flagshm_watch *watch);
int flagshm_watch_fd(const struct flagshm_watch *watch); /* inotify's; -1 where only the poll serves */
bool flagshm_watch_is_polling_only(const struct flagshm_watch *watch);

/* Takes what is there to take and says whether the content changed. Call it when the fd is readable and when `flagshm_watch_deadline` has
 * come; the first call reads the file. */
void flagshm_watch_work(struct flagshm_watch *watch, uint64_t mono_ns, struct flagshm_watch_report *report);
/* When to call again without an event: the end of a quiet period, or the next poll (stat each 2 s, hash each minute). */
uint64_t flagshm_watch_deadline(const struct flagshm_watch *watch);
/* Forget what was seen: the next work reports the content again (SIGHUP). */
void flagshm_watch_again(struct flagshm_watch *watch);
/* The caller could not use the text: look again soon (invalid text is believed only if it stays for 100 ms). */
void flagshm_watch_doubt(struct flagshm_watch *watch, uint64_t mono_ns);

#endif
