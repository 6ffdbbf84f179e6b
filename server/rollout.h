/* rollout: the state of one guarded flag, and what may become of it: by a look at the evidence, an edit of the file, a person's word, a
 * restart.
 *
 * Pure: time, evidence and file are arguments; the state is plain data. It never raises a share but in the ways that DESIGN names, and
 * whatever lowers one is legal in every state. The share that is served is min(the file's cap, the state's share), 0 where killed or
 * latched.
 *
 * How a caller keeps the orders of commit and publish: copy the state, call one of the functions on the copy, and where a transition
 * comes back: is_lowering: publish, commit, notify; else commit, publish, notify, and where the commit fails forget the copy.
 *
 * Evidence (server/evidence) is of one number `evidence` of one `attempt`: keep the state's when a slot is taken, hand it in with each look,
 * and zero what is remembered of evidence where the attempt or the control's fingerprint has changed.
 */
#ifndef FLAGSHM_SERVER_ROLLOUT_H
#define FLAGSHM_SERVER_ROLLOUT_H

#include "server/verdict.h"

#include <stddef.h>

#define FLAGSHM_ROLLOUT_VERSION 1u /* of the state's text */
#define FLAGSHM_LATCHES_MAX     8u
#define FLAGSHM_LOOK_TEXT_MAX   24576u
#define FLAGSHM_STATE_TEXT_MAX  8192u
#define FLAGSHM_EVENT_TEXT_MAX  4096u

enum flagshm_stage {
    FLAGSHM_STAGE_OFF, /* has a plan, has not begun */
    FLAGSHM_STAGE_SHADOW,
    FLAGSHM_STAGE_STEP, /* also a flag without a plan: its share is the file's */
    FLAGSHM_STAGE_FULL, /* at the top, still watched */
    FLAGSHM_STAGE_COMPLETE,
    FLAGSHM_STAGE_ROLLED_BACK, /* latched */
    FLAGSHM_STAGE_KILLED
};

/* Why a share does not rise: bits of a set. */
enum flagshm_wait {
    FLAGSHM_WAIT_HOLD,
    FLAGSHM_WAIT_MIN_USERS,
    FLAGSHM_WAIT_NO_PAIRS, /* of shadow calls */
    FLAGSHM_WAIT_NO_TRAFFIC,
    FLAGSHM_WAIT_NO_OUTCOMES,
    FLAGSHM_WAIT_SIGNAL,
    FLAGSHM_WAIT_BREAKER, /* the variant fails wholly, for fewer than 5 users */
    FLAGSHM_WAIT_SRM,
    FLAGSHM_WAIT_TAINTED,
    FLAGSHM_WAIT_CAPACITY,
    FLAGSHM_WAIT_BOTH_ARMS_BAD,
    FLAGSHM_WAIT_PROVE,
    FLAGSHM_WAIT_APPROVAL,
    FLAGSHM_WAIT_WINDOW,
    FLAGSHM_WAIT_FREEZE,
    FLAGSHM_WAIT_PAUSED,
    FLAGSHM_WAIT_RECOVERING,
    FLAGSHM_WAIT_FILE_CAP,
    FLAGSHM_WAIT_UNWATCHED, /* it has no slot, or its counts cannot be read */
    FLAGSHM_WAIT_MODE,      /* "guard" or "observe": a person advances */
    FLAGSHM_WAIT_PLAN_END,  /* there is no higher step */
    FLAGSHM_WAITS
};

