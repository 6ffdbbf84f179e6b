/* Decisions: every reason, their order, every field, values, references. On images in plain memory, whose words the tests set as they
 * like; attaching and waiting: test_client_attach.c. */
#include "image_fixture.h"
#include "table_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>

#define OLD_NS (INT64_C(3601) * 1000000000)

struct world {
    struct table_fixture fixture;
    unsigned char *image;
    struct flagshm_header *header;
    struct flagshm fs;
    struct flagshm_map_ map;
};

static struct world w;
static struct flagshm_decision d;

static void open_text(const char *text)
{
    size_t bytes;

    cr_assert(table_fixture_parse(&w.fixture, text));
    cr_assert_eq(flagshm_table_build(&w.fixture.table, w.fixture.entries, w.fixture.count, NULL), 0);
    w.image = image_make(&w.fixture.table, 7, &bytes);
    cr_assert_not_null(w.image);
    w.header = (struct flagshm_header *)(void *)w.image;
    cr_assert_eq(image_attach(&w.fs, &w.map, w.image, bytes), 0);
}

static void close_text(void)
{
    free(w.image);
    table_fixture_free(&w.fixture);
}

static struct flagshm_flag_entry *record_of(const char *flag)
{
    const unsigned char *r = flagshm_find_(&w.map, w.map.bank[w.header->seq & 1],
                                           flagshm_hash64_(flag, strlen(flag), 0), flag, strlen(flag));

    cr_assert_not_null(r, "%s is not in the table", flag);
    return (struct flagshm_flag_entry *)(uintptr_t)r;
}

static const char *reason_of(const char *flag, const char *id)
{
    return flagshm_reason_name(flagshm_decide(&w.fs, flag, id, &d));
}

#define FLAGS                                                                                                \
    "{\"flags\": {\"f\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": 50,"                  \
    " \"force\": {\"variant\": [\"forced\"], \"control\": [\"kept\"]}},"                                     \
    " \"none\": {\"control\": \"old\", \"variant\": \"new\"},"                                               \
    " \"all\": {\"control\": \"old\", \"variant\": {\"model\": \"new\", \"n\": 1}, \"rollout_pct\": 100}}}"

/* ---- the order of the reasons ---- */

enum condition {
    ALL_CONTROL,
    KILLED,
    DISABLED,
    ROLLED_BACK,
    STALE,
    FORCED,
    MISSING,
    TOO_LONG,
    STATIC,
    CONDITIONS
};

static const struct {
    const char *name;
    enum flagshm_reason reason;
    uint32_t arm;
} conditions[CONDITIONS] = {
    [ALL_CONTROL] = {"all control", FLAGSHM_DISABLED, 0},
    [KILLED] = {"killed", FLAGSHM_DISABLED, 0},
    [DISABLED] = {"disabled", FLAGSHM_DISABLED, 0},
    [ROLLED_BACK] = {"rolled back", FLAGSHM_DISABLED, 0},
    [STALE] = {"stale", FLAGSHM_STALE, 0},
    [FORCED] = {"forced", FLAGSHM_TARGETING_MATCH, 1},
    [MISSING] = {"missing id", FLAGSHM_TARGETING_KEY_MISSING, 0},
    [TOO_LONG] = {"id too long", FLAGSHM_GENERAL, 0},
    [STATIC] = {"static", FLAGSHM_STATIC, 1},
};

static char too_long[FLAGSHM_ID_MAX + 2];

