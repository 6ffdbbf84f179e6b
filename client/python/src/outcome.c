/* Flags.record and its kin: keywords into struct flagshm_outcome. What the world does (no segment, no permission, a slot
 * that was re-used) is a return value: an outcome that cannot be booked must not take a request down with it. */
#include "extension.h"

enum kind { EVENT, STATUS, COUNT, SECONDS, TRUTH, CHECK };

static const struct entry {
    const char *name;
    enum kind kind;
    size_t offset, done_offset; /* done: of a check */
} entries[FLAGSHM_PY_OUTCOMES] = {
#define AT(field) offsetof(struct flagshm_outcome, field)
    {"event", EVENT, AT(event), 0},
    {"status", STATUS, AT(http_status), 0},
    {"latency", SECONDS, AT(latency_ns), 0},
    {"ttft", SECONDS, AT(ttft_ns), 0},
    {"input_tokens", COUNT, AT(input_tokens), 0},
    {"output_tokens", COUNT, AT(output_tokens), 0},
    {"cache_tokens", COUNT, AT(cache_tokens), 0},
    {"attempts", STATUS, AT(attempts), 0},
    {"transport_error", TRUTH, AT(transport_error), 0},
    {"cancelled", TRUTH, AT(cancelled), 0},
    {"limited", TRUTH, AT(limited), 0},
    {"fallback", TRUTH, AT(fallback), 0},
    {"altered", TRUTH, AT(altered), 0},
    {"json_valid", CHECK, AT(json_valid), AT(json_checked)},
    {"schema_valid", CHECK, AT(schema_valid), AT(schema_checked)},
    {"tool_valid", CHECK, AT(tool_valid), AT(tool_checked)},
    {"refusal", TRUTH, AT(refusal), 0},
    {"truncated", TRUTH, AT(truncated), 0},
    {"empty", TRUTH, AT(empty), 0},
#undef AT
};

static const struct event_name {
    const char *name;
    enum flagshm_event event;
} events[] = {
    {"finished", FLAGSHM_FINISHED},   {"started", FLAGSHM_STARTED},
    {"thumbs_up", FLAGSHM_THUMBS_UP}, {"thumbs_down", FLAGSHM_THUMBS_DOWN},
    {"retry", FLAGSHM_RETRY},         {"support_contact", FLAGSHM_SUPPORT_CONTACT},
    {"custom", FLAGSHM_CUSTOM},       {"custom_1", FLAGSHM_CUSTOM_1},
    {"custom_2", FLAGSHM_CUSTOM_2},   {"custom_3", FLAGSHM_CUSTOM_3},
    {"custom_4", FLAGSHM_CUSTOM_4},   {"custom_5", FLAGSHM_CUSTOM_5},
    {"custom_6", FLAGSHM_CUSTOM_6},   {"custom_7", FLAGSHM_CUSTOM_7},
};

/* False with an exception. */
static bool event_of(PyObject *object, enum flagshm_event *event)
{
    size_t i;
    if (!PyUnicode_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "event must be str");
        return false;
    }
    for (i = 0; i < sizeof events / sizeof events[0]; i++)
        if (PyUnicode_CompareWithASCIIString(object, events[i].name) == 0) {
            *event = events[i].event;
            return true;
        }
    PyErr_Format(PyExc_ValueError, "there is no event %R", object);
    return false;
}

/* What clocks may say of a span (a step backwards, nan) is unknown: 0. */
static bool nanoseconds_of(const char *what, PyObject *object, uint64_t *ns)
{
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred() != NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_TypeError, "%s must be a number of seconds", what);
        }
        return false;
    }
    if (seconds > 1e10)
        *ns = UINT64_MAX;
    else
        *ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    return true;
}

static bool set_entry(struct flagshm_outcome *o, const struct entry *entry, PyObject *value)
{
    char *out = (char *)o + entry->offset;
    uint64_t number;
    uint32_t word;
    bool truth = value == Py_True, done = true;

    if (value == Py_None && entry->kind != EVENT) /* unknown */
        return true;
    switch (entry->kind) {
    case EVENT:
        return event_of(value, &o->event);
    case STATUS:
        if (!flagshm_py_count(entry->name, value, UINT32_MAX, &number))
            return false;
        word = (uint32_t)number;
        memcpy(out, &word, sizeof word);
        return true;
    case COUNT:
        if (!flagshm_py_count(entry->name, value, UINT64_MAX, &number))
            return false;
        memcpy(out, &number, sizeof number);
        return true;
    case SECONDS:
        if (!nanoseconds_of(entry->name, value, &number))
            return false;
        memcpy(out, &number, sizeof number);
        return true;
    case CHECK:
    case TRUTH:
    default:
        if (!PyBool_Check(value)) {
            PyErr_Format(PyExc_TypeError, "%s must be bool", entry->name);
            return false;
        }
        memcpy(out, &truth, sizeof truth);
        if (entry->kind == CHECK)
            memcpy((char *)o + entry->done_offset, &done, sizeof done);
        return true;
    }
}

bool flagshm_py_outcome_names(struct flagshm_py_state *state)
{
    size_t i;
    for (i = 0; i < FLAGSHM_PY_OUTCOMES; i++) {
        state->outcome_names[i] = PyUnicode_InternFromString(entries[i].name);
        if (state->outcome_names[i] == NULL)
            return false;
    }
    return true;
}

