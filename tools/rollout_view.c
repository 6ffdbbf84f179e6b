/* rollout_view: see the header. What there is to say of guardrails is in guard_view.c. */
#include "tools/rollout_view.h"

#include "server/control.h"
#include "server/rollout.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define PATIENCE_MS 10000
#define NS          1e9

/* ---- asking ---- */

static cJSON *request_for(const char *flag)
{
    cJSON *request = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(request, "verb", "rollouts");
    if (flag != NULL)
        (void)cJSON_AddStringToObject(request, "flag", flag);
    return request;
}

cJSON *flagctl_rollouts_peek(struct flagctl *ctl, const char *flag, int patience_ms)
{
    cJSON *request = request_for(flag), *answer = NULL;
    struct flagshm_error error = {""};
    struct flagshm *client;

    (void)flagctl_client(ctl, &client); /* the segment knows the socket */
    if (flagshm_control_ask(ctl->instance.socket_path, request, patience_ms, &answer, &error) != 0 ||
        !flagctl_is_at(answer, "ok")) {
        cJSON_Delete(answer);
        answer = NULL;
    }
    cJSON_Delete(request);
    return answer;
}

/* Says why the server gives no rollouts. */
static int refusal_say(struct flagctl *ctl, const char *flag, const cJSON *answer)
{
    const char *code = flagctl_text_at(answer, "code"), *message = flagctl_text_at(answer, "message");
    struct flagshm_snapshot snapshot;
    struct flagshm_error error;
    struct flagshm *client;

    if (strcmp(code, "no_such_flag") == 0 && flag != NULL && flagctl_client(ctl, &client) == 0 &&
        flagshm_snapshot_take(&snapshot, client, &error) == 0) {
        int result = flagctl_no_flag(ctl, &snapshot, flag);

        flagshm_snapshot_free(&snapshot);
        return result;
    }
    if (strcmp(code, "no_such_flag") == 0)
        return flagctl_fail(ctl, FLAGCTL_NO_FLAG, "there is no flag \"%.100s\"", flag != NULL ? flag : "");
    if (strcmp(code, "usage") == 0)
        return flagctl_fail(
            ctl, FLAGCTL_FAILED,
            "the server knows no rollouts (%.300s)\nrestart it with the release of this flagctl", message);
    return flagctl_fail(ctl, FLAGCTL_FAILED, "%s",
                        message[0] != '\0' ? message : "the server refuses, and does not say why");
}

int flagctl_rollouts_ask(struct flagctl *ctl, const char *flag, bool is_quiet_unreachable, cJSON **answer)
{
    struct flagshm_error error = {""};
    cJSON *request = request_for(flag);
    struct flagshm *client;
    int code;

    *answer = NULL;
    (void)flagctl_client(ctl, &client);
    code = flagshm_control_ask(ctl->instance.socket_path, request, PATIENCE_MS, answer, &error);
    cJSON_Delete(request);
    if (code == -ENOENT || code == -ECONNREFUSED || code == -ETIMEDOUT || code == -ECONNRESET ||
        code == -EPIPE)
        return is_quiet_unreachable
                   ? FLAGCTL_UNREACHABLE
                   : flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                                  "%s\nwhat is wrong and how to mend it: flagctl doctor", error.text);
    if (code != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text[0] != '\0' ? error.text : strerror(-code));
    if (flagctl_is_at(*answer, "ok"))
        return FLAGCTL_OK;
    code = refusal_say(ctl, flag, *answer);
    cJSON_Delete(*answer);
    *answer = NULL;
    return code;
}

const cJSON *flagctl_rollout_find(const cJSON *answer, const char *flag)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "rollouts"), *rollout;

    for (rollout = list != NULL ? list->child : NULL; rollout != NULL; rollout = rollout->next)
        if (strcmp(flagctl_text_at(rollout, "flag"), flag) == 0)
            return rollout;
    return NULL;
}

/* ---- members ---- */

const char *flagctl_text_at(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

    return text != NULL ? text : "";
}

bool flagctl_has_number(const cJSON *object, const char *key)
{
    return cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(object, key));
}

double flagctl_number_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

