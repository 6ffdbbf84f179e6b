/* outcomes: what an event books, and what it does not: each field of struct flagshm_outcome against a list written by hand. */
#include "outcomes_fixture.h"

#include <criterion/criterion.h>
#include <sys/wait.h>

#define MS          UINT64_C(1000000)
#define N(name)     FLAGSHM_N_##name
#define KIND(name)  (1u << FLAGSHM_SIGNAL_##name)
#define CUSTOM_KIND (1u << (FLAGSHM_SIGNAL_CUSTOM + 7))

static struct outcomes_world w;
static struct flagshm_decision d;

/* Sixteen signals: as many as there can be. Two are timed. */
static const struct flagshm_slot_form watched = {.arm_count = 2,
                                                 .has_shadow = true,
                                                 .is_guarded = true,
                                                 .signal_count = 16,
                                                 .signals = {{FLAGSHM_SIGNAL_ERROR, true},
                                                             {FLAGSHM_SIGNAL_JSON_INVALID, false},
                                                             {FLAGSHM_SIGNAL_SCHEMA_INVALID, false},
                                                             {FLAGSHM_SIGNAL_TOOL_INVALID, false},
                                                             {FLAGSHM_SIGNAL_REFUSAL, false},
                                                             {FLAGSHM_SIGNAL_TRUNCATED, false},
                                                             {FLAGSHM_SIGNAL_EMPTY, false},
                                                             {FLAGSHM_SIGNAL_THUMBS_DOWN, false},
                                                             {FLAGSHM_SIGNAL_RETRY, false},
                                                             {FLAGSHM_SIGNAL_SUPPORT_CONTACT, false},
                                                             {FLAGSHM_SIGNAL_CUSTOM, false},
                                                             {FLAGSHM_SIGNAL_CUSTOM + 7, false},
                                                             {FLAGSHM_SIGNAL_LATENCY, true},
                                                             {FLAGSHM_SIGNAL_TTFT, false},
                                                             {FLAGSHM_SIGNAL_TOKENS, false},
                                                             {FLAGSHM_SIGNAL_OUTPUT_TOKENS, false}}};

static void prepare(void)
{
    uint32_t slot = outcomes_slot(&w, "f");

    cr_assert(outcomes_reform(&w, "f", &watched));
    flagshm_outcomes_set_threshold(&w.ledger.file, slot, 12, (1000 * MS) >> FLAGSHM_TIME_SHIFT);
    flagshm_outcomes_set_threshold(&w.ledger.file, slot, 13, (200 * MS) >> FLAGSHM_TIME_SHIFT);
    flagshm_outcomes_set_threshold(&w.ledger.file, slot, 14, 1000);
    flagshm_outcomes_set_threshold(&w.ledger.file, slot, 15, 100);
}

static void set_up(void)
{
    cr_assert(outcomes_begin(&w), "%s", w.error.text);
    w.shadow_mpct = 100000;
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", "")), 0, "%s", w.error.text);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    prepare();
    outcomes_decide(&w, "f", 1, 0, &d);
}

static void tear_down(void)
{
    outcomes_end(&w);
}

TestSuite(outcomes, .init = set_up, .fini = tear_down);

struct expected {
    struct {
        uint32_t counter;
        uint64_t n;
    } counters[16];      /* N(STARTED) with n 0 ends it; all others are 0 */
    uint32_t kinds;      /* signals */
    uint64_t amounts[4]; /* in the histograms; 0: nothing */
    bool is_call;        /* counts among the first 16 of an hour */
};

