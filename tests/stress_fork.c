/* stress_fork: one handle, many users. A plain program, so that the thread sanitizer can look at it. Exit code 0 when
 *  - 8 workers forked from an attached parent, and a program that one of them executes, all decide by a publish made later;
 *  - 8 threads that share one handle while the segment is replaced 20 times never see a version run back or a mix, and go on by
 *    the last segment that the handle can follow;
 *  - threads that fork in the midst of all that leave children that can decide.
 * Negative control: a worker that is told to look at another instance must not see the publish. */
#include "table_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define WORKERS      8
#define REPLACEMENTS 20

static struct segment_fixture fix;
static struct flagshm_segment segment;
static struct flagshm_error error;
static struct flagshm fs;
static int faults;

static void fault(const char *what, uint64_t number)
{
    (void)fprintf(stderr, "stress_fork: %s (%" PRIu64 ")\n", what, number);
    __atomic_fetch_add(&faults, 1, __ATOMIC_RELAXED);
}

/* Version v: the share is v, and the model names it: a mix of two tables shows. */
static bool publish(void)
{
    uint64_t version = flagshm_segment_version(&segment) + 1;
    char text[200];
    int code;

    (void)snprintf(text, sizeof text,
                   "{\"flags\": {\"f\": {\"control\": \"c-%" PRIu64 "\", \"variant\": \"v-%" PRIu64
                   "\", \"rollout_pct\": %" PRIu64 "}}}",
                   version, version, version % 100);
    code = segment_fixture_publish(&segment, text, NULL, &error);
    if (code != 0)
        fault(error.text, (uint64_t)-code);
    return code == 0;
}

static bool is_whole(const struct flagshm_decision *d)
{
    char model[32];

    (void)snprintf(model, sizeof model, "%c-%" PRIu64, d->arm ? 'v' : 'c', d->version);
    return strcmp(d->model, model) == 0 && d->rollout_mpct == d->version % 100 * 1000;
}

/* Until the version is there, for 20 seconds at most; exit code 0 when it came. */
static int see(struct flagshm *handle, uint64_t version)
{
    struct flagshm_decision d;
    int left;

    for (left = 2000; left > 0; left--) {
        (void)flagshm_decide(handle, "f", "u", &d);
        if (d.version >= version)
            return is_whole(&d) ? 0 : 1;
        (void)usleep(10000);
    }
    return 2;
}

static int executed(const char *version)
{
    if (flagshm_open(&fs, NULL) != 0)
        return 3;
    return see(&fs, strtoull(version, NULL, 10));
}

static int worker(const char *self, int number, uint64_t version)
{
    char text[24];

    if (number == 0) { /* an exec'ed child opens the table itself */
        (void)snprintf(text, sizeof text, "%" PRIu64, version);
        (void)execl(self, self, "executed", text, (char *)NULL);
        return 4;
    }
    return see(&fs, version);
}

static int code_of(pid_t pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void fork_workers(const char *self)
{
    uint64_t version = flagshm_segment_version(&segment) + 1;
    pid_t pids[WORKERS];
    int i;

    for (i = 0; i < WORKERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(worker(self, i, version));
    }
    (void)usleep(20000);
    (void)publish();
    for (i = 0; i < WORKERS; i++) {
        int code = code_of(pids[i]);
        if (code != 0)
            fault("a worker did not see the publish; its code", (uint64_t)code);
    }
}

/* The same test with the table taken away: it must fail, else it shows nothing. */
static void fork_blind_worker(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct flagshm blind;
        struct flagshm_decision d;

        (void)flagshm_open(&blind, "nobody-publishes-here");
        (void)flagshm_decide(&blind, "f", "u", &d);
        _exit(d.version >= flagshm_segment_version(&segment));
    }
    if (code_of(pid) != 0)
        fault("a worker without a table saw the publish", 0);
}

struct reader {
    pthread_t thread;
    bool forks;
    const int *stop;
    uint64_t decisions, segments;
};

static void fork_and_decide(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct flagshm_decision d;

        (void)alarm(20);
        _exit(flagshm_decide(&fs, "f", "u", &d) != FLAGSHM_SPLIT || !is_whole(&d));
    }
    if (pid > 0 && code_of(pid) != 0)
        fault("a child forked in the midst cannot decide", 0);
}

static void *read_all_the_time(void *argument)
{
    struct reader *r = argument;
    struct flagshm_decision d;
    struct flagshm_ref ref;
    uint64_t version = 0, segment_id = 0;

    (void)flagshm_resolve(&fs, "f", &ref);
    while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
        if (r->decisions % 2)
            (void)flagshm_decide(&fs, "f", "u", &d);
        else
            (void)flagshm_decide_ref(&fs, &ref, "u", &d);
        if (d.version < version)
            fault("a version ran back", d.version);
        if (!is_whole(&d))
            fault("a mix of two tables", d.version);
        r->segments += d.segment_id != segment_id;
        segment_id = d.segment_id;
        version = d.version;
        if (r->forks && r->decisions % 512 == 0)
            fork_and_decide();
        r->decisions++;
    }
    return NULL;
}

static void replace_under_threads(void)
{
    struct reader readers[WORKERS];
    struct flagshm_decision d;
    uint64_t followed = 0;
    int stop = 0, i;

    for (i = 0; i < WORKERS; i++) {
        readers[i] = (struct reader){.stop = &stop, .forks = i == 0};
        if (pthread_create(&readers[i].thread, NULL, read_all_the_time, &readers[i]) != 0)
            fault("no thread", (uint64_t)i);
    }
    for (i = 0; i < REPLACEMENTS; i++) {
        (void)usleep(10000);
        flagshm_segment_forget(&segment);
        (void)publish();
        if (i + 1 < FLAGSHM_ATTACHMENTS_MAX) {
            if (see(&fs, flagshm_segment_version(&segment)) != 0)
                fault("a replacement was not followed", (uint64_t)i + 1);
            followed = flagshm_segment_version(&segment);
        }
        (void)publish();
        if (i + 1 < FLAGSHM_ATTACHMENTS_MAX)
            followed++;
    }
    (void)usleep(10000);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < WORKERS; i++) {
        (void)pthread_join(readers[i].thread, NULL);
        if (readers[i].decisions == 0)
            fault("a thread made no decision", (uint64_t)i);
    }
    (void)flagshm_decide(&fs, "f", "u", &d);
    if (d.reason != FLAGSHM_SPLIT || d.version != followed)
        fault("beyond its attachments the handle should stay on the last one; it is at version", d.version);
    if (fs.map_->attachments != FLAGSHM_ATTACHMENTS_MAX)
        fault("attachments held", fs.map_->attachments);
    flagshm_close(&fs);
    if (flagshm_open(&fs, NULL) != 0 || see(&fs, flagshm_segment_version(&segment)) != 0)
        fault("opened again it should be at the newest", flagshm_version(&fs));
    printf("%" PRIu64 " decisions of the first thread, %" PRIu64 " segments seen\n", readers[0].decisions,
           readers[0].segments);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "executed") == 0)
        return executed(argv[2]);
    segment_fixture_begin(&fix, false);
    if (flagshm_segment_open(&segment, &fix.options, &error) != 0 || !publish() ||
        flagshm_open(&fs, NULL) != 0) {
        fault(error.text, 0);
    } else {
        fork_workers("/proc/self/exe");
        fork_blind_worker();
        replace_under_threads();
        flagshm_close(&fs);
        flagshm_segment_close(&segment);
    }
    segment_fixture_end(&fix);
    return faults != 0;
}
