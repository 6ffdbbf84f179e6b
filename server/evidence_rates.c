/* evidence_rates: how much the arms differ: rates of calls, means and quantiles; and where amounts are cut. */
#include "server/evidence_internal.h"

#include <math.h>
#include <string.h>

#define SECOND_NS       UINT64_C(1000000000)
#define WASH_IN_UNKNOWN (60 * SECOND_NS)
#define WASH_IN_MIN     (10 * SECOND_NS)
#define WASH_IN_MAX     (600 * SECOND_NS)
#define CONTROL_CALLS   200 /* that a threshold is cut from, of CONTROL_CELLS users */
#define CONTROL_CELLS   50
#define ABOVE_MIN       0.02
#define ABOVE_MAX       0.40
#define SURELY          3.09 /* standard errors: one-sided 0.1 % */
#define SURELY_TAIL     0.001
#define CONFIDENT_TAIL  0.05
#define EXACT_MAX       30 /* bad calls of control */
#define MEAN_CAP        8  /* times control's p99: what a single call may count for in a mean */

/* ---- what a guardrail is made of ---- */

struct flagshm_guard_form flagshm_guard_form(const struct flagshm_guardrail *guard)
{
    static const struct flagshm_guard_form forms[FLAGSHM_GUARD_KINDS] = {
        [FLAGSHM_GUARD_ERROR_RATE] = {FLAGSHM_SIGNAL_ERROR, FLAGSHM_N_FAILED, 0, false, false, false, true},
        [FLAGSHM_GUARD_JSON_VALID] = {FLAGSHM_SIGNAL_JSON_INVALID, FLAGSHM_N_JSON_INVALID, 0, false, false,
                                      false, true},
        [FLAGSHM_GUARD_LATENCY_P95] = {FLAGSHM_SIGNAL_LATENCY, 0, FLAGSHM_H_LATENCY, true, true, false,
                                       false},
        [FLAGSHM_GUARD_TOKENS_TOTAL] = {FLAGSHM_SIGNAL_TOKENS, 0, FLAGSHM_H_TOKENS, true, false, true, false},
        [FLAGSHM_GUARD_TOKENS_OUT] = {FLAGSHM_SIGNAL_OUTPUT_TOKENS, 0, FLAGSHM_H_OUTPUT_TOKENS, true, false,
                                      true, false},
        [FLAGSHM_GUARD_LOST] = {FLAGSHM_SIGNAL_LOST, FLAGSHM_N_LOST, 0, false, false, false, false},
        [FLAGSHM_GUARD_SCHEMA_VALID] = {FLAGSHM_SIGNAL_SCHEMA_INVALID, FLAGSHM_N_SCHEMA_INVALID, 0, false,
                                        false, false, true},
        [FLAGSHM_GUARD_TOOL_VALID] = {FLAGSHM_SIGNAL_TOOL_INVALID, FLAGSHM_N_TOOL_INVALID, 0, false, false,
                                      false, true},
        [FLAGSHM_GUARD_REFUSAL] = {FLAGSHM_SIGNAL_REFUSAL, FLAGSHM_N_REFUSAL, 0, false, false, false, true},
        [FLAGSHM_GUARD_TRUNCATED] = {FLAGSHM_SIGNAL_TRUNCATED, FLAGSHM_N_TRUNCATED, 0, false, false, false,
                                     true},
        [FLAGSHM_GUARD_EMPTY] = {FLAGSHM_SIGNAL_EMPTY, FLAGSHM_N_EMPTY, 0, false, false, false, true},
        [FLAGSHM_GUARD_TTFT_P95] = {FLAGSHM_SIGNAL_TTFT, 0, FLAGSHM_H_TTFT, true, true, false, false},
        [FLAGSHM_GUARD_THUMBS_DOWN] = {FLAGSHM_SIGNAL_THUMBS_DOWN, FLAGSHM_N_THUMBS_DOWN, 0, false, false,
                                       false, false},
        [FLAGSHM_GUARD_RETRY] = {FLAGSHM_SIGNAL_RETRY, FLAGSHM_N_RETRY, 0, false, false, false, false},
        [FLAGSHM_GUARD_SUPPORT_CONTACT] = {FLAGSHM_SIGNAL_SUPPORT_CONTACT, FLAGSHM_N_SUPPORT_CONTACT, 0,
                                           false, false, false, false},
        [FLAGSHM_GUARD_CUSTOM] = {FLAGSHM_SIGNAL_CUSTOM, FLAGSHM_N_CUSTOM, 0, false, false, false, false}};
    struct flagshm_guard_form form = forms[guard->kind < FLAGSHM_GUARD_KINDS ? guard->kind : 0];

