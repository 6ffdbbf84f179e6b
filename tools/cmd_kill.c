/* kill: a flag, or all of them, give control at once. It must work when nothing else does: the server dead, stopped or starting, the
 * table lost, the disk full. Each way is named in what is printed, and where a flag is not off yet, that is said. */
#include "server/flagfile.h"
#include "tools/change.h"
#include "tools/offline.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define ALIVE_NS      INT64_C(1700000000) /* a heartbeat of at most this age, 2 s after the first try: it lives */
#define BEATS_WAIT_NS UINT64_C(2500000000)

struct kill {         /* one run */
    const char *flag; /* NULL: all */
    const char *reason;
    uint64_t begin_ns;
    cJSON *result;
};

static const char *name_of(const struct kill *k)
{
    return k->flag != NULL ? k->flag : "all flags";
}

/* Ends a run that stopped something, or found it stopped. `by`: server, lock, switch or file. */
static int done(struct flagctl *ctl, struct kill *k, const char *by, bool already, uint64_t version,
                const char *sentence)
{
    char again[2048];
    const char *undo = flagctl_again(ctl, again, "unkill %s", k->flag != NULL ? k->flag : "--all");

    if (!ctl->is_json) {
        (void)fprintf(ctl->out, "%s: %s\nundo: %s\n", name_of(k), sentence, undo);
        return FLAGCTL_OK;
    }
    if (k->flag != NULL)
        (void)cJSON_AddStringToObject(k->result, "flag", k->flag);
    else
        (void)cJSON_AddNullToObject(k->result, "flag");
    (void)cJSON_AddBoolToObject(k->result, "all", k->flag == NULL);
    (void)cJSON_AddBoolToObject(k->result, "already", already);
    (void)cJSON_AddStringToObject(k->result, "by", by);
    if (version != 0)
        flagctl_json_u64(k->result, "version", version);
    (void)cJSON_AddStringToObject(k->result, "undo", undo);
    return FLAGCTL_OK;
}

static int done_by_server(struct flagctl *ctl, struct kill *k, const cJSON *answer)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(answer, "version");
    const char *warning = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "warning"));
    const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "code"));
    bool already = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "already")) ||
                   (word != NULL && strcmp(word, "already") == 0);
    uint64_t version = cJSON_IsNumber(number) && number->valuedouble > 0 ? (uint64_t)number->valuedouble : 0;
    char sentence[160];

    if (warning != NULL)
        flagctl_note(ctl, k->result, "it is not written down and may be lost by a restart: %s", warning);
    if (already)
        (void)snprintf(sentence, sizeof sentence, "killed already");
    else
        (void)snprintf(sentence, sizeof sentence, "killed, version %llu gives control to everyone (%.1f ms)",
                       (unsigned long long)version, (double)(flagctl_mono_ns() - k->begin_ns) / 1e6);
    return done(ctl, k, "server", already, version, sentence);
}

/* A table without the flag: is it only written down, or unknown? */
static int not_in_table(struct flagctl *ctl, struct kill *k)
{
    struct flagshm_snapshot snapshot;
    struct flagshm_kills kills = {0};
    bool is_written =
        flagctl_kills_load(ctl, &kills, NULL) == 0 && k->flag != NULL && flagshm_kills_has(&kills, k->flag);
    int code;

    flagshm_kills_free(&kills);
    if (is_written)
        return done(ctl, k, "file", true, 0, "killed already; the table has no such flag now");
    code = flagctl_snapshot(ctl, &snapshot);
    if (code == FLAGCTL_OK) {
        code = flagctl_no_flag(ctl, &snapshot, k->flag);
        flagshm_snapshot_free(&snapshot);
    }
    return code;
}

