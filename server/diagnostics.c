/* diagnostics: see the header. Bytes of a file are hostile: nothing of them reaches a terminal that could
 * steer it. */
#include "server/diagnostics.h"
#include "server/utf8.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_COLUMNS                                                                                       \
    96 /* of a long source line: the caret and what stands around it, in a 110 column terminal */
#define WINDOW_BEFORE 48
#define WORD_MAX      64 /* no key of ours is longer */

/* Columns that a character takes; -1 where it must not reach a terminal: controls, and the marks that
 * reorder text. */
static int columns_of(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
        (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff)
        return -1;
    if (code >= 0x300 && code <= 0x36f)
        return 0;
    if ((code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
        (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
        (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
        (code >= 0xffe0 && code <= 0xffe6) || (code >= 0x1f300 && code <= 0x1faff) ||
        (code >= 0x20000 && code <= 0x3fffd))
        return 2;
    return 1;
}

/* Makes a text one printable line: what is not printable becomes '?'. In place, never longer. */
static void make_printable(char *text)
{
    size_t left = strlen(text), n, i;
    char *out = text;
    uint32_t code;

    while (left > 0) {
        n = flagshm_utf8_sequence(text, left, &code);
        if (n > 0 && columns_of(code) >= 0) {
            for (i = 0; i < n; i++)
                *out++ = text[i];
        } else {
            *out++ = '?';
            n = n > 0 ? n : 1;
        }
        text += n;
        left -= n;
    }
    *out = '\0';
}

static char *format_text(const char *format, va_list arguments)
{
    va_list again;
    char *text = NULL;
    int length;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length >= 0)
        text = malloc((size_t)length + 1);
    if (text) {
        vsnprintf(text, (size_t)length + 1, format, arguments);
        make_printable(text);
    }
    return text;
}

static bool make_room(struct flagshm_diags *d)
{
    size_t capacity = d->capacity ? d->capacity * 2 : 8;
    struct flagshm_diag *items;

    if (d->count < d->capacity)
        return true;
    items = realloc(d->items, capacity * sizeof *items);
    if (!items)
        return false;
    d->items = items;
    d->capacity = capacity;
    return true;
}

void flagshm_diags_add(struct flagshm_diags *d, enum flagshm_severity severity, size_t offset, size_t length,
                       const char *pointer, const char *format, ...)
{
    struct flagshm_diag *item;
    va_list arguments;

    if (severity == FLAGSHM_DIAG_ERROR)
        d->errors++;
    else
        d->warnings++;
    if (d->count >= FLAGSHM_DIAG_MAX || !make_room(d))
        return;
    item = &d->items[d->count++];
    item->severity = severity;
    item->offset = offset;
    item->length = length > 0 ? length : 1;
    item->pointer = strdup(pointer);
    va_start(arguments, format);
    item->message = format_text(format, arguments);
    va_end(arguments);
}

/* Stable, so that two entries on one place stay in the order in which they were found. The list is short
 * and nearly in order. */
void flagshm_diags_sort(struct flagshm_diags *d)
{
    size_t i, j;

    for (i = 1; i < d->count; i++) {
        struct flagshm_diag item = d->items[i];

        for (j = i; j > 0 && d->items[j - 1].offset > item.offset; j--)
            d->items[j] = d->items[j - 1];
        d->items[j] = item;
    }
}

void flagshm_diags_free(struct flagshm_diags *d)
{
    size_t i;

    for (i = 0; i < d->count; i++) {
        free(d->items[i].pointer);
        free(d->items[i].message);
    }
    free(d->items);
    memset(d, 0, sizeof *d);
}

void flagshm_diag_place(const char *text, size_t length, size_t offset, size_t *line, size_t *column)
{
    size_t begin = 0;
    const char *newline;

    if (offset > length)
        offset = length;
    *line = 1;
    while (begin < offset && (newline = memchr(text + begin, '\n', offset - begin)) != NULL) {
        begin = (size_t)(newline - text) + 1;
        ++*line;
    }
    *column = offset - begin + 1;
}

static const char *severity_word(enum flagshm_severity severity)
{
    return severity == FLAGSHM_DIAG_ERROR ? "error" : "warning";
}

/* Where the characters of [begin, end) start being shown so that those before `caret` take WINDOW_BEFORE
 * bytes at most. */
static size_t window_begin(const char *text, size_t begin, size_t caret, size_t end)
{
    size_t from = begin;

    if (end - begin > WINDOW_COLUMNS && caret - begin > WINDOW_BEFORE) {
        from = caret - WINDOW_BEFORE;
        if (end - from < WINDOW_COLUMNS)
            from = end - WINDOW_COLUMNS;
        while (from > begin && ((unsigned char)text[from] & 0xc0) == 0x80)
            from--;
    }
    return from;
}

/* Prints the source line and, under it, the caret. All positions are bytes; what is printed counts in
 * columns. */
static void print_excerpt(const char *text, size_t length, const struct flagshm_diag *item, size_t line,
                          size_t column, bool colour, FILE *out)
{
    size_t caret = item->offset < length ? item->offset : length;
    size_t begin = caret - (column - 1), end, at, n;
    const char *newline = memchr(text + caret, '\n', length - caret);
    int before = 0, under = 0, shown = 0, columns;
    uint32_t code;

    end = newline ? (size_t)(newline - text) : length;
    if (end > caret && text[end - 1] == '\r')
        end--;
    at = window_begin(text, begin, caret, end);
    fprintf(out, "%5zu | %s", line, at > begin ? "..." : "");
    before = at > begin ? 3 : 0;
    for (; at < end && shown < WINDOW_COLUMNS; at += n) {
        n = flagshm_utf8_sequence(text + at, end - at, &code);
        columns = n > 0 ? columns_of(code) : -1;
        if (columns >= 0)
            fwrite(text + at, 1, n, out);
        else
            fputc(n > 0 && code == '\t' ? ' ' : '?', out);
        n = n > 0 ? n : 1;
        columns = columns >= 0 ? columns : 1;
        shown += columns;
        if (at < caret)
            before += columns;
        else if (at < caret + item->length)
            under += columns;
    }
    fprintf(out, "%s\n      | %*s%s^", at < end ? "..." : "", before, "", colour ? "\033[1;32m" : "");
    while (--under > 0)
        fputc('~', out);
    fprintf(out, "%s\n", colour ? "\033[0m" : "");
}

void flagshm_diags_print(const struct flagshm_diags *d, const char *file, const char *text, size_t length,
                         bool colour, FILE *out)
{
    size_t i, line, column, unseen = d->errors + d->warnings - d->count;

    for (i = 0; i < d->count; i++) {
        const struct flagshm_diag *item = &d->items[i];
        const char *hue = item->severity == FLAGSHM_DIAG_ERROR ? "\033[1;31m" : "\033[1;35m";

        flagshm_diag_place(text, length, item->offset, &line, &column);
        fprintf(out, "%s%s:%zu:%zu: %s%s:%s %s%s\n", colour ? "\033[1m" : "", file, line, column,
                colour ? hue : "", severity_word(item->severity), colour ? "\033[0m\033[1m" : "",
                item->message ? item->message : "(out of memory)", colour ? "\033[0m" : "");
        print_excerpt(text, length, item, line, column, colour, out);
    }
    if (unseen > 0)
        fprintf(out, "%s: %zu more like these are not shown\n", file, unseen);
}

/* The texts of entries are printable by now; the file's name need not be. */
static void print_json_string(FILE *out, const char *text)
{
    size_t left = strlen(text), n;
    uint32_t code;

    fputc('"', out);
    for (; left > 0; text += n, left -= n) {
        n = flagshm_utf8_sequence(text, left, &code);
        if (n == 0) {
            fputs("\\ufffd", out);
            n = 1;
        } else if (code == '"' || code == '\\') {
            fprintf(out, "\\%c", (char)code);
        } else if (code < 0x20) {
            fprintf(out, "\\u%04x", (unsigned)code);
        } else {
            fwrite(text, 1, n, out);
        }
    }
    fputc('"', out);
}

char *flagshm_diags_json(const struct flagshm_diags *d, const char *file, const char *text, size_t length)
{
    char *json = NULL;
    size_t bytes = 0, i, line, column;
    FILE *out = open_memstream(&json, &bytes);
    bool failed;

    if (!out)
        return NULL;
    fputc('[', out);
    for (i = 0; i < d->count; i++) {
        const struct flagshm_diag *item = &d->items[i];

        flagshm_diag_place(text, length, item->offset, &line, &column);
        fprintf(out, "%s\n  {\"file\": ", i > 0 ? "," : "");
        print_json_string(out, file);
        fprintf(out, ", \"line\": %zu, \"column\": %zu, \"severity\": \"%s\", \"pointer\": ", line, column,
                severity_word(item->severity));
        print_json_string(out, item->pointer ? item->pointer : "");
        fputs(", \"message\": ", out);
        print_json_string(out, item->message ? item->message : "(out of memory)");
        fputc('}', out);
    }
    fputs(d->count > 0 ? "\n]\n" : "]\n", out);
    failed = ferror(out) != 0;
    failed = fclose(out) != 0 || failed;
    if (failed) {
        free(json);
        return NULL;
    }
    return json;
}

/* Of ASCII alone: what a key means must not hang on the locale. */
static unsigned lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned)c - 'A' + 'a' : (unsigned char)c;
}

