/* dump of outcomes: one slot in words, as it stands, whoever wrote it. Nothing that it says is followed: numbers are shown, texts cleaned,
 * counts of arms and signals clamped. */
#include "server/outcomes_read.h"
#include "tools/dump.h"
#include "tools/outcome_file.h"
#include "tools/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define UNIT_MS (65536.0 / 1e6) /* of times in histograms */

static const struct {
    uint32_t counter;
    const char *word;
} counter_words[] = {
    {FLAGSHM_N_STARTED, "started"},
    {FLAGSHM_N_FINISHED, "finished"},
    {FLAGSHM_N_JUDGED, "judged"},
    {FLAGSHM_N_USERS_STARTED, "users_started"},
    {FLAGSHM_N_USERS_FINISHED, "users_finished"},
    {FLAGSHM_N_FAILED, "failed"},
    {FLAGSHM_N_TRANSPORT, "transport_errors"},
    {FLAGSHM_N_LIMITED, "limited"},
    {FLAGSHM_N_MET_LIMIT, "met_limit"},
    {FLAGSHM_N_CANCELLED, "cancelled"},
    {FLAGSHM_N_RETRIES, "retries"},
    {FLAGSHM_N_FALLBACK, "fallback"},
    {FLAGSHM_N_MISBOOKED, "misbooked"},
    {FLAGSHM_N_JSON_CHECKED, "json_checked"},
    {FLAGSHM_N_JSON_INVALID, "json_invalid"},
    {FLAGSHM_N_SCHEMA_CHECKED, "schema_checked"},
    {FLAGSHM_N_SCHEMA_INVALID, "schema_invalid"},
    {FLAGSHM_N_TOOL_CHECKED, "tool_checked"},
    {FLAGSHM_N_TOOL_INVALID, "tool_invalid"},
    {FLAGSHM_N_REFUSAL, "refusal"},
    {FLAGSHM_N_TRUNCATED, "truncated"},
    {FLAGSHM_N_EMPTY, "empty"},
    {FLAGSHM_N_INPUT_TOKENS, "input_tokens"},
    {FLAGSHM_N_OUTPUT_TOKENS, "output_tokens"},
    {FLAGSHM_N_CACHE_TOKENS, "cache_tokens"},
    {FLAGSHM_N_THUMBS_UP, "thumbs_up"},
    {FLAGSHM_N_THUMBS_DOWN, "thumbs_down"},
    {FLAGSHM_N_RETRY, "retry"},
    {FLAGSHM_N_SUPPORT_CONTACT, "support_contact"},
    {FLAGSHM_N_CUSTOM, "custom_0"},
    {FLAGSHM_N_CUSTOM + 1, "custom_1"},
    {FLAGSHM_N_CUSTOM + 2, "custom_2"},
    {FLAGSHM_N_CUSTOM + 3, "custom_3"},
    {FLAGSHM_N_CUSTOM + 4, "custom_4"},
    {FLAGSHM_N_CUSTOM + 5, "custom_5"},
    {FLAGSHM_N_CUSTOM + 6, "custom_6"},
    {FLAGSHM_N_CUSTOM + 7, "custom_7"},
};

static const struct {
    uint32_t histogram;
    const char *word;
    double unit;
} histogram_words[] = {
    {FLAGSHM_H_LATENCY, "latency_ms", UNIT_MS},
    {FLAGSHM_H_TTFT, "ttft_ms", UNIT_MS},
    {FLAGSHM_H_TOKENS, "tokens", 1},
    {FLAGSHM_H_OUTPUT_TOKENS, "tokens_out", 1},
};

static const char *const window_words[FLAGSHM_WINDOWS] = {"slot", "4h_even", "4h_odd", "1h_even", "1h_odd"};

