/* values.c -- values of single modules: matches, structs, hashes, pairwise,
   context variables and contexts.

   Does:      writes each as calls of its own module that make an equal one.
   Owns:      nothing.
   Invariant: a call is only written after it was seen here to give the same;
              what nothing gives is refused.
   Called by: handled.c. */
#include "byvalue/room.h"

/* ---- re.Match ----------------------------------------------------------- */

/* 1 if [other] found what [regs] describes, 0 if not, -1 on error. */
static int
has_regs(PyObject *other, PyObject *regs)
{
    if (other == Py_None) {
        return 0;
    }
    PyObject *own = PyObject_GetAttrString(other, "regs");
    int same = own == NULL ? -1 : PyObject_RichCompareBool(own, regs, Py_EQ);
    Py_XDECREF(own);
    return same;
}

/* The reduction by the first method of the pattern that finds the same; NULL,
   perhaps without exception. */
static PyObject *
reduce_by_method(PyObject *pattern, PyObject *args, PyObject *regs)
{
    static const char *const methods[] = {"match", "search", "fullmatch"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(methods); i++) {
        PyObject *method = PyObject_GetAttrString(pattern, methods[i]);
        PyObject *found =
            method == NULL ? NULL : PyObject_CallObject(method, args);
        int same = found == NULL ? -1 : has_regs(found, regs);
        PyObject *value = same > 0 ? PyTuple_Pack(2, method, args) : NULL;
        Py_XDECREF(method);
        Py_XDECREF(found);
        if (same != 0) {
            return value;
        }
    }
    return NULL;
}

/* list(pattern.finditer(*args))[n] */
static PyObject *
reduce_by_finditer(fpk_state *state, PyObject *pattern, PyObject *args,
                   PyObject *regs)
{
    PyObject *result = NULL;
    PyObject *method = PyObject_GetAttrString(pattern, "finditer");
    PyObject *found =
        method == NULL ? NULL : PyObject_CallObject(method, args);
    PyObject *list = found == NULL ? NULL : PySequence_List(found);
    int same = list == NULL ? -1 : 0;
    Py_ssize_t i = 0;
    while (same == 0 && i < PyList_GET_SIZE(list)) {
        same = has_regs(PyList_GET_ITEM(list, i++), regs);
    }
    if (same > 0) {
        PyObject *iterator = fpk_make_call(state, Py_NewRef(method),
                                           Py_NewRef(args));
        PyObject *all =
            iterator == NULL
                ? NULL
                : fpk_make_call(state, Py_NewRef((PyObject *)&PyList_Type),
                                PyTuple_Pack(1, iterator));
        Py_XDECREF(iterator);
        result = all == NULL ? NULL
                             : Py_BuildValue("(O(Nn))",
                                             state->operator_getitem, all,
                                             i - 1);
    }
    Py_XDECREF(method);
    Py_XDECREF(found);
    Py_XDECREF(list);
    return result;
}

int
fpk_save_match(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL, *args = NULL;
    PyObject *pattern = PyObject_GetAttrString(obj, "re");
    PyObject *string = PyObject_GetAttrString(obj, "string");
    PyObject *pos = PyObject_GetAttrString(obj, "pos");
    PyObject *end = PyObject_GetAttrString(obj, "endpos");
    PyObject *regs = PyObject_GetAttrString(obj, "regs");
    if (pattern != NULL && string != NULL && pos != NULL && end != NULL &&
        regs != NULL && (args = PyTuple_Pack(3, string, pos, end)) != NULL) {
        value = reduce_by_method(pattern, args, regs);
        if (value == NULL && !PyErr_Occurred()) {
            value = reduce_by_finditer(e->state, pattern, args, regs);
        }
        if (value == NULL && !PyErr_Occurred()) {
            (void)fpk_refuse(e, obj, "no search of its pattern finds the "
                                     "same again. Send m.group() or m.span()");
        }
    }
    Py_XDECREF(pattern);
    Py_XDECREF(string);
    Py_XDECREF(pos);
    Py_XDECREF(end);
    Py_XDECREF(regs);
    Py_XDECREF(args);
    return fpk_save_value(e, obj, value);
}

/* ---- struct, hashlib ---------------------------------------------------- */

int
fpk_save_struct(fpk_encoder *e, PyObject *obj)
{
    PyObject *format = PyObject_GetAttrString(obj, "format");
    PyObject *value = format == NULL ? NULL
                                     : Py_BuildValue("(O(N))", Py_TYPE(obj),
                                                     format);
    return fpk_save_value(e, obj, value);
}

