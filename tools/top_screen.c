/* top_screen: see top_screen.h. State is static: there is one terminal. */
#include "tools/top_screen.h"
#include "tools/wait.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static sigset_t outside; /* the mask while we sleep */
static bool is_taken, is_raw;
static unsigned char keys[64];
static size_t key_count;

static void say(const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t sent = write(STDOUT_FILENO, text, left);

        if (sent < 0 && errno != EINTR)
            return;
        if (sent > 0) {
            text += sent;
            left -= (size_t)sent;
        }
    }
}

static void wake(int signal_number)
{
    (void)signal_number; /* only ends a sleep */
}

void top_screen_enter(bool is_screen)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action, stop;
    struct termios raw;
    sigset_t held;
    size_t i;

    flagctl_wait_begin();
    if (sigaction(SIGINT, NULL, &stop) == 0)
        (void)sigaction(SIGQUIT, &stop, NULL);
    memset(&action, 0, sizeof action);
    action.sa_handler = wake;
    (void)sigaction(SIGWINCH, &action, NULL);
    sigemptyset(&held);
    for (i = 0; i < sizeof ends / sizeof *ends; i++)
        sigaddset(&held, ends[i]);
    sigaddset(&held, SIGWINCH);
    (void)sigprocmask(SIG_BLOCK, &held, &outside);
    for (i = 0; i < sizeof ends / sizeof *ends; i++)
        sigdelset(&outside, ends[i]);
    sigdelset(&outside, SIGWINCH);
    if (!is_screen)
        return;
    is_taken = true;
    if (isatty(STDIN_FILENO) != 0 && tcgetattr(STDIN_FILENO, &before) == 0) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
        raw.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* a stopped one would leave the terminal as it is */
        is_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
    }
    say("\033[?1049h\033[?25l\033[?7l"); /* alternate screen, no cursor, long lines are cut */
}

void top_screen_leave(void)
{
    if (is_taken)
        say("\033[0m\033[?7h\033[?25h\033[?1049l");
    if (is_raw)
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    is_taken = is_raw = false;
}

/* ---- keys ---- */

static void keys_drop(size_t count)
{
    key_count -= count;
    memmove(keys, keys + count, key_count);
}

/* The next key of those that were read; sequences of several bytes are one. */
static int key_take(void)
{
    static const struct {
        const char *sequence;
        int key;
    } sequences[] = {
        {"\033[A", TOP_KEY_UP},   {"\033OA", TOP_KEY_UP},       {"\033[B", TOP_KEY_DOWN},
        {"\033OB", TOP_KEY_DOWN}, {"\033[5~", TOP_KEY_PAGE_UP}, {"\033[6~", TOP_KEY_PAGE_DOWN},
        {"\033[H", TOP_KEY_HOME}, {"\033[1~", TOP_KEY_HOME},    {"\033OH", TOP_KEY_HOME},
    };
    size_t i, length;
    int key;

    if (key_count == 0)
        return TOP_KEY_NONE;
    for (i = 0; keys[0] == TOP_KEY_ESCAPE && i < sizeof sequences / sizeof *sequences; i++) {
        length = strlen(sequences[i].sequence);
        if (key_count >= length && memcmp(keys, sequences[i].sequence, length) == 0) {
            keys_drop(length);
            return sequences[i].key;
        }
    }
    if (keys[0] == TOP_KEY_ESCAPE && key_count > 1) { /* one that we do not know: it is dropped whole */
        key_count = 0;
        return TOP_KEY_NONE;
    }
    key = keys[0] == '\n' ? TOP_KEY_ENTER : keys[0] == '\b' ? TOP_KEY_ERASE : keys[0];
    keys_drop(1);
    return key;
}

int top_screen_wait(double seconds)
{
    struct timespec limit = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    struct pollfd input = {.fd = is_raw ? STDIN_FILENO : -1, .events = POLLIN};
    ssize_t got;
    int key = key_take();

    if (key != TOP_KEY_NONE)
        return key;
    if (seconds < 0)
        limit = (struct timespec){0, 0};
    if (ppoll(&input, 1, &limit, &outside) <= 0 || input.revents == 0)
        return TOP_KEY_NONE;
    got = read(STDIN_FILENO, keys, sizeof keys);
    if (got <= 0) { /* hung up: nobody presses keys any more */
        is_raw = false;
        return TOP_KEY_NONE;
    }
    key_count = (size_t)got;
    return key_take();
}

void top_screen_size(int *columns, int *rows)
{
    const char *given = getenv("COLUMNS");
    struct winsize size;

    *columns = 110;
    *rows = 0; /* without end */
    if (isatty(STDOUT_FILENO) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        *columns = size.ws_col;
        *rows = size.ws_row > 0 ? size.ws_row : 24;
    } else if (given != NULL && atoi(given) >= 20 && atoi(given) <= 1000) {
        *columns = atoi(given);
    }
}
