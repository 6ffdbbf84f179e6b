/* record: books a later event of a call (a thumb, a retry, a contact) from a shell, as any program does: without the server. */
#include "tools/connect.h"
#include "tools/outcome_file.h"
#include "tools/view.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
    const char *option, *word;
    enum flagshm_event event;
} events[] = {
    {"thumbs-up", "thumbs_up", FLAGSHM_THUMBS_UP},
    {"thumbs-down", "thumbs_down", FLAGSHM_THUMBS_DOWN},
    {"retry", "retry", FLAGSHM_RETRY},
    {"support-contact", "support_contact", FLAGSHM_SUPPORT_CONTACT},
    {"custom", "custom", FLAGSHM_CUSTOM},
};

static int event_of(struct flagctl *ctl, enum flagshm_event *event, char word[32])
{
    size_t count = sizeof events / sizeof *events, given = 0, i;
    double number = 0;

    for (i = 0; i < count; i++) {
        const char *value = flagctl_option(ctl, events[i].option);

        if (value == NULL)
            continue;
        given++;
        *event = events[i].event;
        (void)snprintf(word, 32, "%s", events[i].word);
        if (events[i].event != FLAGSHM_CUSTOM)
            continue;
        if (!flagctl_number(value, 0, 7, &number) || strchr(value, '.') != NULL)
            return flagctl_fail(ctl, FLAGCTL_USAGE, "--custom is a whole number from 0 to 7, got \"%.100s\"",
                                value);
        *event = (enum flagshm_event)(FLAGSHM_CUSTOM + (int)number);
        (void)snprintf(word, 32, "custom_%d", (int)number);
    }
    if (given != 1)
        return flagctl_fail(
            ctl, FLAGCTL_USAGE,
            "say what happened, one of: --thumbs-up, --thumbs-down, --retry, --support-contact, "
            "--custom N");
    return FLAGCTL_OK;
}

/* The group that may write the segment, as a word. */
static void group_of(const char *path, char *out, size_t room)
{
    struct stat object;
    const struct group *entry = stat(path, &object) == 0 ? getgrgid(object.st_gid) : NULL;

    if (entry != NULL)
        (void)snprintf(out, room, "the group %s", entry->gr_name);
    else
        (void)snprintf(out, room, "the group that owns it (ls -l)");
}

static int refusal(struct flagctl *ctl, const char *flag, int code)
{
    char path[FLAGCTL_OUTCOMES_PATH], group[80];

    flagctl_outcomes_path(&ctl->instance, path);
    switch (-code) {
    case EACCES:
        group_of(path, group, sizeof group);
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "%s may not be written by this user: nothing is booked\njoin %s, or run as root; the "
            "server's --group names the group of those who book",
            path, group);
    case ENOENT:
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "there is no outcome segment (%s): nothing is booked\nstart the server; where it runs, it "
            "could not make one: flagctl doctor",
            path);
    case ESTALE:
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "%s has just been made anew: nothing is booked\ntry again in a second; where that does not "
            "help: flagctl doctor",
            path);
    case EPERM:
    case EPROTO:
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "%s is not to be trusted: it is no regular file, others may write it, or it has another "
            "layout\nsee `ls -l %s`; flagctl doctor",
            path, path);
    default:
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s: cannot be booked: %s", flag, strerror(-code));
    }
}

/* Why a decision without a slot books nothing; NULL: it has one. */
static const char *why_not(const struct flagshm_decision *d)
{
    if (d->slot != FLAGSHM_NO_SLOT)
        return NULL;
    switch (d->reason) {
    case FLAGSHM_STATIC:
        return "everyone gets the same arm, and there is nothing to compare";
    case FLAGSHM_TARGETING_MATCH:
        return "the id stands in the flag's force list";
    case FLAGSHM_DISABLED:
        return "the flag is switched off, killed or rolled back";
    case FLAGSHM_STALE:
        return "the server is silent, and the flag gives control meanwhile";
    default:
        return "the flag has no slot to book in (flagctl stats FLAG says why)";
    }
}

