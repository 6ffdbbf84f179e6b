#include "client/flagshm.h"
#include "tests/flagfile_fixture.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>

/* ---- names and shares ---- */

Test(flagfile, names_are_what_the_hash_input_and_paths_can_bear)
{
    static const struct {
        const char *name;
        bool is_flag, is_instance;
    } cases[] = {
        {"a", true, true},     {"0", true, true},     {"A.b_c-d", true, false}, {"a_b-c", true, true},
        {"", false, false},    {".a", false, false},  {"-a", false, false},     {"_a", false, false},
        {"a b", false, false}, {"a:b", false, false}, {"a/b", false, false},    {"a\xc3\xa4", false, false},
        {"a\n", false, false},
    };
    char longest[66];
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(flagshm_is_flag_name(cases[i].name, strlen(cases[i].name)), cases[i].is_flag, "%s",
                     cases[i].name);
        cr_assert_eq(flagshm_is_instance_name(cases[i].name, strlen(cases[i].name)), cases[i].is_instance,
                     "%s", cases[i].name);
    }
    memset(longest, 'n', 65);
    cr_assert(flagshm_is_flag_name(longest, 64));
    cr_assert_not(flagshm_is_flag_name(longest, 65));
    cr_assert(flagshm_is_instance_name(longest, 32));
    cr_assert_not(flagshm_is_instance_name(longest, 33));
    cr_assert_not(flagshm_is_flag_name("a\0b", 3));
}

Test(flagfile, shares_are_read_from_their_digits)
{
    static const struct {
        const char *text;
        int64_t mpct; /* -1: refused */
    } cases[] = {
        {"0", 0},
        {"5", 5000},
        {"100", 100000},
        {"0.001", 1},
        {"0.5", 500},
        {"12.125", 12125},
        {"99.999", 99999},
        {"100.0", 100000},
        {"100.000", 100000},
        {"0.000", 0},
        {"33.3", 33300},
        {"0.29", 290},
        {"100.001", -1},
        {"101", -1},
        {"1000", -1},
        {"", -1},
        {".5", -1},
        {"5.", -1},
        {"05", -1},
        {"00", -1},
        {"-1", -1},
        {"-0", -1},
        {"+5", -1},
        {"5e0", -1},
        {"0.0005", -1},
        {"0.5000", -1},
        {"5%", -1},
        {" 5", -1},
        {"5 ", -1},
        {"1.2.3", -1},
        {"99999999999999999999", -1},
        {"0x5", -1},
        {"5,5", -1},
    };
    size_t i;
    uint32_t mpct;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool is_share = flagshm_mpct_from_text(cases[i].text, strlen(cases[i].text), &mpct);

        cr_assert_eq(is_share, cases[i].mpct >= 0, "%s", cases[i].text);
        cr_assert(!is_share || mpct == (uint32_t)cases[i].mpct, "%s: %u", cases[i].text, mpct);
    }
}

Test(flagfile, every_share_survives_being_written_and_read)
{
    uint32_t mpct, again;
    char text[16];

    for (mpct = 0; mpct <= FLAGSHM_MPCT_FULL; mpct++) {
        flagshm_mpct_to_text(mpct, text);
        cr_assert(flagshm_mpct_from_text(text, strlen(text), &again) && again == mpct, "%u: %s", mpct, text);
    }
    cr_assert_str_eq(flagshm_mpct_to_text(12125, text), "12.125");
    cr_assert_str_eq(flagshm_mpct_to_text(5000, text), "5");
    cr_assert_str_eq(flagshm_mpct_to_text(500, text), "0.5");
    cr_assert_str_eq(flagshm_mpct_to_text(1, text), "0.001");
}

/* ---- the data directories ---- */

