/* log: see the header. Each line is one write: who asks the gateway, or reads the file after that, finds it. */
#include "tests/gateway/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BYTES_MAX (UINT64_C(512) << 20)

int gateway_log_open(struct gateway_log *log, const char *path, struct flagshm_error *error)
{
    const char *directory = getenv("TMPDIR");

    if (directory == NULL || directory[0] == '\0')
        directory = "/tmp";
    *log = (struct gateway_log){.fd = -1};
    if (path != NULL)
        log->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    else
        log->fd = open(directory, O_RDWR | O_TMPFILE | O_APPEND | O_CLOEXEC, 0600);
    if (log->fd < 0)
        return flagshm_error_set(error, -errno, "%s: %s: give another file with --log",
                                 path != NULL ? path : directory, strerror(errno));
    return 0;
}

void gateway_log_close(struct gateway_log *log)
{
    if (log->fd >= 0)
        (void)close(log->fd);
    log->fd = -1;
}

void gateway_log_put(struct gateway_log *log, const struct gateway_text *fields)
{
    struct gateway_text line = {NULL, 0, 0};

    gateway_text_format(&line, "{\"n\":%" PRIu64 ",", log->lines + 1);
    gateway_text_bytes(&line, fields->bytes, fields->length);
    gateway_text_put(&line, "}\n");
    if (log->bytes + line.length <= BYTES_MAX &&
        write(log->fd, line.bytes, line.length) == (ssize_t)line.length) {
        log->bytes += line.length;
        log->lines++;
    } else {
        log->dropped++;
        (void)!ftruncate(log->fd, (off_t)log->bytes); /* no half line */
    }
    gateway_text_free(&line);
}

void gateway_log_clear(struct gateway_log *log)
{
    if (ftruncate(log->fd, 0) != 0)
        return;
    log->lines = 0;
    log->bytes = 0;
    log->dropped = 0;
}
