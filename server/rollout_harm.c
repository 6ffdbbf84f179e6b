/* rollout_harm: what takes a share down at a look: guardrails that compare arms, rate limits, breaker and absolute limits; and the probe at
 * 100 %, where there is no control to compare with.
 */
#include "server/rollout_judging.h"

#include <stdio.h>
#include <string.h>

#define STEP_BACKS_A_DAY 3
#define PROBE_CONTROL    20 /* calls of control before a probe says that it is well */

/* What nobody may wave through: there is no higher step, or the file or the plan forbids it. */
bool flagshm_wait_is_firm(enum flagshm_wait reason)
{
    return reason == FLAGSHM_WAIT_MODE || reason == FLAGSHM_WAIT_FILE_CAP || reason == FLAGSHM_WAIT_PLAN_END;
}

void flagshm_judge_wait(struct judging *j, enum flagshm_wait reason)
{
    uint32_t bit = UINT32_C(1) << reason;

    if (!flagshm_wait_is_firm(reason) && j->s->waived_until_wall_ns[reason] > j->look->now.wall_ns)
        j->d->waived |= bit;
    else
        j->d->waits |= bit;
}

struct flagshm_change flagshm_judge_change(struct judging *j, enum flagshm_cause cause)
{
    return (struct flagshm_change){&j->before, j->s, &j->look->now, cause, NULL, -1, NULL};
}

/* Once in an evidence. */
static bool say_once(struct judging *j, uint32_t what)
{
    if (j->s->said & what)
        return false;
    j->s->said |= what;
    return true;
}
/* ---- back ---- */

bool flagshm_judge_roll_back(struct judging *j, enum flagshm_cause cause, int32_t guard,
                             const struct flagshm_guard_verdict *numbers, const char *why)
{
    struct flagshm_change change = flagshm_judge_change(j, cause);

    change.guard = guard;
    change.numbers = numbers;
    flagshm_rollout_latch(j->s);
    return flagshm_rollout_conclude(&change, &j->d->transition, "%s", why);
}

bool flagshm_judge_would(struct judging *j, enum flagshm_cause cause, uint32_t what, int32_t guard,
                         const struct flagshm_guard_verdict *numbers, const char *why)
{
    struct flagshm_change change = flagshm_judge_change(j, cause);

    if (!say_once(j, what))
        return false;
    change.guard = guard;
    change.numbers = numbers;
    return flagshm_rollout_conclude(&change, &j->d->transition, "%s", why);
}

/* The guardrail of a verdict's entry: the same place where nobody has edited the list meanwhile. */
const struct flagshm_guardrail *flagshm_judge_guardrail(const struct judging *j, uint32_t i)
{
    const struct flagshm_guards *guards = j->file->guards;
    uint32_t k;

    if (i < guards->count && guards->list[i].kind == j->v->guards[i].kind)
        return &guards->list[i];
    for (k = 0; k < guards->count; k++)
        if (guards->list[k].kind == j->v->guards[i].kind)
            return &guards->list[k];
    return NULL;
}

static bool end_shadow(struct judging *j, uint32_t i, const char *why)
{
    struct flagshm_change change = flagshm_judge_change(j, FLAGSHM_CAUSE_SHADOW_ENDED);

    change.guard = (int32_t)i;
    change.numbers = &j->v->guards[i];
    j->s->is_shadow_ended = true;
    return flagshm_rollout_conclude(&change, &j->d->transition, "%s", why);
}

/* Never blocked, no minimum: they are valid from the first user on. */
bool flagshm_judge_comparisons(struct judging *j)
{
    char why[400];
    uint32_t i;

    for (i = 0; j->v && i < j->v->guard_count && i < FLAGSHM_GUARDRAILS_MAX; i++) {
        const struct flagshm_guard_verdict *g = &j->v->guards[i];
        const struct flagshm_guardrail *guardrail = flagshm_judge_guardrail(j, i);

        if (!guardrail || !guardrail->has_rollback || !g->is_significant || !g->is_material)
            continue;
        flagshm_guard_words(j->v, j->file->guards, i, why, sizeof why);
        if (guardrail->is_observed || !j->may_act) {
            if (flagshm_judge_would(j, FLAGSHM_CAUSE_WOULD_ROLL_BACK, UINT32_C(1) << i, (int32_t)i, g, why))
                return true;
        } else if (j->s->stage == FLAGSHM_STAGE_SHADOW) {
            if (!j->s->is_shadow_ended)
                return end_shadow(j, i, why);
        } else {
            return flagshm_judge_roll_back(j, FLAGSHM_CAUSE_GUARDRAIL, (int32_t)i, g, why);
        }
    }
    return false;
}

