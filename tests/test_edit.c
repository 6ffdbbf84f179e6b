#include "server/flagfile.h"
#include "tests/flagfile_fixture.h"
#include "tools/edit.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CV "\"control\": \"c\", \"variant\": \"v\""

/* ---- pure ---- */

/* The new text, malloc'ed; NULL where it was refused. */
static char *edited(const char *text, const char *flag, uint32_t mpct, struct flagshm_error *error)
{
    struct flagshm_edit edit;
    char *out = NULL;

    if (flagshm_edit_share(&edit, text, strlen(text), flag, mpct, error) == 0 && edit.text)
        out = strdup(edit.text);
    flagshm_edit_free(&edit);
    return out;
}

Test(edit, only_the_bytes_of_the_number_change)
{
    static const struct {
        const char *before, *after;
        uint32_t mpct;
    } cases[] = {
        {"{\"flags\":{\"a\":{" CV ",\"rollout_pct\":5}}}", "{\"flags\":{\"a\":{" CV ",\"rollout_pct\":25}}}",
         25000},
        {"{\"flags\": {\"a\": {\"rollout_pct\" : 12.125 , " CV "}}}\n",
         "{\"flags\": {\"a\": {\"rollout_pct\" : 0 , " CV "}}}\n", 0},
        {"{\r\n\t\"flags\": {\"a\": {\"rollout_pct\":\r\n 0.001, " CV "}}}\r\n",
         "{\r\n\t\"flags\": {\"a\": {\"rollout_pct\":\r\n 99.999, " CV "}}}\r\n", 99999},
        {"{\"flags\": {\"b\": {" CV ", \"rollout_pct\": 7}, \"a\": {" CV ", \"rollout_pct\": 7}}}",
         "{\"flags\": {\"b\": {" CV ", \"rollout_pct\": 7}, \"a\": {" CV ", \"rollout_pct\": 100}}}", 100000},
        {"{\"flags\": {\"a\": {\"$comment\": \"\\\"rollout_pct\\\": 5\", \"rollout\\u005fpct\": 5, " CV "}}}",
         "{\"flags\": {\"a\": {\"$comment\": \"\\\"rollout_pct\\\": 5\", \"rollout\\u005fpct\": 0.5, " CV
         "}}}",
         500},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_error error = {{0}};
        char *text = edited(cases[i].before, "a", cases[i].mpct, &error);

        cr_assert_not_null(text, "case %zu: %s", i, error.text);
        cr_assert_str_eq(text, cases[i].after);
        free(text);
    }
}

Test(edit, an_absent_share_is_put_behind_the_last_member_and_laid_out_like_it)
{
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{\"flags\":{\"a\":{\"control\":\"c\",\"variant\":\"v\"}}}",
         "{\"flags\":{\"a\":{\"control\":\"c\",\"variant\":\"v\",\"rollout_pct\":5}}}"},
        {"{\"flags\": {\"a\": {" CV "}}}", "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 5}}}"},
        {"{\"flags\": {\n    \"a\": {\n        \"control\": \"c\",\n        \"variant\": \"v\"\n    }\n}}\n",
         "{\"flags\": {\n    \"a\": {\n        \"control\": \"c\",\n        \"variant\": \"v\",\n        "
         "\"rollout_pct\": "
         "5\n    }\n}}\n"},
        {"{\"flags\": {\"a\": {\r\n\t\"control\": \"c\",\r\n\r\n\t\"variant\" : \"v\"\r\n}}}",
         "{\"flags\": {\"a\": {\r\n\t\"control\": \"c\",\r\n\r\n\t\"variant\" : \"v\",\r\n\t\"rollout_pct\" "
         ": 5\r\n}}}"},
        {"{\"flags\": {\"a\": {\"control\": \"c\"\n  , \"variant\": {\"model\": \"v\", \"x\": [1, 2]}\n}}}",
         "{\"flags\": {\"a\": {\"control\": \"c\"\n  , \"variant\": {\"model\": \"v\", \"x\": [1, 2]}, "
         "\"rollout_pct\": "
         "5\n}}}"},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_error error = {{0}};
        char *text = edited(cases[i].before, "a", 5000, &error);

        cr_assert_not_null(text, "case %zu: %s", i, error.text);
        cr_assert_str_eq(text, cases[i].after);
        free(text);
    }
}

