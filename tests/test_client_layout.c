/* A table of the same major with a higher minor: longer records, arms and header, with words behind ours that we do not know. Today's
 * header must read it as if they were not there; a release that adds a field relies on that. */
#include "image_fixture.h"
#include "server/snapshot.h"
#include "table_fixture.h"

#include <criterion/criterion.h>

#define HEADER_MORE 4096u /* bytes that the newer layout has more, in each place */
#define BANK_MORE   64u
#define RECORD_MORE 72u
#define ARM_MORE    24u
#define NOISE       0xA5

#define FLAGS                                                                                                \
    "{\"flags\": {"                                                                                          \
    "\"split\": {\"control\": \"old\", \"variant\": {\"model\": \"new\", \"temperature\": 0.2}, "            \
    "\"rollout_pct\": 50},"                                                                                  \
    "\"many\": {\"control\": \"old\", \"variants\": {\"a\": {\"value\": \"ma\"}, \"b\": {\"value\": "        \
    "\"mb\", \"weight\": 3},"                                                                                \
    " \"c\": {\"value\": {\"model\": \"mc\", \"prompt\": \"%0300d\"}}}, \"rollout_pct\": 90.5, \"force\": "  \
    "{\"b\": [\"user-3\"]}},"                                                                                \
    "\"all\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": 100, \"salt\": "                 \
    "\"a-salt-of-its-own\"},"                                                                                \
    "\"none\": {\"control\": {\"model\": \"old\", \"prompt\": \"%0400d\"}, \"variant\": \"new\"},"           \
    "\"off\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": 100, \"enabled\": false}}}"
static const char *const names[] = {"split", "many", "all", "none", "off", "nobody"};

struct side { /* one of the two tables */
    unsigned char *image;
    size_t bytes;
    struct flagshm fs;
    struct flagshm_map_ map;
};

static void copy_bank(unsigned char *to, const unsigned char *from, const struct flagshm_header *was,
                      const struct flagshm_header *is)
{
    const struct flagshm_bank *bank = (const struct flagshm_bank *)(const void *)from;
    uint64_t end = was->heap_bytes; /* the arms' place in the wider heap: behind all else */
    uint32_t i, arm;

    memcpy(to, from, sizeof *bank);
    memcpy(to + is->index_offset, from + was->index_offset, (size_t)was->index_slots * 8);
    memcpy(to + is->heap_offset, from + was->heap_offset, (size_t)was->heap_bytes);
    for (i = 0; i < bank->flag_count; i++) {
        const unsigned char *record = from + was->records_offset + (size_t)i * was->record_stride;
        unsigned char *wider = to + is->records_offset + (size_t)i * is->record_stride;
        struct flagshm_flag_entry entry;

        memcpy(&entry, record, sizeof entry);
        for (arm = 0; arm < entry.arm_count; arm++)
            memcpy(to + is->heap_offset + end + (size_t)arm * is->arm_stride,
                   from + was->heap_offset + entry.arms_offset + (size_t)arm * was->arm_stride,
                   sizeof(struct flagshm_arm_entry));
        entry.arms_offset = (uint32_t)end;
        end += (uint64_t)entry.arm_count * is->arm_stride;
        memcpy(wider, &entry, sizeof entry);
    }
    cr_assert_leq(end, is->heap_bytes);
    ((struct flagshm_bank *)(void *)to)->heap_used = end;
}

/* The same table as a newer release would lay it out. */
static void widen(const struct side *narrow, struct side *wide)
{
    const struct flagshm_header *was = (const struct flagshm_header *)(const void *)narrow->image;
    struct flagshm_header is = *was;
    int i;

    is.layout_minor = FLAGSHM_LAYOUT_MINOR + 1;
    is.header_bytes += HEADER_MORE;
    is.record_stride += RECORD_MORE;
    is.arm_stride += ARM_MORE;
    is.index_offset = sizeof(struct flagshm_bank) + BANK_MORE;
    is.records_offset = is.index_offset + (uint64_t)is.index_slots * 8;
    is.heap_offset = is.records_offset + (uint64_t)is.record_capacity * is.record_stride;
    is.heap_bytes += 65536;
    is.bank_bytes = is.heap_offset + is.heap_bytes;
    is.bank_offset[0] = is.header_bytes;
    is.bank_offset[1] = is.bank_offset[0] + is.bank_bytes;
    is.segment_bytes = is.bank_offset[1] + is.bank_bytes;
    memset(is.reserved_header, NOISE, sizeof is.reserved_header);
    memset(is.reserved_geometry, NOISE, sizeof is.reserved_geometry);
    memset(is.reserved_publish, NOISE, sizeof is.reserved_publish);
    memset(is.reserved_liveness, NOISE, sizeof is.reserved_liveness);
    wide->bytes = (size_t)is.segment_bytes;
    wide->image = malloc(wide->bytes);
    cr_assert_not_null(wide->image);
    memset(wide->image, NOISE, wide->bytes);
    memcpy(wide->image, &is, sizeof is);
    for (i = 0; i < 2; i++)
        copy_bank(wide->image + is.bank_offset[i], narrow->image + was->bank_offset[0], was, &is);
}

