/* flagfile_edit: reads a file of which little has changed. See flagshm_flagfile_parse_edit.
 *
 * The members of "flags" are independent of each other: what one means does not hang on the text around
 * it. So those that stand in a good file byte for byte are cut out, with their commas, and only the rest
 * is read: as any file is. The argument that this loses nothing:
 * - all that stands before the first member is as it was in the good file, so the first cut is made where
 *   a member begins;
 * - behind a member that was cut out or kept, the walk goes on only over white space and one comma;
 * - a changed member is kept whole in the rest, where the strict scanner judges it. Where that finds it
 *   sound, it ends where the walk thought that it ends, for in sound text quotes and brackets alone tell
 *   that. Where not, the rest has a fault.
 * So the text is sound where the rest is, and what the rest means is what the text means without the
 * members that were cut out. What flags can only be together (their number, names, salts) is looked at for
 * all of them; the file's defaults, which their plans hang on, must be what they were. Any fault, even a warning, and anything that is not plain: the whole text is read, so that
 * faults are told in one way only. */
#include "server/flagfile_internal.h"
#include "server/json_scan_internal.h"

#include <stdlib.h>
#include <string.h>

#define CHANGED_MAX 64u /* members that are read anew; where more have changed, all are */
#define LOOK_AHEAD  8u  /* members in a row whose removal is followed */

struct flagshm_flagfile_base {
    size_t users;
    struct flagshm_arena arena; /* of the file that was read whole */
    const struct flagshm_flagfile_entry *entries;
    size_t count;
    const char *text;
    size_t bytes;
    const char *defaults_text;
    size_t defaults_bytes;
};

struct changed {
    const char *begin, *end; /* the member, in the text */
    size_t entry;            /* its number among all; NOBODY: a comment */
    size_t in_rest;
    bool is_in_place; /* stands where the base has one of its name: no other can have that */
};

#define NOBODY SIZE_MAX

struct edit {
    const struct flagshm_flagfile_base *base;
    const char *text, *end;
    struct flagshm_flagfile *file;
    struct flagshm_flagfile_entry *entries; /* in file->arena */
    size_t count;
    struct changed changed[CHANGED_MAX];
    size_t changed_count;
    const char *tail; /* what follows the last member */
    struct flagshm_arena scratch;
    char *rest;
    size_t rest_bytes, rest_tail;
};

/* ---- the base ---- */

void flagshm_flagfile_base_drop(struct flagshm_flagfile_base *base)
{
    if (base == NULL || --base->users > 0)
        return;
    flagshm_arena_free(&base->arena);
    free(base);
}

/* The file's own, or what it is itself from now on; NULL where it is not wholly good, or no memory. */
static struct flagshm_flagfile_base *base_of(struct flagshm_flagfile *before)
{
    struct flagshm_flagfile_base *base = before->base;

    if (base != NULL || !before->is_usable || before->errors > 0 || before->count == 0)
        return base;
    base = malloc(sizeof *base);
    if (base == NULL)
        return NULL;
    *base = (struct flagshm_flagfile_base){1,
                                           before->arena,
                                           before->entries,
                                           before->count,
                                           before->text,
                                           before->text_bytes,
                                           before->defaults_text,
                                           before->defaults_bytes};
    memset(&before->arena, 0, sizeof before->arena);
    before->base = base;
    return base;
}

/* ---- the walk ---- */

/* The byte behind the string at `at`, NULL where none ends. Any bytes may stand there. */
static const char *behind_string(const char *at, const char *end)
{
    for (at = flagshm_scan_plain(at + 1, end); at < end; at = flagshm_scan_plain(at, end)) {
        if (*at == '"')
            return at + 1;
        at += *at == '\\' ? 2 : 1;
    }
    return NULL;
}

static const char *behind_object(const char *at, const char *end)
{
    size_t depth = 0;

    while (at != NULL && at < end) {
        if (*at == '"') {
            at = behind_string(at, end);
            continue;
        }
        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        at++;
        if (depth == 0)
            return at;
    }
    return NULL;
}

/* The byte behind the member at `at`, NULL where it is none that may stand in "flags". */
static const char *behind_member(const char *at, const char *end, size_t *key_bytes)
{
    const char *behind = behind_string(at, end);

    if (behind == NULL)
        return NULL;
    *key_bytes = (size_t)(behind - at);
    at = flagshm_scan_solid(behind, end);
    if (at == end || *at != ':')
        return NULL;
    at = flagshm_scan_solid(at + 1, end);
    if (at < end && *at == '{')
        return behind_object(at, end);
    return at < end && *at == '"' ? behind_string(at, end) : NULL;
}

static size_t member_bytes(const struct flagshm_flagfile_entry *entry)
{
    return entry->flag.offset + entry->flag.text_bytes - entry->key_offset;
}

/* What must be told of it again is read anew. */
static bool may_be_taken(const struct flagshm_flagfile_entry *entry)
{
    return !entry->broken && !entry->is_held && !entry->is_warned;
}

