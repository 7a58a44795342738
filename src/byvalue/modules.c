/* modules.c -- modules, by reference or by value.

   Does:      writes a module as an import of its name; one that the
              receiver cannot import as types.ModuleType(name) with all that
              is in its dict.
   Owns:      nothing beyond its frames.
   Invariant: by reference only what an import of that name would give here.
              The dict of a module by value is the namespace of its functions,
              whichever of the two comes first.
   Called by: handled.c, cell.c, namespace.c. */
#include "byvalue/room.h"

/* 1 if [module] says where it comes from, 0 if not, -1 on error. */
static int
has_origin(fpk_state *state, PyObject *module)
{
    PyObject *dict = PyModule_GetDict(module);
    PyObject *spec = PyDict_GetItemWithError(dict, state->str.__spec__);
    if (spec != NULL && spec != Py_None) {
        return 1;
    }
    PyObject *file = PyDict_GetItemWithError(dict, state->str.__file__);
    return PyErr_Occurred() ? -1 : file != NULL;
}

/* 1 if an import of the module called [name], which is imported, would work at
   the receiver: it has an origin, or is in a package that has one, which then
   has made it.  A module object that somebody just put into sys.modules stays
   here.  0 if not, -1 on error. */
static int
has_origin_or_package(fpk_state *state, PyObject *name)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    Py_ssize_t end = PyUnicode_GET_LENGTH(name);
    while (end > 0) {
        PyObject *part = PyUnicode_Substring(name, 0, end);
        PyObject *module =
            part == NULL ? NULL : PyDict_GetItemWithError(modules, part);
        /* What is no module object looks after itself. */
        int found = PyErr_Occurred()          ? -1
                    : module == NULL          ? 0
                    : !PyModule_Check(module) ? 1
                                              : has_origin(state, module);
        Py_XDECREF(part);
        if (found != 0) {
            return found;
        }
        end = PyUnicode_FindChar(name, '.', 0, end, -1);
    }
    return end == -2 ? -1 : 0;
}

