/* flagfile: the walk over a whole file: strict scan, cJSON, the top level, then flag by flag; and what
 * only the flags together can tell: names that stand twice, salts that are shared. */
#include "server/flagfile_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define CJSON_NUMBER_CHARS 63 /* cJSON gives up on longer numbers */

struct top {
    struct flagshm_spot flags, defaults, version;
    bool is_of_our_version;
};

/* ---- the top level ---- */

static void read_flags(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    ((struct top *)into)->flags = value;
    if (!cJSON_IsObject(value.node))
        flagshm_reader_mismatch(r, value, "flags", "an object");
}

static void read_default_rollout(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)into;
    r->default_rollout.is_default = true;
    flagshm_reader_rollout(r, value, &r->default_rollout);
}

static void read_default_guardrails(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)into;
    r->has_default_guards = true;
    flagshm_reader_guardrails(r, value, &r->default_guards);
}

static void read_defaults(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    static const struct flagshm_key keys[] = {
        {"rollout", read_default_rollout}, {"guardrails", read_default_guardrails}, {NULL, NULL}};
    size_t before = r->diags->errors;

    ((struct top *)into)->defaults = value;
    flagshm_reader_object(r, value, "defaults", keys, NULL);
    r->file->defaults_broken = r->file->defaults_broken || r->diags->errors != before;
}

static void read_version(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    struct top *top = into;

    if (flagshm_spot_bytes(r, value) == 1 && *flagshm_spot_text(r, value) == '1')
        return;
    top->is_of_our_version = false;
    flagshm_reader_mismatch(r, value, "version", "1 (the only one that this release knows)");
}

static void read_schema(struct flagshm_reader *r, struct flagshm_spot value, void *into)
{
    (void)into;
    flagshm_reader_string(r, value, "$schema", 0, SIZE_MAX, NULL, NULL);
}

static const struct flagshm_key top_keys[] = {
    {"flags", read_flags}, {"defaults", read_defaults}, {"version", read_version}, {"$schema", read_schema},
    {NULL, NULL},
};

/* ---- duplicate keys ---- */

/* True where a key stands twice somewhere inside the value; `*from` moves on over the list, which rises. */
static bool has_duplicate_inside(const struct flagshm_reader *r, struct flagshm_spot value, size_t *from)
{
    const struct flagshm_json_places *places = &r->places;

    while (*from < places->duplicate_count && places->duplicates[*from].again <= value.at)
        ++*from;
    return *from < places->duplicate_count && places->duplicates[*from].again < places->items[value.at].next;
}

/* One entry takes in another of the same name: it is broken, and says the lower of what both say. */
static void take_in(struct flagshm_flagfile_entry *entry, const struct flagshm_flagfile_entry *other)
{
    entry->says_disabled = entry->says_disabled || other->says_disabled;
    if (other->says_rollout && (!entry->says_rollout || other->says_rollout_mpct < entry->says_rollout_mpct))
        entry->says_rollout_mpct = other->says_rollout_mpct;
    entry->says_rollout = entry->says_rollout || other->says_rollout;
    flagshm_entry_break(entry);
}

/* Leaves one entry of each name; only called where some key stands twice. */
static void join_equal_names(struct flagshm_reader *r)
{
    struct flagshm_flagfile *file = r->file;
    struct flagshm_name_set names;
    size_t i, kept = 0;

    if (!flagshm_name_set_make(&names, file->count, &r->scratch)) {
        r->no_memory = true;
        return;
    }
    for (i = 0; i < file->count; i++) {
        uint32_t first = (uint32_t)kept;

        if (!flagshm_name_set_add(&names, file->entries[i].flag.name, file->entries[i].flag.name_bytes,
                                  &first))
            take_in(&file->entries[first], &file->entries[i]);
        else
            file->entries[kept++] = file->entries[i];
    }
    file->count = kept;
}

/* ---- shared salts ---- */

bool flagshm_flag_is_partial(const struct flagshm_flag *flag)
{
    if (flag->has_rollout) /* its share will lie between, whatever it is now */
        return flag->rollout_mpct > 0;
    return flag->rollout_mpct > 0 && flag->rollout_mpct < FLAGSHM_MPCT_FULL;
}

static bool has_own_salt(const struct flagshm_flagfile_entry *entry)
{
    return !entry->broken && entry->flag.salt != entry->flag.name;
}

/* The place of an entry's "salt", of its whole object where it has none. */
static struct flagshm_spot salt_of(const struct flagshm_reader *r, const struct flagshm_flag *flag)
{
    const struct flagshm_json_place *items = r->places.items;
    size_t low = 0, high = r->places.count, middle;
    uint32_t child;

    while (high - low > 1) { /* places rise */
        middle = low + (high - low) / 2;
        if (items[middle].offset <= flag->offset)
            low = middle;
        else
            high = middle;
    }
    for (child = (uint32_t)low + 1; child < items[low].next; child = items[child].next)
        if (items[child].key_bytes == 6 && memcmp(r->text + items[child].key_offset, "\"salt\"", 6) == 0)
            return (struct flagshm_spot){NULL, child};
    return (struct flagshm_spot){NULL, (uint32_t)low};
}

