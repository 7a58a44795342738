/* containers.c -- opcodes for tuple, list, dict, set and frozenset.

   Does:      builds containers from what lies on the stack.
   Owns:      nothing.
   Invariant: items leave the stack before any Python code can run, and are
              owned here until the container has them.
   Called by: loop.c. */
#include "decode/decoder.h"

/* Moves the items from [items] to the top into a new tuple. */
static PyObject *
pop_tuple(fpk_decoder *d, PyObject **items)
{
    Py_ssize_t size = d->sp - items;
    PyObject *tuple = PyTuple_New(size);
    if (tuple != NULL) {
        for (Py_ssize_t i = 0; i < size; i++) {
            PyTuple_SET_ITEM(tuple, i, items[i]);
        }
        d->sp = items;
    }
    return tuple;
}

int
fpk_load_tuple(fpk_decoder *d, Py_ssize_t size)
{
    if (fpk_height(d) < size) {
        return fpk_underflow(d);
    }
    return fpk_push(d, pop_tuple(d, d->sp - size));
}

int
fpk_load_marked_tuple(fpk_decoder *d)
{
    PyObject **items;
    if (fpk_pop_mark(d, &items) < 0) {
        return -1;
    }
    return fpk_push(d, pop_tuple(d, items));
}

int
fpk_load_list(fpk_decoder *d)
{
    PyObject **items;
    if (fpk_pop_mark(d, &items) < 0) {
        return -1;
    }
    Py_ssize_t size = d->sp - items;
    PyObject *list = PyList_New(size);
    if (list != NULL) {
        for (Py_ssize_t i = 0; i < size; i++) {
            PyList_SET_ITEM(list, i, items[i]);
        }
        d->sp = items;
    }
    return fpk_push(d, list);
}

/* The items from [items] to the top stay on the stack. */
static int
set_pairs(fpk_decoder *d, PyObject *dict, PyObject **items, Py_ssize_t count)
{
    bool exact = PyDict_CheckExact(dict);
    for (Py_ssize_t i = 0; i + 1 < count; i += 2) {
        if (fpk_check_key(d, items[i]) < 0) {
            return -1;
        }
        int status = exact ? PyDict_SetItem(dict, items[i], items[i + 1])
                           : PyObject_SetItem(dict, items[i], items[i + 1]);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

int
fpk_load_dict(fpk_decoder *d)
{
    PyObject **items;
    if (fpk_pop_mark(d, &items) < 0) {
        return -1;
    }
    if ((d->sp - items) % 2 != 0) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "odd number of items for DICT");
    }
    PyObject *dict = PyDict_New();
    if (dict == NULL || set_pairs(d, dict, items, d->sp - items) < 0) {
        Py_XDECREF(dict);
        return -1;
    }
    fpk_drop_items(d, items);
    return fpk_push(d, dict);
}

int
fpk_load_frozenset(fpk_decoder *d)
{
    PyObject **items;
    if (fpk_pop_mark(d, &items) < 0) {
        return -1;
    }
    for (PyObject **item = items; item < d->sp; item++) {
        if (fpk_check_key(d, *item) < 0) {
            return -1;
        }
    }
    PyObject *tuple = pop_tuple(d, items);
    if (tuple == NULL) {
        return -1;
    }
    PyObject *set = PyFrozenSet_New(tuple);
    Py_DECREF(tuple);
    return fpk_push(d, set);
}

/* ---- adding to what is on the stack ------------------------------------- */

/* Something that only behaves like a list: extend if it has one, else append
   for each item (PEP 307). */
static int
extend_other(fpk_decoder *d, PyObject *target, PyObject **items,
             Py_ssize_t count)
{
    PyObject *method;
    int found = PyObject_GetOptionalAttr(target, d->state->str.extend,
                                         &method);
    if (found < 0) {
        return -1;
    }
    if (found) {
        PyObject *list = PyList_New(count);
        PyObject *answer = NULL;
        if (list != NULL) {
            for (Py_ssize_t i = 0; i < count; i++) {
                PyList_SET_ITEM(list, i, Py_NewRef(items[i]));
            }
            answer = PyObject_CallOneArg(method, list);
            Py_DECREF(list);
        }
        Py_DECREF(method);
        Py_XDECREF(answer);
        return answer == NULL ? -1 : 0;
    }
    method = PyObject_GetAttr(target, d->state->str.append);
    if (method == NULL) {
        return -1;
    }
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < count; i++) {
        PyObject *answer = PyObject_CallOneArg(method, items[i]);
        Py_XDECREF(answer);
        status = answer == NULL ? -1 : 0;
    }
    Py_DECREF(method);
    return status;
}

