/* MD5, buckets and lots of client/flagshm.h against vectors made by Python's hashlib (tests/data/vectors), and against themselves on
 * lengths where blocks begin and end. 100 000 random ids: tests/cli/buckets.sh. */
#include "image_fixture.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>

struct one_flag {
    struct flagshm_flag flag;
    struct flagshm_table_entry entry;
    struct flagshm_arm arms[2];
    struct flagshm_table table;
    unsigned char *image;
    struct flagshm fs;
    struct flagshm_map_ map;
};

/* A table of one flag, named "f", with this salt and share, and a handle on it. */
static void open_flag(struct one_flag *o, const char *salt, uint32_t share_mpct)
{
    size_t bytes;

    memset(o, 0, sizeof *o);
    o->arms[0] = (struct flagshm_arm){.name = "control", .model = "", .value = "", .weight = 1};
    o->arms[1] = (struct flagshm_arm){.name = "variant", .model = "", .value = "", .weight = 1};
    o->flag = (struct flagshm_flag){.name = "f",
                                    .name_bytes = 1,
                                    .salt = salt,
                                    .salt_bytes = strlen(salt),
                                    .enabled = true,
                                    .rollout_mpct = share_mpct,
                                    .arms = o->arms,
                                    .arm_count = 2};
    o->entry.flag = &o->flag;
    cr_assert_eq(flagshm_table_build(&o->table, &o->entry, 1, NULL), 0);
    o->image = image_make(&o->table, 1, &bytes);
    cr_assert_not_null(o->image);
    cr_assert_eq(image_attach(&o->fs, &o->map, o->image, bytes), 0);
}

static void close_flag(struct one_flag *o)
{
    free(o->image);
    flagshm_table_free(&o->table);
}

static const char *text_of(const cJSON *vector, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(vector, key));

    cr_assert_not_null(text, "a vector has no \"%s\"", key);
    return text;
}

static uint32_t number_of(const cJSON *vector, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(vector, key);

    cr_assert(cJSON_IsNumber(item), "a vector has no \"%s\"", key);
    return (uint32_t)item->valuedouble;
}

static cJSON *read_vectors(const char *name)
{
    char path[512];
    FILE *in;
    char *text = calloc(1, 1 << 20);
    cJSON *json;

    (void)snprintf(path, sizeof path, "%s/vectors/%s", FLAGSHM_TESTS_DATA, name);
    in = fopen(path, "r");
    cr_assert(in && text, "%s cannot be read", path);
    cr_assert_lt(fread(text, 1, (1 << 20) - 1, in), (1 << 20) - 1);
    (void)fclose(in);
    json = cJSON_Parse(text);
    cr_assert_not_null(json, "%s is not JSON", path);
    free(text);
    return json;
}

/* MD5 of salt ':' id by the header, as 32 hexadecimal digits, and as words. */
static void digest_of(const char *salt, const char *id, char hex[33], uint32_t words[4])
{
    struct flagshm_md5_prefix_ prefix = {{0}, FLAGSHM_MD5_INIT_, FLAGSHM_MD5_INIT_, 0};
    char message[2048];
    int bytes = snprintf(message, sizeof message, "%s:%s", salt, id);

    cr_assert(bytes > 0 && (size_t)bytes < sizeof message);
    flagshm_md5_id_(&prefix, (const unsigned char *)message, (size_t)bytes, words);
    (void)snprintf(hex, 33, "%08x%08x%08x%08x", words[0], words[1], words[2], words[3]);
}

