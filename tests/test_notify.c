/* notify: programs are run, killed and judged, reports come, and nobody waits. Webhooks: tests/cli/notify.sh. */
#include "server/clock.h"
#include "server/notify.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct flagshm_notify *notify;
static struct flagshm_notify_report report;
static struct flagshm_error error;

static void set_up(void)
{
    struct flagshm_notify_options options = {.dir = dir, .instance = "test"};

    (void)snprintf(dir, sizeof dir, "/tmp/flagshm-notify-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(flagshm_notify_open(&notify, &options, &error), 0, "%s", error.text);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status;
    (void)kind;
    (void)at;
    return remove(path);
}

static void tear_down(void)
{
    flagshm_notify_close(notify);
    (void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(notify, .init = set_up, .fini = tear_down);

static const char *path_of(const char *name)
{
    static char path[100];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* A target that runs `script`, where $1 is the directory. */
static void make_target(const char *name, const char *script, const char *more)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert(fd >= 0);
    cr_assert_gt(
        dprintf(fd, "{\"argv\": [\"/bin/sh\", \"-c\", \"%s\", \"sh\", \"%s\"]%s}", script, dir, more), 0);
    (void)close(fd);
}

static void give(const char *id, const char *target, const char *body)
{
    flagshm_notify_give(notify, id, target, body, flagshm_realtime_ns());
}

static void take(const char *id, const char *target)
{
    struct pollfd entry = {.fd = flagshm_notify_fd(notify), .events = POLLIN};

    cr_assert_eq(poll(&entry, 1, 20000), 1, "no report of %s for %s", id, target);
    cr_assert(flagshm_notify_take(notify, &report));
    cr_assert_str_eq(report.id, id);
    cr_assert_str_eq(report.target, target);
}

static bool is_readable(void)
{
    struct pollfd entry = {.fd = flagshm_notify_fd(notify), .events = POLLIN};

    return poll(&entry, 1, 0) == 1;
}

static const char *read_file(const char *name)
{
    static char text[200000];
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

    text[bytes > 0 ? bytes : 0] = '\0';
    (void)close(fd);
    return text;
}

Test(notify, a_program_gets_the_notice_and_little_else)
{
    static const char expected[] = "FLAGSHM_INSTANCE=test\nFLAGSHM_NOTICE_ID=n1\n"
                                   "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";

    make_target(
        "oncall",
        "cat >$1/body; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort >$1/env; ls /proc/self/fd >$1/fds",
        "");
    give("n1", "oncall", "{\"text\": \"ready\"}");
    take("n1", "oncall");
    cr_assert(report.is_delivered, "%s", report.error.text);
    cr_assert_eq(report.tries, 1);
    cr_assert_str_empty(report.error.text);
    cr_assert_str_eq(read_file("body"), "{\"text\": \"ready\"}");
    cr_assert_str_eq(read_file("env"), expected);
    cr_assert_str_eq(read_file("fds"), "0\n1\n2\n3\n", "3 is that of ls");
    cr_assert_not(is_readable());
    cr_assert_not(flagshm_notify_take(notify, &report));
}

Test(notify, a_program_inherits_no_signal_that_the_server_blocks_or_ignores)
{
    unsigned long long blocked;
    char *ignored;

    cr_assert_neq(signal(SIGPIPE, SIG_IGN), SIG_ERR);
    make_target("oncall", "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f 2 >$1/signals", "");
    give("n1", "oncall", "{}");
    take("n1", "oncall");
    cr_assert(report.is_delivered, "%s", report.error.text);
    blocked = strtoull(read_file("signals"), &ignored, 16);
    cr_assert_eq(blocked, 0);
    /* glibc's posix_spawn leaves its own two, 32 and 33, ignored */
    cr_assert_eq(strtoull(ignored, NULL, 16) & 0x7fffffff, 0);
}

Test(notify, a_program_that_does_not_read_takes_a_large_notice_too)
{
    char *body = malloc(150000);

    cr_assert_not_null(body);
    memset(body, 'x', 149999);
    body[149999] = '\0';
    make_target("deaf", "exit 0", "");
    make_target("reader", "cat >$1/body", "");
    give("n1", "deaf", body);
    take("n1", "deaf");
    cr_assert(report.is_delivered, "%s", report.error.text);
    give("n1", "reader", body);
    take("n1", "reader");
    cr_assert(report.is_delivered, "%s", report.error.text);
    cr_assert_str_eq(read_file("body"), body);
    free(body);
}

Test(notify, a_program_that_fails_is_run_again_with_the_same_id)
{
    make_target("oncall", "echo $FLAGSHM_NOTICE_ID >>$1/ids; test $(wc -l <$1/ids) -ge 2", "");
    give("n1", "oncall", "{}");
    take("n1", "oncall");
    cr_assert(!report.is_delivered && !report.is_given_up);
    cr_assert_str_eq(report.error.text, "/bin/sh ended with exit code 1");
    take("n1", "oncall");
    cr_assert(report.is_delivered);
    cr_assert_eq(report.tries, 2);
    cr_assert_str_eq(read_file("ids"), "n1\nn1\n");
}

Test(notify, a_program_that_is_ended_by_a_signal_has_failed)
{
    make_target("oncall", "kill -TERM $$", "");
    give("n1", "oncall", "{}");
    take("n1", "oncall");
    cr_assert_not(report.is_delivered);
    cr_assert_str_eq(report.error.text, "/bin/sh was ended by signal 15");
}

static void expect_gone(const char *pid_file)
{
    pid_t pid = (pid_t)atoi(read_file(pid_file));
    uint64_t until_ns = flagshm_mono_ns() + UINT64_C(10000000000);
    char path[64], state[200] = "";

    cr_assert_gt(pid, 1);
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    /* a child of a dead parent may stay as a zombie until whoever took it over looks */
    for (;;) {
        FILE *file = fopen(path, "re");
        const char *end;

        state[0] = '\0';
        if (file != NULL) {
            (void)!fgets(state, sizeof state, file);
            (void)fclose(file);
        }
        end = strrchr(state, ')');
        if (end == NULL || end[2] == 'Z' || flagshm_mono_ns() > until_ns)
            break;
        (void)poll(NULL, 0, 5);
    }
    cr_assert(state[0] == '\0' || strstr(state, ") Z") != NULL, "it lives: %s", state);
}

Test(notify, a_program_that_hangs_is_killed_with_its_children_and_holds_up_nobody)
{
    make_target("hangs", "trap : TERM INT HUP; sleep 1000 & echo $! >$1/child; echo $$ >$1/pid; wait; wait",
                ", \"timeout_s\": 1");
    make_target("works", "exit 0", "");
    give("n1", "hangs", "{}");
    give("n1", "works", "{}");
    take("n1", "works");
    give("n2", "works", "{}");
    take("n2", "works");
    take("n1", "hangs");
    cr_assert(!report.is_delivered && !report.is_given_up);
    cr_assert_str_eq(report.error.text,
                     "/bin/sh did not end within 1 s and was killed: mend it, or give it a longer "
                     "\"timeout_s\"");
    expect_gone("pid");
    expect_gone("child");
}

Test(notify, the_end_kills_what_runs_and_does_not_wait_for_it)
{
    uint64_t begin_ns;

    make_target("hangs", "sleep 1000 & echo $! >$1/child; echo $$ >$1/new; mv $1/new $1/pid; wait", "");
    give("n1", "hangs", "{}");
    for (begin_ns = flagshm_mono_ns(); access(path_of("pid"), F_OK) != 0;) {
        cr_assert_lt(flagshm_mono_ns() - begin_ns, UINT64_C(20000000000));
        (void)poll(NULL, 0, 5);
    }
    flagshm_notify_close(notify);
    notify = NULL;
    expect_gone("pid");
    expect_gone("child");
}

Test(notify, a_target_that_is_not_there_is_said_at_once_and_mended_by_its_file)
{
    give("n1", "oncall", "{}");
    take("n1", "oncall");
    cr_assert(!report.is_delivered && !report.is_given_up);
    cr_assert_not_null(strstr(report.error.text, "there is no such file"), "%s", report.error.text);
    make_target("oncall", "exit 0", "");
    take("n1", "oncall");
    cr_assert(report.is_delivered);
    cr_assert_geq(report.tries, 2);
}

Test(notify, an_old_notice_is_given_up_after_one_try)
{
    make_target("oncall", "exit 3", "");
    flagshm_notify_give(notify, "n1", "oncall", "{}", 0);
    take("n1", "oncall");
    cr_assert(report.is_given_up && !report.is_delivered);
    cr_assert_str_eq(report.error.text, "/bin/sh ended with exit code 3");
    cr_assert_eq(report.tries, 1);
}

Test(notify, many_notices_for_many_targets_all_arrive_and_each_once)
{
    char target[16], id[16];
    unsigned i, delivered[80] = {0};

    for (i = 0; i < 80; i++) { /* more than are tried at a time */
        (void)snprintf(target, sizeof target, "t%u", i);
        make_target(target, "exit 0", "");
        (void)snprintf(id, sizeof id, "n%u", i);
        give(id, target, "{}");
        give(id, target, "{}");
    }
    for (i = 0; i < 80; i++) {
        struct pollfd entry = {.fd = flagshm_notify_fd(notify), .events = POLLIN};

        cr_assert_eq(poll(&entry, 1, 20000), 1);
        cr_assert(flagshm_notify_take(notify, &report));
        cr_assert(report.is_delivered, "%s", report.error.text);
        delivered[atoi(report.target + 1)]++;
    }
    for (i = 0; i < 80; i++)
        cr_expect_eq(delivered[i], 1, "t%u", i);
    cr_assert_not(is_readable());
}

Test(notify, closing_nothing_is_fine)
{
    flagshm_notify_close(NULL);
}
