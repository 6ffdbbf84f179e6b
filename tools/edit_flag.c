/* edit, the pure part of the edits of whole flags: a finished roll-out, a new flag. As edit.c: the reader of flag files says where things
 * stand, and reads the new text again before anybody may write it.
 */
#include "tools/edit_internal.h"

#include "server/json_scan.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- places ---- */

static size_t end_of(const struct flagshm_json_place *place)
{
    return (size_t)place->offset + place->bytes;
}

/* Is the member's key that word, however it is spelled? */
static bool has_key(const char *text, const struct flagshm_json_place *place, const char *word)
{
    char key[64];

    return place->key_bytes >= 2 && place->key_bytes <= sizeof key + 2 &&
           flagshm_json_unescape(text + place->key_offset + 1, place->key_bytes - 2, key) == strlen(word) &&
           memcmp(key, word, strlen(word)) == 0;
}

/* The member of the object at `parent` that has that key, and *before: the one before it, 0 where it is the first. 0: there is none. */
static size_t member(const char *text, const struct flagshm_json_places *places, size_t parent,
                     const char *word, size_t *before)
{
    size_t at;

    *before = 0;
    for (at = parent + 1; at < places->items[parent].next; at = places->items[at].next) {
        if (has_key(text, &places->items[at], word))
            return at;
        *before = at;
    }
    return 0;
}

/* ---- finish ---- */

struct cut { /* bytes of the flag's object that are replaced */
    size_t at, bytes, insert_bytes;
    const char *insert;
};

/* Cuts a member out, with the comma that parted it from its neighbour. */
static struct cut cut_member(const struct flagshm_json_places *places, size_t at, size_t before)
{
    const struct flagshm_json_place *place = &places->items[at];
    size_t from = before != 0 ? end_of(&places->items[before]) : place->key_offset,
           to = before != 0 ? end_of(place) : places->items[place->next].key_offset;

    return (struct cut){.at = from, .bytes = to - from, .insert = ""};
}

/* The place of the lone variant's value. */
static size_t variant_at(const char *text, const struct flagshm_json_places *places)
{
    size_t before, at = member(text, places, 0, "variant", &before), arm;

    if (at != 0)
        return at;
    at = member(text, places, 0, "variants", &before);
    for (arm = at + 1; at != 0 && arm < places->items[at].next; arm = places->items[arm].next)
        if (!has_key(text, &places->items[arm], "$comment"))
            return member(text, places, arm, "value", &before);
    return 0;
}

/* What changes in the flag's object, in the order of places. Returns how many. */
static size_t find_cuts(const char *text, const struct flagshm_json_places *places, struct cut cuts[3])
{
    size_t count = 0, before = 0, at, variant = variant_at(text, places);

    for (at = 1; at < places->items[0].next; before = at, at = places->items[at].next) {
        const struct flagshm_json_place *place = &places->items[at];

        if (has_key(text, place, "control"))
            cuts[count++] = (struct cut){.at = place->offset,
                                         .bytes = place->bytes,
                                         .insert = text + places->items[variant].offset,
                                         .insert_bytes = places->items[variant].bytes};
        else if (has_key(text, place, "rollout_pct"))
            cuts[count++] =
                (struct cut){.at = place->offset, .bytes = place->bytes, .insert = "0", .insert_bytes = 1};
        else if (has_key(text, place, "rollout"))
            cuts[count++] = cut_member(places, at, before);
    }
    return count;
}

/* The whole file with the flag's cuts made; NULL: no memory. */
static char *make_cuts(const struct flagshm_flagfile *file, const struct flagshm_flag *flag, size_t *bytes)
{
    const char *object = file->text + flag->offset;
    struct flagshm_arena scratch = {0};
    struct flagshm_json_places places = {0};
    struct flagshm_diags none = {0};
    struct cut cuts[3];
    char *text = NULL, *next;
    size_t count = 0;

    *bytes = file->text_bytes;
    if (flagshm_json_scan(object, flag->text_bytes, &scratch, &places, &none)) {
        count = find_cuts(object, &places, cuts);
        text = flagshm_edit_splice(file->text, file->text_bytes, 0, 0, "", 0, bytes);
    }
    while (text && count > 0) { /* from the last: what stands before it does not move */
        const struct cut *cut = &cuts[--count];

        next = flagshm_edit_splice(text, *bytes, flag->offset + cut->at, cut->bytes, cut->insert,
                                   cut->insert_bytes, bytes);
        free(text);
        text = next;
    }
    flagshm_arena_free(&scratch);
    flagshm_diags_free(&none);
    return text;
}

