/* flagfile_read: single values of a flag file, and the words for what is wrong with them. A message names
 * the key, what it may be, and what stands there instead. */
#include "server/flagfile_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

#define SHOWN_BYTES      44 /* of a bad value in a message */
#define NUMBER_CHARS_MAX 63 /* cJSON reads no longer ones */

static const struct flagshm_json_place *place_of(const struct flagshm_reader *r, struct flagshm_spot spot)
{
    return &r->places.items[spot.at];
}

/* cJSON's tree and the places were made apart from one text: the n-th node must be the n-th place. */
__attribute__((unused)) static bool agrees(const struct flagshm_reader *r, struct flagshm_spot spot)
{
    char first = *flagshm_spot_text(r, spot);

    switch (first) {
    case '{':
        return cJSON_IsObject(spot.node);
    case '[':
        return cJSON_IsArray(spot.node);
    case '"':
        return cJSON_IsString(spot.node);
    case 't':
    case 'f':
        return cJSON_IsBool(spot.node);
    case 'n':
        return cJSON_IsNull(spot.node);
    default:
        return cJSON_IsNumber(spot.node);
    }
}

struct flagshm_spot flagshm_spot_child(const struct flagshm_reader *r, struct flagshm_spot parent)
{
    struct flagshm_spot child = {parent.node->child, parent.at + 1};

    assert(child.node ? agrees(r, child) : place_of(r, parent)->next == child.at);
    (void)r;
    return child;
}

struct flagshm_spot flagshm_spot_next(const struct flagshm_reader *r, struct flagshm_spot spot)
{
    struct flagshm_spot next = {spot.node->next, place_of(r, spot)->next};

    assert(!next.node || agrees(r, next));
    return next;
}

const char *flagshm_spot_text(const struct flagshm_reader *r, struct flagshm_spot spot)
{
    return r->text + place_of(r, spot)->offset;
}

size_t flagshm_spot_bytes(const struct flagshm_reader *r, struct flagshm_spot spot)
{
    return place_of(r, spot)->bytes;
}

static void add(struct flagshm_reader *r, enum flagshm_severity severity, uint32_t at, bool at_key,
                const char *format, va_list arguments)
{
    const struct flagshm_json_place *place = &r->places.items[at];
    const char *pointer = "";
    char message[512];

    at_key = at_key && place->key_bytes > 0;
    vsnprintf(message, sizeof message, format, arguments);
    if (r->diags->count < FLAGSHM_DIAG_MAX) /* it costs a look at all that stands before */
        pointer = flagshm_json_pointer(r->text, &r->places, at, &r->scratch);
    flagshm_diags_add(r->diags, severity, at_key ? place->key_offset : place->offset,
                      at_key ? place->key_bytes : place->bytes, pointer, "%s", message);
}

void flagshm_reader_error(struct flagshm_reader *r, struct flagshm_spot spot, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(r, FLAGSHM_DIAG_ERROR, spot.at, false, format, arguments);
    va_end(arguments);
}

void flagshm_reader_key_error(struct flagshm_reader *r, struct flagshm_spot spot, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(r, FLAGSHM_DIAG_ERROR, spot.at, true, format, arguments);
    va_end(arguments);
}

void flagshm_reader_key_warning(struct flagshm_reader *r, struct flagshm_spot spot, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(r, FLAGSHM_DIAG_WARNING, spot.at, true, format, arguments);
    va_end(arguments);
}

