/* sim_power: variants that do harm: how many users meet it until they are taken back?
 *
 * Usage: sim_power [--rollouts N] [--seed N] [--judge N]
 * Without options a slice, with --rollouts 2000 what the README quotes; both assert. --judge: what a look costs, of N looks. Exit code 1: a figure is off.
 */
#include "sim_run.h"

#include <time.h>

#define SHARE 5000 /* thousandths of a percent */

struct figure {
    const char *name;
    double harm, most, least; /* users of the variant: medians between these, or 10 % off */
};

/* Medians from two simulations that are independent of this one. */
static const struct figure primitive[] = {{"2x", 2, 1400, 1325},
                                          {"3x", 3, 400, 400},
                                          {"5x", 5, 123, 123},
                                          {"10x", 10, 50, 44},
                                          {"all fail", 100, 4, 4}};
static const struct figure judged[] = {{"2x", 2, 2411, 2411},
                                       {"3x", 3, 711, 711},
                                       {"5x", 5, 235, 235},
                                       {"10x", 10, 74, 74},
                                       {"all fail", 100, 5, 5}};

#define FIGURES (sizeof primitive / sizeof *primitive)

static bool is_off(const struct figure *f, double median)
{
    return !(median >= 0.9 * f->least - 0.5 && median <= 1.1 * f->most + 0.5);
}

/* The test alone: users come one by one, each calls once; alpha 0.01, no windows, no levels, no split. */
static double primitive_users(struct sim_random *random, double harm)
{
    double q = SHARE / 100000.0, errors[2] = {0.01, 0.01 * harm}, all = (1 - q) * errors[0] + q * errors[1],
           skipped;
    uint64_t users = 0, a = 0, b = 0, i;
    struct flagshm_odds odds;

    flagshm_odds_events(&odds, q);
    for (;;) { /* users until one has an error: geometric; then whose it is */
        skipped = floor(log1p(-sim_unit(random)) / log1p(-all));
        for (i = 0; skipped < 1000 && i < (uint64_t)skipped;
             i++) /* of those without one, some have the variant */
            users += sim_chance(random, q * (1 - errors[1]) / (1 - all));
        if (skipped >= 1000)
            users += (uint64_t)(skipped * q * (1 - errors[1]) / (1 - all));
        if (sim_chance(random, q * errors[1] / all)) {
            users++;
            a++;
            if (flagshm_odds_ln_e(&odds, a, b) >= -log(0.01))
                return (double)users;
        } else {
            b++;
        }
    }
}

static double *numbers(unsigned count)
{
    double *values = malloc(count * sizeof *values);

    if (values == NULL)
        exit(2);
    return values;
}

/* Wald: no test of this error finds it with fewer events on average; as users. */
static double wald_users(double harm)
{
    double q = SHARE / 100000.0, theta = q * harm / (q * harm + 1 - q);
    double kl = theta * log(theta / q) + (1 - theta) * log((1 - theta) / (1 - q));

    return -log(0.01) / kl * q / ((1 - q) * 0.01 + q * 0.01 * harm);
}

static bool try_primitive(unsigned rollouts, uint64_t seed, double medians[FIGURES])
{
    double *users = numbers(rollouts);
    struct sim_random random;
    bool is_sound = true;
    size_t f;
    unsigned i;

    for (f = 0; f < FIGURES; f++) {
        sim_seed(&random, seed + f);
        for (i = 0; i < rollouts; i++)
            users[i] = primitive_users(&random, primitive[f].harm);
        medians[f] = sim_median(users, rollouts);
        if (is_off(&primitive[f], medians[f])) {
            printf("FAILED: the test alone needs %.0f users for %s, not %.0f\n", medians[f],
                   primitive[f].name, primitive[f].least);
            is_sound = false;
        }
    }
    free(users);
    return is_sound;
}

