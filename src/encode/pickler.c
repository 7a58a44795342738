/* pickler.c -- the Pickler type and its public memo.

   Does:      keeps an encoder across dumps to one file, and lets subclasses
              override persistent_id and reducer_override and set
              dispatch_table.
   Owns:      the encoder, with its memo of everything written so far.
   Invariant: one dump at a time: a second one, from a hook or another thread,
              raises RuntimeError (gh-143638).  Hooks are bound for the time of
              a dump only, so that they make no reference cycle.
   Called by: Python code. */
#include "encode/options.h"

typedef struct {
    PyObject_HEAD
    bool ready;                   /* __init__ has succeeded */
    bool busy;                    /* a dump is running */
    PyObject *write;              /* owned: file.write */
    PyObject *dispatch_table;     /* owned or NULL: the instance's own */
    PyObject *persistent_id_attr; /* owned or NULL: set on the instance */
    int bin;                      /* public attribute of the standard module */
    int fast;                     /* public attribute: no memo */
    fpk_encoder encoder;
} fpk_pickler;

typedef struct {
    PyObject_HEAD
    fpk_pickler *pickler; /* owned */
} fpk_pickler_memo_proxy;

static int
check_ready(fpk_pickler *self)
{
    if (!self->ready) {
        PyErr_Format(self->encoder.state->PicklingError,
                     "Pickler.__init__() was not called by %s.__init__()",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this Pickler is in the middle of a dump: use one "
                        "Pickler for each thread and each nested dump");
        return -1;
    }
    return 0;
}

/* ---- life cycle --------------------------------------------------------- */

static PyObject *
pickler_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    fpk_state *state = fpk_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    fpk_pickler *self = (fpk_pickler *)type->tp_alloc(type, 0);
    if (self != NULL) {
        fpk_encoder_init(&self->encoder, state);
        self->encoder.policy = FPK_MEMO_ALL;
    }
    return (PyObject *)self;
}

/* loky makes a subclass of the pickler that it is told to use, and passes it a
   file and a protocol.  Its workers live on from call to call, and nobody but
   the streams tells them what has become of a global meanwhile: so those are
   isolated, as those of the backend in fpickle.ext.joblib. */
static int
apply_host(fpk_pickler *self)
{
    PyObject *type = (PyObject *)Py_TYPE(self);
    PyObject *name = self->encoder.state->str._loky_pickler_cls, *mark;
    int found = PyObject_GetOptionalAttr(type, name, &mark);
    if (found > 0) {
        self->encoder.isolated = true;
        Py_DECREF(mark);
    }
    return found < 0 ? -1 : 0;
}

static int
pickler_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    fpk_pickler *self = (fpk_pickler *)op;
    fpk_state *state = self->encoder.state;
    fpk_dump_options options;
    PyObject *kwnames = NULL, *write = NULL;
    PyObject **values = NULL;
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);
    Py_ssize_t keywords = kwargs == NULL ? 0 : PyDict_GET_SIZE(kwargs);
    int status = -1;

    if (self->busy) {
        (void)check_ready(self);
        return -1;
    }
    values = PyMem_New(PyObject *, (size_t)(nargs + keywords + 1));
    kwnames = PyTuple_New(keywords);
    if (values == NULL || kwnames == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = PyTuple_GET_ITEM(args, i);
    }
    PyObject *key, *value;
    Py_ssize_t position = 0;
    for (Py_ssize_t i = 0;
         kwargs != NULL && PyDict_Next(kwargs, &position, &key, &value); i++) {
        PyTuple_SET_ITEM(kwnames, i, Py_NewRef(key));
        values[nargs + i] = value;
    }
    if (fpk_parse_dump_options(FPK_PICKLER, values, nargs, kwnames,
                               &options) < 0 ||
        fpk_apply_dump_options(&self->encoder, &options) < 0) {
        goto done;
    }
    if (options.isolated == NULL && !Py_IS_TYPE(op, state->pickler_type) &&
        apply_host(self) < 0) {
        goto done;
    }
    write = PyObject_GetAttr(options.first, state->str.write);
    if (write == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_SetString(PyExc_TypeError,
                            "file must have a 'write' attribute");
        }
        goto done;
    }
    fpk_encoder_clear_memo(&self->encoder);
    Py_XSETREF(self->write, Py_NewRef(write));
    self->fast = 0;
    self->bin = self->encoder.protocol > 0;
    self->ready = true;
    status = 0;