static void check_shares(const cJSON *vector, const char *salt, const char *id, uint32_t bucket)
{
    const cJSON *share;
    struct flagshm_decision d;
    struct one_flag o;

    cJSON_ArrayForEach(share, cJSON_GetObjectItemCaseSensitive(vector, "in_at_pct"))
    {
        uint32_t pct = (uint32_t)strtoul(share->string, NULL, 10);

        open_flag(&o, salt, pct * 1000);
        (void)flagshm_decide(&o.fs, "f", id, &d);
        if (id[0] == '\0') {
            cr_expect_eq(d.reason, FLAGSHM_TARGETING_KEY_MISSING);
            cr_expect_eq(d.arm, 0);
        } else if (pct == 0 || pct == 100) {
            cr_expect_eq(d.reason, FLAGSHM_STATIC);
            cr_expect_eq(d.bucket, FLAGSHM_NO_BUCKET);
            cr_expect_eq(d.arm != 0, cJSON_IsTrue(share));
        } else {
            cr_expect_eq(d.reason, FLAGSHM_SPLIT);
            cr_expect_eq(d.bucket, bucket, "%s:%s: %u", salt, id, d.bucket);
            cr_expect_eq(d.arm != 0, cJSON_IsTrue(share), "%s:%s at %u %%", salt, id, pct);
            cr_expect_eq(flagshm_in_variant(&o.fs, "f", id), cJSON_IsTrue(share));
        }
        close_flag(&o);
    }
}

Test(hash, every_vector_of_the_seed_agrees)
{
    cJSON *json = read_vectors("md5_buckets.json");
    const cJSON *vector;
    int count = 0;

    cJSON_ArrayForEach(vector, cJSON_GetObjectItemCaseSensitive(json, "vectors"))
    {
        const char *salt = text_of(vector, "flag"), *id = text_of(vector, "user");
        uint32_t words[4], bucket;
        char hex[33];

        cr_expect_eq(strlen(salt) + 1 + strlen(id), number_of(vector, "input_bytes"));
        digest_of(salt, id, hex, words);
        cr_expect_str_eq(hex, text_of(vector, "md5"));
        bucket = flagshm_bucket_(words);
        cr_expect_eq(bucket, number_of(vector, "fine_bucket_100000"));
        cr_expect_eq(bucket / 1000, number_of(vector, "bucket"));
        if (strlen(salt) <= FLAGSHM_SALT_MAX)
            check_shares(vector, salt, id, bucket);
        count++;
    }
    cr_expect_geq(count, 22);
    cJSON_Delete(json);
}

/* The vectors name what common mistakes give. That they differ somewhere shows that the vectors can tell. */
Test(hash, vectors_tell_common_mistakes_apart)
{
    static const char *const mistakes[] = {"wrong_if_only_low32", "wrong_if_only_low64", "wrong_if_first8",
                                           "wrong_if_little_endian"};
    cJSON *json = read_vectors("md5_buckets.json");
    const cJSON *vector;
    size_t i;

    for (i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        int differ = 0;

        cJSON_ArrayForEach(vector, cJSON_GetObjectItemCaseSensitive(json, "vectors")) differ +=
            number_of(vector, mistakes[i]) != number_of(vector, "bucket");
        cr_expect_geq(differ, 10, "%s", mistakes[i]);
    }
    cJSON_Delete(json);
}

/* The digests of RFC 1321, A.5. */
Test(hash, md5_is_md5)
{
    static const struct {
        const char *text, *hex;
    } suite[] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"a", "0cc175b9c0f1b6a831c399e269772661"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
         "d174ab98d277d9f5a5611c2c9f419d9f"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
         "57edf4a22be3c955ac49da2e2107b67a"},
    };
    struct flagshm_md5_prefix_ prefix = {{0}, FLAGSHM_MD5_INIT_, FLAGSHM_MD5_INIT_, 0};
    size_t i;

    for (i = 0; i < sizeof suite / sizeof suite[0]; i++) {
        uint32_t words[4];
        char hex[33];

        flagshm_md5_id_(&prefix, (const unsigned char *)suite[i].text, strlen(suite[i].text), words);
        (void)snprintf(hex, sizeof hex, "%08x%08x%08x%08x", words[0], words[1], words[2], words[3]);
        cr_expect_str_eq(hex, suite[i].hex);
    }
}

