/* stress_server: the real server, SIGKILLed at random moments while its file is edited, and readers of two processes that check
 * every answer: no mix of two tables, no version that runs back, no read without end.
 *
 * Usage: stress_server FLAGSHMD [KILLS]   (150)
 *
 * All texts and the share of a table come from one number, so that an answer made of two tables shows. That this check can fail
 * is shown by stress_latch, whose readers leave the re-check out. */
#undef NDEBUG
#include "client/flagshm.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#define READERS 2
#define FLAGS   40

struct shared {
    uint64_t reads[READERS], versions[READERS], mixes[READERS], backwards[READERS], longest_ns[READERS],
        errors[READERS];
    int is_over;
};

static uint64_t mono_ns(void)
{
    return flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
}

static void nap_us(long us)
{
    struct timespec span = {us / 1000000, us % 1000000 * 1000};

    nanosleep(&span, NULL);
}

static void write_file(const char *dir, unsigned number)
{
    char path[128], fresh[128];
    FILE *out;
    int i;

    snprintf(path, sizeof path, "%s/flags.json", dir);
    snprintf(fresh, sizeof fresh, "%s/flags.json.new", dir);
    out = fopen(fresh, "w");
    assert(out);
    fprintf(out, "{\"flags\": {");
    for (i = 0; i < FLAGS; i++)
        fprintf(out,
                "%s\"f%d\": {\"control\": \"c-%u\", \"variant\": {\"model\": \"v-%u\", \"prompt\": \"%u %u "
                "%u\"}, "
                "\"rollout_pct\": %u}",
                i ? ", " : "", i, number, number, number, number, number, number % 99 + 1);
    fprintf(out, "}}\n");
    assert(fclose(out) == 0 && rename(fresh, path) == 0);
}

/* False where the parts of an answer do not come from one number. */
static bool is_whole(const struct flagshm_decision *d)
{
    unsigned long number = strtoul(d->model + 2, NULL, 10);
    char value[256];

    if (d->reason != FLAGSHM_SPLIT || d->rollout_mpct != (number % 99 + 1) * 1000 || d->model[1] != '-')
        return false;
    if (d->arm == 0)
        snprintf(value, sizeof value, "c-%lu", number);
    else
        snprintf(value, sizeof value, "{\"model\":\"v-%lu\",\"prompt\":\"%lu %lu %lu\"}", number, number,
                 number, number);
    return strcmp(d->value, value) == 0 && d->model[0] == (d->arm == 0 ? 'c' : 'v');
}

static void read_on(struct shared *shared, int reader, const char *instance)
{
    struct flagshm fs;
    struct flagshm_decision d;
    uint64_t last = 0, i;
    char flag[8], id[24];

    while (flagshm_open(&fs, instance) != 0) {
        flagshm_close(&fs);
        nap_us(1000);
    }
    for (i = 0; !__atomic_load_n(&shared->is_over, __ATOMIC_RELAXED); i++) {
        uint64_t begin = mono_ns(), took;

        snprintf(flag, sizeof flag, "f%d", (int)(i % FLAGS));
        snprintf(id, sizeof id, "user-%llu", (unsigned long long)i);
        (void)flagshm_decide(&fs, flag, id, &d);
        took = mono_ns() - begin;
        shared->reads[reader]++;
        shared->longest_ns[reader] = took > shared->longest_ns[reader] ? took : shared->longest_ns[reader];
        shared->errors[reader] += d.reason == FLAGSHM_GENERAL || d.reason == FLAGSHM_FLAG_NOT_FOUND;
        shared->mixes[reader] += !is_whole(&d);
        shared->backwards[reader] += d.version < last;
        shared->versions[reader] += d.version != last;
        last = d.version;
    }
    flagshm_close(&fs);
}

static pid_t start_server(const char *program, const char *dir, const char *instance)
{
    char file[128], state[128], sock[128];
    pid_t pid;

    snprintf(file, sizeof file, "%s/flags.json", dir);
    snprintf(state, sizeof state, "%s/state", dir);
    snprintf(sock, sizeof sock, "%s/sock", dir);
    pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        FILE *log = freopen("/dev/null", "w", stderr);

        assert(log);
        execl(program, program, "--file", file, "--instance", instance, "--dir", dir, "--state-dir", state,
              "--socket", sock, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void end_child(pid_t pid, int signal)
{
    int status;

    kill(pid, signal);
    assert(waitpid(pid, &status, 0) == pid);
    assert(!WIFEXITED(status) || WEXITSTATUS(status) != 127);
}

static int verdict(const struct shared *shared, unsigned kills)
{
    int reader, code = 0;

    for (reader = 0; reader < READERS; reader++) {
        printf("reader %d: %llu reads, %llu versions seen, %llu mixes, %llu backwards, %llu without an "
               "answer, longest %.1f ms\n",
               reader, (unsigned long long)shared->reads[reader],
               (unsigned long long)shared->versions[reader], (unsigned long long)shared->mixes[reader],
               (unsigned long long)shared->backwards[reader], (unsigned long long)shared->errors[reader],
               (double)shared->longest_ns[reader] / 1e6);
        if (shared->mixes[reader] || shared->backwards[reader] || shared->errors[reader] ||
            shared->reads[reader] < 1000 || shared->versions[reader] < kills / 10)
            code = 1;
    }
    return code;
}

int main(int argc, char **argv)
{
    const char *program = argc > 1 ? argv[1] : "";
    unsigned kills = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 150, i, number = 1;
    char dir[] = "/tmp/flagshm-storm-XXXXXX", instance[32], command[64];
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct flagshm probe;
    pid_t server, readers[READERS];
    int code;

    assert(shared != MAP_FAILED && mkdtemp(dir) && chmod(dir, 0755) == 0);
    snprintf(instance, sizeof instance, "storm%d", (int)getpid());
    setenv("FLAGSHM_DIR", dir, 1);
    write_file(dir, number);
    server = start_server(program, dir, instance);
    for (i = 0; i < READERS; i++) {
        readers[i] = fork();
        assert(readers[i] >= 0);
        if (readers[i] == 0) {
            read_on(shared, (int)i, instance);
            _exit(0);
        }
    }
    (void)flagshm_open(&probe, instance);
    assert(flagshm_wait(&probe, 0, 10000) == 0);
    srand(1);
    for (i = 0; i < kills; i++) {
        uint64_t seen = flagshm_version(&probe);

        write_file(dir, ++number);
        nap_us(rand() % 3000);
        write_file(dir, ++number);
        if (i % 4 == 0) /* now and then let it come to the end of a publish, else catch it anywhere */
            (void)flagshm_wait(&probe, seen, 2000);
        else
            nap_us(rand() % 25000);
        end_child(server, SIGKILL);
        server = start_server(program, dir, instance);
    }
    assert(flagshm_wait(&probe, flagshm_version(&probe), 5000) == 0 || flagshm_version(&probe) != 0);
    __atomic_store_n(&shared->is_over, 1, __ATOMIC_RELAXED);
    for (i = 0; i < READERS; i++)
        assert(waitpid(readers[i], NULL, 0) == readers[i]);
    nap_us(300000);
    end_child(server, SIGTERM);
    flagshm_close(&probe);
    code = verdict(shared, kills);
    printf("%u servers killed: %s\n", kills, code == 0 ? "readers were never harmed" : "FAILED");
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) == 0 ? code : 1;
}
