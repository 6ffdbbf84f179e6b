/* Random walks of one rollout through its ward, as the publisher and the governor lead it: edits, words of persons, looks, rises that wait
 * for their commit, tables that do not come out, restarts. Whatever the order: what is in force is what is served, never above the cap,
 * never over a latch or a kill, and each change is one move. The last tests lead it wrongly, and must see it break. */
#include "wards_fixture.h"

#define STEPS 300

enum fault { NONE, SETTLES_ANYWAY, KEEPS_PENDING, LOSES_MOVES };

static struct wards_world w;
static enum fault fault;
static uint64_t seed;
static char flags[2048];
static bool is_present, is_editing; /* editing: a set that is not published is freed */
static uint32_t served_mpct;        /* of the table that is out */
static char *journal;               /* the last text of the flag */
static bool is_written;             /* will the rise that waits be reported as written? */
static uint64_t last_id;
static const char *broken; /* what did not hold; NULL: all does */
static size_t rises, falls, superseded, refused, restarts;

#define SHADOW_FIRST                                                                                         \
    "{\"plan\": [{\"shadow_pct\": 10}, {\"pct\": 5}, {\"pct\": 50}, {\"pct\": 100}], \"hold\": \"10m\"}"
static const char *const plans[] = {PLAN, SHADOW_FIRST,
                                    "{\"plan\": [{\"pct\": 2}, {\"pct\": 60}], \"hold\": \"5m\"}"};

static uint32_t below(uint32_t limit)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % limit;
}

static bool chance(uint32_t in_hundred)
{
    return below(100) < in_hundred;
}

static void hold(bool is_so, const char *what)
{
    if (!is_so && broken == NULL)
        broken = what;
}

static struct flagshm_ward *ward(void)
{
    return ward_of(&w, "f");
}

static bool is_stopped(const struct flagshm_rollout *s)
{
    return s->is_killed || s->stage == FLAGSHM_STAGE_ROLLED_BACK || !s->is_present;
}

/* ---- tables and journal ---- */

static void write_down(const struct flagshm_rollout *state)
{
    free(journal);
    journal = flagshm_ward_write(ward(), state);
}

/* What the next table serves of the flag. */
static uint32_t drafted_mpct(void)
{
    const struct flagshm_rollout *s = ward()->draft != NULL ? &ward()->draft->state : &ward()->state;
    struct flagshm_table_entry entry;

    flagshm_ward_entry(ward(), &entry);
    hold(entry.rollout == s, "a table is made of something else than the draft");
    hold(flagshm_rollout_share(s) == 0 || flagshm_rollout_share(s) <= ward()->next_file.cap_mpct,
         "a draft is above the cap");
    hold(!is_stopped(s) || flagshm_rollout_share(s) == 0, "a draft serves what is stopped");
    return flagshm_rollout_share(s);
}

static void settle(bool is_published)
{
    uint32_t next_mpct = drafted_mpct();

    flagshm_wards_settle(&w.wards, is_published || (fault == SETTLES_ANYWAY && !is_editing));
    if (is_published)
        served_mpct = next_mpct;
    else
        refused++;
}

/* Takes out the moves of one event, at most one; its transition is what happened to the share. */
static void take_moves(uint32_t before_mpct, const struct flagshm_transition *rise)
{
    uint32_t now_mpct = flagshm_rollout_share(&ward()->state);
    struct flagshm_transition t = {0};
    struct flagshm_ward_move move;
    int count = 0;

    if (fault == LOSES_MOVES && chance(60))
        (void)flagshm_ward_take_move(&w.wards, ward(), &move);
    while (flagshm_ward_take_move(&w.wards, ward(), &move)) {
        t = move.transition;
        count++;
        write_down(&ward()->state);
        hold(ward()->pending == NULL, "a rise waits on though another change is in force");
    }
    if (rise != NULL) {
        t = *rise;
        count++;
    }
    hold(count <= 1, "one event is several moves");
    hold(count == 1 || now_mpct == before_mpct, "a share has moved, and nobody says so");
    if (count == 0)
        return;
    hold(t.from_mpct == before_mpct && t.to_mpct == now_mpct, "a move says another share");
    hold(t.id > last_id, "a number is given out twice");
    last_id = t.id;
    rises += now_mpct > before_mpct;
    falls += now_mpct < before_mpct;
}

