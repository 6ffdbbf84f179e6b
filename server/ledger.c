/* ledger: see the header. */
#include "server/ledger.h"
#include "server/evidence.h"
#include "server/log.h"
#include "server/rollout.h"
#include "server/segment_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RETRY_NS          UINT64_C(5000000000)
#define LOOKS_A_BEAT      64u                  /* slots; all of them in four seconds */
#define GENERATIONS_AHEAD (1u << 20)           /* of the seconds: one for each slot of each of 4096 edits */
#define GENERATION_ZERO   UINT64_C(1700000000) /* seconds of the epoch that generations count from */
#define WINDOW_1H_NS                                                                                         \
    UINT64_C(3600000000000)             /* windows are numbered by the host's own clock, so that a restart */
#define WINDOW_4H_NS (4 * WINDOW_1H_NS) /* goes on with the one that it finds */

static const char *flag_of(const struct flagshm_ledger *ledger, uint32_t slot)
{
    return ledger->entries[slot].flag;
}

/* ---- the segment ---- */

static void tell_fault(struct flagshm_ledger *ledger, const struct flagshm_error *error)
{
    if (strcmp(ledger->fault.text, error->text) != 0)
        flagshm_log(FLAGSHM_LOG_WARNING, "outcomes are not recorded: %s; flags are served", error->text);
    ledger->fault = *error;
}

static void hang_bell(struct flagshm_ledger *ledger)
{
    struct flagshm_error error = {{0}};

    if (flagshm_doorbell_open(&ledger->bell, flagshm_outcomes_bell(&ledger->file), ledger->bell_fd, &error) !=
        0)
        flagshm_log(FLAGSHM_LOG_WARNING, "bad outcomes are seen once a second only: %s", error.text);
}

static bool make_segment(struct flagshm_ledger *ledger, uint64_t wanted, uint64_t mono_ns)
{
    struct flagshm_error error = {{0}};
    int result = flagshm_outcomes_open(&ledger->file, &ledger->options, wanted, &error);

    if (result != 0) {
        if (error.text[0] == '\0')
            flagshm_error_set(&error, result, "%s: %s", ledger->file.path, strerror(-result));
        tell_fault(ledger, &error);
        ledger->retry_mono_ns = mono_ns + RETRY_NS;
        return false;
    }
    if (ledger->fault.text[0] != '\0')
        flagshm_log(FLAGSHM_LOG_NOTICE, "outcomes are recorded in %s", ledger->file.path);
    ledger->fault.text[0] = '\0';
    hang_bell(ledger);
    return true;
}

static void leave_segment(struct flagshm_ledger *ledger)
{
    flagshm_doorbell_close(ledger->bell); /* it waits in that memory */
    ledger->bell = NULL;
    flagshm_outcomes_close(&ledger->file);
}

void flagshm_ledger_name(const struct flagshm_ledger *ledger, struct flagshm_segment *segment)
{
    struct flagshm_header *h = segment->header;

    if (h == NULL)
        return;
    __atomic_store_n(&h->window_4h, ledger->window_4h, __ATOMIC_RELEASE);
    __atomic_store_n(&h->window_1h, ledger->window_1h, __ATOMIC_RELEASE);
    __atomic_store_n(&h->outcomes_id, ledger->file.id, __ATOMIC_RELEASE);
}

/* Turns the windows that are over: clears what the next ones count in, for flagshm_ledger_name to announce them. */
static void turn_windows(struct flagshm_ledger *ledger, uint64_t mono_ns)
{
    uint32_t w4 = (uint32_t)(mono_ns / WINDOW_4H_NS), w1 = (uint32_t)(mono_ns / WINDOW_1H_NS), slot;

    if (w4 == ledger->window_4h && w1 == ledger->window_1h)
        return;
    for (slot = 0; slot < FLAGSHM_SLOTS; slot++) {
        if (ledger->slots.holders[slot].flag_hash == 0)
            continue;
        if (w4 != ledger->window_4h)
            flagshm_outcomes_clear_window(&ledger->file, slot, &ledger->entries[slot].form, true, w4);
        if (w1 != ledger->window_1h)
            flagshm_outcomes_clear_window(&ledger->file, slot, &ledger->entries[slot].form, false, w1);
    }
    ledger->window_4h = w4;
    ledger->window_1h = w1;
}

/* A generation that no lost memory of ours has given out: seconds, unless more were given out than seconds passed. */
static uint32_t first_generation(uint64_t realtime_ns)
{
    uint64_t seconds = realtime_ns / 1000000000u;

    return seconds > GENERATION_ZERO ? (uint32_t)(seconds - GENERATION_ZERO) : 1;
}

