/* rollout_judging: one look while it is judged. rollout.c has the order, the time and the way up; rollout_harm.c what goes down. For no one
 * else.
 */
#ifndef FLAGSHM_SERVER_ROLLOUT_JUDGING_H
#define FLAGSHM_SERVER_ROLLOUT_JUDGING_H

#include "server/rollout_internal.h"

struct judging {
    struct flagshm_rollout *s;
    struct flagshm_rollout before;
    const struct flagshm_rollout_file *file;
    const struct flagshm_plan *plan;
    const struct flagshm_look *look;
    const struct flagshm_verdict *v; /* NULL: nothing is known of this evidence */
    struct flagshm_judgement *d;
    bool may_act; /* the mode is not "observe" */
    bool is_thin; /* two holds have gone by without enough users */
    uint64_t planned_hold_ns;
};

void flagshm_judge_wait(struct judging *j, enum flagshm_wait reason); /* unless it is waived */
struct flagshm_change flagshm_judge_change(struct judging *j, enum flagshm_cause cause);
bool flagshm_judge_is_alone(const struct judging *j); /* no control to compare with */
/* The guardrail of a verdict's entry: the same place where nobody has edited the list meanwhile; or NULL. */
const struct flagshm_guardrail *flagshm_judge_guardrail(const struct judging *j, uint32_t i);

/* These give true where there is a transition: the look ends. */
bool flagshm_judge_roll_back(struct judging *j, enum flagshm_cause cause, int32_t guard,
                             const struct flagshm_guard_verdict *numbers, const char *why);
/* Only says it, once in an evidence; `what`: FLAGSHM_SAID_... */
bool flagshm_judge_would(struct judging *j, enum flagshm_cause cause, uint32_t what, int32_t guard,
                         const struct flagshm_guard_verdict *numbers, const char *why);
bool flagshm_judge_comparisons(
    struct judging *j); /* never blocked, no minimum: valid from the first user on */
bool flagshm_judge_capacity(struct judging *j);
bool flagshm_judge_harm(
    struct judging *j); /* what needs a control that is well: breaker, absolute limits, probes */

#endif
