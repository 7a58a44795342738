/* exceptions.c -- exceptions.

   Does:      writes exceptions with their cause and context, and those that
              their class cannot make from their args as the base in C makes
              them.
   Owns:      nothing.
   Invariant: a class with a reduction or __setstate__ of its own is asked as
              in the standard module.
   Called by: handled.c.

   The standard module calls the class with args.  That fails at the receiver
   if __init__ wants other arguments than it handed to Exception, or runs it
   with the wrong ones.  The attributes travel anyway, so __init__ of a class
   by value need not run at all. */
#include "byvalue/room.h"

/* What [type] has as [name] comes from C: 1, 0, or -1 on error. */
static int
is_from_c(PyTypeObject *type, const char *name)
{
    Py_ssize_t i = 0;
    PyObject *key = PyUnicode_InternFromString(name);
    PyObject *value = key == NULL ? NULL : fpk_find_in_mro(type, key, &i);
    Py_XDECREF(key);
    if (value == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int answer = Py_IS_TYPE(value, &PyMethodDescr_Type) ||
                 Py_IS_TYPE(value, &PyWrapperDescr_Type) ||
                 Py_IS_TYPE(value, &PyCFunction_Type);
    Py_DECREF(value);
    return answer;
}

/* True if no code of Python says how [type] is pickled. */
static int
has_plain_reduction(PyTypeObject *type)
{
    static const char *const names[] = {"__reduce_ex__", "__reduce__",
                                        "__setstate__"};
    int answer = 1;
    for (size_t i = 0; answer > 0 && i < Py_ARRAY_LENGTH(names); i++) {
        answer = is_from_c(type, names[i]);
    }
    return answer;
}

/* True if __init__ of [type] can be called with [given] arguments. */
static int
takes_arguments(fpk_encoder *e, PyTypeObject *type, Py_ssize_t given)
{
    Py_ssize_t i = 0;
    PyObject *init = fpk_find_in_mro(type, e->state->str.__init__, &i);
    if (init == NULL) {
        return PyErr_Occurred() ? -1 : 1;
    }
    int answer = 1;
    if (PyFunction_Check(init)) {
        PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(init);
        answer = !fpk_needs_more_arguments(init, given + 1) &&
                 (code->co_argcount >= given + 1 ||
                  (code->co_flags & CO_VARARGS) != 0);
    }
    Py_DECREF(init);
    return answer;
}

/* 1 if the class must not be called. */
static int
goes_around_class(fpk_encoder *e, PyObject *obj, PyTypeObject *maker,
                  PyObject *args)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type->tp_init == maker->tp_init && type->tp_new == maker->tp_new) {
        return 0;
    }
    int by_value = fpk_goes_by_value(e, (PyObject *)type);
    if (by_value != 0) {
        return by_value;
    }
    int takes = takes_arguments(e, type, PyTuple_GET_SIZE(args));
    return takes < 0 ? -1 : !takes;
}

/* ---- attributes --------------------------------------------------------- */

static int
copy_attribute(PyObject *state, PyObject *obj, PyObject *name)
{
    PyObject *value;
    int found = PyObject_GetOptionalAttr(obj, name, &value);
    if (found <= 0) {
        return found;
    }
    int status = value == Py_None ? 0 : PyDict_SetItem(state, name, value);
    Py_DECREF(value);
    return status;
}

/* Whether the member [name] of [base] is sent though the reduction says
   nothing of it: slots of classes, and the name that was not found. */
static bool
is_left_out(PyObject *base, PyObject *name)
{
    return PyType_HasFeature((PyTypeObject *)base, Py_TPFLAGS_HEAPTYPE) ||
           PyUnicode_CompareWithASCIIString(name, "name") == 0;
}

/* Slots; if the class is gone around, also what __init__ of the bases in C
   would have set. */
