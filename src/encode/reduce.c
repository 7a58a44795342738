/* reduce.c -- objects that say themselves how they are rebuilt.

   Does:      asks reducer_override, the dispatch tables and __reduce_ex__ for
              a reduction, checks it, and writes it: callable, arguments,
              items, pairs, state.
   Owns:      the reduce tuple, through the frame.
   Invariant: the object is memoised after its arguments and before its items
              and state, so that these may refer to it.
   Called by: driver.c, buffers.c, containers.c, globals.c, byvalue. */
#include "encode/encoder.h"

enum { BY_CALL, BY_NEWOBJ, BY_NEWOBJ_EX };

enum {
    REDUCE_CALLABLE,
    REDUCE_ARGS,
    REDUCE_KWARGS,
    REDUCE_BUILD,
    REDUCE_ITEMS,
    REDUCE_PAIRS,
    REDUCE_SETTER,
    REDUCE_SETTER_OBJECT,
    REDUCE_STATE,
    REDUCE_SET_STATE,
};

/* Item [i] of a reduce tuple, NULL if it is missing or None; borrowed. */
static PyObject *
optional_part(PyObject *value, Py_ssize_t i)
{
    if (i >= PyTuple_GET_SIZE(value) ||
        PyTuple_GET_ITEM(value, i) == Py_None) {
        return NULL;
    }
    return PyTuple_GET_ITEM(value, i);
}

/* ---- checks ------------------------------------------------------------- */

static int
check_reduction(fpk_encoder *e, PyObject *value)
{
    PyObject *error = e->state->PicklingError;
    Py_ssize_t size = PyTuple_GET_SIZE(value);
    if (size < 2 || size > 6) {
        PyErr_SetString(error, "tuple returned by __reduce__ must contain 2 "
                               "through 6 elements");
        return -1;
    }
    if (!PyCallable_Check(PyTuple_GET_ITEM(value, 0))) {
        PyErr_SetString(error, "first item of the tuple returned by "
                               "__reduce__ must be callable");
        return -1;
    }
    if (!PyTuple_Check(PyTuple_GET_ITEM(value, 1))) {
        PyErr_SetString(error, "second item of the tuple returned by "
                               "__reduce__ must be a tuple");
        return -1;
    }
    static const char *const ordinals[] = {"fourth", "fifth"};
    for (Py_ssize_t i = 3; i <= 4; i++) {
        PyObject *items = optional_part(value, i);
        if (items != NULL && !PyIter_Check(items)) {
            PyErr_Format(error,
                         "%s element of the tuple returned by __reduce__ must "
                         "be an iterator, not %s",
                         ordinals[i - 3], Py_TYPE(items)->tp_name);
            return -1;
        }
    }
    PyObject *setter = optional_part(value, 5);
    if (setter != NULL && !PyCallable_Check(setter)) {
        PyErr_Format(error,
                     "sixth element of the tuple returned by __reduce__ must "
                     "be a function, not %s",
                     Py_TYPE(setter)->tp_name);
        return -1;
    }
    return 0;
}

/* NEWOBJ and NEWOBJ_EX rebuild the class that the stream names: it has to be
   the object's own. */
static int
check_class(fpk_encoder *e, PyObject *obj, PyObject *cls, const char *name)
{
    if (obj == NULL) {
        return 0;
    }
    PyObject *own;
    if (PyObject_GetOptionalAttr(obj, e->state->str.__class__, &own) < 0) {
        return -1;
    }
    bool same = own == cls;
    Py_XDECREF(own);
    if (!same) {
        PyErr_Format(e->state->PicklingError,
                     "args[0] from %s args has the wrong class", name);
        return -1;
    }
    return 0;
}

static int
check_has_new(fpk_encoder *e, PyObject *cls, const char *name)
{
    PyObject *method;
    int found = PyObject_GetOptionalAttr(cls, e->state->str.__new__, &method);
    Py_XDECREF(method);
    if (found == 0) {
        PyErr_Format(e->state->PicklingError,
                     "args[0] from %s args has no __new__", name);
    }
    return found == 1 ? 0 : -1;
}

