/* diagnostics: the list of everything that is wrong with a text, and how it is shown to a person or a
 * machine.
 *
 * Pure: no I/O. Positions are byte offsets into the text; lines and columns (both from 1, columns in bytes)
 * are worked out only when shown. A list never grows without bound: after FLAGSHM_DIAG_MAX entries it only
 * counts.
 */
#ifndef FLAGSHM_SERVER_DIAGNOSTICS_H
#define FLAGSHM_SERVER_DIAGNOSTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define FLAGSHM_DIAG_MAX 200

enum flagshm_severity { FLAGSHM_DIAG_ERROR, FLAGSHM_DIAG_WARNING };

struct flagshm_diag {
    enum flagshm_severity severity;
    size_t offset; /* byte in the text that the caret points at */
    size_t length; /* bytes to underline, >= 1 */
    char *pointer; /* JSON pointer of the value, "" where the text is not JSON; owned */
    char *message; /* one line, no trailing stop; owned */
};

struct flagshm_diags {
    struct flagshm_diag *items; /* in order of offset after flagshm_diags_sort */
    size_t count, capacity;
    size_t errors, warnings; /* all that were added, also those beyond FLAGSHM_DIAG_MAX */
};

/* Adds one entry. Never fails: out of memory only drops the text and still counts. */
void flagshm_diags_add(struct flagshm_diags *d, enum flagshm_severity severity, size_t offset, size_t length,
                       const char *pointer, const char *format, ...) __attribute__((format(printf, 6, 7)));
void flagshm_diags_sort(struct flagshm_diags *d);
void flagshm_diags_free(struct flagshm_diags *d);

/* Line and column (from 1, bytes) of an offset. O(offset). */
void flagshm_diag_place(const char *text, size_t length, size_t offset, size_t *line, size_t *column);

/* As clang does it:  FILE:LINE:COL: error: MESSAGE, the source line, a caret. `colour`: ANSI sequences. Long
 * lines are cut to a window around the caret; bytes that are not printable are shown as '?'. */
void flagshm_diags_print(const struct flagshm_diags *d, const char *file, const char *text, size_t length,
                         bool colour, FILE *out);
/* A JSON array of {file,line,column,severity,pointer,message}; malloc'ed text, NULL when out of memory. */
char *flagshm_diags_json(const struct flagshm_diags *d, const char *file, const char *text, size_t length);

/* The candidate nearest to `word` (edit distance with transpositions, case ignored, at most 2 and less
 * than half the word's length), or NULL. `words` ends in NULL. */
const char *flagshm_did_you_mean(const char *word, size_t length, const char *const *words);

#endif
