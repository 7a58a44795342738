/* enum_call.c -- enumerations that their metaclass can make again.

   Does:      decides whether EnumType, given the names, values and methods of
              an enumeration, gives the same enumeration: by letting it make a
              twin and comparing.  Such a class is written as that call, which
              is much shorter than its parts (enum.c).
   Owns:      the answers, in the module state: a weak dict from classes to
              what they were when they were compared, and the answer.
   Invariant: no code of the user runs: an enumeration whose making would call
              any is not compared.
   Called by: enum.c, class_call.c. */
#include "byvalue/room.h"

/* ---- what the class statement had --------------------------------------- */

static bool
is_one_of(PyObject *key, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (PyUnicode_CompareWithASCIIString(key, *names) == 0) {
            return true;
        }
    }
    return false;
}

enum item {
    ITEM_ERROR = -1,
    ITEM_UNKNOWN,   /* not to be made by EnumType */
    ITEM_STATEMENT, /* of the class statement: given to EnumType */
    ITEM_GENERATED, /* EnumType adds it, or the comparison finds out */
};

static enum item
classify_item(fpk_encoder *e, PyObject *cls, PyObject *key, PyObject *value)
{
    static const char *const generated[] = {
        "_generate_next_value_",
        "_hashable_values_",
        "_member_map_",
        "_member_names_",
        "_member_type_",
        "_new_member_",
        "_unhashable_values_",
        "_unhashable_values_map_",
        "_use_args_",
        "_value2member_map_",
        "_value_repr_",
        "__new__",
        NULL,
    };
    static const char *const data[] = {
        "__doc__", "__firstlineno__", "__module__", "__static_attributes__",
        NULL,
    };
    static const char *const methods[] = {
        "__bool__", "__format__", "__reduce_ex__", "__repr__", "__str__", NULL,
    };
    PyTypeObject *type = Py_TYPE(value);
    if (is_one_of(key, generated) ||
        ((type == &PyGetSetDescr_Type || type == &PyMemberDescr_Type) &&
         PyDescr_TYPE(value) == (PyTypeObject *)cls)) {
        return ITEM_GENERATED;
    }
    if (is_one_of(key, data)) {
        return value == Py_None           ? ITEM_GENERATED
               : fpk_is_plain_data(value) ? ITEM_STATEMENT
                                          : ITEM_UNKNOWN;
    }
    int is_method = fpk_is_method(e, value);
    if (is_one_of(key, methods)) {
        return is_method < 0   ? ITEM_ERROR
               : is_method > 0 ? ITEM_STATEMENT
                               : ITEM_GENERATED;
    }
    return is_method < 0 ? ITEM_ERROR
           : is_method > 0 && PyUnicode_READ_CHAR(key, 0) != '_'
               ? ITEM_STATEMENT
               : ITEM_UNKNOWN;
}

/* Adds the members, in the order of their definition: 1, 0, or -1. */
static int
add_members(PyObject *items, PyObject *by_name)
{
    Py_ssize_t position = 0;
    PyObject *name, *member;
    int status = 1;
    while (status == 1 && PyDict_Next(by_name, &position, &name, &member)) {
        PyObject *value = PyObject_GetAttrString(member, "_value_");
        if (value == NULL) {
            return -1;
        }
        status = PyUnicode_CheckExact(name) && fpk_is_plain_data(value);
        if (status == 1 && PyDict_SetItem(items, name, value) < 0) {
            status = -1;
        }
        Py_DECREF(value);
    }
    return status;
}

/* What the class statement of [cls] may have had: a new dict; NULL, perhaps
   without exception, if it had more than is known here. */
