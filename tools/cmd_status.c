/* status: how the server is and how its rollouts go; of one flag, what it waits for, and why it is where it is. */
#include "tools/status_wait.h"
#include "tools/wait.h"

#include "server/flagfile.h"
#include "server/rollout.h"

#include <string.h>
#include <time.h>

/* ---- all ---- */

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* "a, b, c" of a list of names. */
static void names_text(const cJSON *list, char *out, size_t room)
{
    const cJSON *item;
    size_t used = 0;

    out[0] = '\0';
    for (item = list != NULL ? list->child : NULL; item != NULL && used + 1 < room; item = item->next) {
        int length = snprintf(out + used, room - used, "%s%s", used != 0 ? ", " : "",
                              cJSON_IsString(item) ? item->valuestring : "?");
        used += length > 0 ? (size_t)length : 0;
    }
}

static void file_line(struct flagctl *ctl, const cJSON *server)
{
    const char *state = flagctl_text_at(server, "file_state"), *refusal = flagctl_text_at(server, "refusal");
    char text[2400];

    (void)snprintf(text, sizeof text, "%.2000s: %s%s%.300s", flagctl_text_at(server, "file"),
                   strcmp(state, "good") == 0 ? "good" : state, refusal[0] != '\0' ? ": " : "", refusal);
    flagctl_line_print(ctl, "file", text);
}

static void flags_line(struct flagctl *ctl, const cJSON *server)
{
    char text[240];
    size_t used = (size_t)snprintf(text, sizeof text, "%.0f", flagctl_number_at(server, "flags"));

    if (flagctl_number_at(server, "kept") > 0)
        used += (size_t)snprintf(text + used, sizeof text - used, ", %.0f in their last good form",
                                 flagctl_number_at(server, "kept"));
    if (flagctl_number_at(server, "absent") > 0)
        (void)snprintf(text + used, sizeof text - used,
                       ", %.0f left out: they are wrong, and never were right",
                       flagctl_number_at(server, "absent"));
    flagctl_line_print(ctl, "flags", text);
}

/* The server's words but for the rollouts: what hinders is said, what is well is not. */
static void server_print(struct flagctl *ctl, const cJSON *server, const cJSON *answer)
{
    const cJSON *frozen = member(answer, "frozen");
    char text[1200];

    (void)fprintf(ctl->out, "%s: flagshmd %s, pid %.0f, since %s; version %.0f, file_rev %.0f\n",
                  ctl->instance.name, flagctl_text_at(server, "release"), flagctl_number_at(server, "pid"),
                  flagctl_text_at(server, "started"), flagctl_number_at(server, "version"),
                  flagctl_number_at(server, "file_rev"));
    file_line(ctl, server);
    flags_line(ctl, server);
    if (flagctl_is_at(server, "all_control"))
        flagctl_line_print(ctl, "killed", "everything: every flag gives control: flagctl unkill --all");
    names_text(member(server, "kills"), text, sizeof text);
    if (text[0] != '\0')
        flagctl_line_print(ctl, "killed", text);
    names_text(member(server, "deletions_held"), text, sizeof text);
    if (text[0] != '\0')
        flagctl_line_print(ctl, "held back", text);
    if (flagctl_text_at(server, "journal")[0] != '\0')
        flagctl_line_print(ctl, "journal", flagctl_text_at(server, "journal"));
    if (cJSON_IsObject(frozen)) {
        (void)snprintf(text, sizeof text, "by %.64s since %.40s: %.600s: no share rises until flagctl thaw",
                       flagctl_text_at(frozen, "by"), flagctl_text_at(frozen, "since"),
                       flagctl_text_at(frozen, "reason"));
        flagctl_line_print(ctl, "frozen", text);
    }
}

