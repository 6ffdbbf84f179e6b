/* publisher: what is good, what is killed, and which numbers it gets, over edits, restarts and reboots. */
#include "server/publisher.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char dir[64], state[96], instance[32], old_dir[8];
    struct flagshm_publisher publisher;
    struct flagshm client;
};

static struct flagshm_publisher_options options_of(const struct place *place)
{
    struct flagshm_publisher_options options = {
        .segment = {.dir = place->dir, .instance = place->instance, .group = (gid_t)-1, .lock_wait_ms = 0},
        .state_dir = place->state,
        .file_path = "flags.json"};

    return options;
}

static void start(struct place *place)
{
    struct flagshm_publisher_options options = options_of(place);
    struct flagshm_error error = {{0}};

    cr_assert_eq(flagshm_publisher_open(&place->publisher, &options, &error), 0, "%s", error.text);
}

static void stop(struct place *place)
{
    flagshm_publisher_close(&place->publisher);
}

static void restart(struct place *place)
{
    stop(place);
    start(place);
}

static void set_up(struct place *place)
{
    memset(place, 0, sizeof *place);
    strcpy(place->dir, "/tmp/flagshm-test-XXXXXX");
    cr_assert_not_null(mkdtemp(place->dir));
    cr_assert_eq(chmod(place->dir, 0755), 0);
    snprintf(place->state, sizeof place->state, "%s/state", place->dir);
    snprintf(place->instance, sizeof place->instance, "p%d", (int)getpid());
    setenv("FLAGSHM_DIR", place->dir, 1);
    start(place);
}

static void tear_down(struct place *place)
{
    char command[96];

    flagshm_close(&place->client);
    stop(place);
    snprintf(command, sizeof command, "rm -rf %s", place->dir);
    cr_assert_eq(system(command), 0);
}

static void beat(struct place *place)
{
    struct flagshm_error error = {{0}};

    cr_assert_eq(flagshm_publisher_beat(&place->publisher, &error), 0, "%s", error.text);
}

/* What a reboot takes away. */
static void lose_table(const struct place *place)
{
    char path[160];

    snprintf(path, sizeof path, "%s/flagshm.%s.table", place->dir, place->instance);
    cr_assert_eq(unlink(path), 0);
}

static void lose_state(const struct place *place)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", place->state);
    cr_assert_eq(system(command), 0);
}

static enum flagshm_taken take(struct place *place, const char *text)
{
    return flagshm_publisher_take(&place->publisher, text, strlen(text), true);
}

/* The share that a client sees, or -1. */
static double share(struct place *place, const char *flag)
{
    double pct;

    flagshm_close(&place->client);
    (void)flagshm_open(&place->client, place->instance);
    pct = flagshm_rollout_pct(&place->client, flag);
    return pct;
}

static uint64_t version(struct place *place)
{
    (void)share(place, "x");
    return flagshm_version(&place->client);
}

static enum flagshm_reason reason(struct place *place, const char *flag)
{
    struct flagshm_decision d;

    (void)share(place, flag);
    return flagshm_decide(&place->client, flag, "user", &d);
}

#define FLAG(name, pct) "\"" name "\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": " pct "}"
#define FILE_OF(flags)  "{\"flags\": {" flags "}}"

Test(publisher, an_edit_is_one_version_and_one_file_revision)
{
    struct place place;
    uint64_t first;

    set_up(&place);
    cr_assert_eq(take(&place, FILE_OF(FLAG("a", "5"))), FLAGSHM_TAKEN_PUBLISHED);
    first = version(&place);
    cr_assert_gt(first, UINT64_C(1) << 40, "the very first version is made from the clock");
    cr_assert_eq(place.publisher.file_rev, 1);
    cr_assert_eq(take(&place, FILE_OF(FLAG("a", "25"))), FLAGSHM_TAKEN_PUBLISHED);
    cr_assert_eq(version(&place), first + 1);
    cr_assert_eq(place.publisher.file_rev, 2);
    cr_assert_eq(share(&place, "a"), 25.0);
    tear_down(&place);
}

