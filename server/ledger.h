/* ledger: who books where: the outcome segment, its slots, and what the server knows of each.
 *
 * Joins the segment (outcomes), the pure keeper of slots (slots) and the table: gives each flag that splits its users a slot while there are
 * any, turns the windows, looks for lies. Without room or permission for the segment there are no slots; nothing else suffers. One
 * thread: the server's loop.
 */
#ifndef FLAGSHM_SERVER_LEDGER_H
#define FLAGSHM_SERVER_LEDGER_H

#include "server/doorbell.h"
#include "server/outcomes.h"
#include "server/outcomes_read.h"
#include "server/segment.h"
#include "server/slots.h"

#include <stdbool.h>
#include <stdint.h>

#define FLAGSHM_WASH_IN_NS UINT64_C(60000000000)

struct flagshm_ledger_entry { /* of a slot */
    char flag[72];
    struct flagshm_slot_form form;
    uint64_t opened_mono_ns, opened_realtime_ns;
    uint64_t guard_key;  /* flagshm_ledger_guard_key of what it is judged by */
    uint64_t wash_in_ns; /* since opened_mono_ns; then whoever judges opens it */
    bool is_open, is_tainted;
    uint64_t last[8][FLAGSHM_COUNTERS]; /* as last looked at */
};

struct flagshm_ledger {
    struct flagshm_outcomes_options options;
    struct flagshm_outcomes_file file;
    struct flagshm_slots slots;
    struct flagshm_ledger_entry *entries; /* [FLAGSHM_SLOTS] */
    struct flagshm_error fault;           /* why there is no segment, as last told; "": there is one */
    struct flagshm_error slot_fault;      /* why a slot could not be prepared, as last told */
    uint64_t retry_mono_ns, retry_slots_mono_ns;
    uint32_t window_4h, window_1h;     /* as announced: what they count in was cleared before */
    uint32_t refused, refused_guarded; /* flags of the served table for which no slot, or no room, was free */
    uint32_t compiling_refused, compiling_refused_guarded;
    uint64_t now_mono_ns, now_realtime_ns;   /* while compiling */
    unsigned look;                           /* the next slots to look at */
    struct flagshm_doorbell *bell;           /* NULL: nobody rings */
    int bell_fd;                             /* readable when it has rung */
    uint64_t news;                           /* slots with bad news that were looked at */
    uint64_t news_slots[FLAGSHM_SLOTS / 64]; /* which, since flagshm_ledger_take_news */
};

/* The strings of `options` must outlive it. Adopts the segment and slots of an adopted table (`segment->header` not NULL), else makes a new one, and
 * names it in the table. Only -ENOMEM is an error; another fault is told and tried again. */
int flagshm_ledger_open(struct flagshm_ledger *ledger, const struct flagshm_outcomes_options *options,
                        struct flagshm_segment *segment, uint64_t mono_ns, uint64_t realtime_ns,
                        struct flagshm_error *error);
void flagshm_ledger_close(struct flagshm_ledger *ledger);

/* What a slot's evidence depends on beside the record: guardrails, how long a call may take, number of the attempt and of the evidence
 * in it. 0: the flag is not guarded. */
uint64_t flagshm_ledger_guard_key(const struct flagshm_table_entry *entry);
/* After a start, before anything is compiled: is the slot that was adopted for the flag one of this evidence? */
bool flagshm_ledger_holds(const struct flagshm_ledger *ledger, uint64_t flag_hash, uint64_t guard_key);
/* Would a flag get a slot now that it does not hold yet? */
bool flagshm_ledger_has_free(const struct flagshm_ledger *ledger, uint64_t mono_ns);

/* For flagshm_table_build_booked; end says whether that table was published. Clients may book in slots given meanwhile already; users
 * count in those that are not guarded. */
struct flagshm_table_booking flagshm_ledger_begin(struct flagshm_ledger *ledger, uint64_t mono_ns,
                                                  uint64_t realtime_ns);
void flagshm_ledger_end(struct flagshm_ledger *ledger, bool is_published, uint64_t mono_ns);

/* Each second: is the segment sound; the windows; lies. True: the slots have become others (the segment was lost or made; one is free again
 * for a flag that was refused), and the table is to be compiled anew. Writes the segment's id and the numbers of the windows into the table's liveness line. */
bool flagshm_ledger_beat(struct flagshm_ledger *ledger, struct flagshm_segment *segment, uint64_t mono_ns);
/* Lets clients ring once, then looks at what came before. rung: bell_fd is readable. */
void flagshm_ledger_arm(struct flagshm_ledger *ledger);
void flagshm_ledger_rung(struct flagshm_ledger *ledger);
/* The slots with bad news since the last call, as bits. */
void flagshm_ledger_take_news(struct flagshm_ledger *ledger, uint64_t slots[FLAGSHM_SLOTS / 64]);

/* Ends the wash-in of a slot: users and cells count from now on. */
void flagshm_ledger_open_slot(struct flagshm_ledger *ledger, uint32_t slot);
/* What clients compare an amount with. Signals that the slot does not have are passed over. */
void flagshm_ledger_set_threshold(struct flagshm_ledger *ledger, uint32_t slot, uint32_t signal,
                                  uint64_t threshold);
/* As clients find them; UINT64_MAX: none. As hostile as all that they can write. */
void flagshm_ledger_thresholds(const struct flagshm_ledger *ledger, uint32_t slot,
                               uint64_t known[FLAGSHM_SIGNALS_MAX]);
/* A new table segment: names the outcome segment in it. Cost: three stores. */
void flagshm_ledger_name(const struct flagshm_ledger *ledger, struct flagshm_segment *segment);

/* The slot of a flag by its name's hash, or NULL; *slot. */
const struct flagshm_ledger_entry *flagshm_ledger_find(const struct flagshm_ledger *ledger,
                                                       uint64_t flag_hash, uint32_t *slot);
/* Reads the counts of a slot; looks for lies on the way. False: they cannot be read now. */
bool flagshm_ledger_read(struct flagshm_ledger *ledger, uint32_t slot, struct flagshm_slot_counts *counts);

#endif