static int finish(struct flagshm_edit *edit, const struct flagshm_flagfile *file,
                  const struct flagshm_flag *flag, struct flagshm_error *error)
{
    struct flagshm_flagfile after = {0};
    int result;
    uint32_t i;

    edit->is_planned = flag->has_rollout;
    edit->is_enabled = flag->enabled;
    edit->old_mpct = flag->rollout_mpct;
    if (flag->arm_count != 2)
        return flagshm_error_set(error, -EPERM,
                                 "\"%s\" has several variants: which of them everyone gets from now on, a "
                                 "person writes into the file",
                                 flag->name);
    if (!flag->enabled)
        return flagshm_error_set(
            error, -EPERM,
            "\"%s\" is disabled in the file, so everyone has control: there is nothing to finish",
            flag->name);
    edit->variant_fingerprint = flag->arms[1].fingerprint;
    for (i = 0; i < flag->force_count; i++)
        edit->forced_control += flag->force[i].arm == 0;
    edit->is_same = !flag->has_rollout && flag->rollout_mpct == 0 &&
                    flag->arms[0].fingerprint == flag->arms[1].fingerprint;
    if (edit->is_same)
        return 0;
    if (!(edit->text = make_cuts(file, flag, &edit->bytes)))
        return flagshm_error_set(error, -ENOMEM, "no memory for the new text");
    result = flagshm_edit_verify(edit, file, &after, error);
    if (result == 0) {
        const struct flagshm_flagfile_entry *entry = flagshm_flagfile_find(&after, flag->name);

        assert(entry && !entry->broken && !entry->flag.has_rollout && entry->flag.rollout_mpct == 0 &&
               entry->flag.arms[0].fingerprint == edit->variant_fingerprint &&
               entry->flag.arms[1].fingerprint == edit->variant_fingerprint);
        (void)entry;
    }
    flagshm_flagfile_free(&after);
    return result;
}

static int conclude(struct flagshm_edit *edit, int result)
{
    if (result != 0) {
        free(edit->text);
        edit->text = NULL;
    }
    return result;
}

int flagshm_edit_finish(struct flagshm_edit *edit, const char *text, size_t bytes, const char *flag,
                        struct flagshm_error *error)
{
    struct flagshm_flagfile file = {0};
    const struct flagshm_flagfile_entry *entry;
    int result;

    *edit = (struct flagshm_edit){.text = NULL};
    result = flagshm_edit_find(edit, &file, text, bytes, flag, &entry, error);
    if (result == 0)
        result = finish(edit, &file, &entry->flag, error);
    flagshm_flagfile_free(&file);
    return conclude(edit, result);
}

/* ---- a new flag: its layout ---- */

struct slice {
    const char *at;
    size_t bytes;
};

struct layout {                /* white space, copied from what stands there */
    struct slice before;       /* the flag's key */
    struct slice colon, inner; /* with the colon: behind the flag's key, behind those of its members */
    struct slice open, between,
        close;           /* before the first member of the flag's object, each other one, its brace */
    struct slice end;    /* before the brace of "flags", where that was empty */
    char deeper[3][256]; /* what is not there to be copied */
};

static struct slice slice(const char *text, size_t from, size_t to)
{
    return (struct slice){text + from, to - from};
}

static bool has_line(struct slice white)
{
    return memchr(white.at, '\n', white.bytes) != NULL;
}

/* Like the members of an object that stands there. */
static void copy_object(struct layout *layout, const char *text, const struct flagshm_json_places *places,
                        size_t object)
{
    size_t first = object + 1, second = places->items[first].next, brace = end_of(&places->items[object]) - 1,
           key = places->items[first].key_offset;

    layout->open = slice(text, flagshm_edit_white_before(text, key), key);
    layout->between = layout->open.bytes > 0 ? layout->open : (struct slice){" ", 1};
    if (second < places->items[object].next) {
        key = places->items[second].key_offset;
        layout->between = slice(text, flagshm_edit_white_before(text, key), key);
    }
    layout->inner = slice(text, (size_t)places->items[first].key_offset + places->items[first].key_bytes,
                          places->items[first].offset);
    layout->close = slice(text, flagshm_edit_white_before(text, brace), brace);
}

/* Like the last flag. */
static void copy_flag(struct layout *layout, const char *text, const struct flagshm_json_places *places,
                      size_t last)
{
    const struct flagshm_json_place *place = &places->items[last];

    layout->before = slice(text, flagshm_edit_white_before(text, place->key_offset), place->key_offset);
    layout->colon = layout->inner = slice(text, (size_t)place->key_offset + place->key_bytes, place->offset);
    layout->open = layout->close = (struct slice){"", 0};
    layout->between = (struct slice){" ", layout->colon.bytes > 1};
    if (text[place->offset] == '{' && places->items[last].next > last + 1)
        copy_object(layout, text, places, last);
}

