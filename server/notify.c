/* notify: see the header. Callers' side and thread; what is due when is notify_queue's, a try is notify_web's or notify_program's.
 *
 * One mutex, held for no longer than a walk over the queue. A notice that is being tried stays in place, so the thread reads its texts
 * without the mutex.
 */
#include "server/notify.h"

#include "server/clock.h"
#include "server/notify_attempt.h"
#include "server/notify_queue.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define CLOSE_NS       (3 * UINT64_C(1000000000))
#define LOOK_AGAIN_MS  50    /* at a program that this kernel does not tell of */
#define WAIT_MS_MAX    60000 /* for nothing in particular */
#define NS_OF_A_MS     UINT64_C(1000000)
#define PAUSE_ON_FAULT ((struct timespec){.tv_nsec = 100000000})

struct flagshm_notify {
    pthread_mutex_t mutex;
    pthread_cond_t has_news; /* CLOCK_MONOTONIC; that the thread has ended */
    pthread_t thread;
    char *dir, *instance;
    int fd;
    CURLM *multi;

    /* Under the mutex. */
    struct notify_queue queue;
    bool is_ending, has_ended;

    /* The thread's own. */
    struct notify_attempt attempts[NOTIFY_FLYING_MAX];
};

/* ---- the thread ---- */

/* Under the mutex. */
static void tell(struct flagshm_notify *notify)
{
    uint64_t one = 1;

    if (notify->queue.first_report != NULL)
        (void)!write(notify->fd, &one, sizeof one); /* full: it is readable already */
}

static double chance(void)
{
    uint32_t word = 0;

    if (getrandom(&word, sizeof word, GRND_NONBLOCK) != (ssize_t)sizeof word)
        word = (uint32_t)flagshm_mono_ns();
    return word / 4294967296.0;
}

static void finish(struct flagshm_notify *notify, struct notify_attempt *attempt, int result,
                   const struct flagshm_error *error)
{
    notify_target_free(&attempt->target);
    pthread_mutex_lock(&notify->mutex);
    if (result == 0)
        notify_queue_delivered(&notify->queue, attempt->notice);
    else
        notify_queue_failed(&notify->queue, attempt->notice, error, flagshm_mono_ns(), chance());
    tell(notify);
    pthread_mutex_unlock(&notify->mutex);
    attempt->notice = NULL;
}

static void begin(struct flagshm_notify *notify, struct notify_attempt *attempt, struct notify_notice *notice)
{
    struct flagshm_error error = {""};
    int result = notify_target_read(&attempt->target, notify->dir, notice->target, &error);

    attempt->notice = notice;
    if (result == 0)
        result = attempt->target.url != NULL
                     ? notify_web_begin(attempt, notify->multi,
                                        (int64_t)(flagshm_realtime_ns() / 1000000000u), &error)
                     : notify_program_begin(attempt, notify->instance, flagshm_mono_ns(), &error);
    if (result != 0)
        finish(notify, attempt, result, &error);
}

static struct notify_attempt *free_attempt(struct flagshm_notify *notify)
{
    size_t i;

    for (i = 0; i < NOTIFY_FLYING_MAX; i++)
        if (notify->attempts[i].notice == NULL)
            return &notify->attempts[i];
    return NULL;
}

/* When to look at the queue again. */
static uint64_t begin_all(struct flagshm_notify *notify)
{
    uint64_t due_ns = 0;

    while (due_ns == 0) {
        struct notify_attempt *attempt = free_attempt(notify);
        struct notify_notice *notice = NULL;

        pthread_mutex_lock(&notify->mutex);
        if (attempt != NULL && !notify->is_ending)
            notice = notify_queue_next(&notify->queue, flagshm_mono_ns());
        if (notice == NULL)
            due_ns = notify_queue_due_ns(&notify->queue);
        pthread_mutex_unlock(&notify->mutex);
        if (notice == NULL)
            break;
        begin(notify, attempt, notice);
    }
    return due_ns;
}

static void end_webhooks(struct flagshm_notify *notify)
{
    const CURLMsg *message;
    int left;

    (void)curl_multi_perform(notify->multi, &left);
    while ((message = curl_multi_info_read(notify->multi, &left)) != NULL) {
        struct flagshm_error error = {""};
        struct notify_attempt *attempt = NULL;
        char *user = NULL;

        if (message->msg != CURLMSG_DONE ||
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user) != CURLE_OK || user == NULL)
            continue;
        attempt = (struct notify_attempt *)(void *)user;
        finish(notify, attempt, notify_web_end(attempt, notify->multi, message->data.result, &error), &error);
    }
}

static void end_programs(struct flagshm_notify *notify)
{
    size_t i;

    for (i = 0; i < NOTIFY_FLYING_MAX; i++) {
        struct notify_attempt *attempt = &notify->attempts[i];
        struct flagshm_error error = {""};
        int result = 0;

        if (attempt->pid != 0 && notify_program_look(attempt, flagshm_mono_ns(), &result, &error))
            finish(notify, attempt, result, &error);
    }
}

/* Until something is due, a program has ended or must, the network moves, or somebody wakes us. */
static void wait_until(struct flagshm_notify *notify, uint64_t due_ns)
{
    struct curl_waitfd fds[NOTIFY_FLYING_MAX];
    uint64_t now_ns = flagshm_mono_ns();
    int wait_ms = WAIT_MS_MAX;
    unsigned count = 0;
    size_t i;

    for (i = 0; i < NOTIFY_FLYING_MAX; i++) {
        const struct notify_attempt *attempt = &notify->attempts[i];

        if (attempt->pid == 0)
            continue;
        if (attempt->kill_ns < due_ns)
            due_ns = attempt->kill_ns;
        if (attempt->pid_fd >= 0)
            fds[count++] = (struct curl_waitfd){.fd = attempt->pid_fd, .events = CURL_WAIT_POLLIN};
        else
            wait_ms = LOOK_AGAIN_MS;
    }
    if (due_ns <= now_ns)
        wait_ms = 0;
    else if ((due_ns - now_ns) / NS_OF_A_MS < (uint64_t)wait_ms)
        wait_ms = (int)((due_ns - now_ns) / NS_OF_A_MS) + 1;
    if (curl_multi_poll(notify->multi, fds, count, wait_ms, NULL) != CURLM_OK)
        (void)nanosleep(&PAUSE_ON_FAULT, NULL);
}

