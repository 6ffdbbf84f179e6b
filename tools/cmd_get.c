/* get: one flag: what it serves, and what its file says of it. */
#include "server/flagfile.h"
#include "server/json_scan.h"
#include "tools/rollout_view.h"
#include "tools/text.h"
#include "tools/view.h"
#include "tools/wait.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 500 /* the table is shown all the same */

struct source { /* what the flag file says, where it can be read */
    struct flagshm_flagfile file;
    const struct flagshm_flagfile_entry *entry; /* NULL: not there */
    bool is_read;
    char path[2048];
};

/* The table names no owner and no dates: these come from the file, or not at all. */
static void source_open(struct flagctl *ctl, struct source *source, const struct flagshm_snapshot *snapshot,
                        const char *flag)
{
    const char *path = ctl->file != NULL ? ctl->file : snapshot->header.file_path;
    struct flagshm_diags diags = {0};
    struct flagshm_error error;
    size_t length = 0;
    char *text;

    memset(source, 0, sizeof *source);
    (void)snprintf(source->path, sizeof source->path, "%.*s", (int)sizeof snapshot->header.file_path - 1,
                   path);
    text = source->path[0] != '\0' ? flagctl_text_read(source->path, &length, &error) : NULL;
    if (text == NULL)
        return;
    if (flagshm_flagfile_parse(&source->file, text, length, NULL, &diags) == 0) {
        source->is_read = true;
        source->entry = flagshm_flagfile_find(&source->file, flag);
    } else {
        flagshm_flagfile_free(&source->file);
    }
    flagshm_diags_free(&diags);
    free(text);
}

static void source_close(struct source *source)
{
    if (source->is_read)
        flagshm_flagfile_free(&source->file);
}

/* The file's own description where its entry is sound. */
static const struct flagshm_flag *described(const struct source *source)
{
    return source->entry != NULL && !source->entry->broken ? &source->entry->flag : NULL;
}

/* Adds a member of the flag's own object as it stands in the file. */
static void member_add(cJSON *json, const char *key, const struct flagshm_flag *flag)
{
    struct flagshm_arena arena = {0};
    struct flagshm_json_places places = {0};
    struct flagshm_diags diags = {0};
    size_t i;

    if (flagshm_json_scan(flag->text, flag->text_bytes, &arena, &places, &diags)) {
        for (i = 1; i < places.count; i = places.items[i].next) {
            const struct flagshm_json_place *place = &places.items[i];
            char *compact;
            if (place->key_bytes != strlen(key) + 2 ||
                memcmp(flag->text + place->key_offset + 1, key, strlen(key)) != 0)
                continue;
            compact = flagshm_arena_take(&arena, place->bytes + (size_t)1);
            if (compact != NULL) {
                compact[flagshm_json_compact(flag->text + place->offset, place->bytes, compact)] = '\0';
                (void)cJSON_AddRawToObject(json, key, compact);
            }
            break;
        }
    }
    flagshm_diags_free(&diags);
    flagshm_arena_free(&arena);
}

static const char *identity_name(uint32_t switches)
{
    return (switches & FLAGSHM_SWITCH_ORG) != 0       ? "org"
           : (switches & FLAGSHM_SWITCH_SESSION) != 0 ? "session"
                                                      : "user";
}

static void arms_add(cJSON *json, const struct flagshm_snapshot_flag *flag)
{
    const struct flagshm_snapshot_arm *arms = flag->arms;
    cJSON *variants;
    uint32_t i;

    if (flag->arm_count == 0)
        return;
    flagctl_json_value(json, "control", arms[0].value, arms[0].value_bytes, flagctl_is_object(&arms[0]));
    if (flag->arm_count == 2 && strcmp(arms[1].name, "variant") == 0) {
        flagctl_json_value(json, "variant", arms[1].value, arms[1].value_bytes, flagctl_is_object(&arms[1]));
        return;
    }
    variants = cJSON_AddObjectToObject(json, "variants");
    for (i = 1; i < flag->arm_count; i++) {
        cJSON *variant = cJSON_AddObjectToObject(variants, arms[i].name);
        flagctl_json_value(variant, "value", arms[i].value, arms[i].value_bytes, flagctl_is_object(&arms[i]));
        flagctl_json_u64(variant, "weight", arms[i].weight);
    }
}

