/* outcomes_slot: one slot of the outcome segment: its memory, its signals, its windows. The header is outcomes.h. */
#include "server/outcomes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define OTHERS_MAX (UINT64_C(64) << 20)

static struct flagshm_slot *slot_at(const struct flagshm_outcomes_file *file, uint32_t slot)
{
    return flagshm_slot_at_(file->segment, slot);
}

static void store32(uint32_t *shared, uint32_t value)
{
    __atomic_store_n(shared, value, __ATOMIC_RELEASE);
}

struct range {
    size_t from, bytes;
};

/* Tables of cells of a signal. */
static uint32_t tables_of(const struct flagshm_slot_form *form, uint32_t signal)
{
    return (form->signals[signal].is_timed ? FLAGSHM_WINDOWS : 1) +
           (form->signals[signal].kind == FLAGSHM_SIGNAL_LOST ? 4 : 0);
}

static uint32_t count_tables(const struct flagshm_slot_form *form)
{
    uint32_t tables = 0, i;

    for (i = 0; i < form->signal_count && i < FLAGSHM_SIGNALS_MAX; i++)
        tables += tables_of(form, i);
    return tables;
}

/* What of a slot's span is really needed: the rest stays a hole in the file. */
static void form_ranges(const struct flagshm_slot_form *form, struct range ranges[4])
{
    size_t levels = offsetof(struct flagshm_slot, distinct), arms = form->arm_count + form->has_shadow;

    ranges[0] = (struct range){0, form->signal_count > 0 ? levels : offsetof(struct flagshm_slot, levels)};
    ranges[1] = (struct range){levels, offsetof(struct flagshm_slot, arms) - levels};
    ranges[2] =
        (struct range){offsetof(struct flagshm_slot, arms), arms * sizeof(struct flagshm_arm_outcomes)};
    ranges[3] = (struct range){offsetof(struct flagshm_slot, cells),
                               count_tables(form) * sizeof(((struct flagshm_slot *)0)->cells[0])};
}

uint64_t flagshm_slot_form_bytes(const struct flagshm_slot_form *form)
{
    struct range ranges[4];
    uint64_t bytes = 0;
    int i;

    form_ranges(form, ranges);
    for (i = 0; i < 4; i++)
        bytes += ranges[i].bytes;
    return bytes;
}

static void clear_words(void *shared, size_t bytes)
{
    flagshm_u64_ *words = shared;
    size_t i;

    for (i = 0; i < bytes / 8; i++)
        if (__atomic_load_n(&words[i], __ATOMIC_RELAXED) != 0)
            __atomic_store_n(&words[i], 0, __ATOMIC_RELAXED);
}

static void fill_slot(struct flagshm_slot *s, const struct flagshm_slot_form *form)
{
    uint32_t kinds = 0, table = 0, i;

    store32(&s->arm_count, form->arm_count);
    __atomic_store_n(&s->flag_hash, form->flag_hash, __ATOMIC_RELAXED);
    (void)snprintf(s->flag, sizeof s->flag, "%s", form->flag);
    for (i = 0; i < form->signal_count && i < FLAGSHM_SIGNALS_MAX; i++) {
        struct flagshm_signal *signal = &s->signals[i];

        store32(&signal->kind, (uint32_t)form->signals[i].kind);
        __atomic_store_n(&signal->first_table, (uint16_t)table, __ATOMIC_RELAXED);
        __atomic_store_n(&signal->is_timed, (uint16_t)form->signals[i].is_timed, __ATOMIC_RELAXED);
        __atomic_store_n(&signal->threshold,
                         form->signals[i].kind == FLAGSHM_SIGNAL_LOST ? form->overdue_ns : UINT64_MAX,
                         __ATOMIC_RELAXED);
        table += tables_of(form, i);
        kinds |= 1u << form->signals[i].kind;
    }
    if ((kinds >> FLAGSHM_SIGNAL_LOST & 1) != 0 && form->overdue_ns != 0)
        store32(&s->lost_window,
                (uint32_t)(flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) / form->overdue_ns));
    store32(&s->signal_kinds, kinds);
    store32(&s->signal_count, form->signal_count);
}

/* A quarter of the file system, at most 64 MiB, is left to others: the table needs room to grow, and outcomes come after it. A
 * slot that was prepared before has its memory. */
static bool has_room(const struct flagshm_outcomes_file *file, uint32_t slot,
                     const struct flagshm_slot_form *form)
{
    struct statvfs fs;
    uint64_t others;

    if (flagshm_outcomes_peek(file, slot) != 0 || fstatvfs(file->fd, &fs) != 0 || fs.f_blocks == 0)
        return true;
    others = (uint64_t)fs.f_blocks * fs.f_frsize / 4;
    if (others > OTHERS_MAX)
        others = OTHERS_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize >= flagshm_slot_form_bytes(form) + others;
}

