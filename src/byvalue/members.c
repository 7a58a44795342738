/* members.c -- what of a class's dict travels, and when.

   Does:      sorts the members of a class into those that it is created with,
              those that are set on it afterwards, and those that its creation
              makes anew.
   Owns:      nothing.
   Invariant: a member that the class is created with cannot lead back to the
              class before it exists.
   Called by: class.c. */
#include "byvalue/room.h"

const char *const fpk_early_names[FPK_EARLY_COUNT] = {
    "__annotations__",
    "__orig_bases__",
    "__type_params__",
};

static bool
is_name(PyObject *key, const char *name)
{
    return PyUnicode_CompareWithASCIIString(key, name) == 0;
}

bool
fpk_is_plain_data(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None || type == &PyUnicode_Type || type == &PyLong_Type ||
        type == &PyBool_Type || type == &PyFloat_Type ||
        type == &PyBytes_Type) {
        return true;
    }
    if (type != &PyTuple_Type) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++) {
        if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(value, i)) &&
            !PyLong_CheckExact(PyTuple_GET_ITEM(value, i))) {
            return false;
        }
    }
    return true;
}

/* Names of slots, however they were given. */
static bool
is_plain_slots(PyObject *value)
{
    if (PyUnicode_CheckExact(value) || fpk_is_plain_data(value)) {
        return true;
    }
    if (PyList_CheckExact(value)) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); i++) {
            if (!PyUnicode_CheckExact(PyList_GET_ITEM(value, i))) {
                return false;
            }
        }
        return true;
    }
    if (PyDict_CheckExact(value)) {
        Py_ssize_t position = 0;
        PyObject *key, *doc;
        while (PyDict_Next(value, &position, &key, &doc)) {
            if (!PyUnicode_CheckExact(key) || !fpk_is_plain_data(doc)) {
                return false;
            }
        }
        return true;
    }
    return false;
}

/* 1 if [value] is a function by value, or a property, classmethod or
   staticmethod of such functions. */
static int
is_method(fpk_encoder *e, PyObject *value)
{
    if (PyFunction_Check(value)) {
        return fpk_goes_by_value(e, value);
    }
    PyObject *parts = fpk_wrapper_parts(value);
    if (parts == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int answer = 1;
    for (Py_ssize_t i = 0; answer > 0 && i < PyTuple_GET_SIZE(parts); i++) {
        PyObject *part = PyTuple_GET_ITEM(parts, i);
        answer = PyFunction_Check(part) ? fpk_goes_by_value(e, part)
                                        : fpk_is_plain_data(part);
    }
    Py_DECREF(parts);
    return answer;
}

static enum fpk_member
classify_slots(fpk_encoder *e, PyObject *cls, PyObject *value)
{
    if (is_plain_slots(value)) {
        return FPK_MEMBER_DATA;
    }
    PyErr_Format(e->state->PicklingError,
                 "Can't pickle %R by value: its __slots__ are a %.200s, not a "
                 "tuple, list or dict of names",
                 cls, Py_TYPE(value)->tp_name);
    return FPK_MEMBER_ERROR;
}

int
fpk_classify_member(fpk_encoder *e, PyObject *cls, PyObject *key,
                    PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (!PyUnicode_CheckExact(key)) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R by value: its dict has the key %R", cls,
                     key);
        return FPK_MEMBER_ERROR;
    }
    if ((type == &PyGetSetDescr_Type || type == &PyMemberDescr_Type) &&
        PyDescr_TYPE(value) == (PyTypeObject *)cls) {
        return FPK_MEMBER_SKIP;
    }
    bool special = PyUnicode_GET_LENGTH(key) > 5 &&
                   PyUnicode_READ_CHAR(key, 0) == '_';
    if (special) {
        if (is_name(key, "__slotnames__") || is_name(key, "_abc_impl") ||
            (is_name(key, "__doc__") && value == Py_None) ||
            (is_name(key, "__abstractmethods__") &&
             PyFrozenSet_CheckExact(value) && PySet_GET_SIZE(value) == 0)) {
            return FPK_MEMBER_SKIP;
        }
        for (int i = 0; i < FPK_EARLY_COUNT; i++) {
            if (is_name(key, fpk_early_names[i])) {
                return FPK_MEMBER_EARLY + i;
            }
        }
        if (is_name(key, "__slots__")) {
            return classify_slots(e, cls, value);
        }
    }
    if (e->persistent_id == NULL && fpk_is_plain_data(value)) {
        return FPK_MEMBER_DATA;
    }
    if (special && is_name(key, "__module__")) {
        return FPK_MEMBER_DATA;
    }
    /* Hooks of the Pickler are asked for functions when the class exists. */
    if (e->persistent_id == NULL && e->reducer_override == NULL) {
        int method = is_method(e, value);
        if (method != 0) {
            return method < 0 ? FPK_MEMBER_ERROR : FPK_MEMBER_METHOD;
        }
    }
    return FPK_MEMBER_LATE;
}
