/* publisher_start: from what the last run left (table, journal, kills, last good set) to a publisher, and its end. */
#include "server/clock.h"
#include "server/log.h"
#include "server/publisher_internal.h"

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
    flagshm_flagfile_free(&p->good);
    flagshm_publisher_forget_faults(p);
    free(p->text);
    memset(p, 0, sizeof *p);
}