/* ---- slots ---- */

static uint64_t overdue_ns(const struct flagshm_table_entry *entry)
{
    return entry->flag->plan != NULL ? entry->flag->plan->overdue_ns : 0;
}

uint64_t flagshm_ledger_guard_key(const struct flagshm_table_entry *entry)
{
    const struct flagshm_rollout *rollout = entry->rollout;
    uint64_t words[3] = {0}, hash;

    if (entry->guards == NULL)
        return 0;
    words[0] = flagshm_guards_hash(entry->guards);
    words[1] = overdue_ns(entry);
    words[2] = rollout != NULL ? (uint64_t)rollout->attempt << 32 | rollout->evidence : 0;
    hash = flagshm_hash64_(words, sizeof words, 0);
    return hash != 0 ? hash : 1;
}

/* What the server knows of a slot, for a flag by its name. */
static void fill_entry(struct flagshm_ledger_entry *e, const char *flag, size_t flag_bytes,
                       const struct flagshm_flag_entry *r, uint64_t mono_ns, uint64_t realtime_ns)
{
    memset(e, 0, sizeof *e);
    memcpy(e->flag, flag, flag_bytes < sizeof e->flag ? flag_bytes : sizeof e->flag - 1);
    e->form.flag = e->flag;
    e->form.flag_hash = r->name_hash;
    e->form.arm_count = r->arm_count <= 8 ? r->arm_count : 8;
    e->form.has_shadow = r->shadow_mpct != 0 && e->form.arm_count < 8;
    e->opened_mono_ns = mono_ns;
    e->opened_realtime_ns = realtime_ns;
    e->wash_in_ns = FLAGSHM_WASH_IN_NS; /* of one that is adopted: it is not known any more */
}

/* The counts of a slot that is adopted are nobody's leap, and began when it began. */
static void look_first(struct flagshm_ledger *ledger, uint32_t slot, bool is_guarded)
{
    struct flagshm_ledger_entry *e = &ledger->entries[slot];
    struct flagshm_slot_memo memo;
    uint32_t arm;

    for (arm = 0; arm < e->form.arm_count; arm++)
        flagshm_outcomes_read_counters(&ledger->file, slot, arm, e->last[arm]);
    if (flagshm_outcomes_memo(&ledger->file, slot, e->opened_mono_ns, e->opened_realtime_ns, &memo,
                              &e->form)) {
        e->opened_mono_ns = memo.opened_mono_ns;
        e->opened_realtime_ns = memo.opened_realtime_ns;
    }
    e->form.is_guarded = is_guarded;
    e->guard_key = is_guarded ? memo.guards_hash : 0;
    e->is_open = !is_guarded || flagshm_outcomes_is_open(&ledger->file, slot);
}

static void tell_slot_fault(struct flagshm_ledger *ledger, const struct flagshm_error *error)
{
    if (strcmp(ledger->slot_fault.text, error->text) != 0)
        flagshm_log(FLAGSHM_LOG_WARNING, "%s; its outcomes are not recorded", error->text);
    ledger->slot_fault = *error;
}

/* A slot that was just given, for what is judged in it. */
static bool prepare(struct flagshm_ledger *ledger, uint32_t slot, const struct flagshm_table_entry *entry,
                    uint64_t guard_key)
{
    const struct flagshm_slot_memo memo = {ledger->now_mono_ns, ledger->now_realtime_ns, guard_key};
    struct flagshm_ledger_entry *e = &ledger->entries[slot];
    struct flagshm_error error = {{0}};

    e->guard_key = guard_key;
    e->is_open = guard_key == 0;
    if (guard_key != 0)
        e->wash_in_ns = entry->wash_in_ns;
    if (flagshm_outcomes_prepare(&ledger->file, slot, ledger->slots.holders[slot].generation, &e->form,
                                 &error) != 0) {
        tell_slot_fault(ledger, &error);
        return false;
    }
    flagshm_outcomes_set_memo(&ledger->file, slot, &memo);
    return true;
}