/* Brings the condition about; returns the id to ask for. */
static const char *bring_about(enum condition condition, const char *id)
{
    struct flagshm_flag_entry *r = record_of("f");

    switch (condition) {
    case ALL_CONTROL:
        w.header->seq |= FLAGSHM_SEQ_ALL_CONTROL;
        return id;
    case KILLED:
        r->switches |= FLAGSHM_SWITCH_KILLED;
        return id;
    case DISABLED:
        r->switches |= FLAGSHM_SWITCH_DISABLED;
        return id;
    case ROLLED_BACK:
        r->switches |= FLAGSHM_SWITCH_ROLLED_BACK;
        return id;
    case STALE:
        r->switches |= FLAGSHM_SWITCH_STALE_CONTROL;
        w.header->heartbeat_mono_ns -= (uint64_t)OLD_NS;
        return id;
    case FORCED:
        return "forced";
    case MISSING:
        return "";
    case TOO_LONG:
        memset(too_long, 'x', FLAGSHM_ID_MAX + 1);
        return too_long;
    case STATIC:
        r->switches &= ~FLAGSHM_SWITCH_HASH;
        r->rollout_mpct = 100000;
        return id;
    default:
        return id;
    }
}

Test(client, each_reason_comes_before_the_next)
{
    int first, second;

    for (first = 0; first < CONDITIONS; first++)
        for (second = first; second < CONDITIONS; second++) {
            const char *id;

            if (second != first && first >= FORCED && second <= TOO_LONG)
                continue; /* one id cannot be two of them */
            open_text(FLAGS);
            id = bring_about((enum condition)second, "somebody");
            id = bring_about((enum condition)first, id);
            cr_expect_eq(flagshm_decide(&w.fs, "f", id, &d), conditions[first].reason, "%s and %s: %s",
                         conditions[first].name, conditions[second].name, flagshm_reason_name(d.reason));
            cr_expect_eq(d.arm, conditions[first].arm, "%s and %s", conditions[first].name,
                         conditions[second].name);
            if (conditions[first].reason == FLAGSHM_DISABLED || conditions[first].reason == FLAGSHM_STALE) {
                cr_expect_eq(d.rollout_mpct, 0);
                cr_expect_eq(flagshm_rollout_pct(&w.fs, "f"), 0.0, "%s and %s", conditions[first].name,
                             conditions[second].name);
                cr_expect_str_eq(d.model, "old");
                cr_expect_str_eq(d.arm_name, "control");
            }
            if (first == ALL_CONTROL)
                cr_expect_str_eq(d.stage, "killed");
            close_text();
        }
}

Test(client, without_any_of_them_the_bucket_decides)
{
    uint32_t arms[2] = {0, 0}, n;

    open_text(FLAGS);
    for (n = 0; n < 1000; n++) {
        char id[16];

        (void)snprintf(id, sizeof id, "u%u", n);
        cr_assert_eq(flagshm_decide(&w.fs, "f", id, &d), FLAGSHM_SPLIT);
        cr_assert_eq(d.arm, d.bucket < 50000);
        cr_assert_str_eq(d.model, d.arm ? "new" : "old");
        cr_assert_str_eq(d.arm_name, d.arm ? "variant" : "control");
        cr_assert_eq(flagshm_in_variant(&w.fs, "f", id), d.arm == 1);
        arms[d.arm]++;
    }
    cr_expect(arms[0] > 400 && arms[1] > 400);
    close_text();
}

/* ---- every field ---- */

static bool is_same(const struct flagshm_decision *a, const struct flagshm_decision *b)
{
    return a->version == b->version && a->segment_id == b->segment_id && a->flag_hash == b->flag_hash &&
           a->id_hash == b->id_hash && a->value_hash == b->value_hash && a->arm == b->arm &&
           a->bucket == b->bucket && a->rollout_mpct == b->rollout_mpct && a->reason == b->reason &&
           a->slot == b->slot && a->slot_generation == b->slot_generation &&
           a->value_bytes == b->value_bytes && a->shadow == b->shadow &&
           strcmp(a->arm_name, b->arm_name) == 0 && strcmp(a->model, b->model) == 0 &&
           strcmp(a->shadow_model, b->shadow_model) == 0 && strcmp(a->stage, b->stage) == 0 &&
           strcmp(a->value, b->value) == 0;
}

