/* unnamed.c -- types that the interpreter makes under names that lead
   elsewhere.

   Does:      writes a type that its own module does not name by another
              module's name for it, or as the type of something that is easily
              made; and the values of the sys module whose types have their
              names.
   Owns:      the table of such types, in the module state.  It is made when
              the first of them is met.
   Invariant: what stands in the table for a type has given it here.
   Called by: rules.c, for what was not found by its name; handled.c. */
#include "byvalue/room.h"

/* The type of NAME().METHOD() */
static const struct {
    const char *module, *name, *method;
} samples[] = {
    {"builtins", "dict", "__reversed__"},
    {"builtins", "str", "__iter__"},
    {"collections", "OrderedDict", "__iter__"},
    {"collections", "OrderedDict", "items"},
    {"collections", "OrderedDict", "keys"},
    {"collections", "OrderedDict", "values"},
    {"collections", "deque", "__iter__"},
    {"collections", "deque", "__reversed__"},
};

/* type(METHOD(MAKER())) as a reduction. */
static PyObject *
reduce_sample(fpk_state *state, PyObject *maker, const char *method)
{
    PyObject *made = fpk_make_call(state, Py_NewRef(maker), PyTuple_New(0));
    PyObject *function = PyObject_GetAttrString(maker, method);
    PyObject *sample = fpk_make_call(
        state, function, made == NULL ? NULL : Py_BuildValue("(N)", made));
    return sample == NULL ? NULL
                          : Py_BuildValue("(O(N))", &PyType_Type, sample);
}

static int
add_samples(fpk_state *state, PyObject *table)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < Py_ARRAY_LENGTH(samples); i++) {
        PyObject *maker = fpk_new_name(samples[i].module, samples[i].name);
        PyObject *made = maker == NULL ? NULL : PyObject_CallNoArgs(maker);
        PyObject *sample =
            made == NULL ? NULL
                         : PyObject_CallMethod(made, samples[i].method, NULL);
        PyObject *value = sample == NULL
                              ? NULL
                              : reduce_sample(state, maker, samples[i].method);
        status =
            value == NULL
                ? -1
                : PyDict_SetItem(table, (PyObject *)Py_TYPE(sample), value);
        Py_XDECREF(maker);
        Py_XDECREF(made);
        Py_XDECREF(sample);
        Py_XDECREF(value);
    }
    return status;
}

/* What _collections_abc names, which every Python has imported. */
static int
add_names(PyObject *table)
{
    PyObject *module = PyImport_ImportModule("_collections_abc");
    if (module == NULL) {
        return -1;
    }
    PyObject *dict = PyModule_GetDict(module);
    Py_ssize_t position = 0;
    PyObject *name, *value;
    int status = 0;
    while (status == 0 && PyDict_Next(dict, &position, &name, &value)) {
        if (PyType_Check(value) &&
            !PyType_HasFeature((PyTypeObject *)value, Py_TPFLAGS_HEAPTYPE)) {
            status = PyDict_SetItem(table, value, name);
        }
    }
    Py_DECREF(module);
    return status;
}

static PyObject *
make_table(fpk_state *state)
{
    PyObject *table = PyDict_New();
    if (table != NULL &&
        (add_samples(state, table) < 0 || add_names(table) < 0)) {
        Py_CLEAR(table);
    }
    return table;
}

/* The attribute of sys that [obj] is, by the name of [type]: 1 and the name, 0
   or -1. */
static int
find_in_sys(PyObject *obj, PyTypeObject *type, PyObject **name)
{
    static const char prefix[] = "sys.";
    size_t length = sizeof prefix - 1;
    *name = NULL;
    if (strncmp(type->tp_name, prefix, length) != 0) {
        return 0;
    }
    PyObject *value = PySys_GetObject(type->tp_name + length); /* borrowed */
    if (value == NULL || !Py_IS_TYPE(value, type) ||
        (obj != NULL && obj != value)) {
        return 0;
    }
    *name = PyUnicode_FromString(type->tp_name + length);
    return *name == NULL ? -1 : 1;
}

/* (getattr, (module, name)) for a type that its module has under another name
   than it says, as modules in C do; NULL, perhaps without exception. */
static PyObject *
find_in_module(fpk_state *state, PyObject *type)
{
    PyObject *name = PyObject_GetAttr(type, state->str.__module__);
    PyObject *module = name != NULL && PyUnicode_Check(name)
                           ? PyImport_GetModule(name)
                           : NULL;
    PyObject *result = NULL, *key, *value;
    Py_ssize_t position = 0;
    Py_XDECREF(name);
    if (module == NULL || !PyModule_Check(module)) {
        Py_XDECREF(module);
        return NULL;
    }
    PyObject *dict = PyModule_GetDict(module);
    while (result == NULL && PyDict_Next(dict, &position, &key, &value)) {
        if (value == type && PyUnicode_CheckExact(key)) {
            result =
                Py_BuildValue("(O(OO))", state->builtins_getattr, module, key);
            break;
        }
    }
    Py_DECREF(module);
    return result;
}

/* type(sys.NAME), or what the table has: a new reference; NULL, perhaps
   without exception. */
static PyObject *
describe(fpk_state *state, PyObject *type)
{
    PyObject *name;
    int found = find_in_sys(NULL, (PyTypeObject *)type, &name);
    if (found != 0) {
        PyObject *value =
            found < 0 ? NULL : PySys_GetObject(PyUnicode_AsUTF8(name));
        Py_XDECREF(name);
        return value == NULL ? NULL
                             : Py_BuildValue("(O(O))", &PyType_Type, value);
    }
    if (state->unnamed_types == NULL) {
        PyObject *table = make_table(state);
        if (table == NULL) {
            return NULL;
        }
        Py_XSETREF(state->unnamed_types, table);
    }
    PyObject *value = PyDict_GetItemWithError(state->unnamed_types, type);
    return value != NULL || PyErr_Occurred() ? Py_XNewRef(value)
                                             : find_in_module(state, type);
}

int
fpk_save_unnamed_type(fpk_encoder *e, PyObject *type)
{
    PyObject *error = fpk_get_raised_exception();
    PyObject *value = describe(e->state, type);
    if (value == NULL) {
        /* What had happened before tells more. */
        PyErr_Clear();
        fpk_set_raised_exception(error);
        return FPK_ERROR;
    }
    Py_XDECREF(error);
    if (!PyUnicode_Check(value)) {
        return fpk_save_value(e, type, value);
    }
    const char *name = PyUnicode_AsUTF8(value);
    PyObject *module = PyUnicode_FromString("_collections_abc");
    int status = name == NULL || module == NULL
                     ? FPK_ERROR
                     : fpk_save_global_as(e, type, module, name);
    Py_XDECREF(module);
    Py_DECREF(value);
    return status;
}

int
fpk_save_of_sys(fpk_encoder *e, PyObject *obj)
{
    PyObject *name;
    int found = find_in_sys(obj, Py_TYPE(obj), &name);
    if (found <= 0) {
        return found < 0 ? FPK_ERROR : fpk_save_by_its_reduction(e, obj);
    }
    int status = FPK_ERROR;
    const char *text = PyUnicode_AsUTF8(name);
    PyObject *module = PyUnicode_FromString("sys");
    if (text != NULL && module != NULL) {
        status = fpk_save_global_as(e, obj, module, text);
    }
    Py_XDECREF(module);
    Py_DECREF(name);
    return status;
}
