/* assign: the fast way answers as flagshm_decide does, and MD5 in lanes is MD5. */
#include "server/flagfile.h"
#include "server/segment.h"
#include "tools/assign.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char name[40];
static struct flagshm_segment segment;
static struct flagshm client;

/* A small generator: the same ids on every run. */
static uint64_t random_state = 20240229;
static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % limit;
}

/* Publishes a flag file under a name of this process's own. */
static void publish(const char *text, const char *killed)
{
    struct flagshm_segment_options options = {.instance = name, .group = (gid_t)-1};
    struct flagshm_table_entry entries[64] = {{.flag = NULL}};
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};
    struct flagshm_table table;
    struct flagshm_error error = {""};
    size_t i;

    (void)snprintf(name, sizeof name, "assign%ld", (long)getpid());
    cr_assert_eq(flagshm_flagfile_parse(&file, text, strlen(text), NULL, &diags), 0);
    cr_assert_eq(diags.errors, 0);
    for (i = 0; i < file.count; i++) {
        entries[i].flag = &file.entries[i].flag;
        entries[i].is_killed = killed != NULL && strcmp(file.entries[i].flag.name, killed) == 0;
    }
    cr_assert_eq(flagshm_segment_open(&segment, &options, &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_table_build(&table, entries, file.count, NULL), 0);
    cr_assert_eq(flagshm_segment_publish(&segment, &table, 1, 1, &error), 0, "%s", error.text);
    (void)flagshm_segment_heartbeat(&segment);
    flagshm_table_free(&table);
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    cr_assert_eq(flagshm_open(&client, name), 0);
}

static void withdraw(void)
{
    flagshm_close(&client);
    (void)unlink(segment.path);
    (void)unlink(segment.lock_path);
    flagshm_segment_close(&segment);
}

/* Holds `count` random ids of at most `longest` bytes against flagshm_decide. Returns how many got each arm. */
static void compare(const char *flag, size_t count, uint32_t longest, size_t arms[8])
{
    static unsigned char texts[ASSIGN_BATCH][FLAGSHM_ID_MAX + 1 + ASSIGN_SLACK];
    struct assign_id ids[ASSIGN_BATCH];
    struct assign_plan plan;
    size_t done, i, k;

    cr_assert_eq(assign_plan_take(&plan, &client, flag, NULL), 0);
    memset(arms, 0, 8 * sizeof *arms);
    for (done = 0; done < count; done += i) {
        size_t batch = 1 + random_below(ASSIGN_BATCH);
        for (i = 0; i < batch; i++) {
            ids[i].length = random_below(longest + 1);
            ids[i].bytes = texts[i];
            for (k = 0; k < ids[i].length; k++)
                texts[i][k] = (unsigned char)(1 + random_below(255));
            texts[i][ids[i].length] = '\0';
            memset(texts[i] + ids[i].length + 1, 0xa5, ASSIGN_SLACK);
        }
        assign_decide(&plan, ids, batch);
        for (i = 0; i < batch; i++) {
            struct flagshm_decision d;
            (void)flagshm_decide(&client, flag, (const char *)texts[i], &d);
            cr_assert_eq(ids[i].arm, d.arm, "%s: an id of %u bytes: arm %u, flagshm_decide says %u", flag,
                         ids[i].length, ids[i].arm, d.arm);
            arms[d.arm]++;
        }
    }
    assign_plan_free(&plan);
}

Test(assign, lanes_are_md5)
{
    /* RFC 1321, A.5 */
    static const struct {
        const char *text, *digest;
    } known[ASSIGN_LANES] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"a", "0cc175b9c0f1b6a831c399e269772661"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"a", "0cc175b9c0f1b6a831c399e269772661"},
    };
    static const uint32_t start[4] = FLAGSHM_MD5_INIT_;
    uint32_t blocks[16 * ASSIGN_LANES] __attribute__((aligned(32))),
        states[4 * ASSIGN_LANES] __attribute__((aligned(32)));
    size_t lane, k;

    for (lane = 0; lane < ASSIGN_LANES; lane++) {
        unsigned char block[64] = {0};
        size_t length = strlen(known[lane].text);
        memcpy(block, known[lane].text, length);
        block[length] = 0x80;
        block[56] = (unsigned char)(length * 8);
        for (k = 0; k < 16; k++)
            blocks[k * ASSIGN_LANES + lane] = flagshm_get32_(block + 4 * k);
        for (k = 0; k < 4; k++)
            states[k * ASSIGN_LANES + lane] = start[k];
    }
    assign_md5_lanes(blocks, states);
    for (lane = 0; lane < ASSIGN_LANES; lane++) {
        char digest[33];
        for (k = 0; k < 4; k++)
            (void)snprintf(digest + 8 * k, 9, "%08x", __builtin_bswap32(states[k * ASSIGN_LANES + lane]));
        cr_assert_str_eq(digest, known[lane].digest, "lane %zu", lane);
    }
}

