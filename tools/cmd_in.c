/* in: the exit code says whether an id gets a variant: for `if` in shell scripts. */
#include "tools/connect.h"

static int in_run(struct flagctl *ctl, int argc, char **argv)
{
    struct flagshm_decision d;
    struct flagshm *client;
    int code = flagctl_open(ctl, &client);

    (void)argc;
    if (code != FLAGCTL_OK)
        return code;
    switch (flagshm_decide(client, argv[0], argv[1], &d)) {
    case FLAGSHM_FLAG_NOT_FOUND: {
        struct flagshm_snapshot snapshot;
        code = flagctl_snapshot(ctl, &snapshot);
        if (code != FLAGCTL_OK)
            return code;
        code = flagctl_no_flag(ctl, &snapshot, argv[0]);
        flagshm_snapshot_free(&snapshot);
        return code;
    }
    case FLAGSHM_NOT_READY:
        return flagctl_no_table(ctl, -ENOENT);
    case FLAGSHM_TARGETING_KEY_MISSING:
        return flagctl_fail(ctl, FLAGCTL_USAGE, "the id is empty");
    case FLAGSHM_GENERAL:
        return flagctl_fail(ctl, FLAGCTL_USAGE, "the id is over %d bytes, or the table is damaged",
                            FLAGSHM_ID_MAX);
    default:
        return d.arm != 0 ? 0 : 1;
    }
}

const struct flagctl_command flagctl_in_command = {
    .name = "in",
    .group = "For shells",
    .arguments = "FLAG ID",
    .argument_kinds = {FLAGCTL_FLAG, FLAGCTL_ID},
    .summary = "exit code 0: the id gets a variant, 1: control, else an error",
    .help = "    if flagctl in new_summarizer_model -- \"$user\"; then echo new; else echo old; fi\n\n"
            "Prints nothing but errors. Put -- before an id that you have not written yourself: it may begin "
            "with a dash.\n\n"
            "Exit codes: 0 a variant, 1 control, 2 wrong usage or an id that is empty or too long, 4 no such "
            "flag, 5 no table.",
    .min_arguments = 2,
    .max_arguments = 2,
    .run = in_run,
    .is_verdict = true,
};
