/* revision: see the header. The texts are compared as trees of places, so that values show as they were written. */
#include "tools/revision.h"
#include "server/flagfile.h"
#include "server/json_scan.h"
#include "server/name_set.h"

#include <stdlib.h>
#include <string.h>

uint64_t flagctl_revision(const struct flagctl *ctl, const char *text)
{
    double number;

    if (flagctl_number(text, 1, 9007199254740992.0, &number) && number == (double)(uint64_t)number)
        return (uint64_t)number;
    (void)flagctl_fail(ctl, FLAGCTL_USAGE,
                       "a file revision is a whole number (see flagctl history), got \"%.100s\"", text);
    return 0;
}

char *flagctl_revision_text(struct flagctl *ctl, uint64_t file_rev, int *code)
{
    cJSON *request = cJSON_CreateObject(), *answer = NULL;
    const char *text;
    char *out = NULL;

    flagctl_json_u64(request, "file_rev", file_rev);
    *code = flagctl_ask(ctl, "show", request, false, &answer);
    if (*code != FLAGCTL_OK)
        return NULL;
    text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "text"));
    if (text != NULL)
        out = strdup(text);
    if (out == NULL)
        *code = flagctl_fail(ctl, FLAGCTL_FAILED, "the server's answer has no text");
    cJSON_Delete(answer);
    return out;
}

/* ---- differences ---- */

struct tree {
    const char *text;
    struct flagshm_json_places places;
};

struct comparing {
    struct tree old, new_;
    struct flagshm_arena arena;
    bool no_memory;
    void (*each)(void *context, const struct flagctl_difference *difference);
    void *context;
};

/* Where a comparison stands: the flag, and the path in it. */
struct at {
    const char *flag, *path;
    int depth; /* 0: the file, 1: "flags", 2: a flag, 3 and more: inside */
};

#define NONE UINT32_MAX

static bool is_object(const struct tree *t, uint32_t at)
{
    return at != NONE && t->text[t->places.items[at].offset] == '{';
}

/* The key's text, decoded. */
static const char *key_of(struct comparing *c, const struct tree *t, uint32_t at)
{
    const struct flagshm_json_place *place = &t->places.items[at];
    char *out = flagshm_arena_take(&c->arena, place->key_bytes);
    size_t bytes;

    if (out == NULL) {
        c->no_memory = true;
        return "";
    }
    bytes = flagshm_json_unescape(t->text + place->key_offset + 1, place->key_bytes - 2u, out);
    out[bytes] = '\0';
    return out;
}

/* The members of an object, by place and by name. A key that stands twice counts where it stands first. */
struct members {
    uint32_t *places;
    const char **keys;
    uint32_t count;
    struct flagshm_name_set names;
};

static bool collect(struct comparing *c, const struct tree *t, uint32_t object, struct members *m)
{
    uint32_t at, end = t->places.items[object].next;

    m->count = 0;
    for (at = object + 1; at < end; at = t->places.items[at].next)
        m->count++;
    m->places = flagshm_arena_take(&c->arena, (m->count + 1u) * sizeof *m->places);
    m->keys = flagshm_arena_take(&c->arena, (m->count + 1u) * sizeof *m->keys);
    if (m->places == NULL || m->keys == NULL || !flagshm_name_set_make(&m->names, m->count, &c->arena)) {
        c->no_memory = true;
        return false;
    }
    m->count = 0;
    for (at = object + 1; at < end; at = t->places.items[at].next) {
        const char *key = key_of(c, t, at);
        uint32_t number = m->count;

        if (!flagshm_name_set_add(&m->names, key, strlen(key), &number))
            continue;
        m->places[m->count] = at;
        m->keys[m->count++] = key;
    }
    return !c->no_memory;
}

static uint32_t find_key(const struct members *m, const char *key)
{
    uint32_t number;

    return flagshm_name_set_find(&m->names, key, strlen(key), &number) ? m->places[number] : NONE;
}

static const char *value_of(struct comparing *c, const struct tree *t, uint32_t at)
{
    const struct flagshm_json_place *place;
    char *out;

    if (at == NONE)
        return NULL;
    place = &t->places.items[at];
    out = flagshm_arena_take(&c->arena, (size_t)place->bytes + 1);
    if (out == NULL) {
        c->no_memory = true;
        return "";
    }
    out[flagshm_json_compact(t->text + place->offset, place->bytes, out)] = '\0';
    return out;
}

/* Where a member of `at` stands. */
static struct at member(struct comparing *c, struct at at, const char *key)
{
    struct at in = {.flag = at.flag, .depth = at.depth + 1};
    size_t bytes = strlen(at.path) + strlen(key) + 2;
    char *path;

    if (at.depth == 0 && strcmp(key, "flags") != 0)
        in.depth = 3;
    if (at.depth == 1) {
        in.flag = key;
        in.path = "";
        return in;
    }
    path = flagshm_arena_take(&c->arena, bytes);
    if (path == NULL) {
        c->no_memory = true;
        in.path = "";
        return in;
    }
    if (in.depth == 1)
        path[0] = '\0';
    else
        (void)snprintf(path, bytes, "%s%s%s", at.path, at.path[0] != '\0' ? "." : "", key);
    in.path = path;
    return in;
}

