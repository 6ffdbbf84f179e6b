/* notify_target and notify_sign: which file is a target, what an error says and does not say, and the signature. */
#include "server/notify.h"
#include "server/notify_sign.h"
#include "server/notify_target.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static char dir[64], path[80];
static struct notify_target target;
static struct flagshm_error error;

static void set_up(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/flagshm-target-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/oncall", dir);
}

static void tear_down(void)
{
    notify_target_free(&target);
    (void)unlink(path);
    (void)rmdir(dir);
}

TestSuite(notify_target, .init = set_up, .fini = tear_down);

static void write_bytes(const char *text, size_t bytes, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert(fd >= 0);
    cr_assert_eq(fchmod(fd, mode), 0);
    cr_assert_eq(write(fd, text, bytes), (ssize_t)bytes);
    (void)close(fd);
}

static int read_text(const char *text)
{
    notify_target_free(&target);
    write_bytes(text, strlen(text), 0600);
    return notify_target_read(&target, dir, "oncall", &error);
}

static bool says(const char *words)
{
    return strncmp(error.text, path, strlen(path)) == 0 && strstr(error.text, words) != NULL;
}

Test(notify_target, a_webhook_has_an_address_a_secret_and_ten_seconds)
{
    cr_assert_eq(
        read_text("{\"url\": \"https://ann:pw@hooks.example.com/T/XYZ?k=v\", \"secret\": \"" SECRET "\"}"), 0,
        "%s", error.text);
    cr_assert_str_eq(target.url, "https://ann:pw@hooks.example.com/T/XYZ?k=v");
    cr_assert_str_eq(target.origin, "https://hooks.example.com:443", "nothing that is secret");
    cr_assert_eq(target.secret_bytes, 32);
    cr_assert_eq(target.secret[31], 31);
    cr_assert_eq(target.timeout_s, 10);
    cr_assert_null(target.argv);
    cr_assert_eq(read_text("{\"url\": \"http://127.0.0.1:8080\", \"timeout_s\": 3}"), 0, "%s", error.text);
    cr_assert_eq(target.secret_bytes, 0);
    cr_assert_eq(target.timeout_s, 3);
}

Test(notify_target, a_program_has_its_words_and_thirty_seconds)
{
    cr_assert_eq(read_text("{\"argv\": [\"/bin/sh\", \"-c\", \"\"]}"), 0, "%s", error.text);
    cr_assert_str_eq(target.argv[1], "-c");
    cr_assert_str_empty(target.argv[2]);
    cr_assert_null(target.argv[3]);
    cr_assert_null(target.url);
    cr_assert_eq(target.timeout_s, 30);
}

Test(notify_target, what_is_wrong_is_named_with_its_file_and_key)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", ":1:1: this is not sound JSON"},
        {"{\"url\": \"http://a\",}", ":1:19: this is not sound JSON"},
        {"{\"url\": \"http://a\",\n\"url\": \"http://b\"}", ":2:1: this key stands twice"},
        {"[]", " must be a JSON object"},
        {"{}", "\"url\" or \"argv\" is missing"},
        {"{\"url\": \"http://a\", \"argv\": [\"/bin/sh\"]}", "\"url\" and \"argv\""},
        {"{\"argv\": [\"/bin/sh\"], \"secret\": \"" SECRET "\"}", "\"secret\" signs for a \"url\""},
        {"{\"url\": \"http://a\", \"sercet\": 1}", "there is no key \"sercet\""},
        {"{\"url\": 1}", "\"url\" must be"},
        {"{\"url\": \"\"}", "\"url\" must be"},
        {"{\"url\": \"hooks.example.com\"}", "\"url\" must be"},
        {"{\"url\": \"ftp://a\"}", "\"url\" must be"},
        {"{\"url\": \"file:///etc/passwd\"}", "\"url\" must be"},
        {"{\"url\": \"http://\"}", "\"url\" must be"},
        {"{\"url\": \"http://a/b c\"}", "\"url\" must be"},
        {"{\"url\": \"http://a/\\nb\"}", "\"url\" must be"},
        {"{\"url\": \"http://a\", \"secret\": null}", "\"secret\" must be"},
        {"{\"argv\": \"/bin/sh\"}", "\"argv\" must be"},
        {"{\"argv\": []}", "\"argv\" must be"},
        {"{\"argv\": [\"sh\"]}", "\"argv\" must be"},
        {"{\"argv\": [\"/bin/sh\", 1]}", "\"argv\" must be"},
        {"{\"argv\": [\"/nonexistent/page\"]}", "/nonexistent/page cannot be run: No such file"},
        {"{\"argv\": [\"/etc/passwd\"]}", "/etc/passwd cannot be run: Permission denied"},
        {"{\"url\": \"http://a\", \"timeout_s\": 0}", "\"timeout_s\" must be"},
        {"{\"url\": \"http://a\", \"timeout_s\": 301}", "\"timeout_s\" must be"},
        {"{\"url\": \"http://a\", \"timeout_s\": 1.5}", "\"timeout_s\" must be"},
        {"{\"url\": \"http://a\", \"timeout_s\": \"1\"}", "\"timeout_s\" must be"},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error.text[0] = '\0';
        cr_expect_lt(read_text(cases[i].text), 0, "%s", cases[i].text);
        cr_expect(says(cases[i].words), "%s: %s", cases[i].text, error.text);
    }
}

