/* verbs_rollout: how rollouts are looked at and steered through the control socket. */
#include "server/verbs_internal.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define WAIVE_MAX_S (366.0 * 86400)

/* ---- answers ---- */

static const char *code_of(int result)
{
    switch (result) {
    case -ENOENT:
        return "no_such_flag";
    case -EPERM:
    case -EINVAL:
        return "refused";
    default:
        return "failed";
    }
}

cJSON *flagshm_verbs_of_answer(const struct flagshm_verbs *verbs,
                               const struct flagshm_governor_answer *answer)
{
    cJSON *json;
    char word[25] = "", share[16];

    if (answer->result != 0 && answer->result != -EALREADY)
        return flagshm_verbs_refuse(code_of(answer->result), "%s", answer->sentence);
    json = flagshm_verbs_agree(verbs);
    if (answer->result == -EALREADY)
        cJSON_AddBoolToObject(json, "already", true);
    else
        cJSON_AddBoolToObject(json, "durable", answer->is_durable);
    if (answer->warning[0] != '\0')
        cJSON_AddStringToObject(json, "warning", answer->warning);
    cJSON_AddStringToObject(json, "sentence", answer->sentence);
    if (answer->ward != NULL) {
        flagshm_rollout_stage_word(&answer->ward->state, word);
        cJSON_AddStringToObject(json, "stage", word);
        cJSON_AddRawToObject(json, "rollout_pct",
                             flagshm_mpct_to_text(flagshm_rollout_share(&answer->ward->state), share));
    }
    if (answer->hidden[0] != '\0') {
        cJSON_AddStringToObject(json, "hidden", answer->hidden);
        cJSON_AddNumberToObject(json, "for_s", 10);
    }
    return json;
}

void flagshm_verbs_answer_late(void *context, const struct flagshm_governor_answer *answer)
{
    struct flagshm_verbs *verbs = context;

    if (verbs->control != NULL)
        flagshm_control_reply(verbs->control, answer->asker, flagshm_verbs_of_answer(verbs, answer));
}

/* ---- what is asked ---- */

static cJSON *ask(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request,
                  struct flagshm_ask *word)
{
    const char *flag = flagshm_verbs_text(request, "flag"), *reason = flagshm_verbs_text(request, "reason");
    struct flagshm_governor_answer answer;

    if (flag == NULL)
        return flagshm_verbs_refuse("usage", "name a flag");
    word->user = peer->user;
    word->reason = reason != NULL ? reason : "";
    if (!flagshm_governor_ask(verbs->governor, flag, word, peer->ticket, &answer))
        return NULL;
    return flagshm_verbs_of_answer(verbs, &answer);
}

static cJSON *ask_plain(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request,
                        enum flagshm_verb verb)
{
    struct flagshm_ask word = {.verb = verb};

    return ask(verbs, peer, request, &word);
}

static bool is_true(const cJSON *request, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, key));
}

cJSON *flagshm_verb_rollback(struct flagshm_verbs *verbs, const struct flagshm_peer *peer,
                             const cJSON *request)
{
    return ask_plain(verbs, peer, request, FLAGSHM_VERB_ROLLBACK);
}

cJSON *flagshm_verb_approve(struct flagshm_verbs *verbs, const struct flagshm_peer *peer,
                            const cJSON *request)
{
    return ask_plain(verbs, peer, request, FLAGSHM_VERB_APPROVE);
}

cJSON *flagshm_verb_pause(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    return ask_plain(verbs, peer, request, FLAGSHM_VERB_PAUSE);
}

cJSON *flagshm_verb_resume(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    return ask_plain(verbs, peer, request, FLAGSHM_VERB_RESUME);
}

cJSON *flagshm_verb_clear(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    struct flagshm_ask word = {.verb = FLAGSHM_VERB_CLEAR, .is_resume = is_true(request, "resume")};

    return ask(verbs, peer, request, &word);
}

