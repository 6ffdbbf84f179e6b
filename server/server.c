/* server: see the header. */
#include "server/server.h"
#include "server/clock.h"
#include "server/log.h"
#include "server/systemd.h"
#include "server/verbs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define RETRY_NS                                                                                             \
    UINT64_C(5000000000) /* a table that could not be published (no room, no memory) is tried again */

#define ARM_NS UINT64_C(1000000) /* the doorbell rings no oftener */

enum source {
    SOURCE_TIMER,
    SOURCE_SIGNAL,
    SOURCE_WATCH,
    SOURCE_CONTROL,
    SOURCE_DISK,
    SOURCE_DOORBELL,
    SOURCE_JOURNAL,
    SOURCE_NOTIFY,
    SOURCES
};

struct server {
    struct flagshm_publisher publisher;
    struct flagshm_watch *watch;
    struct flagshm_control *control; /* NULL: no socket could be made */
    struct flagshm_governor *governor;
    struct flagshm_verbs verbs;
    const struct flagshm_server_options *options;
    int epoll_fd, timer_fd, signal_fd;
    uint64_t armed_mono_ns;
    bool is_armed; /* as far as we know: a segment that is made anew begins unarmed */
    uint64_t period_ns;
    uint64_t retry_mono_ns;             /* 0: nothing to retry */
    char health[512];                   /* of the journal, as last told */
    struct flagshm_error control_fault; /* why there is no control socket, as last told */
    bool is_ending;
    int result; /* 0: was told to end; else why it must */
    struct flagshm_error *error;
};

/* ---- the file ---- */

/* An unusable text may be half-written: it is believed only where it stays. */
static void take_text(struct server *s, const struct flagshm_watch_report *report)
{
    enum flagshm_taken taken =
        flagshm_publisher_take(&s->publisher, report->text, report->bytes, report->is_settled);

    if (taken == FLAGSHM_TAKEN_UNUSABLE && !report->is_settled)
        flagshm_watch_doubt(s->watch, flagshm_mono_ns());
    s->retry_mono_ns = taken == FLAGSHM_TAKEN_FAILED ? flagshm_mono_ns() + RETRY_NS : 0;
}

static void look_at_file(struct server *s)
{
    struct flagshm_watch_report report;

    flagshm_watch_work(s->watch, flagshm_mono_ns(), &report);
    if (report.news == FLAGSHM_WATCH_TEXT)
        take_text(s, &report);
    else if (report.news == FLAGSHM_WATCH_GONE)
        flagshm_publisher_file_gone(&s->publisher, report.error.text);
}

static void reload(struct server *s)
{
    flagshm_watch_again(s->watch);
    look_at_file(s);
}

/* ---- what happens ---- */

static void tell_systemd(struct server *s, const char *first)
{
    size_t flags = s->publisher.has_good ? s->publisher.good.count : 0;

    (void)flagshm_systemd_notify(
        "%sSTATUS=version %llu, %zu flag%s%s", first,
        (unsigned long long)flagshm_segment_version(&s->publisher.segment), flags, flags == 1 ? "" : "s",
        s->publisher.file_state == FLAGSHM_FILE_GOOD ? "" : "; the flag file is not good");
}

/* A journal that cannot be written stops nothing, but somebody must know: once when it begins, once when it ends. */
static void tell_health(struct server *s)
{
    char now[sizeof s->health];

    flagshm_journal_health(s->publisher.journal, now, sizeof now);
    if (strcmp(now, s->health) == 0)
        return;
    if (now[0] != '\0')
        flagshm_log(FLAGSHM_LOG_WARNING, "journal: %s", now);
    else
        flagshm_log(FLAGSHM_LOG_NOTICE, "journal: all is well again");
    memcpy(s->health, now, sizeof now);
}

static int listen_to(struct server *s, int fd, enum source source)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = source}};

    if (fd < 0)
        return 0;
    return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

