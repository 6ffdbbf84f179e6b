/* flagfile_arm: what an arm serves, which arms there are, and who is forced into one. */
#include "client/flagshm.h"
#include "server/flagfile_internal.h"

#include <string.h>

#define MAX_TOKENS_MAX 10000000u

/* A model's name is printed on lines and sent in requests: text without control characters. */
static bool read_model(struct flagshm_reader *r, struct flagshm_spot spot, const char *what,
                       struct flagshm_arm *arm)
{
    size_t i;

    if (!flagshm_reader_string(r, spot, what, 1, FLAGSHM_MODEL_MAX, &arm->model, &arm->model_bytes))
        return false;
    for (i = 0; i < arm->model_bytes; i++)
        if ((unsigned char)arm->model[i] < 0x20 || arm->model[i] == 0x7f) {
            flagshm_reader_error(r, spot, "%s may hold no control characters", what);
            return false;
        }
    return true;
}

/* The keys of an arm are the provider's parameters: any are allowed, but those that we know must make
 * sense. */
static void read_parameter(struct flagshm_reader *r, struct flagshm_spot spot, struct flagshm_arm *arm)
{
    const char *key = spot.node->string;
    uint64_t whole;
    double number;

    if (strcmp(key, "model") == 0)
        read_model(r, spot, key, arm);
    else if (strcmp(key, "temperature") == 0)
        flagshm_reader_number(r, spot, key, 0, 2, &number);
    else if (strcmp(key, "max_tokens") == 0)
        flagshm_reader_whole(r, spot, key, 1, MAX_TOKENS_MAX, &whole);
    else if (strcmp(key, "system") == 0 || strcmp(key, "prompt") == 0)
        flagshm_reader_string(r, spot, key, 0, FLAGSHM_VALUE_MAX, NULL, NULL);
    else
        flagshm_reader_comment(r, spot);
}

static void read_parameters(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_arm *arm)
{
    static const char *const wanted[] = {"model", NULL};
    struct flagshm_spot spot;
    bool has_model = false;

    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot)) {
        has_model = has_model || strcmp(spot.node->string, "model") == 0;
        read_parameter(r, spot, arm);
    }
    if (has_model)
        return;
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot))
        if (flagshm_did_you_mean(spot.node->string, strlen(spot.node->string), wanted))
            flagshm_reader_unknown(r, spot, wanted, "key");
}

/* The object as the client gets it: the text's own bytes, so that no number changes its value on the way. */
static void compact(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_arm *arm)
{
    size_t bytes = flagshm_spot_bytes(r, value);
    char *out = flagshm_arena_take(&r->file->arena, bytes + 1);

    if (!out) {
        r->no_memory = true;
        return;
    }
    arm->value = out;
    arm->value_bytes = flagshm_json_compact(flagshm_spot_text(r, value), bytes, out);
    out[arm->value_bytes] = '\0';
    if (arm->value_bytes > FLAGSHM_VALUE_MAX)
        flagshm_reader_error(r, value, "%s may have at most %u bytes, got %zu", value.node->string,
                             FLAGSHM_VALUE_MAX, arm->value_bytes);
}

void flagshm_reader_arm(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_arm *arm)
{
    arm->model = "";
    arm->model_bytes = 0;
    if (cJSON_IsString(value.node)) {
        if (!read_model(r, value, value.node->string, arm))
            return;
        arm->value = arm->model;
        arm->value_bytes = arm->model_bytes;
    } else if (cJSON_IsObject(value.node)) {
        read_parameters(r, value, arm);
        compact(r, value, arm);
    } else {
        flagshm_reader_mismatch(r, value, value.node->string, "a model's name or an object");
        return;
    }
    if (r->no_memory)
        return;
    arm->value_hash = flagshm_hash64_(arm->value, arm->value_bytes, 0);
    if (cJSON_IsString(value.node)) /* as it is spelled, not as it is served */
        arm->fingerprint = flagshm_json_fingerprint_compact(flagshm_spot_text(r, value),
                                                            flagshm_spot_bytes(r, value), &r->scratch);
    else
        arm->fingerprint = flagshm_json_fingerprint_compact(arm->value, arm->value_bytes, &r->scratch);
    r->no_memory = arm->fingerprint == 0;
}

struct variant {
    struct flagshm_arm *arm;
    bool has_value;
};

static void read_value(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct variant *variant = into;

    variant->has_value = true;
    flagshm_reader_arm(r, value, variant->arm);
}

static void read_weight(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct variant *variant = into;
    uint64_t weight;

    if (flagshm_reader_whole(r, value, "weight", 0, FLAGSHM_WEIGHT_MAX, &weight))
        variant->arm->weight = (uint32_t)weight;
}

