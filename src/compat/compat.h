/* compat.h -- the only place that asks which Python this is.

   Does:      gives the names of newer C-API functions to older Pythons, and
              reads small ints without a call.
   Owns:      nothing; every function is static inline.
   Rule:      nothing else in the project tests PY_VERSION_HEX or
              Py_GIL_DISABLED (kept by tests/test_laws.py).
   Used by:   every room that includes Python.h, through this header. */
#ifndef FPK_COMPAT_H
#define FPK_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030B0000
#error "fpickle needs CPython 3.11 or later"
#endif

/* Documented, in spite of its name.  Gives *[bytes], the only reference to it,
   another length; if there is no memory, frees it and leaves NULL. */
#define fpk_resize_bytes _PyBytes_Resize

#if PY_VERSION_HEX < 0x030D0000

/* The one private function: the public one of 3.13 under its old name.  A miss
   makes no exception, which costs more than all else in a look-up. */
#define PyObject_GetOptionalAttr _PyObject_LookupAttr

/* As PyDict_GetItemWithError, but *[result] is a new reference. */
static inline int
PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **result)
{
    *result = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    if (*result != NULL) {
        return 1;
    }
    return PyErr_Occurred() ? -1 : 0;
}

#endif

#if PY_VERSION_HEX < 0x030C0000

#include <structmember.h>
#define Py_T_INT T_INT
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_READONLY READONLY

static inline PyObject *
fpk_get_raised_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* Steals [value]. */
static inline void
fpk_set_raised_exception(PyObject *value)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(value)), value,
                  PyException_GetTraceback(value));
}

static inline PyObject *
fpk_type_dict(PyTypeObject *type)
{
    return Py_XNewRef(type->tp_dict);
}

/* True, and *[value] set, if [obj] is an int of one digit. */
static inline bool
fpk_int_is_compact(PyObject *obj, int64_t *value)
{
    Py_ssize_t size = Py_SIZE(obj);
    if (size < -1 || size > 1) {
        return false;
    }
    *value = size == 0
                 ? 0
                 : (int64_t)size * (int64_t)((PyLongObject *)obj)->ob_digit[0];
    return true;
}

#else

static inline PyObject *
fpk_get_raised_exception(void)
{
    return PyErr_GetRaisedException();
}

/* Steals [value]. */
static inline void
fpk_set_raised_exception(PyObject *value)
{
    PyErr_SetRaisedException(value);
}

static inline PyObject *
fpk_type_dict(PyTypeObject *type)
{
    return PyType_GetDict(type);
}

/* True, and *[value] set, if [obj] is an int of one digit. */
static inline bool
fpk_int_is_compact(PyObject *obj, int64_t *value)
{
    if (!PyUnstable_Long_IsCompact((PyLongObject *)obj)) {
        return false;
    }
    *value = (int64_t)PyUnstable_Long_CompactValue((PyLongObject *)obj);
    return true;
}

#endif

/* [member] is a member descriptor; READONLY has been Py_READONLY since
   3.12, and 1 since ever. */
static inline bool
fpk_member_is_readonly(PyObject *member)
{
    return (((PyMemberDescrObject *)member)->d_member->flags & 1) != 0;
}

/* What [ref] refers to: 1 and a new reference, 0 and NULL if it is gone, -1
   with TypeError if it is no weak reference. */
static inline int
fpk_weakref_get(PyObject *ref, PyObject **result)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyWeakref_GetRef(ref, result);
#else
    PyObject *object = PyWeakref_GetObject(ref); /* borrowed */
    *result = object == NULL || object == Py_None ? NULL : Py_NewRef(object);
    return object == NULL ? -1 : *result != NULL;
#endif
}

/* True if somebody refers weakly to [obj], which is no class.  What
   PyObject_GET_WEAKREFS_LISTPTR looks at, without the call: it is asked for
   each instance. */
static inline bool
fpk_has_weakrefs(PyObject *obj)
{
    Py_ssize_t offset = Py_TYPE(obj)->tp_weaklistoffset;
    return offset != 0 && *(PyObject **)((char *)obj + offset) != NULL;
}

/* The type parameters of a function: borrowed, NULL if it has none. */
static inline PyObject *
fpk_function_type_params(PyObject *function)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *params = ((PyFunctionObject *)function)->func_typeparams;
    return params == NULL || PyTuple_GET_SIZE(params) == 0 ? NULL : params;
#else
    (void)function;
    return NULL;
#endif
}