/* ---- capacity ---- */

static bool is_third_today(struct flagshm_rollout *s, uint64_t wall_ns)
{
    uint64_t *times = s->stepped_back_wall_ns;

    memmove(times, times + 1, (STEP_BACKS_A_DAY - 1) * sizeof *times);
    times[STEP_BACKS_A_DAY - 1] = wall_ns;
    return times[0] > 0 && flagshm_minus(wall_ns, times[0]) < DAY_NS;
}

static bool step_back(struct judging *j, uint32_t to, const char *why)
{
    struct flagshm_change change = flagshm_judge_change(j, FLAGSHM_CAUSE_STEPPED_BACK);
    struct flagshm_rollout *s = j->s;
    bool is_third = is_third_today(s, j->look->now.wall_ns);
    char cool[32];
    uint64_t hold_ns;

    flagshm_rollout_set_share(s, j->plan, to);
    hold_ns = flagshm_rollout_hold_ns(j->s, j->plan);
    s->cooldown_ns = hold_ns;
    s->is_paused = s->is_paused || is_third;
    return flagshm_rollout_conclude(
        &change, &j->d->transition, "%s; no step up for %s%s", why, flagshm_duration_text(hold_ns, cool),
        is_third ? "; the third time in a day: paused until `flagctl resume`" : "");
}

bool flagshm_judge_capacity(struct judging *j)
{
    char why[200];
    uint32_t to = flagshm_plan_share_below(j->plan, j->s->share_mpct);

    if (j->s->cooldown_ns > 0 || (j->v && (j->v->is_limited || j->v->is_both_limited)))
        flagshm_judge_wait(j, FLAGSHM_WAIT_CAPACITY);
    if (!j->v || !j->v->is_limited || j->v->is_both_limited || to == 0 ||
        (j->s->stage != FLAGSHM_STAGE_STEP && j->s->stage != FLAGSHM_STAGE_FULL))
        return false;
    snprintf(why, sizeof why,
             "%.3g %% of the variant's calls ended with 429, %.3g %% of control's: its rate limit is too low",
             100 * j->v->limited_variant, 100 * j->v->limited_control);
    if (!j->may_act)
        return flagshm_judge_would(j, FLAGSHM_CAUSE_WOULD_STEP_BACK, FLAGSHM_SAID_CAPACITY, -1, NULL, why);
    return step_back(j, to, why);
}

/* ---- 100 % ---- */

bool flagshm_judge_is_alone(const struct judging *j) /* no control to compare with */
{
    return flagshm_rollout_share(j->s) == FLAGSHM_MPCT_FULL;
}

static bool begin_probe(struct judging *j, int32_t guard, const char *why)
{
    struct flagshm_change change = flagshm_judge_change(j, FLAGSHM_CAUSE_PROBE);

    if (j->s->probe_rest_ns > 0) { /* control was no better a moment ago */
        flagshm_judge_wait(j, FLAGSHM_WAIT_BOTH_ARMS_BAD);
        return false;
    }
    if (guard >= 0) {
        change.guard = guard;
        change.numbers = &j->v->guards[guard];
    }
    j->s->is_probing = true;
    j->s->probe_left_ns = FLAGSHM_PROBE_NS;
    return flagshm_rollout_conclude(&change, &j->d->transition,
                                    "%s; for at most 10 minutes, to see whether control is better", why);
}