Test(publisher, an_edit_that_compiles_to_the_same_table_makes_a_file_revision_only)
{
    struct place place;
    uint64_t first;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "5")));
    first = version(&place);
    cr_assert_eq(take(&place, "{\"$comment\": \"x\", \"flags\": {" FLAG("a", "5") "}}"), FLAGSHM_TAKEN_SAME);
    cr_assert_eq(version(&place), first);
    cr_assert_eq(place.publisher.file_rev, 2);
    cr_assert_eq(take(&place, "{\"$comment\": \"x\", \"flags\": {" FLAG("a", "5") "}}"), FLAGSHM_TAKEN_SAME);
    cr_assert_eq(place.publisher.file_rev, 2, "the same text again is no revision");
    tear_down(&place);
}

Test(publisher, an_unusable_text_changes_nothing)
{
    static const char *const texts[] = {
        "", "{", "[]", "{}", "{\"flags\": []}", "{\"fllags\": {}}", "{\"flags\": {}} x"};
    struct place place;
    uint64_t first;
    size_t i;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "5")));
    first = version(&place);
    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        cr_assert_eq(flagshm_publisher_take(&place.publisher, texts[i], strlen(texts[i]), false),
                     FLAGSHM_TAKEN_UNUSABLE);
        cr_assert_eq(place.publisher.file_state, i == 0 ? FLAGSHM_FILE_GOOD : FLAGSHM_FILE_BROKEN);
        cr_assert_eq(take(&place, texts[i]), FLAGSHM_TAKEN_UNUSABLE, "%s", texts[i]);
        cr_assert_eq(place.publisher.file_state, FLAGSHM_FILE_BROKEN);
        cr_assert_not_null(place.publisher.faults);
        cr_assert_eq(version(&place), first);
        cr_assert_eq(share(&place, "a"), 5.0);
    }
    cr_assert_eq(place.publisher.file_rev, 1);
    tear_down(&place);
}

Test(publisher, a_flag_with_a_fault_keeps_its_last_good_form_and_a_kill_in_the_file_never_waits)
{
    struct place place;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50") "," FLAG("b", "50")));
    cr_assert_eq(take(&place, FILE_OF("\"a\": {\"control\": \"c\", \"varient\": \"v\", \"rollout_pct\": 60},"
                                      "\"b\": {\"control\": \"c\", \"varient\": \"v\", \"enabled\": false}")),
                 FLAGSHM_TAKEN_PUBLISHED);
    cr_assert_eq(share(&place, "a"), 50.0);
    cr_assert_eq(share(&place, "b"), 0.0);
    cr_assert_eq(reason(&place, "b"), FLAGSHM_DISABLED);
    cr_assert_eq(place.publisher.file_state, FLAGSHM_FILE_BROKEN);
    cr_assert_eq(place.publisher.kept, 2);
    tear_down(&place);
}

Test(publisher, a_mass_deletion_is_held_until_it_is_accepted_over_a_restart_too)
{
    struct place place;

    set_up(&place);
    take(&place,
         FILE_OF(FLAG("a", "1") "," FLAG("b", "2") "," FLAG("c", "3") "," FLAG("d", "4") "," FLAG("e", "5")));
    take(&place, FILE_OF(FLAG("a", "10")));
    cr_assert_eq(share(&place, "a"), 10.0, "all else applies");
    cr_assert_eq(share(&place, "e"), 5.0);
    cr_assert_eq(place.publisher.deletions_held, 4);
    restart(&place);
    take(&place, FILE_OF(FLAG("a", "10")));
    cr_assert_eq(share(&place, "e"), 5.0);
    cr_assert_eq(flagshm_publisher_accept(&place.publisher, "root"), 0);
    cr_assert_eq(share(&place, "e"), -1.0);
    cr_assert_eq(share(&place, "a"), 10.0);
    cr_assert_eq(flagshm_publisher_accept(&place.publisher, "root"), -EALREADY);
    tear_down(&place);
}

