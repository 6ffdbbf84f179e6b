/* notify_target: see the header.
 *
 * A secret may stand anywhere in such a file, also where it does not belong: an error names the place, never what stands there.
 */
#include "server/notify_target.h"

#include "server/arena.h"
#include "server/diagnostics.h"
#include "server/flagfile.h"
#include "server/json_scan.h"
#include "server/notify.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX    65536u
#define ARGUMENTS_MAX     64
#define URL_TIMEOUT_S     10u
#define ARGV_TIMEOUT_S    30u
#define TIMEOUT_MAX_S     300u
#define MESSAGE_NOT_SHOWN "(what stands there is not shown: it may be secret)"

/* ---- the file ---- */

static int open_file(const char *path, struct flagshm_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY), code = errno;

    if (fd >= 0)
        return fd;
    if (code == ENOENT)
        return flagshm_error_set(
            error, -code, "%s: there is no such file: make it, or take the target out of \"notify\"", path);
    if (code == ELOOP)
        return flagshm_error_set(error, -code, "%s is a symbolic link: put the file itself there", path);
    return flagshm_error_set(error, -code, "%s cannot be read: %s", path, strerror(code));
}

static int check_file(int fd, const char *path, struct flagshm_error *error)
{
    uid_t user = geteuid();
    struct stat status;

    if (fstat(fd, &status) != 0)
        return flagshm_error_set(error, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return flagshm_error_set(error, -EINVAL, "%s is not a regular file: put one there", path);
    if (status.st_uid != 0 && status.st_uid != user)
        return flagshm_error_set(
            error, -EPERM,
            "%s belongs to user %u: only root or the server's user may say whom it calls; "
            "chown %u %s",
            path, (unsigned)status.st_uid, (unsigned)user, path);
    if ((status.st_mode & 0077) != 0)
        return flagshm_error_set(error, -EPERM, "%s is open to others (mode %04o): chmod 600 %s", path,
                                 (unsigned)(status.st_mode & 07777), path);
    return 0;
}

static int read_all(int fd, const char *path, char *text, size_t *bytes, struct flagshm_error *error)
{
    ssize_t part = 1;

    *bytes = 0;
    while (part > 0 && *bytes <= FILE_BYTES_MAX) {
        part = read(fd, text + *bytes, FILE_BYTES_MAX + 1 - *bytes);
        if (part < 0 && errno == EINTR)
            part = 1;
        else if (part < 0)
            return flagshm_error_set(error, -errno, "%s cannot be read: %s", path, strerror(errno));
        else
            *bytes += (size_t)part;
    }
    if (*bytes > FILE_BYTES_MAX)
        return flagshm_error_set(error, -EFBIG, "%s is larger than %u bytes: it is no target", path,
                                 FILE_BYTES_MAX);
    return 0;
}

static int read_file(const char *path, char *text, size_t *bytes, struct flagshm_error *error)
{
    int fd = open_file(path, error), result;

    if (fd < 0)
        return fd;
    result = check_file(fd, path, error);
    if (result == 0)
        result = read_all(fd, path, text, bytes, error);
    (void)close(fd);
    return result;
}

/* ---- the keys ---- */

static bool read_secret(struct notify_target *target, const cJSON *value)
{
    target->secret_bytes =
        cJSON_IsString(value) ? notify_secret_decode(value->valuestring, target->secret) : 0;
    return target->secret_bytes != 0;
}

static char *origin_of(const char *url)
{
    char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;
    CURLU *parts = curl_url();

    if (parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK && host[0] != '\0' &&
        curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
        (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
        asprintf(&origin, "%s://%s:%s", scheme, host, port) < 0)
        origin = NULL;
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return origin;
}

static bool read_url(struct notify_target *target, const cJSON *value)
{
    if (!cJSON_IsString(value))
        return false;
    target->origin = origin_of(value->valuestring);
    target->url = strdup(value->valuestring);
    return target->origin != NULL && target->url != NULL;
}

static bool read_argv(struct notify_target *target, const cJSON *value)
{
    int count = cJSON_IsArray(value) ? cJSON_GetArraySize(value) : 0, i = 0;
    const cJSON *argument = NULL;

    if (count < 1 || count > ARGUMENTS_MAX)
        return false;
    target->argv = calloc((size_t)count + 1, sizeof *target->argv);
    if (target->argv == NULL)
        return false;
    cJSON_ArrayForEach(argument, value)
    {
        target->argv[i] = cJSON_IsString(argument) ? strdup(argument->valuestring) : NULL;
        if (target->argv[i++] == NULL)
            return false;
    }
    return target->argv[0][0] == '/';
}

static bool read_timeout(struct notify_target *target, const cJSON *value)
{
    double seconds = cJSON_IsNumber(value) ? value->valuedouble : 0;

    if (!(seconds >= 1 && seconds <= TIMEOUT_MAX_S && floor(seconds) == seconds))
        return false;
    target->timeout_s = (unsigned)seconds;
    return true;
}

static const struct target_key {
    const char *name;
    bool (*read)(struct notify_target *target, const cJSON *value);
    const char *expected;
} keys[] = {
    {"url", read_url, "a text: http:// or https:// and a host; other characters as %XX"},
    {"secret", read_secret,
     "\"whsec_\" and the base64 of 24 to 64 bytes: make one with  echo whsec_$(openssl rand -base64 32)"},
    {"argv", read_argv, "a list of 1 to 64 texts, the first the absolute path of a program"},
    {"timeout_s", read_timeout, "whole seconds 1..300"},
};

static int read_key(struct notify_target *target, const char *path, const cJSON *value,
                    struct flagshm_error *error)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    const char *name = value->string;
    size_t i;

    for (i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(name, keys[i].name) != 0)
            continue;
        if (keys[i].read(target, value))
            return 0;
        return flagshm_error_set(error, -EINVAL, "%s: \"%s\" must be %s " MESSAGE_NOT_SHOWN, path, name,
                                 keys[i].expected);
    }
    /* a word that may be a misspelt key, not a secret in the wrong place */
    if (strlen(name) > 20 || strspn(name, letters) != strlen(name) || strncmp(name, "whsec_", 6) == 0)
        return flagshm_error_set(
            error, -EINVAL,
            "%s: a key that is none of url, secret, argv, timeout_s: take it out " MESSAGE_NOT_SHOWN, path);
    return flagshm_error_set(
        error, -EINVAL, "%s: there is no key \"%s\": take it out; there are url, secret, argv, timeout_s",
        path, name);
}

