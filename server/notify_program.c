/* notify_program: a notice for a program: no shell, a process group of its own, the notice on standard input, nothing of ours besides. */
#include "server/notify_attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- begin ---- */

/* A file in memory, not a pipe: whether and when the program reads it is no concern of ours. -errno. */
static int body_file(const char *body)
{
    int fd = memfd_create("flagshm-notice", MFD_CLOEXEC), result = 0;
    size_t bytes = strlen(body), at = 0;

    if (fd < 0)
        return -errno;
    while (at < bytes && result == 0) {
        ssize_t part = write(fd, body + at, bytes - at);

        if (part > 0)
            at += (size_t)part;
        else if (part == 0 || errno != EINTR)
            result = part == 0 ? -EIO : -errno;
    }
    if (result == 0 && lseek(fd, 0, SEEK_SET) != 0)
        result = -errno;
    if (result == 0)
        return fd;
    (void)close(fd);
    return result;
}

static int set_actions(posix_spawn_file_actions_t *actions, int body_fd)
{
    int code = posix_spawn_file_actions_adddup2(actions, body_fd, STDIN_FILENO);

    if (code == 0)
        code = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(actions, STDOUT_FILENO, STDERR_FILENO);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
    if (code == 0) /* all others are closed by exec; this is for those that a library has forgotten */
        code = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
#endif
    return code;
}

/* The server blocks and ignores signals: a program must not inherit that. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    int code;

    sigemptyset(&none);
    sigfillset(&all);
    code = posix_spawnattr_setsigmask(attributes, &none);
    if (code == 0)
        code = posix_spawnattr_setsigdefault(attributes, &all);
    if (code == 0)
        code = posix_spawnattr_setpgroup(attributes, 0);
    if (code == 0)
        code = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                        POSIX_SPAWN_SETPGROUP);
    return code;
}

static int spawn(pid_t *pid, char *const argv[], char *const environment[], int body_fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int code;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    code = set_actions(&actions, body_fd);
    if (code == 0)
        code = set_attributes(&attributes);
    if (code == 0)
        code = posix_spawn(pid, argv[0], &actions, &attributes, argv, environment);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -code;
}

static int spawn_with(struct notify_attempt *attempt, const char *instance, int body_fd)
{
    char path[] = "PATH=" PATH, *id = NULL, *name = NULL;
    int result = -ENOMEM;

    if (asprintf(&id, "FLAGSHM_NOTICE_ID=%s", attempt->notice->id) < 0)
        id = NULL;
    if (asprintf(&name, "FLAGSHM_INSTANCE=%s", instance) < 0)
        name = NULL;
    if (id != NULL && name != NULL) {
        char *environment[] = {path, id, name, NULL};

        result = spawn(&attempt->pid, attempt->target.argv, environment, body_fd);
    }
    free(id);
    free(name);
    return result;
}

int notify_program_begin(struct notify_attempt *attempt, const char *instance, uint64_t now_ns,
                         struct flagshm_error *error)
{
    int body_fd = body_file(attempt->notice->body), result = body_fd;

    if (body_fd >= 0) {
        result = spawn_with(attempt, instance, body_fd);
        (void)close(body_fd);
    }
    if (result != 0) {
        attempt->pid = 0;
        return flagshm_error_set(error, result, "%s cannot be run: %s", attempt->target.argv[0],
                                 strerror(-result));
    }
    attempt->pid_fd = -1;
#ifdef SYS_pidfd_open
    attempt->pid_fd = (int)syscall(SYS_pidfd_open, attempt->pid, 0);
#endif
    attempt->kill_ns = now_ns + attempt->target.timeout_s * UINT64_C(1000000000);
    return 0;
}

/* ---- end ---- */

static void forget(struct notify_attempt *attempt)
{
    if (attempt->pid_fd >= 0)
        (void)close(attempt->pid_fd);
    attempt->pid_fd = -1;
    attempt->pid = 0;
}

static int judge(const struct notify_attempt *attempt, int status, struct flagshm_error *error)
{
    const char *program = attempt->target.argv[0];

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (attempt->kill_ns == UINT64_MAX)
        return flagshm_error_set(
            error, -ETIMEDOUT,
            "%s did not end within %u s and was killed: mend it, or give it a longer \"timeout_s\"", program,
            attempt->target.timeout_s);
    if (WIFEXITED(status))
        return flagshm_error_set(error, -EREMOTEIO, "%s ended with exit code %d", program,
                                 WEXITSTATUS(status));
    return flagshm_error_set(error, -EREMOTEIO, "%s was ended by signal %d", program, WTERMSIG(status));
}

/* Until it is waited for its number is nobody else's, and so is that of its group. */
static void kill_group(struct notify_attempt *attempt)
{
    (void)kill(-attempt->pid, SIGKILL);
    attempt->kill_ns = UINT64_MAX;
}

bool notify_program_look(struct notify_attempt *attempt, uint64_t now_ns, int *result,
                         struct flagshm_error *error)
{
    int status = 0;
    pid_t ended = waitpid(attempt->pid, &status, WNOHANG);

    if (ended == 0 || (ended < 0 && errno == EINTR)) {
        if (now_ns >= attempt->kill_ns)
            kill_group(attempt);
        return false;
    }
    *result = ended < 0 ? flagshm_error_set(error, -errno, "how %s ended cannot be told: %s",
                                            attempt->target.argv[0], strerror(errno))
                        : judge(attempt, status, error);
    forget(attempt);
    return true;
}

void notify_program_break_off(struct notify_attempt *attempt)
{
    static const struct timespec pause = {0, 5000000};
    int tries;

    kill_group(attempt);
    for (tries = 0; tries < 200 && waitpid(attempt->pid, NULL, WNOHANG) == 0; tries++)
        (void)nanosleep(&pause, NULL);
    forget(attempt);
}
