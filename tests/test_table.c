/* The compiled table: what a client decides by it, and that the same input gives the same bytes. */
#include "flagfile_fixture.h"
#include "table_fixture.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <errno.h>

static struct flagshm_table_entry entry_of(struct flagshm_flag *flag, struct flagshm_arm arms[2],
                                           const char *name, uint32_t mpct)
{
    static const char *const models[2] = {"claude-haiku-4-5", "claude-sonnet-4-5"};
    size_t i;

    memset(flag, 0, sizeof *flag);
    for (i = 0; i < 2; i++)
        arms[i] = (struct flagshm_arm){.name = i ? "variant" : "control",
                                       .model = models[i],
                                       .model_bytes = strlen(models[i]),
                                       .value = models[i],
                                       .value_bytes = strlen(models[i]),
                                       .value_hash = flagshm_hash64_(models[i], strlen(models[i]), 0),
                                       .weight = 1};
    flag->name = flag->salt = name;
    flag->name_bytes = flag->salt_bytes = strlen(name);
    flag->enabled = true;
    flag->rollout_mpct = mpct;
    flag->arms = arms;
    flag->arm_count = 2;
    return (struct flagshm_table_entry){.flag = flag};
}

static void compile(struct table_fixture *f, const char *text, const struct flagshm_geometry *within)
{
    cr_assert(table_fixture_parse(f, text));
    cr_assert_eq(flagshm_table_build(&f->table, f->entries, f->count, within), 0);
}

static const struct flagshm_flag_entry *record_of(const struct table_fixture *f, const char *name)
{
    const struct flagshm_flag_entry *r =
        flagshm_table_find(&f->table, flagshm_hash64_(name, strlen(name), 0));

    cr_assert_not_null(r, "no record of %s", name);
    return r;
}

static const unsigned char *heap_of(const struct table_fixture *f)
{
    return f->table.bytes + f->table.geometry.heap_offset;
}

/* ---- stages, shares, switches ---- */

Test(table, stage_and_share_say_what_is_served)
{
    static const struct {
        const char *members, *stage;
        bool is_killed;
        uint32_t share_mpct, switches;
    } cases[] = {
        {"\"rollout_pct\": 5", "static-5pct", false, 5000, FLAGSHM_SWITCH_HASH},
        {"\"rollout_pct\": 12.125", "static-12.125pct", false, 12125, FLAGSHM_SWITCH_HASH},
        {"\"rollout_pct\": 0.001", "static-0.001pct", false, 1, FLAGSHM_SWITCH_HASH},
        {"\"rollout_pct\": 99.999", "static-99.999pct", false, 99999, FLAGSHM_SWITCH_HASH},
        {"\"rollout_pct\": 0", "static-0pct", false, 0, 0},
        {"\"owner\": \"team\"", "static-0pct", false, 0, 0},
        {"\"rollout_pct\": 100", "static-100pct", false, 100000, 0},
        {"\"rollout_pct\": 5", "killed", true, 0, FLAGSHM_SWITCH_KILLED},
        {"\"rollout_pct\": 5, \"enabled\": false", "disabled", false, 0, FLAGSHM_SWITCH_DISABLED},
        {"\"rollout_pct\": 5, \"enabled\": false", "killed", true, 0,
         FLAGSHM_SWITCH_KILLED | FLAGSHM_SWITCH_DISABLED},
        {"\"rollout_pct\": 50, \"on_stale\": \"control\"", "static-50pct", false, 50000,
         FLAGSHM_SWITCH_HASH | FLAGSHM_SWITCH_STALE_CONTROL},
        {"\"rollout_pct\": 50, \"identity\": \"org\"", "static-50pct", false, 50000,
         FLAGSHM_SWITCH_HASH | FLAGSHM_SWITCH_ORG},
        {"\"rollout_pct\": 50, \"identity\": \"session\"", "static-50pct", false, 50000,
         FLAGSHM_SWITCH_HASH | FLAGSHM_SWITCH_SESSION},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct table_fixture f;
        const struct flagshm_flag_entry *r;
        char text[256];

        (void)snprintf(text, sizeof text,
                       "{\"flags\": {\"f\": {\"control\": \"a\", \"variant\": \"b\", %s}}}",
                       cases[i].members);
        cr_assert(table_fixture_parse(&f, text));
        f.entries[0].is_killed = cases[i].is_killed;
        cr_assert_eq(flagshm_table_share_mpct(&f.entries[0]), cases[i].share_mpct);
        cr_assert_eq(flagshm_table_build(&f.table, f.entries, f.count, NULL), 0);
        r = record_of(&f, "f");
        cr_assert_str_eq(r->stage, cases[i].stage);
        cr_assert_eq(r->rollout_mpct, cases[i].share_mpct, "%s", cases[i].members);
        cr_assert_eq(r->switches, cases[i].switches, "%s: %x", cases[i].members, r->switches);
        cr_assert_eq(r->slot, FLAGSHM_NO_SLOT);
        table_fixture_free(&f);
    }
}

