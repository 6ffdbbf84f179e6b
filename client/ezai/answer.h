/* ezai: server-sent events, and the message that they or a whole body make. Pure, but for the caller's
 * on_text. A room of ezai.h, which includes it. */
#ifndef FLAGSHM_EZAI_ANSWER_H
#define FLAGSHM_EZAI_ANSWER_H
#ifndef FLAGSHM_EZAI_H
#error "include ezai.h"
#endif

/* ---- Server-sent events ----
 *
 * Lines end in CR, LF or both; a line that is empty sends the event off; its "data" lines are joined by LF.
 * Names of events are not looked at (the data has a "type"), nor are comments and other fields. What stands
 * behind the last empty line is no event. The stream may be cut into pieces anywhere.
 */

struct ezai_events_ {
    struct ezai_text_ line, data; /* what has come of a line; the event's data */
    bool has_begun, after_cr, has_data;
    int (*event)(void *user, const char *data, size_t bytes); /* another result than 0 ends the stream */
    void *user;
};

FLAGSHM_COLD_ int ezai_events_line_(struct ezai_events_ *s, const char *line, size_t bytes)
{
    int result = 0;

    if (!s->has_begun && bytes >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        bytes -= 3;
    }
    s->has_begun = true;
    if (bytes == 0) {
        if (s->has_data)
            result = s->event(s->user, s->data.bytes, s->data.length);
        s->has_data = false;
        s->data.length = 0;
        return result;
    }
    if (bytes < 4 || memcmp(line, "data", 4) != 0 || (bytes > 4 && line[4] != ':'))
        return 0;
    line += bytes > 4 ? 5 : 4;
    bytes -= bytes > 4 ? 5 : 4;
    if (bytes > 0 && *line == ' ') {
        line++;
        bytes--;
    }
    if (s->has_data)
        ezai_put_(&s->data, "\n");
    s->has_data = true;
    return ezai_add_(&s->data, line, bytes) ? 0 : -EMSGSIZE;
}

/* 0, what the event's function returned, or -EMSGSIZE where a line or an event is too long. */
FLAGSHM_COLD_ int ezai_events_feed_(struct ezai_events_ *s, const char *bytes, size_t count)
{
    size_t begin = 0, i;
    int result = 0;

    for (i = 0; i < count && result == 0; i++) {
        bool is_second = s->after_cr && bytes[i] == '\n';
        s->after_cr = bytes[i] == '\r';
        if (is_second) {
            begin = i + 1;
        } else if (bytes[i] == '\n' || bytes[i] == '\r') {
            if (s->line.length == 0) {
                result = ezai_events_line_(s, bytes + begin, i - begin);
            } else if (!ezai_add_(&s->line, bytes + begin, i - begin)) {
                result = -EMSGSIZE;
            } else {
                result = ezai_events_line_(s, s->line.bytes, s->line.length);
                s->line.length = 0;
            }
            begin = i + 1;
        }
    }
    if (result == 0 && begin < count && !ezai_add_(&s->line, bytes + begin, count - begin))
        result = -EMSGSIZE;
    return result;
}
FLAGSHM_COLD_ void ezai_events_free_(struct ezai_events_ *s)
{
    ezai_text_free_(&s->line);
    ezai_text_free_(&s->data);
}

/* ---- The answer ---- */

struct ezai_message_ {
    struct ezai_reply *reply;
    const struct ezai_request *request; /* for on_text */
    struct ezai_text_ text, part;       /* all text; what has come of the open block's text or input */
    cJSON *content, *open;              /* `open` is the last of content */
    uint64_t input, output, cache_written, cache_read;
    uint64_t first_mono_ns; /* of the first piece of content; 0: none yet */
    const struct ezai_hooks *hooks;
    uint32_t status;                       /* of the error, where has_failed */
    bool has_begun, has_ended, has_failed; /* any event; message_stop; an error */
    bool has_tool, has_bad_tool;
};

FLAGSHM_COLD_ uint64_t ezai_now_(const struct ezai_hooks *hooks)
{
    return hooks->mono_ns != NULL ? hooks->mono_ns(hooks->user) : flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
}

