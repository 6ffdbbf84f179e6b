/* doctor, the rollouts: which are stuck, which were never tried, is everything frozen. */
#include "tools/doctor.h"
#include "tools/rollout_view.h"

#include <string.h>
#include <time.h>

#define ASK_MS 5000

static const cJSON *list_of(const cJSON *object, const char *key)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key);

    return list != NULL ? list->child : NULL;
}

static void look_at_one(struct doctor *d, const cJSON *rollout)
{
    const char *flag = flagctl_text_at(rollout, "flag"), *trouble = flagctl_text_at(rollout, "trouble");
    char mend[160];

    if (trouble[0] != '\0')
        doctor_bad(d, "rollouts", FLAGCTL_FAILED,
                   "mend that: the server tries again by itself; until then the share does not rise",
                   "%s: its state cannot be written: %s", flag, trouble);
    if (flagctl_rollout_waits_for(rollout, "unwatched"))
        doctor_warn(d, "rollouts",
                    "see the outcome segment above; a slot is free an hour after its flag has left it",
                    "%s is not watched: its outcomes cannot be counted, so it rises no further", flag);
    if (flagctl_rollout_waits_for(rollout, "no_outcomes"))
        doctor_warn(d, "rollouts",
                    "do its programs record outcomes (flagshm_record), as a user of the clients' group?",
                    "%s: decisions are made, and no outcomes come", flag);
    if (flagctl_rollout_waits_for(rollout, "srm")) {
        (void)snprintf(mend, sizeof mend, "flagctl stats %.64s; do all clients hash as this release does?",
                       flag);
        doctor_warn(d, "rollouts", mend, "%s: users do not split as they must", flag);
    }
    if (flagctl_is_at(rollout, "drill_failed")) {
        (void)snprintf(mend, sizeof mend, "flagctl drill %.64s", flag);
        doctor_bad(d, "drill", FLAGCTL_FAILED, mend, "%s: the last drill failed: the way back is not sure",
                   flag);
    }
}

/* One finding for all of them. */
static void look_at_drills(struct doctor *d, const cJSON *answer)
{
    const cJSON *rollout;
    char names[400] = "";
    size_t used = 0, count = 0;

    for (rollout = list_of(answer, "rollouts"); rollout != NULL; rollout = rollout->next) {
        int length;

        if (!flagctl_is_at(rollout, "undrilled") || flagctl_is_at(rollout, "drill_failed"))
            continue;
        length = snprintf(names + used, sizeof names - used, "%s%.64s", count != 0 ? ", " : "",
                          flagctl_text_at(rollout, "flag"));
        count++;
        used = length > 0 && used + (size_t)length < sizeof names ? used + (size_t)length : sizeof names - 1;
    }
    if (count != 0)
        doctor_warn(d, "drill", "flagctl drill FLAG", "the way back was not tried of late: %s", names);
}

/* Sentences of the server and dates that come near; what has a finding of its own is not said again. */
static void look_at_warnings(struct doctor *d, const cJSON *rollout, time_t now)
{
    const char *flag = flagctl_text_at(rollout, "flag"), *expires = flagctl_text_at(rollout, "expires");
    char mend[160];
    long days;

    if (flagctl_is_at(rollout, "stale")) {
        (void)snprintf(mend, sizeof mend, "flagctl finish %.64s", flag);
        doctor_warn(d, "stale", mend, "%s: everybody has had the variant for 30 days", flag);
    }
    if (flagctl_days_left(expires, now, &days) && days <= FLAGCTL_EXPIRES_NEAR_DAYS)
        doctor_warn(d, "expires", "finish it, write another model, or move the date", "%s %s on %s", flag,
                    days < 0 ? "expired" : "expires", expires);
}

static bool has_guarded(const struct doctor *d)
{
    size_t i;

    for (i = 0; d->has_table && i < d->snapshot.count; i++)
        if ((d->snapshot.flags[i].switches & FLAGSHM_SWITCH_GUARDED) != 0)
            return true;
    return false;
}

void doctor_rollouts(struct doctor *d)
{
    const cJSON *rollout, *frozen;
    cJSON *answer;
    int before = d->warnings + d->bad;
    time_t now = time(NULL);
    size_t count = 0;

    if (d->status == NULL)
        return;
    answer = flagctl_rollouts_peek(d->ctl, NULL, ASK_MS);
    if (answer == NULL) {
        if (has_guarded(d))
            doctor_warn(d, "rollouts", "restart the server with the release of this flagctl",
                        "the server tells nothing of rollouts");
        return;
    }
    frozen = cJSON_GetObjectItemCaseSensitive(answer, "frozen");
    if (cJSON_IsObject(frozen))
        doctor_warn(d, "freeze", "flagctl thaw", "all rollouts are frozen by %s since %s: %s",
                    flagctl_text_at(frozen, "by"), flagctl_text_at(frozen, "since"),
                    flagctl_text_at(frozen, "reason"));
    for (rollout = list_of(answer, "rollouts"); rollout != NULL; rollout = rollout->next) {
        if (!flagctl_rollout_is_one(rollout))
            continue;
        count++;
        look_at_one(d, rollout);
        look_at_warnings(d, rollout, now);
    }
    look_at_drills(d, answer);
    if (d->warnings + d->bad == before && count != 0)
        doctor_ok(d, "rollouts", "%zu: none is stuck", count);
    doctor_notify(d, answer);
    cJSON_Delete(answer);
}
