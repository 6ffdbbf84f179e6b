/* init: writes a new flag into the flag file: two models, a plan, the guardrails. */
#include "server/flagfile.h"
#include "tools/change.h"
#include "tools/revision.h"
#include "tools/rollout_ask.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static const char empty_file[] = "{\n    \"flags\": {}\n}\n";

struct init { /* one run */
    struct flagshm_edit_flag flag;
    bool is_dry, is_new_file;
    int wait_ms;
    uint64_t before_rev; /* what the server had accepted last; 0: not known */
    char today[16];
    struct flagshm_edit_file file;
    struct flagshm_edit edit;
    cJSON *result;
};

/* ---- the line ---- */

static int read_line(struct flagctl *ctl, struct init *in, const char *name)
{
    const char *shadow = flagctl_option(ctl, "shadow"), *plan = flagctl_option(ctl, "plan");
    time_t now = time(NULL);
    struct tm utc;

    in->flag = (struct flagshm_edit_flag){.name = name,
                                          .control = flagctl_option(ctl, "from-model"),
                                          .variant = flagctl_option(ctl, "to-model"),
                                          .plan = plan != NULL ? plan : "b2b",
                                          .owner = flagctl_option(ctl, "owner"),
                                          .expires = flagctl_option(ctl, "expires"),
                                          .created = in->today};
    (void)strftime(in->today, sizeof in->today, "%Y-%m-%d", gmtime_r(&now, &utc));
    if (!flagshm_is_flag_name(name, strlen(name)))
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "NAME is 1 to 64 letters, digits, \"_\", \".\" and \"-\", the first a letter or "
                            "digit, got \"%.100s\"",
                            name);
    if (in->flag.control == NULL || in->flag.variant == NULL)
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "init needs the model that everyone has, and the one to roll out: --from-model A "
                            "--to-model B");
    if (in->flag.control[0] == '\0' || in->flag.variant[0] == '\0' ||
        strcmp(in->flag.control, in->flag.variant) == 0)
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "--from-model and --to-model are two models, got \"%.100s\" and "
                            "\"%.100s\"",
                            in->flag.control, in->flag.variant);
    if (strcmp(in->flag.plan, "b2b") != 0 && strcmp(in->flag.plan, "b2c") != 0)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--plan is b2b or b2c, got \"%.100s\"", in->flag.plan);
    if (shadow != NULL &&
        (!flagshm_mpct_from_text(shadow, strlen(shadow), &in->flag.shadow_mpct) || in->flag.shadow_mpct == 0))
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "--shadow is a share above 0 and up to 100 with at most three decimals, got "
                            "\"%.100s\"",
                            shadow);
    in->wait_ms = flagctl_wait_ms(ctl);
    return in->wait_ms < 0 ? FLAGCTL_USAGE : FLAGCTL_OK;
}

/* ---- the edit ---- */

static void tell(struct flagctl *ctl, const struct init *in, const char *before)
{
    char again[2048], path[4096];
    cJSON *list;

    if (ctl->is_json) {
        (void)cJSON_AddStringToObject(in->result, "flag", in->flag.name);
        (void)cJSON_AddStringToObject(in->result, "file", in->file.path);
        (void)cJSON_AddBoolToObject(in->result, "new_file", in->is_new_file);
        (void)cJSON_AddBoolToObject(in->result, "changed", !in->is_dry);
        (void)cJSON_AddBoolToObject(in->result, "dry_run", in->is_dry);
        if ((list = flagctl_differences_json(before, in->edit.text)) != NULL)
            (void)cJSON_AddItemToObject(in->result, "changes", list);
        if (in->before_rev != 0 && !in->is_dry)
            (void)cJSON_AddStringToObject(
                in->result, "undo",
                flagctl_again(ctl, again, "restore %llu", (unsigned long long)in->before_rev));
        return;
    }
    (void)flagctl_differences_print(ctl, before, in->edit.text);
    (void)fprintf(ctl->out, "%s: written into %s%s%s\n", in->flag.name,
                  in->is_new_file ? "the new file " : "", flagctl_clean(in->file.path, path, sizeof path),
                  in->is_dry ? " (dry run: nothing is written)" : "");
    if (in->is_dry)
        return;
    (void)fprintf(ctl->out, "once a server has it, it begins by itself; what will happen when: %s\n",
                  flagctl_again(ctl, again, "plan %s", in->flag.name));
    if (in->before_rev != 0)
        (void)fprintf(ctl->out, "undo: %s\n",
                      flagctl_again(ctl, again, "restore %llu", (unsigned long long)in->before_rev));
    (void)fflush(ctl->out);
}

