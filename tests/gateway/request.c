/* request: see the header. */
#include "tests/gateway/request.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TOKENS_MAX 1e9 /* what no model gives; larger is a slip of the caller */

const char *const gateway_request_parameters[] = {
    "model",          "max_tokens",   "messages",      "system",      "metadata",
    "stop_sequences", "stream",       "tools",         "tool_choice", "thinking",
    "output_config",  "service_tier", "inference_geo", "container",   "cache_control",
    "temperature",    "top_p",        "top_k",         NULL};
static const char *const metadata_known[] = {"user_id", NULL};

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *gateway_request_unknown_key(const cJSON *object, const char *const *known)
{
    const char *const *name;
    const cJSON *item;

    cJSON_ArrayForEach(item, object)
    {
        for (name = known; *name != NULL && strcmp(*name, item->string) != 0; name++)
            continue;
        if (*name == NULL)
            return item->string;
    }
    return NULL;
}

static unsigned bad(struct flagshm_error *error, unsigned status, const char *text)
{
    (void)flagshm_error_set(error, 0, "%s", text);
    return status;
}

static char *tag(const cJSON *holder, const char *name, const char *header)
{
    const char *text = cJSON_GetStringValue(member(holder, name));

    if (text == NULL)
        text = header != NULL ? header : "";
    return gateway_copy(text, GATEWAY_TAG_MAX);
}

static void tags_read(struct gateway_request *request, const struct gateway_headers *headers)
{
    const cJSON *metadata = member(request->json, "metadata");

    request->model = tag(request->json, "model", NULL);
    request->user_id = tag(metadata, "user_id", headers->user_id);
    request->flag_variant = tag(metadata, "flag_variant", headers->flag_variant);
    request->rollout_stage = tag(metadata, "rollout_stage", headers->rollout_stage);
    request->version = gateway_copy(headers->version != NULL ? headers->version : "", GATEWAY_TAG_MAX);
    request->retry_after =
        gateway_copy(headers->retry_after != NULL ? headers->retry_after : "1", GATEWAY_TAG_MAX);
    request->retry = headers->retry_count != NULL ? (unsigned)strtoul(headers->retry_count, NULL, 10) : 0;
    request->delay_ms =
        headers->delay_ms != NULL ? (int64_t)strtoul(headers->delay_ms, NULL, 10) % 3600000 : -1;
    request->is_stream = cJSON_IsTrue(member(request->json, "stream"));
    request->accepts_gzip =
        headers->accept_encoding != NULL && strstr(headers->accept_encoding, "gzip") != NULL;
    request->auth = "none";
    if (headers->api_key != NULL && headers->api_key[0] != '\0')
        request->auth = "x-api-key";
    else if (headers->authorization != NULL && strncasecmp(headers->authorization, "Bearer ", 7) == 0)
        request->auth = "authorization";
}

static unsigned scenario_choose(struct gateway_request *request, const struct gateway_headers *headers,
                                const struct gateway_scenario *fallback, struct flagshm_error *error)
{
    const char *name = headers->scenario, *what = "x-gateway-scenario";

    if (name == NULL && strncmp(request->model, "gw-", 3) == 0) {
        name = request->model + 3;
        what = "model";
    }
    request->has_chosen = name != NULL;
    request->scenario = request->behaviour->scenario != NULL ? request->behaviour->scenario : fallback;
    if (name != NULL && gateway_scenario_find(name) != NULL)
        request->scenario = gateway_scenario_find(name);
    else if (name != NULL)
        return gateway_scenario_unknown(error, what, name) != 0 ? 400 : 0;
    return 0;
}

/* A message's content is text, or blocks of which text is looked at. */
static void content_read(struct gateway_request *request, const cJSON *content, bool *has_tool_result)
{
    const cJSON *block;
    const char *text = cJSON_GetStringValue(content);

    if (text != NULL) {
        request->prompt_bytes += strlen(text);
        request->wants_json =
            request->wants_json || strstr(text, "JSON") != NULL || strstr(text, "json") != NULL;
        return;
    }
    cJSON_ArrayForEach(block, content)
    {
        const char *type = cJSON_GetStringValue(member(block, "type"));

        if (type != NULL && strcmp(type, "tool_result") == 0)
            *has_tool_result = true;
        if (cJSON_IsString(member(block, "text")))
            content_read(request, member(block, "text"), has_tool_result);
    }
}

static unsigned messages_read(struct gateway_request *request, bool *has_tool_result,
                              struct flagshm_error *error)
{
    const cJSON *messages = member(request->json, "messages"), *message;

