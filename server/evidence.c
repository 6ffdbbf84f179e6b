/* evidence: see the header. Here: windows, levels, significance, and what has been ruled out. */
#include "server/evidence_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define SECOND_NS  UINT64_C(1000000000)
#define HOUR_NS    UINT64_C(3600000000000)
#define DAY_NS     (24 * HOUR_NS)
#define HOLD_ALPHA 0.05              /* all holds of an attempt together */
#define RULED_OUT  20                /* E of the mirror test at 5 % */
#define SRM_LN_E   6.907755278982137 /* E > 1000 */
#define IDS_MIN    1000
#define RATE_PRIOR                                                                                           \
    100.0 /* control users that the guess of one event in 100 users is worth, before any is seen */
#define SPLIT_WINDOW 0.5 /* the slot's weight where there are timed windows beside it */

/* Ratios that may be ruled out: the smallest that is, is said. */
static const double ratios[FLAGSHM_EVIDENCE_RATIOS] = {1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2,  2.2, 2.5, 3,
                                                       3.5, 4,   5,   6,   7,   8,   10, 12,  15,  20};

uint32_t flagshm_look_variant(const struct flagshm_evidence_look *look)
{
    uint32_t arm = look->is_shadow ? look->counts->arm_count : 1;

    return arm < 8 ? arm : 7;
}

/* ---- windows ---- */

static void take_base(struct flagshm_evidence_base *base, const struct flagshm_evidence_look *look)
{
    const struct flagshm_slot_counts *counts = look->counts;
    uint32_t i;

    memcpy(base->capped_calls, counts->capped_calls, sizeof base->capped_calls);
    memcpy(base->capped_bad, counts->capped_bad, sizeof base->capped_bad);
    for (i = 0; i < 2; i++) {
        const struct flagshm_arm_counts *arm = &counts->arms[i == 0 ? 0 : flagshm_look_variant(look)];

        memcpy(base->n[i], arm->n, sizeof base->n[i]);
        memcpy(base->histograms[i], arm->histograms, sizeof base->histograms[i]);
    }
}

static void turn_windows(struct flagshm_evidence *e, const struct flagshm_evidence_look *look)
{
    const uint32_t now[2] = {look->window_4h, look->window_1h};
    uint32_t i;

    for (i = 0; i < 2; i++)
        if (now[i] != e->windows[i]) {
            e->windows[i] = now[i];
            take_base(&e->bases[i], look);
        }
}

/* A slot that is seen for the first time. After a restart its age tells how many windows went by; what was counted before in those of now is not
 * known any more, so their rates are those from now on. */
static void begin(struct flagshm_evidence *e, const struct flagshm_evidence_look *look)
{
    const uint32_t now[2] = {look->window_4h, look->window_1h};
    static const uint64_t lengths[2] = {4 * HOUR_NS, HOUR_NS};
    double control_rates[FLAGSHM_GUARD_KINDS + 8];
    bool has_control_rates = e->has_control_rates;
    uint32_t i;

    memcpy(control_rates, e->control_rates, sizeof control_rates);
    if (flagshm_control_is_known(e->newest_control, e->newest_control_cells)) {
        memcpy(e->control, e->newest_control, sizeof e->control);
        e->control_cells = e->newest_control_cells;
    }
    e->newest_control_cells = 0;
    e->generation = look->counts->generation;
    memset(e->bases, 0, sizeof e->bases);
    memset(e->thresholds, 0, sizeof e->thresholds);
    memset(e->recent, 0, sizeof e->recent);
    memset(&e->stretch, 0, sizeof e->stretch);
    memset(e->absolutes, 0, sizeof e->absolutes);
    e->recent_next = e->recent_used = 0;
    e->successes = e->last_finished = 0;
    e->has_succeeded = false;
    e->stretch.mono_ns = look->opened_mono_ns;
    for (i = 0; i < 2; i++) {
        uint64_t age =
            look->now_mono_ns > look->opened_mono_ns ? look->now_mono_ns - look->opened_mono_ns : 0;
        uint64_t into = look->now_mono_ns % lengths[i];

        e->windows[i] = now[i];
        e->first_windows[i] =
            age > into ? now[i] - (uint32_t)((age - into + lengths[i] - 1) / lengths[i]) : now[i];
        if (age > SECOND_NS) /* it was in use before */
            take_base(&e->bases[i], look);
    }
    e->has_control_rates = has_control_rates;
    for (i = 0; i < sizeof control_rates / sizeof *control_rates; i++)
        e->control_rates[i] = has_control_rates ? control_rates[i] : -1;
    e->has_control_rates = true;
}

