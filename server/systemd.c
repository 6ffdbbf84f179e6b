/* systemd: see the header. One datagram to a socket that the environment names; the service manager reads it by itself. */
#include "server/systemd.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_MAX 4095 /* systemd reads no longer ones */

static int address_of(const char *name, struct sockaddr_un *address, socklen_t *length)
{
    size_t bytes = strlen(name);

    if (name[0] != '/' && name[0] != '@')
        return -EAFNOSUPPORT; /* vsock: the manager of a virtual machine */
    if (bytes < 2)
        return -EINVAL;
    if (bytes >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, name, bytes);
    if (name[0] == '@')
        address->sun_path[0] = '\0'; /* an abstract name: its length is counted, it has no closing NUL */
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + (name[0] == '/'));
    return 0;
}

/* A status that is cut must not end in half a character: the manager refuses what is not UTF-8. */
static size_t cut_at_character(const char *text, size_t bytes)
{
    while (bytes > 0 && ((unsigned char)text[bytes] & 0xC0) == 0x80)
        bytes--;
    return bytes;
}

int flagshm_systemd_notify(const char *format, ...)
{
    const char *name = getenv("NOTIFY_SOCKET");
    char message[MESSAGE_MAX + 2];
    struct sockaddr_un address;
    socklen_t address_bytes = 0;
    va_list arguments;
    size_t bytes;
    int fd, length, error;

    if (name == NULL || name[0] == '\0')
        return 0;
    error = address_of(name, &address, &address_bytes);
    if (error != 0)
        return error;
    va_start(arguments, format);
    length = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (length < 0)
        return -EINVAL;
    bytes = (size_t)length <= MESSAGE_MAX ? (size_t)length : cut_at_character(message, MESSAGE_MAX);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (sendto(fd, message, bytes, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, address_bytes) <
        0)
        error = -errno;
    close(fd);
    return error;
}

/* A whole decimal number; false for anything else. */
static bool read_number(const char *text, uint64_t *number)
{
    char *end;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

uint64_t flagshm_systemd_watchdog_ns(void)
{
    const char *for_whom = getenv("WATCHDOG_PID");
    uint64_t usec, pid;

    if (!read_number(getenv("WATCHDOG_USEC"), &usec) || usec > UINT64_MAX / 500)
        return 0;
    if (for_whom != NULL && !(read_number(for_whom, &pid) && pid == (uint64_t)getpid()))
        return 0;
    return usec * 500; /* half, in nanoseconds */
}
