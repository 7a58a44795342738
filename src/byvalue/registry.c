/* registry.c -- what travels by value though the rules say otherwise.

   Does:      register_by_value, unregister_by_value, registered_by_value; the
              modules that the option by_value names; register and unregister
              for reducers of the user's own.
   Owns:      nothing; the set of names and the reducers are in the module
              state, what an option names in the encoder.
   Invariant: names of modules are exact str.
   Called by: Python code; rules.c asks for names; dump.c through the table of
              the room. */
#include "byvalue/room.h"

/* The name of the module that [arg] is or names: a new reference. */
static PyObject *
module_name(PyObject *arg)
{
    PyObject *name;
    if (PyUnicode_Check(arg)) {
        name = PyUnicode_FromObject(arg);
    }
    else if (PyModule_Check(arg)) {
        name = PyModule_GetNameObject(arg);
        if (name != NULL && !PyUnicode_CheckExact(name)) {
            Py_SETREF(name, PyUnicode_FromObject(name));
        }
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "Input should be a module object, got %R instead", arg);
        return NULL;
    }
    return name;
}

PyDoc_STRVAR(register_doc,
"register_by_value($module, module, /)\n--\n\n"
"Let functions and classes of a module travel inside the stream.\n\n"
"module is an imported module, or its name; its submodules are meant too.\n"
"Raises ValueError if the module is not imported, TypeError if the argument\n"
"is no module.");

static PyObject *
register_by_value(PyObject *self, PyObject *arg)
{
    fpk_state *state = fpk_state_of_module(self);
    PyObject *name = module_name(arg);
    if (name == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    PyObject *module = PyImport_GetModule(name);
    if (module == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError,
                         "%R was not imported correctly, have you used an "
                         "`import` statement to access it?",
                         arg);
        }
    }
    else if (PySet_Add(state->registered_modules, name) == 0) {
        result = Py_NewRef(Py_None);
    }
    Py_XDECREF(module);
    Py_DECREF(name);
    return result;
}

PyDoc_STRVAR(unregister_doc,
"unregister_by_value($module, module, /)\n--\n\n"
"Take back register_by_value(module).\n\n"
"Raises ValueError if the module is not registered, TypeError if the\n"
"argument is no module.");

static PyObject *
unregister_by_value(PyObject *self, PyObject *arg)
{
    fpk_state *state = fpk_state_of_module(self);
    PyObject *name = module_name(arg);
    if (name == NULL) {
        return NULL;
    }
    int found = PySet_Discard(state->registered_modules, name);
    Py_DECREF(name);
    if (found == 0) {
        PyErr_Format(PyExc_ValueError,
                     "%R is not registered for pickle by value", arg);
    }
    return found == 1 ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(registered_doc,
"registered_by_value($module, /)\n--\n\n"
"Return the names of the registered modules, as a new set.");

static PyObject *
registered_by_value(PyObject *self, PyObject *ignored)
{
    return PySet_New(fpk_state_of_module(self)->registered_modules);
}

/* ---- reducers ----------------------------------------------------------- */

PyDoc_STRVAR(set_reducer_doc,
"set_reducer($module, type, reducer, /)\n--\n\n"
"Let reducer(obj) reduce the objects of exactly this type; None takes that\n"
"back. Raises TypeError if the encoder never asks for objects of the type.");

static PyObject *
set_reducer(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    fpk_state *state = fpk_state_of_module(self);
    if (nargs != 2 || !PyType_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "register() needs a type");
        return NULL;
    }
    static PyTypeObject *const direct[] = {
        &PyBool_Type,  &PyBytes_Type,     &PyByteArray_Type, &PyDict_Type,
        &PyFloat_Type, &PyFrozenSet_Type, &PyList_Type,      &PyLong_Type,
        &PySet_Type,   &PyTuple_Type,     &PyUnicode_Type,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(direct); i++) {
        if (args[0] == (PyObject *)direct[i] ||
            args[0] == (PyObject *)Py_TYPE(Py_None)) {
            PyErr_Format(PyExc_TypeError,
                         "%R has opcodes of its own: no reducer is asked",
                         args[0]);
            return NULL;
        }
    }
    if (args[1] != Py_None && !PyCallable_Check(args[1])) {
        PyErr_Format(PyExc_TypeError, "the reducer must be callable, not %R",
                     args[1]);
        return NULL;
    }
    int status;
    if (args[1] != Py_None) {
        status = PyDict_SetItem(state->reducers, args[0], args[1]);
    }
    else {
        status = PyDict_Contains(state->reducers, args[0]);
        if (status > 0) {
            status = PyDict_DelItem(state->reducers, args[0]);
        }
    }
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
    {"register_by_value", register_by_value, METH_O, register_doc},
    {"unregister_by_value", unregister_by_value, METH_O, unregister_doc},
    {"registered_by_value", registered_by_value, METH_NOARGS, registered_doc},
    {"set_reducer", (PyCFunction)(void (*)(void))set_reducer, METH_FASTCALL,
     set_reducer_doc},
    {NULL},
};

