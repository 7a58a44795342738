/* views.c -- views of dicts, mapping proxies, memory views.

   Does:      writes a view as a call that makes it of what it looks at, so
              that the two belong together at the receiver, too.
   Owns:      nothing.
   Invariant: a view of memory that the receiver cannot have shows a copy of
              its bytes.
   Called by: handled.c. */
#include "byvalue/room.h"

/* ---- dict views --------------------------------------------------------- */

int
fpk_save_dict_view(fpk_encoder *e, PyObject *obj)
{
    static const struct {
        PyTypeObject *view, *dict;
        const char *method;
    } kinds[] = {
        {&PyDictKeys_Type, &PyDict_Type, "keys"},
        {&PyDictValues_Type, &PyDict_Type, "values"},
        {&PyDictItems_Type, &PyDict_Type, "items"},
        {&PyODictKeys_Type, &PyODict_Type, "keys"},
        {&PyODictValues_Type, &PyODict_Type, "values"},
        {&PyODictItems_Type, &PyODict_Type, "items"},
    };
    size_t i = 0;
    while (!Py_IS_TYPE(obj, kinds[i].view)) {
        i++;
    }
    PyObject *value = NULL;
    PyObject *dict = fpk_first_referent(obj);
    PyObject *method =
        dict == NULL ? NULL
                     : PyObject_GetAttrString((PyObject *)kinds[i].dict,
                                              kinds[i].method);
    if (method != NULL) {
        value = Py_BuildValue("(O(O))", method, dict);
    }
    Py_XDECREF(dict);
    Py_XDECREF(method);
    return fpk_save_value(e, obj, value);
}

/* ---- mapping proxies ---------------------------------------------------- */

/* The class whose dict [mapping] is, borrowed, as far as one of its
   descriptors tells; NULL, without exception, if none does. */
static PyTypeObject *
class_of_dict(PyObject *mapping)
{
    Py_ssize_t position = 0;
    PyObject *key, *value;
    if (!PyDict_CheckExact(mapping)) {
        return NULL;
    }
    while (PyDict_Next(mapping, &position, &key, &value)) {
        PyTypeObject *type = Py_TYPE(value);
        if (type == &PyGetSetDescr_Type || type == &PyMemberDescr_Type ||
            type == &PyMethodDescr_Type || type == &PyWrapperDescr_Type ||
            type == &PyClassMethodDescr_Type) {
            PyObject *dict = fpk_type_dict(PyDescr_TYPE(value));
            Py_XDECREF(dict);
            if (dict == mapping) {
                return PyDescr_TYPE(value);
            }
        }
    }
    return NULL;
}

int
fpk_save_mapping_proxy(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL;
    PyObject *mapping = fpk_first_referent(obj);
    if (mapping == NULL) {
        return FPK_ERROR;
    }
    PyTypeObject *cls = class_of_dict(mapping);
    if (cls != NULL) {
        value = Py_BuildValue("(O(O))", e->state->builtins_vars, cls);
    }
    else {
        value = Py_BuildValue("(O(O))", Py_TYPE(obj), mapping);
    }
    Py_DECREF(mapping);
    return fpk_save_value(e, obj, value);
}

/* ---- memory views ------------------------------------------------------- */

/* Where the memory of [base], a bytes or bytearray, begins and how long it is;
   NULL if it is neither. */
static const char *
base_memory(PyObject *base, Py_ssize_t *size)
{
    if (base != NULL && PyBytes_CheckExact(base)) {
        *size = PyBytes_GET_SIZE(base);
        return PyBytes_AS_STRING(base);
    }
    if (base != NULL && PyByteArray_CheckExact(base)) {
        *size = PyByteArray_GET_SIZE(base);
        return PyByteArray_AS_STRING(base);
    }
    return NULL;
}

