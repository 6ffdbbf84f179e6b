/* evidence_explain: a verdict in words, with the numbers that it rests on. */
#include "server/evidence_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct words {
    const char *event; /* "users with ..." */
    const char *rate;  /* what the rates are of */
} kinds[FLAGSHM_GUARD_KINDS] = {
    [FLAGSHM_GUARD_ERROR_RATE] = {"a failed call", "calls failed"},
    [FLAGSHM_GUARD_JSON_VALID] = {"invalid JSON", "answers were invalid JSON"},
    [FLAGSHM_GUARD_LATENCY_P95] = {"a slow call", "p95"},
    [FLAGSHM_GUARD_TOKENS_TOTAL] = {"a long call", "mean"},
    [FLAGSHM_GUARD_TOKENS_OUT] = {"a long answer", "mean"},
    [FLAGSHM_GUARD_LOST] = {"a call that never ended", "calls never ended"},
    [FLAGSHM_GUARD_SCHEMA_VALID] = {"an answer against the schema", "answers broke the schema"},
    [FLAGSHM_GUARD_TOOL_VALID] = {"an invalid tool call", "tool calls were invalid"},
    [FLAGSHM_GUARD_REFUSAL] = {"a refusal", "calls were refused"},
    [FLAGSHM_GUARD_TRUNCATED] = {"a truncated answer", "answers were truncated"},
    [FLAGSHM_GUARD_EMPTY] = {"an empty answer", "answers were empty"},
    [FLAGSHM_GUARD_TTFT_P95] = {"a slow first token", "p95"},
    [FLAGSHM_GUARD_THUMBS_DOWN] = {"a thumb down", "calls got a thumb down"},
    [FLAGSHM_GUARD_RETRY] = {"a retry", "calls were retried"},
    [FLAGSHM_GUARD_SUPPORT_CONTACT] = {"a support contact", "calls led to a support contact"},
    [FLAGSHM_GUARD_CUSTOM] = {"the event", "calls led to the event"},
};

static const char *name_of(const struct flagshm_guardrail *guard)
{
    return guard->name[0] != '\0' ? guard->name : flagshm_guard_name(guard->kind);
}

static const char *unit_of(const struct flagshm_guard_form *form)
{
    return form->is_time ? "ms" : "tokens";
}

/* "variant 12.3 %, control 1.02 % of calls failed", "p95 4100 ms, control 1200 ms" */
static void write_rates(const struct flagshm_guardrail *guard, const struct flagshm_guard_verdict *v,
                        char *text, size_t bytes)
{
    struct flagshm_guard_form form = flagshm_guard_form(guard);
    const struct words *words = &kinds[guard->kind < FLAGSHM_GUARD_KINDS ? guard->kind : 0];

    if (form.is_amount)
        (void)snprintf(text, bytes, "%s %.0f %s, control's %.0f", words->rate, v->rate_variant,
                       unit_of(&form), v->rate_control);
    else
        (void)snprintf(text, bytes, "%.3g %% of the variant's %.0f %s, %.3g %% of control's %.0f",
                       100 * v->rate_variant, v->calls_variant, words->rate, 100 * v->rate_control,
                       v->calls_control);
}

/* "users with a failed call", "users with 4 slow calls (above 1800 ms)" */
static void write_event(const struct flagshm_guardrail *guard, const struct flagshm_guard_verdict *v,
                        char *text, size_t bytes)
{
    struct flagshm_guard_form form = flagshm_guard_form(guard);
    const char *event = kinds[guard->kind < FLAGSHM_GUARD_KINDS ? guard->kind : 0].event;
    int length = v->level == 0 ? snprintf(text, bytes, "%s", event)
                               : snprintf(text, bytes, "%s %u times or more", event, 1u << v->level);

    if (form.is_amount && length > 0 && (size_t)length < bytes)
        (void)snprintf(text + length, bytes - (size_t)length, " (above %.0f %s)", v->threshold_amount,
                       unit_of(&form));
}

