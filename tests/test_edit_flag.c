#include "server/flagfile.h"
#include "tests/flagfile_fixture.h"
#include "tools/edit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- finish ---- */

/* The new text, malloc'ed; NULL where it was refused, or the same. */
static char *finished(const char *text, const char *flag, struct flagshm_error *error, int *result)
{
    struct flagshm_edit edit;
    char *out = NULL;

    *result = flagshm_edit_finish(&edit, text, strlen(text), flag, error);
    if (*result == 0 && edit.text)
        out = strdup(edit.text);
    flagshm_edit_free(&edit);
    return out;
}

Test(edit_flag, finish_makes_the_variant_control_and_takes_the_plan_out)
{
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{\"flags\":{\"a\":{\"control\":\"c\",\"variant\":\"v\",\"rollout\":{\"plan\":\"b2b\"}}}}",
         "{\"flags\":{\"a\":{\"control\":\"v\",\"variant\":\"v\"}}}"},
        {"{\"flags\": {\"a\": {\"rollout\": {\"plan\": \"b2b\"}, \"control\": \"c\", \"variant\": \"v\"}}}",
         "{\"flags\": {\"a\": {\"control\": \"v\", \"variant\": \"v\"}}}"},
        {"{\"flags\": {\n  \"a\": {\n    \"variant\": {\"model\": \"v\", \"n\" : 1e2},\n    \"rollout\": {\n "
         "     "
         "\"plan\": \"b2c\"\n    },\n    \"control\": \"c\",\n    \"owner\": \"x\"\n  }\n}}\n",
         "{\"flags\": {\n  \"a\": {\n    \"variant\": {\"model\": \"v\", \"n\" : 1e2},\n    \"control\": "
         "{\"model\": "
         "\"v\", \"n\" : 1e2},\n    \"owner\": \"x\"\n  }\n}}\n"},
        {"{\"flags\": {\"a\": {\"control\": \"c\"\r\n , \"rollout\": {\"plan\": \"b2b\"}\r\n , "
         "\"rollout_pct\": 100\r\n , \"variant\": \"v\"}, \"b\": {\"control\": \"c\", \"variant\": \"v\"}}}",
         "{\"flags\": {\"a\": {\"control\": \"v\"\r\n , \"rollout_pct\": 0\r\n , \"variant\": \"v\"}, \"b\": "
         "{\"control\": \"c\", \"variant\": \"v\"}}}"},
        {"{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 100}}}",
         "{\"flags\": {\"a\": {\"control\": \"v\", \"variant\": \"v\", \"rollout_pct\": 0}}}"},
        {"{\"flags\": {\"a\": {\"c\\u006fntrol\": \"c\", \"variant\": \"v\", \"roll\\u006fut\": {\"plan\": "
         "\"b2b\"}, \"guardrails\": \"default\"}}}",
         "{\"flags\": {\"a\": {\"c\\u006fntrol\": \"v\", \"variant\": \"v\", \"guardrails\": \"default\"}}}"},
        {"{\"flags\": {\"a\": {\"control\": \"c\", \"variants\": {\"$comment\": \"x\", \"new\": {\"weight\": "
         "1, "
         "\"value\": \"v\"}}, \"rollout\": {\"plan\": \"b2b\"}}}}",
         "{\"flags\": {\"a\": {\"control\": \"v\", \"variants\": {\"$comment\": \"x\", \"new\": {\"weight\": "
         "1, "
         "\"value\": \"v\"}}}}}"},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_error error = {{0}};
        int result;
        char *text = finished(cases[i].before, "a", &error, &result);

        cr_assert_not_null(text, "case %zu: %s", i, error.text);
        cr_assert_str_eq(text, cases[i].after, "case %zu: %s", i, text);
        free(text);
    }
}

Test(edit_flag, finish_twice_is_no_edit)
{
    struct flagshm_edit edit;
    struct flagshm_error error = {{0}};
    const char *text =
        "{\"flags\": {\"a\": {\"control\": {\"model\": \"v\", \"n\": 1}, \"variant\": {\"n\": 1, "
        "\"model\": \"v\"}}}}";

    cr_assert_eq(flagshm_edit_finish(&edit, text, strlen(text), "a", &error), 0, "%s", error.text);
    cr_assert(edit.is_same);
    cr_assert_null(edit.text);
    flagshm_edit_free(&edit);
}

