/* publisher: see the header. */
#include "server/publisher.h"
#include "server/lastgood.h"
#include "server/log.h"
#include "server/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- the table ---- */

static int fail(struct flagshm_publisher *p, int code, const char *text)
{
    return flagshm_error_set(&p->refusal, code, "%s", text);
}

static int build(struct flagshm_publisher *p, const struct flagshm_flagfile *set, struct flagshm_table *table)
{
    size_t count = set != NULL ? set->count : 0, used = 0, i;
    struct flagshm_table_entry *entries = malloc((count + 1) * sizeof *entries);
    int error;

    if (entries == NULL)
        return fail(p, -ENOMEM, "no memory to compile the table; the one before stays");
    for (i = 0; i < count; i++)
        if (!set->entries[i].broken)
            entries[used++] = (struct flagshm_table_entry){
                &set->entries[i].flag, flagshm_kills_has(&p->kills, set->entries[i].flag.name)};
    error =
        flagshm_table_build(table, entries, used, p->segment.header != NULL ? &p->segment.geometry : NULL);
    free(entries);
    if (error == -ENOMEM)
        return fail(p, error, "no memory to compile the table; the one before stays");
    if (error != 0)
        return flagshm_error_set(
            &p->refusal, error,
            "%zu flags do not fit into a table (%s); the one before stays: split the file "
            "over two instances, or shorten values",
            used, strerror(-error));
    return 0;
}

/* Compiles and publishes `set` (NULL: no flags). 0, 1 where the table would be the same, -errno with `refusal`. */
static int publish_set(struct flagshm_publisher *p, const struct flagshm_flagfile *set, uint64_t file_rev)
{
    struct flagshm_table table;
    int error = build(p, set, &table);

    if (error != 0)
        return error;
    if (p->has_published && p->segment.header != NULL &&
        table.content_hash == flagshm_segment_content_hash(&p->segment)) {
        flagshm_table_free(&table);
        p->refusal.text[0] = '\0';
        return 1;
    }
    error = flagshm_segment_publish(&p->segment, &table, p->version + 1, file_rev, &p->refusal);
    flagshm_table_free(&table);
    if (error != 0)
        return error;
    p->refusal.text[0] = '\0';
    p->version++;
    p->published_file_rev = file_rev;
    p->has_published = true;
    flagshm_journal_publish(p->journal, flagshm_realtime_ns(), p->version, file_rev);
    return 0;
}

int flagshm_publisher_publish(struct flagshm_publisher *p)
{
    int result = publish_set(p, p->has_good ? &p->good : NULL, p->file_rev);

    return result > 0 ? 0 : result;
}

/* ---- the text of the file ---- */

static void forget_faults(struct flagshm_publisher *p)
{
    cJSON_Delete(p->faults);
    free(p->faults_text);
    p->faults = NULL;
    p->faults_text = NULL;
}

static void keep_faults(struct flagshm_publisher *p, const struct flagshm_diags *diags, const char *text,
                        size_t bytes)
{
    forget_faults(p);
    p->errors = diags->errors;
    p->warnings = diags->warnings;
    if (diags->count == 0)
        return;
    p->faults_text = flagshm_diags_json(diags, p->file_path, text, bytes);
    p->faults = p->faults_text != NULL ? cJSON_Parse(p->faults_text) : NULL;
}

static void log_faults(const struct flagshm_publisher *p, const struct flagshm_diags *diags, const char *text,
                       size_t bytes)
{
    char *lines = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&lines, &size);

    if (out == NULL)
        return;
    flagshm_diags_print(diags, p->file_path, text, bytes, false, out);
    if (fclose(out) == 0)
        flagshm_log_more(lines);
    free(lines);
}

static bool is_same_text(const struct flagshm_publisher *p, const char *text, size_t bytes, bool is_usable)
{
    return p->text != NULL && p->is_text_usable == is_usable && p->text_bytes == bytes &&
           memcmp(p->text, text, bytes) == 0;
}