static size_t for_each_file(const char *kind,
                            void (*check)(const char *path, const char *text, size_t length))
{
    char directory[900], path[1200];
    struct dirent *entry;
    size_t count = 0, length;
    DIR *dir;

    fixture_data(path, sizeof path);
    snprintf(directory, sizeof directory, "%.800s/%s", path, kind);
    dir = opendir(directory);
    cr_assert_not_null(dir, "%s", directory);
    while ((entry = readdir(dir)) != NULL) {
        size_t name = strlen(entry->d_name);
        char *text;

        if (name < 6 || strcmp(entry->d_name + name - 5, ".json") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        text = fixture_read(path, &length);
        cr_assert_not_null(text, "%s", path);
        check(path, text, length);
        free(text);
        count++;
    }
    closedir(dir);
    return count;
}

static void check_bad(const char *path, const char *text, size_t length)
{
    char expected_path[1200], *expected;
    struct fixture f = fixture_parse_bytes(text, length, 0);
    size_t expected_length;

    snprintf(expected_path, sizeof expected_path, "%.*s.expected", (int)(strlen(path) - 5), path);
    expected = fixture_read(expected_path, &expected_length);
    cr_assert_not_null(expected, "%s", expected_path);
    cr_expect_str_eq(f.printed, expected, "%s:\n%s\ninstead of\n%s", path, f.printed, expected);
    cr_expect_gt(f.diags.errors, 0, "%s", path);
    cr_expect_eq(f.file.errors, f.diags.errors, "%s", path);
    free(expected);
    fixture_free(&f);
}

Test(flagfile, each_bad_file_is_refused_with_its_exact_message)
{
    cr_assert_geq(for_each_file("bad", check_bad), 100);
}

static void check_good(const char *path, const char *text, size_t length)
{
    struct fixture f = fixture_parse_bytes(text, length, 0);
    size_t i;

    cr_assert_eq(f.result, 0, "%s", path);
    cr_expect_eq(f.diags.errors, 0, "%s:\n%s", path, f.printed);
    cr_expect(f.file.is_usable, "%s", path);
    for (i = 0; i < f.file.count; i++)
        cr_expect_not(f.file.entries[i].broken, "%s: %s", path, f.file.entries[i].flag.name);
    fixture_free(&f);
}

Test(flagfile, each_good_file_passes)
{
    cr_assert_geq(for_each_file("good", check_good), 10);
}

/* Reading must not look beyond the text, whatever part of it was written. */
static void check_parts(const char *path, const char *text, size_t length)
{
    size_t part;

    for (part = 0; part < length; part += 1 + length / 400) {
        char *exact = malloc(part ? part : 1);
        struct fixture f;

        memcpy(exact, text, part);
        f = fixture_parse_bytes(exact, part, 0);
        cr_expect(f.diags.errors > 0 || strspn(text + part, " \r\n") == length - part, "%s cut at %zu", path,
                  part);
        fixture_free(&f);
        free(exact);
    }
}

Test(flagfile, a_file_that_is_not_written_to_its_end_is_refused)
{
    for_each_file("good", check_parts);
}

/* ---- what a flag becomes ---- */

static const struct flagshm_flag *sound(const struct fixture *f, const char *name)
{
    const struct flagshm_flagfile_entry *entry = flagshm_flagfile_find(&f->file, name);

    cr_assert_not_null(entry, "%s:\n%s", name, f->printed);
    cr_assert_not(entry->broken, "%s", f->printed);
    return &entry->flag;
}

Test(flagfile, the_seed_form_is_enough)
{
    static const char text[] =
        "{ \"flags\": {\n"
        "    \"new_summarizer_model\": { \"control\": \"claude-haiku-4-5\", \"variant\": "
        "\"claude-sonnet-4-5\", \"rollout_pct\": 5 } } }";
    struct fixture f = fixture_parse(text);
    const struct flagshm_flag *flag = sound(&f, "new_summarizer_model");

    cr_assert(f.file.is_usable);
    cr_assert_eq(f.diags.errors + f.diags.warnings, 0);
    cr_assert_eq(f.file.count, 1);
    cr_assert_eq(flag->rollout_mpct, 5000);
    cr_assert_eq(flag->arm_count, 2);
    cr_assert_str_eq(flag->arms[0].name, "control");
    cr_assert_str_eq(flag->arms[0].model, "claude-haiku-4-5");
    cr_assert_str_eq(flag->arms[0].value, "claude-haiku-4-5");
    cr_assert_str_eq(flag->arms[1].name, "variant");
    cr_assert_str_eq(flag->arms[1].model, "claude-sonnet-4-5");
    cr_assert_eq(flag->arms[1].weight, 1);
    cr_assert_eq(flag->arms[1].value_hash, flagshm_hash64_("claude-sonnet-4-5", 17, 0));
    cr_assert_str_eq(flag->salt, flag->name);
    cr_assert_eq(flag->identity, FLAGSHM_IDENTITY_USER);
    cr_assert(flag->enabled);
    cr_assert_not(flag->has_rollout || flag->has_guardrails || flag->has_on_stale || flag->on_stale_control);
    cr_assert_null(flag->description);
    cr_assert_null(flag->created);
    cr_assert_eq(flag->force_count, 0);
    cr_assert_eq(strncmp(text + flag->offset, flag->text, flag->text_bytes), 0);
    cr_assert_eq(flag->text[0], '{');
    cr_assert_eq(flag->text[flag->text_bytes - 1], '}');
    cr_assert_eq(text[flag->rollout_offset], '5');
    cr_assert_eq(flag->rollout_bytes, 1);
    cr_assert_eq(flag->enabled_bytes, 0);
    fixture_free(&f);
}

Test(flagfile, every_key_arrives)
{
    char path[1000], *text;
    size_t length;
    struct fixture f;
    const struct flagshm_flag *flag;

    fixture_data(path, 900);
    strcat(path, "/good/everything.json");
    text = fixture_read(path, &length);
    f = fixture_parse(text);
    flag = sound(&f, "summarizer.v2");
    cr_assert_str_eq(flag->description, "Sonnet instead of Haiku in the summarizer");
    cr_assert_str_eq(flag->owner, "team-text@example.com");
    cr_assert_str_eq(flag->created, "2024-02-29");
    cr_assert_str_eq(flag->expires, "2027-01-31");
    cr_assert_eq(flag->identity, FLAGSHM_IDENTITY_ORG);
    cr_assert_str_eq(flag->salt, "sum2");
    cr_assert_eq(flag->salt_bytes, 4);
    cr_assert(flag->enabled);
    cr_assert(flag->has_on_stale && flag->on_stale_control);
    cr_assert_eq(flag->rollout_mpct, 12125);
    cr_assert_str_eq(flag->arms[1].model, "claude-sonnet-4-5");
    cr_assert_str_eq(
        flag->arms[1].value,
        "{\"model\":\"claude-sonnet-4-5\",\"temperature\":0.2,\"max_tokens\":512,\"system\":\"Be brief.\","
        "\"prompt\":\"Summarise: {{text}}\",\"top_k\":40,\"stop_sequences\":[\"\\n\\n\"],"
        "\"metadata\":{\"a\":[1,2.50,-3e-2,true,null]}}");
    cr_assert_eq(flag->arms[1].value_bytes, strlen(flag->arms[1].value));
    cr_assert_eq(flag->force_count, 3);
    cr_assert_str_eq(flag->force[2].id, "org-3");
    cr_assert_eq(flag->force[2].id_bytes, 5);
    cr_assert_eq(flag->force[2].arm, 1);
    cr_assert_eq(flag->force[0].arm, 0);
    cr_assert_eq(strncmp(text + flag->enabled_offset, "true", flag->enabled_bytes), 0);
    cr_assert_eq(strncmp(text + flag->rollout_offset, "12.125", flag->rollout_bytes), 0);
    fixture_free(&f);
    free(text);
}

Test(flagfile, values_keep_their_numbers_and_their_order)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {\"a\": {\"control\": {\"z\": 9007199254740993, \"a\": 1.10, \"model\": \"\\u0078\"},"
        " \"variant\": \"\\u00e4\\n\\\"\"}}}");

    /* a model is a line: the variant breaks this flag */
    cr_assert(f.file.entries[0].broken);
    fixture_free(&f);
    f = fixture_parse("{\"flags\": {\"a\": {\"control\": {\"z\": 9007199254740993, \"a\": 1.10, \"model\": "
                      "\"\\u0078\"}, \"variant\": \"\\u00e4\\\"\"}}}");
    cr_assert_str_eq(sound(&f, "a")->arms[0].value,
                     "{\"z\":9007199254740993,\"a\":1.10,\"model\":\"\\u0078\"}");
    cr_assert_str_eq(sound(&f, "a")->arms[0].model, "x");
    cr_assert_str_eq(sound(&f, "a")->arms[1].value, "\xc3\xa4\"", "a model's name is decoded");
    fixture_free(&f);
}

