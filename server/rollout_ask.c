/* rollout_ask: a person's word. Lowering is legal in every state; raising goes by what the person says, but never above the file's cap, and
 * never over a latch or a kill that was not lifted first.
 */
#include "server/rollout_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct asking {
    struct flagshm_rollout *s;
    struct flagshm_rollout before;
    const struct flagshm_rollout_file *file;
    const struct flagshm_ask *ask;
    const struct flagshm_moment *now;
    struct flagshm_transition *t;
};

static int refuse(struct asking *a, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int refuse(struct asking *a, int code, const char *format, ...)
{
    va_list arguments;

    *a->s = a->before;
    memset(a->t, 0, sizeof *a->t);
    a->t->guard = -1;
    va_start(arguments, format);
    vsnprintf(a->t->sentence, sizeof a->t->sentence, format, arguments);
    va_end(arguments);
    return code;
}

static int done(struct asking *a, enum flagshm_cause cause, const char *what)
{
    struct flagshm_change change = {&a->before, a->s, a->now, cause, a->ask->user, -1, NULL};
    const char *reason = a->ask->reason ? a->ask->reason : "",
               *user = a->ask->user ? a->ask->user : "somebody";

    flagshm_rollout_conclude(&change, a->t, "by %s%s%s%s%s", user, *reason ? ", " : "", reason,
                             *what ? "; " : "", what);
    return 0;
}

static bool is_stopped(const struct asking *a)
{
    return a->s->is_killed || a->s->stage == FLAGSHM_STAGE_ROLLED_BACK;
}

static int refuse_stopped(struct asking *a)
{
    const char *name = a->file->name;

    if (a->s->is_killed)
        return refuse(a, -EPERM, "it is killed: `flagctl unkill %s` first", name);
    return refuse(a, -EPERM, "this value was rolled back: `flagctl clear %s --reason ...` first", name);
}

uint32_t flagshm_rollout_resume_mpct(const struct flagshm_plan *plan, uint32_t before_mpct)
{
    return flagshm_plan_share_at_most(plan,
                                      before_mpct < FLAGSHM_CANARY_MPCT ? before_mpct : FLAGSHM_CANARY_MPCT);
}

/* The first step, by the plan's own pace, where there is no step to resume at. */
static void go_back_in(struct asking *a, uint32_t old_mpct, bool is_resume)
{
    struct flagshm_rollout *s = a->s;

    if (!s->is_planned) {
        s->stage = FLAGSHM_STAGE_STEP;
        s->share_mpct = FLAGSHM_MPCT_FULL;
        return;
    }
    s->is_probing = false;
    s->stage = FLAGSHM_STAGE_OFF;
    flagshm_rollout_set_share(s, a->file->plan,
                              is_resume ? flagshm_rollout_resume_mpct(a->file->plan, old_mpct) : 0);
}

static int kill_flag(struct asking *a)
{
    if (a->s->is_killed)
        return refuse(a, -EALREADY, "it is killed already");
    a->s->is_killed = true;
    return done(a, FLAGSHM_CAUSE_KILLED, "");
}

static int unkill(struct asking *a)
{
    struct flagshm_rollout *s = a->s;
    uint32_t old_mpct = s->share_mpct;

    if (!s->is_killed)
        return refuse(a, -EALREADY, "it is not killed");
    s->is_killed = false;
    if (s->stage == FLAGSHM_STAGE_ROLLED_BACK)
        return done(a, FLAGSHM_CAUSE_UNKILLED, "it stays rolled back");
    go_back_in(a, old_mpct, a->ask->is_resume);
    return done(a, FLAGSHM_CAUSE_UNKILLED,
                s->stage == FLAGSHM_STAGE_OFF ? "it begins at its first step" : "");
}

static int rollback(struct asking *a)
{
    if (a->s->stage == FLAGSHM_STAGE_ROLLED_BACK)
        return refuse(a, -EALREADY, "it is rolled back already");
    a->s->is_drilling = false;
    flagshm_rollout_latch(a->s);
    return done(a, FLAGSHM_CAUSE_ROLLED_BACK, "");
}

static int clear(struct asking *a)
{
    struct flagshm_rollout *s = a->s;
    uint32_t old_mpct = s->before_mpct;

    if (s->stage == FLAGSHM_STAGE_SHADOW && s->is_shadow_ended) {
        flagshm_rollout_new_attempt(s, true);
        return done(a, FLAGSHM_CAUSE_CLEARED, "its shadow calls begin again");
    }
    if (s->stage != FLAGSHM_STAGE_ROLLED_BACK)
        return refuse(a, -EALREADY, "it is not rolled back");
    if (!a->ask->reason || a->ask->reason[0] == '\0')
        return refuse(a, -EINVAL,
                      "a value that was rolled back runs again only with a reason: --reason TEXT");
    flagshm_rollout_unlatch(s);
    flagshm_rollout_new_attempt(s, s->is_planned);
    go_back_in(a, old_mpct, a->ask->is_resume);
    return done(a, FLAGSHM_CAUSE_CLEARED, s->stage == FLAGSHM_STAGE_OFF ? "it begins at its first step" : "");
}

static int advance_to(struct asking *a, uint32_t mpct)
{
    struct flagshm_rollout *s = a->s;
    uint32_t top = flagshm_plan_top(a->file->plan);
    char to[24], is[24];

    if (mpct > top)
        mpct = top;
    if (mpct <= s->share_mpct)
        return refuse(a, -EINVAL,
                      "%s is not above %s, where it is: lower it by \"rollout_pct\" in the file, or `flagctl "
                      "rollback %s`",
                      flagshm_share_words(mpct, to), flagshm_share_words(s->share_mpct, is), a->file->name);
    flagshm_rollout_set_share(s, a->file->plan, mpct);
    return 0;
}

static int advance(struct asking *a)
{
    struct flagshm_rollout *s = a->s;
    int32_t next;
    int error;
    char cap[24], what[80] = "";

    if (is_stopped(a))
        return refuse_stopped(a);
    if (!s->is_planned)
        return refuse(a, -EINVAL, "it has no plan: its share is \"rollout_pct\" in the file");
    if (s->is_drilling || s->is_probing)
        return refuse(a, -EPERM, "it is %s just now: try again when that is over",
                      s->is_drilling ? "drilled" : "probed");
    next = flagshm_rollout_next_step(s, a->file->plan);
    if (a->ask->to_mpct > 0) {
        error = advance_to(a, a->ask->to_mpct);
        if (error)
            return error;
    } else if (next < 0) {
        return refuse(a, -EINVAL, "there is no higher step");
    } else {
        flagshm_rollout_enter(s, a->file->plan, (uint32_t)next);
    }
    s->cooldown_ns = 0;
    if (s->cap_mpct < s->share_mpct)
        snprintf(what, sizeof what, "the file's cap of %s stands above it",
                 flagshm_share_words(s->cap_mpct, cap));
    return done(a, FLAGSHM_CAUSE_ADVANCED_BY_HAND, what);
}

static int approve(struct asking *a)
{
    struct flagshm_rollout *s = a->s;
    int32_t next = flagshm_rollout_next_step(s, a->file->plan);
    uint32_t key = flagshm_step_key(a->file->plan, next);
    char what[80], share[24];

    if (is_stopped(a))
        return refuse_stopped(a);
    if (!s->is_planned || next < 0)
        return refuse(a, -EINVAL, "there is no higher step to approve");
    if (s->approved_fingerprint == s->variant_fingerprint && s->approved_mpct == key)
        return refuse(a, -EALREADY, "step %d is approved already", next + 1);
    s->approved_fingerprint = s->variant_fingerprint;
    s->approved_mpct = key;
    snprintf(what, sizeof what, "step %d (%s), for this value of the variant", next + 1,
             flagshm_share_words(a->file->plan->steps[next].mpct, share));
    return done(a, FLAGSHM_CAUSE_APPROVED, what);
}

static int pause_or_resume(struct asking *a, bool is_pause)
{
    if (a->s->is_paused == is_pause)
        return refuse(a, -EALREADY, is_pause ? "it is paused already" : "it is not paused");
    a->s->is_paused = is_pause;
    return done(a, is_pause ? FLAGSHM_CAUSE_PAUSED : FLAGSHM_CAUSE_RESUMED,
                is_pause ? "it can still be rolled back" : "");
}

static int waive(struct asking *a)
{
    enum flagshm_wait reason = a->ask->wait;
    char what[96], span[32];

    if ((unsigned)reason >= FLAGSHM_WAITS || flagshm_wait_is_firm(reason))
        return refuse(a, -EINVAL, "%s cannot be waived: %s", flagshm_wait_name(reason),
                      reason == FLAGSHM_WAIT_FILE_CAP ? "raise \"rollout_pct\" in the file"
                                                      : "`flagctl advance` goes on by hand");
    if (a->ask->for_ns == 0)
        return refuse(a, -EINVAL, "for how long? --for 24h");
    if (!a->ask->reason || a->ask->reason[0] == '\0')
        return refuse(a, -EINVAL, "a wait is waived only with a reason: --reason TEXT");
    a->s->waived_until_wall_ns[reason] = a->now->wall_ns + flagshm_less(a->ask->for_ns, 366 * DAY_NS);
    snprintf(what, sizeof what, "%s for %s", flagshm_wait_name(reason),
             flagshm_duration_text(a->ask->for_ns, span));
    return done(a, FLAGSHM_CAUSE_WAIVED, what);
}

static int drill(struct asking *a)
{
    struct flagshm_rollout *s = a->s;

    if (s->is_drilling)
        return refuse(a, -EALREADY, "a drill is under way");
    if (flagshm_rollout_share(s) == 0)
        return refuse(a, -EPERM, "it serves 0 %%: there is nothing to take away");
    s->is_drilling = true;
    s->drill_left_ns = a->ask->for_ns > 0 ? flagshm_less(a->ask->for_ns, 2 * SECOND_NS) : 2 * SECOND_NS;
    s->looked_mono_ns = a->now->mono_ns;
    return done(a, FLAGSHM_CAUSE_DRILL, "");
}

/* Of a drill of a hidden flag too: then the share does not move. */
static int drill_end(struct asking *a)
{
    struct flagshm_rollout *s = a->s;
    char what[96];

    s->is_drilling = false;
    s->drill_left_ns = 0;
    s->drilled_wall_ns = a->now->wall_ns;
    s->drill_took_ns = a->ask->drill_ns;
    s->drill_failed = a->ask->has_failed;
    snprintf(what, sizeof what, s->drill_failed ? "the way back FAILED" : "the way back took %.3f ms",
             (double)s->drill_took_ns / 1e6);
    return done(a, FLAGSHM_CAUSE_DRILL_ENDED, what);
}

static int act(struct asking *a)
{
    switch (a->ask->verb) {
    case FLAGSHM_VERB_KILL:
        return kill_flag(a);
    case FLAGSHM_VERB_UNKILL:
        return unkill(a);
    case FLAGSHM_VERB_ROLLBACK:
        return rollback(a);
    case FLAGSHM_VERB_CLEAR:
        return clear(a);
    case FLAGSHM_VERB_ADVANCE:
        return advance(a);
    case FLAGSHM_VERB_APPROVE:
        return approve(a);
    case FLAGSHM_VERB_PAUSE:
        return pause_or_resume(a, true);
    case FLAGSHM_VERB_RESUME:
        return pause_or_resume(a, false);
    case FLAGSHM_VERB_WAIVE:
        return waive(a);
    case FLAGSHM_VERB_DRILL:
        return drill(a);
    case FLAGSHM_VERB_DRILL_END:
        return drill_end(a);
    }
    return refuse(a, -EINVAL, "there is no such verb");
}

int flagshm_rollout_ask(struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                        const struct flagshm_ask *ask, const struct flagshm_moment *now,
                        struct flagshm_transition *transition)
{
    struct asking a = {.s = s, .before = *s, .file = file, .ask = ask, .now = now, .t = transition};

    memset(transition, 0, sizeof *transition);
    transition->guard = -1;
    if (!s->is_seen || !s->is_present || !file->is_present)
        return refuse(&a, -EINVAL,
                      "the file has no such flag, or it is not guarded: it has several variants");
    return act(&a);
}