enum flagshm_cause {
    FLAGSHM_CAUSE_NONE,
    /* looks that raise */
    FLAGSHM_CAUSE_STARTED,
    FLAGSHM_CAUSE_ADVANCED,
    FLAGSHM_CAUSE_ADVANCED_THIN,
    FLAGSHM_CAUSE_COMPLETED,
    FLAGSHM_CAUSE_PROBE_ENDED,
    FLAGSHM_CAUSE_DRILL_ENDED,
    /* looks that lower */
    FLAGSHM_CAUSE_GUARDRAIL,
    FLAGSHM_CAUSE_BREAKER,
    FLAGSHM_CAUSE_ABSOLUTE,
    FLAGSHM_CAUSE_NO_DATA,
    FLAGSHM_CAUSE_STEPPED_BACK,
    FLAGSHM_CAUSE_PROBE,
    FLAGSHM_CAUSE_SHADOW_ENDED,
    /* looks that only say something */
    FLAGSHM_CAUSE_APPROVAL_ASKED,
    FLAGSHM_CAUSE_WOULD_ROLL_BACK,
    FLAGSHM_CAUSE_WOULD_STEP_BACK,
    FLAGSHM_CAUSE_WOULD_ADVANCE,
    FLAGSHM_CAUSE_SIGNAL,
    FLAGSHM_CAUSE_THIN_BREAKER,
    FLAGSHM_CAUSE_BOTH_ARMS_BAD,
    /* the file */
    FLAGSHM_CAUSE_FLAG_NEW,
    FLAGSHM_CAUSE_FLAG_GONE,
    FLAGSHM_CAUSE_FLAG_BACK,
    FLAGSHM_CAUSE_VALUE_NEW,
    FLAGSHM_CAUSE_VALUE_LATCHED,
    FLAGSHM_CAUSE_CONTROL_EDITED,
    FLAGSHM_CAUSE_PLAN_NEW,
    FLAGSHM_CAUSE_PLAN_EDITED,
    FLAGSHM_CAUSE_PLAN_GONE,
    FLAGSHM_CAUSE_FORM_EDITED,
    FLAGSHM_CAUSE_CAP,
    /* persons */
    FLAGSHM_CAUSE_KILLED,
    FLAGSHM_CAUSE_UNKILLED,
    FLAGSHM_CAUSE_ROLLED_BACK,
    FLAGSHM_CAUSE_CLEARED,
    FLAGSHM_CAUSE_ADVANCED_BY_HAND,
    FLAGSHM_CAUSE_APPROVED,
    FLAGSHM_CAUSE_PAUSED,
    FLAGSHM_CAUSE_RESUMED,
    FLAGSHM_CAUSE_WAIVED,
    FLAGSHM_CAUSE_DRILL,
    /* restarts */
    FLAGSHM_CAUSE_RECOVERED,
    FLAGSHM_CAUSE_JOURNAL_LOST,
    FLAGSHM_CAUSES
};

/* Time as the server has watched it. Zero it at the start; tick it each second, and before a look. A gap between ticks, a clock that
 * jumped, a suspend: what was before does not count as watched any more. */
struct flagshm_moment {
    uint64_t mono_ns, wall_ns;  /* CLOCK_MONOTONIC, CLOCK_REALTIME; of the last tick */
    uint64_t ran_since_mono_ns; /* the server ran from then on, without a gap */
};
void flagshm_moment_tick(struct flagshm_moment *moment, uint64_t mono_ns, uint64_t wall_ns);

struct flagshm_rollout { /* all zeros: a flag that was never seen */
    uint32_t version;
    enum flagshm_stage stage; /* never KILLED: a kill lies over it */
    uint32_t share_mpct;      /* of the plan, before the cap */
    uint32_t shadow_mpct;     /* the shadow step that is walked */
    uint32_t cap_mpct;        /* the file's, 0 where disabled */
    uint32_t before_mpct;     /* the share before the latch */
    bool is_seen, is_present, is_planned, is_killed, is_paused, is_probing, is_drilling, is_shadow_ended;
    bool has_traffic, has_outcome; /* in this evidence */
    uint64_t variant_fingerprint, control_fingerprint, plan_hash, guards_hash, form_hash;
    uint64_t latched[FLAGSHM_LATCHES_MAX]; /* values that were rolled back, the newest last */
    uint32_t latched_count;
    uint32_t attempt, evidence; /* numbers: of this value's try; of the evidence in it */
    uint64_t transitions;       /* the last transition's id */
    uint64_t hold_ns;           /* watched at this share */
    uint64_t traffic_quiet_ns, outcome_quiet_ns, quiet_latest_mono_ns, started, cooldown_ns, recovering_ns;
    uint64_t probe_left_ns, probe_rest_ns, drill_left_ns;
    uint64_t signal_ns[FLAGSHM_GUARD_KINDS]; /* for how long a signal still holds */
    uint64_t looked_mono_ns, looked_wall_ns; /* 0: not since the start */
    uint64_t stepped_back_wall_ns[3];
    uint64_t waived_until_wall_ns[FLAGSHM_WAITS];
    uint64_t approved_fingerprint, asked_fingerprint;
    uint32_t approved_mpct, asked_mpct; /* a shadow step's has SHADOW_STEP added */
    uint32_t said;                      /* what was told of this evidence */
    uint64_t entered_wall_ns;           /* this stage and share */
    uint64_t full_since_wall_ns, seen_wall_ns, drilled_wall_ns, drill_took_ns;
    bool drill_failed;
    char why[512]; /* the last transition that changed stage or share, in a sentence */
};