Test(flagfile, the_order_of_keys_changes_the_value_but_not_its_fingerprint)
{
    struct fixture f =
        fixture_parse("{\"flags\": {\"a\": {\"control\": {\"model\": \"x\", \"n\": {\"p\": 1, \"q\": 2}},"
                      " \"variant\": {\"n\": {\"q\": 2, \"p\": 1},\n \"model\": \"x\"}}}}");
    const struct flagshm_flag *flag = sound(&f, "a");

    cr_assert_eq(flag->arms[0].fingerprint, flag->arms[1].fingerprint);
    cr_assert_neq(flag->arms[0].value_hash, flag->arms[1].value_hash);
    fixture_free(&f);
}

Test(flagfile, variants_come_in_the_files_order_with_their_weights)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {\"a\": {\"control\": \"c\", \"variants\": {\"zeta\": {\"value\": \"z\", \"weight\": 3},"
        " \"$comment\": \"x\", \"alpha\": {\"value\": {\"prompt\": \"p\"}}, \"off\": {\"weight\": 0, "
        "\"value\": \"o\"}},"
        " \"force\": {\"alpha\": [\"u\"]}}}}");
    const struct flagshm_flag *flag = sound(&f, "a");

    cr_assert_eq(flag->arm_count, 4);
    cr_assert_str_eq(flag->arms[1].name, "zeta");
    cr_assert_eq(flag->arms[1].weight, 3);
    cr_assert_str_eq(flag->arms[2].name, "alpha");
    cr_assert_eq(flag->arms[2].weight, 1);
    cr_assert_str_eq(flag->arms[2].model, "");
    cr_assert_str_eq(flag->arms[3].name, "off");
    cr_assert_eq(flag->arms[3].weight, 0);
    cr_assert_eq(flag->force[0].arm, 2);
    fixture_free(&f);
}

