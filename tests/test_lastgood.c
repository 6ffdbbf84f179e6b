#include "server/lastgood.h"
#include "tests/flagfile_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>

#define CV "\"control\": \"c\", \"variant\": \"v\""

/* The good set that grows as one text after the other is merged into it. */
struct story {
    struct flagshm_flagfile good;
    bool has_good;
    struct flagshm_merge last;
    struct flagshm_flagfile_options options;
};

/* What the good set is made of must be readable by itself, and must say what the set says. */
static void check_reads_back(const struct flagshm_flagfile *good,
                             const struct flagshm_flagfile_options *options)
{
    struct flagshm_flagfile again;
    struct flagshm_diags diags = {0};
    size_t i;

    cr_assert_eq(flagshm_flagfile_parse(&again, good->text, good->text_bytes, options, &diags), 0);
    cr_assert_eq(diags.errors, 0, "%s\n%.*s", diags.count ? diags.items[0].message : "",
                 (int)good->text_bytes, good->text);
    cr_assert(again.is_usable);
    cr_assert_eq(again.count, good->count);
    for (i = 0; i < good->count; i++) {
        const struct flagshm_flag *a = &good->entries[i].flag, *b = &again.entries[i].flag;

        cr_assert_not(good->entries[i].broken);
        cr_assert_not(again.entries[i].broken);
        cr_assert_str_eq(a->name, b->name);
        cr_assert_eq(a->enabled, b->enabled);
        cr_assert_eq(a->rollout_mpct, b->rollout_mpct);
        cr_assert_eq(a->offset, b->offset);
        cr_assert_eq(a->text_bytes, b->text_bytes);
        cr_assert_eq(memcmp(good->text + a->offset, a->text, a->text_bytes), 0);
        cr_assert_eq(a->arm_count, b->arm_count);
        cr_assert_eq(a->arms[a->arm_count - 1].fingerprint, b->arms[b->arm_count - 1].fingerprint);
        cr_assert_eq(good->entries[i].is_held, again.entries[i].is_held, "%s", a->name);
    }
    flagshm_flagfile_free(&again);
    flagshm_diags_free(&diags);
}

static void tell(struct story *s, const char *text, bool accept)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags = {0};

    cr_assert_eq(flagshm_flagfile_parse(&file, text, strlen(text), &s->options, &diags), 0);
    cr_assert_eq(flagshm_lastgood_merge(s->has_good ? &s->good : NULL, &file, accept, &s->options, &s->last),
                 0);
    flagshm_flagfile_free(&file);
    flagshm_diags_free(&diags);
    if (s->last.changed_nothing)
        return;
    if (s->has_good)
        flagshm_flagfile_free(&s->good);
    s->good = s->last.good;
    s->has_good = true;
    check_reads_back(&s->good, &s->options);
}

static void end(struct story *s)
{
    if (s->has_good)
        flagshm_flagfile_free(&s->good);
}

static const struct flagshm_flag *served(const struct story *s, const char *name)
{
    const struct flagshm_flagfile_entry *entry = flagshm_flagfile_find(&s->good, name);

    return entry ? &entry->flag : NULL;
}

Test(lastgood, a_good_file_is_the_good_set_byte_for_byte)
{
    static const char text[] = "{\"flags\": { \"a\": {" CV ", \"rollout_pct\": 5} } }\n";
    struct story s = {.has_good = false};

    tell(&s, text, false);
    cr_assert_eq(s.good.text_bytes, sizeof text - 1);
    cr_assert_eq(memcmp(s.good.text, text, sizeof text - 1), 0);
    cr_assert_eq(s.last.kept + s.last.absent + s.last.lowered + s.last.deletions, 0);
    end(&s);
}

Test(lastgood, the_file_stays_readable_while_the_good_set_that_took_it_over_lives)
{
    struct fixture f = fixture_parse("{\"flags\": {\"a\": {" CV "}}}");
    struct flagshm_merge merge;

    cr_assert_eq(flagshm_lastgood_merge(NULL, &f.file, false, NULL, &merge), 0);
    cr_assert_str_eq(f.file.entries[0].flag.name, "a");
    fixture_free(&f);
    cr_assert_str_eq(merge.good.entries[0].flag.name, "a");
    flagshm_flagfile_free(&merge.good);
}