static void know_odds(struct flagshm_evidence *e, double q)
{
    uint32_t i;

    if (e->odds_q == q && e->events.count != 0)
        return;
    e->odds_q = q;
    flagshm_odds_events(&e->events, q);
    flagshm_odds_amounts(&e->amounts, q);
    for (i = 0; i < FLAGSHM_EVIDENCE_RATIOS; i++)
        flagshm_odds_mirror(&e->mirrors[i], q, ratios[i]);
}

/* ---- significance ---- */

/* The level that comes nearest within a window: ln E and the weights of level, window and threshold together. */
struct found {
    double score, ln_e, ln_weight;
    uint32_t signal, level;
    uint64_t a, b;
};

static void look_at_levels(const struct flagshm_odds *odds, uint32_t levels[2][FLAGSHM_LEVELS],
                           uint32_t signal, double ln_weight, struct found *found)
{
    uint32_t level;

    for (level = 0; level < FLAGSHM_LEVELS; level++) {
        uint64_t a = levels[1][level], b = levels[0][level];
        double ln_at = ln_weight + flagshm_level_ln_weight(level), ln_e;

        if (a == 0 && (level != 0 || found->level != 0 || b == 0)) /* E is below 1 without a variant user */
            continue;
        if (flagshm_odds_bound(odds, a, b) + ln_at <= found->score)
            continue;
        ln_e = flagshm_odds_ln_e(odds, a, b);
        if (ln_e + ln_at > found->score)
            *found = (struct found){ln_e + ln_at, ln_e, ln_at, signal, level, a, b};
    }
}

static double window_ln_weight(const struct flagshm_evidence *e, const struct flagshm_evidence_look *look,
                               uint32_t window)
{
    uint64_t hold = look->hold_ns != 0 ? look->hold_ns : DAY_NS, length = window == 1 ? 4 * HOUR_NS : HOUR_NS;
    uint64_t planned = (hold + length - 1) / length;
    uint32_t nth = e->windows[window - 1] - e->first_windows[window - 1] + 1;

    return log(flagshm_window_weight(window == 1, nth, planned < 1000000 ? (uint32_t)planned : 1000000));
}

/* Where the counts of a window of now stand. */
static uint32_t window_at(const struct flagshm_evidence_look *look, uint32_t window)
{
    return window == 0 ? 0 : window == 1 ? 1 + (look->window_4h & 1) : 3 + (look->window_1h & 1);
}

struct judged {
    struct found found[3];
    struct flagshm_rates rates[3];
    bool has_rates[3];
    uint32_t windows;
};

static const struct flagshm_rates *rates_of(struct judged *j, const struct flagshm_evidence *e,
                                            const struct flagshm_evidence_look *look,
                                            const struct flagshm_guardrail *guard, uint32_t window)
{
    if (!j->has_rates[window])
        flagshm_evidence_rates(e, look, guard, window, &j->rates[window]);
    j->has_rates[window] = true;
    return &j->rates[window];
}

/* Significant and material, in one and the same window? *window: that one; else the one that comes nearest. */
static bool trips(struct judged *j, const struct flagshm_evidence *e,
                  const struct flagshm_evidence_look *look, const struct flagshm_guardrail *guard,
                  bool is_hold, double ln_bound, uint32_t *window)
{
    uint32_t i, nearest = 0;

    for (i = 0; i < j->windows; i++) {
        if (j->found[i].score > j->found[nearest].score)
            nearest = i;
        if (j->found[i].score >= ln_bound && flagshm_limit_is_met(is_hold ? &guard->hold : &guard->rollback,
                                                                  rates_of(j, e, look, guard, i), is_hold)) {
            *window = i;
            return true;
        }
    }
    *window = nearest;
    return false;
}

/* ---- what is ruled out, and what is still needed ---- */

static double ruled_out(const struct flagshm_evidence *e, uint64_t a, uint64_t b, double ratio_high)
{
    uint32_t low = 0, high = FLAGSHM_EVIDENCE_RATIOS; /* the greater a ratio, the easier to exclude */

    if (a + b == 0)
        return 0;
    while (low < high) {
        uint32_t at = (low + high) / 2;

        if (e->mirrors[at].count != 0 && flagshm_odds_ln_e(&e->mirrors[at], a, b) >= log(RULED_OUT))
            high = at;
        else
            low = at + 1;
    }
    if (low == FLAGSHM_EVIDENCE_RATIOS)
        return 0;
    /* first events alone would exclude too much where nearly every user has had one: the rates must agree */
    return ratio_high > ratios[low] ? (ratio_high <= ratios[FLAGSHM_EVIDENCE_RATIOS - 1] ? ratio_high : 0)
                                    : ratios[low];
}

