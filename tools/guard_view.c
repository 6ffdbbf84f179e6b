/* guard_view: the guardrails of a rollout as tables and sentences: the second half of rollout_view.h. */
#include "tools/outcome_view.h"
#include "tools/rollout_view.h"

#include <stdlib.h>
#include <string.h>

void flagctl_line_print(struct flagctl *ctl, const char *label, const char *text)
{
    size_t room = strlen(text) + 1;
    char *clean = malloc(room);

    if (clean != NULL)
        (void)fprintf(ctl->out, "  %-12s %s\n", label, flagctl_clean(text, clean, room));
    free(clean);
}

void flagctl_sentences_print(struct flagctl *ctl, cJSON *list)
{
    const cJSON *item;
    char clean[1200];

    for (item = list != NULL ? list->child : NULL; item != NULL; item = item->next) {
        (void)flagctl_clean(cJSON_IsString(item) ? item->valuestring : "", clean, sizeof clean);
        if (ctl->is_colour)
            (void)fprintf(ctl->out, "\033[33m%s\033[0m\n", clean);
        else
            (void)fprintf(ctl->out, "%s\n", clean);
    }
    cJSON_Delete(list);
}

static const char *name_of(const cJSON *guard)
{
    const char *name = flagctl_text_at(guard, "name");

    return name[0] != '\0' ? name : flagctl_text_at(guard, "kind");
}

char *flagctl_guard_rate(const cJSON *guard, const char *key, char out[24])
{
    const char *kind = flagctl_text_at(guard, "kind");
    size_t length = strlen(kind);
    double rate = flagctl_number_at(guard, key);

    if (!flagctl_has_number(guard, key))
        (void)snprintf(out, 24, "-");
    else if (length > 4 && strcmp(kind + length - 4, "_p95") == 0)
        (void)flagctl_ms(rate, out);
    else if (strncmp(kind, "tokens_", 7) == 0)
        (void)flagctl_amount(rate, out);
    else
        (void)flagctl_percent(rate, out);
    return out;
}

const char *flagctl_guard_verdict(const cJSON *guard, enum flagctl_hue *hue)
{
    bool is_significant = flagctl_is_at(guard, "significant"), is_material = flagctl_is_at(guard, "material");

    *hue = FLAGCTL_RED;
    if (is_significant && is_material)
        return flagctl_is_at(guard, "rollback") ? "harm" : "harm, not acted upon";
    if (flagctl_is_at(guard, "absolute"))
        return "over its limit";
    *hue = FLAGCTL_YELLOW;
    if (flagctl_is_at(guard, "holds"))
        return "holds";
    if (is_significant)
        return "sure, but small";
    *hue = FLAGCTL_GREEN;
    return "no harm seen";
}

/* "5x ruled out", "-". */
static void ruled_out_text(const cJSON *guard, char *out, size_t room)
{
    double ratio = flagctl_number_at(guard, "ruled_out"), more = flagctl_number_at(guard, "users_to_2x");
    size_t used = 0;

    if (ratio > 0)
        used = (size_t)snprintf(out, room, "%.3gx", ratio);
    else
        used = (size_t)snprintf(out, room, "-");
    if (more > 0 && !(ratio > 0 && ratio <= 2) && used < room)
        (void)snprintf(out + used, room - used, " (2x: ~%.0f more users)", more < 1e12 ? more : 1e12);
}

void flagctl_guards_print(struct flagctl *ctl, const cJSON *rollout)
{
    static const char *const headings[] = {"GUARDRAIL", "MODE",      ">VARIANT", ">CONTROL", ">LN E",
                                           ">NEEDED",   "RULED OUT", "SAYS",     NULL};
    const cJSON *guards = cJSON_GetObjectItemCaseSensitive(rollout, "guards"), *guard;
    struct flagctl_table *table;

    if (cJSON_GetArraySize(guards) == 0)
        return;
    table = flagctl_table_new(headings);
    for (guard = guards->child; guard != NULL; guard = guard->next) {
        enum flagctl_hue hue;
        const char *says = flagctl_guard_verdict(guard, &hue), *mode = flagctl_text_at(guard, "mode");
        char text[80];

        flagctl_table_cell(table, FLAGCTL_BOLD, "%s", name_of(guard));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s%s", mode,
                           strcmp(mode, "observe") == 0       ? ""
                           : flagctl_is_at(guard, "rollback") ? ": roll back"
                                                              : ": hold");
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_guard_rate(guard, "rate_variant", text));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_guard_rate(guard, "rate_control", text));
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%.1f", flagctl_number_at(guard, "ln_e"));
        if (flagctl_number_at(guard, "threshold") > 0)
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%.1f", flagctl_number_at(guard, "threshold"));
        else
            flagctl_table_cell(table, FLAGCTL_DIM, "-");
        ruled_out_text(guard, text, sizeof text);
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", text);
        flagctl_table_cell(table, hue, "%s", says);
    }
    flagctl_table_print(ctl, table);
}

void flagctl_guard_sentences_print(struct flagctl *ctl, const cJSON *rollout)
{
    const cJSON *guards = cJSON_GetObjectItemCaseSensitive(rollout, "guards"), *guard;

    for (guard = guards != NULL ? guards->child : NULL; guard != NULL; guard = guard->next) {
        const char *text = flagctl_text_at(guard, "text");
        char clean[1200], name[80];
        enum flagctl_hue hue;

        (void)flagctl_clean(text, clean, sizeof clean);
        (void)flagctl_clean(name_of(guard), name, sizeof name);
        if (text[0] == '\0')
            (void)fprintf(ctl->out, "  %s: %s\n", name, flagctl_guard_verdict(guard, &hue));
        else if (strncmp(text, name_of(guard), strlen(name_of(guard))) == 0)
            (void)fprintf(ctl->out, "  %s\n", clean);
        else
            (void)fprintf(ctl->out, "  %s: %s\n", name, clean);
    }
}

void flagctl_evidence_print(struct flagctl *ctl, const cJSON *rollout)
{
    const char *text = flagctl_text_at(rollout, "evidence_text");
    char clean[1200];

    if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(rollout, "guards")) == 0)
        return;
    if (ctl->has_header)
        (void)fprintf(ctl->out, "\n%sevidence%s %s\n", ctl->is_colour ? "\033[1m" : "",
                      ctl->is_colour ? "\033[0m" : "", flagctl_clean(text, clean, sizeof clean));
    flagctl_guard_sentences_print(ctl, rollout);
}

void flagctl_evidence_json(cJSON *object, const cJSON *rollout)
{
    static const char *const keys[] = {"verdict", "guards"};
    cJSON *evidence;
    size_t i;

    if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(rollout, "guards")) == 0) {
        (void)cJSON_AddNullToObject(object, "evidence");
        return;
    }
    evidence = cJSON_AddObjectToObject(object, "evidence");
    (void)cJSON_AddStringToObject(evidence, "text", flagctl_text_at(rollout, "evidence_text"));
    for (i = 0; i < sizeof keys / sizeof *keys; i++)
        (void)cJSON_AddItemToObject(
            evidence, keys[i], cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(rollout, keys[i]), true));
    flagctl_json_whole(evidence);
}
