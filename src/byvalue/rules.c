/* rules.c -- by reference or by value?

   Does:      decides for functions, classes and whatever else has a module
              and a qualified name, and sends it the one way or the other.
   Owns:      nothing.
   Invariant: by value exactly if the receiver could not import it: __main__,
              names that no attribute can have (<locals>, <lambda>), registered
              modules, and names that lead elsewhere.  What C made has no value
              to send: it goes by name, or fails as in the standard module.
   Called by: driver.c through the table; class.c, handled.c.

   The common case is an importable function, which must cost no more than the
   look-up of its name: fpk_save_global is simply tried, and only its failure
   asks whether the name leads to the object. */
#include "byvalue/room.h"

/* ---- the rules ---------------------------------------------------------- */

/* 1 if the first of the names in [qualname] is in the set [names], 0 or -1. */
static int
has_first_name(PyObject *names, PyObject *qualname)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(qualname);
    Py_ssize_t dot = PyUnicode_FindChar(qualname, '.', 0, length, 1);
    PyObject *first = PyUnicode_Substring(qualname, 0, dot < 0 ? length : dot);
    int found = first == NULL ? -1 : PySet_Contains(names, first);
    Py_XDECREF(first);
    return found;
}

/* 1 if a receiver that can import the main module's [qualname] is announced
   and the name leads to [obj]. */
static int
is_shared_main(fpk_encoder *e, PyObject *obj, PyObject *module,
               PyObject *qualname)
{
    if (e->main_names == NULL) {
        return 0;
    }
    int found = has_first_name(e->main_names, qualname);
    return found <= 0 ? found : fpk_resolves_to(e, obj, module, qualname);
}

/* A module that cannot be imported is looked for once in a dump, because the
   search for it is slow. */
static int
is_known_missing(fpk_encoder *e, PyObject *module)
{
    const fpk_context *c = e->byvalue;
    return c == NULL || c->missing_modules == NULL
               ? 0
               : PySet_Contains(c->missing_modules, module);
}

/* Notes that [module] was looked for and is still not imported: 1, 0 if it is,
   -1 on error. */
static int
note_missing(fpk_encoder *e, PyObject *module)
{
    PyObject *found = PyImport_GetModule(module);
    if (found != NULL) {
        Py_DECREF(found);
        return 0;
    }
    fpk_context *c = PyErr_Occurred() ? NULL : fpk_get_context(e);
    if (c == NULL) {
        return -1;
    }
    if (c->missing_modules == NULL) {
        c->missing_modules = PySet_New(NULL);
    }
    return c->missing_modules == NULL ||
                   PySet_Add(c->missing_modules, module) < 0
               ? -1
               : 1;
}

enum verdict { RULE_ERROR = -1, RULE_BY_NAME, RULE_BY_VALUE, RULE_TRY_NAME };

/* 1 if no attribute has the name [qualname], as with <locals> and <lambda>. */
static bool
is_no_name(PyObject *qualname)
{
    return PyUnicode_FindChar(qualname, '<', 0, PyUnicode_GET_LENGTH(qualname),
                              1) >= 0;
}

/* What can be told without looking the name up. */
static enum verdict
judge_name(fpk_encoder *e, PyObject *obj, PyObject *module, PyObject *qualname)
{
    if (module == e->state->str.__main__ ||
        PyUnicode_Compare(module, e->state->str.__main__) == 0) {
        int shared = is_shared_main(e, obj, module, qualname);
        return shared < 0   ? RULE_ERROR
               : shared > 0 ? RULE_BY_NAME
                            : RULE_BY_VALUE;
    }
    if (is_no_name(qualname)) {
        return RULE_BY_VALUE;
    }
    int registered = fpk_is_registered(e, module);
    if (registered != 0) {
        return registered < 0 ? RULE_ERROR : RULE_BY_VALUE;
    }
    int missing = is_known_missing(e, module);
    if (missing == 0) {
        missing = fpk_is_made_here(e, module);
    }
    return missing < 0   ? RULE_ERROR
           : missing > 0 ? RULE_BY_VALUE
                         : RULE_TRY_NAME;
}

/* A search of all modules takes as long as it takes to write some functions.
   After this many in a dump, the names that they have are gathered. */
#define MAX_SEARCHES 16

static PyObject *
gather_names(fpk_encoder *e)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *main = PyDict_GetItemWithError(modules, e->state->str.__main__);
    PyObject *values = PyErr_Occurred() ? NULL : PyDict_Values(modules);
    PyObject *names = values == NULL ? NULL : PySet_New(NULL);
    for (Py_ssize_t i = 0; names != NULL && i < PyList_GET_SIZE(values); i++) {
        PyObject *module = PyList_GET_ITEM(values, i);
        PyObject *done = PyModule_Check(module) && module != main
                             ? PyObject_CallMethod(names, "update", "O",
                                                   PyModule_GetDict(module))
                             : Py_NewRef(Py_None);
        if (done == NULL) {
            Py_CLEAR(names);
        }
        Py_XDECREF(done);
    }
    Py_XDECREF(values);
    return names;
}

