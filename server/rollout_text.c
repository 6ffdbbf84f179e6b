/* rollout_text: states, looks and transitions as JSON, so that a journal can keep them and a test can replay them. One table a struct says
 * which members there are; whole numbers of 64 bits are strings, since a JSON number keeps 53. What is read is checked: a member that
 * lacks, is of another type or out of its range refuses the whole text, but members that a newer release added are passed over.
 */
#include "server/rollout_internal.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type {
    TYPE_BOOL,
    TYPE_U8,
    TYPE_U16,
    TYPE_U32,
    TYPE_I32,
    TYPE_ENUM,
    TYPE_U64,
    TYPE_REAL,
    TYPE_TEXT,
    TYPE_STRUCT
};

struct member {
    const char *name;
    enum type type;
    size_t offset, count, size; /* count: of an array; size: of an element */
    uint64_t max;               /* of whole numbers */
    const struct member *inner;
};

#define ONE(s, m, t, top)                                                                                    \
    {                                                                                                        \
#m, t, offsetof(struct s, m), 1, sizeof(((struct s *)0)->m), top, NULL                               \
    }
#define BOOLEAN(s, m)     ONE(s, m, TYPE_BOOL, 1)
#define U32(s, m)         ONE(s, m, TYPE_U32, UINT32_MAX)
#define MPCT(s, m)        ONE(s, m, TYPE_U32, FLAGSHM_MPCT_FULL)
#define U64(s, m)         ONE(s, m, TYPE_U64, UINT64_MAX)
#define REAL(s, m)        ONE(s, m, TYPE_REAL, 0)
#define ENUM(s, m, count) ONE(s, m, TYPE_ENUM, (count)-1)
#define TEXT(s, m)                                                                                           \
    {                                                                                                        \
#m, TYPE_TEXT, offsetof(struct s, m), 1, sizeof(((struct s *)0)->m), 0, NULL                         \
    }
#define U64S(s, m)                                                                                           \
    {                                                                                                        \
#m, TYPE_U64, offsetof(struct s, m), sizeof(((struct s *)0)->m) / 8, 8, UINT64_MAX, NULL             \
    }
#define STRUCT(s, m, table)                                                                                  \
    {                                                                                                        \
#m, TYPE_STRUCT, offsetof(struct s, m), 1, sizeof(((struct s *)0)->m), 0, table                      \
    }
#define END                                                                                                  \
    {                                                                                                        \
        NULL, TYPE_BOOL, 0, 0, 0, 0, NULL                                                                    \
    }

static const struct member state_members[] = {
    ONE(flagshm_rollout, version, TYPE_U32, FLAGSHM_ROLLOUT_VERSION),
    ENUM(flagshm_rollout, stage, FLAGSHM_STAGE_KILLED),
    MPCT(flagshm_rollout, share_mpct),
    MPCT(flagshm_rollout, shadow_mpct),
    MPCT(flagshm_rollout, cap_mpct),
    MPCT(flagshm_rollout, before_mpct),
    BOOLEAN(flagshm_rollout, is_seen),
    BOOLEAN(flagshm_rollout, is_present),
    BOOLEAN(flagshm_rollout, is_planned),
    BOOLEAN(flagshm_rollout, is_killed),
    BOOLEAN(flagshm_rollout, is_paused),
    BOOLEAN(flagshm_rollout, is_probing),
    BOOLEAN(flagshm_rollout, is_drilling),
    BOOLEAN(flagshm_rollout, is_shadow_ended),
    BOOLEAN(flagshm_rollout, has_traffic),
    BOOLEAN(flagshm_rollout, has_outcome),
    U64(flagshm_rollout, variant_fingerprint),
    U64(flagshm_rollout, control_fingerprint),
    U64(flagshm_rollout, plan_hash),
    U64(flagshm_rollout, guards_hash),
    U64(flagshm_rollout, form_hash),
    U64S(flagshm_rollout, latched),
    ONE(flagshm_rollout, latched_count, TYPE_U32, FLAGSHM_LATCHES_MAX),
    U32(flagshm_rollout, attempt),
    U32(flagshm_rollout, evidence),
    U64(flagshm_rollout, transitions),
    U64(flagshm_rollout, hold_ns),
    U64(flagshm_rollout, traffic_quiet_ns),
    U64(flagshm_rollout, outcome_quiet_ns),
    U64(flagshm_rollout, quiet_latest_mono_ns),
    U64(flagshm_rollout, started),
    U64(flagshm_rollout, cooldown_ns),
    U64(flagshm_rollout, recovering_ns),
    U64(flagshm_rollout, probe_left_ns),
    U64(flagshm_rollout, probe_rest_ns),
    U64(flagshm_rollout, drill_left_ns),
    U64S(flagshm_rollout, signal_ns),
    U64(flagshm_rollout, looked_mono_ns),
    U64(flagshm_rollout, looked_wall_ns),
    U64S(flagshm_rollout, stepped_back_wall_ns),
    U64S(flagshm_rollout, waived_until_wall_ns),
    U64(flagshm_rollout, approved_fingerprint),
    U64(flagshm_rollout, asked_fingerprint),
    U32(flagshm_rollout, approved_mpct),
    U32(flagshm_rollout, asked_mpct),
    U32(flagshm_rollout, said),
    U64(flagshm_rollout, entered_wall_ns),
    U64(flagshm_rollout, full_since_wall_ns),
    U64(flagshm_rollout, seen_wall_ns),
    U64(flagshm_rollout, drilled_wall_ns),
    U64(flagshm_rollout, drill_took_ns),
    BOOLEAN(flagshm_rollout, drill_failed),
    TEXT(flagshm_rollout, why),
    END,
};

