/* timetable: see the header. */
#include "tools/timetable.h"

#include "server/evidence_math.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NS         UINT64_C(1000000000)
#define HOUR_S     3600.0
#define CANARY_PCT (FLAGSHM_CANARY_MPCT / 1000.0)
#define TRIES_MAX  40 /* a window opens within a week, and each try is a day, or less */

/* Number of the day (0...6) whose three letters stand there; 7: none. */
static unsigned day_at(const char *text)
{
    static const char days[] = "montuewedthufrisatsun";
    unsigned i = 0;

    while (i < 7 && strncmp(text, days + (size_t)i * 3, 3) != 0)
        i++;
    return i;
}

static bool read_days(const char *text, uint8_t *days)
{
    unsigned day, last;

    for (*days = 0;; text++) {
        day = last = day_at(text);
        if (day < 7 && text[3] == '-')
            last = day_at(text + 4);
        if (day == 7 || last == 7)
            return false;
        text += text[3] == '-' ? 7 : 3;
        for (; day != last; day = (day + 1) % 7)
            *days |= (uint8_t)(1u << day);
        *days |= (uint8_t)(1u << last);
        if (*text != ',')
            return *text == '\0';
    }
}

bool timetable_window(struct flagshm_plan_window *window, const char *tz, const char *days, const char *hours)
{
    unsigned from_hour, from, to_hour, to;
    char end;

    memset(window, 0, sizeof *window);
    window->is_set = true;
    window->days = 0x7f;
    window->to_minute = 24 * 60;
    if (strlen(tz) >= sizeof window->tz)
        return false;
    (void)snprintf(window->tz, sizeof window->tz, "%s", tz);
    if (days != NULL && !read_days(days, &window->days))
        return false;
    if (hours == NULL)
        return true;
    if (strlen(hours) != 11 ||
        sscanf(hours, "%2u:%2u-%2u:%2u%c", &from_hour, &from, &to_hour, &to, &end) != 4 || from_hour > 23 ||
        from > 59 || to_hour > 24 || to > 59)
        return false;
    window->from_minute = (uint16_t)(from_hour * 60 + from);
    window->to_minute = (uint16_t)(to_hour * 60 + to);
    return window->from_minute < window->to_minute && window->to_minute <= 24 * 60;
}

/* The first moment from `at_s` on at which the share may rise. A clock that is set back or forth in between is met by asking anew. */
static double window_opens(const struct timetable *t, double at_s)
{
    const struct flagshm_plan_window *w = &t->window;
    int tries;

    if (!w->is_set || at_s < 0)
        return at_s;
    for (tries = 0; tries < TRIES_MAX; tries++) {
        uint64_t wall_ns = t->now_wall_ns + (uint64_t)(at_s * (double)NS);
        double second = (double)(wall_ns / NS % 60);
        struct flagshm_local_time local;

        if (!t->local_time(w->tz, wall_ns, &local) || !local.is_known)
            return TIMETABLE_NEVER;
        if ((w->days >> local.weekday & 1) != 0 && local.minute >= w->from_minute &&
            local.minute < w->to_minute)
            return at_s;
        if ((w->days >> local.weekday & 1) != 0 && local.minute < w->from_minute)
            at_s += (w->from_minute - local.minute) * 60.0 - second;
        else
            at_s += (24 * 60 - local.minute) * 60.0 - second;
    }
    return TIMETABLE_NEVER;
}

/* How long a step still lasts: what is left of its hold, or until it has its users. A canary goes on without them after a second hold. */
static double step_lasts(const struct timetable *t, struct timetable_step *step, double left_s, double users)
{
    double users_s = 0;

    step->users_short = 0;
    if (!step->is_shadow && t->users_per_hour > 0 && step->pct > 0 && users < step->min_users)
        users_s = (step->min_users - users) / (t->users_per_hour * step->pct / 100) * HOUR_S;
    if (step->pct <= CANARY_PCT && users_s > left_s + step->hold_s)
        users_s = left_s + step->hold_s;
    if (users_s > left_s)
        step->users_short = users_s - left_s;
    return left_s + step->users_short;
}

static void notice_fill(const struct timetable *t, struct timetable_step *step, uint64_t evidence)
{
    double q = step->pct / 100;

    if (step->is_shadow) /* pairs are judged, by another rule */
        return;
    step->notice_users = flagshm_users_to_notice(
        q, 2, t->base_rate, flagshm_alpha_first_events(t->alpha, evidence, t->guard_weight));
    if (t->users_per_hour > 0 && isfinite(step->notice_users))
        step->notice_s = step->notice_users / (t->users_per_hour * q) * HOUR_S;
}

void timetable_fill(struct timetable *t)
{
    double at = 0;
    uint32_t i;

    for (i = 0; i < t->count; i++) {
        struct timetable_step *step = &t->steps[i];
        bool is_current = (int32_t)i == t->current, is_past = (int32_t)i < t->current;
        uint64_t evidence =
            t->evidence +
            (uint64_t)((int32_t)i > t->current ? (int32_t)i - (t->current < 0 ? 0 : t->current) : 0);

        step->begins_s = step->users_short = 0;
        step->notice_users = step->notice_s = INFINITY;
        if (is_past)
            continue;
        notice_fill(t, step, evidence != 0 ? evidence : 1);
        if (is_current) {
            at = step_lasts(t, step, t->left_s, t->users);
            continue;
        }
        step->begins_s = at = window_opens(t, at);
        at = at < 0 ? TIMETABLE_NEVER : at + step_lasts(t, step, step->hold_s, 0);
        if (i + 1 == t->count && step->begins_s >= 0) /* at the top the watch is what counts */
            at = step->begins_s + t->watch_s;
    }
    if (t->current >= 0 && (uint32_t)t->current + 1 == t->count)
        at = t->is_at_top ? t->left_s : t->left_s + t->watch_s;
    t->completes_s = t->count != 0 ? at : TIMETABLE_NEVER;
}
