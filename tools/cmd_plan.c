/* plan: what a rollout will do and when, and how soon harm would be noticed on the way. */
#include "tools/rollout_view.h"
#include "tools/status_wait.h"
#include "tools/timetable.h"

#include "server/flagfile.h"
#include "server/rollout_zone.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define ALPHA_DEFAULT     0.01
#define BASE_RATE_DEFAULT 0.01
#define GUARDS_DEFAULT    4
#define NS                1e9

struct planning {
    struct flagctl *ctl;
    cJSON *rollout;
    struct timetable table;
    double calls_per_hour; /* 0: not known */
    bool is_traffic_given; /* by option */
    bool is_rate_given, is_rate_measured;
    const char *stopped; /* why it does not go on by itself; NULL: it does */
};

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static uint64_t wall_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- read ---- */

static int option_number(struct flagctl *ctl, const char *name, double min, double max, double *number)
{
    const char *text = flagctl_option(ctl, name);

    if (text == NULL || flagctl_number(text, min, max, number))
        return FLAGCTL_OK;
    return flagctl_fail(ctl, FLAGCTL_USAGE, "--%s is a number from %g to %g, got \"%.100s\"", name, min, max,
                        text);
}

/* Users are what counts; of calls alone each is taken for another user's. */
static int read_traffic(struct planning *p)
{
    const cJSON *traffic = member(p->rollout, "traffic"), *verdict = member(p->rollout, "verdict");
    double calls = 0, users = 0, per_user = flagctl_number_at(verdict, "calls_per_id");
    int code = option_number(p->ctl, "calls-per-hour", 0.001, 1e12, &calls);

    if (code == FLAGCTL_OK)
        code = option_number(p->ctl, "users-per-hour", 0.001, 1e12, &users);
    p->is_traffic_given = calls > 0 || users > 0;
    p->calls_per_hour = p->is_traffic_given ? calls : flagctl_number_at(traffic, "calls_per_hour");
    if (p->is_traffic_given && users <= 0)
        users = per_user > 1 ? calls / per_user : calls;
    p->table.users_per_hour = p->is_traffic_given ? users : flagctl_number_at(traffic, "users_per_hour");
    return code;
}

static const cJSON *error_guard(const cJSON *rollout)
{
    const cJSON *guards = member(rollout, "guards"), *guard;

    for (guard = guards != NULL ? guards->child : NULL; guard != NULL; guard = guard->next)
        if (strcmp(flagctl_text_at(guard, "kind"), "error_rate") == 0)
            return guard;
    return NULL;
}

static int read_rate(struct planning *p)
{
    double measured = flagctl_number_at(error_guard(p->rollout), "rate_control"), percent = 0;
    int code = option_number(p->ctl, "base-rate", 0.0001, 50, &percent);

    p->is_rate_given = percent > 0;
    p->is_rate_measured = !p->is_rate_given && measured > 0 && measured < 0.5;
    p->table.base_rate = p->is_rate_given      ? percent / 100
                         : p->is_rate_measured ? measured
                                               : BASE_RATE_DEFAULT;
    return code;
}

static void read_alpha(struct planning *p)
{
    const cJSON *guards = member(p->rollout, "guards"), *guard;
    double evidence = flagctl_number_at(p->rollout, "evidence"),
           alpha = flagctl_number_at(p->rollout, "alpha"),
           weight = flagctl_number_at(error_guard(p->rollout), "weight"), count = 0;

    for (guard = guards != NULL ? guards->child : NULL; guard != NULL; guard = guard->next)
        count += flagctl_is_at(guard, "rollback");
    p->table.guard_weight = weight > 0 ? weight : 1 / (count > 0 ? count : GUARDS_DEFAULT);
    p->table.evidence = evidence >= 1 && evidence < 1e6 && p->table.current >= 0 ? (uint64_t)evidence : 1;
    p->table.alpha = alpha > 0 && alpha < 1 ? alpha : ALPHA_DEFAULT;
}

