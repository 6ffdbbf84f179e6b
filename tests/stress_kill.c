/* stress_kill: writers that are killed by SIGKILL at random moments, one after the other, and readers of several processes that check
 * every word of every decision meanwhile. Usage: stress_kill [KILLS [READERS]]; without an argument 400 kills, or as many as a
 * busy machine does in a minute.
 *
 * A writer opens the segment as a server does at its start, adopts it, and publishes at full speed; now and then it replaces the
 * segment by a new one. So it dies in the middle of opening, of filling a bank, of moving seq, of building, linking, renaming,
 * retiring. Exit code 0: no mix of two tables, no version that runs back, every successor could go on from what it found, and
 * readers go on while no writer lives. Compiled a second time as stress_kill_unchecked it must find a mix, and ends with the first. */
#include "stress_world.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define READERS_MAX  8
#define REPLACE_ONE  16u   /* of so many publishes one replaces the segment */
#define REOPEN_EVERY 4096u /* decisions; a handle holds a limited number of attachments */

struct tally { /* of a reader, in memory that all processes share */
    uint64_t decisions, mixes, backwards, gave_up, versions, reopened, worst_ns;
    char what[64];
};

struct board {
    struct tally readers[READERS_MAX];
    uint64_t published, replaced, adopted, built; /* by all writers */
    int kills, stop, failed;
    char failure[1100];
};

