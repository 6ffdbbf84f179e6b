/* governor_view: the rollouts in JSON, for the control socket. */
#include "server/clock.h"
#include "server/governor_internal.h"
#include "server/json_add.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND_NS 1e9
#define DAY_NS    UINT64_C(86400000000000)
#define SOON_NS   (14 * DAY_NS) /* before a date that the file names, somebody hears of it */

static void add_seconds(cJSON *object, const char *key, uint64_t ns)
{
    char text[40];

    (void)snprintf(text, sizeof text, "%.3f", (double)ns / SECOND_NS);
    cJSON_AddRawToObject(object, key, text);
}

/* ---- the plan ---- */

static const char *mode_word(enum flagshm_plan_mode mode)
{
    return mode == FLAGSHM_MODE_OBSERVE ? "observe" : mode == FLAGSHM_MODE_GUARD ? "guard" : "auto";
}

static void add_window(cJSON *object, const struct flagshm_plan_window *window)
{
    static const char days[7][4] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
    char text[64] = "";
    cJSON *json;
    size_t used = 0, i;

    if (!window->is_set) {
        cJSON_AddNullToObject(object, "window");
        return;
    }
    json = cJSON_AddObjectToObject(object, "window");
    cJSON_AddStringToObject(json, "tz", window->tz);
    for (i = 0; i < 7; i++)
        if (window->days >> i & 1)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? "," : "", days[i]);
    cJSON_AddStringToObject(json, "days", text);
    (void)snprintf(text, sizeof text, "%02u:%02u-%02u:%02u", window->from_minute / 60u,
                   window->from_minute % 60u, window->to_minute / 60u, window->to_minute % 60u);
    cJSON_AddStringToObject(json, "hours", text);
}

static void add_plan(cJSON *object, const struct flagshm_plan *plan)
{
    cJSON *steps = cJSON_AddArrayToObject(object, "plan"), *notify;
    uint32_t i;

    for (i = 0; i < plan->step_count; i++) {
        cJSON *step = cJSON_CreateObject();

        flagshm_json_add_share(step, plan->steps[i].is_shadow ? "shadow_pct" : "pct", plan->steps[i].mpct);
        add_seconds(step, "hold_s", plan->steps[i].hold_ns);
        flagshm_json_add_u64(step, "min_users", plan->steps[i].min_users);
        cJSON_AddBoolToObject(step, "approval", plan->steps[i].needs_approval);
        cJSON_AddItemToArray(steps, step);
    }
    add_seconds(object, "watch_s", plan->watch_ns);
    flagshm_json_add_real(object, "alpha", plan->alpha);
    add_window(object, &plan->window);
    notify = cJSON_AddArrayToObject(object, "notify");
    for (i = 0; i < plan->notify_count; i++)
        cJSON_AddItemToArray(notify, cJSON_CreateString(plan->notify[i]));
}

/* ---- where it is ---- */

static void add_step(cJSON *object, const struct flagshm_ward *ward)
{
    const struct flagshm_plan *plan = ward->file.plan;
    int32_t step = flagshm_rollout_step(&ward->state, plan),
            next = flagshm_rollout_next_step(&ward->state, plan);

    if (step >= 0)
        flagshm_json_add_u64(object, "step", (uint64_t)step + 1);
    else
        cJSON_AddNullToObject(object, "step");
    flagshm_json_add_u64(object, "steps", plan->step_count);
    cJSON_AddNullToObject(object, "next_pct");
    cJSON_AddNullToObject(object, "next_shadow_pct");
    if (next >= 0) {
        const char *key = plan->steps[next].is_shadow ? "next_shadow_pct" : "next_pct";
        char share[16];

        cJSON_ReplaceItemInObjectCaseSensitive(
            object, key, cJSON_CreateRaw(flagshm_mpct_to_text(plan->steps[next].mpct, share)));
    }
    add_seconds(object, "held_s", ward->state.hold_ns);
    add_seconds(object, "hold_s", flagshm_rollout_hold_ns(&ward->state, plan));
    add_seconds(object, "hold_left_s", ward->judgement.hold_left_ns);
    flagshm_json_add_u64(object, "users", ward->judgement.users);
    flagshm_json_add_u64(object, "min_users", ward->judgement.min_users);
}

