/* call: the call that a program would make for this id, made by hand: one arm, or all of them side by side.
 * Books nothing: a person who looks is no user. */
#include "client/ezai.h"
#include "tools/connect.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ARMS_MAX   8
#define TEXT_WIDTH 44 /* of an arm's text in the table, in characters */
#define TEXT_LINES 8

struct calls {
    struct flagctl *ctl;
    struct ezai ai;
    struct ezai_request request;
    struct flagshm_decision decisions[ARMS_MAX];
    struct ezai_reply replies[ARMS_MAX];
    size_t count;
    bool is_dry_run, is_live; /* live: the text appears as it comes */
};

static const char *option_or(const struct flagctl *ctl, const char *name, const char *otherwise)
{
    const char *value = flagctl_option(ctl, name);
    return value != NULL ? value : otherwise;
}

/* ---- what is asked ---- */

/* The decision of the id, or with --both one for each arm. */
static int decide(struct calls *calls, const char *flag, const char *id)
{
    struct flagctl *ctl = calls->ctl;
    struct flagshm_snapshot snapshot;
    const struct flagshm_snapshot_flag *found;
    uint32_t arms = 1, i;
    int code = flagctl_snapshot(ctl, &snapshot);

    if (code != FLAGCTL_OK)
        return code;
    found = flagshm_snapshot_find(&snapshot, flag);
    if (found == NULL)
        code = flagctl_no_flag(ctl, &snapshot, flag);
    else if (flagctl_option(ctl, "both") != NULL)
        arms = found->arm_count < ARMS_MAX ? found->arm_count : ARMS_MAX;
    flagshm_snapshot_free(&snapshot);
    if (code != FLAGCTL_OK)
        return code;
    (void)flagshm_decide(&ctl->client, flag, id, &calls->decisions[0]);
    if (calls->decisions[0].reason >= FLAGSHM_FLAG_NOT_FOUND)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "%s cannot be decided for this id: %s", flag,
                            flagshm_reason_name(calls->decisions[0].reason));
    calls->decisions[0].slot = FLAGSHM_NO_SLOT;
    calls->decisions[0].shadow = false;
    for (i = arms; i-- > 0 && arms > 1;)
        if (ezai_other_arm(&ctl->client, &calls->decisions[0], i, &calls->decisions[i]) != 0)
            return flagctl_fail(ctl, FLAGCTL_CONFLICT, "the table has changed meanwhile: call again");
    calls->count = arms;
    return FLAGCTL_OK;
}

/* The prompt, "-" from standard input; malloc'ed. */
static int prompt_read(struct calls *calls, char **prompt)
{
    const char *text = flagctl_option(calls->ctl, "prompt");
    struct flagshm_error error;
    size_t bytes = 0;
    char *input;

    if (text == NULL)
        return flagctl_fail(calls->ctl, FLAGCTL_USAGE,
                            "call needs --prompt TEXT (\"-\": from standard input)");
    if (strcmp(text, "-") != 0) {
        *prompt = strdup(text);
    } else {
        input = flagctl_text_read("-", &bytes, &error);
        if (input == NULL)
            return flagctl_fail(calls->ctl, FLAGCTL_FAILED, "%s", error.text);
        *prompt = memchr(input, '\0', bytes) == NULL ? strndup(input, bytes) : NULL;
        free(input);
        if (*prompt == NULL)
            return flagctl_fail(calls->ctl, FLAGCTL_FAILED, "standard input holds a NUL, which is no text");
    }
    if (*prompt == NULL)
        return flagctl_fail(calls->ctl, FLAGCTL_FAILED, "out of memory");
    return FLAGCTL_OK;
}