static int
add_members(PyObject *state, PyObject *obj, bool around)
{
    PyObject *mro = Py_TYPE(obj)->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        if (base == PyExc_BaseException) {
            break;
        }
        PyObject *dict = fpk_type_dict((PyTypeObject *)base);
        Py_ssize_t position = 0;
        PyObject *name, *value;
        int status = dict == NULL ? -1 : 0;
        while (status == 0 && PyDict_Next(dict, &position, &name, &value)) {
            if (Py_IS_TYPE(value, &PyMemberDescr_Type) &&
                !fpk_member_is_readonly(value) &&
                (around || is_left_out(base, name))) {
                /* The descriptor knows a private name as it is. */
                status = copy_attribute(state, obj, name);
            }
        }
        Py_XDECREF(dict);
        if (status < 0) {
            return -1;
        }
    }
    if (!around) {
        return 0;
    }
    PyObject *name = PyUnicode_InternFromString("args");
    int status = name == NULL ? -1 : copy_attribute(state, obj, name);
    Py_XDECREF(name);
    return status;
}

/* True if [value] is data that certainly can be pickled, no deeper than
   [depth]; [root] is what is being pickled anyway. */
static bool
is_plain_data(PyObject *value, PyObject *root, int depth)
{
    if (value == root || value == Py_None || PyUnicode_CheckExact(value) ||
        PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
        PyBool_Check(value) || PyBytes_CheckExact(value)) {
        return true;
    }
    if (depth == 0) {
        return false;
    }
    bool plain = false;
    if (PyDict_CheckExact(value)) {
        PyObject *key, *item;
        Py_ssize_t position = 0;
        plain = true;
        while (plain && PyDict_Next(value, &position, &key, &item)) {
            plain = is_plain_data(key, root, depth - 1) &&
                    is_plain_data(item, root, depth - 1);
        }
    }
    else if (PyTuple_CheckExact(value) || PyList_CheckExact(value)) {
        plain = true;
        for (Py_ssize_t i = 0; plain && i < PySequence_Fast_GET_SIZE(value);
             i++) {
            plain = is_plain_data(PySequence_Fast_GET_ITEM(value, i), root,
                                  depth - 1);
        }
    }
    return plain;
}

#define CHAINED_DEPTH 4

/* 1 if an exception that came with [root] can go along, -1 on error: what the
   standard module leaves behind must not make the dump fail. */
static int
can_go_along(PyObject *exception, PyObject *root)
{
    const PyBaseExceptionObject *base = (PyBaseExceptionObject *)exception;
    if (!is_plain_data(base->args, root, CHAINED_DEPTH) ||
        (base->dict != NULL &&
         !is_plain_data(base->dict, root, CHAINED_DEPTH))) {
        return 0;
    }
    return has_plain_reduction(Py_TYPE(exception));
}

/* Forgets an exception that cannot go along; 0 or -1. */
static int
drop_unless_plain(PyObject **exception, PyObject *root)
{
    int stays = *exception == NULL ? 1 : can_go_along(*exception, root);
    if (stays == 0) {
        Py_CLEAR(*exception);
    }
    return stays < 0 ? -1 : 0;
}

/* __cause__ and __context__, as far as they are shown and hold plain data. */
static int
add_chain(PyObject *state, PyObject *obj)
{
    PyObject *cause = PyException_GetCause(obj);
    PyObject *context = PyException_GetContext(obj);
    bool suppress = ((PyBaseExceptionObject *)obj)->suppress_context;
    int status = -1;
    if (drop_unless_plain(&cause, obj) < 0 ||
        drop_unless_plain(&context, obj) < 0 ||
        (cause != NULL &&
         PyDict_SetItemString(state, "__cause__", cause) < 0) ||
        (context != NULL && (!suppress || context == cause) &&
         PyDict_SetItemString(state, "__context__", context) < 0) ||
        /* Setting a cause suppresses the context. */
        (suppress != (cause != NULL) &&
         PyDict_SetItemString(state, "__suppress_context__",
                              suppress ? Py_True : Py_False) < 0)) {
        goto done;
    }
    status = 0;
done:
    Py_XDECREF(cause);
    Py_XDECREF(context);
    return status;
}

