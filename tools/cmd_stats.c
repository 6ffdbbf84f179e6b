/* stats: what became of the calls of a flag, its arms side by side; without a flag a line for each one that books. */
#include "tools/outcome_view.h"
#include "tools/rollout_view.h"
#include "tools/view.h"
#include "tools/wait.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 9    /* eight arms and shadow */
#define EVIDENCE_MS 2000 /* to wait for what the server concludes */
struct stats {
    struct flagctl *ctl;
    const char *flag; /* NULL: all */
    bool has_table;
    struct flagshm_snapshot snapshot;
    cJSON *answer;   /* of the server */
    cJSON *rollouts; /* likewise, of the flag alone; NULL: it tells none */
};

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

    return text != NULL ? text : "";
}

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static bool is_true(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* ---- what a person should know ---- */

static void say(cJSON *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(cJSON *list, const char *format, ...)
{
    char text[700];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

/* Why nothing at all is recorded, or not everything. */
static void warn_of_host(const struct stats *s, cJSON *list)
{
    const char *fault = text_of(s->answer, "fault"), *slot_fault = text_of(s->answer, "slot_fault");

    if (!is_true(s->answer, "recording"))
        say(list,
            "nothing is recorded: %s; mend that, and the server goes on by itself within 5 s (flagctl "
            "doctor)",
            fault[0] != '\0' ? fault : "there is no outcome segment");
    if (slot_fault[0] != '\0')
        say(list, "%s; make room, then edit the flag or restart the server", slot_fault);
    if (number_of(s->answer, "slots_refused") > 0)
        say(list, "%.0f flags have no slot to book in: all %u are in use, or rest for an hour after an edit",
            number_of(s->answer, "slots_refused"), FLAGSHM_SLOTS);
}

static void warn_of_flag(const struct stats *s, const cJSON *flag, cJSON *list)
{
    const struct flagshm_snapshot_flag *served =
        s->has_table ? flagshm_snapshot_find(&s->snapshot, text_of(flag, "flag")) : NULL;
    bool is_session = served != NULL && (served->switches & FLAGSHM_SWITCH_SESSION) != 0;
    double per_id, ids;

    if (cJSON_IsFalse(member(flag, "readable")))
        say(list, "its outcomes cannot be read just now: the segment is about to be made anew");
    if (is_true(flag, "tainted"))
        say(list, "tainted: a counter ran back, or leapt: somebody of the clients' group wrote over these "
                  "figures; nothing is concluded from them until the flag's next edit");
    if (is_true(flag, "guarded") && cJSON_IsFalse(member(flag, "open")))
        say(list, "just begun: users and guardrails count when its wash-in is over");
    if (flagctl_is_request_id(flag, is_session, &per_id, &ids))
        say(list,
            "%.2f calls for each of %.0f ids: an id that never comes back is a request's, not a user's; pass "
            "the "
            "user's id to flagshm_decide",
            per_id, ids);
}

/* Why a flag of the table books nothing. */
static void why_text(const struct stats *s, const struct flagshm_snapshot_flag *flag, char *out, size_t room)
{
    char share[24];

    if (flag == NULL)
        (void)snprintf(out, room, "the table cannot be read, which would say why (flagctl doctor)");
    else if (s->snapshot.is_all_control)
        (void)snprintf(out, room, "everything is killed; to end it: flagctl unkill --all");
    else if ((flag->switches & FLAGSHM_SWITCH_KILLED) != 0)
        (void)snprintf(out, room, "it is killed; to end it: flagctl unkill %s", flag->name);
    else if ((flag->switches & FLAGSHM_SWITCH_ROLLED_BACK) != 0)
        (void)snprintf(out, room, "it is rolled back: everyone gets control");
    else if ((flag->switches & FLAGSHM_SWITCH_DISABLED) != 0)
        (void)snprintf(out, room, "it is disabled in the file (\"enabled\": false)");
    else if ((flag->switches & FLAGSHM_SWITCH_HASH) == 0)
        (void)snprintf(out, room, "it serves %s: everyone gets the same, and there is nothing to compare%s",
                       flagctl_share(flag->rollout_mpct, share),
                       flag->rollout_mpct == 0 ? " (a flag with a rollout plan serves 0 % until it begins)"
                                               : "");
    else if (!is_true(s->answer, "recording"))
        (void)snprintf(out, room, "nothing is recorded: %s", text_of(s->answer, "fault"));
    else if (number_of(s->answer, "slots_refused") > 0)
        (void)snprintf(out, room,
                       "all %u slots are in use, or rest for an hour after an edit; flags with "
                       "guardrails come first",
                       FLAGSHM_SLOTS);
    else
        (void)snprintf(out, room, "%s",
                       text_of(s->answer, "slot_fault")[0] != '\0' ? text_of(s->answer, "slot_fault")
                                                                   : "it has not got a slot yet");
}

/* ---- JSON ---- */

static void add_number(cJSON *object, const char *key, bool is_known, double number)
{
    char text[40];

    if (is_known && number < 1e18 && number == (double)(int64_t)number)
        (void)snprintf(text, sizeof text, "%.0f", number);
    else
        (void)snprintf(text, sizeof text, "%.6g", number);
    (void)cJSON_AddRawToObject(object, key, is_known ? text : "null");
}

static void add_interval(cJSON *object, const char *key, const char *figure, bool is_known,
                         struct flagctl_rate rate)
{
    cJSON *item;
    char name[48];

    (void)snprintf(name, sizeof name, "%s_rate", key);
    if (!is_known) {
        (void)cJSON_AddNullToObject(object, name);
        return;
    }
    item = cJSON_AddObjectToObject(object, name);
    add_number(item, figure, true, rate.rate);
    add_number(item, "low", true, rate.low);
    add_number(item, "high", true, rate.high);
}

/* The server's members, their numbers as whole ones, and what is derived. */
static cJSON *arm_json(const cJSON *arm)
{
    static const char *const derived[] = {"in_flight", "answered", "tokens_mean"};
    cJSON *object = cJSON_CreateObject();
    const cJSON *item;
    size_t i;

    for (item = arm->child; item != NULL; item = item->next) {
        if (cJSON_IsNumber(item))
            add_number(object, item->string, true, item->valuedouble);
        else
            (void)cJSON_AddItemToObject(object, item->string, cJSON_Duplicate(item, true));
    }
    for (i = 0; i < sizeof derived / sizeof *derived; i++) {
        double number;
        bool is_known = flagctl_arm_number(arm, derived[i], &number);

        add_number(object, derived[i], is_known, number);
    }
    for (i = 0; flagctl_metrics[i].label != NULL; i++) {
        struct flagctl_rate rate;

        if (flagctl_metrics[i].measure == FLAGCTL_SHARE)
            add_interval(object, flagctl_metrics[i].key, "rate",
                         flagctl_metric_rate(&flagctl_metrics[i], arm, &rate), rate);
    }
    return object;
}

static void add_ratio(cJSON *object, const struct flagctl_metric *metric, const cJSON *control,
                      const cJSON *variant)
{
    bool is_known;
    cJSON *inner;
    double a, b;

    is_known =
        flagctl_metric_value(metric, control, &a) && flagctl_metric_value(metric, variant, &b) && a > 0;
    if (metric->of == NULL) {
        add_number(object, metric->key, is_known, is_known ? b / a : 0);
        return;
    }
    inner = cJSON_GetObjectItemCaseSensitive(object, metric->key);
    if (inner == NULL)
        inner = cJSON_AddObjectToObject(object, metric->key);
    add_number(inner, metric->of, is_known, is_known ? b / a : 0);
}

static cJSON *difference_json(const cJSON *control, const cJSON *variant)
{
    cJSON *object = cJSON_CreateObject();
    const struct flagctl_metric *metric;

    for (metric = flagctl_metrics; metric->label != NULL; metric++) {
        struct flagctl_rate ours, theirs, d = {0, 0, 0};

        if (metric->measure == FLAGCTL_SHARE) {
            bool is_known =
                flagctl_metric_rate(metric, control, &ours) && flagctl_metric_rate(metric, variant, &theirs);
            if (is_known)
                d = flagctl_rate_difference(ours, theirs);
            add_interval(object, metric->key, "difference", is_known, d);
        } else if (metric->measure == FLAGCTL_TIME || metric->measure == FLAGCTL_AMOUNT) {
            add_ratio(object, metric, control, variant);
        }
    }
    return object;
}

static cJSON *flag_json(const struct stats *s, const cJSON *flag)
{
    cJSON *object = cJSON_CreateObject(), *arms;
    const cJSON *item, *theirs = member(flag, "arms");
    double ids = number_of(flag, "distinct_ids");

    for (item = flag->child; item != NULL; item = item->next) {
        if (cJSON_IsNumber(item))
            add_number(object, item->string, true, item->valuedouble);
        else if (!cJSON_IsArray(item) && !cJSON_IsObject(item))
            (void)cJSON_AddItemToObject(object, item->string, cJSON_Duplicate(item, true));
    }
    add_number(object, "calls_per_id", ids > 0, ids > 0 ? flagctl_flag_calls(flag) / ids : 0);
    (void)cJSON_AddNullToObject(object, "why");
    warn_of_flag(s, flag, cJSON_AddArrayToObject(object, "warnings"));
    arms = cJSON_AddArrayToObject(object, "arms");
    for (item = theirs != NULL ? theirs->child : NULL; item != NULL; item = item->next)
        (void)cJSON_AddItemToArray(arms, arm_json(item));
    item = member(flag, "shadow");
    (void)cJSON_AddItemToObject(object, "shadow", item != NULL ? arm_json(item) : cJSON_CreateNull());
    (void)cJSON_AddItemToObject(object, "difference",
                                cJSON_GetArraySize(theirs) == 2
                                    ? difference_json(theirs->child, theirs->child->next)
                                    : cJSON_CreateNull());
    flagctl_evidence_json(object, flagctl_rollout_find(s->rollouts, text_of(flag, "flag")));
    return object;
}

static cJSON *slotless_json(const struct stats *s)
{
    const struct flagshm_snapshot_flag *flag =
        s->has_table ? flagshm_snapshot_find(&s->snapshot, s->flag) : NULL;
    cJSON *object = cJSON_CreateObject();
    char why[600];

    why_text(s, flag, why, sizeof why);
    (void)cJSON_AddStringToObject(object, "flag", s->flag);
    if (flag != NULL) {
        struct flagctl_served served = flagctl_served(&s->snapshot, flag);

        (void)cJSON_AddStringToObject(object, "stage", served.stage);
        flagctl_json_share(object, "rollout_pct", served.mpct);
    }
    (void)cJSON_AddNullToObject(object, "slot");
    (void)cJSON_AddStringToObject(object, "why", why);
    (void)cJSON_AddArrayToObject(object, "warnings");
    (void)cJSON_AddArrayToObject(object, "arms");
    (void)cJSON_AddNullToObject(object, "shadow");
    (void)cJSON_AddNullToObject(object, "difference");
    flagctl_evidence_json(object, flagctl_rollout_find(s->rollouts, s->flag));
    return object;
}

static int stats_json(const struct stats *s)
{
    static const char *const numbers[] = {"quantile_error", "slots_used", "slots_refused"};
    cJSON *object = cJSON_CreateObject(), *list;
    const cJSON *flags = member(s->answer, "flags"), *flag;
    size_t i;

    (void)cJSON_AddBoolToObject(object, "recording", is_true(s->answer, "recording"));
    for (i = 0; i < sizeof numbers / sizeof *numbers; i++)
        add_number(object, numbers[i], true, number_of(s->answer, numbers[i]));
    warn_of_host(s, cJSON_AddArrayToObject(object, "warnings"));
    list = cJSON_AddArrayToObject(object, "flags");
    for (flag = flags != NULL ? flags->child : NULL; flag != NULL; flag = flag->next)
        (void)cJSON_AddItemToArray(list, flag_json(s, flag));
    if (s->flag != NULL && list->child == NULL)
        (void)cJSON_AddItemToArray(list, slotless_json(s));
    return flagctl_json(s->ctl, object);
}

/* ---- for people ---- */

static void warnings_print(const struct stats *s, cJSON *list)
{
    const cJSON *item;
    char clean[800];

    for (item = list->child; item != NULL; item = item->next) {
        (void)flagctl_clean(item->valuestring, clean, sizeof clean);
        if (s->ctl->is_colour)
            (void)fprintf(s->ctl->out, "\033[33m%s\033[0m\n", clean);
        else
            (void)fprintf(s->ctl->out, "%s\n", clean);
    }
    cJSON_Delete(list);
}

static bool is_shown(const struct flagctl_metric *metric, const cJSON *const *arms, int count)
{
    int i;

    if (!metric->is_optional)
        return true;
    for (i = 0; i < count; i++) {
        double value;

        if (metric->measure == FLAGCTL_SHARE || metric->measure == FLAGCTL_PLAIN_RATIO) {
            /* of checks: that any were done; of others: that there are any */
            const char *key = strstr(metric->of, "_checked") != NULL ? metric->of : metric->key;
            if (flagctl_arm_number(arms[i], key, &value) && value > 0)
                return true;
        } else if (flagctl_metric_value(metric, arms[i], &value)) {
            return true;
        }
    }
    return false;
}

static void metrics_print(const struct stats *s, const cJSON *const *arms, int count, bool has_difference)
{
    static char names[COLUMNS_MAX][40];
    const char *headings[COLUMNS_MAX + 4] = {"", ""}, *group = "";
    const struct flagctl_metric *metric;
    struct flagctl_table *table;
    char text[96];
    int i;

    for (i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof names[i], "%s", text_of(arms[i], "arm"));
        (void)flagctl_clean(names[i], text, sizeof text);
        (void)snprintf(names[i], sizeof names[i], "%.39s", text);
        headings[2 + i] = names[i];
    }
    headings[2 + count] = has_difference ? "difference" : NULL;
    table = flagctl_table_new(headings);
    flagctl_table_cell(table, FLAGCTL_BOLD, "model");
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", "");
    for (i = 0; i < count; i++)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s",
                           text_of(arms[i], "model")[0] != '\0' ? text_of(arms[i], "model") : "-");
    if (has_difference)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", "");
    for (metric = flagctl_metrics; metric->label != NULL; metric++) {
        bool is_clear = false;

        group = metric->group != NULL ? metric->group : group;
        if (!is_shown(metric, arms, count))
            continue;
        flagctl_table_cell(table, FLAGCTL_BOLD, "%s", group);
        group = "";
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", metric->label);
        for (i = 0; i < count; i++) {
            flagctl_metric_text(metric, arms[i], text, sizeof text);
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", text);
        }
        if (has_difference) {
            flagctl_metric_difference(metric, arms[0], arms[1], text, sizeof text, &is_clear);
            flagctl_table_cell(table, is_clear ? FLAGCTL_YELLOW : FLAGCTL_PLAIN, "%s", text);
        }
    }
    flagctl_table_print(s->ctl, table);
}

static void flag_print(const struct stats *s, const cJSON *flag)
{
    const cJSON *arms[COLUMNS_MAX], *list = member(flag, "arms"), *arm;
    double ids = number_of(flag, "distinct_ids"), error = number_of(s->answer, "quantile_error");
    char age[24], name[80];
    int count = 0;

    for (arm = list != NULL ? list->child : NULL; arm != NULL && count < COLUMNS_MAX - 1; arm = arm->next)
        arms[count++] = arm;
    if (member(flag, "shadow") != NULL)
        arms[count++] = member(flag, "shadow");
    if (s->ctl->has_header) {
        (void)fprintf(s->ctl->out, "%s: %s, %.6g %% served, since %s (%s)\n",
                      flagctl_clean(text_of(flag, "flag"), name, sizeof name), text_of(flag, "stage"),
                      number_of(flag, "rollout_pct"), text_of(flag, "since"),
                      flagctl_span((int64_t)(flagctl_flag_age_s(flag) * 1e9), age));
        (void)fprintf(s->ctl->out, "about %.0f ids (to 3 %%)", ids);
        if (ids > 0)
            (void)fprintf(s->ctl->out, ", %.2g calls each", flagctl_flag_calls(flag) / ids);
        (void)fprintf(s->ctl->out, "; slot %.0f of %u, generation %.0f\n\n", number_of(flag, "slot"),
                      FLAGSHM_SLOTS, number_of(flag, "generation"));
    }
    if (count > 0)
        metrics_print(s, arms, count, cJSON_GetArraySize(list) == 2);
    if (count > 0 && s->ctl->has_header)
        (void)fprintf(
            s->ctl->out,
            "\nintervals: 95 %%, as if each call were another user's; errors are of finished calls, checks "
            "of "
            "those that were checked;\n"
            "latency and tokens: of calls that succeeded, times of those that met no limit; percentiles "
            "are exact to +-%.4g %%,\ntheir ratios to +-%.2g %%\n",
            error * 100, ((1 + error) / (1 - error) - 1) * 100);
}

/* "1.2 %" of the arm, and "-" where it has no calls. */
static void error_cell(struct flagctl_table *table, const cJSON *arm)
{
    struct flagctl_rate rate;
    double failed = number_of(arm, "failed"), finished = number_of(arm, "finished");
    char text[24];

    if (flagctl_rate(failed, finished, &rate))
        flagctl_table_cell(table, failed > 0 ? FLAGCTL_RED : FLAGCTL_PLAIN, "%s",
                           flagctl_percent(rate.rate, text));
    else
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
}

static void time_cell(struct flagctl_table *table, const cJSON *arm, const char *percentile)
{
    const cJSON *latency = member(arm, "latency_ms");
    char text[24];

    if (number_of(latency, "count") > 0)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_ms(number_of(latency, percentile), text));
    else
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
}

