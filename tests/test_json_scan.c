#include "server/json_scan.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct scanned {
    struct flagshm_arena arena;
    struct flagshm_json_places places;
    struct flagshm_diags diags;
    bool is_sound;
};

/* From a copy of exactly that size: reading beyond it is seen by the address sanitizer. */
static struct scanned scan_bytes(const char *text, size_t length)
{
    struct scanned s = {.is_sound = false};
    char *exact = malloc(length ? length : 1);

    memcpy(exact, text, length);
    s.is_sound = flagshm_json_scan(exact, length, &s.arena, &s.places, &s.diags);
    cr_assert_eq(s.is_sound, s.diags.errors == 0);
    free(exact);
    return s;
}

static struct scanned scan(const char *text)
{
    return scan_bytes(text, strlen(text));
}

static void forget(struct scanned *s)
{
    flagshm_arena_free(&s->arena);
    flagshm_diags_free(&s->diags);
}

static bool is_sound_bytes(const char *text, size_t length)
{
    struct scanned s = scan_bytes(text, length);
    bool is_sound = s.is_sound;

    forget(&s);
    return is_sound;
}

Test(json_scan, sound_texts_pass)
{
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "10",
        "-1.5",
        "0.0",
        "1e5",
        "1E+5",
        "1e-05",
        "123456789012345678901234567890",
        "1e999",
        "\"\"",
        "\"a\"",
        "[]",
        "{}",
        " \t\r\n[ ] ",
        "[1,2,[3]]",
        "{\"\":{}}",
        "{\"a\":1,\"A\":2,\"b\":[null]}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0001\\uffff\\uD834\\uDD1E\"",
        "\"\x7f\"",
        "\"\xc2\x80\xdf\xbf\"",
        "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"",
        "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
        "\"123456\xc3\xa4_234567\xe2\x82\xac\"",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        "{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}",
        "[{\"a\":1},{\"a\":1}]",
    };
    size_t i;

    for (i = 0; i < sizeof texts / sizeof texts[0]; i++)
        cr_assert(is_sound_bytes(texts[i], strlen(texts[i])), "%s", texts[i]);
}

