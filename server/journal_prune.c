/* journal_prune: keeps the journal small: 90 days, 256 MiB, of which the texts of the flag file are nearly all. */
#include "server/journal_store.h"

#include <stdio.h>

/* At most 500 at a time: a clock that is wrong for a while does not cost the whole journal. */
static const char forget_old[] =
    "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE time_ns < %lld AND id IS NOT "
    "(SELECT max(id) FROM event WHERE text IS NOT NULL AND file_rev IS NOT NULL) ORDER BY time_ns LIMIT 500)";
static const char forget_unused[] =
    "DELETE FROM text WHERE id NOT IN (SELECT text FROM event WHERE text IS NOT NULL)";

static int used_bytes(struct journal_store *store, uint64_t *bytes, struct flagshm_error *error)
{
    int64_t pages = 0, unused = 0, page_bytes = 0;
    int result = journal_store_ask(store, "PRAGMA page_count", &pages, error);

    if (result == 0)
        result = journal_store_ask(store, "PRAGMA freelist_count", &unused, error);
    if (result == 0)
        result = journal_store_ask(store, "PRAGMA page_size", &page_bytes, error);
    *bytes = (uint64_t)(pages - unused) * (uint64_t)page_bytes;
    return result;
}

/* Forgets the text that was used longest ago; where only the newest accepted one is left, the oldest events. */
static int forget_something(struct journal_store *store, struct flagshm_error *error)
{
    int64_t text = 0;
    char sql[256];
    int result = journal_store_ask(store,
                                   "SELECT text FROM event WHERE text IS NOT NULL AND text IS NOT "
                                   "(SELECT text FROM event WHERE text IS NOT NULL AND file_rev IS NOT NULL "
                                   "ORDER BY id DESC LIMIT 1) GROUP BY text ORDER BY max(id) LIMIT 1",
                                   &text, error);

    if (result != 0)
        return result;
    if (text == 0)
        return journal_store_run(
            store,
            "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id IS NOT (SELECT max(id) FROM event "
            "WHERE text IS NOT NULL AND file_rev IS NOT NULL) ORDER BY id LIMIT 500)",
            error);
    (void)snprintf(
        sql, sizeof sql,
        "UPDATE event SET text = NULL, detail = coalesce(detail, 'its text is no longer kept') WHERE text = "
        "%lld; DELETE FROM text WHERE id = %lld",
        (long long)text, (long long)text);
    return journal_store_run(store, sql, error);
}

static int forget_until_it_fits(struct journal_store *store, uint64_t limit, struct flagshm_error *error)
{
    uint64_t bytes, before = UINT64_MAX;
    int result = used_bytes(store, &bytes, error);

    if (result != 0 || bytes <= limit)
        return result;
    while (result == 0 && bytes > limit - limit / 10 && bytes < before) {
        before = bytes;
        result = forget_something(store, error);
        if (result == 0)
            result = used_bytes(store, &bytes, error);
    }
    return result;
}

int journal_store_prune(struct journal_store *store, uint64_t now_ns, const struct journal_limits *limits,
                        struct flagshm_error *error)
{
    uint64_t oldest_ns = now_ns > limits->age_ns ? now_ns - limits->age_ns : 0;
    char sql[sizeof forget_old + 32];
    int result = journal_store_run(store, "BEGIN IMMEDIATE", error);

    (void)snprintf(sql, sizeof sql, forget_old, (long long)oldest_ns);
    if (result == 0)
        result = journal_store_run(store, sql, error);
    if (result == 0)
        result = journal_store_run(store, forget_unused, error);
    if (result == 0)
        result = forget_until_it_fits(store, limits->bytes, error);
    if (result == 0)
        result = journal_store_run(store, "COMMIT", error);
    if (result != 0) {
        (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return result;
    }
    return journal_store_run(store, "PRAGMA incremental_vacuum", error);
}
