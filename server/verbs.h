/* verbs: what the control socket can be asked; see control.h for the lines, flagctl for who asks.
 *
 * ping, status, history, show, stats, rollouts: anyone who may connect. All others: peers that may change.
 */
#ifndef FLAGSHM_SERVER_VERBS_H
#define FLAGSHM_SERVER_VERBS_H

#include "server/control.h"
#include "server/governor.h"
#include "server/publisher.h"
#include "server/watch.h"

struct flagshm_verbs {
    struct flagshm_publisher *publisher;
    struct flagshm_governor *governor;
    struct flagshm_watch *watch;
    struct flagshm_control *control;
    const char *notify_dir; /* told to tools */
    uint64_t started_realtime_ns;
    bool wants_reload; /* set by "reload", cleared by the loop */
};

/* A flagshm_control_handler; `context` is a struct flagshm_verbs. */
cJSON *flagshm_verbs_answer(void *context, const struct flagshm_peer *peer, const cJSON *request);
/* What the governor answers later: its options.answer. */
void flagshm_verbs_answer_late(void *context, const struct flagshm_governor_answer *answer);
/* A kill was written or erased: does what waits for it, and answers. */
void flagshm_verbs_disk_done(struct flagshm_verbs *verbs, const struct flagshm_disk_job *job);

#endif