static int request_fill(struct calls *calls, const char *flag, const char *id)
{
    struct flagctl *ctl = calls->ctl;
    const char *max_tokens = flagctl_option(ctl, "max-tokens"), *timeout = flagctl_option(ctl, "timeout");
    double number = 0, seconds = 0;

    if (max_tokens != NULL && (!flagctl_number(max_tokens, 1, 1e7, &number) || number != (uint32_t)number))
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "--max-tokens must be a whole number from 1 to 10000000, not \"%s\"", max_tokens);
    if (timeout != NULL && !flagctl_number(timeout, 0.001, 1e6, &seconds))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--timeout must be a number of seconds, not \"%s\"", timeout);
    calls->request.deadline_ms = (uint32_t)(seconds * 1000);
    calls->request.flag = flag;
    calls->request.id = id;
    calls->request.max_tokens = (uint32_t)number;
    calls->request.system = flagctl_option(ctl, "system");
    calls->request.default_model = flagctl_option(ctl, "fallback");
    calls->request.is_stream = flagctl_option(ctl, "stream") != NULL;
    calls->is_dry_run = flagctl_option(ctl, "dry-run") != NULL;
    calls->is_live = calls->request.is_stream && !ctl->is_json && calls->count == 1 && !calls->is_dry_run;
    return FLAGCTL_OK;
}

static int ezai_start(struct calls *calls)
{
    static const struct {
        const char *name;
        enum ezai_tags tags;
    } known[] = {{"metadata", EZAI_TAGS_METADATA}, {"header", EZAI_TAGS_HEADER}, {"none", EZAI_TAGS_NONE}};
    const char *tags = option_or(calls->ctl, "tags", "metadata");
    struct ezai_options options;
    size_t i;
    int error;

    memset(&options, 0, sizeof options);
    for (i = 0; i < 3 && strcmp(tags, known[i].name) != 0; i++) {
    }
    if (i == 3)
        return flagctl_fail(calls->ctl, FLAGCTL_USAGE, "--tags must be metadata, header or none, not \"%s\"",
                            tags);
    options.tags = known[i].tags;
    error = ezai_open(&calls->ai, &calls->ctl->client, &options);
    if (error == -EINVAL)
        return flagctl_fail(calls->ctl, FLAGCTL_USAGE,
                            "EZAI_BASE_URL must begin with http:// or https://, and EZAI_KEY hold neither "
                            "blanks nor line ends");
    if (error != 0)
        return flagctl_fail(calls->ctl, FLAGCTL_FAILED, "%s", strerror(-error));
    return FLAGCTL_OK;
}

/* ---- what is shown ---- */

static int text_print(void *user, const char *text, size_t bytes)
{
    struct calls *calls = user;
    char clean[4096];

    /* line by line: line ends may stay, all else that steers a terminal may not */
    while (bytes > 0) {
        size_t length = 0, shown;
        while (length < bytes && text[length] != '\n' && length < sizeof clean - 1)
            length++;
        while (length > 0 && length < bytes && ((unsigned char)text[length] & 0xc0) == 0x80)
            length--;
        if (length > 0) {
            char line[sizeof clean];
            memcpy(line, text, length);
            line[length] = '\0';
            (void)fputs(flagctl_clean(line, clean, sizeof clean), calls->ctl->out);
        } else {
            (void)fputc('\n', calls->ctl->out);
        }
        shown = length > 0 ? length : 1;
        text += shown;
        bytes -= shown;
    }
    return fflush(calls->ctl->out) != 0;
}

/* One line of an arm's text, broken at a blank where there is one; what follows it, or NULL. */
static const char *line_cut(const char *text, char out[TEXT_WIDTH * 4 + 1])
{
    const char *p = text, *blank = NULL;
    size_t width = 0;

    while (*p != '\0' && *p != '\n' && width < TEXT_WIDTH) {
        if (*p == ' ')
            blank = p;
        p++;
        while (((unsigned char)*p & 0xc0) == 0x80)
            p++;
        width++;
    }
    if (*p != '\0' && *p != '\n' && *p != ' ' && blank != NULL)
        p = blank;
    (void)snprintf(out, TEXT_WIDTH * 4 + 1, "%.*s", (int)(p - text), text);
    if (*p == ' ' || *p == '\n')
        p++;
    return *p != '\0' ? p : NULL;
}

