/* identity.c -- one class at the receiver, however often it is sent.

   Does:      gives each class that travels by value an id, and writes the
              look-up that finds the class again.
   Owns:      nothing; the ids are in the module state, the classes in a weak
              dict that lives in copyreg.
   Invariant: a class has the same id in every process that has it: the process
              that defined it, and those that loaded it, whoever loaded it
              there.  Neither table keeps a class alive.
   Called by: class.c.

   The weak dict is copyreg._by_value, id -> class.  It has to be in
   the standard library because receivers without fpickle keep it too: each
   stream with a class makes it if it is missing. */
#include "byvalue/room.h"
#include "wire/known.h"

/* Characters of 6 bits each. */
#define ID_DIGITS 16

/* Entries that are left in peace. */
#define FIRST_LIMIT 64

/* The registry of this process, made if it is missing: a new reference. */
static PyObject *
get_registry(fpk_state *state)
{
    PyObject *name = PyUnicode_InternFromString(FPK_REGISTRY_NAME);
    if (name == NULL) {
        return NULL;
    }
    PyObject *registry;
    int found = PyDict_GetItemRef(state->copyreg_dict, name, &registry);
    if (found == 0) {
        registry = PyObject_CallNoArgs(state->WeakValueDictionary);
        if (registry != NULL) {
            /* Another thread may have been faster. */
            Py_SETREF(registry, Py_XNewRef(PyDict_SetDefault(
                                    state->copyreg_dict, name, registry)));
        }
    }
    Py_DECREF(name);
    return registry;
}

/* Each reference in a WeakValueDictionary knows the key that it stands under,
   and a class knows the references to itself: 1 and a new reference to the id
   under which [data] has [cls], 0, or -1. */
static int
find_key(fpk_state *state, PyObject *data, PyObject *cls, PyObject **id)
{
    PyObject *references = PyObject_CallOneArg(state->getweakrefs, cls);
    int found = references == NULL ? -1 : 0;
    Py_ssize_t count = references != NULL && PyList_Check(references)
                           ? PyList_GET_SIZE(references)
                           : 0;
    /* The oldest ones stand last: other processes know these. */
    for (Py_ssize_t i = count; found == 0 && i > 0; i--) {
        PyObject *reference = PyList_GET_ITEM(references, i - 1);
        PyObject *key, *here;
        if (!Py_IS_TYPE(reference, (PyTypeObject *)state->KeyedRef)) {
            continue;
        }
        found = PyObject_GetOptionalAttr(reference, state->str.key, &key);
        if (found > 0) {
            found = PyUnicode_CheckExact(key)
                        ? PyDict_GetItemRef(data, key, &here)
                        : 0;
            if (found > 0) {
                found = here == reference;
                Py_DECREF(here);
            }
            if (found > 0) {
                *id = Py_NewRef(key);
            }
            Py_DECREF(key);
        }
    }
    Py_XDECREF(references);
    return found;
}

/* The same, of a registry that is something else. */
static int
search_items(PyObject *registry, PyObject *cls, PyObject **id)
{
    PyObject *items = PyMapping_Items(registry);
    if (items == NULL) {
        return -1;
    }
    int found = 0;
    for (Py_ssize_t i = 0; found == 0 && i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        if (PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 2 &&
            PyTuple_GET_ITEM(item, 1) == cls &&
            PyUnicode_CheckExact(PyTuple_GET_ITEM(item, 0))) {
            *id = Py_NewRef(PyTuple_GET_ITEM(item, 0));
            found = 1;
        }
    }
    Py_DECREF(items);
    return found;
}

/* The id under which [cls] came here: a new reference, or NULL, perhaps
   without exception. */
static PyObject *
find_received(fpk_state *state, PyObject *registry, PyObject *cls)
{
    PyObject *data, *id = NULL;
    if (!Py_IS_TYPE(registry, (PyTypeObject *)state->WeakValueDictionary)) {
        return search_items(registry, cls, &id) < 0 ? NULL : id;
    }
    int found = PyObject_GetOptionalAttr(registry, state->str.data, &data);
    if (found > 0) {
        found = PyDict_CheckExact(data) ? find_key(state, data, cls, &id)
                                        : search_items(registry, cls, &id);
        Py_DECREF(data);
    }
    return found < 0 ? NULL : id;
}

