/* waive: for a while one reason to wait does not count. */
#include "server/diagnostics.h"
#include "server/rollout.h"
#include "tools/rollout_ask.h"
#include "tools/status_wait.h"

#include <string.h>

#define LONGEST_S (366.0 * 86400) /* as the server takes it */

static int no_such_wait(struct flagctl *ctl, const char *name)
{
    const char *names[FLAGSHM_WAITS + 1], *meant;
    char all[512] = "";
    size_t count = 0, used = 0;
    unsigned i;

    for (i = 0; i < FLAGSHM_WAITS; i++) {
        if (flagshm_wait_is_firm((enum flagshm_wait)i))
            continue;
        names[count] = flagshm_wait_name((enum flagshm_wait)i);
        used += (size_t)snprintf(all + used, used < sizeof all ? sizeof all - used : 0, "%s%s",
                                 count > 0 ? ", " : "", names[count]);
        count++;
    }
    names[count] = NULL;
    meant = flagshm_did_you_mean(name, strlen(name), names);
    return flagctl_fail(ctl, FLAGCTL_USAGE, "WAIT is one of %s; got \"%.100s\"%s%s%s", all, name,
                        meant != NULL ? " (did you mean " : "", meant != NULL ? meant : "",
                        meant != NULL ? "?)" : "");
}

static int waive_run(struct flagctl *ctl, int argc, char **argv)
{
    const char *span = flagctl_option(ctl, "for");
    struct flagctl_steer steer = {
        .verb = "waive", .flag = argv[0], .done = "waived", .undo = "", .needs_reason = true};
    double seconds = 86400;
    enum flagshm_wait wait;

    (void)argc;
    if (!flagshm_wait_from_name(argv[1], &wait))
        return no_such_wait(ctl, argv[1]);
    if (span != NULL && (!flagctl_duration(span, &seconds) || seconds <= 0 || seconds > LONGEST_S))
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "--for is a duration like 30m, 24h or 7d, at most 366d, got \"%.100s\"", span);
    steer.request = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(steer.request, "wait", flagshm_wait_name(wait));
    (void)cJSON_AddNumberToObject(steer.request, "for_s", seconds);
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option waive_options[] = {
    {"for", 0, "TIME", FLAGCTL_WORD, "for how long: 30m, 24h, 7d (24h)"},
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why it need not be waited for, for the history; needed"},
    {0},
};

const struct flagctl_command flagctl_waive_command = {
    .name = "waive",
    .group = "Ask the server",
    .arguments = "FLAG WAIT",
    .argument_kinds = {FLAGCTL_FLAG, FLAGCTL_WAIT},
    .summary = "let one reason to wait not count, for a while",
    .help =
        "WAIT is a name that flagctl status shows: hold, min_users, no_pairs, no_traffic, no_outcomes, "
        "signal, "
        "breaker, srm,\n"
        "tainted, capacity, both_arms_bad, prove, approval, window, freeze, paused, recovering, unwatched. "
        "What else it waits for\n"
        "still counts, and the guardrails that roll back are never waived, nor a kill or a roll-back. It "
        "ends by itself.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = waive_options,
    .min_arguments = 2,
    .max_arguments = 2,
    .run = waive_run,
};
