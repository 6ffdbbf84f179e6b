/* The ledger for whoever judges: which evidence a slot is of, over edits and restarts; its wash-in, thresholds and news. */
#include "outcomes_fixture.h"

#include "server/plan.h"
#include "server/rollout.h"

#include <criterion/criterion.h>

#define FLAG     OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED)
#define MINUTE   (60 * OUTCOMES_SECOND)
#define NAME(of) flagshm_hash64_(of, strlen(of), 0)

static struct outcomes_world w;
static struct flagshm_decision d;
static struct flagshm_slot_counts counts;
static struct flagshm_rollout rollout; /* of the flag "f"; seen: it has one */
static struct flagshm_guards none;
static bool has_no_guardrails;
static uint64_t wash_in_ns, guard_key; /* as it was last compiled */
static const struct flagshm_outcome bad = {.http_status = 500};

static void adjust(struct table_fixture *f)
{
    struct flagshm_table_entry *entry = &f->entries[0];

    if (rollout.is_seen)
        entry->rollout = &rollout;
    if (has_no_guardrails)
        entry->guards = &none;
    entry->wash_in_ns = wash_in_ns;
    guard_key = flagshm_ledger_guard_key(entry);
}

static void publish(const char *flags)
{
    cr_assert_eq(outcomes_publish(&w, flags), 0, "%s", w.error.text);
}

static void begin(const char *flags)
{
    rollout = (struct flagshm_rollout){.stage = FLAGSHM_STAGE_STEP,
                                       .share_mpct = FLAGSHM_MPCT_FULL,
                                       .cap_mpct = 50000,
                                       .is_seen = true,
                                       .is_present = true,
                                       .attempt = 1,
                                       .evidence = 1};
    has_no_guardrails = false;
    wash_in_ns = MINUTE;
    cr_assert(outcomes_begin(&w), "%s", w.error.text);
    w.adjust = adjust;
    publish(flags);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
}

static struct flagshm_ledger_entry *entry_of(const char *flag)
{
    return &w.ledger.entries[outcomes_slot(&w, flag)];
}

static void restart(void)
{
    outcomes_stop(&w);
    w.mono_ns += OUTCOMES_SECOND;
    w.realtime_ns += OUTCOMES_SECOND;
    cr_assert(outcomes_start(&w));
}

static uint64_t failed(void)
{
    return outcomes_read(&w, "f", &counts) ? counts.arms[1].n[FLAGSHM_N_FAILED] : UINT64_MAX;
}

/* ---- keys ---- */

Test(ledger_guard, a_key_is_of_all_that_evidence_depends_on)
{
    struct flagshm_plan plan;
    struct flagshm_guards guards;
    struct flagshm_rollout state = {.attempt = 1, .evidence = 2};
    const struct flagshm_flag flag = {.name = "f", .plan = &plan, .guards = &guards};
    struct flagshm_table_entry entry = {.flag = &flag};
    uint64_t keys[6];
    size_t i, j;

    flagshm_plan_default(&plan);
    flagshm_guards_default(&guards);
    cr_assert_eq(flagshm_ledger_guard_key(&entry), 0, "nobody judges it");
    entry.guards = &guards;
    keys[0] = flagshm_ledger_guard_key(&entry);
    entry.rollout = &state;
    keys[1] = flagshm_ledger_guard_key(&entry);
    state.evidence++;
    keys[2] = flagshm_ledger_guard_key(&entry);
    state.attempt++;
    keys[3] = flagshm_ledger_guard_key(&entry);
    plan.overdue_ns++;
    keys[4] = flagshm_ledger_guard_key(&entry);
    guards.list[0].rollback.ratio += 1;
    keys[5] = flagshm_ledger_guard_key(&entry);
    for (i = 0; i < 6; i++) {
        cr_assert_neq(keys[i], 0);
        for (j = 0; j < i; j++)
            cr_assert_neq(keys[i], keys[j], "%zu, %zu", i, j);
    }
    state.hold_ns = 77;
    plan.alpha = 0.05;
    cr_assert_eq(flagshm_ledger_guard_key(&entry), keys[5], "not of what has no part in it");
}

