/* snapshot: see snapshot.h.
 *
 * Two steps: the words are copied as a client reads them (R1 to R3 of client/flagshm.h), then the private copy is
 * read like a hostile file. Strings point into the copy; one that does not end in NUL where it says is damage, so nothing
 * is copied twice, and a hostile table cannot make a large snapshot of a small segment. */
#include "server/snapshot.h"

#include "server/flagfile.h"
#include "server/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct copy {
    unsigned char *records,
        *heap; /* one piece of memory: records of sizeof(struct flagshm_flag_entry), heap, 8 zeros */
    struct flagshm_snapshot_flag *flags;
    struct flagshm_snapshot_arm *arms;
    struct flagshm_bank bank;
    struct flagshm_header header;
    uint64_t heap_bytes;
    uint32_t count, arm_stride;
};

static void load_words(void *out, const void *shared, size_t bytes)
{
    size_t i;

    for (i = 0; i < bytes; i += 8) {
        uint64_t word = flagshm_load64_((const unsigned char *)shared + i);

        memcpy((unsigned char *)out + i, &word, 8);
    }
}

/* Copies bank (seq & 1). What is copied may be a mix until seq is seen to stand. 0 or -ENOMEM. */
static int copy_bank(struct copy *c, const struct flagshm_map_ *map, const unsigned char *bank)
{
    unsigned char *room;
    size_t records;
    uint32_t i;

    load_words(&c->header, map->segment, sizeof c->header);
    load_words(&c->bank, bank, sizeof c->bank);
    c->count = c->bank.flag_count < map->record_capacity ? c->bank.flag_count : map->record_capacity;
    c->heap_bytes =
        (c->bank.heap_used < map->heap_bytes ? c->bank.heap_used : map->heap_bytes) & ~UINT64_C(7);
    c->arm_stride = map->arm_stride;
    records = (size_t)c->count * sizeof(struct flagshm_flag_entry);
    room = realloc(c->records, records + (size_t)c->heap_bytes + 8);
    if (!room)
        return -ENOMEM;
    c->records = room;
    c->heap = room + records;
    for (i = 0; i < c->count; i++)
        load_words(c->records + i * sizeof(struct flagshm_flag_entry),
                   bank + map->records_offset + (size_t)i * map->record_stride,
                   sizeof(struct flagshm_flag_entry));
    load_words(c->heap, bank + map->heap_offset, (size_t)c->heap_bytes);
    memset(c->heap + c->heap_bytes, 0, 8);
    return 0;
}

/* ---- the copy as a hostile file ---- */

/* The text, or NULL where it is not all inside or does not end where it says. */
static const char *text_at(const struct copy *c, uint32_t offset, uint32_t bytes)
{
    if (!flagshm_is_inside_(offset, bytes, c->heap_bytes) || c->heap[(uint64_t)offset + bytes] != '\0')
        return NULL;
    return (const char *)c->heap + offset;
}

static bool read_arm(const struct copy *c, const unsigned char *bytes, uint32_t *weight_before,
                     struct flagshm_snapshot_arm *arm)
{
    struct flagshm_arm_entry entry;

    memcpy(&entry, bytes, sizeof entry);
    arm->name = text_at(c, entry.name_offset, entry.name_bytes);
    arm->model = text_at(c, entry.model_offset, entry.model_bytes);
    arm->value = text_at(c, entry.value_offset, entry.value_bytes);
    arm->value_bytes = entry.value_bytes;
    arm->value_hash = entry.value_hash;
    arm->fingerprint = entry.fingerprint;
    arm->weight = entry.weight_end - *weight_before;
    if (entry.weight_end < *weight_before || entry.name_bytes > FLAGSHM_ARM_NAME_MAX ||
        entry.model_bytes > FLAGSHM_MODEL_MAX || entry.value_bytes > FLAGSHM_VALUE_MAX)
        return false;
    *weight_before = entry.weight_end;
    return arm->name && arm->model && arm->value;
}

