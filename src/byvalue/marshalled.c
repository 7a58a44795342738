/* marshalled.c -- code objects as bytes for marshal.loads.

   Does:      makes the bytes of a code object: those of marshal.dumps, and for
              a deterministic dump the same without the place of the code, with
              its sets in order.
   Owns:      nothing.
   Invariant: a code object that came through CodeType.replace() would have
              other kinds of variables, so the bytes are put together here.
   Called by: code.c, source.c.

   marshal writes the fields of a code object in the order in which this file
   does, nested code objects among the constants.  Version 2 has no
   back-references, so that the bytes of the parts make up the whole. */
#include "base/bytes.h"
#include "byvalue/room.h"

#include <marshal.h>

/* Version 2 writes no back-references, whose places would depend on reference
   counts: equal code gives equal bytes. */
#define MARSHAL_VERSION 2

/* A code object whose constants are being written. */
typedef struct {
    PyObject *code;   /* borrowed from the constants of the one above */
    PyObject *consts; /* owned */
    Py_ssize_t next;
} open_code;

static int
put_int(fpk_encoder *e, int value)
{
    uint8_t bytes[4];
    fpk_store_le32(bytes, (uint32_t)value);
    return fpk_emit_raw(e, bytes, sizeof bytes);
}

static int
put_object(fpk_encoder *e, PyObject *obj)
{
    PyObject *bytes = PyMarshal_WriteObjectToString(obj, MARSHAL_VERSION);
    if (bytes == NULL) {
        return -1;
    }
    int status = fpk_emit_raw(e, PyBytes_AS_STRING(bytes),
                              (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return status;
}

static int
put_set(fpk_encoder *e, PyObject *set)
{
    PyObject *items = fpk_canonical_items(e, set);
    int status = items == NULL || fpk_emit_raw(e, ">", 1) < 0 ||
                         put_int(e, (int)PyList_GET_SIZE(items)) < 0
                     ? -1
                     : 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(items); i++) {
        status = put_object(e, PyList_GET_ITEM(items, i));
    }
    Py_XDECREF(items);
    return status;
}

/* What stands before the instructions. */
static int
begin_code_object(fpk_encoder *e, PyCodeObject *code)
{
    const int numbers[] = {
        code->co_argcount,  code->co_posonlyargcount, code->co_kwonlyargcount,
        code->co_stacksize, code->co_flags,
    };
    if (fpk_emit_raw(e, "c", 1) < 0) {
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(numbers); i++) {
        if (put_int(e, numbers[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* What stands behind them. */
static int
end_code_object(fpk_encoder *e, PyCodeObject *code)
{
    bool placed = fpk_keeps_place(e, code);
    PyObject *filename = placed ? Py_NewRef(code->co_filename)
                                : PyUnicode_FromString("<string>");
    PyObject *const names[] = {
        code->co_names,
        code->co_localsplusnames,
        code->co_localspluskinds,
        filename,
        code->co_name,
        code->co_qualname,
    };
    int status = filename == NULL ? -1 : 0;
    for (size_t i = 0; status == 0 && i < Py_ARRAY_LENGTH(names); i++) {
        status = put_object(e, names[i]);
    }
    if (status == 0 && (put_int(e, placed ? code->co_firstlineno : 1) < 0 ||
                        put_object(e, code->co_linetable) < 0 ||
                        put_object(e, code->co_exceptiontable) < 0)) {
        status = -1;
    }
    Py_XDECREF(filename);
    return status;
}

static int
open_constants(fpk_encoder *e, PyObject *code, open_code **stack,
               size_t *depth)
{
    open_code *grown = PyMem_Realloc(*stack, (*depth + 1) * sizeof **stack);
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *stack = grown;
    PyObject *instructions, *consts;
    if (fpk_normalise_code(e, (PyCodeObject *)code, &instructions, &consts) <
        0) {
        return -1;
    }
    grown[*depth] = (open_code){.code = code, .consts = consts, .next = 0};
    *depth += 1;
    int status = begin_code_object(e, (PyCodeObject *)code) < 0 ||
                         put_object(e, instructions) < 0 ||
                         fpk_emit_raw(e, "(", 1) < 0 ||
                         put_int(e, (int)PyTuple_GET_SIZE(consts)) < 0
                     ? -1
                     : 0;
    Py_DECREF(instructions);
    return status;
}

/* Puts the bytes behind the output. */
static int
put_code(fpk_encoder *e, PyObject *code)
{
    open_code *stack = NULL;
    size_t depth = 0;
    int status = open_constants(e, code, &stack, &depth);
    while (status == 0 && depth > 0) {
        open_code *top = &stack[depth - 1];
        if (top->next == PyTuple_GET_SIZE(top->consts)) {
            status = end_code_object(e, (PyCodeObject *)top->code);
            Py_DECREF(top->consts);
            depth--;
            continue;
        }
        PyObject *constant = PyTuple_GET_ITEM(top->consts, top->next++);
        status = PyCode_Check(constant)
                     ? open_constants(e, constant, &stack, &depth)
                 : PyFrozenSet_CheckExact(constant) ? put_set(e, constant)
                                                    : put_object(e, constant);
    }
    while (depth > 0) {
        Py_DECREF(stack[--depth].consts);
    }
    PyMem_Free(stack);
    return status;
}

PyObject *
fpk_marshal_code(fpk_encoder *e, PyObject *code)
{
    if (FPK_LIKELY(e->canonical == NULL)) {
        return PyMarshal_WriteObjectToString(code, MARSHAL_VERSION);
    }
    /* The end of the output serves as scratch space. */
    size_t before = e->out.length;
    PyObject *result = NULL;
    if (put_code(e, code) == 0) {
        result =
            PyBytes_FromStringAndSize((const char *)e->out.data + before,
                                      (Py_ssize_t)(e->out.length - before));
    }
    e->out.length = before;
    return result;
}
