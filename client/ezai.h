/* ezai.h - one call to EzAI or the Messages API: decided by a flag, tagged, booked
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Asks flagshm.h which arm a user gets, builds the request from that arm's value, sends it over libcurl,
 * reads the answer (plain or streamed), tries again as the vendor's own clients do, and books what became
 * of the call. Where the flag is in its shadow stage, the variant is called as well, in the background,
 * after the caller has its answer.
 *
 *     #include "ezai.h"
 *     #include <stdio.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct flagshm flags;
 *         struct ezai ai;
 *         struct ezai_request request = EZAI_REQUEST_INIT;
 *         struct ezai_reply reply;
 *
 *         flagshm_open(&flags, NULL);
 *         if (ezai_open(&ai, &flags, NULL) != 0)
 *             return 1;
 *         request.flag = "new_summarizer_model";
 *         request.id = argc > 1 ? argv[1] : "user-1";
 *         request.default_model = "claude-haiku-4-5";
 *         request.prompt = argc > 2 ? argv[2] : "Say hello.";
 *         if (ezai_call(&ai, &request, &reply) == 0)
 *             printf("%s (%s): %s\n", reply.decision.arm_name, reply.model, reply.text);
 *         else
 *             fprintf(stderr, "%s\n", reply.error);
 *         ezai_reply_free(&reply);
 *         ezai_close(&ai);
 *         flagshm_close(&flags);
 *         return 0;
 *     }
 *
 * Promises
 * - The key comes from $EZAI_KEY (or the options) and goes into one request header; it stands in no URL,
 *   error text, pair log or dry run, and our copies of it are overwritten before they are freed.
 * - What a user wrote, or was answered, is written nowhere but into the pair log that was asked for.
 * - Whatever the other side sends (nothing, too much, half of it, no JSON), a call ends within its time
 *   limits and in bounded memory, with a negative errno and a sentence in reply.error.
 * - Only http and https, no redirects, no cookies, no .netrc.
 * - A shadow call never delays the answer and has no side effects: tools are taken out of it.
 *
 * Threads and processes: a handle may be used by any number of threads at once and is inherited by fork();
 * each thread's call has a connection of its own, kept for the next call. A child leaves its parent's
 * connections and shadow calls alone and opens its own. ezai_open and ezai_close are for one thread, before
 * and after all others; close before flagshm_close. The handle must not be moved or copied. A libcurl older
 * than 7.88 may raise SIGPIPE over TLS: ignore it.
 *
 * Environment (read once, by ezai_open; ignored in set-uid programs; an option wins):
 *   EZAI_KEY       the key
 *   EZAI_BASE_URL  https://ezaiapi.com where unset or empty
 *
 * Needs what flagshm.h needs, and libcurl (7.68 or later), cJSON and pthreads: pkg-config flagshm-ezai, or
 * CMake's flagshm::ezai; or copy flagshm.h, this file and the directory ezai beside it.
 */
#ifndef FLAGSHM_EZAI_H
#define FLAGSHM_EZAI_H

#include "flagshm.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a call says which arm it belongs to. METADATA: user_id, flag_variant and rollout_stage in the body's
 * "metadata". HEADER: x-user-id, x-flag-variant and x-rollout-stage, what is not printable ASCII as %XX.
 * The vendor's own endpoint refuses other metadata than user_id: take HEADER or NONE there. */
enum ezai_tags { EZAI_TAGS_METADATA = 0, EZAI_TAGS_HEADER, EZAI_TAGS_NONE };

/* Time and chance, for tests; a NULL is the real thing. */
struct ezai_hooks {
    uint64_t (*mono_ns)(void *user);
    void (*sleep_ns)(void *user, uint64_t ns); /* between two attempts of ezai_call */
    double (*random)(void *user);              /* 0 <= r < 1 */
    void *user;
};

/* All zero is good. */
struct ezai_options {
    const char *key;      /* NULL: $EZAI_KEY */
    const char *base_url; /* NULL: $EZAI_BASE_URL, or https://ezaiapi.com; "/v1/messages" is added */
    const char *version;  /* NULL: 2023-06-01; an arm's "anthropic-version" wins */
    enum ezai_tags tags;
    uint32_t attempts;   /* at most so many; 0: 3 */
    uint32_t connect_ms; /* 0: 5 s */
    uint32_t total_ms;   /* of one attempt that is not streamed; 0: 600 s */
    uint32_t stall_s;    /* a stream that is silent for so long has failed; 0: 60 s */
    /* bytes of an answer's body, and of a stream's text; 0: 8 MiB; a whole stream may have 16 times that */
    size_t answer_max;
    const char *pair_log;   /* a file to which shadow pairs are added, one JSON object a line; NULL: none */
    uint32_t shadow_max;    /* shadow calls in flight; what comes beyond is left out; 0: 8 */
    uint32_t shadow_one_in; /* of the shadow decisions; 0 and 1: each */
    uint64_t shadow_tokens_a_day;   /* of the whole host, days of UTC; 0: no limit */
    uint32_t close_ms;              /* ezai_close waits so long for shadow calls, then cuts them; 0: 1 s */
    const struct ezai_hooks *hooks; /* copied */
};

