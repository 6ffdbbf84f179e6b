/* fuzz_files: what the fuzz targets share where they run as ordinary programs: files and directories of inputs, and random inputs. */
#ifndef FLAGSHM_TESTS_FUZZ_FILES_H
#define FLAGSHM_TESTS_FUZZ_FILES_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Gives the bytes of a file, or of each file below a directory, to `run`. The number of files. Ends the program where one cannot be
 * read: an input that is not run is no test. The bytes may be changed; they are freed afterwards. */
__attribute__((unused)) static size_t fuzz_files(const char *path, void (*run)(uint8_t *data, size_t size))
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    uint8_t *data = NULL;
    size_t count = 0;
    long size = -1;
    FILE *in;

    if (dir != NULL) {
        while ((entry = readdir(dir)) != NULL) {
            char inner[4096];

            (void)snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
            if (entry->d_name[0] != '.')
                count += fuzz_files(inner, run);
        }
        (void)closedir(dir);
        return count;
    }
    in = fopen(path, "rb");
    if (in != NULL && fseek(in, 0, SEEK_END) == 0)
        size = ftell(in);
    if (size >= 0)
        data = malloc((size_t)size + 1);
    if (data == NULL) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    rewind(in);
    size = (long)fread(data, 1, (size_t)size, in);
    (void)fclose(in);
    run(data, (size_t)size);
    free(data);
    return 1;
}

/* The arguments of a target that makes its own inputs: [IMAGES [SEED]], or files. False: files stood there, and were run. */
__attribute__((unused)) static bool
fuzz_random(int argc, char **argv, void (*run)(uint8_t *data, size_t size), uint64_t *images, uint64_t *seed)
{
    char *rest = NULL;
    int i;

    if (argc > 1) {
        *images = strtoull(argv[1], &rest, 10);
        if (*rest != '\0') {
            for (i = 1; i < argc; i++)
                (void)fuzz_files(argv[i], run);
            return false;
        }
    }
    if (argc > 2)
        *seed = strtoull(argv[2], NULL, 10) | 1;
    return true;
}

/* xorshift64 (Marsaglia 2003); the state is never 0. */
__attribute__((unused)) static uint64_t fuzz_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
