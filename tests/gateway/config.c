/* config: see the header. */
#include "tests/gateway/config.h"
#include "tests/gateway/scenario.h"
#include "tests/gateway/text.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 1e12 /* of tokens and milliseconds */

static int read_number(double *number, const cJSON *item, double max, struct flagshm_error *error)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= max))
        return flagshm_error_set(error, -EINVAL, "%s must be a number 0..%g", item->string, max);
    *number = item->valuedouble;
    return 0;
}

static int read_spread(struct gateway_spread *spread, const cJSON *item, struct flagshm_error *error)
{
    const cJSON *p50 = cJSON_GetObjectItemCaseSensitive(item, "p50");
    const cJSON *p95 = cJSON_GetObjectItemCaseSensitive(item, "p95");
    int code;

    spread->is_set = true;
    if (cJSON_IsNumber(item)) {
        code = read_number(&spread->p50, item, NUMBER_MAX, error);
        spread->p95 = spread->p50;
        return code;
    }
    if (cJSON_GetArraySize(item) != 2 || !cJSON_IsNumber(p50) || !cJSON_IsNumber(p95) ||
        !(p50->valuedouble > 0 && p95->valuedouble >= p50->valuedouble && p95->valuedouble <= NUMBER_MAX))
        return flagshm_error_set(
            error, -EINVAL, "%s must be a number, or {\"p50\": A, \"p95\": B} with 0 < A <= B", item->string);
    spread->p50 = p50->valuedouble;
    spread->p95 = p95->valuedouble;
    return 0;
}

static int read_scenario(const struct gateway_scenario **scenario, const cJSON *item,
                         struct flagshm_error *error)
{
    *scenario = cJSON_IsString(item) ? gateway_scenario_find(item->valuestring) : NULL;
    return *scenario != NULL ? 0 : gateway_scenario_unknown(error, "scenario", cJSON_GetStringValue(item));
}

static int read_field(struct gateway_model *model, const cJSON *item, struct flagshm_error *error)
{
    double number = 0;
    int code;

    if (strcmp(item->string, "error_rate") == 0)
        return read_number(&model->error_rate, item, 1, error);
    if (strcmp(item->string, "invalid_json_rate") == 0)
        return read_number(&model->invalid_json_rate, item, 1, error);
    if (strcmp(item->string, "latency_ms") == 0)
        return read_spread(&model->latency_ms, item, error);
    if (strcmp(item->string, "input_tokens") == 0)
        return read_spread(&model->input_tokens, item, error);
    if (strcmp(item->string, "output_tokens") == 0)
        return read_spread(&model->output_tokens, item, error);
    if (strcmp(item->string, "scenario") == 0)
        return read_scenario(&model->scenario, item, error);
    if (strcmp(item->string, "json") == 0) {
        model->wants_json = cJSON_IsTrue(item);
        return cJSON_IsBool(item) ? 0 : flagshm_error_set(error, -EINVAL, "json must be true or false");
    }
    if (strcmp(item->string, "error_status") == 0) {
        code = read_number(&number, item, 599, error);
        model->error_status = (unsigned)number;
        return code == 0 && number < 400 ? flagshm_error_set(error, -EINVAL, "error_status must be 400..599")
                                         : code;
    }
    return flagshm_error_set(error, -EINVAL, "unknown key \"%.100s\"", item->string);
}

static int read_model(struct gateway_model *model, const cJSON *object, struct flagshm_error *error)
{
    const cJSON *item;
    int code;

    *model = (struct gateway_model){.error_status = 500};
    if (!cJSON_IsObject(object))
        return flagshm_error_set(error, -EINVAL, "%.100s: must be an object", object->string);
    cJSON_ArrayForEach(item, object)
    {
        code = read_field(model, item, error);
        if (code != 0)
            return flagshm_error_prefix(error, code, "%.100s", object->string);
    }
    return 0;
}

static int read_models(struct gateway_config *config, const cJSON *models, struct flagshm_error *error)
{
    const cJSON *item;
    int code;

    if (!cJSON_IsObject(models))
        return flagshm_error_set(error, -EINVAL, "models must be an object");
    if (config->models != NULL)
        return flagshm_error_set(error, -EINVAL, "models is there twice");
    config->models = gateway_allocate((size_t)cJSON_GetArraySize(models) + 1, sizeof *config->models);
    cJSON_ArrayForEach(item, models)
    {
        code = read_model(&config->models[config->count], item, error);
        if (code != 0)
            return code;
        config->models[config->count++].name = gateway_copy(item->string, SIZE_MAX);
    }
    return 0;
}

static int read_root(struct gateway_config *config, const cJSON *root, struct flagshm_error *error)
{
    const cJSON *item;
    int code;

    if (!cJSON_IsObject(root))
        return flagshm_error_set(error, -EINVAL,
                                 "the config must be a JSON object with \"models\" and \"default\"");
    cJSON_ArrayForEach(item, root)
    {
        if (strcmp(item->string, "models") == 0)
            code = read_models(config, item, error);
        else if (strcmp(item->string, "default") == 0)
            code = read_model(&config->any, item, error);
        else
            code = flagshm_error_set(
                error, -EINVAL, "unknown key \"%.100s\": there are \"models\" and \"default\"", item->string);
        if (code != 0)
            return code;
    }
    return 0;
}

int gateway_config_read(struct gateway_config *config, const char *json, size_t bytes,
                        struct flagshm_error *error)
{
    struct gateway_config fresh = {.any = {.error_status = 500}};
    cJSON *root = cJSON_ParseWithLengthOpts(json, bytes + 1, NULL, true);
    int code = read_root(&fresh, root, error);

    cJSON_Delete(root);
    if (code != 0) {
        gateway_config_free(&fresh);
        return code;
    }
    gateway_config_free(config);
    *config = fresh;
    return 0;
}

void gateway_config_free(struct gateway_config *config)
{
    size_t i;

    for (i = 0; i < config->count; i++)
        free(config->models[i].name);
    free(config->models);
    *config = (struct gateway_config){.models = NULL};
}

const struct gateway_model *gateway_config_model(const struct gateway_config *config, const char *name)
{
    size_t i;

    for (i = 0; i < config->count; i++)
        if (strcmp(config->models[i].name, name) == 0)
            return &config->models[i];
    return &config->any;
}
