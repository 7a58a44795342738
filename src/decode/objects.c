/* objects.c -- opcodes that make objects by calling something.

   Does:      REDUCE, NEWOBJ, NEWOBJ_EX, and the INST and OBJ of protocol 0
              and 1.
   Owns:      nothing.
   Invariant: callable and arguments are off the stack, and owned here, while
              the call runs.
   Called by: loop.c. */
#include "decode/decoder.h"

int
fpk_load_reduce(fpk_decoder *d)
{
    PyObject *result = NULL;
    if (fpk_height(d) < 2) {
        return fpk_underflow(d);
    }
    PyObject *args = *--d->sp;
    PyObject *callable = *--d->sp;
    if (FPK_UNLIKELY(!PyTuple_Check(args))) {
        PyErr_SetString(PyExc_TypeError, "argument list must be a tuple");
    }
    else {
        result = fpk_call(d, callable, args);
    }
    if (FPK_UNLIKELY(result == NULL)) {
        (void)fpk_note_failure(d, callable, args);
    }
    Py_DECREF(args);
    Py_DECREF(callable);
    if (fpk_push(d, result) < 0) {
        return -1;
    }
    return FPK_LIKELY(d->known_class == NULL) ? 0 : fpk_skip_known_class(d);
}

/* cls.__new__(cls, *args, **kwargs) without looking __new__ up. */
static PyObject *
call_new(fpk_decoder *d, PyObject *cls, PyObject *args, PyObject *kwargs,
         const char *opcode)
{
    PyObject *error = d->state->UnpicklingError;
    if (!PyType_Check(cls)) {
        (void)fpk_decode_error(d, error,
                               "%s class argument must be a type, not %.200s",
                               opcode, Py_TYPE(cls)->tp_name);
        return NULL;
    }
    if (((PyTypeObject *)cls)->tp_new == NULL) {
        (void)fpk_decode_error(d, error,
                               "%s class argument '%.200s' doesn't have "
                               "__new__",
                               opcode, ((PyTypeObject *)cls)->tp_name);
        return NULL;
    }
    if (!PyTuple_Check(args)) {
        (void)fpk_decode_error(d, error,
                               "%s args argument must be a tuple, "
                               "not %.200s",
                               opcode, Py_TYPE(args)->tp_name);
        return NULL;
    }
    if (kwargs != NULL && !PyDict_Check(kwargs)) {
        (void)fpk_decode_error(d, error,
                               "%s kwargs argument must be a dict, "
                               "not %.200s",
                               opcode, Py_TYPE(kwargs)->tp_name);
        return NULL;
    }
    return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, args, kwargs);
}

int
fpk_load_newobj(fpk_decoder *d, bool with_keywords)
{
    if (fpk_height(d) < (with_keywords ? 3 : 2)) {
        return fpk_underflow(d);
    }
    PyObject *kwargs = with_keywords ? *--d->sp : NULL;
    PyObject *args = *--d->sp;
    PyObject *cls = *--d->sp;
    PyObject *obj =
        call_new(d, cls, args, kwargs, with_keywords ? "NEWOBJ_EX" : "NEWOBJ");
    if (FPK_UNLIKELY(obj == NULL)) {
        (void)fpk_note_failure(d, cls, args);
    }
    Py_XDECREF(kwargs);
    Py_DECREF(args);
    Py_DECREF(cls);
    return fpk_push(d, obj);
}

/* As the class statements of Python 2 wanted it: without arguments and without
   __getinitargs__, __init__ is not called. */
static PyObject *
instantiate(fpk_decoder *d, PyObject *cls, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) == 0 && PyType_Check(cls)) {
        PyObject *method;
        int found = PyObject_GetOptionalAttr(
            cls, d->state->str.__getinitargs__, &method);
        if (found < 0) {
            return NULL;
        }
        if (found == 0) {
            return PyObject_CallMethodOneArg(cls, d->state->str.__new__, cls);
        }
        Py_DECREF(method);
    }
    return PyObject_CallObject(cls, args);
}

/* The items from [items] to the top, as the arguments of a call. */
static PyObject *
pop_arguments(fpk_decoder *d, PyObject **items)
{
    Py_ssize_t size = d->sp - items;
    PyObject *args = PyTuple_New(size);
    if (args != NULL) {
        for (Py_ssize_t i = 0; i < size; i++) {
            PyTuple_SET_ITEM(args, i, items[i]);
        }
        d->sp = items;
    }
    return args;
}

int
fpk_load_inst(fpk_decoder *d)
{
    PyObject *obj = NULL;
    PyObject *cls = fpk_load_class_lines(d);
    if (cls == NULL) {
        return -1;
    }
    PyObject **items;
    if (fpk_pop_mark(d, &items) == 0) {
        PyObject *args = pop_arguments(d, items);
        if (args != NULL) {
            obj = instantiate(d, cls, args);
            if (obj == NULL) {
                (void)fpk_note_failure(d, cls, args);
            }
            Py_DECREF(args);
        }
    }
    Py_DECREF(cls);
    return fpk_push(d, obj);
}

int
fpk_load_obj(fpk_decoder *d)
{
    PyObject **items;
    if (fpk_pop_mark(d, &items) < 0) {
        return -1;
    }
    if (d->sp == items) {
        return fpk_underflow(d);
    }
    PyObject *args = pop_arguments(d, items + 1);
    if (args == NULL) {
        return -1;
    }
    PyObject *cls = *--d->sp;
    PyObject *obj = instantiate(d, cls, args);
    if (obj == NULL) {
        (void)fpk_note_failure(d, cls, args);
    }
    Py_DECREF(args);
    Py_DECREF(cls);
    return fpk_push(d, obj);
}
