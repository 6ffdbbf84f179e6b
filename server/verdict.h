/* verdict: what the evidence says about one flag at one look. Made by evidence, read by rollout; plain data, so that a journal can
 * keep it and a test can replay it.
 */
#ifndef FLAGSHM_SERVER_VERDICT_H
#define FLAGSHM_SERVER_VERDICT_H

#include "server/plan.h"

struct flagshm_guard_verdict {
    enum flagshm_guard_kind kind;
    bool is_significant;               /* for rolling back: ln_e is at or above threshold */
    bool is_material;                  /* and the limits of "rollback" are met */
    bool holds;                        /* the same for "hold", by its own alpha */
    bool is_absolute;                  /* over its absolute limit */
    double ln_e, threshold;            /* of the level and window that come nearest */
    uint32_t level, window;            /* of those: 0...14; 0 slot, 1 4 h, 2 1 h */
    uint64_t a, b;                     /* users of the variant and of control counted there */
    double rate_variant, rate_control; /* share of calls, or the amount (ms, tokens) */
    double calls_variant, calls_control;
    double ruled_out;        /* the smallest ratio that is excluded by now; 0: none yet */
    double users_to_2x;      /* more variant users needed to notice a doubling; 0: would be noticed by now */
    double hold_threshold;   /* as threshold, by the alpha of holding; 0: it never holds */
    double ratio_high;       /* what the rates of that window do not exclude: ratio x exp(1.64 se) */
    double threshold_amount; /* above which a call was counted (ms, tokens); 0: it counts events */
    double absolute, absolute_at; /* the limit of now (0: none), and what it is held against */
};

struct flagshm_verdict {
    double q; /* share of the variant among those who split; evidence is 0 where it is 0 or 1 */
    uint32_t guard_count;
    struct flagshm_guard_verdict guards[FLAGSHM_GUARDRAILS_MAX];
    bool is_tainted;
    bool has_breaker;                 /* the variant fails where control does not: roll back at once */
    bool has_thin_breaker;            /* the same, but fewer than 5 users: hold, and tell */
    bool is_both_bad;                 /* control fails too: nothing is concluded */
    bool is_limited, is_both_limited; /* capacity: 429s of the variant alone; of both */
    bool has_srm;                     /* users do not split as they must */
    double srm_ln_e;
    uint64_t misbooked; /* outcomes booked for an arm that the bucket does not allow */
    uint64_t variant_users, control_users, variant_calls, control_calls, shadow_pairs;
    bool uses_started;   /* STARTED is booked: users are counted before calls can fail */
    double calls_per_id; /* over at least 24 h and 1000 ids; 0: not known yet */
    bool is_request_id;  /* so near to 1 that ids must be those of requests */
    uint64_t last_outcome_mono_ns;
    bool is_shadow; /* pairs were judged: q is 1/2 */
    bool is_open;   /* the wash-in is over */
    double alpha;   /* of this evidence: alpha / (n (n+1)) */
    /* of the breaker: calls since the variant's last success, in both arms, and users known to be among them */
    uint64_t stretch_variant_bad, stretch_variant_users, stretch_control_calls, stretch_control_bad;
    double limited_variant, limited_control; /* shares of calls that ended with 429, over 5 minutes */
    double failed_variant, failed_control;   /* shares of calls that failed, over 5 minutes */
    double users_started_variant,
        users_started_share; /* of the sample ratio: users, and their share; q is what it must be */
};

#endif
