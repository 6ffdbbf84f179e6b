/* flagfile_plan: "rollout": the steps by which a share rises, and when it waits; and what a flag's own, the file's defaults and ours
 * make together: the flag's key wins, then the file's, each as a whole. */
#include "server/flagfile_internal.h"

#include <stdio.h>
#include <string.h>

#define MIN_USERS_MAX 1000000000u
#define TZ_BYTES_MAX  63
#define HOLDBACK_MPCT 50000u /* holding back more than half is no roll-out to 100 % */

#define HOUR_NS          UINT64_C(3600000000000)
#define HOLD_NS          (24 * HOUR_NS)
#define NO_DATA_GRACE_NS (24 * HOUR_NS)
#define CANARY_USERS     20
#define RAMP_USERS       100
#define SHADOW_PAIRS     1

static const char *const modes[] = {"observe", "guard", "auto", NULL}; /* in the order of the enum */

enum says { /* bits: the key stands there */
            SAYS_MODE = 1,
            SAYS_WATCH = 2,
            SAYS_OVERDUE = 4,
            SAYS_DRILL_EVERY = 8,
            SAYS_NO_DATA = 16,
            SAYS_WINDOW = 32,
            SAYS_ALPHA = 64,
            SAYS_PROVE = 128,
            SAYS_HOLDBACK = 256,
            SAYS_NOTIFY = 512
};

static struct flagshm_rollout_text *say(void *into, enum says key)
{
    struct flagshm_rollout_text *text = into;

    text->says |= (uint32_t)key;
    return text;
}

static void read_min_users(struct flagshm_reader *r, struct flagshm_spot value, uint32_t *users)
{
    uint64_t number;

    if (flagshm_reader_whole(r, value, "min_users", 1, MIN_USERS_MAX, &number))
        *users = (uint32_t)number;
}

/* ---- steps ---- */

struct step {
    struct flagshm_spot pct, shadow_pct;
    struct flagshm_plan_step said;
    bool is_sound;
};

static void read_pct(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct step *step = into;

    step->pct = value;
    step->is_sound = flagshm_reader_share(r, value, "pct", 1, &step->said.mpct);
}

static void read_shadow_pct(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct step *step = into;

    step->shadow_pct = value;
    step->is_sound = flagshm_reader_share(r, value, "shadow_pct", 1, &step->said.mpct);
}

static void read_approval(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_bool(r, value, "approval", &((struct step *)into)->said.needs_approval);
}

static void read_step_hold(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_duration(r, value, "hold", &((struct step *)into)->said.hold_ns);
}

static void read_step_min_users(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    read_min_users(r, value, &((struct step *)into)->said.min_users);
}

static const struct flagshm_key step_keys[] = {
    {"pct", read_pct},           {"shadow_pct", read_shadow_pct},    {"hold", read_step_hold},
    {"approval", read_approval}, {"min_users", read_step_min_users}, {NULL, NULL},
};

/* Each step must say one share, above that of the step before; shadow steps come first. `last` is the step
 * before. */
static void judge_step(struct flagshm_reader *r, struct flagshm_spot spot, const struct step *step,
                       struct step *last)
{
    bool is_shadow = step->shadow_pct.node != NULL;
    struct flagshm_spot share = is_shadow ? step->shadow_pct : step->pct;
    char before[16], now[16];

    if (step->pct.node && step->shadow_pct.node) {
        flagshm_reader_key_error(r, step->shadow_pct,
                                 "\"pct\" and \"shadow_pct\" exclude each other in a step");
        return;
    }
    if (!step->pct.node && !step->shadow_pct.node) {
        flagshm_reader_error(r, spot, "\"pct\" (or \"shadow_pct\") is missing in this step");
        return;
    }
    if (!step->is_sound)
        return;
    if (is_shadow && last->pct.node)
        flagshm_reader_key_error(r, share, "shadow steps come before all others");
    else if (last->is_sound && !is_shadow == !last->shadow_pct.node && step->said.mpct <= last->said.mpct)
        flagshm_reader_error(r, share, "steps must rise: %s does not stand above %s of the step before",
                             flagshm_mpct_to_text(step->said.mpct, now),
                             flagshm_mpct_to_text(last->said.mpct, before));
    *last = *step;
}

