/* verbs_internal: what the files of the verbs share: verbs.c, and verbs_rollout.c with what steers rollouts. For no one else. */
#ifndef FLAGSHM_SERVER_VERBS_INTERNAL_H
#define FLAGSHM_SERVER_VERBS_INTERNAL_H

#include "server/verbs.h"

cJSON *flagshm_verbs_refuse(const char *code, const char *format, ...) __attribute__((format(printf, 2, 3)));
cJSON *flagshm_verbs_agree(const struct flagshm_verbs *verbs);
const char *flagshm_verbs_text(const cJSON *request, const char *key); /* NULL: no text */

typedef cJSON *flagshm_verb_handler(struct flagshm_verbs *verbs, const struct flagshm_peer *peer,
                                    const cJSON *request);
flagshm_verb_handler flagshm_verb_rollouts, flagshm_verb_rollback, flagshm_verb_clear, flagshm_verb_approve,
    flagshm_verb_pause, flagshm_verb_resume, flagshm_verb_advance, flagshm_verb_waive, flagshm_verb_freeze,
    flagshm_verb_thaw, flagshm_verb_drill, flagshm_verb_drill_end;

/* An answer of the governor as the socket gives it. */
cJSON *flagshm_verbs_of_answer(const struct flagshm_verbs *verbs,
                               const struct flagshm_governor_answer *answer);

#endif