/* A view of all of [base], cut to [size] bytes from [start] on. */
static PyObject *
cut_view(fpk_state *state, PyObject *base, Py_ssize_t whole, Py_ssize_t start,
         Py_ssize_t size)
{
    PyObject *view = fpk_make_call(
        state, Py_NewRef((PyObject *)&PyMemoryView_Type),
        PyTuple_Pack(1, base));
    if (view == NULL || size == whole) {
        return view;
    }
    PyObject *first = PyLong_FromSsize_t(start);
    PyObject *end = PyLong_FromSsize_t(start + size);
    PyObject *slice =
        first == NULL || end == NULL ? NULL : PySlice_New(first, end, NULL);
    PyObject *args = slice == NULL ? NULL : PyTuple_Pack(2, view, slice);
    Py_XDECREF(first);
    Py_XDECREF(end);
    Py_XDECREF(slice);
    Py_DECREF(view);
    return fpk_make_call(state, Py_NewRef(state->operator_getitem), args);
}

/* The bytes of [view] as a bytes or bytearray. */
static PyObject *
copy_memory(PyObject *view, bool readonly)
{
    PyObject *bytes = PyObject_CallMethod(view, "tobytes", NULL);
    if (bytes != NULL && !readonly) {
        Py_SETREF(bytes, PyByteArray_FromObject(bytes));
    }
    return bytes;
}

/* methodcaller([name], *[args])([view]); both stolen. */
static PyObject *
call_method_of(fpk_state *state, PyObject *view, PyObject *caller_args)
{
    PyObject *caller =
        caller_args == NULL
            ? NULL
            : PyObject_CallObject(state->operator_methodcaller, caller_args);
    PyObject *args =
        view == NULL || caller == NULL ? NULL : PyTuple_Pack(1, view);
    Py_XDECREF(view);
    Py_XDECREF(caller_args);
    return fpk_make_call(state, caller, args);
}

/* The call that makes a view like [obj]; a new reference. */
static PyObject *
make_view_call(fpk_state *state, PyObject *obj, const Py_buffer *buffer)
{
    PyObject *base = buffer->obj;
    Py_ssize_t size;
    const char *memory = base_memory(base, &size);
    bool contiguous = PyBuffer_IsContiguous(buffer, 'C') != 0;
    bool base_readonly = memory == NULL || PyBytes_CheckExact(base);
    PyObject *view;
    if (memory != NULL && contiguous) {
        Py_ssize_t start =
            buffer->len == 0 ? 0 : (const char *)buffer->buf - memory;
        view = cut_view(state, base, size, start, buffer->len);
    }
    else {
        PyObject *copy = copy_memory(obj, buffer->readonly);
        base_readonly = buffer->readonly;
        view = copy == NULL
                   ? NULL
                   : cut_view(state, copy, buffer->len, 0, buffer->len);
        Py_XDECREF(copy);
    }
    bool plain = buffer->ndim == 1 && (buffer->format == NULL ||
                                       strcmp(buffer->format, "B") == 0);
    if (!plain) {
        PyObject *shape = PyObject_GetAttrString(obj, "shape");
        PyObject *format = PyObject_GetAttrString(obj, "format");
        PyObject *args = NULL;
        /* The length of the one dimension follows from the size. */
        if (shape != NULL && format != NULL) {
            args = buffer->ndim == 1
                       ? Py_BuildValue("(sO)", "cast", format)
                       : Py_BuildValue("(sOO)", "cast", format, shape);
        }
        Py_XDECREF(shape);
        Py_XDECREF(format);
        view = call_method_of(state, view, args);
    }
    if (buffer->readonly && !base_readonly) {
        view = call_method_of(state, view, Py_BuildValue("(s)", "toreadonly"));
    }
    return view;
}

int
fpk_save_memory_view(fpk_encoder *e, PyObject *obj)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(obj, &buffer, PyBUF_FULL_RO) < 0) {
        return FPK_ERROR;
    }
    /* The view's own buffer says whose memory it is; that of the request names
       the view. */
    Py_buffer own = *PyMemoryView_GET_BUFFER(obj);
    own.obj = PyMemoryView_GET_BASE(obj);
    PyObject *call = make_view_call(e->state, obj, &own);
    PyBuffer_Release(&buffer);
    PyObject *value = call == NULL ? NULL : PyTuple_GetSlice(call, 0, 2);
    Py_XDECREF(call);
    return fpk_save_value(e, obj, value);
}
