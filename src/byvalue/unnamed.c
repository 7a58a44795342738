/* unnamed.c -- what the interpreter makes under names that lead elsewhere.

   Does:      writes a type that its own module does not name by another
              module's name for it, or as the type of something that is easily
              made; the values of the sys module whose types have their
              names; the ufuncs that numpy makes of Python functions; and
              named tuples whose __new__ takes something else than the fields.
   Owns:      the table of such types, in the module state.  It is made when
              the first of them is met.
   Invariant: what stands in the table for a type has given it here.
   Called by: rules.c, for what was not found by its name; handled.c; the
              encoder, for what has reduced itself to a name that does not
              lead to it. */
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

/* ---- ufuncs ------------------------------------------------------------- */

/* 1 if [ufunc] is what numpy.frompyfunc makes: it has one loop, over objects,
   and says in its name what it is. */
static int
is_of_function(PyObject *ufunc)
{
    PyObject *types = PyObject_GetAttrString(ufunc, "types");
    PyObject *name = PyObject_GetAttrString(ufunc, "__name__");
    PyObject *ending = PyUnicode_FromString(" (vectorized)");
    int answer = -1;
    if (types == NULL || name == NULL || ending == NULL) {
        goto done;
    }
    answer = 0;
    if (!PyList_CheckExact(types) || PyList_GET_SIZE(types) != 1 ||
        !PyUnicode_Check(PyList_GET_ITEM(types, 0)) ||
        !PyUnicode_Check(name)) {
        goto done;
    }
    PyObject *loop = PyList_GET_ITEM(types, 0);
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(loop); i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(loop, i);
        if (c != 'O' && c != '-' && c != '>') {
            goto done;
        }
    }
    answer = PyUnicode_Tailmatch(name, ending, 0, PY_SSIZE_T_MAX, 1) > 0;
done:
    Py_XDECREF(types);
    Py_XDECREF(name);
    Py_XDECREF(ending);
    return answer;
}

/* frompyfunc(function, nin, nout), with the identity by functools.partial.
   The function is the first thing that the ufunc holds. */
static PyObject *
reduce_ufunc(fpk_encoder *e, PyObject *ufunc, PyObject *maker)
{
    PyObject *function = fpk_first_referent(ufunc);
    PyObject *nin = PyObject_GetAttrString(ufunc, "nin");
    PyObject *nout = PyObject_GetAttrString(ufunc, "nout");
    PyObject *identity = PyObject_GetAttrString(ufunc, "identity");
    PyObject *result = NULL;
    if (function != NULL && nin != NULL && nout != NULL && identity != NULL &&
        PyCallable_Check(function)) {
        PyObject *callable =
            identity == Py_None
                ? Py_NewRef(maker)
                : fpk_make_partial(e->state, Py_NewRef(maker),
                                   Py_BuildValue("{sO}", "identity",
                                                 identity));
        result = callable == NULL ? NULL
                                  : Py_BuildValue("(N(OOO))", callable,
                                                  function, nin, nout);
    }
    Py_XDECREF(function);
    Py_XDECREF(nin);
    Py_XDECREF(nout);
    Py_XDECREF(identity);
    return result;
}

PyObject *
fpk_reduce_unnamed(fpk_encoder *e, PyObject *obj)
{
    if (!e->by_value || strcmp(Py_TYPE(obj)->tp_name, "numpy.ufunc") != 0) {
        return NULL;
    }
    PyObject *name = PyUnicode_FromString("numpy");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    PyObject *maker = module == NULL ? NULL
                                     : PyObject_GetAttrString(module,
                                                              "frompyfunc");
    PyObject *result = maker != NULL && is_of_function(obj) > 0
                           ? reduce_ufunc(e, obj, maker)
                           : NULL;
    Py_XDECREF(name);
    Py_XDECREF(module);
    Py_XDECREF(maker);
    return result;
}

/* ---- named tuples ------------------------------------------------------- */

/* 1 if the class number [i] of [type]'s mro has its _fields. */
static int
has_fields(PyTypeObject *type, Py_ssize_t i)
{
    PyObject *dict =
        fpk_type_dict((PyTypeObject *)PyTuple_GET_ITEM(type->tp_mro, i));
    PyObject *name = PyUnicode_FromString("_fields");
    int answer = dict == NULL || name == NULL ? -1
                                              : PyDict_Contains(dict, name);
    Py_XDECREF(dict);
    Py_XDECREF(name);
    return answer;
}

/* 1 if [type] derives from a named tuple and has another __new__, which need
   not take the fields that __getnewargs__ gives.  The class may have come in a
   stream, with code of its own. */
static int
has_other_new(fpk_encoder *e, PyTypeObject *type)
{
    Py_ssize_t i = 0, j = 0;
    PyObject *function = fpk_find_in_mro(type, e->state->str.__new__, &i);
    Py_XDECREF(function);
    function = function == NULL
                   ? NULL
                   : fpk_find_in_mro(type, e->state->str.__getnewargs__, &j);
    if (function == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_DECREF(function);
    return i < j ? has_fields(type, j) : 0;
}

/* True if [args] are the class of [tuple] and its items. */
static bool
are_items(PyObject *args, PyObject *tuple)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    if (!PyTuple_CheckExact(args) || PyTuple_GET_SIZE(args) != size + 1 ||
        PyTuple_GET_ITEM(args, 0) != (PyObject *)Py_TYPE(tuple)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (PyTuple_GET_ITEM(args, i + 1) != PyTuple_GET_ITEM(tuple, i)) {
            return false;
        }
    }
    return true;
}

/* It is made as protocols 0 and 1 do, by the __new__ of tuple. */
PyObject *
fpk_reduce_tuple(fpk_encoder *e, PyObject *obj, PyObject *value)
{
    PyObject *type = (PyObject *)Py_TYPE(obj);
    if (!e->by_value || !PyTuple_CheckExact(value) ||
        PyTuple_GET_SIZE(value) < 2 ||
        PyTuple_GET_ITEM(value, 0) != e->state->copyreg_newobj ||
        !are_items(PyTuple_GET_ITEM(value, 1), obj)) {
        return value;
    }
    int other = has_other_new(e, Py_TYPE(obj));
    int by_value = other > 0 ? fpk_goes_by_value(e, type) : other;
    if (by_value == 0) {
        return value;
    }
    PyObject *fields =
        by_value < 0 ? NULL
                     : PyTuple_GetSlice(obj, 0, PyTuple_GET_SIZE(obj));
    PyObject *rest = PyTuple_GetSlice(value, 2, PyTuple_GET_SIZE(value));
    PyObject *maker =
        fields == NULL ? NULL : fpk_new_name("copyreg", "_reconstructor");
    PyObject *call = maker == NULL || rest == NULL
                         ? NULL
                         : Py_BuildValue("(O(OOO))", maker, type,
                                         &PyTuple_Type, fields);
    PyObject *result = call == NULL ? NULL : PySequence_Concat(call, rest);
    Py_XDECREF(fields);
    Py_XDECREF(rest);
    Py_XDECREF(maker);
    Py_XDECREF(call);
    Py_DECREF(value);
    return result;
}
