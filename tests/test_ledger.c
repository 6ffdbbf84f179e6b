/* ledger: slots for the flags of a table, windows, wash-in, a restart, and all that can befall the file that clients write. */
#include "outcomes_fixture.h"

#include "server/outcomes_guard.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

static struct outcomes_world w;
static struct flagshm_decision d;
static struct flagshm_slot_counts counts;
static const struct flagshm_outcome bad = {.http_status = 500}, good = {.http_status = 200};

static void begin(const char *flags)
{
    cr_assert(outcomes_begin(&w), "%s", w.error.text);
    cr_assert_eq(outcomes_publish(&w, flags), 0, "%s", w.error.text);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
}

static bool beat(uint64_t later_ns)
{
    w.mono_ns += later_ns;
    w.realtime_ns += later_ns;
    if (flagshm_ledger_beat(&w.ledger, &w.segment, w.mono_ns))
        return true;
    outcomes_end_wash_ins(&w);
    return false;
}

static void book(unsigned times)
{
    for (; times > 0; times--)
        cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
}

static uint64_t failed(const char *flag)
{
    return outcomes_read(&w, flag, &counts) ? counts.arms[1].n[FLAGSHM_N_FAILED] : UINT64_MAX;
}

/* ---- time ---- */

Test(ledger, a_guarded_slot_opens_after_the_wash_in)
{
    begin(OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED) ", " OUTCOMES_FLAG("plain", "50", ""));
    outcomes_decide(&w, "plain", 1, 0, &d);
    cr_assert(outcomes_slot_bytes(&w, "plain")->is_open, "nothing is judged in it");
    outcomes_decide(&w, "f", 1, 0, &d);
    cr_assert_not(beat(FLAGSHM_WASH_IN_NS - OUTCOMES_SECOND));
    book(3);
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.arms[1].n[FLAGSHM_N_FAILED], 3);
    cr_assert_eq(counts.arms[1].n[FLAGSHM_N_JUDGED], 0);
    cr_assert_eq(counts.levels[0][0][1][0], 0);
    (void)beat(OUTCOMES_SECOND);
    book(1);
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.arms[1].n[FLAGSHM_N_JUDGED], 1);
    cr_assert_eq(counts.levels[0][0][1][0], 1);
    outcomes_end(&w);
}

Test(ledger, the_announced_window_is_clean_and_the_last_one_is_kept)
{
    unsigned hour, in_4h = 0;

    begin(OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED));
    (void)beat(FLAGSHM_WASH_IN_NS);
    outcomes_decide(&w, "f", 1, 0, &d);
    for (hour = 0; hour < 30; hour++) {
        uint32_t w1 = w.segment.header->window_1h, w4 = w.segment.header->window_4h, before_1 = 3 + (~w1 & 1);

        cr_assert_eq(w1, w.mono_ns / OUTCOMES_HOUR);
        cr_assert_eq(w4, w1 / 4);
        d.id_hash = hour;
        cr_assert(outcomes_read(&w, "f", &counts));
        cr_assert_eq(counts.levels[0][3 + (w1 & 1)][1][0], 0, "hour %u", hour);
        cr_assert_eq(counts.levels[0][before_1][1][0], hour > 0, "the one before stays for the judge");
        if (hour == 0 || w1 % 4 == 0)
            in_4h = 0;
        cr_assert_eq(counts.levels[0][1 + (w4 & 1)][1][0], in_4h);
        cr_assert_eq(counts.levels[0][0][1][0], hour);
        book(20);
        in_4h++;
        cr_assert(outcomes_read(&w, "f", &counts));
        cr_assert_eq(counts.levels[0][3 + (w1 & 1)][1][0], 1);
        cr_assert_eq(counts.levels[0][3 + (w1 & 1)][1][4], 1);
        cr_assert_eq(counts.capped_calls[1], FLAGSHM_CALLS_CAP * (hour + 1), "of each hour the first ones");
        (void)beat(OUTCOMES_HOUR);
    }
    outcomes_end(&w);
}

