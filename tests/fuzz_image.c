/* fuzz_image: hostile bytes in a table, through attaching and every way of reading it.
 *
 * An input is a list of changes to a good image (where, how many bytes, which); with 0xff first it is laid over the image as it is. The
 * image lies in a heap block of its exact size, so that the address sanitizer sees each byte read beyond it. Whatever the bytes say,
 * decisions must come, be well formed, and be control on every doubt.
 *
 * With libFuzzer it is the target. With FLAGSHM_FUZZ_MAIN it is a program: fuzz_image [IMAGES [SEED]] makes so many random inputs, puts
 * some of the images through real files, and reads while a thread scribbles over the image; files that are named instead are run. */
#undef NDEBUG
#include "fuzz_files.h"
#include "image_fixture.h"
#include "server/flagfile.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VALUE_MAX 4096u

static const char FLAGS[] =
    "{\"flags\": {"
    "\"f\": {\"control\": \"old\", \"variant\": \"new\", \"rollout_pct\": 50, \"force\": {\"variant\": "
    "[\"u1\", \"forced\"]}},"
    "\"all\": {\"control\": \"a\", \"variant\": {\"model\": \"b\", \"n\": 9007199254740993}, "
    "\"rollout_pct\": 100},"
    "\"off\": {\"control\": \"a\", \"variant\": \"b\", \"enabled\": false},"
    "\"stale\": {\"control\": \"a\", \"variant\": \"b\", \"rollout_pct\": 10, \"on_stale\": \"control\"},"
    "\"many-arms-and-a-long-name-that-fills-several-words\": {\"control\": \"c\", \"rollout_pct\": 80, "
    "\"variants\": {"
    "\"x\": {\"value\": \"mx\", \"weight\": 1}, \"y\": {\"value\": {\"model\": \"my\", \"p\": \"%s\"}, "
    "\"weight\": 3}}},"
    "\"last\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 0.001}}}";

static const char *const names[] = {
    "f",    "all",     "off", "stale", "many-arms-and-a-long-name-that-fills-several-words",
    "last", "unknown", NULL,  ""};
static char long_id[FLAGSHM_ID_MAX + 2];
static const char *const ids[] = {"u1",
                                  "user-12345678901234",
                                  "123e4567-e89b-12d3-a456-426614174000-and-then-some-more-bytes",
                                  "",
                                  NULL,
                                  "forced",
                                  long_id};

static unsigned char *good, *image;
static size_t image_bytes;

static void prepare(void)
{
    static struct flagshm_flagfile file;
    struct flagshm_table_entry entries[16];
    struct flagshm_table table;
    struct flagshm_diags diags = {0};
    char text[4096], prompt[1001];
    size_t i;

    memset(prompt, 'p', 1000);
    prompt[1000] = '\0';
    (void)snprintf(text, sizeof text, FLAGS, prompt);
    assert(flagshm_flagfile_parse(&file, text, strlen(text), NULL, &diags) == 0 && diags.errors == 0);
    for (i = 0; i < file.count; i++)
        entries[i] = (struct flagshm_table_entry){.flag = &file.entries[i].flag};
    assert(flagshm_table_build(&table, entries, file.count, NULL) == 0);
    good = image_make(&table, 7, &image_bytes);
    image = malloc(image_bytes);
    assert(good && image);
    /* both banks hold the table */
    memcpy(good + table.geometry.bank_offset[1], good + table.geometry.bank_offset[0],
           (size_t)table.geometry.bank_bytes);
    memcpy(image, good, image_bytes);
    memset(long_id, 'x', FLAGSHM_ID_MAX + 1);
    flagshm_table_free(&table);
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
}

static bool ends(const char *text, size_t room)
{
    return memchr(text, '\0', room) != NULL;
}

