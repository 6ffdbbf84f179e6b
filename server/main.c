/* flagshmd: reads its options and serves; all else stands in server.c. */
#include "client/flagshm.h"
#include "server/flagfile.h"
#include "server/instance.h"
#include "server/notify.h"
#include "server/server.h"

#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_BAD_USAGE = 2,
    EXIT_SECOND_SERVER = 3,
    EXIT_NOT_PERMITTED = 4,
    EXIT_NO_SPACE = 5
};

static const char help_text[] =
    "usage: flagshmd --file FLAGS.json [OPTION...]\n"
    "\n"
    "Watches a flag file and serves it to all processes of this host through shared memory.\n"
    "Runs in the foreground and logs to standard error.\n"
    "\n"
    "  -f, --file FILE          the flag file (needed); it may appear later\n"
    "  -i, --instance NAME      name of this instance                ($FLAGSHM_INSTANCE, or default)\n"
    "      --dir DIR            keep the table as a file in DIR      ($FLAGSHM_DIR, or POSIX shared memory)\n"
    "      --state-dir DIR      journal, kills and last good file    (/var/lib/flagshm/NAME)\n"
    "      --socket PATH        control socket for flagctl           (/run/flagshm/NAME.sock)\n"
    "      --group GROUP        group of the table and of the outcomes that clients book\n"
    "      --table-mode MODE    mode of the table, octal             (0644)\n"
    "      --notify-dir DIR     targets of notices: a file each       (/etc/flagshm/notify.d)\n"
    "      --admin-group GROUP  group that may kill and unkill beside root and this user\n"
    "      --max-flags N        refuse a file with more flags        (10000)\n"
    "      --stale-after SEC    silence after which guarded flags give control  (10)\n"
    "  -h, --help               this text\n"
    "      --version            release, header and layout\n"
    "\n"
    "Signals: SIGTERM and SIGINT end it (readers go on with the last table), SIGHUP reads the file again.\n"
    "Exit codes: 0 ended by a signal, 1 failed, 2 usage, 3 another server runs this instance,\n"
    "4 not permitted, 5 no room for the table.\n";

struct arguments {
    const char *file, *instance, *dir, *state_dir, *socket, *notify_dir;
    gid_t group, admin_group;
    mode_t table_mode;
    size_t max_flags;
    uint64_t stale_after_ns;
};

enum {
    OPTION_DIR = 256,
    OPTION_STATE_DIR,
    OPTION_SOCKET,
    OPTION_NOTIFY_DIR,
    OPTION_GROUP,
    OPTION_TABLE_MODE,
    OPTION_ADMIN_GROUP,
    OPTION_MAX_FLAGS,
    OPTION_STALE_AFTER,
    OPTION_VERSION
};

static const struct option options[] = {{"file", required_argument, NULL, 'f'},
                                        {"instance", required_argument, NULL, 'i'},
                                        {"dir", required_argument, NULL, OPTION_DIR},
                                        {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
                                        {"socket", required_argument, NULL, OPTION_SOCKET},
                                        {"notify-dir", required_argument, NULL, OPTION_NOTIFY_DIR},
                                        {"group", required_argument, NULL, OPTION_GROUP},
                                        {"table-mode", required_argument, NULL, OPTION_TABLE_MODE},
                                        {"admin-group", required_argument, NULL, OPTION_ADMIN_GROUP},
                                        {"max-flags", required_argument, NULL, OPTION_MAX_FLAGS},
                                        {"stale-after", required_argument, NULL, OPTION_STALE_AFTER},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, OPTION_VERSION},
                                        {NULL, 0, NULL, 0}};

static bool complain(const char *option, const char *expected, const char *got)
{
    fprintf(stderr, "flagshmd: %s must be %s, got \"%s\"\n", option, expected, got);
    return false;
}

/* A whole number min..max in the given base. */
static bool read_number(const char *option, const char *expected, const char *text, int base,
                        unsigned long long min, unsigned long long max, unsigned long long *number)
{
    char *end;

    *number = strtoull(text, &end, base);
    if (*text < '0' || *text > '9' || *end != '\0' || *number < min || *number > max)
        return complain(option, expected, text);
    return true;
}

static bool read_group(const char *option, const char *text, gid_t *group)
{
    const struct group *entry = getgrnam(text);
    unsigned long long number;
    char *end;

    if (entry != NULL) {
        *group = entry->gr_gid;
        return true;
    }
    number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || number >= UINT_MAX)
        return complain(option, "the name or number of a group of this host", text);
    *group = (gid_t)number;
    return true;
}

static bool read_mode(const char *text, mode_t *mode)
{
    unsigned long long number;

    if (!read_number("--table-mode", "an octal mode such as 0644", text, 8, 0, 0777, &number))
        return false;
    if ((number & 0022) != 0 || (number & 0600) != 0600)
        return complain("--table-mode", "a mode that the owner can read and write and nobody else can write",
                        text);
    *mode = (mode_t)number;
    return true;
}

