/* The lasting word of a person: what is written is there again after any restart. */
#include "server/kills.h"

#include "server/flagfile.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char state[64], path[200];
static struct flagshm_kills kills;
static struct flagshm_error error;

static const char *beside(const char *name)
{
    (void)snprintf(path, sizeof path, "%s/%s", state, name);
    return path;
}

static void begin(void)
{
    (void)snprintf(state, sizeof state, "/tmp/flagshm-kills.XXXXXX");
    cr_assert_not_null(mkdtemp(state));
}

static void end(void)
{
    struct dirent *entry;
    DIR *dir = opendir(beside("kills"));
    char name[600];

    while (dir && (entry = readdir(dir)) != NULL) {
        (void)snprintf(name, sizeof name, "%s/kills/%s", state, entry->d_name);
        if (entry->d_name[0] != '.' || strcmp(entry->d_name, ".all") == 0)
            (void)remove(name);
    }
    if (dir)
        (void)closedir(dir);
    (void)remove(beside("kills"));
    (void)rmdir(state);
}

static void load(void)
{
    flagshm_kills_free(&kills);
    cr_assert_eq(flagshm_kills_load(&kills, state, &error), 0, "%s", error.text);
}

Test(kills, missing_directory_is_an_empty_set, .init = begin, .fini = end)
{
    load();
    cr_assert_eq(kills.count, 0);
    cr_assert_not(kills.all);
    cr_assert_eq(flagshm_kills_stamp(state), 0);
    cr_assert_eq(flagshm_kills_erase(state, "f", &error), 0);
    cr_assert_eq(flagshm_kills_load(&kills, "/nowhere/at/all", &error), 0);
}

Test(kills, written_is_loaded_and_erased_is_gone, .init = begin, .fini = end)
{
    cr_assert_eq(flagshm_kills_write(state, "beta", "by ann, because", &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_kills_write(state, "alpha", NULL, &error), 0, "%s", error.text);
    cr_assert_eq(flagshm_kills_write(state, "beta", "again", &error), 0, "%s", error.text);
    load();
    cr_assert_eq(kills.count, 2);
    cr_assert_str_eq(kills.names[0], "alpha");
    cr_assert_str_eq(kills.names[1], "beta");
    cr_assert(flagshm_kills_has(&kills, "alpha"));
    cr_assert_not(flagshm_kills_has(&kills, "alph"));
    cr_assert_not(flagshm_kills_has(&kills, "alphaa"));
    cr_assert_not(kills.all);
    cr_assert_eq(flagshm_kills_erase(state, "beta", &error), 0);
    cr_assert_eq(flagshm_kills_erase(state, "beta", &error), 0, "absent is as good");
    load();
    cr_assert_eq(kills.count, 1);
    flagshm_kills_free(&kills);
}

Test(kills, all_is_a_word_of_its_own, .init = begin, .fini = end)
{
    cr_assert_eq(flagshm_kills_write(state, NULL, "everything burns", &error), 0);
    load();
    cr_assert(kills.all);
    cr_assert_eq(kills.count, 0);
    cr_assert_eq(flagshm_kills_erase(state, NULL, &error), 0);
    load();
    cr_assert_not(kills.all);
}

Test(kills, reason_is_kept_as_one_line, .init = begin, .fini = end)
{
    char line[128] = "";
    struct stat object;
    FILE *in;

    cr_assert_eq(flagshm_kills_write(state, "f", "by ann:\nit\thurts\r", &error), 0);
    in = fopen(beside("kills/f"), "r");
    cr_assert_not_null(in);
    cr_assert_not_null(fgets(line, sizeof line, in));
    cr_assert_str_eq(line, "by ann: it hurts \n");
    cr_assert_null(fgets(line, sizeof line, in));
    (void)fclose(in);
    flagshm_kills_why(state, "f", line, sizeof line);
    cr_assert_str_eq(line, "by ann: it hurts ");
    flagshm_kills_why(state, "f", line, 7);
    cr_assert_str_eq(line, "by ann");
    flagshm_kills_why(state, "g", line, sizeof line);
    cr_assert_str_eq(line, "");
    cr_assert_eq(stat(beside("kills"), &object), 0);
    cr_assert_eq(object.st_mode & 0777, 0700);
}

Test(kills, names_that_are_no_flags_are_refused_and_passed_over, .init = begin, .fini = end)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "../escape", ".hidden", "with space", "a:b"};
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(flagshm_kills_write(state, bad[i], "", &error), -EINVAL, "%s", bad[i]);
        cr_assert(strstr(error.text, "no flag's name"), "%s", error.text);
        cr_assert_eq(flagshm_kills_erase(state, bad[i], &error), -EINVAL, "%s", bad[i]);
    }
    cr_assert_eq(flagshm_kills_write(state, "good", "", &error), 0);
    (void)fclose(fopen(beside("kills/with space"), "w"));
    (void)fclose(fopen(beside("kills/back~"), "w"));
    load();
    cr_assert_eq(kills.count, 1);
    cr_assert_str_eq(kills.names[0], "good");
    flagshm_kills_free(&kills);
}