done:
    Py_XDECREF(write);
    Py_XDECREF(kwnames);
    PyMem_Free(values);
    return status;
}

static int
pickler_traverse(PyObject *op, visitproc visit, void *arg)
{
    fpk_pickler *self = (fpk_pickler *)op;
    fpk_encoder *e = &self->encoder;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->write);
    Py_VISIT(self->dispatch_table);
    Py_VISIT(self->persistent_id_attr);
    Py_VISIT(e->write);
    Py_VISIT(e->buffer_callback);
    Py_VISIT(e->persistent_id);
    Py_VISIT(e->reducer_override);
    Py_VISIT(e->dispatch_table);
    Py_VISIT(e->main_names);
    Py_VISIT(e->replaced_globals);
    Py_VISIT(e->by_value_modules);
    Py_VISIT(e->equal_texts);
    if (e->memo.table != NULL) {
        for (size_t i = 0; i <= e->memo.mask; i++) {
            Py_VISIT((PyObject *)e->memo.table[i].key);
        }
    }
    return 0;
}

static int
pickler_clear(PyObject *op)
{
    fpk_pickler *self = (fpk_pickler *)op;
    self->ready = false;
    fpk_encoder_fini(&self->encoder);
    Py_CLEAR(self->write);
    Py_CLEAR(self->dispatch_table);
    Py_CLEAR(self->persistent_id_attr);
    return 0;
}

static void
pickler_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)pickler_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* ---- hooks -------------------------------------------------------------- */

PyDoc_STRVAR(persistent_id_doc,
             "persistent_id($self, obj, /)\n--\n\n"
             "Return None to pickle obj as usual, or an id that stands for\n"
             "it in the stream.  For subclasses to override.");

static PyObject *
pickler_persistent_id(PyObject *self, PyObject *obj)
{
    Py_RETURN_NONE;
}

/* A hook set on the instance wins over the method, as in Python 3.13. */
static PyObject *
pickler_getattro(PyObject *op, PyObject *name)
{
    fpk_pickler *self = (fpk_pickler *)op;
    if (self->persistent_id_attr != NULL && PyUnicode_Check(name) &&
        PyUnicode_Compare(name, self->encoder.state->str.persistent_id) == 0) {
        return Py_NewRef(self->persistent_id_attr);
    }
    return PyObject_GenericGetAttr(op, name);
}

static int
pickler_setattro(PyObject *op, PyObject *name, PyObject *value)
{
    fpk_pickler *self = (fpk_pickler *)op;
    if (PyUnicode_Check(name) &&
        PyUnicode_Compare(name, self->encoder.state->str.persistent_id) == 0) {
        if (value == NULL && self->persistent_id_attr == NULL) {
            PyErr_SetObject(PyExc_AttributeError, name);
            return -1;
        }
        if (value != NULL && !PyCallable_Check(value)) {
            PyErr_SetString(PyExc_TypeError,
                            "persistent_id must be a callable taking one "
                            "argument");
            return -1;
        }
        Py_XSETREF(self->persistent_id_attr, Py_XNewRef(value));
        return 0;
    }
    return PyObject_GenericSetAttr(op, name, value);
}