    if (guard->kind == FLAGSHM_GUARD_CUSTOM) {
        form.signal = (enum flagshm_signal_kind)(FLAGSHM_SIGNAL_CUSTOM + (guard->custom_index & 7u));
        form.counter = (uint8_t)(FLAGSHM_N_CUSTOM + (guard->custom_index & 7u));
    }
    return form;
}

uint32_t flagshm_guard_signals(const struct flagshm_slot_form *form, enum flagshm_signal_kind kind,
                               uint32_t signals[2])
{
    uint32_t count = 0, most = kind >= FLAGSHM_SIGNAL_LATENCY ? 2 : 1, i;

    for (i = 0; i < form->signal_count && i < FLAGSHM_SIGNALS_MAX && count < most; i++)
        if (form->signals[i].kind == kind)
            signals[count++] = i;
    return count;
}

void flagshm_evidence_form(const struct flagshm_guards *guards, uint64_t overdue_ns,
                           struct flagshm_slot_form *form)
{
    uint32_t i, j;

    form->is_guarded = true;
    form->signal_count = 0;
    form->overdue_ns = 0;
    for (i = 0; i < guards->count && i < FLAGSHM_GUARDRAILS_MAX; i++) {
        struct flagshm_guard_form f = flagshm_guard_form(&guards->list[i]);

        for (j = 0; j < (f.is_amount ? 2u : 1u); j++) {
            form->signals[form->signal_count].kind = f.signal;
            form->signals[form->signal_count].is_timed = guards->list[i].has_rollback;
            form->signal_count++;
        }
        if (f.signal == FLAGSHM_SIGNAL_LOST)
            form->overdue_ns = overdue_ns;
    }
}

/* ---- rates ---- */

static double bucket_value(uint32_t bucket)
{
    return bucket < 8 ? bucket
                      : ((double)flagshm_bucket_low_(bucket) + (double)flagshm_bucket_low_(bucket + 1)) / 2;
}

/* Calls of both arms by bucket; beyond from...to - 1 there are none. */
struct amounts {
    double h[2][FLAGSHM_HISTOGRAM_BUCKETS];
    uint32_t from, to;
};

/* The first bucket up to whose upper edge so many calls lie; the last of all where there are fewer. */
static uint32_t bucket_at(const struct amounts *a, uint32_t arm, double rank)
{
    double below = 0;
    uint32_t i;

    for (i = a->from; i < a->to; i++) {
        below += a->h[arm][i];
        if (below >= rank)
            return i;
    }
    return FLAGSHM_HISTOGRAM_BUCKETS - 1;
}

static double ms_of(double ticks)
{
    return ticks * (1 << FLAGSHM_TIME_SHIFT) / 1e6;
}

/* Mean of both arms, each call capped, and the ratio that their errors do not exclude (delta method on the logarithm). */
static void means(const struct amounts *a, struct flagshm_rates *rates)
{
    double cap = MEAN_CAP * bucket_value(bucket_at(a, 0, ceil(0.99 * rates->calls[0]))), spread = 0;
    uint32_t arm, i;

    for (arm = 0; arm < 2; arm++) {
        double sum = 0, squares = 0, n = rates->calls[arm];

        for (i = a->from; i < a->to; i++) {
            double value = bucket_value(i);

            value = rates->calls[0] > 0 && value > cap ? cap : value;
            sum += a->h[arm][i] * value;
            squares += a->h[arm][i] * value * value;
        }
        rates->rate[arm] = n > 0 ? sum / n : 0;
        if (sum > 0 && n > 1)
            spread += (squares / n / (rates->rate[arm] * rates->rate[arm]) - 1) / (n - 1);
        else
            spread = INFINITY;
    }
    if (isfinite(spread) && rates->rate[0] > 0)
        rates->ratio_high =
            rates->rate[1] / rates->rate[0] * exp(FLAGSHM_CONFIDENT * sqrt(spread > 0 ? spread : 0));
}

