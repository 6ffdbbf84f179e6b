/* edit, the pure part: see the header. The flag-file reader says where the number stands; the new text is read by it again before
 * anybody may write it, so that an edit can never make a file worse. */
#include "tools/edit_internal.h"

#include "server/json_scan.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many flags a server takes is its own matter; a tool that edits a sound file does not say it twice. */
static const struct flagshm_flagfile_options any_number = {.max_flags = 4u * 1000 * 1000};

/* ---- what is wrong, in a sentence ---- */

/* Does the fault stand in that flag's entry? A flag's name needs no escape in a JSON pointer. */
static bool is_in_flag(const struct flagshm_diag *diag, const char *flag)
{
    size_t bytes = strlen(flag);

    return diag->pointer && strncmp(diag->pointer, "/flags/", 7) == 0 &&
           strncmp(diag->pointer + 7, flag, bytes) == 0 &&
           (diag->pointer[7 + bytes] == '\0' || diag->pointer[7 + bytes] == '/');
}

void flagshm_edit_tell_fault(const struct flagshm_diags *diags, const char *flag, const char *text,
                             size_t bytes, char *out, size_t size)
{
    const struct flagshm_diag *first = NULL;
    size_t i, line, column;

    for (i = 0; i < diags->count; i++) {
        const struct flagshm_diag *diag = &diags->items[i];

        if (diag->severity != FLAGSHM_DIAG_ERROR)
            continue;
        if (flag && is_in_flag(diag, flag)) {
            first = diag;
            break;
        }
        if (!first)
            first = diag;
    }
    if (!first) {
        snprintf(out, size, "it has errors");
        return;
    }
    flagshm_diag_place(text, bytes, first->offset, &line, &column);
    snprintf(out, size, "line %zu, column %zu: %s", line, column, first->message ? first->message : "error");
}

static int no_such_flag(const struct flagshm_flagfile *file, const char *flag, struct flagshm_error *error)
{
    const char **names = calloc(file->count + 1, sizeof *names), *meant = NULL;
    size_t i;

    if (names) {
        for (i = 0; i < file->count; i++)
            names[i] = file->entries[i].flag.name;
        meant = flagshm_did_you_mean(flag, strlen(flag), names);
    }
    if (meant)
        flagshm_error_set(error, 0, "no flag \"%s\" in the file (did you mean \"%s\"?)", flag, meant);
    else
        flagshm_error_set(error, 0, "no flag \"%s\" in the file", flag);
    free(names);
    return -ENOENT;
}

/* ---- may one text take another's place ---- */

static int compare(const struct flagshm_flagfile *before, const struct flagshm_flagfile *after,
                   const struct flagshm_diags *diags, const char *text, size_t bytes,
                   struct flagshm_error *error)
{
    char fault[512];
    size_t i;

    if (!after->is_usable) {
        flagshm_edit_tell_fault(diags, NULL, text, bytes, fault, sizeof fault);
        return flagshm_error_set(error, -EINVAL, "the new text would be no usable flag file: %s", fault);
    }
    for (i = 0; i < after->count; i++) {
        const struct flagshm_flagfile_entry *entry = &after->entries[i], *old;

        if (!entry->broken)
            continue;
        old = before->is_usable ? flagshm_flagfile_find(before, entry->flag.name) : NULL;
        if (old && old->broken)
            continue;
        flagshm_edit_tell_fault(diags, entry->flag.name, text, bytes, fault, sizeof fault);
        return flagshm_error_set(error, -EINVAL, "it would break flag \"%s\": %s", entry->flag.name, fault);
    }
    if (after->errors > (before->is_usable ? before->errors : 0)) {
        flagshm_edit_tell_fault(diags, NULL, text, bytes, fault, sizeof fault);
        return flagshm_error_set(error, -EINVAL, "the new text would have errors that the file has not: %s",
                                 fault);
    }
    return 0;
}

