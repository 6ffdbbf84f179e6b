/* answer: see the header. */
#include "tests/gateway/answer.h"
#include "tests/gateway/schema.h"

#include <stdio.h>
#include <string.h>

#define BYTES_A_TOKEN 4 /* a rough rule that any tokenizer keeps to for English */
#define INPUT_BASE    8 /* of the roles and the frame around a prompt */

static const char *const news[] = {
    "na\xc3\xafve caf\xc3\xa9 prices rose by %u %% \xe2\x80\x94 \xe7\x89\xa9\xe4\xbe\xa1 went up "
    "\xf0\x9f\x93\x88, wages did not.",
    "the launch slipped by %u days; \xc2\xab"
    "tr\xc3\xa8s bien\xc2\xbb, said the crew \xf0\x9f\x9a\x80.",
    "%u of 100 readers liked it, \xe4\xb8\x80\xe5\x88\x87\xe9\xa0\x86\xe5\x88\xa9, the rest asked for "
    "\xce\xb1 and \xce\xb2.",
    "rain for %u hours in Malm\xc3\xb6 and \xc5\x81\xc3\xb3"
    "d\xc5\xba \xe2\x98\x94, then sun.",
};

static void text_write(struct gateway_text *text, const struct gateway_request *request, uint64_t *draw)
{
    struct gateway_text summary = {NULL, 0, 0};
    const char *story = news[(size_t)(gateway_draw_unit(draw) * 4)];
    unsigned number = 2 + (unsigned)(gateway_draw_unit(draw) * 90);

    gateway_text_format(&summary, "Summary (%s): ", request->model);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    gateway_text_format(&summary, story, number);
#pragma GCC diagnostic pop
    if (request->schema != NULL) {
        gateway_schema_value(text, request->schema);
    } else if (request->wants_json) {
        gateway_text_put(text, "{\"summary\": ");
        gateway_text_json(text, summary.bytes, summary.length);
        gateway_text_format(text, ", \"points\": %u, \"is_final\": true}", number);
    } else {
        gateway_text_bytes(text, summary.bytes, summary.length);
    }
    gateway_text_free(&summary);
}

/* Cuts after at most `bytes`, between characters. */
static void text_cut(struct gateway_text *text, size_t bytes)
{
    if (bytes >= text->length)
        return;
    while (bytes > 0 && ((unsigned char)text->bytes[bytes] & 0xc0) == 0x80)
        bytes--;
    text->length = bytes;
    text->bytes[bytes] = '\0';
}

static uint64_t tokens_draw(const struct gateway_spread *spread, size_t bytes, uint64_t *draw)
{
    double tokens =
        gateway_draw_spread(draw, spread); /* drawn in any case: the draws that follow stay the same */

    return spread->is_set ? (uint64_t)(tokens + 0.5) : bytes / BYTES_A_TOKEN + 1;
}

static void tool_call(struct gateway_answer *answer, const struct gateway_request *request)
{
    bool is_broken = (answer->traits & GATEWAY_BROKEN_TOOL) != 0;

    if (request->tool == NULL && !is_broken)
        return;
    answer->tool_name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request->tool, "name"));
    if (answer->tool_name == NULL)
        answer->tool_name = "lookup";
    answer->stop_reason = "tool_use";
    answer->is_valid = !is_broken;
    if (!is_broken)
        gateway_schema_value(&answer->input, cJSON_GetObjectItemCaseSensitive(request->tool, "input_schema"));
    else if (request->is_stream)
        gateway_text_put(&answer->input, "{\"city\": \"Malm\xc3\xb6\", \"days");
    else
        gateway_text_put(&answer->input, "{}");
}

static void usage_decide(struct gateway_answer *answer, const struct gateway_request *request, uint64_t *draw)
{
    struct gateway_usage *usage = &answer->usage;
    unsigned traits = answer->traits;

    usage->input = tokens_draw(&request->behaviour->input_tokens, request->prompt_bytes, draw);
    if (!request->behaviour->input_tokens.is_set)
        usage->input += INPUT_BASE;
    usage->output =
        tokens_draw(&request->behaviour->output_tokens, answer->text.length + answer->input.length, draw);
    if ((traits & GATEWAY_MAX_TOKENS) != 0 ||
        (request->behaviour->output_tokens.is_set && usage->output > request->max_tokens)) {
        usage->output = request->max_tokens;
        answer->stop_reason = "max_tokens";
        answer->tool_name = NULL;
        text_cut(&answer->text, answer->text.length / 2);
        answer->is_valid = !request->wants_json && request->tool == NULL;
    }
    if ((traits & GATEWAY_CACHE_TOKENS) != 0) {
        usage->cache_creation = 300;
        usage->cache_read = 7000;
    }
    if ((traits & GATEWAY_HUGE_USAGE) != 0)
        *usage = (struct gateway_usage){9007199254740993u, 4294967297u, 1, UINT64_MAX};
    if ((traits & GATEWAY_BAD_USAGE) != 0)
        *usage = (struct gateway_usage){0, 0, 0, 0};
}

