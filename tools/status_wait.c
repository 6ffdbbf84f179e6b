/* status_wait: see the header. */
#include "tools/status_wait.h"
#include "tools/wait.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_S     1.0
#define PATIENCE_S 30.0 /* of a server that restarts */

int flagctl_rollout_take(struct flagctl *ctl, const char *flag, bool is_quiet_unreachable, cJSON **rollout)
{
    cJSON *answer = NULL;
    int code = flagctl_rollouts_ask(ctl, flag, is_quiet_unreachable, &answer);
    const cJSON *found;

    *rollout = NULL;
    if (code != FLAGCTL_OK)
        return code;
    found = flagctl_rollout_find(answer, flag);
    if (found == NULL)
        code = flagctl_fail(ctl, FLAGCTL_FAILED,
                            "%s is in no rollout, and nobody guards it: it has no plan and books no outcomes "
                            "yet, or it has several "
                            "variants, or its entry is broken: flagctl get %s",
                            flag, flag);
    else if ((*rollout = cJSON_Duplicate(found, true)) == NULL)
        code = flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    cJSON_Delete(answer);
    return code;
}

static bool is_state(const cJSON *rollout, const char *state)
{
    return strcmp(flagctl_text_at(rollout, "state"), state) == 0;
}

static bool waits_for_a_person(const cJSON *rollout)
{
    static const char *const reasons[] = {"approval", "paused", "mode", "file_cap", "freeze"};
    size_t i;

    for (i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (flagctl_rollout_waits_for(rollout, reasons[i]))
            return true;
    return false;
}

int flagctl_status_verdict(const cJSON *rollout)
{
    bool has_next = flagctl_has_number(rollout, "next_pct") || flagctl_has_number(rollout, "next_shadow_pct"),
         is_disturbed = flagctl_is_at(rollout, "probing") || flagctl_is_at(rollout, "drilling");

    if (is_state(rollout, "rolled_back") || is_state(rollout, "killed") ||
        flagctl_is_at(rollout, "latched") || flagctl_is_at(rollout, "killed"))
        return FLAGCTL_TRIPPED;
    if (is_state(rollout, "complete"))
        return FLAGCTL_OK;
    if (waits_for_a_person(rollout))
        return FLAGCTL_PERSON;
    if (!has_next && !is_disturbed &&
        (is_state(rollout, "full") || flagctl_rollout_waits_for(rollout, "plan_end")))
        return FLAGCTL_OK;
    return -1;
}

const char *flagctl_status_outcome(int code)
{
    return code == FLAGCTL_OK          ? "done"
           : code == FLAGCTL_TRIPPED   ? "rolled_back"
           : code == FLAGCTL_TIMED_OUT ? "timed_out"
           : code == FLAGCTL_PERSON    ? "person"
                                       : NULL;
}

/* One line that is written over itself. `text` NULL: wipes it. */
static void progress_show(const char *flag, const char *text)
{
    char clean[320];

    if (isatty(STDERR_FILENO) == 0)
        return;
    if (text == NULL)
        (void)fputs("\r\033[K", stderr);
    else
        (void)fprintf(stderr, "\r\033[K%.64s: %.120s", flag, flagctl_clean(text, clean, sizeof clean));
    (void)fflush(stderr);
}

static void sleep_until(double end)
{
    while (!flagctl_is_stopped() && flagctl_now() < end) {
        double left = end - flagctl_now();
        long ns = (long)((left < 0.1 ? left : 0.1) * 1e9);
        const struct timespec slice = {0, ns > 0 ? ns : 0};

        (void)nanosleep(&slice, NULL); /* a signal ends it, and is looked at */
    }
}

/* One look; *rollout is replaced where there is an answer. -1: go on; else the exit code. */
static int look(struct flagctl *ctl, const char *flag, double *answered, cJSON **rollout)
{
    cJSON *now = NULL;
    char line[256];
    bool is_patient = *answered > 0 && flagctl_now() < *answered + PATIENCE_S;
    int code;

    progress_show(flag, NULL); /* there may be something to say */
    code = flagctl_rollout_take(ctl, flag, is_patient, &now);
    if (code == FLAGCTL_UNREACHABLE && is_patient) {
        progress_show(flag, "the server does not answer");
        return -1;
    }
    if (code != FLAGCTL_OK) {
        cJSON_Delete(*rollout); /* what was seen before is not the status any more */
        *rollout = NULL;
        return code;
    }
    cJSON_Delete(*rollout);
    *rollout = now;
    *answered = flagctl_now();
    progress_show(flag, flagctl_rollout_line(now, line, sizeof line));
    return flagctl_status_verdict(now);
}

int flagctl_status_wait(struct flagctl *ctl, const char *flag, double seconds, cJSON **rollout)
{
    double end = flagctl_now() + seconds, answered = 0;
    int code = -1;

    *rollout = NULL;
    flagctl_wait_begin();
    for (;;) {
        double next = flagctl_now() + POLL_S;

        code = look(ctl, flag, &answered, rollout);
        if (code == -1 && *rollout != NULL && !flagctl_is_at(*rollout, "planned")) {
            progress_show(flag, NULL);
            return flagctl_fail(ctl, FLAGCTL_FAILED,
                                "%s has no plan: its share is the file's, and there is nothing to wait for",
                                flag);
        }
        if (code == -1 && seconds >= 0 && flagctl_now() >= end)
            code = FLAGCTL_TIMED_OUT;
        if (code != -1)
            break;
        sleep_until(seconds >= 0 && end < next ? end : next);
        if (flagctl_is_stopped()) {
            code = FLAGCTL_FAILED;
            break;
        }
    }
    progress_show(flag, NULL);
    return code;
}

bool flagctl_duration(const char *text, double *seconds)
{
    static const struct {
        char unit;
        double seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t length = strlen(text), i;
    double factor = 1;
    char digits[32];

    if (length == 0 || length >= sizeof digits)
        return false;
    memcpy(digits, text, length + 1);
    for (i = 0; i < sizeof units / sizeof *units; i++)
        if (digits[length - 1] == units[i].unit) {
            factor = units[i].seconds;
            digits[length - 1] = '\0';
            break;
        }
    if (!flagctl_number(digits, 0, 1e9, seconds))
        return false;
    *seconds *= factor;
    return true;
}