/* Each with the place and the first words of its one fault. */
Test(json_scan, unsound_texts_are_refused_where_they_go_wrong)
{
    static const struct {
        const char *text;
        size_t offset;
        const char *message;
    } cases[] = {
        {"", 0, "the text is empty"},
        {" \n", 0, "the text is empty"},
        {"\xef\xbb\xbf{}", 0, "the file begins with a byte order mark"},
        {"\xff\xfe{", 0, "the file looks like UTF-16"},
        {"{", 1, "the text ends, but \"{\" of line 1, column 1"},
        {"[1,\n[2", 6, "the text ends, but \"[\" of line 2, column 1"},
        {"[1,]", 2, "a \",\" with no value"},
        {"[,1]", 1, "expected a value, got \",\""},
        {"[1,,2]", 2, "a \",\" with no value"},
        {"{\"a\":1,}", 6, "a \",\" with no key"},
        {"{,}", 1, "expected a key"},
        {"{\"a\"}", 4, "expected \":\""},
        {"{\"a\" 1}", 5, "expected \":\""},
        {"{\"a\":}", 5, "expected a value"},
        {"{\"a\":1 \"b\":2}", 6, "missing \",\""},
        {"[1 2]", 2, "missing \",\""},
        {"[1;2]", 2, "expected \",\" or \"]\""},
        {"[1}", 2, "expected \",\" or \"]\""},
        {"{a:1}", 1, "expected a key in double quotes, got \"a\""},
        {"{1:1}", 1, "expected a key"},
        {"{'a':1}", 1, "JSON strings stand in double quotes"},
        {"// x\n{}", 0, "JSON has no comments"},
        {"{} # x", 3, "JSON has no comments"},
        {"[1 /*x*/]", 3, "JSON has no comments"},
        {"True", 0, "unknown word \"True\" (did you mean \"true\"?)"},
        {"nil", 0, "unknown word \"nil\""},
        {"truefalse", 0, "unknown word \"truefalse\""},
        {"[NaN]", 1, "unknown word"},
        {"[Infinity]", 1, "unknown word"},
        {"[-Infinity]", 1, "\"-Infinity\" is no JSON number: a \"-\" needs a digit"},
        {"[01]", 1, "\"01\" is no JSON number: a number may not begin with a needless 0"},
        {"[-]", 1, "\"-\" is no JSON number"},
        {"[+1]", 1, "a number may not begin with \"+\""},
        {"[.5]", 1, "a number needs a digit before its point"},
        {"[5.]", 1, "\"5.\" is no JSON number: a point needs a digit"},
        {"[1e]", 1, "\"1e\" is no JSON number: an exponent"},
        {"[1e+]", 1, "\"1e+\" is no JSON number: an exponent"},
        {"[0x10]", 1, "\"0x10\" is no JSON number"},
        {"[1.2.3]", 1, "\"1.2.3\" is no JSON number"},
        {"[1\f]", 2, "expected \",\" or \"]\" behind the value, got byte 0x0c"},
        {"[\"a", 1, "this string is not closed"},
        {"[\"a\n\"]", 1, "this string is not closed on its line"},
        {"[\"a\tb\"]", 3, "control character in a string: write \\t"},
        {"[\"a\x1f\"]", 3, "control character"},
        {"[\"\\x\"]", 2, "unknown escape \"\\x\""},
        {"[\"\\", 2, "the text ends in a string"},
        {"[\"\\u12\"]", 2, "\\u needs four hexadecimal digits"},
        {"[\"\\u12g4\"]", 2, "\\u needs four hexadecimal digits"},
        {"[\"\\u0000\"]", 2, "\\u0000 is refused"},
        {"[\"\\ud800\"]", 2, "\"\\ud800\" is half of a surrogate pair"},
        {"[\"\\ud800\\n\"]", 2, "\"\\ud800\" is half of a surrogate pair"},
        {"[\"\\ud800\\ud800\"]", 2, "\"\\ud800\" is half of a surrogate pair"},
        {"[\"\\udc00\"]", 2, "\"\\udc00\" is half of a surrogate pair"},
        {"[\"\x80\"]", 2, "not UTF-8: byte 0x80"},
        {"[\"\xc0\xaf\"]", 2, "not UTF-8"},
        {"[\"\xc3\"]", 2, "not UTF-8"},
        {"[\"\xe0\x80\xaf\"]", 2, "not UTF-8"},
        {"[\"\xed\xa0\x80\"]", 2, "not UTF-8"},
        {"[\"\xf0\x8f\xbf\xbf\"]", 2, "not UTF-8"},
        {"[\"\xf4\x90\x80\x80\"]", 2, "not UTF-8"},
        {"[\"\xf8\x88\x80\x80\x80\"]", 2, "not UTF-8"},
        {"[\"\xe4\xbd", 2, "not UTF-8"},
        {"{} {}", 3, "text behind the end"},
        {"{}}", 2, "text behind the end"},
        {"{}\x01", 2, "text behind the end of the file's value: byte 0x01"},
        {"{\n<<<<<<< ours\n}", 2, "a merge conflict"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 32, "nested deeper than 32 levels"},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scanned s = scan(cases[i].text);

        cr_assert_not(s.is_sound, "%s", cases[i].text);
        cr_assert_not(s.places.is_whole, "%s", cases[i].text);
        cr_assert_eq(s.diags.count, 1, "%s: %zu faults", cases[i].text, s.diags.count);
        cr_assert_eq(s.diags.items[0].offset, cases[i].offset, "%s: at %zu", cases[i].text,
                     s.diags.items[0].offset);
        cr_assert_eq(strncmp(s.diags.items[0].message, cases[i].message, strlen(cases[i].message)), 0,
                     "%s: %s", cases[i].text, s.diags.items[0].message);
        forget(&s);
    }
}

Test(json_scan, nul_bytes_are_refused_everywhere)
{
    static const char sound[] = "{\"key\": [1.5e3, true, null, \"v\\n\"]}";
    char text[sizeof sound + 1];
    size_t at, length = sizeof sound - 1;

    for (at = 0; at <= length; at++) {
        memcpy(text, sound, at);
        text[at] = '\0';
        memcpy(text + at + 1, sound + at, length - at);
        cr_assert_not(is_sound_bytes(text, length + 1), "NUL at %zu", at);
    }
}

Test(json_scan, no_part_of_a_sound_text_is_sound)
{
    static const char sound[] =
        "{\"key\": [1.5, true, {\"a\": \"\xe4\xbd\xa0\\u00e4\\ud83d\\udc4b\"}], \"k2\": {}}";
    size_t length;

    cr_assert(is_sound_bytes(sound, sizeof sound - 1));
    for (length = 0; length < sizeof sound - 1; length++)
        cr_assert_not(is_sound_bytes(sound, length), "%zu bytes", length);
}

