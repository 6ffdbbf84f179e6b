/* doorbell: see the header.
 *
 * Clients ring with the C library's own sem_post. We must not wait with its sem_wait: the semaphore stands in memory that
 * clients write, and glibc ends the whole process (abort) where the kernel refuses the wait that scribbled words ask for, or where the
 * page has gone with a file cut short. So this thread waits on the same word by the bare system call, whose errors are only
 * errors. That needs the words' meaning, which cannot change any more: programs of different glibc versions, in different
 * containers, share such semaphores (the bell's tag names the library and the word size). With 64-bit words: the count in
 * the low half, the number of waiters above it; with 32-bit words: the count times two, and 1 where somebody waits.
 */
#include "server/doorbell.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if UINTPTR_MAX > UINT32_MAX
typedef uint64_t bell_word;
#define WAITED_FOR (UINT64_C(1) << 32) /* nobody has rung, one waits */
#define RUNG       1u
#else
typedef uint32_t bell_word;
#define WAITED_FOR 1u
#define RUNG       2u
#endif

struct flagshm_doorbell {
    pthread_t thread;
    bell_word *word; /* in shared memory */
    int fd;
    bool is_ending; /* atomic */
};

/* The half of the word that holds the count. */
static uint32_t *count_of(bell_word *word)
{
    bool is_big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

    return (uint32_t *)(void *)word + (is_big_endian && sizeof *word == 8 ? 1 : 0);
}

static void tell(struct flagshm_doorbell *bell)
{
    uint64_t one = 1;

    (void)!write(bell->fd, &one, sizeof one); /* full: it is readable already */
}

/* Clients ring once each time the loop arms, so this thread wakes no oftener than the loop wants. Whoever scribbles over the semaphore
 * can make it ring all the time, or never: a pause after each ring bounds the first, the loop's own ticks the second. */
static void *wait_for_rings(void *context)
{
    static const struct timespec second = {1, 0}, pause = {0, 500000};
    struct flagshm_doorbell *bell = context;
    uint32_t *count = count_of(bell->word);

    while (!__atomic_load_n(&bell->is_ending, __ATOMIC_ACQUIRE)) {
        bell_word found = __atomic_exchange_n(bell->word, WAITED_FOR, __ATOMIC_ACQ_REL);
        long result;

        if (found != WAITED_FOR) {
            tell(bell);
            (void)nanosleep(&pause, NULL);
            continue;
        }
        result = syscall(SYS_futex, count, FUTEX_WAIT, (uint32_t)WAITED_FOR, &second, NULL, 0);
        if (result != 0 && errno != ETIMEDOUT && errno != EAGAIN && errno != EINTR)
            (void)nanosleep(&second, NULL);
    }
    return NULL;
}

int flagshm_doorbell_open(struct flagshm_doorbell **bell, void *semaphore, int event_fd,
                          struct flagshm_error *error)
{
    struct flagshm_doorbell *b = calloc(1, sizeof *b);
    sigset_t all, saved;
    int result;

    *bell = NULL;
    if (b == NULL)
        return flagshm_error_set(error, -ENOMEM, "no memory for the doorbell");
    b->word = semaphore;
    __atomic_store_n(b->word, WAITED_FOR, __ATOMIC_RELEASE);
    b->fd = event_fd;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* the guard's, should the file be cut short under the semaphore */
    (void)pthread_sigmask(SIG_SETMASK, &all, &saved);
    result = -pthread_create(&b->thread, NULL, wait_for_rings, b);
    (void)pthread_sigmask(SIG_SETMASK, &saved, NULL);
    if (result != 0) {
        free(b);
        return flagshm_error_set(error, result, "the doorbell's thread: %s", strerror(-result));
    }
    *bell = b;
    return 0;
}

void flagshm_doorbell_close(struct flagshm_doorbell *bell)
{
    if (bell == NULL)
        return;
    __atomic_store_n(&bell->is_ending, true, __ATOMIC_RELEASE);
    (void)__atomic_fetch_add(bell->word, RUNG, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, count_of(bell->word), FUTEX_WAKE, 1, NULL, NULL, 0);
    (void)pthread_join(bell->thread, NULL);
    free(bell);
}
