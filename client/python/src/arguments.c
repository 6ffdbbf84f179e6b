/* What a caller has passed, checked: a wrong type is a TypeError that names what was expected, never a crash. */
#include "extension.h"

/* "int", "NoneType", ...: for messages. A new reference, or NULL with an exception. */
static PyObject *type_name(PyObject *object)
{
    return PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__name__");
}

static bool refuse(const char *wanted, PyObject *object)
{
    PyObject *name = type_name(object);
    if (name != NULL)
        PyErr_Format(PyExc_TypeError, "%s, not %U", wanted, name);
    Py_XDECREF(name);
    return false;
}

bool flagshm_py_arguments_slowly(const char *function, const char *const *parameters, Py_ssize_t least,
                                 Py_ssize_t most, PyObject *const *args, Py_ssize_t count, PyObject *names,
                                 PyObject **out)
{
    Py_ssize_t named = names != NULL ? PyTuple_Size(names) : 0, i, at;

    if (count > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments, got %zd", function, most, count);
        return false;
    }
    for (i = 0; i < most; i++)
        out[i] = i < count ? args[i] : NULL;
    for (i = 0; i < named; i++) {
        PyObject *name = PyTuple_GetItem(names, i); /* borrowed */
        for (at = 0; at < most; at++)
            if (PyUnicode_CompareWithASCIIString(name, parameters[at]) == 0)
                break;
        if (at == most) {
            PyErr_Format(PyExc_TypeError, "%s() has no argument %R", function, name);
            return false;
        }
        if (out[at] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got %s twice", function, parameters[at]);
            return false;
        }
        out[at] = args[count + i];
    }
    for (i = 0; i < least; i++)
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() needs %s", function, parameters[i]);
            return false;
        }
    return true;
}

static bool has_no_nul(const char *what, const char *text, Py_ssize_t bytes)
{
    if (FLAGSHM_LIKELY_(strlen(text) == (size_t)bytes))
        return true;
    PyErr_Format(PyExc_ValueError, "%s must not hold NUL", what);
    return false;
}

bool flagshm_py_name(PyObject *object, const char **text)
{
    Py_ssize_t bytes;
    if (!PyUnicode_Check(object))
        return refuse("flag must be str", object);
    *text = PyUnicode_AsUTF8AndSize(object, &bytes);
    return *text != NULL && has_no_nul("flag", *text, bytes);
}

bool flagshm_py_id(PyObject *object, const char **text)
{
    Py_ssize_t bytes;
    char *raw;

    if (FLAGSHM_LIKELY_(PyUnicode_Check(object))) {
        *text = PyUnicode_AsUTF8AndSize(object, &bytes);
        return *text != NULL && has_no_nul("id", *text, bytes);
    }
    *text = NULL;
    if (object == Py_None)
        return true;
    if (!PyBytes_Check(object))
        return refuse("id must be str, bytes or None", object);
    if (PyBytes_AsStringAndSize(object, &raw, &bytes) != 0)
        return false;
    *text = raw;
    return has_no_nul("id", raw, bytes);
}

bool flagshm_py_count(const char *what, PyObject *object, uint64_t most, uint64_t *out)
{
    PyObject *number;
    unsigned long long value;
    bool is_wrong;

    if (!PyIndex_Check(object)) {
        PyObject *name = type_name(object);
        if (name != NULL)
            PyErr_Format(PyExc_TypeError, "%s must be int, not %U", what, name);
        Py_XDECREF(name);
        return false;
    }
    number = PyNumber_Index(object);
    if (number == NULL)
        return false;
    value = PyLong_AsUnsignedLongLong(number);
    is_wrong = value == (unsigned long long)-1 && PyErr_Occurred() != NULL;
    if (is_wrong || value > most) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s must be 0...%llu, got %R", what, (unsigned long long)most, number);
        Py_DECREF(number);
        return false;
    }
    Py_DECREF(number);
    *out = value;
    return true;
}
