/* rollout_words: stages, waits and causes in words. */
#include "server/evidence.h"
#include "server/flagfile.h"
#include "server/rollout_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- names ---- */

static const char *const stages[] = {"off", "shadow", "step", "full", "complete", "rolled_back", "killed"};

static const char *const waits[FLAGSHM_WAITS] = {
    [FLAGSHM_WAIT_HOLD] = "hold",
    [FLAGSHM_WAIT_MIN_USERS] = "min_users",
    [FLAGSHM_WAIT_NO_PAIRS] = "no_pairs",
    [FLAGSHM_WAIT_NO_TRAFFIC] = "no_traffic",
    [FLAGSHM_WAIT_NO_OUTCOMES] = "no_outcomes",
    [FLAGSHM_WAIT_SIGNAL] = "signal",
    [FLAGSHM_WAIT_BREAKER] = "breaker",
    [FLAGSHM_WAIT_SRM] = "srm",
    [FLAGSHM_WAIT_TAINTED] = "tainted",
    [FLAGSHM_WAIT_CAPACITY] = "capacity",
    [FLAGSHM_WAIT_BOTH_ARMS_BAD] = "both_arms_bad",
    [FLAGSHM_WAIT_PROVE] = "prove",
    [FLAGSHM_WAIT_APPROVAL] = "approval",
    [FLAGSHM_WAIT_WINDOW] = "window",
    [FLAGSHM_WAIT_FREEZE] = "freeze",
    [FLAGSHM_WAIT_PAUSED] = "paused",
    [FLAGSHM_WAIT_RECOVERING] = "recovering",
    [FLAGSHM_WAIT_FILE_CAP] = "file_cap",
    [FLAGSHM_WAIT_UNWATCHED] = "unwatched",
    [FLAGSHM_WAIT_MODE] = "mode",
    [FLAGSHM_WAIT_PLAN_END] = "plan_end",
};

static const struct {
    const char *name, *phrase;
    bool is_told;
} causes[FLAGSHM_CAUSES] = {
    [FLAGSHM_CAUSE_NONE] = {"none", "", false},
    [FLAGSHM_CAUSE_STARTED] = {"started", "started", true},
    [FLAGSHM_CAUSE_ADVANCED] = {"advanced", "advanced", true},
    [FLAGSHM_CAUSE_ADVANCED_THIN] = {"advanced_thin", "advanced", true},
    [FLAGSHM_CAUSE_COMPLETED] = {"completed", "completed", true},
    [FLAGSHM_CAUSE_PROBE_ENDED] = {"probe_ended", "returned", true},
    [FLAGSHM_CAUSE_DRILL_ENDED] = {"drill_ended", "drill ended", false},
    [FLAGSHM_CAUSE_GUARDRAIL] = {"guardrail", "rolled back", true},
    [FLAGSHM_CAUSE_BREAKER] = {"breaker", "rolled back", true},
    [FLAGSHM_CAUSE_ABSOLUTE] = {"absolute", "rolled back", true},
    [FLAGSHM_CAUSE_NO_DATA] = {"no_data", "rolled back", true},
    [FLAGSHM_CAUSE_STEPPED_BACK] = {"stepped_back", "stepped back", true},
    [FLAGSHM_CAUSE_PROBE] = {"probe", "lowered", true},
    [FLAGSHM_CAUSE_SHADOW_ENDED] = {"shadow_ended", "shadow calls ended", true},
    [FLAGSHM_CAUSE_APPROVAL_ASKED] = {"approval_asked", "waits for an approval", true},
    [FLAGSHM_CAUSE_WOULD_ROLL_BACK] = {"would_roll_back", "would have rolled back", true},
    [FLAGSHM_CAUSE_WOULD_STEP_BACK] = {"would_step_back", "would have stepped back", true},
    [FLAGSHM_CAUSE_WOULD_ADVANCE] = {"would_advance", "would have advanced", false},
    [FLAGSHM_CAUSE_SIGNAL] = {"signal", "holds", true},
    [FLAGSHM_CAUSE_THIN_BREAKER] = {"thin_breaker", "holds", true},
    [FLAGSHM_CAUSE_BOTH_ARMS_BAD] = {"both_arms_bad", "both arms fail", true},
    [FLAGSHM_CAUSE_FLAG_NEW] = {"flag_new", "new", false},
    [FLAGSHM_CAUSE_FLAG_GONE] = {"flag_gone", "taken out of the file", true},
    [FLAGSHM_CAUSE_FLAG_BACK] = {"flag_back", "back in the file", true},
    [FLAGSHM_CAUSE_VALUE_NEW] = {"value_new", "edited", true},
    [FLAGSHM_CAUSE_VALUE_LATCHED] = {"value_latched", "stays rolled back", true},
    [FLAGSHM_CAUSE_CONTROL_EDITED] = {"control_edited", "edited", false},
    [FLAGSHM_CAUSE_PLAN_NEW] = {"plan_new", "edited", true},
    [FLAGSHM_CAUSE_PLAN_EDITED] = {"plan_edited", "edited", false},
    [FLAGSHM_CAUSE_PLAN_GONE] = {"plan_gone", "edited", true},
    [FLAGSHM_CAUSE_FORM_EDITED] = {"form_edited", "edited", false},
    [FLAGSHM_CAUSE_CAP] = {"cap", "edited", false},
    [FLAGSHM_CAUSE_KILLED] = {"kill", "killed", true},
    [FLAGSHM_CAUSE_UNKILLED] = {"unkill", "unkilled", true},
    [FLAGSHM_CAUSE_ROLLED_BACK] = {"rollback", "rolled back", true},
    [FLAGSHM_CAUSE_CLEARED] = {"clear", "cleared", true},
    [FLAGSHM_CAUSE_ADVANCED_BY_HAND] = {"advance", "advanced", true},
    [FLAGSHM_CAUSE_APPROVED] = {"approve", "approved", false},
    [FLAGSHM_CAUSE_PAUSED] = {"pause", "paused", false},
    [FLAGSHM_CAUSE_RESUMED] = {"resume", "resumed", false},
    [FLAGSHM_CAUSE_WAIVED] = {"waive", "waived", false},
    [FLAGSHM_CAUSE_DRILL] = {"drill", "drilled", false},
    [FLAGSHM_CAUSE_RECOVERED] = {"recovered", "after a restart", true},
    [FLAGSHM_CAUSE_JOURNAL_LOST] = {"journal_lost", "the journal was lost", true},
};