Test(table, flag_with_a_plan_serves_nobody)
{
    struct table_fixture f;
    struct flagshm_flag flag;
    struct flagshm_arm arms[2];
    struct flagshm_table_entry entry = entry_of(&flag, arms, "planned", 100000);

    flag.has_rollout = true;
    memset(&f, 0, sizeof f);
    cr_assert_eq(flagshm_table_build(&f.table, &entry, 1, NULL), 0);
    cr_assert_eq(record_of(&f, "planned")->rollout_mpct, 0);
    cr_assert_str_eq(record_of(&f, "planned")->stage, "static-0pct");
    flagshm_table_free(&f.table);
}

Test(table, several_variants_at_100_pct_are_hashed)
{
    struct table_fixture f;

    compile(
        &f,
        "{\"flags\": {\"f\": {\"control\": \"a\", \"variants\": {\"x\": {\"value\": \"b\", \"weight\": 3},"
        "\"y\": {\"value\": \"c\", \"weight\": 2}}, \"rollout_pct\": 100}}}",
        NULL);
    cr_assert_eq(record_of(&f, "f")->switches, FLAGSHM_SWITCH_HASH);
    cr_assert_eq(record_of(&f, "f")->weight_sum, 5);
    cr_assert_eq(record_of(&f, "f")->arm_count, 3);
    table_fixture_free(&f);
}

/* ---- bytes ---- */

Test(table, same_input_gives_same_bytes)
{
    struct table_fixture a, b;
    char *text = table_fixture_text(300, "33.3");

    compile(&a, text, NULL);
    compile(&b, text, NULL);
    cr_assert_eq(a.table.geometry.bank_bytes, b.table.geometry.bank_bytes);
    cr_assert_eq(memcmp(a.table.bytes, b.table.bytes, (size_t)a.table.geometry.bank_bytes), 0);
    table_fixture_free(&a);
    table_fixture_free(&b);
    free(text);
}

Test(table, content_hash_is_of_the_content_in_any_geometry)
{
    struct table_fixture small, large, roomy, other;
    char *text = table_fixture_text(20, "10"), *many = table_fixture_text(500, "10"),
         *changed = table_fixture_text(20, "11");

    compile(&small, text, NULL);
    compile(&large, many, NULL);
    compile(&roomy, text, &large.table.geometry);
    compile(&other, changed, NULL);
    cr_assert_eq(memcmp(&roomy.table.geometry, &large.table.geometry, sizeof roomy.table.geometry), 0);
    cr_assert_eq(roomy.table.content_hash, small.table.content_hash);
    cr_assert_neq(other.table.content_hash, small.table.content_hash);
    cr_assert_eq(flagshm_table_hash(&small.table), small.table.content_hash);
    table_fixture_free(&small);
    table_fixture_free(&large);
    table_fixture_free(&roomy);
    table_fixture_free(&other);
    free(text);
    free(many);
    free(changed);
}

