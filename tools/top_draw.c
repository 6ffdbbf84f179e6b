/* top_draw: see top_draw.h. */
#include "tools/top_draw.h"
#include "tools/outcome_view.h"
#include "tools/rollout_view.h"
#include "tools/top_screen.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CELL      72
#define CURVE_MIN 8
#define CURVE_MAX 60

const char *const top_order_words[TOP_ORDERS] = {"calls", "errors", "latency", "tokens", "name"};

/* ---- which, and in what order ---- */

static double weight_of(const struct top_flag *flag, enum top_order order)
{
    switch (order) {
    case TOP_BY_ERRORS:
        return flag->error_rate;
    case TOP_BY_LATENCY:
        return flag->p95_ms;
    case TOP_BY_TOKENS:
        return flag->tokens;
    default:
        return order == TOP_BY_NAME ? 0 : flag->calls_per_s;
    }
}

static enum top_order compared_order; /* qsort passes no context */

static int compare(const void *a, const void *b)
{
    const struct top_flag *left = *(const struct top_flag *const *)a,
                          *right = *(const struct top_flag *const *)b;
    double l = weight_of(left, compared_order), r = weight_of(right, compared_order);

    if (l != r)
        return l < r ? 1 : -1;
    return strcmp(left->served->name, right->served->name);
}

static void choose(struct top_showing *s)
{
    size_t i;

    s->count = 0;
    for (i = 0; i < s->top.count && s->count < FLAGSHM_SLOTS; i++)
        if (s->filter[0] == '\0' || strstr(s->top.flags[i].served->name, s->filter) != NULL)
            s->shown[s->count++] = &s->top.flags[i];
    compared_order = s->order;
    qsort(s->shown, s->count, sizeof(void *), compare);
}

/* ---- cells ---- */

enum {
    FLAG,
    STAGE,
    GUARD,
    WAITS,
    ARM,
    SHARE,
    CALLS,
    ERRORS,
    ERRORS_1M,
    P50,
    P95,
    TOKENS,
    COLUMNS
}; /* before the curve */

struct row {
    const struct top_arm *arm;
    char cells[COLUMNS][CELL];
    enum flagctl_hue hues[COLUMNS];
};

static const char *const headings[COLUMNS] = {"FLAG",     "STAGE", "GUARD",    "WAITS", "ARM",  ">SHARE",
                                              ">CALLS/S", ">ERRS", ">ERRS 1M", ">P50",  ">P95", ">TOKENS"};

/* Those of rollouts stand there only where the server tells them. */
static bool is_column(const struct top_showing *s, int column)
{
    return s->top.rollouts != NULL || (column != GUARD && column != WAITS);
}

static void rate_text(double per_s, char out[24])
{
    if (per_s == 0)
        (void)snprintf(out, 24, "0");
    else
        (void)snprintf(out, 24, per_s < 9.95 ? "%.1f" : "%.0f", per_s < 1e15 ? per_s : 1e15);
}

static double share_of(uint64_t failed, uint64_t calls)
{
    return calls == 0 ? 0 : failed < calls ? (double)failed / (double)calls : 1;
}

static void error_cell(struct row *row, int column, uint64_t failed, uint64_t calls)
{
    char text[24] = "-";

    if (calls > 0)
        (void)flagctl_percent(share_of(failed, calls), text);
    (void)snprintf(row->cells[column], CELL, "%s", text);
    row->hues[column] = failed > 0 ? FLAGCTL_RED : calls > 0 ? FLAGCTL_PLAIN : FLAGCTL_DIM;
}

static void time_cell(struct row *row, int column, const struct top_arm *arm, double ms)
{
    char text[24] = "-";

    if (arm->latency_count > 0)
        (void)flagctl_ms(ms, text);
    (void)snprintf(row->cells[column], CELL, "%s", text);
}

void top_plain_text(const char *text, char *out, size_t room)
{
    size_t i;

    for (i = 0; text[i] != '\0' && i + 1 < room; i++)
        out[i] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    out[i] = '\0';
}

