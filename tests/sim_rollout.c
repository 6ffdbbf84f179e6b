/* sim_rollout: whole plans with variants that change nothing: how often are they rolled back? By us, and by the rules that others use.
 *
 * Usage: sim_rollout [--rollouts N] [--world NAME] [--seed N] [--wordy 1]
 * Without options a slice (fewer rollouts, of fewer calls), with --rollouts 2000 what the README quotes; both assert. Exit code 1: a figure is off.
 */
#include "sim_run.h"

#define WEEK                                                                                                 \
    {                                                                                                        \
        {1000, SIM_DAY}, {5000, SIM_DAY}, {10000, SIM_DAY}, {25000, SIM_DAY}, {50000, SIM_DAY},              \
        {                                                                                                    \
            75000, SIM_DAY                                                                                   \
        }                                                                                                    \
    }
#define CALLS 20000 /* a day */

/* What changes nothing. Each is to be rolled back in 1 % of rollouts at most. */
static const struct sim_world harmless[] = {
    {.name = "even", .says = "2000 even users", .users = 2000, .calls_a_day = CALLS, .stages = WEEK},
    {.name = "heavy-errors",
     .says = "2 % of users cause most errors",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .error = 0.003,
     .heavy_users = 0.02,
     .heavy_error = 0.4},
    {.name = "retry-storms",
     .says = "each failure is retried 4 times",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .retries = 4,
     .retry_error = 0.8},
    {.name = "bot",
     .says = "one bot, 3 % of the traffic, half its calls fail",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .bot_traffic = 0.03,
     .bot_error = 0.5},
    {.name = "200-users", .says = "200 users in all", .users = 200, .calls_a_day = CALLS, .stages = WEEK},
    {.name = "outages",
     .says = "both arms down for 10 min, twice a stage",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .outage_depth = 1,
     .outages = {{5 * SIM_HOUR, 5 * SIM_HOUR + 10 * SIM_MINUTE},
                 {15 * SIM_HOUR, 15 * SIM_HOUR + 10 * SIM_MINUTE}}},
    {.name = "half-outages",
     .says = "half of all calls fail for 10 min, twice",
     .users = 2000,
     .calls_a_day = CALLS,
     .outage_depth = 0.5,
     .stages = {{25000, SIM_DAY}, {50000, SIM_DAY}, {75000, SIM_DAY}},
     .outages = {{5 * SIM_HOUR, 5 * SIM_HOUR + 10 * SIM_MINUTE},
                 {15 * SIM_HOUR, 15 * SIM_HOUR + 10 * SIM_MINUTE}}},
    {.name = "outage-wash-in",
     .says = "both arms down as each stage begins",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .outage_depth = 1,
     .outages = {{0, 10 * SIM_MINUTE}, {20 * SIM_MINUTE, 25 * SIM_MINUTE}}},
    {.name = "day-swing",
     .says = "base rate moves x4 over the day",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .day_swing = 4},
    {.name = "ramp",
     .says = "instant errors, 8 s answers, 5 -> 25 -> 50 %",
     .users = 2000,
     .calls_a_day = 4 * CALLS,
     .error = 0.05,
     .latency_ms = 8000,
     .error_latency_ms = 20,
     .stages = {{5000, SIM_HOUR}, {25000, SIM_HOUR}, {50000, SIM_HOUR}}},
    {.name = "timeouts",
     .says = "25 -> 5 % with 60 s timeouts",
     .users = 2000,
     .calls_a_day = 4 * CALLS,
     .error = 0.05,
     .latency_ms = 900,
     .error_latency_ms = 60000,
     .stages = {{25000, 2 * SIM_HOUR}, {5000, 4 * SIM_HOUR}}},
    {.name = "cap-moved",
     .says = "the cap moves 25 -> 5 -> 25 % within hours",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = {{25000, 3 * SIM_HOUR}, {5000, 2 * SIM_HOUR}, {25000, 12 * SIM_HOUR}}},
    {.name = "faster",
     .says = "the variant is 4x faster",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .latency_ms = 4000,
     .variant_latency = 0.25},
    {.name = "slower",
     .says = "4x slower, and latency is not watched",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .latency_ms = 4000,
     .variant_latency = 4,
     .is_alone = true},
    {.name = "million", .says = "10^6 users", .users = 1000000, .calls_a_day = 5 * CALLS, .stages = WEEK},
    {.name = "busy",
     .says = "10 000 users, 500 000 calls a day, 5 % for 12 h",
     .users = 10000,
     .calls_a_day = 500000,
     .is_alone = true,
     .is_lean = true,
     .stages = {{5000, 12 * SIM_HOUR}}},
    {.name = "forced",
     .says = "six forced users fail all the time",
     .users = 2000,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .forced = 6},
    {.name = "orgs",
     .says = "20 busy orgs, of very different size",
     .users = 20,
     .calls_a_day = CALLS,
     .stages = WEEK,
     .orgs = 1},
    {.name = "endless-ids",
     .says = "each call has a new id",
     .users = 0,
     .calls_a_day = CALLS,
     .stages = WEEK},
    {.name = "shadow",
     .says = "the same model, shadowed for 10 % of users",
     .users = 2000,
     .calls_a_day = 2 * CALLS,
     .stages = {{0, 3 * SIM_DAY}},
     .is_shadow = true,
     .heavy_users = 0.02,
     .heavy_error = 0.3},
};

