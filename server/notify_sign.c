/* notify_sign: see the header. */
#include "server/notify_sign.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_MIN 24u
#define SECRET_MAX 64u
#define MAC_BYTES  32u

size_t notify_secret_decode(const char *text, unsigned char secret[NOTIFY_SECRET_ROOM])
{
    static const char prefix[] = "whsec_",
                      letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t bytes, filled, whole;

    if (strncmp(text, prefix, sizeof prefix - 1) != 0)
        return 0;
    text += sizeof prefix - 1;
    bytes = strlen(text);
    filled = strspn(text, letters);
    if (bytes % 4 != 0 || bytes - filled > 2 || strspn(text + filled, "=") != bytes - filled)
        return 0;
    whole = bytes / 4 * 3 - (bytes - filled);
    if (whole < SECRET_MIN || whole > SECRET_MAX)
        return 0;
    return EVP_DecodeBlock(secret, (const unsigned char *)text, (int)bytes) >= 0 ? whole : 0;
}

bool notify_sign(const unsigned char *secret, size_t secret_bytes, const char *id, int64_t timestamp_s,
                 const char *body, char signature[NOTIFY_SIGNATURE_ROOM])
{
    unsigned char mac[MAC_BYTES];
    unsigned mac_bytes = 0;
    char *text;
    int bytes = asprintf(&text, "%s.%" PRId64 ".%s", id, timestamp_s, body);
    bool is_signed;

    if (bytes < 0)
        return false;
    is_signed = HMAC(EVP_sha256(), secret, (int)secret_bytes, (const unsigned char *)text, (size_t)bytes, mac,
                     &mac_bytes) != NULL &&
                mac_bytes == MAC_BYTES;
    free(text);
    memcpy(signature, "v1,", 3);
    return is_signed && EVP_EncodeBlock((unsigned char *)signature + 3, mac, MAC_BYTES) == 44;
}

bool notify_id_encode(const char *id, char *out, size_t room)
{
    for (; *id != '\0' && room > 3; id++) {
        unsigned char byte = (unsigned char)*id;
        bool is_plain = byte > 0x20 && byte < 0x7f && byte != '%' && byte != '.';
        int written = snprintf(out, room, is_plain ? "%c" : "%%%02X", byte);

        out += written;
        room -= (size_t)written;
    }
    if (room > 0)
        *out = '\0';
    return *id == '\0' && room > 0;
}
