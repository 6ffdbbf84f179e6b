/* flagfile_flag: one entry of "flags". Every fault in it is listed; one is enough to mark it broken. */
#include "server/flagfile_internal.h"

#include <string.h>

/* The values that are judged when the whole entry has been seen. */
struct reading {
    struct flagshm_flagfile_entry *entry;
    struct flagshm_spot control, variant, variants, force, rollout, expires, on_stale;
    struct flagshm_rollout_text *rollout_text; /* NULL: none; most flags have none, and these are large */
    struct flagshm_guards *guards;
    bool is_on_stale_control;
};

static struct flagshm_flag *flag_of(void *into)
{
    return &((struct reading *)into)->entry->flag;
}

static void read_control(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    ((struct reading *)into)->control = value;
    flagshm_reader_arm(r, value, &flag_of(into)->arms[0]);
}

static void read_variant(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct reading *)into)->variant = value;
}

static void read_variants(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct reading *)into)->variants = value;
}

static void read_rollout_pct(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct flagshm_flagfile_entry *entry = ((struct reading *)into)->entry;
    uint32_t mpct;

    if (!flagshm_reader_share(r, value, "rollout_pct", 0, &mpct))
        return;
    entry->flag.rollout_offset = r->places.items[value.at].offset;
    entry->flag.rollout_bytes = flagshm_spot_bytes(r, value);
    if (!entry->says_rollout || mpct < entry->says_rollout_mpct)
        entry->says_rollout_mpct = mpct;
    entry->says_rollout = true;
}

static void read_enabled(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct flagshm_flagfile_entry *entry = ((struct reading *)into)->entry;
    bool enabled;

    if (!flagshm_reader_bool(r, value, "enabled", &enabled))
        return;
    entry->flag.enabled_offset = r->places.items[value.at].offset;
    entry->flag.enabled_bytes = flagshm_spot_bytes(r, value);
    entry->says_disabled = entry->says_disabled || !enabled;
}

static void read_rollout(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct reading *reading = into;
    struct flagshm_rollout_text *text = flagshm_arena_take(&r->scratch, sizeof *text);

    reading->rollout = value;
    reading->rollout_text = text;
    if (!text) {
        r->no_memory = true;
        return;
    }
    text->is_default = false;
    flagshm_reader_rollout(r, value, text);
}

static void read_guardrails(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct reading *reading = into;
    struct flagshm_guards *guards = flagshm_arena_take(&r->file->arena, sizeof *guards);

    reading->guards = guards;
    if (!guards) {
        r->no_memory = true;
        return;
    }
    flagshm_reader_guardrails(r, value, guards);
    flag_of(into)->has_guardrails = cJSON_IsString(value.node) || value.node->child != NULL;
}

static void read_force(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)r;
    ((struct reading *)into)->force = value;
}

static void read_salt(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct flagshm_flag *flag = flag_of(into);
    size_t i;

    if (!flagshm_reader_string(r, value, "salt", 1, FLAGSHM_SALT_MAX, &flag->salt, &flag->salt_bytes))
        return;
    for (i = 0; i < flag->salt_bytes; i++)
        if (flag->salt[i] == ':' || (unsigned char)flag->salt[i] < 0x20 || flag->salt[i] == 0x7f) {
            flagshm_reader_mismatch(r, value, "salt", "text without \":\" and control characters");
            return;
        }
}

static void read_identity(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const char *const words[] = {"user", "org", "session", NULL}; /* in the order of the enum */
    size_t index;

    if (flagshm_reader_word(r, value, "identity", words, &index))
        flag_of(into)->identity = (enum flagshm_identity)index;
}

static void read_on_stale(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const char *const words[] = {"hold", "control", NULL};
    struct reading *reading = into;
    size_t index;

    reading->on_stale = value;
    if (flagshm_reader_word(r, value, "on_stale", words, &index))
        reading->is_on_stale_control = index == 1;
}

static void read_description(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_string(r, value, "description", 0, SIZE_MAX, &flag_of(into)->description, NULL);
}

static void read_owner(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_string(r, value, "owner", 0, SIZE_MAX, &flag_of(into)->owner, NULL);
}

static void read_created(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    flagshm_reader_date(r, value, "created", &flag_of(into)->created);
}

static void read_expires(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    ((struct reading *)into)->expires = value;
    flagshm_reader_date(r, value, "expires", &flag_of(into)->expires);
}

static const struct flagshm_key keys[] = {
    {"control", read_control},
    {"variant", read_variant},
    {"variants", read_variants},
    {"rollout_pct", read_rollout_pct},
    {"enabled", read_enabled},
    {"rollout", read_rollout},
    {"guardrails", read_guardrails},
    {"force", read_force},
    {"salt", read_salt},
    {"identity", read_identity},
    {"on_stale", read_on_stale},
    {"description", read_description},
    {"owner", read_owner},
    {"created", read_created},
    {"expires", read_expires},
    {NULL, NULL},
};

/* The arms beside control. Exactly one of the two keys says which. */
static void read_other_arms(struct flagshm_reader *r, struct flagshm_spot value, struct reading *reading)
{
    struct flagshm_flag *flag = flag_of(reading);

    flag->arms[0].name = "control";
    flag->arms[0].weight = 1;
    flag->arm_count = 1;
    if (reading->variant.node && reading->variants.node)
        flagshm_reader_key_error(r, reading->variants, "\"variant\" and \"variants\" exclude each other");
    if (!reading->variant.node && !reading->variants.node)
        flagshm_reader_key_error(r, value, "\"variant\" (or \"variants\") is missing in flag \"%s\"",
                                 flag->name);
    if (reading->variants.node)
        flagshm_reader_variants(r, reading->variants, flag);
    if (reading->variant.node) {
        flag->arms[1].name = "variant";
        flag->arms[1].weight = 1;
        flag->arm_count = 2;
        flagshm_reader_arm(r, reading->variant, &flag->arms[1]);
    }
}

