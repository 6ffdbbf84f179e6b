/* flagshm_flagfile_parse_edit against flagshm_flagfile_parse: over thousands of random edits, of every
 * kind that a person, a tool or an accident makes, both must give the same flags, the same table and the
 * same faults. */
#include "server/plan.h"
#include "server/table.h"
#include "tests/flagfile_fixture.h"

#include <criterion/criterion.h>

#define ROOM (1u << 16)

static uint64_t state;

static uint32_t below(uint32_t bound)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % bound);
}

/* ---- the same ---- */

static void same_text(const char *a, const char *b)
{
    cr_assert((a == NULL) == (b == NULL));
    if (a != NULL)
        cr_assert_str_eq(a, b);
}

static void same_arms(const struct flagshm_flag *a, const struct flagshm_flag *b)
{
    uint32_t i;

    cr_assert_eq(a->arm_count, b->arm_count);
    for (i = 0; a->arms != NULL && i < a->arm_count; i++) {
        same_text(a->arms[i].name, b->arms[i].name);
        same_text(a->arms[i].model, b->arms[i].model);
        same_text(a->arms[i].value, b->arms[i].value);
        cr_assert_eq(a->arms[i].value_bytes, b->arms[i].value_bytes);
        cr_assert_eq(a->arms[i].value_hash, b->arms[i].value_hash);
        cr_assert_eq(a->arms[i].fingerprint, b->arms[i].fingerprint);
        cr_assert_eq(a->arms[i].weight, b->arms[i].weight);
    }
    cr_assert_eq(a->force_count, b->force_count);
    for (i = 0; i < a->force_count; i++) {
        same_text(a->force[i].id, b->force[i].id);
        cr_assert_eq(a->force[i].arm, b->force[i].arm);
    }
}

static void same_entry(const struct flagshm_flagfile *x, const struct flagshm_flagfile_entry *p,
                       const struct flagshm_flagfile *y, const struct flagshm_flagfile_entry *q)
{
    const struct flagshm_flag *a = &p->flag, *b = &q->flag;

    same_text(a->name, b->name);
    cr_assert_eq(a->name_bytes, b->name_bytes);
    cr_assert_eq(p->key_offset, q->key_offset);
    cr_assert_eq(a->offset, b->offset, "%s", a->name);
    cr_assert_eq(a->text - x->text, b->text - y->text);
    cr_assert_eq(a->text_bytes, b->text_bytes);
    cr_assert_eq(a->rollout_offset, b->rollout_offset);
    cr_assert_eq(a->rollout_bytes, b->rollout_bytes);
    cr_assert_eq(a->enabled_offset, b->enabled_offset);
    cr_assert_eq(a->enabled_bytes, b->enabled_bytes);
    cr_assert_eq(p->broken, q->broken);
    cr_assert_eq(p->is_held, q->is_held);
    cr_assert_eq(p->says_disabled, q->says_disabled);
    cr_assert_eq(p->says_rollout, q->says_rollout);
    cr_assert_eq(p->says_rollout_mpct, q->says_rollout_mpct);
    if (p->broken)
        return;
    same_text(a->salt, b->salt);
    cr_assert_eq(a->salt == a->name, b->salt == b->name);
    same_text(a->description, b->description);
    same_text(a->owner, b->owner);
    same_text(a->created, b->created);
    same_text(a->expires, b->expires);
    cr_assert_eq(a->identity, b->identity);
    cr_assert_eq(a->enabled, b->enabled);
    cr_assert_eq(a->rollout_mpct, b->rollout_mpct);
    cr_assert_eq(a->has_rollout, b->has_rollout);
    cr_assert_eq(a->has_guardrails, b->has_guardrails);
    cr_assert_eq(a->has_on_stale, b->has_on_stale);
    cr_assert_eq(a->on_stale_control, b->on_stale_control);
    cr_assert_eq(p->is_warned, q->is_warned);
    cr_assert_eq(a->plan == NULL, b->plan == NULL);
    cr_assert_eq(a->guards == NULL, b->guards == NULL);
    cr_assert(!a->plan || flagshm_plan_hash(a->plan) == flagshm_plan_hash(b->plan));
    cr_assert(!a->guards || flagshm_guards_hash(a->guards) == flagshm_guards_hash(b->guards));
    same_arms(a, b);
}

