/* connect: the way to an instance's table, and what to say where there is none. */
#include "tools/connect.h"

#include <errno.h>
#include <string.h>

/* Copies a path of the header, which may hold any bytes. "" where it has no end. */
static void path_copy(const struct flagshm_map_ *map, size_t offset, char *out, size_t room)
{
    size_t i;
    for (i = 0; i < room; i += 8) {
        uint64_t word = flagshm_load64_(map->segment + offset + i);
        memcpy(out + i, &word, 8);
    }
    if (memchr(out, '\0', room) == NULL)
        out[0] = '\0';
}

/* What the command line left open, the segment knows better than our defaults. */
static void places_adopt(struct flagctl *ctl)
{
    char path[sizeof(((struct flagshm_header *)0)->state_dir)];

    if (!ctl->has_socket) {
        path_copy(ctl->client.map_, offsetof(struct flagshm_header, socket_path), path,
                  sizeof(((struct flagshm_header *)0)->socket_path));
        if (path[0] == '/' && strlen(path) < sizeof ctl->instance.socket_path)
            memcpy(ctl->instance.socket_path, path, strlen(path) + 1);
    }
    if (!ctl->has_state_dir) {
        path_copy(ctl->client.map_, offsetof(struct flagshm_header, state_dir), path, sizeof path);
        if (path[0] == '/')
            memcpy(ctl->instance.state_dir, path, strlen(path) + 1);
    }
}

int flagctl_client(struct flagctl *ctl, struct flagshm **client)
{
    int code = ctl->client_code;

    if (!ctl->is_client_open) {
        code = flagshm_open(&ctl->client, ctl->instance.name);
        ctl->is_client_open = true;
        ctl->client_code = code;
        if (code == 0)
            places_adopt(ctl);
    }
    *client = &ctl->client;
    return code;
}

int flagctl_no_table(const struct flagctl *ctl, int error)
{
    const char *path = ctl->instance.table_path, *name = ctl->instance.name;

    switch (-error) {
    case ENOENT:
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                            "there is no table of instance %s (%s)\nstart the server: flagshmd --file "
                            "FLAGS.json --instance %s\n"
                            "or name another one: --instance NAME, --dir DIR",
                            name, path, name);
    case EACCES:
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                            "%s may not be read by this user\nrun as root or as the server's user, or start "
                            "the server with a wider "
                            "--table-mode",
                            path);
    case EPERM:
    case ELOOP:
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                            "%s is not trusted: it is no regular file, or others may write it, or its owner "
                            "is neither root nor you\n"
                            "see `ls -l %s`; a server under a user id of its own: FLAGSHM_OWNER=UID",
                            path, path);
    case EPROTO:
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE,
                            "%s has another layout or byte order than this flagctl reads (layout %d)\n"
                            "use the flagctl of the server's release; see `flagctl dump`",
                            path, FLAGSHM_LAYOUT_MAJOR);
    case EBADMSG:
        return flagctl_fail(
            ctl, FLAGCTL_UNREACHABLE,
            "%s is damaged\nrestart the server: it builds a new one; what is wrong: flagctl dump", path);
    default:
        return flagctl_fail(ctl, FLAGCTL_UNREACHABLE, "cannot open %s: %s", path, strerror(-error));
    }
}

int flagctl_open(struct flagctl *ctl, struct flagshm **client)
{
    int code = flagctl_client(ctl, client);
    return code == 0 ? FLAGCTL_OK : flagctl_no_table(ctl, code);
}

const char *flagctl_file(struct flagctl *ctl)
{
    struct flagshm *client;

    if (ctl->file != NULL)
        return ctl->file;
    if (flagctl_open(ctl, &client) != FLAGCTL_OK)
        return NULL;
    path_copy(client->map_, offsetof(struct flagshm_header, file_path), ctl->file_path,
              sizeof ctl->file_path);
    if (ctl->file_path[0] == '/')
        return ctl->file_path;
    (void)flagctl_fail(ctl, FLAGCTL_FAILED, "the table does not name the flag file: say --file PATH");
    return NULL;
}