/* ---- as the governor does it ---- */

static bool is_rise(const struct flagshm_transition *t)
{
    return t->to_mpct > t->from_mpct ||
           (t->to_mpct == t->from_mpct && t->to_shadow_mpct > t->from_shadow_mpct);
}

static void begin_rise(void)
{
    struct flagshm_ward *f = ward();

    superseded += f->pending != NULL;
    free(f->pending);
    f->pending = malloc(sizeof *f->pending);
    *f->pending = f->draft->state;
    flagshm_ward_drop_draft(f);
    is_written = chance(80);
    if (is_written)
        write_down(f->pending);
}

/* A draft with a transition comes into force, or waits. */
static void lead(void)
{
    struct flagshm_ward *f = ward();
    struct flagshm_ward_draft copy = *f->draft;

    if (is_rise(&copy.transition)) {
        begin_rise();
        return;
    }
    if (!flagshm_ward_is_visible(f)) {
        flagshm_ward_apply(&w.wards, f);
        return;
    }
    if (chance(85)) {
        settle(true);
        return;
    }
    settle(false);
    if (!copy.transition.is_lowering)
        return;
    *flagshm_ward_draft(f) = copy; /* taken away by a switch in a copy of the table */
    flagshm_ward_apply(&w.wards, f);
    served_mpct = flagshm_rollout_share(&f->state);
}

static void report(void)
{
    struct flagshm_ward *f = ward();
    struct flagshm_rollout pending, before = f->state;
    struct flagshm_transition t = {0};

    if (f->pending == NULL)
        return;
    pending = *f->pending;
    free(f->pending);
    f->pending = NULL;
    if (!is_written)
        return;
    hold(!is_stopped(&before) || pending.attempt != before.attempt,
         "a rise comes into force over a latch or a kill");
    hold(pending.variant_fingerprint == before.variant_fingerprint,
         "a rise of another value comes into force");
    t = (struct flagshm_transition){.id = pending.transitions,
                                    .from_mpct = flagshm_rollout_share(&before),
                                    .to_mpct = flagshm_rollout_share(&pending)};
    flagshm_ward_draft(f)->state = pending;
    if (chance(85)) {
        settle(true);
        take_moves(t.from_mpct, &t);
    } else {
        settle(false);
        f->state.transitions = pending.transitions;
        write_down(&f->state);
    }
}

/* ---- what happens ---- */

static void random_verdict(struct flagshm_look *look)
{
    struct flagshm_verdict *v = &look->verdict;

    look->has_verdict = true;
    look->evidence = ward()->state.evidence;
    v->guard_count = ward()->guards.count;
    v->guards[0].kind = ward()->guards.list[0].kind;
    v->guards[0].is_significant = v->guards[0].is_material = chance(2);
    v->guards[0].holds = chance(2);
    v->has_breaker = chance(1);
    v->is_limited = chance(2);
    v->is_both_bad = chance(2);
    v->variant_users = v->shadow_pairs = v->variant_calls = v->control_calls = 1000;
    v->is_open = true;
    v->last_outcome_mono_ns = w.now.mono_ns;
    look->variant_started = look->control_started = w.now.mono_ns / SECOND;
}

static void look(void)
{
    struct flagshm_look l = {.local = {true, 0, 600}};
    struct flagshm_judgement judgement;
    struct flagshm_ward_draft *draft;

    if (!ward()->file.is_present || !ward()->state.is_seen)
        return;
    random_verdict(&l);
    l.now = w.now;
    draft = flagshm_ward_draft(ward());
    draft->has_transition = flagshm_rollout_look(&draft->state, &ward()->file, &l, &judgement);
    draft->transition = judgement.transition;
    if (!draft->has_transition)
        flagshm_ward_apply(&w.wards, ward());
    else if (is_rise(&draft->transition) && ward()->pending != NULL)
        flagshm_ward_drop_draft(ward());
    else
        lead();
}

