/* unpickler.c -- the Unpickler type and its public memo.

   Does:      keeps a decoder across loads from one file, and lets subclasses
              override find_class and persistent_load.
   Owns:      the decoder, with its memo of everything read so far.
   Invariant: one load at a time: a second one, from a hook or another thread,
              raises RuntimeError (gh-143638).  Hooks are bound for the time of
              a load only, so that they make no reference cycle.
   Called by: Python code. */
#include "decode/options.h"

typedef struct {
    PyObject_HEAD
    bool ready;                     /* __init__ has succeeded */
    bool busy;                      /* a load is running */
    PyObject *persistent_load_attr; /* owned or NULL: set on the instance */
    fpk_decoder decoder;
} fpk_unpickler;

typedef struct {
    PyObject_HEAD
    fpk_unpickler *unpickler; /* owned */
} fpk_unpickler_memo_proxy;

static int
check_ready(fpk_unpickler *self)
{
    if (!self->ready) {
        PyErr_Format(self->decoder.state->UnpicklingError,
                     "Unpickler.__init__() was not called by %s.__init__()",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this Unpickler is in the middle of a load: use one "
                        "Unpickler for each thread and each nested load");
        return -1;
    }
    return 0;
}

/* ---- life cycle --------------------------------------------------------- */

static PyObject *
unpickler_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    fpk_state *state = fpk_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    fpk_unpickler *self = (fpk_unpickler *)type->tp_alloc(type, 0);
    if (self != NULL) {
        fpk_decoder_init(&self->decoder, state);
    }
    return (PyObject *)self;
}

/* The call's arguments as a vector call has them; the caller frees
   *[values]. */
static PyObject *
as_vector(PyObject *args, PyObject *kwargs, PyObject ***values)
{
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);
    Py_ssize_t keywords = kwargs == NULL ? 0 : PyDict_GET_SIZE(kwargs);
    PyObject *kwnames = PyTuple_New(keywords);
    *values = PyMem_New(PyObject *, (size_t)(nargs + keywords + 1));
    if (kwnames == NULL || *values == NULL) {
        Py_XDECREF(kwnames);
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        (*values)[i] = PyTuple_GET_ITEM(args, i);
    }
    PyObject *key, *value;
    Py_ssize_t position = 0;
    for (Py_ssize_t i = 0;
         kwargs != NULL && PyDict_Next(kwargs, &position, &key, &value); i++) {
        PyTuple_SET_ITEM(kwnames, i, Py_NewRef(key));
        (*values)[nargs + i] = value;
    }
    return kwnames;
}

static int
unpickler_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    fpk_unpickler *self = (fpk_unpickler *)op;
    fpk_decoder *d = &self->decoder;
    fpk_load_options options;
    PyObject **values = NULL;
    int status = -1;
    if (self->busy) {
        (void)check_ready(self);
        return -1;
    }
    PyObject *kwnames = as_vector(args, kwargs, &values);
    if (kwnames == NULL ||
        fpk_parse_load_options("Unpickler", "file", values,
                               PyTuple_GET_SIZE(args), kwnames, &options) <
            0 ||
        fpk_apply_load_options(d, &options) < 0 ||
        fpk_read_from_file(d, options.first) < 0) {
        goto done;
    }
    fpk_decoder_clear_memo(d);
    d->base = 0;
    self->ready = true;
    status = 0;
done:
    Py_XDECREF(kwnames);
    PyMem_Free(values);
    return status;
}

static int
unpickler_traverse(PyObject *op, visitproc visit, void *arg)
{
    fpk_unpickler *self = (fpk_unpickler *)op;
    fpk_decoder *d = &self->decoder;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->persistent_load_attr);
    Py_VISIT(d->read);
    Py_VISIT(d->readline);
    Py_VISIT(d->peek);
    Py_VISIT(d->buffers);
    Py_VISIT(d->find_class);
    Py_VISIT(d->persistent_load);
    Py_VISIT(d->sparse_memo);
    for (size_t i = 0; i < d->memo_size; i++) {
        Py_VISIT(d->memo[i]);
    }
    for (PyObject **item = d->stack; item < d->sp; item++) {
        Py_VISIT(*item);
    }
    return 0;
}