static void kind_text(uint32_t kind, char out[24])
{
    static const char *const words[] = {"none",         "error",       "json_invalid", "schema_invalid",
                                        "tool_invalid", "refusal",     "truncated",    "empty",
                                        "lost",         "thumbs_down", "retry",        "support_contact"};
    static const char *const amounts[] = {"latency", "ttft", "tokens", "tokens_out"};

    if (kind < sizeof words / sizeof *words)
        (void)snprintf(out, 24, "%s", words[kind]);
    else if (kind >= FLAGSHM_SIGNAL_CUSTOM && kind < FLAGSHM_SIGNAL_LATENCY)
        (void)snprintf(out, 24, "custom_%u", (unsigned)(kind - FLAGSHM_SIGNAL_CUSTOM));
    else if (kind >= FLAGSHM_SIGNAL_LATENCY && kind < FLAGSHM_SIGNAL_KINDS)
        (void)snprintf(out, 24, "%s", amounts[kind - FLAGSHM_SIGNAL_LATENCY]);
    else
        (void)snprintf(out, 24, "? (%" PRIu32 ")", kind);
}

/* ---- header and slot ---- */

static void doorbell_dump(struct dump *d, const struct flagshm_outcomes *s)
{
    uint32_t dirty = 0, i;

    for (i = 0; i < FLAGSHM_SLOTS; i++)
        dirty += (uint32_t)(s->dirty[i / 64] >> (i % 64) & 1);
    dump_section(d, "doorbell");
    dump_field(d, "dirty_slots", true, "%" PRIu32, dirty);
    dump_field(d, "armed", true, "%" PRIu32, s->armed);
    dump_field(d, "rung", true, "%" PRIu32, s->rung);
    dump_field(d, "shadow_day", true, "%" PRIu64, (uint64_t)s->shadow_tokens >> 48);
    dump_field(d, "shadow_tokens", true, "%" PRIu64, (uint64_t)s->shadow_tokens & ((UINT64_C(1) << 48) - 1));
}

static uint32_t bits_of(const struct flagshm_slot *slot)
{
    uint32_t bits = 0, i;

    for (i = 0; i < FLAGSHM_SEEN_BITS / 64; i++)
        bits += (uint32_t)__builtin_popcountll(slot->seen[i]);
    return bits;
}

static void slot_dump(struct dump *d, uint32_t number, const struct flagshm_slot *slot,
                      const struct flagshm_snapshot_flag *served)
{
    char text[40], wanted[40], words[256] = "", kind[24];
    uint32_t registers = 0, i;
    size_t used = 0;

    for (i = 0; i < FLAGSHM_DISTINCT; i++)
        registers += slot->distinct[i] != 0;
    for (i = 0; i < FLAGSHM_SIGNAL_KINDS && used < sizeof words; i++) {
        if ((slot->signal_kinds >> i & 1) == 0)
            continue;
        kind_text(i, kind);
        used += (size_t)snprintf(words + used, sizeof words - used, "%s%s", used != 0 ? "," : "", kind);
    }
    dump_section(d, "slot");
    dump_field(d, "number", true, "%" PRIu32, number);
    (void)snprintf(text, sizeof text, "%" PRIu32, slot->generation);
    (void)snprintf(wanted, sizeof wanted, "%" PRIu32 ", says the table",
                   served != NULL ? served->slot_generation : 0);
    dump_judged(d, "generation", served == NULL || slot->generation == served->slot_generation, text, wanted);
    dump_field(d, "flag", false, "%.*s", (int)strnlen(slot->flag, sizeof slot->flag), slot->flag);
    dump_field(d, "flag_hash", false, "%016" PRIx64, (uint64_t)slot->flag_hash);
    (void)snprintf(text, sizeof text, "%" PRIu32, slot->arm_count);
    (void)snprintf(wanted, sizeof wanted, "%" PRIu32, served != NULL ? served->arm_count : 0);
    dump_judged(d, "arm_count", served == NULL || slot->arm_count == served->arm_count, text, wanted);
    dump_field(d, "is_open", true, "%" PRIu32, slot->is_open);
    dump_field(d, "lost_window", true, "%" PRIu32, slot->lost_window);
    (void)snprintf(text, sizeof text, "%" PRIu32, slot->signal_count);
    dump_judged(d, "signal_count", slot->signal_count <= FLAGSHM_SIGNALS_MAX, text, "at most 16");
    dump_field(d, "signal_kinds", false, "%s", words[0] != '\0' ? words : "none");
    dump_field(d, "capped_calls_control", true, "%" PRIu64, (uint64_t)slot->capped_calls[0]);
    dump_field(d, "capped_calls_variant", true, "%" PRIu64, (uint64_t)slot->capped_calls[1]);
    dump_field(d, "seen_bits", true, "%" PRIu32, bits_of(slot));
    dump_field(d, "distinct_registers", true, "%" PRIu32, registers);
}

