/* rollout: judges one look, in the order of DESIGN section 9:
 * kill and cap, latch, guardrails that compare arms, capacity, both arms bad, breaker and absolute limits, sample ratio and lack of data,
 * users, signals, hold, window and freeze, approval, advance.
 */
#include "server/rollout_judging.h"

#include <stdio.h>
#include <string.h>

#define QUIET_MAX_NS    (6 * HOUR_NS) /* without an outcome for so long, time is not held any more */
#define QUIET_MIN_NS    (2 * SECOND_NS)
#define SIGNAL_NS       HOUR_NS
#define STARTED_WITHOUT 20 /* calls of the variant that began before it is said that none ends */

/* ---- time ---- */

/* Of [from, now], what lies within six hours behind an outcome: that of the last look, or the newest. */
static uint64_t covered(uint64_t from, uint64_t now, uint64_t last, uint64_t newest)
{
    uint64_t first_end, second_begin;

    if (newest == 0)
        return 0;
    first_end = last > 0 && last + QUIET_MAX_NS > from ? flagshm_less(now, last + QUIET_MAX_NS) : from;
    second_begin = newest > first_end ? newest : first_end;
    return first_end - from +
           (newest + QUIET_MAX_NS > second_begin
                ? flagshm_minus(flagshm_less(now, newest + QUIET_MAX_NS), second_begin)
                : 0);
}

static void lower_all(struct flagshm_rollout *s, uint64_t watched)
{
    size_t i;

    for (i = 0; i < FLAGSHM_GUARD_KINDS; i++)
        s->signal_ns[i] = flagshm_minus(s->signal_ns[i], watched);
    s->recovering_ns = flagshm_minus(s->recovering_ns, watched);
    s->hold_ns += watched;
}

static void notice_traffic(struct judging *j, uint64_t ran)
{
    struct flagshm_rollout *s = j->s;
    uint64_t now = j->look->now.mono_ns, started = j->look->variant_started + j->look->control_started;

    s->traffic_quiet_ns += ran;
    s->outcome_quiet_ns += ran;
    if (j->v == NULL)
        return;
    if (started > s->started) {
        s->started = started;
        s->has_traffic = true;
        s->traffic_quiet_ns = 0;
    }
    if (j->v->last_outcome_mono_ns > s->quiet_latest_mono_ns) {
        s->quiet_latest_mono_ns = j->v->last_outcome_mono_ns;
        s->has_outcome = s->has_traffic = true;
        s->outcome_quiet_ns = flagshm_less(s->outcome_quiet_ns, flagshm_minus(now, s->quiet_latest_mono_ns));
        s->traffic_quiet_ns = flagshm_less(s->traffic_quiet_ns, s->outcome_quiet_ns);
    }
}

/* Adds up what was watched since the last look. Time of which the server knows nothing counts for nothing, but that a probe and a drill
 * end by the clock whatever happens. */
static void count_time(struct judging *j)
{
    struct flagshm_rollout *s = j->s;
    const struct flagshm_moment *now = &j->look->now;
    uint64_t last_outcome = s->quiet_latest_mono_ns, from = s->looked_mono_ns, ran = 0, passed = 0;

    if (from > 0 && now->mono_ns > from) {
        passed = now->mono_ns - from;
        from = from > now->ran_since_mono_ns ? from : now->ran_since_mono_ns;
        ran = flagshm_minus(now->mono_ns, from);
    }
    notice_traffic(j, ran);
    if (ran > 0 && j->v != NULL)
        lower_all(s, covered(from, now->mono_ns, last_outcome, s->quiet_latest_mono_ns));
    s->cooldown_ns = flagshm_minus(s->cooldown_ns, ran);
    s->probe_rest_ns = flagshm_minus(s->probe_rest_ns, ran);
    s->probe_left_ns = flagshm_minus(s->probe_left_ns, passed);
    s->drill_left_ns = flagshm_minus(s->drill_left_ns, passed);
    s->looked_mono_ns = now->mono_ns;
    s->looked_wall_ns = now->wall_ns;
}

/* ---- data ---- */

static uint64_t quiet_limit(const struct judging *j)
{
    uint64_t limit = flagshm_less(j->planned_hold_ns / 2, QUIET_MAX_NS);

    return limit > QUIET_MIN_NS ? limit : QUIET_MIN_NS;
}

