/* rollout_state: shares, steps, latches, and the books of each change. */
#include "server/rollout_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GAP_NS   (10 * SECOND_NS) /* ten ticks */
#define JUMP_NS  (2 * SECOND_NS)
#define STALE_NS (30 * DAY_NS)

/* ---- time ---- */

void flagshm_moment_tick(struct flagshm_moment *moment, uint64_t mono_ns, uint64_t wall_ns)
{
    uint64_t by_mono = mono_ns - moment->mono_ns, by_wall = wall_ns - moment->wall_ns, apart;

    apart = by_wall > by_mono ? by_wall - by_mono
                              : by_mono - by_wall; /* a wall clock set back wraps to far apart */
    if (moment->mono_ns == 0 || mono_ns < moment->mono_ns || by_mono > GAP_NS || apart > JUMP_NS)
        moment->ran_since_mono_ns = mono_ns;
    moment->mono_ns = mono_ns;
    moment->wall_ns = wall_ns;
}

/* ---- what a state says ---- */

enum flagshm_stage flagshm_rollout_stage(const struct flagshm_rollout *s)
{
    return s->is_killed ? FLAGSHM_STAGE_KILLED : s->stage;
}

static bool is_served(const struct flagshm_rollout *s)
{
    return s->is_seen && s->is_present && !s->is_killed && !s->is_drilling;
}

uint32_t flagshm_rollout_share(const struct flagshm_rollout *s)
{
    uint32_t share = s->share_mpct;

    if (!is_served(s) || (s->stage != FLAGSHM_STAGE_STEP && s->stage != FLAGSHM_STAGE_FULL &&
                          s->stage != FLAGSHM_STAGE_COMPLETE))
        return 0;
    if (s->is_probing && share > FLAGSHM_PROBE_MPCT)
        share = FLAGSHM_PROBE_MPCT;
    return share < s->cap_mpct ? share : s->cap_mpct;
}

uint32_t flagshm_rollout_shadow(const struct flagshm_rollout *s)
{
    return is_served(s) && s->stage == FLAGSHM_STAGE_SHADOW && !s->is_shadow_ended && s->cap_mpct > 0
               ? s->shadow_mpct
               : 0;
}

bool flagshm_rollout_has_latch(const struct flagshm_rollout *s, uint64_t fingerprint)
{
    uint32_t i;

    for (i = 0; i < s->latched_count; i++)
        if (s->latched[i] == fingerprint)
            return true;
    return false;
}

bool flagshm_rollout_is_latched(const struct flagshm_rollout *s)
{
    return flagshm_rollout_has_latch(s, s->variant_fingerprint);
}

bool flagshm_rollout_is_guarded(const struct flagshm_rollout *s, const struct flagshm_rollout_file *file)
{
    uint32_t share = flagshm_rollout_share(s);

    if (!file->is_present || (file->guards->count == 0 && !s->is_planned))
        return false;
    if (flagshm_rollout_shadow(s) > 0)
        return true;
    return share > 0 && s->stage != FLAGSHM_STAGE_COMPLETE && (share < FLAGSHM_MPCT_FULL || s->is_planned);
}

bool flagshm_rollout_is_stale(const struct flagshm_rollout *s, uint64_t wall_ns)
{
    return s->full_since_wall_ns > 0 && flagshm_minus(wall_ns, s->full_since_wall_ns) >= STALE_NS;
}

bool flagshm_rollout_is_undrilled(const struct flagshm_rollout *s, const struct flagshm_plan *plan,
                                  uint64_t wall_ns)
{
    uint64_t since = s->drilled_wall_ns > 0 && !s->drill_failed ? s->drilled_wall_ns : s->seen_wall_ns;

    if (!s->is_planned || s->stage == FLAGSHM_STAGE_COMPLETE)
        return false;
    return s->drill_failed || flagshm_minus(wall_ns, since) >= plan->drill_every_ns;
}

/* ---- steps ---- */

uint32_t flagshm_plan_top(const struct flagshm_plan *plan)
{
    return FLAGSHM_MPCT_FULL - plan->holdback_mpct;
}

