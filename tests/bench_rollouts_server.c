/* bench_rollouts_server: a server with rollouts, for those who measure it from outside. */
#include "tests/bench_rollouts.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_NS UINT64_C(20000000000)

void bench_sleep_ms(long ms)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};

    (void)nanosleep(&span, NULL);
}

void bench_end_process(pid_t pid, int signal_number)
{
    if (pid > 0) {
        (void)kill(pid, signal_number);
        (void)waitpid(pid, NULL, 0);
    }
}

void *bench_share(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        bench_die("no shared memory");
    return memory;
}

void bench_unshare(void *memory, size_t bytes)
{
    (void)munmap(memory, bytes);
}

bool bench_book(struct flagshm *fs, const char *flag, unsigned user, unsigned fails_every)
{
    struct flagshm_outcome started = {.event = FLAGSHM_STARTED}, finished = {.http_status = 200,
                                                                             .latency_ns = 800000000,
                                                                             .output_tokens = 100,
                                                                             .input_tokens = 500,
                                                                             .json_checked = true,
                                                                             .json_valid = true};
    struct flagshm_decision d;
    char id[32] = "user-00000000";
    int i;

    finished.latency_ns += (uint64_t)(user % 64) * 10000000u;
    finished.output_tokens += user % 50;
    for (i = 12; user > 0 && i > 4; i--, user /= 10)
        id[i] = (char)('0' + user % 10);
    (void)flagshm_decide(fs, flag, id, &d);
    if (d.slot == FLAGSHM_NO_SLOT)
        return false;
    if (d.id_hash % fails_every == 0)
        finished.http_status = 500;
    return flagshm_record(fs, &d, &started) == 0 && flagshm_record(fs, &d, &finished) == 0;
}

static void write_flags(const struct bench_rollouts *r, unsigned flags, const char *hold)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    unsigned i;

    if (out == NULL)
        bench_die("no memory");
    (void)fprintf(out, "{\"flags\": {");
    for (i = 0; i < flags; i++)
        (void)fprintf(out,
                      "%s\n\"f%u\": {\"control\": \"claude-haiku-4-5\", \"variant\": \"claude-sonnet-4-5\", "
                      "\"rollout\": {\"plan\": [{\"pct\": 50}], \"hold\": \"%s\"}}",
                      i > 0 ? "," : "", i, hold);
    (void)fprintf(out, "}}\n");
    (void)fclose(out);
    bench_write_file(r->file, text, bytes);
    free(text);
}

static void start_server(struct bench_rollouts *r)
{
    char path[4096];
    int fd;

    (void)snprintf(path, sizeof path, "%s/server/flagshmd", r->setup->bin);
    r->server = fork();
    if (r->server == 0) {
        bench_end_with_parent();
        bench_pin(r->setup->cpu[1]);
        fd = open(r->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd >= 0)
            (void)dup2(fd, STDERR_FILENO);
        execl(path, path, "--file", r->file, "--instance", r->instance, "--dir", r->setup->dir, "--state-dir",
              r->state, "--socket", r->socket, (char *)NULL);
        _exit(127);
    }
    if (r->server < 0)
        bench_die("no process for flagshmd");
}

double bench_rollouts_share(struct bench_rollouts *r, unsigned flag)
{
    char name[16];

    (void)snprintf(name, sizeof name, "f%u", flag);
    return flagshm_rollout_pct(&r->fs, name);
}

void bench_rollouts_open(struct bench_rollouts *r, const struct bench_setup *setup, const char *instance,
                         unsigned flags, const char *hold)
{
    uint64_t limit;
    unsigned i;

    memset(r, 0, sizeof *r);
    r->setup = setup;
    r->instance = instance;
    (void)snprintf(r->file, sizeof r->file, "%s/%s.json", setup->dir, instance);
    (void)snprintf(r->state, sizeof r->state, "%s/%s-state", setup->dir, instance);
    (void)snprintf(r->socket, sizeof r->socket, "%s/%s.sock", setup->dir, instance);
    (void)snprintf(r->log, sizeof r->log, "%s/%s.log", setup->dir, instance);
    write_flags(r, flags, hold);
    start_server(r);
    limit = bench_now_ns() + START_NS;
    (void)flagshm_open(&r->fs, instance);
    for (i = 0; i < flags; i++)
        while (bench_rollouts_share(r, i) != 50) {
            if (bench_now_ns() > limit)
                bench_die("flag f%u does not start: see %s", i, r->log);
            bench_sleep_ms(10);
        }
    bench_sleep_ms(2500); /* short wash-ins are over, and were seen to be */
}

void bench_rollouts_close(struct bench_rollouts *r)
{
    flagshm_close(&r->fs);
    bench_end_process(r->server, SIGTERM);
}
