/* stats: see the header. */
#include "server/stats.h"
#include "server/json_add.h"
#include "server/segment_internal.h"

#include <stdio.h>
#include <string.h>

#define UNIT_MS (65536.0 / 1e6) /* of times in histograms */

static const struct {
    const char *key;
    uint32_t counter;
} counter_keys[] = {
    {"started", FLAGSHM_N_STARTED},
    {"finished", FLAGSHM_N_FINISHED},
    {"failed", FLAGSHM_N_FAILED},
    {"transport_errors", FLAGSHM_N_TRANSPORT},
    {"limited", FLAGSHM_N_LIMITED},
    {"met_limit", FLAGSHM_N_MET_LIMIT},
    {"cancelled", FLAGSHM_N_CANCELLED},
    {"lost", FLAGSHM_N_LOST},
    {"retries", FLAGSHM_N_RETRIES},
    {"fallback", FLAGSHM_N_FALLBACK},
    {"misbooked", FLAGSHM_N_MISBOOKED},
    {"json_checked", FLAGSHM_N_JSON_CHECKED},
    {"json_invalid", FLAGSHM_N_JSON_INVALID},
    {"schema_checked", FLAGSHM_N_SCHEMA_CHECKED},
    {"schema_invalid", FLAGSHM_N_SCHEMA_INVALID},
    {"tool_checked", FLAGSHM_N_TOOL_CHECKED},
    {"tool_invalid", FLAGSHM_N_TOOL_INVALID},
    {"refusal", FLAGSHM_N_REFUSAL},
    {"truncated", FLAGSHM_N_TRUNCATED},
    {"empty", FLAGSHM_N_EMPTY},
    {"thumbs_up", FLAGSHM_N_THUMBS_UP},
    {"thumbs_down", FLAGSHM_N_THUMBS_DOWN},
    {"retry", FLAGSHM_N_RETRY},
    {"support_contact", FLAGSHM_N_SUPPORT_CONTACT},
    {"input_tokens", FLAGSHM_N_INPUT_TOKENS},
    {"output_tokens", FLAGSHM_N_OUTPUT_TOKENS},
    {"cache_tokens", FLAGSHM_N_CACHE_TOKENS},
};

static const struct {
    const char *key;
    uint32_t histogram;
    double unit;
} histogram_keys[] = {
    {"latency_ms", FLAGSHM_H_LATENCY, UNIT_MS},
    {"ttft_ms", FLAGSHM_H_TTFT, UNIT_MS},
    {"tokens", FLAGSHM_H_TOKENS, 1},
    {"tokens_out", FLAGSHM_H_OUTPUT_TOKENS, 1},
};

static cJSON *histogram_json(const uint64_t histogram[FLAGSHM_HISTOGRAM_BUCKETS], double unit)
{
    cJSON *object = cJSON_CreateObject();

    flagshm_json_add_u64(object, "count", flagshm_histogram_count(histogram));
    flagshm_json_add_real(object, "p50", flagshm_histogram_quantile(histogram, 0.50) * unit);
    flagshm_json_add_real(object, "p90", flagshm_histogram_quantile(histogram, 0.90) * unit);
    flagshm_json_add_real(object, "p95", flagshm_histogram_quantile(histogram, 0.95) * unit);
    flagshm_json_add_real(object, "p99", flagshm_histogram_quantile(histogram, 0.99) * unit);
    return object;
}

static cJSON *arm_json(const struct flagshm_arm_counts *counts, const char *name, const char *model)
{
    cJSON *object = cJSON_CreateObject(), *custom = cJSON_CreateArray();
    char number[24];
    size_t i;

    cJSON_AddStringToObject(object, "arm", name);
    cJSON_AddStringToObject(object, "model", model);
    flagshm_json_add_u64(object, "users",
                         counts->n[FLAGSHM_N_USERS_STARTED] + counts->n[FLAGSHM_N_USERS_FINISHED]);
    for (i = 0; i < sizeof counter_keys / sizeof *counter_keys; i++)
        flagshm_json_add_u64(object, counter_keys[i].key, counts->n[counter_keys[i].counter]);
    for (i = 0; i < 8; i++) {
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)counts->n[FLAGSHM_N_CUSTOM + i]);
        cJSON_AddItemToArray(custom, cJSON_CreateRaw(number));
    }
    cJSON_AddItemToObject(object, "custom", custom);
    for (i = 0; i < sizeof histogram_keys / sizeof *histogram_keys; i++)
        cJSON_AddItemToObject(
            object, histogram_keys[i].key,
            histogram_json(counts->histograms[histogram_keys[i].histogram], histogram_keys[i].unit));
    return object;
}

