/* The copy that tools look at: it says what was compiled, and survives any bytes. */
#include "server/snapshot.h"

#include "table_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>

static struct segment_fixture fix;
static struct flagshm_segment segment;
static struct flagshm client;
static struct flagshm_error error;
static struct flagshm_snapshot snapshot;

#define SALT_63 "salt-of-63-bytes-0123456789012345678901234567890123456789012345"
#define SALT_64 "salt-of-64-bytes-01234567890123456789012345678901234567890123456"
#define NAME_64 "name-of-64-bytes-01234567890123456789012345678901234567890123456"

static const char text[] =
    "{\"flags\": {"
    "\"summary\": {\"control\": \"haiku\", \"variants\": {\"big\": {\"value\": {\"model\": \"sonnet\", "
    "\"seed\": 9007199254740993}, \"weight\": 3}, \"other\": {\"value\": \"gpt\", \"weight\": 1}}, "
    "\"rollout_pct\": 12.5, \"identity\": \"org\", \"force\": {\"big\": [\"a\", \"b\"]}},"
    "\"killed-one\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50},"
    "\"salted\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50, \"salt\": \"s\"},"
    "\"salted-63\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50, \"salt\": \"" SALT_63 "\"},"
    "\"salted-64\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50, \"salt\": \"" SALT_64 "\"},"
    "\"" NAME_64 "\": {\"control\": {\"prompt\": \"none\"}, \"variant\": \"b\"}}}";

