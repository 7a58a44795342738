/* portable.c -- what differs between versions of the standard library.

   Does:      writes objects of the standard library whose insides are not the
              same in each version of Python by what is the same; asked for by
              portable=True.
   Owns:      nothing.
   Invariant: nothing here runs in a dump without that option, but for
              handing on to the plain writer.
   Called by: class_plan.c, enum.c, handled.c, namespace.c, rules.c. */
#include "byvalue/room.h"

/* ---- names -------------------------------------------------------------- */

int
fpk_is_of_stdlib(fpk_encoder *e, PyObject *name)
{
    if (!PyUnicode_Check(name)) {
        return 0;
    }
    Py_ssize_t dot =
        PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), 1);
    PyObject *top = dot < 0 ? Py_NewRef(name)
                            : PyUnicode_Substring(name, 0, dot);
    if (top == NULL) {
        return -1;
    }
    int found = PySequence_Contains(e->state->stdlib_names, top);
    Py_DECREF(top);
    return found;
}

/* Classes that dataclasses and enum completed have private functions of theirs
   in their dict: __replace__ since Python 3.13, for one. */
bool
fpk_is_unportable_name(PyObject *function)
{
    PyFunctionObject *f = (PyFunctionObject *)function;
    if (f->func_module == NULL || !PyUnicode_Check(f->func_module) ||
        !PyUnicode_Check(f->func_qualname) ||
        PyUnicode_GET_LENGTH(f->func_qualname) == 0 ||
        PyUnicode_READ_CHAR(f->func_qualname, 0) != '_') {
        return false;
    }
    return PyUnicode_CompareWithASCIIString(f->func_module, "dataclasses") ==
               0 ||
           PyUnicode_CompareWithASCIIString(f->func_module, "enum") == 0;
}

/* ---- protocols ---------------------------------------------------------- */

/* What typing.runtime_checkable() leaves in a class is not the same in all
   versions: the receiver calls its own, once the class is complete. */
int
fpk_plan_protocol(fpk_class_job *job)
{
    static const char noted[] = "__non_callable_proto_members__";
    PyObject *mark =
        PyDict_GetItemString(job->members, "_is_runtime_protocol");
    job->runtime_checkable = mark == Py_True;
    return !job->runtime_checkable ||
                   PyDict_GetItemString(job->members, noted) == NULL
               ? 0
               : PyDict_DelItemString(job->members, noted);
}

int
fpk_make_runtime_checkable(fpk_encoder *e, PyObject *cls)
{
    if (fpk_save_global_as(e, NULL, e->state->str.typing,
                           "runtime_checkable") < 0 ||
        fpk_recall(e, cls) < 0 || fpk_end_tuple(e, 1) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* ---- enumerations ------------------------------------------------------- */

/* EnumType finds members whose values have no hash in lists, and each version
   has more of them than the one before. */
int
fpk_add_enum_lists(PyObject *members, PyObject *by_name)
{
    int status = -1;
    PyObject *hashable = PyList_New(0), *unhashable = PyList_New(0);
    PyObject *by_value = PyDict_New();
    PyObject *name, *member, *value = NULL;
    Py_ssize_t position = 0;
    if (hashable == NULL || unhashable == NULL || by_value == NULL) {
        goto done;
    }
    while (PyDict_Next(by_name, &position, &name, &member)) {
        Py_XSETREF(value, PyObject_GetAttrString(member, "_value_"));
        if (value == NULL) {
            goto done;
        }
        if (PyObject_Hash(value) != -1) {
            if (PyList_Append(hashable, value) < 0) {
                goto done;
            }
            continue;
        }
        /* EnumType does not ask why there is no hash either. */
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            goto done;
        }
        PyErr_Clear();
        PyObject *one = Py_BuildValue("[O]", value);
        int failed = one == NULL || PyList_Append(unhashable, value) < 0 ||
                     PyDict_SetItem(by_value, name, one) < 0;
        Py_XDECREF(one);
        if (failed) {
            goto done;
        }
    }
    static const char *const names[] = {
        "_hashable_values_",
        "_unhashable_values_",
        "_unhashable_values_map_",
    };
    PyObject *const values[] = {hashable, unhashable, by_value};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (PyDict_GetItemString(members, names[i]) == NULL &&
            PyDict_SetItemString(members, names[i], values[i]) < 0) {
            goto done;
        }
    }
    status = 0;
done:
    Py_XDECREF(value);
    Py_XDECREF(hashable);
    Py_XDECREF(unhashable);
    Py_XDECREF(by_value);
    return status;
}

