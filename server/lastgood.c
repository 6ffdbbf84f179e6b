/* lastgood: see the header. First it is decided for each flag which form of it is served (the file's, the
 * last good one, none), then that set is written down as a text, then the text is read like any other. So
 * nothing can be served that a reboot would not serve again. */
#include "server/lastgood.h"
#include "server/flagfile_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define NOBODY UINT32_MAX

/* What is served of one flag. */
struct choice {
    const struct flagshm_flagfile_entry *accepted; /* of the file; or */
    const struct flagshm_flagfile_entry *kept;     /* of the old set; neither: the flag is absent */
    uint32_t old; /* number of its last good form in the old set, or NOBODY */
    bool is_held;
    bool is_disabled; /* lowered: a kill stands beside the error */
    bool is_lowered;  /* lowered: to mpct */
    uint32_t mpct;
};

struct merging {
    const struct flagshm_flagfile *old;
    struct flagshm_flagfile *file;
    struct flagshm_arena scratch;
    struct flagshm_name_set old_names; /* sound entries of the old set */
    struct choice *choices;            /* those of the file in its order, then the held ones */
    size_t count, max_flags;
    bool *is_in_file; /* by number in the old set */
    struct flagshm_merge *out;
};

/* ---- which form of each flag ---- */

static bool make_tables(struct merging *m)
{
    size_t old_count = m->old ? m->old->count : 0, i;

    m->choices = flagshm_arena_take(&m->scratch, (m->file->count + old_count) * sizeof *m->choices);
    m->is_in_file = flagshm_arena_take(&m->scratch, old_count * sizeof *m->is_in_file);
    if (!m->choices || !m->is_in_file || !flagshm_name_set_make(&m->old_names, old_count, &m->scratch))
        return false;
    memset(m->is_in_file, 0, old_count * sizeof *m->is_in_file);
    for (i = 0; i < old_count; i++) {
        uint32_t number = (uint32_t)i;

        if (!m->old->entries[i].broken)
            flagshm_name_set_add(&m->old_names, m->old->entries[i].flag.name,
                                 m->old->entries[i].flag.name_bytes, &number);
    }
    return true;
}

/* The flag keeps its last good form, if it has one; what the entry says of less is applied to it, what it
 * says of more is not. */
static void keep(struct merging *m, struct choice *choice, const struct flagshm_flagfile_entry *says)
{
    const struct flagshm_flag *last;

    choice->accepted = NULL;
    if (choice->old == NOBODY)
        return;
    choice->kept = &m->old->entries[choice->old];
    last = &choice->kept->flag;
    choice->is_disabled = says->says_disabled && last->enabled;
    choice->is_lowered = says->says_rollout && says->says_rollout_mpct < last->rollout_mpct;
    choice->mpct = says->says_rollout_mpct;
}

static void choose(struct merging *m)
{
    size_t i;

    for (i = 0; i < m->file->count; i++) {
        const struct flagshm_flagfile_entry *entry = &m->file->entries[i];
        struct choice *choice = &m->choices[m->count++];

        *choice = (struct choice){.accepted = entry, .old = NOBODY};
        if (flagshm_name_set_find(&m->old_names, entry->flag.name, entry->flag.name_bytes, &choice->old))
            m->is_in_file[choice->old] = true;
        if (entry->broken)
            keep(m, choice, entry);
    }
}

/* Deletions that would take more than half of the flags wait, and those that waited before go on waiting. */
static void hold_deletions(struct merging *m, bool accept)
{
    size_t old_count = m->old ? m->old->count : 0, sound = 0, fresh = 0, i;
    bool is_mass;

    for (i = 0; i < old_count; i++) {
        const struct flagshm_flagfile_entry *entry = &m->old->entries[i];

        if (entry->broken)
            continue;
        sound += !entry->is_held;
        fresh += !entry->is_held && !m->is_in_file[i];
        m->out->deletions += !m->is_in_file[i];
    }
    is_mass = fresh >= 4 && fresh * 2 > sound;
    for (i = 0; i < old_count && !accept; i++) {
        const struct flagshm_flagfile_entry *entry = &m->old->entries[i];

        if (entry->broken || m->is_in_file[i] || !(is_mass || entry->is_held))
            continue;
        m->choices[m->count++] = (struct choice){.kept = entry, .old = (uint32_t)i, .is_held = true};
        m->out->deletions_held = true;
    }
}

/* Kept flags and new ones may together be too many: new ones are left out, the last ones first. */
static void leave_out_what_is_too_much(struct merging *m)
{
    size_t served = 0, i;

    for (i = 0; i < m->count; i++)
        served += m->choices[i].accepted || m->choices[i].kept;
    for (i = m->count; i-- > 0 && served > m->max_flags;)
        if (m->choices[i].accepted && m->choices[i].old == NOBODY) {
            m->choices[i].accepted = NULL;
            served--;
        }
}

