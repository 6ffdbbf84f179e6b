/* notify_web: a notice as a webhook. Any status 2xx is delivered; redirects are not followed: what was agreed on is one address. */
#include "client/flagshm.h"
#include "server/notify_attempt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_S         5u
#define ANSWER_BYTES_MAX  ((size_t)65536)
#define ENCODED_ID_BYTES  (3 * 160)
#define HEADER_VALUE_ROOM (ENCODED_ID_BYTES + 1)

/* ---- out ---- */

static bool add_header(struct notify_attempt *attempt, const char *name, const char *value)
{
    char line[32 + HEADER_VALUE_ROOM];
    struct curl_slist *longer;

    (void)snprintf(line, sizeof line, "%s:%s%s", name, value[0] != '\0' ? " " : "", value);
    longer = curl_slist_append(attempt->headers, line);
    if (longer != NULL)
        attempt->headers = longer;
    return longer != NULL;
}

static bool add_headers(struct notify_attempt *attempt, int64_t realtime_s)
{
    const struct notify_target *target = &attempt->target;
    char id[HEADER_VALUE_ROOM], timestamp[24], signature[NOTIFY_SIGNATURE_ROOM];

    (void)snprintf(timestamp, sizeof timestamp, "%" PRId64, realtime_s);
    if (!notify_id_encode(attempt->notice->id, id, sizeof id) ||
        !add_header(attempt, "content-type", "application/json") || !add_header(attempt, "webhook-id", id) ||
        !add_header(attempt, "webhook-timestamp", timestamp) ||
        !add_header(attempt, "expect", "")) /* no 100-continue: it costs a round trip */
        return false;
    return target->secret_bytes == 0 || (notify_sign(target->secret, target->secret_bytes, id, realtime_s,
                                                     attempt->notice->body, signature) &&
                                         add_header(attempt, "webhook-signature", signature));
}

/* Of the answer only the status counts: the rest is thrown away, and there is an end to it. */
static size_t take_answer(char *bytes, size_t size, size_t count, void *user)
{
    struct notify_attempt *attempt = user;

    (void)bytes;
    attempt->received_bytes += size * count;
    return attempt->received_bytes <= ANSWER_BYTES_MAX ? size * count : 0;
}

/* Programs that are run do not inherit our connections. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)user;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void set_up(struct notify_attempt *attempt)
{
    unsigned timeout_s = attempt->target.timeout_s;
    CURL *easy = attempt->easy;

    curl_easy_setopt(easy, CURLOPT_URL, attempt->target.url);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, attempt->notice->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(attempt->notice->body));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, attempt->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "flagshmd/" FLAGSHM_VERSION);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)(timeout_s < CONNECT_S ? timeout_s : CONNECT_S));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)timeout_s);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L); /* notices are rare */
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)attempt);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_answer);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, (void *)attempt);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, (void *)attempt);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, attempt->why);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* the others do not wait for its name server */
#endif
}

static void free_handle(struct notify_attempt *attempt)
{
    curl_easy_cleanup(attempt->easy);
    curl_slist_free_all(attempt->headers);
    attempt->easy = NULL;
    attempt->headers = NULL;
}

int notify_web_begin(struct notify_attempt *attempt, CURLM *multi, int64_t realtime_s,
                     struct flagshm_error *error)
{
    attempt->received_bytes = 0;
    attempt->why[0] = '\0';
    attempt->easy = curl_easy_init();
    if (attempt->easy != NULL && add_headers(attempt, realtime_s)) {
        set_up(attempt);
        if (curl_multi_add_handle(multi, attempt->easy) == CURLM_OK)
            return 0;
    }
    free_handle(attempt);
    return flagshm_error_set(error, -ENOMEM, "no memory for a webhook");
}

/* ---- what came of it ---- */

void notify_web_break_off(struct notify_attempt *attempt, CURLM *multi)
{
    (void)curl_multi_remove_handle(multi, attempt->easy);
    free_handle(attempt);
}

/* What the library says is about hosts and ports; should it ever hold more, it is not repeated. */
static bool is_fit_to_show(const char *why, const char *url)
{
    static const CURLUPart secrets[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_PATH, CURLUPART_QUERY};
    CURLU *parts = curl_url();
    bool is_fit = parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK;
    size_t i;

    for (i = 0; is_fit && i < sizeof secrets / sizeof secrets[0]; i++) {
        char *part = NULL;

        if (curl_url_get(parts, secrets[i], &part, 0) == CURLUE_OK && strlen(part) > 1)
            is_fit = strstr(why, part) == NULL;
        curl_free(part);
    }
    curl_url_cleanup(parts);
    return is_fit;
}

static int judge(const struct notify_attempt *attempt, long status, CURLcode code,
                 struct flagshm_error *error)
{
    const char *origin = attempt->target.origin, *why = curl_easy_strerror(code);

    if (status / 100 == 2)
        return 0;
    if (status / 100 == 3)
        return flagshm_error_set(
            error, -EREMOTEIO,
            "%s answered %ld: redirects are not followed; write the last address into \"url\"", origin,
            status);
    if (status == 410)
        return flagshm_error_set(
            error, -EREMOTEIO,
            "%s answered 410: it wants no more notices; write another \"url\", or take the "
            "target out of \"notify\"",
            origin);
    if (status == 401 || status == 403)
        return flagshm_error_set(error, -EREMOTEIO,
                                 "%s answered %ld: mend \"secret\", or what \"url\" says of the user", origin,
                                 status);
    if (status >= 400)
        return flagshm_error_set(error, -EREMOTEIO, "%s answered %ld", origin, status);
    if (attempt->why[0] != '\0' && is_fit_to_show(attempt->why, attempt->target.url))
        why = attempt->why;
    return flagshm_error_set(error, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO,
                             "%s gave no answer: %s", origin, why);
}

int notify_web_end(struct notify_attempt *attempt, CURLM *multi, CURLcode code, struct flagshm_error *error)
{
    long status = 0;
    int result;

    (void)curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &status);
    result = judge(attempt, status, code, error);
    notify_web_break_off(attempt, multi);
    return result;
}