int flagshm_edit_check(const char *before, size_t before_bytes, const char *after, size_t after_bytes,
                       struct flagshm_diags *diags, struct flagshm_error *error)
{
    struct flagshm_flagfile old = {0}, new = {0};
    struct flagshm_diags old_diags = {0};
    int result = flagshm_flagfile_parse(&old, before, before_bytes, &any_number, &old_diags);

    if (result == 0 || result == -EFBIG)
        result = flagshm_flagfile_parse(&new, after, after_bytes, &any_number, diags);
    if (result == -EFBIG)
        flagshm_error_set(error, 0, "the new text is larger than a flag file may be (%u MiB)",
                          FLAGSHM_FILE_MAX >> 20);
    else if (result != 0)
        flagshm_error_set(error, 0, "no memory to read the flag file");
    else
        result = compare(&old, &new, diags, after, after_bytes, error);
    flagshm_flagfile_free(&old);
    flagshm_flagfile_free(&new);
    flagshm_diags_free(&old_diags);
    return result == -EFBIG ? -EINVAL : result;
}

/* ---- the new text ---- */

char *flagshm_edit_splice(const char *text, size_t bytes, size_t at, size_t cut, const char *insert,
                          size_t length, size_t *new_bytes)
{
    char *out = malloc(bytes - cut + length + 1);

    if (!out)
        return NULL;
    memcpy(out, text, at);
    memcpy(out + at, insert, length);
    memcpy(out + at + length, text + at + cut, bytes - at - cut);
    *new_bytes = bytes - cut + length;
    out[*new_bytes] = '\0';
    return out;
}

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

size_t flagshm_edit_white_before(const char *text, size_t key)
{
    size_t from = key, at;

    while (from > 0 && is_white(text[from - 1]))
        from--;
    for (at = key; at > from; at--)
        if (text[at - 1] == '\n')
            return at - 1 > from && text[at - 2] == '\r' ? at - 2 : at - 1;
    return from;
}

/* A member behind the flag's last one, with the white space that stands before that one and around its colon. */
static char *insert_member(const struct flagshm_flagfile *file, const struct flagshm_flag *flag,
                           const char *number, size_t *new_bytes)
{
    const char *object = file->text + flag->offset;
    struct flagshm_arena scratch = {0};
    struct flagshm_json_places places = {0};
    struct flagshm_diags none = {0};
    char *insert = NULL, *out = NULL;

    if (flagshm_json_scan(object, flag->text_bytes, &scratch, &places, &none) && places.count > 1) {
        const struct flagshm_json_place *last;
        size_t at, white, key_end, room;

        for (at = 1; places.items[at].next < places.count; at = places.items[at].next)
            ;
        last = &places.items[at];
        white = flagshm_edit_white_before(object, last->key_offset);
        key_end = (size_t)last->key_offset + last->key_bytes;
        room = last->key_offset - white + (last->offset - key_end) + 64;
        insert = malloc(room);
        if (insert) {
            snprintf(insert, room, ",%.*s\"rollout_pct\"%.*s%s", (int)(last->key_offset - white),
                     object + white, (int)(last->offset - key_end), object + key_end, number);
            out = flagshm_edit_splice(file->text, file->text_bytes, flag->offset + last->offset + last->bytes,
                                      0, insert, strlen(insert), new_bytes);
        }
    }
    free(insert);
    flagshm_arena_free(&scratch);
    flagshm_diags_free(&none);
    return out;
}

int flagshm_edit_verify(struct flagshm_edit *edit, const struct flagshm_flagfile *before,
                        struct flagshm_flagfile *after, struct flagshm_error *error)
{
    struct flagshm_diags diags = {0};
    int result = flagshm_flagfile_parse(after, edit->text, edit->bytes, &any_number, &diags);