/* One call. What is not set stays zero (EZAI_REQUEST_INIT). Texts end in NUL, are UTF-8, and are not kept. */
struct ezai_request {
    /* Who asks: flag and id; or a decision that was made already, which wins. */
    const char *flag, *id;
    const struct flagshm_decision *decision;
    const char *default_model; /* where the arm names none, and on every error of the decision */
    const char *user_id;       /* as it is sent; NULL: id; "": not at all */
    /* What is asked. The arm's keys win over `extra`, these over the rest. "system" of the arm wins over
     * its "prompt", which is another name for it, and that over `system`. The arm's "messages", `messages`
     * and `prompt` are sent in this order. */
    const char *prompt;   /* the user's message */
    const char *messages; /* JSON array */
    const char *system;
    const char *extra;   /* JSON object: further keys of the body, sent as they are */
    uint32_t max_tokens; /* where neither arm nor extra says; 0: 1024 */
    /* Streams where set (or with is_stream alone): called with each piece of text; another result than 0
     * cancels the call. */
    int (*on_text)(void *user, const char *text, size_t bytes);
    void *on_text_user;
    bool is_stream;
    /* What is checked, and booked. */
    bool wants_json; /* is the text one JSON value, and nothing else? */
    bool (*schema_ok)(void *user, const char *text, size_t bytes); /* NULL: not checked */
    /* of each tool call; NULL: only that its input is an object */
    bool (*tool_ok)(void *user, const char *name, const cJSON *input);
    void *check_user;
    bool checks_in_shadow; /* the two may also be called by the shadow thread, until ezai_close */
    bool falls_back;       /* where the variant fails (and on_text has been told nothing yet), ask control */
    uint32_t deadline_ms;  /* of the whole call with all attempts; 0: none */
    const int *cancel; /* another thread, or a signal handler, sets it to another value than 0; NULL: never */
};
#ifdef __cplusplus
#define EZAI_REQUEST_INIT                                                                                    \
    {                                                                                                        \
    }
#else
#define EZAI_REQUEST_INIT                                                                                    \
    {                                                                                                        \
        0                                                                                                    \
    }
#endif

/* What became of it. Filled in by each call, whatever it returns; ezai_reply_free afterwards. */
struct ezai_reply {
    int result;       /* as returned */
    bool is_fallback; /* control answered in the failed variant's stead: `outcome` is its outcome */
    struct flagshm_decision decision; /* keep it for later events */
    struct flagshm_outcome outcome;   /* as booked; all input is input_tokens + cache_tokens */
    char model[128];                  /* that answered */
    char stop_reason[40];             /* end_turn, max_tokens, tool_use, refusal, ... */
    char request_id[72];              /* for the vendor's support */
    char error_type[48];              /* overloaded_error, ...; empty where there is none */
    char error[320];                  /* one sentence; empty after success. Never holds the key */
    char *text;                       /* all text blocks, ends in NUL; never NULL after 0 */
    size_t text_bytes;
    cJSON *content; /* the content blocks; NULL after a failure */
};

/* What became of the shadow calls that this process was asked for. */
struct ezai_shadow_counts {
    uint64_t asked;       /* the sum of what follows, up to in_flight */
    uint64_t sampled_out; /* by shadow_one_in */
    uint64_t capped;      /* by shadow_max */
    uint64_t over_budget; /* by shadow_tokens_a_day, or nobody keeps the account: no server */
    uint64_t skipped;     /* no such variant any more, tools and no pair log, or no memory */
    uint64_t finished;
    uint64_t cut; /* by ezai_close */
    uint32_t in_flight;
    uint32_t in_flight_max;
    uint64_t failed;   /* of the finished */
    uint64_t unlogged; /* pairs that could not be written */
};

/* A handle. Its fields are private. */
struct ezai_process_;
struct ezai {
    struct flagshm *flags_;
    char *key_, *url_, *version_, *pair_log_;
    struct ezai_options options_;
    struct ezai_hooks hooks_;
    struct ezai_process_ *process_; /* of the process that used it last; its parents' hang behind it */
};

