/* watch: a line for each change of the served table, as it happens. */
#include "tools/view.h"
#include "tools/wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct watching {
    const char *flag;    /* NULL: all */
    long count, printed; /* 0: without end */
    double end;          /* 0: none */
    bool was_stale;
};

/* ---- one change ---- */

static cJSON *change_json(const struct flagshm_snapshot *now, const char *event, const char *flag)
{
    cJSON *json = cJSON_CreateObject();
    struct timespec clock;
    char time[40];

    (void)clock_gettime(CLOCK_REALTIME, &clock);
    (void)cJSON_AddStringToObject(
        json, "time", flagctl_time((uint64_t)clock.tv_sec * 1000000000u + (uint64_t)clock.tv_nsec, time));
    flagctl_json_u64(json, "version", now->version);
    (void)cJSON_AddStringToObject(json, "event", event);
    if (flag != NULL)
        (void)cJSON_AddStringToObject(json, "flag", flag);
    return json;
}

static void change_print(struct flagctl *ctl, const struct flagshm_snapshot *now, const char *flag,
                         const char *text)
{
    struct timespec clock;
    char time[40], clean[2048];

    (void)clock_gettime(CLOCK_REALTIME, &clock);
    (void)fprintf(ctl->out, "%s  %llu  ",
                  flagctl_time((uint64_t)clock.tv_sec * 1000000000u + (uint64_t)clock.tv_nsec, time),
                  (unsigned long long)now->version);
    if (flag != NULL)
        (void)fprintf(ctl->out, "%s  ", flag);
    (void)fprintf(ctl->out, "%s\n", flagctl_clean(text, clean, sizeof clean));
}

static void whole_report(struct flagctl *ctl, struct watching *w, const struct flagshm_snapshot *now,
                         const char *event, const char *text)
{
    if (ctl->is_json)
        (void)flagctl_json(ctl, change_json(now, event, NULL));
    else
        change_print(ctl, now, NULL, text);
    w->printed++;
}

static void side_add(cJSON *json, const char *key, const struct flagshm_snapshot *snapshot,
                     const struct flagshm_snapshot_flag *flag)
{
    struct flagctl_served served;
    cJSON *side;

    if (flag == NULL)
        return;
    served = flagctl_served(snapshot, flag);
    side = cJSON_AddObjectToObject(json, key);
    flagctl_json_share(side, "rollout_pct", served.mpct);
    (void)cJSON_AddStringToObject(side, "stage", served.stage);
    (void)cJSON_AddStringToObject(side, "reason", flagshm_reason_name(served.reason));
}

static bool has_same_arms(const struct flagshm_snapshot_flag *a, const struct flagshm_snapshot_flag *b)
{
    uint32_t i;
    if (a->arm_count != b->arm_count)
        return false;
    for (i = 0; i < a->arm_count; i++)
        if (a->arms[i].value_hash != b->arms[i].value_hash || a->arms[i].weight != b->arms[i].weight ||
            strcmp(a->arms[i].name, b->arms[i].name) != 0)
            return false;
    return true;
}

static void side_text(const struct flagshm_snapshot *snapshot, const struct flagshm_snapshot_flag *flag,
                      char *out, size_t room)
{
    struct flagctl_served served = flagctl_served(snapshot, flag);
    char share[24];
    (void)snprintf(out, room, "%s %s", flagctl_share(served.mpct, share),
                   served.reason == FLAGSHM_STALE ? "stale" : served.stage);
}

/* One flag in both tables, or in one of them (the other NULL). */
static void flag_report(struct flagctl *ctl, struct watching *w, const char *name,
                        const struct flagshm_snapshot *old, const struct flagshm_snapshot_flag *before,
                        const struct flagshm_snapshot *now, const struct flagshm_snapshot_flag *after)
{
    const char *event = before == NULL ? "added" : after == NULL ? "removed" : "changed";
    char was[64] = "", is[64] = "", text[256];
    bool is_same_share, has_new_arms;

    if (before != NULL)
        side_text(old, before, was, sizeof was);
    if (after != NULL)
        side_text(now, after, is, sizeof is);
    is_same_share = strcmp(was, is) == 0;
    has_new_arms = before != NULL && after != NULL && !has_same_arms(before, after);
    if (is_same_share && !has_new_arms && (before->changed_version == after->changed_version))
        return;
    w->printed++;
    if (ctl->is_json) {
        cJSON *json = change_json(now, event, name);
        side_add(json, "old", old, before);
        side_add(json, "new", now, after);
        if (before != NULL && after != NULL)
            (void)cJSON_AddBoolToObject(json, "values_changed", has_new_arms);
        (void)flagctl_json(ctl, json);
        return;
    }
    if (before == NULL)
        (void)snprintf(text, sizeof text, "added: %s", is);
    else if (after == NULL)
        (void)snprintf(text, sizeof text, "removed: was %s", was);
    else if (is_same_share)
        (void)snprintf(text, sizeof text, "%s, %s changed", is,
                       has_new_arms ? "values or weights" : "other keys");
    else
        (void)snprintf(text, sizeof text, "%s -> %s%s", was, is,
                       has_new_arms ? ", values or weights changed" : "");
    change_print(ctl, now, name, text);
}

