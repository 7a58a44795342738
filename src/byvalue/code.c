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
#include "wire/known.h"

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

static int
save_marshalled(fpk_encoder *e, PyObject *code, bool shared)
{
    int status = FPK_ERROR;
    PyObject *bytes = fpk_marshal_code(e, code);
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

/* What stands before the instructions. */
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
    return FPK_DONE;
}

/* The instructions and the constants. */
static int
save_body(fpk_encoder *e, PyCodeObject *code)
{
    if (FPK_LIKELY(e->canonical == NULL)) {
        PyObject *instructions = PyCode_GetCode(code);
        int status =
            instructions == NULL ? FPK_ERROR : emit_bytes(e, instructions);
        Py_XDECREF(instructions);
        if (status < 0) {
            return FPK_ERROR;
        }
        /* The compiler may have used the tuple twice, CodeType does not. */
        return e->isolated ? fpk_save_tuple(e, code->co_consts, false)
                           : fpk_save(e, code->co_consts);
    }
    PyObject *instructions, *consts;
    if (fpk_normalise_code(e, code, &instructions, &consts) < 0) {
        return FPK_ERROR;
    }
    int result =
        emit_bytes(e, instructions) < 0 ? FPK_ERROR : fpk_save(e, consts);
    Py_DECREF(instructions);
    Py_DECREF(consts);
    return result;
}

static int
emit_place(fpk_encoder *e, const PyCodeObject *code)
{
    if (!fpk_keeps_place(e, code)) {
        return fpk_emit_str(e, "<string>");
    }
    PyObject *name = fpk_lasting_filename(e, code);
    int status = name == NULL ? FPK_ERROR : emit_name(e, name);
    Py_XDECREF(name);
    return status;
}

/* What stands behind them. */
static int
end_call(fpk_encoder *e, PyCodeObject *code)
{
    if (emit_names(e, code->co_names) < 0 ||
        emit_new_names(e, PyCode_GetVarnames(code)) < 0 ||
        emit_place(e, code) < 0 || emit_name(e, code->co_name) < 0 ||
        emit_name(e, code->co_qualname) < 0 ||
        fpk_emit_uint(e, fpk_keeps_place(e, code)
                             ? (uint32_t)code->co_firstlineno
                             : 1) < 0 ||
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

/* ---- the frame ---------------------------------------------------------- */

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
        int result = save_body(e, (PyCodeObject *)code);
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
    return fpk_save_bytecode(e, code, e->isolated || fpk_needs_memo(e, code));
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
