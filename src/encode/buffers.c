/* buffers.c -- bytearray and PickleBuffer, in the stream or beside it.

   Does:      writes buffers in-band, or hands them to buffer_callback (PEP
              574).
   Owns:      nothing.
   Invariant: no raw pointer into a buffer is held while Python code runs.
   Called by: driver.c. */
#include "base/bytes.h"
#include "encode/encoder.h"

static int
emit_bytearray(fpk_encoder *e, const char *data, Py_ssize_t size,
               PyObject *owner)
{
    uint8_t header[9] = {FPK_OP_BYTEARRAY8};
    fpk_store_le64(header + 1, (uint64_t)size);
    return fpk_emit_payload(e, header, sizeof header, data, size, owner);
}

int
fpk_save_bytearray(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (e->protocol < 5) {
        PyObject *value;
        if (PyByteArray_GET_SIZE(obj) == 0) {
            value = Py_BuildValue("(O())", &PyByteArray_Type);
        }
        else {
            PyObject *bytes = PyBytes_FromObject(obj);
            if (bytes == NULL) {
                return FPK_ERROR;
            }
            value = Py_BuildValue("(O(N))", &PyByteArray_Type, bytes);
        }
        return value == NULL ? FPK_ERROR
                             : fpk_save_reduced(e, obj, value, shared);
    }
    if (PyByteArray_GET_SIZE(obj) >= e->bytes_beside) {
        return fpk_emit_beside(e, obj, shared);
    }
    if (emit_bytearray(e, PyByteArray_AS_STRING(obj),
                       PyByteArray_GET_SIZE(obj), obj) < 0) {
        return FPK_ERROR;
    }
    return shared ? fpk_memoize(e, obj) : FPK_DONE;
}

int
fpk_emit_beside(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyObject *buffer = PyPickleBuffer_FromObject(obj);
    if (buffer == NULL) {
        return FPK_ERROR;
    }
    PyObject *value = Py_BuildValue("(O(N))", Py_TYPE(obj), buffer);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, shared);
}

/* What the callback said to the buffer with this number when the dump ran
   before it was started again: 1, 0, or -1 if it was not asked yet.  Both runs
   meet the buffers in the same order. */
static int
earlier_answer(fpk_encoder *e)
{
    if (e->buffer_answers == NULL ||
        e->buffers_met > PyList_GET_SIZE(e->buffer_answers)) {
        return -1;
    }
    return PyList_GET_ITEM(e->buffer_answers, e->buffers_met - 1) == Py_True;
}

/* Whether the callback leaves the buffer in the stream: 1, 0, or -1. */
static int
ask_in_band(fpk_encoder *e, PyObject *obj)
{
    if (e->buffer_callback == NULL) {
        return 1;
    }
    e->buffers_met++;
    int in_band = earlier_answer(e);
    if (in_band >= 0) {
        return in_band;
    }
    PyObject *answer = PyObject_CallOneArg(e->buffer_callback, obj);
    if (answer == NULL) {
        return -1;
    }
    in_band = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    if (in_band >= 0 && e->policy == FPK_MEMO_MARKED) {
        if (e->buffer_answers == NULL) {
            e->buffer_answers = PyList_New(0);
        }
        if (e->buffer_answers == NULL ||
            PyList_Append(e->buffer_answers, in_band ? Py_True : Py_False) <
                0) {
            return -1;
        }
    }
    return in_band;
}

/* [raw] is a memoryview of bytes. */
static int
emit_in_band(fpk_encoder *e, PyObject *raw)
{
    const Py_buffer *view = PyMemoryView_GET_BUFFER(raw);
    return view->readonly ? fpk_emit_bytes(e, view->buf, view->len)
                          : emit_bytearray(e, view->buf, view->len, raw);
}

static int
emit_out_of_band(fpk_encoder *e, PyObject *raw)
{
    if (fpk_emit_op(e, FPK_OP_NEXT_BUFFER) < 0) {
        return FPK_ERROR;
    }
    return PyMemoryView_GET_BUFFER(raw)->readonly
               ? fpk_emit_op(e, FPK_OP_READONLY_BUFFER)
               : FPK_DONE;
}

int
fpk_save_buffer(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (e->protocol < 5) {
        PyErr_SetString(e->state->PicklingError,
                        "PickleBuffer can only be pickled with protocol >= 5");
        return FPK_ERROR;
    }
    const Py_buffer *view = PyPickleBuffer_GetBuffer(obj);
    if (view == NULL) {
        return FPK_ERROR;
    }
    if (view->suboffsets != NULL || !PyBuffer_IsContiguous(view, 'A')) {
        PyErr_SetString(e->state->PicklingError,
                        "PickleBuffer can not be pickled when pointing to a "
                        "non-contiguous buffer");
        return FPK_ERROR;
    }
    /* The callback may release it, and the file's write resize what is below:
       a view of ours keeps the memory. */
    PyObject *raw = PyObject_CallMethodNoArgs(obj, e->state->str.raw);
    if (raw == NULL) {
        return FPK_ERROR;
    }
    int status = FPK_ERROR;
    int in_band = ask_in_band(e, obj);
    if (in_band >= 0) {
        status = in_band ? emit_in_band(e, raw) : emit_out_of_band(e, raw);
    }
    if (status == FPK_DONE && in_band && shared) {
        status = fpk_memoize(e, obj);
    }
    Py_DECREF(raw);
    return status;
}
