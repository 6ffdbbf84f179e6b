/* wards: the texts of states: what is written is read back, and what others wrote is none. */
#include "wards_fixture.h"

#include <math.h>

static struct wards_world w;

static void begin(const char *flags)
{
    world_begin(&w);
    world_take(&w, flags);
}

/* ---- texts ---- */

Test(wards_text, what_is_written_down_is_read_back)
{
    struct flagshm_ward other = {.flag = "f"}, *ward;
    char *text, *again;
    size_t i;

    begin(PLANNED("f"));
    world_advance(&w, "f", 5000);
    ward = ward_of(&w, "f");
    ward->arrived = 1u << FLAGSHM_GUARD_LOST | 1u << FLAGSHM_GUARD_RETRY;
    ward->post = calloc(1, sizeof *ward->post);
    ward->post->evidence.has_control_rates = true;
    for (i = 0; i < FLAGSHM_GUARD_KINDS + 8; i++)
        ward->post->evidence.control_rates[i] = i % 3 == 0 ? -1 : (double)i / 700;
    text = flagshm_ward_write(ward, &ward->state);
    cr_assert(flagshm_ward_read(&other, text), "%s", text);
    cr_assert_eq(other.kinds, ward->kinds);
    cr_assert_eq(other.arrived, ward->arrived);
    cr_assert_eq(other.kinds_attempt, 1);
    cr_assert_eq(other.kinds_evidence, ward->state.evidence);
    cr_assert(other.has_control_rates);
    for (i = 0; i < FLAGSHM_GUARD_KINDS + 8; i++)
        cr_assert_float_eq(other.control_rates[i], ward->post->evidence.control_rates[i], 1e-9);
    again = flagshm_ward_write(&other, &other.state);
    cr_assert_str_eq(again, text);
    free(text);
    free(again);
    world_end(&w);
}

Test(wards_text, rates_that_are_no_numbers_do_not_make_a_text_that_cannot_be_read)
{
    static const double rates[] = {NAN, INFINITY, -INFINITY, 1e300};
    struct flagshm_ward other = {.flag = "f"}, *ward;
    char *text;
    size_t i;

    begin(PLANNED("f"));
    ward = ward_of(&w, "f");
    ward->has_control_rates = true;
    memcpy(ward->control_rates, rates, sizeof rates);
    text = flagshm_ward_write(ward, &ward->state);
    cr_assert(flagshm_ward_read(&other, text), "%s", text);
    for (i = 0; i < 3; i++)
        cr_assert_eq(other.control_rates[i], -1, "not known");
    cr_assert_eq(other.control_rates[3], 1e300);
    free(text);
    world_end(&w);
}

/* The text of a sound ward with one piece in the place of another. */
static char *changed_text(const char *find, const char *with)
{
    struct flagshm_ward *ward = ward_of(&w, "f");
    char *text = flagshm_ward_write(ward, &ward->state), *out = NULL, *at = strstr(text, find);
    size_t bytes = 0;
    FILE *stream = open_memstream(&out, &bytes);

    cr_assert_not_null(at, "%s in %s", find, text);
    fprintf(stream, "%.*s%s%s", (int)(at - text), text, with, at + strlen(find));
    fclose(stream);
    free(text);
    return out;
}

Test(wards_text, a_text_that_nobody_wrote_is_no_state)
{
    static const struct {
        const char *find, *with;
    } cases[] = {
        {"\"rollout\": {", "\"rollout\": [{"},
        {"\"rollout\"", "\"roll\""},
        {"\"rollout\": {", "\"rollout\": 1, \"x\": {"},
        {"\"version\": 1", "\"version\": 2"},
        {"\"stage\": 0", "\"stage\": 99"},
        {"{", ""},
        {"}", ""},
        {"\"kinds\"", "\"kinds"},
    };
    static const char *const texts[] = {"", "null", "[]", "{}", "1", "{\"rollout\": null}", "\xff\xfe"};
    static const struct flagshm_rollout none;
    size_t i;

    begin(PLANNED("f"));
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_ward other = {.flag = "f"};
        char *text = changed_text(cases[i].find, cases[i].with);

        cr_assert_not(flagshm_ward_read(&other, text), "%s", text);
        cr_assert_eq(memcmp(&other.state, &none, sizeof none), 0, "%s", text);
        cr_assert_eq(other.kinds | other.arrived, 0);
        free(text);
    }
    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct flagshm_ward other = {.flag = "f"};

        cr_assert_not(flagshm_ward_read(&other, texts[i]), "%s", texts[i]);
        cr_assert_eq(memcmp(&other.state, &none, sizeof none), 0);
    }
    world_end(&w);
}

Test(wards_text, what_is_beside_a_sound_state_is_passed_over_where_it_makes_no_sense)
{
    static const struct {
        const char *find, *with;
    } cases[] = {
        {"\"kinds\": 0", "\"kinds\": 4294967296"},
        {"\"kinds\": 0", "\"kinds\": -1"},
        {"\"kinds\": 0", "\"kinds\": \"1\""},
        {"\"kinds\": 0", "\"kinds\": 1e300"},
        {"\"kinds\": 0", "\"kind\": 1"},
        {"\"control_rates\": []", "\"control_rates\": [1, 2]"},
        {"\"control_rates\": []", "\"control_rates\": {}"},
        {"\"control_rates\": []", "\"control_rates\": \"none\""},
        {"\"control_rates\": []",
         "\"control_rates\": [\"1\", 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"},
        {"\"control_rates\": []",
         "\"control_rates\": [1e999, 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"},
        {"\"rollout\": {", "\"of_a_newer_release\": {}, \"rollout\": {"},
    };
    size_t i;

    begin(PLANNED("f"));
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flagshm_ward other = {.flag = "f"};
        char *text = changed_text(cases[i].find, cases[i].with);

        cr_assert(flagshm_ward_read(&other, text), "%s", text);
        cr_assert_eq(other.kinds, 0, "%s", text);
        cr_assert_not(other.has_control_rates, "%s", text);
        free(text);
    }
    world_end(&w);
}
