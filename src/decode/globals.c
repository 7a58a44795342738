/* globals.c -- opcodes that fetch objects from outside the stream.

   Does:      imports globals by name, maps the names of Python 2, resolves
              copyreg extension codes, and asks persistent_load.
   Owns:      nothing.
   Invariant: every global is announced by the audit event pickle.find_class;
              an overridden find_class sees every one.
   Called by: loop.c; objects.c for INST; unpickler.c for the method. */
#include "decode/decoder.h"

/* An attribute; of modules without asking their type, whose own attributes all
   have names with two underscores. */
static PyObject *
get_attribute(PyObject *obj, PyObject *name)
{
    if (PyModule_CheckExact(obj) && PyUnicode_GET_LENGTH(name) > 1 &&
        (PyUnicode_READ_CHAR(name, 0) != '_' ||
         PyUnicode_READ_CHAR(name, 1) != '_')) {
        PyObject *value;
        int found = PyDict_GetItemRef(PyModule_GetDict(obj), name, &value);
        if (found != 0) {
            return found < 0 ? NULL : value;
        }
    }
    return PyObject_GetAttr(obj, name);
}

/* The attribute [step] of [current], which [name] leads to from [module]. */
static PyObject *
take_step(PyObject *current, PyObject *step, PyObject *module, PyObject *name)
{
    if (PyUnicode_READ_CHAR(step, 0) == '<' &&
        PyUnicode_CompareWithASCIIString(step, "<locals>") == 0) {
        PyErr_Format(PyExc_AttributeError,
                     "Can't get local attribute %R on %R", name, module);
        return NULL;
    }
    PyObject *next = get_attribute(current, step);
    if (next == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Format(PyExc_AttributeError, "Can't get attribute %R on %R",
                     name, module);
    }
    return next;
}

/* Follows a dotted name, or one name at protocols below 4. */
static PyObject *
get_name(fpk_decoder *d, PyObject *module, PyObject *name)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    Py_ssize_t dot = d->protocol >= 4
                         ? PyUnicode_FindChar(name, '.', 0, length, 1)
                         : -1;
    if (dot < 0) {
        return take_step(module, name, module, name);
    }
    PyObject *current = Py_NewRef(module);
    for (Py_ssize_t start = 0; start <= length; start = dot + 1) {
        dot = PyUnicode_FindChar(name, '.', start, length, 1);
        if (dot < 0) {
            dot = length;
        }
        PyObject *step = PyUnicode_Substring(name, start, dot);
        PyObject *next =
            step == NULL ? NULL : take_step(current, step, module, name);
        Py_XDECREF(step);
        Py_SETREF(current, next);
        if (current == NULL) {
            return NULL;
        }
    }
    return current;
}

/* Replaces names of Python 2 by those of Python 3; both references. */
static int
map_from_python2(fpk_decoder *d, PyObject **module, PyObject **name)
{
    fpk_state *state = d->state;
    PyObject *key = PyTuple_Pack(2, *module, *name);
    if (key == NULL) {
        return -1;
    }
    PyObject *mapped;
    int found = PyDict_GetItemRef(state->name_mapping_2to3, key, &mapped);
    Py_DECREF(key);
    if (found < 0) {
        return -1;
    }
    if (found) {
        if (!PyTuple_Check(mapped) || PyTuple_GET_SIZE(mapped) != 2 ||
            !PyUnicode_Check(PyTuple_GET_ITEM(mapped, 0)) ||
            !PyUnicode_Check(PyTuple_GET_ITEM(mapped, 1))) {
            PyErr_Format(PyExc_RuntimeError,
                         "_compat_pickle.NAME_MAPPING values should be "
                         "2-tuples of str, not %.200s",
                         Py_TYPE(mapped)->tp_name);
            Py_DECREF(mapped);
            return -1;
        }
        Py_SETREF(*module, Py_NewRef(PyTuple_GET_ITEM(mapped, 0)));
        Py_SETREF(*name, Py_NewRef(PyTuple_GET_ITEM(mapped, 1)));
        Py_DECREF(mapped);
        return 0;
    }
    found = PyDict_GetItemRef(state->import_mapping_2to3, *module, &mapped);
    if (found <= 0) {
        return found;
    }
    if (!PyUnicode_Check(mapped)) {
        PyErr_Format(PyExc_RuntimeError,
                     "_compat_pickle.IMPORT_MAPPING values should be strings, "
                     "not %.200s",
                     Py_TYPE(mapped)->tp_name);
        Py_DECREF(mapped);
        return -1;
    }
    Py_SETREF(*module, mapped);
    return 0;
}