/* 0 if no module has what [qualname] begins with, 1 if one may, or -1. */
static int
is_worth_a_search(fpk_encoder *e, PyObject *qualname)
{
    fpk_context *c = fpk_get_context(e);
    if (c == NULL) {
        return -1;
    }
    if (c->searches < MAX_SEARCHES) {
        c->searches++;
        return 1;
    }
    if (c->names_of_modules == NULL) {
        c->names_of_modules = gather_names(e);
    }
    return c->names_of_modules == NULL
               ? -1
               : has_first_name(c->names_of_modules, qualname);
}

/* What does not say where it lives goes by the name of a module that has it,
   as in the standard module. */
static enum verdict
judge_homeless(fpk_encoder *e, PyObject *obj, PyObject *qualname)
{
    if (is_no_name(qualname)) {
        return RULE_BY_VALUE;
    }
    Py_INCREF(qualname); /* modules may run code when they are asked */
    PyObject *home = is_worth_a_search(e, qualname) > 0
                         ? fpk_find_home(e, obj, qualname)
                         : NULL;
    enum verdict verdict = home == NULL
                               ? PyErr_Occurred() ? RULE_ERROR : RULE_BY_VALUE
                               : judge_name(e, obj, home, qualname);
    Py_XDECREF(home);
    Py_DECREF(qualname);
    return verdict == RULE_TRY_NAME ? RULE_BY_NAME : verdict;
}

static enum verdict
judge(fpk_encoder *e, PyObject *obj, PyObject *module, PyObject *qualname)
{
    if (qualname == NULL || !PyUnicode_Check(qualname)) {
        return RULE_BY_VALUE;
    }
    if (module == NULL || module == Py_None) {
        return judge_homeless(e, obj, qualname);
    }
    return PyUnicode_Check(module) ? judge_name(e, obj, module, qualname)
                                   : RULE_BY_VALUE;
}

/* 1 if module.qualname is not [obj], 0 if it is, -1 on error. */
static int
leads_elsewhere(fpk_encoder *e, PyObject *obj, PyObject *module,
                PyObject *qualname)
{
    int resolves = fpk_resolves_to(e, obj, module, qualname);
    if (resolves != 0) {
        return resolves < 0 ? -1 : 0;
    }
    return note_missing(e, module) < 0 ? -1 : 1;
}

int
fpk_named_goes_by_value(fpk_encoder *e, PyObject *obj, PyObject *module,
                        PyObject *qualname)
{
    if (!e->by_value) {
        return 0;
    }
    enum verdict verdict = judge(e, obj, module, qualname);
    if (verdict != RULE_TRY_NAME) {
        return (int)verdict;
    }
    return leads_elsewhere(e, obj, module, qualname);
}

/* ---- where functions and classes live ----------------------------------- */

bool
fpk_is_python_class(fpk_state *state, PyTypeObject *type)
{
    return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 &&
           (type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) == 0 &&
           type->tp_dealloc ==
               ((PyTypeObject *)state->some_python_class)->tp_dealloc;
}

/* The __module__ of a class made in Python, borrowed; NULL if it has none. */
static PyObject *
class_module(fpk_encoder *e, PyTypeObject *type)
{
    PyObject *dict = fpk_type_dict(type);
    if (dict == NULL) {
        return NULL;
    }
    PyObject *module = PyDict_GetItemWithError(dict, e->state->str.__module__);
    Py_DECREF(dict);
    return module;
}

static enum verdict
judge_function(fpk_encoder *e, PyObject *obj)
{
    if (FPK_UNLIKELY(e->portable) && fpk_is_unportable_name(obj)) {
        return RULE_BY_VALUE;
    }
    return judge(e, obj, ((PyFunctionObject *)obj)->func_module,
                 ((PyFunctionObject *)obj)->func_qualname);
}

static enum verdict
judge_class(fpk_encoder *e, PyObject *obj)
{
    PyTypeObject *type = (PyTypeObject *)obj;
    if (!fpk_is_python_class(e->state, type)) {
        return RULE_BY_NAME;
    }
    PyObject *module = class_module(e, type);
    if (module == NULL && PyErr_Occurred()) {
        return RULE_ERROR;
    }
    return judge(e, obj, module, ((PyHeapTypeObject *)obj)->ht_qualname);
}

int
fpk_goes_by_value(fpk_encoder *e, PyObject *obj)
{
    if (!e->by_value) {
        return 0;
    }
    enum verdict verdict =
        PyType_Check(obj) ? judge_class(e, obj) : judge_function(e, obj);
    if (verdict != RULE_TRY_NAME) {
        return (int)verdict;
    }
    if (PyType_Check(obj)) {
        return leads_elsewhere(e, obj, class_module(e, (PyTypeObject *)obj),
                               ((PyHeapTypeObject *)obj)->ht_qualname);
    }
    return leads_elsewhere(e, obj, ((PyFunctionObject *)obj)->func_module,
                           ((PyFunctionObject *)obj)->func_qualname);
}

