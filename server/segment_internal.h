/* segment_internal: what the files of the segment share. segment.c is its life, segment_lock.c the writer's lock and whose
 * an object is, segment_adopt.c the gates, segment_build.c publish and replacement, segment_tool.c what flagctl
 * does. For no one else.
 */
#ifndef FLAGSHM_SERVER_SEGMENT_INTERNAL_H
#define FLAGSHM_SERVER_SEGMENT_INTERNAL_H

#include "server/segment.h"

struct stat;

/* PATH plus an ending: ".old" (the object that is being replaced), ".new" (the one that is being built). */
char *flagshm_segment_beside(const struct flagshm_segment *segment, const char *ending, char room[336]);

/* Opens an object of ours without following a link, and looks at it. The descriptor; -ENOENT; -EPERM: not a regular file, or a
 * stranger's, with the mend. */
int flagshm_segment_open_ours(const struct flagshm_segment *segment, const char *path, int flags,
                              struct stat *object, struct flagshm_error *error);
/* 0 where nothing, or an object of ours, has that name. Opens nothing. */
int flagshm_segment_check_name(const struct flagshm_segment *segment, const char *path,
                               struct flagshm_error *error);
int flagshm_segment_lock(struct flagshm_segment *segment, struct flagshm_error *error);

/* Adopts what stands under our name where every gate holds. Also 0 where none or not all do. */
int flagshm_segment_adopt(struct flagshm_segment *segment, struct flagshm_error *error);
bool flagshm_segment_boot_id(uint8_t boot_id[16]); /* false: not known */
uint64_t flagshm_segment_new_id(void);             /* random, never 0 */
/* The served bank, read in place. */
struct flagshm_table flagshm_segment_served(const struct flagshm_segment *segment);

/* Fills the bank that is not served and makes it the served one: the one step that readers see. */
void flagshm_segment_flip(struct flagshm_segment *segment, struct flagshm_table *table, uint64_t version,
                          uint64_t file_rev);
/* Finishes a replacement that a writer left half done, also our own: retires PATH.old unless PATH leads to the same
 * object, and removes it and PATH.new. */
int flagshm_segment_finish(const struct flagshm_segment *segment, struct flagshm_error *error);

void flagshm_segment_wake(struct flagshm_header *header);
/* Sets or clears a switch in seq, wakes, returns seq as it was. */
uint64_t flagshm_segment_switch(struct flagshm_header *header, uint64_t bit, bool on);
void flagshm_segment_unmap(struct flagshm_segment *segment);

#endif