/* Does this salt give what the record starts from? */
static bool is_salt(const struct flagshm_flag_entry *r, const char *salt, uint32_t bytes)
{
    struct flagshm_md5_prefix_ prefix;

    flagshm_table_prefix(&prefix, salt, bytes);
    return memcmp(prefix.start, r->md5_start, sizeof prefix.start) == 0 &&
           memcmp(prefix.state, r->md5_state, sizeof prefix.state) == 0;
}

/* The salt, or NULL. A short one stands before its ':' in `pending`, whose ':' may be overwritten here; of a long one the text
 * stands behind the name's, or is not known: "". */
static const char *salt_of(const struct copy *c, struct flagshm_flag_entry *r)
{
    uint32_t bytes = r->prefix_bytes - 1, behind = r->name_offset + ((r->name_bytes + 8u) & ~7u);
    const char *salt;

    if (r->prefix_bytes < 2 || r->prefix_bytes > FLAGSHM_SALT_MAX + 1)
        return NULL;
    if (r->prefix_bytes < 64) {
        if (r->pending[bytes] != ':' || !is_salt(r, (const char *)r->pending, bytes))
            return NULL;
        r->pending[bytes] = '\0';
        return (const char *)r->pending;
    }
    salt = text_at(c, behind, bytes);
    return salt && is_salt(r, salt, bytes) ? salt : "";
}

/* False: makes no sense, is left out. `arms` has room for FLAGSHM_ARMS_MAX. */
static bool read_flag(const struct copy *c, struct flagshm_flag_entry *r, struct flagshm_snapshot_flag *flag,
                      struct flagshm_snapshot_arm *arms)
{
    uint32_t weight = 0, i;

    flag->name = text_at(c, r->name_offset, r->name_bytes);
    if (!flag->name || !flagshm_is_flag_name(flag->name, r->name_bytes) ||
        r->name_hash != flagshm_hash64_(flag->name, r->name_bytes, 0) || r->arm_count < 2 ||
        r->arm_count > FLAGSHM_ARMS_MAX || r->rollout_mpct > FLAGSHM_MPCT_FULL ||
        r->shadow_mpct > FLAGSHM_MPCT_FULL ||
        !flagshm_is_inside_(r->arms_offset, (uint64_t)r->arm_count * c->arm_stride, c->heap_bytes) ||
        !flagshm_is_inside_(r->force_offset, (uint64_t)r->force_count * sizeof(struct flagshm_force_id),
                            c->heap_bytes))
        return false;
    for (i = 0; i < r->arm_count; i++)
        if (!read_arm(c, c->heap + r->arms_offset + (size_t)i * c->arm_stride, &weight, &arms[i]))
            return false;
    flag->salt = salt_of(c, r);
    r->stage[sizeof r->stage - 1] = '\0';
    flag->stage = r->stage;
    flag->switches = r->switches;
    flag->rollout_mpct = r->rollout_mpct;
    flag->shadow_mpct = r->shadow_mpct;
    flag->slot = r->slot;
    flag->slot_generation = r->slot_generation;
    flag->force_count = r->force_count;
    flag->arm_count = r->arm_count;
    flag->arms = arms;
    flag->changed_version = r->changed_version;
    return flag->salt != NULL;
}

static int name_order(const void *left, const void *right)
{
    return strcmp(((const struct flagshm_snapshot_flag *)left)->name,
                  ((const struct flagshm_snapshot_flag *)right)->name);
}

static void copy_free(struct copy *c)
{
    if (!c)
        return;
    free(c->records);
    free(c->flags);
    free(c->arms);
    free(c);
}

static int read_flags(struct flagshm_snapshot *snapshot, struct copy *c)
{
    size_t arms = 0;
    uint32_t i;

    c->flags = calloc((size_t)c->count + 1, sizeof *c->flags);
    for (i = 0; i < c->count; i++) {
        struct flagshm_flag_entry *r = (struct flagshm_flag_entry *)(void *)c->records + i;

        arms += r->arm_count <= FLAGSHM_ARMS_MAX ? r->arm_count : 0;
    }
    c->arms = calloc(arms + 1, sizeof *c->arms);
    if (!c->flags || !c->arms)
        return -ENOMEM;
    for (i = 0, arms = 0; i < c->count; i++) {
        struct flagshm_flag_entry *r = (struct flagshm_flag_entry *)(void *)c->records + i;

        if (read_flag(c, r, &c->flags[snapshot->count], c->arms + arms)) {
            arms += r->arm_count;
            snapshot->count++;
        } else {
            snapshot->damaged++;
        }
    }
    snapshot->damaged += c->bank.flag_count - c->count;
    snapshot->flags = c->flags;
    if (snapshot->count > 0)
        qsort(snapshot->flags, snapshot->count, sizeof *snapshot->flags, name_order);
    return 0;
}