static void add_waits(cJSON *object, const struct flagshm_ward *ward)
{
    cJSON *waits = cJSON_AddArrayToObject(object, "waits"), *waived;
    char text[600];
    uint32_t i;

    for (i = 0; i < FLAGSHM_WAITS; i++)
        if (ward->judgement.waits >> i & 1) {
            cJSON *wait = cJSON_CreateObject();

            (void)flagshm_wait_explain((enum flagshm_wait)i, &ward->state, &ward->file, &ward->judgement,
                                       text, sizeof text);
            cJSON_AddStringToObject(wait, "reason", flagshm_wait_name((enum flagshm_wait)i));
            cJSON_AddStringToObject(wait, "text", text);
            cJSON_AddItemToArray(waits, wait);
        }
    waived = cJSON_AddArrayToObject(object, "waived");
    for (i = 0; i < FLAGSHM_WAITS; i++)
        if (ward->judgement.waived >> i & 1)
            cJSON_AddItemToArray(waived, cJSON_CreateString(flagshm_wait_name((enum flagshm_wait)i)));
}

static void add_slot(cJSON *object, const struct flagshm_governor *g, const struct flagshm_ward *ward)
{
    uint32_t slot;
    const struct flagshm_ledger_entry *e = flagshm_governor_slot(g, ward, &slot);
    uint64_t now = flagshm_mono_ns(), over;
    cJSON *traffic;

    cJSON_AddBoolToObject(object, "guarded", e != NULL && e->guard_key != 0);
    if (e == NULL) {
        cJSON_AddNullToObject(object, "slot");
        cJSON_AddBoolToObject(object, "open", false);
        add_seconds(object, "wash_in_left_s", 0);
        cJSON_AddNullToObject(object, "traffic");
        return;
    }
    flagshm_json_add_u64(object, "slot", slot);
    cJSON_AddBoolToObject(object, "open", e->is_open);
    over = now > e->opened_mono_ns ? now - e->opened_mono_ns : 0;
    add_seconds(object, "wash_in_left_s", !e->is_open && e->wash_in_ns > over ? e->wash_in_ns - over : 0);
    if (ward->post == NULL || !ward->post->has_verdict || over == 0) {
        cJSON_AddNullToObject(object, "traffic");
        return;
    }
    traffic = cJSON_AddObjectToObject(object, "traffic");
    flagshm_json_add_real(traffic, "calls_per_hour",
                          (double)(ward->post->verdict.variant_calls + ward->post->verdict.control_calls) *
                              3600e9 / (double)over);
    flagshm_json_add_real(traffic, "users_per_hour",
                          (double)(ward->post->verdict.variant_users + ward->post->verdict.control_users) *
                              3600e9 / (double)over);
    add_seconds(traffic, "over_s", over);
}

static void add_state(cJSON *object, const struct flagshm_ward *ward)
{
    const struct flagshm_rollout *s = &ward->state;
    char word[25] = "";

    flagshm_rollout_stage_word(s, word);
    cJSON_AddStringToObject(object, "flag", ward->flag);
    cJSON_AddBoolToObject(object, "planned", s->is_planned);
    cJSON_AddStringToObject(object, "mode", mode_word(ward->file.plan->mode));
    cJSON_AddStringToObject(object, "stage", word);
    cJSON_AddStringToObject(object, "state", flagshm_stage_name(flagshm_rollout_stage(s)));
    flagshm_json_add_share(object, "rollout_pct", flagshm_rollout_share(s));
    flagshm_json_add_share(object, "shadow_pct", flagshm_rollout_shadow(s));
    flagshm_json_add_share(object, "cap_pct", s->cap_mpct);
    flagshm_json_add_u64(object, "attempt", s->attempt);
    flagshm_json_add_u64(object, "evidence", s->evidence);
}

static void add_marks(cJSON *object, const struct flagshm_governor *g, const struct flagshm_ward *ward)
{
    const struct flagshm_rollout *s = &ward->state;
    uint64_t wall_ns = g->publisher->moment.wall_ns;

    cJSON_AddBoolToObject(object, "latched", s->stage == FLAGSHM_STAGE_ROLLED_BACK);
    cJSON_AddBoolToObject(object, "killed", s->is_killed);
    cJSON_AddBoolToObject(object, "paused", s->is_paused);
    cJSON_AddBoolToObject(object, "probing", s->is_probing);
    cJSON_AddBoolToObject(object, "drilling", s->is_drilling);
    cJSON_AddStringToObject(object, "why", s->why);
    flagshm_json_add_time(object, "since", s->entered_wall_ns);
    flagshm_json_add_time(object, "drilled", s->drilled_wall_ns);
    if (s->drilled_wall_ns != 0)
        flagshm_json_add_real(object, "drill_ms", (double)s->drill_took_ns / 1e6);
    else
        cJSON_AddNullToObject(object, "drill_ms");
    cJSON_AddBoolToObject(object, "drill_failed", s->drill_failed);
    cJSON_AddBoolToObject(object, "undrilled", flagshm_rollout_is_undrilled(s, ward->file.plan, wall_ns));
    cJSON_AddBoolToObject(object, "stale", flagshm_rollout_is_stale(s, wall_ns));
    flagshm_json_add_time(object, "full_since", s->full_since_wall_ns);
    if (ward->source->expires != NULL)
        cJSON_AddStringToObject(object, "expires", ward->source->expires);
    else
        cJSON_AddNullToObject(object, "expires");
    cJSON_AddStringToObject(object, "trouble", ward->trouble.text);
}