Test(table, geometry_is_kept_while_it_holds_and_doubles_when_it_does_not)
{
    struct table_fixture first, second;
    char *few = table_fixture_text(64, "10"), *more = table_fixture_text(65, "10");

    compile(&first, few, NULL);
    cr_assert_geq(first.table.geometry.segment_bytes, 65536);
    cr_assert_eq(first.table.geometry.record_capacity, 80);
    free(few);
    few = table_fixture_text(81, "10");
    compile(&second, more, &first.table.geometry);
    cr_assert_eq(memcmp(&second.table.geometry, &first.table.geometry, sizeof second.table.geometry), 0);
    table_fixture_free(&second);
    compile(&second, few, &first.table.geometry);
    cr_assert_eq(second.table.geometry.record_capacity, 162, "as much again, %u",
                 second.table.geometry.record_capacity);
    cr_assert_geq(second.table.geometry.heap_bytes, 2 * second.table.heap_used);
    table_fixture_free(&first);
    table_fixture_free(&second);
    free(few);
    free(more);
}

Test(table, thousand_flags_fit_into_less_than_a_mebibyte)
{
    struct table_fixture f;
    char *text = table_fixture_text(1000, "12.5");

    compile(&f, text, NULL);
    cr_assert_lt(f.table.geometry.segment_bytes, 1024 * 1024);
    table_fixture_free(&f);
    free(text);
}

Test(table, equal_texts_are_stored_once)
{
    struct table_fixture f;
    const struct flagshm_arm_entry *a, *b;

    compile(&f,
            "{\"flags\": {\"one\": {\"control\": \"claude-haiku-4-5\", \"variant\": \"gpt-5\"},"
            "\"two\": {\"control\": \"claude-haiku-4-5\", \"variant\": {\"model\": \"gpt-5\"}}}}",
            NULL);
    a = (const struct flagshm_arm_entry *)(const void *)(heap_of(&f) + record_of(&f, "one")->arms_offset);
    b = (const struct flagshm_arm_entry *)(const void *)(heap_of(&f) + record_of(&f, "two")->arms_offset);
    cr_assert_eq(a[0].name_offset, b[0].name_offset);
    cr_assert_eq(a[0].model_offset, b[0].model_offset);
    cr_assert_eq(a[0].value_offset, a[0].model_offset);
    cr_assert_eq(a[1].model_offset, b[1].model_offset);
    cr_assert_neq(a[1].value_offset, b[1].value_offset);
    cr_assert_str_eq((const char *)heap_of(&f) + b[1].value_offset, "{\"model\":\"gpt-5\"}");
    table_fixture_free(&f);
}

Test(table, every_text_ends_in_nul_and_is_padded_with_zeros)
{
    static const char *const names[] = {"a", "seven77", "eight888", "nine99999", "sixteen616161616"};
    struct flagshm_table_entry entries[5];
    struct flagshm_flag flags[5];
    struct flagshm_arm arms[5][2];
    struct table_fixture f = {.count = 0};
    size_t i, j;

    for (i = 0; i < 5; i++)
        entries[i] = entry_of(&flags[i], arms[i], names[i], 5000);
    cr_assert_eq(flagshm_table_build(&f.table, entries, 5, NULL), 0);
    for (i = 0; i < 5; i++) {
        const struct flagshm_flag_entry *r = record_of(&f, names[i]);

        for (j = r->name_bytes; j < ((r->name_bytes + 8u) & ~7u); j++)
            cr_assert_eq(heap_of(&f)[r->name_offset + j], 0);
    }
    flagshm_table_free(&f.table);
}

Test(table, empty_table_is_a_table)
{
    struct flagshm_table table;

    cr_assert_eq(flagshm_table_build(&table, NULL, 0, NULL), 0);
    cr_assert_eq(table.flag_count, 0);
    cr_assert_null(flagshm_table_find(&table, 1));
    cr_assert_eq(flagshm_table_hash(&table), table.content_hash);
    flagshm_table_free(&table);
}

Test(table, two_names_with_one_hash_are_refused)
{
    struct flagshm_flag flag;
    struct flagshm_arm arms[2];
    struct flagshm_table_entry entry = entry_of(&flag, arms, "twice", 5000), entries[2];
    struct flagshm_table table;

    entries[0] = entries[1] = entry;
    cr_assert_eq(flagshm_table_build(&table, entries, 2, NULL), -EEXIST);
    cr_assert_null(table.bytes);
}

