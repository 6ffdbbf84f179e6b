/* doctor, the table and its server: is it there, whose is it, does somebody keep it. */
#include "server/clock.h"
#include "server/control.h"
#include "tools/change.h"
#include "tools/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASK_MS 2000

static const char start_mend[] =
    "start it: systemctl start flagshmd, or flagshmd --file FLAGS.json --instance NAME";

/* ---- environment ---- */

static bool is_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

void doctor_environment(struct doctor *d)
{
    const struct flagshm_instance *instance = &d->ctl->instance;
    const char *name = getenv("FLAGSHM_INSTANCE"), *dir = getenv("FLAGSHM_DIR"),
               *owner = getenv("FLAGSHM_OWNER");
    struct stat status;

    doctor_ok(d, "instance", "%s, table %s", instance->name, instance->table_path);
    if (name != NULL && name[0] != '\0' && strcmp(name, instance->name) != 0)
        doctor_warn(d, "environment", "export FLAGSHM_INSTANCE, or use --instance, the same for both",
                    "FLAGSHM_INSTANCE is \"%s\": programs started here read that instance, not \"%s\"", name,
                    instance->name);
    if (dir != NULL && dir[0] != '\0' && (stat(dir, &status) != 0 || !S_ISDIR(status.st_mode)))
        doctor_warn(d, "environment", "make it, or unset FLAGSHM_DIR to use /dev/shm",
                    "FLAGSHM_DIR is \"%s\", and that is no directory", dir);
    else if (dir != NULL && dir[0] != '\0' && dir[0] != '/')
        doctor_warn(d, "environment", "make it absolute",
                    "FLAGSHM_DIR is \"%s\": a program that runs elsewhere does not find it", dir);
    if (owner != NULL && owner[0] != '\0' && !is_number(owner))
        doctor_warn(d, "environment", "FLAGSHM_OWNER=$(id -u USER)",
                    "FLAGSHM_OWNER is \"%s\", and must be the number of a user", owner);
}

/* ---- table ---- */

static void no_table(struct doctor *d, int code)
{
    const char *path = d->ctl->instance.table_path;
    struct stat status;
    char user[64];

    switch (-code) {
    case ENOENT:
        doctor_bad(d, "table", FLAGCTL_UNREACHABLE, start_mend, "there is none: %s", path);
        return;
    case EACCES:
        doctor_bad(d, "table", FLAGCTL_UNREACHABLE, "start the server with a wider --table-mode or a --group",
                   "%s may not be read by this user", path);
        return;
    case EPERM:
    case ELOOP:
        if (lstat(path, &status) == 0)
            doctor_bad(d, "table", FLAGCTL_UNREACHABLE,
                       "if that is the server's user: FLAGSHM_OWNER=UID for all programs; else remove it and "
                       "restart the "
                       "server",
                       "%s is not trusted: owner %s, mode %04o%s", path, doctor_user(status.st_uid, user),
                       (unsigned)status.st_mode & 07777, S_ISREG(status.st_mode) ? "" : ", no regular file");
        else
            doctor_bad(d, "table", FLAGCTL_UNREACHABLE, NULL, "%s is not trusted", path);
        return;
    case EPROTO:
        doctor_bad(d, "table", FLAGCTL_UNREACHABLE, "use the flagctl and flagshm.h of the server's release",
                   "%s has another layout or byte order than layout %d.%d", path, FLAGSHM_LAYOUT_MAJOR,
                   FLAGSHM_LAYOUT_MINOR);
        return;
    default:
        doctor_bad(d, "table", FLAGCTL_UNREACHABLE, "restart the server: it builds a new one", "%s: %s", path,
                   code == -EBADMSG ? "it is damaged" : strerror(-code));
    }
}

void doctor_table(struct doctor *d)
{
    struct flagshm_error error = {""};
    struct flagshm *client;
    struct stat status;
    char user[64], bytes[24];
    int code = flagctl_client(d->ctl, &client);

    if (code == 0) {
        code = flagshm_snapshot_take(&d->snapshot, client, &error);
        d->has_table = code == 0;
    }
    if (code != 0) {
        no_table(d, code);
        return;
    }
    d->owner = geteuid();
    if (lstat(d->ctl->instance.table_path, &status) != 0) {
        doctor_bad(d, "table", FLAGCTL_UNREACHABLE,
                   "the server makes a new one within a second; else restart it",
                   "%s was removed while it is in use", d->ctl->instance.table_path);
        return;
    }
    d->owner = status.st_uid;
    if (d->snapshot.damaged != 0)
        doctor_bad(d, "table", FLAGCTL_FAILED, "restart the server; tell us what stood in it: flagctl dump",
                   "%zu records make no sense", d->snapshot.damaged);
    doctor_ok(d, "table", "%zu flag%s, version %llu, file revision %llu; %s, mode %04o, owner %s",
              d->snapshot.count, d->snapshot.count == 1 ? "" : "s", (unsigned long long)d->snapshot.version,
              (unsigned long long)d->snapshot.file_rev, doctor_bytes((uint64_t)status.st_size, bytes),
              (unsigned)status.st_mode & 07777, doctor_user(status.st_uid, user));
    if ((status.st_mode & S_IROTH) == 0)
        doctor_warn(d, "table", "if programs of other users need flags: --table-mode 0644, or --group GROUP",
                    "mode %04o: only its owner%s can read it", (unsigned)status.st_mode & 07777,
                    (status.st_mode & S_IRGRP) != 0 ? " and group" : "");
    if (d->snapshot.header.layout_minor != FLAGSHM_LAYOUT_MINOR)
        doctor_warn(d, "layout", "install one release of server and tools",
                    "the table has layout %d.%d, this flagctl %d.%d (it can read it)",
                    d->snapshot.header.layout_major, d->snapshot.header.layout_minor, FLAGSHM_LAYOUT_MAJOR,
                    FLAGSHM_LAYOUT_MINOR);
    else
        doctor_ok(d, "layout", "%d.%d, header %s", FLAGSHM_LAYOUT_MAJOR, FLAGSHM_LAYOUT_MINOR,
                  FLAGSHM_VERSION);
}