int
fpk_is_made_here(fpk_encoder *e, PyObject *name)
{
    fpk_state *state = e->state;
    PyObject *module = PyDict_GetItemWithError(PyImport_GetModuleDict(), name);
    if (module == NULL || !PyModule_Check(module)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int found = has_origin(state, module);
    if (found != 0 || PyUnicode_Compare(name, state->str.__main__) == 0 ||
        PyUnicode_Compare(name, state->str.__mp_main__) == 0) {
        return found < 0 ? -1 : 0;
    }
    found = has_origin_or_package(state, name);
    return found < 0 ? -1 : !found;
}

/* 1 if the receiver can be expected to import [module] as [name]. */
static int
is_importable(fpk_encoder *e, PyObject *module, PyObject *name)
{
    fpk_state *state = e->state;
    PyObject *loaded = PyImport_GetModule(name);
    if (loaded == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    bool same = loaded == module;
    Py_DECREF(loaded);
    if (!same) {
        return 0;
    }
    if (PyUnicode_Compare(name, state->str.__main__) == 0 ||
        PyUnicode_Compare(name, state->str.__mp_main__) == 0) {
        return 1;
    }
    int registered = fpk_is_registered(e, name);
    if (registered != 0) {
        return registered < 0 ? -1 : 0;
    }
    return has_origin_or_package(state, name);
}

int
fpk_is_importable(fpk_encoder *e, PyObject *module)
{
    PyObject *name = PyModule_GetNameObject(module);
    int importable = name == NULL ? -1 : is_importable(e, module, name);
    Py_XDECREF(name);
    return importable;
}

/* Most modules stand under their own names, which the code has, interned. */
static int
emit_module_name(fpk_encoder *e, PyObject *name)
{
    if (!PyUnicode_CheckExact(name)) {
        return fpk_emit_unicode(e, name);
    }
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    int status;
    if (e->canonical != NULL || e->isolated) {
        /* Equal text is one object, whichever came first. */
        status = fpk_save_atom(e, name, fpk_needs_memo(e, name));
    }
    else {
        status = fpk_emit_get_if_saved(e, name);
        if (status == 0) {
            status = fpk_emit_unicode(e, name);
        }
    }
    Py_DECREF(name);
    return status < 0 ? FPK_ERROR : FPK_DONE;
}

/* __import__ gives the top of a dotted name; where it gives the module, it is
   shorter, and needs no Python code. */
static int
emit_import(fpk_encoder *e, PyObject *name)
{
    fpk_state *state = e->state;
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    bool is_top = PyUnicode_FindChar(name, '.', 0, length, 1) < 0;
    int status =
        is_top ? fpk_save_global_as(e, state->builtins_import,
                                    state->str.builtins, "__import__")
               : fpk_save_global_as(e, state->import_module,
                                    state->str.importlib, "import_module");
    if (status < 0 || fpk_begin_tuple(e, 1) < 0 ||
        emit_module_name(e, name) < 0 || fpk_end_tuple(e, 1) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* ---- by value ----------------------------------------------------------- */

int
fpk_create_module(fpk_encoder *e, PyObject *module, PyObject *name)
{
    if (fpk_save_global_as(e, (PyObject *)&PyModule_Type, e->state->str.types,
                           "ModuleType") < 0 ||
        fpk_begin_tuple(e, 1) < 0 || fpk_emit_unicode(e, name) < 0 ||
        fpk_end_tuple(e, 1) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_remember(e, module) < 0 || fpk_mark_due(e, module) < 0 ||
        fpk_emit_op(e, FPK_OP_POP) < 0 ||
        fpk_save_global_as(e, e->state->builtins_vars, e->state->str.builtins,
                           "vars") < 0 ||
        fpk_begin_tuple(e, 1) < 0) {
        return FPK_ERROR;
    }
    int found = fpk_recall(e, module);
    assert(found != 0);
    return found < 0 || fpk_end_tuple(e, 1) < 0
               ? FPK_ERROR
               : fpk_emit_op(e, FPK_OP_REDUCE);
}

/* True for what the receiver's module has of its own, or must not have. */
static bool
is_left_out(PyObject *name, PyObject *value)
{
    static const char *const names[] = {
        "__builtins__", "__cached__", "__loader__", "__name__", "__spec__",
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            return true;
        }
    }
    return value == Py_None &&
           (PyUnicode_CompareWithASCIIString(name, "__doc__") == 0 ||
            PyUnicode_CompareWithASCIIString(name, "__package__") == 0);
}

/* The names of [module] that are to be written: a new list. */
static PyObject *
list_names(fpk_encoder *e, PyObject *module)
{
    fpk_context *c = e->byvalue;
    PyObject *dict = PyModule_GetDict(module);
    PyObject *names = PyList_New(0);
    uint64_t serial = ++c->serial;
    Py_ssize_t position = 0;
    PyObject *name, *value;
    while (names != NULL && PyDict_Next(dict, &position, &name, &value)) {
        if (!PyUnicode_CheckExact(name) || is_left_out(name, value)) {
            continue;
        }
        /* Names are known by their address: that of the interned one, which
           code has, too. */
        Py_INCREF(name);
        PyUnicode_InternInPlace(&name);
        if (fpk_announce_name(fpk_find_namespace(e, dict), name, serial) < 0 ||
            PyList_Append(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_DECREF(name);
    }
    /* The receiver gets them in another order, because what functions use goes
       first. */
    if (names != NULL && e->canonical != NULL && PyList_Sort(names) < 0) {
        Py_CLEAR(names);
    }
    return names;
}

enum { MODULE_NAME, MODULE_VALUE };

/* The dict is on the stack; frame->aux: the names. */
static int
advance_module(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *dict = PyModule_GetDict(frame->object);
    for (;;) {
        if (frame->step == MODULE_VALUE) {
            frame->step = MODULE_NAME;
            PyObject *name = PyList_GET_ITEM(frame->aux, frame->position - 1);
            if (fpk_end_name(e, name) < 0) {
                return FPK_ERROR;
            }
        }
        if (frame->position == PyList_GET_SIZE(frame->aux)) {
            break;
        }
        frame->step = MODULE_VALUE;
        int result = fpk_begin_name(
            e, dict, PyList_GET_ITEM(frame->aux, frame->position++));
        if (result != FPK_DONE) {
            return result;
        }
        fpk_top_frame(e)->step = MODULE_NAME; /* it was written before */
    }
    if (fpk_emit_op(e, FPK_OP_POP) < 0) {
        return FPK_ERROR;
    }
    return fpk_recall(e, frame->object) == 1 ? FPK_DONE : FPK_ERROR;
}

/* The dict is on the stack. */
static int
fill_module(fpk_encoder *e, PyObject *module)
{
    (void)fpk_take_due(e, module);
    PyObject *names = list_names(e, module);
    if (names == NULL) {
        return FPK_ERROR;
    }
    return fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_module, module,
                          names) == NULL
               ? FPK_ERROR
               : FPK_MORE;
}

int
fpk_save_module(fpk_encoder *e, PyObject *module)
{
    int found = fpk_recall(e, module);
    if (found < 0) {
        return FPK_ERROR;
    }
    if (found > 0) {
        if (!fpk_is_due(e, module)) {
            return FPK_DONE;
        }
        /* A function of it brought its dict, with what the function uses. */
        return fpk_emit_op(e, FPK_OP_POP) < 0 ||
                       fpk_save_namespace(e, PyModule_GetDict(module)) < 0
                   ? FPK_ERROR
                   : fill_module(e, module);
    }
    PyObject *name = PyModule_GetNameObject(module);
    if (name == NULL) {
        return FPK_ERROR;
    }
    int status = FPK_ERROR;
    int importable = is_importable(e, module, name);
    if (FPK_IS_SURVEYED(e) && importable > 0 &&
        e->state->survey->note_way(e, module, FPK_WENT_BY_NAME) < 0) {
        importable = -1;
    }
    if (importable > 0 && emit_import(e, name) == FPK_DONE) {
        status = fpk_remember(e, module);
    }
    else if (importable == 0 && fpk_add_module(e, module, name) == FPK_DONE) {
        status = fill_module(e, module);
    }
    Py_DECREF(name);
    return status;
}

int
fpk_init_modules(PyObject *module, fpk_state *state)
{
    return fpk_fetch(&state->builtins_vars, "builtins", "vars") < 0 ||
                   fpk_fetch(&state->builtins_import, "builtins",
                             "__import__") < 0 ||
                   fpk_fetch(&state->import_module, "importlib",
                             "import_module") < 0
               ? -1
               : 0;
}
