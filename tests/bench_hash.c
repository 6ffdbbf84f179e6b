/* bench_hash: MD5 of the very messages that decisions hash: flag ':' id.
 *
 * The bare block is the least that a program could do: the message already stands padded in a block, and the header's
 * own rounds run over all 64 steps of it. The message is laid out for OpenSSL too. */
#include "tests/bench_common.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct bench_hash {
    uint64_t blocks[BENCH_IDS][8];
    char messages[BENCH_IDS][BENCH_NAME_BYTES + BENCH_ID_BYTES];
    size_t bytes[BENCH_IDS];
    EVP_MD *md5;
    EVP_MD_CTX *context;
};

struct bench_hash *bench_hash_open(const char *flag)
{
    struct bench_hash *h = calloc(1, sizeof *h);
    size_t i;

    if (h == NULL)
        bench_die("no memory");
    for (i = 0; i < BENCH_IDS; i++) {
        unsigned char block[64] = {0};
        int bytes = snprintf(h->messages[i], sizeof h->messages[i], "%s:%s", flag, bench_ids()[i]);
        uint64_t bits;

        if (bytes < 0 || bytes > 55)
            bench_die("\"%s\" does not fit into one MD5 block", h->messages[i]);
        h->bytes[i] = (size_t)bytes;
        memcpy(block, h->messages[i], h->bytes[i]);
        block[bytes] = 0x80;
        bits = flagshm_le64_((uint64_t)bytes * 8);
        memcpy(block + 56, &bits, 8);
        for (bytes = 0; bytes < 8; bytes++)
            h->blocks[i][bytes] = flagshm_get64_(block + 8 * bytes);
    }
    h->md5 = EVP_MD_fetch(NULL, "MD5", NULL);
    h->context = EVP_MD_CTX_new();
    if (h->md5 == NULL || h->context == NULL)
        bench_die("OpenSSL has no MD5 here");
    return h;
}

void bench_hash_close(struct bench_hash *hash)
{
    EVP_MD_CTX_free(hash->context);
    EVP_MD_free(hash->md5);
    free(hash);
}

static inline size_t one_block(const uint64_t block[8])
{
    static const uint32_t start[4] = FLAGSHM_MD5_INIT_;
    uint32_t chain[4] = FLAGSHM_MD5_INIT_;
    size_t early;

    flagshm_md5_block_(chain, start, 0, block);
    early = chain[0] + (size_t)chain[2] + chain[3];
    __asm__("" : "+r"(early));
    return early + chain[1]; /* which comes last */
}

void bench_run_block(void *context, size_t n)
{
    struct bench_hash *h = context;
    size_t zero = bench_zero(), hang = 0, i;

    for (i = 0; i < n; i++)
        hang = one_block(h->blocks[(i + hang) & (BENCH_IDS - 1)]) & zero;
    __asm__ volatile("" : : "r"(hang));
}

void bench_run_block_independent(void *context, size_t n)
{
    struct bench_hash *h = context;
    size_t i;

    for (i = 0; i < n; i++) {
        size_t sum = one_block(h->blocks[i & (BENCH_IDS - 1)]);
        __asm__ volatile("" : : "r"(sum));
    }
}

void bench_run_evp(void *context, size_t n)
{
    struct bench_hash *h = context;
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    size_t zero = bench_zero(), hang = 0, i;
    unsigned bytes;

    for (i = 0; i < n; i++) {
        size_t at = (i + hang) & (BENCH_IDS - 1);

        if (EVP_Digest(h->messages[at], h->bytes[at], digest, &bytes, EVP_md5(), NULL) != 1)
            bench_die("EVP_Digest failed");
        hang = (digest[0] + (size_t)digest[15]) & zero;
    }
}

void bench_run_evp_reused(void *context, size_t n)
{
    struct bench_hash *h = context;
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    size_t zero = bench_zero(), hang = 0, i;
    unsigned bytes;

    for (i = 0; i < n; i++) {
        size_t at = (i + hang) & (BENCH_IDS - 1);

        if (EVP_DigestInit_ex2(h->context, h->md5, NULL) != 1 ||
            EVP_DigestUpdate(h->context, h->messages[at], h->bytes[at]) != 1 ||
            EVP_DigestFinal_ex(h->context, digest, &bytes) != 1)
            bench_die("EVP_DigestFinal failed");
        hang = (digest[0] + (size_t)digest[15]) & zero;
    }
}
