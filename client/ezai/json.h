/* ezai: texts that grow, and JSON by its letters, so that what an arm says is sent as it is spelt. Pure. A
 * room of ezai.h, which includes it. */
#ifndef FLAGSHM_EZAI_JSON_H
#define FLAGSHM_EZAI_JSON_H
#ifndef FLAGSHM_EZAI_H
#error "include ezai.h"
#endif

/* ---- Texts and JSON ---- */

/* Bytes that grow up to `most`, closed by a NUL; once something did not fit, has_failed stays. */
struct ezai_text_ {
    char *bytes;
    size_t length, room, most;
    bool has_failed;
};

FLAGSHM_COLD_ bool ezai_add_(struct ezai_text_ *t, const char *bytes, size_t count)
{
    size_t most = t->most != 0 ? t->most : SIZE_MAX / 4;
    if (t->has_failed || count > most - t->length) {
        t->has_failed = true;
        return false;
    }
    if (t->length + count >= t->room) {
        size_t room = (t->length + count + 1) * 2 + 64;
        char *grown = (char *)realloc(t->bytes, room);
        if (grown == NULL) {
            t->has_failed = true;
            return false;
        }
        t->bytes = grown;
        t->room = room;
    }
    if (count != 0)
        memcpy(t->bytes + t->length, bytes, count);
    t->length += count;
    t->bytes[t->length] = '\0';
    return true;
}
FLAGSHM_COLD_ bool ezai_put_(struct ezai_text_ *t, const char *text)
{
    return ezai_add_(t, text, strlen(text));
}
FLAGSHM_COLD_ void ezai_text_free_(struct ezai_text_ *t)
{
    free(t->bytes);
    t->bytes = NULL;
    t->length = t->room = 0;
    t->has_failed = false;
}
/* As a JSON string, quotes included. */
FLAGSHM_COLD_ void ezai_put_string_(struct ezai_text_ *t, const char *text, size_t bytes)
{
    size_t i, done = 0;
    char escape[8];
    ezai_put_(t, "\"");
    for (i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        ezai_add_(t, text + done, i - done);
        done = i + 1;
        if (c == '\n')
            ezai_put_(t, "\\n");
        else if (c < 0x20)
            ezai_add_(t, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        else
            ezai_put_(t, c == '"' ? "\\\"" : "\\\\");
    }
    ezai_add_(t, text + done, bytes - done);
    ezai_put_(t, "\"");
}
FLAGSHM_COLD_ void ezai_put_member_(struct ezai_text_ *t, const char *key, const char *value)
{
    ezai_put_(t, "\"");
    ezai_put_(t, key);
    ezai_put_(t, "\":");
    ezai_put_string_(t, value, strlen(value));
}
FLAGSHM_COLD_ void ezai_put_number_(struct ezai_text_ *t, const char *key, uint64_t number)
{
    char text[96];
    ezai_add_(t, text,
              (size_t)snprintf(text, sizeof text, ",\"%.60s\":%llu", key, (unsigned long long)number));
}

/* Copies a text that came from outside into a fixed place: control characters become '?', what is too long
 * is cut. */
FLAGSHM_COLD_ void ezai_copy_(char *out, size_t room, const char *text)
{
    size_t i;
    for (i = 0; text != NULL && text[i] != '\0' && i + 1 < room; i++)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    while (i > 0 && text[i] != '\0' && ((unsigned char)text[i] & 0xc0) == 0x80)
        i--; /* between characters of UTF-8 */
    out[i] = '\0';
}

#define EZAI_DEPTH_MAX_ 128 /* nesting of JSON: one small stack frame each */

FLAGSHM_COLD_ const char *ezai_json_space_(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}
FLAGSHM_COLD_ const char *ezai_json_digits_(const char *p, const char *end)
{
    const char *begin = p;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p == begin ? NULL : p;
}
FLAGSHM_COLD_ const char *ezai_json_number_(const char *p, const char *end)
{
    if (p < end && *p == '-')
        p++;
    if (p < end && *p == '0')
        p++;
    else if ((p = ezai_json_digits_(p, end)) == NULL)
        return NULL;
    if (p < end && *p == '.' && (p = ezai_json_digits_(p + 1, end)) == NULL)
        return NULL;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = ezai_json_digits_(p, end);
    }
    return p;
}
FLAGSHM_COLD_ const char *ezai_json_string_(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        int i;
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p != '\\')
            continue;
        if (++p >= end || strchr("\"\\/bfnrtu", *p) == NULL || *p == '\0')
            return NULL;
        for (i = 0; *p == 'u' && i < 4; i++)
            if (p + 1 + i >= end || strchr("0123456789abcdefABCDEF", p[1 + i]) == NULL || p[1 + i] == '\0')
                return NULL;
    }
    return p < end ? p + 1 : NULL;
}
/* Behind the value that begins at p, by the letter of RFC 8259; NULL where there is none. */
FLAGSHM_COLD_ const char *ezai_json_value_(const char *p, const char *end, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    char close;
    size_t i;

    if (p >= end || depth > EZAI_DEPTH_MAX_)
        return NULL;
    if (*p == '"')
        return ezai_json_string_(p, end);
    for (i = 0; i < 3; i++)
        if ((size_t)(end - p) >= strlen(words[i]) && memcmp(p, words[i], strlen(words[i])) == 0)
            return p + strlen(words[i]);
    if (*p != '{' && *p != '[')
        return ezai_json_number_(p, end);
    close = *p == '{' ? '}' : ']';
    p = ezai_json_space_(p + 1, end);
    if (p < end && *p == close)
        return p + 1;
    for (;;) {
        if (close == '}') {
            if (p >= end || *p != '"' || (p = ezai_json_string_(p, end)) == NULL)
                return NULL;
            p = ezai_json_space_(p, end);
            if (p >= end || *p != ':')
                return NULL;
            p = ezai_json_space_(p + 1, end);
        }
        if ((p = ezai_json_value_(p, end, depth + 1)) == NULL)
            return NULL;
        p = ezai_json_space_(p, end);
        if (p >= end || (*p != ',' && *p != close))
            return NULL;
        if (*p++ == close)
            return p;
        p = ezai_json_space_(p, end);
    }
}
/* Is this text one JSON value that begins with `first` (0: any), and nothing else? */
FLAGSHM_COLD_ bool ezai_is_json_(const char *text, size_t bytes, char first)
{
    const char *end = text + bytes, *p = ezai_json_space_(text, end);
    if (p >= end || (first != 0 && *p != first) || (p = ezai_json_value_(p, end, 0)) == NULL)
        return false;
    return ezai_json_space_(p, end) == end;
}

