/* flagfile_fixture: what the tests of the flag-file reader share: reading a text, reading a file, and
 * faults as one string. The data directory is that of this source file unless FLAGSHM_TEST_DATA names
 * another. */
#ifndef FLAGSHM_TESTS_FLAGFILE_FIXTURE_H
#define FLAGSHM_TESTS_FLAGFILE_FIXTURE_H

#include "server/flagfile.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct flagshm_flagfile file;
    struct flagshm_diags diags;
    char *printed; /* as a person sees it, without colour, the file being called flags.json */
    int result;
};

__attribute__((unused)) static struct fixture fixture_parse_bytes(const char *text, size_t length,
                                                                  size_t max_flags)
{
    struct flagshm_flagfile_options options = {.max_flags = max_flags};
    struct fixture f = {.printed = NULL};
    size_t bytes = 0;
    FILE *out = open_memstream(&f.printed, &bytes);

    f.result = flagshm_flagfile_parse(&f.file, text, length, &options, &f.diags);
    flagshm_diags_print(&f.diags, "flags.json", text, length, false, out);
    fclose(out);
    return f;
}

__attribute__((unused)) static struct fixture fixture_parse(const char *text)
{
    return fixture_parse_bytes(text, strlen(text), 0);
}

__attribute__((unused)) static void fixture_free(struct fixture *f)
{
    flagshm_flagfile_free(&f->file);
    flagshm_diags_free(&f->diags);
    free(f->printed);
}

/* The text of a file with a NUL behind it, NULL where there is none. */
__attribute__((unused)) static char *fixture_read(const char *path, size_t *length)
{
    FILE *in = fopen(path, "rb");
    char *text = NULL;
    long size;

    if (!in)
        return NULL;
    if (fseek(in, 0, SEEK_END) == 0 && (size = ftell(in)) >= 0 && fseek(in, 0, SEEK_SET) == 0) {
        text = malloc((size_t)size + 1);
        *length = text ? fread(text, 1, (size_t)size, in) : 0;
        if (text)
            text[*length] = '\0';
    }
    fclose(in);
    return text;
}

/* "<source directory>/data" */
__attribute__((unused)) static const char *fixture_data(char *out, size_t size)
{
#ifdef FLAGSHM_TEST_DATA
    snprintf(out, size, "%s", FLAGSHM_TEST_DATA);
#else
    const char *slash = strrchr(__FILE__, '/');

    snprintf(out, size, "%.*s/data", slash ? (int)(slash - __FILE__) : 1, slash ? __FILE__ : ".");
#endif
    return out;
}

/* Calls `check` with the path of each good file; how many there were. */
__attribute__((unused)) static size_t fixture_each_good(void (*check)(const char *path))
{
    char data[512], path[1024];
    struct dirent *entry;
    size_t files = 0;
    DIR *dir;

    fixture_data(data, sizeof data);
    snprintf(path, sizeof path, "%s/good", data);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        size_t length = strlen(entry->d_name);

        if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
            continue;
        snprintf(path, sizeof path, "%s/good/%.200s", data, entry->d_name);
        check(path);
        files++;
    }
    if (dir != NULL)
        closedir(dir);
    return files;
}

#endif
