/* json_scan_keys: keys by what they mean: decoded, compared, put together to a pointer. */
#include "client/flagshm.h"
#include "server/json_scan_internal.h"

#include <stdlib.h>
#include <string.h>

#define FEW_MEMBERS 8  /* up to here each key is compared with each: no memory, and faster than hashing */
#define FEW_KEYS    16 /* the same for keys whose hashes meet */

struct key {
    uint64_t hash;
    const char *bytes; /* decoded */
    uint32_t length, place;
};

static size_t put_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

static uint32_t four_digits(const char *digits)
{
    uint32_t code = 0;
    int i;

    for (i = 0; i < 4; i++)
        code = code << 4 | (uint32_t)(digits[i] <= '9' ? digits[i] - '0' : (digits[i] | 0x20) - 'a' + 10);
    return code;
}

size_t flagshm_json_unescape(const char *inside, size_t length, char *out)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    const char *end = inside + length, *letter;
    char *begin = out;

    while (inside < end) {
        uint32_t code;

        if (*inside != '\\') {
            *out++ = *inside++;
            continue;
        }
        if (inside[1] != 'u') {
            letter = strchr(letters, inside[1]);
            *out++ = letter ? meanings[letter - letters] : inside[1];
            inside += 2;
            continue;
        }
        code = four_digits(inside + 2);
        inside += 6;
        if (code >= 0xd800 && code <= 0xdbff) {
            code = 0x10000 + ((code - 0xd800) << 10) + (four_digits(inside + 2) - 0xdc00);
            inside += 6;
        }
        out += put_utf8(code, out);
    }
    return (size_t)(out - begin);
}

static bool add_duplicate(struct flagshm_scan *s, uint32_t first, uint32_t again)
{
    struct flagshm_json_places *places = s->places;

    if (places->duplicate_count == places->duplicate_capacity) {
        size_t capacity = places->duplicate_capacity ? places->duplicate_capacity * 2 : 16;
        struct flagshm_json_duplicate *items = flagshm_arena_take(s->arena, capacity * sizeof *items);

        if (!items)
            return false;
        if (places->duplicate_count > 0)
            memcpy(items, places->duplicates, places->duplicate_count * sizeof *items);
        places->duplicates = items;
        places->duplicate_capacity = capacity;
    }
    places->duplicates[places->duplicate_count++] = (struct flagshm_json_duplicate){first, again};
    return true;
}

static bool is_same_key(const struct flagshm_scan *s, const struct flagshm_json_place *a,
                        const struct flagshm_json_place *b)
{
    return a->key_bytes == b->key_bytes &&
           memcmp(s->text + a->key_offset, s->text + b->key_offset, a->key_bytes) == 0;
}

/* Keys without escapes are equal where they are spelled alike. */
static bool compare_few(struct flagshm_scan *s, uint32_t object, uint32_t members)
{
    const struct flagshm_json_place *items = s->places->items;
    uint32_t at[FEW_MEMBERS], i, j;

    for (i = 0; i < members; i++) {
        at[i] = i > 0 ? items[at[i - 1]].next : object + 1;
        for (j = 0; j < i; j++)
            if (is_same_key(s, &items[at[i]], &items[at[j]])) {
                if (!add_duplicate(s, at[j], at[i]))
                    return false;
                break;
            }
    }
    return true;
}