static void random_flags(void)
{
    static const char *const caps[] = {"", ", \"rollout_pct\": 1.5", ", \"rollout_pct\": 0",
                                       ", \"rollout_pct\": 40"};
    static const char *const guards[] = {"", "", ", \"guardrails\": [{\"kind\": \"error_rate\"}]"};
    static const char *const values[] = {"new", "new", "new", "newer"}, *const controls[] = {"old", "old",
                                                                                             "older"};
    const char *cap = chance(70) ? "" : caps[below(4)];
    size_t used;

    is_present = chance(92);
    used = (size_t)snprintf(flags, sizeof flags, PLANNED("g"));
    if (is_present)
        used += (size_t)snprintf(flags + used, sizeof flags - used,
                                 ", \"f\": {\"control\": \"%s\", \"variant\": \"%s\"%s%s", controls[below(3)],
                                 values[below(4)], cap, guards[below(3)]);
    if (is_present && chance(95))
        used += (size_t)snprintf(flags + used, sizeof flags - used, ", \"rollout\": %s",
                                 plans[chance(70) ? 0 : below(3)]);
    if (is_present)
        (void)snprintf(flags + used, sizeof flags - used, "}");
}

/* A rise that waits rests on the file of before: where an edit ends it without a word, what is in force is written down again. */
static void edit(void)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags;
    bool is_published = chance(85), has_pending = ward()->pending != NULL;
    static char before[sizeof flags];

    memcpy(before, flags, sizeof flags);
    random_flags();
    world_parse(&w, flags, &file, &diags);
    flagshm_wards_refuse(&w.wards, &file, &diags);
    if (file.errors > 0 || world_draft(&w, &file) != 0)
        is_published = false; /* here the whole file is; the publisher keeps the flag's last good form */
    is_editing = true;
    settle(is_published);
    is_editing = false;
    if (is_published) {
        flagshm_flagfile_free(&w.good);
        w.good = file;
    } else {
        flagshm_flagfile_free(&file);
        memcpy(flags, before, sizeof flags);
    }
    if (has_pending && ward()->pending == NULL)
        write_down(&ward()->state);
    flagshm_diags_free(&diags);
}

static void ask(void)
{
    static const uint32_t shares[] = {0, 0, 5000, 25000, 100000};
    struct flagshm_ask word = {.verb = (enum flagshm_verb)below(FLAGSHM_VERB_DRILL_END + 1),
                               .is_resume = chance(50),
                               .to_mpct = shares[below(5)],
                               .wait = (enum flagshm_wait)below(FLAGSHM_WAITS),
                               .for_ns = HOUR};

    if (ward()->source == NULL)
        return;
    if ((word.verb == FLAGSHM_VERB_KILL || word.verb == FLAGSHM_VERB_ROLLBACK) && chance(50))
        word.verb = FLAGSHM_VERB_CLEAR;
    if (world_ask(&w, "f", word) != 0) {
        flagshm_ward_drop_draft(ward());
        return;
    }
    if (word.verb == FLAGSHM_VERB_UNKILL) /* a person's word of the publisher's, not the governor's */
        settle(true);
    else
        lead();
}

