/* thaw: takes a freeze back. */
#include "tools/rollout_ask.h"

static int thaw_run(struct flagctl *ctl, int argc, char **argv)
{
    struct flagctl_steer steer = {.verb = "thaw", .done = "not frozen", .undo = "freeze --reason TEXT"};

    (void)argc;
    (void)argv;
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option thaw_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history"},
    {0},
};

const struct flagctl_command flagctl_thaw_command = {
    .name = "thaw",
    .group = "Ask the server",
    .arguments = "",
    .summary = "let the rollouts advance again",
    .help = "Takes flagctl freeze back. Each goes on by its own plan; what else it waits for, it waits for "
            "still.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = thaw_options,
    .run = thaw_run,
};