static void begin(void)
{
    segment_fixture_begin(&fix, false);
    cr_assert_eq(flagshm_segment_open(&segment, &fix.options, &error), 0, "%s", error.text);
    cr_assert_eq(segment_fixture_publish(&segment, text, "killed-one", &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_open(&client, NULL), 0);
}

static void end(void)
{
    flagshm_close(&client);
    flagshm_segment_close(&segment);
    segment_fixture_end(&fix);
}

Test(snapshot, says_what_was_compiled, .init = begin, .fini = end)
{
    const struct flagshm_snapshot_flag *flag;
    size_t i;

    cr_assert_eq(flagshm_snapshot_take(&snapshot, &client, &error), 0, "%s", error.text);
    cr_assert_eq(snapshot.count, 6);
    cr_assert_eq(snapshot.damaged, 0);
    cr_assert_eq(snapshot.version, 1);
    cr_assert_eq(snapshot.file_rev, 1);
    cr_assert_eq(snapshot.content_hash, flagshm_segment_content_hash(&segment));
    cr_assert_not(snapshot.is_all_control);
    cr_assert_not(snapshot.is_retired);
    cr_assert_geq(snapshot.age_ns, 0);
    cr_assert_lt(snapshot.age_ns, 10000000000);
    cr_assert_eq(snapshot.header.magic, FLAGSHM_TABLE_MAGIC);
    cr_assert_eq(snapshot.header.pid, (uint32_t)getpid());
    for (i = 1; i < snapshot.count; i++)
        cr_assert_lt(strcmp(snapshot.flags[i - 1].name, snapshot.flags[i].name), 0);

    flag = flagshm_snapshot_find(&snapshot, "summary");
    cr_assert_not_null(flag);
    cr_assert_str_eq(flag->stage, "static-12.5pct");
    cr_assert_str_eq(flag->salt, "summary");
    cr_assert_eq(flag->rollout_mpct, 12500);
    cr_assert_eq(flag->switches, FLAGSHM_SWITCH_HASH | FLAGSHM_SWITCH_ORG);
    cr_assert_eq(flag->force_count, 2);
    cr_assert_eq(flag->slot, FLAGSHM_NO_SLOT);
    cr_assert_eq(flag->changed_version, 1);
    cr_assert_eq(flag->arm_count, 3);
    cr_assert_str_eq(flag->arms[0].name, "control");
    cr_assert_str_eq(flag->arms[0].value, "haiku");
    cr_assert_eq(flag->arms[0].weight, 0);
    cr_assert_str_eq(flag->arms[1].name, "big");
    cr_assert_str_eq(flag->arms[1].model, "sonnet");
    cr_assert_str_eq(flag->arms[1].value, "{\"model\":\"sonnet\",\"seed\":9007199254740993}");
    cr_assert_eq(flag->arms[1].value_bytes, strlen(flag->arms[1].value));
    cr_assert_eq(flag->arms[1].weight, 3);
    cr_assert_eq(flag->arms[2].weight, 1);
    cr_assert_str_eq(flagshm_snapshot_find(&snapshot, "killed-one")->stage, "killed");
    cr_assert_null(flagshm_snapshot_find(&snapshot, "nobody"));
    flagshm_snapshot_free(&snapshot);
    cr_assert_eq(snapshot.count, 0);
    cr_assert_null(flagshm_snapshot_find(&snapshot, "summary"));
    flagshm_snapshot_free(&snapshot);
}

Test(snapshot, gives_back_salts_of_every_length, .init = begin, .fini = end)
{
    static const char *const cases[][2] = {{"salted", "s"},
                                           {"salted-63", SALT_63},
                                           {"salted-64", SALT_64},
                                           {"killed-one", "killed-one"},
                                           {NAME_64, NAME_64}};
    size_t i;

    cr_assert_eq(strlen(SALT_63), 63);
    cr_assert_eq(strlen(SALT_64), 64);
    cr_assert_eq(strlen(NAME_64), 64);
    cr_assert_eq(flagshm_snapshot_take(&snapshot, &client, &error), 0, "%s", error.text);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_str_eq(flagshm_snapshot_find(&snapshot, cases[i][0])->salt, cases[i][1]);
    flagshm_snapshot_free(&snapshot);
}

Test(snapshot, shows_switches_of_the_whole_table, .init = begin, .fini = end)
{
    flagshm_segment_set_all_control(&segment, true);
    cr_assert_eq(flagshm_snapshot_take(&snapshot, &client, &error), 0);
    cr_assert(snapshot.is_all_control);
    cr_assert_eq(snapshot.header.seq, segment.header->seq);
    flagshm_snapshot_free(&snapshot);
}

Test(snapshot, follows_a_table_that_was_replaced, .init = begin, .fini = end)
{
    char *many = table_fixture_text(500, "5");

    cr_assert_eq(segment_fixture_publish(&segment, many, NULL, &error), 0);
    cr_assert_eq(flagshm_snapshot_take(&snapshot, &client, &error), 0);
    cr_assert_eq(snapshot.count, 500);
    cr_assert_eq(snapshot.version, 2);
    cr_assert_not(snapshot.is_retired);
    flagshm_snapshot_free(&snapshot);
    free(many);
}

Test(snapshot, without_a_table_there_is_none)
{
    segment_fixture_begin(&fix, false);
    cr_assert_eq(flagshm_open(&client, NULL), -ENOENT);
    cr_assert_eq(flagshm_snapshot_take(&snapshot, &client, &error), -ENOENT);
    cr_assert(strstr(error.text, fix.path) && strstr(error.text, "no table"), "%s", error.text);
    flagshm_snapshot_free(&snapshot);
    flagshm_close(&client);
    segment_fixture_end(&fix);
}

Test(snapshot, empty_table_is_a_snapshot_of_nothing, .init = begin, .fini = end)
{
    cr_assert_eq(segment_fixture_publish(&segment, "{\"flags\": {}}", NULL, &error), 0);
    cr_assert_eq(flagshm_snapshot_take(&snapshot, &client, &error), 0);
    cr_assert_eq(snapshot.count, 0);
    cr_assert_null(flagshm_snapshot_find(&snapshot, "summary"));
    flagshm_snapshot_free(&snapshot);
}

/* ---- hostile bytes ---- */

static struct flagshm_flag_entry *served_record(const char *name)
{
    struct flagshm_table served = {.bytes = (unsigned char *)segment.header +
                                            segment.geometry.bank_offset[segment.header->seq & 1],
                                   .geometry = segment.geometry,
                                   .flag_count = 6};

    return flagshm_table_find(&served, flagshm_hash64_(name, strlen(name), 0));
}

Test(snapshot, record_that_makes_no_sense_is_left_out_and_counted, .init = begin, .fini = end)
{
    static const struct {
        size_t offset, bytes;
        uint64_t value;
    } cases[] = {
        {offsetof(struct flagshm_flag_entry, name_hash), 8, 1},
        {offsetof(struct flagshm_flag_entry, name_bytes), 2, 0},
        {offsetof(struct flagshm_flag_entry, name_bytes), 2, 65535},
        {offsetof(struct flagshm_flag_entry, arm_count), 2, 1},
        {offsetof(struct flagshm_flag_entry, arm_count), 2, 9},
        {offsetof(struct flagshm_flag_entry, rollout_mpct), 4, 100001},
        {offsetof(struct flagshm_flag_entry, shadow_mpct), 4, UINT32_MAX},
        {offsetof(struct flagshm_flag_entry, name_offset), 4, UINT32_MAX - 7},
        {offsetof(struct flagshm_flag_entry, name_offset), 4, 3},
        {offsetof(struct flagshm_flag_entry, prefix_bytes), 4, 0},
        {offsetof(struct flagshm_flag_entry, prefix_bytes), 4, 1},
        {offsetof(struct flagshm_flag_entry, prefix_bytes), 4, 5},
        {offsetof(struct flagshm_flag_entry, prefix_bytes), 4, 66},
        {offsetof(struct flagshm_flag_entry, prefix_bytes), 4, UINT32_MAX},
        {offsetof(struct flagshm_flag_entry, arms_offset), 4, UINT32_MAX - 7},
        {offsetof(struct flagshm_flag_entry, arms_offset), 4, 0},
        {offsetof(struct flagshm_flag_entry, force_offset), 4, 4},
        {offsetof(struct flagshm_flag_entry, force_count), 4, UINT32_MAX},
    };
    struct flagshm_flag_entry *record = served_record("summary"), sound = *record;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy((unsigned char *)record + cases[i].offset, &cases[i].value, cases[i].bytes);
        cr_assert_eq(flagshm_snapshot_take(&snapshot, &client, &error), 0);
        cr_assert_eq(snapshot.count, 5, "case %zu", i);
        cr_assert_eq(snapshot.damaged, 1, "case %zu", i);
        cr_assert_null(flagshm_snapshot_find(&snapshot, "summary"));
        flagshm_snapshot_free(&snapshot);
        *record = sound;
    }
}

