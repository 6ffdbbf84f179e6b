/* notify_queue: see the header. */
#include "server/notify_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS    UINT64_C(1000000000)
#define DELAY_MAX_NS (300 * SECOND_NS)
#define GIVE_UP_NS   (86400 * SECOND_NS)

uint64_t notify_delay_ns(unsigned tries, double chance)
{
    uint64_t delay_ns = tries < 10 ? SECOND_NS << (tries > 0 ? tries - 1 : 0) : DELAY_MAX_NS;

    if (delay_ns > DELAY_MAX_NS)
        delay_ns = DELAY_MAX_NS;
    return delay_ns - (uint64_t)((double)delay_ns * 0.25 * chance);
}

/* ---- the set of those that are known ---- */

static uint64_t hash(const char *id, const char *target)
{
    const char *const texts[] = {id, target};
    uint64_t mix = UINT64_C(14695981039346656037); /* FNV-1a, with the NUL between the two */
    size_t i, byte;

    for (i = 0; i < 2; i++)
        for (byte = 0; byte <= strlen(texts[i]); byte++)
            mix = (mix ^ (unsigned char)texts[i][byte]) * UINT64_C(1099511628211);
    return mix;
}

/* Where the pointer to it stands; to NULL where there is none. */
static struct notify_notice **find(struct notify_queue *queue, const char *id, const char *target)
{
    struct notify_notice **at = &queue->hashed[hash(id, target) % NOTIFY_BUCKETS];

    while (*at != NULL && (strcmp((*at)->id, id) != 0 || strcmp((*at)->target, target) != 0))
        at = &(*at)->next_hashed;
    return at;
}

static void free_notice(struct notify_notice *notice)
{
    free(notice->error);
    free(notice);
}

static void forget(struct notify_queue *queue, struct notify_notice *notice)
{
    struct notify_notice **at = find(queue, notice->id, notice->target);

    *at = notice->next_hashed;
    free_notice(notice);
}

/* ---- reports ---- */

static void report(struct notify_queue *queue, struct notify_notice *notice)
{
    if (notice->has_report)
        return; /* of its first failure: nobody has taken it, and now it says more */
    notice->has_report = true;
    notice->next_report = NULL;
    if (queue->last_report != NULL)
        queue->last_report->next_report = notice;
    else
        queue->first_report = notice;
    queue->last_report = notice;
}

static void set_error(struct notify_notice *notice, const char *text)
{
    free(notice->error);
    notice->error = text != NULL ? strdup(text) : NULL;
}

/* It has come to its end, and only its report is left. */
static void end(struct notify_queue *queue, struct notify_notice *notice)
{
    if (notice->older != NULL)
        notice->older->newer = notice->newer;
    else
        queue->oldest = notice->newer;
    if (notice->newer != NULL)
        notice->newer->older = notice->older;
    else
        queue->newest = notice->older;
    queue->count--;
    report(queue, notice);
}

static void give_up(struct notify_queue *queue, struct notify_notice *notice)
{
    notice->is_given_up = true;
    end(queue, notice);
}

bool notify_queue_take(struct notify_queue *queue, struct flagshm_notify_report *out)
{
    struct notify_notice *notice = queue->first_report;

    if (notice == NULL)
        return false;
    queue->first_report = notice->next_report;
    if (queue->first_report == NULL)
        queue->last_report = NULL;
    notice->has_report = false;
    *out = (struct flagshm_notify_report){
        .is_delivered = notice->is_delivered, .is_given_up = notice->is_given_up, .tries = notice->tries};
    (void)snprintf(out->id, sizeof out->id, "%s", notice->id);
    (void)snprintf(out->target, sizeof out->target, "%s", notice->target);
    (void)flagshm_error_set(&out->error, 0, "%s",
                            notice->is_delivered    ? ""
                            : notice->error != NULL ? notice->error
                                                    : "there was no memory to say why it failed");
    if (notice->is_delivered || notice->is_given_up)
        forget(queue, notice);
    return true;
}

/* ---- in ---- */

static struct notify_notice *make(const char *id, const char *target, const char *body)
{
    size_t id_bytes = strlen(id) + 1, target_bytes = strlen(target) + 1, body_bytes = strlen(body) + 1;
    struct notify_notice *notice = calloc(1, sizeof *notice + id_bytes + target_bytes + body_bytes);
    char *at;

    if (notice == NULL)
        return NULL;
    at = (char *)(notice + 1);
    notice->id = memcpy(at, id, id_bytes);
    notice->target = memcpy(at + id_bytes, target, target_bytes);
    notice->body = memcpy(at + id_bytes + target_bytes, body, body_bytes);
    return notice;
}

