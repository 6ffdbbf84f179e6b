/* ask: one question to the server, its answer as an exit code. */
#include "server/control.h"
#include "tools/flagctl.h"

#include <errno.h>
#include <string.h>

#define PATIENCE_MS       10000 /* of a server that writes a large answer */
#define PATIENCE_QUIET_MS 2000  /* of a caller that has another way, and is in a hurry: a kill */

static int code_of_word(const char *word)
{
    static const struct {
        const char *word;
        int code;
    } codes[] = {
        {"usage", FLAGCTL_USAGE},       {"no_such_flag", FLAGCTL_NO_FLAG}, {"already", FLAGCTL_OK},
        {"conflict", FLAGCTL_CONFLICT}, {"invalid", FLAGCTL_FILE_ERRORS},
    };
    size_t i;
    for (i = 0; word != NULL && i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].word, word) == 0)
            return codes[i].code;
    return FLAGCTL_FAILED;
}

/* What the answer means. */
static int answer_judge(const struct flagctl *ctl, const char *verb, const cJSON *answer)
{
    const char *word, *message;
    int code;

    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok")))
        return FLAGCTL_OK;
    word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "code"));
    message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "message"));
    code = code_of_word(word);
    if (code == FLAGCTL_OK)
        return FLAGCTL_OK;
    if (message != NULL)
        return flagctl_fail(ctl, code, "%s", message);
    return flagctl_fail(ctl, code, "the server refuses %s%s%s", verb,
                        word != NULL ? ": " : " and does not say why", word != NULL ? word : "");
}

int flagctl_ask(struct flagctl *ctl, const char *verb, cJSON *request, bool quiet_unreachable, cJSON **answer)
{
    struct flagshm_error error = {""};
    struct flagshm *client;
    int code;

    *answer = NULL;
    if (request == NULL)
        request = cJSON_CreateObject();
    if (request == NULL || cJSON_AddStringToObject(request, "verb", verb) == NULL) {
        cJSON_Delete(request);
        return flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    }
    (void)flagctl_client(ctl, &client); /* the segment knows the socket */
    code = flagshm_control_ask(ctl->instance.socket_path, request,
                               quiet_unreachable ? PATIENCE_QUIET_MS : PATIENCE_MS, answer, &error);
    cJSON_Delete(request);
    if (code == -ENOENT || code == -ECONNREFUSED || code == -ETIMEDOUT || code == -ECONNRESET ||
        code == -EPIPE) {
        if (quiet_unreachable)
            return FLAGCTL_UNREACHABLE;
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE, "%s\nwhat is wrong and how to mend it: flagctl doctor",
                            error.text);
    }
    if (code != 0)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s", error.text[0] != '\0' ? error.text : strerror(-code));
    code = answer_judge(ctl, verb, *answer);
    if (code != FLAGCTL_OK) {
        cJSON_Delete(*answer);
        *answer = NULL;
    }
    return code;
}
