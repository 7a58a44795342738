/* limits.c -- the type Limits: what one load may use at most.

   Does:      keeps the five numbers, and gives a decoder the guard that checks
              them.
   Owns:      nothing but the numbers.
   Invariant: a Limits object does not change.
   Called by: Python code; load.c and unpickler.c, through fpk_guard_set. */
#include "decode/limits.h"

typedef struct {
    PyObject_HEAD
    fpk_limit_values most;
} fpk_limits;

int
fpk_guard_set(fpk_decoder *d, PyObject *limits)
{
    fpk_guard *guard = NULL;
    if (limits != NULL && limits != Py_None) {
        if (!Py_IS_TYPE(limits, d->state->limits_type)) {
            PyErr_Format(PyExc_TypeError,
                         "limits must be fpickle.Limits or None, not %.200s",
                         Py_TYPE(limits)->tp_name);
            return -1;
        }
        guard = PyMem_Calloc(1, sizeof *guard);
        if (guard == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        guard->most = ((fpk_limits *)limits)->most;
    }
    fpk_guard_free(d);
    d->guard = guard;
    return 0;
}

/* ---- the numbers -------------------------------------------------------- */

static const struct {
    const char *name;
    size_t offset;
} members[] = {
#define FPK_MEMBER(name) {#name, offsetof(fpk_limit_values, name)},
    FPK_LIMITS(FPK_MEMBER)
#undef FPK_MEMBER
};

static uint64_t *
find_member(fpk_limit_values *values, PyObject *name)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(members); i++) {
        if (PyUnicode_CompareWithASCIIString(name, members[i].name) == 0) {
            return (uint64_t *)((char *)values + members[i].offset);
        }
    }
    return NULL;
}

static int
set_member(uint64_t *member, PyObject *name, PyObject *value)
{
    if (value == Py_None) {
        return 0;
    }
    PyObject *number = PyNumber_Index(value);
    if (number == NULL) {
        return -1;
    }
    int overflow;
    long long most = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (most < 0 && overflow <= 0) {
        PyErr_Format(PyExc_ValueError, "%U must not be negative", name);
        return -1;
    }
    *member = overflow > 0 ? (uint64_t)INT64_MAX : (uint64_t)most;
    return 0;
}

static PyObject *
limits_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_Format(PyExc_TypeError,
                     "Limits() takes no positional arguments (%zd given)",
                     PyTuple_GET_SIZE(args));
        return NULL;
    }
    fpk_limits *self = (fpk_limits *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    memset(&self->most, 0xff, sizeof self->most); /* FPK_UNLIMITED */
    Py_ssize_t place = 0;
    PyObject *name, *value;
    while (kwargs != NULL && PyDict_Next(kwargs, &place, &name, &value)) {
        uint64_t *member = find_member(&self->most, name);
        if (member == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "Limits() got an unexpected keyword argument '%U'",
                         name);
        }
        if (member == NULL || set_member(member, name, value) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static void
limits_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
limits_get(PyObject *op, void *offset)
{
    const char *values = (const char *)&((fpk_limits *)op)->most;
    uint64_t most = *(const uint64_t *)(values + (size_t)offset);
    if (most == FPK_UNLIMITED) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(most);
}

/* The limits that are set, as keyword arguments. */
static PyObject *
as_keywords(PyObject *op)
{
    PyObject *keywords = PyDict_New();
    for (size_t i = 0; keywords != NULL && i < Py_ARRAY_LENGTH(members); i++) {
        PyObject *value = limits_get(op, (void *)members[i].offset);
        if (value == NULL ||
            (value != Py_None &&
             PyDict_SetItemString(keywords, members[i].name, value) < 0)) {
            Py_CLEAR(keywords);
        }
        Py_XDECREF(value);
    }
    return keywords;
}

static PyObject *
limits_repr(PyObject *op)
{
    PyObject *text = PyUnicode_FromString("");
    for (size_t i = 0; text != NULL && i < Py_ARRAY_LENGTH(members); i++) {
        PyObject *value = limits_get(op, (void *)members[i].offset);
        if (value == NULL) {
            Py_CLEAR(text);
        }
        else if (value != Py_None) {
            Py_SETREF(text, PyUnicode_FromFormat(
                                "%U%s%s=%S", text,
                                PyUnicode_GET_LENGTH(text) > 0 ? ", " : "",
                                members[i].name, value));
        }
        Py_XDECREF(value);
    }
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("Limits(%U)", text));
    }
    return text;
}

