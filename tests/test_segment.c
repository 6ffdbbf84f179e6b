/* The life of a table segment, seen by its server and by real clients. Faults: test_segment_faults.c. */
#include "table_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ONE_FLAG(share)                                                                                      \
    "{\"flags\": {\"f\": {\"control\": \"old-model\", \"variant\": \"new-model\", \"rollout_pct\": " share   \
    "}}}"

static struct segment_fixture fix;
static struct flagshm_segment segment;
static struct flagshm client;
static struct flagshm_error error;
static struct flagshm_decision d;

static void begin(void)
{
    segment_fixture_begin(&fix, false);
}

static void end(void)
{
    segment_fixture_end(&fix);
}

static void open_segment(void)
{
    int code = flagshm_segment_open(&segment, &fix.options, &error);

    cr_assert_eq(code, 0, "%d: %s", code, error.text);
}

static void publish(const char *text)
{
    int code = segment_fixture_publish(&segment, text, NULL, &error);

    cr_assert_eq(code, 0, "%d: %s", code, error.text);
}

static void publish_many(size_t count, const char *share)
{
    char *text = table_fixture_text(count, share);

    publish(text);
    free(text);
}

static bool stands(const char *ending)
{
    struct stat object;

    return lstat(segment_fixture_beside(&fix, ending), &object) == 0;
}

static struct stat look(void)
{
    struct stat object;

    cr_assert_eq(lstat(fix.path, &object), 0);
    return object;
}

/* ---- publishing ---- */