/* "on", and "hold 20h 40m, min_users". */
static void rollout_fill(const struct top_showing *s, const struct top_flag *flag, struct row *row)
{
    const cJSON *rollout = flagctl_rollout_find(s->top.rollouts, flag->served->name);
    const char *guard = flagctl_guard_word(rollout, (flag->served->switches & FLAGSHM_SWITCH_GUARDED) != 0);
    char waits[CELL - 16], left[32], text[CELL];

    (void)flagctl_waits_text(rollout, waits, sizeof waits);
    if (strcmp(flagctl_left_text(rollout, left), "-") != 0 && strncmp(waits, "hold", 4) == 0)
        (void)snprintf(text, sizeof text, "hold %.14s%s", left, waits + 4);
    else
        (void)snprintf(text, sizeof text, "%s", waits);
    (void)snprintf(row->cells[GUARD], CELL, "%s", guard);
    row->hues[GUARD] = guard[0] == 'w' ? FLAGCTL_YELLOW : FLAGCTL_PLAIN;
    top_plain_text(text, row->cells[WAITS], CELL);
}

static void row_fill(const struct top_showing *s, const struct top_flag *flag, uint32_t number,
                     struct row *row)
{
    const struct top_arm *arm = &flag->arms[number];
    struct flagctl_served served = flagctl_served(&s->top.snapshot, flag->served);
    char text[24], name[CELL - 2];

    memset(row, 0, sizeof *row);
    row->arm = arm;
    if (number == 0) {
        top_plain_text(flag->served->name, name, sizeof name);
        (void)snprintf(row->cells[FLAG], CELL, "%s%s", name, flag->is_tainted ? " !" : "");
        row->hues[FLAG] = flag->is_tainted ? FLAGCTL_RED : FLAGCTL_BOLD;
        top_plain_text(served.stage, row->cells[STAGE], CELL);
        row->hues[STAGE] = served.hue;
        if (s->top.rollouts != NULL)
            rollout_fill(s, flag, row);
    }
    top_plain_text(arm->name, row->cells[ARM], CELL);
    (void)snprintf(row->cells[SHARE], CELL, "%.4g %%", arm->share_pct);
    rate_text(s->top.interval_s > 0 ? (double)arm->calls / s->top.interval_s : 0, text);
    (void)snprintf(row->cells[CALLS], CELL, "%s", s->top.interval_s > 0 ? text : "-");
    row->hues[CALLS] = arm->calls > 0 ? FLAGCTL_PLAIN : FLAGCTL_DIM;
    error_cell(row, ERRORS, arm->failed, arm->calls);
    error_cell(row, ERRORS_1M, arm->minute.failed, arm->minute.calls);
    time_cell(row, P50, arm, arm->p50_ms);
    time_cell(row, P95, arm, arm->p95_ms);
    if (arm->minute.calls > 0 && arm->minute.tokens > 0)
        (void)flagctl_amount((double)arm->minute.tokens / (double)arm->minute.calls, text);
    else
        (void)snprintf(text, sizeof text, "-");
    (void)snprintf(row->cells[TOKENS], CELL, "%s", text);
}

/* ---- drawing ---- */

static const char *hue_begin(const struct top_showing *s, enum flagctl_hue hue)
{
    static const char *const sequences[] = {"", "\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[1m"};

    return s->ctl->is_colour ? sequences[hue] : "";
}

static void line_end(const struct top_showing *s)
{
    (void)fputs(s->is_screen ? "\033[K\r\n" : "\n", s->ctl->out);
}

/* Text of one line, cut at the screen's width. */
static void line_print(const struct top_showing *s, enum flagctl_hue hue, int columns, const char *text)
{
    const char *begin = hue_begin(s, hue);

    (void)fprintf(s->ctl->out, "%s%.*s%s", begin, columns, text, begin[0] != '\0' ? "\033[0m" : "");
    line_end(s);
}

/* Eight heights where the terminal can show them: the locale that the user set says so. */
static const char *height_text(int height)
{
    static const char *const blocks[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                         "\u2585", "\u2586", "\u2587", "\u2588"};
    static const char *const plain[] = {" ", ".", ".", ":", "-", "=", "+", "*", "#"};
    static int has_blocks = -1;

    if (has_blocks < 0) {
        static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};
        size_t i;

        has_blocks = 0;
        for (i = 0; i < 3; i++) {
            const char *value = getenv(variables[i]);

            if (value == NULL || value[0] == '\0')
                continue;
            has_blocks = strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
            break;
        }
    }
    return has_blocks != 0 ? blocks[height] : plain[height];
}

