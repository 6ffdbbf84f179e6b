/* journal_commit: see the header. */
#include "server/journal_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct journal_report {
    struct journal_report *next;
    struct flagshm_journal_report report;
};

void flagshm_journal_commit(struct flagshm_journal *journal, const struct flagshm_journal_commit *commit)
{
    struct journal_report *node = calloc(1, sizeof *node);

    if (commit->kind != NULL)
        flagshm_journal_event(journal, commit->realtime_ns, commit->kind, commit->flag, commit->user,
                              commit->detail);
    if (node == NULL || commit->ticket == 0) {
        free(node);
        return;
    }
    node->report.ticket = commit->ticket;
    pthread_mutex_lock(&journal->mutex);
    *journal->reports_end = node;
    journal->reports_end = &node->next;
    pthread_mutex_unlock(&journal->mutex);
    (void)eventfd_write(journal->event_fd, 1);
}

int flagshm_journal_fd(const struct flagshm_journal *journal)
{
    return journal->event_fd;
}

bool flagshm_journal_take(struct flagshm_journal *journal, struct flagshm_journal_report *report)
{
    struct journal_report *node;
    eventfd_t ignored;

    pthread_mutex_lock(&journal->mutex);
    node = journal->reports;
    if (node != NULL)
        journal->reports = node->next;
    if (journal->reports == NULL) {
        journal->reports_end = &journal->reports;
        (void)eventfd_read(journal->event_fd, &ignored);
    }
    pthread_mutex_unlock(&journal->mutex);
    if (node == NULL)
        return false;
    *report = node->report;
    free(node);
    return true;
}

void flagshm_journal_notice_done(struct flagshm_journal *journal, const char *notice_id, const char *target)
{
    (void)journal;
    (void)notice_id;
    (void)target;
}

cJSON *flagshm_journal_states(struct flagshm_journal *journal)
{
    (void)journal;
    return cJSON_CreateObject();
}

cJSON *flagshm_journal_notices(struct flagshm_journal *journal)
{
    (void)journal;
    return cJSON_CreateArray();
}

char *flagshm_journal_setting(struct flagshm_journal *journal, const char *name)
{
    (void)journal;
    (void)name;
    return NULL;
}