static void row_begin(struct flagctl_table *table, const char *label)
{
    flagctl_table_cell(table, FLAGCTL_DIM, "%s", label);
}

static void span_cell(struct flagctl_table *table, uint64_t ns)
{
    if (ns == 0)
        flagctl_table_cell(table, FLAGCTL_DIM, "-");
    else
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%.*f ms", ns < 10000000 ? 1 : 0, (double)ns / 1e6);
}

static void texts_print(struct calls *calls, struct flagctl_table *table)
{
    const char *rest[ARMS_MAX];
    char line[TEXT_WIDTH * 4 + 1];
    bool is_more = true;
    size_t i, row;

    for (i = 0; i < calls->count; i++)
        rest[i] = calls->replies[i].result == 0 ? calls->replies[i].text : calls->replies[i].error;
    for (row = 0; is_more; row++) {
        is_more = false;
        row_begin(table, row == 0 ? "text" : "");
        for (i = 0; i < calls->count; i++) {
            bool is_last = row + 1 == TEXT_LINES;
            line[0] = '\0';
            if (rest[i] != NULL)
                rest[i] = line_cut(rest[i], line);
            flagctl_table_cell(table, calls->replies[i].result == 0 ? FLAGCTL_PLAIN : FLAGCTL_RED, "%s%s",
                               line, rest[i] != NULL && is_last ? " ..." : "");
            is_more = is_more || (rest[i] != NULL && !is_last);
        }
    }
}

/* A column for each arm. */
static void replies_print(struct calls *calls)
{
    const char *headings[ARMS_MAX + 2] = {""};
    struct flagctl_table *table;
    size_t i;

    for (i = 0; i < calls->count; i++)
        headings[i + 1] = calls->decisions[i].arm_name;
    table = flagctl_table_new(headings);
    row_begin(table, "model");
    for (i = 0; i < calls->count; i++)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s",
                           calls->replies[i].model[0] != '\0'     ? calls->replies[i].model
                           : calls->decisions[i].model[0] != '\0' ? calls->decisions[i].model
                                                                  : option_or(calls->ctl, "fallback", "-"));
    row_begin(table, "stage");
    for (i = 0; i < calls->count; i++)
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%s", calls->decisions[i].stage);
    row_begin(table, "status");
    for (i = 0; i < calls->count; i++) {
        const struct flagshm_outcome *o = &calls->replies[i].outcome;
        char attempts[32] = "";
        if (o->attempts > 1)
            (void)snprintf(attempts, sizeof attempts, ", %" PRIu32 " attempts", o->attempts);
        if (o->http_status != 0)
            flagctl_table_cell(table, calls->replies[i].result == 0 ? FLAGCTL_GREEN : FLAGCTL_RED,
                               "%" PRIu32 "%s", o->http_status, attempts);
        else
            flagctl_table_cell(table, FLAGCTL_RED, "no answer%s", attempts);
    }
    row_begin(table, "stop");
    for (i = 0; i < calls->count; i++)
        flagctl_table_cell(
            table, strcmp(calls->replies[i].stop_reason, "end_turn") == 0 ? FLAGCTL_PLAIN : FLAGCTL_YELLOW,
            "%s", calls->replies[i].stop_reason[0] != '\0' ? calls->replies[i].stop_reason : "-");
    row_begin(table, "latency");
    for (i = 0; i < calls->count; i++)
        span_cell(table, calls->replies[i].outcome.latency_ns);
    row_begin(table, "first token");
    for (i = 0; i < calls->count; i++)
        span_cell(table, calls->replies[i].outcome.ttft_ns);
    row_begin(table, "tokens");
    for (i = 0; i < calls->count; i++) {
        const struct flagshm_outcome *o = &calls->replies[i].outcome;
        char cached[48] = "";
        if (o->cache_tokens != 0)
            (void)snprintf(cached, sizeof cached, " + %" PRIu64 " cached", o->cache_tokens);
        flagctl_table_cell(table, FLAGCTL_PLAIN, "%" PRIu64 "%s in, %" PRIu64 " out", o->input_tokens, cached,
                           o->output_tokens);
    }
    if (calls->count > 1 || calls->replies[0].result != 0)
        texts_print(calls, table);
    flagctl_table_print(calls->ctl, table);
}

