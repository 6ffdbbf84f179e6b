/* rate: see rate.h. */
#include "tools/rate.h"

#include <math.h>

#define Z 1.959963984540054 /* 97.5 % of the normal distribution lie below */

bool flagctl_rate(double bad, double of, struct flagctl_rate *rate)
{
    double share, middle, half, scale;

    *rate = (struct flagctl_rate){0, 0, 0};
    if (!(of > 0) || !(bad >= 0))
        return false;
    share = bad < of ? bad / of : 1;
    scale = 1 + Z * Z / of;
    middle = (share + Z * Z / (2 * of)) / scale;
    half = Z / scale * sqrt(share * (1 - share) / of + Z * Z / (4 * of * of));
    rate->rate = share;
    rate->low = share > 0 && middle > half ? middle - half : 0; /* rounding must not make it -1e-17 */
    rate->high = share < 1 && middle + half < 1 ? middle + half : 1;
    return true;
}

struct flagctl_rate flagctl_rate_difference(struct flagctl_rate ours, struct flagctl_rate theirs)
{
    double d = theirs.rate - ours.rate;

    return (struct flagctl_rate){
        .rate = d,
        .low = d - hypot(theirs.rate - theirs.low, ours.high - ours.rate),
        .high = d + hypot(theirs.high - theirs.rate, ours.rate - ours.low),
    };
}