Test(edit, what_the_flag_says_already_is_no_edit)
{
    static const struct {
        const char *text;
        uint32_t mpct;
    } cases[] = {
        {"{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 5.0}}}", 5000},
        {"{\"flags\": {\"a\": {" CV "}}}", 0},
        {"{\"flags\": {\"a\": {" CV ", \"rollout\": {\"plan\": \"b2b\"}}}}", 100000},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_edit edit;
        struct flagshm_error error = {{0}};

        cr_assert_eq(
            flagshm_edit_share(&edit, cases[i].text, strlen(cases[i].text), "a", cases[i].mpct, &error), 0,
            "%s", error.text);
        cr_assert(edit.is_same);
        cr_assert_null(edit.text);
        cr_assert_eq(edit.old_mpct, cases[i].mpct);
        flagshm_edit_free(&edit);
    }
}

Test(edit, the_old_share_the_plan_and_the_switch_are_told)
{
    const char *text = "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 50, \"enabled\": false, "
                       "\"rollout\": {\"plan\": \"b2b\"}}}}";
    struct flagshm_edit edit;
    struct flagshm_error error = {{0}};

    cr_assert_eq(flagshm_edit_share(&edit, text, strlen(text), "a", 25000, &error), 0, "%s", error.text);
    cr_assert(edit.is_planned);
    cr_assert_not(edit.is_enabled);
    cr_assert_eq(edit.old_mpct, 50000);
    cr_assert_not(edit.is_same);
    flagshm_edit_free(&edit);
}

Test(edit, what_cannot_be_edited_is_refused_with_its_place)
{
    static const struct {
        const char *text, *flag, *sentence;
        int result;
    } cases[] = {
        {"{\"flags\": {\"summary\": {" CV "}}}", "sumary",
         "no flag \"sumary\" in the file (did you mean \"summary\"?)", -ENOENT},
        {"{\"flags\": {}}", "a", "no flag \"a\" in the file", -ENOENT},
        {"{\"flags\": {\n\"b\": {" CV ", \"rollout_pct\": 101},\n\"a\": {" CV ", \"rollout_pct\": 500}}}",
         "a",
         "flag \"a\" is broken in the file, mend it first: line 3, column 54: rollout_pct must be 0..100, "
         "got 500",
         -EBADMSG},
        {"{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 5, \"rollout_pct\": 6}}}", "a",
         "flag \"a\" is broken in the file, mend it first: line 1, column 68:", -EBADMSG},
        {"{\"flags\": {\"a\": {" CV "}", "a",
         "the file is broken, mend it first: line 1, column 49:", -EBADMSG},
        {"", "a", "the file is broken, mend it first: line 1, column 1:", -EBADMSG},
        {"{\"flags\": {\"a\": {" CV ", \"salt\": \"s\", \"rollout_pct\": 0},\n \"b\": {" CV
         ", \"salt\": \"s\", \"rollout_pct\": 10}}}",
         "a", "it would break flag \"b\": line 2, column", -EINVAL},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_edit edit;
        struct flagshm_error error = {{0}};

        cr_assert_eq(
            flagshm_edit_share(&edit, cases[i].text, strlen(cases[i].text), cases[i].flag, 5000, &error),
            cases[i].result, "case %zu: %s", i, error.text);
        cr_assert(strncmp(error.text, cases[i].sentence, strlen(cases[i].sentence)) == 0, "case %zu: %s", i,
                  error.text);
        cr_assert_null(edit.text);
        flagshm_edit_free(&edit);
    }
}

