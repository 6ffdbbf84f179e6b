/* bench_rollouts: what it costs to look after rollouts: judging one, on counts that move, and a server with 64 of them whose clients book
 * a thousand outcomes a second each. bench_reach.c has how soon harm is gone. */
#include "tests/bench_rollouts.h"

#include "server/governor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FLAGS      64u
#define PER_SECOND 1000u /* outcomes of each */

/* ---- one rollout ---- */

struct judged {
    struct flagshm_publisher publisher;
    struct flagshm_governor *governor;
    struct flagshm fs;
    struct flagshm_ward *ward;
    struct flagshm_evidence_look look;
    struct flagshm_slot_counts counts;
    char state[300];
    unsigned user;
};

/* A call more of each arm; of the variant's, each hundredth fails. */
static void move_counts(struct judged *j)
{
    struct flagshm_slot_counts *c = &j->counts;
    uint32_t arm, bad = j->user++ % 100 == 0;

    for (arm = 0; arm < 2; arm++) {
        c->arms[arm].n[FLAGSHM_N_STARTED]++;
        c->arms[arm].n[FLAGSHM_N_FINISHED]++;
        c->arms[arm].histograms[FLAGSHM_H_LATENCY][80 + j->user % 30]++;
        c->arms[arm].histograms[FLAGSHM_H_TOKENS][60 + j->user % 40]++;
        c->capped_calls[arm]++;
    }
    c->arms[1].n[FLAGSHM_N_FAILED] += bad;
    c->levels[0][0][1][0] += bad;
    c->levels[0][1][1][0] += bad;
    c->levels[0][2][1][0] += bad;
    c->levels[2][0][j->user % 2][j->user % 3] += j->user % 20 == 0;
}

static void run_judge(void *context, size_t n)
{
    struct judged *j = context;
    struct flagshm_judgement judgement;
    struct flagshm_rollout state = j->ward->state;
    struct flagshm_look look = {.now = j->publisher.moment, .has_verdict = true, .evidence = state.evidence};

    for (; n > 0; n--) {
        move_counts(j);
        j->look.now_mono_ns += 1000000;
        flagshm_evidence_judge(&j->ward->post->evidence, &j->look, &look.verdict);
        flagshm_moment_tick(&look.now, look.now.mono_ns + 1000000, look.now.wall_ns + 1000000);
        look.variant_started = j->counts.arms[1].n[FLAGSHM_N_STARTED];
        look.control_started = j->counts.arms[0].n[FLAGSHM_N_STARTED];
        if (flagshm_rollout_look(&state, &j->ward->file, &look, &judgement) &&
            judgement.transition.is_lowering)
            bench_die("the judged rollout was taken back: %s", judgement.transition.sentence);
    }
}

static void run_read(void *context, size_t n)
{
    struct judged *j = context;
    uint32_t slot = flagshm_slots_find(&j->publisher.ledger.slots, j->ward->flag_hash);

    for (; n > 0; n--)
        if (!flagshm_ledger_read(&j->publisher.ledger, slot, &j->ward->post->counts))
            bench_die("the slot cannot be read");
}

static void run_look(void *context, size_t n)
{
    struct judged *j = context;

    for (; n > 0; n--) {
        if (!bench_book(&j->fs, "judged", j->user++, 100))
            bench_die("a call has no slot");
        (void)flagshm_governor_now(j->governor);
        if (flagshm_governor_look(j->governor, j->ward))
            bench_die("the judged rollout moved: %s", j->ward->judgement.transition.sentence);
    }
}

static void run_book(void *context, size_t n)
{
    struct judged *j = context;

    for (; n > 0; n--)
        if (!bench_book(&j->fs, "judged", j->user++, 100))
            bench_die("a call has no slot");
}

