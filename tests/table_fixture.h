/* table_fixture: what the tests of table, segment and snapshot share: flags from JSON text through the real
 * reader, compiled; a segment under an instance name of its own, removed at the end. */
#ifndef FLAGSHM_TESTS_TABLE_FIXTURE_H
#define FLAGSHM_TESTS_TABLE_FIXTURE_H

#include "server/flagfile.h"
#include "server/segment.h"
#include "server/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct table_fixture {
    struct flagshm_flagfile file;
    struct flagshm_table_entry *entries;
    size_t count;
    struct flagshm_table table;
};

/* Judged by the guardrails that the file names. */
__attribute__((unused)) static struct flagshm_table_entry table_fixture_entry(const struct flagshm_flag *flag)
{
    struct flagshm_table_entry entry = {.flag = flag, .wash_in_ns = UINT64_C(60000000000)};

    entry.guards = flag->has_guardrails ? flag->guards : NULL;
    return entry;
}

/* Reads the text; false where it has a fault. */
__attribute__((unused)) static bool table_fixture_parse(struct table_fixture *f, const char *text)
{
    struct flagshm_diags diags = {0};
    size_t errors, i;

    memset(f, 0, sizeof *f);
    if (flagshm_flagfile_parse(&f->file, text, strlen(text), NULL, &diags) != 0)
        return false;
    flagshm_diags_print(&diags, "flags.json", text, strlen(text), false, stderr);
    errors = diags.errors;
    flagshm_diags_free(&diags);
    f->count = f->file.count;
    f->entries = calloc(f->count + 1, sizeof *f->entries);
    for (i = 0; f->entries && i < f->count; i++)
        f->entries[i] = table_fixture_entry(&f->file.entries[i].flag);
    return errors == 0 && f->entries;
}

__attribute__((unused)) static void table_fixture_kill(struct table_fixture *f, const char *name)
{
    size_t i;

    for (i = 0; i < f->count; i++)
        if (strcmp(f->entries[i].flag->name, name) == 0)
            f->entries[i].is_killed = true;
}

__attribute__((unused)) static void table_fixture_free(struct table_fixture *f)
{
    flagshm_table_free(&f->table);
    free(f->entries);
    flagshm_flagfile_free(&f->file);
}

/* A text with `count` flags, named flag-0 and so on, all at `share` percent. malloc'ed. */
__attribute__((unused)) static char *table_fixture_text(size_t count, const char *share)
{
    char *text = NULL;
    size_t bytes = 0, i;
    FILE *out = open_memstream(&text, &bytes);

    fprintf(out, "{\"flags\": {");
    for (i = 0; i < count; i++)
        fprintf(out,
                "%s\"flag-%zu\": {\"control\": \"claude-haiku-4-5\", \"variant\": \"claude-sonnet-4-5\", "
                "\"rollout_pct\": %s}",
                i ? ", " : "", i, share);
    fprintf(out, "}}");
    fclose(out);
    return text;
}

/* An instance of its own for each test of each process. */
struct segment_fixture {
    char instance[33], dir[64];
    struct flagshm_segment_options options;
    char path[320];
};

__attribute__((unused)) static void segment_fixture_begin(struct segment_fixture *f, bool in_dir)
{
    static unsigned counter;

    memset(f, 0, sizeof *f);
    (void)snprintf(f->instance, sizeof f->instance, "t%d-%u", (int)getpid(), counter++);
    if (in_dir) {
        (void)snprintf(f->dir, sizeof f->dir, "/tmp/flagshm-test.XXXXXX");
        if (!mkdtemp(f->dir))
            abort();
        setenv("FLAGSHM_DIR", f->dir, 1);
    } else {
        unsetenv("FLAGSHM_DIR");
    }
    unsetenv("FLAGSHM_OWNER");
    setenv("FLAGSHM_INSTANCE", f->instance, 1);
    f->options = (struct flagshm_segment_options){
        .dir = in_dir ? f->dir : NULL, .instance = f->instance, .group = (gid_t)-1, .lock_wait_ms = 0};
    (void)snprintf(f->path, sizeof f->path, "%s/flagshm.%s.table", in_dir ? f->dir : "/dev/shm", f->instance);
}

__attribute__((unused)) static const char *segment_fixture_beside(const struct segment_fixture *f,
                                                                  const char *ending)
{
    static char path[336];

    (void)snprintf(path, sizeof path, "%s%s", f->path, ending);
    return path;
}

__attribute__((unused)) static void segment_fixture_end(struct segment_fixture *f)
{
    static const char *const endings[] = {"", ".lock", ".old", ".new"};
    size_t i;

    for (i = 0; i < sizeof endings / sizeof endings[0]; i++)
        (void)unlink(segment_fixture_beside(f, endings[i]));
    if (f->dir[0])
        (void)rmdir(f->dir);
}

/* Compiles the text for the segment and publishes it as the version after the served one. 0 or -errno. */
__attribute__((unused)) static int segment_fixture_publish(struct flagshm_segment *segment, const char *text,
                                                           const char *killed, struct flagshm_error *error)
{
    struct table_fixture f;
    int code;

    if (!table_fixture_parse(&f, text))
        abort();
    if (killed)
        table_fixture_kill(&f, killed);
    code = flagshm_table_build(&f.table, f.entries, f.count, segment->header ? &segment->geometry : NULL);
    if (code == 0)
        code = flagshm_segment_publish(segment, &f.table, flagshm_segment_version(segment) + 1, 1, error);
    table_fixture_free(&f);
    return code;
}

#endif