Test(ledger, a_window_that_ended_while_no_server_ran_is_cleared_too)
{
    begin(OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED));
    (void)beat(FLAGSHM_WASH_IN_NS);
    outcomes_decide(&w, "f", 1, 0, &d);
    book(5);
    outcomes_stop(&w);
    w.mono_ns += 8 * OUTCOMES_HOUR; /* the same parity of both */
    cr_assert(outcomes_start(&w));
    cr_assert(w.ledger.file.is_adopted);
    cr_assert_eq(w.segment.header->window_1h, w.mono_ns / OUTCOMES_HOUR);
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.levels[0][0][1][0], 1);
    cr_assert_eq(counts.levels[0][3 + (w.segment.header->window_1h & 1)][1][0], 0);
    cr_assert_eq(counts.levels[0][1 + (w.segment.header->window_4h & 1)][1][0], 0);
    outcomes_end(&w);
}

Test(ledger, a_slot_that_is_adopted_began_when_it_began)
{
    uint64_t mono_ns, realtime_ns;
    struct flagshm_slot *slot;

    begin(OUTCOMES_FLAG("f", "50", ""));
    mono_ns = w.mono_ns;
    realtime_ns = w.realtime_ns;
    outcomes_stop(&w);
    w.mono_ns += OUTCOMES_HOUR;
    w.realtime_ns += OUTCOMES_HOUR;
    cr_assert(outcomes_start(&w));
    cr_assert_eq(w.ledger.entries[outcomes_slot(&w, "f")].opened_mono_ns, mono_ns);
    cr_assert_eq(w.ledger.entries[outcomes_slot(&w, "f")].opened_realtime_ns, realtime_ns);
    slot = outcomes_slot_bytes(&w, "f");
    slot->opened_realtime_ns = w.realtime_ns + 1; /* whoever writes that has no say */
    outcomes_stop(&w);
    cr_assert(outcomes_start(&w));
    cr_assert_eq(w.ledger.entries[outcomes_slot(&w, "f")].opened_realtime_ns, w.realtime_ns);
    cr_assert_eq(w.ledger.entries[outcomes_slot(&w, "f")].opened_mono_ns, w.mono_ns);
    outcomes_end(&w);
}

#define ERRORS(ratio)                                                                                        \
    ", \"guardrails\": [{\"kind\": \"error_rate\", \"rollback\": {\"ratio\": " ratio                         \
    "}}, {\"kind\": \"lost\", \"hold\": "                                                                    \
    "{\"delta\": 0.01}}]"

Test(ledger, a_slot_has_the_signals_of_the_flag_s_own_guardrails)
{
    const struct flagshm_slot_form *form;
    uint32_t slot, generation;

    begin(OUTCOMES_FLAG("f", "50", ERRORS("2")) ", " OUTCOMES_FLAG("g", "50", ", \"guardrails\": []"));
    slot = outcomes_slot(&w, "f");
    form = &w.ledger.entries[slot].form;
    cr_assert_eq(form->signal_count, 2);
    cr_assert_eq(form->signals[0].kind, FLAGSHM_SIGNAL_ERROR);
    cr_assert(form->signals[0].is_timed);
    cr_assert_eq(form->signals[1].kind, FLAGSHM_SIGNAL_LOST);
    cr_assert_eq(form->overdue_ns, 60 * OUTCOMES_SECOND);
    cr_assert_eq(w.ledger.entries[outcomes_slot(&w, "g")].form.signal_count, 0, "refused");
    cr_assert(w.ledger.entries[outcomes_slot(&w, "g")].is_open);

    /* a restart keeps the slot and knows its form, before anything is compiled and after */
    generation = w.ledger.slots.holders[slot].generation;
    outcomes_stop(&w);
    cr_assert(outcomes_start(&w));
    form = &w.ledger.entries[slot].form;
    cr_assert_eq(form->signal_count, 2);
    cr_assert_eq(form->signals[1].kind, FLAGSHM_SIGNAL_LOST);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", ERRORS("2"))), 0);
    cr_assert_eq(outcomes_slot(&w, "f"), slot);
    cr_assert_eq(w.ledger.slots.holders[slot].generation, generation);

    /* an edit of the guardrails is another slot */
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", ERRORS("3"))), 0);
    cr_assert_neq(outcomes_slot(&w, "f"), slot);

    /* who lies about the signals of a slot changes nothing */
    slot = outcomes_slot(&w, "f");
    outcomes_slot_bytes(&w, "f")->signal_count = UINT32_MAX;
    outcomes_slot_bytes(&w, "f")->signals[0].kind = 4711;
    outcomes_stop(&w);
    cr_assert(outcomes_start(&w));
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", ERRORS("3"))), 0);
    cr_assert_eq(outcomes_slot(&w, "f"), slot);
    cr_assert_eq(w.ledger.entries[slot].form.signal_count, 2);
    cr_assert_eq(w.ledger.entries[slot].form.signals[0].kind, FLAGSHM_SIGNAL_ERROR);
    outcomes_end(&w);
}

