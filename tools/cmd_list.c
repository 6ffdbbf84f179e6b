/* list: all flags of the instance, and how the server is; what waits and what is to be minded, where the server tells. */
#include "tools/rollout_view.h"
#include "tools/view.h"
#include "tools/wait.h"

#include <string.h>
#include <time.h>

#define PATIENCE_MS   500 /* the table is shown all the same */
#define SENTENCES_MAX 8   /* of rollouts, below the table */

static uint64_t realtime_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* "haiku -> sonnet", "haiku -> a, b"; an arm without a model goes by its name. */
static void models_text(const struct flagshm_snapshot_flag *flag, char *out, size_t room)
{
    size_t used = 0;
    uint32_t i;

    out[0] = '\0';
    for (i = 0; i < flag->arm_count && used < room; i++) {
        const struct flagshm_snapshot_arm *arm = &flag->arms[i];
        int length = snprintf(out + used, room - used, "%s%s",
                              i == 0   ? ""
                              : i == 1 ? " -> "
                                       : ", ",
                              arm->model[0] != '\0' ? arm->model : arm->name);
        used += length > 0 ? (size_t)length : 0;
    }
}

/* When a record changed last: as a time where that is the version served, else as a number of versions. */
static void changed_text(const struct flagshm_snapshot *snapshot, const struct flagshm_snapshot_flag *flag,
                         char *out, size_t room)
{
    uint64_t now = realtime_ns();
    char span[24];

    if (flag->changed_version == 0 || flag->changed_version > snapshot->version)
        (void)snprintf(out, room, "-");
    else if (flag->changed_version < snapshot->version)
        (void)snprintf(out, room, "%llu version%s ago",
                       (unsigned long long)(snapshot->version - flag->changed_version),
                       snapshot->version - flag->changed_version == 1 ? "" : "s");
    else if (now < snapshot->published_realtime_ns)
        (void)snprintf(out, room, "just now");
    else
        (void)snprintf(out, room, "%s ago",
                       flagctl_span((int64_t)(now - snapshot->published_realtime_ns), span));
}

/* Do any rollouts go on? Then there are columns for them. */
static bool has_rollouts(const cJSON *answer)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "rollouts"), *rollout;
    char words[8];

    for (rollout = list != NULL ? list->child : NULL; rollout != NULL; rollout = rollout->next)
        if (flagctl_is_at(rollout, "planned") || flagctl_waits_text(rollout, words, sizeof words)[0] != '-')
            return true;
    return false;
}

static void flag_row(struct flagctl_table *table, const struct flagshm_snapshot *snapshot,
                     const struct flagshm_snapshot_flag *flag, const cJSON *rollout, bool has_columns)
{
    struct flagctl_served served = flagctl_served(snapshot, flag);
    const char *guard = flagctl_guard_word(rollout, (flag->switches & FLAGSHM_SWITCH_GUARDED) != 0);
    char models[1280], changed[64], share[24], text[200];

    models_text(flag, models, sizeof models);
    changed_text(snapshot, flag, changed, sizeof changed);
    flagctl_table_cell(table, served.hue == FLAGCTL_RED ? FLAGCTL_RED : FLAGCTL_PLAIN, "%s", flag->name);
    flagctl_table_cell(table, served.hue, "%s", flagctl_share(served.mpct, share));
    flagctl_table_cell(table, served.hue, "%s",
                       served.reason == FLAGSHM_STALE ? "stale: control" : served.stage);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", models);
    flagctl_table_cell(table, guard[0] == 'w' ? FLAGCTL_YELLOW : FLAGCTL_PLAIN, "%s", guard);
    if (has_columns) {
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_waits_text(rollout, text, sizeof text));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_left_text(rollout, text));
    }
    flagctl_table_cell(table, FLAGCTL_DIM, "%s", changed);
}

static void flags_print(struct flagctl *ctl, const struct flagshm_snapshot *snapshot, const cJSON *answer)
{
    static const char *const few[] = {"FLAG", ">SHARE", "STAGE", "MODEL", "GUARD", "CHANGED", NULL},
                             *const all[] = {"FLAG",  ">SHARE", "STAGE",   "MODEL", "GUARD",
                                             "WAITS", ">LEFT",  "CHANGED", NULL};
    bool has_columns = has_rollouts(answer);
    struct flagctl_table *table = flagctl_table_new(has_columns ? all : few);
    size_t i;

    for (i = 0; i < snapshot->count; i++)
        flag_row(table, snapshot, &snapshot->flags[i], flagctl_rollout_find(answer, snapshot->flags[i].name),
                 has_columns);
    flagctl_table_print(ctl, table);
}