/* Wald's bound, in users: with twice control's share of users with an event. */
static double users_to_2x(double q, uint64_t control_with_event, uint64_t control_users, double ln_bound)
{
    double events = flagshm_events_to_2x(q, ln_bound), seen, share;

    if (!(q > 0 && q < 1))
        return 0;
    seen = (double)control_with_event * (1 + 2 * q / (1 - q)); /* as there would be by now */
    if (seen >= events)
        return 0;
    share = ((double)control_with_event + RATE_PRIOR / 100) / ((double)control_users + RATE_PRIOR);
    return ceil((events - seen) / (share * (2 + (1 - q) / q)));
}

/* ---- one guardrail ---- */

struct alphas {
    double roll_back, hold; /* of this evidence */
    double even;            /* weight of one that has none */
    uint32_t holds;
};

/* The level that comes nearest, in each window that the guardrail's signals have. */
static void find_levels(const struct flagshm_evidence *e, const struct flagshm_evidence_look *look,
                        const struct flagshm_odds *odds, const uint32_t signals[2], uint32_t count,
                        struct judged *judged)
{
    uint32_t levels[2][FLAGSHM_LEVELS], window, i;

    for (window = 0; window < 3; window++)
        judged->found[window] = (struct found){.score = -INFINITY};
    judged->windows = count != 0 && look->form->signals[signals[0]].is_timed ? 3 : 1;
    for (window = 0; window < judged->windows && look->is_open; window++) {
        double ln_weight = judged->windows == 1 ? 0
                           : window == 0        ? log(SPLIT_WINDOW)
                                                : window_ln_weight(e, look, window);

        for (i = 0; i < count; i++) {
            memcpy(levels, look->counts->levels[signals[i]][window_at(look, window)], sizeof levels);
            look_at_levels(odds, levels, signals[i], ln_weight - log(count), &judged->found[window]);
        }
    }
}

static void judge_guard(struct flagshm_evidence *e, const struct flagshm_evidence_look *look, uint32_t index,
                        const struct alphas *alphas, double q, struct flagshm_verdict *verdict)
{
    const struct flagshm_guardrail *guard = &look->guards->list[index];
    struct flagshm_guard_form form = flagshm_guard_form(guard);
    struct flagshm_guard_verdict *v = &verdict->guards[index];
    const struct flagshm_odds *odds = form.is_amount ? &e->amounts : &e->events;
    struct judged judged = {.windows = 1};
    uint32_t signals[2], count = flagshm_guard_signals(look->form, form.signal, signals), window = 0,
                         hold_window = 0;
    double weight = guard->weight > 0 ? guard->weight : alphas->even, bound, hold_bound, to_roll_back;
    const struct flagshm_rates *rates;

    v->kind = guard->kind;
    find_levels(e, look, odds, signals, count, &judged);
    bound = -log(alphas->roll_back * weight);
    hold_bound = alphas->holds != 0 ? -log(alphas->hold / alphas->holds) : 0;
    to_roll_back = guard->has_rollback ? bound : hold_bound;
    if (guard->has_hold && q > 0 && q < 1)
        v->holds = trips(&judged, e, look, guard, true, hold_bound, &hold_window);
    if (guard->has_hold && !guard->has_rollback && q > 0 && q < 1)
        window = hold_window;
    if (guard->has_rollback && q > 0 && q < 1)
        v->is_material = trips(&judged, e, look, guard, false, bound, &window);
    rates = rates_of(&judged, e, look, guard, window);
    if (guard->has_rollback)
        v->is_significant = judged.found[window].score >= bound;
    v->is_material =
        v->is_material || (guard->has_rollback && flagshm_limit_is_met(&guard->rollback, rates, false));
    v->level = judged.found[window].level;
    v->window = window;
    v->a = judged.found[window].a;
    v->b = judged.found[window].b;
    v->ln_e = judged.found[window].ln_e;
    if (isinf(judged.found[window].score)) /* nothing was booked: the level and window that need the least */
        judged.found[window].ln_weight = flagshm_level_ln_weight(0) +
                                         (judged.windows == 1 ? 0 : log(SPLIT_WINDOW)) -
                                         (count > 1 ? log(count) : 0);
    v->threshold = to_roll_back - judged.found[window].ln_weight;
    v->hold_threshold = guard->has_hold ? hold_bound - judged.found[window].ln_weight : 0;
    v->rate_control = rates->rate[0];
    v->rate_variant = rates->rate[1];
    v->calls_control = rates->calls[0];
    v->calls_variant = rates->calls[1];
    v->ratio_high = rates->ratio_high;
    if (form.is_amount && count != 0) {
        uint64_t at =
            e->thresholds[isinf(judged.found[window].score) ? signals[0] : judged.found[window].signal];

        v->threshold_amount = form.is_time ? (double)at * (1 << FLAGSHM_TIME_SHIFT) / 1e6 : (double)at;
    }
    if (count != 0 && q > 0 && q < 1) {
        const uint32_t(*slot)[FLAGSHM_LEVELS] = look->counts->levels[signals[0]][0];
        double ln_first =
            flagshm_level_ln_weight(0) + (judged.windows == 1 ? 0 : log(SPLIT_WINDOW)) - log(count);

        v->ruled_out = ruled_out(e, slot[1][0], slot[0][0], rates_of(&judged, e, look, guard, 0)->ratio_high);
        v->users_to_2x =
            users_to_2x(q, slot[0][0], look->is_shadow ? verdict->shadow_pairs : verdict->control_users,
                        to_roll_back - ln_first);
    }
}