Test(lastgood, what_is_no_flag_file_changes_nothing)
{
    static const char *const texts[] = {
        "", "{", "{}", "[]", "{\"flags\": 5}", "{\"flags\": {}, \"flags\": {}}"};
    struct story s = {.has_good = false};
    size_t i;

    tell(&s, "{\"flags\": {\"a\": {" CV "}}}", false);
    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        tell(&s, texts[i], true);
        cr_assert(s.last.changed_nothing, "%s", texts[i]);
        cr_assert_null(s.last.good.entries);
        cr_assert_not_null(served(&s, "a"));
    }
    end(&s);
}

Test(lastgood, a_broken_flag_keeps_its_last_good_form_and_the_others_move_on)
{
    struct story s = {.has_good = false};

    tell(&s, "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 5}, \"b\": {" CV ", \"rollout_pct\": 5}}}",
         false);
    tell(&s,
         "{\"flags\": {\"c\": {" CV "}, \"b\": {" CV ", \"rollout_pct\": 50}, \"a\": {" CV
         ", \"rolout_pct\": 50}, \"d\": {\"control\": 1}}}",
         false);
    cr_assert_eq(served(&s, "a")->rollout_mpct, 5000);
    cr_assert_eq(served(&s, "b")->rollout_mpct, 50000);
    cr_assert_not_null(served(&s, "c"));
    cr_assert_null(served(&s, "d"), "broken from the beginning: absent");
    cr_assert_eq(s.last.kept, 1);
    cr_assert_eq(s.last.absent, 1);
    cr_assert_eq(s.last.lowered, 0);
    cr_assert_str_eq(s.good.entries[0].flag.name, "c", "the new file's order");
    tell(&s, "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 50}}}", false);
    cr_assert_eq(served(&s, "a")->rollout_mpct, 50000, "mended: accepted");
    cr_assert_eq(s.last.deletions, 2);
    cr_assert_not(s.last.deletions_held);
    cr_assert_null(served(&s, "b"));
    end(&s);
}

