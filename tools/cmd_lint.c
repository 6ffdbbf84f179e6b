/* lint: everything that is wrong with a flag file, before a server sees it. */
#include "server/flagfile.h"
#include "tools/flagctl.h"
#include "tools/text.h"

#include <stdlib.h>
#include <string.h>

struct lint_total {
    size_t files, flags, errors, warnings, unreadable;
};

/* Of one file, parsed: its part of the answer. */
static void file_report(struct flagctl *ctl, const char *name, const char *text, size_t length,
                        const struct flagshm_diags *diags, size_t flags, cJSON *files)
{
    cJSON *file;
    char *list;

    if (!ctl->is_json) {
        flagshm_diags_print(diags, name, text, length, ctl->is_colour, ctl->out);
        return;
    }
    file = cJSON_CreateObject();
    list = flagshm_diags_json(diags, name, text, length);
    (void)cJSON_AddStringToObject(file, "file", name);
    (void)cJSON_AddNumberToObject(file, "flags", (double)flags);
    (void)cJSON_AddNumberToObject(file, "errors", (double)diags->errors);
    (void)cJSON_AddNumberToObject(file, "warnings", (double)diags->warnings);
    (void)cJSON_AddRawToObject(file, "diagnostics", list != NULL ? list : "[]");
    free(list);
    (void)cJSON_AddItemToArray(files, file);
}

static void file_lint(struct flagctl *ctl, const char *path, struct lint_total *total, cJSON *files)
{
    char name[4096];
    struct flagshm_diags diags = {0};
    struct flagshm_flagfile file;
    size_t length = 0;
    struct flagshm_error error;
    char *text = flagctl_text_read(path, &length, &error);
    int code;

    (void)flagctl_clean(strcmp(path, "-") == 0 ? "<stdin>" : path, name, sizeof name);
    if (text == NULL) {
        (void)flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text);
        total->unreadable++;
        return;
    }
    code = flagshm_flagfile_parse(&file, text, length, NULL, &diags);
    if (code != 0 && diags.errors == 0) {
        (void)flagctl_fail(ctl, FLAGCTL_FAILED, "cannot check %s: %s", name, strerror(-code));
        total->unreadable++;
    } else {
        file_report(ctl, name, text, length, &diags, file.count, files);
    }
    total->files++;
    total->flags += file.count;
    total->errors += diags.errors;
    total->warnings += diags.warnings;
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    free(text);
}

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static int lint_run(struct flagctl *ctl, int argc, char **argv)
{
    struct lint_total total = {0};
    cJSON *files = ctl->is_json ? cJSON_CreateArray() : NULL;
    char errors[32];
    int i;

    if (argc == 0) {
        const char *path = flagctl_file(ctl);
        if (path == NULL)
            return FLAGCTL_UNREACHABLE;
        file_lint(ctl, path, &total, files);
    }
    for (i = 0; i < argc; i++)
        file_lint(ctl, argv[i], &total, files);
    if (ctl->is_json) {
        cJSON *json = cJSON_CreateObject();
        int code;
        (void)cJSON_AddItemToObject(json, "files", files);
        code = flagctl_json(ctl, json);
        if (code != FLAGCTL_OK)
            return code;
    } else if (total.files > 0) {
        (void)snprintf(errors, sizeof errors, "%zu", total.errors);
        (void)fprintf(ctl->out, "%zu flag%s, %s error%s", total.flags, plural(total.flags),
                      total.errors != 0 ? errors : "no", total.errors == 1 ? "" : "s");
        if (total.warnings != 0)
            (void)fprintf(ctl->out, ", %zu warning%s", total.warnings, plural(total.warnings));
        (void)fputc('\n', ctl->out);
    }
    if (total.errors != 0)
        return FLAGCTL_FILE_ERRORS;
    return total.unreadable != 0 ? FLAGCTL_FAILED : FLAGCTL_OK;
}

const struct flagctl_command flagctl_lint_command = {
    .name = "lint",
    .group = "Look",
    .arguments = "[FILE...]",
    .argument_kinds = {FLAGCTL_PATH},
    .summary = "check flag files: every fault with its place",
    .help =
        "Checks each FILE (- is standard input; without one: the file that the server reads) as the server "
        "would, and prints\n"
        "all that is wrong with it. Nothing is changed, and no server is needed.\n\n"
        "Exit codes: 0 no errors (warnings alone do not count), 6 errors, 1 a file cannot be read.\n\n"
        "JSON: {\"files\": [{\"file\", \"flags\", \"errors\", \"warnings\",\n"
        "  \"diagnostics\": [{\"file\", \"line\", \"column\", \"severity\", \"pointer\", \"message\"}]}]}",
    .max_arguments = -1,
    .run = lint_run,
};
