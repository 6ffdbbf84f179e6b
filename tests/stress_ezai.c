/* stress_ezai GATEWAY: many threads on one handle of client/ezai.h, each with shadow calls, over a fork;
 * for the thread sanitizer, which Criterion does not run under. Every call must be answered with its own
 * answer, and the shadow calls must add up. */
#undef NDEBUG
#include "client/ezai.h"
#include "image_fixture.h"
#include "table_fixture.h"

#include <assert.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* It refuses threads in the child of a process that has some. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_NO_FORK
#endif
#elif defined(__SANITIZE_THREAD__)
#define HAS_NO_FORK
#endif

#define THREADS 8
#define CALLS   40

static struct flagshm flags;
static struct flagshm_map_ map;
static struct ezai ai;
static pid_t gateway;

static void gateway_start(const char *program, char *url, size_t room)
{
    static const char ready[] = "listening on ";
    char line[256] = "";
    int ends[2], made = pipe(ends);
    FILE *in;

    assert(made == 0);
    gateway = fork();
    assert(gateway >= 0);
    if (gateway == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        (void)dup2(ends[1], 1);
        if (freopen("/dev/null", "w", stderr) != NULL)
            (void)execl(program, program, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    in = fdopen(ends[0], "r");
    assert(in && fgets(line, sizeof line, in) && strncmp(line, ready, sizeof ready - 1) == 0);
    line[strcspn(line, "\n")] = '\0';
    (void)snprintf(url, room, "%s", line + sizeof ready - 1);
    (void)fclose(in);
}

/* A flag whose users all get control, and a shadow call of the variant. */
static void flags_make(void)
{
    static struct table_fixture fixture;
    const unsigned char *record;
    unsigned char *image;
    size_t bytes;
    bool is_good = table_fixture_parse(&fixture, "{\"flags\": {\"f\": {\"control\": \"c\", \"variant\": "
                                                 "{\"model\": \"v\", \"system\": \"be brief\"}}}}");

    assert(is_good && flagshm_table_build(&fixture.table, fixture.entries, fixture.count, NULL) == 0);
    image = image_make(&fixture.table, 7, &bytes);
    assert(image && image_attach(&flags, &map, image, bytes) == 0);
    record = flagshm_find_(&map, map.bank[0], flagshm_hash64_("f", 1, 0), NULL, 0);
    assert(record);
    ((struct flagshm_flag_entry *)(uintptr_t)record)->shadow_mpct = 100000;
    ((struct flagshm_flag_entry *)(uintptr_t)record)->switches |= FLAGSHM_SWITCH_HASH;
    table_fixture_free(&fixture);
}

static int hear(void *user, const char *text, size_t bytes)
{
    (void)text;
    *(size_t *)user += bytes;
    return 0;
}

static void *call_many(void *user)
{
    const char *who = user;
    char id[32];
    int i;

    for (i = 0; i < CALLS; i++) {
        struct ezai_request request = EZAI_REQUEST_INIT;
        struct ezai_reply reply;
        size_t heard = 0;
        int error;

        (void)snprintf(id, sizeof id, "%s-%d", who, i);
        request.flag = "f";
        request.id = id;
        request.prompt = "x";
        if (i % 2) {
            request.on_text = hear;
            request.on_text_user = &heard;
        }
        error = ezai_call(&ai, &request, &reply);
        assert(error == 0 && reply.decision.shadow && strcmp(reply.model, "c") == 0);
        assert(reply.text_bytes > 0 && (i % 2 == 0 || heard == reply.text_bytes));
        ezai_reply_free(&reply);
    }
    return NULL;
}

static void run_threads(const char *process)
{
    pthread_t threads[THREADS];
    char who[THREADS][16];
    int i, made;

    for (i = 0; i < THREADS; i++) {
        (void)snprintf(who[i], sizeof who[i], "%s%d", process, i);
        made = pthread_create(&threads[i], NULL, call_many, who[i]);
        assert(made == 0);
    }
    for (i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
}

static struct ezai_shadow_counts settle(void)
{
    struct ezai_shadow_counts counts;
    struct timespec tick = {0, 5000000};
    int i;

    for (i = 0; i < 2000; i++) {
        ezai_shadow_stats(&ai, &counts);
        if (counts.in_flight == 0)
            break;
        (void)nanosleep(&tick, NULL);
    }
    return counts;
}

static void check(uint64_t asked)
{
    struct ezai_shadow_counts counts = settle();

    assert(counts.asked == asked && counts.in_flight == 0 && counts.in_flight_max <= 5);
    assert(counts.capped + counts.finished == asked && counts.finished > 0);
    assert(counts.failed == 0 && counts.skipped == 0 && counts.cut == 0);
}

int main(int argc, char **argv)
{
    struct ezai_options options = {.key = "k", .shadow_max = 5, .close_ms = 5000};
    char url[256];
    int error, status = 0;
    pid_t child;

    assert(argc == 2);
    gateway_start(argv[1], url, sizeof url);
    flags_make();
    options.base_url = url;
    error = ezai_open(&ai, &flags, &options);
    assert(error == 0);
    run_threads("first");
#ifdef HAS_NO_FORK
    child = 1;
#else
    child = fork(); /* shadow calls may be in flight */
#endif
    assert(child >= 0);
    if (child == 0) {
        run_threads("child");
        check(THREADS * CALLS);
        ezai_close(&ai);
        _exit(0);
    }
    run_threads("second");
    if (child > 1)
        (void)waitpid(child, &status, 0);
    assert(status == 0);
    check(2 * THREADS * CALLS);
    ezai_close(&ai);
    (void)kill(gateway, SIGTERM);
    (void)waitpid(gateway, &status, 0);
    (void)printf("stress_ezai: %d calls of %d threads%s\n", (child > 1 ? 3 : 2) * THREADS * CALLS, THREADS,
                 child > 1 ? " in each of two processes" : "");
    return 0;
}