/* ---- warnings ---- */

static void warn(cJSON *warnings, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(cJSON *warnings, const char *format, ...)
{
    char text[600];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
}

/* The end of that day, UTC; 0: it is no date. */
static uint64_t end_of_day(const char *date)
{
    struct tm parts = {0};
    time_t seconds;

    if (date == NULL || strptime(date, "%Y-%m-%d", &parts) == NULL)
        return 0;
    seconds = timegm(&parts);
    return seconds > 0 ? (uint64_t)seconds * 1000000000u + DAY_NS : 0;
}

static void add_expiry(cJSON *warnings, const struct flagshm_ward *ward, uint64_t wall_ns)
{
    uint64_t end = end_of_day(ward->source->expires);

    if (end == 0)
        return;
    if (wall_ns >= end)
        warn(warnings, "it expired on %s: `flagctl finish %s`, or take it out of the file",
             ward->source->expires, ward->flag);
    else if (end - wall_ns <= SOON_NS)
        warn(warnings, "it expires on %s", ward->source->expires);
}

static void add_warnings(cJSON *object, const struct flagshm_governor *g, const struct flagshm_ward *ward)
{
    cJSON *warnings = cJSON_AddArrayToObject(object, "warnings");
    const struct flagshm_rollout *s = &ward->state;
    uint64_t wall_ns = g->publisher->moment.wall_ns;
    const struct flagshm_verdict *v =
        ward->post != NULL && ward->post->has_verdict ? &ward->post->verdict : NULL;

    if (ward->trouble.text[0] != '\0')
        warn(warnings, "its next step could not be written down: %s", ward->trouble.text);
    if (s->drill_failed)
        warn(warnings, "its last drill failed: `flagctl drill %s`", ward->flag);
    else if (flagshm_rollout_is_undrilled(s, ward->file.plan, wall_ns))
        warn(warnings, "its way back was not tried for %s: `flagctl drill %s`",
             s->drilled_wall_ns == 0 ? "as long as it is known" : "too long", ward->flag);
    if (flagshm_rollout_is_stale(s, wall_ns))
        warn(warnings, "all users have had the variant for 30 days: `flagctl finish %s`", ward->flag);
    add_expiry(warnings, ward, wall_ns);
    if (v != NULL && v->is_request_id)
        warn(warnings,
             "%.3f calls for each id, where users come back more often: its ids seem to be those of "
             "requests, so a "
             "user meets both arms",
             v->calls_per_id);
    if (v != NULL && v->misbooked > 0)
        warn(warnings,
             "%llu outcomes were booked for an arm that their bucket does not allow: a client is broken",
             (unsigned long long)v->misbooked);
    if (v != NULL && v->is_tainted)
        warn(warnings, "its counts make no sense: somebody wrote over them");
}

/* ---- evidence ---- */

static void add_verdict(cJSON *object, const struct flagshm_verdict *v)
{
    cJSON *json = cJSON_AddObjectToObject(object, "verdict");

    flagshm_json_add_real(json, "q", v->q);
    flagshm_json_add_real(json, "alpha", v->alpha);
    flagshm_json_add_u64(json, "variant_users", v->variant_users);
    flagshm_json_add_u64(json, "control_users", v->control_users);
    flagshm_json_add_u64(json, "variant_calls", v->variant_calls);
    flagshm_json_add_u64(json, "control_calls", v->control_calls);
    flagshm_json_add_u64(json, "shadow_pairs", v->shadow_pairs);
    flagshm_json_add_real(json, "calls_per_id", v->calls_per_id);
    cJSON_AddBoolToObject(json, "request_ids", v->is_request_id);
    cJSON_AddBoolToObject(json, "srm", v->has_srm);
    flagshm_json_add_u64(json, "misbooked", v->misbooked);
    cJSON_AddBoolToObject(json, "tainted", v->is_tainted);
    cJSON_AddBoolToObject(json, "both_bad", v->is_both_bad);
    flagshm_json_add_real(json, "limited_variant", v->limited_variant);
    flagshm_json_add_real(json, "limited_control", v->limited_control);
    flagshm_json_add_real(json, "failed_variant", v->failed_variant);
    flagshm_json_add_real(json, "failed_control", v->failed_control);
}

static cJSON *guard_json(const struct flagshm_ward *ward, uint32_t index)
{
    const struct flagshm_guardrail *guard = &ward->guards.list[index];
    const struct flagshm_guard_verdict *v = &ward->post->verdict.guards[index];
    cJSON *json = cJSON_CreateObject();
    char text[600] = "";

    (void)flagshm_guard_explain(&ward->post->verdict, &ward->guards, index, text, sizeof text);
    cJSON_AddStringToObject(json, "kind", flagshm_guard_name(guard->kind));
    cJSON_AddStringToObject(json, "name", guard->name);
    cJSON_AddStringToObject(json, "mode", guard->is_observed ? "observe" : "act");
    cJSON_AddBoolToObject(json, "rollback", guard->has_rollback);
    flagshm_json_add_real(json, "weight", guard->weight);
    cJSON_AddStringToObject(json, "text", text);
    flagshm_json_add_real(json, "ln_e", v->ln_e);
    flagshm_json_add_real(json, "threshold", v->threshold);
    cJSON_AddBoolToObject(json, "significant", v->is_significant);
    cJSON_AddBoolToObject(json, "material", v->is_material);
    cJSON_AddBoolToObject(json, "holds", v->holds);
    cJSON_AddBoolToObject(json, "absolute", v->is_absolute);
    flagshm_json_add_u64(json, "a", v->a);
    flagshm_json_add_u64(json, "b", v->b);
    flagshm_json_add_real(json, "rate_variant", v->rate_variant);
    flagshm_json_add_real(json, "rate_control", v->rate_control);
    flagshm_json_add_real(json, "ruled_out", v->ruled_out);
    flagshm_json_add_real(json, "users_to_2x", v->users_to_2x);
    return json;
}

static void add_evidence(cJSON *object, const struct flagshm_ward *ward)
{
    cJSON *guards = cJSON_AddArrayToObject(object, "guards");
    char text[600] = "";
    uint32_t i;

    if (ward->post == NULL || !ward->post->has_verdict) {
        cJSON_AddStringToObject(object, "evidence_text", "");
        cJSON_AddNullToObject(object, "verdict");
        return;
    }
    (void)flagshm_verdict_explain(&ward->post->verdict, &ward->guards, text, sizeof text);
    cJSON_AddStringToObject(object, "evidence_text", text);
    add_verdict(object, &ward->post->verdict);
    for (i = 0; i < ward->post->verdict.guard_count && i < ward->guards.count; i++)
        cJSON_AddItemToArray(guards, guard_json(ward, i));
}

/* ---- all of it ---- */

static cJSON *rollout_json(const struct flagshm_governor *g, const struct flagshm_ward *ward)
{
    cJSON *object = cJSON_CreateObject();

    add_state(object, ward);
    add_step(object, ward);
    add_waits(object, ward);
    add_slot(object, g, ward);
    add_marks(object, g, ward);
    add_warnings(object, g, ward);
    add_evidence(object, ward);
    add_plan(object, ward->file.plan);
    return object;
}

static bool is_shown(const struct flagshm_ward *ward)
{
    return !ward->is_hidden && ward->file.is_present && ward->source != NULL && ward->state.is_seen;
}

cJSON *flagshm_governor_view_one(struct flagshm_governor *g, const char *flag)
{
    const struct flagshm_ward *ward = flagshm_wards_find_name(&g->publisher->wards, flag);

    return ward != NULL && is_shown(ward) ? rollout_json(g, ward) : NULL;
}

void flagshm_governor_view(struct flagshm_governor *g, const char *flag, cJSON *answer)
{
    cJSON *frozen, *list;
    size_t i;

    (void)flagshm_governor_now(g);
    if (g->is_frozen) {
        frozen = cJSON_AddObjectToObject(answer, "frozen");
        cJSON_AddStringToObject(frozen, "by", g->frozen_by);
        cJSON_AddStringToObject(frozen, "reason", g->frozen_reason);
        flagshm_json_add_time(frozen, "since", g->frozen_wall_ns);
    } else {
        cJSON_AddNullToObject(answer, "frozen");
    }
    list = cJSON_AddArrayToObject(answer, "rollouts");
    for (i = 0; i < g->publisher->wards.count; i++) {
        struct flagshm_ward *ward = g->publisher->wards.list[i];

        if (!is_shown(ward) || (flag != NULL && strcmp(flag, ward->flag) != 0))
            continue;
        flagshm_governor_peek(g, ward);
        cJSON_AddItemToArray(list, rollout_json(g, ward));
    }
}
