/* flagshm.Flags: a handle. The decision path allocates nothing but its result; names that come again are resolved once.
 *
 * close() must not unmap what another thread reads. All reading happens under the interpreter's lock, but for the sleep in
 * wait.c: then the last sleeper unmaps. */
#include "extension.h"

#include <math.h>

#define VALUE_RETRIES 64 /* a table that changes between a decision and its value, each time: damaged */

static struct flagshm_py_flags *flags_of(PyObject *object)
{
    return (struct flagshm_py_flags *)object;
}

bool flagshm_py_is_usable(const struct flagshm_py_flags *self)
{
    if (FLAGSHM_LIKELY_(!self->is_closed))
        return true;
    PyErr_SetString(PyExc_ValueError, "these flags are closed");
    return false;
}

/* ---- names ---- */

static size_t cache_place(const PyObject *name)
{
    uint64_t address = (uint64_t)(uintptr_t)name >> 4;
    return (size_t)((address ^ address >> 6) & (FLAGSHM_PY_CACHED - 1));
}

/* The reference of a name that is not in the cache; NULL: *text is the name to decide by, or NULL after an exception. */
static __attribute__((noinline)) struct flagshm_ref *resolve(struct flagshm_py_flags *self, PyObject *name,
                                                             const char **text)
{
    struct flagshm_py_cached *cached = &self->cached[cache_place(name)];
    struct flagshm_ref ref;
    PyObject *older;

    if (!flagshm_py_name(name, text)) {
        *text = NULL;
        return NULL;
    }
    if (!PyUnicode_CheckExact(name) || flagshm_resolve(&self->fs, *text, &ref) == -EINVAL)
        return NULL;
    older = cached->name;
    Py_INCREF(name);
    cached->name = name;
    cached->ref = ref;
    Py_XDECREF(older); /* an exact str: no code of anybody runs */
    return &cached->ref;
}

/* The reference of a name, kept as long as that very str stands in the cache. */
static inline struct flagshm_ref *reference(struct flagshm_py_flags *self, PyObject *name, const char **text)
{
    struct flagshm_py_cached *cached = &self->cached[cache_place(name)];
    if (FLAGSHM_LIKELY_(cached->name == name))
        return &cached->ref;
    return resolve(self, name, text);
}

static void forget_names(struct flagshm_py_flags *self)
{
    size_t i;
    for (i = 0; i < FLAGSHM_PY_CACHED; i++)
        Py_CLEAR(self->cached[i].name);
}

/* ---- decisions ---- */

/* False with an exception. */
static inline bool judge(struct flagshm_py_flags *self, PyObject *flag, PyObject *id,
                         struct flagshm_decision *d)
{
    const char *name = NULL, *key;
    struct flagshm_ref *ref;

    if (FLAGSHM_UNLIKELY_(!flagshm_py_is_usable(self)))
        return false;
    if (FLAGSHM_UNLIKELY_(!flagshm_py_id(id, &key)))
        return false;
    ref = reference(self, flag, &name);
    if (FLAGSHM_LIKELY_(ref != NULL))
        (void)flagshm_decide_ref(&self->fs, ref, key, d);
    else if (name != NULL)
        (void)flagshm_decide(&self->fs, name, key, d);
    else
        return false;
    return true;
}

static PyObject *in_variant(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"flag", "id"};
    struct flagshm_decision d;
    PyObject *given[2], *answer;

    if (!flagshm_py_arguments("in_variant", parameters, 2, 2, args, count, names, given) ||
        !judge(flags_of(object), given[0], given[1], &d))
        return NULL;
    answer = d.arm != 0 ? Py_True : Py_False;
    Py_INCREF(answer);
    return answer;
}

