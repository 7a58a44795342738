/* namedtuple.c -- named tuples whose __new__ takes something else than the
   fields.

   Does:      writes an instance of such a class as protocols 0 and 1 do, by
              the __new__ of tuple, in place of a call of its own.
   Owns:      nothing.
   Invariant: a class that the receiver imports keeps the reduction that the
              standard module gives it.
   Called by: encoder, for what object.__reduce_ex__ gives for a tuple. */
#include "byvalue/room.h"

/* 1 if the class number [i] of [type]'s mro has its _fields. */
static int
has_fields(PyTypeObject *type, Py_ssize_t i)
{
    PyObject *dict =
        fpk_type_dict((PyTypeObject *)PyTuple_GET_ITEM(type->tp_mro, i));
    PyObject *name = PyUnicode_FromString("_fields");
    int answer =
        dict == NULL || name == NULL ? -1 : PyDict_Contains(dict, name);
    Py_XDECREF(dict);
    Py_XDECREF(name);
    return answer;
}

/* 1 if [type] derives from a named tuple and has another __new__, which need
   not take the fields that __getnewargs__ gives.  The class may have come in a
   stream, with code of its own. */
static int
has_other_new(fpk_encoder *e, PyTypeObject *type)
{
    Py_ssize_t i = 0, j = 0;
    PyObject *function = fpk_find_in_mro(type, e->state->str.__new__, &i);
    Py_XDECREF(function);
    function = function == NULL
                   ? NULL
                   : fpk_find_in_mro(type, e->state->str.__getnewargs__, &j);
    if (function == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_DECREF(function);
    return i < j ? has_fields(type, j) : 0;
}

/* True if [args] are the class of [tuple] and its items. */
static bool
are_items(PyObject *args, PyObject *tuple)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    if (!PyTuple_CheckExact(args) || PyTuple_GET_SIZE(args) != size + 1 ||
        PyTuple_GET_ITEM(args, 0) != (PyObject *)Py_TYPE(tuple)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (PyTuple_GET_ITEM(args, i + 1) != PyTuple_GET_ITEM(tuple, i)) {
            return false;
        }
    }
    return true;
}

PyObject *
fpk_reduce_tuple(fpk_encoder *e, PyObject *obj, PyObject *value)
{
    PyObject *type = (PyObject *)Py_TYPE(obj);
    if (!e->by_value || !PyTuple_CheckExact(value) ||
        PyTuple_GET_SIZE(value) < 2 ||
        PyTuple_GET_ITEM(value, 0) != e->state->copyreg_newobj ||
        !are_items(PyTuple_GET_ITEM(value, 1), obj)) {
        return value;
    }
    int other = has_other_new(e, Py_TYPE(obj));
    int by_value = other > 0 ? fpk_goes_by_value(e, type) : other;
    if (by_value == 0) {
        return value;
    }
    PyObject *fields =
        by_value < 0 ? NULL : PyTuple_GetSlice(obj, 0, PyTuple_GET_SIZE(obj));
    PyObject *rest = PyTuple_GetSlice(value, 2, PyTuple_GET_SIZE(value));
    PyObject *maker =
        fields == NULL ? NULL : fpk_new_name("copyreg", "_reconstructor");
    PyObject *call =
        maker == NULL || rest == NULL
            ? NULL
            : Py_BuildValue("(O(OOO))", maker, type, &PyTuple_Type, fields);
    PyObject *result = call == NULL ? NULL : PySequence_Concat(call, rest);
    Py_XDECREF(fields);
    Py_XDECREF(rest);
    Py_XDECREF(maker);
    Py_XDECREF(call);
    Py_DECREF(value);
    return result;
}