Test(kills, set_in_memory_stays_sorted_and_single)
{
    static const char *const names[] = {"m", "b", "z", "a", "m", "mm", "b"};
    char name[32];
    size_t i;

    for (i = 0; i < 7; i++)
        cr_assert_eq(flagshm_kills_insert(&kills, names[i], strlen(names[i])), 0);
    cr_assert_eq(flagshm_kills_insert(&kills, "mmxxx", 1), 0, "a part of a text");
    cr_assert_eq(kills.count, 5);
    for (i = 1; i < kills.count; i++)
        cr_assert_lt(strcmp(kills.names[i - 1], kills.names[i]), 0);
    flagshm_kills_remove(&kills, "b");
    flagshm_kills_remove(&kills, "b");
    cr_assert_not(flagshm_kills_has(&kills, "b"));
    cr_assert(flagshm_kills_has(&kills, "mm"));
    for (i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "n%zu", i * 7919 % 1000);
        cr_assert_eq(flagshm_kills_insert(&kills, name, strlen(name)), 0);
    }
    cr_assert_eq(kills.count, 1004);
    cr_assert(flagshm_kills_has(&kills, "n999"));
    flagshm_kills_free(&kills);
    cr_assert_eq(kills.count, 0);
}

Test(kills, stamp_tells_each_change, .init = begin, .fini = end)
{
    uint64_t before, after;

    cr_assert_eq(flagshm_kills_write(state, "a", "", &error), 0);
    before = flagshm_kills_stamp(state);
    cr_assert_neq(before, 0);
    cr_assert_eq(flagshm_kills_write(state, "b", "", &error), 0);
    after = flagshm_kills_stamp(state);
    cr_assert_neq(after, before, "also within one tick of the file system's clock");
    usleep(120000);
    before = flagshm_kills_stamp(state);
    cr_assert_neq(before, after, "settled: one more load, in case the last came too early");
    cr_assert_eq(flagshm_kills_stamp(state), before);
    cr_assert_eq(flagshm_kills_erase(state, "a", &error), 0);
    cr_assert_neq(flagshm_kills_stamp(state), before);
}

Test(kills, what_cannot_be_written_is_said, .init = begin, .fini = end)
{
    FILE *file;

    cr_assert_eq(flagshm_kills_write("/nowhere/at/all", "f", "", &error), -ENOENT);
    cr_assert(strstr(error.text, "/nowhere/at/all: the state directory cannot be opened"), "%s", error.text);
    file = fopen(beside("kills"), "w");
    (void)fclose(file);
    cr_assert_eq(flagshm_kills_write(state, "f", "", &error), -ENOTDIR);
    cr_assert(strstr(error.text, "/kills: cannot be made"), "%s", error.text);
    cr_assert_eq(flagshm_kills_load(&kills, state, &error), -ENOTDIR);
    cr_assert(strstr(error.text, "are not known"), "%s", error.text);
}

Test(kills, symbolic_links_are_not_followed, .init = begin, .fini = end)
{
    struct stat object;
    char target[] = "/tmp/flagshm-target.XXXXXX";
    int fd = mkstemp(target);

    (void)close(fd);
    cr_assert_eq(flagshm_kills_write(state, "a", "", &error), 0);
    cr_assert_eq(symlink(target, beside("kills/f")), 0);
    cr_assert_eq(flagshm_kills_write(state, "f", "text", &error), -ELOOP);
    cr_assert_eq(stat(target, &object), 0);
    cr_assert_eq(object.st_size, 0);
    load();
    cr_assert(flagshm_kills_has(&kills, "f"), "on a doubt it is killed");
    flagshm_kills_free(&kills);
    (void)unlink(target);
}

Test(kills, what_root_writes_belongs_to_the_servers_user, .init = begin, .fini = end)
{
    struct stat object;

    if (geteuid() != 0) {
        end(); /* a skip leaves it out */
        cr_skip_test("needs root");
    }
    cr_assert_eq(chown(state, 12345, 12345), 0);
    cr_assert_eq(flagshm_kills_write(state, "f", "", &error), 0, "%s", error.text);
    cr_assert_eq(stat(beside("kills"), &object), 0);
    cr_assert_eq(object.st_uid, 12345);
    cr_assert_eq(stat(beside("kills/f"), &object), 0);
    cr_assert_eq(object.st_uid, 12345);
}