Test(flagfile, defaults_of_a_flag_depend_on_its_plan)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {\"plain\": {\"control\": \"c\", \"variant\": \"v\"},"
        " \"planned\": {\"control\": \"c\", \"variant\": \"v\", \"rollout\": {\"plan\": \"b2b\"}},"
        " \"capped\": {\"control\": \"c\", \"variant\": \"v\", \"rollout\": {\"plan\": \"b2b\"}, "
        "\"rollout_pct\": 25, \"on_stale\": \"hold\"},"
        " \"guarded\": {\"control\": \"c\", \"variant\": \"v\", \"guardrails\": \"default\"},"
        " \"refused\": {\"control\": \"c\", \"variant\": \"v\", \"guardrails\": []}}}");

    cr_assert_eq(sound(&f, "plain")->rollout_mpct, 0);
    cr_assert_eq(sound(&f, "planned")->rollout_mpct, FLAGSHM_MPCT_FULL);
    cr_assert(sound(&f, "planned")->has_rollout);
    cr_assert_not(sound(&f, "planned")->has_on_stale, "it hangs on how it is served");
    cr_assert_eq(sound(&f, "capped")->rollout_mpct, 25000);
    cr_assert(sound(&f, "capped")->has_on_stale && !sound(&f, "capped")->on_stale_control);
    cr_assert(sound(&f, "guarded")->has_guardrails);
    cr_assert_not(sound(&f, "guarded")->has_rollout);
    cr_assert_not(sound(&f, "refused")->has_guardrails);
    cr_assert_eq(f.diags.warnings, 0);
    cr_assert_eq(f.diags.errors, 0);
    fixture_free(&f);
}

/* ---- what a broken flag still says ---- */