/* The rooms behind it; each needs those before it. */
/* clang-format off */
#include "ezai/json.h"
#include "ezai/answer.h"
#include "ezai/request.h"
#include "ezai/transfer.h"
#include "ezai/process.h"
#include "ezai/shadow.h"
/* clang-format on */

FLAGSHM_COLD_ char *ezai_copy_of_(const char *text, const char *more)
{
    struct ezai_text_ t = {NULL, 0, 0, 0, false};
    ezai_put_(&t, text);
    ezai_put_(&t, more);
    return t.bytes;
}

/* Waits for the shadow calls in flight, at most options.close_ms, and releases all that the handle holds. */
FLAGSHM_COLD_ void ezai_close(struct ezai *ai)
{
    struct ezai_process_ *p = ai->process_;
    if (p != NULL && p->pid == (long)getpid()) {
        if (p->has_thread) {
            (void)pthread_mutex_lock(&p->lock);
            p->is_closing = true;
            (void)pthread_mutex_unlock(&p->lock);
            (void)curl_multi_wakeup(p->multi);
            (void)pthread_join(p->thread, NULL);
        }
        while (p->lines != NULL) {
            struct ezai_line_ *next = p->lines->next;
            ezai_line_free_(p->lines);
            p->lines = next;
        }
        if (p->multi != NULL)
            (void)curl_multi_cleanup(p->multi);
        (void)pthread_mutex_destroy(&p->lock);
        ai->process_ = p->inherited; /* the parent's, which is none of ours to free */
        free(p);
    }
    ezai_wipe_(ai->key_);
    free(ai->key_);
    free(ai->url_);
    free(ai->version_);
    free(ai->pair_log_);
    ai->key_ = ai->url_ = ai->version_ = ai->pair_log_ = NULL;
    ai->flags_ = NULL;
    curl_global_cleanup();
}

FLAGSHM_COLD_ bool ezai_is_header_text_(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= 0x20 || *text >= 0x7f)
            return false;
    return true;
}

/* Opens a handle; `flags` (open, and open until after ezai_close) may be NULL: then calls go to
 * default_model, or by a decision that they bring along. options NULL: all defaults. Nothing is connected
 * and no thread started before the first call. Returns 0 or -errno, with nothing to close:
 *   -EINVAL  the base URL begins with neither http:// nor https://, or key or version hold blanks or other
 *            characters than ASCII's
 *   -ENOMEM  out of memory
 *   other    the pair log cannot be written: the system's
 * Without a key it opens; calls then return -ENOKEY. */
FLAGSHM_COLD_ int ezai_open(struct ezai *ai, struct flagshm *flags, const struct ezai_options *options)
{
    const char *key, *url, *version;
    size_t bytes;
    int error = 0;

    memset(ai, 0, sizeof *ai);
    if (options != NULL)
        ai->options_ = *options;
    if (ai->options_.hooks != NULL)
        ai->hooks_ = *ai->options_.hooks;
    ai->options_.hooks = NULL;
    ai->flags_ = flags;
    key = ai->options_.key != NULL ? ai->options_.key : flagshm_libc_secure_getenv_("EZAI_KEY");
    url =
        ai->options_.base_url != NULL ? ai->options_.base_url : flagshm_libc_secure_getenv_("EZAI_BASE_URL");
    version = ai->options_.version != NULL ? ai->options_.version : "2023-06-01";
    if (url == NULL || url[0] == '\0')
        url = "https://ezaiapi.com";
    if ((!curl_strnequal(url, "http://", 7) && !curl_strnequal(url, "https://", 8)) ||
        !ezai_is_header_text_(url) || !ezai_is_header_text_(version) ||
        (key != NULL && !ezai_is_header_text_(key)))
        return -EINVAL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    ai->options_.key = ai->options_.base_url = ai->options_.version = NULL;
    ai->options_.attempts = ai->options_.attempts != 0 ? ai->options_.attempts : 3;
    ai->options_.connect_ms = ai->options_.connect_ms != 0 ? ai->options_.connect_ms : 5000;
    ai->options_.total_ms = ai->options_.total_ms != 0 ? ai->options_.total_ms : 600000;
    ai->options_.stall_s = ai->options_.stall_s != 0 ? ai->options_.stall_s : 60;
    ai->options_.answer_max = ai->options_.answer_max != 0 ? ai->options_.answer_max : (size_t)8 << 20;
    ai->options_.shadow_max = ai->options_.shadow_max != 0 ? ai->options_.shadow_max : 8;
    ai->options_.close_ms = ai->options_.close_ms != 0 ? ai->options_.close_ms : 1000;
    if (key != NULL && key[0] != '\0')
        ai->key_ = ezai_copy_of_(key, "");
    ai->url_ = ezai_copy_of_(url, "");
    for (bytes = ai->url_ != NULL ? strlen(ai->url_) : 0; bytes > 0 && ai->url_[bytes - 1] == '/'; bytes--)
        ai->url_[bytes - 1] = '\0';
    url = ai->url_;
    ai->url_ = url != NULL ? ezai_copy_of_(url, "/v1/messages") : NULL;
    free((void *)(uintptr_t)url);
    ai->version_ = ezai_copy_of_(version, "");
    if (ai->options_.pair_log != NULL) {
        int fd = open(ai->options_.pair_log,
                      O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK | FLAGSHM_O_CLOEXEC_ |
                          FLAGSHM_O_NOFOLLOW_,
                      0600);
        error = fd < 0 ? -errno : 0;
        if (fd >= 0)
            (void)close(fd);
        ai->pair_log_ = ezai_copy_of_(ai->options_.pair_log, "");
        ai->options_.pair_log = NULL;
        if (ai->pair_log_ == NULL)
            error = -ENOMEM;
    }
    if (ai->url_ == NULL || ai->version_ == NULL || (key != NULL && key[0] != '\0' && ai->key_ == NULL))
        error = -ENOMEM;
    if (error != 0)
        ezai_close(ai);
    return error;
}

