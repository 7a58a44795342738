/* calls.c -- the calls that REDUCE makes.

   Does:      calls; those calls of the standard library that streams with
              functions and classes by value make again and again are answered
              here, with the same result and without running Python code.
   Owns:      what is compared with, in the module state.
   Invariant: an object that is not exactly the known one is called.
   Called by: objects.c.

   The known ones are the guard in front of bytecode (byvalue/code.c), the weak
   dict of classes (byvalue/identity.c): looking for it, and looking into it,
   and __import__ or importlib.import_module for a module that is there; and
   bytes and bytearray of a buffer out of band.  The guard is also recognised
   by its opcodes as a whole. */
#include "decode/decoder.h"

#include "wire/known.h"

/* ---- the guard ---------------------------------------------------------- */

/* The version in the words of a guard; NULL, perhaps with an exception, if
   these are not its words: a new reference. */
static PyObject *
find_version(PyObject *words)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    const Py_ssize_t before = (Py_ssize_t)strlen(FPK_GUARD_BEFORE_VERSION);
    const Py_ssize_t after = (Py_ssize_t)strlen(FPK_GUARD_AFTER_VERSION);
    if (!PyDict_CheckExact(words) ||
        !PyDict_Next(words, &position, &key, &value) ||
        !PyUnicode_CheckExact(key) ||
        PyUnicode_GET_LENGTH(key) <= before + after) {
        return NULL;
    }
    return PyUnicode_Substring(key, before, PyUnicode_GET_LENGTH(key) - after);
}

/* The guard in front of bytecode: what importlib would find, without asking
   it, and with an error that says more. */
static PyObject *
check_bytecode(fpk_decoder *d, PyObject *guard, PyObject *args)
{
    PyObject *ours = d->state->bytecode_header;
    PyObject *header, *version;
    if (PyTuple_GET_SIZE(args) != 3 ||
        !PyBytes_CheckExact(PyTuple_GET_ITEM(args, 0))) {
        return PyObject_Call(guard, args, NULL);
    }
    header = PyTuple_GET_ITEM(args, 0);
    if (PyBytes_GET_SIZE(header) == PyBytes_GET_SIZE(ours) &&
        memcmp(PyBytes_AS_STRING(header), PyBytes_AS_STRING(ours),
               (size_t)PyBytes_GET_SIZE(ours)) == 0) {
        return Py_NewRef(Py_None);
    }
    version = find_version(PyTuple_GET_ITEM(args, 1));
    if (version == NULL) {
        return PyErr_Occurred() ? NULL : PyObject_Call(guard, args, NULL);
    }
    const char *reader = Py_GetVersion();
    PyObject *number =
        PyUnicode_FromStringAndSize(reader, (Py_ssize_t)strcspn(reader, " "));
    if (number != NULL) {
        (void)fpk_decode_error(d, d->state->UnpicklingError,
                               "this pickle holds bytecode of CPython %U, but "
                               "this is Python %U",
                               version, number);
        Py_DECREF(number);
    }
    Py_DECREF(version);
    return NULL;
}

/* The opcodes of a guard that this Python passes, behind the first opcode and
   length; the index in the GET is 0.  Sets *[get] to the place of the
   index. */
static size_t
write_guard(const fpk_state *state, uint8_t *p, size_t *get)
{
    uint8_t *start = p;
    Py_ssize_t size;
    const char *words = PyUnicode_AsUTF8AndSize(state->bytecode_words, &size);
    if (words == NULL || size > 64) {
        return 0;
    }
    static const char before[] =
        FPK_GUARD_MODULE "\x94\x8c\x0d" FPK_GUARD_FUNCTION "\x93"
                         "C\x10";
    memcpy(p, before, sizeof before - 1);
    p += sizeof before - 1;
    memcpy(p, PyBytes_AS_STRING(state->bytecode_header), FPK_GUARD_HEADER);
    p += FPK_GUARD_HEADER;
    *p++ = FPK_OP_EMPTY_DICT;
    *p++ = FPK_OP_SHORT_BINUNICODE;
    *p++ = (uint8_t)size;
    memcpy(p, words, (size_t)size);
    p += size;
    static const char behind[] = "h\0\x8c\x0bsys.version\x93s}\x87R0";
    *get = (size_t)(p + 1 - start);
    memcpy(p, behind, sizeof behind - 1);
    return (size_t)(p + sizeof behind - 1 - start);
}

