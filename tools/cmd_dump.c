/* dump: the table segment in words, also where it is damaged: the header is read as bytes of a file, and only what passes every check
 * is followed. */
#include "tools/connect.h"
#include "tools/dump.h"
#include "tools/view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void dump_section(struct dump *d, const char *name)
{
    if (d->json != NULL)
        d->section = cJSON_AddObjectToObject(d->json, name);
    else
        (void)fprintf(d->ctl->out, "%s\n", name);
}

void dump_field(struct dump *d, const char *key, bool is_number, const char *format, ...)
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

void dump_judged(struct dump *d, const char *key, bool is_right, const char *value, const char *wanted)
{
    bool is_number = strspn(value, "0123456789") == strlen(value);
    if (d->json != NULL || is_right)
        dump_field(d, key, is_number, "%s", value);
    else
        dump_field(d, key, false, "%s   WRONG: should be %s", value, wanted);
}

void dump_object(struct dump *d, const char *path)
{
    const struct stat *o = &d->object;

    dump_section(d, "object");
    dump_field(d, "path", false, "%s", path);
    dump_field(d, "bytes", true, "%lld", (long long)o->st_size);
    dump_field(d, "mode", false, "%04o", (unsigned)(o->st_mode & 07777));
    dump_field(d, "owner_uid", true, "%lu", (unsigned long)o->st_uid);
    dump_field(d, "owner_gid", true, "%lu", (unsigned long)o->st_gid);
    dump_field(d, "inode", true, "%llu", (unsigned long long)o->st_ino);
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

void dump_prefix(struct dump *d, uint64_t magic)
{
    const struct flagshm_header *h = &d->header;
    char text[80], wanted[80], time[40];

    dump_section(d, "prefix");
    (void)snprintf(text, sizeof text, "0x%016" PRIx64, (uint64_t)h->magic);
    (void)snprintf(wanted, sizeof wanted, "0x%016" PRIx64, magic);
    dump_judged(d, "magic", h->magic == magic, text, wanted);
    (void)snprintf(text, sizeof text, "0x%08" PRIx32, h->byte_order);
    (void)snprintf(wanted, sizeof wanted, "0x%08" PRIx32, FLAGSHM_BYTE_ORDER);
    dump_judged(d, "byte_order", h->byte_order == FLAGSHM_BYTE_ORDER, text, wanted);
    (void)snprintf(text, sizeof text, "%u.%u", h->layout_major, h->layout_minor);
    (void)snprintf(wanted, sizeof wanted, "%d.*", FLAGSHM_LAYOUT_MAJOR);
    dump_judged(d, "layout", h->layout_major == FLAGSHM_LAYOUT_MAJOR, text, wanted);
    dump_field(d, "header_bytes", true, "%" PRIu32, h->header_bytes);
    dump_field(d, "kind", true, "%" PRIu32, h->kind);
    (void)snprintf(text, sizeof text, "%" PRIu64, (uint64_t)h->segment_bytes);
    (void)snprintf(wanted, sizeof wanted, "%lld, the object's size", (long long)d->object.st_size);
    dump_judged(d, "segment_bytes", h->segment_bytes == (uint64_t)d->object.st_size, text, wanted);
    dump_field(d, "segment_id", false, "%016" PRIx64, (uint64_t)h->segment_id);
    boot_id_text(h->boot_id, text);
    boot_id_read(wanted);
    dump_judged(d, "boot_id", strcmp(text, wanted) == 0, text, "that of this boot");
    dump_field(d, "created", false, "%s", flagctl_time(h->created_realtime_ns, time));
}

static void lines_dump(struct dump *d)
{
    const struct flagshm_header *h = &d->header;
    char age[24];
    int64_t age_ns = (int64_t)(flagshm_clock_ns_(FLAGSHM_CLOCK_MONOTONIC_COARSE_) - h->heartbeat_mono_ns);

    dump_section(d, "publish");
    dump_field(d, "seq", false, "0x%016" PRIx64, (uint64_t)h->seq);
    dump_field(d, "bank", true, "%d", (int)(h->seq & 1));
    dump_field(d, "retired", true, "%s", (h->seq & FLAGSHM_SEQ_RETIRED) != 0 ? "true" : "false");
    dump_field(d, "all_control", true, "%s", (h->seq & FLAGSHM_SEQ_ALL_CONTROL) != 0 ? "true" : "false");
    dump_field(d, "wake", true, "%" PRIu32, h->wake);
    dump_section(d, "liveness");
    dump_field(d, "heartbeat_mono_ns", true, "%" PRIu64, (uint64_t)h->heartbeat_mono_ns);
    if (d->json == NULL)
        dump_field(d, "heartbeat", false, "%s%s", flagctl_span(age_ns < 0 ? -age_ns : age_ns, age),
                   age_ns < -INT64_C(2000000000) ? " AHEAD of the clock: another boot or time namespace"
                                                 : " ago");
    else
        dump_field(d, "age_ms", true, "%" PRId64, age_ns / 1000000);
    dump_field(d, "period_ns", true, "%" PRIu64, (uint64_t)h->period_ns);
    dump_field(d, "stale_after_ns", true, "%" PRIu64, (uint64_t)h->stale_after_ns);
    dump_field(d, "stale", true, "%s",
               age_ns < -INT64_C(2000000000) || (age_ns > 0 && (uint64_t)age_ns > h->stale_after_ns)
                   ? "true"
                   : "false");
    dump_field(d, "window_4h", true, "%" PRIu32, h->window_4h);
    dump_field(d, "window_1h", true, "%" PRIu32, h->window_1h);
    dump_field(d, "outcomes_id", false, "%016" PRIx64, (uint64_t)h->outcomes_id);
    dump_field(d, "pid", true, "%" PRIu32, h->pid);
}

static void geometry_dump(struct dump *d)
{
    const struct flagshm_header *h = &d->header;

    dump_section(d, "geometry");
    dump_field(d, "bank_offset_0", true, "%" PRIu64, (uint64_t)h->bank_offset[0]);
    dump_field(d, "bank_offset_1", true, "%" PRIu64, (uint64_t)h->bank_offset[1]);
    dump_field(d, "bank_bytes", true, "%" PRIu64, (uint64_t)h->bank_bytes);
    dump_field(d, "index_offset", true, "%" PRIu64, (uint64_t)h->index_offset);
    dump_field(d, "index_slots", true, "%" PRIu32, h->index_slots);
    dump_field(d, "records_offset", true, "%" PRIu64, (uint64_t)h->records_offset);
    dump_field(d, "record_stride", true, "%" PRIu32, h->record_stride);
    dump_field(d, "record_capacity", true, "%" PRIu32, h->record_capacity);
    dump_field(d, "arm_stride", true, "%" PRIu32, h->arm_stride);
    dump_field(d, "heap_offset", true, "%" PRIu64, (uint64_t)h->heap_offset);
    dump_field(d, "heap_bytes", true, "%" PRIu64, (uint64_t)h->heap_bytes);
    dump_section(d, "paths");
    dump_field(d, "socket", false, "%.*s", (int)sizeof h->socket_path - 1, h->socket_path);
    dump_field(d, "state_dir", false, "%.*s", (int)sizeof h->state_dir - 1, h->state_dir);
    dump_field(d, "file", false, "%.*s", (int)sizeof h->file_path - 1, h->file_path);
}

static void bank_dump(struct dump *d, int number)
{
    struct flagshm_bank bank;
    uint64_t offset = d->header.bank_offset[number];
    char name[16], time[40];

    (void)snprintf(name, sizeof name, "bank_%d", number);
    dump_section(d, name);
    dump_field(d, "served", true, "%s", (d->header.seq & 1) == (uint64_t)number ? "true" : "false");
    memset(&bank, 0, sizeof bank);
    if (offset > (uint64_t)d->object.st_size ||
        pread(d->fd, &bank, sizeof bank, (off_t)offset) != (ssize_t)sizeof bank) {
        dump_field(d, "fault", false, "offset %" PRIu64 " lies outside the object", offset);
        return;
    }
    dump_field(d, "version", true, "%" PRIu64, (uint64_t)bank.version);
    dump_field(d, "file_rev", true, "%" PRIu64, (uint64_t)bank.file_rev);
    dump_field(d, "published", false, "%s", flagctl_time(bank.published_realtime_ns, time));
    dump_field(d, "flag_count", true, "%" PRIu32, bank.flag_count);
    dump_field(d, "heap_used", true, "%" PRIu64, (uint64_t)bank.heap_used);
    dump_field(d, "content_hash", false, "%016" PRIx64, (uint64_t)bank.content_hash);
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
    if (flagctl_option(ctl, "outcomes") != NULL)
        return dump_outcomes(ctl, flagctl_option(ctl, "outcomes"));
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
    dump_object(&d, ctl->instance.table_path);
    dump_prefix(&d, FLAGSHM_TABLE_MAGIC);
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

static const struct flagctl_option options[] = {
    {"outcomes", 0, "FLAG", FLAGCTL_FLAG,
     "instead: where the flag's outcomes are booked; also a slot's number"},
    {0},
};

const struct flagctl_command flagctl_dump_command = {
    .name = "dump",
    .group = "Look",
    .arguments = "",
    .summary = "the segments in words: header, geometry, banks, records, a slot of outcomes",
    .help =
        "For the day on which something is wrong with the table itself: each field as it stands, also "
        "where programs would refuse\n"
        "the segment; records only where they would accept it.\n\n"
        "With --outcomes the header of the outcome segment and one slot of it: counters, percentiles, "
        "signals "
        "and levels, as they\n"
        "stand there, whoever wrote them.\n\n"
        "Exit codes: 0, 5 no table, or one that programs refuse (what could be read is printed).\n\n"
        "JSON: {\"object\", \"prefix\", \"publish\", \"liveness\", \"geometry\", \"paths\", \"bank_0\", "
        "\"bank_1\": objects with the fields of\n"
        "  the printed form, \"damaged_records\", \"records\": [{\"name\", \"stage\", \"salt\", "
        "\"switches\": [WORD], \"rollout_mpct\",\n"
        "  \"shadow_mpct\", \"slot\", \"slot_generation\", \"force_count\", \"changed_version\", "
        "\"arms\": [{\"name\", \"model\", \"weight\",\n"
        "  \"value_bytes\", \"value_hash\", \"fingerprint\"}]}]}; with --outcomes {\"object\", \"prefix\", "
        "\"doorbell\", \"slot\": objects,\n"
        "  \"arms\": [{\"arm\", counters, \"latency_ms\", ...}], \"signals\": [{\"kind\", \"is_timed\", "
        "\"first_table\", \"threshold\", \"capped_bad\",\n"
        "  \"levels\": {WINDOW: [[15 of control], [15 of the variants]]}}]}",
    .options = options,
    .run = dump_run,
};