/* No server runs and the table is ours to write. The table first: no disk may hold back a kill. */
static int kill_in_table(struct flagctl *ctl, struct kill *k, struct flagshm_segment *segment)
{
    struct flagshm_error error = {""}, disk = {""};
    bool already;
    int code = 0;

    if (k->flag != NULL) {
        code = flagshm_segment_kill(segment, k->flag, &error);
    } else if (flagshm_segment_is_all_control(segment)) {
        code = -EALREADY;
    } else {
        flagshm_segment_set_all_control(segment, true);
    }
    if (code == -ENOENT)
        return not_in_table(ctl, k);
    if (code != 0 && code != -EALREADY)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text);
    already = code == -EALREADY;
    if (flagctl_kill_write(ctl, k->flag, k->reason, NULL, &disk) != 0)
        flagctl_note(ctl, k->result,
                     "it is off now, but it could not be written down and may be lost with the table: %s",
                     disk.text);
    return done(ctl, k, "lock", already, flagshm_segment_version(segment),
                already ? "killed already"
                        : "killed in the table; no server runs, and it stays killed when one starts");
}

/* No table, as after a reboot: whoever builds the next one must know. */
static int kill_for_next_start(struct flagctl *ctl, struct kill *k)
{
    struct flagshm_error error = {""};
    bool already = false;

    if (!flagctl_has_state(ctl))
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "there is nothing to kill: instance %s has no table (%s) and no state directory (%s)\n"
            "name another one: --instance NAME, --dir DIR, --state-dir DIR",
            ctl->instance.name, ctl->instance.table_path, ctl->instance.state_dir);
    if (k->flag != NULL && flagctl_is_unknown_to_state(ctl, k->flag))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG,
                            "there is no flag \"%s\" in the last good file (%s/last-good.json)", k->flag,
                            ctl->instance.state_dir);
    if (flagctl_kill_write(ctl, k->flag, k->reason, &already, &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s: nothing is killed: %s", name_of(k), error.text);
    if (k->flag == NULL) /* a table that no server would go on with may still have readers */
        (void)flagshm_segment_force_all_control(ctl->instance.dir, ctl->instance.name, NULL);
    return done(ctl, k, "file", already, 0,
                already ? "killed already; there is no table now, and the next server starts with that"
                        : "written down; there is no table now, and the next server starts with it killed");
}

struct seen { /* in the table */
    bool is_killed, is_known;
    uint64_t version;
    int64_t age_ns; /* of the heartbeat */
};

static struct seen look(struct flagctl *ctl, const struct kill *k)
{
    struct seen seen = {.is_known = true,
                        .age_ns = INT64_MAX}; /* what cannot be read cannot be held against it */
    const struct flagshm_snapshot_flag *flag;
    struct flagshm_snapshot snapshot;
    struct flagshm *client;

    if (flagctl_client(ctl, &client) != 0 || flagshm_snapshot_take(&snapshot, client, NULL) != 0)
        return seen;
    flag = k->flag != NULL ? flagshm_snapshot_find(&snapshot, k->flag) : NULL;
    seen.version = snapshot.version;
    seen.age_ns = snapshot.age_ns;
    seen.is_known = k->flag == NULL || flag != NULL;
    seen.is_killed = k->flag == NULL ? snapshot.is_all_control
                                     : flag != NULL && (flag->switches & FLAGSHM_SWITCH_KILLED) != 0;
    flagshm_snapshot_free(&snapshot);
    return seen;
}

/* A server that lives, though its socket is not to be reached, finds what is written down with its next beat. */
static struct seen wait_for_beat(struct flagctl *ctl, const struct kill *k)
{
    const struct timespec nap = {0, 20000000};
    uint64_t end = flagctl_mono_ns() + BEATS_WAIT_NS;
    struct seen seen = look(ctl, k);

    while (!seen.is_killed && seen.age_ns < ALIVE_NS && flagctl_mono_ns() < end) {
        (void)nanosleep(&nap, NULL);
        seen = look(ctl, k);
    }
    return seen;
}

/* A server that holds the table and does not answer. Its bank is not ours; the switch over all flags is one bit. */
static int kill_beside_server(struct flagctl *ctl, struct kill *k)
{
    struct flagshm_error error = {""};
    char again[2048];
    struct seen seen = look(ctl, k);
    bool is_written;

    if (seen.is_killed)
        return done(ctl, k, "switch", true, seen.version, "killed already; the server does not answer");
    if (!seen.is_known)
        return not_in_table(ctl, k);
    is_written = flagctl_kill_write(ctl, k->flag, k->reason, NULL, &error) == 0;
    if (k->flag != NULL && is_written) {
        seen = wait_for_beat(ctl, k);
        if (seen.is_killed)
            return done(
                ctl, k, "file", false, seen.version,
                "killed; the server does not answer on its socket, and took it from its state directory");
    }
    if (k->flag != NULL)
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "%s is NOT off yet: the server of instance %s holds the table and does not answer\n%s%s\n"
            "what works now, for every flag: %s",
            k->flag, ctl->instance.name,
            is_written ? "it is written down, and will be off as soon as the server wakes or restarts"
                       : "and it could not be written down: ",
            is_written ? "" : error.text, flagctl_again(ctl, again, "kill --all"));
    if (!is_written)
        flagctl_note(ctl, k->result, "it could not be written down and may be lost by a restart: %s",
                     error.text);
    if (flagshm_segment_force_all_control(ctl->instance.dir, ctl->instance.name, &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing is off: %s", error.text);
    return done(ctl, k, "switch", false, seen.version,
                "every flag gives control, switched in the table; the server does not answer");
}

static int kill_run(struct flagctl *ctl, int argc, char **argv)
{
    struct kill k = {.flag = argc > 0 ? argv[0] : NULL,
                     .reason = flagctl_option(ctl, "reason"),
                     .begin_ns = flagctl_mono_ns()};
    struct flagshm_segment segment;
    cJSON *request, *answer = NULL;
    int code;

    if ((flagctl_option(ctl, "all") != NULL) == (k.flag != NULL))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "kill needs one FLAG, or --all");
    if (k.flag != NULL && !flagshm_is_flag_name(k.flag, strlen(k.flag)))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\": that can be no flag's name",
                            k.flag);
    k.result = cJSON_CreateObject();
    request = flagctl_word_request(k.flag, k.reason);
    switch (flagctl_reach(ctl, "kill", request, true, &answer, &segment, &code)) {
    case FLAGCTL_WAY_SERVER:
        if (code == FLAGCTL_OK)
            code = done_by_server(ctl, &k, answer);
        break;
    case FLAGCTL_WAY_TABLE:
        code = kill_in_table(ctl, &k, &segment);
        flagshm_segment_close(&segment);
        break;
    case FLAGCTL_WAY_NO_TABLE:
        code = kill_for_next_start(ctl, &k);
        break;
    case FLAGCTL_WAY_HELD:
        code = kill_beside_server(ctl, &k);
        break;
    case FLAGCTL_WAY_NONE:
        break;
    }
    cJSON_Delete(request);
    cJSON_Delete(answer);
    if (code == FLAGCTL_OK && ctl->is_json)
        return flagctl_result(ctl, k.result);
    cJSON_Delete(k.result);
    return code;
}

