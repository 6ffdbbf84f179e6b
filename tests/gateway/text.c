/* text: see the header. */
#include "tests/gateway/text.h"
#include "server/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void memory_is_out(void)
{
    (void)fputs("flagshm_gateway: out of memory: fewer connections, or smaller bodies\n", stderr);
    exit(1);
}

void *gateway_allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);

    if (memory == NULL)
        memory_is_out();
    return memory;
}

char *gateway_copy(const char *string, size_t max_bytes)
{
    char *copy = strndup(string, max_bytes);

    if (copy == NULL)
        memory_is_out();
    return copy;
}

static void reserve(struct gateway_text *text, size_t more)
{
    size_t wanted = text->length + more + 1;
    size_t capacity = text->capacity < 256 ? 256 : text->capacity;

    if (wanted <= text->capacity)
        return;
    while (capacity < wanted)
        capacity *= 2;
    text->bytes = realloc(text->bytes, capacity);
    if (text->bytes == NULL)
        memory_is_out();
    text->capacity = capacity;
}

void gateway_text_bytes(struct gateway_text *text, const void *bytes, size_t count)
{
    reserve(text, count);
    if (count > 0)
        memcpy(text->bytes + text->length, bytes, count);
    text->length += count;
    text->bytes[text->length] = '\0';
}

void gateway_text_put(struct gateway_text *text, const char *string)
{
    gateway_text_bytes(text, string, strlen(string));
}

void gateway_text_format(struct gateway_text *text, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    reserve(text, (size_t)length);
    va_start(arguments, format);
    (void)vsnprintf(text->bytes + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
}

void gateway_text_json(struct gateway_text *text, const char *bytes, size_t count)
{
    size_t i = 0, sequence;
    uint32_t code = 0;

    gateway_text_put(text, "\"");
    while (i < count) {
        sequence = flagshm_utf8_sequence(bytes + i, count - i, &code);
        if (sequence == 0)
            gateway_text_put(text, "\xef\xbf\xbd");
        else if (code == '"' || code == '\\')
            gateway_text_format(text, "\\%c", (int)code);
        else if (code == '\n')
            gateway_text_put(text, "\\n");
        else if (code < 0x20)
            gateway_text_format(text, "\\u%04x", (unsigned)code);
        else
            gateway_text_bytes(text, bytes + i, sequence);
        i += sequence == 0 ? 1 : sequence;
    }
    gateway_text_put(text, "\"");
}

void gateway_text_json_string(struct gateway_text *text, const char *string)
{
    gateway_text_json(text, string, strlen(string));
}

void gateway_text_free(struct gateway_text *text)
{
    free(text->bytes);
    *text = (struct gateway_text){NULL, 0, 0};
}