Test(segment, first_publish_makes_a_table_that_clients_decide_by, .init = begin, .fini = end)
{
    cr_assert_eq(flagshm_open(&client, NULL), -ENOENT);
    open_segment();
    cr_assert_null(segment.header);
    cr_assert_not(segment.is_adopted);
    cr_assert_eq(flagshm_segment_version(&segment), 0);
    cr_assert_eq(flagshm_segment_content_hash(&segment), 0);
    publish(ONE_FLAG("100"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    cr_assert_str_eq(d.model, "new-model");
    cr_assert_str_eq(d.stage, "static-100pct");
    cr_assert_eq(d.version, 1);
    cr_assert_eq(d.segment_id, segment.header->segment_id);
    cr_assert_neq(d.segment_id, 0);
    cr_assert_not(stands(".new"));
    cr_assert_not(stands(".old"));
    cr_assert(stands(".lock"));
    flagshm_close(&client);
    flagshm_segment_close(&segment);
    cr_assert_eq(flagshm_open(&client, NULL), 0, "the table stays for readers");
    flagshm_close(&client);
}

Test(segment, publish_never_touches_the_bank_in_use, .init = begin, .fini = end)
{
    unsigned char *before;
    size_t bytes;
    int i;

    open_segment();
    publish_many(50, "10");
    bytes = (size_t)segment.geometry.bank_bytes;
    before = malloc(bytes);
    for (i = 0; i < 6; i++) {
        uint64_t seq = segment.header->seq;
        unsigned char *bank = (unsigned char *)segment.header + segment.geometry.bank_offset[seq & 1];

        memcpy(before, bank, bytes);
        publish_many(50 - (size_t)i, i & 1 ? "20" : "30");
        cr_assert_eq(segment.header->seq, seq + 1, "one step");
        cr_assert_eq(memcmp(before, bank, bytes), 0);
    }
    free(before);
    flagshm_segment_close(&segment);
}

Test(segment, version_never_runs_back, .init = begin, .fini = end)
{
    struct table_fixture f;

    open_segment();
    publish(ONE_FLAG("5"));
    publish(ONE_FLAG("6"));
    cr_assert(table_fixture_parse(&f, ONE_FLAG("7")));
    cr_assert_eq(flagshm_table_build(&f.table, f.entries, f.count, &segment.geometry), 0);
    cr_assert_eq(flagshm_segment_publish(&segment, &f.table, 2, 1, &error), -EINVAL);
    cr_assert(strstr(error.text, "version 2 is not above the served 2"), "%s", error.text);
    cr_assert_eq(flagshm_segment_publish(&segment, &f.table, 10, 77, &error), 0);
    cr_assert_eq(flagshm_segment_version(&segment), 10);
    cr_assert_eq(flagshm_segment_file_rev(&segment), 77);
    cr_assert_eq(flagshm_segment_content_hash(&segment), f.table.content_hash);
    table_fixture_free(&f);
    flagshm_segment_close(&segment);
}

static void *publish_soon(void *unused)
{
    (void)unused;
    usleep(50000);
    publish(ONE_FLAG("6"));
    return NULL;
}

Test(segment, publish_wakes_who_waits, .init = begin, .fini = end)
{
    uint64_t began, passed;
    pthread_t thread;

    open_segment();
    publish(ONE_FLAG("5"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_wait(&client, 1, 0), -ETIMEDOUT);
    began = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
    cr_assert_eq(pthread_create(&thread, NULL, publish_soon, NULL), 0);
    cr_assert_eq(flagshm_wait(&client, 1, 20000), 0);
    passed = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) - began;
    (void)pthread_join(thread, NULL);
    cr_assert_lt(passed, 900000000, "woken, not found by the look each second: %llu ns",
                 (unsigned long long)passed);
    cr_assert_eq(flagshm_version(&client), 2);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

/* ---- growth ---- */

Test(segment, grown_table_moves_and_attached_clients_follow_at_once, .init = begin, .fini = end)
{
    struct flagshm_ref ref;
    uint64_t first;
    struct stat before, after;

    open_segment();
    publish_many(10, "100");
    before = look();
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_resolve(&client, "flag-3", &ref), 0);
    cr_assert_eq(flagshm_decide_ref(&client, &ref, "u", &d), FLAGSHM_STATIC);
    first = d.segment_id;
    publish_many(2000, "100");
    after = look();
    cr_assert_neq(before.st_ino, after.st_ino);
    cr_assert_gt(after.st_size, before.st_size);
    cr_assert_eq(flagshm_decide_ref(&client, &ref, "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 2);
    cr_assert_neq(d.segment_id, first);
    cr_assert_eq(flagshm_decide(&client, "flag-1999", "u", &d), FLAGSHM_STATIC);
    cr_assert_not(stands(".old"));
    cr_assert_not(stands(".new"));
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment, mapped_object_is_never_shrunk, .init = begin, .fini = end)
{
    struct stat before, after;

    open_segment();
    publish_many(2000, "10");
    before = look();
    publish_many(1, "10");
    after = look();
    cr_assert_eq(before.st_ino, after.st_ino);
    cr_assert_eq(before.st_size, after.st_size);
    flagshm_segment_close(&segment);
}

Test(segment, all_pages_are_there_before_the_name, .init = begin, .fini = end)
{
    struct stat object;

    open_segment();
    publish(ONE_FLAG("5"));
    object = look();
    cr_assert_geq(object.st_size, 65536);
    cr_assert_geq((uint64_t)object.st_blocks * 512, (uint64_t)object.st_size,
                  "no holes: a full tmpfs must "
                  "not kill anyone later");
    flagshm_segment_close(&segment);
}

Test(segment, unchanged_flags_keep_their_changed_version_over_growth_and_restart, .init = begin, .fini = end)
{
    struct flagshm_table served;
    const struct flagshm_flag_entry *r;
    uint64_t hash = flagshm_hash64_("flag-3", 6, 0);

    open_segment();
    publish_many(10, "10");
    publish_many(10, "10");
    publish_many(2000, "10");
    flagshm_segment_close(&segment);
    open_segment();
    cr_assert(segment.is_adopted);
    publish_many(2000, "10");
    served = (struct flagshm_table){.bytes = (unsigned char *)segment.header +
                                             segment.geometry.bank_offset[segment.header->seq & 1],
                                    .geometry = segment.geometry,
                                    .flag_count = 2000};
    r = flagshm_table_find(&served, hash);
    cr_assert_not_null(r);
    cr_assert_eq(r->changed_version, 1);
    flagshm_segment_close(&segment);
}

/* ---- modes ---- */

Test(segment, mode_is_what_was_asked_for_whatever_the_umask, .init = begin, .fini = end)
{
    struct stat object;

    umask(0077);
    open_segment();
    publish(ONE_FLAG("5"));
    cr_assert_eq(look().st_mode & 07777, 0644);
    cr_assert_eq(stat(segment_fixture_beside(&fix, ".lock"), &object), 0);
    cr_assert_eq(object.st_mode & 07777, 0600);
    flagshm_segment_close(&segment);
    umask(0);
    fix.options.mode = 0640;
    open_segment();
    cr_assert(segment.is_adopted);
    cr_assert_eq(look().st_mode & 07777, 0640, "an adopted table takes the new mode");
    publish_many(2000, "5");
    cr_assert_eq(look().st_mode & 07777, 0640);
    flagshm_segment_close(&segment);
}

Test(segment, table_that_others_could_write_is_refused, .init = begin, .fini = end)
{
    static const mode_t modes[] = {0666, 0664, 0622, 0444, 0755, 04644};
    size_t i;

    for (i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        fix.options.mode = modes[i];
        cr_assert_eq(flagshm_segment_open(&segment, &fix.options, &error), -EINVAL, "%o", (unsigned)modes[i]);
        cr_assert(strstr(error.text, "table mode"), "%s", error.text);
    }
    cr_assert_not(stands(".lock"));
}

Test(segment, table_gets_the_group, .init = begin, .fini = end)
{
    if (geteuid() != 0)
        cr_skip_test("only root may give files to any group");
    fix.options.group = 12345;
    open_segment();
    publish(ONE_FLAG("5"));
    cr_assert_eq(look().st_gid, 12345);
    flagshm_segment_close(&segment);
    fix.options.group = 12346;
    open_segment();
    cr_assert_eq(look().st_gid, 12346);
    flagshm_segment_close(&segment);
}

/* ---- restart ---- */

Test(segment, restart_adopts_and_readers_do_not_notice, .init = begin, .fini = end)
{
    uint64_t id, seq;
    struct stat before;

    open_segment();
    publish(ONE_FLAG("0"));
    publish(ONE_FLAG("100"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    (void)flagshm_decide(&client, "f", "u", &d);
    id = d.segment_id;
    seq = segment.header->seq;
    before = look();
    flagshm_segment_close(&segment);

    fix.options.state_dir = "/somewhere/else";
    fix.options.stale_after_ns = 5;
    open_segment();
    cr_assert(segment.is_adopted);
    cr_assert_eq(segment.header->seq, seq);
    cr_assert_eq(flagshm_segment_version(&segment), 2);
    cr_assert_eq(flagshm_segment_file_rev(&segment), 1);
    cr_assert_str_eq(segment.header->state_dir, "/somewhere/else");
    cr_assert_eq(segment.header->stale_after_ns, 5);
    publish(ONE_FLAG("0"));
    cr_assert_eq(look().st_ino, before.st_ino);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 3);
    cr_assert_eq(d.segment_id, id, "the same attachment");
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment, works_in_a_directory_too)
{
    segment_fixture_begin(&fix, true);
    open_segment();
    publish(ONE_FLAG("100"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    publish_many(3000, "100");
    cr_assert_eq(flagshm_decide(&client, "flag-2999", "u", &d), FLAGSHM_STATIC);
    flagshm_segment_close(&segment);
    open_segment();
    cr_assert(segment.is_adopted);
    flagshm_segment_close(&segment);
    flagshm_close(&client);
    segment_fixture_end(&fix);
}

/* ---- one writer ---- */

static void *close_soon(void *held)
{
    usleep(100000);
    flagshm_segment_close(held);
    return NULL;
}

Test(segment, second_writer_is_told_so, .init = begin, .fini = end)
{
    struct flagshm_segment second;
    pthread_t thread;

    open_segment();
    cr_assert_eq(flagshm_segment_open(&second, &fix.options, &error), -EBUSY);
    cr_assert(strstr(error.text, "another writer holds the lock") && strstr(error.text, fix.instance), "%s",
              error.text);
    cr_assert_eq(pthread_create(&thread, NULL, close_soon, &segment), 0);
    fix.options.lock_wait_ms = 10000;
    cr_assert_eq(flagshm_segment_open(&second, &fix.options, &error), 0, "it waits for one that ends");
    (void)pthread_join(thread, NULL);
    flagshm_segment_close(&second);
}

Test(segment, killed_writer_leaves_no_lock, .init = begin, .fini = end)
{
    int ready[2];
    char byte = 0;
    pid_t child;

    cr_assert_eq(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        if (flagshm_segment_open(&segment, &fix.options, &error) != 0 ||
            segment_fixture_publish(&segment, ONE_FLAG("5"), NULL, &error) != 0 ||
            write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    cr_assert_eq(flagshm_segment_open(&segment, &fix.options, &error), -EBUSY);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    open_segment();
    cr_assert(segment.is_adopted);
    flagshm_segment_close(&segment);
}

/* ---- switches ---- */

Test(segment, all_control_survives_publish_growth_restart_and_rebuild, .init = begin, .fini = end)
{
    open_segment();
    flagshm_segment_set_all_control(&segment, true);
    cr_assert(flagshm_segment_is_all_control(&segment), "remembered before there is a table");
    publish_many(10, "100");
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_DISABLED);
    cr_assert_str_eq(d.stage, "killed");
    publish_many(10, "100");
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_DISABLED);
    publish_many(2000, "100");
    cr_assert_eq(flagshm_decide(&client, "flag-1999", "u", &d), FLAGSHM_DISABLED);
    flagshm_segment_close(&segment);
    open_segment();
    cr_assert(flagshm_segment_is_all_control(&segment));
    (void)unlink(fix.path);
    flagshm_segment_forget(&segment);
    publish_many(10, "100");
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_DISABLED);
    flagshm_segment_set_all_control(&segment, false);
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.arm, 1);
    publish_many(2000, "100");
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_STATIC);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment, all_control_can_be_forced_past_a_writer_that_holds_the_lock, .init = begin, .fini = end)
{
    cr_assert_eq(flagshm_segment_force_all_control(NULL, fix.instance, &error), -ENOENT);
    cr_assert(strstr(error.text, fix.path), "%s", error.text);
    open_segment();
    publish_many(10, "100");
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_segment_force_all_control(NULL, fix.instance, &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_DISABLED);
    cr_assert(flagshm_segment_is_all_control(&segment), "the server finds it when it goes on");
    publish_many(10, "100");
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_DISABLED);
    publish_many(2000, "100");
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_DISABLED, "and carries it on");
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

/* ---- heartbeat ---- */

Test(segment, heartbeat_is_the_readers_clock, .init = begin, .fini = end)
{
    open_segment();
    cr_assert(flagshm_segment_heartbeat(&segment), "nothing to beat for");
    publish(ONE_FLAG("5"));
    segment.header->heartbeat_mono_ns = 5;
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_gt(flagshm_age_ns(&client), 1000000000);
    cr_assert(flagshm_segment_heartbeat(&segment));
    cr_assert_geq(flagshm_age_ns(&client), 0);
    cr_assert_lt(flagshm_age_ns(&client), 1000000000);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment, name_lost_by_hand_is_noticed_and_taken_back, .init = begin, .fini = end)
{
    uint64_t hash;

    open_segment();
    publish_many(10, "100");
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    (void)flagshm_decide(&client, "flag-0", "u", &d);
    hash = flagshm_segment_content_hash(&segment);
    cr_assert_eq(unlink(fix.path), 0);
    cr_assert_not(flagshm_segment_heartbeat(&segment));
    flagshm_segment_forget(&segment);
    cr_assert_eq(flagshm_segment_content_hash(&segment), 0, "so that the same content is published again");
    publish_many(10, "100");
    cr_assert_eq(flagshm_segment_content_hash(&segment), hash);
    cr_assert(flagshm_segment_heartbeat(&segment));
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 2, "followed at the first look");
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment, name_taken_by_another_object_is_noticed_and_taken_back, .init = begin, .fini = end)
{
    int fd;

    open_segment();
    publish_many(10, "100");
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(unlink(fix.path), 0);
    fd = open(fix.path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    cr_assert_eq(write(fd, "hello", 5), 5);
    (void)close(fd);
    cr_assert_not(flagshm_segment_heartbeat(&segment));
    flagshm_segment_forget(&segment);
    publish_many(10, "0");
    cr_assert_not(stands(".old"));
    cr_assert_eq(flagshm_decide(&client, "flag-0", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 2);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

/* ---- kill without a server ---- */

static void open_tool(void)
{
    fix.options.is_tool = true;
    open_segment();
}

static void collect(void *context, const char *name, size_t bytes)
{
    char *names = context;

    (void)snprintf(names + strlen(names), 64, "%.*s ", (int)bytes, name);
}

Test(segment, kill_without_a_server_is_an_ordinary_publish, .init = begin, .fini = end)
{
    struct flagshm_ref ref;
    char names[256] = "";
    uint64_t beat;

    open_segment();
    publish_many(10, "100");
    flagshm_segment_close(&segment);
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_resolve(&client, "flag-7", &ref), 0);
    cr_assert_eq(flagshm_decide_ref(&client, &ref, "u", &d), FLAGSHM_STATIC);

    open_tool();
    beat = segment.header->heartbeat_mono_ns = 77;
    cr_assert_eq(flagshm_segment_kill(&segment, "flag-7", &error), 0, "%s", error.text);
    cr_assert_eq(segment.header->heartbeat_mono_ns, beat, "the server is as silent as before");
    cr_assert_eq(flagshm_decide_ref(&client, &ref, "u", &d), FLAGSHM_DISABLED);
    cr_assert_eq(d.version, 2);
    cr_assert_eq(d.rollout_mpct, 0);
    cr_assert_str_eq(d.stage, "killed");
    cr_assert_str_eq(d.model, "claude-haiku-4-5");
    cr_assert_eq(flagshm_decide(&client, "flag-6", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(flagshm_segment_kill(&segment, "flag-7", &error), -EALREADY);
    cr_assert_eq(flagshm_segment_kill(&segment, "flag-77", &error), -ENOENT);
    cr_assert(strstr(error.text, "flag-77"), "%s", error.text);
    cr_assert_eq(flagshm_segment_kill(&segment, "flag-2", &error), 0);
    flagshm_segment_close(&segment);

    fix.options.is_tool = false;
    open_segment();
    cr_assert(segment.is_adopted, "what a tool has written holds every gate");
    cr_assert_eq(flagshm_segment_version(&segment), 3);
    flagshm_segment_each_killed(&segment, collect, names);
    cr_assert_str_eq(names, "flag-2 flag-7 ");
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment, tool_makes_nothing_where_there_is_no_table, .init = begin, .fini = end)
{
    open_tool();
    cr_assert_null(segment.header);
    cr_assert_eq(flagshm_segment_kill(&segment, "f", &error), -ENOENT);
    flagshm_segment_each_killed(&segment, collect, NULL);
    flagshm_segment_close(&segment);
    cr_assert_not(stands(""));
    cr_assert_not(stands(".lock"));
}

Test(segment, tool_waits_for_the_server_like_anyone, .init = begin, .fini = end)
{
    struct flagshm_segment tool;

    open_segment();
    publish_many(10, "100");
    fix.options.is_tool = true;
    cr_assert_eq(flagshm_segment_open(&tool, &fix.options, &error), -EBUSY);
    flagshm_segment_close(&segment);
}

Test(segment, root_may_kill_in_a_table_of_the_servers_user, .init = begin, .fini = end)
{
    struct stat lock;

    if (geteuid() != 0)
        cr_skip_test("needs root");
    open_segment();
    publish_many(10, "100");
    flagshm_segment_close(&segment);
    cr_assert_eq(chown(fix.path, 12345, (gid_t)-1), 0);
    cr_assert_eq(unlink(segment_fixture_beside(&fix, ".lock")), 0);
    open_tool();
    cr_assert_eq(flagshm_segment_kill(&segment, "flag-1", &error), 0, "%s", error.text);
    flagshm_segment_close(&segment);
    cr_assert_eq(stat(segment_fixture_beside(&fix, ".lock"), &lock), 0);
    cr_assert_eq(lock.st_uid, 12345, "else that user's server could not start again");
    cr_assert_eq(look().st_uid, 12345);
}
