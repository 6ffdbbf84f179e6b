/* ezai: one attempt over libcurl, and whether and when there is another. A room of ezai.h, which includes
 * it. */
#ifndef FLAGSHM_EZAI_TRANSFER_H
#define FLAGSHM_EZAI_TRANSFER_H
#ifndef FLAGSHM_EZAI_H
#error "include ezai.h"
#endif

/* ---- Trying again ----
 *
 * As the vendor's own clients do: 408, 409, 429 and 5xx, and an exchange that broke before anything of the
 * answer was seen; "x-should-retry" overrules. After "retry-after-ms" or "retry-after" where it says at
 * most a minute, else after half a second, doubled each time up to 8 s, less up to a quarter by chance. A
 * spending limit that names no time does not pass by waiting.
 */

FLAGSHM_COLD_ bool ezai_may_retry_(uint32_t status, const char *should_retry, bool is_spent)
{
    if (strcmp(should_retry, "true") == 0)
        return true;
    if (strcmp(should_retry, "false") == 0 || is_spent)
        return false;
    return status == 408 || status == 409 || status == 429 || status >= 500;
}

/* A whole text that is a number above 0 and not above `most`, or -1. */
FLAGSHM_COLD_ double ezai_seconds_(const char *text, double most)
{
    double number = 0, scale = 1;
    size_t i, dots = 0;
    for (i = 0; text[i] != '\0'; i++) {
        if (text[i] == '.' && dots++ == 0)
            continue;
        if (text[i] < '0' || text[i] > '9')
            return -1;
        if (dots != 0)
            scale /= 10;
        number = dots != 0 ? number + (text[i] - '0') * scale : number * 10 + (text[i] - '0');
    }
    return number > 0 && number <= most ? number : -1;
}

/* How long to wait before attempt number `next` (1, 2, ...). */
FLAGSHM_COLD_ uint64_t ezai_delay_ns_(const char *retry_after_ms, const char *retry_after, uint32_t next,
                                      double random, int64_t now_realtime_s)
{
    double seconds = ezai_seconds_(retry_after_ms, 60000) / 1000;
    if (seconds < 0)
        seconds = ezai_seconds_(retry_after, 60);
    if (seconds < 0 && retry_after[0] > '9') { /* a date */
        int64_t left = (int64_t)curl_getdate(retry_after, NULL) - now_realtime_s;
        seconds = left > 0 && left <= 60 ? (double)left : -1;
    }
    if (seconds < 0)
        seconds = (next < 5 ? 0.5 * (double)(1u << (next - 1)) : 8.0) * (1 - 0.25 * random);
    return (uint64_t)(seconds * 1e9);
}

FLAGSHM_COLD_ double ezai_random_(const struct ezai_hooks *hooks)
{
    uint32_t word = 0;
    if (hooks->random != NULL)
        return hooks->random(hooks->user);
    (void)flagshm_libc_syscall_(SYS_getrandom, &word, sizeof word, 0);
    return word / 4294967296.0;
}

/* ---- One attempt over libcurl ---- */

FLAGSHM_COLD_ size_t ezai_on_body_(char *bytes, size_t size, size_t count, void *user)
{
    struct ezai_call_ *c = (struct ezai_call_ *)user;
    size_t got = size * count;

    c->received_bytes += got;
    if (c->status / 100 == 2 && c->is_events) {
        c->stop = ezai_events_feed_(&c->events, bytes, got);
        if (c->stop == 0 && c->received_bytes / 16 > c->events.line.most)
            c->stop = -EMSGSIZE;
    } else if (!ezai_add_(&c->received, bytes, got)) {
        c->stop = -EMSGSIZE;
    }
    if (c->stop == -EMSGSIZE)
        (void)ezai_fail_(c->message.reply, -EMSGSIZE, "the answer is larger than answer_max", NULL);
    return c->stop == 0 ? got : 0;
}

/* The value of a header line of that name (in small letters, with its colon). */
FLAGSHM_COLD_ bool ezai_header_(const char *line, size_t bytes, const char *name, char *out, size_t room)
{
    size_t i = strlen(name), n = 0;
    if (bytes <= i || !curl_strnequal(line, name, i))
        return false;
    while (i < bytes && (line[i] == ' ' || line[i] == '\t'))
        i++;
    while (i < bytes && line[i] != '\r' && line[i] != '\n' && n + 1 < room)
        out[n++] = line[i++];
    while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '\t'))
        n--;
    out[n] = '\0';
    return true;
}

