/* buffers.c -- out-of-band buffers (PEP 574).

   Does:      takes the next buffer from the caller's iterable, makes a
              read-only view of one, and copies of what is to be bytes.
   Owns:      nothing.
   Invariant: the buffer's memory is the caller's; only what is to be bytes or
              a bytearray is copied.
   Called by: loop.c; reader.c and calls.c for the copies. */
#include "decode/decoder.h"

#include "base/pages.h"

int
fpk_load_buffer(fpk_decoder *d)
{
    if (d->buffers == NULL) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "pickle stream refers to out-of-band data but "
                                "no *buffers* argument was given");
    }
    PyObject *buffer = PyIter_Next(d->buffers);
    if (buffer == NULL && !PyErr_Occurred()) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "not enough out-of-band buffers");
    }
    return fpk_push(d, buffer);
}

int
fpk_load_readonly_buffer(fpk_decoder *d)
{
    PyObject *buffer = fpk_pop(d);
    if (buffer == NULL) {
        return -1;
    }
    PyObject *view = PyMemoryView_FromObject(buffer);
    if (view == NULL) {
        Py_DECREF(buffer);
        return -1;
    }
    if (PyMemoryView_GET_BUFFER(view)->readonly) {
        Py_DECREF(view); /* good as it is */
        return fpk_push(d, buffer);
    }
    Py_DECREF(buffer);
    PyObject *readonly =
        PyObject_CallMethodNoArgs(view, d->state->str.toreadonly);
    Py_DECREF(view);
    return fpk_push(d, readonly);
}

/* ---- copies ------------------------------------------------------------- */

PyObject *
fpk_copy_bytes(const void *data, Py_ssize_t size)
{
    if ((size_t)size < FPK_HUGE_SIZE) {
        return PyBytes_FromStringAndSize(data, size);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes != NULL) {
        fpk_prefer_huge_pages(PyBytes_AS_STRING(bytes), (size_t)size);
        memcpy(PyBytes_AS_STRING(bytes), data, (size_t)size);
    }
    return bytes;
}

PyObject *
fpk_copy_bytearray(const void *data, Py_ssize_t size)
{
    if ((size_t)size < FPK_HUGE_SIZE) {
        return PyByteArray_FromStringAndSize(data, size);
    }
    PyObject *bytes = PyByteArray_FromStringAndSize(NULL, size);
    if (bytes != NULL) {
        fpk_prefer_huge_pages(PyByteArray_AS_STRING(bytes), (size_t)size);
        memcpy(PyByteArray_AS_STRING(bytes), data, (size_t)size);
    }
    return bytes;
}

PyObject *
fpk_copy_buffer(PyObject *type, PyObject *source)
{
    if (!PyObject_CheckBuffer(source) ||
        PyObject_HasAttrString((PyObject *)Py_TYPE(source), "__bytes__")) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(source, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *copy = type == (PyObject *)&PyBytes_Type
                         ? fpk_copy_bytes(view.buf, view.len)
                         : fpk_copy_bytearray(view.buf, view.len);
    PyBuffer_Release(&view);
    return copy;
}