#define HARMLESS (sizeof harmless / sizeof *harmless)

/* Not harmless by what is promised: its users come twice as often, so more of them meet an error. */
static const struct sim_world used_twice = {.name = "used-twice",
                                            .says = "the variant is called twice as often",
                                            .users = 2000,
                                            .calls_a_day = CALLS,
                                            .stages = WEEK,
                                            .variant_use = 2};

#define SLICE 24 /* rollouts; with a quarter of the calls, and 100 000 users at most */

static bool is_wordy, is_slice;

struct tally {
    unsigned rollouts, rolled_back, breaker, significant, srm, naive, flagger, argo, requests;
};

static struct tally run(struct sim *s, const struct sim_world *whole, unsigned rollouts, uint64_t seed)
{
    struct tally t = {.rollouts = rollouts};
    struct sim_world world = *whole;
    unsigned i;

    if (is_slice) {
        world.calls_a_day /= 4;
        world.users = world.users < 100000 ? world.users : 100000;
    }
    for (i = 0; i < rollouts; i++) {
        struct sim_result r;

        sim_run(s, &world, seed + i * UINT64_C(0x51ed270b), &r);
        t.rolled_back += r.is_rolled_back;
        if (is_wordy && r.is_rolled_back) {
            char text[512];

            (void)flagshm_verdict_explain(&s->verdict, &s->guards, text, sizeof text);
            printf("  %s\n", text);
        }
        if (is_wordy && r.significant != 0)
            printf("  rollout %u: significant %x, rolled back %d by guard %u, stage %u after %.1f h, %llu "
                   "users\n",
                   i, r.significant, r.is_rolled_back, r.guard, r.stage,
                   (double)r.after_ns / (double)SIM_HOUR, (unsigned long long)r.variant_calls);
        t.breaker += r.is_breaker;
        t.significant += r.is_significant;
        t.srm += r.is_srm;
        t.naive += r.naive;
        t.flagger += r.flagger;
        t.argo += r.argo;
        t.requests += r.requests;
    }
    return t;
}

static double percent(unsigned part, unsigned whole)
{
    return whole != 0 ? 100.0 * part / whole : 0;
}

static void print(const struct sim_world *world, const struct tally *t)
{
    printf("%-15s %-49s %6.2f %6.2f %7.2f %6.2f %7.1f %8.1f %8.1f %8.1f\n", world->name, world->says,
           percent(t->rolled_back, t->rollouts), percent(t->breaker, t->rollouts),
           percent(t->significant, t->rollouts), percent(t->srm, t->rollouts),
           percent(t->requests, t->rollouts), percent(t->naive, t->rollouts),
           percent(t->flagger, t->rollouts), percent(t->argo, t->rollouts));
    fflush(stdout);
}

/* More than this many of n are no chance where the true share is p: four standard errors and one. */
static double most_of(unsigned n, double p)
{
    return n * p + 4 * sqrt(n * p * (1 - p)) + 1;
}