/* Sums of all that is in the slot, and nothing but what is expected. */
static void expect(const struct expected *e, uint32_t arm, const char *what)
{
    struct flagshm_slot_counts counts;
    const struct flagshm_slot *s = outcomes_slot_bytes(&w, "f");
    uint64_t n[FLAGSHM_COUNTERS] = {0};
    uint32_t i, j, window, label;

    cr_assert(outcomes_read(&w, "f", &counts));
    for (i = 0; i < 16 && (e->counters[i].n != 0); i++)
        n[e->counters[i].counter] = e->counters[i].n;
    for (i = 0; i < FLAGSHM_COUNTERS; i++)
        for (j = 0; j < 3; j++)
            cr_assert_eq(counts.arms[j].n[i], j == arm ? n[i] : 0, "%s: counter %u of arm %u is %llu", what,
                         i, j, (unsigned long long)counts.arms[j].n[i]);
    for (i = 0; i < FLAGSHM_HISTOGRAMS; i++)
        for (j = 0; j < FLAGSHM_HISTOGRAM_BUCKETS; j++) {
            uint64_t low = flagshm_bucket_low_(j), high = flagshm_bucket_low_(j + 1);
            bool is_known = e->amounts[i == FLAGSHM_H_OUTPUT_TOKENS ? FLAGSHM_H_TOKENS : i] != 0;
            bool is_its = is_known && e->amounts[i] >= low && e->amounts[i] < high;

            cr_assert_eq(counts.arms[arm].histograms[i][j], is_its, "%s: histogram %u, bucket %u", what, i,
                         j);
        }
    for (i = 0; i < watched.signal_count; i++)
        for (window = 0; window < FLAGSHM_WINDOWS; window++)
            for (label = 0; label < 2; label++) {
                bool is_booked = (e->kinds >> watched.signals[i].kind & 1) != 0 && label == (arm != 0) &&
                                 (window == 0 ||
                                  (watched.signals[i].is_timed && (window == 1 + (w.ledger.window_4h & 1) ||
                                                                   window == 3 + (w.ledger.window_1h & 1))));

                cr_assert_eq(counts.levels[i][window][label][0], is_booked,
                             "%s: signal %u, window %u, label %u", what, i, window, label);
                for (j = 1; j < FLAGSHM_LEVELS; j++)
                    cr_assert_eq(counts.levels[i][window][label][j], 0, "%s: level %u", what, j);
            }
    for (label = 0; label < 2; label++) {
        cr_assert_eq(counts.capped_calls[label], e->is_call && label == (arm != 0), "%s", what);
        for (i = 0; i < watched.signal_count; i++)
            cr_assert_eq(counts.capped_bad[label][i],
                         e->is_call && label == (arm != 0) && (e->kinds >> watched.signals[i].kind & 1) != 0,
                         "%s: capped, signal %u", what, i);
    }
    for (i = j = 0; i < FLAGSHM_CELL_TABLES * FLAGSHM_CELLS; i++)
        j += s->cells[i / FLAGSHM_CELLS][i % FLAGSHM_CELLS];
    for (i = window = 0; i < watched.signal_count; i++)
        window += (e->kinds >> watched.signals[i].kind & 1) * (watched.signals[i].is_timed ? 3 : 1);
    cr_assert_eq(j, window, "%s: %u cells", what, j);
}

#define FINISHED_ONE                                                                                         \
    {N(FINISHED), 1}, {N(JUDGED), 1},                                                                        \
    {                                                                                                        \
        N(USERS_FINISHED), 1                                                                                 \
    }

