/* governor_look: from a slot's counts to a verdict, from a verdict to a draft of what comes next. */
#include "server/clock.h"
#include "server/governor_internal.h"
#include "server/log.h"
#include "server/rollout_zone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_NS UINT64_C(60000000000)

/* ---- counts ---- */

const struct flagshm_ledger_entry *flagshm_governor_slot(const struct flagshm_governor *g,
                                                         const struct flagshm_ward *ward, uint32_t *slot)
{
    return flagshm_ledger_find(&g->publisher->ledger, ward->flag_hash, slot);
}

bool flagshm_governor_has_slot(const struct flagshm_governor *g, const struct flagshm_ward *ward)
{
    (void)ward;
    return flagshm_ledger_has_free(&g->publisher->ledger, flagshm_mono_ns());
}

/* Kinds of outcomes that clients book here, beside those of the default set. */
static uint32_t kinds_that_arrive(const struct flagshm_slot_counts *counts)
{
    static const struct {
        enum flagshm_guard_kind kind;
        uint32_t counter;
    } kinds[] = {
        {FLAGSHM_GUARD_LOST, FLAGSHM_N_STARTED},
        {FLAGSHM_GUARD_SCHEMA_VALID, FLAGSHM_N_SCHEMA_CHECKED},
        {FLAGSHM_GUARD_TOOL_VALID, FLAGSHM_N_TOOL_CHECKED},
        {FLAGSHM_GUARD_REFUSAL, FLAGSHM_N_REFUSAL},
        {FLAGSHM_GUARD_TRUNCATED, FLAGSHM_N_TRUNCATED},
        {FLAGSHM_GUARD_EMPTY, FLAGSHM_N_EMPTY},
        {FLAGSHM_GUARD_THUMBS_DOWN, FLAGSHM_N_THUMBS_DOWN},
        {FLAGSHM_GUARD_RETRY, FLAGSHM_N_RETRY},
        {FLAGSHM_GUARD_SUPPORT_CONTACT, FLAGSHM_N_SUPPORT_CONTACT},
    };
    uint32_t found = 0, arm;
    size_t i;

    for (arm = 0; arm < counts->arm_count && arm < 8; arm++) {
        for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
            if (counts->arms[arm].n[kinds[i].counter] > 0)
                found |= UINT32_C(1) << kinds[i].kind;
        if (flagshm_histogram_count(counts->arms[arm].histograms[FLAGSHM_H_TTFT]) > 0)
            found |= UINT32_C(1) << FLAGSHM_GUARD_TTFT_P95;
    }
    return found;
}

static struct flagshm_evidence_look evidence_look(const struct flagshm_governor *g,
                                                  const struct flagshm_ward *ward,
                                                  const struct flagshm_ledger_entry *e)
{
    const struct flagshm_ledger *ledger = &g->publisher->ledger;

    return (struct flagshm_evidence_look){
        .counts = &ward->post->counts,
        .form = &e->form,
        .plan = ward->file.plan,
        .guards = &ward->guards,
        .q = (double)flagshm_rollout_share(&ward->state) / FLAGSHM_MPCT_FULL,
        .is_shadow = flagshm_rollout_shadow(&ward->state) > 0,
        .is_open = e->is_open,
        .is_tainted = e->is_tainted,
        .is_session = ward->source->identity == FLAGSHM_IDENTITY_SESSION,
        .n = ward->state.evidence,
        .hold_ns = flagshm_rollout_hold_ns(&ward->state, ward->file.plan),
        .opened_mono_ns = e->opened_mono_ns,
        .window_4h = ledger->window_4h,
        .window_1h = ledger->window_1h,
        .now_mono_ns = g->publisher->moment.mono_ns,
    };
}

/* When the wash-in ends, and each hour: what clients shall compare amounts with. After a restart, with what they use already. */
static void choose_thresholds(struct flagshm_governor *g, struct flagshm_ward *ward, uint32_t slot,
                              const struct flagshm_evidence_look *look, bool is_first)
{
    struct flagshm_ledger *ledger = &g->publisher->ledger;
    uint64_t known[FLAGSHM_SIGNALS_MAX], thresholds[FLAGSHM_SIGNALS_MAX];
    uint32_t chosen, i;

    flagshm_ledger_thresholds(ledger, slot, known);
    chosen = flagshm_evidence_choose(&ward->post->evidence, look, is_first ? known : NULL, thresholds);
    for (i = 0; i < FLAGSHM_SIGNALS_MAX; i++)
        if (chosen >> i & 1)
            flagshm_ledger_set_threshold(ledger, slot, i, thresholds[i]);
}