static int result_print(struct flagctl *ctl, const char *flag, const char *id, const char *word,
                        const struct flagshm_decision *d)
{
    const char *why = why_not(d);
    char clean[3][256];
    cJSON *json;

    if (ctl->is_json) {
        json = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(json, "flag", flag);
        (void)cJSON_AddStringToObject(json, "id", id);
        (void)cJSON_AddStringToObject(json, "event", word);
        (void)cJSON_AddBoolToObject(json, "booked", why == NULL);
        (void)cJSON_AddStringToObject(json, "arm", d->arm_name);
        (void)cJSON_AddStringToObject(json, "reason", flagshm_reason_name(d->reason));
        if (why != NULL)
            (void)cJSON_AddStringToObject(json, "why", why);
        return flagctl_json(ctl, json);
    }
    (void)flagctl_clean(flag, clean[0], sizeof clean[0]);
    (void)flagctl_clean(id, clean[1], sizeof clean[1]);
    (void)flagctl_clean(d->arm_name, clean[2], sizeof clean[2]);
    if (why == NULL)
        (void)fprintf(ctl->out, "%s: %s of %s is booked under %s\n", clean[0], word, clean[1], clean[2]);
    else
        (void)fprintf(ctl->out, "%s: not booked: %s (%s has %s)\n", clean[0], why, clean[1], clean[2]);
    return FLAGCTL_OK;
}

static int record_run(struct flagctl *ctl, int argc, char **argv)
{
    struct flagshm_decision d, after;
    enum flagshm_event event = FLAGSHM_CUSTOM;
    struct flagshm *client;
    char word[32];
    int code = event_of(ctl, &event, word), tries = 0;

    (void)argc;
    if (code == FLAGCTL_OK)
        code = flagctl_open(ctl, &client);
    if (code != FLAGCTL_OK)
        return code;
    (void)flagshm_decide(client, argv[0], argv[1], &d);
    if (d.reason == FLAGSHM_FLAG_NOT_FOUND)
        return flagctl_no_such_flag(ctl, argv[0]);
    if (d.reason == FLAGSHM_TARGETING_KEY_MISSING || strlen(argv[1]) > FLAGSHM_ID_MAX)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "an id has 1 to %d bytes", FLAGSHM_ID_MAX);
    if (d.reason >= FLAGSHM_FLAG_NOT_FOUND)
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE, "the table cannot be read: %s; flagctl dump",
                            flagshm_reason_name(d.reason));
    /* A table that changes between the two looks is looked at again. */
    while ((code = flagshm_event(client, argv[0], argv[1], event)) == -ESTALE && tries++ < 3)
        (void)flagshm_wait(client, flagshm_version(client), 100);
    if (code != 0)
        return refusal(ctl, argv[0], code);
    (void)flagshm_decide(client, argv[0], argv[1], &after);
    if (after.slot_generation != d.slot_generation || after.arm != d.arm)
        flagctl_warn(ctl, "the flag was changed at this moment: it may be booked under %s", d.arm_name);
    return result_print(ctl, argv[0], argv[1], word, &after);
}

static const struct flagctl_option options[] = {
    {"thumbs-up", 'u', NULL, FLAGCTL_NOTHING, "the user liked the answer"},
    {"thumbs-down", 'd', NULL, FLAGCTL_NOTHING, "the user did not like it"},
    {"retry", 'r', NULL, FLAGCTL_NOTHING, "the user asked again"},
    {"support-contact", 's', NULL, FLAGCTL_NOTHING, "the user turned to support"},
    {"custom", 'c', "N", FLAGCTL_NUMBER, "the event of the flag's own guardrail 0...7"},
    {0},
};

const struct flagctl_command flagctl_record_command = {
    .name = "record",
    .group = "For shells",
    .arguments = "FLAG ID --EVENT",
    .argument_kinds = {FLAGCTL_FLAG, FLAGCTL_ID},
    .summary = "book what a user did later: a thumb, a retry, a contact",
    .help = "    flagctl record new_summarizer_model --thumbs-down -- \"$user\"\n\n"
            "Booked under the arm that the id has now, hours after the call too, and from any process; in "
            "memory, without "
            "the server.\n"
            "Where the flag books nothing (0 or 100 %, killed, forced id) that is said, and no failure.\n\n"
            "Exit codes: 0 booked, or the flag books nothing; 2 usage; 4 no such flag; 5 no table, no "
            "outcome segment, or "
            "no\n"
            "permission to write it; 1 it cannot be booked for another reason.\n\n"
            "JSON: {\"flag\", \"id\", \"event\": \"thumbs_up\", \"thumbs_down\", \"retry\", "
            "\"support_contact\" or "
            "\"custom_N\", \"booked\",\n"
            "  \"arm\", \"reason\", \"why\" (not booked)}",
    .options = options,
    .min_arguments = 2,
    .max_arguments = 2,
    .run = record_run,
};
