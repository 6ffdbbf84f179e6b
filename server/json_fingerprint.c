/* json_fingerprint: what a value is, apart from its layout: the text without white space, and a hash that
 * does not see the order of keys. Both take text that the scanner has found sound, and look at nothing
 * twice but at each object's members. */
#include "server/json_scan_internal.h"

#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The byte behind the string that begins at `at`. */
static const char *behind_string(const char *at, const char *end)
{
    at = flagshm_scan_plain(at + 1, end);
    while (*at != '"')
        at = flagshm_scan_plain(at + (*at == '\\' ? 2 : 1), end);
    return at + 1;
}

size_t flagshm_json_compact(const char *text, size_t length, char *out)
{
    const char *end = text + length, *behind;
    char *begin = out;

    while (text < end) {
        if (*text == '"') {
            behind = behind_string(text, end);
            memcpy(out, text, (size_t)(behind - text));
            out += behind - text;
            text = behind;
        } else if (is_space(*text)) {
            text++;
        } else {
            *out++ = *text++;
        }
    }
    return (size_t)(out - begin);
}

#define FEW_MEMBERS 12 /* on the stack, at each depth */

struct member {
    const char *key, *value;
    size_t key_bytes;
};

struct sorted {
    char *out;
    struct flagshm_arena *scratch;
    bool no_memory;
};

/* The byte behind the compact value that begins at `at`. */
static const char *behind_value(const char *at, const char *end)
{
    size_t depth = 0;

    while (at < end) {
        if (*at == '"') {
            at = behind_string(at, end);
            continue;
        }
        if (*at == '{' || *at == '[')
            depth++;
        else if (*at == '}' || *at == ']' || *at == ',') {
            if (depth == 0)
                return at;
            depth -= *at != ',';
        }
        at++;
    }
    return at;
}

static int compare_members(const void *left, const void *right)
{
    const struct member *a = left, *b = right;
    size_t shorter = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
    int order = memcmp(a->key, b->key, shorter);

    return order != 0 ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

static void put(struct sorted *s, const char *bytes, size_t length)
{
    memcpy(s->out, bytes, length);
    s->out += length;
}

static const char *put_value(struct sorted *s, const char *at, const char *end);

/* The members of the compact object at `at`: in `few` where they fit, else in memory of their own; NULL
 * without memory. */
static struct member *list_members(struct sorted *s, const char *at, const char *end,
                                   struct member few[FEW_MEMBERS], size_t *count)
{
    struct member *members = few, *more;
    size_t room = FEW_MEMBERS, n = 0;

    for (at++; *at != '}'; n++) {
        if (n == room) {
            more = flagshm_arena_take(s->scratch, 2 * room * sizeof *more);
            if (!more)
                return NULL;
            memcpy(more, members, n * sizeof *more);
            members = more;
            room *= 2;
        }
        members[n].key = at;
        at = behind_string(at, end);
        members[n].key_bytes = (size_t)(at - members[n].key);
        members[n].value = ++at; /* behind the ':' */
        at = behind_value(at, end);
        at += *at == ',';
    }
    *count = n;
    return members;
}

/* Few are sorted by hand: qsort takes its time to begin. */
static void sort_members(struct member *members, size_t count)
{
    size_t i, j;

    if (count > FEW_MEMBERS) {
        qsort(members, count, sizeof *members, compare_members);
        return;
    }
    for (i = 1; i < count; i++) {
        struct member member = members[i];

        for (j = i; j > 0 && compare_members(&members[j - 1], &member) > 0; j--)
            members[j] = members[j - 1];
        members[j] = member;
    }
}

static const char *put_object(struct sorted *s, const char *at, const char *end)
{
    struct member few[FEW_MEMBERS];
    size_t count, i;
    struct member *members = list_members(s, at, end, few, &count);
    const char *behind = at + 1, *value_end;

    if (!members) {
        s->no_memory = true;
        return end;
    }
    sort_members(members, count);
    put(s, "{", 1);
    for (i = 0; i < count; i++) {
        if (i > 0)
            put(s, ",", 1);
        put(s, members[i].key, members[i].key_bytes);
        put(s, ":", 1);
        value_end = put_value(s, members[i].value, end);
        behind = value_end > behind ? value_end : behind;
    }
    put(s, "}", 1);
    return behind + 1;
}

/* Writes the compact value at `at` with sorted keys; returns the byte behind it. */
static const char *put_value(struct sorted *s, const char *at, const char *end)
{
    const char *behind;

    if (*at == '{')
        return put_object(s, at, end);
    if (*at != '[') {
        behind = behind_value(at, end);
        put(s, at, (size_t)(behind - at));
        return behind;
    }
    put(s, at++, 1);
    while (!s->no_memory && *at != ']') {
        if (*at == ',')
            put(s, at++, 1);
        at = put_value(s, at, end);
    }
    put(s, "]", 1);
    return at + 1;
}

static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t hash = flagshm_hash64_(text, length, 0);

    return hash != 0 ? hash : 1;
}

uint64_t flagshm_json_fingerprint_compact(const char *compact, size_t length, struct flagshm_arena *scratch)
{
    struct sorted s = {.scratch = scratch};
    char *begin;

    if (length == 0 || (*compact != '{' && *compact != '['))
        return hash_of(compact, length);
    s.out = begin = flagshm_arena_take(scratch, length);
    if (!begin)
        return 0;
    put_value(&s, compact, compact + length);
    return s.no_memory ? 0 : hash_of(begin, (size_t)(s.out - begin));
}

uint64_t flagshm_json_fingerprint(const char *text, size_t length, struct flagshm_arena *scratch)
{
    char *compact = flagshm_arena_take(scratch, length);

    return compact ? flagshm_json_fingerprint_compact(compact, flagshm_json_compact(text, length, compact),
                                                      scratch)
                   : 0;
}
