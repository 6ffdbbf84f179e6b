/* evidence: what a slot's counts say about the variant: is it worse than control, and surely so?
 *
 * Pure: counts, plan, time and all else are arguments; what must be remembered from look to look lies in a struct that the caller owns and may copy or
 * keep. It counts users, the unit that the hash randomises: see evidence_math for the test, and client/flagshm.h for cells and levels. The counts
 * are hostile: any bytes give some verdict, and no crash. It decides nothing: the rollout does, from the verdict.
 */
#ifndef FLAGSHM_SERVER_EVIDENCE_H
#define FLAGSHM_SERVER_EVIDENCE_H

#include "server/evidence_math.h"
#include "server/outcomes_read.h"
#include "server/verdict.h"

#include <stddef.h>

#define FLAGSHM_EVIDENCE_MARKS          11u /* one each 30 s: five minutes */
#define FLAGSHM_EVIDENCE_ABSOLUTE_MARKS 6u
#define FLAGSHM_EVIDENCE_RATIOS         20u /* that may be ruled out */

/* Counts of one moment, to take others from. Control first, then the variant. */
struct flagshm_evidence_mark {
    uint64_t mono_ns;
    uint64_t finished[2], failed[2], limited[2], cancelled[2], users[2], capped_calls[2];
    uint32_t levels[FLAGSHM_WINDOWS][FLAGSHM_LEVELS]; /* of the variant's errors */
};

/* Counts where a window began. */
struct flagshm_evidence_base {
    uint64_t n[2][FLAGSHM_COUNTERS];
    uint64_t capped_calls[2], capped_bad[2][FLAGSHM_SIGNALS_MAX];
    uint64_t histograms[2][FLAGSHM_HISTOGRAMS][FLAGSHM_HISTOGRAM_BUCKETS];
};

struct flagshm_evidence_absolute {
    double limit; /* that `bad` was counted by */
    uint32_t next, used;
    struct {
        uint64_t mono_ns, users, capped_calls;
        double calls, bad;
        uint32_t levels[FLAGSHM_WINDOWS][FLAGSHM_LEVELS];
    } marks[FLAGSHM_EVIDENCE_ABSOLUTE_MARKS];
};

/* Zero it for a new attempt, and where control's value has changed. A new slot's generation starts new evidence by itself; what is known of
 * control goes on. */
struct flagshm_evidence {
    uint32_t generation;                   /* of the slot; 0: none yet */
    uint32_t windows[2], first_windows[2]; /* 4 h, 1 h: as last seen, and when the slot was first seen */
    struct flagshm_evidence_base bases[2]; /* where those windows began */
    struct flagshm_odds events, amounts, mirrors[FLAGSHM_EVIDENCE_RATIOS]; /* for odds_q */
    double odds_q;
    uint64_t thresholds[FLAGSHM_SIGNALS_MAX]; /* chosen ones; 0: none yet */
    struct flagshm_evidence_mark recent[FLAGSHM_EVIDENCE_MARKS], stretch;
    uint32_t recent_next, recent_used;
    uint64_t successes; /* of the variant, when the stretch began */
    bool has_succeeded;
    struct flagshm_evidence_absolute absolutes[FLAGSHM_GUARDRAILS_MAX];
    uint64_t last_finished, last_outcome_mono_ns;
    /* of control, from slot to slot */
    double
        control_rates[FLAGSHM_GUARD_KINDS + 8]; /* by kind, custom ones by index behind; below 0: not known */
    bool has_control_rates;
    uint64_t control[FLAGSHM_HISTOGRAMS]
                    [FLAGSHM_HISTOGRAM_BUCKETS]; /* of the slot before, or the first hour(s) of this one */
    double control_cells;
    uint64_t newest_control[FLAGSHM_HISTOGRAMS][FLAGSHM_HISTOGRAM_BUCKETS];
    double newest_control_cells;
};

struct flagshm_evidence_look {
    const struct flagshm_slot_counts *counts;
    const struct flagshm_slot_form *form;
    const struct flagshm_plan *plan; /* alpha; a flag without a plan: alpha is all that is read */
    const struct flagshm_guards *guards;
    double
        q; /* the variant's share among those who split, as served. 1: nothing is compared, limits are absolute. 0: nothing */
    bool is_shadow;              /* the slot is one of shadow calls: pairs are judged, at q = 1/2 */
    bool is_open;                /* its wash-in is over */
    bool is_tainted, is_session; /* identity is "session" */
    uint64_t n;       /* number of this evidence in its attempt: 1, 2, ... over all slots and restarts */
    uint64_t hold_ns; /* planned length of the slot's life; 0: not known, 24 h are taken */
    uint64_t opened_mono_ns;       /* when the slot was taken */
    uint32_t window_4h, window_1h; /* as announced to clients */
    uint64_t now_mono_ns;
};

/* Judges. Cost: about 5 us for a default set of guardrails on counts that move; once an hour 5 us more. */
void flagshm_evidence_judge(struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                            struct flagshm_verdict *verdict);

/* What a slot needs for these guardrails, into form->is_guarded, signals, signal_count and overdue_ns: one signal for an event, two for an amount;
 * timed where they roll back. Always fits: 8 guardrails take 16 signals and 64 tables of cells at most. */
void flagshm_evidence_form(const struct flagshm_guards *guards, uint64_t overdue_ns,
                           struct flagshm_slot_form *form);

/* How long a slot that is taken now washes in: twice control's p99 latency, 10 s ... 10 min; 60 s where it is not known. */
uint64_t flagshm_evidence_wash_in_ns(const struct flagshm_evidence *evidence);

/* Chooses thresholds for amounts that have none yet. Call it after judging when the wash-in ends, before the slot is opened, and at each turn of the
 * 1 h window. Returns the signals, as bits, whose threshold is to be given to clients (flagshm_outcomes_set_threshold) from `thresholds`. From
 * then on it stays for the slot's life: a threshold that moved would mix two kinds of events in one cell. `known`: after a restart, what
 * clients use already (UINT64_MAX or 0: none), or NULL. */
uint32_t flagshm_evidence_choose(struct flagshm_evidence *evidence, const struct flagshm_evidence_look *look,
                                 const uint64_t known[FLAGSHM_SIGNALS_MAX],
                                 uint64_t thresholds[FLAGSHM_SIGNALS_MAX]);
/* The two thresholds of one kind of amount by control's histogram: tokens p75 and p95, times p90 and p95, at an edge of its buckets with 2...40 % of
 * control strictly above, else the next edge down. 0: there is no such edge, or the same calls are above the second. */
void flagshm_evidence_edges(const uint64_t control[FLAGSHM_HISTOGRAM_BUCKETS], bool is_time,
                            uint64_t thresholds[2]);

/* Why, in one sentence with the numbers: of one guardrail (what was found, or what has been ruled out by now), or of what weighs most in a
 * verdict. Returns the length that it needs, as snprintf. */
size_t flagshm_guard_explain(const struct flagshm_verdict *verdict, const struct flagshm_guards *guards,
                             uint32_t index, char *text, size_t bytes);
size_t flagshm_verdict_explain(const struct flagshm_verdict *verdict, const struct flagshm_guards *guards,
                               char *text, size_t bytes);

#endif
