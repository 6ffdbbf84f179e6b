/* bench_report: keeps the rows as they are measured and prints them as one table, or as JSON. */
#include "tests/bench_common.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#define ROWS_MAX 400

static struct bench_row rows[ROWS_MAX];
static struct {
    char group[96], text[320];
} notes[64];
static size_t row_count, note_count;
static char group[96];

void bench_group(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(group, sizeof group, format, args);
    va_end(args);
}

void bench_note(const char *format, ...)
{
    va_list args;

    if (note_count == sizeof notes / sizeof notes[0])
        return;
    (void)snprintf(notes[note_count].group, sizeof notes[0].group, "%s", group);
    va_start(args, format);
    (void)vsnprintf(notes[note_count++].text, sizeof notes[0].text, format, args);
    va_end(args);
}

void bench_progress(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "bench: ");
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
}

void bench_row_add(const struct bench_row *row)
{
    if (row_count == ROWS_MAX)
        bench_die("over %d rows", ROWS_MAX);
    rows[row_count] = *row;
    (void)snprintf(rows[row_count++].group, sizeof rows[0].group, "%s", group);
}

static struct bench_row row_of(const struct bench_op *op, const char *against)
{
    struct bench_row row = {.value = bench_median(op->ns, op->rounds), .best = bench_min(op), .ratio = -1};

    (void)snprintf(row.what, sizeof row.what, "%s", op->what);
    (void)snprintf(row.against, sizeof row.against, "%s", against);
    return row;
}

void bench_row_plain(const struct bench_op *op)
{
    struct bench_row row = row_of(op, "");

    bench_row_add(&row);
}

void bench_row_times(const struct bench_op *op, const struct bench_op *against, const char *name, double goal)
{
    struct bench_row row = row_of(op, name);

    row.ratio = bench_ratio(op, against);
    row.goal = goal;
    row.goal_sign = goal > 0 ? '<' : 0;
    bench_row_add(&row);
}

void bench_row_rival(const struct bench_op *op, const struct bench_op *ours, const char *name, double goal)
{
    struct bench_row row = row_of(op, name);

    row.ratio = bench_ratio(op, ours);
    row.goal = goal;
    row.goal_sign = goal > 0 ? '>' : 0;
    bench_row_add(&row);
}

void bench_row_value(const char *what, enum bench_unit unit, double value, double best, char sign,
                     double goal)
{
    struct bench_row row = {
        .unit = unit, .value = value, .best = best, .ratio = -1, .goal_sign = sign, .goal = goal};

    (void)snprintf(row.what, sizeof row.what, "%s", what);
    bench_row_add(&row);
}

static bool is_met(const struct bench_row *row)
{
    double figure = row->ratio >= 0 ? row->ratio : row->value;

    return row->goal_sign == '<' ? figure <= row->goal : figure >= row->goal;
}

/* ---- for people ---- */

static const char *figure(char out[32], enum bench_unit unit, double value)
{
    if (value < 0 || isnan(value))
        (void)snprintf(out, 32, "-");
    else if (unit == BENCH_BYTES)
        (void)snprintf(out, 32, "%.4g KiB", value / 1024);
    else if (unit == BENCH_COUNT)
        (void)snprintf(out, 32, "%.0f", value);
    else if (unit == BENCH_PER_SECOND)
        (void)snprintf(out, 32, value < 1e5 ? "%.0f /s" : "%.2f M/s", value < 1e5 ? value : value / 1e6);
    else if (value < 999.5)
        (void)snprintf(out, 32, value < 9.95 ? "%.2f ns" : "%.1f ns", value);
    else if (value < 999.5e3)
        (void)snprintf(out, 32, value < 9.95e3 ? "%.2f us" : "%.1f us", value / 1e3);
    else
        (void)snprintf(out, 32, value < 9.95e6 ? "%.2f ms" : "%.1f ms", value / 1e6);
    return out;
}

static const char *number(char out[32], double value)
{
    (void)snprintf(out, 32, value < 9.95 ? "%.2f" : value < 99.5 ? "%.1f" : "%.0f", value);
    return out;
}

static void comparison(char out[128], const struct bench_row *row)
{
    char text[32];

    if (row->ratio < 0)
        out[0] = '\0';
    else if (row->is_percent)
        (void)snprintf(out, 128, "%+.1f %% against %s", (row->ratio - 1) * 100, row->against);
    else
        (void)snprintf(out, 128, "%s x %s", number(text, row->ratio), row->against);
}

static void aim(char out[64], const struct bench_row *row)
{
    char text[32];

    if (row->goal_sign == 0)
        out[0] = '\0';
    else if (row->is_percent)
        (void)snprintf(out, 64, "at most %+.0f %%", (row->goal - 1) * 100);
    else
        (void)snprintf(out, 64, "at %s %s", row->goal_sign == '<' ? "most" : "least",
                       row->ratio >= 0 ? number(text, row->goal) : figure(text, row->unit, row->goal));
}

static void print_row(const struct bench_row *row, bool says_again, bool has_colour)
{
    char median[32], best[32], against[128], goal[64];

    comparison(against, row);
    aim(goal, row);
    printf("  %-42s %10s %10s  %-40s %-17s", says_again ? "" : row->what,
           says_again ? "" : figure(median, row->unit, row->value),
           says_again ? "" : figure(best, row->unit, row->best), against, goal);
    if (row->goal_sign != 0) {
        bool met = is_met(row);

        printf("%s%s%s", has_colour ? met ? "\033[32m" : "\033[31m" : "", met ? "met" : "NOT MET",
               has_colour ? "\033[0m" : "");
    }
    printf("\n");
}

