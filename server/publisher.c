/* publisher: the text of the file, what is good of it, and the table that comes of both. See the header;
 * publisher_kills.c has the kills and the heartbeat, publisher_start.c start and end. */
#include "server/clock.h"
#include "server/lastgood.h"
#include "server/log.h"
#include "server/plan.h"
#include "server/publisher_internal.h"
#include "server/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

static int fail(struct flagshm_publisher *p, int code, const char *text)
{
    return flagshm_error_set(&p->refusal, code, "%s", text);
}

/* With what the rollouts add to the file's word. */
static size_t list_entries(struct flagshm_publisher *p, const struct flagshm_flagfile *set,
                           struct flagshm_table_entry *entries)
{
    size_t used = 0, i;

    for (i = 0; set != NULL && i < set->count; i++) {
        const struct flagshm_flag *flag = &set->entries[i].flag;
        struct flagshm_ward *ward;

        if (set->entries[i].broken)
            continue;
        entries[used] =
            (struct flagshm_table_entry){.flag = flag, .is_killed = flagshm_kills_has(&p->kills, flag->name)};
        ward = p->wards.count > 0
                   ? flagshm_wards_find(&p->wards, flagshm_hash64_(flag->name, flag->name_bytes, 0))
                   : NULL;
        if (ward != NULL && ward->next_source == flag)
            flagshm_ward_entry(ward, &entries[used]);
        used++;
    }
    return used;
}

static int build(struct flagshm_publisher *p, const struct flagshm_flagfile *set, struct flagshm_table *table)
{
    size_t count = (set != NULL ? set->count : 0) + (p->hidden != NULL ? p->hidden->count : 0), used;
    struct flagshm_table_entry *entries = malloc((count + 1) * sizeof *entries);
    struct flagshm_table_booking booking;
    int error;

    if (entries == NULL)
        return fail(p, -ENOMEM, "no memory to compile the table; the one before stays");
    used = list_entries(p, set, entries);
    used += list_entries(p, p->hidden, entries + used);
    booking = flagshm_ledger_begin(&p->ledger, flagshm_mono_ns(), flagshm_realtime_ns());
    error = flagshm_table_build_booked(table, entries, used,
                                       p->segment.header != NULL ? &p->segment.geometry : NULL, &booking);
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

/* Publishes a compiled table, unless it is the one that is served. As publish_set. */
static int publish_table(struct flagshm_publisher *p, struct flagshm_table *table, uint64_t file_rev)
{
    int error;

    if (p->has_published && p->segment.header != NULL &&
        table->content_hash == flagshm_segment_content_hash(&p->segment)) {
        p->refusal.text[0] = '\0';
        return 1;
    }
    error = flagshm_segment_publish(&p->segment, table, p->version + 1, file_rev, &p->refusal);
    if (error != 0)
        return error;
    flagshm_ledger_name(&p->ledger, &p->segment);
    p->refusal.text[0] = '\0';
    p->version++;
    p->published_file_rev = file_rev;
    p->has_published = true;
    flagshm_journal_publish(p->journal, flagshm_realtime_ns(), p->version, file_rev);
    return 0;
}

static int take_wards(struct flagshm_publisher *p, const struct flagshm_flagfile *set)
{
    const struct flagshm_wards_start start = flagshm_publisher_wards_start(p);

    flagshm_moment_tick(&p->moment, flagshm_mono_ns(), flagshm_realtime_ns());
    return flagshm_wards_take(&p->wards, set, &p->moment, &start);
}

/* Compiles and publishes `set` (NULL: no flags) with the drafts of rollouts. 0, 1 where the table would be the same, -errno with
 * `refusal`. */
static int publish_set(struct flagshm_publisher *p, const struct flagshm_flagfile *set, uint64_t file_rev)
{
    bool is_taken = set != NULL && (set != &p->good || !p->wards.is_started);
    struct flagshm_table table;
    int result;

    if (p->beats_unlocked > 0) { /* two writers would overwrite each other */
        flagshm_wards_settle(&p->wards, false);
        return fail(p, -EBUSY, "another writer holds the lock of our table; the table stays");
    }
    if (is_taken && take_wards(p, set) != 0)
        return fail(p, -ENOMEM, "no memory for the rollouts; the table before stays");
    result = build(p, set, &table);
    if (result == 0) {
        result = publish_table(p, &table, file_rev);
        flagshm_table_free(&table);
    }
    flagshm_ledger_end(&p->ledger, result >= 0, flagshm_mono_ns());
    flagshm_wards_settle(&p->wards, result >= 0);
    p->wards.is_started = p->wards.is_started || (is_taken && result >= 0);
    return result;
}

int flagshm_publisher_publish(struct flagshm_publisher *p)
{
    int result = publish_set(p, p->has_good ? &p->good : NULL, p->file_rev);

    return result > 0 ? 0 : result;
}

/* ---- the text of the file ---- */

void flagshm_publisher_forget_faults(struct flagshm_publisher *p)
{
    cJSON_Delete(p->faults);
    free(p->faults_text);
    p->faults = NULL;
    p->faults_text = NULL;
}

static void keep_faults(struct flagshm_publisher *p, const struct flagshm_diags *diags, const char *text,
                        size_t bytes)
{
    flagshm_publisher_forget_faults(p);
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
        flagshm_log(FLAGSHM_LOG_INFO, "version %llu: %zu flag%s, file revision %llu%s",
                    (unsigned long long)p->version, p->good.count, p->good.count == 1 ? "" : "s",
                    (unsigned long long)p->file_rev, extra);
    if (p->deletions_held > 0)
        flagshm_log(FLAGSHM_LOG_WARNING,
                    "the file would drop %zu flags, more than half of them: they stay until `flagctl accept`",
                    p->deletions_held);
}

size_t flagshm_publisher_count_held(const struct flagshm_flagfile *good)
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
    p->deletions_held = merge.deletions_held ? flagshm_publisher_count_held(&p->good) : 0;
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
                                      struct flagshm_diags *diags, const char *text, size_t bytes)
{
    bool is_known = is_same_text(p, text, bytes, true);
    uint64_t file_rev = is_known ? p->file_rev : p->file_rev + 1;
    struct flagshm_error before = p->refusal;
    int result;

    flagshm_wards_refuse(&p->wards, file, diags);
    result = merge(p, file, false, file_rev);
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
    int error =
        flagshm_flagfile_parse_edit(&file, p->has_good ? &p->good : NULL, text, bytes, &options, &diags);

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
    flagshm_publisher_forget_faults(p);
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
    if (result == 0) {
        flagshm_wards_refuse(&p->wards, &file, &diags);
        result = merge(p, &file, true, p->file_rev);
    }
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
