/* options: see options.h. Options and arguments may be mixed; "--" ends the options; a command's own options come
 * before the global ones of the same name. */
#include "tools/options.h"
#include "server/diagnostics.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    GLOBAL_INSTANCE,
    GLOBAL_DIR,
    GLOBAL_STATE_DIR,
    GLOBAL_SOCKET,
    GLOBAL_FILE,
    GLOBAL_OUTPUT,
    GLOBAL_NO_HEADER,
    GLOBAL_COLOR,
    GLOBAL_WATCH,
    GLOBAL_HELP,
    GLOBAL_VERSION,
    GLOBAL_COUNT
};

const struct flagctl_option flagctl_global_options[] = {
    [GLOBAL_INSTANCE] = {"instance", 'i', "NAME", FLAGCTL_WORD,
                         "the server's instance ($FLAGSHM_INSTANCE, or \"default\")"},
    [GLOBAL_DIR] = {"dir", 0, "DIR", FLAGCTL_PATH, "where the segments are ($FLAGSHM_DIR, or /dev/shm)"},
    [GLOBAL_STATE_DIR] = {"state-dir", 0, "DIR", FLAGCTL_PATH,
                          "the server's state directory (the one that the segment names)"},
    [GLOBAL_SOCKET] = {"socket", 0, "PATH", FLAGCTL_PATH,
                       "the server's socket (the one that the segment names)"},
    [GLOBAL_FILE] = {"file", 0, "PATH", FLAGCTL_PATH, "the flag file (the one that the segment names)"},
    [GLOBAL_OUTPUT] = {"output", 'o', "FORMAT", FLAGCTL_WORD, "table (default) or json"},
    [GLOBAL_NO_HEADER] = {"no-header", 0, NULL, FLAGCTL_NOTHING, "tables without their headings"},
    [GLOBAL_COLOR] = {"color", 0, "WHEN", FLAGCTL_WORD,
                      "auto (default), always or never; heeds NO_COLOR and CLICOLOR_FORCE"},
    [GLOBAL_WATCH] = {"watch", 0, "[SECONDS]", FLAGCTL_NUMBER,
                      "print again at each change, and each SECONDS (2)"},
    [GLOBAL_HELP] = {"help", 'h', NULL, FLAGCTL_NOTHING, "this text"},
    [GLOBAL_VERSION] = {"version", 0, NULL, FLAGCTL_NOTHING,
                        "the versions of the release, the header and the layout"},
    [GLOBAL_COUNT] = {0},
};

struct parse { /* state of one run over the line */
    struct flagctl *ctl;
    struct flagctl_line *line;
    int argc, at;
    char **argv;
    const char *globals[GLOBAL_COUNT];
};

const struct flagctl_command *flagctl_command_find(const char *name)
{
    size_t i;
    for (i = 0; flagctl_commands[i] != NULL; i++)
        if (strcmp(flagctl_commands[i]->name, name) == 0)
            return flagctl_commands[i];
    return NULL;
}

const char *flagctl_option(const struct flagctl *ctl, const char *name)
{
    const struct flagctl_option *options = ctl->command->options;
    size_t i;
    for (i = 0; options != NULL && options[i].name != NULL && i < FLAGCTL_OPTIONS_MAX; i++)
        if (strcmp(options[i].name, name) == 0)
            return ctl->option_values[i];
    return NULL;
}

/* Says what is wrong with the line, and how it should look. */
static int usage_fail(const struct flagctl *ctl, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static int usage_fail(const struct flagctl *ctl, const char *format, ...)
{
    char text[2048];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)flagctl_fail(ctl, FLAGCTL_USAGE, "%s", text);
    if (!ctl->is_json) {
        if (ctl->command != NULL)
            flagctl_usage_print(ctl->command, stderr);
        (void)fprintf(stderr, "more: flagctl %s%s--help\n", ctl->command != NULL ? ctl->command->name : "",
                      ctl->command != NULL ? " " : "");
    }
    return FLAGCTL_USAGE;
}

int flagctl_no_command(const struct flagctl *ctl, const char *name)
{
    const char *names[128], *near;
    size_t count = 0, i;

    for (i = 0; flagctl_commands[i] != NULL && count + 1 < sizeof names / sizeof *names; i++)
        if (flagctl_commands[i]->group != NULL)
            names[count++] = flagctl_commands[i]->name;
    names[count] = NULL;
    near = flagshm_did_you_mean(name, strlen(name), names);
    return usage_fail(ctl, "there is no command \"%.100s\"%s%s%s", name,
                      near != NULL ? " (did you mean \"" : "", near != NULL ? near : "",
                      near != NULL ? "\"?)" : "");
}

