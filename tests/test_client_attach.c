/* Attaching: what is refused and why, a server that comes later, segments that follow each other, orphans, waiting. With real objects. */
#include "table_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define STRANGER 54321

#define ONE(share)                                                                                           \
    "{\"flags\": {\"f\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": " share               \
    ", \"on_stale\": \"control\"}, \"g\": {\"control\": \"old\", \"variant\": \"new\", "                     \
    "\"rollout_pct\": " share "}}}"

static struct segment_fixture fix;
static struct flagshm_segment segment;
static struct flagshm fs;
static struct flagshm_error error;
static struct flagshm_decision d;

static void begin(void)
{
    segment_fixture_begin(&fix, false);
}

static void begin_dir(void)
{
    segment_fixture_begin(&fix, true);
}

static void end(void)
{
    segment_fixture_end(&fix);
}

static void publish(const char *text)
{
    if (segment.lock_fd <= 0)
        cr_assert_eq(flagshm_segment_open(&segment, &fix.options, &error), 0, "%s", error.text);
    cr_assert_eq(segment_fixture_publish(&segment, text, NULL, &error), 0, "%s", error.text);
}

static uint64_t mono_ns(void)
{
    return flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
}

static void set_age_ns(int64_t age)
{
    __atomic_store_n(&segment.header->heartbeat_mono_ns,
                     flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) - (uint64_t)age, __ATOMIC_RELAXED);
}

/* As if the second between two attempts were over. */
static void let_a_second_pass(void)
{
    if (fs.retry_mono_ns_ != 0)
        fs.retry_mono_ns_ -= UINT64_C(1000000000);
}

/* ---- names and the environment ---- */

Test(client_attach, instance_names)
{
    static const char *const bad[] = {
        "", "-a", "_a", "a/b", "a.b", "..", "a b", "\303\251", "123456789012345678901234567890123"};
    size_t i;

    unsetenv("FLAGSHM_DIR");
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(flagshm_open(&fs, bad[i]), -EINVAL, "\"%s\"", bad[i]);
        cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_NOT_READY);
        cr_expect_eq(flagshm_version(&fs), 0);
        cr_expect_eq(flagshm_wait(&fs, 0, -1), -EINVAL, "it would wait for ever");
        flagshm_close(&fs);
    }
    setenv("FLAGSHM_INSTANCE", "not/valid", 1);
    cr_expect_eq(flagshm_open(&fs, NULL), -EINVAL);
    setenv("FLAGSHM_INSTANCE", "", 1);
    (void)flagshm_open(&fs, NULL);
    cr_expect_str_eq(fs.path_, "/dev/shm/flagshm.default.table");
    flagshm_close(&fs);
    cr_expect_eq(flagshm_open(&fs, "12345678901234567890123456789012"), -ENOENT);
    flagshm_close(&fs);
}

Test(client_attach, directory_of_over_200_bytes_is_refused)
{
    char dir[300];

    memset(dir, 'd', sizeof dir);
    dir[0] = '/';
    dir[200] = '\0';
    setenv("FLAGSHM_DIR", dir, 1);
    cr_expect_eq(flagshm_open(&fs, "12345678901234567890123456789012"), -ENOENT);
    cr_expect_eq(strlen(fs.path_), 247);
    flagshm_close(&fs);
    dir[200] = 'd';
    dir[201] = '\0';
    setenv("FLAGSHM_DIR", dir, 1);
    cr_expect_eq(flagshm_open(&fs, "a"), -ENAMETOOLONG);
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_NOT_READY);
    flagshm_close(&fs);
}

/* ---- a server that comes later ---- */

Test(client_attach, client_before_the_server_attaches_by_itself_one_try_a_second, .init = begin, .fini = end)
{
    struct flagshm_ref ref;

    cr_assert_eq(flagshm_open(&fs, NULL), -ENOENT);
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_NOT_READY);
    cr_expect_str_eq(flagshm_model(&fs, "f", "u", "fallback", &d), "fallback");
    cr_expect_eq(flagshm_version(&fs), 0);
    cr_expect_eq(flagshm_age_ns(&fs), INT64_MAX);
    cr_expect_eq(flagshm_rollout_pct(&fs, "f"), -1.0);
    cr_expect_eq(flagshm_resolve(&fs, "f", &ref), -ENOENT);
    publish(ONE("100"));
    /* opening was this second's attempt */
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_NOT_READY);
    let_a_second_pass();
    cr_expect_eq(flagshm_decide_ref(&fs, &ref, "u", &d), FLAGSHM_STATIC, "the reference is good for ever");
    cr_expect_str_eq(d.model, "new");
    cr_expect_eq(flagshm_version(&fs), 1);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