/* Calls a second over the last samples, the newest on the right; red where some failed. */
static void curve_print(const struct top_showing *s, const struct top_arm *arm, int width)
{
    double rate, most = 0;
    uint64_t failed;
    bool is_red = false;
    int i;

    for (i = 0; i < width; i++)
        if (top_sample(&s->top, arm, (unsigned)i, &rate, &failed) && rate > most)
            most = rate;
    for (i = width - 1; i >= 0; i--) {
        int height = 0;
        bool has_failed = top_sample(&s->top, arm, (unsigned)i, &rate, &failed) && failed > 0;

        if (rate > 0)
            height = 1 + (int)(rate / most * 7);
        if (s->ctl->is_colour && has_failed != is_red) {
            (void)fputs(has_failed ? "\033[31m" : "\033[0m", s->ctl->out);
            is_red = has_failed;
        }
        (void)fputs(height_text(height < 9 ? height : 8), s->ctl->out);
    }
    if (is_red)
        (void)fputs("\033[0m", s->ctl->out);
}

static int cell_width(const char *text)
{
    return (int)strlen(text);
}

/* A row, its last columns left out where the screen ends. `row` NULL: the headings. */
static void row_print(const struct top_showing *s, const struct row *row, const int widths[COLUMNS],
                      int columns)
{
    int used = 0, i, curve;

    for (i = 0; i < COLUMNS; i++) {
        bool is_right = headings[i][0] == '>';
        const char *text = row != NULL ? row->cells[i] : headings[i] + is_right;
        enum flagctl_hue hue = row != NULL ? row->hues[i] : FLAGCTL_BOLD;
        int gap = widths[i] - cell_width(text);
        const char *begin = hue != FLAGCTL_PLAIN ? hue_begin(s, hue) : "";

        if (!is_column(s, i))
            continue;
        if (used + widths[i] > columns)
            break;
        (void)fprintf(s->ctl->out, "%*s%s%s%s%*s", is_right ? gap : 0, "", begin, text,
                      begin[0] != '\0' ? "\033[0m" : "", (is_right ? 0 : gap) + 2, "");
        used += widths[i] + 2;
    }
    curve = columns - used < CURVE_MAX ? columns - used : CURVE_MAX;
    if (i == COLUMNS && curve >= CURVE_MIN) {
        if (row != NULL)
            curve_print(s, row->arm, curve);
        else
            (void)fprintf(s->ctl->out, "%s%*s%s", hue_begin(s, FLAGCTL_BOLD), curve, "CALLS/S, NEWEST",
                          s->ctl->is_colour ? "\033[0m" : "");
    }
    line_end(s);
}

/* "summary: undrilled; other: stale", also of flags that book nothing. */
static bool has_warnings(const struct top_showing *s, char *out, size_t room)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s->top.rollouts, "rollouts"), *rollout;
    char words[120], clean[400];
    bool has = false;
    size_t used = 0;

    out[0] = '\0';
    for (rollout = list != NULL ? list->child : NULL; rollout != NULL; rollout = rollout->next) {
        if (flagctl_warning_words(rollout, time(NULL), words, sizeof words)[0] == '\0')
            continue;
        (void)snprintf(clean, sizeof clean, "%s%.64s: %s", has ? "; " : "", flagctl_text_at(rollout, "flag"),
                       words);
        has = true;
        if (used + strlen(clean) < room) {
            top_plain_text(clean, out + used, room - used);
            used += strlen(out + used);
        }
    }
    return has;
}

