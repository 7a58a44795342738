/* build.c -- opcode BUILD: an object gets its state.

   Does:      calls __setstate__, or else updates __dict__ and sets slots.
              Where the state would be a dict only to be merged into the
              object's own, or into its slots, the object gets its attributes
              from the stack.
   Owns:      nothing.
   Invariant: state is off the stack and owned here; the object stays on the
              stack, with a reference of ours for the time of the calls.
   Called by: loop.c. */
#include "decode/decoder.h"

#define MOST_KNOWN_TYPES 4096

/* An attribute is missing or cannot be set, and no code of the class said so:
   the state is of another class.  -1. */
static int
refuse_state(fpk_decoder *d, PyObject *inst)
{
    PyTypeObject *type = Py_TYPE(inst);
    if (type->tp_getattro != PyObject_GenericGetAttr ||
        type->tp_setattro != PyObject_GenericSetAttr ||
        !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyObject *error = fpk_get_raised_exception();
    int status = fpk_decode_error(d, d->state->InvalidStateError, "%S", error);
    Py_DECREF(error);
    return status;
}

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
        return refuse_state(d, inst);
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
        if (status < 0) {
            status = refuse_state(d, inst);
        }
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

/* ---- state that never becomes a dict ------------------------------------ */

/* What attributes of an instance may collide with: one bit for the hash of
   each name that a data descriptor of the class or its bases has. */
#define EVERY_NAME UINT32_MAX

static uint32_t
name_bit(PyObject *name)
{
    return (uint32_t)1 << ((size_t)PyObject_Hash(name) % 31);
}

static bool
is_dunder(PyObject *name)
{
    return PyUnicode_GET_LENGTH(name) >= 2 &&
           PyUnicode_READ_CHAR(name, 0) == '_' &&
           PyUnicode_READ_CHAR(name, 1) == '_';
}

/* The bits of one class; EVERY_NAME if its __dict__ is not the usual one. */
static uint32_t
descriptor_bits(const fpk_state *state, PyObject *dict)
{
    uint32_t bits = 0;
    Py_ssize_t position = 0;
    PyObject *name, *value;
    while (PyDict_Next(dict, &position, &name, &value)) {
        if (!PyUnicode_CheckExact(name)) {
            return EVERY_NAME;
        }
        if (!is_dunder(name)) {
            bits |= Py_TYPE(value)->tp_descr_set == NULL ? 0 : name_bit(name);
        }
        else if (!Py_IS_TYPE(value, &PyGetSetDescr_Type) &&
                 PyUnicode_Compare(name, state->str.__dict__) == 0) {
            return EVERY_NAME;
        }
    }
    return bits;
}

static uint32_t
find_descriptors(fpk_decoder *d, PyTypeObject *type)
{
    if (type->tp_dictoffset == 0 || type->tp_version_tag == 0 ||
        type->tp_getattro != PyObject_GenericGetAttr ||
        type->tp_mro == NULL) {
        return EVERY_NAME;
    }
    fpk_memo *known = &d->state->descriptors;
    const fpk_memo_entry *entry = fpk_memo_find(known, type);
    if (entry != NULL && entry->index >> 32 == type->tp_version_tag) {
        return (uint32_t)entry->index;
    }
    uint32_t bits = 0;
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        PyObject *dict = fpk_type_dict(base);
        if (dict == NULL) {
            PyErr_Clear(); /* nothing is known of this class */
            return EVERY_NAME;
        }
        if (base != &PyBaseObject_Type) {
            bits |= descriptor_bits(d->state, dict);
        }
        Py_DECREF(dict);
    }
    if (known->used >= MOST_KNOWN_TYPES) {
        fpk_memo_clear(known);
    }
    /* Without memory the answer is found again next time. */
    (void)fpk_memo_set(known, type,
                       (uint64_t)type->tp_version_tag << 32 | bits);
    return bits;
}

static bool
are_names(PyObject **items, PyObject **end)
{
    for (; items < end; items += 2) {
        if (!PyUnicode_CheckExact(*items)) {
            return false;
        }
    }
    return true;
}

/* Whether setting each of the names is the same as storing it in __dict__. */
static bool
are_plain_attributes(uint32_t descriptors, PyObject **items, PyObject **end)
{
    for (; items < end; items += 2) {
        if (is_dunder(*items) || (descriptors & name_bit(*items)) != 0) {
            return false;
        }
    }
    return true;
}

static int
set_attributes(PyObject *inst, PyObject **items, PyObject **end)
{
    int status = 0;
    for (PyObject **item = items; status == 0 && item < end; item += 2) {
        PyObject *name = Py_NewRef(item[0]);
        PyUnicode_InternInPlace(&name);
        status = PyObject_GenericSetAttr(inst, name, item[1]);
        Py_DECREF(name);
    }
    return status;
}

int
fpk_build_from_items(fpk_decoder *d, PyObject **items)
{
    /* dict, or (None, dict) for slots; then BUILD. */
    PyObject **end = d->sp;
    bool slots = *d->p == FPK_OP_TUPLE2;
    PyObject **state = slots ? items - 2 : items - 1;
    if (state - 1 < d->fence || (end - items) % 2 != 0 ||
        !are_names(items, end) || (slots && *state != Py_None)) {
        return 0;
    }
    PyObject *inst = state[-1];
    if (slots && Py_TYPE(inst)->tp_setattro != PyObject_GenericSetAttr) {
        return 0;
    }
    if (!slots) {
        uint32_t descriptors = find_descriptors(d, Py_TYPE(inst));
        if (descriptors == EVERY_NAME ||
            !are_plain_attributes(descriptors, items, end)) {
            return 0;
        }
    }
    PyObject *method;
    Py_INCREF(inst);
    int found =
        PyObject_GetOptionalAttr(inst, d->state->str.__setstate__, &method);
    if (found != 0) {
        Py_XDECREF(method);
        Py_DECREF(inst);
        return found < 0 ? -1 : 0;
    }
    int status = set_attributes(inst, items, end);
    if (status < 0) {
        status = refuse_state(d, inst);
    }
    Py_DECREF(inst);
    if (status < 0) {
        return -1;
    }
    fpk_drop_items(d, state);
    d->p += slots ? 2 : 1;
    return 1;
}

/* ---- BUILD -------------------------------------------------------------- */

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
    int found =
        PyObject_GetOptionalAttr(inst, d->state->str.__setstate__, &method);
    if (found > 0) {
        PyObject *answer = PyObject_CallOneArg(method, state);
        status = answer == NULL ? -1 : 0;
        Py_XDECREF(answer);
        Py_DECREF(method);
    }
    else if (found == 0) {
        status = set_default_state(d, inst, state);
    }
    if (FPK_UNLIKELY(status < 0)) {
        (void)fpk_note_failure(d, Py_None, inst);
    }
    Py_DECREF(state);
    Py_DECREF(inst);
    return status;
}
