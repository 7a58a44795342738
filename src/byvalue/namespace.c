/* namespace.c -- the dicts of globals.

   Does:      gives each dict of globals of the sender one dict at the
              receiver, and adds to it the names that functions use.
   Owns:      nothing; what was written is kept in the context.
   Invariant: __builtins__ and __name__ are there before the first function is
              made with the dict; a name is added at most once in a memo's
              life; builtins are never copied.
   Called by: function.c. */
#include "byvalue/room.h"

/* As many are searched one by one. */
#define FEW_NAMESPACES 4

fpk_namespace *
fpk_find_namespace(fpk_encoder *e, PyObject *globals)
{
    fpk_context *c = e->byvalue;
    if (c->namespace_count > FEW_NAMESPACES) {
        const fpk_memo_entry *entry = fpk_memo_find(&c->namespace_of, globals);
        return entry == NULL ? NULL : &c->namespaces[entry->index];
    }
    for (size_t i = 0; i < c->namespace_count; i++) {
        if (c->namespaces[i].dict == globals) {
            return &c->namespaces[i];
        }
    }
    return NULL;
}

/* Makes the table that finds one of many. */
static int
index_namespaces(fpk_context *c)
{
    size_t first = c->namespace_of.used;
    for (size_t i = first; i < c->namespace_count; i++) {
        if (!fpk_memo_set(&c->namespace_of, c->namespaces[i].dict, i)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

static fpk_namespace *
add_namespace(fpk_context *c, PyObject *globals)
{
    if (c->namespace_count == c->namespace_capacity) {
        size_t capacity =
            c->namespace_capacity == 0 ? 4 : 2 * c->namespace_capacity;
        fpk_namespace *space =
            PyMem_Realloc(c->namespaces, capacity * sizeof *space);
        if (space == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        c->namespaces = space;
        c->namespace_capacity = capacity;
    }
    fpk_namespace *space = &c->namespaces[c->namespace_count++];
    memset(space, 0, sizeof *space);
    space->dict = Py_NewRef(globals);
    if (c->namespace_count > FEW_NAMESPACES && index_namespaces(c) < 0) {
        return NULL;
    }
    return space;
}

/* 1 if [globals] is the dict of an imported module that the receiver imports
   too, 0 if not, -1 on error. */
static int
is_at_receiver(fpk_encoder *e, PyObject *globals, PyObject *name)
{
    fpk_state *state = e->state;
    if (PyUnicode_Compare(name, state->str.__main__) == 0 ||
        PyUnicode_Compare(name, state->str.__mp_main__) == 0 ||
        fpk_is_registered(e, name)) {
        return 0;
    }
    PyObject *spec = PyDict_GetItemWithError(globals, state->str.__spec__);
    if (spec == NULL || spec == Py_None) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *module = PyImport_GetModule(name);
    if (module == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    bool same = PyModule_Check(module) && PyModule_GetDict(module) == globals;
    Py_DECREF(module);
    return same;
}

/* The dict of the receiver's own module. */
static int
emit_module_dict(fpk_encoder *e, PyObject *name)
{
    if (e->protocol >= 4) {
        if (fpk_emit_unicode(e, name) < 0 || fpk_emit_str(e, "__dict__") < 0) {
            return FPK_ERROR;
        }
        return fpk_emit_op(e, FPK_OP_STACK_GLOBAL);
    }
    /* Not as GLOBAL, which would map the name to Python 2's and back. */
    PyObject *module = PyImport_GetModule(name);
    int status = FPK_ERROR;
    if (module != NULL &&
        fpk_save_global_as(e, e->state->builtins_getattr,
                           e->state->str.builtins, "getattr") == FPK_DONE &&
        fpk_begin_tuple(e, 2) == FPK_DONE &&
        fpk_save_module(e, module) == FPK_DONE &&
        fpk_emit_str(e, "__dict__") == FPK_DONE &&
        fpk_end_tuple(e, 2) == FPK_DONE) {
        status = fpk_emit_op(e, FPK_OP_REDUCE);
    }
    Py_XDECREF(module);
    return status;
}

/* __builtins__: functions do without it, but the import that some functions of
   C do (time.strptime, for one) looks for it in the caller's globals.  Each
   module written in Python has the dict under the same name. */
static int
emit_builtins_item(fpk_encoder *e)
{
    PyObject *name = e->state->str.__builtins__;
    if (e->protocol < 4) {
        if (fpk_emit_unicode(e, name) < 0 ||
            emit_module_dict(e, e->state->str.builtins) < 0) {
            return FPK_ERROR;
        }
    }
    else if (fpk_save_atom(e, name, true) < 0 ||
             fpk_save_atom(e, e->state->str.types, true) < 0 ||
             fpk_save_atom(e, name, true) < 0 ||
             fpk_emit_op(e, FPK_OP_STACK_GLOBAL) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_SETITEM);
}

/* The module object whose dict [globals] is, if it goes by value under
   [name]: 1 and a new reference, 0, or -1. */
static int
find_module(fpk_encoder *e, PyObject *globals, PyObject *name,
            PyObject **module)
{
    *module = NULL;
    if (PyUnicode_Compare(name, e->state->str.__main__) == 0 ||
        PyUnicode_Compare(name, e->state->str.__mp_main__) == 0) {
        return 0;
    }
    *module = PyImport_GetModule(name);
    if (*module != NULL && (!PyModule_CheckExact(*module) ||
                            PyModule_GetDict(*module) != globals)) {
        Py_CLEAR(*module);
    }
    return PyErr_Occurred() ? -1 : *module != NULL;
}

/* The dict of a module by value, which is made here, becomes the one of
   [space]. */
static int
begin_module_space(fpk_encoder *e, fpk_namespace *space, PyObject *module,
                   PyObject *name)
{
    if (fpk_announce_name(space, e->state->str.__name__, FPK_NAME_WRITTEN) <
            0 ||
        fpk_create_module(e, module, name) < 0 ||
        fpk_remember_anonymous(e, &space->index) < 0) {
        return FPK_ERROR;
    }
    return emit_builtins_item(e);
}

int
fpk_add_module(fpk_encoder *e, PyObject *module, PyObject *name)
{
    fpk_context *c = fpk_get_context(e);
    PyObject *dict = PyModule_GetDict(module);
    if (c == NULL) {
        return FPK_ERROR;
    }
    fpk_namespace *space = fpk_find_namespace(e, dict);
    if (space == NULL) {
        space = add_namespace(c, dict);
    }
    else {
        /* Functions came first, and nothing led from them to the module: they
           keep a dict of their own.  Nothing is in this one yet. */
        c->serial++;
        for (size_t i = 0;
             space->names.table != NULL && i <= space->names.mask; i++) {
            space->names.table[i].index = c->serial;
        }
    }
    return space == NULL ? FPK_ERROR
                         : begin_module_space(e, space, module, name);
}

int
fpk_announce_name(fpk_namespace *space, PyObject *name, uint64_t serial)
{
    const fpk_memo_entry *entry = fpk_memo_find(&space->names, name);
    if (entry != NULL && entry->index == FPK_NAME_WRITTEN) {
        return 0;
    }
    bool is_new = entry == NULL;
    if (!fpk_memo_set(&space->names, name, serial)) {
        PyErr_NoMemory();
        return -1;
    }
    if (is_new) {
        Py_INCREF(name);
    }
    return 0;
}

int
fpk_save_namespace(fpk_encoder *e, PyObject *globals)
{
    fpk_context *c = fpk_get_context(e);
    if (c == NULL) {
        return FPK_ERROR;
    }
    fpk_namespace *space = fpk_find_namespace(e, globals);
    if (space != NULL) {
        return fpk_emit_get(e, space->index);
    }
    space = add_namespace(c, globals);
    if (space == NULL) {
        return FPK_ERROR;
    }
    PyObject *name = PyDict_GetItemWithError(globals, e->state->str.__name__);
    if (name == NULL && PyErr_Occurred()) {
        return FPK_ERROR;
    }
    if (name != NULL && !PyUnicode_CheckExact(name)) {
        name = NULL;
    }
    int at_receiver = name == NULL ? 0 : is_at_receiver(e, globals, name);
    int is_private = FPK_UNLIKELY(e->portable) && at_receiver > 0
                         ? fpk_is_of_stdlib(e, name)
                         : 0;
    if (at_receiver < 0 || is_private < 0) {
        return FPK_ERROR;
    }
    at_receiver = at_receiver && !is_private;
    space->at_receiver = at_receiver && !e->isolated;
    if (space->at_receiver) {
        if (emit_module_dict(e, name) < 0) {
            return FPK_ERROR;
        }
        return fpk_remember_anonymous(e, &space->index);
    }
    PyObject *module = NULL;
    int found = name == NULL || at_receiver || is_private
                    ? 0
                    : find_module(e, globals, name, &module);
    if (found != 0) {
        int status =
            found < 0 ? FPK_ERROR : begin_module_space(e, space, module, name);
        Py_XDECREF(module);
        return status;
    }
    if (fpk_emit_empty_dict(e) < 0 ||
        fpk_remember_anonymous(e, &space->index) < 0 ||
        emit_builtins_item(e) < 0) {
        return FPK_ERROR;
    }
    if (name == NULL) {
        return FPK_DONE;
    }
    if (fpk_announce_name(space, e->state->str.__name__, FPK_NAME_WRITTEN) <
        0) {
        return FPK_ERROR;
    }
    if (fpk_emit_str(e, "__name__") < 0 ||
        fpk_save_atom(e, name, fpk_needs_memo(e, name)) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_SETITEM);
}

/* ---- names -------------------------------------------------------------- */

/* __builtins__ is a module or a dict of the interpreter. */
static int
save_builtins(fpk_encoder *e, PyObject *value)
{
    PyObject *builtins = PyImport_ImportModule("builtins");
    if (builtins == NULL) {
        return FPK_ERROR;
    }
    int status;
    if (value == PyModule_GetDict(builtins)) {
        status = emit_module_dict(e, e->state->str.builtins);
    }
    else {
        status = PyModule_Check(value) ? fpk_save_module(e, value)
                                       : fpk_save(e, value);
    }
    Py_DECREF(builtins);
    return status;
}

/* A submodule that is reached by attribute has to be imported, no more; one by
   value is in the dict of its package. */
static int
save_import(fpk_encoder *e, PyObject *module)
{
    int importable = fpk_is_importable(e, module);
    if (importable <= 0) {
        return importable < 0 ? FPK_ERROR : FPK_DONE;
    }
    if (fpk_save_module(e, module) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* What travels instead of the global [name], borrowed; NULL, perhaps with an
   exception, if it is the value that it has here. */
static PyObject *
find_replaced(fpk_encoder *e, PyObject *globals, PyObject *name)
{
    PyObject *module =
        PyDict_GetItemWithError(globals, e->state->str.__name__);
    PyObject *names =
        module == NULL || !PyUnicode_CheckExact(module)
            ? NULL
            : PyDict_GetItemWithError(e->replaced_globals, module);
    return names == NULL || !PyDict_Check(names)
               ? NULL
               : PyDict_GetItemWithError(names, name);
}

int
fpk_begin_name(fpk_encoder *e, PyObject *globals, PyObject *item)
{
    if (!PyUnicode_Check(item)) {
        return save_import(e, item);
    }
    fpk_namespace *space = fpk_find_namespace(e, globals);
    fpk_memo_entry *entry = fpk_memo_find(&space->names, item);
    PyObject *value = PyDict_GetItemWithError(globals, item);
    if (entry->index == FPK_NAME_WRITTEN || value == NULL) {
        return PyErr_Occurred() ? FPK_ERROR : FPK_DONE;
    }
    entry->index = FPK_NAME_WRITTEN;
    if (fpk_save_atom(e, item, fpk_needs_memo(e, item)) < 0) {
        return FPK_ERROR;
    }
    if (FPK_UNLIKELY(e->replaced_globals != NULL)) {
        PyObject *replaced = find_replaced(e, globals, item);
        if (replaced == NULL && PyErr_Occurred()) {
            return FPK_ERROR;
        }
        value = replaced == NULL ? value : replaced;
    }
    int result;
    if (value == globals) {
        result = fpk_emit_get(e, space->index);
    }
    else if (item == e->state->str.__builtins__) {
        result = save_builtins(e, value);
    }
    else if (PyModule_Check(value)) {
        result = fpk_save_module(e, value);
    }
    else {
        result = fpk_save(e, value);
    }
    return result < 0 ? FPK_ERROR : FPK_MORE;
}

int
fpk_end_name(fpk_encoder *e, PyObject *item)
{
    return fpk_emit_op(e, FPK_OP_SETITEM);
}
