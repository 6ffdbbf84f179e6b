/* outcome_file: see outcome_file.h. */
#include "tools/outcome_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void flagctl_outcomes_path(const struct flagshm_instance *instance, char path[FLAGCTL_OUTCOMES_PATH])
{
    bool is_in_dir = instance->dir[0] != '\0';

    (void)snprintf(path, FLAGCTL_OUTCOMES_PATH, "%s%s/flagshm.%s.outcomes",
                   is_in_dir ? instance->dir : "/dev/shm", is_in_dir ? "/outcomes" : "", instance->name);
}

int flagctl_outcomes_open(struct flagctl_outcomes *file, const struct flagshm_instance *instance)
{
    int error = 0;

    memset(file, 0, sizeof *file);
    flagctl_outcomes_path(instance, file->path);
    file->fd = open(file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
    if (file->fd < 0)
        return errno == ELOOP ? -EPERM : -errno;
    if (fstat(file->fd, &file->object) != 0)
        error = -errno;
    else if (!S_ISREG(file->object.st_mode))
        error = -EPERM;
    if (error != 0)
        flagctl_outcomes_close(file);
    return error;
}

void flagctl_outcomes_close(struct flagctl_outcomes *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}

static void whole_read(int fd, void *out, size_t bytes, uint64_t offset)
{
    size_t used = 0;

    while (used < bytes) {
        ssize_t got = pread(fd, (char *)out + used, bytes - used, (off_t)(offset + used));

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    memset((char *)out + used, 0, bytes - used);
}

void flagctl_outcomes_header(const struct flagctl_outcomes *file, struct flagshm_outcomes *header)
{
    whole_read(file->fd, header, sizeof *header, 0);
}

void flagctl_outcomes_read(const struct flagctl_outcomes *file, uint32_t slot, size_t offset, void *out,
                           size_t bytes)
{
    whole_read(file->fd, out, bytes, flagshm_slot_offset_(slot) + offset);
}

uint32_t flagctl_outcomes_generation(const struct flagctl_outcomes *file, uint32_t slot)
{
    uint32_t generation;

    flagctl_outcomes_read(file, slot, offsetof(struct flagshm_slot, generation), &generation,
                          sizeof generation);
    return generation;
}

/* Is it a part of another count, and so to be read before that one? */
static bool is_part(uint32_t counter)
{
    static const uint8_t parts[] = {FLAGSHM_N_TRANSPORT,    FLAGSHM_N_FAILED,         FLAGSHM_N_LIMITED,
                                    FLAGSHM_N_JSON_INVALID, FLAGSHM_N_SCHEMA_INVALID, FLAGSHM_N_TOOL_INVALID,
                                    FLAGSHM_N_REFUSAL,      FLAGSHM_N_TRUNCATED,      FLAGSHM_N_EMPTY};
    return memchr(parts, (int)counter, sizeof parts) != NULL;
}

void flagctl_outcomes_arm(const struct flagctl_outcomes *file, uint32_t slot, uint32_t arm,
                          struct flagshm_arm_counts *counts)
{
    size_t base = offsetof(struct flagshm_slot, arms) + arm % 8 * sizeof(struct flagshm_arm_outcomes);
    uint32_t shard, h, i;
    struct {
        flagshm_u64_ counters[FLAGSHM_SHARDS][FLAGSHM_COUNTERS];
        uint32_t histograms[FLAGSHM_HISTOGRAM_SHARDS][FLAGSHM_HISTOGRAMS][FLAGSHM_HISTOGRAM_BUCKETS];
    } now;
    flagshm_u64_ parts[FLAGSHM_SHARDS][FLAGSHM_COUNTERS];

    FLAGSHM_ASSERT_(offsetof(struct flagshm_arm_outcomes, histograms) == sizeof parts, "one read takes both");
    memset(counts, 0, sizeof *counts);
    flagctl_outcomes_read(file, slot, base, parts, sizeof parts);
    flagctl_outcomes_read(file, slot, base, &now, sizeof now);
    for (shard = 0; shard < FLAGSHM_SHARDS; shard++)
        for (i = 0; i < FLAGSHM_COUNTERS; i++)
            counts->n[i] += is_part(i) ? parts[shard][i] : now.counters[shard][i];
    for (shard = 0; shard < FLAGSHM_HISTOGRAM_SHARDS; shard++)
        for (h = 0; h < FLAGSHM_HISTOGRAMS; h++)
            for (i = 0; i < FLAGSHM_HISTOGRAM_BUCKETS; i++)
                counts->histograms[h][i] += now.histograms[shard][h][i];
}