static const struct {
    const char *what;
    struct flagshm_outcome o;
    struct expected e;
} calls[] = {
    {"a good call, all fields",
     {.http_status = 200,
      .latency_ns = 900 * MS,
      .ttft_ns = 150 * MS,
      .input_tokens = 500,
      .output_tokens = 90,
      .cache_tokens = 300,
      .attempts = 1,
      .json_checked = true,
      .json_valid = true,
      .schema_checked = true,
      .schema_valid = true,
      .tool_checked = true,
      .tool_valid = true},
     {{FINISHED_ONE,
       {N(INPUT_TOKENS), 500},
       {N(OUTPUT_TOKENS), 90},
       {N(CACHE_TOKENS), 300},
       {N(JSON_CHECKED), 1},
       {N(SCHEMA_CHECKED), 1},
       {N(TOOL_CHECKED), 1}},
      0,
      {13732, 2288, 890, 90},
      true}},
    {"a good call of which nothing is known", {.http_status = 200}, {{FINISHED_ONE}, 0, {0}, true}},
    {"299 is good", {.http_status = 299}, {{FINISHED_ONE}, 0, {0}, true}},
    {"300 is a failure", {.http_status = 300}, {{FINISHED_ONE, {N(FAILED), 1}}, KIND(ERROR), {0}, true}},
    {"304 is a failure", {.http_status = 304}, {{FINISHED_ONE, {N(FAILED), 1}}, KIND(ERROR), {0}, true}},
    {"199 is a failure", {.http_status = 199}, {{FINISHED_ONE, {N(FAILED), 1}}, KIND(ERROR), {0}, true}},
    {"404 is a failure, and has no latency",
     {.http_status = 404, .latency_ns = 5000 * MS, .ttft_ns = 5000 * MS, .output_tokens = 5},
     {{FINISHED_ONE, {N(FAILED), 1}, {N(OUTPUT_TOKENS), 5}}, KIND(ERROR), {0}, true}},
    {"500 is a failure, and is not checked",
     {.http_status = 500, .json_checked = true, .refusal = true, .truncated = true, .empty = true},
     {{FINISHED_ONE, {N(FAILED), 1}}, KIND(ERROR), {0}, true}},
    {"529 at the end is a failure that met a limit",
     {.http_status = 529},
     {{FINISHED_ONE, {N(FAILED), 1}, {N(MET_LIMIT), 1}}, KIND(ERROR), {0}, true}},
    {"429 at the end is no failure",
     {.http_status = 429, .latency_ns = 5000 * MS, .json_checked = true},
     {{FINISHED_ONE, {N(LIMITED), 1}, {N(MET_LIMIT), 1}}, 0, {0}, true}},
    {"no answer is a failure of transport",
     {.http_status = 0},
     {{FINISHED_ONE, {N(FAILED), 1}, {N(TRANSPORT), 1}}, KIND(ERROR), {0}, true}},
    {"a broken stream after a 200 is a failure of transport",
     {.http_status = 200, .transport_error = true, .latency_ns = 5000 * MS, .output_tokens = 10},
     {{FINISHED_ONE, {N(FAILED), 1}, {N(TRANSPORT), 1}, {N(OUTPUT_TOKENS), 10}}, KIND(ERROR), {0}, true}},
    {"transport fails after a 429",
     {.http_status = 429, .transport_error = true},
     {{FINISHED_ONE, {N(FAILED), 1}, {N(TRANSPORT), 1}}, KIND(ERROR), {0}, true}},
    {"cancelled is neither",
     {.http_status = 500, .cancelled = true, .latency_ns = 5000 * MS, .refusal = true},
     {{FINISHED_ONE, {N(CANCELLED), 1}}, 0, {0}, true}},
    {"cancelled before an answer is neither",
     {.transport_error = true, .cancelled = true},
     {{FINISHED_ONE, {N(CANCELLED), 1}}, 0, {0}, true}},
    {"cancelled beside a 429 is neither",
     {.http_status = 429, .cancelled = true},
     {{FINISHED_ONE, {N(CANCELLED), 1}}, 0, {0}, true}},
    {"a failed call that falls back is a failure",
     {.http_status = 503, .fallback = true},
     {{FINISHED_ONE, {N(FAILED), 1}, {N(FALLBACK), 1}}, KIND(ERROR), {0}, true}},
    {"an answer that falls back is left out of the checks",
     {.http_status = 200, .fallback = true, .json_checked = true, .truncated = true, .latency_ns = 100 * MS},
     {{FINISHED_ONE, {N(FALLBACK), 1}}, 0, {1525, 0, 0, 0}, true}},
    {"limited on the way: times are left out, tokens are not",
     {.http_status = 200,
      .limited = true,
      .attempts = 3,
      .latency_ns = 5000 * MS,
      .ttft_ns = 5000 * MS,
      .input_tokens = 9},
     {{FINISHED_ONE, {N(MET_LIMIT), 1}, {N(RETRIES), 2}, {N(INPUT_TOKENS), 9}}, 0, {0, 0, 9, 0}, true}},
    {"not JSON",
     {.http_status = 200, .json_checked = true},
     {{FINISHED_ONE, {N(JSON_CHECKED), 1}, {N(JSON_INVALID), 1}}, KIND(JSON_INVALID), {0}, true}},
    {"valid, but never checked", {.http_status = 200, .json_valid = true}, {{FINISHED_ONE}, 0, {0}, true}},
    {"against the schema",
     {.http_status = 200, .schema_checked = true},
     {{FINISHED_ONE, {N(SCHEMA_CHECKED), 1}, {N(SCHEMA_INVALID), 1}}, KIND(SCHEMA_INVALID), {0}, true}},
    {"a broken tool call",
     {.http_status = 200, .tool_checked = true},
     {{FINISHED_ONE, {N(TOOL_CHECKED), 1}, {N(TOOL_INVALID), 1}}, KIND(TOOL_INVALID), {0}, true}},
    {"refused",
     {.http_status = 200, .refusal = true},
     {{FINISHED_ONE, {N(REFUSAL), 1}}, KIND(REFUSAL), {0}, true}},
    {"truncated",
     {.http_status = 200, .truncated = true},
     {{FINISHED_ONE, {N(TRUNCATED), 1}}, KIND(TRUNCATED), {0}, true}},
    {"empty", {.http_status = 200, .empty = true}, {{FINISHED_ONE, {N(EMPTY), 1}}, KIND(EMPTY), {0}, true}},
    {"altered counts as any call by itself",
     {.http_status = 200, .altered = true},
     {{FINISHED_ONE}, 0, {0}, true}},
    {"amounts above their thresholds",
     {.http_status = 200,
      .latency_ns = 1001 * MS,
      .ttft_ns = 201 * MS,
      .input_tokens = 900,
      .output_tokens = 101},
     {{FINISHED_ONE, {N(INPUT_TOKENS), 900}, {N(OUTPUT_TOKENS), 101}},
      KIND(LATENCY) | KIND(TTFT) | KIND(TOKENS) | KIND(OUTPUT_TOKENS),
      {15274, 3067, 1001, 101},
      true}},
    {"amounts at their thresholds",
     {.http_status = 200, .latency_ns = 1000 * MS, .input_tokens = 900, .output_tokens = 100},
     {{FINISHED_ONE, {N(INPUT_TOKENS), 900}, {N(OUTPUT_TOKENS), 100}}, 0, {15258, 0, 1000, 100}, true}},
    {"started",
     {.event = FLAGSHM_STARTED, .http_status = 500},
     {{{N(STARTED), 1}, {N(USERS_STARTED), 1}}, 0, {0}, false}},
    {"thumb up", {.event = FLAGSHM_THUMBS_UP}, {{{N(THUMBS_UP), 1}}, 0, {0}, false}},
    {"thumb down", {.event = FLAGSHM_THUMBS_DOWN}, {{{N(THUMBS_DOWN), 1}}, KIND(THUMBS_DOWN), {0}, false}},
    {"retry", {.event = FLAGSHM_RETRY}, {{{N(RETRY), 1}}, KIND(RETRY), {0}, false}},
    {"support",
     {.event = FLAGSHM_SUPPORT_CONTACT},
     {{{N(SUPPORT_CONTACT), 1}}, KIND(SUPPORT_CONTACT), {0}, false}},
    {"custom 0", {.event = FLAGSHM_CUSTOM}, {{{N(CUSTOM), 1}}, KIND(CUSTOM), {0}, false}},
    {"custom 3, that nobody watches",
     {.event = FLAGSHM_CUSTOM, .custom = 3},
     {{{N(CUSTOM) + 3, 1}}, 0, {0}, false}},
    {"custom 7", {.event = FLAGSHM_CUSTOM, .custom = 7}, {{{N(CUSTOM) + 7, 1}}, CUSTOM_KIND, {0}, false}},
    {"custom 7 by its event", {.event = FLAGSHM_CUSTOM_7}, {{{N(CUSTOM) + 7, 1}}, CUSTOM_KIND, {0}, false}},
    {"custom 5 + 2",
     {.event = FLAGSHM_CUSTOM_5, .custom = 2},
     {{{N(CUSTOM) + 7, 1}}, CUSTOM_KIND, {0}, false}},
};

