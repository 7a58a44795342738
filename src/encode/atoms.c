/* atoms.c -- what has no parts: None, bool, int, float, str, bytes.

   Does:      writes each in the shortest form that the protocol has.
   Owns:      nothing.
   Invariant: no Python code runs here, except for ints over 64 bits and large
              payloads that go to a file.
   Called by: driver.c for every object, containers.c for runs of atoms. */
#include "encode/atom_inline.h"

/* ---- None, bool --------------------------------------------------------- */

static int
save_none(fpk_encoder *e)
{
    return fpk_emit_op(e, FPK_OP_NONE);
}

static int
save_bool(fpk_encoder *e, bool value)
{
    if (e->protocol >= 2) {
        return fpk_emit_op(e, value ? FPK_OP_NEWTRUE : FPK_OP_NEWFALSE);
    }
    return fpk_emit_raw(e, value ? "I01\n" : "I00\n", 4);
}

/* ---- int ---------------------------------------------------------------- */

/* Protocols 0 and 1 spell large ints, protocol 0 all of them. */
static int
save_int_as_text(fpk_encoder *e, PyObject *obj, bool is_long)
{
    int status = FPK_ERROR;
    PyObject *text = PyLong_Type.tp_repr(obj);
    if (text == NULL) {
        return FPK_ERROR;
    }
    size_t size = (size_t)PyUnicode_GET_LENGTH(text);
    if (!fpk_reserve(e, size + 3)) {
        goto done;
    }
    fpk_put_byte(e, is_long ? FPK_OP_LONG : FPK_OP_INT);
    fpk_put_bytes(e, PyUnicode_1BYTE_DATA(text), size);
    if (is_long) {
        fpk_put_byte(e, 'L');
    }
    fpk_put_byte(e, '\n');
    status = FPK_DONE;
done:
    Py_DECREF(text);
    return status;
}

static int
save_huge_int(fpk_encoder *e, PyObject *obj)
{
    int status = FPK_ERROR;
    PyObject *bits = NULL, *size = NULL, *bytes = NULL;
    PyObject *to_bytes = NULL, *args = NULL, *kwargs = NULL;

    Py_INCREF(obj); /* making args can run the garbage collector */
    bits = PyObject_CallMethodNoArgs(obj, e->state->str.bit_length);
    if (bits == NULL) {
        goto done;
    }
    size_t bit_count = PyLong_AsSize_t(bits);
    if (bit_count == (size_t)-1 && PyErr_Occurred()) {
        goto done;
    }
    size = PyLong_FromSize_t(bit_count / 8 + 1);
    to_bytes = PyObject_GetAttr(obj, e->state->str.to_bytes);
    if (size == NULL || to_bytes == NULL) {
        goto done;
    }
    args = Py_BuildValue("(Os)", size, "little");
    kwargs = Py_BuildValue("{s:O}", "signed", Py_True);
    if (args == NULL || kwargs == NULL) {
        goto done;
    }
    bytes = PyObject_Call(to_bytes, args, kwargs);
    if (bytes == NULL) {
        goto done;
    }
    Py_ssize_t n = PyBytes_GET_SIZE(bytes);
    const char *data = PyBytes_AS_STRING(bytes);
    /* -2**(8k-1) fits one byte less than its magnitude says. */
    if (n > 1 && data[n - 1] == '\xff' && (data[n - 2] & 0x80) != 0) {
        n--;
    }
    if (n > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "int too large to pickle");
        goto done;
    }
    uint8_t header[5];
    size_t header_size;
    if (n < 256) {
        header[0] = FPK_OP_LONG1;
        header[1] = (uint8_t)n;
        header_size = 2;
    }
    else {
        header[0] = FPK_OP_LONG4;
        fpk_store_le32(header + 1, (uint32_t)n);
        header_size = 5;
    }
    if (fpk_emit_raw(e, header, header_size) < 0 ||
        fpk_emit_raw(e, data, (size_t)n) < 0) {
        goto done;
    }
    status = FPK_DONE;