/* Thousands of tables with wrong bytes: the sanitizers look on, and whatever is shown is a text. */
Test(snapshot, any_bytes_give_texts_that_end, .init = begin, .fini = end)
{
    unsigned char *bank =
        (unsigned char *)segment.header + segment.geometry.bank_offset[segment.header->seq & 1];
    size_t bytes = (size_t)segment.geometry.heap_offset + 2048, i, round, left_out = 0;
    unsigned char *sound = malloc(bytes);
    uint64_t random = 88172645463325252u;

    memcpy(sound, bank, bytes);
    for (round = 0; round < 3000; round++) {
        for (i = 0; i < 1 + round % 40; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bank[(random >> 16) % bytes] = (unsigned char)(round % 3 ? random : round % 2 ? 0 : 255);
        }
        if (flagshm_snapshot_take(&snapshot, &client, &error) == 0) {
            size_t length = 0, f, a;

            for (f = 0; f < snapshot.count; f++) {
                const struct flagshm_snapshot_flag *flag = &snapshot.flags[f];

                length += strlen(flag->name) + strlen(flag->stage) + strlen(flag->salt);
                for (a = 0; a < flag->arm_count; a++)
                    length += strlen(flag->arms[a].name) + strlen(flag->arms[a].model) +
                              strlen(flag->arms[a].value);
            }
            cr_assert_lt(length, 1000000);
            left_out += snapshot.damaged;
        }
        flagshm_snapshot_free(&snapshot);
        memcpy(bank, sound, bytes);
    }
    cr_assert_gt(left_out, 100, "the bytes did hit something");
    free(sound);
}
