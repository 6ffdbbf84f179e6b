/* schema: a value that fits a JSON schema, for structured answers and tool calls. Knows what such schemas use: type, properties,
 * items, enum, const, anyOf, oneOf, allOf's first, local $ref, minimum, minItems. */
#ifndef FLAGSHM_GATEWAY_SCHEMA_H
#define FLAGSHM_GATEWAY_SCHEMA_H

#include "tests/gateway/text.h"

#include <cjson/cJSON.h>

void gateway_schema_value(struct gateway_text *text, const cJSON *schema);

#endif
