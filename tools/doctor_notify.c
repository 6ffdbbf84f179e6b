/* doctor, the targets of notices: does every name that a plan's "notify" has stand on this host, and is it sound? */
#include "server/notify.h"
#include "tools/doctor.h"
#include "tools/rollout_view.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TARGETS_MAX 64 /* different ones that are looked at */

struct targets {
    const char *names[TARGETS_MAX]; /* in the server's answer */
    const char *flags[TARGETS_MAX]; /* one that names it */
    size_t count;
};

static void target_add(struct targets *t, const char *name, const char *flag)
{
    size_t i;

    for (i = 0; i < t->count; i++)
        if (strcmp(t->names[i], name) == 0)
            return;
    if (t->count == TARGETS_MAX)
        return;
    t->names[t->count] = name;
    t->flags[t->count++] = flag;
}

static void targets_find(struct targets *t, const cJSON *answer)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "rollouts"), *rollout, *target;

    for (rollout = list != NULL ? list->child : NULL; rollout != NULL; rollout = rollout->next) {
        const cJSON *names = cJSON_GetObjectItemCaseSensitive(rollout, "notify");

        for (target = names != NULL ? names->child : NULL; target != NULL; target = target->next)
            if (cJSON_IsString(target))
                target_add(t, target->valuestring, flagctl_text_at(rollout, "flag"));
    }
}

/* As the server sees it: its own files are good for it, and root's are. */
static int check(const struct doctor *d, const char *dir, const char *name, struct flagshm_error *error)
{
    struct stat file;
    char path[4200];
    bool is_servers;
    int result;

    (void)snprintf(path, sizeof path, "%.4000s/%.64s", dir, name);
    is_servers = geteuid() == 0 && d->owner != 0 && lstat(path, &file) == 0 && file.st_uid == d->owner;
    if (is_servers && seteuid(d->owner) != 0)
        is_servers = false;
    result = flagshm_notify_check(dir, name, error);
    if (is_servers && seteuid(0) != 0)
        result = flagshm_error_set(error, -EPERM, "cannot become root again");
    return result;
}

void doctor_notify(struct doctor *d, const cJSON *answer)
{
    const char *dir = flagctl_text_at(d->status, "notify_dir");
    struct targets t = {.count = 0};
    size_t sound = 0, unseen = 0, i;

    targets_find(&t, answer);
    if (t.count == 0)
        return;
    dir = dir[0] != '\0' ? dir : FLAGSHM_NOTIFY_DIR;
    for (i = 0; i < t.count; i++) {
        struct flagshm_error error = {""};
        int result = check(d, dir, t.names[i], &error);

        if (result == 0)
            sound++;
        else if (result == -EACCES || (result == -EPERM && geteuid() != 0 && geteuid() != d->owner))
            unseen++;
        else
            doctor_bad(d, "notify", FLAGCTL_FAILED, "see flagshm-notify(5)",
                       "%s tells \"%s\", and nobody hears it: %s", t.flags[i], t.names[i], error.text);
    }
    if (unseen != 0)
        doctor_warn(d, "notify", "run doctor as root or as the server's user",
                    "%zu target%s in %s may not be read by this user", unseen, unseen == 1 ? "" : "s", dir);
    if (sound != 0)
        doctor_ok(d, "notify", "%zu target%s in %s %s sound", sound, sound == 1 ? "" : "s", dir,
                  sound == 1 ? "is" : "are");
}
