/* governor_commit: what is written down, in which order, and what comes of it. */
#include "server/clock.h"
#include "server/fault.h"
#include "server/governor_internal.h"
#include "server/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MIN_NS UINT64_C(1000000000)
#define RETRY_MAX_NS UINT64_C(60000000000)

bool flagshm_transition_is_rise(const struct flagshm_transition *t)
{
    return t->to_mpct > t->from_mpct ||
           (t->to_mpct == t->from_mpct && t->to_shadow_mpct > t->from_shadow_mpct);
}

static void answer(struct flagshm_governor *g, uint64_t asker, const struct flagshm_ward *ward, int result,
                   bool is_durable, const char *sentence, const char *warning)
{
    struct flagshm_governor_answer a = {
        .asker = asker, .result = result, .is_durable = is_durable, .ward = ward};

    if (asker == 0 || g->options.answer == NULL)
        return;
    (void)snprintf(a.sentence, sizeof a.sentence, "%s", sentence);
    (void)snprintf(a.warning, sizeof a.warning, "%s", warning);
    g->options.answer(g->options.context, &a);
}

/* ---- orders ---- */

static void order_free(struct flagshm_order *order)
{
    if (order != NULL)
        free(order->notice);
    free(order);
}

void flagshm_governor_free_orders(struct flagshm_governor *g)
{
    while (g->orders != NULL) {
        struct flagshm_order *next = g->orders->next;

        if (g->orders->kind == FLAGSHM_ORDER_RISE)
            flagshm_governor_forget_notices(g, g->orders);
        order_free(g->orders);
        g->orders = next;
    }
}

static struct flagshm_order *order_new(struct flagshm_governor *g, enum flagshm_order_kind kind,
                                       uint64_t asker)
{
    struct flagshm_order *order = calloc(1, sizeof *order);

    if (order == NULL)
        return NULL;
    order->ticket = ++g->tickets;
    order->kind = kind;
    order->asker = asker;
    order->next = g->orders;
    g->orders = order;
    return order;
}

static struct flagshm_order *order_take(struct flagshm_governor *g, uint64_t ticket)
{
    struct flagshm_order **at = &g->orders, *order;

    while (*at != NULL && (*at)->ticket != ticket)
        at = &(*at)->next;
    order = *at;
    if (order != NULL)
        *at = order->next;
    return order;
}

/* What the publisher journals itself is not said twice. */
static const char *kind_of(const struct flagshm_transition *t)
{
    return t->cause == FLAGSHM_CAUSE_KILLED || t->cause == FLAGSHM_CAUSE_UNKILLED
               ? NULL
               : flagshm_cause_name(t->cause);
}

/* Who it is about, and whom it is told, are put into the order; then it goes to the journal. False: no memory. */
static bool give(struct flagshm_governor *g, const struct flagshm_ward *ward,
                 const struct flagshm_rollout *state, struct flagshm_order *order)
{
    static char numbers[FLAGSHM_EVENT_TEXT_MAX];
    const struct flagshm_transition *t = &order->transition;
    const char *targets[FLAGSHM_NOTIFY_MAX];
    char *text = flagshm_ward_write(ward, state);
    struct flagshm_journal_commit commit = {
        .realtime_ns = t->wall_ns,
        .flag = ward->flag,
        .state = text,
        .kind = kind_of(t),
        .user = t->user[0] != '\0' ? t->user : NULL,
        .detail = t->sentence,
        .version = order->kind == FLAGSHM_ORDER_MOVE ? g->publisher->version : 0,
        .is_condition = order->kind == FLAGSHM_ORDER_RISE,
        .ticket = order->ticket,
    };
    uint32_t i;

    if (flagshm_transition_write(t, numbers, sizeof numbers) < sizeof numbers)
        commit.numbers = numbers;
    order->flag_hash = ward->flag_hash;
    if (ward->file.is_present)
        order->plan = *ward->file.plan;
    flagshm_governor_name_notice(g, ward, state, order);
    if (t->is_told && order->plan.notify_count > 0)
        order->notice = flagshm_governor_notice_text(g, ward, state, order);
    for (i = 0; i < order->plan.notify_count; i++)
        targets[i] = order->plan.notify[i];
    if (order->notice != NULL) {
        commit.notice_id = order->notice_id;
        commit.notice = order->notice;
        commit.targets = targets;
        commit.target_count = order->plan.notify_count;
    }
    if (text != NULL)
        flagshm_journal_commit(g->publisher->journal, &commit);
    free(text);
    return text != NULL;
}