/* ---- the control socket ---- */

static int open_control(struct server *s, struct flagshm_error *error)
{
    int result = flagshm_control_open(&s->control, s->options->socket_path, s->options->admin_group,
                                      flagshm_verbs_answer, &s->verbs, error);

    if (result == 0 && (result = listen_to(s, flagshm_control_fd(s->control), SOURCE_CONTROL)) != 0) {
        flagshm_error_set(error, result, "cannot watch the control socket: %s", strerror(-result));
        flagshm_control_close(s->control);
        s->control = NULL;
    }
    s->verbs.control = s->control;
    return result;
}

/* Each beat: a socket that could not be made, or has been swept away since, is made as soon as that is possible. */
static void mind_control(struct server *s)
{
    struct flagshm_error error = {{0}};
    int result;

    if (s->control != NULL) {
        flagshm_control_tick(s->control, flagshm_mono_ns());
        result = flagshm_control_mend(s->control, &error);
        if (result > 0)
            flagshm_log(FLAGSHM_LOG_WARNING, "%s was removed by somebody, and is made anew",
                        s->options->socket_path);
    } else {
        result = open_control(s, &error);
        if (result == 0 && s->control_fault.text[0] != '\0')
            flagshm_log(FLAGSHM_LOG_NOTICE, "the control socket %s is there now", s->options->socket_path);
    }
    if (result < 0 && strcmp(error.text, s->control_fault.text) != 0)
        flagshm_log(
            FLAGSHM_LOG_ERROR,
            "no control socket: %s; flags are served, and `flagctl kill` works by its file within a second",
            error.text);
    s->control_fault = error;
}

/* ---- the doorbell ---- */

/* Before the loop sleeps: clients may ring once, but no oftener than each millisecond. What came before it was armed is looked
 * at now. */
static void arm_doorbell(struct server *s)
{
    uint64_t now = flagshm_mono_ns();

    if (s->is_armed || now - s->armed_mono_ns < ARM_NS)
        return;
    s->armed_mono_ns = now;
    s->is_armed = true;
    flagshm_ledger_arm(&s->publisher.ledger);
    flagshm_governor_news(s->governor);
}

static void on_doorbell(struct server *s)
{
    s->is_armed = false;
    flagshm_ledger_rung(&s->publisher.ledger);
    flagshm_governor_news(s->governor);
}

static void on_timer(struct server *s)
{
    uint64_t count;

    if (read(s->timer_fd, &count, sizeof count) < 0)
        return;
    s->result = flagshm_publisher_beat(&s->publisher, s->error);
    if (s->result != 0) {
        s->is_ending = true;
        return;
    }
    flagshm_governor_beat(s->governor);
    s->is_armed = false; /* once a second without being asked: rings may get lost, news may not */
    mind_control(s);
    if (s->retry_mono_ns != 0 && flagshm_mono_ns() >= s->retry_mono_ns) {
        s->retry_mono_ns = 0;
        flagshm_watch_again(s->watch);
    }
    tell_health(s);
    tell_systemd(s, "WATCHDOG=1\n");
}

static void on_hangup(struct server *s)
{
    (void)flagshm_systemd_notify("RELOADING=1\nMONOTONIC_USEC=%llu",
                                 (unsigned long long)(flagshm_mono_ns() / 1000));
    flagshm_log(FLAGSHM_LOG_INFO, "SIGHUP: reading the file again");
    reload(s);
    tell_systemd(s, "READY=1\n");
}

static void on_signal(struct server *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            on_hangup(s);
        else
            s->is_ending = true;
    }
}

static void on_disk(struct server *s)
{
    struct flagshm_disk_job job;

    while (flagshm_disk_take(s->publisher.disk, &job))
        flagshm_verbs_disk_done(&s->verbs, &job);
}

