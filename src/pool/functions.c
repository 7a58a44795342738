/* functions.c -- what workers know a function by, and whether that is still
   what it is.

   Does:      pickles a function when it is sent for the first time, or when it
              may have changed since.
   Owns:      the snapshots of a dispatcher.
   Invariant: a function is sent as it is at the moment of the call.  A pickle
              is used again only if nothing that it depends on can have
              changed: each thing in [observed] is the same object still, and
              all of them are immutable or are sent by name.
   Called by: dispatcher.c, results.c.

   [observed] is a list with three items for each thing: who has it, under
   which key, and what it was.  The key tells how to look: an int is a field
   of a function or the content of a cell, a str a name in a dict. */
#include "pool/dispatcher.h"

enum {
    FIELD_CODE,
    FIELD_DEFAULTS,
    FIELD_CLOSURE,
    FIELD_CONTENT, /* of a cell */
    MOST_OBSERVED = 64,
};

/* ---- what a pickle depends on ------------------------------------------- */

/* What is there now: borrowed, NULL if nothing is. */
static PyObject *
look(PyObject *owner, PyObject *key)
{
    if (PyUnicode_CheckExact(key)) {
        return PyDict_GetItemWithError(owner, key);
    }
    switch (PyLong_AsLong(key)) {
    case FIELD_CODE:
        return PyFunction_GET_CODE(owner);
    case FIELD_DEFAULTS:
        return PyFunction_GET_DEFAULTS(owner);
    case FIELD_CLOSURE:
        return PyFunction_GET_CLOSURE(owner);
    default:
        return PyCell_GET(owner);
    }
}

static int
is_unchanged(PyObject *observed)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(observed); i += 3) {
        PyObject *owner = PyList_GET_ITEM(observed, i);
        if (PyFunction_Check(owner)) {
            /* Attributes and keyword defaults could change unseen. */
            PyFunctionObject *f = (PyFunctionObject *)owner;
            if (f->func_kwdefaults != NULL ||
                (f->func_dict != NULL && PyDict_GET_SIZE(f->func_dict) > 0)) {
                return 0;
            }
        }
        PyObject *value = look(owner, PyList_GET_ITEM(observed, i + 1));
        if (value == NULL && PyErr_Occurred()) {
            return -1;
        }
        /* None stands for nothing, too: both are the same object for ever. */
        if ((value == NULL ? Py_None : value) !=
            PyList_GET_ITEM(observed, i + 2)) {
            return 0;
        }
    }
    return 1;
}

static int observe_value(PyObject *observed, PyObject *value, int depth);

/* Adds one thing and what it is; 1, 0 if it may change unseen, or -1. */
static int
observe(PyObject *observed, PyObject *owner, PyObject *key, int depth)
{
    PyObject *value = look(owner, key);
    if (value == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (value == NULL) {
        value = Py_None;
    }
    if (PyList_GET_SIZE(observed) >= 3 * MOST_OBSERVED) {
        return 0;
    }
    if (PyList_Append(observed, owner) < 0 ||
        PyList_Append(observed, key) < 0 ||
        PyList_Append(observed, value) < 0) {
        return -1;
    }
    return observe_value(observed, value, depth);
}

static int
observe_field(PyObject *observed, PyObject *owner, int field, int depth)
{
    PyObject *key = PyLong_FromLong(field);
    if (key == NULL) {
        return -1;
    }
    int status = observe(observed, owner, key, depth);
    Py_DECREF(key);
    return status;
}

/* The globals that [code] and the code in it may use: all its names. */
static int
observe_names(PyObject *observed, PyObject *globals, PyObject *code, int depth)
{
    PyObject *names = ((PyCodeObject *)code)->co_names;
    PyObject *constants = ((PyCodeObject *)code)->co_consts;
    int status = 1;
    for (Py_ssize_t i = 0; status > 0 && i < PyTuple_GET_SIZE(names); i++) {
        status = observe(observed, globals, PyTuple_GET_ITEM(names, i), depth);
    }
    for (Py_ssize_t i = 0; status > 0 && i < PyTuple_GET_SIZE(constants);
         i++) {
        PyObject *constant = PyTuple_GET_ITEM(constants, i);
        if (PyCode_Check(constant)) {
            status = depth == 0 ? 0
                                : observe_names(observed, globals, constant,
                                                depth - 1);
        }
    }
    return status;
}

static int
observe_function(PyObject *observed, PyObject *function, int depth)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(observed); i += 3) {
        if (PyList_GET_ITEM(observed, i) == function) {
            return 1; /* It is being looked at, or was. */
        }
    }
    PyFunctionObject *f = (PyFunctionObject *)function;
    if (f->func_kwdefaults != NULL ||
        (f->func_dict != NULL && PyDict_GET_SIZE(f->func_dict) > 0) ||
        !PyDict_CheckExact(f->func_globals)) {
        return 0;
    }
    int status = observe_field(observed, function, FIELD_CODE, depth);
    if (status > 0) {
        status = observe_field(observed, function, FIELD_DEFAULTS, depth);
    }
    if (status > 0) {
        status = observe_field(observed, function, FIELD_CLOSURE, depth);
    }
    if (status > 0) {
        status = observe_names(observed, f->func_globals, f->func_code, depth);
    }
    return status;
}