Test(flagfile, a_broken_flag_still_says_what_lowers_it)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {"
        "\"killed\": {\"enabled\": false, \"rolout_pct\": 5},"
        "\"lower\": {\"rollout_pct\": 2.5, \"control\": 5},"
        "\"enabled\": {\"enabled\": true, \"typo\": 1},"
        "\"nothing\": {\"enabled\": \"false\", \"rollout_pct\": 500},"
        "\"twice\": {\"rollout_pct\": 25, \"rollout_pct\": 5, \"enabled\": true, \"enabled\": false},"
        "\"sound\": {\"control\": \"c\", \"variant\": \"v\", \"enabled\": false, \"rollout_pct\": 1}}}");
    const struct flagshm_flagfile_entry *entry;

    cr_assert(f.file.is_usable);
    entry = flagshm_flagfile_find(&f.file, "killed");
    cr_assert(entry->broken && entry->says_disabled && !entry->says_rollout);
    entry = flagshm_flagfile_find(&f.file, "lower");
    cr_assert(entry->broken && !entry->says_disabled && entry->says_rollout &&
              entry->says_rollout_mpct == 2500);
    entry = flagshm_flagfile_find(&f.file, "enabled");
    cr_assert(entry->broken && !entry->says_disabled);
    entry = flagshm_flagfile_find(&f.file, "nothing");
    cr_assert(entry->broken && !entry->says_disabled && !entry->says_rollout);
    entry = flagshm_flagfile_find(&f.file, "twice");
    cr_assert(entry->broken && entry->says_disabled && entry->says_rollout_mpct == 5000);
    entry = flagshm_flagfile_find(&f.file, "sound");
    cr_assert(!entry->broken && entry->says_disabled && entry->says_rollout_mpct == 1000 &&
              !entry->flag.enabled);
    cr_assert_null(flagshm_flagfile_find(&f.file, "absent"));
    fixture_free(&f);
}

Test(flagfile, one_broken_flag_breaks_no_other)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\"}, \"b\": 5, \"not a name\": {},"
        " \"c\": {\"control\": \"c\", \"variant\": \"v\"}}, \"flagz\": {}, \"$schema\": 1}");

    cr_assert(f.file.is_usable);
    cr_assert_eq(f.file.count, 4);
    cr_assert_not(f.file.entries[0].broken);
    cr_assert(f.file.entries[1].broken);
    cr_assert(f.file.entries[2].broken);
    cr_assert_not(f.file.entries[3].broken);
    fixture_free(&f);
}

Test(flagfile, duplicate_keys_are_all_listed_and_break_the_flag_they_stand_in)
{
    struct fixture f = fixture_parse(
        "{\"flags\": {\n\"a\": {\"control\": \"c\", \"control\": \"c\", \"variant\": \"v\"},\n"
        "\"b\": {\"control\": \"c\", \"variant\": {\"model\": \"m\", \"x\": {\"y\": 1, \"y\": 1}}},\n"
        "\"c\": {\"control\": \"c\", \"variant\": \"v\"},\n"
        "\"d\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 50},\n"
        "\"d\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 5, \"enabled\": false}}}");

    cr_assert(f.file.is_usable);
    cr_assert_eq(f.diags.errors, 3);
    cr_assert_eq(f.file.count, 4, "names are unique");
    cr_assert(f.file.entries[0].broken);
    cr_assert(f.file.entries[1].broken);
    cr_assert_not(f.file.entries[2].broken);
    cr_assert(f.file.entries[3].broken);
    cr_assert(f.file.entries[3].says_disabled);
    cr_assert_eq(f.file.entries[3].says_rollout_mpct, 5000);
    cr_assert_str_eq(f.diags.items[1].pointer, "/flags/b/variant/x/y");
    fixture_free(&f);
}

/* ---- when nothing changes ---- */

Test(flagfile, what_is_no_flag_file_is_not_usable)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "5",
        "{}",
        "{\"fllags\": {}}",
        "{\"flags\": []}",
        "{\"flags\": null}",
        "{\"flags\": {}, \"flags\": {}}",
        "{\"version\": 2, \"flags\": {}}",
        "{\"flags\": {}} x",
        "{\"flags\": {\"a\": {\"control\": \"\\u0000\"}}}",
    };
    size_t i;

    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct fixture f = fixture_parse(texts[i]);

        cr_assert_eq(f.result, 0);
        cr_assert_not(f.file.is_usable, "%s", texts[i]);
        cr_assert_gt(f.diags.errors, 0, "%s", texts[i]);
        fixture_free(&f);
    }
}

Test(flagfile, no_flags_at_all_is_usable)
{
    struct fixture f = fixture_parse("{\"flags\": {}}");

    cr_assert(f.file.is_usable);
    cr_assert_eq(f.file.count, 0);
    cr_assert_eq(f.diags.errors, 0);
    fixture_free(&f);
}

