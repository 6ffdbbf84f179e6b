/* offline: see the header. */
#include "tools/offline.h"
#include "server/clock.h"
#include "server/control.h"
#include "server/flagfile.h"
#include "tools/change.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REACH_NS     UINT64_C(2000000000)
#define LOCK_WAIT_MS 100
#define REASON_ROOM  300 /* the kept bytes of a reason, with NUL */
#define ASK_MS       700 /* several turns within the 2 s: a server that starts may come in between */

enum flagctl_offline flagctl_offline_open(const struct flagctl *ctl, struct flagshm_segment *segment,
                                          int wait_ms, struct flagshm_error *error)
{
    const struct flagshm_segment_options options = {.dir = ctl->instance.dir,
                                                    .instance = ctl->instance.name,
                                                    .group = (gid_t)-1,
                                                    .lock_wait_ms = wait_ms,
                                                    .is_tool = true};

    switch (flagshm_segment_open(segment, &options, error)) {
    case 0:
        break;
    case -EBUSY:
        return FLAGCTL_OFFLINE_HELD;
    case -EPERM:
    case -EACCES:
        return FLAGCTL_OFFLINE_DENIED;
    default:
        return FLAGCTL_OFFLINE_FAILED;
    }
    if (segment->header != NULL && segment->is_adopted)
        return FLAGCTL_OFFLINE_TABLE;
    flagshm_segment_close(segment);
    return FLAGCTL_OFFLINE_NO_TABLE;
}

/* ---- the two ways ---- */

cJSON *flagctl_word_request(const char *flag, const char *reason)
{
    cJSON *request = cJSON_CreateObject();
    char clean[REASON_ROOM];

    if (flag != NULL)
        (void)cJSON_AddStringToObject(request, "flag", flag);
    else
        (void)cJSON_AddBoolToObject(request, "all", true);
    if (reason != NULL)
        (void)cJSON_AddStringToObject(request, "reason", flagctl_clean(reason, clean, sizeof clean));
    return request;
}

/* Who may act while no server does. */
static int denied(const struct flagctl *ctl, const struct flagshm_error *error)
{
    const struct passwd *owner;
    struct stat table;

    if (lstat(ctl->instance.table_path, &table) != 0 || table.st_uid == geteuid())
        return flagctl_fail(ctl, FLAGCTL_FAILED, "no server answers, and: %s", error->text);
    owner = getpwuid(table.st_uid);
    if (owner != NULL)
        return flagctl_fail(
            ctl, FLAGCTL_FAILED,
            "no server answers on %s, and without it only root and %s, the owner of %s, may do that",
            ctl->instance.socket_path, owner->pw_name, ctl->instance.table_path);
    return flagctl_fail(
        ctl, FLAGCTL_FAILED,
        "no server answers on %s, and without it only root and uid %u, the owner of %s, may do that",
        ctl->instance.socket_path, (unsigned)table.st_uid, ctl->instance.table_path);
}

static int code_of(const cJSON *answer)
{
    const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "code"));

    if (word == NULL)
        return FLAGCTL_FAILED;
    return strcmp(word, "already") == 0        ? FLAGCTL_OK
           : strcmp(word, "no_such_flag") == 0 ? FLAGCTL_NO_FLAG
           : strcmp(word, "usage") == 0        ? FLAGCTL_USAGE
                                               : FLAGCTL_FAILED;
}

/* Not flagctl_ask: whatever goes wrong with the socket (a server that dies while it answers, another program that listens there) is
 * FLAGCTL_UNREACHABLE without a word, since there is another way; but for being kept out, which is said. */
static int ask_once(const struct flagctl *ctl, const char *verb, const cJSON *request, cJSON **answer)
{
    struct flagshm_error error = {""};
    cJSON *whole = request != NULL ? cJSON_Duplicate(request, true) : cJSON_CreateObject();
    const char *message;
    int code;

    *answer = NULL;
    (void)cJSON_AddStringToObject(whole, "verb", verb);
    code = flagshm_control_ask(ctl->instance.socket_path, whole, ASK_MS, answer, &error);
    cJSON_Delete(whole);
    if (code == -EACCES || code == -EPERM)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text);
    if (code != 0)
        return FLAGCTL_UNREACHABLE;
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(*answer, "ok")))
        return FLAGCTL_OK;
    code = code_of(*answer);
    message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(*answer, "message"));
    if (code != FLAGCTL_OK) {
        (void)flagctl_fail(ctl, code, "%s",
                           message != NULL ? message : "the server refuses and does not say why");
        cJSON_Delete(*answer);
        *answer = NULL;
    }
    return code;
}

/* A request lies in the server's socket also after we have given up: a stopped server would do it when it wakes. For a kill that is
 * right. What takes a kill back is only asked of a server that answers. */
