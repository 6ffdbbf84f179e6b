/* script: see the header. */
#include "tests/gateway/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

void gateway_script_pause(struct gateway_script *script, uint64_t ns)
{
    struct gateway_pause *pauses =
        realloc(script->pauses, (script->pause_count + 1) * sizeof *script->pauses);

    if (pauses == NULL) {
        (void)fputs("flagshm_gateway: out of memory\n", stderr);
        exit(1);
    }
    script->pauses = pauses;
    pauses[script->pause_count++] = (struct gateway_pause){script->bytes.length, ns};
}

static void compress_part(z_stream *stream, struct gateway_text *out, const char *bytes, size_t count,
                          int flush)
{
    unsigned char buffer[4096];

    stream->next_in = (Bytef *)(uintptr_t)bytes;
    stream->avail_in = (uInt)count;
    do {
        stream->next_out = buffer;
        stream->avail_out = sizeof buffer;
        (void)deflate(stream, flush);
        gateway_text_bytes(out, buffer, sizeof buffer - stream->avail_out);
    } while (stream->avail_out == 0);
}

void gateway_script_compress(struct gateway_script *script)
{
    struct gateway_text packed = {NULL, 0, 0};
    z_stream stream = {.zalloc = Z_NULL};
    size_t begin = 0, i;

    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return; /* no memory: it goes as it is */
    for (i = 0; i < script->pause_count; i++) {
        size_t end = script->pauses[i].offset;

        compress_part(&stream, &packed, script->bytes.bytes + begin, end - begin, Z_SYNC_FLUSH);
        script->pauses[i].offset = packed.length;
        begin = end;
    }
    compress_part(&stream, &packed, script->bytes.bytes + begin, script->bytes.length - begin, Z_FINISH);
    (void)deflateEnd(&stream);
    gateway_text_free(&script->bytes);
    script->bytes = packed;
    script->content_encoding = "gzip";
}

void gateway_script_free(struct gateway_script *script)
{
    free(script->retry_after);
    free(script->pauses);
    gateway_text_free(&script->bytes);
    gateway_text_free(&script->filler);
    *script = (struct gateway_script){.status = 0};
}