static int no_option(const struct parse *p, const char *name, size_t length)
{
    const struct flagctl_option *own = p->ctl->command != NULL ? p->ctl->command->options : NULL;
    const char *names[GLOBAL_COUNT + FLAGCTL_OPTIONS_MAX + 1], *near;
    size_t count = 0, i;

    for (i = 0; own != NULL && own[i].name != NULL && i < FLAGCTL_OPTIONS_MAX; i++)
        names[count++] = own[i].name;
    for (i = 0; i < GLOBAL_COUNT; i++)
        names[count++] = flagctl_global_options[i].name;
    names[count] = NULL;
    near = flagshm_did_you_mean(name, length, names);
    return usage_fail(p->ctl, "unknown option --%.*s%s%s%s", (int)(length < 100 ? length : 100), name,
                      near != NULL ? " (did you mean --" : "", near != NULL ? near : "",
                      near != NULL ? "?)" : "");
}

/* The option of that long name (letter 0) or letter, and where its value is kept. */
static const struct flagctl_option *option_find(struct parse *p, const char *name, size_t length, char letter,
                                                const char ***value)
{
    const struct flagctl_option *options = p->ctl->command != NULL ? p->ctl->command->options : NULL;
    int turn;

    *value = p->ctl->option_values;
    for (turn = 0; turn < 2; turn++, options = flagctl_global_options, *value = p->globals) {
        size_t i;
        for (i = 0; options != NULL && options[i].name != NULL; i++) {
            if (letter != 0
                    ? options[i].letter == letter
                    : strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0) {
                *value += i;
                return &options[i];
            }
        }
    }
    return NULL;
}

/* One word that begins with '-'. */
static int option_take(struct parse *p)
{
    const char *word = p->argv[p->at], *given = NULL, **value;
    const struct flagctl_option *option;

    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        option = option_find(p, word + 2, length, 0, &value);
        if (option == NULL)
            return no_option(p, word + 2, length);
        if (word[2 + length] == '=')
            given = word + 3 + length;
        if (given != NULL && option->value == NULL)
            return usage_fail(p->ctl, "--%s takes no value", option->name);
    } else {
        option = option_find(p, NULL, 0, word[1], &value);
        if (option == NULL)
            return usage_fail(p->ctl, "unknown option -%c", word[1]);
        if (word[2] != '\0' && option->value == NULL)
            return usage_fail(p->ctl, "-%c takes no value, and letters are not joined: \"%.100s\"", word[1],
                              word);
        if (word[2] != '\0')
            given = word[2] == '=' ? word + 3 : word + 2;
    }
    if (*value != NULL)
        return usage_fail(p->ctl, "--%s stands there twice", option->name);
    if (option->value != NULL && option->value[0] != '[' && given == NULL) {
        if (p->at + 1 >= p->argc)
            return usage_fail(p->ctl, "--%s needs a value: %s", option->name, option->value);
        given = p->argv[++p->at];
    }
    *value = given != NULL ? given : "";
    return FLAGCTL_OK;
}

/* Colour on descriptor `fd`, where --color does not say. */
static bool wants_colour(int fd)
{
    const char *none = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE"), *terminal = getenv("TERM");
    if (none != NULL && none[0] != '\0')
        return false;
    if (force != NULL && force[0] != '\0' && strcmp(force, "0") != 0)
        return true;
    return isatty(fd) != 0 && (terminal == NULL || strcmp(terminal, "dumb") != 0);
}