/* Textbook MD5, byte by byte, written apart from the header's. */
static void plain_md5(const unsigned char *message, size_t bytes, uint32_t words[4])
{
    static const unsigned shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    size_t padded = (bytes + 9 + 63) / 64 * 64, at, i;
    unsigned char *text = calloc(1, padded);

    cr_assert_not_null(text);
    memcpy(text, message, bytes);
    text[bytes] = 0x80;
    for (i = 0; i < 8; i++)
        text[padded - 8 + i] = (unsigned char)((uint64_t)bytes * 8 >> (8 * i));
    for (at = 0; at < padded; at += 64) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];

        for (i = 0; i < 64; i++) {
            const unsigned char *m;
            uint32_t f, next;
            size_t k;
            double sine = (double)(i + 1), x = 0, term; /* |sin(i + 1)| by its series */
            int n;

            while (sine > 3.141592653589793)
                sine -= 3.141592653589793;
            for (n = 1, term = sine; n < 40; n += 2) {
                x += term;
                term *= -sine * sine / (double)((n + 1) * (n + 2));
            }
            if (i < 16)
                f = (b & c) | (~b & d), k = i;
            else if (i < 32)
                f = (d & b) | (~d & c), k = (5 * i + 1) % 16;
            else if (i < 48)
                f = b ^ c ^ d, k = (3 * i + 5) % 16;
            else
                f = c ^ (b | ~d), k = 7 * i % 16;
            m = text + at + 4 * k;
            f += a + (uint32_t)(x * 4294967296.0) +
                 ((uint32_t)m[0] | (uint32_t)m[1] << 8 | (uint32_t)m[2] << 16 | (uint32_t)m[3] << 24);
            next = b + (f << shifts[i / 16][i % 4] | f >> (32 - shifts[i / 16][i % 4]));
            a = d, d = c, c = b, b = next;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    }
    free(text);
    for (i = 0; i < 4; i++)
        words[i] = __builtin_bswap32(state[i]);
}

static void fill(unsigned char *bytes, size_t count, uint32_t seed)
{
    size_t i;

    for (i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)(1 + seed % 255); /* any byte but NUL */
    }
}

/* Salt and id through a record of a real table, for each length where a block begins or ends. */
Test(hash, every_length_of_salt_and_id)
{
    unsigned char message[FLAGSHM_SALT_MAX + 1 + FLAGSHM_ID_MAX + 1];
    char salt[FLAGSHM_SALT_MAX + 1];
    uint32_t salt_bytes, words[4];
    size_t id_bytes;

    for (salt_bytes = 1; salt_bytes <= FLAGSHM_SALT_MAX; salt_bytes++) {
        struct one_flag o;
        struct flagshm_decision d;
        char *id;

        fill(message, salt_bytes, salt_bytes);
        memcpy(salt, message, salt_bytes);
        salt[salt_bytes] = '\0';
        message[salt_bytes] = ':';
        open_flag(&o, salt, 50000);
        for (id_bytes = 1; id_bytes <= FLAGSHM_ID_MAX;
             id_bytes += id_bytes < 200 || id_bytes >= 4090 ? 1 : 389) {
            id = malloc(id_bytes + 1); /* of exactly its size, for the sanitizer */
            cr_assert_not_null(id);
            fill(message + salt_bytes + 1, id_bytes, (uint32_t)id_bytes);
            memcpy(id, message + salt_bytes + 1, id_bytes);
            id[id_bytes] = '\0';
            plain_md5(message, salt_bytes + 1 + id_bytes, words);
            cr_assert_eq(flagshm_decide(&o.fs, "f", id, &d), FLAGSHM_SPLIT);
            cr_assert_eq(d.bucket, flagshm_bucket_(words), "salt of %u, id of %zu bytes", salt_bytes,
                         id_bytes);
            free(id);
        }
        close_flag(&o);
    }
}