static void name_shared_salt(struct flagshm_reader *r, const struct flagshm_flag *first,
                             const struct flagshm_flag *later)
{
    size_t line = 0, column;

    if (r->diags->count < FLAGSHM_DIAG_MAX) /* it costs a look at all that stands before */
        flagshm_diag_place(r->text, r->file->text_bytes, first->offset, &line, &column);
    flagshm_reader_key_error(
        r, salt_of(r, later),
        "salt \"%s\" is that of flag \"%s\" (line %zu) too: two flags between 0 and 100 %% would "
        "share their users and their evidence",
        later->salt, first->name, line);
}

/* Names are unique, so nothing can be shared where no flag has a salt of its own. */
static void find_shared_salts(struct flagshm_reader *r)
{
    struct flagshm_flagfile *file = r->file;
    struct flagshm_name_set salts;
    size_t i;

    for (i = 0; i < file->count && !has_own_salt(&file->entries[i]);)
        i++;
    if (i == file->count)
        return;
    if (!flagshm_name_set_make(&salts, file->count, &r->scratch)) {
        r->no_memory = true;
        return;
    }
    for (i = 0; i < file->count; i++) {
        struct flagshm_flagfile_entry *entry = &file->entries[i];
        uint32_t first = (uint32_t)i;

        if (entry->broken || !flagshm_flag_is_partial(&entry->flag))
            continue;
        if (!flagshm_name_set_add(&salts, entry->flag.salt, entry->flag.salt_bytes, &first)) {
            name_shared_salt(r, &file->entries[first].flag, &entry->flag);
            flagshm_entry_break(entry);
        }
    }
}

/* ---- the whole ---- */

static size_t count_flags(const struct flagshm_reader *r, struct flagshm_spot flags)
{
    struct flagshm_spot spot;
    size_t count = 0;

    for (spot = flagshm_spot_child(r, flags); spot.node; spot = flagshm_spot_next(r, spot))
        count += strcmp(spot.node->string, "$comment") != 0;
    return count;
}

static void read_entries(struct flagshm_reader *r, struct flagshm_spot flags, size_t max_flags)
{
    struct flagshm_flagfile *file = r->file;
    struct flagshm_spot spot;
    size_t count = count_flags(r, flags), duplicate = 0;

    if (count > max_flags) { /* refused as a whole, before anything is set aside for them */
        flagshm_reader_key_error(r, flags, "the file has %zu flags, at most %zu are read (--max-flags)",
                                 count, max_flags);
        file->is_usable = false;
        return;
    }
    file->entries = flagshm_arena_take(&file->arena, count * sizeof *file->entries);
    r->no_memory = r->no_memory || !file->entries;
    for (spot = flagshm_spot_child(r, flags); spot.node && !r->no_memory; spot = flagshm_spot_next(r, spot)) {
        struct flagshm_flagfile_entry *entry = &file->entries[file->count];

        if (flagshm_reader_comment(r, spot))
            continue;
        memset(entry, 0, sizeof *entry);
        file->count++;
        flagshm_reader_flag(r, spot, entry);
        if (has_duplicate_inside(r, spot, &duplicate))
            flagshm_entry_break(entry);
    }
    if (r->places.duplicate_count > 0 && !r->no_memory)
        join_equal_names(r);
    if (!r->no_memory)
        find_shared_salts(r);
}

/* Marks the flags that a last good text names in its comment. */
static void read_held(struct flagshm_reader *r, struct flagshm_spot root)
{
    struct flagshm_flagfile *file = r->file;
    struct flagshm_name_set held;
    struct flagshm_spot spot = flagshm_spot_child(r, root);
    const char *names;
    uint32_t number = 0;
    size_t i, bytes;

    while (spot.node && !(strcmp(spot.node->string, "$comment") == 0 && cJSON_IsString(spot.node)))
        spot = flagshm_spot_next(r, spot);
    if (!spot.node ||
        strncmp(spot.node->valuestring, FLAGSHM_HELD_COMMENT, strlen(FLAGSHM_HELD_COMMENT)) != 0)
        return;
    names = spot.node->valuestring + strlen(FLAGSHM_HELD_COMMENT);
    if (!flagshm_name_set_make(&held, strlen(names) / 2 + 1, &r->scratch)) {
        r->no_memory = true;
        return;
    }
    for (; *names; names += bytes) {
        names += strspn(names, " ");
        bytes = strcspn(names, " ");
        if (bytes > 0)
            flagshm_name_set_add(&held, names, bytes, &number);
    }
    for (i = 0; i < file->count; i++)
        file->entries[i].is_held = flagshm_name_set_find(&held, file->entries[i].flag.name,
                                                         file->entries[i].flag.name_bytes, &number);
}

