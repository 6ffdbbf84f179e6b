/* flagctl: shows and steers the flags of this host.
 *
 * The table of commands, and main(): it takes the line apart, runs one command, and makes sure that what was
 * printed has arrived.
 */
#include "tools/flagctl.h"
#include "server/flagfile.h"
#include "tools/options.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct flagctl_command flagctl_init_command, flagctl_finish_command, flagctl_approve_command,
    flagctl_pause_command, flagctl_resume_command, flagctl_rollback_command, flagctl_clear_command,
    flagctl_advance_command, flagctl_waive_command, flagctl_freeze_command, flagctl_thaw_command,
    flagctl_drill_command;
extern const struct flagctl_command flagctl_list_command, flagctl_get_command, flagctl_eval_command,
    flagctl_assign_command, flagctl_watch_command, flagctl_dump_command, flagctl_lint_command,
    flagctl_in_command, flagctl_model_command, flagctl_help_command, flagctl_version_command,
    flagctl_completion_command, flagctl_complete_command, flagctl_history_command, flagctl_diff_command,
    flagctl_doctor_command, flagctl_set_command, flagctl_restore_command, flagctl_kill_command,
    flagctl_unkill_command, flagctl_accept_command, flagctl_reload_command, flagctl_call_command,
    flagctl_stats_command, flagctl_record_command, flagctl_top_command;
extern const struct flagctl_command flagctl_status_command, flagctl_plan_command, flagctl_stale_command;

/* In the order of --help, by groups. The first one is run where none is named. */
/* clang-format off */
const struct flagctl_command *const flagctl_commands[] = {
    &flagctl_list_command,
    &flagctl_get_command,
    &flagctl_eval_command,
    &flagctl_assign_command,
    &flagctl_watch_command,
    &flagctl_status_command,
    &flagctl_plan_command,
    &flagctl_stats_command,
    &flagctl_top_command,
    &flagctl_history_command,
    &flagctl_diff_command,
    &flagctl_stale_command,
    &flagctl_doctor_command,
    &flagctl_dump_command,
    &flagctl_lint_command,
    &flagctl_in_command,
    &flagctl_model_command,
    &flagctl_record_command,
    &flagctl_init_command,
    &flagctl_set_command,
    &flagctl_finish_command,
    &flagctl_restore_command,
    &flagctl_kill_command,
    &flagctl_unkill_command,
    &flagctl_rollback_command,
    &flagctl_clear_command,
    &flagctl_approve_command,
    &flagctl_pause_command,
    &flagctl_resume_command,
    &flagctl_waive_command,
    &flagctl_advance_command,
    &flagctl_freeze_command,
    &flagctl_thaw_command,
    &flagctl_drill_command,
    &flagctl_accept_command,
    &flagctl_reload_command,
    &flagctl_call_command,
    &flagctl_help_command,
    &flagctl_version_command,
    &flagctl_completion_command,
    &flagctl_complete_command,
    NULL,
};
/* clang-format on */

static int help_run(struct flagctl *ctl, int argc, char **argv)
{
    const struct flagctl_command *command = NULL;

    if (argc > 0 && (command = flagctl_command_find(argv[0])) == NULL)
        return flagctl_no_command(ctl, argv[0]);
    flagctl_help_print(ctl, command);
    return FLAGCTL_OK;
}

const struct flagctl_command flagctl_help_command = {
    .name = "help",
    .group = "Help",
    .arguments = "[COMMAND]",
    .argument_kinds = {FLAGCTL_COMMAND},
    .summary = "the commands, or one of them in detail",
    .help = "The same as `flagctl --help` and `flagctl COMMAND --help`.",
    .max_arguments = 1,
    .run = help_run,
};

/* Descriptors 0, 1 and 2 must be taken: else the first file that we open becomes standard output. What was closed stays
 * unusable, since it is opened the wrong way round. */
static void descriptors_claim(void)
{
    int fd;
    for (fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY); /* takes the lowest: fd */
}

/* Names the instance's places, once the options are known. */
static int instance_resolve(struct flagctl *ctl, const struct flagctl_line *line)
{
    struct flagshm_error error;

    /* The client library asks the environment. */
    if (line->dir != NULL && setenv("FLAGSHM_DIR", line->dir, 1) != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    if (flagshm_instance_resolve(&ctl->instance, line->instance, line->dir, line->state_dir, line->socket,
                                 &error) != 0)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "%s", error.text);
    ctl->has_state_dir = line->state_dir != NULL;
    ctl->has_socket = line->socket != NULL;
    return FLAGCTL_OK;
}

int main(int argc, char **argv)
{
    static char buffer[1 << 16];
    struct flagctl ctl = {.out = stdout, .has_header = true};
    struct flagctl_line line;
    int code;

    descriptors_claim();
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    (void)signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, with its message and exit code */
    (void)signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow */
    (void)setvbuf(stdout, buffer, _IOFBF, sizeof buffer);

    code = flagctl_options_parse(&ctl, &line, argc, argv);
    if (code == FLAGCTL_OK && line.wants_help)
        flagctl_help_print(&ctl, ctl.command);
    else if (code == FLAGCTL_OK && line.wants_version)
        code = flagctl_version_command.run(&ctl, 0, NULL);
    else if (code == FLAGCTL_OK && (code = instance_resolve(&ctl, &line)) == FLAGCTL_OK)
        code = ctl.command->run(&ctl, line.argc, line.argv);
    if (code == FLAGCTL_USAGE && ctl.command != NULL && ctl.command->rescue != NULL)
        code = ctl.command->rescue(&ctl, argc, argv);

    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == FLAGCTL_OK)
        code = flagctl_fail(&ctl, FLAGCTL_FAILED, "cannot write the output%s%s", errno != 0 ? ": " : "",
                            errno != 0 ? strerror(errno) : "");
    if (ctl.is_client_open)
        flagshm_close(&ctl.client);
    return code;
}
