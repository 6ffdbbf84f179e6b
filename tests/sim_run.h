/* sim_run: a rollout in a simulated world: reading, judging, what other rules would do, and the stages one after the other. */
#ifndef FLAGSHM_TESTS_SIM_RUN_H
#define FLAGSHM_TESTS_SIM_RUN_H

#include "sim_world.h"

/* ---- looks ---- */

static void sim_read_all(struct sim *s)
{
    if (!flagshm_outcomes_read(&s->file, 0, s->generation, &s->form, &s->counts))
        exit(1);
    if (s->world->has_arm_cells) { /* the variant's come from its own slot */
        static struct flagshm_slot_counts other;
        uint32_t signal, window;

        if (!flagshm_outcomes_read(&s->file, 1, s->generation, &s->form, &other))
            exit(1);
        s->counts.arms[1] = other.arms[1];
        s->counts.capped_calls[1] = other.capped_calls[1];
        memcpy(s->counts.capped_bad[1], other.capped_bad[1], sizeof other.capped_bad[1]);
        for (signal = 0; signal < FLAGSHM_SIGNALS_MAX; signal++)
            for (window = 0; window < FLAGSHM_WINDOWS; window++)
                memcpy(s->counts.levels[signal][window][1], other.levels[signal][window][1],
                       sizeof other.levels[signal][window][1]);
    }
}

/* What changes with each call: levels, capped calls, counters; histograms wait for the next whole reading. */
static void sim_read_some(struct sim *s)
{
    const struct flagshm_slot *slot = sim_slot(s, 0);
    uint32_t i, window, arm;

    if (s->world->has_arm_cells) {
        sim_read_all(s);
        return;
    }
    for (i = 0; i < s->form.signal_count; i++)
        for (window = 0; window < FLAGSHM_WINDOWS; window++)
            for (arm = 0; arm < 2; arm++)
                memcpy(s->counts.levels[i][window][arm], slot->levels[i][window][arm],
                       sizeof s->counts.levels[i][window][arm]);
    memcpy(s->counts.capped_calls, slot->capped_calls, sizeof s->counts.capped_calls);
    memcpy(s->counts.capped_bad, slot->capped_bad, sizeof s->counts.capped_bad);
    for (arm = 0; arm < (s->world->is_shadow ? 3u : 2u); arm++)
        flagshm_outcomes_read_counters(&s->file, 0, arm, s->counts.arms[arm].n);
}

/* Has a level of the variant risen since the last question? */
static bool sim_has_risen(struct sim *s)
{
    const struct flagshm_slot *slot = sim_slot(s, s->world->has_arm_cells ? 1 : 0);
    uint32_t i, window, level, sum = 0;

    for (i = 0; i < s->form.signal_count; i++)
        for (window = 0; window < FLAGSHM_WINDOWS; window++)
            for (level = 0; level < FLAGSHM_LEVELS; level++)
                sum += slot->levels[i][window][1][level];
    if (sum == s->risen)
        return false;
    s->risen = sum;
    return true;
}

/* Is all over? Where the others are watched too, not before each has acted. */
static bool sim_is_over(const struct sim *s, const struct sim_result *r)
{
    return r->is_rolled_back && (!s->world->goes_on || (r->naive && r->flagger && r->argo));
}

static bool sim_judge(struct sim *s, struct sim_result *r)
{
    uint32_t i;

    if (r->is_rolled_back)
        return sim_is_over(s, r);

    s->look.now_mono_ns = s->now_ns;
    s->look.is_open = s->is_open;
    flagshm_evidence_judge(&s->evidence, &s->look, &s->verdict);
    s->looks++;
    r->is_srm = r->is_srm || s->verdict.has_srm;
    for (i = 0; i < s->verdict.guard_count; i++) {
        const struct flagshm_guard_verdict *g = &s->verdict.guards[i];

        r->is_significant = r->is_significant || g->is_significant;
        r->significant |= (uint32_t)g->is_significant << i;
        if (g->is_significant && g->is_material && !r->is_rolled_back) {
            r->is_rolled_back = true;
            r->guard = i;
        }
    }
    if (s->verdict.has_breaker && !r->is_rolled_back)
        r->is_rolled_back = r->is_breaker = true;
    if (r->is_rolled_back) {
        r->after_ns = s->now_ns - s->stage_ns;
        r->variant_calls = s->counts.arms[1].n[s->world->goes_on ? FLAGSHM_N_FINISHED : FLAGSHM_N_JUDGED];
    }
    return sim_is_over(s, r);
}