Test(publisher, versions_go_on_over_restarts_whatever_was_lost)
{
    struct place place;
    uint64_t last;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "5")));
    last = version(&place);
    restart(&place);
    take(&place, FILE_OF(FLAG("a", "5")));
    cr_assert_eq(version(&place), last + 1, "adopted");
    cr_assert_eq(place.publisher.file_rev, 1, "the same text is the same revision after a restart");
    stop(&place);
    lose_table(&place);
    start(&place);
    take(&place, FILE_OF(FLAG("a", "6")));
    cr_assert_eq(version(&place), last + 2, "from the journal");
    cr_assert_eq(place.publisher.file_rev, 2);
    stop(&place);
    lose_state(&place);
    start(&place);
    take(&place, FILE_OF(FLAG("a", "7")));
    cr_assert_eq(version(&place), last + 3, "from the table");
    stop(&place);
    lose_state(&place);
    lose_table(&place);
    start(&place);
    take(&place, FILE_OF(FLAG("a", "8")));
    cr_assert_geq(version(&place), last, "from the clock");
    tear_down(&place);
}

Test(publisher, after_a_reboot_the_last_good_set_is_served_even_where_the_file_is_broken)
{
    struct place place;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "5")));
    stop(&place);
    lose_table(&place);
    start(&place);
    cr_assert(place.publisher.has_good);
    cr_assert_eq(take(&place, "{ broken"), FLAGSHM_TAKEN_UNUSABLE);
    cr_assert_eq(flagshm_publisher_publish(&place.publisher), 0);
    cr_assert_eq(share(&place, "a"), 5.0);
    tear_down(&place);
}

Test(publisher, with_nothing_ever_good_an_empty_table_stands)
{
    struct place place;

    set_up(&place);
    cr_assert_eq(flagshm_publisher_publish(&place.publisher), 0);
    cr_assert_eq(share(&place, "a"), -1.0);
    cr_assert_eq(reason(&place, "a"), FLAGSHM_FLAG_NOT_FOUND);
    tear_down(&place);
}

/* ---- kills ---- */

static void wait_for_disk(struct place *place)
{
    struct flagshm_disk_job job;

    while (!flagshm_disk_is_idle(place->publisher.disk))
        while (flagshm_disk_take(place->publisher.disk, &job))
            cr_assert_eq(job.result, 0, "%s", job.error.text);
}

static void write_down(struct place *place, const char *flag)
{
    struct flagshm_error error = {{0}};

    cr_assert_eq(flagshm_kills_write(place->state, flag, "test", &error), 0, "%s", error.text);
}

Test(publisher, a_kill_is_never_undone_by_the_next_edit_restart_or_reboot)
{
    struct place place;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50") "," FLAG("b", "50")));
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "a", "root", "why"), 0);
    write_down(&place, "a");
    cr_assert_eq(reason(&place, "a"), FLAGSHM_DISABLED);
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "a", "root", NULL), -EALREADY);
    take(&place, FILE_OF(FLAG("a", "60") "," FLAG("b", "60")));
    cr_assert_eq(share(&place, "a"), 0.0);
    cr_assert_eq(share(&place, "b"), 60.0);
    restart(&place);
    take(&place, FILE_OF(FLAG("a", "70") "," FLAG("b", "70")));
    cr_assert_eq(share(&place, "a"), 0.0);
    stop(&place);
    lose_table(&place);
    start(&place);
    take(&place, FILE_OF(FLAG("a", "80") "," FLAG("b", "80")));
    cr_assert_eq(share(&place, "a"), 0.0);
    cr_assert_eq(share(&place, "b"), 80.0);
    tear_down(&place);
}

Test(publisher, a_kill_in_the_adopted_table_holds_though_its_file_never_reached_the_disk)
{
    struct place place;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "a", "root", NULL), 0);
    restart(&place);
    cr_assert(flagshm_publisher_is_killed(&place.publisher, "a"));
    wait_for_disk(&place);
    take(&place, FILE_OF(FLAG("a", "60")));
    cr_assert_eq(share(&place, "a"), 0.0);
    stop(&place);
    lose_table(&place);
    start(&place);
    cr_assert(flagshm_publisher_is_killed(&place.publisher, "a"), "it was written down when it was adopted");
    tear_down(&place);
}

