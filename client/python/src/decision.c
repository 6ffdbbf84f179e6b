/* flagshm.Decision: struct flagshm_decision as an immutable Python object. One table of fields serves attributes, the
 * constructor, asdict() (and with it pickle) and comparison. */
#include "extension.h"

#include <stdio.h>

enum kind { WORD64, WORD32, TRUTH, REASON, TEXT, VALUE };

struct field {
    const char *name;
    enum kind kind;
    size_t offset, bytes;
};

#define FIELD(name, kind)                                                                                    \
    {                                                                                                        \
#name, kind, offsetof(struct flagshm_decision, name), sizeof(((struct flagshm_decision *)0)->name)   \
    }

static const struct field fields[] = {
    FIELD(version, WORD64),
    FIELD(segment_id, WORD64),
    FIELD(flag_hash, WORD64),
    FIELD(id_hash, WORD64),
    FIELD(value_hash, WORD64),
    FIELD(arm, WORD32),
    FIELD(bucket, WORD32),
    FIELD(rollout_mpct, WORD32),
    FIELD(reason, REASON),
    FIELD(slot, WORD32),
    FIELD(slot_generation, WORD32),
    FIELD(value_bytes, WORD32),
    FIELD(shadow, TRUTH),
    FIELD(arm_name, TEXT),
    FIELD(model, TEXT),
    FIELD(shadow_model, TEXT),
    FIELD(stage, TEXT),
    FIELD(value, VALUE),
};
#define FIELDS (sizeof fields / sizeof fields[0])

static const void *place(const struct flagshm_py_decision *self, const struct field *field)
{
    return (const char *)&self->d + field->offset;
}

static size_t text_bytes(const char *text, size_t room)
{
    const char *end = memchr(text, '\0', room);
    return end != NULL ? (size_t)(end - text) : room;
}

static uint64_t number(const struct flagshm_py_decision *self, const struct field *field)
{
    uint64_t wide = 0;
    uint32_t word = 0;
    bool truth = false;

    switch (field->kind) {
    case WORD64:
        memcpy(&wide, place(self, field), sizeof wide);
        return wide;
    case TRUTH:
        memcpy(&truth, place(self, field), sizeof truth);
        return truth;
    default: /* an enum has the size of an int */
        memcpy(&word, place(self, field), sizeof word);
        return word;
    }
}

/* As a plain value: the reason is a str. */
static PyObject *plain(const struct flagshm_py_decision *self, const struct field *field)
{
    const char *text = place(self, field);

    switch (field->kind) {
    case TRUTH:
        return PyBool_FromLong(number(self, field) != 0);
    case REASON:
        return PyUnicode_FromString(flagshm_reason_name(self->d.reason));
    case VALUE:
        if (self->value != NULL) {
            Py_INCREF(self->value);
            return self->value;
        }      /* fall through */
    case TEXT: /* from shared memory: perhaps no UTF-8 */
        return PyUnicode_DecodeUTF8(text, (Py_ssize_t)text_bytes(text, field->bytes), "replace");
    default:
        return PyLong_FromUnsignedLongLong(number(self, field));
    }
}

static PyObject *get_field(PyObject *object, void *closure)
{
    const struct flagshm_py_decision *self = (const struct flagshm_py_decision *)object;
    const struct field *field = closure;
    uint32_t reason = (uint32_t)self->d.reason;

    if (field->kind == REASON && reason < FLAGSHM_PY_REASONS && self->state->reasons[reason] != NULL) {
        Py_INCREF(self->state->reasons[reason]);
        return self->state->reasons[reason];
    }
    return plain(self, field);
}

static PyObject *get_in_variant(PyObject *object, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((const struct flagshm_py_decision *)object)->d.arm != 0);
}

static PyObject *get_rollout_pct(PyObject *object, void *closure)
{
    (void)closure;
    return PyFloat_FromDouble(((const struct flagshm_py_decision *)object)->d.rollout_mpct / 1000.0);
}

static int is_true(PyObject *object)
{
    return ((const struct flagshm_py_decision *)object)->d.arm != 0;
}

struct flagshm_py_decision *flagshm_py_decision_new(struct flagshm_py_state *state)
{
    struct flagshm_py_decision *self;

    if (FLAGSHM_UNLIKELY_(state->decision_type == NULL)) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter is ending");
        return NULL;
    }
    self = PyObject_New(struct flagshm_py_decision, state->decision_type);
    if (self != NULL) {
        self->state = state;
        self->value = NULL;
    }
    return self;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(((struct flagshm_py_decision *)object)->value);
    PyObject_Free(object);
    Py_DECREF(type);
}

static bool set_reason(struct flagshm_py_decision *self, PyObject *value)
{
    int reason;
    if (!PyUnicode_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "reason must be str");
        return false;
    }
    for (reason = 1; reason < FLAGSHM_PY_REASONS; reason++) {
        const char *name = flagshm_reason_name((enum flagshm_reason)reason);
        if (PyUnicode_CompareWithASCIIString(value, name) == 0 && strcmp(name, "UNKNOWN") != 0) {
            self->d.reason = (enum flagshm_reason)reason;
            return true;
        }
    }
    PyErr_Format(PyExc_ValueError, "there is no reason %R", value);
    return false;
}