/* The value as a message shows it: as it is spelled, cut where it is long. */
static const char *shown(const struct flagshm_reader *r, struct flagshm_spot spot, char out[SHOWN_BYTES + 8])
{
    size_t bytes = flagshm_spot_bytes(r, spot), n = bytes < SHOWN_BYTES ? bytes : SHOWN_BYTES;
    const char *text = flagshm_spot_text(r, spot);

    if (cJSON_IsObject(spot.node))
        return "an object";
    if (cJSON_IsArray(spot.node))
        return "a list";
    while (n < bytes && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    snprintf(out, SHOWN_BYTES + 8, "%.*s%s", (int)n, text, n < bytes ? "..." : "");
    return out;
}

void flagshm_reader_mismatch(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                             const char *expected)
{
    char buffer[SHOWN_BYTES + 8];

    flagshm_reader_error(r, spot, "%s must be %s, got %s", what, expected, shown(r, spot, buffer));
}

void flagshm_reader_unknown(struct flagshm_reader *r, struct flagshm_spot spot, const char *const *words,
                            const char *noun)
{
    const char *key = spot.node->string, *nearest = flagshm_did_you_mean(key, strlen(key), words);

    if (nearest)
        flagshm_reader_key_error(r, spot, "unknown %s \"%.80s\" (did you mean \"%s\"?)", noun, key, nearest);
    else
        flagshm_reader_key_error(r, spot, "unknown %s \"%.80s\"", noun, key);
}

bool flagshm_reader_comment(struct flagshm_reader *r, struct flagshm_spot spot)
{
    if (spot.node->string[0] != '$' || strcmp(spot.node->string, "$comment") != 0)
        return false;
    if (!cJSON_IsString(spot.node))
        flagshm_reader_mismatch(r, spot, "$comment", "a string");
    return true;
}

#define KEYS_MAX 24

/* Most keys that are compared differ in their first letter. */
static bool is_same(const char *a, const char *b)
{
    return a[0] == b[0] && strcmp(a, b) == 0;
}

void flagshm_reader_object(struct flagshm_reader *r, struct flagshm_spot object, const char *what,
                           const struct flagshm_key *keys, void *into)
{
    const struct flagshm_key *key;
    const char *names[KEYS_MAX + 1];
    struct flagshm_spot spot;
    size_t n = 0;

    if (!cJSON_IsObject(object.node)) {
        flagshm_reader_mismatch(r, object, what, "an object");
        return;
    }
    for (spot = flagshm_spot_child(r, object); spot.node; spot = flagshm_spot_next(r, spot)) {
        for (key = keys; key->name && !is_same(key->name, spot.node->string);)
            key++;
        if (key->name) {
            key->read(r, spot, into);
        } else if (!flagshm_reader_comment(r, spot)) {
            for (n = 0; keys[n].name; n++) {
                assert(n < KEYS_MAX);
                names[n] = keys[n].name;
            }
            names[n] = NULL;
            flagshm_reader_unknown(r, spot, names, "key");
        }
    }
}

bool flagshm_reader_bool(struct flagshm_reader *r, struct flagshm_spot spot, const char *what, bool *out)
{
    if (!cJSON_IsBool(spot.node)) {
        flagshm_reader_mismatch(r, spot, what, "true or false");
        return false;
    }
    *out = cJSON_IsTrue(spot.node);
    return true;
}

bool flagshm_reader_string(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                           size_t min_bytes, size_t max_bytes, const char **out, size_t *bytes)
{
    size_t length;

    if (!cJSON_IsString(spot.node)) {
        flagshm_reader_mismatch(r, spot, what, "a string");
        return false;
    }
    length = strlen(spot.node->valuestring);
    if (length < min_bytes) {
        flagshm_reader_error(r, spot, "%s must not be empty", what);
        return false;
    }
    if (length > max_bytes) {
        flagshm_reader_error(r, spot, "%s may have at most %zu bytes, got %zu", what, max_bytes, length);
        return false;
    }
    if (out) {
        *out = flagshm_arena_copy(&r->file->arena, spot.node->valuestring, length);
        r->no_memory = r->no_memory || !*out;
    }
    if (bytes)
        *bytes = length;
    return !r->no_memory;
}

bool flagshm_reader_whole(struct flagshm_reader *r, struct flagshm_spot spot, const char *what, uint64_t min,
                          uint64_t max, uint64_t *out)
{
    const char *text = flagshm_spot_text(r, spot);
    size_t bytes = flagshm_spot_bytes(r, spot), i;
    uint64_t number = 0;
    char expected[80];

    for (i = 0; i < bytes && text[i] >= '0' && text[i] <= '9' && number <= max; i++)
        number = number * 10 + (uint64_t)(text[i] - '0'); /* max is far below the word's end */
    if (!cJSON_IsNumber(spot.node) || i < bytes || number < min || number > max) {
        snprintf(expected, sizeof expected, "a whole number %llu..%llu", (unsigned long long)min,
                 (unsigned long long)max);
        flagshm_reader_mismatch(r, spot, what, expected);
        return false;
    }
    *out = number;
    return true;
}

bool flagshm_reader_number(struct flagshm_reader *r, struct flagshm_spot spot, const char *what, double min,
                           double max, double *out)
{
    char expected[80];

    if (cJSON_IsNumber(spot.node) && flagshm_spot_bytes(r, spot) > NUMBER_CHARS_MAX) {
        flagshm_reader_error(r, spot, "%s has more than %d characters", what, NUMBER_CHARS_MAX);
        return false;
    }
    if (!cJSON_IsNumber(spot.node) || !(spot.node->valuedouble >= min && spot.node->valuedouble <= max)) {
        snprintf(expected, sizeof expected, "a number %.15g..%.15g", min, max);
        flagshm_reader_mismatch(r, spot, what, expected);
        return false;
    }
    *out = spot.node->valuedouble;
    return true;
}

/* The digits behind the point, without zeros that say nothing: none are needed beyond three. */
static bool has_many_decimals(const char *text, size_t bytes)
{
    const char *point = memchr(text, '.', bytes);

    return point && bytes - (size_t)(point - text) - 1 > 3;
}

bool flagshm_reader_share(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                          uint32_t min_mpct, uint32_t *mpct)
{
    const char *text = flagshm_spot_text(r, spot);
    size_t bytes = flagshm_spot_bytes(r, spot);
    char expected[40], low[16];

    if (cJSON_IsNumber(spot.node) && flagshm_mpct_from_text(text, bytes, mpct) && *mpct >= min_mpct)
        return true;
    snprintf(expected, sizeof expected, "%s..100", flagshm_mpct_to_text(min_mpct, low));
    if (!cJSON_IsNumber(spot.node)) {
        snprintf(expected, sizeof expected, "a number %s..100", flagshm_mpct_to_text(min_mpct, low));
        flagshm_reader_mismatch(r, spot, what, expected);
    } else if (memchr(text, 'e', bytes) || memchr(text, 'E', bytes)) {
        flagshm_reader_mismatch(r, spot, what, "a plain decimal without an exponent");
    } else if (has_many_decimals(text, bytes) && spot.node->valuedouble >= 0 &&
               spot.node->valuedouble <= 100) {
        flagshm_reader_mismatch(r, spot, what, "a number with at most three decimals");
    } else {
        flagshm_reader_mismatch(r, spot, what, expected);
    }
    return false;
}

/* "a", "b" or "c" */
static void list_words(const char *const *words, char *out, size_t size)
{
    size_t i, used = 0;

    for (i = 0; words[i] && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s\"%s\"",
                                 i == 0         ? ""
                                 : words[i + 1] ? ", "
                                                : " or ",
                                 words[i]);
}

bool flagshm_reader_word(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                         const char *const *words, size_t *index)
{
    char expected[320], buffer[SHOWN_BYTES + 8];
    const char *nearest = NULL;
    size_t i;

    if (cJSON_IsString(spot.node)) {
        for (i = 0; words[i]; i++)
            if (strcmp(words[i], spot.node->valuestring) == 0) {
                *index = i;
                return true;
            }
        nearest = flagshm_did_you_mean(spot.node->valuestring, strlen(spot.node->valuestring), words);
    }
    list_words(words, expected, sizeof expected);
    if (nearest)
        flagshm_reader_error(r, spot, "%s must be %s, got %s (did you mean \"%s\"?)", what, expected,
                             shown(r, spot, buffer), nearest);
    else
        flagshm_reader_mismatch(r, spot, what, expected);
    return false;
}

bool flagshm_reader_duration(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                             uint64_t *ns)
{
    static const char units[] = "smhd";
    static const uint64_t seconds[] = {1, 60, 3600, 86400};
    const char *text = cJSON_IsString(spot.node) ? spot.node->valuestring : "", *unit;
    size_t digits = strspn(text, "0123456789"), i;
    uint64_t number = 0;

    if (digits >= 1 && digits <= 5 && text[0] != '0' && strlen(text) == digits + 1 &&
        (unit = strchr(units, text[digits]))) {
        for (i = 0; i < digits; i++)
            number = number * 10 + (uint64_t)(text[i] - '0');
        *ns = number * seconds[unit - units] * UINT64_C(1000000000);
        return true;
    }
    flagshm_reader_mismatch(r, spot, what, "a duration like \"30s\", \"10m\", \"4h\" or \"7d\"");
    return false;
}

static bool is_date(const char *text)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int part[3] = {0, 0, 0}, i, at = 0;

    if (strlen(text) != 10)
        return false;
    for (i = 0; i < 10; i++) {
        if (i == 4 || i == 7) {
            if (text[i] != '-')
                return false;
            at++;
        } else {
            if (text[i] < '0' || text[i] > '9')
                return false;
            part[at] = part[at] * 10 + (text[i] - '0');
        }
    }
    if (part[1] < 1 || part[1] > 12 || part[2] < 1)
        return false;
    if (part[1] == 2 && part[0] % 4 == 0 && (part[0] % 100 != 0 || part[0] % 400 == 0))
        return part[2] <= 29;
    return part[2] <= days[part[1] - 1];
}

