/* ezai: when there is another attempt, and how long it waits; the key stays out of all that is told. Time
 * and chance are injected; nobody listens at the address. */
#include "ezai_fixture.h"

#include <criterion/criterion.h>

static struct ezai_fixture f;

static void open_fixture(void)
{
    cr_assert_eq(ezai_fixture_open(&f, NULL), 0);
    f.request.default_model = "m";
    f.request.prompt = "hi";
    f.request.id = "u1";
}
static void close_fixture(void)
{
    ezai_fixture_close(&f);
}
TestSuite(ezai_retry, .init = open_fixture, .fini = close_fixture);

Test(ezai_retry, statuses)
{
    static const uint32_t again[] = {408, 409, 429, 500, 502, 503, 504, 529, 599};
    static const uint32_t never[] = {0, 200, 204, 301, 400, 401, 402, 403, 404, 413, 418, 422};
    size_t i;

    for (i = 0; i < sizeof again / sizeof again[0]; i++) {
        cr_assert(ezai_may_retry_(again[i], "", false), "%u", again[i]);
        cr_assert_not(ezai_may_retry_(again[i], "false", false), "%u", again[i]);
        cr_assert_not(ezai_may_retry_(again[i], "", true), "%u", again[i]);
    }
    for (i = 0; i < sizeof never / sizeof never[0]; i++) {
        cr_assert_not(ezai_may_retry_(never[i], "", false), "%u", never[i]);
        cr_assert(ezai_may_retry_(never[i], "true", false), "%u", never[i]);
    }
}

Test(ezai_retry, delays)
{
    static const struct {
        const char *ms, *seconds;
        uint32_t next;
        double random;
        uint64_t expected_ms;
    } cases[] = {
        {"", "", 1, 0, 500},
        {"", "", 2, 0, 1000},
        {"", "", 3, 0, 2000},
        {"", "", 4, 0, 4000},
        {"", "", 5, 0, 8000},
        {"", "", 6, 0, 8000},
        {"", "", 4000000, 0, 8000},
        {"", "", 1, 1, 375},
        {"", "", 5, 0.5, 7000},
        {"1500", "", 1, 0, 1500},
        {"", "1", 1, 1, 1000},
        {"", "2.5", 1, 0, 2500},
        {"250", "9", 1, 0, 250},
        {"", "60", 1, 0, 60000},
        {"", "61", 1, 0, 500},
        {"60001", "", 1, 0, 500},
        {"", "0", 1, 0, 500},
        {"", "-3", 1, 0, 500},
        {"", "1x", 1, 0, 500},
        {"", "inf", 1, 0, 500},
        {"", "1.2.3", 1, 0, 500},
        {"x", "3", 1, 0, 3000},
        {"", "99999999999999999999999999999", 1, 0, 500},
        {"", "Thu, 01 Jan 1970 00:16:50 GMT", 1, 0, 10000}, /* it is 00:16:40 */
        {"", "Thu, 01 Jan 1970 00:16:30 GMT", 1, 0, 500},
        {"", "Thu, 01 Jan 1970 01:16:30 GMT", 1, 0, 500},
        {"", "Thursday", 1, 0, 500},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ns = ezai_delay_ns_(cases[i].ms, cases[i].seconds, cases[i].next, cases[i].random, 1000);
        cr_assert_eq((ns + 500) / 1000000, cases[i].expected_ms, "case %zu (%s, %s): %llu ns", i, cases[i].ms,
                     cases[i].seconds, (unsigned long long)ns);
    }
}

static int call(void)
{
    ezai_reply_free(&f.reply);
    return ezai_call(&f.ai, &f.request, &f.reply);
}

Test(ezai_retry, nobody_there_is_tried_thrice)
{
    cr_assert_eq(call(), -ECONNREFUSED);
    cr_assert_eq(f.reply.outcome.attempts, 3);
    cr_assert_eq(f.clock.sleeps, 2);
    cr_assert(f.clock.slept_ns[0] == 500000000 && f.clock.slept_ns[1] == 1000000000);
    cr_assert(f.reply.outcome.transport_error && f.reply.outcome.http_status == 0 &&
              !f.reply.outcome.cancelled);
    cr_assert_null(f.reply.text);
}

Test(ezai_retry, a_deadline_ends_the_attempts)
{
    f.request.deadline_ms = 1400; /* 0.5 s fits, 1 s more does not */
    cr_assert_eq(call(), -ECONNREFUSED);
    cr_assert_eq(f.reply.outcome.attempts, 2);
    f.request.deadline_ms = 500;
    cr_assert_eq(call(), -ECONNREFUSED);
    cr_assert_eq(f.reply.outcome.attempts, 1);
}

