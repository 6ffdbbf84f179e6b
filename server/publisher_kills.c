/* publisher_kills: a person's word that a flag must give control. In force as soon as it is said, kept by the
 * disk thread, and found again from three places: the disk, the table that was adopted, and a tool's work beside us. */
#include "server/clock.h"
#include "server/log.h"
#include "server/publisher_internal.h"

#include <errno.h>
#include <string.h>

#define BEATS_UNLOCKED_MAX 3
#define BEATS_OF_RETRY     5 /* between two tries to write down what the disk refused */

bool flagshm_publisher_is_killed(const struct flagshm_publisher *p, const char *flag)
{
    return flag != NULL ? flagshm_kills_has(&p->kills, flag) : p->kills.all;
}

static bool is_known(const struct flagshm_publisher *p, const char *flag)
{
    return p->has_good && flagshm_flagfile_find(&p->good, flag) != NULL;
}

/* Where the whole way is barred (no memory, or only an adopted table is there), the served bank's copy with one switch set
 * still is a kill. */
static int kill_in_place(struct flagshm_publisher *p, const char *flag)
{
    struct flagshm_error error;
    int result = p->segment.header != NULL ? flagshm_segment_kill(&p->segment, flag, &error) : -ENOENT;

    if (result == 0) {
        p->version = flagshm_segment_version(&p->segment);
        flagshm_journal_publish(p->journal, flagshm_realtime_ns(), p->version,
                                flagshm_segment_file_rev(&p->segment));
    }
    return result;
}

/* The rollout hears the same word: with the next table, or where there is none, at once. Either way it is a move, and ends a rise that
 * waits: else that would come into force over the kill. */
static void tell_rollout(struct flagshm_publisher *p, const char *flag, enum flagshm_verb verb,
                         const char *user, const char *reason, bool is_draft)
{
    const struct flagshm_ask ask = {.verb = verb, .user = user, .reason = reason};
    struct flagshm_ward *ward = flagshm_wards_find_name(&p->wards, flag);
    struct flagshm_ward_draft *draft;
    struct flagshm_transition ignored;

    if (ward == NULL || ward->source == NULL)
        return;
    if (!is_draft)
        flagshm_ward_drop_draft(ward);
    draft = flagshm_ward_draft(ward);
    flagshm_moment_tick(&p->moment, flagshm_mono_ns(), flagshm_realtime_ns());
    if (draft != NULL) {
        draft->has_transition =
            flagshm_rollout_ask(&draft->state, &ward->file, &ask, &p->moment, &draft->transition) == 0;
        if (!is_draft)
            flagshm_ward_apply(&p->wards, ward);
    } else {
        flagshm_ward_forget_pending(ward);
        (void)flagshm_rollout_ask(&ward->state, &ward->file, &ask, &p->moment, &ignored);
    }
}

static int kill_one(struct flagshm_publisher *p, const char *flag, const char *user, const char *reason)
{
    int result;

    if (flagshm_kills_has(&p->kills, flag))
        return -EALREADY;
    if (!p->has_good) {
        result = kill_in_place(p, flag);
        return result == 0 || result == -EALREADY ? flagshm_kills_insert(&p->kills, flag, strlen(flag))
                                                  : result;
    }
    if (!is_known(p, flag))
        return -ENOENT;
    result = flagshm_kills_insert(&p->kills, flag, strlen(flag));
    if (result == 0)
        tell_rollout(p, flag, FLAGSHM_VERB_KILL, user, reason, true);
    if (result != 0 || flagshm_publisher_publish(p) != 0) {
        result = kill_in_place(p, flag);
        if (result == 0)
            tell_rollout(p, flag, FLAGSHM_VERB_KILL, user, reason, false);
    }
    return result;
}

static void tell_of_word(struct flagshm_publisher *p, const char *kind, const char *flag, const char *user,
                         const char *reason)
{
    flagshm_journal_event(p->journal, flagshm_realtime_ns(), kind, flag, user, reason);
    flagshm_log(FLAGSHM_LOG_NOTICE, "%s: %s %s, version %llu%s%s", user, kind,
                flag != NULL ? flag : "all flags", (unsigned long long)p->version,
                reason != NULL && reason[0] != '\0' ? ": " : "", reason != NULL ? reason : "");
}

int flagshm_publisher_kill(struct flagshm_publisher *p, const char *flag, const char *user,
                           const char *reason)
{
    int result = 0;

    if (flag == NULL) {
        if (p->kills.all)
            return -EALREADY;
        p->kills.all = true;
        flagshm_segment_set_all_control(&p->segment, true);
    } else {
        result = kill_one(p, flag, user, reason);
    }
    if (result == 0)
        tell_of_word(p, "kill", flag, user, reason);
    return result;
}