static const struct flagctl_option kill_options[] = {
    {"all", 'a', NULL, FLAGCTL_NOTHING, "every flag of the instance, also those that come later"},
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history"},
    {0},
};

const struct flagctl_command flagctl_kill_command = {
    .name = "kill",
    .group = "Ask the server",
    .arguments = "FLAG | --all",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "give control to everyone, at once and until unkill",
    .help =
        "Asks the server. Where none answers (2 s), it takes the server's place for a moment: it marks the "
        "flag as killed in\n"
        "the table and in the state directory. A kill outlives edits of the file, restarts and reboots.\n\n"
        "- No server runs: the flag is off at once, and stays off when one starts.\n"
        "- No table is there (a reboot): it is written down; the next server starts with it.\n"
        "- A server holds the table and does not answer (it is stopped): --all works at once. A single flag "
        "is only\n"
        "  written down, which is said, with exit code 5: it is off when the server wakes or restarts.\n\n"
        "Who may: root, the server's user, members of its admin group; without a server root and the table's "
        "owner.\n"
        "A repeated kill is no error. Exit codes: 4 no such flag, 5 not off yet, 1 not permitted or "
        "failed.\n\n"
        "JSON: {\"flag\", \"all\", \"already\", \"by\": \"server\"|\"lock\"|\"switch\"|\"file\", "
        "\"version\", \"undo\", \"warnings\": []}",
    .options = kill_options,
    .max_arguments = 1,
    .run = kill_run,
};