/* ---- what others do ---- */

static void sim_others(struct sim *s, uint32_t arm, bool has_failed, struct sim_result *r)
{
    struct flagshm_odds odds;

    s->calls[arm]++;
    s->failed[arm] += has_failed;
    /* an error ratio of two or more after a hundred requests */
    if (!r->naive && arm == 1 && s->calls[1] >= 100 && s->failed[0] != 0 &&
        (double)s->failed[1] * (double)s->calls[0] >= 2 * (double)s->failed[0] * (double)s->calls[1]) {
        r->naive = true;
        r->naive_users = s->calls[1];
    }
    /* the same test as ours, but of requests */
    if (has_failed && !r->requests) {
        s->events[arm]++;
        if (arm == 1) {
            flagshm_odds_events(&odds, s->look.q);
            r->requests = flagshm_odds_ln_e(&odds, s->events[1], s->events[0]) >=
                          -log(flagshm_alpha_nth(0.01, s->look.n));
        }
    }
    /* Flagger: each minute, success rate of the canary below 99 %: a failed check; the fifth rolls back */
    while (s->now_ns - s->minute_ns >= SIM_MINUTE) {
        if (s->minute[0] != 0 && (double)s->minute[1] > 0.01 * (double)s->minute[0] &&
            ++s->flagger_failures >= 5 && !r->flagger) {
            r->flagger = true;
            r->flagger_users = s->calls[1];
        }
        s->minute[0] = s->minute[1] = 0;
        s->minute_ns += s->now_ns - s->minute_ns >= 2 * SIM_MINUTE
                            ? (s->now_ns - s->minute_ns) / SIM_MINUTE * SIM_MINUTE
                            : SIM_MINUTE;
    }
    /* Argo Rollouts: each five minutes, success rate below 95 %: a failure; more than three (failureLimit) abort */
    while (s->now_ns - s->five_ns >= 5 * SIM_MINUTE) {
        if (s->five[0] != 0 && (double)s->five[1] > 0.05 * (double)s->five[0] && ++s->argo_failures > 3 &&
            !r->argo) {
            r->argo = true;
            r->argo_users = s->calls[1];
        }
        s->five[0] = s->five[1] = 0;
        s->five_ns += s->now_ns - s->five_ns >= 10 * SIM_MINUTE
                          ? (s->now_ns - s->five_ns) / (5 * SIM_MINUTE) * (5 * SIM_MINUTE)
                          : 5 * SIM_MINUTE;
    }
    if (arm == 1) {
        s->minute[0]++;
        s->minute[1] += has_failed;
        s->five[0]++;
        s->five[1] += has_failed;
    }
}

/* ---- a rollout ---- */

static void sim_guards(struct sim *s)
{
    static const struct flagshm_guardrail list[] = {
        {.kind = FLAGSHM_GUARD_ERROR_RATE,
         .weight = 0.4,
         .has_rollback = true,
         .rollback = {.ratio = 2, .min_delta = 0.002}},
        {.kind = FLAGSHM_GUARD_JSON_VALID,
         .weight = 0.2,
         .has_rollback = true,
         .rollback = {.ratio = 3, .min_delta = 0.01}},
        {.kind = FLAGSHM_GUARD_LATENCY_P95,
         .weight = 0.2,
         .has_rollback = true,
         .rollback = {.ratio = 1.5, .min_delta = 2000}},
        {.kind = FLAGSHM_GUARD_TOKENS_TOTAL, .weight = 0.2, .has_rollback = true, .rollback = {.ratio = 2}}};
    uint32_t i;

    memset(&s->guards, 0, sizeof s->guards);
    s->guards.count = s->world->is_alone ? 1 : 4;
    for (i = 0; i < s->guards.count; i++) {
        s->guards.list[i] = list[i];
        if (s->world->is_alone || s->world->is_even)
            s->guards.list[i].weight = 1.0 / s->guards.count;
    }
    memset(&s->form, 0, sizeof s->form);
    flagshm_evidence_form(&s->guards, 60 * SIM_SECOND, &s->form);
    s->form.flag = "sim";
    s->form.flag_hash = 1;
    s->form.arm_count = 2;
    s->form.has_shadow = s->world->is_shadow;
}

