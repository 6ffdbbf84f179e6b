/* journal_commit: see the header. */
#include "server/journal_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* ---- reports ---- */

void journal_reports_free(struct journal_report *report)
{
    while (report != NULL) {
        struct journal_report *next = report->next;

        free(report);
        report = next;
    }
}

void journal_reports_take(struct journal_record **records, struct journal_report **reports, int result,
                          const struct flagshm_error *error)
{
    while (*records != NULL) {
        struct journal_record *record = *records;
        struct journal_report *report = record->report;

        if (report != NULL) {
            report->report.result = result;
            if (result != 0)
                report->report.error = *error;
            else if (record->is_refused)
                report->report.result = flagshm_error_set(&report->report.error, -EINVAL,
                                                          "the journal cannot hold such a record");
            record->report = NULL;
            *reports = report;
            reports = &report->next;
        }
        if (result != 0 && record->is_condition) {
            *records = record->next;
            journal_record_free(record);
        } else {
            records = &record->next;
        }
    }
}

void journal_reports_give(struct flagshm_journal *journal, struct journal_report *reports)
{
    if (reports == NULL)
        return;
    *journal->reports_end = reports;
    for (; reports != NULL; reports = reports->next)
        journal->reports_end = &reports->next;
    (void)eventfd_write(journal->event_fd, 1);
}

int flagshm_journal_fd(const struct flagshm_journal *journal)
{
    return journal->event_fd;
}

bool flagshm_journal_take(struct flagshm_journal *journal, struct flagshm_journal_report *report)
{
    struct journal_report *first;
    bool is_found;
    eventfd_t count;

    pthread_mutex_lock(&journal->mutex);
    first = journal->reports;
    if (first != NULL)
        journal->reports = first->next;
    if (journal->reports == NULL) {
        journal->reports_end = &journal->reports;
        (void)eventfd_read(journal->event_fd, &count);
    }
    is_found = first != NULL;
    if (is_found)
        *report = first->report;
    if (journal->spare == NULL) {
        journal->spare = first;
        first = NULL;
    }
    pthread_mutex_unlock(&journal->mutex);
    free(first);
    return is_found;
}

/* ---- what is queued ---- */

/* Where there is no memory for the record, its report is all that can be given. */
static struct journal_report *report_for(struct flagshm_journal *journal, uint64_t ticket)
{
    struct journal_report *report = malloc(sizeof *report);

    if (report == NULL) {
        pthread_mutex_lock(&journal->mutex);
        report = journal->spare;
        journal->spare = NULL;
        pthread_mutex_unlock(&journal->mutex);
    }
    if (report != NULL) {
        report->next = NULL;
        report->report.ticket = ticket;
        report->report.result = 0;
        report->report.error.text[0] = '\0';
    }
    return report;
}

static void report_no_memory(struct flagshm_journal *journal, struct journal_report *report)
{
    if (report == NULL)
        return;
    report->report.result =
        flagshm_error_set(&report->report.error, -ENOMEM, "no memory for a record of the journal");
    pthread_mutex_lock(&journal->mutex);
    journal_reports_give(journal, report);
    pthread_mutex_unlock(&journal->mutex);
}

void flagshm_journal_commit(struct flagshm_journal *journal, const struct flagshm_journal_commit *commit)
{
    const struct journal_record like = {.time_ns = commit->realtime_ns,
                                        .version = commit->version,
                                        .kind = commit->kind,
                                        .flag = commit->flag,
                                        .user = commit->user,
                                        .detail = commit->detail,
                                        .numbers = commit->numbers,
                                        .state = commit->state,
                                        .setting = commit->setting,
                                        .value = commit->value,
                                        .notice_id = commit->notice_id,
                                        .notice = commit->notice,
                                        .targets = commit->targets,
                                        .target_count = commit->target_count,
                                        .is_forgotten = commit->is_forgotten,
                                        .is_condition = commit->is_condition};
    struct journal_record *record = journal_record_copy(&like);
    struct journal_report *report = commit->ticket != 0 ? report_for(journal, commit->ticket) : NULL;

    if (record != NULL && (report != NULL || commit->ticket == 0)) {
        record->report = report;
    } else {
        journal_record_free(record); /* what nobody can hear of must not come true */
        record = NULL;
        report_no_memory(journal, report);
    }
    journal_give(journal, record);
}

void flagshm_journal_notice_done(struct flagshm_journal *journal, const char *notice_id, const char *target)
{
    const struct journal_record like = {
        .notice_id = notice_id, .targets = &target, .target_count = 1, .is_notice_done = true};

    journal_give(journal, journal_record_copy(&like));
}
