/* stale: flags that have done their work and still stand in the file. */
#include "tools/rollout_view.h"
#include "tools/text.h"

#include "server/flagfile.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct finding {
    char flag[80], why[24]; /* "expired", "complete", "full" */
    char since[48], text[200];
};

struct findings {
    struct finding *list;
    size_t count, room;
    bool is_out_of_memory;
};

static bool is_known(const struct findings *f, const char *flag)
{
    size_t i;

    for (i = 0; i < f->count; i++)
        if (strcmp(f->list[i].flag, flag) == 0)
            return true;
    return false;
}

static void add(struct findings *f, const char *flag, const char *why, const char *since, const char *text)
{
    struct finding *found;

    if (f->count == f->room) {
        size_t room = f->room != 0 ? f->room * 2 : 16;
        struct finding *list = realloc(f->list, room * sizeof *list);

        if (list == NULL) {
            f->is_out_of_memory = true;
            return;
        }
        f->list = list;
        f->room = room;
    }
    found = &f->list[f->count++];
    (void)snprintf(found->flag, sizeof found->flag, "%.79s", flag);
    (void)snprintf(found->why, sizeof found->why, "%s", why);
    (void)snprintf(found->since, sizeof found->since, "%.40s", since);
    (void)snprintf(found->text, sizeof found->text, "%s", text);
}

/* One finding a flag: the most telling. */
static void look_at_rollout(struct findings *f, const cJSON *rollout, time_t now)
{
    const char *flag = flagctl_text_at(rollout, "flag"), *expires = flagctl_text_at(rollout, "expires");
    char text[200];
    long days;

    (void)snprintf(text, sizeof text, "flagctl finish %.64s", flag);
    if (strcmp(flagctl_text_at(rollout, "state"), "complete") == 0)
        add(f, flag, "complete",
            flagctl_text_at(rollout, "full_since")[0] != '\0' ? flagctl_text_at(rollout, "full_since")
                                                              : flagctl_text_at(rollout, "since"),
            text);
    else if (flagctl_is_at(rollout, "stale"))
        add(f, flag, "100 %", flagctl_text_at(rollout, "full_since"), text);
    else if (flagctl_days_left(expires, now, &days) && days < 0)
        add(f, flag, "expired", expires, "take it out of the file, or move \"expires\"");
}

/* Flags that nobody guards are in no rollout: their dates stand in the file. False: it cannot be read. */
static bool look_at_file(struct flagctl *ctl, struct findings *f, const char *path, time_t now)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};
    struct flagshm_error error;
    size_t length = 0, i;
    char *text = path != NULL ? flagctl_text_read(path, &length, &error) : NULL;
    bool is_read;

    (void)ctl;
    if (text == NULL)
        return false;
    is_read = flagshm_flagfile_parse(&file, text, length, NULL, &diags) == 0;
    for (i = 0; is_read && i < file.count; i++) {
        const struct flagshm_flagfile_entry *entry = &file.entries[i];
        long days;

        if (!entry->broken && entry->flag.expires != NULL && !is_known(f, entry->flag.name) &&
            flagctl_days_left(entry->flag.expires, now, &days) && days < 0)
            add(f, entry->flag.name, "expired", entry->flag.expires,
                "take it out of the file, or move \"expires\"");
    }
    if (is_read)
        flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    free(text);
    return is_read;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct finding *)a)->flag, ((const struct finding *)b)->flag);
}

static int findings_json(struct flagctl *ctl, const struct findings *f)
{
    cJSON *list = cJSON_CreateArray();
    size_t i;

    for (i = 0; i < f->count; i++) {
        cJSON *item = cJSON_CreateObject();

        (void)cJSON_AddStringToObject(item, "flag", f->list[i].flag);
        (void)cJSON_AddStringToObject(item, "why",
                                      strcmp(f->list[i].why, "100 %") == 0 ? "full" : f->list[i].why);
        (void)cJSON_AddStringToObject(item, "since", f->list[i].since);
        (void)cJSON_AddStringToObject(item, "mend", f->list[i].text);
        (void)cJSON_AddItemToArray(list, item);
    }
    return flagctl_json(ctl, list);
}

static void findings_print(struct flagctl *ctl, const struct findings *f)
{
    static const char *const headings[] = {"FLAG", "WHY", "SINCE", "WHAT TO DO", NULL};
    struct flagctl_table *table;
    size_t i;

    if (f->count == 0) {
        (void)fprintf(ctl->out, "no flag is stale\n");
        return;
    }
    table = flagctl_table_new(headings);
    for (i = 0; i < f->count; i++) {
        flagctl_table_cell(table, FLAGCTL_BOLD, "%s", f->list[i].flag);
        flagctl_table_cell(table, FLAGCTL_YELLOW, "%s", f->list[i].why);
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", f->list[i].since[0] != '\0' ? f->list[i].since : "-");
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", f->list[i].text);
    }
    flagctl_table_print(ctl, table);
}

static int stale_run(struct flagctl *ctl, int argc, char **argv)
{
    struct findings f = {0};
    const cJSON *list, *rollout;
    time_t now = time(NULL);
    cJSON *answer = NULL;
    const char *path;
    int code = flagctl_rollouts_ask(ctl, NULL, false, &answer);

    (void)argc;
    (void)argv;
    if (code != FLAGCTL_OK)
        return code;
    list = cJSON_GetObjectItemCaseSensitive(answer, "rollouts");
    for (rollout = list != NULL ? list->child : NULL; rollout != NULL; rollout = rollout->next)
        look_at_rollout(&f, rollout, now);
    path = flagctl_file(ctl);
    if (path != NULL && !look_at_file(ctl, &f, path, now))
        flagctl_warn(ctl, "%s cannot be read here: flags that nobody guards may have expired, too", path);
    if (f.count > 1)
        qsort(f.list, f.count, sizeof *f.list, by_name);
    if (f.is_out_of_memory)
        code = flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    else if (ctl->is_json)
        code = findings_json(ctl, &f);
    else
        findings_print(ctl, &f);
    free(f.list);
    cJSON_Delete(answer);
    return code;
}

const struct flagctl_command flagctl_stale_command = {
    .name = "stale",
    .group = "Look",
    .arguments = "",
    .summary = "flags that have done their work and still stand in the file",
    .help = "Rollouts that are complete and not finished, flags at 100 % for 30 days, and flags whose "
            "\"expires\" is "
            "over: each with what\n"
            "to do.\n\n"
            "Exit codes: 0 (also where there are some), 5 no server.\n\n"
            "JSON: [{\"flag\", \"why\": \"complete\"|\"full\"|\"expired\", \"since\" (a time, or the date), "
            "\"mend\"}]",
    .run = stale_run,
};
