/* A rollout's journal, read back: what was looked at, edited and said, as text; judged again from nothing it gives the same transitions, to
 * the letter. And a journal in which one thing was changed does not. */
#include "tests/rollout_fixture.h"

#define LINES_MAX 40000

enum kind { LOOK, EDIT, ASK, MOVE };

struct journal {
    struct {
        enum kind kind;
        char *text; /* of a look, or of a transition */
        struct flagshm_moment now;
        uint64_t variant; /* of an edit */
        uint32_t cap_mpct;
        struct flagshm_ask ask;
    } lines[LINES_MAX];
    size_t count, moves;
};

/* ---- writing ---- */

static char *look_text(const struct flagshm_look *look)
{
    char *text = malloc(FLAGSHM_LOOK_TEXT_MAX);

    cr_assert_lt(flagshm_look_write(look, text, FLAGSHM_LOOK_TEXT_MAX), FLAGSHM_LOOK_TEXT_MAX);
    return realloc(text, strlen(text) + 1);
}

static char *move_text(const struct flagshm_transition *t)
{
    char *text = malloc(FLAGSHM_EVENT_TEXT_MAX);

    cr_assert_lt(flagshm_transition_write(t, text, FLAGSHM_EVENT_TEXT_MAX), FLAGSHM_EVENT_TEXT_MAX);
    return realloc(text, strlen(text) + 1);
}

static size_t add(struct journal *j, enum kind kind)
{
    cr_assert_lt(j->count, LINES_MAX);
    memset(&j->lines[j->count], 0, sizeof j->lines[0]);
    j->lines[j->count].kind = kind;
    return j->count++;
}

static void add_move(struct journal *j, struct world *w)
{
    j->lines[add(j, MOVE)].text = move_text(&w->changed);
    j->moves++;
}

static void note_look(struct journal *j, struct world *w)
{
    bool has = world_tick(w);

    j->lines[add(j, LOOK)].text = look_text(&w->look);
    if (has)
        add_move(j, w);
}

static void note_edit(struct journal *j, struct world *w)
{
    size_t line = add(j, EDIT);

    j->lines[line].now = w->look.now;
    j->lines[line].variant = w->file.variant_fingerprint;
    j->lines[line].cap_mpct = w->file.cap_mpct;
    if (world_edit(w))
        add_move(j, w);
}

static void note_ask(struct journal *j, struct world *w, struct flagshm_ask ask)
{
    size_t line = add(j, ASK);

    ask.user = "ann";
    ask.reason = "because";
    j->lines[line].now = w->look.now;
    j->lines[line].ask = ask;
    if (world_ask(w, ask) == 0)
        add_move(j, w);
}

static void note_time(struct journal *j, struct world *w, uint64_t ns)
{
    uint64_t end = w->look.now.mono_ns + ns;

    while (w->look.now.mono_ns < end)
        note_look(j, w);
}

/* Half way up, a signal, a 429 storm, a pause, harm; cleared, another cap, another value; then to the top and beyond. */
static void live(struct journal *j, struct world *w)
{
    w->s = (struct flagshm_rollout){0};
    note_edit(j, w);
    note_time(j, w, 150 * MINUTE);
    w->look.verdict.guards[0].holds = true;
    note_look(j, w);
    w->look.verdict.guards[0].holds = false;
    w->look.verdict.is_limited = true;
    note_look(j, w);
    w->look.verdict.is_limited = false;
    note_ask(j, w, (struct flagshm_ask){.verb = FLAGSHM_VERB_PAUSE});
    note_time(j, w, 10 * MINUTE);
    note_ask(j, w, (struct flagshm_ask){.verb = FLAGSHM_VERB_RESUME});
    note_ask(j, w, (struct flagshm_ask){.verb = FLAGSHM_VERB_ADVANCE, .to_mpct = 25000});
    world_harm(w, 0);
    note_look(j, w);
    world_heal(w);
    note_time(j, w, 10 * MINUTE);
    note_ask(j, w, (struct flagshm_ask){.verb = FLAGSHM_VERB_CLEAR, .is_resume = true});
    w->file.cap_mpct = 30000;
    note_edit(j, w);
    note_time(j, w, 150 * MINUTE);
    w->file.cap_mpct = 100000;
    w->file.variant_fingerprint = 0xbb;
    note_edit(j, w);
    note_time(j, w, 9 * HOUR);
    note_ask(j, w, (struct flagshm_ask){.verb = FLAGSHM_VERB_KILL});
    note_ask(j, w, (struct flagshm_ask){.verb = FLAGSHM_VERB_UNKILL});
    note_look(j, w);
}

