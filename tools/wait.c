/* wait: see wait.h. */
#include "tools/wait.h"
#include "server/clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* The futex wakes for every version at once; the switch bits and signals are looked at this often. */
#define SLICE_MS 200

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

void flagctl_wait_begin(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

bool flagctl_is_stopped(void)
{
    return stopped != 0;
}

double flagctl_now(void)
{
    return (double)flagshm_mono_ns() / 1e9;
}

static uint64_t switches_now(const struct flagshm *client)
{
    const struct flagshm_map_ *map = __atomic_load_n(&client->map_, __ATOMIC_ACQUIRE);
    return map != NULL ? flagshm_seq_acquire_(map) & FLAGSHM_SEQ_ALL_CONTROL : 0;
}

bool flagctl_wait(struct flagshm *client, uint64_t version, uint64_t switches, double seconds)
{
    double end = flagctl_now() + seconds;

    while (!flagctl_is_stopped()) {
        double left = end - flagctl_now();
        int slice = left < SLICE_MS / 1e3 ? (int)(left * 1e3) + 1 : SLICE_MS;
        if (left <= 0)
            return false;
        if (flagshm_wait(client, version, slice) == 0 ||
            switches_now(client) != (switches & FLAGSHM_SEQ_ALL_CONTROL))
            return true;
    }
    return false;
}

int flagctl_repeat(struct flagctl *ctl, int (*show)(struct flagctl *ctl, void *context), void *context)
{
    bool is_first = true;
    int code;

    if (ctl->watch_seconds <= 0)
        return show(ctl, context);
    flagctl_wait_begin();
    ctl->is_stream = true;
    for (;;) {
        struct flagshm *client;
        uint64_t version, switches;

        if (ctl->is_terminal)
            (void)fputs("\033[H\033[2J", ctl->out);
        else if (!is_first && !ctl->is_json)
            (void)fputc('\n', ctl->out);
        is_first = false;
        /* Before `show` looks: what changes while it prints is shown next. */
        (void)flagctl_client(ctl, &client);
        version = flagshm_version(client);
        switches = switches_now(client);
        code = show(ctl, context);
        if (code != FLAGCTL_OK)
            return code;
        errno = 0;
        if (fflush(ctl->out) != 0)
            return flagctl_fail(ctl, FLAGCTL_FAILED, "cannot write the output: %s", strerror(errno));
        (void)flagctl_wait(client, version, switches, ctl->watch_seconds);
        if (flagctl_is_stopped())
            return FLAGCTL_OK;
    }
}