static PyObject *model(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"flag", "id", "fallback"};
    struct flagshm_decision d;
    PyObject *given[3];

    if (!flagshm_py_arguments("model", parameters, 3, 3, args, count, names, given))
        return NULL;
    if (!PyUnicode_Check(given[2])) {
        PyErr_SetString(PyExc_TypeError, "fallback must be str");
        return NULL;
    }
    if (!judge(flags_of(object), given[0], given[1], &d))
        return NULL;
    if (d.model[0] != '\0')
        return PyUnicode_DecodeUTF8(d.model, (Py_ssize_t)strlen(d.model), "replace");
    Py_INCREF(given[2]);
    return given[2];
}

static PyObject *rollout_pct(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"flag"};
    struct flagshm_py_flags *self = flags_of(object);
    const char *name = NULL;
    struct flagshm_ref *ref;
    PyObject *given[1];

    if (!flagshm_py_arguments("rollout_pct", parameters, 1, 1, args, count, names, given) ||
        !flagshm_py_is_usable(self))
        return NULL;
    ref = reference(self, given[0], &name);
    if (ref != NULL)
        return PyFloat_FromDouble(flagshm_rollout_pct_ref(&self->fs, ref));
    return name != NULL ? PyFloat_FromDouble(flagshm_rollout_pct(&self->fs, name)) : NULL;
}

/* A value that does not fit into the decision. 1: it is there; 0: the table has moved on, decide again; -1: exception. */
static int fetch_value(struct flagshm_py_flags *self, struct flagshm_py_decision *decision)
{
    size_t bytes = decision->d.value_bytes; /* of a damaged table: anything */
    int64_t got = flagshm_value(&self->fs, &decision->d, NULL, 0);
    char *buffer;

    if (got < 0 || (size_t)got != bytes)
        return 0;
    buffer = PyMem_Malloc(bytes + 1);
    if (buffer == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    got = flagshm_value(&self->fs, &decision->d, buffer, bytes + 1);
    if (got == (int64_t)bytes)
        decision->value = PyUnicode_DecodeUTF8(buffer, (Py_ssize_t)bytes, "replace");
    PyMem_Free(buffer);
    if (got != (int64_t)bytes)
        return 0;
    return decision->value != NULL ? 1 : -1;
}

static PyObject *decide(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"flag", "id"};
    struct flagshm_py_flags *self = flags_of(object);
    struct flagshm_py_decision *decision;
    PyObject *given[2];
    int tries, got = 0;

    if (!flagshm_py_arguments("decide", parameters, 2, 2, args, count, names, given))
        return NULL;
    decision = flagshm_py_decision_new(self->state);
    if (decision == NULL)
        return NULL;
    for (tries = 0; tries < VALUE_RETRIES && got == 0; tries++) {
        if (!judge(self, given[0], given[1], &decision->d))
            got = -1;
        else if (FLAGSHM_LIKELY_(decision->d.value_bytes < sizeof decision->d.value))
            got = 1;
        else
            got = fetch_value(self, decision);
    }
    if (got >= 0)
        return (PyObject *)decision;
    Py_DECREF((PyObject *)decision);
    return NULL;
}

static PyObject *value(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"decision"};
    PyObject *given[1];

    if (!flagshm_py_arguments("value", parameters, 1, 1, args, count, names, given) ||
        !flagshm_py_is_usable(flags_of(object)))
        return NULL;
    if (Py_TYPE(given[0]) != flags_of(object)->state->decision_type) {
        PyErr_SetString(PyExc_TypeError, "decision must be a flagshm.Decision");
        return NULL;
    }
    return PyObject_GetAttrString(given[0], "value");
}

/* ---- the handle ---- */

void flagshm_py_release(struct flagshm_py_flags *self)
{
    if (self->is_open && self->sleepers == 0) {
        flagshm_close(&self->fs);
        self->is_open = false;
    }
}

static PyObject *get_version(PyObject *object, void *closure)
{
    (void)closure;
    if (!flagshm_py_is_usable(flags_of(object)))
        return NULL;
    return PyLong_FromUnsignedLongLong(flagshm_version(&flags_of(object)->fs));
}