Test(client_attach, closed_handle_may_be_asked_and_opened_again, .init = begin, .fini = end)
{
    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    flagshm_close(&fs);
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_NOT_READY);
    cr_expect_eq(flagshm_wait(&fs, 0, -1), -EINVAL);
    flagshm_close(&fs);
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STATIC);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

Test(client_attach, errno_is_left_alone, .init = begin, .fini = end)
{
    char buf[8];

    errno = 4711;
    cr_assert_eq(flagshm_open(&fs, NULL), -ENOENT);
    cr_expect_eq(errno, 4711);
    let_a_second_pass();
    (void)flagshm_decide(&fs, "f", "u", &d);
    (void)flagshm_version(&fs);
    (void)flagshm_wait(&fs, 0, 1);
    (void)flagshm_value(&fs, &d, buf, sizeof buf);
    (void)flagshm_age_ns(&fs);
    cr_expect_eq(errno, 4711);
    publish(ONE("100"));
    let_a_second_pass();
    errno = 4711;
    (void)flagshm_wait(&fs, 0, 1000);
    (void)flagshm_wait(&fs, 1, 1);
    cr_expect_eq(errno, 4711);
    flagshm_close(&fs);
    cr_expect_eq(errno, 4711);
    flagshm_segment_close(&segment);
}

/* ---- what is not trusted ---- */

static int open_once(void)
{
    int code = flagshm_open(&fs, NULL);

    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), code == 0 ? FLAGSHM_STATIC : FLAGSHM_NOT_READY);
    flagshm_close(&fs);
    return code;
}

Test(client_attach, only_a_regular_file_that_nobody_else_can_write_is_trusted, .init = begin, .fini = end)
{
    char elsewhere[400];

    publish(ONE("100"));
    flagshm_segment_close(&segment);
    cr_expect_eq(open_once(), 0);
    cr_assert_eq(chmod(fix.path, 0664), 0);
    cr_expect_eq(open_once(), -EPERM, "writable by the group");
    cr_assert_eq(chmod(fix.path, 0646), 0);
    cr_expect_eq(open_once(), -EPERM, "writable by others");
    cr_assert_eq(chmod(fix.path, 0640), 0);
    cr_expect_eq(open_once(), 0);
    (void)snprintf(elsewhere, sizeof elsewhere, "%s.elsewhere", fix.path);
    cr_assert_eq(rename(fix.path, elsewhere), 0);
    cr_assert_eq(symlink(elsewhere, fix.path), 0);
    cr_expect_eq(open_once(), -EPERM, "a link");
    cr_assert_eq(unlink(fix.path), 0);
    cr_assert_eq(mkfifo(fix.path, 0600), 0);
    cr_expect_eq(open_once(), -EPERM, "a pipe, without waiting for its other end");
    cr_assert_eq(unlink(fix.path), 0);
    cr_assert_eq(mkdir(fix.path, 0700), 0);
    cr_expect_eq(open_once(), -EPERM, "a directory");
    cr_assert_eq(rmdir(fix.path), 0);
    cr_assert_eq(unlink(elsewhere), 0);
    cr_expect_eq(open_once(), -ENOENT);
}