/* P2: a kill never waits, and nothing is ever raised by a broken entry. */
Test(lastgood, a_sound_kill_or_a_lower_share_in_a_broken_flag_applies)
{
    static const struct {
        const char *good, *broken;
        bool enabled;
        uint32_t mpct;
        size_t lowered;
    } cases[] = {
        {"\"rollout_pct\": 50", "\"enabled\": false", false, 50000, 1},
        {"\"rollout_pct\": 50, \"enabled\": true", "\"enabled\": false", false, 50000, 1},
        {"\"rollout_pct\": 50", "\"rollout_pct\": 5", true, 5000, 1},
        {"\"rollout_pct\": 50", "\"rollout_pct\": 0.001", true, 1, 1},
        {"\"rollout_pct\": 50", "\"rollout_pct\": 0", true, 0, 1},
        {"\"rollout_pct\": 50", "\"rollout_pct\": 60", true, 50000, 0},
        {"\"rollout_pct\": 50", "\"rollout_pct\": 50.000", true, 50000, 0},
        {"\"rollout_pct\": 50", "\"rollout_pct\": \"5\"", true, 50000, 0},
        {"\"rollout_pct\": 50", "\"rollout_pct\": 5e0", true, 50000, 0},
        {"\"rollout_pct\": 50", "\"enabled\": \"false\"", true, 50000, 0},
        {"\"rollout_pct\": 50", "\"enabled\": true", true, 50000, 0},
        {"\"enabled\": false, \"rollout_pct\": 50", "\"enabled\": true", false, 50000, 0},
        {"\"enabled\": false, \"rollout_pct\": 50", "\"rollout_pct\": 5", false, 5000, 1},
        {"\"enabled\":true,\"rollout_pct\":50", "\"enabled\": false, \"rollout_pct\": 5", false, 5000, 1},
        {"\"rollout_pct\":50,\"enabled\":true", "\"enabled\": false, \"rollout_pct\": 5", false, 5000, 1},
        {"\"rollout_pct\": 50", "\"enabled\": false, \"rollout_pct\": 5", false, 5000, 1},
        {"\"enab\\u006ced\": true, \"rollout\\u005fpct\": 50", "\"enabled\": false, \"rollout_pct\": 5",
         false, 5000, 1},
        {"\"enabled\": true", "\"rollout_pct\": 5", true, 0, 0},
        {"\"rollout\": {\"plan\": \"b2b\"}", "\"rollout_pct\": 5", true, 5000, 1},
        {"\"rollout\": {\"plan\": \"b2b\"}", "\"rollout_pct\": 5, \"enabled\": false", false, 5000, 1},
        {"\"rollout_pct\": 50", "\"rollout_pct\": 25, \"rollout_pct\": 5", true, 5000, 1},
        {"\"rollout_pct\": 50", "\"enabled\": false, \"enabled\": true", false, 50000, 1},
    };
    size_t i;
    char text[400];

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct story s = {.has_good = false};

        snprintf(text, sizeof text, "{\"flags\": {\"a\": {" CV ", %s}, \"b\": {" CV "}}}", cases[i].good);
        tell(&s, text, false);
        snprintf(text, sizeof text,
                 "{\"flags\": {\"a\": {\"control\": \"new\", \"typo\": 1, %s}, \"b\": {" CV "}}}",
                 cases[i].broken);
        tell(&s, text, false);
        cr_assert_eq(served(&s, "a")->enabled, cases[i].enabled, "case %zu", i);
        cr_assert_eq(served(&s, "a")->rollout_mpct, cases[i].mpct, "case %zu: %u", i,
                     served(&s, "a")->rollout_mpct);
        cr_assert_str_eq(served(&s, "a")->arms[0].model, "c", "case %zu", i);
        cr_assert_eq(s.last.lowered, cases[i].lowered, "case %zu", i);
        cr_assert_eq(s.last.kept, 1);
        tell(&s, text, false); /* once more: nothing left to lower */
        cr_assert_eq(s.last.lowered, 0, "case %zu", i);
        cr_assert_eq(served(&s, "a")->rollout_mpct, cases[i].mpct);
        end(&s);
    }
}

Test(lastgood, a_kill_in_an_entry_that_is_lowered_stays_when_the_entry_breaks_otherwise)
{
    struct story s = {.has_good = false};

    tell(&s, "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 50}}}", false);
    tell(&s, "{\"flags\": {\"a\": {\"enabled\": false}}}", false);
    cr_assert_not(served(&s, "a")->enabled);
    tell(&s, "{\"flags\": {\"a\": {\"enabled\": true}}}", false);
    cr_assert_not(served(&s, "a")->enabled, "only a sound entry enables again");
    tell(&s, "{\"flags\": {\"a\": 5}}", false);
    cr_assert_not(served(&s, "a")->enabled);
    tell(&s, "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 50}}}", false);
    cr_assert(served(&s, "a")->enabled);
    end(&s);
}

Test(lastgood, broken_defaults_keep_the_last_good_ones)
{
    struct story s = {.has_good = false};

    tell(&s, "{\"defaults\": {\"rollout\": {\"hold\": \"4h\"}}, \"flags\": {\"a\": {" CV "}}}", false);
    tell(&s,
         "{\"defaults\": {\"rollout\": {\"hold\": \"4 h\"}}, \"flags\": {\"a\": {" CV
         ", \"rollout_pct\": 5}}}",
         false);
    cr_assert_eq(strncmp(s.good.defaults_text, "{\"rollout\": {\"hold\": \"4h\"}}", s.good.defaults_bytes),
                 0);
    cr_assert_eq(served(&s, "a")->rollout_mpct, 5000);
    tell(&s, "{\"flags\": {\"a\": {" CV "}, \"b\": 5}}", false);
    cr_assert_null(s.good.defaults_text, "taken out, soundly");
    end(&s);
}

