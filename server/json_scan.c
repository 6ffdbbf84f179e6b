/* json_scan: the grammar. Each function leaves s->at behind what it read, or at the fault; recursion is
 * bounded by the depth limit. */
#include "client/flagshm.h"
#include "server/json_scan_internal.h"
#include "server/utf8.h"

#include <stdlib.h>
#include <string.h>

#define NOBODY UINT32_MAX

static bool value(struct flagshm_scan *s, size_t key_offset, size_t key_bytes);

static void skip_space(struct flagshm_scan *s)
{
    s->at = (size_t)(flagshm_scan_solid(s->text + s->at, s->text + s->length) - s->text);
}

static bool is_digit(struct flagshm_scan *s)
{
    return s->at < s->length && s->text[s->at] >= '0' && s->text[s->at] <= '9';
}

static bool is_at(struct flagshm_scan *s, char c)
{
    return s->at < s->length && s->text[s->at] == c;
}

/* Index of a new place, NOBODY without memory. */
static uint32_t add_place(struct flagshm_scan *s)
{
    struct flagshm_json_places *places = s->places;
    struct flagshm_json_place *items;

    if (places->count == s->capacity) {
        s->capacity =
            s->capacity ? s->capacity * 2 : s->length / 16 + 16; /* a flag takes about 20 bytes a value */
        items = flagshm_arena_take(s->arena, s->capacity * sizeof *items);
        if (!items) {
            places->is_out_of_memory = true;
            return NOBODY;
        }
        if (places->count > 0)
            memcpy(items, places->items, places->count * sizeof *items);
        places->items = items;
    }
    return (uint32_t)places->count++;
}

/* Moves over the bytes that stand for themselves: printable ASCII but for '"' and '\'. */
static void skip_plain(struct flagshm_scan *s)
{
    s->at = (size_t)(flagshm_scan_plain(s->text + s->at, s->text + s->length) - s->text);
}

/* The four hexadecimal digits of a \u escape that begins at `at`; NOBODY where they are not. */
static uint32_t unicode_escape(const struct flagshm_scan *s, size_t at)
{
    uint32_t code = 0;
    size_t i;

    if (s->length - at < 6 || s->text[at] != '\\' || s->text[at + 1] != 'u')
        return NOBODY;
    for (i = at + 2; i < at + 6; i++) {
        char c = s->text[i];

        if (c >= '0' && c <= '9')
            code = code << 4 | (uint32_t)(c - '0');
        else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
            code = code << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return NOBODY;
    }
    return code;
}

static bool escape(struct flagshm_scan *s)
{
    uint32_t code, low;

    if (s->length - s->at >= 2 && s->text[s->at + 1] != '\0' && strchr("\"\\/bfnrt", s->text[s->at + 1])) {
        s->at += 2;
        return true;
    }
    code = unicode_escape(s, s->at);
    if (code == NOBODY || code == 0 || (code >= 0xdc00 && code <= 0xdfff))
        return flagshm_scan_fault_escape(s);
    if (code >= 0xd800 && code <= 0xdbff) {
        low = unicode_escape(s, s->at + 6);
        if (low < 0xdc00 || low > 0xdfff)
            return flagshm_scan_fault_escape(s);
        s->at += 6;
    }
    s->at += 6;
    return true;
}

static bool string(struct flagshm_scan *s, bool *has_escapes)
{
    size_t begin = s->at++, n;
    uint32_t code;

    for (;;) {
        skip_plain(s);
        if (is_at(s, '"')) {
            s->at++;
            return true;
        }
        if (is_at(s, '\\')) {
            *has_escapes = true;
            if (!escape(s))
                return false;
            continue;
        }
        n = flagshm_utf8_sequence(s->text + s->at, s->length - s->at, &code);
        if (n < 2)
            return flagshm_scan_fault_string(s, begin);
        s->at += n;
    }
}

static bool number(struct flagshm_scan *s)
{
    size_t begin = s->at;

    if (is_at(s, '-'))
        s->at++;
    if (!is_digit(s))
        return flagshm_scan_fault_number(s, begin);
    if (is_at(s, '0'))
        s->at++;
    else
        while (is_digit(s))
            s->at++;
    if (is_at(s, '.')) {
        s->at++;
        if (!is_digit(s))
            return flagshm_scan_fault_number(s, begin);
        while (is_digit(s))
            s->at++;
    }
    if (is_at(s, 'e') || is_at(s, 'E')) {
        s->at++;
        if (is_at(s, '+') || is_at(s, '-'))
            s->at++;
        if (!is_digit(s))
            return flagshm_scan_fault_number(s, begin);
        while (is_digit(s))
            s->at++;
    }
    if (s->at < s->length && flagshm_scan_is_word(s->text[s->at]))
        return flagshm_scan_fault_number(s, begin);
    return true;
}

static bool word(struct flagshm_scan *s, const char *expected)
{
    size_t length = strlen(expected), behind = s->at + length;

    if (s->length - s->at < length || memcmp(s->text + s->at, expected, length) != 0)
        return flagshm_scan_fault_value(s);
    if (behind < s->length && flagshm_scan_is_word(s->text[behind]))
        return flagshm_scan_fault_value(s);
    s->at = behind;
    return true;
}

static bool enter(struct flagshm_scan *s)
{
    if (s->depth == FLAGSHM_JSON_DEPTH_MAX)
        return flagshm_scan_fault(s, s->at, 1, "nested deeper than %d levels", FLAGSHM_JSON_DEPTH_MAX);
    s->open[s->depth++] = (uint32_t)s->at++;
    skip_space(s);
    return true;
}

