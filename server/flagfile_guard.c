/* flagfile_guard: "guardrails": what is watched while a share rises, and from where on it holds or rolls
 * back. Only the shape is judged here.
 *
 * What a limit means hangs on what its kind counts: a bad share of calls (0...1), milliseconds, or tokens.
 */
#include "server/flagfile_internal.h"

#include <string.h>

#define GUARDRAILS_MAX 8
#define RATIO_MAX      1000
#define CUSTOM_MAX     7 /* index of a custom event */
#define MS_MAX         3600000
#define TOKENS_MAX     1000000000
#define SUM_SLACK      1e-9 /* weights like .4 + .2 + .2 + .2 are not exact in binary */

enum unit { UNIT_SHARE, UNIT_MS, UNIT_TOKENS };

static const struct kind {
    const char *name;
    enum unit unit;
    bool is_good_share; /* shown as the share that is good, so it may "drop" */
} kinds[] = {
    {"error_rate", UNIT_SHARE, false},      {"json_valid", UNIT_SHARE, true},
    {"latency_p95", UNIT_MS, false},        {"tokens_total", UNIT_TOKENS, false},
    {"tokens_out", UNIT_TOKENS, false},     {"lost", UNIT_SHARE, false},
    {"schema_valid", UNIT_SHARE, true},     {"tool_valid", UNIT_SHARE, true},
    {"refusal", UNIT_SHARE, false},         {"truncated", UNIT_SHARE, false},
    {"empty", UNIT_SHARE, false},           {"ttft_p95", UNIT_MS, false},
    {"thumbs_down", UNIT_SHARE, false},     {"retry", UNIT_SHARE, false},
    {"support_contact", UNIT_SHARE, false}, {"custom", UNIT_SHARE, true},
};

#define KIND_COUNT (sizeof kinds / sizeof kinds[0])
#define CUSTOM     (KIND_COUNT - 1)

static void kind_names(const char *names[KIND_COUNT + 1])
{
    size_t i;

    for (i = 0; i < KIND_COUNT; i++)
        names[i] = kinds[i].name;
    names[i] = NULL;
}

bool flagshm_reader_guardrail_kind(struct flagshm_reader *r, struct flagshm_spot spot)
{
    const char *names[KIND_COUNT + 1];
    size_t i;

    kind_names(names);
    for (i = 0; i < KIND_COUNT; i++)
        if (strcmp(names[i], spot.node->string) == 0)
            return true;
    flagshm_reader_unknown(r, spot, names, "guardrail");
    return false;
}

/* ---- limits ---- */

struct limit {
    struct flagshm_spot ratio, delta, delta_ms, min_delta, min_delta_ms, drop, max, max_ms;
};

static double delta_max(enum unit unit)
{
    return unit == UNIT_SHARE ? 1 : unit == UNIT_MS ? MS_MAX : TOKENS_MAX;
}

static void read_ratio(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    double number;

    ((struct limit *)into)->ratio = value;
    flagshm_reader_number(r, value, "ratio", 1.01, RATIO_MAX, &number);
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
    double number;

    ((struct limit *)into)->drop = value;
    flagshm_reader_number(r, value, "drop", 0, 1, &number);
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
    (void)into;
    flagshm_reader_duration(r, value, "over");
}

static void read_users(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    uint64_t number;

    (void)into;
    flagshm_reader_whole(r, value, "min_users", 1, 1000000000, &number);
}

/* An amount in the unit that its kind is counted in. */
static void judge_amount(struct flagshm_reader *r, struct flagshm_spot value, const struct kind *kind)
{
    const char *key = value.node ? value.node->string : "";
    size_t length = strlen(key);
    bool says_ms = length > 3 && strcmp(key + length - 3, "_ms") == 0;
    double number;

    if (!value.node)
        return;
    if (kind->unit == UNIT_MS && !says_ms)
        flagshm_reader_key_error(r, value,
                                 "\"%s\" has no unit here: %s is judged in milliseconds, write \"%s_ms\"",
                                 key, kind->name, key);
    else if (kind->unit != UNIT_MS && says_ms)
        flagshm_reader_key_error(r, value, "\"%s\" counts milliseconds, %s does not", key, kind->name);
    else
        flagshm_reader_number(r, value, key, 0, delta_max(kind->unit), &number);
}

/* "rollback" or "hold": how far the variant must be off. */
static void read_limit(struct flagshm_reader *r, struct flagshm_spot value, const struct kind *kind)
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
    judge_amount(r, limit.delta, kind);
    judge_amount(r, limit.delta_ms, kind);
    judge_amount(r, limit.min_delta, kind);
    judge_amount(r, limit.min_delta_ms, kind);
    if (limit.drop.node && !kind->is_good_share)
        flagshm_reader_key_error(r, limit.drop, "%s cannot drop: it counts what is bad (use \"delta\")",
                                 kind->name);
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
static void read_absolute(struct flagshm_reader *r, struct flagshm_spot value, const struct kind *kind)
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
    judge_amount(r, limit.max, kind);
    judge_amount(r, limit.max_ms, kind);
    if (!limit.max.node && !limit.max_ms.node)
        flagshm_reader_key_error(r, value, "\"%s\" is missing in absolute",
                                 kind->unit == UNIT_MS ? "max_ms" : "max");
}

/* ---- one guardrail ---- */

struct guardrail {
    struct flagshm_spot kind, rollback, hold, absolute, name, index;
    uint64_t custom_index;
    double weight;
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
    size_t index;

    (void)into;
    flagshm_reader_word(r, value, "mode", modes, &index);
}

static void read_weight(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_number(r, value, "weight", 0.001, 1, &((struct guardrail *)into)->weight);
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
                             kinds[kind].name);
    *mark = true;
}

static void read_guardrail(struct flagshm_reader *r, struct flagshm_spot spot, struct seen *seen)
{
    struct guardrail guardrail = {.weight = 0};
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
    if (guardrail.rollback.node)
        read_limit(r, guardrail.rollback, &kinds[kind]);
    if (guardrail.hold.node)
        read_limit(r, guardrail.hold, &kinds[kind]);
    if (guardrail.absolute.node)
        read_absolute(r, guardrail.absolute, &kinds[kind]);
}

void flagshm_reader_guardrails(struct flagshm_reader *r, struct flagshm_spot value)
{
    struct seen seen = {.weights = 0};
    struct flagshm_spot spot;
    int count;

    if (cJSON_IsString(value.node) && strcmp(value.node->valuestring, "default") == 0)
        return;
    if (!cJSON_IsArray(value.node)) {
        flagshm_reader_mismatch(r, value, "guardrails", "\"default\" or a list");
        return;
    }
    count = cJSON_GetArraySize(value.node);
    if (count > GUARDRAILS_MAX) {
        flagshm_reader_error(r, value, "guardrails may list at most %d, got %d", GUARDRAILS_MAX, count);
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot))
        read_guardrail(r, spot, &seen);
    if (seen.weights > 1 + SUM_SLACK)
        flagshm_reader_error(r, value, "the weights of all guardrails must not exceed 1, got %.6g",
                             seen.weights);
}
