/* bench_python: the seed's function in Python, timed by Python itself inside its own loop, in a process that waits for
 * its turn like any other rival. */
#include "tests/bench_common.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char program[] =
    "import hashlib, sys, time\n"
    "def in_variant(flag, user, pct):\n"
    "    return int(hashlib.md5(f'{flag}:{user}'.encode()).hexdigest(), 16) % 100 < pct\n"
    "def measure(n, flag, users, pct):\n"
    "    wrap = len(users)\n"
    "    begin = time.thread_time_ns()\n"
    "    for i in range(n):\n"
    "        in_variant(flag, users[i % wrap], pct)\n"
    "    return time.thread_time_ns() - begin\n"
    "flag, pct = sys.argv[1], int(sys.argv[2])\n"
    "users = sys.argv[3:]\n"
    "for line in iter(sys.stdin.readline, ''):\n"
    "    print(measure(int(line), flag, users, pct), flush=True)\n";

#define USERS 512

struct bench_python {
    pid_t pid;
    FILE *ask, *answer;
};

static void become_python(int fd, const char *flag, unsigned share)
{
    const char *arguments[USERS + 6] = {"python3", "-c", program, flag};
    char number[16];
    size_t i;

    (void)snprintf(number, sizeof number, "%u", share);
    arguments[4] = number;
    for (i = 0; i < USERS; i++)
        arguments[5 + i] = bench_ids()[i];
    bench_end_with_parent();
    if (dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
        _exit(127);
    execvp("python3", (char *const *)(uintptr_t)arguments);
    _exit(127);
}

struct bench_python *bench_python_open(const char *flag, unsigned share)
{
    struct bench_python *python = calloc(1, sizeof *python);
    int fds[2];

    if (python == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        bench_die("no pair of sockets for python3");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)fflush(NULL);
    python->pid = fork();
    if (python->pid < 0)
        bench_die("no process for python3");
    if (python->pid == 0)
        become_python(fds[1], flag, share);
    (void)close(fds[1]);
    python->ask = fdopen(fds[0], "w");
    python->answer = fdopen(dup(fds[0]), "r");
    if (python->ask == NULL || python->answer == NULL)
        bench_die("no memory");
    if (!(bench_timed_python(python, 1) >= 0)) { /* it is not there */
        bench_python_close(python);
        return NULL;
    }
    return python;
}

void bench_python_close(struct bench_python *python)
{
    (void)fclose(python->ask);
    (void)shutdown(fileno(python->answer), SHUT_RDWR); /* the end of its input */
    (void)fclose(python->answer);
    (void)waitpid(python->pid, NULL, 0);
    free(python);
}

/* Nanoseconds for n decisions; below 0: no answer. */
double bench_timed_python(void *context, size_t n)
{
    struct bench_python *python = context;
    unsigned long long ns;

    if (fprintf(python->ask, "%zu\n", n) < 0 || fflush(python->ask) != 0 ||
        fscanf(python->answer, "%llu", &ns) != 1)
        return -1;
    return (double)ns;
}