Test(publisher, a_kill_of_everything_holds_over_edits_new_segments_and_reboots)
{
    struct place place;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, NULL, "root", NULL), 0);
    write_down(&place, NULL);
    cr_assert_eq(reason(&place, "a"), FLAGSHM_DISABLED);
    take(&place, FILE_OF(FLAG("a", "60")));
    cr_assert_eq(reason(&place, "a"), FLAGSHM_DISABLED);
    flagshm_segment_forget(&place.publisher.segment);
    cr_assert_eq(flagshm_publisher_publish(&place.publisher), 0);
    cr_assert_eq(reason(&place, "a"), FLAGSHM_DISABLED);
    stop(&place);
    lose_table(&place);
    start(&place);
    take(&place, FILE_OF(FLAG("a", "60")));
    cr_assert_eq(reason(&place, "a"), FLAGSHM_DISABLED);
    cr_assert_eq(flagshm_publisher_unkill(&place.publisher, NULL, "root", NULL), 0);
    cr_assert_eq(share(&place, "a"), 60.0);
    tear_down(&place);
}

Test(publisher, a_kill_is_lifted_to_the_share_that_the_file_says_now)
{
    struct place place;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    flagshm_publisher_kill(&place.publisher, "a", "root", NULL);
    take(&place, FILE_OF(FLAG("a", "20")));
    cr_assert_eq(flagshm_publisher_unkill(&place.publisher, "a", "root", NULL), 0);
    cr_assert_eq(share(&place, "a"), 20.0);
    cr_assert_eq(flagshm_publisher_unkill(&place.publisher, "a", "root", NULL), -EALREADY);
    cr_assert_eq(flagshm_publisher_unkill(&place.publisher, "nobody", "root", NULL), -ENOENT);
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "nobody", "root", NULL), -ENOENT);
    tear_down(&place);
}

Test(publisher, kills_written_beside_a_mute_server_are_taken_up_and_a_lost_file_lifts_none)
{
    struct place place;
    struct flagshm_error error = {{0}};

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50") "," FLAG("b", "50")));
    write_down(&place, "a");
    beat(&place);
    cr_assert_eq(share(&place, "a"), 0.0);
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "b", "root", NULL), 0);
    cr_assert_eq(flagshm_kills_erase(place.state, "a", &error), 0, "%s", error.text);
    beat(&place);
    cr_assert_eq(share(&place, "a"), 0.0);
    cr_assert_eq(share(&place, "b"), 0.0);
    tear_down(&place);
}

static void expect_last_word(struct place *place, const char *flag, const char *kind, const char *user,
                             const char *detail)
{
    cJSON *events = flagshm_journal_history(place->publisher.journal, flag, 1), *event;

    cr_assert_not_null(events);
    event = cJSON_GetArrayItem(events, 0);
    cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(event, "kind")), kind);
    if (user != NULL)
        cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(event, "user")), user);
    cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(event, "detail")), detail);
    cJSON_Delete(events);
}

static size_t count_history(struct place *place, const char *flag)
{
    cJSON *events = flagshm_journal_history(place->publisher.journal, flag, 100);
    size_t count = (size_t)cJSON_GetArraySize(events);

    cJSON_Delete(events);
    return count;
}