/* p95 of both arms; the ratio that ranks a little higher and lower, and the width of a bucket, do not exclude: each arm's share of the
 * error is 1/sqrt(2). */
static void quantiles(const struct amounts *a, struct flagshm_rates *rates)
{
    const double p = 0.95, one = FLAGSHM_CONFIDENT / 1.4142135623730951;
    double n0 = rates->calls[0], n1 = rates->calls[1], low, high;

    if (n0 > 0)
        rates->rate[0] = ms_of(bucket_value(bucket_at(a, 0, ceil(p * n0))));
    if (n1 > 0)
        rates->rate[1] = ms_of(bucket_value(bucket_at(a, 1, ceil(p * n1))));
    if (!(n0 > 0) || !(n1 > 0))
        return;
    low = (double)flagshm_bucket_low_(bucket_at(a, 0, ceil(n0 * p - one * sqrt(n0 * p * (1 - p)))));
    high = (double)flagshm_bucket_low_(bucket_at(a, 1, ceil(n1 * p + one * sqrt(n1 * p * (1 - p)))) + 1);
    rates->ratio_high = low > 0 ? high / low : INFINITY;
}

static void rate_amounts(const struct flagshm_evidence_base *base, const struct flagshm_evidence_look *look,
                         const struct flagshm_guard_form *form, struct flagshm_rates *rates)
{
    static const uint64_t none[FLAGSHM_HISTOGRAM_BUCKETS];
    struct amounts a;
    uint32_t arm, i;

    a.from = FLAGSHM_HISTOGRAM_BUCKETS;
    a.to = 0;
    for (arm = 0; arm < 2; arm++) {
        const uint64_t *now =
            look->counts->arms[arm == 0 ? 0 : flagshm_look_variant(look)].histograms[form->histogram];
        const uint64_t *before = base != NULL ? base->histograms[arm][form->histogram] : none;

        for (i = 0; i < FLAGSHM_HISTOGRAM_BUCKETS; i++) {
            a.h[arm][i] = 0;
            if (now[i] <= before[i]) /* ran back: none */
                continue;
            a.h[arm][i] = (double)(now[i] - before[i]);
            rates->calls[arm] += a.h[arm][i];
            a.from = i < a.from ? i : a.from;
            a.to = i >= a.to ? i + 1 : a.to;
        }
    }
    if (form->is_mean)
        means(&a, rates);
    else
        quantiles(&a, rates);
}

static double since(uint64_t now, uint64_t before)
{
    return now > before ? (double)(now - before) : 0;
}

/* Bad calls of an arm, and calls: of each user the first 16 of an hour where they are counted so; later events, losses and shadow calls
 * are not. */
static void rate_calls(const struct flagshm_evidence_base *base, const struct flagshm_evidence_look *look,
                       const struct flagshm_guard_form *form, uint32_t arm, double *bad, double *calls)
{
    const struct flagshm_slot_counts *counts = look->counts;
    const uint64_t *n = counts->arms[arm == 0 ? 0 : flagshm_look_variant(look)].n;
    uint32_t of = form->signal == FLAGSHM_SIGNAL_LOST ? FLAGSHM_N_STARTED : FLAGSHM_N_FINISHED, signals[2];

    if (form->is_capped && !look->is_shadow &&
        flagshm_guard_signals(look->form, form->signal, signals) != 0) {
        *bad =
            since(counts->capped_bad[arm][signals[0]], base != NULL ? base->capped_bad[arm][signals[0]] : 0);
        *calls = since(counts->capped_calls[arm], base != NULL ? base->capped_calls[arm] : 0);
        return;
    }
    *bad = since(n[form->counter], base != NULL ? base->n[arm][form->counter] : 0);
    *calls = since(n[of], base != NULL ? base->n[arm][of] : 0);
}

void flagshm_evidence_rates(const struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                            const struct flagshm_guardrail *guard, uint32_t window,
                            struct flagshm_rates *rates)
{
    struct flagshm_guard_form form = flagshm_guard_form(guard);
    const struct flagshm_evidence_base *base = window == 0 ? NULL : &evidence->bases[window - 1];
    double bad[2];
    uint32_t arm;

