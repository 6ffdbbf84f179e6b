/* finish: what everyone has by now becomes the control, and the plan goes. Refused where that would move anybody. */
#include "tools/change.h"
#include "tools/revision.h"
#include "tools/rollout_ask.h"

#include <errno.h>
#include <string.h>

struct finish { /* one run */
    const char *flag;
    bool is_dry;
    int wait_ms;
    uint64_t before_rev; /* what the server had accepted last; 0: not known */
    struct flagshm_edit_file file;
    struct flagshm_edit edit;
    cJSON *result;
};

/* ---- does everyone have the variant? ---- */

static int refuse_partial(struct flagctl *ctl, const struct finish *f, const cJSON *rollout,
                          uint32_t served_mpct)
{
    char share[24], place[80], again[2048];

    (void)flagctl_share(served_mpct, share);
    if (!f->edit.is_planned)
        return flagctl_fail(ctl, FLAGCTL_FAILED,
                            "%s: not everyone has the variant yet: it serves %s\n"
                            "give it to everyone first: %s",
                            f->flag, share, flagctl_again(ctl, again, "set %s 100", f->flag));
    return flagctl_fail(ctl, FLAGCTL_FAILED,
                        "%s: not everyone has the variant yet: it serves %s%s%s%s\n"
                        "wait until it is through (flagctl status %s --wait), or go on by hand: %s",
                        f->flag, share, rollout != NULL ? " (" : "",
                        rollout != NULL ? flagctl_rollout_place(rollout, place) : "",
                        rollout != NULL ? ")" : "", f->flag,
                        flagctl_again(ctl, again, "advance %s --to 100 --reason TEXT", f->flag));
}

/* At less than 100 % it is finished only where the plan says so: it holds some users back for good. */
static int judge_share(struct flagctl *ctl, struct finish *f, uint32_t served_mpct)
{
    cJSON *answer;
    const cJSON *rollout = flagctl_rollout_peek(ctl, f->flag, &answer);
    const char *state = flagctl_text_at(rollout, "state");
    bool is_full = strcmp(state, "full") == 0, is_complete = strcmp(state, "complete") == 0;
    char rest[24];
    int code = FLAGCTL_OK;

    if (served_mpct < 100000 &&
        ((!is_full && !is_complete) || flagctl_rollout_mpct(rollout, "cap_pct") < 100000 ||
         flagctl_is_at(rollout, "probing") || flagctl_is_at(rollout, "drilling")))
        code = refuse_partial(ctl, f, rollout, served_mpct);
    else if (served_mpct < 100000)
        flagctl_note(ctl, f->result, "the plan holds %s of the users back: they get the variant now",
                     flagctl_share(100000 - served_mpct, rest));
    else if (is_full)
        flagctl_note(ctl, f->result, "it was still being watched: that ends with its plan");
    cJSON_Delete(answer);
    return code;
}

static int judge_served(struct flagctl *ctl, struct finish *f, const struct flagshm_snapshot *snapshot)
{
    const struct flagshm_snapshot_flag *flag = flagshm_snapshot_find(snapshot, f->flag);
    char again[2048];

    if (flag == NULL) {
        flagctl_note(ctl, f->result,
                     "the table has no flag %s, so whether everyone has its variant is not checked", f->flag);
        return FLAGCTL_OK;
    }
    if (snapshot->is_all_control || (flag->switches & FLAGSHM_SWITCH_KILLED) != 0)
        return flagctl_fail(
            ctl, FLAGCTL_FAILED,
            "%s: it is killed, so everyone has control: there is nothing to finish\n"
            "to end that: %s",
            f->flag, flagctl_again(ctl, again, "unkill %s", snapshot->is_all_control ? "--all" : f->flag));
    if (flag->arm_count == 2 && flag->arms[1].fingerprint != f->edit.variant_fingerprint)
        return flagctl_fail(
            ctl, FLAGCTL_CONFLICT,
            "%s: the variant in the file is not the one that users have\n"
            "put that one back first, finish, and then write the new one: flagctl history %s, "
            "flagctl restore FILE_REV",
            f->flag, f->flag);
    return judge_share(ctl, f, flag->rollout_mpct);
}

static int judge(struct flagctl *ctl, struct finish *f)
{
    struct flagshm_snapshot snapshot;
    struct flagshm *client;
    int code = flagctl_client(ctl, &client);

    if (code == 0)
        code = flagshm_snapshot_take(&snapshot, client, NULL);
    if (code != 0) {
        flagctl_note(ctl, f->result,
                     "there is no table of instance %s, so whether everyone has the variant is not checked",
                     ctl->instance.name);
        return FLAGCTL_OK;
    }
    code = judge_served(ctl, f, &snapshot);
    flagshm_snapshot_free(&snapshot);
    return code;
}

/* ---- the edit ---- */

static void tell_json(struct flagctl *ctl, const struct finish *f)
{
    const char *text = f->edit.text != NULL ? f->edit.text : f->file.text;
    cJSON *list = flagctl_differences_json(f->file.text, text);
    char again[2048];

    (void)cJSON_AddStringToObject(f->result, "flag", f->flag);
    (void)cJSON_AddStringToObject(f->result, "file", f->file.path);
    (void)cJSON_AddBoolToObject(f->result, "already", f->edit.is_same);
    (void)cJSON_AddBoolToObject(f->result, "changed", !f->edit.is_same && !f->is_dry);
    (void)cJSON_AddBoolToObject(f->result, "dry_run", f->is_dry);
    if (list != NULL)
        (void)cJSON_AddItemToObject(f->result, "changes", list);
    if (f->before_rev != 0 && !f->edit.is_same && !f->is_dry)
        (void)cJSON_AddStringToObject(
            f->result, "undo", flagctl_again(ctl, again, "restore %llu", (unsigned long long)f->before_rev));
}