/* The __doc__ that a function gets from its code: borrowed, NULL for None. */
static inline PyObject *
fpk_code_doc(PyObject *code)
{
    PyObject *consts = ((PyCodeObject *)code)->co_consts;
#ifdef CO_HAS_DOCSTRING
    if (!(((PyCodeObject *)code)->co_flags & CO_HAS_DOCSTRING)) {
        return NULL;
    }
#endif
    if (PyTuple_GET_SIZE(consts) == 0 ||
        !PyUnicode_Check(PyTuple_GET_ITEM(consts, 0))) {
        return NULL;
    }
    return PyTuple_GET_ITEM(consts, 0);
}

/* Module slots that this Python knows.  An interpreter of its own with its own
   GIL is fine: all state is in the module.  A GIL is needed: it is what keeps
   two threads from one Pickler or Unpickler. */
#if PY_VERSION_HEX >= 0x030D0000
#define FPK_MODULE_SLOTS                                                      \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},     \
        {Py_mod_gil, Py_MOD_GIL_USED},
#elif PY_VERSION_HEX >= 0x030C0000
#define FPK_MODULE_SLOTS                                                      \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define FPK_MODULE_SLOTS
#endif

#if PY_VERSION_HEX >= 0x030E0000
#define FPK_DEFAULT_PROTOCOL 5
#else
#define FPK_DEFAULT_PROTOCOL 4
#endif

/* True if the reference the caller walked along is the only one to [obj], so
   that no second edge of the object graph can lead to it. */
static inline bool
fpk_is_unshared(PyObject *obj)
{
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_Object_IsUniquelyReferenced(obj) != 0;
#elif defined(Py_GIL_DISABLED)
    (void)obj;
    return false;
#else
    return Py_REFCNT(obj) == 1;
#endif
}

/* Appends [count] items, whose references the list takes over on success, to
   an exact list.  0 or -1. */
static inline int
fpk_list_extend_stealing(PyObject *list, PyObject **items, Py_ssize_t count)
{
#ifdef Py_GIL_DISABLED
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyList_Append(list, items[i]) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_DECREF(items[i]);
    }
#else
    /* The list's own storage, as listobject.h describes it: room for
       allocated items, of which the first ob_size are owned. */
    PyListObject *self = (PyListObject *)list;
    Py_ssize_t size = Py_SIZE(self);
    if (self->allocated - size < count) {
        Py_ssize_t room = size == 0 ? count : size + count + (size >> 3) + 6;
        if (room > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(PyObject *)) {
            PyErr_NoMemory();
            return -1;
        }
        PyObject **storage = (PyObject **)PyMem_Realloc(
            self->ob_item, (size_t)room * sizeof(PyObject *));
        if (storage == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->ob_item = storage;
        self->allocated = room;
    }
    memcpy(self->ob_item + size, items, (size_t)count * sizeof(PyObject *));
    Py_SET_SIZE(self, size + count);
#endif
    return 0;
}

/* An int from [size] bytes, little-endian, two's complement. */
static inline PyObject *
fpk_int_from_bytes(const uint8_t *bytes, size_t size)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromNativeBytes(bytes, size,
                                  Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    /* Hexadecimal is the one notation that older Pythons read in linear
       time; a sign, two digits a byte, and the end of the string. */
    char small[2 * 64 + 2];
    char *text = size <= 64 ? small : (char *)PyMem_Malloc(2 * size + 2);
    if (text == NULL) {
        return PyErr_NoMemory();
    }
    bool negative = size > 0 && (bytes[size - 1] & 0x80) != 0;
    unsigned carry = negative;
    char *end = text + 1 + 2 * size;
    text[0] = negative ? '-' : '+';
    for (size_t i = 0; i < size; i++) {
        unsigned byte = (negative ? bytes[i] ^ 0xffu : bytes[i]) + carry;
        carry = byte >> 8;
        end[-2 * (Py_ssize_t)i - 1] = "0123456789abcdef"[byte & 0xf];
        end[-2 * (Py_ssize_t)i - 2] = "0123456789abcdef"[byte >> 4 & 0xf];
    }
    *end = '\0';
    PyObject *result =
        size == 0 ? PyLong_FromLong(0) : PyLong_FromString(text, NULL, 16);
    if (text != small) {
        PyMem_Free(text);
    }
    return result;
#endif
}

#if defined(__GNUC__) || defined(__clang__)
#define FPK_LIKELY(x) __builtin_expect(!!(x), 1)
#define FPK_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* [address] will be written to soon; it may be NULL. */
#define FPK_PREFETCH(address) __builtin_prefetch((address), 1)
/* For what stands in a hot loop at many places. */
#define FPK_ALWAYS_INLINE inline __attribute__((always_inline))
#define FPK_NO_INLINE __attribute__((noinline))
#else
#define FPK_ALWAYS_INLINE inline
#define FPK_NO_INLINE
#define FPK_LIKELY(x) (x)
#define FPK_UNLIKELY(x) (x)
#define FPK_PREFETCH(address) ((void)0)
#endif

#endif
