/* What can be wrong with a segment, its lock and its neighbours when a server starts, and what a death in the middle leaves. */
#include "table_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ONE_FLAG(share)                                                                                      \
    "{\"flags\": {\"f\": {\"control\": \"old-model\", \"variant\": \"new-model\", \"rollout_pct\": " share   \
    "}}}"
#define STRANGER 12345

static struct segment_fixture fix;
static struct flagshm_segment segment;
static struct flagshm client;
static struct flagshm_error error;
static struct flagshm_decision d;

static void begin(void)
{
    segment_fixture_begin(&fix, false);
}

static void end(void)
{
    segment_fixture_end(&fix);
}

static void open_segment(void)
{
    int code = flagshm_segment_open(&segment, &fix.options, &error);

    cr_assert_eq(code, 0, "%d: %s", code, error.text);
}

static void publish(const char *text)
{
    int code = segment_fixture_publish(&segment, text, NULL, &error);

    cr_assert_eq(code, 0, "%d: %s", code, error.text);
}

static void refused(int expected, const char *path, const char *words)
{
    int code = flagshm_segment_open(&segment, &fix.options, &error);

    cr_assert_eq(code, expected, "%d: %s", code, error.text);
    cr_assert(strstr(error.text, path) && strstr(error.text, words), "%s", error.text);
    cr_assert_eq(segment.lock_fd, -1);
    cr_assert_null(segment.header);
}

static bool stands(const char *ending)
{
    struct stat object;

    return lstat(segment_fixture_beside(&fix, ending), &object) == 0;
}

/* ---- the gates ---- */

static struct flagshm_header *map_table(void)
{
    struct flagshm_header *header;
    struct stat object;
    int fd = open(fix.path, O_RDWR);