/* Decides, unless the request brings a decision; the arm's value where it is an object. 0, or said. */
FLAGSHM_COLD_ int ezai_decide_(struct ezai *ai, const struct ezai_request *q, struct ezai_call_ *c,
                               struct ezai_reply *reply, char **value)
{
    struct flagshm_decision d;
    int error, tries = 0;

    do { /* a value may be replaced between the decision and its copy */
        if (q->decision != NULL) {
            d = *q->decision;
        } else if (ai->flags_ != NULL) {
            (void)flagshm_decide(ai->flags_, q->flag, q->id, &d);
        } else {
            memset(&d, 0, sizeof d);
            memcpy(d.arm_name, "control", 8);
            d.reason = FLAGSHM_NOT_READY;
            d.bucket = FLAGSHM_NO_BUCKET;
            d.slot = FLAGSHM_NO_SLOT;
        }
        error = ezai_value_(ai->flags_, &d, value);
    } while (error == -ESTALE && q->decision == NULL && ++tries < 8);
    ezai_call_begin_(c, ai, q, &d, reply);
    if (error == 0)
        return 0;
    return ezai_fail_(reply, error,
                      error == -ESTALE
                          ? "the table has moved on, and the decision's value is gone: decide again"
                          : "out of memory",
                      NULL);
}

FLAGSHM_COLD_ void ezai_book_(struct ezai *ai, const struct flagshm_decision *d,
                              const struct flagshm_outcome *o)
{
    if (ai->flags_ != NULL)
        (void)flagshm_record(ai->flags_, d, o);
}

/* The variant has failed and is booked: asks control, whose answer is booked nowhere: the user is none of
 * control's. */
FLAGSHM_COLD_ void ezai_fall_back_(struct ezai *ai, const struct ezai_request *q, struct ezai_reply *reply,
                                   uint64_t begin_mono_ns)
{
    struct flagshm_decision control, decision = reply->decision;
    struct ezai_reply second;
    struct ezai_call_ c;
    char *value;

    if (ezai_other_arm(ai->flags_, &decision, 0, &control) != 0 ||
        ezai_value_(ai->flags_, &control, &value) != 0)
        return;
    ezai_call_begin_(&c, ai, q, &control, &second);
    if (ezai_body_(&c, &control, value, ai->options_.tags, false) == 0 &&
        ezai_run_(&c, ai, begin_mono_ns) == 0) {
        ezai_call_deliver_(&c);
        *reply = second;
        reply->decision = decision;
        reply->is_fallback = true;
        reply->outcome.fallback = true;
    }
    ezai_call_free_(&c);
    free(value);
}