static void keep_text(struct flagshm_publisher *p, const char *text, size_t bytes, bool is_usable)
{
    char *copy = malloc(bytes + 1);

    free(p->text); /* without memory the next text only counts as another one */
    p->text = copy;
    p->text_bytes = bytes;
    p->is_text_usable = is_usable;
    if (copy != NULL) {
        memcpy(copy, text, bytes);
        copy[bytes] = '\0';
    }
}

static void log_taken(const struct flagshm_publisher *p, bool is_same)
{
    char extra[160] = "";

    if (p->kept > 0 || p->absent > 0)
        snprintf(extra, sizeof extra, "; %zu broken: %zu stay as they were last good, %zu are not served",
                 p->kept + p->absent, p->kept, p->absent);
    if (is_same)
        flagshm_log(FLAGSHM_LOG_INFO,
                    "file revision %llu compiles to the table that is served (version %llu)%s",
                    (unsigned long long)p->file_rev, (unsigned long long)p->version, extra);
    else
        flagshm_log(FLAGSHM_LOG_INFO, "version %llu: %zu flags, file revision %llu%s",
                    (unsigned long long)p->version, p->good.count, (unsigned long long)p->file_rev, extra);
    if (p->deletions_held > 0)
        flagshm_log(FLAGSHM_LOG_WARNING,
                    "the file would drop %zu flags, more than half of them: they stay until `flagctl accept`",
                    p->deletions_held);
}

static size_t count_held(const struct flagshm_flagfile *good)
{
    size_t held = 0, i;

    for (i = 0; i < good->count; i++)
        held += good->entries[i].is_held;
    return held;
}

/* Merges a usable file into what is good, and publishes. As publish_set. */
static int merge(struct flagshm_publisher *p, struct flagshm_flagfile *file, bool accept, uint64_t file_rev)
{
    const struct flagshm_flagfile_options options = {.max_flags = p->max_flags};
    struct flagshm_merge merge;
    int result = flagshm_lastgood_merge(p->has_good ? &p->good : NULL, file, accept, &options, &merge);

    if (result != 0)
        return flagshm_error_set(&p->refusal, result,
                                 "the good flags cannot be brought together: %s; the table stays",
                                 strerror(-result));
    result = publish_set(p, &merge.good, file_rev);
    if (result < 0) {
        flagshm_flagfile_free(&merge.good);
        return result;
    }
    flagshm_flagfile_free(&p->good);
    p->good = merge.good;
    p->has_good = true;
    p->kept = merge.kept;
    p->absent = merge.absent;
    p->lowered = merge.lowered;
    p->deletions_held = merge.deletions_held ? count_held(&p->good) : 0;
    flagshm_journal_last_good(p->journal, p->good.text, p->good.text_bytes);
    return result;
}

static enum flagshm_taken take_unusable(struct flagshm_publisher *p, const struct flagshm_diags *diags,
                                        const char *text, size_t bytes)
{
    bool is_known = is_same_text(p, text, bytes, false);

    keep_faults(p, diags, text, bytes);
    p->file_state = FLAGSHM_FILE_BROKEN;
    if (is_known)
        return FLAGSHM_TAKEN_UNUSABLE;
    keep_text(p, text, bytes, false);
    flagshm_log(FLAGSHM_LOG_ERROR,
                "%s cannot be used, the table stays as it is (version %llu):", p->file_path,
                (unsigned long long)p->version);
    log_faults(p, diags, text, bytes);
    flagshm_journal_file(p->journal, flagshm_realtime_ns(), 0, text, bytes, p->faults_text);
    return FLAGSHM_TAKEN_UNUSABLE;
}

