/* ezai: what belongs to one process: connections, the attempts of a call, values of arms. A room of ezai.h,
 * which includes it. */
#ifndef FLAGSHM_EZAI_PROCESS_H
#define FLAGSHM_EZAI_PROCESS_H
#ifndef FLAGSHM_EZAI_H
#error "include ezai.h"
#endif

/* ---- Threads and processes ----
 *
 * What belongs to one process lies behind one pointer: the connections that wait for a call, and the shadow
 * thread. Who finds it made by another process (its parent, before a fork) makes a new one and leaves the
 * old alone: closing a connection there would say good-bye in the parent's name, and its lock may have been
 * held by a thread that is no more.
 */

struct ezai_line_ {
    struct ezai_line_ *next;
    CURLM *multi;
    CURL *easy;
};

#define EZAI_OFF_ UINT64_MAX

struct ezai_job_ { /* a shadow call */
    struct ezai_job_ *next;
    struct ezai_call_ call;
    struct ezai_reply reply;
    struct flagshm_decision decision; /* control's, of the pair */
    struct flagshm_outcome control;
    CURL *easy;
    char *pair; /* the first half of the pair log's line; NULL: none */
    uint64_t estimate,
        due_mono_ns; /* tokens taken from the budget; when to try (again), EZAI_OFF_: in flight */
};

struct ezai_process_ {
    struct ezai_process_ *inherited;
    struct ezai *ai;
    long pid;
    pthread_mutex_t lock; /* of all below */
    struct ezai_line_ *lines;
    struct ezai_job_ *fresh; /* for the thread to take */
    struct ezai_job_ *jobs;  /* the thread's alone; it hangs here so that a child's leak checker finds it */
    struct ezai_shadow_counts stats;
    CURLM *multi; /* of the thread */
    pthread_t thread;
    bool has_thread, is_closing;
};

