/* fuzz_sse: hostile answers. Any bytes, as a stream and as a body, must be read alike however they are cut
 * into pieces, never say more than they hold, and leave nothing behind.
 *
 * With libFuzzer it is the target; with FLAGSHM_FUZZ_MAIN it is a program that runs over the files named
 * (all files of a directory that is named), each as it is, cut short at every place, and with each byte
 * changed. */
#undef NDEBUG
#include "ezai_fixture.h"
#include "fuzz_files.h"
#include "server/diagnostics.h"
#include "server/json_scan.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ezai_fixture f;

static void answer(const char *bytes, size_t count, bool is_stream, size_t first, size_t piece)
{
    if (f.ai.url_ == NULL) {
        struct ezai_options options = {.answer_max = 4096};
        int error = ezai_fixture_open(&f, &options);
        assert(error == 0);
        f.request.wants_json = true;
    }
    ezai_reply_free(&f.reply);
    ezai_fixture_begin(&f, 200, is_stream);
    ezai_fixture_end(&f, ezai_fixture_feed(&f, bytes, count, first, piece) ? CURLE_OK : CURLE_WRITE_ERROR);
}

static void check_reply(void)
{
    const struct ezai_reply *r = &f.reply;

    assert((r->result == 0) == (r->text != NULL) && (r->result == 0) == (r->error[0] == '\0'));
    assert(r->text == NULL || strlen(r->text) == r->text_bytes);
    assert(r->text_bytes <= 4096);
    assert(r->outcome.input_tokens <= UINT64_C(9007199254740992));
    assert(memchr(r->error, '\0', sizeof r->error) && memchr(r->model, '\0', sizeof r->model));
}

static void check_json(const char *text, size_t bytes)
{
    struct flagshm_arena arena = {0};
    struct flagshm_json_places places;
    struct flagshm_diags diags = {0};

    /* The flag file's scanner is stricter in what it forbids beyond the letter: all that it takes is JSON. */
    if (flagshm_json_scan(text, bytes, &arena, &places, &diags))
        assert(ezai_is_json_(text, bytes, 0));
    flagshm_diags_free(&diags);
    flagshm_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ezai_reply before;
    char *bytes = malloc(size + 1), *text; /* exact, for the sanitizer */
    size_t cut = size > 1 ? data[0] % size : 0, piece = size > 2 ? data[1] % 16u + 1 : 1;

    assert(bytes);
    memcpy(bytes, data, size);
    answer(bytes, size, true, 0, 0);
    check_reply();
    before = f.reply;
    text = before.text ? strdup(before.text) : NULL;
    answer(bytes, size, true, cut, piece);
    check_reply();
    assert(before.result == f.reply.result || before.result == -EMSGSIZE || f.reply.result == -EMSGSIZE);
    if (before.result == f.reply.result) {
        assert(memcmp(&before.outcome, &f.reply.outcome, sizeof before.outcome) == 0);
        assert(strcmp(before.stop_reason, f.reply.stop_reason) == 0 &&
               strcmp(before.error, f.reply.error) == 0);
        assert(text == NULL || strcmp(text, f.reply.text) == 0);
    }
    free(text);
    answer(bytes, size, false, 0, 0);
    check_reply();
    check_json(bytes, size);
    free(bytes);
    return 0;
}

#ifdef FLAGSHM_FUZZ_MAIN
/* As it is, cut short at every place, and with each byte changed. */
static void run(uint8_t *data, size_t size)
{
    size_t i;

    assert(size <= 8192); /* each byte costs three runs: the seeds are small */
    for (i = 0; i <= size; i++)
        (void)LLVMFuzzerTestOneInput(data, i);
    for (i = 0; i < size; i++) {
        uint8_t was = data[i];

        data[i] = (uint8_t)(was ^ (1u << i % 8));
        (void)LLVMFuzzerTestOneInput(data, size);
        data[i] = (uint8_t) "\n\r\"{}\\0"[i % 7];
        (void)LLVMFuzzerTestOneInput(data, size);
        data[i] = was;
    }
}

int main(int argc, char **argv)
{
    size_t files = 0;
    int i;

    for (i = 1; i < argc; i++)
        files += fuzz_files(argv[i], run);
    ezai_fixture_close(&f);
    (void)printf("fuzz_sse: %zu files\n", files);
    return files == 0;
}
#endif