static void read_steps(struct flagshm_reader *r, struct flagshm_spot plan, struct flagshm_plan *into)
{
    struct step last = {.is_sound = false};
    struct flagshm_spot spot;
    size_t count = 0;

    for (spot = flagshm_spot_child(r, plan); spot.node; spot = flagshm_spot_next(r, spot)) {
        struct step step = {.is_sound = false};

        if (++count > FLAGSHM_STEPS_MAX)
            continue;
        flagshm_reader_object(r, spot, "a step", step_keys, &step);
        if (cJSON_IsObject(spot.node))
            judge_step(r, spot, &step, &last);
        step.said.is_shadow = step.shadow_pct.node != NULL;
        into->steps[into->step_count++] = step.said;
    }
    if (count == 0)
        flagshm_reader_error(r, plan, "a plan has at least one step");
    if (count > FLAGSHM_STEPS_MAX)
        flagshm_reader_error(r, plan, "a plan has at most %u steps, got %zu", FLAGSHM_STEPS_MAX, count);
}

static void take_preset(struct flagshm_rollout_text *text, bool is_b2c)
{
    static const uint32_t shares[] = {1000, 5000, 10000, 25000, 50000, 75000, 100000};
    size_t i;

    for (i = 0; i < sizeof shares / sizeof shares[0]; i++)
        text->plan.steps[i].mpct = shares[i];
    text->plan.step_count = (uint32_t)i;
    text->preset_hold_ns = (is_b2c ? 2 : 24) * HOUR_NS;
}

static void read_plan(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const char *const presets[] = {"b2b", "b2c", NULL};
    struct flagshm_rollout_text *text = into;
    size_t index;

    if (text->is_default)
        flagshm_reader_key_error(r, value,
                                 "a plan belongs into a flag's own \"rollout\", not into the defaults");
    if (cJSON_IsArray(value.node))
        read_steps(r, value, &text->plan);
    else if (!cJSON_IsString(value.node))
        flagshm_reader_mismatch(r, value, "plan", "a list of steps, \"b2b\" or \"b2c\"");
    else if (flagshm_reader_word(r, value, "plan", presets, &index))
        take_preset(text, index == 1);
}

static void read_hold(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_duration(r, value, "hold", &((struct flagshm_rollout_text *)into)->hold_ns);
}

static void read_default_min_users(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    read_min_users(r, value, &((struct flagshm_rollout_text *)into)->min_users);
}

static void read_mode(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    size_t index;

    if (flagshm_reader_word(r, value, "mode", modes, &index))
        say(into, SAYS_MODE)->plan.mode = (enum flagshm_plan_mode)index;
}

static void read_watch(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_duration(r, value, "watch", &say(into, SAYS_WATCH)->plan.watch_ns);
}

static void read_drill_every(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_duration(r, value, "drill_every", &say(into, SAYS_DRILL_EVERY)->plan.drill_every_ns);
}

static void read_overdue(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_duration(r, value, "overdue", &say(into, SAYS_OVERDUE)->plan.overdue_ns);
}

/* ---- window: when the share may rise ---- */

struct window {
    bool has_tz, has_times;
    struct flagshm_plan_window said;
};

/* By its shape; whether this machine knows the zone is the server's business. */
static void read_tz(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    const char *name = cJSON_IsString(value.node) ? value.node->valuestring : "";
    size_t length = strlen(name), part = 0, parts = 0;

    ((struct window *)into)->has_tz = true;
    if (length <= TZ_BYTES_MAX)
        memcpy(((struct window *)into)->said.tz, name, length + 1);
    while (length <= TZ_BYTES_MAX && parts < 3) {
        part = strcspn(name, "/");
        if (!flagshm_is_name(name, part, TZ_BYTES_MAX, "_+-"))
            break;
        parts++;
        if (name[part] == '\0')
            return;
        name += part + 1;
    }
    flagshm_reader_mismatch(r, value, "tz", "a time zone like \"Europe/Berlin\" or \"UTC\"");
}

