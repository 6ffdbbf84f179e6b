/* ezai_probe: calls by client/ezai.h from the command line, for tests/cli/ezai.sh; what became of them as
 * JSON, one line a call. ezai_probe [OPTION...] ID...
 *       --flag NAME (f)  --model NAME (default model)  --prompt TEXT  --messages JSON  --extra JSON
 *       --max-tokens N  --stream  --wants-json  --falls-back  --tags metadata|header|none  --attempts N
 *       --total-ms N  --stall-s N  --deadline-ms N  --answer-max N  --pair-log PATH  --shadow-max N
 *       --shadow-tokens N  --one-in N  --close-ms N  --cancel-after-ms N  --stop-after BYTES  --dry-run
 *       --threads N       all ids by so many threads at once
 *       --fork            first by this process, then by a child, then by this one again
 *       --shadow-mpct N   first gives the flag that share of shadow calls, in the table itself
 * At the end, where there was a shadow call, {"shadow": {...}}. Exit code 0, or 1 where a call failed. */
#include "client/ezai.h"

#include <getopt.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct ezai_request request = EZAI_REQUEST_INIT;
static struct ezai_options options;
static struct flagshm flags;
static struct ezai ai;
static long cancel_after_ms, stop_after = -1, threads, shadow_mpct;
static bool does_fork, is_dry_run;
static int is_cancelled, has_failed;

static int take(void *user, const char *text, size_t bytes)
{
    size_t *taken = user;

    (void)text;
    *taken += bytes;
    return stop_after >= 0 && *taken >= (size_t)stop_after;
}

