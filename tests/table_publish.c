/* table_publish: publishes a flag file once, as the server would, for tests that need a table and no server.
 *
 *     table_publish --instance NAME FLAGS.json            publishes and ends; the table stays, its heartbeat ages
 *       --hold          stays, beats, and publishes the file anew at each line of standard input; at its end, ends
 *       --kill FLAG     (again and again) with the flag killed
 *       --all-control   with the switch set
 *       --silent-s N    with a heartbeat N seconds old
 *       --remove        takes the table away, and nothing else
 * Prints "version N" after each publish. Exit code 0 or 1.
 */
#include "server/flagfile.h"
#include "server/segment.h"
#include "tools/text.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct publishing {
    struct flagshm_segment segment;
    const char *instance, *file, *killed[16];
    size_t killed_count;
    bool holds, all_control, removes;
    long silent_s;
};

static int fail(const char *what, const char *why)
{
    (void)fprintf(stderr, "table_publish: %s: %s\n", what, why);
    return 1;
}

static bool is_killed(const struct publishing *p, const char *flag)
{
    size_t i;
    for (i = 0; i < p->killed_count; i++)
        if (strcmp(p->killed[i], flag) == 0)
            return true;
    return false;
}

static int publish_flags(struct publishing *p, const struct flagshm_flagfile *file, uint64_t version)
{
    struct flagshm_table_entry *entries = calloc(file->count + 1, sizeof *entries);
    struct flagshm_table table;
    struct flagshm_error error = {""};
    size_t count = 0, i;
    int code;

    if (entries == NULL)
        return fail(p->file, "out of memory");
    for (i = 0; i < file->count; i++) {
        if (file->entries[i].broken)
            continue;
        entries[count].flag = &file->entries[i].flag;
        entries[count++].is_killed = is_killed(p, file->entries[i].flag.name);
    }
    code =
        flagshm_table_build(&table, entries, count, p->segment.header != NULL ? &p->segment.geometry : NULL);
    if (code == 0) {
        code = flagshm_segment_publish(&p->segment, &table, version, version, &error);
        flagshm_table_free(&table);
    }
    free(entries);
    return code == 0 ? 0 : fail(p->file, error.text[0] != '\0' ? error.text : strerror(-code));
}

static int publish(struct publishing *p)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};
    struct flagshm_error error;
    size_t length = 0;
    char *text = flagctl_text_read(p->file, &length, &error);
    uint64_t version = flagshm_segment_version(&p->segment) + 1;
    int code;

    if (text == NULL)
        return fail(p->file, error.text);
    code = flagshm_flagfile_parse(&file, text, length, NULL, &diags);
    flagshm_diags_print(&diags, p->file, text, length, false, stderr);
    code = code == 0 && file.is_usable ? publish_flags(p, &file, version) : fail(p->file, "not usable");
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    free(text);
    if (code == 0)
        (void)printf("version %llu\n", (unsigned long long)version);
    (void)fflush(stdout);
    return code;
}

static int parse(struct publishing *p, int argc, char **argv)
{
    static const struct option options[] = {{"instance", 1, NULL, 'i'}, {"hold", 0, NULL, 'h'},
                                            {"kill", 1, NULL, 'k'},     {"all-control", 0, NULL, 'a'},
                                            {"silent-s", 1, NULL, 's'}, {"remove", 0, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'i')
            p->instance = optarg;
        else if (option == 'h')
            p->holds = true;
        else if (option == 'k' && p->killed_count < sizeof p->killed / sizeof *p->killed)
            p->killed[p->killed_count++] = optarg;
        else if (option == 'a')
            p->all_control = true;
        else if (option == 's')
            p->silent_s = strtol(optarg, NULL, 10);
        else if (option == 'r')
            p->removes = true;
        else
            return fail("usage", "see the top of table_publish.c");
    }
    p->file = optind < argc ? argv[optind] : NULL;
    return p->instance != NULL && (p->removes || p->file != NULL) ? 0 : fail("usage", "--instance NAME FILE");
}

int main(int argc, char **argv)
{
    struct publishing p = {.instance = NULL};
    struct flagshm_segment_options options = {.group = (gid_t)-1};
    struct flagshm_error error = {""};
    char path[4096] = "", line[64];
    int code;

    if (parse(&p, argc, argv) != 0)
        return 1;
    options.dir = getenv("FLAGSHM_DIR");
    options.instance = p.instance;
    if (p.file != NULL && realpath(p.file, path) == NULL)
        return fail(p.file, strerror(errno));
    options.file_path = path;
    code = flagshm_segment_open(&p.segment, &options, &error);
    if (code != 0)
        return fail(p.instance, error.text);
    if (p.removes) {
        (void)unlink(p.segment.path);
        (void)unlink(p.segment.lock_path);
        flagshm_segment_close(&p.segment);
        return 0;
    }
    code = publish(&p);
    if (code == 0) {
        flagshm_segment_set_all_control(&p.segment, p.all_control);
        (void)flagshm_segment_heartbeat(&p.segment);
    }
    if (code == 0 && p.silent_s != 0)
        __atomic_store_n(&p.segment.header->heartbeat_mono_ns,
                         flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) -
                             (uint64_t)p.silent_s * 1000000000u,
                         __ATOMIC_RELAXED);
    while (code == 0 && p.holds && fgets(line, sizeof line, stdin) != NULL) {
        (void)flagshm_segment_heartbeat(&p.segment);
        code = publish(&p);
    }
    flagshm_segment_close(&p.segment);
    return code;
}
