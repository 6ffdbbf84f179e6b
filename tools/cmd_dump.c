/* dump: the table segment in words, also where it is damaged: the header is read as bytes of a file, and only what passes every check
 * is followed. */
#include "tools/connect.h"
#include "tools/view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct dump {
    struct flagctl *ctl;
    cJSON *json;    /* the whole; NULL: for people */
    cJSON *section; /* where fields go now */
    int fd;
    struct stat object;
    struct flagshm_header header; /* zeros behind what the object has */
};

static void section_begin(struct dump *d, const char *name)
{
    if (d->json != NULL)
        d->section = cJSON_AddObjectToObject(d->json, name);
    else
        (void)fprintf(d->ctl->out, "%s\n", name);
}

/* A line, or a member: a text, or with `is_number` as it stands. */
static void field(struct dump *d, const char *key, bool is_number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void field(struct dump *d, const char *key, bool is_number, const char *format, ...)
{
    char text[2304], clean[2304];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (d->json == NULL)
        (void)fprintf(d->ctl->out, "  %-22s %s\n", key, flagctl_clean(text, clean, sizeof clean));
    else if (is_number)
        (void)cJSON_AddRawToObject(d->section, key, text);
    else
        (void)cJSON_AddStringToObject(d->section, key, text);
}

/* "VALUE" for machines; with a remark behind it for people. */
static void judged(struct dump *d, const char *key, bool is_right, const char *value, const char *wanted)
{
    bool is_number = strspn(value, "0123456789") == strlen(value);
    if (d->json != NULL || is_right)
        field(d, key, is_number, "%s", value);
    else
        field(d, key, false, "%s   WRONG: should be %s", value, wanted);
}

static void object_dump(struct dump *d)
{
    const struct stat *o = &d->object;

    section_begin(d, "object");
    field(d, "path", false, "%s", d->ctl->instance.table_path);
    field(d, "bytes", true, "%lld", (long long)o->st_size);
    field(d, "mode", false, "%04o", (unsigned)(o->st_mode & 07777));
    field(d, "owner_uid", true, "%lu", (unsigned long)o->st_uid);
    field(d, "owner_gid", true, "%lu", (unsigned long)o->st_gid);
    field(d, "inode", true, "%llu", (unsigned long long)o->st_ino);
}

/* As /proc/sys/kernel/random/boot_id spells it. */
static void boot_id_text(const uint8_t id[16], char out[40])
{
    size_t used = 0, i;
    for (i = 0; i < 16; i++)
        used += (size_t)snprintf(out + used, 40 - used, "%s%02x",
                                 i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
}

/* The id of this boot, "" where the system does not say. */
static void boot_id_read(char out[40])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, out, 36) : -1;
    out[got == 36 ? 36 : 0] = '\0';
    if (fd >= 0)
        (void)close(fd);
}

static void prefix_dump(struct dump *d)
{
    const struct flagshm_header *h = &d->header;
    char text[80], wanted[80], time[40];

    section_begin(d, "prefix");
    (void)snprintf(text, sizeof text, "0x%016" PRIx64, (uint64_t)h->magic);
    (void)snprintf(wanted, sizeof wanted, "0x%016" PRIx64, FLAGSHM_TABLE_MAGIC);
    judged(d, "magic", h->magic == FLAGSHM_TABLE_MAGIC, text, wanted);
    (void)snprintf(text, sizeof text, "0x%08" PRIx32, h->byte_order);
    (void)snprintf(wanted, sizeof wanted, "0x%08" PRIx32, FLAGSHM_BYTE_ORDER);
    judged(d, "byte_order", h->byte_order == FLAGSHM_BYTE_ORDER, text, wanted);
    (void)snprintf(text, sizeof text, "%u.%u", h->layout_major, h->layout_minor);
    (void)snprintf(wanted, sizeof wanted, "%d.*", FLAGSHM_LAYOUT_MAJOR);
    judged(d, "layout", h->layout_major == FLAGSHM_LAYOUT_MAJOR, text, wanted);
    field(d, "header_bytes", true, "%" PRIu32, h->header_bytes);
    field(d, "kind", true, "%" PRIu32, h->kind);
    (void)snprintf(text, sizeof text, "%" PRIu64, (uint64_t)h->segment_bytes);
    (void)snprintf(wanted, sizeof wanted, "%lld, the object's size", (long long)d->object.st_size);
    judged(d, "segment_bytes", h->segment_bytes == (uint64_t)d->object.st_size, text, wanted);
    field(d, "segment_id", false, "%016" PRIx64, (uint64_t)h->segment_id);
    boot_id_text(h->boot_id, text);
    boot_id_read(wanted);
    judged(d, "boot_id", strcmp(text, wanted) == 0, text, "that of this boot");
    field(d, "created", false, "%s", flagctl_time(h->created_realtime_ns, time));
}

