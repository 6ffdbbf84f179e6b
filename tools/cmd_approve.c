/* approve: a person agrees to the next step of a plan. */
#include "tools/rollout_ask.h"

static int approve_run(struct flagctl *ctl, int argc, char **argv)
{
    struct flagctl_steer steer = {.verb = "approve", .flag = argv[0], .done = "approved", .undo = ""};

    (void)argc;
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option approve_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why, for the history"},
    {0},
};

const struct flagctl_command flagctl_approve_command = {
    .name = "approve",
    .group = "Ask the server",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "agree to the next step of a flag's plan",
    .help =
        "For that step and the value that the variant has now: another value needs another approval. It may "
        "be given before it\n"
        "is asked for; the step still waits for everything else, as its hold. To stop it after all: "
        "flagctl pause FLAG.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = approve_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = approve_run,
};