int flagshm_publisher_unkill(struct flagshm_publisher *p, const char *flag, const char *user,
                             const char *reason)
{
    int result = 0;

    if (!flagshm_publisher_is_killed(p, flag))
        return flag == NULL || is_known(p, flag) ? -EALREADY : -ENOENT;
    if (flag == NULL) {
        p->kills.all = p->unwritten.all = false;
        flagshm_segment_set_all_control(&p->segment, false);
    } else {
        flagshm_kills_remove(&p->kills, flag);
        flagshm_kills_remove(&p->unwritten, flag);
        tell_rollout(p, flag, FLAGSHM_VERB_UNKILL, user, reason, true);
        if (p->has_good)
            result = flagshm_publisher_publish(p);
        if (result != 0)
            tell_rollout(p, flag, FLAGSHM_VERB_UNKILL, user, reason, false);
    }
    if (result == 0)
        tell_of_word(p, "unkill", flag, user, reason);
    return result;
}

static void write_kill(struct flagshm_publisher *p, const char *flag, const char *why)
{
    struct flagshm_disk_job job = {.is_erase = false};

    snprintf(job.flag, sizeof job.flag, "%s", flag != NULL ? flag : "");
    snprintf(job.why, sizeof job.why, "%s", why);
    if (flagshm_disk_give(p->disk, &job) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "no memory to write down that %s is killed",
                    flag != NULL ? flag : "every flag");
}

void flagshm_publisher_unwritten(struct flagshm_publisher *p, const char *flag)
{
    if (flag == NULL)
        p->unwritten.all = p->kills.all;
    else if (flagshm_kills_has(&p->kills, flag))
        (void)flagshm_kills_insert(&p->unwritten, flag, strlen(flag));
}

static void write_again(struct flagshm_publisher *p)
{
    static const char why[] = "killed while the state directory could not be written";
    struct flagshm_kills now = p->unwritten;
    size_t i;

    if ((now.count == 0 && !now.all) || ++p->beats_unwritten % BEATS_OF_RETRY != 0)
        return;
    memset(&p->unwritten, 0, sizeof p->unwritten);
    for (i = 0; i < now.count; i++)
        write_kill(p, now.names[i], why);
    if (now.all)
        write_kill(p, NULL, why);
    flagshm_kills_free(&now);
}

/* ---- what was said to others ---- */

/* Who, and what else, from the line that a kill file keeps: "killed by ann: it hurts", or what flagctl writes where no server answers,
 * "killed by ann with flagctl, no server answered, at TIME: it hurts". */
static void read_why(const struct flagshm_publisher *p, const char *flag, char user[64], char detail[600])
{
    static const char begin[] = "killed by ";
    char line[600];
    const char *who, *end, *reason;

    flagshm_kills_why(p->state_dir, flag, line, sizeof line);
    (void)snprintf(user, 64, "flagctl");
    (void)snprintf(detail, 600, "%s", line);
    if (strncmp(line, begin, sizeof begin - 1) != 0)
        return;
    who = line + sizeof begin - 1;
    reason = strstr(who, ": ");
    if (reason == NULL)
        return;
    end = strstr(who, " with ");
    if (end == NULL || end > reason)
        end = reason;
    (void)snprintf(user, 64, "%.*s", (int)(end - who), who);
    if (end == reason)
        (void)snprintf(detail, 600, "%s", reason + 2);
    else
        (void)snprintf(detail, 600, "%s (%.*s)", reason + 2, (int)(reason - end - 1), end + 1);
}

/* What a tool wrote into STATE/kills beside us: while we were stopped or mute. Only added to: a word of ours that did not reach the
 * disk must not be lifted by its absence there. */
static void take_outside_kills(struct flagshm_publisher *p)
{
    struct flagshm_kills now = {0};
    struct flagshm_error error;
    char user[64], detail[600];
    size_t i;

    if (flagshm_kills_load(&now, p->state_dir, &error) != 0) {
        flagshm_log(FLAGSHM_LOG_WARNING, "%s", error.text);
        return;
    }
    for (i = 0; i < now.count; i++)
        if (!flagshm_kills_has(&p->kills, now.names[i])) {
            read_why(p, now.names[i], user, detail);
            (void)flagshm_publisher_kill(p, now.names[i], user, detail);
        }
    if (now.all && !p->kills.all) {
        read_why(p, NULL, user, detail);
        (void)flagshm_publisher_kill(p, NULL, user, detail);
    }
    flagshm_kills_free(&now);
}

/* The table under our name: the heartbeat, and a new object where ours is not found there any more. */
static void keep_table(struct flagshm_publisher *p)
{
    if (p->segment.header != NULL && !flagshm_segment_heartbeat(&p->segment) && p->has_published) {
        flagshm_log(FLAGSHM_LOG_WARNING,
                    "%s no longer leads to our table (removed or replaced by hand): making a new one",
                    p->segment.path);
        flagshm_segment_forget(&p->segment);
        if (flagshm_publisher_publish(p) != 0)
            flagshm_log(FLAGSHM_LOG_ERROR, "%s", p->refusal.text);
    } else if (p->segment.header == NULL && flagshm_publisher_publish(p) != 0) {
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", p->refusal.text);
    }
}