static void lines_dump(struct dump *d)
{
    const struct flagshm_header *h = &d->header;
    char age[24];
    int64_t age_ns = (int64_t)(flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) - h->heartbeat_mono_ns);

    section_begin(d, "publish");
    field(d, "seq", false, "0x%016" PRIx64, (uint64_t)h->seq);
    field(d, "bank", true, "%d", (int)(h->seq & 1));
    field(d, "retired", true, "%s", (h->seq & FLAGSHM_SEQ_RETIRED) != 0 ? "true" : "false");
    field(d, "all_control", true, "%s", (h->seq & FLAGSHM_SEQ_ALL_CONTROL) != 0 ? "true" : "false");
    field(d, "wake", true, "%" PRIu32, h->wake);
    section_begin(d, "liveness");
    field(d, "heartbeat_mono_ns", true, "%" PRIu64, (uint64_t)h->heartbeat_mono_ns);
    if (d->json == NULL)
        field(d, "heartbeat", false, "%s%s", flagctl_span(age_ns < 0 ? -age_ns : age_ns, age),
              age_ns < -INT64_C(2000000000) ? " AHEAD of the clock: another boot or time namespace" : " ago");
    else
        field(d, "age_ms", true, "%" PRId64, age_ns / 1000000);
    field(d, "period_ns", true, "%" PRIu64, (uint64_t)h->period_ns);
    field(d, "stale_after_ns", true, "%" PRIu64, (uint64_t)h->stale_after_ns);
    field(d, "stale", true, "%s",
          age_ns < -INT64_C(2000000000) || (age_ns > 0 && (uint64_t)age_ns > h->stale_after_ns) ? "true"
                                                                                                : "false");
    field(d, "window_4h", true, "%" PRIu32, h->window_4h);
    field(d, "window_1h", true, "%" PRIu32, h->window_1h);
    field(d, "outcomes_id", false, "%016" PRIx64, (uint64_t)h->outcomes_id);
    field(d, "pid", true, "%" PRIu32, h->pid);
}

static void geometry_dump(struct dump *d)
{
    const struct flagshm_header *h = &d->header;

    section_begin(d, "geometry");
    field(d, "bank_offset_0", true, "%" PRIu64, (uint64_t)h->bank_offset[0]);
    field(d, "bank_offset_1", true, "%" PRIu64, (uint64_t)h->bank_offset[1]);
    field(d, "bank_bytes", true, "%" PRIu64, (uint64_t)h->bank_bytes);
    field(d, "index_offset", true, "%" PRIu64, (uint64_t)h->index_offset);
    field(d, "index_slots", true, "%" PRIu32, h->index_slots);
    field(d, "records_offset", true, "%" PRIu64, (uint64_t)h->records_offset);
    field(d, "record_stride", true, "%" PRIu32, h->record_stride);
    field(d, "record_capacity", true, "%" PRIu32, h->record_capacity);
    field(d, "arm_stride", true, "%" PRIu32, h->arm_stride);
    field(d, "heap_offset", true, "%" PRIu64, (uint64_t)h->heap_offset);
    field(d, "heap_bytes", true, "%" PRIu64, (uint64_t)h->heap_bytes);
    section_begin(d, "paths");
    field(d, "socket", false, "%.*s", (int)sizeof h->socket_path - 1, h->socket_path);
    field(d, "state_dir", false, "%.*s", (int)sizeof h->state_dir - 1, h->state_dir);
    field(d, "file", false, "%.*s", (int)sizeof h->file_path - 1, h->file_path);
}

