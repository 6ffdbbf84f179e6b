/* governor_ask: a person's word, through the same orders as all else. */
#include "server/clock.h"
#include "server/governor_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void flagshm_governor_answer_set(struct flagshm_governor_answer *answer, int result, const char *format, ...)
{
    va_list arguments;

    answer->result = result;
    va_start(arguments, format);
    (void)vsnprintf(answer->sentence, sizeof answer->sentence, format, arguments);
    va_end(arguments);
}

/* A flag that nobody watched so far can be rolled back too. */
static struct flagshm_ward *make_ward(struct flagshm_governor *g, const struct flagshm_flag *flag,
                                      struct flagshm_governor_answer *answer)
{
    struct flagshm_rollout_file file;
    struct flagshm_transition ignored;
    struct flagshm_ward *ward;

    if (!flagshm_rollout_file_of(flag, &file)) {
        flagshm_governor_answer_set(
            answer, -EPERM,
            "%s has several variants, and only a flag with one is rolled out: `flagctl kill "
            "%s` stops it, \"rollout_pct\" in the file lowers it",
            flag->name, flag->name);
        return NULL;
    }
    ward = flagshm_wards_add(&g->publisher->wards, flag->name);
    if (ward == NULL) {
        flagshm_governor_answer_set(answer, -ENOMEM, "no memory: nothing has changed");
        return NULL;
    }
    if (!ward->state.is_seen) {
        ward->file = ward->next_file = file;
        ward->source = ward->next_source = flag;
        ward->is_recovered = true;
        (void)flagshm_rollout_edit(&ward->state, &file, flagshm_governor_now(g), &ignored);
    }
    return ward;
}

struct flagshm_ward *flagshm_governor_ward(struct flagshm_governor *g, const char *flag,
                                           struct flagshm_governor_answer *answer)
{
    struct flagshm_publisher *p = g->publisher;
    struct flagshm_ward *ward = flagshm_wards_find_name(&p->wards, flag);
    const struct flagshm_flagfile_entry *entry = p->has_good ? flagshm_flagfile_find(&p->good, flag) : NULL;

    answer->ward = NULL;
    if (entry == NULL || entry->broken) {
        flagshm_governor_answer_set(answer, -ENOENT, "there is no flag \"%.64s\"", flag);
        return NULL;
    }
    if (ward == NULL || ward->source == NULL)
        ward = make_ward(g, &entry->flag, answer);
    answer->ward = ward;
    return ward;
}

/* In force at once, with the next table where that must change. False: it could not be published. */
static bool put_in_force(struct flagshm_governor *g, struct flagshm_ward *ward)
{
    struct flagshm_ward_draft copy = *ward->draft;
    struct flagshm_ward_draft *again;

    if (!flagshm_ward_is_visible(ward)) {
        flagshm_ward_apply(&g->publisher->wards, ward);
        return true;
    }
    if (flagshm_governor_publish(g))
        return true;
    if (!copy.transition.is_lowering)
        return false;
    again = flagshm_ward_draft(ward);
    if (again == NULL)
        return false;
    *again = copy;
    flagshm_governor_take_away(g, ward);
    return true;
}

bool flagshm_governor_ask(struct flagshm_governor *g, const char *flag, const struct flagshm_ask *ask,
                          uint64_t asker, struct flagshm_governor_answer *answer)
{
    struct flagshm_ward *ward;
    struct flagshm_ward_draft *draft;

    memset(answer, 0, sizeof *answer);
    answer->asker = asker;
    ward = flagshm_governor_ward(g, flag, answer);
    if (ward == NULL)
        return true;
    draft = flagshm_ward_draft(ward);
    if (draft == NULL) {
        flagshm_governor_answer_set(answer, -ENOMEM, "no memory: nothing has changed");
        return true;
    }
    answer->result =
        flagshm_rollout_ask(&draft->state, &ward->file, ask, flagshm_governor_now(g), &draft->transition);
    (void)snprintf(answer->sentence, sizeof answer->sentence, "%s", draft->transition.sentence);
    if (answer->result != 0) {
        flagshm_ward_drop_draft(ward);
        return true;
    }
    draft->has_transition = true;
    draft->asker = asker;
    if (flagshm_transition_is_rise(&draft->transition)) {
        ward->retry_mono_ns = 0;
        answer->result = flagshm_governor_begin_rise(g, ward, asker);
        if (answer->result == 0)
            return false;
        flagshm_ward_drop_draft(ward);
        flagshm_governor_answer_set(answer, -ENOMEM, "no memory: nothing has changed");
        return true;
    }
    if (!put_in_force(g, ward)) {
        flagshm_governor_answer_set(answer, -EIO, "nothing has changed: %.500s", g->publisher->refusal.text);
        return true;
    }
    flagshm_governor_work(g);
    return false;
}

bool flagshm_governor_resume_at(struct flagshm_governor *g, const char *flag, uint32_t before_mpct,
                                const char *user, uint64_t asker, struct flagshm_governor_answer *answer)
{
    struct flagshm_ask ask = {
        .verb = FLAGSHM_VERB_ADVANCE, .user = user, .reason = "resumed after a kill was lifted"};
    struct flagshm_ward *ward = flagshm_wards_find_name(&g->publisher->wards, flag);

    memset(answer, 0, sizeof *answer);
    answer->ward = ward;
    if (ward == NULL || ward->source == NULL || !ward->state.is_planned)
        return true;
    ask.to_mpct = flagshm_rollout_resume_mpct(ward->file.plan, before_mpct);
    if (ask.to_mpct == 0)
        return true; /* by the plan's own pace, from the first step */
    return flagshm_governor_ask(g, flag, &ask, asker, answer);
}

bool flagshm_governor_freeze(struct flagshm_governor *g, bool is_freeze, const char *user, const char *reason,
                             uint64_t asker, struct flagshm_governor_answer *answer)
{
    int result;

    memset(answer, 0, sizeof *answer);
    answer->asker = asker;
    if (g->is_frozen == is_freeze) {
        flagshm_governor_answer_set(answer, -EALREADY,
                                    is_freeze ? "all rollouts are frozen already" : "nothing is frozen");
        return true;
    }
    result = flagshm_governor_give_setting(g, is_freeze ? FLAGSHM_ORDER_FREEZE : FLAGSHM_ORDER_THAW, user,
                                           reason, asker);
    if (is_freeze) { /* in force whatever becomes of its record */
        g->is_frozen = true;
        (void)snprintf(g->frozen_by, sizeof g->frozen_by, "%s", user);
        (void)snprintf(g->frozen_reason, sizeof g->frozen_reason, "%s", reason);
        g->frozen_wall_ns = flagshm_realtime_ns();
    }
    if (result == 0)
        return false;
    if (is_freeze)
        (void)snprintf(answer->warning, sizeof answer->warning,
                       "no memory to write it down: a restart would forget it");
    else
        flagshm_governor_answer_set(answer, result, "no memory: all stays frozen");
    return true;
}
