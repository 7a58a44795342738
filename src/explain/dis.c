/* dis.c -- one opcode of a pickle at a time, for the disassembler.

   Does:      finds the opcode at an offset, reads its argument into a plain
              Python object (int, float, str, bytes, bytearray) and tells where
              the next one begins; hands out the table of opcodes.
   Owns:      nothing between two calls.
   Invariant: every length is checked against what is left before anything is
              allocated for it.  Nothing is imported or called but int and
              float, on text of the stream.
   Called by: Python code (_dis.py), which does the stack and the memo. */
#include "explain/survey.h"

#include "base/bytes.h"
#include "wire/opcodes.h"

#include <string.h>

/* ---- the table ---------------------------------------------------------- */

enum shape {
    SHAPE_UNKNOWN,
    SHAPE_NOTHING,
    SHAPE_FIXED1,
    SHAPE_FIXED2,
    SHAPE_FIXED4,
    SHAPE_FIXED8,
    SHAPE_COUNTED1,
    SHAPE_COUNTED4,
    SHAPE_COUNTED8,
    SHAPE_LINE,
    SHAPE_LINE_PAIR,
};

typedef struct {
    const char *name;
    const char *argument;
    const char *before;
    const char *after;
    const char *doc;
    uint8_t protocol;
    uint8_t shape;
} opcode_row;

