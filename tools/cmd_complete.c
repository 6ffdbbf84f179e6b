/* __complete: what could stand where the cursor is: called by the shells' completion scripts.
 *
 * The words before the cursor and the one under it are the arguments. Each candidate is a line, its description behind a tab. A line
 * ":files" asks the shell for file names. Silent whatever goes wrong: a prompt is no place for messages.
 */
#include "server/rollout.h"
#include "tools/options.h"
#include "tools/view.h"

#include <stdlib.h>
#include <string.h>

struct completing {
    struct flagctl *ctl;
    const char *word; /* under the cursor */
    const struct flagctl_command *command;
    const char *instance, *dir;
    int arguments; /* before the cursor */
    bool is_lost;  /* the line names no command that we have */
    bool is_ended; /* "--" has been seen */
};

static void offer(const struct completing *c, const char *prefix, const char *text, const char *description)
{
    char clean[256];
    size_t length = strlen(c->word), skip = strlen(prefix);

    if (strncmp(c->word, prefix, skip < length ? skip : length) != 0)
        return;
    if (length > skip && strncmp(text, c->word + skip, length - skip) != 0)
        return;
    (void)fprintf(c->ctl->out, "%s%s\t%s\n", prefix, text, flagctl_clean(description, clean, sizeof clean));
}

static const struct flagctl_option *option_in(const struct flagctl_option *options, const char *word)
{
    size_t i;
    for (i = 0; options != NULL && options[i].name != NULL; i++) {
        bool is_long = word[0] == '-' && word[1] == '-' && strcmp(word + 2, options[i].name) == 0;
        bool is_short =
            word[0] == '-' && options[i].letter != 0 && word[1] == options[i].letter && word[2] == '\0';
        if (is_long || is_short)
            return &options[i];
    }
    return NULL;
}

static const struct flagctl_option *option_of(const struct completing *c, const char *word)
{
    const struct flagctl_option *option = c->command != NULL ? option_in(c->command->options, word) : NULL;
    return option != NULL ? option : option_in(flagctl_global_options, word);
}

static void options_offer(const struct completing *c, const struct flagctl_option *options)
{
    size_t i;
    for (i = 0; options != NULL && options[i].name != NULL; i++) {
        if (strcmp(options[i].name, "watch") == 0 && (c->command == NULL || !c->command->can_watch))
            continue;
        offer(c, "--", options[i].name, options[i].help);
    }
}

/* The names in the served table of the instance that the line names. */
static void flags_offer(const struct completing *c)
{
    struct flagshm_instance *instance = &c->ctl->instance;
    struct flagshm_snapshot snapshot;
    struct flagshm_error error;
    struct flagshm *client;
    size_t i;

    if (c->dir != NULL)
        (void)setenv("FLAGSHM_DIR", c->dir, 1);
    if (flagshm_instance_resolve(instance, c->instance, c->dir, NULL, NULL, &error) != 0 ||
        flagctl_client(c->ctl, &client) != 0 || flagshm_snapshot_take(&snapshot, client, &error) != 0)
        return;
    for (i = 0; i < snapshot.count; i++) {
        const struct flagshm_snapshot_flag *flag = &snapshot.flags[i];
        struct flagctl_served served = flagctl_served(&snapshot, flag);
        char text[64], share[24];
        (void)snprintf(text, sizeof text, "%s, %s", flagctl_share(served.mpct, share), served.stage);
        offer(c, "", flag->name, text);
    }
    flagshm_snapshot_free(&snapshot);
}

static void commands_offer(const struct completing *c)
{
    size_t i;
    for (i = 0; flagctl_commands[i] != NULL; i++)
        if (flagctl_commands[i]->group != NULL)
            offer(c, "", flagctl_commands[i]->name, flagctl_commands[i]->summary);
}