static void serve_event(struct server *s, enum source source)
{
    switch (source) {
    case SOURCE_TIMER:
        on_timer(s);
        break;
    case SOURCE_SIGNAL:
        on_signal(s);
        break;
    case SOURCE_WATCH:
        look_at_file(s);
        break;
    case SOURCE_CONTROL:
        flagshm_control_work(s->control);
        break;
    case SOURCE_DISK:
        on_disk(s);
        break;
    case SOURCE_DOORBELL:
        on_doorbell(s);
        break;
    case SOURCE_JOURNAL:
        flagshm_governor_journal_done(s->governor);
        break;
    case SOURCE_NOTIFY:
        flagshm_governor_notify_done(s->governor);
        break;
    case SOURCES:
        break;
    }
}

/* Milliseconds until the watch wants to be called, rounded up so that it is not called too early. */
static int until_deadline(const struct server *s)
{
    uint64_t deadline = flagshm_watch_deadline(s->watch), now = flagshm_mono_ns(), left;

    if (!s->is_armed && deadline > s->armed_mono_ns + ARM_NS)
        deadline = s->armed_mono_ns + ARM_NS;
    if (deadline <= now)
        return 0;
    left = (deadline - now + 999999) / 1000000;
    return left > 60000 ? 60000 : (int)left;
}

static int loop(struct server *s, struct flagshm_error *error)
{
    struct epoll_event events[SOURCES];
    int count, i;

    while (!s->is_ending) {
        arm_doorbell(s);
        count = epoll_wait(s->epoll_fd, events, SOURCES, until_deadline(s));
        if (count < 0 && errno != EINTR)
            return flagshm_error_set(error, -errno, "epoll_wait: %s", strerror(errno));
        for (i = 0; i < count; i++)
            serve_event(s, (enum source)events[i].data.u32);
        if (flagshm_watch_deadline(s->watch) <= flagshm_mono_ns())
            look_at_file(s);
        if (s->verbs.wants_reload) {
            s->verbs.wants_reload = false;
            reload(s);
        }
        flagshm_governor_work(s->governor);
    }
    return s->result;
}

/* ---- start and end ---- */

/* Signals are blocked before any thread begins, so that only the loop sees them. */
static int open_events(struct server *s, struct flagshm_error *error)
{
    struct itimerspec every = {{0, 0}, {0, 0}};
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like a full disk */
    every.it_interval.tv_sec = every.it_value.tv_sec = (time_t)(s->period_ns / 1000000000u);
    every.it_interval.tv_nsec = every.it_value.tv_nsec = (long)(s->period_ns % 1000000000u);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->signal_fd < 0 || s->timer_fd < 0 ||
        timerfd_settime(s->timer_fd, 0, &every, NULL) != 0)
        return flagshm_error_set(error, -errno, "cannot set up the event loop: %s", strerror(errno));
    return 0;
}

/* The first table: from the file where it is usable, else from the last good set, else an empty one; an adopted table is
 * never blanked. */
