/* flagshm_gateway: a local stand-in for the endpoint of an EzAI provider, for tests. Options, the socket and the loop. */
#include "tests/gateway/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 4096
#define FILES_OF_OURS   32
#define BACKLOG         1024
#define FILE_MAX_BYTES  (16 << 20) /* of a config */

static const char help_text[] =
    "usage: flagshm_gateway [OPTION...]\n"
    "\n"
    "Speaks the Messages API on 127.0.0.1, plain and streaming, for every model name, as scripted. For "
    "tests.\n"
    "\n"
    "  -p, --port N         0 (the default) takes a free one; it is printed when the gateway is ready\n"
    "  -s, --scenario NAME  of calls that name none                     (ok)\n"
    "  -c, --config FILE    behaviour by model; see below\n"
    "      --seed N         of all chance                               (1)\n"
    "  -l, --log FILE       one JSON line a call; emptied first\n"
    "      --log-bodies     with the request in it\n"
    "  -h, --help           this text\n"
    "\n"
    "The scenario of a call: header x-gateway-scenario, model gw-NAME, the config's, --scenario.\n"
    "x-gateway-delay-ms and x-gateway-retry-after change what some scenarios do. A client key is a model "
    "with a user_id.\n"
    "Config: {\"models\": {\"NAME\": {\"error_rate\": 0.01, \"error_status\": 500, \"latency_ms\": {\"p50\": "
    "5, \"p95\": 20},\n"
    "  \"input_tokens\": 900, \"output_tokens\": {\"p50\": 80, \"p95\": 200}, \"invalid_json_rate\": 0.0, "
    "\"json\": true,\n"
    "  \"scenario\": \"ok\"}}, \"default\": {...}}; numbers may be spreads and the reverse; all keys may be "
    "left out.\n"
    "GET /gateway/health, GET and DELETE /gateway/log, PUT /gateway/config, DELETE /gateway/state (counts by "
    "client key).\n"
    "Ends with 0 on SIGTERM and SIGINT.\n"
    "\n"
    "Scenarios:\n";

struct arguments {
    unsigned port;
    const char *config, *log;
};

enum { OPTION_SEED = 256, OPTION_LOG_BODIES };

static const struct option options[] = {
    {"port", required_argument, NULL, 'p'},   {"scenario", required_argument, NULL, 's'},
    {"config", required_argument, NULL, 'c'}, {"seed", required_argument, NULL, OPTION_SEED},
    {"log", required_argument, NULL, 'l'},    {"log-bodies", no_argument, NULL, OPTION_LOG_BODIES},
    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};

static int fail(const struct flagshm_error *error)
{
    (void)fprintf(stderr, "flagshm_gateway: %s\n", error->text);
    return 1;
}

static _Noreturn void help(void)
{
    struct gateway_text list = {NULL, 0, 0};

    gateway_scenario_list(&list);
    (void)printf("%s%s", help_text, list.bytes);
    gateway_text_free(&list);
    exit(0);
}

static int read_number(const char *name, const char *text, unsigned long long max, unsigned long long *number,
                       struct flagshm_error *error)
{
    char *end;

    errno = 0;
    *number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || *number > max)
        return flagshm_error_set(error, -EINVAL, "%s must be a whole number 0..%llu, got \"%s\"", name, max,
                                 text);
    return 0;
}

static int read_option(int option, struct arguments *arguments, struct gateway *gateway,
                       struct flagshm_error *error)
{
    unsigned long long number = 0;
    int code = 0;

    if (option == 'h')
        help();
    if (option == 'p') {
        code = read_number("--port", optarg, 65535, &number, error);
        arguments->port = (unsigned)number;
    } else if (option == OPTION_SEED) {
        code = read_number("--seed", optarg, ULLONG_MAX, &number, error);
        gateway->chance.seed = number;
    } else if (option == 's') {
        gateway->fallback = gateway_scenario_find(optarg);
        if (gateway->fallback == NULL)
            code = gateway_scenario_unknown(error, "--scenario", optarg);
    } else if (option == 'c') {
        arguments->config = optarg;
    } else if (option == 'l') {
        arguments->log = optarg;
    } else if (option == OPTION_LOG_BODIES) {
        gateway->logs_bodies = true;
    } else {
        code = flagshm_error_set(error, -EINVAL, "see flagshm_gateway --help");
    }
    return code;
}

static int read_config(struct gateway *gateway, const char *path, struct flagshm_error *error)
{
    struct gateway_text text = {NULL, 0, 0};
    char block[65536];
    FILE *file = fopen(path, "re");
    size_t count;
    int code;

    if (file == NULL)
        return flagshm_error_set(error, -errno, "%s: %s", path, strerror(errno));
    while (text.length < FILE_MAX_BYTES && (count = fread(block, 1, sizeof block, file)) > 0)
        gateway_text_bytes(&text, block, count);
    (void)fclose(file);
    gateway_text_bytes(&text, "", 0);
    code = gateway_config_read(&gateway->config, text.bytes, text.length, error);
    gateway_text_free(&text);
    return code == 0 ? 0 : flagshm_error_prefix(error, code, "%s", path);
}