static enum flagshm_taken take_refused(struct flagshm_publisher *p, const char *text, size_t bytes,
                                       const struct flagshm_error *before)
{
    p->file_state = FLAGSHM_FILE_REFUSED;
    flagshm_log(FLAGSHM_LOG_ERROR, "%s is not published: %s", p->file_path, p->refusal.text);
    if (strcmp(before->text, p->refusal.text) != 0)
        flagshm_journal_file(p->journal, flagshm_realtime_ns(), 0, text, bytes, p->faults_text);
    return FLAGSHM_TAKEN_FAILED;
}

static enum flagshm_taken take_usable(struct flagshm_publisher *p, struct flagshm_flagfile *file,
                                      const struct flagshm_diags *diags, const char *text, size_t bytes)
{
    bool is_known = is_same_text(p, text, bytes, true);
    uint64_t file_rev = is_known ? p->file_rev : p->file_rev + 1;
    struct flagshm_error before = p->refusal;
    int result = merge(p, file, false, file_rev);

    keep_faults(p, diags, text, bytes);
    if (result < 0)
        return take_refused(p, text, bytes, &before);
    p->file_rev = file_rev;
    p->file_state = diags->errors > 0 ? FLAGSHM_FILE_BROKEN : FLAGSHM_FILE_GOOD;
    if (!is_known) {
        keep_text(p, text, bytes, true);
        flagshm_journal_file(p->journal, flagshm_realtime_ns(), file_rev, text, bytes, p->faults_text);
    }
    log_taken(p, result == 1);
    if (diags->count > 0 && !is_known)
        log_faults(p, diags, text, bytes);
    return result == 1 ? FLAGSHM_TAKEN_SAME : FLAGSHM_TAKEN_PUBLISHED;
}

enum flagshm_taken flagshm_publisher_take(struct flagshm_publisher *p, const char *text, size_t bytes,
                                          bool is_final)
{
    const struct flagshm_flagfile_options options = {.max_flags = p->max_flags};
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};
    enum flagshm_taken taken = FLAGSHM_TAKEN_UNUSABLE;
    int error = flagshm_flagfile_parse(&file, text, bytes, &options, &diags);

    if (error == -ENOMEM) {
        flagshm_error_set(&p->refusal, error, "no memory to read the file (%zu bytes); the table stays",
                          bytes);
        flagshm_log(FLAGSHM_LOG_ERROR, "%s: %s", p->file_path, p->refusal.text);
        taken = FLAGSHM_TAKEN_FAILED;
    } else if (error == 0 && file.is_usable) {
        taken = take_usable(p, &file, &diags, text, bytes);
    } else if (is_final) {
        taken = take_unusable(p, &diags, text, bytes);
    }
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    return taken;
}

void flagshm_publisher_file_gone(struct flagshm_publisher *p, const char *why)
{
    if (p->file_state == FLAGSHM_FILE_GONE)
        return;
    p->file_state = FLAGSHM_FILE_GONE;
    forget_faults(p);
    p->errors = p->warnings = 0;
    flagshm_log(FLAGSHM_LOG_ERROR, "%s; the table stays as it is (version %llu)", why,
                (unsigned long long)p->version);
    flagshm_journal_event(p->journal, flagshm_realtime_ns(), "file_gone", NULL, NULL, why);
}

int flagshm_publisher_accept(struct flagshm_publisher *p, const char *user)
{
    const struct flagshm_flagfile_options options = {.max_flags = p->max_flags};
    struct flagshm_diags diags = {0};
    struct flagshm_flagfile file;
    char detail[64];
    size_t held = p->deletions_held;
    int result;

    if (held == 0 || p->text == NULL || !p->is_text_usable)
        return -EALREADY;
    result = flagshm_flagfile_parse(&file, p->text, p->text_bytes, &options, &diags);
    if (result == 0)
        result = merge(p, &file, true, p->file_rev);
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    if (result < 0)
        return result;
    snprintf(detail, sizeof detail, "%zu deletions", held);
    flagshm_journal_event(p->journal, flagshm_realtime_ns(), "accept", NULL, user, detail);
    flagshm_log(FLAGSHM_LOG_NOTICE, "%s accepted the deletion of %zu flags: version %llu", user, held,
                (unsigned long long)p->version);
    return 0;
}

