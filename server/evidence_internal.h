/* evidence_internal: what the files of the evidence share. */
#ifndef FLAGSHM_SERVER_EVIDENCE_INTERNAL_H
#define FLAGSHM_SERVER_EVIDENCE_INTERNAL_H

#include "server/evidence.h"

#define FLAGSHM_CONFIDENT 1.64 /* standard errors: one-sided 95 % */

/* What a guardrail is made of. */
struct flagshm_guard_form {
    enum flagshm_signal_kind signal;
    uint8_t counter;   /* of its bad calls */
    uint8_t histogram; /* of an amount */
    bool is_amount, is_time;
    bool is_mean;   /* judged by its mean, else by p95 */
    bool is_capped; /* its bad calls are counted among the first 16 of an hour, too */
};
struct flagshm_guard_form flagshm_guard_form(const struct flagshm_guardrail *guard);
/* The signals of a kind in a slot: one, or two for an amount. Returns how many. */
uint32_t flagshm_guard_signals(const struct flagshm_slot_form *form, enum flagshm_signal_kind kind,
                               uint32_t signals[2]);

/* Rates or amounts of both arms over a window (0: the slot). */
struct flagshm_rates {
    bool is_amount;
    double calls[2], rate[2], bad[2]; /* of control, of the variant; bad: not of amounts */
    double ratio_high;                /* the highest ratio that they do not exclude */
};
void flagshm_evidence_rates(const struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                            const struct flagshm_guardrail *guard, uint32_t window,
                            struct flagshm_rates *rates);
bool flagshm_limit_is_met(const struct flagshm_limit *limit, const struct flagshm_rates *rates, bool is_hold);

/* Which block of counters is the variant's. */
uint32_t flagshm_look_variant(const struct flagshm_evidence_look *look);

/* Since when what is there; the moving marks; breaker, capacity, both arms, absolute limits. */
void flagshm_evidence_alarms(struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                             struct flagshm_verdict *verdict);
void flagshm_evidence_absolutes(struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                                struct flagshm_verdict *verdict);
/* At least so many users are behind what two marks differ by. */
uint64_t flagshm_levels_grown(uint32_t now[FLAGSHM_WINDOWS][FLAGSHM_LEVELS],
                              uint32_t before[FLAGSHM_WINDOWS][FLAGSHM_LEVELS]);
/* What is known of control, kept for the next slot. */
bool flagshm_control_is_known(uint64_t control[FLAGSHM_HISTOGRAMS][FLAGSHM_HISTOGRAM_BUCKETS], double cells);
void flagshm_evidence_keep_control(struct flagshm_evidence *evidence,
                                   const struct flagshm_evidence_look *look);

#endif