const char *flagshm_stage_name(enum flagshm_stage stage)
{
    return (unsigned)stage < sizeof stages / sizeof stages[0] ? stages[stage] : "";
}

const char *flagshm_wait_name(enum flagshm_wait wait)
{
    return (unsigned)wait < FLAGSHM_WAITS ? waits[wait] : "";
}

bool flagshm_wait_from_name(const char *name, enum flagshm_wait *wait)
{
    unsigned i;

    for (i = 0; i < FLAGSHM_WAITS; i++)
        if (strcmp(waits[i], name) == 0) {
            *wait = (enum flagshm_wait)i;
            return true;
        }
    return false;
}

const char *flagshm_cause_name(enum flagshm_cause cause)
{
    return (unsigned)cause < FLAGSHM_CAUSES ? causes[cause].name : "";
}

const char *flagshm_cause_phrase(enum flagshm_cause cause)
{
    return (unsigned)cause < FLAGSHM_CAUSES ? causes[cause].phrase : "";
}

bool flagshm_cause_is_told(enum flagshm_cause cause)
{
    return (unsigned)cause < FLAGSHM_CAUSES && causes[cause].is_told;
}

/* ---- numbers ---- */

char *flagshm_share_words(uint32_t mpct, char out[24])
{
    char share[16];

    snprintf(out, 24, "%s %%", flagshm_mpct_to_text(mpct, share));
    return out;
}

char *flagshm_duration_text(uint64_t ns, char out[32])
{
    unsigned long long seconds = ns / SECOND_NS, minutes = seconds / 60, hours = minutes / 60;

    if (seconds < 120)
        snprintf(out, 32, "%llus", seconds);
    else if (minutes < 120)
        snprintf(out, 32, seconds % 60 ? "%llum %llus" : "%llum", minutes, seconds % 60);
    else if (hours < 48)
        snprintf(out, 32, minutes % 60 ? "%lluh %llum" : "%lluh", hours, minutes % 60);
    else
        snprintf(out, 32, hours % 24 ? "%llud %lluh" : "%llud", hours / 24, hours % 24);
    return out;
}

void flagshm_guard_words(const struct flagshm_verdict *verdict, const struct flagshm_guards *guards,
                         uint32_t index, char *text, size_t room)
{
    if (flagshm_guard_explain(verdict, guards, index, text, room) == 0)
        snprintf(text, room, "%s", flagshm_guard_name(verdict->guards[index].kind));
}

/* ---- the stage of a record ---- */

void flagshm_stage_share_word(const char *kind, uint32_t mpct, char word[24])
{
    char share[16];
    size_t kind_bytes = strlen(kind), bytes = strlen(flagshm_mpct_to_text(mpct, share));

    assert(kind_bytes < sizeof "shadow" && bytes < sizeof "99.999");
    memset(word, 0, 24);
    memcpy(word, kind, kind_bytes);
    word[kind_bytes] = '-';
    memcpy(word + kind_bytes + 1, share, bytes);
    memcpy(word + kind_bytes + 1 + bytes, "pct", 3);
}