Test(lastgood, an_unknown_top_level_key_blocks_no_flag)
{
    struct story s = {.has_good = false};

    tell(&s, "{\"flagz\": 1, \"flags\": {\"a\": {" CV ", \"rollout_pct\": 5}}}", false);
    cr_assert_eq(served(&s, "a")->rollout_mpct, 5000);
    cr_assert_eq(s.last.kept, 0);
    end(&s);
}

/* A file with flags f0 ... f(count-1), without those of [from, to). */
static char *numbered(size_t count, size_t from, size_t to, const char *more)
{
    char *text = malloc(count * 64 + 64 + strlen(more)), *out = text + sprintf(text, "{\"flags\": {");
    size_t i;
    bool is_first = true;

    for (i = 0; i < count; i++)
        if (i < from || i >= to) {
            out += sprintf(out, "%s\"f%zu\": {" CV "}", is_first ? "" : ", ", i);
            is_first = false;
        }
    sprintf(out, "%s%s}}", is_first || !*more ? "" : ", ", more);
    return text;
}

static void tell_numbered(struct story *s, size_t count, size_t from, size_t to, const char *more,
                          bool accept)
{
    char *text = numbered(count, from, to, more);

    tell(s, text, accept);
    free(text);
}

Test(lastgood, deletions_of_more_than_half_are_held_until_accepted)
{
    static const struct {
        size_t count, deleted;
        bool held;
    } cases[] = {{3, 3, false}, {4, 3, false}, {4, 4, true},     {5, 4, true},   {7, 4, true},
                 {8, 4, false}, {8, 5, true},  {100, 50, false}, {100, 51, true}};
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct story s = {.has_good = false};

        tell_numbered(&s, cases[i].count, 0, 0, "", false);
        tell_numbered(&s, cases[i].count, 0, cases[i].deleted, "", false);
        cr_assert_eq(s.last.deletions_held, cases[i].held, "case %zu", i);
        cr_assert_eq(s.last.deletions, cases[i].deleted, "case %zu", i);
        cr_assert_eq(s.good.count, cases[i].held ? cases[i].count : cases[i].count - cases[i].deleted,
                     "case %zu", i);
        tell_numbered(&s, cases[i].count, 0, cases[i].deleted, "", true);
        cr_assert_not(s.last.deletions_held);
        cr_assert_eq(s.good.count, cases[i].count - cases[i].deleted, "case %zu", i);
        end(&s);
    }
}

Test(lastgood, what_else_stands_in_a_file_with_held_deletions_applies)
{
    struct story s = {.has_good = false};

    tell_numbered(&s, 10, 0, 0, "", false);
    tell_numbered(&s, 10, 0, 9, "\"new\": {" CV ", \"rollout_pct\": 5}, \"f8\": {\"enabled\": false}", false);
    cr_assert(s.last.deletions_held);
    cr_assert_eq(s.last.deletions, 8);
    cr_assert_eq(s.good.count, 11);
    cr_assert_eq(served(&s, "new")->rollout_mpct, 5000);
    cr_assert_not(served(&s, "f8")->enabled);
    cr_assert(flagshm_flagfile_find(&s.good, "f0")->is_held);
    cr_assert_not(flagshm_flagfile_find(&s.good, "f9")->is_held);
    end(&s);
}