Test(table, every_one_of_10000_flags_is_found_within_a_bounded_run)
{
    struct table_fixture f;
    char *text = table_fixture_text(10000, "12.5");
    const uint64_t *index;
    uint32_t run = 0, longest = 0, i;

    compile(&f, text, NULL);
    for (i = 0; i < 10000; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "flag-%u", i);
        cr_assert_eq(record_of(&f, name)->name_bytes, strlen(name));
    }
    index = (const uint64_t *)(const void *)(f.table.bytes + f.table.geometry.index_offset);
    for (i = 0; i < f.table.geometry.index_slots; i++) {
        run = index[i] ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    cr_assert_lt(longest, 64, "names crowd: a run of %u", longest);
    table_fixture_free(&f);
    free(text);
}

/* Names whose hash begins alike, as an adversary would choose them, are not accepted into a run that readers do not follow. */
Test(table, crowded_index_is_refused_or_made_larger)
{
    enum { COUNT = 1200 };
    static struct flagshm_flag flags[COUNT];
    static struct flagshm_arm arms[COUNT][2];
    static struct flagshm_table_entry entries[COUNT];
    static char names[COUNT][24];
    struct flagshm_table table;
    uint64_t number = 0;
    size_t count = 0;
    int code;

    while (count < COUNT) { /* one in 4096 lands on slot 7 of the index that 1200 flags get */
        (void)snprintf(names[count], sizeof names[count], "n%llu", (unsigned long long)number++);
        if ((flagshm_hash64_(names[count], strlen(names[count]), 0) & 4095) == 7) {
            entries[count] = entry_of(&flags[count], arms[count], names[count], 5000);
            count++;
        }
    }
    code = flagshm_table_build(&table, entries, COUNT, NULL);
    cr_assert_eq(code, 0, "%d", code);
    cr_assert_gt(table.geometry.index_slots, 4096, "a larger index spreads them");
    flagshm_table_free(&table);
}

/* ---- what changed ---- */

Test(table, changed_version_moves_only_with_the_flag_itself)
{
    static const char before[] =
        "{\"flags\": {\"a\": {\"control\": \"x\", \"variant\": \"y\", \"rollout_pct\": 5},"
        "\"b\": {\"control\": \"x\", \"variant\": \"y\", \"rollout_pct\": 5},"
        "\"c\": {\"control\": \"x\", \"variant\": \"y\", \"rollout_pct\": 5, \"force\": {\"variant\": "
        "[\"u\"]}},"
        "\"d\": {\"control\": \"x\", \"variant\": \"y\"}}}";
    static const char after[] =
        "{\"flags\": {\"new\": {\"control\": \"long-model-name\", \"variant\": \"z\"},"
        "\"a\": {\"control\": \"x\", \"variant\": \"y\", \"rollout_pct\": 6},"
        "\"b\": {\"control\": \"x\", \"variant\": \"y\", \"rollout_pct\": 5},"
        "\"c\": {\"control\": \"x\", \"variant\": \"y\", \"rollout_pct\": 5, \"force\": {\"variant\": "
        "[\"v\"]}},"
        "\"d\": {\"control\": \"x\", \"variant\": {\"model\": \"y\"}}}}";
    struct table_fixture old, new;

    compile(&old, before, NULL);
    flagshm_table_carry_versions(&old.table, NULL, 7);
    cr_assert_eq(record_of(&old, "b")->changed_version, 7);
    compile(&new, after, &old.table.geometry);
    flagshm_table_carry_versions(&new.table, &old.table, 8);
    cr_assert_eq(record_of(&new, "b")->changed_version, 7, "moved in the file, is the same");
    cr_assert_eq(record_of(&new, "a")->changed_version, 8, "another share");
    cr_assert_eq(record_of(&new, "c")->changed_version, 8, "another forced id");
    cr_assert_eq(record_of(&new, "d")->changed_version, 8, "another value with the same model");
    cr_assert_eq(record_of(&new, "new")->changed_version, 8);
    cr_assert_eq(flagshm_table_hash(&new.table), new.table.content_hash, "the version is no content");
    table_fixture_free(&old);
    table_fixture_free(&new);
}

