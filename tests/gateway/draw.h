/* draw: seeded chance. What a call draws depends on the seed, its client key and how many calls that key made before, never on
 * which of two concurrent calls came first: a run repeats, whatever the scheduler does. */
#ifndef FLAGSHM_GATEWAY_DRAW_H
#define FLAGSHM_GATEWAY_DRAW_H

#include <stdbool.h>
#include <stdint.h>

/* Two percentiles of a log-normal; p50 = p95 is a constant. */
struct gateway_spread {
    bool is_set;
    double p50, p95;
};

/* Mixes a string, its end included, into a hash. Begin with the seed. */
uint64_t gateway_hash(uint64_t hash, const char *string);

/* Uniform in [0, 1); moves `state` on. */
double gateway_draw_unit(uint64_t *state);
double gateway_draw_spread(uint64_t *state, const struct gateway_spread *spread);

/* Counts by key in bounded memory: when three quarters of it are in use, all keys begin at 0 again. */
struct gateway_tally;
struct gateway_tally *gateway_tally_create(void);
void gateway_tally_free(struct gateway_tally *tally);
void gateway_tally_clear(struct gateway_tally *tally);
/* Returns how often the key was counted before, and counts it. */
uint32_t gateway_tally_next(struct gateway_tally *tally, uint64_t key);

#endif