Test(ledger_guard, other_evidence_is_another_slot)
{
    uint32_t slot;

    begin(FLAG);
    slot = outcomes_slot(&w, "f");
    outcomes_decide(&w, "f", 1, 0, &d);
    cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
    publish(FLAG);
    cr_assert_eq(outcomes_slot(&w, "f"), slot, "the same");
    rollout.hold_ns += MINUTE;
    publish(FLAG);
    cr_assert_eq(failed(), 1);
    rollout.evidence++;
    publish(FLAG);
    cr_assert_neq(outcomes_slot(&w, "f"), slot);
    cr_assert_eq(failed(), 0);
    cr_assert_not(entry_of("f")->is_open, "it washes in anew");
    outcomes_end(&w);
}

Test(ledger_guard, after_a_start_the_evidence_that_was_adopted_goes_on)
{
    uint32_t slot, generation;
    uint64_t key;

    begin(FLAG);
    slot = outcomes_slot(&w, "f");
    generation = w.ledger.slots.holders[slot].generation;
    key = guard_key;
    w.mono_ns += MINUTE;
    w.realtime_ns += MINUTE;
    outcomes_end_wash_ins(&w);
    restart();
    cr_assert(flagshm_ledger_holds(&w.ledger, NAME("f"), key));
    cr_assert_not(flagshm_ledger_holds(&w.ledger, NAME("f"), key + 1));
    cr_assert_not(flagshm_ledger_holds(&w.ledger, NAME("f"), 0));
    cr_assert_not(flagshm_ledger_holds(&w.ledger, NAME("g"), key));
    publish(FLAG);
    cr_assert_eq(outcomes_slot(&w, "f"), slot);
    cr_assert_eq(w.ledger.slots.holders[slot].generation, generation);
    cr_assert(entry_of("f")->is_open);
    restart();
    rollout.evidence++; /* the journal knows of more */
    publish(FLAG);
    cr_assert_neq(outcomes_slot(&w, "f"), slot);

    /* who writes another key over it only gets the flag another slot */
    slot = outcomes_slot(&w, "f");
    outcomes_slot_bytes(&w, "f")->guards_hash ^= 1;
    restart();
    cr_assert_not(flagshm_ledger_holds(&w.ledger, NAME("f"), guard_key));
    publish(FLAG);
    cr_assert_neq(outcomes_slot(&w, "f"), slot);
    outcomes_end(&w);
}

Test(ledger_guard, a_slot_that_nobody_judges_is_held_too)
{
    begin(OUTCOMES_FLAG("f", "50", ""));
    cr_assert_eq(guard_key, 0);
    restart();
    cr_assert(flagshm_ledger_holds(&w.ledger, NAME("f"), 0));
    cr_assert_not(flagshm_ledger_holds(&w.ledger, NAME("f"), 1));
    cr_assert(entry_of("f")->is_open);
    outcomes_end(&w);
}

/* ---- the wash-in ---- */

Test(ledger_guard, each_slot_washes_in_for_its_own_time_and_is_opened_by_others)
{
    begin(FLAG);
    cr_assert_eq(entry_of("f")->wash_in_ns, MINUTE);
    wash_in_ns = 5 * MINUTE;
    publish(FLAG);
    cr_assert_eq(entry_of("f")->wash_in_ns, MINUTE, "as it was taken");
    rollout.evidence++;
    publish(FLAG);
    cr_assert_eq(entry_of("f")->wash_in_ns, 5 * MINUTE);
    w.mono_ns += 10 * MINUTE;
    (void)flagshm_ledger_beat(&w.ledger, &w.segment, w.mono_ns);
    cr_assert_not(entry_of("f")->is_open, "not by the ledger: thresholds come first");
    cr_assert_not(outcomes_slot_bytes(&w, "f")->is_open);
    restart();
    cr_assert_not(entry_of("f")->is_open);
    flagshm_ledger_open_slot(&w.ledger, outcomes_slot(&w, "f"));
    cr_assert(entry_of("f")->is_open);
    cr_assert(outcomes_slot_bytes(&w, "f")->is_open);
    outcomes_end(&w);
}

