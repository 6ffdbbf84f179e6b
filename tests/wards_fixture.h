/* wards_fixture: rollouts beside a good set that a test edits by texts, in time that is injected; and what an adopted table is said to have
 * served. */
#ifndef FLAGSHM_TESTS_WARDS_FIXTURE_H
#define FLAGSHM_TESTS_WARDS_FIXTURE_H

#include "server/wards.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define PLAN                                                                                                 \
    "{\"plan\": [{\"pct\": 1}, {\"pct\": 5}, {\"pct\": 25}, {\"pct\": 100}], \"hold\": \"1h\", \"watch\": "  \
    "\"2h\"}"
#define FLAG(name, variant, more) "\"" name "\": {\"control\": \"old\", \"variant\": \"" variant "\"" more "}"
#define PLANNED(name)             FLAG(name, "new", ", \"rollout\": " PLAN)
#define PLANNED_NEWER(name)       FLAG(name, "newer", ", \"rollout\": " PLAN)

struct wards_world {
    struct flagshm_wards wards;
    struct flagshm_flagfile good;
    bool has_good;
    struct flagshm_moment now;
    bool is_adopted, was_planned, is_killed; /* for flagshm_wards_take at a start */
    struct flagshm_rollout_served served;
    uint32_t asked_share_mpct; /* what the journal's word was when it asked */
};

static bool world_served_(void *context, const struct flagshm_ward *ward,
                          const struct flagshm_table_entry *entry, struct flagshm_rollout_served *served,
                          bool *was_planned)
{
    struct wards_world *w = context;

    (void)ward;
    w->asked_share_mpct = flagshm_rollout_share(entry->rollout);
    *served = w->served;
    *was_planned = w->was_planned;
    return w->is_adopted;
}

static bool world_is_killed_(void *context, const char *flag)
{
    (void)flag;
    return ((struct wards_world *)context)->is_killed;
}

__attribute__((unused)) static void world_begin(struct wards_world *w)
{
    memset(w, 0, sizeof *w);
    flagshm_moment_tick(&w->now, 1000 * SECOND, UINT64_C(1700000000) * SECOND);
}

__attribute__((unused)) static void world_end(struct wards_world *w)
{
    flagshm_wards_free(&w->wards);
    if (w->has_good)
        flagshm_flagfile_free(&w->good);
}

__attribute__((unused)) static void world_pass(struct wards_world *w, uint64_t ns)
{
    flagshm_moment_tick(&w->now, w->now.mono_ns + ns, w->now.wall_ns + ns);
}

__attribute__((unused)) static void world_parse(struct wards_world *w, const char *flags,
                                                struct flagshm_flagfile *file, struct flagshm_diags *diags)
{
    static char text[65536];

    cr_assert_lt(snprintf(text, sizeof text, "{\"flags\": {%s}}", flags), (int)sizeof text);
    memset(diags, 0, sizeof *diags);
    cr_assert_eq(
        flagshm_flagfile_parse_edit(file, w->has_good ? &w->good : NULL, text, strlen(text), NULL, diags), 0);
    cr_assert_eq(diags->errors, 0, "%s", flags);
}

__attribute__((unused)) static int world_draft(struct wards_world *w, const struct flagshm_flagfile *file)
{
    const struct flagshm_wards_start start = {w, world_served_, world_is_killed_};

    return flagshm_wards_take(&w->wards, file, &w->now, &start);
}

/* As the publisher does it: the drafts of a new good set, then its table, which comes out or does not. */
__attribute__((unused)) static void world_take_or_not(struct wards_world *w, const char *flags,
                                                      bool is_published)
{
    struct flagshm_flagfile file;
    struct flagshm_diags diags;

    world_parse(w, flags, &file, &diags);
    flagshm_diags_free(&diags);
    cr_assert_eq(world_draft(w, &file), 0);
    flagshm_wards_settle(&w->wards, is_published);
    if (!is_published) {
        flagshm_flagfile_free(&file);
        return;
    }
    w->wards.is_started = true;
    if (w->has_good)
        flagshm_flagfile_free(&w->good);
    w->good = file;
    w->has_good = true;
}

__attribute__((unused)) static void world_take(struct wards_world *w, const char *flags)
{
    world_take_or_not(w, flags, true);
}

__attribute__((unused)) static struct flagshm_ward *ward_of(const struct wards_world *w, const char *flag)
{
    return flagshm_wards_find_name(&w->wards, flag);
}

__attribute__((unused)) static uint32_t share_of(const struct wards_world *w, const char *flag)
{
    return flagshm_rollout_share(&ward_of(w, flag)->state);
}

/* Drafts a person's word; what rollout_ask says. */
__attribute__((unused)) static int world_ask(struct wards_world *w, const char *flag, struct flagshm_ask ask)
{
    struct flagshm_ward *ward = ward_of(w, flag);
    struct flagshm_ward_draft *draft = flagshm_ward_draft(ward);
    int result;

    ask.user = "ann";
    if (ask.reason == NULL)
        ask.reason = "because";
    result = flagshm_rollout_ask(&draft->state, &ward->file, &ask, &w->now, &draft->transition);
    draft->has_transition = result == 0;
    return result;
}

/* The same, in force at once. */
__attribute__((unused)) static void world_say(struct wards_world *w, const char *flag, struct flagshm_ask ask)
{
    int result = world_ask(w, flag, ask);

    cr_assert_eq(result, 0, "%s", ward_of(w, flag)->draft->transition.sentence);
    flagshm_wards_settle(&w->wards, true);
}

__attribute__((unused)) static void world_advance(struct wards_world *w, const char *flag, uint32_t mpct)
{
    world_say(w, flag, (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = mpct});
}

/* What is written down is read back by wards of a new run, which knows no good set yet. */
__attribute__((unused)) static void world_restart(struct wards_world *w)
{
    struct flagshm_wards before = w->wards;
    uint64_t mono_ns = w->now.mono_ns + SECOND, wall_ns = w->now.wall_ns + SECOND;
    size_t i;

    memset(&w->wards, 0, sizeof w->wards);
    memset(&w->now, 0, sizeof w->now);
    flagshm_moment_tick(&w->now, mono_ns, wall_ns);
    for (i = 0; i < before.count; i++) {
        char *text = flagshm_ward_write(before.list[i], &before.list[i]->state);

        if (before.list[i]->state.is_seen)
            cr_assert(flagshm_ward_read(flagshm_wards_add(&w->wards, before.list[i]->flag), text), "%s",
                      text);
        free(text);
    }
    flagshm_wards_free(&before);
    if (w->has_good)
        flagshm_flagfile_free(&w->good);
    w->has_good = false;
}

#endif
