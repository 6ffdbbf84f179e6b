/* doctor, the flag file and what the server keeps beside it: is the file sound, is it what is served, what waits for a person, is there
 * room. */
#include "server/flagfile.h"
#include "server/name_set.h"
#include "server/table.h"
#include "tools/change.h"
#include "tools/doctor.h"
#include "tools/offline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* How many flags are too many is the server's word: it finds the file broken then. */
static const struct flagshm_flagfile_options any_number = {.max_flags = 4u * 1000 * 1000};

#define ROOM_MIN (UINT64_C(16) << 20) /* a journal may want that much in a busy week */

static const char *word_of(const struct doctor *d, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(d->status, key));

    return text != NULL ? text : "";
}

/* ---- the file ---- */

/* Do the table's arms say what the file's do? */
static bool has_same_arms(const struct flagshm_flag *flag, const struct flagshm_snapshot_flag *served)
{
    uint32_t i;

    if (flag->arm_count != served->arm_count)
        return false;
    for (i = 0; i < flag->arm_count; i++)
        if (flag->arms[i].value_hash != served->arms[i].value_hash ||
            strcmp(flag->arms[i].name, served->arms[i].name) != 0 ||
            (i > 0 && flag->arms[i].weight != served->arms[i].weight))
            return false;
    return true;
}

/* Beside a plan the file's number is a cap. */
static bool is_share_served(const struct flagshm_flag *flag, const struct flagshm_table_entry *entry,
                            uint32_t served_mpct)
{
    if (flag->has_rollout)
        return served_mpct <= (flag->enabled && !entry->is_killed ? flag->rollout_mpct : 0);
    return served_mpct == flagshm_table_share_mpct(entry);
}

static bool is_served(const struct doctor *d, const struct flagshm_flag *flag)
{
    const struct flagshm_snapshot_flag *served = flagshm_snapshot_find(&d->snapshot, flag->name);
    const uint32_t by_hand = FLAGSHM_SWITCH_KILLED | FLAGSHM_SWITCH_ROLLED_BACK;
    struct flagshm_table_entry entry = {.flag = flag};

    if (served == NULL)
        return false;
    entry.is_killed = (served->switches & by_hand) != 0;
    return is_share_served(flag, &entry, served->rollout_mpct) && strcmp(served->salt, flag->salt) == 0 &&
           served->force_count == flag->force_count && has_same_arms(flag, served);
}

/* Flags of the table that the file has not; the name of one of them. */
static size_t count_gone(const struct doctor *d, const struct flagshm_flagfile *file, char name[80])
{
    struct flagshm_arena arena = {0};
    struct flagshm_name_set names;
    size_t gone = 0, i;
    uint32_t number = 0;

    if (flagshm_name_set_make(&names, file->count, &arena)) {
        for (i = 0; i < file->count; i++)
            (void)flagshm_name_set_add(&names, file->entries[i].flag.name, file->entries[i].flag.name_bytes,
                                       &number);
        for (i = 0; i < d->snapshot.count; i++) {
            const char *flag = d->snapshot.flags[i].name;

            if (!flagshm_name_set_find(&names, flag, strlen(flag), &number) && gone++ == 0)
                (void)snprintf(name, 80, "%s", flag);
        }
    }
    flagshm_arena_free(&arena);
    return gone;
}

static void compare_served(struct doctor *d, const struct flagshm_flagfile *file, const char *path)
{
    size_t differ = 0, gone, i;
    char name[80] = "";

    if (!d->has_table)
        return;
    gone = count_gone(d, file, name);
    for (i = 0; i < file->count; i++)
        if (!is_served(d, &file->entries[i].flag) && differ++ == 0)
            (void)snprintf(name, sizeof name, "%s", file->entries[i].flag.name);
    if (differ + gone == 0)
        doctor_ok(d, "served", "what the file says, in %zu flag%s", file->count, file->count == 1 ? "" : "s");
    else if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(d->status, "deletions_held")) > 0 &&
             differ == 0)
        doctor_ok(d, "served", "what the file says, and %zu flags whose deletion waits", gone);
    else
        doctor_bad(d, "served", FLAGCTL_UNREACHABLE,
                   d->status != NULL ? "flagctl reload; then look at flagctl history" : "start the server",
                   "not what %s says: %zu flag%s differ%s, %zu more in the table (the first: %s)", path,
                   differ, differ == 1 ? "" : "s", differ == 1 ? "s" : "", gone, name);
}

