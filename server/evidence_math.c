/* evidence_math: see the header. */
#include "server/evidence_math.h"

#include <math.h>
#include <string.h>

#define NOTICE_Q_MIN      0.002
#define NOTICE_EVENTS_MAX 200000u
#define NOTICE_USERS_MAX  8192u /* of the variant with an event */
#define NOTICE_NOTHING    1e-13 /* a chance that is not followed any more */
#define SRM_PRIOR         100.0 /* users that the prior of the sample ratio is worth */

static const double event_ratios[] = {1.5, 2, 3, 5, 10};
static const double amount_ratios[] = {1.1, 1.2, 1.35, 1.6, 2, 3};

#define EVENT_RATIOS  (sizeof event_ratios / sizeof *event_ratios)
#define AMOUNT_RATIOS (sizeof amount_ratios / sizeof *amount_ratios)

/* The variant's share among users with an event that it has `ratio` times as often. */
static double theta_of(double q, double ratio)
{
    return q * ratio / (q * ratio + 1 - q);
}

static void fill(struct flagshm_odds *odds, double from, const double *thetas, uint32_t count)
{
    uint32_t i;

    odds->count = 0;
    odds->ln_count = 0;
    if (!(from > 0 && from < 1))
        return;
    odds->count = count;
    odds->ln_count = log(count);
    for (i = 0; i < count; i++) {
        odds->up[i] = log(thetas[i] / from);
        odds->down[i] = log1p(-thetas[i]) - log1p(-from);
    }
}

void flagshm_odds_events(struct flagshm_odds *odds, double q)
{
    double thetas[EVENT_RATIOS];
    uint32_t i;

    for (i = 0; i < EVENT_RATIOS; i++)
        thetas[i] = theta_of(q, event_ratios[i]);
    fill(odds, q, thetas, EVENT_RATIOS);
}

void flagshm_odds_amounts(struct flagshm_odds *odds, double q)
{
    double thetas[AMOUNT_RATIOS];
    uint32_t i;

    for (i = 0; i < AMOUNT_RATIOS; i++)
        thetas[i] = theta_of(q, amount_ratios[i]);
    fill(odds, q, thetas, AMOUNT_RATIOS);
}

void flagshm_odds_mirror(struct flagshm_odds *odds, double q, double ratio)
{
    double thetas[EVENT_RATIOS];
    uint32_t i;

    for (i = 0; i < EVENT_RATIOS; i++)
        thetas[i] = theta_of(q, ratio / event_ratios[i]);
    fill(odds, theta_of(q, ratio), thetas, EVENT_RATIOS);
}

double flagshm_odds_bound(const struct flagshm_odds *odds, uint64_t a, uint64_t b)
{
    double most = odds->count == 0 ? 0 : -INFINITY;
    uint32_t i;

    for (i = 0; i < odds->count; i++) {
        double at = (double)a * odds->up[i] + (double)b * odds->down[i];

        most = at > most ? at : most;
    }
    return most;
}

double flagshm_odds_ln_e(const struct flagshm_odds *odds, uint64_t a, uint64_t b)
{
    double at[FLAGSHM_ODDS_MAX], most = -INFINITY, sum = 0;
    uint32_t i;

    if (odds->count == 0)
        return 0;
    for (i = 0; i < odds->count; i++) {
        at[i] = (double)a * odds->up[i] + (double)b * odds->down[i];
        most = at[i] > most ? at[i] : most;
    }
    for (i = 0; i < odds->count; i++)
        sum += exp(at[i] - most);
    return most + log(sum) - odds->ln_count;
}

/* lgamma writes a global; its sign is never wanted here. */
static double ln_gamma(double x)
{
    int sign;

    return lgamma_r(x, &sign);
}

static double ln_beta(double x, double y)
{
    return ln_gamma(x) + ln_gamma(y) - ln_gamma(x + y);
}

double flagshm_srm_ln_e(uint64_t variant_users, uint64_t users, double q)
{
    double a = (double)variant_users, b = (double)(users - variant_users);

    if (!(q > 0 && q < 1) || variant_users > users)
        return 0;
    return ln_beta(SRM_PRIOR * q + a, SRM_PRIOR * (1 - q) + b) - ln_beta(SRM_PRIOR * q, SRM_PRIOR * (1 - q)) -
           a * log(q) - b * log1p(-q);
}

