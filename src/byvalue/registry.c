/* registry.c -- modules that travel by value though they could be imported.

   Does:      register_by_value, unregister_by_value, registered_by_value.
   Owns:      nothing; the set of names is in the module state.
   Invariant: the set holds exact str only.
   Called by: Python code; rules.c asks for names. */
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

static PyMethodDef functions[] = {
    {"register_by_value", register_by_value, METH_O, register_doc},
    {"unregister_by_value", unregister_by_value, METH_O, unregister_doc},
    {"registered_by_value", registered_by_value, METH_NOARGS, registered_doc},
    {NULL},
};

/* [name] or one of the packages around it. */
int
fpk_is_registered(fpk_state *state, PyObject *name)
{
    if (PySet_GET_SIZE(state->registered_modules) == 0) {
        return 0;
    }
    int found = PySet_Contains(state->registered_modules, name);
    Py_ssize_t dot = PyUnicode_GET_LENGTH(name);
    while (found == 0 &&
           (dot = PyUnicode_FindChar(name, '.', 0, dot, -1)) > 0) {
        PyObject *package = PyUnicode_Substring(name, 0, dot);
        if (package == NULL) {
            return -1;
        }
        found = PySet_Contains(state->registered_modules, package);
        Py_DECREF(package);
    }
    return found;
}

int
fpk_init_registry(PyObject *module, fpk_state *state)
{
    state->registered_modules = PySet_New(NULL);
    if (state->registered_modules == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