/* A slot whose flag nobody watched until its outcomes came: what it has counted stays. */
static void guard_in_place(struct flagshm_ledger *ledger, const struct flagshm_flag_entry *record,
                           const struct flagshm_table_entry *entry, uint64_t key, uint64_t guard_key)
{
    uint32_t slot = flagshm_slots_held(&ledger->slots, record->name_hash, key);
    struct flagshm_slot_memo memo;
    struct flagshm_error error = {{0}};
    struct flagshm_slot_form form;
    struct flagshm_ledger_entry *e;

    if (slot == FLAGSHM_NO_SLOT || ledger->entries[slot].guard_key != 0 ||
        ledger->entries[slot].form.has_shadow != (record->shadow_mpct != 0))
        return;
    e = &ledger->entries[slot];
    form = e->form;
    flagshm_evidence_form(entry->guards, overdue_ns(entry), &form);
    if (flagshm_outcomes_add_signals(&ledger->file, slot, &form, &error) != 0) {
        tell_slot_fault(ledger, &error);
        return;
    }
    memo = (struct flagshm_slot_memo){e->opened_mono_ns, e->opened_realtime_ns, guard_key};
    flagshm_outcomes_set_memo(&ledger->file, slot, &memo);
    e->form = form;
    e->form.is_guarded = true;
    e->guard_key = guard_key;
    e->is_open = false;
    e->wash_in_ns = ledger->now_mono_ns - e->opened_mono_ns + entry->wash_in_ns;
    flagshm_slots_rekey(&ledger->slots, slot, key ^ guard_key);
}

static void book(void *context, struct flagshm_flag_entry *record, const struct flagshm_table_entry *entry,
                 uint64_t key)
{
    struct flagshm_ledger *ledger = context;
    uint64_t guard_key = flagshm_ledger_guard_key(entry);
    bool is_new;
    uint32_t slot;

    if (ledger->file.segment == NULL)
        return;
    if (guard_key != 0)
        guard_in_place(ledger, record, entry, key, guard_key);
    slot =
        flagshm_slots_want(&ledger->slots, record->name_hash, key ^ guard_key, ledger->now_mono_ns, &is_new);
    if (slot == FLAGSHM_NO_SLOT) {
        ledger->compiling_refused++;
        ledger->compiling_refused_guarded += guard_key != 0;
        return;
    }
    if (is_new)
        fill_entry(&ledger->entries[slot], entry->flag->name, entry->flag->name_bytes, record,
                   ledger->now_mono_ns, ledger->now_realtime_ns);
    if (guard_key != 0) /* also where it was adopted: the segment may lie about its signals */
        flagshm_evidence_form(entry->guards, overdue_ns(entry), &ledger->entries[slot].form);
    if (is_new && !prepare(ledger, slot, entry, guard_key)) {
        flagshm_slots_take_back(&ledger->slots, slot);
        ledger->compiling_refused++;
        ledger->compiling_refused_guarded += guard_key != 0;
        return;
    }
    record->slot = slot;
    record->slot_generation = ledger->slots.holders[slot].generation;
}

struct flagshm_table_booking flagshm_ledger_begin(struct flagshm_ledger *ledger, uint64_t mono_ns,
                                                  uint64_t realtime_ns)
{
    ledger->now_mono_ns = mono_ns;
    ledger->now_realtime_ns = realtime_ns;
    ledger->compiling_refused = ledger->compiling_refused_guarded = 0;
    flagshm_slots_begin(&ledger->slots);
    return (struct flagshm_table_booking){ledger, book};
}

void flagshm_ledger_end(struct flagshm_ledger *ledger, bool is_published, uint64_t mono_ns)
{
    flagshm_slots_end(&ledger->slots, is_published, mono_ns);
    if (!is_published)
        return;
    if (ledger->compiling_refused == 0)
        ledger->slot_fault.text[0] = '\0';
    if (ledger->compiling_refused_guarded > ledger->refused_guarded)
        flagshm_log(FLAGSHM_LOG_WARNING,
                    "%u flags with guardrails have no slot to book outcomes in: all %u are in use, or rest "
                    "for an hour "
                    "after an edit; they are served unguarded until one is free",
                    (unsigned)ledger->compiling_refused_guarded, FLAGSHM_SLOTS);
    ledger->refused = ledger->compiling_refused;
    ledger->refused_guarded = ledger->compiling_refused_guarded;
}

/* ---- start and end ---- */

static const struct flagshm_flag_entry *records_of(const struct flagshm_table *table)
{
    return (const struct flagshm_flag_entry *)(const void *)(table->bytes + table->geometry.records_offset);
}

/* Generations go on above those that the adopted table names, also where their segment is lost: decisions of then are still
 * about. */
static void know_generations(struct flagshm_ledger *ledger, const struct flagshm_segment *segment)
{
    struct flagshm_table served = flagshm_segment_served(segment);
    uint32_t i;

    for (i = 0; i < served.flag_count; i++)
        if (records_of(&served)[i].slot < FLAGSHM_SLOTS &&
            records_of(&served)[i].slot_generation > ledger->slots.generation)
            ledger->slots.generation = records_of(&served)[i].slot_generation;
}