/* What only the whole entry can tell. */
static void judge(struct flagshm_reader *r, struct flagshm_spot value, struct reading *reading)
{
    struct flagshm_flagfile_entry *entry = reading->entry;
    struct flagshm_flag *flag = &entry->flag;
    size_t before = r->diags->errors;

    if (!reading->control.node)
        flagshm_reader_key_error(r, value, "\"control\" is missing in flag \"%s\"", flag->name);
    read_other_arms(r, value, reading);
    if (reading->force.node && r->diags->errors == before &&
        !r->no_memory) /* else arms' names would be guesses */
        flagshm_reader_force(r, reading->force, flag);
    if (flag->created && flag->expires && strcmp(flag->expires, flag->created) < 0)
        flagshm_reader_error(r, reading->expires, "expires lies before created (%s < %s)", flag->expires,
                             flag->created);
    flag->has_rollout = reading->rollout.node != NULL;
    if (flag->has_rollout && flag->arm_count > 2)
        flagshm_reader_key_error(r, reading->variants, "a guarded rollout has exactly one variant, got %u",
                                 flag->arm_count - 1);
    flag->has_on_stale = reading->on_stale.node != NULL;
    flag->on_stale_control = reading->is_on_stale_control;
    flag->enabled = !entry->says_disabled;
    flag->rollout_mpct = entry->says_rollout ? entry->says_rollout_mpct
                         : flag->has_rollout ? FLAGSHM_MPCT_FULL
                                             : 0;
    if (!flag->salt) {
        flag->salt = flag->name;
        flag->salt_bytes = flag->name_bytes;
    }
}

void flagshm_entry_break(struct flagshm_flagfile_entry *entry)
{
    struct flagshm_flag *flag = &entry->flag;
    struct flagshm_flag kept = {
        .name = flag->name,
        .name_bytes = flag->name_bytes,
        .text = flag->text,
        .text_bytes = flag->text_bytes,
        .offset = flag->offset,
        .rollout_offset = flag->rollout_offset,
        .rollout_bytes = flag->rollout_bytes,
        .enabled_offset = flag->enabled_offset,
        .enabled_bytes = flag->enabled_bytes,
    };

    *flag = kept;
    entry->broken = true;
}

/* Most flags have two arms of the eight that they may have: room is only kept for those. */
static void keep_arms(struct flagshm_reader *r, struct flagshm_flag *flag)
{
    struct flagshm_arm *kept = flagshm_arena_take(&r->file->arena, flag->arm_count * sizeof *kept);

    if (kept)
        memcpy(kept, flag->arms, flag->arm_count * sizeof *kept);
    else
        r->no_memory = true;
    flag->arms = kept;
}

/* Those of all flags that say nothing of their own. */
static struct flagshm_guards *plain_guards(struct flagshm_reader *r)
{
    if (r->plain_guards)
        return r->plain_guards;
    r->plain_guards = flagshm_arena_take(&r->file->arena, sizeof *r->plain_guards);
    if (!r->plain_guards)
        r->no_memory = true;
    else if (r->has_default_guards)
        *r->plain_guards = r->default_guards;
    else
        flagshm_guards_default(r->plain_guards);
    return r->plain_guards;
}

void flagshm_reader_flag(struct flagshm_reader *r, struct flagshm_spot value,
                         struct flagshm_flagfile_entry *entry)
{
    struct flagshm_arm arms[FLAGSHM_ARMS_MAX];
    struct reading reading = {.entry = entry};
    struct flagshm_flag *flag = &entry->flag;
    size_t before = r->diags->errors, warnings = r->diags->warnings;
    char what[80];

    flag->name_bytes = strlen(value.node->string);
    flag->name = flagshm_arena_copy(&r->file->arena, value.node->string, flag->name_bytes);
    if (!flag->name) {
        r->no_memory = true;
        return;
    }
    memset(arms, 0, sizeof arms);
    flag->arms = arms;
    flag->text = flagshm_spot_text(r, value);
    flag->text_bytes = flagshm_spot_bytes(r, value);
    flag->offset = (size_t)(flag->text - r->text);
    entry->key_offset = r->places.items[value.at].key_offset;
    if (!flagshm_is_flag_name(flag->name, flag->name_bytes))
        flagshm_reader_key_error(r, value,
                                 "a flag's name has 1..64 letters, digits, \"_\", \".\" or \"-\", the first "
                                 "a letter or digit, got \"%.80s\"",
                                 flag->name);
    if (cJSON_IsObject(value.node)) {
        flagshm_reader_object(r, value, flag->name, keys, &reading);
        judge(r, value, &reading);
    } else {
        snprintf(what, sizeof what, "flag \"%.64s\"", flag->name);
        flagshm_reader_mismatch(r, value, what, "an object");
    }
    if (r->diags->errors != before) {
        flagshm_entry_break(entry);
        return;
    }
    keep_arms(r, flag);
    if (flag->arm_count == 2) {
        flagshm_reader_give_plan(r, reading.rollout_text, flag);
        flag->guards = reading.guards ? reading.guards : plain_guards(r);
    }
    entry->is_warned = r->diags->warnings != warnings;
}