bool flagshm_reader_date(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                         const char **out)
{
    if (!cJSON_IsString(spot.node) || !is_date(spot.node->valuestring)) {
        flagshm_reader_mismatch(r, spot, what, "a date of the calendar as \"YYYY-MM-DD\"");
        return false;
    }
    return flagshm_reader_string(r, spot, what, 0, 10, out, NULL);
}

static bool is_alphanumeric(char c)
{
    unsigned char letter = (unsigned char)((c | 0x20) - 'a'), digit = (unsigned char)(c - '0');

    return letter < 26 || digit < 10;
}

bool flagshm_is_name(const char *name, size_t length, size_t max_bytes, const char *others)
{
    size_t i;

    if (length < 1 || length > max_bytes || !is_alphanumeric(name[0]))
        return false;
    for (i = 1; i < length; i++)
        if (!is_alphanumeric(name[i]) && (name[i] == '\0' || strchr(others, name[i]) == NULL))
            return false;
    return true;
}

bool flagshm_reader_name(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                         size_t max_bytes, const char *others)
{
    char expected[120];

    if (cJSON_IsString(spot.node) &&
        flagshm_is_name(spot.node->valuestring, strlen(spot.node->valuestring), max_bytes, others))
        return true;
    snprintf(expected, sizeof expected,
             "a name of 1..%zu letters, digits or any of \"%s\", the first a letter or digit", max_bytes,
             others);
    flagshm_reader_mismatch(r, spot, what, expected);
    return false;
}

