/* wards: see the header. wards_take.c has what a new good set means for them. */
#include "server/wards.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_MIN 64u

/* ---- the list ---- */

static void ward_free(struct flagshm_ward *ward)
{
    while (ward->moves != NULL) {
        struct flagshm_ward_move *next = ward->moves->next;

        free(ward->moves);
        ward->moves = next;
    }
    free(ward->draft);
    free(ward->post);
    free(ward->pending);
    free(ward);
}

void flagshm_wards_free(struct flagshm_wards *wards)
{
    size_t i;

    for (i = 0; i < wards->count; i++)
        ward_free(wards->list[i]);
    free(wards->list);
    free(wards->index);
    memset(wards, 0, sizeof *wards);
}

struct flagshm_ward *flagshm_wards_find(const struct flagshm_wards *wards, uint64_t flag_hash)
{
    size_t at;

    if (wards->count == 0)
        return NULL;
    for (at = flag_hash & wards->mask; wards->index[at] != 0; at = (at + 1) & wards->mask)
        if (wards->list[wards->index[at] - 1]->flag_hash == flag_hash)
            return wards->list[wards->index[at] - 1];
    return NULL;
}

struct flagshm_ward *flagshm_wards_find_name(const struct flagshm_wards *wards, const char *flag)
{
    return flagshm_wards_find(wards, flagshm_hash64_(flag, strlen(flag), 0));
}

static void index_all(struct flagshm_wards *wards)
{
    size_t i, at;

    memset(wards->index, 0, (wards->mask + 1) * sizeof *wards->index);
    for (i = 0; i < wards->count; i++) {
        for (at = wards->list[i]->flag_hash & wards->mask; wards->index[at] != 0; at = (at + 1) & wards->mask)
            continue;
        wards->index[at] = (uint32_t)(i + 1);
    }
}

static bool grow(struct flagshm_wards *wards)
{
    size_t room = wards->room > 0 ? wards->room * 2 : INDEX_MIN / 2;
    struct flagshm_ward **list = realloc(wards->list, room * sizeof(struct flagshm_ward *));
    uint32_t *index;

    if (list == NULL)
        return false;
    wards->list = list;
    index = malloc(room * 2 * sizeof *index);
    if (index == NULL)
        return false;
    free(wards->index);
    wards->index = index;
    wards->room = room;
    wards->mask = room * 2 - 1;
    index_all(wards);
    return true;
}

struct flagshm_ward *flagshm_wards_add(struct flagshm_wards *wards, const char *flag)
{
    struct flagshm_ward *ward = flagshm_wards_find_name(wards, flag);

    if (ward != NULL)
        return ward;
    if (wards->count == wards->room && !grow(wards))
        return NULL;
    ward = calloc(1, sizeof *ward);
    if (ward == NULL)
        return NULL;
    (void)snprintf(ward->flag, sizeof ward->flag, "%s", flag);
    ward->flag_hash = flagshm_hash64_(ward->flag, strlen(ward->flag), 0);
    wards->list[wards->count++] = ward;
    index_all(wards);
    return ward;
}

void flagshm_wards_remove(struct flagshm_wards *wards, struct flagshm_ward *ward)
{
    size_t i;

    for (i = 0; i < wards->count; i++)
        if (wards->list[i] == ward) {
            struct flagshm_ward_move *move;

            for (move = ward->moves; move != NULL; move = move->next)
                wards->moved--;
            wards->list[i] = wards->list[--wards->count];
            ward_free(ward);
            index_all(wards);
            return;
        }
}

/* ---- drafts ---- */

struct flagshm_ward_draft *flagshm_ward_draft(struct flagshm_ward *ward)
{
    if (ward->draft == NULL) {
        ward->draft = malloc(sizeof *ward->draft);
        if (ward->draft != NULL) {
            ward->draft->state = ward->state;
            ward->draft->has_transition = false;
            ward->draft->asker = 0;
            if (ward->pending != NULL) /* its number is given out */
                ward->draft->state.transitions = ward->pending->transitions;
        }
    }
    return ward->draft;
}

void flagshm_ward_drop_draft(struct flagshm_ward *ward)
{
    free(ward->draft);
    ward->draft = NULL;
}

