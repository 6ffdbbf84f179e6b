/* doctor: is everything as it should be; what is not, and the mend. It only looks. */
#include "tools/doctor.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- findings ---- */

static void add(struct doctor *d, const char *name, enum doctor_state state, const char *mend,
                const char *format, va_list arguments)
{
    static const char *const words[] = {"ok", "warning", "bad"};
    cJSON *check = cJSON_CreateObject();
    char text[2048];

    (void)vsnprintf(text, sizeof text, format, arguments);
    (void)cJSON_AddStringToObject(check, "name", name);
    (void)cJSON_AddStringToObject(check, "state", words[state]);
    (void)cJSON_AddStringToObject(check, "detail", text);
    if (mend != NULL)
        (void)cJSON_AddStringToObject(check, "mend", mend);
    (void)cJSON_AddItemToArray(d->checks, check);
}

void doctor_ok(struct doctor *d, const char *name, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(d, name, DOCTOR_OK, NULL, format, arguments);
    va_end(arguments);
}

void doctor_warn(struct doctor *d, const char *name, const char *mend, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(d, name, DOCTOR_WARNING, mend, format, arguments);
    va_end(arguments);
    d->warnings++;
}

static int gravity(int exit_code)
{
    return exit_code == FLAGCTL_UNREACHABLE   ? 3
           : exit_code == FLAGCTL_FILE_ERRORS ? 2
           : exit_code != 0                   ? 1
                                              : 0;
}

void doctor_bad(struct doctor *d, const char *name, int exit_code, const char *mend, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(d, name, DOCTOR_BAD, mend, format, arguments);
    va_end(arguments);
    d->bad++;
    if (gravity(exit_code) > gravity(d->exit_code))
        d->exit_code = exit_code;
}

/* ---- words ---- */

char *doctor_user(uid_t uid, char out[64])
{
    const struct passwd *user = getpwuid(uid);

    if (user != NULL)
        (void)snprintf(out, 64, "%s", user->pw_name);
    else
        (void)snprintf(out, 64, "uid %u", (unsigned)uid);
    return out;
}

char *doctor_bytes(uint64_t bytes, char out[24])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double amount = (double)bytes;
    size_t unit = 0;

    while (amount >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        amount /= 1024;
        unit++;
    }
    (void)snprintf(out, 24, amount < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", amount, units[unit]);
    return out;
}

const char *doctor_path(const char *field, size_t room)
{
    return field[0] == '/' && memchr(field, '\0', room) != NULL ? field : "";
}

/* ---- shown ---- */

/* Signs only where the terminal can show them: the locale that the user set says so. */
static bool has_signs(void)
{
    static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    size_t i;

    for (i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *value = getenv(variables[i]);

        if (value != NULL && value[0] != '\0')
            return strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
    }
    return false;
}

static const char *text_of(const cJSON *check, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(check, key));

    return text != NULL ? text : "";
}

static void print_check(const struct doctor *d, const cJSON *check)
{
    static const struct {
        const char *word, *sign, *plain, *colour;
    } states[] = {{"ok", "\u2713", "ok  ", "\033[32m"},
                  {"warning", "!", "warn", "\033[33m"},
                  {"bad", "\u2717", "BAD ", "\033[31m"}};
    const char *state = text_of(check, "state"), *mend = text_of(check, "mend");
    bool is_sign = has_signs();
    char clean[2100];
    size_t i = 0;

    while (strcmp(states[i].word, state) != 0)
        i++;
    (void)fprintf(d->ctl->out, "%s%s%s %-12s %s\n", d->ctl->is_colour ? states[i].colour : "",
                  is_sign ? states[i].sign : states[i].plain, d->ctl->is_colour ? "\033[0m" : "",
                  text_of(check, "name"), flagctl_clean(text_of(check, "detail"), clean, sizeof clean));
    if (mend[0] != '\0')
        (void)fprintf(d->ctl->out, "%*s-> %s\n", is_sign ? 15 : 18, "",
                      flagctl_clean(mend, clean, sizeof clean));
}

static void print_all(const struct doctor *d)
{
    const cJSON *check;

    for (check = d->checks->child; check != NULL; check = check->next)
        print_check(d, check);
    if (d->bad == 0 && d->warnings == 0)
        (void)fprintf(d->ctl->out, "all is well\n");
    else if (d->bad == 0)
        (void)fprintf(d->ctl->out, "all works; %d warning%s\n", d->warnings, d->warnings == 1 ? "" : "s");
    else
        (void)fprintf(d->ctl->out, "%d thing%s wrong, %d warning%s\n", d->bad, d->bad == 1 ? " is" : "s are",
                      d->warnings, d->warnings == 1 ? "" : "s");
}

static int doctor_run(struct flagctl *ctl, int argc, char **argv)
{
    struct doctor d = {.ctl = ctl, .checks = cJSON_CreateArray()};
    cJSON *result;
    int code;

    (void)argc;
    (void)argv;
    doctor_environment(&d);
    doctor_table(&d);
    doctor_server(&d);
    doctor_lock(&d);
    doctor_heartbeat(&d);
    doctor_file(&d);
    doctor_switches(&d);
    doctor_outcomes(&d);
    doctor_rollouts(&d);
    doctor_upkeep(&d);
    doctor_disk(&d);
    if (d.has_table)
        flagshm_snapshot_free(&d.snapshot);
    cJSON_Delete(d.status);
    if (!ctl->is_json) {
        print_all(&d);
        cJSON_Delete(d.checks);
        return d.exit_code;
    }
    result = cJSON_CreateObject();
    (void)cJSON_AddItemToObject(result, "checks", d.checks);
    (void)cJSON_AddNumberToObject(result, "warnings", d.warnings);
    (void)cJSON_AddNumberToObject(result, "bad", d.bad);
    code = flagctl_json(ctl, result);
    return code != FLAGCTL_OK ? code : d.exit_code;
}

const struct flagctl_command flagctl_doctor_command = {
    .name = "doctor",
    .group = "Look",
    .arguments = "",
    .summary = "is everything as it should be; what is not, and the mend",
    .help = "Looks at the environment, the table and who owns it, the heartbeat, the server, its lock, the "
            "flag file and whether it is\n"
            "what is served, kills, the outcome segment and its slots, rollouts that are stuck, undrilled or "
            "frozen, the targets of their notices, held deletions, the watch, the "
            "journal, and the "
            "room that is left. It\n"
            "changes nothing. As another user than root or the server's it sees less, and says what.\n\n"
            "Exit codes: 0 all is well, or there are only warnings; 5 the table or the server is not there, "
            "mute or stale; 6 the\n"
            "flag file has errors; 1 something else is wrong.\n\n"
            "JSON: {\"checks\": [{\"name\", \"state\": \"ok\"|\"warning\"|\"bad\", \"detail\", \"mend\"}], "
            "\"warnings\", \"bad\"}",
    .run = doctor_run,
};