/* Cells of each arm alone fill unevenly, and count as harm what is none. */
static bool has_negative_control(struct sim *s, unsigned rollouts, uint64_t seed)
{
    static const struct sim_world shared = {.name = "shared cells",
                                            .says = "100 000 users, 20 % of calls fail",
                                            .users = 100000,
                                            .calls_a_day = 160000,
                                            .stages = {{5000, SIM_DAY}},
                                            .error = 0.2,
                                            .is_alone = true,
                                            .is_lean = true};
    struct sim_world apart = shared;
    struct tally ours, theirs;

    apart.name = "cells per arm";
    apart.has_arm_cells = true;
    ours = run(s, &shared, rollouts, seed);
    theirs = run(s, &apart, rollouts, seed);
    print(&shared, &ours);
    print(&apart, &theirs);
    if (ours.significant > most_of(rollouts, 0.01) || theirs.significant < 0.9 * rollouts) {
        printf("FAILED: cells of each arm alone must cry wolf, shared ones must not\n");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    unsigned rollouts = 0, requests = 0, all = 0, total = 0, rolled_back = 0;
    const char *only = NULL;
    uint64_t seed = 20240607;
    static struct sim s;
    bool is_sound = true;
    size_t i;
    int at;

    for (at = 1; at + 1 < argc; at += 2) {
        if (strcmp(argv[at], "--rollouts") == 0)
            rollouts = (unsigned)strtoul(argv[at + 1], NULL, 10);
        else if (strcmp(argv[at], "--world") == 0)
            only = argv[at + 1];
        else if (strcmp(argv[at], "--seed") == 0)
            seed = strtoull(argv[at + 1], NULL, 10);
        else if (strcmp(argv[at], "--wordy") == 0)
            is_wordy = argv[at + 1][0] == '1';
        else
            break;
    }
    if (at < argc) {
        fprintf(stderr, "usage: sim_rollout [--rollouts N] [--world NAME] [--seed N] [--wordy 1]\n");
        return 2;
    }
    if (!sim_open(&s)) {
        fprintf(stderr, "sim_rollout: no memory\n");
        return 2;
    }
    is_slice = rollouts == 0;
    rollouts = is_slice ? SLICE : rollouts;
    printf("%u rollouts of each world whose variant changes nothing%s: %% rolled back\n", rollouts,
           is_slice ? ", with a quarter of the calls" : "");
    printf("%-15s %-49s %6s %6s %7s %6s %7s %8s %8s %8s\n", "world", "", "ours", "break", "signif", "srm",
           "request", "ratio 2", "Flagger", "Argo");
    for (i = 0; i < HARMLESS; i++) {
        struct tally t;

        if (only != NULL && strcmp(only, harmless[i].name) != 0)
            continue;
        t = run(&s, &harmless[i], rollouts, seed + i * 7919);
        print(&harmless[i], &t);
        requests += strcmp(harmless[i].name, "retry-storms") == 0 || strcmp(harmless[i].name, "bot") == 0
                        ? t.requests
                        : 0;
        all += strcmp(harmless[i].name, "retry-storms") == 0 || strcmp(harmless[i].name, "bot") == 0
                   ? t.rollouts
                   : 0;
        total += t.rollouts;
        rolled_back += t.rolled_back;
        if (t.rolled_back > most_of(rollouts, 0.01) || t.srm > most_of(rollouts, 0.01)) {
            printf("FAILED: %s: more than 1 %% of harmless rollouts\n", harmless[i].name);
            is_sound = false;
        }
    }
    if (only == NULL || strcmp(only, used_twice.name) == 0) {
        struct tally t = run(&s, &used_twice, rollouts, seed);

        print(&used_twice, &t);
        if (t.rolled_back > most_of(rollouts, 0.2)) {
            printf("FAILED: %s: more than 20 %%\n", used_twice.name);
            is_sound = false;
        }
    }
    if (only == NULL) {
        is_sound =
            has_negative_control(&s, rollouts < 100 ? (rollouts + 7) / 8 : rollouts / 20, seed) && is_sound;
        if (rolled_back > most_of(total, 0.01)) {
            printf("FAILED: %u of %u harmless rollouts\n", rolled_back, total);
            is_sound = false;
        }
        if (requests * 10 < all) {
            printf("FAILED: counting requests must cry wolf: the worlds are too tame\n");
            is_sound = false;
        }
    }
    sim_close(&s);
    return is_sound ? 0 : 1;
}
