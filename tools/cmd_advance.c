/* advance: a person goes on by hand. */
#include "server/flagfile.h"
#include "tools/rollout_ask.h"

#include <string.h>

/* Where it is now, so that the way back can be told. False: the server does not say. */
static bool served_now(struct flagctl *ctl, const char *flag, uint32_t *mpct)
{
    cJSON *answer;
    const cJSON *rollout = flagctl_rollout_peek(ctl, flag, &answer);

    if (rollout != NULL)
        *mpct = flagctl_rollout_mpct(rollout, "rollout_pct");
    cJSON_Delete(answer);
    return rollout != NULL;
}

static int advance_run(struct flagctl *ctl, int argc, char **argv)
{
    const char *to = flagctl_option(ctl, "to");
    char undo[120], number[16];
    struct flagctl_steer steer = {
        .verb = "advance", .flag = argv[0], .done = "advanced", .undo = undo, .needs_reason = true};
    uint32_t mpct = 0, before_mpct;

    (void)argc;
    if (to != NULL && (!flagshm_mpct_from_text(to, strlen(to), &mpct) || mpct == 0))
        return flagctl_fail(
            ctl, FLAGCTL_USAGE,
            "--to is a share above 0 and up to 100 with at most three decimals (25, 0.5), got "
            "\"%.100s\"",
            to);
    (void)snprintf(undo, sizeof undo, "rollback %.64s", argv[0]);
    if (flagctl_option(ctl, "reason") != NULL && flagctl_flag_name(ctl, argv[0]) != FLAGCTL_OK)
        return FLAGCTL_NO_FLAG;
    if (flagctl_option(ctl, "reason") != NULL && served_now(ctl, argv[0], &before_mpct))
        (void)snprintf(undo, sizeof undo, "set %.64s %s", argv[0], flagshm_mpct_to_text(before_mpct, number));
    if (to != NULL) {
        steer.request = cJSON_CreateObject();
        flagctl_json_share(steer.request, "to_pct", mpct);
    }
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option advance_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why it need not wait, for the history; needed"},
    {"to", 0, "PCT", FLAGCTL_NUMBER, "to this share, instead of to the next step"},
    {0},
};

const struct flagctl_command flagctl_advance_command = {
    .name = "advance",
    .group = "Ask the server",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "go on to the next step by hand, whatever it waits for",
    .help = "Only ever up, and never over a kill, a roll-back (flagctl clear first) or the file's cap. The "
            "guardrails go on\n"
            "watching. To end one wait only: flagctl waive. The undo lowers the cap in the file: the share "
            "goes down at once.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = advance_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = advance_run,
};