/* The gravest come first: those of flags that have trouble or are stopped are few. */
static cJSON *sentences_of(const cJSON *answer, size_t most)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "rollouts"), *rollout,
                *frozen = cJSON_GetObjectItemCaseSensitive(answer, "frozen");
    cJSON *sentences = cJSON_CreateArray();
    char text[400];
    size_t count;

    if (cJSON_IsObject(frozen)) {
        (void)snprintf(text, sizeof text, "all rollouts are frozen by %.64s: %.200s; to end it: flagctl thaw",
                       flagctl_text_at(frozen, "by"), flagctl_text_at(frozen, "reason"));
        (void)cJSON_AddItemToArray(sentences, cJSON_CreateString(text));
    }
    for (rollout = list != NULL ? list->child : NULL; rollout != NULL; rollout = rollout->next)
        flagctl_warning_sentences(rollout, true, sentences);
    count = (size_t)cJSON_GetArraySize(sentences);
    if (count > most) {
        while ((size_t)cJSON_GetArraySize(sentences) > most)
            cJSON_DeleteItemFromArray(sentences, (int)most);
        (void)snprintf(text, sizeof text, "and %zu more warnings: flagctl status", count - most);
        (void)cJSON_AddItemToArray(sentences, cJSON_CreateString(text));
    }
    return sentences;
}

static void foot_print(struct flagctl *ctl, const struct flagshm_snapshot *snapshot, const cJSON *answer)
{
    cJSON *sentences, *item;
    struct flagctl_warning warnings[8];
    size_t count = flagctl_warnings(snapshot, warnings, 8), i;
    char age[24], time[40];

    if (ctl->has_header) {
        (void)fprintf(ctl->out, "\n%s: version %llu of %s, file_rev %llu, heartbeat %s%s\n",
                      ctl->instance.name, (unsigned long long)snapshot->version,
                      flagctl_time(snapshot->published_realtime_ns, time),
                      (unsigned long long)snapshot->file_rev, flagctl_span(snapshot->age_ns, age),
                      snapshot->age_ns < 0 ? " (ahead of the clock)" : " ago");
    }
    for (i = 0; i < count; i++) {
        if (!ctl->has_header)
            flagctl_warn(ctl, "%s", warnings[i].text);
        else if (ctl->is_colour)
            (void)fprintf(ctl->out, "%s%s\033[0m\n", warnings[i].hue == FLAGCTL_RED ? "\033[31m" : "\033[33m",
                          warnings[i].text);
        else
            (void)fprintf(ctl->out, "%s\n", warnings[i].text);
    }
    sentences = sentences_of(answer, SENTENCES_MAX);
    if (!ctl->has_header) {
        for (item = sentences->child; item != NULL; item = item->next)
            flagctl_warn(ctl, "%s", item->valuestring);
        cJSON_Delete(sentences);
    } else {
        flagctl_sentences_print(ctl, sentences);
    }
}

/* What the server tells of it; null where it tells nothing. */
static void rollout_add(cJSON *item, const cJSON *rollout)
{
    static const char *const keys[] = {"planned", "state", "step", "steps", "hold_left_s", "waits", "waived"};
    cJSON *object, *warnings;
    size_t i;

    if (rollout == NULL) {
        (void)cJSON_AddNullToObject(item, "rollout");
        return;
    }
    object = cJSON_AddObjectToObject(item, "rollout");
    for (i = 0; i < sizeof keys / sizeof *keys; i++)
        if (cJSON_HasObjectItem(rollout, keys[i]))
            (void)cJSON_AddItemToObject(
                object, keys[i], cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(rollout, keys[i]), true));
    warnings = cJSON_AddArrayToObject(object, "warnings");
    flagctl_warning_sentences(rollout, false, warnings);
}

