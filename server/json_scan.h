/* json_scan: the strict gate before cJSON. It accepts exactly RFC 8259 in strict UTF-8, less what would let a
 * typo or a trick pass: duplicate keys, NUL or \u0000, a BOM, lone surrogates, depth over 32, trailing text
 * are errors.
 *
 * Pure, and linear (but for the sort of very unlucky objects). It also writes down where each value stands,
 * in document order, which is the order of a walk over cJSON's tree: the n-th node is the n-th place.
 */
#ifndef FLAGSHM_SERVER_JSON_SCAN_H
#define FLAGSHM_SERVER_JSON_SCAN_H

#include "server/arena.h"
#include "server/diagnostics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLAGSHM_JSON_DEPTH_MAX 32

struct flagshm_json_place {
    uint32_t offset, bytes;         /* the value */
    uint32_t key_offset, key_bytes; /* its key with the quotes; bytes 0 where it is no member */
    uint32_t next;                  /* index of the place after this value and all that it contains */
};

struct flagshm_json_duplicate {
    uint32_t first, again; /* two places in one object whose keys mean the same */
};

struct flagshm_json_places {
    struct flagshm_json_place *items; /* in the arena */
    size_t count;
    bool is_whole; /* the grammar is sound to the end: only duplicate keys can be wrong with the text */
    bool is_out_of_memory;                     /* the scan was given up */
    struct flagshm_json_duplicate *duplicates; /* rising by `again`; in the arena */
    size_t duplicate_count, duplicate_capacity;
};

/* True when the text is strictly sound. Otherwise `diags` says what is wrong: syntax stops at the first
 * fault (what follows would be guesses), duplicate keys are all listed. False without an entry when out of
 * memory. Texts of 4 GiB and more are refused. */
bool flagshm_json_scan(const char *text, size_t length, struct flagshm_arena *arena,
                       struct flagshm_json_places *places, struct flagshm_diags *diags);

/* Copies a sound value without insignificant white space; `out` needs `length` bytes. Returns the bytes
 * written. */
size_t flagshm_json_compact(const char *text, size_t length, char *out);

/* A hash of the sound value's compact form with its keys sorted (by their bytes as spelled, at every
 * depth); numbers and strings as they are spelled. Equal for two texts that differ in key order and layout
 * alone. 0 only when out of memory. */
uint64_t flagshm_json_fingerprint(const char *text, size_t length, struct flagshm_arena *scratch);
/* The same of a text that is compact already. */
uint64_t flagshm_json_fingerprint_compact(const char *compact, size_t length, struct flagshm_arena *scratch);

/* Decodes the inside of a sound JSON string (without its quotes); `out` needs `length` bytes. Returns the
 * bytes written; no NUL is added. */
size_t flagshm_json_unescape(const char *inside, size_t length, char *out);

/* The JSON pointer (RFC 6901) of places->items[at]; "" when out of memory. Cost: all siblings on the way
 * down. */
const char *flagshm_json_pointer(const char *text, const struct flagshm_json_places *places, size_t at,
                                 struct flagshm_arena *scratch);

#endif