static int ask(const struct flagctl *ctl, const char *verb, const cJSON *request, bool is_urgent,
               cJSON **answer)
{
    if (!is_urgent) {
        int code = ask_once(ctl, "ping", NULL, answer);

        cJSON_Delete(*answer);
        *answer = NULL;
        if (code != FLAGCTL_OK)
            return code;
    }
    return ask_once(ctl, verb, request, answer);
}

enum flagctl_way flagctl_reach(struct flagctl *ctl, const char *verb, const cJSON *request, bool is_urgent,
                               cJSON **answer, struct flagshm_segment *segment, int *code)
{
    const uint64_t end = flagshm_mono_ns() + REACH_NS;
    struct flagshm_error error = {""};
    struct flagshm *client;

    (void)flagctl_client(ctl, &client); /* the segment knows the socket and the state directory */
    do {
        *code = ask(ctl, verb, request, is_urgent, answer);
        if (*code != FLAGCTL_UNREACHABLE)
            return FLAGCTL_WAY_SERVER;
        switch (flagctl_offline_open(ctl, segment, LOCK_WAIT_MS, &error)) {
        case FLAGCTL_OFFLINE_TABLE:
            return FLAGCTL_WAY_TABLE;
        case FLAGCTL_OFFLINE_NO_TABLE:
            return FLAGCTL_WAY_NO_TABLE;
        case FLAGCTL_OFFLINE_DENIED:
            *code = denied(ctl, &error);
            return FLAGCTL_WAY_NONE;
        case FLAGCTL_OFFLINE_FAILED:
            *code = flagctl_fail(ctl, FLAGCTL_FAILED, "no server answers, and: %s", error.text);
            return FLAGCTL_WAY_NONE;
        case FLAGCTL_OFFLINE_HELD:
            break;
        }
    } while (flagshm_mono_ns() < end);
    return FLAGCTL_WAY_HELD;
}

/* ---- the state directory ---- */

bool flagctl_has_state(const struct flagctl *ctl)
{
    struct stat status;

    return stat(ctl->instance.state_dir, &status) == 0 && S_ISDIR(status.st_mode);
}

struct identity {
    uid_t uid;
    gid_t gid;
    bool is_changed;
};

/* Root becomes the state directory's owner for a while: what it writes must be readable to the server, and no link in a directory
 * that another user can write may lead root astray. */
static int become_owner(const struct flagctl *ctl, struct identity *before, struct flagshm_error *error)
{
    struct stat status;

    *before = (struct identity){.uid = geteuid(), .gid = getegid()};
    if (stat(ctl->instance.state_dir, &status) != 0)
        return flagshm_error_set(error, -errno, "the state directory %s: %s", ctl->instance.state_dir,
                                 strerror(errno));
    if (before->uid != 0 || status.st_uid == 0)
        return 0;
    if (setegid(status.st_gid) != 0 || seteuid(status.st_uid) != 0) {
        int code = -errno;

        (void)!setegid(before->gid);
        return flagshm_error_set(error, code, "cannot act as uid %u, the owner of %s: %s",
                                 (unsigned)status.st_uid, ctl->instance.state_dir, strerror(-code));
    }
    before->is_changed = true;
    return 0;
}

static void become_again(const struct identity *before)
{
    if (before->is_changed && (seteuid(before->uid) != 0 || setegid(before->gid) != 0))
        abort(); /* the kernel lets the real root back */
}

/* The whole of STATE/last-good.json, malloc'ed; NULL. */
static char *read_last_good(const struct flagctl *ctl, size_t *bytes)
{
    char path[1100], *text = NULL;
    struct stat status;
    ssize_t part = 1;
    int fd;

    (void)snprintf(path, sizeof path, "%s/last-good.json", ctl->instance.state_dir);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size <= (off_t)FLAGSHM_FILE_MAX)
        text = malloc((size_t)status.st_size + 1);
    *bytes = 0;
    while (text != NULL && *bytes < (size_t)status.st_size && part > 0) {
        part = read(fd, text + *bytes, (size_t)status.st_size - *bytes);
        *bytes += part > 0 ? (size_t)part : 0;
    }
    (void)close(fd);
    return text;
}

bool flagctl_is_unknown_to_state(const struct flagctl *ctl, const char *flag)
{
    struct flagshm_flagfile file = {0};
    struct flagshm_diags diags = {0};
    struct identity before;
    size_t bytes = 0;
    char *text;
    bool is_unknown;

    if (become_owner(ctl, &before, NULL) != 0)
        return false;
    text = read_last_good(ctl, &bytes);
    become_again(&before);
    is_unknown = text != NULL && flagshm_flagfile_parse(&file, text, bytes, NULL, &diags) == 0 &&
                 file.is_usable && flagshm_flagfile_find(&file, flag) == NULL;
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    free(text);
    return is_unknown;
}

