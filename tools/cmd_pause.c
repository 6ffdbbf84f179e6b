/* pause: a rollout stays where it is until resume. */
#include "tools/rollout_ask.h"

static int pause_run(struct flagctl *ctl, int argc, char **argv)
{
    char undo[80];
    struct flagctl_steer steer = {
        .verb = "pause", .flag = argv[0], .done = "paused", .undo = undo, .is_stop = true};

    (void)argc;
    (void)snprintf(undo, sizeof undo, "resume %.64s", argv[0]);
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option pause_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history"},
    {0},
};

const struct flagctl_command flagctl_pause_command = {
    .name = "pause",
    .group = "Ask the server",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "keep a rollout at the share that it has",
    .help =
        "It serves on and is watched on: it can still be rolled back, by itself too. Undo: flagctl resume "
        "FLAG.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = pause_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = pause_run,
};