    memset(rates, 0, sizeof *rates);
    rates->is_amount = form.is_amount;
    if (form.is_amount) {
        rate_amounts(base, look, &form, rates);
        return;
    }
    for (arm = 0; arm < 2; arm++) {
        rate_calls(base, look, &form, arm, &bad[arm], &rates->calls[arm]);
        rates->rate[arm] = rates->calls[arm] > 0 ? bad[arm] / rates->calls[arm] : 0;
    }
    rates->bad[0] = bad[0];
    rates->bad[1] = bad[1];
    if (!(rates->calls[0] > 0) || !(rates->calls[1] > 0))
        return;
    /* half an event more in each arm where one has none: else there is no logarithm */
    if (!(bad[0] > 0) || !(bad[1] > 0)) {
        bad[0] += 0.5;
        bad[1] += 0.5;
    }
    rates->ratio_high = bad[1] / rates->calls[1] * rates->calls[0] / bad[0] *
                        exp(FLAGSHM_CONFIDENT * sqrt(1 / bad[0] + 1 / bad[1]));
}

/* Do the rates themselves say, at 0.1 % (holding: 5 %), that the variant's is higher? Given all bad calls, the variant's are binomial if
 * both rates are one: exact while control has few, else the normal approximation on the logarithm of the ratio. Without this a variant that
 * is only used more, and so has more users with an event, passes whenever its rate is not known well enough to exclude the limit; true harm
 * that is significant by users passes it nearly always (tests/sim_power: no median moves). */
static bool is_surely_higher(const struct flagshm_rates *rates, bool is_hold)
{
    double x = rates->bad[1], y = rates->bad[0], p = rates->calls[0] / (rates->calls[0] + rates->calls[1]);
    double ln_term = (x + y) * log1p(-p), tail = exp(ln_term);
    uint32_t k;

    if (y > EXACT_MAX)
        return x > 0 && log(x / rates->calls[1] * rates->calls[0] / y) >=
                            (is_hold ? FLAGSHM_CONFIDENT : SURELY) * sqrt(1 / x + 1 / y);
    for (k = 1; k <= (uint32_t)y; k++) { /* control has y of them, or fewer */
        ln_term += log((x + y + 1 - k) / k) + log(p) - log1p(-p);
        tail += exp(ln_term);
    }
    return tail <= (is_hold ? CONFIDENT_TAIL : SURELY_TAIL);
}

/* What is set must hold, all of it. A ratio is met where the data do not exclude it, and say that there is harm; the rest are point estimates. */
bool flagshm_limit_is_met(const struct flagshm_limit *limit, const struct flagshm_rates *rates, bool is_hold)
{
    double more = rates->rate[1] - rates->rate[0];

    if (!(rates->calls[1] > 0))
        return false;
    if (limit->ratio > 0 && (!(rates->ratio_high >= limit->ratio) ||
                             (!rates->is_amount && rates->calls[0] > 0 && !is_surely_higher(rates, is_hold))))
        return false;
    return (limit->delta <= 0 || more >= limit->delta) &&
           (limit->min_delta <= 0 || more >= limit->min_delta) && (limit->drop <= 0 || more >= limit->drop);
}

/* ---- control: how long to wash in, where to cut ---- */

static double control_users(const struct flagshm_evidence_look *look)
{
    double q = look->is_shadow || !(look->q > 0) ? 0 : look->q;

    return look->counts->distinct > 0 && q < 1 ? floor(look->counts->distinct * (1 - q)) : 0;
}

void flagshm_evidence_keep_control(struct flagshm_evidence *evidence,
                                   const struct flagshm_evidence_look *look)
{
    memcpy(evidence->newest_control, look->counts->arms[0].histograms, sizeof evidence->newest_control);
    evidence->newest_control_cells = control_users(look);
}

/* Enough to cut a threshold from: a slot that lived a minute does not replace what an older one knew. */
bool flagshm_control_is_known(uint64_t control[FLAGSHM_HISTOGRAMS][FLAGSHM_HISTOGRAM_BUCKETS], double cells)
{
    return cells >= CONTROL_CELLS && (flagshm_histogram_count(control[FLAGSHM_H_LATENCY]) >= CONTROL_CALLS ||
                                      flagshm_histogram_count(control[FLAGSHM_H_TOKENS]) >= CONTROL_CALLS);
}