/* ---- which modules ------------------------------------------------------ */

/* As an item of by_value: everything but installed packages and the standard
   library.  No module can have this name. */
#define USER_CODE "<user code>"

PyObject *
fpk_parse_modules(fpk_state *state, PyObject *value)
{
    if (PyUnicode_Check(value) || PyModule_Check(value)) {
        PyErr_Format(PyExc_TypeError,
                     "by_value must be a bool or a list of modules and names "
                     "of modules, not %.200s",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(value);
    PyObject *result = iterator == NULL ? NULL : PyDict_New();
    PyObject *item;
    while (result != NULL && (item = PyIter_Next(iterator)) != NULL) {
        PyObject *name = module_name(item);
        Py_DECREF(item);
        if (name == NULL || PyDict_SetItem(result, name, Py_True) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(name);
    }
    Py_XDECREF(iterator);
    if (PyErr_Occurred()) {
        Py_CLEAR(result);
    }
    return result;
}

/* The name of the package that the module called [name] is in: a new
   reference; NULL, perhaps without exception, if it is in none. */
static PyObject *
package_of(PyObject *name)
{
    Py_ssize_t dot =
        PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), -1);
    return dot > 0 ? PyUnicode_Substring(name, 0, dot) : NULL;
}

/* 1 if the path of a module's file is one of an installed package. */
static int
is_installed(PyObject *path)
{
    static const char *const folders[] = {"site-packages", "dist-packages"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(folders); i++) {
        PyObject *folder = PyUnicode_FromString(folders[i]);
        int found = folder == NULL ? -1 : PyUnicode_Contains(path, folder);
        Py_XDECREF(folder);
        if (found != 0) {
            return found;
        }
    }
    return 0;
}

/* 1 if the module called [name] was written neither by the makers of Python
   nor by those of an installed package, nor by us. */
static int
is_user_code(PyObject *name)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, length, 1);
    PyObject *top = PyUnicode_Substring(name, 0, dot < 0 ? length : dot);
    PyObject *known = PySys_GetObject("stdlib_module_names"); /* borrowed */
    if (top == NULL) {
        return -1;
    }
    int found = known == NULL ? 0 : PySequence_Contains(known, top);
    if (found == 0) {
        found = PyUnicode_CompareWithASCIIString(top, "fpickle") == 0;
    }
    Py_DECREF(top);
    if (found != 0) {
        return found < 0 ? -1 : 0;
    }
    PyObject *module = PyImport_GetModule(name);
    PyObject *path = module == NULL || !PyModule_Check(module)
                         ? NULL
                         : PyDict_GetItemString(PyModule_GetDict(module),
                                                "__file__");
    int installed =
        path == NULL || !PyUnicode_Check(path) ? 1 : is_installed(path);
    Py_XDECREF(module);
    return PyErr_Occurred() || installed < 0 ? -1 : !installed;
}

/* The same question for what the option by_value names; the answer is kept. */
static int
is_chosen(PyObject *chosen, PyObject *name)
{
    PyObject *answer = PyDict_GetItemWithError(chosen, name); /* borrowed */
    if (answer != NULL || PyErr_Occurred()) {
        return answer == NULL ? -1 : answer == Py_True;
    }
    int found = 0;
    PyObject *package = package_of(name);
    while (package != NULL && found == 0) {
        answer = PyDict_GetItemWithError(chosen, package);
        found = answer == Py_True;
        Py_SETREF(package, package_of(package));
    }
    Py_XDECREF(package);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (found == 0 && PyDict_GetItemString(chosen, USER_CODE) != NULL) {
        found = is_user_code(name);
    }
    return found < 0 || PyDict_SetItem(chosen, name,
                                       found ? Py_True : Py_False) < 0
               ? -1
               : found;
}

int
fpk_is_registered(fpk_encoder *e, PyObject *name)
{
    PyObject *registered = e->state->registered_modules;
    int found = 0;
    if (PySet_GET_SIZE(registered) > 0) {
        found = PySet_Contains(registered, name);
        PyObject *package = found == 0 ? package_of(name) : NULL;
        while (package != NULL && found == 0) {
            found = PySet_Contains(registered, package);
            Py_SETREF(package, package_of(package));
        }
        Py_XDECREF(package);
        if (found == 0 && PyErr_Occurred()) {
            found = -1;
        }
    }
    return found != 0 || e->by_value_modules == NULL
               ? found
               : is_chosen(e->by_value_modules, name);
}

int
fpk_init_registry(PyObject *module, fpk_state *state)
{
    state->registered_modules = PySet_New(NULL);
    state->reducers = PyDict_New();
    if (state->registered_modules == NULL || state->reducers == NULL ||
        PyModule_AddStringConstant(module, "USER_CODE", USER_CODE) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