Test(outcomes, each_field_lands_where_it_should_and_nowhere_else)
{
    size_t i;
    uint32_t arm;

    for (arm = 0; arm < 2; arm++) {
        outcomes_decide(&w, "f", arm, 0, &d);
        for (i = 0; i < sizeof calls / sizeof calls[0]; i++) {
            prepare();
            cr_assert_eq(flagshm_record(&w.fs, &d, &calls[i].o), 0, "%s", calls[i].what);
            expect(&calls[i].e, arm, calls[i].what);
        }
    }
}

Test(outcomes, an_arm_that_its_bucket_does_not_allow_is_counted_apart)
{
    static const struct {
        uint32_t arm, bucket, rollout_mpct;
        bool is_allowed;
    } cases[] = {
        {1, 0, 5000, true},
        {1, 4999, 5000, true},
        {1, 5000, 5000, false},
        {1, 99999, 5000, false},
        {0, 5000, 5000, true},
        {0, 99999, 5000, true},
        {0, 4999, 5000, false},
        {0, 0, 1, false},
        {1, 99999, 100000, true},
        {0, 99999, 100000, false},
        {0, 0, 0, true},
        {1, 0, 0, false},
        {1, FLAGSHM_NO_BUCKET, 100000, false},
    };
    static const struct expected misbooked = {.counters = {{N(MISBOOKED), 1}}};
    static const struct flagshm_outcome events[] = {
        {.http_status = 500}, {.event = FLAGSHM_STARTED}, {.event = FLAGSHM_THUMBS_DOWN}};
    size_t i, j;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (j = 0; j < 3; j++) {
            uint64_t dirty[FLAGSHM_SLOTS / 64];
            struct flagshm_slot_counts counts;
            char what[80];

            prepare();
            (void)flagshm_outcomes_take(&w.ledger.file, dirty);
            d.arm = cases[i].arm;
            d.bucket = cases[i].bucket;
            d.rollout_mpct = cases[i].rollout_mpct;
            cr_assert_eq(flagshm_record(&w.fs, &d, &events[j]), 0);
            (void)snprintf(what, sizeof what, "case %zu, event %zu", i, j);
            cr_assert(outcomes_read(&w, "f", &counts));
            cr_assert_eq(counts.arms[d.arm].n[N(MISBOOKED)], !cases[i].is_allowed, "%s", what);
            cr_assert_eq(flagshm_outcomes_take(&w.ledger.file, dirty), cases[i].is_allowed && j != 1,
                         "nothing is to be judged: %s", what);
            if (!cases[i].is_allowed)
                expect(&misbooked, d.arm, what);
        }
}