static int allocate(const struct flagshm_outcomes_file *file, uint64_t from, uint64_t bytes)
{
    int result;

    do
        result = posix_fallocate(file->fd, (off_t)from, (off_t)bytes);
    while (result == EINTR);
    return result;
}

static int allocate_form(const struct flagshm_outcomes_file *file, uint32_t slot,
                         const struct flagshm_slot_form *form, const struct range ranges[4],
                         struct flagshm_error *error)
{
    size_t base = flagshm_slot_offset_(slot);
    int i, result = has_room(file, slot, form) ? 0 : ENOSPC;

    for (i = 0; i < 4 && result == 0; i++)
        if (ranges[i].bytes != 0)
            result = allocate(file, base + ranges[i].from, ranges[i].bytes);
    if (result == 0)
        return 0;
    return flagshm_error_set(
        error, -result,
        "%s: %s for the outcomes of %s (%llu KiB, and a quarter of the file system for the "
        "table); enlarge it: mount -o remount,size=...",
        file->path, result == ENOSPC ? "no room" : strerror(result), form->flag,
        (unsigned long long)(flagshm_slot_form_bytes(form) / 1024));
}

int flagshm_outcomes_add_signals(struct flagshm_outcomes_file *file, uint32_t slot,
                                 const struct flagshm_slot_form *form, struct flagshm_error *error)
{
    size_t levels = offsetof(struct flagshm_slot, levels);
    struct flagshm_slot *s;
    struct range ranges[4];
    int result;

    if (file->segment == NULL)
        return -ENOENT;
    s = slot_at(file, slot);
    form_ranges(form, ranges);
    result = allocate_form(file, slot, form, ranges, error);
    if (result != 0)
        return result;
    store32(&s->is_open, 0); /* before any signal can be seen: cells count nothing until it is opened again */
    clear_words((unsigned char *)s + levels, ranges[0].bytes - levels);
    clear_words((unsigned char *)s + ranges[3].from, ranges[3].bytes);
    fill_slot(s, form);
    return 0;
}

int flagshm_outcomes_prepare(struct flagshm_outcomes_file *file, uint32_t slot, uint32_t generation,
                             const struct flagshm_slot_form *form, struct flagshm_error *error)
{
    struct flagshm_slot *s;
    struct range ranges[4];
    int i, result;

    if (file->segment == NULL)
        return -ENOENT;
    s = slot_at(file, slot);
    form_ranges(form, ranges);
    result = allocate_form(file, slot, form, ranges, error);
    if (result != 0)
        return result;
    store32(&s->generation, 0); /* nobody books while it is cleared */
    for (i = 0; i < 4; i++)
        clear_words((unsigned char *)s + ranges[i].from, ranges[i].bytes);
    fill_slot(s, form);
    store32(&s->is_open, !form->is_guarded);
    store32(&s->generation, generation);
    return 0;
}

void flagshm_outcomes_set_memo(struct flagshm_outcomes_file *file, uint32_t slot,
                               const struct flagshm_slot_memo *memo)
{
    struct flagshm_slot *s;

    if (file->segment == NULL)
        return;
    s = slot_at(file, slot);
    __atomic_store_n(&s->opened_mono_ns, memo->opened_mono_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&s->opened_realtime_ns, memo->opened_realtime_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&s->guards_hash, memo->guards_hash, __ATOMIC_RELAXED);
}

bool flagshm_outcomes_memo(const struct flagshm_outcomes_file *file, uint32_t slot, uint64_t now_mono_ns,
                           uint64_t now_realtime_ns, struct flagshm_slot_memo *memo,
                           struct flagshm_slot_form *form)
{
    const struct flagshm_slot *s;
    uint32_t i;

    memset(memo, 0, sizeof *memo);
    form->signal_count = 0;
    form->overdue_ns = 0;
    if (file->segment == NULL)
        return false;
    s = slot_at(file, slot);
    memo->opened_mono_ns = flagshm_load64_(&s->opened_mono_ns);
    memo->opened_realtime_ns = flagshm_load64_(&s->opened_realtime_ns);
    memo->guards_hash = flagshm_load64_(&s->guards_hash);
    form->signal_count = flagshm_load32_(&s->signal_count);
    if (form->signal_count > FLAGSHM_SIGNALS_MAX)
        form->signal_count = FLAGSHM_SIGNALS_MAX;
    for (i = 0; i < form->signal_count; i++) {
        uint32_t kind = flagshm_load32_(&s->signals[i].kind);

        form->signals[i].kind =
            kind < FLAGSHM_SIGNAL_KINDS ? (enum flagshm_signal_kind)kind : FLAGSHM_SIGNAL_NONE;
        form->signals[i].is_timed = __atomic_load_n(&s->signals[i].is_timed, __ATOMIC_RELAXED) != 0;
        if (kind == FLAGSHM_SIGNAL_LOST)
            form->overdue_ns = flagshm_load64_(&s->signals[i].threshold);
    }
    return memo->opened_mono_ns != 0 && memo->opened_mono_ns <= now_mono_ns &&
           memo->opened_realtime_ns != 0 && memo->opened_realtime_ns <= now_realtime_ns;
}