/* ---- arms ---- */

struct arms {
    uint32_t count;
    char names[8][32];
    struct flagshm_arm_counts counts[8];
};

static void arms_read(const struct flagctl_outcomes *file, uint32_t number, const struct flagshm_slot *slot,
                      const struct flagshm_snapshot_flag *served, struct arms *arms)
{
    uint32_t own = slot->arm_count <= 8 ? slot->arm_count : 8, i;

    arms->count = own < 8 ? own + 1 : 8;
    for (i = 0; i < arms->count; i++) {
        if (i >= own)
            (void)snprintf(arms->names[i], sizeof arms->names[i], "shadow");
        else if (served != NULL && i < served->arm_count)
            (void)flagctl_clean(served->arms[i].name, arms->names[i], sizeof arms->names[i]);
        else
            (void)snprintf(arms->names[i], sizeof arms->names[i], "%" PRIu32, i);
        flagctl_outcomes_arm(file, number, i, &arms->counts[i]);
    }
}

static void arms_json(struct dump *d, const struct arms *arms)
{
    cJSON *list = cJSON_AddArrayToObject(d->json, "arms"), *item, *inner;
    uint32_t i;
    size_t k;

    for (i = 0; i < arms->count; i++) {
        item = cJSON_CreateObject();
        (void)cJSON_AddItemToArray(list, item);
        (void)cJSON_AddStringToObject(item, "arm", arms->names[i]);
        for (k = 0; k < sizeof counter_words / sizeof *counter_words; k++)
            flagctl_json_u64(item, counter_words[k].word, arms->counts[i].n[counter_words[k].counter]);
        for (k = 0; k < sizeof histogram_words / sizeof *histogram_words; k++) {
            const uint64_t *histogram = arms->counts[i].histograms[histogram_words[k].histogram];
            double unit = histogram_words[k].unit;

            inner = cJSON_AddObjectToObject(item, histogram_words[k].word);
            flagctl_json_u64(inner, "count", flagshm_histogram_count(histogram));
            (void)cJSON_AddNumberToObject(inner, "p50", flagshm_histogram_quantile(histogram, 0.50) * unit);
            (void)cJSON_AddNumberToObject(inner, "p95", flagshm_histogram_quantile(histogram, 0.95) * unit);
            (void)cJSON_AddNumberToObject(inner, "p99", flagshm_histogram_quantile(histogram, 0.99) * unit);
        }
    }
}

static void arms_print(struct dump *d, const struct arms *arms)
{
    const char *headings[10] = {"COUNTER"};
    struct flagctl_table *table;
    char names[8][40];
    uint32_t i;
    size_t k;

    for (i = 0; i < arms->count; i++) {
        (void)snprintf(names[i], sizeof names[i], ">%s", arms->names[i]);
        headings[1 + i] = names[i];
    }
    (void)fputc('\n', d->ctl->out);
    table = flagctl_table_new(headings);
    for (k = 0; k < sizeof counter_words / sizeof *counter_words; k++) {
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", counter_words[k].word);
        for (i = 0; i < arms->count; i++)
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu64, arms->counts[i].n[counter_words[k].counter]);
    }
    for (k = 0; k < sizeof histogram_words / sizeof *histogram_words; k++) {
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s p50/p95", histogram_words[k].word);
        for (i = 0; i < arms->count; i++) {
            const uint64_t *histogram = arms->counts[i].histograms[histogram_words[k].histogram];
            double unit = histogram_words[k].unit;

            flagctl_table_cell(table, FLAGCTL_PLAIN, "%.4g/%.4g of %" PRIu64,
                               flagshm_histogram_quantile(histogram, 0.50) * unit,
                               flagshm_histogram_quantile(histogram, 0.95) * unit,
                               flagshm_histogram_count(histogram));
        }
    }
    flagctl_table_print(d->ctl, table);
}