static size_t written(int length)
{
    return length > 0 ? (size_t)length : 0;
}

static size_t explain_trip(const struct flagshm_verdict *verdict, const struct flagshm_guardrail *guard,
                           const struct flagshm_guard_verdict *v, bool is_hold, char *text, size_t bytes)
{
    static const char *const windows[] = {"", " of the last 4 h", " of the last hour"};
    unsigned long long a = v->a, b = v->b;
    char event[120], rates[200];

    write_event(guard, v, event, sizeof event);
    write_rates(guard, v, rates, sizeof rates);
    if (verdict->is_shadow)
        return written(snprintf(
            text, bytes,
            "%s: of %llu users with %s in one answer of a pair, it is the variant's for %llu, where "
            "chance gives half; %s (ln E %.1f, needed %.1f)",
            name_of(guard), a + b, event, a, rates, v->ln_e, is_hold ? v->hold_threshold : v->threshold));
    return written(snprintf(text, bytes,
                            "%s: of %llu users%s with %s, %llu have the variant, where chance gives %.3g %%; "
                            "%s (ln E %.1f, needed %.1f)",
                            name_of(guard), a + b, windows[v->window < 3 ? v->window : 0], event, a,
                            100 * verdict->q, rates, v->ln_e, is_hold ? v->hold_threshold : v->threshold));
}

static size_t explain_absolute(const struct flagshm_guardrail *guard, const struct flagshm_guard_verdict *v,
                               char *text, size_t bytes)
{
    struct flagshm_guard_form form = flagshm_guard_form(guard);

    if (!form.is_amount)
        return written(snprintf(text, bytes,
                                "%s: %.3g %% of calls are bad, over the absolute limit of %.3g %%",
                                name_of(guard), 100 * v->absolute_at, 100 * v->absolute));
    if (form.is_mean)
        return written(snprintf(text, bytes, "%s: %.0f tokens a call, over the absolute limit of %.0f",
                                name_of(guard), v->absolute_at, v->absolute));
    return written(snprintf(
        text, bytes, "%s: %.3g %% of calls take longer than the absolute limit of %.0f ms, which 5 %% may",
        name_of(guard), 100 * v->absolute_at, v->absolute));
}

static size_t explain_nothing(const struct flagshm_verdict *verdict, const struct flagshm_guardrail *guard,
                              const struct flagshm_guard_verdict *v, char *text, size_t bytes)
{
    char rates[200], more[80] = "", excluded[60];

    if (!(verdict->q > 0 && verdict->q < 1))
        return written(snprintf(text, bytes, "%s: nothing to compare with, %s gets the variant",
                                name_of(guard), verdict->q >= 1 ? "everybody" : "nobody"));
    if (!verdict->is_open)
        return written(
            snprintf(text, bytes, "%s: the slot is washing in, users do not count yet", name_of(guard)));
    write_rates(guard, v, rates, sizeof rates);
    if (v->ruled_out > 0)
        (void)snprintf(excluded, sizeof excluded, "%.3gx ruled out", v->ruled_out);
    else
        (void)snprintf(excluded, sizeof excluded, "nothing ruled out");
    if (v->users_to_2x > 0 && !(v->ruled_out > 0 && v->ruled_out <= 2))
        (void)snprintf(more, sizeof more, ", 2x is noticed in ~%.0f more users", v->users_to_2x);
    return written(snprintf(text, bytes, "%s: no harm seen, %s%s; %s (ln E %.1f, needed %.1f)",
                            name_of(guard), excluded, more, rates, v->a + v->b != 0 ? v->ln_e : 0,
                            v->threshold));
}

