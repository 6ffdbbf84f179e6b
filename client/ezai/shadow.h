/* ezai: shadow calls in the background, and the log of pairs. A room of ezai.h, which includes it. */
#ifndef FLAGSHM_EZAI_SHADOW_H
#define FLAGSHM_EZAI_SHADOW_H
#ifndef FLAGSHM_EZAI_H
#error "include ezai.h"
#endif

/* ---- Shadow calls ----
 *
 * One thread of each process that asks for any runs them all, with retries as ezai_call's (a variant that
 * is tried once would lose against a control that is tried thrice). It holds a copy of what it sends and
 * nothing of the caller's. Of a job's fields the thread alone writes any once it has taken it.
 */

FLAGSHM_COLD_ void ezai_job_free_(struct ezai_job_ *job)
{
    if (job == NULL)
        return;
    curl_easy_cleanup(job->easy);
    ezai_call_free_(&job->call);
    free(job->pair);
    free(job);
}

/* One half of a pair, for the log. */
FLAGSHM_COLD_ void ezai_put_half_(struct ezai_text_ *t, const char *name, const struct flagshm_decision *d,
                                  const struct ezai_reply *r, const char *text, size_t bytes)
{
    const struct flagshm_outcome *o = &r->outcome;
    ezai_put_(t, ",\"");
    ezai_put_(t, name);
    ezai_put_(t, "\":{");
    ezai_put_member_(t, "arm", d->arm_name);
    ezai_put_(t, ",");
    ezai_put_member_(t, "model", r->model[0] != '\0' ? r->model : d->model);
    ezai_put_number_(t, "status", o->http_status);
    ezai_put_number_(t, "attempts", o->attempts);
    ezai_put_number_(t, "latency_ms", o->latency_ns / 1000000u);
    if (o->ttft_ns != 0)
        ezai_put_number_(t, "ttft_ms", o->ttft_ns / 1000000u);
    ezai_put_number_(t, "input_tokens", o->input_tokens);
    ezai_put_number_(t, "output_tokens", o->output_tokens);
    ezai_put_number_(t, "cache_tokens", o->cache_tokens);
    ezai_put_(t, ",");
    ezai_put_member_(t, r->result == 0 ? "stop_reason" : "error", r->result == 0 ? r->stop_reason : r->error);
    if (o->json_checked)
        ezai_put_(t, o->json_valid ? ",\"json_valid\":true" : ",\"json_valid\":false");
    ezai_put_(t, ",\"text\":");
    ezai_put_string_(t, text, bytes);
    ezai_put_(t, "}");
}

/* The line up to and with control's half: who, what was asked, what was answered. NULL: out of memory. */
FLAGSHM_COLD_ char *ezai_pair_begin_(const struct ezai_call_ *shadow, const struct ezai_request *q,
                                     const struct ezai_reply *control)
{
    const struct flagshm_decision *d = &control->decision;
    struct ezai_text_ t = {NULL, 0, 0, 0, false};
    struct ezai_member_ m;
    char id[20];

    ezai_put_(&t, "{");
    (void)snprintf(id, sizeof id, "%016llx", (unsigned long long)d->id_hash);
    ezai_put_member_(&t, "id_hash", id);
    ezai_put_number_(&t, "time_ms", flagshm_clock_ns_(0) / 1000000u);
    ezai_put_(&t, ",");
    ezai_put_member_(&t, "flag", q->flag != NULL ? q->flag : "");
    ezai_put_(&t, ",");
    ezai_put_member_(&t, "stage", d->stage);
    ezai_put_number_(&t, "version", d->version);
    ezai_put_(&t, shadow->is_altered ? ",\"altered\":true" : ",\"altered\":false");
    if (ezai_find_(shadow->body.bytes, "messages", &m)) {
        ezai_put_(&t, ",\"messages\":");
        ezai_add_(&t, m.value, m.value_bytes);
    }
    ezai_put_half_(&t, "control", d, control, control->text != NULL ? control->text : "",
                   control->text_bytes);
    if (!t.has_failed)
        return t.bytes;
    ezai_text_free_(&t);
    return NULL;
}

