/* change: see the header. */
#include "tools/change.h"
#include "server/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_NS 10000000 /* between two questions to the server */

/* Adds " --NAME=VALUE", quoted for a shell where that is needed. */
static void add_option(char *out, size_t room, const char *name, const char *value)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./:@%+,";
    size_t used = strlen(out);

    if (value[strspn(value, plain)] == '\0')
        (void)snprintf(out + used, room - used, " --%s=%s", name, value);
    else if (strchr(value, '\'') == NULL)
        (void)snprintf(out + used, room - used, " --%s='%s'", name, value);
    else
        (void)snprintf(out + used, room - used, " --%s=\"%s\"", name, value);
}

const char *flagctl_again(const struct flagctl *ctl, char out[2048], const char *format, ...)
{
    va_list arguments;

    (void)snprintf(out, 2048, "flagctl ");
    va_start(arguments, format);
    (void)vsnprintf(out + 8, 2048 - 8, format, arguments);
    va_end(arguments);
    if (strcmp(ctl->instance.name, "default") != 0)
        add_option(out, 2048, "instance", ctl->instance.name);
    if (ctl->instance.dir[0] != '\0')
        add_option(out, 2048, "dir", ctl->instance.dir);
    if (ctl->has_state_dir)
        add_option(out, 2048, "state-dir", ctl->instance.state_dir);
    if (ctl->has_socket)
        add_option(out, 2048, "socket", ctl->instance.socket_path);
    if (ctl->file != NULL)
        add_option(out, 2048, "file", ctl->file);
    return out;
}

void flagctl_note(const struct flagctl *ctl, cJSON *result, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    cJSON *list;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!ctl->is_json) {
        flagctl_warn(ctl, "%s", text);
        return;
    }
    list = cJSON_GetObjectItemCaseSensitive(result, "warnings");
    if (list == NULL)
        list = cJSON_AddArrayToObject(result, "warnings");
    (void)cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

int flagctl_result(struct flagctl *ctl, cJSON *result)
{
    if (cJSON_GetObjectItemCaseSensitive(result, "warnings") == NULL)
        (void)cJSON_AddArrayToObject(result, "warnings");
    return flagctl_json(ctl, result);
}

int flagctl_edit_fail(const struct flagctl *ctl, const char *path, int code,
                      const struct flagshm_error *error)
{
    switch (code) {
    case -ESTALE:
        return flagctl_fail(ctl, FLAGCTL_CONFLICT, "%s", error->text);
    case -EBADMSG:
    case -EINVAL:
        return flagctl_fail(ctl, FLAGCTL_FILE_ERRORS, "%s: %s", path, error->text);
    default:
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error->text);
    }
}

int flagctl_wait_ms(const struct flagctl *ctl)
{
    const char *given = flagctl_option(ctl, "wait");
    double seconds = 2;

    if (given != NULL && !flagctl_number(given, 0, 3600, &seconds)) {
        (void)flagctl_fail(ctl, FLAGCTL_USAGE, "--wait takes 0 to 3600 seconds, got \"%.100s\"", given);
        return -1;
    }
    return (int)(seconds * 1000);
}

/* Do two paths lead to one file? A path that leads nowhere is only equal to itself. */
static bool is_one_file(const char *a, const char *b)
{
    char *real_a = realpath(a, NULL), *real_b = realpath(b, NULL);
    bool is_one = strcmp(real_a != NULL ? real_a : a, real_b != NULL ? real_b : b) == 0;

    free(real_a);
    free(real_b);
    return is_one;
}