done:
    Py_XDECREF(bits);
    Py_XDECREF(size);
    Py_XDECREF(to_bytes);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(bytes);
    Py_DECREF(obj);
    return status;
}

static int
save_int(fpk_encoder *e, PyObject *obj)
{
    int64_t value;
    if (!fpk_int_is_compact(obj, &value)) {
        int overflow;
        value = PyLong_AsLongLongAndOverflow(obj, &overflow);
        if (value == -1 && overflow == 0 && PyErr_Occurred()) {
            return FPK_ERROR;
        }
        if (overflow != 0) {
            return e->protocol >= 2 ? save_huge_int(e, obj)
                                    : save_int_as_text(e, obj, true);
        }
    }
    bool is_long = value < INT32_MIN || value > INT32_MAX;
    if (FPK_UNLIKELY(e->protocol == 0 || (e->protocol == 1 && is_long))) {
        return save_int_as_text(e, obj, is_long);
    }
    if (!fpk_reserve(e, 24)) {
        return FPK_ERROR;
    }
    fpk_put_int64(e, value);
    return FPK_DONE;
}

/* ---- float -------------------------------------------------------------- */

static int
save_float(fpk_encoder *e, PyObject *obj)
{
    double value = PyFloat_AS_DOUBLE(obj);
    if (FPK_LIKELY(e->protocol >= 1)) {
        if (!fpk_reserve(e, 9)) {
            return FPK_ERROR;
        }
        fpk_put_float(e, value);
        return FPK_DONE;
    }
    char *text = PyOS_double_to_string(value, 'r', 0, 0, NULL);
    if (text == NULL) {
        return FPK_ERROR;
    }
    int status = fpk_emit_op(e, FPK_OP_FLOAT);
    if (status == FPK_DONE) {
        status = fpk_emit_raw(e, text, strlen(text));
    }
    PyMem_Free(text);
    return status == FPK_DONE ? fpk_emit_raw(e, "\n", 1) : status;
}

/* ---- bytes -------------------------------------------------------------- */

/* The header of counted data; its size. */
static size_t
counted_header(uint8_t header[9], size_t size, enum fpk_opcode op1,
               enum fpk_opcode op4, enum fpk_opcode op8)
{
    if (size < 256 && op1 != 0) {
        header[0] = (uint8_t)op1;
        header[1] = (uint8_t)size;
        return 2;
    }
    if (size <= UINT32_MAX) {
        header[0] = (uint8_t)op4;
        fpk_store_le32(header + 1, (uint32_t)size);
        return 5;
    }
    header[0] = (uint8_t)op8;
    fpk_store_le64(header + 1, size);
    return 9;
}

static int
emit_bytes_payload(fpk_encoder *e, const char *data, Py_ssize_t size,
                   PyObject *owner)
{
    uint8_t header[9];
    if ((size_t)size > UINT32_MAX && e->protocol < 4) {
        PyErr_SetString(PyExc_OverflowError,
                        "serializing a bytes object larger than 4 GiB "
                        "requires pickle protocol 4 or higher");
        return FPK_ERROR;
    }
    size_t header_size =
        counted_header(header, (size_t)size, FPK_OP_SHORT_BINBYTES,
                       FPK_OP_BINBYTES, FPK_OP_BINBYTES8);
    return fpk_emit_payload(e, header, header_size, data, size, owner);
}

/* What is met again is this object, or in a deterministic dump any equal
   one. */
static int
get_if_saved(fpk_encoder *e, PyObject *obj)
{
    int found = fpk_emit_get_if_saved(e, obj);
    return found == 0 && e->canonical != NULL ? fpk_canonical_get_atom(e, obj)
                                              : found;
}

static int
save_bytes(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (!shared) {
        return emit_bytes_payload(e, PyBytes_AS_STRING(obj),
                                  PyBytes_GET_SIZE(obj), obj);
    }
    int found = get_if_saved(e, obj);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    Py_INCREF(obj);
    int status = emit_bytes_payload(e, PyBytes_AS_STRING(obj),
                                    PyBytes_GET_SIZE(obj), obj);
    if (status == FPK_DONE) {
        status = fpk_memoize(e, obj);
    }
    Py_DECREF(obj);
    return status;
}