static PyObject *
limits_compare(PyObject *op, PyObject *other, int how)
{
    if (!Py_IS_TYPE(other, Py_TYPE(op)) || (how != Py_EQ && how != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    bool equal =
        memcmp(&((fpk_limits *)op)->most, &((fpk_limits *)other)->most,
               sizeof(fpk_limit_values)) == 0;
    return PyBool_FromLong(equal == (how == Py_EQ));
}

/* So that limits can be copied and sent to other processes. */
static PyObject *
limits_getnewargs_ex(PyObject *op, PyObject *ignored)
{
    PyObject *keywords = as_keywords(op);
    return keywords == NULL ? NULL : Py_BuildValue("(()N)", keywords);
}

static PyMethodDef limits_methods[] = {
    {"__getnewargs_ex__", limits_getnewargs_ex, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef limits_getsets[] = {
#define FPK_MEMBER(name)                                                      \
    {#name, limits_get, NULL,                                                 \
     PyDoc_STR("The limit " #name ": an int, or None."),                      \
     (void *)offsetof(fpk_limit_values, name)},
    FPK_LIMITS(FPK_MEMBER)
#undef FPK_MEMBER
        {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    limits_doc,
    "Limits(*, bytes=None, objects=None, depth=None, memo=None,\n"
    "       allocation=None)\n"
    "--\n\n"
    "What one pickle may use at most: the limits argument of load, loads and\n"
    "Unpickler.  None is no limit.\n\n"
    "Args:\n"
    "  bytes: the length of the pickle, in bytes.\n"
    "  objects: how often the stream may put something on its stack: each\n"
    "    value counts, small ints, None and a reference to what was there\n"
    "    before, too.\n"
    "  depth: levels of objects in each other, and of open marks.  The state\n"
    "    of an instance is a level of its own.\n"
    "  memo: entries of the memo; an Unpickler keeps those of earlier loads.\n"
    "  allocation: the bytes that the stream may ask for at once: for one\n"
    "    string, bytes object, int or line of text, for the references of "
    "one\n"
    "    batch of items, and for one frame.  Frames of ordinary streams hold\n"
    "    64 KiB and what the last opcode in them needs.\n\n"
    "A load that would exceed one raises UnpicklingError, which names the\n"
    "limit, the opcode and its byte offset, before it allocates.  What the\n"
    "classes of the stream do when they are called is not limited.  With a\n"
    "limit on bytes or allocation the file's readline is given a size.\n"
    "Limits do not change; equal ones compare equal.\n\n"
    ">>> import fpickle\n"
    ">>> limits = fpickle.Limits(bytes=1_000_000, depth=100)\n"
    ">>> fpickle.loads(fpickle.dumps([1, 2]), limits=limits)\n"
    "[1, 2]\n");

static PyType_Slot limits_slots[] = {
    {Py_tp_doc, (void *)limits_doc},
    {Py_tp_new, limits_new},
    {Py_tp_dealloc, limits_dealloc},
    {Py_tp_repr, limits_repr},
    {Py_tp_richcompare, limits_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_methods, limits_methods},
    {Py_tp_getset, limits_getsets},
    {0, NULL},
};

static PyType_Spec limits_spec = {
    .name = "fpickle.Limits",
    .basicsize = sizeof(fpk_limits),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = limits_slots,
};

int
fpk_limits_init_type(PyObject *module, fpk_state *state)
{
    state->limits_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &limits_spec, NULL);
    return state->limits_type == NULL
               ? -1
               : PyModule_AddType(module, state->limits_type);
}