static const struct member guard_members[] = {
    ENUM(flagshm_guard_verdict, kind, FLAGSHM_GUARD_KINDS),
    BOOLEAN(flagshm_guard_verdict, is_significant),
    BOOLEAN(flagshm_guard_verdict, is_material),
    BOOLEAN(flagshm_guard_verdict, holds),
    BOOLEAN(flagshm_guard_verdict, is_absolute),
    REAL(flagshm_guard_verdict, ln_e),
    REAL(flagshm_guard_verdict, threshold),
    U32(flagshm_guard_verdict, level),
    U32(flagshm_guard_verdict, window),
    U64(flagshm_guard_verdict, a),
    U64(flagshm_guard_verdict, b),
    REAL(flagshm_guard_verdict, rate_variant),
    REAL(flagshm_guard_verdict, rate_control),
    REAL(flagshm_guard_verdict, calls_variant),
    REAL(flagshm_guard_verdict, calls_control),
    REAL(flagshm_guard_verdict, ruled_out),
    REAL(flagshm_guard_verdict, users_to_2x),
    REAL(flagshm_guard_verdict, hold_threshold),
    REAL(flagshm_guard_verdict, ratio_high),
    REAL(flagshm_guard_verdict, threshold_amount),
    REAL(flagshm_guard_verdict, absolute),
    REAL(flagshm_guard_verdict, absolute_at),
    END,
};

static const struct member verdict_members[] = {
    REAL(flagshm_verdict, q),
    ONE(flagshm_verdict, guard_count, TYPE_U32, FLAGSHM_GUARDRAILS_MAX),
    {"guards", TYPE_STRUCT, offsetof(struct flagshm_verdict, guards), FLAGSHM_GUARDRAILS_MAX,
     sizeof(struct flagshm_guard_verdict), 0, guard_members},
    BOOLEAN(flagshm_verdict, is_tainted),
    BOOLEAN(flagshm_verdict, has_breaker),
    BOOLEAN(flagshm_verdict, has_thin_breaker),
    BOOLEAN(flagshm_verdict, is_both_bad),
    BOOLEAN(flagshm_verdict, is_limited),
    BOOLEAN(flagshm_verdict, is_both_limited),
    BOOLEAN(flagshm_verdict, has_srm),
    REAL(flagshm_verdict, srm_ln_e),
    U64(flagshm_verdict, misbooked),
    U64(flagshm_verdict, variant_users),
    U64(flagshm_verdict, control_users),
    U64(flagshm_verdict, variant_calls),
    U64(flagshm_verdict, control_calls),
    U64(flagshm_verdict, shadow_pairs),
    BOOLEAN(flagshm_verdict, uses_started),
    REAL(flagshm_verdict, calls_per_id),
    BOOLEAN(flagshm_verdict, is_request_id),
    U64(flagshm_verdict, last_outcome_mono_ns),
    BOOLEAN(flagshm_verdict, is_shadow),
    BOOLEAN(flagshm_verdict, is_open),
    REAL(flagshm_verdict, alpha),
    U64(flagshm_verdict, stretch_variant_bad),
    U64(flagshm_verdict, stretch_variant_users),
    U64(flagshm_verdict, stretch_control_calls),
    U64(flagshm_verdict, stretch_control_bad),
    REAL(flagshm_verdict, limited_variant),
    REAL(flagshm_verdict, limited_control),
    REAL(flagshm_verdict, failed_variant),
    REAL(flagshm_verdict, failed_control),
    REAL(flagshm_verdict, users_started_variant),
    REAL(flagshm_verdict, users_started_share),
    END,
};