/* What a program may rely on, whatever the table says. */
static void check_decision(enum flagshm_reason reason, const struct flagshm_decision *d)
{
    assert(reason == d->reason);
    assert(strcmp(flagshm_reason_name(reason), "UNKNOWN") != 0);
    assert(ends(d->arm_name, sizeof d->arm_name) && ends(d->model, sizeof d->model) &&
           ends(d->stage, sizeof d->stage) && ends(d->shadow_model, sizeof d->shadow_model) &&
           ends(d->value, sizeof d->value));
    assert(d->arm < 8 && d->rollout_mpct <= 100000);
    assert(d->bucket < 100000 || d->bucket == FLAGSHM_NO_BUCKET);
    if (reason >= FLAGSHM_FLAG_NOT_FOUND)
        assert(d->arm == 0 && d->model[0] == '\0' && d->value_bytes == 0 && !d->shadow);
    if (reason == FLAGSHM_DISABLED || reason == FLAGSHM_STALE)
        assert(d->arm == 0 && d->rollout_mpct == 0);
    if (reason == FLAGSHM_SPLIT)
        assert(d->bucket < 100000 && (d->arm != 0) == (d->bucket < d->rollout_mpct));
}

static void check_value(struct flagshm *fs, const struct flagshm_decision *d)
{
    static char *buf;
    int64_t bytes;

    if (!buf)
        buf = malloc(VALUE_MAX); /* exact, for the sanitizer */
    assert(buf);
    bytes = flagshm_value(fs, d, buf, VALUE_MAX);
    assert(bytes == -ESTALE || (bytes >= 0 && (uint64_t)bytes == d->value_bytes));
    if (bytes >= 0 && bytes < VALUE_MAX)
        assert(buf[bytes] == '\0');
    (void)flagshm_value(fs, d, NULL, 0);
}

static void read_everything(struct flagshm *fs)
{
    size_t f, i;

    for (f = 0; f < sizeof names / sizeof names[0]; f++) {
        struct flagshm_ref ref;
        double share = flagshm_rollout_pct(fs, names[f]);

        assert(share == -1.0 || (share >= 0.0 && share <= 100.0));
        (void)flagshm_resolve(fs, names[f], &ref);
        for (i = 0; i < sizeof ids / sizeof ids[0]; i++) {
            struct flagshm_decision d;

            memset(&d, 0xee, sizeof d);
            check_decision(flagshm_decide(fs, names[f], ids[i], &d), &d);
            check_value(fs, &d);
            memset(&d, 0xee, sizeof d);
            check_decision(flagshm_decide_ref(fs, &ref, ids[i], &d), &d);
            (void)flagshm_in_variant(fs, names[f], ids[i]);
        }
        share = flagshm_rollout_pct_ref(fs, &ref);
        assert(share == -1.0 || (share >= 0.0 && share <= 100.0));
    }
    (void)flagshm_version(fs);
    (void)flagshm_age_ns(fs);
    (void)flagshm_wait(fs, flagshm_version(fs) + 1, 0);
}

static void read_image(void)
{
    struct flagshm fs;
    struct flagshm_map_ map;

    if (image_attach(&fs, &map, image, image_bytes) == 0)
        read_everything(&fs);
}

/* Applies the changes; false: nothing was left of the input. `undo`: takes them back, from the good image. */
static void change(const uint8_t *data, size_t size, bool undo)
{
    if (size > 0 && data[0] == 0xff) {
        size_t bytes = size - 1 < image_bytes ? size - 1 : image_bytes;
        memcpy(image, undo ? good : data + 1, bytes);
        return;
    }
    while (size >= 5) {
        size_t at = ((size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2]) % image_bytes;
        size_t bytes = data[3] % 16 + 1u;

        data += 4;
        size -= 4;
        bytes = bytes < size ? bytes : size;
        bytes = bytes < image_bytes - at ? bytes : image_bytes - at;
        memcpy(image + at, undo ? good + at : data, bytes);
        data += bytes;
        size -= bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!image)
        prepare();
    change(data, size, false);
    read_image();
    change(data, size, true);
    return 0;
}

#ifdef FLAGSHM_FUZZ_MAIN
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t state = 20250101;

static uint64_t next_random(void)
{
    return fuzz_next(&state);
}

/* A place where a change tells: the header, the bank's header, the index around the flags, a record, the heap. */
static size_t somewhere(void)
{
    const struct flagshm_header *h = (const struct flagshm_header *)(void *)good;
    size_t bank = (size_t)h->bank_offset[next_random() % 2];

    switch (next_random() % 8) {
    case 0:
        return next_random() % 192;
    case 1:
        return 192 + next_random() % 72;
    case 2:
        return bank + next_random() % 128;
    case 3:
        return bank + (size_t)h->index_offset + next_random() % (h->index_slots * 8);
    case 4:
    case 5:
        return bank + (size_t)h->records_offset + next_random() % (6 * sizeof(struct flagshm_flag_entry));
    case 6:
        return bank + (size_t)h->heap_offset + next_random() % 2048;
    default:
        return next_random() % image_bytes;
    }
}

