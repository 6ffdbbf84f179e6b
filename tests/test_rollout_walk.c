/* Random walks: whatever happens in whatever order, what must hold holds; a state survives its text; a journal of inputs, replayed, gives
 * the same transitions. */
#include "server/rollout_internal.h"
#include "tests/rollout_fixture.h"

#define EVENTS 400

enum happening { LOOK, EDIT, ASK, RESTART };

/* All that a walk is made of, so that it can be made again. */
struct event {
    enum happening what;
    struct flagshm_look look;
    struct flagshm_rollout_file file;
    uint32_t plan, guards; /* numbers */
    struct flagshm_ask ask;
    struct flagshm_rollout_served served;
    bool has_served, is_lost;
};

static const char *const plans[] = {
    PLAN,
    "{\"plan\": [{\"shadow_pct\": 10}, {\"pct\": 5}, {\"pct\": 50, \"approval\": true}, {\"pct\": 100}], "
    "\"hold\": \"10m\", \"watch\": \"20m\"}",
    "{\"plan\": [{\"pct\": 2}, {\"pct\": 3}, {\"pct\": 60}, {\"pct\": 100}], \"hold\": \"5m\", "
    "\"holdback_pct\": 5}",
    "{\"plan\": [{\"pct\": 100}], \"hold\": \"1m\", \"mode\": \"guard\"}",
    "{\"plan\": [{\"pct\": 5}, {\"pct\": 100}], \"hold\": \"1m\", \"mode\": \"observe\"}",
    "{\"plan\": [{\"pct\": 5}, {\"pct\": 20}, {\"pct\": 100}], \"hold\": \"1m\", \"watch\": \"1m\", "
    "\"no_data\": {\"grace\": \"1m\", \"action\": "
    "\"rollback\"}}",
    "{\"plan\": [{\"pct\": 5}, {\"pct\": 20}, {\"pct\": 100}], \"hold\": \"30s\", \"watch\": \"3d\", "
    "\"no_data\": {\"grace\": \"1m\", \"action\": "
    "\"advance\"}, \"window\": {\"tz\": \"UTC\", \"days\": \"mon-fri\"}}",
    "",
};
static const char *const guard_lists[] = {
    "\"default\"", "[]", "[{\"kind\": \"error_rate\"}, {\"kind\": \"lost\", \"mode\": \"observe\"}]"};

#define PLANS  (sizeof plans / sizeof plans[0])
#define GUARDS (sizeof guard_lists / sizeof guard_lists[0])

static struct flagshm_plan parsed_plans[PLANS];
static struct flagshm_guards parsed_guards[GUARDS];
static uint64_t seed;

static uint32_t below(uint32_t limit)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % limit;
}

static bool chance(uint32_t in_thousand)
{
    return below(1000) < in_thousand;
}

static void parse_all(void)
{
    struct world *w = calloc(1, sizeof *w);
    size_t i;

    for (i = 0; i < PLANS; i++) {
        world_plan(w, plans[i], "\"default\"");
        parsed_plans[i] = w->plan;
    }
    for (i = 0; i < GUARDS; i++) {
        world_plan(w, "", guard_lists[i]);
        parsed_guards[i] = w->guards;
    }
    free(w);
}

/* ---- making events ---- */

static void random_verdict(struct flagshm_look *look, const struct flagshm_rollout *s, uint32_t guards)
{
    struct flagshm_verdict *v = &look->verdict;
    uint32_t i;

    memset(v, 0, sizeof *v);
    look->has_verdict = chance(980);
    look->evidence = s->evidence - chance(20);
    v->q = flagshm_rollout_share(s) / 1e5;
    v->guard_count = parsed_guards[guards].count;
    for (i = 0; i < v->guard_count; i++) {
        v->guards[i].kind = parsed_guards[guards].list[i].kind;
        v->guards[i].is_significant = chance(4);
        v->guards[i].is_material = chance(500);
        v->guards[i].holds = chance(4);
        v->guards[i].is_absolute = chance(2);
        v->guards[i].ln_e = below(400) / 7.0;
        v->guards[i].rate_variant = below(1000) / 999.0;
    }
    v->has_breaker = chance(2);
    v->has_thin_breaker = chance(2);
    v->is_both_bad = chance(10);
    v->is_limited = chance(5);
    v->is_both_limited = chance(3);
    v->has_srm = chance(3);
    v->is_tainted = chance(3);
    v->variant_users = below(300);
    v->variant_calls = below(2) ? below(1000) : 0;
    v->control_calls = below(1000);
    v->shadow_pairs = below(40);
    if (look->now.mono_ns / (5 * MINUTE) % 4 != 0 && chance(900)) /* and every now and then silence */
        v->last_outcome_mono_ns = look->now.mono_ns;
    look->variant_started = below(100);
}