static const opcode_row rows[256] = {
#define FPK_OPCODE(name, byte, protocol, argument, before, after, doc)        \
    [byte] = {#name, #argument, before, after, doc, protocol,                 \
              SHAPE_##argument},
#include "wire/opcodes.def"
#undef FPK_OPCODE
};

static PyObject *
get_opcode_table(PyObject *module, PyObject *ignored)
{
    PyObject *table = PyDict_New();
    for (unsigned code = 0; table != NULL && code < 256; code++) {
        const opcode_row *row = &rows[code];
        if (row->name == NULL) {
            continue;
        }
        PyObject *key = PyLong_FromUnsignedLong(code);
        PyObject *value = Py_BuildValue("(sBssss)", row->name, row->protocol,
                                        row->argument, row->before, row->after,
                                        row->doc);
        if (key == NULL || value == NULL ||
            PyDict_SetItem(table, key, value) < 0) {
            Py_CLEAR(table);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return table;
}

/* ---- where the argument is ---------------------------------------------- */

typedef struct {
    fpk_state *state;
    const uint8_t *data;
    size_t size;
    size_t offset;      /* of the opcode */
    size_t next;        /* of the next one */
    uint8_t code;
    const char *text;   /* its argument; of a pair of lines the first */
    size_t length;
    const char *second; /* of a pair of lines */
    size_t second_length;
} fpk_place;

static int
fail_truncated(const fpk_place *p)
{
    PyErr_Format(p->state->TruncatedError,
                 "the pickle ends inside of %s at byte %zu",
                 rows[p->code].name, p->offset);
    return -1;
}

static int
take_line(fpk_place *p, const char **text, size_t *length)
{
    size_t left = p->size - p->next;
    const uint8_t *start = p->data + p->next;
    const uint8_t *end = left == 0 ? NULL : memchr(start, '\n', left);
    if (end == NULL) {
        return fail_truncated(p);
    }
    *text = (const char *)start;
    *length = (size_t)(end - start);
    p->next += *length + 1;
    return 0;
}

static int
take_bytes(fpk_place *p, uint64_t length)
{
    if (length > p->size - p->next) {
        return fail_truncated(p);
    }
    p->text = (const char *)p->data + p->next;
    p->length = (size_t)length;
    p->next += (size_t)length;
    return 0;
}

static uint64_t
load_little_endian(const char *text, size_t length)
{
    const uint8_t *bytes = (const uint8_t *)text;
    return length == 1   ? bytes[0]
           : length == 2 ? fpk_load_le16(bytes)
           : length == 4 ? fpk_load_le32(bytes)
                         : fpk_load_le64(bytes);
}

static int
take_counted(fpk_place *p, size_t width)
{
    if (take_bytes(p, width) < 0) {
        return -1;
    }
    return take_bytes(p, load_little_endian(p->text, width));
}

/* Finds the opcode at p->offset, which is inside of the data. */
static int
take_opcode(fpk_place *p)
{
    p->code = p->data[p->offset];
    p->next = p->offset + 1;
    p->text = p->second = "";
    p->length = p->second_length = 0;
    switch ((enum shape)rows[p->code].shape) {
    case SHAPE_UNKNOWN:
        break;
    case SHAPE_NOTHING:
        return 0;
    case SHAPE_FIXED1:
        return take_bytes(p, 1);
    case SHAPE_FIXED2:
        return take_bytes(p, 2);
    case SHAPE_FIXED4:
        return take_bytes(p, 4);
    case SHAPE_FIXED8:
        return take_bytes(p, 8);
    case SHAPE_COUNTED1:
        return take_counted(p, 1);
    case SHAPE_COUNTED4:
        return take_counted(p, 4);
    case SHAPE_COUNTED8:
        return take_counted(p, 8);
    case SHAPE_LINE:
        return take_line(p, &p->text, &p->length);
    case SHAPE_LINE_PAIR:
        if (take_line(p, &p->text, &p->length) < 0) {
            return -1;
        }
        return take_line(p, &p->second, &p->second_length);
    }
    PyErr_Format(p->state->MalformedError,
                 "byte 0x%02x is no opcode at byte %zu", p->code, p->offset);
    return -1;
}

/* ---- what the argument is ----------------------------------------------- */

static bool
is_text(const fpk_place *p, const char *text)
{
    return p->length == strlen(text) && memcmp(p->text, text, p->length) == 0;
}

static PyObject *
read_digits(const fpk_place *p, size_t length)
{
    PyObject *text =
        PyUnicode_DecodeLatin1(p->text, (Py_ssize_t)length, NULL);
    if (text == NULL) {
        return NULL;
    }
    PyObject *number = PyLong_FromUnicodeObject(text, 10);
    Py_DECREF(text);
    return number;
}

static PyObject *
read_int_line(const fpk_place *p)
{
    if (is_text(p, "00") || is_text(p, "01")) {
        return PyBool_FromLong(p->text[1] == '1');
    }
    return read_digits(p, p->length);
}

static PyObject *
read_long_line(const fpk_place *p)
{
    bool has_suffix = p->length > 0 && p->text[p->length - 1] == 'L';
    return read_digits(p, p->length - has_suffix);
}

static PyObject *
read_float_line(const fpk_place *p)
{
    PyObject *text = PyBytes_FromStringAndSize(p->text, (Py_ssize_t)p->length);
    if (text == NULL) {
        return NULL;
    }
    PyObject *number = PyFloat_FromString(text);
    Py_DECREF(text);
    return number;
}

/* A quoted line with escapes; the quotes go. */
static PyObject *
read_quoted_line(const fpk_place *p)
{
    char quote = p->length < 2 ? '\0' : p->text[0];
    if ((quote != '\'' && quote != '"') || p->text[p->length - 1] != quote) {
        PyErr_SetString(PyExc_ValueError, "no quotes around a string");
        return NULL;
    }
    PyObject *bytes = PyBytes_DecodeEscape(
        p->text + 1, (Py_ssize_t)p->length - 2, NULL, 0, NULL);
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_DecodeLatin1(PyBytes_AS_STRING(bytes),
                                            PyBytes_GET_SIZE(bytes), NULL);
    Py_DECREF(bytes);
    return text;
}

static PyObject *
read_line_pair(const fpk_place *p)
{
    PyObject *first = PyUnicode_DecodeUTF8(p->text, (Py_ssize_t)p->length,
                                           "surrogateescape");
    PyObject *second = PyUnicode_DecodeUTF8(
        p->second, (Py_ssize_t)p->second_length, "surrogateescape");
    PyObject *pair = first == NULL || second == NULL
                         ? NULL
                         : PyUnicode_FromFormat("%U %U", first, second);
    Py_XDECREF(first);
    Py_XDECREF(second);
    return pair;
}

/* Two's complement, little-endian. */
static PyObject *
read_counted_int(const fpk_place *p)
{
    PyObject *bytes =
        PyBytes_FromStringAndSize(p->text, (Py_ssize_t)p->length);
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *number = NULL;
    PyObject *from_bytes =
        PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
    PyObject *args = Py_BuildValue("(Os)", bytes, "little");
    PyObject *keywords = Py_BuildValue("{sO}", "signed", Py_True);
    if (from_bytes != NULL && args != NULL && keywords != NULL) {
        number = PyObject_Call(from_bytes, args, keywords);
    }
    Py_XDECREF(from_bytes);
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    Py_DECREF(bytes);
    return number;
}

static PyObject *
read_double(const fpk_place *p)
{
    double value = PyFloat_Unpack8(p->text, 0);
    if (value == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    return PyFloat_FromDouble(value);
}

/* As pickletools shows it; None without an argument. */
static PyObject *
read_argument(const fpk_place *p)
{
    Py_ssize_t length = (Py_ssize_t)p->length;
    switch (p->code) {
    case FPK_OP_BININT:
    case FPK_OP_EXT4:
        return PyLong_FromLong(
            (int32_t)(uint32_t)load_little_endian(p->text, 4));
    case FPK_OP_BINFLOAT:
        return read_double(p);
    case FPK_OP_INT:
    case FPK_OP_GET:
    case FPK_OP_PUT:
        return read_int_line(p);
    case FPK_OP_LONG:
        return read_long_line(p);
    case FPK_OP_FLOAT:
        return read_float_line(p);
    case FPK_OP_STRING:
        return read_quoted_line(p);
    case FPK_OP_UNICODE:
        return PyUnicode_DecodeRawUnicodeEscape(p->text, length, NULL);
    case FPK_OP_PERSID:
        return PyUnicode_DecodeUTF8(p->text, length, "surrogateescape");
    case FPK_OP_GLOBAL:
    case FPK_OP_INST:
        return read_line_pair(p);
    case FPK_OP_BINSTRING:
    case FPK_OP_SHORT_BINSTRING:
        return PyUnicode_DecodeLatin1(p->text, length, NULL);
    case FPK_OP_BINUNICODE:
    case FPK_OP_SHORT_BINUNICODE:
    case FPK_OP_BINUNICODE8:
        return PyUnicode_DecodeUTF8(p->text, length, "surrogatepass");
    case FPK_OP_LONG1:
    case FPK_OP_LONG4:
        return read_counted_int(p);
    case FPK_OP_BYTEARRAY8:
        return PyByteArray_FromStringAndSize(p->text, length);
    case FPK_OP_BINBYTES:
    case FPK_OP_SHORT_BINBYTES:
    case FPK_OP_BINBYTES8:
        return PyBytes_FromStringAndSize(p->text, length);
    default:
        break;
    }
    if (length == 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(
        load_little_endian(p->text, p->length));
}

/* ---- the function ------------------------------------------------------- */

PyDoc_STRVAR(read_opcode_doc,
"read_opcode(data, offset, /)\n--\n\n"
"The opcode at an offset of a pickle: (code, argument, offset of the next).");

static PyObject *
read_opcode(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "read_opcode takes 2 arguments");
        return NULL;
    }
    Py_ssize_t offset = PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
    if (offset == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    fpk_place p = {.state = fpk_state_of_module(module),
                   .data = view.buf,
                   .size = (size_t)view.len,
                   .offset = (size_t)offset};
    if (offset < 0 || offset >= view.len) {
        PyErr_Format(p.state->TruncatedError, "the pickle ends at byte %zd",
                     offset < 0 ? 0 : view.len);
        goto done;
    }
    if (take_opcode(&p) < 0) {
        goto done;
    }
    PyObject *argument = read_argument(&p);
    if (argument != NULL) {
        result = Py_BuildValue("(BNn)", p.code, argument, (Py_ssize_t)p.next);
    }
    else if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        PyErr_Format(p.state->MalformedError,
                     "the argument of %s makes no sense at byte %zu",
                     rows[p.code].name, p.offset);
    }
done:
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef dis_methods[] = {
    {"read_opcode", (PyCFunction)(void (*)(void))read_opcode, METH_FASTCALL,
     read_opcode_doc},
    {"opcode_table", get_opcode_table, METH_NOARGS,
     PyDoc_STR("opcode_table()\n--\n\n"
               "What opcodes.def says, by code: (name, protocol, argument, "
               "before, after, doc).")},
    {NULL},
};

int
fpk_dis_init(PyObject *module)
{
    return PyModule_AddFunctions(module, dis_methods);
}