static int check_whole(struct notify_target *target, const char *path, struct flagshm_error *error)
{
    if (target->url == NULL && target->argv == NULL)
        return flagshm_error_set(error, -EINVAL, "%s: \"url\" or \"argv\" is missing: add one of them", path);
    if (target->url != NULL && target->argv != NULL)
        return flagshm_error_set(error, -EINVAL,
                                 "%s: \"url\" and \"argv\": take one of them out; a target is one", path);
    if (target->url == NULL && target->secret_bytes != 0)
        return flagshm_error_set(
            error, -EINVAL, "%s: \"secret\" signs for a \"url\": take it out, a program gets none", path);
    if (target->url == NULL && eaccess(target->argv[0], X_OK) != 0)
        return flagshm_error_set(error, -errno, "%s: \"argv\": %s cannot be run: %s", path, target->argv[0],
                                 strerror(errno));
    if (target->timeout_s == 0)
        target->timeout_s = target->url != NULL ? URL_TIMEOUT_S : ARGV_TIMEOUT_S;
    return 0;
}

/* ---- the text ---- */

/* cJSON's copies of it hold the secret too. */
static void wipe_and_delete(cJSON *json)
{
    cJSON *at = NULL, *inner = NULL;

    cJSON_ArrayForEach(at, json)
    {
        if (at->valuestring != NULL)
            OPENSSL_cleanse(at->valuestring, strlen(at->valuestring));
        cJSON_ArrayForEach(inner, at)
        {
            if (inner->valuestring != NULL)
                OPENSSL_cleanse(inner->valuestring, strlen(inner->valuestring));
        }
    }
    cJSON_Delete(json);
}