/* The slots that the adopted table names are held in the form that it serves; others that show a generation were in use, and
 * rest. A generation in the segment is believed only as far as we can have come: a client that wrote the last number there is would else
 * leave none to give out. */
static void adopt_slots(struct flagshm_ledger *ledger, const struct flagshm_segment *segment,
                        uint64_t mono_ns, uint64_t realtime_ns)
{
    struct flagshm_table served = flagshm_segment_served(segment);
    const unsigned char *heap = served.bytes + served.geometry.heap_offset;
    const struct flagshm_flag_entry *records = records_of(&served);
    uint32_t slot, i, most = ledger->slots.generation + GENERATIONS_AHEAD;

    for (slot = 0; slot < FLAGSHM_SLOTS; slot++) {
        uint32_t generation = flagshm_outcomes_peek(&ledger->file, slot);

        if (generation != 0)
            flagshm_slots_rest(&ledger->slots, slot, generation <= most ? generation : 0, mono_ns);
    }
    for (i = 0; i < served.flag_count; i++) {
        const struct flagshm_flag_entry *r = &records[i];

        if (r->slot >= FLAGSHM_SLOTS ||
            !flagshm_is_inside_(r->name_offset, r->name_bytes, served.heap_used) || r->slot_generation == 0 ||
            flagshm_outcomes_peek(&ledger->file, r->slot) != r->slot_generation)
            continue;
        fill_entry(&ledger->entries[r->slot], (const char *)heap + r->name_offset, r->name_bytes, r, mono_ns,
                   realtime_ns);
        look_first(ledger, r->slot, (r->switches & FLAGSHM_SWITCH_GUARDED) != 0);
        flagshm_slots_adopt(&ledger->slots, r->slot, r->name_hash,
                            flagshm_table_form_key(heap, served.heap_used, r) ^
                                ledger->entries[r->slot].guard_key,
                            r->slot_generation);
    }
}

static void forget_slots(struct flagshm_ledger *ledger)
{
    uint32_t generation = ledger->slots.generation;

    flagshm_slots_init(&ledger->slots, generation);
    memset(ledger->entries, 0, FLAGSHM_SLOTS * sizeof *ledger->entries);
}

int flagshm_ledger_open(struct flagshm_ledger *ledger, const struct flagshm_outcomes_options *options,
                        struct flagshm_segment *segment, uint64_t mono_ns, uint64_t realtime_ns,
                        struct flagshm_error *error)
{
    memset(ledger, 0, sizeof *ledger);
    ledger->options = *options;
    ledger->file.fd = -1;
    ledger->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ledger->bell_fd < 0)
        return flagshm_error_set(error, -errno, "cannot make an eventfd: %s", strerror(errno));
    ledger->entries = calloc(FLAGSHM_SLOTS, sizeof *ledger->entries);
    if (ledger->entries == NULL) {
        (void)close(ledger->bell_fd);
        return flagshm_error_set(error, -ENOMEM, "no memory for the ledger of outcomes");
    }
    flagshm_slots_init(&ledger->slots, first_generation(realtime_ns));
    if (segment->header != NULL) {
        know_generations(ledger, segment);
        ledger->window_4h = segment->header->window_4h;
        ledger->window_1h = segment->header->window_1h;
    }
    if (make_segment(ledger, segment->header != NULL ? segment->header->outcomes_id : 0, mono_ns) &&
        ledger->file.is_adopted)
        adopt_slots(ledger, segment, mono_ns, realtime_ns);
    turn_windows(ledger, mono_ns); /* those that ended while no server ran */
    flagshm_ledger_name(ledger, segment);
    return 0;
}

void flagshm_ledger_close(struct flagshm_ledger *ledger)
{
    if (ledger->entries == NULL)
        return;
    leave_segment(ledger);
    (void)close(ledger->bell_fd);
    free(ledger->entries);
    ledger->entries = NULL;
}

/* ---- each second ---- */

static bool keep_segment(struct flagshm_ledger *ledger, uint64_t mono_ns)
{
    bool was_there = ledger->file.segment != NULL;

    if (was_there && flagshm_outcomes_is_sound(&ledger->file)) {
        flagshm_outcomes_keep_mode(&ledger->file);
        return false;
    }
    if (was_there) {
        flagshm_log(
            FLAGSHM_LOG_WARNING,
            "%s was removed, replaced or cut short by somebody: it is made anew, and what it held is lost",
            ledger->file.path);
        leave_segment(ledger);
    } else if (mono_ns < ledger->retry_mono_ns) {
        return false;
    }
    forget_slots(ledger);
    return make_segment(ledger, 0, mono_ns) || was_there;
}

