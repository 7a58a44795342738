/* calls.c -- small helpers for reductions: names, calls, referents.

   Does:      fetches names of the standard library, stands a call that the
              receiver is to make into the arguments of another, and looks up
              what an object of C holds.
   Owns:      the type of such calls, in the module state.
   Invariant: nothing is imported here that the object at hand has not
              imported already.
   Called by: the files that write one kind of objects each. */
#include "byvalue/room.h"

PyObject *
fpk_new_name(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return NULL;
    }
    PyObject *value = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return value;
}

int
fpk_save_value(fpk_encoder *e, PyObject *obj, PyObject *value)
{
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

PyObject *
fpk_make_call(fpk_state *state, PyObject *callable, PyObject *args)
{
    PyObject *call =
        callable == NULL || args == NULL
            ? NULL
            : PyObject_CallFunction(state->call_type, "((OO))", callable,
                                    args);
    Py_XDECREF(callable);
    Py_XDECREF(args);
    return call;
}

int
fpk_save_call(fpk_encoder *e, PyObject *call)
{
    PyObject *value = PyTuple_GetSlice(call, 0, 2);
    return value == NULL ? FPK_ERROR
                         : fpk_save_reduced(e, call, value, false);
}

static int
collect_referent(PyObject *referent, void *list)
{
    return PyList_Append((PyObject *)list, referent);
}

PyObject *
fpk_referents(PyObject *obj)
{
    PyObject *list = PyList_New(0);
    if (list != NULL && Py_TYPE(obj)->tp_traverse != NULL &&
        Py_TYPE(obj)->tp_traverse(obj, collect_referent, list) != 0) {
        Py_CLEAR(list);
    }
    return list;
}

PyObject *
fpk_first_referent(PyObject *obj)
{
    PyObject *list = fpk_referents(obj);
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        if (PyList_GET_ITEM(list, i) != (PyObject *)Py_TYPE(obj)) {
            result = Py_NewRef(PyList_GET_ITEM(list, i));
            break;
        }
    }
    if (list != NULL && result == NULL) {
        PyErr_Format(PyExc_TypeError, "cannot pickle '%.200s' object",
                     Py_TYPE(obj)->tp_name);
    }
    Py_XDECREF(list);
    return result;
}

int
fpk_init_calls(PyObject *module, fpk_state *state)
{
    state->call_type = PyObject_CallFunction(
        (PyObject *)&PyType_Type, "s(O){s()}", "Call", &PyTuple_Type,
        "__slots__");
    return state->call_type == NULL ? -1 : 0;
}
