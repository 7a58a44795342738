/* buffers.c -- out-of-band buffers (PEP 574).

   Does:      takes the next buffer from the caller's iterable, and makes a
              read-only view of one.
   Owns:      nothing.
   Invariant: the buffer's memory is the caller's; nothing is copied.
   Called by: loop.c. */
#include "decode/decoder.h"

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