static bool end_probe(struct judging *j)
{
    struct flagshm_change change = flagshm_judge_change(j, FLAGSHM_CAUSE_PROBE_ENDED);
    bool is_both_bad = j->v && j->v->is_both_bad;

    j->s->is_probing = false;
    j->s->probe_left_ns = 0;
    j->s->probe_rest_ns = FLAGSHM_PROBE_NS;
    if (is_both_bad)
        return flagshm_rollout_conclude(
            &change, &j->d->transition,
            "control is no better: %.3g %% of its calls failed, %.3g %% of the variant's",
            100 * j->v->failed_control, 100 * j->v->failed_variant);
    return flagshm_rollout_conclude(&change, &j->d->transition,
                                    "in 10 minutes control was not seen to be better");
}

/* ---- breaker, absolute limits ---- */

static bool stop(struct judging *j, enum flagshm_cause cause, uint32_t said, int32_t guard, const char *why)
{
    if (!j->may_act)
        return flagshm_judge_would(j, FLAGSHM_CAUSE_WOULD_ROLL_BACK, said, guard,
                                   guard >= 0 ? &j->v->guards[guard] : NULL, why);
    if (flagshm_judge_is_alone(j))
        return begin_probe(j, guard, why);
    return flagshm_judge_roll_back(j, cause, guard, guard >= 0 ? &j->v->guards[guard] : NULL, why);
}

static bool judge_breaker(struct judging *j)
{
    const struct flagshm_verdict *v = j->v;
    char why[256], control[96] = "";

    if (!flagshm_judge_is_alone(j))
        snprintf(control, sizeof control, ", while %llu of %llu calls of control did",
                 (unsigned long long)v->stretch_control_bad, (unsigned long long)v->stretch_control_calls);
    snprintf(why, sizeof why, "the variant's last %llu calls, of %llu users, all failed%s",
             (unsigned long long)v->stretch_variant_bad, (unsigned long long)v->stretch_variant_users,
             control);
    if (v->has_breaker)
        return stop(j, FLAGSHM_CAUSE_BREAKER, FLAGSHM_SAID_BREAKER, -1, why);
    if (!v->has_thin_breaker)
        return false;
    flagshm_judge_wait(j, FLAGSHM_WAIT_BREAKER);
    return flagshm_judge_would(j, FLAGSHM_CAUSE_THIN_BREAKER, FLAGSHM_SAID_THIN_BREAKER, -1, NULL, why);
}

static bool judge_absolute(struct judging *j)
{
    char why[400];
    uint32_t i;

    for (i = 0; i < j->v->guard_count && i < FLAGSHM_GUARDRAILS_MAX; i++) {
        const struct flagshm_guard_verdict *g = &j->v->guards[i];
        const struct flagshm_guardrail *guardrail = flagshm_judge_guardrail(j, i);

        if (!guardrail || !g->is_absolute || (j->s->is_probing && j->v->control_calls < PROBE_CONTROL))
            continue;
        flagshm_guard_words(j->v, j->file->guards, i, why, sizeof why);
        if (guardrail->is_observed) {
            if (flagshm_judge_would(j, FLAGSHM_CAUSE_WOULD_ROLL_BACK, UINT32_C(1) << i, (int32_t)i, g, why))
                return true;
        } else if (stop(j, FLAGSHM_CAUSE_ABSOLUTE, FLAGSHM_SAID_ABSOLUTE, (int32_t)i, why)) {
            return true;
        }
    }
    return false;
}

/* What needs a control that is well. */
bool flagshm_judge_harm(struct judging *j)
{
    bool is_watched = j->v && j->s->stage != FLAGSHM_STAGE_SHADOW && flagshm_rollout_share(j->s) > 0;

    if (is_watched && j->v->is_both_bad) {
        char why[200];

        flagshm_judge_wait(j, FLAGSHM_WAIT_BOTH_ARMS_BAD);
        if (j->s->is_probing)
            return end_probe(j);
        snprintf(why, sizeof why,
                 "%.3g %% of the variant's calls failed, and %.3g %% of control's: nothing is concluded, "
                 "nothing rises",
                 100 * j->v->failed_variant, 100 * j->v->failed_control);
        return flagshm_judge_would(j, FLAGSHM_CAUSE_BOTH_ARMS_BAD, FLAGSHM_SAID_BOTH_BAD, -1, NULL, why);
    }
    if (is_watched && (judge_breaker(j) || judge_absolute(j)))
        return true;
    return j->s->is_probing && j->s->probe_left_ns == 0 && end_probe(j);
}
