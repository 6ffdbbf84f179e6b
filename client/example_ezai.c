#include "ezai.h"
#include <stdio.h>
#include <string.h>

/* Decides by the flag, calls the model of the user's arm with the tags, and books what became of it. */
static int summarize(struct ezai *ai, const char *user, const char *text)
{
    struct ezai_request request = EZAI_REQUEST_INIT;
    struct ezai_reply reply;
    int error;

    request.flag = "new_summarizer_model";
    request.id = user;
    request.default_model = "claude-haiku-4-5"; /* while there is no such flag, or no server */
    request.system = "Summarize the text in one sentence.";
    request.prompt = text;
    request.falls_back = true; /* the variant fails: control answers */
    error = ezai_call(ai, &request, &reply);
    if (error == 0)
        printf("%s: %s (%s): %s\n", user, reply.decision.arm_name, reply.model, reply.text);
    else
        fprintf(stderr, "%s: %s: %s\n", user, reply.decision.arm_name, reply.error);
    ezai_reply_free(&reply);
    return error;
}

/* Usage: EZAI_KEY=... example_ezai USER... (without: one a line on standard input) */
int main(int argc, char **argv)
{
    const char *text = "Flags are decided in shared memory; the calls are made by each process itself.";
    struct flagshm flags;
    struct ezai ai;
    char user[256];
    int failures = 0, i;

    setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, into pipes too */
    flagshm_open(&flags, NULL);       /* the handle works whatever this returns */
    if (ezai_open(&ai, &flags, NULL) != 0)
        return 1;
    for (i = 1; i < argc; i++)
        failures += summarize(&ai, argv[i], text) != 0;
    while (argc == 1 && fgets(user, sizeof user, stdin) != NULL) {
        user[strcspn(user, "\n")] = '\0';
        failures += summarize(&ai, user, text) != 0;
    }
    ezai_close(&ai);
    flagshm_close(&flags);
    return failures != 0;
}
