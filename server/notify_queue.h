/* notify_queue: which notice goes to which target when, and what of it is to be told.
 *
 * Pure: time and chance are arguments. One thread at a time. Times are CLOCK_MONOTONIC where no other clock is named.
 */
#ifndef FLAGSHM_SERVER_NOTIFY_QUEUE_H
#define FLAGSHM_SERVER_NOTIFY_QUEUE_H

#include "server/notify.h"

#include <stddef.h>

#define NOTIFY_WAITING_MAX 10000u
#define NOTIFY_FLYING_MAX  64u /* tries at a time */
#define NOTIFY_BUCKETS     4096u

struct notify_notice {
    const char *id, *target, *body; /* behind this struct */
    unsigned tries;

    /* The queue's own. */
    struct notify_notice *older, *newer, *next_report, *next_hashed;
    uint64_t due_ns, give_up_ns;
    char *error; /* NULL: there was none, or no memory for it */
    bool is_flying, has_report, is_delivered, is_given_up;
};

struct notify_queue { /* all zeros: empty */
    struct notify_notice *oldest, *newest;
    struct notify_notice *first_report, *last_report;
    struct notify_notice *hashed[NOTIFY_BUCKETS];
    struct notify_notice *flying[NOTIFY_FLYING_MAX];
    size_t count, flying_count; /* not yet delivered or given up; of these, those that are being tried */
    uint64_t soonest_ns;        /* nothing is due before */
};

/* How long to wait after so many tries (1, 2, ...): 1 s, doubled each time up to 5 minutes, less up to a quarter by `chance` (0...1). */
uint64_t notify_delay_ns(unsigned tries, double chance);

/* As flagshm_notify_give. */
void notify_queue_give(struct notify_queue *queue, const char *id, const char *target, const char *body,
                       uint64_t since_realtime_ns, uint64_t now_realtime_ns, uint64_t now_ns);
/* The one to be tried now, of the targets that no other is being tried at; it stays in place until one of the two below. NULL: none. */
struct notify_notice *notify_queue_next(struct notify_queue *queue, uint64_t now_ns);
/* When to ask again, after `next` gave NULL; UINT64_MAX: not before something has changed. */
uint64_t notify_queue_due_ns(const struct notify_queue *queue);
void notify_queue_delivered(struct notify_queue *queue, struct notify_notice *notice);
void notify_queue_failed(struct notify_queue *queue, struct notify_notice *notice,
                         const struct flagshm_error *error, uint64_t now_ns, double chance);
bool notify_queue_take(struct notify_queue *queue, struct flagshm_notify_report *report);
void notify_queue_free(struct notify_queue *queue);

#endif