/* Number of the day (0...6) whose three letters stand at `text`; 7 where none does. */
static unsigned day_at(const char *text)
{
    static const char days[] = "montuewedthufrisatsun";
    unsigned i;

    for (i = 0; i < 7; i++)
        if (strncmp(text, days + i * 3, 3) == 0)
            return i;
    return 7;
}

/* "mon-thu", "mon,wed", "sat-mon,wed": no day twice. */
static bool is_day_list(const char *text, uint8_t *days)
{
    unsigned seen = 0, day, last;

    for (;; text++) {
        day = last = day_at(text);
        if (day == 7)
            return false;
        text += 3;
        if (*text == '-') {
            last = day_at(text + 1);
            if (last == 7 || last == day)
                return false;
            text += 4;
        }
        for (;; day = (day + 1) % 7) {
            if (seen & 1u << day)
                return false;
            seen |= 1u << day;
            if (day == last)
                break;
        }
        *days = (uint8_t)seen;
        if (*text == '\0')
            return true;
        if (*text != ',')
            return false;
    }
}

static void read_days(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct window *window = into;

    window->has_times = true;
    if (!cJSON_IsString(value.node) || !is_day_list(value.node->valuestring, &window->said.days))
        flagshm_reader_mismatch(r, value, "days", "days like \"mon-thu\" or \"mon,wed\", none of them twice");
}

/* Minutes since midnight of "HH:MM", up to 24:00; -1 where it is none. */
static int minutes_at(const char *text)
{
    int i, hours, minutes;

    for (i = 0; i < 5; i++)
        if (i == 2 ? text[i] != ':' : text[i] < '0' || text[i] > '9')
            return -1;
    hours = (text[0] - '0') * 10 + (text[1] - '0');
    minutes = (text[3] - '0') * 10 + (text[4] - '0');
    if (minutes > 59 || hours * 60 + minutes > 24 * 60)
        return -1;
    return hours * 60 + minutes;
}

static void read_hours(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    const char *text = cJSON_IsString(value.node) ? value.node->valuestring : "";
    int from = -1, to = -1;

    ((struct window *)into)->has_times = true;
    if (strlen(text) == 11 && text[5] == '-') {
        from = minutes_at(text);
        to = minutes_at(text + 6);
    }
    if (from < 0 || to <= from)
        flagshm_reader_mismatch(r, value, "hours",
                                "hours of one day like \"09:00-16:00\", the first before the second");
    ((struct window *)into)->said.from_minute = (uint16_t)from;
    ((struct window *)into)->said.to_minute = (uint16_t)to;
}

static void read_window(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const struct flagshm_key keys[] = {
        {"tz", read_tz}, {"days", read_days}, {"hours", read_hours}, {NULL, NULL}};
    struct window window = {.said = {.is_set = true, .days = 0x7f, .to_minute = 24 * 60}};

    flagshm_reader_object(r, value, "window", keys, &window);
    if (!cJSON_IsObject(value.node))
        return;
    if (!window.has_tz)
        flagshm_reader_error(r, value, "\"tz\" is missing in window: hours mean nothing without a time zone");
    if (!window.has_times)
        flagshm_reader_error(r, value, "\"days\" or \"hours\" is missing in window");
    say(into, SAYS_WINDOW)->plan.window = window.said;
}

/* ---- the other keys ---- */

static void read_no_data_action(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const char *const actions[] = {"hold", "advance", "rollback", NULL};
    size_t index;

    if (flagshm_reader_word(r, value, "action", actions, &index)) /* in the order of the enum */
        ((struct flagshm_plan *)into)->no_data = (enum flagshm_no_data)index;
}

