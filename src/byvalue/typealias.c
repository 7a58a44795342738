/* typealias.c -- what a type statement binds, by value.

   Does:      writes the statement as source that takes its value from a list,
              and fills the list behind it, because the value is evaluated when
              somebody asks for it and may lead back to the alias.
   Owns:      nothing beyond its frames.
   Invariant: the type parameters of the alias are those that its value and
              their bounds refer to.
   Called by: handled.c.

   What the receiver does:

       exec("type NAME[T: _values[1]] = _values[0]", namespace)
       alias = operator.getitem(namespace, "NAME")
       T = operator.getitem(getattr(alias, "__type_params__"), 0) ...
       _values.append(VALUE) ...

   An alias whose parameters have a life of their own is made by its type, when
   its value is there. */
#include "byvalue/room.h"

enum {
    BEGIN,
    MAKE_LAZY,
    FILL,
    FILLED,
    MAKE_EAGER,
    FINISHED,
};

#define VALUES "_values"
#define EAGER_TEXT                                                            \
    "alias = make(" VALUES "[0], " VALUES "[1], type_params=" VALUES "[2])"

/* ---- the source --------------------------------------------------------- */

/* Adds [item] to [values], and [before] and where it stands there to
   *[text]. */
static int
add_value(PyObject **text, PyObject *values, const char *before,
          PyObject *item)
{
    Py_ssize_t number = PyList_GET_SIZE(values);
    if (PyList_Append(values, item) < 0) {
        return -1;
    }
    Py_SETREF(*text, PyUnicode_FromFormat("%U%s" VALUES "[%zd]", *text, before,
                                          number));
    return *text == NULL ? -1 : 0;
}

/* The bound or the constraints of a type variable. */
static int
add_bound(PyObject **text, PyObject *values, PyObject *parameter)
{
    int status = -1;
    PyObject *bound = PyObject_GetAttrString(parameter, "__bound__");
    PyObject *constraints =
        bound == NULL ? NULL
                      : PyObject_GetAttrString(parameter, "__constraints__");
    if (constraints == NULL || !PyTuple_Check(constraints)) {
        goto done;
    }
    status = 0;
    if (bound != Py_None) {
        status = add_value(text, values, ": ", bound);
    }
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(constraints);
         i++) {
        status = add_value(text, values, i == 0 ? ": (" : ", ",
                           PyTuple_GET_ITEM(constraints, i));
    }
    if (status == 0 && PyTuple_GET_SIZE(constraints) > 0) {
        Py_SETREF(*text, PyUnicode_FromFormat("%U)", *text));
        status = *text == NULL ? -1 : 0;
    }
done:
    Py_XDECREF(bound);
    Py_XDECREF(constraints);
    return status;
}

static int
add_default(PyObject **text, PyObject *values, PyObject *parameter)
{
    PyObject *value;
    int found = fpk_get_parameter_default(parameter, &value);
    if (found > 0) {
        found = add_value(text, values, " = ", value);
        Py_DECREF(value);
    }
    return found;
}

static int
add_parameter(fpk_encoder *e, PyObject **text, PyObject *values,
              PyObject *parameter, bool first)
{
    const char *kind = Py_TYPE(parameter)->tp_name;
    bool is_variable = strcmp(kind, "typing.TypeVar") == 0;
    const char *stars = is_variable                             ? ""
                        : strcmp(kind, "typing.ParamSpec") == 0 ? "**"
                                                                : "*";
    PyObject *name = PyObject_GetAttr(parameter, e->state->str.__name__);
    if (name == NULL) {
        return -1;
    }
    Py_SETREF(*text, PyUnicode_FromFormat("%U%s%s%U", *text,
                                          first ? "[" : ", ", stars, name));
    Py_DECREF(name);
    if (*text == NULL ||
        (is_variable && add_bound(text, values, parameter) < 0)) {
        return -1;
    }
    return add_default(text, values, parameter);
}

/* The type statement, and the list of what it refers to, whose first item is
   the value. */
static PyObject *
write_statement(fpk_encoder *e, PyObject *name, PyObject *parameters,
                PyObject *values)
{
    PyObject *text = PyUnicode_FromFormat("type %U", name);
    Py_ssize_t size = PyTuple_GET_SIZE(parameters);
    for (Py_ssize_t i = 0; text != NULL && i < size; i++) {
        if (add_parameter(e, &text, values, PyTuple_GET_ITEM(parameters, i),
                          i == 0) < 0) {
            Py_CLEAR(text);
        }
    }
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("%U%s = " VALUES "[0]", text,
                                             size > 0 ? "]" : ""));
    }
    return text;
}

/* ---- which way ---------------------------------------------------------- */

static bool
is_good_name(PyObject *name)
{
    return PyUnicode_CheckExact(name) && PyUnicode_IsIdentifier(name) > 0 &&
           PyUnicode_CompareWithASCIIString(name, VALUES) != 0;
}

/* 1 if a type statement made [parameter], so that it belongs to its alias, and
   nothing has referred to it yet. */