/* ---- salts ---- */

static bool is_partial(const struct choice *choice)
{
    struct flagshm_flag flag;

    if (!choice->accepted && !choice->kept)
        return false;
    flag = choice->accepted ? choice->accepted->flag : choice->kept->flag;
    if (choice->is_lowered)
        flag.rollout_mpct = choice->mpct;
    return flagshm_flag_is_partial(&flag);
}

static const struct flagshm_flag *flag_of(const struct choice *choice)
{
    return choice->accepted ? &choice->accepted->flag : &choice->kept->flag;
}

/* One round; true where an accepted flag had to be kept instead. Kept flags come first: they were accepted
 * together, so only a lowered one can meet another; accepted ones were sound together, so each of them can
 * only meet a kept one. */
static bool settle_salts_once(struct merging *m, struct flagshm_name_set *salts)
{
    uint32_t number = 0;
    bool changed = false;
    size_t i;

    flagshm_name_set_clear(salts);
    for (i = 0; i < m->count; i++) {
        struct choice *choice = &m->choices[i];

        if (!choice->kept || choice->accepted || !is_partial(choice) || choice->is_lowered)
            continue;
        flagshm_name_set_add(salts, flag_of(choice)->salt, flag_of(choice)->salt_bytes, &number);
    }
    for (i = 0; i < m->count; i++) {
        struct choice *choice = &m->choices[i];

        if (!choice->is_lowered || !is_partial(choice))
            continue;
        if (!flagshm_name_set_add(salts, flag_of(choice)->salt, flag_of(choice)->salt_bytes, &number))
            choice->mpct = 0;
    }
    for (i = 0; i < m->count; i++) {
        struct choice *choice = &m->choices[i];

        if (!choice->accepted || !is_partial(choice) ||
            !flagshm_name_set_find(salts, flag_of(choice)->salt, flag_of(choice)->salt_bytes, &number))
            continue;
        keep(m, choice, choice->accepted);
        changed = true;
    }
    return changed;
}

/* Each round that changes something turns an accepted flag into a kept one, so it ends. */
static int settle_salts(struct merging *m)
{
    struct flagshm_name_set salts;

    if (!flagshm_name_set_make(&salts, m->count, &m->scratch))
        return -ENOMEM;
    while (settle_salts_once(m, &salts))
        continue;
    return 0;
}

/* ---- the text ---- */

struct composer {
    char *out; /* NULL: only count */
    size_t used;
};

static void put(struct composer *c, const char *bytes, size_t length)
{
    if (c->out)
        memcpy(c->out + c->used, bytes, length);
    c->used += length;
}

static void put_text(struct composer *c, const char *text)
{
    put(c, text, strlen(text));
}

/* Puts `text` for the bytes [offset, offset + bytes) of the flag's own text, or as a new first member
 * where bytes is 0. */
struct splice {
    size_t offset, bytes;
    const char *key, *text;
};

static void put_flag(struct composer *c, const struct flagshm_flag *flag, const struct splice *splices,
                     size_t count)
{
    size_t at = 1, i;

    put_text(c, "{");
    for (i = 0; i < count; i++)
        if (splices[i].bytes == 0) {
            put_text(c, splices[i].key);
            put_text(c, splices[i].text);
            put_text(c, ", "); /* a sound flag is never empty */
        }
    for (i = 0; i < count; i++)
        if (splices[i].bytes > 0) {
            put(c, flag->text + at, splices[i].offset - at);
            put_text(c, splices[i].text);
            at = splices[i].offset + splices[i].bytes;
        }
    put(c, flag->text + at, flag->text_bytes - at);
}

static void put_choice(struct composer *c, const struct choice *choice)
{
    const struct flagshm_flag *flag = flag_of(choice);
    struct splice splices[2];
    size_t count = 0;
    char share[16];

    if (choice->is_disabled)
        splices[count++] = (struct splice){flag->enabled_offset - flag->offset, flag->enabled_bytes,
                                           "\"enabled\": ", "false"};
    if (choice->is_lowered)
        splices[count++] = (struct splice){flag->rollout_offset - flag->offset, flag->rollout_bytes,
                                           "\"rollout_pct\": ", flagshm_mpct_to_text(choice->mpct, share)};
    if (count == 2 && splices[0].bytes > 0 && splices[1].bytes > 0 && splices[0].offset > splices[1].offset) {
        struct splice first = splices[1];

        splices[1] = splices[0];
        splices[0] = first;
    }
    put_flag(c, flag, splices, count);
}

