/* governor_internal: what the governor's files share: governor.c (its life), governor_look.c (from counts to drafts), governor_commit.c
 * (writing down, reports), governor_tell.c (notices), governor_ask.c (persons), governor_drill.c, governor_view.c. For no one else. */
#ifndef FLAGSHM_SERVER_GOVERNOR_INTERNAL_H
#define FLAGSHM_SERVER_GOVERNOR_INTERNAL_H

#include "server/governor.h"

enum flagshm_order_kind {
    FLAGSHM_ORDER_RISE, /* not in force before it is written down */
    FLAGSHM_ORDER_MOVE, /* in force */
    FLAGSHM_ORDER_FREEZE,
    FLAGSHM_ORDER_THAW
};

/* Something that was given to the journal, until it reports. */
struct flagshm_order {
    struct flagshm_order *next;
    uint64_t ticket, asker;
    enum flagshm_order_kind kind;
    uint64_t flag_hash;
    struct flagshm_transition transition;
    char user[64];
    char notice_id[160];
    char *notice;             /* NULL: nobody is told; owned */
    struct flagshm_plan plan; /* for the targets, as they were then */
};

struct flagshm_drill {
    bool is_on;
    char flag[72], hidden[72], user[64];
    struct flagshm_flagfile set;
    uint64_t until_mono_ns;
};

struct flagshm_governor {
    struct flagshm_governor_options options;
    struct flagshm_publisher *publisher;
    struct flagshm_notify *notify; /* NULL: it could not be begun */
    struct flagshm_order *orders;
    uint64_t tickets;
    bool is_frozen;
    char frozen_by[64], frozen_reason[400];
    uint64_t frozen_wall_ns;
    struct flagshm_drill drill;
    uint32_t unguardable[FLAGSHM_SLOTS]; /* generations of slots whose flag nobody can or may guard */
    char zone[64];                       /* that `local` is of */
    struct flagshm_local_time local;
    uint64_t local_minute;
    struct flagshm_error refusal; /* of a publish, as last told */
};

/* ---- governor.c ---- */
struct flagshm_moment *flagshm_governor_now(struct flagshm_governor *g); /* ticked */
/* Publishes the drafts. False: it could not, and they are dropped; those that lower are in force nevertheless. */
bool flagshm_governor_publish(struct flagshm_governor *g);
/* Takes all away from a flag where no table can be compiled: a switch in a copy of the served bank. */
void flagshm_governor_take_away(struct flagshm_governor *g, struct flagshm_ward *ward);

/* ---- governor_look.c ---- */
/* True: the ward has a draft that must be published. */
bool flagshm_governor_look(struct flagshm_governor *g, struct flagshm_ward *ward);
/* Judges, and sees what it waits for now; nothing is done about it. */
void flagshm_governor_peek(struct flagshm_governor *g, struct flagshm_ward *ward);
/* Makes wards of flags without a plan whose outcomes come. True: there are drafts to publish. */
bool flagshm_governor_guard_others(struct flagshm_governor *g);
const struct flagshm_ledger_entry *flagshm_governor_slot(const struct flagshm_governor *g,
                                                         const struct flagshm_ward *ward, uint32_t *slot);
/* A slot that its flag shall have with the next table; else no guarded rollout begins or goes on. */
bool flagshm_governor_has_slot(const struct flagshm_governor *g, const struct flagshm_ward *ward);

/* ---- governor_commit.c ---- */
/* Is it one that must be written down before it is published? */
bool flagshm_transition_is_rise(const struct flagshm_transition *t);
/* The ward's draft is a rise: it is written down first. The draft is dropped. 0; -ENOMEM. */
int flagshm_governor_begin_rise(struct flagshm_governor *g, struct flagshm_ward *ward, uint64_t asker);
/* What is in force is given to the journal; nobody is told. */
void flagshm_governor_keep(struct flagshm_governor *g, struct flagshm_ward *ward);
int flagshm_governor_give_setting(struct flagshm_governor *g, enum flagshm_order_kind kind, const char *user,
                                  const char *reason, uint64_t asker);
void flagshm_governor_free_orders(struct flagshm_governor *g);

/* ---- governor_tell.c ---- */
/* The same over restarts: a transition that a killed server could not write down gets its number again. */
void flagshm_governor_name_notice(const struct flagshm_governor *g, const struct flagshm_ward *ward,
                                  const struct flagshm_rollout *state, struct flagshm_order *order);
char *flagshm_governor_notice_text(const struct flagshm_governor *g, const struct flagshm_ward *ward,
                                   const struct flagshm_rollout *state, const struct flagshm_order *order);
void flagshm_governor_tell(struct flagshm_governor *g, const struct flagshm_order *order);
/* Of a rise that was written down, and of which nothing comes: its notices stand in the journal. */
void flagshm_governor_forget_notices(struct flagshm_governor *g, const struct flagshm_order *order);
/* What the last run has not told. */
void flagshm_governor_load_notices(struct flagshm_governor *g);

/* ---- governor_ask.c ---- */
void flagshm_governor_answer_set(struct flagshm_governor_answer *answer, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
struct flagshm_ward *flagshm_governor_ward(struct flagshm_governor *g, const char *flag,
                                           struct flagshm_governor_answer *answer);

/* ---- governor_drill.c ---- */
void flagshm_governor_drill_beat(struct flagshm_governor *g);
void flagshm_governor_drill_stop(struct flagshm_governor *g);

#endif