static int
is_own_parameter(fpk_encoder *e, PyObject *parameter)
{
    PyObject *name = PyObject_GetAttr(parameter, e->state->str.__name__);
    bool good = name != NULL && is_good_name(name);
    Py_XDECREF(name);
    if (!good) {
        return PyErr_Occurred() ? -1 : 0;
    }
    const fpk_context *c = e->byvalue;
    if (fpk_memo_find(&e->memo, parameter) != NULL ||
        (c != NULL && fpk_memo_find(&c->fast_memo, parameter) != NULL)) {
        return 0;
    }
    PyObject *inferred;
    PyObject *attribute = PyUnicode_FromString("__infer_variance__");
    int found =
        attribute == NULL
            ? -1
            : PyObject_GetOptionalAttr(parameter, attribute, &inferred);
    Py_XDECREF(attribute);
    if (found <= 0) {
        return found < 0 ? -1 : 1; /* a TypeVarTuple has none */
    }
    Py_DECREF(inferred);
    return inferred == Py_True;
}

static int
can_be_lazy(fpk_encoder *e, PyObject *name, PyObject *parameters)
{
    int lazy = is_good_name(name);
    for (Py_ssize_t i = 0; lazy > 0 && i < PyTuple_GET_SIZE(parameters); i++) {
        lazy = is_own_parameter(e, PyTuple_GET_ITEM(parameters, i));
    }
    return lazy;
}

/* (text, name, values, module, parameters): a new tuple; text is None for an
   alias that is made by its type. */
static PyObject *
describe(fpk_encoder *e, PyObject *alias, PyObject *name, PyObject *module)
{
    PyObject *text = NULL, *values = NULL, *result = NULL;
    PyObject *parameters =
        PyObject_GetAttr(alias, e->state->str.__type_params__);
    PyObject *value =
        parameters == NULL ? NULL : PyObject_GetAttrString(alias, "__value__");
    if (value == NULL || !PyTuple_Check(parameters)) {
        goto done;
    }
    int lazy = can_be_lazy(e, name, parameters);
    if (lazy < 0) {
        goto done;
    }
    if (lazy) {
        values = Py_BuildValue("[O]", value);
        text = values == NULL ? NULL
                              : write_statement(e, name, parameters, values);
    }
    else {
        values = Py_BuildValue("[OOO]", name, value, parameters);
        text = Py_NewRef(Py_None);
    }
    if (text != NULL && values != NULL) {
        result = PyTuple_Pack(5, text, name, values, module, parameters);
    }
done:
    Py_XDECREF(parameters);
    Py_XDECREF(value);
    Py_XDECREF(text);
    Py_XDECREF(values);
    return result;
}

/* ---- the stream --------------------------------------------------------- */

static int
emit_empty_list(fpk_encoder *e)
{
    return e->protocol >= 1 ? fpk_emit_op(e, FPK_OP_EMPTY_LIST)
                            : fpk_emit_raw(e, "(l", 2);
}

