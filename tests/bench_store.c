/* bench_store: flag files as teams have them, compiled and published by the server's own code. */
#include "tests/bench_common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

void bench_die(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "bench: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    exit(1);
}

const char (*bench_ids(void))[BENCH_ID_BYTES]
{
    static char ids[BENCH_IDS][BENCH_ID_BYTES];

    if (ids[0][0] == '\0') {
        size_t i;

        for (i = BENCH_IDS; i-- > 0;) /* the first one last: it says that all stand */
            (void)snprintf(ids[i], sizeof ids[i], "user-%07u", (unsigned)(i * 2654435761u % 10000000u));
    }
    return (const char(*)[BENCH_ID_BYTES])ids;
}

static void name_of(size_t number, char name[BENCH_NAME_BYTES])
{
    static const char *const teams[] = {"support", "checkout", "search", "billing",
                                        "inbox",   "docs",     "mobile", "growth"};
    static const char *const features[] = {"summarizer", "reranker", "classifier", "rewriter",
                                           "extractor",  "router",   "assistant",  "translator"};
    static const char *const knobs[] = {"model", "prompt", "temperature", "max_tokens", "tools"};

    if (number == BENCH_FLAG)
        (void)snprintf(name, BENCH_NAME_BYTES, "new_summarizer_model");
    else
        (void)snprintf(name, BENCH_NAME_BYTES, "%s.%s_%s_%zu", teams[number % 8], features[number / 8 % 8],
                       knobs[number / 64 % 5], number);
}

static const uint32_t share_of[] = {5, 0, 100, 25, 1, 50, 10, 75};

static void write_flag(FILE *out, size_t number, uint32_t hot_mpct)
{
    char name[BENCH_NAME_BYTES];

    name_of(number, name);
    fprintf(out, "%s    \"%s\": {\n", number == 0 ? "" : ",\n", name);
    if (number % 8 == BENCH_FLAG_OBJECTS)
        fprintf(
            out,
            "      \"control\": {\"model\": \"claude-haiku-4-5\", \"temperature\": 0.2, \"max_tokens\": 512, "
            "\"prompt\": \"Summarise the ticket for the next agent in three sentences.\"},\n"
            "      \"variant\": {\"model\": \"claude-sonnet-4-5\", \"temperature\": 0.2, \"max_tokens\": "
            "1024, "
            "\"prompt\": \"Summarise the ticket for the next agent. Name the customer's aim first.\"},\n");
    else
        fprintf(out, "      \"control\": \"claude-haiku-4-5\",\n      \"variant\": \"claude-sonnet-4-5\",\n");
    if (number == BENCH_FLAG)
        fprintf(out, "      \"rollout_pct\": %u.%03u\n    }", hot_mpct / 1000, hot_mpct % 1000);
    else
        fprintf(out, "      \"rollout_pct\": %u\n    }", share_of[number % 8]);
}

char *bench_store_text(size_t count, uint32_t hot_mpct, size_t *bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    size_t i;

    if (out == NULL)
        bench_die("no memory");
    fprintf(out, "{\n  \"flags\": {\n");
    for (i = 0; i < count; i++)
        write_flag(out, i, hot_mpct);
    fprintf(out, "\n  }\n}\n");
    if (fclose(out) != 0)
        bench_die("no memory");
    return text;
}

void bench_write_file(const char *path, const char *text, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t done = 0;

    while (fd >= 0 && done < bytes) {
        ssize_t part = write(fd, text + done, bytes - done);

        if (part < 0 && errno != EINTR)
            break;
        done += part > 0 ? (size_t)part : 0;
    }
    if (fd < 0 || done < bytes || close(fd) != 0)
        bench_die("%s: %s", path, strerror(errno));
}

