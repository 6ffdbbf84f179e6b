/* kill: a flag, or all of them, give control at once. It must work when nothing else does: the server dead, stopped or starting, the
 * table lost, the disk full. Each way is named in what is printed, and where a flag is not off yet, that is said. */
#include "server/clock.h"
#include "tools/change.h"
#include "tools/offline.h"
#include "tools/word.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define ALIVE_NS      INT64_C(1700000000) /* a heartbeat of at most this age, 2 s after the first try: it lives */
#define BEATS_WAIT_NS UINT64_C(2500000000)

struct kill { /* one run */
    struct flagctl_word word;
    const char *reason;
    uint64_t begin_ns;
};

static int done_by_server(struct flagctl *ctl, struct kill *k, const cJSON *answer)
{
    const char *warning = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "warning"));
    bool already;
    uint64_t version = flagctl_word_version(answer, &already);
    char sentence[160];

    if (warning != NULL)
        flagctl_note(ctl, k->word.result, "it is not written down and may be lost by a restart: %s", warning);
    if (already)
        (void)snprintf(sentence, sizeof sentence, "killed already");
    else
        (void)snprintf(sentence, sizeof sentence, "killed, version %llu gives control to everyone (%.1f ms)",
                       (unsigned long long)version, (double)(flagshm_mono_ns() - k->begin_ns) / 1e6);
    return flagctl_word_done(ctl, &k->word, "server", already, version, sentence);
}

/* A table without the flag: is it only written down, or unknown? */
static int not_in_table(struct flagctl *ctl, struct kill *k)
{
    struct flagshm_snapshot snapshot;
    struct flagshm_kills kills = {0};
    bool is_written = flagctl_kills_load(ctl, &kills, NULL) == 0 && k->word.flag != NULL &&
                      flagshm_kills_has(&kills, k->word.flag);
    int code;

    flagshm_kills_free(&kills);
    if (is_written)
        return flagctl_word_done(ctl, &k->word, "file", true, 0,
                                 "killed already; the table has no such flag now");
    code = flagctl_snapshot(ctl, &snapshot);
    if (code == FLAGCTL_OK) {
        code = flagctl_no_flag(ctl, &snapshot, k->word.flag);
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

    if (k->word.flag != NULL) {
        code = flagshm_segment_kill(segment, k->word.flag, &error);
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
    if (flagctl_kill_write(ctl, k->word.flag, k->reason, NULL, &disk) != 0)
        flagctl_note(ctl, k->word.result,
                     "it is off now, but it could not be written down and may be lost with the table: %s",
                     disk.text);
    return flagctl_word_done(
        ctl, &k->word, "lock", already, flagshm_segment_version(segment),
        already ? "killed already"
                : "killed in the table; no server runs, and it stays killed when one starts");
}

/* No table that a server would go on with: none at all, as after a reboot, or one that is damaged or of another release, which may
 * still have readers. Whoever builds the next one must know; one switch over all flags works in any of them. */
static int kill_for_next_start(struct flagctl *ctl, struct kill *k)
{
    struct flagctl_seen seen = flagctl_word_look(ctl, &k->word);
    struct flagshm_error error = {""};
    bool already = false, is_switched, is_written;
    char again[2048];

    is_switched = k->word.flag == NULL &&
                  flagshm_segment_force_all_control(ctl->instance.dir, ctl->instance.name, NULL) == 0;
    if (!flagctl_has_state(ctl) && !is_switched && !seen.is_there)
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "there is nothing to kill: instance %s has no table (%s) and no state directory (%s)\n"
            "name another one: --instance NAME, --dir DIR, --state-dir DIR",
            ctl->instance.name, ctl->instance.table_path, ctl->instance.state_dir);
    if (k->word.flag != NULL && flagctl_is_unknown_to_state(ctl, k->word.flag))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG,
                            "there is no flag \"%s\" in the last good file (%s/last-good.json)", k->word.flag,
                            ctl->instance.state_dir);
    is_written = flagctl_kill_write(ctl, k->word.flag, k->reason, &already, &error) == 0;
    if (is_switched) {
        if (!is_written)
            flagctl_note(ctl, k->word.result,
                         "it could not be written down: a new table would not have it: %s", error.text);
        return flagctl_word_done(ctl, &k->word, "switch", seen.is_killed, seen.version,
                                 seen.is_killed
                                     ? "killed already"
                                     : "every flag gives control, switched in the table; no server runs");
    }
    if (k->word.flag != NULL && seen.is_there && seen.is_known && !seen.is_killed)
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "%s is NOT off yet: no server runs, and this flagctl cannot write the table %s: it is "
            "damaged, or of another release\n%s%s\nwhat works now, for every flag: %s",
            k->word.flag, ctl->instance.table_path,
            is_written ? "it is written down: the next server starts with it killed"
                       : "and it could not be written down: ",
            is_written ? "" : error.text, flagctl_again(ctl, again, "kill --all"));
    if (!is_written)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s: nothing is killed: %s", flagctl_word_name(&k->word),
                            error.text);
    return flagctl_word_done(
        ctl, &k->word, "file", already, 0,
        already ? "killed already; there is no table now, and the next server starts with that"
                : "written down; there is no table now, and the next server starts with it killed");
}