static void read_steps(struct planning *p)
{
    const cJSON *plan = member(p->rollout, "plan"), *item;
    struct timetable *t = &p->table;

    for (item = plan != NULL ? plan->child : NULL; item != NULL && t->count < FLAGSHM_STEPS_MAX;
         item = item->next) {
        struct timetable_step *step = &t->steps[t->count++];

        step->is_shadow = flagctl_has_number(item, "shadow_pct");
        step->pct = flagctl_number_at(item, step->is_shadow ? "shadow_pct" : "pct");
        step->hold_s = flagctl_number_at(item, "hold_s");
        step->min_users = flagctl_number_at(item, "min_users");
        step->needs_approval = flagctl_is_at(item, "approval");
    }
}

static const char *stop_of(const cJSON *rollout, const cJSON *frozen)
{
    const char *state = flagctl_text_at(rollout, "state"), *mode = flagctl_text_at(rollout, "mode");

    if (strcmp(state, "killed") == 0 || flagctl_is_at(rollout, "killed"))
        return "it is killed, and stays so until flagctl unkill";
    if (strcmp(state, "rolled_back") == 0 || flagctl_is_at(rollout, "latched"))
        return "it is rolled back, and stays so until another variant is written, or flagctl clear";
    if (strcmp(state, "complete") == 0)
        return "it is complete: flagctl finish makes the variant the control";
    if (flagctl_is_at(rollout, "paused"))
        return "it is paused: the times are as if flagctl resume came now";
    if (cJSON_IsObject(frozen))
        return "all rollouts are frozen: the times are as if flagctl thaw came now";
    if (strcmp(mode, "auto") != 0 && mode[0] != '\0')
        return "its mode is not \"auto\": it rises by flagctl advance alone; the times are as if that came "
               "at once";
    return flagctl_rollout_waits_for(rollout, "file_cap")
               ? "the file's \"rollout_pct\" stands above it: the times are as if that were 100"
               : NULL;
}

static void read_state(struct planning *p, const cJSON *frozen)
{
    struct timetable *t = &p->table;
    const cJSON *window = member(p->rollout, "window");
    double step = flagctl_number_at(p->rollout, "step");
    const char *days = flagctl_text_at(window, "days"), *hours = flagctl_text_at(window, "hours");

    read_steps(p);
    t->current = step >= 1 && step <= t->count ? (int32_t)step - 1 : -1;
    t->left_s = flagctl_number_at(p->rollout, "hold_left_s");
    t->users = flagctl_number_at(p->rollout, "users");
    t->is_at_top = strcmp(flagctl_text_at(p->rollout, "state"), "full") == 0;
    t->watch_s = flagctl_number_at(p->rollout, "watch_s");
    t->now_wall_ns = wall_ns();
    t->local_time = flagshm_zone_local;
    if (cJSON_IsObject(window) &&
        !timetable_window(&t->window, flagctl_text_at(window, "tz"), days[0] != '\0' ? days : NULL,
                          hours[0] != '\0' ? hours : NULL))
        flagctl_warn(p->ctl, "the plan's window cannot be read here: the times are as if there were none");
    p->stopped = stop_of(p->rollout, frozen);
}

/* ---- shown ---- */

static bool has_no_times(const struct planning *p)
{
    const char *state = flagctl_text_at(p->rollout, "state");

    return strcmp(state, "killed") == 0 || strcmp(state, "rolled_back") == 0 ||
           strcmp(state, "complete") == 0;
}

/* RFC 3339 to the second. Returns `out`. */
static char *moment(const struct planning *p, double from_now_s, char out[40])
{
    char *dot;

    (void)flagctl_time(p->table.now_wall_ns + (uint64_t)(from_now_s * NS), out);
    dot = strchr(out, '.');
    if (dot != NULL)
        (void)memcpy(dot, "Z", 2);
    return out;
}

static const char *standing(const struct planning *p, uint32_t i)
{
    if (strcmp(flagctl_text_at(p->rollout, "state"), "complete") == 0)
        return "done";
    return (int32_t)i < p->table.current ? "done" : (int32_t)i == p->table.current ? "now" : "to come";
}

static void time_cells(const struct planning *p, struct flagctl_table *table, double at_s)
{
    char text[40];

    if (at_s < 0 || has_no_times(p)) {
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
        return;
    }
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", moment(p, at_s, text));
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", at_s < 1 ? "now" : flagctl_seconds_text(at_s, text));
}

