/* segment_tool: what flagctl does to a table while no server runs, or while one runs and does not answer. See segment.h.
 *
 * Nothing here touches the heartbeat: readers must go on seeing that the server is silent.
 */
#include "server/segment_internal.h"

#include "server/flagfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void flagshm_segment_each_killed(const struct flagshm_segment *segment,
                                 void (*each)(void *context, const char *name, size_t bytes), void *context)
{
    struct flagshm_table served;
    uint32_t i;

    if (!segment->header)
        return;
    served = flagshm_segment_served(segment);
    for (i = 0; i < served.flag_count; i++) {
        const struct flagshm_flag_entry *record =
            (const struct flagshm_flag_entry *)(const void *)(served.bytes + served.geometry.records_offset) +
            i;
        const char *name = (const char *)served.bytes + served.geometry.heap_offset + record->name_offset;

        if ((record->switches & FLAGSHM_SWITCH_KILLED) != 0 &&
            flagshm_is_inside_(record->name_offset, record->name_bytes, served.heap_used) &&
            flagshm_is_flag_name(name, record->name_bytes))
            each(context, name, record->name_bytes);
    }
}

/* A private copy of the served bank, ready to be changed and published. */
static int copy_served(const struct flagshm_segment *segment, struct flagshm_table *copy)
{
    struct flagshm_table served = flagshm_segment_served(segment);

    *copy = served;
    copy->bytes = malloc((size_t)served.geometry.bank_bytes);
    if (!copy->bytes)
        return -ENOMEM;
    memcpy(copy->bytes, served.bytes, (size_t)served.geometry.bank_bytes);
    return 0;
}

int flagshm_segment_kill(struct flagshm_segment *segment, const char *flag, struct flagshm_error *error)
{
    struct flagshm_table table;
    struct flagshm_flag_entry *record;
    uint64_t hash = flagshm_hash64_(flag, strlen(flag), 0), version = flagshm_segment_version(segment) + 1;
    int code = 0;

    if (!segment->header)
        return flagshm_error_set(error, -ENOENT, "%s: no table that could be changed", segment->path);
    if (copy_served(segment, &table) != 0)
        return flagshm_error_set(error, -ENOMEM, "%s: no memory for a copy of the table", segment->path);
    record = flagshm_table_find(&table, hash);
    if (!record) {
        code = flagshm_error_set(error, -ENOENT, "no flag \"%s\" in the table", flag);
    } else if ((record->switches & FLAGSHM_SWITCH_KILLED) != 0) {
        code = flagshm_error_set(error, -EALREADY, "flag \"%s\" is killed already", flag);
    } else {
        flagshm_table_kill(&table, record);
        record->changed_version = version;
        flagshm_segment_flip(segment, &table, version, flagshm_segment_file_rev(segment));
    }
    flagshm_table_free(&table);
    return code;
}

int flagshm_segment_force_all_control(const char *dir, const char *instance, struct flagshm_error *error)
{
    struct flagshm_segment named = {.fd = -1};
    struct flagshm_header *header;
    struct stat object;
    int fd, code = 0;

    if (!instance || !flagshm_is_instance_name(instance, strlen(instance)))
        return flagshm_error_set(error, -EINVAL, "\"%.64s\" is no instance name", instance ? instance : "");
    if (snprintf(named.path, sizeof named.path, "%s/flagshm.%s.table", dir && dir[0] ? dir : "/dev/shm",
                 instance) >= (int)sizeof named.path)
        return flagshm_error_set(error, -ENAMETOOLONG, "the directory's name is too long: %.80s...", dir);
    named.owner_ = geteuid();
    if (lstat(named.path, &object) == 0 && geteuid() == 0)
        named.owner_ = object.st_uid;
    fd = flagshm_segment_open_ours(&named, named.path, O_RDWR, &object, error);
    if (fd == -ENOENT)
        return flagshm_error_set(error, fd, "%s: no such table: no server has run here", named.path);
    if (fd < 0)
        return fd;
    header = object.st_size >= (off_t)FLAGSHM_HEADER_BYTES
                 ? mmap(NULL, FLAGSHM_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                 : MAP_FAILED;
    (void)close(fd);
    if (header == MAP_FAILED)
        return flagshm_error_set(error, -EBADMSG, "%s: no table: it cannot be mapped, or is too short",
                                 named.path);
    if (header->magic == FLAGSHM_TABLE_MAGIC && header->byte_order == FLAGSHM_BYTE_ORDER &&
        header->kind == FLAGSHM_KIND_TABLE)
        (void)flagshm_segment_switch(header, FLAGSHM_SEQ_ALL_CONTROL, true);
    else
        code = flagshm_error_set(error, -EBADMSG, "%s: is no flagshm table", named.path);
    (void)munmap(header, FLAGSHM_HEADER_BYTES);
    return code;
}