/* ---- kills ---- */

bool flagshm_publisher_is_killed(const struct flagshm_publisher *p, const char *flag)
{
    return flag != NULL ? flagshm_kills_has(&p->kills, flag) : p->kills.all;
}

static bool is_known(const struct flagshm_publisher *p, const char *flag)
{
    return p->has_good && flagshm_flagfile_find(&p->good, flag) != NULL;
}

/* Where the whole way is barred (no memory, or only an adopted table is there), the served bank's copy with one switch set
 * still is a kill. */
static int kill_in_place(struct flagshm_publisher *p, const char *flag)
{
    struct flagshm_error error;
    int result = p->segment.header != NULL ? flagshm_segment_kill(&p->segment, flag, &error) : -ENOENT;

    if (result == 0) {
        p->version = flagshm_segment_version(&p->segment);
        flagshm_journal_publish(p->journal, flagshm_realtime_ns(), p->version,
                                flagshm_segment_file_rev(&p->segment));
    }
    return result;
}

static int kill_one(struct flagshm_publisher *p, const char *flag)
{
    int result;

    if (flagshm_kills_has(&p->kills, flag))
        return -EALREADY;
    if (!p->has_good) {
        result = kill_in_place(p, flag);
        return result == 0 || result == -EALREADY ? flagshm_kills_insert(&p->kills, flag, strlen(flag))
                                                  : result;
    }
    if (!is_known(p, flag))
        return -ENOENT;
    result = flagshm_kills_insert(&p->kills, flag, strlen(flag));
    if (result != 0 || flagshm_publisher_publish(p) != 0)
        result = kill_in_place(p, flag);
    return result;
}

static void tell_of_word(struct flagshm_publisher *p, const char *kind, const char *flag, const char *user,
                         const char *reason)
{
    flagshm_journal_event(p->journal, flagshm_realtime_ns(), kind, flag, user, reason);
    flagshm_log(FLAGSHM_LOG_NOTICE, "%s: %s %s, version %llu%s%s", user, kind,
                flag != NULL ? flag : "all flags", (unsigned long long)p->version,
                reason != NULL && reason[0] != '\0' ? ": " : "", reason != NULL ? reason : "");
}

int flagshm_publisher_kill(struct flagshm_publisher *p, const char *flag, const char *user,
                           const char *reason)
{
    int result = 0;

    if (flag == NULL) {
        if (p->kills.all)
            return -EALREADY;
        p->kills.all = true;
        flagshm_segment_set_all_control(&p->segment, true);
    } else {
        result = kill_one(p, flag);
    }
    if (result == 0)
        tell_of_word(p, "kill", flag, user, reason);
    return result;
}

int flagshm_publisher_unkill(struct flagshm_publisher *p, const char *flag, const char *user,
                             const char *reason)
{
    int result = 0;

    if (!flagshm_publisher_is_killed(p, flag))
        return flag == NULL || is_known(p, flag) ? -EALREADY : -ENOENT;
    if (flag == NULL) {
        p->kills.all = false;
        flagshm_segment_set_all_control(&p->segment, false);
    } else {
        flagshm_kills_remove(&p->kills, flag);
        if (p->has_good)
            result = flagshm_publisher_publish(p);
    }
    if (result == 0)
        tell_of_word(p, "unkill", flag, user, reason);
    return result;
}

static void write_kill(struct flagshm_publisher *p, const char *flag, const char *why)
{
    struct flagshm_disk_job job = {.is_erase = false};

    snprintf(job.flag, sizeof job.flag, "%s", flag != NULL ? flag : "");
    snprintf(job.why, sizeof job.why, "%s", why);
    if (flagshm_disk_give(p->disk, &job) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "no memory to write down that %s is killed",
                    flag != NULL ? flag : "every flag");
}

