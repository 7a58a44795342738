/* codec.c -- between Python objects and the payloads of messages.

   Does:      writes and reads what is smaller than a pickle's own overhead
              without one, hands the rest to dumps and loads; copies payloads
              and out-of-band buffers into blocks of an arena.
   Owns:      a buffer_callback and its list, kept in the module state while
              nobody uses them.
   Invariant: a packed object holds all that it points into; no block is left
              behind by a failure; no payload is read beyond its length.
   Called by: worker_call.c, worker_reply.c, and the parent's side. */
#include "pool/codec.h"

#include <errno.h>

#include "base/pages.h"

/* Copies of more bytes than this run without the GIL. */
enum { LARGE_COPY = 256 * 1024 };

/* Payloads up to this length are copied before they are read, which costs less
   than a memoryview. */
enum { SMALL_PICKLE = 4096 };

/* ---- statuses ----------------------------------------------------------- */

int
fpk_raise_status(fpk_pool_state *state, fpk_status status, const char *what)
{
    switch (status) {
    case FPK_NO_MEMORY:
        PyErr_Format(PyExc_MemoryError, "%s: no shared memory is left", what);
        break;
    case FPK_SYSTEM:
        if (errno != 0) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
        else {
            PyErr_Format(PyExc_OSError, "%s: a system call failed", what);
        }
        break;
    case FPK_CORRUPT:
        PyErr_Format(PyExc_RuntimeError,
                     "%s: the shared memory holds what the other process "
                     "never writes",
                     what);
        break;
    case FPK_FULL:
        PyErr_Format(PyExc_BlockingIOError, "%s: there is no room now", what);
        break;
    case FPK_TOO_LARGE:
        PyErr_Format(PyExc_OverflowError,
                     "%s: too large for the ring of this pool", what);
        break;
    case FPK_CLOSED:
        PyErr_Format(PyExc_ValueError, "%s: it is closed", what);
        break;
    case FPK_OK:
    default:
        PyErr_Format(PyExc_SystemError, "%s: unexpected status %d", what,
                     (int)status);
        break;
    }
    return -1;
}

/* ---- collecting buffers ------------------------------------------------- */

/* The buffer_callback: [list] takes what travels out of band. */
static PyObject *
collect_buffer(PyObject *list, PyObject *buffer)
{
    if (PyList_GET_SIZE(list) >= FPK_MOST_BUFFERS) {
        Py_RETURN_TRUE;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_BufferError)) {
            return NULL;
        }
        PyErr_Clear(); /* not C-contiguous: dumps says what it thinks of it */
        Py_RETURN_TRUE;
    }
    Py_ssize_t length = view.len;
    PyBuffer_Release(&view);
    if (length < FPK_SMALLEST_BUFFER) {
        Py_RETURN_TRUE;
    }
    if (PyList_Append(list, buffer) < 0) {
        return NULL;
    }
    Py_RETURN_FALSE;
}

static PyMethodDef collect_buffer_method = {"collect_buffer", collect_buffer,
                                            METH_O, NULL};

/* A callback with an empty list; the state's, if nobody is using it. */
static PyObject *
take_collector(fpk_pool_state *state)
{
    PyObject *collector = state->collector;
    if (collector != NULL) {
        state->collector = NULL;
        return collector;
    }
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    collector = PyCFunction_New(&collect_buffer_method, list);
    Py_DECREF(list);
    return collector;
}

/* Steals [collector]. */
static void
give_back_collector(fpk_pool_state *state, PyObject *collector)
{
    PyObject *list = PyCFunction_GetSelf(collector);
    if (state->collector == NULL && Py_REFCNT(collector) == 1 &&
        Py_REFCNT(list) == 1 && PyList_GET_SIZE(list) == 0) {
        state->collector = collector;
        return;
    }
    Py_DECREF(collector);
}