static int listen_on(unsigned port, int *fd, unsigned *bound, struct flagshm_error *error)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t bytes = sizeof address;
    int one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(*fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(*fd, BACKLOG) != 0 ||
        getsockname(*fd, (struct sockaddr *)&address, &bytes) != 0)
        return flagshm_error_set(error, -errno, "port %u of 127.0.0.1: %s: --port 0 takes a free one", port,
                                 strerror(errno));
    *bound = ntohs(address.sin_port);
    return 0;
}

static unsigned connections_allowed(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return 64;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur > CONNECTIONS_MAX + FILES_OF_OURS)
        return CONNECTIONS_MAX;
    return files.rlim_cur > 2 * FILES_OF_OURS ? (unsigned)files.rlim_cur - FILES_OF_OURS : FILES_OF_OURS;
}

static int http_start(struct gateway *gateway, int fd, struct flagshm_error *error)
{
    gateway->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, gateway_on_request, gateway,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, gateway_on_completed, gateway,
        MHD_OPTION_NOTIFY_CONNECTION, gateway_on_connection, gateway, MHD_OPTION_CONNECTION_LIMIT,
        connections_allowed(), MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)65536, MHD_OPTION_END);
    if (gateway->daemon == NULL)
        return flagshm_error_set(error, -ENOMEM, "libmicrohttpd does not start");
    return 0;
}

static void sleep_until_work(const struct gateway *gateway, int epoll_fd, int signal_fd)
{
    struct pollfd fds[2] = {{.fd = epoll_fd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
    uint64_t due_ns = gateway_next_ns(gateway), now_ns = gateway_now_ns(), left_ns;
    MHD_UNSIGNED_LONG_LONG http_ms;
    struct timespec timeout;

    if (MHD_get_timeout(gateway->daemon, &http_ms) == MHD_YES && now_ns + http_ms * 1000000u < due_ns)
        due_ns = now_ns + http_ms * 1000000u;
    left_ns = due_ns > now_ns ? due_ns - now_ns : 0;
    timeout.tv_sec = (time_t)(left_ns / 1000000000u);
    timeout.tv_nsec = (long)(left_ns % 1000000000u);
    (void)ppoll(fds, 2, due_ns == GATEWAY_FOREVER ? NULL : &timeout, NULL);
}

static void serve(struct gateway *gateway, int signal_fd)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(gateway->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct signalfd_siginfo signal;

    for (;;) {
        gateway_waits_resume_due(gateway, gateway_now_ns());
        gateway_peers_check(gateway, gateway_now_ns());
        (void)MHD_run(gateway->daemon);
        if (read(signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal)
            break;
        sleep_until_work(gateway, info->epoll_fd, signal_fd);
    }
    /* libmicrohttpd must not be stopped while a connection is suspended. */
    gateway->is_ending = true;
    while (gateway->waits.count > 0) {
        gateway_waits_end_all(gateway);
        (void)MHD_run(gateway->daemon);
    }
}

int main(int argc, char **argv)
{
    struct gateway gateway = {
        .chance = {.seed = 1}, .config = {.any = {.error_status = 500}}, .log = {.fd = -1}};
    struct arguments arguments = {0, NULL, NULL};
    struct flagshm_error error = {""};
    int option, fd, signal_fd;
    unsigned port = 0;
    sigset_t signals;

    gateway.fallback = gateway_scenario_find("ok");
    while ((option = getopt_long(argc, argv, "p:s:c:l:h", options, NULL)) != -1)
        if (read_option(option, &arguments, &gateway, &error) != 0)
            return fail(&error) + 1;
    if (optind < argc) {
        (void)flagshm_error_set(&error, -EINVAL, "\"%s\" is one argument too many", argv[optind]);
        return fail(&error) + 1;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if ((arguments.config != NULL && read_config(&gateway, arguments.config, &error) != 0) ||
        gateway_log_open(&gateway.log, arguments.log, &error) != 0 ||
        listen_on(arguments.port, &fd, &port, &error) != 0 || http_start(&gateway, fd, &error) != 0)
        return fail(&error);
    gateway.chance.tally = gateway_tally_create();
    (void)printf("listening on http://127.0.0.1:%u\n", port);
    (void)fflush(stdout);
    serve(&gateway, signal_fd);
    MHD_stop_daemon(gateway.daemon);
    gateway_config_free(&gateway.config);
    gateway_log_close(&gateway.log);
    gateway_tally_free(gateway.chance.tally);
    free(gateway.waits.calls);
    (void)close(signal_fd);
    return 0;
}
