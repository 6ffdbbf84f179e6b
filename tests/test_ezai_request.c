/* ezai: what is sent. Bodies from arms, tags, headers; keys as they are spelt; a shadow call's deeds taken
 * out. */
#include "ezai_fixture.h"

#include <criterion/criterion.h>

static struct ezai_fixture f;

static void open_fixture(void)
{
    cr_assert_eq(ezai_fixture_open(&f, NULL), 0);
    memcpy(f.decision.model, "m", 2);
    memcpy(f.decision.stage, "canary-5pct", 12);
    f.request.id = "u1";
    f.request.prompt = "hi";
}
static void close_fixture(void)
{
    ezai_fixture_close(&f);
}
TestSuite(ezai_request, .init = open_fixture, .fini = close_fixture);

static int make(const char *arm, enum ezai_tags tags, bool is_shadow)
{
    ezai_fixture_begin(&f, 0, f.request.is_stream);
    return ezai_body_(&f.call, &f.decision, arm, tags, is_shadow);
}
#define BODY(expected, arm)                                                                                  \
    do {                                                                                                     \
        cr_assert_eq(make(arm, EZAI_TAGS_NONE, false), 0, "%s", f.reply.error);                              \
        cr_assert_str_eq(f.call.body.bytes, expected);                                                       \
        cr_assert(ezai_is_json_(f.call.body.bytes, f.call.body.length, '{'));                                \
    } while (0)
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

Test(ezai_request, a_model_alone)
{
    BODY("{\"model\":\"m\",\"max_tokens\":1024," HI "}", NULL);
    f.decision.model[0] = '\0';
    cr_assert_eq(make(NULL, EZAI_TAGS_NONE, false), -EINVAL);
    f.request.default_model = "d";
    f.request.max_tokens = 7;
    f.request.is_stream = true;
    BODY("{\"model\":\"d\",\"max_tokens\":7," HI ",\"stream\":true}", NULL);
}

Test(ezai_request, an_arm_is_sent_as_it_is_spelt_and_wins)
{
    f.request.extra = "{\"top_p\": 0.50, \"temperature\": 1, \"max_tokens\": 9, \"system\": \"extra\"}";
    f.request.system = "request";
    f.request.max_tokens = 8;
    BODY("{\"model\":\"m\",\"max_tokens\":5e2,\"system\":\"a\\u00e9\"," HI
         ",\"temperature\":0.10,\"n\":9007199254740993,\"top_p\":0.50}",
         "{\"model\":\"m\",\"temperature\":0.10,\"max_tokens\":5e2,\"system\":\"a\\u00e9\",\"prompt\":\"p\","
         "\"n\":9007199254740993,"
         "\"stream\":true,\"$comment\":\"x\"}");
    BODY("{\"model\":\"m\",\"max_tokens\":9,\"system\":\"p\"," HI ",\"top_p\":0.50,\"temperature\":1}",
         "{\"prompt\":\"p\"}");
    BODY("{\"model\":\"m\",\"max_tokens\":9,\"system\":\"request\"," HI ",\"top_p\":0.50,\"temperature\":1}",
         "{}");
    f.request.system = NULL;
    BODY("{\"model\":\"m\",\"max_tokens\":9,\"system\":\"extra\"," HI ",\"top_p\":0.50,\"temperature\":1}",
         NULL);
}

Test(ezai_request, messages_stand_in_their_order)
{
    f.request.messages = " [ {\"role\": \"user\", \"content\": [1]} ] ";
    BODY("{\"model\":\"m\",\"max_tokens\":1024,\"messages\":[{\"role\":\"user\",\"content\":\"shot\"},{"
         "\"role\": \"user\", \"content\": "
         "[1]} ,{\"role\":\"user\",\"content\":\"hi\"}]}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"shot\"}]}");
    f.request.prompt = NULL;
    f.request.messages = "[]";
    cr_assert_eq(make(NULL, EZAI_TAGS_NONE, false), -EINVAL);
    cr_assert_not_null(strstr(f.reply.error, "nothing is asked"));
    f.request.messages = "[1";
    cr_assert_eq(make(NULL, EZAI_TAGS_NONE, false), -EINVAL);
    f.request.messages = "{}";
    cr_assert_eq(make(NULL, EZAI_TAGS_NONE, false), -EINVAL);
    f.request.messages = NULL;
    f.request.prompt = "hi";
    f.request.extra = "[]";
    cr_assert_eq(make(NULL, EZAI_TAGS_NONE, false), -EINVAL);
    f.request.extra = NULL;
    cr_assert_eq(make("{\"a\":", EZAI_TAGS_NONE, false), -EINVAL);
}

Test(ezai_request, what_users_write_is_escaped)
{
    f.request.prompt = "\"q\" \\ \n\t\x01 é </script>";
    BODY("{\"model\":\"m\",\"max_tokens\":1024,\"messages\":[{\"role\":\"user\",\"content\":\"\\\"q\\\" \\\\ "
         "\\n\\u0009\\u0001 é </script>\"}]}",
         NULL);
}

