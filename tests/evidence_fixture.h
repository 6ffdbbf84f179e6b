/* evidence_fixture: one flag's counts, form, plan and guards, and the judge that looks at them; and vectors made elsewhere. */
#ifndef FLAGSHM_TESTS_EVIDENCE_FIXTURE_H
#define FLAGSHM_TESTS_EVIDENCE_FIXTURE_H

#include "server/evidence.h"

#include <cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define HOUR   (3600 * SECOND)
#define MS     UINT64_C(1000000)
#define N(x)   FLAGSHM_N_##x

__attribute__((unused)) static cJSON *read_vectors(const char *name)
{
    char path[400], *text;
    long bytes;
    cJSON *json;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/vectors/%s", FLAGSHM_TESTS_DATA, name);
    file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    bytes = ftell(file);
    rewind(file);
    text = malloc((size_t)bytes + 1);
    cr_assert_not_null(text);
    cr_assert_eq(fread(text, 1, (size_t)bytes, file), (size_t)bytes);
    text[bytes] = '\0';
    fclose(file);
    json = cJSON_Parse(text);
    free(text);
    cr_assert_not_null(json);
    return json;
}

__attribute__((unused)) static double number(const cJSON *object, const char *key)
{
    const cJSON *at = cJSON_GetObjectItemCaseSensitive(object, key);

    cr_assert(cJSON_IsNumber(at), "%s", key);
    return at->valuedouble;
}

__attribute__((unused)) static bool is_near(double ours, double theirs)
{
    return fabs(ours - theirs) <= 1e-9 * (1 + fabs(theirs));
}

__attribute__((unused)) static double ln_e(uint64_t a, uint64_t b, double q)
{
    struct flagshm_odds odds;

    flagshm_odds_events(&odds, q);
    return flagshm_odds_ln_e(&odds, a, b);
}

static struct flagshm_evidence evidence;
static struct flagshm_slot_counts counts;
static struct flagshm_slot_form form;
static struct flagshm_plan plan;
static struct flagshm_guards guards;
static struct flagshm_verdict verdict;
static struct flagshm_evidence_look look;
static char text[512];

__attribute__((unused)) static void guard_with(enum flagshm_guard_kind kind,
                                               const struct flagshm_limit *rollback,
                                               const struct flagshm_limit *hold)
{
    struct flagshm_guardrail *g = &guards.list[guards.count++];

    memset(g, 0, sizeof *g);
    g->kind = kind;
    g->has_rollback = rollback != NULL;
    g->has_hold = hold != NULL;
    if (rollback != NULL)
        g->rollback = *rollback;
    if (hold != NULL)
        g->hold = *hold;
}

__attribute__((unused)) static void set_up(void)
{
    memset(&evidence, 0, sizeof evidence);
    memset(&counts, 0, sizeof counts);
    memset(&form, 0, sizeof form);
    memset(&plan, 0, sizeof plan);
    memset(&guards, 0, sizeof guards);
    plan.alpha = 0.01;
    counts.generation = 7;
    counts.arm_count = 2;
    form.arm_count = 2;
    look = (struct flagshm_evidence_look){.counts = &counts,
                                          .form = &form,
                                          .plan = &plan,
                                          .guards = &guards,
                                          .q = 0.05,
                                          .is_open = true,
                                          .n = 1,
                                          .hold_ns = 24 * HOUR,
                                          .opened_mono_ns = 100 * HOUR,
                                          .window_4h = 25,
                                          .window_1h = 100,
                                          .now_mono_ns = 100 * HOUR + 60 * SECOND};
}

__attribute__((unused)) static void judge(void)
{
    flagshm_evidence_judge(&evidence, &look, &verdict);
    (void)flagshm_verdict_explain(&verdict, &guards, text, sizeof text);
}

__attribute__((unused)) static void watch_errors(void)
{
    guard_with(FLAGSHM_GUARD_ERROR_RATE, &(struct flagshm_limit){.ratio = 2, .min_delta = 0.002}, NULL);
    flagshm_evidence_form(&guards, 60 * SECOND, &form);
}

/* So many users of each arm with one failed call, of so many calls. */
__attribute__((unused)) static void fail_users(uint32_t variant, uint32_t control, uint64_t calls_variant,
                                               uint64_t calls_control)
{
    counts.levels[0][0][1][0] = variant;
    counts.levels[0][0][0][0] = control;
    counts.capped_bad[1][0] = counts.arms[1].n[N(FAILED)] = variant;
    counts.capped_bad[0][0] = counts.arms[0].n[N(FAILED)] = control;
    counts.capped_calls[1] = counts.arms[1].n[N(FINISHED)] = calls_variant;
    counts.capped_calls[0] = counts.arms[0].n[N(FINISHED)] = calls_control;
}

#endif
