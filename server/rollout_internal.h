/* rollout_internal: what the files of the rollout share. rollout.c judges a look, rollout_edit.c takes an edit of the file and a restart,
 * rollout_ask.c a person's word; rollout_state.c keeps the books of each change; rollout_words.c has the words, rollout_text.c the
 * JSON. For no one else.
 */
#ifndef FLAGSHM_SERVER_ROLLOUT_INTERNAL_H
#define FLAGSHM_SERVER_ROLLOUT_INTERNAL_H

#include "client/flagshm.h"
#include "server/flag.h"
#include "server/rollout.h"

#define SECOND_NS UINT64_C(1000000000)
#define MINUTE_NS (60 * SECOND_NS)
#define HOUR_NS   (60 * MINUTE_NS)
#define DAY_NS    (24 * HOUR_NS)

#define FLAGSHM_PROBE_MPCT    50000u
#define FLAGSHM_PROBE_NS      (10 * MINUTE_NS)
#define FLAGSHM_RECOVERING_NS MINUTE_NS
/* Added to the share by which a shadow step is remembered: 5 % of shadow calls are not 5 % of users. */
#define FLAGSHM_SHADOW_STEP UINT32_C(0x80000000)

/* What was told of this evidence; bits 0...7: that guardrail would have rolled back. */
enum flagshm_said {
    FLAGSHM_SAID_BREAKER = 1 << 8,
    FLAGSHM_SAID_ABSOLUTE = 1 << 9,
    FLAGSHM_SAID_CAPACITY = 1 << 10,
    FLAGSHM_SAID_THIN_BREAKER = 1 << 11,
    FLAGSHM_SAID_BOTH_BAD = 1 << 12,
    FLAGSHM_SAID_ADVANCE = 1 << 13,
    FLAGSHM_SAID_NO_DATA = 1 << 14,
    FLAGSHM_SAID_SIGNAL = 1 << 15,
    FLAGSHM_SAID_WOULD_STOP = 0xff | FLAGSHM_SAID_BREAKER | FLAGSHM_SAID_ABSOLUTE | FLAGSHM_SAID_NO_DATA
};

static inline uint64_t flagshm_less(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t flagshm_minus(uint64_t a, uint64_t b) /* never below 0 */
{
    return a > b ? a - b : 0;
}

static inline bool flagshm_is_planned(const struct flagshm_rollout_file *file)
{
    return file->plan->step_count > 0;
}

/* ---- steps ---- */
uint32_t flagshm_plan_top(const struct flagshm_plan *plan); /* 100 % less what is held back */
uint32_t flagshm_plan_share(const struct flagshm_plan *plan, uint32_t step);
uint32_t
flagshm_plan_last_share(const struct flagshm_plan *plan); /* the highest of users; 0: shadow steps only */
/* The highest step of users at or below `mpct`, or below it; 0: none. */
uint32_t flagshm_plan_share_at_most(const struct flagshm_plan *plan, uint32_t mpct);
uint32_t flagshm_plan_share_below(const struct flagshm_plan *plan, uint32_t mpct);
uint32_t flagshm_step_key(const struct flagshm_plan *plan,
                          int32_t step); /* by which an approval remembers it */

/* ---- changes ---- */
void flagshm_rollout_enter(struct flagshm_rollout *s, const struct flagshm_plan *plan, uint32_t step);
/* The share, and the stage that it means; a plan that begins above it stays at it. 0: OFF. */
void flagshm_rollout_set_share(struct flagshm_rollout *s, const struct flagshm_plan *plan, uint32_t mpct);
void flagshm_rollout_latch(struct flagshm_rollout *s); /* of any stage */
void flagshm_rollout_unlatch(struct flagshm_rollout *s);
bool flagshm_rollout_has_latch(const struct flagshm_rollout *s, uint64_t fingerprint);
void flagshm_rollout_new_attempt(struct flagshm_rollout *s, bool is_planned);
void flagshm_rollout_new_evidence(struct flagshm_rollout *s, bool keep_hold);

struct flagshm_change {
    const struct flagshm_rollout *before;
    struct flagshm_rollout *s;
    const struct flagshm_moment *now;
    enum flagshm_cause cause;
    const char *user; /* or NULL */
    int32_t guard;    /* -1: none */
    const struct flagshm_guard_verdict *numbers;
};
/* Keeps the books of a change that was made in `s`, and says it: "VERB from A to B: DETAILS". False where there is nothing to say: no cause. */
bool flagshm_rollout_conclude(const struct flagshm_change *change, struct flagshm_transition *transition,
                              const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- words ---- */
const char *flagshm_cause_phrase(enum flagshm_cause cause);
char *flagshm_share_words(uint32_t mpct, char out[24]); /* "5 %" */
/* What a guardrail of the verdict found, with its numbers. */
void flagshm_guard_words(const struct flagshm_verdict *verdict, const struct flagshm_guards *guards,
                         uint32_t index, char *text, size_t room);
bool flagshm_cause_is_told(enum flagshm_cause cause);

#endif