/* Whether an import of [module] is under way, perhaps by another thread. */
static int
is_being_imported(fpk_decoder *d, PyObject *module)
{
    PyObject *spec, *flag = NULL;
    int found =
        PyObject_GetOptionalAttr(module, d->state->str.__spec__, &spec);
    if (found <= 0) {
        return found;
    }
    found = PyObject_GetOptionalAttr(spec, d->state->str._initializing, &flag);
    Py_DECREF(spec);
    if (found <= 0) {
        return found;
    }
    int truth = PyObject_IsTrue(flag);
    Py_DECREF(flag);
    return truth;
}

/* Modules of the standard library that each function and class by value needs:
   they were imported with fpickle. */
static bool
is_ready(const fpk_state *state, PyObject *module)
{
    PyObject *ready = state->ready_modules;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(ready); i++) {
        if (PyTuple_GET_ITEM(ready, i) == module) {
            return true;
        }
    }
    return false;
}

PyObject *
fpk_find_ready_module(fpk_decoder *d, PyObject *name)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = NULL;
    int found = PyDict_CheckExact(modules)
                    ? PyDict_GetItemRef(modules, name, &module)
                    : 0;
    if (found <= 0 || is_ready(d->state, module)) {
        return module;
    }
    int wait = module == Py_None ? 1 : is_being_imported(d, module);
    if (wait != 0) {
        Py_CLEAR(module);
    }
    return module;
}

/* As an import statement, which is asked only if the module is not there or
   not ready: that waits for the import of another thread.  (PyImport_GetModule
   would ask the same, with an exception for each module that is ready since
   the interpreter started.) */
static PyObject *
import_module(fpk_decoder *d, PyObject *name)
{
    PyObject *module = fpk_find_ready_module(d, name);
    return module != NULL || PyErr_Occurred() ? module : PyImport_Import(name);
}

PyObject *
fpk_find_class_directly(fpk_decoder *d, PyObject *module_name, PyObject *name)
{
    PyObject *module = NULL, *result = NULL;
    if (PySys_Audit("pickle.find_class", "OO", module_name, name) < 0) {
        return NULL;
    }
    Py_INCREF(module_name);
    Py_INCREF(name);
    if (d->protocol < 3 && d->fix_imports &&
        map_from_python2(d, &module_name, &name) < 0) {
        goto done;
    }
    module = import_module(d, module_name);
    if (module != NULL) {
        result = get_name(d, module, name);
    }
done:
    Py_DECREF(module_name);
    Py_DECREF(name);
    Py_XDECREF(module);
    return result;
}

PyObject *
fpk_find_class(fpk_decoder *d, PyObject *module, PyObject *name)
{
    PyObject *args[] = {module, name};
    PyObject *result =
        d->find_class == NULL
            ? fpk_find_class_directly(d, module, name)
            : PyObject_Vectorcall(d->find_class, args, 2, NULL);
    if (FPK_UNLIKELY(result == NULL)) {
        (void)fpk_note_failure(d, module, name);
    }
    return result;
}

/* A line without its newline as a str. */
static PyObject *
read_name(fpk_decoder *d)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return NULL;
    }
    if (size < 2) {
        (void)fpk_truncated(d);
        return NULL;
    }
    return fpk_decoded(d, PyUnicode_DecodeUTF8(line, size - 1, "strict"));
}