static void mind_slot(struct flagshm_governor *g, struct flagshm_ward *ward, uint32_t slot,
                      const struct flagshm_ledger_entry *e, struct flagshm_evidence_look *look, bool is_first)
{
    struct flagshm_ward_post *post = ward->post;
    bool is_over = !e->is_open && look->now_mono_ns - e->opened_mono_ns >= e->wash_in_ns;

    if (is_over || (e->is_open && (is_first || post->chosen_window_1h != look->window_1h))) {
        choose_thresholds(g, ward, slot, look, is_first && e->is_open);
        post->chosen_window_1h = look->window_1h;
    }
    if (is_over)
        flagshm_ledger_open_slot(&g->publisher->ledger, slot);
}

/* Judges what was booked. The verdict stays with the ward; without one it says so. */
static void judge(struct flagshm_governor *g, struct flagshm_ward *ward)
{
    const struct flagshm_ledger_entry *e;
    struct flagshm_evidence_look look;
    uint32_t slot;
    bool is_first;

    if (ward->post != NULL)
        ward->post->has_verdict = false;
    if (!flagshm_rollout_is_guarded(&ward->state, &ward->file))
        return;
    e = flagshm_governor_slot(g, ward, &slot);
    if (e == NULL || e->guard_key == 0)
        return;
    if (ward->post == NULL) {
        ward->post = calloc(1, sizeof *ward->post);
        if (ward->post == NULL)
            return;
        if (ward->has_control_rates) {
            memcpy(ward->post->evidence.control_rates, ward->control_rates, sizeof ward->control_rates);
            ward->post->evidence.has_control_rates = true;
        }
    }
    if (!flagshm_ledger_read(&g->publisher->ledger, slot, &ward->post->counts))
        return;
    is_first = ward->post->evidence.generation != ward->post->counts.generation;
    look = evidence_look(g, ward, e);
    flagshm_evidence_judge(&ward->post->evidence, &look, &ward->post->verdict);
    ward->post->has_verdict = true;
    ward->arrived |= kinds_that_arrive(&ward->post->counts);
    mind_slot(g, ward, slot, e, &look, is_first);
}

/* ---- the rollout ---- */

/* Once a minute for each zone that follows another. */
static struct flagshm_local_time local_time(struct flagshm_governor *g, const struct flagshm_plan *plan)
{
    uint64_t wall_ns = g->publisher->moment.wall_ns;
    struct flagshm_local_time none = {0};

    if (!plan->window.is_set)
        return none;
    if (g->local_minute != wall_ns / MINUTE_NS || strcmp(g->zone, plan->window.tz) != 0) {
        (void)snprintf(g->zone, sizeof g->zone, "%s", plan->window.tz);
        g->local_minute = wall_ns / MINUTE_NS;
        (void)flagshm_zone_local(g->zone, wall_ns, &g->local);
    }
    return g->local;
}

static struct flagshm_look rollout_look(struct flagshm_governor *g, const struct flagshm_ward *ward)
{
    struct flagshm_look look = {.now = g->publisher->moment,
                                .local = local_time(g, ward->file.plan),
                                .is_frozen = g->is_frozen || g->publisher->kills.all,
                                .evidence = ward->state.evidence};

    if (ward->post == NULL || !ward->post->has_verdict)
        return look;
    look.has_verdict = true;
    look.verdict = ward->post->verdict;
    look.control_started = ward->post->counts.arms[0].n[FLAGSHM_N_STARTED];
    look.variant_started = ward->post->counts.arms[1].n[FLAGSHM_N_STARTED];
    return look;
}

/* Before a share rises: not while the last one is under way or could not be written down, and never where nobody could count what
 * comes of it. */