bool flagshm_is_flag_name(const char *name, size_t length)
{
    return flagshm_is_name(name, length, 64, "_.-");
}

bool flagshm_is_instance_name(const char *name, size_t length)
{
    return flagshm_is_name(name, length, 32, "_-");
}

bool flagshm_mpct_from_text(const char *text, size_t length, uint32_t *mpct)
{
    uint32_t whole = 0, part = 0, scale = 1000;
    size_t i = 0;

    for (; i < length && i < 3 && text[i] >= '0' && text[i] <= '9'; i++)
        whole = whole * 10 + (uint32_t)(text[i] - '0');
    if (i == 0 || (i > 1 && text[0] == '0'))
        return false;
    if (i < length) {
        if (text[i] != '.' || length - i - 1 < 1 || length - i - 1 > 3)
            return false;
        for (i++; i < length; i++) {
            if (text[i] < '0' || text[i] > '9')
                return false;
            scale /= 10;
            part += (uint32_t)(text[i] - '0') * scale;
        }
    }
    if (whole * 1000 + part > FLAGSHM_MPCT_FULL)
        return false;
    *mpct = whole * 1000 + part;
    return true;
}

/* Digits by hand: each flag of each table has its share spelled out. */
char *flagshm_mpct_to_text(uint32_t mpct, char out[16])
{
    char digits[16];
    uint32_t whole = mpct / 1000, part = mpct % 1000;
    size_t at = sizeof digits, used = 0, scale;

    do
        digits[--at] = (char)('0' + whole % 10);
    while ((whole /= 10) != 0);
    for (; at < sizeof digits; at++)
        out[used++] = digits[at];
    if (part != 0)
        out[used++] = '.';
    for (scale = 100; part != 0; part %= (uint32_t)scale, scale /= 10)
        out[used++] = (char)('0' + part / scale);
    out[used] = '\0';
    return out;
}