FLAGSHM_COLD_ size_t ezai_on_header_(char *line, size_t size, size_t count, void *user)
{
    struct ezai_call_ *c = (struct ezai_call_ *)user;
    struct ezai_reply *reply = c->message.reply;
    size_t bytes = size * count, i;
    char text[72];

    if (bytes > 5 && memcmp(line, "HTTP/", 5) == 0) { /* each answer anew: 1xx come before the real one */
        for (i = 5; i < bytes && line[i] != ' '; i++) {
        }
        for (c->status = 0, i++; i < bytes && line[i] >= '0' && line[i] <= '9' && c->status < 1000; i++)
            c->status = c->status * 10 + (uint32_t)(line[i] - '0');
    } else if (ezai_header_(line, bytes, "content-type:", text, sizeof text)) {
        c->is_events = curl_strnequal(text, "text/event-stream", 17) != 0;
    } else if (ezai_header_(line, bytes, "request-id:", text, sizeof text)) {
        ezai_copy_(reply->request_id, sizeof reply->request_id, text);
    }
    (void)ezai_header_(line, bytes, "retry-after:", c->retry_after, sizeof c->retry_after);
    (void)ezai_header_(line, bytes, "retry-after-ms:", c->retry_after_ms, sizeof c->retry_after_ms);
    (void)ezai_header_(line, bytes, "x-should-retry:", c->should_retry, sizeof c->should_retry);
    return bytes;
}

/* Children that are exec'ed do not inherit our connections. */
FLAGSHM_COLD_ curl_socket_t ezai_socket_(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)user;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* `is_foreign`: a value that may be anything; what is not printable ASCII, and '%', becomes %XX. Any other
 * goes in as a whole, so that no half of a key stays behind where the text grows. */
FLAGSHM_COLD_ bool ezai_add_header_(struct ezai_call_ *c, const char *name, const char *value,
                                    bool is_foreign)
{
    struct ezai_text_ t = {NULL, 0, 0, 0, false};
    struct curl_slist *longer = NULL;
    char hex[4];

    ezai_put_(&t, name);
    ezai_put_(&t, value[0] != '\0' ? ": " : ":");
    for (; is_foreign && *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;
        if (byte <= 0x20 || byte >= 0x7f || byte == '%')
            ezai_add_(&t, hex, (size_t)snprintf(hex, sizeof hex, "%%%02X", byte));
        else
            ezai_add_(&t, value, 1);
    }
    ezai_put_(&t, value);
    if (!t.has_failed)
        longer = curl_slist_append(c->headers, t.bytes);
    ezai_wipe_(t.bytes);
    ezai_text_free_(&t);
    if (longer != NULL)
        c->headers = longer;
    return longer != NULL;
}

FLAGSHM_COLD_ void ezai_headers_free_(struct ezai_call_ *c)
{
    struct curl_slist *line;
    for (line = c->headers; line != NULL; line = line->next)
        ezai_wipe_(line->data); /* the key is among them */
    curl_slist_free_all(c->headers);
    c->headers = NULL;
}

/* key NULL: without. */
FLAGSHM_COLD_ bool ezai_headers_(struct ezai_call_ *c, const struct ezai *ai,
                                 const struct flagshm_decision *d, const char *key)
{
    const struct ezai_request *q = &c->request;
    const char *user = q->user_id != NULL ? q->user_id : q->id;
    char number[16];
    bool is_good =
        ezai_add_header_(c, "content-type", "application/json", false) &&
        ezai_add_header_(c, "anthropic-version", c->version[0] != '\0' ? c->version : ai->version_, false) &&
        (key == NULL || ezai_add_header_(c, "x-api-key", key, false)) &&
        ezai_add_header_(c, "expect", "", false); /* no 100-continue: it costs a round trip */

    if (c->beta[0] != '\0')
        is_good = is_good && ezai_add_header_(c, "anthropic-beta", c->beta, false);
    if (c->attempt != 0) {
        (void)snprintf(number, sizeof number, "%u", (unsigned)c->attempt);
        is_good = is_good && ezai_add_header_(c, "x-retry-count", number, false);
    }
    if (ai->options_.tags == EZAI_TAGS_HEADER) {
        is_good = is_good && ezai_add_header_(c, "x-flag-variant", d->arm_name, true);
        if (d->stage[0] != '\0')
            is_good = is_good && ezai_add_header_(c, "x-rollout-stage", d->stage, true);
        if (user != NULL && user[0] != '\0')
            is_good = is_good && ezai_add_header_(c, "x-user-id", user, true);
    }
    return is_good;
}