void flagshm_outcomes_open_slot(struct flagshm_outcomes_file *file, uint32_t slot)
{
    if (file->segment != NULL)
        store32(&slot_at(file, slot)->is_open, 1);
}

void flagshm_outcomes_set_threshold(struct flagshm_outcomes_file *file, uint32_t slot, uint32_t signal,
                                    uint64_t threshold)
{
    if (file->segment != NULL && signal < FLAGSHM_SIGNALS_MAX)
        __atomic_store_n(&slot_at(file, slot)->signals[signal].threshold, threshold, __ATOMIC_RELAXED);
}

void flagshm_outcomes_clear_window(struct flagshm_outcomes_file *file, uint32_t slot,
                                   const struct flagshm_slot_form *form, bool is_4h, uint32_t number)
{
    uint32_t window = (is_4h ? 1u : 3u) + (number & 1), table = 0, i;
    struct flagshm_slot *s;

    if (file->segment == NULL)
        return;
    s = slot_at(file, slot);
    if (!is_4h)
        clear_words(s->calls[number & 1], sizeof s->calls[0]);
    for (i = 0; i < form->signal_count && i < FLAGSHM_SIGNALS_MAX; i++) {
        if (form->signals[i]
                .is_timed) { /* cells first: a cell that is zero again may count in a level that is not yet */
            clear_words(s->cells[(table + window) % FLAGSHM_CELL_TABLES], sizeof s->cells[0]);
            clear_words(s->levels[i][window], sizeof s->levels[i][window]);
        }
        table += tables_of(form, i);
    }
}

/* What is left under way in a window that is over: events of LOST, as a client would book them. */
static uint64_t harvest(struct flagshm_slot *s, uint32_t signal, bool is_timed, uint32_t table,
                        uint32_t pending, const struct flagshm_booked_ *booked)
{
    uint64_t lost = 0;
    uint32_t i;

    for (i = 0; i < FLAGSHM_CELLS; i++) {
        uint32_t held = __atomic_exchange_n(&s->cells[pending % FLAGSHM_CELL_TABLES][i], 0, __ATOMIC_RELAXED);
        struct flagshm_booked_ b = *booked;

        if (held == 0)
            continue;
        lost += held;
        b.id_hash = i;
        flagshm_cell_(&b, signal, table, 0, b.label);
        if (is_timed) {
            uint32_t w4 = 1 + (b.window_4h & 1), w1 = 3 + (b.window_1h & 1);

            flagshm_cell_(&b, signal, table + w4, w4, b.label);
            flagshm_cell_(&b, signal, table + w1, w1, b.label);
        }
    }
    return lost;
}

void flagshm_outcomes_turn_lost(struct flagshm_outcomes_file *file, uint32_t slot,
                                const struct flagshm_slot_form *form, uint64_t mono_ns, uint32_t window_4h,
                                uint32_t window_1h)
{
    uint32_t number, table = 0, i, arm;
    struct flagshm_slot *s;

    if (file->segment == NULL || form->overdue_ns == 0)
        return;
    s = slot_at(file, slot);
    number = (uint32_t)(mono_ns / form->overdue_ns);
    if (number == flagshm_load32_(&s->lost_window))
        return;
    for (i = 0; i < form->signal_count && i < FLAGSHM_SIGNALS_MAX; i++) {
        for (arm = 0; form->signals[i].kind == FLAGSHM_SIGNAL_LOST && arm < 2; arm++) {
            const struct flagshm_booked_ booked = {
                .slot = s, .label = arm, .window_4h = window_4h, .window_1h = window_1h};
            uint64_t lost = harvest(
                s, i, form->signals[i].is_timed, table,
                table + (form->signals[i].is_timed ? FLAGSHM_WINDOWS : 1) + (number & 1) * 2 + arm, &booked);

            if (lost != 0)
                flagshm_add64_(&s->arms[arm].counters[0][FLAGSHM_N_LOST], lost);
        }
        table += tables_of(form, i);
    }
    store32(&s->lost_window, number);
}

uint32_t flagshm_outcomes_peek(const struct flagshm_outcomes_file *file, uint32_t slot)
{
    uint64_t at = flagshm_slot_offset_(slot);
    uint32_t generation = 0;

    if (file->segment == NULL ||
        pread(file->fd, &generation, sizeof generation,
              (off_t)(at + offsetof(struct flagshm_slot, generation))) != (ssize_t)sizeof generation)
        return 0;
    return generation;
}

bool flagshm_outcomes_is_open(const struct flagshm_outcomes_file *file, uint32_t slot)
{
    return file->segment != NULL && flagshm_load32_(&slot_at(file, slot)->is_open) != 0;
}

uint32_t flagshm_outcomes_generation(const struct flagshm_outcomes_file *file, uint32_t slot)
{
    return file->segment != NULL ? flagshm_load32_(&slot_at(file, slot)->generation) : 0;
}