static void bank_dump(struct dump *d, int number)
{
    struct flagshm_bank bank;
    uint64_t offset = d->header.bank_offset[number];
    char name[16], time[40];

    (void)snprintf(name, sizeof name, "bank_%d", number);
    section_begin(d, name);
    field(d, "served", true, "%s", (d->header.seq & 1) == (uint64_t)number ? "true" : "false");
    memset(&bank, 0, sizeof bank);
    if (offset > (uint64_t)d->object.st_size ||
        pread(d->fd, &bank, sizeof bank, (off_t)offset) != (ssize_t)sizeof bank) {
        field(d, "fault", false, "offset %" PRIu64 " lies outside the object", offset);
        return;
    }
    field(d, "version", true, "%" PRIu64, (uint64_t)bank.version);
    field(d, "file_rev", true, "%" PRIu64, (uint64_t)bank.file_rev);
    field(d, "published", false, "%s", flagctl_time(bank.published_realtime_ns, time));
    field(d, "flag_count", true, "%" PRIu32, bank.flag_count);
    field(d, "heap_used", true, "%" PRIu64, (uint64_t)bank.heap_used);
    field(d, "content_hash", false, "%016" PRIx64, (uint64_t)bank.content_hash);
}

/* ---- records, where the client library accepts the table ---- */

static const struct {
    uint32_t bit;
    const char *word;
} switch_words[] = {
    {FLAGSHM_SWITCH_KILLED, "killed"},
    {FLAGSHM_SWITCH_DISABLED, "disabled"},
    {FLAGSHM_SWITCH_ROLLED_BACK, "rolled-back"},
    {FLAGSHM_SWITCH_STALE_CONTROL, "stale-control"},
    {FLAGSHM_SWITCH_HASH, "hash"},
    {FLAGSHM_SWITCH_GUARDED, "guarded"},
    {FLAGSHM_SWITCH_ORG, "org"},
    {FLAGSHM_SWITCH_SESSION, "session"},
};

static void record_json(cJSON *list, const struct flagshm_snapshot_flag *flag)
{
    cJSON *item = cJSON_CreateObject(), *inner;
    char hash[24];
    size_t i;

    (void)cJSON_AddItemToArray(list, item);
    (void)cJSON_AddStringToObject(item, "name", flag->name);
    (void)cJSON_AddStringToObject(item, "stage", flag->stage);
    (void)cJSON_AddStringToObject(item, "salt", flag->salt);
    inner = cJSON_AddArrayToObject(item, "switches");
    for (i = 0; i < sizeof switch_words / sizeof *switch_words; i++)
        if ((flag->switches & switch_words[i].bit) != 0)
            (void)cJSON_AddItemToArray(inner, cJSON_CreateString(switch_words[i].word));
    flagctl_json_u64(item, "rollout_mpct", flag->rollout_mpct);
    flagctl_json_u64(item, "shadow_mpct", flag->shadow_mpct);
    flagctl_json_u64(item, "slot", flag->slot);
    flagctl_json_u64(item, "slot_generation", flag->slot_generation);
    flagctl_json_u64(item, "force_count", flag->force_count);
    flagctl_json_u64(item, "changed_version", flag->changed_version);
    inner = cJSON_AddArrayToObject(item, "arms");
    for (i = 0; i < flag->arm_count; i++) {
        cJSON *arm = cJSON_CreateObject();
        (void)cJSON_AddItemToArray(inner, arm);
        (void)cJSON_AddStringToObject(arm, "name", flag->arms[i].name);
        (void)cJSON_AddStringToObject(arm, "model", flag->arms[i].model);
        flagctl_json_u64(arm, "weight", flag->arms[i].weight);
        flagctl_json_u64(arm, "value_bytes", flag->arms[i].value_bytes);
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, flag->arms[i].value_hash);
        (void)cJSON_AddStringToObject(arm, "value_hash", hash);
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, flag->arms[i].fingerprint);
        (void)cJSON_AddStringToObject(arm, "fingerprint", hash);
    }
}

static void record_cells(struct flagctl_table *table, const struct flagshm_snapshot_flag *flag)
{
    char words[128] = "", share[24];
    size_t used = 0, i;

    for (i = 0; i < sizeof switch_words / sizeof *switch_words && used < sizeof words; i++)
        if ((flag->switches & switch_words[i].bit) != 0)
            used += (size_t)snprintf(words + used, sizeof words - used, "%s%s", used != 0 ? "," : "",
                                     switch_words[i].word);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flag->name);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flagctl_share(flag->rollout_mpct, share));
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flag->stage);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", words[0] != '\0' ? words : "-");
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", flag->salt);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu32, flag->arm_count);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu32, flag->force_count);
    if (flag->slot == FLAGSHM_NO_SLOT)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "-");
    else
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu32 "/%" PRIu32, flag->slot, flag->slot_generation);
    flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu64, flag->changed_version);
}