/* The members of an object that ezai_is_json_ has seen, one after the other; begin with *at on the object's
 * text. Keys are compared as they are spelt. */
struct ezai_member_ {
    const char *key, *value;
    size_t key_bytes, value_bytes;
};
FLAGSHM_COLD_ bool ezai_next_(const char **at, struct ezai_member_ *m)
{
    const char *p = *at, *end = p + strlen(p), *q;
    p = ezai_json_space_(p, end);
    if (p >= end || (*p != '{' && *p != ','))
        return false;
    p = ezai_json_space_(p + 1, end);
    if (p >= end || *p != '"' || (q = ezai_json_string_(p, end)) == NULL)
        return false;
    m->key = p + 1;
    m->key_bytes = (size_t)(q - p) - 2;
    p = ezai_json_space_(q, end);
    p = ezai_json_space_(p + 1, end); /* ':' */
    if ((q = ezai_json_value_(p, end, 0)) == NULL)
        return false;
    m->value = p;
    m->value_bytes = (size_t)(q - p);
    *at = q;
    return true;
}
FLAGSHM_COLD_ bool ezai_is_key_(const struct ezai_member_ *m, const char *key)
{
    return strlen(key) == m->key_bytes && memcmp(m->key, key, m->key_bytes) == 0;
}
/* The member of that name; false: there is none (or no object). */
FLAGSHM_COLD_ bool ezai_find_(const char *object, const char *key, struct ezai_member_ *m)
{
    while (object != NULL && ezai_next_(&object, m))
        if (ezai_is_key_(m, key))
            return true;
    return false;
}

/* Has the object a member of the same name as that one? */
FLAGSHM_COLD_ bool ezai_has_(const char *object, const struct ezai_member_ *as)
{
    struct ezai_member_ m;
    while (object != NULL && ezai_next_(&object, &m))
        if (m.key_bytes == as->key_bytes && memcmp(m.key, as->key, m.key_bytes) == 0)
            return true;
    return false;
}

FLAGSHM_COLD_ void ezai_wipe_(char *secret)
{
    volatile char *p = secret;
    while (p != NULL && *p != '\0')
        *p++ = '\0';
}
/* Overwrites the key wherever it stands: the other side may have sent it back in an error message. */
FLAGSHM_COLD_ void ezai_redact_(char *text, const char *key)
{
    size_t bytes = key != NULL ? strlen(key) : 0;
    if (bytes >= 4 && text != NULL)
        while ((text = strstr(text, key)) != NULL)
            memset(text, '*', bytes);
}

#endif
