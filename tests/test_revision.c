#include "tools/revision.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* What the module prints through; the tests look at the differences themselves. */
int flagctl_fail(const struct flagctl *ctl, int code, const char *format, ...)
{
    (void)ctl;
    (void)format;
    return code;
}
int flagctl_ask(struct flagctl *ctl, const char *verb, cJSON *request, bool quiet_unreachable, cJSON **answer)
{
    (void)ctl;
    (void)verb;
    (void)quiet_unreachable;
    cJSON_Delete(request);
    *answer = NULL;
    return FLAGCTL_UNREACHABLE;
}
bool flagctl_number(const char *text, double min, double max, double *number)
{
    (void)text;
    (void)min;
    (void)max;
    (void)number;
    return false;
}
void flagctl_json_u64(cJSON *object, const char *key, uint64_t number)
{
    (void)object;
    (void)key;
    (void)number;
}
char *flagctl_clean(const char *text, char *out, size_t room)
{
    (void)snprintf(out, room, "%s", text);
    return out;
}

static void note(void *context, const struct flagctl_difference *d)
{
    (void)fprintf(context, "%s|%s|%s|%s\n", d->flag ? d->flag : "-", d->path, d->old ? d->old : "-",
                  d->new_ ? d->new_ : "-");
}

/* The differences, a line each: FLAG|PATH|OLD|NEW. NULL where they cannot be told. */
static char *differences(const char *old, const char *new_)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    bool is_told = flagctl_differences(old, strlen(old), new_, strlen(new_), note, out);

    (void)fclose(out);
    if (is_told)
        return text;
    free(text);
    return NULL;
}

Test(revision, each_value_that_differs_is_told_once_and_as_it_stands)
{
    static const struct {
        const char *old, *new_, *expected;
    } cases[] = {
        {"{\"flags\": {}}", "{ \"flags\":{ } }\n", ""},
        {"{\"flags\": {\"a\": {\"x\": 1, \"y\": [1, 2]}}}", "{\"flags\": {\"a\": {\"y\": [1,2], \"x\": 1}}}",
         ""},
        {"{\"flags\": {\"a\": {\"x\": 9007199254740993}}}", "{\"flags\": {\"a\": {\"x\": 9007199254740992}}}",
         "a|x|9007199254740993|9007199254740992\n"},
        {"{\"flags\": {\"a\": {\"x\": 5}}}", "{\"flags\": {\"a\": {\"x\": 5.0}}}", "a|x|5|5.0\n"},
        {"{\"flags\": {\"a\": {\"v\": {\"m\": {\"t\": 1}}}}}",
         "{\"flags\": {\"a\": {\"v\": {\"m\": {\"t\": 2, \"u\": 3}}}}}", "a|v.m.t|1|2\na|v.m.u|-|3\n"},
        {"{\"flags\": {\"a\": {\"v\": \"m\"}}}", "{\"flags\": {\"a\": {\"v\": {\"model\": \"m\"}}}}",
         "a|v|\"m\"|{\"model\":\"m\"}\n"},
        {"{\"flags\": {\"a\": {\"x\": 1}, \"b\": {}}}", "{\"flags\": {\"c\": {}, \"b\": {}}}",
         "a||{\"x\":1}|-\nc||-|{}\n"},
        {"{\"version\": 1, \"flags\": {}}", "{\"defaults\": {\"hold\": \"1h\"}, \"flags\": {}}",
         "-|version|1|-\n-|defaults|-|{\"hold\":\"1h\"}\n"},
        {"{\"flags\": {\"$comment\": \"x\"}}", "{\"flags\": {\"$comment\": \"y\"}}",
         "$comment||\"x\"|\"y\"\n"},
        {"{\"fl\\u0061gs\": {\"\\u0061\": {\"x\": 1}}}", "{\"flags\": {\"a\": {\"x\": 2}}}", "a|x|1|2\n"},
        {"{\"flags\": {\"a\": {\"x\": 1, \"x\": 2}}}", "{\"flags\": {\"a\": {\"x\": 1}}}", ""},
        {"{}", "{}", ""},
        {"[]", "{}", "-||[]|{}\n"},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = differences(cases[i].old, cases[i].new_);

        cr_assert_not_null(text, "case %zu", i);
        cr_assert_str_eq(text, cases[i].expected, "case %zu: %s", i, text);
        free(text);
    }
}

Test(revision, what_is_no_json_cannot_be_compared)
{
    cr_assert_null(differences("{\"flags\": ", "{}"));
    cr_assert_null(differences("{}", ""));
}

static void count(void *context, const struct flagctl_difference *d)
{
    (void)d;
    ++*(size_t *)context;
}

/* Keys are found by hash: a search along the file for each flag would take minutes here. */
Test(revision, large_files_are_compared_in_linear_time, .timeout = 20)
{
    char *texts[2];
    size_t bytes[2], differences_told = 0;
    int turn, i;

    for (turn = 0; turn < 2; turn++) {
        FILE *out = open_memstream(&texts[turn], &bytes[turn]);

        (void)fprintf(out, "{\"flags\": {");
        for (i = 0; i < 40000; i++)
            (void)fprintf(out, "%s\"flag_%d\": {\"rollout_pct\": %d}", i > 0 ? ", " : "",
                          turn ? 39999 - i : i, turn);
        (void)fprintf(out, "}}");
        (void)fclose(out);
    }
    cr_assert(flagctl_differences(texts[0], bytes[0], texts[1], bytes[1], count, &differences_told));
    cr_assert_eq(differences_told, 40000);
    free(texts[0]);
    free(texts[1]);
}