static void notice_cells(struct flagctl_table *table, const struct timetable_step *step)
{
    char text[32];

    if (isfinite(step->notice_users))
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%.0f", ceil(step->notice_users));
    else
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
    if (isfinite(step->notice_s))
        flagctl_table_cell(table, step->notice_s <= step->hold_s ? FLAGCTL_GREEN : FLAGCTL_YELLOW, "%s",
                           step->notice_s < 1 ? "1s" : flagctl_seconds_text(ceil(step->notice_s), text));
    else
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
}

static void step_row(const struct planning *p, struct flagctl_table *table, uint32_t i)
{
    const struct timetable_step *step = &p->table.steps[i];
    const char *stand = standing(p, i);
    bool is_current = strcmp(stand, "now") == 0, is_done = strcmp(stand, "done") == 0;
    char text[32];

    flagctl_table_cell(table, is_current ? FLAGCTL_BOLD : is_done ? FLAGCTL_DIM : FLAGCTL_PLAIN, "%u", i + 1);
    flagctl_table_cell(table, is_current ? FLAGCTL_BOLD : FLAGCTL_PLAIN,
                       step->is_shadow ? "shadow %.6g %%" : "%.6g %%", step->pct);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s",
                       i + 1 == p->table.count ? "-" : flagctl_seconds_text(step->hold_s, text));
    if (step->min_users > 0 && i + 1 != p->table.count)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%.0f", step->min_users);
    else
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
    if (is_current || is_done) {
        flagctl_table_cell(table, is_current ? FLAGCTL_BOLD : FLAGCTL_DIM, "%s", stand);
        if (is_current && p->table.left_s > 0 && !has_no_times(p))
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%s left", flagctl_seconds_text(p->table.left_s, text));
        else
            flagctl_table_cell(table, FLAGCTL_DIM, "-");
    } else {
        time_cells(p, table, step->begins_s);
    }
    notice_cells(table, step);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s%s%s", step->needs_approval ? "approval" : "",
                       step->needs_approval && step->users_short > 0 ? ", " : "",
                       step->users_short > 0 ? "users come slowly" : "");
}

static void foot_print(const struct planning *p)
{
    const struct timetable *t = &p->table;
    const cJSON *window = member(p->rollout, "window");
    char text[600], clean[620], watch[32], amount[64];

    if (t->users_per_hour > 0)
        (void)snprintf(amount, sizeof amount, "%.*f users an hour (%s)", t->users_per_hour < 10,
                       t->users_per_hour, p->is_traffic_given ? "as given" : "measured in its slot");
    else
        (void)snprintf(amount, sizeof amount, "traffic not known");
    (void)fprintf(
        p->ctl->out,
        "\n2X: users of the variant until a doubling of errors is noticed (half of all tries), and the time "
        "that takes:\n"
        "%s, %.3g %% of control's users with an error (%s), alpha %.3g; each user counted once, so heavy "
        "use is noticed sooner\n",
        amount, t->base_rate * 100,
        p->is_rate_given      ? "as given"
        : p->is_rate_measured ? "measured"
                              : "assumed: --base-rate",
        t->alpha);
    if (t->users_per_hour <= 0)
        (void)fprintf(p->ctl->out,
                      "say it, and the time is worked out: --users-per-hour N, or --calls-per-hour N\n");
    if (t->watch_s > 0)
        (void)fprintf(p->ctl->out, "at the top it is watched for %s\n",
                      flagctl_seconds_text(t->watch_s, watch));
    if (cJSON_IsObject(window)) {
        (void)snprintf(
            text, sizeof text, "the share rises only on %.40s, %.20s, %.70s",
            flagctl_text_at(window, "days")[0] != '\0' ? flagctl_text_at(window, "days") : "every day",
            flagctl_text_at(window, "hours")[0] != '\0' ? flagctl_text_at(window, "hours") : "all day",
            flagctl_text_at(window, "tz"));
        (void)fprintf(p->ctl->out, "%s\n", flagctl_clean(text, clean, sizeof clean));
    }
}