static void head_print(const struct top_showing *s, int columns)
{
    char line[512], rate[24], errors[24], age[24], clock[32] = "";
    struct tm parts;
    time_t now = time(NULL);
    size_t others = s->top.has_snapshot ? s->top.snapshot.count - s->top.count : 0;

    if (gmtime_r(&now, &parts) != NULL)
        (void)strftime(clock, sizeof clock, "%H:%M:%SZ", &parts);
    rate_text(s->top.calls_per_s, rate);
    rate_text(s->top.errors_per_s, errors);
    (void)snprintf(
        line, sizeof line, "flagshm %s  %s  %s calls/s, %s errors/s  %zu flag%s, %zu do not%s%s%s%s",
        s->ctl->instance.name, clock, rate, errors, s->top.count, s->top.count == 1 ? " books" : "s book",
        others, s->filter[0] != '\0' || s->is_typing ? "  filter: " : "", s->filter, s->is_typing ? "_" : "",
        s->is_paused ? "  PAUSED" : "");
    line_print(s, FLAGCTL_PLAIN, columns, line);
    if (s->top.fault[0] != '\0')
        line_print(s, FLAGCTL_RED, columns, s->top.fault);
    if (top_is_stale(&s->top)) {
        (void)snprintf(line, sizeof line, "the server has been silent for %s: flagctl doctor",
                       flagctl_span(s->top.age_ns, age));
        line_print(s, FLAGCTL_RED, columns, line);
    }
    if (has_warnings(s, line, sizeof line))
        line_print(s, FLAGCTL_YELLOW, columns, line);
}

static int head_rows(const struct top_showing *s)
{
    char text[8];

    return 1 + (s->top.fault[0] != '\0') + top_is_stale(&s->top) + has_warnings(s, text, sizeof text);
}

void top_draw(struct top_showing *s)
{
    size_t total = 0, number = 0, room, i;
    int widths[COLUMNS], columns, rows, k;
    struct row row;
    uint32_t arm;

    top_screen_size(&columns, &rows);
    choose(s);
    for (k = 0; k < COLUMNS; k++)
        widths[k] = cell_width(headings[k]) - (headings[k][0] == '>');
    for (i = 0; i < s->count; i++)
        for (arm = 0; arm < s->shown[i]->arm_count; arm++, total++) {
            row_fill(s, s->shown[i], arm, &row);
            for (k = 0; k < COLUMNS; k++)
                if (cell_width(row.cells[k]) > widths[k])
                    widths[k] = cell_width(row.cells[k]);
        }
    room = total;
    if (s->is_screen) {
        int taken = head_rows(s) + 2; /* headings, and the keys */

        room = rows > taken ? (size_t)(rows - taken) : 0;
        if (s->first + room > total)
            s->first = total > room ? total - room : 0;
        (void)fputs("\033[H", s->ctl->out);
    }
    head_print(s, columns);
    if (s->ctl->has_header)
        row_print(s, NULL, widths, columns);
    for (i = 0; i < s->count; i++)
        for (arm = 0; arm < s->shown[i]->arm_count; arm++, number++) {
            if (number < s->first || number >= s->first + room)
                continue;
            row_fill(s, s->shown[i], arm, &row);
            row_print(s, &row, widths, columns);
        }
    if (s->is_screen) {
        char keys[200];

        (void)snprintf(keys, sizeof keys,
                       "q quit  p pause  / filter  sort by: c calls  e errors  l p95  t tokens  n name  "
                       "(now: %s)  %zu rows",
                       top_order_words[s->order], total);
        (void)fprintf(s->ctl->out, "%s%.*s%s\033[K\033[J", hue_begin(s, FLAGCTL_DIM), columns, keys,
                      s->ctl->is_colour ? "\033[0m" : "");
    }
}

/* ---- JSON ---- */

static void add_figure(cJSON *object, const char *key, bool is_known, double figure)
{
    char text[40];

    (void)snprintf(text, sizeof text, "%.6g", figure);
    (void)cJSON_AddRawToObject(object, key, is_known ? text : "null");
}

