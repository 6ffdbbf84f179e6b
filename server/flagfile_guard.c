/* flagfile_guard: "guardrails": what is watched while a share rises, and from where on it holds or rolls
 * back.
 *
 * What a limit means hangs on what its kind counts: a bad share of calls (0...1), milliseconds, or tokens.
 */
#include "server/flagfile_internal.h"

#include <stdio.h>
#include <string.h>

#define RATIO_MAX  1000
#define CUSTOM_MAX 7 /* index of a custom event */
#define MS_MAX     3600000
#define TOKENS_MAX 1000000000
#define WEIGHT_MIN 0.001 /* the least that may be said */
#define SUM_SLACK  1e-9  /* weights like .4 + .2 + .2 + .2 are not exact in binary */

enum unit { UNIT_SHARE, UNIT_MS, UNIT_TOKENS };

static const struct kind {
    enum unit unit;
    bool is_good_share; /* shown as the share that is good, so it may "drop" */
} kinds[FLAGSHM_GUARD_KINDS] = {
    [FLAGSHM_GUARD_JSON_VALID] = {UNIT_SHARE, true},     [FLAGSHM_GUARD_LATENCY_P95] = {UNIT_MS, false},
    [FLAGSHM_GUARD_TOKENS_TOTAL] = {UNIT_TOKENS, false}, [FLAGSHM_GUARD_TOKENS_OUT] = {UNIT_TOKENS, false},
    [FLAGSHM_GUARD_SCHEMA_VALID] = {UNIT_SHARE, true},   [FLAGSHM_GUARD_TOOL_VALID] = {UNIT_SHARE, true},
    [FLAGSHM_GUARD_TTFT_P95] = {UNIT_MS, false},         [FLAGSHM_GUARD_CUSTOM] = {UNIT_SHARE, true},
};

#define KIND_COUNT ((size_t)FLAGSHM_GUARD_KINDS)
#define CUSTOM     ((size_t)FLAGSHM_GUARD_CUSTOM)

static const char *name_of(const struct kind *kind)
{
    return flagshm_guard_name((enum flagshm_guard_kind)(kind - kinds));
}

static void kind_names(const char *names[KIND_COUNT + 1])
{
    size_t i;

    for (i = 0; i < KIND_COUNT; i++)
        names[i] = flagshm_guard_name((enum flagshm_guard_kind)i);
    names[i] = NULL;
}

bool flagshm_reader_guardrail_kind(struct flagshm_reader *r, struct flagshm_spot spot, size_t *kind)
{
    const char *names[KIND_COUNT + 1];
    size_t i;

    kind_names(names);
    for (i = 0; i < KIND_COUNT; i++)
        if (strcmp(names[i], spot.node->string) == 0) {
            *kind = i;
            return true;
        }
    flagshm_reader_unknown(r, spot, names, "guardrail");
    return false;
}

/* ---- limits ---- */

struct limit {
    struct flagshm_spot ratio, delta, delta_ms, min_delta, min_delta_ms, drop, max, max_ms;
    struct flagshm_limit said;
    uint64_t over_ns, min_users;
};

static double delta_max(enum unit unit)
{
    return unit == UNIT_SHARE ? 1 : unit == UNIT_MS ? MS_MAX : TOKENS_MAX;
}

static void read_ratio(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct limit *limit = into;

    limit->ratio = value;
    flagshm_reader_number(r, value, "ratio", 1.01, RATIO_MAX, &limit->said.ratio);
}

static void read_delta(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct limit *)into)->delta = value;
}

static void read_delta_ms(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct limit *)into)->delta_ms = value;
}

static void read_min_delta(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct limit *)into)->min_delta = value;
}

static void read_min_delta_ms(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct limit *)into)->min_delta_ms = value;
}

static void read_drop(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct limit *limit = into;

    limit->drop = value;
    flagshm_reader_number(r, value, "drop", 0, 1, &limit->said.drop);
}

static void read_max(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct limit *)into)->max = value;
}

static void read_max_ms(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct limit *)into)->max_ms = value;
}

static void read_over(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_duration(r, value, "over", &((struct limit *)into)->over_ns);
}

static void read_users(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_whole(r, value, "min_users", 1, 1000000000, &((struct limit *)into)->min_users);
}

/* An amount in the unit that its kind is counted in. */
static void read_amount(struct flagshm_reader *r, struct flagshm_spot value, const struct kind *kind,
                        double *amount)
{
    const char *key = value.node ? value.node->string : "";
    size_t length = strlen(key);
    bool says_ms = length > 3 && strcmp(key + length - 3, "_ms") == 0;

    if (!value.node)
        return;
    if (kind->unit == UNIT_MS && !says_ms)
        flagshm_reader_key_error(r, value,
                                 "\"%s\" has no unit here: %s is judged in milliseconds, write \"%s_ms\"",
                                 key, name_of(kind), key);
    else if (kind->unit != UNIT_MS && says_ms)
        flagshm_reader_key_error(r, value, "\"%s\" counts milliseconds, %s does not", key, name_of(kind));
    else
        flagshm_reader_number(r, value, key, 0, delta_max(kind->unit), amount);
}