Test(edit, a_broken_neighbour_holds_nothing_back)
{
    struct flagshm_error error = {{0}};
    char *text = edited("{\"flags\": {\"b\": {\"rollout_pct\": 101}, \"a\": {" CV ", \"rollout_pct\": 5}}}",
                        "a", 6000, &error);

    cr_assert_not_null(text, "%s", error.text);
    cr_assert_str_eq(text,
                     "{\"flags\": {\"b\": {\"rollout_pct\": 101}, \"a\": {" CV ", \"rollout_pct\": 6}}}");
    free(text);
}

/* Every flag of every good file: the rest of the text is the same, byte for byte, and so is what it says of the others. */
static void check_each_flag(const char *path)
{
    struct flagshm_flagfile before, after;
    struct flagshm_diags diags = {0};
    size_t bytes, i, k;
    char *text = fixture_read(path, &bytes);

    cr_assert_not_null(text);
    cr_assert_eq(flagshm_flagfile_parse(&before, text, bytes, NULL, &diags), 0);
    for (i = 0; i < before.count; i++) {
        struct flagshm_edit edit;
        struct flagshm_error error = {{0}};
        size_t head = 0, tail = 0;

        int result = flagshm_edit_share(&edit, text, bytes, before.entries[i].flag.name, 33333, &error);

        if (result == -EINVAL && strstr(error.text, "salt")) { /* two flags may share one at 0 % only */
            flagshm_edit_free(&edit);
            continue;
        }
        cr_assert_eq(result, 0, "%s: %s", path, error.text);
        cr_assert_eq(flagshm_flagfile_parse(&after, edit.text, edit.bytes, NULL, &diags), 0);
        cr_assert_eq(after.entries[i].flag.rollout_mpct, 33333);
        while (head < bytes && text[head] == edit.text[head])
            head++;
        while (tail < bytes - head && tail < edit.bytes - head &&
               text[bytes - 1 - tail] == edit.text[edit.bytes - 1 - tail])
            tail++;
        cr_assert_leq(bytes - head - tail, 7, "%s: more than a number went", path);
        cr_assert_leq(edit.bytes - head - tail, 80, "%s: more than a member came", path);
        for (k = 0; k < before.count; k++) {
            const struct flagshm_flag *a = &before.entries[k].flag, *b = &after.entries[k].flag;

            cr_assert_str_eq(a->name, b->name);
            if (k != i)
                cr_assert(a->text_bytes == b->text_bytes && memcmp(a->text, b->text, a->text_bytes) == 0);
        }
        flagshm_flagfile_free(&after);
        flagshm_edit_free(&edit);
    }
    flagshm_diags_free(&diags);
    flagshm_flagfile_free(&before);
    free(text);
}

Test(edit, in_every_good_file_each_flag_can_be_set_without_touching_the_rest)
{
    cr_assert_gt(fixture_each_good(check_each_flag), 5);
}

Test(edit, a_text_may_only_take_the_place_of_one_that_is_no_better)
{
    static const char sound[] = "{\"flags\": {\"a\": {" CV "}, \"b\": {" CV "}}}",
                      a_broken[] = "{\"flags\": {\"a\": {\"rollout_pct\": 500}, \"b\": {" CV "}}}",
                      b_broken[] = "{\"flags\": {\"a\": {" CV "}, \"b\": {\"rollout_pct\": 500}}}",
                      unknown_key[] = "{\"flgas\": 1, \"flags\": {\"a\": {" CV "}, \"b\": {" CV "}}}",
                      no_json[] = "{\"flags\": ";
    static const struct {
        const char *before, *after;
        int result;
    } cases[] = {
        {sound, sound, 0},
        {a_broken, sound, 0},
        {no_json, sound, 0},
        {a_broken, a_broken, 0},
        {sound, a_broken, -EINVAL},
        {a_broken, b_broken, -EINVAL},
        {no_json, a_broken, -EINVAL},
        {sound, no_json, -EINVAL},
        {no_json, no_json, -EINVAL},
        {sound, unknown_key, -EINVAL},
        {unknown_key, unknown_key, 0},
        {sound, "", -EINVAL},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_diags diags = {0};
        struct flagshm_error error = {{0}};

        cr_assert_eq(flagshm_edit_check(cases[i].before, strlen(cases[i].before), cases[i].after,
                                        strlen(cases[i].after), &diags, &error),
                     cases[i].result, "case %zu: %s", i, error.text);
        flagshm_diags_free(&diags);
    }
}