/* The attributes that travel: a new dict. */
static PyObject *
collect_state(PyObject *obj, PyObject *value, bool around)
{
    PyObject *state = PyDict_New();
    if (state == NULL) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(value) > 2 &&
        PyDict_Check(PyTuple_GET_ITEM(value, 2)) &&
        PyDict_Update(state, PyTuple_GET_ITEM(value, 2)) < 0) {
        goto error;
    }
    if (add_members(state, obj, around) < 0 || add_chain(state, obj) < 0) {
        goto error;
    }
    return state;
error:
    Py_DECREF(state);
    return NULL;
}

/* ---- the reduction ------------------------------------------------------ */

/* What the type in C is made with: a new reference. */
static PyObject *
get_maker_arguments(PyObject *obj, PyTypeObject *maker)
{
    if (!PyType_IsSubtype(maker, (PyTypeObject *)PyExc_BaseExceptionGroup)) {
        return PyObject_GetAttrString(obj, "args");
    }
    PyObject *message = PyObject_GetAttrString(obj, "message");
    PyObject *exceptions = PyObject_GetAttrString(obj, "exceptions");
    PyObject *result = message == NULL || exceptions == NULL
                           ? NULL
                           : PyTuple_Pack(2, message, exceptions);
    Py_XDECREF(message);
    Py_XDECREF(exceptions);
    return result;
}

/* maker.__new__(class, *args) */
static PyObject *
reduce_around(fpk_encoder *e, PyObject *obj, PyTypeObject *maker,
              PyObject *state)
{
    PyObject *args = get_maker_arguments(obj, maker);
    PyObject *make =
        PyObject_GetAttr((PyObject *)maker, e->state->str.__new__);
    PyObject *list = args == NULL ? NULL : PySequence_List(args);
    PyObject *result = NULL;
    if (make != NULL && list != NULL &&
        PyList_Insert(list, 0, (PyObject *)Py_TYPE(obj)) == 0) {
        Py_SETREF(list, PyList_AsTuple(list));
        result = list == NULL ? NULL : PyTuple_Pack(3, make, list, state);
    }
    Py_XDECREF(args);
    Py_XDECREF(make);
    Py_XDECREF(list);
    return result;
}

int
fpk_save_exception(fpk_encoder *e, PyObject *obj)
{
    int status = FPK_ERROR;
    PyObject *state = NULL, *result = NULL;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject *value =
        PyObject_CallMethod(obj, "__reduce_ex__", "i", e->protocol);
    if (value == NULL) {
        return FPK_ERROR;
    }
    int plain = has_plain_reduction(type);
    if (plain < 0) {
        goto done;
    }
    if (!plain || !PyTuple_Check(value) || PyTuple_GET_SIZE(value) < 2 ||
        PyTuple_GET_SIZE(value) > 3 ||
        PyTuple_GET_ITEM(value, 0) != (PyObject *)type ||
        !PyTuple_Check(PyTuple_GET_ITEM(value, 1))) {
        return fpk_save_reduced(e, obj, value, true);
    }
    PyTypeObject *maker = fpk_find_maker_type(e->state, type);
    int around = goes_around_class(e, obj, maker, PyTuple_GET_ITEM(value, 1));
    if (around < 0) {
        goto done;
    }
    state = collect_state(obj, value, around);
    if (state == NULL) {
        goto done;
    }
    if (!around && PyDict_GET_SIZE(state) == 0) {
        result = Py_NewRef(value);
    }
    else if (around) {
        result = reduce_around(e, obj, maker, state);
    }
    else {
        result = PyTuple_Pack(3, PyTuple_GET_ITEM(value, 0),
                              PyTuple_GET_ITEM(value, 1), state);
    }
    if (result != NULL) {
        status = fpk_save_reduced(e, obj, result, true);
    }
done:
    Py_DECREF(value);
    Py_XDECREF(state);
    return status;
}
