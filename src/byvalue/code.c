/* code.c -- code objects, and the guard in front of the first of them.

   Does:      writes a code object as a call of the stream's loader with its
              marshalled bytes; if marshal cannot write one of its constants,
              as a call of types.CodeType with its fields.
   Owns:      nothing; the text and the magic number are in the module state.
   Invariant: no bytecode stands before the guard of its stream.
   Called by: function.c, handled.c.

   The guard.  Bytecode of another Python version crashes the interpreter
   that runs it, so each stream with bytecode starts with

       loader = dict.get({MAGIC: marshal.loads},
                         _frozen_importlib_external.MAGIC_NUMBER, exec)
       loader(TEXT)

   where MAGIC is the number of the writing Python.  In a Python with the same
   number, marshal.loads(TEXT) is harmless: it reads the first five bytes,
   "if 1:", as an int and ignores the rest.  In any other Python the loader is
   exec, for which TEXT is a statement that raises UnpicklingError and names
   both versions.  It binds no name, because exec works in the namespace of
   whoever loads the pickle. */
#include "byvalue/room.h"

#include <marshal.h>

#define GUARD_TEXT                                                            \
    "if 1:raise __import__('pickle').UnpicklingError('this pickle holds "     \
    "bytecode of CPython %d.%d, but this is Python '"                         \
    "+__import__('sys').version.split()[0])"

/* Version 2 writes no back-references, whose places would depend on reference
   counts: equal code gives equal bytes. */
#define MARSHAL_VERSION 2

/* A name that the stream needs once: where the protocol has it on the stack
   without more ado, it gets no memo entry. */
static int
emit_name(fpk_encoder *e, PyObject *obj, const char *module, const char *name)
{
    if (e->protocol < 4) {
        return fpk_save_global_as(e, obj, module, name);
    }
    if (fpk_emit_str(e, module) < 0 || fpk_emit_str(e, name) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_STACK_GLOBAL);
}

static int
emit_guard(fpk_encoder *e, fpk_context *c)
{
    fpk_state *state = e->state;
    if (emit_name(e, state->dict_get, "builtins", "dict.get") < 0 ||
        fpk_begin_tuple(e, 3) < 0 || fpk_emit_empty_dict(e) < 0 ||
        fpk_emit_bytes(e, PyBytes_AS_STRING(state->bytecode_magic),
                       PyBytes_GET_SIZE(state->bytecode_magic)) < 0 ||
        emit_name(e, state->marshal_loads, "marshal", "loads") < 0 ||
        fpk_emit_op(e, FPK_OP_SETITEM) < 0 ||
        emit_name(e, state->guard_text, "_frozen_importlib_external",
                  "MAGIC_NUMBER") < 0 ||
        emit_name(e, state->builtins_exec, "builtins", "exec") < 0 ||
        fpk_end_tuple(e, 3) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_remember_anonymous(e, &c->loader) < 0) {
        return FPK_ERROR;
    }
    if (fpk_begin_tuple(e, 1) < 0 ||
        fpk_emit_bytes(e, PyBytes_AS_STRING(state->guard_text),
                       PyBytes_GET_SIZE(state->guard_text)) < 0 ||
        fpk_end_tuple(e, 1) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* types.CodeType(...) for code that marshal refuses. */
static int
save_code_fields(fpk_encoder *e, PyObject *code)
{
    static const char *const fields[] = {
        "co_argcount",     "co_posonlyargcount", "co_kwonlyargcount",
        "co_nlocals",      "co_stacksize",       "co_flags",
        "co_code",         "co_consts",          "co_names",
        "co_varnames",     "co_filename",        "co_name",
        "co_qualname",     "co_firstlineno",     "co_linetable",
        "co_exceptiontable", "co_freevars",      "co_cellvars",
    };
    Py_ssize_t count = Py_ARRAY_LENGTH(fields);
    PyObject *args = PyTuple_New(count);
    if (args == NULL) {
        return FPK_ERROR;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *value = PyObject_GetAttrString(code, fields[i]);
        if (value == NULL) {
            Py_DECREF(args);
            return FPK_ERROR;
        }
        PyTuple_SET_ITEM(args, i, value);
    }
    PyObject *value = Py_BuildValue("(ON)", &PyCode_Type, args);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, code, value, true);
}

int
fpk_save_code(fpk_encoder *e, PyObject *code)
{
    int found = fpk_recall(e, code);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    fpk_context *c = fpk_get_context(e);
    if (c == NULL ||
        (c->loader == FPK_UNWRITTEN && (fpk_element_boundary(e) < 0 ||
                                        emit_guard(e, c) < 0))) {
        return FPK_ERROR;
    }
    PyObject *bytes = PyMarshal_WriteObjectToString(code, MARSHAL_VERSION);
    if (bytes == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
            return FPK_ERROR;
        }
        PyErr_Clear();
        return save_code_fields(e, code);
    }
    int status = FPK_ERROR;
    bool shared = fpk_needs_memo(e, code);
    /* A large payload goes to the file at once, which runs any code. */
    Py_INCREF(code);
    if (fpk_emit_get(e, c->loader) == FPK_DONE &&
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

int
fpk_init_code(PyObject *module, fpk_state *state)
{
    char text[256];
    PyOS_snprintf(text, sizeof text, GUARD_TEXT, PY_MAJOR_VERSION,
                  PY_MINOR_VERSION);
    state->guard_text = PyBytes_FromString(text);
    state->dict_get =
        PyObject_GetAttrString((PyObject *)&PyDict_Type, "get");
    if (state->guard_text == NULL || state->dict_get == NULL ||
        fpk_fetch(&state->bytecode_magic, "_frozen_importlib_external",
              "MAGIC_NUMBER") < 0 ||
        fpk_fetch(&state->marshal_loads, "marshal", "loads") < 0 ||
        fpk_fetch(&state->builtins_exec, "builtins", "exec") < 0) {
        return -1;
    }
    if (!PyBytes_Check(state->bytecode_magic)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "importlib's MAGIC_NUMBER should be bytes");
        return -1;
    }
    return 0;
}
