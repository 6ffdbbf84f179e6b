/* outcome_view: see outcome_view.h. */
#include "tools/outcome_view.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define IDS_MIN            1000
#define IDENTITY_S         (24 * 3600)
#define PER_ID_MIN         1.05
#define PER_ID_MIN_SESSION 1.01 /* sessions are short */

const struct flagctl_metric flagctl_metrics[] = {
    {"calls", "started", FLAGCTL_COUNT, "started", NULL, false},
    {NULL, "finished", FLAGCTL_COUNT, "finished", NULL, false},
    {NULL, "in flight", FLAGCTL_COUNT, "in_flight", NULL, false},
    {NULL, "users", FLAGCTL_COUNT, "users", NULL, false},
    {"errors", "failed", FLAGCTL_SHARE, "failed", "finished", false},
    {NULL, "no whole answer", FLAGCTL_SHARE, "transport_errors", "finished", true},
    {NULL, "limited (429)", FLAGCTL_SHARE, "limited", "finished", false},
    {NULL, "met a limit", FLAGCTL_SHARE, "met_limit", "finished", true},
    {NULL, "cancelled", FLAGCTL_SHARE, "cancelled", "finished", false},
    {NULL, "retries", FLAGCTL_PLAIN_RATIO, "retries", "finished", false},
    {NULL, "fallback", FLAGCTL_SHARE, "fallback", "finished", false},
    {"checks", "JSON invalid", FLAGCTL_SHARE, "json_invalid", "json_checked", true},
    {NULL, "schema invalid", FLAGCTL_SHARE, "schema_invalid", "schema_checked", true},
    {NULL, "tool call invalid", FLAGCTL_SHARE, "tool_invalid", "tool_checked", true},
    {NULL, "refusal", FLAGCTL_SHARE, "refusal", "answered", false},
    {NULL, "truncated", FLAGCTL_SHARE, "truncated", "answered", false},
    {NULL, "empty", FLAGCTL_SHARE, "empty", "answered", false},
    {"latency", "p50", FLAGCTL_TIME, "latency_ms", "p50", false},
    {NULL, "p95", FLAGCTL_TIME, "latency_ms", "p95", false},
    {NULL, "p99", FLAGCTL_TIME, "latency_ms", "p99", false},
    {"first token", "p50", FLAGCTL_TIME, "ttft_ms", "p50", true},
    {NULL, "p95", FLAGCTL_TIME, "ttft_ms", "p95", true},
    {NULL, "p99", FLAGCTL_TIME, "ttft_ms", "p99", true},
    {"tokens a call", "mean", FLAGCTL_AMOUNT, "tokens_mean", NULL, false},
    {NULL, "p50", FLAGCTL_AMOUNT, "tokens", "p50", false},
    {NULL, "p95", FLAGCTL_AMOUNT, "tokens", "p95", false},
    {"later", "thumbs up", FLAGCTL_PLAIN_RATIO, "thumbs_up", "finished", false},
    {NULL, "thumbs down", FLAGCTL_PLAIN_RATIO, "thumbs_down", "finished", false},
    {NULL, "retry", FLAGCTL_PLAIN_RATIO, "retry", "finished", false},
    {NULL, "support contact", FLAGCTL_PLAIN_RATIO, "support_contact", "finished", false},
    {NULL, "custom 0", FLAGCTL_PLAIN_RATIO, "custom_0", "finished", true},
    {NULL, "custom 1", FLAGCTL_PLAIN_RATIO, "custom_1", "finished", true},
    {NULL, "custom 2", FLAGCTL_PLAIN_RATIO, "custom_2", "finished", true},
    {NULL, "custom 3", FLAGCTL_PLAIN_RATIO, "custom_3", "finished", true},
    {NULL, "custom 4", FLAGCTL_PLAIN_RATIO, "custom_4", "finished", true},
    {NULL, "custom 5", FLAGCTL_PLAIN_RATIO, "custom_5", "finished", true},
    {NULL, "custom 6", FLAGCTL_PLAIN_RATIO, "custom_6", "finished", true},
    {NULL, "custom 7", FLAGCTL_PLAIN_RATIO, "custom_7", "finished", true},
    {NULL, NULL, FLAGCTL_COUNT, NULL, NULL, false},
};