static void plan_print(const struct planning *p)
{
    static const char *const headings[] = {">STEP", ">SHARE",    ">HOLD",  ">MIN USERS", "AT THE EARLIEST",
                                           ">IN",   ">2X USERS", ">2X IN", "NEEDS",      NULL};
    struct flagctl_table *table = flagctl_table_new(headings);
    char line[256];
    uint32_t i;
    int k;

    if (p->ctl->has_header)
        (void)fprintf(p->ctl->out, "%s: %s\n\n", flagctl_text_at(p->rollout, "flag"),
                      flagctl_rollout_line(p->rollout, line, sizeof line));
    for (i = 0; i < p->table.count; i++)
        step_row(p, table, i);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", "");
    flagctl_table_cell(table, FLAGCTL_PLAIN, "complete");
    for (k = 0; k < 2; k++)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", "");
    time_cells(p, table, p->table.completes_s);
    for (k = 0; k < 3; k++)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", "");
    flagctl_table_print(p->ctl, table);
    if (p->ctl->has_header)
        foot_print(p);
    if (p->stopped != NULL && p->ctl->is_colour)
        (void)fprintf(p->ctl->out, "\033[33m%s\033[0m\n", p->stopped);
    else if (p->stopped != NULL)
        (void)fprintf(p->ctl->out, "%s\n", p->stopped);
}

/* ---- JSON ---- */

static void add_time(const struct planning *p, cJSON *object, const char *key, double at_s)
{
    char text[40];

    if (at_s < 0 || has_no_times(p))
        (void)cJSON_AddNullToObject(object, key);
    else
        (void)cJSON_AddStringToObject(object, key, moment(p, at_s, text));
}

static void add_figure(cJSON *object, const char *key, double figure)
{
    char text[40];

    if (!isfinite(figure) || figure <= 0) {
        (void)cJSON_AddNullToObject(object, key);
        return;
    }
    (void)snprintf(text, sizeof text, "%.6g", figure);
    (void)cJSON_AddRawToObject(object, key, text);
}

static cJSON *step_json(const struct planning *p, uint32_t i)
{
    const struct timetable_step *step = &p->table.steps[i];
    cJSON *object = cJSON_CreateObject();
    bool is_ahead = strcmp(standing(p, i), "to come") == 0;

    (void)cJSON_AddNumberToObject(object, "step", i + 1);
    (void)cJSON_AddNumberToObject(object, step->is_shadow ? "shadow_pct" : "pct", step->pct);
    (void)cJSON_AddStringToObject(object, "state", is_ahead ? "to_come" : standing(p, i));
    (void)cJSON_AddNumberToObject(object, "hold_s", step->hold_s);
    (void)cJSON_AddNumberToObject(object, "min_users", step->min_users);
    (void)cJSON_AddBoolToObject(object, "approval", step->needs_approval);
    add_time(p, object, "earliest", is_ahead ? step->begins_s : TIMETABLE_NEVER);
    add_figure(object, "in_s",
               is_ahead && step->begins_s >= 0 && !has_no_times(p) ? step->begins_s : INFINITY);
    add_figure(object, "notice_2x_users", isfinite(step->notice_users) ? ceil(step->notice_users) : INFINITY);
    add_figure(object, "notice_2x_hours", step->notice_s / 3600);
    return object;
}

static int plan_json(const struct planning *p)
{
    cJSON *object = cJSON_CreateObject(), *steps, *item;
    uint32_t i;

    (void)cJSON_AddStringToObject(object, "flag", flagctl_text_at(p->rollout, "flag"));
    (void)cJSON_AddStringToObject(object, "stage", flagctl_text_at(p->rollout, "stage"));
    (void)cJSON_AddStringToObject(object, "state", flagctl_text_at(p->rollout, "state"));
    (void)cJSON_AddStringToObject(object, "mode", flagctl_text_at(p->rollout, "mode"));
    item = cJSON_AddObjectToObject(object, "traffic");
    (void)cJSON_AddStringToObject(item, "source",
                                  p->is_traffic_given           ? "given"
                                  : p->table.users_per_hour > 0 ? "measured"
                                                                : "unknown");
    add_figure(item, "calls_per_hour", p->calls_per_hour);
    add_figure(item, "users_per_hour", p->table.users_per_hour);
    item = cJSON_AddObjectToObject(object, "base_rate");
    (void)cJSON_AddStringToObject(item, "source",
                                  p->is_rate_given      ? "given"
                                  : p->is_rate_measured ? "measured"
                                                        : "assumed");
    add_figure(item, "rate", p->table.base_rate);
    add_figure(object, "alpha", p->table.alpha);
    steps = cJSON_AddArrayToObject(object, "steps");
    for (i = 0; i < p->table.count; i++)
        (void)cJSON_AddItemToArray(steps, step_json(p, i));
    add_time(p, object, "complete", p->table.completes_s);
    (void)cJSON_AddNumberToObject(object, "watch_s", p->table.watch_s);
    (void)cJSON_AddItemToObject(object, "window",
                                cJSON_IsObject(member(p->rollout, "window"))
                                    ? cJSON_Duplicate(member(p->rollout, "window"), true)
                                    : cJSON_CreateNull());
    if (p->stopped != NULL)
        (void)cJSON_AddStringToObject(object, "stopped", p->stopped);
    else
        (void)cJSON_AddNullToObject(object, "stopped");
    return flagctl_json(p->ctl, object);
}