static void tell(struct flagctl *ctl, const struct finish *f)
{
    char again[2048], path[4096];

    if (ctl->is_json) {
        tell_json(ctl, f);
        return;
    }
    (void)flagctl_clean(f->file.path, path, sizeof path);
    if (f->edit.is_same) {
        (void)fprintf(ctl->out, "%s: finished already in %s\n", f->flag, path);
        return;
    }
    (void)flagctl_differences_print(ctl, f->file.text, f->edit.text);
    (void)fprintf(ctl->out, "%s: %s in %s%s\n", f->flag,
                  f->edit.is_planned ? "control is now the variant, and the plan is gone"
                                     : "control is now the variant, and the share is 0 %",
                  path, f->is_dry ? " (dry run: nothing is written)" : "");
    if (f->before_rev != 0 && !f->is_dry)
        (void)fprintf(ctl->out, "undo: %s # %s\n",
                      flagctl_again(ctl, again, "restore %llu", (unsigned long long)f->before_rev),
                      f->edit.is_planned ? "everyone gets the old control, and the plan begins anew"
                                         : "as it was before");
    (void)fflush(ctl->out);
}

static int change(struct flagctl *ctl, struct finish *f, const char *path)
{
    struct flagshm_error error = {""};
    int code = flagshm_edit_open(&f->file, path, &error);

    if (code == 0) {
        code = flagshm_edit_finish(&f->edit, f->file.text, f->file.bytes, f->flag, &error);
        if (code == -ENOENT)
            return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "%s: %s", f->file.path, error.text);
    }
    if (code == 0 && !f->edit.is_same) {
        int judged = judge(ctl, f);

        if (judged != FLAGCTL_OK)
            return judged;
    }
    if (code == 0 && !f->edit.is_same && !f->is_dry)
        code = flagshm_edit_replace(&f->file, f->edit.text, f->edit.bytes, &error);
    if (code != 0)
        return flagctl_edit_fail(ctl, f->file.path[0] != '\0' ? f->file.path : path, code, &error);
    flagshm_edit_release(&f->file);
    tell(ctl, f);
    if (f->edit.forced_control > 0 && !f->edit.is_same)
        flagctl_note(ctl, f->result, "%u ids that are forced to control get the same value as everyone now",
                     (unsigned)f->edit.forced_control);
    if (f->file.note.text[0] != '\0')
        flagctl_note(ctl, f->result, "%s", f->file.note.text);
    return FLAGCTL_OK;
}

static int finish_run(struct flagctl *ctl, int argc, char **argv)
{
    struct finish f = {
        .flag = argv[0], .is_dry = flagctl_option(ctl, "dry-run") != NULL, .file = {.dir_fd = -1}};
    char doubt[2600];
    const char *path;
    int code;

    (void)argc;
    if ((f.wait_ms = flagctl_wait_ms(ctl)) < 0)
        return FLAGCTL_USAGE;
    if ((code = flagctl_flag_name(ctl, f.flag)) != FLAGCTL_OK)
        return code;
    path = flagctl_file(ctl);
    if (path == NULL)
        return FLAGCTL_UNREACHABLE;
    f.result = cJSON_CreateObject();
    flagctl_doubt(ctl, path, doubt);
    if (doubt[0] == '\0')
        f.before_rev = flagctl_accepted_rev(ctl);
    code = change(ctl, &f, path);
    if (code == FLAGCTL_OK && !f.is_dry && !f.edit.is_same) {
        if (doubt[0] != '\0')
            flagctl_note(ctl, f.result, "the file is as you want it, but %s", doubt);
        flagctl_follow_rev(ctl, f.result, f.before_rev, f.wait_ms);
    }
    flagshm_edit_free(&f.edit);
    flagshm_edit_close(&f.file);
    if (code == FLAGCTL_OK && ctl->is_json)
        return flagctl_result(ctl, f.result);
    cJSON_Delete(f.result);
    return code;
}

static const struct flagctl_option finish_options[] = {
    {"dry-run", 'n', NULL, FLAGCTL_NOTHING, "say what would be done, and do nothing"},
    FLAGCTL_WAIT_OPTION,
    {0},
};

const struct flagctl_command flagctl_finish_command = {
    .name = "finish",
    .group = "Change the file",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "end a roll-out that everyone has: the variant becomes the control",
    .help =
        "In the flag file \"control\" gets the value of the variant, as it stands there; \"rollout\" goes; a "
        "\"rollout_pct\"\n"
        "becomes 0. Everyone keeps the value that they have, and the flag is ready for the next variant: "
        "write "
        "it, with a plan.\n"
        "Guardrails, owner and the rest stay. It is refused while not everyone has the variant. The file is "
        "edited with the care\n"
        "of flagctl set.\n\n"
        "Exit codes: 4 no such flag in the file, 6 the flag is broken there, 7 somebody else changed the "
        "file "
        "meanwhile, or its\n"
        "variant is not the one that users have (nothing was written), 1 not everyone has it, or the file "
        "cannot be changed.\n\n"
        "JSON: {\"flag\", \"file\", \"already\", \"changed\", \"dry_run\", \"changes\": [as flagctl diff], "
        "\"undo\", \"new_file_rev\",\n"
        "  \"warnings\": []}",
    .options = finish_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = finish_run,
};
