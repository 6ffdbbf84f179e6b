/* bench_latency: from an edit of the flag file to a process that waits: the file is replaced by rename(), flagshmd sees it,
 * reads, checks, compiles and publishes; a reader in flagshm_wait() wakes and reads the flag.
 *
 * The edits number themselves by the share of one flag, so that each one is recognised, and one that never arrives is
 * counted. Both stamps are CLOCK_MONOTONIC, which is one clock for all processes of a host. */
#include "tests/bench_common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INSTANCE "bench-edit"

struct sighting { /* what the reader tells; less than PIPE_BUF, so it comes whole */
    uint64_t mono_ns;
    uint32_t mpct;
};

struct edit_run {
    const struct bench_setup *setup;
    size_t flags;
    char file[300], beside[320], state[300], socket[300], log[300];
    char *text;
    size_t bytes;
    char *digits; /* of the hot flag's share in text */
    pid_t server, reader;
    int sightings;
};

static void pause_ms(long ms)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};

    (void)nanosleep(&span, NULL);
}

/* ---- the three processes ---- */

static void start_server(struct edit_run *run)
{
    char path[4096], max[32];
    int fd;

    (void)snprintf(path, sizeof path, "%s/server/flagshmd", run->setup->bin);
    (void)snprintf(max, sizeof max, "%zu", run->flags);
    run->server = fork();
    if (run->server == 0) {
        bench_end_with_parent();
        bench_pin(run->setup->cpu[1]);
        fd = open(run->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd >= 0)
            (void)dup2(fd, STDERR_FILENO);
        execl(path, path, "--file", run->file, "--instance", INSTANCE, "--dir", run->setup->dir,
              "--state-dir", run->state, "--socket", run->socket, "--max-flags", max, (char *)NULL);
        _exit(127);
    }
    if (run->server < 0)
        bench_die("no process for flagshmd");
}

static void read_and_tell(const struct edit_run *run, int fd)
{
    struct flagshm flags;
    uint64_t seen = 0;

    bench_pin(run->setup->cpu[0]);
    (void)flagshm_open(&flags, INSTANCE);
    for (;;) {
        struct sighting sighting;

        if (flagshm_wait(&flags, seen, 10000) != 0)
            continue;
        sighting.mpct = (uint32_t)(flagshm_rollout_pct(&flags, "new_summarizer_model") * 1000 + 0.5);
        sighting.mono_ns = bench_now_ns();
        seen = flagshm_version(&flags);
        if (write(fd, &sighting, sizeof sighting) != (ssize_t)sizeof sighting)
            _exit(0);
    }
}

static void start_reader(struct edit_run *run)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        bench_die("no pipe");
    run->sightings = fds[0];
    run->reader = fork();
    if (run->reader == 0) {
        bench_end_with_parent();
        (void)close(fds[0]);
        read_and_tell(run, fds[1]);
    }
    if (run->reader < 0)
        bench_die("no process for the reader");
    (void)close(fds[1]);
}

static void end_process(pid_t pid, int signal_number)
{
    if (pid > 0) {
        (void)kill(pid, signal_number);
        (void)waitpid(pid, NULL, 0);
    }
}

/* ---- editing ---- */

static void write_share(struct edit_run *run, uint32_t mpct)
{
    char digits[8];

    (void)snprintf(digits, sizeof digits, "%02u.%03u", mpct / 1000 % 100, mpct % 1000);
    memcpy(run->digits, digits, 6);
}

/* When the reader saw that share; 0: not within 3 s. */
static uint64_t wait_for(const struct edit_run *run, uint32_t mpct)
{
    uint64_t limit = bench_now_ns() + UINT64_C(3000000000), now;
    struct sighting sighting;

    while ((now = bench_now_ns()) < limit) {
        struct pollfd wait = {.fd = run->sightings, .events = POLLIN};

        if (poll(&wait, 1, (int)((limit - now) / 1000000) + 1) <= 0)
            continue;
        if (read(run->sightings, &sighting, sizeof sighting) != (ssize_t)sizeof sighting)
            bench_die("the reader ended");
        if (sighting.mpct == mpct)
            return sighting.mono_ns;
    }
    return 0;
}