/* Prepares the next attempt: what the one before left is cleared, the handle is set up. False: out of
 * memory. */
FLAGSHM_COLD_ bool ezai_attempt_begin_(struct ezai_call_ *c, const struct ezai *ai, CURL *easy,
                                       uint64_t left_ms)
{
    const struct ezai_options *o = &ai->options_;
    struct ezai_reply *reply = c->message.reply;
    uint64_t timeout_ms = c->request.is_stream ? 0 : o->total_ms;

    ezai_message_clear_(&c->message);
    ezai_events_free_(&c->events);
    c->events.has_begun = c->events.after_cr = c->events.has_data = false;
    ezai_text_free_(&c->received);
    reply->error[0] = reply->error_type[0] = reply->request_id[0] = reply->stop_reason[0] = reply->model[0] =
        '\0';
    reply->result = 0;
    c->received_bytes = 0;
    c->status = 0;
    c->stop = 0;
    c->why[0] = '\0';
    c->is_events = c->request.is_stream;
    c->retry_after[0] = c->retry_after_ms[0] = c->should_retry[0] = '\0';
    if (left_ms != 0 && (timeout_ms == 0 || left_ms < timeout_ms))
        timeout_ms = left_ms;
    ezai_headers_free_(c);
    if (!ezai_headers_(c, ai, &reply->decision, ai->key_))
        return false;

    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, ai->url_);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, c->body.bytes);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.length);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "flagshm-ezai/" FLAGSHM_VERSION);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)o->connect_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    if (c->request.is_stream) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)o->stall_s);
    }
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, ezai_socket_);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ezai_on_body_);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)c);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, ezai_on_header_);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, (void *)c);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->why);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* ending does not wait for a name server */
#endif
    c->begin_mono_ns = ezai_now_(&ai->hooks_);
    return true;
}

/* Reads what an attempt brought: fills in the reply and its outcome. True: try again. */
FLAGSHM_COLD_ bool ezai_attempt_end_(struct ezai_call_ *c, const struct ezai *ai, CURLcode code)
{
    struct ezai_message_ *m = &c->message;
    struct ezai_reply *reply = m->reply;
    struct flagshm_outcome *o = &reply->outcome;
    uint64_t now = ezai_now_(&ai->hooks_);
    uint32_t attempts = c->attempt + 1;
    bool was_limited = o->limited, is_spent = false, is_broken;

    memset(o, 0, sizeof *o);
    o->attempts = attempts;
    o->latency_ns = now - c->begin_mono_ns;
    o->http_status = c->status;
    o->altered = c->is_altered;
    is_broken = code != CURLE_OK && c->stop == 0;
    if (is_broken) {
        int result = code == CURLE_OPERATION_TIMEDOUT     ? -ETIMEDOUT
                     : code == CURLE_COULDNT_CONNECT      ? -ECONNREFUSED
                     : code == CURLE_COULDNT_RESOLVE_HOST ? -EHOSTUNREACH
                     : code == CURLE_OUT_OF_MEMORY        ? -ENOMEM
                                                          : -EIO;
        (void)ezai_fail_(reply, result, c->status != 0 ? "the answer broke off: " : "no answer: ",
                         c->why[0] != '\0' ? c->why : curl_easy_strerror(code));
    } else if (c->stop == 0 && c->status / 100 != 2) {
        cJSON *json =
            cJSON_ParseWithLength(c->received.bytes != NULL ? c->received.bytes : "", c->received.length);
        const cJSON *details =
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(json, "error"), "details");
        const char *spent = ezai_string_(details, "error_code");
        is_spent = spent != NULL && strstr(spent, "spend_limit_reached") != NULL && c->retry_after[0] == '\0';
        ezai_error_(m, json, c->status);
        cJSON_Delete(json);
    } else if (c->stop == 0 && !c->is_events) {
        c->stop = ezai_body_read_(m, c->received.bytes != NULL ? c->received.bytes : "", c->received.length);
    } else if (c->stop == 0 && !m->has_ended && !m->has_failed) {
        c->stop = ezai_fail_(reply, -EPROTO, "the stream ended before message_stop", NULL);
    }
    if (m->has_failed)
        o->http_status = m->status;
    o->cancelled = c->stop == -ECANCELED;
    o->transport_error = is_broken || (c->stop != 0 && !o->cancelled);
    o->limited = was_limited || o->http_status == 429 || o->http_status == 529;
    o->input_tokens = m->input;
    o->output_tokens = m->output;
    o->cache_tokens = m->cache_written + m->cache_read;
    if (m->first_mono_ns > c->begin_mono_ns)
        o->ttft_ns = m->first_mono_ns - c->begin_mono_ns;
    if (reply->result == 0)
        ezai_judge_(m, &c->request, c->may_ask);
    ezai_redact_(reply->error, ai->key_);
    ezai_redact_(reply->error_type, ai->key_);
    ezai_redact_(reply->request_id, ai->key_);
    if (reply->result == 0 || c->stop != 0 || attempts >= ai->options_.attempts || m->has_begun)
        return false;
    if (is_broken)
        return !c->request.is_stream || c->received_bytes == 0;
    return ezai_may_retry_(c->status, c->should_retry, is_spent);
}

