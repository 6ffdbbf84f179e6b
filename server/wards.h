/* wards: the rollouts that the server looks after, one for each flag that has a plan or that a guardrail watches.
 *
 * Plain data beside the good set: what is in force, and a draft of what the next table will serve. Whoever changes a rollout drafts it
 * first; the publisher compiles drafts where there are some, and settles them when that table is out, or drops them. So a state in force
 * is never ahead of the table. One thread: the server's loop. No I/O, no clock.
 */
#ifndef FLAGSHM_SERVER_WARDS_H
#define FLAGSHM_SERVER_WARDS_H

#include "server/evidence.h"
#include "server/flagfile.h"
#include "server/rollout.h"
#include "server/table.h"

/* While the flag has a slot: what its outcomes said at the last look. */
struct flagshm_ward_post {
    struct flagshm_evidence evidence;
    struct flagshm_slot_counts counts;
    struct flagshm_verdict verdict;
    bool has_verdict;          /* of this evidence */
    uint32_t chosen_window_1h; /* when thresholds were last chosen */
};

struct flagshm_ward_draft {
    struct flagshm_rollout state;
    struct flagshm_transition transition;
    bool has_transition;
    uint64_t asker; /* who waits for it to be written down; 0: nobody */
};

/* A transition that is in force and not yet written down. */
struct flagshm_ward_move {
    struct flagshm_ward_move *next;
    struct flagshm_transition transition;
    uint64_t asker;
};

struct flagshm_ward {
    char flag[72];
    uint64_t flag_hash;
    bool is_hidden;     /* a drill's: nobody writes it down */
    bool is_recovered;  /* since the start */
    bool is_state_lost; /* the journal has one that cannot be read */
    uint64_t
        rise_version; /* the state that is written down, or was found so, is a rise, and that table was served before it; 0: none */
    struct flagshm_rollout state; /* in force */
    struct flagshm_ward_draft *draft;
    struct flagshm_ward_move *moves; /* in their order; owned */
    /* The flag as it stands in the good set; is_present false: it does not. Taken over with the set. */
    struct flagshm_rollout_file file, next_file;
    const struct flagshm_flag *source, *next_source;
    /* The default set of guardrails also takes kinds whose outcomes arrive, but not before the next evidence: a slot's signals are fixed. */
    uint32_t kinds, next_kinds, arrived; /* bits 1 << flagshm_guard_kind */
    uint32_t kinds_attempt, kinds_evidence;
    struct flagshm_guards guards, next_guards;
    struct flagshm_judgement judgement; /* of the last look */
    struct flagshm_ward_post *post;     /* NULL: no outcomes were looked at yet */
    double control_rates[FLAGSHM_GUARD_KINDS + 8];
    bool has_control_rates; /* as they were written down, for the next post */
    struct flagshm_rollout
        *pending; /* a rise that is being written down first; any other change in force ends it. Owned */
    /* The governor's. */
    uint64_t pending_ticket;
    bool is_unkept; /* watched since its outcomes came, and not yet written down */
    uint64_t retry_mono_ns, retry_wait_ns, kept_mono_ns, kept_hold_ns;
    struct flagshm_error trouble; /* why the last rise could not be written down; "": it could */
};

struct flagshm_wards {
    struct flagshm_ward **list;
    size_t count, room;
    uint32_t *index; /* by flag_hash: number + 1 */
    size_t mask;
    bool is_started;      /* the wards know what the adopted table served */
    bool is_journal_lost; /* its states could not be read */
    size_t moved;         /* moves of all wards */
};

void flagshm_wards_free(struct flagshm_wards *wards);
struct flagshm_ward *flagshm_wards_find(const struct flagshm_wards *wards, uint64_t flag_hash);
struct flagshm_ward *flagshm_wards_find_name(const struct flagshm_wards *wards, const char *flag);
/* A ward whose state is all zeros, or the one that is there; NULL: no memory. */
struct flagshm_ward *flagshm_wards_add(struct flagshm_wards *wards, const char *flag);
void flagshm_wards_remove(struct flagshm_wards *wards, struct flagshm_ward *ward);

/* The draft of a ward: a copy of what is in force, or the one that is there. NULL: no memory. */
struct flagshm_ward_draft *flagshm_ward_draft(struct flagshm_ward *ward);
void flagshm_ward_drop_draft(struct flagshm_ward *ward);
void flagshm_ward_forget_pending(struct flagshm_ward *ward);
/* Does the table have to be made anew for the draft? */
bool flagshm_ward_is_visible(const struct flagshm_ward *ward);
/* Puts the draft in force as it is: the table need not know. */
void flagshm_ward_apply(struct flagshm_wards *wards, struct flagshm_ward *ward);
/* Takes out the oldest move; false: there is none. */
bool flagshm_ward_take_move(struct flagshm_wards *wards, struct flagshm_ward *ward,
                            struct flagshm_ward_move *move);
/* The table that has the drafts is out (or is not): they are in force (or dropped). */
void flagshm_wards_settle(struct flagshm_wards *wards, bool is_published);
/* What the ward serves in the next table. */
void flagshm_ward_entry(struct flagshm_ward *ward, struct flagshm_table_entry *entry);

/* What is known of the served table at a start. */
struct flagshm_wards_start {
    void *context;
    /* False: the adopted table has no such flag, or none was adopted. `entry`: what the ward served by the journal's word. */
    bool (*served)(void *context, const struct flagshm_ward *ward, const struct flagshm_table_entry *entry,
                   struct flagshm_rollout_served *served, bool *was_planned);
    bool (*is_killed)(void *context, const char *flag);
};

/* Drafts what a new good set means for each ward, and makes wards of flags that have a plan or guardrails of their own. The first time it
 * recovers them, by `start`. 0 or -ENOMEM: then nothing is drafted. */
int flagshm_wards_take(struct flagshm_wards *wards, const struct flagshm_flagfile *good,
                       const struct flagshm_moment *now, const struct flagshm_wards_start *start);
/* Flags of a file that is not merged yet whose edit a rollout refuses: marks them broken, with an entry in `diags`. */
void flagshm_wards_refuse(const struct flagshm_wards *wards, struct flagshm_flagfile *file,
                          struct flagshm_diags *diags);

/* JSON for the journal, malloc'ed (NULL: no memory), and back: false where the text is none of ours. */
char *flagshm_ward_write(const struct flagshm_ward *ward, const struct flagshm_rollout *state);
bool flagshm_ward_read(struct flagshm_ward *ward, const char *text);

#endif