static bool may_rise(struct flagshm_governor *g, struct flagshm_ward *ward)
{
    const struct flagshm_rollout *next = &ward->draft->state;

    if (ward->pending != NULL || g->publisher->moment.mono_ns < ward->retry_mono_ns)
        return false;
    if (next->stage == FLAGSHM_STAGE_COMPLETE || flagshm_governor_has_slot(g, ward))
        return true;
    ward->judgement.waits |= UINT32_C(1) << FLAGSHM_WAIT_UNWATCHED;
    return false;
}

void flagshm_governor_peek(struct flagshm_governor *g, struct flagshm_ward *ward)
{
    struct flagshm_rollout copy = ward->state;
    struct flagshm_look look;

    judge(g, ward);
    look = rollout_look(g, ward);
    (void)flagshm_rollout_look(&copy, &ward->file, &look, &ward->judgement);
}

bool flagshm_governor_look(struct flagshm_governor *g, struct flagshm_ward *ward)
{
    struct flagshm_wards *wards = &g->publisher->wards;
    struct flagshm_ward_draft *draft;
    struct flagshm_look look;

    if (!ward->file.is_present || !ward->state.is_seen)
        return false;
    judge(g, ward);
    look = rollout_look(g, ward);
    draft = flagshm_ward_draft(ward);
    if (draft == NULL)
        return false;
    draft->has_transition = flagshm_rollout_look(&draft->state, &ward->file, &look, &ward->judgement);
    if (!draft->has_transition) {
        flagshm_ward_apply(wards, ward);
        return false;
    }
    draft->transition = ward->judgement.transition;
    if (flagshm_transition_is_rise(&draft->transition)) {
        if (!may_rise(g, ward) || flagshm_governor_begin_rise(g, ward, 0) != 0)
            flagshm_ward_drop_draft(ward);
        return false;
    }
    if (flagshm_ward_is_visible(ward))
        return true;
    flagshm_ward_apply(wards, ward);
    return false;
}

/* ---- flags without a plan ---- */

static const struct flagshm_flag *flag_of(const struct flagshm_governor *g, const char *name)
{
    const struct flagshm_flagfile_entry *entry =
        g->publisher->has_good ? flagshm_flagfile_find(&g->publisher->good, name) : NULL;

    return entry != NULL && !entry->broken ? &entry->flag : NULL;
}

/* False: nobody can guard it, or nobody may. */
static bool guard(struct flagshm_governor *g, const char *name)
{
    const struct flagshm_flag *flag = flag_of(g, name);
    struct flagshm_rollout_file file;
    struct flagshm_ward_draft *draft;
    struct flagshm_ward *ward;

    if (flag == NULL || !flagshm_rollout_file_of(flag, &file) || file.guards->count == 0)
        return false;
    ward = flagshm_wards_add(&g->publisher->wards, name);
    if (ward == NULL)
        return false;
    ward->next_file = ward->file = file;
    ward->next_source = ward->source = flag;
    ward->is_recovered = true;
    draft = flagshm_ward_draft(ward);
    if (draft == NULL)
        return false;
    (void)flagshm_rollout_edit(&draft->state, &file, &g->publisher->moment, &draft->transition);
    ward->is_unkept = true;
    return true;
}

static bool is_watched(const struct flagshm_governor *g, uint64_t flag_hash)
{
    const struct flagshm_ward *ward = flagshm_wards_find(&g->publisher->wards, flag_hash);

    return ward != NULL && ward->state.is_seen;
}

bool flagshm_governor_guard_others(struct flagshm_governor *g)
{
    struct flagshm_ledger *ledger = &g->publisher->ledger;
    bool has_drafts = false;
    uint32_t slot;

    for (slot = 0; slot < FLAGSHM_SLOTS; slot++) {
        const struct flagshm_ledger_entry *e = &ledger->entries[slot];
        const struct flagshm_slot_holder *holder = &ledger->slots.holders[slot];

        if (holder->flag_hash == 0 || e->form.arm_count != 2 || g->unguardable[slot] == holder->generation ||
            is_watched(g, holder->flag_hash) ||
            e->last[0][FLAGSHM_N_FINISHED] + e->last[1][FLAGSHM_N_FINISHED] == 0)
            continue;
        if (guard(g, e->flag))
            has_drafts = true;
        else
            g->unguardable[slot] = holder->generation;
    }
    return has_drafts;
}