int
fpk_pass_guard(fpk_decoder *d)
{
    const uint8_t *guard =
        (const uint8_t *)PyBytes_AS_STRING(d->state->guard_opcodes);
    const size_t size = (size_t)PyBytes_GET_SIZE(d->state->guard_opcodes);
    const size_t get = d->state->guard_get;
    PyObject *module = d->state->str._frozen_importlib_external;
    if (d->find_class != NULL || d->guard != NULL ||
        (size_t)(d->end - d->p) < size || d->p[get] != d->memo_count ||
        memcmp(d->p, guard, get) != 0 ||
        memcmp(d->p + get + 1, guard + get + 1, size - get - 1) != 0) {
        return 0;
    }
    if (PySys_Audit("pickle.find_class", "Os", module, FPK_GUARD_FUNCTION) <
            0 ||
        PySys_Audit("pickle.find_class", "Os", module, "sys.version") < 0 ||
        fpk_memo_put(d, d->memo_count, module) < 0) {
        return -1;
    }
    d->p += size;
    return 1;
}

/* ---- the weak dict ------------------------------------------------------ */

/* What [registry] holds for [key]: 1 and a new reference; 0 if nothing, or if
   it is not known here; -1 on error. */
static int
look_up(fpk_decoder *d, PyObject *registry, PyObject *key, PyObject **value)
{
    *value = NULL;
    if (!PyUnicode_CheckExact(key)) {
        return 0;
    }
    PyObject *data = PyObject_GetAttr(registry, d->state->str.data);
    if (data == NULL) {
        return -1;
    }
    PyObject *reference = NULL;
    int found =
        PyDict_CheckExact(data) ? PyDict_GetItemRef(data, key, &reference) : 0;
    Py_DECREF(data);
    if (found > 0) {
        found =
            PyWeakref_Check(reference) ? fpk_weakref_get(reference, value) : 0;
        Py_DECREF(reference);
    }
    return found;
}

/* WeakValueDictionary() as the default of copyreg.__dict__.setdefault(NAME,
   ...): the one that is there already, a new reference; or NULL, perhaps
   without exception. */
static PyObject *
find_registry(fpk_decoder *d)
{
    if (fpk_height(d) < 2 || !PyUnicode_CheckExact(d->sp[-1])) {
        return NULL;
    }
    PyObject *method = d->sp[-2], *registry;
    if (!PyCFunction_CheckExact(method) ||
        PyCFunction_GET_SELF(method) != d->state->copyreg_dict ||
        PyCFunction_GET_FUNCTION(method) !=
            PyCFunction_GET_FUNCTION(d->state->dict_setdefault)) {
        return NULL;
    }
    (void)PyDict_GetItemRef(d->state->copyreg_dict, d->sp[-1], &registry);
    return registry;
}

/* A method of the weak dict: a new reference, or NULL, perhaps without
   exception if it has to be called. */
static PyObject *
call_registry_method(fpk_decoder *d, PyObject *method, PyObject *args)
{
    PyObject *function = PyMethod_GET_FUNCTION(method);
    Py_ssize_t needed = function == d->state->weak_get          ? 1
                        : function == d->state->weak_setdefault ? 2
                                                                : -1;
    PyObject *value = NULL;
    if (PyTuple_GET_SIZE(args) == needed) {
        (void)look_up(d, PyMethod_GET_SELF(method), PyTuple_GET_ITEM(args, 0),
                      &value);
    }
    return value;
}

/* key in registry: a new reference, or NULL with an exception.  If it is, the
   definition that follows may be skipped. */
static PyObject *
is_in_registry(fpk_decoder *d, PyObject *registry, PyObject *key)
{
    PyObject *value;
    int found = look_up(d, registry, key, &value);
    if (found > 0 && fpk_may_skip(d)) {
        Py_XSETREF(d->known_class, Py_NewRef(value));
        Py_XSETREF(d->known_id, Py_NewRef(key));
    }
    Py_XDECREF(value);
    return found < 0 ? NULL : PyBool_FromLong(found);
}