static uint8_t some_byte(void)
{
    static const uint8_t often[] = {0, 1, 2, 7, 8, 9, 0x7f, 0x80, 0xf8, 0xff};
    uint64_t random = next_random();
    return random % 3 ? often[(random >> 8) % sizeof often] : (uint8_t)(random >> 16);
}

static size_t make_input(uint8_t *data)
{
    size_t changes = 1 + next_random() % 4, size = 0, i, j;

    for (i = 0; i < changes; i++) {
        size_t at = somewhere(), bytes = next_random() % 2 ? 1 : next_random() % 2 ? 4 : 8;
        at = next_random() % 4 ? at & ~(size_t)3 : at;
        data[size++] = (uint8_t)(at >> 16);
        data[size++] = (uint8_t)(at >> 8);
        data[size++] = (uint8_t)at;
        data[size++] = (uint8_t)(bytes - 1);
        for (j = 0; j < bytes; j++)
            data[size++] = some_byte();
    }
    return size;
}

/* Some of the images as real objects, opened as any program would. */
static void read_files(unsigned count)
{
    char dir[] = "/tmp/flagshm-fuzz.XXXXXX", path[64];
    uint8_t data[64];
    unsigned opened = 0;

    assert(mkdtemp(dir));
    assert(setenv("FLAGSHM_DIR", dir, 1) == 0);
    (void)snprintf(path, sizeof path, "%s/flagshm.fuzz.table", dir);
    for (; count > 0; count--) {
        size_t size = make_input(data);
        struct flagshm fs;
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        change(data, size, false);
        assert(fd >= 0 && write(fd, image, image_bytes) == (ssize_t)image_bytes);
        if (count % 16 == 0)
            assert(ftruncate(fd, (off_t)(next_random() % (image_bytes * 2))) == 0);
        (void)close(fd);
        opened += flagshm_open(&fs, "fuzz") == 0;
        read_everything(&fs);
        flagshm_close(&fs);
        change(data, size, true);
    }
    assert(unlink(path) == 0 && rmdir(dir) == 0);
    assert(opened > 0);
}

static int stop;

/* Words that change between two looks at them: what was checked must be what is used. */
static void *scribble(void *unused)
{
    uint64_t random = 88172645463325252u;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        size_t at;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        at = (size_t)((random >> 32) % (random % 3 ? 16384 : image_bytes)) & ~(size_t)7;
        __atomic_store_n((uint64_t *)(void *)(image + at), random % 5 ? random & 0xff000000ffu : random,
                         __ATOMIC_RELAXED);
        if (random % 7 == 0) /* and back, so that something is found now and then */
            __atomic_store_n((uint64_t *)(void *)(image + at), *(const uint64_t *)(const void *)(good + at),
                             __ATOMIC_RELAXED);
        if (random % 1024 == 0) /* word by word, as a server writes: the thread sanitizer looks on */
            for (at = 0; at < image_bytes; at += 8)
                __atomic_store_n((uint64_t *)(void *)(image + at),
                                 *(const uint64_t *)(const void *)(good + at), __ATOMIC_RELAXED);
    }
    return unused;
}

static void read_while_scribbled(unsigned rounds)
{
    struct flagshm fs;
    struct flagshm_map_ map;
    pthread_t thread;

    assert(image_attach(&fs, &map, image, image_bytes) == 0);
    assert(pthread_create(&thread, NULL, scribble, NULL) == 0);
    for (; rounds > 0; rounds--)
        read_everything(&fs);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    (void)pthread_join(thread, NULL);
    memcpy(image, good, image_bytes);
}

static void run(uint8_t *data, size_t size)
{
    (void)LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
    uint64_t images = 100000, n;
    uint8_t data[64];

    prepare();
    if (!fuzz_random(argc, argv, run, &images, &state))
        return 0;
    (void)alarm(280); /* bounded time is part of the promise */
    read_image();
    for (n = 0; n < images; n++)
        (void)LLVMFuzzerTestOneInput(data, make_input(data));
    read_files(200);
    read_while_scribbled(300);
    free(image);
    free(good);
    printf("%" PRIu64 " images\n", images);
    return 0;
}
#endif
