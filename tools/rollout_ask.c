/* rollout_ask: see the header. */
#include "tools/rollout_ask.h"
#include "server/flagfile.h"
#include "tools/change.h"

#include <string.h>

#define PEEK_MS     2000 /* of a caller that goes on without an answer */
#define REASON_ROOM 300  /* the bytes of a reason that are kept, with NUL */

/* ---- looking ---- */

uint32_t flagctl_rollout_mpct(const cJSON *object, const char *key)
{
    double percent = flagctl_number_at(object, key);

    return percent > 0 && percent <= 100 ? (uint32_t)(percent * 1000 + 0.5) : 0;
}

const cJSON *flagctl_rollout_peek(struct flagctl *ctl, const char *flag, cJSON **answer)
{
    const cJSON *rollout;

    *answer = flagctl_rollouts_peek(ctl, flag, PEEK_MS);
    rollout = flagctl_rollout_find(*answer, flag);
    if (rollout == NULL) {
        cJSON_Delete(*answer);
        *answer = NULL;
    }
    return rollout;
}

char *flagctl_rollout_place(const cJSON *rollout, char out[80])
{
    const char *state = flagctl_text_at(rollout, "state");
    double step = flagctl_number_at(rollout, "step"), steps = flagctl_number_at(rollout, "steps");

    if (strcmp(state, "off") == 0)
        (void)snprintf(out, 80, "not begun");
    else if (strcmp(state, "rolled_back") == 0)
        (void)snprintf(out, 80, "rolled back");
    else if (strcmp(state, "killed") == 0 || strcmp(state, "complete") == 0 || step < 1 || steps < 1)
        (void)snprintf(out, 80, "%.60s", state);
    else
        (void)snprintf(out, 80, "%sstep %.0f of %.0f", strcmp(state, "shadow") == 0 ? "shadow, " : "", step,
                       steps);
    return out;
}

/* ---- words of the command line ---- */

int flagctl_flag_name(const struct flagctl *ctl, const char *flag)
{
    if (flagshm_is_flag_name(flag, strlen(flag)))
        return FLAGCTL_OK;
    return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\": that can be no flag's name",
                        flag);
}

/* ---- steering ---- */

/* Adds flag and reason to the request. */
static int prepare(struct flagctl *ctl, struct flagctl_steer *steer)
{
    const char *reason = flagctl_option(ctl, "reason");
    char clean[REASON_ROOM];

    if (steer->needs_reason && (reason == NULL || reason[strspn(reason, " \t\n")] == '\0'))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "%s needs a reason, for the history: --reason TEXT",
                            ctl->command->name);
    if (steer->request == NULL)
        steer->request = cJSON_CreateObject();
    if (steer->flag != NULL)
        (void)cJSON_AddStringToObject(steer->request, "flag", steer->flag);
    if (reason != NULL)
        (void)cJSON_AddStringToObject(steer->request, "reason", flagctl_clean(reason, clean, sizeof clean));
    return FLAGCTL_OK;
}

static void copy_member(cJSON *result, const cJSON *answer, const char *key)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(answer, key);

    if (member != NULL && !cJSON_IsNull(member))
        (void)cJSON_AddItemToObject(result, key, cJSON_Duplicate(member, true));
}

static void tell_json(const struct flagctl_steer *steer, const cJSON *answer, bool already,
                      const char *sentence, const char *undo, cJSON *result)
{
    if (steer->flag != NULL)
        (void)cJSON_AddStringToObject(result, "flag", steer->flag);
    else
        (void)cJSON_AddNullToObject(result, "flag");
    (void)cJSON_AddBoolToObject(result, "already", already);
    (void)cJSON_AddStringToObject(result, "sentence", sentence);
    copy_member(result, answer, "stage");
    copy_member(result, answer, "rollout_pct");
    copy_member(result, answer, "durable");
    if (flagctl_number_at(answer, "version") > 0)
        flagctl_json_u64(result, "version", (uint64_t)flagctl_number_at(answer, "version"));
    if (undo[0] != '\0')
        (void)cJSON_AddStringToObject(result, "undo", undo);
}

static void tell_text(const struct flagctl *ctl, const struct flagctl_steer *steer, const cJSON *answer,
                      const char *sentence, const char *undo)
{
    const char *stage = flagctl_text_at(answer, "stage");
    double version = flagctl_number_at(answer, "version");
    char clean[1024], share[24];

    if (steer->flag != NULL)
        (void)fprintf(ctl->out, "%s: ", steer->flag);
    (void)fprintf(ctl->out, "%s\n", flagctl_clean(sentence, clean, sizeof clean));
    if (steer->flag != NULL && stage[0] != '\0' && flagctl_has_number(answer, "rollout_pct")) {
        (void)fprintf(ctl->out, "now: %s, %s",
                      flagctl_share(flagctl_rollout_mpct(answer, "rollout_pct"), share),
                      flagctl_clean(stage, clean, sizeof clean));
        if (version > 0)
            (void)fprintf(ctl->out, ", version %.0f", version);
        (void)fputc('\n', ctl->out);
    }
    if (undo[0] != '\0')
        (void)fprintf(ctl->out, "undo: %s\n", undo);
    (void)fflush(ctl->out);
}

static int tell(struct flagctl *ctl, const struct flagctl_steer *steer, const cJSON *answer)
{
    const char *sentence = flagctl_text_at(answer, "sentence"), *warning = flagctl_text_at(answer, "warning");
    bool already =
        flagctl_is_at(answer, "already") || strcmp(flagctl_text_at(answer, "code"), "already") == 0;
    cJSON *result = cJSON_CreateObject();
    char again[2048] = "", own[160];

    if (sentence[0] == '\0')
        sentence = flagctl_text_at(answer, "message");
    if (sentence[0] == '\0') {
        (void)snprintf(own, sizeof own, "%s%s", steer->done, already ? " already" : "");
        sentence = own;
    }
    if (steer->undo[0] != '\0' && (!already || steer->is_stop))
        (void)flagctl_again(ctl, again, "%s", steer->undo);
    if (ctl->is_json)
        tell_json(steer, answer, already, sentence, again, result);
    else
        tell_text(ctl, steer, answer, sentence, again);
    if (cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(answer, "durable")))
        flagctl_note(ctl, result, "it is done, but not written down yet, and may be lost by a restart%s%s",
                     warning[0] != '\0' ? ": " : "", warning);
    else if (warning[0] != '\0')
        flagctl_note(ctl, result, "%s", warning);
    if (ctl->is_json)
        return flagctl_result(ctl, result);
    cJSON_Delete(result);
    return FLAGCTL_OK;
}

int flagctl_steer(struct flagctl *ctl, struct flagctl_steer *steer)
{
    cJSON *answer = NULL;
    int code = steer->flag != NULL ? flagctl_flag_name(ctl, steer->flag) : FLAGCTL_OK;

    if (code == FLAGCTL_OK)
        code = prepare(ctl, steer);
    if (code == FLAGCTL_OK) {
        code = flagctl_ask(ctl, steer->verb, steer->request, false, &answer);
        steer->request = NULL;
    }
    if (code == FLAGCTL_OK)
        code = tell(ctl, steer, answer);
    cJSON_Delete(steer->request);
    cJSON_Delete(answer);
    steer->request = NULL;
    return code;
}