static void look_for_lies(struct flagshm_ledger *ledger, uint32_t slot, uint32_t arm,
                          const uint64_t now[FLAGSHM_COUNTERS])
{
    struct flagshm_ledger_entry *e = &ledger->entries[slot];

    if (!e->is_tainted && flagshm_counts_are_tainted(e->last[arm], now)) {
        e->is_tainted = true;
        flagshm_log(FLAGSHM_LOG_WARNING,
                    "the outcomes of %s make no sense: a counter ran back, or leapt; somebody of the "
                    "clients' group wrote over "
                    "them. Nothing is concluded from them until the flag's next edit",
                    flag_of(ledger, slot));
    }
    memcpy(e->last[arm], now, sizeof e->last[arm]);
}

static void look_at_slot(struct flagshm_ledger *ledger, uint32_t slot)
{
    uint64_t now[FLAGSHM_COUNTERS];
    uint32_t arm;

    for (arm = 0; arm < ledger->entries[slot].form.arm_count; arm++) {
        flagshm_outcomes_read_counters(&ledger->file, slot, arm, now);
        look_for_lies(ledger, slot, arm, now);
    }
}

/* Is there a slot, or room for one, for a flag that got none? Asked now and then: the answer costs a compilation. */
static bool has_slots_again(struct flagshm_ledger *ledger, uint64_t mono_ns)
{
    if (ledger->refused == 0 || mono_ns < ledger->retry_slots_mono_ns ||
        !flagshm_slots_has_free(&ledger->slots, mono_ns))
        return false;
    ledger->retry_slots_mono_ns = mono_ns + RETRY_NS;
    return true;
}

bool flagshm_ledger_beat(struct flagshm_ledger *ledger, struct flagshm_segment *segment, uint64_t mono_ns)
{
    bool is_changed = keep_segment(ledger, mono_ns);
    uint32_t slot, i;

    turn_windows(ledger, mono_ns);
    flagshm_ledger_name(ledger, segment);
    if (ledger->file.segment == NULL)
        return is_changed;
    is_changed = is_changed || has_slots_again(ledger, mono_ns);
    for (slot = 0; slot < FLAGSHM_SLOTS; slot++)
        if (ledger->slots.holders[slot].flag_hash != 0)
            flagshm_outcomes_turn_lost(&ledger->file, slot, &ledger->entries[slot].form, mono_ns,
                                       ledger->window_4h, ledger->window_1h);
    for (i = 0; i < LOOKS_A_BEAT; i++) {
        slot = ledger->look++ % FLAGSHM_SLOTS;
        if (ledger->slots.holders[slot].flag_hash != 0)
            look_at_slot(ledger, slot);
    }
    return is_changed;
}

/* ---- the doorbell ---- */

static void look_at_news(struct flagshm_ledger *ledger)
{
    uint64_t dirty[FLAGSHM_SLOTS / 64];
    uint32_t slot;

    if (!flagshm_outcomes_take(&ledger->file, dirty))
        return;
    for (slot = 0; slot < FLAGSHM_SLOTS; slot++)
        if ((dirty[slot / 64] >> (slot % 64) & 1) != 0 && ledger->slots.holders[slot].flag_hash != 0) {
            look_at_slot(ledger, slot);
            ledger->news++;
            ledger->news_slots[slot / 64] |= UINT64_C(1) << slot % 64;
        }
}

void flagshm_ledger_arm(struct flagshm_ledger *ledger)
{
    flagshm_outcomes_arm(&ledger->file);
    look_at_news(ledger);
}

void flagshm_ledger_rung(struct flagshm_ledger *ledger)
{
    uint64_t count;

    (void)!read(ledger->bell_fd, &count, sizeof count);
    look_at_news(ledger);
}

/* ---- reading ---- */

bool flagshm_ledger_read(struct flagshm_ledger *ledger, uint32_t slot, struct flagshm_slot_counts *counts)
{
    const struct flagshm_ledger_entry *e = &ledger->entries[slot % FLAGSHM_SLOTS];
    uint32_t arm;

    if (!flagshm_outcomes_read(&ledger->file, slot, ledger->slots.holders[slot].generation, &e->form, counts))
        return false;
    for (arm = 0; arm < e->form.arm_count; arm++)
        look_for_lies(ledger, slot, arm, counts->arms[arm].n);
    return true;
}