void flagshm_rollout_stage_word(const struct flagshm_rollout *s, char word[24])
{
    uint32_t share = flagshm_rollout_share(s);
    const char *fixed = NULL;

    memset(word, 0, 24);
    if (s->is_killed)
        fixed = "killed";
    else if (s->stage == FLAGSHM_STAGE_ROLLED_BACK)
        fixed = "rolled-back";
    else if (s->is_drilling)
        fixed = "drill";
    else if (s->is_planned && (s->stage == FLAGSHM_STAGE_OFF || s->cap_mpct == 0))
        fixed = "off";
    else if (s->stage == FLAGSHM_STAGE_COMPLETE)
        fixed = "complete";
    else if (s->is_planned && s->stage == FLAGSHM_STAGE_FULL && !s->is_probing && share == s->share_mpct)
        fixed = "full";
    if (fixed)
        memcpy(word, fixed, strlen(fixed));
    else if (s->stage == FLAGSHM_STAGE_SHADOW)
        flagshm_stage_share_word("shadow", flagshm_rollout_shadow(s), word);
    else if (!s->is_planned)
        flagshm_stage_share_word("static", share, word);
    else if (s->is_probing)
        flagshm_stage_share_word("probe", share, word);
    else
        flagshm_stage_share_word(share <= FLAGSHM_CANARY_MPCT ? "canary" : "ramp", share, word);
}

enum flagshm_stage flagshm_stage_from_word(const char *word, bool *is_probe, bool *is_drill)
{
    static const struct {
        const char *word;
        enum flagshm_stage stage;
    } words[] = {
        {"killed", FLAGSHM_STAGE_KILLED}, {"rolled-back", FLAGSHM_STAGE_ROLLED_BACK},
        {"off", FLAGSHM_STAGE_OFF},       {"complete", FLAGSHM_STAGE_COMPLETE},
        {"full", FLAGSHM_STAGE_FULL},
    };
    size_t i;

    *is_probe = strncmp(word, "probe-", 6) == 0;
    *is_drill = strcmp(word, "drill") == 0;
    for (i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(word, words[i].word) == 0)
            return words[i].stage;
    if (*is_probe)
        return FLAGSHM_STAGE_FULL;
    return strncmp(word, "shadow-", 7) == 0 ? FLAGSHM_STAGE_SHADOW : FLAGSHM_STAGE_STEP;
}

/* ---- waits ---- */

struct explaining {
    const struct flagshm_rollout *s;
    const struct flagshm_rollout_file *file;
    const struct flagshm_judgement *judgement;
    char *text;
    size_t room;
};

static int explain_users(const struct explaining *x)
{
    const struct flagshm_judgement *d = x->judgement;
    bool is_shadow = x->s->stage == FLAGSHM_STAGE_SHADOW;

    return snprintf(x->text, x->room, "%llu of %llu %s so far%s: `flagctl waive %s min_users --reason ...`",
                    (unsigned long long)d->users, (unsigned long long)d->min_users,
                    is_shadow ? "shadow pairs" : "users of the variant",
                    is_shadow || x->s->share_mpct <= FLAGSHM_CANARY_MPCT
                        ? " (it goes on without them after two holds)"
                        : " (or an approval: `flagctl approve`)",
                    x->file->name);
}

static int explain_signal(const struct explaining *x)
{
    char kinds[160] = "", left[32];
    uint64_t longest = 0;
    size_t used = 0;
    uint32_t i;

    if (x->s->is_shadow_ended)
        return snprintf(x->text, x->room,
                        "the shadow calls were worse than control's: write another variant, or `flagctl "
                        "clear %s --reason ...` to "
                        "shadow it again, or `flagctl advance %s --reason ...`",
                        x->file->name, x->file->name);
    for (i = 0; i < FLAGSHM_GUARD_KINDS; i++)
        if (x->judgement->signals >> i & 1) {
            used += (size_t)snprintf(kinds + used, sizeof kinds - used, "%s%s", used > 0 ? ", " : "",
                                     flagshm_guard_name((enum flagshm_guard_kind)i));
            if (used >= sizeof kinds)
                used = sizeof kinds - 1;
            longest = x->s->signal_ns[i] > longest ? x->s->signal_ns[i] : longest;
        }
    return snprintf(x->text, x->room,
                    "the variant looks worse in %s; ends %s after the last sign: `flagctl stats %s`, "
                    "`flagctl waive %s signal --reason ...`",
                    kinds, flagshm_duration_text(longest, left), x->file->name, x->file->name);
}

static int explain_window(const struct explaining *x)
{
    const struct flagshm_plan_window *w = &x->file->plan->window;

    return snprintf(x->text, x->room,
                    "outside the hours in which it may rise (%02u:%02u-%02u:%02u, %s; or this machine does "
                    "not know that zone): "
                    "`flagctl waive %s window --reason ...`",
                    w->from_minute / 60u, w->from_minute % 60u, w->to_minute / 60u, w->to_minute % 60u, w->tz,
                    x->file->name);
}