/* A field that is not filled in keeps what stood there before: two different things. */
static void expect_all_filled(const char *flag, const char *id, const char *what)
{
    struct flagshm_decision zeros, ones;
    struct flagshm_ref ref;

    memset(&zeros, 0, sizeof zeros);
    memset(&ones, 0x5a, sizeof ones);
    (void)flagshm_decide(&w.fs, flag, id, &zeros);
    (void)flagshm_decide(&w.fs, flag, id, &ones);
    cr_expect(is_same(&zeros, &ones), "%s: a field is not filled in", what);
    memset(&ones, 0xa5, sizeof ones);
    (void)flagshm_resolve(&w.fs, flag, &ref);
    (void)flagshm_decide_ref(&w.fs, &ref, id, &ones);
    cr_expect(is_same(&zeros, &ones), "%s: a reference says otherwise", what);
    cr_expect_eq(zeros.flag_hash, flagshm_hash64_(flag, strlen(flag), 0), "%s", what);
    cr_expect_eq(zeros.id_hash, id != NULL && id[0] ? flagshm_hash64_(id, strlen(id), 1) : 0, "%s", what);
    if (w.fs.map_) {
        cr_expect_eq(zeros.version, 7, "%s", what);
        cr_expect_eq(zeros.segment_id, UINT64_C(0x1234567890abcdef), "%s", what);
    }
    if (zeros.reason >= FLAGSHM_FLAG_NOT_FOUND) {
        cr_expect_eq(zeros.arm, 0, "%s", what);
        cr_expect_str_empty(zeros.model, "%s", what);
        cr_expect_str_eq(zeros.arm_name, "control", "%s", what);
        cr_expect_eq(zeros.value_bytes, 0, "%s", what);
        cr_expect_str_eq(flagshm_model(&w.fs, flag, id, "fallback", &ones), "fallback", "%s", what);
    }
}

Test(client, every_field_is_filled_whatever_the_reason)
{
    int condition;

    for (condition = 0; condition < CONDITIONS; condition++) {
        open_text(FLAGS);
        expect_all_filled("f", bring_about((enum condition)condition, "somebody"),
                          conditions[condition].name);
        close_text();
    }
    open_text(FLAGS);
    expect_all_filled("f", "somebody", "split");
    expect_all_filled("f", NULL, "NULL id");
    expect_all_filled("none", "somebody", "0 %");
    expect_all_filled("all", "somebody", "100 %");
    expect_all_filled("unknown", "somebody", "unknown flag");
    record_of("f")->arm_count = 1;
    expect_all_filled("f", "somebody", "damaged record");
    w.fs.map_ = NULL;
    expect_all_filled("f", "somebody", "no table");
    close_text();
}

