/* ezai: the body of a request, from an arm's value and what the caller adds. Pure. A room of ezai.h, which
 * includes it. */
#ifndef FLAGSHM_EZAI_REQUEST_H
#define FLAGSHM_EZAI_REQUEST_H
#ifndef FLAGSHM_EZAI_H
#error "include ezai.h"
#endif

/* ---- The request ---- */

/* One call on its way, with all its attempts. */
struct ezai_call_ {
    struct ezai_request
        request; /* the texts in it are the caller's, and gone for a shadow call once `body` is made */
    struct ezai_message_ message;
    struct ezai_events_ events;
    struct ezai_text_ body, received; /* what is sent; an answer that is no stream */
    char version[48], beta[256];      /* headers that the arm sets */
    struct curl_slist *headers;
    bool may_ask, is_altered; /* the caller's checks may be called; tools were taken out */
    /* of the attempt */
    uint64_t begin_mono_ns, received_bytes;
    uint32_t status, attempt;  /* attempt 0, 1, ... */
    bool is_events;            /* the answer is a stream */
    int stop;                  /* why we ended the transfer ourselves: -errno */
    char why[CURL_ERROR_SIZE]; /* libcurl's own words where it did */
    char retry_after[64], retry_after_ms[32], should_retry[8];
};

/* Keys of an arm (or of `extra`) that are not simply handed on. */
FLAGSHM_COLD_ bool ezai_is_ours_(const struct ezai_member_ *m)
{
    static const char *const ours[] = {"model",          "max_tokens", "messages", "metadata",
                                       "stream",         "system",     "prompt",   "anthropic-version",
                                       "anthropic-beta", "$comment"};
    size_t i;
    for (i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (ezai_is_key_(m, ours[i]))
            return true;
    return false;
}
/* Keys that let the other side act: a shadow call goes without them. */
FLAGSHM_COLD_ bool ezai_is_deed_(const struct ezai_member_ *m)
{
    return ezai_is_key_(m, "tools") || ezai_is_key_(m, "tool_choice") || ezai_is_key_(m, "mcp_servers") ||
           ezai_is_key_(m, "container");
}

/* "key":VALUE from the first of the two objects that has it, before it a comma. False: neither. */
FLAGSHM_COLD_ bool ezai_take_(struct ezai_text_ *t, const char *key, const char *name, const char *arm,
                              const char *extra)
{
    struct ezai_member_ m;
    if (!ezai_find_(arm, name, &m) && !ezai_find_(extra, name, &m))
        return false;
    ezai_put_(t, ",\"");
    ezai_put_(t, key);
    ezai_put_(t, "\":");
    return ezai_add_(t, m.value, m.value_bytes);
}

FLAGSHM_COLD_ char ezai_last_(const struct ezai_text_ *t)
{
    return t->length != 0 ? t->bytes[t->length - 1] : '\0';
}
/* A comma, unless the object or array has only just begun. */
FLAGSHM_COLD_ void ezai_put_comma_(struct ezai_text_ *t)
{
    if (ezai_last_(t) != '{' && ezai_last_(t) != '[')
        ezai_put_(t, ",");
}
FLAGSHM_COLD_ void ezai_put_raw_(struct ezai_text_ *t, const struct ezai_member_ *m)
{
    ezai_put_comma_(t);
    ezai_put_(t, "\"");
    ezai_add_(t, m->key, m->key_bytes);
    ezai_put_(t, "\":");
    ezai_add_(t, m->value, m->value_bytes);
}

/* What stands between the brackets of a JSON array, behind what is there. */
FLAGSHM_COLD_ void ezai_put_items_(struct ezai_text_ *t, const char *array, size_t bytes)
{
    const char *end = array + bytes, *begin = ezai_json_space_(array, end) + 1;
    while (end > begin && *--end != ']') {
    }
    begin = ezai_json_space_(begin, end);
    if (begin == end)
        return;
    ezai_put_comma_(t);
    ezai_add_(t, begin, (size_t)(end - begin));
}

/* The members of "metadata": the arm's or the caller's own, and the tags. */
FLAGSHM_COLD_ void ezai_put_metadata_(struct ezai_text_ *t, const struct ezai_request *q, const char *arm,
                                      const struct flagshm_decision *d, enum ezai_tags tags)
{
    static const char *const keys[] = {"user_id", "flag_variant", "rollout_stage"};
    const char *values[3], *object;
    struct ezai_member_ m;
    size_t i, before = t->length;

    values[0] = q->user_id != NULL ? q->user_id : q->id;
    values[1] = d->arm_name;
    values[2] = d->stage;
    ezai_put_(t, ",\"metadata\":{");
    if (ezai_find_(arm, "metadata", &m) || ezai_find_(q->extra, "metadata", &m))
        for (object = m.value; ezai_next_(&object, &m);)
            if (tags != EZAI_TAGS_METADATA ||
                !(ezai_is_key_(&m, keys[0]) || ezai_is_key_(&m, keys[1]) || ezai_is_key_(&m, keys[2])))
                ezai_put_raw_(t, &m);
    for (i = 0; i < 3 && tags == EZAI_TAGS_METADATA; i++) {
        if (values[i] == NULL || values[i][0] == '\0')
            continue;
        ezai_put_comma_(t);
        ezai_put_member_(t, keys[i], values[i]);
    }
    if (ezai_last_(t) == '{')
        t->length = before; /* nothing came of it */
    else
        ezai_put_(t, "}");
}

/* The text of an arm's string member, for a header: only what needs no escape. False: it is something else. */
FLAGSHM_COLD_ bool ezai_header_value_(const char *arm, const char *key, char *out, size_t room)
{
    struct ezai_member_ m;
    size_t i;
    out[0] = '\0';
    if (!ezai_find_(arm, key, &m))
        return true;
    if (m.value_bytes < 3 || m.value[0] != '"' || m.value_bytes - 2 >= room)
        return false;
    for (i = 1; i + 1 < m.value_bytes; i++)
        if (m.value[i] <= 0x20 || m.value[i] >= 0x7f || m.value[i] == '\\')
            return false;
    memcpy(out, m.value + 1, m.value_bytes - 2);
    out[m.value_bytes - 2] = '\0';
    return true;
}

/* Makes the body for a decision and its arm's value (NULL: a model and nothing else). 0, or -EINVAL,
 * -ENOMEM: said. */
FLAGSHM_COLD_ int ezai_body_(struct ezai_call_ *c, const struct flagshm_decision *d, const char *arm,
                             enum ezai_tags tags, bool is_shadow)
{
    const struct ezai_request *q = &c->request;
    const char *model = d->model[0] != '\0' ? d->model : q->default_model, *at;
    struct ezai_text_ *t = &c->body;
    struct ezai_member_ m;
    int source;

    if (model == NULL || model[0] == '\0')
        return ezai_fail_(c->message.reply, -EINVAL, "no model: neither the arm nor default_model names one",
                          NULL);
    if (q->messages != NULL && !ezai_is_json_(q->messages, strlen(q->messages), '['))
        return ezai_fail_(c->message.reply, -EINVAL, "messages is no JSON array", NULL);
    if (q->extra != NULL && !ezai_is_json_(q->extra, strlen(q->extra), '{'))
        return ezai_fail_(c->message.reply, -EINVAL, "extra is no JSON object", NULL);
    if (arm != NULL && !ezai_is_json_(arm, strlen(arm), '{'))
        return ezai_fail_(c->message.reply, -EINVAL, "the arm's value is no JSON object", NULL);
    if (!ezai_header_value_(arm, "anthropic-version", c->version, sizeof c->version) ||
        !ezai_header_value_(arm, "anthropic-beta", c->beta, sizeof c->beta))
        return ezai_fail_(c->message.reply, -EINVAL, "the arm's anthropic-version or -beta is no plain text",
                          NULL);

    ezai_put_(t, "{");
    ezai_put_member_(t, "model", model);
    if (!ezai_take_(t, "max_tokens", "max_tokens", arm, q->extra))
        ezai_put_number_(t, "max_tokens", q->max_tokens != 0 ? q->max_tokens : 1024);
    if (!ezai_take_(t, "system", "system", arm, NULL) && !ezai_take_(t, "system", "prompt", arm, NULL)) {
        if (q->system != NULL) {
            ezai_put_(t, ",");
            ezai_put_member_(t, "system", q->system);
        } else {
            (void)ezai_take_(t, "system", "system", NULL, q->extra);
        }
    }
    ezai_put_(t, ",\"messages\":[");
    if (ezai_find_(arm, "messages", &m) && m.value[0] == '[')
        ezai_put_items_(t, m.value, m.value_bytes);
    if (q->messages != NULL)
        ezai_put_items_(t, q->messages, strlen(q->messages));
    if (q->prompt != NULL) {
        ezai_put_comma_(t);
        ezai_put_(t, "{\"role\":\"user\",");
        ezai_put_member_(t, "content", q->prompt);
        ezai_put_(t, "}");
    }
    if (ezai_last_(t) == '[')
        return ezai_fail_(c->message.reply, -EINVAL, "nothing is asked: neither prompt nor messages", NULL);
    ezai_put_(t, "]");
    for (source = 0; source < 2; source++) {
        at = source == 0 ? arm : q->extra;
        while (at != NULL && ezai_next_(&at, &m)) {
            if (ezai_is_ours_(&m) || (source == 1 && ezai_has_(arm, &m)))
                continue;
            if (is_shadow && ezai_is_deed_(&m)) {
                c->is_altered = true;
                continue;
            }
            ezai_put_raw_(t, &m);
        }
    }
    ezai_put_metadata_(t, q, arm, d, tags);
    ezai_put_(t, c->request.is_stream ? ",\"stream\":true}" : "}");
    if (t->has_failed)
        return ezai_fail_(c->message.reply, -ENOMEM, "out of memory", NULL);
    return 0;
}

#endif
