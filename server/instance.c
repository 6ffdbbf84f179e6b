/* instance: see instance.h. Only looks: it makes no directory and opens nothing. Paths come out absolute, since they
 * are written into the segment for tools that run elsewhere. */
#include "server/instance.h"
#include "server/flagfile.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_PERSON_UID                                                                                     \
    1000                   /* of Debian's and systemd's convention: below are root and the system's users */
#define CLIENT_DIR_MAX 200 /* the longest FLAGSHM_DIR that flagshm_open takes */

/* A value as it may be shown: short, on one line, with nothing that a terminal obeys. */
struct shown {
    char text[128];
};

static struct shown show(const char *value)
{
    struct shown shown;
    size_t i, length = strnlen(value, sizeof shown.text);

    if (length >= sizeof shown.text) {
        length = sizeof shown.text - 4;
        memcpy(shown.text + length, "...", 4);
    } else {
        shown.text[length] = '\0';
    }
    for (i = 0; i < length; i++)
        shown.text[i] = (unsigned char)value[i] < 0x20 || value[i] == 0x7f ? '?' : value[i];
    return shown;
}

/* The environment, where it may be believed: not in a set-uid program; an empty variable is as none. */
static const char *environment(const char *variable)
{
    const char *value = secure_getenv(variable);

    return value && value[0] ? value : NULL;
}

/* The same where the value must be an absolute path: the XDG rules have others ignored. */
static const char *environment_path(const char *variable)
{
    const char *value = environment(variable);

    return value && value[0] == '/' ? value : NULL;
}

/* Copies a path, made absolute and without slashes at its end. `what` and `mend` are for the error. */
static int put_path(char *target, size_t size, const char *path, const char *what, const char *mend,
                    struct flagshm_error *error)
{
    char working[4096] = "";
    size_t base, length = strlen(path);

    if (path[0] != '/' && !getcwd(working, sizeof working))
        return flagshm_error_set(error, -errno,
                                 "%s \"%s\" is relative, and the working directory cannot be told: %s", what,
                                 show(path).text, strerror(errno));
    while (length > 1 && path[length - 1] == '/')
        length--;
    base = strcmp(working, "/") == 0 ? 0 : strlen(working);
    if (path[0] != '/')
        working[base++] = '/';
    if (base + length >= size)
        return flagshm_error_set(error, -ENAMETOOLONG,
                                 "%s \"%s\" is %zu bytes long, at most %zu are possible: %s", what,
                                 show(path).text, base + length, size - 1, mend);
    memcpy(target, working, base);
    memcpy(target + base, path, length);
    target[base + length] = '\0';
    return 0;
}

static int resolve_name(struct flagshm_instance *instance, const char *name, struct flagshm_error *error)
{
    const char *source = "the instance's name";

    if (!name) {
        name = environment("FLAGSHM_INSTANCE");
        source = "FLAGSHM_INSTANCE";
    }
    if (!name || !name[0])
        name = "default";
    if (!flagshm_is_instance_name(name, strlen(name)))
        return flagshm_error_set(
            error, -EINVAL,
            "%s \"%s\" is not valid: give 1 to 32 of A-Z a-z 0-9 _ -, the first a letter or a digit", source,
            show(name).text);
    memcpy(instance->name, name, strlen(name) + 1);
    return 0;
}

/* The bound is the client's: what the server could use and a client could not is of no use. */
static int resolve_table(struct flagshm_instance *instance, const char *dir, struct flagshm_error *error)
{
    const char *what = "the directory", *mend = "give a shorter --dir, and clients the same FLAGSHM_DIR";
    int length, result;

    if (!dir) {
        dir = environment("FLAGSHM_DIR");
        what = "FLAGSHM_DIR";
        mend = "set a shorter one, for the server and its clients";
    }
    instance->dir[0] = '\0';
    if (dir && dir[0]) {
        result = put_path(instance->dir, CLIENT_DIR_MAX + 1, dir, what, mend, error);
        if (result)
            return result;
    }
    length = snprintf(instance->table_path, sizeof instance->table_path, "%s/flagshm.%s.table",
                      instance->dir[0] ? instance->dir : "/dev/shm", instance->name);
    if (length < 0 || (size_t)length >= sizeof instance->table_path)
        return flagshm_error_set(error, -ENAMETOOLONG, "the table's path under \"%s\" is too long: %s",
                                 show(instance->dir).text, mend);
    return 0;
}