static cJSON *reply_json(const struct flagshm_decision *d, const struct ezai_reply *reply, bool is_dry_run)
{
    const struct flagshm_outcome *o = &reply->outcome;
    cJSON *json = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(json, "arm", d->arm_name);
    (void)cJSON_AddStringToObject(json, "stage", d->stage);
    if (is_dry_run) {
        (void)cJSON_AddStringToObject(json, "request", reply->text != NULL ? reply->text : "");
        return json;
    }
    (void)cJSON_AddStringToObject(json, "model", reply->model[0] != '\0' ? reply->model : d->model);
    (void)cJSON_AddBoolToObject(json, "ok", reply->result == 0);
    flagctl_json_u64(json, "status", o->http_status);
    flagctl_json_u64(json, "attempts", o->attempts);
    (void)cJSON_AddStringToObject(json, "stop_reason", reply->stop_reason);
    (void)cJSON_AddNumberToObject(json, "latency_ms", (double)o->latency_ns / 1e6);
    if (o->ttft_ns != 0)
        (void)cJSON_AddNumberToObject(json, "ttft_ms", (double)o->ttft_ns / 1e6);
    else
        (void)cJSON_AddNullToObject(json, "ttft_ms");
    flagctl_json_u64(json, "input_tokens", o->input_tokens);
    flagctl_json_u64(json, "output_tokens", o->output_tokens);
    flagctl_json_u64(json, "cache_tokens", o->cache_tokens);
    (void)cJSON_AddStringToObject(json, "request_id", reply->request_id);
    if (reply->result == 0)
        (void)cJSON_AddStringToObject(json, "text", reply->text);
    else
        (void)cJSON_AddStringToObject(json, "error", reply->error);
    return json;
}

static int all_json(struct calls *calls)
{
    cJSON *json = cJSON_CreateObject(), *list;
    size_t i;

    (void)cJSON_AddStringToObject(json, "flag", calls->request.flag);
    (void)cJSON_AddStringToObject(json, "id", calls->request.id);
    flagctl_json_u64(json, "version", calls->decisions[0].version);
    list = cJSON_AddArrayToObject(json, "calls");
    for (i = 0; i < calls->count; i++)
        (void)cJSON_AddItemToArray(list,
                                   reply_json(&calls->decisions[i], &calls->replies[i], calls->is_dry_run));
    return flagctl_json(calls->ctl, json);
}

static void all_print(struct calls *calls)
{
    size_t i;

    for (i = 0; i < calls->count && calls->is_dry_run; i++) {
        if (i > 0)
            (void)fputc('\n', calls->ctl->out);
        (void)text_print(calls, calls->replies[i].text, calls->replies[i].text_bytes);
        (void)fputc('\n', calls->ctl->out);
    }
    if (calls->is_dry_run)
        return;
    if (calls->count == 1 && calls->replies[0].result == 0) {
        if (!calls->is_live)
            (void)text_print(calls, calls->replies[0].text, calls->replies[0].text_bytes);
        (void)fputs("\n\n", calls->ctl->out);
    } else if (calls->is_live) {
        (void)fputs("\n\n", calls->ctl->out);
    }
    replies_print(calls);
}