static void examine_text(struct doctor *d, const char *path, const char *text, size_t bytes)
{
    struct flagshm_diags diags = {0};
    struct flagshm_flagfile file;
    char mend[2200], again[2048];
    int code = flagshm_flagfile_parse(&file, text, bytes, &any_number, &diags);
    size_t line = 0, column = 0;

    (void)snprintf(mend, sizeof mend, "%s", flagctl_again(d->ctl, again, "lint"));
    if (diags.count > 0)
        flagshm_diag_place(text, bytes, diags.items[0].offset, &line, &column);
    if (code != 0 && diags.errors == 0) {
        doctor_bad(d, "file", FLAGCTL_FAILED, NULL, "%s cannot be checked: %s", path, strerror(-code));
    } else if (diags.errors > 0) {
        doctor_bad(d, "file", FLAGCTL_FILE_ERRORS, mend, "%s has %zu error%s (%zu:%zu: %s); %s", path,
                   diags.errors, diags.errors == 1 ? "" : "s", line, column,
                   diags.count > 0 && diags.items[0].message != NULL ? diags.items[0].message : "",
                   file.is_usable ? "broken flags stay as they last were" : "nothing of it is applied");
    } else if (strcmp(word_of(d, "file_state"), "broken") == 0 && d->ctl->file == NULL) {
        const cJSON *fault = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(d->status, "faults"), 0);
        const char *message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fault, "message"));

        doctor_bad(d, "file", FLAGCTL_FILE_ERRORS, "flagctl history",
                   "%s is sound, and the server finds it broken: %s", path,
                   message != NULL ? message : "it does not say why");
    } else {
        if (diags.warnings > 0)
            doctor_warn(d, "file", mend, "%s: %zu flags, no error, %zu warning%s", path, file.count,
                        diags.warnings, diags.warnings == 1 ? "" : "s");
        else
            doctor_ok(d, "file", "%s: %zu flag%s, no error", path, file.count, file.count == 1 ? "" : "s");
        if (d->ctl->file == NULL)
            compare_served(d, &file, path);
    }
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
}

void doctor_file(struct doctor *d)
{
    const char *path = d->ctl->file != NULL ? d->ctl->file : word_of(d, "file");
    struct flagshm_error error = {""};
    size_t bytes = 0;
    char *text;

    if (path[0] == '\0' && d->has_table)
        path = doctor_path(d->snapshot.header.file_path, sizeof d->snapshot.header.file_path);
    if (path[0] == '\0')
        return;
    if (word_of(d, "refusal")[0] != '\0')
        doctor_bad(d, "file", FLAGCTL_FAILED, "flagctl history", "the server could not publish it: %s",
                   word_of(d, "refusal"));
    text = flagshm_edit_read(path, &bytes, &error);
    if (text != NULL)
        examine_text(d, path, text, bytes);
    else if (access(path, F_OK) != 0 && errno == ENOENT)
        doctor_bad(d, "file", FLAGCTL_FILE_ERRORS,
                   "put it back: flagctl restore FILE_REV gives the text, history the number",
                   "%s is gone; what was last good is served", path);
    else
        doctor_warn(d, "file", "run doctor as a user who may read it", "%s", error.text);
    free(text);
}

/* ---- kills ---- */

static void compare_kills(struct doctor *d)
{
    struct flagshm_kills kills = {0};
    size_t unwritten = 0, i;
    char name[80] = "";

    if (access(d->ctl->instance.state_dir, R_OK | X_OK) != 0 || flagctl_kills_load(d->ctl, &kills, NULL) != 0)
        return;
    for (i = 0; i < d->snapshot.count; i++)
        if ((d->snapshot.flags[i].switches & FLAGSHM_SWITCH_KILLED) != 0 &&
            !flagshm_kills_has(&kills, d->snapshot.flags[i].name) && unwritten++ == 0)
            (void)snprintf(name, sizeof name, "%s", d->snapshot.flags[i].name);
    if (unwritten > 0)
        doctor_warn(d, "kills", "mend the state directory, then kill them again",
                    "%zu killed flag%s not written down and may come back after a reboot (the first: %s)",
                    unwritten, unwritten == 1 ? " is" : "s are", name);
    if (kills.all && !d->snapshot.is_all_control)
        doctor_warn(d, "all-control", "restart the server, or flagctl unkill --all",
                    "written down in %s/kills, but not switched in the table", d->ctl->instance.state_dir);
    flagshm_kills_free(&kills);
}