/* Control, and all variants as the one that does worst. */
static void summary_row(struct flagctl_table *table, const cJSON *flag)
{
    const cJSON *control = cJSON_GetArrayItem(member(flag, "arms"), 0), *arm, *worst = NULL;
    double most = -1, ours = 0, theirs = 0;

    for (arm = control != NULL ? control->next : NULL; arm != NULL; arm = arm->next) {
        struct flagctl_rate rate = {0, 0, 0};

        (void)flagctl_rate(number_of(arm, "failed"), number_of(arm, "finished"), &rate);
        if (rate.rate > most) {
            most = rate.rate;
            worst = arm;
        }
        theirs += number_of(arm, "finished");
    }
    ours = number_of(control, "finished");
    flagctl_table_cell(table, is_true(flag, "tainted") ? FLAGCTL_RED : FLAGCTL_PLAIN, "%s%s",
                       text_of(flag, "flag"), is_true(flag, "tainted") ? " (tainted)" : "");
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%.6g %%", number_of(flag, "rollout_pct"));
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", text_of(flag, "stage"));
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%.0f / %.0f", ours, theirs);
    error_cell(table, control);
    error_cell(table, worst);
    time_cell(table, control, "p95");
    time_cell(table, worst, "p95");
    flagctl_table_cell(table, FLAGCTL_DIM, "%s", text_of(flag, "since"));
}

