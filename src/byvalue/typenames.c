/* typenames.c -- what typing gives a name: type variables and new types.

   Does:      writes TypeVar, ParamSpec, TypeVarTuple and NewType objects as a
              call of their type, under an id in the registry of classes.
   Owns:      nothing beyond its frames.
   Invariant: as for classes, one object here is one object at the receiver,
              however many streams bring it.
   Called by: handled.c. */
#include "byvalue/room.h"

enum { OPEN, CALLABLE_DONE, ARGUMENTS_DONE, STATE_DONE };

/* Objects of the standard library whose slots protocols 0 and 1 know nothing
   of: written as by protocol 2. */
int
fpk_save_slotted(fpk_encoder *e, PyObject *obj)
{
    int protocol = e->protocol < 2 ? 2 : e->protocol;
    int status = fpk_save_instance(e, obj, true);
    if (status != FPK_NO_PLAN) {
        return status;
    }
    PyObject *value = PyObject_CallMethod(obj, "__reduce_ex__", "i", protocol);
    if (value == NULL || fpk_learn_instance(e, Py_TYPE(obj), value) < 0) {
        Py_XDECREF(value);
        return FPK_ERROR;
    }
    return fpk_save_reduced(e, obj, value, true);
}

/* ---- the call ----------------------------------------------------------- */

/* Copies attribute [from] of [obj] to keyword [to] if it is there and not the
   default. */
static int
add_keyword(PyObject *kwargs, PyObject *obj, const char *from, const char *to)
{
    PyObject *value = PyObject_GetAttrString(obj, from);
    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    int status = 0;
    if (value != Py_None && value != Py_False) {
        status = PyDict_SetItemString(kwargs, to, value);
    }
    Py_DECREF(value);
    return status;
}

int
fpk_get_parameter_default(PyObject *parameter, PyObject **value)
{
    PyObject *name = PyUnicode_FromString("has_default");
    PyObject *method;
    int found =
        name == NULL ? -1 : PyObject_GetOptionalAttr(parameter, name, &method);
    Py_XDECREF(name);
    if (found <= 0) {
        return found;
    }
    PyObject *answer = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (truth <= 0) {
        return truth;
    }
    *value = PyObject_GetAttrString(parameter, "__default__");
    return *value == NULL ? -1 : 1;
}

static int
add_default(PyObject *kwargs, PyObject *obj)
{
    PyObject *value;
    int found = fpk_get_parameter_default(obj, &value);
    if (found > 0) {
        found = PyDict_SetItemString(kwargs, "default", value);
        Py_DECREF(value);
    }
    return found;
}

/* What a type variable is made with: keywords, and the list [args] after its
   name. */
