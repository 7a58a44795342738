/* instances.c -- plain instances, without a call of __reduce_ex__.

   Does:      writes objects whose class leaves pickling to object: class,
              NEWOBJ, state of __dict__ and __slots__, BUILD; named tuples;
              and dates, with the help of dates.c.  What it writes is what
              __reduce_ex__ would describe.  Of classes with a __reduce__ of
              their own it calls that, not object.__reduce_ex__ around it.
   Owns:      the table of plans in the module state: type -> version and kind.
   Invariant: a plan is made only after __reduce_ex__ has accepted an instance
              of the class, and holds as long as the type's version tag: any
              change to the class or its bases gives it a new one.
   Called by: reduce.c, when nothing else claimed the object. */
#include "encode/encoder.h"

enum plan_kind {
    PLAN_NONE,
    PLAN_DICT,     /* class, NEWOBJ, __dict__, BUILD */
    PLAN_SLOTS,    /* class, NEWOBJ, (__dict__, slots), BUILD */
    PLAN_FIELDS,   /* class, tuple, NEWOBJ: a named tuple */
    PLAN_CALL,     /* __reduce__ says */
    PLAN_DATE,     /* + fpk_date_kind: class, fields, REDUCE */
    PLAN_KIND_BITS = 4,
};

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
        (type->tp_flags & built_in) != 0 || type->tp_itemsize != 0) {
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

/* Which class of [type]'s bases brings [name]: borrowed, or NULL. */
static PyTypeObject *
find_owner(PyTypeObject *type, PyObject *name)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        PyObject *dict = fpk_type_dict(base);
        int found = dict == NULL ? 0 : PyDict_Contains(dict, name);
        Py_XDECREF(dict);
        if (found != 0) {
            return found < 0 ? NULL : base;
        }
    }
    return NULL;
}

/* 1 if [type] is made by collections.namedtuple or derives from such a class
   without adding anything to its instances. */
static int
is_named_tuple(const fpk_state *state, PyTypeObject *type)
{
    if (!PyType_HasFeature(type, Py_TPFLAGS_TUPLE_SUBCLASS) ||
        type->tp_dictoffset != 0 ||
        find_owner(type, state->str.__reduce_ex__) != &PyBaseObject_Type ||
        find_owner(type, state->str.__reduce__) != &PyBaseObject_Type ||
        find_owner(type, state->str.__getnewargs_ex__) != NULL ||
        find_owner(type, state->str.__class__) != &PyBaseObject_Type) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyTypeObject *owner = find_owner(type, state->str.__getstate__);
    if (owner != NULL && owner != &PyBaseObject_Type) {
        return 0;
    }
    owner = find_owner(type, state->str.__getnewargs__);
    if (owner != find_owner(type, state->str.__new__)) {
        return 0; /* the fields may not be what its __new__ takes */
    }
    PyObject *dict = owner == NULL ? NULL : fpk_type_dict(owner);
    PyObject *function = NULL;
    int found = dict == NULL ? -1
                             : PyDict_GetItemRef(
                                   dict, state->str.__getnewargs__, &function);
    if (found > 0) {
        found = PyFunction_Check(function) &&
                PyFunction_GET_CODE(function) == state->namedtuple_newargs;
    }
    Py_XDECREF(dict);
    Py_XDECREF(function);
    return found < 0 && !PyErr_Occurred() ? 0 : found;
}