Test(client, answers_of_each_kind)
{
    open_text(FLAGS);
    cr_expect_str_eq(reason_of("none", "u"), "STATIC");
    cr_expect(d.arm == 0 && d.bucket == FLAGSHM_NO_BUCKET && d.rollout_mpct == 0 &&
              d.slot == FLAGSHM_NO_SLOT);
    cr_expect_str_eq(d.stage, "static-0pct");
    cr_expect_str_eq(reason_of("all", "u"), "STATIC");
    cr_expect(d.arm == 1 && d.bucket == FLAGSHM_NO_BUCKET && d.rollout_mpct == 100000);
    cr_expect_str_eq(d.model, "new");
    cr_expect_str_eq(d.value, "{\"model\":\"new\",\"n\":1}");
    cr_expect_eq(d.value_bytes, strlen(d.value));
    cr_expect_str_eq(reason_of("f", "forced"), "TARGETING_MATCH");
    cr_expect(d.arm == 1 && d.bucket < 100000 && d.slot == FLAGSHM_NO_SLOT);
    cr_expect_str_eq(reason_of("f", "kept"), "TARGETING_MATCH");
    cr_expect_eq(d.arm, 0);
    cr_expect_str_eq(reason_of("f", NULL), "TARGETING_KEY_MISSING");
    cr_expect_eq(d.rollout_mpct, 50000);
    cr_expect_str_eq(d.stage, "static-50pct");
    cr_expect_str_eq(reason_of("g", "u"), "FLAG_NOT_FOUND");
    cr_expect_str_eq(reason_of(NULL, "u"), "FLAG_NOT_FOUND");
    cr_expect_str_eq(reason_of("", "u"), "FLAG_NOT_FOUND");
    memset(too_long, 'f', 65);
    too_long[65] = '\0';
    cr_expect_str_eq(reason_of(too_long, "u"), "FLAG_NOT_FOUND");
    cr_expect_eq(flagshm_rollout_pct(&w.fs, "f"), 50.0);
    cr_expect_eq(flagshm_rollout_pct(&w.fs, "all"), 100.0);
    cr_expect_eq(flagshm_rollout_pct(&w.fs, "none"), 0.0);
    cr_expect_eq(flagshm_rollout_pct(&w.fs, "g"), -1.0);
    cr_expect_eq(flagshm_rollout_pct(&w.fs, NULL), -1.0);
    cr_expect_str_eq(flagshm_model(&w.fs, "all", "u", "fallback", &d), "new");
    cr_expect_str_eq(flagshm_model(&w.fs, "all", "u", "fallback", NULL), "fallback");
    cr_expect_str_eq(flagshm_reason_name((enum flagshm_reason)6), "UNKNOWN");
    close_text();
}

Test(client, id_of_4096_bytes_is_the_longest)
{
    open_text(FLAGS);
    memset(too_long, 'x', FLAGSHM_ID_MAX + 1);
    cr_expect_str_eq(reason_of("f", too_long), "GENERAL");
    cr_expect_eq(d.arm, 0);
    too_long[FLAGSHM_ID_MAX] = '\0';
    cr_expect_str_eq(reason_of("f", too_long), "SPLIT");
    close_text();
}

Test(client, forced_ids_win_at_no_share_and_at_every_share)
{
    open_text("{\"flags\": {\"f\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 0, \"force\": "
              "{\"variant\": [\"a\", \"b\", \"c\"]}}, \"g\": {\"control\": \"c\", \"variant\": \"v\", "
              "\"rollout_pct\": 100, \"force\": {\"control\": [\"a\"]}}}}");
    cr_expect_str_eq(reason_of("f", "b"), "TARGETING_MATCH");
    cr_expect_eq(d.arm, 1);
    cr_expect_str_eq(reason_of("f", "d"), "STATIC");
    cr_expect(d.arm == 0 && d.bucket == FLAGSHM_NO_BUCKET);
    cr_expect_str_eq(reason_of("g", "a"), "TARGETING_MATCH");
    cr_expect_eq(d.arm, 0);
    cr_expect_str_eq(reason_of("g", "d"), "STATIC");
    cr_expect(d.arm == 1 && d.bucket == FLAGSHM_NO_BUCKET);
    close_text();
}

Test(client, weights_split_the_users_who_are_in_and_ramping_moves_nobody)
{
    static const char *const shares[] = {"20", "60", "100"};
    uint32_t seen[3][2000], counts[4] = {0}, n;
    size_t i;

    for (i = 0; i < 3; i++) {
        char text[512];

        (void)snprintf(
            text, sizeof text,
            "{\"flags\": {\"f\": {\"control\": \"c\", \"rollout_pct\": %s, \"variants\": {"
            "\"x\": {\"value\": \"mx\", \"weight\": 1}, \"y\": {\"value\": \"my\", \"weight\": 3}, "
            "\"z\": {\"value\": \"mz\", \"weight\": 6}}}}}",
            shares[i]);
        open_text(text);
        for (n = 0; n < 2000; n++) {
            char id[16];

            (void)snprintf(id, sizeof id, "u%u", n);
            cr_assert_str_eq(reason_of("f", id), "SPLIT");
            cr_assert_eq(d.arm != 0, d.bucket < d.rollout_mpct);
            seen[i][n] = d.arm;
            if (i > 0 && seen[i - 1][n] != 0)
                cr_assert_eq(d.arm, seen[i - 1][n], "%s moved when the share rose", id);
            if (i == 2)
                counts[d.arm]++;
        }
        close_text();
    }
    cr_expect(counts[0] == 0 && counts[1] > 140 && counts[1] < 260 && counts[2] > 520 && counts[2] < 680 &&
                  counts[3] > 1110 && counts[3] < 1290,
              "%u %u %u", counts[1], counts[2], counts[3]);
}