Test(ledger_guard, a_plan_without_guardrails_washes_in_as_well)
{
    begin(FLAG);
    has_no_guardrails = true;
    publish(FLAG);
    cr_assert_eq(entry_of("f")->form.signal_count, 0);
    cr_assert_neq(guard_key, 0);
    cr_assert_not(entry_of("f")->is_open, "its users are counted");
    cr_assert_not(outcomes_slot_bytes(&w, "f")->is_open);
    restart();
    cr_assert_not(entry_of("f")->is_open);
    outcomes_end(&w);
}

/* ---- thresholds ---- */

Test(ledger_guard, thresholds_are_those_of_amounts_and_are_found_again)
{
    uint64_t known[FLAGSHM_SIGNALS_MAX];
    uint32_t slot, i, amounts = 0;
    const struct flagshm_slot_form *form;

    begin(FLAG);
    slot = outcomes_slot(&w, "f");
    flagshm_ledger_thresholds(&w.ledger, slot, known);
    for (i = 0; i < FLAGSHM_SIGNALS_MAX; i++)
        cr_assert_eq(known[i], UINT64_MAX);
    for (i = 0; i < FLAGSHM_SIGNALS_MAX; i++)
        flagshm_ledger_set_threshold(&w.ledger, slot, i, 1000 + i);
    restart();
    form = &entry_of("f")->form;
    flagshm_ledger_thresholds(&w.ledger, slot, known);
    for (i = 0; i < FLAGSHM_SIGNALS_MAX; i++) {
        bool is_amount = i < form->signal_count && form->signals[i].kind >= FLAGSHM_SIGNAL_LATENCY;

        cr_assert_eq(known[i], is_amount ? 1000 + i : UINT64_MAX, "%u", i);
        cr_assert_eq(outcomes_slot_bytes(&w, "f")->signals[i].threshold, is_amount                ? 1000 + i
                                                                         : i < form->signal_count ? UINT64_MAX
                                                                                                  : 0);
        amounts += is_amount;
    }
    cr_assert_eq(amounts, 4, "of latency_p95 and tokens_total two each");
    outcomes_end(&w);
}

/* ---- news, and room ---- */

Test(ledger_guard, news_are_of_slots_and_told_once)
{
    uint64_t slots[FLAGSHM_SLOTS / 64];
    uint32_t f, g;

    begin(FLAG ", " OUTCOMES_FLAG("g", "50", OUTCOMES_GUARDED));
    f = outcomes_slot(&w, "f");
    g = outcomes_slot(&w, "g");
    flagshm_ledger_arm(&w.ledger);
    flagshm_ledger_take_news(&w.ledger, slots);
    cr_assert_eq(slots[0] | slots[1] | slots[2] | slots[3], 0);
    outcomes_decide(&w, "g", 1, 0, &d);
    cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
    flagshm_ledger_rung(&w.ledger);
    outcomes_decide(&w, "f", 0, 0, &d);
    cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
    flagshm_ledger_arm(&w.ledger);
    flagshm_ledger_take_news(&w.ledger, slots);
    cr_assert_eq(slots[0], UINT64_C(1) << f | UINT64_C(1) << g);
    flagshm_ledger_take_news(&w.ledger, slots);
    cr_assert_eq(slots[0], 0);
    outcomes_end(&w);
}

Test(ledger_guard, whether_a_slot_is_free_is_known_before_one_is_asked_for)
{
    struct flagshm_outcomes *segment;
    uint32_t i;

    begin(FLAG);
    cr_assert(flagshm_ledger_has_free(&w.ledger, w.mono_ns));
    for (i = 0; i < FLAGSHM_SLOTS; i++) {
        w.ledger.slots.holders[i].is_fresh = false;
        w.ledger.slots.holders[i].rested_from = w.mono_ns;
    }
    cr_assert_not(flagshm_ledger_has_free(&w.ledger, w.mono_ns));
    cr_assert(flagshm_ledger_has_free(&w.ledger, w.mono_ns + FLAGSHM_SLOT_REST_NS));
    segment = w.ledger.file.segment;
    w.ledger.file.segment = NULL;
    cr_assert_not(flagshm_ledger_has_free(&w.ledger, w.mono_ns + FLAGSHM_SLOT_REST_NS), "there is none");
    w.ledger.file.segment = segment;
    outcomes_end(&w);
}
