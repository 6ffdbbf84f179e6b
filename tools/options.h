/* options: the command line of flagctl taken apart by the table of commands, and the help that is made from it. */
#ifndef FLAGSHM_TOOLS_OPTIONS_H
#define FLAGSHM_TOOLS_OPTIONS_H

#include "tools/flagctl.h"

struct flagctl_line { /* what a command line says */
    const char *instance, *dir, *state_dir, *socket;
    bool wants_help, wants_version;
    int argc;    /* the command's arguments */
    char **argv; /* in the caller's array, moved to its front */
};

/* The options that every command takes; ends in {0}. */
extern const struct flagctl_option flagctl_global_options[];

/* The command of that name, hidden ones too; NULL. */
const struct flagctl_command *flagctl_command_find(const char *name);

/* Says that there is no such command, with "did you mean"; returns FLAGCTL_USAGE. */
int flagctl_no_command(const struct flagctl *ctl, const char *name);

/* Fills in ctl (command, output, colour, option values) and `line`. FLAGCTL_OK, or what is wrong is said and FLAGCTL_USAGE returned. */
int flagctl_options_parse(struct flagctl *ctl, struct flagctl_line *line, int argc, char **argv);

/* Prints "usage: flagctl NAME ARGUMENTS [options]" to `out`. */
void flagctl_usage_print(const struct flagctl_command *command, FILE *out);
/* Prints the help of a command, or with NULL the list of all. */
void flagctl_help_print(const struct flagctl *ctl, const struct flagctl_command *command);

#endif