static bool judge_lack(struct judging *j)
{
    const struct flagshm_rollout *s = j->s;
    bool has_grace = s->outcome_quiet_ns < j->plan->no_data_grace_ns;
    char why[200], quiet[32];

    if (j->plan->no_data == FLAGSHM_NO_DATA_ADVANCE && !has_grace)
        return false;
    flagshm_judge_wait(j, s->has_traffic && s->traffic_quiet_ns < quiet_limit(j) ? FLAGSHM_WAIT_NO_OUTCOMES
                                                                                 : FLAGSHM_WAIT_NO_TRAFFIC);
    if (j->plan->no_data != FLAGSHM_NO_DATA_ROLLBACK || has_grace || s->stage == FLAGSHM_STAGE_SHADOW)
        return false;
    snprintf(why, sizeof why, "no outcome for %s, and the plan's \"no_data\" says rollback",
             flagshm_duration_text(s->outcome_quiet_ns, quiet));
    if (!j->may_act)
        return flagshm_judge_would(j, FLAGSHM_CAUSE_WOULD_ROLL_BACK, FLAGSHM_SAID_NO_DATA, -1, NULL, why);
    return flagshm_judge_roll_back(j, FLAGSHM_CAUSE_NO_DATA, -1, NULL, why);
}

static bool judge_data(struct judging *j)
{
    if (!j->v) {
        flagshm_judge_wait(j, FLAGSHM_WAIT_UNWATCHED);
        return judge_lack(j);
    }
    if (j->v->has_srm || j->v->misbooked > 0)
        flagshm_judge_wait(j, FLAGSHM_WAIT_SRM);
    if (j->v->is_tainted)
        flagshm_judge_wait(j, FLAGSHM_WAIT_TAINTED);
    if (!j->s->has_outcome || j->s->outcome_quiet_ns >= quiet_limit(j))
        return judge_lack(j);
    if (j->s->stage != FLAGSHM_STAGE_SHADOW && j->look->variant_started >= STARTED_WITHOUT &&
        j->v->variant_calls == 0)
        flagshm_judge_wait(j, FLAGSHM_WAIT_NO_OUTCOMES); /* the variant's calls begin, and none ends */
    return false;
}

static bool is_approved(const struct judging *j)
{
    return j->d->next_step >= 0 && j->s->approved_fingerprint == j->s->variant_fingerprint &&
           j->s->approved_mpct == flagshm_step_key(j->plan, j->d->next_step);
}

static bool may_lack_data(const struct judging *j)
{
    return j->plan->no_data == FLAGSHM_NO_DATA_ADVANCE && j->s->outcome_quiet_ns >= j->plan->no_data_grace_ns;
}

static void judge_users(struct judging *j)
{
    const struct flagshm_rollout *s = j->s;
    struct flagshm_judgement *d = j->d;
    bool is_shadow = s->stage == FLAGSHM_STAGE_SHADOW, has_waited = s->hold_ns >= 2 * j->planned_hold_ns;

    d->min_users = d->step >= 0 ? j->plan->steps[d->step].min_users : 0;
    d->users = !j->v ? 0 : is_shadow ? j->v->shadow_pairs : j->v->variant_users;
    if (d->users >= d->min_users || s->stage == FLAGSHM_STAGE_FULL)
        return;
    j->is_thin = true;
    if (may_lack_data(j))
        return;
    if (is_shadow && d->users == 0)
        flagshm_judge_wait(j, FLAGSHM_WAIT_NO_PAIRS);
    else if (is_shadow || s->share_mpct <= FLAGSHM_CANARY_MPCT ? !has_waited : !is_approved(j))
        flagshm_judge_wait(j, FLAGSHM_WAIT_MIN_USERS);
}

static void judge_prove(struct judging *j)
{
    uint32_t kind, i;

    if (j->d->next_step < 0 || j->plan->steps[j->d->next_step].is_shadow ||
        flagshm_plan_share(j->plan, (uint32_t)j->d->next_step) <= FLAGSHM_CANARY_MPCT)
        return;
    for (kind = 0; kind < FLAGSHM_GUARD_KINDS; kind++) {
        bool is_proven = j->plan->prove[kind] <= 0;

        for (i = 0; j->v && i < j->v->guard_count && i < FLAGSHM_GUARDRAILS_MAX; i++)
            is_proven =
                is_proven || ((uint32_t)j->v->guards[i].kind == kind && j->v->guards[i].ruled_out > 0 &&
                              j->v->guards[i].ruled_out <= j->plan->prove[kind]);
        if (!is_proven)
            flagshm_judge_wait(j, FLAGSHM_WAIT_PROVE);
    }
}