/* The member at `at`, as it stands in the base at `from` or soon behind; or NULL. */
static const struct flagshm_flagfile_entry *find_same(const struct edit *e, const char *at, size_t *from)
{
    const struct flagshm_flagfile_base *base = e->base;
    size_t i;

    for (i = *from; i < base->count && i < *from + LOOK_AHEAD; i++) {
        const struct flagshm_flagfile_entry *entry = &base->entries[i];
        size_t bytes = member_bytes(entry);

        if ((size_t)(e->end - at) >= bytes && memcmp(at, base->text + entry->key_offset, bytes) == 0 &&
            may_be_taken(entry)) {
            *from = i + 1;
            return entry;
        }
    }
    return NULL;
}

static void move(struct flagshm_flagfile_entry *entry, const char *text, size_t key_offset)
{
    size_t by = key_offset - entry->key_offset; /* may wrap around, and comes back */
    struct flagshm_flag *flag = &entry->flag;

    entry->key_offset += by;
    flag->offset += by;
    flag->text = text + flag->offset;
    flag->rollout_offset += flag->rollout_bytes > 0 ? by : 0;
    flag->enabled_offset += flag->enabled_bytes > 0 ? by : 0;
}

static void take_same(struct edit *e, const struct flagshm_flagfile_entry *same, const char *at)
{
    struct flagshm_flagfile_entry *entry = &e->entries[e->count++];

    *entry = *same;
    move(entry, e->file->text, (size_t)(at - e->text));
}

static bool take_changed(struct edit *e, const char *at, const char **behind, size_t *from)
{
    static const char comment[] = "\"$comment\"";
    const struct flagshm_flagfile_base *base = e->base;
    struct changed *changed = &e->changed[e->changed_count];
    size_t key_bytes = 0;

    *behind = behind_member(at, e->end, &key_bytes);
    if (*behind == NULL || e->changed_count == CHANGED_MAX)
        return false;
    *changed = (struct changed){.begin = at, .end = *behind, .entry = NOBODY};
    e->changed_count++;
    if (key_bytes == sizeof comment - 1 && memcmp(at, comment, key_bytes) == 0)
        return true;
    changed->entry = e->count++;
    /* Its key ends in the only quote in it that counts: what begins alike is spelled alike. */
    changed->is_in_place = *from < base->count && key_bytes <= member_bytes(&base->entries[*from]) &&
                           memcmp(at, base->text + base->entries[*from].key_offset, key_bytes) == 0;
    *from += changed->is_in_place;
    return true;
}

static bool walk(struct edit *e)
{
    const char *at = e->text + e->base->entries[0].key_offset, *behind;
    const struct flagshm_flagfile_entry *same;
    size_t from = 0;

    for (;;) {
        if (e->count >= e->base->count + CHANGED_MAX || at == e->end || *at != '"')
            return false;
        same = find_same(e, at, &from);
        if (same != NULL) {
            take_same(e, same, at);
            behind = at + member_bytes(same);
        } else if (!take_changed(e, at, &behind, &from)) {
            return false;
        }
        at = flagshm_scan_solid(behind, e->end);
        if (at == e->end || *at != ',') {
            e->tail = behind;
            return true;
        }
        at = flagshm_scan_solid(at + 1, e->end);
    }
}

/* ---- the rest ---- */

static void put(struct edit *e, const char *begin, const char *end)
{
    memcpy(e->rest + e->rest_bytes, begin, (size_t)(end - begin));
    e->rest_bytes += (size_t)(end - begin);
}

/* False where nothing would be won, or no memory. */
static bool compose_rest(struct edit *e)
{
    const char *head_end = e->text + e->base->entries[0].key_offset;
    size_t bytes = (size_t)(head_end - e->text) + (size_t)(e->end - e->tail), i;

    for (i = 0; i < e->changed_count; i++)
        bytes += (size_t)(e->changed[i].end - e->changed[i].begin) + 1;
    if (bytes > (size_t)(e->end - e->text) / 2)
        return false;
    e->rest = flagshm_arena_take(&e->scratch, bytes);
    if (e->rest == NULL)
        return false;
    put(e, e->text, head_end);
    for (i = 0; i < e->changed_count; i++) {
        if (i > 0)
            put(e, ",", &","[1]);
        e->changed[i].in_rest = e->rest_bytes;
        put(e, e->changed[i].begin, e->changed[i].end);
    }
    e->rest_tail = e->rest_bytes;
    put(e, e->tail, e->end);
    return memmem(e->rest, e->rest_bytes, FLAGSHM_HELD_COMMENT, strlen(FLAGSHM_HELD_COMMENT)) == NULL;
}

/* No entry that was taken over has the name. */
static bool is_new_name(const struct edit *e, const struct changed *changed,
                        const struct flagshm_flagfile_entry *entry)
{
    size_t i;

    for (i = 0; !changed->is_in_place && i < e->count; i++)
        if (i != changed->entry && e->entries[i].flag.name_bytes == entry->flag.name_bytes &&
            memcmp(e->entries[i].flag.name, entry->flag.name, entry->flag.name_bytes) == 0)
            return false;
    return true;
}