static void add(struct notify_queue *queue, struct notify_notice *notice)
{
    *find(queue, notice->id, notice->target) = notice;
    notice->older = queue->newest;
    if (queue->newest != NULL)
        queue->newest->newer = notice;
    else
        queue->oldest = notice;
    queue->newest = notice;
    queue->count++;
    if (notice->due_ns < queue->soonest_ns)
        queue->soonest_ns = notice->due_ns;
}

static void drop_oldest(struct notify_queue *queue)
{
    struct notify_notice *notice = queue->oldest;
    char text[120];

    while (notice->is_flying) /* far fewer fly than wait */
        notice = notice->newer;
    (void)snprintf(text, sizeof text, "%u notices wait for their targets: the oldest is given up",
                   NOTIFY_WAITING_MAX);
    set_error(notice, text);
    give_up(queue, notice);
}

void notify_queue_give(struct notify_queue *queue, const char *id, const char *target, const char *body,
                       uint64_t since_realtime_ns, uint64_t now_realtime_ns, uint64_t now_ns)
{
    struct flagshm_notify_report room;
    uint64_t age_ns = now_realtime_ns > since_realtime_ns ? now_realtime_ns - since_realtime_ns : 0;
    struct notify_notice *notice = *find(queue, id, target) == NULL ? make(id, target, body) : NULL;

    if (notice == NULL)
        return;
    notice->due_ns = now_ns;
    notice->give_up_ns = now_ns + (age_ns < GIVE_UP_NS ? GIVE_UP_NS - age_ns : 0);
    add(queue, notice);
    if (strlen(id) >= sizeof room.id || strlen(target) >= sizeof room.target) {
        set_error(notice, "its id or the name of its target is too long");
        give_up(queue, notice);
    } else if (queue->count > NOTIFY_WAITING_MAX) {
        drop_oldest(queue);
    }
}

/* ---- tries ---- */

static bool is_busy(const struct notify_queue *queue, const char *target)
{
    size_t i;

    for (i = 0; i < queue->flying_count; i++)
        if (strcmp(queue->flying[i]->target, target) == 0)
            return true;
    return false;
}

struct notify_notice *notify_queue_next(struct notify_queue *queue, uint64_t now_ns)
{
    struct notify_notice *best = NULL, *notice;
    uint64_t least_ns = UINT64_MAX;

    if (queue->flying_count == NOTIFY_FLYING_MAX || now_ns < queue->soonest_ns)
        return NULL;
    for (notice = queue->oldest; notice != NULL; notice = notice->newer) {
        if (notice->is_flying || notice->due_ns >= least_ns || is_busy(queue, notice->target))
            continue;
        least_ns = notice->due_ns;
        best = notice;
    }
    if (least_ns > now_ns) {
        queue->soonest_ns = least_ns;
        return NULL;
    }
    best->is_flying = true;
    best->tries++;
    queue->flying[queue->flying_count++] = best;
    return best;
}

uint64_t notify_queue_due_ns(const struct notify_queue *queue)
{
    return queue->flying_count == NOTIFY_FLYING_MAX ? UINT64_MAX : queue->soonest_ns;
}

static void land(struct notify_queue *queue, struct notify_notice *notice)
{
    size_t i = 0;

    while (queue->flying[i] != notice)
        i++;
    queue->flying[i] = queue->flying[--queue->flying_count];
    notice->is_flying = false;
    queue->soonest_ns = 0; /* others may wait for this target */
}

void notify_queue_delivered(struct notify_queue *queue, struct notify_notice *notice)
{
    land(queue, notice);
    notice->is_delivered = true;
    end(queue, notice);
}

void notify_queue_failed(struct notify_queue *queue, struct notify_notice *notice,
                         const struct flagshm_error *error, uint64_t now_ns, double chance)
{
    land(queue, notice);
    set_error(notice, error->text);
    if (now_ns >= notice->give_up_ns) {
        give_up(queue, notice);
        return;
    }
    notice->due_ns = now_ns + notify_delay_ns(notice->tries, chance);
    if (notice->due_ns > notice->give_up_ns)
        notice->due_ns = notice->give_up_ns;
    if (notice->tries == 1)
        report(queue, notice);
}

void notify_queue_free(struct notify_queue *queue)
{
    struct notify_notice *notice, *next;
    size_t i;

    for (i = 0; i < NOTIFY_BUCKETS; i++) {
        for (notice = queue->hashed[i]; notice != NULL; notice = next) {
            next = notice->next_hashed;
            free_notice(notice);
        }
    }
    *queue = (struct notify_queue){0};
}