bool flagctl_is_at(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

/* ---- words ---- */

static bool is_state(const cJSON *rollout, const char *state)
{
    return strcmp(flagctl_text_at(rollout, "state"), state) == 0;
}

bool flagctl_rollout_is_one(const cJSON *rollout)
{
    return flagctl_is_at(rollout, "planned") || flagctl_is_at(rollout, "guarded") ||
           flagctl_is_at(rollout, "latched") || flagctl_is_at(rollout, "killed") ||
           flagctl_is_at(rollout, "paused") || flagctl_text_at(rollout, "trouble")[0] != '\0';
}

bool flagctl_rollout_waits_for(const cJSON *rollout, const char *reason)
{
    const cJSON *waits = cJSON_GetObjectItemCaseSensitive(rollout, "waits"), *wait;

    for (wait = waits != NULL ? waits->child : NULL; wait != NULL; wait = wait->next)
        if (strcmp(flagctl_text_at(wait, "reason"), reason) == 0)
            return true;
    return false;
}

enum flagctl_hue flagctl_rollout_hue(const cJSON *rollout)
{
    if (is_state(rollout, "rolled_back") || is_state(rollout, "killed") ||
        flagctl_is_at(rollout, "latched") || flagctl_text_at(rollout, "trouble")[0] != '\0')
        return FLAGCTL_RED;
    if (flagctl_is_at(rollout, "paused") || flagctl_is_at(rollout, "probing") ||
        flagctl_is_at(rollout, "drilling") || flagctl_rollout_waits_for(rollout, "signal") ||
        flagctl_rollout_waits_for(rollout, "breaker") || flagctl_rollout_waits_for(rollout, "unwatched"))
        return FLAGCTL_YELLOW;
    if (is_state(rollout, "full") || is_state(rollout, "complete"))
        return FLAGCTL_GREEN;
    return is_state(rollout, "off") ? FLAGCTL_DIM : FLAGCTL_PLAIN;
}

const char *flagctl_guard_word(const cJSON *rollout, bool is_guarded_in_table)
{
    double share = flagctl_number_at(rollout, "rollout_pct");
    bool is_compared = (share > 0 && share < 100) || flagctl_number_at(rollout, "shadow_pct") > 0 ||
                       (is_state(rollout, "full") && flagctl_is_at(rollout, "planned")),
         has_slot = flagctl_has_number(rollout, "slot");

    if (rollout == NULL)
        return is_guarded_in_table ? "on" : "-";
    if (flagctl_is_at(rollout, "guarded"))
        return has_slot && flagctl_is_at(rollout, "open") ? "on" : "wait";
    if (!is_compared)
        return "-";
    return has_slot ? "off" : "wait"; /* it books, and nobody judges; it does not even book */
}

char *flagctl_rollout_share(const cJSON *rollout, char out[32])
{
    double shadow = flagctl_number_at(rollout, "shadow_pct");

    if (shadow > 0)
        (void)snprintf(out, 32, "shadow %.6g %%", shadow);
    else
        (void)snprintf(out, 32, "%.6g %%", flagctl_number_at(rollout, "rollout_pct"));
    return out;
}

char *flagctl_step_text(const cJSON *rollout, char out[24])
{
    if (flagctl_number_at(rollout, "step") > 0)
        (void)snprintf(out, 24, "%.0f/%.0f", fmin(flagctl_number_at(rollout, "step"), 999),
                       fmin(flagctl_number_at(rollout, "steps"), 999));
    else if (flagctl_is_at(rollout, "planned"))
        (void)snprintf(out, 24, "0/%.0f", fmin(flagctl_number_at(rollout, "steps"), 999));
    else
        (void)snprintf(out, 24, "-");
    return out;
}

/* Adds to a list of words; what does not fit is left out. */
static void word_add(char *out, size_t room, const char *word)
{
    size_t used = strlen(out);

    if (word[0] != '\0' && used + strlen(word) + 3 < room)
        (void)snprintf(out + used, room - used, "%s%s", used != 0 ? ", " : "", word);
}

char *flagctl_waits_text(const cJSON *rollout, char *out, size_t room)
{
    const cJSON *waits = cJSON_GetObjectItemCaseSensitive(rollout, "waits"), *wait;

    out[0] = '\0';
    for (wait = waits != NULL ? waits->child : NULL; wait != NULL; wait = wait->next)
        word_add(out, room, flagctl_text_at(wait, "reason"));
    if (out[0] == '\0')
        (void)snprintf(out, room, "-");
    return out;
}

char *flagctl_seconds_text(double seconds, char out[32])
{
    if (seconds > 0 && seconds < 10 && seconds != floor(seconds))
        (void)snprintf(out, 32, "%.1fs", seconds);
    else
        (void)flagshm_duration_text(seconds > 0 && seconds < 1e9 ? (uint64_t)(seconds * NS) : 0, out);
    return out;
}

char *flagctl_left_text(const cJSON *rollout, char out[32])
{
    if (flagctl_rollout_waits_for(rollout, "hold"))
        return flagctl_seconds_text(flagctl_number_at(rollout, "hold_left_s"), out);
    (void)snprintf(out, 32, "-");
    return out;
}

char *flagctl_rollout_line(const cJSON *rollout, char *out, size_t room)
{
    char share[32], waits[160], left[32], step[48] = "";
    bool has_left = strcmp(flagctl_left_text(rollout, left), "-") != 0;

    (void)flagctl_waits_text(rollout, waits, sizeof waits);
    if (flagctl_number_at(rollout, "step") > 0)
        (void)snprintf(step, sizeof step, ", step %.0f of %.0f",
                       fmin(flagctl_number_at(rollout, "step"), 999),
                       fmin(flagctl_number_at(rollout, "steps"), 999));
    (void)snprintf(out, room, "%s, %s%s%s%s%s%s%s", flagctl_text_at(rollout, "stage"),
                   flagctl_rollout_share(rollout, share), step, strcmp(waits, "-") != 0 ? ", waits for " : "",
                   strcmp(waits, "-") != 0 ? waits : "", has_left ? " (" : "", has_left ? left : "",
                   has_left ? " left)" : "");
    return out;
}

/* ---- warnings ---- */

bool flagctl_days_left(const char *date, time_t now, long *days)
{
    struct tm parts;
    const char *end;

    memset(&parts, 0, sizeof parts);
    end = strptime(date, "%Y-%m-%d", &parts);
    if (end == NULL || *end != '\0')
        return false;
    *days = (long)floor(difftime(timegm(&parts) + 86400, now) / 86400);
    return true;
}

enum { STALE, UNDRILLED, DRILL_FAILED, REQUEST_IDS, EXPIRES, TROUBLE, WARNINGS };

/* Which of them are so, as bits. */
static unsigned warnings_of(const cJSON *rollout, time_t now)
{
    unsigned found = 0;
    long days;

    if (flagctl_is_at(rollout, "stale"))
        found |= 1u << STALE;
    if (flagctl_is_at(rollout, "undrilled"))
        found |= 1u << UNDRILLED;
    if (flagctl_is_at(rollout, "drill_failed"))
        found |= 1u << DRILL_FAILED;
    if (flagctl_is_at(cJSON_GetObjectItemCaseSensitive(rollout, "verdict"), "request_ids"))
        found |= 1u << REQUEST_IDS;
    if (flagctl_days_left(flagctl_text_at(rollout, "expires"), now, &days) &&
        days <= FLAGCTL_EXPIRES_NEAR_DAYS)
        found |= 1u << EXPIRES;
    if (flagctl_text_at(rollout, "trouble")[0] != '\0')
        found |= 1u << TROUBLE;
    return found;
}

char *flagctl_warning_words(const cJSON *rollout, time_t now, char *out, size_t room)
{
    static const char *const words[WARNINGS] = {"stale",       "undrilled", "drill failed",
                                                "request ids", "expires",   "trouble"};
    unsigned found = warnings_of(rollout, now), i;
    long days = 1;

    out[0] = '\0';
    (void)flagctl_days_left(flagctl_text_at(rollout, "expires"), now, &days);
    for (i = 0; i < WARNINGS; i++)
        if ((found & 1u << i) != 0)
            word_add(out, room, i == EXPIRES && days < 0 ? "expired" : words[i]);
    return out;
}

void flagctl_warning_sentences(const cJSON *rollout, bool has_prefix, cJSON *list)
{
    const cJSON *said = cJSON_GetObjectItemCaseSensitive(rollout, "warnings"), *item;
    char text[900];

    for (item = said != NULL ? said->child : NULL; item != NULL; item = item->next) {
        if (!cJSON_IsString(item))
            continue;
        (void)snprintf(text, sizeof text, "%.64s%s%.800s", has_prefix ? flagctl_text_at(rollout, "flag") : "",
                       has_prefix ? ": " : "", item->valuestring);
        (void)cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
}