Test(ezai_request, tags_go_where_they_are_wanted)
{
    cr_assert_eq(make("{\"metadata\":{\"team\":1,\"user_id\":\"x\"}}", EZAI_TAGS_METADATA, false), 0);
    cr_assert_not_null(strstr(f.call.body.bytes,
                              ",\"metadata\":{\"team\":1,\"user_id\":\"u1\",\"flag_variant\":\"control\","
                              "\"rollout_stage\":\"canary-5pct\"}}"));
    cr_assert_eq(make("{\"metadata\":{\"user_id\":\"x\"}}", EZAI_TAGS_NONE, false), 0);
    cr_assert_not_null(strstr(f.call.body.bytes, ",\"metadata\":{\"user_id\":\"x\"}}"));
    f.request.user_id = "";
    f.decision.stage[0] = '\0';
    cr_assert_eq(make(NULL, EZAI_TAGS_METADATA, false), 0);
    cr_assert_not_null(strstr(f.call.body.bytes, ",\"metadata\":{\"flag_variant\":\"control\"}}"));
    cr_assert_eq(make("{\"metadata\":{}}", EZAI_TAGS_NONE, false), 0);
    cr_assert_null(strstr(f.call.body.bytes, "metadata"));
    cr_assert_eq(make("{\"metadata\":null}", EZAI_TAGS_NONE, false), 0);
    cr_assert_null(strstr(f.call.body.bytes, "metadata"));
}

static bool has_header(const char *line)
{
    const struct curl_slist *header;

    for (header = f.call.headers; header; header = header->next)
        if (strcmp(header->data, line) == 0)
            return true;
    return false;
}

Test(ezai_request, headers_hold_nothing_that_could_end_them)
{
    f.ai.options_.tags = EZAI_TAGS_HEADER;
    f.request.id = "a\r\nx-evil: 1 %é";
    cr_assert_eq(
        make("{\"anthropic-version\":\"2026-10-21\",\"anthropic-beta\":\"a,b\"}", EZAI_TAGS_HEADER, false),
        0);
    cr_assert(ezai_headers_(&f.call, &f.ai, &f.decision, "KEY"));
    cr_assert(has_header("x-user-id: a%0D%0Ax-evil:%201%20%25%C3%A9"));
    cr_assert(has_header("x-flag-variant: control") && has_header("x-rollout-stage: canary-5pct"));
    cr_assert(has_header("anthropic-version: 2026-10-21") && has_header("anthropic-beta: a,b") &&
              has_header("x-api-key: KEY"));
    cr_assert_null(strstr(f.call.body.bytes, "anthropic"));
    cr_assert_eq(make("{\"anthropic-version\":\"a\\r\\nb\"}", EZAI_TAGS_NONE, false), -EINVAL);
    cr_assert_eq(make("{\"anthropic-version\":1}", EZAI_TAGS_NONE, false), -EINVAL);
}

Test(ezai_request, a_shadow_call_has_no_deeds)
{
    f.request.extra = "{\"tools\":[{\"name\":\"pay\"}],\"tool_choice\":{\"type\":\"any\"},\"top_k\":3}";
    cr_assert_eq(make("{\"mcp_servers\":[1],\"container\":\"c\",\"top_p\":1}", EZAI_TAGS_NONE, true), 0);
    cr_assert_str_eq(f.call.body.bytes,
                     "{\"model\":\"m\",\"max_tokens\":1024," HI ",\"top_p\":1,\"top_k\":3}");
    cr_assert(f.call.is_altered);
    cr_assert_eq(make(NULL, EZAI_TAGS_NONE, false), 0);
    cr_assert_not_null(strstr(f.call.body.bytes, "\"pay\""));
    cr_assert_not(f.call.is_altered);
    f.request.extra = NULL;
    cr_assert_eq(make(NULL, EZAI_TAGS_NONE, true), 0);
    cr_assert_not(f.call.is_altered);
}

Test(ezai_request, a_dry_run_shows_all_but_the_key)
{
    struct ezai_reply reply;

    f.request.decision = &f.decision;
    cr_assert_eq(ezai_dry_run(&f.ai, &f.request, &reply), 0);
    cr_assert_not_null(strstr(reply.text, "POST http://127.0.0.1:1/v1/messages\n"));
    cr_assert_not_null(strstr(reply.text, "\nx-api-key: (EZAI_KEY)\n"));
    cr_assert_not_null(strstr(reply.text, "\n\n{\"model\":\"m\""));
    cr_assert_null(strstr(reply.text, "sk-test"));
    ezai_reply_free(&reply);
}

Test(ezai_request, a_handle_refuses_what_would_not_be_sent_as_meant)
{
    struct ezai_options options = {.key = "k"};
    struct ezai ai;

    options.base_url = "ftp://x";
    cr_assert_eq(ezai_open(&ai, NULL, &options), -EINVAL);
    options.base_url = "http://x y";
    cr_assert_eq(ezai_open(&ai, NULL, &options), -EINVAL);
    options.base_url = "HTTPS://x//";
    options.key = "a\r\nb";
    cr_assert_eq(ezai_open(&ai, NULL, &options), -EINVAL);
    options.key = "k";
    options.version = "";
    options.pair_log = "/nonexistent/pairs";
    cr_assert_eq(ezai_open(&ai, NULL, &options), -ENOENT);
    options.pair_log = NULL;
    cr_assert_eq(ezai_open(&ai, NULL, &options), 0);
    cr_assert_str_eq(ai.url_, "HTTPS://x/v1/messages");
    ezai_close(&ai);
}