uint32_t flagshm_plan_share(const struct flagshm_plan *plan, uint32_t step)
{
    uint32_t top = flagshm_plan_top(plan), mpct = plan->steps[step].mpct;

    return plan->steps[step].is_shadow || mpct < top ? mpct : top;
}

static uint32_t highest_share(const struct flagshm_plan *plan, uint32_t limit)
{
    uint32_t highest = 0, i;

    for (i = 0; i < plan->step_count; i++)
        if (!plan->steps[i].is_shadow && flagshm_plan_share(plan, i) <= limit)
            highest = flagshm_plan_share(plan, i);
    return highest;
}

uint32_t flagshm_plan_last_share(const struct flagshm_plan *plan)
{
    return highest_share(plan, FLAGSHM_MPCT_FULL);
}

uint32_t flagshm_plan_share_at_most(const struct flagshm_plan *plan, uint32_t mpct)
{
    return highest_share(plan, mpct);
}

uint32_t flagshm_plan_share_below(const struct flagshm_plan *plan, uint32_t mpct)
{
    return mpct > 0 ? highest_share(plan, mpct - 1) : 0;
}

uint32_t flagshm_step_key(const struct flagshm_plan *plan, int32_t step)
{
    if (step < 0)
        return 0;
    return plan->steps[step].mpct | (plan->steps[step].is_shadow ? FLAGSHM_SHADOW_STEP : 0);
}

/* The first step of a kind above a share; -1: none. */
static int32_t first_above(const struct flagshm_plan *plan, bool is_shadow, uint32_t mpct)
{
    uint32_t i;

    for (i = 0; i < plan->step_count; i++)
        if (plan->steps[i].is_shadow == is_shadow && flagshm_plan_share(plan, i) > mpct)
            return (int32_t)i;
    return -1;
}

int32_t flagshm_rollout_next_step(const struct flagshm_rollout *s, const struct flagshm_plan *plan)
{
    int32_t step = -1;

    switch (s->stage) {
    case FLAGSHM_STAGE_OFF:
        return plan->step_count > 0 ? 0 : -1;
    case FLAGSHM_STAGE_SHADOW:
        if (!s->is_shadow_ended)
            step = first_above(plan, true, s->shadow_mpct);
        return step >= 0 ? step : first_above(plan, false, 0);
    case FLAGSHM_STAGE_STEP:
        return first_above(plan, false, s->share_mpct);
    case FLAGSHM_STAGE_FULL:
    case FLAGSHM_STAGE_COMPLETE:
    case FLAGSHM_STAGE_ROLLED_BACK:
    case FLAGSHM_STAGE_KILLED:
        break;
    }
    return -1;
}

int32_t flagshm_rollout_step(const struct flagshm_rollout *s, const struct flagshm_plan *plan)
{
    bool is_shadow = s->stage == FLAGSHM_STAGE_SHADOW;
    uint32_t share = is_shadow ? s->shadow_mpct : s->share_mpct, i;
    int32_t found = -1;

    if (s->stage != FLAGSHM_STAGE_SHADOW && s->stage != FLAGSHM_STAGE_STEP &&
        s->stage != FLAGSHM_STAGE_FULL && s->stage != FLAGSHM_STAGE_COMPLETE)
        return -1;
    for (i = 0; i < plan->step_count; i++)
        if (plan->steps[i].is_shadow == is_shadow && (found < 0 || flagshm_plan_share(plan, i) <= share))
            found = (int32_t)i;
    return found;
}

uint64_t flagshm_rollout_hold_ns(const struct flagshm_rollout *s, const struct flagshm_plan *plan)
{
    int32_t step = flagshm_rollout_step(s, plan);

    if (s->stage == FLAGSHM_STAGE_FULL)
        return plan->watch_ns;
    return step >= 0 ? plan->steps[step].hold_ns : 0;
}

/* ---- changes ---- */

