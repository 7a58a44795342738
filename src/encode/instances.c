/* instances.c -- plain instances, without a call of __reduce_ex__.

   Does:      writes objects whose class leaves pickling to object: class,
              NEWOBJ, state of __dict__ and __slots__, BUILD.  What it writes
              is what object.__reduce_ex__ would describe.
   Owns:      the table of plans in the module state: type -> version and kind.
   Invariant: a plan is made only after object.__reduce_ex__ has accepted an
              instance of the class, and holds as long as the type's version
              tag: any change to the class or its bases gives it a new one.
   Called by: reduce.c, when nothing else claimed the object. */
#include "encode/encoder.h"

enum plan_kind { PLAN_NONE, PLAN_DICT, PLAN_SLOTS };

#define PLAN_KIND_BITS 2
#define MOST_PLANS 4096

/* Methods that change how an object is reduced. */
static bool
is_reduction_hook(const fpk_state *state, size_t i, PyObject **name)
{
    PyObject *const names[] = {
        state->str.__reduce_ex__, state->str.__reduce__,
        state->str.__getstate__,  state->str.__getnewargs_ex__,
        state->str.__getnewargs__, state->str.__class__,
    };
    if (i >= Py_ARRAY_LENGTH(names)) {
        return false;
    }
    *name = names[i];
    return true;
}

/* 1 if [dict] has one of these names, 0 if not, -1 on error. */
static int
has_hooks(const fpk_state *state, PyObject *dict)
{
    PyObject *name;
    for (size_t i = 0; is_reduction_hook(state, i, &name); i++) {
        int found = PyDict_Contains(dict, name);
        if (found != 0) {
            return found;
        }
    }
    return 0;
}

/* 1 if nothing between [type] and object has a say in its reduction. */
static int
inherits_reduction(const fpk_state *state, PyTypeObject *type)
{
    const unsigned long built_in =
        Py_TPFLAGS_LIST_SUBCLASS | Py_TPFLAGS_DICT_SUBCLASS |
        Py_TPFLAGS_TUPLE_SUBCLASS | Py_TPFLAGS_LONG_SUBCLASS |
        Py_TPFLAGS_UNICODE_SUBCLASS | Py_TPFLAGS_BYTES_SUBCLASS |
        Py_TPFLAGS_BASE_EXC_SUBCLASS | Py_TPFLAGS_TYPE_SUBCLASS;
    if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) ||
        (type->tp_flags & built_in) != 0 || type->tp_itemsize != 0 ||
        type->tp_getattro != PyObject_GenericGetAttr ||
        type->tp_mro == NULL) {
        return 0;
    }
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        if (base == (PyObject *)&PyBaseObject_Type) {
            return 1;
        }
        PyObject *dict = fpk_type_dict((PyTypeObject *)base);
        if (dict == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        int found = has_hooks(state, dict);
        Py_DECREF(dict);
        if (found != 0) {
            return found < 0 ? -1 : 0;
        }
    }
    return 0;
}

/* copyreg caches the names of a class's slots in the class. */
static PyObject *
slot_names(const fpk_state *state, PyTypeObject *type)
{
    PyObject *names = NULL;
    PyObject *dict = fpk_type_dict(type);
    if (dict != NULL) {
        (void)PyDict_GetItemRef(dict, state->str.__slotnames__, &names);
        Py_DECREF(dict);
    }
    if (names != NULL && !PyList_CheckExact(names)) {
        Py_CLEAR(names);
    }
    return names;
}

/* Remembers how instances of [type] are written, after object.__reduce_ex__
   has answered [value] for one of them. */