static void put_head(struct composer *c, const struct merging *m)
{
    const struct flagshm_flagfile *defaults = m->file->defaults_broken ? m->old : m->file;
    size_t i;

    put_text(c, "{\"version\": 1,\n");
    if (m->out->deletions_held) {
        put_text(c, "\"$comment\": \"" FLAGSHM_HELD_COMMENT);
        for (i = 0; i < m->count; i++)
            if (m->choices[i].is_held) {
                put(c, flag_of(&m->choices[i])->name, flag_of(&m->choices[i])->name_bytes);
                put_text(c, " ");
            }
        put_text(c, "\",\n");
    }
    if (defaults && defaults->defaults_text) {
        put_text(c, "\"defaults\": ");
        put(c, defaults->defaults_text, defaults->defaults_bytes);
        put_text(c, ",\n");
    }
    put_text(c, "\"flags\": {");
}

static void compose(struct composer *c, const struct merging *m)
{
    const char *separator = "\n\"";
    size_t i;

    put_head(c, m);
    for (i = 0; i < m->count; i++) {
        const struct choice *choice = &m->choices[i];

        if (!choice->accepted && !choice->kept)
            continue;
        put_text(c, separator);
        separator = ",\n\"";
        put(c, flag_of(choice)->name, flag_of(choice)->name_bytes);
        put_text(c, "\": ");
        put_choice(c, choice);
    }
    put_text(c, "\n}}\n");
}

/* Reads the composed text. That it is sound is this module's own promise. */
static int read_back(struct merging *m, const struct flagshm_flagfile_options *options)
{
    struct composer c = {NULL, 0};
    struct flagshm_diags diags = {0};
    size_t bytes;
    int error;

    compose(&c, m);
    bytes = c.used;
    if (bytes > FLAGSHM_FILE_MAX)
        return -EFBIG;
    c = (struct composer){flagshm_arena_take(&m->scratch, bytes), 0};
    if (!c.out)
        return -ENOMEM;
    compose(&c, m);
    error = flagshm_flagfile_parse(&m->out->good, c.out, bytes, options, &diags);
    assert(error || (diags.errors == 0 && m->out->good.is_usable));
    flagshm_diags_free(&diags);
    return error;
}

static void count_choices(struct merging *m)
{
    size_t i;

    for (i = 0; i < m->count; i++) {
        const struct choice *choice = &m->choices[i];

        m->out->kept += choice->kept && !choice->is_held;
        m->out->absent += !choice->kept && !choice->accepted;
        m->out->lowered += choice->is_disabled || choice->is_lowered;
    }
}

/* Most edits: all is good, and the flags are those of before, in their order. */
static bool has_same_names(const struct flagshm_flagfile *old, const struct flagshm_flagfile *file)
{
    size_t i;

    if (!old || old->count != file->count || old->errors > 0)
        return false;
    for (i = 0; i < file->count; i++) {
        const struct flagshm_flag *a = &old->entries[i].flag, *b = &file->entries[i].flag;

        if (a->name != b->name && strcmp(a->name, b->name) != 0)
            return false;
    }
    return true;
}

/* Wholly good: the file is the good set. */
static int take_over(struct merging *m)
{
    m->out->good = *m->file;
    memset(&m->file->arena, 0, sizeof m->file->arena);
    m->file->base = NULL;
    return 0;
}

static int merge(struct merging *m, bool accept, const struct flagshm_flagfile_options *options)
{
    int error;

    if (m->file->errors == 0 && has_same_names(m->old, m->file))
        return take_over(m);
    if (!make_tables(m))
        return -ENOMEM;
    choose(m);
    hold_deletions(m, accept);
    if (m->file->errors == 0 && !m->out->deletions_held)
        return take_over(m);
    error = settle_salts(m);
    if (error)
        return error;
    leave_out_what_is_too_much(m);
    count_choices(m);
    return read_back(m, options);
}

int flagshm_lastgood_merge(const struct flagshm_flagfile *old, struct flagshm_flagfile *file,
                           bool accept_deletions, const struct flagshm_flagfile_options *options,
                           struct flagshm_merge *out)
{
    struct merging m = {.old = old, .file = file, .out = out};
    int error;

    memset(out, 0, sizeof *out);
    if (!file->is_usable) {
        out->changed_nothing = true;
        return 0;
    }
    m.max_flags = options && options->max_flags > 0 ? options->max_flags : FLAGSHM_FLAGS_DEFAULT;
    error = merge(&m, accept_deletions, options);
    flagshm_arena_free(&m.scratch);
    return error;
}
