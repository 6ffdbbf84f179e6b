/* top: a live table of the whole host: which flags are called how often, how well, and how fast, by arm. */
#include "tools/top_draw.h"
#include "tools/top_screen.h"
#include "tools/wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys ---- */

static void type_key(struct top_showing *s, int key)
{
    size_t length = strlen(s->filter);

    if (key == TOP_KEY_ENTER || key == TOP_KEY_ESCAPE) {
        s->is_typing = false;
        if (key == TOP_KEY_ESCAPE)
            s->filter[0] = '\0';
    } else if (key == TOP_KEY_ERASE && length > 0) {
        s->filter[length - 1] = '\0';
    } else if (key > ' ' && key < 127 && length < TOP_FILTER_MAX) {
        s->filter[length] = (char)key;
        s->filter[length + 1] = '\0';
    }
    s->first = 0;
}

/* False: the end is asked for. */
static bool press_key(struct top_showing *s, int key)
{
    static const char order_keys[] = "celtn";
    const char *order = key > 0 && key < 127 ? strchr(order_keys, key) : NULL;
    int columns, rows;

    if (s->is_typing) {
        type_key(s, key);
        return true;
    }
    top_screen_size(&columns, &rows);
    rows = rows > 6 ? rows - 5 : 1;
    if (order != NULL) {
        s->order = (enum top_order)(order - order_keys);
        s->first = 0;
    } else if (key == 'p' || key == ' ') {
        s->is_paused = !s->is_paused;
    } else if (key == '/') {
        s->is_typing = true;
        s->filter[0] = '\0';
    } else if (key == TOP_KEY_ESCAPE) {
        s->filter[0] = '\0';
    } else if (key == TOP_KEY_DOWN || key == 'j') {
        s->first++;
    } else if (key == TOP_KEY_PAGE_DOWN) {
        s->first += (size_t)rows;
    } else if (key == TOP_KEY_UP || key == 'k') {
        s->first -= s->first > 0;
    } else if (key == TOP_KEY_PAGE_UP) {
        s->first = s->first > (size_t)rows ? s->first - (size_t)rows : 0;
    } else if (key == TOP_KEY_HOME || key == 'g') {
        s->first = 0;
    }
    return key != 'q' && key != 'Q' && key != 3; /* Ctrl-C, where it comes as a key */
}

/* ---- the loop ---- */

static int show(struct top_showing *s)
{
    if (s->ctl->is_json) {
        int code = top_print_json(s);
        if (code != FLAGCTL_OK)
            return code;
    } else {
        if (!s->is_screen && s->refreshes > 1)
            (void)fputc('\n', s->ctl->out);
        top_draw(s);
    }
    errno = 0;
    return fflush(s->ctl->out) == 0 ? FLAGCTL_OK : FLAGCTL_FAILED;
}

static int loop(struct top_showing *s)
{
    double next = flagctl_now() + s->interval_s;
    int code = s->is_screen ? show(s) : FLAGCTL_OK;

    while (code == FLAGCTL_OK) {
        double now = flagctl_now();
        int key = now < next ? top_screen_wait(next - now) : TOP_KEY_NONE;

        if (flagctl_is_stopped() || (key != TOP_KEY_NONE && !press_key(s, key)))
            break;
        now = flagctl_now();
        if (now >= next) {
            next = next + s->interval_s > now ? next + s->interval_s : now + s->interval_s;
            if (!s->is_paused) {
                top_read(&s->top);
                s->refreshes++;
            }
        } else if (!s->is_screen) {
            continue;
        }
        code = show(s); /* also after a key, or where the screen has another size now */
        if (s->wanted > 0 && s->refreshes >= s->wanted)
            break;
    }
    return code;
}

static int options_read(struct flagctl *ctl, struct top_showing *s)
{
    const char *interval = flagctl_option(ctl, "interval"), *count = flagctl_option(ctl, "count"),
               *sort = flagctl_option(ctl, "sort"), *filter = flagctl_option(ctl, "filter");
    double number = 1;
    size_t i;

    s->interval_s = 1;
    if (interval != NULL && !flagctl_number(interval, 0.1, 3600, &s->interval_s))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--interval takes 0.1 to 3600 seconds, got \"%.100s\"",
                            interval);
    if (count != NULL && (!flagctl_number(count, 1, 1e9, &number) || strchr(count, '.') != NULL))
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--count is a whole number from 1 on, got \"%.100s\"", count);
    s->wanted = count != NULL ? (long)number : flagctl_option(ctl, "once") != NULL ? 1 : 0;
    for (i = 0; sort != NULL && i < TOP_ORDERS && strcmp(sort, top_order_words[i]) != 0; i++)
        ;
    if (sort != NULL && i == TOP_ORDERS)
        return flagctl_fail(ctl, FLAGCTL_USAGE,
                            "--sort is calls, errors, latency, tokens or name, got \"%.100s\"", sort);
    s->order = sort != NULL ? (enum top_order)i : TOP_BY_CALLS;
    if (filter != NULL && strlen(filter) > TOP_FILTER_MAX)
        return flagctl_fail(ctl, FLAGCTL_USAGE, "--filter takes at most %d bytes", TOP_FILTER_MAX);
    if (filter != NULL)
        top_plain_text(filter, s->filter, sizeof s->filter);
    return FLAGCTL_OK;
}