int flagshm_governor_begin_rise(struct flagshm_governor *g, struct flagshm_ward *ward, uint64_t asker)
{
    struct flagshm_order *order = order_new(g, FLAGSHM_ORDER_RISE, asker);
    struct flagshm_rollout *pending = malloc(sizeof *pending);
    bool is_given;

    if (order == NULL || pending == NULL) {
        free(pending);
        if (order != NULL)
            order_free(order_take(g, order->ticket));
        return -ENOMEM;
    }
    flagshm_fault_point("rise-begun");
    *pending = ward->draft->state;
    order->transition = ward->draft->transition;
    flagshm_ward_drop_draft(ward);
    free(ward->pending);
    ward->pending = NULL;
    ward->rise_version = g->publisher->version;
    is_given = give(g, ward, pending, order);
    ward->rise_version = 0;
    if (!is_given) {
        free(pending);
        order_free(order_take(g, order->ticket));
        return -ENOMEM;
    }
    ward->pending = pending;
    ward->pending_ticket = order->ticket;
    return 0;
}

void flagshm_governor_keep(struct flagshm_governor *g, struct flagshm_ward *ward)
{
    char *text = flagshm_ward_write(ward, &ward->state);
    const struct flagshm_journal_commit commit = {
        .realtime_ns = flagshm_realtime_ns(), .flag = ward->flag, .state = text};

    if (text != NULL && ward->state.is_seen)
        flagshm_journal_commit(g->publisher->journal, &commit);
    free(text);
}

static void log_move(const struct flagshm_ward *ward, const struct flagshm_transition *t)
{
    bool is_bad = t->is_lowering && t->user[0] == '\0';

    flagshm_log(is_bad ? FLAGSHM_LOG_WARNING : FLAGSHM_LOG_NOTICE, "%s %s", ward->flag, t->sentence);
}

/* A flag that only has the default guard, and that nobody has booked an outcome of, leaves no trace. */
static bool is_worth_it(const struct flagshm_ward *ward)
{
    return !ward->is_hidden &&
           (ward->state.is_planned || ward->state.latched_count > 0 || ward->post != NULL);
}

static void give_move(struct flagshm_governor *g, struct flagshm_ward *ward,
                      const struct flagshm_ward_move *move)
{
    struct flagshm_order *order;

    if (!is_worth_it(ward) && move->asker == 0)
        return;
    log_move(ward, &move->transition);
    if (move->transition.is_lowering)
        flagshm_fault_point("fall-published");
    order = order_new(g, FLAGSHM_ORDER_MOVE, move->asker);
    if (order != NULL)
        order->transition = move->transition;
    if (order != NULL && give(g, ward, &ward->state, order))
        return;
    answer(g, move->asker, ward, 0, false, move->transition.sentence,
           "no memory to write it down: a restart may forget it");
    if (order != NULL)
        order_free(order_take(g, order->ticket));
}

void flagshm_governor_work(struct flagshm_governor *g)
{
    struct flagshm_wards *wards = &g->publisher->wards;
    struct flagshm_ward_move move;
    size_t i;

    for (i = 0; i < wards->count && wards->moved > 0; i++)
        while (flagshm_ward_take_move(wards, wards->list[i], &move))
            give_move(g, wards->list[i], &move);
}

/* ---- reports ---- */