/* The namespace and the list in it, put aside: frame->slot, frame->size. */
static int
emit_namespace(fpk_encoder *e, PyObject *module)
{
    fpk_frame *frame = fpk_top_frame(e);
    uint64_t list;
    if (fpk_emit_empty_dict(e) < 0 ||
        fpk_remember_anonymous(e, &frame->slot) < 0 ||
        fpk_emit_str(e, "__name__") < 0 || fpk_emit_unicode(e, module) < 0 ||
        fpk_emit_op(e, FPK_OP_SETITEM) < 0 || fpk_emit_str(e, VALUES) < 0 ||
        emit_empty_list(e) < 0 || fpk_remember_anonymous(e, &list) < 0) {
        return FPK_ERROR;
    }
    frame->size = (Py_ssize_t)list;
    if (fpk_emit_op(e, FPK_OP_SETITEM) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* exec(text, namespace), and the result on the stack. */
static int
emit_exec(fpk_encoder *e, const char *text, PyObject *name)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *source = PyUnicode_FromString(text);
    int status = FPK_ERROR;
    if (source != NULL &&
        fpk_save_global_as(e, e->state->builtins_exec, e->state->str.builtins,
                           "exec") == FPK_DONE &&
        fpk_begin_tuple(e, 2) == FPK_DONE &&
        fpk_emit_unicode(e, source) == FPK_DONE &&
        fpk_emit_get(e, frame->slot) == FPK_DONE &&
        fpk_end_tuple(e, 2) == FPK_DONE &&
        fpk_emit_op(e, FPK_OP_REDUCE) == FPK_DONE &&
        fpk_emit_op(e, FPK_OP_POP) == FPK_DONE &&
        fpk_save_global_as(e, e->state->operator_getitem,
                           e->state->str.operator, "getitem") == FPK_DONE &&
        fpk_begin_tuple(e, 2) == FPK_DONE &&
        fpk_emit_get(e, frame->slot) == FPK_DONE &&
        fpk_emit_unicode(e, name) == FPK_DONE &&
        fpk_end_tuple(e, 2) == FPK_DONE &&
        fpk_emit_op(e, FPK_OP_REDUCE) == FPK_DONE) {
        status = fpk_remember(e, frame->object);
    }
    Py_XDECREF(source);
    return status;
}

/* Number [i] of the parameters of the alias that the receiver has made. */
static int
emit_parameter(fpk_encoder *e, PyObject *alias, PyObject *parameter,
               uint32_t i)
{
    if (fpk_save_global_as(e, e->state->operator_getitem,
                           e->state->str.operator, "getitem") < 0 ||
        fpk_begin_tuple(e, 2) < 0 ||
        fpk_save_global_as(e, e->state->builtins_getattr,
                           e->state->str.builtins, "getattr") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_recall(e, alias) < 0 ||
        fpk_emit_str(e, "__type_params__") < 0 || fpk_end_tuple(e, 2) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0 || fpk_emit_uint(e, i) < 0 ||
        fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_remember(e, parameter) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

static int
make_lazy(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *parts = frame->aux;
    PyObject *parameters = PyTuple_GET_ITEM(parts, 4);
    const char *text = PyUnicode_AsUTF8(PyTuple_GET_ITEM(parts, 0));
    if (text == NULL || emit_exec(e, text, PyTuple_GET_ITEM(parts, 1)) < 0) {
        return FPK_ERROR;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parameters); i++) {
        if (emit_parameter(e, frame->object, PyTuple_GET_ITEM(parameters, i),
                           (uint32_t)i) < 0) {
            return FPK_ERROR;
        }
    }
    return FPK_DONE;
}

static int
make_eager(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (fpk_close_late(e)) {
        return fpk_recall(e, frame->object) == 1 ? FPK_DONE : FPK_ERROR;
    }
    PyObject *type = (PyObject *)Py_TYPE(frame->object);
    PyObject *name = PyUnicode_FromString("alias");
    int status = FPK_ERROR;
    if (name != NULL && fpk_emit_get(e, frame->slot) == FPK_DONE &&
        fpk_emit_str(e, "make") == FPK_DONE &&
        fpk_save_global_as(e, type, e->state->str.typing, "TypeAliasType") ==
            FPK_DONE &&
        fpk_emit_op(e, FPK_OP_SETITEM) == FPK_DONE &&
        fpk_emit_op(e, FPK_OP_POP) == FPK_DONE) {
        status = emit_exec(e, EAGER_TEXT, name);
    }
    Py_XDECREF(name);
    return status;
}

/* The next of the values, appended to the list. */
static int
fill(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *values = PyTuple_GET_ITEM(frame->aux, 2);
    if (frame->position == 0 && fpk_emit_get(e, (uint64_t)frame->size) < 0) {
        return FPK_ERROR;
    }
    if (frame->position < PyList_GET_SIZE(values)) {
        frame->step = FILLED;
        return fpk_save(e, PyList_GET_ITEM(values, frame->position++));
    }
    frame->step =
        PyTuple_GET_ITEM(frame->aux, 0) == Py_None ? MAKE_EAGER : FINISHED;
    return fpk_emit_op(e, FPK_OP_POP);
}

static int
advance_alias(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        size_t depth = e->depth;
        int result;
        switch (frame->step) {
        case BEGIN:
            frame->step =
                PyTuple_GET_ITEM(frame->aux, 0) == Py_None ? FILL : MAKE_LAZY;
            result = emit_namespace(e, PyTuple_GET_ITEM(frame->aux, 3));
            break;
        case MAKE_LAZY:
            frame->step = FILL;
            result = make_lazy(e);
            break;
        case FILL:
            result = fill(e);
            break;
        case FILLED:
            frame->step = FILL;
            result = fpk_emit_op(e, FPK_OP_APPEND);
            break;
        case MAKE_EAGER:
            frame->step = FINISHED;
            result = make_eager(e);
            break;
        default:
            return FPK_DONE;
        }
        if (result == FPK_ERROR || e->depth != depth) {
            return result < 0 ? FPK_ERROR : FPK_MORE;
        }
    }
}

int
fpk_save_type_alias(fpk_encoder *e, PyObject *obj)
{
    int status = FPK_ERROR;
    PyObject *parts = NULL;
    int found = fpk_recall(e, obj);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    PyObject *name = PyObject_GetAttr(obj, e->state->str.__name__);
    PyObject *module = PyObject_GetAttr(obj, e->state->str.__module__);
    if (name == NULL || module == NULL) {
        goto done;
    }
    int by_value = fpk_named_goes_by_value(e, obj, module, name);
    if (by_value < 0) {
        goto done;
    }
    if (!by_value) {
        status = fpk_save_global(e, obj, name);
        goto done;
    }
    if (!PyUnicode_Check(module)) {
        Py_SETREF(module, Py_NewRef(e->state->str.__main__));
    }
    parts = describe(e, obj, name, module);
    if (parts == NULL || fpk_get_context(e) == NULL) {
        Py_XDECREF(parts);
        goto done;
    }
    bool eager = PyTuple_GET_ITEM(parts, 0) == Py_None;
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_alias, obj, parts);
    if (frame != NULL) {
        frame->shared = true;
        status = eager && fpk_open_late(e) < 0 ? FPK_ERROR : FPK_MORE;
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(module);
    return status;
}
