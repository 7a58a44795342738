/* methods.c -- bound methods, descriptors of C, super objects.

   Does:      writes a bound method as an attribute of its object where the
              attribute is there and the same, else as a call of
              types.MethodType; a descriptor as an item of its class's dict.
   Owns:      nothing.
   Invariant: whatever is written as a look-up by name leads to the object
              here.
   Called by: handled.c. */
#include "byvalue/room.h"

/* The attribute called [name] of [type] or of one of its bases as it stands in
   the dict: 1, 0 or -1; a new reference. */
static int
find_in_mro(PyTypeObject *type, PyObject *name, PyObject **result)
{
    PyObject *mro = type->tp_mro;
    *result = NULL;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *dict =
            fpk_type_dict((PyTypeObject *)PyTuple_GET_ITEM(mro, i));
        int found = dict == NULL ? 0 : PyDict_GetItemRef(dict, name, result);
        Py_XDECREF(dict);
        if (found != 0) {
            return found;
        }
    }
    return 0;
}

/* 1 if getattr([self], [name]) binds [function], 0 if not, -1 on error.  No
   code of the user runs: a class that looks attributes up itself has none. */
static int
is_attribute(PyObject *self, PyObject *name, PyObject *function)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject *found = NULL, *dict = NULL;
    int status = 0;
    if (PyType_Check(self)) {
        status = find_in_mro((PyTypeObject *)self, name, &found);
        if (status > 0) {
            bool same = Py_IS_TYPE(found, &PyClassMethod_Type);
            PyObject *inner =
                same ? PyObject_GetAttrString(found, "__func__") : NULL;
            status = inner == function;
            Py_XDECREF(inner);
            Py_DECREF(found);
            return PyErr_Occurred() ? -1 : status;
        }
        /* A method of the metaclass. */
        if (status == 0) {
            status = find_in_mro(type, name, &found);
        }
        Py_XDECREF(found);
        return status > 0 ? found == function : status;
    }
    if (type->tp_getattro != PyObject_GenericGetAttr) {
        return 0;
    }
    status = find_in_mro(type, name, &found);
    Py_XDECREF(found);
    if (status <= 0 || found != function) {
        return status < 0 ? -1 : 0;
    }
    dict = PyObject_GenericGetDict(self, NULL);
    if (dict == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 1;
    }
    int hidden = PyDict_Contains(dict, name);
    Py_DECREF(dict);
    return hidden < 0 ? -1 : !hidden;
}

int
fpk_save_method(fpk_encoder *e, PyObject *obj)
{
    PyObject *self = PyMethod_GET_SELF(obj);
    PyObject *function = PyMethod_GET_FUNCTION(obj);
    PyObject *name, *value;
    if (PyObject_GetOptionalAttr(function, e->state->str.__name__, &name) <
        0) {
        return FPK_ERROR;
    }
    int found = name == NULL || !PyUnicode_Check(name)
                    ? 0
                    : is_attribute(self, name, function);
    if (found > 0) {
        value = Py_BuildValue("(O(OO))", e->state->builtins_getattr, self,
                              name);
    }
    else {
        value = found < 0 ? NULL
                          : Py_BuildValue("(O(OO))", &PyMethod_Type, function,
                                          self);
    }
    Py_XDECREF(name);
    return fpk_save_value(e, obj, value);
}

int
fpk_save_descriptor(fpk_encoder *e, PyObject *obj)
{
    PyObject *cls = (PyObject *)PyDescr_TYPE(obj);
    PyObject *name = PyDescr_NAME(obj);
    PyObject *found = NULL, *value = NULL, *dict = NULL;
    /* getattr reads better, and builtins' descriptors have always gone so;
       but the metaclass, or binding, may come between. */
    if (Py_IS_TYPE(cls, &PyType_Type) &&
        PyObject_GetOptionalAttr(cls, name, &found) < 0) {
        return FPK_ERROR;
    }
    if (found == obj) {
        value =
            Py_BuildValue("(O(OO))", e->state->builtins_getattr, cls, name);
        goto done;
    }
    dict = fpk_type_dict((PyTypeObject *)cls);
    Py_XDECREF(found);
    found = NULL;
    if (dict == NULL || PyDict_GetItemRef(dict, name, &found) < 0) {
        goto done;
    }
    if (found != obj) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R: it is not the attribute %R of %R", obj,
                     name, cls);
        goto done;
    }
    PyObject *proxy =
        fpk_make_call(e->state, Py_NewRef(e->state->builtins_vars),
                      PyTuple_Pack(1, cls));
    value = proxy == NULL
                ? NULL
                : Py_BuildValue("(O(NO))", e->state->operator_getitem, proxy,
                                name);
done:
    Py_XDECREF(found);
    Py_XDECREF(dict);
    return fpk_save_value(e, obj, value);
}

/* super's own attributes go before those of what it stands for only when they
   are looked up as those of any object. */
static PyObject *
super_attribute(PyObject *obj, const char *text)
{
    PyObject *name = PyUnicode_FromString(text);
    PyObject *value = name == NULL ? NULL : PyObject_GenericGetAttr(obj, name);
    Py_XDECREF(name);
    return value;
}

int
fpk_save_super(fpk_encoder *e, PyObject *obj)
{
    PyObject *cls = super_attribute(obj, "__thisclass__");
    PyObject *self = super_attribute(obj, "__self__");
    PyObject *value = NULL;
    if (cls != NULL && self != NULL && cls != Py_None) {
        value = self == Py_None
                    ? Py_BuildValue("(O(O))", &PySuper_Type, cls)
                    : Py_BuildValue("(O(OO))", &PySuper_Type, cls, self);
    }
    else if (cls == Py_None) {
        PyErr_SetString(PyExc_TypeError,
                        "cannot pickle 'super' object: it was never bound");
    }
    Py_XDECREF(cls);
    Py_XDECREF(self);
    return fpk_save_value(e, obj, value);
}
