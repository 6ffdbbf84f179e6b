/* schema: see the header. */
#include "tests/gateway/schema.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16 /* a schema may refer to itself */
#define ITEMS_MAX 64

static void value(struct gateway_text *text, const cJSON *root, const cJSON *schema, int depth);

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void verbatim(struct gateway_text *text, const cJSON *item)
{
    char *printed = cJSON_PrintUnformatted(item);

    gateway_text_put(text, printed != NULL ? printed : "null");
    free(printed);
}

/* "#/$defs/x" */
static const cJSON *refer(const cJSON *root, const char *reference)
{
    const cJSON *at = root;
    char *path, *part, *rest = NULL;

    if (strncmp(reference, "#/", 2) != 0)
        return NULL;
    path = gateway_copy(reference + 2, 4096);
    for (part = strtok_r(path, "/", &rest); part != NULL; part = strtok_r(NULL, "/", &rest))
        at = member(at, part);
    free(path);
    return at;
}

static void object(struct gateway_text *text, const cJSON *root, const cJSON *schema, int depth)
{
    const cJSON *property;
    const char *between = "";

    gateway_text_put(text, "{");
    cJSON_ArrayForEach(property, member(schema, "properties"))
    {
        gateway_text_put(text, between);
        gateway_text_json_string(text, property->string);
        gateway_text_put(text, ":");
        value(text, root, property, depth);
        between = ",";
    }
    gateway_text_put(text, "}");
}

static void array(struct gateway_text *text, const cJSON *root, const cJSON *schema, int depth)
{
    const cJSON *least = member(schema, "minItems");
    int count = cJSON_IsNumber(least) && least->valueint > 1 ? least->valueint : 1, i;

    gateway_text_put(text, "[");
    for (i = 0; i < count && i < ITEMS_MAX; i++) {
        gateway_text_put(text, i == 0 ? "" : ",");
        value(text, root, member(schema, "items"), depth);
    }
    gateway_text_put(text, "]");
}

static void typed(struct gateway_text *text, const cJSON *root, const cJSON *schema, int depth)
{
    const cJSON *types = member(schema, "type"), *minimum = member(schema, "minimum");
    const char *type = cJSON_GetStringValue(cJSON_IsArray(types) ? types->child : types);

    if (type == NULL)
        type = member(schema, "properties") != NULL ? "object" : "string";
    if (strcmp(type, "object") == 0)
        object(text, root, schema, depth);
    else if (strcmp(type, "array") == 0)
        array(text, root, schema, depth);
    else if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)
        gateway_text_format(text, "%.17g", cJSON_IsNumber(minimum) ? minimum->valuedouble : 1.0);
    else if (strcmp(type, "boolean") == 0)
        gateway_text_put(text, "true");
    else if (strcmp(type, "null") == 0)
        gateway_text_put(text, "null");
    else
        gateway_text_put(text, "\"na\xc3\xafve \xf0\x9f\x99\x82\"");
}

static void value(struct gateway_text *text, const cJSON *root, const cJSON *schema, int depth)
{
    static const char *const choices[] = {"anyOf", "oneOf", "allOf"};
    const char *reference = cJSON_GetStringValue(member(schema, "$ref"));
    size_t i;

    if (depth >= DEPTH_MAX || !cJSON_IsObject(schema)) {
        gateway_text_put(text, "null");
        return;
    }
    if (reference != NULL) {
        value(text, root, refer(root, reference), depth + 1);
        return;
    }
    if (member(schema, "const") != NULL) {
        verbatim(text, member(schema, "const"));
        return;
    }
    if (cJSON_IsArray(member(schema, "enum")) && member(schema, "enum")->child != NULL) {
        verbatim(text, member(schema, "enum")->child);
        return;
    }
    for (i = 0; i < 3; i++)
        if (member(schema, choices[i]) != NULL) {
            value(text, root, member(schema, choices[i])->child, depth + 1);
            return;
        }
    typed(text, root, schema, depth + 1);
}

void gateway_schema_value(struct gateway_text *text, const cJSON *schema)
{
    value(text, schema, schema, 0);
}