static void compile(struct flagshm_table *table, const struct flagshm_flagfile *file)
{
    struct flagshm_table_entry *entries = calloc(file->count + 1, sizeof *entries);
    size_t i, used = 0;

    for (i = 0; i < file->count; i++)
        if (!file->entries[i].broken)
            entries[used++].flag = &file->entries[i].flag;
    cr_assert_eq(flagshm_table_build(table, entries, used, NULL), 0);
    free(entries);
}

static void same_table(const struct flagshm_flagfile *x, const struct flagshm_flagfile *y)
{
    struct flagshm_table a, b;

    compile(&a, x);
    compile(&b, y);
    cr_assert_eq(a.geometry.bank_bytes, b.geometry.bank_bytes);
    cr_assert_eq(memcmp(a.bytes, b.bytes, (size_t)a.geometry.bank_bytes), 0);
    flagshm_table_free(&a);
    flagshm_table_free(&b);
}

static void same_file(const struct flagshm_flagfile *a, const struct flagshm_flagfile *b)
{
    size_t i;

    cr_assert_eq(a->is_usable, b->is_usable);
    cr_assert_eq(a->errors, b->errors);
    cr_assert_eq(a->count, b->count);
    cr_assert_eq(a->text_bytes, b->text_bytes);
    cr_assert_eq(memcmp(a->text, b->text, a->text_bytes + 1), 0);
    cr_assert_eq(a->defaults_broken, b->defaults_broken);
    cr_assert_eq(a->defaults_text == NULL, b->defaults_text == NULL);
    if (a->defaults_text != NULL) {
        cr_assert_eq(a->defaults_text - a->text, b->defaults_text - b->text);
        cr_assert_eq(a->defaults_bytes, b->defaults_bytes);
    }
    for (i = 0; i < a->count; i++)
        same_entry(a, &a->entries[i], b, &b->entries[i]);
    if (a->is_usable)
        same_table(a, b);
}

/* Reads the text both ways and compares. True where the short way was taken; `good` is what it was in a
 * server: it becomes `*good` where it is wholly good. */
static bool check(struct flagshm_flagfile *good, const char *text, size_t bytes, size_t max_flags)
{
    struct flagshm_flagfile_options options = {.max_flags = max_flags};
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};
    struct fixture whole = fixture_parse_bytes(text, bytes, max_flags);
    int result = flagshm_flagfile_parse_edit(&file, good, text, bytes, &options, &diags);
    char *json = flagshm_diags_json(&diags, "flags.json", text, bytes);
    char *whole_json = flagshm_diags_json(&whole.diags, "flags.json", text, bytes);
    bool is_short = file.base != NULL;

    cr_assert_eq(result, whole.result);
    cr_assert_str_eq(json, whole_json);
    cr_assert_eq(diags.errors, whole.diags.errors);
    cr_assert_eq(diags.warnings, whole.diags.warnings);
    if (result == 0)
        same_file(&file, &whole.file);
    free(json);
    free(whole_json);
    flagshm_diags_free(&diags);
    if (result == 0 && file.is_usable && file.errors == 0) {
        flagshm_flagfile_free(good);
        *good = file;
        same_file(good, &whole.file); /* also when what it was read from is gone */
    } else {
        flagshm_flagfile_free(&file);
    }
    fixture_free(&whole);
    return is_short;
}

/* ---- texts ---- */

static size_t put_flag(char *out, uint32_t number, uint32_t kind)
{
    static const char *const bodies[] = {
        "{\"control\": \"m-a\", \"variant\": \"m-b\", \"rollout_pct\": %u}",
        "{\n      \"control\": \"m-a\",\n      \"variant\": {\"model\": \"m-b\", \"prompt\": \"a } b, \\\" "
        "\\u00e9 "
        "\xc3\xa9 {\", \"n\": [1, {\"x\": null}]},\n      \"rollout_pct\": %u\n    }",
        "{\"control\": \"m-a\", \"variants\": {\"x\": {\"value\": \"m-b\", \"weight\": 2}, \"y\": "
        "{\"value\": "
        "{\"model\": \"m-c\"}}}, \"rollout_pct\": %u, \"enabled\": false, \"owner\": \"me\"}",
        "{\"control\": \"m-a\", \"variant\": \"m-b\", \"rollout_pct\": %u, \"salt\": \"s%u\", \"created\": "
        "\"2025-01-02\", \"description\": \"d\"}",
        "{\"control\": \"m-a\", \"variant\": \"m-b\", \"rollout_pct\": %u, \"force\": {\"variant\": "
        "[\"id-%u\"]}, "
        "\"identity\": \"org\"}",
        "{\"control\": \"m-a\", \"variant\": \"m-b\", \"rollout_pct\": %u, \"rollout\": {\"plan\": \"b2b\"}}",
    };
    int used = sprintf(out, "\"flag_%u\": ", number);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    used += sprintf(out + used, bodies[kind], (number * 7 + kind) % 101, number);
#pragma GCC diagnostic pop
    return (size_t)used;
}