/* ---- numbers ---- */

static double raw(const cJSON *arm, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(arm, key);

    return cJSON_IsNumber(item) && item->valuedouble > 0 ? item->valuedouble : 0;
}

bool flagctl_arm_number(const cJSON *arm, const char *key, double *number)
{
    *number = 0;
    if (strcmp(key, "in_flight") == 0) {
        double started = raw(arm, "started"), finished = raw(arm, "finished");

        /* More that end than begin: some programs do not say STARTED, and then nobody knows. */
        *number = started - finished;
        return started > 0 && started >= finished;
    }
    if (strcmp(key, "started") == 0 && raw(arm, "started") == 0 && raw(arm, "finished") > 0)
        return false;
    if (strcmp(key, "answered") == 0) {
        double bad = raw(arm, "failed") + raw(arm, "limited") + raw(arm, "cancelled");

        *number = raw(arm, "finished") > bad ? raw(arm, "finished") - bad : 0;
        return true;
    }
    if (strcmp(key, "tokens_mean") == 0) {
        double calls = raw(arm, "finished");

        if (calls > 0)
            *number =
                (raw(arm, "input_tokens") + raw(arm, "output_tokens") + raw(arm, "cache_tokens")) / calls;
        return calls > 0 && *number > 0;
    }
    if (strncmp(key, "custom_", 7) == 0) {
        const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(arm, "custom"), key[7] - '0');

        *number = cJSON_IsNumber(item) ? item->valuedouble : 0;
        return true;
    }
    *number = raw(arm, key);
    return true;
}

bool flagctl_metric_rate(const struct flagctl_metric *metric, const cJSON *arm, struct flagctl_rate *rate)
{
    double bad, of;

    memset(rate, 0, sizeof *rate);
    return metric->measure == FLAGCTL_SHARE && flagctl_arm_number(arm, metric->key, &bad) &&
           flagctl_arm_number(arm, metric->of, &of) && flagctl_rate(bad, of, rate);
}

static bool percentile(const cJSON *arm, const char *histogram, const char *key, double *value)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(arm, histogram);

    *value = raw(object, key);
    return raw(object, "count") > 0;
}

bool flagctl_metric_value(const struct flagctl_metric *metric, const cJSON *arm, double *value)
{
    double number, of;

    *value = 0;
    switch (metric->measure) {
    case FLAGCTL_TIME:
        return percentile(arm, metric->key, metric->of, value);
    case FLAGCTL_AMOUNT:
        return metric->of != NULL ? percentile(arm, metric->key, metric->of, value)
                                  : flagctl_arm_number(arm, metric->key, value);
    case FLAGCTL_SHARE:
    case FLAGCTL_PLAIN_RATIO:
        if (!flagctl_arm_number(arm, metric->key, &number) || !flagctl_arm_number(arm, metric->of, &of) ||
            of <= 0)
            return false;
        *value = number / of;
        return true;
    case FLAGCTL_COUNT:
    default:
        return flagctl_arm_number(arm, metric->key, value);
    }
}

/* ---- flags ---- */

double flagctl_flag_calls(const cJSON *flag)
{
    const cJSON *arms = cJSON_GetObjectItemCaseSensitive(flag, "arms"), *arm;
    double started = 0, finished = 0;

    for (arm = arms != NULL ? arms->child : NULL; arm != NULL; arm = arm->next) {
        started += raw(arm, "started");
        finished += raw(arm, "finished");
    }
    return started > finished ? started : finished;
}

double flagctl_flag_age_s(const cJSON *flag)
{
    const char *since = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(flag, "since"));
    struct tm parts;
    time_t now = time(NULL);

    memset(&parts, 0, sizeof parts);
    return since != NULL && strptime(since, "%Y-%m-%dT%H:%M:%SZ", &parts) != NULL
               ? difftime(now, timegm(&parts))
               : 0;
}

bool flagctl_is_request_id(const cJSON *flag, bool is_session, double *calls_per_id, double *ids)
{
    *ids = raw(flag, "distinct_ids");
    *calls_per_id = *ids > 0 ? flagctl_flag_calls(flag) / *ids : 0;
    return *ids >= IDS_MIN && flagctl_flag_age_s(flag) >= IDENTITY_S &&
           *calls_per_id < (is_session ? PER_ID_MIN_SESSION : PER_ID_MIN);
}