/* The home directory as the shell has it, else as the system has it; false where there is none. */
static bool find_home(char *home, size_t size)
{
    const char *value = environment_path("HOME");
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (!value && getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) == 0 && found)
        value = found->pw_dir;
    if (!value || value[0] != '/' || strlen(value) >= size)
        return false;
    memcpy(home, value, strlen(value) + 1);
    return true;
}

static int resolve_state(struct flagshm_instance *instance, const char *state_dir,
                         struct flagshm_error *error)
{
    static const char mend[] = "give a shorter --state-dir";
    const char *xdg = environment_path("XDG_STATE_HOME");
    char home[2048], path[4096];

    if (state_dir && state_dir[0])
        return put_path(instance->state_dir, sizeof instance->state_dir, state_dir, "the state directory",
                        mend, error);
    if (geteuid() < FIRST_PERSON_UID) {
        (void)snprintf(path, sizeof path, "/var/lib/flagshm/%s", instance->name);
    } else if (xdg && strlen(xdg) < sizeof home) {
        (void)snprintf(path, sizeof path, "%s/flagshm/%s", xdg, instance->name);
    } else {
        if (!find_home(home, sizeof home))
            return flagshm_error_set(
                error, -ENOENT,
                "no state directory can be told for uid %u: neither XDG_STATE_HOME nor HOME is an "
                "absolute path: set one, or give --state-dir",
                (unsigned)geteuid());
        (void)snprintf(path, sizeof path, "%s/.local/state/flagshm/%s", home, instance->name);
    }
    return put_path(instance->state_dir, sizeof instance->state_dir, path, "the state directory", mend,
                    error);
}

/* Is it ours alone to write to? A socket in another's directory could be another's socket. */
static bool is_own_directory(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
           !(status.st_mode & (S_IWGRP | S_IWOTH));
}

static int resolve_socket(struct flagshm_instance *instance, const char *socket_path,
                          struct flagshm_error *error)
{
    static const char mend[] = "a socket's address takes no more: give a shorter --socket";
    const char *runtime = environment_path("XDG_RUNTIME_DIR");
    char path[4096], login[64];

    if (socket_path && socket_path[0])
        return put_path(instance->socket_path, sizeof instance->socket_path, socket_path, "the socket's path",
                        mend, error);
    /* cron and sudo take XDG_RUNTIME_DIR away; logind's place for it stays the same. */
    (void)snprintf(login, sizeof login, "/run/user/%u", (unsigned)geteuid());
    if (geteuid() < FIRST_PERSON_UID)
        (void)snprintf(path, sizeof path, "/run/flagshm/%s.sock", instance->name);
    else if (runtime && strlen(runtime) < sizeof path / 2)
        (void)snprintf(path, sizeof path, "%s/flagshm/%s.sock", runtime, instance->name);
    else if (is_own_directory(login))
        (void)snprintf(path, sizeof path, "%s/flagshm/%s.sock", login, instance->name);
    else
        (void)snprintf(path, sizeof path, "%s/flagshmd.sock", instance->state_dir);
    return put_path(instance->socket_path, sizeof instance->socket_path, path, "the socket's path", mend,
                    error);
}

int flagshm_instance_resolve(struct flagshm_instance *instance, const char *name, const char *dir,
                             const char *state_dir, const char *socket_path, struct flagshm_error *error)
{
    int result;

    memset(instance, 0, sizeof *instance);
    result = resolve_name(instance, name, error);
    if (!result)
        result = resolve_table(instance, dir, error);
    if (!result)
        result = resolve_state(instance, state_dir, error);
    if (!result)
        result = resolve_socket(instance, socket_path, error);
    return result;
}
