/* verbs: see the header. */
#include "server/clock.h"
#include "server/json_add.h"
#include "server/log.h"
#include "server/stats.h"
#include "server/verbs_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_MAX 10000

cJSON *flagshm_verbs_refuse(const char *code, const char *format, ...)
{
    cJSON *answer = cJSON_CreateObject();
    char message[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    cJSON_AddBoolToObject(answer, "ok", false);
    cJSON_AddStringToObject(answer, "code", code);
    cJSON_AddStringToObject(answer, "message", message);
    return answer;
}

cJSON *flagshm_verbs_agree(const struct flagshm_verbs *verbs)
{
    cJSON *answer = cJSON_CreateObject();

    cJSON_AddBoolToObject(answer, "ok", true);
    flagshm_json_add_u64(answer, "version", flagshm_segment_version(&verbs->publisher->segment));
    return answer;
}

const char *flagshm_verbs_text(const cJSON *request, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(request, key);

    return cJSON_IsString(value) ? value->valuestring : NULL;
}

/* ---- look ---- */

static cJSON *ping(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    cJSON *answer = flagshm_verbs_agree(verbs);

    (void)peer;
    (void)request;
    cJSON_AddNumberToObject(answer, "pid", getpid());
    cJSON_AddStringToObject(answer, "release", FLAGSHM_VERSION);
    return answer;
}

static const char *state_word(enum flagshm_file_state state)
{
    static const char *const words[] = {"unread", "good", "broken", "refused", "gone"};

    return words[state];
}

static void add_names(cJSON *answer, const struct flagshm_publisher *p)
{
    cJSON *kills = cJSON_AddArrayToObject(answer, "kills"),
          *held = cJSON_AddArrayToObject(answer, "deletions_held");
    size_t i;

    for (i = 0; i < p->kills.count; i++)
        cJSON_AddItemToArray(kills, cJSON_CreateString(p->kills.names[i]));
    for (i = 0; p->has_good && i < p->good.count; i++)
        if (p->good.entries[i].is_held)
            cJSON_AddItemToArray(held, cJSON_CreateString(p->good.entries[i].flag.name));
}

static cJSON *status(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const struct flagshm_publisher *p = verbs->publisher;
    cJSON *answer = flagshm_verbs_agree(verbs);
    char health[512];

    (void)peer;
    (void)request;
    cJSON_AddNumberToObject(answer, "pid", getpid());
    cJSON_AddStringToObject(answer, "release", FLAGSHM_VERSION);
    flagshm_json_add_time(answer, "started", verbs->started_realtime_ns);
    flagshm_json_add_u64(answer, "file_rev", p->file_rev);
    cJSON_AddStringToObject(answer, "file", p->file_path);
    cJSON_AddStringToObject(answer, "state_dir", p->state_dir);
    cJSON_AddStringToObject(answer, "notify_dir", verbs->notify_dir != NULL ? verbs->notify_dir : "");
    cJSON_AddStringToObject(answer, "file_state", state_word(p->file_state));
    cJSON_AddItemToObject(answer, "faults",
                          p->faults != NULL ? cJSON_Duplicate(p->faults, true) : cJSON_CreateArray());
    cJSON_AddStringToObject(answer, "refusal", p->refusal.text);
    cJSON_AddNumberToObject(answer, "flags", p->has_good ? (double)p->good.count : 0);
    cJSON_AddNumberToObject(answer, "kept", (double)p->kept);
    cJSON_AddNumberToObject(answer, "absent", (double)p->absent);
    cJSON_AddNumberToObject(answer, "lowered", (double)p->lowered);
    cJSON_AddBoolToObject(answer, "all_control", p->kills.all);
    add_names(answer, p);
    cJSON_AddStringToObject(answer, "watch",
                            flagshm_watch_is_polling_only(verbs->watch) ? "poll" : "inotify");
    flagshm_journal_health(p->journal, health, sizeof health);
    cJSON_AddStringToObject(answer, "journal", health);
    return answer;
}

static cJSON *history(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const cJSON *limit = cJSON_GetObjectItemCaseSensitive(request, "limit");
    size_t count = 50;
    cJSON *events, *answer;

    (void)peer;
    if (limit != NULL &&
        (!cJSON_IsNumber(limit) || limit->valuedouble < 1 || limit->valuedouble > HISTORY_MAX))
        return flagshm_verbs_refuse("usage", "limit must be a number 1..%d", HISTORY_MAX);
    if (limit != NULL)
        count = (size_t)limit->valuedouble;
    events = flagshm_journal_history(verbs->publisher->journal, flagshm_verbs_text(request, "flag"), count);
    if (events == NULL)
        return flagshm_verbs_refuse("failed", "the journal cannot be read now");
    answer = flagshm_verbs_agree(verbs);
    cJSON_AddItemToObject(answer, "events", events);
    return answer;
}

static cJSON *show(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(request, "file_rev");
    cJSON *answer;
    char *text;
    size_t bytes;

    (void)peer;
    if (!cJSON_IsNumber(number) || number->valuedouble < 1 || number->valuedouble > 9007199254740992.0)
        return flagshm_verbs_refuse("usage",
                                    "file_rev must be the number of a file revision (see flagctl history)");
    text = flagshm_journal_text(verbs->publisher->journal, (uint64_t)number->valuedouble, &bytes);
    if (text == NULL)
        return flagshm_verbs_refuse("failed", "there is no file revision %.0f in the journal",
                                    number->valuedouble);
    answer = flagshm_verbs_agree(verbs);
    cJSON_AddStringToObject(answer, "text", text); /* accepted texts are sound UTF-8 without NUL */
    free(text);
    return answer;
}

/* ---- change ---- */

static cJSON *already(const struct flagshm_verbs *verbs)
{
    cJSON *answer = flagshm_verbs_agree(verbs);

    cJSON_AddBoolToObject(answer, "already", true);
    return answer;
}

/* The flag that a kill or unkill names: NULL with *all; or NULL and *answer set. */
static const char *flag_of(const cJSON *request, bool *all, cJSON **answer)
{
    const char *flag = flagshm_verbs_text(request, "flag");

    *all = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, "all"));
    *answer = NULL;
    if (*all == (flag != NULL)) {
        *answer = flagshm_verbs_refuse("usage", "name one flag, or all");
        return NULL;
    }
    if (flag != NULL && !flagshm_is_flag_name(flag, strlen(flag))) {
        *answer = flagshm_verbs_refuse("no_such_flag", "\"%.80s\" can be no flag's name", flag);
        return NULL;
    }
    return flag;
}