Test(client_attach, strangers_tables_need_a_word_of_trust, .init = begin_dir, .fini = end)
{
    if (geteuid() != 0) {
        end(); /* a skip leaves it out */
        cr_skip_test("only root can give a table to a stranger");
    }
    publish(ONE("100"));
    flagshm_segment_close(&segment);
    cr_expect_eq(open_once(), 0);
    cr_assert_eq(chown(fix.path, STRANGER, STRANGER), 0);
    cr_expect_eq(open_once(), -EPERM);
    setenv("FLAGSHM_OWNER", "54322", 1);
    cr_expect_eq(open_once(), -EPERM);
    setenv("FLAGSHM_OWNER", "54321x", 1);
    cr_expect_eq(open_once(), -EPERM);
    setenv("FLAGSHM_OWNER", "4294967295", 1);
    cr_expect_eq(open_once(), -EPERM);
    setenv("FLAGSHM_OWNER", "54321", 1);
    cr_expect_eq(open_once(), 0);
    unsetenv("FLAGSHM_OWNER");
    /* the owner of a directory that only he can write to */
    cr_assert_eq(chown(fix.dir, STRANGER, STRANGER), 0);
    cr_assert_eq(chmod(fix.dir, 0755), 0);
    cr_expect_eq(open_once(), 0);
    cr_assert_eq(chmod(fix.dir, 0775), 0);
    cr_expect_eq(open_once(), -EPERM);
    cr_assert_eq(chmod(fix.dir, 01777), 0);
    cr_expect_eq(open_once(), -EPERM);
    cr_assert_eq(chmod(fix.dir, 0755), 0);
    cr_assert_eq(chown(fix.dir, STRANGER + 1, STRANGER), 0);
    cr_expect_eq(open_once(), -EPERM);
    /* root's is trusted by everybody */
    cr_assert_eq(chown(fix.path, 0, 0), 0);
    cr_expect_eq(open_once(), 0);
}