Test(flagfile, broken_defaults_break_nothing_else)
{
    static const char *const texts[] = {
        "{\"defaults\": {\"rollout\": {\"hold\": \"4 h\"}}, \"flags\": {\"a\": {\"control\": \"c\", "
        "\"variant\": \"v\"}}}",
        "{\"defaults\": 5, \"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\"}}}",
        "{\"defaults\": {\"rollout\": {\"mode\": \"auto\", \"mode\": \"auto\"}}, \"flags\": {\"a\": "
        "{\"control\": \"c\", \"variant\": \"v\"}}}",
        "{\"defaults\": {}, \"defaults\": {}, \"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\"}}}",
    };
    size_t i;
    struct fixture f;

    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        f = fixture_parse(texts[i]);
        cr_assert(f.file.is_usable && f.file.defaults_broken && !f.file.defaults_text, "%s", texts[i]);
        cr_assert_not(f.file.entries[0].broken, "%s", texts[i]);
        fixture_free(&f);
    }
    f = fixture_parse("{\"flags\": {}, \"defaults\": {\"rollout\": {\"hold\": \"4h\"}}}");
    cr_assert_not(f.file.defaults_broken);
    cr_assert_eq(strncmp(f.file.defaults_text, "{\"rollout\": {\"hold\": \"4h\"}}", f.file.defaults_bytes),
                 0);
    fixture_free(&f);
}

/* ---- limits ---- */

static char *many_flags(size_t count)
{
    char *text = malloc(count * 64 + 64), *end = text + sprintf(text, "{\"flags\": {\"$comment\": \"x\"");
    size_t i;

    for (i = 0; i < count; i++)
        end += sprintf(end, ",\n\"f%zu\": {\"control\": \"c\", \"variant\": \"v\"}", i);
    strcpy(end, "}}");
    return text;
}

Test(flagfile, too_many_flags_are_refused_as_a_whole)
{
    char *text = many_flags(12);
    struct fixture f = fixture_parse_bytes(text, strlen(text), 12);

    cr_assert(f.file.is_usable, "%s", f.printed);
    cr_assert_eq(f.file.count, 12);
    fixture_free(&f);
    f = fixture_parse_bytes(text, strlen(text), 11);
    cr_assert_not(f.file.is_usable);
    cr_assert_eq(f.file.count, 0);
    cr_assert_str_eq(f.diags.items[0].message, "the file has 12 flags, at most 11 are read (--max-flags)");
    fixture_free(&f);
    free(text);

    text = many_flags(FLAGSHM_FLAGS_DEFAULT + 1);
    f = fixture_parse(text);
    cr_assert_not(f.file.is_usable);
    fixture_free(&f);
    free(text);
}

Test(flagfile, a_file_over_64_mib_is_not_read)
{
    size_t length = FLAGSHM_FILE_MAX + 1u;
    char *text = malloc(length);
    struct fixture f;

    memset(text, ' ', length);
    memcpy(text, "{\"flags\": {}}", 13);
    f = fixture_parse_bytes(text, length, 0);
    cr_assert_eq(f.result, -EFBIG);
    cr_assert_eq(f.diags.errors, 1);
    cr_assert_not(f.file.is_usable);
    fixture_free(&f);
    f = fixture_parse_bytes(text, length - 1, 0);
    cr_assert_eq(f.result, 0);
    cr_assert(f.file.is_usable);
    fixture_free(&f);
    free(text);
}