static size_t make_text(char *out, uint32_t flags, bool with_plans)
{
    static const char *const heads[] = {
        "{\"flags\": {", "{\n  \"version\": 1,\n  \"flags\": {\n    ",
        "{\"defaults\": {\"$comment\": \"x\"}, \"flags\": {\"$comment\": \"y\", "};
    static const char *const tails[] = {"}}", "\n  }\n}\n",
                                        "\n}, \"$comment\": \"z\", \"defaults\": {\"rollout\": {}}}"};
    uint32_t head = below(3), i;
    size_t used = 0;

    used += (size_t)sprintf(out, "%s", heads[head]);
    for (i = 0; i < flags; i++) {
        used += (size_t)sprintf(out + used, "%s", i == 0 ? "" : below(2) ? ", " : ",\n    ");
        used += put_flag(out + used, i, below(with_plans ? 6 : 5));
    }
    used += (size_t)sprintf(out + used, "%s", tails[below(head == 2 ? 2 : 3)]);
    return used;
}

static size_t replace(char *text, size_t bytes, size_t at, size_t gone, const char *with, size_t with_bytes)
{
    memmove(text + at + with_bytes, text + at + gone, bytes - at - gone);
    memcpy(text + at, with, with_bytes);
    return bytes - gone + with_bytes;
}

/* Something that one edit does to the text of `good`; also what makes it bad. */
static size_t mutate(char *text, size_t bytes, const struct flagshm_flagfile *good)
{
    static const char *const pieces[] = {" ",
                                         "\n",
                                         ",",
                                         "\"",
                                         "{",
                                         "}",
                                         "[",
                                         "]",
                                         ":",
                                         "\\",
                                         "0",
                                         "\xff",
                                         "\t",
                                         "null",
                                         "\"$\":",
                                         ", ,",
                                         "\"x\":1",
                                         "\"salt\": \"s\", ",
                                         "\"$comment\": \"c\", ",
                                         "\"$comment\": \"deletions that wait to be accepted: flag_1\", "};
    const struct flagshm_flagfile_entry *entry = &good->entries[below((uint32_t)good->count)], *other;
    size_t key = entry->key_offset, behind = entry->flag.offset + entry->flag.text_bytes, n;
    const char *piece = pieces[below(sizeof pieces / sizeof *pieces)];
    char flag[1024], number[16];

    switch (below(11)) {
    case 0: /* a share */
    case 1:
    case 2:
        if (entry->flag.rollout_bytes == 0)
            return bytes;
        n = (size_t)sprintf(number, "%u", below(103));
        return replace(text, bytes, entry->flag.rollout_offset, entry->flag.rollout_bytes, number, n);
    case 3: /* any byte */
        text[below((uint32_t)bytes)] = (char)(below(4) ? ' ' + (char)below(95) : (char)below(256));
        return bytes;
    case 4: /* a piece anywhere */
        return replace(text, bytes, below((uint32_t)bytes), 0, piece, strlen(piece));
    case 5: /* a piece where it may be right */
        return replace(text, bytes, below(2) ? key : behind, 0, piece, strlen(piece));
    case 6: /* a flag is removed, with its comma or not */
        n = behind + strspn(text + behind, " \n\t,");
        return replace(text, bytes, key, (below(4) ? n : behind) - key, "", 0);
    case 7: /* a new flag, now and then of a name that is there */
        n = put_flag(flag, below(5) ? 1000 + below(1000) : below(40), below(6));
        memcpy(flag + n, ", ", 2);
        return replace(text, bytes, key, 0, flag, n + 2);
    case 8: /* another flag's whole member in its place */
        other = &good->entries[below((uint32_t)good->count)];
        n = other->flag.offset + other->flag.text_bytes - other->key_offset;
        if (n > sizeof flag)
            return bytes;
        memcpy(flag, text + other->key_offset, n);
        return replace(text, bytes, key, behind - key, flag, n);
    case 9: /* the end is missing */
        return below(3) ? bytes : bytes - below((uint32_t)(bytes < 40 ? bytes : 40));
    default: /* a name */
        text[key + 1 + below((uint32_t)entry->flag.name_bytes)] = "abc:/\\\"_"[below(8)];
        return bytes;
    }
}