static int
unpickler_clear(PyObject *op)
{
    fpk_unpickler *self = (fpk_unpickler *)op;
    self->ready = false;
    fpk_decoder_fini(&self->decoder);
    Py_CLEAR(self->persistent_load_attr);
    return 0;
}

static void
unpickler_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)unpickler_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* ---- hooks -------------------------------------------------------------- */

PyDoc_STRVAR(
    find_class_doc,
    "find_class($self, module_name, global_name, /)\n--\n\n"
    "Import the module and return its object of that name.\n\n"
    "Called for every global of the stream; for subclasses to override.");

static PyObject *
unpickler_find_class(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError,
                     "find_class expected 2 arguments, got %zd", nargs);
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        if (!PyUnicode_Check(args[i])) {
            PyErr_Format(PyExc_TypeError,
                         "find_class arguments must be str, not %.200s",
                         Py_TYPE(args[i])->tp_name);
            return NULL;
        }
    }
    return fpk_find_class_directly(&((fpk_unpickler *)op)->decoder, args[0],
                                   args[1]);
}

PyDoc_STRVAR(
    persistent_load_doc,
    "persistent_load($self, pid, /)\n--\n\n"
    "Return the object that a persistent id of the stream stands for.\n\n"
    "For subclasses to override; raises UnpicklingError otherwise.");

static PyObject *
unpickler_persistent_load(PyObject *op, PyObject *pid)
{
    PyErr_SetString(((fpk_unpickler *)op)->decoder.state->UnpicklingError,
                    "A load persistent id instruction was encountered, but no "
                    "persistent_load function was specified.");
    return NULL;
}

static bool
is_persistent_load(fpk_unpickler *self, PyObject *name)
{
    return PyUnicode_Check(name) &&
           PyUnicode_Compare(
               name, self->decoder.state->str.persistent_load) == 0;
}

/* A hook set on the instance wins over the method, as in Python 3.13. */
static PyObject *
unpickler_getattro(PyObject *op, PyObject *name)
{
    fpk_unpickler *self = (fpk_unpickler *)op;
    if (self->persistent_load_attr != NULL && is_persistent_load(self, name)) {
        return Py_NewRef(self->persistent_load_attr);
    }
    return PyObject_GenericGetAttr(op, name);
}

static int
unpickler_setattro(PyObject *op, PyObject *name, PyObject *value)
{
    fpk_unpickler *self = (fpk_unpickler *)op;
    if (!is_persistent_load(self, name)) {
        return PyObject_GenericSetAttr(op, name, value);
    }
    if (value == NULL && self->persistent_load_attr == NULL) {
        PyErr_SetObject(PyExc_AttributeError, name);
        return -1;
    }
    if (value != NULL && !PyCallable_Check(value)) {
        PyErr_SetString(PyExc_TypeError,
                        "persistent_load must be a callable taking one "
                        "argument");
        return -1;
    }
    Py_XSETREF(self->persistent_load_attr, Py_XNewRef(value));
    return 0;
}

/* The attribute [name], or NULL if it is this type's own method, which the
   decoder can do without. */
static int
bind_hook(fpk_unpickler *self, PyObject *name, PyCFunction own,
          PyObject **slot)
{
    PyObject *hook;
    if (PyObject_GetOptionalAttr((PyObject *)self, name, &hook) < 0) {
        return -1;
    }
    if (hook != NULL && PyCFunction_Check(hook) &&
        PyCFunction_GET_FUNCTION(hook) == own &&
        PyCFunction_GET_SELF(hook) == (PyObject *)self) {
        Py_CLEAR(hook);
    }
    Py_XSETREF(*slot, hook);
    return 0;
}

/* ---- methods ------------------------------------------------------------ */

PyDoc_STRVAR(load_doc,
             "load($self, /)\n--\n\n"
             "Read one pickle from the file and return its object.\n\n"
             "What earlier loads of this Unpickler memoised can be referred\n"
             "to.  After an error the Unpickler can be used again.");

static PyObject *
unpickler_load(PyObject *op, PyObject *ignored)
{
    fpk_unpickler *self = (fpk_unpickler *)op;
    fpk_decoder *d = &self->decoder;
    PyObject *result = NULL;
    if (check_ready(self) < 0) {
        return NULL;
    }
    self->busy = true;
    if (bind_hook(self, d->state->str.find_class,
                  (PyCFunction)(void (*)(void))unpickler_find_class,
                  &d->find_class) == 0 &&
        bind_hook(self, d->state->str.persistent_load,
                  unpickler_persistent_load, &d->persistent_load) == 0) {
        result = fpk_decoder_load(d);
    }
    Py_CLEAR(d->find_class);
    Py_CLEAR(d->persistent_load);
    self->busy = false;
    return result;
}