/* As another user, in a child. */
static int open_as(uid_t uid)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        int code;

        if (setgid(uid) != 0 || setuid(uid) != 0)
            _exit(100);
        code = flagshm_open(&fs, NULL);
        if (code == 0 && flagshm_decide(&fs, "f", "u", &d) != FLAGSHM_STATIC)
            _exit(101);
        _exit(-code);
    }
    cr_assert_gt(pid, 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

Test(client_attach, other_users_read_and_need_no_right_to_write, .init = begin_dir, .fini = end)
{
    if (geteuid() != 0) {
        end(); /* a skip leaves it out */
        cr_skip_test("only root can become another user");
    }
    cr_assert_eq(chmod(fix.dir, 0755), 0);
    publish(ONE("100"));
    flagshm_segment_close(&segment);
    cr_expect_eq(open_as(STRANGER), 0);
    cr_assert_eq(chmod(fix.dir, 0555), 0);
    cr_expect_eq(open_as(STRANGER), 0);
    cr_assert_eq(chmod(fix.path, 0600), 0);
    cr_expect_eq(open_as(STRANGER), -EACCES);
    cr_assert_eq(chmod(fix.dir, 0755), 0);
}

Test(client_attach, root_does_not_trust_a_users_table, .init = begin, .fini = end)
{
    if (geteuid() != 0)
        cr_skip_test("only root can give a table to a stranger");
    publish(ONE("100"));
    flagshm_segment_close(&segment);
    cr_assert_eq(chown(fix.path, STRANGER, STRANGER), 0);
    cr_expect_eq(open_once(), -EPERM);
    cr_expect_eq(open_as(STRANGER), 0, "one's own");
    cr_expect_eq(open_as(STRANGER + 1), -EPERM);
}

/* ---- what is no table of ours ---- */

static void patch(off_t at, const void *bytes, size_t count)
{
    int fd = open(fix.path, O_RDWR | O_CLOEXEC);

    cr_assert(fd >= 0 && pwrite(fd, bytes, count, at) == (ssize_t)count);
    (void)close(fd);
}

Test(client_attach, damaged_and_foreign_objects_are_told_apart, .init = begin, .fini = end)
{
    static const struct {
        const char *what;
        size_t at, bytes;
        uint64_t value;
        int code;
    } faults[] = {
        {"magic", offsetof(struct flagshm_header, magic), 8, 1, -EPROTO},
        {"byte order", offsetof(struct flagshm_header, byte_order), 4, 0x04030201, -EPROTO},
        {"layout major", offsetof(struct flagshm_header, layout_major), 2, 2, -EPROTO},
        {"layout minor", offsetof(struct flagshm_header, layout_minor), 2, 99, 0},
        {"kind", offsetof(struct flagshm_header, kind), 4, 2, -EPROTO},
        {"header bytes", offsetof(struct flagshm_header, header_bytes), 4, 4095, -EBADMSG},
        {"segment bytes", offsetof(struct flagshm_header, segment_bytes), 8, 4096, -EBADMSG},
        {"bank inside the header", offsetof(struct flagshm_header, bank_offset), 8, 64, -EBADMSG},
        {"bank outside", offsetof(struct flagshm_header, bank_offset) + 8, 8, UINT64_MAX - 7, -EBADMSG},
        {"bank aslant", offsetof(struct flagshm_header, bank_offset), 8, 4100, -EBADMSG},
        {"bank too long", offsetof(struct flagshm_header, bank_bytes), 8, UINT64_C(1) << 63, -EBADMSG},
        {"no index", offsetof(struct flagshm_header, index_slots), 4, 0, -EBADMSG},
        {"index not a power of two", offsetof(struct flagshm_header, index_slots), 4, 96, -EBADMSG},
        {"index too long", offsetof(struct flagshm_header, index_slots), 4, 0x80000000, -EBADMSG},
        {"records too short", offsetof(struct flagshm_header, record_stride), 4, 184, -EBADMSG},
        {"records aslant", offsetof(struct flagshm_header, record_stride), 4, 196, -EBADMSG},
        {"too many records", offsetof(struct flagshm_header, record_capacity), 4, UINT32_MAX, -EBADMSG},
        {"arms too short", offsetof(struct flagshm_header, arm_stride), 4, 32, -EBADMSG},
        {"heap outside", offsetof(struct flagshm_header, heap_offset), 8, UINT64_C(1) << 40, -EBADMSG},
        {"heap too long", offsetof(struct flagshm_header, heap_bytes), 8, UINT64_C(1) << 32, -EBADMSG},
    };
    unsigned char head[FLAGSHM_HEADER_BYTES];
    struct stat object;
    size_t i;
    int fd;

    publish(ONE("100"));
    memcpy(head, segment.header, sizeof head);
    flagshm_segment_close(&segment);
    for (i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        patch((off_t)faults[i].at, &faults[i].value, faults[i].bytes);
        cr_expect_eq(open_once(), faults[i].code, "%s", faults[i].what);
        patch(0, head, sizeof head);
    }
    cr_expect_eq(open_once(), 0);
    cr_assert_eq(stat(fix.path, &object), 0);
    cr_assert_eq(truncate(fix.path, object.st_size - 1), 0);
    cr_expect_eq(open_once(), -EBADMSG, "cut short");
    cr_assert_eq(truncate(fix.path, object.st_size + 4096), 0);
    cr_expect_eq(open_once(), -EBADMSG, "too long");
    cr_assert_eq(truncate(fix.path, 100), 0);
    cr_expect_eq(open_once(), -EBADMSG, "not even a header");
    cr_assert_eq(truncate(fix.path, 0), 0);
    cr_expect_eq(open_once(), -EBADMSG, "empty");
    fd = open(fix.path, O_RDWR | O_TRUNC | O_CLOEXEC);
    cr_assert(fd >= 0 && ftruncate(fd, object.st_size) == 0);
    (void)close(fd);
    cr_expect_eq(open_once(), -EPROTO, "all zeros");
}

/* ---- segments that follow each other ---- */

Test(client_attach, retired_segment_is_left_at_once_and_again, .init = begin, .fini = end)
{
    struct flagshm_ref ref;
    uint64_t first;
    int i;

    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    cr_assert_eq(flagshm_resolve(&fs, "f", &ref), 0);
    (void)flagshm_decide(&fs, "f", "u", &d);
    first = d.segment_id;
    for (i = 0; i < 5; i++) {
        uint64_t version = flagshm_segment_version(&segment);

        flagshm_segment_forget(&segment);
        publish(i % 2 ? ONE("100") : ONE("0"));
        cr_assert_eq(flagshm_decide_ref(&fs, &ref, "u", &d), FLAGSHM_STATIC);
        cr_expect_eq(d.arm, (uint32_t)i % 2);
        cr_expect_neq(d.segment_id, first);
        cr_expect_geq(d.version, version, "versions never run back");
        cr_expect_eq(flagshm_rollout_pct(&fs, "f"), i % 2 ? 100.0 : 0.0);
        cr_expect_lt(flagshm_age_ns(&fs), INT64_C(2000000000));
    }
    cr_expect_eq(fs.map_->attachments, 6);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

Test(client_attach, retired_without_a_successor_goes_on_and_turns_stale, .init = begin, .fini = end)
{
    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    cr_assert_eq(unlink(fix.path), 0);
    __atomic_fetch_or(&segment.header->seq, FLAGSHM_SEQ_RETIRED, __ATOMIC_SEQ_CST);
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STATIC, "the last version is kept");
    cr_expect_eq(d.version, 1);
    set_age_ns(INT64_C(11000000000));
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STALE);
    cr_expect_eq(flagshm_decide(&fs, "g", "u", &d), FLAGSHM_STATIC, "a flag that does not ask for control");
    cr_expect_gt(flagshm_age_ns(&fs), INT64_C(10000000000));
    /* a successor appears */
    flagshm_segment_forget(&segment);
    publish(ONE("0"));
    let_a_second_pass();
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STATIC);
    cr_expect_eq(d.arm, 0);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