/* "rollback" or "hold": how far the variant must be off. */
static void read_limit(struct flagshm_reader *r, struct flagshm_spot value, const struct kind *kind,
                       struct flagshm_limit *into)
{
    static const struct flagshm_key keys[] = {
        {"ratio", read_ratio},
        {"delta", read_delta},
        {"delta_ms", read_delta_ms},
        {"min_delta", read_min_delta},
        {"min_delta_ms", read_min_delta_ms},
        {"drop", read_drop},
        {NULL, NULL},
    };
    struct limit limit = {.ratio = {NULL, 0}};

    flagshm_reader_object(r, value, value.node->string, keys, &limit);
    if (!cJSON_IsObject(value.node))
        return;
    read_amount(r, limit.delta, kind, &limit.said.delta);
    read_amount(r, limit.delta_ms, kind, &limit.said.delta);
    read_amount(r, limit.min_delta, kind, &limit.said.min_delta);
    read_amount(r, limit.min_delta_ms, kind, &limit.said.min_delta);
    *into = limit.said;
    if (limit.drop.node && !kind->is_good_share)
        flagshm_reader_key_error(r, limit.drop, "%s cannot drop: it counts what is bad (use \"delta\")",
                                 name_of(kind));
    if (limit.ratio.node)
        return;
    if (limit.min_delta.node || limit.min_delta_ms.node)
        flagshm_reader_key_error(r, limit.min_delta.node ? limit.min_delta : limit.min_delta_ms,
                                 "a least delta stands beside a \"ratio\" only");
    else if (!limit.delta.node && !limit.delta_ms.node && !limit.drop.node)
        flagshm_reader_key_error(r, value, "%s needs a \"ratio\", a \"delta\" or a \"drop\"",
                                 value.node->string);
}

/* What is too much whatever the control does. */
static void read_absolute(struct flagshm_reader *r, struct flagshm_spot value, const struct kind *kind,
                          struct flagshm_guardrail *into)
{
    static const struct flagshm_key keys[] = {{"max", read_max},
                                              {"max_ms", read_max_ms},
                                              {"over", read_over},
                                              {"min_users", read_users},
                                              {NULL, NULL}};
    struct limit limit = {.ratio = {NULL, 0}};

    flagshm_reader_object(r, value, "absolute", keys, &limit);
    if (!cJSON_IsObject(value.node))
        return;
    into->has_absolute = true;
    if (limit.over_ns > 0)
        into->absolute_over_ns = limit.over_ns;
    if (limit.min_users > 0)
        into->absolute_min_users = (uint32_t)limit.min_users;
    read_amount(r, limit.max, kind, &into->absolute_max);
    read_amount(r, limit.max_ms, kind, &into->absolute_max);
    if (!limit.max.node && !limit.max_ms.node)
        flagshm_reader_key_error(r, value, "\"%s\" is missing in absolute",
                                 kind->unit == UNIT_MS ? "max_ms" : "max");
}

/* ---- one guardrail ---- */

struct guardrail {
    struct flagshm_spot kind, rollback, hold, absolute, name, index;
    uint64_t custom_index;
    double weight;
    size_t mode;
    bool has_sound_index;
};

static void read_kind(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct guardrail *)into)->kind = value;
}

static void read_rollback(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct guardrail *)into)->rollback = value;
}

static void read_hold(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct guardrail *)into)->hold = value;
}

static void read_absolute_spot(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct guardrail *)into)->absolute = value;
}

static void read_mode(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const char *const modes[] = {"observe", "guard", NULL};

    flagshm_reader_word(r, value, "mode", modes, &((struct guardrail *)into)->mode);
}

static void read_weight(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_number(r, value, "weight", WEIGHT_MIN, 1, &((struct guardrail *)into)->weight);
}

static void read_name(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    ((struct guardrail *)into)->name = value;
    flagshm_reader_name(r, value, "name", 31, "_.-");
}

static void read_index(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct guardrail *guardrail = into;

    guardrail->index = value;
    guardrail->has_sound_index =
        flagshm_reader_whole(r, value, "index", 0, CUSTOM_MAX, &guardrail->custom_index);
}

static const struct flagshm_key guardrail_keys[] = {
    {"kind", read_kind}, {"rollback", read_rollback}, {"hold", read_hold}, {"absolute", read_absolute_spot},
    {"mode", read_mode}, {"weight", read_weight},     {"name", read_name}, {"index", read_index},
    {NULL, NULL},
};

static void judge_custom(struct flagshm_reader *r, struct flagshm_spot spot,
                         const struct guardrail *guardrail, bool is_custom)
{
    if (is_custom && !guardrail->name.node)
        flagshm_reader_error(r, spot, "\"name\" is missing in this custom guardrail");
    if (is_custom && !guardrail->index.node)
        flagshm_reader_error(r, spot, "\"index\" (0..%d) is missing in this custom guardrail", CUSTOM_MAX);
    if (!is_custom && guardrail->name.node)
        flagshm_reader_key_error(r, guardrail->name, "\"name\" belongs to kind \"custom\" only");
    if (!is_custom && guardrail->index.node)
        flagshm_reader_key_error(r, guardrail->index, "\"index\" belongs to kind \"custom\" only");
}

