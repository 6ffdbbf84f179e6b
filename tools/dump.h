/* dump: what the files of `flagctl dump` share: fields in words, for people or as JSON. */
#ifndef FLAGSHM_TOOLS_DUMP_H
#define FLAGSHM_TOOLS_DUMP_H

#include "tools/flagctl.h"

#include <sys/stat.h>

struct dump {
    struct flagctl *ctl;
    cJSON *json;    /* the whole; NULL: for people */
    cJSON *section; /* where fields go now */
    int fd;
    struct stat object;
    struct flagshm_header header; /* zeros behind what the object has */
};

void dump_section(struct dump *d, const char *name);
/* A line, or a member: a text, or with `is_number` as it stands. */
void dump_field(struct dump *d, const char *key, bool is_number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* "VALUE" for machines; with a remark behind it for people. */
void dump_judged(struct dump *d, const char *key, bool is_right, const char *value, const char *wanted);
/* The file at `path` that `object` is of, and the first 64 bytes of `header`, which all segments have alike. */
void dump_object(struct dump *d, const char *path);
void dump_prefix(struct dump *d, uint64_t magic);

/* The slot of a flag, or with that number, of the outcome segment. Returns an exit code, having said what is wrong. */
int dump_outcomes(struct flagctl *ctl, const char *which);

#endif