void flagshm_ward_forget_pending(struct flagshm_ward *ward)
{
    free(ward->pending);
    ward->pending = NULL;
    ward->pending_ticket = 0;
}

/* What the ward's slot is judged by: the file's guardrails, and of the default set also those whose outcomes had come when this evidence
 * began. */
static void choose_guards(struct flagshm_ward *ward, const struct flagshm_rollout *state)
{
    bool is_same = state->attempt == ward->kinds_attempt && state->evidence == ward->kinds_evidence;
    uint32_t kind;

    ward->next_kinds = is_same ? ward->kinds : ward->arrived;
    ward->next_guards = *ward->next_file.guards;
    for (kind = 0; ward->next_guards.is_default && kind < FLAGSHM_GUARD_KINDS; kind++)
        if (ward->next_kinds >> kind & 1)
            flagshm_guards_add(&ward->next_guards, (enum flagshm_guard_kind)kind);
}

static void add_move(struct flagshm_wards *wards, struct flagshm_ward *ward)
{
    struct flagshm_ward_move *move = malloc(sizeof *move), **end = &ward->moves;

    if (move == NULL)
        return; /* the next one that is written down brings the state along */
    *move = (struct flagshm_ward_move){NULL, ward->draft->transition, ward->draft->asker};
    while (*end != NULL)
        end = &(*end)->next;
    *end = move;
    wards->moved++;
}

bool flagshm_ward_take_move(struct flagshm_wards *wards, struct flagshm_ward *ward,
                            struct flagshm_ward_move *move)
{
    struct flagshm_ward_move *first = ward->moves;

    if (first == NULL)
        return false;
    *move = *first;
    ward->moves = first->next;
    wards->moved--;
    free(first);
    return true;
}

/* What was concluded from other evidence says nothing of this. */
static void forget_evidence(struct flagshm_ward *ward)
{
    const struct flagshm_rollout *before = &ward->state, *now = &ward->draft->state;

    if (before->attempt == now->attempt && before->evidence == now->evidence)
        return;
    ward->post->has_verdict = false;
    if (before->attempt != now->attempt || before->control_fingerprint != now->control_fingerprint)
        memset(&ward->post->evidence, 0, sizeof ward->post->evidence);
}

void flagshm_ward_apply(struct flagshm_wards *wards, struct flagshm_ward *ward)
{
    if (ward->draft == NULL)
        return;
    if (ward->post != NULL)
        forget_evidence(ward);
    ward->state = ward->draft->state;
    if (ward->draft->has_transition) {
        add_move(wards, ward);
        flagshm_ward_forget_pending(ward);
    }
    flagshm_ward_drop_draft(ward);
}

bool flagshm_ward_is_visible(const struct flagshm_ward *ward)
{
    const struct flagshm_rollout *before = &ward->state, *now = &ward->draft->state;
    char words[2][24];

    flagshm_rollout_stage_word(before, words[0]);
    flagshm_rollout_stage_word(now, words[1]);
    return memcmp(words[0], words[1], sizeof words[0]) != 0 ||
           flagshm_rollout_share(before) != flagshm_rollout_share(now) ||
           flagshm_rollout_shadow(before) != flagshm_rollout_shadow(now) || before->attempt != now->attempt ||
           before->evidence != now->evidence || before->stage != now->stage;
}

static void settle(struct flagshm_wards *wards, struct flagshm_ward *ward)
{
    ward->file = ward->next_file;
    ward->source = ward->next_source;
    ward->is_recovered = ward->is_recovered || ward->draft != NULL || wards->is_started;
    flagshm_ward_apply(wards, ward);
    if (!ward->file.is_present)
        return;
    choose_guards(ward, &ward->state);
    ward->kinds = ward->next_kinds;
    ward->guards = ward->next_guards;
    ward->kinds_attempt = ward->state.attempt;
    ward->kinds_evidence = ward->state.evidence;
}

void flagshm_wards_settle(struct flagshm_wards *wards, bool is_published)
{
    size_t i;

    for (i = 0; i < wards->count; i++) {
        struct flagshm_ward *ward = wards->list[i];

        if (is_published) {
            settle(wards, ward);
            continue;
        }
        flagshm_ward_drop_draft(ward);
        ward->next_file = ward->file;
        ward->next_source = ward->source;
    }
}

