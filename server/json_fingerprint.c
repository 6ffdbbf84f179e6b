/* json_fingerprint: what a value is, apart from its layout: the text without white space, and a hash that
 * does not see the order of keys. Both take text that the scanner has found sound, and look at nothing
 * twice but at each object's members. */
#include "client/flagshm.h"
#include "server/json_scan.h"

#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The byte behind the string that begins at `at`. */
static const char *behind_string(const char *at)
{
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

size_t flagshm_json_compact(const char *text, size_t length, char *out)
{
    const char *end = text + length, *behind;
    char *begin = out;

    while (text < end) {
        if (*text == '"') {
            behind = behind_string(text);
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
            at = behind_string(at);
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

/* The members of the compact object at `at`; NULL without memory. */
static struct member *list_members(struct sorted *s, const char *at, const char *end, size_t *count)
{
    struct member *members;
    const char *scan = at + 1;
    size_t n = 0, i;

    while (*scan != '}') {
        scan = behind_value(scan, end); /* ':' is no closer: this passes the key and its value */
        scan += *scan == ',';
        n++;
    }
    members = flagshm_arena_take(s->scratch, n * sizeof *members);
    for (i = 0, scan = at + 1; members && i < n; i++) {
        members[i].key = scan;
        scan = behind_string(scan);
        members[i].key_bytes = (size_t)(scan - members[i].key);
        members[i].value = scan + 1;
        scan = behind_value(scan, end) + 1;
    }
    *count = n;
    return members;
}

static const char *put_object(struct sorted *s, const char *at, const char *end)
{
    size_t count, i;
    struct member *members = list_members(s, at, end, &count);
    const char *behind = at + 1, *value_end;

    if (!members) {
        s->no_memory = true;
        return end;
    }
    if (count > 1)
        qsort(members, count, sizeof *members, compare_members);
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

uint64_t flagshm_json_fingerprint(const char *text, size_t length, struct flagshm_arena *scratch)
{
    struct sorted s = {.scratch = scratch};
    char *compact, *begin;
    size_t bytes;
    uint64_t hash;

    while (length > 0 && is_space(*text)) {
        text++;
        length--;
    }
    while (length > 0 && is_space(text[length - 1]))
        length--;
    if (length > 0 && *text != '{' && *text != '[') {
        hash = flagshm_hash64_(text, length, 0);
        return hash != 0 ? hash : 1;
    }
    compact = flagshm_arena_take(scratch, length);
    begin = flagshm_arena_take(scratch, length);
    if (!compact || !begin)
        return 0;
    bytes = flagshm_json_compact(text, length, compact);
    s.out = begin;
    put_value(&s, compact, compact + bytes);
    if (s.no_memory)
        return 0;
    hash = flagshm_hash64_(begin, bytes, 0);
    return hash != 0 ? hash : 1;
}
