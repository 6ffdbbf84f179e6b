/* The table of flags that a rollout walks: what their records say, who gets a slot, and what a client makes of it. */
#include "outcomes_fixture.h"

#include "server/flagfile.h"
#include "server/plan.h"
#include "server/rollout.h"
#include "server/snapshot.h"

#include <criterion/criterion.h>

#define PLANNED(share)                                                                                       \
    "\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": " share ", \"rollout\": {\"plan\": "       \
    "\"b2b\"}"
#define GUARDED FLAGSHM_SWITCH_GUARDED
#define WATCHED (FLAGSHM_SWITCH_HASH | FLAGSHM_SWITCH_GUARDED | FLAGSHM_SWITCH_STALE_CONTROL)
#define VARIANT UINT64_C(0x1234)

static struct outcomes_world w;
static struct flagshm_decision d;
static struct flagshm_slot_counts counts;
static struct flagshm_rollout rollout; /* of the flag "f" */
static bool is_unwatched;

/* As it stands while a step is walked. */
static struct flagshm_rollout walked(enum flagshm_stage stage, uint32_t share_mpct)
{
    return (struct flagshm_rollout){.version = FLAGSHM_ROLLOUT_VERSION,
                                    .stage = stage,
                                    .share_mpct = share_mpct,
                                    .cap_mpct = FLAGSHM_MPCT_FULL,
                                    .is_seen = true,
                                    .is_present = true,
                                    .is_planned = true,
                                    .variant_fingerprint = VARIANT,
                                    .attempt = 1,
                                    .evidence = 1};
}

static struct flagshm_rollout shadowed(void)
{
    struct flagshm_rollout s = walked(FLAGSHM_STAGE_SHADOW, 0);

    s.shadow_mpct = 40000;
    return s;
}

static struct flagshm_rollout rolled_back(void)
{
    struct flagshm_rollout s = walked(FLAGSHM_STAGE_ROLLED_BACK, 0);

    s.latched[0] = VARIANT;
    s.latched_count = 1;
    return s;
}

/* ---- records ---- */

struct state {
    const char *what;
    const char *members;
    struct flagshm_rollout s;
    bool is_guarded, is_killed;
    const char *stage;
    uint32_t share_mpct, shadow_mpct, switches;
    uint64_t latch;
};

