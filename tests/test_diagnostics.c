#include "server/diagnostics.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Not inlined: gcc 12 then takes the text that open_memstream gives for a pointer into this frame. */
static __attribute__((noinline)) char *print(const struct flagshm_diags *d, const char *text, size_t length,
                                             bool colour)
{
    char *printed = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&printed, &bytes);

    flagshm_diags_print(d, "flags.json", text, length, colour, out);
    fclose(out);
    return printed;
}

/* One entry on `text`, printed. */
static char *print_one(const char *text, size_t offset, size_t length, const char *message)
{
    struct flagshm_diags d = {0};
    char *printed;

    flagshm_diags_add(&d, FLAGSHM_DIAG_ERROR, offset, length, "/a", "%s", message);
    printed = print(&d, text, strlen(text), false);
    flagshm_diags_free(&d);
    return printed;
}

Test(diagnostics, place_counts_lines_and_columns_from_one_in_bytes)
{
    static const struct {
        const char *text;
        size_t offset, line, column;
    } cases[] = {
        {"", 0, 1, 1},       {"abc", 0, 1, 1},       {"abc", 2, 1, 3},  {"abc", 3, 1, 4},
        {"abc", 99, 1, 4},   {"a\nb", 1, 1, 2},      {"a\nb", 2, 2, 1}, {"\n\n\n", 3, 4, 1},
        {"a\r\nb", 3, 2, 1}, {"\xc3\xa4x", 2, 1, 3},
    };
    size_t i, line, column;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        flagshm_diag_place(cases[i].text, strlen(cases[i].text), cases[i].offset, &line, &column);
        cr_assert_eq(line, cases[i].line, "case %zu: line %zu", i, line);
        cr_assert_eq(column, cases[i].column, "case %zu: column %zu", i, column);
    }
}

Test(diagnostics, an_entry_shows_place_line_and_caret)
{
    char *printed = print_one("{\n  \"rollout_pct\": 500\n}\n", 19, 3, "rollout_pct must be 0..100, got 500");

    cr_assert_str_eq(printed, "flags.json:2:18: error: rollout_pct must be 0..100, got 500\n"
                              "    2 |   \"rollout_pct\": 500\n"
                              "      |                  ^~~\n");
    free(printed);
}

Test(diagnostics, the_caret_stands_right_behind_wide_and_hidden_characters)
{
    char *printed;

    printed = print_one("\xc3\xa4\xe4\xbd\xa0\t5", 6, 1, "m"); /* a narrow one, a wide one, a tab */
    cr_assert_str_eq(printed, "flags.json:1:7: error: m\n    1 | \xc3\xa4\xe4\xbd\xa0 5\n      |     ^\n");
    free(printed);
    printed = print_one("\x1b[31m\xff\xe2\x80\xae"
                        "5",
                        9, 1, "m"); /* an escape, a bad byte, a mark that turns text round */
    cr_assert_str_eq(printed, "flags.json:1:10: error: m\n    1 | ?[31m??5\n      |        ^\n");
    free(printed);
}

Test(diagnostics, the_end_of_a_text_can_be_pointed_at)
{
    char *printed = print_one("{", 1, 1, "m");

    cr_assert_str_eq(printed, "flags.json:1:2: error: m\n    1 | {\n      |  ^\n");
    free(printed);
    printed = print_one("", 0, 1, "m");
    cr_assert_str_eq(printed, "flags.json:1:1: error: m\n    1 | \n      | ^\n");
    free(printed);
    printed = print_one("{\r\n}", 1, 9, "m");
    cr_assert_str_eq(printed, "flags.json:1:2: error: m\n    1 | {\n      |  ^\n");
    free(printed);
}

Test(diagnostics, a_long_line_is_cut_around_the_caret)
{
    char text[2001], *printed, *line, *caret;

    memset(text, 'x', 2000);
    text[2000] = '\0';
    text[1000] = '!';
    printed = print_one(text, 1000, 1, "m");
    line = strchr(printed, '\n') + 1;
    caret = strchr(line, '\n') + 1;
    cr_assert_lt(caret - line, 115);
    cr_assert_eq(strchr(line, '!') - line, strchr(caret, '^') - caret);
    cr_assert_not_null(strstr(line, "| ...x"));
    cr_assert_eq(strncmp(caret - 4, "...\n", 4), 0);
    free(printed);
}

Test(diagnostics, a_cut_never_splits_a_character)
{
    char text[1200], *printed;
    size_t at, i;

    for (at = 0; at < 3; at++) { /* the cut falls on each of a character's three bytes in turn */
        memset(text, 'x', at);
        for (i = at; i + 3 <= 1190; i += 3)
            memcpy(text + i, "\xe4\xbd\xa0", 3);
        text[i] = '\0';
        printed = print_one(text, at + 600, 3, "m");
        cr_assert_null(strchr(printed, '?'), "%s", printed);
        free(printed);
    }
}

Test(diagnostics, colour_is_ansi_and_nothing_else_changes)
{
    struct flagshm_diags d = {0};
    char *printed, *from, *to;

    flagshm_diags_add(&d, FLAGSHM_DIAG_WARNING, 0, 2, "", "m");
    printed = print(&d, "ab", 2, true);
    cr_assert_not_null(strstr(printed, "\033[1;35mwarning:\033[0m"));
    for (from = to = printed; *from;) {
        if (*from == '\033')
            from = strchr(from, 'm') + 1;
        else
            *to++ = *from++;
    }
    *to = '\0';
    cr_assert_str_eq(printed, "flags.json:1:1: warning: m\n    1 | ab\n      | ^~\n");
    free(printed);
    flagshm_diags_free(&d);
}