static int
check_newobj(fpk_encoder *e, PyObject *obj, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) < 1) {
        PyErr_SetString(e->state->PicklingError,
                        "__newobj__ arglist is empty");
        return -1;
    }
    PyObject *cls = PyTuple_GET_ITEM(args, 0);
    return check_has_new(e, cls, "__newobj__") < 0
               ? -1
               : check_class(e, obj, cls, "__newobj__");
}

static int
check_newobj_ex(fpk_encoder *e, PyObject *obj, PyObject *args)
{
    PyObject *error = e->state->PicklingError;
    if (PyTuple_GET_SIZE(args) != 3) {
        PyErr_Format(error,
                     "length of the NEWOBJ_EX argument tuple must be exactly "
                     "3, not %zd",
                     PyTuple_GET_SIZE(args));
        return -1;
    }
    PyObject *cls = PyTuple_GET_ITEM(args, 0);
    PyObject *positional = PyTuple_GET_ITEM(args, 1);
    PyObject *keywords = PyTuple_GET_ITEM(args, 2);
    if (!PyType_Check(cls)) {
        PyErr_Format(error,
                     "first item from NEWOBJ_EX argument tuple must be a "
                     "class, not %.200s",
                     Py_TYPE(cls)->tp_name);
        return -1;
    }
    if (!PyTuple_Check(positional)) {
        PyErr_Format(error,
                     "second item from NEWOBJ_EX argument tuple must be a "
                     "tuple, not %.200s",
                     Py_TYPE(positional)->tp_name);
        return -1;
    }
    if (!PyDict_Check(keywords)) {
        PyErr_Format(error,
                     "third item from NEWOBJ_EX argument tuple must be a "
                     "dict, not %.200s",
                     Py_TYPE(keywords)->tp_name);
        return -1;
    }
    return check_class(e, obj, cls, "__newobj_ex__");
}

/* Below protocol 4 there is no opcode for keyword arguments: a partial of
   cls.__new__ holds them.  Replaces *[value]. */
static int
replace_newobj_ex(fpk_encoder *e, PyObject **value)
{
    int status = -1;
    PyObject *args = PyTuple_GET_ITEM(*value, 1);
    PyObject *cls = PyTuple_GET_ITEM(args, 0);
    PyObject *positional = PyTuple_GET_ITEM(args, 1);
    Py_ssize_t count = PyTuple_GET_SIZE(positional);
    PyObject *partial = NULL, *replaced = NULL;

    PyObject *new_args = PyTuple_New(count + 2);
    PyObject *cls_new = PyObject_GetAttr(cls, e->state->str.__new__);
    if (new_args == NULL || cls_new == NULL) {
        Py_XDECREF(cls_new);
        goto done;
    }
    PyTuple_SET_ITEM(new_args, 0, cls_new);
    PyTuple_SET_ITEM(new_args, 1, Py_NewRef(cls));
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(new_args, i + 2,
                         Py_NewRef(PyTuple_GET_ITEM(positional, i)));
    }
    partial = PyObject_Call(e->state->functools_partial, new_args,
                            PyTuple_GET_ITEM(args, 2));
    if (partial == NULL) {
        goto done;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(*value);
    replaced = PyTuple_New(size);
    if (replaced == NULL) {
        goto done;
    }
    PyTuple_SET_ITEM(replaced, 0, Py_NewRef(partial));
    PyObject *empty = PyTuple_New(0);
    if (empty == NULL) {
        goto done;
    }
    PyTuple_SET_ITEM(replaced, 1, empty);
    for (Py_ssize_t i = 2; i < size; i++) {
        PyTuple_SET_ITEM(replaced, i, Py_NewRef(PyTuple_GET_ITEM(*value, i)));
    }
    Py_SETREF(*value, Py_NewRef(replaced));
    status = 0;
done:
    Py_XDECREF(new_args);
    Py_XDECREF(partial);
    Py_XDECREF(replaced);
    return status;
}