/* Views of all buffers in [list], which becomes empty. */
static int
hold_buffers(PyObject *list, fpk_packed *packed)
{
    Py_ssize_t count = PyList_GET_SIZE(list);
    packed->buffers =
        (Py_buffer *)PyMem_Calloc((size_t)count, sizeof(Py_buffer));
    if (packed->buffers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count && i < PyList_GET_SIZE(list); i++) {
        PyObject *buffer = Py_NewRef(PyList_GET_ITEM(list, i));
        int status =
            PyObject_GetBuffer(buffer, &packed->buffers[i], PyBUF_SIMPLE);
        Py_DECREF(buffer);
        if (status < 0) {
            return -1;
        }
        packed->count++;
    }
    return PyList_SetSlice(list, 0, PyList_GET_SIZE(list), NULL);
}

static int
pack_pickle(fpk_pool_state *state, PyObject *dumps, PyObject *obj,
            fpk_packed *packed)
{
    int status = -1;
    PyObject *collector = take_collector(state);
    if (collector == NULL) {
        return -1;
    }
    PyObject *list = PyCFunction_GetSelf(collector); /* of [collector] */
    PyObject *arguments[] = {NULL, obj, state->protocol, collector,
                             state->smallest_buffer};
    PyObject *data = PyObject_Vectorcall(dumps, arguments + 1,
                                         2 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                         state->kw_pack);
    if (data == NULL) {
        goto done;
    }
    packed->owner = data;
    if (!PyBytes_Check(data)) {
        PyErr_Format(PyExc_TypeError, "dumps() returned %.200s, not bytes",
                     Py_TYPE(data)->tp_name);
        goto done;
    }
    packed->form = FPK_FORM_PICKLE;
    packed->data = (const unsigned char *)PyBytes_AS_STRING(data);
    packed->length = (size_t)PyBytes_GET_SIZE(data);
    if (PyList_GET_SIZE(list) > 0 && hold_buffers(list, packed) < 0) {
        goto done;
    }
    status = 0;
done:
    give_back_collector(state, collector);
    return status;
}

/* ---- packing ------------------------------------------------------------ */

static void
pack_small(fpk_packed *packed, uint32_t form, const void *bytes, size_t length)
{
    packed->form = form;
    memcpy(packed->small, bytes, length);
    packed->data = packed->small;
    packed->length = length;
}

/* 1 if that was it, 0 if the int has more than 64 bits, -1. */
static int
pack_int(PyObject *obj, fpk_packed *packed)
{
    int64_t value;
    if (!fpk_int_is_compact(obj, &value)) {
        int overflow;
        value = PyLong_AsLongLongAndOverflow(obj, &overflow);
        if (overflow != 0) {
            return 0;
        }
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    pack_small(packed, FPK_FORM_INT, &value, sizeof value);
    return 1;
}

/* 1 if that was it, 0 if it is no UTF-8 because of a surrogate, -1. */
static int
pack_str(PyObject *obj, fpk_packed *packed)
{
    if (PyUnicode_IS_COMPACT_ASCII(obj)) {
        packed->owner = Py_NewRef(obj);
        packed->data = (const unsigned char *)PyUnicode_1BYTE_DATA(obj);
        packed->length = (size_t)PyUnicode_GET_LENGTH(obj);
    }
    else {
        packed->owner = PyUnicode_AsUTF8String(obj);
        if (packed->owner == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
                return -1;
            }
            PyErr_Clear();
            return 0;
        }
        packed->data = (const unsigned char *)PyBytes_AS_STRING(packed->owner);
        packed->length = (size_t)PyBytes_GET_SIZE(packed->owner);
    }
    packed->form = FPK_FORM_STR;
    return 1;
}

