/* outcomes_guard: what happens where a file that others can cut short is read beyond its end.
 *
 * The kernel raises SIGBUS then. For a guarded range, and for no other address, the handler puts a page of zeros over the hole and marks the
 * range as torn; the read goes on with zeros. Everywhere else SIGBUS does what it did before.
 */
#ifndef FLAGSHM_SERVER_OUTCOMES_GUARD_H
#define FLAGSHM_SERVER_OUTCOMES_GUARD_H

#include <signal.h>
#include <stddef.h>

/* Guards a mapping; installs the handler with the first one. Returns where "torn" will be marked (0: it is whole), or NULL: four are
 * guarded already. Not async-signal-safe; one thread. */
volatile sig_atomic_t *flagshm_outcomes_guard(void *memory, size_t bytes);
void flagshm_outcomes_unguard(const void *memory);

#endif
