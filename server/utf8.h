/* utf8: one sound UTF-8 sequence at a time (RFC 3629: no overlong forms, no surrogates, nothing over
 * U+10FFFF).
 *
 * Header-only, shared by the scanner, which refuses anything else, and by the diagnostics, which must never
 * print it.
 */
#ifndef FLAGSHM_SERVER_UTF8_H
#define FLAGSHM_SERVER_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the sequence at `bytes`, of which `left` may be read; 0 where it is not sound. Sets its code
 * point. */
static inline size_t flagshm_utf8_sequence(const char *bytes, size_t left, uint32_t *code)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *b = (const unsigned char *)bytes;
    size_t length, i;
    uint32_t c;

    if (left == 0)
        return 0;
    if (b[0] < 0x80) {
        *code = b[0];
        return 1;
    }
    length = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    if (b[0] < 0xc2 || b[0] > 0xf4 || left < length)
        return 0;
    c = b[0] & (0x7fu >> length);
    for (i = 1; i < length; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (b[i] & 0x3fu);
    }
    if (c < smallest[length] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
        return 0;
    *code = c;
    return length;
}

#endif
