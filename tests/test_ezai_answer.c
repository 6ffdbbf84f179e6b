/* ezai: answers. Recorded streams cut at every place, whole bodies, counts that are none, errors, checks. */
#include "ezai_fixture.h"

#include <criterion/criterion.h>

static struct ezai_fixture f;

static void open_fixture(void)
{
    cr_assert_eq(ezai_fixture_open(&f, NULL), 0);
}
static void close_fixture(void)
{
    ezai_fixture_close(&f);
}
TestSuite(ezai_answer, .init = open_fixture, .fini = close_fixture);

struct recording {
    char bytes[8192];
    size_t count;
};

static void record(struct recording *r, const char *name, const char *line_end)
{
    char path[512];
    FILE *in;
    int c;

    (void)snprintf(path, sizeof path, "%s/sse/%s.sse", FLAGSHM_TESTS_DATA, name);
    in = fopen(path, "rb");
    cr_assert_not_null(in, "%s", path);
    r->count = 0;
    while ((c = getc(in)) != EOF) {
        const char *end = line_end;
        cr_assert_lt(r->count + 2, sizeof r->bytes);
        if (c != '\n')
            r->bytes[r->count++] = (char)c;
        else
            while (*end != '\0')
                r->bytes[r->count++] = *end++;
    }
    (void)fclose(in);
}

/* Plays a stream; what is left of an earlier one is freed. */
static int play(const struct recording *r, size_t first, size_t piece)
{
    ezai_reply_free(&f.reply);
    ezai_fixture_begin(&f, 200, true);
    ezai_fixture_end(&f,
                     ezai_fixture_feed(&f, r->bytes, r->count, first, piece) ? CURLE_OK : CURLE_WRITE_ERROR);
    return f.reply.result;
}
static int play_text(const char *text)
{
    struct recording r;

    r.count = strlen(text);
    memcpy(r.bytes, text, r.count);
    return play(&r, 0, 0);
}
static int play_body(const char *text)
{
    ezai_reply_free(&f.reply);
    ezai_fixture_begin(&f, 200, false);
    ezai_fixture_end(&f, ezai_fixture_feed(&f, text, strlen(text), 0, 0) ? CURLE_OK : CURLE_WRITE_ERROR);
    return f.reply.result;
}

static const struct expected {
    const char *name;
    int result;
    const char *text, *stop;
    uint32_t status;
    uint64_t input, output, cache;
    int blocks;
    bool transport_error, tool_checked, tool_valid;
} recordings[] = {
    {"text", 0, "Grüße aus 東京 📈!", "end_turn", 200, 25, 15, 0, 1, false, false, false},
    {"tool", 0, "Let me look.", "tool_use", 200, 25, 89, 0, 2, false, true, true},
    {"tool-broken", 0, "", "tool_use", 200, 25, 8, 0, 1, false, true, false},
    {"thinking", 0, "Seven.", "end_turn", 200, 25, 15, 0, 2, false, false, false},
    {"unknown", 0, "ok", "end_turn", 200, 25, 2, 0, 2, false, false, false},
    {"error", -EREMOTEIO, NULL, "", 529, 25, 1, 0, 0, false, false, false},
    {"cut", -EPROTO, NULL, "end_turn", 200, 25, 15, 0, 0, true, false, false},
    {"usage-late", 0, "late", "max_tokens", 200, 100, 40, 3020, 1, false, false, false},
    {"usage-grows", 0, "x", "end_turn", 200, 10, 22, 5, 1, false, false, false},
    {"refusal", 0, "", "refusal", 200, 25, 1, 0, 0, false, false, false},
};

static void check(const struct expected *e, const char *how, size_t at)
{
    const struct flagshm_outcome *o = &f.reply.outcome;

    cr_assert_eq(f.reply.result, e->result, "%s, %s %zu: %d, %s", e->name, how, at, f.reply.result,
                 f.reply.error);
    if (e->text)
        cr_assert_str_eq(f.reply.text, e->text, "%s, %s %zu", e->name, how, at);
    else
        cr_assert_null(f.reply.text, "%s, %s %zu", e->name, how, at);
    cr_assert_str_eq(f.reply.stop_reason, e->stop, "%s, %s %zu", e->name, how, at);
    cr_assert_eq(cJSON_GetArraySize(f.reply.content), e->blocks, "%s, %s %zu", e->name, how, at);
    cr_assert(o->http_status == e->status && o->transport_error == e->transport_error, "%s, %s %zu", e->name,
              how, at);
    cr_assert(o->input_tokens == e->input && o->output_tokens == e->output && o->cache_tokens == e->cache,
              "%s, %s %zu: tokens", e->name, how, at);
    cr_assert(o->tool_checked == e->tool_checked && o->tool_valid == e->tool_valid, "%s, %s %zu: tool",
              e->name, how, at);
    cr_assert_eq(o->truncated, strcmp(e->stop, "max_tokens") == 0);
    cr_assert_eq(o->refusal, strcmp(e->stop, "refusal") == 0);
    cr_assert_not(o->empty);
}