static void file_add(cJSON *json, const struct source *source)
{
    cJSON *file = cJSON_AddObjectToObject(json, "file");

    (void)cJSON_AddStringToObject(file, "path", source->path);
    (void)cJSON_AddBoolToObject(file, "readable", source->is_read);
    if (!source->is_read)
        return;
    (void)cJSON_AddBoolToObject(file, "has_flag", source->entry != NULL);
    if (source->entry != NULL) {
        (void)cJSON_AddBoolToObject(file, "broken", source->entry->broken);
        if (source->entry->says_rollout)
            flagctl_json_share(file, "rollout_pct", source->entry->says_rollout_mpct);
    }
}

static int flag_json(struct flagctl *ctl, const struct flagshm_snapshot *snapshot,
                     const struct flagshm_snapshot_flag *flag, const struct source *source,
                     const cJSON *rollout)
{
    struct flagctl_served served = flagctl_served(snapshot, flag);
    const struct flagshm_flag *words = described(source);
    cJSON *json = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(json, "name", flag->name);
    arms_add(json, flag);
    flagctl_json_share(json, "rollout_pct", served.mpct);
    if (words != NULL && words->description != NULL)
        (void)cJSON_AddStringToObject(json, "description", words->description);
    if (words != NULL && words->owner != NULL)
        (void)cJSON_AddStringToObject(json, "owner", words->owner);
    if (words != NULL && words->created != NULL)
        (void)cJSON_AddStringToObject(json, "created", words->created);
    if (words != NULL && words->expires != NULL)
        (void)cJSON_AddStringToObject(json, "expires", words->expires);
    (void)cJSON_AddStringToObject(json, "identity", identity_name(flag->switches));
    (void)cJSON_AddStringToObject(json, "salt", flag->salt);
    (void)cJSON_AddBoolToObject(json, "enabled", (flag->switches & FLAGSHM_SWITCH_DISABLED) == 0);
    (void)cJSON_AddStringToObject(json, "on_stale",
                                  (flag->switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0 ? "control" : "hold");
    if (words != NULL && words->has_rollout)
        member_add(json, "rollout", words);
    if (words != NULL && words->has_guardrails)
        member_add(json, "guardrails", words);
    flagctl_json_u64(json, "forced_ids", flag->force_count);
    (void)cJSON_AddStringToObject(json, "stage", served.stage);
    (void)cJSON_AddStringToObject(json, "reason", flagshm_reason_name(served.reason));
    (void)cJSON_AddBoolToObject(json, "killed",
                                (flag->switches & FLAGSHM_SWITCH_KILLED) != 0 || snapshot->is_all_control);
    flagctl_json_u64(json, "version", snapshot->version);
    flagctl_json_u64(json, "file_rev", snapshot->file_rev);
    flagctl_json_u64(json, "changed_version", flag->changed_version);
    flagctl_json_i64(json, "age_ms", snapshot->age_ns / 1000000);
    (void)cJSON_AddBoolToObject(json, "stale", flagctl_is_stale(snapshot));
    file_add(json, source);
    (void)cJSON_AddStringToObject(
        json, "guard", flagctl_guard_word(rollout, (flag->switches & FLAGSHM_SWITCH_GUARDED) != 0));
    (void)cJSON_AddItemToObject(json, "status",
                                rollout != NULL ? cJSON_Duplicate(rollout, true) : cJSON_CreateNull());
    flagctl_json_whole(cJSON_GetObjectItemCaseSensitive(json, "status"));
    return flagctl_json(ctl, json);
}

/* ---- for people ---- */

static const char *reason_words(const struct flagctl_served *served, const struct flagshm_snapshot *snapshot,
                                const struct flagshm_snapshot_flag *flag)
{
    if (served->reason == FLAGSHM_STALE)
        return "the server is silent and the flag asks for control then";
    if (snapshot->is_all_control)
        return "everything is killed (flagctl unkill --all ends it)";
    if ((flag->switches & FLAGSHM_SWITCH_KILLED) != 0)
        return "killed (flagctl unkill ends it)";
    if ((flag->switches & FLAGSHM_SWITCH_ROLLED_BACK) != 0)
        return "rolled back";
    if ((flag->switches & FLAGSHM_SWITCH_DISABLED) != 0)
        return "\"enabled\": false in the file";
    return served->reason == FLAGSHM_STATIC ? "everyone gets the same" : "each user's bucket decides";
}

static void arm_print(struct flagctl *ctl, const struct flagshm_snapshot_arm *arm, bool has_weight)
{
    char label[80], text[480];

    if (has_weight)
        (void)snprintf(label, sizeof label, "%s (%u)", arm->name, arm->weight);
    else
        (void)snprintf(label, sizeof label, "%s", arm->name);
    if (arm->value_bytes < 400)
        (void)snprintf(text, sizeof text, "%s", arm->value);
    else
        (void)snprintf(text, sizeof text, "%.380s... (%u bytes; all of it: -o json)", arm->value,
                       arm->value_bytes);
    flagctl_line_print(ctl, label, text);
}

static void file_print(struct flagctl *ctl, const struct source *source, const struct flagctl_served *served)
{
    const struct flagshm_flag *words = described(source);
    char share[24], text[2200];

    if (words != NULL && words->description != NULL)
        flagctl_line_print(ctl, "description", words->description);
    if (words != NULL && words->owner != NULL)
        flagctl_line_print(ctl, "owner", words->owner);
    if (words != NULL && words->created != NULL)
        flagctl_line_print(ctl, "created", words->created);
    if (words != NULL && words->expires != NULL)
        flagctl_line_print(ctl, "expires", words->expires);
    if (source->path[0] == '\0')
        return;
    if (!source->is_read)
        (void)snprintf(text, sizeof text, "%s (not readable here)", source->path);
    else if (source->entry == NULL)
        (void)snprintf(text, sizeof text, "%s (has no such flag now)", source->path);
    else if (source->entry->broken)
        (void)snprintf(text, sizeof text,
                       "%s (the entry has faults, the last good form is served: flagctl lint)", source->path);
    else if (source->entry->says_rollout && source->entry->says_rollout_mpct != served->mpct)
        (void)snprintf(text, sizeof text, "%s (says %s)", source->path,
                       flagctl_share(source->entry->says_rollout_mpct, share));
    else
        (void)snprintf(text, sizeof text, "%s", source->path);
    flagctl_line_print(ctl, "file", text);
}

/* What the server tells beside the table: is it watched, what does it wait for. */
static void rollout_print(struct flagctl *ctl, const struct flagshm_snapshot_flag *flag, const cJSON *rollout)
{
    char text[256];

    flagctl_line_print(ctl, "guard",
                       flagctl_guard_word(rollout, (flag->switches & FLAGSHM_SWITCH_GUARDED) != 0));
    if (!flagctl_is_at(rollout, "planned"))
        return;
    flagctl_line_print(ctl, "rollout", flagctl_rollout_line(rollout, text, sizeof text));
    if (flagctl_text_at(rollout, "why")[0] != '\0')
        flagctl_line_print(ctl, "why", flagctl_text_at(rollout, "why"));
    (void)snprintf(text, sizeof text, "flagctl status %.64s", flag->name);
    flagctl_line_print(ctl, "more", text);
}

static void flag_print(struct flagctl *ctl, const struct flagshm_snapshot *snapshot,
                       const struct flagshm_snapshot_flag *flag, const struct source *source,
                       const cJSON *rollout)
{
    cJSON *sentences = cJSON_CreateArray();
    struct flagctl_served served = flagctl_served(snapshot, flag);
    struct flagctl_warning warnings[8];
    size_t count = flagctl_warnings(snapshot, warnings, 8), i;
    char share[24], text[256];
    uint32_t k;

    (void)fprintf(ctl->out, "%s%s%s\n", ctl->is_colour ? "\033[1m" : "", flag->name,
                  ctl->is_colour ? "\033[0m" : "");
    (void)snprintf(text, sizeof text, "%s get a variant: %s", flagctl_share(served.mpct, share),
                   reason_words(&served, snapshot, flag));
    flagctl_line_print(ctl, "serving", text);
    flagctl_line_print(ctl, "stage", served.stage);
    flagctl_line_print(ctl, "reason", flagshm_reason_name(served.reason));
    rollout_print(ctl, flag, rollout);
    for (k = 0; k < flag->arm_count; k++)
        arm_print(ctl, &flag->arms[k], flag->arm_count > 2 && k > 0);
    flagctl_line_print(ctl, "identity", identity_name(flag->switches));
    if (strcmp(flag->salt, flag->name) != 0)
        flagctl_line_print(ctl, "salt", flag->salt);
    flagctl_line_print(ctl, "on_stale",
                       (flag->switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0 ? "control" : "hold");
    if (flag->force_count != 0) {
        (void)snprintf(text, sizeof text, "%u id%s", flag->force_count, flag->force_count == 1 ? "" : "s");
        flagctl_line_print(ctl, "forced", text);
    }
    file_print(ctl, source, &served);
    (void)snprintf(text, sizeof text, "%llu (the flag changed last in %llu), file_rev %llu",
                   (unsigned long long)snapshot->version, (unsigned long long)flag->changed_version,
                   (unsigned long long)snapshot->file_rev);
    flagctl_line_print(ctl, "version", text);
    if (rollout != NULL)
        flagctl_warning_sentences(rollout, false, sentences);
    flagctl_sentences_print(ctl, sentences);
    for (i = 0; i < count; i++)
        flagctl_warn(ctl, "%s", warnings[i].text);
}

static int get_show(struct flagctl *ctl, void *context)
{
    const char *name = context;
    struct flagshm_snapshot snapshot;
    const struct flagshm_snapshot_flag *flag;
    struct source source;
    int code = flagctl_snapshot(ctl, &snapshot);

    if (code != FLAGCTL_OK)
        return code;
    flag = flagshm_snapshot_find(&snapshot, name);
    if (flag == NULL) {
        code = flagctl_no_flag(ctl, &snapshot, name);
    } else {
        cJSON *answer = flagctl_is_stale(&snapshot) ? NULL : flagctl_rollouts_peek(ctl, name, PATIENCE_MS);
        const cJSON *rollout = flagctl_rollout_find(answer, name);

        source_open(ctl, &source, &snapshot, name);
        if (ctl->is_json)
            code = flag_json(ctl, &snapshot, flag, &source, rollout);
        else
            flag_print(ctl, &snapshot, flag, &source, rollout);
        source_close(&source);
        cJSON_Delete(answer);
    }
    flagshm_snapshot_free(&snapshot);
    return code;
}

static int get_run(struct flagctl *ctl, int argc, char **argv)
{
    (void)argc;
    return flagctl_repeat(ctl, get_show, argv[0]);
}

const struct flagctl_command flagctl_get_command = {
    .name = "get",
    .group = "Look",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "one flag: what it serves now, and what its file says",
    .help = "The share, stage, arms, salt and identity are those of the table that every process of the host "
            "decides by; description,\n"
            "owner and dates stand in the flag file alone, and are left out where it cannot be read here. "
            "Where a server "
            "answers: whether it is\n"
            "guarded, what it waits for, and warnings; all of that by flagctl status.\n\n"
            "Exit codes: 0, 4 no such flag, 5 no table.\n\n"
            "JSON: the file's keys (\"control\", \"variant\" or \"variants\": as served; \"description\", "
            "\"owner\", \"created\", \"expires\",\n"
            "  \"identity\", \"salt\", \"enabled\", \"on_stale\", \"rollout\", \"guardrails\") with "
            "\"rollout_pct\" the share served now; and\n"
            "  \"name\", \"stage\", \"reason\", \"killed\", \"forced_ids\" (a number), \"version\", "
            "\"file_rev\", \"changed_version\", \"age_ms\",\n"
            "  \"stale\", \"guard\" (on, wait, off, -), \"status\": null or what flagctl status FLAG -o json "
            "gives, "
            "\"file\": {\"path\", \"readable\", \"has_flag\", \"broken\", \"rollout_pct\" (what "
            "the file says)}",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = get_run,
    .can_watch = true,
};