/* `times` times the indentation of one level behind its line break. */
static struct slice deepen(struct layout *layout, size_t at, struct slice level, size_t times)
{
    const char *line = memchr(level.at, '\n', level.bytes);
    size_t head = (size_t)(line - level.at) + 1, tail = level.bytes - head, i, used = head;
    char *out = layout->deeper[at];

    if (head + times * tail > sizeof layout->deeper[0])
        times = 1;
    memcpy(out, level.at, head);
    for (i = 0; i < times; i++, used += tail)
        memcpy(out + used, line + 1, tail);
    return (struct slice){out, used};
}

/* There is no flag yet: as deep as the key "flags" stands, again. */
static void invent(struct layout *layout, const char *text, const struct flagshm_json_place *flags)
{
    struct slice level = slice(text, flagshm_edit_white_before(text, flags->key_offset), flags->key_offset);

    layout->colon = layout->inner = slice(text, (size_t)flags->key_offset + flags->key_bytes, flags->offset);
    layout->before = layout->open = layout->close = layout->end = (struct slice){"", 0};
    layout->between = (struct slice){" ", layout->colon.bytes > 1};
    if (!has_line(level) || level.bytes > sizeof layout->deeper[0])
        return;
    layout->end = level;
    layout->before = layout->close = deepen(layout, 0, level, 2);
    layout->open = layout->between = deepen(layout, 1, level, 3);
}

/* ---- a new flag: its text ---- */

static cJSON *plan_json(const struct flagshm_edit_flag *flag)
{
    static const char *const shares[] = {"1", "5", "10", "25", "50", "75", "100"}; /* of both presets */
    cJSON *rollout = cJSON_CreateObject(), *plan, *step;
    char number[16];
    size_t i;

    if (flag->shadow_mpct == 0) {
        (void)cJSON_AddStringToObject(rollout, "plan", flag->plan);
        return rollout;
    }
    plan = cJSON_AddArrayToObject(rollout, "plan");
    step = cJSON_CreateObject();
    (void)cJSON_AddRawToObject(step, "shadow_pct", flagshm_mpct_to_text(flag->shadow_mpct, number));
    (void)cJSON_AddItemToArray(plan, step);
    for (i = 0; i < sizeof shares / sizeof *shares; i++) {
        step = cJSON_CreateObject();
        (void)cJSON_AddRawToObject(step, "pct", shares[i]);
        (void)cJSON_AddItemToArray(plan, step);
    }
    (void)cJSON_AddStringToObject(rollout, "hold", strcmp(flag->plan, "b2c") == 0 ? "2h" : "24h");
    return rollout;
}

static cJSON *flag_json(const struct flagshm_edit_flag *flag)
{
    cJSON *json = cJSON_CreateObject();

    if (flag->owner)
        (void)cJSON_AddStringToObject(json, "owner", flag->owner);
    if (flag->created)
        (void)cJSON_AddStringToObject(json, "created", flag->created);
    if (flag->expires)
        (void)cJSON_AddStringToObject(json, "expires", flag->expires);
    (void)cJSON_AddStringToObject(json, "control", flag->control);
    (void)cJSON_AddStringToObject(json, "variant", flag->variant);
    (void)cJSON_AddItemToObject(json, "rollout", plan_json(flag));
    (void)cJSON_AddStringToObject(json, "guardrails", "default");
    return json;
}

static void put(FILE *out, struct slice bytes)
{
    (void)fwrite(bytes.at, 1, bytes.bytes, out);
}

/* On one line, as widely spaced as the rest. */
static void put_value(FILE *out, const cJSON *value, bool is_wide)
{
    const cJSON *child = NULL;
    char *text;

    if (!cJSON_IsObject(value) && !cJSON_IsArray(value)) {
        text = cJSON_PrintUnformatted(value);
        (void)fputs(text ? text : "null", out);
        cJSON_free(text);
        return;
    }
    (void)fputc(cJSON_IsObject(value) ? '{' : '[', out);
    cJSON_ArrayForEach(child, value)
    {
        if (child != value->child)
            (void)fputs(is_wide ? ", " : ",", out);
        if (cJSON_IsObject(value))
            (void)fprintf(out, is_wide ? "\"%s\": " : "\"%s\":", child->string);
        put_value(out, child, is_wide);
    }
    (void)fputc(cJSON_IsObject(value) ? '}' : ']', out);
}

