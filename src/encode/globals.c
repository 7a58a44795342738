/* globals.c -- references by name: module and qualified name.

   Does:      finds the module of an object, checks that the name leads back to
              the object, and writes the name in the form of the protocol.
   Owns:      nothing.
   Invariant: nothing is written before the name was checked.
   Called by: driver.c and reduce.c for what is found by name, byvalue for
              names of the standard library. */
#include "base/bytes.h"
#include "encode/encoder.h"

/* ---- finding ------------------------------------------------------------ */

/* Walks [path], a dotted name, from [root].  New reference; NULL with
   AttributeError if a step is missing. */
static PyObject *
follow_path(PyObject *root, PyObject *path)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(path);
    Py_ssize_t start = 0;
    PyObject *current = Py_NewRef(root);
    while (start <= length) {
        Py_ssize_t dot = PyUnicode_FindChar(path, '.', start, length, 1);
        if (dot == -2) {
            goto error;
        }
        if (dot == -1) {
            dot = length;
        }
        PyObject *name = start == 0 && dot == length
                             ? Py_NewRef(path)
                             : PyUnicode_Substring(path, start, dot);
        if (name == NULL) {
            goto error;
        }
        PyObject *next = PyObject_GetAttr(current, name);
        Py_DECREF(name);
        Py_SETREF(current, next);
        if (current == NULL) {
            return NULL;
        }
        start = dot + 1;
    }
    return current;
error:
    Py_DECREF(current);
    return NULL;
}

/* 1 if [path] leads from [module] to [obj], 0 if not, -1 on error. */
static int
module_has(PyObject *module, PyObject *path, PyObject *obj)
{
    PyObject *found = follow_path(module, path);
    if (found == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    int same = found == obj;
    Py_DECREF(found);
    return same;
}

/* 1 if [path], which begins with [first], leads from [module] to [obj].  Asks
   nothing of a module that has not got the name in its dict: a __getattr__ may
   import, or fail. */
static int
module_shows(PyObject *module, PyObject *first, PyObject *path, PyObject *obj)
{
    int has = PyModule_Check(module)
                  ? PyDict_Contains(PyModule_GetDict(module), first)
                  : 0;
    return has > 0 ? module_has(module, path, obj) : has;
}

/* Searches all modules but the main one: those whose dict has [first], the
   beginning of [path], or all if it is NULL.  A new reference to the name of a
   module; NULL without an exception if none has [obj]. */
static PyObject *
search_modules(fpk_encoder *e, PyObject *obj, PyObject *first, PyObject *path)
{
    PyObject *result = NULL;
    PyObject *modules = PySys_GetObject("modules"); /* borrowed */
    if (modules == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "unable to get sys.modules");
        return NULL;
    }
    /* A look-up can import, and so change the dict: walk a copy. */
    PyObject *items = PyMapping_Items(modules);
    if (items == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
            continue;
        }
        PyObject *name = PyTuple_GET_ITEM(item, 0);
        PyObject *module = PyTuple_GET_ITEM(item, 1);
        if (module == Py_None || !PyUnicode_Check(name) ||
            PyUnicode_Compare(name, e->state->str.__main__) == 0 ||
            PyUnicode_Compare(name, e->state->str.__mp_main__) == 0) {
            continue;
        }
        int has = first == NULL ? module_has(module, path, obj)
                                : module_shows(module, first, path, obj);
        if (has < 0 && e->by_value &&
            PyErr_ExceptionMatches(PyExc_Exception)) {
            /* A module that fails when it is asked is not the one. */
            PyErr_Clear();
            has = 0;
        }
        if (has < 0) {
            goto done;
        }
        if (has) {
            result = Py_NewRef(name);
            goto done;
        }
    }
done:
    Py_DECREF(items);
    return result;
}

PyObject *
fpk_find_home(fpk_encoder *e, PyObject *obj, PyObject *qualname)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(qualname);
    Py_ssize_t dot = PyUnicode_FindChar(qualname, '.', 0, length, 1);
    PyObject *first = PyUnicode_Substring(qualname, 0, dot < 0 ? length : dot);
    if (first == NULL) {
        return NULL;
    }
    PyObject *result = search_modules(e, obj, first, qualname);
    Py_DECREF(first);
    return result;
}

PyObject *
fpk_whichmodule(fpk_encoder *e, PyObject *obj, PyObject *qualname)
{
    PyObject *name;
    if (PyObject_GetOptionalAttr(obj, e->state->str.__module__, &name) < 0) {
        return NULL;
    }
    /* Some rare objects have no __module__, or None. */
    if (name != NULL && name != Py_None) {
        return name;
    }
    Py_XDECREF(name);
    /* The standard module asks each module; to look first is as good. */
    name = e->by_value ? fpk_find_home(e, obj, qualname) : NULL;
    if (name == NULL && !PyErr_Occurred()) {
        name = search_modules(e, obj, NULL, qualname);
    }
    return name != NULL || PyErr_Occurred()
               ? name
               : Py_NewRef(e->state->str.__main__);
}

