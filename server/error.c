/* error: see error.h. */
#include "server/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int flagshm_error_set(struct flagshm_error *error, int code, const char *format, ...)
{
    va_list arguments;
    if (error == NULL)
        return code;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return code;
}

int flagshm_error_prefix(struct flagshm_error *error, int code, const char *format, ...)
{
    struct flagshm_error inner;
    va_list arguments;
    size_t used;
    if (error == NULL)
        return code;
    inner = *error;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    used = strlen(error->text);
    (void)snprintf(error->text + used, sizeof error->text - used, ": %s", inner.text);
    return code;
}