static int plan_run(struct flagctl *ctl, int argc, char **argv)
{
    struct planning p = {.ctl = ctl};
    cJSON *answer = NULL;
    int code;

    (void)argc;
    if (!flagshm_is_flag_name(argv[0], strlen(argv[0])))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\": that can be no flag's name",
                            argv[0]);
    code = read_traffic(&p); /* what is wrong with the line is said before anybody is asked */
    if (code == FLAGCTL_OK)
        code = read_rate(&p);
    if (code == FLAGCTL_OK)
        code = flagctl_rollouts_ask(ctl, argv[0], false, &answer);
    if (code != FLAGCTL_OK)
        return code;
    p.rollout = cJSON_Duplicate(flagctl_rollout_find(answer, argv[0]), true);
    if (!flagctl_is_at(p.rollout, "planned") || cJSON_GetArraySize(member(p.rollout, "plan")) == 0) {
        code = flagctl_fail(
            ctl, FLAGCTL_FAILED,
            "%s has no plan: its share is the file's. Give it one: \"rollout\": {\"plan\": \"b2b\"}",
            argv[0]);
    } else {
        read_state(&p, member(answer, "frozen"));
        (void)read_traffic(&p);
        (void)read_rate(&p);
        read_alpha(&p);
        timetable_fill(&p.table);
        if (ctl->is_json)
            code = plan_json(&p);
        else
            plan_print(&p);
    }
    cJSON_Delete(p.rollout);
    cJSON_Delete(answer);
    return code;
}

static const struct flagctl_option options[] = {
    {"users-per-hour", 'u', "N", FLAGCTL_NUMBER,
     "users of both arms that come in an hour (as measured in its slot)"},
    {"calls-per-hour", 'c', "N", FLAGCTL_NUMBER, "calls in an hour, where users are not known"},
    {"base-rate", 'b', "PCT", FLAGCTL_NUMBER,
     "control's users with an error, in percent (as measured, or 1)"},
    {0},
};

const struct flagctl_command flagctl_plan_command = {
    .name = "plan",
    .group = "Look",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "what a rollout will do and when, and how soon harm would be noticed",
    .help = "A line for each step of the plan: when it comes at the earliest (holds, the hours of the "
            "window, users that "
            "come slowly), and\n"
            "how many users of the variant, and how much time, it takes until a doubling of errors is "
            "noticed there: "
            "green where that is\n"
            "less than the step is held. Traffic and control's errors are those measured; before a rollout "
            "starts say "
            "them: --users-per-hour,\n"
            "--base-rate. Of --calls-per-hour alone each call is taken for another user's.\n\n"
            "Exit codes: 0, 1 it has no plan, 4 no such flag, 5 no server.\n\n"
            "JSON: {\"flag\", \"stage\", \"state\", \"mode\", \"traffic\": {\"source\": "
            "\"measured\"|\"given\"|\"unknown\", "
            "\"calls_per_hour\",\n"
            "  \"users_per_hour\"}, \"base_rate\": {\"source\": \"measured\"|\"given\"|\"assumed\", \"rate\" "
            "(0...1)}, "
            "\"alpha\", \"steps\": [{\"step\",\n"
            "  \"pct\" or \"shadow_pct\", \"state\": \"done\"|\"now\"|\"to_come\", \"hold_s\", "
            "\"min_users\", \"approval\", "
            "\"earliest\", \"in_s\",\n"
            "  \"notice_2x_users\", \"notice_2x_hours\"}], \"complete\", \"watch_s\", \"window\", "
            "\"stopped\" (why it does not go "
            "on, or null)};\n"
            "  null where it is not known",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = plan_run,
};