static void random_time(struct flagshm_moment *now)
{
    uint64_t by = chance(20) ? below(40000) * SECOND : below(10) * SECOND, wall = by;

    if (chance(10))
        wall = by + below(100000) * SECOND;
    else if (chance(10))
        wall = by - below(100000) * SECOND;
    flagshm_moment_tick(now, now->mono_ns + by, now->wall_ns + wall);
}

static void random_file(struct event *e)
{
    static const uint32_t caps[] = {0, 1500, 10000, 50000, 100000, 100000, 100000};

    switch (below(8)) {
    case 0:
    case 1:
        e->file.cap_mpct = caps[below(7)];
        break;
    case 2:
        e->plan = below(PLANS);
        break;
    case 3:
        e->guards = below(GUARDS);
        break;
    case 4:
        if (chance(300))
            e->file.variant_fingerprint = 0xb0 + below(4);
        break;
    case 5:
        if (chance(300))
            e->file.control_fingerprint = 0xa0 + below(3);
        break;
    case 6:
        e->file.form_hash = 0xf0 + below(3);
        break;
    default:
        e->file.is_present = chance(800);
        break;
    }
}

static void random_ask(struct event *e)
{
    static const uint32_t shares[] = {0, 0, 0, 7000, 30000, 100000};

    e->ask = (struct flagshm_ask){.verb = (enum flagshm_verb)below(FLAGSHM_VERB_DRILL_END + 1),
                                  .user = "ann",
                                  .reason = chance(800) ? "r" : "",
                                  .is_resume = chance(500),
                                  .to_mpct = shares[below(6)],
                                  .wait = (enum flagshm_wait)below(FLAGSHM_WAITS),
                                  .for_ns = below(100) * MINUTE,
                                  .drill_ns = below(1000),
                                  .has_failed = chance(100)};
    /* Stops are rarer, else nothing ever gets anywhere. */
    if ((e->ask.verb == FLAGSHM_VERB_KILL || e->ask.verb == FLAGSHM_VERB_ROLLBACK ||
         e->ask.verb == FLAGSHM_VERB_PAUSE) &&
        chance(700))
        e->ask.verb = FLAGSHM_VERB_RESUME;
}

static void random_restart(struct event *e, const struct flagshm_rollout *s)
{
    char word[24];

    e->has_served = chance(700);
    e->is_lost = chance(100);
    e->served = (struct flagshm_rollout_served){.fingerprint = s->variant_fingerprint,
                                                .share_mpct = flagshm_rollout_share(s)};
    flagshm_rollout_stage_word(s, word);
    e->served.stage = flagshm_stage_from_word(word, &e->served.is_probe, &e->served.is_drill);
    e->served.is_killed = s->is_killed || chance(20);
    e->served.is_latched = s->stage == FLAGSHM_STAGE_ROLLED_BACK || chance(20);
    e->served.is_slot_kept = chance(500);
    if (chance(100))
        e->served.share_mpct = below(100001);
}

static void random_event(struct event *e, const struct event *last, const struct flagshm_rollout *s)
{
    uint32_t kind = below(1000);

    *e = *last;
    random_time(&e->look.now);
    e->what = kind < 900 ? LOOK : kind < 950 ? EDIT : kind < 990 ? ASK : RESTART;
    if (e->what == EDIT)
        random_file(e);
    if (e->what == ASK)
        random_ask(e);
    if (e->what == RESTART) {
        uint64_t mono_ns = chance(500) ? e->look.now.mono_ns : SECOND, wall_ns = e->look.now.wall_ns;

        random_restart(e, s);
        memset(&e->look.now, 0, sizeof e->look.now);
        flagshm_moment_tick(&e->look.now, mono_ns, wall_ns);
    }
    e->look.is_frozen = chance(30);
    e->look.local = (struct flagshm_local_time){chance(990), (uint8_t)below(7), (uint16_t)below(1440)};
    random_verdict(&e->look, s, e->guards);
    e->file.plan = &parsed_plans[e->plan];
    e->file.guards = &parsed_guards[e->guards];
}

