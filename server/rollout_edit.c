/* rollout_edit: what becomes of a rollout when the file was edited, and when the server starts anew. Nothing here raises a share but the
 * file's own number: a cap that is lifted, a flag without a plan.
 */
#include "server/rollout_internal.h"

#include <stdio.h>
#include <string.h>

struct editing {
    struct flagshm_rollout *s;
    const struct flagshm_rollout *before;
    const struct flagshm_rollout_file *file;
    uint32_t served_mpct;     /* before anything was changed */
    enum flagshm_cause cause; /* the first that was found: it weighs most */
    const char *what;
};

static void found(struct editing *e, enum flagshm_cause cause, const char *what)
{
    if (e->cause != FLAGSHM_CAUSE_NONE)
        return;
    e->cause = cause;
    e->what = what;
}

/* A value that was rolled back stays so, however it came back. */
static bool latch_again(struct flagshm_rollout *s)
{
    if (!flagshm_rollout_is_latched(s) || s->stage == FLAGSHM_STAGE_ROLLED_BACK)
        return false;
    s->before_mpct = 0;
    flagshm_rollout_latch(s);
    return true;
}

static void take_first(struct editing *e, const struct flagshm_moment *now)
{
    struct flagshm_rollout *s = e->s;
    uint32_t latched_count = s->latched_count;
    uint64_t latched[FLAGSHM_LATCHES_MAX], transitions = s->transitions;
    bool is_killed = s->is_killed;

    memcpy(latched, s->latched, sizeof latched);
    memset(s, 0, sizeof *s);
    memcpy(s->latched, latched, sizeof latched);
    s->version = FLAGSHM_ROLLOUT_VERSION;
    s->latched_count = latched_count;
    s->transitions = transitions;
    s->is_killed = is_killed;
    s->is_seen = s->is_present = true;
    s->is_planned = flagshm_is_planned(e->file);
    s->variant_fingerprint = e->file->variant_fingerprint;
    s->control_fingerprint = e->file->control_fingerprint;
    s->cap_mpct = e->file->cap_mpct;
    s->plan_hash = flagshm_plan_hash(e->file->plan);
    s->guards_hash = flagshm_guards_hash(e->file->guards);
    s->form_hash = e->file->form_hash;
    s->seen_wall_ns = s->entered_wall_ns = now->wall_ns;
    flagshm_rollout_new_attempt(s, s->is_planned);
    found(e, FLAGSHM_CAUSE_FLAG_NEW,
          s->is_planned ? "it begins at its first step" : "it serves the file's share");
    if (latch_again(s)) {
        e->cause = FLAGSHM_CAUSE_VALUE_LATCHED;
        e->what = "the variant has a value that was rolled back";
    }
}

/* A flag that comes back is not where it was: what happened meanwhile nobody watched. Only what is complete, and what is stopped, stays. */
static void take_presence(struct editing *e)
{
    struct flagshm_rollout *s = e->s;

    if (s->is_present)
        return;
    s->is_present = true;
    if (s->is_planned && s->stage != FLAGSHM_STAGE_COMPLETE && s->stage != FLAGSHM_STAGE_ROLLED_BACK) {
        flagshm_rollout_set_share(s, e->file->plan, 0);
        s->is_probing = false;
    }
    found(e, FLAGSHM_CAUSE_FLAG_BACK,
          s->stage == FLAGSHM_STAGE_ROLLED_BACK ? "it stays rolled back: it has the value that was"
          : s->stage == FLAGSHM_STAGE_OFF       ? "it begins at its first step"
                                                : "as it was");
}

static void take_value(struct editing *e)
{
    struct flagshm_rollout *s = e->s;

    if (s->variant_fingerprint == e->file->variant_fingerprint)
        return;
    s->variant_fingerprint = e->file->variant_fingerprint;
    s->control_fingerprint = e->file->control_fingerprint;
    s->is_planned = flagshm_is_planned(e->file);
    flagshm_rollout_new_attempt(s, s->is_planned);
    if (latch_again(s))
        found(e, FLAGSHM_CAUSE_VALUE_LATCHED, "the variant has a value again that was rolled back");
    else
        found(e, FLAGSHM_CAUSE_VALUE_NEW,
              s->is_planned ? "the variant has another value: a new attempt, from the first step"
                            : "the variant has another value: a new attempt");
}

static void take_control(struct editing *e)
{
    struct flagshm_rollout *s = e->s;

    if (s->control_fingerprint == e->file->control_fingerprint)
        return;
    s->control_fingerprint = e->file->control_fingerprint;
    if (s->stage == FLAGSHM_STAGE_STEP || s->stage == FLAGSHM_STAGE_SHADOW)
        found(e, FLAGSHM_CAUSE_CONTROL_EDITED,
              "the control has another value: this stage's evidence begins anew");
}

