/* json: prints a result for machines, and for people at a terminal.
 *
 * cJSON's text goes through one more pass: what could steer a terminal, and what is no UTF-8, is escaped (both
 * can only stand inside strings), and on a terminal it is laid out with two spaces a level, so that values
 * that were put in raw look like the rest.
 */
#include "server/flagfile.h"
#include "server/utf8.h"
#include "tools/flagctl.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct printer {
    FILE *out;
    bool is_laid_out;
    int depth;
};

static void line_begin(const struct printer *p)
{
    if (p->is_laid_out)
        (void)fprintf(p->out, "\n%*s", 2 * p->depth, "");
}

/* One character inside a string. Returns its bytes. */
static size_t string_part(const struct printer *p, const char *text, size_t left)
{
    uint32_t code = 0;
    size_t bytes;

    if (text[0] == '\\' && left > 1) {
        (void)fwrite(text, 1, 2, p->out);
        return 2;
    }
    bytes = flagshm_utf8_sequence(text, left, &code);
    if (bytes == 0) {
        (void)fputs("\\ufffd", p->out);
        return 1;
    }
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c || code == 0x200e || code == 0x200f ||
        (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff)
        (void)fprintf(p->out, "\\u%04x", (unsigned)code);
    else
        (void)fwrite(text, 1, bytes, p->out);
    return bytes;
}

static void punctuation_print(struct printer *p, const char *text, size_t left)
{
    char c = text[0];

    if (c == '{' || c == '[') {
        (void)fputc(c, p->out);
        p->depth++;
        if (left > 1 && text[1] != '}' && text[1] != ']')
            line_begin(p);
    } else if (c == '}' || c == ']') {
        p->depth--;
        if (text[-1] != '{' && text[-1] != '[')
            line_begin(p);
        (void)fputc(c, p->out);
    } else if (c == ',') {
        (void)fputc(c, p->out);
        line_begin(p);
    } else if (c == ':') {
        (void)fputs(p->is_laid_out ? ": " : ":", p->out);
    } else {
        (void)fputc(c, p->out);
    }
}

static void text_print(struct printer *p, const char *text, size_t length)
{
    bool is_string = false;
    size_t at = 0;

    while (at < length) {
        if (text[at] == '"') {
            is_string = !is_string;
            (void)fputc('"', p->out);
            at++;
        } else if (is_string) {
            at += string_part(p, text + at, length - at);
        } else {
            punctuation_print(p, text + at, length - at);
            at++;
        }
    }
    (void)fputc('\n', p->out);
}

int flagctl_json(struct flagctl *ctl, cJSON *json)
{
    struct printer p = {.out = ctl->out, .is_laid_out = ctl->is_terminal && !ctl->is_stream};
    char *text = json != NULL ? cJSON_PrintUnformatted(json) : NULL;

    cJSON_Delete(json);
    if (text == NULL)
        return flagctl_fail(ctl, FLAGCTL_FAILED, "out of memory");
    text_print(&p, text, strlen(text));
    free(text);
    if (ferror(ctl->out))
        return flagctl_fail(ctl, FLAGCTL_FAILED, "cannot write the output");
    return FLAGCTL_OK;
}

void flagctl_json_u64(cJSON *object, const char *key, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    (void)cJSON_AddRawToObject(object, key, text);
}

void flagctl_json_i64(cJSON *object, const char *key, int64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)number);
    (void)cJSON_AddRawToObject(object, key, text);
}

void flagctl_json_whole(cJSON *json)
{
    cJSON *item;
    char *text;

    for (item = json != NULL ? json->child : NULL; item != NULL; item = item->next)
        flagctl_json_whole(item);
    if (!cJSON_IsNumber(json) || fabs(json->valuedouble) < INT_MAX || fabs(json->valuedouble) >= 1e18 ||
        json->valuedouble != floor(json->valuedouble) || (text = cJSON_malloc(24)) == NULL)
        return;
    (void)snprintf(text, 24, "%.0f", json->valuedouble);
    json->type = (json->type & ~0xff) | cJSON_Raw;
    json->valuestring = text;
}

void flagctl_json_share(cJSON *object, const char *key, uint32_t mpct)
{
    char text[16];
    (void)cJSON_AddRawToObject(object, key, flagshm_mpct_to_text(mpct, text));
}
