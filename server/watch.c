/* watch: when to look at the file, and what of it is news. The clock comes as an argument; the directories are
 * watch_way's matter, the reading is watch_read's.
 *
 * Each look first walks the way, so that what is to be watched is watched before the file is read: a change after the
 * read makes an event. Whether anything changed is told by the bytes alone. */
#include "server/watch.h"
#include "server/watch_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS           UINT64_C(1000000)
#define QUIET_NS     (50 * MS)
#define QUIET_MAX_NS (2000 * MS) /* a writer that never pauses is looked at all the same */
#define DOUBT_NS     (100 * MS)
#define DOUBT_MAX_NS (2000 * MS) /* bytes that are wrong in a new way each time are believed at last */
#define STAT_NS      (2000 * MS)
#define CONTENT_NS   (60000 * MS)
#define NEVER        UINT64_MAX
#define EVENT_BYTES  16384 /* a read takes some 500 events */
#define READS_MAX    128   /* of events in one go: four queues of the kernel's default length */
#define LOOKS_MAX    3     /* when the file was replaced while it was read */

struct flagshm_watch {
    char path[PATH_MAX];
    int inotify_fd;
    struct flagshm_way way;

    char *text; /* as last reported; NULL: nothing was, or it was reported gone */
    size_t bytes;
    struct flagshm_stamp stamp; /* of the last look */
    int reported_code;          /* why it was reported gone; 0: it was not */

    bool is_fresh; /* whatever is found is news */
    bool is_racy;  /* the times of a file are coarse: what changed is read once more at the next poll */
    uint64_t quiet_since, quiet_due;
    uint64_t missing_due;            /* when what cannot be read is believed to be so */
    uint64_t doubt_since, doubt_due; /* the text that the caller could not use */
    uint64_t stat_due, content_due;
};

static int absolute_path(char path[PATH_MAX], const char *given, struct flagshm_error *error)
{
    size_t length = strlen(given), base = 0;

    if (!given[0])
        return flagshm_error_set(error, -EINVAL, "the path of the flag file is empty");
    if (given[0] != '/') {
        if (!getcwd(path, PATH_MAX))
            return flagshm_error_set(error, -errno,
                                     "%s is relative, and the working directory cannot be told: %s", given,
                                     strerror(errno));
        base = strlen(path);
        if (base > 1)
            path[base++] = '/';
    }
    while (length > 1 && given[length - 1] == '/')
        length--;
    if (base + length >= PATH_MAX)
        return flagshm_error_set(error, -ENAMETOOLONG,
                                 "the path of the flag file is %zu bytes long, at most %d are possible",
                                 base + length, PATH_MAX - 1);
    memcpy(path + base, given, length);
    path[base + length] = '\0';
    return 0;
}

static void say_polling(const struct flagshm_watch *watch, int code, struct flagshm_error *error)
{
    static const char seen[] = "changes are seen within 2 seconds only";

    if (code == EMFILE)
        (void)flagshm_error_set(error, 0,
                                "inotify cannot be used for %s: %s; %s: raise "
                                "fs.inotify.max_user_instances (sysctl), or the limit of open files",
                                watch->path, strerror(code), seen);
    else if (code == ENOSPC)
        (void)flagshm_error_set(
            error, 0, "inotify has no watch left for %s; %s: raise fs.inotify.max_user_watches (sysctl)",
            watch->path, seen);
    else
        (void)flagshm_error_set(
            error, 0, "the directories of %s cannot be watched: %s; %s: give read permission on them",
            watch->path, strerror(code), seen);
}

int flagshm_watch_open(struct flagshm_watch **result, const char *path, struct flagshm_error *error)
{
    struct flagshm_watch *watch = calloc(1, sizeof *watch);
    int code;

    *result = NULL;
    if (!watch)
        return flagshm_error_set(error, -ENOMEM, "out of memory");
    if (error)
        error->text[0] = '\0';
    code = absolute_path(watch->path, path, error);
    if (code) {
        free(watch);
        return code;
    }
    watch->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->inotify_fd < 0)
        say_polling(watch, errno, error);
    /* Already here, so that the caller learns now what will not work. */
    flagshm_way_walk(&watch->way, watch->inotify_fd, watch->path);
    if (watch->inotify_fd >= 0 && watch->way.watch_error)
        say_polling(watch, watch->way.watch_error, error);
    flagshm_watch_again(watch);
    *result = watch;
    return 0;
}