Test(client, shadow_and_slot_are_told)
{
    struct flagshm_flag_entry *r;
    uint32_t shadows = 0, n;

    open_text(FLAGS);
    r = record_of("f");
    r->shadow_mpct = 75000;
    r->slot = 3;
    r->slot_generation = 9;
    for (n = 0; n < 400; n++) {
        char id[16];

        (void)snprintf(id, sizeof id, "u%u", n);
        cr_assert_str_eq(reason_of("f", id), "SPLIT");
        cr_assert(d.slot == 3 && d.slot_generation == 9);
        cr_assert_eq(d.shadow, d.arm == 0 && d.bucket < 75000);
        cr_assert_str_eq(d.shadow_model, d.shadow ? "new" : "");
        shadows += d.shadow;
    }
    cr_expect(shadows > 50 && shadows < 150);
    cr_expect_str_eq(reason_of("f", "forced"), "TARGETING_MATCH");
    cr_expect(d.slot == FLAGSHM_NO_SLOT && d.slot_generation == 0 && !d.shadow);
    close_text();
}

/* ---- values ---- */

static char *long_flag(const char *first, const char *second)
{
    char *text = malloc(200000);

    cr_assert_not_null(text);
    (void)snprintf(text, 200000,
                   "{\"flags\": {\"f\": {\"control\": \"c\", \"rollout_pct\": 100, \"variants\": {"
                   "\"a\": {\"value\": {\"model\": \"ma\", \"prompt\": \"%s\"}, \"weight\": 1}, "
                   "\"b\": {\"value\": {\"model\": \"mb\", \"prompt\": \"%s\"}, \"weight\": 1}}}}}",
                   first, second);
    return text;
}

/* The image anew, for a handle that goes on. */
static void replace_text(const char *text)
{
    close_text();
    open_text(text);
}

