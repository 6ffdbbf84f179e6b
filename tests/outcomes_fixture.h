/* outcomes_fixture: a table, the ledger that gives its flags slots, and a client that books; the time is injected. For the tests of
 * outcomes and ledger. Everything stands in a directory of its own (FLAGSHM_DIR), which is removed at the end. */
#ifndef FLAGSHM_TESTS_OUTCOMES_FIXTURE_H
#define FLAGSHM_TESTS_OUTCOMES_FIXTURE_H

#include "tests/table_fixture.h"

#include "server/ledger.h"
#include "server/outcomes_read.h"

#include <errno.h>
#include <sys/stat.h>

#define OUTCOMES_SECOND UINT64_C(1000000000)
#define OUTCOMES_HOUR   (3600 * OUTCOMES_SECOND)
#define OUTCOMES_FLAG(name, share, more)                                                                     \
    "\"" name "\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": " share more "}"
#define OUTCOMES_GUARDED ", \"guardrails\": \"default\""

struct outcomes_world {
    struct segment_fixture fix;
    struct flagshm_segment segment;
    struct flagshm_outcomes_options options;
    struct flagshm_ledger ledger;
    struct flagshm fs;
    struct flagshm_error error;
    uint64_t mono_ns, realtime_ns;
    uint32_t shadow_mpct;                    /* that every flag gets when it is published, beside its share */
    void (*adjust)(struct table_fixture *f); /* what the server adds to the file's word; or NULL */
    bool is_open;
};

__attribute__((unused)) static bool outcomes_start(struct outcomes_world *w)
{
    w->is_open =
        flagshm_segment_open(&w->segment, &w->fix.options, &w->error) == 0 &&
        flagshm_ledger_open(&w->ledger, &w->options, &w->segment, w->mono_ns, w->realtime_ns, &w->error) == 0;
    return w->is_open;
}

__attribute__((unused)) static void outcomes_stop(struct outcomes_world *w)
{
    if (w->is_open) {
        flagshm_ledger_close(&w->ledger);
        flagshm_segment_close(&w->segment);
    }
    w->is_open = false;
}

__attribute__((unused)) static bool outcomes_begin(struct outcomes_world *w)
{
    memset(w, 0, sizeof *w);
    segment_fixture_begin(&w->fix, true);
    (void)chmod(w->fix.dir, 0755);
    w->options =
        (struct flagshm_outcomes_options){.dir = w->fix.dir, .instance = w->fix.instance, .group = (gid_t)-1};
    w->mono_ns = 100 * OUTCOMES_HOUR + 60 * OUTCOMES_SECOND;
    w->realtime_ns = UINT64_C(1800000000) * OUTCOMES_SECOND;
    return outcomes_start(w);
}

__attribute__((unused)) static const char *outcomes_path(const struct outcomes_world *w)
{
    static char path[400];

    (void)snprintf(path, sizeof path, "%s/outcomes/flagshm.%s.outcomes", w->fix.dir, w->fix.instance);
    return path;
}

__attribute__((unused)) static void outcomes_end(struct outcomes_world *w)
{
    char dir[80];

    flagshm_close(&w->fs);
    outcomes_stop(w);
    (void)unlink(outcomes_path(w));
    (void)snprintf(dir, sizeof dir, "%s/outcomes", w->fix.dir);
    (void)rmdir(dir);
    segment_fixture_end(&w->fix);
}

static struct flagshm_table_booking outcomes_booking_;
static uint32_t outcomes_shadow_mpct_;

static void outcomes_book_(void *context, struct flagshm_flag_entry *record,
                           const struct flagshm_table_entry *entry, uint64_t key)
{
    if (outcomes_shadow_mpct_ != 0) /* no rollout has users of both at once */
        record->shadow_mpct = outcomes_shadow_mpct_;
    outcomes_booking_.book(context, record, entry, key + outcomes_shadow_mpct_);
}