static PyObject *
list_items(fpk_encoder *e, PyObject *cls, PyObject *dict, PyObject *by_name)
{
    PyObject *items = PyDict_New();
    Py_ssize_t position = 0;
    PyObject *key, *value;
    int status = items == NULL ? -1 : 1;
    while (status == 1 && PyDict_Next(dict, &position, &key, &value)) {
        if (!PyUnicode_CheckExact(key) || PyUnicode_GET_LENGTH(key) == 0) {
            status = 0;
            break;
        }
        status = PyDict_Contains(by_name, key);
        if (status != 0) {
            continue; /* a member */
        }
        enum item kind = classify_item(e, cls, key, value);
        status = kind == ITEM_ERROR ? -1 : kind != ITEM_UNKNOWN;
        if (kind == ITEM_STATEMENT && PyDict_SetItem(items, key, value) < 0) {
            status = -1;
        }
    }
    if (status == 1) {
        status = add_members(items, by_name);
    }
    if (status != 1) {
        Py_CLEAR(items);
    }
    return items;
}

/* ---- the comparison ----------------------------------------------------- */

/* 1 if two members have the same attributes, except for their class. */
static int
same_member(PyObject *a, PyObject *b)
{
    PyObject *first = PyObject_GenericGetDict(a, NULL);
    PyObject *second = first == NULL ? NULL : PyObject_GenericGetDict(b, NULL);
    Py_ssize_t at = 0, there = 0;
    PyObject *key, *value, *other_key, *other;
    int same = second == NULL
                   ? -1
                   : PyDict_GET_SIZE(first) == PyDict_GET_SIZE(second);
    while (same == 1 && PyDict_Next(first, &at, &key, &value)) {
        same = PyDict_Next(second, &there, &other_key, &other) &&
               PyUnicode_CheckExact(key) && PyUnicode_CheckExact(other_key) &&
               PyUnicode_Compare(key, other_key) == 0;
        if (same == 1 && (value != (PyObject *)Py_TYPE(a) ||
                          other != (PyObject *)Py_TYPE(b))) {
            /* Plain data, of which only ints and text are equal to others. */
            same = Py_TYPE(value) == Py_TYPE(other) && fpk_is_plain_data(value)
                       ? PyObject_RichCompareBool(value, other, Py_EQ)
                       : 0;
        }
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return same;
}

static int same_value(PyObject *a, PyObject *b, PyTypeObject *cls,
                      PyTypeObject *twin);

/* The same keys in the same order, with values that are the same. */
static int
same_dict(PyObject *a, PyObject *b, PyTypeObject *cls, PyTypeObject *twin)
{
    Py_ssize_t at = 0, there = 0;
    PyObject *key, *value, *other_key, *other;
    int same = PyDict_GET_SIZE(a) == PyDict_GET_SIZE(b);
    while (same == 1 && PyDict_Next(a, &at, &key, &value)) {
        same = PyDict_Next(b, &there, &other_key, &other);
        if (same == 1 && key != other_key) {
            same = Py_TYPE(key) == Py_TYPE(other_key)
                       ? PyObject_RichCompareBool(key, other_key, Py_EQ)
                       : 0;
        }
        if (same == 1) {
            same = same_value(value, other, cls, twin);
        }
    }
    return same;
}

/* 1 if two static or class methods or properties wrap the same functions. */
static int
same_wrapper(PyObject *a, PyObject *b)
{
    PyObject *first = fpk_wrapper_parts(a);
    PyObject *second = first == NULL ? NULL : fpk_wrapper_parts(b);
    int same = PyErr_Occurred() ? -1 : second != NULL;
    for (Py_ssize_t i = 0; same == 1 && i < PyTuple_GET_SIZE(first); i++) {
        same = i < PyTuple_GET_SIZE(second) &&
               PyTuple_GET_ITEM(first, i) == PyTuple_GET_ITEM(second, i);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return same;
}

/* 1 if [a] of [cls] is what [b] is for [twin], 0 or -1. */
static int
same_value(PyObject *a, PyObject *b, PyTypeObject *cls, PyTypeObject *twin)
{
    if (a == b) {
        return 1;
    }
    if (Py_IS_TYPE(a, cls) && Py_IS_TYPE(b, twin)) {
        return same_member(a, b);
    }
    if (Py_TYPE(a) != Py_TYPE(b)) {
        return 0;
    }
    if (PyDict_CheckExact(a)) {
        /* _member_map_ and its like hold members, no dicts. */
        Py_ssize_t position = 0;
        PyObject *key, *value;
        while (PyDict_Next(a, &position, &key, &value)) {
            if (PyDict_CheckExact(value)) {
                return 0;
            }
        }
        return same_dict(a, b, cls, twin);
    }
    if (Py_IS_TYPE(a, &PyGetSetDescr_Type) ||
        Py_IS_TYPE(a, &PyMemberDescr_Type)) {
        return PyDescr_TYPE(a) == cls && PyDescr_TYPE(b) == twin &&
               PyDescr_NAME(a) == PyDescr_NAME(b);
    }
    return PyList_CheckExact(a) || fpk_is_plain_data(a)
               ? PyObject_RichCompareBool(a, b, Py_EQ)
               : same_wrapper(a, b);
}

/* The class that EnumType makes of [items]: a new reference. */
static PyObject *
make_twin(PyTypeObject *cls, PyObject *items)
{
    PyObject *name = ((PyHeapTypeObject *)cls)->ht_name;
    PyObject *metaclass = (PyObject *)Py_TYPE(cls);
    PyObject *space = PyObject_CallMethod(metaclass, "__prepare__", "OO", name,
                                          cls->tp_bases);
    Py_ssize_t position = 0;
    PyObject *key, *value, *twin = NULL;
    if (space == NULL) {
        return NULL;
    }
    while (PyDict_Next(items, &position, &key, &value)) {
        if (PyObject_SetItem(space, key, value) < 0) {
            goto done;
        }
    }
    twin = PyObject_CallFunctionObjArgs(metaclass, name, cls->tp_bases, space,
                                        NULL);
done:
    Py_DECREF(space);
    return twin;
}

static int
equals_twin(PyTypeObject *cls, PyObject *dict, PyObject *items)
{
    PyObject *twin = make_twin(cls, items);
    if (twin == NULL) {
        /* It is not made of these items. */
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    PyObject *other = fpk_type_dict((PyTypeObject *)twin);
    int same =
        other == NULL ? -1 : same_dict(dict, other, cls, (PyTypeObject *)twin);
    Py_XDECREF(other);
    /* It must not stand among the subclasses of its bases until the garbage
       collector comes. */
    (void)Py_TYPE(twin)->tp_clear(twin);
    Py_DECREF(twin);
    return same;
}

static int
is_of_enum_module(PyTypeObject *type)
{
    PyObject *dict = fpk_type_dict(type);
    if (dict == NULL) {
        return -1;
    }
    PyObject *module = PyDict_GetItemString(dict, "__module__");
    int found = module != NULL && PyUnicode_Check(module) &&
                PyUnicode_CompareWithASCIIString(module, "enum") == 0;
    Py_DECREF(dict);
    return found;
}

/* 1 if nothing but the standard library's code runs when a class with the
   bases and the metaclass of [cls] is made, 0 or -1. */
static int
has_known_bases(PyTypeObject *cls)
{
    PyObject *mro = cls->tp_mro;
    PyObject *metaclass = fpk_new_name("enum", "EnumType");
    if (metaclass == NULL) {
        return -1;
    }
    int known = (PyObject *)Py_TYPE(cls) == metaclass;
    Py_DECREF(metaclass);
    for (Py_ssize_t i = 1; known == 1 && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE)) {
            known = is_of_enum_module(base);
        }
    }
    return known;
}

/* ---- the answers -------------------------------------------------------- */

/* _value_, _name_, __objclass__, _sort_order_ */
#define MEMBER_ATTRIBUTES 4

/* The attributes of members can change without a trace on the class. */
static int
has_plain_members(PyObject *by_name)
{
    Py_ssize_t position = 0;
    PyObject *name, *member;
    int plain = PyDict_GET_SIZE(by_name) > 0;
    while (plain == 1 && PyDict_Next(by_name, &position, &name, &member)) {
        PyObject *dict = PyObject_GenericGetDict(member, NULL);
        plain = dict == NULL ? -1 : PyDict_GET_SIZE(dict) == MEMBER_ATTRIBUTES;
        Py_XDECREF(dict);
    }
    return plain;
}

/* What is compared again if it has changed: a new tuple. */
static PyObject *
current_form(PyTypeObject *cls, PyObject *dict)
{
    PyObject *by_value = PyDict_GetItemString(dict, "_value2member_map_");
    return Py_BuildValue("InO", cls->tp_version_tag,
                         by_value == NULL ? 0 : PyObject_Size(by_value),
                         ((PyHeapTypeObject *)cls)->ht_name);
}

/* The answer of the last time, if the class is what it was: 1, 0, or -1 if it
   has to be found out, or on error. */
static int
recall_answer(fpk_state *state, PyObject *cls, PyObject *form)
{
    PyObject *known = PyObject_CallMethod(state->plain_enums, "get", "O", cls);
    int answer = -1;
    if (known != NULL && PyTuple_Check(known) &&
        ((PyTypeObject *)cls)->tp_version_tag != 0 &&
        PyObject_RichCompareBool(PyTuple_GET_ITEM(known, 0), form, Py_EQ) ==
            1) {
        answer = PyTuple_GET_ITEM(known, 1) == Py_True;
    }
    Py_XDECREF(known);
    return answer;
}

/* 1 or 0, -1 on error. */
static int
compare(fpk_encoder *e, PyObject *cls, PyObject *dict, PyObject *items)
{
    PyObject *form = current_form((PyTypeObject *)cls, dict);
    int answer = form == NULL ? -1 : recall_answer(e->state, cls, form);
    if (answer < 0 && !PyErr_Occurred()) {
        answer = equals_twin((PyTypeObject *)cls, dict, items);
        PyObject *entry =
            answer < 0
                ? NULL
                : Py_BuildValue("OO", form, answer ? Py_True : Py_False);
        if (entry == NULL ||
            PyObject_SetItem(e->state->plain_enums, cls, entry) < 0) {
            answer = -1;
        }
        Py_XDECREF(entry);
    }
    Py_XDECREF(form);
    return answer;
}

PyObject *
fpk_find_enum_items(fpk_encoder *e, PyObject *cls, PyObject *dict,
                    PyObject *by_name)
{
    if (has_known_bases((PyTypeObject *)cls) != 1 ||
        has_plain_members(by_name) != 1) {
        return NULL;
    }
    PyObject *items = list_items(e, cls, dict, by_name);
    if (items != NULL && compare(e, cls, dict, items) != 1) {
        Py_CLEAR(items);
    }
    return items;
}

int
fpk_emit_prepared_dict(fpk_encoder *e, const fpk_class_job *job, PyObject *cls)
{
    PyObject *module =
        PyObject_GetAttr(job->creator, e->state->str.__module__);
    int status = FPK_ERROR;
    if (module != NULL && PyUnicode_CheckExact(module) &&
        fpk_save_global_as(e, NULL, module, "EnumType.__prepare__") ==
            FPK_DONE &&
        fpk_begin_tuple(e, 2) == FPK_DONE &&
        fpk_emit_unicode(e, ((PyHeapTypeObject *)cls)->ht_name) == FPK_DONE &&
        fpk_emit_get(e, job->bases) == FPK_DONE &&
        fpk_end_tuple(e, 2) == FPK_DONE) {
        status = fpk_emit_op(e, FPK_OP_REDUCE);
    }
    Py_XDECREF(module);
    return status;
}
