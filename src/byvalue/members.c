/* members.c -- what of a class's dict travels, and when.

   Does:      sorts the members of a class into those that it is created with,
              those that are set on it afterwards, and those that its creation
              makes anew.
   Owns:      nothing.
   Invariant: a member that the class is created with cannot lead back to the
              class before it exists.
   Called by: class.c. */
#include "byvalue/room.h"

void
fpk_get_early_names(const fpk_encoder *e, PyObject *names[FPK_EARLY_COUNT])
{
    names[0] = e->state->str.__annotations__;
    names[1] = e->state->str.__orig_bases__;
    names[2] = e->state->str.__type_params__;
}

/* Containers with more items are not looked through. */
#define MOST_ITEMS 200

static bool
is_name(PyObject *key, const char *name)
{
    return PyUnicode_CompareWithASCIIString(key, name) == 0;
}

static bool
is_atom(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    return value == Py_None || type == &PyUnicode_Type ||
           type == &PyLong_Type || type == &PyBool_Type ||
           type == &PyFloat_Type || type == &PyBytes_Type;
}

bool
fpk_is_plain_data(PyObject *value)
{
    if (is_atom(value)) {
        return true;
    }
    if (!PyTuple_CheckExact(value) || PyTuple_GET_SIZE(value) > MOST_ITEMS) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++) {
        if (!is_atom(PyTuple_GET_ITEM(value, i))) {
            return false;
        }
    }
    return true;
}

/* Lists, dicts and sets of atoms. */
static bool
is_plain_container(PyObject *value)
{
    Py_ssize_t position = 0;
    PyObject *key, *item;
    if (PyList_CheckExact(value)) {
        bool plain = PyList_GET_SIZE(value) <= MOST_ITEMS;
        for (Py_ssize_t i = 0; plain && i < PyList_GET_SIZE(value); i++) {
            plain = is_atom(PyList_GET_ITEM(value, i));
        }
        return plain;
    }
    if (PyDict_CheckExact(value)) {
        if (PyDict_GET_SIZE(value) > MOST_ITEMS) {
            return false;
        }
        while (PyDict_Next(value, &position, &key, &item)) {
            if (!is_atom(key) || !is_atom(item)) {
                return false;
            }
        }
        return true;
    }
    return PyAnySet_CheckExact(value) && PySet_GET_SIZE(value) == 0;
}

/* Types, functions and descriptors of C that go by name. */
static bool
is_builtin(PyObject *value)
{
    if (PyType_Check(value)) {
        return !PyType_HasFeature((PyTypeObject *)value,
                                  Py_TPFLAGS_HEAPTYPE);
    }
    if (PyCFunction_CheckExact(value)) {
        PyObject *owner = PyCFunction_GET_SELF(value);
        return owner == NULL || PyModule_CheckExact(owner) ||
               (PyType_Check(owner) && is_builtin(owner));
    }
    return Py_IS_TYPE(value, &PyWrapperDescr_Type) ||
           Py_IS_TYPE(value, &PyMethodDescr_Type);
}

/* True if [value] is written without meeting the class, whatever hooks the
   Pickler has. */
static bool
leads_nowhere(const fpk_encoder *e, PyObject *value)
{
    if (e->persistent_id != NULL) {
        return false;
    }
    return fpk_is_plain_data(value) || is_plain_container(value) ||
           (e->reducer_override == NULL && e->dispatch_table == NULL &&
            is_builtin(value));
}

/* Names of slots, however they were given. */
static bool
is_plain_slots(PyObject *value)
{
    if (PyUnicode_CheckExact(value) || fpk_is_plain_data(value)) {
        return true;
    }
    if (PyList_CheckExact(value)) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); i++) {
            if (!PyUnicode_CheckExact(PyList_GET_ITEM(value, i))) {
                return false;
            }
        }
        return true;
    }
    if (PyDict_CheckExact(value)) {
        Py_ssize_t position = 0;
        PyObject *key, *doc;
        while (PyDict_Next(value, &position, &key, &doc)) {
            if (!PyUnicode_CheckExact(key) || !fpk_is_plain_data(doc)) {
                return false;
            }
        }
        return true;
    }
    return false;
}