/* ---- what happens ---- */

static bool apply(struct flagshm_rollout *s, const struct event *e, struct flagshm_transition *t)
{
    struct flagshm_judgement judgement;
    bool has = false;

    memset(t, 0, sizeof *t);
    switch (e->what) {
    case LOOK:
        has = flagshm_rollout_look(s, &e->file, &e->look, &judgement);
        *t = judgement.transition;
        break;
    case EDIT:
        has = flagshm_rollout_edit(s, &e->file, &e->look.now, t);
        break;
    case ASK:
        has = flagshm_rollout_ask(s, &e->file, &e->ask, &e->look.now, t) == 0;
        break;
    case RESTART:
        if (e->is_lost)
            memset(s, 0, sizeof *s);
        has = flagshm_rollout_recover(s, e->has_served ? &e->served : NULL, &e->file, e->is_lost,
                                      &e->look.now, t);
        break;
    }
    return has;
}

/* ---- what must hold ---- */

static bool is_in(enum flagshm_cause cause, const enum flagshm_cause *list, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (list[i] == cause)
            return true;
    return false;
}

#define IS_IN(cause, list) is_in(cause, list, sizeof(list) / sizeof(list)[0])

static const enum flagshm_cause look_raises[] = {FLAGSHM_CAUSE_STARTED, FLAGSHM_CAUSE_ADVANCED,
                                                 FLAGSHM_CAUSE_ADVANCED_THIN, FLAGSHM_CAUSE_PROBE_ENDED,
                                                 FLAGSHM_CAUSE_DRILL_ENDED};
static const enum flagshm_cause person_raises[] = {FLAGSHM_CAUSE_UNKILLED, FLAGSHM_CAUSE_CLEARED,
                                                   FLAGSHM_CAUSE_ADVANCED_BY_HAND, FLAGSHM_CAUSE_DRILL_ENDED};
static const enum flagshm_cause planned_file_raises[] = {FLAGSHM_CAUSE_CAP, FLAGSHM_CAUSE_FLAG_BACK};
static const enum flagshm_cause lowers[] = {
    FLAGSHM_CAUSE_GUARDRAIL,    FLAGSHM_CAUSE_BREAKER,      FLAGSHM_CAUSE_ABSOLUTE, FLAGSHM_CAUSE_NO_DATA,
    FLAGSHM_CAUSE_STEPPED_BACK, FLAGSHM_CAUSE_PROBE,        FLAGSHM_CAUSE_KILLED,   FLAGSHM_CAUSE_ROLLED_BACK,
    FLAGSHM_CAUSE_FLAG_GONE,    FLAGSHM_CAUSE_SHADOW_ENDED, FLAGSHM_CAUSE_DRILL};

static void check_share(const struct flagshm_rollout *s, const struct event *e)
{
    uint32_t share = flagshm_rollout_share(s), shadow = flagshm_rollout_shadow(s);

    cr_assert_leq(share, s->cap_mpct);
    if (s->is_seen && s->is_present && e->what != LOOK && e->what != ASK)
        cr_assert_eq(s->cap_mpct, e->file.cap_mpct);
    if (s->is_killed || !s->is_present || s->stage == FLAGSHM_STAGE_ROLLED_BACK) {
        cr_assert_eq(share, 0);
        cr_assert_eq(shadow, 0);
    }
    if (s->is_seen && s->is_present && flagshm_rollout_is_latched(s))
        cr_assert(s->stage == FLAGSHM_STAGE_ROLLED_BACK, "a latched value is in stage %s",
                  flagshm_stage_name(s->stage));
    cr_assert(share == 0 || shadow == 0);
    if (s->is_planned && s->is_present)
        cr_assert_leq(share, flagshm_plan_top(e->file.plan));
}

