/* governor_tell: who is told of a transition, in which words; and what of that is done. */
#include "server/clock.h"
#include "server/governor_internal.h"
#include "server/json_add.h"
#include "server/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *flagshm_governor_notice_text(const struct flagshm_governor *g, const struct flagshm_ward *ward,
                                   const struct flagshm_rollout *state, const struct flagshm_order *order)
{
    const struct flagshm_transition *t = &order->transition;
    cJSON *json = cJSON_CreateObject();
    char host[256] = "", word[25] = "", *text;

    (void)gethostname(host, sizeof host - 1);
    flagshm_rollout_stage_word(state, word);
    cJSON_AddStringToObject(json, "id", order->notice_id);
    cJSON_AddStringToObject(json, "host", host);
    cJSON_AddStringToObject(json, "instance", g->options.instance);
    cJSON_AddStringToObject(json, "flag", ward->flag);
    flagshm_json_add_time(json, "time", t->wall_ns);
    cJSON_AddStringToObject(json, "cause", flagshm_cause_name(t->cause));
    cJSON_AddStringToObject(json, "sentence", t->sentence);
    cJSON_AddStringToObject(json, "stage", word);
    flagshm_json_add_share(json, "from_pct", t->from_mpct);
    flagshm_json_add_share(json, "to_pct", t->to_mpct);
    cJSON_AddStringToObject(json, "user", t->user);
    flagshm_json_add_u64(json, "attempt", t->attempt);
    text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

void flagshm_governor_name_notice(const struct flagshm_governor *g, const struct flagshm_ward *ward,
                                  const struct flagshm_rollout *state, struct flagshm_order *order)
{
    (void)snprintf(order->notice_id, sizeof order->notice_id, "%s:%s:%llu:%llu", g->options.instance,
                   ward->flag, (unsigned long long)(state->seen_wall_ns / 1000000000u),
                   (unsigned long long)order->transition.id);
}

void flagshm_governor_forget_notices(struct flagshm_governor *g, const struct flagshm_order *order)
{
    uint32_t i;

    for (i = 0; order->notice != NULL && i < order->plan.notify_count; i++)
        flagshm_journal_notice_done(g->publisher->journal, order->notice_id, order->plan.notify[i]);
}

void flagshm_governor_tell(struct flagshm_governor *g, const struct flagshm_order *order)
{
    uint32_t i;

    if (order->notice == NULL || g->notify == NULL)
        return;
    for (i = 0; i < order->plan.notify_count; i++)
        flagshm_notify_give(g->notify, order->notice_id, order->plan.notify[i], order->notice,
                            order->transition.wall_ns);
}

void flagshm_governor_load_notices(struct flagshm_governor *g)
{
    cJSON *notices = flagshm_journal_notices(g->publisher->journal);
    const cJSON *notice;

    cJSON_ArrayForEach(notice, notices)
    {
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(notice, "id")),
                   *target = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(notice, "target")),
                   *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(notice, "notice")),
                   *time = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(notice, "time_ns"));

        if (id != NULL && target != NULL && text != NULL && g->notify != NULL)
            flagshm_notify_give(g->notify, id, target, text, time != NULL ? strtoull(time, NULL, 10) : 0);
    }
    cJSON_Delete(notices);
}

void flagshm_governor_notify_done(struct flagshm_governor *g)
{
    struct flagshm_notify_report report;

    while (g->notify != NULL && flagshm_notify_take(g->notify, &report)) {
        if (report.is_given_up)
            flagshm_log(FLAGSHM_LOG_ERROR, "%s was not told of %s: %s; given up", report.target, report.id,
                        report.error.text);
        else if (!report.is_delivered)
            flagshm_log(FLAGSHM_LOG_WARNING, "%s cannot be told of %s: %s; tried again", report.target,
                        report.id, report.error.text);
        if (report.is_given_up)
            flagshm_journal_event(g->publisher->journal, flagshm_realtime_ns(), "notice_lost", NULL, NULL,
                                  report.error.text);
        if (report.is_given_up || report.is_delivered)
            flagshm_journal_notice_done(g->publisher->journal, report.id, report.target);
    }
}
