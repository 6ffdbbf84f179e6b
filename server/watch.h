/* watch: sees every change of one file, however it is made, by inotify on each directory that the path and its symbolic
 * links lead through, with a poll as net. It reports that the content changed, and the new bytes; it knows nothing of
 * flags.
 *
 * Looks at once after a rename, a close after writing, a deletion or an event that names a symbolic link on the way;
 * after a bare modification or creation it waits for the close or for 50 ms of quiet. Inode, size and times must be the
 * same before and after reading. One change, one report; a write of the same bytes is none. Only a regular file is
 * opened: nothing here ever waits. Time is an argument (CLOCK_MONOTONIC ns). One thread.
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
    FLAGSHM_WATCH_TEXT,    /* another content, or the doubted one once more: text and bytes are set */
    FLAGSHM_WATCH_GONE /* for 100 ms there has been no file that can be read; `error` says why. Once for each reason;
                            * when it is back its text is reported, whatever it is */
};

struct flagshm_watch_report {
    enum flagshm_watch_news news;
    bool
        is_settled; /* the text that was doubted stays like this (or has been wrong for 2 s, each time in another way):
                       * report its faults, and do not doubt it again */
    const char *text; /* with a NUL behind it; the watch's own, until the next work, again or close */
    size_t bytes;
    struct flagshm_error error;
};

/* Watches `path`, which need not exist yet, nor its directories. Where inotify has nothing left (-ENOSPC, -EMFILE) or may
 * not watch a directory (-EACCES), the poll alone serves: 0 all the same, and `error` says so with the mend; else its
 * text is "". -EINVAL, -ENAMETOOLONG, -ENOMEM. */
int flagshm_watch_open(struct flagshm_watch **watch, const char *path, struct flagshm_error *error);
void flagshm_watch_close(struct flagshm_watch *watch);
/* inotify's descriptor, the same for life; -1 where there is none. */
int flagshm_watch_fd(const struct flagshm_watch *watch);
/* Is a change seen only by the poll? May come and go with the directories and the limits: each poll tries again. */
bool flagshm_watch_is_polling_only(const struct flagshm_watch *watch);

/* Takes what is there to take and says whether the content changed. Call it when the fd is readable and when
 * `flagshm_watch_deadline` has come; the first call reads the file, and says at once where there is none. */
void flagshm_watch_work(struct flagshm_watch *watch, uint64_t mono_ns, struct flagshm_watch_report *report);
/* When to call again without an event: the end of a quiet period or of a doubt, or the next poll (of the file's status
 * each 2 s, of its content each minute). */
uint64_t flagshm_watch_deadline(const struct flagshm_watch *watch);
/* Forget what was seen: the next work reports the content again (SIGHUP). */
void flagshm_watch_again(struct flagshm_watch *watch);
/* The caller could not use the text that was reported last: it may be half written. If it is still the same after
 * 100 ms it is reported once more, is_settled; another text is reported as always. */
void flagshm_watch_doubt(struct flagshm_watch *watch, uint64_t mono_ns);

#endif