static void read_variant(struct flagshm_reader *r, struct flagshm_spot spot, struct flagshm_arm *arm)
{
    static const struct flagshm_key keys[] = {{"value", read_value}, {"weight", read_weight}, {NULL, NULL}};
    struct variant variant = {arm, false};
    const char *name = spot.node->string;

    arm->weight = 1;
    if (strcmp(name, "control") == 0)
        flagshm_reader_key_error(r, spot, "a variant may not be called \"control\"");
    else if (!flagshm_is_name(name, strlen(name), FLAGSHM_ARM_NAME_MAX, "_.-"))
        flagshm_reader_key_error(r, spot,
                                 "a variant's name has 1..%u letters, digits, \"_\", \".\" or \"-\", the "
                                 "first a letter or digit, got \"%.80s\"",
                                 FLAGSHM_ARM_NAME_MAX, name);
    arm->name = flagshm_arena_copy(&r->file->arena, name, strlen(name));
    r->no_memory = r->no_memory || !arm->name;
    if (!cJSON_IsObject(spot.node)) {
        flagshm_reader_mismatch(r, spot, "a variant", "an object with a \"value\"");
        return;
    }
    flagshm_reader_object(r, spot, name, keys, &variant);
    if (!variant.has_value)
        flagshm_reader_error(r, spot, "\"value\" is missing in this variant");
}

void flagshm_reader_variants(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_flag *flag)
{
    struct flagshm_spot spot;
    uint32_t count = 0;
    uint64_t weights = 0;

    if (!cJSON_IsObject(value.node)) {
        flagshm_reader_mismatch(r, value, "variants", "an object");
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot)) {
        if (flagshm_reader_comment(r, spot))
            continue;
        if (count++ >= FLAGSHM_ARMS_MAX - 1)
            continue;
        read_variant(r, spot, &flag->arms[count]);
        weights += flag->arms[count].weight;
    }
    if (count == 0)
        flagshm_reader_error(r, value, "variants must name at least one");
    else if (count > FLAGSHM_ARMS_MAX - 1)
        flagshm_reader_error(r, value, "variants may name at most %u, got %u", FLAGSHM_ARMS_MAX - 1, count);
    else if (weights == 0)
        flagshm_reader_error(r, value, "the weights of all variants are 0: one at least must be above");
    flag->arm_count = 1 + (count < FLAGSHM_ARMS_MAX ? count : FLAGSHM_ARMS_MAX - 1);
}

struct force_list {
    struct flagshm_flag *flag;
    struct flagshm_name_set ids;
};

/* The arm of that name; arm_count where there is none (with its entry). */
static uint32_t arm_of(struct flagshm_reader *r, struct flagshm_spot spot, const struct flagshm_flag *flag)
{
    const char *names[FLAGSHM_ARMS_MAX + 1];
    uint32_t i;

    for (i = 0; i < flag->arm_count; i++) {
        names[i] = flag->arms[i].name;
        if (strcmp(names[i], spot.node->string) == 0)
            return i;
    }
    names[i] = NULL;
    flagshm_reader_unknown(r, spot, names, "arm");
    return i;
}

static void read_forced_id(struct flagshm_reader *r, struct flagshm_spot spot, uint32_t arm,
                           struct force_list *list)
{
    struct flagshm_flag *flag = list->flag;
    struct flagshm_force *force = &flag->force[flag->force_count];
    uint32_t other = arm;

    if (!flagshm_reader_string(r, spot, "an id", 1, FLAGSHM_ID_MAX, &force->id, &force->id_bytes))
        return;
    if (!flagshm_name_set_add(&list->ids, force->id, force->id_bytes, &other)) {
        if (other == arm)
            flagshm_reader_error(r, spot, "this id stands here twice");
        else
            flagshm_reader_error(r, spot, "this id is forced into \"%.40s\" already",
                                 other < flag->arm_count ? flag->arms[other].name : "another arm");
        return;
    }
    force->arm = arm;
    flag->force_count++;
}

static void read_forced_ids(struct flagshm_reader *r, struct flagshm_spot ids, uint32_t arm,
                            struct force_list *list)
{
    struct flagshm_spot spot;

    if (!cJSON_IsArray(ids.node)) {
        flagshm_reader_mismatch(r, ids, ids.node->string, "a list of ids");
        return;
    }
    for (spot = flagshm_spot_child(r, ids); spot.node && !r->no_memory; spot = flagshm_spot_next(r, spot))
        read_forced_id(r, spot, arm, list);
}

static size_t count_ids(struct flagshm_reader *r, struct flagshm_spot value)
{
    struct flagshm_spot spot;
    size_t count = 0;

    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot))
        if (cJSON_IsArray(spot.node))
            count += (size_t)cJSON_GetArraySize(spot.node);
    return count;
}

void flagshm_reader_force(struct flagshm_reader *r, struct flagshm_spot value, struct flagshm_flag *flag)
{
    struct force_list list = {.flag = flag};
    struct flagshm_spot spot;
    size_t count;

    if (!cJSON_IsObject(value.node)) {
        flagshm_reader_mismatch(r, value, "force", "an object");
        return;
    }
    count = count_ids(r, value);
    if (count > FLAGSHM_FORCE_MAX) {
        flagshm_reader_error(r, value, "force may list at most %u ids in all, got %zu", FLAGSHM_FORCE_MAX,
                             count);
        return;
    }
    flag->force = flagshm_arena_take(&r->file->arena, (count + 1) * sizeof *flag->force);
    if (!flag->force || !flagshm_name_set_make(&list.ids, count + 1, &r->scratch)) {
        r->no_memory = true;
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node && !r->no_memory; spot = flagshm_spot_next(r, spot))
        if (!flagshm_reader_comment(r, spot))
            read_forced_ids(r, spot, arm_of(r, spot, flag), &list);
}