/* ---- reading ---- */

/* True: the move is the one that the journal has next. */
static bool is_next(const struct journal *j, size_t *at, const struct flagshm_transition *t)
{
    struct flagshm_transition read;
    char *text;
    bool is_same;

    if (*at >= j->count || j->lines[*at].kind != MOVE)
        return false;
    cr_assert(flagshm_transition_read(&read, j->lines[*at].text), "%s", j->lines[*at].text);
    text = move_text(t);
    is_same = strcmp(text, j->lines[*at].text) == 0 && read.id == t->id && read.cause == t->cause &&
              read.to_mpct == t->to_mpct;
    free(text);
    ++*at;
    return is_same;
}

/* How many moves came out as the journal has them, until one did not. */
static size_t replay(const struct journal *j, const struct world *of, struct flagshm_rollout *s)
{
    struct flagshm_rollout_file file = of->file;
    struct flagshm_transition t;
    struct flagshm_judgement judgement;
    struct flagshm_look look;
    size_t i = 0, moves = 0;
    bool has = false;

    memset(s, 0, sizeof *s);
    while (i < j->count) {
        const size_t line = i++;

        switch (j->lines[line].kind) {
        case LOOK:
            memset(&look, 0xff, sizeof look);
            cr_assert(flagshm_look_read(&look, j->lines[line].text));
            has = flagshm_rollout_look(s, &file, &look, &judgement);
            t = judgement.transition;
            break;
        case EDIT:
            file.variant_fingerprint = j->lines[line].variant;
            file.cap_mpct = j->lines[line].cap_mpct;
            has = flagshm_rollout_edit(s, &file, &j->lines[line].now, &t);
            break;
        case ASK:
            has = flagshm_rollout_ask(s, &file, &j->lines[line].ask, &j->lines[line].now, &t) == 0;
            break;
        case MOVE: /* one that nothing led to */
            return moves;
        }
        if (has && !is_next(j, &i, &t))
            return moves;
        moves += has;
    }
    return moves;
}

static void journal_free(struct journal *j)
{
    size_t i;

    for (i = 0; i < j->count; i++)
        free(j->lines[i].text);
    free(j);
}

Test(rollout_replay, a_journal_judged_again_gives_the_same_transitions)
{
    struct journal *j = calloc(1, sizeof *j);
    struct world *w = world_new();
    struct flagshm_rollout s;
    char text[FLAGSHM_STATE_TEXT_MAX], again[FLAGSHM_STATE_TEXT_MAX];

    live(j, w);
    cr_assert_gt(j->moves, 20);
    cr_assert_eq(flagshm_rollout_stage(&w->s), FLAGSHM_STAGE_STEP, "%s", w->s.why);
    cr_assert_eq(replay(j, w, &s), j->moves);
    flagshm_rollout_write(&w->s, text, sizeof text);
    flagshm_rollout_write(&s, again, sizeof again);
    cr_assert_str_eq(text, again);
    journal_free(j);
    free(w);
}

Test(rollout_replay, a_journal_in_which_one_thing_was_changed_does_not)
{
    struct journal *j = calloc(1, sizeof *j);
    struct world *w = world_new();
    struct flagshm_look look;
    struct flagshm_rollout s;
    size_t i;

    live(j, w);
    for (i = 0; i < j->count; i++)
        if (j->lines[i].kind == LOOK && flagshm_look_read(&look, j->lines[i].text) &&
            look.verdict.guards[0].is_material)
            break;
    cr_assert_lt(i, j->count);
    look.verdict.guards[0].is_material = false;
    free(j->lines[i].text);
    j->lines[i].text = look_text(&look);
    cr_assert_lt(replay(j, w, &s), j->moves, "the roll-back has no reason any more");
    journal_free(j);
    free(w);
}