static void run(uint64_t seed, bool with_plans, unsigned files, size_t *shorts, size_t *edits)
{
    char *text = malloc(ROOM);
    unsigned i, j;

    state = seed;
    for (i = 0; i < files; i++) {
        struct flagshm_flagfile good = {0};
        size_t bytes = make_text(text, 1 + below(i % 8 == 0 ? 90 : 30), with_plans);

        (void)check(&good, text, bytes, 0);
        cr_assert_gt(good.count, 0, "%.*s", (int)bytes, text);
        for (j = 0; j < 40; j++) {
            unsigned times = below(8) ? 1 : 1 + below(12);

            if (good.count == 0)
                break;
            bytes = good.text_bytes;
            memcpy(text, good.text, bytes + 1);
            while (times-- > 0 && bytes < ROOM - 2048) {
                bytes = mutate(text, bytes, &good);
                text[bytes] = '\0';
                if (times > 0 && !check(&good, text, bytes, 0) && below(2))
                    break;
                if (good.count == 0)
                    break;
                if (good.text_bytes != bytes || memcmp(good.text, text, bytes) != 0)
                    break; /* offsets of `good` no longer fit */
            }
            *shorts += check(&good, text, bytes, below(10) ? 0 : good.count);
            ++*edits;
        }
        flagshm_flagfile_free(&good);
    }
    free(text);
}

Test(flagfile_edit, random_edits_give_what_a_whole_read_gives)
{
    size_t shorts = 0, edits = 0;

    run(1, false, 200, &shorts, &edits);
    cr_assert_gt(shorts * 4, edits, "only %zu of %zu edits were read the short way", shorts, edits);
    cr_assert_lt(shorts * 10, edits * 9, "all but few edits are good: no faults were tried");
}

Test(flagfile_edit, flags_with_plans_are_as_others)
{
    size_t shorts = 0, edits = 0;

    run(2, true, 50, &shorts, &edits);
    cr_assert_gt(shorts * 4, edits, "only %zu of %zu edits were read the short way", shorts, edits);
}

/* ---- by hand ---- */

#define A "\"a\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 50}"
#define B "\"b\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 5}"
#define C "\"c\": {\"control\": \"c\", \"variant\": \"v\"}"
#define D "\"d\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 5, \"salt\": \"b\"}"

/* Reads `before`, then `after` as its edit. */
static bool is_short(const char *before, const char *after, size_t max_flags)
{
    struct flagshm_flagfile good = {0};
    bool was_short;

    (void)check(&good, before, strlen(before), 0);
    was_short = check(&good, after, strlen(after), max_flags);
    flagshm_flagfile_free(&good);
    return was_short;
}

Test(flagfile_edit, what_is_short_and_what_is_not)
{
    static const char base[] = "{\"flags\": {" A ", " B ", " C "}}";

    cr_assert(is_short(base, base, 0));
    cr_assert(is_short(base, "{\"flags\": {" A ", " B ", " C "}\n}\n", 0));
    cr_assert(is_short(base, "{\"flags\": {" A ",\n\t" B "\r, " C " } , \"version\": 1}", 0));
    cr_assert(is_short(base, "{\"flags\": {" A ", " C "}}", 0), "a flag is gone");
    cr_assert(is_short(base, "{\"flags\": {" A "}}", 3), "two are");
    cr_assert(
        is_short(base, "{\"flags\": {" A ", " B ", \"c\": {\"control\": \"x\", \"variant\": \"v\"}}}", 0));
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C ", " A "}}", 0), "a name twice");
    cr_assert_not(is_short(base,
                           "{\"flags\": {" A ", " B ", " C ", \"\\u0061\": {\"control\": \"c\", \"variant\": "
                           "\"v\"}}}",
                           0),
                  "a name twice, spelled in another way");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C ", " D "}}", 0), "a salt twice");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C "}}", 2), "too many");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C ",}}", 0), "a comma too many");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ",, " C "}}", 0), "a comma too many");
    cr_assert_not(is_short(base, "{\"flags\": {" A " " B ", " C "}}", 0), "a comma is missing");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C "}", 0), "a brace is missing");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C "}, \"flags\": {}}", 0), "flags twice");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C "}, \"version\": 2}", 0), "another version");
    cr_assert_not(is_short(base, "{ \"flags\": {" A ", " B ", " C "}}", 0), "another head");
    cr_assert_not(is_short(base, "{\"flags\": {" A ", " B ", " C "}, \"defaults\": {\"guardrails\": []}}", 0),
                  "what all flags hang on");
    cr_assert_not(is_short("{\"flags\": {" A ", " B "}, \"defaults\": {\"rollout\": {\"alpha\": 0.02}}}",
                           "{\"flags\": {" A ", " B "}, \"defaults\": {\"rollout\": {\"alpha\": 0.03}}}", 0),
                  "the same");
    cr_assert(is_short("{\"flags\": {" A ", " B "}, \"defaults\": {\"rollout\": {\"alpha\": 0.02}}}",
                       "{\"flags\": {" A ", " B ", " C "}, \"defaults\": {\"rollout\": {\"alpha\": 0.02}}}",
                       0),
              "they stay");
    cr_assert_not(is_short("{\"flags\": {" A ", " B ", \"e\": {}}}", base, 0), "what was before had a fault");
    cr_assert_not(is_short("{\"flags\": {}}", base, 0), "nothing was before");
}