static void message_decide(struct gateway_answer *answer, const struct gateway_request *request,
                           uint64_t *draw)
{
    bool is_invalid = gateway_draw_unit(draw) < request->behaviour->invalid_json_rate && !request->has_chosen;

    answer->status = 200;
    answer->stop_reason = "end_turn";
    answer->is_valid = true;
    text_write(&answer->text, request, draw);
    if ((answer->traits & GATEWAY_INVALID_JSON) != 0 || is_invalid) {
        answer->text.length = 0;
        gateway_text_put(&answer->text, "{\"summary\": \"caf\xc3\xa9 prices ros");
        answer->is_valid = false;
    } else if ((answer->traits & GATEWAY_REFUSAL) != 0) {
        answer->text.length = 0;
        answer->stop_reason = "refusal";
        answer->is_valid = !request->wants_json && request->tool == NULL;
    } else {
        tool_call(answer, request);
    }
    usage_decide(answer, request, draw);
    if ((answer->traits & GATEWAY_BAD_BODY) != 0)
        answer->is_valid = false;
}

static void latency_decide(struct gateway_answer *answer, const struct gateway_request *request,
                           uint64_t *draw)
{
    double ms = gateway_draw_spread(draw, &request->behaviour->latency_ms);

    if (request->behaviour->latency_ms.is_set)
        answer->latency_ns = (uint64_t)(ms * 1e6);
}

void gateway_answer_refuse(struct gateway_answer *answer, unsigned status, const char *text)
{
    answer->status = status;
    answer->error_type = gateway_error_type(status);
    answer->is_valid = false;
    gateway_text_put(&answer->error_text, text);
}

static void scenario_error(struct gateway_answer *answer, const struct gateway_request *request,
                           unsigned status)
{
    char text[GATEWAY_TAG_MAX + 64];
    const char *key;

    (void)snprintf(text, sizeof text, "scripted error %u", status);
    if (status == 404)
        (void)snprintf(text, sizeof text, "model: %s", request->model);
    if (status == 529)
        (void)snprintf(text, sizeof text, "Overloaded");
    if ((answer->traits & GATEWAY_UNKNOWN_PARAMETER) != 0) {
        key = gateway_request_unknown_key(request->json, gateway_request_parameters);
        (void)snprintf(text, sizeof text, "%.100s: Extra inputs are not permitted",
                       key != NULL ? key : "parameter");
    }
    gateway_answer_refuse(answer, status, text);
}

void gateway_answer_decide(struct gateway_answer *answer, const struct gateway_request *request,
                           const struct gateway_chance *chance)
{
    const struct gateway_scenario *scenario = request->scenario;
    uint64_t key = gateway_hash(gateway_hash(chance->seed, request->model), request->user_id);
    uint64_t draw;

    answer->number = gateway_tally_next(chance->tally, key);
    draw = key ^ answer->number * 0xd6e8feb86659fd93u;
    answer->id = gateway_hash(draw, "id");
    answer->traits = scenario->traits;
    latency_decide(answer, request, &draw);
    if (gateway_draw_unit(&draw) < request->behaviour->error_rate && !request->has_chosen) {
        answer->traits = 0;
        scenario_error(answer, request, request->behaviour->error_status);
    } else if (scenario->status != 0 &&
               (scenario->times == 0 ||
                gateway_tally_next(chance->tally, gateway_hash(key, scenario->name)) < scenario->times)) {
        scenario_error(answer, request, scenario->status);
    } else if ((scenario->traits & GATEWAY_STREAM_ERROR) != 0 && !request->is_stream) {
        scenario_error(answer, request, 529);
    } else {
        if (scenario->status != 0)
            answer->traits = 0;
        message_decide(answer, request, &draw);
    }
}

void gateway_answer_free(struct gateway_answer *answer)
{
    gateway_text_free(&answer->error_text);
    gateway_text_free(&answer->text);
    gateway_text_free(&answer->input);
}
