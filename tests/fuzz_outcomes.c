/* fuzz_outcomes: an outcome segment with hostile bytes anywhere: whoever may book may write what he likes. The server reads it (counts,
 * beats, stats as JSON, the doorbell), clients book in it; nothing may crash, hang, reach beyond the slot, or come out as more than a
 * wrong count.
 *
 * A libFuzzer input is a list of changes to a live segment: place (one of PLACES), offset (16 bits), length, bytes; they are taken back
 * afterwards. As an ordinary program: fuzz_outcomes [IMAGES [SEED]] makes so many random inputs, then reads and books while a thread
 * scribbles; files that are named instead are run. What is left out: the segment's id (another one is built then: see test_ledger). */
#undef NDEBUG
#include "fuzz_files.h"
#include "outcomes_fixture.h"
#include "server/stats.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER(field) offsetof(struct flagshm_outcomes, field)
#define SLOT(field)   (sizeof(struct flagshm_outcomes) + offsetof(struct flagshm_slot, field))
#define ARM(arm, field)                                                                                      \
    (SLOT(arms) + (arm) * sizeof(struct flagshm_arm_outcomes) + offsetof(struct flagshm_arm_outcomes, field))
#define UNDO_MAX (1u << 16)

static const struct {
    size_t from, bytes;
} places[] = {{HEADER(dirty), 64},
              {HEADER(shadow_tokens), 8},
              {SLOT(generation), 48},
              {SLOT(signals), 256},
              {SLOT(capped_calls), 16 + 256},
              {SLOT(flag), 72},
              {SLOT(levels), sizeof(((struct flagshm_slot *)0)->levels)},
              {SLOT(distinct), FLAGSHM_DISTINCT},
              {SLOT(seen), FLAGSHM_SEEN_BITS / 8},
              {SLOT(calls), 4 * FLAGSHM_CELLS},
              {ARM(0, counters), 5120},
              {ARM(1, counters), 5120},
              {ARM(1, histograms), 12800},
              {SLOT(cells), FLAGSHM_CELLS * 16}};
#define PLACES (sizeof places / sizeof places[0])

static struct outcomes_world w;
static struct flagshm_publisher publisher;
static struct flagshm_decision decisions[4];
static unsigned char *bytes_, neighbour[sizeof(struct flagshm_slot) / 16];
static struct {
    size_t at;
    unsigned char was;
} undo[UNDO_MAX];
static size_t undo_count;
static uint64_t runs;

static const struct flagshm_outcome outcomes[] = {
    {.http_status = 500},
    {.http_status = 200,
     .json_checked = true,
     .refusal = true,
     .latency_ns = UINT64_MAX,
     .ttft_ns = 1,
     .input_tokens = UINT64_MAX,
     .output_tokens = 7,
     .attempts = UINT32_MAX},
    {.event = FLAGSHM_STARTED},
    {.event = FLAGSHM_CUSTOM, .custom = 7},
    {.http_status = 429, .limited = true},
};

static void end(void)
{
    outcomes_end(&w);
}

static void prepare(void)
{
    unsigned i;

    assert(outcomes_begin(&w) && atexit(end) == 0); /* libFuzzer ends by exit */
    w.shadow_mpct = 100000;
    assert(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED) ", " OUTCOMES_FLAG(
                                    "g", "50", OUTCOMES_GUARDED)) == 0);
    assert(flagshm_open(&w.fs, NULL) == 0);
    assert(outcomes_slot(&w, "f") == 0 && outcomes_slot(&w, "g") == 1);
    for (i = 0; i < 4; i++)
        outcomes_decide(&w, "f", i % 2, i / 2, &decisions[i]);
    flagshm_outcomes_open_slot(&w.ledger.file, 0);
    bytes_ = (unsigned char *)w.ledger.file.segment;
    memcpy(neighbour, outcomes_slot_bytes(&w, "g"), sizeof neighbour);
}

static void change(const uint8_t *data, size_t size)
{
    while (size >= 5) {
        size_t place = data[0] % PLACES, bytes = data[3] % 16 + 1u;
        size_t at = places[place].from + ((size_t)data[1] << 8 | data[2]) % places[place].bytes;

        data += 4;
        size -= 4;
        for (;
             bytes > 0 && size > 0 && at < places[place].from + places[place].bytes && undo_count < UNDO_MAX;
             bytes--, size--, at++) {
            undo[undo_count].at = at;
            undo[undo_count++].was = __atomic_load_n(&bytes_[at], __ATOMIC_RELAXED);
            __atomic_store_n(&bytes_[at], *data++, __ATOMIC_RELAXED);
        }
    }
}

static void change_back(void)
{
    while (undo_count > 0) {
        undo_count--;
        __atomic_store_n(&bytes_[undo[undo_count].at], undo[undo_count].was, __ATOMIC_RELAXED);
    }
}

static void expect_result(int result)
{
    assert(result == 0 || result == -ESTALE || result == -EINVAL);
}

static void book_everything(void)
{
    size_t i;

    for (i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++)
        expect_result(flagshm_record(&w.fs, &decisions[i % 4], &outcomes[i]));
    for (i = 0; i < 2; i++) {
        assert(decisions[0].shadow);
        expect_result(flagshm_record_shadow(&w.fs, &decisions[0], &outcomes[i], &outcomes[1 - i]));
    }
    expect_result(flagshm_event(&w.fs, "f", "user-1", FLAGSHM_THUMBS_DOWN));
    i = (size_t)flagshm_shadow_budget(&w.fs, 1000, 10);
    assert((int)i == 0 || (int)i == -EDQUOT);
}