Test(outcomes, a_user_is_counted_once_however_often_it_calls)
{
    struct flagshm_outcome o = {.event = FLAGSHM_STARTED};
    struct flagshm_slot_counts counts;
    unsigned i;

    for (i = 0; i < 50; i++) {
        o.event = i % 2 == 0 ? FLAGSHM_STARTED : FLAGSHM_FINISHED;
        o.http_status = 200;
        cr_assert_eq(flagshm_record(&w.fs, &d, &o), 0);
    }
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.arms[1].n[N(STARTED)], 25);
    cr_assert_eq(counts.arms[1].n[N(FINISHED)], 25);
    cr_assert_eq(counts.arms[1].n[N(USERS_STARTED)], 1);
    cr_assert_eq(counts.arms[1].n[N(USERS_FINISHED)], 0, "it was seen when it started");
    cr_assert_eq(counts.capped_calls[1], FLAGSHM_CALLS_CAP);
    cr_assert_float_eq(counts.distinct, 1, 0.01);
}

Test(outcomes, before_a_slot_is_open_only_counters_run)
{
    struct flagshm_outcome bad = {.http_status = 500}, started = {.event = FLAGSHM_STARTED},
                           down = {.event = FLAGSHM_THUMBS_DOWN};
    struct flagshm_slot *s = outcomes_slot_bytes(&w, "f");
    static const struct expected e = {
        {{N(STARTED), 1}, {N(FINISHED), 1}, {N(FAILED), 1}, {N(TRANSPORT), 0}}, 0, {0}, false};
    struct expected with_thumb = e;

    s->is_open = 0;
    cr_assert_eq(flagshm_record(&w.fs, &d, &started), 0);
    cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
    expect(&e, 1, "wash-in");
    with_thumb.counters[3].counter = N(THUMBS_DOWN);
    with_thumb.counters[3].n = 1;
    cr_assert_eq(flagshm_record(&w.fs, &d, &down), 0);
    expect(&with_thumb, 1, "wash-in, a thumb");
}