static void start_judged(struct judged *j)
{
    const struct flagshm_ask ask = {
        .verb = FLAGSHM_VERB_ADVANCE, .user = "bench", .reason = "bench", .to_mpct = 50000};
    struct flagshm_governor_answer answer;
    unsigned user;

    if (flagshm_governor_ask(j->governor, "judged", &ask, 0, &answer))
        bench_die("%s", answer.sentence);
    (void)flagshm_journal_flush(j->publisher.journal, 10000);
    flagshm_governor_journal_done(j->governor);
    j->ward = flagshm_wards_find_name(&j->publisher.wards, "judged");
    flagshm_governor_beat(j->governor);
    if (flagshm_open(&j->fs, "bench-judge") != 0 || flagshm_rollout_pct(&j->fs, "judged") != 50)
        bench_die("the judged rollout did not start");
    flagshm_ledger_open_slot(&j->publisher.ledger,
                             flagshm_slots_find(&j->publisher.ledger.slots, j->ward->flag_hash));
    for (user = 0; user < 100000; user++)
        (void)bench_book(&j->fs, "judged", user, 100);
    j->user = 100000;
    flagshm_governor_beat(j->governor);
    if (j->ward->post == NULL || !j->ward->post->has_verdict)
        bench_die("the judged rollout is not judged");
    j->counts = j->ward->post->counts;
}

static void open_judged(struct judged *j, const struct bench_setup *setup)
{
    static const char text[] =
        "{\"flags\": {\"judged\": {\"control\": \"a\", \"variant\": \"b\", \"rollout\": "
        "{\"plan\": [{\"pct\": 50}, {\"pct\": 100}], \"hold\": \"24h\"}}}}";
    const struct flagshm_publisher_options publisher = {
        .segment = {.dir = setup->dir,
                    .instance = "bench-judge",
                    .group = (gid_t)-1,
                    .stale_after_ns = UINT64_C(3600000000000)},
        .state_dir = j->state,
        .file_path = "judged.json"};
    const struct flagshm_governor_options governor = {
        .publisher = &j->publisher, .instance = "bench-judge", .notify_dir = j->state};
    struct flagshm_error error = {{0}};

    (void)snprintf(j->state, sizeof j->state, "%s/judge-state", setup->dir);
    if (flagshm_publisher_open(&j->publisher, &publisher, &error) != 0 ||
        flagshm_governor_open(&j->governor, &governor, &error) != 0)
        bench_die("%s", error.text);
    if (flagshm_publisher_take(&j->publisher, text, sizeof text - 1, true) != FLAGSHM_TAKEN_PUBLISHED)
        bench_die("the judged rollout cannot be published");
    start_judged(j);
}

static void know_look(struct judged *j)
{
    const struct flagshm_ledger *ledger = &j->publisher.ledger;
    uint32_t slot;
    const struct flagshm_ledger_entry *e = flagshm_ledger_find(ledger, j->ward->flag_hash, &slot);

    j->look = (struct flagshm_evidence_look){.counts = &j->counts,
                                             .form = &e->form,
                                             .plan = j->ward->file.plan,
                                             .guards = &j->ward->guards,
                                             .q = 0.5,
                                             .is_open = true,
                                             .n = j->ward->state.evidence,
                                             .hold_ns = UINT64_C(86400000000000),
                                             .opened_mono_ns = e->opened_mono_ns,
                                             .window_4h = ledger->window_4h,
                                             .window_1h = ledger->window_1h,
                                             .now_mono_ns = j->publisher.moment.mono_ns};
}

static void judge(const struct bench_setup *setup)
{
    const struct bench_effort effort = {setup->is_quick ? 7 : 21, setup->is_quick ? 3e6 : 10e6};
    struct judged *j = calloc(1, sizeof *j);
    struct bench_op ops[] = {{.what = "judging it: evidence and rollout", .run = run_judge, .context = j},
                             {.what = "reading the counts of its slot", .run = run_read, .context = j},
                             {.what = "a whole look, and a call booked", .run = run_look, .context = j},
                             {.what = "a call booked", .run = run_book, .context = j}};

    if (j == NULL)
        bench_die("no memory");
    bench_progress("judging a rollout");
    open_judged(j, setup);
    know_look(j);
    bench_interleave(ops, sizeof ops / sizeof ops[0], &effort);
    bench_group("looking after one rollout");
    bench_row_value(ops[0].what, BENCH_NS, bench_median(ops[0].ns, ops[0].rounds), bench_min(&ops[0]), '<',
                    20e3);
    bench_row_plain(&ops[1]);
    bench_row_times(&ops[2], &ops[0], "judging it", 0);
    bench_row_plain(&ops[3]);
    bench_note("four guardrails, 100 000 users, counts that move before each look");
    flagshm_close(&j->fs);
    flagshm_governor_close(j->governor);
    flagshm_publisher_close(&j->publisher);
    free(j);
}

