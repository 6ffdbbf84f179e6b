/* flagfile_verdict: prints OK or BAD and the name, one line for each file named: what the flag-file reader
 * thinks of it. For tests/cli/schema.sh, which holds that against the JSON schema. With -v also every fault,
 * as a person sees it.
 */
#include "tests/flagfile_fixture.h"

int main(int argc, char **argv)
{
    bool verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
    int i;

    for (i = verbose ? 2 : 1; i < argc; i++) {
        size_t length;
        char *text = fixture_read(argv[i], &length);
        struct fixture f;

        if (!text) {
            fprintf(stderr, "flagfile_verdict: cannot read %s\n", argv[i]);
            return 1;
        }
        f = fixture_parse_bytes(text, length, 0);
        printf("%s %s\n", f.result == 0 && f.diags.errors == 0 ? "OK" : "BAD", argv[i]);
        if (verbose)
            fputs(f.printed, stdout);
        fixture_free(&f);
        free(text);
    }
    return 0;
}