/* After a value in a container: true and *more where a ',' follows, true where the container is closed. */
static bool next_or_close(struct flagshm_scan *s, char closer, bool *more)
{
    skip_space(s);
    *more = is_at(s, ',');
    if (!*more && !is_at(s, closer))
        return flagshm_scan_fault_comma(s, closer);
    s->at++;
    if (*more)
        skip_space(s);
    else
        s->depth--;
    return true;
}

static bool member(struct flagshm_scan *s, bool *has_escapes)
{
    size_t key = s->at, key_bytes;

    if (!is_at(s, '"'))
        return flagshm_scan_fault_key(s);
    if (!string(s, has_escapes))
        return false;
    key_bytes = s->at - key;
    skip_space(s);
    if (!is_at(s, ':'))
        return flagshm_scan_fault_colon(s);
    s->at++;
    skip_space(s);
    return value(s, key, key_bytes);
}

static bool object(struct flagshm_scan *s, uint32_t place)
{
    uint32_t members = 0;
    bool has_escapes = false, more = true;

    if (!enter(s))
        return false;
    if (is_at(s, '}')) {
        s->at++;
        s->depth--;
        return true;
    }
    for (; more; members++)
        if (!member(s, &has_escapes) || !next_or_close(s, '}', &more))
            return false;
    return members < 2 || flagshm_scan_duplicates(s, place, members, has_escapes);
}

static bool array(struct flagshm_scan *s)
{
    bool more = true;

    if (!enter(s))
        return false;
    if (is_at(s, ']')) {
        s->at++;
        s->depth--;
        return true;
    }
    while (more)
        if (!value(s, 0, 0) || !next_or_close(s, ']', &more))
            return false;
    return true;
}

static bool value(struct flagshm_scan *s, size_t key_offset, size_t key_bytes)
{
    uint32_t index = add_place(s);
    size_t begin = s->at;
    struct flagshm_json_place *place;
    bool sound, ignored;

    if (index == NOBODY)
        return false;
    switch (s->at < s->length ? s->text[s->at] : '\0') {
    case '"':
        sound = string(s, &ignored);
        break;
    case '{':
        sound = object(s, index);
        break;
    case '[':
        sound = array(s);
        break;
    case 't':
        sound = word(s, "true");
        break;
    case 'f':
        sound = word(s, "false");
        break;
    case 'n':
        sound = word(s, "null");
        break;
    default:
        sound = is_digit(s) || is_at(s, '-') ? number(s) : flagshm_scan_fault_value(s);
        break;
    }
    if (!sound)
        return false;
    place = &s->places->items[index];
    place->offset = (uint32_t)begin;
    place->bytes = (uint32_t)(s->at - begin);
    place->key_offset = (uint32_t)key_offset;
    place->key_bytes = (uint32_t)key_bytes;
    place->next = (uint32_t)s->places->count;
    return true;
}

static bool has_wrong_encoding(struct flagshm_scan *s)
{
    const unsigned char *b = (const unsigned char *)s->text;

    if (s->length >= 3 && memcmp(b, "\xef\xbb\xbf", 3) == 0)
        return !flagshm_scan_fault(s, 0, 3,
                                   "the file begins with a byte order mark: save it as UTF-8 without one");
    if (s->length >= 2 &&
        ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff) || (b[0] == 0) != (b[1] == 0)))
        return !flagshm_scan_fault(s, 0, 1, "the file looks like UTF-16 or UTF-32: save it as UTF-8");
    return false;
}

static int compare_duplicates(const void *a, const void *b)
{
    const struct flagshm_json_duplicate *x = a, *y = b;

    return (x->again > y->again) - (x->again < y->again);
}

/* The duplicate keys that were found, also where the text goes wrong behind them. */
static void list_duplicates(struct flagshm_scan *s)
{
    struct flagshm_json_places *places = s->places;
    size_t i, line, column;

    if (places->duplicate_count > 1)
        qsort(places->duplicates, places->duplicate_count, sizeof *places->duplicates, compare_duplicates);
    for (i = 0; i < places->duplicate_count; i++) {
        const struct flagshm_json_duplicate *d = &places->duplicates[i];
        const struct flagshm_json_place *place = &places->items[d->again];
        const char *pointer = "";

        line = 0;
        if (s->diags->count < FLAGSHM_DIAG_MAX) { /* both cost a look at much that stands before */
            flagshm_diag_place(s->text, s->length, places->items[d->first].key_offset, &line, &column);
            if (places->is_whole)
                pointer = flagshm_json_pointer(s->text, places, d->again, s->arena);
        }
        flagshm_diags_add(s->diags, FLAGSHM_DIAG_ERROR, place->key_offset, place->key_bytes, pointer,
                          "duplicate key %.*s (first on line %zu)",
                          (int)(place->key_bytes < 80 ? place->key_bytes : 80), s->text + place->key_offset,
                          line);
    }
}

bool flagshm_json_scan(const char *text, size_t length, struct flagshm_arena *arena,
                       struct flagshm_json_places *places, struct flagshm_diags *diags)
{
    struct flagshm_scan s = {
        .text = text, .length = length, .places = places, .arena = arena, .diags = diags};

    memset(places, 0, sizeof *places);
    if (length >= UINT32_MAX)
        return flagshm_scan_fault(&s, 0, 1, "the text has %zu bytes, at most 4 GiB can be scanned", length);
    if (has_wrong_encoding(&s))
        return false;
    skip_space(&s);
    if (s.at == length)
        return flagshm_scan_fault(&s, 0, 1, "the text is empty");
    if (value(&s, 0, 0)) {
        skip_space(&s);
        places->is_whole = s.at == length || flagshm_scan_fault_after(&s);
    }
    list_duplicates(&s);
    return places->is_whole && places->duplicate_count == 0;
}
