/* fuzz_flagfile: any bytes through the strict scanner, cJSON, the checks, the messages and the last good set.
 *
 * With libFuzzer it is the target; with FLAGSHM_FUZZ_MAIN it is a program that runs over the files named
 * (all files of a directory that is named), so that the corpus and every find is an ordinary test. It must
 * neither crash nor break one of the promises that are asserted here. */
#undef NDEBUG
#include "client/flagshm.h"
#include "server/json_scan.h"
#include "server/lastgood.h"
#include "tests/fuzz_files.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char OLD[] =
    "{\"flags\": {\"a\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 50},"
    " \"b\": {\"control\": \"c\", \"variant\": \"v\", \"salt\": \"s\", \"rollout_pct\": 5},"
    " \"c\": {\"control\": \"c\", \"variant\": \"v\", \"salt\": \"s\", \"rollout_pct\": 100},"
    " \"summarizer\": {\"control\": {\"model\": \"m\"}, \"variant\": \"v\", \"rollout\": {\"plan\": "
    "\"b2b\"}}}}";

static void check_messages(const struct flagshm_diags *diags, const char *text, size_t length)
{
    char *printed = NULL, *json;
    size_t bytes = 0, i;
    FILE *out = open_memstream(&printed, &bytes);

    assert(out);
    flagshm_diags_print(diags, "flags.json", text, length, length % 2 == 0, out);
    fclose(out);
    for (i = 0; i < bytes; i++)
        assert((unsigned char)printed[i] >= 0x20 || printed[i] == '\n' ||
               (printed[i] == '\033' && length % 2 == 0));
    free(printed);
    json = flagshm_diags_json(diags, "flags.json", text, length);
    assert(json);
    free(json);
}

/* A sound text stays sound and means the same when its white space is taken out. */
static void check_scan(const char *text, size_t length)
{
    struct flagshm_arena arena = {0};
    struct flagshm_json_places places, again;
    struct flagshm_diags diags = {0};
    char *compact = malloc(length ? length : 1);
    size_t bytes, i;

    if (flagshm_json_scan(text, length, &arena, &places, &diags)) {
        assert(places.is_whole && diags.errors == 0);
        for (i = 0; i < places.count; i++)
            assert(places.items[i].next > i && places.items[i].next <= places.count);
        bytes = flagshm_json_compact(text, length, compact);
        assert(flagshm_json_scan(compact, bytes, &arena, &again, &diags));
        assert(again.count == places.count);
        assert(flagshm_json_fingerprint(text, length, &arena) ==
               flagshm_json_fingerprint(compact, bytes, &arena));
    } else {
        assert(diags.errors > 0);
    }
    free(compact);
    flagshm_diags_free(&diags);
    flagshm_arena_free(&arena);
}

static void check_entries(const struct flagshm_flagfile *file)
{
    size_t i, broken = 0;

    for (i = 0; i < file->count; i++) {
        const struct flagshm_flag *flag = &file->entries[i].flag;

        assert(flag->offset + flag->text_bytes <= file->text_bytes);
        assert(flag->rollout_offset + flag->rollout_bytes <= file->text_bytes);
        assert(flag->enabled_offset + flag->enabled_bytes <= file->text_bytes);
        assert(strlen(flag->name) == flag->name_bytes);
        broken += file->entries[i].broken;
        if (file->entries[i].broken)
            continue;
        assert(flagshm_is_flag_name(flag->name, flag->name_bytes));
        assert(flag->arm_count >= 2 && flag->arm_count <= FLAGSHM_ARMS_MAX);
        assert(flag->rollout_mpct <= FLAGSHM_MPCT_FULL);
        assert(flag->arms[flag->arm_count - 1].value_bytes <= FLAGSHM_VALUE_MAX);
        assert(strlen(flag->arms[0].model) == flag->arms[0].model_bytes);
    }
    assert(broken == 0 || file->errors > 0);
}

/* What is merged reads back without an error, and once more merged it does not change. */
static void check_merge(struct flagshm_flagfile *file)
{
    struct flagshm_diags diags = {0};
    struct flagshm_flagfile old, back;
    struct flagshm_merge merge;
    bool usable = file->is_usable;
    size_t count;

    assert(flagshm_flagfile_parse(&old, OLD, sizeof OLD - 1, NULL, &diags) == 0 && diags.errors == 0);
    assert(flagshm_lastgood_merge(&old, file, false, NULL, &merge) == 0);
    assert(merge.changed_nothing == !usable);
    if (usable) {
        assert(flagshm_flagfile_parse(&back, merge.good.text, merge.good.text_bytes, NULL, &diags) == 0);
        assert(diags.errors == 0 && back.count == merge.good.count);
        count = back.count;
        flagshm_flagfile_free(&merge.good);
        assert(flagshm_lastgood_merge(&old, &back, true, NULL, &merge) == 0);
        assert(merge.good.count == count && merge.kept == 0);
        flagshm_flagfile_free(&back);
        flagshm_flagfile_free(&merge.good);
    }
    flagshm_flagfile_free(&old);
    flagshm_diags_free(&diags);
}

/* Read as an edit of `before`, a text gives what it gives by itself. */
static void check_edit(struct flagshm_flagfile *before, const char *text, size_t size)
{
    struct flagshm_flagfile whole, edit;
    struct flagshm_diags faults = {0}, edit_faults = {0};
    size_t i;
    int result = flagshm_flagfile_parse(&whole, text, size, NULL, &faults);

    assert(flagshm_flagfile_parse_edit(&edit, before, text, size, NULL, &edit_faults) == result);
    assert(faults.errors == edit_faults.errors && faults.warnings == edit_faults.warnings);
    assert(whole.is_usable == edit.is_usable && whole.count == edit.count);
    for (i = 0; i < whole.count; i++) {
        const struct flagshm_flag *a = &whole.entries[i].flag, *b = &edit.entries[i].flag;

        assert(strcmp(a->name, b->name) == 0 && a->offset == b->offset && a->text_bytes == b->text_bytes);
        assert(a->arm_count == b->arm_count && a->rollout_mpct == b->rollout_mpct);
    }
    flagshm_flagfile_free(&whole);
    flagshm_flagfile_free(&edit);
    flagshm_diags_free(&faults);
    flagshm_diags_free(&edit_faults);
}

/* The text itself, and the text with one byte of its own elsewhere, as edits of it. */
static void check_edits(struct flagshm_flagfile *file, const char *text, size_t size)
{
    uint64_t hash = flagshm_hash64_(text, size, 0);
    char *other = malloc(size + 1);

    assert(other);
    memcpy(other, text, size);
    check_edit(file, other, size);
    if (size > 0) {
        other[hash % size] = text[(hash >> 32) % size];
        check_edit(file, other, size);
    }
    free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct flagshm_flagfile_options options = {.max_flags = 64};
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};

    check_scan(text, size);
    if (flagshm_flagfile_parse(&file, text, size, &options, &diags) == 0) {
        check_entries(&file);
        check_edits(&file, text, size);
        check_entries(&file);
        check_merge(&file);
    }
    check_messages(&diags, text, size);
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    return 0;
}

#ifdef FLAGSHM_FUZZ_MAIN
static void run(uint8_t *data, size_t size)
{
    (void)LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
    size_t count = 0;
    int i;

    for (i = 1; i < argc; i++)
        count += fuzz_files(argv[i], run);
    printf("%zu files\n", count);
    return count > 0 ? 0 : 1;
}
#endif
