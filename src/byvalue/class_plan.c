/* class_plan.c -- how a class is to be made at the receiver.

   Does:      chooses the callable that makes the class, and finds out what
              must not happen again when it is called.
   Owns:      nothing; the answers are in the job.
   Invariant: code of classes that travel by value is not run to make them.
   Called by: class.c, once for each class. */
#include "byvalue/room.h"

/* Metaclasses whose classes need more than this file knows. */
static int
check_metaclass(fpk_encoder *e, PyObject *cls)
{
    static const struct {
        const char *module;
        const char *name;
        const char *kind;
    } refused[] = {
        {"enum", "EnumMeta", "enumerations"},
        {"typing", "_TypedDictMeta", "TypedDict classes"},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(refused); i++) {
        PyObject *name = PyUnicode_FromString(refused[i].module);
        PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
        Py_XDECREF(name);
        if (module == NULL) {
            if (PyErr_Occurred()) {
                return -1;
            }
            continue;
        }
        PyObject *meta = PyObject_GetAttrString(module, refused[i].name);
        Py_DECREF(module);
        if (meta == NULL) {
            PyErr_Clear();
            continue;
        }
        bool is_refused =
            PyType_Check(meta) &&
            PyType_IsSubtype(Py_TYPE(cls), (PyTypeObject *)meta);
        Py_DECREF(meta);
        if (is_refused) {
            PyErr_Format(e->state->PicklingError,
                         "Can't pickle %R: %s cannot travel by value yet; "
                         "define it in a module that the receiver can import",
                         cls, refused[i].kind);
            return -1;
        }
    }
    return 0;
}

static bool
overrides_prepare(PyObject *metaclass)
{
    PyObject *own = PyObject_GetAttrString(metaclass, "__prepare__");
    PyObject *base =
        PyObject_GetAttrString((PyObject *)&PyType_Type, "__prepare__");
    /* Both are new bound methods of builtins: the functions are compared. */
    bool same = own != NULL && base != NULL && PyCFunction_Check(own) &&
                PyCFunction_Check(base) &&
                PyCFunction_GET_FUNCTION(own) ==
                    PyCFunction_GET_FUNCTION(base);
    Py_XDECREF(own);
    Py_XDECREF(base);
    PyErr_Clear();
    return !same;
}

/* The __new__ of the first class above [metaclass] that goes by name: that of
   the metaclass itself has done its work at the sender. */
static PyObject *
find_inherited_new(fpk_encoder *e, PyTypeObject *metaclass)
{
    PyObject *mro = metaclass->tp_mro;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        int by_value = fpk_goes_by_value(e, base);
        if (by_value < 0) {
            return NULL;
        }
        if (!by_value) {
            return PyObject_GetAttr(base, e->state->str.__new__);
        }
    }
    Py_UNREACHABLE();
}

static int
choose_creator(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    PyTypeObject *metaclass = Py_TYPE(cls);
    job->arguments = 3;
    if (metaclass == &PyType_Type) {
        job->creator = Py_NewRef((PyObject *)&PyType_Type);
        return 0;
    }
    if (check_metaclass(e, cls) < 0) {
        return -1;
    }
    int by_value = fpk_goes_by_value(e, (PyObject *)metaclass);
    if (by_value < 0) {
        return -1;
    }
    if (by_value) {
        job->needs_metaclass = true;
        job->arguments = 4;
        job->creator = find_inherited_new(e, metaclass);
    }
    else if (overrides_prepare((PyObject *)metaclass)) {
        job->needs_metaclass = true;
        job->arguments = 4;
        job->creator = Py_NewRef(e->state->types_new_class);
    }
    else {
        job->creator = Py_NewRef((PyObject *)metaclass);
    }
    return job->creator == NULL ? -1 : 0;
}

/* __init_subclass__ of a base that travels by value has left its traces in
   what travels: it must not run again.  That of an importable base has to, as
   that base knows nothing of the class at the receiver. */
static int
is_quiet(fpk_encoder *e, PyTypeObject *type)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        if (base == (PyObject *)&PyBaseObject_Type) {
            break;
        }
        PyObject *dict = fpk_type_dict((PyTypeObject *)base);
        if (dict == NULL) {
            return -1;
        }
        int has = PyDict_Contains(dict, e->state->str.__init_subclass__);
        Py_DECREF(dict);
        if (has != 0) {
            return has < 0 ? -1 : fpk_goes_by_value(e, base);
        }
    }
    return 0;
}

/* BUILD would call a __setstate__ that is meant for instances. */
static int
needs_setattr(fpk_encoder *e, PyObject *cls)
{
    if (Py_TYPE(cls)->tp_setattro != PyType_Type.tp_setattro) {
        return 1;
    }
    PyObject *method;
    int found =
        PyObject_GetOptionalAttr(cls, e->state->str.__setstate__, &method);
    Py_XDECREF(method);
    return found;
}

/* Classes that were registered with an abstract base class. */
static PyObject *
find_virtual_subclasses(fpk_encoder *e, PyObject *cls)
{
    PyObject *abc = PyImport_ImportModule("_abc");
    PyObject *dump =
        abc == NULL ? NULL
                    : PyObject_CallMethod(abc, "_get_dump", "O", cls);
    Py_XDECREF(abc);
    if (dump == NULL) {
        return NULL;
    }
    PyObject *result = PyList_New(0);
    PyObject *references =
        PyTuple_Check(dump) && PyTuple_GET_SIZE(dump) > 0
            ? PySequence_List(PyTuple_GET_ITEM(dump, 0))
            : PyList_New(0);
    Py_DECREF(dump);
    for (Py_ssize_t i = 0; result != NULL && references != NULL &&
                           i < PyList_GET_SIZE(references);
         i++) {
        PyObject *sub;
        if (fpk_weakref_get(PyList_GET_ITEM(references, i), &sub) > 0) {
            if (PyList_Append(result, sub) < 0) {
                Py_CLEAR(result);
            }
            Py_DECREF(sub);
        }
    }
    if (references == NULL || PyErr_Occurred()) {
        Py_CLEAR(result);
    }
    Py_XDECREF(references);
    return result;
}

int
fpk_plan_class(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    PyObject *dict = fpk_type_dict((PyTypeObject *)cls);
    job->members = dict == NULL ? NULL : PyDict_Copy(dict);
    job->functions = PyList_New(0);
    Py_XDECREF(dict);
    if (job->members == NULL || job->functions == NULL ||
        choose_creator(e, job, cls) < 0) {
        return -1;
    }
    int quiet = is_quiet(e, (PyTypeObject *)cls);
    int by_setattr = needs_setattr(e, cls);
    int is_abstract =
        PyDict_Contains(job->members, e->state->str._abc_impl);
    if (quiet < 0 || by_setattr < 0 || is_abstract < 0) {
        return -1;
    }
    job->quiet = quiet;
    job->by_setattr = by_setattr;
    if (is_abstract) {
        job->virtual_subclasses = find_virtual_subclasses(e, cls);
        if (job->virtual_subclasses == NULL) {
            return -1;
        }
    }
    return 0;
}