double flagshm_level_ln_weight(uint32_t level)
{
    /* -ln 2 - ln(l (l+1)): looked up for every level of every window at each look */
    static const double ln_weights[] = {-0.69314718055994531, -1.3862943611198906, -2.4849066497880004,
                                        -3.1780538303479458,  -3.6888794541139363, -4.0943445622221004,
                                        -4.4308167988433134,  -4.7184988712950942, -4.9698132995760007,
                                        -5.1929568508902104,  -5.393627546352362,  -5.575949103146316,
                                        -5.7430031878094825,  -5.8971538676367405, -6.0402547112774139};

    return level < sizeof ln_weights / sizeof *ln_weights ? ln_weights[level] : -INFINITY;
}

double flagshm_window_weight(bool is_4h, uint32_t nth, uint32_t planned)
{
    double share = is_4h ? 1.0 / 6 : 1.0 / 3, beyond;

    planned = planned != 0 ? planned : 1;
    if (nth <= planned)
        return share * 0.8 / planned;
    beyond = nth - planned;
    return share * 0.2 / (beyond * (beyond + 1));
}

double flagshm_alpha_nth(double alpha, uint64_t n)
{
    double at = n != 0 ? (double)n : 1;

    return alpha / (at * (at + 1));
}

double flagshm_events_to_2x(double q, double ln_bound)
{
    double theta = theta_of(q, 2);

    if (!(q > 0 && q < 1))
        return 0;
    return ln_bound / (theta * log(theta / q) + (1 - theta) * (log1p(-theta) - log1p(-q)));
}

double flagshm_alpha_first_events(double alpha, uint64_t n, double guard_weight)
{
    return flagshm_alpha_nth(alpha, n) * guard_weight * exp(flagshm_level_ln_weight(0)) * 0.5;
}

/* The chance of each number of variant users with an event, among those ways that have not crossed yet: from `low` below `edge`. One event more:
 * the variant's with the chance theta. Returns the chance that left at the edge. */
static double step_event(double *chances, uint32_t *low, uint32_t edge, double theta)
{
    double from_below = 0;
    uint32_t a;

    for (a = *low; a < edge; a++) {
        double here = chances[a];

        chances[a] = here * (1 - theta) + from_below;
        from_below = here * theta;
    }
    while (*low + 1 < edge && chances[*low] < NOTICE_NOTHING)
        (*low)++;
    return from_below;
}

/* Events of both arms until half of all ways have crossed the bound. */
static double median_events(double q, double theta, double bound)
{
    double chances[NOTICE_USERS_MAX + 1], crossed = 0;
    uint32_t low = 0, edge = 1, n; /* with `edge` of the variant's among the n events it has crossed */
    struct flagshm_odds odds;

    flagshm_odds_events(&odds, q);
    memset(chances, 0, sizeof chances);
    chances[0] = 1;
    for (n = 1; n <= NOTICE_EVENTS_MAX; n++) {
        double before = crossed, above = step_event(chances, &low, edge, theta);

        while (edge <= n && edge < NOTICE_USERS_MAX && flagshm_odds_ln_e(&odds, edge, n - edge) < bound) {
            chances[edge++] = above; /* not crossed by so many, now that there are more of control's */
            above = 0;
        }
        if (edge == NOTICE_USERS_MAX)
            return INFINITY;
        crossed += above;
        if (crossed >= 0.5)
            return n - 1 + (0.5 - before) / (crossed - before);
    }
    return INFINITY;
}

double flagshm_users_to_notice(double q, double ratio, double base_rate, double alpha)
{
    double theirs = ratio * base_rate < 1 ? ratio * base_rate : 1,
           share = q > NOTICE_Q_MIN ? q : NOTICE_Q_MIN, with_event = share * theirs + (1 - share) * base_rate;

    if (!(q > 0 && q < 1) || !(base_rate > 0 && base_rate < 1) || !(ratio > 1) || !(alpha > 0 && alpha < 1))
        return INFINITY;
    return median_events(share, share * theirs / with_event, -log(alpha)) * share / with_event;
}