Test(outcomes, what_cannot_be_booked_is_said_and_books_nothing)
{
    static const struct expected nothing = {.kinds = 0};
    struct flagshm_outcome o = {.http_status = 500};
    struct flagshm_decision other = d;
    struct flagshm_slot *s = outcomes_slot_bytes(&w, "f");

    other.slot_generation++;
    cr_assert_eq(flagshm_record(&w.fs, &other, &o), -ESTALE);
    other = d;
    other.slot = FLAGSHM_NO_SLOT;
    cr_assert_eq(flagshm_record(&w.fs, &other, &o), 0);
    other.slot = FLAGSHM_SLOTS;
    cr_assert_eq(flagshm_record(&w.fs, &other, &o), -EINVAL);
    other = d;
    other.slot_generation = 0;
    cr_assert_eq(flagshm_record(&w.fs, &other, &o), -EINVAL);
    other = d;
    other.arm = 2;
    cr_assert_eq(flagshm_record(&w.fs, &other, &o), -EINVAL);
    o.event = (enum flagshm_event)(FLAGSHM_CUSTOM_7 + 1);
    cr_assert_eq(flagshm_record(&w.fs, &d, &o), -EINVAL);
    o.event = FLAGSHM_CUSTOM;
    o.custom = 8;
    cr_assert_eq(flagshm_record(&w.fs, &d, &o), -EINVAL);
    o.event = FLAGSHM_CUSTOM_1;
    o.custom = UINT32_MAX;
    cr_assert_eq(flagshm_record(&w.fs, &d, &o), -EINVAL, "no sum wraps");
    cr_assert_eq(flagshm_event(&w.fs, "f", "user-1", FLAGSHM_FINISHED), -EINVAL);
    cr_assert_eq(flagshm_event(&w.fs, "f", "user-1", FLAGSHM_STARTED), -EINVAL);
    cr_assert_eq(flagshm_event(&w.fs, "no-such-flag", "user-1", FLAGSHM_THUMBS_DOWN), -ENOENT);
    s->arm_count = 9; /* a lie */
    cr_assert_eq(flagshm_record(&w.fs, &d, &calls[0].o), -EINVAL);
    s->arm_count = 2;
    expect(&nothing, 1, "refused");
}

Test(outcomes, no_table_no_segment_and_no_permission_have_their_own_errors)
{
    struct flagshm_outcome o = {.http_status = 200};
    struct flagshm fs;
    pid_t child;
    int status;

    cr_assert_eq(flagshm_open(&fs, "nobody-serves-this"), -ENOENT);
    cr_assert_eq(flagshm_record(&fs, &d, &o), -ENOENT);
    cr_assert_eq(flagshm_event(&fs, "f", "user-1", FLAGSHM_THUMBS_DOWN), -ENOENT);
    flagshm_close(&fs);

    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    w.segment.header->outcomes_id = 0;
    cr_assert_eq(flagshm_record(&fs, &d, &o), -ENOENT);
    w.segment.header->outcomes_id = w.ledger.file.id + 1; /* not there yet */
    cr_assert_eq(flagshm_record(&fs, &d, &o), -ESTALE);
    flagshm_close(&fs);
    w.segment.header->outcomes_id = w.ledger.file.id;

    if (geteuid() != 0)
        return;
    child = fork();
    if (child == 0) {
        struct flagshm_decision own;
        int bad = setgid(54321) != 0 || setuid(54321) != 0 || flagshm_open(&fs, NULL) != 0;

        bad = bad || flagshm_decide(&fs, "f", "user-1", &own) != FLAGSHM_SPLIT || own.model[0] == '\0';
        bad = bad || flagshm_record(&fs, &own, &o) != -EACCES || flagshm_record(&fs, &own, &o) != -EACCES;
        _exit(bad);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "decisions work, a record says -EACCES");
}

Test(outcomes, eight_arms_each_have_their_own_counters)
{
    char text[700] = "\"g\": {\"control\": \"old\", \"rollout_pct\": 99, \"variants\": {";
    struct flagshm_outcome o = {.http_status = 200};
    struct flagshm_slot_counts counts;
    uint32_t arm, i;

    for (i = 1; i < 8; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text),
                       "%s\"v%u\": {\"value\": \"m%u\", \"weight\": 1}", i > 1 ? ", " : "", i, i);
    (void)snprintf(text + strlen(text), sizeof text - strlen(text), "}}");
    cr_assert_eq(outcomes_publish(&w, text), 0);
    for (arm = 0; arm < 8; arm++) {
        outcomes_decide(&w, "g", arm, 0, &d);
        for (i = 0; i <= arm; i++)
            cr_assert_eq(flagshm_record(&w.fs, &d, &o), 0);
    }
    cr_assert(outcomes_read(&w, "g", &counts));
    for (arm = 0; arm < 8; arm++)
        cr_assert_eq(counts.arms[arm].n[N(FINISHED)], arm + 1);
    outcomes_decide(&w, "g", 0, 0, &d);
    d.shadow = true;
    cr_assert_eq(flagshm_record_shadow(&w.fs, &d, &o, &o), -EINVAL, "there is no ninth block");
}