Test(ezai_retry, cancelled_while_it_waits)
{
    int cancel = 0;

    f.clock.cancel = &cancel;
    f.request.cancel = &cancel;
    cr_assert_eq(call(), -ECANCELED);
    cr_assert_eq(f.reply.outcome.attempts, 1);
    cr_assert(f.reply.outcome.cancelled && !f.reply.outcome.transport_error);
    cr_assert_str_eq(f.reply.error, "cancelled by the caller");
    cr_assert_eq(call(), -ECANCELED); /* before anything is sent */
    cr_assert_eq(f.clock.sleeps, 1);
}

/* An attempt's end with that answer; true: there is another. */
static bool ends(uint32_t status, bool is_stream, const char *body, CURLcode code)
{
    ezai_fixture_begin(&f, status, is_stream);
    (void)ezai_fixture_feed(&f, body, strlen(body), 0, 0);
    return ezai_attempt_end_(&f.call, &f.ai, code);
}

Test(ezai_retry, what_was_seen_is_not_asked_for_again)
{
    cr_assert(ends(0, false, "", CURLE_RECV_ERROR));
    cr_assert(ends(0, true, "", CURLE_OPERATION_TIMEDOUT));
    cr_assert_eq(f.reply.result, -ETIMEDOUT);
    cr_assert(ends(200, false, "{\"content\":[", CURLE_PARTIAL_FILE));
    cr_assert_not(ends(200, true, ": hello\n", CURLE_PARTIAL_FILE));
    cr_assert_not(ends(200, true, "data: {\"type\":\"ping\"}\n\n", CURLE_OK));
    cr_assert_not(ends(200, false, "<html>", CURLE_OK));
    cr_assert(ends(529, true, "{}", CURLE_OK));
    cr_assert(ends(429, false, "{}", CURLE_OK));
    cr_assert(f.reply.outcome.limited);
    cr_assert_not(ends(
        429, false, "{\"error\":{\"details\":{\"error_code\":\"contract_spend_limit_reached\"}}}", CURLE_OK));
    ezai_fixture_begin(&f, 529, false);
    f.call.attempt = 2; /* the third */
    cr_assert_not(ezai_attempt_end_(&f.call, &f.ai, CURLE_OK));
}

Test(ezai_retry, headers_are_read_and_those_of_a_100_forgotten)
{
    static const char *const lines[] = {"HTTP/1.1 100 Continue\r\n", "\r\n",
                                        "HTTP/2 529 \r\n",           "Retry-After:  7 \r\n",
                                        "RETRY-AFTER-MS: 70\r\n",    "x-should-retry: true\r\n",
                                        "Request-Id: req_1\x01\r\n", "Content-Type: application/json\r\n"};
    size_t i;

    ezai_fixture_begin(&f, 0, true);
    for (i = 0; i < sizeof lines / sizeof lines[0]; i++)
        cr_assert_eq(ezai_on_header_((char *)(uintptr_t)lines[i], 1, strlen(lines[i]), &f.call),
                     strlen(lines[i]));
    cr_assert_eq(f.call.status, 529);
    cr_assert_str_eq(f.call.retry_after, "7");
    cr_assert_str_eq(f.call.retry_after_ms, "70");
    cr_assert_str_eq(f.call.should_retry, "true");
    cr_assert_str_eq(f.reply.request_id, "req_1?");
    cr_assert_not(f.call.is_events);
}

/* ---- the key ---- */

Test(ezai_retry, a_key_that_is_sent_back_is_not_told)
{
    cr_assert_not(ends(401, false,
                       "{\"error\":{\"type\":\"sk-test-0123456789\",\"message\":\"invalid key "
                       "sk-test-0123456789, sk-test-0123456789\"},"
                       "\"request_id\":\"sk-test-0123456789\"}",
                       CURLE_OK));
    cr_assert_eq(f.reply.outcome.http_status, 401);
    cr_assert_null(memmem(&f.reply, sizeof f.reply, "sk-test", 7));
    cr_assert_not_null(strstr(f.reply.error, "invalid key *****"));
}

Test(ezai_retry, without_a_key_nothing_is_sent_or_booked)
{
    ezai_wipe_(f.ai.key_);
    cr_assert_eq(f.ai.key_[0], '\0');
    free(f.ai.key_);
    f.ai.key_ = NULL;
    cr_assert_eq(call(), -ENOKEY);
    cr_assert_not_null(strstr(f.reply.error, "EZAI_KEY"));
    cr_assert_eq(f.reply.outcome.attempts, 0);
}

Test(ezai_retry, headers_are_wiped_before_they_are_freed)
{
    struct curl_slist *line;
    char *data;

    ezai_fixture_begin(&f, 0, false);
    cr_assert(ezai_headers_(&f.call, &f.ai, &f.decision, f.ai.key_));
    for (line = f.call.headers; line && strstr(line->data, "sk-test") == NULL; line = line->next) {
    }
    cr_assert_not_null(line);
    data = strdup(line->data);
    ezai_wipe_(data);
    cr_assert_eq(strlen(data), 0);
    free(data);
    ezai_headers_free_(&f.call);
    cr_assert_null(f.call.headers);
}