/* ---- taking ---- */

/* A whole copy of what is served, or -ENOENT, -EBADMSG, -ENOMEM. */
static int copy_served(struct copy *c, struct flagshm *fs, struct flagshm_snapshot *snapshot)
{
    struct flagshm_map_ *map = __atomic_load_n(&fs->map_, __ATOMIC_ACQUIRE);
    int tries, code;

    if (map == NULL)
        map = flagshm_newer_(fs, NULL);
    if (map == NULL)
        return -ENOENT;
    if (flagshm_is_stale_(map))
        map = flagshm_newer_(fs, map);
    for (tries = 0; tries < FLAGSHM_RETRIES_MAX; tries++) {
        uint64_t seq = flagshm_seq_acquire_(map);

        if ((seq & FLAGSHM_SEQ_RETIRED) != 0) {
            struct flagshm_map_ *newer = flagshm_newer_(fs, map);

            if (newer != map) {
                map = newer;
                continue;
            }
        }
        code = copy_bank(c, map, map->bank[seq & 1]);
        if (code != 0)
            return code;
        if (flagshm_seq_again_(map) != seq)
            continue;
        c->header.seq = seq;
        snapshot->age_ns = flagshm_map_age_ns_(map);
        return 0;
    }
    return -EBADMSG;
}

int flagshm_snapshot_take(struct flagshm_snapshot *snapshot, struct flagshm *fs, struct flagshm_error *error)
{
    struct copy *c = calloc(1, sizeof *c);
    int code;

    memset(snapshot, 0, sizeof *snapshot);
    code = c ? copy_served(c, fs, snapshot) : -ENOMEM;
    if (code == 0)
        code = read_flags(snapshot, c);
    if (code != 0) {
        copy_free(c);
        memset(snapshot, 0, sizeof *snapshot);
        return flagshm_error_set(error, code, "%s: %s", fs->path_[0] ? fs->path_ : "the table",
                                 code == -ENOENT    ? "no table: no server has run here, or it is not trusted"
                                 : code == -EBADMSG ? "changes too fast to be copied"
                                                    : "no memory for a copy");
    }
    snapshot->header = c->header;
    snapshot->header.socket_path[sizeof c->header.socket_path - 1] = '\0';
    snapshot->header.state_dir[sizeof c->header.state_dir - 1] = '\0';
    snapshot->header.file_path[sizeof c->header.file_path - 1] = '\0';
    snapshot->version = c->bank.version;
    snapshot->file_rev = c->bank.file_rev;
    snapshot->published_realtime_ns = c->bank.published_realtime_ns;
    snapshot->content_hash = c->bank.content_hash;
    snapshot->is_all_control = (c->header.seq & FLAGSHM_SEQ_ALL_CONTROL) != 0;
    snapshot->is_retired = (c->header.seq & FLAGSHM_SEQ_RETIRED) != 0;
    snapshot->memory_ = c;
    return 0;
}

void flagshm_snapshot_free(struct flagshm_snapshot *snapshot)
{
    copy_free(snapshot->memory_);
    memset(snapshot, 0, sizeof *snapshot);
}

const struct flagshm_snapshot_flag *flagshm_snapshot_find(const struct flagshm_snapshot *snapshot,
                                                          const char *name)
{
    struct flagshm_snapshot_flag key = {.name = name};

    if (snapshot->count == 0)
        return NULL;
    return bsearch(&key, snapshot->flags, snapshot->count, sizeof *snapshot->flags, name_order);
}
