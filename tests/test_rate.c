/* The intervals of shares, against the published tables of Newcombe (1998). */
#include "tools/rate.h"

#include <criterion/criterion.h>
#include <math.h>

static struct flagctl_rate rate_of(double bad, double of)
{
    struct flagctl_rate rate;

    cr_assert(flagctl_rate(bad, of, &rate));
    return rate;
}

Test(rate, wilson_agrees_with_newcombes_table)
{
    static const struct {
        double bad, of, low, high;
    } cases[] = {
        {81, 263, 0.2553, 0.3662}, /* table I, method 3 */
        {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611},
        {1, 29, 0.0061, 0.1718},   {29, 29, 0.8830, 1}, /* by symmetry: 1 - 0.1170 of 0 in 29 */
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flagctl_rate rate = rate_of(cases[i].bad, cases[i].of);

        cr_expect(fabs(rate.low - cases[i].low) < 0.00005, "%g/%g: low %g", cases[i].bad, cases[i].of,
                  rate.low);
        cr_expect(fabs(rate.high - cases[i].high) < 0.00005, "%g/%g: high %g", cases[i].bad, cases[i].of,
                  rate.high);
        cr_expect(rate.low <= rate.rate && rate.rate <= rate.high);
    }
}

Test(rate, a_difference_agrees_with_newcombes_table)
{
    struct flagctl_rate d = flagctl_rate_difference(rate_of(48, 80), rate_of(56, 70));

    cr_expect(fabs(d.rate - 0.2) < 1e-9);
    cr_expect(fabs(d.low - 0.0524) < 0.00005, "%g", d.low);
    cr_expect(fabs(d.high - 0.3339) < 0.00005, "%g", d.high);
    d = flagctl_rate_difference(rate_of(0, 20), rate_of(0, 10));
    cr_expect(fabs(d.low + 0.1611) < 0.00005, "%g", d.low);
    cr_expect(fabs(d.high - 0.2775) < 0.00005, "%g", d.high);
}

Test(rate, nothing_is_known_of_no_calls_and_nonsense_stays_a_share)
{
    struct flagctl_rate rate;

    cr_expect(!flagctl_rate(0, 0, &rate));
    cr_expect(!flagctl_rate(1, 0, &rate));
    cr_expect(!flagctl_rate(-1, 5, &rate));
    cr_expect(!flagctl_rate(1, (double)NAN, &rate));
    cr_expect(flagctl_rate(7, 5, &rate));
    cr_expect(rate.rate == 1 && rate.high == 1 && rate.low > 0.5);
    cr_expect(flagctl_rate(1e19, 1.8e19, &rate));
    cr_expect(rate.low > 0.555 && rate.high < 0.556);
}