Test(ezai_answer, a_stream_means_the_same_however_it_is_cut)
{
    static const char *const ends[] = {"\n", "\r\n", "\r"};
    struct recording r;
    size_t i, e, at;

    for (i = 0; i < sizeof recordings / sizeof recordings[0]; i++)
        for (e = 0; e < 3; e++) {
            record(&r, recordings[i].name, ends[e]);
            cr_assert_gt(r.count, 300);
            for (at = 0; at < r.count; at++) {
                (void)play(&r, at, 0);
                check(&recordings[i], "cut at", at);
            }
            for (at = 1; at <= 7; at++) {
                (void)play(&r, 0, at);
                check(&recordings[i], "pieces of", at);
            }
        }
}

Test(ezai_answer, a_stream_that_ends_anywhere_before_its_stop_is_an_error)
{
    struct recording r;
    size_t whole;

    record(&r, "text", "\n");
    whole = r.count;
    while (r.count > 0) {
        r.count--;
        if (r.count == whole - 1)
            continue; /* the last line end is one too many: see the next test */
        cr_assert_eq(play(&r, 0, 0), -EPROTO, "%zu of %zu bytes", r.count, whole);
        cr_assert(f.reply.outcome.transport_error);
        cr_assert_null(f.reply.text);
    }
}

Test(ezai_answer, an_event_counts_from_its_empty_line_on)
{
    struct recording r;

    record(&r, "text", "\n");
    r.count--;
    cr_assert_eq(play(&r, 0, 0), -EPROTO);
    r.count++;
    cr_assert_eq(play(&r, 0, 0), 0);
}

Test(ezai_answer, blocks_of_a_stream_are_put_together)
{
    struct recording r;
    const cJSON *block;

    record(&r, "tool", "\n");
    cr_assert_eq(play(&r, 0, 3), 0);
    block = cJSON_GetArrayItem(f.reply.content, 1);
    cr_assert_str_eq(ezai_string_(block, "name"), "get_weather");
    cr_assert_str_eq(ezai_string_(cJSON_GetObjectItemCaseSensitive(block, "input"), "city"), "Malmö");
    record(&r, "thinking", "\n");
    cr_assert_eq(play(&r, 0, 3), 0);
    cr_assert_str_eq(ezai_string_(cJSON_GetArrayItem(f.reply.content, 0), "thinking"), "First, count.");
    cr_assert_str_eq(ezai_string_(cJSON_GetArrayItem(f.reply.content, 1), "text"), "Seven.");
}

struct heard {
    char text[256];
    size_t bytes, calls, stop_at;
};
static int hear(void *user, const char *text, size_t bytes)
{
    struct heard *h = user;

    memcpy(h->text + h->bytes, text, bytes);
    h->bytes += bytes;
    h->text[h->bytes] = '\0';
    return ++h->calls == h->stop_at;
}

Test(ezai_answer, the_caller_hears_each_piece_and_may_stop)
{
    struct heard h = {.bytes = 0};
    struct recording r;

    record(&r, "text", "\n");
    f.request.on_text = hear;
    f.request.on_text_user = &h;
    cr_assert_eq(play(&r, 0, 5), 0);
    cr_assert_str_eq(h.text, "Grüße aus 東京 📈!");
    cr_assert_eq(h.calls, 3);
    h = (struct heard){.stop_at = 2};
    cr_assert_eq(play(&r, 0, 5), -ECANCELED);
    cr_assert_str_eq(h.text, "Grüße aus 東京 ");
    cr_assert(f.reply.outcome.cancelled && !f.reply.outcome.transport_error);
}

Test(ezai_answer, first_token_is_the_first_delta)
{
    struct recording r;
    size_t before;

    record(&r, "text", "\n");
    before = (size_t)((char *)memmem(r.bytes, r.count, "event: content_block_delta", 26) - r.bytes);
    ezai_fixture_begin(&f, 200, true);
    cr_assert(ezai_fixture_feed(&f, r.bytes, before, 0, 0));
    f.clock.now_ns += 70000000;
    cr_assert(ezai_fixture_feed(&f, r.bytes + before, r.count - before, 0, 0));
    f.clock.now_ns += 20000000;
    ezai_fixture_end(&f, CURLE_OK);
    cr_assert_eq(f.reply.outcome.ttft_ns, 75000000);
    cr_assert_eq(f.reply.outcome.latency_ns, 95000000);
}