PyObject *
fpk_reduce_bytes(fpk_encoder *e, PyObject *obj)
{
    if (PyBytes_GET_SIZE(obj) == 0) {
        return Py_BuildValue("(O())", &PyBytes_Type);
    }
    PyObject *text = PyUnicode_DecodeLatin1(PyBytes_AS_STRING(obj),
                                            PyBytes_GET_SIZE(obj), "strict");
    return text == NULL ? NULL
                        : Py_BuildValue("(O(Ns))", e->state->codecs_encode,
                                        text, "latin1");
}

int
fpk_emit_bytes(fpk_encoder *e, const char *data, Py_ssize_t size)
{
    if (e->protocol >= 3) {
        return emit_bytes_payload(e, data, size, NULL);
    }
    PyObject *text = PyUnicode_DecodeLatin1(data, size, "strict");
    if (text == NULL) {
        return FPK_ERROR;
    }
    int status = fpk_save_global_as(e, e->state->codecs_encode,
                                    e->state->str._codecs, "encode");
    if (status != FPK_DONE || fpk_emit_tuple_mark(e) < 0 ||
        fpk_emit_unicode(e, text) < 0 || fpk_emit_str(e, "latin1") < 0 ||
        fpk_emit_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        status = FPK_ERROR;
    }
    Py_DECREF(text);
    return status;
}

/* ---- str ---------------------------------------------------------------- */

/* Bytes of UTF-8, where a lone surrogate takes three as any other of its
   range ("surrogatepass"). */
static size_t
utf8_size(int kind, const void *data, Py_ssize_t length)
{
    size_t size = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        size += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    }
    return size;
}

static void
put_utf8(fpk_encoder *e, int kind, const void *data, Py_ssize_t length)
{
    uint8_t *p = fpk_buffer_end(&e->out);
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c < 0x80) {
            *p++ = (uint8_t)c;
        }
        else if (c < 0x800) {
            *p++ = (uint8_t)(0xc0 | c >> 6);
            *p++ = (uint8_t)(0x80 | (c & 0x3f));
        }
        else if (c < 0x10000) {
            *p++ = (uint8_t)(0xe0 | c >> 12);
            *p++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *p++ = (uint8_t)(0x80 | (c & 0x3f));
        }
        else {
            *p++ = (uint8_t)(0xf0 | c >> 18);
            *p++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
            *p++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *p++ = (uint8_t)(0x80 | (c & 0x3f));
        }
    }
    e->out.length = (size_t)(p - e->out.data);
}

/* Protocol 0: raw-unicode-escape, with the characters escaped that would end
   or confuse the line. */
static int
emit_unicode_line(fpk_encoder *e, PyObject *str)
{
    static const char digits[] = "0123456789abcdef";
    Py_ssize_t length = PyUnicode_GET_LENGTH(str);
    int kind = PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    if (length > (PY_SSIZE_T_MAX - 2) / 10) {
        PyErr_NoMemory();
        return FPK_ERROR;
    }
    if (!fpk_reserve(e, (size_t)length * 10 + 2)) {
        return FPK_ERROR;
    }
    fpk_put_byte(e, FPK_OP_UNICODE);
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        bool escape = c >= 256 || c == '\\' || c == '\0' || c == '\n' ||
                      c == '\r' || c == 0x1a;
        if (!escape) {
            fpk_put_byte(e, (uint8_t)c);
            continue;
        }
        fpk_put_byte(e, '\\');
        fpk_put_byte(e, c >= 0x10000 ? 'U' : 'u');
        for (int shift = c >= 0x10000 ? 28 : 12; shift >= 0; shift -= 4) {
            fpk_put_byte(e, (uint8_t)digits[c >> shift & 0xf]);
        }
    }
    fpk_put_byte(e, '\n');
    return FPK_DONE;
}