void flagctl_doubt(struct flagctl *ctl, const char *path, char out[2600])
{
    struct flagshm_snapshot snapshot;
    struct flagshm *client;
    const struct flagshm_header *header;
    char span[24];
    int code = flagctl_client(ctl, &client);

    out[0] = '\0';
    if (code == 0)
        code = flagshm_snapshot_take(&snapshot, client, NULL);
    if (code == -ENOENT)
        (void)snprintf(out, 2600, "no server has a table of instance %s", ctl->instance.name);
    else if (code != 0)
        (void)snprintf(out, 2600, "the table of instance %s cannot be read: %s", ctl->instance.name,
                       strerror(-code));
    if (code != 0)
        return;
    header = &snapshot.header;
    if (memchr(header->file_path, '\0', sizeof header->file_path) != NULL && header->file_path[0] == '/' &&
        !is_one_file(header->file_path, path))
        (void)snprintf(out, 2600, "the server of instance %s watches another file: %s", ctl->instance.name,
                       header->file_path);
    else if (snapshot.age_ns < 0 || (uint64_t)snapshot.age_ns > header->stale_after_ns)
        (void)snprintf(out, 2600, "the server is silent since %s; it takes up the file when it runs",
                       flagctl_span(snapshot.age_ns, span));
    flagshm_snapshot_free(&snapshot);
}

static const char *word_of(const cJSON *answer, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, key));

    return text != NULL ? text : "";
}

void flagctl_reproach(struct flagctl *ctl, char *out, size_t room)
{
    const cJSON *fault, *held;
    cJSON *answer = NULL;
    const char *state;

    out[0] = '\0';
    if (flagctl_ask(ctl, "status", NULL, true, &answer) != FLAGCTL_OK)
        return;
    state = word_of(answer, "file_state");
    fault = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(answer, "faults"), 0);
    held = cJSON_GetObjectItemCaseSensitive(answer, "deletions_held");
    if (word_of(answer, "refusal")[0] != '\0')
        (void)snprintf(out, room, "the server could not publish it: %s", word_of(answer, "refusal"));
    else if (strcmp(state, "gone") == 0)
        (void)snprintf(out, room, "the server finds no file at %s", word_of(answer, "file"));
    else if (strcmp(state, "broken") == 0 && fault != NULL)
        (void)snprintf(out, room, "the server finds the file broken: %s (flagctl lint)",
                       word_of(fault, "message"));
    else if (cJSON_GetArraySize(held) > 0)
        (void)snprintf(out, room, "%d deletions wait: flagctl accept", cJSON_GetArraySize(held));
    cJSON_Delete(answer);
}

uint64_t flagctl_accepted_rev(struct flagctl *ctl)
{
    const cJSON *number;
    cJSON *answer = NULL;
    uint64_t file_rev = 0;

    if (flagctl_ask(ctl, "status", NULL, true, &answer) != FLAGCTL_OK)
        return 0;
    number = cJSON_GetObjectItemCaseSensitive(answer, "file_rev");
    if (cJSON_IsNumber(number) && number->valuedouble > 0)
        file_rev = (uint64_t)number->valuedouble;
    cJSON_Delete(answer);
    return file_rev;
}

void flagctl_follow_rev(struct flagctl *ctl, cJSON *result, uint64_t before_rev, int wait_ms)
{
    const struct timespec nap = {0, POLL_NS};
    uint64_t end = flagshm_mono_ns() + (uint64_t)wait_ms * 1000000u, now_rev;
    char reproach[2048];

    if (before_rev == 0 || wait_ms == 0)
        return;
    do {
        now_rev = flagctl_accepted_rev(ctl);
        if (now_rev > before_rev) {
            if (ctl->is_json)
                flagctl_json_u64(result, "new_file_rev", now_rev);
            else
                (void)fprintf(ctl->out, "the server took it up as revision %llu\n",
                              (unsigned long long)now_rev);
            return;
        }
        (void)nanosleep(&nap, NULL);
    } while (flagshm_mono_ns() < end);
    flagctl_reproach(ctl, reproach, sizeof reproach);
    flagctl_note(ctl, result, "the file is written, but the server has not taken it up after %.1f s%s%s",
                 wait_ms / 1000.0, reproach[0] != '\0' ? ": " : "", reproach);
}