static void check_transition(const struct flagshm_rollout *before, const struct flagshm_rollout *s, bool has,
                             const struct flagshm_transition *t)
{
    uint32_t from = flagshm_rollout_share(before), to = flagshm_rollout_share(s);

    if (from != to || flagshm_rollout_shadow(before) != flagshm_rollout_shadow(s) ||
        (before->is_seen && flagshm_rollout_stage(before) != flagshm_rollout_stage(s)))
        cr_assert(has, "a change without its transition: %u to %u, %s to %s", from, to,
                  flagshm_stage_name(before->stage), flagshm_stage_name(s->stage));
    if (!has) {
        cr_assert_eq(before->transitions, s->transitions);
        return;
    }
    cr_assert_eq(t->id, before->transitions + 1);
    cr_assert_eq(s->transitions, t->id);
    cr_assert_eq(t->from_mpct, from);
    cr_assert_eq(t->to_mpct, to);
    cr_assert_eq(t->to, flagshm_rollout_stage(s));
    cr_assert(t->sentence[0] != '\0' && t->cause != FLAGSHM_CAUSE_NONE);
    cr_assert(to >= from || t->is_lowering);
    cr_assert(to <= from || !t->is_lowering);
    if (IS_IN(t->cause, lowers))
        cr_assert_leq(to, from, "%s raises", flagshm_cause_name(t->cause));
}

static void check_rise(const struct flagshm_rollout *before, const struct flagshm_rollout *s,
                       const struct event *e, const struct flagshm_transition *t)
{
    uint32_t from = flagshm_rollout_share(before), to = flagshm_rollout_share(s);
    int32_t next;

    if (before->is_killed && !s->is_killed && before->is_seen && !(e->what == RESTART && e->is_lost))
        cr_assert(t->cause == FLAGSHM_CAUSE_UNKILLED, "%s lifts a kill", flagshm_cause_name(t->cause));
    if (before->stage == FLAGSHM_STAGE_ROLLED_BACK && s->stage != FLAGSHM_STAGE_ROLLED_BACK &&
        !(e->what == RESTART && e->is_lost))
        cr_assert(t->cause == FLAGSHM_CAUSE_CLEARED || before->variant_fingerprint != s->variant_fingerprint,
                  "%s lifts a latch", flagshm_cause_name(t->cause));
    if (e->what == LOOK && before->is_killed)
        cr_assert_eq(before->transitions, s->transitions, "under a kill nothing moves");
    if (e->what == LOOK && from > to)
        cr_assert(IS_IN(t->cause, lowers), "a look lowers by %s", flagshm_cause_name(t->cause));
    if (to <= from)
        return;
    if (e->what == LOOK) {
        cr_assert(IS_IN(t->cause, look_raises), "a look raises by %s", flagshm_cause_name(t->cause));
        if (t->cause == FLAGSHM_CAUSE_ADVANCED || t->cause == FLAGSHM_CAUSE_ADVANCED_THIN ||
            t->cause == FLAGSHM_CAUSE_STARTED) {
            cr_assert_eq(e->file.plan->mode, FLAGSHM_MODE_AUTO);
            next = flagshm_rollout_next_step(before, e->file.plan);
            cr_assert_geq(next, 0);
            cr_assert_eq(s->share_mpct, flagshm_plan_share(e->file.plan, (uint32_t)next), "one step");
        }
    } else if (e->what == ASK) {
        cr_assert(IS_IN(t->cause, person_raises), "a person raises by %s", flagshm_cause_name(t->cause));
    } else if (s->is_planned && before->is_planned && before->is_seen && e->what == EDIT) {
        cr_assert(IS_IN(t->cause, planned_file_raises) || before->cap_mpct < s->cap_mpct,
                  "an edit raises by %s", flagshm_cause_name(t->cause));
        cr_assert_leq(s->share_mpct, before->share_mpct, "only the cap is lifted");
    } else if (e->what == RESTART && before->is_seen && !e->is_lost && before->is_planned && s->is_planned &&
               !before->is_drilling) {
        cr_assert(before->cap_mpct < s->cap_mpct, "a restart raises");
    }
}

/* Counts of one meaning are never taken for those of another. */
static void check_evidence(const struct flagshm_rollout *before, const struct flagshm_rollout *s,
                           const struct event *e)
{
    bool is_other = before->guards_hash != s->guards_hash || before->form_hash != s->form_hash;

    if (!before->is_seen || !is_other || (e->what != EDIT && e->what != RESTART) ||
        before->attempt != s->attempt || !flagshm_rollout_is_guarded(s, &e->file))
        return;
    cr_assert_eq(s->evidence, before->evidence + 1);
    if (e->what == EDIT)
        cr_assert_eq(s->hold_ns, 0);
}

