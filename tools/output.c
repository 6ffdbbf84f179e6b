/* output: what commands print: tables, spans, shares, failures.
 *
 * Names, ids and messages come from tables, files and sockets: nothing of them may steer the terminal.
 */
#include "server/flagfile.h"
#include "server/utf8.h"
#include "tools/flagctl.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#define RED    "\033[31m"
#define YELLOW "\033[33m"
#define RESET  "\033[0m"

/* Would this character steer a terminal, or turn the direction of what follows? */
static bool is_steering(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c || code == 0x200e ||
           code == 0x200f || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           code == 0xfeff;
}

/* As flagctl_clean, but line ends may stay: sentences of ours have them. */
static char *clean(const char *text, char *out, size_t room, bool keeps_lines)
{
    size_t left = strlen(text), used = 0;

    while (left > 0) {
        uint32_t code = 0;
        size_t bytes = flagshm_utf8_sequence(text, left, &code);
        bool is_kept = bytes != 0 && (!is_steering(code) || (keeps_lines && code == '\n'));
        size_t length = is_kept ? bytes : 1;
        if (used + length >= room)
            break;
        if (is_kept)
            memcpy(out + used, text, length);
        else
            out[used] = '?';
        used += length;
        text += bytes != 0 ? bytes : 1;
        left -= bytes != 0 ? bytes : 1;
    }
    out[used] = '\0';
    return out;
}

char *flagctl_clean(const char *text, char *out, size_t room)
{
    return clean(text, out, room, false);
}

/* Is standard error coloured? As standard output, but for its own descriptor. */
static bool is_error_coloured(const struct flagctl *ctl)
{
    const char *none = getenv("NO_COLOR");
    return isatty(STDERR_FILENO) != 0 && (none == NULL || none[0] == '\0') &&
           (ctl->is_colour || !ctl->is_terminal);
}

int flagctl_fail(const struct flagctl *ctl, int code, const char *format, ...)
{
    char raw[4096], text[4096];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    (void)clean(raw, text, sizeof text, true);
    if (ctl->is_json) {
        cJSON *outer = cJSON_CreateObject(), *inner = cJSON_AddObjectToObject(outer, "error");
        char *line;
        (void)cJSON_AddNumberToObject(inner, "code", code);
        (void)cJSON_AddStringToObject(inner, "message", text);
        line = cJSON_PrintUnformatted(outer);
        (void)fprintf(stderr, "%s\n",
                      line != NULL ? line : "{\"error\":{\"code\":1,\"message\":\"out of memory\"}}");
        free(line);
        cJSON_Delete(outer);
        return code;
    }
    if (is_error_coloured(ctl))
        (void)fprintf(stderr, RED "flagctl:" RESET " %s\n", text);
    else
        (void)fprintf(stderr, "flagctl: %s\n", text);
    return code;
}

void flagctl_warn(const struct flagctl *ctl, const char *format, ...)
{
    char raw[4096], text[4096];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    (void)clean(raw, text, sizeof text, true);
    if (is_error_coloured(ctl))
        (void)fprintf(stderr, "flagctl: " YELLOW "warning:" RESET " %s\n", text);
    else
        (void)fprintf(stderr, "flagctl: warning: %s\n", text);
}

/* ---- tables ---- */

struct cell {
    char *text;
    enum flagctl_hue hue;
    int width;
};

struct flagctl_table {
    const char *const *headings;
    size_t columns;
    struct cell *cells;
    size_t count, capacity;
    bool is_out_of_memory;
};

/* Columns that a clean text takes on a terminal. */
static int text_width(const char *text)
{
    mbstate_t state;
    int width = 0;

    memset(&state, 0, sizeof state);
    while (*text != '\0') {
        wchar_t wide = 0;
        size_t bytes = mbrtowc(&wide, text, MB_CUR_MAX, &state);
        int columns;
        if (bytes == 0 || bytes > 8) { /* no UTF-8 locale here: one column a byte */
            memset(&state, 0, sizeof state);
            bytes = 1;
            columns = 1;
        } else {
            columns = wcwidth(wide);
        }
        width += columns < 0 ? 1 : columns;
        text += bytes;
    }
    return width;
}

struct flagctl_table *flagctl_table_new(const char *const *headings)
{
    struct flagctl_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return NULL;
    table->headings = headings;
    while (headings[table->columns] != NULL)
        table->columns++;
    return table;
}