/* Looks the hooks up for one dump. */
static int
bind_hooks(fpk_pickler *self)
{
    fpk_encoder *e = &self->encoder;
    fpk_state *state = e->state;
    PyObject *hook;
    if (PyObject_GetOptionalAttr((PyObject *)self, state->str.persistent_id,
                                 &hook) < 0) {
        return -1;
    }
    if (hook != NULL && PyCFunction_Check(hook) &&
        PyCFunction_GET_FUNCTION(hook) == pickler_persistent_id) {
        Py_CLEAR(hook); /* the method above, which claims nothing */
    }
    Py_XSETREF(e->persistent_id, hook);
    if (PyObject_GetOptionalAttr((PyObject *)self, state->str.reducer_override,
                                 &hook) < 0) {
        return -1;
    }
    if (hook == Py_NotImplemented) {
        Py_CLEAR(hook); /* the answer to every object, without the calls */
    }
    Py_XSETREF(e->reducer_override, hook);
    /* A subclass may define the table as a class attribute, which hides the
       member of the instance: whatever the attribute is now counts. */
    if (PyObject_GetOptionalAttr((PyObject *)self, state->str.dispatch_table,
                                 &hook) < 0) {
        return -1;
    }
    Py_XSETREF(e->dispatch_table, hook);
    Py_XSETREF(e->write, Py_NewRef(self->write));
    e->fast = self->fast != 0;
    return 0;
}

static void
release_hooks(fpk_encoder *e)
{
    Py_CLEAR(e->persistent_id);
    Py_CLEAR(e->reducer_override);
    Py_CLEAR(e->dispatch_table);
    Py_CLEAR(e->write);
}

/* ---- methods ------------------------------------------------------------ */

PyDoc_STRVAR(dump_doc,
             "dump($self, obj, /)\n--\n\n"
             "Write the pickle of obj to the file.\n\n"
             "What earlier dumps of this Pickler wrote is referred to, not\n"
             "written again.  After an error the Pickler can be used again.");

static PyObject *
pickler_dump(PyObject *op, PyObject *obj)
{
    fpk_pickler *self = (fpk_pickler *)op;
    if (check_ready(self) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    self->busy = true;
    if (bind_hooks(self) == 0 && fpk_encoder_dump(&self->encoder, obj) == 0) {
        result = Py_NewRef(Py_None);
    }
    release_hooks(&self->encoder);
    self->busy = false;
    return result;
}

PyDoc_STRVAR(clear_memo_doc,
             "clear_memo($self, /)\n--\n\n"
             "Forget which objects were written.\n\n"
             "The next dump writes them anew; useful when a Pickler is used\n"
             "again.");

static PyObject *
pickler_clear_memo(PyObject *op, PyObject *ignored)
{
    fpk_pickler *self = (fpk_pickler *)op;
    if (self->busy && check_ready(self) < 0) {
        return NULL;
    }
    fpk_encoder_clear_memo(&self->encoder);
    Py_RETURN_NONE;
}

static PyObject *
pickler_sizeof(PyObject *op, PyObject *ignored)
{
    const fpk_pickler *self = (fpk_pickler *)op;
    size_t size = (size_t)Py_TYPE(op)->tp_basicsize;
    if (self->encoder.memo.table != NULL) {
        size += (self->encoder.memo.mask + 1) * sizeof(fpk_memo_entry);
    }
    if (self->encoder.out.data != self->encoder.out.inline_storage) {
        size += self->encoder.out.capacity;
    }
    return PyLong_FromSize_t(size);
}

static PyMethodDef pickler_methods[] = {
    {"dump", pickler_dump, METH_O, dump_doc},
    {"clear_memo", pickler_clear_memo, METH_NOARGS, clear_memo_doc},
    {"persistent_id", pickler_persistent_id, METH_O, persistent_id_doc},
    {"__sizeof__", pickler_sizeof, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- the memo as Python sees it ----------------------------------------- */

/* A dict from id to (index, object): the form in which it can be set again. */
static PyObject *
memo_as_dict(const fpk_memo *memo)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL || memo->table == NULL) {
        return dict;
    }
    for (size_t i = 0; i <= memo->mask; i++) {
        fpk_memo_entry entry = memo->table[i];
        if (entry.key == NULL || entry.index >= FPK_MEMO_OPEN) {
            continue;
        }
        PyObject *id = PyLong_FromVoidPtr((void *)(uintptr_t)entry.key);
        PyObject *value =
            Py_BuildValue("(KO)", (unsigned long long)entry.index,
                          (PyObject *)(uintptr_t)entry.key);
        int status = id == NULL || value == NULL
                         ? -1
                         : PyDict_SetItem(dict, id, value);
        Py_XDECREF(id);
        Py_XDECREF(value);
        if (status < 0) {
            Py_DECREF(dict);
            return NULL;
        }
    }
    return dict;
}

/* One value of such a dict into [memo], which takes a reference. */
static int
add_memo_value(fpk_memo *memo, PyObject *value, uint64_t *next_index)
{
    if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 2) {
        PyErr_SetString(PyExc_TypeError,
                        "'memo' values must be 2-item tuples");
        return -1;
    }
    Py_ssize_t index = PyLong_AsSsize_t(PyTuple_GET_ITEM(value, 0));
    if (index == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (index < 0) {
        PyErr_SetString(PyExc_ValueError, "memo index must not be negative");
        return -1;
    }
    PyObject *obj = PyTuple_GET_ITEM(value, 1);
    if (fpk_memo_find(memo, obj) == NULL) {
        if (!fpk_memo_set(memo, obj, (uint64_t)index)) {
            PyErr_NoMemory();
            return -1;
        }
        Py_INCREF(obj);
    }
    if ((uint64_t)index >= *next_index) {
        *next_index = (uint64_t)index + 1;
    }
    return 0;
}

static int
memo_from_dict(fpk_memo *memo, PyObject *dict, uint64_t *next_index)
{
    PyObject *values = PyDict_Values(dict);
    if (values == NULL) {
        return -1;
    }
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(values); i++) {
        status = add_memo_value(memo, PyList_GET_ITEM(values, i), next_index);
    }
    Py_DECREF(values);
    return status;
}