static PyObject *get_age(PyObject *object, void *closure)
{
    int64_t age;
    (void)closure;
    if (!flagshm_py_is_usable(flags_of(object)))
        return NULL;
    age = flagshm_age_ns(&flags_of(object)->fs);
    return PyFloat_FromDouble(age == INT64_MAX ? INFINITY : (double)age / 1e9);
}

static PyObject *get_closed(PyObject *object, void *closure)
{
    (void)closure;
    return PyBool_FromLong(flags_of(object)->is_closed);
}

static PyObject *get_instance(PyObject *object, void *closure)
{
    (void)closure;
    Py_INCREF(flags_of(object)->instance);
    return flags_of(object)->instance;
}

static PyObject *get_open_error(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromLong(flags_of(object)->open_error);
}

static PyObject *get_record_error(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromLong(flags_of(object)->record_error);
}

static PyObject *close_flags(PyObject *object, PyObject *nothing)
{
    struct flagshm_py_flags *self = flags_of(object);
    (void)nothing;
    self->is_closed = true;
    forget_names(self);
    flagshm_py_release(self);
    Py_INCREF(Py_None);
    return Py_None;
}

static void dealloc(PyObject *object)
{
    struct flagshm_py_flags *self = flags_of(object);
    PyTypeObject *type = Py_TYPE(object);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);

    self->sleepers = 0; /* nobody sleeps in an object that nobody holds; a fork may have left some behind */
    flagshm_py_release(self);
    forget_names(self);
    Py_CLEAR(self->instance);
    release_memory(object);
    Py_DECREF(type);
}

/* The state, also for a subclass, which has no module of its own. NULL with an exception. */
static struct flagshm_py_state *state_of(PyTypeObject *type)
{
    while (type != NULL && PyType_GetSlot(type, Py_tp_dealloc) != (void *)dealloc)
        type = PyType_GetSlot(type, Py_tp_base);
    if (type != NULL)
        return PyType_GetModuleState(type);
    PyErr_SetString(PyExc_TypeError, "no Flags");
    return NULL;
}

static bool open_flags(struct flagshm_py_flags *self)
{
    const char *name = NULL;
    Py_ssize_t bytes = 0;

    if (self->instance != Py_None) {
        if (!PyUnicode_Check(self->instance)) {
            PyErr_SetString(PyExc_TypeError, "instance must be str or None");
            return false;
        }
        name = PyUnicode_AsUTF8AndSize(self->instance, &bytes);
        if (name == NULL)
            return false;
    }
    if (name == NULL || strlen(name) == (size_t)bytes) {
        self->open_error = -flagshm_open(&self->fs, name);
        self->is_open = true;
        if (name == NULL || self->open_error != EINVAL)
            return true;
    }
    PyErr_Format(PyExc_ValueError, "instance must be [A-Za-z0-9][A-Za-z0-9_-]{0,31}, got %R", self->instance);
    return false;
}

static PyObject *new_flags(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char parameter[] = "instance";
    static char *parameters[] = {parameter, NULL};
    struct flagshm_py_state *state = state_of(type);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *instance = Py_None, *object;

    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Flags", parameters, &instance))
        return NULL;
    object = allocate(type, 0); /* zeroed */
    if (object == NULL)
        return NULL;
    Py_INCREF(instance);
    flags_of(object)->instance = instance;
    flags_of(object)->state = state;
    if (open_flags(flags_of(object)))
        return object;
    Py_DECREF(object);
    return NULL;
}

#define METHOD(name, function, text)                                                                         \
    {                                                                                                        \
        name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, text                     \
    }