/* ---- the table ---- */

/* A plan whose steps last for minutes or less cannot wash in for one. */
static uint64_t wash_in_ns(const struct flagshm_ward *ward, const struct flagshm_rollout *state)
{
    static const struct flagshm_evidence unknown;
    uint64_t hold_ns = flagshm_rollout_hold_ns(state, ward->next_file.plan),
             full = flagshm_evidence_wash_in_ns(ward->post != NULL ? &ward->post->evidence : &unknown);

    if (ward->is_hidden)
        return 0;
    return hold_ns > 0 && hold_ns / 4 < full ? hold_ns / 4 : full;
}

void flagshm_ward_entry(struct flagshm_ward *ward, struct flagshm_table_entry *entry)
{
    const struct flagshm_rollout *state = ward->draft != NULL ? &ward->draft->state : &ward->state;

    entry->rollout = state;
    entry->guards = NULL;
    entry->wash_in_ns = 0;
    if (!ward->next_file.is_present || !flagshm_rollout_is_guarded(state, &ward->next_file))
        return;
    choose_guards(ward, state);
    entry->guards = &ward->next_guards;
    entry->wash_in_ns = wash_in_ns(ward, state);
}

/* ---- the journal's text ---- */

char *flagshm_ward_write(const struct flagshm_ward *ward, const struct flagshm_rollout *state)
{
    const double *rates = ward->post != NULL && ward->post->evidence.has_control_rates
                              ? ward->post->evidence.control_rates
                          : ward->has_control_rates ? ward->control_rates
                                                    : NULL;
    size_t room = FLAGSHM_STATE_TEXT_MAX + 2048, used, i;
    char *text = malloc(room);

    if (text == NULL)
        return NULL;
    used = (size_t)snprintf(
        text, room, "{\"kinds\": %u, \"arrived\": %u, \"rise_version\": \"%llu\", \"control_rates\": [",
        ward->kinds, ward->arrived, (unsigned long long)ward->rise_version);
    for (i = 0; rates != NULL && i < FLAGSHM_GUARD_KINDS + 8; i++) /* JSON knows no infinity */
        used += (size_t)snprintf(text + used, room - used, "%s%.9g", i > 0 ? ", " : "",
                                 isfinite(rates[i]) ? rates[i] : -1);
    used += (size_t)snprintf(text + used, room - used, "], \"rollout\": ");
    used += flagshm_rollout_write(state, text + used, room - used);
    if (used + 2 > room) {
        free(text);
        return NULL;
    }
    memcpy(text + used, "}", 2);
    return text;
}

static uint32_t bits_of(const cJSON *json, const char *key)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(json, key);
    double bits = cJSON_IsNumber(number) ? number->valuedouble : 0;

    return bits >= 0 && bits < (1u << FLAGSHM_GUARD_KINDS) ? (uint32_t)bits : 0;
}

static uint64_t version_of(const cJSON *json, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));

    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static void read_rates(struct flagshm_ward *ward, const cJSON *json)
{
    const cJSON *rates = cJSON_GetObjectItemCaseSensitive(json, "control_rates"), *rate;
    size_t i = 0;

    if (cJSON_GetArraySize(rates) != FLAGSHM_GUARD_KINDS + 8)
        return;
    cJSON_ArrayForEach(rate, rates)
    {
        if (!cJSON_IsNumber(rate) || !isfinite(rate->valuedouble))
            return;
        ward->control_rates[i++] = rate->valuedouble;
    }
    ward->has_control_rates = true;
}

bool flagshm_ward_read(struct flagshm_ward *ward, const char *text)
{
    cJSON *json = cJSON_Parse(text);
    char *state = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(json, "rollout"));
    bool is_sound = state != NULL && flagshm_rollout_read(&ward->state, state);

    if (is_sound) {
        ward->kinds = bits_of(json, "kinds");
        ward->arrived = bits_of(json, "arrived");
        ward->rise_version = version_of(json, "rise_version");
        ward->kinds_attempt = ward->state.attempt;
        ward->kinds_evidence = ward->state.evidence;
        read_rates(ward, json);
    } else {
        memset(&ward->state, 0, sizeof ward->state);
    }
    free(state);
    cJSON_Delete(json);
    return is_sound;
}