static void records_dump(struct dump *d, const struct flagshm_snapshot *snapshot)
{
    static const char *const headings[] = {"FLAG",  ">SHARE",  "STAGE", "SWITCHES", "SALT",
                                           ">ARMS", ">FORCED", "SLOT",  "CHANGED",  NULL};
    struct flagctl_table *table;
    cJSON *list;
    size_t i;

    if (d->json != NULL) {
        flagctl_json_u64(d->json, "damaged_records", snapshot->damaged);
        list = cJSON_AddArrayToObject(d->json, "records");
        for (i = 0; i < snapshot->count; i++)
            record_json(list, &snapshot->flags[i]);
        return;
    }
    if (snapshot->damaged != 0)
        (void)fprintf(d->ctl->out, "records: %zu damaged and left out\n", snapshot->damaged);
    if (snapshot->count == 0) {
        (void)fputs("no records\n", d->ctl->out);
        return;
    }
    (void)fputc('\n', d->ctl->out);
    table = flagctl_table_new(headings);
    for (i = 0; i < snapshot->count; i++)
        record_cells(table, &snapshot->flags[i]);
    flagctl_table_print(d->ctl, table);
}

static int open_fail(const struct flagctl *ctl, int error)
{
    return flagctl_no_table(ctl, -error);
}

static int dump_run(struct flagctl *ctl, int argc, char **argv)
{
    struct dump d = {.ctl = ctl};
    struct flagshm_snapshot snapshot;
    int code;

    (void)argc;
    (void)argv;
    d.fd = open(ctl->instance.table_path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
    if (d.fd < 0)
        return open_fail(ctl, errno);
    if (fstat(d.fd, &d.object) != 0 || !S_ISREG(d.object.st_mode)) {
        (void)close(d.fd);
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE, "%s is no regular file", ctl->instance.table_path);
    }
    if (pread(d.fd, &d.header, sizeof d.header, 0) < 0) {
        code = errno;
        (void)close(d.fd);
        return flagctl_fail(ctl, FLAGCTL_FAILED, "cannot read %s: %s", ctl->instance.table_path,
                            strerror(code));
    }
    d.json = ctl->is_json ? cJSON_CreateObject() : NULL;
    object_dump(&d);
    prefix_dump(&d);
    lines_dump(&d);
    geometry_dump(&d);
    bank_dump(&d, 0);
    bank_dump(&d, 1);
    code = flagctl_snapshot(ctl, &snapshot);
    if (code == FLAGCTL_OK) {
        records_dump(&d, &snapshot);
        flagshm_snapshot_free(&snapshot);
    }
    (void)close(d.fd);
    if (d.json != NULL && flagctl_json(ctl, d.json) != FLAGCTL_OK)
        return FLAGCTL_FAILED;
    return code;
}

const struct flagctl_command flagctl_dump_command = {
    .name = "dump",
    .group = "Look",
    .arguments = "",
    .summary = "the table segment in words: header, geometry, banks, records",
    .help = "For the day on which something is wrong with the table itself: each field as it stands, also "
            "where programs would refuse\n"
            "the segment; records only where they would accept it.\n\n"
            "Exit codes: 0, 5 no table, or one that programs refuse (what could be read is printed).\n\n"
            "JSON: {\"object\", \"prefix\", \"publish\", \"liveness\", \"geometry\", \"paths\", \"bank_0\", "
            "\"bank_1\": objects with the fields of\n"
            "  the printed form, \"damaged_records\", \"records\": [{\"name\", \"stage\", \"salt\", "
            "\"switches\": [WORD], \"rollout_mpct\",\n"
            "  \"shadow_mpct\", \"slot\", \"slot_generation\", \"force_count\", \"changed_version\", "
            "\"arms\": [{\"name\", \"model\", \"weight\",\n"
            "  \"value_bytes\", \"value_hash\", \"fingerprint\"}]}]}",
    .run = dump_run,
};
