/* text: see text.h. */
#include "tools/text.h"

#include "server/flagfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int all_read(int fd, char **text, size_t *length)
{
    size_t room = 1 << 16, used = 0;

    *text = malloc(room);
    while (*text != NULL && used <= FLAGSHM_FILE_MAX) {
        ssize_t got = read(fd, *text + used, room - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0)
            break;
        used += (size_t)got;
        if (used == room) {
            char *more = realloc(*text, room * 2);
            if (more == NULL)
                return ENOMEM;
            *text = more;
            room *= 2;
        }
    }
    *length = used <= FLAGSHM_FILE_MAX ? used : FLAGSHM_FILE_MAX + 1;
    return *text != NULL ? 0 : ENOMEM;
}

char *flagctl_text_read(const char *path, size_t *length, struct flagshm_error *error)
{
    bool is_input = strcmp(path, "-") == 0;

    int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), code = fd < 0 ? errno : 0;
    char *text = NULL;

    if (code == 0)
        code = all_read(fd, &text, length);
    if (!is_input && fd >= 0)
        (void)close(fd);
    if (code == 0)
        return text;
    free(text);
    (void)flagshm_error_set(error, -code, "cannot read %s: %s", is_input ? "standard input" : path,
                            strerror(code));
    return NULL;
}
