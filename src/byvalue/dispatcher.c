/* dispatcher.c -- functions made by functools.singledispatch.

   Does:      writes such a function as a call of singledispatch, and registers
              the other implementations with it.
   Owns:      nothing beyond its frames.
   Invariant: the function exists before anything is written that may refer
              back to it.  Its cache starts empty.
   Called by: rules.c, and handled.c for what finds it elsewhere. */
#include "byvalue/room.h"

enum {
    CREATE_DEFAULT,
    MAKE_DISPATCHER,
    COMPLETE_DEFAULT,
    SET_ATTRIBUTES,
    ATTRIBUTES_SET,
    REGISTER,
    REGISTER_FUNCTION,
    REGISTERED,
};

/* Attributes that singledispatch sets. */
static const char *const own_attributes[] = {
    "__wrapped__", "_clear_cache", "dispatch", "register", "registry",
};

bool
fpk_is_dispatcher(fpk_state *state, PyObject *function)
{
    return PyFunction_Check(function) &&
           PyFunction_GET_CODE(function) == state->dispatcher_code &&
           ((PyFunctionObject *)function)->func_dict != NULL;
}

/* (default, [class, function, ...], attributes): a new tuple. */
static PyObject *
describe(PyObject *dispatcher)
{
    PyObject *dict = NULL, *fallback = NULL, *list = NULL, *attributes = NULL;
    PyObject *annotations, *result = NULL;
    PyObject *registry = PyObject_GetAttrString(dispatcher, "registry");
    if (registry == NULL || (dict = PyDict_New()) == NULL ||
        PyDict_Update(dict, registry) < 0) {
        goto done;
    }
    fallback = Py_XNewRef(
        PyDict_GetItemWithError(dict, (PyObject *)&PyBaseObject_Type));
    list = PyList_New(0);
    attributes = PyDict_Copy(((PyFunctionObject *)dispatcher)->func_dict);
    if (fallback == NULL || list == NULL || attributes == NULL) {
        goto done;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(own_attributes); i++) {
        PyObject *name = PyUnicode_FromString(own_attributes[i]);
        int has = name == NULL ? -1 : PyDict_Contains(attributes, name);
        if (has > 0) {
            has = PyDict_DelItem(attributes, name);
        }
        Py_XDECREF(name);
        if (has < 0) {
            goto done;
        }
    }
    annotations = PyFunction_GetAnnotations(dispatcher);
    if (annotations != NULL && PyDict_Check(annotations) &&
        PyDict_GET_SIZE(annotations) > 0 &&
        PyDict_SetItemString(attributes, "__annotations__", annotations) < 0) {
        goto done;
    }
    Py_ssize_t position = 0;
    PyObject *cls, *function;
    while (PyDict_Next(dict, &position, &cls, &function)) {
        if (cls != (PyObject *)&PyBaseObject_Type &&
            (PyList_Append(list, cls) < 0 ||
             PyList_Append(list, function) < 0)) {
            goto done;
        }
    }
    result = PyTuple_Pack(3, fallback, list, attributes);
done:
    Py_XDECREF(registry);
    Py_XDECREF(dict);
    Py_XDECREF(fallback);
    Py_XDECREF(list);
    Py_XDECREF(attributes);
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "%R has no implementation for object",
                     dispatcher);
    }
    return result;
}

static int
create_default(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *fallback = PyTuple_GET_ITEM(frame->aux, 0);
    if (fpk_save_global_as(e, e->state->singledispatch,
                           e->state->str.functools, "singledispatch") < 0 ||
        fpk_begin_tuple(e, 1) < 0) {
        return FPK_ERROR;
    }
    int by_value =
        PyFunction_Check(fallback) && !fpk_is_dispatcher(e->state, fallback)
            ? fpk_goes_by_value(e, fallback)
            : 0;
    if (by_value < 0) {
        return FPK_ERROR;
    }
    return by_value ? fpk_create_function(e, fallback) : fpk_save(e, fallback);
}