/* What the global options say. */
static int globals_apply(struct parse *p)
{
    struct flagctl *ctl = p->ctl;
    const char *output = p->globals[GLOBAL_OUTPUT], *colour = p->globals[GLOBAL_COLOR],
               *watch = p->globals[GLOBAL_WATCH];

    ctl->is_json = false;
    if (output != NULL && strcmp(output, "json") != 0 && strcmp(output, "table") != 0)
        return usage_fail(ctl, "--output is table or json, got \"%.100s\"", output);
    ctl->is_json = output != NULL && strcmp(output, "json") == 0;
    if (colour == NULL || strcmp(colour, "auto") == 0)
        ctl->is_colour = wants_colour(STDOUT_FILENO);
    else if (strcmp(colour, "always") == 0 || strcmp(colour, "never") == 0)
        ctl->is_colour = colour[0] == 'a';
    else
        return usage_fail(ctl, "--color is auto, always or never, got \"%.100s\"", colour);
    if (watch != NULL && !ctl->command->can_watch)
        return usage_fail(ctl, "--watch is not for %s", ctl->command->name);
    ctl->watch_seconds = 0;
    if (watch != NULL && watch[0] == '\0')
        ctl->watch_seconds = 2;
    else if (watch != NULL && !flagctl_number(watch, 0.1, 86400, &ctl->watch_seconds))
        return usage_fail(ctl, "--watch takes 0.1 to 86400 seconds, got \"%.100s\"", watch);
    ctl->has_header = p->globals[GLOBAL_NO_HEADER] == NULL;
    ctl->file = p->globals[GLOBAL_FILE];
    p->line->instance = p->globals[GLOBAL_INSTANCE];
    p->line->dir = p->globals[GLOBAL_DIR];
    p->line->state_dir = p->globals[GLOBAL_STATE_DIR];
    p->line->socket = p->globals[GLOBAL_SOCKET];
    p->line->wants_help = p->globals[GLOBAL_HELP] != NULL;
    p->line->wants_version = p->globals[GLOBAL_VERSION] != NULL;
    return FLAGCTL_OK;
}

static int arguments_check(const struct parse *p)
{
    const struct flagctl_command *command = p->ctl->command;
    int count = p->line->argc;

    if (count < command->min_arguments)
        return usage_fail(p->ctl, "%s needs %s", command->name, command->arguments);
    if (command->max_arguments >= 0 && count > command->max_arguments)
        return usage_fail(p->ctl,
                          command->max_arguments == 0 ? "%s takes no argument, got \"%.100s\""
                                                      : "%s: one argument too many: \"%.100s\"",
                          command->name, p->line->argv[command->max_arguments]);
    return FLAGCTL_OK;
}

/* Faults that are found before the line is read to its end should be in the format that it asks for. */
static bool asks_for_json(int argc, char **argv)
{
    int i;
    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *word = argv[i];
        if (strcmp(word, "-ojson") == 0 || strcmp(word, "-o=json") == 0 || strcmp(word, "--output=json") == 0)
            return true;
        if ((strcmp(word, "-o") == 0 || strcmp(word, "--output") == 0) && i + 1 < argc &&
            strcmp(argv[i + 1], "json") == 0)
            return true;
    }
    return false;
}

int flagctl_options_parse(struct flagctl *ctl, struct flagctl_line *line, int argc, char **argv)
{
    struct parse p = {.ctl = ctl, .line = line, .argc = argc, .at = 1, .argv = argv};
    bool is_ended = false;
    int code;

    memset(line, 0, sizeof *line);
    line->argv = argv + 1; /* written behind where we read */
    ctl->is_terminal = isatty(STDOUT_FILENO) != 0;
    ctl->is_json = asks_for_json(argc, argv);
    for (; p.at < p.argc; p.at++) {
        char *word = argv[p.at];
        if (ctl->command != NULL && ctl->command->takes_all) {
            line->argv[line->argc++] = word;
        } else if (!is_ended && strcmp(word, "--") == 0) {
            is_ended = true;
        } else if (!is_ended && word[0] == '-' && word[1] != '\0') {
            if ((code = option_take(&p)) != FLAGCTL_OK)
                return code;
        } else if (ctl->command == NULL) {
            ctl->command = flagctl_command_find(word);
            if (ctl->command == NULL)
                return flagctl_no_command(ctl, word);
        } else {
            line->argv[line->argc++] = word;
        }
    }
    if (ctl->command == NULL) {
        if (p.globals[GLOBAL_HELP] == NULL)
            ctl->command = flagctl_commands[0];
        else
            p.globals[GLOBAL_WATCH] = NULL;
    }
    if ((code = globals_apply(&p)) != FLAGCTL_OK)
        return code;
    if (!line->wants_help && !line->wants_version)
        return arguments_check(&p);
    /* An id that looks like an option must not become a yes. */
    if (ctl->command != NULL && ctl->command->is_verdict && line->argc > 0)
        return usage_fail(ctl, "%s stands beside arguments: an id that begins with - goes behind --",
                          line->wants_help ? "--help" : "--version");
    return FLAGCTL_OK;
}