/* copyreg's two rebuilding functions are recognised by name, as PEP 307
   says. */
static int
classify(fpk_encoder *e, PyObject *callable)
{
    PyObject *name;
    if (e->protocol < 2) {
        return BY_CALL;
    }
    if (callable == e->state->copyreg_newobj) {
        return BY_NEWOBJ;
    }
    int kind = BY_CALL;
    if (Py_IS_TYPE(callable, &PyType_Type) &&
        strstr(((PyTypeObject *)callable)->tp_name, "__newobj") == NULL) {
        return BY_CALL; /* its __name__ would be a new object */
    }
    if (PyObject_GetOptionalAttr(callable, e->state->str.__name__, &name) <
        0) {
        return -1;
    }
    if (name != NULL && PyUnicode_Check(name)) {
        if (PyUnicode_Compare(name, e->state->str.__newobj__) == 0) {
            kind = BY_NEWOBJ;
        }
        else if (PyUnicode_Compare(name, e->state->str.__newobj_ex__) == 0) {
            kind = BY_NEWOBJ_EX;
        }
    }
    Py_XDECREF(name);
    return PyErr_Occurred() ? -1 : kind;
}

/* ---- the frame ---------------------------------------------------------- */

/* A part of the reduce tuple.  If the tuple is ours alone, its reference is
   the edge that leads to the part; if not, others may lead there too. */
static int
save_part(fpk_encoder *e, PyObject *value, PyObject *part)
{
    return fpk_is_unshared(value) ? fpk_save(e, part)
                                  : fpk_save_shared(e, part);
}

static int
save_args(fpk_encoder *e, uint64_t how, PyObject *value)
{
    PyObject *args = PyTuple_GET_ITEM(value, 1);
    if (how == BY_CALL) {
        return save_part(e, value, args);
    }
    if (how == BY_NEWOBJ_EX) {
        return fpk_save_shared(e, PyTuple_GET_ITEM(args, 1));
    }
    if (fpk_is_unshared(value) && fpk_is_unshared(args) &&
        e->persistent_id == NULL && e->canonical == NULL) {
        return fpk_save_tuple_tail(e, args, 1);
    }
    PyObject *tail = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    if (tail == NULL) {
        return FPK_ERROR;
    }
    int status = fpk_save_shared(e, tail);
    Py_DECREF(tail);
    return status;
}

/* The opcode that makes the object, and its memo entry. */
static int
build_object(fpk_encoder *e, fpk_frame *frame)
{
    static const enum fpk_opcode ops[] = {FPK_OP_REDUCE, FPK_OP_NEWOBJ,
                                          FPK_OP_NEWOBJ_EX};
    bool shared = frame->shared;
    PyObject *obj = frame->object;
    if (fpk_emit_op(e, ops[frame->slot]) < 0) {
        return FPK_ERROR;
    }
    if (fpk_close_late(e)) {
        /* Built by a cycle through its own arguments: that one counts, with
           the items and the state that it got. */
        e->reductions--;
        if (fpk_emit_op(e, FPK_OP_POP) < 0 ||
            fpk_emit_get_if_saved(e, obj) != 1) {
            return FPK_ERROR;
        }
        return FPK_DONE;
    }
    if (shared && fpk_memoize(e, obj) < 0) {
        return FPK_ERROR;
    }
    return FPK_MORE;
}

