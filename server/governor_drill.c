/* governor_drill: the way back, tried before it is needed, on a hidden flag of its own: nobody decides by it but the one who tries. */
#include "server/clock.h"
#include "server/governor_internal.h"
#include "server/log.h"
#include "server/segment_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DRILL_NS UINT64_C(10000000000)

void flagshm_governor_drill_stop(struct flagshm_governor *g)
{
    struct flagshm_publisher *p = g->publisher;
    struct flagshm_ward *ward;

    if (!g->drill.is_on)
        return;
    g->drill.is_on = false;
    p->hidden = NULL;
    ward = flagshm_wards_find_name(&p->wards, g->drill.hidden);
    if (ward != NULL)
        flagshm_wards_remove(&p->wards, ward);
    (void)flagshm_governor_publish(g);
    flagshm_flagfile_free(&g->drill.set);
}

void flagshm_governor_drill_beat(struct flagshm_governor *g)
{
    if (!g->drill.is_on || g->publisher->moment.mono_ns < g->drill.until_mono_ns)
        return;
    flagshm_log(FLAGSHM_LOG_WARNING, "the drill of %s, by %s, was not ended in time", g->drill.flag,
                g->drill.user);
    flagshm_governor_drill_stop(g);
}

/* Half of all ids have its variant; errors alone are judged. */
static int read_hidden(struct flagshm_governor *g)
{
    struct flagshm_diags diags = {0};
    char text[400];
    int length =
        snprintf(text, sizeof text,
                 "{\"flags\": {\"%s\": {\"control\": \"drill-control\", \"variant\": \"drill-variant\", "
                 "\"rollout_pct\": 50, \"guardrails\": [{\"kind\": \"error_rate\"}]}}}",
                 g->drill.hidden);
    int result = flagshm_flagfile_parse(&g->drill.set, text, (size_t)length, NULL, &diags);

    flagshm_diags_free(&diags);
    return result;
}

static int add_hidden(struct flagshm_governor *g)
{
    const struct flagshm_flag *flag = &g->drill.set.entries[0].flag;
    struct flagshm_transition ignored;
    struct flagshm_ward *ward = flagshm_wards_add(&g->publisher->wards, g->drill.hidden);

    if (ward == NULL)
        return -ENOMEM;
    ward->is_hidden = ward->is_recovered = true;
    ward->source = ward->next_source = flag;
    (void)flagshm_rollout_file_of(flag, &ward->file);
    ward->next_file = ward->file;
    (void)flagshm_rollout_edit(&ward->state, &ward->file, &g->publisher->moment, &ignored);
    g->publisher->hidden = &g->drill.set;
    return 0;
}

bool flagshm_governor_drill(struct flagshm_governor *g, const char *flag, const char *user,
                            struct flagshm_governor_answer *answer)
{
    memset(answer, 0, sizeof *answer);
    if (flagshm_governor_ward(g, flag, answer) == NULL)
        return true;
    if (g->drill.is_on) {
        flagshm_governor_answer_set(answer, -EPERM,
                                    "a drill of %s is under way, by %s: try again in a moment", g->drill.flag,
                                    g->drill.user);
        return true;
    }
    if (!flagshm_governor_has_slot(g, NULL)) {
        flagshm_governor_answer_set(
            answer, -EPERM, "no slot for outcomes is free, so nothing can be tried: see `flagctl doctor`");
        return true;
    }
    (void)snprintf(g->drill.flag, sizeof g->drill.flag, "%s", flag);
    (void)snprintf(g->drill.user, sizeof g->drill.user, "%s", user);
    (void)snprintf(g->drill.hidden, sizeof g->drill.hidden, "flagshm-drill-%08llx",
                   (unsigned long long)(flagshm_segment_new_id() & 0xffffffffu));
    g->drill.until_mono_ns = flagshm_governor_now(g)->mono_ns + DRILL_NS;
    if (read_hidden(g) != 0) {
        flagshm_governor_answer_set(answer, -ENOMEM, "no memory for the drill");
        return true;
    }
    g->drill.is_on = true;
    if (add_hidden(g) != 0 || !flagshm_governor_publish(g)) {
        flagshm_governor_answer_set(answer, -EIO, "the drill's flag cannot be published: %.400s",
                                    g->publisher->refusal.text);
        flagshm_governor_drill_stop(g);
        return true;
    }
    (void)snprintf(answer->hidden, sizeof answer->hidden, "%s", g->drill.hidden);
    flagshm_governor_answer_set(answer, 0, "a hidden flag is served for the drill");
    answer->is_durable = true;
    return true;
}

bool flagshm_governor_drill_end(struct flagshm_governor *g, const char *flag, uint64_t took_ns,
                                bool has_failed, const char *user, uint64_t asker,
                                struct flagshm_governor_answer *answer)
{
    const struct flagshm_ask ask = {.verb = FLAGSHM_VERB_DRILL_END,
                                    .user = user,
                                    .reason = "",
                                    .drill_ns = took_ns,
                                    .has_failed = has_failed};

    if (g->drill.is_on && strcmp(g->drill.flag, flag) == 0)
        flagshm_governor_drill_stop(g);
    return flagshm_governor_ask(g, flag, &ask, asker, answer);
}