/* 1 if [obj] needs no pickle and was written, 0, or -1. */
static int
pack_tagged(PyObject *obj, fpk_packed *packed)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyLong_Type) {
        return pack_int(obj, packed);
    }
    if (obj == Py_None || obj == Py_False || obj == Py_True) {
        packed->form = obj == Py_None    ? FPK_FORM_NONE
                       : obj == Py_False ? FPK_FORM_FALSE
                                         : FPK_FORM_TRUE;
        return 1;
    }
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(obj);
        pack_small(packed, FPK_FORM_FLOAT, &value, sizeof value);
        return 1;
    }
    if (type == &PyUnicode_Type) {
        return pack_str(obj, packed);
    }
    if (type == &PyBytes_Type) {
        packed->form = FPK_FORM_BYTES;
        packed->owner = Py_NewRef(obj);
        packed->data = (const unsigned char *)PyBytes_AS_STRING(obj);
        packed->length = (size_t)PyBytes_GET_SIZE(obj);
        return 1;
    }
    return 0;
}

int
fpk_pack(fpk_pool_state *state, PyObject *dumps, PyObject *obj,
         fpk_packed *packed)
{
    packed->data = packed->small;
    packed->length = 0;
    packed->owner = NULL;
    packed->count = 0;
    packed->buffers = NULL;
    int status = pack_tagged(obj, packed);
    if (status == 0) {
        status = pack_pickle(state, dumps, obj, packed);
    }
    if (FPK_UNLIKELY(status < 0)) {
        fpk_packed_clear(packed);
        return -1;
    }
    return 0;
}

void
fpk_packed_clear(fpk_packed *packed)
{
    /* Releasing a view may run Python code. */
    PyObject *error =
        packed->buffers == NULL ? NULL : fpk_get_raised_exception();
    for (uint32_t i = 0; i < packed->count; i++) {
        PyBuffer_Release(&packed->buffers[i]);
    }
    if (error != NULL) {
        fpk_set_raised_exception(error);
    }
    PyMem_Free(packed->buffers);
    packed->buffers = NULL;
    packed->count = 0;
    Py_CLEAR(packed->owner);
}

/* ---- into shared memory ------------------------------------------------- */

static void
copy_bytes(void *to, const void *from, size_t length)
{
    if (length <= LARGE_COPY) {
        memcpy(to, from, length);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, length);
    Py_END_ALLOW_THREADS
}

static fpk_status
place_bytes(const fpk_allocator *allocator, const void *bytes, size_t length,
            uint64_t *offset)
{
    void *address;
    fpk_status status =
        allocator->allocate(allocator->context, length, offset, &address);
    if (status == FPK_OK) {
        copy_bytes(address, bytes, length);
    }
    return status;
}

int
fpk_packed_place(fpk_pool_state *state, fpk_packed *packed,
                 const fpk_allocator *allocator, fpk_message *message,
                 fpk_place *places)
{
    message->form = packed->form;
    message->flags = 0;
    message->buffers = packed->count;
    message->payload_length = packed->length;
    message->block = 0;
    uint32_t placed = 0;
    fpk_status status = FPK_OK;
    for (; placed < packed->count; placed++) {
        const Py_buffer *view = &packed->buffers[placed];
        places[placed].length = (uint64_t)view->len;
        status = place_bytes(allocator, view->buf, (size_t)view->len,
                             &places[placed].offset);
        if (status != FPK_OK) {
            goto undo;
        }
    }
    if (packed->length > FPK_INLINE_LONGEST) {
        status = place_bytes(allocator, packed->data, packed->length,
                             &message->block);
        if (status != FPK_OK) {
            goto undo;
        }
        message->flags = FPK_PAYLOAD_IN_BLOCK;
    }
    return 0;
undo:
    while (placed > 0) {
        allocator->free(allocator->context, places[--placed].offset);
    }
    return fpk_raise_status(state, status, "copying into shared memory");
}

/* ---- unpacking ---------------------------------------------------------- */

static PyObject *
call_loads(fpk_pool_state *state, PyObject *loads, PyObject *data,
           PyObject *buffers)
{
    PyObject *arguments[] = {NULL, data, buffers};
    return PyObject_Vectorcall(loads, arguments + 1,
                               1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                               buffers == NULL ? NULL : state->kw_buffers);
}