Test(lastgood, held_deletions_go_on_waiting_whatever_is_added_and_over_a_reboot)
{
    struct story s = {.has_good = false};
    struct flagshm_diags diags = {0};
    struct flagshm_flagfile rebooted;

    tell_numbered(&s, 10, 0, 0, "", false);
    tell_numbered(&s, 10, 0, 6, "", false);
    cr_assert(s.last.deletions_held);
    tell_numbered(&s, 20, 0, 6, "", false);
    cr_assert(s.last.deletions_held, "six of twenty would be no mass deletion");
    cr_assert_eq(s.good.count, 20);

    cr_assert_eq(flagshm_flagfile_parse(&rebooted, s.good.text, s.good.text_bytes, NULL, &diags), 0);
    flagshm_flagfile_free(&s.good);
    s.good = rebooted;
    tell_numbered(&s, 20, 0, 6, "", false);
    cr_assert_eq(s.good.count, 20);

    tell_numbered(&s, 20, 0, 7, "", false);
    cr_assert_eq(s.good.count, 19, "one deletion more is none of them");
    tell_numbered(&s, 20, 0, 5, "", false);
    cr_assert_eq(s.good.count, 20, "f5 and f6 are back");
    cr_assert_not(flagshm_flagfile_find(&s.good, "f5")->is_held);
    tell_numbered(&s, 20, 0, 5, "", true);
    cr_assert_eq(s.good.count, 15);
    tell_numbered(&s, 20, 0, 5, "", false);
    cr_assert_not(s.last.deletions_held);
    end(&s);
}

Test(lastgood, new_flags_that_do_not_fit_beside_kept_ones_wait)
{
    struct story s = {.has_good = false, .options = {.max_flags = 10}};

    tell_numbered(&s, 10, 0, 0, "", false);
    tell_numbered(&s, 10, 0, 9, "\"n1\": {" CV "}, \"n2\": {" CV "}", false);
    cr_assert(s.last.deletions_held);
    cr_assert_eq(s.good.count, 10);
    cr_assert_eq(s.last.absent, 2);
    cr_assert_null(served(&s, "n1"));
    tell_numbered(&s, 10, 0, 9, "\"n1\": {" CV "}, \"n2\": {" CV "}", true);
    cr_assert_eq(s.good.count, 3);
    cr_assert_not_null(served(&s, "n1"));
    end(&s);
}

Test(lastgood, an_accepted_flag_that_shares_the_salt_of_a_kept_one_is_kept_too)
{
    struct story s = {.has_good = false};

    tell(&s,
         "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 5, \"salt\": \"s\"}, \"b\": {" CV
         ", \"rollout_pct\": 5, \"salt\": \"t\"}}}",
         false);
    /* a is broken and goes on with s, so b cannot have s and goes on with t, so c cannot have t */
    tell(&s,
         "{\"flags\": {\"a\": 5, \"b\": {" CV ", \"rollout_pct\": 4, \"salt\": \"s\"}, \"c\": {" CV
         ", \"rollout_pct\": 5, \"salt\": \"t\"}}}",
         false);
    cr_assert_str_eq(served(&s, "a")->salt, "s");
    cr_assert_str_eq(served(&s, "b")->salt, "t");
    cr_assert_eq(served(&s, "b")->rollout_mpct, 4000, "but what lowers it applies");
    cr_assert_null(served(&s, "c"));
    cr_assert_eq(s.last.kept, 2);
    cr_assert_eq(s.last.absent, 1);
    tell(&s,
         "{\"flags\": {\"a\": {" CV "}, \"b\": {" CV ", \"rollout_pct\": 4, \"salt\": \"s\"}, \"c\": {" CV
         ", \"rollout_pct\": 5, \"salt\": \"t\"}}}",
         false);
    cr_assert_str_eq(served(&s, "b")->salt, "s", "mended: all as the file says");
    cr_assert_not_null(served(&s, "c"));
    end(&s);
}

Test(lastgood, lowering_a_kept_flag_into_a_shared_salt_lowers_it_to_0)
{
    struct story s = {.has_good = false};

    tell(&s,
         "{\"flags\": {\"a\": {" CV ", \"rollout_pct\": 100, \"salt\": \"s\"}, \"b\": {" CV
         ", \"rollout_pct\": 5, \"salt\": \"s\"}}}",
         false);
    tell(&s, "{\"flags\": {\"a\": {\"rollout_pct\": 50}, \"b\": {\"typo\": 1}}}", false);
    cr_assert_eq(served(&s, "a")->rollout_mpct, 0);
    cr_assert_eq(served(&s, "b")->rollout_mpct, 5000);
    end(&s);
}

/* ---- a property, on random files ---- */

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % below;
}

/* Flags of few names and fewer salts, so that everything clashes with everything; a third of the entries
 * is broken. */
