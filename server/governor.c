/* governor: see the header. Here: its life, and the beat. */
#include "server/clock.h"
#include "server/governor_internal.h"
#include "server/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_NS UINT64_C(60000000000) /* what a restart may forget of a hold, or a quarter of a shorter one */

struct flagshm_moment *flagshm_governor_now(struct flagshm_governor *g)
{
    flagshm_moment_tick(&g->publisher->moment, flagshm_mono_ns(), flagshm_realtime_ns());
    return &g->publisher->moment;
}

/* ---- publishing ---- */

void flagshm_governor_take_away(struct flagshm_governor *g, struct flagshm_ward *ward)
{
    struct flagshm_publisher *p = g->publisher;
    struct flagshm_error error = {{0}};
    int result;

    flagshm_ward_apply(&p->wards, ward);
    if (p->segment.header == NULL)
        return;
    result = flagshm_segment_kill(&p->segment, ward->flag, &error);
    if (result == 0)
        p->version = flagshm_segment_version(&p->segment);
    else if (result != -EALREADY)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s cannot be taken back: %s", ward->flag, error.text);
}

bool flagshm_governor_publish(struct flagshm_governor *g)
{
    struct flagshm_publisher *p = g->publisher;

    if (flagshm_publisher_publish(p) == 0) {
        g->refusal.text[0] = '\0';
        return true;
    }
    if (strcmp(g->refusal.text, p->refusal.text) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", p->refusal.text);
    g->refusal = p->refusal;
    return false;
}

/* Looks at the wards of a list, and publishes once. What must be taken away is, whatever becomes of the table. */
static void look_at(struct flagshm_governor *g, struct flagshm_ward **wards, size_t count,
                    bool is_published_anyway)
{
    bool is_wanted = is_published_anyway;
    size_t i;

    for (i = 0; i < count; i++)
        is_wanted = flagshm_governor_look(g, wards[i]) || is_wanted;
    if (!is_wanted || flagshm_governor_publish(g))
        return;
    for (i = 0; i < count; i++)
        if (flagshm_governor_look(g, wards[i])) {
            if (wards[i]->draft->transition.is_lowering)
                flagshm_governor_take_away(g, wards[i]);
            else
                flagshm_ward_drop_draft(wards[i]);
        }
}

/* ---- each second ---- */

/* Of a plan how long it was held; of the default guard once which evidence it is, so that a restart goes on with it. */
static bool is_to_keep(const struct flagshm_ward *ward, uint64_t now_mono_ns, bool is_end)
{
    uint64_t hold_ns;

    if (ward->pending != NULL) /* it would be written down after the rise, and undo it */
        return false;
    if (ward->is_unkept)
        return true;
    if (ward->is_hidden || (!ward->state.is_planned && ward->post == NULL))
        return false;
    if (ward->kept_mono_ns == 0 && ward->post != NULL)
        return true;
    if (ward->state.hold_ns == ward->kept_hold_ns)
        return false;
    hold_ns = ward->file.is_present ? flagshm_rollout_hold_ns(&ward->state, ward->file.plan) : 0;
    return is_end ||
           now_mono_ns - ward->kept_mono_ns >= (hold_ns > 0 && hold_ns / 4 < KEEP_NS ? hold_ns / 4 : KEEP_NS);
}

static void keep_holds(struct flagshm_governor *g, bool is_end)
{
    struct flagshm_wards *wards = &g->publisher->wards;
    uint64_t now = flagshm_mono_ns();
    size_t i;

    for (i = 0; i < wards->count; i++) {
        struct flagshm_ward *ward = wards->list[i];

        if (is_end && ward->pending != NULL) {
            flagshm_ward_forget_pending(
                ward); /* nothing comes of it any more, though it may be written down */
            ward->is_unkept = true;
        }
        if (!is_to_keep(ward, now, is_end))
            continue;
        ward->is_unkept = false;
        ward->kept_mono_ns = now;
        ward->kept_hold_ns = ward->state.hold_ns;
        flagshm_governor_keep(g, ward);
    }
}

/* Without a plan, a latch, or a flag in the file there is nothing to remember. */
static void forget_wards(struct flagshm_governor *g)
{
    struct flagshm_wards *wards = &g->publisher->wards;
    size_t i;

    for (i = wards->count; wards->is_started && i > 0; i--) {
        struct flagshm_ward *ward = wards->list[i - 1];

        if (ward->is_hidden || ward->file.is_present || ward->state.is_planned ||
            ward->state.latched_count > 0 || ward->state.is_killed || ward->moves != NULL ||
            ward->pending != NULL)
            continue;
        if (ward->state.is_seen) {
            const struct flagshm_journal_commit commit = {
                .realtime_ns = flagshm_realtime_ns(), .flag = ward->flag, .is_forgotten = true};

            flagshm_journal_commit(g->publisher->journal, &commit);
        }
        flagshm_wards_remove(wards, ward);
    }
}

void flagshm_governor_beat(struct flagshm_governor *g)
{
    struct flagshm_wards *wards = &g->publisher->wards;
    bool has_others;

    (void)flagshm_governor_now(g);
    if (!wards->is_started)
        return;
    flagshm_governor_drill_beat(g);
    has_others = flagshm_governor_guard_others(g); /* it may move the list */
    look_at(g, wards->list, wards->count, has_others);
    keep_holds(g, false);
    forget_wards(g);
}

void flagshm_governor_news(struct flagshm_governor *g)
{
    struct flagshm_ledger *ledger = &g->publisher->ledger;
    struct flagshm_ward *wards[FLAGSHM_SLOTS];
    uint64_t slots[FLAGSHM_SLOTS / 64];
    size_t count = 0;
    uint32_t slot;

    flagshm_ledger_take_news(ledger, slots);
    for (slot = 0; slot < FLAGSHM_SLOTS; slot++)
        if ((slots[slot / 64] >> (slot % 64) & 1) != 0 && ledger->slots.holders[slot].flag_hash != 0) {
            wards[count] = flagshm_wards_find(&g->publisher->wards, ledger->slots.holders[slot].flag_hash);
            count += wards[count] != NULL;
        }
    if (count == 0)
        return;
    (void)flagshm_governor_now(g);
    look_at(g, wards, count, false);
}

/* ---- start and end ---- */

static void load_freeze(struct flagshm_governor *g)
{
    char *text = flagshm_journal_setting(g->publisher->journal, "frozen");
    cJSON *json = text != NULL ? cJSON_Parse(text) : NULL;
    const char *by = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "by")),
               *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "reason"));
    const cJSON *since = cJSON_GetObjectItemCaseSensitive(json, "since_s");

    if (text != NULL) {
        g->is_frozen = true;
        (void)snprintf(g->frozen_by, sizeof g->frozen_by, "%s", by != NULL ? by : "?");
        (void)snprintf(g->frozen_reason, sizeof g->frozen_reason, "%s", reason != NULL ? reason : "");
        g->frozen_wall_ns = cJSON_IsNumber(since) && since->valuedouble > 0 && since->valuedouble < 1e11
                                ? (uint64_t)since->valuedouble * 1000000000u
                                : 0;
    }
    cJSON_Delete(json);
    free(text);
}