uint64_t flagshm_evidence_wash_in_ns(const struct flagshm_evidence *evidence)
{
    const uint64_t *newest = evidence->newest_control[FLAGSHM_H_LATENCY];
    const uint64_t *h =
        flagshm_histogram_count(newest) >= CONTROL_CALLS ? newest : evidence->control[FLAGSHM_H_LATENCY];
    double wash_in;

    if (flagshm_histogram_count(h) < CONTROL_CALLS)
        return WASH_IN_UNKNOWN;
    wash_in = 2 * flagshm_histogram_quantile(h, 0.99) * (1 << FLAGSHM_TIME_SHIFT);
    return wash_in < (double)WASH_IN_MIN   ? WASH_IN_MIN
           : wash_in > (double)WASH_IN_MAX ? WASH_IN_MAX
                                           : (uint64_t)wash_in;
}

/* The upper edge of the bucket that holds the quantile, or of one below it: the greatest with enough of control above. */
static uint64_t edge_at(const uint64_t *h, double quantile, double *share_above)
{
    double count = (double)flagshm_histogram_count(h), above = count, rank = ceil(quantile * count);
    uint32_t i;

    for (i = 0; i + 1 < FLAGSHM_HISTOGRAM_BUCKETS; i++) {
        above -= (double)h[i];
        if (count - above >= rank)
            break;
    }
    if (i + 1 == FLAGSHM_HISTOGRAM_BUCKETS) /* the last bucket has no upper edge */
        above = 0;
    for (; i + 1 == FLAGSHM_HISTOGRAM_BUCKETS || above < ABOVE_MIN * count; i--) {
        if (i == 0)
            return 0; /* nobody is above anything */
        above += (double)h[i];
    }
    *share_above = above / count;
    return above <= ABOVE_MAX * count ? flagshm_bucket_low_(i + 1) - 1 : 0;
}

void flagshm_evidence_edges(const uint64_t control[FLAGSHM_HISTOGRAM_BUCKETS], bool is_time,
                            uint64_t thresholds[2])
{
    double above[2] = {0, 0};

    thresholds[0] = thresholds[1] = 0;
    if (flagshm_histogram_count(control) == 0)
        return;
    thresholds[0] = edge_at(control, is_time ? 0.90 : 0.75, &above[0]);
    thresholds[1] = edge_at(control, 0.95, &above[1]);
    if (above[1] >= above[0]) /* the same calls are above it */
        thresholds[1] = 0;
}

uint32_t flagshm_evidence_choose(struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                                 const uint64_t known[FLAGSHM_SIGNALS_MAX],
                                 uint64_t thresholds[FLAGSHM_SIGNALS_MAX])
{
    uint32_t chosen = 0, kind, signals[2], i;
    uint64_t edges[2];

    for (kind = FLAGSHM_SIGNAL_LATENCY; kind < FLAGSHM_SIGNAL_KINDS; kind++) {
        uint32_t histogram = kind - FLAGSHM_SIGNAL_LATENCY;
        uint32_t count = flagshm_guard_signals(look->form, (enum flagshm_signal_kind)kind, signals);
        const uint64_t *h = NULL;
        bool is_time = kind < FLAGSHM_SIGNAL_TOKENS;

        for (i = 0; i < count; i++)
            if (known != NULL && known[signals[i]] != 0 && known[signals[i]] != UINT64_MAX)
                evidence->thresholds[signals[i]] = known[signals[i]];
        if (count == 0 || evidence->thresholds[signals[0]] != 0 ||
            evidence->thresholds[signals[count - 1]] != 0)
            continue;
        if (evidence->control_cells >= CONTROL_CELLS &&
            flagshm_histogram_count(evidence->control[histogram]) >= CONTROL_CALLS)
            h = evidence->control[histogram];
        else if (control_users(look) >= CONTROL_CELLS &&
                 flagshm_histogram_count(look->counts->arms[0].histograms[histogram]) >= CONTROL_CALLS)
            h = look->counts->arms[0].histograms[histogram];
        if (h == NULL)
            continue;
        flagshm_evidence_edges(h, is_time, edges);
        for (i = 0; i < count; i++)
            if (edges[i] != 0) {
                evidence->thresholds[signals[i]] = thresholds[signals[i]] = edges[i];
                chosen |= 1u << signals[i];
            }
    }
    return chosen;
}
