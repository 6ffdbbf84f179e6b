/* error: one sentence for people beside a -errno: what, where, the bad value, the mend. Filled where the fact is known. */
#ifndef FLAGSHM_SERVER_ERROR_H
#define FLAGSHM_SERVER_ERROR_H

struct flagshm_error {
    char text[1024];
};

/* Writes the sentence and returns `code` (negative errno). `error` may be NULL. */
int flagshm_error_set(struct flagshm_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the sentence. Returns `code`. */
int flagshm_error_prefix(struct flagshm_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