static void *cancel(void *nothing)
{
    struct timespec span = {cancel_after_ms / 1000, cancel_after_ms % 1000 * 1000000};

    (void)nothing;
    (void)nanosleep(&span, NULL);
    __atomic_store_n(&is_cancelled, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void print(cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    (void)printf("%s\n", text);
    (void)fflush(stdout);
    free(text);
    cJSON_Delete(json);
}

static void print_reply(const struct ezai_reply *reply, const char *id, size_t taken)
{
    const struct flagshm_outcome *o = &reply->outcome;
    cJSON *json = cJSON_CreateObject();
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    (void)cJSON_AddNumberToObject(json, "rss_mb", (double)(usage.ru_maxrss / 1024));
    (void)cJSON_AddStringToObject(json, "id", id);
    (void)cJSON_AddStringToObject(json, "result", reply->result == 0 ? "0" : strerrorname_np(-reply->result));
    (void)cJSON_AddStringToObject(json, "error", reply->error);
    (void)cJSON_AddStringToObject(json, "error_type", reply->error_type);
    (void)cJSON_AddStringToObject(json, "arm", reply->decision.arm_name);
    (void)cJSON_AddStringToObject(json, "model", reply->model);
    (void)cJSON_AddStringToObject(json, "stop", reply->stop_reason);
    (void)cJSON_AddStringToObject(json, "request_id", reply->request_id);
    (void)cJSON_AddStringToObject(json, "text", reply->text != NULL ? reply->text : "(none)");
    (void)cJSON_AddNumberToObject(json, "blocks", cJSON_GetArraySize(reply->content));
    (void)cJSON_AddBoolToObject(json, "is_fallback", reply->is_fallback);
    (void)cJSON_AddNumberToObject(json, "status", o->http_status);
    (void)cJSON_AddNumberToObject(json, "attempts", o->attempts);
    (void)cJSON_AddNumberToObject(json, "input", (double)o->input_tokens);
    (void)cJSON_AddNumberToObject(json, "output", (double)o->output_tokens);
    (void)cJSON_AddNumberToObject(json, "cache", (double)o->cache_tokens);
    (void)cJSON_AddNumberToObject(json, "latency_ms", (double)(o->latency_ns / 1000000));
    (void)cJSON_AddNumberToObject(json, "ttft_ms", (double)(o->ttft_ns / 1000000));
    (void)cJSON_AddBoolToObject(json, "has_ttft", o->ttft_ns != 0);
    (void)cJSON_AddBoolToObject(json, "transport_error", o->transport_error);
    (void)cJSON_AddBoolToObject(json, "cancelled", o->cancelled);
    (void)cJSON_AddBoolToObject(json, "limited", o->limited);
    (void)cJSON_AddStringToObject(json, "json",
                                  !o->json_checked ? "unchecked"
                                  : o->json_valid  ? "valid"
                                                   : "invalid");
    (void)cJSON_AddStringToObject(json, "tool",
                                  !o->tool_checked ? "unchecked"
                                  : o->tool_valid  ? "valid"
                                                   : "invalid");
    (void)cJSON_AddBoolToObject(json, "refusal", o->refusal);
    (void)cJSON_AddBoolToObject(json, "truncated", o->truncated);
    (void)cJSON_AddBoolToObject(json, "empty", o->empty);
    (void)cJSON_AddNumberToObject(json, "taken", (double)taken);
    print(json);
}

static void *run(void *user)
{
    struct ezai_request mine = request;
    struct ezai_reply reply;
    size_t taken = 0;

    mine.id = user;
    if (mine.is_stream) {
        mine.on_text = take;
        mine.on_text_user = &taken;
    }
    if (is_dry_run) {
        has_failed |= ezai_dry_run(&ai, &mine, &reply) != 0;
        (void)printf("%s\n", reply.result == 0 ? reply.text : reply.error);
    } else {
        int error = ezai_call(&ai, &mine, &reply);
        if (error != 0)
            __atomic_store_n(&has_failed, 1, __ATOMIC_RELAXED);
        if (threads == 0)
            print_reply(&reply, user, taken);
    }
    ezai_reply_free(&reply);
    return NULL;
}

struct share { /* of the ids, for one thread */
    char **ids;
    long count, step, at;
};

static void *run_share(void *user)
{
    const struct share *share = user;
    long i;

    for (i = share->at; i < share->count; i += share->step)
        (void)run(share->ids[i]);
    return NULL;
}

static void run_threads(char **ids, int count)
{
    pthread_t handles[64];
    struct share shares[64];
    long i;

    for (i = 0; i < threads; i++) {
        shares[i] = (struct share){ids, count, threads, i};
        if (pthread_create(&handles[i], NULL, run_share, &shares[i]) != 0)
            exit(1);
    }
    for (i = 0; i < threads; i++)
        (void)pthread_join(handles[i], NULL);
}

static void print_shadow(void)
{
    struct ezai_shadow_counts counts;
    cJSON *json = cJSON_CreateObject(), *shadow = cJSON_AddObjectToObject(json, "shadow");

    ezai_shadow_stats(&ai, &counts);
    (void)cJSON_AddNumberToObject(shadow, "asked", (double)counts.asked);
    (void)cJSON_AddNumberToObject(shadow, "sampled_out", (double)counts.sampled_out);
    (void)cJSON_AddNumberToObject(shadow, "capped", (double)counts.capped);
    (void)cJSON_AddNumberToObject(shadow, "over_budget", (double)counts.over_budget);
    (void)cJSON_AddNumberToObject(shadow, "skipped", (double)counts.skipped);
    (void)cJSON_AddNumberToObject(shadow, "finished", (double)counts.finished);
    (void)cJSON_AddNumberToObject(shadow, "failed", (double)counts.failed);
    (void)cJSON_AddNumberToObject(shadow, "unlogged", (double)counts.unlogged);
    (void)cJSON_AddNumberToObject(shadow, "cut", (double)counts.cut);
    (void)cJSON_AddNumberToObject(shadow, "in_flight", counts.in_flight);
    (void)cJSON_AddNumberToObject(shadow, "in_flight_max", counts.in_flight_max);
    if (counts.asked != 0)
        print(json);
    else
        cJSON_Delete(json);
}

/* As a server in its shadow stage would: the record is written in place, which only a test may do. */
static int shadow_set(uint32_t mpct)
{
    const struct flagshm_map_ *map = flags.map_;
    const unsigned char *record =
        map == NULL ? NULL
                    : flagshm_find_(map, map->bank[flagshm_seq_acquire_(map) & 1],
                                    flagshm_hash64_(request.flag, strlen(request.flag), 0), NULL, 0);
    int fd = record != NULL ? open(flags.path_, O_RDWR) : -1;
    unsigned char *segment;
    struct flagshm_flag_entry *entry;

    if (fd < 0)
        return -1;
    segment = mmap(NULL, map->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (segment == MAP_FAILED)
        return -1;
    entry = (struct flagshm_flag_entry *)(void *)(segment + (record - map->segment));
    __atomic_store_n(&entry->shadow_mpct, mpct, __ATOMIC_RELAXED);
    __atomic_fetch_or(&entry->switches, FLAGSHM_SWITCH_HASH, __ATOMIC_RELAXED);
    return munmap(segment, map->segment_bytes);
}

static void run_all(char **ids, int count)
{
    int i;

    if (threads != 0)
        run_threads(ids, count);
    else
        for (i = 0; i < count; i++)
            (void)run(ids[i]);
}

enum kind { TEXT, NUMBER_32, NUMBER_64, LONG, YES, TAGS };

static const struct {
    const char *name;
    enum kind kind;
    void *into;
} known[] = {{"flag", TEXT, &request.flag},
             {"model", TEXT, &request.default_model},
             {"prompt", TEXT, &request.prompt},
             {"messages", TEXT, &request.messages},
             {"extra", TEXT, &request.extra},
             {"max-tokens", NUMBER_32, &request.max_tokens},
             {"deadline-ms", NUMBER_32, &request.deadline_ms},
             {"stream", YES, &request.is_stream},
             {"wants-json", YES, &request.wants_json},
             {"falls-back", YES, &request.falls_back},
             {"tags", TAGS, &options.tags},
             {"pair-log", TEXT, &options.pair_log},
             {"attempts", NUMBER_32, &options.attempts},
             {"total-ms", NUMBER_32, &options.total_ms},
             {"stall-s", NUMBER_32, &options.stall_s},
             {"answer-max", NUMBER_64, &options.answer_max},
             {"shadow-max", NUMBER_32, &options.shadow_max},
             {"shadow-tokens", NUMBER_64, &options.shadow_tokens_a_day},
             {"one-in", NUMBER_32, &options.shadow_one_in},
             {"close-ms", NUMBER_32, &options.close_ms},
             {"cancel-after-ms", LONG, &cancel_after_ms},
             {"stop-after", LONG, &stop_after},
             {"threads", LONG, &threads},
             {"shadow-mpct", LONG, &shadow_mpct},
             {"fork", YES, &does_fork},
             {"dry-run", YES, &is_dry_run}};
#define KNOWN (sizeof known / sizeof known[0])

static void set(size_t option, const char *text)
{
    void *into = known[option].into;

    switch (known[option].kind) {
    case TEXT:
        *(const char **)into = text;
        break;
    case NUMBER_32:
        *(uint32_t *)into = (uint32_t)strtoul(text, NULL, 10);
        break;
    case NUMBER_64:
        *(uint64_t *)into = strtoull(text, NULL, 10);
        break;
    case LONG:
        *(long *)into = strtol(text, NULL, 10);
        break;
    case YES:
        *(bool *)into = true;
        break;
    case TAGS:
        options.tags = text[0] == 'h'   ? EZAI_TAGS_HEADER
                       : text[0] == 'n' ? EZAI_TAGS_NONE
                                        : EZAI_TAGS_METADATA;
        break;
    }
}

/* The index of the first id, or -1. */
static int parse(int argc, char **argv)
{
    struct option list[KNOWN + 1] = {{NULL, 0, NULL, 0}};
    size_t i;
    int option;

    for (i = 0; i < KNOWN; i++)
        list[i] = (struct option){known[i].name, known[i].kind != YES, NULL, (int)i};
    while ((option = getopt_long(argc, argv, "", list, NULL)) >= 0) {
        if (option >= (int)KNOWN)
            return -1;
        set((size_t)option, optarg);
    }
    return optind;
}

int main(int argc, char **argv)
{
    pthread_t canceller;
    int first, error;

    request.flag = "f";
    request.prompt = "Say something.";
    first = parse(argc, argv);
    if (first < 0)
        return 2;
    (void)flagshm_open(&flags, NULL);
    if (shadow_mpct != 0 && shadow_set((uint32_t)shadow_mpct) != 0)
        return 2;
    if ((error = ezai_open(&ai, &flags, &options)) != 0) {
        (void)printf("{\"open\":\"%s\"}\n", strerrorname_np(-error));
        return 1;
    }
    if (cancel_after_ms != 0) {
        request.cancel = &is_cancelled;
        if (pthread_create(&canceller, NULL, cancel, NULL) != 0)
            return 1;
    }
    run_all(argv + first, argc - first);
    if (does_fork) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            run_all(argv + first, argc - first);
            ezai_close(&ai);
            _exit(has_failed); /* what the parent's thread was at is no leak of ours */
        }
        if (child > 0)
            (void)waitpid(child, &status, 0);
        run_all(argv + first, argc - first);
        has_failed |= status != 0 || child < 0;
    }
    if (cancel_after_ms != 0)
        (void)pthread_join(canceller, NULL);
    if (options.close_ms != 0) { /* what ezai_close would wait for, so that it can be counted */
        struct ezai_shadow_counts counts;
        struct timespec tick = {0, 10000000};
        uint32_t waited;
        for (waited = 0; waited < options.close_ms; waited += 10) {
            ezai_shadow_stats(&ai, &counts);
            if (counts.in_flight == 0)
                break;
            (void)nanosleep(&tick, NULL);
        }
    }
    print_shadow();
    ezai_close(&ai);
    flagshm_close(&flags);
    return has_failed;
}