/* Sound JSON, or the place where it is not. */
static int check_text(const char *path, const char *text, size_t bytes, struct flagshm_error *error)
{
    struct flagshm_arena arena = {0};
    struct flagshm_json_places places = {0};
    struct flagshm_diags diags = {0};
    size_t line = 1, column = 1;
    int result = 0;

    if (!flagshm_json_scan(text, bytes, &arena, &places, &diags)) {
        if (diags.count > 0)
            flagshm_diag_place(text, bytes, diags.items[0].offset, &line, &column);
        result = diags.count == 0 ? flagshm_error_set(error, -ENOMEM, "%s: no memory to read it", path)
                                  : flagshm_error_set(error, -EINVAL, "%s:%zu:%zu: %s " MESSAGE_NOT_SHOWN,
                                                      path, line, column,
                                                      places.is_whole ? "this key stands twice: take one out"
                                                                      : "this is not sound JSON: mend it");
    }
    flagshm_diags_free(&diags);
    flagshm_arena_free(&arena);
    return result;
}

static int read_text(struct notify_target *target, const char *path, const char *text, size_t bytes,
                     struct flagshm_error *error)
{
    int result = check_text(path, text, bytes, error);
    const cJSON *value;
    cJSON *json;

    if (result != 0)
        return result;
    json = cJSON_ParseWithLength(text, bytes);
    if (json == NULL)
        result = flagshm_error_set(error, -ENOMEM, "%s: no memory to read it", path);
    else if (!cJSON_IsObject(json))
        result =
            flagshm_error_set(error, -EINVAL, "%s must be a JSON object: {\"url\": \"https://...\"}", path);
    for (value = json != NULL ? json->child : NULL; value != NULL && result == 0; value = value->next)
        result = read_key(target, path, value, error);
    wipe_and_delete(json);
    return result == 0 ? check_whole(target, path, error) : result;
}

int notify_target_read(struct notify_target *target, const char *dir, const char *name,
                       struct flagshm_error *error)
{
    char path[PATH_MAX], *text;
    size_t bytes = 0;
    int result;

    *target = (struct notify_target){0};
    if (!flagshm_is_flag_name(name, strlen(name))) /* the flag file's rule for both */
        return flagshm_error_set(
            error, -EINVAL,
            "a target must have a name of 1 to 64 letters, digits, \"_\", \".\" or \"-\" that "
            "begins with a letter or digit");
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return flagshm_error_set(error, -ENAMETOOLONG, "the path of the target %s is too long", name);
    text = malloc(FILE_BYTES_MAX + 1);
    if (text == NULL)
        return flagshm_error_set(error, -ENOMEM, "%s: no memory to read it", path);
    result = read_file(path, text, &bytes, error);
    if (result == 0)
        result = read_text(target, path, text, bytes, error);
    OPENSSL_cleanse(text, bytes);
    free(text);
    return result;
}

static void wipe_and_free(char *text)
{
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
}

void notify_target_free(struct notify_target *target)
{
    char **argument;

    wipe_and_free(target->url);
    free(target->origin);
    for (argument = target->argv; argument != NULL && *argument != NULL; argument++)
        wipe_and_free(*argument);
    free(target->argv);
    OPENSSL_cleanse(target, sizeof *target);
}

int flagshm_notify_check(const char *dir, const char *target, struct flagshm_error *error)
{
    struct notify_target read;
    int result = notify_target_read(&read, dir != NULL ? dir : FLAGSHM_NOTIFY_DIR, target, error);

    notify_target_free(&read);
    return result;
}
