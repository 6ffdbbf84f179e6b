/* rollout_view: rollouts as the server tells them (the verb "rollouts"), in the words, cells and sentences that commands share. Pure, but for
 * the two that ask. What came through the socket is shown as it is: an older server leaves out what it does not know, a newer one says more.
 */
#ifndef FLAGSHM_TOOLS_ROLLOUT_VIEW_H
#define FLAGSHM_TOOLS_ROLLOUT_VIEW_H

#include "tools/flagctl.h"

#include <time.h>

#define FLAGCTL_EXPIRES_NEAR_DAYS 14

/* ---- asking: {"rollouts": [ROLLOUT], "frozen": null or {"by", "reason", "since"}, "version"}, the caller's ---- */

/* Without a word: NULL where no server answers in time, where it knows no rollouts, or does not talk to this user. `flag` NULL: all. */
cJSON *flagctl_rollouts_peek(struct flagctl *ctl, const char *flag, int patience_ms);
/* FLAGCTL_OK and *answer; else it has said what is wrong, and returns the exit code. `is_quiet_unreachable`: FLAGCTL_UNREACHABLE without a
 * word. */
int flagctl_rollouts_ask(struct flagctl *ctl, const char *flag, bool is_quiet_unreachable, cJSON **answer);
/* The rollout of that flag; NULL. */
const cJSON *flagctl_rollout_find(const cJSON *answer, const char *flag);

/* ---- members: "", 0, false where there is none, or one of another kind ---- */
const char *flagctl_text_at(const cJSON *object, const char *key);
double flagctl_number_at(const cJSON *object, const char *key);
bool flagctl_has_number(const cJSON *object, const char *key);
bool flagctl_is_at(const cJSON *object, const char *key);

/* ---- one rollout in words ---- */

/* Is there anything to tell of it: a plan, a guard, a stop? */
bool flagctl_rollout_is_one(const cJSON *rollout);
bool flagctl_rollout_waits_for(const cJSON *rollout, const char *reason);
enum flagctl_hue flagctl_rollout_hue(const cJSON *rollout);
/* GUARD: "on", "wait" (no slot yet, or not open), "off" (the file refuses: it books, and nobody judges), "-" (nothing to compare). `rollout` NULL: by the table alone. */
const char *flagctl_guard_word(const cJSON *rollout, bool is_guarded_in_table);
/* "5 %", or "shadow 10 %". Returns `out`. */
char *flagctl_rollout_share(const cJSON *rollout, char out[32]);
/* "2/7", "-". Returns `out`. */
char *flagctl_step_text(const cJSON *rollout, char out[24]);
/* "hold, min_users"; "-" where it waits for nothing. Returns `out`. */
char *flagctl_waits_text(const cJSON *rollout, char *out, size_t room);
/* Of the hold, where it waits for that; of the watch at the top; "-". Returns `out`. */
char *flagctl_left_text(const cJSON *rollout, char out[32]);
/* "20h 40m" of seconds; below two minutes also "1.5s". Returns `out`. */
char *flagctl_seconds_text(double seconds, char out[32]);
/* "canary-5pct, 5 %, step 2 of 7, waits for hold (20h 40m left)". Returns `out`. */
char *flagctl_rollout_line(const cJSON *rollout, char *out, size_t room);

/* Words for a column: "stale, undrilled, request ids, expires"; "" where there is nothing to warn of. Returns `out`. */
char *flagctl_warning_words(const cJSON *rollout, time_t now, char *out, size_t room);
/* The server's sentences, each a string added to `list`; has_prefix: with the flag's name before it. */
void flagctl_warning_sentences(const cJSON *rollout, bool has_prefix, cJSON *list);
/* Whole days from now until the end of that date; false: it is none. */
bool flagctl_days_left(const char *date, time_t now, long *days);

/* ---- its guardrails ---- */

/* A rate of a kind of guardrail: "1.2 %", "812 ms", "340". Returns `out`. */
char *flagctl_guard_rate(const cJSON *guard, const char *key, char out[24]);
/* "no harm seen", "harm", ... in a word or two. */
const char *flagctl_guard_verdict(const cJSON *guard, enum flagctl_hue *hue);
/* A table; nothing where it has none. */
void flagctl_guards_print(struct flagctl *ctl, const cJSON *rollout);
/* A line for each guardrail: its sentence, and what has been ruled out. */
void flagctl_guard_sentences_print(struct flagctl *ctl, const cJSON *rollout);

/* What is concluded, under a heading; nothing of a flag that is not guarded, or of NULL. */
void flagctl_evidence_print(struct flagctl *ctl, const cJSON *rollout);
/* Adds "evidence": {"text", "verdict", "guards"}, or null. */
void flagctl_evidence_json(cJSON *object, const cJSON *rollout);

/* Prints sentences, in yellow on a terminal that has colours; frees the list. */
void flagctl_sentences_print(struct flagctl *ctl, cJSON *list);
/* "  label       text", cleaned. */
void flagctl_line_print(struct flagctl *ctl, const char *label, const char *text);

#endif