static void summary_print(const struct stats *s)
{
    static const char *const headings[] = {"FLAG",     ">SHARE", "STAGE",    ">CALLS", ">ERRORS",
                                           ">VARIANT", ">P95",   ">VARIANT", "SINCE",  NULL};
    const cJSON *flags = member(s->answer, "flags"), *flag = flags != NULL ? flags->child : NULL;
    struct flagctl_table *table;
    size_t used = (size_t)number_of(s->answer, "slots_used");

    if (flag != NULL) {
        table = flagctl_table_new(headings);
        for (; flag != NULL; flag = flag->next)
            summary_row(table, flag);
        flagctl_table_print(s->ctl, table);
    } else if (s->ctl->has_header) {
        (void)fprintf(s->ctl->out, "no flag books outcomes\n");
    }
    if (s->ctl->has_header) {
        (void)fprintf(s->ctl->out, "\n%zu of %u slots are in use", used, FLAGSHM_SLOTS);
        if (s->has_table && s->snapshot.count > used)
            (void)fprintf(s->ctl->out, "; %zu flag%s none: why, says flagctl stats FLAG",
                          s->snapshot.count - used, s->snapshot.count - used == 1 ? " has" : "s have");
        (void)fprintf(s->ctl->out, "\n");
    }
}

static void stats_print(const struct stats *s)
{
    const cJSON *flags = member(s->answer, "flags"), *flag = flags != NULL ? flags->child : NULL;
    cJSON *warnings = cJSON_CreateArray();
    char why[600], clean[700];

    warn_of_host(s, warnings);
    if (s->flag == NULL) {
        summary_print(s);
        for (; flag != NULL; flag = flag->next)
            if (is_true(flag, "tainted"))
                say(warnings, "%s is tainted: flagctl stats %s", text_of(flag, "flag"),
                    text_of(flag, "flag"));
    } else if (flag != NULL) {
        flag_print(s, flag);
        warn_of_flag(s, flag, warnings);
    } else {
        why_text(s, s->has_table ? flagshm_snapshot_find(&s->snapshot, s->flag) : NULL, why, sizeof why);
        (void)fprintf(s->ctl->out, "%s books no outcomes: %s\n", s->flag,
                      flagctl_clean(why, clean, sizeof clean));
    }
    if (s->flag != NULL)
        flagctl_evidence_print(s->ctl, flagctl_rollout_find(s->rollouts, s->flag));
    warnings_print(s, warnings);
}