/* ---- whole bodies ---- */

#define MESSAGE(content, stop, usage)                                                                        \
    "{\"id\":\"m\",\"type\":\"message\",\"model\":\"gpt\",\"content\":[" content "],\"stop_reason\":\"" stop \
    "\",\"usage\":{" usage "}}"

Test(ezai_answer, a_body_is_read)
{
    cr_assert_eq(
        play_body(MESSAGE("{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\\u00e9\"}",
                          "end_turn", "\"input_tokens\":3,\"output_tokens\":4")),
        0);
    cr_assert_str_eq(f.reply.text, "abé");
    cr_assert_eq(f.reply.text_bytes, 4);
    cr_assert_str_eq(f.reply.model, "gpt");
    cr_assert_eq(f.reply.outcome.ttft_ns, 0);
}

Test(ezai_answer, what_is_no_message_is_an_error)
{
    static const char *const bodies[] = {
        "", "<html>", "[]", "{}", "{\"content\":\"x\"}", "null", "{\"content\":[", "{\"type\":\"message\"}"};
    size_t i;

    for (i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        cr_assert_eq(play_body(bodies[i]), -EPROTO, "%s", bodies[i]);
        cr_assert(f.reply.outcome.transport_error && f.reply.error[0] != '\0');
    }
    cr_assert_eq(
        play_body("{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}"),
        -EREMOTEIO);
    cr_assert(f.reply.outcome.http_status == 429 && !f.reply.outcome.transport_error &&
              f.reply.outcome.limited);
}

Test(ezai_answer, counts_may_be_anything)
{
    static const struct {
        const char *usage;
        uint64_t input, output, cache;
    } cases[] = {
        {"", 0, 0, 0},
        {"\"input_tokens\":9007199254740993", UINT64_C(9007199254740992), 0, 0},
        {"\"input_tokens\":1e300,\"output_tokens\":1e999", UINT64_C(9007199254740992),
         UINT64_C(9007199254740992), 0},
        {"\"input_tokens\":-5,\"output_tokens\":2.9", 0, 2, 0},
        {"\"input_tokens\":\"7\",\"output_tokens\":null", 0, 0, 0},
        {"\"input_tokens\":{},\"output_tokens\":[1]", 0, 0, 0},
        {"\"cache_creation_input_tokens\":18446744073709551615,\"cache_read_input_tokens\":"
         "18446744073709551615",
         0, 0, UINT64_C(18014398509481984)},
    };
    char body[512];
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(body, sizeof body, MESSAGE("{\"type\":\"text\",\"text\":\"a\"}", "end_turn", "%s"),
                       cases[i].usage);
        cr_assert_eq(play_body(body), 0, "%s: %s", cases[i].usage, f.reply.error);
        cr_assert(f.reply.outcome.input_tokens == cases[i].input &&
                      f.reply.outcome.output_tokens == cases[i].output &&
                      f.reply.outcome.cache_tokens == cases[i].cache,
                  "%s: %llu %llu %llu", cases[i].usage, (unsigned long long)f.reply.outcome.input_tokens,
                  (unsigned long long)f.reply.outcome.output_tokens,
                  (unsigned long long)f.reply.outcome.cache_tokens);
    }
}

Test(ezai_answer, an_answer_beyond_the_limit_is_an_error)
{
    struct recording r;

    f.ai.options_.answer_max = 100;
    cr_assert_eq(
        play_body(MESSAGE("{\"type\":\"text\",\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaa\"}", "end_turn", "")),
        -EMSGSIZE);
    record(&r, "text", "\n"); /* its first event has more */
    cr_assert_eq(play(&r, 0, 1), -EMSGSIZE);
    cr_assert(f.reply.outcome.transport_error);
    f.ai.options_.answer_max = 200; /* each event fits, the stream does not */
    r.count = 0;
    while (r.count < 3400)
        r.count += (size_t)sprintf(r.bytes + r.count, "data: {\"type\":\"ping\"}\n\n");
    cr_assert_eq(play(&r, 0, 100), -EMSGSIZE);
}