Test(ledger, a_new_table_segment_announces_no_window_that_is_not_clean)
{
    uint32_t number;

    begin(OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED));
    (void)beat(FLAGSHM_WASH_IN_NS);
    outcomes_decide(&w, "f", 1, 0, &d);
    book(1);
    (void)beat(OUTCOMES_HOUR);
    book(1);
    number = w.segment.header->window_1h;
    w.mono_ns += OUTCOMES_HOUR; /* a publish comes before the beat */
    flagshm_ledger_name(&w.ledger, &w.segment);
    cr_assert_eq(w.segment.header->window_1h, number);
    (void)beat(0);
    cr_assert_eq(w.segment.header->window_1h, number + 1);
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.levels[0][3 + ((number + 1) & 1)][1][0], 0);
    outcomes_end(&w);
}

/* ---- edits and restarts ---- */

Test(ledger, an_edit_that_changes_the_meaning_takes_another_slot)
{
    begin(OUTCOMES_FLAG("f", "50", ""));
    outcomes_decide(&w, "f", 1, 0, &d);
    book(2);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", ", \"description\": \"words\"")), 0);
    book(1);
    cr_assert_eq(failed("f"), 3);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "51", "")), 0);
    cr_assert_eq(failed("f"), 0);
    book(1); /* the old slot rests: a call that began before the edit still has its place */
    cr_assert_eq(failed("f"), 0);
    (void)beat(FLAGSHM_SLOT_REST_NS);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "52", "")), 0);
    cr_assert_eq(outcomes_slot(&w, "f"), 2, "fresh ones first");
    outcomes_end(&w);
}

Test(ledger, a_flag_that_is_watched_from_now_on_keeps_its_slot_and_what_it_counted)
{
    uint32_t slot, generation;

    begin(OUTCOMES_FLAG("f", "50", ""));
    outcomes_decide(&w, "f", 1, 0, &d);
    book(7);
    slot = d.slot;
    generation = d.slot_generation;
    (void)beat(OUTCOMES_HOUR);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED)), 0);
    outcomes_decide(&w, "f", 1, 0, &d);
    cr_assert_eq(d.slot, slot);
    cr_assert_eq(d.slot_generation, generation);
    book(1);
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.arms[1].n[FLAGSHM_N_FINISHED], 8);
    cr_assert_eq(counts.arms[1].n[FLAGSHM_N_FAILED], 8);
    cr_assert_eq(counts.levels[0][0][1][0], 0, "it washes in from now on");
    (void)beat(FLAGSHM_WASH_IN_NS);
    book(1);
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_eq(counts.levels[0][0][1][0], 1);
    outcomes_stop(&w);
    cr_assert(outcomes_start(&w));
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED)), 0);
    outcomes_decide(&w, "f", 1, 0, &d);
    cr_assert_eq(d.slot_generation, generation, "a restart goes on with it too");
    outcomes_end(&w);
}