static size_t states(struct state *list)
{
    size_t n = 0;
    struct flagshm_rollout probing = walked(FLAGSHM_STAGE_FULL, 100000),
                           drilled = walked(FLAGSHM_STAGE_STEP, 5000),
                           capped = walked(FLAGSHM_STAGE_STEP, 25000),
                           gone = walked(FLAGSHM_STAGE_STEP, 5000),
                           plain = walked(FLAGSHM_STAGE_STEP, 100000),
                           killed = walked(FLAGSHM_STAGE_STEP, 5000);

    probing.is_probing = true;
    drilled.is_drilling = true;
    capped.cap_mpct = 10000;
    gone.is_present = false;
    plain.is_planned = false;
    plain.cap_mpct = 5000;
    killed.is_killed = true;
#define STATE(...) list[n++] = (struct state){__VA_ARGS__}
    STATE("not begun", PLANNED("100"), walked(FLAGSHM_STAGE_OFF, 0), false, false, "off", 0, 0, 0, 0);
    STATE("shadowed", PLANNED("100"), shadowed(), true, false, "shadow-40pct", 0, 40000, WATCHED, 0);
    STATE("nobody watches", PLANNED("100"), shadowed(), false, false, "shadow-40pct", 0, 40000,
          FLAGSHM_SWITCH_HASH, 0);
    STATE("canary", PLANNED("100"), walked(FLAGSHM_STAGE_STEP, 5000), true, false, "canary-5pct", 5000, 0,
          WATCHED, 0);
    STATE("canary that holds", PLANNED("100") ", \"on_stale\": \"hold\"", walked(FLAGSHM_STAGE_STEP, 5000),
          true, false, "canary-5pct", 5000, 0, FLAGSHM_SWITCH_HASH | GUARDED, 0);
    STATE("ramp", PLANNED("100"), walked(FLAGSHM_STAGE_STEP, 12125), true, false, "ramp-12.125pct", 12125, 0,
          WATCHED, 0);
    STATE("capped", PLANNED("10"), capped, true, false, "canary-10pct", 10000, 0, WATCHED, 0);
    STATE("full", PLANNED("100"), walked(FLAGSHM_STAGE_FULL, 100000), true, false, "full", 100000, 0, GUARDED,
          0);
    STATE("full, and control without us", PLANNED("100") ", \"on_stale\": \"control\"",
          walked(FLAGSHM_STAGE_FULL, 100000), true, false, "full", 100000, 0,
          GUARDED | FLAGSHM_SWITCH_STALE_CONTROL, 0);
    STATE("held back", PLANNED("100"), walked(FLAGSHM_STAGE_FULL, 95000), true, false, "full", 95000, 0,
          WATCHED, 0);
    STATE("complete", PLANNED("100"), walked(FLAGSHM_STAGE_COMPLETE, 100000), false, false, "complete",
          100000, 0, 0, 0);
    STATE("probing", PLANNED("100"), probing, true, false, "probe-50pct", 50000, 0, WATCHED, 0);
    STATE("drilled", PLANNED("100"), drilled, false, false, "drill", 0, 0, 0, 0);
    STATE("gone", PLANNED("100"), gone, false, false, "canary-0pct", 0, 0, 0, 0);
    STATE("rolled back", PLANNED("100"), rolled_back(), true, false, "rolled-back", 0, 0,
          FLAGSHM_SWITCH_ROLLED_BACK, VARIANT);
    STATE("rolled back and off", PLANNED("100") ", \"enabled\": false", rolled_back(), true, false,
          "rolled-back", 0, 0, FLAGSHM_SWITCH_ROLLED_BACK | FLAGSHM_SWITCH_DISABLED, VARIANT);
    STATE("rolled back and killed", PLANNED("100"), rolled_back(), true, true, "killed", 0, 0,
          FLAGSHM_SWITCH_ROLLED_BACK | FLAGSHM_SWITCH_KILLED, VARIANT);
    STATE("killed", PLANNED("100"), walked(FLAGSHM_STAGE_STEP, 5000), true, true, "killed", 0, 0,
          FLAGSHM_SWITCH_KILLED, 0);
    STATE("killed, says the state", PLANNED("100"), killed, true, false, "killed", 0, 0,
          FLAGSHM_SWITCH_KILLED, 0);
    STATE("off", PLANNED("100") ", \"enabled\": false, \"on_stale\": \"control\"",
          walked(FLAGSHM_STAGE_STEP, 5000), true, false, "disabled", 0, 0, FLAGSHM_SWITCH_DISABLED, 0);
    STATE("without a plan", "\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": 5", plain, true,
          false, "static-5pct", 5000, 0, FLAGSHM_SWITCH_HASH | GUARDED, 0);
#undef STATE
    return n;
}

static void compile(struct table_fixture *f, const struct state *state, bool is_killed)
{
    char text[400];

    (void)snprintf(text, sizeof text, "{\"flags\": {\"f\": {%s}}}", state->members);
    cr_assert(table_fixture_parse(f, text), "%s", text);
    f->entries[0].rollout = &state->s;
    f->entries[0].guards = state->is_guarded ? f->entries[0].flag->guards : NULL;
    f->entries[0].is_killed = is_killed;
    cr_assert_eq(flagshm_table_build(&f->table, f->entries, 1, NULL), 0);
}

static struct flagshm_flag_entry *record_of(const struct flagshm_table *table)
{
    struct flagshm_flag_entry *r = flagshm_table_find(table, flagshm_hash64_("f", 1, 0));

    cr_assert_not_null(r);
    return r;
}

Test(table_rollout, a_record_says_what_its_rollout_serves)
{
    struct state list[32];
    size_t count = states(list), i;

    for (i = 0; i < count; i++) {
        const struct state *s = &list[i];
        const struct flagshm_flag_entry *r;
        struct table_fixture f;

        compile(&f, s, s->is_killed);
        r = record_of(&f.table);
        cr_assert_str_eq(r->stage, s->stage, "%s: %s", s->what, r->stage);
        cr_assert_eq(r->rollout_mpct, s->share_mpct, "%s: %u", s->what, r->rollout_mpct);
        cr_assert_eq(flagshm_table_share_mpct(&f.entries[0]), s->share_mpct, "%s", s->what);
        cr_assert_eq(r->shadow_mpct, s->shadow_mpct, "%s: %u", s->what, r->shadow_mpct);
        cr_assert_eq(r->switches, s->switches, "%s: %x", s->what, r->switches);
        cr_assert_eq(r->latch_fingerprint, s->latch, "%s", s->what);
        cr_assert_eq(r->slot, FLAGSHM_NO_SLOT);
        table_fixture_free(&f);
    }
}