/* Takes over [memo]: the old one goes last, because that runs any code. */
static void
replace_memo(fpk_pickler *self, fpk_memo *memo, uint64_t next_index)
{
    fpk_encoder_clear_memo(&self->encoder);
    self->encoder.memo = *memo;
    self->encoder.next_index = next_index;
}

static void
drop_memo(fpk_memo *memo)
{
    if (memo->table != NULL) {
        for (size_t i = 0; i <= memo->mask; i++) {
            Py_XDECREF((PyObject *)(uintptr_t)memo->table[i].key);
        }
    }
    fpk_memo_clear(memo);
}

static int
pickler_set_memo(PyObject *op, PyObject *value, void *closure)
{
    fpk_pickler *self = (fpk_pickler *)op;
    fpk_memo memo = {0};
    uint64_t next_index = 0;
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "attribute deletion is not supported");
        return -1;
    }
    if (self->busy && check_ready(self) < 0) {
        return -1;
    }
    PyObject *dict;
    if (Py_IS_TYPE(value, self->encoder.state->pickler_memo_proxy_type)) {
        fpk_pickler *other = ((fpk_pickler_memo_proxy *)value)->pickler;
        dict = memo_as_dict(&other->encoder.memo);
    }
    else if (PyDict_Check(value)) {
        dict = Py_NewRef(value);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "'memo' attribute must be a PicklerMemoProxy object or "
                     "dict, not %.200s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    if (dict == NULL) {
        return -1;
    }
    int status = memo_from_dict(&memo, dict, &next_index);
    Py_DECREF(dict);
    if (status < 0) {
        drop_memo(&memo);
        return -1;
    }
    replace_memo(self, &memo, next_index);
    return 0;
}