static int publish_first(struct server *s, struct flagshm_error *error)
{
    struct flagshm_publisher *p = &s->publisher;

    look_at_file(s);
    if (!p->has_published && (p->has_good || p->segment.header == NULL) && flagshm_publisher_publish(p) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", p->refusal.text);
    if (p->segment.header == NULL)
        return flagshm_error_set(error, -ENOSPC, "%s", p->refusal.text);
    return flagshm_publisher_beat(p, error);
}

static int open_governor(struct server *s, const struct flagshm_server_options *options,
                         struct flagshm_error *error)
{
    const struct flagshm_governor_options governor = {.publisher = &s->publisher,
                                                      .instance = options->instance,
                                                      .notify_dir = options->notify_dir,
                                                      .answer = flagshm_verbs_answer_late,
                                                      .context = &s->verbs};

    return flagshm_governor_open(&s->governor, &governor, error);
}

static int start(struct server *s, const struct flagshm_server_options *options, struct flagshm_error *error)
{
    struct flagshm_error watch_error = {{0}};
    int result = open_events(s, error);

    if (result == 0)
        result = flagshm_publisher_open(&s->publisher, &options->publisher, error);
    if (result == 0)
        result = open_governor(s, options, error);
    if (result == 0)
        result = flagshm_watch_open(&s->watch, options->publisher.file_path, &watch_error);
    if (result != 0)
        return watch_error.text[0] != '\0' ? flagshm_error_set(error, result, "%s", watch_error.text)
                                           : result;
    if (watch_error.text[0] != '\0')
        flagshm_log(FLAGSHM_LOG_WARNING, "%s", watch_error.text);
    result = publish_first(s, error);
    if (result != 0)
        return result;
    s->verbs = (struct flagshm_verbs){.publisher = &s->publisher,
                                      .governor = s->governor,
                                      .watch = s->watch,
                                      .notify_dir = options->notify_dir,
                                      .started_realtime_ns = flagshm_realtime_ns()};
    flagshm_governor_work(s->governor); /* what the start itself has changed */
    mind_control(s);
    result = listen_to(s, s->timer_fd, SOURCE_TIMER);
    if (result == 0)
        result = listen_to(s, s->signal_fd, SOURCE_SIGNAL);
    if (result == 0)
        result = listen_to(s, flagshm_watch_fd(s->watch), SOURCE_WATCH);
    if (result == 0)
        result = listen_to(s, flagshm_disk_fd(s->publisher.disk), SOURCE_DISK);
    if (result == 0)
        result = listen_to(s, s->publisher.ledger.bell_fd, SOURCE_DOORBELL);
    if (result == 0)
        result = listen_to(s, flagshm_journal_fd(s->publisher.journal), SOURCE_JOURNAL);
    if (result == 0)
        result = listen_to(s, flagshm_governor_notify_fd(s->governor), SOURCE_NOTIFY);
    if (result != 0)
        return flagshm_error_set(error, result, "cannot set up the event loop: %s", strerror(-result));
    return 0;
}

static void end(struct server *s)
{
    if (s->control != NULL)
        flagshm_control_close(s->control);
    if (s->watch != NULL)
        flagshm_watch_close(s->watch);
    flagshm_governor_close(s->governor);
    flagshm_publisher_close(&s->publisher);
    close(s->timer_fd);
    close(s->signal_fd);
    close(s->epoll_fd);
}

int flagshm_server_run(const struct flagshm_server_options *options, struct flagshm_error *error)
{
    uint64_t watchdog_ns = flagshm_systemd_watchdog_ns();
    struct server s = {.options = options, .error = error, .epoll_fd = -1, .timer_fd = -1, .signal_fd = -1};
    int result;

    s.period_ns = options->publisher.segment.period_ns;
    if (watchdog_ns != 0 && watchdog_ns < s.period_ns)
        s.period_ns = watchdog_ns;
    s.publisher.segment.lock_fd = s.publisher.segment.fd = -1;
    result = start(&s, options, error);
    if (result == 0) {
        flagshm_journal_event(s.publisher.journal, flagshm_realtime_ns(), "start", NULL, NULL,
                              "release " FLAGSHM_VERSION);
        flagshm_log(FLAGSHM_LOG_NOTICE, "serving %s as %s, version %llu", options->publisher.file_path,
                    s.publisher.segment.path,
                    (unsigned long long)flagshm_segment_version(&s.publisher.segment));
        tell_systemd(&s, "READY=1\n");
        result = loop(&s, error);
        (void)flagshm_systemd_notify("STOPPING=1");
        flagshm_journal_event(s.publisher.journal, flagshm_realtime_ns(), "stop", NULL, NULL, NULL);
        flagshm_log(FLAGSHM_LOG_NOTICE, "stopping; readers go on with version %llu",
                    (unsigned long long)flagshm_segment_version(&s.publisher.segment));
    }
    end(&s);
    return result;
}
