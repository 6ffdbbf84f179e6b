/* governor_fixture: a publisher and a governor in a directory of their own, a client that books, and time that a test lets pass: the clock
 * that the linker brings here is the machine's and what was passed. */
#ifndef FLAGSHM_TESTS_GOVERNOR_FIXTURE_H
#define FLAGSHM_TESTS_GOVERNOR_FIXTURE_H

#include "server/governor_internal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECOND        UINT64_C(1000000000)
#define MINUTE        (60 * SECOND)
#define HOUR          (60 * MINUTE)
#define PLAN          "{\"plan\": [{\"pct\": 5}, {\"pct\": 50}, {\"pct\": 100}], \"hold\": \"10m\", \"min_users\": 1}"
#define PLANNED(name) "\"" name "\": {\"control\": \"old\", \"variant\": \"new\", \"rollout\": " PLAN "}"
#define PLAIN(name, pct)                                                                                     \
    "\"" name "\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": " pct "}"

/* ---- time ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

static _Thread_local uint64_t passed_ns; /* of the test's thread; others live in the machine's time */

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = __real_clock_gettime(clock, now);
    uint64_t ns = (uint64_t)now->tv_nsec + passed_ns;

    now->tv_sec += (time_t)(ns / SECOND);
    now->tv_nsec = (long)(ns % SECOND);
    return result;
}

/* ---- memory ---- */

void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

static _Thread_local bool calloc_fails;

void *__wrap_calloc(size_t count, size_t bytes)
{
    return calloc_fails ? NULL : __real_calloc(count, bytes);
}

/* ---- the place ---- */

struct place {
    char dir[64], state[96], notify[96], instance[32];
    struct flagshm_publisher publisher;
    struct flagshm_governor *governor;
    struct flagshm client;
    struct flagshm_governor_answer answers[8]; /* late ones */
    size_t answer_count;
};

static void place_answer_(void *context, const struct flagshm_governor_answer *answer)
{
    struct place *place = context;

    cr_assert_lt(place->answer_count, 8);
    place->answers[place->answer_count++] = *answer;
}