int flagshm_governor_open(struct flagshm_governor **governor, const struct flagshm_governor_options *options,
                          struct flagshm_error *error)
{
    struct flagshm_notify_options notices = {.dir = options->notify_dir, .instance = options->instance};
    struct flagshm_governor *g = calloc(1, sizeof *g);
    struct flagshm_error fault = {{0}};

    *governor = NULL;
    if (g == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory for the rollouts");
    g->options = *options;
    g->publisher = options->publisher;
    if (flagshm_notify_open(&g->notify, &notices, &fault) != 0) {
        g->notify = NULL;
        flagshm_log(FLAGSHM_LOG_WARNING, "nobody is told of roll-backs: %s", fault.text);
    }
    load_freeze(g);
    if (g->is_frozen)
        flagshm_log(FLAGSHM_LOG_NOTICE, "all rollouts are frozen, by %s: %s", g->frozen_by, g->frozen_reason);
    flagshm_governor_load_notices(g);
    *governor = g;
    return 0;
}

int flagshm_governor_notify_fd(const struct flagshm_governor *g)
{
    return g->notify != NULL ? flagshm_notify_fd(g->notify) : -1;
}

void flagshm_governor_close(struct flagshm_governor *g)
{
    if (g == NULL)
        return;
    flagshm_governor_drill_stop(g);
    flagshm_governor_work(g);
    keep_holds(g, true);
    if (g->notify != NULL)
        flagshm_notify_close(g->notify);
    flagshm_governor_free_orders(g);
    free(g);
}