Test(ledger, a_slot_that_was_taken_again_answers_stale)
{
    unsigned i;

    begin(OUTCOMES_FLAG("f", "50", ""));
    outcomes_decide(&w, "f", 1, 0, &d);
    for (i = 0; i < FLAGSHM_SLOTS; i++)
        w.ledger.slots.holders[i].is_fresh = i == 0;
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "51", "")), 0);
    (void)beat(FLAGSHM_SLOT_REST_NS);
    for (i = 1; i < FLAGSHM_SLOTS; i++)
        w.ledger.slots.holders[i].rested_from = w.mono_ns; /* only the first has rested */
    w.ledger.slots.holders[d.slot].flag_hash = 0;
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "52", "")), 0);
    cr_assert_eq(outcomes_slot(&w, "f"), d.slot);
    cr_assert_eq(flagshm_record(&w.fs, &d, &bad), -ESTALE);
    cr_assert_eq(failed("f"), 0);
    outcomes_end(&w);
}

Test(ledger, a_restart_adopts_the_counts_and_clients_notice_nothing)
{
    uint64_t id;

    begin(OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED) ", " OUTCOMES_FLAG("g", "50", ""));
    (void)beat(FLAGSHM_WASH_IN_NS);
    outcomes_decide(&w, "f", 1, 0, &d);
    book(4);
    id = w.ledger.file.id;
    outcomes_stop(&w);
    book(3); /* no server runs */
    w.mono_ns += OUTCOMES_SECOND;
    cr_assert(outcomes_start(&w));
    cr_assert_eq(w.ledger.file.id, id);
    book(2);
    cr_assert_eq(failed("f"), 9);
    cr_assert_eq(d.slot, outcomes_slot(&w, "f"));
    cr_assert(w.ledger.entries[d.slot].is_open, "no second wash-in");
    cr_assert_eq(
        outcomes_publish(&w, OUTCOMES_FLAG("f", "50", OUTCOMES_GUARDED) ", " OUTCOMES_FLAG("g", "50", "")),
        0);
    book(1);
    cr_assert_eq(failed("f"), 10, "the same form keeps its slot over a restart");
    cr_assert_eq(w.ledger.slots.holders[d.slot].generation, d.slot_generation);
    outcomes_end(&w);
}

Test(ledger, many_calls_of_before_a_restart_are_no_lie)
{
    begin(OUTCOMES_FLAG("f", "50", ""));
    outcomes_slot_bytes(&w, "f")->arms[0].counters[3][FLAGSHM_N_FINISHED] = UINT64_C(5000000000);
    outcomes_stop(&w);
    cr_assert(outcomes_start(&w));
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert_not(w.ledger.entries[outcomes_slot(&w, "f")].is_tainted);
    outcomes_slot_bytes(&w, "f")->arms[0].counters[3][FLAGSHM_N_FINISHED] = 4;
    cr_assert(outcomes_read(&w, "f", &counts));
    cr_assert(w.ledger.entries[outcomes_slot(&w, "f")].is_tainted, "but running back is one");
    outcomes_end(&w);
}

Test(ledger, a_generation_that_a_client_wrote_leaves_others_to_give_out)
{
    begin(OUTCOMES_FLAG("f", "50", ""));
    outcomes_slot_bytes(&w, "f")[5].generation = UINT32_MAX;
    outcomes_stop(&w);
    cr_assert(outcomes_start(&w));
    cr_assert(w.ledger.file.is_adopted);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "51", "")), 0);
    cr_assert_neq(outcomes_slot(&w, "f"), FLAGSHM_NO_SLOT);
    outcomes_end(&w);
}

Test(ledger, generations_go_on_where_the_segment_was_lost)
{
    uint32_t highest, i;
    char flags[64];

    begin(OUTCOMES_FLAG("f", "50", ""));
    for (i = 0; i < 90; i++) { /* more than seconds pass */
        (void)snprintf(flags, sizeof flags,
                       "\"f\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": %u}", i + 1);
        cr_assert_eq(outcomes_publish(&w, flags), 0);
    }
    highest = w.ledger.slots.generation;
    outcomes_stop(&w);
    cr_assert_eq(unlink(outcomes_path(&w)), 0);
    w.realtime_ns += OUTCOMES_SECOND;
    cr_assert(outcomes_start(&w));
    cr_assert_not(w.ledger.file.is_adopted);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "99", "")), 0);
    cr_assert_gt(w.ledger.slots.holders[outcomes_slot(&w, "f")].generation, highest);
    outcomes_end(&w);
}

