/* build.c -- opcode BUILD: an object gets its state.

   Does:      calls __setstate__, or else updates __dict__ and sets slots.
   Owns:      nothing.
   Invariant: state is off the stack and owned here; the object stays on the
              stack, with a reference of ours for the time of the calls.
   Called by: loop.c. */
#include "decode/decoder.h"

#define MOST_KNOWN_TYPES 4096

/* Attribute names are interned as those of a class body are: equal names of
   many objects are one string. */
static int
update_dict(fpk_decoder *d, PyObject *inst, PyObject *state)
{
    if (!PyDict_Check(state)) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "state is not a dictionary");
    }
    PyObject *dict = PyObject_GetAttr(inst, d->state->str.__dict__);
    if (dict == NULL) {
        return -1;
    }
    bool exact = PyDict_CheckExact(dict);
    Py_ssize_t position = 0;
    PyObject *key, *value;
    int status = 0;
    while (status == 0 && PyDict_Next(state, &position, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        if (PyUnicode_CheckExact(key)) {
            PyUnicode_InternInPlace(&key);
        }
        status = exact ? PyDict_SetItem(dict, key, value)
                       : PyObject_SetItem(dict, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    Py_DECREF(dict);
    return status;
}

static int
set_slots(fpk_decoder *d, PyObject *inst, PyObject *slots)
{
    if (!PyDict_Check(slots)) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "slot state is not a dictionary");
    }
    Py_ssize_t position = 0;
    PyObject *key, *value;
    int status = 0;
    while (status == 0 && PyDict_Next(slots, &position, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        status = PyObject_SetAttr(inst, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    return status;
}

static int
set_default_state(fpk_decoder *d, PyObject *inst, PyObject *state)
{
    PyObject *slots = NULL;
    if (PyTuple_Check(state) && PyTuple_GET_SIZE(state) == 2) {
        slots = PyTuple_GET_ITEM(state, 1);
        state = PyTuple_GET_ITEM(state, 0);
    }
    if (state != Py_None && update_dict(d, inst, state) < 0) {
        return -1;
    }
    return slots == NULL || slots == Py_None ? 0 : set_slots(d, inst, slots);
}

/* Whether no base of [type] defines __setstate__: 1, 0, or -1 on error. */
static int
bases_lack_setstate(fpk_decoder *d, PyTypeObject *type)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *dict = fpk_type_dict((PyTypeObject *)PyTuple_GET_ITEM(mro,
                                                                        i));
        if (dict == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        int found = PyDict_Contains(dict, d->state->str.__setstate__);
        Py_DECREF(dict);
        if (found != 0) {
            return found < 0 ? -1 : 0;
        }
    }
    return mro != NULL;
}

/* Whether look-ups of __setstate__ on instances of [type] can only end in
   their __dict__.  The answer is kept for the type's version tag: any change
   to the class or its bases gives it a new one. */
static int
type_lacks_setstate(fpk_decoder *d, PyTypeObject *type)
{
    fpk_memo *known = &d->state->without_setstate;
    if (type->tp_getattro != PyObject_GenericGetAttr ||
        type->tp_version_tag == 0) {
        return 0;
    }
    const fpk_memo_entry *entry = fpk_memo_find(known, type);
    if (entry != NULL && entry->index == type->tp_version_tag) {
        return 1;
    }
    int lacks = bases_lack_setstate(d, type);
    if (lacks == 1) {
        if (known->used >= MOST_KNOWN_TYPES) {
            fpk_memo_clear(known);
        }
        if (!fpk_memo_set(known, type, type->tp_version_tag)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return lacks;
}

/* 1 found, 0 missing, -1 error.  A miss costs no exception where the type
   tells. */
static int
find_setstate(fpk_decoder *d, PyObject *inst, PyObject **method)
{
    int lacks = type_lacks_setstate(d, Py_TYPE(inst));
    if (lacks < 0) {
        return -1;
    }
    if (lacks == 1 && Py_TYPE(inst)->tp_dictoffset == 0) {
        return 0;
    }
    if (lacks == 1) {
        PyObject *dict = PyObject_GenericGetDict(inst, NULL);
        if (dict == NULL) {
            return -1;
        }
        int found = PyDict_Contains(dict, d->state->str.__setstate__);
        Py_DECREF(dict);
        if (found <= 0) {
            return found;
        }
    }
    return PyObject_GetOptionalAttr(inst, d->state->str.__setstate__, method);
}

int
fpk_load_build(fpk_decoder *d)
{
    if (fpk_height(d) < 2) {
        return fpk_underflow(d);
    }
    PyObject *state = *--d->sp;
    PyObject *inst = Py_NewRef(d->sp[-1]);
    PyObject *method;
    int status = -1;
    int found = find_setstate(d, inst, &method);
    if (found > 0) {
        PyObject *answer = PyObject_CallOneArg(method, state);
        status = answer == NULL ? -1 : 0;
        Py_XDECREF(answer);
        Py_DECREF(method);
    }
    else if (found == 0) {
        status = set_default_state(d, inst, state);
    }
    Py_DECREF(state);
    Py_DECREF(inst);
    return status;
}
