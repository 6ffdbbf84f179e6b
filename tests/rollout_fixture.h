/* rollout_fixture: a small world around one rollout: a plan from a flag file's own text, time that runs in ticks of five seconds, traffic that
 * comes or not, and a verdict that a test may bend. */
#ifndef FLAGSHM_TESTS_ROLLOUT_FIXTURE_H
#define FLAGSHM_TESTS_ROLLOUT_FIXTURE_H

#include "server/rollout.h"
#include "tests/flagfile_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define TICK   (5 * SECOND)
#define BIT(w) (UINT32_C(1) << FLAGSHM_WAIT_##w)

struct world {
    struct flagshm_rollout s;
    struct flagshm_plan plan;
    struct flagshm_guards guards;
    struct flagshm_rollout_file file;
    struct flagshm_look look;
    struct flagshm_judgement last;     /* of the last look */
    struct flagshm_transition changed; /* the last one */
    uint32_t changes;                  /* since the beginning */
    bool has_traffic, has_outcomes;    /* each tick */
    uint64_t users;                    /* of the variant in this slot */
};

#define PLAN                                                                                                 \
    "{\"plan\": [{\"pct\": 1}, {\"pct\": 5}, {\"pct\": 25}, {\"pct\": 50}, {\"pct\": 100}], \"hold\": "      \
    "\"1h\", \"watch\": \"2h\"}"

__attribute__((unused)) static void world_plan(struct world *w, const char *rollout, const char *guardrails)
{
    char text[4096];
    struct fixture f;

    snprintf(text, sizeof text,
             "{\"flags\": {\"f\": {\"control\": \"a\", \"variant\": \"b\"%s%s, \"guardrails\": %s}}}",
             *rollout ? ", \"rollout\": " : "", rollout, guardrails);
    f = fixture_parse(text);
    cr_assert_eq(f.file.errors, 0, "%s", f.printed);
    w->plan = *f.file.entries[0].flag.plan;
    w->guards = *f.file.entries[0].flag.guards;
    fixture_free(&f);
}

__attribute__((unused)) static bool world_keep(struct world *w, bool has, const struct flagshm_transition *t)
{
    if (has) {
        w->changed = *t;
        w->changes++;
    }
    return has;
}

__attribute__((unused)) static bool world_edit(struct world *w)
{
    struct flagshm_transition t;

    return world_keep(w, flagshm_rollout_edit(&w->s, &w->file, &w->look.now, &t), &t);
}

/* As the file says it, before any look. Monday, 10:00. `rollout` "": no plan. */
__attribute__((unused)) static struct world *world_make(const char *rollout, const char *guardrails)
{
    struct world *w = calloc(1, sizeof *w);

    world_plan(w, rollout, guardrails);
    w->file = (struct flagshm_rollout_file){"f", true, 100000, 0xb, 0xa, &w->plan, &w->guards, 0xf};
    flagshm_moment_tick(&w->look.now, 1000 * SECOND, UINT64_C(1700000000) * SECOND);
    w->look.local = (struct flagshm_local_time){true, 0, 600};
    w->has_traffic = w->has_outcomes = true;
    w->users = 1000;
    world_edit(w);
    return w;
}

__attribute__((unused)) static struct world *world_new(void)
{
    return world_make(PLAN, "\"default\"");
}

/* One look now, with what the slot of the state's evidence shows. */
__attribute__((unused)) static bool world_look(struct world *w)
{
    struct flagshm_verdict *v = &w->look.verdict;
    uint32_t share = flagshm_rollout_share(&w->s), i;

    w->look.has_verdict = flagshm_rollout_is_guarded(&w->s, &w->file);
    w->look.evidence = w->s.evidence;
    v->q = share / 1e5;
    v->guard_count = w->guards.count;
    for (i = 0; i < w->guards.count; i++)
        v->guards[i].kind = w->guards.list[i].kind;
    v->is_open = true;
    v->variant_users = w->users;
    v->shadow_pairs = w->users;
    if (w->has_traffic) {
        w->look.variant_started++;
        w->look.control_started++;
    }
    if (w->has_outcomes) {
        v->last_outcome_mono_ns = w->look.now.mono_ns;
        v->variant_calls++;
        v->control_calls++;
    }
    (void)flagshm_rollout_look(&w->s, &w->file, &w->look, &w->last);
    return world_keep(w, w->last.has_transition, &w->last.transition);
}