    cr_assert_geq(fd, 0);
    cr_assert_eq(fstat(fd, &object), 0);
    header = mmap(NULL, (size_t)object.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(header, MAP_FAILED);
    (void)close(fd);
    return header;
}

static unsigned char *bank_of(struct flagshm_header *h)
{
    return (unsigned char *)h + h->bank_offset[h->seq & 1];
}

static void break_magic(struct flagshm_header *h)
{
    h->magic ^= 1;
}
static void break_byte_order(struct flagshm_header *h)
{
    h->byte_order = __builtin_bswap32(h->byte_order);
}
static void break_major(struct flagshm_header *h)
{
    h->layout_major = 2;
}
static void break_minor(struct flagshm_header *h)
{
    h->layout_minor = 9;
}
static void break_kind(struct flagshm_header *h)
{
    h->kind = 2;
}
static void break_header_bytes(struct flagshm_header *h)
{
    h->header_bytes = 8192;
}
static void break_boot_id(struct flagshm_header *h)
{
    h->boot_id[7] ^= 1;
}
static void break_size_word(struct flagshm_header *h)
{
    h->segment_bytes += 4096;
}
static void break_segment_id(struct flagshm_header *h)
{
    h->segment_id = 0;
}
static void break_retired(struct flagshm_header *h)
{
    h->seq |= FLAGSHM_SEQ_RETIRED;
}
static void break_seq(struct flagshm_header *h)
{
    h->seq |= UINT64_C(1) << 61;
}
static void break_stride(struct flagshm_header *h)
{
    h->record_stride = 256;
}
static void break_arm_stride(struct flagshm_header *h)
{
    h->arm_stride = 48;
}
static void break_banks(struct flagshm_header *h)
{
    h->bank_offset[1] = h->bank_offset[0];
}
static void break_bank_offset(struct flagshm_header *h)
{
    h->bank_offset[0] = UINT64_MAX - 7;
}
static void break_index(struct flagshm_header *h)
{
    h->index_offset = 0;
}
static void break_records(struct flagshm_header *h)
{
    h->records_offset = h->index_offset;
}
static void break_heap(struct flagshm_header *h)
{
    h->heap_offset = h->records_offset;
}
static void break_slots(struct flagshm_header *h)
{
    h->index_slots = 0;
}
static void break_capacity(struct flagshm_header *h)
{
    h->record_capacity = UINT32_MAX;
}
static void break_heap_bytes(struct flagshm_header *h)
{
    h->heap_bytes = 0;
}
static void break_version(struct flagshm_header *h)
{
    ((struct flagshm_bank *)(void *)bank_of(h))->version = 0;
}
static void break_count(struct flagshm_header *h)
{
    ((struct flagshm_bank *)(void *)bank_of(h))->flag_count = UINT32_MAX;
}
static void break_heap_used(struct flagshm_header *h)
{
    ((struct flagshm_bank *)(void *)bank_of(h))->heap_used = UINT64_MAX - 7;
}
static void break_record(struct flagshm_header *h)
{
    bank_of(h)[h->records_offset + 17] ^= 1;
}
static void break_text(struct flagshm_header *h)
{
    bank_of(h)[h->heap_offset + 9] ^= 1;
}
static void break_nothing(struct flagshm_header *h)
{
    bank_of(h)[h->bank_bytes - 1] ^= 1; /* beyond the heap that is used */
}

Test(segment_faults, table_is_adopted_only_where_every_gate_holds)
{
    static const struct {
        const char *name;
        void (*damage)(struct flagshm_header *h);
        bool is_adopted;
    } cases[] = {
        {"nothing", break_nothing, true},
        {"magic", break_magic, false},
        {"byte order", break_byte_order, false},
        {"major", break_major, false},
        {"minor", break_minor, false},
        {"kind", break_kind, false},
        {"header_bytes", break_header_bytes, false},
        {"boot id", break_boot_id, false},
        {"segment_bytes", break_size_word, false},
        {"segment_id", break_segment_id, false},
        {"retired", break_retired, false},
        {"seq", break_seq, false},
        {"record stride", break_stride, false},
        {"arm stride", break_arm_stride, false},
        {"one bank", break_banks, false},
        {"bank outside", break_bank_offset, false},
        {"index", break_index, false},
        {"records", break_records, false},
        {"heap", break_heap, false},
        {"index slots", break_slots, false},
        {"record capacity", break_capacity, false},
        {"heap bytes", break_heap_bytes, false},
        {"version", break_version, false},
        {"flag count", break_count, false},
        {"heap used", break_heap_used, false},
        {"record", break_record, false},
        {"text", break_text, false},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_header *old;
        struct stat object;

        segment_fixture_begin(&fix, false);
        open_segment();
        publish(ONE_FLAG("5"));
        flagshm_segment_close(&segment);
        old = map_table();
        cr_assert_eq(stat(fix.path, &object), 0);
        cases[i].damage(old);
        open_segment();
        cr_assert_eq(segment.is_adopted, cases[i].is_adopted, "%s", cases[i].name);
        cr_assert_eq(segment.header != NULL, cases[i].is_adopted, "%s", cases[i].name);
        publish(ONE_FLAG("100"));
        cr_assert_not(stands(".old"));
        cr_assert_not(stands(".new"));
        cr_assert_eq(flagshm_open(&client, NULL), 0, "%s", cases[i].name);
        cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
        cr_assert_eq(d.arm, 1);
        flagshm_close(&client);
        if (!cases[i].is_adopted && old->magic == FLAGSHM_TABLE_MAGIC &&
            old->byte_order == FLAGSHM_BYTE_ORDER && old->kind == FLAGSHM_KIND_TABLE)
            cr_assert((old->seq & FLAGSHM_SEQ_RETIRED) != 0, "%s: its readers are told", cases[i].name);
        (void)munmap(old, (size_t)object.st_size);
        flagshm_segment_close(&segment);
        segment_fixture_end(&fix);
    }
}

Test(segment_faults, object_of_another_size_is_not_adopted, .init = begin, .fini = end)
{
    static const off_t sizes[] = {0, 100, 4095, 4096, 65536, 1 << 20};
    size_t i;

    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        open_segment();
        publish(ONE_FLAG("5"));
        flagshm_segment_close(&segment);
        cr_assert_eq(truncate(fix.path, sizes[i]), 0);
        open_segment();
        cr_assert_not(segment.is_adopted, "%lld", (long long)sizes[i]);
        publish(ONE_FLAG("100"));
        cr_assert_eq(flagshm_open(&client, NULL), 0);
        flagshm_close(&client);
        flagshm_segment_close(&segment);
        (void)unlink(fix.path);
    }
}