static PyObject *
pickler_get_memo(PyObject *op, void *closure)
{
    fpk_pickler *self = (fpk_pickler *)op;
    PyTypeObject *type = self->encoder.state->pickler_memo_proxy_type;
    fpk_pickler_memo_proxy *proxy = PyObject_GC_New(fpk_pickler_memo_proxy,
                                                    type);
    if (proxy == NULL) {
        return NULL;
    }
    proxy->pickler = (fpk_pickler *)Py_NewRef(op);
    PyObject_GC_Track(proxy);
    return (PyObject *)proxy;
}

static PyGetSetDef pickler_getsets[] = {
    {"memo", pickler_get_memo, pickler_set_memo,
     PyDoc_STR("What was written so far; settable from a dict or another "
               "Pickler's memo."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef pickler_members[] = {
    {"bin", Py_T_INT, offsetof(fpk_pickler, bin), 0, NULL},
    {"fast", Py_T_INT, offsetof(fpk_pickler, fast), 0, NULL},
    {"dispatch_table", Py_T_OBJECT_EX, offsetof(fpk_pickler, dispatch_table),
     0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    pickler_doc,
    "Pickler(file, protocol=None, *, fix_imports=True, buffer_callback=None,\n"
    "        by_value=True, main_names=None, replaced_globals=None,\n"
    "        files='error', locks='error', isolated=False, portable=False,\n"
    "        source=False, deterministic=False, bytes_out_of_band=None)\n"
    "--\n\n"
    "Writes pickles to a file, and remembers what it wrote.\n\n"
    "As pickle.Pickler: subclasses may define persistent_id(obj) and\n"
    "reducer_override(obj); dispatch_table may be set on the class or the\n"
    "instance.  See dumps for the other arguments.  The subclass that loky\n"
    "makes is isolated, unless it says otherwise.  Not for use by two\n"
    "threads at once: that raises RuntimeError.\n");

static PyType_Slot pickler_slots[] = {
    {Py_tp_doc, (void *)pickler_doc},
    {Py_tp_new, pickler_new},
    {Py_tp_init, pickler_init},
    {Py_tp_dealloc, pickler_dealloc},
    {Py_tp_traverse, pickler_traverse},
    {Py_tp_clear, pickler_clear},
    {Py_tp_getattro, pickler_getattro},
    {Py_tp_setattro, pickler_setattro},
    {Py_tp_methods, pickler_methods},
    {Py_tp_members, pickler_members},
    {Py_tp_getset, pickler_getsets},
    {0, NULL},
};

static PyType_Spec pickler_spec = {
    .name = "fpickle._core.Pickler",
    .basicsize = sizeof(fpk_pickler),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pickler_slots,
};

/* ---- the memo proxy ----------------------------------------------------- */

static int
proxy_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((fpk_pickler_memo_proxy *)op)->pickler);
    return 0;
}

static int
proxy_clear(PyObject *op)
{
    Py_CLEAR(((fpk_pickler_memo_proxy *)op)->pickler);
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
    fpk_pickler_memo_proxy *self = (fpk_pickler_memo_proxy *)op;
    return pickler_clear_memo((PyObject *)self->pickler, NULL);
}

static PyObject *
proxy_copy(PyObject *op, PyObject *ignored)
{
    fpk_pickler_memo_proxy *self = (fpk_pickler_memo_proxy *)op;
    return memo_as_dict(&self->pickler->encoder.memo);
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
     PyDoc_STR("copy($self, /)\n--\n\nReturn the memo as a dict from id to "
               "(index, object).")},
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
    .name = "fpickle._core.PicklerMemoProxy",
    .basicsize = sizeof(fpk_pickler_memo_proxy),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = proxy_slots,
};

int
fpk_pickler_init_types(PyObject *module, fpk_state *state)
{
    state->pickler_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &pickler_spec, NULL);
    if (state->pickler_type == NULL ||
        PyModule_AddType(module, state->pickler_type) < 0) {
        return -1;
    }
    state->pickler_memo_proxy_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &proxy_spec, NULL);
    return state->pickler_memo_proxy_type == NULL ? -1 : 0;
}