/* A share that was static goes down to the first step at once, or stays where it is below it. */
static void take_new_plan(struct editing *e)
{
    struct flagshm_rollout *s = e->s;
    const struct flagshm_plan *plan = e->file->plan;
    uint32_t first = plan->steps[0].is_shadow ? 0 : flagshm_plan_share(plan, 0);

    s->is_planned = true;
    if (s->stage != FLAGSHM_STAGE_ROLLED_BACK)
        flagshm_rollout_set_share(s, plan, first < e->served_mpct ? first : e->served_mpct);
    found(e, FLAGSHM_CAUSE_PLAN_NEW, "it has a plan now, and is at its first step");
}

static void drop_plan(struct editing *e)
{
    struct flagshm_rollout *s = e->s;

    s->is_planned = s->is_probing = s->is_shadow_ended = false;
    s->approved_fingerprint = s->asked_fingerprint = 0;
    s->cooldown_ns = s->shadow_mpct = 0;
    if (s->stage != FLAGSHM_STAGE_ROLLED_BACK) {
        s->stage = FLAGSHM_STAGE_STEP;
        s->share_mpct = FLAGSHM_MPCT_FULL;
    }
    found(e, FLAGSHM_CAUSE_PLAN_GONE, "it has no plan any more, and serves the file's share");
}

/* Never up: the place in the plan is that of the share, which goes down where the plan now ends below it. */
static void fit_plan(struct flagshm_rollout *s, const struct flagshm_plan *plan)
{
    uint32_t last = flagshm_plan_last_share(plan), shadow = 0, i;

    if (s->stage == FLAGSHM_STAGE_STEP || s->stage == FLAGSHM_STAGE_FULL ||
        s->stage == FLAGSHM_STAGE_COMPLETE) {
        flagshm_rollout_set_share(s, plan, s->share_mpct < last ? s->share_mpct : last);
    } else if (s->stage == FLAGSHM_STAGE_SHADOW) {
        for (i = 0; i < plan->step_count; i++)
            if (plan->steps[i].is_shadow)
                shadow = plan->steps[i].mpct;
        if (shadow == 0)
            flagshm_rollout_set_share(s, plan, 0);
        else if (s->shadow_mpct > shadow)
            s->shadow_mpct = shadow;
    }
}

static void take_plan(struct editing *e)
{
    struct flagshm_rollout *s = e->s;
    uint64_t plan_hash = flagshm_plan_hash(e->file->plan), guards_hash = flagshm_guards_hash(e->file->guards);
    bool is_planned = flagshm_is_planned(e->file);
    /* what was counted so far means something else: its slot goes, and its evidence with it */
    bool is_anew = flagshm_rollout_is_guarded(s, e->file) &&
                   (guards_hash != s->guards_hash || e->file->form_hash != s->form_hash);

    if (is_planned && !s->is_planned) {
        take_new_plan(e);
    } else if (!is_planned && s->is_planned) {
        drop_plan(e);
    } else if (plan_hash != s->plan_hash && is_planned) {
        fit_plan(s, e->file->plan);
        found(e, FLAGSHM_CAUSE_PLAN_EDITED,
              is_anew ? "the plan was edited: this stage's evidence begins anew" : "the plan was edited");
    } else if (guards_hash != s->guards_hash && (is_planned || is_anew || s->latched_count > 0)) {
        found(e, FLAGSHM_CAUSE_PLAN_EDITED,
              is_anew ? "the guardrails were edited: this stage's evidence begins anew"
                      : "the guardrails were edited");
    } else if (is_anew) {
        found(e, FLAGSHM_CAUSE_FORM_EDITED,
              "what its counts depend on was edited (salt, force list or the arms' names): this stage's "
              "evidence begins anew");
    }
    s->plan_hash = plan_hash;
    s->guards_hash = guards_hash;
    s->form_hash = e->file->form_hash;
}

/* What is complete is not watched, so a complete flag that a person lowers is complete no more. */
static void take_cap(struct editing *e)
{
    struct flagshm_rollout *s = e->s;

    if (s->cap_mpct == e->file->cap_mpct)
        return;
    found(e, FLAGSHM_CAUSE_CAP,
          e->file->cap_mpct == 0            ? "the file says 0 %, or not enabled"
          : e->file->cap_mpct < s->cap_mpct ? "the file's cap was lowered"
                                            : "the file's cap was raised");
    s->cap_mpct = e->file->cap_mpct;
    if (s->stage == FLAGSHM_STAGE_COMPLETE && s->cap_mpct < s->share_mpct)
        s->stage = FLAGSHM_STAGE_FULL;
}