    if (result == -EFBIG)
        result = flagshm_error_set(error, -EINVAL, "the file would grow over %u MiB", FLAGSHM_FILE_MAX >> 20);
    else if (result != 0)
        flagshm_error_set(error, 0, "no memory to read the flag file");
    else
        result = compare(before, after, &diags, edit->text, edit->bytes, error);
    flagshm_diags_free(&edit->diags);
    edit->diags = diags;
    return result;
}

static int write_share(struct flagshm_edit *edit, const struct flagshm_flagfile *file,
                       const struct flagshm_flag *flag, uint32_t mpct, struct flagshm_error *error)
{
    struct flagshm_flagfile after = {0};
    char number[16];
    int result;

    edit->is_planned = flag->has_rollout;
    edit->is_enabled = flag->enabled;
    edit->old_mpct = flag->rollout_mpct;
    edit->is_same = flag->rollout_mpct == mpct;
    if (edit->is_same)
        return 0;
    flagshm_mpct_to_text(mpct, number);
    edit->text = flag->rollout_bytes != 0
                     ? flagshm_edit_splice(file->text, file->text_bytes, flag->rollout_offset,
                                           flag->rollout_bytes, number, strlen(number), &edit->bytes)
                     : insert_member(file, flag, number, &edit->bytes);
    if (!edit->text)
        return flagshm_error_set(error, -ENOMEM, "no memory for the new text");
    result = flagshm_edit_verify(edit, file, &after, error);
    if (result == 0) {
        const struct flagshm_flagfile_entry *entry = flagshm_flagfile_find(&after, flag->name);

        assert(entry && !entry->broken && entry->flag.rollout_mpct == mpct);
        (void)entry;
    }
    flagshm_flagfile_free(&after);
    if (result != 0) {
        free(edit->text);
        edit->text = NULL;
    }
    return result;
}

int flagshm_edit_parse(struct flagshm_edit *edit, struct flagshm_flagfile *file, const char *text,
                       size_t bytes, struct flagshm_error *error)
{
    char fault[512];
    int result = flagshm_flagfile_parse(file, text, bytes, &any_number, &edit->diags);

    if (result == -ENOMEM)
        return flagshm_error_set(error, result, "no memory to read the flag file");
    if (result == 0 && file->is_usable)
        return 0;
    flagshm_edit_tell_fault(&edit->diags, NULL, text, bytes, fault, sizeof fault);
    return flagshm_error_set(error, -EBADMSG, "the file is broken, mend it first: %s", fault);
}

int flagshm_edit_find(struct flagshm_edit *edit, struct flagshm_flagfile *file, const char *text,
                      size_t bytes, const char *flag, const struct flagshm_flagfile_entry **entry,
                      struct flagshm_error *error)
{
    char fault[512];
    int result = flagshm_edit_parse(edit, file, text, bytes, error);

    if (result != 0)
        return result;
    if (!(*entry = flagshm_flagfile_find(file, flag)))
        return no_such_flag(file, flag, error);
    if (!(*entry)->broken)
        return 0;
    flagshm_edit_tell_fault(&edit->diags, flag, text, bytes, fault, sizeof fault);
    return flagshm_error_set(error, -EBADMSG, "flag \"%s\" is broken in the file, mend it first: %s", flag,
                             fault);
}

int flagshm_edit_share(struct flagshm_edit *edit, const char *text, size_t bytes, const char *flag,
                       uint32_t mpct, struct flagshm_error *error)
{
    struct flagshm_flagfile file = {0};
    const struct flagshm_flagfile_entry *entry;
    int result;

    *edit = (struct flagshm_edit){.text = NULL};
    result = flagshm_edit_find(edit, &file, text, bytes, flag, &entry, error);
    if (result == 0)
        result = write_share(edit, &file, &entry->flag, mpct, error);
    flagshm_flagfile_free(&file);
    return result;
}

void flagshm_edit_free(struct flagshm_edit *edit)
{
    free(edit->text);
    flagshm_diags_free(&edit->diags);
    *edit = (struct flagshm_edit){.text = NULL};
}
