/* ufunc.c -- the ufuncs that numpy makes of Python functions.

   Does:      writes what numpy.frompyfunc has made as a call of it with the
              function.
   Owns:      nothing.
   Invariant: numpy is only looked for among the imported modules, and any
              other ufunc keeps its own way, which is its name.
   Called by: encoder, for what has reduced itself to a name that does not lead
              to it. */
#include "byvalue/room.h"

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
                : fpk_make_partial(
                      e->state, Py_NewRef(maker),
                      Py_BuildValue("{sO}", "identity", identity));
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
    PyObject *maker =
        module == NULL ? NULL : PyObject_GetAttrString(module, "frompyfunc");
    PyObject *result = maker != NULL && is_of_function(obj) > 0
                           ? reduce_ufunc(e, obj, maker)
                           : NULL;
    Py_XDECREF(name);
    Py_XDECREF(module);
    Py_XDECREF(maker);
    return result;
}
