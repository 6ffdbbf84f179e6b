/* Flags.wait: sleeps without the interpreter's lock, in slices. flagshm_wait goes on sleeping after a signal, and Python's
 * handlers run in the main thread only: between two slices there is time for them, and to see that it was closed. */
#include "extension.h"

#include <math.h>
#include <time.h>

#define SLICE_MS 100

static uint64_t mono_ns(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Nanoseconds; UINT64_MAX: for ever. False with an exception. */
static bool span_of(PyObject *timeout, uint64_t *span_ns)
{
    double seconds;

    *span_ns = UINT64_MAX;
    if (timeout == NULL || timeout == Py_None)
        return true;
    seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred() != NULL)
        return false;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "timeout must be a number of seconds, got nan");
        return false;
    }
    if (seconds < 1e9)
        *span_ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    return true;
}

static PyObject *sleep_until(struct flagshm_py_flags *self, uint64_t seen, uint64_t span_ns)
{
    uint64_t begin = mono_ns(), passed = 0;
    int result = -ETIMEDOUT;

    do {
        uint64_t left = span_ns - passed, slice = SLICE_MS;
        if (span_ns != UINT64_MAX && left < SLICE_MS * UINT64_C(1000000))
            slice = (left + 999999) / 1000000;
        self->sleepers++;
        Py_BEGIN_ALLOW_THREADS result = flagshm_wait(&self->fs, seen, (int)slice);
        Py_END_ALLOW_THREADS self->sleepers--;
        if (self->is_closed)
            flagshm_py_release(self);
        if (!flagshm_py_is_usable(self))
            return NULL;
        if (result != -ETIMEDOUT)
            break;
        if (PyErr_CheckSignals() != 0)
            return NULL;
        if (!flagshm_py_is_usable(self)) /* closed by a handler of a signal */
            return NULL;
        passed = mono_ns() - begin;
    } while (passed < span_ns);
    if (result == -EINVAL) {
        PyErr_SetString(PyExc_ValueError,
                        "these flags can never be there: see FLAGSHM_INSTANCE and FLAGSHM_DIR");
        return NULL;
    }
    return PyBool_FromLong(result == 0);
}

PyObject *flagshm_py_wait(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"seen", "timeout"};
    struct flagshm_py_flags *self = (struct flagshm_py_flags *)object;
    uint64_t seen, span_ns;
    PyObject *given[2];

    if (!flagshm_py_arguments("wait", parameters, 0, 2, args, count, names, given) ||
        !span_of(given[1], &span_ns))
        return NULL;
    if (given[0] != NULL && given[0] != Py_None && !flagshm_py_count("seen", given[0], UINT64_MAX, &seen))
        return NULL;
    if (!flagshm_py_is_usable(self))
        return NULL;
    if (given[0] == NULL || given[0] == Py_None)
        seen = flagshm_version(&self->fs);
    return sleep_until(self, seen, span_ns);
}
