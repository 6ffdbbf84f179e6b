/* ezai_fixture: what the tests of client/ezai.h share: a call that nobody sends, recorded streams, a clock
 * that stands still. */
#ifndef FLAGSHM_TESTS_EZAI_FIXTURE_H
#define FLAGSHM_TESTS_EZAI_FIXTURE_H

#include "client/ezai.h"

/* A stopped clock; sleeping moves it on and is written down. */
struct ezai_clock {
    uint64_t now_ns, slept_ns[16];
    size_t sleeps;
    double random;
    int *cancel; /* set when somebody sleeps */
};

__attribute__((unused)) static uint64_t ezai_clock_now(void *user)
{
    return ((struct ezai_clock *)user)->now_ns;
}
__attribute__((unused)) static void ezai_clock_sleep(void *user, uint64_t ns)
{
    struct ezai_clock *clock = user;

    clock->now_ns += ns;
    if (clock->sleeps < sizeof clock->slept_ns / sizeof clock->slept_ns[0])
        clock->slept_ns[clock->sleeps] = ns;
    clock->sleeps++;
    if (clock->cancel)
        *clock->cancel = 1;
}
__attribute__((unused)) static double ezai_clock_random(void *user)
{
    return ((struct ezai_clock *)user)->random;
}

/* A call with nothing asked. The fixture must not be moved. */
struct ezai_fixture {
    struct ezai ai;
    struct ezai_clock clock;
    struct ezai_request request;
    struct ezai_reply reply;
    struct ezai_call_ call;
    struct flagshm_decision decision;
};

__attribute__((unused)) static int ezai_fixture_open(struct ezai_fixture *f,
                                                     const struct ezai_options *options)
{
    struct ezai_options mine = {0};
    struct ezai_hooks hooks = {ezai_clock_now, ezai_clock_sleep, ezai_clock_random, &f->clock};

    memset(f, 0, sizeof *f);
    f->clock.now_ns = UINT64_C(1000000000);
    if (options)
        mine = *options;
    mine.hooks = &hooks;
    if (!mine.base_url)
        mine.base_url = "http://127.0.0.1:1";
    if (!mine.key)
        mine.key = "sk-test-0123456789";
    memcpy(f->decision.arm_name, "control", 8);
    f->decision.slot = FLAGSHM_NO_SLOT;
    f->decision.bucket = FLAGSHM_NO_BUCKET;
    return ezai_open(&f->ai, NULL, &mine);
}

/* Begins the call anew, as for an answer with that HTTP status. */
__attribute__((unused)) static void ezai_fixture_begin(struct ezai_fixture *f, uint32_t status,
                                                       bool is_stream)
{
    ezai_call_free_(&f->call);
    f->request.is_stream = is_stream;
    ezai_call_begin_(&f->call, &f->ai, &f->request, &f->decision, &f->reply);
    f->call.status = status;
    f->call.is_events = is_stream;
    f->call.begin_mono_ns = f->clock.now_ns;
    f->clock.now_ns += 5000000;
}

/* The answer's bytes, in pieces of `piece` bytes (0: at once), up to `first` bytes before that. */
__attribute__((unused)) static bool ezai_fixture_feed(struct ezai_fixture *f, const char *bytes, size_t count,
                                                      size_t first, size_t piece)
{
    while (count > 0) {
        size_t now = first != 0 && first < count ? first : piece != 0 && piece < count ? piece : count;

        if (ezai_on_body_((char *)(uintptr_t)bytes, 1, now, &f->call) != now)
            return false;
        bytes += now;
        count -= now;
        first = 0;
    }
    return true;
}

__attribute__((unused)) static void ezai_fixture_end(struct ezai_fixture *f, CURLcode code)
{
    (void)ezai_attempt_end_(&f->call, &f->ai, code);
    ezai_call_deliver_(&f->call);
}

__attribute__((unused)) static void ezai_fixture_close(struct ezai_fixture *f)
{
    ezai_call_free_(&f->call);
    ezai_reply_free(&f->reply);
    ezai_close(&f->ai);
}

#endif
