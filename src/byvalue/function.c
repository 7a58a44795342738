/* function.c -- functions by value.

   Does:      writes types.FunctionType(code, globals, name, defaults, closure)
              and then whatever differs from what that call gives: attributes,
              the content of closures, the globals that the code uses.
   Owns:      nothing beyond its frames.
   Invariant: a function is memoised before anything is written that may refer
              back to it: what stands before is code, atoms and empty cells.
   Called by: rules.c; class.c, which creates all methods before it completes
              the first of them. */
#include "byvalue/room.h"

/* What a frame does, in this order; create and complete are also done
   alone. */
enum {
    CREATE_CODE,
    CREATE_REST,
    COMPLETE,
    SET_DICT,
    SET_ATTRIBUTES,
    SET_ATTRIBUTE_DONE,
    FILL_CELLS,
    FILL_CELL_DONE,
    COLLECT_NAMES,
    WRITE_NAMES,
    WRITE_NAME_DONE,
};

/* frame->slot: which parts are meant, and which attributes are to be set. */
enum {
    ONLY_CREATE = 1 << 0,
    ONLY_COMPLETE = 1 << 1,
    HAS_DICT = 1 << 2,
    FIRST_ATTRIBUTE_BIT = 3,
};

enum attribute {
    ATTRIBUTE_ANNOTATIONS,
    ATTRIBUTE_DEFAULTS,
    ATTRIBUTE_DOC,
    ATTRIBUTE_KWDEFAULTS,
    ATTRIBUTE_MODULE,
    ATTRIBUTE_QUALNAME,
    ATTRIBUTE_TYPE_PARAMS,
    ATTRIBUTE_COUNT,
};

static PyObject *
name_of_attribute(const fpk_state *state, enum attribute attribute)
{
    PyObject *const names[ATTRIBUTE_COUNT] = {
        state->str.__annotations__, state->str.__defaults__,
        state->str.__doc__,         state->str.__kwdefaults__,
        state->str.__module__,      state->str.__qualname__,
        state->str.__type_params__,
    };
    return names[attribute];
}

/* ---- what differs from a new function ----------------------------------- */

static bool
is_atom(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    return obj == Py_None || type == &PyUnicode_Type || type == &PyLong_Type ||
           type == &PyBool_Type || type == &PyFloat_Type ||
           type == &PyBytes_Type;
}

/* Defaults that cannot refer to the function are arguments of the call. */
static bool
has_plain_defaults(fpk_encoder *e, PyObject *defaults)
{
    if (defaults == NULL || e->persistent_id != NULL) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(defaults); i++) {
        PyObject *item = PyTuple_GET_ITEM(defaults, i);
        if (!is_atom(item) ||
            (PyBytes_CheckExact(item) && !fpk_bytes_are_atom(e, item))) {
            return false;
        }
    }
    return true;
}

static bool
same_text(PyObject *a, PyObject *b)
{
    return a == b || (a != NULL && b != NULL && PyUnicode_CheckExact(a) &&
                      PyUnicode_CheckExact(b) && PyUnicode_Compare(a, b) == 0);
}

/* The value of an attribute if it has to be set, else NULL: borrowed from the
   function. */