/* 1 if [value] cannot change, as far as a pickle shows it, without a change of
   what is observed; 0 if it can; -1. */
static int
observe_value(PyObject *observed, PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None || value == Py_Ellipsis || PyBool_Check(value) ||
        type == &PyLong_Type || type == &PyFloat_Type ||
        type == &PyComplex_Type || type == &PyUnicode_Type ||
        type == &PyBytes_Type || PyCode_Check(value) ||
        PyModule_CheckExact(value)) {
        return 1;
    }
    if (PyCFunction_CheckExact(value)) {
        /* A function of a module, or a method of an object that may change. */
        PyObject *self = PyCFunction_GET_SELF(value);
        return self == NULL || PyModule_CheckExact(self);
    }
    if (PyType_Check(value)) {
        /* Types that no program can change go by name. */
        return (((PyTypeObject *)value)->tp_flags &
                Py_TPFLAGS_IMMUTABLETYPE) != 0;
    }
    if (depth == 0) {
        return 0;
    }
    if (PyFunction_Check(value)) {
        return observe_function(observed, value, depth - 1);
    }
    if (PyCell_Check(value)) {
        return observe_field(observed, value, FIELD_CONTENT, depth - 1);
    }
    if (type == &PyTuple_Type) {
        int status = 1;
        for (Py_ssize_t i = 0; status > 0 && i < PyTuple_GET_SIZE(value);
             i++) {
            status =
                observe_value(observed, PyTuple_GET_ITEM(value, i), depth - 1);
        }
        return status;
    }
    return 0;
}

/* What the snapshot of [callable] is kept under, borrowed: functions and
   classes themselves; for an object with a state, which nobody should keep
   alive here (but for large bytes objects, which need no comparison then),
   what it has in common with others of its kind. */
static PyObject *
key_of(PyObject *callable)
{
    if (PyFunction_Check(callable) || PyType_Check(callable)) {
        return callable;
    }
    if (PyMethod_Check(callable)) {
        return PyMethod_GET_FUNCTION(callable);
    }
    if (PyCFunction_CheckExact(callable)) {
        PyObject *self = PyCFunction_GET_SELF(callable);
        if (self == NULL || PyModule_CheckExact(self)) {
            return callable;
        }
    }
    return (PyObject *)Py_TYPE(callable);
}

/* The list for [callable], NULL if it may change unseen; 0 or -1. */
static int
observe_callable(PyObject *callable, PyObject **observed)
{
    *observed = NULL;
    if (key_of(callable) != callable) {
        return 0;
    }
    *observed = PyList_New(0);
    if (*observed == NULL) {
        return -1;
    }
    int status = observe_value(*observed, callable, 6);
    if (status <= 0) {
        Py_CLEAR(*observed);
    }
    return status < 0 ? -1 : 0;
}

/* ---- snapshots ---------------------------------------------------------- */

static void
clear_snapshot(fpk_dispatcher *self, fpk_snapshot snapshot)
{
    if (snapshot.function != NULL) {
        fpk_dispatch_drop_function(self->d, snapshot.function);
    }
    Py_XDECREF(snapshot.key);
    Py_XDECREF(snapshot.constants);
    Py_XDECREF(snapshot.observed);
}

