/* flagctl: what the subcommands share: the table of commands, how one fails, how a table is printed.
 *
 * One file a subcommand (cmd_NAME.c), named in the table of flagctl.c. From that table come --help, the man
 * page's list and the completions, so they cannot disagree. A command prints its result to `out` and nothing
 * else there; errors go to stderr (as JSON with -o json) through flagctl_fail.
 */
#ifndef FLAGSHM_TOOLS_FLAGCTL_H
#define FLAGSHM_TOOLS_FLAGCTL_H

#include "client/flagshm.h"
#include "server/error.h"
#include "server/instance.h"
#include "server/snapshot.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

enum flagctl_exit {
    FLAGCTL_OK = 0,
    FLAGCTL_FAILED = 1,
    FLAGCTL_USAGE = 2,
    FLAGCTL_TRIPPED = 3,
    FLAGCTL_NO_FLAG = 4,
    FLAGCTL_UNREACHABLE = 5, /* server or segment not there, or stale */
    FLAGCTL_FILE_ERRORS = 6,
    FLAGCTL_CONFLICT = 7,
    FLAGCTL_TIMED_OUT = 8,
    FLAGCTL_PERSON = 9 /* of status --wait: a person has to do something */
};

/* What an argument or an option's value is: completions offer the right things. */
enum flagctl_kind {
    FLAGCTL_NOTHING,
    FLAGCTL_FLAG,
    FLAGCTL_ID,
    FLAGCTL_NUMBER,
    FLAGCTL_PATH,
    FLAGCTL_WORD,
    FLAGCTL_COMMAND,
    FLAGCTL_SHELL,
    FLAGCTL_WAIT /* why a rollout does not advance */
};

struct flagctl_option {
    const char *name;  /* long, without "--" */
    char letter;       /* 0: none */
    const char *value; /* name of its value, NULL: a switch */
    enum flagctl_kind kind;
    const char *help;
};

struct flagctl;

struct flagctl_command {
    const char *name;
    const char *
        group; /* heading in --help: "Look", "For shells", "Change the file", "Ask the server"; NULL: hidden */
    const char *arguments;               /* as shown: "FLAG ID..." */
    enum flagctl_kind argument_kinds[4]; /* the last repeats */
    const char *summary;                 /* one line, no stop */
    const char *help; /* paragraphs: what it does, exit codes beyond the usual, the JSON's keys */
    const struct flagctl_option *options;                   /* ends in {0}; NULL: none */
    int min_arguments, max_arguments;                       /* max < 0: any number */
    int (*run)(struct flagctl *ctl, int argc, char **argv); /* the arguments alone; options are asked for */
    bool can_watch;                                         /* heeds --watch; all others refuse it */
    bool is_verdict; /* exit code 0 is an answer: nothing else may end so where there are arguments */
    /* Where not NULL: what a line that is wrong ends in, having said so; its result is the exit code. */
    int (*rescue)(struct flagctl *ctl, int argc, char **argv);
    bool takes_all; /* every word after the name is an argument, also those with a dash */
};

#define FLAGCTL_OPTIONS_MAX 16

struct flagctl {
    const struct flagctl_command *command;
    struct flagshm_instance
        instance; /* flagctl_client sets socket and state directory to the segment's, unless they were given */
    const char *file;               /* --file, NULL: not given */
    bool has_state_dir, has_socket; /* given by option */
    bool is_json;                   /* -o json */
    bool is_colour;                 /* standard output is a terminal, or --color=always; NO_COLOR heeded */
    bool is_terminal;
    bool has_header;      /* --no-header */
    bool is_stream;       /* result after result: JSON is one object a line, also on a terminal */
    double watch_seconds; /* --watch[=SECONDS]; 0: once */
    FILE *out;
    /* Of the command's options, in their order; NULL: not given; "" for a switch. */
    const char *option_values[FLAGCTL_OPTIONS_MAX];
    struct flagshm client;
    bool is_client_open;
    int client_code; /* what flagshm_open said */
    char file_path[sizeof(((struct flagshm_header *)0)->file_path)];
};

/* Value of an option of the running command; NULL: not given. */
const char *flagctl_option(const struct flagctl *ctl, const char *name);