/* The method that registers, put aside as frame->slot. */
static int
make_dispatcher(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (fpk_end_tuple(e, 1) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_remember(e, frame->object) < 0 ||
        fpk_save_global_as(e, e->state->builtins_getattr,
                           e->state->str.builtins, "getattr") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_recall(e, frame->object) < 0 ||
        fpk_emit_str(e, "register") < 0 || fpk_end_tuple(e, 2) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_put_aside(e, &frame->slot);
}

/* frame->aux: what describe returned; frame->position: implementations begun,
   each of them two items. */
static int
begin_implementation(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *list = PyTuple_GET_ITEM(frame->aux, 1);
    if (fpk_emit_get(e, frame->slot) < 0 || fpk_begin_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    frame->step = REGISTER_FUNCTION;
    return fpk_save(e, PyList_GET_ITEM(list, frame->position++));
}

static int
advance_dispatcher(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        PyObject *list = PyTuple_GET_ITEM(frame->aux, 1);
        PyObject *attributes = PyTuple_GET_ITEM(frame->aux, 2);
        size_t depth = e->depth;
        int result;
        switch (frame->step) {
        case CREATE_DEFAULT:
            frame->step = MAKE_DISPATCHER;
            result = create_default(e);
            break;
        case MAKE_DISPATCHER:
            frame->step = COMPLETE_DEFAULT;
            result = make_dispatcher(e);
            break;
        case COMPLETE_DEFAULT:
            frame->step = SET_ATTRIBUTES;
            result = fpk_complete_function(e, PyTuple_GET_ITEM(frame->aux, 0));
            break;
        case SET_ATTRIBUTES:
            frame->step = REGISTER;
            if (PyDict_GET_SIZE(attributes) == 0) {
                continue;
            }
            frame->step = ATTRIBUTES_SET;
            if (fpk_begin_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_NONE) < 0) {
                return FPK_ERROR;
            }
            result = fpk_save(e, attributes);
            break;
        case ATTRIBUTES_SET:
            frame->step = REGISTER;
            result = fpk_end_tuple(e, 2) < 0 ? FPK_ERROR
                                             : fpk_emit_op(e, FPK_OP_BUILD);
            break;
        case REGISTER:
            if (frame->position == PyList_GET_SIZE(list)) {
                return FPK_DONE;
            }
            result = begin_implementation(e);
            break;
        case REGISTER_FUNCTION:
            frame->step = REGISTERED;
            result = fpk_save(e, PyList_GET_ITEM(list, frame->position++));
            break;
        default:
            frame->step = REGISTER;
            if (fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
                return FPK_ERROR;
            }
            result = fpk_emit_op(e, FPK_OP_POP);
            break;
        }
        if (result == FPK_ERROR || e->depth != depth) {
            return result < 0 ? FPK_ERROR : FPK_MORE;
        }
    }
}

int
fpk_save_dispatcher(fpk_encoder *e, PyObject *function)
{
    int found = fpk_recall(e, function);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    PyObject *parts = describe(function);
    if (parts == NULL) {
        return FPK_ERROR;
    }
    return fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_dispatcher, function,
                          parts) == NULL
               ? FPK_ERROR
               : FPK_MORE;
}

/* A singledispatchmethod: its cache of methods stays here. */
int
fpk_save_dispatch_method(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL;
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    PyObject *state = dict == NULL ? NULL : PyDict_Copy(dict);
    PyObject *function = PyObject_GetAttrString(obj, "func");
    PyObject *name = PyUnicode_FromString("_method_cache");
    int has = state == NULL || function == NULL || name == NULL
                  ? -1
                  : PyDict_Contains(state, name);
    if (has > 0) {
        has = PyDict_DelItem(state, name);
    }
    if (has >= 0) {
        value = Py_BuildValue("(O(O)O)", Py_TYPE(obj), function, state);
    }
    Py_XDECREF(dict);
    Py_XDECREF(state);
    Py_XDECREF(function);
    Py_XDECREF(name);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

/* The code of the function inside singledispatch, by which it is known; None
   if it is not as expected. */
int
fpk_init_dispatcher(PyObject *module, fpk_state *state)
{
    if (fpk_fetch(&state->singledispatch, "functools", "singledispatch") < 0) {
        return -1;
    }
    state->dispatcher_code = Py_NewRef(Py_None);
    if (!PyFunction_Check(state->singledispatch)) {
        return 0;
    }
    PyObject *code = PyFunction_GET_CODE(state->singledispatch);
    PyObject *consts = ((PyCodeObject *)code)->co_consts;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(consts); i++) {
        PyObject *item = PyTuple_GET_ITEM(consts, i);
        if (PyCode_Check(item) &&
            PyUnicode_CompareWithASCIIString(((PyCodeObject *)item)->co_name,
                                             "wrapper") == 0) {
            Py_SETREF(state->dispatcher_code, Py_NewRef(item));
        }
    }
    return 0;
}