void
fpk_clear_functions(fpk_dispatcher *self)
{
    while (self->snapshot_count > 0) {
        fpk_snapshot snapshot = self->snapshots[--self->snapshot_count];
        clear_snapshot(self, snapshot);
    }
}

int
fpk_traverse_functions(fpk_dispatcher *self, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < self->snapshot_count; i++) {
        Py_VISIT(self->snapshots[i].key);
        Py_VISIT(self->snapshots[i].constants);
        Py_VISIT(self->snapshots[i].observed);
    }
    return 0;
}

PyObject *
fpk_name_function(fpk_dispatcher *self, uint64_t id)
{
    for (Py_ssize_t i = 0; i < self->snapshot_count; i++) {
        PyObject *key = self->snapshots[i].key;
        if (fpk_function_id(self->snapshots[i].function) != id) {
            continue;
        }
        if (PyFunction_Check(key)) {
            return Py_NewRef(((PyFunctionObject *)key)->func_qualname);
        }
        if (PyCFunction_CheckExact(key)) {
            const PyMethodDef *method = ((PyCFunctionObject *)key)->m_ml;
            return PyUnicode_FromString(method->ml_name);
        }
    }
    return PyUnicode_FromString("the call");
}

static fpk_function *
define_request(fpk_dispatcher *self, fpk_request *request, bool pinned)
{
    fpk_function *function =
        fpk_dispatch_define(self->d, &request->message, request->places,
                            request->packed.data, pinned);
    fpk_request_clear(self, request, function == NULL);
    if (function == NULL) {
        PyErr_NoMemory();
    }
    return function;
}

fpk_function *
fpk_define_object(fpk_dispatcher *self, PyObject *obj)
{
    fpk_request request;
    if (fpk_request_pack(self, obj, FPK_DEFINE, &request) < 0) {
        return NULL;
    }
    return define_request(self, &request, true);
}

/* The buffers of a pickle that are bytes objects, which never change: what is
   the same object need not be compared.  0 or -1. */
static int
find_constants(const fpk_packed *packed, PyObject **constants)
{
    *constants = NULL;
    if (packed->count == 0) {
        return 0;
    }
    *constants = PyTuple_New((Py_ssize_t)packed->count);
    if (*constants == NULL) {
        return -1;
    }
    bool found = false;
    for (uint32_t i = 0; i < packed->count; i++) {
        PyObject *owner = packed->buffers[i].obj;
        if (owner == NULL || !PyBytes_CheckExact(owner)) {
            owner = Py_None;
        }
        found = found || owner != Py_None;
        PyTuple_SET_ITEM(*constants, (Py_ssize_t)i, Py_NewRef(owner));
    }
    if (!found) {
        Py_CLEAR(*constants);
    }
    return 0;
}

/* Is [part] of the pickle, of which the last is the stream, what it was? */
static bool
is_same_part(fpk_dispatcher *self, const fpk_packed *packed,
             const fpk_snapshot *old, uint32_t part)
{
    const void *now = packed->data;
    uint64_t length = packed->length;
    if (part < packed->count) {
        const Py_buffer *view = &packed->buffers[part];
        if (old->constants != NULL && view->obj != NULL &&
            PyTuple_GET_ITEM(old->constants, (Py_ssize_t)part) == view->obj) {
            return true;
        }
        now = view->buf;
        length = (uint64_t)view->len;
    }
    uint64_t its_length;
    const void *before =
        fpk_function_part(self->d, old->function, part, &its_length);
    if (length != its_length) {
        return false;
    }
    if (length == 0) {
        return true;
    }
    bool same;
    Py_BEGIN_ALLOW_THREADS
    same = before != NULL && memcmp(now, before, (size_t)length) == 0;
    Py_END_ALLOW_THREADS
    return same;
}

/* Is the pickle the one that [old] was made of?  The stream first: it is
   short, and where it differs no buffer need be looked at. */