static bool give_to_disk(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const char *flag,
                         const char *reason, bool is_erase, bool is_resume)
{
    struct flagshm_disk_job job = {.is_erase = is_erase, .is_resume = is_resume, .ticket = peer->ticket};

    snprintf(job.flag, sizeof job.flag, "%s", flag != NULL ? flag : "");
    if (is_erase)
        snprintf(job.why, sizeof job.why, "%s: %.300s", peer->user, reason != NULL ? reason : "");
    else
        snprintf(job.why, sizeof job.why, "killed by %s: %.300s", peer->user,
                 reason != NULL ? reason : "(no reason given)");
    return flagshm_disk_give(verbs->publisher->disk, &job) == 0;
}

/* Published first: no disk may hold back a kill. The answer comes when it is on the disk as well. */
static cJSON *kill_verb(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const char *reason = flagshm_verbs_text(request, "reason"), *flag;
    cJSON *answer;
    bool all;
    int result;

    flag = flag_of(request, &all, &answer);
    if (answer != NULL)
        return answer;
    result = flagshm_publisher_kill(verbs->publisher, flag, peer->user, reason);
    if (result == -ENOENT)
        return flagshm_verbs_refuse("no_such_flag", "there is no flag \"%s\"", flag);
    if (result != 0 && result != -EALREADY)
        return flagshm_verbs_refuse("failed", "%s cannot be killed: %s", flag, strerror(-result));
    if (result == -EALREADY)
        return already(verbs);
    if (!give_to_disk(verbs, peer, flag, reason, false, false))
        return flagshm_verbs_refuse(
            "failed", "killed now, but there is no memory to write it down: it may be lost by a restart");
    return NULL;
}