/* ---- too many flags ---- */

static char *many_flags(size_t plain, size_t guarded, unsigned pct)
{
    char *text = NULL;
    size_t bytes = 0, i;
    FILE *out = open_memstream(&text, &bytes);

    fprintf(out, "{\"flags\": {");
    for (i = 0; i < plain + guarded; i++)
        fprintf(out, "%s\"n-%zu\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": %u%s}",
                i ? ", " : "", i, pct, i < plain ? "" : OUTCOMES_GUARDED);
    fprintf(out, "}}");
    fclose(out);
    return text;
}

Test(ledger, where_slots_run_out_guarded_flags_come_first_and_all_are_served)
{
    char *text = many_flags(290, 10, 50), name[16];
    unsigned i, booked = 0;

    cr_assert(outcomes_begin(&w));
    cr_assert_eq(outcomes_publish_or_not(&w, text, true), 0);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    cr_assert_eq(w.ledger.refused, 300 - FLAGSHM_SLOTS);
    cr_assert_eq(w.ledger.refused_guarded, 0);
    for (i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "n-%u", i);
        cr_assert_eq(flagshm_decide(&w.fs, name, "somebody", &d), FLAGSHM_SPLIT);
        cr_assert_eq(flagshm_record(&w.fs, &d, &good), 0);
        booked += d.slot != FLAGSHM_NO_SLOT;
        if (i >= 290)
            cr_assert_neq(d.slot, FLAGSHM_NO_SLOT, "%s is guarded", name);
    }
    cr_assert_eq(booked, FLAGSHM_SLOTS);
    free(text);

    text = many_flags(0, 300, 60); /* each takes another form, and nothing is free */
    cr_assert_eq(outcomes_publish_or_not(&w, text, true), 0);
    cr_assert_eq(w.ledger.refused_guarded, 300);
    cr_assert_not(beat(OUTCOMES_SECOND));
    cr_assert(beat(FLAGSHM_SLOT_REST_NS), "slots have rested: compile anew");
    cr_assert_eq(outcomes_publish_or_not(&w, text, true), 0);
    cr_assert_eq(w.ledger.refused_guarded, 300 - FLAGSHM_SLOTS);
    cr_assert_not(beat(FLAGSHM_SLOT_REST_NS), "and none is left to ask for");
    free(text);
    outcomes_end(&w);
}

/* A tmpfs of its own over the fixture's directory, seen by this process alone. False: not allowed here. */
static bool mount_small(const char *options)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", w.fix.dir, "tmpfs", 0, options) == 0;
}

Test(ledger, sixty_four_guarded_flags_take_less_than_24_mib)
{
    char *text = many_flags(0, 64, 50);
    struct stat file;
    unsigned i;

    cr_assert(outcomes_begin(&w));
    outcomes_stop(&w);
    (void)mount_small("size=64m,mode=755"); /* /dev/shm of a container */
    cr_assert(outcomes_start(&w));
    cr_assert_eq(outcomes_publish_or_not(&w, text, true), 0);
    cr_assert_eq(w.ledger.refused, 0);
    for (i = 0; i < 10; i++)
        (void)beat(OUTCOMES_SECOND);
    for (i = 0; i < 64; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "n-%u", i);
        cr_assert(outcomes_read(&w, name, &counts));
    }
    cr_assert_eq(stat(outcomes_path(&w), &file), 0);
    cr_log_info("%.2f MiB", (double)file.st_blocks * 512 / 1048576);
    cr_assert_lt(file.st_blocks * 512, 24 << 20, "%lld bytes", (long long)file.st_blocks * 512);
    outcomes_stop(&w);
    cr_assert(outcomes_start(&w)); /* looks at all slots, and fills no hole */
    i = (unsigned)file.st_blocks;
    cr_assert_eq(stat(outcomes_path(&w), &file), 0);
    cr_assert_eq((unsigned)file.st_blocks, i);
    free(text);
    outcomes_stop(&w);
    (void)umount2(w.fix.dir, MNT_DETACH);
    outcomes_end(&w);
}