static void read_grace(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_duration(r, value, "grace", &((struct flagshm_plan *)into)->no_data_grace_ns);
}

static void read_no_data(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const struct flagshm_key keys[] = {
        {"grace", read_grace}, {"action", read_no_data_action}, {NULL, NULL}};
    struct flagshm_plan *plan = &say(into, SAYS_NO_DATA)->plan;

    plan->no_data_grace_ns = NO_DATA_GRACE_NS;
    flagshm_reader_object(r, value, "no_data", keys, plan);
}

static void read_notify(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct flagshm_name_set seen;
    struct flagshm_spot spot;
    uint32_t number = 0;
    struct flagshm_plan *plan = &say(into, SAYS_NOTIFY)->plan;
    int count = cJSON_IsArray(value.node) ? cJSON_GetArraySize(value.node) : -1;

    if (count < 0) {
        flagshm_reader_mismatch(r, value, "notify", "a list of names");
        return;
    }
    if (count > (int)FLAGSHM_NOTIFY_MAX) {
        flagshm_reader_error(r, value, "notify may name at most %u targets, got %d", FLAGSHM_NOTIFY_MAX,
                             count);
        return;
    }
    if (!flagshm_name_set_make(&seen, FLAGSHM_NOTIFY_MAX, &r->scratch)) {
        r->no_memory = true;
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot)) {
        if (!flagshm_reader_name(r, spot, "a target of notify", 64, "_.-"))
            continue;
        if (!flagshm_name_set_add(&seen, spot.node->valuestring, strlen(spot.node->valuestring), &number))
            flagshm_reader_error(r, spot, "notify names this target twice");
        snprintf(plan->notify[plan->notify_count++], sizeof plan->notify[0], "%s", spot.node->valuestring);
    }
}

/* {"error_rate": 3}: up to which ratio harm must be ruled out before the share goes above 10 %. */
static void read_prove(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    double *prove = say(into, SAYS_PROVE)->plan.prove;
    struct flagshm_spot spot;
    size_t kind;

    if (!cJSON_IsObject(value.node)) {
        flagshm_reader_mismatch(r, value, "prove", "an object");
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot)) {
        if (flagshm_reader_comment(r, spot))
            continue;
        if (flagshm_reader_guardrail_kind(r, spot, &kind))
            flagshm_reader_number(r, spot, spot.node->string, 1.01, 100, &prove[kind]);
    }
}

static void read_alpha(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_number(r, value, "alpha", 0.0001, 0.1, &say(into, SAYS_ALPHA)->plan.alpha);
}

static void read_holdback(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    uint32_t *mpct = &say(into, SAYS_HOLDBACK)->plan.holdback_mpct;

    if (flagshm_reader_share(r, value, "holdback_pct", 0, mpct) && *mpct > HOLDBACK_MPCT)
        flagshm_reader_mismatch(r, value, "holdback_pct", "0..50");
}

static const struct flagshm_key rollout_keys[] = {
    {"plan", read_plan},
    {"hold", read_hold},
    {"min_users", read_default_min_users},
    {"watch", read_watch},
    {"mode", read_mode},
    {"window", read_window},
    {"no_data", read_no_data},
    {"notify", read_notify},
    {"prove", read_prove},
    {"alpha", read_alpha},
    {"holdback_pct", read_holdback},
    {"drill_every", read_drill_every},
    {"overdue", read_overdue},
    {NULL, NULL},
};

void flagshm_reader_rollout(struct flagshm_reader *r, struct flagshm_spot value,
                            struct flagshm_rollout_text *text)
{
    *text = (struct flagshm_rollout_text){.is_default = text->is_default};
    flagshm_reader_object(r, value, "rollout", rollout_keys, text);
    if (cJSON_IsObject(value.node) && !text->is_default &&
        !cJSON_GetObjectItemCaseSensitive(value.node, "plan"))
        flagshm_reader_key_error(r, value,
                                 "\"plan\" is missing in rollout: a list of steps, \"b2b\" or \"b2c\"");
}