static PyObject *
get_attribute(fpk_encoder *e, PyObject *function, enum attribute attribute)
{
    PyFunctionObject *f = (PyFunctionObject *)function;
    PyCodeObject *code = (PyCodeObject *)f->func_code;
    PyObject *value;
    switch (attribute) {
    case ATTRIBUTE_ANNOTATIONS:
        value = PyFunction_GetAnnotations(function);
        return value != NULL && PyDict_Check(value) &&
                       PyDict_GET_SIZE(value) > 0
                   ? value
                   : NULL;
    case ATTRIBUTE_DEFAULTS:
        value = f->func_defaults;
        return value == NULL || has_plain_defaults(e, value) ? NULL : value;
    case ATTRIBUTE_DOC:
        value = f->func_doc == NULL ? Py_None : f->func_doc;
        PyObject *doc = fpk_code_doc(f->func_code);
        return same_text(value, doc == NULL ? Py_None : doc) ? NULL : value;
    case ATTRIBUTE_KWDEFAULTS:
        value = f->func_kwdefaults;
        return value == NULL || value == Py_None ? NULL : value;
    case ATTRIBUTE_MODULE:
        value = f->func_module == NULL ? Py_None : f->func_module;
        PyObject *name =
            PyDict_GetItemWithError(f->func_globals, e->state->str.__name__);
        return same_text(value, name == NULL ? Py_None : name) ? NULL : value;
    case ATTRIBUTE_QUALNAME:
        return same_text(f->func_qualname, code->co_qualname)
                   ? NULL
                   : f->func_qualname;
    case ATTRIBUTE_TYPE_PARAMS:
        return fpk_function_type_params(function);
    default:
        Py_UNREACHABLE();
    }
}

/* ---- create ------------------------------------------------------------- */

/* How many arguments the call needs. */
static Py_ssize_t
count_arguments(fpk_encoder *e, PyFunctionObject *f)
{
    if (f->func_closure != NULL) {
        return 5;
    }
    if (has_plain_defaults(e, f->func_defaults)) {
        return 4;
    }
    return same_text(f->func_name, ((PyCodeObject *)f->func_code)->co_name)
               ? 2
               : 3;
}

static int
emit_defaults(fpk_encoder *e, PyObject *defaults)
{
    if (!has_plain_defaults(e, defaults)) {
        return fpk_emit_op(e, FPK_OP_NONE);
    }
    /* No more than atoms: nothing is left to do when it returns. */
    Py_ssize_t size = PyTuple_GET_SIZE(defaults);
    if (fpk_begin_tuple(e, size) < 0) {
        return FPK_ERROR;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *item = PyTuple_GET_ITEM(defaults, i);
        if (fpk_save_atom(e, item, fpk_needs_memo(e, item)) < 0) {
            return FPK_ERROR;
        }
    }
    return fpk_end_tuple(e, size);
}

static int
emit_closure(fpk_encoder *e, PyObject *closure)
{
    Py_ssize_t size = PyTuple_GET_SIZE(closure);
    if (fpk_begin_tuple(e, size) < 0) {
        return FPK_ERROR;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (fpk_create_cell(e, PyTuple_GET_ITEM(closure, i)) < 0) {
            return FPK_ERROR;
        }
    }
    return fpk_end_tuple(e, size);
}

/* The name is an str whatever code says. */
static int
emit_name(fpk_encoder *e, PyFunctionObject *f)
{
    PyObject *name = f->func_name;
    if (same_text(name, ((PyCodeObject *)f->func_code)->co_name)) {
        return fpk_emit_op(e, FPK_OP_NONE);
    }
    return fpk_emit_unicode(e, name);
}

static int
create_rest(fpk_encoder *e, PyObject *function)
{
    PyFunctionObject *f = (PyFunctionObject *)function;
    Py_ssize_t count = count_arguments(e, f);
    if (fpk_save_namespace(e, PyFunction_GET_GLOBALS(function)) < 0 ||
        (count >= 3 && emit_name(e, f) < 0) ||
        (count >= 4 && emit_defaults(e, f->func_defaults) < 0) ||
        (count >= 5 && emit_closure(e, f->func_closure) < 0) ||
        fpk_end_tuple(e, count) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_remember(e, function) < 0) {
        return FPK_ERROR;
    }
    return FPK_DONE;
}

static int
create_code(fpk_encoder *e, PyObject *function)
{
    PyFunctionObject *f = (PyFunctionObject *)function;
    if (fpk_save_global_as(e, (PyObject *)&PyFunction_Type,
                           e->state->str.types, "FunctionType") < 0 ||
        fpk_begin_tuple(e, count_arguments(e, f)) < 0) {
        return FPK_ERROR;
    }
    return fpk_save_code(e, f->func_code);
}

