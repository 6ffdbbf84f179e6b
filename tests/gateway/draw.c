/* draw: see the header. */
#include "tests/gateway/draw.h"
#include "tests/gateway/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TALLY_SLOTS (1u << 18)         /* 4 MiB, touched as used */
#define Z_95        1.6448536269514722 /* 95 % of a normal lie below it */

struct gateway_tally {
    struct {
        uint64_t key;
        uint32_t count; /* 0: free */
    } slots[TALLY_SLOTS];
    uint32_t used;
};

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t gateway_hash(uint64_t hash, const char *string)
{
    hash ^= 0xcbf29ce484222325u;
    do {
        hash = (hash ^ (unsigned char)*string) * 0x100000001b3u;
    } while (*string++ != '\0');
    return mix(hash);
}

double gateway_draw_unit(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return (double)(mix(*state) >> 11) * 0x1p-53;
}

double gateway_draw_spread(uint64_t *state, const struct gateway_spread *spread)
{
    double u = gateway_draw_unit(state), v = gateway_draw_unit(state);
    double normal = sqrt(-2.0 * log(1.0 - u)) * cos(2.0 * 3.14159265358979323846 * v);

    if (spread->p50 <= 0 || spread->p95 <= spread->p50)
        return spread->p50;
    return exp(log(spread->p50) + normal * (log(spread->p95 / spread->p50) / Z_95));
}

struct gateway_tally *gateway_tally_create(void)
{
    return gateway_allocate(1, sizeof(struct gateway_tally));
}

void gateway_tally_free(struct gateway_tally *tally)
{
    free(tally);
}

void gateway_tally_clear(struct gateway_tally *tally)
{
    memset(tally, 0, sizeof *tally);
}

uint32_t gateway_tally_next(struct gateway_tally *tally, uint64_t key)
{
    uint32_t i = (uint32_t)key % TALLY_SLOTS;

    if (tally->used >= TALLY_SLOTS / 4 * 3)
        gateway_tally_clear(tally);
    while (tally->slots[i].count != 0 && tally->slots[i].key != key)
        i = (i + 1) % TALLY_SLOTS;
    if (tally->slots[i].count == 0) {
        tally->slots[i].key = key;
        tally->used++;
    }
    if (tally->slots[i].count < UINT32_MAX)
        tally->slots[i].count++;
    return tally->slots[i].count - 1;
}