static int stats_show(struct flagctl *ctl, void *context)
{
    struct stats s = {.ctl = ctl, .flag = context};
    struct flagshm_error error = {""};
    struct flagshm *client;
    cJSON *request;
    int code;

    s.has_table =
        flagctl_client(ctl, &client) == 0 && flagshm_snapshot_take(&s.snapshot, client, &error) == 0;
    if (s.flag != NULL && s.has_table && flagshm_snapshot_find(&s.snapshot, s.flag) == NULL) {
        code = flagctl_no_flag(ctl, &s.snapshot, s.flag);
        flagshm_snapshot_free(&s.snapshot);
        return code;
    }
    request = cJSON_CreateObject();
    if (s.flag != NULL)
        (void)cJSON_AddStringToObject(request, "flag", s.flag);
    code = flagctl_ask(ctl, "stats", request, false, &s.answer);
    if (code == FLAGCTL_OK)
        s.rollouts = flagctl_rollouts_peek(ctl, s.flag, EVIDENCE_MS);
    if (code == FLAGCTL_OK && ctl->is_json)
        code = stats_json(&s);
    else if (code == FLAGCTL_OK)
        stats_print(&s);
    cJSON_Delete(s.answer);
    cJSON_Delete(s.rollouts);
    if (s.has_table)
        flagshm_snapshot_free(&s.snapshot);
    return code;
}