static bool set_text(struct flagshm_py_decision *self, const struct field *field, PyObject *value)
{
    const char *text;
    Py_ssize_t bytes;

    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be str", field->name);
        return false;
    }
    text = PyUnicode_AsUTF8AndSize(value, &bytes);
    if (text == NULL)
        return false;
    if (field->kind == VALUE && (size_t)bytes >= field->bytes) {
        Py_INCREF(value);
        Py_XDECREF(self->value);
        self->value = value;
        return true;
    }
    if ((size_t)bytes >= field->bytes || strlen(text) != (size_t)bytes) {
        PyErr_Format(PyExc_ValueError, "%s has at most %zu bytes, none of them NUL", field->name,
                     field->bytes - 1);
        return false;
    }
    memcpy((char *)&self->d + field->offset, text, (size_t)bytes + 1);
    return true;
}

static bool set_field(struct flagshm_py_decision *self, const struct field *field, PyObject *value)
{
    uint64_t wide;
    uint32_t word;
    bool truth = value == Py_True;

    switch (field->kind) {
    case TRUTH:
        if (!PyBool_Check(value)) {
            PyErr_Format(PyExc_TypeError, "%s must be bool", field->name);
            return false;
        }
        memcpy((char *)&self->d + field->offset, &truth, sizeof truth);
        return true;
    case REASON:
        return set_reason(self, value);
    case TEXT:
    case VALUE:
        return set_text(self, field, value);
    default:
        if (!flagshm_py_count(field->name, value, field->kind == WORD64 ? UINT64_MAX : UINT32_MAX, &wide))
            return false;
        word = (uint32_t)wide;
        if (field->kind == WORD64)
            memcpy((char *)&self->d + field->offset, &wide, sizeof wide);
        else
            memcpy((char *)&self->d + field->offset, &word, sizeof word);
        return true;
    }
}