static void take_file(struct editing *e, const struct flagshm_moment *now)
{
    struct flagshm_rollout *s = e->s;

    if (!e->file->is_present) {
        if (s->is_seen && s->is_present)
            found(e, FLAGSHM_CAUSE_FLAG_GONE, "the file has no such flag any more");
        s->is_present = false;
        return;
    }
    if (!s->is_seen) {
        take_first(e, now);
        return;
    }
    take_presence(e);
    take_value(e);
    take_control(e);
    take_plan(e);
    take_cap(e);
}

/* Who is forced is no evidence; in whatever order they stand. Ids are personal data: only a hash is kept. */
static uint64_t form_hash(const struct flagshm_flag *flag)
{
    uint64_t forced = flag->force_count, hash = flagshm_hash64_(flag->salt, flag->salt_bytes, 0);
    uint32_t i;

    for (i = 0; i < flag->force_count; i++)
        forced += flagshm_hash64_(flag->force[i].id, flag->force[i].id_bytes, flag->force[i].arm + 1);
    for (i = 0; i < flag->arm_count; i++) {
        hash = flagshm_hash64_(flag->arms[i].name, strlen(flag->arms[i].name), hash);
        hash = flagshm_hash64_(&flag->arms[i].weight, sizeof flag->arms[i].weight, hash);
    }
    hash = flagshm_hash64_(&flag->plan->overdue_ns, sizeof flag->plan->overdue_ns, hash);
    return flagshm_hash64_(&forced, sizeof forced, hash);
}

bool flagshm_rollout_file_of(const struct flagshm_flag *flag, struct flagshm_rollout_file *file)
{
    memset(file, 0, sizeof *file);
    if (!flag->plan || !flag->guards || flag->arm_count != 2)
        return false;
    *file = (struct flagshm_rollout_file){
        .name = flag->name,
        .is_present = true,
        .cap_mpct = flag->enabled ? flag->rollout_mpct : 0,
        .variant_fingerprint = flag->arms[1].fingerprint,
        .control_fingerprint = flag->arms[0].fingerprint,
        .plan = flag->plan,
        .guards = flag->guards,
        .form_hash = form_hash(flag),
    };
    return true;
}

bool flagshm_rollout_edit(struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                          const struct flagshm_moment *now, struct flagshm_transition *transition)
{
    struct flagshm_rollout before = *s;
    struct editing e = {s, &before, file, flagshm_rollout_share(s), FLAGSHM_CAUSE_NONE, ""};
    struct flagshm_change change = {&before, s, now, FLAGSHM_CAUSE_NONE, NULL, -1, NULL};

    take_file(&e, now);
    change.cause = e.cause;
    return flagshm_rollout_conclude(&change, transition, "%s", e.what);
}

bool flagshm_rollout_refuses(const struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                             char *text, size_t room)
{
    if (!s->is_seen || !s->is_present || !s->is_planned || !file->is_present ||
        (s->stage != FLAGSHM_STAGE_FULL && s->stage != FLAGSHM_STAGE_COMPLETE) ||
        file->variant_fingerprint == s->variant_fingerprint ||
        file->control_fingerprint != s->control_fingerprint ||
        file->control_fingerprint == s->variant_fingerprint)
        return false;
    snprintf(text, room,
             "the variant of \"%s\" is what all its users have by now, and its \"control\" is still the old "
             "value: with another "
             "variant they would all be thrown back to that. Run `flagctl finish %s` first (control becomes "
             "the variant, the plan "
             "goes), then write the new variant",
             file->name, file->name);
    return true;
}

/* ---- a start ---- */

/* Every kill, latch and lower share of the table is true: it was published before it could be written down. */
static void take_served(struct editing *e, const struct flagshm_rollout_served *served)
{
    struct flagshm_rollout *s = e->s;
    bool is_same = served->fingerprint == s->variant_fingerprint;

    if (served->is_killed && !s->is_killed) {
        s->is_killed = true;
        found(e, FLAGSHM_CAUSE_RECOVERED, "the table says that it was killed");
    }
    if (served->is_latched && is_same && s->stage != FLAGSHM_STAGE_ROLLED_BACK) {
        flagshm_rollout_latch(s);
        found(e, FLAGSHM_CAUSE_RECOVERED, "the table says that it was rolled back");
    }
    if (!is_same || !s->is_planned || served->is_drill || served->is_killed || s->is_killed ||
        s->stage == FLAGSHM_STAGE_ROLLED_BACK)
        return;
    if (served->is_probe && s->share_mpct == FLAGSHM_MPCT_FULL && !s->is_probing) {
        s->is_probing = true;
        s->probe_left_ns = FLAGSHM_PROBE_NS;
        found(e, FLAGSHM_CAUSE_RECOVERED, "the table says that it probes");
    } else if (served->share_mpct < flagshm_less(flagshm_rollout_share(s), e->file->cap_mpct)) {
        flagshm_rollout_set_share(s, e->file->plan, served->share_mpct);
        found(e, FLAGSHM_CAUSE_RECOVERED, "the table says a lower share");
    }
}

