/* stream: an answer as server-sent events, in the vendor's order: message_start, the blocks, message_delta, message_stop. See answer.h. */
#include "tests/gateway/answer.h"

#include <inttypes.h>
#include <string.h>

#define PIECE_BYTES   12 /* about the size of the vendor's text deltas */
#define PART_MS       100
#define FLOOD_PIECES  64 /* events laid out in the filler */
#define FLOOD_LETTERS 4096

struct stream {
    struct gateway_script *script;
    const struct gateway_answer *answer;
    const struct gateway_request *request;
    struct gateway_text data; /* of the event that is being written */
    const char *line_end;
    uint64_t part_ns; /* before each event; 0: at once */
    size_t pieces;    /* deltas written */
    unsigned index;   /* of the block */
    bool is_over;     /* nothing more is written */
};

static void event(struct stream *s, const char *name)
{
    struct gateway_text *out = &s->script->bytes;
    const char *data = s->data.bytes;

    s->data.length = 0; /* the next one begins anew; `data` still ends where it did */
    if (s->is_over)
        return;
    if (s->part_ns > 0)
        gateway_script_pause(s->script, s->part_ns);
    gateway_text_format(out, "event: %s%sdata: %s%s%s", name, s->line_end, data, s->line_end, s->line_end);
    if ((s->answer->traits & GATEWAY_PING) != 0)
        gateway_text_format(out, ": keep alive%s%sevent: ping%sdata: {\"type\": \"ping\"}%s%s", s->line_end,
                            s->line_end, s->line_end, s->line_end, s->line_end);
}

static void end_early(struct stream *s, enum gateway_end end)
{
    s->script->end = end;
    s->script->is_whole = false;
    s->is_over = true;
}

static void flood(struct stream *s)
{
    struct gateway_text *filler = &s->script->filler;
    char letters[FLOOD_LETTERS];
    size_t i;

    memset(letters, 'x', sizeof letters);
    if ((s->answer->traits & GATEWAY_FLOOD) != 0) {
        gateway_text_put(&s->script->bytes,
                         "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
                         "\"delta\":{\"type\":\"text_delta\",\"text\":\"");
        gateway_text_bytes(filler, letters, sizeof letters);
    } else {
        for (i = 0; i < FLOOD_PIECES; i++)
            gateway_text_put(
                filler, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
                        "\"delta\":{\"type\":\"text_delta\",\"text\":\"once more, \"}}\n\n");
    }
    s->script->filler_bytes = GATEWAY_FLOOD_BYTES;
    end_early(s, GATEWAY_END_ABORT);
}