static void rollouts_print(struct flagctl *ctl, const cJSON *answer)
{
    static const char *const headings[] = {"FLAG",  ">SHARE", "STAGE",    ">STEP", "GUARD",
                                           "WAITS", "LEFT",   "WARNINGS", NULL};
    const cJSON *list = member(answer, "rollouts"), *rollout;
    struct flagctl_table *table = flagctl_table_new(headings);
    time_t now = time(NULL);
    size_t count = 0;

    for (rollout = list != NULL ? list->child : NULL; rollout != NULL; rollout = rollout->next) {
        char text[200];

        if (!flagctl_rollout_is_one(rollout))
            continue;
        count++;
        flagctl_table_cell(table, FLAGCTL_BOLD, "%s", flagctl_text_at(rollout, "flag"));
        flagctl_table_cell(table, flagctl_rollout_hue(rollout), "%s", flagctl_rollout_share(rollout, text));
        flagctl_table_cell(table, flagctl_rollout_hue(rollout), "%s", flagctl_text_at(rollout, "stage"));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_step_text(rollout, text));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_guard_word(rollout, false));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_waits_text(rollout, text, sizeof text));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_left_text(rollout, text));
        flagctl_table_cell(table, FLAGCTL_YELLOW, "%s",
                           flagctl_warning_words(rollout, now, text, sizeof text));
    }
    if (count != 0 && ctl->has_header)
        (void)fputc('\n', ctl->out);
    if (count == 0 && ctl->has_header)
        flagctl_line_print(ctl, "rollouts", "none");
    if (count != 0)
        flagctl_table_print(ctl, table);
    else
        flagctl_table_drop(table);
}

static int all_show(struct flagctl *ctl)
{
    cJSON *server = NULL, *answer, *json;
    int code = flagctl_ask(ctl, "status", NULL, false, &server);

    if (code != FLAGCTL_OK)
        return code;
    answer = flagctl_rollouts_peek(ctl, NULL, 5000);
    if (!ctl->is_json) {
        if (ctl->has_header)
            server_print(ctl, server, answer);
        if (answer != NULL)
            rollouts_print(ctl, answer);
        else if (ctl->has_header)
            flagctl_line_print(ctl, "rollouts",
                               "this server knows none: restart it with the release of this flagctl");
        cJSON_Delete(server);
        cJSON_Delete(answer);
        return FLAGCTL_OK;
    }
    json = cJSON_CreateObject();
    flagctl_json_whole(server);
    flagctl_json_whole(answer);
    cJSON_DeleteItemFromObjectCaseSensitive(server, "ok");
    (void)cJSON_AddItemToObject(json, "server", server);
    (void)cJSON_AddItemToObject(json, "frozen",
                                member(answer, "frozen") != NULL
                                    ? cJSON_DetachItemFromObjectCaseSensitive(answer, "frozen")
                                    : cJSON_CreateNull());
    (void)cJSON_AddItemToObject(json, "rollouts",
                                member(answer, "rollouts") != NULL
                                    ? cJSON_DetachItemFromObjectCaseSensitive(answer, "rollouts")
                                    : cJSON_CreateNull());
    cJSON_Delete(answer);
    return flagctl_json(ctl, json);
}

/* ---- one ---- */

static void held_line(struct flagctl *ctl, const cJSON *rollout)
{
    char held[32], hold[32], left[32], text[160];

    if (!flagctl_has_number(rollout, "hold_s") || flagctl_number_at(rollout, "hold_s") <= 0)
        return;
    (void)snprintf(text, sizeof text, "%s of %s, %s to go",
                   flagctl_seconds_text(flagctl_number_at(rollout, "held_s"), held),
                   flagctl_seconds_text(flagctl_number_at(rollout, "hold_s"), hold),
                   flagctl_seconds_text(flagctl_number_at(rollout, "hold_left_s"), left));
    flagctl_line_print(ctl, "held", text);
}

