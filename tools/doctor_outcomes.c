/* doctor, the outcome segment: is it there, whole and ours, who may write it, is there room in it, is what it says sound. */
#include "server/control.h"
#include "tools/doctor.h"
#include "tools/outcome_file.h"
#include "tools/outcome_view.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <unistd.h>

#define ASK_MS 5000

static const char anew_mend[] = "the server makes a new one within seconds; else restart it";

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

    return text != NULL ? text : "";
}

/* What the server says of its slots; NULL: it says nothing. */
static cJSON *ask_stats(const struct doctor *d)
{
    cJSON *request, *answer = NULL;
    struct flagshm_error error = {""};

    if (d->status == NULL)
        return NULL;
    request = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(request, "verb", "stats");
    if (flagshm_control_ask(d->ctl->instance.socket_path, request, ASK_MS, &answer, &error) != 0 ||
        !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok"))) {
        cJSON_Delete(answer);
        answer = NULL;
    }
    cJSON_Delete(request);
    return answer;
}

/* "root and the group www-data" */
static void writers_text(const struct stat *object, char *out, size_t room)
{
    const struct group *group = getgrgid(object->st_gid);
    char user[64];

    (void)doctor_user(object->st_uid, user);
    if ((object->st_mode & S_IWGRP) == 0)
        (void)snprintf(out, room, "%s alone", user);
    else if (group != NULL)
        (void)snprintf(out, room, "%s and the group %s", user, group->gr_name);
    else
        (void)snprintf(out, room, "%s and the group %u", user, (unsigned)object->st_gid);
}

/* Is the object one that clients and server take? Says what is wrong. */
static bool is_sound(struct doctor *d, const struct flagctl_outcomes *file, int code,
                     const struct stat *object)
{
    struct flagshm_outcomes header;
    char user[64], owner[64], bytes[24], wanted[24];

    if (!S_ISREG(object->st_mode)) {
        doctor_bad(d, "outcomes", FLAGCTL_FAILED, "as root: remove it; the server makes a new one",
                   "%s is no regular file", file->path);
    } else if (object->st_uid != d->owner) {
        doctor_bad(d, "outcomes", FLAGCTL_FAILED, "as root: remove it; the server makes a new one",
                   "%s belongs to %s, and the table to %s", file->path, doctor_user(object->st_uid, user),
                   doctor_user(d->owner, owner));
    } else if ((object->st_mode & S_IWOTH) != 0) {
        doctor_bad(d, "outcomes", FLAGCTL_FAILED, "chmod o-w, or remove it: the server makes a new one",
                   "%s: everybody may write it (mode %04o): programs refuse it", file->path,
                   (unsigned)object->st_mode & 07777);
    } else if ((uint64_t)object->st_size != FLAGSHM_OUTCOMES_BYTES) {
        doctor_bad(d, "outcomes", FLAGCTL_FAILED, anew_mend,
                   "%s has %s instead of %s: it was cut short, or is of another "
                   "release",
                   file->path, doctor_bytes((uint64_t)object->st_size, bytes),
                   doctor_bytes(FLAGSHM_OUTCOMES_BYTES, wanted));
    } else if (code != 0) {
        return true; /* it may not be read: said elsewhere */
    } else {
        flagctl_outcomes_header(file, &header);
        if (header.magic == FLAGSHM_OUTCOMES_MAGIC && header.kind == FLAGSHM_KIND_OUTCOMES &&
            header.segment_id == d->snapshot.header.outcomes_id)
            return true;
        doctor_bad(d, "outcomes", FLAGCTL_FAILED, anew_mend, "%s is not the segment that the table names",
                   file->path);
    }
    return false;
}

static size_t slots_of(const struct doctor *d)
{
    size_t used = 0, i;

    for (i = 0; i < d->snapshot.count; i++)
        used += d->snapshot.flags[i].slot < FLAGSHM_SLOTS;
    return used;
}

static void look_at_object(struct doctor *d)
{
    struct flagctl_outcomes file;
    struct stat object;
    char writers[128], memory[24], whole[24];
    int code = flagctl_outcomes_open(&file, &d->ctl->instance);

    if (lstat(file.path, &object) != 0) {
        if (errno == EACCES)
            doctor_warn(d, "outcomes", "run doctor as root or as the server's user",
                        "%s may not be looked at", file.path);
        else
            doctor_bad(d, "outcomes", FLAGCTL_FAILED, anew_mend, "%s: %s", file.path, strerror(errno));
    } else if (is_sound(d, &file, code, &object)) {
        writers_text(&object, writers, sizeof writers);
        doctor_ok(d, "outcomes", "%zu of %u slots in use, %s of memory (%s at most); written by %s%s",
                  slots_of(d), FLAGSHM_SLOTS, doctor_bytes((uint64_t)object.st_blocks * 512, memory),
                  doctor_bytes(FLAGSHM_OUTCOMES_BYTES, whole), writers,
                  faccessat(AT_FDCWD, file.path, W_OK, AT_EACCESS) == 0 ? "" : ", not by this user");
        if ((object.st_mode & S_IWGRP) == 0)
            doctor_warn(d, "outcomes", "chmod 0660, or remove it: the server makes a new one",
                        "mode %04o: programs of other users book nothing", (unsigned)object.st_mode & 07777);
    }
    if (code == 0)
        flagctl_outcomes_close(&file);
}

static void look_at_slots(struct doctor *d, const cJSON *answer)
{
    const cJSON *flags = cJSON_GetObjectItemCaseSensitive(answer, "flags"), *flag;
    double per_id, ids;

    if (text_of(answer, "slot_fault")[0] != '\0')
        doctor_warn(d, "outcomes", "make room, then restart the server", "%s", text_of(answer, "slot_fault"));
    if (number_of(answer, "slots_refused") > 0)
        doctor_warn(d, "outcomes", "finish rollouts, or wait: a slot rests for an hour after an edit",
                    "%.0f flags have no slot: all %u are in use or at rest",
                    number_of(answer, "slots_refused"), FLAGSHM_SLOTS);
    for (flag = flags != NULL ? flags->child : NULL; flag != NULL; flag = flag->next) {
        const struct flagshm_snapshot_flag *served =
            flagshm_snapshot_find(&d->snapshot, text_of(flag, "flag"));

        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(flag, "tainted")))
            doctor_warn(
                d, "outcomes",
                "find who of the clients' group writes over them; any edit of its share or arms begins anew",
                "%s is tainted: its counters ran back, or leapt", text_of(flag, "flag"));
        if (flagctl_is_request_id(flag, served != NULL && (served->switches & FLAGSHM_SWITCH_SESSION) != 0,
                                  &per_id, &ids))
            doctor_warn(d, "identity", "pass the user's id to flagshm_decide, not the request's",
                        "%s: %.2f calls for each of %.0f ids: such ids never come back",
                        text_of(flag, "flag"), per_id, ids);
    }
}

void doctor_outcomes(struct doctor *d)
{
    cJSON *answer;

    if (!d->has_table)
        return;
    answer = ask_stats(d);
    if (d->snapshot.header.outcomes_id != 0)
        look_at_object(d);
    else if (answer != NULL && text_of(answer, "fault")[0] != '\0')
        doctor_bad(d, "outcomes", FLAGCTL_FAILED, "mend that: the server tries again every 5 s",
                   "nothing is recorded: %s", text_of(answer, "fault"));
    else
        doctor_warn(d, "outcomes", "restart the server",
                    "nothing is recorded: the table names no outcome segment");
    if (answer != NULL)
        look_at_slots(d, answer);
    cJSON_Delete(answer);
}