/* The state through its text, the look through its own: nothing is lost, and the same comes of it. */
static void check_texts(const struct flagshm_rollout *before, const struct event *e,
                        const struct flagshm_rollout *after, bool has, const struct flagshm_transition *t)
{
    static char text[FLAGSHM_STATE_TEXT_MAX], again[FLAGSHM_STATE_TEXT_MAX], look[FLAGSHM_LOOK_TEXT_MAX];
    static char event[FLAGSHM_EVENT_TEXT_MAX], event_again[FLAGSHM_EVENT_TEXT_MAX];
    struct event copy = *e;
    struct flagshm_rollout read;
    struct flagshm_transition other, other_read;

    cr_assert_lt(flagshm_rollout_write(before, text, sizeof text), sizeof text);
    cr_assert_lt(flagshm_look_write(&e->look, look, sizeof look), sizeof look);
    memset(&copy.look, 0xff, sizeof copy.look);
    cr_assert(flagshm_look_read(&copy.look, look));
    if (before->is_seen)
        cr_assert(flagshm_rollout_read(&read, text), "%s", text);
    else
        read = *before;
    cr_assert_eq(apply(&read, &copy, &other), has);
    flagshm_rollout_write(&read, text, sizeof text);
    flagshm_rollout_write(after, again, sizeof again);
    cr_assert_str_eq(text, again);
    if (!has)
        return;
    cr_assert_lt(flagshm_transition_write(t, event, sizeof event), sizeof event);
    flagshm_transition_write(&other, event_again, sizeof event_again);
    cr_assert_str_eq(event, event_again);
    cr_assert(flagshm_transition_read(&other_read, event), "%s", event);
    flagshm_transition_write(&other_read, event_again, sizeof event_again);
    cr_assert_str_eq(event, event_again);
}

/* ---- walks ---- */

struct counts {
    size_t causes[FLAGSHM_CAUSES], stages[FLAGSHM_STAGE_KILLED + 1];
};

static void walk(uint64_t number, bool with_texts, struct counts *counts)
{
    static struct event events[EVENTS];
    static struct flagshm_transition transitions[EVENTS];
    static bool has[EVENTS];
    struct flagshm_rollout s = {0}, again = {0};
    struct event first = {.file = {"f", true, 100000, 0xb0, 0xa0, NULL, NULL, 0xf0}};
    char text[FLAGSHM_STATE_TEXT_MAX], text_again[FLAGSHM_STATE_TEXT_MAX];
    struct flagshm_transition t;
    size_t i;

    seed = number;
    first.plan = below(PLANS);
    flagshm_moment_tick(&first.look.now, HOUR, 400 * DAY);
    for (i = 0; i < EVENTS; i++) {
        struct flagshm_rollout before = s;

        random_event(&events[i], i > 0 ? &events[i - 1] : &first, &s);
        if (i == 0)
            events[i].what = EDIT;
        has[i] = apply(&s, &events[i], &transitions[i]);
        if (events[i].what == RESTART && events[i].is_lost)
            memset(&before, 0, sizeof before);
        check_share(&s, &events[i]);
        check_transition(&before, &s, has[i], &transitions[i]);
        check_rise(&before, &s, &events[i], &transitions[i]);
        check_evidence(&before, &s, &events[i]);
        if (with_texts)
            check_texts(&before, &events[i], &s, has[i], &transitions[i]);
        if (has[i])
            counts->causes[transitions[i].cause]++;
        counts->stages[flagshm_rollout_stage(&s)]++;
    }
    for (i = 0; i < EVENTS; i++) {
        cr_assert_eq(apply(&again, &events[i], &t), has[i]);
        cr_assert(!has[i] || (t.id == transitions[i].id && t.to_mpct == transitions[i].to_mpct &&
                              strcmp(t.sentence, transitions[i].sentence) == 0));
    }
    flagshm_rollout_write(&s, text, sizeof text);
    flagshm_rollout_write(&again, text_again, sizeof text_again);
    cr_assert_str_eq(text, text_again);
}

Test(rollout_walk, whatever_happens_what_must_hold_holds)
{
    struct counts counts = {{0}, {0}};
    uint64_t i;
    size_t k;

    parse_all();
    for (i = 0; i < 3000; i++)
        walk(i, false, &counts);
    for (k = 1; k < FLAGSHM_CAUSES; k++)
        cr_assert_gt(counts.causes[k], 0, "no walk came by %s", flagshm_cause_name((enum flagshm_cause)k));
    for (k = 0; k <= FLAGSHM_STAGE_KILLED; k++)
        cr_assert_gt(counts.stages[k], 0, "no walk came by %s", flagshm_stage_name((enum flagshm_stage)k));
}