PyObject *
fpk_load_class_lines(fpk_decoder *d)
{
    PyObject *result = NULL;
    PyObject *module = read_name(d);
    PyObject *name = module == NULL ? NULL : read_name(d);
    if (name != NULL) {
        result = fpk_find_class(d, module, name);
    }
    Py_XDECREF(module);
    Py_XDECREF(name);
    return result;
}

int
fpk_load_global(fpk_decoder *d)
{
    return fpk_push(d, fpk_load_class_lines(d));
}

int
fpk_load_stack_global(fpk_decoder *d)
{
    PyObject *result = NULL;
    PyObject *name = fpk_pop(d);
    PyObject *module = name == NULL ? NULL : fpk_pop(d);
    if (module == NULL) {
        goto done;
    }
    if (!PyUnicode_CheckExact(name) || !PyUnicode_CheckExact(module)) {
        (void)fpk_decode_error(d, d->state->UnpicklingError,
                               "STACK_GLOBAL requires str");
        goto done;
    }
    result = fpk_find_class(d, module, name);
done:
    Py_XDECREF(name);
    Py_XDECREF(module);
    return fpk_push(d, result);
}

/* ---- copyreg extension codes -------------------------------------------- */

static PyObject *
resolve_extension(fpk_decoder *d, PyObject *code_object, long code)
{
    fpk_state *state = d->state;
    PyObject *pair;
    int found = PyDict_GetItemRef(state->inverted_registry, code_object,
                                  &pair);
    if (found < 0) {
        return NULL;
    }
    if (found == 0) {
        PyErr_Format(PyExc_ValueError, "unregistered extension code %ld",
                     code);
        return NULL;
    }
    PyObject *result = NULL;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
        !PyUnicode_Check(PyTuple_GET_ITEM(pair, 0)) ||
        !PyUnicode_Check(PyTuple_GET_ITEM(pair, 1))) {
        PyErr_Format(PyExc_ValueError,
                     "_inverted_registry[%ld] isn't a 2-tuple of strings",
                     code);
        goto done;
    }
    result = fpk_find_class(d, PyTuple_GET_ITEM(pair, 0),
                            PyTuple_GET_ITEM(pair, 1));
    if (result != NULL &&
        PyDict_SetItem(state->extension_cache, code_object, result) < 0) {
        Py_CLEAR(result);
    }
done:
    Py_DECREF(pair);
    return result;
}

int
fpk_load_ext(fpk_decoder *d, long code)
{
    if (code <= 0) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "EXT specifies code <= 0");
    }
    PyObject *code_object = PyLong_FromLong(code);
    if (code_object == NULL) {
        return -1;
    }
    PyObject *result;
    int found = PyDict_GetItemRef(d->state->extension_cache, code_object,
                                  &result);
    if (found == 0) {
        result = resolve_extension(d, code_object, code);
    }
    Py_DECREF(code_object);
    return fpk_push(d, found < 0 ? NULL : result);
}

/* ---- persistent ids ----------------------------------------------------- */

/* Steals [pid]. */
static int
push_persistent(fpk_decoder *d, PyObject *pid)
{
    if (pid == NULL) {
        return -1;
    }
    if (d->persistent_load == NULL) {
        Py_DECREF(pid);
        return fpk_decode_error(
            d, d->state->UnpicklingError,
            "A load persistent id instruction was encountered, but no "
            "persistent_load function was specified.");
    }
    PyObject *obj = PyObject_CallOneArg(d->persistent_load, pid);
    Py_DECREF(pid);
    return fpk_push(d, obj);
}

int
fpk_load_persid(fpk_decoder *d)
{
    const char *line;
    Py_ssize_t size;
    if (fpk_read_line(d, &line, &size) < 0) {
        return -1;
    }
    PyObject *pid = PyUnicode_DecodeASCII(line, size - 1, "strict");
    if (pid == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        /* The standard library's tests want just these words. */
        PyErr_SetString(d->state->UnpicklingError,
                        "persistent IDs in protocol 0 must be ASCII strings");
        return -1;
    }
    return push_persistent(d, pid);
}

int
fpk_load_binpersid(fpk_decoder *d)
{
    return push_persistent(d, fpk_pop(d));
}