void flagshm_rollout_set_share(struct flagshm_rollout *s, const struct flagshm_plan *plan, uint32_t mpct)
{
    s->share_mpct = mpct;
    s->shadow_mpct = 0;
    s->is_shadow_ended = false;
    if (mpct == 0)
        s->stage = FLAGSHM_STAGE_OFF;
    else if (mpct < flagshm_plan_top(plan))
        s->stage = FLAGSHM_STAGE_STEP;
    else if (s->stage != FLAGSHM_STAGE_COMPLETE)
        s->stage = FLAGSHM_STAGE_FULL;
    if (mpct <= FLAGSHM_PROBE_MPCT) /* else it goes on: to end it would raise */
        s->is_probing = false;
}

void flagshm_rollout_enter(struct flagshm_rollout *s, const struct flagshm_plan *plan, uint32_t step)
{
    if (!plan->steps[step].is_shadow) {
        flagshm_rollout_set_share(s, plan, flagshm_plan_share(plan, step));
        return;
    }
    s->stage = FLAGSHM_STAGE_SHADOW;
    s->share_mpct = 0;
    s->shadow_mpct = plan->steps[step].mpct;
    s->is_shadow_ended = false;
}

void flagshm_rollout_latch(struct flagshm_rollout *s)
{
    if (!flagshm_rollout_is_latched(s)) {
        if (s->latched_count == FLAGSHM_LATCHES_MAX) {
            memmove(s->latched, s->latched + 1, (FLAGSHM_LATCHES_MAX - 1) * sizeof s->latched[0]);
            s->latched_count--;
        }
        s->latched[s->latched_count++] = s->variant_fingerprint;
    }
    if (s->stage != FLAGSHM_STAGE_ROLLED_BACK)
        s->before_mpct = s->share_mpct;
    s->stage = FLAGSHM_STAGE_ROLLED_BACK;
    s->share_mpct = s->shadow_mpct = 0;
    s->is_probing = s->is_shadow_ended = false;
    s->probe_left_ns = 0;
}

void flagshm_rollout_unlatch(struct flagshm_rollout *s)
{
    uint32_t i, kept = 0;

    for (i = 0; i < s->latched_count; i++)
        if (s->latched[i] != s->variant_fingerprint)
            s->latched[kept++] = s->latched[i];
    for (i = kept; i < s->latched_count; i++)
        s->latched[i] = 0;
    s->latched_count = kept;
}

void flagshm_rollout_new_attempt(struct flagshm_rollout *s, bool is_planned)
{
    s->attempt++;
    s->evidence = 0;
    s->stage = is_planned ? FLAGSHM_STAGE_OFF : FLAGSHM_STAGE_STEP;
    s->share_mpct = is_planned ? 0 : FLAGSHM_MPCT_FULL;
    s->shadow_mpct = s->before_mpct = 0;
    s->is_probing = s->is_shadow_ended = false;
    s->probe_left_ns = s->probe_rest_ns = s->cooldown_ns = 0;
    s->approved_fingerprint = s->asked_fingerprint = 0;
    s->approved_mpct = s->asked_mpct = 0;
    memset(s->waived_until_wall_ns, 0, sizeof s->waived_until_wall_ns);
    memset(s->stepped_back_wall_ns, 0, sizeof s->stepped_back_wall_ns);
}

void flagshm_rollout_new_evidence(struct flagshm_rollout *s, bool keep_hold)
{
    if (flagshm_rollout_share(s) > 0 || flagshm_rollout_shadow(s) > 0)
        s->evidence++;
    if (!keep_hold)
        s->hold_ns = 0;
    s->traffic_quiet_ns = s->outcome_quiet_ns = s->quiet_latest_mono_ns = s->started = 0;
    s->has_traffic = s->has_outcome = false;
    s->said = 0;
    memset(s->signal_ns, 0, sizeof s->signal_ns);
}

/* "VERB from 5 % to 0 %: " or "VERB: ". */
static size_t write_head(const struct flagshm_change *change, const struct flagshm_transition *t, char *text,
                         size_t room)
{
    const char *phrase = flagshm_cause_phrase(change->cause);
    char from[24], to[24];
    int used;

    if (t->from_mpct != t->to_mpct)
        used = snprintf(text, room, "%s from %s to %s: ", phrase, flagshm_share_words(t->from_mpct, from),
                        flagshm_share_words(t->to_mpct, to));
    else if (t->from_shadow_mpct != t->to_shadow_mpct)
        used = snprintf(text, room, "%s from %s to %s of shadow calls: ", phrase,
                        flagshm_share_words(t->from_shadow_mpct, from),
                        flagshm_share_words(t->to_shadow_mpct, to));
    else
        used = snprintf(text, room, "%s: ", phrase);
    return used < 0 ? 0 : (size_t)used < room ? (size_t)used : room - 1;
}

