/* unkill: takes a kill back. Never in a hurry: where the server is alive and mute, nothing is done. */
#include "server/flagfile.h"
#include "tools/change.h"
#include "tools/offline.h"

#include <errno.h>
#include <string.h>

struct unkill {       /* one run */
    const char *flag; /* NULL: all */
    cJSON *result;
};

static int done(struct flagctl *ctl, struct unkill *u, const char *by, bool already, uint64_t version,
                const char *sentence)
{
    char again[2048];
    const char *undo = flagctl_again(ctl, again, "kill %s", u->flag != NULL ? u->flag : "--all");

    if (!ctl->is_json) {
        (void)fprintf(ctl->out, "%s: %s\n", u->flag != NULL ? u->flag : "all flags", sentence);
        if (!already)
            (void)fprintf(ctl->out, "undo: %s\n", undo);
        return FLAGCTL_OK;
    }
    if (u->flag != NULL)
        (void)cJSON_AddStringToObject(u->result, "flag", u->flag);
    else
        (void)cJSON_AddNullToObject(u->result, "flag");
    (void)cJSON_AddBoolToObject(u->result, "all", u->flag == NULL);
    (void)cJSON_AddBoolToObject(u->result, "already", already);
    (void)cJSON_AddStringToObject(u->result, "by", by);
    if (version != 0)
        flagctl_json_u64(u->result, "version", version);
    if (!already)
        (void)cJSON_AddStringToObject(u->result, "undo", undo);
    return FLAGCTL_OK;
}

static int done_by_server(struct flagctl *ctl, struct unkill *u, const cJSON *answer)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(answer, "version");
    const struct flagshm_snapshot_flag *flag;
    struct flagshm_snapshot snapshot;
    bool already = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "already"));
    uint64_t version = cJSON_IsNumber(number) && number->valuedouble > 0 ? (uint64_t)number->valuedouble : 0;
    char sentence[200], share[24];

    (void)snprintf(sentence, sizeof sentence, already ? "not killed" : "not killed any more, version %llu",
                   (unsigned long long)version);
    if (u->flag != NULL && !already && flagctl_snapshot(ctl, &snapshot) == FLAGCTL_OK) {
        flag = flagshm_snapshot_find(&snapshot, u->flag);
        if (flag != NULL)
            (void)snprintf(sentence, sizeof sentence, "not killed any more, version %llu serves %s (%s)%s",
                           (unsigned long long)version, flagctl_share(flag->rollout_mpct, share), flag->stage,
                           snapshot.is_all_control ? "; but `kill --all` holds" : "");
        flagshm_snapshot_free(&snapshot);
    }
    return done(ctl, u, "server", already, version, sentence);
}

/* No server runs and the table is ours to write. Written down first: a start in between finds it killed at worst. */
static int unkill_in_table(struct flagctl *ctl, struct unkill *u, struct flagshm_segment *segment)
{
    struct flagshm_error error = {""};
    int code = flagctl_kill_erase(ctl, u->flag, &error);

    if (code != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing has changed: %s", error.text);
    if (u->flag == NULL) {
        bool already = !flagshm_segment_is_all_control(segment);

        flagshm_segment_set_all_control(segment, false);
        return done(ctl, u, "lock", already, flagshm_segment_version(segment),
                    already ? "not switched off" : "not switched off any more; no server runs");
    }
    code = flagctl_offline_unkill(segment, u->flag, &error);
    if (code == -ENOENT) {
        struct flagshm_snapshot snapshot;

        code = flagctl_snapshot(ctl, &snapshot);
        if (code == FLAGCTL_OK) {
            code = flagctl_no_flag(ctl, &snapshot, u->flag);
            flagshm_snapshot_free(&snapshot);
        }
        return code;
    }
    if (code != 0 && code != -EALREADY)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text);
    return done(ctl, u, "lock", code == -EALREADY, flagshm_segment_version(segment),
                code == -EALREADY
                    ? "not killed"
                    : "not killed any more, but it gives control until a server runs: only that knows "
                      "the share");
}

