/* governor: walks the rollouts: looks at outcomes, judges, moves shares, writes down, tells.
 *
 * Joins the pure core (evidence, rollout, by way of wards) with the ledger, the publisher, the journal and the notices. The orders of DESIGN
 * section 9: what raises a share is written down first, then published, then told; all else is published first, so that no disk holds
 * back a roll-back. kill -9 between any two is mended at the next start, by the adopted table and the journal. One thread: the server's
 * loop, which it never holds.
 */
#ifndef FLAGSHM_SERVER_GOVERNOR_H
#define FLAGSHM_SERVER_GOVERNOR_H

#include "server/notify.h"
#include "server/publisher.h"

struct flagshm_governor;

/* What became of a person's word. */
struct flagshm_governor_answer {
    uint64_t asker;
    int result; /* 0; -EALREADY; -ENOENT: no such flag; -EPERM, -EINVAL: refused; -errno: it could not be written down, and is not done */
    bool is_durable;    /* written down; false with result 0: in force, `warning` says why not */
    char sentence[600]; /* what happened, or why not and the mend */
    char warning[1024];
    const struct flagshm_ward *ward; /* NULL: of no flag */
    char hidden[72];                 /* of a drill: the flag to try it with */
};

struct flagshm_governor_options {
    struct flagshm_publisher *publisher;
    const char *instance;
    const char *notify_dir; /* NULL: the default */
    /* Late answers to flagshm_governor_ask and its like. */
    void (*answer)(void *context, const struct flagshm_governor_answer *answer);
    void *context;
};

/* After the publisher is open. Reads what was not told yet, and whether all is frozen. 0 or -ENOMEM, -errno. */
int flagshm_governor_open(struct flagshm_governor **governor, const struct flagshm_governor_options *options,
                          struct flagshm_error *error);
/* Writes down how long stages were held. NULL: nothing. */
void flagshm_governor_close(struct flagshm_governor *governor);

/* Each second: looks at all rollouts. */
void flagshm_governor_beat(struct flagshm_governor *governor);
/* Outcomes may have brought bad news: looks at those only. Cost: about 30 us a flag with news, and a publish where one is rolled
 * back. */
void flagshm_governor_news(struct flagshm_governor *governor);
/* At the end of each turn of the loop: what came into force is given to the journal. */
void flagshm_governor_work(struct flagshm_governor *governor);
/* Reports of the journal, and of the notices. */
void flagshm_governor_journal_done(struct flagshm_governor *governor);
void flagshm_governor_notify_done(struct flagshm_governor *governor);
int flagshm_governor_notify_fd(const struct flagshm_governor *governor); /* -1: there are no notices */

/* A person's word. True: *answer is complete; false: it comes later, by options.answer with `asker`. */
bool flagshm_governor_ask(struct flagshm_governor *governor, const char *flag, const struct flagshm_ask *ask,
                          uint64_t asker, struct flagshm_governor_answer *answer);
/* Nothing rises until it is thawed; what harms is still taken back. */
bool flagshm_governor_freeze(struct flagshm_governor *governor, bool is_freeze, const char *user,
                             const char *reason, uint64_t asker, struct flagshm_governor_answer *answer);
/* A drill of a hidden flag: nobody is touched. It is served until drill_end, at most for ten seconds; answer->hidden is its name. */
bool flagshm_governor_drill(struct flagshm_governor *governor, const char *flag, const char *user,
                            struct flagshm_governor_answer *answer);
bool flagshm_governor_drill_end(struct flagshm_governor *governor, const char *flag, uint64_t took_ns,
                                bool has_failed, const char *user, uint64_t asker,
                                struct flagshm_governor_answer *answer);
/* After a kill was lifted with --resume: on at the lower of the share that it had and 10 %. */
bool flagshm_governor_resume_at(struct flagshm_governor *governor, const char *flag, uint32_t before_mpct,
                                const char *user, uint64_t asker, struct flagshm_governor_answer *answer);

/* {"frozen": ..., "rollouts": [...]}, of one flag (NULL: all), into `answer`; see control.h. */
void flagshm_governor_view(struct flagshm_governor *governor, const char *flag, cJSON *answer);
/* The same of one flag that was looked at last: its evidence in a sentence; for stats. NULL: it is not guarded. */
cJSON *flagshm_governor_view_one(struct flagshm_governor *governor, const char *flag);

#endif