static struct alphas share_alpha(const struct flagshm_evidence_look *look)
{
    struct alphas alphas = {.roll_back = flagshm_alpha_nth(look->plan->alpha, look->n),
                            .hold = flagshm_alpha_nth(HOLD_ALPHA, look->n)};
    uint32_t i, count = 0;

    for (i = 0; i < look->guards->count; i++) {
        count += look->guards->list[i].has_rollback;
        alphas.holds += look->guards->list[i].has_hold;
    }
    alphas.even = count != 0 ? 1.0 / count : 1;
    return alphas;
}

/* ---- the whole ---- */

static uint64_t users_of(const struct flagshm_arm_counts *arm)
{
    return arm->n[FLAGSHM_N_USERS_STARTED] + arm->n[FLAGSHM_N_USERS_FINISHED];
}

static void look_at_users(const struct flagshm_evidence_look *look, double q, struct flagshm_verdict *v)
{
    const struct flagshm_arm_counts *control = &look->counts->arms[0], *variant = &look->counts->arms[1];
    uint64_t a = variant->n[FLAGSHM_N_USERS_STARTED], b = control->n[FLAGSHM_N_USERS_STARTED], calls, started;

    v->misbooked = control->n[FLAGSHM_N_MISBOOKED] + variant->n[FLAGSHM_N_MISBOOKED];
    v->control_users = users_of(control);
    v->control_calls = control->n[FLAGSHM_N_FINISHED];
    if (look->is_shadow) {
        v->shadow_pairs = v->variant_calls =
            look->counts->arms[flagshm_look_variant(look)].n[FLAGSHM_N_FINISHED];
    } else {
        v->variant_users = users_of(variant);
        v->variant_calls = variant->n[FLAGSHM_N_FINISHED];
    }
    v->uses_started = control->n[FLAGSHM_N_STARTED] + variant->n[FLAGSHM_N_STARTED] != 0;
    if (v->uses_started && !look->is_shadow && q > 0 && q < 1 && a + b != 0 && a + b >= a) {
        v->srm_ln_e = flagshm_srm_ln_e(a, a + b, q);
        v->has_srm = v->srm_ln_e > SRM_LN_E;
        v->users_started_variant = (double)a;
        v->users_started_share = (double)a / (double)(a + b);
    }
    calls = control->n[FLAGSHM_N_FINISHED] + variant->n[FLAGSHM_N_FINISHED];
    started = control->n[FLAGSHM_N_STARTED] + variant->n[FLAGSHM_N_STARTED];
    if (look->now_mono_ns > look->opened_mono_ns && look->now_mono_ns - look->opened_mono_ns >= DAY_NS &&
        look->counts->distinct >= IDS_MIN) {
        v->calls_per_id = (double)(calls > started ? calls : started) / look->counts->distinct;
        v->is_request_id = v->calls_per_id < (look->is_session ? 1.01 : 1.05);
    }
}

void flagshm_evidence_judge(struct flagshm_evidence *e, const struct flagshm_evidence_look *look,
                            struct flagshm_verdict *v)
{
    double q = look->is_shadow ? 0.5 : look->q > 0 && look->q < 1 ? look->q : look->q >= 1;
    struct alphas alphas = share_alpha(look);
    uint64_t finished = 0;
    uint32_t i;

    assert(look->guards->count <= FLAGSHM_GUARDRAILS_MAX);
    memset(v, 0, sizeof *v);
    if (e->generation != look->counts->generation || e->generation == 0)
        begin(e, look);
    turn_windows(e, look);
    know_odds(e, q);
    v->q = q;
    v->is_shadow = look->is_shadow;
    v->is_open = look->is_open;
    v->is_tainted = look->is_tainted;
    v->alpha = alphas.roll_back;
    for (i = 0; i < 8; i++)
        finished += look->counts->arms[i].n[FLAGSHM_N_FINISHED];
    if (finished != e->last_finished)
        e->last_outcome_mono_ns = look->now_mono_ns;
    e->last_finished = finished;
    v->last_outcome_mono_ns = e->last_outcome_mono_ns;
    look_at_users(look, q, v);
    v->guard_count = look->guards->count;
    for (i = 0; i < v->guard_count; i++)
        judge_guard(e, look, i, &alphas, q, v);
    flagshm_evidence_alarms(e, look, v);
    flagshm_evidence_absolutes(e, look, v);
}