/* 96 random bits as text. */
static PyObject *
make_id(fpk_state *state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
                                 "stuvwxyz0123456789-_";
    char text[ID_DIGITS];
    PyObject *bytes = PyObject_CallFunction(state->os_urandom, "i", ID_DIGITS);
    if (bytes == NULL) {
        return NULL;
    }
    if (!PyBytes_Check(bytes) || PyBytes_GET_SIZE(bytes) != ID_DIGITS) {
        PyErr_SetString(PyExc_RuntimeError, "os.urandom should give bytes");
        Py_DECREF(bytes);
        return NULL;
    }
    for (int i = 0; i < ID_DIGITS; i++) {
        text[i] = digits[PyBytes_AS_STRING(bytes)[i] & 63];
    }
    Py_DECREF(bytes);
    return PyUnicode_FromStringAndSize(text, ID_DIGITS);
}

/* The id of a class that was not asked for before. */
static PyObject *
find_or_make_id(fpk_state *state, PyObject *cls)
{
    PyObject *registry = get_registry(state);
    if (registry == NULL) {
        return NULL;
    }
    PyObject *id = find_received(state, registry, cls);
    if (id == NULL && !PyErr_Occurred()) {
        id = make_id(state);
        PyObject *answer =
            id == NULL
                ? NULL
                : PyObject_CallMethod(registry, "setdefault", "OO", id, cls);
        if (answer == NULL) {
            Py_CLEAR(id);
        }
        Py_XDECREF(answer);
    }
    Py_DECREF(registry);
    return id;
}

/* ---- class -> id -----------------------------------------------------------

   state->class_ids maps addresses to (weak reference, id): classes themselves
   need not be hashable. */

static bool
is_entry_of(PyObject *entry, PyObject *cls)
{
    PyObject *found;
    if (fpk_weakref_get(PyTuple_GET_ITEM(entry, 0), &found) <= 0) {
        return false;
    }
    bool same = cls == NULL || found == cls;
    Py_DECREF(found);
    return same;
}

/* Drops the entries of classes that are gone, each time the table has
   doubled. */
static int
sweep(fpk_state *state)
{
    if ((size_t)PyDict_GET_SIZE(state->class_ids) < state->class_id_limit) {
        return 0;
    }
    PyObject *alive = PyDict_New();
    Py_ssize_t position = 0;
    PyObject *key, *entry;
    while (alive != NULL &&
           PyDict_Next(state->class_ids, &position, &key, &entry)) {
        if (is_entry_of(entry, NULL) &&
            PyDict_SetItem(alive, key, entry) < 0) {
            Py_CLEAR(alive);
        }
    }
    if (alive == NULL) {
        return -1;
    }
    Py_SETREF(state->class_ids, alive);
    state->class_id_limit = FIRST_LIMIT + 2 * (size_t)PyDict_GET_SIZE(alive);
    return 0;
}

PyObject *
fpk_class_id(fpk_state *state, PyObject *cls)
{
    PyObject *id = NULL, *reference = NULL, *entry = NULL;
    PyObject *key = PyLong_FromVoidPtr(cls);
    if (key == NULL) {
        return NULL;
    }
    entry = Py_XNewRef(PyDict_GetItemWithError(state->class_ids, key));
    if (entry != NULL && is_entry_of(entry, cls)) {
        id = Py_NewRef(PyTuple_GET_ITEM(entry, 1));
        goto done;
    }
    Py_CLEAR(entry);
    if (PyErr_Occurred() || sweep(state) < 0) {
        goto done;
    }
    id = find_or_make_id(state, cls);
    reference = id == NULL ? NULL : PyWeakref_NewRef(cls, NULL);
    entry = reference == NULL ? NULL : PyTuple_Pack(2, reference, id);
    if (entry == NULL || PyDict_SetItem(state->class_ids, key, entry) < 0) {
        Py_CLEAR(id);
    }
done:
    Py_DECREF(key);
    Py_XDECREF(entry);
    Py_XDECREF(reference);
    return id;
}

/* ---- ids made of content ------------------------------------------------ */