void doctor_switches(struct doctor *d)
{
    char names[400] = "";
    size_t killed = 0, i;

    if (!d->has_table)
        return;
    if (d->snapshot.is_all_control)
        doctor_warn(d, "all-control", "when it is over: flagctl unkill --all",
                    "every flag gives control (kill --all)");
    for (i = 0; i < d->snapshot.count; i++) {
        size_t used = strlen(names);

        if ((d->snapshot.flags[i].switches & FLAGSHM_SWITCH_KILLED) == 0)
            continue;
        if (killed++ < 4)
            (void)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "",
                           d->snapshot.flags[i].name);
    }
    if (killed > 0)
        doctor_warn(d, "kills", "when it is over: flagctl unkill FLAG", "%zu flag%s killed: %s%s", killed,
                    killed == 1 ? " is" : "s are", names, killed > 4 ? ", ..." : "");
    else if (!d->snapshot.is_all_control)
        doctor_ok(d, "kills", "none");
    compare_kills(d);
}

/* ---- what the server says of itself ---- */

static unsigned long limit_of(const char *name)
{
    char path[128];
    unsigned long limit = 0;
    FILE *in;

    (void)snprintf(path, sizeof path, "/proc/sys/fs/inotify/%s", name);
    in = fopen(path, "re");
    if (in == NULL)
        return 0;
    if (fscanf(in, "%lu", &limit) != 1)
        limit = 0;
    (void)fclose(in);
    return limit;
}

void doctor_upkeep(struct doctor *d)
{
    const cJSON *held = cJSON_GetObjectItemCaseSensitive(d->status, "deletions_held");
    int count = cJSON_GetArraySize(held);
    const char *first = cJSON_GetStringValue(cJSON_GetArrayItem(held, 0));
    unsigned long watches = limit_of("max_user_watches"), instances = limit_of("max_user_instances");

    if (d->status == NULL)
        return;
    if (count > 0)
        doctor_warn(d, "deletions", "flagctl accept, or put the flags back into the file",
                    "%d deletions wait for a person (%s%s)", count, first != NULL ? first : "?",
                    count > 1 ? ", ..." : "");
    if (strcmp(word_of(d, "watch"), "poll") == 0)
        doctor_warn(
            d, "watch",
            "sysctl fs.inotify.max_user_watches=65536 fs.inotify.max_user_instances=512, then restart",
            "by polling each 2 s: inotify had no room (limits: %lu watches, %lu instances a user)", watches,
            instances);
    else
        doctor_ok(d, "watch", "inotify (limits: %lu watches, %lu instances a user)", watches, instances);
    if (word_of(d, "journal")[0] != '\0')
        doctor_warn(d, "journal",
                    "mend the disk or the state directory; decisions and kills do not wait for it", "%s",
                    word_of(d, "journal"));
    else
        doctor_ok(d, "journal", "writes");
}

/* ---- room ---- */

static void examine_room(struct doctor *d, const char *name, const char *path, uint64_t needed)
{
    struct statvfs system;
    char free_text[24], needed_text[24];
    uint64_t free_bytes;

    if (statvfs(path, &system) != 0)
        return;
    free_bytes = (uint64_t)system.f_bavail * system.f_frsize;
    (void)doctor_bytes(free_bytes, free_text);
    if ((system.f_flag & ST_RDONLY) != 0)
        doctor_bad(d, name, FLAGCTL_FAILED, "mount it read-write", "%s is read-only", path);
    else if (free_bytes < needed)
        doctor_warn(d, name, "make room", "%s: %s free, and %s may be needed", path, free_text,
                    doctor_bytes(needed, needed_text));
    else
        doctor_ok(d, name, "%s: %s free", path, free_text);
}

void doctor_disk(struct doctor *d)
{
    const char *state = d->ctl->instance.state_dir;
    struct stat status;
    char owner[64], user[64];

    if (stat(state, &status) != 0) {
        if (errno == EACCES)
            doctor_ok(d, "state", "%s: not looked at: only root and the server's user may", state);
        else
            doctor_bad(
                d, "state", FLAGCTL_FAILED, "start the server: it makes the directory, or says why it cannot",
                "%s: %s: kills and last good flags would not outlive a reboot", state, strerror(errno));
    } else {
        if (d->has_table && status.st_uid != d->owner)
            doctor_warn(d, "state", "chown -R it to the server's user",
                        "%s belongs to %s, and the server is %s", state, doctor_user(status.st_uid, owner),
                        doctor_user(d->owner, user));
        if ((status.st_mode & 0077) != 0)
            doctor_warn(d, "state", "chmod 0700", "%s has mode %04o: the journal names users", state,
                        (unsigned)status.st_mode & 07777);
        examine_room(d, "state", state, ROOM_MIN);
    }
    /* A table that outgrows its segment is built anew beside it. */
    examine_room(d, "memory", d->ctl->instance.dir[0] != '\0' ? d->ctl->instance.dir : "/dev/shm",
                 d->has_table ? d->snapshot.header.segment_bytes * 2 : UINT64_C(1) << 20);
}