/* Prints "flagctl: MESSAGE" (red "flagctl:" on a terminal) to stderr, with -o json {"error":{"code":N,"message":...}}. Returns `code`. */
int flagctl_fail(const struct flagctl *ctl, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "flagctl: warning: ..." to stderr. */
void flagctl_warn(const struct flagctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The handle of the instance's table, opened once. Its result is flagshm_open's. */
int flagctl_client(struct flagctl *ctl, struct flagshm **client);
/* A snapshot of the served table; on failure says so (FLAGCTL_UNREACHABLE and the mend) and returns that code, else 0. */
int flagctl_snapshot(struct flagctl *ctl, struct flagshm_snapshot *snapshot);
/* Says that there is no such flag, with "did you mean"; returns FLAGCTL_NO_FLAG. */
int flagctl_no_flag(struct flagctl *ctl, const struct flagshm_snapshot *snapshot, const char *flag);
/* The same where no snapshot is at hand: takes one. */
int flagctl_no_such_flag(struct flagctl *ctl, const char *flag);
/* Path of the instance's flag file: --file where given, else the one that the segment names; NULL, having said so, where neither. */
const char *flagctl_file(struct flagctl *ctl);

/* Asks the server {"verb": verb, ...request}; takes over `request` (NULL: only the verb). 0 and *answer (the caller's); else it has
 * said what is wrong and returns an exit code (the server's "code" word mapped; "already" is 0: look into the answer). `quiet_unreachable`: returns FLAGCTL_UNREACHABLE
 * without a word, for callers that have another way. */
int flagctl_ask(struct flagctl *ctl, const char *verb, cJSON *request, bool quiet_unreachable,
                cJSON **answer);

/* Prints an object or list to out, indented on a terminal, else one line; frees it. Returns FLAGCTL_OK, or FLAGCTL_FAILED where
 * the output cannot be written. */
int flagctl_json(struct flagctl *ctl, cJSON *json);

/* Adds a number without loss (doubles end at 2^53). */
void flagctl_json_u64(cJSON *object, const char *key, uint64_t number);
void flagctl_json_i64(cJSON *object, const char *key, int64_t number);
/* Whole numbers of an answer came through doubles: has them printed as whole ones, not as 1.8e+15. */
void flagctl_json_whole(cJSON *json);
/* Adds a share in percent. */
void flagctl_json_share(cJSON *object, const char *key, uint32_t mpct);

/* Copies a text with control characters, and what is no UTF-8, shown as '?': what comes from a table, a file or the command line
 * must not steer the terminal. Cut at room - 1 bytes, between characters. Returns `out`. */
char *flagctl_clean(const char *text, char *out, size_t room);
/* A plain decimal within min...max. */
bool flagctl_number(const char *text, double min, double max, double *number);

/* ---- tables: all cells are texts; widths count terminal columns; control characters show as '?' ---- */
struct flagctl_table;
enum flagctl_hue { FLAGCTL_PLAIN, FLAGCTL_GREEN, FLAGCTL_YELLOW, FLAGCTL_RED, FLAGCTL_DIM, FLAGCTL_BOLD };
/* `headings` ends in NULL; a heading that begins with '>' is right-aligned. */
struct flagctl_table *flagctl_table_new(const char *const *headings);
void flagctl_table_cell(struct flagctl_table *table, enum flagctl_hue hue, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void flagctl_table_print(struct flagctl *ctl, struct flagctl_table *table); /* and frees it */
void flagctl_table_drop(struct flagctl_table *table);                       /* frees it */

/* RFC 3339 in UTC, "-" for 0. Returns `out`. */
char *flagctl_time(uint64_t realtime_ns, char out[40]);
/* "3 s", "12 min", "4 h", "2 d". Returns `out`. */
char *flagctl_span(int64_t ns, char out[24]);
/* "5 %", "0.125 %". Returns `out`. */
char *flagctl_share(uint32_t mpct, char out[24]);

/* The commands, in the order of --help; ends in an entry whose name is NULL. Defined in flagctl.c. */
extern const struct flagctl_command *const flagctl_commands[];

#endif