/* The judge with four guardrails at even weights, in its first slot; each user calls once. */
static bool try_judge(struct sim *s, unsigned rollouts, uint64_t seed, bool has_others,
                      const double alone[FIGURES])
{
    unsigned most = has_others || rollouts > 2000 ? rollouts : 4 * rollouts, count;
    double *users = numbers(most), *naive = numbers(most), *flagger = numbers(most), *argo = numbers(most),
           median;
    bool is_sound = true;
    size_t f;
    unsigned i;

    if (has_others)
        printf("at 2 000 000 calls a day, and what other rules do within 8 h (inf: nothing)\n%-9s %9s %9s "
               "%9s %9s\n",
               "harm", "the judge", "ratio 2", "Flagger", "Argo");
    else
        printf("%-9s %9s %11s %9s\n", "harm", "Wald", "test alone", "the judge");
    for (f = 0; f < FIGURES; f++) {
        struct sim_world world = {.name = judged[f].name,
                                  .users = 0,
                                  .calls_a_day = has_others ? 2000000 : 50000,
                                  .stages = {{SHARE, has_others ? 8 * SIM_HOUR : 5 * SIM_DAY}},
                                  .harm = judged[f].harm,
                                  .is_even = true,
                                  .is_lean = true,
                                  .latency_ms = 1,
                                  .goes_on = has_others};

        count = f == 0 || has_others ? rollouts : most; /* great harm is quickly simulated */
        for (i = 0; i < count; i++) {
            struct sim_result r;

            sim_run(s, &world, seed + f * 1000003 + i * UINT64_C(0x51ed270b), &r);
            users[i] = r.is_rolled_back ? (double)r.variant_calls : INFINITY;
            naive[i] = r.naive ? (double)r.naive_users : INFINITY;
            flagger[i] = r.flagger ? (double)r.flagger_users : INFINITY;
            argo[i] = r.argo ? (double)r.argo_users : INFINITY;
        }
        median = sim_median(users, count);
        if (has_others)
            printf("%-9s %9.0f %9.0f %9.0f %9.0f\n", judged[f].name, median, sim_median(naive, count),
                   sim_median(flagger, count), sim_median(argo, count));
        else
            printf("%-9s %9.0f %11.0f %9.0f\n", judged[f].name, wald_users(judged[f].harm), alone[f], median);
        fflush(stdout);
        if (!has_others && is_off(&judged[f], median)) {
            printf("FAILED: the judge needs %.0f users for %s, not %.0f\n", median, judged[f].name,
                   judged[f].least);
            is_sound = false;
        }
    }
    free(users);
    free(naive);
    free(flagger);
    free(argo);
    return is_sound;
}

/* Heavy use: few users with many calls. By levels; by first events alone it would be a few percent. */
static bool try_heavy_use(struct sim *s, unsigned rollouts, uint64_t seed)
{
    static const struct {
        struct sim_world world;
        double least; /* share of rollouts in which it is found within the stage */
    } worlds[] = {
        {{.name = "2x, 1000 users, 400 000 calls a day",
          .users = 1000,
          .calls_a_day = 400000,
          .stages = {{SHARE, 24 * SIM_HOUR}},
          .harm = 2,
          .is_alone = true,
          .is_lean = true},
         0.95},
        {{.name = "3x, 200 users, 400 000 calls a day",
          .users = 200,
          .calls_a_day = 400000,
          .stages = {{SHARE, 24 * SIM_HOUR}},
          .harm = 3,
          .is_alone = true,
          .is_lean = true},
         0.75},
        {{.name = "3x, in the shadow of 10 % of 2000 users, 40 000 calls a day",
          .users = 2000,
          .calls_a_day = 40000,
          .stages = {{0, 3 * SIM_DAY}},
          .harm = 3,
          .is_shadow = true},
         0.9},
    };
    bool is_sound = true;
    size_t w;
    unsigned i;

    for (w = 0; w < sizeof worlds / sizeof *worlds; w++) {
        unsigned found = 0, slack = (unsigned)(3 * sqrt(rollouts * worlds[w].least * (1 - worlds[w].least)));

        for (i = 0; i < rollouts; i++) {
            struct sim_result r;

            sim_run(s, &worlds[w].world, seed + i * UINT64_C(0x51ed270b), &r);
            found += r.is_rolled_back;
        }
        printf("%s: found within %.0f h in %.1f %% of %u\n", worlds[w].world.name,
               (double)worlds[w].world.stages[0].hold_ns / (double)SIM_HOUR, 100.0 * found / rollouts,
               rollouts);
        fflush(stdout);
        if (found + slack < worlds[w].least * rollouts) {
            printf("FAILED: that is less than %.0f %%\n", 100 * worlds[w].least);
            is_sound = false;
        }
    }
    return is_sound;
}

