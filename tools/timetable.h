/* timetable: when the steps of a rollout come at the earliest, and how soon harm would be noticed in each: what `flagctl plan` shows. Pure: the
 * time of day in a zone is asked of the caller's function.
 */
#ifndef FLAGSHM_TOOLS_TIMETABLE_H
#define FLAGSHM_TOOLS_TIMETABLE_H

#include "server/plan.h"
#include "server/rollout.h"

#define TIMETABLE_NEVER (-1.0)

struct timetable_step {
    /* given */
    double pct; /* of users in the variant; of users whose calls are shadowed where is_shadow */
    bool is_shadow, needs_approval;
    double hold_s, min_users;
    /* worked out */
    double begins_s;    /* seconds from now; 0 or less: it has begun; TIMETABLE_NEVER: not known */
    double users_short; /* seconds by which min_users makes it longer than its hold */
    double notice_users,
        notice_s; /* of the variant until a doubling is noticed; INFINITY: never, or not known */
};

struct timetable {
    uint32_t count;
    struct timetable_step steps[FLAGSHM_STEPS_MAX];
    double completes_s; /* as begins_s: the end of the watch at the top */
    /* given */
    int32_t current; /* the step that is walked; -1: it has not begun */
    double left_s;   /* of its hold */
    double users;    /* of the variant that it has counted */
    double watch_s;
    bool is_at_top; /* the watch is what left_s is of */
    struct flagshm_plan_window window;
    uint64_t now_wall_ns;
    bool (*local_time)(const char *zone, uint64_t wall_ns, struct flagshm_local_time *local);
    double users_per_hour; /* of both arms; 0: not known */
    double base_rate;      /* of control's users that have an error */
    double alpha, guard_weight;
    uint64_t evidence; /* number of the evidence of the current step, or of the first one */
};

void timetable_fill(struct timetable *t);
/* "mon-thu" and "09:00-16:00", as the flag file has them; NULL: every day, all day. False: they are not such. */
bool timetable_window(struct flagshm_plan_window *window, const char *tz, const char *days,
                      const char *hours);

#endif