static void users_line(struct flagctl *ctl, const cJSON *rollout)
{
    bool is_shadow = strcmp(flagctl_text_at(rollout, "state"), "shadow") == 0;
    char text[96];

    if (!flagctl_has_number(rollout, "users") ||
        (flagctl_number_at(rollout, "users") <= 0 && flagctl_number_at(rollout, "min_users") <= 0))
        return;
    (void)snprintf(text, sizeof text, "%.0f %s, %.0f wanted", flagctl_number_at(rollout, "users"),
                   is_shadow ? "shadow pairs" : "of the variant", flagctl_number_at(rollout, "min_users"));
    flagctl_line_print(ctl, is_shadow ? "pairs" : "users", text);
}

static void next_line(struct flagctl *ctl, const cJSON *rollout)
{
    char text[64];

    if (flagctl_has_number(rollout, "next_shadow_pct"))
        (void)snprintf(text, sizeof text, "shadow %.6g %%", flagctl_number_at(rollout, "next_shadow_pct"));
    else if (flagctl_has_number(rollout, "next_pct"))
        (void)snprintf(text, sizeof text, "%.6g %%", flagctl_number_at(rollout, "next_pct"));
    else
        return;
    flagctl_line_print(ctl, "next", text);
}

static void guard_line(struct flagctl *ctl, const cJSON *rollout)
{
    const char *word = flagctl_guard_word(rollout, false);
    char text[160], left[32];

    if (strcmp(word, "on") == 0)
        (void)snprintf(text, sizeof text, "on, slot %.0f", flagctl_number_at(rollout, "slot"));
    else if (strcmp(word, "wait") == 0 && flagctl_has_number(rollout, "slot"))
        (void)snprintf(text, sizeof text, "in %s: until then users do not count, only a total failure does",
                       flagctl_seconds_text(flagctl_number_at(rollout, "wash_in_left_s"), left));
    else if (strcmp(word, "wait") == 0)
        (void)snprintf(text, sizeof text, "not yet: it has no slot to count in (flagctl doctor)");
    else
        (void)snprintf(text, sizeof text, "%s",
                       word[0] == 'o' ? "off: its \"guardrails\" are empty" : "nothing to compare");
    flagctl_line_print(ctl, "guarded", text);
}

static void drill_line(struct flagctl *ctl, const cJSON *rollout)
{
    const char *when = flagctl_text_at(rollout, "drilled");
    char text[160];

    if (when[0] == '\0')
        (void)snprintf(text, sizeof text, "never");
    else if (flagctl_is_at(rollout, "drill_failed"))
        (void)snprintf(text, sizeof text, "%.40s, and it failed", when);
    else if (flagctl_has_number(rollout, "drill_ms"))
        (void)snprintf(text, sizeof text, "%.40s, back in %.3g ms", when,
                       flagctl_number_at(rollout, "drill_ms"));
    else
        (void)snprintf(text, sizeof text, "%.40s", when);
    flagctl_line_print(ctl, "drilled", text);
}

/* What it waits for, each with the command that ends it; waived ones behind. */
static void waits_print(struct flagctl *ctl, const cJSON *rollout)
{
    const cJSON *waits = member(rollout, "waits"), *wait;
    char text[900], names[200];
    bool is_first = true;

    for (wait = waits != NULL ? waits->child : NULL; wait != NULL; wait = wait->next) {
        const char *reason = flagctl_text_at(wait, "reason");

        (void)snprintf(text, sizeof text, "%-*.24s %s", 14, reason, flagctl_text_at(wait, "text"));
        flagctl_line_print(ctl, is_first ? "waits for" : "", text);
        is_first = false;
    }
    names_text(member(rollout, "waived"), names, sizeof names);
    if (names[0] != '\0')
        flagctl_line_print(ctl, "waived", names);
}

