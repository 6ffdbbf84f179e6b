/* evidence_alarm: what needs no test of ratios: the breaker, both arms failing, capacity, absolute limits. All from deltas of the
 * counters, which run during the wash-in too.
 *
 * The counters do not know users, so these are bounds from below: a user passes a level once in a window, so as many users as one level has
 * grown by are behind what came since; each hour gives a user 16 capped calls at most; a user seen for the first time, whose calls have ended, has
 * failed where all calls failed. A bound that falls short only makes the breaker wait for the e-process, which needs about as many users.
 */
#include "server/evidence_internal.h"

#include <math.h>
#include <string.h>

#define SECOND_NS        UINT64_C(1000000000)
#define MARK_NS          (30 * SECOND_NS)
#define RECENT_NS        (300 * SECOND_NS)
#define BREAKER_CALLS    10 /* of the variant, all failed */
#define BREAKER_CONTROL  20 /* calls of control in the same stretch */
#define BREAKER_USERS    5
#define BREAKER_SHARE    0.20 /* of control's that may have failed */
#define ALONE_CALLS      20   /* failures in a row where there is no control */
#define BOTH_BAD_SHARE   0.20
#define BOTH_BAD_CONTROL 20 /* calls */
#define BOTH_BAD_VARIANT 5
#define LIMITED_SHARE    0.02
#define LIMITED_CALLS    5 /* one key's short quota is no lack of capacity */
#define LIMITED_RATIO    2
#define ABSOLUTE_RATIO                                                                                       \
    3 /* of control's last rate, and points above it: where the file sets no limit, at 100 % */