static bool read_option(struct arguments *a, int option)
{
    unsigned long long number = 0;

    switch (option) {
    case 'f':
        a->file = optarg;
        return true;
    case 'i':
        a->instance = optarg;
        return true;
    case OPTION_DIR:
        a->dir = optarg;
        return true;
    case OPTION_STATE_DIR:
        a->state_dir = optarg;
        return true;
    case OPTION_SOCKET:
        a->socket = optarg;
        return true;
    case OPTION_NOTIFY_DIR:
        a->notify_dir = optarg;
        return true;
    case OPTION_GROUP:
        return read_group("--group", optarg, &a->group);
    case OPTION_ADMIN_GROUP:
        return read_group("--admin-group", optarg, &a->admin_group);
    case OPTION_TABLE_MODE:
        return read_mode(optarg, &a->table_mode);
    case OPTION_MAX_FLAGS:
        if (!read_number("--max-flags", "a whole number 1..1000000", optarg, 10, 1, 1000000, &number))
            return false;
        a->max_flags = (size_t)number;
        return true;
    case OPTION_STALE_AFTER:
        if (!read_number("--stale-after", "whole seconds 3..3600", optarg, 10, 3, 3600, &number))
            return false;
        a->stale_after_ns = number * 1000000000u;
        return true;
    default:
        fprintf(stderr, "Try `flagshmd --help`.\n");
        return false;
    }
}

static int print_version(void)
{
    printf("flagshmd %s\nheader   %s\nlayout   %u.%u\n", FLAGSHM_VERSION, FLAGSHM_VERSION,
           FLAGSHM_LAYOUT_MAJOR, FLAGSHM_LAYOUT_MINOR);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

/* -1: go on; else the exit code. */
static int read_arguments(struct arguments *a, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "f:i:h", options, NULL)) != -1) {
        if (option == 'h')
            return fputs(help_text, stdout) >= 0 && fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
        if (option == OPTION_VERSION)
            return print_version();
        if (!read_option(a, option))
            return EXIT_BAD_USAGE;
    }
    if (optind < argc)
        fprintf(stderr, "flagshmd: \"%s\" is one argument too many; the flag file is named by --file\n",
                argv[optind]);
    else if (a->file == NULL || a->file[0] == '\0')
        fprintf(stderr, "flagshmd: --file FLAGS.json is missing\n");
    else
        return -1;
    fprintf(stderr, "Try `flagshmd --help`.\n");
    return EXIT_BAD_USAGE;
}

/* Tools find the file by the table: from any directory. */
static bool make_absolute(const char *path, char *out, size_t size)
{
    char here[PATH_MAX];
    int length;

    if (path[0] == '/')
        length = snprintf(out, size, "%s", path);
    else if (getcwd(here, sizeof here) != NULL)
        length = snprintf(out, size, "%s/%s", here, path);
    else
        length = -1;
    return length > 0 && (size_t)length < size;
}

/* Each edit takes and gives back the memory of a whole file. Given back to the kernel, it would come again page by page: more than
 * half of the time from edit to table. So up to this much is kept. */
static void keep_memory(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

static int exit_code_of(int error)
{
    switch (error) {
    case 0:
        return EXIT_DONE;
    case -EBUSY:
        return EXIT_SECOND_SERVER;
    case -EPERM:
    case -EACCES:
    case -EROFS:
        return EXIT_NOT_PERMITTED;
    case -ENOSPC:
    case -EDQUOT:
        return EXIT_NO_SPACE;
    default:
        return EXIT_FAILED;
    }
}

int main(int argc, char **argv)
{
    static char file[2048]; /* as long as the table has room for */
    static struct flagshm_instance instance;
    struct arguments a = {
        .group = (gid_t)-1, .admin_group = (gid_t)-1, .stale_after_ns = UINT64_C(10000000000)};
    struct flagshm_error error = {{0}};
    struct flagshm_server_options server = {0};
    int code = read_arguments(&a, argc, argv), result;

    if (code >= 0)
        return code;
    if (!make_absolute(a.file, file, sizeof file)) {
        fprintf(stderr, "flagshmd: the path of the flag file is too long (at most %zu bytes)\n",
                sizeof file - 1);
        return EXIT_BAD_USAGE;
    }
    if (flagshm_instance_resolve(&instance, a.instance, a.dir, a.state_dir, a.socket, &error) != 0) {
        fprintf(stderr, "flagshmd: %s\n", error.text);
        return EXIT_BAD_USAGE;
    }
    server.publisher.segment =
        (struct flagshm_segment_options){.dir = instance.dir[0] != '\0' ? instance.dir : NULL,
                                         .instance = instance.name,
                                         .mode = a.table_mode,
                                         .group = a.group,
                                         .period_ns = UINT64_C(1000000000),
                                         .stale_after_ns = a.stale_after_ns,
                                         .socket_path = instance.socket_path,
                                         .state_dir = instance.state_dir,
                                         .file_path = file,
                                         .lock_wait_ms = -1};
    server.publisher.state_dir = instance.state_dir;
    server.publisher.file_path = file;
    server.publisher.max_flags = a.max_flags;
    server.socket_path = instance.socket_path;
    server.instance = instance.name;
    server.notify_dir = a.notify_dir != NULL ? a.notify_dir : FLAGSHM_NOTIFY_DIR;
    server.admin_group = a.admin_group;
    keep_memory();
    result = flagshm_server_run(&server, &error);
    if (result != 0)
        fprintf(stderr, "flagshmd: %s\n", error.text);
    return exit_code_of(result);
}
