/* eval: which arm ids get, by the very function that programs call, and on demand how it came about. */
#include "server/flagfile.h"
#include "tools/connect.h"
#include "tools/view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The steps of a decision that hashes, worked out again from the salt. */
struct working {
    char input[FLAGSHM_NAME_MAX + FLAGSHM_ID_MAX + 16];
    char digest[33];
    uint32_t percent, bucket, lot, weight_sum;
    bool has_input; /* the id can be hashed at all */
};

static void working_make(struct working *w, const struct flagshm_snapshot_flag *flag, const char *id)
{
    struct flagshm_md5_prefix_ nothing = {{0}, FLAGSHM_MD5_INIT_, FLAGSHM_MD5_INIT_, 0};
    size_t id_bytes = strlen(id);
    uint32_t words[4], i;

    memset(w, 0, sizeof *w);
    if (id_bytes == 0 || id_bytes > FLAGSHM_ID_MAX)
        return;
    w->has_input = true;
    (void)snprintf(w->input, sizeof w->input, "%.72s:%s", flag->salt, id);
    flagshm_md5_id_(&nothing, (const unsigned char *)w->input, strlen(w->input), words);
    (void)snprintf(w->digest, sizeof w->digest, "%08x%08x%08x%08x", words[0], words[1], words[2], words[3]);
    w->bucket = flagshm_bucket_(words);
    w->percent = w->bucket / 1000;
    for (i = 1; i < flag->arm_count; i++)
        w->weight_sum += flag->arms[i].weight;
    w->lot = flagshm_lot_(words, w->weight_sum != 0 ? w->weight_sum : 1);
}

static const char *why(const struct flagshm_decision *d, const struct flagshm_snapshot *snapshot)
{
    switch (d->reason) {
    case FLAGSHM_SPLIT:
        return "the bucket decides";
    case FLAGSHM_STATIC:
        return "everyone gets this arm: the share is 0 or 100 %, nothing was hashed";
    case FLAGSHM_TARGETING_MATCH:
        return "the id stands in the flag's force list";
    case FLAGSHM_DISABLED:
        return snapshot->is_all_control ? "control: everything is killed"
                                        : "control: the flag is killed, rolled back or disabled";
    case FLAGSHM_STALE:
        return "control: the server is silent, and the flag asks for control then";
    case FLAGSHM_TARGETING_KEY_MISSING:
        return "control: the id is empty";
    default:
        return "control: the id is over 4096 bytes, or the table is damaged";
    }
}

static void line_print(struct flagctl *ctl, const char *label, const char *text)
{
    char clean[FLAGSHM_ID_MAX + 256];
    (void)fprintf(ctl->out, "  %-11s  %s\n", label, flagctl_clean(text, clean, sizeof clean));
}

/* "1234 < 5000 (5 %): in the rollout" */
static void comparison_print(struct flagctl *ctl, const struct working *w, const struct flagshm_decision *d)
{
    char text[128], share[24];
    bool is_in = w->bucket < d->rollout_mpct;

    (void)snprintf(text, sizeof text, "%" PRIu32 " of 0...99999 = (h %% 100) * 1000 + (h / 100) %% 1000",
                   w->bucket);
    line_print(ctl, "bucket", text);
    (void)snprintf(text, sizeof text, "%" PRIu32 " (%s)", d->rollout_mpct,
                   flagctl_share(d->rollout_mpct, share));
    line_print(ctl, "threshold", text);
    (void)snprintf(text, sizeof text, "%" PRIu32 " %s %" PRIu32 ": %s the rollout", w->bucket,
                   is_in ? "<" : ">=", d->rollout_mpct, is_in ? "in" : "not in");
    line_print(ctl, "comparison", text);
}

