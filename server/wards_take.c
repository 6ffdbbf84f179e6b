/* wards_take: what a new good set means for the rollouts, and what a restart means. */
#include "server/wards.h"

#include <errno.h>
#include <string.h>

/* Guarded from the first table on; a flag with the default guardrails is when its outcomes come. */
static bool wants_ward(const struct flagshm_flag *flag)
{
    return flag->plan->step_count > 0 || (flag->has_guardrails && flag->guards->count > 0);
}

static int take_flag(struct flagshm_wards *wards, const struct flagshm_flag *flag)
{
    struct flagshm_rollout_file file;
    struct flagshm_ward *ward = NULL;
    bool is_wanted;

    if (!flagshm_rollout_file_of(flag, &file))
        return 0;
    is_wanted = wants_ward(flag);
    if (wards->count > 0)
        ward = flagshm_wards_find(wards, flagshm_hash64_(flag->name, flag->name_bytes, 0));
    if (ward == NULL && is_wanted) {
        ward = flagshm_wards_add(wards, flag->name);
        if (ward == NULL)
            return -ENOMEM;
    }
    if (ward != NULL) {
        ward->next_file = file;
        ward->next_source = flag;
    }
    return 0;
}

/* Nothing of the flag that a rollout goes by is another one. Plans and guardrails that an edit left as they were lie where they lay. */
static bool is_same(const struct flagshm_ward *ward)
{
    const struct flagshm_rollout_file *a = &ward->file, *b = &ward->next_file;

    return ward->state.is_seen && a->is_present == b->is_present && a->plan == b->plan &&
           a->guards == b->guards && a->cap_mpct == b->cap_mpct && a->form_hash == b->form_hash &&
           a->variant_fingerprint == b->variant_fingerprint &&
           a->control_fingerprint == b->control_fingerprint;
}

static int edit(struct flagshm_ward *ward, const struct flagshm_moment *now)
{
    struct flagshm_ward_draft *draft;

    if (is_same(ward))
        return 0;
    draft = flagshm_ward_draft(ward);
    if (draft == NULL)
        return -ENOMEM;
    flagshm_ward_forget_pending(
        ward); /* it rests on the file of before; where it still holds it is asked for again */
    draft->has_transition = flagshm_rollout_edit(&draft->state, &ward->next_file, now, &draft->transition);
    return 0;
}

/* Kills have their own files, written by tools while no server runs: their word is newer than the state's. */
static void take_kill(struct flagshm_ward *ward, struct flagshm_rollout *state,
                      const struct flagshm_wards_start *start, const struct flagshm_moment *now)
{
    const struct flagshm_ask ask = {.verb = FLAGSHM_VERB_UNKILL, .user = "flagctl", .reason = ""};
    struct flagshm_transition ignored;
    bool is_killed = start->is_killed(start->context, ward->flag);

    if (state->is_killed && !is_killed && state->is_seen && ward->next_file.is_present)
        (void)flagshm_rollout_ask(state, &ward->next_file, &ask, now, &ignored);
    state->is_killed = is_killed;
}

static int recover(struct flagshm_wards *wards, struct flagshm_ward *ward, const struct flagshm_moment *now,
                   const struct flagshm_wards_start *start)
{
    struct flagshm_table_entry entry = {.flag = ward->next_source};
    struct flagshm_rollout_served served = {0};
    bool was_planned = false, has_served, is_lost;
    struct flagshm_ward_draft *draft;

    flagshm_ward_entry(ward, &entry); /* before there is a draft: as the journal says */
    has_served = start->served(start->context, ward, &entry, &served, &was_planned);
    ward->rise_version = 0;
    draft = flagshm_ward_draft(ward);
    if (draft == NULL)
        return -ENOMEM;
    take_kill(ward, &draft->state, start, now);
    is_lost = !draft->state.is_seen && (wards->is_journal_lost || ward->is_state_lost || was_planned);
    draft->has_transition = flagshm_rollout_recover(&draft->state, has_served ? &served : NULL,
                                                    &ward->next_file, is_lost, now, &draft->transition);
    if (draft->state.evidence !=
        ward->state.evidence) /* also without a word: it must not be given out again */
        ward->is_unkept = true;
    return 0;
}

static void forget_drafts(struct flagshm_wards *wards)
{
    size_t i;

    for (i = 0; i < wards->count; i++) {
        flagshm_ward_drop_draft(wards->list[i]);
        wards->list[i]->next_file = wards->list[i]->file;
        wards->list[i]->next_source = wards->list[i]->source;
    }
}

int flagshm_wards_take(struct flagshm_wards *wards, const struct flagshm_flagfile *good,
                       const struct flagshm_moment *now, const struct flagshm_wards_start *start)
{
    int result = 0;
    size_t i;

    for (i = 0; i < wards->count; i++) {
        struct flagshm_ward *ward = wards->list[i];

        if (ward->is_hidden)
            continue;
        ward->next_source = NULL;
        ward->next_file = (struct flagshm_rollout_file){.name = ward->flag};
    }
    for (i = 0; i < good->count && result == 0; i++)
        if (!good->entries[i].broken)
            result = take_flag(wards, &good->entries[i].flag);
    for (i = 0; i < wards->count && result == 0; i++) {
        struct flagshm_ward *ward = wards->list[i];

        if (ward->is_hidden)
            continue;
        result = wards->is_started || ward->is_recovered ? edit(ward, now) : recover(wards, ward, now, start);
    }
    if (result != 0)
        forget_drafts(wards);
    return result;
}

void flagshm_wards_refuse(const struct flagshm_wards *wards, struct flagshm_flagfile *file,
                          struct flagshm_diags *diags)
{
    size_t i;

    for (i = 0; i < file->count && wards->count > 0; i++) {
        struct flagshm_flagfile_entry *entry = &file->entries[i];
        struct flagshm_rollout_file next;
        const struct flagshm_ward *ward;
        char why[600], pointer[100] = "";

        if (entry->broken || !flagshm_rollout_file_of(&entry->flag, &next))
            continue;
        ward = flagshm_wards_find(wards, flagshm_hash64_(entry->flag.name, entry->flag.name_bytes, 0));
        if (ward == NULL || !flagshm_rollout_refuses(&ward->state, &next, why, sizeof why))
            continue;
        memcpy(pointer, "/flags/", 7);
        memcpy(pointer + 7, entry->flag.name, entry->flag.name_bytes);
        flagshm_diags_add(diags, FLAGSHM_DIAG_ERROR, entry->key_offset, entry->flag.name_bytes + 2, pointer,
                          "%s", why);
        entry->broken = true;
        file->errors++;
    }
    flagshm_diags_sort(diags);
}
