/* memo.c -- the memo opcodes of protocol 0, whose index is a line of text.

   Does:      GET and PUT; the binary ones are in loop.c.
   Owns:      nothing.
   Invariant: an index is checked before it is used.
   Called by: loop.c. */
#include "decode/decoder.h"

static int
read_index(fpk_decoder *d, uint64_t *index, const char *opcode)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return -1;
    }
    PyObject *text = PyUnicode_DecodeLatin1(line, size - 1, "strict");
    if (text == NULL) {
        return -1;
    }
    PyObject *number = PyLong_FromUnicodeObject(text, 10);
    Py_DECREF(text);
    if (number == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
            return -1;
        }
        PyErr_Clear();
        return fpk_decode_error(d, d->state->MalformedError,
                                "invalid %s argument", opcode);
    }
    Py_ssize_t value = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    if (value == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        return fpk_decode_error(d, d->state->MalformedError,
                                "%s index out of range", opcode);
    }
    if (value < 0) {
        return fpk_decode_error(d, d->state->MalformedError,
                                "negative %s argument", opcode);
    }
    *index = (uint64_t)value;
    return 0;
}

int
fpk_load_get(fpk_decoder *d)
{
    uint64_t index;
    if (read_index(d, &index, "GET") < 0) {
        return -1;
    }
    return fpk_push(d, Py_XNewRef(fpk_memo_get(d, index)));
}

int
fpk_load_put(fpk_decoder *d)
{
    uint64_t index;
    if (read_index(d, &index, "PUT") < 0) {
        return -1;
    }
    if (fpk_height(d) < 1) {
        return fpk_underflow(d);
    }
    return fpk_memo_put(d, index, d->sp[-1]);
}