Test(json_scan, duplicate_keys_are_all_listed)
{
    struct scanned s =
        scan("{\"a\": 1,\n \"b\": {\"x\": 1, \"x\": 2},\n \"a\": 3, \"\\u0061\": {\"y\": 0, \"y\": 0}}");
    static const char *const messages[] = {
        "duplicate key \"x\" (first on line 2)", "duplicate key \"a\" (first on line 1)",
        "duplicate key \"\\u0061\" (first on line 1)", "duplicate key \"y\" (first on line 3)"};
    static const char *const pointers[] = {"/b/x", "/a", "/a", "/a/y"};
    size_t i;

    cr_assert_not(s.is_sound);
    cr_assert(s.places.is_whole, "the grammar is sound");
    cr_assert_eq(s.diags.count, 4);
    cr_assert_eq(s.places.duplicate_count, 4);
    for (i = 0; i < 4; i++) {
        cr_assert_str_eq(s.diags.items[i].message, messages[i]);
        cr_assert_str_eq(s.diags.items[i].pointer, pointers[i]);
        cr_assert_eq(s.diags.items[i].offset, s.places.items[s.places.duplicates[i].again].key_offset);
        cr_assert(i == 0 || s.places.duplicates[i].again > s.places.duplicates[i - 1].again);
    }
    forget(&s);
}

Test(json_scan, duplicate_keys_are_listed_beside_a_later_fault)
{
    struct scanned s = scan("{\"a\": {\"x\": 1, \"x\": 2}, \"b\" 1}");

    cr_assert_eq(s.diags.count, 2);
    cr_assert_not(s.places.is_whole);
    forget(&s);
}

/* Objects of every size around the switch from comparing all to hashing, with the equal pair at every
 * distance. */
Test(json_scan, duplicates_are_found_in_objects_of_any_size)
{
    char text[40 * 24], *end;
    int size, first, again, i;

    for (size = 2; size <= 40; size += size < 12 ? 1 : 14)
        for (first = 0; first < size; first++)
            for (again = first; again < size; again++) { /* first == again: none */
                struct scanned s;

                end = text + sprintf(text, "{");
                for (i = 0; i < size; i++)
                    end += sprintf(end, "%s\"key_%d\":%d", i ? "," : "", i == again ? first : i, i);
                sprintf(end, "}");
                s = scan(text);
                cr_assert_eq(s.is_sound, first == again, "%s", text);
                cr_assert_eq(s.places.duplicate_count, first != again);
                if (first != again) {
                    cr_assert_eq(s.places.duplicates[0].first, (uint32_t)first + 1);
                    cr_assert_eq(s.places.duplicates[0].again, (uint32_t)again + 1);
                }
                forget(&s);
            }
}

Test(json_scan, one_key_many_times_is_not_quadratic_and_all_are_counted)
{
    const size_t count = 200000;
    char *text = malloc(count * 6 + 3), *end = text;
    struct scanned s;
    size_t i;

    *end++ = '{';
    for (i = 0; i < count; i++)
        end += sprintf(end, "%s\"a\":1", i ? "," : "");
    *end++ = '}';
    s = scan_bytes(text, (size_t)(end - text));
    cr_assert_eq(s.diags.errors, count - 1);
    cr_assert_eq(s.diags.count, FLAGSHM_DIAG_MAX);
    forget(&s);
    free(text);
}

static size_t walk(const cJSON *node, const struct flagshm_json_places *places, const char *text, size_t at)
{
    const struct flagshm_json_place *place = &places->items[at];
    const cJSON *child;
    size_t next = at + 1;

    switch (text[place->offset]) {
    case '{':
        cr_assert(cJSON_IsObject(node));
        break;
    case '[':
        cr_assert(cJSON_IsArray(node));
        break;
    case '"':
        cr_assert(cJSON_IsString(node));
        break;
    default:
        cr_assert(cJSON_IsNumber(node) || cJSON_IsBool(node) || cJSON_IsNull(node));
    }
    if (node->string) {
        char *decoded = malloc(place->key_bytes);
        size_t bytes = flagshm_json_unescape(text + place->key_offset + 1, place->key_bytes - 2, decoded);

        cr_assert_eq(bytes, strlen(node->string));
        cr_assert_eq(memcmp(decoded, node->string, bytes), 0);
        free(decoded);
    } else {
        cr_assert_eq(place->key_bytes, 0);
    }
    if (cJSON_IsString(node)) {
        char *decoded = malloc(place->bytes);
        size_t bytes = flagshm_json_unescape(text + place->offset + 1, place->bytes - 2, decoded);

        cr_assert_eq(bytes, strlen(node->valuestring));
        cr_assert_eq(memcmp(decoded, node->valuestring, bytes), 0);
        free(decoded);
    }
    for (child = node->child; child; child = child->next)
        next = walk(child, places, text, next);
    cr_assert_eq(place->next, next);
    return next;
}

Test(json_scan, the_nth_place_is_the_nth_node_of_cjson)
{
    static const char text[] =
        " {\"flags\": {\"a\": {\"control\": \"x\\n\\u20ac\\ud83d\\udc4b\\/\\\"\", \"n\": -1.5e3}, "
        "\"\\u00e4\\t\": [true, false, null, [], {}, [[1]]]},\n\"version\" : 1 } ";
    struct scanned s = scan(text);
    cJSON *root = cJSON_Parse(text);

    cr_assert(s.is_sound);
    cr_assert_eq(walk(root, &s.places, text, 0), s.places.count);
    cr_assert_eq(s.places.items[0].offset, 1);
    cr_assert_eq(s.places.items[0].bytes, strlen(text) - 2);
    cJSON_Delete(root);
    forget(&s);
}

