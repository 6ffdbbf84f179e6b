/* outcome_file: the outcome segment as tools see it: a file that anyone of the clients' group can write, and cut short, at any moment.
 *
 * It is read by pread, never mapped: what is cut off reads as zeros instead of raising SIGBUS, and a hole of the file stays a hole (a look
 * through a mapping fills it with a page). Nothing in it is believed: offsets are constants, counts are only counts.
 */
#ifndef FLAGSHM_TOOLS_OUTCOME_FILE_H
#define FLAGSHM_TOOLS_OUTCOME_FILE_H

#include "server/outcomes_read.h"
#include "tools/flagctl.h"

#include <sys/stat.h>

#define FLAGCTL_OUTCOMES_PATH 340

/* Where the segment of an instance is. */
void flagctl_outcomes_path(const struct flagshm_instance *instance, char path[FLAGCTL_OUTCOMES_PATH]);

struct flagctl_outcomes {
    int fd; /* -1: closed */
    struct stat object;
    char path[FLAGCTL_OUTCOMES_PATH];
};

/* Opens it for reading. 0; -ENOENT, -EACCES, -EPERM (no regular file), -errno. */
int flagctl_outcomes_open(struct flagctl_outcomes *file, const struct flagshm_instance *instance);
void flagctl_outcomes_close(struct flagctl_outcomes *file);

/* Its first page; what is missing reads as zeros. */
void flagctl_outcomes_header(const struct flagctl_outcomes *file, struct flagshm_outcomes *header);
/* `bytes` of a slot from `offset` on; what is missing reads as zeros. */
void flagctl_outcomes_read(const struct flagctl_outcomes *file, uint32_t slot, size_t offset, void *out,
                           size_t bytes);
uint32_t flagctl_outcomes_generation(const struct flagctl_outcomes *file, uint32_t slot);
/* Counts of one arm: bad ones are read before all others, so that there are never more bad calls than calls. Cost: about 3 us. */
void flagctl_outcomes_arm(const struct flagctl_outcomes *file, uint32_t slot, uint32_t arm,
                          struct flagshm_arm_counts *counts);

#endif
