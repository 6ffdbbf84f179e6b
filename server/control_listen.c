/* control_listen: the socket file, and who stands at the other end of a connection. */
#include "server/control_internal.h"
#include "server/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS /* older headers than kernels */
#define SO_PEERGROUPS 59
#endif

#define BACKLOG    64
#define GROUPS_MAX 65536 /* as the kernel's NGROUPS_MAX */

int control_address(const char *path, struct sockaddr_un *address, struct flagshm_error *error)
{
    size_t bytes = strlen(path);

    if (bytes == 0)
        return flagshm_error_set(error, -ENOENT, "the control socket has no path");
    if (bytes >= sizeof address->sun_path)
        return flagshm_error_set(
            error, -ENAMETOOLONG,
            "the control socket's path %s has %zu bytes, at most %zu are possible: choose a "
            "shorter one",
            path, bytes, sizeof address->sun_path - 1);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, bytes);
    return 0;
}

/* ---- the socket file ---- */

static int make_parent(const char *path, struct flagshm_error *error)
{
    char parent[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path)
        return 0;
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    return flagshm_directory_make(parent, 0755, error);
}

/* Removes a socket file that nobody listens on. Two servers of one instance do not meet here: the table's lock came
 * first. */
static int remove_stale(const struct sockaddr_un *address, struct flagshm_error *error)
{
    const char *path = address->sun_path;
    struct stat status;
    int fd, reason;

    if (lstat(path, &status) != 0)
        return errno == ENOENT
                   ? 0
                   : flagshm_error_set(error, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISSOCK(status.st_mode))
        return flagshm_error_set(
            error, -EEXIST, "%s is not a socket and is left as it is: move it away, or choose another path",
            path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return flagshm_error_set(error, -errno, "cannot make a socket: %s", strerror(errno));
    reason = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    close(fd);
    if (reason == 0 || reason == EAGAIN)
        return flagshm_error_set(error, -EADDRINUSE, "another process listens on %s", path);
    if (reason == ENOENT)
        return 0;
    if (reason != ECONNREFUSED)
        return flagshm_error_set(error, -reason, "cannot tell whether anybody listens on %s: %s", path,
                                 strerror(reason));
    if (unlink(path) != 0 && errno != ENOENT)
        return flagshm_error_set(error, -errno, "cannot remove the stale socket %s: %s", path,
                                 strerror(errno));
    return 0;
}

/* Between bind and listen nobody can connect, so nobody passes before owner and mode are right. */
static int bind_and_listen(int fd, const struct sockaddr_un *address, gid_t group,
                           struct flagshm_error *error)
{
    const char *path = address->sun_path;
    int result;

    (void)fchmod(fd, 0600);
    result = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : -errno;
    if (result == -EADDRINUSE) {
        result = remove_stale(address, error);
        if (result != 0)
            return result;
        result = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : -errno;
    }
    if (result != 0)
        return flagshm_error_set(error, result, "cannot make the control socket %s: %s", path,
                                 strerror(-result));
    if (group != (gid_t)-1 && lchown(path, (uid_t)-1, group) != 0)
        result = flagshm_error_set(
            error, -errno,
            "cannot give the control socket %s to group %lu: %s (the server must be root or "
            "a member)",
            path, (unsigned long)group, strerror(errno));
    else if (chmod(path, 0660) != 0)
        result = flagshm_error_set(error, -errno, "cannot set the mode of %s: %s", path, strerror(errno));
    else if (listen(fd, BACKLOG) != 0)
        result = flagshm_error_set(error, -errno, "cannot listen on %s: %s", path, strerror(errno));
    if (result != 0)
        (void)unlink(path);
    return result;
}

int control_listen(const char *path, gid_t group, struct stat *file, struct flagshm_error *error)
{
    struct sockaddr_un address;
    int result = control_address(path, &address, error), fd;

    if (result == 0)
        result = make_parent(path, error);
    if (result != 0)
        return result;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return flagshm_error_set(error, -errno, "cannot make a socket: %s", strerror(errno));
    result = bind_and_listen(fd, &address, group, error);
    if (result == 0 && lstat(path, file) != 0)
        result = flagshm_error_set(error, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (result != 0) {
        close(fd);
        return result;
    }
    return fd;
}

/* ---- the peer ---- */

/* From /etc/passwd alone: a directory service that hangs must not hold a kill. */
static void name_user(uid_t uid, char *name, size_t room)
{
    FILE *file = fopen("/etc/passwd", "re");
    struct passwd entry, *found = NULL;
    char buffer[4096];

    (void)snprintf(name, room, "%lu", (unsigned long)uid);
    if (file == NULL)
        return;
    while (fgetpwent_r(file, &entry, buffer, sizeof buffer, &found) == 0 && found != NULL) {
        if (entry.pw_uid != uid)
            continue;
        if (strlen(entry.pw_name) < room)
            (void)snprintf(name, room, "%s", entry.pw_name);
        break;
    }
    fclose(file);
}

/* Kernels before 4.13 do not tell a peer's groups: what the user data base says must do. */
static bool is_member_by_name(const char *user, gid_t gid, gid_t group)
{
    int count = 1024, i;
    gid_t *groups = malloc((size_t)count * sizeof *groups);
    bool is_member = false;

    if (groups != NULL && getgrouplist(user, gid, groups, &count) >= 0)
        for (i = 0; i < count; i++)
            is_member = is_member || groups[i] == group;
    free(groups);
    return is_member;
}

static bool is_member(int fd, const struct flagshm_peer *peer, gid_t group)
{
    socklen_t bytes = 0;
    bool found = false;
    gid_t *groups;
    size_t i;

    if (peer->gid == group)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) == 0)
        return false; /* it has none */
    if (errno == ENOPROTOOPT)
        return is_member_by_name(peer->user, peer->gid, group);
    if (errno != ERANGE || bytes > GROUPS_MAX * sizeof *groups)
        return false;
    groups = malloc(bytes);
    if (groups != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) == 0)
        for (i = 0; i < bytes / sizeof *groups; i++)
            found = found || groups[i] == group;
    free(groups);
    return found;
}

bool control_has_hung_up(int fd)
{
    struct pollfd entry = {.fd = fd};

    return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLHUP | POLLERR)) != 0;
}

int control_peer(int fd, gid_t admin_group, struct flagshm_peer *peer)
{
    struct ucred credentials;
    socklen_t bytes = sizeof credentials;

    memset(peer, 0, sizeof *peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0)
        return -errno;
    peer->uid = credentials.uid;
    peer->gid = credentials.gid;
    peer->pid = credentials.pid;
    name_user(peer->uid, peer->user, sizeof peer->user);
    peer->may_change = peer->uid == 0 || peer->uid == geteuid() ||
                       (admin_group != (gid_t)-1 && is_member(fd, peer, admin_group));
    return 0;
}