Test(table_rollout, nobody_gets_more_than_the_file_says)
{
    struct state s = {.members = PLANNED("2"), .is_guarded = true};
    struct table_fixture f;

    s.s = walked(FLAGSHM_STAGE_STEP, 50000); /* as if it had not come to hear of it */
    compile(&f, &s, false);
    cr_assert_eq(record_of(&f.table)->rollout_mpct, 2000);
    table_fixture_free(&f);
    s.members = PLANNED("0");
    s.s = shadowed();
    compile(&f, &s, false);
    cr_assert_eq(record_of(&f.table)->shadow_mpct, 0);
    table_fixture_free(&f);
}

Test(table_rollout, a_kill_of_a_served_record_is_what_a_build_with_it_is)
{
    struct state list[32];
    size_t count = states(list), i;

    for (i = 0; i < count; i++) {
        struct table_fixture f, killed;

        compile(&f, &list[i], false);
        compile(&killed, &list[i], true);
        flagshm_table_kill(&f.table, record_of(&f.table));
        cr_assert_eq(f.table.content_hash, killed.table.content_hash, "%s", list[i].what);
        cr_assert_eq(memcmp(record_of(&f.table), record_of(&killed.table), sizeof(struct flagshm_flag_entry)),
                     0, "%s", list[i].what);
        table_fixture_free(&f);
        table_fixture_free(&killed);
    }
}

Test(table_rollout, each_change_of_state_is_a_change_of_the_record)
{
    struct state list[32];
    size_t count = states(list), i, j;

    for (i = 0; i < count; i++)
        for (j = 0; j < count; j++) {
            struct table_fixture before, after;
            const struct flagshm_flag_entry *a, *b;
            bool is_same;

            if (strcmp(list[i].members, list[j].members) != 0)
                continue;
            compile(&before, &list[i], list[i].is_killed);
            compile(&after, &list[j], list[j].is_killed);
            a = record_of(&before.table);
            b = record_of(&after.table);
            is_same = strcmp(a->stage, b->stage) == 0 && a->switches == b->switches &&
                      a->latch_fingerprint == b->latch_fingerprint && a->rollout_mpct == b->rollout_mpct;
            flagshm_table_carry_versions(&before.table, NULL, 7);
            flagshm_table_carry_versions(&after.table, &before.table, 8);
            cr_assert_eq(b->changed_version, is_same ? 7 : 8, "%s, %s", list[i].what, list[j].what);
            cr_assert_eq(before.table.content_hash == after.table.content_hash, is_same);
            table_fixture_free(&before);
            table_fixture_free(&after);
        }
}

/* ---- slots and decisions ---- */

static void adjust(struct table_fixture *f)
{
    size_t i;

    for (i = 0; i < f->count; i++)
        if (strcmp(f->entries[i].flag->name, "f") == 0) {
            f->entries[i].rollout = &rollout;
            f->entries[i].guards = is_unwatched ? NULL : f->entries[i].flag->guards;
        }
}

static void publish(const char *more)
{
    char text[600];

    (void)snprintf(text, sizeof text, "\"f\": {" PLANNED("100") "}%s", more);
    cr_assert_eq(outcomes_publish(&w, text), 0, "%s", w.error.text);
}

static void begin(const struct flagshm_rollout *s)
{
    rollout = *s;
    is_unwatched = false;
    cr_assert(outcomes_begin(&w), "%s", w.error.text);
    w.adjust = adjust;
    publish("");
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
}

static enum flagshm_reason decide(unsigned user)
{
    struct flagshm_decision again;
    struct flagshm_ref ref;
    enum flagshm_reason reason;
    char id[32];

    (void)snprintf(id, sizeof id, "user-%u", user);
    memset(&d, 0, sizeof d);
    memset(&again, 0, sizeof again);
    reason = flagshm_decide(&w.fs, "f", id, &d);
    cr_assert_eq(flagshm_resolve(&w.fs, "f", &ref), 0);
    cr_assert_eq(flagshm_decide_ref(&w.fs, &ref, id, &again), reason);
    cr_assert(again.arm == d.arm && again.bucket == d.bucket && again.slot == d.slot &&
              again.shadow == d.shadow && again.slot_generation == d.slot_generation &&
              strcmp(again.stage, d.stage) == 0);
    return reason;
}