Test(ezai_answer, bad_events_are_errors_and_strange_ones_are_not)
{
    cr_assert_eq(play_text("data: no json\n\ndata: {\"type\":\"message_stop\"}\n\n"), -EPROTO);
    cr_assert_eq(play_text("data: []\n\ndata: {\"type\":\"message_stop\"}\n\n"), -EPROTO);
    cr_assert_eq(play_text("data: {}\n\ndata: {\"type\":7}\n\ndata: {\"type\":\"message_stop\"}\n\n"), 0);
    cr_assert(f.reply.outcome.empty);
    cr_assert_eq(
        play_text(
            "\xef\xbb\xbf"
            "data:{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"
            "data\n\ndatabase: x\n\n"
            "data: {\"type\":\"message_stop\"}\n\n"),
        -EPROTO); /* "data" alone is an event whose data is empty */
    cr_assert_eq(
        play_text(
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"
            "data: {\"type\":\"message_stop\"}\n\ndata: [DONE]\n\n"),
        0);
    cr_assert_str_eq(f.reply.text, "x"); /* no block was announced */
    cr_assert_eq(cJSON_GetArraySize(f.reply.content), 1);
}

/* ---- checks ---- */

static bool starts_with_a(void *user, const char *text, size_t bytes)
{
    (void)user;
    return bytes > 0 && text[0] == 'a';
}
static bool has_city(void *user, const char *name, const cJSON *in)
{
    (void)user;
    return strcmp(name, "w") == 0 && cJSON_GetObjectItemCaseSensitive(in, "city") != NULL;
}

Test(ezai_answer, checks_are_made_and_told)
{
    struct flagshm_outcome *o = &f.reply.outcome;

    f.request.wants_json = true;
    (void)play_body(MESSAGE("{\"type\":\"text\",\"text\":\" {\\\"a\\\": [1, 2.5e3]}\\n\"}", "end_turn", ""));
    cr_assert(o->json_checked && o->json_valid && !o->schema_checked && !o->tool_checked && !o->empty);
    (void)play_body(MESSAGE("{\"type\":\"text\",\"text\":\"```json\\n{}```\"}", "end_turn", ""));
    cr_assert(o->json_checked && !o->json_valid);
    (void)play_body(MESSAGE("{\"type\":\"text\",\"text\":\" \\n\"}", "end_turn", ""));
    cr_assert(o->empty && !o->json_valid);
    f.request.schema_ok = starts_with_a;
    (void)play_body(MESSAGE("{\"type\":\"text\",\"text\":\"abc\"}", "end_turn", ""));
    cr_assert(o->schema_checked && o->schema_valid && !o->json_valid);
    (void)play_body(MESSAGE("{\"type\":\"text\",\"text\":\"bc\"}", "end_turn", ""));
    cr_assert(o->schema_checked && !o->schema_valid);
    f.request.tool_ok = has_city;
    (void)play_body(MESSAGE("{\"type\":\"tool_use\",\"name\":\"w\",\"input\":{\"city\":1}}", "tool_use", ""));
    cr_assert(o->tool_checked && o->tool_valid && !o->json_checked && !o->schema_checked && !o->empty);
    (void)play_body(MESSAGE("{\"type\":\"tool_use\",\"name\":\"w\",\"input\":{}}", "tool_use", ""));
    cr_assert(o->tool_checked && !o->tool_valid);
    (void)play_body(MESSAGE("{\"type\":\"tool_use\",\"name\":\"w\"}", "tool_use", ""));
    cr_assert(o->tool_checked && !o->tool_valid);
}

Test(ezai_answer, json_goes_by_the_letter)
{
    static const char *const good[] = {
        "{}",    "[]",  "0",     "-0.5e+7", "\"\\u00e9\\n\\/\"", " [1, {\"a\": null}, true] ",
        "false", "1E5", "\"é\"", "[[[]]]"};
    static const char *const bad[] = {
        "",      " ",     "{",   "}",   "[1,]", "{\"a\"}",   "{\"a\":}", "{a:1}",     "01",          "1.",
        ".5",    "+1",    "-",   "1e",  "tru",  "nul",       "\"\n\"",   "\"\\x\"",   "\"\\u12g4\"", "\"",
        "[1 2]", "{} {}", "'a'", "NaN", "[1}",  "{\"a\" 1}", "//x\n1",   "{\"a\":1,}"};
    char deep[601];
    size_t i;

    for (i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_assert(ezai_is_json_(good[i], strlen(good[i]), 0), "%s", good[i]);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_not(ezai_is_json_(bad[i], strlen(bad[i]), 0), "%s", bad[i]);
    memset(deep, '[', 300);
    memset(deep + 300, ']', 300);
    cr_assert_not(ezai_is_json_(deep, 600, 0));
    cr_assert(ezai_is_json_(deep + 200, 200, 0));
    cr_assert_not(ezai_is_json_("1\0", 2, 0));
}
