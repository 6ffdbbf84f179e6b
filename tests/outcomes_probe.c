/* outcomes_probe: books calls from a process of its own, for tests/cli/outcomes.sh.
 *
 *     outcomes_probe FLAG MILLISECONDS    each third call fails; prints how many of each arm were booked, as
 *                                         "calls0 failed0 calls1 failed1 refused lost": refused: -ESTALE and the like; lost: decided in no
 *                                         slot
 */
#include "client/flagshm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    uint64_t calls[2] = {0, 0}, failed[2] = {0, 0}, refused = 0, without = 0, end, n;
    struct flagshm fs;
    int error;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: outcomes_probe FLAG MILLISECONDS\n");
        return 2;
    }
    error = flagshm_open(&fs, NULL);
    if (error != 0) {
        (void)fprintf(stderr, "outcomes_probe: flagshm_open: %d\n", error);
        return 1;
    }
    end = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) + strtoull(argv[2], NULL, 10) * UINT64_C(1000000);
    for (n = 0; flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) < end; n++) {
        struct flagshm_outcome o = {.http_status = n % 3 == 0 ? 500 : 200};
        struct flagshm_decision d;
        char id[40];

        (void)snprintf(id, sizeof id, "%d-%" PRIu64, (int)getpid(), n % 1000);
        (void)flagshm_decide(&fs, argv[1], id, &d);
        error = flagshm_record(&fs, &d, &o);
        if (error != 0) {
            refused++;
            if (refused == 1)
                (void)fprintf(stderr, "outcomes_probe: flagshm_record: %d\n", error);
        } else if (d.slot == FLAGSHM_NO_SLOT) {
            without++;
        } else {
            calls[d.arm & 1]++;
            failed[d.arm & 1] += n % 3 == 0;
        }
    }
    flagshm_close(&fs);
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", calls[0], failed[0],
           calls[1], failed[1], refused, without);
    return 0;
}
