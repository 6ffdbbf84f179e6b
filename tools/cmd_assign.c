/* assign: the arm of each id on standard input, millions a second. */
#include "tools/assign.h"
#include "tools/connect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_BYTES       (1u << 20)
#define OUT_BYTES      (1u << 20)
#define TAIL_BYTES     192 /* of tab, arm, tab, model, line end: at most 163; copied whole */
#define COMPLAINTS_MAX 20

struct tail { /* what stands behind an id of this arm */
    char text[TAIL_BYTES];
    size_t length;
};

struct assigning {
    struct flagctl *ctl;
    struct assign_plan plan;
    struct tail tails[8];
    bool is_plain; /* raw bytes to a file or pipe; else JSON lines, or clean text for a terminal */
    unsigned char *in;
    char *out;
    size_t out_used;
    unsigned long long line, complaints;
    bool has_warned_of_cr, has_failed;
    struct assign_id ids[ASSIGN_BATCH];
    size_t count;
};

static void complain(struct assigning *a, unsigned long long line, const char *what)
{
    if (++a->complaints <= COMPLAINTS_MAX)
        (void)flagctl_fail(a->ctl, FLAGCTL_FAILED, "line %llu: %s: no answer for it", line, what);
}

static void out_flush(struct assigning *a)
{
    size_t done = 0;

    while (done < a->out_used && !a->has_failed) {
        ssize_t wrote = write(STDOUT_FILENO, a->out + done, a->out_used - done);
        if (wrote > 0) {
            done += (size_t)wrote;
        } else if (wrote < 0 && errno != EINTR) {
            (void)flagctl_fail(a->ctl, FLAGCTL_FAILED, "cannot write the output: %s", strerror(errno));
            a->has_failed = true;
        }
    }
    a->out_used = 0;
}

/* One answer that a person or a JSON reader gets. */
static void answer_slowly(struct assigning *a, const struct assign_id *id)
{
    char text[FLAGSHM_ID_MAX + 1], clean[FLAGSHM_ID_MAX + 1];
    const struct assign_arm *arm = &a->plan.arms[id->arm];

    memcpy(text, id->bytes, id->length);
    text[id->length] = '\0';
    if (a->ctl->is_json) {
        cJSON *json = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(json, "id", text);
        (void)cJSON_AddStringToObject(json, "arm", arm->name);
        (void)cJSON_AddStringToObject(json, "model", id->length != 0 ? arm->model : "");
        a->has_failed |= flagctl_json(a->ctl, json) != FLAGCTL_OK;
    } else {
        (void)fprintf(a->ctl->out, "%s%s", flagctl_clean(text, clean, sizeof clean), a->tails[id->arm].text);
    }
}

static void batch_answer(struct assigning *a)
{
    size_t i;

    assign_decide(&a->plan, a->ids, a->count);
    for (i = 0; i < a->count; i++) {
        const struct assign_id *id = &a->ids[i];
        const struct tail *tail = &a->tails[id->arm];
        char *out;
        if (!a->is_plain) {
            answer_slowly(a, id);
            continue;
        }
        if (a->out_used + id->length + TAIL_BYTES > OUT_BYTES)
            out_flush(a);
        out = a->out + a->out_used;
        memcpy(out, id->bytes, id->length);
        if (tail->length <= 32)
            memcpy(out + id->length, tail->text, 32);
        else
            memcpy(out + id->length, tail->text, TAIL_BYTES);
        a->out_used += id->length + tail->length;
    }
    a->count = 0;
}

static void line_take(struct assigning *a, const unsigned char *bytes, size_t length, bool may_have_nul)
{
    a->line++;
    if (length > FLAGSHM_ID_MAX) {
        complain(a, a->line, "the id is over 4096 bytes");
        return;
    }
    if (may_have_nul && memchr(bytes, 0, length) != NULL) {
        complain(a, a->line, "the id has a NUL byte in it");
        return;
    }
    if (length != 0 && bytes[length - 1] == '\r' && !a->has_warned_of_cr) {
        a->has_warned_of_cr = true;
        flagctl_warn(a->ctl, "line %llu ends in a carriage return, which counts as part of the id", a->line);
    }
    a->ids[a->count].bytes = bytes;
    a->ids[a->count].length = (uint32_t)length;
    if (++a->count == ASSIGN_BATCH)
        batch_answer(a);
}

/* Takes the whole lines of the first `have` bytes. Returns the bytes taken. */
static size_t lines_take(struct assigning *a, size_t have)
{
    bool may_have_nul = memchr(a->in, 0, have) != NULL;
    size_t at = 0;

    while (!a->has_failed) {
        const unsigned char *end = memchr(a->in + at, '\n', have - at);
        if (end == NULL)
            break;
        line_take(a, a->in + at, (size_t)(end - (a->in + at)), may_have_nul);
        at = (size_t)(end - a->in) + 1;
    }
    batch_answer(a); /* before the bytes move */
    return at;
}

static ssize_t more_read(struct assigning *a, size_t have)
{
    ssize_t got;
    do
        got = read(STDIN_FILENO, a->in + have, IN_BYTES - have);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        (void)flagctl_fail(a->ctl, FLAGCTL_FAILED, "cannot read standard input: %s", strerror(errno));
        a->has_failed = true;
    }
    return got;
}