FLAGSHM_COLD_ const char *ezai_string_(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

/* A count of tokens that may be anything: not a number, negative, a fraction, 1e300. More than 2^53 is 2^53. */
FLAGSHM_COLD_ void ezai_count_(const cJSON *usage, const char *key, uint64_t *count)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(usage, key);
    if (!cJSON_IsNumber(number))
        return;
    if (!(number->valuedouble > 0))
        *count = 0;
    else
        *count = number->valuedouble < 9007199254740992.0 ? (uint64_t)number->valuedouble
                                                          : UINT64_C(9007199254740992);
}
/* Counts are cumulative: what is told again is overwritten. */
FLAGSHM_COLD_ void ezai_usage_(struct ezai_message_ *m, const cJSON *usage)
{
    ezai_count_(usage, "input_tokens", &m->input);
    ezai_count_(usage, "output_tokens", &m->output);
    ezai_count_(usage, "cache_creation_input_tokens", &m->cache_written);
    ezai_count_(usage, "cache_read_input_tokens", &m->cache_read);
}

FLAGSHM_COLD_ void ezai_message_clear_(struct ezai_message_ *m)
{
    ezai_text_free_(&m->text);
    ezai_text_free_(&m->part);
    cJSON_Delete(m->content);
    m->content = m->open = NULL;
    m->input = m->output = m->cache_written = m->cache_read = m->first_mono_ns = 0;
    m->has_begun = m->has_ended = m->has_failed = m->has_tool = m->has_bad_tool = false;
}

/* Says what is wrong, once. */
FLAGSHM_COLD_ int ezai_fail_(struct ezai_reply *reply, int result, const char *what, const char *detail)
{
    char text[sizeof reply->error];
    if (reply->error[0] == '\0') {
        (void)snprintf(text, sizeof text, "%.120s%.198s", what, detail != NULL ? detail : "");
        ezai_copy_(reply->error, sizeof reply->error, text);
    }
    reply->result = result;
    return result;
}

/* The HTTP status that an error would have had, had it not come within a stream. */
FLAGSHM_COLD_ uint32_t ezai_status_of_(const char *type)
{
    static const struct {
        const char *type;
        uint32_t status;
    } known[] = {{"invalid_request_error", 400}, {"authentication_error", 401}, {"billing_error", 402},
                 {"permission_error", 403},      {"not_found_error", 404},      {"conflict_error", 409},
                 {"request_too_large", 413},     {"rate_limit_error", 429},     {"timeout_error", 504},
                 {"overloaded_error", 529}};
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].type, type) == 0)
            return known[i].status;
    return 500;
}

/* {"error": {"type", "message"}} with the HTTP status (0: the one of its type). */
FLAGSHM_COLD_ void ezai_error_(struct ezai_message_ *m, const cJSON *json, uint32_t status)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
    const char *type = ezai_string_(error, "type"), *message = ezai_string_(error, "message");
    char text[sizeof m->reply->error];

    ezai_copy_(m->reply->error_type, sizeof m->reply->error_type, type);
    if (m->reply->request_id[0] == '\0')
        ezai_copy_(m->reply->request_id, sizeof m->reply->request_id, ezai_string_(json, "request_id"));
    m->has_failed = true;
    m->status = status != 0 ? status : ezai_status_of_(m->reply->error_type);
    (void)snprintf(text, sizeof text, "%sHTTP %u%s%s: %.200s",
                   status != 0 ? "" : "an error after the answer began, as ", (unsigned)m->status,
                   type != NULL ? " " : "", m->reply->error_type, message != NULL ? message : "no message");
    (void)ezai_fail_(m->reply, -EREMOTEIO, text, NULL);
}

/* Puts a key's value into the open block, in place of what is there. */
FLAGSHM_COLD_ void ezai_block_set_(cJSON *block, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(block, key);
    if (value != NULL && !cJSON_AddItemToObject(block, key, value))
        cJSON_Delete(value);
}

FLAGSHM_COLD_ bool ezai_is_tool_(const char *type)
{
    return type != NULL && strcmp(type, "tool_use") == 0;
}

/* The open block has come to its end: what its deltas said goes into it. */
FLAGSHM_COLD_ void ezai_block_close_(struct ezai_message_ *m)
{
    const char *type = ezai_string_(m->open, "type"), *key = NULL;
    if (m->open == NULL)
        return;
    if (type != NULL && strcmp(type, "text") == 0)
        key = "text";
    else if (type != NULL && strcmp(type, "thinking") == 0)
        key = "thinking";
    if (m->part.length != 0 && key != NULL)
        ezai_block_set_(m->open, key, cJSON_CreateString(m->part.bytes));
    else if (m->part.length != 0) /* a tool's input; one that is no JSON is no input */
        ezai_block_set_(m->open, "input",
                        ezai_is_json_(m->part.bytes, m->part.length, 0) ? cJSON_Parse(m->part.bytes) : NULL);
    m->part.length = 0;
    m->open = NULL;
}