/* ---- texts ---- */

char *flagctl_ms(double ms, char out[24])
{
    if (ms < 10)
        (void)snprintf(out, 24, "%.2g ms", ms);
    else if (ms < 1000)
        (void)snprintf(out, 24, "%.0f ms", ms);
    else if (ms < 100000)
        (void)snprintf(out, 24, "%.3g s", ms / 1000);
    else
        (void)snprintf(out, 24, "%.0f s", ms / 1000);
    return out;
}

char *flagctl_amount(double amount, char out[24])
{
    (void)snprintf(out, 24, amount < 10 && amount != floor(amount) ? "%.1f" : "%.0f",
                   amount < 1e18 ? amount : 1e18);
    return out;
}

char *flagctl_percent(double share, char out[24])
{
    double percent = share * 100;

    if (percent == 0 || percent == 100)
        (void)snprintf(out, 24, "%.0f %%", percent);
    else if (fabs(percent) < 0.001)
        (void)snprintf(out, 24, "%.0e %%", percent);
    else
        (void)snprintf(out, 24, fabs(percent) < 9.95 ? "%.2g %%" : "%.3g %%", percent);
    return out;
}

/* A bound of an interval, without its sign of percent. */
static char *bound(double share, char out[24])
{
    char *space = strchr(flagctl_percent(share, out), ' ');

    *space = '\0';
    return out;
}

void flagctl_metric_text(const struct flagctl_metric *metric, const cJSON *arm, char *out, size_t room)
{
    char text[24], low[24], high[24];
    struct flagctl_rate rate;
    double value, number;

    (void)snprintf(out, room, "-");
    switch (metric->measure) {
    case FLAGCTL_TIME:
        if (flagctl_metric_value(metric, arm, &value))
            (void)snprintf(out, room, "%s", flagctl_ms(value, text));
        return;
    case FLAGCTL_COUNT:
    case FLAGCTL_AMOUNT:
        if (flagctl_metric_value(metric, arm, &value))
            (void)snprintf(out, room, "%s", flagctl_amount(value, text));
        return;
    case FLAGCTL_PLAIN_RATIO:
        if (!flagctl_arm_number(arm, metric->key, &number))
            return;
        if (number > 0 && flagctl_metric_value(metric, arm, &value))
            (void)snprintf(out, room, "%.0f  %s", number, flagctl_percent(value, text));
        else
            (void)snprintf(out, room, "%.0f", number);
        return;
    case FLAGCTL_SHARE:
    default:
        if (flagctl_metric_rate(metric, arm, &rate) && flagctl_arm_number(arm, metric->key, &number))
            (void)snprintf(out, room, "%.0f  %s (%s...%s)", number, flagctl_percent(rate.rate, text),
                           bound(rate.low, low), bound(rate.high, high));
    }
}

void flagctl_metric_difference(const struct flagctl_metric *metric, const cJSON *control,
                               const cJSON *variant, char *out, size_t room, bool *is_clear)
{
    struct flagctl_rate ours, theirs, d;
    double a, b;

    out[0] = '\0';
    *is_clear = false;
    if (metric->measure == FLAGCTL_SHARE) {
        if (!flagctl_metric_rate(metric, control, &ours) || !flagctl_metric_rate(metric, variant, &theirs))
            return;
        d = flagctl_rate_difference(ours, theirs);
        *is_clear = d.low > 0 || d.high < 0;
        if (ours.rate > 0 || theirs.rate > 0)
            (void)snprintf(out, room, "%+.2g pp (%+.2g...%+.2g)", d.rate * 100, d.low * 100, d.high * 100);
    } else if (metric->measure == FLAGCTL_PLAIN_RATIO) {
        if (flagctl_metric_value(metric, control, &a) && flagctl_metric_value(metric, variant, &b) &&
            (a > 0 || b > 0))
            (void)snprintf(out, room, "%+.2g pp", (b - a) * 100);
    } else if (metric->measure != FLAGCTL_COUNT) {
        if (flagctl_metric_value(metric, control, &a) && flagctl_metric_value(metric, variant, &b) && a > 0)
            (void)snprintf(out, room, "x %.3g", b / a);
    }
}