void flagshm_watch_close(struct flagshm_watch *watch)
{
    if (!watch)
        return;
    if (watch->inotify_fd >= 0)
        (void)close(watch->inotify_fd);
    free(watch->text);
    free(watch);
}

int flagshm_watch_fd(const struct flagshm_watch *watch)
{
    return watch->inotify_fd;
}

bool flagshm_watch_is_polling_only(const struct flagshm_watch *watch)
{
    return watch->inotify_fd < 0 || watch->way.watch_error != 0;
}

/* ---- when ---- */

/* Not even one look since the start. */
static bool is_unread(const struct flagshm_watch *watch)
{
    return watch->is_fresh && watch->stat_due == 0;
}

static void wait_for_quiet(struct flagshm_watch *watch, uint64_t mono_ns)
{
    uint64_t latest;

    if (watch->quiet_due == NEVER)
        watch->quiet_since = mono_ns;
    latest = watch->quiet_since + QUIET_MAX_NS;
    watch->quiet_due = mono_ns + QUIET_NS < latest ? mono_ns + QUIET_NS : latest;
}

/* Takes all events. True where the file is to be looked at at once. The last word counts: who closed the file and then
 * wrote to it again is in the middle of something. */
static bool take_events(struct flagshm_watch *watch, uint64_t mono_ns)
{
    char buffer[EVENT_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
    const struct inotify_event *event;
    bool is_changed = false;
    int reads;

    for (reads = 0; watch->inotify_fd >= 0 && reads < READS_MAX; reads++) {
        ssize_t got = read(watch->inotify_fd, buffer, sizeof buffer), at;

        if (got <= 0)
            break;
        for (at = 0; at < got; at += (ssize_t)(sizeof *event + event->len)) {
            event = (const struct inotify_event *)(const void *)(buffer + at);
            switch (flagshm_way_meaning(&watch->way, event)) {
            case FLAGSHM_WAY_NOISE:
                break;
            case FLAGSHM_WAY_CHANGED:
                is_changed = true;
                watch->quiet_due = NEVER;
                break;
            case FLAGSHM_WAY_TOUCHED:
                wait_for_quiet(watch, mono_ns);
                break;
            case FLAGSHM_WAY_MOVING:
                is_changed = false;
                wait_for_quiet(watch, mono_ns);
                break;
            }
        }
    }
    return is_changed;
}

/* The net: for file systems that make no events, for mounts that come over the directory, for mistakes of ours. What it
 * finds may be half done, since no event told of an end. */
static bool poll_finds_cause(struct flagshm_watch *watch, uint64_t mono_ns)
{
    struct flagshm_stamp now;

    watch->stat_due = mono_ns + STAT_NS;
    flagshm_way_walk(&watch->way, watch->inotify_fd, watch->path);
    flagshm_stamp_take(watch->path, &now);
    if (!flagshm_stamp_equal(&watch->stamp, &now)) {
        wait_for_quiet(watch, mono_ns);
        return false;
    }
    return watch->is_racy || watch->reported_code || mono_ns >= watch->content_due;
}

static bool is_look_due(struct flagshm_watch *watch, uint64_t mono_ns)
{
    if (take_events(watch, mono_ns) || is_unread(watch))
        return true;
    if (watch->quiet_due != NEVER)
        return mono_ns >= watch->quiet_due;
    if (mono_ns >= watch->missing_due || mono_ns >= watch->doubt_due)
        return true;
    return mono_ns >= watch->stat_due && poll_finds_cause(watch, mono_ns);
}

uint64_t flagshm_watch_deadline(const struct flagshm_watch *watch)
{
    uint64_t due = watch->stat_due;

    if (is_unread(watch))
        return 0;
    if (watch->quiet_due != NEVER)
        return watch->quiet_due;
    due = watch->missing_due < due ? watch->missing_due : due;
    return watch->doubt_due < due ? watch->doubt_due : due;
}

/* ---- what ---- */

static void forget_text(struct flagshm_watch *watch)
{
    free(watch->text);
    watch->text = NULL;
    watch->bytes = 0;
    watch->doubt_since = watch->doubt_due = NEVER;
}

/* It cannot be read. Who saves by unlinking, or moves a directory and back, makes that so for a moment: only what stays
 * so is news. */
static void take_missing(struct flagshm_watch *watch, uint64_t mono_ns, int code,
                         struct flagshm_watch_report *report)
{
    if (code == watch->reported_code && !watch->is_fresh) {
        watch->missing_due = NEVER;
        return;
    }
    if (!watch->is_fresh && mono_ns < watch->missing_due) {
        if (watch->missing_due == NEVER)
            watch->missing_due = mono_ns + DOUBT_NS;
        if (watch->doubt_due <= mono_ns)
            watch->doubt_due = watch->missing_due;
        return;
    }
    forget_text(watch);
    watch->missing_due = NEVER;
    watch->reported_code = code;
    watch->is_fresh = false;
    report->news = FLAGSHM_WATCH_GONE;
}

/* Takes over `text`. */
static void take_text(struct flagshm_watch *watch, uint64_t mono_ns, char *text, size_t bytes,
                      struct flagshm_watch_report *report)
{
    bool is_same = watch->text && bytes == watch->bytes && memcmp(text, watch->text, bytes) == 0;
    bool was_doubted = watch->doubt_since != NEVER;

    watch->missing_due = NEVER;
    watch->reported_code = 0;
    watch->content_due = mono_ns + CONTENT_NS;
    watch->is_racy = !is_same;
    if (is_same && !watch->is_fresh && mono_ns < watch->doubt_due) {
        free(text);
        return;
    }
    report->is_settled = was_doubted && (is_same || mono_ns - watch->doubt_since >= DOUBT_MAX_NS);
    free(watch->text);
    watch->text = text;
    watch->bytes = bytes;
    watch->doubt_due = NEVER;
    watch->is_fresh = false;
    report->news = FLAGSHM_WATCH_TEXT;
    report->text = text;
    report->bytes = bytes;
}

static void look(struct flagshm_watch *watch, uint64_t mono_ns, struct flagshm_watch_report *report)
{
    char *text = NULL;
    size_t bytes = 0;
    int result = -EAGAIN, looks;

    watch->quiet_due = NEVER;
    watch->stat_due = mono_ns + STAT_NS;
    for (looks = 0; result == -EAGAIN && looks < LOOKS_MAX; looks++) {
        flagshm_way_walk(&watch->way, watch->inotify_fd, watch->path);
        result =
            flagshm_read_stable(watch->path, watch->way.end, &text, &bytes, &watch->stamp, &report->error);
    }
    if (result == 0)
        take_text(watch, mono_ns, text, bytes, report);
    else if (result == -EAGAIN)
        wait_for_quiet(watch, mono_ns);
    else
        take_missing(watch, mono_ns, -result, report);
    if (report->news != FLAGSHM_WATCH_GONE)
        report->error.text[0] = '\0';
}

void flagshm_watch_work(struct flagshm_watch *watch, uint64_t mono_ns, struct flagshm_watch_report *report)
{
    *report = (struct flagshm_watch_report){.news = FLAGSHM_WATCH_NOTHING};
    /* The caller had its chance to doubt the last report. */
    if (watch->doubt_due == NEVER)
        watch->doubt_since = NEVER;
    if (is_look_due(watch, mono_ns))
        look(watch, mono_ns, report);
}

void flagshm_watch_again(struct flagshm_watch *watch)
{
    forget_text(watch);
    watch->is_fresh = true;
    watch->reported_code = 0;
    watch->quiet_due = watch->missing_due = NEVER;
    watch->stat_due = watch->content_due = 0;
}

void flagshm_watch_doubt(struct flagshm_watch *watch, uint64_t mono_ns)
{
    if (!watch->text)
        return;
    if (watch->doubt_since == NEVER)
        watch->doubt_since = mono_ns;
    watch->doubt_due = mono_ns + DOUBT_NS;
}
