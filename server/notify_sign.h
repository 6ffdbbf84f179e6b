/* notify_sign: the signature of a webhook, as the Standard Webhooks specification 1.0.0 says (standardwebhooks.com). */
#ifndef FLAGSHM_SERVER_NOTIFY_SIGN_H
#define FLAGSHM_SERVER_NOTIFY_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOTIFY_SECRET_ROOM    66u /* 64 bytes, and what a decoder writes that works by groups of three */
#define NOTIFY_SIGNATURE_ROOM 48u /* "v1,", the base64 of 32 bytes, NUL */

/* "whsec_" and the base64 of 24 to 64 bytes. Returns how many; 0: it is not that. */
size_t notify_secret_decode(const char *text, unsigned char secret[NOTIFY_SECRET_ROOM]);

/* "v1," and the base64 of the HMAC-SHA256 of "id.timestamp.body". False: no memory. */
bool notify_sign(const unsigned char *secret, size_t secret_bytes, const char *id, int64_t timestamp_s,
                 const char *body, char signature[NOTIFY_SIGNATURE_ROOM]);

/* The id as a header and the signature hold it: "%", "." (which parts the signed text) and what is not printable ASCII become %XX.
 * Three times its bytes and a NUL suffice. False: no room. */
bool notify_id_encode(const char *id, char *out, size_t room);

#endif
