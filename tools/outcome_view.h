/* outcome_view: the server's counts of an arm in words and figures that people use: what `flagctl stats` shows. Pure, but for the text of
 * the arms, which came through the socket.
 */
#ifndef FLAGSHM_TOOLS_OUTCOME_VIEW_H
#define FLAGSHM_TOOLS_OUTCOME_VIEW_H

#include "tools/flagctl.h"
#include "tools/rate.h"

enum flagctl_measure {
    FLAGCTL_COUNT,       /* a number of calls */
    FLAGCTL_SHARE,       /* a number, its share of another one, and the share's interval */
    FLAGCTL_PLAIN_RATIO, /* a number for each of another one: of events that one user may cause many of */
    FLAGCTL_TIME,        /* a percentile in ms */
    FLAGCTL_AMOUNT       /* a percentile or mean in tokens */
};

struct flagctl_metric {
    const char *group, *label; /* group NULL: as the line before */
    enum flagctl_measure measure;
    const char *
        key; /* of the server's JSON, or one that flagctl_metric_number derives; of percentiles the histogram */
    const char *of;   /* key of the denominator; of percentiles "p50", ... */
    bool is_optional; /* not shown where no arm has any */
};

/* In the order in which they are shown; ends in an entry without a label. */
extern const struct flagctl_metric flagctl_metrics[];

/* A count of an arm: what the server sends, or "in_flight", "answered" (neither failed, limited nor cancelled),
 * "tokens_mean", "custom_0" ... "custom_7". False: not known, as calls in flight where nobody says STARTED. */
bool flagctl_arm_number(const cJSON *arm, const char *key, double *number);
/* The measured value: a count, a share (0...1), ms, tokens. False: there is none. */
bool flagctl_metric_value(const struct flagctl_metric *metric, const cJSON *arm, double *value);
/* As flagctl_metric_value, with the interval; only of FLAGCTL_SHARE. */
bool flagctl_metric_rate(const struct flagctl_metric *metric, const cJSON *arm, struct flagctl_rate *rate);
/* The cell of an arm, "-" where there is nothing. */
void flagctl_metric_text(const struct flagctl_metric *metric, const cJSON *arm, char *out, size_t room);
/* What the variant has above control, "" where that makes no sense. *is_clear: the interval of a difference of shares leaves 0 out. */
void flagctl_metric_difference(const struct flagctl_metric *metric, const cJSON *control,
                               const cJSON *variant, char *out, size_t room, bool *is_clear);

/* Calls of all arms, and seconds since when they are counted, of a flag as the server sends it. */
double flagctl_flag_calls(const cJSON *flag);
double flagctl_flag_age_s(const cJSON *flag);
/* Over a day and 1000 ids: do ids hardly ever come back, so that they are requests and not users? */
bool flagctl_is_request_id(const cJSON *flag, bool is_session, double *calls_per_id, double *ids);

/* "812 ms", "1.24 s". Returns `out`. */
char *flagctl_ms(double ms, char out[24]);
/* "1234", "1.5" where it is small. Returns `out`. */
char *flagctl_amount(double amount, char out[24]);
/* "1.2 %", "0.034 %", "0 %", of a share 0...1. Returns `out`. */
char *flagctl_percent(double share, char out[24]);

#endif
