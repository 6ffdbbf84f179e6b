/* version: the three numbers that must fit together. */
#include "tools/flagctl.h"

static int version_run(struct flagctl *ctl, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (ctl->is_json) {
        cJSON *json = cJSON_CreateObject(), *layout;
        (void)cJSON_AddStringToObject(json, "release", FLAGSHM_RELEASE);
        (void)cJSON_AddStringToObject(json, "header", FLAGSHM_VERSION);
        layout = cJSON_AddObjectToObject(json, "layout");
        (void)cJSON_AddNumberToObject(layout, "major", FLAGSHM_LAYOUT_MAJOR);
        (void)cJSON_AddNumberToObject(layout, "minor", FLAGSHM_LAYOUT_MINOR);
        return flagctl_json(ctl, json);
    }
    (void)fprintf(ctl->out, "flagctl %s\nheader  %s\nlayout  %d.%d\n", FLAGSHM_RELEASE, FLAGSHM_VERSION,
                  FLAGSHM_LAYOUT_MAJOR, FLAGSHM_LAYOUT_MINOR);
    return FLAGCTL_OK;
}

const struct flagctl_command flagctl_version_command = {
    .name = "version",
    .group = "Help",
    .arguments = "",
    .summary = "the versions of the release, the header and the layout",
    .help = "The same as `flagctl --version`.\n\n"
            "The layout is that of the table in shared memory: programs read any minor of their own major. "
            "Which layout a server\n"
            "publishes: `flagctl dump`.\n\n"
            "JSON: {\"release\", \"header\", \"layout\": {\"major\", \"minor\"}}",
    .run = version_run,
};
