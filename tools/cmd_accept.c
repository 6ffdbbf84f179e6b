/* accept: lets the deletions happen that the server holds back, because they would drop more than half of the flags. */
#include "tools/change.h"

#include <string.h>

static const char *string_at(const cJSON *list, int at)
{
    const char *text = cJSON_GetStringValue(cJSON_GetArrayItem(list, at));

    return text != NULL ? text : "?";
}

static int accept_run(struct flagctl *ctl, int argc, char **argv)
{
    bool is_dry = flagctl_option(ctl, "dry-run") != NULL;
    cJSON *status = NULL, *answer = NULL, *result;
    const cJSON *held, *version = NULL;
    int code, count, i;

    (void)argc;
    (void)argv;
    code = flagctl_ask(ctl, "status", NULL, false, &status);
    if (code != FLAGCTL_OK)
        return code;
    held = cJSON_GetObjectItemCaseSensitive(status, "deletions_held");
    count = cJSON_GetArraySize(held);
    if (!is_dry)
        code = flagctl_ask(ctl, "accept", NULL, false, &answer);
    if (code == FLAGCTL_OK && ctl->is_json) {
        result = cJSON_CreateObject();
        (void)cJSON_AddItemToObject(result, is_dry ? "held" : "deleted",
                                    held != NULL ? cJSON_Duplicate(held, true) : cJSON_CreateArray());
        version = cJSON_GetObjectItemCaseSensitive(is_dry ? status : answer, "version");
        if (cJSON_IsNumber(version))
            flagctl_json_u64(result, "version", (uint64_t)version->valuedouble);
        code = flagctl_json(ctl, result);
    } else if (code == FLAGCTL_OK) {
        if (count == 0)
            (void)fprintf(ctl->out, "no deletions are held\n");
        for (i = 0; i < count; i++)
            (void)fprintf(ctl->out, "%s: %s\n", string_at(held, i), is_dry ? "would be deleted" : "deleted");
    }
    cJSON_Delete(status);
    cJSON_Delete(answer);
    return code;
}

static const struct flagctl_option accept_options[] = {
    {"dry-run", 'n', NULL, FLAGCTL_NOTHING, "say which flags are held, and do nothing"},
    {0},
};

const struct flagctl_command flagctl_accept_command = {
    .name = "accept",
    .group = "Ask the server",
    .arguments = "",
    .summary = "let the deletions happen that the server holds back",
    .help = "A flag file that would drop more than half of the flags, and at least 4, is mostly a mistake: "
            "the server keeps\n"
            "serving the missing flags, applies all else, and waits for this word.\n"
            "Undo: put the flags back into the file, or flagctl restore FILE_REV.\n\n"
            "JSON: {\"deleted\": [names], \"version\"}; with --dry-run {\"held\": [names], \"version\"}",
    .options = accept_options,
    .run = accept_run,
};
