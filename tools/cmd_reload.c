/* reload: has the server read its file anew. It sees changes by itself; this is for file systems that tell nobody of them. */
#include "tools/flagctl.h"

static int reload_run(struct flagctl *ctl, int argc, char **argv)
{
    cJSON *answer = NULL, *result;
    int code = flagctl_ask(ctl, "reload", NULL, false, &answer);

    (void)argc;
    (void)argv;
    cJSON_Delete(answer);
    if (code != FLAGCTL_OK)
        return code;
    if (ctl->is_json) {
        result = cJSON_CreateObject();
        (void)cJSON_AddBoolToObject(result, "ok", true);
        return flagctl_json(ctl, result);
    }
    (void)fprintf(ctl->out, "the server reads its file anew; what came of it: flagctl history\n");
    return FLAGCTL_OK;
}

const struct flagctl_command flagctl_reload_command = {
    .name = "reload",
    .group = "Ask the server",
    .arguments = "",
    .summary = "have the server read its file anew",
    .help = "As SIGHUP does. The server sees changes by itself, at once, or within 2 s where the file system "
            "tells nobody of\n"
            "them (NFS); this is for the impatient.\n\n"
            "JSON: {\"ok\": true}",
    .run = reload_run,
};