Test(table, kill_by_hand_gives_what_a_build_with_the_kill_gives)
{
    struct table_fixture by_hand, built;
    char *text = table_fixture_text(10, "25");

    compile(&by_hand, text, NULL);
    flagshm_table_kill(&by_hand.table, (struct flagshm_flag_entry *)(uintptr_t)record_of(&by_hand, "flag-3"));
    cr_assert(table_fixture_parse(&built, text));
    table_fixture_kill(&built, "flag-3");
    cr_assert_eq(flagshm_table_build(&built.table, built.entries, built.count, NULL), 0);
    cr_assert_eq(memcmp(by_hand.table.bytes, built.table.bytes, (size_t)built.table.geometry.bank_bytes), 0);
    table_fixture_free(&by_hand);
    table_fixture_free(&built);
    free(text);
}

/* ---- hashing, against another implementation ---- */

/* Salts of every length with ids of many, hashed by Python's hashlib. */
Test(table, digests_agree_with_hashlib_for_salts_of_every_length)
{
    static const char script[] =
        "python3 -c '\n"
        "import hashlib, random\n"
        "random.seed(1)\n"
        "letters = \"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-\"\n"
        "for bytes in range(1, 65):\n"
        "    for length in list(range(1, 12)) + [16, 36, 54, 55, 56, 63, 64, 65, 119, 120, 500]:\n"
        "        salt = \"\".join(random.choice(letters) for _ in range(bytes))\n"
        "        id = \"\".join(random.choice(letters) for _ in range(length))\n"
        "        print(salt, id, hashlib.md5((salt + \":\" + id).encode()).hexdigest())\n"
        "' 2>/dev/null";
    char salt[128], id[1024], hex[64];
    FILE *in = popen(script, "r");
    size_t lines = 0;

    while (in && fscanf(in, "%127s %1023s %63s", salt, id, hex) == 3) {
        struct flagshm_md5_prefix_ prefix;
        uint32_t words[4];
        char ours[33];

        flagshm_table_prefix(&prefix, salt, strlen(salt));
        flagshm_md5_id_(&prefix, (const unsigned char *)id, strlen(id), words);
        (void)snprintf(ours, sizeof ours, "%08x%08x%08x%08x", words[0], words[1], words[2], words[3]);
        cr_assert_str_eq(ours, hex, "%s:%s", salt, id);
        lines++;
    }
    if (in)
        (void)pclose(in);
    if (lines == 0)
        cr_skip_test("python3 is not there");
    cr_assert_eq(lines, 64 * 22);
}

static cJSON *vectors_read(void)
{
    char data[900], path[1024], *text;
    size_t bytes = 0;
    cJSON *all;

    (void)snprintf(path, sizeof path, "%s/vectors/md5_buckets.json", fixture_data(data, sizeof data));
    text = fixture_read(path, &bytes);
    cr_assert_not_null(text, "%s", path);
    all = cJSON_Parse(text);
    free(text);
    cr_assert_not_null(all);
    return all;
}

static const char *text_of(const cJSON *vector, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(vector, key)->valuestring;
}

static void check_digest(const cJSON *v)
{
    const char *flag = text_of(v, "flag"), *user = text_of(v, "user");
    struct flagshm_md5_prefix_ prefix;
    uint32_t words[4];
    char hex[33];

    flagshm_table_prefix(&prefix, flag, strlen(flag));
    flagshm_md5_id_(&prefix, (const unsigned char *)user, strlen(user), words);
    (void)snprintf(hex, sizeof hex, "%08x%08x%08x%08x", words[0], words[1], words[2], words[3]);
    cr_assert_str_eq(hex, text_of(v, "md5"));
    cr_assert_eq(flagshm_bucket_(words),
                 (uint32_t)cJSON_GetObjectItemCaseSensitive(v, "fine_bucket_100000")->valueint);
}

