/* publisher_kills: a person's word that a flag must give control. In force as soon as it is said, kept by the
 * disk thread, and found again from three places: the disk, the table that was adopted, and a tool's work beside us. */
#include "server/clock.h"
#include "server/log.h"
#include "server/publisher_internal.h"

#include <errno.h>
#include <string.h>

#define BEATS_UNLOCKED_MAX 3

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

static int kill_one(struct flagshm_publisher *p, const char *flag)
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
    if (result != 0 || flagshm_publisher_publish(p) != 0)
        result = kill_in_place(p, flag);
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
        result = kill_one(p, flag);
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
        p->kills.all = false;
        flagshm_segment_set_all_control(&p->segment, false);
    } else {
        flagshm_kills_remove(&p->kills, flag);
        if (p->has_good)
            result = flagshm_publisher_publish(p);
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

/* What a tool wrote into STATE/kills beside us: while we were stopped or mute. Only added to: a word of ours that did not reach the
 * disk must not be lifted by its absence there. */
static void take_outside_kills(struct flagshm_publisher *p)
{
    struct flagshm_kills now = {0};
    struct flagshm_error error;
    size_t i;

    if (flagshm_kills_load(&now, p->state_dir, &error) != 0) {
        flagshm_log(FLAGSHM_LOG_WARNING, "%s", error.text);
        return;
    }
    for (i = 0; i < now.count; i++)
        if (!flagshm_kills_has(&p->kills, now.names[i]))
            (void)flagshm_publisher_kill(p, now.names[i], "flagctl", "written beside the server");
    if (now.all && !p->kills.all)
        (void)flagshm_publisher_kill(p, NULL, "flagctl", "written beside the server");
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
        flagshm_log(FLAGSHM_LOG_NOTICE, "killed: %zu flags%s", p->kills.count,
                    p->kills.all ? ", and all by `kill --all`" : "");
}