    if (messages == NULL)
        return bad(error, 400, "messages: Field required");
    if (!cJSON_IsArray(messages) || cJSON_GetArraySize(messages) == 0)
        return bad(error, 400, "messages: at least one message is required");
    cJSON_ArrayForEach(message, messages)
    {
        const char *role = cJSON_GetStringValue(member(message, "role"));
        const cJSON *content = member(message, "content");

        if (role == NULL || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
            return bad(error, 400, "messages: role must be \"user\" or \"assistant\"");
        if (!cJSON_IsString(content) && !cJSON_IsArray(content))
            return bad(error, 400, "messages: content must be a string or an array of blocks");
        if (cJSON_IsString(content) ? content->valuestring[0] == '\0' : content->child == NULL)
            return bad(error, 400, "messages: content must not be empty");
        *has_tool_result = false; /* only the last message's counts */
        content_read(request, content, has_tool_result);
    }
    content_read(request, member(request->json, "system"), &(bool){false});
    return 0;
}

static void tool_choose(struct gateway_request *request, bool has_tool_result)
{
    const cJSON *tools = member(request->json, "tools"), *choice = member(request->json, "tool_choice"),
                *tool;
    const char *type = cJSON_GetStringValue(member(choice, "type"));
    const char *name = cJSON_GetStringValue(member(choice, "name"));

    if (has_tool_result || (type != NULL && strcmp(type, "none") == 0))
        return;
    cJSON_ArrayForEach(tool, tools)
    {
        const char *this_name = cJSON_GetStringValue(member(tool, "name"));

        if (this_name != NULL && (name == NULL || strcmp(name, this_name) == 0)) {
            request->tool = tool;
            return;
        }
    }
}

static unsigned body_check(struct gateway_request *request, struct flagshm_error *error)
{
    static const char *const sampling[] = {"temperature", "top_p", "top_k"};
    const cJSON *max_tokens = member(request->json, "max_tokens");
    const cJSON *format = member(member(request->json, "output_config"), "format");
    bool has_tool_result = false;
    unsigned status;
    size_t i;

    if (!cJSON_IsObject(request->json))
        return bad(error, 400, "The request body is not valid JSON, or no object.");
    if (request->model[0] == '\0')
        return bad(error, 400, "model: Field required");
    if (!cJSON_IsNumber(max_tokens) ||
        !(max_tokens->valuedouble >= 1 && max_tokens->valuedouble <= MAX_TOKENS_MAX))
        return bad(error, 400, "max_tokens: must be a whole number of at least 1");
    request->max_tokens = (uint64_t)max_tokens->valuedouble;
    status = messages_read(request, &has_tool_result, error);
    if (status != 0)
        return status;
    for (i = 0; i < 3; i++)
        if (strcmp(request->version, "2026-10-21") >= 0 && member(request->json, sampling[i]) != NULL) {
            (void)flagshm_error_set(error, 0, "%s: not supported by this anthropic-version", sampling[i]);
            return 400;
        }
    request->schema = member(format, "schema");
    request->wants_json = request->wants_json || request->schema != NULL || request->behaviour->wants_json;
    tool_choose(request, has_tool_result);
    return 0;
}

static unsigned parameters_check(const struct gateway_request *request, struct flagshm_error *error)
{
    const char *key = gateway_request_unknown_key(member(request->json, "metadata"), metadata_known);

    if ((request->scenario->traits & GATEWAY_STRICT_METADATA) != 0 && key != NULL) {
        (void)flagshm_error_set(error, 0, "metadata.%.100s: Extra inputs are not permitted", key);
        return 400;
    }
    return 0;
}

unsigned gateway_request_read(struct gateway_request *request, const struct gateway_headers *headers,
                              const char *body, size_t bytes, const struct gateway_config *config,
                              const struct gateway_scenario *fallback, struct flagshm_error *error)
{
    unsigned status;

    *request = (struct gateway_request){.scenario = fallback};
    request->json = cJSON_ParseWithLengthOpts(body, bytes + 1, NULL, true);
    tags_read(request, headers);
    request->behaviour = gateway_config_model(config, request->model);
    status = scenario_choose(request, headers, fallback, error);
    if (status != 0)
        return status;
    if (strcmp(request->auth, "none") == 0)
        return bad(error, 401, "x-api-key header is required");
    if (request->version[0] == '\0')
        return bad(error, 400, "anthropic-version: header is required");
    if (headers->content_type == NULL || strncasecmp(headers->content_type, "application/json", 16) != 0)
        return bad(error, 400, "content-type: must be application/json");
    status = body_check(request, error);
    return status != 0 ? status : parameters_check(request, error);
}

void gateway_request_free(struct gateway_request *request)
{
    cJSON_Delete(request->json);
    free(request->model);
    free(request->user_id);
    free(request->flag_variant);
    free(request->rollout_stage);
    free(request->version);
    free(request->retry_after);
    *request = (struct gateway_request){.json = NULL};
}
