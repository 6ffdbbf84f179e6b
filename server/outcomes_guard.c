/* outcomes_guard: see the header. The one module that installs a handler: it needs static state, since a handler has no other. */
#include "server/outcomes_guard.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RANGES 4

static struct range {
    volatile uintptr_t from, to; /* to == 0: free */
    volatile sig_atomic_t is_torn;
} ranges[RANGES];
static struct sigaction before;
static volatile sig_atomic_t is_installed;
static volatile uintptr_t page_bytes;

static void on_bus(int signal_number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr, page = at & ~(page_bytes - 1);
    int i;

    (void)context;
    for (i = 0; i < RANGES; i++) {
        if (info->si_code <= 0 || at < ranges[i].from || at >= ranges[i].to) /* <= 0: sent by a process */
            continue;
        /* mmap is a bare system call here, though POSIX does not list it as safe */
        if (mmap((void *)page, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                 -1, 0) != MAP_FAILED) {
            ranges[i].is_torn = 1;
            return;
        }
    }
    (void)sigaction(signal_number, &before,
                    NULL); /* raised again by the same instruction, for whom it may concern */
    if (info->si_code <= 0)
        (void)raise(signal_number);
}

volatile sig_atomic_t *flagshm_outcomes_guard(void *memory, size_t bytes)
{
    struct sigaction action;
    int i;

    for (i = 0; i < RANGES; i++)
        if (ranges[i].to == 0)
            break;
    if (i == RANGES)
        return NULL;
    if (is_installed == 0) {
        page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_bus;
        action.sa_flags = SA_SIGINFO;
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGBUS, &action, &before) != 0)
            return NULL;
        is_installed = 1;
    }
    ranges[i].is_torn = 0;
    ranges[i].from = (uintptr_t)memory;
    ranges[i].to = (uintptr_t)memory + bytes;
    return &ranges[i].is_torn;
}

void flagshm_outcomes_unguard(const void *memory)
{
    int i;

    for (i = 0; i < RANGES; i++)
        if (ranges[i].to != 0 && ranges[i].from == (uintptr_t)memory) {
            ranges[i].to = 0;
            ranges[i].from = 0;
        }
}