/* Adds the pair to the log: opened anew each time, so that the file may be moved away; one write, so that
 * lines of many processes do not mix. */
FLAGSHM_COLD_ bool ezai_pair_write_(const struct ezai *ai, struct ezai_job_ *job)
{
    struct ezai_text_ t = {NULL, 0, 0, 0, false};
    const struct ezai_text_ *text = &job->call.message.text;
    long written = -1;
    int fd;

    ezai_put_(&t, job->pair);
    ezai_put_half_(&t, "shadow", &job->reply.decision, &job->reply, text->bytes != NULL ? text->bytes : "",
                   text->length);
    ezai_put_(&t, "}\n");
    ezai_redact_(t.bytes, ai->key_);
    fd = t.has_failed ? -1
                      : open(ai->pair_log_,
                             O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK | FLAGSHM_O_CLOEXEC_ |
                                 FLAGSHM_O_NOFOLLOW_,
                             0600);
    if (fd >= 0) {
        written = (long)write(fd, t.bytes, t.length);
        if (written > 0 && written < (long)t.length &&
            write(fd, "\n", 1) != 1) /* a full disk: the next line begins anew */
            written = -1;
        (void)close(fd);
    }
    (void)ezai_text_free_(&t);
    return written >= 0 && fd >= 0;
}

FLAGSHM_COLD_ bool ezai_job_start_(struct ezai_process_ *p, struct ezai *ai, struct ezai_job_ *job)
{
    job->due_mono_ns = EZAI_OFF_;
    if (job->easy == NULL)
        job->easy = curl_easy_init();
    if (job->easy != NULL && ezai_attempt_begin_(&job->call, ai, job->easy, 0) &&
        curl_multi_add_handle(p->multi, job->easy) == CURLM_OK)
        return true;
    (void)ezai_fail_(&job->reply, -ENOMEM, "out of memory", NULL);
    job->reply.outcome.cancelled = true; /* no evidence: it was never sent */
    return false;
}

/* Books a shadow call that has come to its end, and frees it. */
FLAGSHM_COLD_ void ezai_job_end_(struct ezai_process_ *p, struct ezai *ai, struct ezai_job_ *job)
{
    const struct flagshm_outcome *o = &job->reply.outcome;
    uint64_t spent = o->input_tokens + o->output_tokens + o->cache_tokens;
    bool is_logged = job->pair == NULL || ezai_pair_write_(ai, job);

    (void)flagshm_record_shadow(ai->flags_, &job->decision, &job->control, o);
    if (spent > job->estimate)
        (void)flagshm_shadow_budget(ai->flags_, 0, spent - job->estimate);
    (void)pthread_mutex_lock(&p->lock);
    p->stats.in_flight--;
    p->stats.finished++;
    p->stats.failed += job->reply.result != 0;
    p->stats.unlogged += !is_logged;
    (void)pthread_mutex_unlock(&p->lock);
    ezai_job_free_(job);
}

FLAGSHM_COLD_ void ezai_shadow_unlink_(struct ezai_job_ **jobs, struct ezai_job_ *job)
{
    while (*jobs != job)
        jobs = &(*jobs)->next;
    *jobs = job->next;
}

/* Transfers that have come to an end: booked, or put off to their next attempt. */
FLAGSHM_COLD_ void ezai_shadow_reap_(struct ezai_process_ *p, struct ezai *ai)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(p->multi, &left)) != NULL) {
        struct ezai_job_ *job;
        CURLcode code = message->data.result;
        for (job = p->jobs; job != NULL && job->easy != message->easy_handle; job = job->next) {
        }
        if (message->msg != CURLMSG_DONE || job == NULL)
            continue;
        (void)curl_multi_remove_handle(p->multi, job->easy);
        if (ezai_attempt_end_(&job->call, ai, code)) {
            job->due_mono_ns = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_) + ezai_pause_ns_(&job->call, ai);
            job->call.attempt++;
        } else {
            ezai_shadow_unlink_(&p->jobs, job);
            ezai_job_end_(p, ai, job);
        }
    }
}