static int explain_hold(const struct explaining *x)
{
    char left[32], held[32];

    return snprintf(x->text, x->room, "%s held, %s to go: `flagctl waive %s hold --reason ...`",
                    flagshm_duration_text(x->judgement->hold_ns, held),
                    flagshm_duration_text(x->judgement->hold_left_ns, left), x->file->name);
}

static int explain_capacity(const struct explaining *x)
{
    char left[32];

    return snprintf(x->text, x->room,
                    "calls meet rate limits (429)%s%s: ask for a higher limit, or `flagctl waive %s capacity "
                    "--reason ...`",
                    x->s->cooldown_ns > 0 ? ", it cools down for " : "",
                    x->s->cooldown_ns > 0 ? flagshm_duration_text(x->s->cooldown_ns, left) : "",
                    x->file->name);
}

/* Those that need no numbers; %s is the flag's name. */
static const char *const plain_waits[FLAGSHM_WAITS] = {
    [FLAGSHM_WAIT_NO_PAIRS] =
        "no shadow pair yet (only ezai.h and Python make them): `flagctl advance %s --reason ...`",
    [FLAGSHM_WAIT_NO_TRAFFIC] = "nobody calls: `flagctl waive %s no_traffic --reason ...`",
    [FLAGSHM_WAIT_NO_OUTCOMES] =
        "no outcomes come of its decisions: `flagctl doctor`, `flagctl waive %s no_outcomes --reason ...`",
    [FLAGSHM_WAIT_BREAKER] = "the variant fails wholly, for fewer than 5 users: `flagctl stats %s`",
    [FLAGSHM_WAIT_SRM] =
        "users do not split as they must: the hash or a client is broken: `flagctl stats %s`",
    [FLAGSHM_WAIT_TAINTED] = "counts make no sense: somebody wrote over them: `flagctl doctor`",
    [FLAGSHM_WAIT_BOTH_ARMS_BAD] = "control fails too, so nothing is concluded: `flagctl stats %s`",
    [FLAGSHM_WAIT_PROVE] = "what \"prove\" names is not ruled out yet: `flagctl stats %s`",
    [FLAGSHM_WAIT_APPROVAL] = "a person must agree: `flagctl approve %s`",
    [FLAGSHM_WAIT_FREEZE] =
        "all rollouts are frozen: `flagctl thaw` (or, after `flagctl kill --all`, `flagctl unkill --all`)",
    [FLAGSHM_WAIT_PAUSED] = "paused: `flagctl resume %s`",
    [FLAGSHM_WAIT_RECOVERING] =
        "the server has just started, and watches for a minute: `flagctl waive %s recovering --reason ...`",
    [FLAGSHM_WAIT_FILE_CAP] = "the file's \"rollout_pct\" stands above it: `flagctl set %s PCT`",
    [FLAGSHM_WAIT_UNWATCHED] = "its outcomes cannot be counted just now: `flagctl doctor`",
    [FLAGSHM_WAIT_MODE] = "the mode is not \"auto\": `flagctl advance %s --reason ...`",
    [FLAGSHM_WAIT_PLAN_END] = "the plan ends here",
};

size_t flagshm_wait_explain(enum flagshm_wait wait, const struct flagshm_rollout *s,
                            const struct flagshm_rollout_file *file,
                            const struct flagshm_judgement *judgement, char *text, size_t room)
{
    const struct explaining x = {s, file, judgement, text, room};
    const char *at, *plain;
    size_t used = 0, name = strlen(file->name);
    int bytes = 0;

    switch (wait) {
    case FLAGSHM_WAIT_HOLD:
        bytes = explain_hold(&x);
        break;
    case FLAGSHM_WAIT_MIN_USERS:
        bytes = explain_users(&x);
        break;
    case FLAGSHM_WAIT_SIGNAL:
        bytes = explain_signal(&x);
        break;
    case FLAGSHM_WAIT_WINDOW:
        bytes = explain_window(&x);
        break;
    case FLAGSHM_WAIT_CAPACITY:
        bytes = explain_capacity(&x);
        break;
    default:
        plain = (unsigned)wait < FLAGSHM_WAITS ? plain_waits[wait] : "";
        for (at = plain; *at; at++) {
            bool is_name = at[0] == '%' && at[1] == 's';
            const char *piece = is_name ? file->name : at;
            size_t piece_bytes = is_name ? name : 1, i;

            for (i = 0; i < piece_bytes; i++, used++)
                if (used + 1 < room)
                    text[used] = piece[i];
            at += is_name;
        }
        if (room > 0)
            text[used < room ? used : room - 1] = '\0';
        return used;
    }
    return bytes < 0 ? 0 : (size_t)bytes;
}