static PyObject *
as_text(const char *bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
                                 "stuvwxyz0123456789-_";
    char text[ID_DIGITS];
    for (int i = 0; i < ID_DIGITS; i++) {
        text[i] = digits[bytes[i] & 63];
    }
    return PyUnicode_FromStringAndSize(text, ID_DIGITS);
}

/* The first of the ids that [content] leads to that no other living class of
   this process has: an instance that comes back must meet its own class. */
static PyObject *
claim_id(PyObject *registry, PyObject *content, PyObject *obj)
{
    PyObject *first = as_text(PyBytes_AS_STRING(content));
    PyObject *id = Py_XNewRef(first);
    for (int i = 1; id != NULL; i++) {
        PyObject *owner =
            PyObject_CallMethod(registry, "setdefault", "OO", id, obj);
        Py_XDECREF(owner); /* only its address is looked at */
        if (owner == obj) {
            break;
        }
        Py_SETREF(id, owner == NULL
                          ? NULL
                          : PyUnicode_FromFormat("%U.%d", first, i));
    }
    Py_XDECREF(first);
    return id;
}

PyObject *
fpk_object_id(fpk_encoder *e, PyObject *obj)
{
    if (e->canonical == NULL) {
        return fpk_class_id(e->state, obj);
    }
    PyObject *content = fpk_canonical_content(e, obj);
    if (content == NULL) {
        return PyErr_Occurred() ? NULL : PyUnicode_FromString("");
    }
    PyObject *registry = get_registry(e->state);
    PyObject *id =
        registry == NULL ? NULL : claim_id(registry, content, obj);
    Py_XDECREF(registry);
    Py_DECREF(content);
    return id;
}

/* ---- at the receiver ---------------------------------------------------- */

int
fpk_emit_registry(fpk_encoder *e)
{
    fpk_context *c = e->byvalue;
    fpk_state *state = e->state;
    if (c->registry != FPK_UNWRITTEN) {
        return fpk_emit_get(e, c->registry);
    }
    /* copyreg.__dict__.setdefault(NAME, WeakValueDictionary()) */
    if (fpk_save_global_as(e, NULL, state->str.copyreg,
                           "__dict__.setdefault") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_emit_str(e, FPK_REGISTRY_NAME) < 0 ||
        fpk_save_global_as(e, NULL, state->str.weakref,
                           "WeakValueDictionary") < 0 ||
        fpk_emit_empty_tuple(e) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_remember_anonymous(e, &c->registry);
}

int
fpk_emit_registry_method(fpk_encoder *e, enum fpk_registry_method method)
{
    static const char *const names[FPK_REGISTRY_METHODS] = {
        FPK_REGISTRY_NAME ".get",
        FPK_REGISTRY_NAME ".setdefault",
    };
    fpk_context *c = e->byvalue;
    uint64_t *index = &c->registry_methods[method];
    if (*index != FPK_UNWRITTEN) {
        return fpk_emit_get(e, *index);
    }
    if (c->registry == FPK_UNWRITTEN &&
        (fpk_emit_registry(e) < 0 || fpk_emit_op(e, FPK_OP_POP) < 0)) {
        return FPK_ERROR;
    }
    if (fpk_save_global_as(e, NULL, e->state->str.copyreg, names[method]) <
        0) {
        return FPK_ERROR;
    }
    return fpk_remember_anonymous(e, index);
}

int
fpk_init_identity(PyObject *module, fpk_state *state)
{
    state->class_id_limit = FIRST_LIMIT;
    state->class_ids = PyDict_New();
    if (state->class_ids == NULL ||
        fpk_fetch(&state->copyreg_dict, "copyreg", "__dict__") < 0 ||
        fpk_fetch(&state->os_urandom, "os", "urandom") < 0 ||
        fpk_fetch(&state->WeakValueDictionary, "weakref",
                  "WeakValueDictionary") < 0 ||
        fpk_fetch(&state->KeyedRef, "weakref", "KeyedRef") < 0 ||
        fpk_fetch(&state->getweakrefs, "weakref", "getweakrefs") < 0) {
        return -1;
    }
    if (!PyDict_CheckExact(state->copyreg_dict)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "copyreg.__dict__ should be a dict");
        return -1;
    }
    return 0;
}