static uint64_t count_of(uint32_t arm, enum flagshm_counter counter)
{
    cr_assert(outcomes_read(&w, "f", &counts));
    return counts.arms[arm].n[counter];
}

Test(table_rollout, at_100_a_watched_flag_splits_and_books)
{
    static const struct flagshm_outcome good = {.http_status = 200};
    struct flagshm_rollout s = walked(FLAGSHM_STAGE_FULL, 100000);
    unsigned user;

    begin(&s);
    for (user = 0; user < 50; user++) {
        cr_assert_eq(decide(user), FLAGSHM_SPLIT);
        cr_assert_eq(d.arm, 1);
        cr_assert_lt(d.bucket, 100000);
        cr_assert_eq(d.rollout_mpct, 100000);
        cr_assert_str_eq(d.stage, "full");
        cr_assert_str_eq(d.model, "new");
        cr_assert_eq(d.slot, outcomes_slot(&w, "f"));
        cr_assert_eq(flagshm_record(&w.fs, &d, &good), 0);
    }
    cr_assert_eq(count_of(1, FLAGSHM_N_FINISHED), 50);
    cr_assert_eq(flagshm_event(&w.fs, "f", "user-7", FLAGSHM_THUMBS_DOWN), 0);
    cr_assert_eq(count_of(1, FLAGSHM_N_THUMBS_DOWN), 1);
    cr_assert_eq(flagshm_rollout_pct(&w.fs, "f"), 100.0);
    outcomes_end(&w);
}

Test(table_rollout, at_100_without_a_slot_nothing_is_hashed)
{
    struct flagshm_rollout s = walked(FLAGSHM_STAGE_FULL, 100000);
    uint32_t i;
    int way;

    for (way = 0; way < 4; way++) {
        begin(&s);
        if (way == 0) { /* nobody watches any more */
            rollout.stage = FLAGSHM_STAGE_COMPLETE;
            is_unwatched = true;
        } else if (way == 1) { /* not even where somebody says so */
            rollout.stage = FLAGSHM_STAGE_COMPLETE;
        } else if (way == 2) { /* the file's own 100 % */
            rollout.is_planned = false;
            rollout.stage = FLAGSHM_STAGE_STEP;
        } else { /* another evidence, and no slot has rested */
            rollout.evidence++;
            for (i = 0; i < FLAGSHM_SLOTS; i++)
                w.ledger.slots.holders[i].is_fresh = false;
            for (i = 0; i < FLAGSHM_SLOTS; i++)
                w.ledger.slots.holders[i].rested_from = w.mono_ns;
        }
        publish("");
        cr_assert_eq(decide(1), FLAGSHM_STATIC, "%d", way);
        cr_assert(d.arm == 1 && d.bucket == FLAGSHM_NO_BUCKET && d.slot == FLAGSHM_NO_SLOT &&
                  d.slot_generation == 0);
        cr_assert_eq(w.ledger.refused_guarded, way == 3);
        if (way == 3) { /* it is tried again */
            w.mono_ns += FLAGSHM_SLOT_REST_NS;
            cr_assert(flagshm_ledger_beat(&w.ledger, &w.segment, w.mono_ns));
            publish("");
            cr_assert_eq(decide(1), FLAGSHM_SPLIT);
        }
        outcomes_end(&w);
    }
}

Test(table_rollout, a_shadowed_flag_answers_with_control_and_names_the_shadow)
{
    static const struct flagshm_outcome good = {.http_status = 200}, bad = {.http_status = 500};
    struct flagshm_rollout s = shadowed();
    unsigned user, shadows = 0;

    begin(&s);
    for (user = 0; user < 200; user++) {
        cr_assert_eq(decide(user), FLAGSHM_SPLIT);
        cr_assert(d.arm == 0 && strcmp(d.model, "old") == 0 && d.rollout_mpct == 0);
        cr_assert_eq(d.shadow, d.bucket < 40000);
        cr_assert_str_eq(d.shadow_model, d.shadow ? "new" : "");
        cr_assert_str_eq(d.stage, "shadow-40pct");
        cr_assert_eq(d.slot, outcomes_slot(&w, "f"));
        shadows += d.shadow;
        cr_assert_eq(flagshm_record(&w.fs, &d, &good), 0);
        if (d.shadow)
            cr_assert_eq(flagshm_record_shadow(&w.fs, &d, &good, &bad), 0);
    }
    cr_assert(shadows > 40 && shadows < 120, "%u", shadows);
    cr_assert(w.ledger.entries[d.slot].form.has_shadow);
    cr_assert_eq(count_of(0, FLAGSHM_N_FINISHED), 200);
    cr_assert_eq(count_of(0, FLAGSHM_N_MISBOOKED), 0);
    cr_assert_eq(count_of(1, FLAGSHM_N_FINISHED), 0);
    cr_assert_eq(count_of(2, FLAGSHM_N_FAILED), shadows, "behind the last arm");
    cr_assert_eq(flagshm_rollout_pct(&w.fs, "f"), 0.0);
    outcomes_end(&w);
}