static PyMethodDef methods[] = {
    METHOD("in_variant", in_variant,
           "in_variant($self, /, flag, id)\n--\n\nDoes this user get a variant? False on every doubt. id: "
           "str, bytes or None."),
    METHOD("rollout_pct", rollout_pct,
           "rollout_pct($self, /, flag)\n--\n\nThe share of users who get any variant just now, in percent; "
           "-1.0 where the flag is\n"
           "unknown."),
    METHOD("model", model,
           "model($self, /, flag, id, fallback)\n--\n\nThe model to call for this user; fallback on every "
           "error, and where the arm\n"
           "names none."),
    METHOD("decide", decide,
           "decide($self, /, flag, id)\n--\n\nDecides, and says everything about it: a Decision. It carries "
           "the arm's whole value."),
    METHOD("value", value, "value($self, /, decision)\n--\n\nThe arm's whole value: decision.value."),
    METHOD(
        "record", flagshm_py_record,
        "record($self, /, decision, *, event='finished', status=0, latency=None, ttft=None, input_tokens=0,\n"
        "       output_tokens=0, cache_tokens=0, attempts=1, transport_error=False, cancelled=False, "
        "limited=False,\n"
        "       fallback=False, altered=False, json_valid=None, schema_valid=None, tool_valid=None, "
        "refusal=False,\n"
        "       truncated=False, empty=False)\n--\n\n"
        "Books what became of a call. True, also where the decision has no slot; False where it could not be "
        "booked:\n"
        "record_error says why. Never raises for what the world does, only for wrong arguments. None: "
        "unknown.\n\n"
        "event: \"started\" before the call, \"finished\" after it; call() books both. status: of HTTP; 0: "
        "no answer.\n"
        "latency, ttft: seconds. cache_tokens: read or written, beside input_tokens. json_valid and the "
        "like: None where\n"
        "it was not checked."),
    METHOD("record_shadow", flagshm_py_record_shadow,
           "record_shadow($self, /, decision, control, shadow)\n--\n\nBooks a shadow call and the pair that "
           "it makes with control's\n"
           "answer, both as dicts of record()'s keywords. Returns as record()."),
    METHOD("event", flagshm_py_event,
           "event($self, /, flag, id, event)\n--\n\nBooks a later event by flag and id alone: \"thumbs_up\", "
           "\"thumbs_down\", \"retry\",\n"
           "\"support_contact\", \"custom\", \"custom_1\" ... \"custom_7\". Returns as record()."),
    METHOD("shadow_budget", flagshm_py_shadow_budget,
           "shadow_budget($self, /, limit, tokens)\n--\n\nTakes tokens from the host's budget of today (UTC) "
           "for shadow calls. False:\n"
           "not that many are left of limit. A limit of 0 takes them in any case."),
    METHOD("wait", flagshm_py_wait,
           "wait($self, /, seen=None, timeout=None)\n--\n\nSleeps until the version is another than seen "
           "(None: than now), at most\n"
           "timeout seconds (None: for ever). True when it moved. Other threads run meanwhile; signals are "
           "heeded."),
    {"close", close_flags, METH_NOARGS,
     "close($self, /)\n--\n\nReleases the table. Afterwards everything but close() and closed raises "
     "ValueError."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"version", get_version, NULL, "of the table that decisions are made from now; 0: none yet", NULL},
    {"age", get_age, NULL, "seconds since the server's last heartbeat; inf: no table", NULL},
    {"closed", get_closed, NULL, "whether close() was called", NULL},
    {"instance", get_instance, NULL, "as it was given", NULL},
    {"open_error", get_open_error, NULL,
     "errno of opening; 0: the table was there; ENOENT: no server has run yet", NULL},
    {"record_error", get_record_error, NULL,
     "errno of the last outcome that was not booked; 0: there was none", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject *flagshm_py_flags_type(PyObject *module)
{
    static PyType_Slot slots[] = {
        {Py_tp_new, (void *)new_flags},
        {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_getset, attributes},
        {Py_tp_methods, methods},
        {Py_tp_doc, (void *)(uintptr_t) "Flags(instance=None)\n--\n\nA handle."},
        {0, NULL},
    };
    static PyType_Spec spec = {"flagshm._flagshm.Flags", (int)sizeof(struct flagshm_py_flags), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