Test(notify_target, no_error_repeats_what_may_be_secret)
{
    static const char *const texts[] = {
        "{\"url\": \"ftp://ann:hunter2@a/hunter2\"}",
        "{\"url\": \"https://ann:hunter2@/\"}",
        "{\"url\": \"http://a\", \"secret\": \"whsec_hunter2\"}",
        "{\"url\": \"http://a\", \"secret\": hunter2}",
        "{\"url\": \"http://a\", \"secret\": \"hunter2}",
        "{\"url\": \"http://a\", \"whsec_hunter2\": 1}",
        "{\"url\": \"http://a\", \"https://a/hunter2\": 1}",
        "{\"url\": \"http://a\"} hunter2",
        "{\"argv\": [\"/bin/sh\", \"hunter2\", 1]}",
        "\"hunter2\"",
    };
    size_t i;

    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        cr_expect_lt(read_text(texts[i]), 0, "%s", texts[i]);
        cr_expect(says("") && strstr(error.text, "hunter2") == NULL, "%s: %s", texts[i], error.text);
    }
}

Test(notify_target, the_file_is_regular_and_closed_to_others)
{
    static const char sound[] = "{\"url\": \"http://a\"}";
    static const mode_t open_modes[] = {0640, 0604, 0620, 0602, 0601, 0777},
                        closed_modes[] = {0600, 0400, 0700};
    char other[100];
    size_t i;

    for (i = 0; i < sizeof open_modes / sizeof open_modes[0]; i++) {
        write_bytes(sound, sizeof sound - 1, open_modes[i]);
        cr_expect_eq(flagshm_notify_check(dir, "oncall", &error), -EPERM, "%o", open_modes[i]);
        cr_expect(says("chmod 600"), "%s", error.text);
        (void)unlink(path);
    }
    for (i = 0; i < sizeof closed_modes / sizeof closed_modes[0]; i++) {
        write_bytes(sound, sizeof sound - 1, closed_modes[i]);
        cr_expect_eq(flagshm_notify_check(dir, "oncall", &error), 0, "%s", error.text);
        (void)unlink(path);
    }
    (void)snprintf(other, sizeof other, "%s/other", dir);
    write_bytes(sound, sizeof sound - 1, 0600);
    cr_assert_eq(rename(path, other), 0);
    cr_assert_eq(symlink(other, path), 0);
    cr_expect_eq(flagshm_notify_check(dir, "oncall", &error), -ELOOP);
    cr_expect(says("symbolic link"), "%s", error.text);
    (void)unlink(other);
    (void)unlink(path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_expect_eq(flagshm_notify_check(dir, "oncall", &error), -EINVAL, "and nobody waits for a writer");
    cr_expect(says("not a regular file"), "%s", error.text);
    (void)unlink(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_expect_eq(flagshm_notify_check(dir, "oncall", &error), -EINVAL);
    (void)rmdir(path);
    cr_expect_eq(flagshm_notify_check(dir, "oncall", &error), -ENOENT);
    cr_expect(says("there is no such file"), "%s", error.text);
}

Test(notify_target, the_file_is_roots_or_the_servers)
{
    if (geteuid() != 0)
        cr_skip_test("only root can give a file away");
    write_bytes("{\"url\": \"http://a\"}", 19, 0600);
    cr_assert_eq(chown(path, 4711, (gid_t)-1), 0);
    cr_assert_eq(flagshm_notify_check(dir, "oncall", &error), -EPERM);
    cr_assert(says(" belongs to user 4711"), "%s", error.text);
    cr_assert_eq(seteuid(4711), 0);
    cr_expect_eq(chmod(dir, 0755), -1);
    cr_assert_eq(seteuid(0), 0);
    cr_assert_eq(chmod(dir, 0755), 0);
    cr_assert_eq(seteuid(4711), 0);
    cr_expect_eq(flagshm_notify_check(dir, "oncall", &error), 0, "%s", error.text);
    cr_assert_eq(seteuid(0), 0);
}

Test(notify_target, a_file_has_a_largest_size_and_no_nul)
{
    static char large[65538];

    memset(large, ' ', sizeof large);
    memcpy(large, "{\"url\": \"http://a\"}", 19);
    write_bytes(large, 65536, 0600);
    cr_assert_eq(flagshm_notify_check(dir, "oncall", &error), 0, "%s", error.text);
    write_bytes(large, 65537, 0600);
    cr_assert_eq(flagshm_notify_check(dir, "oncall", &error), -EFBIG);
    write_bytes("{\"url\": \"http://a\"}\0{", 21, 0600);
    cr_assert_eq(flagshm_notify_check(dir, "oncall", &error), -EINVAL);
}

Test(notify_target, a_name_leads_nowhere_else)
{
    static const char *const names[] = {"", ".", "..", "../oncall", "a/b", "-x", ".hidden", "a b", "a\n"};
    char inside[100];
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_expect_eq(flagshm_notify_check(dir, names[i], &error), -EINVAL, "%s", names[i]);
    write_bytes("{\"url\": \"http://a\"}", 19, 0600);
    (void)snprintf(inside, sizeof inside, "%s/.", dir);
    cr_assert_eq(flagshm_notify_check(inside, "oncall", &error), 0, "%s", error.text);
}

/* ---- the signature ---- */

Test(notify_sign, a_secret_is_24_to_64_bytes_in_base64_behind_its_prefix)
{
    static const struct {
        const char *text;
        size_t bytes;
    } cases[] = {
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 24},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA==", 25},
        {SECRET, 32},
        {"whsec_wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/w==",
         64},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0},
        {"whsec_", 0},
        {"", 0},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0},
        {"whsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA", 0},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA=A", 0},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXG===", 0},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMU-RYX_BkaGxwdHh8=", 0},
        {"whsec_ AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 0},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", 0},
    };
    unsigned char secret[NOTIFY_SECRET_ROOM];
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_eq(notify_secret_decode(cases[i].text, secret), cases[i].bytes, "%s", cases[i].text);
}

