/* bench_child: a program as small as one that includes the header can be; bench_process.c starts it many times.
 *   bench_child first INSTANCE FLAG ID          nanoseconds from main() to the first decision
 *   bench_child memory INSTANCE FLAG...         bytes of private memory that attaching and deciding adds
 */
#include "client/flagshm.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Private_Clean and Private_Dirty of the whole process, in bytes; -1: not told. */
static long private_bytes(void)
{
    static char text[4096];
    static const char *const words[] = {"Private_Clean:", "Private_Dirty:"};
    int fd = open("/proc/self/smaps_rollup", O_RDONLY);
    ssize_t bytes = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    long sum = 0;
    size_t i;

    if (fd >= 0)
        (void)close(fd);
    if (bytes <= 0)
        return -1;
    text[bytes] = '\0';
    for (i = 0; i < 2; i++) {
        const char *at = strstr(text, words[i]);

        if (at == NULL)
            return -1;
        sum += strtol(at + strlen(words[i]), NULL, 10) * 1024;
    }
    return sum;
}

static int memory(const char *instance, char **names, int count)
{
    static struct flagshm flags;
    static struct flagshm_decision d;
    long before, after;
    int i, user;

    (void)private_bytes(); /* what reading it touches is not ours */
    before = private_bytes();
    if (flagshm_open(&flags, instance) != 0)
        return 1;
    for (i = 0; i < count; i++)
        for (user = 0; user < 10; user++) {
            char id[16] = "user-0000000";

            id[11] = (char)('0' + user);
            if (flagshm_decide(&flags, names[i], id, &d) >= FLAGSHM_FLAG_NOT_FOUND)
                return 1;
        }
    after = private_bytes();
    if (before < 0 || after < 0)
        return 1;
    printf("%ld\n", after - before);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t begin = now_ns(), end;
    struct flagshm flags;
    struct flagshm_decision d;

    if (argc >= 4 && argv[1][0] == 'm')
        return memory(argv[2], argv + 3, argc - 3);
    if (argc != 5)
        return 2;
    if (flagshm_open(&flags, argv[2]) != 0 ||
        flagshm_decide(&flags, argv[3], argv[4], &d) >= FLAGSHM_FLAG_NOT_FOUND)
        return 1;
    end = now_ns();
    printf("%llu\n", (unsigned long long)(end - begin));
    return 0;
}