static void compile(struct bench_store *store, struct flagshm_table *table, uint32_t hot_mpct)
{
    const struct flagshm_flagfile_options options = {.max_flags = store->count};
    struct flagshm_diags diags = {0};
    size_t i;
    int error;

    free(store->text);
    flagshm_flagfile_free(&store->file);
    store->text = bench_store_text(store->count, hot_mpct, &store->text_bytes);
    error = flagshm_flagfile_parse(&store->file, store->text, store->text_bytes, &options, &diags);
    if (error != 0 || diags.errors != 0) {
        flagshm_diags_print(&diags, "flags.json", store->text, store->text_bytes, false, stderr);
        bench_die("the flag file is not good (%s)", strerror(-error));
    }
    flagshm_diags_free(&diags);
    for (i = 0; i < store->count; i++)
        store->entries[i] = (struct flagshm_table_entry){.flag = &store->file.entries[i].flag};
    error = flagshm_table_build(table, store->entries, store->count,
                                store->segment.header != NULL ? &store->segment.geometry : NULL);
    if (error != 0)
        bench_die("%zu flags do not compile: %s", store->count, strerror(-error));
}

void bench_store_publish(struct bench_store *store)
{
    struct flagshm_error error = {{0}};

    store->version++;
    if (flagshm_segment_publish(&store->segment, &store->tables[store->version & 1], store->version, 1,
                                &error) != 0)
        bench_die("%s", error.text);
}

static void name_all(struct bench_store *store)
{
    uint64_t lot = 88172645463325252u;
    size_t i;

    for (i = 0; i < store->count; i++) {
        name_of(i, store->names[i]);
        store->shares[i] = share_of[i % 8];
        store->order[i] = (uint32_t)i;
    }
    for (i = store->count; i-- > 1;) { /* Fisher and Yates, by xorshift */
        uint32_t held = store->order[i];
        size_t other;

        lot ^= lot << 13;
        lot ^= lot >> 7;
        lot ^= lot << 17;
        other = (size_t)(lot % (i + 1));
        store->order[i] = store->order[other];
        store->order[other] = held;
    }
}

void bench_store_open(struct bench_store *store, const struct bench_setup *setup, size_t count)
{
    static unsigned counter;
    struct flagshm_segment_options options = {
        .dir = setup->dir, .group = (gid_t)-1, .stale_after_ns = UINT64_C(3600000000000)}; /* nobody beats */
    struct flagshm_error error = {{0}};

    memset(store, 0, sizeof *store);
    store->count = count;
    store->names = calloc(count, sizeof *store->names);
    store->shares = calloc(count, sizeof *store->shares);
    store->order = calloc(count, sizeof *store->order);
    store->entries = calloc(count, sizeof *store->entries);
    if (store->names == NULL || store->shares == NULL || store->order == NULL || store->entries == NULL)
        bench_die("no memory");
    name_all(store);
    (void)snprintf(store->instance, sizeof store->instance, "bench-%u", counter++);
    (void)snprintf(store->file_path, sizeof store->file_path, "%s/%s.json", setup->dir, store->instance);
    options.instance = store->instance;
    if (flagshm_segment_open(&store->segment, &options, &error) != 0)
        bench_die("%s", error.text);
    compile(store, &store->tables[1], 5000); /* for the odd versions: 1 comes first */
    bench_store_publish(store);
    compile(store, &store->tables[0], 6000);
    bench_store_publish(store); /* now both banks have been written */
    bench_store_publish(store);
    bench_write_file(store->file_path, store->text, store->text_bytes);
    if (flagshm_open(&store->handle, store->instance) != 0)
        bench_die("the table of %s cannot be opened", store->instance);
}

void bench_store_close(struct bench_store *store)
{
    char path[336];

    flagshm_close(&store->handle);
    (void)snprintf(path, sizeof path, "%s", store->segment.path);
    flagshm_segment_close(&store->segment);
    (void)unlink(path);
    (void)unlink(store->file_path);
    flagshm_table_free(&store->tables[0]);
    flagshm_table_free(&store->tables[1]);
    flagshm_flagfile_free(&store->file);
    free(store->text);
    free(store->entries);
    free(store->names);
    free(store->shares);
    free(store->order);
}
