/* set: a flag's share in the flag file, and whether the table shows it. */
#include "server/clock.h"
#include "server/flagfile.h"
#include "tools/change.h"
#include "tools/rollout_ask.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct set { /* one run */
    const char *flag;
    uint32_t mpct;
    bool is_dry;
    int wait_ms;
    uint32_t before_mpct; /* served before the edit; read of a planned flag alone */
    struct flagshm_edit_file file;
    struct flagshm_edit edit;
    cJSON *result; /* with -o json, else an empty object that is thrown away */
};

/* ---- what the table makes of it ---- */

/* The share that the table should show by and by; false where the file's number does not decide it, and why. */
static bool is_decided_by_file(const struct set *s, const struct flagshm_snapshot *snapshot,
                               const struct flagshm_snapshot_flag *flag, const char **why)
{
    *why = NULL;
    if (snapshot->is_all_control)
        *why = "every flag gives control (to end it: flagctl unkill --all)";
    else if (flag != NULL && (flag->switches & FLAGSHM_SWITCH_KILLED) != 0)
        *why = "the flag is killed (to end it: flagctl unkill FLAG)";
    else if (flag != NULL && (flag->switches & FLAGSHM_SWITCH_ROLLED_BACK) != 0)
        *why = "the flag is rolled back";
    else if (!s->edit.is_enabled)
        *why = "the file says \"enabled\": false";
    else if (s->edit.is_planned)
        *why = "the flag follows its plan; the file's share is only a cap";
    return *why == NULL;
}

static void tell_served(struct flagctl *ctl, struct set *s, const struct flagshm_snapshot *snapshot)
{
    double ms =
        s->file.renamed_mono_ns != 0 ? (double)(flagshm_mono_ns() - s->file.renamed_mono_ns) / 1e6 : 0.0;

    if (ctl->is_json) {
        (void)cJSON_AddBoolToObject(s->result, "served", true);
        flagctl_json_u64(s->result, "version", snapshot->version);
        if (!s->edit.is_same)
            (void)cJSON_AddNumberToObject(s->result, "latency_ms", (double)(long)(ms * 1000) / 1000);
    } else if (s->edit.is_same) {
        (void)fprintf(ctl->out, "served by version %llu\n", (unsigned long long)snapshot->version);
    } else {
        (void)fprintf(ctl->out, "served by version %llu, %.1f ms after the edit\n",
                      (unsigned long long)snapshot->version, ms);
    }
}

/* The file's number is one thing, what is served another. */
static void tell_otherwise(struct flagctl *ctl, struct set *s, const struct flagshm_snapshot *snapshot,
                           const struct flagshm_snapshot_flag *flag, const char *why)
{
    char share[24];

    if (ctl->is_json) {
        (void)cJSON_AddBoolToObject(s->result, "served", false);
        flagctl_json_u64(s->result, "version", snapshot->version);
        flagctl_json_share(s->result, "served_pct", flag != NULL ? flag->rollout_mpct : 0);
        (void)cJSON_AddStringToObject(s->result, "why", why);
        return;
    }
    if (s->edit.is_planned)
        (void)fprintf(ctl->out, "cap is now %s, ", flagctl_share(s->mpct, share));
    (void)fprintf(ctl->out, "still serving %s: %s\n",
                  flagctl_share(flag != NULL ? flag->rollout_mpct : 0, share), why);
}

/* The cap is one thing, where the plan is another. */
static void tell_cap(struct flagctl *ctl, struct set *s, const cJSON *rollout)
{
    uint32_t served = flagctl_rollout_mpct(rollout, "rollout_pct");
    char cap[24], share[24], place[80];

    (void)flagctl_rollout_place(rollout, place);
    if (!ctl->is_json) {
        (void)fprintf(ctl->out, "cap is now %s, %s %s (%s)\n", flagctl_share(s->mpct, cap),
                      served == s->before_mpct ? "still serving" : "serving", flagctl_share(served, share),
                      place);
        return;
    }
    (void)cJSON_AddBoolToObject(s->result, "served", served == s->mpct);
    flagctl_json_share(s->result, "served_pct", served);
    (void)cJSON_AddStringToObject(s->result, "why", place);
    (void)cJSON_AddStringToObject(s->result, "state", flagctl_text_at(rollout, "state"));
    if (flagctl_number_at(rollout, "step") >= 1)
        (void)cJSON_AddNumberToObject(s->result, "step", flagctl_number_at(rollout, "step"));
    if (flagctl_number_at(rollout, "steps") >= 1)
        (void)cJSON_AddNumberToObject(s->result, "steps", flagctl_number_at(rollout, "steps"));
}