static int
emit_large_unicode(fpk_encoder *e, PyObject *str, const uint8_t *header,
                   size_t header_size)
{
    if (PyUnicode_IS_COMPACT_ASCII(str)) {
        return fpk_emit_payload(e, header, header_size,
                                (const char *)PyUnicode_1BYTE_DATA(str),
                                PyUnicode_GET_LENGTH(str), str);
    }
    PyObject *utf8 = PyUnicode_AsEncodedString(str, "utf-8", "surrogatepass");
    if (utf8 == NULL) {
        return FPK_ERROR;
    }
    int status =
        fpk_emit_payload(e, header, header_size, PyBytes_AS_STRING(utf8),
                         PyBytes_GET_SIZE(utf8), utf8);
    Py_DECREF(utf8);
    return status;
}

int
fpk_emit_unicode(fpk_encoder *e, PyObject *str)
{
    if (FPK_UNLIKELY(e->protocol == 0)) {
        return emit_unicode_line(e, str);
    }
    bool ascii = PyUnicode_IS_COMPACT_ASCII(str);
    int kind = PyUnicode_KIND(str);
    Py_ssize_t length = PyUnicode_GET_LENGTH(str);
    const void *data = PyUnicode_DATA(str);
    size_t size = ascii ? (size_t)length : utf8_size(kind, data, length);

    uint8_t header[9];
    if (size > UINT32_MAX && e->protocol < 4) {
        PyErr_SetString(PyExc_OverflowError,
                        "serializing a string larger than 4 GiB requires "
                        "pickle protocol 4 or higher");
        return FPK_ERROR;
    }
    size_t header_size = counted_header(
        header, size, e->protocol >= 4 ? FPK_OP_SHORT_BINUNICODE : 0,
        FPK_OP_BINUNICODE, FPK_OP_BINUNICODE8);
    if (FPK_UNLIKELY(size >= FPK_FRAME_SIZE_TARGET)) {
        return emit_large_unicode(e, str, header, header_size);
    }
    if (!fpk_reserve(e, size + sizeof header)) {
        return FPK_ERROR;
    }
    if (FPK_UNLIKELY(size > 255) && FPK_IS_SURVEYED(e) &&
        e->state->survey->count_payload(e, header_size + size, str, false) <
            0) {
        return FPK_ERROR;
    }
    fpk_put_bytes(e, header, header_size);
    if (ascii) {
        fpk_put_bytes(e, data, size);
    }
    else {
        put_utf8(e, kind, data, length);
    }
    return FPK_DONE;
}

static int
save_str(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (e->equal_texts != NULL) {
        obj = PyDict_SetDefault(e->equal_texts, obj, obj); /* borrowed */
        if (obj == NULL) {
            return FPK_ERROR;
        }
        shared = true;
    }
    if (!shared) {
        return fpk_emit_unicode(e, obj);
    }
    int found = get_if_saved(e, obj);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    Py_INCREF(obj);
    int status = fpk_emit_unicode(e, obj);
    if (status == FPK_DONE) {
        status = fpk_memoize(e, obj);
    }
    Py_DECREF(obj);
    return status;
}

/* ---- dispatch ----------------------------------------------------------- */

int
fpk_save_atom(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyTypeObject *type = Py_TYPE(obj);
    int status;
    if (type == &PyUnicode_Type) {
        status = save_str(e, obj, shared);
    }
    else if (type == &PyLong_Type) {
        status = save_int(e, obj);
    }
    else if (type == &PyFloat_Type) {
        status = save_float(e, obj);
    }
    else if (obj == Py_None) {
        status = save_none(e);
    }
    else if (type == &PyBool_Type) {
        status = save_bool(e, obj == Py_True);
    }
    else if (type == &PyBytes_Type && fpk_bytes_are_atom(e, obj)) {
        status = save_bytes(e, obj, shared);
    }
    else {
        return 0;
    }
    return status < 0 ? -1 : 1;
}