/* ---- what can befall the file ---- */

/* The table is unharmed, and after the next beat and publish outcomes are booked again, under another id. */
static void expect_rebuilt(uint64_t old_id)
{
    cr_assert(beat(OUTCOMES_SECOND), "the loss is seen at the next beat");
    cr_assert_neq(w.ledger.file.id, old_id);
    cr_assert_neq(w.ledger.file.id, 0);
    cr_assert_eq(flagshm_record(&w.fs, &d, &bad), -ESTALE);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", "")), 0);
    outcomes_decide(&w, "f", 1, 0, &d);
    book(2);
    cr_assert_eq(failed("f"), 2);
    cr_assert_not(beat(OUTCOMES_SECOND));
}

static void begin_to_lose(uint64_t *id)
{
    begin(OUTCOMES_FLAG("f", "50", ""));
    outcomes_decide(&w, "f", 1, 0, &d);
    book(3);
    *id = w.ledger.file.id;
}

static void cut(off_t bytes)
{
    cr_assert_eq(truncate(outcomes_path(&w), bytes), 0);
}

Test(ledger, cut_short_under_load_the_server_reads_zeros_and_builds_anew)
{
    static const off_t lengths[] = {0, 1, 4096, 8192, 300000};
    uint64_t id, n[FLAGSHM_COUNTERS];
    size_t i;

    begin_to_lose(&id);
    for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        id = w.ledger.file.id;
        cut(lengths[i]);
        if (i % 2 == 0) {
            flagshm_ledger_arm(&w.ledger);
            flagshm_outcomes_read_counters(&w.ledger.file, 255, 7, n);
            cr_assert_eq(n[FLAGSHM_N_FINISHED], 0);
            cr_assert_not(flagshm_outcomes_is_sound(&w.ledger.file));
            cr_assert_not(outcomes_read(&w, "f", &counts), "it is torn: nothing is concluded");
        }
        expect_rebuilt(id);
    }
    cr_assert_eq(flagshm_decide(&w.fs, "f", "anybody", &d), FLAGSHM_SPLIT);
    outcomes_end(&w);
}

Test(ledger, cut_short_and_stretched_again_is_seen_too)
{
    uint64_t id;

    begin_to_lose(&id);
    cut(0);
    cut((off_t)FLAGSHM_OUTCOMES_BYTES);
    expect_rebuilt(id);
    outcomes_end(&w);
}

Test(ledger, removed_or_replaced_it_is_made_anew)
{
    char aside[420];
    uint64_t id;
    int fd;

    begin_to_lose(&id);
    cr_assert_eq(unlink(outcomes_path(&w)), 0);
    book(1); /* on the orphan, until the table names another one */
    expect_rebuilt(id);

    id = w.ledger.file.id; /* another file of ours */
    (void)snprintf(aside, sizeof aside, "%s.aside", outcomes_path(&w));
    cr_assert_eq(rename(outcomes_path(&w), aside), 0);
    fd = open(outcomes_path(&w), O_RDWR | O_CREAT, 0660);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ftruncate(fd, (off_t)FLAGSHM_OUTCOMES_BYTES), 0);
    (void)close(fd);
    expect_rebuilt(id);

    id = w.ledger.file.id; /* the header scribbled over */
    memset(w.ledger.file.segment, 0x5a, 64);
    expect_rebuilt(id);
    cr_assert_eq(unlink(aside), 0);
    outcomes_end(&w);
}

