/* view: see view.h. */
#include "tools/view.h"

#include "server/diagnostics.h"
#include "server/json_scan.h"
#include "tools/connect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int flagctl_snapshot(struct flagctl *ctl, struct flagshm_snapshot *snapshot)
{
    struct flagshm_error error = {""};
    struct flagshm *client;
    int code = flagctl_open(ctl, &client);

    if (code != FLAGCTL_OK)
        return code;
    code = flagshm_snapshot_take(snapshot, client, &error);
    if (code == 0)
        return FLAGCTL_OK;
    if (code == -ENOMEM)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    if (code == -ENOENT || code == -EBADMSG)
        return flagctl_no_table(ctl, code);
    return flagctl_fail(ctl, FLAGCTL_UNREACHABLE, "%s", error.text);
}

int flagctl_no_flag(struct flagctl *ctl, const struct flagshm_snapshot *snapshot, const char *flag)
{
    const char **names = calloc(snapshot->count + 1, sizeof *names), *near = NULL;
    size_t i;

    if (names != NULL) {
        for (i = 0; i < snapshot->count; i++)
            names[i] = snapshot->flags[i].name;
        near = flagshm_did_you_mean(flag, strlen(flag), names);
    }
    (void)flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\"%s%s%s", flag,
                       near != NULL ? " (did you mean \"" : "", near != NULL ? near : "",
                       near != NULL ? "\"?)" : "");
    free(names);
    return FLAGCTL_NO_FLAG;
}

int flagctl_no_such_flag(struct flagctl *ctl, const char *flag)
{
    struct flagshm_snapshot snapshot;
    int code = flagctl_snapshot(ctl, &snapshot);

    if (code != FLAGCTL_OK)
        return code;
    code = flagctl_no_flag(ctl, &snapshot, flag);
    flagshm_snapshot_free(&snapshot);
    return code;
}

bool flagctl_is_stale(const struct flagshm_snapshot *snapshot)
{
    return snapshot->age_ns < 0 || (uint64_t)snapshot->age_ns > snapshot->header.stale_after_ns;
}

struct flagctl_served flagctl_served(const struct flagshm_snapshot *snapshot,
                                     const struct flagshm_snapshot_flag *flag)
{
    struct flagctl_served served = {flag->rollout_mpct, flag->stage, FLAGSHM_SPLIT, FLAGCTL_PLAIN};

    if (snapshot->is_all_control || (flag->switches & FLAGSHM_SWITCH_OFF) != 0) {
        served.mpct = 0;
        served.reason = FLAGSHM_DISABLED;
        served.hue =
            (flag->switches & FLAGSHM_SWITCH_OFF) == FLAGSHM_SWITCH_DISABLED ? FLAGCTL_DIM : FLAGCTL_RED;
        if (snapshot->is_all_control) {
            served.stage = "killed";
            served.hue = FLAGCTL_RED;
        }
    } else if ((flag->switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0 && flagctl_is_stale(snapshot)) {
        served.mpct = 0;
        served.reason = FLAGSHM_STALE;
        served.hue = FLAGCTL_YELLOW;
    } else {
        if ((flag->switches & FLAGSHM_SWITCH_HASH) == 0)
            served.reason = FLAGSHM_STATIC;
        served.hue = flag->rollout_mpct == 0        ? FLAGCTL_DIM
                     : flag->rollout_mpct == 100000 ? FLAGCTL_GREEN
                                                    : FLAGCTL_PLAIN;
    }
    return served;
}

bool flagctl_is_object(const struct flagshm_snapshot_arm *arm)
{
    /* A text's model is the text itself, an object's stands inside it. */
    return arm->value_bytes > 1 && arm->value[0] == '{' && strcmp(arm->value, arm->model) != 0;
}

void flagctl_json_value(cJSON *object, const char *key, const char *value, size_t bytes, bool is_object)
{
    struct flagshm_arena arena = {0};
    struct flagshm_json_places places;
    struct flagshm_diags diags = {0};

    /* Raw bytes must be sound JSON, or the whole answer is none. */
    if (is_object && flagshm_json_scan(value, bytes, &arena, &places, &diags))
        (void)cJSON_AddRawToObject(object, key, value);
    else
        (void)cJSON_AddStringToObject(object, key, value);
    flagshm_diags_free(&diags);
    flagshm_arena_free(&arena);
}

static void warn_add(struct flagctl_warning *warnings, size_t *count, size_t room, enum flagctl_hue hue,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));
static void warn_add(struct flagctl_warning *warnings, size_t *count, size_t room, enum flagctl_hue hue,
                     const char *format, ...)
{
    va_list arguments;
    if (*count == room)
        return;
    va_start(arguments, format);
    (void)vsnprintf(warnings[*count].text, sizeof warnings->text, format, arguments);
    va_end(arguments);
    warnings[(*count)++].hue = hue;
}

size_t flagctl_warnings(const struct flagshm_snapshot *snapshot, struct flagctl_warning *warnings,
                        size_t room)
{
    size_t count = 0, killed = 0, held = 0, i;
    char span[24];

    for (i = 0; i < snapshot->count; i++) {
        killed += (snapshot->flags[i].switches & FLAGSHM_SWITCH_KILLED) != 0;
        held += (snapshot->flags[i].switches & FLAGSHM_SWITCH_STALE_CONTROL) != 0;
    }
    if (snapshot->is_all_control)
        warn_add(warnings, &count, room, FLAGCTL_RED,
                 "everything is killed: every flag gives control; to end it: flagctl unkill --all");
    if (killed != 0)
        warn_add(warnings, &count, room, FLAGCTL_RED, "%zu flag%s killed; to end it: flagctl unkill FLAG",
                 killed, killed == 1 ? " is" : "s are");
    if (snapshot->age_ns < 0)
        warn_add(warnings, &count, room, FLAGCTL_RED,
                 "the heartbeat lies %s ahead of the clock: the table is from another boot or time namespace",
                 flagctl_span(-snapshot->age_ns, span));
    else if (flagctl_is_stale(snapshot))
        warn_add(warnings, &count, room, FLAGCTL_RED,
                 "the server has been silent for %s: nobody takes edits; flagctl doctor",
                 flagctl_span(snapshot->age_ns, span));
    if (flagctl_is_stale(snapshot) && held != 0)
        warn_add(warnings, &count, room, FLAGCTL_YELLOW,
                 "%zu flag%s control while it is silent (on_stale: control)", held,
                 held == 1 ? " gives" : "s give");
    if (snapshot->is_retired)
        warn_add(warnings, &count, room, FLAGCTL_YELLOW,
                 "this table is retired and its successor cannot be read yet");
    if (snapshot->damaged != 0)
        warn_add(warnings, &count, room, FLAGCTL_RED,
                 "%zu record%s damaged and left out: restart the server; flagctl dump", snapshot->damaged,
                 snapshot->damaged == 1 ? " is" : "s are");
    return count;
}