void flagctl_table_cell(struct flagctl_table *table, enum flagctl_hue hue, const char *format, ...)
{
    va_list arguments;
    char *raw = NULL;
    struct cell *cell;
    int length;

    if (table == NULL)
        return;
    if (table->count == table->capacity) {
        size_t capacity = table->capacity != 0 ? table->capacity * 2 : 64;
        struct cell *cells = realloc(table->cells, capacity * sizeof *cells);
        if (cells == NULL) {
            table->is_out_of_memory = true;
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    va_start(arguments, format);
    length = vasprintf(&raw, format, arguments);
    va_end(arguments);
    cell = &table->cells[table->count];
    cell->text = length >= 0 ? malloc((size_t)length + 1) : NULL;
    if (cell->text == NULL) {
        table->is_out_of_memory = true;
    } else {
        (void)flagctl_clean(raw, cell->text, (size_t)length + 1);
        cell->hue = hue;
        cell->width = text_width(cell->text);
        table->count++;
    }
    if (length >= 0)
        free(raw);
}

static const char *hue_sequence(enum flagctl_hue hue)
{
    static const char *const sequences[] = {"", "\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[1m"};
    return sequences[hue];
}

static void cell_print(const struct flagctl *ctl, const struct cell *cell, int width, bool is_right,
                       bool is_last)
{
    int gap = width - cell->width;
    bool is_coloured = ctl->is_colour && cell->hue != FLAGCTL_PLAIN;

    (void)fprintf(ctl->out, "%*s%s%s%s", is_right ? gap : 0, "", is_coloured ? hue_sequence(cell->hue) : "",
                  cell->text, is_coloured ? RESET : "");
    if (!is_last)
        (void)fprintf(ctl->out, "%*s", (is_right ? 0 : gap) + 2, "");
}

static void row_print(const struct flagctl *ctl, const struct flagctl_table *table, const struct cell *row,
                      const int *widths)
{
    size_t i;
    for (i = 0; i < table->columns; i++)
        cell_print(ctl, &row[i], widths[i], table->headings[i][0] == '>', i + 1 == table->columns);
    (void)fputc('\n', ctl->out);
}

void flagctl_table_drop(struct flagctl_table *table)
{
    size_t i;

    for (i = 0; table != NULL && i < table->count; i++)
        free(table->cells[i].text);
    if (table != NULL)
        free(table->cells);
    free(table);
}

void flagctl_table_print(struct flagctl *ctl, struct flagctl_table *table)
{
    struct cell heading[32];
    int widths[32] = {0};
    size_t i;

    if (table == NULL || table->is_out_of_memory || table->columns > 32)
        (void)flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory: the table is not whole");
    if (table == NULL || table->columns > 32)
        return;
    for (i = 0; i < table->columns; i++) {
        heading[i].text = (char *)(uintptr_t)table->headings[i] + (table->headings[i][0] == '>');
        heading[i].hue = FLAGCTL_BOLD;
        heading[i].width = text_width(heading[i].text);
        widths[i] = ctl->has_header ? heading[i].width : 0;
    }
    for (i = 0; i < table->count; i++)
        if (table->cells[i].width > widths[i % table->columns])
            widths[i % table->columns] = table->cells[i].width;
    if (ctl->has_header)
        row_print(ctl, table, heading, widths);
    for (i = 0; i + table->columns <= table->count; i += table->columns)
        row_print(ctl, table, table->cells + i, widths);
    flagctl_table_drop(table);
}

/* ---- numbers and times ---- */

char *flagctl_time(uint64_t realtime_ns, char out[40])
{
    time_t seconds = (time_t)(realtime_ns / 1000000000u);
    char date[32];
    struct tm parts;

    if (realtime_ns == 0 || gmtime_r(&seconds, &parts) == NULL ||
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        (void)snprintf(out, 40, "-");
    else
        (void)snprintf(out, 40, "%s.%03uZ", date, (unsigned)(realtime_ns / 1000000u % 1000u));
    return out;
}

char *flagctl_span(int64_t ns, char out[24])
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t ms = (ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns) / 1000000u, s = ms / 1000;

    if (ms < 1000)
        (void)snprintf(out, 24, "%s%u ms", sign, (unsigned)ms);
    else if (s < 120)
        (void)snprintf(out, 24, "%s%u s", sign, (unsigned)s);
    else if (s < 120 * 60)
        (void)snprintf(out, 24, "%s%u min", sign, (unsigned)(s / 60));
    else if (s < 48 * 3600)
        (void)snprintf(out, 24, "%s%u h", sign, (unsigned)(s / 3600));
    else
        (void)snprintf(out, 24, "%s%llu d", sign, (unsigned long long)(s / 86400));
    return out;
}

char *flagctl_share(uint32_t mpct, char out[24])
{
    char digits[16];
    (void)snprintf(out, 24, "%s %%", flagshm_mpct_to_text(mpct, digits));
    return out;
}

bool flagctl_number(const char *text, double min, double max, double *number)
{
    size_t digits = strspn(text, "0123456789."), dots = 0, i;
    for (i = 0; i < digits; i++)
        dots += text[i] == '.';
    if (digits == 0 || text[digits] != '\0' || dots > 1 || digits == dots || digits > 20)
        return false;
    *number = strtod(text, NULL);
    return *number >= min && *number <= max;
}