/* "killed by ada with flagctl at TIME: REASON" */
static void describe(char *out, size_t room, const char *reason)
{
    const struct passwd *user = getpwuid(getuid());
    const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;
    struct timespec now;
    char time_text[40], clean[REASON_ROOM], name[80];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)flagctl_time((uint64_t)now.tv_sec * 1000000000u, time_text);
    if (user != NULL)
        (void)snprintf(name, sizeof name, "%.70s", user->pw_name);
    else
        (void)snprintf(name, sizeof name, "uid %u", (unsigned)getuid());
    (void)snprintf(out, room, "killed by %s%s%.64s with flagctl, no server answered, at %s: %s", name,
                   sudo != NULL ? " for " : "", sudo != NULL ? sudo : "", time_text,
                   flagctl_clean(reason != NULL ? reason : "(no reason given)", clean, sizeof clean));
}

int flagctl_kill_write(const struct flagctl *ctl, const char *flag, const char *reason, bool *already,
                       struct flagshm_error *error)
{
    struct flagshm_kills kills = {0};
    struct identity before;
    char why[600];
    bool is_there;
    int code = become_owner(ctl, &before, error);

    if (code != 0)
        return code;
    is_there = flagshm_kills_load(&kills, ctl->instance.state_dir, NULL) == 0 &&
               (flag != NULL ? flagshm_kills_has(&kills, flag) : kills.all);
    flagshm_kills_free(&kills);
    if (already != NULL)
        *already = is_there;
    describe(why, sizeof why, reason);
    if (!is_there)
        code = flagshm_kills_write(ctl->instance.state_dir, flag, why, error);
    become_again(&before);
    return code;
}

int flagctl_kill_erase(const struct flagctl *ctl, const char *flag, struct flagshm_error *error)
{
    struct identity before;
    int code = become_owner(ctl, &before, error);

    if (code != 0)
        return code;
    code = flagshm_kills_erase(ctl->instance.state_dir, flag, error);
    become_again(&before);
    return code;
}

int flagctl_kills_load(const struct flagctl *ctl, struct flagshm_kills *kills, struct flagshm_error *error)
{
    struct identity before;
    int code = become_owner(ctl, &before, error);

    if (code != 0)
        return code;
    code = flagshm_kills_load(kills, ctl->instance.state_dir, error);
    become_again(&before);
    return code;
}

/* ---- the table ---- */

/* A private copy of the served bank. */
static int copy_served(const struct flagshm_segment *segment, struct flagshm_table *table)
{
    uint64_t seq = flagshm_load64_(&segment->header->seq);
    const unsigned char *served =
        (const unsigned char *)segment->header + segment->geometry.bank_offset[seq & 1];
    const struct flagshm_bank *bank;

    *table = (struct flagshm_table){.geometry = segment->geometry};
    table->bytes = malloc((size_t)segment->geometry.bank_bytes);
    if (table->bytes == NULL)
        return -ENOMEM;
    memcpy(table->bytes, served, (size_t)segment->geometry.bank_bytes);
    bank = (const struct flagshm_bank *)(const void *)table->bytes;
    table->flag_count = bank->flag_count;
    table->heap_used = bank->heap_used;
    return 0;
}

int flagctl_offline_unkill(struct flagshm_segment *segment, const char *flag, struct flagshm_error *error)
{
    struct flagshm_table table;
    struct flagshm_flag_entry *record;
    int code;

    if (copy_served(segment, &table) != 0)
        return flagshm_error_set(error, -ENOMEM, "no memory for a copy of the table");
    record = flagshm_table_find(&table, flagshm_hash64_(flag, strlen(flag), 0));
    if (record == NULL) {
        code = flagshm_error_set(error, -ENOENT, "no flag \"%s\" in the table", flag);
    } else if ((record->switches & FLAGSHM_SWITCH_KILLED) == 0) {
        code = flagshm_error_set(error, -EALREADY, "flag \"%s\" is not killed", flag);
    } else {
        record->switches = (record->switches & ~FLAGSHM_SWITCH_KILLED) | FLAGSHM_SWITCH_DISABLED;
        memset(record->stage, 0, sizeof record->stage);
        (void)snprintf(record->stage, sizeof record->stage, "disabled");
        table.content_hash = flagshm_table_hash(&table);
        ((struct flagshm_bank *)(void *)table.bytes)->content_hash = table.content_hash;
        code = flagshm_segment_publish(segment, &table, flagshm_segment_version(segment) + 1,
                                       flagshm_segment_file_rev(segment), error);
    }
    flagshm_table_free(&table);
    return code;
}