static void explanation_print(struct flagctl *ctl, const struct flagshm_snapshot *snapshot,
                              const struct flagshm_snapshot_flag *flag, const char *id,
                              const struct flagshm_decision *d)
{
    static struct working w;
    char text[FLAGSHM_ID_MAX + 256], clean[FLAGSHM_ID_MAX + 8];

    working_make(&w, flag, id);
    (void)fprintf(ctl->out, "%s\n", id[0] != '\0' ? flagctl_clean(id, clean, sizeof clean) : "(empty id)");
    if (w.has_input) {
        line_print(ctl, "hash input", w.input);
        line_print(ctl, "MD5", w.digest);
        (void)snprintf(text, sizeof text, "%" PRIu32 " (h is the MD5 as one big-endian number)", w.percent);
        line_print(ctl, "h % 100", text);
        comparison_print(ctl, &w, d);
        if (flag->arm_count > 2) {
            (void)snprintf(text, sizeof text,
                           "%" PRIu32 " = (h / 100000) %% %" PRIu32 ", the sum of the variants' weights",
                           w.lot, w.weight_sum);
            line_print(ctl, "lot", text);
        }
    }
    (void)snprintf(text, sizeof text, "%s%s%s", d->arm_name, d->model[0] != '\0' ? ": " : "", d->model);
    line_print(ctl, "arm", text);
    (void)snprintf(text, sizeof text, "%s: %s", flagshm_reason_name(d->reason), why(d, snapshot));
    line_print(ctl, "reason", text);
    (void)snprintf(text, sizeof text, "%s, version %" PRIu64, d->stage[0] != '\0' ? d->stage : "-",
                   d->version);
    line_print(ctl, "stage", text);
}

static cJSON *decision_json(const struct flagshm_snapshot *snapshot, const struct flagshm_snapshot_flag *flag,
                            const char *id, const struct flagshm_decision *d, bool is_explained)
{
    static struct working w;
    cJSON *json = cJSON_CreateObject(), *explain;

    (void)cJSON_AddStringToObject(json, "id", id);
    (void)cJSON_AddStringToObject(json, "arm", d->arm_name);
    flagctl_json_u64(json, "arm_number", d->arm);
    (void)cJSON_AddStringToObject(json, "model", d->model);
    if (d->reason < FLAGSHM_FLAG_NOT_FOUND && d->arm < flag->arm_count)
        flagctl_json_value(json, "value", flag->arms[d->arm].value, flag->arms[d->arm].value_bytes,
                           flagctl_is_object(&flag->arms[d->arm]));
    (void)cJSON_AddStringToObject(json, "reason", flagshm_reason_name(d->reason));
    if (d->bucket == FLAGSHM_NO_BUCKET)
        (void)cJSON_AddNullToObject(json, "bucket");
    else
        flagctl_json_u64(json, "bucket", d->bucket);
    flagctl_json_share(json, "rollout_pct", d->rollout_mpct);
    (void)cJSON_AddStringToObject(json, "stage", d->stage);
    if (!is_explained)
        return json;
    explain = cJSON_AddObjectToObject(json, "explain");
    working_make(&w, flag, id);
    if (w.has_input) {
        (void)cJSON_AddStringToObject(explain, "hash_input", w.input);
        (void)cJSON_AddStringToObject(explain, "md5", w.digest);
        flagctl_json_u64(explain, "h_mod_100", w.percent);
        flagctl_json_u64(explain, "bucket", w.bucket);
        flagctl_json_u64(explain, "threshold", d->rollout_mpct);
        (void)cJSON_AddBoolToObject(explain, "in_rollout", w.bucket < d->rollout_mpct);
        if (flag->arm_count > 2) {
            flagctl_json_u64(explain, "lot", w.lot);
            flagctl_json_u64(explain, "weight_sum", w.weight_sum);
        }
    }
    (void)cJSON_AddStringToObject(explain, "why", why(d, snapshot));
    return json;
}

static int results_json(struct flagctl *ctl, const struct flagshm_snapshot *snapshot,
                        const struct flagshm_snapshot_flag *flag, int count, char **ids,
                        const struct flagshm_decision *decisions)
{
    cJSON *json = cJSON_CreateObject(), *results;
    bool is_explained = flagctl_option(ctl, "explain") != NULL;
    int i;

    (void)cJSON_AddStringToObject(json, "flag", flag->name);
    flagctl_json_u64(json, "version", snapshot->version);
    results = cJSON_AddArrayToObject(json, "results");
    for (i = 0; i < count; i++)
        (void)cJSON_AddItemToArray(results,
                                   decision_json(snapshot, flag, ids[i], &decisions[i], is_explained));
    return flagctl_json(ctl, json);
}