Test(table_rollout, what_is_rolled_back_or_killed_gives_control_and_books_nothing)
{
    static const struct flagshm_outcome bad = {.http_status = 500};
    struct flagshm_rollout s = walked(FLAGSHM_STAGE_STEP, 50000);
    struct flagshm_snapshot snapshot;
    const struct flagshm_snapshot_flag *flag;
    int way;

    for (way = 0; way < 3; way++) {
        begin(&s);
        if (way < 2)
            rollout = rolled_back();
        if (way < 2)
            publish("");
        if (way > 0)
            cr_assert_eq(flagshm_segment_kill(&w.segment, "f", &w.error), 0, "%s", w.error.text);
        cr_assert_eq(decide(1), FLAGSHM_DISABLED);
        cr_assert(d.arm == 0 && d.slot == FLAGSHM_NO_SLOT && !d.shadow && d.bucket == FLAGSHM_NO_BUCKET);
        cr_assert_str_eq(d.stage, way == 0 ? "rolled-back" : "killed");
        cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
        cr_assert_eq(flagshm_event(&w.fs, "f", "user-1", FLAGSHM_RETRY), 0);
        cr_assert_eq(flagshm_rollout_pct(&w.fs, "f"), 0.0);
        cr_assert_eq(flagshm_snapshot_take(&snapshot, &w.fs, &w.error), 0);
        flag = flagshm_snapshot_find(&snapshot, "f");
        cr_assert_not_null(flag);
        cr_assert_eq(flag->switches & FLAGSHM_SWITCH_OFF,
                     (way < 2 ? FLAGSHM_SWITCH_ROLLED_BACK : 0u) | (way > 0 ? FLAGSHM_SWITCH_KILLED : 0u));
        cr_assert_eq(flag->rollout_mpct + flag->shadow_mpct, 0);
        cr_assert_eq(flag->slot, FLAGSHM_NO_SLOT);
        flagshm_snapshot_free(&snapshot);
        outcomes_end(&w);
    }
}

Test(table_rollout, a_silent_server_takes_canaries_back_and_leaves_what_is_full)
{
    struct flagshm_rollout s = walked(FLAGSHM_STAGE_STEP, 50000);
    int way;

    for (way = 0; way < 3; way++) {
        begin(&s);
        if (way == 1)
            rollout = walked(FLAGSHM_STAGE_FULL, 100000);
        if (way == 2)
            rollout = shadowed();
        publish("");
        w.segment.header->heartbeat_mono_ns -= UINT64_C(60000000000);
        cr_assert_eq(decide(1), way == 1 ? FLAGSHM_SPLIT : FLAGSHM_STALE, "%d", way);
        cr_assert_eq(d.arm, way == 1);
        cr_assert_not(d.shadow);
        outcomes_end(&w);
    }
}

Test(table_rollout, slots_go_to_those_first_that_are_judged)
{
    struct flagshm_rollout s = walked(FLAGSHM_STAGE_FULL, 100000);
    uint32_t i;

    begin(&s);
    for (i = 0; i < FLAGSHM_SLOTS; i++) /* one is free */
        w.ledger.slots.holders[i] =
            (struct flagshm_slot_holder){.is_fresh = i == 0, .rested_from = w.mono_ns};
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("a", "50", "") ", \"f\": {" PLANNED("100") "}"), 0);
    cr_assert_eq(outcomes_slot(&w, "f"), 0);
    cr_assert_eq(outcomes_slot(&w, "a"), FLAGSHM_NO_SLOT);
    cr_assert_eq(decide(1), FLAGSHM_SPLIT);
    cr_assert_eq(flagshm_decide(&w.fs, "a", "user-1", &d), FLAGSHM_SPLIT);
    cr_assert_eq(d.slot, FLAGSHM_NO_SLOT);
    outcomes_end(&w);
}