/* A bytes object of [length] bytes. */
static PyObject *
new_bytes(const unsigned char *payload, size_t length)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (bytes == NULL) {
        return NULL;
    }
    char *target = PyBytes_AS_STRING(bytes);
    fpk_prefer_huge_pages(target, length);
    copy_bytes(target, payload, length);
    return bytes;
}

/* Nobody may read through a view of [payload] once this has returned. */
static PyObject *
unpack_pickle(fpk_pool_state *state, PyObject *loads,
              const unsigned char *payload, size_t length, PyObject *buffers)
{
    PyObject *data =
        length <= SMALL_PICKLE
            ? PyBytes_FromStringAndSize((const char *)payload,
                                        (Py_ssize_t)length)
            : PyMemoryView_FromMemory((char *)payload, (Py_ssize_t)length,
                                      PyBUF_READ);
    if (data == NULL) {
        return NULL;
    }
    PyObject *result = call_loads(state, loads, data, buffers);
    if (length > SMALL_PICKLE && Py_REFCNT(data) > 1) {
        PyObject *error = fpk_get_raised_exception();
        PyObject *released = PyObject_CallMethod(data, "release", NULL);
        if (released == NULL) {
            Py_CLEAR(result);
        }
        Py_XDECREF(released);
        if (error != NULL) {
            fpk_set_raised_exception(error);
        }
    }
    Py_DECREF(data);
    return result;
}

static PyObject *
unpack_tagged(fpk_pool_state *state, uint32_t form,
              const unsigned char *payload, size_t length)
{
    static const unsigned char widths[] = {
        [FPK_FORM_INT] = sizeof(int64_t),
        [FPK_FORM_FLOAT] = sizeof(double),
        [FPK_FORM_BYTES] = 0,
    };
    if (form > FPK_FORM_BYTES ||
        (form < FPK_FORM_STR && length != widths[form])) {
        (void)fpk_raise_status(state, FPK_CORRUPT, "the form of a payload");
        return NULL;
    }
    int64_t integer;
    double number;
    switch (form) {
    case FPK_FORM_NONE:
        Py_RETURN_NONE;
    case FPK_FORM_FALSE:
        Py_RETURN_FALSE;
    case FPK_FORM_TRUE:
        Py_RETURN_TRUE;
    case FPK_FORM_INT:
        memcpy(&integer, payload, sizeof integer);
        return PyLong_FromLongLong(integer);
    case FPK_FORM_FLOAT:
        memcpy(&number, payload, sizeof number);
        return PyFloat_FromDouble(number);
    case FPK_FORM_STR:
        return PyUnicode_DecodeUTF8((const char *)payload, (Py_ssize_t)length,
                                    "strict");
    default:
        return new_bytes(payload, length);
    }
}

PyObject *
fpk_unpack(fpk_pool_state *state, PyObject *loads, uint32_t form,
           const unsigned char *payload, size_t length, PyObject *buffers)
{
    form &= FPK_FORM_MASK;
    if (length > (size_t)PY_SSIZE_T_MAX) {
        (void)fpk_raise_status(state, FPK_CORRUPT, "the length of a payload");
        return NULL;
    }
    return form == FPK_FORM_PICKLE
               ? unpack_pickle(state, loads, payload, length, buffers)
               : unpack_tagged(state, form, payload, length);
}

PyObject *
fpk_unpack_from(fpk_pool_state *state, PyObject *loads, uint32_t form,
                PyObject *source, PyObject *buffers)
{
    if ((form & FPK_FORM_MASK) == FPK_FORM_PICKLE) {
        return call_loads(state, loads, source, buffers);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(source, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result =
        unpack_tagged(state, form & FPK_FORM_MASK,
                      (const unsigned char *)view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return result;
}
