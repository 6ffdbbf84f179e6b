/* resume: takes a pause back. */
#include "tools/rollout_ask.h"

static int resume_run(struct flagctl *ctl, int argc, char **argv)
{
    char undo[80];
    struct flagctl_steer steer = {.verb = "resume", .flag = argv[0], .done = "resumed", .undo = undo};

    (void)argc;
    (void)snprintf(undo, sizeof undo, "pause %.64s", argv[0]);
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option resume_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history"},
    {0},
};

const struct flagctl_command flagctl_resume_command = {
    .name = "resume",
    .group = "Ask the server",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "let a paused rollout go on",
    .help = "It goes on by its plan from the step where it is. A rolled-back flag is another matter: flagctl "
            "clear FLAG.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = resume_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = resume_run,
};
