/* disk: see the header. Two lists under one mutex: what is to be done, and what is done. */
#include "server/disk.h"
#include "server/kills.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct item {
    struct item *next;
    struct flagshm_disk_job job;
};

struct list {
    struct item *first, **end;
};

struct flagshm_disk {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t has_work;
    struct list waiting, done;
    const char *state_dir;
    unsigned pending; /* given and not yet taken */
    int event_fd;
    bool is_ending;
};

static void put(struct list *list, struct item *item)
{
    item->next = NULL;
    *list->end = item;
    list->end = &item->next;
}

static struct item *take(struct list *list)
{
    struct item *item = list->first;

    if (item != NULL) {
        list->first = item->next;
        if (list->first == NULL)
            list->end = &list->first;
    }
    return item;
}

static void do_job(struct flagshm_disk_job *job, const char *state_dir)
{
    const char *flag = job->flag[0] != '\0' ? job->flag : NULL;

    job->error.text[0] = '\0';
    if (job->is_erase)
        job->result = flagshm_kills_erase(state_dir, flag, &job->error);
    else
        job->result = flagshm_kills_write(state_dir, flag, job->why, &job->error);
}

static void *work(void *argument)
{
    struct flagshm_disk *disk = argument;
    const uint64_t one = 1;
    struct item *item;

    pthread_mutex_lock(&disk->mutex);
    for (;;) {
        while ((item = take(&disk->waiting)) == NULL && !disk->is_ending)
            pthread_cond_wait(&disk->has_work, &disk->mutex);
        if (item == NULL)
            break;
        pthread_mutex_unlock(&disk->mutex);
        do_job(&item->job, disk->state_dir);
        pthread_mutex_lock(&disk->mutex);
        put(&disk->done, item);
        if (write(disk->event_fd, &one, sizeof one) < 0)
            continue; /* its counter is at its end: it is readable already */
    }
    pthread_mutex_unlock(&disk->mutex);
    return NULL;
}

int flagshm_disk_open(struct flagshm_disk **out, const char *state_dir)
{
    struct flagshm_disk *disk = calloc(1, sizeof *disk);
    int error;

    *out = NULL;
    if (disk == NULL)
        return -ENOMEM;
    disk->state_dir = state_dir;
    disk->waiting.end = &disk->waiting.first;
    disk->done.end = &disk->done.first;
    pthread_mutex_init(&disk->mutex, NULL);
    pthread_cond_init(&disk->has_work, NULL);
    disk->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = disk->event_fd < 0 ? -errno : -pthread_create(&disk->thread, NULL, work, disk);
    if (error != 0) {
        if (disk->event_fd >= 0)
            close(disk->event_fd);
        free(disk);
        return error;
    }
    *out = disk;
    return 0;
}

void flagshm_disk_close(struct flagshm_disk *disk)
{
    struct item *item;

    if (disk == NULL)
        return;
    pthread_mutex_lock(&disk->mutex);
    disk->is_ending = true;
    pthread_cond_signal(&disk->has_work);
    pthread_mutex_unlock(&disk->mutex);
    pthread_join(disk->thread, NULL);
    while ((item = take(&disk->done)) != NULL)
        free(item);
    close(disk->event_fd);
    pthread_cond_destroy(&disk->has_work);
    pthread_mutex_destroy(&disk->mutex);
    free(disk);
}

int flagshm_disk_fd(const struct flagshm_disk *disk)
{
    return disk->event_fd;
}

int flagshm_disk_give(struct flagshm_disk *disk, const struct flagshm_disk_job *job)
{
    struct item *item = malloc(sizeof *item);

    if (item == NULL)
        return -ENOMEM;
    item->job = *job;
    pthread_mutex_lock(&disk->mutex);
    put(&disk->waiting, item);
    disk->pending++;
    pthread_cond_signal(&disk->has_work);
    pthread_mutex_unlock(&disk->mutex);
    return 0;
}

bool flagshm_disk_take(struct flagshm_disk *disk, struct flagshm_disk_job *job)
{
    struct item *item;
    uint64_t count;

    if (read(disk->event_fd, &count, sizeof count) < 0)
        count = 0; /* nothing new; something may be left from before */
    pthread_mutex_lock(&disk->mutex);
    item = take(&disk->done);
    if (item != NULL)
        disk->pending--;
    pthread_mutex_unlock(&disk->mutex);
    if (item == NULL)
        return false;
    *job = item->job;
    free(item);
    return true;
}

bool flagshm_disk_is_idle(struct flagshm_disk *disk)
{
    bool is_idle;

    pthread_mutex_lock(&disk->mutex);
    is_idle = disk->pending == 0;
    pthread_mutex_unlock(&disk->mutex);
    return is_idle;
}