Test(segment_faults, table_that_others_may_have_mapped_for_writing_is_not_adopted, .init = begin, .fini = end)
{
    open_segment();
    publish(ONE_FLAG("5"));
    flagshm_segment_close(&segment);
    cr_assert_eq(chmod(fix.path, 0666), 0);
    open_segment();
    cr_assert_not(segment.is_adopted);
    publish(ONE_FLAG("100"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment_faults, all_control_of_a_table_that_is_not_adopted_lives_on, .init = begin, .fini = end)
{
    struct flagshm_header *old;

    open_segment();
    publish(ONE_FLAG("100"));
    flagshm_segment_set_all_control(&segment, true);
    flagshm_segment_close(&segment);
    old = map_table();
    break_text(old);
    open_segment();
    cr_assert_not(segment.is_adopted);
    publish(ONE_FLAG("100"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_DISABLED);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
    (void)munmap(old, FLAGSHM_HEADER_BYTES);
}

/* ---- deaths ---- */

Test(segment_faults, death_between_link_and_rename_changes_nothing, .init = begin, .fini = end)
{
    struct stat before, after;
    int fd;

    open_segment();
    publish(ONE_FLAG("100"));
    cr_assert_eq(stat(fix.path, &before), 0);
    flagshm_segment_close(&segment);
    cr_assert_eq(link(fix.path, segment_fixture_beside(&fix, ".old")), 0);
    fd = open(segment_fixture_beside(&fix, ".new"), O_WRONLY | O_CREAT | O_EXCL, 0600);
    cr_assert_eq(write(fd, "half", 4), 4);
    (void)close(fd);
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    open_segment();
    cr_assert(segment.is_adopted);
    cr_assert_not(stands(".old"));
    cr_assert_not(stands(".new"));
    cr_assert_eq(stat(fix.path, &after), 0);
    cr_assert_eq(before.st_ino, after.st_ino);
    cr_assert_eq(segment.header->seq & FLAGSHM_SEQ_RETIRED, 0);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

Test(segment_faults, death_between_rename_and_retired_is_mended_by_the_successor, .init = begin, .fini = end)
{
    struct segment_fixture beside = fix;

    open_segment();
    publish(ONE_FLAG("0"));
    flagshm_segment_close(&segment);
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 1);

    /* the new object, made as a table of another instance, takes the name as the dead writer's rename did */
    strcat(beside.instance, "b");
    beside.options.instance = beside.instance;
    (void)snprintf(beside.path, sizeof beside.path, "/dev/shm/flagshm.%s.table", beside.instance);
    cr_assert_eq(flagshm_segment_open(&segment, &beside.options, &error), 0);
    publish(ONE_FLAG("50"));
    publish(ONE_FLAG("100"));
    flagshm_segment_close(&segment);
    cr_assert_eq(link(fix.path, segment_fixture_beside(&fix, ".old")), 0);
    cr_assert_eq(rename(beside.path, fix.path), 0);
    segment_fixture_end(&beside);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 1, "nobody has told the client yet");

    open_segment();
    cr_assert(segment.is_adopted);
    cr_assert_not(stands(".old"));
    cr_assert_eq(flagshm_segment_version(&segment), 2);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 2);
    cr_assert_eq(d.arm, 1);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

/* ---- squatters ---- */

Test(segment_faults, symbolic_links_are_not_followed, .init = begin, .fini = end)
{
    static const char *const endings[] = {"", ".lock", ".old", ".new"};
    char target[] = "/tmp/flagshm-target.XXXXXX";
    struct stat object;
    int fd = mkstemp(target);
    size_t i;

    cr_assert_geq(fd, 0);
    (void)close(fd);
    for (i = 0; i < 4; i++) {
        cr_assert_eq(symlink(target, segment_fixture_beside(&fix, endings[i])), 0);
        refused(-EPERM, segment_fixture_beside(&fix, endings[i]), "symbolic link");
        cr_assert_eq(unlink(segment_fixture_beside(&fix, endings[i])), 0);
        cr_assert_eq(stat(target, &object), 0);
        cr_assert_eq(object.st_size, 0);
    }
    (void)unlink(target);
}

Test(segment_faults, directories_and_pipes_are_refused, .init = begin, .fini = end)
{
    static const char *const endings[] = {"", ".lock", ".old", ".new"};
    size_t i;

    for (i = 0; i < 4; i++) {
        cr_assert_eq(mkdir(segment_fixture_beside(&fix, endings[i]), 0755), 0);
        refused(-EPERM, segment_fixture_beside(&fix, endings[i]), "not a regular file");
        cr_assert_eq(rmdir(segment_fixture_beside(&fix, endings[i])), 0);
        cr_assert_eq(mkfifo(segment_fixture_beside(&fix, endings[i]), 0644), 0);
        refused(-EPERM, segment_fixture_beside(&fix, endings[i]), "not a regular file");
        cr_assert_eq(unlink(segment_fixture_beside(&fix, endings[i])), 0);
    }
}

Test(segment_faults, strangers_objects_are_refused_with_owner_and_mend, .init = begin, .fini = end)
{
    static const char *const endings[] = {"", ".lock", ".old", ".new"};
    char words[32], mend[400];
    size_t i;

    if (geteuid() != 0)
        cr_skip_test("only root can make an object of another user");
    (void)snprintf(words, sizeof words, "belongs to uid %d", STRANGER);
    for (i = 0; i < 4; i++) {
        const char *path = segment_fixture_beside(&fix, endings[i]);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);

        cr_assert_eq(fchown(fd, STRANGER, (gid_t)-1), 0);
        (void)close(fd);
        refused(-EPERM, path, words);
        (void)snprintf(mend, sizeof mend, "rm %s", path);
        cr_assert(strstr(error.text, mend), "%s", error.text);
        cr_assert(stands(endings[i]), "it is not ours to remove");
        cr_assert_eq(unlink(path), 0);
    }
}

/* The other way round: a user's server where root has a table. */
Test(segment_faults, another_users_table_is_refused_without_root_too, .init = begin, .fini = end)
{
    int status = 0;
    pid_t child;

    if (geteuid() != 0)
        cr_skip_test("needs root, to become another user");
    open_segment();
    publish(ONE_FLAG("5"));
    flagshm_segment_close(&segment);
    child = fork();
    if (child == 0) {
        if (setgid(STRANGER) != 0 || setuid(STRANGER) != 0)
            _exit(2);
        if (flagshm_segment_open(&segment, &fix.options, &error) != -EPERM ||
            !strstr(error.text, "belongs to uid 0, and we run as uid 12345"))
            _exit(3);
        if (flagshm_segment_force_all_control(NULL, fix.instance, &error) != -EPERM)
            _exit(4);
        if (flagshm_open(&client, NULL) != 0 || flagshm_decide(&client, "f", "u", &d) != FLAGSHM_SPLIT)
            _exit(5); /* deciding by it is for everyone */
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
}

Test(segment_faults, name_taken_by_a_stranger_while_we_run_is_not_overwritten, .init = begin, .fini = end)
{
    int fd;

    if (geteuid() != 0)
        cr_skip_test("only root can make an object of another user");
    open_segment();
    publish(ONE_FLAG("5"));
    cr_assert_eq(unlink(fix.path), 0);
    fd = open(fix.path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    cr_assert_eq(fchown(fd, STRANGER, (gid_t)-1), 0);
    (void)close(fd);
    cr_assert_not(flagshm_segment_heartbeat(&segment));
    flagshm_segment_forget(&segment);
    cr_assert_eq(segment_fixture_publish(&segment, ONE_FLAG("6"), NULL, &error), -EPERM);
    cr_assert(strstr(error.text, "belongs to uid 12345"), "%s", error.text);
    cr_assert_not(stands(".new"));
    cr_assert_not_null(segment.header, "who is attached goes on");
    cr_assert_eq(segment.header->seq & FLAGSHM_SEQ_RETIRED, 0);
    cr_assert_eq(unlink(fix.path), 0);
    publish(ONE_FLAG("7"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
}

/* ---- file systems ---- */

/* A tmpfs of its own over the fixture's directory, seen by this process alone. False: not allowed here. */
static bool mount_small(const char *options)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", fix.dir, "tmpfs", 0, options) == 0;
}

static void unmount_small(void)
{
    (void)umount2(fix.dir, MNT_DETACH);
}

Test(segment_faults, full_file_system_is_said_and_costs_nothing)
{
    char *many = table_fixture_text(500, "100");

    segment_fixture_begin(&fix, true);
    if (!mount_small("size=64k,mode=755")) {
        segment_fixture_end(&fix);
        cr_skip_test("needs root and mount namespaces");
    }
    open_segment();
    cr_assert_eq(segment_fixture_publish(&segment, ONE_FLAG("5"), NULL, &error), -ENOSPC);
    cr_assert(strstr(error.text, "the table needs 68 KiB") && strstr(error.text, "64 KiB free") &&
                  strstr(error.text, "remount"),
              "%s", error.text);
    cr_assert_not(stands(""));
    cr_assert_not(stands(".new"));
    cr_assert_eq(mount("tmpfs", fix.dir, "tmpfs", MS_REMOUNT, "size=128k"), 0);
    publish(ONE_FLAG("100"));
    cr_assert_eq(flagshm_open(&client, NULL), 0);

    cr_assert_eq(segment_fixture_publish(&segment, many, NULL, &error), -ENOSPC, "no room for a larger one");
    cr_assert_not(stands(".new"));
    cr_assert_not(stands(".old"));
    cr_assert_eq(flagshm_segment_version(&segment), 1);
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 1);
    publish(ONE_FLAG("0")); /* what fits still goes */
    cr_assert_eq(flagshm_decide(&client, "f", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 2);

    cr_assert_eq(mount("tmpfs", fix.dir, "tmpfs", MS_REMOUNT, "size=4m"), 0);
    publish(many);
    cr_assert_eq(flagshm_decide(&client, "flag-499", "u", &d), FLAGSHM_STATIC);
    cr_assert_eq(d.version, 3);
    flagshm_close(&client);
    flagshm_segment_close(&segment);
    unmount_small();
    segment_fixture_end(&fix);
    free(many);
}

Test(segment_faults, read_only_directory_is_said)
{
    segment_fixture_begin(&fix, true);
    if (!mount_small("size=64k,mode=755,ro")) {
        segment_fixture_end(&fix);
        cr_skip_test("needs root and mount namespaces");
    }
    refused(-EROFS, segment_fixture_beside(&fix, ".lock"), "Read-only");
    unmount_small();
    segment_fixture_end(&fix);
}

Test(segment_faults, missing_directory_is_said)
{
    segment_fixture_begin(&fix, true);
    cr_assert_eq(rmdir(fix.dir), 0);
    refused(-ENOENT, segment_fixture_beside(&fix, ".lock"), "does the directory exist");
}

Test(segment_faults, impossible_options_are_said)
{
    char long_dir[400];

    segment_fixture_begin(&fix, false);
    memset(long_dir, 'x', sizeof long_dir - 1);
    long_dir[0] = '/';
    long_dir[sizeof long_dir - 1] = '\0';
    fix.options.dir = long_dir;
    refused(-ENAMETOOLONG, "FLAGSHM_DIR is 399 bytes long", "at most 200");
    fix.options.dir = NULL;
    fix.options.instance = "no/slash";
    refused(-EINVAL, "\"no/slash\"", "no instance name");
    fix.options.instance = NULL;
    refused(-EINVAL, "\"\"", "no instance name");
}

/* A client of another user, with the directory mounted read-only: what a container does. */
Test(segment_faults, client_of_another_user_reads_through_a_directory_that_it_cannot_write)
{
    int status = 0;
    pid_t child;

    segment_fixture_begin(&fix, true);
    if (geteuid() != 0 || !mount_small("size=4m,mode=755")) {
        segment_fixture_end(&fix);
        cr_skip_test("needs root and mount namespaces");
    }
    cr_assert_eq(chown(fix.dir, STRANGER, STRANGER), 0);
    child = fork();
    if (child == 0) { /* the server, as its own user */
        if (setgid(STRANGER) != 0 || setuid(STRANGER) != 0 ||
            flagshm_segment_open(&segment, &fix.options, &error) != 0 ||
            segment_fixture_publish(&segment, ONE_FLAG("100"), NULL, &error) != 0)
            _exit(1);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", error.text);
    cr_assert_eq(mount("tmpfs", fix.dir, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=4m"), 0);
    child = fork();
    if (child == 0) {
        if (setgid(STRANGER + 1) != 0 || setuid(STRANGER + 1) != 0 || flagshm_open(&client, NULL) != 0 ||
            flagshm_decide(&client, "f", "u", &d) != FLAGSHM_STATIC || d.arm != 1)
            _exit(1);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    unmount_small();
    segment_fixture_end(&fix);
}