FLAGSHM_COLD_ int ezai_say_(struct ezai_message_ *m, const char *text)
{
    size_t bytes = strlen(text);
    if (!ezai_add_(&m->text, text, bytes))
        return ezai_fail_(m->reply, -EMSGSIZE, "the answer's text is too long", NULL);
    if (bytes != 0 && m->request->on_text != NULL &&
        m->request->on_text(m->request->on_text_user, text, bytes) != 0)
        return ezai_fail_(m->reply, -ECANCELED, "cancelled by the caller", NULL);
    return 0;
}

FLAGSHM_COLD_ int ezai_block_open_(struct ezai_message_ *m, cJSON *block)
{
    const char *text = NULL;
    ezai_block_close_(m);
    if (m->content == NULL)
        m->content = cJSON_CreateArray();
    if (block == NULL || !cJSON_AddItemToArray(m->content, block)) {
        cJSON_Delete(block);
        return ezai_fail_(m->reply, -ENOMEM, "out of memory", NULL);
    }
    m->open = block;
    if (strcmp(ezai_string_(block, "type") != NULL ? ezai_string_(block, "type") : "", "text") == 0)
        text = ezai_string_(block, "text");
    if (text == NULL || text[0] == '\0')
        return 0;
    return ezai_add_(&m->part, text, strlen(text))
               ? ezai_say_(m, text)
               : ezai_fail_(m->reply, -EMSGSIZE, "the answer is too long", NULL);
}

FLAGSHM_COLD_ int ezai_delta_(struct ezai_message_ *m, const cJSON *delta)
{
    static const char *const kinds[][2] = {
        {"text_delta", "text"}, {"input_json_delta", "partial_json"}, {"thinking_delta", "thinking"}};
    const char *type = ezai_string_(delta, "type"), *text = NULL;
    size_t i;

    for (i = 0; type != NULL && i < 3; i++)
        if (strcmp(type, kinds[i][0]) == 0)
            text = ezai_string_(delta, kinds[i][1]);
    if (m->first_mono_ns == 0)
        m->first_mono_ns = ezai_now_(m->hooks);
    if (text == NULL)
        return 0;          /* signatures, citations, what is yet to come */
    if (m->open == NULL) { /* an endpoint that does not announce its blocks */
        cJSON *block = cJSON_CreateObject();
        int result;
        (void)cJSON_AddStringToObject(block, "type", "text");
        if ((result = ezai_block_open_(m, block)) != 0)
            return result;
    }
    if (!ezai_add_(&m->part, text, strlen(text)))
        return ezai_fail_(m->reply, -EMSGSIZE, "the answer is too long", NULL);
    return strcmp(type, "text_delta") == 0 ? ezai_say_(m, text) : 0;
}

/* Where a message stops, and why. */
FLAGSHM_COLD_ void ezai_stop_(struct ezai_message_ *m, const cJSON *from)
{
    const char *reason = ezai_string_(from, "stop_reason");
    if (reason != NULL)
        ezai_copy_(m->reply->stop_reason, sizeof m->reply->stop_reason, reason);
}