/* Reads to the end. Answers go out as soon as their input has come. */
static void input_take(struct assigning *a)
{
    size_t have = 0;
    bool is_skipping = false; /* inside a line that is too long */
    ssize_t got;

    while (!a->has_failed && (got = more_read(a, have)) > 0) {
        size_t taken = 0;
        have += (size_t)got;
        if (is_skipping) {
            const unsigned char *end = memchr(a->in, '\n', have);
            is_skipping = end == NULL;
            taken = end != NULL ? (size_t)(end - a->in) + 1 : have;
            have -= taken;
            memmove(a->in, a->in + taken, have);
        }
        taken = lines_take(a, have);
        have -= taken;
        memmove(a->in, a->in + taken, have);
        if (have > FLAGSHM_ID_MAX) {
            line_take(a, a->in, have, false);
            is_skipping = true;
            have = 0;
        }
        out_flush(a);
        if (!a->is_plain && fflush(a->ctl->out) != 0 && !a->has_failed) {
            a->has_failed = true;
            (void)flagctl_fail(a->ctl, FLAGCTL_FAILED, "cannot write the output: %s", strerror(errno));
        }
    }
    if (have != 0 && !a->has_failed) { /* the last line has no end */
        line_take(a, a->in, have, true);
        batch_answer(a);
    }
    out_flush(a);
}

static void tails_make(struct assigning *a)
{
    bool has_model = flagctl_option(a->ctl, "model") != NULL;
    char name[32], model[128];
    uint32_t i;

    for (i = 0; i < a->plan.arm_count; i++) {
        struct tail *tail = &a->tails[i];
        int length = snprintf(tail->text, sizeof tail->text, "\t%s%s%s\n",
                              flagctl_clean(a->plan.arms[i].name, name, sizeof name), has_model ? "\t" : "",
                              has_model ? flagctl_clean(a->plan.arms[i].model, model, sizeof model) : "");
        tail->length = (size_t)length;
    }
}

/* Says why there is no plan. */
static int plan_fail(struct flagctl *ctl, int error, const struct flagshm_error *why, const char *flag)
{
    struct flagshm_snapshot snapshot;
    int code;

    if (error != -ENOENT)
        return flagctl_fail(ctl, error == -ENOMEM ? FLAGCTL_FAILED : FLAGCTL_UNREACHABLE, "%s", why->text);
    code = flagctl_snapshot(ctl, &snapshot);
    if (code != FLAGCTL_OK)
        return code;
    code = flagctl_no_flag(ctl, &snapshot, flag);
    flagshm_snapshot_free(&snapshot);
    return code;
}

static int assign_run(struct flagctl *ctl, int argc, char **argv)
{
    static struct assigning a;
    struct flagshm_error error = {""};
    struct flagshm *client;
    int code = flagctl_open(ctl, &client);

    (void)argc;
    if (code != FLAGCTL_OK)
        return code;
    code = assign_plan_take(&a.plan, client, argv[0], &error);
    if (code != 0)
        return plan_fail(ctl, code, &error, argv[0]);
    a.ctl = ctl;
    ctl->is_stream = true;
    a.is_plain = !ctl->is_json && !ctl->is_terminal;
    a.in = malloc(IN_BYTES + ASSIGN_SLACK);
    a.out = malloc(OUT_BYTES);
    if (a.in == NULL || a.out == NULL) {
        code = flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    } else {
        memset(a.in + IN_BYTES, 0, ASSIGN_SLACK);
        tails_make(&a);
        input_take(&a);
        if (a.complaints > COMPLAINTS_MAX)
            (void)flagctl_fail(ctl, FLAGCTL_FAILED, "%llu lines in all have no answer", a.complaints);
        code = a.has_failed || a.complaints != 0 ? FLAGCTL_FAILED : FLAGCTL_OK;
    }
    free(a.in);
    free(a.out);
    assign_plan_free(&a.plan);
    return code;
}

static const struct flagctl_option options[] = {
    {"model", 'm', NULL, FLAGCTL_NOTHING, "a third column: the arm's model"},
    {0},
};

const struct flagctl_command flagctl_assign_command = {
    .name = "assign",
    .group = "Look",
    .arguments = "FLAG",
    .argument_kinds = {FLAGCTL_FLAG},
    .summary = "the arm of each id on standard input, one a line",
    .help = "Writes `ID<TAB>ARM` for each line, in order: what flagshm_decide answers, millions a second. "
            "All lines are decided by one\n"
            "version, the one served when the command starts. The bytes of a line are the id as they come, "
            "white space and carriage\n"
            "returns too; an empty line is a missing id and gets control. The arm stands behind the last tab "
            "(with --model: the last\n"
            "but one). To a terminal, control characters in ids show as ?.\n\n"
            "A line over 4096 bytes, or with a NUL byte, gets a message with its number on standard error "
            "and no answer.\n\n"
            "Exit codes: 0, 1 some lines have no answer, or output cannot be written, 4 no such flag, 5 no "
            "table.\n\n"
            "JSON, one object a line: {\"id\", \"arm\", \"model\"}",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = assign_run,
};