/* Compiles the text with slots and publishes it, as the publisher does. 0 or -errno. is_published false: as if publishing had failed. */
__attribute__((unused)) static int outcomes_publish_or_not(struct outcomes_world *w, const char *text,
                                                           bool is_published)
{
    struct flagshm_table_booking booking;
    struct table_fixture f;
    int code;

    if (!table_fixture_parse(&f, text))
        abort();
    if (w->adjust != NULL)
        w->adjust(&f);
    outcomes_booking_ = flagshm_ledger_begin(&w->ledger, w->mono_ns, w->realtime_ns);
    outcomes_shadow_mpct_ = w->shadow_mpct;
    booking = (struct flagshm_table_booking){outcomes_booking_.context, outcomes_book_};
    code = flagshm_table_build_booked(&f.table, f.entries, f.count,
                                      w->segment.header ? &w->segment.geometry : NULL, &booking);
    if (code == 0 && is_published)
        code = flagshm_segment_publish(&w->segment, &f.table, flagshm_segment_version(&w->segment) + 1, 1,
                                       &w->error);
    flagshm_ledger_name(&w->ledger, &w->segment);
    flagshm_ledger_end(&w->ledger, code == 0 && is_published, w->mono_ns);
    table_fixture_free(&f);
    return code;
}

__attribute__((unused)) static int outcomes_publish(struct outcomes_world *w, const char *flags)
{
    char text[4096];

    if (snprintf(text, sizeof text, "{\"flags\": {%s}}", flags) >= (int)sizeof text)
        abort();
    return outcomes_publish_or_not(w, text, true);
}

/* Opens the slots whose wash-in is over, as who judges them does. */
__attribute__((unused)) static void outcomes_end_wash_ins(struct outcomes_world *w)
{
    uint32_t slot;

    for (slot = 0; slot < FLAGSHM_SLOTS; slot++)
        if (w->ledger.slots.holders[slot].flag_hash != 0 &&
            w->mono_ns - w->ledger.entries[slot].opened_mono_ns >= w->ledger.entries[slot].wash_in_ns)
            flagshm_ledger_open_slot(&w->ledger, slot);
}

/* The flag's slot, or FLAGSHM_NO_SLOT. */
__attribute__((unused)) static uint32_t outcomes_slot(const struct outcomes_world *w, const char *flag)
{
    return flagshm_slots_find(&w->ledger.slots, flagshm_hash64_(flag, strlen(flag), 0));
}

/* Prepares the flag's slot anew for this form; open. */
__attribute__((unused)) static bool outcomes_reform(struct outcomes_world *w, const char *flag,
                                                    const struct flagshm_slot_form *form)
{
    uint32_t slot = outcomes_slot(w, flag);
    struct flagshm_ledger_entry *e = &w->ledger.entries[slot];
    struct flagshm_slot_form whole = *form;

    whole.flag = e->flag;
    whole.flag_hash = e->form.flag_hash;
    e->form = whole;
    e->is_open = true;
    memset(e->last, 0, sizeof e->last);
    if (flagshm_outcomes_prepare(&w->ledger.file, slot, w->ledger.slots.holders[slot].generation, &whole,
                                 &w->error) != 0)
        return false;
    flagshm_outcomes_open_slot(&w->ledger.file, slot);
    return true;
}

__attribute__((unused)) static struct flagshm_slot *outcomes_slot_bytes(const struct outcomes_world *w,
                                                                        const char *flag)
{
    return flagshm_slot_at_(w->ledger.file.segment, outcomes_slot(w, flag));
}

__attribute__((unused)) static bool outcomes_read(struct outcomes_world *w, const char *flag,
                                                  struct flagshm_slot_counts *counts)
{
    return flagshm_ledger_read(&w->ledger, outcomes_slot(w, flag), counts);
}

/* The n-th id (from 0) whose decision is this arm. */
__attribute__((unused)) static void outcomes_decide(struct outcomes_world *w, const char *flag, uint32_t arm,
                                                    unsigned n, struct flagshm_decision *d)
{
    char id[32];
    unsigned i;

    for (i = 0; i < 1000000; i++) {
        (void)snprintf(id, sizeof id, "user-%u", i);
        if (flagshm_decide(&w->fs, flag, id, d) == FLAGSHM_SPLIT && d->arm == arm && n-- == 0)
            return;
    }
    abort();
}

#endif
