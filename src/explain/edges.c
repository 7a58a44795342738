/* edges.c -- how the parts of an object hang on it.

   Does:      tells, for a frame of the encoder and a part of its object, by
              what the part is reached: an index, a key, an attribute, a
              closure variable.
   Owns:      nothing.
   Invariant: calls no code of the user and raises nothing.
   Called by: survey.c, for each frame and each large atom. */
#include "explain/survey.h"

#define LONGEST_KEY 60

/* The name under which [dict] holds [part]; borrowed, or NULL. */
static PyObject *
name_in_dict(PyObject *dict, PyObject *part)
{
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (dict != NULL && PyDict_Next(dict, &position, &key, &value)) {
        if (value == part && PyUnicode_CheckExact(key)) {
            return key;
        }
    }
    return NULL;
}

static fpk_edge
make_edge(enum fpk_edge_kind kind, PyObject *name, Py_ssize_t number)
{
    fpk_edge edge = {.kind = kind, .name = name};
    edge.number = number > 0 ? (uint64_t)number : 0;
    return edge;
}

/* The part is what its owner is made of. */
static fpk_edge
join(enum fpk_role role)
{
    fpk_edge edge = make_edge(FPK_EDGE_STATE, NULL, 0);
    edge.joins = true;
    edge.role = role;
    return edge;
}

static bool
is_state_container(const fpk_frame *child)
{
    return child != NULL && (child->kind == FPK_FRAME_DICT ||
                             child->kind == FPK_FRAME_TUPLE);
}

/* ---- what frames of data lead to ---------------------------------------- */

static fpk_edge
find_item(const fpk_frame *frame, enum fpk_role role, const fpk_frame *child)
{
    Py_ssize_t i = frame->position - 1;
    if (role == FPK_ROLE_STATE && child != NULL &&
        child->kind == FPK_FRAME_DICT) {
        return join(FPK_ROLE_STATE);
    }
    if (role == FPK_ROLE_STATE) {
        return make_edge(FPK_EDGE_STATE, NULL, i);
    }
    return make_edge(role == FPK_ROLE_ARGUMENTS ? FPK_EDGE_ARGUMENT
                                                : FPK_EDGE_INDEX,
                     NULL, i);
}

static fpk_edge
find_entry(const fpk_frame *frame, enum fpk_role role, const fpk_frame *child,
           PyObject *part)
{
    PyObject *key = frame->aux;
    if (child == NULL) {
        /* An atom: the pair at the position is the current one. */
        Py_ssize_t position = frame->position;
        PyObject *value;
        if (!PyDict_Next(frame->object, &position, &key, &value)) {
            key = NULL;
        }
    }
    if (key == NULL || key == part) {
        return make_edge(FPK_EDGE_KEY_ITSELF, NULL, 0);
    }
    return make_edge(role == FPK_ROLE_STATE && PyUnicode_CheckExact(key)
                         ? FPK_EDGE_ATTRIBUTE
                         : FPK_EDGE_KEY,
                     key, 0);
}

static fpk_edge
find_reduce_part(const fpk_frame *frame, const fpk_frame *child,
                 PyObject *part)
{
    PyObject *value = frame->aux;
    if (child != NULL && (child->kind == FPK_FRAME_ITEMS ||
                          child->kind == FPK_FRAME_PAIRS)) {
        return join(FPK_ROLE_OBJECT);
    }
    if (value == NULL || !PyTuple_Check(value) ||
        PyTuple_GET_SIZE(value) < 2) {
        return make_edge(FPK_EDGE_PART, NULL, 0);
    }
    if (PyTuple_GET_ITEM(value, 1) == part) {
        return join(FPK_ROLE_ARGUMENTS);
    }
    if (PyTuple_GET_SIZE(value) > 2 && PyTuple_GET_ITEM(value, 2) == part) {
        return is_state_container(child)
                   ? join(FPK_ROLE_STATE)
                   : make_edge(FPK_EDGE_STATE, NULL, 0);
    }
    if (PyTuple_GET_ITEM(value, 0) == part ||
        part == (PyObject *)Py_TYPE(frame->object)) {
        return make_edge(FPK_EDGE_CALLABLE, NULL, 0);
    }
    return child != NULL && child->kind == FPK_FRAME_TUPLE
               ? join(FPK_ROLE_ARGUMENTS)
               : make_edge(FPK_EDGE_PART, NULL, 0);
}

