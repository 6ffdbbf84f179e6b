/* diff: what changed between two revisions of the flag file, value by value. */
#include "tools/change.h"
#include "tools/revision.h"

#include <stdlib.h>

/* The file as it stands now. */
static char *present_text(struct flagctl *ctl, int *code)
{
    struct flagshm_error error = {""};
    const char *path = flagctl_file(ctl);
    char *text;

    *code = FLAGCTL_UNREACHABLE;
    if (path == NULL)
        return NULL;
    text = flagshm_edit_read(path, NULL, &error);
    if (text == NULL)
        *code = flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text);
    return text;
}

static int show(struct flagctl *ctl, const char *old, const char *new_)
{
    int count;

    if (ctl->is_json) {
        cJSON *list = flagctl_differences_json(old, new_);

        return list != NULL
                   ? flagctl_json(ctl, list)
                   : flagctl_fail(ctl, FLAGCTL_FILE_ERRORS, "one of the two is no sound JSON: flagctl lint");
    }
    count = flagctl_differences_print(ctl, old, new_);
    if (count < 0)
        return flagctl_fail(ctl, FLAGCTL_FILE_ERRORS, "one of the two is no sound JSON: flagctl lint");
    if (count == 0)
        (void)fprintf(ctl->out, "no difference\n");
    return FLAGCTL_OK;
}

static int diff_run(struct flagctl *ctl, int argc, char **argv)
{
    uint64_t revisions[2] = {0, 0};
    char *old, *new_ = NULL;
    int code = FLAGCTL_OK, i;

    for (i = 0; i < argc; i++)
        if ((revisions[i] = flagctl_revision(ctl, argv[i])) == 0)
            return FLAGCTL_USAGE;
    old = flagctl_revision_text(ctl, revisions[0], &code);
    if (old != NULL)
        new_ = argc > 1 ? flagctl_revision_text(ctl, revisions[1], &code) : present_text(ctl, &code);
    if (new_ != NULL)
        code = show(ctl, old, new_);
    free(old);
    free(new_);
    return code;
}

const struct flagctl_command flagctl_diff_command = {
    .name = "diff",
    .group = "Look",
    .arguments = "FILE_REV [FILE_REV]",
    .argument_kinds = {FLAGCTL_NUMBER},
    .summary = "what changed between two revisions of the flag file",
    .help = "Numbers of revisions stand in flagctl history. With one of them: against the file as it stands "
            "now. Order of keys\n"
            "and white space are no difference.\n\n"
            "JSON: [{\"flag\", \"path\", \"old\", \"new\"}], values as they stand in the file; null where "
            "absent; flag null: outside\n"
            "of the flags; path \"\": a whole flag",
    .min_arguments = 1,
    .max_arguments = 2,
    .run = diff_run,
};