Test(client, long_value_is_read_whole_and_says_when_it_is_gone)
{
    static char buf[70000], prompt[65001], other[65001];
    struct flagshm_decision kept;
    char *text;
    size_t bytes;

    memset(prompt, 'p', 65000);
    memset(other, 'q', 400);
    text = long_flag(prompt, other);
    open_text(text);
    do
        (void)snprintf(buf, 16, "u%u", (unsigned)(rand() % 1000)), (void)reason_of("f", buf);
    while (d.arm != 1);
    kept = d;
    bytes = strlen("{\"model\":\"ma\",\"prompt\":\"\"}") + 65000;
    cr_assert_eq(kept.value_bytes, bytes);
    cr_expect_str_empty(kept.value);
    cr_expect_str_eq(kept.model, "ma");
    cr_expect_eq(flagshm_value(&w.fs, &kept, NULL, 0), (int64_t)bytes);
    memset(buf, '!', sizeof buf);
    cr_expect_eq(flagshm_value(&w.fs, &kept, buf, bytes), (int64_t)bytes);
    cr_expect_eq(buf[0], '!', "a value was copied into a buffer that is one too small");
    cr_expect_eq(flagshm_value(&w.fs, &kept, buf, bytes + 1), (int64_t)bytes);
    cr_expect_eq(strlen(buf), bytes);
    cr_expect_eq(buf[bytes + 1], '!', "a byte beyond the NUL was written");
    cr_expect_eq(flagshm_hash64_(buf, bytes, 0), kept.value_hash);
    free(text);
    /* the arms have changed places: the value is still there */
    text = malloc(200000);
    cr_assert_not_null(text);
    (void)snprintf(text, 200000,
                   "{\"flags\": {\"f\": {\"control\": \"c\", \"rollout_pct\": 100, \"variants\": {"
                   "\"new\": {\"value\": \"x\", \"weight\": 1}, "
                   "\"a\": {\"value\": {\"model\": \"ma\", \"prompt\": \"%s\"}, \"weight\": 1}}}}}",
                   prompt);
    replace_text(text);
    cr_expect_eq(flagshm_value(&w.fs, &kept, buf, sizeof buf), (int64_t)bytes);
    free(text);
    /* one byte of it is another: it is gone */
    prompt[64999] = 'r';
    text = long_flag(prompt, other);
    replace_text(text);
    cr_expect_eq(flagshm_value(&w.fs, &kept, buf, sizeof buf), -ESTALE);
    cr_expect_eq(flagshm_value(&w.fs, &kept, NULL, 0), -ESTALE);
    free(text);
    replace_text("{\"flags\": {}}");
    cr_expect_eq(flagshm_value(&w.fs, &kept, buf, sizeof buf), -ESTALE);
    w.fs.map_ = NULL;
    cr_expect_eq(flagshm_value(&w.fs, &kept, buf, sizeof buf), -ESTALE);
    close_text();
}

Test(client, short_value_travels_in_the_decision)
{
    size_t bytes;

    for (bytes = 0; bytes <= 300; bytes++) {
        char text[600], value[301], buf[301];
        struct flagshm_decision kept;

        memset(value, 'v', bytes);
        value[bytes] = '\0';
        (void)snprintf(text, sizeof text,
                       "{\"flags\": {\"f\": {\"control\": \"c\", \"variant\": {\"p\": \"%s\"}, "
                       "\"rollout_pct\": 100}}}",
                       value);
        open_text(text);
        cr_assert_str_eq(reason_of("f", "u"), "STATIC");
        kept = d;
        cr_assert_eq(kept.value_bytes, bytes + 8);
        cr_assert_eq(strlen(kept.value), bytes + 8 < 256 ? bytes + 8 : 0);
        cr_assert_str_empty(kept.model, "a value that names no model");
        if (bytes + 8 < sizeof buf)
            cr_assert_eq(flagshm_value(&w.fs, &kept, buf, sizeof buf), (int64_t)bytes + 8);
        w.fs.map_ = NULL; /* nothing to read from any more */
        cr_assert_eq(flagshm_value(&w.fs, &kept, NULL, 0), bytes + 8 < 256 ? (int64_t)bytes + 8 : -ESTALE);
        close_text();
    }
}

/* ---- damage ---- */

Test(client, damaged_record_gives_control)
{
    static const struct {
        const char *what;
        size_t offset, bytes;
        uint32_t value;
    } damage[] = {
        {"no arms", offsetof(struct flagshm_flag_entry, arm_count), 2, 0},
        {"one arm", offsetof(struct flagshm_flag_entry, arm_count), 2, 1},
        {"nine arms", offsetof(struct flagshm_flag_entry, arm_count), 2, 9},
        {"share over 100 %", offsetof(struct flagshm_flag_entry, rollout_mpct), 4, 100001},
        {"arms outside", offsetof(struct flagshm_flag_entry, arms_offset), 4, 0xfffffff8},
    };
    size_t i;

    for (i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        open_text(FLAGS);
        memcpy((unsigned char *)record_of("f") + damage[i].offset, &damage[i].value, damage[i].bytes);
        cr_expect_str_eq(reason_of("f", "u"), "GENERAL", "%s", damage[i].what);
        cr_expect_eq(d.arm, 0);
        cr_expect_eq(d.version, 7);
        close_text();
    }
    open_text(FLAGS);
    record_of("f")->force_offset = 0xfffffff8; /* nobody is forced then, the bucket decides */
    cr_expect_str_eq(reason_of("f", "forced"), "SPLIT");
    close_text();
}