static bool is_ending(struct flagshm_notify *notify)
{
    bool is_it;

    pthread_mutex_lock(&notify->mutex);
    is_it = notify->is_ending;
    pthread_mutex_unlock(&notify->mutex);
    return is_it;
}

static void break_off(struct flagshm_notify *notify)
{
    size_t i;

    for (i = 0; i < NOTIFY_FLYING_MAX; i++) {
        struct notify_attempt *attempt = &notify->attempts[i];

        if (attempt->pid != 0)
            notify_program_break_off(attempt);
        if (attempt->easy != NULL)
            notify_web_break_off(attempt, notify->multi);
        if (attempt->notice != NULL)
            notify_target_free(&attempt->target);
    }
}

static void *serve(void *argument)
{
    struct flagshm_notify *notify = argument;

    while (!is_ending(notify)) {
        end_webhooks(notify);
        end_programs(notify);
        wait_until(notify, begin_all(notify));
    }
    break_off(notify);
    pthread_mutex_lock(&notify->mutex);
    notify->has_ended = true;
    pthread_cond_signal(&notify->has_news);
    pthread_mutex_unlock(&notify->mutex);
    return NULL;
}

/* ---- open and close ---- */

static void destroy(struct flagshm_notify *notify)
{
    if (notify->multi != NULL)
        (void)curl_multi_cleanup(notify->multi);
    if (notify->fd >= 0)
        (void)close(notify->fd);
    notify_queue_free(&notify->queue);
    free(notify->dir);
    free(notify->instance);
    pthread_cond_destroy(&notify->has_news);
    pthread_mutex_destroy(&notify->mutex);
    free(notify);
}

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static CURLcode library_code = CURLE_FAILED_INIT;

static void begin_library(void)
{
    library_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static struct flagshm_notify *make(const struct flagshm_notify_options *options)
{
    struct flagshm_notify *notify = calloc(1, sizeof *notify);
    pthread_condattr_t attributes;

    if (notify == NULL)
        return NULL;
    pthread_mutex_init(&notify->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&notify->has_news, &attributes);
    pthread_condattr_destroy(&attributes);
    notify->fd = -1;
    notify->dir = strdup(options->dir != NULL ? options->dir : FLAGSHM_NOTIFY_DIR);
    notify->instance = strdup(options->instance);
    notify->multi = library_code == CURLE_OK ? curl_multi_init() : NULL;
    if (notify->dir != NULL && notify->instance != NULL && notify->multi != NULL)
        return notify;
    destroy(notify);
    return NULL;
}

/* Signals belong to the server's loop. */
static int start_thread(struct flagshm_notify *notify)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&notify->thread, NULL, serve, notify);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -code;
}

int flagshm_notify_open(struct flagshm_notify **out, const struct flagshm_notify_options *options,
                        struct flagshm_error *error)
{
    struct flagshm_notify *notify;
    int result;

    *out = NULL;
    (void)pthread_once(&library_once, begin_library);
    notify = make(options);
    if (notify == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory for the notices");
    notify->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    result = notify->fd >= 0 ? start_thread(notify) : -errno;
    if (result != 0) {
        destroy(notify);
        return flagshm_error_set(error, result, "no thread for the notices: %s", strerror(-result));
    }
    *out = notify;
    return 0;
}

/* A thread that hangs in a name server or a disk cannot be joined: it keeps its memory, and the process may end. */
void flagshm_notify_close(struct flagshm_notify *notify)
{
    uint64_t until_ns = flagshm_mono_ns() + CLOSE_NS;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    bool has_ended;
    int code = 0;

    if (notify == NULL)
        return;
    pthread_mutex_lock(&notify->mutex);
    notify->is_ending = true;
    (void)curl_multi_wakeup(notify->multi);
    while (!notify->has_ended && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&notify->has_news, &notify->mutex, &until);
    has_ended = notify->has_ended;
    pthread_mutex_unlock(&notify->mutex);
    if (!has_ended) {
        (void)pthread_detach(notify->thread);
        return;
    }
    (void)pthread_join(notify->thread, NULL);
    destroy(notify);
}

/* ---- the callers' side ---- */

int flagshm_notify_fd(const struct flagshm_notify *notify)
{
    return notify->fd;
}

void flagshm_notify_give(struct flagshm_notify *notify, const char *id, const char *target, const char *body,
                         uint64_t since_realtime_ns)
{
    pthread_mutex_lock(&notify->mutex);
    notify_queue_give(&notify->queue, id, target, body, since_realtime_ns, flagshm_realtime_ns(),
                      flagshm_mono_ns());
    tell(notify);
    pthread_mutex_unlock(&notify->mutex);
    (void)curl_multi_wakeup(notify->multi);
}

bool flagshm_notify_take(struct flagshm_notify *notify, struct flagshm_notify_report *report)
{
    bool is_there;
    uint64_t count;

    pthread_mutex_lock(&notify->mutex);
    is_there = notify_queue_take(&notify->queue, report);
    if (notify->queue.first_report == NULL)
        (void)!read(notify->fd, &count, sizeof count); /* empty already: fine */
    pthread_mutex_unlock(&notify->mutex);
    return is_there;
}