FLAGSHM_COLD_ uint64_t ezai_pause_ns_(const struct ezai_call_ *c, const struct ezai *ai)
{
    return ezai_delay_ns_(c->retry_after_ms, c->retry_after, c->attempt + 1, ezai_random_(&ai->hooks_),
                          (int64_t)(flagshm_clock_ns_(0) / 1000000000u));
}

FLAGSHM_COLD_ bool ezai_is_cancelled_(const struct ezai_call_ *c)
{
    return c->request.cancel != NULL && __atomic_load_n(c->request.cancel, __ATOMIC_RELAXED) != 0;
}

FLAGSHM_COLD_ void ezai_call_free_(struct ezai_call_ *c)
{
    ezai_headers_free_(c);
    ezai_message_clear_(&c->message);
    ezai_events_free_(&c->events);
    ezai_text_free_(&c->body);
    ezai_text_free_(&c->received);
}

/* `reply` is cleared. */
FLAGSHM_COLD_ void ezai_call_begin_(struct ezai_call_ *c, const struct ezai *ai, const struct ezai_request *q,
                                    const struct flagshm_decision *d, struct ezai_reply *reply)
{
    memset(c, 0, sizeof *c);
    memset(reply, 0, sizeof *reply);
    reply->decision = *d;
    c->request = *q;
    c->request.is_stream = q->is_stream || q->on_text != NULL;
    c->may_ask = true;
    c->message.reply = reply;
    c->message.request = &c->request;
    c->message.hooks = &ai->hooks_;
    c->message.text.most = c->message.part.most = c->received.most = ai->options_.answer_max;
    c->events.line.most = c->events.data.most = ai->options_.answer_max;
    c->events.event = ezai_event_;
    c->events.user = &c->message;
}

/* Hands the text and the blocks over to the reply. */
FLAGSHM_COLD_ void ezai_call_deliver_(struct ezai_call_ *c)
{
    struct ezai_reply *reply = c->message.reply;
    if (reply->result != 0)
        return;
    if (c->message.text.bytes == NULL)
        ezai_add_(&c->message.text, "", 0);
    reply->text = c->message.text.bytes;
    reply->text_bytes = c->message.text.length;
    reply->content = c->message.content;
    c->message.text.bytes = NULL;
    c->message.text.length = c->message.text.room = 0;
    c->message.content = c->message.open = NULL;
    if (reply->text == NULL)
        (void)ezai_fail_(reply, -ENOMEM, "out of memory", NULL);
}

#endif