/* Makes one call, with its retries, and books it (FLAGSHM_STARTED before, FLAGSHM_FINISHED after). Blocks;
 * see struct ezai_request for what it takes. Fills in *reply, for ezai_reply_free, whatever it returns. 0:
 * an answer, be it a refusal or cut off at max_tokens (reply->outcome says so); else -errno, with a
 * sentence in reply->error:
 *   -EREMOTEIO     an error of the other side: reply->outcome.http_status, error_type
 *   -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT, -EIO  no answer, or one that broke off
 *   -EPROTO        an answer that is no message: no JSON, a stream without its end
 *   -EMSGSIZE      an answer larger than options.answer_max
 *   -ECANCELED     by request->cancel or on_text
 *   -ENOKEY        there is no key
 *   -EINVAL, -ESTALE, -ENOMEM  the request could not be made; these and -ENOKEY book nothing
 * Thread-safe, fork-safe. */
FLAGSHM_COLD_ int ezai_call(struct ezai *ai, const struct ezai_request *request, struct ezai_reply *reply)
{
    uint64_t begin_mono_ns = ezai_now_(&ai->hooks_);
    struct flagshm_outcome started;
    struct ezai_call_ c;
    char *value = NULL;
    int saved = errno;

    if (ezai_decide_(ai, request, &c, reply, &value) == 0 &&
        ezai_body_(&c, &reply->decision, value, ai->options_.tags, false) == 0) {
        if (ai->key_ == NULL) {
            (void)ezai_fail_(reply, -ENOKEY, "no key: set EZAI_KEY", NULL);
        } else {
            memset(&started, 0, sizeof started);
            started.event = FLAGSHM_STARTED;
            ezai_book_(ai, &reply->decision, &started);
            (void)ezai_run_(&c, ai, begin_mono_ns);
            ezai_call_deliver_(&c);
            /* not behind text that the caller has been told already */
            reply->outcome.fallback = reply->result != 0 && reply->decision.arm != 0 && request->falls_back &&
                                      !reply->outcome.cancelled &&
                                      (request->on_text == NULL || c.message.text.length == 0);
            ezai_book_(ai, &reply->decision, &reply->outcome);
            if (reply->outcome.fallback)
                ezai_fall_back_(ai, request, reply, begin_mono_ns);
            ezai_shadow_(ai, request, reply);
        }
    }
    ezai_call_free_(&c);
    free(value);
    errno = saved;
    return reply->result;
}

/* What ezai_call would send: decides, builds, sends and books nothing. reply->text is the request's text,
 * with a word where the key stands; reply->decision the decision. Needs no key. Returns as ezai_call. */
FLAGSHM_COLD_ int ezai_dry_run(struct ezai *ai, const struct ezai_request *request, struct ezai_reply *reply)
{
    struct ezai_text_ t = {NULL, 0, 0, 0, false};
    struct curl_slist *line;
    struct ezai_call_ c;
    char *value = NULL;

    if (ezai_decide_(ai, request, &c, reply, &value) == 0 &&
        ezai_body_(&c, &reply->decision, value, ai->options_.tags, false) == 0) {
        ezai_put_(&t, "POST ");
        ezai_put_(&t, ai->url_);
        if (!ezai_headers_(&c, ai, &reply->decision,
                           ai->key_ != NULL ? "(EZAI_KEY)" : "(EZAI_KEY is not set)"))
            t.has_failed = true;
        for (line = c.headers; line != NULL; line = line->next) {
            if (strcmp(line->data, "expect:") == 0)
                continue;
            ezai_put_(&t, "\n");
            ezai_put_(&t, line->data);
        }
        ezai_put_(&t, "\n\n");
        ezai_add_(&t, c.body.bytes, c.body.length);
        if (t.has_failed) {
            ezai_text_free_(&t);
            (void)ezai_fail_(reply, -ENOMEM, "out of memory", NULL);
        }
        reply->text = t.bytes;
        reply->text_bytes = t.length;
    }
    ezai_call_free_(&c);
    free(value);
    return reply->result;
}

/* Frees what a reply holds; its plain fields stay. */
FLAGSHM_COLD_ void ezai_reply_free(struct ezai_reply *reply)
{
    free(reply->text);
    cJSON_Delete(reply->content);
    reply->text = NULL;
    reply->text_bytes = 0;
    reply->content = NULL;
}

/* What became of this process's shadow calls so far. */
FLAGSHM_COLD_ void ezai_shadow_stats(struct ezai *ai, struct ezai_shadow_counts *stats)
{
    struct ezai_process_ *p = ezai_here_(ai);
    memset(stats, 0, sizeof *stats);
    if (p == NULL)
        return;
    (void)pthread_mutex_lock(&p->lock);
    *stats = p->stats;
    (void)pthread_mutex_unlock(&p->lock);
}

#ifdef __cplusplus
}
#endif

#endif