int
fpk_learn_instance(fpk_encoder *e, PyTypeObject *type, PyObject *value)
{
    fpk_state *state = e->state;
    if (type->tp_version_tag == 0 || !PyTuple_CheckExact(value) ||
        PyTuple_GET_SIZE(value) < 2 ||
        PyTuple_GET_ITEM(value, 0) != state->copyreg_newobj) {
        return 0;
    }
    PyObject *args = PyTuple_GET_ITEM(value, 1);
    if (!PyTuple_CheckExact(args) || PyTuple_GET_SIZE(args) != 1 ||
        PyTuple_GET_ITEM(args, 0) != (PyObject *)type) {
        return 0;
    }
    int plain = inherits_reduction(state, type);
    if (plain <= 0) {
        return plain;
    }
    PyObject *slots = slot_names(state, type);
    if (slots == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    uint64_t kind = PyList_GET_SIZE(slots) == 0 ? PLAN_DICT : PLAN_SLOTS;
    Py_DECREF(slots);
    if (state->plans.used >= MOST_PLANS) {
        fpk_memo_clear(&state->plans);
    }
    uint64_t entry =
        (uint64_t)type->tp_version_tag << PLAN_KIND_BITS | kind;
    if (!fpk_memo_set(&state->plans, type, entry)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static enum plan_kind
find_plan(const fpk_encoder *e, PyTypeObject *type)
{
    const fpk_memo_entry *entry = fpk_memo_find(&e->state->plans, type);
    if (entry == NULL || type->tp_version_tag == 0 ||
        entry->index >> PLAN_KIND_BITS != type->tp_version_tag) {
        return PLAN_NONE;
    }
    return (enum plan_kind)(entry->index & ((1u << PLAN_KIND_BITS) - 1));
}

/* The instance's own __dict__, or NULL (without exception) if it has none or
   an empty one, which is no state; borrowed from [obj]: a reference of ours
   would make it look shared. */
static PyObject *
instance_dict(PyObject *obj)
{
    if (Py_TYPE(obj)->tp_dictoffset == 0) {
        return NULL;
    }
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    Py_XDECREF(dict);
    return dict == NULL || PyDict_GET_SIZE(dict) == 0 ? NULL : dict;
}

/* (__dict__ or None, {slot: value}): the state of an instance with slots; None
   if it has neither. */
static PyObject *
slot_state(fpk_encoder *e, PyObject *obj, PyObject *dict)
{
    PyObject *state = NULL;
    PyObject *names = slot_names(e->state, Py_TYPE(obj));
    PyObject *slots = PyDict_New();
    if (names == NULL || slots == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(names); i++) {
        PyObject *name = Py_NewRef(PyList_GET_ITEM(names, i));
        PyObject *value;
        int found = PyObject_GetOptionalAttr(obj, name, &value);
        if (found > 0) {
            found = PyDict_SetItem(slots, name, value);
            Py_DECREF(value);
        }
        Py_DECREF(name);
        if (found < 0) {
            goto done;
        }
    }
    if (PyDict_GET_SIZE(slots) == 0) {
        state = Py_NewRef(dict == NULL ? Py_None : dict);
    }
    else {
        state = PyTuple_Pack(2, dict == NULL ? Py_None : dict, slots);
    }
done:
    Py_XDECREF(names);
    Py_XDECREF(slots);
    return state;
}

enum {
    INSTANCE_CLASS,
    INSTANCE_NEW,
    INSTANCE_BUILD,
};

static int
begin_instance(fpk_encoder *e, bool shared)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *obj = frame->object;
    if (fpk_emit_op(e, FPK_OP_EMPTY_TUPLE) < 0 ||
        fpk_emit_op(e, FPK_OP_NEWOBJ) < 0) {
        return FPK_ERROR;
    }
    if (shared && fpk_memoize(e, obj) < 0) {
        return FPK_ERROR;
    }
    PyObject *dict = instance_dict(obj);
    if (dict == NULL && PyErr_Occurred()) {
        return FPK_ERROR;
    }
    if (frame->slot == PLAN_DICT) {
        if (dict == NULL) {
            e->reductions--;
            return FPK_DONE;
        }
        int result = fpk_save(e, dict);
        return result == FPK_DONE ? FPK_MORE : result;
    }
    PyObject *state = slot_state(e, obj, dict);
    if (state == NULL) {
        return FPK_ERROR;
    }
    if (state == Py_None) {
        Py_DECREF(state);
        e->reductions--;
        return FPK_DONE;
    }
    frame->aux = state;
    int result = fpk_save(e, state);
    return result == FPK_DONE ? FPK_MORE : result;
}

static int
advance_instance(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (frame->step == INSTANCE_CLASS) {
        frame->step = INSTANCE_NEW;
        int result =
            fpk_save_shared(e, (PyObject *)Py_TYPE(frame->object));
        if (result != FPK_DONE) {
            return result;
        }
        frame = fpk_top_frame(e);
    }
    if (frame->step == INSTANCE_NEW) {
        frame->step = INSTANCE_BUILD;
        if (!fpk_close_late(e)) {
            return begin_instance(e, frame->shared);
        }
        /* The class, by value, led back here and built the object. */
        e->reductions--;
        return fpk_emit_op(e, FPK_OP_POP) < 0 ||
                       fpk_emit_get_if_saved(e, frame->object) != 1
                   ? FPK_ERROR
                   : FPK_DONE;
    }
    e->reductions--;
    return fpk_emit_op(e, FPK_OP_BUILD);
}

int
fpk_save_instance(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyTypeObject *type = Py_TYPE(obj);
    enum plan_kind kind = find_plan(e, type);
    if (kind == PLAN_NONE || e->protocol < 2 || e->persistent_id != NULL) {
        return FPK_NO_PLAN;
    }
    PyObject *dict = instance_dict(obj);
    if (dict == NULL && PyErr_Occurred()) {
        return FPK_ERROR;
    }
    if (dict != NULL) {
        int found = has_hooks(e->state, dict);
        if (found != 0) {
            return found < 0 ? FPK_ERROR : FPK_NO_PLAN;
        }
    }
    if (fpk_count_reduction(e) < 0) {
        return FPK_ERROR;
    }
    fpk_frame *frame = fpk_push_frame(e, FPK_FRAME_INSTANCE, advance_instance,
                                      obj, NULL);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->slot = kind;
    frame->shared = shared;
    return fpk_open_late(e) < 0 ? FPK_ERROR : FPK_MORE;
}