/* What a look costs: counts of a day of a busy flag, that move between looks. */
static void time_judge(struct sim *s, unsigned looks)
{
    static const struct sim_world world = {
        .name = "a day", .users = 20000, .calls_a_day = 400000, .stages = {{SHARE, 23 * SIM_HOUR}}};
    static const enum flagshm_guard_kind more[] = {FLAGSHM_GUARD_TTFT_P95, FLAGSHM_GUARD_TOKENS_OUT,
                                                   FLAGSHM_GUARD_SCHEMA_VALID, FLAGSHM_GUARD_REFUSAL};
    struct timespec from, to;
    struct sim_result r;
    unsigned batch, i, g;

    sim_run(s, &world, 1, &r);
    for (g = 4; g <= 8; g += 4) {
        double best = INFINITY;

        for (i = 4; i < g; i++) { /* as many as there can be, all timed, on the counts of others */
            s->guards.list[i] = s->guards.list[i - 4];
            s->guards.list[i].kind = more[i - 4];
            s->guards.list[i].weight = 0.1;
            s->guards.list[i].has_hold = true;
            s->guards.list[i].hold.ratio = 1.2;
        }
        s->guards.count = g;
        flagshm_evidence_form(&s->guards, 60 * SIM_SECOND, &s->form);
        memcpy(s->counts.levels[6], s->counts.levels[0], 6 * sizeof s->counts.levels[0]);
        for (batch = 0; batch < 20; batch++) {
            double ns;

            (void)clock_gettime(CLOCK_MONOTONIC, &from);
            for (i = 0; i < looks / 20 + 1; i++) {
                s->counts.levels[0][0][1][0] += 1;
                s->counts.levels[0][0][0][0] += 19;
                s->look.now_mono_ns += SIM_SECOND;
                flagshm_evidence_judge(&s->evidence, &s->look, &s->verdict);
            }
            (void)clock_gettime(CLOCK_MONOTONIC, &to);
            ns = ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
                 (looks / 20 + 1);
            best = ns < best ? ns : best;
        }
        printf("judging one rollout with %u guardrails: %.2f us\n", g, best / 1000);
    }
}

int main(int argc, char **argv)
{
    double alone[FIGURES];
    unsigned rollouts = 0, looks = 0;
    uint64_t seed = 20240607;
    static struct sim s;
    bool is_sound;
    int at;

    for (at = 1; at + 1 < argc; at += 2) {
        if (strcmp(argv[at], "--rollouts") == 0)
            rollouts = (unsigned)strtoul(argv[at + 1], NULL, 10);
        else if (strcmp(argv[at], "--seed") == 0)
            seed = strtoull(argv[at + 1], NULL, 10);
        else if (strcmp(argv[at], "--judge") == 0)
            looks = (unsigned)strtoul(argv[at + 1], NULL, 10);
        else
            break;
    }
    if (at < argc) {
        fprintf(stderr, "usage: sim_power [--rollouts N] [--seed N] [--judge N]\n");
        return 2;
    }
    if (!sim_open(&s)) {
        fprintf(stderr, "sim_power: no memory\n");
        return 2;
    }
    if (looks != 0) {
        time_judge(&s, looks);
        sim_close(&s);
        return 0;
    }
    printf(
        "Users of the variant until it is taken back: median; share 5 %%, base rate 1 %%, a call a user\n");
    is_sound = try_primitive(rollouts != 0 ? rollouts : 2000, seed, alone);
    is_sound = try_judge(&s, rollouts != 0 ? rollouts : 400, seed, false, alone) && is_sound;
    if (rollouts != 0)
        is_sound = try_judge(&s, rollouts / 20 + 1, seed, true, alone) && is_sound;
    is_sound = try_heavy_use(&s, rollouts != 0 ? rollouts / 4 + 1 : 20, seed) && is_sound;
    sim_close(&s);
    return is_sound ? 0 : 1;
}