static int
advance_reduce(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        PyObject *value = frame->aux;
        PyObject *part;
        int result = FPK_DONE;
        switch (frame->step++) {
        case REDUCE_CALLABLE:
            part = frame->slot == BY_CALL
                       ? PyTuple_GET_ITEM(value, 0)
                       : PyTuple_GET_ITEM(PyTuple_GET_ITEM(value, 1), 0);
            result = fpk_save_shared(e, part);
            break;
        case REDUCE_ARGS:
            result = save_args(e, frame->slot, value);
            break;
        case REDUCE_KWARGS:
            if (frame->slot == BY_NEWOBJ_EX) {
                part = PyTuple_GET_ITEM(PyTuple_GET_ITEM(value, 1), 2);
                result = fpk_save_shared(e, part);
            }
            break;
        case REDUCE_BUILD:
            result = build_object(e, frame);
            if (result != FPK_MORE) {
                return result;
            }
            continue;
        case REDUCE_ITEMS:
            part = optional_part(value, 3);
            if (part != NULL) {
                result = fpk_save_items(e, part);
            }
            break;
        case REDUCE_PAIRS:
            part = optional_part(value, 4);
            if (part != NULL) {
                result = fpk_save_pairs(e, part);
            }
            break;
        case REDUCE_SETTER:
            if (optional_part(value, 2) == NULL) {
                e->reductions--;
                return FPK_DONE;
            }
            part = optional_part(value, 5);
            if (part == NULL) {
                frame->step = REDUCE_STATE;
                continue;
            }
            result = fpk_save_shared(e, part);
            break;
        case REDUCE_SETTER_OBJECT:
            if (fpk_emit_tuple_mark(e) < 0) {
                return FPK_ERROR;
            }
            result = fpk_save_shared(e, frame->object);
            break;
        case REDUCE_STATE:
            result = save_part(e, value, optional_part(value, 2));
            break;
        default:
            e->reductions--;
            if (optional_part(value, 5) == NULL) {
                return fpk_emit_op(e, FPK_OP_BUILD);
            }
            if (fpk_emit_tuple(e, 2) < 0 ||
                fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
                return FPK_ERROR;
            }
            return fpk_emit_op(e, FPK_OP_POP);
        }
        if (result != FPK_DONE) {
            return result;
        }
    }
}

/* [value] is a tuple; stolen. */
static int
save_reduce(fpk_encoder *e, PyObject *obj, PyObject *value, bool shared)
{
    int how = -1;
    if (check_reduction(e, value) == 0) {
        how = classify(e, PyTuple_GET_ITEM(value, 0));
    }
    PyObject *args = how < 0 ? NULL : PyTuple_GET_ITEM(value, 1);
    if (how < 0 || (how == BY_NEWOBJ && check_newobj(e, obj, args) < 0) ||
        (how == BY_NEWOBJ_EX && check_newobj_ex(e, obj, args) < 0)) {
        goto error;
    }
    if (how == BY_NEWOBJ_EX && e->protocol < 4) {
        if (replace_newobj_ex(e, &value) < 0) {
            goto error;
        }
        how = BY_CALL;
    }
    if (fpk_count_reduction(e) < 0) {
        goto error;
    }
    /* The setter gets the object by a GET. */
    bool by_setter = optional_part(value, 5) != NULL;
    fpk_frame *frame = fpk_push_frame(e, FPK_FRAME_REDUCE, advance_reduce,
                                      obj != NULL ? obj : value, value);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->slot = (uint64_t)how;
    frame->shared = obj != NULL && (shared || by_setter);
    return fpk_open_late(e) < 0 ? FPK_ERROR : FPK_MORE;
error:
    Py_DECREF(value);
    return FPK_ERROR;
}

/* The name that [obj] gave does not lead to it: nothing was written, and there
   is an exception, which stays if nobody knows better. */
static PyObject *
find_other_reduction(fpk_encoder *e, PyObject *obj)
{
    PyObject *error = fpk_get_raised_exception();
    PyObject *value = obj == NULL || e->state->byvalue == NULL
                          ? NULL
                          : e->state->byvalue->reduce_unnamed(e, obj);
    if (value == NULL) {
        fpk_set_raised_exception(error);
        return NULL;
    }
    Py_XDECREF(error);
    return value;
}