static void add_arms(cJSON *object, const struct flagshm_ledger_entry *e,
                     const struct flagshm_slot_counts *counts, const struct flagshm_flag *flag)
{
    cJSON *arms = cJSON_AddArrayToObject(object, "arms");
    char number[16];
    uint32_t i;

    for (i = 0; i < e->form.arm_count; i++) {
        bool is_known = flag != NULL && i < flag->arm_count;

        (void)snprintf(number, sizeof number, "%u", (unsigned)i);
        cJSON_AddItemToArray(arms, arm_json(&counts->arms[i], is_known ? flag->arms[i].name : number,
                                            is_known ? flag->arms[i].model : ""));
    }
    if (e->form.has_shadow)
        cJSON_AddItemToObject(object, "shadow",
                              arm_json(&counts->arms[e->form.arm_count], "shadow",
                                       flag != NULL && flag->arm_count > 1 ? flag->arms[1].model : ""));
}

static cJSON *flag_json(struct flagshm_publisher *p, uint32_t slot)
{
    const struct flagshm_ledger_entry *e = &p->ledger.entries[slot];
    const struct flagshm_flagfile_entry *entry =
        p->has_good ? flagshm_flagfile_find(&p->good, e->flag) : NULL;
    struct flagshm_table served;
    const struct flagshm_flag_entry *r = NULL;
    struct flagshm_slot_counts counts;
    cJSON *object = cJSON_CreateObject();
    char stage[25] = "", share[16];

    if (p->segment.header != NULL) {
        served = flagshm_segment_served(&p->segment);
        r = flagshm_table_find(&served, e->form.flag_hash);
    }
    cJSON_AddStringToObject(object, "flag", e->flag);
    if (r != NULL) {
        memcpy(stage, r->stage, sizeof r->stage);
        cJSON_AddStringToObject(object, "stage", stage);
        cJSON_AddRawToObject(object, "rollout_pct",
                             flagshm_mpct_to_text(r->rollout_mpct <= 100000 ? r->rollout_mpct : 0, share));
    }
    flagshm_json_add_u64(object, "slot", slot);
    flagshm_json_add_u64(object, "generation", p->ledger.slots.holders[slot].generation);
    flagshm_json_add_time(object, "since", e->opened_realtime_ns);
    cJSON_AddBoolToObject(object, "guarded", e->form.signal_count > 0);
    cJSON_AddBoolToObject(object, "open", e->is_open);
    if (!flagshm_ledger_read(&p->ledger, slot, &counts)) {
        cJSON_AddBoolToObject(object, "readable", false);
        return object;
    }
    cJSON_AddBoolToObject(object, "tainted", e->is_tainted);
    flagshm_json_add_real(object, "distinct_ids", counts.distinct);
    add_arms(object, e, &counts, entry != NULL && !entry->broken ? &entry->flag : NULL);
    return object;
}

cJSON *flagshm_stats(struct flagshm_publisher *p, const char *flag, cJSON *answer)
{
    cJSON *flags = cJSON_CreateArray();
    uint64_t wanted = flag != NULL ? flagshm_hash64_(flag, strlen(flag), 0) : 0;
    uint32_t slot, used = 0;

    cJSON_AddBoolToObject(answer, "recording", p->ledger.file.segment != NULL);
    if (p->ledger.fault.text[0] != '\0')
        cJSON_AddStringToObject(answer, "fault", p->ledger.fault.text);
    if (p->ledger.slot_fault.text[0] != '\0')
        cJSON_AddStringToObject(answer, "slot_fault", p->ledger.slot_fault.text);
    flagshm_json_add_real(answer, "quantile_error", FLAGSHM_QUANTILE_ERROR);
    for (slot = 0; slot < FLAGSHM_SLOTS; slot++) {
        uint64_t holder = p->ledger.slots.holders[slot].flag_hash;

        used += holder != 0;
        if (holder != 0 && (flag == NULL || holder == wanted))
            cJSON_AddItemToArray(flags, flag_json(p, slot));
    }
    flagshm_json_add_u64(answer, "slots_used", used);
    flagshm_json_add_u64(answer, "slots_refused", p->ledger.refused);
    return flags;
}