Test(json_scan, many_places_are_all_kept)
{
    const size_t count = 50000;
    char *text = malloc(2 * count + 2);
    struct scanned s;
    size_t i;

    text[0] = '[';
    for (i = 0; i < count; i++)
        memcpy(text + 1 + 2 * i, i + 1 < count ? "7," : "7]", 2);
    s = scan_bytes(text, 2 * count + 1);
    cr_assert(s.is_sound);
    cr_assert_eq(s.places.count, count + 1);
    for (i = 0; i < count; i++)
        cr_assert_eq(s.places.items[i + 1].offset, 1 + 2 * i);
    forget(&s);
    free(text);
}

Test(json_scan, pointers_are_those_of_rfc_6901)
{
    static const char text[] = "{\"a/b\": {\"m~n\": [1, {\"\": 2}]}, \"\\u00e4\": 3}";
    static const char *const pointers[] = {
        "", "/a~1b", "/a~1b/m~0n", "/a~1b/m~0n/0", "/a~1b/m~0n/1", "/a~1b/m~0n/1/", "/\xc3\xa4"};
    struct scanned s = scan(text);
    size_t i;

    cr_assert_eq(s.places.count, 7);
    for (i = 0; i < 7; i++)
        cr_assert_str_eq(flagshm_json_pointer(text, &s.places, i, &s.arena), pointers[i]);
    forget(&s);
}

Test(json_scan, compact_takes_out_white_space_and_nothing_else)
{
    static const struct {
        const char *text, *compact;
    } cases[] = {
        {" { \"a b\" :\t[ 1 , 2.50 ,\r\n-0E+1 ] } ", "{\"a b\":[1,2.50,-0E+1]}"},
        {"{\"n\": 9007199254740993, \"z\": 1, \"a\": 2}", "{\"n\":9007199254740993,\"z\":1,\"a\":2}"},
        {"\" \\\" \\\\ \"", "\" \\\" \\\\ \""},
        {"[ \"\\\\\" , \" \" ]", "[\"\\\\\",\" \"]"},
        {"[]", "[]"},
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[100];
        size_t bytes = flagshm_json_compact(cases[i].text, strlen(cases[i].text), out);

        out[bytes] = '\0';
        cr_assert_str_eq(out, cases[i].compact);
    }
}

static uint64_t fingerprint(const char *text)
{
    struct flagshm_arena scratch = {0};
    uint64_t hash = flagshm_json_fingerprint(text, strlen(text), &scratch);

    flagshm_arena_free(&scratch);
    cr_assert_neq(hash, 0);
    return hash;
}

Test(json_scan, the_fingerprint_does_not_see_layout_and_order_of_keys)
{
    static const char *const equal[][2] = {
        {"{\"a\":1,\"b\":{\"c\":[1,2],\"d\":\"x\"}}",
         " { \"b\" : {\"d\": \"x\", \"c\": [ 1, 2 ]},\n \"a\" : 1 } "},
        {"[{\"b\":1,\"a\":2},{}]", "[ {\"a\": 2, \"b\": 1}, { } ]"},
        {"{\"a\":{},\"ab\":[],\"\":\",:{}[]\"}", "{\"\":\",:{}[]\", \"ab\": [ ], \"a\": { }}"},
        {"{\"a\\\"\":1,\"a\":\"}\"}", "{\"a\":\"}\",\"a\\\"\":1}"},
        {"\"x\"", "\"x\""},
    };
    static const char *const unequal[][2] = {
        {"{\"a\":1,\"b\":2}", "{\"a\":2,\"b\":1}"},
        {"[1,2]", "[2,1]"},
        {"{\"a\":1}", "{\"a\":1.0}"},
        {"{\"a\":\"1\"}", "{\"a\":1}"},
        {"{\"a\":[]}", "{\"a\":{}}"},
        {"\"x\"", "\"x \""},
        {"{\"a\":{\"b\":1},\"c\":2}", "{\"a\":{\"b\":1,\"c\":2}}"},
    };
    size_t i;

    for (i = 0; i < sizeof equal / sizeof equal[0]; i++)
        cr_assert_eq(fingerprint(equal[i][0]), fingerprint(equal[i][1]), "%s %s", equal[i][0], equal[i][1]);
    for (i = 0; i < sizeof unequal / sizeof unequal[0]; i++)
        cr_assert_neq(fingerprint(unequal[i][0]), fingerprint(unequal[i][1]), "%s %s", unequal[i][0],
                      unequal[i][1]);
}