/* What was drafted is gone; what was written, and what is served, stays. */
static void restart(void)
{
    struct flagshm_rollout before = ward()->state;
    bool is_same, was_planned = before.is_planned;
    char word[25] = "";

    restarts++;
    flagshm_rollout_stage_word(&before, word);
    w.is_adopted = chance(80);
    w.served = (struct flagshm_rollout_served){.fingerprint = before.variant_fingerprint,
                                               .share_mpct = served_mpct,
                                               .is_killed = before.is_killed,
                                               .is_latched = before.stage == FLAGSHM_STAGE_ROLLED_BACK,
                                               .is_slot_kept = chance(50)};
    w.served.stage = flagshm_stage_from_word(word, &w.served.is_probe, &w.served.is_drill);
    w.is_killed = before.is_killed;
    flagshm_wards_free(&w.wards);
    memset(&w.wards, 0, sizeof w.wards);
    flagshm_flagfile_free(&w.good);
    w.has_good = false;
    hold(journal == NULL || flagshm_ward_read(flagshm_wards_add(&w.wards, "f"), journal),
         "what was written down cannot be read");
    while (chance(20))
        world_take_or_not(&w, flags, false);
    world_take(&w, flags);
    if (ward() == NULL)
        (void)flagshm_wards_add(&w.wards, "f");
    is_same = ward()->state.variant_fingerprint == before.variant_fingerprint && was_planned &&
              ward()->state.is_planned && !before.is_drilling;
    hold(!w.is_adopted || !is_same || flagshm_rollout_share(&ward()->state) <= served_mpct,
         "a restart raises what was served");
    served_mpct = drafted_mpct();
    last_id = ward()->state.transitions;
    w.wards.moved = 0;
    while (ward()->moves != NULL) {
        struct flagshm_ward_move *next = ward()->moves->next;

        free(ward()->moves);
        ward()->moves = next;
    }
    write_down(&ward()->state);
}

static void step(void)
{
    uint32_t before_mpct, kind = below(1000);
    struct flagshm_rollout *kept = NULL;

    world_pass(&w, chance(80) ? 8 * SECOND : below(4000) * SECOND);
    before_mpct = flagshm_rollout_share(&ward()->state);
    if (fault == KEEPS_PENDING && ward()->pending != NULL) {
        kept = malloc(sizeof *kept);
        *kept = *ward()->pending;
    }
    if (kind < 700) {
        look();
    } else if (kind < 850) {
        report();
        before_mpct = flagshm_rollout_share(&ward()->state);
    } else if (kind < 910) {
        edit();
    } else if (kind < 985) {
        ask();
    } else {
        restart();
        before_mpct = flagshm_rollout_share(&ward()->state);
    }
    if (kept != NULL && kind >= 850 && kind < 985 && ward()->pending == NULL) {
        ward()->pending = kept;
        kept = NULL;
    }
    free(kept);
    take_moves(before_mpct, NULL);
    hold(flagshm_rollout_share(&ward()->state) == served_mpct, "what is in force is not what is served");
    hold(ward()->draft == NULL, "a draft was left over");
}

/* What broke; NULL: nothing. */
static const char *walk(uint64_t number, enum fault of)
{
    int i;

    seed = number;
    fault = of;
    broken = NULL;
    last_id = 0;
    journal = NULL;
    world_begin(&w);
    snprintf(flags, sizeof flags, "%s, %s", PLANNED("f"), PLANNED("g"));
    world_take(&w, flags);
    served_mpct = drafted_mpct();
    take_moves(0, NULL);
    for (i = 0; i < STEPS && broken == NULL; i++)
        step();
    free(journal);
    world_end(&w);
    return broken;
}

Test(wards_walk, what_is_in_force_is_served_and_each_change_is_one_move)
{
    uint64_t i;

    for (i = 0; i < 600; i++)
        cr_assert_null(walk(i, NONE), "walk %llu: %s", (unsigned long long)i, broken);
    cr_assert(rises > 1000 && falls > 1000 && superseded > 100 && refused > 1000 && restarts > 1000,
              "%zu %zu %zu %zu %zu", rises, falls, superseded, refused, restarts);
}

/* Walks of a governor that makes a mistake; how many of them are seen. */
static int seen(enum fault of)
{
    int found = 0;
    uint64_t i;

    for (i = 0; i < 200; i++)
        found += walk(i, of) != NULL;
    return found;
}

Test(wards_walk, a_walk_sees_states_that_run_ahead_of_the_table)
{
    cr_assert_gt(seen(SETTLES_ANYWAY), 50);
}

Test(wards_walk, a_walk_sees_a_rise_that_outlives_another_change)
{
    cr_assert_gt(seen(KEEPS_PENDING), 50);
}

Test(wards_walk, a_walk_sees_moves_that_get_lost)
{
    cr_assert_gt(seen(LOSES_MOVES), 100);
}
