/* flagfile_internal: what the files of the flag-file reader share. flagfile.c walks the file, flagfile_flag.c
 * reads one flag, flagfile_arm.c its arms, flagfile_plan.c "rollout", flagfile_guard.c "guardrails";
 * flagfile_read.c reads single values and says what is wrong with them. For no one else.
 *
 * A value is a spot: its cJSON node and its place in the text. cJSON gives structure and decoded strings;
 * whatever must be exact (shares, whole numbers, values that are handed on) is taken from the text at the
 * place.
 */
#ifndef FLAGSHM_SERVER_FLAGFILE_INTERNAL_H
#define FLAGSHM_SERVER_FLAGFILE_INTERNAL_H

#include "server/flagfile.h"
#include "server/json_scan.h"
#include "server/name_set.h"
#include "server/plan.h"

#include <cjson/cJSON.h>

/* A last good text names flags in its comment, behind these words. */
#define FLAGSHM_HELD_COMMENT "deletions that wait to be accepted: "

/* What a "rollout" object says; what it does not say is left at 0. */
struct flagshm_rollout_text {
    struct flagshm_plan plan; /* a step that says none has a hold_ns and min_users of 0 */
    uint32_t says;            /* bits, a key each: flagfile_plan.c's */
    uint64_t hold_ns, preset_hold_ns;
    uint32_t min_users;
    bool is_default; /* it stands in the file's "defaults" */
};

struct flagshm_reader {
    struct flagshm_flagfile *file;
    const char *text;
    struct flagshm_json_places places;
    struct flagshm_arena scratch; /* forgotten when the file is read */
    struct flagshm_diags *diags;
    bool no_memory;
    /* The file's "defaults", which are read before the flags; nothing where they are absent or broken. */
    struct flagshm_rollout_text default_rollout;
    struct flagshm_guards default_guards;
    bool has_default_guards;
    /* What flags share that say nothing of their own; in the file's arena; NULL: not made yet. */
    struct flagshm_plan *plain_plan;
    struct flagshm_guards *plain_guards;
};

struct flagshm_spot {
    const cJSON *node; /* NULL: no such value */
    uint32_t at;       /* its place */
};

/* A key that an object may have, and what reads its value into `into`. Lists end in {NULL, NULL}. */
struct flagshm_key {
    const char *name;
    void (*read)(struct flagshm_reader *r, struct flagshm_spot value, void *into);
};

/* ---- flagfile_read.c: spots ---- */
/* The first value in a container, the next beside a value; or none. */
struct flagshm_spot flagshm_spot_child(const struct flagshm_reader *r, struct flagshm_spot parent);
struct flagshm_spot flagshm_spot_next(const struct flagshm_reader *r, struct flagshm_spot spot);
const char *flagshm_spot_text(const struct flagshm_reader *r, struct flagshm_spot spot);
size_t flagshm_spot_bytes(const struct flagshm_reader *r, struct flagshm_spot spot);

/* ---- flagfile_read.c: faults ---- */
void flagshm_reader_error(struct flagshm_reader *r, struct flagshm_spot spot, const char *format, ...)
    __attribute__((format(printf, 3, 4))); /* caret at the value */
void flagshm_reader_key_error(struct flagshm_reader *r, struct flagshm_spot spot, const char *format, ...)
    __attribute__((format(printf, 3, 4))); /* caret at its key */
void flagshm_reader_key_warning(struct flagshm_reader *r, struct flagshm_spot spot, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "WHAT must be EXPECTED, got VALUE". */
void flagshm_reader_mismatch(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                             const char *expected);
void flagshm_reader_unknown(struct flagshm_reader *r, struct flagshm_spot spot, const char *const *words,
                            const char *noun); /* unknown NOUN "KEY" (did you mean ...?), caret at the key */

/* ---- flagfile_read.c: values; false, with an entry, where a value is not what `what` may be ---- */
/* Reads an object whose keys are fixed; "$comment" is allowed in it. A value of another type is an error. */
void flagshm_reader_object(struct flagshm_reader *r, struct flagshm_spot object, const char *what,
                           const struct flagshm_key *keys, void *into);
/* True where it is a "$comment", which has been read then. */
bool flagshm_reader_comment(struct flagshm_reader *r, struct flagshm_spot spot);
bool flagshm_reader_bool(struct flagshm_reader *r, struct flagshm_spot spot, const char *what, bool *out);
/* `out` (a copy that lasts) and `bytes` may be NULL. */
bool flagshm_reader_string(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                           size_t min_bytes, size_t max_bytes, const char **out, size_t *bytes);
bool flagshm_reader_whole(struct flagshm_reader *r, struct flagshm_spot spot, const char *what, uint64_t min,
                          uint64_t max, uint64_t *out);
bool flagshm_reader_number(struct flagshm_reader *r, struct flagshm_spot spot, const char *what, double min,
                           double max, double *out);
bool flagshm_reader_share(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                          uint32_t min_mpct, uint32_t *mpct);
bool flagshm_reader_word(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                         const char *const *words, size_t *index);
bool flagshm_reader_duration(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                             uint64_t *ns);
bool flagshm_reader_date(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                         const char **out);
/* A string of 1..max_bytes that begins with a letter or digit and goes on with those or one of `others`. */
bool flagshm_reader_name(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                         size_t max_bytes, const char *others);
bool flagshm_is_name(const char *name, size_t length, size_t max_bytes, const char *others);

/* ---- one file each ---- */
void flagshm_reader_flag(struct flagshm_reader *r, struct flagshm_spot value,
                         struct flagshm_flagfile_entry *entry);
void flagshm_flagfile_base_drop(struct flagshm_flagfile_base *base); /* one user less; NULL: nothing */
/* Forgets all but what a broken entry still says. */
void flagshm_entry_break(struct flagshm_flagfile_entry *entry);
/* It is or will be between 0 and 100 %: its salt must be its own. */
bool flagshm_flag_is_partial(const struct flagshm_flag *flag);
void flagshm_reader_arm(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_arm *arm);
void flagshm_reader_variants(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_flag *flag);
void flagshm_reader_force(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_flag *flag);
/* text->is_default is set by the caller; all else is written. */
void flagshm_reader_rollout(struct flagshm_reader *r, struct flagshm_spot value,
                            struct flagshm_rollout_text *text);
/* Gives a sound flag its plan: `text` (NULL: it has no "rollout"), then the file's defaults, then ours. */
void flagshm_reader_give_plan(struct flagshm_reader *r, const struct flagshm_rollout_text *text,
                              struct flagshm_flag *flag);
void flagshm_reader_guardrails(struct flagshm_reader *r, struct flagshm_spot value,
                               struct flagshm_guards *guards);
/* True where the key names one; with an entry otherwise. */
bool flagshm_reader_guardrail_kind(struct flagshm_reader *r, struct flagshm_spot spot, size_t *kind);

#endif