FLAGSHM_COLD_ struct ezai_process_ *ezai_here_(struct ezai *ai)
{
    struct ezai_process_ *seen = __atomic_load_n(&ai->process_, __ATOMIC_ACQUIRE), *made;
    long pid = (long)getpid();

    if (seen != NULL && seen->pid == pid)
        return seen;
    made = (struct ezai_process_ *)calloc(1, sizeof *made);
    if (made == NULL || pthread_mutex_init(&made->lock, NULL) != 0) {
        free(made);
        return NULL;
    }
    made->pid = pid;
    made->inherited = seen;
    if (__atomic_compare_exchange_n(&ai->process_, &seen, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return made;
    (void)pthread_mutex_destroy(&made->lock); /* another thread was first */
    free(made);
    return seen;
}

FLAGSHM_COLD_ void ezai_line_free_(struct ezai_line_ *line)
{
    curl_easy_cleanup(line->easy);
    (void)curl_multi_cleanup(line->multi);
    free(line);
}

FLAGSHM_COLD_ struct ezai_line_ *ezai_line_take_(struct ezai_process_ *p)
{
    struct ezai_line_ *line;
    (void)pthread_mutex_lock(&p->lock);
    line = p->lines;
    if (line != NULL)
        p->lines = line->next;
    (void)pthread_mutex_unlock(&p->lock);
    if (line != NULL)
        return line;
    line = (struct ezai_line_ *)calloc(1, sizeof *line);
    if (line == NULL)
        return NULL;
    line->multi = curl_multi_init();
    line->easy = curl_easy_init();
    if (line->multi != NULL && line->easy != NULL)
        return line;
    ezai_line_free_(line);
    return NULL;
}

FLAGSHM_COLD_ void ezai_line_give_(struct ezai_process_ *p, struct ezai_line_ *line)
{
    curl_easy_reset(line->easy); /* it points into the call that is over */
    (void)pthread_mutex_lock(&p->lock);
    line->next = p->lines;
    p->lines = line;
    (void)pthread_mutex_unlock(&p->lock);
}

/* Runs the attempt that has been prepared to its end. */
FLAGSHM_COLD_ CURLcode ezai_transfer_(struct ezai_call_ *c, struct ezai_line_ *line)
{
    int running = 1, wait_ms = c->request.cancel != NULL ? 20 : 1000, left;
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    CURLMsg *message;

    if (curl_multi_add_handle(line->multi, line->easy) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    while (running != 0) {
        if (ezai_is_cancelled_(c)) {
            c->stop = ezai_fail_(c->message.reply, -ECANCELED, "cancelled by the caller", NULL);
            break;
        }
        if (curl_multi_perform(line->multi, &running) != CURLM_OK)
            break;
        if (running != 0)
            (void)curl_multi_poll(line->multi, NULL, 0, wait_ms, NULL);
    }
    while ((message = curl_multi_info_read(line->multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE)
            code = message->data.result;
    (void)curl_multi_remove_handle(line->multi, line->easy);
    return code;
}

/* Waits between two attempts; false: cancelled meanwhile. */
FLAGSHM_COLD_ bool ezai_sleep_(const struct ezai_call_ *c, const struct ezai *ai, struct ezai_line_ *line,
                               uint64_t ns)
{
    uint64_t end = ezai_now_(&ai->hooks_) + ns, now;
    if (ai->hooks_.sleep_ns != NULL) {
        ai->hooks_.sleep_ns(ai->hooks_.user, ns);
        return !ezai_is_cancelled_(c);
    }
    while (!ezai_is_cancelled_(c) && (now = ezai_now_(&ai->hooks_)) < end) {
        uint64_t left_ms = (end - now + 999999) / 1000000, most_ms = c->request.cancel != NULL ? 20 : 1000;
        (void)curl_multi_poll(line->multi, NULL, 0, (int)(left_ms < most_ms ? left_ms : most_ms), NULL);
    }
    return !ezai_is_cancelled_(c);
}

/* The call whose body is made, with all its attempts. Returns the reply's result. */
FLAGSHM_COLD_ int ezai_run_(struct ezai_call_ *c, struct ezai *ai, uint64_t begin_mono_ns)
{
    struct ezai_process_ *p = ezai_here_(ai);
    struct ezai_line_ *line = p != NULL ? ezai_line_take_(p) : NULL;
    uint64_t limit = (uint64_t)c->request.deadline_ms * 1000000u, left_ms, pause, passed;

    if (line == NULL)
        return ezai_fail_(c->message.reply, -ENOMEM, "out of memory", NULL);
    for (c->attempt = 0;; c->attempt++) {
        passed = ezai_now_(&ai->hooks_) - begin_mono_ns;
        left_ms = limit > passed ? (limit - passed + 999999) / 1000000u : 1;
        if (!ezai_attempt_begin_(c, ai, line->easy, limit != 0 ? left_ms : 0)) {
            (void)ezai_fail_(c->message.reply, -ENOMEM, "out of memory", NULL);
            break;
        }
        if (!ezai_attempt_end_(c, ai, ezai_transfer_(c, line)))
            break;
        pause = ezai_pause_ns_(c, ai);
        passed = ezai_now_(&ai->hooks_) - begin_mono_ns;
        if (limit != 0 && (passed >= limit || pause >= limit - passed))
            break;
        if (!ezai_sleep_(c, ai, line, pause)) {
            c->message.reply->error[0] = '\0';
            (void)ezai_fail_(c->message.reply, -ECANCELED, "cancelled by the caller", NULL);
            c->message.reply->outcome.cancelled = true;
            c->message.reply->outcome.transport_error = false;
            break;
        }
    }
    ezai_headers_free_(c);
    ezai_line_give_(p, line);
    return c->message.reply->result;
}

/* Another arm of the decision's flag as the table has it now: *other is the decision with that arm's name,
 * model and value, for flagshm_value, and nothing that is booked. 0, or -ENOENT: there is no such flag or
 * arm any more. */
FLAGSHM_COLD_ int ezai_other_arm(struct flagshm *fs, const struct flagshm_decision *d, uint32_t arm,
                                 struct flagshm_decision *other)
{
    int tries;
    for (tries = 0; fs != NULL && tries < FLAGSHM_RETRIES_MAX; tries++) {
        struct flagshm_map_ *map = flagshm_current_(fs);
        struct flagshm_case_ c;
        uint64_t seq;
        bool is_there;

        if (map == NULL)
            return -ENOENT;
        seq = flagshm_seq_acquire_(map);
        memset(&c, 0, sizeof c);
        c.map = map;
        c.bank = map->bank[seq & 1];
        c.record = flagshm_find_(map, c.bank, d->flag_hash, NULL, 0);
        *other = *d;
        is_there = c.record != NULL && flagshm_frame_(&c) && arm < c.arm_count &&
                   flagshm_serve_(map, c.heap, c.arms + (size_t)arm * map->arm_stride, other);
        if (flagshm_seq_again_(map) != seq)
            continue;
        if (!is_there)
            return -ENOENT;
        other->arm = arm;
        other->slot = FLAGSHM_NO_SLOT;
        other->shadow = false;
        other->shadow_model[0] = '\0';
        return 0;
    }
    return -ENOENT;
}

/* The value of the decision's arm where it is an object, for ezai_body_: *value is NULL where it is only a
 * model. 0, -ESTALE, -ENOMEM. */
FLAGSHM_COLD_ int ezai_value_(struct flagshm *fs, const struct flagshm_decision *d, char **value)
{
    int64_t bytes;
    char *text;

    *value = NULL;
    if (d->value_bytes == 0 || strcmp(d->value, d->model) == 0)
        return 0;
    if (fs == NULL && d->value_bytes >= sizeof d->value)
        return -ESTALE;
    text = (char *)malloc((size_t)d->value_bytes + 1);
    if (text == NULL)
        return -ENOMEM;
    bytes = flagshm_value(fs, d, text, (size_t)d->value_bytes + 1);
    if (bytes < 0) {
        free(text);
        return (int)bytes;
    }
    *value = text;
    return 0;
}

#endif