/* Imports [name]; an imported module costs one look-up. */
static PyObject *
import_module(PyObject *name)
{
    PyObject *module = PyUnicode_Check(name) ? PyImport_GetModule(name) : NULL;
    if (module != NULL || PyErr_Occurred()) {
        return module;
    }
    PyObject *top =
        PyImport_ImportModuleLevelObject(name, NULL, NULL, NULL, 0);
    if (top == NULL) {
        return NULL;
    }
    Py_DECREF(top);
    return PyImport_GetModule(name);
}

int
fpk_resolves_to(fpk_encoder *e, PyObject *obj, PyObject *module_name,
                PyObject *qualname)
{
    if (!PyUnicode_Check(module_name) || !PyUnicode_Check(qualname)) {
        return 0;
    }
    PyObject *module = import_module(module_name);
    if (module == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    int has = module_has(module, qualname, obj);
    Py_DECREF(module);
    return has;
}

/* ---- writing ------------------------------------------------------------ */

/* A code of the copyreg extension registry stands for the whole name.  1 if
   there is one and it is written, 0 if not, -1 on error. */
static int
save_ext(fpk_encoder *e, PyObject *module_name, PyObject *name)
{
    fpk_state *state = e->state;
    PyObject *key = PyTuple_Pack(2, module_name, name);
    if (key == NULL) {
        return -1;
    }
    PyObject *code_object;
    int found =
        PyDict_GetItemRef(state->extension_registry, key, &code_object);
    Py_DECREF(key);
    if (found <= 0) {
        return found;
    }
    int status = -1;
    long code = PyLong_AsLong(code_object);
    if (code == -1 && PyErr_Occurred()) {
        goto done;
    }
    if (code <= 0 || code > 0x7fffffffL) {
        PyErr_Format(PyExc_RuntimeError,
                     "Can't pickle %U.%U: extension code %ld is out of range",
                     module_name, name, code);
        goto done;
    }
    uint8_t op[5];
    size_t size;
    if (code <= 0xff) {
        op[0] = FPK_OP_EXT1;
        op[1] = (uint8_t)code;
        size = 2;
    }
    else if (code <= 0xffff) {
        op[0] = FPK_OP_EXT2;
        fpk_store_le16(op + 1, (uint16_t)code);
        size = 3;
    }
    else {
        op[0] = FPK_OP_EXT4;
        fpk_store_le32(op + 1, (uint32_t)code);
        size = 5;
    }
    status = fpk_emit_raw(e, op, size) < 0 ? -1 : 1;
done:
    Py_DECREF(code_object);
    return status;
}

/* Names recur: the module's as long as several globals come from it. */
static int
save_name(fpk_encoder *e, PyObject *name, bool recurs)
{
    if (recurs || e->policy == FPK_MEMO_ALL) {
        return fpk_save_atom(e, name, true) < 0 ? FPK_ERROR : FPK_DONE;
    }
    return fpk_emit_unicode(e, name);
}

/* Python 2 has some modules and names elsewhere.  Both references are
   replaced. */
static int
map_to_python2(fpk_encoder *e, PyObject **module_name, PyObject **name)
{
    fpk_state *state = e->state;
    PyObject *key = PyTuple_Pack(2, *module_name, *name);
    if (key == NULL) {
        return -1;
    }
    PyObject *mapped;
    int found = PyDict_GetItemRef(state->name_mapping_3to2, key, &mapped);
    Py_DECREF(key);
    if (found < 0) {
        return -1;
    }
    if (found) {
        if (!PyTuple_Check(mapped) || PyTuple_GET_SIZE(mapped) != 2 ||
            !PyUnicode_Check(PyTuple_GET_ITEM(mapped, 0)) ||
            !PyUnicode_Check(PyTuple_GET_ITEM(mapped, 1))) {
            PyErr_Format(PyExc_RuntimeError,
                         "_compat_pickle.REVERSE_NAME_MAPPING values should "
                         "be 2-tuples of str, not %.200s",
                         Py_TYPE(mapped)->tp_name);
            Py_DECREF(mapped);
            return -1;
        }
        Py_SETREF(*module_name, Py_NewRef(PyTuple_GET_ITEM(mapped, 0)));
        Py_SETREF(*name, Py_NewRef(PyTuple_GET_ITEM(mapped, 1)));
        Py_DECREF(mapped);
        return 0;
    }
    found =
        PyDict_GetItemRef(state->import_mapping_3to2, *module_name, &mapped);
    if (found <= 0) {
        return found;
    }
    if (!PyUnicode_Check(mapped)) {
        PyErr_Format(PyExc_RuntimeError,
                     "_compat_pickle.REVERSE_IMPORT_MAPPING values should be "
                     "strings, not %.200s",
                     Py_TYPE(mapped)->tp_name);
        Py_DECREF(mapped);
        return -1;
    }
    Py_SETREF(*module_name, mapped);
    return 0;
}

static int
emit_line(fpk_encoder *e, PyObject *text)
{
    PyObject *bytes = e->protocol >= 3 ? PyUnicode_AsUTF8String(text)
                                       : PyUnicode_AsASCIIString(text);
    if (bytes == NULL) {
        return FPK_ERROR;
    }
    int status = fpk_emit_raw(e, PyBytes_AS_STRING(bytes),
                              (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return status < 0 ? FPK_ERROR : fpk_emit_raw(e, "\n", 1);
}

/* Opcode GLOBAL: two lines of text. */
static int
emit_global_lines(fpk_encoder *e, PyObject *module_name, PyObject *name)
{
    int status = FPK_ERROR;
    Py_INCREF(module_name);
    Py_INCREF(name);
    if (e->fix_imports && map_to_python2(e, &module_name, &name) < 0) {
        goto done;
    }
    if (fpk_emit_op(e, FPK_OP_GLOBAL) < 0) {
        goto done;
    }
    if (emit_line(e, module_name) < 0 || emit_line(e, name) < 0) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            PyErr_Format(e->state->PicklingError,
                         "can't pickle global identifier '%S.%S' using pickle "
                         "protocol %i",
                         module_name, name, e->protocol);
        }
        goto done;
    }
    status = FPK_DONE;
done:
    Py_DECREF(module_name);
    Py_DECREF(name);
    return status;
}

/* Below protocol 4 the name a.b.c is getattr(getattr(a, 'b'), 'c'). */
static int
emit_old_global(fpk_encoder *e, PyObject *module_name, PyObject *path)
{
    int status = FPK_ERROR;
    Py_ssize_t count = 0;
    PyObject *separator = PyUnicode_FromString(".");
    PyObject *names =
        separator == NULL ? NULL : PyUnicode_Split(path, separator, -1);
    if (names == NULL) {
        goto done;
    }
    count = PyList_GET_SIZE(names);
    for (Py_ssize_t i = 1; i < count; i++) {
        if (fpk_save_global_as(e, e->state->builtins_getattr,
                               e->state->str.builtins, "getattr") < 0 ||
            fpk_emit_tuple_mark(e) < 0) {
            goto done;
        }
    }
    if (emit_global_lines(e, module_name, PyList_GET_ITEM(names, 0)) < 0) {
        goto done;
    }
    for (Py_ssize_t i = 1; i < count; i++) {
        if (fpk_emit_unicode(e, PyList_GET_ITEM(names, i)) < 0 ||
            fpk_emit_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
            goto done;
        }
    }
    status = FPK_DONE;
done:
    Py_XDECREF(separator);
    Py_XDECREF(names);
    return status;
}

/* [module], [name] are known to lead to [obj]. */
static int
save_checked_global(fpk_encoder *e, PyObject *obj, PyObject *module_name,
                    PyObject *name)
{
    if (FPK_IS_SURVEYED(e) &&
        e->state->survey->note_way(e, obj, FPK_WENT_BY_NAME) < 0) {
        return FPK_ERROR;
    }
    if (e->protocol >= 2 && PyDict_GET_SIZE(e->state->extension_registry)) {
        int found = save_ext(e, module_name, name);
        if (found != 0) {
            return found < 0 ? FPK_ERROR : FPK_DONE;
        }
    }
    if (e->protocol >= 4) {
        if (save_name(e, module_name, true) < 0 ||
            save_name(e, name, false) < 0 ||
            fpk_emit_op(e, FPK_OP_STACK_GLOBAL) < 0) {
            return FPK_ERROR;
        }
    }
    else if (emit_old_global(e, module_name, name) < 0) {
        return FPK_ERROR;
    }
    return fpk_memoize(e, obj);
}

/* [obj]'s own idea of its name: __qualname__, else __name__. */
static PyObject *
own_name(fpk_encoder *e, PyObject *obj)
{
    PyObject *name;
    if (PyObject_GetOptionalAttr(obj, e->state->str.__qualname__, &name) < 0) {
        return NULL;
    }
    return name != NULL ? name : PyObject_GetAttr(obj, e->state->str.__name__);
}

static bool
is_local_name(PyObject *name)
{
    PyObject *locals = PyUnicode_FromString("<locals>");
    if (locals == NULL) {
        return false;
    }
    Py_ssize_t at =
        PyUnicode_Find(name, locals, 0, PyUnicode_GET_LENGTH(name), 1);
    Py_DECREF(locals);
    return at >= 0;
}

/* Replaces the current exception by a PicklingError that it is the cause
   of. */
static void
raise_from_current(fpk_encoder *e, const char *format, PyObject *a,
                   PyObject *b, PyObject *c)
{
    PyObject *cause = fpk_get_raised_exception();
    PyErr_Format(e->state->PicklingError, format, a, b, c);
    PyObject *error = fpk_get_raised_exception();
    if (error != NULL && cause != NULL) {
        PyException_SetCause(error, Py_NewRef(cause));
        PyException_SetContext(error, Py_NewRef(cause));
    }
    Py_XDECREF(cause);
    if (error != NULL) {
        fpk_set_raised_exception(error);
    }
}

static int
save_global(fpk_encoder *e, PyObject *obj, PyObject *name)
{
    int status = FPK_ERROR;
    PyObject *module_name = NULL, *module = NULL, *found = NULL;

    bool is_str = PyUnicode_Check(name);
    bool dotted =
        is_str &&
        PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), 1) >= 0;
    if (!is_str) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R: its name is a %.200s, not a str", obj,
                     Py_TYPE(name)->tp_name);
        goto done;
    }
    module_name = fpk_whichmodule(e, obj, name);
    if (module_name == NULL) {
        goto done;
    }
    if (dotted && is_local_name(name)) {
        PyErr_Format(PyExc_AttributeError, "Can't pickle local object %R",
                     name);
        goto done;
    }
    module = import_module(module_name);
    if (module == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(e->state->PicklingError,
                         "Can't pickle %R: import of module %R failed", obj,
                         module_name);
        }
        else if (PyErr_ExceptionMatches(PyExc_Exception)) {
            raise_from_current(e,
                               "Can't pickle %R: import of module %R failed",
                               obj, module_name, NULL);
        }
        goto done;
    }
    found = follow_path(module, name);
    if (found == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            raise_from_current(
                e, "Can't pickle %R: attribute lookup %S on %S failed", obj,
                name, module_name);
        }
        goto done;
    }
    if (found != obj) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R: it's not the same object as %S.%S", obj,
                     module_name, name);
        goto done;
    }
    status = save_checked_global(e, obj, module_name, name);
