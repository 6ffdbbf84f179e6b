/* json_scan_internal: what the files of the scanner share: json_scan.c knows what is sound, json_scan_fault.c
 * says what is wrong, json_scan_keys.c compares keys. For no one else.
 */
#ifndef FLAGSHM_SERVER_JSON_SCAN_INTERNAL_H
#define FLAGSHM_SERVER_JSON_SCAN_INTERNAL_H

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
