/* ledger_ask: what whoever judges asks of a slot, and has done to it. See ledger.h. */
#include "server/ledger.h"

#include <string.h>

const struct flagshm_ledger_entry *flagshm_ledger_find(const struct flagshm_ledger *ledger,
                                                       uint64_t flag_hash, uint32_t *slot)
{
    *slot = flagshm_slots_find(&ledger->slots, flag_hash);
    return *slot != FLAGSHM_NO_SLOT ? &ledger->entries[*slot] : NULL;
}

void flagshm_ledger_take_news(struct flagshm_ledger *ledger, uint64_t slots[FLAGSHM_SLOTS / 64])
{
    memcpy(slots, ledger->news_slots, sizeof ledger->news_slots);
    memset(ledger->news_slots, 0, sizeof ledger->news_slots);
}

bool flagshm_ledger_holds(const struct flagshm_ledger *ledger, uint64_t flag_hash, uint64_t guard_key)
{
    uint32_t slot = flagshm_slots_find(&ledger->slots, flag_hash);

    return slot != FLAGSHM_NO_SLOT && ledger->entries[slot].guard_key == guard_key;
}

bool flagshm_ledger_has_free(const struct flagshm_ledger *ledger, uint64_t mono_ns)
{
    return ledger->file.segment != NULL && flagshm_slots_has_free(&ledger->slots, mono_ns);
}

void flagshm_ledger_open_slot(struct flagshm_ledger *ledger, uint32_t slot)
{
    if (ledger->entries[slot % FLAGSHM_SLOTS].is_open)
        return;
    flagshm_outcomes_open_slot(&ledger->file, slot);
    ledger->entries[slot % FLAGSHM_SLOTS].is_open = true;
}

/* Of LOST, the threshold is how long a call may take: not an amount. */
static bool has_amount(const struct flagshm_ledger *ledger, uint32_t slot, uint32_t signal)
{
    const struct flagshm_slot_form *form = &ledger->entries[slot % FLAGSHM_SLOTS].form;

    return signal < form->signal_count && form->signals[signal].kind >= FLAGSHM_SIGNAL_LATENCY;
}

void flagshm_ledger_set_threshold(struct flagshm_ledger *ledger, uint32_t slot, uint32_t signal,
                                  uint64_t threshold)
{
    if (has_amount(ledger, slot, signal))
        flagshm_outcomes_set_threshold(&ledger->file, slot, signal, threshold);
}

void flagshm_ledger_thresholds(const struct flagshm_ledger *ledger, uint32_t slot,
                               uint64_t known[FLAGSHM_SIGNALS_MAX])
{
    uint32_t i;

    for (i = 0; i < FLAGSHM_SIGNALS_MAX; i++)
        known[i] =
            has_amount(ledger, slot, i) ? flagshm_outcomes_threshold(&ledger->file, slot, i) : UINT64_MAX;
}