/* The flag as it stands in the good file. */
struct flagshm_rollout_file {
    const char *name;
    bool is_present;   /* false: nothing else is read */
    uint32_t cap_mpct; /* rollout_mpct; 0 where not enabled */
    uint64_t variant_fingerprint, control_fingerprint;
    const struct flagshm_plan *plan;     /* step_count 0: none */
    const struct flagshm_guards *guards; /* count 0: refused */
    /* Of what else counts depend on: salt, names and weights of the arms, force list, how long a call may take. */
    uint64_t form_hash;
};

struct flagshm_flag;
/* False where nobody guards it: it is broken, or has several variants. The strings and plans stay the flag's. Cost: that of hashing its
 * forced ids. */
bool flagshm_rollout_file_of(const struct flagshm_flag *flag, struct flagshm_rollout_file *file);

struct flagshm_local_time {
    bool is_known;   /* the machine knows the zone */
    uint8_t weekday; /* 0: monday */
    uint16_t minute; /* since midnight */
};

struct flagshm_look {
    struct flagshm_moment now;
    struct flagshm_local_time local; /* in the plan's zone; read where the plan has a window */
    bool is_frozen;
    bool has_verdict;  /* the flag has a slot, and its counts were read */
    uint32_t evidence; /* the state's, when the slot was taken: others are of an older share */
    uint64_t variant_started, control_started; /* counters STARTED; 0 where nobody books them */
    struct flagshm_verdict verdict;
};

struct flagshm_transition {
    uint64_t id; /* rises by one within a flag, over restarts too: notifications carry it */
    uint64_t wall_ns;
    enum flagshm_cause cause;
    bool is_lowering; /* publish first */
    bool is_told;     /* to the targets of "notify" */
    enum flagshm_stage from, to;
    uint32_t from_mpct, to_mpct; /* as served */
    uint32_t from_shadow_mpct, to_shadow_mpct;
    uint32_t attempt, evidence;           /* before it */
    int32_t guard;                        /* number of the guardrail that it rests on, or -1 */
    struct flagshm_guard_verdict numbers; /* of that guardrail */
    char user[64];
    char sentence[512];
};

struct flagshm_judgement {
    bool has_transition;
    struct flagshm_transition transition;
    uint32_t waits, waived;  /* bits 1 << flagshm_wait */
    uint32_t signals;        /* bits 1 << flagshm_guard_kind: what SIGNAL is about */
    int32_t step, next_step; /* numbers in the plan; -1: none */
    uint64_t hold_ns, hold_left_ns;
    uint64_t users, min_users;
};

enum flagshm_verb {
    FLAGSHM_VERB_KILL,
    FLAGSHM_VERB_UNKILL, /* is_resume */
    FLAGSHM_VERB_ROLLBACK,
    FLAGSHM_VERB_CLEAR,   /* is_resume */
    FLAGSHM_VERB_ADVANCE, /* to_mpct; 0: the next step */
    FLAGSHM_VERB_APPROVE,
    FLAGSHM_VERB_PAUSE,
    FLAGSHM_VERB_RESUME,
    FLAGSHM_VERB_WAIVE,     /* wait, for_ns */
    FLAGSHM_VERB_DRILL,     /* takes the real flag to 0 for at most for_ns */
    FLAGSHM_VERB_DRILL_END, /* drill_ns; has_failed */
};

struct flagshm_ask {
    enum flagshm_verb verb;
    const char *user, *reason; /* reason: "" where none was given */
    bool is_resume, has_failed;
    uint32_t to_mpct;
    enum flagshm_wait wait;
    uint64_t for_ns, drill_ns;
};

/* What an adopted table says of the flag. */
struct flagshm_rollout_served {
    uint64_t fingerprint; /* of the variant's value */
    uint32_t share_mpct;
    enum flagshm_stage stage; /* by its word: flagshm_stage_from_word */
    bool is_probe, is_drill, is_killed, is_latched;
    bool is_slot_kept; /* its evidence goes on */
};

/* ---- the four ways in which a state changes; true: `transition` is to be journalled (its share or stage has changed, or something is
 * to be said) ---- */

/* The file was read anew: call it for each flag, whether it changed or not. */
bool flagshm_rollout_edit(struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                          const struct flagshm_moment *now, struct flagshm_transition *transition);
/* Before that: a changed variant of a flag at 100 % whose control is still the old value would throw everybody back to it. True: refuse the
 * flag's entry (its last good form stays), with `text` as the reason. */
bool flagshm_rollout_refuses(const struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                             char *text, size_t room);
/* Judges, in the order of DESIGN section 9. At most one transition a look. Cost: about 1 us. */
bool flagshm_rollout_look(struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                          const struct flagshm_look *look, struct flagshm_judgement *judgement);
/* 0: done, with `transition`. -EALREADY: it is so already. -EPERM, -EINVAL: refused. The last three leave a sentence in transition->sentence
 * and the state as it was. */