/* A server that lives, though its socket is not to be reached, finds what is written down with its next beat. */
static struct flagctl_seen wait_for_beat(struct flagctl *ctl, const struct kill *k)
{
    const struct timespec nap = {0, 20000000};
    uint64_t end = flagshm_mono_ns() + BEATS_WAIT_NS;
    struct flagctl_seen seen = flagctl_word_look(ctl, &k->word);

    while (!seen.is_killed && seen.age_ns < ALIVE_NS && flagshm_mono_ns() < end) {
        (void)nanosleep(&nap, NULL);
        seen = flagctl_word_look(ctl, &k->word);
    }
    return seen;
}

/* A server that holds the table and does not answer. Its bank is not ours; the switch over all flags is one bit. */
static int kill_beside_server(struct flagctl *ctl, struct kill *k)
{
    struct flagshm_error error = {""};
    char again[2048];
    struct flagctl_seen seen = flagctl_word_look(ctl, &k->word);
    bool is_written;

    if (seen.is_killed)
        return flagctl_word_done(ctl, &k->word, "switch", true, seen.version,
                                 "killed already; the server does not answer");
    if (!seen.is_known)
        return not_in_table(ctl, k);
    is_written = flagctl_kill_write(ctl, k->word.flag, k->reason, NULL, &error) == 0;
    if (k->word.flag != NULL && is_written) {
        seen = wait_for_beat(ctl, k);
        if (seen.is_killed)
            return flagctl_word_done(
                ctl, &k->word, "file", false, seen.version,
                "killed; the server does not answer on its socket, and took it from its state directory");
    }
    if (k->word.flag != NULL)
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "%s is NOT off yet: the server of instance %s holds the table and does not answer\n%s%s\n"
            "what works now, for every flag: %s",
            k->word.flag, ctl->instance.name,
            is_written ? "it is written down, and will be off as soon as the server wakes or restarts"
                       : "and it could not be written down: ",
            is_written ? "" : error.text, flagctl_again(ctl, again, "kill --all"));
    if (!is_written)
        flagctl_note(ctl, k->word.result, "it could not be written down and may be lost by a restart: %s",
                     error.text);
    if (flagshm_segment_force_all_control(ctl->instance.dir, ctl->instance.name, &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "nothing is off: %s", error.text);
    return flagctl_word_done(ctl, &k->word, "switch", false, seen.version,
                             "every flag gives control, switched in the table; the server does not answer");
}

static int kill_run(struct flagctl *ctl, int argc, char **argv)
{
    struct kill k = {.word = {.undo = "unkill", .always_undo = true},
                     .reason = flagctl_option(ctl, "reason"),
                     .begin_ns = flagshm_mono_ns()};
    struct flagshm_segment segment;
    cJSON *request, *answer = NULL;
    int code = flagctl_word_begin(ctl, &k.word, argc, argv);

    if (code != FLAGCTL_OK)
        return code;
    request = flagctl_word_request(k.word.flag, k.reason);
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
    return flagctl_word_end(ctl, &k.word, code);
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
        "- A table of another release, or a damaged one: --all works at once; a single flag is only written "
        "down, with exit code 5.\n"
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