static void print_notes(const char *of)
{
    size_t i;

    for (i = 0; i < note_count; i++)
        if (strcmp(notes[i].group, of) == 0)
            printf("  (%s)\n", notes[i].text);
}

static void print_table(void)
{
    bool has_colour = isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL;
    size_t goals = 0, met = 0, i;

    for (i = 0; i < row_count; i++) {
        bool begins = i == 0 || strcmp(rows[i].group, rows[i - 1].group) != 0;

        if (begins)
            printf("\n%-44s %10s %10s\n", rows[i].group, strlen(rows[i].group) > 44 ? "" : "median",
                   strlen(rows[i].group) > 44 ? "" : "min");
        print_row(&rows[i], !begins && strcmp(rows[i].what, rows[i - 1].what) == 0, has_colour);
        if (i + 1 == row_count || strcmp(rows[i].group, rows[i + 1].group) != 0)
            print_notes(rows[i].group);
        goals += rows[i].goal_sign != 0;
        met += rows[i].goal_sign != 0 && is_met(&rows[i]);
    }
    printf("\n%zu of %zu goals met\n", met, goals);
}

/* For the README: the rows that have a goal. */
static void print_markdown(void)
{
    size_t i;

    printf("\n| measured | median | ratio | goal | |\n|---|---:|---|---|---|\n");
    for (i = 0; i < row_count; i++) {
        const struct bench_row *row = &rows[i];
        char median[32], against[128], goal[64];

        if (row->goal_sign == 0)
            continue;
        comparison(against, row);
        aim(goal, row);
        printf("| %s; %s | %s | %s | %s | %s |\n", row->group, row->what,
               figure(median, row->unit, row->value), against, goal, is_met(row) ? "met" : "**not met**");
    }
}

/* ---- the machine ---- */

static void cpu_model(char out[128])
{
    FILE *in = fopen("/proc/cpuinfo", "re");
    char line[256];

    (void)snprintf(out, 128, "unknown processor");
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            (void)snprintf(out, 128, "%.120s", strchr(line, ':') + 2);
            out[strcspn(out, "\n")] = '\0';
            break;
        }
    if (in != NULL)
        (void)fclose(in);
}

struct machine {
    char cpu[128], kernel[80], compiler[80];
    long cores;
    double load;
};

static void look_at_machine(struct machine *m)
{
    struct utsname system;

    cpu_model(m->cpu);
    m->cores = sysconf(_SC_NPROCESSORS_ONLN);
    (void)snprintf(m->kernel, sizeof m->kernel, "%s", uname(&system) == 0 ? system.release : "?");
#ifdef __clang__
    (void)snprintf(m->compiler, sizeof m->compiler, "clang %d.%d", __clang_major__, __clang_minor__);
#else
    (void)snprintf(m->compiler, sizeof m->compiler, "gcc %d.%d", __GNUC__, __GNUC_MINOR__);
#endif
    if (getloadavg(&m->load, 1) != 1)
        m->load = 0;
}

/* ---- for machines ---- */

static void print_json(const struct machine *m)
{
    static const char *const units[] = {"ns", "bytes", "per_second", "count"};
    cJSON *root = cJSON_CreateObject(), *machine = cJSON_AddObjectToObject(root, "machine"), *list;
    char *text;
    size_t i;

    cJSON_AddStringToObject(machine, "cpu", m->cpu);
    cJSON_AddNumberToObject(machine, "cores", (double)m->cores);
    cJSON_AddStringToObject(machine, "kernel", m->kernel);
    cJSON_AddStringToObject(machine, "compiler", m->compiler);
    cJSON_AddNumberToObject(machine, "load", m->load);
    list = cJSON_AddArrayToObject(root, "rows");
    for (i = 0; i < row_count; i++) {
        const struct bench_row *row = &rows[i];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddStringToObject(item, "group", row->group);
        cJSON_AddStringToObject(item, "what", row->what);
        cJSON_AddStringToObject(item, "unit", units[row->unit]);
        cJSON_AddNumberToObject(item, "median", row->value);
        if (row->best >= 0)
            cJSON_AddNumberToObject(item, "min", row->best);
        if (row->ratio >= 0) {
            cJSON_AddStringToObject(item, "against", row->against);
            cJSON_AddNumberToObject(item, "ratio", row->ratio);
        }
        if (row->goal_sign != 0) {
            cJSON_AddNumberToObject(item, row->goal_sign == '<' ? "at_most" : "at_least", row->goal);
            cJSON_AddBoolToObject(item, "met", is_met(row));
        }
        cJSON_AddItemToArray(list, item);
    }
    list = cJSON_AddArrayToObject(root, "notes");
    for (i = 0; i < note_count; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(notes[i].text));
    text = cJSON_Print(root);
    if (text == NULL)
        bench_die("no memory");
    printf("%s\n", text);
    cJSON_free(text);
    cJSON_Delete(root);
}

void bench_report_print(const struct bench_setup *setup)
{
    struct machine m;

    look_at_machine(&m);
    if (setup->is_json) {
        print_json(&m);
        return;
    }
    printf("%s, %ld cores, Linux %s, %s; flagshm %s\n", m.cpu, m.cores, m.kernel, m.compiler,
           FLAGSHM_VERSION);
    if (m.load > (double)m.cores)
        printf("The machine is busy (load %.1f): expect noise.\n", m.load);
    if (setup->is_markdown)
        print_markdown();
    else
        print_table();
}
