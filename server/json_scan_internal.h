/* json_scan_internal: what the files of the scanner share: json_scan.c knows what is sound, json_scan_fault.c
 * says what is wrong, json_scan_keys.c compares keys. For no one else.
 */
#ifndef FLAGSHM_SERVER_JSON_SCAN_INTERNAL_H
#define FLAGSHM_SERVER_JSON_SCAN_INTERNAL_H

#include "client/flagshm.h"
#include "server/json_scan.h"

struct flagshm_scan {
    const char *text;
    size_t at, length;
    struct flagshm_json_places *places;
    size_t capacity; /* of places->items */
    struct flagshm_arena *arena;
    struct flagshm_diags *diags;
    uint32_t depth;
    uint32_t open[FLAGSHM_JSON_DEPTH_MAX]; /* where each container around here begins */
};

/* A byte that belongs to a bare word or a number: one that follows another is part of the same mistake. */
static inline bool flagshm_scan_is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || c == '-' || c == '.' || c == '+';
}

/* Non-zero where one of the 8 bytes cannot simply be passed over inside a string; the lowest such byte is
 * marked exactly. */
static inline uint64_t flagshm_scan_special(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones * 0x80;
    uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';

    return (word | ((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) |
            ((backslash - ones) & ~backslash)) &
           tops;
}

/* The first byte that does not stand for itself in a string: neither printable ASCII, nor '"', nor '\\';
 * or `end`. */
static inline const char *flagshm_scan_plain(const char *at, const char *end)
{
    while (end - at >= 8) {
        uint64_t special = flagshm_scan_special(flagshm_get64_(at));

        if (special != 0)
            return at + (__builtin_ctzll(special) >> 3);
        at += 8;
    }
    while (at < end && (unsigned char)*at >= 0x20 && (unsigned char)*at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* The first byte that is no white space, or `end`. Most of it is indentation. */
static inline const char *flagshm_scan_solid(const char *at, const char *end)
{
    const uint64_t blanks = UINT64_C(0x2020202020202020);

    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
        at++;
        while (end - at >= 8 && flagshm_get64_(at) == blanks)
            at += 8;
    }
    return at;
}

/* Each of these adds the entry and returns false. */
bool flagshm_scan_fault(struct flagshm_scan *s, size_t offset, size_t length, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool flagshm_scan_fault_value(struct flagshm_scan *s);              /* no value begins at s->at */
bool flagshm_scan_fault_key(struct flagshm_scan *s);                /* no key begins at s->at */
bool flagshm_scan_fault_colon(struct flagshm_scan *s);              /* no ':' at s->at */
bool flagshm_scan_fault_comma(struct flagshm_scan *s, char closer); /* neither ',' nor the closer at s->at */
bool flagshm_scan_fault_escape(struct flagshm_scan *s);             /* a bad escape begins at s->at */
bool flagshm_scan_fault_after(struct flagshm_scan *s);              /* text at s->at, behind the value */
/* The string or number that begins at `begin` goes wrong at s->at. */
bool flagshm_scan_fault_string(struct flagshm_scan *s, size_t begin);
bool flagshm_scan_fault_number(struct flagshm_scan *s, size_t begin);

/* Lists the duplicate keys of the object at places->items[object], which has `members` members. False: no
 * memory. */
bool flagshm_scan_duplicates(struct flagshm_scan *s, uint32_t object, uint32_t members, bool has_escapes);

#endif