/* 1 if object.__reduce_ex__ does nothing for [type] but call __reduce__. */
static int
has_own_reduce(const fpk_state *state, PyTypeObject *type)
{
    if (find_owner(type, state->str.__reduce_ex__) != &PyBaseObject_Type) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyTypeObject *owner = find_owner(type, state->str.__reduce__);
    if (owner == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return owner != &PyBaseObject_Type;
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

/* How instances are written whose __reduce_ex__ answers
   (copyreg.__newobj__, (class, ...), ...); PLAN_NONE with or without an
   exception if it has to be asked each time. */
static unsigned
plan_for_newobj(const fpk_state *state, PyTypeObject *type, PyObject *args)
{
    if (!PyTuple_CheckExact(args) || PyTuple_GET_SIZE(args) < 1 ||
        PyTuple_GET_ITEM(args, 0) != (PyObject *)type) {
        return PLAN_NONE;
    }
    if (is_named_tuple(state, type) > 0) {
        return PLAN_FIELDS;
    }
    if (PyErr_Occurred() || PyTuple_GET_SIZE(args) != 1 ||
        inherits_reduction(state, type) <= 0) {
        return PLAN_NONE;
    }
    PyObject *slots = slot_names(state, type);
    if (slots == NULL) {
        return PLAN_NONE;
    }
    unsigned kind = PyList_GET_SIZE(slots) == 0 ? PLAN_DICT : PLAN_SLOTS;
    Py_DECREF(slots);
    return kind;
}

/* Remembers how instances of [type] are written, after __reduce_ex__ has
   answered [value] for one of them. */
int
fpk_learn_instance(fpk_encoder *e, PyTypeObject *type, PyObject *value)
{
    fpk_state *state = e->state;
    if (type->tp_version_tag == 0 || type->tp_mro == NULL ||
        type->tp_getattro != PyObject_GenericGetAttr ||
        !PyTuple_CheckExact(value) || PyTuple_GET_SIZE(value) < 2) {
        return 0;
    }
    unsigned kind = PLAN_NONE;
    PyObject *callable = PyTuple_GET_ITEM(value, 0);
    if (callable == state->copyreg_newobj) {
        kind = plan_for_newobj(state, type, PyTuple_GET_ITEM(value, 1));
    }
    else {
        enum fpk_date_kind date = fpk_find_date_kind(state, type);
        if (date != FPK_NO_DATE) {
            kind = PLAN_DATE + (unsigned)date;
        }
        else if (has_own_reduce(state, type) > 0) {
            kind = PLAN_CALL;
        }
    }
    if (kind == PLAN_NONE) {
        return PyErr_Occurred() ? -1 : 0;
    }
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

static unsigned
find_plan(const fpk_encoder *e, PyTypeObject *type)
{
    const fpk_memo_entry *entry = fpk_memo_find(&e->state->plans, type);
    if (entry == NULL || type->tp_version_tag == 0 ||
        entry->index >> PLAN_KIND_BITS != type->tp_version_tag) {
        return PLAN_NONE;
    }
    return (unsigned)(entry->index & ((1u << PLAN_KIND_BITS) - 1));
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
    INSTANCE_ARGUMENTS,
    INSTANCE_NEW,
    INSTANCE_BUILD,
};

/* What stands between the class and the opcode that makes the object. */
static int
write_arguments(fpk_encoder *e, const fpk_frame *frame)
{
    if (frame->slot == PLAN_FIELDS) {
        return fpk_save_tuple_tail(e, frame->object, 0);
    }
    if (frame->slot >= PLAN_DATE) {
        return fpk_emit_date_fields(e, frame->object,
                                    (enum fpk_date_kind)(frame->slot -
                                                         PLAN_DATE));
    }
    return fpk_emit_op(e, FPK_OP_EMPTY_TUPLE);
}

/* The state, if the object can have one. */
static int
write_state(fpk_encoder *e, fpk_frame *frame)
{
    if (frame->slot != PLAN_DICT && frame->slot != PLAN_SLOTS) {
        e->reductions--;
        return FPK_DONE;
    }
    PyObject *obj = frame->object;
    PyObject *dict = instance_dict(obj);
    if (dict == NULL && PyErr_Occurred()) {
        return FPK_ERROR;
    }
    PyObject *state = dict;
    if (frame->slot == PLAN_SLOTS) {
        state = slot_state(e, obj, dict);
        if (state == NULL) {
            return FPK_ERROR;
        }
        frame->aux = state;
    }
    if (state == NULL || state == Py_None) {
        e->reductions--;
        return FPK_DONE;
    }
    int result = fpk_save(e, state);
    return result == FPK_DONE ? FPK_MORE : result;
}

static int
make_instance(fpk_encoder *e, fpk_frame *frame)
{
    PyObject *obj = frame->object;
    if (fpk_emit_op(e, frame->slot >= PLAN_DATE ? FPK_OP_REDUCE
                                                : FPK_OP_NEWOBJ) < 0) {
        return FPK_ERROR;
    }
    if (fpk_close_late(e)) {
        /* The class, by value, or a field led back here and built the
           object: that one counts. */
        e->reductions--;
        return fpk_emit_op(e, FPK_OP_POP) < 0 ||
                       fpk_emit_get_if_saved(e, obj) != 1
                   ? FPK_ERROR
                   : FPK_DONE;
    }
    if (frame->shared && fpk_memoize(e, obj) < 0) {
        return FPK_ERROR;
    }
    return write_state(e, frame);
}

static int
advance_instance(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (frame->step == INSTANCE_CLASS) {
        frame->step = INSTANCE_ARGUMENTS;
        int result = fpk_save_shared(e, (PyObject *)Py_TYPE(frame->object));
        if (result != FPK_DONE) {
            return result;
        }
        frame = fpk_top_frame(e);
    }
    if (frame->step == INSTANCE_ARGUMENTS) {
        frame->step = INSTANCE_NEW;
        int result = write_arguments(e, frame);
        if (result != FPK_DONE) {
            return result;
        }
        frame = fpk_top_frame(e);
    }
    if (frame->step == INSTANCE_NEW) {
        frame->step = INSTANCE_BUILD;
        return make_instance(e, frame);
    }
    e->reductions--;
    return fpk_emit_op(e, FPK_OP_BUILD);
}

int
fpk_save_instance(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyTypeObject *type = Py_TYPE(obj);
    unsigned kind = find_plan(e, type);
    if (kind == PLAN_NONE || e->protocol < 2 || e->persistent_id != NULL ||
        e->canonical != NULL) {
        return FPK_NO_PLAN;
    }
    PyObject *dict = instance_dict(obj);
    if (dict == NULL && PyErr_Occurred()) {
        return FPK_ERROR;
    }
    if (dict != NULL) {
        /* Keys that are equal to a str can be of any class. */
        Py_INCREF(dict);
        int found = has_hooks(e->state, dict);
        Py_DECREF(dict);
        if (found != 0) {
            return found < 0 ? FPK_ERROR : FPK_NO_PLAN;
        }
    }
    if (kind == PLAN_CALL) {
        PyObject *value =
            PyObject_CallMethodNoArgs(obj, e->state->str.__reduce__);
        return value == NULL ? FPK_ERROR
                             : fpk_save_reduced(e, obj, value, shared);
    }
    if (kind >= PLAN_DATE &&
        !fpk_has_plain_date_fields(e, obj,
                                   (enum fpk_date_kind)(kind - PLAN_DATE))) {
        return FPK_NO_PLAN;
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
