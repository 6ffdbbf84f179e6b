/* kills: the durable word of a person that a flag, or all of them, must give control: files in STATE/kills.
 *
 * A file named as the flag means killed; ".all" means every flag. They are written by the server, or by flagctl where no server answers, and are
 * applied on every start before the first publish. Each write reaches the disk (fsync of file and directory) before it returns.
 */
#ifndef FLAGSHM_SERVER_KILLS_H
#define FLAGSHM_SERVER_KILLS_H

#include "server/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flagshm_kills {
    char **names; /* sorted; owned */
    size_t count, capacity;
    bool all;
};

/* Reads STATE/kills. A missing directory is an empty set. Names that are no flag's are passed over. */
int flagshm_kills_load(struct flagshm_kills *kills, const char *state_dir, struct flagshm_error *error);
void flagshm_kills_free(struct flagshm_kills *kills);
bool flagshm_kills_has(const struct flagshm_kills *kills, const char *flag);
int flagshm_kills_insert(struct flagshm_kills *kills, const char *flag,
                         size_t bytes);                                   /* in memory; 0, -ENOMEM */
void flagshm_kills_remove(struct flagshm_kills *kills, const char *flag); /* in memory */

/* flag NULL: all. `why`: a line kept in the file (who, when, reason). */
int flagshm_kills_write(const char *state_dir, const char *flag, const char *why,
                        struct flagshm_error *error);
int flagshm_kills_erase(const char *state_dir, const char *flag, struct flagshm_error *error); /* absent: 0 */

/* The line that was kept in the file: at most room - 1 bytes; "" where there is none. */
void flagshm_kills_why(const char *state_dir, const char *flag, char *why, size_t room);

/* Moves when STATE/kills is written to; 0: no such directory. A server whose socket did not answer finds so the kills
 * that a tool wrote beside it: take the stamp, then load; load again when it is another. In ns; during the first 100 ms after a change
 * each call gives another one, since file times are too coarse to tell two changes of that while apart. */
uint64_t flagshm_kills_stamp(const char *state_dir);

#endif