Test(flagfile_edit, a_flag_that_stays_keeps_its_plan)
{
#define PLANNED                                                                                              \
    "\"p\": {\"control\": \"c\", \"variant\": \"v\", \"rollout\": {\"plan\": [{\"pct\": 7}], \"overdue\": "  \
    "\"90s\"}, "                                                                                             \
    "\"guardrails\": [{\"kind\": \"refusal\", \"hold\": {\"delta\": 0.25}}]}"
    static const char before[] = "{\"flags\": {" A ", " PLANNED ", " B "}}",
                      after[] = "{\"flags\": {" A ", " PLANNED
                                ", \"b\": {\"control\": \"x\", \"variant\": \"v\"}}}";
    struct flagshm_flagfile files[2];
    struct flagshm_diags diags = {0};
    const struct flagshm_flag *flag;
    const struct flagshm_plan *plan;

    cr_assert_eq(flagshm_flagfile_parse_edit(&files[0], NULL, before, sizeof before - 1, NULL, &diags), 0);
    plan = files[0].entries[1].flag.plan;
    cr_assert_eq(flagshm_flagfile_parse_edit(&files[1], &files[0], after, sizeof after - 1, NULL, &diags), 0);
    cr_assert_not_null(files[1].base, "it was read the short way");
    flag = &files[1].entries[1].flag;
    cr_assert_eq(flag->plan, plan, "not read again");
    flagshm_flagfile_free(&files[0]);
    cr_assert(flag->has_rollout);
    cr_assert_eq(flag->plan->step_count, 1);
    cr_assert_eq(flag->plan->steps[0].mpct, 7000);
    cr_assert_eq(flag->plan->overdue_ns, UINT64_C(90000000000));
    cr_assert_eq(flag->guards->count, 1);
    cr_assert_eq(flag->guards->list[0].kind, FLAGSHM_GUARD_REFUSAL);
    flagshm_flagfile_free(&files[1]);
    flagshm_diags_free(&diags);
}

/* A chain of edits keeps one whole reading, not all of them; and what is read stands when the others are
 * gone. */
Test(flagfile_edit, a_file_outlives_what_it_was_read_from)
{
    static const char text[] = "{\"flags\": {" A ", " B ", " C "}}";
    struct flagshm_flagfile files[3];
    struct flagshm_diags diags = {0};
    struct fixture whole = fixture_parse(text);
    int i;

    cr_assert_eq(flagshm_flagfile_parse_edit(&files[0], NULL, text, sizeof text - 1, NULL, &diags), 0);
    for (i = 1; i < 3; i++)
        cr_assert_eq(
            flagshm_flagfile_parse_edit(&files[i], &files[i - 1], text, sizeof text - 1, NULL, &diags), 0);
    cr_assert_eq(files[2].base, files[1].base);
    cr_assert_eq(files[1].base, files[0].base);
    cr_assert_not_null(files[0].base);
    same_file(&files[0], &whole.file);
    flagshm_flagfile_free(&files[0]);
    same_file(&files[1], &whole.file);
    flagshm_flagfile_free(&files[1]);
    same_file(&files[2], &whole.file);
    flagshm_flagfile_free(&files[2]);
    fixture_free(&whole);
}