static void mode_line(struct flagctl *ctl, const cJSON *rollout)
{
    const char *mode = flagctl_text_at(rollout, "mode");

    if (strcmp(mode, "auto") == 0 || mode[0] == '\0')
        return;
    flagctl_line_print(ctl, "mode",
                       strcmp(mode, "guard") == 0     ? "guard: the share is only ever lowered"
                       : strcmp(mode, "observe") == 0 ? "observe: it is judged, and nothing is done"
                                                      : mode);
}

static void head_print(struct flagctl *ctl, const cJSON *rollout)
{
    enum flagctl_hue hue = flagctl_rollout_hue(rollout);
    const char *colour = hue == FLAGCTL_RED      ? "\033[31m"
                         : hue == FLAGCTL_YELLOW ? "\033[33m"
                         : hue == FLAGCTL_GREEN  ? "\033[32m"
                                                 : "\033[1m";
    char share[32], line[256], clean[256], step[48] = "";

    if (flagctl_number_at(rollout, "step") > 0)
        (void)snprintf(step, sizeof step, ", step %.0f of %.0f", flagctl_number_at(rollout, "step"),
                       flagctl_number_at(rollout, "steps"));
    (void)snprintf(line, sizeof line, "%.64s: %.32s, %s%s%s%.40s", flagctl_text_at(rollout, "flag"),
                   flagctl_text_at(rollout, "stage"), flagctl_rollout_share(rollout, share), step,
                   flagctl_text_at(rollout, "since")[0] != '\0' ? ", since " : "",
                   flagctl_text_at(rollout, "since"));
    (void)flagctl_clean(line, clean, sizeof clean);
    (void)fprintf(ctl->out, "%s%s%s\n", ctl->is_colour ? colour : "", clean, ctl->is_colour ? "\033[0m" : "");
}

static void one_print(struct flagctl *ctl, const cJSON *rollout)
{
    cJSON *warnings = cJSON_CreateArray();

    head_print(ctl, rollout);
    if (flagctl_text_at(rollout, "why")[0] != '\0')
        flagctl_line_print(ctl, "why", flagctl_text_at(rollout, "why"));
    mode_line(ctl, rollout);
    held_line(ctl, rollout);
    users_line(ctl, rollout);
    next_line(ctl, rollout);
    waits_print(ctl, rollout);
    guard_line(ctl, rollout);
    drill_line(ctl, rollout);
    if (flagctl_text_at(rollout, "evidence_text")[0] != '\0')
        flagctl_line_print(ctl, "evidence", flagctl_text_at(rollout, "evidence_text"));
    if (cJSON_GetArraySize(member(rollout, "guards")) > 0) {
        (void)fputc('\n', ctl->out);
        flagctl_guards_print(ctl, rollout);
    }
    flagctl_warning_sentences(rollout, false, warnings);
    if (warnings->child != NULL)
        (void)fputc('\n', ctl->out);
    flagctl_sentences_print(ctl, warnings);
}

/* Prints one rollout; takes it over. `outcome`: of --wait, or NULL. */
static int one_show(struct flagctl *ctl, cJSON *rollout, const char *outcome)
{
    if (ctl->is_json) {
        flagctl_json_whole(rollout);
        if (outcome != NULL)
            (void)cJSON_AddStringToObject(rollout, "outcome", outcome);
        return flagctl_json(ctl, rollout);
    }
    one_print(ctl, rollout);
    cJSON_Delete(rollout);
    return FLAGCTL_OK;
}

static int status_show(struct flagctl *ctl, void *context)
{
    cJSON *rollout;
    int code;

    if (context == NULL)
        return all_show(ctl);
    code = flagctl_rollout_take(ctl, context, false, &rollout);
    return code == FLAGCTL_OK ? one_show(ctl, rollout, NULL) : code;
}