/* ---- the edge ---- */

static const char first[] = "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 5}}}\n",
                  second[] = "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 25}}}\n",
                  other[] = "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 50}}}\n";

static char *at(const char *dir, const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void put(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");

    cr_assert_not_null(out, "%s: %s", path, strerror(errno));
    cr_assert_geq(fputs(text, out), 0);
    cr_assert_eq(fclose(out), 0);
}

static void check_text(const char *path, const char *text)
{
    size_t bytes;
    char *now = fixture_read(path, &bytes);

    cr_assert_not_null(now, "%s", path);
    cr_assert_str_eq(now, text);
    free(now);
}

static size_t count_names(const char *dir)
{
    DIR *d = opendir(dir);
    size_t count = 0;

    cr_assert_not_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count - 2;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

/* A directory with flags.json. */
static char *make_dir(char out[64])
{
    (void)snprintf(out, 64, "/tmp/flagshm-edit-XXXXXX");
    cr_assert_not_null(mkdtemp(out));
    put(at(out, "flags.json"), first);
    return out;
}

static void remove_dir(const char *dir)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int replace(const char *path, const char *text, struct flagshm_error *error)
{
    struct flagshm_edit_file file;
    int result = flagshm_edit_open(&file, path, error);

    if (result == 0)
        result = flagshm_edit_replace(&file, text, strlen(text), error);
    flagshm_edit_close(&file);
    return result;
}

#define SKIP(...)                                                                                            \
    do {                                                                                                     \
        fprintf(stderr, "skipped: " __VA_ARGS__);                                                            \
        fputc('\n', stderr);                                                                                 \
        remove_dir(dir);                                                                                     \
        return;                                                                                              \
    } while (0)

Test(edit, the_new_file_has_owner_and_mode_of_the_old_one)
{
    char dir[64], *path = at(make_dir(dir), "flags.json");
    uid_t uid = geteuid() == 0 ? 1234 : geteuid();
    gid_t gid = geteuid() == 0 ? 2345 : getegid();
    struct flagshm_error error = {{0}};
    struct stat before, after;

    cr_assert_eq(chown(path, uid, gid), 0);
    cr_assert_eq(chmod(path, 0664), 0);
    cr_assert_eq(stat(path, &before), 0);
    umask(077);
    cr_assert_eq(replace(path, second, &error), 0, "%s", error.text);
    cr_assert_eq(stat(path, &after), 0);
    cr_assert_eq(after.st_mode, before.st_mode);
    cr_assert_eq(after.st_uid, uid);
    cr_assert_eq(after.st_gid, gid);
    cr_assert_neq(after.st_ino, before.st_ino, "it was not replaced whole");
    check_text(path, second);
    cr_assert_eq(count_names(dir), 1);
    remove_dir(dir);
}

/* An access list as the kernel takes it: user::rw- user:1234:r-- group::r-- mask::r-- other::--- */
static const unsigned char access_list[] = {2,    0,   0,   0,   1,  0, 6, 0, 255, 255, 255, 255, 2,  0, 4, 0,
                                            0xd2, 4,   0,   0,   4,  0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0,
                                            255,  255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};

Test(edit, extended_attributes_and_access_lists_are_kept)
{
    char dir[64], *path = at(make_dir(dir), "flags.json"), value[64];
    struct flagshm_error error = {{0}};
    struct stat status;

    if (setxattr(path, "user.ticket", "OPS-1", 5, 0) != 0)
        SKIP("no user attributes on /tmp: %s", strerror(errno));
    if (setxattr(path, "system.posix_acl_access", access_list, sizeof access_list, 0) != 0)
        SKIP("no access lists on /tmp: %s", strerror(errno));
    cr_assert_eq(replace(path, second, &error), 0, "%s", error.text);
    check_text(path, second);
    cr_assert_eq(getxattr(path, "user.ticket", value, sizeof value), 5);
    cr_assert_eq(memcmp(value, "OPS-1", 5), 0);
    cr_assert_eq(getxattr(path, "system.posix_acl_access", value, sizeof value), (ssize_t)sizeof access_list);
    cr_assert_eq(memcmp(value, access_list, sizeof access_list), 0);
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0640);
    remove_dir(dir);
}

Test(edit, the_directorys_default_access_list_does_not_reach_the_file)
{
    char dir[64], *path = at(make_dir(dir), "flags.json"), value[64];
    struct flagshm_error error = {{0}};
    struct stat status;

    cr_assert_eq(chmod(path, 0640), 0);
    if (setxattr(dir, "system.posix_acl_default", access_list, sizeof access_list, 0) != 0)
        SKIP("no access lists on /tmp: %s", strerror(errno));
    cr_assert_eq(replace(path, second, &error), 0, "%s", error.text);
    cr_assert_eq(getxattr(path, "system.posix_acl_access", value, sizeof value), -1);
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0640);
    remove_dir(dir);
}