/* Appends the items from [items] on to the object below them. */
static int
append_items(fpk_decoder *d, PyObject **items)
{
    PyObject *target = items[-1]; /* stays on the stack, which owns it */
    Py_ssize_t count = d->sp - items;
    if (PyList_CheckExact(target)) {
        if (fpk_list_extend_stealing(target, items, count) < 0) {
            return -1;
        }
        d->sp = items;
        return 0;
    }
    if (extend_other(d, target, items, count) < 0) {
        return -1;
    }
    fpk_drop_items(d, items);
    return 0;
}

int
fpk_load_append(fpk_decoder *d)
{
    if (fpk_height(d) < 2) {
        return fpk_underflow(d);
    }
    return append_items(d, d->sp - 1);
}

/* Below the mark there must be something to add to. */
static int
pop_mark_above_target(fpk_decoder *d, PyObject ***items)
{
    if (fpk_pop_mark(d, items) < 0) {
        return -1;
    }
    return *items <= d->fence ? fpk_underflow(d) : 0;
}

int
fpk_load_appends(fpk_decoder *d)
{
    PyObject **items;
    if (pop_mark_above_target(d, &items) < 0) {
        return -1;
    }
    return items == d->sp ? 0 : append_items(d, items);
}

/* True if a dict on the stack is the state of the object below, or what its
   slots get. */
static bool
is_followed_by_build(const fpk_decoder *d)
{
    Py_ssize_t ahead = d->end - d->p;
    return (ahead >= 1 && d->p[0] == FPK_OP_BUILD) ||
           (ahead >= 2 && d->p[0] == FPK_OP_TUPLE2 &&
            d->p[1] == FPK_OP_BUILD);
}

/* True if nothing but the stack knows the dict. */
static bool
is_new_dict(PyObject *obj)
{
    return PyDict_CheckExact(obj) && PyDict_GET_SIZE(obj) == 0 &&
           Py_REFCNT(obj) == 1;
}

static int
set_items(fpk_decoder *d, PyObject **items)
{
    Py_ssize_t count = d->sp - items;
    /* With limits each opcode is checked on its own. */
    if (d->guard == NULL && is_followed_by_build(d) &&
        is_new_dict(items[-1])) {
        int done = fpk_build_from_items(d, items);
        if (done != 0) {
            return done < 0 ? -1 : 0;
        }
    }
    if (count % 2 != 0) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "odd number of items for SETITEMS");
    }
    if (set_pairs(d, items[-1], items, count) < 0) {
        return -1;
    }
    fpk_drop_items(d, items);
    return 0;
}

int
fpk_load_setitem(fpk_decoder *d)
{
    if (fpk_height(d) < 3) {
        return fpk_underflow(d);
    }
    return set_items(d, d->sp - 2);
}

int
fpk_load_setitems(fpk_decoder *d)
{
    PyObject **items;
    if (pop_mark_above_target(d, &items) < 0) {
        return -1;
    }
    return set_items(d, items);
}

int
fpk_load_additems(fpk_decoder *d)
{
    PyObject **items;
    if (pop_mark_above_target(d, &items) < 0) {
        return -1;
    }
    PyObject *target = items[-1];
    Py_ssize_t count = d->sp - items;
    PyObject *add = NULL;
    int status = 0;
    if (count == 0) {
        return 0; /* whatever it is */
    }
    if (!PySet_CheckExact(target)) {
        add = PyObject_GetAttr(target, d->state->str.add);
        if (add == NULL) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; status == 0 && i < count; i++) {
        if (fpk_check_key(d, items[i]) < 0) {
            status = -1;
        }
        else if (add == NULL) {
            status = PySet_Add(target, items[i]);
        }
        else {
            PyObject *answer = PyObject_CallOneArg(add, items[i]);
            Py_XDECREF(answer);
            status = answer == NULL ? -1 : 0;
        }
    }
    Py_XDECREF(add);
    if (status == 0) {
        fpk_drop_items(d, items);
    }
    return status;
}