Test(client, index_without_an_end_and_empty_bank_say_not_found)
{
    struct flagshm_ref ref;

    open_text(FLAGS);
    cr_assert_eq(flagshm_resolve(&w.fs, "f", &ref), 0);
    memset(w.image + w.header->bank_offset[0] + w.header->index_offset, 0xff,
           (size_t)w.header->index_slots * 8);
    cr_expect_str_eq(reason_of("f", "u"), "FLAG_NOT_FOUND");
    w.header->seq++;
    cr_expect_eq(flagshm_decide_ref(&w.fs, &ref, "u", &d), FLAGSHM_FLAG_NOT_FOUND);
    close_text();
}

/* ---- references ---- */

Test(client, reference_follows_the_banks)
{
    struct flagshm_ref ref, absent, none;
    struct flagshm_flag_entry *r;
    size_t bank_bytes;

    open_text(FLAGS);
    bank_bytes = (size_t)w.header->bank_bytes;
    cr_expect_eq(flagshm_resolve(&w.fs, "f", &ref), 0);
    cr_expect_eq(flagshm_resolve(&w.fs, "g", &absent), -ENOENT);
    cr_expect_eq(flagshm_resolve(&w.fs, NULL, &none), -EINVAL);
    cr_expect_eq(flagshm_decide_ref(&w.fs, &none, "u", &d), FLAGSHM_FLAG_NOT_FOUND);
    cr_expect_eq(flagshm_rollout_pct_ref(&w.fs, &none), -1.0);
    cr_expect_eq(flagshm_resolve(&w.fs, "", &none), -EINVAL);
    memset(too_long, 'f', 65);
    too_long[65] = '\0';
    cr_expect_eq(flagshm_resolve(&w.fs, too_long, &none), -EINVAL);
    cr_expect_eq(flagshm_decide_ref(&w.fs, &ref, "forced", &d), FLAGSHM_TARGETING_MATCH);
    cr_expect_eq(flagshm_decide_ref(&w.fs, &absent, "u", &d), FLAGSHM_FLAG_NOT_FOUND);
    /* a publish: the other bank has the flag killed, at another place, and "g" besides */
    memcpy(w.image + w.header->bank_offset[1], w.image + w.header->bank_offset[0], bank_bytes);
    ((struct flagshm_bank *)(void *)(w.image + w.header->bank_offset[1]))->version = 8;
    w.header->seq++;
    r = record_of("f");
    r->switches |= FLAGSHM_SWITCH_KILLED;
    cr_expect_eq(flagshm_decide_ref(&w.fs, &ref, "forced", &d), FLAGSHM_DISABLED);
    cr_expect_eq(d.version, 8);
    cr_expect_eq(flagshm_rollout_pct_ref(&w.fs, &ref), 0.0);
    /* deleted, and back again */
    memset(w.image + w.header->bank_offset[0] + w.header->index_offset, 0, (size_t)w.header->index_slots * 8);
    w.header->seq++;
    cr_expect_eq(flagshm_decide_ref(&w.fs, &ref, "forced", &d), FLAGSHM_FLAG_NOT_FOUND);
    cr_expect_eq(flagshm_rollout_pct_ref(&w.fs, &ref), -1.0);
    r->switches &= ~FLAGSHM_SWITCH_KILLED;
    w.header->seq++;
    cr_expect_eq(flagshm_decide_ref(&w.fs, &ref, "forced", &d), FLAGSHM_TARGETING_MATCH);
    /* all control is a switch of seq: seen by a reference as well */
    w.header->seq |= FLAGSHM_SEQ_ALL_CONTROL;
    cr_expect_eq(flagshm_decide_ref(&w.fs, &ref, "forced", &d), FLAGSHM_DISABLED);
    w.header->seq &= ~FLAGSHM_SEQ_ALL_CONTROL;
    cr_expect_eq(flagshm_decide_ref(&w.fs, &ref, "forced", &d), FLAGSHM_TARGETING_MATCH);
    close_text();
}

