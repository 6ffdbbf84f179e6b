/* bench_publish: what the server does with an edit: read the file, scan and parse it, compile, publish.
 * And how large the segment is. All steps are of a file that is read from nothing; beside them stands what
 * a file costs of which one flag has changed. */
#include "tests/bench_common.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ, PARSE, COMPILE, PUBLISH, WHOLE, PARSE_EDIT, STEPS };

static char *read_file(const char *path, size_t *bytes)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;

    if (fd < 0 || fstat(fd, &status) != 0 || (text = malloc((size_t)status.st_size + 1)) == NULL ||
        read(fd, text, (size_t)status.st_size) != status.st_size)
        bench_die("%s cannot be read", path);
    (void)close(fd);
    *bytes = (size_t)status.st_size;
    text[*bytes] = '\0';
    return text;
}

/* The same text once more, as an edit of the one before; it becomes the one before. */
static double parse_edit(struct flagshm_flagfile *before, const char *text, size_t bytes,
                         const struct flagshm_flagfile_options *options)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};
    uint64_t begin = bench_own_ns(), end;

    if (flagshm_flagfile_parse_edit(&file, before, text, bytes, options, &diags) != 0 || diags.errors != 0)
        bench_die("the edit is not good");
    end = bench_own_ns();
    flagshm_flagfile_free(before);
    flagshm_diags_free(&diags);
    *before = file;
    return (double)(end - begin);
}

/* One edit, each step's time into ns. */
static void edit(struct bench_store *store, struct flagshm_flagfile *before, const char *path,
                 double ns[STEPS])
{
    const struct flagshm_flagfile_options options = {.max_flags = store->count};
    struct flagshm_flagfile file = {0};
    struct flagshm_diags diags = {0};
    struct flagshm_table table;
    struct flagshm_error error;
    uint64_t at[WHOLE + 1];
    size_t bytes, i;
    char *text;

    at[READ] = bench_own_ns();
    text = read_file(path, &bytes);
    at[PARSE] = bench_own_ns();
    if (flagshm_flagfile_parse(&file, text, bytes, &options, &diags) != 0 || diags.errors != 0)
        bench_die("%s is not good", path);
    at[COMPILE] = bench_own_ns();
    for (i = 0; i < file.count; i++)
        store->entries[i] = (struct flagshm_table_entry){.flag = &file.entries[i].flag};
    if (flagshm_table_build(&table, store->entries, file.count, &store->segment.geometry) != 0)
        bench_die("%s does not compile", path);
    at[PUBLISH] = bench_own_ns();
    if (flagshm_segment_publish(&store->segment, &table, ++store->version, 1, &error) != 0)
        bench_die("%s", error.text);
    at[WHOLE] = bench_own_ns();
    for (i = READ; i < WHOLE; i++)
        ns[i] = (double)(at[i + 1] - at[i]);
    ns[WHOLE] = (double)(at[WHOLE] - at[READ]);
    ns[PARSE_EDIT] = parse_edit(before, text, bytes, &options);
    flagshm_table_free(&table);
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    free(text);
}

static void edits(const struct bench_setup *setup, size_t count, int rounds)
{
    static const char *const names[STEPS] = {"read the file", "scan, parse and check",
                                             "compile",       "publish",
                                             "all of it",     "scan, parse and check an edit"};
    struct bench_op ops[STEPS] = {{0}};
    struct flagshm_flagfile before = {0};
    struct bench_store store;
    char paths[2][320];
    int round, step;
    double ns[STEPS];

    bench_store_open(&store, setup, count);
    for (step = 0; step < 2; step++) {
        size_t bytes;
        char *text = bench_store_text(count, 5000 + (uint32_t)step, &bytes);

        (void)snprintf(paths[step], sizeof paths[step], "%s.%d", store.file_path, step);
        bench_write_file(paths[step], text, bytes);
        free(text);
    }
    edit(&store, &before, paths[1], ns); /* warm */
    for (round = 0; round < rounds; round++) {
        edit(&store, &before, paths[round & 1], ns);
        for (step = 0; step < STEPS; step++) {
            ops[step].what = names[step];
            ops[step].ns[round] = ns[step];
            ops[step].rounds = round + 1;
        }
    }
    bench_group("One edit in the server, %zu flags, %zu KB", count, store.text_bytes / 1000);
    for (step = 0; step < STEPS; step++)
        bench_row_value(names[step], BENCH_NS, bench_median(ops[step].ns, rounds), bench_min(&ops[step]),
                        count == 1000 && step == WHOLE ? '<' : 0, 1e6);
    bench_row_value("the segment, both banks", BENCH_BYTES, (double)store.segment.geometry.segment_bytes, -1,
                    count == 1000 ? '<' : 0, 1048576);
    flagshm_flagfile_free(&before);
    (void)unlink(paths[0]);
    (void)unlink(paths[1]);
    bench_store_close(&store);
}

void bench_group_publish(const struct bench_setup *setup)
{
    bench_progress("publishing");
    edits(setup, 10, setup->is_quick ? 31 : 101);
    edits(setup, 1000, setup->is_quick ? 31 : 101);
    edits(setup, 10000, setup->is_quick ? 5 : 15);
}
