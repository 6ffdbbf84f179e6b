/* text: bytes that grow. Running out of memory ends the program: nothing a test could go on with. */
#ifndef FLAGSHM_GATEWAY_TEXT_H
#define FLAGSHM_GATEWAY_TEXT_H

#include <stddef.h>

struct gateway_text {
    char *bytes; /* always closed by a NUL that `length` does not count; NULL while empty */
    size_t length, capacity;
};

void gateway_text_bytes(struct gateway_text *text, const void *bytes, size_t count);
void gateway_text_put(struct gateway_text *text, const char *string);
void gateway_text_format(struct gateway_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As a JSON string, quotes included. What is no UTF-8 becomes U+FFFD. */
void gateway_text_json(struct gateway_text *text, const char *bytes, size_t count);
void gateway_text_json_string(struct gateway_text *text, const char *string);
void gateway_text_free(struct gateway_text *text);

/* strndup() and calloc() that do not fail. */
char *gateway_copy(const char *string, size_t max_bytes);
void *gateway_allocate(size_t count, size_t bytes);

#endif
