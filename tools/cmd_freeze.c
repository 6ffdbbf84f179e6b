/* freeze: no rollout of this host advances until thaw. */
#include "tools/rollout_ask.h"

static int freeze_run(struct flagctl *ctl, int argc, char **argv)
{
    struct flagctl_steer steer = {
        .verb = "freeze", .done = "frozen", .undo = "thaw", .is_stop = true, .needs_reason = true};

    (void)argc;
    (void)argv;
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option freeze_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for all who wonder; needed"},
    {0},
};

const struct flagctl_command flagctl_freeze_command = {
    .name = "freeze",
    .group = "Ask the server",
    .arguments = "",
    .summary = "let no rollout of the instance advance, until thaw",
    .help =
        "All of them serve on what they serve, and are watched on: each can still be rolled back. Also "
        "flags that come later\n"
        "wait, and it outlives restarts. A person may still go on by hand: flagctl advance. Undo: flagctl "
        "thaw.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = freeze_options,
    .run = freeze_run,
};
