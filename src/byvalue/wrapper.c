/* wrapper.c -- property, classmethod and staticmethod around methods.

   Does:      takes them apart, and writes them around functions that are
              created but not completed yet.
   Owns:      nothing beyond its frames.
   Invariant: exactly these three types; a subclass may do anything.
   Called by: class.c; handled.c takes the parts of those outside of
              classes. */
#include "byvalue/room.h"

PyObject *
fpk_property_parts(PyObject *property)
{
    static const char *const names[] = {"fget", "fset", "fdel", "__doc__"};
    PyObject *parts[4] = {NULL, NULL, NULL, NULL};
    PyObject *doc = NULL, *result = NULL;
    Py_ssize_t size = 4;
    for (int i = 0; i < 4; i++) {
        parts[i] = PyObject_GetAttrString(property, names[i]);
        if (parts[i] == NULL) {
            goto done;
        }
    }
    /* The constructor takes the getter's by itself. */
    if (parts[0] != Py_None && parts[3] != Py_None) {
        doc = PyObject_GetAttrString(parts[0], "__doc__");
        PyErr_Clear();
        if (doc == parts[3]) {
            Py_SETREF(parts[3], Py_NewRef(Py_None));
        }
    }
    while (size > 1 && parts[size - 1] == Py_None) {
        size--;
    }
    result = PyTuple_New(size);
    for (Py_ssize_t i = 0; result != NULL && i < size; i++) {
        PyTuple_SET_ITEM(result, i, Py_NewRef(parts[i]));
    }
done:
    for (int i = 0; i < 4; i++) {
        Py_XDECREF(parts[i]);
    }
    Py_XDECREF(doc);
    return result;
}

PyObject *
fpk_wrapper_parts(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyProperty_Type) {
        return fpk_property_parts(obj);
    }
    if (type != &PyClassMethod_Type && type != &PyStaticMethod_Type) {
        return NULL;
    }
    PyObject *function = PyObject_GetAttrString(obj, "__func__");
    if (function == NULL) {
        return NULL;
    }
    PyObject *parts = PyTuple_Pack(1, function);
    Py_DECREF(function);
    return parts;
}

/* frame->aux: the parts. */
static int
advance_wrapper(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    Py_ssize_t size = PyTuple_GET_SIZE(frame->aux);
    while (frame->position < size) {
        PyObject *part = PyTuple_GET_ITEM(frame->aux, frame->position++);
        int result = PyFunction_Check(part) ? fpk_create_function(e, part)
                                            : fpk_save(e, part);
        if (result != FPK_DONE) {
            return result;
        }
    }
    if (fpk_end_tuple(e, size) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_remember(e, frame->object);
}

int
fpk_create_callable(fpk_encoder *e, PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyFunction_Type) {
        return fpk_create_function(e, obj);
    }
    int found = fpk_recall(e, obj);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    PyObject *parts = fpk_wrapper_parts(obj);
    if (parts == NULL) {
        return FPK_ERROR;
    }
    if (fpk_save_global_as(e, (PyObject *)type, e->state->str.builtins,
                           type->tp_name) < 0 ||
        fpk_begin_tuple(e, PyTuple_GET_SIZE(parts)) < 0) {
        Py_DECREF(parts);
        return FPK_ERROR;
    }
    return fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_wrapper, obj, parts) ==
                   NULL
               ? FPK_ERROR
               : FPK_MORE;
}