static void both_make(struct table_fixture *f, struct side *narrow, struct side *wide)
{
    char text[2048];

    (void)snprintf(text, sizeof text, FLAGS, 0, 0);
    cr_assert(table_fixture_parse(f, text));
    cr_assert_eq(flagshm_table_build(&f->table, f->entries, f->count, NULL), 0);
    narrow->image = image_make(&f->table, 7, &narrow->bytes);
    cr_assert_not_null(narrow->image);
    widen(narrow, wide);
    cr_assert_eq(image_attach(&narrow->fs, &narrow->map, narrow->image, narrow->bytes), 0);
    cr_assert_eq(image_attach(&wide->fs, &wide->map, wide->image, wide->bytes), 0);
}

static void both_free(struct table_fixture *f, struct side *narrow, struct side *wide)
{
    free(narrow->image);
    free(wide->image);
    table_fixture_free(f);
}

static void both_decide(struct side *narrow, struct side *wide, const char *flag, const char *id)
{
    static char value[2048], other[2048];
    struct flagshm_decision d = {0}, e = {0}, by_ref = {0};
    struct flagshm_ref ref;

    (void)flagshm_decide(&narrow->fs, flag, id, &d);
    (void)flagshm_decide(&wide->fs, flag, id, &e);
    (void)flagshm_resolve(&wide->fs, flag, &ref);
    (void)flagshm_decide_ref(&wide->fs, &ref, id, &by_ref);
    cr_expect_eq(d.arm, e.arm, "%s/%s: arm %u, %u", flag, id, d.arm, e.arm);
    cr_expect_eq(d.reason, e.reason);
    cr_expect_eq(d.bucket, e.bucket);
    cr_expect_eq(d.rollout_mpct, e.rollout_mpct);
    cr_expect_eq(d.version, e.version);
    cr_expect_eq(d.value_hash, e.value_hash);
    cr_expect_str_eq(d.arm_name, e.arm_name);
    cr_expect_str_eq(d.model, e.model);
    cr_expect_str_eq(d.stage, e.stage);
    cr_expect_str_eq(d.value, e.value);
    cr_expect_eq(by_ref.arm, e.arm);
    cr_expect_str_eq(by_ref.model, e.model);
    cr_expect_eq(flagshm_value(&narrow->fs, &d, value, sizeof value),
                 flagshm_value(&wide->fs, &e, other, sizeof other));
    cr_expect_str_eq(value, other);
    cr_expect_eq(flagshm_rollout_pct(&narrow->fs, flag), flagshm_rollout_pct(&wide->fs, flag));
}

Test(client_layout, decisions_of_a_wider_table_are_those_of_today)
{
    struct table_fixture f;
    struct side narrow, wide;
    char id[32];
    size_t i;
    int user;

    both_make(&f, &narrow, &wide);
    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        for (user = 0; user < 200; user++) {
            (void)snprintf(id, sizeof id, "user-%d", user);
            both_decide(&narrow, &wide, names[i], id);
        }
    both_decide(&narrow, &wide, "split", "");
    cr_expect_eq(flagshm_version(&wide.fs), 7);
    both_free(&f, &narrow, &wide);
}

Test(client_layout, tools_see_in_a_wider_table_what_they_see_today)
{
    const struct flagshm_snapshot_flag *one, *other;
    struct flagshm_snapshot now, later;
    struct flagshm_error error = {""};
    struct table_fixture f;
    struct side narrow, wide;
    size_t i, arm;

    both_make(&f, &narrow, &wide);
    cr_assert_eq(flagshm_snapshot_take(&now, &narrow.fs, &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_snapshot_take(&later, &wide.fs, &error), 0, "%s", error.text);
    cr_assert_eq(now.count, 5);
    cr_assert_eq(later.count, 5, "%zu records were left out", later.damaged);
    for (i = 0; i < now.count; i++) {
        one = &now.flags[i];
        other = &later.flags[i];
        cr_expect_str_eq(one->name, other->name);
        cr_expect_str_eq(one->salt, other->salt);
        cr_expect_str_eq(one->stage, other->stage);
        cr_expect_eq(one->force_count, other->force_count);
        cr_assert_eq(one->arm_count, other->arm_count);
        for (arm = 0; arm < one->arm_count; arm++) {
            cr_expect_str_eq(one->arms[arm].name, other->arms[arm].name);
            cr_expect_str_eq(one->arms[arm].value, other->arms[arm].value);
            cr_expect_eq(one->arms[arm].weight, other->arms[arm].weight);
        }
    }
    flagshm_snapshot_free(&now);
    flagshm_snapshot_free(&later);
    both_free(&f, &narrow, &wide);
}