static bool judge_signals(struct judging *j)
{
    struct flagshm_rollout *s = j->s;
    uint64_t for_ns = flagshm_less(SIGNAL_NS, j->planned_hold_ns);
    const struct flagshm_guard_verdict *found = NULL;
    char why[400];
    uint32_t i;

    for (i = 0; j->v && i < j->v->guard_count && i < FLAGSHM_GUARDRAILS_MAX; i++) {
        const struct flagshm_guardrail *guardrail = flagshm_judge_guardrail(j, i);

        if (!guardrail || !guardrail->has_hold || guardrail->is_observed || !j->v->guards[i].holds)
            continue;
        s->signal_ns[guardrail->kind] = for_ns > 0 ? for_ns : SIGNAL_NS;
        if (!found) {
            found = &j->v->guards[i];
            flagshm_guard_words(j->v, j->file->guards, i, why, sizeof why);
        }
    }
    for (i = 0; i < FLAGSHM_GUARD_KINDS; i++)
        if (s->signal_ns[i] > 0)
            j->d->signals |= UINT32_C(1) << i;
    if (j->d->signals != 0 || s->is_shadow_ended)
        flagshm_judge_wait(j, FLAGSHM_WAIT_SIGNAL);
    return found && flagshm_judge_would(j, FLAGSHM_CAUSE_SIGNAL, FLAGSHM_SAID_SIGNAL,
                                        (int32_t)(found - j->v->guards), found, why);
}

/* ---- up ---- */

static bool is_in_window(const struct judging *j)
{
    const struct flagshm_plan_window *window = &j->plan->window;
    const struct flagshm_local_time *local = &j->look->local;

    return !window->is_set || (local->is_known && (window->days >> local->weekday & 1) != 0 &&
                               local->minute >= window->from_minute && local->minute < window->to_minute);
}

/* What holds of any rise, also of the first. */
static void judge_permission(struct judging *j)
{
    const struct flagshm_rollout *s = j->s;

    if (s->recovering_ns > 0 &&
        s->stage != FLAGSHM_STAGE_OFF) /* there nothing is watched, so it would never end */
        flagshm_judge_wait(j, FLAGSHM_WAIT_RECOVERING);
    if (s->is_paused)
        flagshm_judge_wait(j, FLAGSHM_WAIT_PAUSED);
    if (s->stage == FLAGSHM_STAGE_FULL) {
        if (s->cap_mpct < s->share_mpct)
            flagshm_judge_wait(j, FLAGSHM_WAIT_FILE_CAP);
        return;
    }
    if (j->plan->mode != FLAGSHM_MODE_AUTO)
        flagshm_judge_wait(j, FLAGSHM_WAIT_MODE);
    if (j->d->next_step < 0)
        flagshm_judge_wait(j, FLAGSHM_WAIT_PLAN_END);
    if (s->cap_mpct <= s->share_mpct)
        flagshm_judge_wait(j, FLAGSHM_WAIT_FILE_CAP);
    if (!is_in_window(j))
        flagshm_judge_wait(j, FLAGSHM_WAIT_WINDOW);
    if (j->look->is_frozen)
        flagshm_judge_wait(j, FLAGSHM_WAIT_FREEZE);
}

static bool ask_approval(struct judging *j)
{
    struct flagshm_change change = flagshm_judge_change(j, FLAGSHM_CAUSE_APPROVAL_ASKED);
    struct flagshm_rollout *s = j->s;
    uint32_t key = flagshm_step_key(j->plan, j->d->next_step);
    char share[24];

    flagshm_judge_wait(j, FLAGSHM_WAIT_APPROVAL);
    if ((j->d->waits & UINT32_C(1) << FLAGSHM_WAIT_APPROVAL) == 0 ||
        (s->asked_fingerprint == s->variant_fingerprint && s->asked_mpct == key))
        return false;
    s->asked_fingerprint = s->variant_fingerprint;
    s->asked_mpct = key;
    return flagshm_rollout_conclude(&change, &j->d->transition,
                                    "all is ready for %s (step %d of %u): `flagctl approve %s`",
                                    flagshm_share_words(j->plan->steps[j->d->next_step].mpct, share),
                                    j->d->next_step + 1, j->plan->step_count, j->file->name);
}

static enum flagshm_cause up_cause(const struct judging *j)
{
    if (j->before.stage == FLAGSHM_STAGE_OFF)
        return FLAGSHM_CAUSE_STARTED;
    return j->is_thin ? FLAGSHM_CAUSE_ADVANCED_THIN : FLAGSHM_CAUSE_ADVANCED;
}

static bool advance(struct judging *j)
{
    struct flagshm_change change = flagshm_judge_change(j, up_cause(j));
    unsigned long long users = (unsigned long long)j->d->users;
    char held[32];

    flagshm_duration_text(j->before.hold_ns, held);
    flagshm_rollout_enter(j->s, j->plan, (uint32_t)j->d->next_step);
    if (j->before.stage == FLAGSHM_STAGE_OFF)
        return flagshm_rollout_conclude(&change, &j->d->transition, "step 1 of %u", j->plan->step_count);
    if (j->is_thin)
        return flagshm_rollout_conclude(
            &change, &j->d->transition,
            "step %d of %u, after %s; thin: %llu %s, only total failure was visible", j->d->next_step + 1,
            j->plan->step_count, held, users, j->before.stage == FLAGSHM_STAGE_SHADOW ? "pairs" : "users");
    return flagshm_rollout_conclude(&change, &j->d->transition,
                                    "step %d of %u, after %s with %llu %s and no harm seen",
                                    j->d->next_step + 1, j->plan->step_count, held, users,
                                    j->before.stage == FLAGSHM_STAGE_SHADOW ? "pairs" : "users");
}