/* ---- complete ----------------------------------------------------------- */

/* Which attributes differ: bits of frame->slot. */
static int
find_attributes(fpk_encoder *e, PyObject *function, uint64_t *slot)
{
    PyObject *dict = ((PyFunctionObject *)function)->func_dict;
    if (dict != NULL && PyDict_GET_SIZE(dict) > 0) {
        *slot |= HAS_DICT;
    }
    for (int i = 0; i < ATTRIBUTE_COUNT; i++) {
        if (get_attribute(e, function, (enum attribute)i) != NULL) {
            *slot |= (uint64_t)1 << (FIRST_ATTRIBUTE_BIT + i);
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

static bool
has_attributes(const fpk_frame *frame)
{
    return frame->slot >> FIRST_ATTRIBUTE_BIT != 0;
}

/* BUILD takes a dict for __dict__, or a tuple of that (or None) and a dict of
   attributes to be set. */
static int
set_dict(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    frame->position = 0;
    if (!(frame->slot & HAS_DICT) && !has_attributes(frame)) {
        frame->step = FILL_CELLS;
        return FPK_DONE;
    }
    frame->step = SET_ATTRIBUTES;
    if (has_attributes(frame) && fpk_begin_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    if (!(frame->slot & HAS_DICT)) {
        return fpk_emit_op(e, FPK_OP_NONE);
    }
    return fpk_save(e, ((PyFunctionObject *)frame->object)->func_dict);
}

static int
set_attributes(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (has_attributes(frame) && frame->position == 0 &&
        fpk_emit_empty_dict(e) < 0) {
        return FPK_ERROR;
    }
    while (frame->position < ATTRIBUTE_COUNT) {
        int i = (int)frame->position++;
        if (!(frame->slot >> (FIRST_ATTRIBUTE_BIT + i) & 1)) {
            continue;
        }
        PyObject *value = get_attribute(e, frame->object, (enum attribute)i);
        frame->step = SET_ATTRIBUTE_DONE;
        if (fpk_save_atom(e, name_of_attribute(e->state, (enum attribute)i),
                          true) < 0) {
            return FPK_ERROR;
        }
        /* Gone since it was looked at, by code that ran meanwhile. */
        return value == NULL ? fpk_emit_op(e, FPK_OP_NONE)
                             : fpk_save(e, value);
    }
    frame->step = FILL_CELLS;
    frame->position = 0;
    if (has_attributes(frame) && fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_BUILD);
}

static int
fill_cells(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *closure = PyFunction_GET_CLOSURE(frame->object);
    while (closure != NULL && frame->position < PyTuple_GET_SIZE(closure)) {
        PyObject *cell = PyTuple_GET_ITEM(closure, frame->position++);
        frame->step = FILL_CELL_DONE;
        int result = fpk_begin_fill(e, cell);
        if (result != FPK_DONE) {
            return result;
        }
    }
    frame->step = COLLECT_NAMES;
    return FPK_DONE;
}

/* True if a variable of the closure is a module: its submodules, too, are
   reached by attribute. */
static bool
encloses_module(PyObject *function)
{
    PyObject *closure = PyFunction_GET_CLOSURE(function);
    Py_ssize_t size = closure == NULL ? 0 : PyTuple_GET_SIZE(closure);
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *content = PyCell_GET(PyTuple_GET_ITEM(closure, i));
        if (content != NULL && PyModule_Check(content)) {
            return true;
        }
    }
    return false;
}

static int
collect_names(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_namespace *space =
        fpk_find_namespace(e, PyFunction_GET_GLOBALS(frame->object));
    frame->step = WRITE_NAMES;
    frame->position = 0;
    if (space->at_receiver && !encloses_module(frame->object)) {
        return FPK_DONE;
    }
    PyObject *names = fpk_collect_names(e, frame->object, space);
    if (names == NULL) {
        return PyErr_Occurred() ? FPK_ERROR : FPK_DONE;
    }
    frame->aux = names;
    return fpk_emit_get(e, space->index);
}

static int
write_names(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *names = frame->aux;
    if (names == NULL) {
        return FPK_DONE;
    }
    PyObject *globals = PyFunction_GET_GLOBALS(frame->object);
    while (frame->position < PyList_GET_SIZE(names)) {
        PyObject *item = PyList_GET_ITEM(names, frame->position++);
        frame->step = WRITE_NAME_DONE;
        int result = fpk_begin_name(e, globals, item);
        if (result != FPK_DONE) {
            return result;
        }
    }
    frame->step = WRITE_NAMES;
    return fpk_emit_op(e, FPK_OP_POP);
}

static int
end_function(fpk_encoder *e)
{
    return fpk_top_frame(e)->slot & ONLY_COMPLETE ? fpk_emit_op(e, FPK_OP_POP)
                                                  : FPK_DONE;
}

/* ---- the frame ---------------------------------------------------------- */

static int
advance_function(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        size_t depth = e->depth;
        int result = FPK_DONE;
        switch (frame->step) {
        case CREATE_CODE:
            frame->step = CREATE_REST;
            result = create_code(e, frame->object);
            break;
        case CREATE_REST:
            frame->step = COMPLETE;
            if (create_rest(e, frame->object) < 0) {
                return FPK_ERROR;
            }
            frame = fpk_top_frame(e);
            if (frame->slot & ONLY_CREATE) {
                return fpk_mark_due(e, frame->object) < 0 ? FPK_ERROR
                                                          : FPK_DONE;
            }
            break;
        case COMPLETE:
            frame->step = SET_DICT;
            if (frame->slot & ONLY_COMPLETE &&
                fpk_recall(e, frame->object) < 0) {
                return FPK_ERROR;
            }
            if (find_attributes(e, frame->object, &frame->slot) < 0) {
                return FPK_ERROR;
            }
            break;
        case SET_DICT:
            result = set_dict(e);
            break;
        case SET_ATTRIBUTE_DONE:
            frame->step = SET_ATTRIBUTES;
            result = fpk_emit_op(e, FPK_OP_SETITEM);
            if (result == FPK_DONE) {
                result = set_attributes(e);
            }
            break;
        case SET_ATTRIBUTES:
            result = set_attributes(e);
            break;
        case FILL_CELL_DONE:
            frame->step = FILL_CELLS;
            result = fpk_end_fill(e);
            break;
        case FILL_CELLS:
            result = fill_cells(e);
            break;
        case COLLECT_NAMES:
            result = collect_names(e);
            break;
        case WRITE_NAME_DONE:
            frame->step = WRITE_NAMES;
            result = fpk_end_name(e, NULL);
            break;
        default:
            result = write_names(e);
            if (result == FPK_DONE) {
                return end_function(e);
            }
            break;
        }
        if (result == FPK_ERROR || e->depth != depth) {
            return result < 0 ? FPK_ERROR : FPK_MORE;
        }
    }
}

static int
push_function(fpk_encoder *e, PyObject *function, uint8_t step, uint64_t parts)
{
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_function, function, NULL);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->step = step;
    frame->slot = parts;
    return FPK_MORE;
}

int
fpk_save_function_body(fpk_encoder *e, PyObject *function)
{
    if (FPK_UNLIKELY(PyFunction_GET_CODE(function) ==
                     e->state->dispatcher_code) &&
        fpk_is_dispatcher(e->state, function)) {
        return fpk_save_dispatcher(e, function);
    }
    int found = fpk_recall(e, function);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    return push_function(e, function, CREATE_CODE, 0);
}

int
fpk_create_function(fpk_encoder *e, PyObject *function)
{
    int found = fpk_recall(e, function);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    return push_function(e, function, CREATE_CODE, ONLY_CREATE);
}

int
fpk_complete_function(fpk_encoder *e, PyObject *function)
{
    if (!fpk_take_due(e, function)) {
        return FPK_DONE;
    }
    return push_function(e, function, COMPLETE, ONLY_COMPLETE);
}