Test(edit_flag, finish_tells_the_value_and_who_is_forced_to_control)
{
    struct flagshm_edit edit;
    struct flagshm_error error = {{0}};
    struct fixture f;
    const char *text =
        "{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\", \"rollout\": {\"plan\": \"b2b\"}, "
        "\"force\": {\"control\": [\"x\", \"y\"], \"variant\": [\"z\"]}}}}";

    cr_assert_eq(flagshm_edit_finish(&edit, text, strlen(text), "a", &error), 0, "%s", error.text);
    cr_assert_eq(edit.forced_control, 2);
    cr_assert(edit.is_planned);
    f = fixture_parse(text);
    cr_assert_eq(edit.variant_fingerprint, f.file.entries[0].flag.arms[1].fingerprint);
    fixture_free(&f);
    flagshm_edit_free(&edit);
}

Test(edit_flag, what_cannot_be_finished_is_refused)
{
    static const struct {
        const char *text, *sentence;
        int result;
    } cases[] = {
        {"{\"flags\": {\"ab\": {\"control\": \"c\", \"variant\": \"v\"}}}", "no flag \"a\" in the file",
         -ENOENT},
        {"{\"flags\": {\"a\": {\"control\": \"c\", \"variants\": {\"x\": {\"value\": \"x\"}, \"y\": "
         "{\"value\": "
         "\"y\"}}}}}",
         "\"a\" has several variants", -EPERM},
        {"{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\", \"enabled\": false}}}",
         "\"a\" is disabled in the file", -EPERM},
        {"{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\", \"rollout\": 1}}}",
         "flag \"a\" is broken in the file, mend it first: line 1, column", -EBADMSG},
        {"{\"flags\": {", "the file is broken, mend it first: line 1, column", -EBADMSG},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_error error = {{0}};
        int result;
        char *text = finished(cases[i].text, "a", &error, &result);
        bool is_refused = text == NULL;

        free(text);
        cr_assert(is_refused, "case %zu", i);
        cr_assert_eq(result, cases[i].result, "case %zu: %d", i, result);
        cr_assert(strncmp(error.text, cases[i].sentence, strlen(cases[i].sentence)) == 0, "case %zu: %s", i,
                  error.text);
    }
}

/* ---- a new flag ---- */

static const struct flagshm_edit_flag plain = {.name = "new", .control = "a", .variant = "b", .plan = "b2b"};

static char *added(const char *text, const struct flagshm_edit_flag *flag, struct flagshm_error *error,
                   int *result)
{
    struct flagshm_edit edit;
    char *out = NULL;

    *result = flagshm_edit_add(&edit, text, strlen(text), flag, error);
    if (*result == 0)
        out = strdup(edit.text);
    flagshm_edit_free(&edit);
    return out;
}

#define NEW_WIDE                                                                                             \
    "\"new\": {\"control\": \"a\", \"variant\": \"b\", \"rollout\": {\"plan\": \"b2b\"}, \"guardrails\": "   \
    "\"default\"}"