static fpk_edge
find_instance_part(const fpk_frame *frame, const fpk_frame *child,
                   PyObject *part)
{
    if (part == (PyObject *)Py_TYPE(frame->object)) {
        return make_edge(FPK_EDGE_CALLABLE, NULL, 0);
    }
    if (part == frame->object) {
        return join(FPK_ROLE_OBJECT); /* the items of a named tuple */
    }
    return is_state_container(child) ? join(FPK_ROLE_STATE)
                                     : make_edge(FPK_EDGE_PART, NULL, 0);
}

/* ---- what functions, classes and modules lead to ------------------------ */

static PyObject *
closure_variable(PyObject *function, PyObject *part)
{
    PyObject *closure = PyFunction_GET_CLOSURE(function);
    if (closure == NULL) {
        return NULL;
    }
    PyObject *names =
        PyCode_GetFreevars((PyCodeObject *)PyFunction_GET_CODE(function));
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(closure) &&
                           i < PyTuple_GET_SIZE(names);
         i++) {
        PyObject *cell = PyTuple_GET_ITEM(closure, i);
        if (cell == part || (PyCell_Check(cell) && PyCell_GET(cell) == part)) {
            result = PyTuple_GET_ITEM(names, i);
            break;
        }
    }
    Py_XDECREF(names); /* the code keeps the name */
    return result;
}

static fpk_edge
find_function_part(const fpk_frame *frame, const fpk_frame *child,
                   PyObject *part)
{
    PyFunctionObject *f = (PyFunctionObject *)frame->object;
    PyObject *names = frame->aux;
    if (part == frame->object) {
        return join(FPK_ROLE_FUNCTION);
    }
    if (names != NULL && PyList_CheckExact(names) && frame->position > 0 &&
        frame->position <= PyList_GET_SIZE(names)) {
        PyObject *name = PyList_GET_ITEM(names, frame->position - 1);
        return make_edge(FPK_EDGE_GLOBAL, PyUnicode_Check(name) ? name : NULL,
                         0);
    }
    PyObject *variable = closure_variable(frame->object, part);
    if (variable != NULL) {
        return make_edge(FPK_EDGE_CLOSURE, variable, 0);
    }
    if (part == f->func_dict && child != NULL) {
        return join(FPK_ROLE_STATE);
    }
    if (part == f->func_defaults || part == f->func_kwdefaults) {
        return make_edge(FPK_EDGE_DEFAULT, NULL, 0);
    }
    return make_edge(FPK_EDGE_PART, NULL, 0);
}

static fpk_edge
find_class_part(const fpk_frame *frame, PyObject *part)
{
    PyTypeObject *type = (PyTypeObject *)frame->object;
    if (part == frame->object) {
        return join(FPK_ROLE_OBJECT);
    }
    PyObject *dict = fpk_type_dict(type);
    PyObject *name = name_in_dict(dict, part);
    Py_XDECREF(dict); /* the class keeps it, and it the name */
    if (name != NULL) {
        return make_edge(FPK_EDGE_MEMBER, name, 0);
    }
    for (Py_ssize_t i = 0;
         type->tp_bases != NULL && i < PyTuple_GET_SIZE(type->tp_bases);
         i++) {
        if (PyTuple_GET_ITEM(type->tp_bases, i) == part) {
            return make_edge(FPK_EDGE_BASE, NULL, i);
        }
    }
    if (PyFunction_Check(part)) {
        /* Inside a property or the like. */
        return make_edge(FPK_EDGE_MEMBER,
                         ((PyFunctionObject *)part)->func_name, 0);
    }
    return make_edge(part == (PyObject *)Py_TYPE(type) ? FPK_EDGE_CALLABLE
                                                       : FPK_EDGE_PART,
                     NULL, 0);
}