Test(ledger, a_strangers_file_or_a_symlink_is_refused_and_named_with_the_mend)
{
    uint64_t id;

    begin_to_lose(&id);
    cr_assert_eq(unlink(outcomes_path(&w)), 0);
    cr_assert_eq(symlink("/etc/hostname", outcomes_path(&w)), 0);
    cr_assert(beat(OUTCOMES_SECOND));
    cr_assert_null(w.ledger.file.segment);
    cr_assert(strstr(w.ledger.fault.text, "not a regular file") && strstr(w.ledger.fault.text, "rm "), "%s",
              w.ledger.fault.text);
    cr_assert_eq(w.segment.header->outcomes_id, 0);
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", "")), 0);
    cr_assert_eq(flagshm_decide(&w.fs, "f", "anybody", &d), FLAGSHM_SPLIT, "flags are served");
    cr_assert_eq(d.slot, FLAGSHM_NO_SLOT);
    cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
    cr_assert_eq(unlink(outcomes_path(&w)), 0);
    cr_assert_not(beat(OUTCOMES_SECOND), "not each second");
    cr_assert(beat(5 * OUTCOMES_SECOND));
    cr_assert_not_null(w.ledger.file.segment);
    if (geteuid() == 0) {
        cr_assert_eq(chown(outcomes_path(&w), 12345, (gid_t)-1), 0);
        outcomes_stop(&w);
        cr_assert(outcomes_start(&w));
        cr_assert_null(w.ledger.file.segment);
        cr_assert(strstr(w.ledger.fault.text, "uid 12345"), "%s", w.ledger.fault.text);
    }
    outcomes_end(&w);
}

Test(ledger, a_client_refuses_a_strangers_segment)
{
    uint64_t id;
    struct flagshm fs;

    if (geteuid() != 0)
        cr_skip_test("needs root");
    begin_to_lose(&id);
    cr_assert_eq(chown(outcomes_path(&w), 12345, (gid_t)-1), 0);
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    cr_assert_eq(flagshm_record(&fs, &d, &bad), -EPERM);
    flagshm_close(&fs);
    cr_assert_eq(chown(outcomes_path(&w), 0, (gid_t)-1), 0);
    cr_assert_eq(chmod(outcomes_path(&w), 0666), 0);
    cr_assert_eq(flagshm_open(&fs, NULL), 0);
    cr_assert_eq(flagshm_record(&fs, &d, &bad), -EPERM, "others could have written it");
    flagshm_close(&fs);
    outcomes_end(&w);
}

Test(ledger, mode_and_group_are_kept)
{
    struct stat file;
    uint64_t id;

    begin_to_lose(&id);
    cr_assert_eq(stat(outcomes_path(&w), &file), 0);
    cr_assert_eq(file.st_mode & 07777, 0660);
    cr_assert_eq(chmod(outcomes_path(&w), 0600), 0);
    cr_assert_not(beat(OUTCOMES_SECOND));
    cr_assert_eq(stat(outcomes_path(&w), &file), 0);
    cr_assert_eq(file.st_mode & 07777, 0660);
    if (geteuid() == 0) {
        outcomes_stop(&w);
        w.options.group = 54321;
        cr_assert(outcomes_start(&w));
        cr_assert_eq(stat(outcomes_path(&w), &file), 0);
        cr_assert_eq(file.st_gid, 54321, "a restart with another --group");
        cr_assert_eq(w.ledger.file.id, id);
    }
    outcomes_end(&w);
}

/* A process of uid 40000 with this group: what does it get? */
static int record_as(gid_t group)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct flagshm fs;

        if (setgid(group) != 0 || setuid(40000) != 0 || flagshm_open(&fs, NULL) != 0)
            _exit(100);
        _exit(-flagshm_record(&fs, &d, &bad));
    }
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 1;
    return -WEXITSTATUS(status);
}

Test(ledger, the_group_books_and_others_do_not)
{
    if (geteuid() != 0)
        cr_skip_test("needs root");
    memset(&w, 0, sizeof w);
    cr_assert(outcomes_begin(&w));
    outcomes_stop(&w);
    cr_assert_eq(unlink(outcomes_path(&w)), 0);
    w.options.group = 54321;
    cr_assert(outcomes_start(&w));
    cr_assert_eq(outcomes_publish(&w, OUTCOMES_FLAG("f", "50", "")), 0);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    outcomes_decide(&w, "f", 1, 0, &d);
    cr_assert_eq(record_as(54321), 0);
    cr_assert_eq(record_as(40000), -EACCES);
    cr_assert_eq(failed("f"), 1);
    outcomes_end(&w);
}

