/* top_model: the figures of `flagctl top`: the counters of all slots, read again and again, as rates of the last interval and the last minute.
 *
 * It reads the table and the outcome segment itself, so that looking costs the server next to nothing: it is only asked for the rollouts,
 * every few seconds. Table and segment may hold anything: see outcome_file.h.
 */
#ifndef FLAGSHM_TOOLS_TOP_MODEL_H
#define FLAGSHM_TOOLS_TOP_MODEL_H

#include "tools/outcome_file.h"
#include "tools/view.h"

#define TOP_SAMPLES    64 /* of at least a second each */
#define TOP_REFERENCES 3
#define TOP_MINUTE_S   60

struct top_sample {
    uint64_t calls, failed, tokens;
};

struct top_arm {
    char name[32];
    const char *model;            /* in the snapshot */
    double share_pct;             /* of users; of shadow calls their own */
    uint64_t n[FLAGSHM_COUNTERS]; /* as last read: what the slot has counted */
    uint64_t calls, failed;       /* of the last interval */
    struct top_sample samples[TOP_SAMPLES];
    struct top_sample minute;                                       /* their sum over the last minute */
    uint32_t references[TOP_REFERENCES][FLAGSHM_HISTOGRAM_BUCKETS]; /* latency as it was up to 90 s ago */
    uint64_t latency_count;                                         /* since the oldest of these */
    double p50_ms, p95_ms;
};

struct top_flag {
    const struct flagshm_snapshot_flag *served; /* in the snapshot */
    uint32_t generation, arm_count;             /* with that of shadow calls */
    bool is_known;                              /* read before in this generation */
    bool is_tainted;
    double calls_per_s, error_rate, p95_ms, tokens; /* of all arms, to sort by */
    struct top_arm *arms;
};

struct top {
    struct flagctl *ctl;
    struct flagshm *client;
    bool has_snapshot;
    struct flagshm_snapshot snapshot;
    struct flagctl_outcomes file;
    struct top_flag *flags; /* those with a slot, in the order of names */
    size_t count;
    char fault[512]; /* why nothing can be read now; "": it can */
    double read_s;   /* when, of the monotonic clock; 0: never */
    double interval_s;
    double sample_s[TOP_SAMPLES];
    unsigned head; /* the sample that is filled now */
    double reference_s[TOP_REFERENCES];
    double calls_per_s, errors_per_s;
    int64_t age_ns;  /* of the server's heartbeat */
    cJSON *rollouts; /* the server's answer; NULL: it tells none */
    double asked_s;  /* when, of the monotonic clock; 0: never */
};

/* FLAGCTL_OK; or it has said what is wrong (no table, no segment, no permission) and returns FLAGCTL_UNREACHABLE. Takes the first
 * reading. */
int top_open(struct top *top, struct flagctl *ctl);
void top_close(struct top *top);
/* Another reading; what cannot be read now is told in `fault`. */
void top_read(struct top *top);

/* Calls a second and failed calls among all, of a sample `back` steps before the newest; false: there is none. */
bool top_sample(const struct top *top, const struct top_arm *arm, unsigned back, double *calls_per_s,
                uint64_t *failed);
bool top_is_stale(const struct top *top);

#endif