Test(diagnostics, sort_is_by_place_and_keeps_the_order_found)
{
    static const size_t offsets[] = {5, 3, 5, 1, 3};
    static const char *const sorted[] = {"3", "1", "4", "0", "2"};
    struct flagshm_diags d = {0};
    size_t i;

    for (i = 0; i < 5; i++)
        flagshm_diags_add(&d, FLAGSHM_DIAG_ERROR, offsets[i], 1, "", "%zu", i);
    flagshm_diags_sort(&d);
    for (i = 0; i < 5; i++)
        cr_assert_str_eq(d.items[i].message, sorted[i]);
    flagshm_diags_free(&d);
}

Test(diagnostics, more_than_can_be_shown_are_counted)
{
    struct flagshm_diags d = {0};
    char *printed;
    size_t i;

    for (i = 0; i < FLAGSHM_DIAG_MAX + 7; i++)
        flagshm_diags_add(&d, i % 2 ? FLAGSHM_DIAG_WARNING : FLAGSHM_DIAG_ERROR, 0, 1, "", "m");
    cr_assert_eq(d.count, FLAGSHM_DIAG_MAX);
    cr_assert_eq(d.errors + d.warnings, FLAGSHM_DIAG_MAX + 7);
    printed = print(&d, "x", 1, false);
    cr_assert_not_null(strstr(printed, "\nflags.json: 7 more like these are not shown\n"));
    free(printed);
    flagshm_diags_free(&d);
    cr_assert_eq(d.errors, 0);
}

Test(diagnostics, a_message_is_one_printable_line)
{
    struct flagshm_diags d = {0};

    flagshm_diags_add(&d, FLAGSHM_DIAG_ERROR, 0, 0, "", "a\nb\x1b[2J\xff %s", "\xc3\xa4\xc2\x85");
    cr_assert_str_eq(d.items[0].message, "a?b?[2J? \xc3\xa4?");
    cr_assert_eq(d.items[0].length, 1, "a caret needs one column");
    flagshm_diags_free(&d);
}

Test(diagnostics, json_holds_the_same_for_machines)
{
    static const char text[] = "{\n \"a\\b\": 1}";
    struct flagshm_diags d = {0};
    cJSON *list, *item;
    char *json;

    flagshm_diags_add(&d, FLAGSHM_DIAG_ERROR, 3, 4, "/a\b\"\xff", "got \"x\" \\");
    flagshm_diags_add(&d, FLAGSHM_DIAG_WARNING, 10, 1, "", "w");
    json = flagshm_diags_json(&d, "dir/fl\"ags.json", text, strlen(text));
    list = cJSON_Parse(json);
    cr_assert_eq(cJSON_GetArraySize(list), 2);
    item = cJSON_GetArrayItem(list, 0);
    cr_assert_str_eq(cJSON_GetObjectItemCaseSensitive(item, "file")->valuestring, "dir/fl\"ags.json");
    cr_assert_eq(cJSON_GetObjectItemCaseSensitive(item, "line")->valueint, 2);
    cr_assert_eq(cJSON_GetObjectItemCaseSensitive(item, "column")->valueint, 2);
    cr_assert_str_eq(cJSON_GetObjectItemCaseSensitive(item, "severity")->valuestring, "error");
    cr_assert_str_eq(cJSON_GetObjectItemCaseSensitive(item, "pointer")->valuestring, "/a\b\"\xef\xbf\xbd");
    cr_assert_str_eq(cJSON_GetObjectItemCaseSensitive(item, "message")->valuestring, "got \"x\" \\");
    item = cJSON_GetArrayItem(list, 1);
    cr_assert_str_eq(cJSON_GetObjectItemCaseSensitive(item, "severity")->valuestring, "warning");
    cJSON_Delete(list);
    free(json);
    flagshm_diags_free(&d);

    json = flagshm_diags_json(&d, "f", "", 0);
    cr_assert_str_eq(json, "[]\n");
    free(json);
}

Test(diagnostics, did_you_mean_finds_near_misses_only)
{
    static const char *const words[] = {"rollout_pct", "rollout", "enabled", "salt", "model", "owner", NULL};
    static const struct {
        const char *word, *nearest;
    } cases[] = {
        {"rolout_pct", "rollout_pct"},
        {"rollout_ptc", "rollout_pct"},
        {"Rollout_Pct", "rollout_pct"},
        {"rollotu", "rollout"},
        {"enabeld", "enabled"},
        {"ENABLED", "enabled"},
        {"slat", "salt"},
        {"modle", "model"},
        {"modell", "model"},
        {"moddle", "model"},
        {"onwer", "owner"},
        {"percentage", NULL},
        {"", NULL},
        {"x", NULL},
        {"sa", NULL},
        {"mo", NULL},
        {"rollouts_pcts_", NULL},
        {"rollout_percent", NULL},
    };
    char huge[200];
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *found = flagshm_did_you_mean(cases[i].word, strlen(cases[i].word), words);

        cr_assert(found == cases[i].nearest ||
                      (found && cases[i].nearest && strcmp(found, cases[i].nearest) == 0),
                  "%s: %s", cases[i].word, found ? found : "(none)");
    }
    memset(huge, 'r', sizeof huge);
    cr_assert_null(flagshm_did_you_mean(huge, sizeof huge, words));
}