static int list_json(struct flagctl *ctl, const struct flagshm_snapshot *snapshot, const cJSON *answer)
{
    cJSON *json = cJSON_CreateObject(), *flags;
    struct flagctl_warning warnings[8];
    size_t count = flagctl_warnings(snapshot, warnings, 8), i;
    char time[40];

    (void)cJSON_AddStringToObject(json, "instance", ctl->instance.name);
    flagctl_json_u64(json, "version", snapshot->version);
    flagctl_json_u64(json, "file_rev", snapshot->file_rev);
    (void)cJSON_AddStringToObject(json, "published", flagctl_time(snapshot->published_realtime_ns, time));
    flagctl_json_i64(json, "age_ms", snapshot->age_ns / 1000000);
    (void)cJSON_AddBoolToObject(json, "stale", flagctl_is_stale(snapshot));
    (void)cJSON_AddBoolToObject(json, "all_control", snapshot->is_all_control);
    flags = cJSON_AddArrayToObject(json, "warnings");
    for (i = 0; i < count; i++)
        (void)cJSON_AddItemToArray(flags, cJSON_CreateString(warnings[i].text));
    flags = cJSON_AddArrayToObject(json, "flags");
    for (i = 0; i < snapshot->count; i++) {
        const struct flagshm_snapshot_flag *flag = &snapshot->flags[i];
        struct flagctl_served served = flagctl_served(snapshot, flag);
        cJSON *item = cJSON_CreateObject(), *arms;
        uint32_t k;

        (void)cJSON_AddStringToObject(item, "name", flag->name);
        flagctl_json_share(item, "rollout_pct", served.mpct);
        (void)cJSON_AddStringToObject(item, "stage", served.stage);
        (void)cJSON_AddStringToObject(item, "reason", flagshm_reason_name(served.reason));
        arms = cJSON_AddArrayToObject(item, "arms");
        for (k = 0; k < flag->arm_count; k++) {
            cJSON *arm = cJSON_CreateObject();
            (void)cJSON_AddStringToObject(arm, "name", flag->arms[k].name);
            (void)cJSON_AddStringToObject(arm, "model", flag->arms[k].model);
            (void)cJSON_AddItemToArray(arms, arm);
        }
        (void)cJSON_AddBoolToObject(item, "killed", (flag->switches & FLAGSHM_SWITCH_KILLED) != 0);
        (void)cJSON_AddBoolToObject(item, "guarded", (flag->switches & FLAGSHM_SWITCH_GUARDED) != 0);
        (void)cJSON_AddStringToObject(item, "guard",
                                      flagctl_guard_word(flagctl_rollout_find(answer, flag->name),
                                                         (flag->switches & FLAGSHM_SWITCH_GUARDED) != 0));
        rollout_add(item, flagctl_rollout_find(answer, flag->name));
        flagctl_json_u64(item, "changed_version", flag->changed_version);
        (void)cJSON_AddItemToArray(flags, item);
    }
    return flagctl_json(ctl, json);
}

static int list_show(struct flagctl *ctl, void *context)
{
    struct flagshm_snapshot snapshot;
    cJSON *answer = NULL;
    int code = flagctl_snapshot(ctl, &snapshot);

    (void)context;
    if (code != FLAGCTL_OK)
        return code;
    if (!flagctl_is_stale(&snapshot))
        answer = flagctl_rollouts_peek(ctl, NULL, PATIENCE_MS);
    if (ctl->is_json) {
        code = list_json(ctl, &snapshot, answer);
    } else {
        if (snapshot.count != 0)
            flags_print(ctl, &snapshot, answer);
        else if (ctl->has_header)
            (void)fprintf(ctl->out, "no flags\n");
        foot_print(ctl, &snapshot, answer);
    }
    cJSON_Delete(answer);
    flagshm_snapshot_free(&snapshot);
    return code;
}

static int list_run(struct flagctl *ctl, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return flagctl_repeat(ctl, list_show, NULL);
}

const struct flagctl_command flagctl_list_command = {
    .name = "list",
    .group = "Look",
    .arguments = "",
    .summary = "all flags, what they serve now, and how the server is",
    .help =
        "SHARE is the share of users who get a variant now, STAGE why, MODEL control's model and the "
        "variants', GUARD whether\n"
        "guardrails watch the flag (on; wait: not yet; off: the file refuses them; -: no), "
        "CHANGED "
        "when the flag's entry\n"
        "was last another one. Where a server answers and rollouts go on: WAITS what a share waits for, LEFT "
        "how long "
        "it is still held;\n"
        "below the table what is to be minded.\n\n"
        "Exit codes: 0 (also where the server is silent: the table is served all the same), 5 no table.\n\n"
        "JSON: {\"instance\", \"version\", \"file_rev\", \"published\", \"age_ms\" (of the heartbeat), "
        "\"stale\", \"all_control\",\n"
        "  \"warnings\": [TEXT], \"flags\": [{\"name\", \"rollout_pct\", \"stage\", \"reason\", \"arms\": "
        "[{\"name\", \"model\"}],\n"
        "  \"killed\", \"guarded\", \"guard\", \"rollout\": null or {\"planned\", \"state\", \"step\", "
        "\"steps\", "
        "\"hold_left_s\", \"waits\":\n"
        "  [{\"reason\", \"text\"}], \"waived\", \"warnings\"}, \"changed_version\"}]}; with --watch one "
        "object a line",
    .run = list_run,
    .can_watch = true,
};