/* Without a journal: what is complete stays so by the table's word, latches and kills too; any other plan begins at 0. */
static void take_without_journal(struct editing *e, const struct flagshm_rollout_served *served, bool is_lost,
                                 const struct flagshm_moment *now)
{
    struct flagshm_rollout *s = e->s;

    if (served && served->is_killed)
        s->is_killed = true;
    if (served && served->is_latched && served->fingerprint != 0)
        s->latched[s->latched_count++] = served->fingerprint;
    take_first(e, now);
    if (!is_lost || (!s->is_planned && s->stage != FLAGSHM_STAGE_ROLLED_BACK))
        return;
    e->cause = FLAGSHM_CAUSE_JOURNAL_LOST;
    e->what = s->stage == FLAGSHM_STAGE_ROLLED_BACK
                  ? "the table says that it was rolled back"
                  : "nothing is known of how far it was: it begins at its first step";
    if (s->is_planned && served && served->stage == FLAGSHM_STAGE_COMPLETE && !s->is_killed &&
        served->fingerprint == s->variant_fingerprint &&
        served->share_mpct == flagshm_plan_top(e->file->plan)) {
        flagshm_rollout_set_share(s, e->file->plan, served->share_mpct);
        s->stage = FLAGSHM_STAGE_COMPLETE;
        e->what = "the table says that it was complete: it stays so";
    }
}

/* Times of another run mean nothing, and what ran down meanwhile is taken off by the wall clock. */
static void forget_run(struct flagshm_rollout *s, const struct flagshm_moment *now)
{
    uint64_t away = s->looked_wall_ns > 0 ? flagshm_minus(now->wall_ns, s->looked_wall_ns) : 0;

    s->probe_left_ns = flagshm_minus(s->probe_left_ns, away);
    s->looked_mono_ns = s->quiet_latest_mono_ns = 0;
    s->is_drilling = false;
    s->drill_left_ns = 0;
}

/* How long it is watched before it may rise again; not longer than the plan holds anyway. */
static uint64_t recovering(const struct flagshm_rollout *s, const struct flagshm_plan *plan)
{
    int32_t step = flagshm_rollout_step(s, plan);

    return step >= 0 ? flagshm_less(FLAGSHM_RECOVERING_NS, plan->steps[step].hold_ns) : FLAGSHM_RECOVERING_NS;
}

bool flagshm_rollout_recover(struct flagshm_rollout *s, const struct flagshm_rollout_served *served,
                             const struct flagshm_rollout_file *file, bool is_journal_lost,
                             const struct flagshm_moment *now, struct flagshm_transition *transition)
{
    struct flagshm_rollout before = *s;
    struct editing e = {s, &before, file, 0, FLAGSHM_CAUSE_NONE, ""};
    struct flagshm_change change = {&before, s, now, FLAGSHM_CAUSE_NONE, NULL, -1, NULL};
    uint32_t evidence;
    bool is_serving;

    forget_run(s, now);
    e.served_mpct = flagshm_rollout_share(s);
    if (before.is_drilling)
        found(&e, FLAGSHM_CAUSE_DRILL_ENDED, "the server was started anew");
    if (!s->is_seen && file->is_present) {
        take_without_journal(&e, served, is_journal_lost, now);
    } else {
        if (served && file->is_present)
            take_served(&e, served);
        take_file(&e, now);
    }
    change.cause = e.cause;
    evidence = s->evidence;
    flagshm_rollout_conclude(&change, transition, "%s", e.what);
    is_serving = flagshm_rollout_share(s) > 0 || flagshm_rollout_shadow(s) > 0;
    if (is_serving && before.is_seen && s->evidence == evidence && !(served && served->is_slot_kept))
        flagshm_rollout_new_evidence(s, true);
    s->recovering_ns = is_serving && s->is_planned ? recovering(s, file->plan) : 0;
    return e.cause != FLAGSHM_CAUSE_NONE;
}