/* ---- a full file system ---- */

Test(ledger, a_full_tmpfs_costs_outcomes_and_nothing_else)
{
    char *text = many_flags(0, 40, 50), name[16];
    unsigned i, booked = 0, free_before = 0, free_after = 0;

    cr_assert(outcomes_begin(&w));
    outcomes_stop(&w);
    if (!mount_small("size=3m,mode=755")) {
        outcomes_end(&w);
        cr_skip_test("needs root and mount namespaces");
    }
    cr_assert(outcomes_start(&w));
    cr_assert_eq(outcomes_publish_or_not(&w, text, true), 0, "%s", w.error.text);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    cr_assert(strstr(w.ledger.slot_fault.text, "no room for the outcomes of n-"), "%s",
              w.ledger.slot_fault.text);
    for (i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "n-%u", i);
        cr_assert_eq(flagshm_decide(&w.fs, name, "somebody", &d), FLAGSHM_SPLIT);
        cr_assert_eq(flagshm_record(&w.fs, &d, &bad), 0);
        if (d.slot != FLAGSHM_NO_SLOT) {
            booked++;
            cr_assert(outcomes_read(&w, name, &counts), "%s", name);
        }
    }
    cr_assert_gt(booked, 3);
    cr_assert_lt(booked, 8, "a quarter of the file system is left to the table");
    cr_assert_gt(w.ledger.refused, 0);
    for (i = 0; i < FLAGSHM_SLOTS; i++)
        free_before += w.ledger.slots.holders[i].is_fresh;
    for (i = 0; i < 20; i++) { /* edits meanwhile use up no slots */
        cr_assert_eq(outcomes_publish_or_not(&w, text, true), 0);
        (void)beat(OUTCOMES_SECOND);
        cr_assert_not_null(w.ledger.file.segment, "nor is the segment taken for damaged");
    }
    for (i = 0; i < FLAGSHM_SLOTS; i++)
        free_after += w.ledger.slots.holders[i].is_fresh;
    cr_assert_eq(free_before, free_after);

    cr_assert_eq(mount("tmpfs", w.fix.dir, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    cr_assert(beat(5 * OUTCOMES_SECOND), "it tries again by itself");
    cr_assert_eq(outcomes_publish_or_not(&w, text, true), 0);
    cr_assert_eq(w.ledger.refused, 0);
    cr_assert_eq(w.ledger.slot_fault.text[0], '\0');
    outcomes_stop(&w);
    free(text);

    cr_assert_eq(unlink(outcomes_path(&w)), 0); /* no room even for the header */
    flagshm_close(&w.fs);
    cr_assert_eq(mount("tmpfs", w.fix.dir, "tmpfs", MS_REMOUNT, "size=256k"), 0);
    cr_assert_eq(system("cat /dev/zero >\"$FLAGSHM_DIR/fill\" 2>/dev/null; true"), 0);
    cr_assert(outcomes_start(&w));
    cr_assert_null(w.ledger.file.segment);
    cr_assert(strstr(w.ledger.fault.text, "no room for the outcome segment"), "%s", w.ledger.fault.text);
    cr_assert_eq(flagshm_open(&w.fs, NULL), 0);
    cr_assert_eq(flagshm_decide(&w.fs, "n-1", "somebody", &d), FLAGSHM_SPLIT);
    flagshm_close(&w.fs);
    memset(&w.fs, 0, sizeof w.fs);
    outcomes_stop(&w);
    (void)umount2(w.fix.dir, MNT_DETACH);
    outcomes_end(&w);
}

/* ---- SIGBUS elsewhere ---- */

Test(ledger, a_bus_error_that_is_not_ours_ends_the_process_as_ever, .signal = SIGBUS)
{
    uint64_t id;

    (void)signal(SIGBUS, SIG_DFL); /* no sanitizer's */
    begin_to_lose(&id);
    outcomes_end(&w);
    (void)raise(SIGBUS);
}