static void sim_windows(struct sim *s, bool is_first)
{
    uint32_t w4 = (uint32_t)(s->now_ns / (4 * SIM_HOUR)), w1 = (uint32_t)(s->now_ns / SIM_HOUR), slot;

    for (slot = 0; slot < (s->world->has_arm_cells ? 2u : 1u) && !is_first; slot++) {
        if (w4 != s->header.window_4h)
            flagshm_outcomes_clear_window(&s->file, slot, &s->form, true, w4);
        if (w1 != s->header.window_1h)
            flagshm_outcomes_clear_window(&s->file, slot, &s->form, false, w1);
    }
    s->header.window_4h = s->look.window_4h = w4;
    s->header.window_1h = s->look.window_1h = w1;
}

static void sim_cut(struct sim *s)
{
    uint32_t chosen = flagshm_evidence_choose(&s->evidence, &s->look, NULL, s->thresholds), i;

    for (i = 0; i < s->form.signal_count; i++)
        if ((chosen >> i & 1) != 0) {
            flagshm_outcomes_set_threshold(&s->file, 0, i, s->thresholds[i]);
            if (s->world->has_arm_cells)
                flagshm_outcomes_set_threshold(&s->file, 1, i, s->thresholds[i]);
        }
}

static void sim_begin_stage(struct sim *s, uint32_t stage)
{
    struct flagshm_error error;
    uint32_t slot;

    s->generation++;
    for (slot = 0; slot < (s->world->has_arm_cells ? 2u : 1u); slot++)
        if (flagshm_outcomes_prepare(&s->file, slot, s->generation, &s->form, &error) != 0)
            exit(1);
    s->is_open = false;
    s->stage_ns = s->now_ns;
    s->opened_ns = s->now_ns + flagshm_evidence_wash_in_ns(&s->evidence);
    s->look.q = (double)s->world->stages[stage].mpct / 100000;
    s->look.n = stage + 1;
    s->look.hold_ns = s->world->stages[stage].hold_ns;
    s->look.opened_mono_ns = s->now_ns;
    memset(s->calls, 0, sizeof s->calls);
    memset(s->failed, 0, sizeof s->failed);
    memset(s->minute, 0, sizeof s->minute);
    memset(s->five, 0, sizeof s->five);
    memset(s->events, 0, sizeof s->events);
    s->minute_ns = s->five_ns = s->now_ns;
    s->flagger_failures = s->argo_failures = 0;
}

/* Ends a call: books it, and judges where the variant has bad news. True: rolled back. */
static bool sim_end_call(struct sim *s, const struct sim_pending *p, struct sim_result *r)
{
    struct flagshm_decision d = sim_decision(s, p->generation, s->users[p->user].id_hash, p->arm);
    bool has_failed = p->outcome.http_status != 200;

    if (has_failed && p->tries < s->world->retries) {
        struct sim_pending again = *p;

        again.is_call = true;
        again.tries++;
        again.at_ns = s->now_ns + SIM_SECOND;
        sim_push(s, &again);
    }
    if (!p->has_slot)
        return false;
    if (flagshm_record(&s->fs, &d, &p->outcome) != 0)
        return false; /* it began in another slot */
    sim_others(s, p->arm, has_failed, r);
    if (s->world->is_shadow && s->users[p->user].bucket < SIM_SHADOW_MPCT) {
        struct flagshm_outcome shadow = sim_outcome(s, &s->users[p->user], 1, 0);

        d.shadow = true;
        (void)flagshm_record_shadow(&s->fs, &d, &p->outcome, &shadow);
        has_failed = shadow.http_status != 200;
    } else if (p->arm == 0) {
        return false;
    }
    /* more evidence is a level that rises; what fails may be the breaker's. Amounts ring no bell: the server's tick finds them */
    if (!has_failed && (s->now_ns - s->look.now_mono_ns < 5 * SIM_MINUTE || !sim_has_risen(s)))
        return false;
    sim_read_some(s);
    return sim_judge(s, r);
}