static void kind_offer(const struct completing *c, enum flagctl_kind kind)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    size_t i;

    for (i = 0; kind == FLAGCTL_SHELL && i < 3; i++)
        offer(c, "", shells[i], "");
    for (i = 0; kind == FLAGCTL_WAIT && i < FLAGSHM_WAITS; i++)
        if (!flagshm_wait_is_firm((enum flagshm_wait)i))
            offer(c, "", flagshm_wait_name((enum flagshm_wait)i), "");
    if (kind == FLAGCTL_FLAG)
        flags_offer(c);
    else if (kind == FLAGCTL_COMMAND)
        commands_offer(c);
    else if (kind == FLAGCTL_PATH)
        (void)fputs(":files\n", c->ctl->out);
}

static void value_offer(const struct completing *c, const struct flagctl_option *option)
{
    static const char *const formats[] = {"table", "json", NULL},
                             *const whens[] = {"auto", "always", "never", NULL},
                             *const plans[] = {"b2b", "b2c", NULL};
    const char *const *words = strcmp(option->name, "output") == 0  ? formats
                               : strcmp(option->name, "color") == 0 ? whens
                               : strcmp(option->name, "plan") == 0  ? plans
                                                                    : NULL;

    if (words == NULL)
        kind_offer(c, option->kind);
    else
        for (; *words != NULL; words++)
            offer(c, "", *words, "");
}

/* The kind of the argument under the cursor; the last of the list repeats. */
static enum flagctl_kind argument_kind(const struct completing *c)
{
    size_t at = (size_t)c->arguments, last = 0, i;

    if (c->command->max_arguments >= 0 && c->arguments >= c->command->max_arguments)
        return FLAGCTL_NOTHING;
    for (i = 0; i < sizeof c->command->argument_kinds / sizeof *c->command->argument_kinds; i++)
        if (c->command->argument_kinds[i] != FLAGCTL_NOTHING)
            last = i;
    return c->command->argument_kinds[at < last ? at : last];
}

/* Reads the words before the cursor. Returns the option whose value is under it, or NULL. */
static const struct flagctl_option *words_read(struct completing *c, int count, char **words)
{
    int i;
    for (i = 0; i < count; i++) {
        const struct flagctl_option *option;
        if (!c->is_ended && strcmp(words[i], "--") == 0) {
            c->is_ended = true;
        } else if (!c->is_ended && words[i][0] == '-' && words[i][1] != '\0') {
            if (strncmp(words[i], "--instance=", 11) == 0)
                c->instance = words[i] + 11;
            if (strncmp(words[i], "--dir=", 6) == 0)
                c->dir = words[i] + 6;
            option = option_of(c, words[i]);
            if (option == NULL || option->value == NULL || option->value[0] == '[')
                continue;
            if (++i == count)
                return option;
            if (strcmp(option->name, "instance") == 0)
                c->instance = words[i];
            if (strcmp(option->name, "dir") == 0)
                c->dir = words[i];
        } else if (c->command == NULL) {
            c->command = flagctl_command_find(words[i]);
            if (c->command == NULL) {
                c->is_lost = true;
                return NULL;
            }
        } else {
            c->arguments++;
        }
    }
    return NULL;
}

static int complete_run(struct flagctl *ctl, int argc, char **argv)
{
    struct completing c = {.ctl = ctl, .word = argc > 0 ? argv[argc - 1] : ""};
    const struct flagctl_option *option = words_read(&c, argc > 0 ? argc - 1 : 0, argv);

    if (c.is_lost)
        return FLAGCTL_OK;
    if (option != NULL) {
        value_offer(&c, option);
    } else if (!c.is_ended && c.word[0] == '-') {
        options_offer(&c, c.command != NULL ? c.command->options : NULL);
        options_offer(&c, flagctl_global_options);
    } else if (c.command == NULL) {
        commands_offer(&c);
    } else {
        kind_offer(&c, argument_kind(&c));
    }
    return FLAGCTL_OK;
}

const struct flagctl_command flagctl_complete_command = {
    .name = "__complete",
    .arguments = "WORD...",
    .summary = "candidates for the word under the cursor",
    .max_arguments = -1,
    .run = complete_run,
    .takes_all = true,
};
