/* flagfile_plan: "rollout": the steps by which a share rises, and when it waits. Only the shape is judged
 * here. */
#include "server/flagfile_internal.h"

#include <assert.h>
#include <string.h>

#define STEPS_MAX     32
#define MIN_USERS_MAX 1000000000u
#define NOTIFY_MAX    16
#define TZ_BYTES_MAX  63
#define HOLDBACK_MPCT 50000u /* holding back more than half is no roll-out to 100 % */

static const char *const modes[] = {"observe", "guard", "auto", NULL};

static void read_duration(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)into;
    flagshm_reader_duration(r, value, value.node->string);
}

static void read_min_users(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    uint64_t number;

    (void)into;
    flagshm_reader_whole(r, value, "min_users", 1, MIN_USERS_MAX, &number);
}

static void read_mode(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    size_t index;

    (void)into;
    flagshm_reader_word(r, value, "mode", modes, &index);
}

/* ---- steps ---- */

struct step {
    struct flagshm_spot pct, shadow_pct;
    uint32_t mpct;
    bool is_sound;
};

static void read_pct(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct step *step = into;

    step->pct = value;
    step->is_sound = flagshm_reader_share(r, value, "pct", 1, &step->mpct);
}

static void read_shadow_pct(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct step *step = into;

    step->shadow_pct = value;
    step->is_sound = flagshm_reader_share(r, value, "shadow_pct", 1, &step->mpct);
}

static void read_approval(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    bool ignored;

    (void)into;
    flagshm_reader_bool(r, value, "approval", &ignored);
}

static const struct flagshm_key step_keys[] = {
    {"pct", read_pct},           {"shadow_pct", read_shadow_pct}, {"hold", read_duration},
    {"approval", read_approval}, {"min_users", read_min_users},   {NULL, NULL},
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
    else if (last->is_sound && !is_shadow == !last->shadow_pct.node && step->mpct <= last->mpct)
        flagshm_reader_error(r, share, "steps must rise: %s does not stand above %s of the step before",
                             flagshm_mpct_to_text(step->mpct, now), flagshm_mpct_to_text(last->mpct, before));
    *last = *step;
}

static void read_steps(struct flagshm_reader *r, struct flagshm_spot plan)
{
    struct step last = {.is_sound = false};
    struct flagshm_spot spot;
    size_t count = 0;

    for (spot = flagshm_spot_child(r, plan); spot.node; spot = flagshm_spot_next(r, spot)) {
        struct step step = {.is_sound = false};

        if (++count > STEPS_MAX)
            continue;
        flagshm_reader_object(r, spot, "a step", step_keys, &step);
        if (cJSON_IsObject(spot.node))
            judge_step(r, spot, &step, &last);
    }
    if (count == 0)
        flagshm_reader_error(r, plan, "a plan has at least one step");
    if (count > STEPS_MAX)
        flagshm_reader_error(r, plan, "a plan has at most %d steps, got %zu", STEPS_MAX, count);
}

struct rollout {
    bool is_default, has_plan;
};

static void read_plan(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const char *const presets[] = {"b2b", "b2c", NULL};
    struct rollout *rollout = into;
    size_t index;

    rollout->has_plan = true;
    if (rollout->is_default)
        flagshm_reader_key_error(r, value,
                                 "a plan belongs into a flag's own \"rollout\", not into the defaults");
    if (cJSON_IsArray(value.node))
        read_steps(r, value);
    else if (cJSON_IsString(value.node))
        flagshm_reader_word(r, value, "plan", presets, &index);
    else
        flagshm_reader_mismatch(r, value, "plan", "a list of steps, \"b2b\" or \"b2c\"");
}

/* ---- window: when the share may rise ---- */

struct window {
    bool has_tz, has_times;
};

/* By its shape; whether this machine knows the zone is the server's business. */
static void read_tz(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    const char *name = cJSON_IsString(value.node) ? value.node->valuestring : "";
    size_t length = strlen(name), part = 0, parts = 0;

    ((struct window *)into)->has_tz = true;
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
static bool is_day_list(const char *text)
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
        if (*text == '\0')
            return true;
        if (*text != ',')
            return false;
    }
}

