/* publisher_start: from what the last run left (table, journal, kills, last good set) to a publisher, and its end. */
#include "server/clock.h"
#include "server/log.h"
#include "server/publisher_internal.h"
#include "server/segment_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
        p->deletions_held = flagshm_publisher_count_held(&p->good);
    }
    flagshm_diags_free(&diags);
    free(text);
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

/* The states of rollouts, as the journal keeps them. */
static void load_wards(struct flagshm_publisher *p, const struct flagshm_journal_start *start)
{
    cJSON *states = flagshm_journal_states(p->journal);
    const cJSON *state;

    p->wards.is_journal_lost = start->was_damaged || states == NULL;
    cJSON_ArrayForEach(state, states)
    {
        struct flagshm_ward *ward = flagshm_wards_add(&p->wards, state->string);

        if (ward == NULL || !cJSON_IsString(state) || !flagshm_ward_read(ward, state->valuestring)) {
            flagshm_log(FLAGSHM_LOG_WARNING,
                        "the journal's state of %s cannot be read: what its rollout was is not known",
                        state->string);
            if (ward != NULL)
                ward->is_state_lost = true;
        }
    }
    cJSON_Delete(states);
}

/* ---- what the adopted table served ---- */

/* The word of a record whose share a plan, or a roll-back, has made. */
static bool is_planned_word(const char *word)
{
    return word[0] != '\0' && strncmp(word, "static-", 7) != 0 && strcmp(word, "killed") != 0 &&
           strcmp(word, "disabled") != 0;
}

static uint64_t fingerprint_of(const struct flagshm_table *served, const struct flagshm_flag_entry *r)
{
    const unsigned char *heap = served->bytes + served->geometry.heap_offset;
    struct flagshm_arm_entry arm;

    if (r->latch_fingerprint != 0)
        return r->latch_fingerprint;
    if (r->arm_count < 2 ||
        !flagshm_is_inside_(r->arms_offset, 2 * (uint32_t)sizeof arm, (uint32_t)served->heap_used))
        return 0;
    memcpy(&arm, heap + r->arms_offset + sizeof arm, sizeof arm);
    return arm.fingerprint;
}

static bool served_by_table(void *context, const struct flagshm_ward *ward,
                            const struct flagshm_table_entry *entry, struct flagshm_rollout_served *served,
                            bool *was_planned)
{
    const struct flagshm_publisher *p = context;
    const struct flagshm_flag_entry *r;
    struct flagshm_table table;
    char word[25] = "";

    if (p->segment.header == NULL || !p->segment.is_adopted || p->has_published)
        return false;
    table = flagshm_segment_served(&p->segment);
    r = flagshm_table_find(&table, ward->flag_hash);
    if (r == NULL)
        return false;
    memcpy(word, r->stage, sizeof r->stage);
    *was_planned = is_planned_word(word);
    *served = (struct flagshm_rollout_served){
        .fingerprint = fingerprint_of(&table, r),
        .share_mpct = r->rollout_mpct <= FLAGSHM_MPCT_FULL ? r->rollout_mpct : 0,
        .is_killed = (r->switches & FLAGSHM_SWITCH_KILLED) != 0,
        .is_latched = (r->switches & FLAGSHM_SWITCH_ROLLED_BACK) != 0 || r->latch_fingerprint != 0,
        .is_slot_kept = entry->guards != NULL &&
                        flagshm_ledger_holds(&p->ledger, ward->flag_hash, flagshm_ledger_guard_key(entry)),
    };
    /* A rise that was written down, and no table since: nothing was lowered after it, it only was not published yet. */
    if (ward->rise_version != 0 && ward->rise_version == flagshm_segment_version(&p->segment) &&
        flagshm_rollout_share(&ward->state) > served->share_mpct)
        served->share_mpct = flagshm_rollout_share(&ward->state);
    served->stage = flagshm_stage_from_word(word, &served->is_probe, &served->is_drill);
    return true;
}

static bool is_killed(void *context, const char *flag)
{
    const struct flagshm_publisher *p = context;

    return flagshm_kills_has(&p->kills, flag);
}

struct flagshm_wards_start flagshm_publisher_wards_start(struct flagshm_publisher *p)
{
    return (struct flagshm_wards_start){p, served_by_table, is_killed};
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
    p->outcomes = (struct flagshm_outcomes_options){
        .dir = options->segment.dir, .instance = options->segment.instance, .group = options->segment.group};
    result = flagshm_ledger_open(&p->ledger, &p->outcomes, &p->segment, flagshm_mono_ns(),
                                 flagshm_realtime_ns(), error);
    if (result == 0)
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
    load_wards(p, &start);
    number(p, &start);
    p->kills_stamp =
        flagshm_kills_stamp(p->state_dir); /* first: what is written meanwhile is looked at again */
    flagshm_publisher_gather_kills(p);
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
    flagshm_ledger_close(&p->ledger);
    flagshm_segment_close(&p->segment);
    flagshm_kills_free(&p->kills);
    flagshm_kills_free(&p->unwritten);
    flagshm_wards_free(&p->wards);
    flagshm_flagfile_free(&p->good);
    flagshm_publisher_forget_faults(p);
    free(p->text);
    memset(p, 0, sizeof *p);
}