static fpk_edge
find_byvalue_part(const fpk_frame *frame, const fpk_frame *child,
                  PyObject *part)
{
    PyObject *object = frame->object;
    if (PyFunction_Check(object)) {
        return find_function_part(frame, child, part);
    }
    if (PyType_Check(object)) {
        return find_class_part(frame, part);
    }
    if (PyModule_Check(object)) {
        PyObject *name = name_in_dict(PyModule_GetDict(object), part);
        return make_edge(FPK_EDGE_MEMBER, name, 0);
    }
    return make_edge(FPK_EDGE_PART, NULL, 0);
}

/* ---- all frames --------------------------------------------------------- */

fpk_edge
fpk_find_edge(const fpk_encoder *e, const fpk_survey *s, size_t i,
              const fpk_frame *child, PyObject *part)
{
    const fpk_frame *frame = &e->frames[i];
    enum fpk_role role = (enum fpk_role)s->levels[i].role;
    fpk_edge edge;
    switch ((enum fpk_frame_kind)frame->kind) {
    case FPK_FRAME_LIST:
    case FPK_FRAME_TUPLE:
        edge = find_item(frame, role, child);
        break;
    case FPK_FRAME_ITEMS:
        edge = make_edge(FPK_EDGE_INDEX, NULL, frame->position - 1);
        break;
    case FPK_FRAME_DICT:
        edge = find_entry(frame, role, child, part);
        break;
    case FPK_FRAME_PAIRS:
        edge = frame->aux == NULL || PyTuple_GET_ITEM(frame->aux, 0) == part
                   ? make_edge(FPK_EDGE_KEY_ITSELF, NULL, 0)
                   : make_edge(FPK_EDGE_KEY, PyTuple_GET_ITEM(frame->aux, 0),
                               0);
        break;
    case FPK_FRAME_SET:
        edge = make_edge(FPK_EDGE_ITEM, NULL, 0);
        break;
    case FPK_FRAME_REDUCE:
        edge = find_reduce_part(frame, child, part);
        break;
    case FPK_FRAME_INSTANCE:
        edge = find_instance_part(frame, child, part);
        break;
    case FPK_FRAME_PERSID:
        edge = make_edge(FPK_EDGE_PERSISTENT_ID, NULL, 0);
        break;
    default:
        edge = find_byvalue_part(frame, child, part);
        break;
    }
    if (child != NULL && child->kind == FPK_FRAME_BYVALUE &&
        PyFunction_Check(child->object)) {
        edge.role = FPK_ROLE_FUNCTION;
    }
    return edge;
}

bool
fpk_is_inside(const fpk_encoder *e, size_t depth)
{
    while (depth > 0) {
        const fpk_frame *frame = &e->frames[--depth];
        if (frame->kind == FPK_FRAME_BYVALUE &&
            (PyFunction_Check(frame->object) || PyType_Check(frame->object) ||
             PyModule_Check(frame->object))) {
            return true;
        }
    }
    return false;
}

/* repr of a key if its type is known to run no code of the user. */
static PyObject *
show_key(PyObject *key)
{
    PyTypeObject *type = Py_TYPE(key);
    if (type != &PyUnicode_Type && type != &PyLong_Type &&
        type != &PyFloat_Type && type != &PyBytes_Type &&
        type != &PyBool_Type && key != Py_None) {
        return PyUnicode_FromFormat("<%s>", type->tp_name);
    }
    PyObject *repr = PyObject_Repr(key);
    if (repr != NULL && PyUnicode_GET_LENGTH(repr) > LONGEST_KEY) {
        PyObject *start = PyUnicode_Substring(repr, 0, LONGEST_KEY);
        Py_SETREF(repr, start == NULL
                            ? NULL
                            : PyUnicode_FromFormat("%U...", start));
        Py_XDECREF(start);
    }
    return repr;
}

PyObject *
fpk_show_edge(const fpk_node *node)
{
    PyObject *name = node->label.object;
    if (name == NULL) {
        return node->kind == FPK_EDGE_INDEX ||
                       node->kind == FPK_EDGE_ARGUMENT ||
                       node->kind == FPK_EDGE_BASE ||
                       node->kind == FPK_EDGE_STATE
                   ? PyLong_FromUnsignedLongLong(node->label.size)
                   : Py_NewRef(Py_None);
    }
    return node->kind != FPK_EDGE_KEY && PyUnicode_CheckExact(name)
               ? Py_NewRef(name)
               : show_key(name);
}