/* The bucket's formula by long division of the whole 128-bit number, digit by digit. */
static uint32_t divide(uint32_t h[4], uint32_t by)
{
    uint64_t rest = 0;
    int i;

    for (i = 0; i < 4; i++) {
        uint64_t part = rest << 32 | h[i];
        h[i] = (uint32_t)(part / by);
        rest = part % by;
    }
    return (uint32_t)rest;
}

Test(hash, bucket_and_lot_are_the_quotients_that_they_say)
{
    uint32_t seed = 1, round, sum, i;

    for (round = 0; round < 20000; round++) {
        uint32_t words[4], h[4], low, high;

        for (i = 0; i < 4; i++) {
            seed = seed * 1664525u + 1013904223u;
            words[i] = round < 16 ? (round >> i & 1 ? UINT32_MAX : 0) : seed ^ seed >> 15;
        }
        memcpy(h, words, sizeof h);
        low = divide(h, 100);
        high = divide(h, 1000);
        cr_assert_eq(flagshm_bucket_(words), low * 1000 + high);
        sum = round % 7 == 0 ? 1 : 1 + seed % 7000000;
        cr_assert_eq(flagshm_lot_(words, sum), divide(h, sum), "round %u", round);
    }
}

/* Frozen: an index, a cell or a file that was made by one release is read by the next. The numbers come from tests/cli/buckets.sh's own
 * implementation. */
Test(hash, hash64_never_changes)
{
    static const struct {
        const char *text;
        uint64_t seed, hash;
    } known[] = {
        {"", 0, UINT64_C(0xb4aced89552448a6)},
        {"a", 0, UINT64_C(0xe9d8cacda54f52c5)},
        {"ab", 1, UINT64_C(0xd53c229353fb4e87)},
        {"abc", 0, UINT64_C(0xc8928f6bb7bd2e5a)},
        {"abcd", 7, UINT64_C(0xfc21fe5c7148828e)},
        {"abcdefg", 0, UINT64_C(0xbb53aeb0a45d8716)},
        {"abcdefgh", 0, UINT64_C(0x79ae87a251263d67)},
        {"abcdefghi", 1, UINT64_C(0xf926e339cde32cea)},
        {"abcdefghijklmnop", 0, UINT64_C(0xf84450426dafb667)},
        {"abcdefghijklmnopq", 0, UINT64_C(0xa4e2cbc53c1c3e7e)},
        {"new_summarizer_model", 0, UINT64_C(0xd18b0bf11082537c)},
        {"user-12345678901234", 1, UINT64_C(0xabad076d9e33a52b)},
        {"123e4567-e89b-12d3-a456-426614174000", 1, UINT64_C(0x134601c92d1ab9a9)},
    };
    size_t i;

    for (i = 0; i < sizeof known / sizeof known[0]; i++)
        cr_expect_eq(flagshm_hash64_(known[i].text, strlen(known[i].text), known[i].seed), known[i].hash,
                     "\"%s\"", known[i].text);
}

Test(hash, hash64_reads_its_bytes_and_no_others)
{
    unsigned char bytes[128];
    size_t length, i;

    fill(bytes, sizeof bytes, 5);
    for (length = 0; length <= 64; length++) {
        unsigned char *exact = malloc(length ? length : 1), *shifted = malloc(length + 1);
        uint64_t hash;

        cr_assert(exact && shifted);
        memcpy(exact, bytes, length);
        memcpy(shifted + 1, bytes, length);
        hash = flagshm_hash64_(exact, length, 3);
        cr_assert_eq(flagshm_hash64_(shifted + 1, length, 3), hash);
        cr_assert_neq(flagshm_hash64_(exact, length, 4), hash);
        for (i = 0; i < length; i++) {
            exact[i] ^= 1;
            cr_assert_neq(flagshm_hash64_(exact, length, 3), hash, "byte %zu of %zu does not count", i,
                          length);
            exact[i] ^= 1;
        }
        free(exact);
        free(shifted);
    }
}