__attribute__((unused)) static bool world_tick(struct world *w)
{
    flagshm_moment_tick(&w->look.now, w->look.now.mono_ns + TICK, w->look.now.wall_ns + TICK);
    return world_look(w);
}

/* Runs for a time; true and at once back where a transition came. */
__attribute__((unused)) static bool world_run(struct world *w, uint64_t ns)
{
    uint64_t end = w->look.now.mono_ns + ns;

    while (w->look.now.mono_ns < end)
        if (world_tick(w))
            return true;
    return false;
}

/* Runs for so long, whatever comes. */
__attribute__((unused)) static void world_pass(struct world *w, uint64_t ns)
{
    uint64_t end = w->look.now.mono_ns + ns;

    while (w->look.now.mono_ns < end)
        (void)world_tick(w);
}

/* Runs until the share is that one. */
__attribute__((unused)) static void world_reach(struct world *w, uint32_t mpct)
{
    uint64_t end = w->look.now.mono_ns + 30 * DAY;

    while (flagshm_rollout_share(&w->s) != mpct && w->look.now.mono_ns < end)
        (void)world_tick(w);
    cr_assert_eq(flagshm_rollout_share(&w->s), mpct, "stays at %u, waits for %x: %s",
                 flagshm_rollout_share(&w->s), w->last.waits, w->s.why);
}

__attribute__((unused)) static int world_ask(struct world *w, struct flagshm_ask ask)
{
    struct flagshm_transition t;
    int result;

    if (!ask.user)
        ask.user = "ann";
    if (!ask.reason)
        ask.reason = "because";
    result = flagshm_rollout_ask(&w->s, &w->file, &ask, &w->look.now, &t);
    if (result == 0)
        world_keep(w, true, &t);
    else
        memcpy(w->changed.sentence, t.sentence, sizeof t.sentence);
    return result;
}

__attribute__((unused)) static int world_say(struct world *w, enum flagshm_verb verb)
{
    return world_ask(w, (struct flagshm_ask){.verb = verb});
}

/* The guardrail trips at the next look. */
__attribute__((unused)) static void world_harm(struct world *w, uint32_t guard)
{
    struct flagshm_guard_verdict *g = &w->look.verdict.guards[guard];

    g->is_significant = g->is_material = true;
    g->ln_e = 19.25;
    g->threshold = 13.5;
    g->a = 9;
    g->b = 2;
    g->rate_variant = 0.061;
    g->rate_control = 0.005;
    g->calls_variant = 200;
    g->calls_control = 4000;
}

__attribute__((unused)) static void world_heal(struct world *w)
{
    memset(&w->look.verdict, 0, sizeof w->look.verdict);
}

/* As after a restart of the server on the same host, with the state that the journal kept (through its text). */
__attribute__((unused)) static bool world_restart(struct world *w, uint64_t down_ns,
                                                  const struct flagshm_rollout_served *served, bool is_lost)
{
    char text[FLAGSHM_STATE_TEXT_MAX];
    struct flagshm_transition t;

    cr_assert_lt(flagshm_rollout_write(&w->s, text, sizeof text), sizeof text);
    if (is_lost)
        memset(&w->s, 0, sizeof w->s);
    else
        cr_assert(flagshm_rollout_read(&w->s, text), "%s", text);
    memset(&w->look.verdict, 0, sizeof w->look.verdict);
    w->look.variant_started = w->look.control_started = 0;
    {
        uint64_t mono_ns = w->look.now.mono_ns + down_ns, wall_ns = w->look.now.wall_ns + down_ns;

        memset(&w->look.now, 0, sizeof w->look.now);
        flagshm_moment_tick(&w->look.now, mono_ns, wall_ns);
    }
    return world_keep(w, flagshm_rollout_recover(&w->s, served, &w->file, is_lost, &w->look.now, &t), &t);
}

#endif
