/* view: the served table as commands show it: what a flag serves now, and why. */
#ifndef FLAGSHM_TOOLS_VIEW_H
#define FLAGSHM_TOOLS_VIEW_H

#include "tools/flagctl.h"

struct flagctl_served { /* as flagshm_decide would say it for any user */
    uint32_t mpct;
    const char *stage;
    enum flagshm_reason reason;
    enum flagctl_hue hue; /* of share and stage */
};

bool flagctl_is_stale(const struct flagshm_snapshot *snapshot);
struct flagctl_served flagctl_served(const struct flagshm_snapshot *snapshot,
                                     const struct flagshm_snapshot_flag *flag);

/* Is the arm's value a JSON object (else: a text)? */
bool flagctl_is_object(const struct flagshm_snapshot_arm *arm);
/* Adds an arm's value under `key` as it stands in a flag file: an object's own bytes, or a text. */
void flagctl_json_value(cJSON *object, const char *key, const char *value, size_t bytes, bool is_object);

/* What a person should know about the whole table, one sentence each; at most `room` of them. */
struct flagctl_warning {
    char text[256];
    enum flagctl_hue hue;
};
size_t flagctl_warnings(const struct flagshm_snapshot *snapshot, struct flagctl_warning *warnings,
                        size_t room);

#endif
