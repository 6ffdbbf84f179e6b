/* bench_main: reads the options, runs the groups, prints the report. tests/bench starts it and brings what it needs. */
#include "tests/bench_common.h"

#include <getopt.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>

static const struct {
    const char *name;
    void (*run)(const struct bench_setup *setup);
} groups[] = {
    {"decide", bench_group_decide},     {"read", bench_group_read},       {"writer", bench_group_writer},
    {"readers", bench_group_readers},   {"publish", bench_group_publish}, {"process", bench_group_process},
    {"latency", bench_group_latency},   {"assign", bench_group_assign},   {"record", bench_group_record},
    {"rollouts", bench_group_rollouts},
};
#define GROUPS (sizeof groups / sizeof groups[0])

static void usage(void)
{
    size_t i;

    fprintf(stderr, "usage: flagshm_bench --dir DIRECTORY [--bin DIRECTORY] [--redis SOCKET] [--quick] "
                    "[--count] [-o json|markdown] "
                    "[--only GROUP]\ngroups:");
    for (i = 0; i < GROUPS; i++)
        fprintf(stderr, " %s", groups[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

static void find_cpus(struct bench_setup *setup)
{
    cpu_set_t set;
    int cpu, found = 0;

    setup->cpu[0] = setup->cpu[1] = -1;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return;
    for (cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET((size_t)cpu, &set))
            setup->cpu[found++] = cpu;
}

static bool is_group(const char *name)
{
    size_t i;

    for (i = 0; i < GROUPS; i++)
        if (strcmp(name, groups[i].name) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"bin", required_argument, NULL, 'b'},
                                            {"redis", required_argument, NULL, 'r'},
                                            {"only", required_argument, NULL, 'g'},
                                            {"quick", no_argument, NULL, 'q'},
                                            {"count", no_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    struct bench_setup setup = {0};
    bool counts = false;
    size_t i;
    int option;

    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20); /* as flagshmd does */
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
    while ((option = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
        if (option == 'd')
            setup.dir = optarg;
        else if (option == 'b')
            setup.bin = optarg;
        else if (option == 'r')
            setup.redis_socket = optarg;
        else if (option == 'g' && is_group(optarg))
            setup.only = optarg;
        else if (option == 'q')
            setup.is_quick = true;
        else if (option == 'c')
            counts = true;
        else if (option == 'o' && strcmp(optarg, "json") == 0)
            setup.is_json = true;
        else if (option == 'o' && strcmp(optarg, "markdown") == 0)
            setup.is_markdown = true;
        else
            usage();
    }
    if (setup.dir == NULL || optind != argc)
        usage();
    (void)unsetenv("FLAGSHM_OWNER");
    (void)setenv("FLAGSHM_DIR", setup.dir, 1);
    find_cpus(&setup);
    bench_pin(setup.cpu[0]);
    if (counts)
        return bench_count(&setup);
    for (i = 0; i < GROUPS; i++)
        if (setup.only == NULL || strcmp(setup.only, groups[i].name) == 0)
            groups[i].run(&setup);
    bench_report_print(&setup);
    return 0;
}