/* Asks until the server goes by the cap. False: it does not say, now or ever. */
static bool follow_plan(struct flagctl *ctl, struct set *s)
{
    const struct timespec nap = {0, 5000000};
    uint64_t end = flagshm_mono_ns() + (uint64_t)s->wait_ms * 1000000u;
    const cJSON *rollout;
    cJSON *answer;
    bool is_over;

    do {
        rollout = flagctl_rollout_peek(ctl, s->flag, &answer);
        if (rollout == NULL)
            return false;
        is_over = flagctl_rollout_mpct(rollout, "cap_pct") == s->mpct;
        if (is_over)
            tell_cap(ctl, s, rollout);
        cJSON_Delete(answer);
        if (!is_over)
            (void)nanosleep(&nap, NULL);
    } while (!is_over && flagshm_mono_ns() < end);
    return is_over;
}

/* Looks until the table shows the share or the time is over. */
static void follow(struct flagctl *ctl, struct set *s)
{
    uint64_t end = flagshm_mono_ns() + (uint64_t)s->wait_ms * 1000000u, now;
    char text[2600], reproach[2048];
    struct flagshm *client;

    flagctl_doubt(ctl, s->file.path, text);
    if (text[0] != '\0') {
        flagctl_note(ctl, s->result, "the file is as you want it, but %s", text);
        return;
    }
    if (s->edit.is_planned && s->edit.is_enabled && follow_plan(ctl, s))
        return;
    (void)flagctl_client(ctl, &client);
    for (;;) {
        struct flagshm_snapshot snapshot;
        const struct flagshm_snapshot_flag *flag;
        uint64_t version;
        const char *why;
        bool is_over = true;

        if (flagshm_snapshot_take(&snapshot, client, NULL) != 0)
            break;
        flag = flagshm_snapshot_find(&snapshot, s->flag);
        version = snapshot.version;
        if (!is_decided_by_file(s, &snapshot, flag, &why))
            tell_otherwise(ctl, s, &snapshot, flag, why);
        else if (flag != NULL && flag->rollout_mpct == s->mpct)
            tell_served(ctl, s, &snapshot);
        else
            is_over = false;
        flagshm_snapshot_free(&snapshot);
        if (is_over)
            return;
        now = flagshm_mono_ns();
        if (now >= end || flagshm_wait(client, version, (int)((end - now) / 1000000u) + 1) != 0)
            break;
    }
    if (ctl->is_json)
        (void)cJSON_AddBoolToObject(s->result, "served", false);
    if (s->wait_ms == 0)
        return;
    flagctl_reproach(ctl, reproach, sizeof reproach);
    flagctl_note(ctl, s->result,
                 "the file is as you want it, but the table does not show it after %.1f s%s%s",
                 s->wait_ms / 1000.0, reproach[0] != '\0' ? ": " : "", reproach);
}

/* ---- the edit ---- */

static void tell_edit(struct flagctl *ctl, const struct set *s)
{
    char before[24], after[24], again[2048], old[16], path[4096];
    const char *undo =
        flagctl_again(ctl, again, "set %s %s", s->flag, flagshm_mpct_to_text(s->edit.old_mpct, old));

    if (ctl->is_json) {
        (void)cJSON_AddStringToObject(s->result, "flag", s->flag);
        (void)cJSON_AddStringToObject(s->result, "file", s->file.path);
        flagctl_json_share(s->result, "old_pct", s->edit.old_mpct);
        flagctl_json_share(s->result, "new_pct", s->mpct);
        (void)cJSON_AddBoolToObject(s->result, "is_cap", s->edit.is_planned);
        (void)cJSON_AddBoolToObject(s->result, "changed", !s->edit.is_same && !s->is_dry);
        (void)cJSON_AddBoolToObject(s->result, "dry_run", s->is_dry);
        if (!s->edit.is_same && !s->is_dry)
            (void)cJSON_AddStringToObject(s->result, "undo", undo);
        return;
    }
    (void)flagctl_share(s->edit.old_mpct, before);
    (void)flagctl_share(s->mpct, after);
    (void)flagctl_clean(s->file.path, path, sizeof path);
    if (s->edit.is_same)
        (void)fprintf(ctl->out, "%s: already %s in %s\n", s->flag, after, path);
    else
        (void)fprintf(ctl->out, "%s: %s -> %s in %s%s\n", s->flag, before, after, path,
                      s->is_dry ? " (dry run: nothing is written)" : "");
    if (!s->edit.is_same && !s->is_dry)
        (void)fprintf(ctl->out, "undo: %s\n", undo);
    (void)fflush(ctl->out); /* the edit is done: what follows is only watched */
}

/* What the reader of flag files warns of in this flag. */
static void tell_warnings(const struct flagctl *ctl, const struct set *s)
{
    char prefix[80];
    size_t length = (size_t)snprintf(prefix, sizeof prefix, "/flags/%s", s->flag), i;

    for (i = 0; i < s->edit.diags.count; i++) {
        const struct flagshm_diag *diag = &s->edit.diags.items[i];

        if (diag->severity == FLAGSHM_DIAG_WARNING && diag->pointer != NULL && diag->message != NULL &&
            strncmp(diag->pointer, prefix, length) == 0 &&
            (diag->pointer[length] == '\0' || diag->pointer[length] == '/'))
            flagctl_note(ctl, s->result, "%s", diag->message);
    }
}