static void compare(struct comparing *c, uint32_t old, uint32_t new_, struct at at);

static void compare_objects(struct comparing *c, uint32_t old, uint32_t new_, struct at at)
{
    struct members before, after;
    uint32_t i;

    if (!collect(c, &c->old, old, &before) || !collect(c, &c->new_, new_, &after))
        return;
    for (i = 0; i < before.count; i++)
        compare(c, before.places[i], find_key(&after, before.keys[i]), member(c, at, before.keys[i]));
    for (i = 0; i < after.count; i++)
        if (find_key(&before, after.keys[i]) == NONE)
            compare(c, NONE, after.places[i], member(c, at, after.keys[i]));
}

static void compare(struct comparing *c, uint32_t old, uint32_t new_, struct at at)
{
    const char *old_value, *new_value;

    if (c->no_memory)
        return;
    if (is_object(&c->old, old) && is_object(&c->new_, new_)) {
        compare_objects(c, old, new_, at);
        return;
    }
    old_value = value_of(c, &c->old, old);
    new_value = value_of(c, &c->new_, new_);
    if (!c->no_memory && (old_value == NULL || new_value == NULL || strcmp(old_value, new_value) != 0))
        c->each(c->context, &(struct flagctl_difference){at.flag, at.path, old_value, new_value});
}

static bool scan(struct comparing *c, struct tree *t, const char *text, size_t bytes)
{
    struct flagshm_diags diags = {0};

    t->text = text;
    (void)flagshm_json_scan(text, bytes, &c->arena, &t->places, &diags);
    flagshm_diags_free(&diags);
    return t->places.is_whole && t->places.count > 0;
}

bool flagctl_differences(const char *old, size_t old_bytes, const char *new_, size_t new_bytes,
                         void (*each)(void *context, const struct flagctl_difference *difference),
                         void *context)
{
    struct comparing c = {.each = each, .context = context};
    bool is_told = scan(&c, &c.old, old, old_bytes) && scan(&c, &c.new_, new_, new_bytes);

    if (is_told)
        compare(&c, 0, 0, (struct at){.path = ""});
    is_told = is_told && !c.no_memory;
    flagshm_arena_free(&c.arena);
    return is_told;
}

/* ---- shown ---- */

struct printing {
    struct flagctl *ctl;
    char flag[80];
    int count;
};

#define VALUE_SHOWN 91 /* bytes: beside a path and another value, two lines of a terminal */

/* A value on one line, cut where it is long. */
static const char *shorten(const char *value, char out[100])
{
    char clean[VALUE_SHOWN + 1];

    (void)snprintf(out, 100, "%s%s", flagctl_clean(value, clean, sizeof clean),
                   strlen(value) > VALUE_SHOWN ? "..." : "");
    return out;
}

static void print_one(void *context, const struct flagctl_difference *d)
{
    struct printing *p = context;
    const char *flag = d->flag != NULL ? d->flag : "(the file)";
    char old[100], new_[100], path[200], name[80];
    FILE *out = p->ctl->out;

    (void)flagctl_clean(flag, name, sizeof name);
    if (p->count++ == 0 || strcmp(name, p->flag) != 0) {
        (void)fprintf(out, "%s%s\n", name,
                      d->path[0] != '\0' || d->flag == NULL ? ""
                      : d->old == NULL                      ? " (new)"
                                                            : " (gone)");
        (void)snprintf(p->flag, sizeof p->flag, "%s", name);
    }
    (void)flagctl_clean(d->path[0] != '\0' ? d->path : "all of it", path, sizeof path);
    if (d->old == NULL)
        (void)fprintf(out, "  %s: + %s\n", path, shorten(d->new_, new_));
    else if (d->new_ == NULL)
        (void)fprintf(out, "  %s: - %s\n", path, shorten(d->old, old));
    else
        (void)fprintf(out, "  %s: %s -> %s\n", path, shorten(d->old, old), shorten(d->new_, new_));
}

int flagctl_differences_print(struct flagctl *ctl, const char *old, const char *new_)
{
    struct printing p = {.ctl = ctl};

    return flagctl_differences(old, strlen(old), new_, strlen(new_), print_one, &p) ? p.count : -1;
}

static void list_one(void *context, const struct flagctl_difference *d)
{
    cJSON *item = cJSON_CreateObject();

    if (d->flag != NULL)
        (void)cJSON_AddStringToObject(item, "flag", d->flag);
    else
        (void)cJSON_AddNullToObject(item, "flag");
    (void)cJSON_AddStringToObject(item, "path", d->path);
    (void)cJSON_AddRawToObject(item, "old", d->old != NULL ? d->old : "null");
    (void)cJSON_AddRawToObject(item, "new", d->new_ != NULL ? d->new_ : "null");
    (void)cJSON_AddItemToArray(context, item);
}

cJSON *flagctl_differences_json(const char *old, const char *new_)
{
    cJSON *list = cJSON_CreateArray();

    if (flagctl_differences(old, strlen(old), new_, strlen(new_), list_one, list))
        return list;
    cJSON_Delete(list);
    return NULL;
}