/* ---- objects ------------------------------------------------------------ */

/* Adds attribute [from] of [obj] to [kwargs] as [to]; 0 or -1. */
static int
copy_attribute(PyObject *kwargs, PyObject *obj, const char *from,
               const char *to)
{
    PyObject *value = PyObject_GetAttrString(obj, from);
    int status =
        value == NULL ? -1 : PyDict_SetItemString(kwargs, to, value);
    Py_XDECREF(value);
    return status;
}

PyObject *
fpk_make_partial(const fpk_state *state, PyObject *callable, PyObject *kwargs)
{
    PyObject *args = callable == NULL ? NULL : PyTuple_Pack(1, callable);
    PyObject *result =
        args == NULL || kwargs == NULL
            ? NULL
            : PyObject_Call(state->functools_partial, args, kwargs);
    Py_XDECREF(args);
    Py_XDECREF(callable);
    Py_XDECREF(kwargs);
    return result;
}

/* The parameters of dataclass() that all versions know; those that came later
   have done their work.

       getattr(partial(make_dataclass, ...)("C", ()), "__dataclass_params__")
 */
int
fpk_save_dataclass_params(fpk_encoder *e, PyObject *obj)
{
    static const char *const names[] = {
        "init", "repr", "eq", "order", "unsafe_hash", "frozen",
    };
    if (!e->portable) {
        return fpk_save_slotted(e, obj);
    }
    PyObject *kwargs = PyDict_New();
    if (kwargs == NULL) {
        return FPK_ERROR;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (copy_attribute(kwargs, obj, names[i], names[i]) < 0) {
            Py_DECREF(kwargs);
            return FPK_ERROR;
        }
    }
    PyObject *cls = fpk_make_call(
        e->state,
        fpk_make_partial(e->state,
                         fpk_new_name("dataclasses", "make_dataclass"),
                         kwargs),
        Py_BuildValue("(s())", "C"));
    return fpk_save_value(
        e, obj,
        cls == NULL ? NULL
                    : Py_BuildValue("(O(Ns))", e->state->builtins_getattr, cls,
                                    "__dataclass_params__"));
}

/* A ForwardRef holds code, which a new one compiles again. */
int
fpk_save_forward_reference(fpk_encoder *e, PyObject *obj)
{
    if (!e->portable) {
        return fpk_save_slotted(e, obj);
    }
    PyObject *kwargs = PyDict_New();
    if (kwargs == NULL ||
        copy_attribute(kwargs, obj, "__forward_arg__", "arg") < 0 ||
        copy_attribute(kwargs, obj, "__forward_is_argument__",
                       "is_argument") < 0 ||
        copy_attribute(kwargs, obj, "__forward_is_class__", "is_class") < 0 ||
        copy_attribute(kwargs, obj, "__forward_module__", "module") < 0) {
        Py_XDECREF(kwargs);
        return FPK_ERROR;
    }
    PyObject *partial = fpk_make_partial(
        e->state, Py_NewRef((PyObject *)Py_TYPE(obj)), kwargs);
    return fpk_save_value(
        e, obj, partial == NULL ? NULL : Py_BuildValue("(N())", partial));
}

/* P.args or P.kwargs. */
int
fpk_save_parameter_part(fpk_encoder *e, PyObject *obj)
{
    if (!e->portable) {
        return fpk_save_slotted(e, obj);
    }
    const char *type = Py_TYPE(obj)->tp_name;
    size_t length = strlen(type);
    bool is_args = length >= 4 && strcmp(type + length - 4, "Args") == 0;
    PyObject *origin = PyObject_GetAttrString(obj, "__origin__");
    return fpk_save_value(
        e, obj,
        origin == NULL ? NULL
                       : Py_BuildValue("(O(Ns))", e->state->builtins_getattr,
                                       origin, is_args ? "args" : "kwargs"));
}