static bool is_equal(const struct key *a, const struct key *b)
{
    return a->hash == b->hash && a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static int compare_keys(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    int order;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    order = memcmp(a->bytes, b->bytes, a->length);
    return order != 0 ? order : (a->place > b->place) - (a->place < b->place);
}

/* Keys that share a bucket, in the text's order. */
static bool compare_bucket(struct flagshm_scan *s, struct key *keys, uint32_t count)
{
    uint32_t i, j;

    if (count > FEW_KEYS)
        qsort(keys, count, sizeof *keys, compare_keys);
    for (i = 1; i < count; i++) {
        for (j = count > FEW_KEYS ? i - 1 : 0; j < i && !is_equal(&keys[i], &keys[j]);)
            j++;
        if (j < i && !add_duplicate(s, keys[j].place, keys[i].place))
            return false;
    }
    return true;
}

static bool read_key(struct flagshm_scan *s, uint32_t at, struct key *key)
{
    const struct flagshm_json_place *place = &s->places->items[at];
    const char *inside = s->text + place->key_offset + 1;
    size_t length = place->key_bytes - 2;

    if (memchr(inside, '\\', length) != NULL) {
        char *decoded = flagshm_arena_take(s->arena, length);

        if (!decoded)
            return false;
        length = flagshm_json_unescape(inside, length, decoded);
        inside = decoded;
    }
    key->bytes = inside;
    key->length = (uint32_t)length;
    key->place = at;
    key->hash = flagshm_hash64_(inside, length, 0);
    return true;
}

/* One counting sort by the hash, then only neighbours in a bucket are compared: linear unless someone
 * chose the keys. */
static bool compare_many(struct flagshm_scan *s, uint32_t object, uint32_t members)
{
    uint32_t buckets = 16, at = object + 1, i;
    struct key *keys = flagshm_arena_take(s->arena, members * sizeof *keys);
    struct key *sorted = flagshm_arena_take(s->arena, members * sizeof *sorted);
    uint32_t *begins;

    while (buckets < members)
        buckets *= 2;
    begins = flagshm_arena_take(s->arena, (buckets + 1) * sizeof *begins);
    if (!keys || !sorted || !begins)
        return false;
    memset(begins, 0, (buckets + 1) * sizeof *begins);
    for (i = 0; i < members; i++, at = s->places->items[at].next) {
        if (!read_key(s, at, &keys[i]))
            return false;
        begins[(keys[i].hash & (buckets - 1)) + 1]++;
    }
    for (i = 0; i < buckets; i++)
        begins[i + 1] += begins[i];
    for (i = 0; i < members; i++)
        sorted[begins[keys[i].hash & (buckets - 1)]++] = keys[i];
    for (i = 0, at = 0; i < buckets; at = begins[i++])
        if (begins[i] - at > 1 && !compare_bucket(s, sorted + at, begins[i] - at))
            return false;
    return true;
}

bool flagshm_scan_duplicates(struct flagshm_scan *s, uint32_t object, uint32_t members, bool has_escapes)
{
    bool done = members <= FEW_MEMBERS && !has_escapes ? compare_few(s, object, members)
                                                       : compare_many(s, object, members);

    if (!done)
        s->places->is_out_of_memory = true;
    return done;
}

/* Writes the decoded key with '~' and '/' as RFC 6901 asks; `out` needs twice the key's bytes. */
static size_t put_reference(const char *text, const struct flagshm_json_place *place, char *scratch,
                            char *out)
{
    size_t length = flagshm_json_unescape(text + place->key_offset + 1, place->key_bytes - 2, scratch), i;
    char *begin = out;

    for (i = 0; i < length; i++) {
        if (scratch[i] == '~' || scratch[i] == '/') {
            *out++ = '~';
            *out++ = scratch[i] == '~' ? '0' : '1';
        } else {
            *out++ = scratch[i];
        }
    }
    return (size_t)(out - begin);
}

const char *flagshm_json_pointer(const char *text, const struct flagshm_json_places *places, size_t at,
                                 struct flagshm_arena *scratch)
{
    const struct flagshm_json_place *items = places->items;
    size_t steps[FLAGSHM_JSON_DEPTH_MAX][2], depth = 0, bytes = 1, longest = 1, container = 0, i, used = 0;
    char *pointer, *decoded;

    while (container != at) { /* down to `at`: the place, and its number among its siblings */
        size_t child = container + 1, number = 0;

        for (; items[child].next <= at; number++)
            child = items[child].next;
        steps[depth][0] = child;
        steps[depth++][1] = number;
        bytes += 22 + 2 * (size_t)items[child].key_bytes;
        longest = items[child].key_bytes > longest ? items[child].key_bytes : longest;
        container = child;
    }
    pointer = flagshm_arena_take(scratch, bytes);
    decoded = flagshm_arena_take(scratch, longest);
    if (!pointer || !decoded)
        return "";
    for (i = 0; i < depth; i++) {
        const struct flagshm_json_place *place = &items[steps[i][0]];

        pointer[used++] = '/';
        if (place->key_bytes > 0)
            used += put_reference(text, place, decoded, pointer + used);
        else
            used += (size_t)snprintf(pointer + used, bytes - used, "%zu", steps[i][1]);
    }
    pointer[used] = '\0';
    return pointer;
}