/* One edit by rename. Nanoseconds until it was seen; below 0: never. */
static double edit(struct edit_run *run, uint32_t mpct)
{
    uint64_t begin, seen;

    write_share(run, mpct);
    bench_write_file(run->beside, run->text, run->bytes);
    begin = bench_now_ns();
    if (rename(run->beside, run->file) != 0)
        bench_die("%s: %s", run->file, strerror(errno));
    seen = wait_for(run, mpct);
    return seen != 0 ? (double)(seen - begin) : -1;
}

static void edits(struct edit_run *run, int count, double goal_ns)
{
    double *ns = calloc((size_t)count, sizeof *ns);
    char what[80];
    int i, seen = 0, lost = 0;

    if (ns == NULL)
        bench_die("no memory");
    for (i = 0; i < count; i++) {
        double took = edit(run, 10001 + (uint32_t)i);

        if (took < 0)
            lost++;
        else
            ns[seen++] = took;
        pause_ms(2 + i % 3); /* the next one meets a server that sleeps */
    }
    (void)snprintf(what, sizeof what, "edit seen, %zu flags, half within", run->flags);
    bench_row_value(what, BENCH_NS, bench_median(ns, seen), bench_quantile(ns, seen, 0), '<', goal_ns);
    (void)snprintf(what, sizeof what, "edit seen, %zu flags, 99 %% within", run->flags);
    bench_row_value(what, BENCH_NS, bench_quantile(ns, seen, 0.99), -1, 0, 0);
    (void)snprintf(what, sizeof what, "edits lost, of %d", count);
    bench_row_value(what, BENCH_COUNT, lost, -1, '<', 0);
    free(ns);
}

static void give_up(const struct edit_run *run)
{
    FILE *log = fopen(run->log, "re");
    char line[512];

    bench_note("%zu flags: not measured: flagshmd did not publish", run->flags);
    while (log != NULL && fgets(line, sizeof line, log) != NULL)
        bench_progress("flagshmd: %.*s", (int)strcspn(line, "\n"), line);
    if (log != NULL)
        (void)fclose(log);
}

static void measure(const struct bench_setup *setup, size_t flags, int count, double goal_ns)
{
    struct edit_run run = {.setup = setup, .flags = flags};
    char command[700];

    bench_progress("from edit to reader, %zu flags", flags);
    (void)snprintf(run.file, sizeof run.file, "%s/edit.json", setup->dir);
    (void)snprintf(run.beside, sizeof run.beside, "%s.new", run.file);
    (void)snprintf(run.state, sizeof run.state, "%s/edit-state-%zu", setup->dir, flags);
    (void)snprintf(run.socket, sizeof run.socket, "%s/edit.sock", setup->dir);
    (void)snprintf(run.log, sizeof run.log, "%s/edit.log", setup->dir);
    run.text = bench_store_text(flags, 10000, &run.bytes);
    run.digits = strstr(run.text, "10.000");
    bench_write_file(run.file, run.text, run.bytes);
    start_server(&run);
    start_reader(&run);
    if (wait_for(&run, 10000) == 0 && wait_for(&run, 10000) == 0)
        give_up(&run);
    else
        edits(&run, count, goal_ns);
    end_process(run.reader, SIGKILL);
    end_process(run.server, SIGTERM);
    (void)close(run.sightings);
    (void)unlink(run.file);
    (void)snprintf(command, sizeof command, "%s/flagshm." INSTANCE ".table", setup->dir);
    (void)unlink(command);
    free(run.text);
}

void bench_group_latency(const struct bench_setup *setup)
{
    char path[4096];

    bench_group("From an edit to a waiting reader");
    (void)snprintf(path, sizeof path, "%s/server/flagshmd", setup->bin != NULL ? setup->bin : "");
    if (setup->bin == NULL || access(path, X_OK) != 0) {
        bench_note("not measured: there is no flagshmd");
        return;
    }
    measure(setup, 10, setup->is_quick ? 60 : 400, 0.3e6);
    measure(setup, 1000, setup->is_quick ? 40 : 200, 1.5e6);
    measure(setup, 10000, setup->is_quick ? 12 : 60, 15e6);
    bench_note("rename() to flagshm_wait() and a read in another process; the file lies on tmpfs");
}