static const struct member moment_members[] = {
    U64(flagshm_moment, mono_ns),
    U64(flagshm_moment, wall_ns),
    U64(flagshm_moment, ran_since_mono_ns),
    END,
};

static const struct member local_members[] = {
    BOOLEAN(flagshm_local_time, is_known),
    ONE(flagshm_local_time, weekday, TYPE_U8, 6),
    ONE(flagshm_local_time, minute, TYPE_U16, 1439),
    END,
};

static const struct member look_members[] = {
    STRUCT(flagshm_look, now, moment_members),
    STRUCT(flagshm_look, local, local_members),
    BOOLEAN(flagshm_look, is_frozen),
    BOOLEAN(flagshm_look, has_verdict),
    U32(flagshm_look, evidence),
    U64(flagshm_look, variant_started),
    U64(flagshm_look, control_started),
    STRUCT(flagshm_look, verdict, verdict_members),
    END,
};

static const struct member transition_members[] = {
    U64(flagshm_transition, id),
    U64(flagshm_transition, wall_ns),
    ENUM(flagshm_transition, cause, FLAGSHM_CAUSES),
    BOOLEAN(flagshm_transition, is_lowering),
    BOOLEAN(flagshm_transition, is_told),
    ENUM(flagshm_transition, from, FLAGSHM_STAGE_KILLED + 1),
    ENUM(flagshm_transition, to, FLAGSHM_STAGE_KILLED + 1),
    MPCT(flagshm_transition, from_mpct),
    MPCT(flagshm_transition, to_mpct),
    MPCT(flagshm_transition, from_shadow_mpct),
    MPCT(flagshm_transition, to_shadow_mpct),
    U32(flagshm_transition, attempt),
    U32(flagshm_transition, evidence),
    ONE(flagshm_transition, guard, TYPE_I32, FLAGSHM_GUARDRAILS_MAX - 1),
    STRUCT(flagshm_transition, numbers, guard_members),
    TEXT(flagshm_transition, user),
    TEXT(flagshm_transition, sentence),
    END,
};

/* ---- writing ---- */

struct out {
    char *text;
    size_t room, used; /* used may pass room */
};

static void put(struct out *o, const char *text)
{
    size_t bytes = strlen(text);

    if (o->used < o->room)
        memcpy(o->text + o->used, text, o->used + bytes < o->room ? bytes : o->room - o->used);
    o->used += bytes;
}

static void put_string(struct out *o, const char *text, size_t room)
{
    char escaped[8];
    size_t i;

    put(o, "\"");
    for (i = 0; i < room && text[i] != '\0'; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        else
            snprintf(escaped, sizeof escaped, "%c", c);
        put(o, escaped);
    }
    put(o, "\"");
}

static uint64_t whole_at(const unsigned char *at, enum type type)
{
    uint32_t word = 0;
    uint64_t whole = 0;
    uint16_t half = 0;

    switch (type) {
    case TYPE_BOOL:
    case TYPE_U8:
        return *at;
    case TYPE_U16:
        memcpy(&half, at, sizeof half);
        return half;
    case TYPE_U32:
    case TYPE_I32:
    case TYPE_ENUM:
        memcpy(&word, at, sizeof word);
        return word;
    default:
        memcpy(&whole, at, sizeof whole);
        return whole;
    }
}

static void put_members(struct out *o, const struct member *members, const unsigned char *from);

static void put_value(struct out *o, const struct member *m, const unsigned char *at)
{
    char text[40];
    double real;

    switch (m->type) {
    case TYPE_STRUCT:
        put_members(o, m->inner, at);
        return;
    case TYPE_TEXT:
        put_string(o, (const char *)at, m->size);
        return;
    case TYPE_REAL:
        memcpy(&real, at, sizeof real);
        snprintf(text, sizeof text, "%.17g",
                 isfinite(real) ? real
                 : isnan(real)  ? 0
                 : real > 0     ? 1e308
                                : -1e308);
        break;
    case TYPE_BOOL:
        snprintf(text, sizeof text, *at ? "true" : "false");
        break;
    case TYPE_I32:
        snprintf(text, sizeof text, "%d", (int)(uint32_t)whole_at(at, m->type));
        break;
    case TYPE_U64:
        snprintf(text, sizeof text, "\"%llu\"", (unsigned long long)whole_at(at, m->type));
        break;
    default:
        snprintf(text, sizeof text, "%llu", (unsigned long long)whole_at(at, m->type));
        break;
    }
    put(o, text);
}