Test(flagfile, a_value_of_64_kib_fits_and_one_byte_more_does_not)
{
    static char text[90000];
    size_t prompt;

    for (prompt = FLAGSHM_VALUE_MAX - 13; prompt <= FLAGSHM_VALUE_MAX - 12; prompt++) { /* {"prompt":""} */
        struct fixture f;
        char *end =
            text + sprintf(text, "{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": {  \"prompt\" : \"");

        memset(end, 'p', prompt);
        strcpy(end + prompt, "\"  }}}}");
        f = fixture_parse(text);
        cr_assert_eq(f.file.entries[0].broken, prompt > FLAGSHM_VALUE_MAX - 13, "%s", f.printed);
        cr_assert(f.file.entries[0].broken ||
                  f.file.entries[0].flag.arms[1].value_bytes == FLAGSHM_VALUE_MAX);
        fixture_free(&f);
    }
}

Test(flagfile, numbers_longer_than_cjson_reads_are_no_fault_of_the_file)
{
    char text[400], digits[120];
    struct fixture f;

    memset(digits, '7', 100);
    digits[100] = '\0';
    snprintf(text, sizeof text, "{\"flags\": {\"a\": {\"control\": {\"n\": [%s, -%s]}, \"variant\": \"v\"}}}",
             digits, digits);
    f = fixture_parse(text);
    cr_assert_not_null(strstr(sound(&f, "a")->arms[0].value, digits));
    fixture_free(&f);
    snprintf(text, sizeof text,
             "{\"flags\": {\"a\": {\"control\": {\"temperature\": 0.%s}, \"variant\": \"v\", "
             "\"rollout_pct\": %s}}}",
             digits, digits);
    f = fixture_parse(text);
    cr_assert(f.file.is_usable);
    cr_assert_eq(f.diags.errors, 2, "%s", f.printed);
    fixture_free(&f);
}

/* ---- salts ---- */

Test(flagfile, flags_between_0_and_100_percent_share_no_salt)
{
    static const struct {
        const char *first, *second;
        bool clash;
    } cases[] = {
        {"\"salt\": \"s\", \"rollout_pct\": 5", "\"salt\": \"s\", \"rollout_pct\": 5", true},
        {"\"salt\": \"s\", \"rollout_pct\": 5", "\"salt\": \"s\", \"rollout_pct\": 99.999", true},
        {"\"salt\": \"s\", \"rollout_pct\": 5", "\"salt\": \"s\", \"rollout_pct\": 100", false},
        {"\"salt\": \"s\", \"rollout_pct\": 5", "\"salt\": \"s\", \"rollout_pct\": 0", false},
        {"\"salt\": \"s\", \"rollout_pct\": 5", "\"salt\": \"s\"", false},
        {"\"salt\": \"s\", \"rollout_pct\": 5", "\"salt\": \"t\", \"rollout_pct\": 5", false},
        {"\"salt\": \"second\", \"rollout_pct\": 5", "\"rollout_pct\": 5", true},
        {"\"rollout_pct\": 5", "\"salt\": \"first\", \"rollout_pct\": 5", true},
        {"\"rollout_pct\": 5", "\"salt\": \"f\\u0069rst\", \"rollout_pct\": 5", true},
        {"\"rollout_pct\": 5", "\"rollout_pct\": 5", false},
        {"\"salt\": \"s\", \"rollout\": {\"plan\": \"b2b\"}", "\"salt\": \"s\", \"rollout_pct\": 5", true},
        {"\"salt\": \"s\", \"rollout\": {\"plan\": \"b2b\"}, \"rollout_pct\": 0",
         "\"salt\": \"s\", \"rollout_pct\": 5", false},
        {"\"salt\": \"s\", \"rollout_pct\": 5, \"typo\": 1", "\"salt\": \"s\", \"rollout_pct\": 5", false},
    };
    size_t i;
    char text[600];

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;

        snprintf(text, sizeof text,
                 "{\"flags\": {\"first\": {\"control\": \"c\", \"variant\": \"v\", %s},\n"
                 "\"second\": {\"control\": \"c\", \"variant\": \"v\", %s}}}",
                 cases[i].first, cases[i].second);
        f = fixture_parse(text);
        cr_assert_eq(f.file.entries[1].broken, cases[i].clash, "%s\n%s", text, f.printed);
        if (cases[i].clash) {
            cr_assert_eq(f.diags.errors, 1);
            cr_assert_not_null(strstr(f.printed, "is that of flag \"first\" (line 1) too"));
            cr_assert_not(f.file.entries[0].broken);
            cr_assert(f.file.entries[1].says_rollout, "what lowers is still said");
        }
        fixture_free(&f);
    }
}

Test(flagfile, parsing_again_gives_the_same_and_freeing_twice_is_harmless)
{
    struct fixture f =
        fixture_parse("{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": {\"model\": \"m\"}}}}");
    struct fixture again = fixture_parse_bytes(f.file.text, f.file.text_bytes, 0);

    cr_assert_eq(sound(&f, "a")->arms[1].fingerprint, sound(&again, "a")->arms[1].fingerprint);
    flagshm_flagfile_free(&again.file);
    flagshm_flagfile_free(&again.file);
    cr_assert_eq(again.file.count, 0);
    fixture_free(&again);
    fixture_free(&f);
}
