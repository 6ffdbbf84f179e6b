/* test_log: the log never waits for who reads it. Standard error is a pipe here, for the time of a test. */
#include "server/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int kept = -1, reader = -1;

static void begin(void)
{
    int ends[2];

    unsetenv("JOURNAL_STREAM");
    cr_assert_eq(pipe(ends), 0);
    reader = ends[0];
    cr_assert_eq(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
    kept = dup(STDERR_FILENO);
    cr_assert_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
}

static void end(void)
{
    (void)dup2(kept, STDERR_FILENO);
    close(kept);
    if (reader >= 0)
        close(reader);
}

/* What is in the pipe now. */
static const char *taken(void)
{
    static char text[1 << 17];
    size_t bytes = 0;
    ssize_t got;

    while ((got = read(reader, text + bytes, sizeof text - 1 - bytes)) > 0)
        bytes += (size_t)got;
    text[bytes] = '\0';
    return text;
}

static int lines_of(const char *text, const char *word)
{
    int count = 0;

    for (; (text = strstr(text, word)) != NULL; text++)
        count++;
    return count;
}

Test(log, a_line_has_its_time_and_a_repeated_one_is_counted, .init = begin, .fini = end)
{
    const char *text;

    flagshm_log(FLAGSHM_LOG_WARNING, "it %s", "hurts");
    flagshm_log(FLAGSHM_LOG_WARNING, "it hurts");
    flagshm_log(FLAGSHM_LOG_WARNING, "it hurts");
    flagshm_log_more("more\n");
    flagshm_log(FLAGSHM_LOG_NOTICE, "all is well");
    text = taken();
    cr_expect_eq(lines_of(text, "Z flagshmd: warning: it hurts\n"), 1, "%s", text);
    cr_expect_eq(lines_of(text, "Z flagshmd: (the line before, 2 more times)\n"), 1, "%s", text);
    cr_expect_not_null(strstr(text, "Z flagshmd: all is well\n"), "%s", text);
}

Test(log, a_reader_that_has_stopped_holds_nobody_up_and_is_told_what_it_missed, .init = begin, .fini = end,
     .timeout = 20)
{
    char large[20000];
    const char *text;
    int i;

    memset(large, 'x', sizeof large - 2);
    large[sizeof large - 2] = '\n';
    large[sizeof large - 1] = '\0';
    for (i = 0; i < 3000; i++)
        flagshm_log(FLAGSHM_LOG_NOTICE, "line %d", i);
    flagshm_log_more(large);
    cr_assert_gt(lines_of(taken(), "line "), 500);
    flagshm_log(FLAGSHM_LOG_NOTICE, "here again");
    text = taken();
    cr_expect_not_null(strstr(text, "lines of this log were lost: nobody took them\n"), "%s", text);
    cr_expect_not_null(strstr(text, "Z flagshmd: here again\n"), "%s", text);
    flagshm_log(FLAGSHM_LOG_NOTICE, "and again");
    cr_expect_eq(lines_of(taken(), "\n"), 1, "told once");
}

Test(log, a_text_that_is_cut_off_does_not_run_into_the_next_line, .init = begin, .fini = end, .timeout = 20)
{
    static char large[200000];
    const char *text;

    memset(large, 'x', sizeof large - 2);
    large[sizeof large - 2] = '\n';
    flagshm_log_more(large);
    cr_assert_eq(lines_of(taken(), "\n"), 0);
    flagshm_log(FLAGSHM_LOG_NOTICE, "next");
    text = taken();
    cr_expect_eq(text[0], '\n');
    cr_expect_not_null(strstr(text, "Z flagshmd: next\n"), "%s", text);
}

Test(log, a_reader_that_has_gone_is_no_fault_of_ours, .init = begin, .fini = end)
{
    cr_assert_neq(signal(SIGPIPE, SIG_IGN), SIG_ERR);
    close(reader);
    reader = -1;
    flagshm_log(FLAGSHM_LOG_NOTICE, "to nobody");
    close(STDERR_FILENO);
    flagshm_log(FLAGSHM_LOG_NOTICE, "to nowhere");
}