static PyObject *
unpickler_sizeof(PyObject *op, PyObject *ignored)
{
    const fpk_unpickler *self = (fpk_unpickler *)op;
    const fpk_decoder *d = &self->decoder;
    size_t size = (size_t)Py_TYPE(op)->tp_basicsize;
    if (d->memo != d->inline_memo) {
        size += d->memo_size * sizeof *d->memo;
    }
    if (d->stack != d->inline_stack) {
        size += (size_t)(d->stack_end - d->stack) * sizeof *d->stack;
    }
    if (d->marks != d->inline_marks) {
        size += d->mark_capacity * sizeof *d->marks;
    }
    return PyLong_FromSize_t(size);
}

static PyMethodDef unpickler_methods[] = {
    {"load", unpickler_load, METH_NOARGS, load_doc},
    {"find_class", (PyCFunction)(void (*)(void))unpickler_find_class,
     METH_FASTCALL, find_class_doc},
    {"persistent_load", unpickler_persistent_load, METH_O,
     persistent_load_doc},
    {"__sizeof__", unpickler_sizeof, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- the memo as Python sees it ----------------------------------------- */

static PyObject *
memo_as_dict(const fpk_decoder *d)
{
    PyObject *dict =
        d->sparse_memo == NULL ? PyDict_New() : PyDict_Copy(d->sparse_memo);
    for (size_t i = 0; dict != NULL && i < d->memo_size; i++) {
        if (d->memo[i] == NULL) {
            continue;
        }
        PyObject *index = PyLong_FromSize_t(i);
        if (index == NULL || PyDict_SetItem(dict, index, d->memo[i]) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(index);
    }
    return dict;
}

/* [dict] maps indices to objects. */
static int
put_all(fpk_decoder *d, PyObject *dict)
{
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &position, &key, &value)) {
        if (!PyLong_Check(key)) {
            PyErr_SetString(PyExc_TypeError, "memo key must be integers");
            return -1;
        }
        Py_ssize_t index = PyLong_AsSsize_t(key);
        if (index == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (index < 0) {
            PyErr_SetString(PyExc_ValueError,
                            "memo key must be positive integers.");
            return -1;
        }
        if (fpk_memo_put(d, (uint64_t)index, value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The new memo is built in a decoder of its own, so that a bad key leaves the
   old one as it was. */
static int
replace_memo(fpk_unpickler *self, PyObject *dict)
{
    fpk_decoder *d = &self->decoder;
    int status = -1;
    fpk_decoder *trial = PyMem_New(fpk_decoder, 1);
    if (trial == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    fpk_decoder_init(trial, d->state);
    if (put_all(trial, dict) == 0) {
        fpk_decoder_clear_memo(d);
        status = put_all(d, dict);
    }
    fpk_decoder_fini(trial);
    PyMem_Free(trial);
    return status;
}

static int
unpickler_set_memo(PyObject *op, PyObject *value, void *closure)
{
    fpk_unpickler *self = (fpk_unpickler *)op;
    PyObject *dict;
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "attribute deletion is not supported");
        return -1;
    }
    if (self->busy && check_ready(self) < 0) {
        return -1;
    }
    if (Py_IS_TYPE(value, self->decoder.state->unpickler_memo_proxy_type)) {
        dict = memo_as_dict(
            &((fpk_unpickler_memo_proxy *)value)->unpickler->decoder);
    }
    else if (PyDict_Check(value)) {
        dict = PyDict_Copy(value);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "'memo' attribute must be an UnpicklerMemoProxy object "
                     "or dict, not %.200s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    if (dict == NULL) {
        return -1;
    }
    int status = replace_memo(self, dict);
    Py_DECREF(dict);
    return status;
}

static PyObject *
unpickler_get_memo(PyObject *op, void *closure)
{
    PyTypeObject *type =
        ((fpk_unpickler *)op)->decoder.state->unpickler_memo_proxy_type;
    fpk_unpickler_memo_proxy *proxy =
        PyObject_GC_New(fpk_unpickler_memo_proxy, type);
    if (proxy == NULL) {
        return NULL;
    }
    proxy->unpickler = (fpk_unpickler *)Py_NewRef(op);
    PyObject_GC_Track(proxy);
    return (PyObject *)proxy;
}

static PyGetSetDef unpickler_getsets[] = {
    {"memo", unpickler_get_memo, unpickler_set_memo,
     PyDoc_STR("What was memoised so far; settable from a dict or another "
               "Unpickler's memo."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    unpickler_doc,
    "Unpickler(file, *, fix_imports=True, encoding='ASCII', errors='strict',\n"
    "          buffers=(), limits=None)\n"
    "--\n\n"
    "Reads pickles from a file, and remembers what they memoised.\n\n"
    "As pickle.Unpickler: subclasses may define find_class(module, name) and\n"
    "persistent_load(pid).  See load for the arguments.  Not for use by two\n"
    "threads at once: that raises RuntimeError.\n");

static PyType_Slot unpickler_slots[] = {
    {Py_tp_doc, (void *)unpickler_doc},
    {Py_tp_new, unpickler_new},
    {Py_tp_init, unpickler_init},
    {Py_tp_dealloc, unpickler_dealloc},
    {Py_tp_traverse, unpickler_traverse},
    {Py_tp_clear, unpickler_clear},
    {Py_tp_getattro, unpickler_getattro},
    {Py_tp_setattro, unpickler_setattro},
    {Py_tp_methods, unpickler_methods},
    {Py_tp_getset, unpickler_getsets},
    {0, NULL},
};

static PyType_Spec unpickler_spec = {
    .name = "fpickle._core.Unpickler",
    .basicsize = sizeof(fpk_unpickler),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = unpickler_slots,
};

/* ---- the memo proxy ----------------------------------------------------- */

static int
proxy_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((fpk_unpickler_memo_proxy *)op)->unpickler);
    return 0;
}

static int
proxy_clear(PyObject *op)
{
    Py_CLEAR(((fpk_unpickler_memo_proxy *)op)->unpickler);
    return 0;
}

static void
proxy_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)proxy_clear(op);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyObject *
proxy_clear_memo(PyObject *op, PyObject *ignored)
{
    fpk_unpickler *self = ((fpk_unpickler_memo_proxy *)op)->unpickler;
    if (self->busy && check_ready(self) < 0) {
        return NULL;
    }
    fpk_decoder_clear_memo(&self->decoder);
    Py_RETURN_NONE;
}

static PyObject *
proxy_copy(PyObject *op, PyObject *ignored)
{
    return memo_as_dict(&((fpk_unpickler_memo_proxy *)op)->unpickler->decoder);
}

static PyObject *
proxy_reduce(PyObject *op, PyObject *ignored)
{
    PyObject *copy = proxy_copy(op, NULL);
    return copy == NULL ? NULL
                        : Py_BuildValue("(O(N))", &PyDict_Type, copy);
}

static PyMethodDef proxy_methods[] = {
    {"clear", proxy_clear_memo, METH_NOARGS,
     PyDoc_STR("clear($self, /)\n--\n\nRemove all items from memo.")},
    {"copy", proxy_copy, METH_NOARGS,
     PyDoc_STR("copy($self, /)\n--\n\nReturn the memo as a dict from index to "
               "object.")},
    {"__reduce__", proxy_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot proxy_slots[] = {
    {Py_tp_dealloc, proxy_dealloc},
    {Py_tp_traverse, proxy_traverse},
    {Py_tp_clear, proxy_clear},
    {Py_tp_methods, proxy_methods},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {0, NULL},
};

static PyType_Spec proxy_spec = {
    .name = "fpickle._core.UnpicklerMemoProxy",
    .basicsize = sizeof(fpk_unpickler_memo_proxy),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = proxy_slots,
};

int
fpk_unpickler_init_types(PyObject *module, fpk_state *state)
{
    state->unpickler_type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &unpickler_spec, NULL);
    if (state->unpickler_type == NULL ||
        PyModule_AddType(module, state->unpickler_type) < 0) {
        return -1;
    }
    state->unpickler_memo_proxy_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &proxy_spec, NULL);
    return state->unpickler_memo_proxy_type == NULL ? -1 : 0;
}