static int status_run(struct flagctl *ctl, int argc, char **argv)
{
    const char *timeout = flagctl_option(ctl, "timeout"), *flag = argc > 0 ? argv[0] : NULL;
    bool waits = flagctl_option(ctl, "wait") != NULL;
    double seconds = 0;
    cJSON *rollout = NULL;
    int code, printed;

    if (flag != NULL && !flagshm_is_flag_name(flag, strlen(flag)))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\": that can be no flag's name",
                            flag);
    if (timeout != NULL && !waits)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--timeout goes with --wait");
    if (timeout != NULL && !flagctl_duration(timeout, &seconds))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--timeout is a time such as 90, 30m or 12h, got \"%.100s\"",
                            timeout);
    if (!waits)
        return flagctl_repeat(ctl, status_show, argc > 0 ? argv[0] : NULL);
    if (flag == NULL)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--wait needs a flag: flagctl status FLAG --wait");
    if (ctl->watch_seconds > 0)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--wait and --watch do not go together");
    code = flagctl_status_wait(ctl, flag, timeout != NULL ? seconds : -1, &rollout);
    if (rollout == NULL)
        return code;
    printed = one_show(ctl, rollout, flagctl_status_outcome(code));
    return printed != FLAGCTL_OK ? printed : code;
}

static const struct flagctl_option options[] = {
    {"wait", 'w', NULL, FLAGCTL_NOTHING, "wait until it is decided; the exit code is the verdict"},
    {"timeout", 't', "TIME", FLAGCTL_WORD,
     "of --wait: at most so long; seconds, or with a unit: 90, 30m, 12h (without end)"},
    {0},
};

const struct flagctl_command flagctl_status_command = {
    .name = "status",
    .group = "Look",
    .arguments = "[FLAG]",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "how the server and its rollouts are; what one rollout waits for, and why it is where it is",
    .help =
        "Without FLAG the server, and a line for each rollout. With FLAG its stage, share and step; how long "
        "it "
        "is held; what it waits\n"
        "for, each with the command that ends it; the evidence, the guardrails one by one, and warnings.\n\n"
        "--wait, for pipelines: asks each second until it is decided, then prints the status. Exit codes: 0 "
        "done "
        "(complete, or at the\n"
        "plan's last step); 3 rolled back or killed; 8 timed out; 9 a person must do something (approval, "
        "paused, mode, file_cap,\n"
        "freeze). A server that restarts is waited for, at most 30 s. Ctrl-C ends with 1.\n\n"
        "Else: 0, 4 no such flag, 5 no server.\n\n"
        "JSON without FLAG: {\"server\": {\"release\", \"pid\", \"started\", \"version\", \"file\", "
        "\"file_rev\", \"file_state\", \"faults\", \"refusal\",\n"
        "  \"flags\", \"kept\", \"absent\", \"lowered\", \"kills\", \"all_control\", \"deletions_held\", "
        "\"watch\", "
        "\"journal\"}, \"frozen\": null or\n"
        "  {\"by\", \"reason\", \"since\"}, \"rollouts\": [ROLLOUT]}. With FLAG: ROLLOUT, with --wait also "
        "\"outcome\": done, rolled_back,\n"
        "  timed_out or person.\n"
        "ROLLOUT: {\"flag\", \"planned\", \"mode\", \"stage\", \"state\", \"rollout_pct\", \"shadow_pct\", "
        "\"cap_pct\", \"attempt\", \"evidence\", \"step\",\n"
        "  \"steps\", \"next_pct\", \"next_shadow_pct\", \"held_s\", \"hold_s\", \"hold_left_s\", \"users\", "
        "\"min_users\", \"waits\": [{\"reason\",\n"
        "  \"text\"}], \"waived\", \"guarded\", \"slot\", \"open\", \"latched\", \"killed\", \"paused\", "
        "\"why\", \"since\", \"warnings\", \"evidence_text\",\n"
        "  \"verdict\", \"guards\", \"plan\", \"window\", \"traffic\", ...}; flagctl(1) has all keys. With "
        "--watch one "
        "object a line",
    .options = options,
    .max_arguments = 1,
    .run = status_run,
    .can_watch = true,
};
