/* model: prints the model to call for an id; a script that asks gets one whatever happens. */
#include "tools/connect.h"

#include <string.h>

/* Only printable text is a model: a line end in it would become a second argument. */
static int model_print(struct flagctl *ctl, const char *model)
{
    char clean[1024];
    if (ctl->is_json) {
        cJSON *json = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(json, "model", model);
        return flagctl_json(ctl, json);
    }
    (void)fprintf(ctl->out, "%s\n", flagctl_clean(model, clean, sizeof clean));
    return FLAGCTL_OK;
}

static int model_run(struct flagctl *ctl, int argc, char **argv)
{
    const char *fallback = flagctl_option(ctl, "fallback");
    struct flagshm_decision d;
    struct flagshm *client;
    int code = flagctl_client(ctl, &client);

    (void)argc;
    if (fallback == NULL)
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "model needs --fallback MODEL: what to print where the table does not say");
    if (code != 0)
        (void)flagctl_no_table(ctl, code);
    (void)flagshm_decide(client, argv[0], argv[1], &d);
    if (code == 0 && d.reason >= FLAGSHM_FLAG_NOT_FOUND)
        flagctl_warn(ctl, "%s: %s: the fallback", argv[0], flagshm_reason_name(d.reason));
    else if (code == 0 && d.model[0] == '\0')
        flagctl_warn(ctl, "%s: arm %s names no model: the fallback", argv[0], d.arm_name);
    return model_print(ctl, d.model[0] != '\0' ? d.model : fallback);
}

/* A wrong line has been complained of; where it names a fallback at all, that is the answer. */
static int model_rescue(struct flagctl *ctl, int argc, char **argv)
{
    const char *fallback = flagctl_option(ctl, "fallback");
    int i;

    for (i = 1; fallback == NULL && i < argc; i++) {
        if (strncmp(argv[i], "--fallback=", 11) == 0)
            fallback = argv[i] + 11;
        else if (strcmp(argv[i], "--fallback") == 0 && i + 1 < argc)
            fallback = argv[i + 1];
    }
    return fallback != NULL ? model_print(ctl, fallback) : FLAGCTL_USAGE;
}

static const struct flagctl_option options[] = {
    {"fallback", 'f', "MODEL", FLAGCTL_WORD, "what to print where the table does not say; must be given"},
    {0},
};

const struct flagctl_command flagctl_model_command = {
    .name = "model",
    .group = "For shells",
    .arguments = "FLAG ID --fallback MODEL",
    .argument_kinds = {FLAGCTL_FLAG, FLAGCTL_ID},
    .summary = "print the model to call for an id",
    .help =
        "    model=$(flagctl model new_summarizer_model --fallback claude-haiku-4-5 -- \"$user\")\n\n"
        "Always prints a model: the fallback where there is no table, no such flag, no id, or an arm without "
        "a model; why goes to\n"
        "standard error.\n\n"
        "Exit codes: 0; 2 only where the line names no fallback; 1 where the output cannot be written.\n\n"
        "JSON: {\"model\"}",
    .options = options,
    .min_arguments = 2,
    .max_arguments = 2,
    .run = model_run,
    .rescue = model_rescue,
};