/* Some hashes want to know how much to give. */
static PyObject *
get_digest(PyObject *hash)
{
    PyObject *digest = PyObject_CallMethod(hash, "digest", NULL);
    if (digest == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        digest = PyObject_CallMethod(hash, "digest", "i", 32);
    }
    return digest;
}

/* A hash that was fed nothing is as one that is new. */
int
fpk_save_hash(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL, *fresh = NULL, *own = NULL, *other = NULL;
    PyObject *name = PyObject_GetAttrString(obj, "name");
    PyObject *maker = name == NULL ? NULL : fpk_new_name("hashlib", "new");
    if (maker == NULL || (fresh = PyObject_CallOneArg(maker, name)) == NULL ||
        (own = get_digest(obj)) == NULL ||
        (other = get_digest(fresh)) == NULL) {
        goto done;
    }
    int same = PyObject_RichCompareBool(own, other, Py_EQ);
    if (same > 0) {
        value = Py_BuildValue("(O(O))", maker, name);
    }
    else if (same == 0) {
        (void)fpk_refuse(e, obj, "nobody can read the state of a hash that "
                                 "was fed or has parameters. Send its "
                                 "digest(), or the data");
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(maker);
    Py_XDECREF(fresh);
    Py_XDECREF(own);
    Py_XDECREF(other);
    return fpk_save_value(e, obj, value);
}

/* ---- itertools.pairwise ------------------------------------------------- */

/* What [obj] holds but its type: a new list. */
static PyObject *
parts_of(PyObject *obj)
{
    PyObject *parts = fpk_referents(obj);
    if (parts != NULL && PyList_GET_SIZE(parts) > 0 &&
        PyList_GET_ITEM(parts, 0) == (PyObject *)Py_TYPE(obj) &&
        PyList_SetSlice(parts, 0, 1, NULL) < 0) {
        Py_CLEAR(parts);
    }
    return parts;
}

/* The only iterator of itertools that never could be pickled.  It holds what
   it iterates, the last item if there was one, and in some Pythons a tuple to
   use again: as many things as one that is new, and one more. */
int
fpk_save_pairwise(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL, *fresh_parts = NULL, *rest = NULL;
    PyObject *parts = parts_of(obj);
    PyObject *empty = PyTuple_New(0);
    PyObject *fresh =
        parts == NULL || empty == NULL
            ? NULL
            : PyObject_CallOneArg((PyObject *)Py_TYPE(obj), empty);
    if (fresh == NULL || (fresh_parts = parts_of(fresh)) == NULL) {
        goto done;
    }
    Py_ssize_t more = PyList_GET_SIZE(parts) - PyList_GET_SIZE(fresh_parts);
    if (more < 0) {
        rest = Py_NewRef(empty); /* exhausted */
    }
    else if (more == 0) {
        rest = Py_NewRef(PyList_GET_ITEM(parts, 0));
    }
    else {
        PyObject *chain = fpk_new_name("itertools", "chain");
        rest = fpk_make_call(e->state, chain,
                             Py_BuildValue("((O)O)", PyList_GET_ITEM(parts, 1),
                                           PyList_GET_ITEM(parts, 0)));
    }
    if (rest != NULL) {
        value = Py_BuildValue("(O(O))", Py_TYPE(obj), rest);
    }
done:
    Py_XDECREF(parts);
    Py_XDECREF(empty);
    Py_XDECREF(fresh);
    Py_XDECREF(fresh_parts);
    Py_XDECREF(rest);
    return fpk_save_value(e, obj, value);
}

/* ---- keys of functools.cmp_to_key --------------------------------------- */

/* A key factory, or a key that it made of an object: its function is what it
   refers to first. */
int
fpk_save_sort_key(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL, *maker = NULL, *factory = NULL;
    PyObject *parts = fpk_referents(obj);
    PyObject *function = parts == NULL ? NULL : fpk_first_referent(obj);
    if (function == NULL) {
        goto done;
    }
    maker = fpk_new_name("functools", "cmp_to_key");
    if (maker == NULL) {
        goto done;
    }
    Py_ssize_t last = PyList_GET_SIZE(parts) - 1;
    PyObject *inner = PyList_GET_ITEM(parts, last); /* borrowed */
    if (last == 0 || PyList_GET_ITEM(parts, last - 1) != function) {
        value = Py_BuildValue("(O(O))", maker, function);
    }
    else if ((factory = PyObject_CallOneArg(maker, function)) != NULL) {
        value = Py_BuildValue("(O(O))", factory, inner);
    }
done:
    Py_XDECREF(parts);
    Py_XDECREF(function);
    Py_XDECREF(maker);
    Py_XDECREF(factory);
    return fpk_save_value(e, obj, value);
}

/* ---- contextvars -------------------------------------------------------- */

/* What the variable gives in a context that does not know it: 1 and a new
   reference, 0 if it has no default, -1 on error. */
static int
get_default(PyObject *variable, PyObject **value)
{
    PyObject *context = PyContext_New();
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    int status = PyContextVar_Get(variable, NULL, value);
    if (PyContext_Exit(context) < 0) {
        status = -1;
    }
    Py_DECREF(context);
    return status < 0 ? -1 : *value != NULL;
}

static PyObject *
reduce_variable(fpk_encoder *e, PyObject *obj, PyObject *name)
{
    PyObject *first = NULL, *value = NULL;
    int found = get_default(obj, &first);
    if (found < 0) {
        return NULL;
    }
    if (found == 0) {
        return Py_BuildValue("(O(O))", Py_TYPE(obj), name);
    }
    PyObject *args = PyTuple_Pack(2, Py_TYPE(obj), name);
    PyObject *kwargs = Py_BuildValue("{sO}", "default", first);
    PyObject *partial =
        args == NULL || kwargs == NULL
            ? NULL
            : PyObject_Call(e->state->functools_partial, args, kwargs);
    if (partial != NULL) {
        value = Py_BuildValue("(N())", partial);
    }
    Py_DECREF(first);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return value;
}

/* A variable knows its name, but not where it lives: by name, if a module that
   the receiver can import has it under that name. */
int
fpk_save_context_variable(fpk_encoder *e, PyObject *obj)
{
    int status = FPK_ERROR;
    PyObject *name = PyObject_GetAttrString(obj, "name");
    PyObject *module = name == NULL ? NULL : fpk_whichmodule(e, obj, name);
    if (module == NULL) {
        goto done;
    }
    int by_value = fpk_named_goes_by_value(e, obj, module, name);
    if (by_value >= 0) {
        status = by_value ? fpk_save_value(e, obj,
                                           reduce_variable(e, obj, name))
                          : fpk_save_global(e, obj, name);
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(module);
    return status;
}

/* What the context [obj] has for [variables]: a new list. */
static PyObject *
list_values(PyObject *obj, PyObject *variables)
{
    PyObject *values = PyList_New(0);
    for (Py_ssize_t i = 0; values != NULL && i < PyList_GET_SIZE(variables);
         i++) {
        PyObject *variable = PyList_GET_ITEM(variables, i);
        if (!PyContextVar_CheckExact(variable)) {
            continue; /* its key, where only the order of sets is looked for */
        }
        PyObject *value = PyObject_GetItem(obj, variable);
        if (value == NULL || PyList_Append(values, value) < 0) {
            Py_CLEAR(values);
        }
        Py_XDECREF(value);
    }
    return values;
}

/* Context(), in which list(map(ContextVar.set, variables, values)) is run. */
int
fpk_save_context(fpk_encoder *e, PyObject *obj)
{
    PyObject *value = NULL, *values = NULL, *set = NULL, *map = NULL;
    PyObject *partial = NULL, *run = NULL;
    PyObject *variables = e->canonical != NULL ? fpk_canonical_items(e, obj)
                                               : PySequence_List(obj);
    if (variables == NULL) {
        return FPK_ERROR;
    }
    if (PyList_GET_SIZE(variables) == 0) {
        Py_DECREF(variables);
        return fpk_save_value(e, obj, Py_BuildValue("(O())", Py_TYPE(obj)));
    }
    values = list_values(obj, variables);
    set = PyObject_GetAttrString((PyObject *)&PyContextVar_Type, "set");
    run = PyObject_GetAttrString((PyObject *)&PyContext_Type, "run");
    if (values == NULL || set == NULL || run == NULL) {
        goto done;
    }
    map = PyObject_CallFunctionObjArgs((PyObject *)&PyMap_Type, set, variables,
                                       values, NULL);
    partial = map == NULL ? NULL
                          : PyObject_CallFunctionObjArgs(
                                e->state->functools_partial, &PyList_Type, map,
                                NULL);
    if (partial != NULL) {
        value = Py_BuildValue("(O()OOOO)", Py_TYPE(obj), partial, Py_None,
                              Py_None, run);
    }
done:
    Py_DECREF(variables);
    Py_XDECREF(values);
    Py_XDECREF(set);
    Py_XDECREF(map);
    Py_XDECREF(partial);
    Py_XDECREF(run);
    return fpk_save_value(e, obj, value);
}