Test(assign, every_kind_of_flag_is_answered_as_decide_answers)
{
    static const struct {
        const char *flag;
        unsigned arms; /* that occur */
    } cases[] = {{"none", 1}, {"all", 1}, {"half", 2}, {"three", 4}, {"off", 1}, {"dead", 1}, {"fine", 2}};
    size_t i, k;

    publish("{\"flags\": {"
            "\"none\": {\"control\": \"a\", \"variant\": \"b\"},"
            "\"all\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 100},"
            "\"half\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50},"
            "\"three\": {\"control\": \"a\", \"variants\": {\"x\": {\"value\": \"x\", \"weight\": 1}, \"y\": "
            "{\"value\": \"y\", "
            "\"weight\": 5}, \"z\": {\"value\": \"z\", \"weight\": 2}}, \"rollout_pct\": 62.5},"
            "\"off\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 100, \"enabled\": false},"
            "\"dead\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 100},"
            "\"fine\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 3.125}"
            "}}",
            "dead");
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t arms[8], seen = 0;
        compare(cases[i].flag, 20000, 150, arms);
        for (k = 0; k < 8; k++)
            seen += arms[k] != 0;
        /* "all" gives control to the empty id. */
        cr_assert_eq(seen, cases[i].arms + (strcmp(cases[i].flag, "all") == 0), "%s: %zu arms", cases[i].flag,
                     seen);
    }
    withdraw();
}

Test(assign, every_length_of_prefix_and_id)
{
    char text[16384] = "{\"flags\": {", flag[8];
    size_t used = strlen(text), salt, arms[8];

    for (salt = 1; salt <= 64; salt++)
        used += (size_t)snprintf(
            text + used, sizeof text - used,
            "%s\"f%zu\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 50, \"salt\": \"%.*s\"}",
            salt == 1 ? "" : ",", salt, (int)salt,
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnop");
    (void)snprintf(text + used, sizeof text - used, "}}");
    publish(text, NULL);
    for (salt = 1; salt <= 64; salt++) {
        (void)snprintf(flag, sizeof flag, "f%zu", salt);
        compare(flag, 2000, 200, arms);
        cr_assert(arms[0] > 500 && arms[1] > 500);
    }
    compare("f7", 300, FLAGSHM_ID_MAX, arms);
    withdraw();
}

Test(assign, forced_ids)
{
    struct assign_plan plan;
    struct assign_id ids[4];
    char longest[121], room[4][160] = {{0}}, text[512];
    const char *const texts[4] = {"forced-in", "forced-out", "nobody", longest};
    size_t i;

    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    (void)snprintf(text, sizeof text,
                   "{\"flags\": {\"f\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 0, "
                   "\"force\": {\"variant\": "
                   "[\"%s\", \"%s\"], \"control\": [\"%s\"]}}}}",
                   texts[0], texts[3], texts[1]);
    publish(text, NULL);
    cr_assert_eq(assign_plan_take(&plan, &client, "f", NULL), 0);
    for (i = 0; i < 4; i++) {
        (void)snprintf(room[i], sizeof room[i], "%s", texts[i]);
        ids[i].bytes = (const unsigned char *)room[i];
        ids[i].length = (uint32_t)strlen(texts[i]);
    }
    assign_decide(&plan, ids, 4);
    cr_assert_eq(ids[0].arm, 1);
    cr_assert_eq(ids[1].arm, 0);
    cr_assert_eq(ids[2].arm, 0);
    cr_assert_eq(ids[3].arm, 1);
    assign_plan_free(&plan);
    withdraw();
}

Test(assign, a_run_is_decided_by_one_version)
{
    struct assign_plan plan;
    struct assign_id id = {(const unsigned char *)"someone\0\0\0\0\0\0\0\0", 7, 0};

    publish("{\"flags\": {\"f\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 100}}}", NULL);
    cr_assert_eq(assign_plan_take(&plan, &client, "f", NULL), 0);
    flagshm_segment_set_all_control(&segment, true);
    assign_decide(&plan, &id, 1);
    cr_assert_eq(id.arm, 1);
    assign_plan_free(&plan);
    cr_assert_eq(assign_plan_take(&plan, &client, "f", NULL), 0);
    assign_decide(&plan, &id, 1);
    cr_assert_eq(id.arm, 0);
    assign_plan_free(&plan);
    cr_assert_eq(assign_plan_take(&plan, &client, "g", NULL), -ENOENT);
    withdraw();
}