/* What is in force is written down: this rise may be in the journal, or one that it took the place of. */
static void fail_rise(struct flagshm_governor *g, struct flagshm_ward *ward,
                      const struct flagshm_order *order, const struct flagshm_error *error)
{
    char sentence[600];

    (void)snprintf(sentence, sizeof sentence, "it cannot be written down, so nothing has changed: %.500s",
                   error->text);
    if (strcmp(ward->trouble.text, error->text) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s stays at its share: %s", ward->flag, error->text);
    ward->trouble = *error;
    ward->retry_wait_ns = ward->retry_wait_ns == 0                 ? RETRY_MIN_NS
                          : ward->retry_wait_ns < RETRY_MAX_NS / 2 ? ward->retry_wait_ns * 2
                                                                   : RETRY_MAX_NS;
    ward->retry_mono_ns = flagshm_mono_ns() + ward->retry_wait_ns;
    flagshm_governor_keep(g, ward);
    answer(g, order->asker, ward, -EIO, false, sentence, "");
}

/* It stands in the history, and did not happen: its notices are not told, and the history says so. */
static void undo_rise(struct flagshm_governor *g, const struct flagshm_ward *ward,
                      const struct flagshm_order *order, const char *why)
{
    char detail[900];

    flagshm_governor_forget_notices(g, order);
    (void)snprintf(detail, sizeof detail, "nothing came of \"%.400s\": %.400s", order->transition.sentence,
                   why);
    flagshm_journal_event(g->publisher->journal, flagshm_realtime_ns(), "undone", ward->flag, NULL, detail);
}

/* Written down, and published now. */
static void finish_rise(struct flagshm_governor *g, struct flagshm_ward *ward,
                        const struct flagshm_order *order, struct flagshm_rollout *pending)
{
    struct flagshm_ward_draft *draft = flagshm_ward_draft(ward);

    flagshm_fault_point("rise-committed");
    if (draft != NULL)
        draft->state = *pending;
    if (draft == NULL || !flagshm_governor_publish(g)) {
        ward->state.transitions = pending->transitions;
        undo_rise(g, ward, order, g->publisher->refusal.text);
        fail_rise(g, ward, order, &g->publisher->refusal);
        return;
    }
    ward->trouble.text[0] = '\0';
    ward->retry_wait_ns = ward->retry_mono_ns = 0;
    flagshm_fault_point("rise-published");
    if (!ward->is_hidden)
        log_move(ward, &order->transition);
    flagshm_governor_tell(g, order);
    flagshm_fault_point("rise-notified");
    answer(g, order->asker, ward, 0, true, order->transition.sentence, "");
}

/* Another change has ended it. The journal may have it: what is in force is written down after it, unless another rise is on its way
 * there already, which does the same where it fails. */
static void drop_rise(struct flagshm_governor *g, struct flagshm_ward *ward,
                      const struct flagshm_order *order, bool is_written, const char *why)
{
    if (ward == NULL)
        flagshm_governor_forget_notices(g, order);
    else if (is_written)
        undo_rise(g, ward, order, why);
    if (ward != NULL && ward->pending == NULL)
        flagshm_governor_keep(g, ward);
    answer(g, order->asker, ward, -EAGAIN, false,
           "something else happened to it meanwhile: look, and ask again", "");
}

/* A person may go on by hand, and what a drill or a probe has taken away for a moment comes back. */
static bool is_held_by_freeze(const struct flagshm_transition *t)
{
    return t->user[0] == '\0' && t->cause != FLAGSHM_CAUSE_DRILL_ENDED &&
           t->cause != FLAGSHM_CAUSE_PROBE_ENDED;
}

static void on_rise(struct flagshm_governor *g, const struct flagshm_order *order,
                    const struct flagshm_journal_report *report)
{
    struct flagshm_ward *ward = flagshm_wards_find(&g->publisher->wards, order->flag_hash);
    struct flagshm_rollout *pending;

    if (ward == NULL || ward->pending_ticket != order->ticket || ward->pending == NULL) {
        drop_rise(g, ward, order, report->result == 0, "something else happened to it meanwhile");
        return;
    }
    if ((g->is_frozen || g->publisher->kills.all) && is_held_by_freeze(&order->transition)) {
        ward->state.transitions = ward->pending->transitions;
        flagshm_ward_forget_pending(ward);
        drop_rise(g, ward, order, report->result == 0, "all was frozen meanwhile");
        return;
    }
    pending = ward->pending;
    ward->pending = NULL;
    ward->pending_ticket = 0;
    if (report->result == 0)
        finish_rise(g, ward, order, pending);
    else
        fail_rise(g, ward, order, &report->error);
    free(pending);
}

static void on_move(struct flagshm_governor *g, const struct flagshm_order *order,
                    const struct flagshm_journal_report *report)
{
    const struct flagshm_ward *ward = flagshm_wards_find(&g->publisher->wards, order->flag_hash);
    bool is_durable = report->result == 0;

    if (order->transition.is_lowering)
        flagshm_fault_point("fall-committed");
    flagshm_governor_tell(g, order);
    if (order->transition.is_lowering)
        flagshm_fault_point("fall-notified");
    answer(g, order->asker, ward, 0, is_durable, order->transition.sentence,
           is_durable ? "" : report->error.text);
}

static void on_setting(struct flagshm_governor *g, const struct flagshm_order *order,
                       const struct flagshm_journal_report *report)
{
    bool is_durable = report->result == 0;
    char sentence[600];

    if (order->kind == FLAGSHM_ORDER_THAW && !is_durable) {
        (void)snprintf(sentence, sizeof sentence, "it cannot be written down, so all stays frozen: %.500s",
                       report->error.text);
        answer(g, order->asker, NULL, report->result, false, sentence, "");
        return;
    }
    if (order->kind == FLAGSHM_ORDER_THAW)
        g->is_frozen = false;
    flagshm_log(FLAGSHM_LOG_NOTICE, "%s", order->transition.sentence);
    answer(g, order->asker, NULL, 0, is_durable, order->transition.sentence,
           is_durable ? "" : report->error.text);
}

void flagshm_governor_journal_done(struct flagshm_governor *g)
{
    struct flagshm_journal_report report;
    struct flagshm_order *order;

    while (flagshm_journal_take(g->publisher->journal, &report)) {
        order = order_take(g, report.ticket);
        if (order == NULL)
            continue;
        switch (order->kind) {
        case FLAGSHM_ORDER_RISE:
            on_rise(g, order, &report);
            break;
        case FLAGSHM_ORDER_MOVE:
            on_move(g, order, &report);
            break;
        case FLAGSHM_ORDER_FREEZE:
        case FLAGSHM_ORDER_THAW:
            on_setting(g, order, &report);
            break;
        }
        order_free(order);
    }
}

int flagshm_governor_give_setting(struct flagshm_governor *g, enum flagshm_order_kind kind, const char *user,
                                  const char *reason, uint64_t asker)
{
    struct flagshm_order *order = order_new(g, kind, asker);
    bool is_freeze = kind == FLAGSHM_ORDER_FREEZE;
    uint64_t since_s = flagshm_realtime_ns() / 1000000000u;
    cJSON *json = cJSON_CreateObject();
    char *value;

    if (order != NULL) {
        cJSON_AddStringToObject(json, "by", user);
        cJSON_AddStringToObject(json, "reason", reason);
        cJSON_AddNumberToObject(json, "since_s", (double)since_s);
    }
    value = order != NULL ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    if (value == NULL) {
        if (order != NULL)
            order_free(order_take(g, order->ticket));
        return -ENOMEM;
    }
    (void)snprintf(order->transition.sentence, sizeof order->transition.sentence, "%s by %s%s%s",
                   is_freeze ? "all rollouts are frozen" : "rollouts go on", user,
                   reason[0] != '\0' ? ": " : "", reason);
    {
        const struct flagshm_journal_commit commit = {
            .realtime_ns = flagshm_realtime_ns(),
            .kind = is_freeze ? "freeze" : "thaw",
            .user = user,
            .detail = reason[0] != '\0' ? reason : NULL,
            .setting = "frozen",
            .value = is_freeze ? value : NULL,
            .is_condition = !is_freeze,
            .ticket = order->ticket,
        };

        flagshm_journal_commit(g->publisher->journal, &commit);
    }
    free(value);
    return 0;
}