Test(client_attach, successor_that_is_not_trusted_is_not_followed, .init = begin, .fini = end)
{
    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    flagshm_segment_forget(&segment);
    publish(ONE("0"));
    cr_assert_eq(chmod(fix.path, 0666), 0);
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STATIC);
    cr_expect_eq(d.arm, 1, "still by the old table");
    cr_assert_eq(chmod(fix.path, 0644), 0);
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STATIC);
    cr_expect_eq(d.arm, 1, "one attempt a second");
    let_a_second_pass();
    cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STATIC);
    cr_expect_eq(d.arm, 0);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

/* Removed by hand while no server ran: nobody can retire it any more. One flag and one id are enough to notice. */
static void leave_orphan(void)
{
    struct flagshm_segment other;

    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    set_age_ns(INT64_C(11000000000));
    flagshm_segment_close(&segment);
    memset(&segment, 0, sizeof segment);
    cr_assert_eq(unlink(fix.path), 0);
    memset(&other, 0, sizeof other);
    cr_assert_eq(flagshm_segment_open(&other, &fix.options, &error), 0);
    cr_assert_eq(segment_fixture_publish(&other, ONE("0"), NULL, &error), 0);
    flagshm_segment_close(&other);
}

Test(client_attach, orphan_is_left_by_every_kind_of_question, .init = begin, .fini = end)
{
    struct flagshm_ref ref;
    int i;

    leave_orphan();
    for (i = 0; i < 8; i++) /* in a process of one thread; with more threads the first one */
        cr_expect_eq(flagshm_decide(&fs, "g", "always-the-same", &d), FLAGSHM_STATIC);
    cr_expect_eq(d.arm, 0, "decide");
    flagshm_close(&fs);
    cr_assert_eq(unlink(fix.path), 0);

    leave_orphan();
    for (i = 0; i < 7; i++)
        (void)flagshm_rollout_pct(&fs, "g");
    cr_expect_eq(flagshm_rollout_pct(&fs, "g"), 0.0, "rollout_pct");
    flagshm_close(&fs);
    cr_assert_eq(unlink(fix.path), 0);

    leave_orphan();
    cr_expect_lt(flagshm_age_ns(&fs), INT64_C(10000000000), "age_ns");
    flagshm_close(&fs);
    cr_assert_eq(unlink(fix.path), 0);

    leave_orphan();
    cr_assert_eq(flagshm_resolve(&fs, "g", &ref), 0);
    for (i = 0; i < 32; i++)
        (void)flagshm_decide_ref(&fs, &ref, "always-the-same", &d);
    cr_expect_eq(d.arm, 0, "a reference, after 32 decisions");
    flagshm_close(&fs);
    cr_assert_eq(unlink(fix.path), 0);

    leave_orphan();
    cr_assert_eq(flagshm_resolve(&fs, "g", &ref), 0);
    for (i = 0; i < 31; i++)
        cr_assert_eq(flagshm_rollout_pct_ref(&fs, &ref), i < 30 ? 100.0 : 0.0, "share of a reference, %d", i);
    flagshm_close(&fs);
    cr_assert_eq(unlink(fix.path), 0);

    leave_orphan();
    cr_expect_eq(flagshm_wait(&fs, 1, 0), -ETIMEDOUT, "both are version 1");
    cr_expect_eq(fs.map_->attachments, 2, "wait");
    flagshm_close(&fs);
}

