/* class_plan.c -- how a class is to be made at the receiver.

   Does:      chooses the callable that makes the class, and finds out what
              must not happen again when it is called.
   Owns:      nothing; the answers are in the job.
   Invariant: code of classes that travel by value is not run to make them.
   Called by: class.c, once for each class. */
#include "byvalue/room.h"

PyObject *
fpk_find_in_mro(PyTypeObject *type, PyObject *name, Py_ssize_t *i)
{
    PyObject *mro = type->tp_mro;
    for (; *i < PyTuple_GET_SIZE(mro); ++*i) {
        PyObject *dict =
            fpk_type_dict((PyTypeObject *)PyTuple_GET_ITEM(mro, *i));
        PyObject *value =
            dict == NULL
                ? NULL
                : Py_XNewRef(PyDict_GetItemWithError(dict, name));
        Py_XDECREF(dict);
        if (value != NULL || PyErr_Occurred()) {
            return value;
        }
    }
    return NULL;
}

int
fpk_tells_name(fpk_encoder *e, PyObject *value)
{
    Py_ssize_t i = 0;
    PyObject *method =
        fpk_find_in_mro(Py_TYPE(value), e->state->str.__set_name__, &i);
    Py_XDECREF(method);
    return method != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* ---- code of importable classes ----------------------------------------- */

/* What is behind a class or static method: borrowed from [value]. */
static PyObject *
unwrap(PyObject *value)
{
    if (!Py_IS_TYPE(value, &PyClassMethod_Type) &&
        !Py_IS_TYPE(value, &PyStaticMethod_Type)) {
        return value;
    }
    PyObject *function = PyObject_GetAttrString(value, "__func__");
    Py_XDECREF(function); /* the wrapper has it */
    return function;
}

/* 1 if [function]'s module is of the standard library. */
static int
is_of_stdlib(fpk_encoder *e, PyObject *function)
{
    PyObject *module = ((PyFunctionObject *)function)->func_module;
    return module == NULL ? 0 : fpk_is_of_stdlib(e, module);
}

static bool
is_of_module(PyObject *function, const char *name)
{
    PyObject *module = ((PyFunctionObject *)function)->func_module;
    return module != NULL && PyUnicode_Check(module) &&
           PyUnicode_CompareWithASCIIString(module, name) == 0;
}

bool
fpk_needs_more_arguments(PyObject *function, Py_ssize_t given)
{
    PyFunctionObject *f = (PyFunctionObject *)function;
    PyCodeObject *code = (PyCodeObject *)f->func_code;
    Py_ssize_t defaults =
        f->func_defaults == NULL ? 0 : PyTuple_GET_SIZE(f->func_defaults);
    Py_ssize_t keywords =
        f->func_kwdefaults == NULL || !PyDict_Check(f->func_kwdefaults)
            ? 0
            : PyDict_GET_SIZE(f->func_kwdefaults);
    return code->co_argcount - defaults > given ||
           code->co_kwonlyargcount > keywords;
}

int
fpk_is_inherited(PyObject *cls, PyObject *key, PyObject *value)
{
    Py_ssize_t i = 1;
    PyObject *own = Py_XNewRef(unwrap(value));
    PyObject *found =
        own == NULL ? NULL : fpk_find_in_mro((PyTypeObject *)cls, key, &i);
    int answer = PyErr_Occurred() ? -1 : 0;
    if (found != NULL) {
        PyObject *inherited = unwrap(found);
        answer = inherited == NULL ? -1 : inherited == own;
        Py_DECREF(found);
    }
    Py_XDECREF(own);
    return answer;
}

/* True if all that [function] does when it makes a class is in the class,
   though it is not of the standard library.  pydantic builds what validates
   its models, all of it attributes, from members that are gone by then. */
static bool
is_known_inert(PyObject *function)
{
    return is_of_module(function, "pydantic._internal._model_construction");
}

/* What to do with code that would run when the class is made. */
enum rerun {
    RERUN_ERROR = -1,
    RERUN_HARMLESS, /* let it: what it does is known to be the same again */
    RERUN_RESET,    /* let it, and set the class's members again */
    RERUN_NEVER,
};

/* [value] is what a class that goes by name has as __init_subclass__, or a
   metaclass as __new__ or __init__. */
static enum rerun
judge_code(fpk_encoder *e, PyObject *value, int given)
{
    PyObject *function = unwrap(value);
    if (function == NULL) {
        return RERUN_ERROR;
    }
    if (!PyFunction_Check(function)) {
        return Py_IS_TYPE(function, &PyCFunction_Type) ||
                       Py_IS_TYPE(function, &PyWrapperDescr_Type) ||
                       Py_IS_TYPE(function, &PyMethodDescr_Type) ||
                       Py_IS_TYPE(function, &PyClassMethodDescr_Type)
                   ? RERUN_HARMLESS
                   : RERUN_RESET;
    }
    int of_stdlib = is_of_stdlib(e, function);
    if (of_stdlib < 0) {
        return RERUN_ERROR;
    }
    if (!of_stdlib) {
        return is_known_inert(function) ||
                       fpk_needs_more_arguments(function, given)
                   ? RERUN_NEVER
                   : RERUN_RESET;
    }
    /* Here too: what takes keywords may have had some. */
    PyCodeObject *code =
        (PyCodeObject *)((PyFunctionObject *)function)->func_code;
    bool harmless =
        is_of_module(function, "abc") || is_of_module(function, "enum") ||
        (is_of_module(function, "typing") && code->co_argcount <= given &&
         code->co_kwonlyargcount == 0);
    return harmless ? RERUN_HARMLESS : RERUN_NEVER;
}

/* ---- the callable ------------------------------------------------------- */

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

/* What the metaclass [type] runs when it makes a class, beginning with number
   [first] of its mro. */
static enum rerun
judge_metaclass(fpk_encoder *e, PyTypeObject *type, Py_ssize_t first)
{
    PyObject *names[] = {e->state->str.__new__, e->state->str.__init__};
    enum rerun worst = RERUN_HARMLESS;
    for (size_t k = 0; k < Py_ARRAY_LENGTH(names); k++) {
        Py_ssize_t i = first;
        PyObject *value = fpk_find_in_mro(type, names[k], &i);
        if (value == NULL) {
            return RERUN_ERROR;
        }
        enum rerun answer = judge_code(e, value, 4);
        Py_DECREF(value);
        if (answer == RERUN_ERROR) {
            return answer;
        }
        worst = answer > worst ? answer : worst;
    }
    return worst;
}

/* A __new__ above [metaclass] that may be called for its classes; those that
   travel by value, and those that want keywords, have done their work at the
   sender. */
static PyObject *
find_inherited_new(fpk_encoder *e, PyTypeObject *metaclass, bool *reruns)
{
    PyObject *mro = metaclass->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        int by_value = fpk_goes_by_value(e, base);
        if (by_value < 0) {
            return NULL;
        }
        if (by_value) {
            continue;
        }
        Py_ssize_t from = i;
        PyObject *value =
            fpk_find_in_mro(metaclass, e->state->str.__new__, &from);
        enum rerun answer =
            value == NULL ? RERUN_ERROR : judge_code(e, value, 4);
        Py_XDECREF(value);
        if (answer == RERUN_ERROR) {
            return NULL;
        }
        if (answer != RERUN_NEVER) {
            *reruns = answer == RERUN_RESET;
            return PyObject_GetAttr(base, e->state->str.__new__);
        }
        i = from;
    }
    return Py_NewRef(e->state->type_new);
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
    int is_enum = fpk_is_enum(e->state, cls);
    int by_value = fpk_goes_by_value(e, (PyObject *)metaclass);
    if (is_enum < 0 || by_value < 0) {
        return -1;
    }
    enum rerun rerun = by_value || is_enum
                           ? RERUN_NEVER
                           : judge_metaclass(e, metaclass, 0);
    if (rerun == RERUN_ERROR) {
        return -1;
    }
    job->needs_metaclass = true;
    job->arguments = 4;
    if (is_enum) {
        job->creator = Py_NewRef(e->state->type_new);
        return fpk_plan_enum(e, job, cls);
    }
    if (rerun == RERUN_NEVER) {
        job->creator = find_inherited_new(e, metaclass, &job->reruns);
    }
    else if (overrides_prepare((PyObject *)metaclass)) {
        job->reruns = rerun == RERUN_RESET;
        job->creator = Py_NewRef(e->state->types_new_class);
    }
    else {
        job->reruns = rerun == RERUN_RESET;
        job->needs_metaclass = false;
        job->arguments = 3;
        job->creator = Py_NewRef((PyObject *)metaclass);
    }
    return job->creator == NULL ? -1 : 0;
}