Test(edit, links_are_followed_and_stay_links)
{
    char dir[64], *link = at(make_dir(dir), "link.json");
    struct flagshm_error error = {{0}};
    struct stat status;

    cr_assert_eq(mkdir(at(dir, "real"), 0755), 0);
    cr_assert_eq(rename(at(dir, "flags.json"), at(dir, "real/flags.json")), 0);
    cr_assert_eq(symlink("real/flags.json", at(dir, "middle.json")), 0);
    cr_assert_eq(symlink("middle.json", link), 0);
    cr_assert_eq(replace(link, second, &error), 0, "%s", error.text);
    check_text(at(dir, "real/flags.json"), second);
    cr_assert_eq(lstat(link, &status), 0);
    cr_assert(S_ISLNK(status.st_mode));
    cr_assert_eq(lstat(at(dir, "middle.json"), &status), 0);
    cr_assert(S_ISLNK(status.st_mode));
    cr_assert_eq(count_names(at(dir, "real")), 1);
    remove_dir(dir);
}

enum meddling { REWRITTEN, REPLACED, REMOVED, RETARGETED, CHMODDED };

/* Somebody else changes the file between our reading and our renaming. */
static void check_conflict(enum meddling meddling)
{
    char dir[64], *path = at(make_dir(dir), "flags.json"), *link = at(dir, "link.json");
    struct flagshm_edit_file file;
    struct flagshm_error error = {{0}};

    put(at(dir, "other.json"), other);
    cr_assert_eq(symlink("flags.json", link), 0);
    cr_assert_eq(flagshm_edit_open(&file, link, &error), 0, "%s", error.text);
    switch (meddling) {
    case REWRITTEN:
        put(path, other);
        break;
    case REPLACED:
        cr_assert_eq(rename(at(dir, "other.json"), path), 0);
        break;
    case REMOVED:
        cr_assert_eq(unlink(path), 0);
        break;
    case RETARGETED:
        cr_assert_eq(unlink(link), 0);
        cr_assert_eq(symlink("other.json", link), 0);
        break;
    case CHMODDED:
        cr_assert_eq(chmod(path, 0640), 0); /* under no usual umask the mode it has */
        break;
    }
    cr_assert_eq(flagshm_edit_replace(&file, second, strlen(second), &error), -ESTALE, "%d: %s", meddling,
                 error.text);
    cr_assert_not_null(strstr(error.text, "nothing was written"), "%s", error.text);
    flagshm_edit_close(&file);
    if (meddling == REMOVED)
        cr_assert_neq(access(path, F_OK), 0);
    else
        check_text(link, meddling == CHMODDED ? first : other);
    cr_assert_eq(count_names(dir), meddling == REPLACED || meddling == REMOVED ? 2 : 3, "litter");
    remove_dir(dir);
}