static struct world world;
static struct board *board;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void add(uint64_t *counter, uint64_t more)
{
    (void)__atomic_fetch_add(counter, more, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void nap_us(long us)
{
    struct timespec span = {us / 1000000, us % 1000000 * 1000};

    (void)nanosleep(&span, NULL);
}

/* ---- a writer: never comes back ---- */

static void writer_fails(const char *what, const char *text)
{
    (void)snprintf(board->failure, sizeof board->failure, "%s: %s", what, text);
    __atomic_store_n(&board->failed, 1, __ATOMIC_RELEASE);
    _exit(1);
}

static void write_until_killed(uint64_t seed, bool must_adopt)
{
    struct flagshm_segment segment;
    struct flagshm_error error = {""};

    if (flagshm_segment_open(&segment, &world.options, &error) != 0)
        writer_fails("open", error.text);
    if (must_adopt && !segment.is_adopted)
        writer_fails("open", "the dead writer left no table that could be adopted");
    add(segment.is_adopted ? &board->adopted : &board->built, 1);
    for (;;) {
        bool replaces = segment.header && next_random(&seed) % REPLACE_ONE == 0;

        if (replaces)
            flagshm_segment_forget(&segment);
        if (world_publish(&world, &segment, &error) != 0)
            writer_fails("publish", error.text);
        add(&board->published, 1);
        if (replaces)
            add(&board->replaced, 1);
    }
}

/* ---- a reader ---- */

static uint64_t cpu_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void read_until_stopped(struct tally *t, uint64_t seed)
{
    struct flagshm_decision d;
    struct flagshm fs;
    uint64_t last = 0, began;

    (void)flagshm_open(&fs, world.instance);
    while (!__atomic_load_n(&board->stop, __ATOMIC_RELAXED)) {
        uint64_t random = next_random(&seed);
        uint32_t n = (uint32_t)random % WORLD_FLAGS, id = (uint32_t)(random >> 8) % WORLD_IDS;
        const char *wrong;

        if (get(&t->decisions) % REOPEN_EVERY == 0) {
            flagshm_close(&fs);
            (void)flagshm_open(&fs, world.instance);
            add(&t->reopened, 1);
        }
        began = cpu_ns();
        (void)flagshm_decide(&fs, world.flags[0][n].name, world.ids[id], &d);
        began = cpu_ns() - began;
        t->worst_ns = began > t->worst_ns ? began : t->worst_ns;
        add(&t->decisions, 1);
        if (d.reason == FLAGSHM_GENERAL) {
            add(&t->gave_up, 1);
            continue;
        }
        add(&t->versions, d.version != last);
        add(&t->backwards, d.version < last);
        last = d.version;
        wrong = world_check(&world, &fs, n, id, &d);
        if (wrong) {
            (void)snprintf(t->what, sizeof t->what, "%s", wrong);
            add(&t->mixes, 1);
        }
    }
    flagshm_close(&fs);
}

/* ---- the storm ---- */

static bool is_over(int readers)
{
    int i;

    if (__atomic_load_n(&board->failed, __ATOMIC_ACQUIRE))
        return true;
#ifdef FLAGSHM_STRESS_UNCHECKED
    for (i = 0; i < readers; i++)
        if (get(&board->readers[i].mixes) != 0)
            return true;
#else
    (void)readers;
    (void)i;
#endif
    return false;
}

/* While no writer lives, each reader goes on deciding. */
static bool readers_go_on(int readers)
{
    int i, waited;

    for (i = 0; i < readers; i++) {
        uint64_t goal = get(&board->readers[i].decisions) + 100;

        for (waited = 0; get(&board->readers[i].decisions) < goal; waited++) {
            if (waited == 20000)
                return false;
            nap_us(500);
        }
    }
    return true;
}

/* Kills a writer after a random time: in half of all cases counted from its birth, else from its first publish. */
static int kill_one(uint64_t *seed, bool must_adopt)
{
    uint64_t random = next_random(seed), before = get(&board->published);
    pid_t writer = fork();
    int status = 0;

    if (writer < 0)
        return -errno;
    if (writer == 0)
        write_until_killed(random | 1, must_adopt);
    if (random % 2)
        while (get(&board->published) == before && !__atomic_load_n(&board->failed, __ATOMIC_ACQUIRE))
            nap_us(50);
    nap_us((long)(random >> 8) % 3000);
    (void)kill(writer, SIGKILL);
    if (waitpid(writer, &status, 0) != writer)
        return -errno;
    return WIFSIGNALED(status) ? 0 : -EPROTO;
}

static int storm(int kills, int readers, uint64_t limit_ns)
{
    uint64_t seed = (uint64_t)getpid() * 0x9e3779b97f4a7c15u | 1;
    uint64_t began = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
    int code = 0;

    while (board->kills < kills && code == 0 && !is_over(readers) &&
           flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - began < limit_ns) {
        code = kill_one(&seed, board->kills > 0);
        board->kills++;
        if (code == 0 && board->kills % 32 == 0 && !readers_go_on(readers)) {
            (void)snprintf(board->failure, sizeof board->failure, "a reader stands still after a kill");
            code = -ETIMEDOUT;
        }
    }
    return code;
}

static int verdict(int readers, int code)
{
    struct tally sum = {0};
    int i;

    for (i = 0; i < readers; i++) {
        const struct tally *t = &board->readers[i];

        sum.decisions += t->decisions;
        sum.mixes += t->mixes;
        sum.backwards += t->backwards;
        sum.gave_up += t->gave_up;
        sum.versions += t->versions;
        sum.worst_ns = t->worst_ns > sum.worst_ns ? t->worst_ns : sum.worst_ns;
        if (t->what[0])
            (void)printf("reader %d: %s\n", i, t->what);
    }
    (void)printf("%d kills, %" PRIu64 " publishes, %" PRIu64 " of them replacements; %" PRIu64
                 " starts that went on from what was there\n%" PRIu64 " decisions over %" PRIu64
                 " changes of version: %" PRIu64 " mixes, %" PRIu64 " versions ran back, %" PRIu64
                 " gave up; longest decision %" PRIu64 " us of CPU time\n",
                 board->kills, board->published, board->replaced, board->adopted, sum.decisions, sum.versions,
                 sum.mixes, sum.backwards, sum.gave_up, sum.worst_ns / 1000);
    if (code != 0 || board->failed) {
        (void)printf("failed: %s (%d)\n", board->failure, code);
        return 1;
    }
#ifdef FLAGSHM_STRESS_UNCHECKED
    if (sum.mixes == 0)
        (void)printf("without the second look at seq there must be mixes: this test finds nothing\n");
    return sum.mixes == 0;
#else
    if (board->kills < 20 || board->adopted * 4 < (uint64_t)board->kills || sum.versions < 50) {
        (void)printf("too little has happened to show anything\n");
        return 1;
    }
    return sum.mixes != 0 || sum.backwards != 0 || sum.gave_up * 1000 > sum.decisions;
#endif
}

/* A first table, so that readers have something to read from the beginning. */
static int first_table(struct flagshm_error *error)
{
    struct flagshm_segment segment;
    int code = flagshm_segment_open(&segment, &world.options, error);

    if (code == 0) {
        code = world_publish(&world, &segment, error);
        flagshm_segment_close(&segment);
    }
    return code;
}

int main(int argc, char **argv)
{
    struct flagshm_error error = {""};
    int kills = argc > 1 ? atoi(argv[1]) : 400, readers = argc > 2 ? atoi(argv[2]) : 2, i, code;
    pid_t children[READERS_MAX];

    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (kills < 1 || readers < 1 || readers > READERS_MAX || board == MAP_FAILED ||
        !world_make(&world, "kill")) {
        (void)fprintf(stderr, "usage: stress_kill [KILLS [READERS]]\n");
        return 2;
    }
    code = first_table(&error);
    if (code != 0)
        (void)snprintf(board->failure, sizeof board->failure, "%s", error.text);
    for (i = 0; i < readers; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            read_until_stopped(&board->readers[i], 0x9e3779b97f4a7c15u + (uint64_t)i);
            _exit(0);
        }
    }
    if (code == 0)
        code = storm(kills, readers, argc > 1 ? UINT64_MAX : UINT64_C(60000000000));
    __atomic_store_n(&board->stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < readers; i++)
        if (children[i] > 0)
            (void)waitpid(children[i], NULL, 0);
    code = verdict(readers, code);
    world_free(&world);
    return code;
}