int
fpk_belongs_to_stream(fpk_encoder *e, PyObject *function)
{
    if (!e->by_value || !PyFunction_Check(function)) {
        return 0;
    }
    enum verdict verdict = judge_function(e, function);
    return verdict == RULE_ERROR ? -1 : verdict == RULE_BY_VALUE;
}

/* ---- sending ------------------------------------------------------------ */

/* By name if that works; *[by_value] tells that the name does not lead to
   [obj] and nothing was written. */
static int
try_by_name(fpk_encoder *e, PyObject *obj, bool *by_value)
{
    *by_value = false;
    int status = fpk_save_global(e, obj, NULL);
    if (status >= 0 || !PyErr_ExceptionMatches(PyExc_Exception)) {
        return status;
    }
    PyObject *error = fpk_get_raised_exception();
    PyObject *module = PyType_Check(obj)
                           ? class_module(e, (PyTypeObject *)obj)
                           : ((PyFunctionObject *)obj)->func_module;
    int answer = note_missing(e, module);
    if (answer == 0) {
        answer = fpk_goes_by_value(e, obj);
    }
    if (answer > 0) {
        *by_value = true;
        Py_DECREF(error);
        return FPK_DONE;
    }
    if (answer < 0) {
        PyErr_Clear();
    }
    fpk_set_raised_exception(error);
    return FPK_ERROR;
}

int
fpk_byvalue_save_function(fpk_encoder *e, PyObject *obj)
{
    if (!e->by_value) {
        return fpk_save_global(e, obj, NULL);
    }
    bool by_value;
    int status;
    switch (judge_function(e, obj)) {
    case RULE_BY_VALUE:
        return fpk_save_function_body(e, obj);
    case RULE_BY_NAME:
        return fpk_save_global(e, obj, NULL);
    case RULE_TRY_NAME:
        status = try_by_name(e, obj, &by_value);
        return by_value ? fpk_save_function_body(e, obj) : status;
    default:
        return FPK_ERROR;
    }
}

/* By name; a few types of the interpreter have their name in the types module
   only. */
static int
save_named_class(fpk_encoder *e, PyObject *obj)
{
    PyObject *name = PyDict_GetItemWithError(e->state->type_names, obj);
    if (name == NULL) {
        return PyErr_Occurred() ? FPK_ERROR : fpk_save_global(e, obj, NULL);
    }
    const char *text = PyUnicode_AsUTF8(name);
    return text == NULL
               ? FPK_ERROR
               : fpk_save_global_as(e, obj, e->state->str.types, text);
}

int
fpk_byvalue_save_class(fpk_encoder *e, PyObject *obj)
{
    if (!e->by_value) {
        return fpk_save_global(e, obj, NULL);
    }
    bool by_value = false;
    int status;
    switch (judge_class(e, obj)) {
    case RULE_BY_VALUE:
        return fpk_save_class_body(e, obj);
    case RULE_BY_NAME:
        status = save_named_class(e, obj);
        break;
    case RULE_TRY_NAME:
        status = try_by_name(e, obj, &by_value);
        break;
    default:
        return FPK_ERROR;
    }
    if (by_value) {
        return fpk_save_class_body(e, obj);
    }
    return status < 0 && PyErr_ExceptionMatches(PyExc_Exception) &&
                   !fpk_is_python_class(e->state, (PyTypeObject *)obj)
               ? fpk_save_unnamed_type(e, obj)
               : status;
}

/* ---- init --------------------------------------------------------------- */

/* type -> name for what types names and its own module does not. */
static PyObject *
find_type_names(PyObject *types, PyObject *builtins)
{
    PyObject *result = PyDict_New();
    PyObject *dict = PyModule_GetDict(types);
    Py_ssize_t position = 0;
    PyObject *name, *value;
    while (result != NULL && PyDict_Next(dict, &position, &name, &value)) {
        if (!PyType_Check(value) || !PyUnicode_Check(name) ||
            PyType_HasFeature((PyTypeObject *)value, Py_TPFLAGS_HEAPTYPE)) {
            continue;
        }
        PyObject *module = PyObject_GetAttrString(value, "__module__");
        PyObject *own = PyObject_GetAttrString(value, "__qualname__");
        PyObject *found = NULL;
        if (module == NULL || own == NULL ||
            PyObject_GetOptionalAttr(builtins, own, &found) < 0) {
            Py_CLEAR(result);
        }
        else if (PyUnicode_CompareWithASCIIString(module, "builtins") == 0 &&
                 found != value && PyDict_SetItem(result, value, name) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(module);
        Py_XDECREF(own);
        Py_XDECREF(found);
    }
    return result;
}

int
fpk_init_rules(PyObject *module, fpk_state *state)
{
    int status = -1;
    PyObject *types = PyImport_ImportModule("types");
    PyObject *builtins = PyImport_ImportModule("builtins");
    if (types == NULL || builtins == NULL) {
        goto done;
    }
    state->type_names = find_type_names(types, builtins);
    state->some_python_class =
        PyObject_GetAttrString(types, "DynamicClassAttribute");
    if (state->type_names == NULL || state->some_python_class == NULL) {
        goto done;
    }
    status = 0;
done:
    Py_XDECREF(types);
    Py_XDECREF(builtins);
    return status;
}