/* What befalls a stream in the middle of its text. */
static void mishap(struct stream *s)
{
    unsigned traits = s->answer->traits;

    if (s->is_over)
        return;
    if ((traits & GATEWAY_UNKNOWN_EVENT) != 0) {
        gateway_text_put(&s->data, "{\"type\":\"future_event\",\"glow\":[1,{\"type\":\"message_stop\"}]}");
        event(s, "future_event");
        gateway_text_format(&s->data,
                            "{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":{\"type\":\"future_"
                            "delta\",\"glow\":1}}",
                            s->index);
        event(s, "content_block_delta");
        gateway_text_put(&s->script->bytes, "id: 7\nretry: 3000\nfuture: field\n\n");
    }
    if ((traits & GATEWAY_STREAM_ERROR) != 0) {
        gateway_error_body(&s->data, "overloaded_error", "Overloaded", s->answer->id);
        event(s, "error");
        end_early(s, GATEWAY_END_WHOLE);
    } else if ((traits & GATEWAY_BAD_BODY) != 0) {
        gateway_text_put(&s->data, "{\"type\":\"content_block_delta\",\"delta\":{<html>");
        event(s, "content_block_delta");
    } else if ((traits & GATEWAY_CUT) != 0) {
        end_early(s, GATEWAY_END_WHOLE);
    } else if ((traits & GATEWAY_ABORT) != 0) {
        gateway_text_put(&s->script->bytes, "event: content_block_delta\ndata: {\"type\":\"content_bl");
        end_early(s, GATEWAY_END_ABORT);
    } else if ((traits & GATEWAY_HANG_BODY) != 0) {
        end_early(s, GATEWAY_END_HANG);
    } else if ((traits & (GATEWAY_FLOOD | GATEWAY_FLOOD_EVENTS)) != 0) {
        flood(s);
    }
}

static void message_start(struct stream *s)
{
    static const struct gateway_answer nothing = {.status = 200};

    gateway_text_format(&s->data,
                        "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_%016" PRIx64
                        "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":",
                        s->answer->id);
    gateway_text_json_string(&s->data, s->request->model);
    gateway_text_put(&s->data, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    if ((s->answer->traits & GATEWAY_LATE_USAGE) != 0)
        gateway_answer_usage(&s->data, &nothing, 0);
    else
        gateway_answer_usage(&s->data, s->answer, 1); /* as the vendor begins */
    gateway_text_put(&s->data, "}}");
    event(s, "message_start");
}

static void block_stop(struct stream *s)
{
    gateway_text_format(&s->data, "{\"type\":\"content_block_stop\",\"index\":%u}", s->index);
    event(s, "content_block_stop");
    s->index++;
}

/* Pieces of the text, between characters; half-way comes the mishap. */
static void deltas(struct stream *s, const char *type, const char *member, const struct gateway_text *text)
{
    size_t begin = 0, end;
    bool was_there = false;

    while (begin < text->length) {
        end = begin + PIECE_BYTES < text->length ? begin + PIECE_BYTES : text->length;
        while (end < text->length && ((unsigned char)text->bytes[end] & 0xc0) == 0x80)
            end++;
        gateway_text_format(
            &s->data,
            "{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":{\"type\":\"%s\",\"%s\":", s->index,
            type, member);
        gateway_text_json(&s->data, text->bytes + begin, end - begin);
        gateway_text_put(&s->data, "}}");
        event(s, "content_block_delta");
        begin = end;
        if (!was_there && begin >= text->length / 2) {
            was_there = true;
            mishap(s);
        }
    }
}

static void text_block(struct stream *s)
{
    if (s->answer->text.length == 0)
        return;
    gateway_text_format(
        &s->data,
        "{\"type\":\"content_block_start\",\"index\":%u,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
        s->index);
    event(s, "content_block_start");
    gateway_text_put(&s->data, "{\"type\": \"ping\"}");
    event(s, "ping");
    deltas(s, "text_delta", "text", &s->answer->text);
    block_stop(s);
}

static void tool_block(struct stream *s)
{
    if (s->answer->tool_name == NULL)
        return;
    gateway_text_format(
        &s->data,
        "{\"type\":\"content_block_start\",\"index\":%u,\"content_block\":{\"type\":\"tool_use\","
        "\"id\":\"toolu_%016" PRIx64 "\",\"name\":",
        s->index, s->answer->id);
    gateway_text_json_string(&s->data, s->answer->tool_name);
    gateway_text_put(&s->data, ",\"input\":{}}}");
    event(s, "content_block_start");
    if ((s->answer->traits & GATEWAY_NO_TOOL_INPUT) == 0) {
        gateway_text_format(&s->data,
                            "{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":"
                            "{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}",
                            s->index);
        event(s, "content_block_delta");
        deltas(s, "input_json_delta", "partial_json", &s->answer->input);
    }
    block_stop(s);
}

static void message_end(struct stream *s)
{
    const struct gateway_answer *answer = s->answer;

    if (!s->is_over && answer->latency_ns > 0)
        gateway_script_pause(s->script, answer->latency_ns - answer->latency_ns / 10 * 3);
    gateway_text_format(
        &s->data, "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null",
        answer->stop_reason);
    if ((answer->traits & GATEWAY_REFUSAL) != 0)
        gateway_text_put(&s->data, ",\"stop_details\":{\"type\":\"refusal\",\"category\":\"cyber\","
                                   "\"explanation\":\"scripted refusal\"}");
    gateway_text_put(&s->data, "},\"usage\":");
    if ((answer->traits & (GATEWAY_LATE_USAGE | GATEWAY_BAD_USAGE)) != 0)
        gateway_answer_usage(&s->data, answer, answer->usage.output);
    else
        gateway_text_format(&s->data, "{\"output_tokens\":%" PRIu64 "}", answer->usage.output);
    gateway_text_put(&s->data, "}");
    event(s, "message_delta");
    gateway_text_put(&s->data, "{\"type\":\"message_stop\"}");
    event(s, "message_stop");
}

void gateway_answer_stream(struct gateway_script *script, const struct gateway_answer *answer,
                           const struct gateway_request *request)
{
    struct stream s = {.script = script, .answer = answer, .request = request};

    s.line_end = (answer->traits & GATEWAY_PING) != 0 ? "\r\n" : "\n";
    if ((answer->traits & GATEWAY_SLOW_BODY) != 0)
        s.part_ns = (request->delay_ms >= 0 ? (uint64_t)request->delay_ms : PART_MS) * 1000000u;
    script->content_type = "text/event-stream; charset=utf-8";
    if ((answer->traits & GATEWAY_PING) != 0)
        gateway_text_put(&script->bytes,
                         ": a comment first\r\n\r\nevent: ping\r\ndata: {\"type\": \"ping\"}\r\n\r\n");
    message_start(&s);
    text_block(&s);
    tool_block(&s);
    message_end(&s);
    gateway_text_free(&s.data);
}
