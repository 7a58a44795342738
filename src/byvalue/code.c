/* code.c -- code objects, and the guard in front of the first of them.

   Does:      writes a code object as a call of types.CodeType with its fields,
              which share their names with each other and with whatever else
              the stream holds; or, where that call could not make it again,
              as one of marshal.loads.
   Owns:      the magic number and the words of the guard, in the module state.
   Invariant: no bytecode stands before the guard of its stream.
   Called by: function.c, handled.c; source.c.

   The guard.  Bytecode of another Python version crashes the interpreter
   that runs it, so each stream with bytecode starts with

       _frozen_importlib_external._classify_pyc(
           HEADER, {"bytecode of X.Y in": sys.version}, {})

   where HEADER is that of a .pyc file of the writing Python.  It is the test
   that import makes before it runs a file: a Python with another magic number
   raises ImportError, which shows the dict and so names both versions.  Our
   own loader makes the test itself (decode/objects.c). */
#include "byvalue/room.h"
#include "compat/bytecode.h"
#include "wire/known.h"

#include <marshal.h>

/* Version 2 writes no back-references, whose places would depend on reference
   counts: equal code gives equal bytes. */
#define MARSHAL_VERSION 2

/* ---- the guard ---------------------------------------------------------- */

static int
emit_guard(fpk_encoder *e)
{
    fpk_state *state = e->state;
    PyObject *module = state->str._frozen_importlib_external;
    if (fpk_save_global_as(e, NULL, module, FPK_GUARD_FUNCTION) < 0 ||
        fpk_begin_tuple(e, 3) < 0 ||
        fpk_emit_bytes(e, PyBytes_AS_STRING(state->bytecode_header),
                       PyBytes_GET_SIZE(state->bytecode_header)) < 0 ||
        fpk_emit_empty_dict(e) < 0 ||
        fpk_emit_unicode(e, state->bytecode_words) < 0 ||
        fpk_save_global_as(e, NULL, module, "sys.version") < 0 ||
        fpk_emit_op(e, FPK_OP_SETITEM) < 0 || fpk_emit_empty_dict(e) < 0 ||
        fpk_end_tuple(e, 3) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

int
fpk_guard_bytecode(fpk_encoder *e)
{
    fpk_context *c = fpk_get_context(e);
    if (c == NULL) {
        return FPK_ERROR;
    }
    if (c->guarded) {
        return FPK_DONE;
    }
    c->guarded = true;
    return fpk_element_boundary(e) < 0 ? FPK_ERROR : emit_guard(e);
}

/* ---- marshal ------------------------------------------------------------ */

/* CodeType() makes plain variables of the hidden ones that comprehensions
   leave in code that is no function's, such as the body of a class. */
static bool
needs_marshal(const PyCodeObject *code)
{
    return (code->co_nlocals > 0 && !(code->co_flags & CO_OPTIMIZED)) ||
           code->co_firstlineno < 0;
}

PyObject *
fpk_marshal_code(PyObject *code)
{
    return PyMarshal_WriteObjectToString(code, MARSHAL_VERSION);
}

static int
save_marshalled(fpk_encoder *e, PyObject *code, bool shared)
{
    int status = FPK_ERROR;
    PyObject *bytes = fpk_marshal_code(code);
    if (bytes == NULL) {
        return FPK_ERROR;
    }
    /* A large payload goes to the file at once, which runs any code. */
    Py_INCREF(code);
    if (fpk_save_global_as(e, e->state->marshal_loads, e->state->str.marshal,
                           "loads") == FPK_DONE &&
        fpk_begin_tuple(e, 1) == FPK_DONE &&
        fpk_emit_bytes(e, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes)) ==
            FPK_DONE &&
        fpk_end_tuple(e, 1) == FPK_DONE) {
        status = fpk_emit_op(e, FPK_OP_REDUCE);
    }
    Py_DECREF(bytes);
    if (status == FPK_DONE && shared) {
        status = fpk_remember(e, code);
    }
    Py_DECREF(code);
    return status;
}

/* ---- CodeType ----------------------------------------------------------- */

/* CodeType's arguments before the code and at the end, which are left out if
   they are empty. */
#define FIRST_ARGUMENTS 16

static Py_ssize_t
count_arguments(const PyCodeObject *code)
{
    return FIRST_ARGUMENTS +
           (code->co_ncellvars > 0 ? 2 : code->co_nfreevars > 0);
}

static int
emit_name(fpk_encoder *e, PyObject *name)
{
    int done = fpk_save_atom(e, name, fpk_needs_memo(e, name));
    if (done == 0) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle code: a name in it should be str, not "
                     "%.200s",
                     Py_TYPE(name)->tp_name);
    }
    return done > 0 ? FPK_DONE : FPK_ERROR;
}