Test(edit_flag, a_new_flag_stands_last_and_is_laid_out_like_its_neighbours)
{
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{\"flags\":{}}", "{\"flags\":{\"new\":{\"control\":\"a\",\"variant\":\"b\",\"rollout\":{\"plan\":"
                           "\"b2b\"},\"guardrails\":"
                           "\"default\"}}}"},
        {"{\"flags\": { } }\n", "{\"flags\": {" NEW_WIDE "} }\n"},
        {"{\n\t\"version\": 1,\n\t\"flags\": {}\n}\n",
         "{\n\t\"version\": 1,\n\t\"flags\": {\n\t\t\"new\": {\n\t\t\t\"control\": "
         "\"a\",\n\t\t\t\"variant\": "
         "\"b\",\n\t\t\t\"rollout\": {\"plan\": \"b2b\"},\n\t\t\t\"guardrails\": "
         "\"default\"\n\t\t}\n\t}\n}\n"},
        {"{\"flags\":{\"x\":{\"control\":\"c\",\"variant\":\"v\"}}}",
         "{\"flags\":{\"x\":{\"control\":\"c\",\"variant\":\"v\"},\"new\":{\"control\":\"a\",\"variant\":"
         "\"b\","
         "\"rollout\":{\"plan\":\"b2b\"},\"guardrails\":\"default\"}}}"},
        {"{\"flags\": {\n  \"x\": {\"control\": \"c\", \"variant\": \"v\"}\n}, \"version\": 1}\n",
         "{\"flags\": {\n  \"x\": {\"control\": \"c\", \"variant\": \"v\"},\n  " NEW_WIDE
         "\n}, \"version\": 1}\n"},
        {"{\r\n  \"flags\": {\r\n\r\n    \"x\": {\r\n      \"control\": \"c\",\r\n      \"variant\": "
         "\"v\"\r\n    "
         "}\r\n  }\r\n}\r\n",
         "{\r\n  \"flags\": {\r\n\r\n    \"x\": {\r\n      \"control\": \"c\",\r\n      \"variant\": "
         "\"v\"\r\n    "
         "},\r\n    \"new\": {\r\n      \"control\": \"a\",\r\n      \"variant\": \"b\",\r\n      "
         "\"rollout\": "
         "{\"plan\": \"b2b\"},\r\n      \"guardrails\": \"default\"\r\n    }\r\n  }\r\n}\r\n"},
        {"{\"flags\": {\"x\": {\"control\":\"c\",\"variant\":\"v\"}}}",
         "{\"flags\": {\"x\": {\"control\":\"c\",\"variant\":\"v\"},\"new\": "
         "{\"control\":\"a\",\"variant\":\"b\","
         "\"rollout\":{\"plan\":\"b2b\"},\"guardrails\":\"default\"}}}"},
        {"{\"flags\": {\"x\": 5}}", "{\"flags\": {\"x\": 5," NEW_WIDE "}}"}, /* a broken neighbour */
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_error error = {{0}};
        int result;
        char *text = added(cases[i].before, &plain, &error, &result);

        cr_assert_not_null(text, "case %zu: %s", i, error.text);
        cr_assert_str_eq(text, cases[i].after, "case %zu: %s", i, text);
        free(text);
    }
}

Test(edit_flag, a_new_flag_says_what_it_was_told)
{
    const struct flagshm_edit_flag flag = {.name = "n",
                                           .control = "a \"quoted\" \xc3\xa9",
                                           .variant = "b",
                                           .plan = "b2c",
                                           .owner = "ada",
                                           .created = "2026-05-01",
                                           .expires = "2026-12-01",
                                           .shadow_mpct = 12500};
    struct flagshm_error error = {{0}};
    int result;
    char *text = added("{\"flags\": {}}", &flag, &error, &result);
    const struct flagshm_flag *read;
    struct fixture f;

    cr_assert_not_null(text, "%s", error.text);
    f = fixture_parse(text);
    cr_assert_eq(f.diags.errors, 0, "%s", f.printed);
    read = &f.file.entries[0].flag;
    cr_assert_str_eq(read->arms[0].model, flag.control);
    cr_assert_str_eq(read->owner, "ada");
    cr_assert_str_eq(read->created, "2026-05-01");
    cr_assert_str_eq(read->expires, "2026-12-01");
    cr_assert(read->has_rollout && read->has_guardrails);
    cr_assert_not_null(strstr(text,
                              "\"rollout\": {\"plan\": [{\"shadow_pct\": 12.5}, {\"pct\": 1}, {\"pct\": 5}, "
                              "{\"pct\": 10}, {\"pct\": 25}, {\"pct\": 50}, {\"pct\": 75}, {\"pct\": 100}], "
                              "\"hold\": \"2h\"}"),
                       "%s", text);
    fixture_free(&f);
    free(text);
}

Test(edit_flag, what_can_be_no_new_flag_is_refused_with_the_reason)
{
    struct flagshm_edit_flag flag[6] = {plain, plain, plain, plain, plain, plain};
    const struct {
        const char *text, *sentence;
        int result;
    } cases[] = {
        {"{\"flags\": {\"new\": {\"control\": \"c\", \"variant\": \"v\"}}}",
         "there is a flag \"new\" already", -EEXIST},
        {"{\"flags\": {\"new\": 5}}", "there is a flag \"new\" already", -EEXIST},
        {"{\"flags\": {}}", "expires must be", -EDOM},
        {"{\"flags\": {}}", "expires lies before created", -EDOM},
        {"{\"flags\": {}", "the file is broken, mend it first: line 1, column", -EBADMSG},
        {"{\"flags\": {\"x\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 5, \"salt\": "
         "\"new\"}}}",
         "it would break flag", -EINVAL},
    };
    size_t i;

    flag[2].expires = "soon";
    flag[3].created = "2026-05-01";
    flag[3].expires = "2026-04-01";
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_error error = {{0}};
        int result;
        char *text = added(cases[i].text, &flag[i], &error, &result);
        bool is_refused = text == NULL;

        free(text);
        cr_assert(is_refused, "case %zu", i);
        cr_assert_eq(result, cases[i].result, "case %zu: %d %s", i, result, error.text);
        cr_assert(strncmp(error.text, cases[i].sentence, strlen(cases[i].sentence)) == 0, "case %zu: %s", i,
                  error.text);
    }
}