/* Does a slot's evidence bear on what comes next? */
static bool is_counting(const struct flagshm_rollout *s)
{
    return s->stage == FLAGSHM_STAGE_SHADOW || s->stage == FLAGSHM_STAGE_STEP ||
           s->stage == FLAGSHM_STAGE_FULL;
}

static void keep_books(const struct flagshm_change *change, const struct flagshm_transition *t)
{
    struct flagshm_rollout *s = change->s;
    const struct flagshm_rollout *before = change->before;
    bool has_moved = t->from_mpct != t->to_mpct || t->from_shadow_mpct != t->to_shadow_mpct;
    bool is_drill = change->cause == FLAGSHM_CAUSE_DRILL || change->cause == FLAGSHM_CAUSE_DRILL_ENDED;

    bool is_other_form =
        before->is_seen && (before->guards_hash != s->guards_hash || before->form_hash != s->form_hash);

    if (has_moved || before->attempt != s->attempt || before->control_fingerprint != s->control_fingerprint ||
        (is_other_form && is_counting(s)))
        flagshm_rollout_new_evidence(s, is_drill);
    if (has_moved || before->stage != s->stage)
        s->entered_wall_ns = change->now->wall_ns;
    if (before->stage != s->stage && !has_moved && s->stage != FLAGSHM_STAGE_COMPLETE)
        s->hold_ns = 0;
    if (flagshm_rollout_share(s) == FLAGSHM_MPCT_FULL && s->full_since_wall_ns == 0)
        s->full_since_wall_ns = change->now->wall_ns;
    else if (flagshm_rollout_share(s) < FLAGSHM_MPCT_FULL && !s->is_probing && !s->is_drilling)
        s->full_since_wall_ns = 0;
}

bool flagshm_rollout_conclude(const struct flagshm_change *change, struct flagshm_transition *transition,
                              const char *format, ...)
{
    const struct flagshm_rollout *before = change->before;
    struct flagshm_rollout *s = change->s;
    struct flagshm_transition *t = transition;
    size_t used;
    va_list arguments;

    memset(t, 0, sizeof *t);
    t->guard = -1;
    if (change->cause == FLAGSHM_CAUSE_NONE)
        return false;
    t->from = flagshm_rollout_stage(before);
    t->to = flagshm_rollout_stage(s);
    t->from_mpct = flagshm_rollout_share(before);
    t->to_mpct = flagshm_rollout_share(s);
    t->from_shadow_mpct = flagshm_rollout_shadow(before);
    t->to_shadow_mpct = flagshm_rollout_shadow(s);
    t->attempt = before->attempt;
    t->evidence = before->evidence;
    t->cause = change->cause;
    t->wall_ns = change->now->wall_ns;
    t->is_lowering =
        t->to_mpct < t->from_mpct || (t->to_mpct == t->from_mpct && t->to_shadow_mpct < t->from_shadow_mpct);
    t->is_told = flagshm_cause_is_told(change->cause);
    if (change->numbers) {
        t->guard = change->guard;
        t->numbers = *change->numbers;
    }
    snprintf(t->user, sizeof t->user, "%s", change->user ? change->user : "");
    keep_books(change, t);
    t->id = ++s->transitions;
    used = write_head(change, t, t->sentence, sizeof t->sentence);
    va_start(arguments, format);
    vsnprintf(t->sentence + used, sizeof t->sentence - used, format, arguments);
    va_end(arguments);
    if (t->from != t->to || t->from_mpct != t->to_mpct || t->from_shadow_mpct != t->to_shadow_mpct)
        memcpy(s->why, t->sentence, sizeof s->why);
    return true;
}
