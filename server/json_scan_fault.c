/* json_scan_fault: says what is wrong with a text, and where the grammar leaves no doubt about it, what to
 * do. Runs once a scan at most, so it may look around at leisure. */
#include "server/json_scan_internal.h"
#include "server/utf8.h"

#include <stdarg.h>
#include <string.h>

#define SHOWN_BYTES 64

bool flagshm_scan_fault(struct flagshm_scan *s, size_t offset, size_t length, const char *format, ...)
{
    char message[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    flagshm_diags_add(s->diags, FLAGSHM_DIAG_ERROR, offset, length, "", "%s", message);
    return false;
}

static size_t word_length(const struct flagshm_scan *s, size_t at)
{
    size_t end = at;

    while (end < s->length && flagshm_scan_is_word(s->text[end]))
        end++;
    return end - at;
}

/* What stands at s->at, for a person: a word, a character, a byte. Returns its length. */
static size_t show_token(const struct flagshm_scan *s, char shown[SHOWN_BYTES + 8])
{
    size_t n = word_length(s, s->at);
    uint32_t code;

    if (n == 0)
        n = flagshm_utf8_sequence(s->text + s->at, s->length - s->at, &code);
    if (n == 0 || (n == 1 && (unsigned char)s->text[s->at] < 0x20))
        snprintf(shown, SHOWN_BYTES, "byte 0x%02x", (unsigned char)s->text[s->at]);
    else if (s->text[s->at] == '"')
        snprintf(shown, SHOWN_BYTES, "a string");
    else
        snprintf(shown, SHOWN_BYTES, "\"%.*s\"", (int)(n < 40 ? n : 40), s->text + s->at);
    return n > 0 ? n : 1;
}

static bool fault_end(struct flagshm_scan *s)
{
    uint32_t open;
    size_t line, column;

    if (s->depth == 0)
        return flagshm_scan_fault(s, s->length, 1, "the text ends where a value was expected");
    open = s->open[s->depth - 1];
    flagshm_diag_place(s->text, s->length, open, &line, &column);
    return flagshm_scan_fault(s, s->length, 1,
                              "the text ends, but \"%c\" of line %zu, column %zu is not closed",
                              s->text[open], line, column);
}

/* What a version control system leaves behind where two edits met. */
static bool is_conflict_mark(const struct flagshm_scan *s)
{
    const char *at = s->text + s->at;

    return s->length - s->at >= 7 && (s->at == 0 || at[-1] == '\n') &&
           (memcmp(at, "<<<<<<<", 7) == 0 || memcmp(at, "=======", 7) == 0 || memcmp(at, ">>>>>>>", 7) == 0);
}

/* Faults that may stand anywhere between values. True where one was found (and added). */
static bool fault_anywhere(struct flagshm_scan *s)
{
    char c;

    if (s->at >= s->length)
        return !fault_end(s);
    c = s->text[s->at];
    if (c == '\0')
        return !flagshm_scan_fault(s, s->at, 1, "NUL byte");
    if (c == '/' || c == '#')
        return !flagshm_scan_fault(s, s->at, 1, "JSON has no comments: write them as \"$comment\": \"...\"");
    if (is_conflict_mark(s))
        return !flagshm_scan_fault(s, s->at, 7, "a merge conflict has been left here");
    if (c == '\'')
        return !flagshm_scan_fault(s, s->at, 1, "JSON strings stand in double quotes");
    return false;
}

/* The ',' before s->at, where nothing but white space stands between; s->length otherwise. */
static size_t comma_before(const struct flagshm_scan *s)
{
    size_t at = s->at;

    while (at > 0 && strchr(" \n\r\t", s->text[at - 1]) != NULL && s->text[at - 1] != '\0')
        at--;
    return at > 0 && s->text[at - 1] == ',' ? at - 1 : s->length;
}

bool flagshm_scan_fault_value(struct flagshm_scan *s)
{
    static const char *const words[] = {"true", "false", "null", NULL};
    char shown[SHOWN_BYTES + 8];
    const char *nearest;
    size_t n, comma;

    if (fault_anywhere(s))
        return false;
    comma = comma_before(s);
    if ((s->text[s->at] == ']' || s->text[s->at] == ',') && comma < s->length)
        return flagshm_scan_fault(s, comma, 1, "a \",\" with no value behind it");
    n = show_token(s, shown);
    if (s->text[s->at] == '+')
        return flagshm_scan_fault(s, s->at, n, "a number may not begin with \"+\"");
    if (s->text[s->at] == '.')
        return flagshm_scan_fault(s, s->at, n, "a number needs a digit before its point");
    nearest = flagshm_did_you_mean(s->text + s->at, n, words);
    if (nearest)
        return flagshm_scan_fault(s, s->at, n, "unknown word %s (did you mean \"%s\"?)", shown, nearest);
    if (flagshm_scan_is_word(s->text[s->at]))
        return flagshm_scan_fault(s, s->at, n, "unknown word %s: strings stand in double quotes", shown);
    return flagshm_scan_fault(s, s->at, n, "expected a value, got %s", shown);
}

bool flagshm_scan_fault_key(struct flagshm_scan *s)
{
    char shown[SHOWN_BYTES + 8];
    size_t n, comma;

    if (fault_anywhere(s))
        return false;
    comma = comma_before(s);
    if ((s->text[s->at] == '}' || s->text[s->at] == ',') && comma < s->length)
        return flagshm_scan_fault(s, comma, 1, "a \",\" with no key behind it");
    n = show_token(s, shown);
    return flagshm_scan_fault(s, s->at, n, "expected a key in double quotes, got %s", shown);
}

bool flagshm_scan_fault_colon(struct flagshm_scan *s)
{
    char shown[SHOWN_BYTES + 8];
    size_t n;

    if (fault_anywhere(s))
        return false;
    n = show_token(s, shown);
    return flagshm_scan_fault(s, s->at, n, "expected \":\" behind the key, got %s", shown);
}

bool flagshm_scan_fault_comma(struct flagshm_scan *s, char closer)
{
    char shown[SHOWN_BYTES + 8];
    size_t n, end = s->at;

    if (fault_anywhere(s))
        return false;
    /* Where a value or key follows, what is missing stands behind the last value, often a line above. */
    if (strchr("\"{[-", s->text[s->at]) != NULL || flagshm_scan_is_word(s->text[s->at])) {
        while (end > 0 && strchr(" \n\r\t", s->text[end - 1]) != NULL)
            end--;
        return flagshm_scan_fault(s, end, 1, "missing \",\" (or \"%c\") behind this value", closer);
    }
    n = show_token(s, shown);
    return flagshm_scan_fault(s, s->at, n, "expected \",\" or \"%c\" behind the value, got %s", closer,
                              shown);
}

bool flagshm_scan_fault_string(struct flagshm_scan *s, size_t begin)
{
    unsigned char c;

    if (s->at >= s->length)
        return flagshm_scan_fault(s, begin, 1, "this string is not closed");
    c = (unsigned char)s->text[s->at];
    if (c == '\0')
        return flagshm_scan_fault(s, s->at, 1, "NUL byte in a string");
    if (c == '\n' || c == '\r')
        return flagshm_scan_fault(s, begin, s->at - begin,
                                  "this string is not closed on its line (a line break in it is \\n)");
    if (c < 0x20)
        return flagshm_scan_fault(s, s->at, 1, "control character in a string: write %s",
                                  c == '\t' ? "\\t" : "it as \\u00 and two digits");
    return flagshm_scan_fault(s, s->at, 1, "not UTF-8: byte 0x%02x", c);
}

bool flagshm_scan_fault_escape(struct flagshm_scan *s)
{
    const char *at = s->text + s->at;
    size_t left = s->length - s->at, digits = 2;
    uint32_t code;
    size_t n;

    if (left < 2)
        return flagshm_scan_fault(s, s->at, 1, "the text ends in a string");
    if (at[1] != 'u') {
        n = flagshm_utf8_sequence(at + 1, left - 1, &code);
        if (n == 0 || code < 0x20)
            return flagshm_scan_fault(s, s->at, 1, "unknown escape: a backslash is written \\\\");
        return flagshm_scan_fault(s, s->at, 1 + n, "unknown escape \"\\%.*s\": a backslash is written \\\\",
                                  (int)n, at + 1);
    }
    while (digits < 6 && digits < left && at[digits] != '\0' &&
           strchr("0123456789abcdefABCDEF", at[digits]) != NULL)
        digits++;
    if (digits < 6)
        return flagshm_scan_fault(s, s->at, digits, "\\u needs four hexadecimal digits");
    if (memcmp(at + 2, "0000", 4) == 0)
        return flagshm_scan_fault(s, s->at, 6, "\\u0000 is refused: it would cut the text short");
    return flagshm_scan_fault(s, s->at, 6,
                              "\"%.6s\" is half of a surrogate pair: two \\u escapes belong together", at);
}

bool flagshm_scan_fault_number(struct flagshm_scan *s, size_t begin)
{
    size_t digit = begin + (s->text[begin] == '-'), n = word_length(s, begin);
    const char *why = "a number ends with a digit";
    char last = s->at > begin ? s->text[s->at - 1] : '\0';

    if (s->at < s->length && s->text[s->at] == '\0')
        return flagshm_scan_fault(s, s->at, 1, "NUL byte");
    if (s->at == digit)
        why = "a \"-\" needs a digit behind it";
    else if (last == '.')
        why = "a point needs a digit behind it";
    else if (last == 'e' || last == 'E' || last == '+' || last == '-')
        why = "an exponent needs a digit";
    else if (s->at == digit + 1 && s->text[digit] == '0' && s->at < s->length && s->text[s->at] >= '0' &&
             s->text[s->at] <= '9')
        why = "a number may not begin with a needless 0";
    return flagshm_scan_fault(s, begin, n, "\"%.*s\" is no JSON number: %s", (int)(n < 40 ? n : 40),
                              s->text + begin, why);
}

bool flagshm_scan_fault_after(struct flagshm_scan *s)
{
    char shown[SHOWN_BYTES + 8];
    size_t n;

    if (fault_anywhere(s))
        return false;
    n = show_token(s, shown);
    return flagshm_scan_fault(s, s->at, n, "text behind the end of the file's value: %s", shown);
}
