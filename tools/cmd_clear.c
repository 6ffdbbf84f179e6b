/* clear: a value that was rolled back may run again. */
#include "tools/rollout_ask.h"

static int clear_run(struct flagctl *ctl, int argc, char **argv)
{
    char undo[80];
    struct flagctl_steer steer = {
        .verb = "clear", .flag = argv[0], .done = "cleared", .undo = undo, .needs_reason = true};

    (void)argc;
    (void)snprintf(undo, sizeof undo, "rollback %.64s", argv[0]);
    if (flagctl_option(ctl, "resume") != NULL) {
        steer.request = cJSON_CreateObject();
        (void)cJSON_AddTrueToObject(steer.request, "resume");
    }
    return flagctl_steer(ctl, &steer);
}

static const struct flagctl_option clear_options[] = {
    {"reason", 'r', "TEXT", FLAGCTL_WORD, "why it may run again, for the history; needed"},
    {"resume", 0, NULL, FLAGCTL_NOTHING,
     "go on at the lower of the old step and 10 %, instead of from the first step"},
    {0},
};

const struct flagctl_command flagctl_clear_command = {
    .name = "clear",
    .group = "Ask the server",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "let a value run again that was rolled back",
    .help =
        "The flag begins anew at its first step, with new evidence; with --resume at the lower of the step "
        "where it was and\n"
        "10 %. A flag without a plan serves the file's share again. Why it was rolled back: flagctl "
        "history FLAG.\n\n" FLAGCTL_STEER_CODES FLAGCTL_STEER_JSON,
    .options = clear_options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = clear_run,
};