bool
fpk_is_registry_setdefault(const fpk_decoder *d, PyObject *obj)
{
    return PyMethod_Check(obj) &&
           PyMethod_GET_FUNCTION(obj) == d->state->weak_setdefault &&
           (PyObject *)Py_TYPE(PyMethod_GET_SELF(obj)) ==
               d->state->WeakValueDictionary;
}

static bool
is_weak_dict(const fpk_decoder *d, PyObject *obj)
{
    return (PyObject *)Py_TYPE(obj) == d->state->WeakValueDictionary;
}

/* ---- imports ------------------------------------------------------------ */

/* The module that __import__ or import_module would find ready: a new
   reference, or NULL, perhaps without exception.  __import__ gives the top of
   a dotted name, which is another module. */
static PyObject *
find_imported(fpk_decoder *d, PyObject *callable, PyObject *name)
{
    if (callable == d->state->builtins_import) {
        Py_ssize_t length = PyUnicode_GET_LENGTH(name);
        Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, length, 1);
        if (dot != -1) {
            return NULL;
        }
    }
    return fpk_find_ready_module(d, name);
}

/* ---- any call ----------------------------------------------------------- */

PyObject *
fpk_call(fpk_decoder *d, PyObject *callable, PyObject *args)
{
    const fpk_state *state = d->state;
    PyObject *result = NULL;
    if (callable == state->classify_pyc) {
        return check_bytecode(d, callable, args);
    }
    if (callable == state->WeakValueDictionary &&
        PyTuple_GET_SIZE(args) == 0) {
        result = find_registry(d);
    }
    else if (PyMethod_Check(callable) &&
             is_weak_dict(d, PyMethod_GET_SELF(callable))) {
        result = call_registry_method(d, callable, args);
    }
    else if ((callable == state->builtins_import ||
              callable == state->import_module) &&
             PyTuple_GET_SIZE(args) == 1 &&
             PyUnicode_CheckExact(PyTuple_GET_ITEM(args, 0))) {
        result = find_imported(d, callable, PyTuple_GET_ITEM(args, 0));
    }
    else if ((callable == (PyObject *)&PyBytes_Type ||
              callable == (PyObject *)&PyByteArray_Type) &&
             PyTuple_GET_SIZE(args) == 1 && d->buffers != NULL) {
        result = fpk_copy_buffer(callable, PyTuple_GET_ITEM(args, 0));
    }
    else if (callable == state->operator_contains &&
             PyTuple_GET_SIZE(args) == 2 &&
             is_weak_dict(d, PyTuple_GET_ITEM(args, 0)) &&
             PyUnicode_CheckExact(PyTuple_GET_ITEM(args, 1))) {
        return is_in_registry(d, PyTuple_GET_ITEM(args, 0),
                              PyTuple_GET_ITEM(args, 1));
    }
    return result != NULL || PyErr_Occurred()
               ? result
               : PyObject_Call(callable, args, NULL);
}

int
fpk_init_known_calls(fpk_state *state)
{
    static const char *const names[] = {
        "_frozen_importlib_external",
        "builtins",
        "copyreg",
        "operator",
        "types",
        "weakref",
    };
    const Py_ssize_t count = Py_ARRAY_LENGTH(names);
    if (fpk_fetch(&state->weak_get, "weakref", "WeakValueDictionary") < 0) {
        return -1;
    }
    state->weak_setdefault =
        PyObject_GetAttrString(state->weak_get, "setdefault");
    Py_SETREF(state->weak_get, PyObject_GetAttrString(state->weak_get, "get"));
    PyObject *copyreg_method =
        PyObject_GetAttrString(state->copyreg_dict, "setdefault");
    state->dict_setdefault = copyreg_method;
    uint8_t guard[256];
    size_t size = write_guard(state, guard, &state->guard_get);
    state->guard_opcodes =
        size == 0
            ? NULL
            : PyBytes_FromStringAndSize((const char *)guard, (Py_ssize_t)size);
    state->ready_modules = PyTuple_New(count);
    if (state->weak_get == NULL || state->weak_setdefault == NULL ||
        copyreg_method == NULL || state->ready_modules == NULL ||
        state->guard_opcodes == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *ready = PyImport_ImportModule(names[i]);
        if (ready == NULL) {
            return -1;
        }
        PyTuple_SET_ITEM(state->ready_modules, i, ready);
    }
    return 0;
}
