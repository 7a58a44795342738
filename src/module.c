/* module.c -- fpickle._core: the module definition and its state.

   Does:      fetches what every room needs from the standard library, then
              lets each room add its types and functions.
   Owns:      the module state.
   Invariant: multi-phase init, no C globals that change; a failed exec
              leaves a state that traverse and clear can handle.
   Called by: the import system. */
#include "state.h"

int
fpk_fetch(PyObject **slot, const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return -1;
    }
    *slot = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return *slot == NULL ? -1 : 0;
}

static int
fetch_dict(PyObject **slot, const char *module_name, const char *name)
{
    if (fpk_fetch(slot, module_name, name) < 0) {
        return -1;
    }
    if (!PyDict_CheckExact(*slot)) {
        PyErr_Format(PyExc_RuntimeError, "%s.%s should be a dict, not %.200s",
                     module_name, name, Py_TYPE(*slot)->tp_name);
        return -1;
    }
    return 0;
}

static int
add_name(PyObject *module, const char *name, PyObject *value)
{
    return PyModule_AddObjectRef(module, name, value);
}

static int
intern_names(fpk_state *state)
{
#define FPK_MEMBER(name)                                                      \
    if ((state->str.name = PyUnicode_InternFromString(#name)) == NULL) {      \
        return -1;                                                            \
    }
    FPK_INTERNED(FPK_MEMBER)
#undef FPK_MEMBER
    return 0;
}

static int
fetch_shared_objects(PyObject *module, fpk_state *state)
{
    if (fpk_fetch(&state->PickleError, "_pickle", "PickleError") < 0 ||
        fpk_fetch(&state->PicklingError, "_pickle", "PicklingError") < 0 ||
        fpk_fetch(&state->UnpicklingError, "_pickle", "UnpicklingError") < 0) {
        return -1;
    }
    if (add_name(module, "PickleError", state->PickleError) < 0 ||
        add_name(module, "PicklingError", state->PicklingError) < 0 ||
        add_name(module, "UnpicklingError", state->UnpicklingError) < 0) {
        return -1;
    }
    if (fetch_dict(&state->dispatch_table, "copyreg", "dispatch_table") < 0 ||
        fetch_dict(&state->extension_registry, "copyreg",
                   "_extension_registry") < 0 ||
        fetch_dict(&state->inverted_registry, "copyreg",
                   "_inverted_registry") < 0 ||
        fetch_dict(&state->extension_cache, "copyreg", "_extension_cache") <
            0) {
        return -1;
    }
    if (fetch_dict(&state->name_mapping_2to3, "_compat_pickle",
                   "NAME_MAPPING") < 0 ||
        fetch_dict(&state->import_mapping_2to3, "_compat_pickle",
                   "IMPORT_MAPPING") < 0 ||
        fetch_dict(&state->name_mapping_3to2, "_compat_pickle",
                   "REVERSE_NAME_MAPPING") < 0 ||
        fetch_dict(&state->import_mapping_3to2, "_compat_pickle",
                   "REVERSE_IMPORT_MAPPING") < 0) {
        return -1;
    }
    return 0;
}

static int
module_exec(PyObject *module)
{
    fpk_state *state = fpk_state_of_module(module);
    if (intern_names(state) < 0 || fetch_shared_objects(module, state) < 0 ||
        fpk_byvalue_init(module, state) < 0 ||
        fpk_explain_init(module, state) < 0 ||
        fpk_encode_init(module, state) < 0 ||
        fpk_decode_init(module, state) < 0) {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    fpk_state *state = fpk_state_of_module(module);
#define FPK_MEMBER(name) Py_VISIT(state->name);
    FPK_STATE_OBJECTS(FPK_MEMBER)
    FPK_STATE_TYPES(FPK_MEMBER)
#undef FPK_MEMBER
    return 0;
}

static int
module_clear(PyObject *module)
{
    fpk_state *state = fpk_state_of_module(module);
#define FPK_MEMBER(name) Py_CLEAR(state->name);
    FPK_STATE_OBJECTS(FPK_MEMBER)
    FPK_STATE_TYPES(FPK_MEMBER)
#undef FPK_MEMBER
#define FPK_MEMBER(name) Py_CLEAR(state->str.name);
    FPK_INTERNED(FPK_MEMBER)
#undef FPK_MEMBER
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear((PyObject *)module);
    fpk_memo_clear(&fpk_state_of_module((PyObject *)module)->plans);
    fpk_memo_clear(&fpk_state_of_module((PyObject *)module)->descriptors);
    fpk_memo_clear(&fpk_state_of_module((PyObject *)module)->handlers);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    FPK_MODULE_SLOTS
    {0, NULL},
};

struct PyModuleDef fpk_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fpickle._core",
    .m_doc = PyDoc_STR("The C core of fpickle."),
    .m_size = sizeof(fpk_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&fpk_module_def);
}
