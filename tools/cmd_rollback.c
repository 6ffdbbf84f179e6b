/* rollback: a person takes the variant away; the value stays latched until clear. */
#include "tools/rollout_ask.h"

static int rollback_run(struct flagctl *ctl, int argc, char **argv)
{
    char undo[128];
    struct flagctl_steer steer = {
        .verb = "rollback", .flag = argv[0], .done = "rolled back", .undo = undo, .is_stop = true};

    (void)argc;
    (void)snprintf(undo, sizeof undo, "clear %.64s --resume --reason TEXT", argv[0]);
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option rollback_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history and for those who are notified"},
    {0},
};

const struct flagctl_command flagctl_rollback_command = {
    .name = "rollback",
    .group = "Ask the server",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "take the variant away from everyone, and keep its value from coming back",
    .help =
        "As the guardrails do it: every process decides control within milliseconds, and this value of the "
        "variant stays out\n"
        "over edits and restarts, until flagctl clear FLAG --reason TEXT. Another value is a new attempt, "
        "from the first step.\n"
        "Legal in every state. Without a server: flagctl kill FLAG.\n\n" FLAGCTL_STEER_CODES
            FLAGCTL_STEER_JSON,
    .options = rollback_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = rollback_run,
};