/* Erased from the disk first: a restart in between may only find the flag still killed. */
static cJSON *unkill_verb(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const char *reason = flagshm_verbs_text(request, "reason"), *flag;
    cJSON *answer;
    bool all;

    flag = flag_of(request, &all, &answer);
    if (answer != NULL)
        return answer;
    if (!flagshm_publisher_is_killed(verbs->publisher, flag)) {
        if (flag != NULL &&
            (!verbs->publisher->has_good || flagshm_flagfile_find(&verbs->publisher->good, flag) == NULL))
            return flagshm_verbs_refuse("no_such_flag", "there is no flag \"%s\"", flag);
        return already(verbs);
    }
    if (!give_to_disk(verbs, peer, flag, reason, true,
                      cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, "resume"))))
        return flagshm_verbs_refuse("failed", "no memory: nothing has changed");
    return NULL;
}

/* "USER: REASON", as give_to_disk wrote it. */
static cJSON *lift(struct flagshm_verbs *verbs, const struct flagshm_disk_job *job)
{
    char user[64];
    const char *colon = strstr(job->why, ": ");
    size_t length = colon != NULL ? (size_t)(colon - job->why) : strlen(job->why);
    const struct flagshm_ward *ward = flagshm_wards_find_name(&verbs->publisher->wards, job->flag);
    uint32_t before_mpct = ward != NULL ? ward->state.share_mpct : 0;
    struct flagshm_governor_answer answer;
    int result;

    snprintf(user, sizeof user, "%.*s", (int)(length < sizeof user ? length : sizeof user - 1), job->why);
    result = flagshm_publisher_unkill(verbs->publisher, job->flag[0] != '\0' ? job->flag : NULL, user,
                                      colon != NULL ? colon + 2 : "");
    if (result == -EALREADY)
        return already(verbs);
    if (result != 0)
        return flagshm_verbs_refuse("failed", "the kill is taken back, but the table stays as it is: %s",
                                    verbs->publisher->refusal.text);
    if (job->is_resume && job->flag[0] != '\0') {
        if (!flagshm_governor_resume_at(verbs->governor, job->flag, before_mpct, user, job->ticket, &answer))
            return NULL;
        if (answer.result != 0)
            return flagshm_verbs_of_answer(verbs, &answer);
    }
    return flagshm_verbs_agree(verbs);
}