/* ---- signals and levels ---- */

static uint32_t signals_of(const struct flagshm_slot *slot)
{
    return slot->signal_count <= FLAGSHM_SIGNALS_MAX ? slot->signal_count : FLAGSHM_SIGNALS_MAX;
}

static cJSON *number_json(uint64_t number)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    return cJSON_CreateRaw(text);
}

static void signals_json(struct dump *d, const struct flagshm_slot *slot)
{
    cJSON *list = cJSON_AddArrayToObject(d->json, "signals"), *item, *inner, *levels, *counts;
    uint32_t i, window, label, level;
    char kind[24];

    for (i = 0; i < signals_of(slot); i++) {
        const struct flagshm_signal *signal = &slot->signals[i];

        item = cJSON_CreateObject();
        (void)cJSON_AddItemToArray(list, item);
        kind_text(signal->kind, kind);
        (void)cJSON_AddStringToObject(item, "kind", kind);
        flagctl_json_u64(item, "is_timed", signal->is_timed);
        flagctl_json_u64(item, "first_table", signal->first_table);
        flagctl_json_u64(item, "threshold", signal->threshold);
        inner = cJSON_AddArrayToObject(item, "capped_bad");
        for (label = 0; label < 2; label++)
            (void)cJSON_AddItemToArray(inner, number_json(slot->capped_bad[label][i]));
        levels = cJSON_AddObjectToObject(item, "levels");
        for (window = 0; window < FLAGSHM_WINDOWS; window++) {
            inner = cJSON_AddArrayToObject(levels, window_words[window]);
            for (label = 0; label < 2; label++) {
                counts = cJSON_CreateArray();
                (void)cJSON_AddItemToArray(inner, counts);
                for (level = 0; level < FLAGSHM_LEVELS; level++)
                    (void)cJSON_AddItemToArray(counts, number_json(slot->levels[i][window][label][level]));
            }
        }
    }
}

static void levels_text(const uint32_t levels[FLAGSHM_LEVELS + 1], char *out, size_t room)
{
    uint32_t last = FLAGSHM_LEVELS, i;
    size_t used = 0;

    while (last > 0 && levels[last - 1] == 0)
        last--;
    (void)snprintf(out, room, "-");
    for (i = 0; i < last && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%" PRIu32, i != 0 ? " " : "", levels[i]);
}

static void signals_print(struct dump *d, const struct flagshm_slot *slot)
{
    static const char *const headings[] = {
        "SIGNAL",          "KIND",           "WINDOW",         ">THRESHOLD", ">CAPPED CONTROL",
        ">CAPPED VARIANT", "LEVELS CONTROL", "LEVELS VARIANT", NULL};
    struct flagctl_table *table;
    uint32_t i, window;
    char kind[24], text[200];

    if (signals_of(slot) == 0) {
        (void)fputs("\nno signals: no guardrail watches\n", d->ctl->out);
        return;
    }
    (void)fputc('\n', d->ctl->out);
    table = flagctl_table_new(headings);
    for (i = 0; i < signals_of(slot); i++) {
        const struct flagshm_signal *signal = &slot->signals[i];

        kind_text(signal->kind, kind);
        for (window = 0; window < (signal->is_timed != 0 ? FLAGSHM_WINDOWS : 1); window++) {
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu32, i);
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", kind);
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", window_words[window]);
            if (signal->threshold == UINT64_MAX)
                flagctl_table_cell(table, FLAGCTL_PLAIN, "-");
            else
                flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu64, (uint64_t)signal->threshold);
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu64, (uint64_t)slot->capped_bad[0][i]);
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu64, (uint64_t)slot->capped_bad[1][i]);
            levels_text(slot->levels[i][window][0], text, sizeof text);
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", text);
            levels_text(slot->levels[i][window][1], text, sizeof text);
            flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", text);
        }
    }
    flagctl_table_print(d->ctl, table);
}