static bool complete(struct judging *j)
{
    struct flagshm_change change = flagshm_judge_change(j, FLAGSHM_CAUSE_COMPLETED);
    char held[32];

    flagshm_duration_text(j->s->hold_ns, held);
    j->s->stage = FLAGSHM_STAGE_COMPLETE;
    return flagshm_rollout_conclude(&change, &j->d->transition,
                                    "%s watched at the top; `flagctl finish %s` makes it the control", held,
                                    j->file->name);
}

static bool go_up(struct judging *j)
{
    const struct flagshm_rollout *s = j->s;

    if (!j->may_act && (s->said & FLAGSHM_SAID_WOULD_STOP) == 0 &&
        j->d->waits == UINT32_C(1) << FLAGSHM_WAIT_MODE)
        return flagshm_judge_would(j, FLAGSHM_CAUSE_WOULD_ADVANCE, FLAGSHM_SAID_ADVANCE, -1, NULL,
                                   "nothing but the mode \"observe\" is in its way");
    if (j->d->waits != 0)
        return false;
    if (s->stage == FLAGSHM_STAGE_FULL)
        return j->may_act && complete(j);
    if (j->plan->steps[j->d->next_step].needs_approval && !is_approved(j)) {
        bool is_asked = ask_approval(j);

        if (is_asked || j->d->waits != 0)
            return is_asked;
    }
    return advance(j);
}

/* ---- the order ---- */

static bool judge_plan(struct judging *j)
{
    bool has_begun = j->s->stage != FLAGSHM_STAGE_OFF;

    if (has_begun && judge_data(j))
        return true;
    if (has_begun) {
        judge_users(j);
        judge_prove(j);
        if (judge_signals(j))
            return true;
        if (j->s->hold_ns < j->planned_hold_ns && !may_lack_data(j))
            flagshm_judge_wait(j, FLAGSHM_WAIT_HOLD);
    }
    judge_permission(j);
    return go_up(j);
}

static bool judge_drill(struct judging *j)
{
    struct flagshm_change change = flagshm_judge_change(j, FLAGSHM_CAUSE_DRILL_ENDED);

    if (!j->s->is_drilling || j->s->drill_left_ns > 0)
        return false;
    j->s->is_drilling = false;
    return flagshm_rollout_conclude(&change, &j->d->transition, "nobody ended it in time");
}

static bool judge(struct judging *j)
{
    struct flagshm_rollout *s = j->s;

    if (s->is_killed)
        return false;
    if (s->is_drilling)
        return judge_drill(j);
    if (s->stage == FLAGSHM_STAGE_ROLLED_BACK || s->stage == FLAGSHM_STAGE_COMPLETE)
        return false;
    if (s->cap_mpct == 0) {
        flagshm_judge_wait(j, FLAGSHM_WAIT_FILE_CAP);
        return false;
    }
    if (s->stage == FLAGSHM_STAGE_OFF ||
        j->file->guards->count == 0) /* nobody is in it, or nobody wants it guarded */
        return s->is_planned && judge_plan(j);
    if (!s->is_planned && flagshm_judge_is_alone(j))
        return false;
    if (flagshm_judge_comparisons(j) || flagshm_judge_capacity(j) || flagshm_judge_harm(j))
        return true;
    return s->is_planned && judge_plan(j);
}

bool flagshm_rollout_look(struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                          const struct flagshm_look *look, struct flagshm_judgement *judgement)
{
    struct judging j = {.s = s, .file = file, .plan = file->plan, .look = look, .d = judgement};

    memset(judgement, 0, sizeof *judgement);
    judgement->transition.guard = -1;
    judgement->step = judgement->next_step = -1;
    if (!s->is_seen || !s->is_present || !file->is_present)
        return false;
    if (look->has_verdict && look->evidence == s->evidence)
        j.v = &look->verdict;
    j.may_act = j.plan->mode != FLAGSHM_MODE_OBSERVE;
    count_time(&j);
    j.before = *s;
    j.planned_hold_ns = flagshm_rollout_hold_ns(s, j.plan);
    judgement->step = flagshm_rollout_step(s, j.plan);
    judgement->next_step = flagshm_rollout_next_step(s, j.plan);
    judgement->hold_ns = s->hold_ns;
    judgement->hold_left_ns = flagshm_minus(j.planned_hold_ns, s->hold_ns);
    judgement->has_transition = judge(&j);
    return judgement->has_transition;
}