static int
collect_parameters(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[][2] = {
        {"__bound__", "bound"},
        {"__covariant__", "covariant"},
        {"__contravariant__", "contravariant"},
        {"__infer_variance__", "infer_variance"},
    };
    PyObject *constraints;
    PyObject *name = PyUnicode_FromString("__constraints__");
    if (name == NULL) {
        return -1;
    }
    int found = PyObject_GetOptionalAttr(obj, name, &constraints);
    Py_DECREF(name);
    if (found < 0) {
        return -1;
    }
    if (found) {
        int status = PyList_SetSlice(args, 1, 1, constraints);
        Py_DECREF(constraints);
        if (status < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(keywords); i++) {
        if (add_keyword(kwargs, obj, keywords[i][0], keywords[i][1]) < 0) {
            return -1;
        }
    }
    /* What no bound becomes where nothing may be bound: no keyword says the
       same. */
    PyObject *bound = PyDict_GetItemString(kwargs, "bound");
    if (!found && bound == (PyObject *)Py_TYPE(Py_None) &&
        PyDict_DelItemString(kwargs, "bound") < 0) {
        return -1;
    }
    return add_default(kwargs, obj);
}

/* What a new type has besides what its constructor gives it: a new dict. */
static PyObject *
find_new_type_state(PyObject *obj)
{
    static const char *const given[] = {"__qualname__", "__name__",
                                        "__supertype__"};
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    PyObject *state = dict == NULL ? NULL : PyDict_Copy(dict);
    Py_XDECREF(dict);
    for (size_t i = 0; state != NULL && i < Py_ARRAY_LENGTH(given); i++) {
        PyObject *key = PyUnicode_FromString(given[i]);
        int has = key == NULL ? -1 : PyDict_Contains(state, key);
        if (has < 0 || (has && PyDict_DelItem(state, key) < 0)) {
            Py_CLEAR(state);
        }
        Py_XDECREF(key);
    }
    return state;
}

/* (callable, arguments, state): a new tuple.  state is a dict of attributes or
   of the object's __dict__. */
static PyObject *
describe(fpk_encoder *e, PyObject *obj, PyObject *name, PyObject *module)
{
    PyObject *type = (PyObject *)Py_TYPE(obj);
    PyObject *callable = NULL, *state = NULL, *tuple = NULL, *result = NULL;
    PyObject *kwargs = PyDict_New();
    PyObject *args = PyList_New(0);
    if (kwargs == NULL || args == NULL || PyList_Append(args, name) < 0) {
        goto done;
    }
    PyObject *supertype;
    if (PyObject_GetOptionalAttr(obj, e->state->str.__supertype__,
                                 &supertype) < 0) {
        goto done;
    }
    if (supertype != NULL) {
        int status = PyList_Append(args, supertype);
        Py_DECREF(supertype);
        state = status < 0 ? NULL : find_new_type_state(obj);
    }
    else if (collect_parameters(obj, args, kwargs) == 0) {
        state = Py_BuildValue("{OO}", e->state->str.__module__, module);
    }
    tuple = state == NULL ? NULL : PyList_AsTuple(args);
    if (tuple == NULL) {
        goto done;
    }
    if (PyDict_GET_SIZE(kwargs) == 0) {
        callable = Py_NewRef(type);
    }
    else {
        /* Arguments that follow keywords: all of them are in the partial. */
        PyObject *all = PySequence_List(tuple);
        if (all != NULL && PyList_Insert(all, 0, type) == 0) {
            Py_SETREF(all, PyList_AsTuple(all));
            callable = all == NULL ? NULL
                                   : PyObject_Call(e->state->functools_partial,
                                                   all, kwargs);
        }
        Py_XDECREF(all);
        Py_SETREF(tuple, PyTuple_New(0));
    }
    if (callable != NULL && tuple != NULL) {
        result = PyTuple_Pack(3, callable, tuple, state);
    }
done:
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(callable);
    Py_XDECREF(tuple);
    Py_XDECREF(state);
    return result;
}

/* ---- the frame ---------------------------------------------------------- */

/* registry.setdefault(id, ...) */
static int
open_named_type(fpk_encoder *e, PyObject *obj)
{
    PyObject *id = fpk_object_id(e, obj);
    if (id == NULL) {
        return FPK_ERROR;
    }
    int status = FPK_ERROR;
    if (fpk_emit_registry_method(e, FPK_REGISTRY_SETDEFAULT) == FPK_DONE &&
        fpk_begin_tuple(e, 2) == FPK_DONE) {
        status = fpk_emit_unicode(e, id);
    }
    Py_DECREF(id);
    return status;
}

static int
close_named_type(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *obj = frame->object;
    if (fpk_close_late(e)) {
        /* Its bound has led back to it: setdefault, id, callable and arguments
           go. */
        int pops = e->protocol >= 2 ? 4 : 5;
        for (int i = 0; i < pops; i++) {
            if (fpk_emit_op(e, FPK_OP_POP) < 0) {
                return FPK_ERROR;
            }
        }
        frame->step = STATE_DONE + 1;
        return fpk_recall(e, obj) == 1 ? FPK_DONE : FPK_ERROR;
    }
    if (fpk_emit_op(e, FPK_OP_REDUCE) < 0 || fpk_end_tuple(e, 2) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0 || fpk_remember(e, obj) < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_NONE) < 0) {
        return FPK_ERROR;
    }
    frame->step = STATE_DONE;
    return fpk_save(e, PyTuple_GET_ITEM(frame->aux, 2));
}

/* frame->aux: (callable, arguments, state) */
static int
advance_named_type(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    int result;
    switch (frame->step) {
    case OPEN:
        frame->step = CALLABLE_DONE;
        if (open_named_type(e, frame->object) < 0) {
            return FPK_ERROR;
        }
        result = fpk_save(e, PyTuple_GET_ITEM(frame->aux, 0));
        break;
    case CALLABLE_DONE:
        frame->step = ARGUMENTS_DONE;
        result = fpk_save(e, PyTuple_GET_ITEM(frame->aux, 1));
        break;
    case ARGUMENTS_DONE:
        result = close_named_type(e);
        break;
    case STATE_DONE:
        if (fpk_end_tuple(e, 2) < 0) {
            return FPK_ERROR;
        }
        return fpk_emit_op(e, FPK_OP_BUILD);
    default:
        return FPK_DONE;
    }
    return result == FPK_DONE ? FPK_MORE : result;
}

int
fpk_save_named_type(fpk_encoder *e, PyObject *obj)
{
    int status = FPK_ERROR;
    PyObject *module = NULL;
    int found = fpk_recall(e, obj);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    PyObject *name;
    if (PyObject_GetOptionalAttr(obj, e->state->str.__qualname__, &name) < 0 ||
        (name == NULL &&
         (name = PyObject_GetAttr(obj, e->state->str.__name__)) == NULL)) {
        return FPK_ERROR;
    }
    module = PyObject_GetAttr(obj, e->state->str.__module__);
    int by_value =
        module == NULL ? -1 : fpk_named_goes_by_value(e, obj, module, name);
    if (by_value < 0) {
        goto done;
    }
    if (!by_value) {
        status = fpk_save_global(e, obj, name);
        goto done;
    }
    PyObject *parts = describe(e, obj, name, module);
    if (parts == NULL || fpk_get_context(e) == NULL) {
        Py_XDECREF(parts);
        goto done;
    }
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_named_type, obj, parts);
    if (frame != NULL) {
        frame->shared = true;
        status = fpk_open_late(e) < 0 ? FPK_ERROR : FPK_MORE;
    }
done:
    Py_DECREF(name);
    Py_XDECREF(module);
    return status;
}