static int
emit_names(fpk_encoder *e, PyObject *names)
{
    Py_ssize_t size = PyTuple_GET_SIZE(names);
    if (fpk_begin_tuple(e, size) < 0) {
        return FPK_ERROR;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (emit_name(e, PyTuple_GET_ITEM(names, i)) < 0) {
            return FPK_ERROR;
        }
    }
    return fpk_end_tuple(e, size);
}

/* As emit_names for a new tuple (stolen) that may be NULL with an
   exception. */
static int
emit_new_names(fpk_encoder *e, PyObject *names)
{
    int status = names == NULL ? FPK_ERROR : emit_names(e, names);
    Py_XDECREF(names);
    return status;
}

static int
emit_bytes(fpk_encoder *e, PyObject *bytes)
{
    return fpk_emit_bytes(e, PyBytes_AS_STRING(bytes),
                          PyBytes_GET_SIZE(bytes));
}

/* What stands before the constants. */
static int
begin_call(fpk_encoder *e, PyCodeObject *code)
{
    const int numbers[] = {
        code->co_argcount, code->co_posonlyargcount, code->co_kwonlyargcount,
        code->co_nlocals,  code->co_stacksize,       code->co_flags,
    };
    if (fpk_save_global_as(e, (PyObject *)&PyCode_Type, e->state->str.types,
                           "CodeType") < 0 ||
        fpk_begin_tuple(e, count_arguments(code)) < 0) {
        return FPK_ERROR;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(numbers); i++) {
        if (fpk_emit_uint(e, (uint32_t)numbers[i]) < 0) {
            return FPK_ERROR;
        }
    }
    PyObject *instructions = PyCode_GetCode(code);
    int status =
        instructions == NULL ? FPK_ERROR : emit_bytes(e, instructions);
    Py_XDECREF(instructions);
    return status;
}

/* Neither the file nor the line belongs to a deterministic stream: the lines
   in the table count from the first, and every code object starts at 1. */
static int
emit_place(fpk_encoder *e, const PyCodeObject *code)
{
    return e->canonical != NULL ? fpk_emit_str(e, "<string>")
                                : emit_name(e, code->co_filename);
}