__attribute__((unused)) static void start(struct place *place)
{
    const struct flagshm_publisher_options options = {
        .segment = {.dir = place->dir, .instance = place->instance, .group = (gid_t)-1, .lock_wait_ms = 0},
        .state_dir = place->state,
        .file_path = "flags.json"};
    const struct flagshm_governor_options governor = {.publisher = &place->publisher,
                                                      .instance = place->instance,
                                                      .notify_dir = place->notify,
                                                      .answer = place_answer_,
                                                      .context = place};
    struct flagshm_error error = {{0}};

    cr_assert_eq(flagshm_publisher_open(&place->publisher, &options, &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_governor_open(&place->governor, &governor, &error), 0, "%s", error.text);
    (void)flagshm_open(&place->client, place->instance);
}

/* The journal's thread lives in the machine's time, and so does who waits for it. */
__attribute__((unused)) static void stop(struct place *place)
{
    uint64_t passed = passed_ns;

    passed_ns = 0;
    flagshm_close(&place->client);
    flagshm_governor_close(place->governor);
    flagshm_publisher_close(&place->publisher);
    passed_ns = passed;
}

__attribute__((unused)) static void set_up(struct place *place)
{
    memset(place, 0, sizeof *place);
    (void)snprintf(place->dir, sizeof place->dir, "/tmp/flagshm-test-XXXXXX");
    cr_assert_not_null(mkdtemp(place->dir));
    cr_assert_eq(chmod(place->dir, 0755), 0);
    snprintf(place->state, sizeof place->state, "%s/state", place->dir);
    snprintf(place->notify, sizeof place->notify, "%s/notify", place->dir);
    snprintf(place->instance, sizeof place->instance, "g%d", (int)getpid());
    setenv("FLAGSHM_DIR", place->dir, 1);
    signal(SIGXFSZ, SIG_IGN);
    start(place);
}

__attribute__((unused)) static void tear_down(struct place *place)
{
    char command[96];

    stop(place);
    snprintf(command, sizeof command, "rm -rf %s", place->dir);
    cr_assert_eq(system(command), 0);
}

/* ---- turns of the loop ---- */

__attribute__((unused)) static void take(struct place *place, const char *flags)
{
    static char text[65536];

    cr_assert_lt(snprintf(text, sizeof text, "{\"flags\": {%s}}", flags), (int)sizeof text);
    (void)flagshm_publisher_take(&place->publisher, text, strlen(text), true);
    flagshm_governor_work(place->governor);
    flagshm_close(&place->client); /* a client that has met no table tries again only after a while */
    (void)flagshm_open(&place->client, place->instance);
}

__attribute__((unused)) static void beat(struct place *place)
{
    struct flagshm_error error = {{0}};

    cr_assert_eq(flagshm_publisher_beat(&place->publisher, &error), 0, "%s", error.text);
    flagshm_governor_beat(place->governor);
    flagshm_governor_work(place->governor);
}

/* All that was given to the journal is on the disk, or cannot get there, and the governor hears of it. */
__attribute__((unused)) static void commit(struct place *place)
{
    uint64_t passed = passed_ns;

    passed_ns = 0;
    (void)flagshm_journal_flush(place->publisher.journal, 10000);
    passed_ns = passed;
    flagshm_governor_journal_done(place->governor);
    flagshm_governor_work(place->governor);
}

/* Time passes while the server runs, second by second or nearly. */
__attribute__((unused)) static void pass(struct place *place, uint64_t ns)
{
    while (ns > 0) {
        uint64_t by = ns < 5 * SECOND ? ns : 5 * SECOND;

        passed_ns += by;
        ns -= by;
        beat(place);
    }
}

__attribute__((unused)) static void news(struct place *place)
{
    flagshm_ledger_arm(&place->publisher.ledger);
    flagshm_governor_news(place->governor);
    flagshm_governor_work(place->governor);
}

/* The disk takes nothing more; or takes it again. */
__attribute__((unused)) static void fill_disk(bool is_full)
{
    struct rlimit limit;

    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = is_full ? 1 : limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* ---- what is seen ---- */

__attribute__((unused)) static struct flagshm_ward *ward_of(const struct place *place, const char *flag)
{
    return flagshm_wards_find_name(&place->publisher.wards, flag);
}

__attribute__((unused)) static double share(struct place *place, const char *flag)
{
    return flagshm_rollout_pct(&place->client, flag);
}

__attribute__((unused)) static uint32_t slot_of(const struct place *place, const char *flag)
{
    return flagshm_slots_find(&place->publisher.ledger.slots, flagshm_hash64_(flag, strlen(flag), 0));
}

__attribute__((unused)) static uint32_t generation_of(const struct place *place, const char *flag)
{
    uint32_t slot = slot_of(place, flag);

    return slot < FLAGSHM_SLOTS ? place->publisher.ledger.slots.holders[slot].generation : 0;
}

/* The state as it stands in the journal; its stage is KILLED, which is never written, where it has none. */
__attribute__((unused)) static struct flagshm_rollout written(struct place *place, const char *flag)
{
    struct flagshm_ward copy = {.state = {.stage = FLAGSHM_STAGE_KILLED}};
    uint64_t passed = passed_ns;
    cJSON *states;
    const char *text;

    passed_ns = 0;
    states = flagshm_journal_states(place->publisher.journal);
    text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(states, flag));
    if (text != NULL)
        cr_assert(flagshm_ward_read(&copy, text), "%s", text);
    cJSON_Delete(states);
    passed_ns = passed;
    return copy.state;
}

/* What the history says last of a flag: "KIND DETAIL". */
__attribute__((unused)) static const char *last_event(struct place *place, const char *flag)
{
    static char text[1200];
    uint64_t passed = passed_ns;
    cJSON *events;
    const cJSON *event;

    passed_ns = 0;
    events = flagshm_journal_history(place->publisher.journal, flag, 1);
    passed_ns = passed;
    event = cJSON_GetArrayItem(events, 0);
    snprintf(text, sizeof text, "%s %s", cJSON_GetStringValue(cJSON_GetObjectItem(event, "kind")),
             cJSON_GetStringValue(cJSON_GetObjectItem(event, "detail")));
    cJSON_Delete(events);
    return text;
}

__attribute__((unused)) static int count_notices(struct place *place)
{
    uint64_t passed = passed_ns;
    cJSON *notices;
    int count;

    passed_ns = 0;
    notices = flagshm_journal_notices(place->publisher.journal);
    count = cJSON_GetArraySize(notices);
    cJSON_Delete(notices);
    passed_ns = passed;
    return count;
}

/* ---- who books ---- */

/* So many calls of an arm, by users from number `from` on, each another one. */
__attribute__((unused)) static void book(struct place *place, const char *flag, uint32_t arm, unsigned count,
                                         unsigned from, uint32_t http_status)
{
    struct flagshm_outcome started = {.event = FLAGSHM_STARTED}, finished = {.http_status = http_status};
    struct flagshm_decision d;
    char id[32];
    unsigned i;

    for (i = 0; count > 0; i++) {
        cr_assert_lt(i, 100000, "%s has no users of arm %u", flag, arm);
        snprintf(id, sizeof id, "user-%u", from + i);
        if (flagshm_decide(&place->client, flag, id, &d) != FLAGSHM_SPLIT || d.arm != arm)
            continue;
        cr_assert_eq(flagshm_record(&place->client, &d, &started), 0);
        cr_assert_eq(flagshm_record(&place->client, &d, &finished), 0);
        count--;
    }
}

/* The variant fails wholly, where control does not. */
__attribute__((unused)) static void harm(struct place *place, const char *flag)
{
    book(place, flag, 0, 60, 0, 200);
    book(place, flag, 1, 30, 100000, 500);
}

/* Calls of 400 users, of either arm as they fall: nothing fails. */
__attribute__((unused)) static void be_well(struct place *place, const char *flag, unsigned from)
{
    struct flagshm_outcome started = {.event = FLAGSHM_STARTED}, finished = {.http_status = 200};
    struct flagshm_decision d;
    char id[32];
    unsigned i;

    for (i = 0; i < 400; i++) {
        snprintf(id, sizeof id, "user-%u", from + i);
        cr_assert_eq(flagshm_decide(&place->client, flag, id, &d), FLAGSHM_SPLIT);
        cr_assert_eq(flagshm_record(&place->client, &d, &started), 0);
        cr_assert_eq(flagshm_record(&place->client, &d, &finished), 0);
    }
}

/* ---- persons ---- */

/* True: it was answered at once. */
__attribute__((unused)) static bool say(struct place *place, const char *flag, struct flagshm_ask ask,
                                        uint64_t asker, struct flagshm_governor_answer *answer)
{
    ask.user = "ann";
    if (ask.reason == NULL)
        ask.reason = "because";
    return flagshm_governor_ask(place->governor, flag, &ask, asker, answer);
}

/* Starts, commits, and goes to a share by hand. */
__attribute__((unused)) static void reach(struct place *place, const char *flag, uint32_t mpct)
{
    const struct flagshm_ask ask = {.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = mpct};
    struct flagshm_governor_answer answer;

    cr_assert_not(say(place, flag, ask, 0, &answer), "%s", answer.sentence);
    commit(place);
    cr_assert_eq(flagshm_rollout_share(&ward_of(place, flag)->state), mpct, "%s",
                 ward_of(place, flag)->trouble.text);
}

#endif