/* Edits that turn one word into the other: insert, delete, replace, swap two neighbours; case ignored. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    unsigned char rows[3][WORD_MAX + 1];
    size_t i, j;

    for (j = 0; j <= b_length; j++)
        rows[0][j] = (unsigned char)j;
    for (i = 1; i <= a_length; i++) {
        unsigned char *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];

        row[0] = (unsigned char)i;
        for (j = 1; j <= b_length; j++) {
            unsigned x = lower(a[i - 1]), y = lower(b[j - 1]);
            unsigned best = above[j - 1] + (x != y ? 1u : 0u);

            if (above[j] + 1u < best)
                best = above[j] + 1u;
            if (row[j - 1] + 1u < best)
                best = row[j - 1] + 1u;
            if (i > 1 && j > 1 && x == lower(b[j - 2]) && y == lower(a[i - 2]) && above2[j - 2] + 1u < best)
                best = above2[j - 2] + 1u;
            row[j] = (unsigned char)best;
        }
    }
    return rows[a_length % 3][b_length];
}

const char *flagshm_did_you_mean(const char *word, size_t length, const char *const *words)
{
    const char *nearest = NULL;
    size_t best = 3;

    if (length > WORD_MAX)
        return NULL;
    for (; *words; words++) {
        size_t candidate = strlen(*words), distance;

        if (candidate > WORD_MAX || candidate > length + 2 || length > candidate + 2)
            continue;
        distance = edit_distance(word, length, *words, candidate);
        if (distance < best && distance * 2 < length) {
            best = distance;
            nearest = *words;
        }
    }
    return nearest;
}