/* All that differs between two tables: both are sorted by name. */
static void tables_report(struct flagctl *ctl, struct watching *w, const struct flagshm_snapshot *old,
                          const struct flagshm_snapshot *now)
{
    size_t i = 0, k = 0;

    if (old->is_all_control != now->is_all_control)
        whole_report(ctl, w, now, now->is_all_control ? "all_control" : "all_control_ended",
                     now->is_all_control ? "everything is killed: every flag gives control"
                                         : "the kill of everything has ended");
    while (i < old->count || k < now->count) {
        const struct flagshm_snapshot_flag *before = i < old->count ? &old->flags[i] : NULL;
        const struct flagshm_snapshot_flag *after = k < now->count ? &now->flags[k] : NULL;
        int order = before == NULL ? 1 : after == NULL ? -1 : strcmp(before->name, after->name);
        const char *name;
        if (order > 0)
            before = NULL;
        if (order < 0)
            after = NULL;
        name = order > 0 ? now->flags[k].name : old->flags[i].name;
        i += before != NULL;
        k += after != NULL;
        if (w->flag == NULL || strcmp(w->flag, name) == 0)
            flag_report(ctl, w, name, old, before, now, after);
    }
}

static void silence_report(struct flagctl *ctl, struct watching *w, const struct flagshm_snapshot *now)
{
    bool is_stale = flagctl_is_stale(now);
    if (is_stale != w->was_stale)
        whole_report(ctl, w, now, is_stale ? "server_silent" : "server_back",
                     is_stale ? "the server is silent" : "the server is back");
    w->was_stale = is_stale;
}

/* ---- the loop ---- */

static bool is_done(const struct watching *w)
{
    return flagctl_is_stopped() || (w->count != 0 && w->printed >= w->count) ||
           (w->end > 0 && flagctl_now() >= w->end);
}

static int watch_loop(struct flagctl *ctl, struct watching *w, struct flagshm_snapshot *old)
{
    while (!is_done(w)) {
        struct flagshm_snapshot now;
        double left = w->end > 0 ? w->end - flagctl_now() : 3600;
        int code;

        (void)flagctl_wait(&ctl->client, old->version, old->header.seq, left < 1 ? left : 1);
        code = flagctl_snapshot(ctl, &now);
        if (code != FLAGCTL_OK)
            return code;
        silence_report(ctl, w, &now);
        tables_report(ctl, w, old, &now);
        flagshm_snapshot_free(old);
        *old = now;
        errno = 0;
        if (fflush(ctl->out) != 0)
            return flagctl_fail(ctl, FLAGCTL_FAILED, "cannot write the output: %s", strerror(errno));
    }
    return !flagctl_is_stopped() && w->count != 0 && w->printed < w->count ? FLAGCTL_TIMED_OUT : FLAGCTL_OK;
}

static int watch_run(struct flagctl *ctl, int argc, char **argv)
{
    const char *count = flagctl_option(ctl, "count"), *timeout = flagctl_option(ctl, "timeout");
    struct watching w = {.flag = argc > 0 ? argv[0] : NULL};
    struct flagshm_snapshot old;
    double number;
    int code;

    if (count != NULL) {
        if (!flagctl_number(count, 1, 1e9, &number) || strchr(count, '.') != NULL)
            return flagctl_fail(ctl, FLAGCTL_USAGE, "--count is a whole number from 1 on, got \"%s\"", count);
        w.count = (long)number;
    }
    if (timeout != NULL) {
        if (!flagctl_number(timeout, 0, 1e9, &number))
            return flagctl_fail(ctl, FLAGCTL_USAGE, "--timeout is a number of seconds, got \"%s\"", timeout);
        w.end = flagctl_now() + number;
    }
    ctl->is_stream = true;
    flagctl_wait_begin();
    code = flagctl_snapshot(ctl, &old);
    if (code != FLAGCTL_OK)
        return code;
    if (w.flag != NULL && flagshm_snapshot_find(&old, w.flag) == NULL)
        flagctl_warn(ctl, "there is no flag \"%s\" yet", w.flag);
    w.was_stale = flagctl_is_stale(&old);
    if (w.was_stale)
        flagctl_warn(ctl, "the server is silent: nothing will change until it is back");
    code = watch_loop(ctl, &w, &old);
    flagshm_snapshot_free(&old);
    return code;
}

static const struct flagctl_option options[] = {
    {"count", 'n', "N", FLAGCTL_NUMBER, "end after N lines"},
    {"timeout", 't', "SECONDS", FLAGCTL_NUMBER, "end after this time"},
    {0},
};

const struct flagctl_command flagctl_watch_command = {
    .name = "watch",
    .group = "Look",
    .arguments = "[FLAG]",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "a line for each change, as it happens",
    .help = "Sleeps on the table's futex: a change is printed well within a millisecond of being served. "
            "Versions that follow each other\n"
            "faster than they can be printed are shown as one. Ends on Ctrl-C.\n\n"
            "Exit codes: 0, 5 no table, 8 --timeout passed before --count lines were printed.\n\n"
            "JSON, one object a line: {\"time\", \"version\", \"event\": \"changed\", \"added\", "
            "\"removed\", \"all_control\",\n"
            "  \"all_control_ended\", \"server_silent\" or \"server_back\", \"flag\", \"old\" and \"new\": "
            "{\"rollout_pct\", \"stage\", \"reason\"},\n"
            "  \"values_changed\"}",
    .options = options,
    .max_arguments = 1,
    .run = watch_run,
};
