/* timetable: when steps come, and how soon harm is noticed, with a zone that the test makes. */
#include "tools/timetable.h"

#include "server/evidence_math.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define HOUR 3600.0
#define DAY  86400.0

/* 1970-01-01 was a Thursday. The zone "jump" sets its clock forth by an hour at the end of the second day. */
static bool local_time(const char *zone, uint64_t wall_ns, struct flagshm_local_time *local)
{
    uint64_t minutes = wall_ns / 60000000000u;

    if (strcmp(zone, "none") == 0)
        return false;
    if (strcmp(zone, "jump") == 0 && minutes >= UINT64_C(2) * 24 * 60)
        minutes += 60;
    local->is_known = true;
    local->weekday = (uint8_t)((3 + minutes / (24 * 60)) % 7);
    local->minute = (uint16_t)(minutes % (24 * 60));
    return true;
}

static struct timetable plan_of(const double *pcts, uint32_t count)
{
    struct timetable t = {.count = count,
                          .current = -1,
                          .local_time = local_time,
                          .watch_s = 3 * DAY,
                          .base_rate = 0.01,
                          .alpha = 0.01,
                          .guard_weight = 0.25,
                          .evidence = 1};
    uint32_t i;

    for (i = 0; i < count; i++)
        t.steps[i] =
            (struct timetable_step){.pct = pcts[i], .hold_s = DAY, .min_users = pcts[i] > 10 ? 100 : 20};
    return t;
}

static const double pcts[] = {5, 25, 50, 100};

Test(timetable, each_step_follows_the_hold_of_the_one_before)
{
    struct timetable t = plan_of(pcts, 4);

    timetable_fill(&t);
    cr_expect_eq(t.steps[0].begins_s, 0);
    cr_expect_eq(t.steps[3].begins_s, 3 * DAY);
    cr_expect_eq(t.completes_s, 6 * DAY);
    t.current = 1;
    t.left_s = HOUR;
    timetable_fill(&t);
    cr_expect_eq(t.steps[2].begins_s, HOUR);
    cr_expect_eq(t.completes_s, HOUR + DAY + 3 * DAY);
}

Test(timetable, the_watch_is_what_is_left_at_the_top)
{
    struct timetable t = plan_of(pcts, 4);

    t.current = 3;
    t.left_s = 2 * HOUR;
    t.is_at_top = true;
    timetable_fill(&t);
    cr_expect_eq(t.completes_s, 2 * HOUR);
    t.count = 0;
    timetable_fill(&t);
    cr_expect_eq(t.completes_s, TIMETABLE_NEVER);
}

Test(timetable, a_step_waits_for_its_users_a_canary_for_one_more_hold_at_most)
{
    struct timetable t = plan_of(pcts, 4);

    t.users_per_hour = 10;
    timetable_fill(&t);
    cr_expect_eq(t.steps[1].begins_s, 40 * HOUR, "20 users of half a user an hour");
    cr_expect_eq(t.steps[2].begins_s, 80 * HOUR, "100 users of 2.5 an hour");
    t.users_per_hour = 1;
    timetable_fill(&t);
    cr_expect_eq(t.steps[1].begins_s, 48 * HOUR);
    cr_expect_eq(t.steps[2].begins_s, 448 * HOUR);
    t.current = 1;
    t.left_s = 0;
    t.users = 99;
    timetable_fill(&t);
    cr_expect_eq(t.steps[2].begins_s, 4 * HOUR, "one user of a quarter an hour is missing");
}

Test(timetable, a_window_moves_each_rise_to_its_hours)
{
    struct timetable t = plan_of(pcts, 4);

    cr_assert(timetable_window(&t.window, "any", "mon-thu", "09:00-16:00"));
    t.now_wall_ns = UINT64_C(17) * 3600 * 1000000000u + 30000000000u; /* thursday, 17:00:30 */
    timetable_fill(&t);
    cr_expect_eq(t.steps[0].begins_s, 3 * DAY + 16 * HOUR - 30, "monday 09:00");
    cr_expect_eq(t.steps[1].begins_s, t.steps[0].begins_s + DAY);
    cr_expect_eq(t.steps[3].begins_s, t.steps[0].begins_s + 3 * DAY, "thursday");
    (void)strcpy(t.window.tz, "jump");
    timetable_fill(&t);
    cr_expect_eq(t.steps[0].begins_s, 3 * DAY + 15 * HOUR - 30);
    (void)strcpy(t.window.tz, "none");
    timetable_fill(&t);
    cr_expect_eq(t.steps[0].begins_s, TIMETABLE_NEVER);
    cr_expect_eq(t.completes_s, TIMETABLE_NEVER);
}

Test(timetable, windows_are_read_as_the_flag_file_has_them)
{
    static const struct {
        const char *days, *hours;
        unsigned bits, from, to;
    } good[] = {{"mon-thu", NULL, 0x0f, 0, 1440},
                {"mon,wed", "09:00-16:00", 0x05, 540, 960},
                {"sat-mon", "00:00-24:00", 0x61, 0, 1440},
                {"mon,tue,wed,thu", "23:58-23:59", 0x0f, 1438, 1439},
                {NULL, "08:30-08:31", 0x7f, 510, 511}};
    static const char *const bad_days[] = {"", "monday", "mon-", "mon,", "mon;tue", "-mon", "xyz"},
                             *const bad_hours[] = {"",
                                                   "9:00-16:00",
                                                   "09:00-09:00",
                                                   "16:00-09:00",
                                                   "09:00",
                                                   "24:10-25:00",
                                                   "23:00-24:30",
                                                   "09:61-10:00",
                                                   "09:00-16:00x"};
    struct flagshm_plan_window w;
    size_t i;

    for (i = 0; i < sizeof good / sizeof *good; i++) {
        cr_assert(timetable_window(&w, "UTC", good[i].days, good[i].hours), "%zu", i);
        cr_expect_eq(w.days, good[i].bits);
        cr_expect_eq(w.from_minute, good[i].from);
        cr_expect_eq(w.to_minute, good[i].to);
    }
    for (i = 0; i < sizeof bad_days / sizeof *bad_days; i++)
        cr_expect_not(timetable_window(&w, "UTC", bad_days[i], NULL), "%s", bad_days[i]);
    for (i = 0; i < sizeof bad_hours / sizeof *bad_hours; i++)
        cr_expect_not(timetable_window(&w, "UTC", NULL, bad_hours[i]), "%s", bad_hours[i]);
}

Test(timetable, harm_is_noticed_by_the_alpha_of_each_steps_evidence)
{
    struct timetable t = plan_of(pcts, 4);

    t.users_per_hour = 2000;
    t.current = 1;
    t.evidence = 3;
    timetable_fill(&t);
    cr_expect_eq(t.steps[0].notice_users, INFINITY, "it is past");
    cr_expect_float_eq(t.steps[1].notice_users,
                       flagshm_users_to_notice(0.25, 2, 0.01, flagshm_alpha_first_events(0.01, 3, 0.25)),
                       1e-9);
    cr_expect_float_eq(t.steps[2].notice_users,
                       flagshm_users_to_notice(0.5, 2, 0.01, flagshm_alpha_first_events(0.01, 4, 0.25)),
                       1e-9);
    cr_expect_float_eq(t.steps[2].notice_s, t.steps[2].notice_users / 1000 * HOUR, 1e-6);
    cr_expect_eq(t.steps[3].notice_s, INFINITY, "nothing to compare with");
    t.steps[2].is_shadow = true;
    timetable_fill(&t);
    cr_expect_eq(t.steps[2].notice_users, INFINITY);
}