/* A second "flags" leaves no way to tell which is meant; a second "defaults" breaks them. */
static bool is_second(const struct flagshm_reader *r, struct flagshm_spot value)
{
    size_t i;

    for (i = 0; i < r->places.duplicate_count; i++)
        if (r->places.duplicates[i].again == value.at)
            return true;
    return false;
}

static void keep_defaults(struct flagshm_reader *r, struct flagshm_spot defaults)
{
    struct flagshm_flagfile *file = r->file;
    size_t duplicate = 0;

    if (is_second(r, defaults) || has_duplicate_inside(r, defaults, &duplicate))
        file->defaults_broken = true;
    if (file->defaults_broken) {
        memset(&r->default_rollout, 0, sizeof r->default_rollout);
        r->has_default_guards = false;
        return;
    }
    file->defaults_text = flagshm_spot_text(r, defaults);
    file->defaults_bytes = flagshm_spot_bytes(r, defaults);
}

static void read_root(struct flagshm_reader *r, struct flagshm_spot root, size_t max_flags)
{
    struct flagshm_flagfile *file = r->file;
    struct top top = {.is_of_our_version = true};

    flagshm_reader_object(r, root, "a flag file", top_keys, &top);
    if (!cJSON_IsObject(root.node))
        return;
    if (!top.flags.node)
        flagshm_reader_error(r, root, "\"flags\" is missing");
    if (top.defaults.node)
        keep_defaults(r, top.defaults);
    if (!top.flags.node || !cJSON_IsObject(top.flags.node))
        return;
    file->is_usable = top.is_of_our_version && !is_second(r, top.flags);
    read_entries(r, top.flags, max_flags);
    if (!r->no_memory)
        read_held(r, root);
}

/* A copy in which numbers that cJSON would not read are a 0 and blanks: their text counts, not cJSON's
 * value. */
static const char *without_long_numbers(struct flagshm_reader *r)
{
    char *copy = flagshm_arena_copy(&r->scratch, r->text, r->file->text_bytes);
    size_t i;

    for (i = 0; copy && i < r->places.count; i++) {
        const struct flagshm_json_place *place = &r->places.items[i];

        if (place->bytes > CJSON_NUMBER_CHARS && strchr("-0123456789", copy[place->offset]) != NULL) {
            memset(copy + place->offset, ' ', place->bytes);
            copy[place->offset] = '0';
        }
    }
    return copy;
}

/* The tree of a text that has passed the scan. NULL: no memory. */
static const cJSON *make_tree(struct flagshm_reader *r)
{
    const cJSON *root;
    const char *text;

    flagshm_arena_enter_cjson(&r->scratch);
    root = cJSON_ParseWithLength(r->text, r->file->text_bytes + 1);
    if (!root) {
        text = without_long_numbers(r);
        root = text ? cJSON_ParseWithLength(text, r->file->text_bytes + 1) : NULL;
    }
    flagshm_arena_leave_cjson();
    return root;
}

static int parse(struct flagshm_reader *r, size_t max_flags)
{
    struct flagshm_spot root = {NULL, 0};

    flagshm_json_scan(r->text, r->file->text_bytes, &r->scratch, &r->places, r->diags);
    if (r->places.is_out_of_memory)
        return -ENOMEM;
    if (!r->places.is_whole)
        return 0;
    root.node = make_tree(r);
    if (!root.node)
        return -ENOMEM;
    read_root(r, root, max_flags);
    return r->no_memory ? -ENOMEM : 0;
}

int flagshm_flagfile_parse(struct flagshm_flagfile *file, const char *text, size_t length,
                           const struct flagshm_flagfile_options *options, struct flagshm_diags *diags)
{
    struct flagshm_reader r = {.file = file, .diags = diags};
    size_t max_flags = options && options->max_flags > 0 ? options->max_flags : FLAGSHM_FLAGS_DEFAULT;
    size_t before = diags->errors;
    int error = 0;

    memset(file, 0, sizeof *file);
    if (length > FLAGSHM_FILE_MAX) {
        flagshm_diags_add(diags, FLAGSHM_DIAG_ERROR, 0, 1, "", "the file has %zu bytes, at most %u are read",
                          length, FLAGSHM_FILE_MAX);
        return -EFBIG;
    }
    file->text = flagshm_arena_copy(&file->arena, text, length);
    file->text_bytes = length;
    r.text = file->text;
    error = file->text ? parse(&r, max_flags) : -ENOMEM;
    flagshm_arena_free(&r.scratch);
    flagshm_diags_sort(diags);
    if (error)
        flagshm_flagfile_free(file);
    else
        file->errors = diags->errors - before;
    return error;
}

void flagshm_flagfile_free(struct flagshm_flagfile *file)
{
    flagshm_arena_free(&file->arena);
    flagshm_flagfile_base_drop(file->base);
    memset(file, 0, sizeof *file);
}

const struct flagshm_flagfile_entry *flagshm_flagfile_find(const struct flagshm_flagfile *file,
                                                           const char *name)
{
    size_t i;

    for (i = 0; i < file->count; i++)
        if (strcmp(file->entries[i].flag.name, name) == 0)
            return &file->entries[i];
    return NULL;
}