static void read_everything(void)
{
    static struct flagshm_slot_counts counts;
    uint32_t arm, h;

    if (flagshm_ledger_read(&w.ledger, 0, &counts)) {
        assert(counts.arm_count == 2 && isfinite(counts.distinct) && counts.distinct >= 0);
        for (arm = 0; arm < 3; arm++)
            for (h = 0; h < FLAGSHM_HISTOGRAMS; h++)
                assert(flagshm_histogram_quantile(counts.arms[arm].histograms[h], 0.95) < 1e9);
    }
    flagshm_ledger_arm(&w.ledger);
    flagshm_ledger_rung(&w.ledger);
    if (runs % 8 == 0) {
        w.mono_ns += runs % 64 == 0 ? OUTCOMES_HOUR : OUTCOMES_SECOND;
        assert(!flagshm_ledger_beat(&w.ledger, &w.segment, w.mono_ns));
    }
}

/* The publisher is not opened: stats looks at its ledger and its table alone. */
static void print_stats(void)
{
    cJSON *answer = cJSON_CreateObject(), *flags, *again;
    char *text;

    publisher.ledger = w.ledger;
    publisher.segment = w.segment;
    flags = flagshm_stats(&publisher, NULL, answer);
    w.ledger = publisher.ledger;
    assert(cJSON_GetArraySize(flags) == 2);
    cJSON_AddItemToObject(answer, "flags", flags);
    text = cJSON_PrintUnformatted(answer);
    again = cJSON_Parse(text);
    assert(text && again);
    cJSON_Delete(again);
    cJSON_Delete(answer);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!bytes_)
        prepare();
    runs++;
    change(data, size);
    book_everything();
    read_everything();
    if (runs % 256 == 0)
        print_stats();
    change_back();
    ((struct flagshm_slot *)(void *)(bytes_ + sizeof(struct flagshm_outcomes)))->generation =
        decisions[0].slot_generation;
    assert(memcmp(neighbour + 64, (unsigned char *)outcomes_slot_bytes(&w, "g") + 64, 40) == 0);
    return 0;
}

#ifdef FLAGSHM_FUZZ_MAIN
#include <pthread.h>

static uint64_t state = 20250102;
static int stop;

static size_t make_input(uint8_t *data)
{
    static const uint8_t often[] = {0, 1, 2, 7, 8, 9, 15, 16, 0x7f, 0x80, 0xff};
    size_t changes = 1 + fuzz_next(&state) % 6, size = 0, i, j;

    for (i = 0; i < changes; i++) {
        uint64_t random = fuzz_next(&state);
        size_t bytes = random % 3 == 0 ? 1 : random % 3 == 1 ? 4 : 8;

        data[size++] = (uint8_t)(random >> 8);
        data[size++] = (uint8_t)(random >> 16);
        data[size++] = (uint8_t)(random >> 24 & (random >> 60 == 0 ? 0xffu : 0xfcu)); /* mostly whole words */
        data[size++] = (uint8_t)(bytes - 1);
        for (j = 0; j < bytes; j++) {
            random = fuzz_next(&state);
            data[size++] = random % 3 ? often[(random >> 8) % sizeof often] : (uint8_t)(random >> 16);
        }
    }
    return size;
}

/* Words that change between two looks at them. */
static void *scribble(void *unused)
{
    uint64_t random = 88172645463325252u;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        size_t place = fuzz_next(&random) % PLACES;
        size_t at = places[place].from + (random >> 32) % places[place].bytes;
        uint32_t word = random % 5 ? (uint32_t)random & 0xff0000ffu : (uint32_t)(random >> 20);

        __atomic_store_n((uint32_t *)(void *)(bytes_ + (at & ~(size_t)3)), word, __ATOMIC_RELAXED);
        if (random % 7 == 0)
            __atomic_store_n((uint32_t *)(void *)(bytes_ + SLOT(generation)), decisions[0].slot_generation,
                             __ATOMIC_RELAXED);
        if (random % 11 == 0)
            __atomic_store_n((uint32_t *)(void *)(bytes_ + SLOT(arm_count)), 2, __ATOMIC_RELAXED);
    }
    return unused;
}

static void read_while_scribbled(unsigned rounds)
{
    pthread_t thread;

    assert(pthread_create(&thread, NULL, scribble, NULL) == 0);
    for (; rounds > 0; rounds--) {
        runs++;
        book_everything();
        read_everything();
        if (rounds % 64 == 0)
            print_stats();
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    (void)pthread_join(thread, NULL);
}

static void run(uint8_t *data, size_t size)
{
    (void)LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
    uint64_t images = 100000, n;
    uint8_t data[128];

    prepare();
    if (!fuzz_random(argc, argv, run, &images, &state))
        return 0;
    (void)alarm(images > 1000000 ? 0 : 280); /* bounded time is part of the promise */
    for (n = 0; n < images; n++)
        (void)LLVMFuzzerTestOneInput(data, make_input(data));
    read_while_scribbled(20000);
    printf("%" PRIu64 " images\n", images);
    return 0;
}
#endif