static int stats_run(struct flagctl *ctl, int argc, char **argv)
{
    return flagctl_repeat(ctl, stats_show, argc > 0 ? argv[0] : NULL);
}

const struct flagctl_command flagctl_stats_command = {
    .name = "stats",
    .group = "Look",
    .arguments = "[FLAG]",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "what became of the calls: errors, latency, tokens, by arm",
    .help =
        "The arms side by side, from the memory where clients book their calls (flagshm_record), since the "
        "flag's last change that\n"
        "begins anew: of its share, arms, weights, salt or forced ids. Without FLAG a line for each flag "
        "that "
        "books: CALLS control /\n"
        "variants, then errors and latency of control and of the variant that fails most. With FLAG also "
        "what the server "
        "concludes: a\n"
        "sentence for each guardrail, and what has been ruled out.\n\n"
        "Exit codes: 0 (also where the flag books nothing: why is said), 4 no such flag, 5 no server.\n\n"
        "JSON: {\"recording\", \"quantile_error\", \"slots_used\", \"slots_refused\", \"warnings\": [TEXT], "
        "\"flags\": [{\"flag\", \"stage\",\n"
        "  \"rollout_pct\", \"slot\" (null: it books nothing, and \"why\"), \"generation\", \"since\", "
        "\"guarded\", \"open\", \"tainted\",\n"
        "  \"distinct_ids\", \"calls_per_id\", \"why\", \"warnings\", \"arms\": [ARM], \"shadow\": ARM or "
        "null, "
        "\"difference\", \"evidence\": null or\n"
        "  {\"text\", \"verdict\", \"guards\"}, as in flagctl status}]}\n"
        "ARM: {\"arm\", \"model\", \"users\", counts as numbers, \"in_flight\" (null: nobody says STARTED), "
        "\"answered\", \"custom\": [8],\n"
        "  \"tokens_mean\", KEY_rate: {\"rate\", \"low\", \"high\"} (0...1, 95 %) or null, \"latency_ms\", "
        "\"ttft_ms\", \"tokens\",\n"
        "  \"tokens_out\": {\"count\", \"p50\", \"p90\", \"p95\", \"p99\"}}; flagctl(1) has all keys. "
        "\"difference\", of two arms: KEY_rate:\n"
        "  {\"difference\", \"low\", \"high\"}, and ratios variant / control under the names of percentiles. "
        "With --watch one object a line",
    .max_arguments = 1,
    .run = stats_run,
    .can_watch = true,
};