static int top_run(struct flagctl *ctl, int argc, char **argv)
{
    const char *terminal = getenv("TERM");
    struct top_showing *s = calloc(1, sizeof *s);
    int code, reason;

    (void)argc;
    (void)argv;
    if (s == NULL)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    s->ctl = ctl;
    code = options_read(ctl, s);
    if (code == FLAGCTL_OK)
        code = top_open(&s->top, ctl);
    if (code != FLAGCTL_OK) {
        free(s);
        return code;
    }
    ctl->is_stream = true;
    s->is_screen = ctl->is_terminal && !ctl->is_json && s->wanted == 0 &&
                   (terminal == NULL || strcmp(terminal, "dumb") != 0);
    top_screen_enter(s->is_screen);
    code = loop(s);
    reason = errno;
    top_screen_leave();
    if (code != FLAGCTL_OK && !flagctl_is_stopped())
        (void)flagctl_fail(ctl, code, "cannot write the output: %s", strerror(reason));
    else
        code = FLAGCTL_OK;
    top_close(&s->top);
    free(s);
    return code;
}

static const struct flagctl_option options[] = {
    {"interval", 'd', "SECONDS", FLAGCTL_NUMBER, "time between two refreshes (1)"},
    {"once", 0, NULL, FLAGCTL_NOTHING, "one refresh, as plain lines; the same as --count 1"},
    {"count", 'n', "N", FLAGCTL_NUMBER, "end after N refreshes, as plain lines"},
    {"sort", 's', "KEY", FLAGCTL_WORD, "calls (default), errors, latency, tokens or name"},
    {"filter", 'f', "TEXT", FLAGCTL_WORD, "only flags whose name has this in it"},
    {0},
};

const struct flagctl_command flagctl_top_command = {
    .name = "top",
    .group = "Look",
    .arguments = "",
    .summary = "live: calls a second, errors, latency, tokens of all flags, by arm",
    .help = "CALLS/S and ERRS are of the last interval, ERRS 1M and TOKENS (a call) of the last minute, P50 "
            "and P95 of the last "
            "60 to 90 s\n"
            "(percentiles exact to 6.25 %); all since top began. The curve shows calls a second, a step a "
            "refresh of at "
            "least a second,\n"
            "each arm by its own scale, red where calls failed. \"!\": somebody wrote over the flag's "
            "counters. Flags that "
            "book nothing (0 or\n"
            "100 %, killed) are only counted. GUARD and WAITS are asked of the server, each 5 s, with what "
            "is to be "
            "minded in the head;\n"
            "all else is read from memory, and costs the server nothing; it needs to be root or of the "
            "group that books.\n\n"
            "Keys: q quit, p or space pause, / filter, c e l t n sort, arrows and page keys scroll. Where "
            "standard output is no "
            "terminal,\n"
            "or with --once and --count: plain lines, refresh after refresh.\n\n"
            "Exit codes: 0, 5 no table, no outcome segment, or no permission to read it.\n\n"
            "JSON, one object a refresh and a line: {\"time\", \"instance\", \"interval_s\", \"version\", "
            "\"stale\", \"fault\" "
            "(text or null),\n"
            "  \"calls_per_s\", \"errors_per_s\", \"flags_without_slot\", \"flags\": [{\"flag\", \"stage\", "
            "\"rollout_pct\", "
            "\"slot\",\n"
            "  \"generation\", \"tainted\", \"calls_per_s\", \"guard\", \"rollout\": null or {\"waits\": "
            "[{\"reason\", \"text\"}], "
            "\"hold_left_s\", \"warnings\"},\n"
            "  \"arms\": [{\"arm\", \"model\", \"share_pct\", "
            "\"calls_per_s\", "
            "\"error_rate\",\n"
            "  \"minute_calls\", \"minute_error_rate\", \"p50_ms\", \"p95_ms\", \"tokens_per_call\", "
            "\"finished\", "
            "\"failed\" (both since the\n"
            "  slot began)}]}]}; null where there is nothing to tell",
    .options = options,
    .run = top_run,
};