static int make_calls(struct calls *calls)
{
    int result, code = FLAGCTL_OK;
    size_t i;

    if (calls->is_live) {
        calls->request.on_text = text_print;
        calls->request.on_text_user = calls;
    }
    for (i = 0; i < calls->count; i++) {
        struct ezai_reply *reply = &calls->replies[i];
        calls->request.decision = &calls->decisions[i];
        result = calls->is_dry_run ? ezai_dry_run(&calls->ai, &calls->request, reply)
                                   : ezai_call(&calls->ai, &calls->request, reply);
        if (result == -ENOKEY || result == -EINVAL || result == -ESTALE) /* nothing was sent */
            return flagctl_fail(calls->ctl, FLAGCTL_FAILED, "%s: %s", calls->decisions[i].arm_name,
                                result == -EINVAL && calls->decisions[i].model[0] == '\0'
                                    ? "the arm names no model: give --fallback MODEL"
                                    : reply->error);
        if (result != 0)
            code = FLAGCTL_FAILED;
    }
    if (calls->ctl->is_json) {
        int written = all_json(calls);
        return code != FLAGCTL_OK ? code : written;
    }
    all_print(calls);
    return code;
}

static int call_run(struct flagctl *ctl, int argc, char **argv)
{
    struct calls *calls = calloc(1, sizeof *calls);
    char *prompt = NULL;
    size_t i;
    int code;

    (void)argc;
    if (calls == NULL)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    calls->ctl = ctl;
    code = prompt_read(calls, &prompt);
    if (code == FLAGCTL_OK)
        code = decide(calls, argv[0], argv[1]);
    if (code == FLAGCTL_OK)
        code = request_fill(calls, argv[0], argv[1]);
    if (code == FLAGCTL_OK && (code = ezai_start(calls)) == FLAGCTL_OK) {
        calls->request.prompt = prompt;
        code = make_calls(calls);
        for (i = 0; i < calls->count; i++)
            ezai_reply_free(&calls->replies[i]);
        ezai_close(&calls->ai);
    }
    free(prompt);
    free(calls);
    return code;
}

static const struct flagctl_option options[] = {
    {"prompt", 'p', "TEXT", FLAGCTL_WORD, "what is asked; \"-\": from standard input"},
    {"both", 'b', NULL, FLAGCTL_NOTHING, "call every arm, whichever the id gets, and show them side by side"},
    {"stream", 's', NULL, FLAGCTL_NOTHING,
     "stream: measures the first token; one arm's text appears as it comes"},
    {"dry-run", 'n', NULL, FLAGCTL_NOTHING, "only print the request, without the key"},
    {"system", 0, "TEXT", FLAGCTL_WORD, "system prompt, where the arm has none"},
    {"max-tokens", 0, "N", FLAGCTL_NUMBER, "where the arm does not say (1024)"},
    {"fallback", 0, "MODEL", FLAGCTL_WORD, "the model, where the arm names none"},
    {"timeout", 0, "SECONDS", FLAGCTL_NUMBER, "give up an arm's call, with its retries, after so long"},
    {"tags", 0, "WHERE", FLAGCTL_WORD, "metadata (default), header or none"},
    {0},
};

const struct flagctl_command flagctl_call_command = {
    .name = "call",
    .group = "Call EzAI",
    .arguments = "FLAG ID",
    .argument_kinds = {FLAGCTL_FLAG, FLAGCTL_ID},
    .summary = "make the call that a program would make for this id, with its tags",
    .help = "Decides for the id, builds the request from the arm's value, sends it to $EZAI_BASE_URL "
            "(https://ezaiapi.com) with the key in\n"
            "$EZAI_KEY, and shows what came back, with retries as programs make them. Books nothing.\n\n"
            "Exit codes: 0, 1 a call failed, 4 no such flag, 5 no table.\n\n"
            "JSON: {\"flag\", \"id\", \"version\", \"calls\": [{\"arm\", \"stage\", \"model\", \"ok\", "
            "\"status\" (0: no "
            "answer), \"attempts\",\n"
            "  \"stop_reason\", \"latency_ms\", \"ttft_ms\" (null: not streamed), \"input_tokens\", "
            "\"output_tokens\", "
            "\"cache_tokens\",\n"
            "  \"request_id\", \"text\" or \"error\"}]}; with --dry-run: \"arm\", \"stage\", \"request\".",
    .options = options,
    .min_arguments = 2,
    .max_arguments = 2,
    .run = call_run,
};