static char *entry_text(const struct layout *layout, const struct flagshm_edit_flag *flag, bool is_first,
                        size_t *bytes)
{
    cJSON *json = flag_json(flag);
    const cJSON *child = NULL;
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);

    if (out) {
        (void)fputs(is_first ? "" : ",", out);
        put(out, layout->before);
        (void)fprintf(out, "\"%s\"", flag->name);
        put(out, layout->colon);
        (void)fputc('{', out);
        cJSON_ArrayForEach(child, json)
        {
            (void)fputs(child == json->child ? "" : ",", out);
            put(out, child == json->child ? layout->open : layout->between);
            (void)fprintf(out, "\"%s\"", child->string);
            put(out, layout->inner);
            put_value(out, child, layout->inner.bytes > 1);
        }
        put(out, layout->close);
        (void)fputc('}', out);
        put(out, is_first ? layout->end : (struct slice){"", 0});
        if (fclose(out) != 0) {
            free(text);
            text = NULL;
        }
    }
    cJSON_Delete(json);
    return text;
}

/* The whole file with the flag in it; NULL: no memory. */
static char *insert_flag(const struct flagshm_flagfile *file, const struct flagshm_edit_flag *flag,
                         size_t *bytes)
{
    struct flagshm_arena scratch = {0};
    struct flagshm_json_places places = {0};
    struct flagshm_diags none = {0};
    struct layout layout;
    char *entry = NULL, *text = NULL;
    size_t flags = 0, before, last = 0, at, entry_bytes = 0;

    /* A text with duplicate keys is no sound one, but its places are. */
    (void)flagshm_json_scan(file->text, file->text_bytes, &scratch, &places, &none);
    if (places.is_whole && !places.is_out_of_memory)
        flags = member(file->text, &places, 0, "flags", &before);
    if (flags != 0) {
        for (at = flags + 1; at < places.items[flags].next; at = places.items[at].next)
            last = at;
        if (last != 0)
            copy_flag(&layout, file->text, &places, last);
        else
            invent(&layout, file->text, &places.items[flags]);
        entry = entry_text(&layout, flag, last == 0, &entry_bytes);
    }
    if (entry && last != 0)
        text = flagshm_edit_splice(file->text, file->text_bytes, end_of(&places.items[last]), 0, entry,
                                   entry_bytes, bytes);
    else if (entry) /* white space alone stands between the braces */
        text = flagshm_edit_splice(file->text, file->text_bytes, (size_t)places.items[flags].offset + 1,
                                   places.items[flags].bytes - 2, entry, entry_bytes, bytes);
    free(entry);
    flagshm_arena_free(&scratch);
    flagshm_diags_free(&none);
    return text;
}

/* The new flag by itself: so that a fault is told of it, and not of a place in a text that nobody has seen. */
static int check_alone(const struct flagshm_edit_flag *flag, struct flagshm_error *error)
{
    static const char empty[] = "{\"flags\": {}}";
    struct flagshm_flagfile file = {0}, alone = {0};
    struct flagshm_edit edit = {.text = NULL};
    int result = flagshm_edit_parse(&edit, &file, empty, sizeof empty - 1, error);
    size_t i;

    if (result == 0 && !(edit.text = insert_flag(&file, flag, &edit.bytes)))
        result = flagshm_error_set(error, -ENOMEM, "no memory for the new text");
    if (result == 0 && flagshm_edit_verify(&edit, &file, &alone, error) != 0) {
        result = -EDOM;
        for (i = 0; i < edit.diags.count; i++)
            if (edit.diags.items[i].severity == FLAGSHM_DIAG_ERROR && edit.diags.items[i].message) {
                flagshm_error_set(error, 0, "%s", edit.diags.items[i].message);
                break;
            }
    }
    flagshm_flagfile_free(&alone);
    flagshm_flagfile_free(&file);
    flagshm_edit_free(&edit);
    return result;
}

int flagshm_edit_add(struct flagshm_edit *edit, const char *text, size_t bytes,
                     const struct flagshm_edit_flag *flag, struct flagshm_error *error)
{
    struct flagshm_flagfile file = {0}, after = {0};
    int result;

    *edit = (struct flagshm_edit){.text = NULL};
    result = flagshm_edit_parse(edit, &file, text, bytes, error);
    if (result == 0 && flagshm_flagfile_find(&file, flag->name))
        result = flagshm_error_set(error, -EEXIST, "there is a flag \"%s\" already", flag->name);
    if (result == 0)
        result = check_alone(flag, error);
    if (result == 0 && !(edit->text = insert_flag(&file, flag, &edit->bytes)))
        result = flagshm_error_set(error, -ENOMEM, "no memory for the new text");
    if (result == 0)
        result = flagshm_edit_verify(edit, &file, &after, error);
    flagshm_flagfile_free(&after);
    flagshm_flagfile_free(&file);
    return conclude(edit, result);
}