Test(edit, somebody_elses_change_is_never_overwritten)
{
    check_conflict(REWRITTEN);
    check_conflict(REPLACED);
    check_conflict(REMOVED);
    check_conflict(RETARGETED);
    check_conflict(CHMODDED);
}

Test(edit, a_touch_without_a_change_is_no_conflict)
{
    char dir[64], *path = at(make_dir(dir), "flags.json");
    struct flagshm_edit_file file;
    struct flagshm_error error = {{0}};

    cr_assert_eq(flagshm_edit_open(&file, path, &error), 0, "%s", error.text);
    put(path, first);
    cr_assert_eq(flagshm_edit_replace(&file, second, strlen(second), &error), 0, "%s", error.text);
    flagshm_edit_close(&file);
    check_text(path, second);
    remove_dir(dir);
}

static void check_refused(const char *path, int result, const char *says)
{
    struct flagshm_error error = {{0}};

    cr_assert_eq(replace(path, second, &error), result, "%s: %s", path, error.text);
    cr_assert_not_null(strstr(error.text, says), "%s", error.text);
}

Test(edit, what_is_made_by_something_else_is_refused_with_what_to_edit_instead)
{
    char dir[64], *path = at(make_dir(dir), "flags.json");

    cr_assert_eq(mkdir(at(dir, "..2026_11_25_00_00_00.123"), 0755), 0);
    put(at(dir, "..2026_11_25_00_00_00.123/config.json"), first);
    cr_assert_eq(symlink("..2026_11_25_00_00_00.123", at(dir, "..data")), 0);
    cr_assert_eq(symlink("..data/config.json", at(dir, "config.json")), 0);
    check_refused(at(dir, "config.json"), -EROFS, "kubectl edit configmap");
    check_text(at(dir, "config.json"), first);

    cr_assert_eq(chmod(path, 0444), 0);
    check_refused(path, -EROFS, "is read-only (mode 0444): edit what it is made from");
    check_text(path, first);
    check_refused(dir, -EISDIR, "is a directory");
    check_refused(at(dir, "none.json"), -ENOENT, "cannot find");
    cr_assert_eq(mkfifo(at(dir, "fifo"), 0600), 0);
    check_refused(at(dir, "fifo"), -EPERM, "not a regular file");
    remove_dir(dir);
}

/* A path with dots that is no ConfigMap. */
Test(edit, dots_alone_make_no_configmap)
{
    char dir[64], *path = at(make_dir(dir), "sub/../.flags..json");
    struct flagshm_error error = {{0}};

    cr_assert_eq(mkdir(at(dir, "sub"), 0755), 0);
    cr_assert_eq(rename(at(dir, "flags.json"), at(dir, ".flags..json")), 0);
    cr_assert_eq(replace(path, second, &error), 0, "%s", error.text);
    check_text(path, second);
    remove_dir(dir);
}