#define ABSOLUTE_POINTS  0.05
#define ABSOLUTE_OVER_NS RECENT_NS
#define ABSOLUTE_USERS   5
#define CONTROL_KNOWN    100 /* calls that control's rate is believed from */
#define DISTINCT_ERROR   0.05

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t more(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t flagshm_levels_grown(uint32_t now[FLAGSHM_WINDOWS][FLAGSHM_LEVELS],
                              uint32_t before[FLAGSHM_WINDOWS][FLAGSHM_LEVELS])
{
    uint64_t most = 0;
    uint32_t window, level;

    for (window = 0; window < FLAGSHM_WINDOWS; window++)
        for (level = 0; level < FLAGSHM_LEVELS; level++)
            /* below what it was: the window was cleared since, and all that it holds is newer */
            most = more(most, now[window][level] >= before[window][level]
                                  ? now[window][level] - before[window][level]
                                  : now[window][level]);
    return most;
}

static void copy_levels(uint32_t into[FLAGSHM_WINDOWS][FLAGSHM_LEVELS],
                        const struct flagshm_evidence_look *look, enum flagshm_signal_kind kind)
{
    uint32_t signals[2], window;

    memset(into, 0, FLAGSHM_WINDOWS * sizeof *into);
    if (flagshm_guard_signals(look->form, kind, signals) == 0)
        return;
    for (window = 0; window < FLAGSHM_WINDOWS; window++)
        memcpy(into[window], look->counts->levels[signals[0]][window][1], sizeof into[window]);
}

static struct flagshm_evidence_mark mark_now(const struct flagshm_evidence_look *look)
{
    struct flagshm_evidence_mark mark = {.mono_ns = look->now_mono_ns};
    uint32_t arm;

    for (arm = 0; arm < 2; arm++) {
        const uint64_t *n = look->counts->arms[arm == 0 ? 0 : flagshm_look_variant(look)].n;

        mark.finished[arm] = n[FLAGSHM_N_FINISHED];
        mark.failed[arm] = n[FLAGSHM_N_FAILED];
        mark.limited[arm] = n[FLAGSHM_N_LIMITED];
        mark.cancelled[arm] = n[FLAGSHM_N_CANCELLED];
        mark.users[arm] = n[FLAGSHM_N_USERS_STARTED] + n[FLAGSHM_N_USERS_FINISHED];
        mark.capped_calls[arm] = look->counts->capped_calls[arm];
    }
    copy_levels(mark.levels, look, FLAGSHM_SIGNAL_ERROR);
    return mark;
}

/* ---- the last five minutes ---- */

/* The newest mark that is five minutes old, or the oldest that there is. */
static const struct flagshm_evidence_mark *mark_before(const struct flagshm_evidence *e, uint64_t now_mono_ns)
{
    const struct flagshm_evidence_mark *oldest = &e->recent[0];
    uint32_t i;

    for (i = 0; i < e->recent_used; i++) {
        const struct flagshm_evidence_mark *mark =
            &e->recent[(e->recent_next + FLAGSHM_EVIDENCE_MARKS - 1 - i) % FLAGSHM_EVIDENCE_MARKS];

        oldest = mark;
        if (less(now_mono_ns, mark->mono_ns) >= RECENT_NS)
            break;
    }
    return oldest;
}

static void keep_mark(struct flagshm_evidence *e, const struct flagshm_evidence_look *look,
                      const struct flagshm_evidence_mark *now)
{
    const struct flagshm_evidence_mark *last =
        &e->recent[(e->recent_next + FLAGSHM_EVIDENCE_MARKS - 1) % FLAGSHM_EVIDENCE_MARKS];

    if (e->newest_control_cells <= 0)
        flagshm_evidence_keep_control(e, look);
    if (less(now->mono_ns, last->mono_ns) < MARK_NS)
        return;
    e->recent[e->recent_next] = *now;
    e->recent_next = (e->recent_next + 1) % FLAGSHM_EVIDENCE_MARKS;
    if (e->recent_used < FLAGSHM_EVIDENCE_MARKS)
        e->recent_used++;
    flagshm_evidence_keep_control(e, look);
}

static double share_of(uint64_t part, uint64_t whole)
{
    return whole != 0 ? (double)(part < whole ? part : whole) / (double)whole : 0;
}

static void look_at_recent(const struct flagshm_evidence_mark *now,
                           const struct flagshm_evidence_mark *before, struct flagshm_verdict *v)
{
    uint64_t calls[2], failed[2], limited[2];
    uint32_t arm;

    for (arm = 0; arm < 2; arm++) {
        calls[arm] = less(less(now->finished[arm], before->finished[arm]),
                          less(now->cancelled[arm], before->cancelled[arm]));
        failed[arm] = less(now->failed[arm], before->failed[arm]);
        limited[arm] = less(now->limited[arm], before->limited[arm]);
    }
    v->failed_control = share_of(failed[0], calls[0]);
    v->failed_variant = share_of(failed[1], calls[1]);
    v->limited_control = share_of(limited[0], calls[0]);
    v->limited_variant = share_of(limited[1], calls[1]);
    v->is_both_bad = calls[0] >= BOTH_BAD_CONTROL && calls[1] >= BOTH_BAD_VARIANT &&
                     v->failed_control >= BOTH_BAD_SHARE && v->failed_variant >= BOTH_BAD_SHARE;
    if (limited[1] < LIMITED_CALLS || v->limited_variant < LIMITED_SHARE)
        return;
    v->is_limited = v->limited_variant >= LIMITED_RATIO * v->limited_control;
    v->is_both_limited = !v->is_limited && v->limited_control >= LIMITED_SHARE;
}

/* ---- the breaker ---- */

/* Users of an arm who have finished a call in the stretch, at least. */
static uint64_t users_behind(struct flagshm_evidence *e, const struct flagshm_evidence_look *look,
                             struct flagshm_evidence_mark *now, uint32_t arm)
{
    const uint64_t *n = look->counts->arms[arm == 0 ? 0 : flagshm_look_variant(look)].n;
    uint64_t under_way = less(less(n[FLAGSHM_N_STARTED], n[FLAGSHM_N_FINISHED]), n[FLAGSHM_N_LOST]);
    uint64_t users = less(less(now->users[arm], e->stretch.users[arm]), under_way);
    double share = arm == 0 ? 1 - look->q : look->q, all, seen;

    users = more(users, (less(now->capped_calls[arm], e->stretch.capped_calls[arm]) + FLAGSHM_CALLS_CAP - 1) /
                            FLAGSHM_CALLS_CAP);
    if (arm == 1)
        users = more(users, flagshm_levels_grown(now->levels, e->stretch.levels));
    if (!e->has_succeeded && look->counts->distinct > 0) {
        /* the stretch is the slot's whole life: of its ids, `share` are in this arm, less what chance and the estimate may be off */
        all = look->counts->distinct * (1 - DISTINCT_ERROR) * share;
        seen = floor(all - FLAGSHM_CONFIDENT * sqrt(all * (1 - share)));
        users = more(users, seen > 0 ? less(seen < 1e9 ? (uint64_t)seen : 1000000000u, under_way) : 0);
    }
    return users;
}

static uint64_t successes_of(const struct flagshm_evidence_mark *mark)
{
    return less(less(less(mark->finished[1], mark->failed[1]), mark->limited[1]), mark->cancelled[1]);
}

static void look_at_stretch(struct flagshm_evidence *e, const struct flagshm_evidence_look *look,
                            struct flagshm_evidence_mark *now, struct flagshm_verdict *v)
{
    uint64_t successes = successes_of(now), bad[2], users;
    uint32_t arm;

    if (successes >
        e->successes) { /* a success since the last look: it may have been the last of what came */
        e->stretch = *now;
        e->has_succeeded = true;
    }
    e->successes = successes;
    for (arm = 0; arm < 2; arm++)
        bad[arm] =
            less(now->failed[arm], e->stretch.failed[arm]) + less(now->limited[arm], e->stretch.limited[arm]);
    users = users_behind(e, look, now, 1);
    v->stretch_variant_bad = bad[1];
    v->stretch_variant_users = users < bad[1] ? users : bad[1];
    v->stretch_control_bad = bad[0];
    v->stretch_control_calls = less(less(now->finished[0], e->stretch.finished[0]),
                                    less(now->cancelled[0], e->stretch.cancelled[0]));
    if (v->q >= 1) {
        v->has_breaker = bad[1] >= ALONE_CALLS && v->stretch_variant_users >= BREAKER_USERS;
        return;
    }
    if (!(v->q > 0) || look->is_shadow || v->is_both_bad || bad[1] < BREAKER_CALLS ||
        v->stretch_control_calls < BREAKER_CONTROL || users_behind(e, look, now, 0) < BREAKER_USERS ||
        share_of(bad[0], v->stretch_control_calls) >= BREAKER_SHARE)
        return;
    v->has_breaker = v->stretch_variant_users >= BREAKER_USERS;
    v->has_thin_breaker = !v->has_breaker;
}

void flagshm_evidence_alarms(struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                             struct flagshm_verdict *verdict)
{
    struct flagshm_evidence_mark now = mark_now(look);
    const struct flagshm_evidence_mark *before;

    if (evidence->recent_used == 0) { /* a slot that is older was there before us: its past is no news */
        evidence->recent[0] = now;
        if (less(look->now_mono_ns, look->opened_mono_ns) < RECENT_NS)
            evidence->recent[0] = (struct flagshm_evidence_mark){.mono_ns = look->opened_mono_ns};
        evidence->recent_next = evidence->recent_used = 1;
    }
    before = mark_before(evidence, look->now_mono_ns);
    look_at_recent(&now, before, verdict);
    look_at_stretch(evidence, look, &now, verdict);
    keep_mark(evidence, look, &now);
}

/* ---- absolute limits ---- */

/* Calls and bad ones of the variant, or what stands for them: of p95, calls above the limit, which one in twenty may be; of a mean, the sum. */
static void measure(const struct flagshm_evidence_look *look, const struct flagshm_guard_form *form,
                    double limit, double *calls, double *bad)
{
    const struct flagshm_arm_counts *arm = &look->counts->arms[flagshm_look_variant(look)];
    const uint64_t *h = arm->histograms[form->histogram];
    double ticks = limit * 1e6 / (1 << FLAGSHM_TIME_SHIFT);
    uint32_t i;

    *calls = *bad = 0;
    if (!form->is_amount) {
        *calls = (double)arm->n[form->signal == FLAGSHM_SIGNAL_LOST ? FLAGSHM_N_STARTED : FLAGSHM_N_FINISHED];
        *bad = (double)arm->n[form->counter];
        return;
    }
    for (i = 0; i < FLAGSHM_HISTOGRAM_BUCKETS; i++) {
        double value = i < 8 ? i : ((double)flagshm_bucket_low_(i) + (double)flagshm_bucket_low_(i + 1)) / 2;

        *calls += (double)h[i];
        if (form->is_mean)
            *bad += (double)h[i] * value;
        else if ((double)flagshm_bucket_low_(i) >= ticks)
            *bad += (double)h[i];
    }
}

static double *control_rate(struct flagshm_evidence *e, const struct flagshm_guardrail *guard)
{
    return &e->control_rates[guard->kind < FLAGSHM_GUARD_CUSTOM
                                 ? guard->kind
                                 : FLAGSHM_GUARD_KINDS + (guard->custom_index & 7u)];
}

static double default_limit(const struct flagshm_guard_form *form, double control)
{
    double limit = ABSOLUTE_RATIO * control;

    if (form->is_amount || limit > control + ABSOLUTE_POINTS)
        return limit;
    return control + ABSOLUTE_POINTS;
}

static void judge_absolute(struct flagshm_evidence *e, const struct flagshm_evidence_look *look,
                           uint32_t index, struct flagshm_verdict *verdict)
{
    const struct flagshm_guardrail *guard = &look->guards->list[index];
    struct flagshm_guard_form form = flagshm_guard_form(guard);
    struct flagshm_evidence_absolute *a = &e->absolutes[index];
    struct flagshm_guard_verdict *v = &verdict->guards[index];
    double *control = control_rate(e, guard), limit = 0, calls, bad;
    uint64_t over = guard->absolute_over_ns != 0 ? guard->absolute_over_ns : ABSOLUTE_OVER_NS, users = 0;
    uint64_t users_min = guard->absolute_min_users != 0 ? guard->absolute_min_users : ABSOLUTE_USERS;
    uint64_t seen = verdict->variant_users;
    uint32_t levels[FLAGSHM_WINDOWS][FLAGSHM_LEVELS], i, newest;

    if (v->calls_control >= CONTROL_KNOWN && verdict->q > 0 && verdict->q < 1)
        *control = v->rate_control;
    else if (verdict->q >= 1 && *control >= 0)
        v->rate_control = *control; /* as it was when there was one */
    if (guard->has_absolute)
        limit = guard->absolute_max;
    else if (verdict->q >= 1 && *control >= 0)
        limit = default_limit(&form, *control);
    v->absolute = limit;
    if (!(limit > 0) || look->is_shadow)
        return;
    if (a->limit != limit) {
        memset(a, 0, sizeof *a);
        a->limit = limit;
    }
    measure(look, &form, limit, &calls, &bad);
    copy_levels(levels, look, form.signal);
    for (i = 0; i < a->used; i++) { /* newest first: the first that is old enough */
        uint32_t at = (a->next + FLAGSHM_EVIDENCE_ABSOLUTE_MARKS - 1 - i) % FLAGSHM_EVIDENCE_ABSOLUTE_MARKS;
        double since_calls = calls - a->marks[at].calls, since_bad = bad - a->marks[at].bad;

        if (less(look->now_mono_ns, a->marks[at].mono_ns) < over)
            continue;
        v->absolute_at = since_calls > 0 ? since_bad / since_calls : 0;
        users = more(less(seen, a->marks[at].users), flagshm_levels_grown(levels, a->marks[at].levels));
        users =
            more(users, less(look->counts->capped_calls[1], a->marks[at].capped_calls) / FLAGSHM_CALLS_CAP);
        v->is_absolute = since_calls > 0 && users >= users_min && !verdict->is_both_bad &&
                         v->absolute_at > (form.is_amount && !form.is_mean ? 0.05 : limit);
        break;
    }
    newest = (a->next + FLAGSHM_EVIDENCE_ABSOLUTE_MARKS - 1) % FLAGSHM_EVIDENCE_ABSOLUTE_MARKS;
    if (a->used != 0 &&
        less(look->now_mono_ns, a->marks[newest].mono_ns) < over / (FLAGSHM_EVIDENCE_ABSOLUTE_MARKS - 2))
        return;
    a->marks[a->next].mono_ns = look->now_mono_ns;
    a->marks[a->next].users = seen;
    a->marks[a->next].capped_calls = look->counts->capped_calls[1];
    a->marks[a->next].calls = calls;
    a->marks[a->next].bad = bad;
    memcpy(a->marks[a->next].levels, levels, sizeof levels);
    a->next = (a->next + 1) % FLAGSHM_EVIDENCE_ABSOLUTE_MARKS;
    if (a->used < FLAGSHM_EVIDENCE_ABSOLUTE_MARKS)
        a->used++;
}

void flagshm_evidence_absolutes(struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                                struct flagshm_verdict *verdict)
{
    uint32_t i;

    for (i = 0; i < verdict->guard_count; i++)
        judge_absolute(evidence, look, i, verdict);
}