/* What a tool wrote into STATE/kills beside us: while we were stopped or mute. Only added to: a word of ours that did not reach the
 * disk must not be lifted by its absence there. */
static void take_outside_kills(struct flagshm_publisher *p)
{
    struct flagshm_kills now = {0};
    struct flagshm_error error;
    size_t i;

    if (flagshm_kills_load(&now, p->state_dir, &error) != 0) {
        flagshm_log(FLAGSHM_LOG_WARNING, "%s", error.text);
        return;
    }
    for (i = 0; i < now.count; i++)
        if (!flagshm_kills_has(&p->kills, now.names[i]))
            (void)flagshm_publisher_kill(p, now.names[i], "flagctl", "written beside the server");
    if (now.all && !p->kills.all)
        (void)flagshm_publisher_kill(p, NULL, "flagctl", "written beside the server");
    flagshm_kills_free(&now);
}

void flagshm_publisher_beat(struct flagshm_publisher *p)
{
    uint64_t stamp;

    if (p->segment.header != NULL && !flagshm_segment_heartbeat(&p->segment) && p->has_published) {
        flagshm_log(FLAGSHM_LOG_WARNING,
                    "%s no longer leads to our table (removed or replaced by hand): making a new one",
                    p->segment.path);
        flagshm_segment_forget(&p->segment);
        if (flagshm_publisher_publish(p) != 0)
            flagshm_log(FLAGSHM_LOG_ERROR, "%s", p->refusal.text);
    } else if (p->segment.header == NULL && flagshm_publisher_publish(p) != 0) {
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", p->refusal.text);
    }
    if (!flagshm_disk_is_idle(p->disk))
        return; /* our own words are on their way there */
    if (flagshm_segment_is_all_control(&p->segment) && !p->kills.all) {
        (void)flagshm_publisher_kill(p, NULL, "flagctl", "switched beside the server");
        write_kill(p, NULL, "switched by a tool while the server did not answer");
        return;
    }
    stamp = flagshm_kills_stamp(p->state_dir);
    if (stamp != p->kills_stamp) {
        p->kills_stamp = stamp;
        take_outside_kills(p);
    }
}

/* ---- start and end ---- */

static char *read_whole(const char *path, size_t *bytes)
{
    struct stat status;
    char *text = NULL;
    ssize_t part = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return NULL;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size <= (off_t)FLAGSHM_FILE_MAX)
        text = malloc((size_t)status.st_size + 1);
    *bytes = 0;
    while (text != NULL && *bytes < (size_t)status.st_size && part > 0) {
        part = read(fd, text + *bytes, (size_t)status.st_size - *bytes);
        *bytes += part > 0 ? (size_t)part : 0;
    }
    close(fd);
    return text;
}

static void load_last_good(struct flagshm_publisher *p)
{
    const struct flagshm_flagfile_options options = {.max_flags = p->max_flags};
    struct flagshm_diags diags = {0};
    char path[1100];
    char *text;
    size_t bytes = 0;

    snprintf(path, sizeof path, "%s/last-good.json", p->state_dir);
    text = read_whole(path, &bytes);
    if (text == NULL) {
        if (errno != ENOENT)
            flagshm_log(FLAGSHM_LOG_WARNING, "%s cannot be read: %s", path, strerror(errno));
        return;
    }
    p->has_good = flagshm_flagfile_parse(&p->good, text, bytes, &options, &diags) == 0 && p->good.is_usable;
    if (!p->has_good) {
        flagshm_flagfile_free(&p->good);
        flagshm_log(FLAGSHM_LOG_WARNING, "%s is damaged and is not used", path);
    } else {
        p->deletions_held = count_held(&p->good);
    }
    flagshm_diags_free(&diags);
    free(text);
}

static void adopt_kill(void *context, const char *name, size_t bytes)
{
    struct flagshm_publisher *p = context;
    char flag[72];

    snprintf(flag, sizeof flag, "%.*s", (int)(bytes < 64 ? bytes : 64), name);
    if (flagshm_kills_has(&p->kills, flag))
        return;
    (void)flagshm_kills_insert(&p->kills, flag, strlen(flag));
    write_kill(p, flag, "found killed in the table that was adopted");
}