cJSON *flagshm_verb_advance(struct flagshm_verbs *verbs, const struct flagshm_peer *peer,
                            const cJSON *request)
{
    const cJSON *to = cJSON_GetObjectItemCaseSensitive(request, "to_pct");
    struct flagshm_ask word = {.verb = FLAGSHM_VERB_ADVANCE};
    const char *reason = flagshm_verbs_text(request, "reason");

    if (reason == NULL || reason[0] == '\0')
        return flagshm_verbs_refuse("usage", "a share is raised by hand only with a reason: --reason TEXT");
    if (to != NULL) {
        double mpct = cJSON_IsNumber(to) ? to->valuedouble * 1000 : -1;

        if (!(mpct > 0 && mpct <= FLAGSHM_MPCT_FULL))
            return flagshm_verbs_refuse("usage", "to_pct must be above 0, and at most 100");
        word.to_mpct = (uint32_t)lround(mpct);
    }
    return ask(verbs, peer, request, &word);
}

cJSON *flagshm_verb_waive(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const char *name = flagshm_verbs_text(request, "wait");
    const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(request, "for_s");
    struct flagshm_ask word = {.verb = FLAGSHM_VERB_WAIVE};

    if (name == NULL || !flagshm_wait_from_name(name, &word.wait))
        return flagshm_verbs_refuse("usage", "\"%.40s\" is no reason to wait: see `flagctl status FLAG`",
                                    name != NULL ? name : "");
    if (!cJSON_IsNumber(seconds) || !(seconds->valuedouble > 0) || seconds->valuedouble > WAIVE_MAX_S)
        return flagshm_verbs_refuse("usage", "for_s must be seconds, above 0 and at most a year");
    word.for_ns = (uint64_t)(seconds->valuedouble * 1e9);
    return ask(verbs, peer, request, &word);
}

static cJSON *freeze(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request,
                     bool is_freeze)
{
    const char *reason = flagshm_verbs_text(request, "reason");
    struct flagshm_governor_answer answer;

    if (is_freeze && (reason == NULL || reason[0] == '\0'))
        return flagshm_verbs_refuse("usage", "all rollouts are frozen only with a reason: --reason TEXT");
    if (!flagshm_governor_freeze(verbs->governor, is_freeze, peer->user, reason != NULL ? reason : "",
                                 peer->ticket, &answer))
        return NULL;
    return flagshm_verbs_of_answer(verbs, &answer);
}

cJSON *flagshm_verb_freeze(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    return freeze(verbs, peer, request, true);
}

cJSON *flagshm_verb_thaw(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    return freeze(verbs, peer, request, false);
}

cJSON *flagshm_verb_drill(struct flagshm_verbs *verbs, const struct flagshm_peer *peer, const cJSON *request)
{
    const char *flag = flagshm_verbs_text(request, "flag");
    struct flagshm_governor_answer answer;

    if (is_true(request, "live"))
        return ask_plain(verbs, peer, request, FLAGSHM_VERB_DRILL);
    if (flag == NULL)
        return flagshm_verbs_refuse("usage", "name a flag");
    if (!flagshm_governor_drill(verbs->governor, flag, peer->user, &answer))
        return NULL;
    return flagshm_verbs_of_answer(verbs, &answer);
}

cJSON *flagshm_verb_drill_end(struct flagshm_verbs *verbs, const struct flagshm_peer *peer,
                              const cJSON *request)
{
    const char *flag = flagshm_verbs_text(request, "flag");
    const cJSON *took = cJSON_GetObjectItemCaseSensitive(request, "ns");
    double ns = cJSON_IsNumber(took) ? took->valuedouble : 0;
    struct flagshm_governor_answer answer;

    if (flag == NULL || !(ns >= 0 && ns < 1e15))
        return flagshm_verbs_refuse("usage", "name a flag, and the time that it took in nanoseconds");
    if (!flagshm_governor_drill_end(verbs->governor, flag, (uint64_t)ns, is_true(request, "failed"),
                                    peer->user, peer->ticket, &answer))
        return NULL;
    return flagshm_verbs_of_answer(verbs, &answer);
}

cJSON *flagshm_verb_rollouts(struct flagshm_verbs *verbs, const struct flagshm_peer *peer,
                             const cJSON *request)
{
    const char *flag = flagshm_verbs_text(request, "flag");
    cJSON *answer;

    (void)peer;
    if (flag != NULL &&
        (!verbs->publisher->has_good || flagshm_flagfile_find(&verbs->publisher->good, flag) == NULL))
        return flagshm_verbs_refuse("no_such_flag", "there is no flag \"%.64s\"", flag);
    answer = flagshm_verbs_agree(verbs);
    flagshm_governor_view(verbs->governor, flag, answer);
    return answer;
}