/* All vectors' flags at one share, published, and decided by a client. */
static void check_share(const cJSON *vectors, const char *pct)
{
    static struct flagshm_flag flags[64];
    static struct flagshm_arm arms[64][2];
    struct flagshm_table_entry entries[64];
    struct segment_fixture s;
    struct flagshm_segment segment;
    struct flagshm_table table;
    struct flagshm client;
    const cJSON *v;
    size_t count = 0, i;

    cJSON_ArrayForEach(v, vectors)
    {
        if (text_of(v, "flag")[0] == '\0') /* no name of a flag, and no id: hashed only */
            continue;
        for (i = 0; i < count && strcmp(flags[i].name, text_of(v, "flag")) != 0; i++)
            continue;
        if (i == count) {
            entries[count] =
                entry_of(&flags[count], arms[count], text_of(v, "flag"), (uint32_t)atoi(pct) * 1000);
            count++;
        }
    }
    segment_fixture_begin(&s, false);
    cr_assert_eq(flagshm_segment_open(&segment, &s.options, NULL), 0);
    cr_assert_eq(flagshm_table_build(&table, entries, count, NULL), 0);
    cr_assert_eq(flagshm_segment_publish(&segment, &table, 1, 1, NULL), 0);
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cJSON_ArrayForEach(v, vectors)
    {
        const cJSON *in = cJSON_GetObjectItemCaseSensitive(v, "in_at_pct");
        struct flagshm_decision d;

        if (text_of(v, "flag")[0] == '\0')
            continue;
        (void)flagshm_decide(&client, text_of(v, "flag"), text_of(v, "user"), &d);
        cr_assert_eq(d.arm != 0, cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(in, pct)), "%s:%s at %s",
                     text_of(v, "flag"), text_of(v, "user"), pct);
        if (d.reason == FLAGSHM_SPLIT)
            cr_assert_eq(d.bucket,
                         (uint32_t)cJSON_GetObjectItemCaseSensitive(v, "fine_bucket_100000")->valueint);
        else
            cr_assert_eq(d.reason, FLAGSHM_STATIC);
    }
    flagshm_close(&client);
    flagshm_table_free(&table);
    flagshm_segment_close(&segment);
    segment_fixture_end(&s);
}

Test(table, clients_decide_as_the_vectors_say)
{
    static const char *const shares[] = {"0", "1", "5", "10", "25", "50", "75", "99", "100"};
    cJSON *all = vectors_read();
    const cJSON *v;
    size_t i;

    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(all, "vectors")) check_digest(v);
    cr_assert_gt(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(all, "vectors")), 10);
    for (i = 0; i < sizeof shares / sizeof shares[0]; i++)
        check_share(cJSON_GetObjectItemCaseSensitive(all, "vectors"), shares[i]);
    cJSON_Delete(all);
}

/* ---- force ---- */

Test(table, forced_ids_get_their_arm_and_nobody_else)
{
    static const char text[] =
        "{\"flags\": {\"f\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 0,"
        "\"force\": {\"control\": [\"c1\", \"c2\"], \"variant\": [\"v1\", \"v2\", \"v3\", "
        "\"\xc3\xa9t\xc3\xa9\"]}}}}";
    static const char *const ids[] = {"c1", "c2", "v1", "v2", "v3", "\xc3\xa9t\xc3\xa9"};
    struct segment_fixture s;
    struct flagshm_segment segment;
    struct flagshm client;
    struct flagshm_decision d;
    struct table_fixture f;
    size_t i;

    compile(&f, text, NULL);
    for (i = 0; i + 2 <= f.table.heap_used; i++)
        cr_assert_neq(memcmp(heap_of(&f) + i, "v1", 2), 0, "ids do not stand in shared memory");
    table_fixture_free(&f);
    segment_fixture_begin(&s, false);
    cr_assert_eq(flagshm_segment_open(&segment, &s.options, NULL), 0);
    cr_assert_eq(segment_fixture_publish(&segment, text, NULL, NULL), 0);
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    for (i = 0; i < 6; i++) {
        cr_assert_eq(flagshm_decide(&client, "f", ids[i], &d), FLAGSHM_TARGETING_MATCH, "%s", ids[i]);
        cr_assert_eq(d.arm, i >= 2, "%s", ids[i]);
    }
    for (i = 0; i < 1000; i++) {
        char id[16];

        (void)snprintf(id, sizeof id, "w%zu", i);
        cr_assert_eq(flagshm_decide(&client, "f", id, &d), FLAGSHM_STATIC);
        cr_assert_eq(d.arm, 0);
    }
    flagshm_close(&client);
    flagshm_segment_close(&segment);
    segment_fixture_end(&s);
}