void flagshm_verbs_disk_done(struct flagshm_verbs *verbs, const struct flagshm_disk_job *job)
{
    const char *name = job->flag[0] != '\0' ? job->flag : "all flags";
    cJSON *answer;

    if (job->result != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", job->error.text);
    if (job->is_erase)
        answer = job->result == 0
                     ? lift(verbs, job)
                     : flagshm_verbs_refuse("failed", "%s stay killed: %s", name, job->error.text);
    else {
        answer = flagshm_verbs_agree(verbs);
        cJSON_AddBoolToObject(answer, "durable", job->result == 0);
        if (job->result != 0) {
            cJSON_AddStringToObject(answer, "warning", job->error.text);
            flagshm_publisher_unwritten(verbs->publisher, job->flag[0] != '\0' ? job->flag : NULL);
        }
    }
    if (answer == NULL)
        return; /* the governor answers */
    if (job->ticket != 0)
        flagshm_control_reply(verbs->control, job->ticket, answer);
    else
        cJSON_Delete(answer);
}

static cJSON *accept_verb(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    size_t held = verbs->publisher->deletions_held;
    int result = flagshm_publisher_accept(verbs->publisher, peer->user);
    cJSON *answer;

    (void)request;
    if (result == -EALREADY)
        return already(verbs);
    if (result != 0)
        return flagshm_verbs_refuse("failed", "the deletions are not applied: %s",
                                    verbs->publisher->refusal.text);
    answer = flagshm_verbs_agree(verbs);
    cJSON_AddNumberToObject(answer, "deleted", (double)held);
    return answer;
}

static cJSON *reload_verb(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    (void)request;
    flagshm_journal_event(verbs->publisher->journal, flagshm_realtime_ns(), "reload", NULL, peer->user, NULL);
    verbs->wants_reload = true;
    return flagshm_verbs_agree(verbs);
}

static cJSON *stats(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const char *flag = flagshm_verbs_text(request, "flag");
    cJSON *answer, *flags;

    (void)peer;
    if (flag != NULL &&
        (!verbs->publisher->has_good || flagshm_flagfile_find(&verbs->publisher->good, flag) == NULL))
        return flagshm_verbs_refuse("no_such_flag", "there is no flag \"%.64s\"", flag);
    answer = flagshm_verbs_agree(verbs);
    flags = flagshm_stats(verbs->publisher, flag, answer);
    cJSON_AddItemToObject(answer, "flags", flags);
    return answer;
}

static const struct verb {
    const char *name;
    cJSON *(*answer)(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request);
    bool is_change;
    bool is_urgent; /* done also for a client that has hung up meanwhile: it has been told so, and means it */
} verb_table[] = {
    {"ping", ping, false, false},
    {"status", status, false, false},
    {"history", history, false, false},
    {"show", show, false, false},
    {"stats", stats, false, false},
    {"kill", kill_verb, true, true},
    {"unkill", unkill_verb, true, false},
    {"accept", accept_verb, true, false},
    {"reload", reload_verb, true, false},
    {"rollouts", flagshm_verb_rollouts, false, false},
    {"rollback", flagshm_verb_rollback, true, true},
    {"clear", flagshm_verb_clear, true, false},
    {"approve", flagshm_verb_approve, true, false},
    {"pause", flagshm_verb_pause, true, true},
    {"resume", flagshm_verb_resume, true, false},
    {"advance", flagshm_verb_advance, true, false},
    {"waive", flagshm_verb_waive, true, false},
    {"freeze", flagshm_verb_freeze, true, true},
    {"thaw", flagshm_verb_thaw, true, false},
    {"drill", flagshm_verb_drill, true, false},
    {"drill_end", flagshm_verb_drill_end, true, false},
};

cJSON *flagshm_verbs_answer(void *context, const struct flagshm_peer *peer, const cJSON *request)
{
    struct flagshm_verbs *verbs = context;
    const char *name = flagshm_verbs_text(request, "verb");
    size_t i;

    if (name == NULL)
        return flagshm_verbs_refuse("usage", "a request is an object with a \"verb\"");
    for (i = 0; i < sizeof verb_table / sizeof verb_table[0]; i++) {
        if (strcmp(verb_table[i].name, name) != 0)
            continue;
        if (verb_table[i].is_change && !peer->may_change)
            return flagshm_verbs_refuse(
                "denied", "%s may not %s: root, the server's user, or a member of its admin group may",
                peer->user, name);
        if (verb_table[i].is_change && !verb_table[i].is_urgent && peer->has_gone) {
            flagshm_log(FLAGSHM_LOG_NOTICE, "%s: %s is not done: who asked for it no longer waits",
                        peer->user, name);
            return flagshm_verbs_refuse("failed", "nobody waits for the answer any more");
        }
        return verb_table[i].answer(verbs, peer, request);
    }
    return flagshm_verbs_refuse("usage", "this server (release %s) does not know \"%.40s\"", FLAGSHM_VERSION,
                                name);
}
