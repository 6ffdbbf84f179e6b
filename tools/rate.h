/* rate: how sure one can be of a share of calls, from the counts alone. Pure.
 *
 * The interval of a share is Wilson's score interval (1927), that of a difference of two shares Newcombe's hybrid of two of them (Statistics
 * in Medicine 17, 1998: method 3 of pp. 857-872 and method 10 of pp. 873-890), both for 95 %. They take calls as independent: where a few users make most
 * calls, the truth is less sure.
 */
#ifndef FLAGSHM_TOOLS_RATE_H
#define FLAGSHM_TOOLS_RATE_H

#include <stdbool.h>

struct flagctl_rate { /* shares, 0...1; of a difference -1...1 */
    double rate, low, high;
};

/* `of` 0: false, nothing is known. More bad ones than there are count as all. */
bool flagctl_rate(double bad, double of, struct flagctl_rate *rate);
/* What `theirs` has above `ours`. */
struct flagctl_rate flagctl_rate_difference(struct flagctl_rate ours, struct flagctl_rate theirs);

#endif