/* From Python: "v1," + base64(hmac.new(secret, f"{id}.{timestamp}.{body}".encode(), sha256).digest()). The first also stands in the
 * tests of the specification's own libraries. */
Test(notify_sign, signatures_are_those_of_the_specification)
{
    static const struct {
        const char *secret, *id;
        int64_t timestamp_s;
        const char *body, *signature;
    } cases[] = {
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
         "{\"test\": 2432232314}", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {SECRET, "n1", 1764072000, "{\"text\": \"zurück\"}",
         "v1,Sx81FHNAnptPX6+ce1nIC8HIK1mzMU3G0cDuCPw/00E="},
        {"whsec_wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/w==",
         "n2", 0, "", "v1,QJ8HjanR2CXMECBpm32Ro1ghIB0LYfEqTeCrC6ph8pg="},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA==", "a%2Eb", 1764072000, "{}",
         "v1,QiNAZousdOWABQ6nsUJI3tEsxBNYQEy5ABuNqLCSMZA="},
    };
    char signature[NOTIFY_SIGNATURE_ROOM];
    unsigned char secret[NOTIFY_SECRET_ROOM];
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bytes = notify_secret_decode(cases[i].secret, secret);

        cr_assert_gt(bytes, 0);
        cr_assert(notify_sign(secret, bytes, cases[i].id, cases[i].timestamp_s, cases[i].body, signature));
        cr_expect_str_eq(signature, cases[i].signature, "%s", cases[i].id);
    }
}

Test(notify_sign, an_id_fits_into_a_header_and_cannot_move_the_parts_of_what_is_signed)
{
    char out[16];

    cr_assert(notify_id_encode("a-1:b_c", out, sizeof out));
    cr_assert_str_eq(out, "a-1:b_c");
    cr_assert(notify_id_encode("a.b\r\n%", out, sizeof out));
    cr_assert_str_eq(out, "a%2Eb%0D%0A%25");
    cr_assert_not(notify_id_encode("0123456789abcdef", out, sizeof out));
}