/* flagctl holds a lock for moments only; who holds it over several beats is a server. Until then nothing is written to the table. */
static int keep_lock(struct flagshm_publisher *p, struct flagshm_error *error)
{
    int result = flagshm_segment_keep_lock(&p->segment, error);

    p->beats_unlocked = result == -EBUSY ? p->beats_unlocked + 1 : 0;
    if (result == 1)
        flagshm_log(FLAGSHM_LOG_WARNING, "%s was removed by somebody, and is made anew",
                    p->segment.lock_path);
    else if (result < 0)
        flagshm_log(FLAGSHM_LOG_WARNING, "the lock was removed, and cannot be taken anew: %s", error->text);
    return result;
}

int flagshm_publisher_beat(struct flagshm_publisher *p, struct flagshm_error *error)
{
    uint64_t stamp;

    if (keep_lock(p, error) == -EBUSY)
        return p->beats_unlocked < BEATS_UNLOCKED_MAX ? 0 : -EBUSY;
    keep_table(p);
    if (flagshm_ledger_beat(&p->ledger, &p->segment, flagshm_mono_ns()) && flagshm_publisher_publish(p) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", p->refusal.text);
    if (!flagshm_disk_is_idle(p->disk))
        return 0; /* our own words are on their way there */
    if (flagshm_segment_is_all_control(&p->segment) && !p->kills.all) {
        (void)flagshm_publisher_kill(p, NULL, "flagctl", "switched beside the server");
        write_kill(p, NULL, "switched by a tool while the server did not answer");
        return 0;
    }
    stamp = flagshm_kills_stamp(p->state_dir);
    if (stamp != p->kills_stamp) {
        p->kills_stamp = stamp;
        take_outside_kills(p);
    }
    write_again(p);
    return 0;
}

static void adopt_kill(void *context, const char *name, size_t bytes)
{
    struct flagshm_publisher *p = context;
    char flag[72];

    snprintf(flag, sizeof flag, "%.*s", (int)(bytes < 64 ? bytes : 64), name);
    if (flagshm_kills_has(&p->kills, flag))
        return;
    (void)flagshm_kills_insert(&p->kills, flag, strlen(flag));
    write_kill(p, flag, "found killed in the table that was adopted");
}

/* A kill of which the journal does not know yet. */
static void tell_kill(struct flagshm_publisher *p, const cJSON *words, const char *flag)
{
    const char *word =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(words, flag != NULL ? flag : ""));
    char user[64], detail[600];

    if (word != NULL && strcmp(word, "kill") == 0)
        return;
    read_why(p, flag, user, detail);
    flagshm_journal_event(p->journal, flagshm_realtime_ns(), "kill", flag, user, detail);
}

/* What was killed and taken back while no server ran belongs into the history too, with its author. */
static void tell_of_kills(struct flagshm_publisher *p)
{
    cJSON *words = flagshm_journal_last_words(p->journal);
    const cJSON *word;
    size_t i;

    if (words == NULL)
        return;
    for (i = 0; i < p->kills.count; i++)
        tell_kill(p, words, p->kills.names[i]);
    if (p->kills.all)
        tell_kill(p, words, NULL);
    for (word = words->child; word != NULL; word = word->next) {
        const char *flag = word->string[0] != '\0' ? word->string : NULL;

        if (strcmp(word->valuestring, "kill") == 0 && !flagshm_publisher_is_killed(p, flag))
            flagshm_journal_event(p->journal, flagshm_realtime_ns(), "unkill", flag, NULL,
                                  "taken back while no server ran");
    }
    cJSON_Delete(words);
}

void flagshm_publisher_gather_kills(struct flagshm_publisher *p)
{
    struct flagshm_error error;
    size_t i;

    if (flagshm_kills_load(&p->kills, p->state_dir, &error) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", error.text);
    flagshm_segment_each_killed(&p->segment, adopt_kill, p);
    if (flagshm_segment_is_all_control(&p->segment) && !p->kills.all) {
        p->kills.all = true;
        write_kill(p, NULL, "found in the table that was adopted");
    }
    if (p->kills.all)
        flagshm_segment_set_all_control(&p->segment, true);
    if (!p->has_good && p->segment.header != NULL)
        for (i = 0; i < p->kills.count; i++)
            (void)kill_in_place(p, p->kills.names[i]);
    if (p->kills.all || p->kills.count > 0)
        flagshm_log(FLAGSHM_LOG_NOTICE, "killed: %zu flag%s%s", p->kills.count,
                    p->kills.count == 1 ? "" : "s", p->kills.all ? ", and all by `kill --all`" : "");
    tell_of_kills(p);
}