/* One event of a stream. 0, or -errno: said. */
FLAGSHM_COLD_ int ezai_event_(void *user, const char *data, size_t bytes)
{
    struct ezai_message_ *m = (struct ezai_message_ *)user;
    cJSON *event;
    const char *type;
    int result = 0;

    if (m->has_ended || m->has_failed)
        return 0; /* [DONE] and the like */
    event = cJSON_ParseWithLength(data, bytes);
    type = ezai_string_(event, "type");
    m->has_begun = true;
    if (!cJSON_IsObject(event)) {
        result = ezai_fail_(m->reply, -EPROTO, "an event of the stream is no JSON object", NULL);
    } else if (type == NULL || strcmp(type, "ping") == 0) {
        result = 0;
    } else if (strcmp(type, "message_start") == 0) {
        const cJSON *message = cJSON_GetObjectItemCaseSensitive(event, "message");
        ezai_copy_(m->reply->model, sizeof m->reply->model, ezai_string_(message, "model"));
        ezai_usage_(m, cJSON_GetObjectItemCaseSensitive(message, "usage"));
    } else if (strcmp(type, "content_block_start") == 0) {
        cJSON *block = cJSON_DetachItemFromObjectCaseSensitive(event, "content_block");
        result =
            ezai_block_open_(m, cJSON_IsObject(block) ? block : (cJSON_Delete(block), cJSON_CreateObject()));
    } else if (strcmp(type, "content_block_delta") == 0) {
        result = ezai_delta_(m, cJSON_GetObjectItemCaseSensitive(event, "delta"));
    } else if (strcmp(type, "content_block_stop") == 0) {
        ezai_block_close_(m);
    } else if (strcmp(type, "message_delta") == 0) {
        ezai_stop_(m, cJSON_GetObjectItemCaseSensitive(event, "delta"));
        ezai_usage_(m, cJSON_GetObjectItemCaseSensitive(event, "usage"));
    } else if (strcmp(type, "message_stop") == 0) {
        ezai_block_close_(m);
        m->has_ended = true;
    } else if (strcmp(type, "error") == 0) {
        ezai_error_(m, event, 0);
    }
    cJSON_Delete(event);
    return result;
}

/* The body of an answer that is not streamed. */
FLAGSHM_COLD_ int ezai_body_read_(struct ezai_message_ *m, const char *body, size_t bytes)
{
    cJSON *json = cJSON_ParseWithLength(body, bytes), *block;
    const char *type = ezai_string_(json, "type");
    int result = 0;

    if (type != NULL && strcmp(type, "error") == 0) {
        ezai_error_(m, json, 0);
    } else if (!cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(json, "content"))) {
        result = ezai_fail_(
            m->reply, -EPROTO,
            cJSON_IsObject(json) ? "the answer has no \"content\"" : "the answer is no JSON object", NULL);
    } else {
        cJSON *content = cJSON_DetachItemFromObjectCaseSensitive(json, "content");
        while (result == 0 && (block = cJSON_DetachItemFromArray(content, 0)) != NULL) {
            result = ezai_block_open_(m, block);
            m->part.length = 0; /* a whole block: nothing is to be added */
            m->open = NULL;
        }
        cJSON_Delete(content);
        ezai_copy_(m->reply->model, sizeof m->reply->model, ezai_string_(json, "model"));
        ezai_stop_(m, json);
        ezai_usage_(m, cJSON_GetObjectItemCaseSensitive(json, "usage"));
        m->has_ended = true;
    }
    cJSON_Delete(json);
    return result;
}

/* What a whole answer is worth: the checks of the outcome. `may_ask`: the caller's functions may be called. */
FLAGSHM_COLD_ void ezai_judge_(struct ezai_message_ *m, const struct ezai_request *q, bool may_ask)
{
    struct flagshm_outcome *o = &m->reply->outcome;
    const char *stop = m->reply->stop_reason, *text = m->text.bytes != NULL ? m->text.bytes : "";
    bool is_blank = text[strspn(text, " \t\r\n")] == '\0';
    const cJSON *block;

    cJSON_ArrayForEach(block, m->content)
    {
        const cJSON *input = cJSON_GetObjectItemCaseSensitive(block, "input");
        if (!ezai_is_tool_(ezai_string_(block, "type")))
            continue;
        m->has_tool = true;
        if (!cJSON_IsObject(input) ||
            (may_ask && q->tool_ok != NULL &&
             !q->tool_ok(q->check_user,
                         ezai_string_(block, "name") != NULL ? ezai_string_(block, "name") : "", input)))
            m->has_bad_tool = true;
    }
    o->refusal = strcmp(stop, "refusal") == 0;
    o->truncated = strcmp(stop, "max_tokens") == 0 || strcmp(stop, "model_context_window_exceeded") == 0;
    o->empty = !o->refusal && is_blank && !m->has_tool;
    o->tool_checked = m->has_tool;
    o->tool_valid = m->has_tool && !m->has_bad_tool;
    if (is_blank && m->has_tool)
        return; /* what was wanted as text came as a tool call */
    o->json_checked = q->wants_json;
    o->json_valid = q->wants_json && ezai_is_json_(text, m->text.length, 0);
    if (may_ask && q->schema_ok != NULL) {
        o->schema_checked = true;
        o->schema_valid = q->schema_ok(q->check_user, text, m->text.length);
    }
}

#endif
