/* sim_random: chance for simulations, all of it from a seed; and medians. */
#ifndef FLAGSHM_TESTS_SIM_RANDOM_H
#define FLAGSHM_TESTS_SIM_RANDOM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct sim_random {
    uint64_t s[2];
};

/* xoroshiro128+ (Blackman and Vigna 2016), seeded by splitmix64 */
static uint64_t sim_next(struct sim_random *r)
{
    uint64_t a = r->s[0], b = r->s[1], sum = a + b;

    b ^= a;
    r->s[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    r->s[1] = b << 37 | b >> 27;
    return sum;
}

static uint64_t sim_mix(uint64_t *at)
{
    uint64_t z = (*at += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void sim_seed(struct sim_random *r, uint64_t seed)
{
    r->s[0] = sim_mix(&seed);
    r->s[1] = sim_mix(&seed);
}

static double sim_unit(struct sim_random *r)
{
    return (double)(sim_next(r) >> 11) * 0x1p-53;
}

static bool sim_chance(struct sim_random *r, double p)
{
    return sim_unit(r) < p;
}

static double sim_exponential(struct sim_random *r, double mean)
{
    return -mean * log1p(-sim_unit(r));
}

/* A little rough in the tails, and quick: the sum of four uniforms. */
static double sim_normal(struct sim_random *r)
{
    uint64_t bits = sim_next(r);

    return ((double)(bits & 0xffff) + (double)(bits >> 16 & 0xffff) + (double)(bits >> 32 & 0xffff) +
            (double)(bits >> 48) - 2 * 65535.0) /
           65536 * 1.7320508;
}

__attribute__((unused)) static int sim_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

__attribute__((unused)) static double sim_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, sim_compare);
    return count == 0       ? NAN
           : count % 2 != 0 ? values[count / 2]
                            : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#endif