/* __init_subclass__ of a base that travels by value has left its traces in
   what travels: it must not run again.  That of an importable base has to, as
   that base knows nothing of the class at the receiver; but the keywords that
   it had are gone, and what the standard library's do is all in the class. */
static int
plan_init_subclass(fpk_encoder *e, fpk_class_job *job, PyTypeObject *type)
{
    PyObject *name = e->state->str.__init_subclass__;
    bool first = true;
    for (Py_ssize_t i = 1;; i++) {
        PyObject *value = fpk_find_in_mro(type, name, &i);
        if (value == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        PyObject *base = PyTuple_GET_ITEM(type->tp_mro, i);
        int by_value = base == (PyObject *)&PyBaseObject_Type
                           ? 0
                           : fpk_goes_by_value(e, base);
        enum rerun answer =
            first && !by_value ? judge_code(e, value, 1) : RERUN_HARMLESS;
        Py_DECREF(value);
        if (by_value < 0 || answer == RERUN_ERROR) {
            return -1;
        }
        if (by_value || answer == RERUN_NEVER) {
            job->quiet = true;
        }
        else if (answer == RERUN_RESET) {
            /* The members of an enumeration need their class first. */
            job->quiet = job->quiet || job->enumeration != NULL;
            job->reruns = job->enumeration == NULL;
        }
        first = false;
    }
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
    if (result != NULL && e->canonical != NULL) {
        Py_SETREF(result, fpk_canonical_items(e, result));
    }
    return result;
}

/* What a class knows of its place in the file, and in an order that changes
   from process to process: the same everywhere in a deterministic dump. */
static int
normalise_members(fpk_encoder *e, PyObject *members)
{
    static const char *const names[] = {"__firstlineno__",
                                        "__static_attributes__"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *name = PyUnicode_InternFromString(names[i]);
        PyObject *value = NULL;
        int status =
            name == NULL ? -1 : PyDict_GetItemRef(members, name, &value);
        if (status > 0) {
            Py_SETREF(value, fpk_normalise_constant(e, name, value));
            status =
                value == NULL ? -1 : PyDict_SetItem(members, name, value);
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

/* A class that SQLAlchemy has mapped holds the mapper's state of this process,
   with weak references, events and locks: a copy would be half of it. */
static int
refuse_mapped_class(fpk_encoder *e, PyObject *members, PyObject *cls)
{
    int mapped = PyDict_Contains(members, e->state->str._sa_class_manager);
    if (mapped > 0) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R by value: SQLAlchemy has mapped it",
                     cls);
    }
    return mapped == 0 ? 0 : -1;
}

int
fpk_plan_class(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    PyObject *dict = fpk_type_dict((PyTypeObject *)cls);
    job->members = dict == NULL ? NULL : PyDict_Copy(dict);
    job->functions = PyList_New(0);
    Py_XDECREF(dict);
    if (job->members == NULL || job->functions == NULL ||
        refuse_mapped_class(e, job->members, cls) < 0 ||
        (e->canonical != NULL && normalise_members(e, job->members) < 0) ||
        (e->portable && fpk_plan_protocol(job) < 0) ||
        choose_creator(e, job, cls) < 0) {
        return -1;
    }
    int by_setattr = needs_setattr(e, cls);
    int is_abstract =
        PyDict_Contains(job->members, e->state->str._abc_impl);
    if (by_setattr < 0 || is_abstract < 0 ||
        plan_init_subclass(e, job, (PyTypeObject *)cls) < 0) {
        return -1;
    }
    job->by_setattr = by_setattr;
    job->updates =
        e->isolated && job->enumeration == NULL && !job->prepared;
    if (is_abstract) {
        job->virtual_subclasses = find_virtual_subclasses(e, cls);
        if (job->virtual_subclasses == NULL) {
            return -1;
        }
    }
    return 0;
}
