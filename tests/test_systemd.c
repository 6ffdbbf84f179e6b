#include "server/systemd.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The service manager's end. A name that begins with '@' is abstract, as $NOTIFY_SOCKET writes it. */
static int manager_listen(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, name, bytes);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    cr_assert_eq(
        bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes)),
        0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static const char *manager_hears(int fd)
{
    static char message[8192];
    ssize_t bytes = recv(fd, message, sizeof message - 1, 0);

    if (bytes < 0)
        return NULL;
    message[bytes] = '\0';
    return message;
}

static char *socket_name(const char *form)
{
    static char name[100];
    static int number;

    (void)snprintf(name, sizeof name, form, (int)getpid(), ++number);
    return name;
}

Test(systemd, without_a_manager_nothing_is_sent_and_nothing_fails)
{
    unsetenv("NOTIFY_SOCKET");
    cr_assert_eq(flagshm_systemd_notify("READY=1"), 0);
    setenv("NOTIFY_SOCKET", "", 1);
    cr_assert_eq(flagshm_systemd_notify("READY=1"), 0);
}

Test(systemd, a_message_is_one_datagram_to_the_path)
{
    char *name = socket_name("/tmp/flagshm-systemd-%d-%d");
    int fd = manager_listen(name);

    cr_assert_eq(flagshm_systemd_notify("READY=1\nSTATUS=version %d, %s", 7, "2 flags"), 0);
    cr_assert_str_eq(manager_hears(fd), "READY=1\nSTATUS=version 7, 2 flags");
    cr_assert_null(manager_hears(fd));
    close(fd);
    cr_assert_eq(flagshm_systemd_notify("STOPPING=1"), -ECONNREFUSED);
    unlink(name);
    cr_assert_eq(flagshm_systemd_notify("STOPPING=1"), -ENOENT);
}

Test(systemd, an_abstract_socket_is_reached)
{
    int fd = manager_listen(socket_name("@flagshm-systemd-%d-%d"));

    cr_assert_eq(flagshm_systemd_notify("WATCHDOG=1"), 0);
    cr_assert_str_eq(manager_hears(fd), "WATCHDOG=1");
    close(fd);
}

Test(systemd, a_manager_that_does_not_read_never_blocks_us)
{
    int fd = manager_listen(socket_name("@flagshm-systemd-%d-%d")), result = 0, sent;

    for (sent = 0; sent < 100000 && result == 0; sent++)
        result = flagshm_systemd_notify("WATCHDOG=1");
    cr_assert_eq(result, -EAGAIN, "%d after %d", result, sent);
    close(fd);
}

Test(systemd, a_long_status_is_cut_between_characters)
{
    int fd = manager_listen(socket_name("@flagshm-systemd-%d-%d"));
    char status[8000];
    const char *heard;
    size_t bytes, i;

    for (i = 0; i + 2 < sizeof status; i += 2)
        memcpy(status + i, "\xC3\xA9", 3);
    cr_assert_eq(flagshm_systemd_notify("READY=1\nSTATUS=%s", status),
                 0); /* 15 bytes, then pairs: cut fits */
    cr_assert_eq(flagshm_systemd_notify("READY=1\nSTATUS=.%s", status), 0); /* would be cut in a pair */
    for (i = 0; i < 2; i++) {
        heard = manager_hears(fd);
        cr_assert_not_null(heard);
        bytes = strlen(heard);
        cr_assert_leq(bytes, 4095);
        cr_assert_geq(bytes, 4094);
        cr_assert_eq(memcmp(heard, "READY=1\nSTATUS=", 15), 0);
        cr_assert_eq((unsigned char)heard[bytes - 1], 0xA9);
    }
    close(fd);
}

Test(systemd, a_name_that_is_no_socket_of_ours_is_refused)
{
    char name[200];

    setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
    cr_assert_eq(flagshm_systemd_notify("READY=1"), -EAFNOSUPPORT);
    setenv("NOTIFY_SOCKET", "@", 1);
    cr_assert_eq(flagshm_systemd_notify("READY=1"), -EINVAL);
    memset(name, 'x', sizeof name - 1);
    name[0] = '/';
    name[sizeof name - 1] = '\0';
    setenv("NOTIFY_SOCKET", name, 1);
    cr_assert_eq(flagshm_systemd_notify("READY=1"), -ENAMETOOLONG);
}

Test(systemd, the_watchdog_is_fed_at_half_its_time_and_only_by_whom_it_watches)
{
    static const struct {
        const char *usec, *pid; /* "*": ours */
        uint64_t ns;
    } cases[] = {
        {NULL, NULL, 0},
        {"10000000", NULL, UINT64_C(5000000000)},
        {"10000000", "*", UINT64_C(5000000000)},
        {"10000000", "1", 0},
        {"10000000", "x", 0},
        {"10000000", "", 0},
        {"0", NULL, 0},
        {"", NULL, 0},
        {"-1", NULL, 0},
        {" 10", NULL, 0},
        {"10s", NULL, 0},
        {"18446744073709551615", NULL, 0},
        {"99999999999999999999999", NULL, 0},
    };
    char pid[32];
    size_t i;

    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        if (cases[i].usec != NULL)
            setenv("WATCHDOG_USEC", cases[i].usec, 1);
        if (cases[i].pid != NULL)
            setenv("WATCHDOG_PID", cases[i].pid[0] == '*' ? pid : cases[i].pid, 1);
        cr_assert_eq(flagshm_systemd_watchdog_ns(), cases[i].ns, "case %zu", i);
    }
}
