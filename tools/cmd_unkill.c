/* unkill: takes a kill back. Never in a hurry: where the server is alive and mute, nothing is done. */
#include "tools/offline.h"
#include "tools/word.h"

#include <errno.h>
#include <string.h>

static int done_by_server(struct flagctl *ctl, struct flagctl_word *word, const cJSON *answer)
{
    const struct flagshm_snapshot_flag *flag;
    struct flagshm_snapshot snapshot;
    bool already;
    uint64_t version = flagctl_word_version(answer, &already);
    char sentence[200], share[24];

    (void)snprintf(sentence, sizeof sentence, already ? "not killed" : "not killed any more, version %llu",
                   (unsigned long long)version);
    if (word->flag != NULL && !already && flagctl_snapshot(ctl, &snapshot) == FLAGCTL_OK) {
        flag = flagshm_snapshot_find(&snapshot, word->flag);
        if (flag != NULL)
            (void)snprintf(sentence, sizeof sentence, "not killed any more, version %llu serves %s (%s)%s",
                           (unsigned long long)version, flagctl_share(flag->rollout_mpct, share), flag->stage,
                           snapshot.is_all_control ? "; but `kill --all` holds" : "");
        flagshm_snapshot_free(&snapshot);
    }
    return flagctl_word_done(ctl, word, "server", already, version, sentence);
}

/* No server runs and the table is ours to write. Written down first: a start in between finds it killed at worst. */
static int unkill_in_table(struct flagctl *ctl, struct flagctl_word *word, struct flagshm_segment *segment)
{
    struct flagshm_error error = {""};
    int code = flagctl_kill_erase(ctl, word->flag, &error);

    if (code != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing has changed: %s", error.text);
    if (word->flag == NULL) {
        bool already = !flagshm_segment_is_all_control(segment);

        flagshm_segment_set_all_control(segment, false);
        return flagctl_word_done(ctl, word, "lock", already, flagshm_segment_version(segment),
                                 already ? "not switched off" : "not switched off any more; no server runs");
    }
    code = flagctl_offline_unkill(segment, word->flag, &error);
    if (code == -ENOENT) {
        struct flagshm_snapshot snapshot;

        code = flagctl_snapshot(ctl, &snapshot);
        if (code == FLAGCTL_OK) {
            code = flagctl_no_flag(ctl, &snapshot, word->flag);
            flagshm_snapshot_free(&snapshot);
        }
        return code;
    }
    if (code != 0 && code != -EALREADY)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text);
    return flagctl_word_done(
        ctl, word, "lock", code == -EALREADY, flagshm_segment_version(segment),
        code == -EALREADY ? "not killed"
                          : "not killed any more, but it gives control until a server runs: only that knows "
                            "the share");
}

static int unkill_for_next_start(struct flagctl *ctl, struct flagctl_word *word)
{
    struct flagctl_seen seen = flagctl_word_look(ctl, word);
    struct flagshm_error error = {""};
    struct flagshm_kills kills = {0};
    bool already;

    if (seen.is_there && seen.is_killed) /* a server that takes it over would find it killed */
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "nothing has changed: no server runs, and this flagctl cannot write the table %s: it is "
            "damaged, or of another release\n"
            "start the server, then ask again",
            ctl->instance.table_path);
    if (!flagctl_has_state(ctl))
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                            "instance %s has no table (%s) and no state directory (%s)", ctl->instance.name,
                            ctl->instance.table_path, ctl->instance.state_dir);
    if (flagctl_kills_load(ctl, &kills, &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing has changed: %s", error.text);
    already = word->flag != NULL ? !flagshm_kills_has(&kills, word->flag) : !kills.all;
    flagshm_kills_free(&kills);
    if (!already && flagctl_kill_erase(ctl, word->flag, &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing has changed: %s", error.text);
    return flagctl_word_done(ctl, word, "file", already, 0,
                             !already        ? "not killed any more when the next server starts"
                             : seen.is_there ? "not killed"
                                             : "not killed; there is no table");
}

static int unkill_run(struct flagctl *ctl, int argc, char **argv)
{
    struct flagctl_word word = {.undo = "kill"};
    struct flagshm_segment segment;
    cJSON *request, *answer = NULL;
    enum flagctl_way way;
    bool is_resume = flagctl_option(ctl, "resume") != NULL;
    int code = flagctl_word_begin(ctl, &word, argc, argv);

    if (code != FLAGCTL_OK)
        return code;
    request = flagctl_word_request(word.flag, flagctl_option(ctl, "reason"));
    if (is_resume)
        (void)cJSON_AddTrueToObject(request, "resume");
    way = flagctl_reach(ctl, "unkill", request, false, &answer, &segment, &code);
    if (is_resume && way == FLAGCTL_WAY_TABLE)
        flagshm_segment_close(&segment);
    if (is_resume && (way == FLAGCTL_WAY_TABLE || way == FLAGCTL_WAY_NO_TABLE)) {
        code =
            flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                         "nothing has changed: no server runs, and only that knows where the rollout was\n"
                         "start it, then ask again; or without --resume: it then begins at its first step");
        way = FLAGCTL_WAY_NONE;
    }
    switch (way) {
    case FLAGCTL_WAY_SERVER:
        if (code == FLAGCTL_OK)
            code = done_by_server(ctl, &word, answer);
        break;
    case FLAGCTL_WAY_TABLE:
        code = unkill_in_table(ctl, &word, &segment);
        flagshm_segment_close(&segment);
        break;
    case FLAGCTL_WAY_NO_TABLE:
        code = unkill_for_next_start(ctl, &word);
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
    return flagctl_word_end(ctl, &word, code);
}

static const struct flagctl_option unkill_options[] = {
    {"all", 'a', NULL, FLAGCTL_NOTHING, "takes `kill --all` back; flags killed one by one stay killed"},
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history"},
    {"resume", 0, NULL, FLAGCTL_NOTHING,
     "a rollout goes on at the lower of the old step and 10 %, instead of from its first step"},
    {0},
};

const struct flagctl_command flagctl_unkill_command = {
    .name = "unkill",
    .group = "Ask the server",
    .arguments = "FLAG | --all",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "take a kill back",
    .help =
        "The flag serves again what the file says; one with a plan begins at its first step, or with "
        "--resume at the lower of\n"
        "the step where it was and 10 %. Where no server runs, the kill is taken back in the state directory "
        "and\n"
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