/* ---- shadow pairs ---- */

#define PAIR(name, signal, who, ...)                                                                         \
    {                                                                                                        \
        name, FLAGSHM_SIGNAL_##signal, who, __VA_ARGS__                                                      \
    }
#define O(...)                                                                                               \
    {                                                                                                        \
        .http_status = 200, __VA_ARGS__                                                                      \
    }
enum { NOBODY = -1, CONTROL = 0, VARIANT = 1 };

static const struct {
    const char *what;
    int kind, who; /* whose bad call it is */
    struct flagshm_outcome control, shadow;
} pairs[] = {
    PAIR("both are fine", NONE, NOBODY, O(.empty = false), O(.empty = false)),
    PAIR("the shadow call fails", ERROR, VARIANT, O(.empty = false), {.http_status = 500}),
    PAIR("control fails", ERROR, CONTROL, {.http_status = 500}, O(.empty = false)),
    PAIR("both fail", NONE, NOBODY, {.http_status = 500}, {.transport_error = true}),
    PAIR("only the shadow's JSON is broken", JSON_INVALID, VARIANT,
         O(.json_checked = true, .json_valid = true), O(.json_checked = true)),
    PAIR("both are broken JSON", NONE, NOBODY, O(.json_checked = true), O(.json_checked = true)),
    PAIR("control refuses", REFUSAL, CONTROL, O(.refusal = true), O(.refusal = false)),
    PAIR("the shadow is cut off", TRUNCATED, VARIANT, O(.truncated = false), O(.truncated = true)),
    PAIR("the shadow says nothing", EMPTY, VARIANT, O(.empty = false), O(.empty = true)),
    PAIR("a tool call of control is broken", TOOL_INVALID, CONTROL, O(.tool_checked = true),
         O(.tool_checked = true, .tool_valid = true)),
    PAIR("the shadow is long", OUTPUT_TOKENS, VARIANT, O(.output_tokens = 100), O(.output_tokens = 101)),
    PAIR("control is long", TOKENS, CONTROL, O(.input_tokens = 1001), O(.input_tokens = 10)),
    PAIR("both are long", NONE, NOBODY, O(.output_tokens = 200), O(.output_tokens = 500)),
    PAIR("the shadow is slow: not judged", NONE, NOBODY, O(.latency_ns = MS), O(.latency_ns = 9000 * MS)),
    PAIR("the shadow was cancelled", NONE, NOBODY, O(.empty = false), {.cancelled = true}),
    PAIR("control was cancelled", NONE, NOBODY, {.cancelled = true}, {.http_status = 500}),
    PAIR("the shadow was limited", NONE, NOBODY, O(.empty = false), {.http_status = 429}),
    PAIR("control was limited", NONE, NOBODY, {.http_status = 429}, {.http_status = 500}),
    PAIR("a limit on the shadow's way", NONE, NOBODY, O(.empty = false),
         {.http_status = 500, .limited = true}),
    PAIR("tools were stripped", NONE, NOBODY, O(.tool_checked = true), {.http_status = 500, .altered = true}),
    PAIR("control fell back", NONE, NOBODY, O(.fallback = true), {.http_status = 500}),
};

