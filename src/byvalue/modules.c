/* modules.c -- modules, by reference.

   Does:      writes a module as importlib.import_module(name).
   Owns:      nothing.
   Invariant: only what an import of that name would give here.
   Called by: handled.c, cell.c, namespace.c. */
#include "byvalue/room.h"

/* 1 if the receiver can be expected to import [module] as [name]. */
static int
is_importable(fpk_state *state, PyObject *module, PyObject *name)
{
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
    /* A module object that somebody put into sys.modules says nothing of
       where it came from. */
    PyObject *dict = PyModule_GetDict(module);
    PyObject *spec = PyDict_GetItemWithError(dict, state->str.__spec__);
    if (spec != NULL && spec != Py_None) {
        return 1;
    }
    PyObject *file = PyDict_GetItemWithError(dict, state->str.__file__);
    return PyErr_Occurred() ? -1 : file != NULL;
}

static int
emit_import(fpk_encoder *e, PyObject *name)
{
    if (fpk_save_global_as(e, e->state->import_module, "importlib",
                           "import_module") < 0 ||
        fpk_begin_tuple(e, 1) < 0 || fpk_emit_unicode(e, name) < 0 ||
        fpk_end_tuple(e, 1) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

int
fpk_save_module(fpk_encoder *e, PyObject *module)
{
    int found = fpk_recall(e, module);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    PyObject *name = PyModule_GetNameObject(module);
    if (name == NULL) {
        return FPK_ERROR;
    }
    int status = FPK_ERROR;
    int importable = is_importable(e->state, module, name);
    if (importable == 0) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle module %R: it cannot be imported by its "
                     "name, and the content of modules does not travel by "
                     "value",
                     name);
    }
    else if (importable > 0 && emit_import(e, name) == FPK_DONE) {
        status = fpk_remember(e, module);
    }
    Py_DECREF(name);
    return status;
}

int
fpk_init_modules(PyObject *module, fpk_state *state)
{
    return fpk_fetch(&state->import_module, "importlib", "import_module");
}
