/* history: what happened to the flags, from the server's journal. */
#include "server/flagfile.h"
#include "tools/flagctl.h"

#include <string.h>

#define LIMIT_DEFAULT 20
#define LIMIT_MAX     10000

static const char *text_of(const cJSON *event, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, key));

    return text != NULL ? text : "";
}

/* A number of the event, "" where it is 0 or absent. */
static const char *number_of(const cJSON *event, const char *key, char out[24])
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(event, key);

    out[0] = '\0';
    if (cJSON_IsNumber(number) && number->valuedouble > 0)
        (void)snprintf(out, 24, "%.0f", number->valuedouble);
    return out;
}

/* Red: somebody lost the variant. Green: more have it. Yellow: a person's word that loosens, and what wants a person. */
static enum flagctl_hue hue_of(const char *kind)
{
    static const struct {
        const char *kind;
        enum flagctl_hue hue;
    } hues[] = {
        {"refused", FLAGCTL_RED},
        {"kill", FLAGCTL_RED},
        {"guardrail", FLAGCTL_RED},
        {"breaker", FLAGCTL_RED},
        {"absolute", FLAGCTL_RED},
        {"no_data", FLAGCTL_RED},
        {"rollback", FLAGCTL_RED},
        {"stepped_back", FLAGCTL_RED},
        {"probe", FLAGCTL_RED},
        {"shadow_ended", FLAGCTL_RED},
        {"value_latched", FLAGCTL_RED},
        {"journal_lost", FLAGCTL_RED},
        {"started", FLAGCTL_GREEN},
        {"advanced", FLAGCTL_GREEN},
        {"completed", FLAGCTL_GREEN},
        {"probe_ended", FLAGCTL_GREEN},
        {"advanced_thin", FLAGCTL_YELLOW},
        {"advance", FLAGCTL_YELLOW},
        {"unkill", FLAGCTL_YELLOW},
        {"accept", FLAGCTL_YELLOW},
        {"clear", FLAGCTL_YELLOW},
        {"waive", FLAGCTL_YELLOW},
        {"signal", FLAGCTL_YELLOW},
        {"thin_breaker", FLAGCTL_YELLOW},
        {"both_arms_bad", FLAGCTL_YELLOW},
        {"approval_asked", FLAGCTL_YELLOW},
        {"freeze", FLAGCTL_YELLOW},
        {"would_roll_back", FLAGCTL_YELLOW},
    };
    size_t i;

    for (i = 0; i < sizeof hues / sizeof *hues; i++)
        if (strcmp(hues[i].kind, kind) == 0)
            return hues[i].hue;
    return FLAGCTL_PLAIN;
}

/* What happened, in one cell: the detail, else the first of the file's faults. */
static void detail_of(const cJSON *event, char *out, size_t room)
{
    const cJSON *faults = cJSON_GetObjectItemCaseSensitive(event, "faults"),
                *first = cJSON_GetArrayItem(faults, 0),
                *line = cJSON_GetObjectItemCaseSensitive(first, "line"),
                *column = cJSON_GetObjectItemCaseSensitive(first, "column");
    int more = cJSON_GetArraySize(faults) - 1;

    if (text_of(event, "detail")[0] != '\0' || first == NULL) {
        (void)snprintf(out, room, "%s", text_of(event, "detail"));
        return;
    }
    (void)snprintf(out, room, "%.0f:%.0f: %s", cJSON_IsNumber(line) ? line->valuedouble : 0,
                   cJSON_IsNumber(column) ? column->valuedouble : 0, text_of(first, "message"));
    if (more > 0)
        (void)snprintf(out + strlen(out), room - strlen(out), " (and %d more)", more);
}