void doctor_heartbeat(struct doctor *d)
{
    uint64_t limit = d->snapshot.header.stale_after_ns;
    char age[24], limit_text[24];

    if (!d->has_table)
        return;
    (void)flagctl_span(d->snapshot.age_ns, age);
    (void)flagctl_span((int64_t)(limit < INT64_MAX ? limit : INT64_MAX), limit_text);
    if (d->snapshot.age_ns < 0)
        doctor_bad(d, "heartbeat", FLAGCTL_UNREACHABLE, "restart the server",
                   "it is from the future: the table is of another boot, or of another time namespace");
    else if ((uint64_t)d->snapshot.age_ns <= limit)
        doctor_ok(d, "heartbeat", "%s ago (stale after %s)", age, limit_text);
    else
        doctor_bad(
            d, "heartbeat", FLAGCTL_UNREACHABLE,
            d->is_lock_held ? "the server is stopped or hangs: continue it (kill -CONT PID) or restart it"
                            : start_mend,
            "%s ago: the server is gone or stopped; guarded flags give control, all others stay as they are",
            age);
}

/* ---- server ---- */

static const char *word_of(const cJSON *answer, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, key));

    return text != NULL ? text : "?";
}

static void greet(struct doctor *d, double ms)
{
    const cJSON *pid = cJSON_GetObjectItemCaseSensitive(d->status, "pid");
    const char *release = word_of(d->status, "release");
    double number = cJSON_IsNumber(pid) ? pid->valuedouble : 0;

    doctor_ok(d, "server", "pid %.0f, release %s, since %s; answers in %.1f ms", number, release,
              word_of(d->status, "started"), ms);
    if (strcmp(release, FLAGSHM_VERSION) != 0)
        doctor_warn(d, "server", "restart the server after an upgrade: readers go on meanwhile",
                    "it runs release %s, and this flagctl is %s", release, FLAGSHM_VERSION);
    if (d->has_table && number != (double)d->snapshot.header.pid)
        doctor_warn(d, "server", "look at --instance and --socket: they should belong together",
                    "it says pid %.0f, and the table was written by pid %u", number, d->snapshot.header.pid);
}

void doctor_server(struct doctor *d)
{
    cJSON *request = cJSON_CreateObject(), *answer = NULL;
    struct flagshm_error error = {""};
    uint64_t begin = flagshm_mono_ns();
    int code;

    (void)cJSON_AddStringToObject(request, "verb", "status");
    code = flagshm_control_ask(d->ctl->instance.socket_path, request, ASK_MS, &answer, &error);
    cJSON_Delete(request);
    if (code == 0 && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok"))) {
        d->status = answer;
        greet(d, (double)(flagshm_mono_ns() - begin) / 1e6);
        return;
    }
    if (code == -EACCES || code == -EPERM)
        doctor_warn(d, "server", "run doctor as root or as the server's user", "not asked: %s", error.text);
    else if (code == -ETIMEDOUT)
        doctor_bad(d, "server", FLAGCTL_UNREACHABLE,
                   "continue it (kill -CONT PID) or restart it; meanwhile `flagctl kill --all` works", "%s",
                   error.text);
    else if (code == 0)
        doctor_bad(d, "server", FLAGCTL_FAILED, "install one release of server and tools",
                   "its status cannot be read: %s", word_of(answer, "message"));
    else
        doctor_bad(d, "server", FLAGCTL_UNREACHABLE, start_mend, "%s", error.text);
    cJSON_Delete(answer);
}

void doctor_lock(struct doctor *d)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[sizeof d->ctl->instance.table_path + 8];
    int fd;

    (void)snprintf(path, sizeof path, "%s.lock", d->ctl->instance.table_path);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        if (errno == EACCES)
            doctor_ok(d, "lock", "not looked at: only root and the server's user may");
        else if (errno != ENOENT)
            doctor_bad(d, "lock", FLAGCTL_FAILED, "as root: look at it, remove it if it is no server's (rm)",
                       "%s: %s", path, strerror(errno));
        else if (d->has_table)
            doctor_warn(d, "lock", "restart the server", "%s is missing: a second server could start", path);
        return;
    }
    d->is_lock_known = fcntl(fd, F_OFD_GETLK, &whole) == 0;
    d->is_lock_held = d->is_lock_known && whole.l_type != F_UNLCK;
    (void)close(fd);
    if (d->is_lock_held && d->status == NULL)
        doctor_warn(d, "lock", "the server is stopped or hangs: continue it (kill -CONT PID) or restart it",
                    "held, though no server answers");
    else if (!d->is_lock_held && d->status != NULL)
        doctor_bad(d, "lock", FLAGCTL_FAILED, "restart the server",
                   "the server does not hold %s (it was removed by hand?): a second one could start", path);
    else
        doctor_ok(d, "lock", d->is_lock_held ? "held by the server" : "free: no server runs");
}