/* Puts what was read of the rest to where it stands in the text. */
static bool take_rest(struct edit *e, const struct flagshm_flagfile *rest)
{
    size_t i, taken = 0;

    for (i = 0; i < e->changed_count; i++) /* so that names can be looked at */
        if (e->changed[i].entry != NOBODY)
            memset(&e->entries[e->changed[i].entry], 0, sizeof *e->entries);
    for (i = 0; i < e->changed_count; i++) {
        const struct changed *changed = &e->changed[i];
        const struct flagshm_flagfile_entry *entry = &rest->entries[taken];

        if (changed->entry == NOBODY)
            continue;
        if (taken++ == rest->count || entry->key_offset != changed->in_rest ||
            !is_new_name(e, changed, entry))
            return false;
        e->entries[changed->entry] = *entry;
        move(&e->entries[changed->entry], e->file->text, (size_t)(changed->begin - e->text));
    }
    return taken == rest->count;
}

static bool are_salts_own(struct edit *e)
{
    struct flagshm_name_set salts;
    uint32_t number = 0;
    size_t i;

    for (i = 0; i < e->count && e->entries[i].flag.salt == e->entries[i].flag.name;)
        i++;
    if (i == e->count)
        return true;
    if (!flagshm_name_set_make(&salts, e->count, &e->scratch))
        return false;
    for (i = 0; i < e->count; i++)
        if (flagshm_flag_is_partial(&e->entries[i].flag) &&
            !flagshm_name_set_add(&salts, e->entries[i].flag.salt, e->entries[i].flag.salt_bytes, &number))
            return false;
    return true;
}

/* ---- the whole ---- */

/* A flag's plan and guardrails hang on them: with others, no flag is what it was. */
static bool has_same_defaults(const struct edit *e, const struct flagshm_flagfile *rest)
{
    const struct flagshm_flagfile_base *base = e->base;

    if (rest->defaults_text == NULL || base->defaults_text == NULL)
        return rest->defaults_text == base->defaults_text;
    return rest->defaults_bytes == base->defaults_bytes &&
           memcmp(rest->defaults_text, base->defaults_text, base->defaults_bytes) == 0;
}

/* The rest is read into the file itself, so that what it keeps lies in the file's arena. */
static bool read_rest(struct edit *e)
{
    const struct flagshm_flagfile_options any_number = {.max_flags = SIZE_MAX};
    struct flagshm_flagfile rest;
    struct flagshm_diags diags = {0};
    bool is_good = flagshm_flagfile_parse(&rest, e->rest, e->rest_bytes, &any_number, &diags) == 0 &&
                   diags.errors == 0 && diags.warnings == 0 && rest.is_usable &&
                   has_same_defaults(e, &rest) && take_rest(e, &rest) && are_salts_own(e);

    flagshm_diags_free(&diags);
    if (!is_good) {
        flagshm_flagfile_free(&rest);
        return false;
    }
    if (rest.defaults_text != NULL) {
        size_t at = (size_t)(rest.defaults_text - rest.text);

        e->file->defaults_text = at < e->rest_tail
                                     ? e->file->text + at
                                     : e->file->text + (e->tail - e->text) + (at - e->rest_tail);
        e->file->defaults_bytes = rest.defaults_bytes;
    }
    flagshm_arena_join(&e->file->arena, &rest.arena);
    e->file->is_usable = true;
    return true;
}

static bool parse_edit(struct edit *e, const char *text, size_t length)
{
    struct flagshm_flagfile *file = e->file;
    const struct flagshm_flagfile_base *base = e->base;
    size_t head_bytes = base->entries[0].key_offset;

    if (length < head_bytes || length > FLAGSHM_FILE_MAX || memcmp(text, base->text, head_bytes) != 0)
        return false;
    file->text = flagshm_arena_copy(&file->arena, text, length);
    file->text_bytes = length;
    e->entries = flagshm_arena_take(&file->arena, (base->count + CHANGED_MAX) * sizeof *e->entries);
    if (file->text == NULL || e->entries == NULL)
        return false;
    e->text = file->text;
    e->end = e->text + length;
    if (!walk(e) || !compose_rest(e) || !read_rest(e))
        return false;
    file->entries = e->entries;
    file->count = e->count;
    return true;
}

int flagshm_flagfile_parse_edit(struct flagshm_flagfile *file, struct flagshm_flagfile *before,
                                const char *text, size_t length,
                                const struct flagshm_flagfile_options *options, struct flagshm_diags *diags)
{
    size_t max_flags = options && options->max_flags > 0 ? options->max_flags : FLAGSHM_FLAGS_DEFAULT;
    struct flagshm_flagfile_base *base = before ? base_of(before) : NULL;
    struct edit e = {.base = base, .file = file};
    bool is_read;

    memset(file, 0, sizeof *file);
    is_read = base && parse_edit(&e, text, length) && file->count <= max_flags;
    flagshm_arena_free(&e.scratch);
    if (!is_read) {
        flagshm_flagfile_free(file);
        return flagshm_flagfile_parse(file, text, length, options, diags);
    }
    base->users++;
    file->base = base;
    return 0;
}