/* ---- sixty-four of them ---- */

/* A millisecond's calls, each millisecond; what was missed is made up for. */
static void book_all(const struct bench_rollouts *r, uint64_t *booked)
{
    struct flagshm fs;
    uint64_t begin = bench_now_ns(), done = 0, counted = 0;
    char flag[FLAGS][16];
    unsigned i;

    bench_pin(r->setup->cpu[0]);
    (void)flagshm_open(&fs, r->instance);
    for (i = 0; i < FLAGS; i++)
        (void)snprintf(flag[i], sizeof flag[i], "f%u", i);
    for (;;) {
        struct timespec pause = {0, 1000000};
        uint64_t due = (bench_now_ns() - begin) / 1000 * (FLAGS * PER_SECOND) / 1000000;

        for (; done < due; done++)
            counted += bench_book(&fs, flag[done % FLAGS], (unsigned)(done / FLAGS * 7 % 100003), 100);
        __atomic_store_n(booked, counted, __ATOMIC_RELAXED);
        (void)nanosleep(&pause, NULL);
    }
}

static uint64_t cpu_ns(pid_t pid)
{
    struct timespec now;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &now) != 0)
        bench_die("the processor time of flagshmd is not known");
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void load(const struct bench_setup *setup)
{
    struct bench_rollouts r;
    uint64_t *booked = bench_share(sizeof *booked), begin, own, idle, calls, ns;
    double seconds = setup->is_quick ? 4 : 12, busy;
    pid_t booker;

    bench_progress("%u rollouts", FLAGS);
    bench_rollouts_open(&r, setup, "bench-load", FLAGS, "1s"); /* the plan has no other step */
    own = cpu_ns(r.server);
    bench_sleep_ms(2000);
    idle = (cpu_ns(r.server) - own) / 2;
    booker = fork();
    if (booker == 0) {
        bench_end_with_parent();
        book_all(&r, booked);
    }
    bench_sleep_ms(2000); /* all slots are warm */
    begin = bench_now_ns();
    own = cpu_ns(r.server);
    calls = __atomic_load_n(booked, __ATOMIC_RELAXED);
    bench_sleep_ms((long)(seconds * 1000));
    ns = bench_now_ns() - begin;
    busy = (double)(cpu_ns(r.server) - own) * 1e9 / (double)ns;
    calls = __atomic_load_n(booked, __ATOMIC_RELAXED) - calls;
    bench_group("a server with %u guarded rollouts", FLAGS);
    bench_row_value("processor time of each second, no calls", BENCH_NS, (double)idle, -1, 0, 0);
    bench_row_value("outcomes booked each second", BENCH_COUNT, (double)calls * 1e9 / (double)ns, -1, '>',
                    0.98 * FLAGS * PER_SECOND);
    bench_row_value("processor time of each second", BENCH_NS, busy, -1, '<', 100e6);
    bench_note(
        "1000 calls a second each, begun and ended, each hundredth fails; flagshmd with all its threads");
    bench_end_process(booker, SIGKILL);
    if (bench_rollouts_share(&r, 0) != 50 || bench_rollouts_share(&r, FLAGS - 1) != 50)
        bench_note("some were rolled back meanwhile");
    bench_rollouts_close(&r);
    bench_unshare(booked, sizeof *booked);
}

void bench_group_rollouts(const struct bench_setup *setup)
{
    char path[4096];

    judge(setup);
    (void)snprintf(path, sizeof path, "%s/server/flagshmd", setup->bin != NULL ? setup->bin : "");
    if (setup->bin == NULL || access(path, X_OK) != 0) {
        bench_note("servers were not measured: there is no flagshmd");
        return;
    }
    load(setup);
    bench_reach(setup);
}