done:
    Py_XDECREF(module_name);
    Py_XDECREF(module);
    Py_XDECREF(found);
    return status;
}

int
fpk_save_global(fpk_encoder *e, PyObject *obj, PyObject *name)
{
    PyObject *own = name != NULL ? Py_NewRef(name) : own_name(e, obj);
    if (own == NULL) {
        return FPK_ERROR;
    }
    int status = save_global(e, obj, own);
    Py_DECREF(own);
    return status;
}

int
fpk_save_global_as(fpk_encoder *e, PyObject *obj, PyObject *module,
                   const char *qualname)
{
    int found = obj == NULL ? 0 : fpk_emit_get_if_saved(e, obj);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    if (e->protocol >= 4) {
        if (fpk_save_atom(e, module, true) < 0 ||
            fpk_emit_str(e, qualname) < 0 ||
            fpk_emit_op(e, FPK_OP_STACK_GLOBAL) < 0) {
            return FPK_ERROR;
        }
    }
    else {
        PyObject *name = PyUnicode_FromString(qualname);
        if (name == NULL) {
            return FPK_ERROR;
        }
        int status = emit_old_global(e, module, name);
        Py_DECREF(name);
        if (status != FPK_DONE) {
            return FPK_ERROR;
        }
    }
    return obj == NULL ? FPK_DONE : fpk_memoize(e, obj);
}

/* ---- classes ------------------------------------------------------------ */

static int
save_singleton_type(fpk_encoder *e, PyObject *type, PyObject *singleton)
{
    PyObject *value = Py_BuildValue("(O(O))", &PyType_Type, singleton);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, type, value, true);
}

int
fpk_save_type(fpk_encoder *e, PyObject *obj)
{
    if (obj == (PyObject *)Py_TYPE(Py_None)) {
        return save_singleton_type(e, obj, Py_None);
    }
    if (obj == (PyObject *)&PyEllipsis_Type) {
        return save_singleton_type(e, obj, Py_Ellipsis);
    }
    if (obj == (PyObject *)Py_TYPE(Py_NotImplemented)) {
        return save_singleton_type(e, obj, Py_NotImplemented);
    }
    return e->state->byvalue->save_class(e, obj);
}