static void read_days(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    ((struct window *)into)->has_times = true;
    if (!cJSON_IsString(value.node) || !is_day_list(value.node->valuestring))
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
}

static void read_window(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const struct flagshm_key keys[] = {
        {"tz", read_tz}, {"days", read_days}, {"hours", read_hours}, {NULL, NULL}};
    struct window window = {false, false};

    (void)into;
    flagshm_reader_object(r, value, "window", keys, &window);
    if (!cJSON_IsObject(value.node))
        return;
    if (!window.has_tz)
        flagshm_reader_error(r, value, "\"tz\" is missing in window: hours mean nothing without a time zone");
    if (!window.has_times)
        flagshm_reader_error(r, value, "\"days\" or \"hours\" is missing in window");
}

/* ---- the other keys ---- */

static void read_no_data_action(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const char *const actions[] = {"hold", "advance", "rollback", NULL};
    size_t index;

    (void)into;
    flagshm_reader_word(r, value, "action", actions, &index);
}

static void read_no_data(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const struct flagshm_key keys[] = {
        {"grace", read_duration}, {"action", read_no_data_action}, {NULL, NULL}};

    flagshm_reader_object(r, value, "no_data", keys, into);
}

static void read_notify(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct flagshm_name_set seen;
    struct flagshm_spot spot;
    uint32_t number = 0;
    int count = cJSON_IsArray(value.node) ? cJSON_GetArraySize(value.node) : -1;

    (void)into;
    if (count < 0) {
        flagshm_reader_mismatch(r, value, "notify", "a list of names");
        return;
    }
    if (count > NOTIFY_MAX) {
        flagshm_reader_error(r, value, "notify may name at most %d targets, got %d", NOTIFY_MAX, count);
        return;
    }
    if (!flagshm_name_set_make(&seen, NOTIFY_MAX, &r->scratch)) {
        r->no_memory = true;
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot))
        if (flagshm_reader_name(r, spot, "a target of notify", 64, "_.-") &&
            !flagshm_name_set_add(&seen, spot.node->valuestring, strlen(spot.node->valuestring), &number))
            flagshm_reader_error(r, spot, "notify names this target twice");
}

/* {"error_rate": 3}: up to which ratio harm must be ruled out before the share goes above 10 %. */
static void read_prove(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct flagshm_spot spot;
    double ratio;

    (void)into;
    if (!cJSON_IsObject(value.node)) {
        flagshm_reader_mismatch(r, value, "prove", "an object");
        return;
    }
    for (spot = flagshm_spot_child(r, value); spot.node; spot = flagshm_spot_next(r, spot)) {
        if (flagshm_reader_comment(r, spot))
            continue;
        if (flagshm_reader_guardrail_kind(r, spot))
            flagshm_reader_number(r, spot, spot.node->string, 1.01, 100, &ratio);
    }
}

static void read_alpha(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    double alpha;

    (void)into;
    flagshm_reader_number(r, value, "alpha", 0.0001, 0.1, &alpha);
}

static void read_holdback(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    uint32_t mpct;

    (void)into;
    if (flagshm_reader_share(r, value, "holdback_pct", 0, &mpct) && mpct > HOLDBACK_MPCT)
        flagshm_reader_mismatch(r, value, "holdback_pct", "0..50");
}

static const struct flagshm_key rollout_keys[] = {
    {"plan", read_plan},
    {"hold", read_duration},
    {"min_users", read_min_users},
    {"watch", read_duration},
    {"mode", read_mode},
    {"window", read_window},
    {"no_data", read_no_data},
    {"notify", read_notify},
    {"prove", read_prove},
    {"alpha", read_alpha},
    {"holdback_pct", read_holdback},
    {"drill_every", read_duration},
    {"overdue", read_duration},
    {NULL, NULL},
};

void flagshm_reader_rollout(struct flagshm_reader *r, struct flagshm_spot value, bool is_default)
{
    struct rollout rollout = {is_default, false};

    flagshm_reader_object(r, value, "rollout", rollout_keys, &rollout);
    if (cJSON_IsObject(value.node) && !is_default && !rollout.has_plan)
        flagshm_reader_key_error(r, value,
                                 "\"plan\" is missing in rollout: a list of steps, \"b2b\" or \"b2c\"");
}
