/* restore: puts an earlier revision of the flag file back, as an edit like any other. */
#include "tools/change.h"
#include "tools/revision.h"

#include <stdlib.h>
#include <string.h>

struct restore { /* one run */
    uint64_t file_rev;
    uint64_t before_rev; /* what the server had accepted last; 0: not known */
    bool is_dry;
    int wait_ms;
    cJSON *result;
};

static void tell(struct flagctl *ctl, struct restore *r, const struct flagshm_edit_file *file,
                 const char *text, bool is_same)
{
    char again[2048], path[4096];
    cJSON *list;

    if (ctl->is_json) {
        (void)cJSON_AddStringToObject(r->result, "file", file->path);
        flagctl_json_u64(r->result, "file_rev", r->file_rev);
        (void)cJSON_AddBoolToObject(r->result, "changed", !is_same && !r->is_dry);
        (void)cJSON_AddBoolToObject(r->result, "dry_run", r->is_dry);
        list = flagctl_differences_json(file->text, text);
        if (list != NULL)
            (void)cJSON_AddItemToObject(r->result, "changes", list);
        if (r->before_rev != 0 && !is_same && !r->is_dry)
            (void)cJSON_AddStringToObject(
                r->result, "undo",
                flagctl_again(ctl, again, "restore %llu", (unsigned long long)r->before_rev));
        return;
    }
    (void)flagctl_clean(file->path, path, sizeof path);
    if (is_same) {
        (void)fprintf(ctl->out, "%s: already as in revision %llu\n", path, (unsigned long long)r->file_rev);
        return;
    }
    if (flagctl_differences_print(ctl, file->text, text) == 0)
        (void)fprintf(ctl->out, "only white space or the order of keys differs\n");
    (void)fprintf(ctl->out,
                  r->is_dry ? "%s: would be as in revision %llu (dry run: nothing is written)\n"
                            : "%s: now as in revision %llu\n",
                  path, (unsigned long long)r->file_rev);
    if (r->before_rev != 0 && !r->is_dry)
        (void)fprintf(ctl->out, "undo: %s\n",
                      flagctl_again(ctl, again, "restore %llu", (unsigned long long)r->before_rev));
    (void)fflush(ctl->out);
}

static int put_back(struct flagctl *ctl, struct restore *r, const char *path, const char *text)
{
    struct flagshm_edit_file file;
    struct flagshm_diags diags = {0};
    struct flagshm_error error = {""};
    size_t bytes = strlen(text);
    bool is_same = false;
    int code = flagshm_edit_open(&file, path, &error);

    if (code == 0) {
        is_same = file.bytes == bytes && memcmp(file.text, text, bytes) == 0;
        code = flagshm_edit_check(file.text, file.bytes, text, bytes, &diags, &error);
    }
    if (code == 0 && !is_same && !r->is_dry)
        code = flagshm_edit_replace(&file, text, bytes, &error);
    if (code != 0) {
        code = flagctl_edit_fail(ctl, file.path[0] != '\0' ? file.path : path, code, &error);
    } else {
        flagshm_edit_release(&file);
        tell(ctl, r, &file, text, is_same);
        if (file.note.text[0] != '\0')
            flagctl_note(ctl, r->result, "%s", file.note.text);
        if (!is_same && !r->is_dry)
            flagctl_follow_rev(ctl, r->result, r->before_rev, r->wait_ms);
    }
    flagshm_diags_free(&diags);
    flagshm_edit_close(&file);
    return code;
}

static int restore_run(struct flagctl *ctl, int argc, char **argv)
{
    struct restore r = {.file_rev = flagctl_revision(ctl, argv[0]),
                        .is_dry = flagctl_option(ctl, "dry-run") != NULL};
    const char *path;
    char *text;
    int code;

    (void)argc;
    if (r.file_rev == 0 || (r.wait_ms = flagctl_wait_ms(ctl)) < 0)
        return FLAGCTL_USAGE;
    text = flagctl_revision_text(ctl, r.file_rev, &code);
    if (text == NULL)
        return code;
    path = flagctl_file(ctl);
    if (path == NULL) {
        free(text);
        return FLAGCTL_UNREACHABLE;
    }
    r.before_rev = flagctl_accepted_rev(ctl);
    r.result = cJSON_CreateObject();
    code = put_back(ctl, &r, path, text);
    free(text);
    if (code == FLAGCTL_OK && ctl->is_json)
        return flagctl_result(ctl, r.result);
    cJSON_Delete(r.result);
    return code;
}

static const struct flagctl_option restore_options[] = {
    {"dry-run", 'n', NULL, FLAGCTL_NOTHING, "say what would be done, and do nothing"},
    FLAGCTL_WAIT_OPTION,
    {0},
};

const struct flagctl_command flagctl_restore_command = {
    .name = "restore",
    .group = "Change the file",
    .arguments = "FILE_REV",
    .argument_kinds = {FLAGCTL_NUMBER},
    .summary = "put an earlier revision of the flag file back",
    .help = "Writes the text of that revision (see flagctl history) into the flag file, with the care of "
            "flagctl set: refused where\n"
            "it would have faults that the file has not. It becomes a new revision; kills and roll-backs "
            "stay.\n\n"
            "Exit codes: 6 that text is not good enough now, 7 somebody else changed the file meanwhile "
            "(nothing was written), 5 no\n"
            "server (it keeps the revisions), 1 the file cannot be changed.\n\n"
            "JSON: {\"file\", \"file_rev\", \"changed\", \"dry_run\", \"changes\": [as flagctl diff], "
            "\"undo\", \"new_file_rev\",\n"
            "  \"warnings\": []}",
    .options = restore_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = restore_run,
};
