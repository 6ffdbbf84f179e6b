/* systemd: the notify and watchdog datagrams, without libsystemd (which would pull in half a dozen libraries). */
#ifndef FLAGSHM_SERVER_SYSTEMD_H
#define FLAGSHM_SERVER_SYSTEMD_H

#include <stdbool.h>
#include <stdint.h>

/* Sends "READY=1\nSTATUS=..." and the like to $NOTIFY_SOCKET (also abstract ones); does nothing where it is unset. Never blocks. 0 or -errno. */
int flagshm_systemd_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* How often to send WATCHDOG=1: half of $WATCHDOG_USEC where $WATCHDOG_PID is ours or unset; 0: not at all. */
uint64_t flagshm_systemd_watchdog_ns(void);

#endif