static bool set_by_name(const struct flagshm_py_state *state, struct flagshm_outcome *o, PyObject *name,
                        PyObject *value)
{
    size_t i;
    for (i = 0; i < FLAGSHM_PY_OUTCOMES; i++) /* keywords are interned: the same object */
        if (state->outcome_names[i] == name)
            return set_entry(o, &entries[i], value);
    for (i = 0; i < FLAGSHM_PY_OUTCOMES && PyUnicode_Check(name); i++)
        if (PyUnicode_CompareWithASCIIString(name, entries[i].name) == 0)
            return set_entry(o, &entries[i], value);
    PyErr_Format(PyExc_TypeError, "an outcome has no %R", name);
    return false;
}

static const struct flagshm_decision *decision_of(const struct flagshm_py_flags *self, PyObject *object)
{
    if (FLAGSHM_LIKELY_(Py_TYPE(object) == self->state->decision_type))
        return &((const struct flagshm_py_decision *)object)->d;
    PyErr_SetString(PyExc_TypeError, "decision must be a flagshm.Decision");
    return NULL;
}

static PyObject *verdict(struct flagshm_py_flags *self, int result)
{
    PyObject *answer = result == 0 ? Py_True : Py_False;
    if (result != 0)
        self->record_error = -result;
    Py_INCREF(answer);
    return answer;
}

PyObject *flagshm_py_record(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    struct flagshm_py_flags *self = (struct flagshm_py_flags *)object;
    Py_ssize_t named = names != NULL ? PyTuple_Size(names) : 0, i;
    PyObject *given = count > 0 ? args[0] : NULL;
    const struct flagshm_decision *decision;
    struct flagshm_outcome o;

    memset(&o, 0, sizeof o);
    if (count > 1) {
        PyErr_SetString(PyExc_TypeError, "record() takes a decision, all else by name");
        return NULL;
    }
    for (i = 0; i < named; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        if (given == NULL && PyUnicode_CompareWithASCIIString(name, "decision") == 0)
            given = args[count + i];
        else if (!set_by_name(self->state, &o, name, args[count + i]))
            return NULL;
    }
    if (given == NULL) {
        PyErr_SetString(PyExc_TypeError, "record() needs decision");
        return NULL;
    }
    decision = decision_of(self, given);
    if (decision == NULL || !flagshm_py_is_usable(self))
        return NULL;
    return verdict(self, flagshm_record(&self->fs, decision, &o));
}

static bool outcome_of(const struct flagshm_py_flags *self, const char *what, PyObject *dict,
                       struct flagshm_outcome *o)
{
    PyObject *name, *value;
    Py_ssize_t at = 0;

    memset(o, 0, sizeof *o);
    if (!PyDict_Check(dict)) {
        PyErr_Format(PyExc_TypeError, "%s must be a dict of record()'s keywords", what);
        return false;
    }
    while (PyDict_Next(dict, &at, &name, &value)) {
        bool is_set;
        Py_INCREF(name); /* a number's own code may take it out of the dict */
        Py_INCREF(value);
        is_set = set_by_name(self->state, o, name, value);
        Py_DECREF(name);
        Py_DECREF(value);
        if (!is_set)
            return false;
    }
    return true;
}

PyObject *flagshm_py_record_shadow(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"decision", "control", "shadow"};
    struct flagshm_py_flags *self = (struct flagshm_py_flags *)object;
    const struct flagshm_decision *decision;
    struct flagshm_outcome control, shadow;
    PyObject *given[3];

    if (!flagshm_py_arguments("record_shadow", parameters, 3, 3, args, count, names, given))
        return NULL;
    decision = decision_of(self, given[0]);
    if (decision == NULL || !outcome_of(self, "control", given[1], &control) ||
        !outcome_of(self, "shadow", given[2], &shadow) || !flagshm_py_is_usable(self))
        return NULL;
    return verdict(self, flagshm_record_shadow(&self->fs, decision, &control, &shadow));
}

PyObject *flagshm_py_event(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"flag", "id", "event"};
    struct flagshm_py_flags *self = (struct flagshm_py_flags *)object;
    const char *flag, *id;
    enum flagshm_event event;
    PyObject *given[3];

    if (!flagshm_py_arguments("event", parameters, 3, 3, args, count, names, given) ||
        !flagshm_py_name(given[0], &flag) || !flagshm_py_id(given[1], &id) || !event_of(given[2], &event) ||
        !flagshm_py_is_usable(self))
        return NULL;
    if (event == FLAGSHM_STARTED || event == FLAGSHM_FINISHED) {
        PyErr_Format(PyExc_ValueError, "%R is no later event: record() books it, with the decision",
                     given[2]);
        return NULL;
    }
    return verdict(self, flagshm_event(&self->fs, flag, id, event));
}

PyObject *flagshm_py_shadow_budget(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"limit", "tokens"};
    struct flagshm_py_flags *self = (struct flagshm_py_flags *)object;
    uint64_t limit, tokens;
    PyObject *given[2];

    if (!flagshm_py_arguments("shadow_budget", parameters, 2, 2, args, count, names, given) ||
        !flagshm_py_count("limit", given[0], UINT64_MAX, &limit) ||
        !flagshm_py_count("tokens", given[1], UINT64_MAX, &tokens) || !flagshm_py_is_usable(self))
        return NULL;
    return verdict(self, flagshm_shadow_budget(&self->fs, limit, tokens));
}
