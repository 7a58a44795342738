/* enum.c -- the members of enumerations by value.

   Does:      makes the members of an enumeration as plain instances, with the
              attributes that they have at the sender, and leads to them from
              their names and values.
   Owns:      fpk_enum_job.
   Invariant: no code of the enumeration runs: neither its __new__ nor what
              gives members their values.  A member that the receiver has
              already is never touched: what refers to a member outside of its
              class asks the class for it.
   Called by: class.c.

   Most enumerations are what EnumType makes of their names and values again
   (enum_call.c).  The others are made by type.__new__ from the dict that
   EnumType left, so that aliases, composite flags and whatever a member got
   from its __new__ are as they were. */
#include "byvalue/room.h"

enum {
    MAKE_MEMBER,
    MEMBER_MADE,
    FILL_VALUES,
    VALUE_DONE,
    SET_STATE,
    STATE_DONE,
    ALL_DONE,
};

/* ---- plan --------------------------------------------------------------- */

int
fpk_is_enum(fpk_state *state, PyObject *cls)
{
    PyObject *name = PyUnicode_FromString("enum");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (module == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *meta = PyObject_GetAttrString(module, "EnumMeta");
    Py_DECREF(module);
    if (meta == NULL) {
        return -1;
    }
    int answer = PyType_Check(meta) &&
                 PyType_IsSubtype(Py_TYPE(cls), (PyTypeObject *)meta);
    Py_DECREF(meta);
    return answer;
}

/* The values of _member_map_, each once: aliases lead to the same member. */
static PyObject *
list_members(fpk_enum_job *job, PyObject *by_name)
{
    PyObject *list = PyList_New(0);
    Py_ssize_t position = 0;
    PyObject *name, *member;
    while (list != NULL && PyDict_Next(by_name, &position, &name, &member)) {
        if (fpk_memo_find(&job->indices, member) != NULL) {
            continue;
        }
        if (!fpk_memo_set(&job->indices, member, FPK_UNWRITTEN)) {
            PyErr_NoMemory();
            Py_CLEAR(list);
        }
        else if (PyList_Append(list, member) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

PyTypeObject *
fpk_find_maker_type(fpk_state *state, PyTypeObject *type)
{
    while (fpk_is_python_class(state, type)) {
        type = type->tp_base;
    }
    return type;
}

static PyObject *
get_dict(const fpk_class_job *job, const char *name)
{
    PyObject *dict = PyDict_GetItemString(job->members, name);
    return dict != NULL && PyDict_Check(dict) ? dict : NULL;
}

/* The enum module marks classes that it does not want to be pickled: 1, 0, or
   -1 on error. */
static int
is_unpicklable(fpk_encoder *e, PyObject *cls)
{
    PyObject *module;
    int found =
        PyObject_GetOptionalAttr(cls, e->state->str.__module__, &module);
    if (found > 0) {
        found = PyUnicode_Check(module) &&
                PyUnicode_CompareWithASCIIString(module, "<unknown>") == 0;
        Py_DECREF(module);
    }
    return found;
}

int
fpk_plan_enum(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    int unpicklable = is_unpicklable(e, cls);
    if (unpicklable != 0) {
        if (unpicklable > 0) {
            (void)fpk_refuse(e, cls,
                             "the enum module marked it as not to be pickled, "
                             "because its module was not known. Name it "
                             "by module=__name__");
        }
        return -1;
    }
    PyObject *by_name = get_dict(job, "_member_map_");
    if (by_name == NULL || get_dict(job, "_value2member_map_") == NULL) {
        /* Enum itself, and what only looks like an enumeration. */
        return 0;
    }
    PyObject *items = fpk_find_enum_items(e, cls, job->members, by_name);
    if (items != NULL) {
        job->prepared = true;
        job->needs_metaclass = false;
        job->arguments = 3;
        Py_SETREF(job->creator, Py_NewRef((PyObject *)Py_TYPE(cls)));
        Py_SETREF(job->members, PyDict_Copy(items));
        Py_DECREF(items);
        return job->members == NULL ? -1 : 0;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (e->portable && fpk_add_enum_lists(job->members, by_name) < 0) {
        return -1;
    }
    fpk_enum_job *enumeration = PyMem_Calloc(1, sizeof *enumeration);
    if (enumeration == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    job->enumeration = enumeration;
    enumeration->maker_index = FPK_UNWRITTEN;
    enumeration->by_name = FPK_UNWRITTEN;
    enumeration->by_value = FPK_UNWRITTEN;
    PyObject *method;
    int found =
        PyObject_GetOptionalAttr(cls, e->state->str.__setstate__, &method);
    Py_XDECREF(method);
    if (found < 0) {
        return -1;
    }
    enumeration->has_setstate = found;
    enumeration->members = list_members(enumeration, by_name);
    enumeration->maker = PyObject_GetAttr(
        (PyObject *)fpk_find_maker_type(e->state, (PyTypeObject *)cls),
        e->state->str.__new__);
    return enumeration->members == NULL || enumeration->maker == NULL ? -1 : 0;
}

void
fpk_clear_enum_job(fpk_enum_job *job)
{
    Py_CLEAR(job->members);
    Py_CLEAR(job->maker);
    fpk_memo_clear(&job->indices);
    PyMem_Free(job);
}

/* ---- before the class --------------------------------------------------- */

int
fpk_save_enum_dict(fpk_encoder *e, fpk_enum_job *job, PyObject *key)
{
    uint64_t *index;
    if (PyUnicode_CompareWithASCIIString(key, "_member_map_") == 0) {
        index = &job->by_name;
    }
    else if (PyUnicode_CompareWithASCIIString(key, "_value2member_map_") ==
             0) {
        index = &job->by_value;
    }
    else {
        return 0;
    }
    if (fpk_emit_unicode(e, key) < 0 || fpk_emit_empty_dict(e) < 0 ||
        fpk_remember_anonymous(e, index) < 0) {
        return -1;
    }
    return 1;
}

/* ---- members ------------------------------------------------------------ */

/* What the reduction of [member] gives __new__ after the class: a new
   tuple. */
static PyObject *
reduced_arguments(fpk_encoder *e, PyTypeObject *maker, PyObject *member)
{
    PyObject *value = PyObject_CallMethod((PyObject *)maker, "__reduce_ex__",
                                          "Oi", member, 2);
    if (value == NULL) {
        return NULL;
    }
    PyObject *args = NULL;
    if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) >= 2 &&
        PyTuple_GET_ITEM(value, 0) == (PyObject *)Py_TYPE(member) &&
        PyTuple_CheckExact(PyTuple_GET_ITEM(value, 1))) {
        args = Py_NewRef(PyTuple_GET_ITEM(value, 1));
    }
    else {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R by value: it is a member of an "
                     "enumeration, and what makes a %.200s of it again is not "
                     "known",
                     member, maker->tp_name);
    }
    Py_DECREF(value);
    return args;
}

/* What the __new__ of [maker] needs after the class: a new tuple. */
static PyObject *
maker_arguments(fpk_encoder *e, PyTypeObject *maker, PyObject *member)
{
    PyObject *method;
    if (maker == &PyBaseObject_Type) {
        return PyTuple_New(0);
    }
    int found = PyObject_GetOptionalAttr(
        (PyObject *)maker, e->state->str.__getnewargs__, &method);
    if (found <= 0) {
        return found < 0 ? NULL : reduced_arguments(e, maker, member);
    }
    PyObject *args = PyObject_CallOneArg(method, member);
    Py_DECREF(method);
    if (args != NULL && !PyTuple_CheckExact(args)) {
        PyErr_Format(PyExc_TypeError,
                     "__getnewargs__ should return a tuple, not '%.200s'",
                     Py_TYPE(args)->tp_name);
        Py_CLEAR(args);
    }
    return args;
}

int
fpk_write_enum_maker(fpk_encoder *e, fpk_enum_job *job)
{
    if (PyList_GET_SIZE(job->members) == 0) {
        return FPK_DONE;
    }
    PyObject *owner = PyCFunction_Check(job->maker)
                          ? PyCFunction_GET_SELF(job->maker)
                          : NULL;
    if (owner == NULL || !PyType_Check(owner)) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle the members of an enumeration by value: "
                     "they are made by %R",
                     job->maker);
        return FPK_ERROR;
    }
    PyObject *module = PyObject_GetAttr(owner, e->state->str.__module__);
    PyObject *name = PyObject_GetAttr(owner, e->state->str.__qualname__);
    PyObject *full =
        name == NULL ? NULL : PyUnicode_FromFormat("%U.__new__", name);
    const char *text = full == NULL ? NULL : PyUnicode_AsUTF8(full);
    int status = FPK_ERROR;
    if (module != NULL && PyUnicode_CheckExact(module) && text != NULL &&
        fpk_save_global_as(e, job->maker, module, text) == FPK_DONE) {
        status = fpk_put_aside(e, &job->maker_index);
    }
    Py_XDECREF(module);
    Py_XDECREF(name);
    Py_XDECREF(full);
    return status;
}

/* The jobs may have moved since the frame was pushed. */
static fpk_enum_job *
current_enum(fpk_encoder *e)
{
    fpk_context *c = e->byvalue;
    return c->jobs[fpk_top_frame(e)->size].enumeration;
}

/* _member_map_, and _value2member_map_ on the stack.  Members that a flag made
   on the way are left out: they are made again. */
static int
fill_names(fpk_encoder *e)
{
    fpk_context *c = e->byvalue;
    const fpk_class_job *job = &c->jobs[fpk_top_frame(e)->size];
    const fpk_enum_job *enumeration = job->enumeration;
    PyObject *dict = get_dict(job, "_member_map_");
    Py_ssize_t position = 0;
    PyObject *key, *member;
    if (dict == NULL || fpk_emit_get(e, enumeration->by_name) < 0) {
        return FPK_ERROR;
    }
    while (PyDict_Next(dict, &position, &key, &member)) {
        const fpk_memo_entry *entry =
            fpk_memo_find(&enumeration->indices, member);
        if (entry == NULL) {
            continue;
        }
        if (fpk_save_atom(e, key, true) <= 0 ||
            fpk_emit_get(e, entry->index) < 0 ||
            fpk_emit_op(e, FPK_OP_SETITEM) < 0) {
            return FPK_ERROR;
        }
    }
    if (fpk_emit_op(e, FPK_OP_POP) < 0) {
        return FPK_ERROR;
    }
    return enumeration->by_value == FPK_UNWRITTEN
               ? FPK_DONE
               : fpk_emit_get(e, enumeration->by_value);
}

/* frame->object: the class; frame->position: members begun. */
static int
make_member(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_enum_job *job = current_enum(e);
    if (frame->position == PyList_GET_SIZE(job->members)) {
        frame->position = 0;
        frame->step = FILL_VALUES;
        return fill_names(e);
    }
    PyObject *member = PyList_GET_ITEM(job->members, frame->position);
    PyTypeObject *maker = (PyTypeObject *)PyCFunction_GET_SELF(job->maker);
    PyObject *cls = frame->object;
    PyObject *args = NULL, *call = NULL;
    int status = FPK_ERROR;
    PyObject *rest = maker_arguments(e, maker, member);
    if (rest == NULL) {
        return FPK_ERROR;
    }
    args = PyTuple_Pack(1, cls);
    call = args == NULL ? NULL : PySequence_Concat(args, rest);
    if (call != NULL && fpk_emit_get(e, job->maker_index) == FPK_DONE) {
        fpk_top_frame(e)->step = MEMBER_MADE;
        status = fpk_save(e, call);
    }
    Py_DECREF(rest);
    Py_XDECREF(args);
    Py_XDECREF(call);
    return status;
}

static int
member_made(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_enum_job *job = current_enum(e);
    PyObject *member = PyList_GET_ITEM(job->members, frame->position++);
    uint64_t index;
    frame->step = MAKE_MEMBER;
    if (fpk_emit_op(e, FPK_OP_REDUCE) < 0 || fpk_put_aside(e, &index) < 0) {
        return FPK_ERROR;
    }
    if (!fpk_memo_set(&job->indices, member, index)) {
        PyErr_NoMemory();
        return FPK_ERROR;
    }
    return FPK_DONE;
}

/* frame->aux: _value2member_map_. */
static int
fill_values(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_enum_job *job = current_enum(e);
    PyObject *value, *member;
    while (job->by_value != FPK_UNWRITTEN &&
           PyDict_Next(frame->aux, &frame->position, &value, &member)) {
        const fpk_memo_entry *entry = fpk_memo_find(&job->indices, member);
        if (entry != NULL) {
            frame->step = VALUE_DONE;
            frame->slot = entry->index;
            return fpk_save(e, value);
        }
    }
    frame->step = SET_STATE;
    frame->position = 0;
    return job->by_value == FPK_UNWRITTEN ? FPK_DONE
                                          : fpk_emit_op(e, FPK_OP_POP);
}

static int
value_done(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    frame->step = FILL_VALUES;
    if (fpk_emit_get(e, frame->slot) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_SETITEM);
}

/* dict.update(vars(member), STATE), where BUILD would call a __setstate__ */
static int
begin_update(fpk_encoder *e, PyObject *member, PyObject *state, uint64_t index)
{
    if (!PyDict_CheckExact(state)) {
        PyErr_Format(e->state->PicklingError,
                     "Can't pickle %R by value: it is a member of an "
                     "enumeration with __slots__ and __setstate__",
                     member);
        return FPK_ERROR;
    }
    if (fpk_save_global_as(e, e->state->dict_update, e->state->str.builtins,
                           "dict.update") < 0 ||
        fpk_begin_tuple(e, 2) < 0 ||
        fpk_save_global_as(e, e->state->builtins_vars, e->state->str.builtins,
                           "vars") < 0 ||
        fpk_begin_tuple(e, 1) < 0 || fpk_emit_get(e, index) < 0 ||
        fpk_end_tuple(e, 1) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* What object.__getstate__ gives for [member], without the flags that are not
   in it: Flag keeps these on the way, and the class could not be asked for
   them as long as its members are not complete. */
static PyObject *
get_state(fpk_encoder *e, PyObject *member)
{
    static const char noted[] = "_inverted_";
    PyObject *state =
        PyObject_CallOneArg(e->state->object_getstate, member);
    if (state == NULL) {
        return NULL;
    }
    bool has_slots = PyTuple_CheckExact(state) && PyTuple_GET_SIZE(state) == 2;
    PyObject *dict = has_slots ? PyTuple_GET_ITEM(state, 0) : state;
    if (!PyDict_CheckExact(dict) ||
        PyDict_GetItemString(dict, noted) == NULL) {
        return state;
    }
    PyObject *copy = PyDict_Copy(dict);
    if (copy != NULL && PyDict_DelItemString(copy, noted) < 0) {
        Py_CLEAR(copy);
    }
    PyObject *result =
        copy == NULL ? NULL
        : has_slots  ? PyTuple_Pack(2, copy, PyTuple_GET_ITEM(state, 1))
                     : Py_NewRef(copy);
    Py_XDECREF(copy);
    Py_DECREF(state);
    return result;
}

/* The attributes of a member: its __dict__, perhaps with slots. */
static int
set_state(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_enum_job *job = current_enum(e);
    if (frame->position == PyList_GET_SIZE(job->members)) {
        frame->step = ALL_DONE;
        return FPK_DONE;
    }
    PyObject *member = PyList_GET_ITEM(job->members, frame->position++);
    const fpk_memo_entry *entry = fpk_memo_find(&job->indices, member);
    PyObject *state = get_state(e, member);
    if (state == NULL) {
        return FPK_ERROR;
    }
    frame->step = STATE_DONE;
    int status = job->has_setstate
                     ? begin_update(e, member, state, entry->index)
                     : fpk_emit_get(e, entry->index);
    if (status == FPK_DONE) {
        status = fpk_save(e, state);
    }
    Py_DECREF(state);
    return status;
}

static int
state_done(fpk_encoder *e)
{
    fpk_top_frame(e)->step = SET_STATE;
    if (!current_enum(e)->has_setstate) {
        if (fpk_emit_op(e, FPK_OP_BUILD) < 0) {
            return FPK_ERROR;
        }
    }
    else if (fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

static int
advance_members(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        size_t depth = e->depth;
        int result;
        switch (frame->step) {
        case MAKE_MEMBER:
            result = make_member(e);
            break;
        case MEMBER_MADE:
            result = member_made(e);
            break;
        case FILL_VALUES:
            result = fill_values(e);
            break;
        case VALUE_DONE:
            result = value_done(e);
            break;
        case SET_STATE:
            result = set_state(e);
            break;
        case STATE_DONE:
            result = state_done(e);
            break;
        default:
            return FPK_DONE;
        }
        if (result == FPK_ERROR || e->depth != depth) {
            return result < 0 ? FPK_ERROR : FPK_MORE;
        }
    }
}

int
fpk_save_enum_members(fpk_encoder *e, const fpk_class_job *job, PyObject *cls)
{
    PyObject *by_value = get_dict(job, "_value2member_map_");
    if (by_value == NULL || PyList_GET_SIZE(job->enumeration->members) == 0) {
        return FPK_DONE;
    }
    /* Its values may run code that adds to it. */
    PyObject *copy = PyDict_Copy(by_value);
    if (copy == NULL) {
        return FPK_ERROR;
    }
    Py_ssize_t number = fpk_top_frame(e)->size;
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_members, cls, copy);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->size = number;
    return FPK_MORE;
}

int
fpk_init_enum(PyObject *module, fpk_state *state)
{
    state->object_getstate = PyObject_GetAttr((PyObject *)&PyBaseObject_Type,
                                              state->str.__getstate__);
    state->dict_update =
        PyObject_GetAttrString((PyObject *)&PyDict_Type, "update");
    PyObject *weak_dict = fpk_new_name("weakref", "WeakKeyDictionary");
    state->plain_enums =
        weak_dict == NULL ? NULL : PyObject_CallNoArgs(weak_dict);
    Py_XDECREF(weak_dict);
    return state->object_getstate == NULL || state->dict_update == NULL ||
                   state->plain_enums == NULL
               ? -1
               : 0;
}