/* The kills on disk and those in the adopted table are both true, before anything is published. */
static void gather_kills(struct flagshm_publisher *p)
{
    struct flagshm_error error;
    size_t i;

    if (flagshm_kills_load(&p->kills, p->state_dir, &error) != 0)
        flagshm_log(FLAGSHM_LOG_ERROR, "%s", error.text);
    flagshm_segment_each_killed(&p->segment, adopt_kill, p);
    if (flagshm_segment_is_all_control(&p->segment) && !p->kills.all) {
        p->kills.all = true;
        write_kill(p, NULL, "found in the table that was adopted");
    }
    if (p->kills.all)
        flagshm_segment_set_all_control(&p->segment, true);
    if (!p->has_good && p->segment.header != NULL)
        for (i = 0; i < p->kills.count; i++)
            (void)kill_in_place(p, p->kills.names[i]);
    if (p->kills.all || p->kills.count > 0)
        flagshm_log(FLAGSHM_LOG_NOTICE, "killed: %zu flags%s", p->kills.count,
                    p->kills.all ? ", and all by `kill --all`" : "");
}

static void number(struct flagshm_publisher *p, const struct flagshm_journal_start *start)
{
    uint64_t adopted = flagshm_segment_version(&p->segment),
             adopted_rev = flagshm_segment_file_rev(&p->segment);

    p->version = adopted > start->version ? adopted : start->version;
    if (p->version == 0)
        p->version = (flagshm_realtime_ns() / 1000000000u << 20) -
                     1; /* above all that a lost journal may have given out */
    p->file_rev = adopted_rev > start->file_rev ? adopted_rev : start->file_rev;
    if (start->file_rev > 0 && start->file_rev >= adopted_rev) {
        p->text = flagshm_journal_text(p->journal, start->file_rev, &p->text_bytes);
        p->is_text_usable = p->text != NULL;
    }
}

int flagshm_publisher_open(struct flagshm_publisher *p, const struct flagshm_publisher_options *options,
                           struct flagshm_error *error)
{
    struct flagshm_journal_start start;
    struct flagshm_error journal_error = {{0}};
    int result;

    memset(p, 0, sizeof *p);
    p->state_dir = options->state_dir;
    p->file_path = options->file_path;
    p->max_flags = options->max_flags;
    result = flagshm_segment_open(&p->segment, &options->segment, error);
    if (result != 0)
        return result;
    result = flagshm_journal_open(&p->journal, p->state_dir, &start, &journal_error);
    if (result == 0)
        result = flagshm_disk_open(&p->disk, p->state_dir);
    if (result != 0) {
        flagshm_publisher_close(p);
        return flagshm_error_set(error, result, "cannot start: %s", strerror(-result));
    }
    if (journal_error.text[0] != '\0')
        flagshm_log(FLAGSHM_LOG_WARNING, "%s", journal_error.text);
    load_last_good(p);
    number(p, &start);
    p->kills_stamp =
        flagshm_kills_stamp(p->state_dir); /* first: what is written meanwhile is looked at again */
    gather_kills(p);
    if (p->segment.is_adopted)
        flagshm_log(FLAGSHM_LOG_INFO, "adopted the table of version %llu",
                    (unsigned long long)flagshm_segment_version(&p->segment));
    return 0;
}

void flagshm_publisher_close(struct flagshm_publisher *p)
{
    flagshm_disk_close(p->disk);
    if (p->journal != NULL)
        flagshm_journal_close(p->journal);
    flagshm_segment_close(&p->segment);
    flagshm_kills_free(&p->kills);
    flagshm_flagfile_free(&p->good);
    forget_faults(p);
    free(p->text);
    memset(p, 0, sizeof *p);
}