/* Starts what is due; returns the milliseconds until the next is. */
FLAGSHM_COLD_ int ezai_shadow_start_(struct ezai_process_ *p, struct ezai *ai)
{
    uint64_t now = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_), wait_ms = 60000;
    struct ezai_job_ *job, *next;
    for (job = p->jobs; job != NULL; job = next) {
        next = job->next;
        if (job->due_mono_ns <= now) {
            wait_ms = 0;
            if (!ezai_job_start_(p, ai, job)) {
                ezai_shadow_unlink_(&p->jobs, job);
                ezai_job_end_(p, ai, job);
            }
        } else if (job->due_mono_ns != EZAI_OFF_ && (job->due_mono_ns - now) / 1000000u + 1 < wait_ms) {
            wait_ms = (job->due_mono_ns - now) / 1000000u + 1;
        }
    }
    return (int)wait_ms;
}

FLAGSHM_COLD_ void *ezai_shadow_main_(void *argument)
{
    struct ezai_process_ *p = (struct ezai_process_ *)argument;
    struct ezai *ai = p->ai;
    struct ezai_job_ *fresh, *next;
    uint64_t end_mono_ns = 0, now;
    int running, wait_ms;
    bool is_closing;

    for (;;) {
        (void)pthread_mutex_lock(&p->lock);
        fresh = p->fresh;
        p->fresh = NULL;
        is_closing = p->is_closing;
        (void)pthread_mutex_unlock(&p->lock);
        for (; fresh != NULL; fresh = next) {
            next = fresh->next;
            fresh->next = p->jobs;
            p->jobs = fresh;
        }
        (void)curl_multi_perform(p->multi, &running);
        ezai_shadow_reap_(p, ai);
        wait_ms = ezai_shadow_start_(p, ai);
        if (is_closing) {
            now = flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_);
            if (end_mono_ns == 0)
                end_mono_ns = now + (uint64_t)ai->options_.close_ms * 1000000u;
            if (p->jobs == NULL || now >= end_mono_ns)
                break;
            if ((end_mono_ns - now) / 1000000u < (uint64_t)wait_ms)
                wait_ms = (int)((end_mono_ns - now) / 1000000u) + 1;
        }
        (void)curl_multi_poll(p->multi, NULL, 0, wait_ms, NULL);
    }
    for (; p->jobs != NULL; p->jobs = next) { /* cut: no evidence, and booked nowhere */
        next = p->jobs->next;
        (void)curl_multi_remove_handle(p->multi, p->jobs->easy);
        ezai_job_free_(p->jobs);
        (void)pthread_mutex_lock(&p->lock);
        p->stats.in_flight--;
        p->stats.cut++;
        (void)pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

/* Starts the thread, which takes no signals; called with the lock held. */
FLAGSHM_COLD_ bool ezai_shadow_thread_start_(struct ezai *ai, struct ezai_process_ *p)
{
    uint64_t all = UINT64_MAX ^ (UINT64_C(3) << 31), before = 0; /* but the C library's own two */

    if (p->has_thread)
        return true;
    p->ai = ai;
    if (p->multi == NULL)
        p->multi = curl_multi_init();
    if (p->multi == NULL)
        return false;
    (void)flagshm_libc_syscall_(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all);
    p->has_thread = pthread_create(&p->thread, NULL, ezai_shadow_main_, p) == 0;
    (void)flagshm_libc_syscall_(SYS_rt_sigprocmask, 2, &before, NULL, sizeof all);
    return p->has_thread;
}

/* Makes the job: the variant's body, with the tools taken out. NULL: not to be done. */
FLAGSHM_COLD_ struct ezai_job_ *ezai_job_make_(struct ezai *ai, const struct ezai_request *q,
                                               const struct ezai_reply *control)
{
    const struct flagshm_decision *d = &control->decision;
    struct ezai_job_ *job = (struct ezai_job_ *)calloc(1, sizeof *job);
    struct flagshm_decision variant;
    char *value = NULL;
    bool is_good = job != NULL && ezai_other_arm(ai->flags_, d, 1, &variant) == 0 &&
                   strcmp(variant.model, d->shadow_model) == 0 &&
                   ezai_value_(ai->flags_, &variant, &value) == 0;

    if (is_good) {
        ezai_call_begin_(&job->call, ai, q, &variant, &job->reply);
        job->decision = *d;
        job->control = control->outcome;
        is_good = ezai_body_(&job->call, &variant, value, ai->options_.tags, true) == 0;
    }
    free(value);
    if (is_good && ai->pair_log_ != NULL)
        is_good = (job->pair = ezai_pair_begin_(&job->call, q, control)) != NULL;
    else if (is_good) /* without tools it is no evidence, so without a log it is for nothing */
        is_good = !job->call.is_altered;
    if (!is_good) {
        ezai_job_free_(job);
        return NULL;
    }
    /* nothing of the caller's may be looked at from here on */
    job->call.may_ask = q->checks_in_shadow;
    job->call.request.on_text = NULL;
    job->call.request.cancel = NULL;
    job->call.request.deadline_ms = 0;
    job->estimate =
        control->outcome.input_tokens + control->outcome.output_tokens + control->outcome.cache_tokens;
    if (job->estimate == 0)
        job->estimate = job->call.body.length / 4 + (q->max_tokens != 0 ? q->max_tokens : 1024);
    return job;
}

/* Control has answered: has the variant called as well, if its turn is. */
FLAGSHM_COLD_ void ezai_shadow_(struct ezai *ai, const struct ezai_request *q,
                                const struct ezai_reply *control)
{
    const struct ezai_options *o = &ai->options_;
    struct ezai_process_ *p;
    struct ezai_job_ *job;
    uint64_t *left_out = NULL;

    if (ai->flags_ == NULL || !control->decision.shadow || control->decision.arm != 0 ||
        control->outcome.cancelled || (p = ezai_here_(ai)) == NULL)
        return;
    (void)pthread_mutex_lock(&p->lock);
    p->stats.asked++;
    if (o->shadow_one_in > 1 && ezai_random_(&ai->hooks_) * o->shadow_one_in >= 1)
        left_out = &p->stats.sampled_out;
    else if (p->stats.in_flight >= o->shadow_max)
        left_out = &p->stats.capped;
    else
        p->stats.in_flight++;
    if (p->stats.in_flight > p->stats.in_flight_max)
        p->stats.in_flight_max = p->stats.in_flight;
    if (left_out != NULL)
        (*left_out)++;
    (void)pthread_mutex_unlock(&p->lock);
    if (left_out != NULL)
        return;

    job = ezai_job_make_(ai, q, control);
    if (job == NULL)
        left_out = &p->stats.skipped;
    else if (o->shadow_tokens_a_day == 0)
        job->estimate = 0; /* all of it is added afterwards */
    else if (flagshm_shadow_budget(ai->flags_, o->shadow_tokens_a_day, job->estimate) != 0)
        left_out = &p->stats.over_budget; /* also where nobody keeps the account */
    (void)pthread_mutex_lock(&p->lock);
    if (left_out == NULL && !ezai_shadow_thread_start_(ai, p))
        left_out = &p->stats.skipped;
    if (left_out == NULL) {
        job->next = p->fresh;
        p->fresh = job;
        (void)curl_multi_wakeup(p->multi);
    } else {
        p->stats.in_flight--;
        (*left_out)++;
    }
    (void)pthread_mutex_unlock(&p->lock);
    if (left_out != NULL)
        ezai_job_free_(job);
}

#endif