/* ---- the whole ---- */

static bool is_slot_number(const char *text, uint32_t *slot)
{
    double number;

    if (strchr(text, '.') != NULL || !flagctl_number(text, 0, FLAGSHM_SLOTS - 1, &number))
        return false;
    *slot = (uint32_t)number;
    return true;
}

/* The slot that is meant, and the flag of the table that has it (NULL: none). */
static int slot_find(struct flagctl *ctl, const struct flagshm_snapshot *snapshot, const char *which,
                     uint32_t *slot, const struct flagshm_snapshot_flag **served)
{
    size_t i;

    *served = flagshm_snapshot_find(snapshot, which);
    if (*served != NULL) {
        *slot = (*served)->slot;
        if (*slot < FLAGSHM_SLOTS)
            return FLAGCTL_OK;
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s has no slot: why, says flagctl stats %s", which, which);
    }
    if (!is_slot_number(which, slot))
        return flagctl_no_flag(ctl, snapshot, which);
    for (i = 0; i < snapshot->count && *served == NULL; i++)
        if (snapshot->flags[i].slot == *slot)
            *served = &snapshot->flags[i];
    return FLAGCTL_OK;
}

static int file_fail(const struct flagctl *ctl, const struct flagctl_outcomes *file, int code)
{
    return flagctl_fail(ctl, FLAGCTL_UNREACHABLE, "%s: %s; what is wrong and how to mend it: flagctl doctor",
                        file->path, code == -EPERM ? "no regular file" : strerror(-code));
}

static int slot_show(struct dump *d, const struct flagctl_outcomes *file, uint32_t number,
                     const struct flagshm_snapshot_flag *served)
{
    struct flagshm_slot *slot = calloc(1, sizeof *slot);
    struct arms *arms = calloc(1, sizeof *arms);
    struct flagshm_outcomes header;

    if (slot == NULL || arms == NULL) {
        free(slot);
        free(arms);
        return flagctl_fail(d->ctl, FLAGCTL_FAILED, "out of memory");
    }
    flagctl_outcomes_header(file, &header);
    flagctl_outcomes_read(file, number, 0, slot, offsetof(struct flagshm_slot, arms));
    arms_read(file, number, slot, served, arms);
    memcpy(&d->header, &header,
           offsetof(struct flagshm_header, seq)); /* the prefix is the same in all segments */
    d->object = file->object;
    dump_object(d, file->path);
    dump_prefix(d, FLAGSHM_OUTCOMES_MAGIC);
    doorbell_dump(d, &header);
    slot_dump(d, number, slot, served);
    if (d->json != NULL) {
        arms_json(d, arms);
        signals_json(d, slot);
    } else {
        arms_print(d, arms);
        signals_print(d, slot);
    }
    free(slot);
    free(arms);
    return FLAGCTL_OK;
}

int dump_outcomes(struct flagctl *ctl, const char *which)
{
    const struct flagshm_snapshot_flag *served = NULL;
    struct dump d = {.ctl = ctl, .fd = -1};
    struct flagshm_snapshot snapshot;
    struct flagctl_outcomes file;
    uint32_t slot = 0;
    int code = flagctl_snapshot(ctl, &snapshot), error;

    if (code != FLAGCTL_OK)
        return code;
    code = slot_find(ctl, &snapshot, which, &slot, &served);
    if (code == FLAGCTL_OK && (error = flagctl_outcomes_open(&file, &ctl->instance)) != 0) {
        code = file_fail(ctl, &file, error);
    } else if (code == FLAGCTL_OK) {
        d.json = ctl->is_json ? cJSON_CreateObject() : NULL;
        code = slot_show(&d, &file, slot, served);
        flagctl_outcomes_close(&file);
        if (d.json != NULL && code == FLAGCTL_OK)
            code = flagctl_json(ctl, d.json);
        else
            cJSON_Delete(d.json);
    }
    flagshm_snapshot_free(&snapshot);
    return code;
}