static bool
is_same_pickle(fpk_dispatcher *self, const fpk_packed *packed,
               const fpk_snapshot *old)
{
    if (old->function == NULL) {
        return false;
    }
    const fpk_message *message = fpk_function_message(old->function);
    if (message->form != packed->form || message->buffers != packed->count) {
        return false;
    }
    uint32_t part = packed->count + 1;
    while (part > 0 && is_same_part(self, packed, old, part - 1)) {
        part--;
    }
    return part == 0;
}

/* Puts a snapshot first, in the place of [index]; what was at [index] is the
   caller's, and so is what no longer has a place. */
static fpk_snapshot
put_first(fpk_dispatcher *self, Py_ssize_t index, fpk_snapshot snapshot)
{
    fpk_snapshot out = {NULL, NULL, NULL, NULL};
    if (index < self->snapshot_count) {
        out = self->snapshots[index];
    }
    else if (self->snapshot_count < FPK_FUNCTIONS_KEPT) {
        self->snapshot_count++;
    }
    else {
        index = FPK_FUNCTIONS_KEPT - 1;
        out = self->snapshots[index];
    }
    memmove(self->snapshots + 1, self->snapshots,
            (size_t)index * sizeof snapshot);
    self->snapshots[0] = snapshot;
    return out;
}

static Py_ssize_t
find_snapshot(const fpk_dispatcher *self, PyObject *key)
{
    Py_ssize_t i = 0;
    while (i < self->snapshot_count && self->snapshots[i].key != key) {
        i++;
    }
    return i;
}

/* Pickles [callable]; the snapshot is new, or has the function of [old] if the
   pickle is the same. */
static int
take_snapshot(fpk_dispatcher *self, PyObject *callable,
              const fpk_snapshot *old, fpk_snapshot *snapshot)
{
    fpk_request request;
    /* Looked at before it is pickled: a change in between is seen later. */
    if (observe_callable(callable, &snapshot->observed) < 0 ||
        fpk_request_write(self, self->dumps_function, callable, &request) <
            0) {
        Py_CLEAR(snapshot->observed);
        return -1;
    }
    if (find_constants(&request.packed, &snapshot->constants) < 0) {
        fpk_packed_clear(&request.packed);
    }
    else if (is_same_pickle(self, &request.packed, old)) {
        fpk_packed_clear(&request.packed);
        snapshot->function =
            fpk_dispatch_keep_function(self->d, old->function);
    }
    else if (fpk_request_place(self, FPK_DEFINE, &request) == 0) {
        snapshot->function = define_request(self, &request, false);
    }
    if (snapshot->function == NULL) {
        Py_CLEAR(snapshot->observed);
        Py_CLEAR(snapshot->constants);
        return -1;
    }
    snapshot->key = Py_NewRef(key_of(callable));
    return 0;
}

fpk_function *
fpk_find_function(fpk_dispatcher *self, PyObject *callable)
{
    Py_ssize_t index = find_snapshot(self, key_of(callable));
    fpk_snapshot old = {NULL, NULL, NULL, NULL};
    if (index < self->snapshot_count) {
        fpk_snapshot found = self->snapshots[index];
        /* Owned: a look into a dict may run code of its keys. */
        old.function = fpk_dispatch_keep_function(self->d, found.function);
        if (found.observed != NULL && found.key == callable) {
            PyObject *observed = Py_NewRef(found.observed);
            int same = is_unchanged(observed);
            bool is_there = index < self->snapshot_count &&
                            self->snapshots[index].observed == observed;
            Py_DECREF(observed);
            if (same > 0) {
                if (index > 0 && is_there) {
                    (void)put_first(self, index, found);
                }
                return old.function;
            }
            if (same < 0 || !is_there) {
                found.constants = NULL;
            }
            if (same < 0) {
                clear_snapshot(self, old);
                return NULL;
            }
        }
        old.constants = Py_XNewRef(found.constants);
    }
    fpk_snapshot snapshot = {NULL, NULL, NULL, NULL};
    int status = take_snapshot(self, callable, &old, &snapshot);
    clear_snapshot(self, old);
    if (status < 0) {
        return NULL;
    }
    fpk_function *function =
        fpk_dispatch_keep_function(self->d, snapshot.function);
    /* Pickling ran Python code: the places may have moved. */
    fpk_snapshot out =
        put_first(self, find_snapshot(self, key_of(callable)), snapshot);
    clear_snapshot(self, out);
    return function;
}
