/* evidence_math: the formulas of the evidence, each alone: pure functions of numbers.
 *
 * A user is in the variant with the known probability q. If the variant changes nothing, the arm of each user's first event is
 * Bernoulli(q) whatever else goes on, and the likelihood ratio against "the variant's users have it r times as often" is a martingale: the
 * chance that it ever reaches 1/alpha is alpha at most (Ville 1939; Wald 1945 for the ratio, Robbins 1970 for the mixture over r). All in
 * logarithms: 10^9 users give ln E of -10^8, and no overflow.
 */
#ifndef FLAGSHM_SERVER_EVIDENCE_MATH_H
#define FLAGSHM_SERVER_EVIDENCE_MATH_H

#include <stdbool.h>
#include <stdint.h>

#define FLAGSHM_ODDS_MAX 6u

/* What one user of the variant (up) and one of control (down) adds to the logarithm, for each alternative ratio. */
struct flagshm_odds {
    uint32_t count;
    double ln_count;
    double up[FLAGSHM_ODDS_MAX], down[FLAGSHM_ODDS_MAX];
};

/* For events: ratios 1.5, 2, 3, 5, 10. For amounts above a threshold: 1.1, 1.2, 1.35, 1.6, 2, 3 (a shift of an amount moves the share above a
 * high threshold less than tenfold). 0 < q < 1, else no alternatives: ln E is 0. */
void flagshm_odds_events(struct flagshm_odds *odds, double q);
void flagshm_odds_amounts(struct flagshm_odds *odds, double q);
/* The mirror: the variant is `ratio` times as bad, against 1.5, 2, 3, 5, 10 times less than that. E >= 20 rules the ratio, and every
 * greater one, out at 5 %. */
void flagshm_odds_mirror(struct flagshm_odds *odds, double q, double ratio);

/* ln E(a, b) of a users of the variant and b of control; exact to 1e-12 relative. Cost: an exp for each alternative and a log. */
double flagshm_odds_ln_e(const struct flagshm_odds *odds, uint64_t a, uint64_t b);
/* Never below ln E, and above it by ln_count at most. Cost: two multiplications for each alternative. */
double flagshm_odds_bound(const struct flagshm_odds *odds, uint64_t a, uint64_t b);

/* ln E that the users do not split as q says: beta-binomial mixture, Beta(100 q, 100 (1 - q)), against Bernoulli(q). 0 where q is 0 or 1. At
 * 10^9 users exact to 1e-5. */
double flagshm_srm_ln_e(uint64_t variant_users, uint64_t users, double q);

/* ln of a level's weight: 1/2 for level 0, 1/2 / (l (l+1)) for l = 1...14. Their sum is below 1. */
double flagshm_level_ln_weight(uint32_t level);
/* The weight of the nth (1...) timed window of which `planned` are planned (at least 1): 0.8 / planned of its share; beyond them 0.2 /
 * (k (k+1)), k = 1, 2, ..., which sums to 0.2. Shares: 1/6 for 4 h, 1/3 for 1 h; the slot has the other half. */
double flagshm_window_weight(bool is_4h, uint32_t nth, uint32_t planned);
/* alpha of the nth evidence (1...) of an attempt: alpha / (n (n+1)), which sums to alpha. */
double flagshm_alpha_nth(double alpha, uint64_t n);

/* Events, of both arms, until a ratio of 2 is noticed with -ln(alpha) = ln_bound: Wald's ln(1/alpha) / KL(theta_2 || q). */
double flagshm_events_to_2x(double q, double ln_bound);

/* alpha of one guardrail's first events in the slot, of the nth evidence: alpha / (n (n+1)) times the guardrail's weight, half of it for
 * level 0 and half of that for the slot. */
double flagshm_alpha_first_events(double alpha, uint64_t n, double guard_weight);
/* The median number of the variant's users until a variant that has an event `ratio` times as often as control is noticed: by first events
 * alone, each user counted once, `base_rate` of control's users having one (so `ratio` x `base_rate` of the variant's, all at most), at share q and
 * the alpha above. It follows the distribution of (a, b) from event to event. INFINITY: it is as good as never noticed (too near to no
 * difference, or nothing to compare: q of 0 or 1). Levels and timed windows notice heavy use sooner, so that it is on the safe side. A small q
 * is taken as 0.002, where the result has all but stopped to depend on it. Cost: up to some 100 ms, for what takes 10^5 events. */
double flagshm_users_to_notice(double q, double ratio, double base_rate, double alpha);

#endif