static int unkill_for_next_start(struct flagctl *ctl, struct unkill *u)
{
    struct flagshm_error error = {""};
    struct flagshm_kills kills = {0};
    bool already;

    if (!flagctl_has_state(ctl))
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                            "instance %s has no table (%s) and no state directory (%s)", ctl->instance.name,
                            ctl->instance.table_path, ctl->instance.state_dir);
    if (flagctl_kills_load(ctl, &kills, &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing has changed: %s", error.text);
    already = u->flag != NULL ? !flagshm_kills_has(&kills, u->flag) : !kills.all;
    flagshm_kills_free(&kills);
    if (!already && flagctl_kill_erase(ctl, u->flag, &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing has changed: %s", error.text);
    return done(ctl, u, "file", already, 0,
                already ? "not killed; there is no table"
                        : "not killed any more when the next server starts");
}

static int unkill_run(struct flagctl *ctl, int argc, char **argv)
{
    struct unkill u = {.flag = argc > 0 ? argv[0] : NULL};
    struct flagshm_segment segment;
    cJSON *request, *answer = NULL;
    int code;

    if ((flagctl_option(ctl, "all") != NULL) == (u.flag != NULL))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "unkill needs one FLAG, or --all");
    if (u.flag != NULL && !flagshm_is_flag_name(u.flag, strlen(u.flag)))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\": that can be no flag's name",
                            u.flag);
    u.result = cJSON_CreateObject();
    request = flagctl_word_request(u.flag, flagctl_option(ctl, "reason"));
    switch (flagctl_reach(ctl, "unkill", request, false, &answer, &segment, &code)) {
    case FLAGCTL_WAY_SERVER:
        if (code == FLAGCTL_OK)
            code = done_by_server(ctl, &u, answer);
        break;
    case FLAGCTL_WAY_TABLE:
        code = unkill_in_table(ctl, &u, &segment);
        flagshm_segment_close(&segment);
        break;
    case FLAGCTL_WAY_NO_TABLE:
        code = unkill_for_next_start(ctl, &u);
        break;
    case FLAGCTL_WAY_HELD:
        code = flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "nothing has changed: the server of instance %s holds the table and does not answer\n"
            "what is wrong and how to mend it: flagctl doctor",
            ctl->instance.name);
        break;
    case FLAGCTL_WAY_NONE:
        break;
    }
    cJSON_Delete(request);
    cJSON_Delete(answer);
    if (code == FLAGCTL_OK && ctl->is_json)
        return flagctl_result(ctl, u.result);
    cJSON_Delete(u.result);
    return code;
}

static const struct flagctl_option unkill_options[] = {
    {"all", 'a', NULL, FLAGCTL_NOTHING, "takes `kill --all` back; flags killed one by one stay killed"},
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history"},
    {0},
};

const struct flagctl_command flagctl_unkill_command = {
    .name = "unkill",
    .group = "Ask the server",
    .arguments = "FLAG | --all",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "take a kill back",
    .help = "The flag serves again what the file says. Where no server runs, the kill is taken back in the "
            "state directory and\n"
            "in the table; the flag then gives control until a server starts, since only that knows the "
            "share. `unkill --all`\n"
            "works at once also then. Where a server is there and does not answer, nothing is done: exit "
            "code 5.\n\n"
            "Exit codes: 4 no such flag, 5 the server does not answer, 1 not permitted or failed. A flag "
            "that is not killed is no\n"
            "error.\n\n"
            "JSON: {\"flag\", \"all\", \"already\", \"by\": \"server\"|\"lock\"|\"file\", \"version\", "
            "\"undo\", \"warnings\": []}",
    .options = unkill_options,
    .max_arguments = 1,
    .run = unkill_run,
};