Test(rollout_walk, a_state_survives_its_text_and_a_replay_gives_the_same)
{
    struct counts counts = {{0}, {0}};
    uint64_t i;

    parse_all();
    for (i = 0; i < 15; i++)
        walk(1000000 + i, true, &counts);
}

/* ---- texts of others ---- */

static void break_text(char *text, const char *find, const char *with)
{
    char *at = strstr(text, find), rest[FLAGSHM_STATE_TEXT_MAX];

    cr_assert_not_null(at, "%s", find);
    snprintf(rest, sizeof rest, "%s", at + strlen(find));
    memcpy(at, with, strlen(with));
    memcpy(at + strlen(with), rest, strlen(rest) + 1);
}

Test(rollout_walk, a_text_that_nobody_wrote_is_no_state)
{
    static const struct {
        const char *find, *with;
    } cases[] = {{"\"version\": 1", "\"version\": 2"},
                 {"\"version\": 1", "\"version\": 0"},
                 {"\"share_mpct\": 1000", "\"share_mpct\": 100001"},
                 {"\"share_mpct\": 1000", "\"share_mpct\": -1"},
                 {"\"share_mpct\": 1000", "\"share_mpct\": 1000.5"},
                 {"\"share_mpct\": 1000", "\"share_mpct\": \"1000\""},
                 {"\"share_mpct\": 1000", "\"share\": 1000"},
                 {"\"stage\": 2", "\"stage\": 6"},
                 {"\"is_killed\": false", "\"is_killed\": 0"},
                 {"\"latched_count\": 0", "\"latched_count\": 9"},
                 {"\"latched\": [", "\"latched\": [\"1\", "},
                 {"\"variant_fingerprint\": \"11\"", "\"variant_fingerprint\": 11"},
                 {"\"variant_fingerprint\": \"11\"", "\"variant_fingerprint\": \"-11\""},
                 {"\"variant_fingerprint\": \"11\"", "\"variant_fingerprint\": \"99999999999999999999\""},
                 {"}", ""}};
    struct world *w = world_new();
    char text[FLAGSHM_STATE_TEXT_MAX];
    struct flagshm_rollout s;
    size_t i;

    world_reach(w, 1000);
    snprintf(w->s.why, sizeof w->s.why, "says \"x\" \\ \n and \xc3\xa9");
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        flagshm_rollout_write(&w->s, text, sizeof text);
        break_text(text, cases[i].find, cases[i].with);
        cr_assert_not(flagshm_rollout_read(&s, text), "%s", cases[i].with);
    }
    cr_assert_not(flagshm_rollout_read(&s, ""));
    cr_assert_not(flagshm_rollout_read(&s, "[]"));
    flagshm_rollout_write(&w->s, text, sizeof text);
    break_text(text, "{", "{\"of_a_newer_release\": [1], ");
    cr_assert(flagshm_rollout_read(&s, text), "what was added is passed over");
    cr_assert_str_eq(s.why, w->s.why);
    free(w);
}

Test(rollout_walk, the_longest_texts_fit)
{
    static char text[FLAGSHM_LOOK_TEXT_MAX];
    struct flagshm_rollout s;
    struct flagshm_look look;
    struct flagshm_transition t;
    uint32_t i;

    memset(&s, 0xff, sizeof s);
    memset(s.why, 1, sizeof s.why);
    cr_assert_lt(flagshm_rollout_write(&s, text, sizeof text), FLAGSHM_STATE_TEXT_MAX);
    memset(&look, 0xff, sizeof look);
    look.verdict.srm_ln_e = -1.2345678901234567e-300;
    for (i = 0; i < FLAGSHM_GUARDRAILS_MAX; i++)
        look.verdict.guards[i].ln_e = look.verdict.guards[i].rate_control = -1.2345678901234567e-300;
    cr_assert_lt(flagshm_look_write(&look, text, sizeof text), FLAGSHM_LOOK_TEXT_MAX);
    memset(&t, 0xff, sizeof t);
    memset(t.user, 1, sizeof t.user);
    memset(t.sentence, 'x', sizeof t.sentence);
    cr_assert_lt(flagshm_transition_write(&t, text, sizeof text), FLAGSHM_EVENT_TEXT_MAX);
    cr_assert_eq(flagshm_transition_write(&t, text, 10),
                 strlen(text) + flagshm_transition_write(&t, NULL, 0) - 9);
}