static cJSON *arm_json(const struct top_showing *s, const struct top_arm *arm)
{
    cJSON *object = cJSON_CreateObject();
    double interval = s->top.interval_s, minute = (double)arm->minute.calls;

    (void)cJSON_AddStringToObject(object, "arm", arm->name);
    (void)cJSON_AddStringToObject(object, "model", arm->model);
    add_figure(object, "share_pct", true, arm->share_pct);
    add_figure(object, "calls_per_s", interval > 0, interval > 0 ? (double)arm->calls / interval : 0);
    add_figure(object, "error_rate", arm->calls > 0, share_of(arm->failed, arm->calls));
    flagctl_json_u64(object, "minute_calls", arm->minute.calls);
    add_figure(object, "minute_error_rate", arm->minute.calls > 0,
               share_of(arm->minute.failed, arm->minute.calls));
    add_figure(object, "p50_ms", arm->latency_count > 0, arm->p50_ms);
    add_figure(object, "p95_ms", arm->latency_count > 0, arm->p95_ms);
    add_figure(object, "tokens_per_call", minute > 0, minute > 0 ? (double)arm->minute.tokens / minute : 0);
    flagctl_json_u64(object, "finished", arm->n[FLAGSHM_N_FINISHED]);
    flagctl_json_u64(object, "failed", arm->n[FLAGSHM_N_FAILED]);
    return object;
}

/* What the server tells of the flag; null where it tells nothing. */
static void rollout_add(const struct top_showing *s, const struct top_flag *flag, cJSON *item)
{
    const cJSON *rollout = flagctl_rollout_find(s->top.rollouts, flag->served->name);
    cJSON *object, *waits;

    (void)cJSON_AddStringToObject(
        item, "guard", flagctl_guard_word(rollout, (flag->served->switches & FLAGSHM_SWITCH_GUARDED) != 0));
    if (rollout == NULL) {
        (void)cJSON_AddNullToObject(item, "rollout");
        return;
    }
    object = cJSON_AddObjectToObject(item, "rollout");
    waits = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(rollout, "waits"), true);
    (void)cJSON_AddItemToObject(object, "waits", waits != NULL ? waits : cJSON_CreateArray());
    add_figure(object, "hold_left_s", flagctl_has_number(rollout, "hold_left_s"),
               flagctl_number_at(rollout, "hold_left_s"));
    flagctl_warning_sentences(rollout, false, cJSON_AddArrayToObject(object, "warnings"));
}

int top_print_json(struct top_showing *s)
{
    cJSON *object = cJSON_CreateObject(), *flags, *arms;
    struct timespec now;
    char time_text[40];
    size_t i;
    uint32_t k;

    choose(s);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)cJSON_AddStringToObject(
        object, "time", flagctl_time((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, time_text));
    (void)cJSON_AddStringToObject(object, "instance", s->ctl->instance.name);
    add_figure(object, "interval_s", true, s->top.interval_s);
    flagctl_json_u64(object, "version", s->top.has_snapshot ? s->top.snapshot.version : 0);
    (void)cJSON_AddBoolToObject(object, "stale", top_is_stale(&s->top));
    if (s->top.fault[0] != '\0')
        (void)cJSON_AddStringToObject(object, "fault", s->top.fault);
    else
        (void)cJSON_AddNullToObject(object, "fault");
    add_figure(object, "calls_per_s", true, s->top.calls_per_s);
    add_figure(object, "errors_per_s", true, s->top.errors_per_s);
    flagctl_json_u64(object, "flags_without_slot",
                     s->top.has_snapshot ? s->top.snapshot.count - s->top.count : 0);
    flags = cJSON_AddArrayToObject(object, "flags");
    for (i = 0; i < s->count; i++) {
        const struct top_flag *flag = s->shown[i];
        struct flagctl_served served = flagctl_served(&s->top.snapshot, flag->served);
        cJSON *item = cJSON_CreateObject();

        (void)cJSON_AddItemToArray(flags, item);
        (void)cJSON_AddStringToObject(item, "flag", flag->served->name);
        (void)cJSON_AddStringToObject(item, "stage", served.stage);
        flagctl_json_share(item, "rollout_pct", served.mpct);
        flagctl_json_u64(item, "slot", flag->served->slot);
        flagctl_json_u64(item, "generation", flag->generation);
        (void)cJSON_AddBoolToObject(item, "tainted", flag->is_tainted);
        add_figure(item, "calls_per_s", true, flag->calls_per_s);
        rollout_add(s, flag, item);
        arms = cJSON_AddArrayToObject(item, "arms");
        for (k = 0; k < flag->arm_count; k++)
            (void)cJSON_AddItemToArray(arms, arm_json(s, &flag->arms[k]));
    }
    return flagctl_json(s->ctl, object);
}
