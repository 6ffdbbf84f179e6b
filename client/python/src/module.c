/* flagshm._flagshm: the extension's module. Its state is per interpreter; nothing is static but tables of constants. */
#include "extension.h"

/* What Python holds and the extension hands out: flagshm.Reason's members by name, and flagshm._params. */
static PyObject *bind(PyObject *module, PyObject *args)
{
    struct flagshm_py_state *state = PyModule_GetState(module);
    PyObject *reasons, *params, *members[FLAGSHM_PY_REASONS] = {NULL};
    int i;

    if (!PyArg_ParseTuple(args, "OO:_bind", &reasons, &params))
        return NULL;
    for (i = 0; i < FLAGSHM_PY_REASONS; i++) {
        const char *name = flagshm_reason_name((enum flagshm_reason)i);
        if (strcmp(name, "UNKNOWN") == 0)
            continue;
        members[i] = PyMapping_GetItemString(reasons, name);
        if (members[i] == NULL)
            break;
    }
    if (i < FLAGSHM_PY_REASONS) {
        while (i-- > 0)
            Py_XDECREF(members[i]);
        return NULL;
    }
    for (i = 0; i < FLAGSHM_PY_REASONS; i++) {
        PyObject *older = state->reasons[i];
        state->reasons[i] = members[i];
        Py_XDECREF(older);
    }
    Py_INCREF(params);
    Py_XDECREF(state->params);
    state->params = params;
    Py_INCREF(Py_None);
    return Py_None;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct flagshm_py_state *state = PyModule_GetState(module);
    size_t i;

    if (state == NULL)
        return 0;
    Py_VISIT(state->flags_type);
    Py_VISIT(state->decision_type);
    Py_VISIT(state->params);
    for (i = 0; i < FLAGSHM_PY_REASONS; i++)
        Py_VISIT(state->reasons[i]);
    for (i = 0; i < FLAGSHM_PY_OUTCOMES; i++)
        Py_VISIT(state->outcome_names[i]);
    return 0;
}

static int clear(PyObject *module)
{
    struct flagshm_py_state *state = PyModule_GetState(module);
    size_t i;

    if (state == NULL)
        return 0;
    Py_CLEAR(state->flags_type);
    Py_CLEAR(state->decision_type);
    Py_CLEAR(state->params);
    for (i = 0; i < FLAGSHM_PY_REASONS; i++)
        Py_CLEAR(state->reasons[i]);
    for (i = 0; i < FLAGSHM_PY_OUTCOMES; i++)
        Py_CLEAR(state->outcome_names[i]);
    return 0;
}

static void release(void *module)
{
    (void)clear(module);
}

static bool add(PyObject *module, const char *name, PyTypeObject *type)
{
    if (type == NULL)
        return false;
    Py_INCREF((PyObject *)type);
    if (PyModule_AddObject(module, name, (PyObject *)type) == 0)
        return true;
    Py_DECREF((PyObject *)type);
    return false;
}

static bool add_number(PyObject *module, const char *name, unsigned long number)
{
    PyObject *object = PyLong_FromUnsignedLong(number);
    if (object != NULL && PyModule_AddObject(module, name, object) == 0)
        return true;
    Py_XDECREF(object);
    return false;
}

static int execute(PyObject *module)
{
    struct flagshm_py_state *state = PyModule_GetState(module);

    if (!flagshm_py_outcome_names(state))
        return -1;
    state->decision_type = flagshm_py_decision_type(module);
    state->flags_type = flagshm_py_flags_type(module);
    return add(module, "Decision", state->decision_type) && add(module, "Flags", state->flags_type) &&
                   add_number(module, "NO_BUCKET", FLAGSHM_NO_BUCKET) &&
                   add_number(module, "NO_SLOT", FLAGSHM_NO_SLOT) &&
                   PyModule_AddStringConstant(module, "__version__", FLAGSHM_VERSION) == 0
               ? 0
               : -1;
}

static PyMethodDef functions[] = {
    {"_bind", bind, METH_VARARGS, "_bind(reasons, params, /)\n--\n\nFor flagshm only."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "flagshm._flagshm",
    "The extension behind flagshm.",
    (Py_ssize_t)sizeof(struct flagshm_py_state),
    functions,
    slots,
    traverse,
    clear,
    release,
};

PyMODINIT_FUNC PyInit__flagshm(void); /* a prototype, which the macro is not */
PyMODINIT_FUNC PyInit__flagshm(void)
{
    return PyModuleDef_Init(&definition);
}
