/* A worker that decides by one flag and notices each change: what tools/quickstart runs.
 *
 *     example_watch FLAG [CHANGES [FILE]]
 *
 * Decides for the same 1000 users each time, prints how many get which model, and sleeps in flagshm_wait until the table is
 * another. Ends after CHANGES changes (0 or none: never). With FILE, the flag file, it also says how long after the file's
 * change it decided by it: a thread notes when the kernel reports that change. A program of yours needs no such thread, and no
 * flagshm_wait either: its next decision is made from the new table.
 */
#include "flagshm.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <time.h>

enum { USERS = 1000 };

struct edit_clock {
    int fd;
    const char *file, *name; /* its path; its name in its directory */
    uint64_t changed_mono_ns;
};

static uint64_t mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *note_edits(void *argument)
{
    struct edit_clock *clock = argument;
    char buffer[4096] __attribute__((aligned(8)));
    ssize_t bytes;

    while ((bytes = read(clock->fd, buffer, sizeof buffer)) > 0 || (bytes < 0 && errno == EINTR)) {
        uint64_t now = mono_ns();
        ssize_t at = 0;
        while (at < bytes) {
            struct inotify_event event;
            memcpy(&event, buffer + at, sizeof event);
            if (event.len > 0 && strcmp(buffer + at + sizeof event, clock->name) == 0)
                __atomic_store_n(&clock->changed_mono_ns, now, __ATOMIC_RELAXED);
            at += (ssize_t)(sizeof event + event.len);
        }
    }
    return NULL;
}

/* Notes the time at which FILE is closed after writing, or another file takes its name. */
static bool edit_clock_start(struct edit_clock *clock, const char *file)
{
    char directory[4096];
    const char *slash = strrchr(file, '/');
    size_t bytes = slash == NULL ? 0 : (size_t)(slash - file);
    pthread_t thread;

    if (bytes >= sizeof directory)
        return false;
    memcpy(directory, file, bytes);
    directory[bytes] = '\0';
    clock->file = file;
    clock->name = slash == NULL ? file : slash + 1;
    clock->fd = inotify_init1(IN_CLOEXEC);
    return clock->fd >= 0 &&
           inotify_add_watch(clock->fd,
                             slash == NULL ? "."
                             : bytes == 0  ? "/"
                                           : directory,
                             IN_CLOSE_WRITE | IN_MOVED_TO) >= 0 &&
           pthread_create(&thread, NULL, note_edits, clock) == 0 && pthread_detach(thread) == 0;
}

/* Says how long before the decision the file changed. Where the note was written only after the decision, the file's own time of change
 * bounds it: the kernel's coarse clock, up to 4 ms early. A note that is a second old belongs to an edit that changed no flag. */
static void edit_clock_print(struct edit_clock *clock, uint64_t decided_mono_ns)
{
    const struct timespec nap = {0, 1000000};
    uint64_t noted = 0;
    struct timespec now;
    struct stat status;
    double ms;
    int naps;

    for (naps = 0; naps < 50 && noted == 0; naps++) {
        noted = __atomic_exchange_n(&clock->changed_mono_ns, 0, __ATOMIC_RELAXED);
        if (noted == 0)
            (void)nanosleep(&nap, NULL);
    }
    if (noted == 0 || noted + 1000000000u < decided_mono_ns)
        return;
    if (noted <= decided_mono_ns) {
        printf("; decided so %.2f ms after the edit", (double)(decided_mono_ns - noted) / 1e6);
    } else if (stat(clock->file, &status) == 0 && clock_gettime(CLOCK_REALTIME, &now) == 0) {
        ms = (double)(now.tv_sec - status.st_ctim.tv_sec) * 1e3 +
             (double)(now.tv_nsec - status.st_ctim.tv_nsec) / 1e6 -
             (double)(mono_ns() - decided_mono_ns) / 1e6;
        printf("; decided so at most %.1f ms after the edit", ms > 0 ? ms : 0);
    }
}

/* Decides for the users and prints one line: all of them by one version, or they are decided anew. Returns that version. */
static uint64_t decide_all(struct flagshm *flags, const char *flag, uint64_t *decided_mono_ns)
{
    struct flagshm_decision d;
    char variant[128] = "", control[128] = "";
    unsigned in_variant, i;
    uint64_t version;

    do {
        version = flagshm_version(flags);
        in_variant = 0;
        for (i = 0; i < USERS; i++) {
            char user[32];
            snprintf(user, sizeof user, "user-%u", i);
            flagshm_decide(flags, flag, user, &d);
            if (i == 0)
                *decided_mono_ns = mono_ns();
            if (d.reason < FLAGSHM_FLAG_NOT_FOUND && d.version != version)
                break;
            snprintf(d.arm != 0 ? variant : control, sizeof variant, "%s", d.model);
            in_variant += d.arm != 0;
        }
    } while (i < USERS);
    if (d.reason >= FLAGSHM_FLAG_NOT_FOUND)
        printf("version %" PRIu64 ": %s", version, flagshm_reason_name(d.reason));
    else
        printf("version %" PRIu64 ": rollout %g %% (%s): %u of %u users get %s, %u get %s", version,
               (double)d.rollout_mpct / 1000, d.stage, in_variant, USERS,
               in_variant > 0 ? variant : "the variant", USERS - in_variant,
               in_variant < USERS ? control : "the control");
    return version;
}

int main(int argc, char **argv)
{
    struct edit_clock clock = {-1, NULL, NULL, 0};
    struct flagshm flags;
    uint64_t seen, decided;
    long changes, count;

    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: example_watch FLAG [CHANGES [FILE]]\n");
        return 2;
    }
    changes = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    if (argc > 3 && !edit_clock_start(&clock, argv[3])) {
        perror(argv[3]);
        return 1;
    }
    if (flagshm_open(&flags, NULL) != 0)
        fprintf(stderr, "no table yet: waiting for a server\n");
    flagshm_wait(&flags, 0, -1);
    seen = decide_all(&flags, argv[1], &decided);
    printf("\n");
    for (count = 0; changes <= 0 || count < changes; count++) {
        if (fflush(stdout) != 0)
            return 1;
        flagshm_wait(&flags, seen, -1);
        seen = decide_all(&flags, argv[1], &decided);
        if (clock.fd >= 0)
            edit_clock_print(&clock, decided);
        printf("\n");
    }
    flagshm_close(&flags);
    return fflush(stdout) != 0;
}