/* ---- what it comes to ---- */

static void take_said(struct flagshm_plan *plan, const struct flagshm_rollout_text *text)
{
    const struct flagshm_plan *said = &text->plan;

    if (text->says & SAYS_MODE)
        plan->mode = said->mode;
    if (text->says & SAYS_WATCH)
        plan->watch_ns = said->watch_ns;
    if (text->says & SAYS_OVERDUE)
        plan->overdue_ns = said->overdue_ns;
    if (text->says & SAYS_DRILL_EVERY)
        plan->drill_every_ns = said->drill_every_ns;
    if (text->says & SAYS_NO_DATA) {
        plan->no_data_grace_ns = said->no_data_grace_ns;
        plan->no_data = said->no_data;
    }
    if (text->says & SAYS_WINDOW)
        plan->window = said->window;
    if (text->says & SAYS_ALPHA)
        plan->alpha = said->alpha;
    if (text->says & SAYS_PROVE)
        memcpy(plan->prove, said->prove, sizeof plan->prove);
    if (text->says & SAYS_HOLDBACK)
        plan->holdback_mpct = said->holdback_mpct;
    if (text->says & SAYS_NOTIFY) {
        plan->notify_count = said->notify_count;
        memcpy(plan->notify, said->notify, sizeof plan->notify);
    }
}

static uint64_t first_of(uint64_t a, uint64_t b, uint64_t c)
{
    return a > 0 ? a : b > 0 ? b : c;
}

static void take_steps(struct flagshm_plan *plan, const struct flagshm_rollout_text *text,
                       const struct flagshm_rollout_text *defaults)
{
    uint64_t hold_ns = first_of(text->hold_ns, text->preset_hold_ns, first_of(defaults->hold_ns, HOLD_NS, 0));
    uint64_t users = first_of(text->min_users, defaults->min_users, 0);
    uint32_t i;

    plan->step_count = text->plan.step_count;
    for (i = 0; i < plan->step_count; i++) {
        struct flagshm_plan_step *step = &plan->steps[i];

        *step = text->plan.steps[i];
        step->hold_ns = first_of(step->hold_ns, hold_ns, 0);
        step->min_users = (uint32_t)first_of(step->min_users, users,
                                             step->is_shadow                     ? SHADOW_PAIRS
                                             : step->mpct <= FLAGSHM_CANARY_MPCT ? CANARY_USERS
                                                                                 : RAMP_USERS);
    }
}

/* A plan that nobody wrote only ever lowers. */
static struct flagshm_plan *plain_plan(struct flagshm_reader *r)
{
    if (r->plain_plan)
        return r->plain_plan;
    r->plain_plan = flagshm_arena_take(&r->file->arena, sizeof *r->plain_plan);
    if (r->plain_plan) {
        flagshm_plan_default(r->plain_plan);
        take_said(r->plain_plan, &r->default_rollout);
        if (r->plain_plan->mode == FLAGSHM_MODE_AUTO)
            r->plain_plan->mode = FLAGSHM_MODE_GUARD;
    }
    return r->plain_plan;
}

void flagshm_reader_give_plan(struct flagshm_reader *r, const struct flagshm_rollout_text *text,
                              struct flagshm_flag *flag)
{
    struct flagshm_plan *plan;

    if (!text) {
        flag->plan = plain_plan(r);
        r->no_memory = r->no_memory || !flag->plan;
        return;
    }
    plan = flagshm_arena_take(&r->file->arena, sizeof *plan);
    flag->plan = plan;
    if (!plan) {
        r->no_memory = true;
        return;
    }
    flagshm_plan_default(plan);
    plan->mode = FLAGSHM_MODE_AUTO;
    take_said(plan, &r->default_rollout);
    take_said(plan, text);
    take_steps(plan, text, &r->default_rollout);
}