static PyObject *new_decision(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct flagshm_py_decision *self;
    PyObject *name, *value;
    Py_ssize_t at = 0;
    size_t i;

    if (PyTuple_Size(args) != 0) {
        PyErr_SetString(PyExc_TypeError, "Decision() takes its fields by name");
        return NULL;
    }
    self = flagshm_py_decision_new(PyType_GetModuleState(type));
    if (self == NULL)
        return NULL;
    memset(&self->d, 0, sizeof self->d);
    self->d.reason = FLAGSHM_GENERAL;
    self->d.bucket = FLAGSHM_NO_BUCKET;
    self->d.slot = FLAGSHM_NO_SLOT;
    memcpy(self->d.arm_name, "control", 8);
    while (kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        for (i = 0; i < FIELDS; i++)
            if (PyUnicode_CompareWithASCIIString(name, fields[i].name) == 0)
                break;
        if (i == FIELDS)
            PyErr_Format(PyExc_TypeError, "Decision has no field %R", name);
        if (i == FIELDS || !set_field(self, &fields[i], value)) {
            Py_DECREF((PyObject *)self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static PyObject *as_dict(PyObject *object, PyObject *nothing)
{
    PyObject *dict = PyDict_New();
    size_t i;

    (void)nothing;
    for (i = 0; dict != NULL && i < FIELDS; i++) {
        PyObject *value = plain((const struct flagshm_py_decision *)object, &fields[i]);
        if (value == NULL || PyDict_SetItemString(dict, fields[i].name, value) != 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *get_params(PyObject *object, PyObject *nothing)
{
    struct flagshm_py_decision *self = (struct flagshm_py_decision *)object;
    (void)nothing;
    if (self->state->params == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "import flagshm, not flagshm._flagshm");
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(self->state->params, object, NULL);
}

static PyObject *represent(PyObject *object)
{
    const struct flagshm_py_decision *self = (const struct flagshm_py_decision *)object;
    const struct flagshm_decision *d = &self->d;
    PyObject *texts[3] = {NULL, NULL, NULL}, *result = NULL;
    static const char *const names[3] = {"arm_name", "model", "stage"};
    char share[32], bucket[16] = "None";
    size_t i, at;

    for (i = 0; i < FIELDS; i++)
        for (at = 0; at < 3; at++)
            if (strcmp(fields[i].name, names[at]) == 0)
                texts[at] = plain(self, &fields[i]);
    (void)snprintf(share, sizeof share, "%g", d->rollout_mpct / 1000.0);
    if (d->bucket != FLAGSHM_NO_BUCKET)
        (void)snprintf(bucket, sizeof bucket, "%u", (unsigned)d->bucket);
    if (texts[0] != NULL && texts[1] != NULL && texts[2] != NULL)
        result = PyUnicode_FromFormat(
            "Decision(arm=%u, arm_name=%R, model=%R, reason='%s', stage=%R, rollout_pct=%s, "
            "bucket=%s, version=%llu)",
            (unsigned)d->arm, texts[0], texts[1], flagshm_reason_name(d->reason), texts[2], share, bucket,
            (unsigned long long)d->version);
    for (at = 0; at < 3; at++)
        Py_XDECREF(texts[at]);
    return result;
}

/* 1: equal, 0: not, -1: exception */
static int is_equal(const struct flagshm_py_decision *a, const struct flagshm_py_decision *b)
{
    size_t i;

    for (i = 0; i < FIELDS; i++) {
        const struct field *field = &fields[i];
        if (field->kind == TEXT || field->kind == VALUE) {
            if (strncmp(place(a, field), place(b, field), field->bytes) != 0)
                return 0;
        } else if (number(a, field) != number(b, field)) {
            return 0;
        }
    }
    if (a->value == NULL || b->value == NULL)
        return a->value == b->value;
    return PyObject_RichCompareBool(a->value, b->value, Py_EQ);
}

static PyObject *compare(PyObject *a, PyObject *b, int operation)
{
    int equal;
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_INCREF(Py_NotImplemented);
        return Py_NotImplemented;
    }
    equal = is_equal((const struct flagshm_py_decision *)a, (const struct flagshm_py_decision *)b);
    return equal < 0 ? NULL : PyBool_FromLong(equal == (operation == Py_EQ));
}

static Py_hash_t hash(PyObject *object)
{
    const struct flagshm_decision *d = &((const struct flagshm_py_decision *)object)->d;
    uint64_t words[4] = {d->flag_hash, d->id_hash, d->version, d->arm};
    Py_hash_t result = (Py_hash_t)flagshm_hash64_(words, sizeof words, 0);
    return result == -1 ? -2 : result;
}

#define ATTRIBUTE(index, name, text)                                                                         \
    {                                                                                                        \
        name, get_field, NULL, text, (void *)(uintptr_t)&fields[index]                                       \
    }

static PyGetSetDef attributes[] = {
    ATTRIBUTE(0, "version", "of the table that it was made from; 0: none"),
    ATTRIBUTE(1, "segment_id", "of the segment that held that table"),
    ATTRIBUTE(2, "flag_hash", "names the flag"),
    ATTRIBUTE(3, "id_hash", "a 64-bit mix of the id's bytes; 0 without an id"),
    ATTRIBUTE(4, "value_hash", "of the whole value's bytes"),
    ATTRIBUTE(5, "arm", "0 control, 1... variants in the file's order"),
    ATTRIBUTE(6, "bucket", "0...99999, thousandths of a percent, or NO_BUCKET: nothing was hashed"),
    ATTRIBUTE(7, "rollout_mpct", "share of users who get any variant, in thousandths of a percent"),
    ATTRIBUTE(8, "reason", "why, a member of flagshm.Reason"),
    ATTRIBUTE(9, "slot", "where outcomes are booked, or NO_SLOT: they are not"),
    ATTRIBUTE(10, "slot_generation", "of that slot"),
    ATTRIBUTE(11, "value_bytes", "of the whole value"),
    ATTRIBUTE(12, "shadow", "call shadow_model as well, in the background, and serve the answer of model"),
    ATTRIBUTE(13, "arm_name", "\"control\", \"variant\", or the variant's name"),
    ATTRIBUTE(14, "model", "empty on an error, or where the arm's value names no model"),
    ATTRIBUTE(15, "shadow_model", "empty where there is none"),
    ATTRIBUTE(16, "stage",
              "static-5pct, shadow-10pct, canary-5pct, ramp-25pct, full, rolled-back, killed, disabled"),
    ATTRIBUTE(17, "value", "the arm's whole value: a string's text, or an object's JSON"),
    {"in_variant", get_in_variant, NULL, "arm is not 0", NULL},
    {"rollout_pct", get_rollout_pct, NULL, "share of users who get any variant, in percent", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"asdict", as_dict, METH_NOARGS, "asdict($self, /)\n--\n\nAll fields as a dict of int, bool and str."},
    {"params", get_params, METH_NOARGS,
     "params($self, /)\n--\n\nThe arm's value as a dict: an object as it stands in the flag file, or "
     "{\"model\": text} for a\n"
     "string; empty on an error. A new dict each time."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject *flagshm_py_decision_type(PyObject *module)
{
    static PyType_Slot slots[] = {
        {Py_tp_new, (void *)new_decision},
        {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_repr, (void *)represent},
        {Py_tp_richcompare, (void *)compare},
        {Py_tp_hash, (void *)hash},
        {Py_nb_bool, (void *)is_true},
        {Py_tp_getset, attributes},
        {Py_tp_methods, methods},
        {Py_tp_doc, (void *)(uintptr_t) "A decision: immutable, comparable, picklable. Keep it through "
                                        "retries, over a fork, for a\n"
                                        "later event. True where a variant was given. Decision(arm=1, "
                                        "model=\"m\") makes one for\n"
                                        "tests of yours; what is not named is as on an error."},
        {0, NULL},
    };
    static PyType_Spec spec = {"flagshm.Decision", (int)sizeof(struct flagshm_py_decision), 0,
                               Py_TPFLAGS_DEFAULT, slots};
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