struct seen {
    bool kinds[KIND_COUNT], customs[CUSTOM_MAX + 1];
    double weights;
};

/* Each kind, and each custom index, may be judged once: two would share one count and spend alpha twice. */
static void judge_once(struct flagshm_reader *r, const struct guardrail *guardrail, size_t kind,
                       struct seen *seen)
{
    bool *mark = &seen->kinds[kind];

    if (kind == CUSTOM) {
        if (!guardrail->has_sound_index)
            return;
        mark = &seen->customs[guardrail->custom_index];
    }
    if (*mark && kind == CUSTOM)
        flagshm_reader_error(r, guardrail->index,
                             "index %u is watched by another guardrail of this list already",
                             (unsigned)guardrail->custom_index);
    else if (*mark)
        flagshm_reader_error(r, guardrail->kind, "%s is watched by another guardrail of this list already",
                             name_of(&kinds[kind]));
    *mark = true;
}

/* The limits that are said, and those of its kind where nothing is said. */
static void keep_guardrail(struct flagshm_reader *r, const struct guardrail *said, size_t number,
                           struct flagshm_guards *guards)
{
    const struct kind *kind = &kinds[number];
    struct flagshm_guardrail *kept = &guards->list[guards->count++];

    *kept = flagshm_guardrail_default((enum flagshm_guard_kind)number);
    if (said->rollback.node) {
        kept->has_rollback = true;
        read_limit(r, said->rollback, kind, &kept->rollback);
    }
    if (said->hold.node) {
        kept->has_hold = true;
        read_limit(r, said->hold, kind, &kept->hold);
    }
    if (said->absolute.node)
        read_absolute(r, said->absolute, kind, kept);
    kept->is_observed = said->mode == 0;
    kept->weight = said->weight;
    kept->custom_index = (uint8_t)said->custom_index;
    if (number == CUSTOM && said->name.node && cJSON_IsString(said->name.node))
        snprintf(kept->name, sizeof kept->name, "%s", said->name.node->valuestring);
}

static void read_guardrail(struct flagshm_reader *r, struct flagshm_spot spot, struct seen *seen,
                           struct flagshm_guards *guards)
{
    struct guardrail guardrail = {.mode = 1};
    const char *names[KIND_COUNT + 1];
    size_t kind;

    flagshm_reader_object(r, spot, "a guardrail", guardrail_keys, &guardrail);
    if (!cJSON_IsObject(spot.node))
        return;
    seen->weights += guardrail.weight;
    kind_names(names);
    if (!guardrail.kind.node) {
        flagshm_reader_error(r, spot, "\"kind\" is missing in this guardrail");
        return;
    }
    if (!flagshm_reader_word(r, guardrail.kind, "kind", names, &kind))
        return; /* what its limits may be is not known */
    judge_custom(r, spot, &guardrail, kind == CUSTOM);
    judge_once(r, &guardrail, kind, seen);
    keep_guardrail(r, &guardrail, kind, guards);
}

/* What the weights that are said leave is shared evenly by the others that roll back: one without any could never do so. */
static void share_weights(struct flagshm_reader *r, struct flagshm_spot list, double said,
                          struct flagshm_guards *guards)
{
    const struct flagshm_guardrail *poor = NULL;
    uint32_t count = 0, i;

    for (i = 0; i < guards->count; i++)
        if (guards->list[i].has_rollback && guards->list[i].weight <= 0) {
            poor = poor ? poor : &guards->list[i];
            count++;
        }
    if (said > 1 + SUM_SLACK)
        flagshm_reader_error(r, list, "the weights of all guardrails must not exceed 1, got %.6g", said);
    else if (poor && (1 - said) / count < WEIGHT_MIN)
        flagshm_reader_error(r, list,
                             "the weights of the other guardrails leave nothing for %s, so it could never "
                             "roll back: give it one "
                             "of its own, and lower the others",
                             flagshm_guard_name(poor->kind));
    for (i = 0; i < guards->count; i++)
        if (guards->list[i].has_rollback && guards->list[i].weight <= 0)
            guards->list[i].weight = (1 - said) / count;
}

void flagshm_reader_guardrails(struct flagshm_reader *r, struct flagshm_spot value,
                               struct flagshm_guards *guards)
{
    struct seen seen = {.weights = 0};
    struct flagshm_spot spot;
    int count;

    memset(guards, 0, sizeof *guards);
    if (cJSON_IsString(value.node) && strcmp(value.node->valuestring, "default") == 0) {
        flagshm_guards_default(guards);
        return;
    }
    if (!cJSON_IsArray(value.node)) {
        flagshm_reader_mismatch(r, value, "guardrails", "\"default\" or a list");
        return;
    }
    count = cJSON_GetArraySize(value.node);
    if (count > (int)FLAGSHM_GUARDRAILS_MAX) {
        flagshm_reader_error(r, value, "guardrails may list at most %u, got %d", FLAGSHM_GUARDRAILS_MAX,
                             count);
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot))
        read_guardrail(r, spot, &seen, guards);
    share_weights(r, value, seen.weights, guards);
}