static void print_events(struct flagctl *ctl, const cJSON *events)
{
    static const char *const headings[] = {"TIME",     "WHAT", "FLAG",   ">FILE",
                                           ">VERSION", "WHO",  "DETAIL", NULL};
    struct flagctl_table *table = flagctl_table_new(headings);
    const cJSON *event;
    char number[24], detail[1200];

    for (event = events->child; event != NULL; event = event->next) {
        detail_of(event, detail, sizeof detail);
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", text_of(event, "time"));
        flagctl_table_cell(table, hue_of(text_of(event, "kind")), "%s", text_of(event, "kind"));
        flagctl_table_cell(table, FLAGCTL_BOLD, "%s", text_of(event, "flag"));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", number_of(event, "file_rev", number));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", number_of(event, "version", number));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", text_of(event, "user"));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", detail);
    }
    flagctl_table_print(ctl, table);
}

static int history_run(struct flagctl *ctl, int argc, char **argv)
{
    const char *limit_text = flagctl_option(ctl, "limit");
    cJSON *request, *answer = NULL, *events;
    double limit = LIMIT_DEFAULT;
    int code;

    if (limit_text != NULL &&
        (!flagctl_number(limit_text, 1, LIMIT_MAX, &limit) || limit != (double)(int)limit))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--limit takes a whole number from 1 to %d, got \"%.100s\"",
                            LIMIT_MAX, limit_text);
    if (argc > 0 && !flagshm_is_flag_name(argv[0], strlen(argv[0])))
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\": that can be no flag's name",
                            argv[0]);
    request = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(request, "limit", limit);
    if (argc > 0)
        (void)cJSON_AddStringToObject(request, "flag", argv[0]);
    code = flagctl_ask(ctl, "history", request, true, &answer);
    if (code == FLAGCTL_UNREACHABLE)
        return flagctl_fail(ctl, code,
                            "no server answers on %s, and the journal is read through it: start the server\n"
                            "the journal itself is %s/journal.sqlite: `sqlite3 -readonly` reads it, as root",
                            ctl->instance.socket_path, ctl->instance.state_dir);
    if (code != FLAGCTL_OK)
        return code;
    events = cJSON_DetachItemFromObjectCaseSensitive(answer, "events");
    cJSON_Delete(answer);
    if (ctl->is_json) {
        flagctl_json_whole(events);
        return flagctl_json(ctl, events != NULL ? events : cJSON_CreateArray());
    }
    if (cJSON_GetArraySize(events) == 0)
        (void)fprintf(ctl->out, argc > 0 ? "nothing is known of %s\n" : "the journal is empty\n",
                      argc > 0 ? argv[0] : "");
    else
        print_events(ctl, events);
    cJSON_Delete(events);
    return FLAGCTL_OK;
}

static const struct flagctl_option history_options[] = {
    {"limit", 'n', "N", FLAGCTL_NUMBER, "how many events at most, the newest (20)"},
    {0},
};

const struct flagctl_command flagctl_history_command = {
    .name = "history",
    .group = "Look",
    .arguments = "[FLAG]",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "what happened: files, versions, rollouts, kills, and who did it",
    .help =
        "The newest first, from the server's journal (90 days). FILE is the number of a file revision: see "
        "flagctl diff\n"
        "and flagctl restore. DETAIL of a rollout's event says in a sentence why its share moved, with the "
        "numbers; WHAT is its cause:\n"
        "started, advanced, advanced_thin, completed; guardrail, breaker, absolute, no_data, stepped_back, "
        "probe, "
        "shadow_ended; signal,\n"
        "both_arms_bad, approval_asked, would_roll_back; cap, value_new, plan_edited, ...; rollback, clear, "
        "approve, "
        "pause, resume, waive,\n"
        "advance, drill; recovered, journal_lost.\n\n"
        "JSON: [{\"time\", \"kind\", \"flag\", \"user\", \"detail\", \"file_rev\", \"version\", \"faults\", "
        "\"numbers\" (of a rollout's\n"
        "  event: shares and stages before and after, attempt, evidence, and what it rests on)}]",
    .options = history_options,
    .max_arguments = 1,
    .run = history_run,
};