static int edit_fail(struct flagctl *ctl, const struct init *in, int code, const struct flagshm_error *error)
{
    const char *path = in->file.path[0] != '\0' ? in->file.path : in->file.given;

    if (code == -EEXIST)
        return flagctl_fail(ctl, FLAGCTL_CONFLICT, "%s: %s\nnothing was written", path, error->text);
    if (code == -EDOM)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "%s", error->text);
    return flagctl_edit_fail(ctl, path, code, error);
}

/* Into a file that is there, or with --file into a new one. */
static int change(struct flagctl *ctl, struct init *in, const char *path)
{
    struct flagshm_error error = {""};
    const char *before;
    int code = flagshm_edit_open(&in->file, path, &error);

    in->is_new_file = code == -ENOENT && ctl->file != NULL;
    before = in->is_new_file ? empty_file : in->file.text;
    if (code == 0 || in->is_new_file)
        code = flagshm_edit_add(&in->edit, before, strlen(before), &in->flag, &error);
    if (code == 0 && in->is_new_file && !in->is_dry) {
        flagshm_edit_close(&in->file);
        code = flagshm_edit_create(&in->file, path, in->edit.text, in->edit.bytes, &error);
    } else if (code == 0 && !in->is_dry) {
        code = flagshm_edit_replace(&in->file, in->edit.text, in->edit.bytes, &error);
    }
    if (code != 0)
        return edit_fail(ctl, in, code, &error);
    if (in->file.path[0] == '\0')
        (void)snprintf(in->file.path, sizeof in->file.path, "%s", path);
    flagshm_edit_release(&in->file);
    tell(ctl, in, before);
    if (in->file.note.text[0] != '\0')
        flagctl_note(ctl, in->result, "%s", in->file.note.text);
    return FLAGCTL_OK;
}

static int init_run(struct flagctl *ctl, int argc, char **argv)
{
    struct init in = {.is_dry = flagctl_option(ctl, "dry-run") != NULL, .file = {.dir_fd = -1}};
    char doubt[2600];
    const char *path;
    int code = read_line(ctl, &in, argv[0]);

    (void)argc;
    if (code != FLAGCTL_OK)
        return code;
    path = flagctl_file(ctl);
    if (path == NULL)
        return FLAGCTL_UNREACHABLE;
    in.result = cJSON_CreateObject();
    flagctl_doubt(ctl, path, doubt);
    if (doubt[0] == '\0')
        in.before_rev = flagctl_accepted_rev(ctl);
    code = change(ctl, &in, path);
    if (code == FLAGCTL_OK && !in.is_dry) {
        if (doubt[0] != '\0' && ctl->file == NULL)
            flagctl_note(ctl, in.result, "the file is as you want it, but %s", doubt);
        flagctl_follow_rev(ctl, in.result, in.before_rev, in.wait_ms);
    }
    flagshm_edit_free(&in.edit);
    flagshm_edit_close(&in.file);
    if (code == FLAGCTL_OK && ctl->is_json)
        return flagctl_result(ctl, in.result);
    cJSON_Delete(in.result);
    return code;
}

static const struct flagctl_option init_options[] = {
    {"from-model", 0, "MODEL", FLAGCTL_WORD, "what everyone has: the control; needed"},
    {"to-model", 0, "MODEL", FLAGCTL_WORD, "what is rolled out: the variant; needed"},
    {"plan", 0, "PLAN", FLAGCTL_WORD, "b2b (each step holds 24 h) or b2c (2 h); b2b"},
    {"shadow", 0, "PCT", FLAGCTL_NUMBER, "begin with shadow calls for this share of users"},
    {"owner", 0, "OWNER", FLAGCTL_WORD, "who answers for it"},
    {"expires", 0, "DATE", FLAGCTL_WORD, "until when it should be through: 2027-01-31"},
    {"dry-run", 'n', NULL, FLAGCTL_NOTHING, "say what would be done, and do nothing"},
    FLAGCTL_WAIT_OPTION,
    {0},
};

const struct flagctl_command flagctl_init_command = {
    .name = "init",
    .group = "Change the file",
    .arguments = "NAME",
    .argument_kinds = {FLAGCTL_WORD},
    .summary = "write a new flag into the flag file: two models, a plan, the guardrails",
    .help =
        "The flag is put behind the last one, laid out like that, with the care of flagctl set. Its plan "
        "walks over 1, 5, 10, 25,\n"
        "50 and 75 to 100 %, watched by the default guardrails; it begins by itself once the server has it. "
        "A file that is not\n"
        "there is made where --file names it.\n\n"
        "Exit codes: 2 what it is to be is no sound flag, 6 the file is broken, 7 there is such a flag "
        "already, or somebody else\n"
        "changed the file meanwhile (nothing was written), 1 the file cannot be changed.\n\n"
        "JSON: {\"flag\", \"file\", \"new_file\", \"changed\", \"dry_run\", \"changes\": [as flagctl diff], "
        "\"undo\", \"new_file_rev\",\n"
        "  \"warnings\": []}",
    .options = init_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = init_run,
};