static uint32_t served_now(struct flagctl *ctl, const char *flag)
{
    const struct flagshm_snapshot_flag *found;
    struct flagshm_snapshot snapshot;
    struct flagshm *client;
    uint32_t mpct;

    if (flagctl_client(ctl, &client) != 0 || flagshm_snapshot_take(&snapshot, client, NULL) != 0)
        return 0;
    found = flagshm_snapshot_find(&snapshot, flag);
    mpct = found != NULL ? found->rollout_mpct : 0;
    flagshm_snapshot_free(&snapshot);
    return mpct;
}

static int change(struct flagctl *ctl, struct set *s, const char *path)
{
    struct flagshm_error error = {""};
    int code = flagshm_edit_open(&s->file, path, &error);

    if (code == 0) {
        code = flagshm_edit_share(&s->edit, s->file.text, s->file.bytes, s->flag, s->mpct, &error);
        if (code == -ENOENT)
            return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "%s: %s", s->file.path, error.text);
    }
    if (code == 0 && s->edit.is_planned)
        s->before_mpct = served_now(ctl, s->flag);
    if (code == 0 && !s->edit.is_same && !s->is_dry)
        code = flagshm_edit_replace(&s->file, s->edit.text, s->edit.bytes, &error);
    if (code != 0)
        return flagctl_edit_fail(ctl, s->file.path[0] != '\0' ? s->file.path : path, code, &error);
    flagshm_edit_release(&s->file);
    tell_edit(ctl, s);
    tell_warnings(ctl, s);
    if (s->file.note.text[0] != '\0')
        flagctl_note(ctl, s->result, "%s", s->file.note.text);
    return FLAGCTL_OK;
}

static int set_run(struct flagctl *ctl, int argc, char **argv)
{
    struct set s = {
        .flag = argv[0], .is_dry = flagctl_option(ctl, "dry-run") != NULL, .file = {.dir_fd = -1}};
    const char *path;
    int code;

    (void)argc;
    if (!flagshm_mpct_from_text(argv[1], strlen(argv[1]), &s.mpct))
        return flagctl_fail(
            ctl, FLAGCTL_USAGE,
            "PCT is a number from 0 to 100 with at most three decimals and nothing else (25, 0.5), "
            "got \"%.100s\"",
            argv[1]);
    if ((s.wait_ms = flagctl_wait_ms(ctl)) < 0)
        return FLAGCTL_USAGE;
    path = flagctl_file(ctl);
    if (path == NULL)
        return FLAGCTL_UNREACHABLE;
    s.result = cJSON_CreateObject();
    code = change(ctl, &s, path);
    if (code == FLAGCTL_OK && !s.is_dry)
        follow(ctl, &s);
    flagshm_edit_free(&s.edit);
    flagshm_edit_close(&s.file);
    if (code == FLAGCTL_OK && ctl->is_json)
        return flagctl_result(ctl, s.result);
    cJSON_Delete(s.result);
    return code;
}

static const struct flagctl_option set_options[] = {
    {"dry-run", 'n', NULL, FLAGCTL_NOTHING, "say what would be done, and do nothing"},
    FLAGCTL_WAIT_OPTION,
    {0},
};

const struct flagctl_command flagctl_set_command = {
    .name = "set",
    .group = "Change the file",
    .arguments = "FLAG PCT",
    .argument_kinds = {FLAGCTL_FLAG, FLAGCTL_NUMBER},
    .summary = "give a flag another share, in the flag file",
    .help =
        "Replaces the number behind the flag's \"rollout_pct\" in the flag file, and nothing else in it; "
        "where there\n"
        "is none it is put behind the flag's last member. Beside a \"rollout\" plan that number is a cap.\n"
        "Links are followed; owner, mode and attributes stay; the new text is checked as the server would "
        "before\n"
        "it takes the file's place at one step. A file that is made by something else (a ConfigMap, a store, "
        "a\n"
        "read-only file) is refused, and what to edit instead is named.\n\n"
        "Then it waits until the table shows the share, and says how long that took. Where it does not, the "
        "edit is\n"
        "done all the same: a warning, exit code 0.\n\n"
        "Exit codes: 4 no such flag in the file, 6 the flag is broken there or the edit would break "
        "something, 7\n"
        "somebody else changed the file meanwhile (nothing was written), 1 the file cannot be changed.\n\n"
        "JSON: {\"flag\", \"file\", \"old_pct\", \"new_pct\", \"is_cap\", \"changed\", \"dry_run\", "
        "\"warnings\": [],\n"
        "  \"undo\", \"served\", \"version\", \"latency_ms\", \"served_pct\", \"why\", \"state\", \"step\", "
        "\"steps\"}; from undo on\n  where they apply",
    .options = set_options,
    .min_arguments = 2,
    .max_arguments = 2,
    .run = set_run,
};