/* What stands behind them. */
static int
end_call(fpk_encoder *e, PyCodeObject *code)
{
    if (emit_names(e, code->co_names) < 0 ||
        emit_new_names(e, PyCode_GetVarnames(code)) < 0 ||
        emit_place(e, code) < 0 ||
        emit_name(e, code->co_name) < 0 ||
        emit_name(e, code->co_qualname) < 0 ||
        fpk_emit_uint(e, e->canonical != NULL
                             ? 1
                             : (uint32_t)code->co_firstlineno) < 0 ||
        emit_bytes(e, code->co_linetable) < 0 ||
        emit_bytes(e, code->co_exceptiontable) < 0) {
        return FPK_ERROR;
    }
    Py_ssize_t count = count_arguments(code);
    if ((count > FIRST_ARGUMENTS &&
         emit_new_names(e, PyCode_GetFreevars(code)) < 0) ||
        (count > FIRST_ARGUMENTS + 1 &&
         emit_new_names(e, PyCode_GetCellvars(code)) < 0) ||
        fpk_end_tuple(e, count) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* ---- constants of a deterministic dump ---------------------------------- */

PyObject *
fpk_normalise_constant(fpk_encoder *e, PyObject *name, PyObject *value)
{
    if (PyLong_CheckExact(value) &&
        PyUnicode_CompareWithASCIIString(name, "__firstlineno__") == 0) {
        return PyLong_FromLong(1);
    }
    if (PyTuple_CheckExact(value) &&
        PyUnicode_CompareWithASCIIString(name, "__static_attributes__") ==
            0) {
        PyObject *items = fpk_canonical_items(e, value);
        PyObject *result = items == NULL ? NULL : PyList_AsTuple(items);
        Py_XDECREF(items);
        return result;
    }
    return Py_NewRef(value);
}

/* The body of a class loads its line and the names of its attributes as
   constants: [consts] with these made the same everywhere, unless they serve
   something else, too. */
static int
normalise_constants(fpk_encoder *e, PyCodeObject *code, PyObject *bytes,
                    PyObject *consts)
{
    const uint8_t *unit = (const uint8_t *)PyBytes_AS_STRING(bytes);
    const uint8_t *end = unit + PyBytes_GET_SIZE(bytes);
    uint32_t high = 0, constant = 0;
    bool loaded = false;
    for (; unit + 1 < end; unit += 2) {
        uint32_t argument = high | unit[1];
        high = unit[0] == EXTENDED_ARG ? argument << 8 : 0;
        if (loaded && unit[0] == STORE_NAME) {
            PyObject *name = PyTuple_GET_ITEM(code->co_names, argument);
            PyObject *value = fpk_normalise_constant(
                e, name, PyList_GET_ITEM(consts, constant));
            if (value == NULL ||
                PyList_SetItem(consts, (Py_ssize_t)constant, value) < 0) {
                return -1;
            }
        }
        if (unit[0] != EXTENDED_ARG) {
            loaded = unit[0] == LOAD_CONST;
            constant = argument;
        }
    }
    return 0;
}

/* How often [bytes] load each constant: more than once is no business of a
   class statement alone.  Restores these in [consts]. */
static int
restore_shared_constants(PyCodeObject *code, PyObject *bytes,
                         PyObject *consts)
{
    const uint8_t *unit = (const uint8_t *)PyBytes_AS_STRING(bytes);
    const uint8_t *end = unit + PyBytes_GET_SIZE(bytes);
    size_t size = (size_t)PyList_GET_SIZE(consts);
    uint8_t *loads = PyMem_Calloc(size + 1, 1);
    uint32_t high = 0;
    int status = 0;
    if (loads == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (; unit + 1 < end; unit += 2) {
        uint32_t argument = high | unit[1];
        high = unit[0] == EXTENDED_ARG ? argument << 8 : 0;
        if (fpk_is_load_const(unit[0]) && argument < size &&
            loads[argument] < 2) {
            loads[argument]++;
        }
    }
    for (size_t i = 0; status == 0 && i < size; i++) {
        if (loads[i] > 1) {
            PyObject *value = PyTuple_GET_ITEM(code->co_consts, i);
            status = PyList_SetItem(consts, (Py_ssize_t)i, Py_NewRef(value));
        }
    }
    PyMem_Free(loads);
    return status;
}

/* The constants as a deterministic stream has them: a new tuple. */
static PyObject *
get_constants(fpk_encoder *e, PyCodeObject *code)
{
    if (code->co_flags & CO_OPTIMIZED) {
        return Py_NewRef(code->co_consts);
    }
    PyObject *result = NULL;
    PyObject *bytes = PyCode_GetCode(code);
    PyObject *consts = PySequence_List(code->co_consts);
    if (bytes != NULL && consts != NULL &&
        normalise_constants(e, code, bytes, consts) == 0 &&
        restore_shared_constants(code, bytes, consts) == 0) {
        result = PyList_AsTuple(consts);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(consts);
    return result;
}

static int
save_constants(fpk_encoder *e, PyCodeObject *code)
{
    if (FPK_LIKELY(e->canonical == NULL)) {
        /* The compiler may have used the tuple twice, CodeType does not. */
        return e->isolated ? fpk_save_tuple(e, code->co_consts, false)
                           : fpk_save(e, code->co_consts);
    }
    PyObject *consts = get_constants(e, code);
    int result = consts == NULL ? FPK_ERROR : fpk_save(e, consts);
    Py_XDECREF(consts);
    return result;
}

enum { BEGIN_CODE, CONSTANTS_DONE };

static int
advance_code(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *code = frame->object;
    if (frame->step == BEGIN_CODE) {
        frame->step = CONSTANTS_DONE;
        if (begin_call(e, (PyCodeObject *)code) < 0) {
            return FPK_ERROR;
        }
        int result = save_constants(e, (PyCodeObject *)code);
        return result < 0 ? FPK_ERROR : FPK_MORE;
    }
    bool shared = frame->shared;
    if (end_call(e, (PyCodeObject *)code) < 0) {
        return FPK_ERROR;
    }
    return shared ? fpk_remember(e, code) : FPK_DONE;
}

int
fpk_save_bytecode(fpk_encoder *e, PyObject *code, bool shared)
{
    if (fpk_guard_bytecode(e) < 0) {
        return FPK_ERROR;
    }
    if (needs_marshal((PyCodeObject *)code)) {
        return save_marshalled(e, code, shared);
    }
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_code, code, NULL);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->shared = shared;
    return FPK_MORE;
}

int
fpk_save_code(fpk_encoder *e, PyObject *code)
{
    int found = fpk_recall(e, code);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    if (FPK_UNLIKELY(e->portable || e->source)) {
        return fpk_save_code_with_source(e, code);
    }
    return fpk_save_bytecode(e, code,
                             e->isolated || fpk_needs_memo(e, code));
}

/* ---- life --------------------------------------------------------------- */

int
fpk_init_code(PyObject *module, fpk_state *state)
{
    if (fpk_fetch(&state->marshal_loads, "marshal", "loads") < 0 ||
        fpk_fetch(&state->classify_pyc, "_frozen_importlib_external",
                  FPK_GUARD_FUNCTION) < 0) {
        return -1;
    }
    char header[FPK_GUARD_HEADER] = {0};
    long magic = PyImport_GetMagicNumber();
    if (magic == -1 && PyErr_Occurred()) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        header[i] = (char)(magic >> 8 * i & 255);
    }
    state->bytecode_header = PyBytes_FromStringAndSize(header, sizeof header);
    state->bytecode_words = PyUnicode_FromFormat(
        FPK_GUARD_BEFORE_VERSION "%d.%d" FPK_GUARD_AFTER_VERSION,
        PY_MAJOR_VERSION, PY_MINOR_VERSION);
    return state->bytecode_header == NULL || state->bytecode_words == NULL ? -1
                                                                           : 0;
}