Test(client_attach, sixteen_attachments_are_held_and_what_lies_beyond_is_told, .init = begin, .fini = end)
{
    uint64_t last = 0;
    int i;

    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    for (i = 0; i < 19; i++) {
        if (i == 15)
            set_age_ns(INT64_C(11000000000)); /* nobody beats in the one that it will be left with */
        flagshm_segment_forget(&segment);
        publish(ONE("100"));
        let_a_second_pass();
        (void)flagshm_decide(&fs, "g", "u", &d);
        cr_expect_eq(d.reason, FLAGSHM_STATIC);
        if (i < 15) {
            cr_expect_eq(d.segment_id, segment.header->segment_id, "replacement %d", i + 1);
            last = d.segment_id;
        } else {
            cr_expect_eq(d.segment_id, last, "replacement %d", i + 1);
            cr_expect_gt(flagshm_age_ns(&fs), INT64_C(10000000000), "it says so");
            cr_expect_eq(flagshm_decide(&fs, "f", "u", &d), FLAGSHM_STALE);
        }
    }
    cr_expect_eq(fs.map_->attachments, FLAGSHM_ATTACHMENTS_MAX);
    flagshm_close(&fs);
    cr_assert_eq(flagshm_open(&fs, NULL), 0, "opened again");
    (void)flagshm_decide(&fs, "g", "u", &d);
    cr_expect_eq(d.segment_id, segment.header->segment_id);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

/* ---- waiting ---- */

/* A child that publishes after so many milliseconds. */
static pid_t publish_later(int ms, const char *text, bool in_new_segment)
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)usleep((useconds_t)ms * 1000);
        if (in_new_segment)
            flagshm_segment_forget(&segment);
        if (segment.lock_fd <= 0 && flagshm_segment_open(&segment, &fix.options, &error) != 0)
            _exit(1);
        _exit(segment_fixture_publish(&segment, text, NULL, &error) != 0);
    }
    cr_assert_gt(pid, 0);
    return pid;
}

static void expect_done(pid_t pid)
{
    int status = -1;

    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

Test(client_attach, wait_ends_with_the_publish_of_another_process, .init = begin, .fini = end)
{
    uint64_t begun;
    pid_t pid;

    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    cr_expect_eq(flagshm_wait(&fs, 0, 0), 0, "another version than 0 is there");
    begun = mono_ns();
    cr_expect_eq(flagshm_wait(&fs, 1, 50), -ETIMEDOUT);
    cr_expect_geq(mono_ns() - begun, 50000000u);
    begun = mono_ns();
    pid = publish_later(30, ONE("0"), false);
    cr_expect_eq(flagshm_wait(&fs, 1, 20000), 0);
    cr_expect_lt(mono_ns() - begun, UINT64_C(900000000), "woken, not found at the next look of each second");
    cr_expect_eq(flagshm_version(&fs), 2);
    expect_done(pid);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

Test(client_attach, wait_follows_to_a_new_segment, .init = begin, .fini = end)
{
    uint64_t begun = mono_ns();
    pid_t pid;

    publish(ONE("100"));
    publish(ONE("50"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    pid = publish_later(30, ONE("0"), true);
    cr_expect_eq(flagshm_wait(&fs, flagshm_version(&fs), 20000), 0);
    cr_expect_lt(mono_ns() - begun, UINT64_C(900000000));
    cr_expect_eq(fs.map_->attachments, 2);
    expect_done(pid);
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}

Test(client_attach, wait_without_a_table_ends_when_the_server_comes, .init = begin, .fini = end)
{
    uint64_t begun = mono_ns();
    pid_t pid;

    cr_assert_eq(flagshm_open(&fs, NULL), -ENOENT);
    cr_expect_eq(flagshm_wait(&fs, 0, 20), -ETIMEDOUT);
    pid = publish_later(30, ONE("100"), false);
    cr_expect_eq(flagshm_wait(&fs, 0, 20000), 0);
    cr_expect_lt(mono_ns() - begun, UINT64_C(8000000000));
    cr_expect_eq(flagshm_version(&fs), 1);
    expect_done(pid);
    flagshm_close(&fs);
}

static void on_alarm(int signal)
{
    (void)signal;
    /* all but open, close and wait may be called here */
    (void)flagshm_decide(&fs, "f", "u", &d);
}

Test(client_attach, signals_do_not_end_a_wait, .init = begin, .fini = end)
{
    struct sigaction action = {.sa_handler = on_alarm};
    uint64_t begun;

    publish(ONE("100"));
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    cr_assert_eq(sigaction(SIGALRM, &action, NULL), 0);
    begun = mono_ns();
    (void)ualarm(5000, 5000);
    cr_expect_eq(flagshm_wait(&fs, 1, 100), -ETIMEDOUT);
    (void)ualarm(0, 0);
    cr_expect_geq(mono_ns() - begun, 100000000u);
    cr_expect_eq(d.reason, FLAGSHM_STATIC, "no signal came");
    flagshm_close(&fs);
    flagshm_segment_close(&segment);
}