int
fpk_save_reduced(fpk_encoder *e, PyObject *obj, PyObject *value, bool shared)
{
    if (PyUnicode_Check(value)) {
        int status = fpk_save_global(e, obj, value);
        Py_DECREF(value);
        if (status != FPK_ERROR ||
            !PyErr_ExceptionMatches(e->state->PicklingError)) {
            return status;
        }
        value = find_other_reduction(e, obj);
        if (value == NULL) {
            return FPK_ERROR;
        }
    }
    if (e->canonical != NULL && obj != NULL && PyAnySet_Check(obj) &&
        !PyAnySet_CheckExact(obj)) {
        value = fpk_canonical_reduction(e, value);
        if (value == NULL) {
            return FPK_ERROR;
        }
    }
    if (!PyTuple_Check(value)) {
        Py_DECREF(value);
        PyErr_SetString(e->state->PicklingError,
                        "__reduce__ must return a string or tuple");
        return FPK_ERROR;
    }
    return save_reduce(e, obj, value, shared);
}

int
fpk_save_reduce(fpk_encoder *e, PyObject *obj, PyObject *value)
{
    return fpk_save_reduced(e, obj, value, true);
}

/* ---- who knows the object ----------------------------------------------- */

/* The reducer that a dispatch table has for [type]: 1, 0 or -1. */
static int
find_reducer(fpk_encoder *e, PyTypeObject *type, PyObject **reducer)
{
    PyObject *table = e->dispatch_table;
    if (table == NULL || table == e->state->dispatch_table) {
        return PyDict_GetItemRef(e->state->dispatch_table, (PyObject *)type,
                                 reducer);
    }
    if (PyDict_CheckExact(table)) {
        return PyDict_GetItemRef(table, (PyObject *)type, reducer);
    }
    *reducer = PyObject_GetItem(table, (PyObject *)type);
    if (*reducer != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* ctypes raises ValueError for data with pointers, as if only the value were
   wrong. */
static void
explain_pointers(fpk_encoder *e, PyObject *obj)
{
    if (!e->by_value || !PyErr_ExceptionMatches(PyExc_ValueError)) {
        return;
    }
    PyTypeObject *base = Py_TYPE(obj);
    while (base != NULL && strcmp(base->tp_name, "_ctypes._CData") != 0) {
        base = base->tp_base;
    }
    if (base != NULL) {
        PyErr_Format(e->state->RefusedError, "cannot pickle '%.200s' object",
                     Py_TYPE(obj)->tp_name);
    }
}

/* What __reduce_ex__, or else __reduce__, returns. */
static PyObject *
call_reduce_method(fpk_encoder *e, PyObject *obj)
{
    PyObject *method, *value = NULL;
    int found =
        PyObject_GetOptionalAttr(obj, e->state->str.__reduce_ex__, &method);
    if (found < 0) {
        return NULL;
    }
    if (found) {
        PyObject *protocol = PyLong_FromLong(e->protocol);
        if (protocol != NULL) {
            value = PyObject_CallOneArg(method, protocol);
            Py_DECREF(protocol);
        }
        Py_DECREF(method);
        if (value == NULL) {
            explain_pointers(e, obj);
        }
        return value;
    }
    found = PyObject_GetOptionalAttr(obj, e->state->str.__reduce__, &method);
    if (found <= 0) {
        if (found == 0) {
            PyErr_Format(e->state->PicklingError,
                         "can't pickle '%.200s' object: %R",
                         Py_TYPE(obj)->tp_name, obj);
        }
        return NULL;
    }
    value = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return value;
}

/* Protocols 0 and 1 ask copyreg, which lets pass what object.__new__ refuses
   to make at the receiver: an instance of a class of C that makes its own.  0
   or -1 with an exception. */
static int
check_reconstructor(fpk_encoder *e, PyTypeObject *type, PyObject *value)
{
    if (!e->by_value || !PyTuple_CheckExact(value) ||
        PyTuple_GET_SIZE(value) < 2) {
        return 0;
    }
    PyObject *callable = PyTuple_GET_ITEM(value, 0);
    PyObject *args = PyTuple_GET_ITEM(value, 1);
    if (!PyFunction_Check(callable) || !PyTuple_CheckExact(args) ||
        PyTuple_GET_SIZE(args) != 3 ||
        PyTuple_GET_ITEM(args, 1) != (PyObject *)&PyBaseObject_Type ||
        PyUnicode_CompareWithASCIIString(
            ((PyFunctionObject *)callable)->func_name, "_reconstructor") !=
            0) {
        return 0;
    }
    PyTypeObject *python_class = (PyTypeObject *)e->state->some_python_class;
    PyTypeObject *base = type;
    while (base->tp_dealloc == python_class->tp_dealloc) {
        base = base->tp_base;
    }
    if (base->tp_new == PyBaseObject_Type.tp_new) {
        return 0;
    }
    PyErr_Format(e->state->RefusedError,
                 "cannot pickle '%.200s' object with protocol %d: protocol 2 "
                 "or higher may do",
                 type->tp_name, e->protocol);
    return -1;
}

/* A reducer that fpickle.register was given; FPK_NO_PLAN, with nothing
   written, if there is none or it does not want [obj]. */
static int
try_registered_reducer(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyObject *reducer;
    int found = PyDict_GetItemRef(e->state->reducers,
                                  (PyObject *)Py_TYPE(obj), &reducer);
    if (found <= 0) {
        return found < 0 ? FPK_ERROR : FPK_NO_PLAN;
    }
    PyObject *value = PyObject_CallOneArg(reducer, obj);
    Py_DECREF(reducer);
    if (value == Py_NotImplemented) {
        Py_DECREF(value);
        return FPK_NO_PLAN;
    }
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, shared);
}

int
fpk_save_object(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyTypeObject *type = Py_TYPE(obj);
    const struct fpk_byvalue_table *byvalue = e->state->byvalue;
    PyObject *reducer, *value;

    if (e->reducer_override != NULL) {
        value = PyObject_CallOneArg(e->reducer_override, obj);
        if (value == NULL) {
            return FPK_ERROR;
        }
        if (value != Py_NotImplemented) {
            return fpk_save_reduced(e, obj, value, shared);
        }
        Py_DECREF(value);
    }
    if (FPK_UNLIKELY(PyDict_GET_SIZE(e->state->reducers) > 0)) {
        int status = try_registered_reducer(e, obj, shared);
        if (status != FPK_NO_PLAN) {
            return status;
        }
    }
    if (type == &PyType_Type) {
        return fpk_save_type(e, obj);
    }
    if (type == &PyFunction_Type) {
        return byvalue->save_function(e, obj);
    }
    int found = find_reducer(e, type, &reducer);
    if (found < 0) {
        return FPK_ERROR;
    }
    if (found) {
        value = PyObject_CallOneArg(reducer, obj);
        Py_DECREF(reducer);
        return value == NULL ? FPK_ERROR
                             : fpk_save_reduced(e, obj, value, shared);
    }
    if (PyType_IsSubtype(type, &PyType_Type)) {
        return fpk_save_type(e, obj);
    }
    int handler = byvalue->find_handler(e, type);
    if (handler >= 0) {
        if (FPK_IS_SURVEYED(e) &&
            e->state->survey->note_way(e, obj, FPK_WENT_BY_TYPE) < 0) {
            return FPK_ERROR;
        }
        return byvalue->save_handled(e, obj, handler);
    }
    int status = fpk_save_instance(e, obj, shared);
    if (status != FPK_NO_PLAN) {
        return status;
    }
    value = call_reduce_method(e, obj);
    if (value == NULL) {
        return FPK_ERROR;
    }
    if (FPK_UNLIKELY(e->protocol < 2) &&
        check_reconstructor(e, type, value) < 0) {
        Py_DECREF(value);
        return FPK_ERROR;
    }
    if (fpk_learn_instance(e, type, value) < 0) {
        Py_DECREF(value);
        return FPK_ERROR;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_TUPLE_SUBCLASS)) {
        value = byvalue->reduce_tuple(e, obj, value);
        if (value == NULL) {
            return FPK_ERROR;
        }
    }
    return fpk_save_reduced(e, obj, value, shared);
}
