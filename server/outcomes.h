/* outcomes: the second segment, where clients book what became of their calls.
 *
 * Clients write it, so nothing in it is believed: offsets are constants, counts are only counts. A member of the clients' group
 * may even cut the file short: a read beyond its end then finds zeros (flagshm_outcomes_guard), the segment counts as damaged, and the
 * next beat builds another one under a new id that the table carries. One thread: the server's loop.
 */
#ifndef FLAGSHM_SERVER_OUTCOMES_H
#define FLAGSHM_SERVER_OUTCOMES_H

#include "client/flagshm.h"
#include "server/error.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct flagshm_outcomes_options {
    const char *dir; /* FLAGSHM_DIR (the file stands in its subdirectory "outcomes"), or NULL: /dev/shm */
    const char *instance;
    gid_t group; /* of the clients; (gid_t)-1: as it comes. Mode 0660 */
};

struct flagshm_outcomes_file {
    struct flagshm_outcomes *segment; /* NULL: there is none */
    uint64_t id;                      /* as we made or adopted it; the bytes in the file may lie */
    uint64_t device, inode;
    int fd;
    bool is_adopted;
    volatile sig_atomic_t *is_torn_; /* set where a read found a hole */
    char path[320];
    gid_t group;
};

/* What a slot is prepared for. */
struct flagshm_slot_form {
    const char *flag;
    uint64_t flag_hash;
    uint32_t arm_count;
    bool has_shadow;
    bool is_guarded;       /* users count only when flagshm_outcomes_open_slot ends its wash-in */
    uint32_t signal_count; /* at most FLAGSHM_SIGNALS_MAX */
    struct {
        enum flagshm_signal_kind kind;
        bool is_timed;
    } signals[FLAGSHM_SIGNALS_MAX];
    uint64_t overdue_ns; /* how long a call may take before it counts as lost, for FLAGSHM_SIGNAL_LOST */
};

struct flagshm_slot_memo {
    uint64_t opened_mono_ns, opened_realtime_ns; /* when it began to count */
    uint64_t guards_hash;                        /* 0: not guarded */
};

/* Adopts the segment that the adopted table names (`wanted`; 0: none) where every gate holds: ours, regular, of our size and layout, of this
 * boot, not writable by others; else builds a new one. 0; -ENOSPC, -EACCES, -EPERM (a stranger's object; names the mend), -errno: there is none
 * then (segment NULL), and nothing else suffers. */
int flagshm_outcomes_open(struct flagshm_outcomes_file *file, const struct flagshm_outcomes_options *options,
                          uint64_t wanted, struct flagshm_error *error);
/* Gives the file the mode and the group that clients need, where somebody has changed them. Cost: a system call. */
void flagshm_outcomes_keep_mode(const struct flagshm_outcomes_file *file);
/* Unmaps it; the file stays for clients. */
void flagshm_outcomes_close(struct flagshm_outcomes_file *file);

/* Is it still there, whole, and ours? False where it was removed, replaced, cut short or torn: open it anew (wanted 0). Cost: two
 * system calls. */
bool flagshm_outcomes_is_sound(const struct flagshm_outcomes_file *file);

/* Allocates and clears what a slot of this form needs, and opens it to clients under `generation`. 0; -ENOSPC: the slot stays as it was; at least
 * a quarter of the file system (or 64 MiB) is left for the table. */
int flagshm_outcomes_prepare(struct flagshm_outcomes_file *file, uint32_t slot, uint32_t generation,
                             const struct flagshm_slot_form *form, struct flagshm_error *error);
/* Gives a slot that is in use, and had no signals, those of `form`; what it has counted stays, and it washes in from now on. 0; -ENOSPC: it stays
 * as it was. */
int flagshm_outcomes_add_signals(struct flagshm_outcomes_file *file, uint32_t slot,
                                 const struct flagshm_slot_form *form, struct flagshm_error *error);
/* Writes into a slot what a server that adopts it wants to know. */
void flagshm_outcomes_set_memo(struct flagshm_outcomes_file *file, uint32_t slot,
                               const struct flagshm_slot_memo *memo);
/* What stands there, and the signals that it shows, into form->signals, signal_count and overdue_ns; false where the times make no
 * sense now: all of it is as hostile as anything else. */
bool flagshm_outcomes_memo(const struct flagshm_outcomes_file *file, uint32_t slot, uint64_t now_mono_ns,
                           uint64_t now_realtime_ns, struct flagshm_slot_memo *memo,
                           struct flagshm_slot_form *form);
/* Bytes that a slot of this form takes. */
uint64_t flagshm_slot_form_bytes(const struct flagshm_slot_form *form);
/* The wash-in is over: users and cells count from now on. */
void flagshm_outcomes_open_slot(struct flagshm_outcomes_file *file, uint32_t slot);
/* What clients compare an amount with; UINT64_MAX: nothing is above it. */
void flagshm_outcomes_set_threshold(struct flagshm_outcomes_file *file, uint32_t slot, uint32_t signal,
                                    uint64_t threshold);
/* Clears what the next window of a slot will count in: before its number is announced. `is_4h`, else 1 h; `number` is the next one. */
void flagshm_outcomes_clear_window(struct flagshm_outcomes_file *file, uint32_t slot,
                                   const struct flagshm_slot_form *form, bool is_4h, uint32_t number);
/* Where the next window of calls under way begins: counts what has been under way since before the last one as lost (each user once, in
 * the cells of now; all calls in the arm's counter), and announces the window. */
void flagshm_outcomes_turn_lost(struct flagshm_outcomes_file *file, uint32_t slot,
                                const struct flagshm_slot_form *form, uint64_t mono_ns, uint32_t window_4h,
                                uint32_t window_1h);
/* The generation that a slot shows; as hostile as all else. A slot that was never prepared has no memory, and shall get none by being
 * looked at (a full tmpfs answers that with SIGBUS): peek asks the file, with a system call. */
uint32_t flagshm_outcomes_generation(const struct flagshm_outcomes_file *file, uint32_t slot);
uint32_t flagshm_outcomes_peek(const struct flagshm_outcomes_file *file, uint32_t slot);
/* Is a prepared slot open? */
bool flagshm_outcomes_is_open(const struct flagshm_outcomes_file *file, uint32_t slot);

/* The doorbell. arm: clients may ring once. take: the slots with bad news since, as bits; they are cleared. */
void flagshm_outcomes_arm(struct flagshm_outcomes_file *file);
bool flagshm_outcomes_take(struct flagshm_outcomes_file *file, uint64_t dirty[FLAGSHM_SLOTS / 64]);
/* The futex word that clients move. NULL: no segment. */
uint32_t *flagshm_outcomes_bell(struct flagshm_outcomes_file *file);

#endif