int
fpk_is_method(fpk_encoder *e, PyObject *value)
{
    if (PyFunction_Check(value)) {
        return fpk_is_dispatcher(e->state, value)
                   ? 0
                   : fpk_goes_by_value(e, value);
    }
    PyObject *parts = fpk_wrapper_parts(value);
    if (parts == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int answer = 1;
    for (Py_ssize_t i = 0; answer > 0 && i < PyTuple_GET_SIZE(parts); i++) {
        PyObject *part = PyTuple_GET_ITEM(parts, i);
        answer = fpk_is_dispatcher(e->state, part) ? 0
                 : PyFunction_Check(part) ? fpk_goes_by_value(e, part)
                                          : fpk_is_plain_data(part);
    }
    Py_DECREF(parts);
    return answer;
}

static enum fpk_member
classify_slots(fpk_encoder *e, PyObject *cls, PyObject *value)
{
    if (is_plain_slots(value)) {
        return FPK_MEMBER_DATA;
    }
    PyErr_Format(e->state->PicklingError,
                 "Can't pickle %R by value: its __slots__ are a %.200s, not a "
                 "tuple, list or dict of names",
                 cls, Py_TYPE(value)->tp_name);
    return FPK_MEMBER_ERROR;
}

/* Members that the class has already when it is made, or that its making
   gives it. */
static bool
is_made_anew(const fpk_class_job *job, PyObject *key, PyObject *value)
{
    if (is_name(key, "__slotnames__") || is_name(key, "_abc_impl")) {
        return true;
    }
    if (is_name(key, "__doc__")) {
        return value == Py_None;
    }
    if (is_name(key, "__abstractmethods__")) {
        return PyFrozenSet_CheckExact(value) && PySet_GET_SIZE(value) == 0;
    }
    /* The hook of a protocol class. */
    return !job->quiet && is_name(key, "__subclasshook__") &&
           PyFunction_Check(value) &&
           PyUnicode_Check(((PyFunctionObject *)value)->func_qualname) &&
           PyUnicode_CompareWithASCIIString(
               ((PyFunctionObject *)value)->func_qualname,
               "Protocol.__init_subclass__.<locals>._proto_hook") == 0;
}

bool
fpk_is_early_name(const fpk_encoder *e, PyObject *key)
{
    PyObject *names[FPK_EARLY_COUNT];
    fpk_get_early_names(e, names);
    for (int i = 0; i < FPK_EARLY_COUNT; i++) {
        if (key == names[i] || PyUnicode_Compare(key, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Making a class gives each of these another meaning: a function becomes a
   static or a class method, and __eq__ alone takes __hash__ away.  1 if
   [value] must be set afterwards. */
static int
must_be_set(fpk_encoder *e, const fpk_class_job *job, PyObject *key,
            PyObject *value)
{
    if (is_name(key, "__eq__")) {
        int has = PyDict_Contains(job->members, e->state->str.__hash__);
        return has < 0 ? -1 : !has;
    }
    return PyFunction_Check(value) &&
           (is_name(key, "__new__") || is_name(key, "__init_subclass__") ||
            is_name(key, "__class_getitem__"));
}

/* What EnumType copied from the bases into every enumeration, and what is
   found there anyway. */
static int
is_enum_copy(const fpk_class_job *job, PyObject *cls, PyObject *key,
             PyObject *value)
{
    static const char *const names[] = {
        "_boundary_", "_generate_next_value_", "_inverted_",
        "_member_type_", "_new_member_", "_use_args_", "_value_repr_",
        "__and__", "__format__", "__invert__", "__new__", "__or__", "__rand__",
        "__ror__", "__rxor__", "__str__", "__xor__",
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (is_name(key, names[i])) {
            return fpk_is_inherited(cls, key, value);
        }
    }
    return 0;
}

/* Whatever makes the class at the receiver may look at its members, so they
   have to be there; a descriptor would be told its name once more. */
static enum fpk_member
classify_rest(fpk_encoder *e, const fpk_class_job *job, PyObject *value)
{
    if (!job->reruns) {
        return FPK_MEMBER_PLACED;
    }
    int tells = fpk_tells_name(e, value);
    return tells < 0   ? FPK_MEMBER_ERROR
           : tells > 0 ? FPK_MEMBER_PLACED
                       : FPK_MEMBER_EARLY;
}

int
fpk_classify_member(fpk_encoder *e, const fpk_class_job *job, PyObject *cls,
                    PyObject *key, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (!PyUnicode_CheckExact(key)) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R by value: its dict has the key %R", cls,
                     key);
        return FPK_MEMBER_ERROR;
    }
    if ((type == &PyGetSetDescr_Type || type == &PyMemberDescr_Type) &&
        PyDescr_TYPE(value) == (PyTypeObject *)cls) {
        return FPK_MEMBER_SKIP;
    }
    bool special = PyUnicode_GET_LENGTH(key) > 5 &&
                   PyUnicode_READ_CHAR(key, 0) == '_';
    if (special) {
        if (is_made_anew(job, key, value)) {
            return FPK_MEMBER_SKIP;
        }
        if (fpk_is_early_name(e, key)) {
            return FPK_MEMBER_EARLY;
        }
        if (is_name(key, "__slots__")) {
            return classify_slots(e, cls, value);
        }
        if (is_name(key, "__module__")) {
            return FPK_MEMBER_DATA;
        }
        int copy = job->enumeration == NULL
                       ? 0
                       : is_enum_copy(job, cls, key, value);
        if (copy != 0) {
            return copy < 0 ? FPK_MEMBER_ERROR : FPK_MEMBER_SKIP;
        }
        int set = must_be_set(e, job, key, value);
        if (set != 0) {
            return set < 0 ? FPK_MEMBER_ERROR : FPK_MEMBER_LATE;
        }
    }
    if (leads_nowhere(e, value)) {
        return FPK_MEMBER_DATA;
    }
    /* Hooks of the Pickler are asked for functions when the class exists. */
    if (e->persistent_id == NULL && e->reducer_override == NULL) {
        int method = fpk_is_method(e, value);
        if (method != 0) {
            return method < 0 ? FPK_MEMBER_ERROR : FPK_MEMBER_METHOD;
        }
    }
    return classify_rest(e, job, value);
}
