/* rollout_ask: asking the server about rollouts, and for a change of one: what the commands share that steer a rollout. */
#ifndef FLAGSHM_TOOLS_ROLLOUT_ASK_H
#define FLAGSHM_TOOLS_ROLLOUT_ASK_H

#include "tools/rollout_view.h"

/* What the server tells of the rollout of one flag, without a word: NULL, and *answer NULL, whatever goes wrong. It lives in *answer: free
 * that with cJSON_Delete. */
const cJSON *flagctl_rollout_peek(struct flagctl *ctl, const char *flag, cJSON **answer);
/* A share in percent, in thousandths of a percent. */
uint32_t flagctl_rollout_mpct(const cJSON *object, const char *key);
/* "step 2 of 7", "not begun", "rolled back": where a rollout stands. Returns `out`. */
char *flagctl_rollout_place(const cJSON *rollout, char out[80]);

/* FLAGCTL_OK; FLAGCTL_NO_FLAG, having said so, where that can be no flag's name. */
int flagctl_flag_name(const struct flagctl *ctl, const char *flag);

struct flagctl_steer { /* one run of a command that changes a rollout */
    const char *verb;
    const char *flag; /* NULL: of no single one */
    const char *done; /* what has happened, where the server does not say it: "paused" */
    const char *undo; /* the command that takes it back, without "flagctl": "resume x"; "" where none does */
    bool is_stop;     /* its undo is told also where nothing had to be done */
    bool needs_reason;
    cJSON *request; /* what goes along beside flag and reason, or NULL; taken over */
};

/* Asks the server and tells what came of it. Returns the exit code. */
int flagctl_steer(struct flagctl *ctl, struct flagctl_steer *steer);
#define FLAGCTL_STEER_JSON                                                                                   \
    "JSON: {\"flag\", \"already\", \"sentence\", \"stage\", \"rollout_pct\" (served now), \"durable\" (it "  \
    "is on the disk),\n  \"version\", \"undo\", \"warnings\": []}; stage to undo where they apply"
#define FLAGCTL_STEER_CODES                                                                                  \
    "Exit codes: 4 no such flag, 5 no server, 1 not permitted or refused, with the reason. What is so "      \
    "already is no error.\n\n"

#endif
