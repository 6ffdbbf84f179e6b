/* help: what --help prints, made from the table of commands. */
#include "tools/options.h"

#include <string.h>

#define HELP_COLUMNS 100

/* Prints words from `column` on, and the lines that follow below them. */
static void wrapped_print(FILE *out, int column, const char *text)
{
    int at = column;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (at > column && at + 1 + (int)length > HELP_COLUMNS) {
            (void)fprintf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            (void)fputc(' ', out);
            at++;
        }
        (void)fwrite(text, 1, length, out);
        at += (int)length;
        text += length;
        text += strspn(text, " ");
    }
    (void)fputc('\n', out);
}

/* "-o, --output FORMAT" */
static int option_text(const struct flagctl_option *option, char *out, size_t room)
{
    bool is_optional = option->value != NULL && option->value[0] == '[';
    char letter[8] = "    ";

    if (option->letter != 0)
        (void)snprintf(letter, sizeof letter, "-%c, ", option->letter);
    if (is_optional)
        return snprintf(out, room, "%s--%s[=%s", letter, option->name, option->value + 1);
    return snprintf(out, room, "%s--%s%s%s", letter, option->name, option->value != NULL ? " " : "",
                    option->value != NULL ? option->value : "");
}

static void options_print(FILE *out, const char *heading, const struct flagctl_option *options)
{
    char text[128];
    int width = 0;
    size_t i;

    for (i = 0; options[i].name != NULL; i++) {
        int length = option_text(&options[i], text, sizeof text);
        if (length > width)
            width = length;
    }
    (void)fprintf(out, "\n%s:\n", heading);
    for (i = 0; options[i].name != NULL; i++) {
        (void)option_text(&options[i], text, sizeof text);
        (void)fprintf(out, "  %-*s  ", width, text);
        wrapped_print(out, width + 4, options[i].help);
    }
}

void flagctl_usage_print(const struct flagctl_command *command, FILE *out)
{
    (void)fprintf(out, "usage: flagctl %s%s%s%s\n", command->name,
                  command->arguments != NULL && command->arguments[0] != '\0' ? " " : "",
                  command->arguments != NULL ? command->arguments : "", " [options]");
}

static void commands_print(FILE *out)
{
    const char *group = "";
    int width = 0;
    size_t i;

    for (i = 0; flagctl_commands[i] != NULL; i++) {
        int length = (int)(strlen(flagctl_commands[i]->name) + strlen(flagctl_commands[i]->arguments)) + 1;
        if (flagctl_commands[i]->group != NULL && length > width)
            width = length;
    }
    for (i = 0; flagctl_commands[i] != NULL; i++) {
        const struct flagctl_command *command = flagctl_commands[i];
        char text[128];
        if (command->group == NULL)
            continue;
        if (strcmp(command->group, group) != 0)
            (void)fprintf(out, "\n%s:\n", command->group);
        group = command->group;
        (void)snprintf(text, sizeof text, "%s %s", command->name, command->arguments);
        (void)fprintf(out, "  %-*s  ", width, text);
        wrapped_print(out, width + 4, command->summary);
    }
}

void flagctl_help_print(const struct flagctl *ctl, const struct flagctl_command *command)
{
    FILE *out = ctl->out;

    if (command == NULL) {
        (void)fputs("usage: flagctl [COMMAND] [ARGUMENTS] [options]     (without a command: list)\n\n"
                    "Shows and steers the feature flags that flagshmd serves on this host.\n",
                    out);
        commands_print(out);
    } else {
        flagctl_usage_print(command, out);
        (void)fprintf(out, "\n%s\n", command->summary);
        if (command->help != NULL)
            (void)fprintf(out, "\n%s\n", command->help);
        if (command->options != NULL)
            options_print(out, "Options", command->options);
    }
    options_print(out, command != NULL ? "Options of all commands" : "Options", flagctl_global_options);
    (void)fputs("\nExit codes: 0 done, 1 failed, 2 usage, 3 a guardrail tripped or a drill failed, 4 no such "
                "flag, 5 no "
                "table or no server, 6 the "
                "file has errors, 7 conflict\n",
                out);
}