int flagshm_rollout_ask(struct flagshm_rollout *s, const struct flagshm_rollout_file *file,
                        const struct flagshm_ask *ask, const struct flagshm_moment *now,
                        struct flagshm_transition *transition);
/* Where a rollout goes on that served `before_mpct` when it was stopped: the highest step at or below that and 10 %; 0: there is none. */
uint32_t flagshm_rollout_resume_mpct(const struct flagshm_plan *plan, uint32_t before_mpct);
/* After a start, before the first publish. `s` is what the journal keeps; zeros where it has nothing: is_journal_lost says that it should
 * have. `served` NULL: no table was adopted. Never raises what was served. */
bool flagshm_rollout_recover(struct flagshm_rollout *s, const struct flagshm_rollout_served *served,
                             const struct flagshm_rollout_file *file, bool is_journal_lost,
                             const struct flagshm_moment *now, struct flagshm_transition *transition);

/* ---- what a state says ---- */
enum flagshm_stage flagshm_rollout_stage(const struct flagshm_rollout *s); /* with the kill */
uint32_t flagshm_rollout_share(const struct flagshm_rollout *s);           /* served, mpct */
uint32_t flagshm_rollout_shadow(const struct flagshm_rollout *s); /* of users whose calls are shadowed */
bool flagshm_rollout_is_latched(const struct flagshm_rollout *s); /* the value that the file has now */
bool flagshm_rollout_is_guarded(const struct flagshm_rollout *s,
                                const struct flagshm_rollout_file *file); /* wants a slot */
/* Number of the step that is walked and of the one that is next; -1: none. */
int32_t flagshm_rollout_step(const struct flagshm_rollout *s, const struct flagshm_plan *plan);
int32_t flagshm_rollout_next_step(const struct flagshm_rollout *s, const struct flagshm_plan *plan);
/* How long the step that is walked is held, the top watched; 0: there is none. */
uint64_t flagshm_rollout_hold_ns(const struct flagshm_rollout *s, const struct flagshm_plan *plan);
/* At 100 % for 30 days. */
bool flagshm_rollout_is_stale(const struct flagshm_rollout *s, uint64_t wall_ns);
/* Its way back was never tried, or not for drill_every. */
bool flagshm_rollout_is_undrilled(const struct flagshm_rollout *s, const struct flagshm_plan *plan,
                                  uint64_t wall_ns);

/* ---- rollout_words.c ---- */
/* "shadow-10pct", "canary-5pct" (up to 10 %), "ramp-25pct", "full", "complete", "rolled-back", "killed", "off", "static-5pct", "probe-50pct",
 * "drill": the stage of the record, with zeros behind it. */
void flagshm_rollout_stage_word(const struct flagshm_rollout *s, char word[24]);
/* "static-5pct" of "static" and 5 %, with zeros behind it. Without printf: a table has one for each flag. */
void flagshm_stage_share_word(const char *kind, uint32_t mpct, char word[24]);
enum flagshm_stage flagshm_stage_from_word(const char *word, bool *is_probe, bool *is_drill);
const char *flagshm_stage_name(enum flagshm_stage stage);
const char *flagshm_wait_name(enum flagshm_wait wait);
bool flagshm_wait_from_name(const char *name, enum flagshm_wait *wait);
bool flagshm_wait_is_firm(enum flagshm_wait wait); /* cannot be waived */
const char *flagshm_cause_name(enum flagshm_cause cause);
/* One reason to wait in a sentence, with the command that ends it; as snprintf. */
size_t flagshm_wait_explain(enum flagshm_wait wait, const struct flagshm_rollout *s,
                            const struct flagshm_rollout_file *file,
                            const struct flagshm_judgement *judgement, char *text, size_t room);
char *flagshm_duration_text(uint64_t ns, char out[32]); /* "3h 20m" */

/* ---- rollout_text.c: JSON, for the journal and for replays. Write returns the length, as snprintf; read gives false where the text is
 * not one that was written (or of a newer version), and leaves what it reads into undefined. ---- */
size_t flagshm_rollout_write(const struct flagshm_rollout *s, char *text, size_t room);
bool flagshm_rollout_read(struct flagshm_rollout *s, const char *text);
size_t flagshm_look_write(const struct flagshm_look *look, char *text, size_t room);
bool flagshm_look_read(struct flagshm_look *look, const char *text);
size_t flagshm_transition_write(const struct flagshm_transition *transition, char *text, size_t room);
bool flagshm_transition_read(struct flagshm_transition *transition, const char *text);

#endif