Test(publisher, kills_said_while_no_server_ran_are_in_the_history_once_with_their_author)
{
    static const char line[] =
        "killed by ann with flagctl, no server answered, at 2026-11-25T01:00:00Z: it hurts";
    struct place place;
    struct flagshm_error error = {{0}};
    int i;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    stop(&place);
    cr_assert_eq(flagshm_kills_write(place.state, "a", line, &error), 0, "%s", error.text);
    for (i = 0; i < 3; i++) {
        start(&place);
        expect_last_word(&place, "a", "kill", "ann",
                         "it hurts (with flagctl, no server answered, at 2026-11-25T01:00:00Z)");
        cr_assert_eq(count_history(&place, "a"), 1, "each start told it again");
        stop(&place);
    }
    cr_assert_eq(flagshm_kills_erase(place.state, "a", &error), 0, "%s", error.text);
    for (i = 0; i < 2; i++) {
        start(&place);
        expect_last_word(&place, "a", "unkill", NULL, "taken back while no server ran");
        cr_assert_eq(count_history(&place, "a"), 2);
        stop(&place);
    }
    start(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    cr_assert_eq(flagshm_kills_write(place.state, "a", "killed by bob: too slow", &error), 0);
    beat(&place);
    expect_last_word(&place, "a", "kill", "bob", "too slow");
    tear_down(&place);
}

Test(publisher, a_kill_that_the_disk_refused_is_written_down_when_it_can)
{
    struct place place;
    struct flagshm_kills now;
    struct flagshm_error error = {{0}};
    int i;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50") "," FLAG("b", "50")));
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "a", "root", NULL), 0);
    cr_assert_eq(flagshm_publisher_kill(&place.publisher, "b", "root", NULL), 0);
    flagshm_publisher_unwritten(&place.publisher, "a");
    flagshm_publisher_unwritten(&place.publisher, "b");
    cr_assert_eq(flagshm_publisher_unkill(&place.publisher, "b", "root", NULL), 0);
    for (i = 0; i < 10; i++) {
        beat(&place);
        wait_for_disk(&place);
    }
    cr_assert_eq(flagshm_kills_load(&now, place.state, &error), 0, "%s", error.text);
    cr_assert(flagshm_kills_has(&now, "a"));
    cr_assert_not(flagshm_kills_has(&now, "b"), "what was taken back came again");
    flagshm_kills_free(&now);
    tear_down(&place);
}

Test(publisher, all_control_switched_beside_the_server_is_taken_for_a_kill_of_everything)
{
    struct place place;
    struct flagshm_error error = {{0}};

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    cr_assert_eq(flagshm_segment_force_all_control(place.dir, place.instance, &error), 0, "%s", error.text);
    beat(&place);
    cr_assert(flagshm_publisher_is_killed(&place.publisher, NULL));
    wait_for_disk(&place);
    stop(&place);
    lose_table(&place);
    start(&place);
    cr_assert(flagshm_publisher_is_killed(&place.publisher, NULL));
    tear_down(&place);
}

Test(publisher, a_lock_removed_by_hand_is_made_anew_within_a_beat)
{
    struct place place, second;
    struct flagshm_publisher_options options;
    struct flagshm_error error = {{0}};

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    options = options_of(&place);
    cr_assert_eq(unlink(place.publisher.segment.lock_path), 0);
    beat(&place);
    cr_assert_eq(flagshm_publisher_open(&second.publisher, &options, &error), -EBUSY,
                 "a second server came in");
    tear_down(&place);
}

Test(publisher, a_server_whose_instance_was_taken_over_writes_nothing_more_and_ends)
{
    struct place place;
    struct flagshm_publisher successor;
    struct flagshm_publisher_options options;
    struct flagshm_error error = {{0}};
    uint64_t before;
    int i, result = 0;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    options = options_of(&place);
    cr_assert_eq(unlink(place.publisher.segment.lock_path), 0);
    cr_assert_eq(flagshm_publisher_open(&successor, &options, &error), 0, "%s", error.text);
    lose_table(&place);
    cr_assert_eq(flagshm_publisher_publish(&successor), 0);
    before = version(&place);
    for (i = 0; i < 10 && result == 0; i++)
        result = flagshm_publisher_beat(&place.publisher, &error);
    cr_assert_eq(result, -EBUSY);
    cr_assert_not_null(strstr(error.text, "another writer holds the lock"), "%s", error.text);
    cr_assert_eq(version(&place), before, "the table of the successor was replaced");
    flagshm_publisher_close(&successor);
    tear_down(&place);
}

Test(publisher, a_table_removed_by_hand_is_made_anew_within_a_beat)
{
    struct place place;
    struct flagshm attached;
    uint64_t first;

    set_up(&place);
    take(&place, FILE_OF(FLAG("a", "50")));
    first = version(&place);
    cr_assert_eq(flagshm_open(&attached, place.instance), 0);
    lose_table(&place);
    beat(&place);
    cr_assert_eq(share(&place, "a"), 50.0);
    cr_assert_eq(version(&place), first + 1);
    take(&place, FILE_OF(FLAG("a", "51")));
    cr_assert_eq(flagshm_rollout_pct(&attached, "a"), 51.0, "who was attached follows");
    flagshm_close(&attached);
    tear_down(&place);
}