/* Runs as another user; only root can. */
static int as_stranger(const char *path, struct flagshm_error *error)
{
    pid_t child = fork();
    int status = 0;

    (void)error;
    if (child == 0) {
        struct flagshm_error its = {{0}};
        int result = setgid(65534) == 0 && setuid(65534) == 0 ? replace(path, second, &its) : -EIO;

        fprintf(stderr, "%s\n", its.text);
        _exit(-result);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return -WEXITSTATUS(status);
}

Test(edit, who_may_not_write_is_told_who_may)
{
    char dir[64], *path = at(make_dir(dir), "flags.json");
    struct flagshm_error error = {{0}};

    if (geteuid() != 0)
        SKIP("another user is needed, and only root can become one");
    cr_assert_eq(chmod(dir, 0755), 0);
    cr_assert_eq(as_stranger(path, &error), -EACCES); /* the file is not theirs */
    cr_assert_eq(chmod(path, 0666), 0);
    cr_assert_eq(as_stranger(path, &error), -EACCES); /* nor the directory */
    cr_assert_eq(chmod(dir, 0777), 0);
    cr_assert_eq(as_stranger(path, &error), -EACCES); /* it would change hands */
    check_text(path, first);
    cr_assert_eq(count_names(dir), 1, "litter");
    cr_assert_eq(chown(path, 65534, 65534), 0);
    cr_assert_eq(as_stranger(path, &error), 0);
    check_text(path, second);
    remove_dir(dir);
}

Test(edit, hard_links_keep_the_old_text_and_that_is_said)
{
    char dir[64], *path = at(make_dir(dir), "flags.json");
    struct flagshm_edit_file file;
    struct flagshm_error error = {{0}};

    cr_assert_eq(link(path, at(dir, "backup.json")), 0);
    cr_assert_eq(flagshm_edit_open(&file, path, &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_edit_replace(&file, second, strlen(second), &error), 0, "%s", error.text);
    cr_assert_not_null(strstr(file.note.text, "had 2 names (hard links)"), "%s", file.note.text);
    flagshm_edit_close(&file);
    check_text(path, second);
    check_text(at(dir, "backup.json"), first);
    remove_dir(dir);
}

/* Any user: a limit on file sizes fails the write half way, as a full disk does. */
Test(edit, a_write_that_fails_leaves_the_old_file_and_no_litter)
{
    char dir[64], *path = at(make_dir(dir), "flags.json");
    struct rlimit limit = {.rlim_cur = 20, .rlim_max = RLIM_INFINITY}, before;
    struct flagshm_error error = {{0}};
    int result;

    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit.rlim_max = before.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    result = replace(path, second, &error);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    cr_assert_eq(result, -EFBIG, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "the file is as it was"), "%s", error.text);
    check_text(path, first);
    cr_assert_eq(count_names(dir), 1, "litter");
    remove_dir(dir);
}

/* A mount namespace of our own, so that nothing stays mounted whatever happens. */
static bool has_own_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

Test(edit, a_full_disk_leaves_the_old_file_and_no_litter)
{
    char dir[64], filler[4096] = {0}, *path = at(make_dir(dir), "disk/flags.json");
    struct flagshm_error error = {{0}};
    int fd;

    cr_assert_eq(mkdir(at(dir, "disk"), 0755), 0);
    if (!has_own_mounts() || mount("tmpfs", at(dir, "disk"), "tmpfs", 0, "size=64k") != 0)
        SKIP("a small tmpfs needs the right to mount: %s", strerror(errno));
    put(path, first);
    fd = open(at(dir, "disk/filler"), O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    while (write(fd, filler, sizeof filler) > 0)
        ;
    close(fd);
    cr_assert_eq(replace(path, second, &error), -ENOSPC, "%s", error.text);
    check_text(path, first);
    cr_assert_eq(count_names(at(dir, "disk")), 2, "litter");
    cr_assert_eq(unlink(at(dir, "disk/filler")), 0);
    cr_assert_eq(replace(path, second, &error), 0, "%s", error.text);
    cr_assert_eq(umount(at(dir, "disk")), 0);
    remove_dir(dir);
}

Test(edit, read_only_and_single_file_mounts_are_refused)
{
    char dir[64], *path = at(make_dir(dir), "flags.json"), *mounted;

    put(at(dir, "mounted.json"), other);
    mounted = at(dir, "mounted.json");
    if (!has_own_mounts() || mount(path, mounted, NULL, MS_BIND, NULL) != 0)
        SKIP("a bind mount needs the right to mount: %s", strerror(errno));
    check_refused(mounted, -EROFS, "mounted by itself");
    cr_assert_eq(umount(mounted), 0);
    check_text(mounted, other);

    cr_assert_eq(mount(dir, dir, NULL, MS_BIND, NULL), 0);
    cr_assert_eq(mount(NULL, dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
    check_refused(path, -EROFS, "read-only file system");
    cr_assert_eq(umount(dir), 0);
    check_text(path, first);
    remove_dir(dir);
}

/* ---- several at once ---- */

#define EDITS 60

static uint32_t share_of(const char *text, const char *flag)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};
    const struct flagshm_flagfile_entry *entry;
    uint32_t mpct = UINT32_MAX;

    if (flagshm_flagfile_parse(&file, text, strlen(text), NULL, &diags) == 0 &&
        (entry = flagshm_flagfile_find(&file, flag)))
        mpct = entry->flag.rollout_mpct;
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    return mpct;
}

/* Adds 1 to a flag's share, EDITS times. As a person with an editor would: read, look away, save. */
static int add_carelessly(const char *path, const char *flag)
{
    int i;

    for (i = 0; i < EDITS; i++) {
        struct flagshm_edit edit;
        size_t bytes;
        char *text = fixture_read(path, &bytes), new_path[600];
        FILE *out;

        if (!text || flagshm_edit_share(&edit, text, bytes, flag, share_of(text, flag) + 1, NULL) != 0)
            return 1;
        snprintf(new_path, sizeof new_path, "%s.%s", path, flag);
        out = fopen(new_path, "w");
        if (!out || fputs(edit.text, out) < 0 || fclose(out) != 0)
            return 1;
        usleep(200);
        if (rename(new_path, path) != 0)
            return 1;
        flagshm_edit_free(&edit);
        free(text);
    }
    return 0;
}

static int add_carefully(const char *path, const char *flag)
{
    int i;

    for (i = 0; i < EDITS; i++) {
        struct flagshm_edit_file file;
        struct flagshm_edit edit = {.text = NULL};
        struct flagshm_error error = {{0}};
        int result = flagshm_edit_open(&file, path, &error);

        if (result == 0)
            result =
                flagshm_edit_share(&edit, file.text, file.bytes, flag, share_of(file.text, flag) + 1, &error);
        usleep(200);
        if (result == 0)
            result = flagshm_edit_replace(&file, edit.text, edit.bytes, &error);
        flagshm_edit_free(&edit);
        flagshm_edit_close(&file);
        if (result != 0) {
            fprintf(stderr, "%s\n", error.text);
            return 1;
        }
    }
    return 0;
}

/* Two processes, a flag each, in one file. Returns how many edits were lost. */
static uint32_t lost_edits(int (*add)(const char *path, const char *flag))
{
    char dir[64], *path = at(make_dir(dir), "flags.json"), *text;
    pid_t children[2];
    uint32_t sum;
    size_t bytes;
    int i, status;

    put(path, "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 0}, \"b\": {" CV ", \"rollout_pct\": 0}}}");
    for (i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(add(path, i == 0 ? "a" : "b"));
    }
    for (i = 0; i < 2; i++) {
        cr_assert_eq(waitpid(children[i], &status, 0), children[i]);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    text = fixture_read(path, &bytes);
    cr_assert_not_null(text);
    sum = share_of(text, "a") + share_of(text, "b");
    free(text);
    remove_dir(dir);
    return 2 * EDITS - sum;
}

Test(edit, two_at_once_lose_nothing_and_need_no_second_try)
{
    cr_assert_gt(lost_edits(add_carelessly), 0, "the negative control lost nothing: the test shows nothing");
    cr_assert_eq(lost_edits(add_carefully), 0);
}

Test(edit, an_editor_that_is_killed_leaves_the_old_text_or_the_new_one)
{
    char dir[64], *path = at(make_dir(dir), "flags.json"), *text;
    size_t bytes;
    int round, news = 0;

    for (round = 0; round < 60; round++) {
        pid_t child;
        struct flagshm_error error = {{0}};

        put(path, first);
        child = fork();
        if (child == 0)
            _exit(-replace(path, second, &error));
        usleep((useconds_t)(round * 25));
        kill(child, SIGKILL);
        cr_assert_eq(waitpid(child, NULL, 0), child);
        text = fixture_read(path, &bytes);
        cr_assert_not_null(text);
        cr_assert(strcmp(text, first) == 0 || strcmp(text, second) == 0, "%s", text);
        news += strcmp(text, second) == 0;
        free(text);
    }
    cr_assert(news < 60, "never killed in time");
    remove_dir(dir);
}