Test(outcomes, only_a_discordant_pair_is_evidence)
{
    struct flagshm_slot_counts counts;
    size_t i;
    uint32_t signal, label;

    outcomes_decide(&w, "f", 0, 0, &d);
    cr_assert(d.shadow);
    for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        prepare();
        cr_assert_eq(flagshm_record_shadow(&w.fs, &d, &pairs[i].control, &pairs[i].shadow), 0);
        cr_assert(outcomes_read(&w, "f", &counts));
        cr_assert_eq(counts.arms[2].n[N(FINISHED)], 1, "the shadow call is booked behind the arms");
        cr_assert_eq(counts.arms[0].n[N(FINISHED)] + counts.arms[1].n[N(FINISHED)], 0);
        cr_assert_eq(counts.arms[2].n[N(FAILED)],
                     !pairs[i].shadow.cancelled && pairs[i].shadow.http_status != 429 &&
                         pairs[i].shadow.http_status / 100 != 2,
                     "%s", pairs[i].what);
        cr_assert_eq(counts.arms[2].n[N(USERS_FINISHED)] + counts.capped_calls[0] + counts.capped_calls[1],
                     0);
        for (signal = 0; signal < watched.signal_count; signal++)
            for (label = 0; label < 2; label++)
                cr_assert_eq(counts.levels[signal][0][label][0],
                             (int)watched.signals[signal].kind == pairs[i].kind && (int)label == pairs[i].who,
                             "%s: signal %u, label %u", pairs[i].what, signal, label);
    }
    d.shadow = false;
    cr_assert_eq(flagshm_record_shadow(&w.fs, &d, &pairs[0].control, &pairs[0].shadow), -EINVAL);
}

Test(outcomes, while_nobody_gets_the_variant_control_s_own_failures_are_no_evidence)
{
    struct flagshm_outcome o = {.http_status = 500};
    struct flagshm_slot_counts counts;
    unsigned round;

    outcomes_decide(&w, "f", 0, 0, &d);
    for (round = 0; round < 2; round++) {
        d.rollout_mpct = round == 0 ? 0 : 50000;
        cr_assert_eq(flagshm_record(&w.fs, &d, &o), 0);
        cr_assert(outcomes_read(&w, "f", &counts));
        cr_assert_eq(counts.arms[0].n[N(FAILED)], round + 1);
        cr_assert_eq(counts.levels[0][0][0][0], round, "in a shadow stage a cell is the pairs'");
        cr_assert_eq(counts.capped_calls[0], round + 1);
    }
}

/* ---- later events ---- */

Test(outcomes, a_thumb_of_the_next_day_needs_only_flag_and_id)
{
    static const struct expected e = {{{N(THUMBS_DOWN), 1}}, KIND(THUMBS_DOWN), {0}, false};
    char id[32] = "";
    unsigned i;
    int status;
    pid_t child;

    for (i = 0; flagshm_decide(&w.fs, "f", id, &d) != FLAGSHM_SPLIT || d.arm != 1; i++)
        (void)snprintf(id, sizeof id, "customer-%u", i);
    w.mono_ns += 24 * OUTCOMES_HOUR;
    (void)flagshm_ledger_beat(&w.ledger, &w.segment, w.mono_ns);
    child = fork();
    if (child == 0) { /* a process that knows nothing but two words, and the environment */
        (void)execl("/proc/self/exe", "test_outcomes", "--event", "f", id, (char *)NULL);
        _exit(127);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    expect(&e, 1, "the next day");
}

/* Criterion has a main of its own, which this stands before: the same program, run as another one. */
__attribute__((constructor)) static void be_another_process(int argc, char **argv)
{
    struct flagshm fs;

    if (argc != 4 || strcmp(argv[1], "--event") != 0)
        return;
    _exit(flagshm_open(&fs, NULL) == 0 && flagshm_event(&fs, argv[2], argv[3], FLAGSHM_THUMBS_DOWN) == 0 ? 0
                                                                                                         : 1);
}

Test(outcomes, an_event_of_an_id_that_is_not_split_books_nothing)
{
    struct flagshm_slot_counts counts;

    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", ", \"force\": {\"variant\": [\"friend\"]}")),
                 0);
    cr_assert_eq(flagshm_event(&w.fs, "f", "friend", FLAGSHM_THUMBS_DOWN), 0);
    cr_assert_eq(flagshm_event(&w.fs, "f", "", FLAGSHM_THUMBS_DOWN), 0);
    cr_assert_eq(flagshm_event(&w.fs, "f", "user-1", FLAGSHM_CUSTOM_4), 0);
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.arms[0].n[N(THUMBS_DOWN)] + counts.arms[1].n[N(THUMBS_DOWN)], 0);
    cr_assert_eq(counts.arms[0].n[N(CUSTOM) + 4] + counts.arms[1].n[N(CUSTOM) + 4], 1);
}
