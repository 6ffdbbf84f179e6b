/* What the files of the extension share. Everything here runs with the interpreter's lock held, but for the sleep in
 * Flags.wait; an interpreter without that lock takes it again on import, since the module does not say that it can do
 * without. Never: a call back into Python between two uses of the handle. */
#ifndef FLAGSHM_EXTENSION_H
#define FLAGSHM_EXTENSION_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "flagshm.h"

#define FLAGSHM_PY_REASONS  (FLAGSHM_GENERAL + 1)
#define FLAGSHM_PY_OUTCOMES 19 /* keywords of record() */
#define FLAGSHM_PY_CACHED   64 /* flags a handle keeps resolved; a power of two */

/* Of one interpreter. */
struct flagshm_py_state {
    PyTypeObject *flags_type, *decision_type;
    PyObject *reasons[FLAGSHM_PY_REASONS]; /* members of flagshm.Reason, once bound */
    PyObject *params;                      /* flagshm._params */
    PyObject *outcome_names[FLAGSHM_PY_OUTCOMES];
};

struct flagshm_py_decision {
    PyObject_HEAD struct flagshm_py_state *state;
    PyObject *value; /* a str, where the value does not fit into d */
    struct flagshm_decision d;
};

/* A resolved flag is found by the address of its name: the str is held, so no other can have that address. Names are mostly
 * constants of the program, one object each. */
struct flagshm_py_cached {
    PyObject *name;
    struct flagshm_ref ref;
};

struct flagshm_py_flags {
    PyObject_HEAD struct flagshm_py_state *state;
    PyObject *instance;
    int open_error, record_error; /* errno */
    unsigned sleepers;            /* threads in flagshm_wait, which must find the handle mapped */
    bool is_closed, is_open;
    struct flagshm fs;
    struct flagshm_py_cached cached[FLAGSHM_PY_CACHED];
};

/* decision.c */
PyTypeObject *flagshm_py_decision_type(PyObject *module);
/* An empty one, to be filled in at once. */
struct flagshm_py_decision *flagshm_py_decision_new(struct flagshm_py_state *state);

/* flags.c */
PyTypeObject *flagshm_py_flags_type(PyObject *module);
/* False, with ValueError, once closed. */
bool flagshm_py_is_usable(const struct flagshm_py_flags *self);

/* Unmaps a closed handle in which nobody sleeps. */
void flagshm_py_release(struct flagshm_py_flags *self);

/* wait.c and outcome.c: methods of Flags */
PyObject *flagshm_py_wait(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *flagshm_py_record(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *flagshm_py_event(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *flagshm_py_record_shadow(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *flagshm_py_shadow_budget(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
bool flagshm_py_outcome_names(struct flagshm_py_state *state);

/* arguments.c */
/* Puts what was given by position and by name into out[0...most); NULL where nothing was. False with TypeError. */
bool flagshm_py_arguments_slowly(const char *function, const char *const *parameters, Py_ssize_t least,
                                 Py_ssize_t most, PyObject *const *args, Py_ssize_t count, PyObject *names,
                                 PyObject **out);
/* The bytes of a flag's name or of an id, which end in NUL and live as long as the object. False with an exception: TypeError;
 * ValueError for a NUL within, and (UnicodeEncodeError) for what is no UTF-8. */
bool flagshm_py_name(PyObject *object, const char **text);
bool flagshm_py_id(PyObject *object, const char **text); /* None: NULL */
/* A whole number of 0...most. False with TypeError or ValueError. */
bool flagshm_py_count(const char *what, PyObject *object, uint64_t most, uint64_t *out);

static inline bool flagshm_py_arguments(const char *function, const char *const *parameters, Py_ssize_t least,
                                        Py_ssize_t most, PyObject *const *args, Py_ssize_t count,
                                        PyObject *names, PyObject **out)
{
    Py_ssize_t i;
    if (FLAGSHM_UNLIKELY_(names != NULL || count != most))
        return flagshm_py_arguments_slowly(function, parameters, least, most, args, count, names, out);
    for (i = 0; i < most; i++)
        out[i] = args[i];
    return true;
}

#endif