/* Every good file: with a flag more, and with each flag finished, what it says of the others is the same, byte for byte. */
static void check_file(const char *path)
{
    struct flagshm_flagfile before, after;
    struct flagshm_diags diags = {0};
    struct flagshm_error error = {{0}};
    struct flagshm_edit edit;
    size_t bytes, i, k;
    char *text = fixture_read(path, &bytes);

    cr_assert_not_null(text);
    cr_assert_eq(flagshm_flagfile_parse(&before, text, bytes, NULL, &diags), 0);
    for (i = 0; i <= before.count; i++) {
        int result = i == before.count
                         ? flagshm_edit_add(&edit, text, bytes, &plain, &error)
                         : flagshm_edit_finish(&edit, text, bytes, before.entries[i].flag.name, &error);

        if (result == -EPERM || (result == 0 && edit.is_same)) { /* several variants, or disabled */
            flagshm_edit_free(&edit);
            continue;
        }
        cr_assert_eq(result, 0, "%s: %s", path, error.text);
        cr_assert_eq(flagshm_flagfile_parse(&after, edit.text, edit.bytes, NULL, &diags), 0);
        cr_assert_eq(after.count, before.count + (i == before.count));
        for (k = 0; k < before.count; k++) {
            const struct flagshm_flag *a = &before.entries[k].flag, *b = &after.entries[k].flag;

            cr_assert_str_eq(a->name, b->name);
            if (k != i)
                cr_assert(a->text_bytes == b->text_bytes && memcmp(a->text, b->text, a->text_bytes) == 0);
        }
        cr_assert_eq(strcmp(text + bytes - 1, edit.text + edit.bytes - 1), 0);
        flagshm_flagfile_free(&after);
        flagshm_edit_free(&edit);
    }
    cr_assert_eq(diags.errors, 0, "%s", path);
    flagshm_diags_free(&diags);
    flagshm_flagfile_free(&before);
    free(text);
}

Test(edit_flag, in_every_good_file_the_rest_stays_as_it_is)
{
    cr_assert_gt(fixture_each_good(check_file), 5);
}

/* ---- a new file ---- */

static const char whole[] = "{\"flags\": {}}\n";

static int create(const char *path, struct flagshm_error *error)
{
    struct flagshm_edit_file file;
    int result = flagshm_edit_create(&file, path, whole, sizeof whole - 1, error);

    flagshm_edit_close(&file);
    return result;
}

Test(edit_flag, a_file_is_only_made_where_there_is_none)
{
    char dir[] = "/tmp/flagshm-edit-XXXXXX", path[64], link[64], text[64] = "";
    struct flagshm_error error = {{0}};
    struct stat status;
    int fd;

    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/flags.json", dir);
    snprintf(link, sizeof link, "%s/link.json", dir);
    umask(027);
    cr_assert_eq(create(path, &error), 0, "%s", error.text);
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0640, "as the umask says");
    fd = open(path, O_RDONLY);
    cr_assert_eq(read(fd, text, sizeof text), (ssize_t)sizeof whole - 1);
    cr_assert_str_eq(text, whole);
    close(fd);
    cr_assert_eq(create(path, &error), -EEXIST);
    cr_assert_eq(unlink(path), 0);

    cr_assert_eq(symlink("nowhere", link), 0);
    cr_assert_eq(create(link, &error), -EEXIST);
    cr_assert_not_null(strstr(error.text, "is a link that leads nowhere: mend it first"));
    cr_assert_eq(unlink(link), 0);
    snprintf(path, sizeof path, "%s/none/flags.json", dir);
    cr_assert_eq(create(path, &error), -ENOENT);
    cr_assert_eq(rmdir(dir), 0, "something is left beside it");
}
