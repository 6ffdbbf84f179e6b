/* notify_attempt: one try of one notice: a webhook (notify_web.c) or a program (notify_program.c). */
#ifndef FLAGSHM_SERVER_NOTIFY_ATTEMPT_H
#define FLAGSHM_SERVER_NOTIFY_ATTEMPT_H

#include "server/notify_queue.h"
#include "server/notify_target.h"

#include <curl/curl.h>
#include <sys/types.h>

struct notify_attempt { /* zeros: not in use */
    struct notify_notice *notice;
    struct notify_target target;

    CURL *easy; /* NULL: none */
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE];
    size_t received_bytes;

    pid_t pid;        /* of the program, and of its process group; 0: none */
    int pid_fd;       /* readable when it has ended; -1: this kernel has none, look again and again */
    uint64_t kill_ns; /* CLOCK_MONOTONIC; UINT64_MAX: it has been killed */
};

/* Both begin and do not wait. -errno and words where that fails: then nothing is left of it. */
int notify_web_begin(struct notify_attempt *attempt, CURLM *multi, int64_t realtime_s,
                     struct flagshm_error *error);
int notify_program_begin(struct notify_attempt *attempt, const char *instance, uint64_t now_ns,
                         struct flagshm_error *error);

/* What has come of it: 0: delivered. Takes the handle out and frees it. */
int notify_web_end(struct notify_attempt *attempt, CURLM *multi, CURLcode code, struct flagshm_error *error);
void notify_web_break_off(struct notify_attempt *attempt, CURLM *multi);

/* False: it runs still. True: it has ended, and *result is 0 where that means delivered. Kills the group where its time is over. */
bool notify_program_look(struct notify_attempt *attempt, uint64_t now_ns, int *result,
                         struct flagshm_error *error);
void notify_program_break_off(struct notify_attempt *attempt); /* at most a second */

#endif