size_t flagshm_guard_explain(const struct flagshm_verdict *verdict, const struct flagshm_guards *guards,
                             uint32_t index, char *text, size_t bytes)
{
    const struct flagshm_guardrail *guard;
    const struct flagshm_guard_verdict *v;

    if (bytes != 0)
        text[0] = '\0';
    if (index >= verdict->guard_count || index >= guards->count)
        return 0;
    guard = &guards->list[index];
    v = &verdict->guards[index];
    if ((v->is_significant && v->is_material) || v->holds)
        return explain_trip(verdict, guard, v, !(v->is_significant && v->is_material), text, bytes);
    if (v->is_absolute)
        return explain_absolute(guard, v, text, bytes);
    return explain_nothing(verdict, guard, v, text, bytes);
}

static size_t explain_breaker(const struct flagshm_verdict *v, char *text, size_t bytes)
{
    char control[120] = "";

    if (v->q < 1)
        (void)snprintf(control, sizeof control, ", while %llu of %llu calls of control did",
                       (unsigned long long)v->stretch_control_bad,
                       (unsigned long long)v->stretch_control_calls);
    return written(snprintf(
        text, bytes, "breaker: the variant's last %llu calls, of at least %llu users, all failed%s",
        (unsigned long long)v->stretch_variant_bad, (unsigned long long)v->stretch_variant_users, control));
}

static size_t explain_rest(const struct flagshm_verdict *v, char *text, size_t bytes)
{
    if (v->is_both_bad)
        return written(
            snprintf(text, bytes,
                     "both arms fail: %.3g %% of the variant's and %.3g %% of control's calls in 5 "
                     "minutes; nothing is concluded",
                     100 * v->failed_variant, 100 * v->failed_control));
    if (v->is_limited || v->is_both_limited)
        return written(
            snprintf(text, bytes,
                     "capacity: %.3g %% of the variant's and %.3g %% of control's calls met 429 in 5 minutes",
                     100 * v->limited_variant, 100 * v->limited_control));
    if (v->has_srm)
        return written(
            snprintf(text, bytes,
                     "sample ratio: %.3g %% of users have the variant, and it must be %.3g %% (ln E %.1f): "
                     "the hash or a client is broken",
                     100 * v->users_started_share, 100 * v->q, v->srm_ln_e));
    if (v->misbooked != 0)
        return written(
            snprintf(text, bytes,
                     "%llu outcomes are booked for an arm that their bucket does not allow: a client is "
                     "broken",
                     (unsigned long long)v->misbooked));
    if (v->is_tainted)
        return written(snprintf(text, bytes, "the outcomes make no sense: somebody wrote over them"));
    if (v->is_request_id)
        return written(snprintf(
            text, bytes, "identity: %.3g calls for each id: these seem to be ids of requests, not of users",
            v->calls_per_id));
    return 0;
}

size_t flagshm_verdict_explain(const struct flagshm_verdict *verdict, const struct flagshm_guards *guards,
                               char *text, size_t bytes)
{
    uint32_t i, pass, nearest = 0;
    size_t length;

    if (bytes != 0)
        text[0] = '\0';
    for (i = 0; i < verdict->guard_count; i++)
        if (verdict->guards[i].is_significant && verdict->guards[i].is_material)
            return flagshm_guard_explain(verdict, guards, i, text, bytes);
    if (verdict->has_breaker || verdict->has_thin_breaker)
        return explain_breaker(verdict, text, bytes);
    for (pass = 0; pass < 2; pass++)
        for (i = 0; i < verdict->guard_count; i++)
            if (pass == 0 ? verdict->guards[i].is_absolute : verdict->guards[i].holds)
                return flagshm_guard_explain(verdict, guards, i, text, bytes);
    length = explain_rest(verdict, text, bytes);
    if (length != 0 || verdict->guard_count == 0)
        return length;
    for (i = 1; i < verdict->guard_count; i++)
        if (verdict->guards[i].ln_e - verdict->guards[i].threshold >
            verdict->guards[nearest].ln_e - verdict->guards[nearest].threshold)
            nearest = i;
    return flagshm_guard_explain(verdict, guards, nearest, text, bytes);
}
