/* atoms.c -- opcodes for int, float, str, bytes and bytearray.

   Does:      reads the argument of the opcode and pushes the object.
   Owns:      nothing.
   Invariant: every length is checked against the input before memory is
              taken for it.
   Called by: loop.c. */
#include "base/bytes.h"
#include "decode/decoder.h"

#include <errno.h>
#include <stdlib.h>

/* A line, which must have no NUL, as a C string: [size] counts its newline. */
static char *
copy_line(fpk_decoder *d, const char *line, Py_ssize_t size)
{
    if (memchr(line, '\0', (size_t)size) != NULL) {
        (void)fpk_decode_error(d, d->state->MalformedError,
                               "a number with a null character");
        return NULL;
    }
    char *copy = PyMem_Malloc((size_t)size + 1);
    if (copy == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(copy, line, (size_t)size);
    copy[size] = '\0';
    return copy;
}

/* ---- int ---------------------------------------------------------------- */

/* An int in the notation of Python source. */
static PyObject *
parse_int(fpk_decoder *d, const char *text)
{
    PyObject *value = PyLong_FromString(text, NULL, 0);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        (void)fpk_decode_error(d, d->state->MalformedError,
                               "could not convert string to int");
    }
    return value;
}

/* Opcode INT: decimal text; 00 and 01 are the bools of protocol 1. */
int
fpk_load_int(fpk_decoder *d)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return -1;
    }
    if (size == 3 && line[0] == '0' && (line[1] == '0' || line[1] == '1')) {
        return fpk_push(d, PyBool_FromLong(line[1] == '1'));
    }
    char *text = copy_line(d, line, size);
    if (text == NULL) {
        return -1;
    }
    /* As the standard module: the notation of C, else that of Python. */
    char *end;
    errno = 0;
    long number = strtol(text, &end, 0);
    PyObject *value = errno == 0 && end != text && (*end == '\n' || !*end)
                          ? PyLong_FromLong(number)
                          : parse_int(d, text);
    PyMem_Free(text);
    return fpk_push(d, value);
}

/* Opcode LONG: decimal text, usually with an L at its end. */
int
fpk_load_long(fpk_decoder *d)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return -1;
    }
    char *text = copy_line(d, line, size);
    if (text == NULL) {
        return -1;
    }
    if (size >= 2 && text[size - 2] == 'L') {
        text[size - 2] = '\0';
    }
    PyObject *value = parse_int(d, text);
    PyMem_Free(text);
    return fpk_push(d, value);
}

int
fpk_load_counted_long(fpk_decoder *d, uint32_t size)
{
    if (size > INT32_MAX) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "LONG pickle has negative byte count");
    }
    if (fpk_need(d, size) < 0) {
        return -1;
    }
    const uint8_t *bytes = d->p;
    d->p += size;
    if (size > 8) {
        return fpk_push(d, fpk_int_from_bytes(bytes, size));
    }
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    if (size > 0 && size < 8 && (bytes[size - 1] & 0x80) != 0) {
        value |= UINT64_MAX << (8 * size);
    }
    return fpk_push(d, PyLong_FromLongLong((int64_t)value));
}

/* ---- float -------------------------------------------------------------- */

int
fpk_load_float(fpk_decoder *d)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return -1;
    }
    char *text = copy_line(d, line, size);
    if (text == NULL) {
        return -1;
    }
    char *end;
    double value = PyOS_string_to_double(text, &end, PyExc_OverflowError);
    bool complete = *end == '\n' || *end == '\0';
    PyMem_Free(text);
    if (value == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError) &&
            !PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        complete = false;
    }
    if (!complete) {
        return fpk_decode_error(d, d->state->MalformedError,
                                "could not convert string to float");
    }
    return fpk_push(d, PyFloat_FromDouble(value));
}

/* ---- str of Python 2 ---------------------------------------------------- */

/* A str of Python 2 is bytes in an encoding that only the caller knows. */
static PyObject *
decode_string(fpk_decoder *d, PyObject *bytes)
{
    if (bytes == NULL || d->strings_as_bytes) {
        return bytes;
    }
    PyObject *text =
        PyUnicode_FromEncodedObject(bytes, d->encoding, d->errors);
    Py_DECREF(bytes);
    return fpk_decoded(d, text);
}

int
fpk_load_string(fpk_decoder *d)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return -1;
    }
    size--;
    if (size < 2 || line[0] != line[size - 1] ||
        (line[0] != '\'' && line[0] != '"')) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "the STRING opcode argument must be quoted");
    }
    PyObject *bytes =
        PyBytes_DecodeEscape(line + 1, size - 2, NULL, 0, NULL);
    if (bytes == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        return fpk_decode_error(d, d->state->MalformedError,
                                "invalid escape in a string");
    }
    return fpk_push(d, decode_string(d, bytes));
}

int
fpk_load_counted_string(fpk_decoder *d, uint32_t size)
{
    if (size > INT32_MAX) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "BINSTRING pickle has negative byte count");
    }
    return fpk_push(d, decode_string(d, fpk_read_bytes(d, size)));
}

/* ---- str ---------------------------------------------------------------- */

int
fpk_load_unicode(fpk_decoder *d)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return -1;
    }
    PyObject *text = PyUnicode_DecodeRawUnicodeEscape(line, size - 1, NULL);
    return fpk_push(d, fpk_decoded(d, text));
}

int
fpk_load_counted_unicode(fpk_decoder *d, uint64_t size)
{
    if ((uint64_t)(d->end - d->p) >= size) {
        PyObject *text = PyUnicode_DecodeUTF8(
            (const char *)d->p, (Py_ssize_t)size, "surrogatepass");
        d->p += size;
        return fpk_push(d, fpk_decoded(d, text));
    }
    PyObject *bytes = fpk_read_bytes(d, size);
    if (bytes == NULL) {
        return -1;
    }
    PyObject *text = PyUnicode_DecodeUTF8(
        PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes), "surrogatepass");
    Py_DECREF(bytes);
    return fpk_push(d, fpk_decoded(d, text));
}

/* ---- bytes -------------------------------------------------------------- */

int
fpk_load_bytes(fpk_decoder *d, uint64_t size)
{
    return fpk_push(d, fpk_read_bytes(d, size));
}

int
fpk_load_bytearray(fpk_decoder *d, uint64_t size)
{
    return fpk_push(d, fpk_read_bytearray(d, size));
}
