/* publisher_internal: what the files of the publisher share. For no one else. */
#ifndef FLAGSHM_SERVER_PUBLISHER_INTERNAL_H
#define FLAGSHM_SERVER_PUBLISHER_INTERNAL_H

#include "server/publisher.h"

/* Flags of a good set whose deletion waits for a person. */
size_t flagshm_publisher_count_held(const struct flagshm_flagfile *good);
void flagshm_publisher_forget_faults(struct flagshm_publisher *p);
/* The kills on disk and those in the adopted table are both true, before anything is published. */
void flagshm_publisher_gather_kills(struct flagshm_publisher *p);
/* For flagshm_wards_take: what the adopted table served, and who is killed. */
struct flagshm_wards_start flagshm_publisher_wards_start(struct flagshm_publisher *p);

#endif