static void results_print(struct flagctl *ctl, int count, char **ids,
                          const struct flagshm_decision *decisions)
{
    static const char *const headings[] = {"ID", "ARM", "MODEL", "REASON", ">BUCKET", ">SHARE", NULL};
    struct flagctl_table *table = flagctl_table_new(headings);
    char share[24];
    int i;

    for (i = 0; i < count; i++) {
        const struct flagshm_decision *d = &decisions[i];
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", ids[i]);
        flagctl_table_cell(table, d->arm != 0 ? FLAGCTL_GREEN : FLAGCTL_PLAIN, "%s", d->arm_name);
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", d->model[0] != '\0' ? d->model : "-");
        flagctl_table_cell(table, d->reason >= FLAGSHM_FLAG_NOT_FOUND ? FLAGCTL_RED : FLAGCTL_PLAIN, "%s",
                           flagshm_reason_name(d->reason));
        if (d->bucket == FLAGSHM_NO_BUCKET)
            flagctl_table_cell(table, FLAGCTL_PLAIN, "-");
        else
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu32, d->bucket);
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_share(d->rollout_mpct, share));
    }
    flagctl_table_print(ctl, table);
}

/* Decides for all ids by one version, that of the snapshot. */
static int decide_all(struct flagctl *ctl, struct flagshm_snapshot *snapshot, const char *flag, int count,
                      char **ids, struct flagshm_decision *decisions)
{
    int tries, i, code;

    for (tries = 0; tries < 64; tries++) {
        code = flagctl_snapshot(ctl, snapshot);
        if (code != FLAGCTL_OK)
            return code;
        for (i = 0; i < count; i++) {
            (void)flagshm_decide(&ctl->client, flag, ids[i], &decisions[i]);
            if (decisions[i].version != snapshot->version && decisions[i].reason != FLAGSHM_GENERAL)
                break;
        }
        if (i == count)
            return FLAGCTL_OK;
        flagshm_snapshot_free(snapshot);
    }
    return flagctl_fail(ctl, FLAGCTL_FAILED, "the table never stood still");
}

static int eval_run(struct flagctl *ctl, int argc, char **argv)
{
    struct flagshm_decision *decisions = calloc((size_t)argc, sizeof *decisions);
    struct flagshm_snapshot snapshot;
    const struct flagshm_snapshot_flag *flag;
    int count = argc - 1, code, i;

    if (decisions == NULL)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    code = decide_all(ctl, &snapshot, argv[0], count, argv + 1, decisions);
    if (code != FLAGCTL_OK) {
        free(decisions);
        return code;
    }
    flag = flagshm_snapshot_find(&snapshot, argv[0]);
    if (flag == NULL)
        code = flagctl_no_flag(ctl, &snapshot, argv[0]);
    else if (ctl->is_json)
        code = results_json(ctl, &snapshot, flag, count, argv + 1, decisions);
    else if (flagctl_option(ctl, "explain") == NULL)
        results_print(ctl, count, argv + 1, decisions);
    else
        for (i = 0; i < count; i++)
            explanation_print(ctl, &snapshot, flag, argv[i + 1], &decisions[i]);
    flagshm_snapshot_free(&snapshot);
    free(decisions);
    return code;
}

static const struct flagctl_option options[] = {
    {"explain", 'e', NULL, FLAGCTL_NOTHING, "each step: hash input, MD5, bucket, threshold, why"},
    {0},
};

const struct flagctl_command flagctl_eval_command = {
    .name = "eval",
    .group = "Look",
    .arguments = "FLAG ID...",
    .argument_kinds = {FLAGCTL_FLAG, FLAGCTL_ID},
    .summary = "which arm these ids get, and why",
    .help = "Asks the function that programs call (flagshm_decide), for all ids by one version of the table. "
            "An id that begins with a\n"
            "dash goes behind --.\n\n"
            "Exit codes: 0, 4 no such flag, 5 no table.\n\n"
            "JSON: {\"flag\", \"version\", \"results\": [{\"id\", \"arm\", \"arm_number\" (0: control), "
            "\"model\", \"value\", \"reason\",\n"
            "  \"bucket\" (0...99999, null where nothing was hashed), \"rollout_pct\", \"stage\", with "
            "--explain \"explain\":\n"
            "  {\"hash_input\", \"md5\", \"h_mod_100\", \"bucket\", \"threshold\", \"in_rollout\", \"lot\", "
            "\"weight_sum\", \"why\"}}]}",
    .options = options,
    .min_arguments = 2,
    .max_arguments = -1,
    .run = eval_run,
};