static void put_members(struct out *o, const struct member *members, const unsigned char *from)
{
    const struct member *m;
    size_t i;

    for (m = members; m->name; m++) {
        put(o, m == members ? "{" : ", ");
        put_string(o, m->name, SIZE_MAX);
        put(o, m->count > 1 ? ": [" : ": ");
        for (i = 0; i < m->count; i++) {
            put(o, i > 0 ? ", " : "");
            put_value(o, m, from + m->offset + i * m->size);
        }
        put(o, m->count > 1 ? "]" : "");
    }
    put(o, "}");
}

static size_t write_text(const struct member *members, const void *from, char *text, size_t room)
{
    struct out o = {text, room, 0};

    put_members(&o, members, from);
    if (room > 0)
        text[o.used < room ? o.used : room - 1] = '\0';
    return o.used;
}

/* ---- reading ---- */

static bool get_members(const cJSON *json, const struct member *members, unsigned char *into);

static bool get_u64(const cJSON *json, uint64_t *whole)
{
    const char *text = json->valuestring;
    char *end;

    if (!cJSON_IsString(json) || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *whole = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool get_whole(const cJSON *json, const struct member *m, unsigned char *at)
{
    double number = json->valuedouble;
    uint8_t byte;
    uint16_t half;
    uint32_t word;

    if (!cJSON_IsNumber(json) || !(number >= (m->type == TYPE_I32 ? -1 : 0)) || !(number <= (double)m->max) ||
        number != floor(number))
        return false;
    word = number < 0 ? UINT32_MAX : (uint32_t)number; /* -1 */
    half = (uint16_t)word;
    byte = (uint8_t)word;
    memcpy(at, m->size == 1 ? (void *)&byte : m->size == 2 ? (void *)&half : (void *)&word, m->size);
    return true;
}

static bool get_value(const cJSON *json, const struct member *m, unsigned char *at)
{
    uint64_t whole;
    bool is_true;

    switch (m->type) {
    case TYPE_STRUCT:
        return get_members(json, m->inner, at);
    case TYPE_TEXT:
        if (!cJSON_IsString(json) || strlen(json->valuestring) >= m->size)
            return false;
        memcpy(at, json->valuestring, strlen(json->valuestring));
        return true;
    case TYPE_REAL:
        if (cJSON_IsNumber(json))
            memcpy(at, &json->valuedouble, sizeof json->valuedouble);
        return cJSON_IsNumber(json);
    case TYPE_BOOL:
        is_true = cJSON_IsTrue(json);
        memcpy(at, &is_true, sizeof is_true);
        return cJSON_IsBool(json);
    case TYPE_U64:
        if (!get_u64(json, &whole))
            return false;
        memcpy(at, &whole, sizeof whole);
        return true;
    default:
        return get_whole(json, m, at);
    }
}

static bool get_members(const cJSON *json, const struct member *members, unsigned char *into)
{
    const struct member *m;
    const cJSON *value, *element = NULL;
    size_t i;

    if (!cJSON_IsObject(json))
        return false;
    for (m = members; m->name; m++) {
        value = cJSON_GetObjectItemCaseSensitive(json, m->name);
        if (!value)
            return false;
        if (m->count == 1) {
            if (!get_value(value, m, into + m->offset))
                return false;
            continue;
        }
        i = 0;
        if (!cJSON_IsArray(value))
            return false;
        cJSON_ArrayForEach(element,
                           value) if (i == m->count ||
                                      !get_value(element, m, into + m->offset + i++ * m->size)) return false;
        if (i != m->count)
            return false;
    }
    return true;
}

static bool read_text(const struct member *members, const char *text, void *into, size_t bytes)
{
    cJSON *json = cJSON_Parse(text);
    bool is_sound;

    memset(into, 0, bytes);
    is_sound = get_members(json, members, into);
    cJSON_Delete(json);
    return is_sound;
}

/* ---- */

size_t flagshm_rollout_write(const struct flagshm_rollout *s, char *text, size_t room)
{
    return write_text(state_members, s, text, room);
}

bool flagshm_rollout_read(struct flagshm_rollout *s, const char *text)
{
    return read_text(state_members, text, s, sizeof *s) && s->version == FLAGSHM_ROLLOUT_VERSION;
}

size_t flagshm_look_write(const struct flagshm_look *look, char *text, size_t room)
{
    return write_text(look_members, look, text, room);
}

bool flagshm_look_read(struct flagshm_look *look, const char *text)
{
    return read_text(look_members, text, look, sizeof *look);
}

size_t flagshm_transition_write(const struct flagshm_transition *transition, char *text, size_t room)
{
    return write_text(transition_members, transition, text, room);
}

bool flagshm_transition_read(struct flagshm_transition *transition, const char *text)
{
    return read_text(transition_members, text, transition, sizeof *transition);
}