/* ---- the heartbeat ---- */

Test(client, age_is_signed_and_two_seconds_ahead_are_none)
{
    static const struct {
        int64_t age_ns;
        bool is_stale;
    } ages[] = {{0, false},
                {INT64_C(9900000000), false},
                {INT64_C(10100000000), true},
                {-INT64_C(1900000000), false},
                {-INT64_C(2200000000), true},
                {INT64_C(86400000000000), true},    /* a beat of this boot's first second, a day later */
                {-INT64_C(8640000000000000), true}, /* a beat of a boot that lasted long */
                {INT64_MIN / 2, true}};
    size_t i;

    for (i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        int64_t age;

        open_text(FLAGS);
        record_of("f")->switches |= FLAGSHM_SWITCH_STALE_CONTROL;
        w.header->stale_after_ns = UINT64_C(10000000000);
        w.header->heartbeat_mono_ns =
            flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) - (uint64_t)ages[i].age_ns;
        age = flagshm_age_ns(&w.fs);
        if (ages[i].age_ns < 0 && !ages[i].is_stale)
            cr_expect_eq(age, 0);
        else
            cr_expect(age >= ages[i].age_ns && age < ages[i].age_ns + INT64_C(90000000), "%lld",
                      (long long)age);
        cr_expect_eq(flagshm_decide(&w.fs, "f", "forced", &d),
                     ages[i].is_stale ? FLAGSHM_STALE : FLAGSHM_TARGETING_MATCH, "age %lld",
                     (long long)ages[i].age_ns);
        cr_expect_eq(flagshm_rollout_pct(&w.fs, "f"), ages[i].is_stale ? 0.0 : 50.0);
        /* flags that do not ask for it stay as they are */
        cr_expect_str_eq(reason_of("all", "u"), "STATIC");
        cr_expect_eq(d.arm, 1);
        close_text();
    }
    w.fs.map_ = NULL;
    cr_expect_eq(flagshm_age_ns(&w.fs), INT64_MAX);
}

Test(client, what_has_no_slot_is_not_booked)
{
    struct flagshm_outcome outcome = {.event = FLAGSHM_FINISHED, .http_status = 200};

    open_text(FLAGS);
    (void)reason_of("f", "u");
    cr_expect_eq(d.slot, FLAGSHM_NO_SLOT);
    cr_expect_eq(flagshm_record(&w.fs, &d, &outcome), 0);
    cr_expect_eq(flagshm_event(&w.fs, "f", "u", FLAGSHM_THUMBS_DOWN), 0);
    cr_expect_eq(flagshm_event(&w.fs, "f", "u", FLAGSHM_FINISHED), -EINVAL);
    cr_expect_eq(flagshm_event(&w.fs, "no", "u", FLAGSHM_RETRY), -ENOENT);
    d.slot = 3; /* a slot, but no segment to book in */
    d.slot_generation = 1;
    cr_expect_eq(flagshm_record(&w.fs, &d, &outcome), -ENOENT);
    cr_expect_eq(flagshm_record_shadow(&w.fs, &d, &outcome, &outcome), -ENOENT);
    cr_expect_eq(flagshm_shadow_budget(&w.fs, 0, 1), -ENOENT);
    d.slot = FLAGSHM_SLOTS;
    cr_expect_eq(flagshm_record(&w.fs, &d, &outcome), -EINVAL);
    close_text();
}
