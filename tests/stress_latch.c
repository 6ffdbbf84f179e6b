/* stress_latch: one writer at full speed, readers that check every word of every decision. A plain program, so that the thread
 * sanitizer can look at it. Usage: stress_latch [SECONDS [READERS]]. Exit code 0: no mix of two tables, no version that
 * runs back, no reader that gave up for long. Compiled a second time as stress_latch_unchecked it must find a mix, and ends with the
 * first. */
#include "stress_world.h"

#include <inttypes.h>
#include <pthread.h>

#define READERS_MAX 16

struct reader {
    pthread_t thread;
    struct flagshm *fs;
    const struct world *world;
    const int *stop;
    uint64_t seed, decisions, mixes, backwards, gave_up, versions;
    const char *what; /* of the last mix */
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *read_all_the_time(void *argument)
{
    struct reader *r = argument;
    struct flagshm_ref refs[WORLD_FLAGS];
    struct flagshm_decision d;
    uint64_t last = 0;
    uint32_t n;

    for (n = 0; n < WORLD_FLAGS; n++)
        (void)flagshm_resolve(r->fs, r->world->flags[0][n].name, &refs[n]);
    while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
        uint64_t random = next_random(&r->seed);
        uint32_t id = (uint32_t)(random >> 8) % WORLD_IDS;
        const char *wrong;

        n = (uint32_t)random % WORLD_FLAGS;
        if ((random >> 40) % 2)
            (void)flagshm_decide(r->fs, r->world->flags[0][n].name, r->world->ids[id], &d);
        else
            (void)flagshm_decide_ref(r->fs, &refs[n], r->world->ids[id], &d);
        r->decisions++;
        if (d.reason == FLAGSHM_GENERAL) { /* bounded tries: control, and said so */
            r->gave_up++;
            continue;
        }
        r->versions += d.version != last;
        r->backwards += d.version < last;
        last = d.version;
        wrong = world_check(r->world, r->fs, n, id, &d);
        if (wrong) {
            r->what = wrong;
            __atomic_store_n(&r->mixes, r->mixes + 1, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

/* The negative control has done its work with the first mix, and has a long time to come to it. */
static bool is_over(const struct reader *readers, int count, uint64_t passed_ns, int seconds)
{
#ifdef FLAGSHM_STRESS_UNCHECKED
    int i;

    for (i = 0; i < count; i++)
        if (__atomic_load_n(&readers[i].mixes, __ATOMIC_ACQUIRE) != 0)
            return true;
    seconds *= 30;
#else
    (void)readers;
    (void)count;
#endif
    return passed_ns >= (uint64_t)seconds * UINT64_C(1000000000);
}

static int write_for(struct world *w, struct flagshm_segment *segment, const struct reader *readers,
                     int count, int seconds, uint64_t *published)
{
    uint64_t began = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
    struct flagshm_error error;

    while (!is_over(readers, count, flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - began, seconds)) {
        int code = world_publish(w, segment, &error);

        if (code != 0) {
            (void)fprintf(stderr, "stress_latch: publish: %s\n", error.text);
            return code;
        }
        (*published)++;
    }
    return 0;
}

static int verdict(const struct reader *readers, int count, uint64_t published)
{
    uint64_t decisions = 0, mixes = 0, backwards = 0, gave_up = 0, versions = 0;
    const char *what = "none";
    int i;

    for (i = 0; i < count; i++) {
        decisions += readers[i].decisions;
        mixes += readers[i].mixes;
        backwards += readers[i].backwards;
        gave_up += readers[i].gave_up;
        versions += readers[i].versions;
        what = readers[i].what ? readers[i].what : what;
    }
    (void)printf("%" PRIu64 " publishes, %" PRIu64 " decisions over %" PRIu64 " changes of version: %" PRIu64
                 " mixes (%s), %" PRIu64 " versions ran back, %" PRIu64 " gave up\n",
                 published, decisions, versions, mixes, what, backwards, gave_up);
#ifdef FLAGSHM_STRESS_UNCHECKED
    if (mixes == 0)
        (void)printf("without the second look at seq there must be mixes: this test finds nothing\n");
    return mixes == 0;
#else
    if (published < 100 || decisions < 1000 || versions < 50) {
        (void)printf("too little has happened to show anything\n");
        return 1;
    }
    return mixes != 0 || backwards != 0 || gave_up * 1000 > decisions;
#endif
}

int main(int argc, char **argv)
{
    static struct world world;
    static struct reader readers[READERS_MAX];
    struct flagshm_segment segment;
    struct flagshm_error error = {""};
    struct flagshm fs;
    uint64_t published = 0;
    int seconds = argc > 1 ? atoi(argv[1]) : 2, count = argc > 2 ? atoi(argv[2]) : 3, stop = 0, i, code = 1;

    if (seconds < 1 || count < 1 || count > READERS_MAX || !world_make(&world, "latch")) {
        (void)fprintf(stderr, "usage: stress_latch [SECONDS [READERS]]\n");
        return 2;
    }
    if (flagshm_segment_open(&segment, &world.options, &error) != 0 ||
        world_publish(&world, &segment, &error) != 0 || flagshm_open(&fs, world.instance) != 0) {
        (void)fprintf(stderr, "stress_latch: no table: %s\n", error.text);
        world_free(&world);
        return 1;
    }
    for (i = 0; i < count; i++) {
        readers[i] = (struct reader){
            .fs = &fs, .world = &world, .stop = &stop, .seed = 0x9e3779b97f4a7c15u + (uint64_t)i};
        if (pthread_create(&readers[i].thread, NULL, read_all_the_time, &readers[i]) != 0)
            break;
    }
    if (i == count)
        code = write_for(&world, &segment, readers, count, seconds, &published);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    count = i;
    for (i = 0; i < count; i++)
        (void)pthread_join(readers[i].thread, NULL);
    if (code == 0)
        code = verdict(readers, count, published);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
    world_free(&world);
    return code != 0;
}