/* Walks the stages of a world, once. */
static void sim_run(struct sim *s, const struct sim_world *world, uint64_t seed, struct sim_result *r)
{
    uint64_t next_call, next_look, end, hour;
    double gap = (double)SIM_DAY / world->calls_a_day;
    uint32_t stage;

    memset(r, 0, sizeof *r);
    s->world = world;
    sim_seed(&s->random, seed);
    sim_guards(s);
    memset(&s->evidence, 0, sizeof s->evidence);
    memset(s->thresholds, 0, sizeof s->thresholds);
    memset(&s->plan, 0, sizeof s->plan);
    s->plan.alpha = 0.01;
    s->look = (struct flagshm_evidence_look){
        .counts = &s->counts, .form = &s->form, .plan = &s->plan, .guards = &s->guards};
    s->look.is_shadow = world->is_shadow;
    s->pending_count = 0;
    s->generation += 10;
    s->now_ns = 1000 * SIM_HOUR + (uint64_t)(sim_unit(&s->random) * (double)SIM_DAY);
    if (!sim_make_users(s))
        exit(1);
    for (stage = 0; stage < SIM_STAGES && world->stages[stage].hold_ns != 0; stage++) {
        sim_windows(s, true);
        sim_begin_stage(s, stage);
        memset(s->thresholds, 0, sizeof s->thresholds);
        r->stage = stage;
        end = s->now_ns + world->stages[stage].hold_ns;
        next_call = s->now_ns + (uint64_t)sim_exponential(&s->random, gap);
        next_look = s->opened_ns;
        hour = (s->now_ns / SIM_HOUR + 1) * SIM_HOUR;
        for (;;) {
            uint64_t next_end = s->pending_count != 0 ? s->pending[0].at_ns : UINT64_MAX;
            uint64_t at = next_call < next_end ? next_call : next_end;

            at = at < next_look ? at : next_look;
            at = at < hour ? at : hour;
            if (at >= end)
                break;
            s->now_ns = at;
            if (at == hour) {
                sim_read_all(s);
                if (sim_judge(s, r))
                    break;
                sim_windows(s, false);
                sim_read_all(s);
                (void)sim_judge(s, r);
                sim_cut(s);
                hour += SIM_HOUR;
            } else if (at == next_look) {
                if (s->is_open)
                    sim_read_some(s);
                else
                    sim_read_all(s);
                if (sim_judge(s, r))
                    break;
                if (!s->is_open) {
                    sim_cut(s);
                    flagshm_outcomes_open_slot(&s->file, 0);
                    if (world->has_arm_cells)
                        flagshm_outcomes_open_slot(&s->file, 1);
                    s->is_open = true;
                }
                next_look = at + 10 * SIM_MINUTE;
            } else if (at == next_end) {
                struct sim_pending p = sim_pop(s);

                if (p.is_call)
                    sim_call(s, p.user, p.tries);
                else if (sim_end_call(s, &p, r))
                    break;
            } else {
                uint32_t user = sim_pick(s);
                bool is_variant = s->users[user].bucket < (uint32_t)(s->look.q * 100000 + 0.5);

                sim_call(s, user, 0);
                if (is_variant && world->variant_use > 1 && sim_chance(&s->random, world->variant_use - 1))
                    sim_call(s, user, 0);
                next_call = at + (uint64_t)sim_exponential(&s->random, gap) + 1;
            }
        }
        if (r->is_rolled_back)
            break;
        s->now_ns = end;
    }
    if (!r->is_rolled_back)
        r->variant_calls = s->counts.arms[1].n[s->world->goes_on ? FLAGSHM_N_FINISHED : FLAGSHM_N_JUDGED];
}

#endif