static void write_random(char *text, size_t size)
{
    static const char *const shares[] = {"0", "5", "12.125", "50", "99.999", "100", "100", "500", "\"5\""};
    static const char *const extras[] = {"",
                                         "",
                                         "",
                                         ", \"enabled\": false",
                                         ", \"enabled\": true",
                                         ", \"typo\": 1",
                                         ", \"enabled\": 1",
                                         ", \"rollout\": {\"plan\": \"b2b\"}",
                                         ", \"enabled\": true, \"enabled\": false",
                                         ", \"force\": {\"variant\": [\"u\"]}"};
    size_t used = 0;
    uint32_t flags = draw(9), i;

    used += (size_t)snprintf(text + used, size - used, "{%s\"flags\": {",
                             draw(5) ? "" : "\"defaults\": {\"guardrails\": 5}, ");
    for (i = 0; i < flags; i++) {
        used += (size_t)snprintf(text + used, size - used,
                                 "%s\"f%u\": {\"control\": \"c%u\"%s, \"rollout_pct\": %s%s", i ? ", " : "",
                                 draw(12), draw(3), draw(8) ? ", \"variant\": \"v\"" : "", shares[draw(9)],
                                 extras[draw(10)]);
        if (draw(2))
            used += (size_t)snprintf(text + used, size - used, ", \"salt\": \"f%u\"", draw(4));
        used += (size_t)snprintf(text + used, size - used, "}");
    }
    snprintf(text + used, size - used, "}}");
}

/* What a merge may do to each flag of the old set: keep it, lower it, take the file's sound form, delete
 * it. */
static void check_flag(const struct flagshm_flagfile *old, const struct flagshm_flagfile *file,
                       const struct flagshm_flagfile_entry *now)
{
    const struct flagshm_flagfile_entry *before = flagshm_flagfile_find(old, now->flag.name);
    const struct flagshm_flagfile_entry *said = flagshm_flagfile_find(file, now->flag.name);

    if (said && !said->broken && now->flag.text_bytes == said->flag.text_bytes &&
        memcmp(now->flag.text, said->flag.text, said->flag.text_bytes) == 0)
        return;
    cr_assert_not_null(before, "%s came from nowhere", now->flag.name);
    cr_assert_leq(now->flag.rollout_mpct, before->flag.rollout_mpct);
    cr_assert(!now->flag.enabled || before->flag.enabled);
    cr_assert_str_eq(now->flag.salt, before->flag.salt);
    cr_assert_eq(now->flag.arms[0].fingerprint, before->flag.arms[0].fingerprint);
    if (said && said->says_disabled)
        cr_assert_not(now->flag.enabled, "a kill waits");
    if (said && said->says_rollout)
        cr_assert_leq(now->flag.rollout_mpct, said->says_rollout_mpct, "a lower share waits");
}

Test(lastgood, whatever_is_merged_reads_back_sound_and_is_only_lowered)
{
    size_t round, step, i, kept = 0, lowered = 0, held = 0, whole = 0;
    char text[2000];

    random_state = 20261124;
    for (round = 0; round < 400; round++) {
        struct story s = {.has_good = false};

        tell(&s, "{\"flags\": {}}", false);
        for (step = 0; step < 12; step++) {
            struct fixture f, old;

            write_random(text, sizeof text);
            f = fixture_parse(text);
            old = fixture_parse_bytes(s.good.text, s.good.text_bytes, 0);
            tell(&s, text, draw(6) == 0);
            for (i = 0; i < s.good.count; i++)
                check_flag(&old.file, &f.file, &s.good.entries[i]);
            kept += s.last.kept;
            lowered += s.last.lowered;
            held += s.last.deletions_held;
            whole += f.file.errors == 0;
            fixture_free(&f);
            fixture_free(&old);
        }
        end(&s);
    }
    cr_assert(kept > 1000 && lowered > 200 && held > 100 && whole > 100,
              "%zu kept, %zu lowered, %zu held, %zu whole", kept, lowered, held, whole);
}
