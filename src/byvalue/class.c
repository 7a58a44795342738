/* class.c -- classes by value.

   Does:      writes a class as a call that makes it, unless the receiver has
              it already, then completes its methods and sets what is left.
   Owns:      the jobs in the context: one for each class on the stack.
   Invariant: the class is memoised before anything is written that may refer
              back to it, except its bases and metaclass; when these have led
              to the class, it is written and done when they return.  When an
              early member has led there, a second job makes the class without
              those that are not complete, and the first one sets them.
   Called by: rules.c. */
#include "byvalue/room.h"

enum {
    PRELUDE_CREATOR,
    PRELUDE_CREATOR_DONE,
    PRELUDE_METACLASS,
    PRELUDE_METACLASS_DONE,
    PRELUDE_BASES,
    PRELUDE_EARLY,
    PRELUDE_EARLY_DONE,
    OPEN_CALL,
    WRITE_MEMBERS,
    WRITE_MEMBER_DONE,
    AFTER_CALL,
    COMPLETE_METHODS,
    SET_MEMBERS,
    SET_MEMBER_DONE,
    REGISTER_VIRTUAL,
    REGISTER_VIRTUAL_DONE,
    END_CLASS,
};

/* ---- jobs --------------------------------------------------------------- */

void
fpk_clear_class_job(fpk_class_job *job)
{
    Py_CLEAR(job->creator);
    Py_CLEAR(job->members);
    Py_CLEAR(job->functions);
    Py_CLEAR(job->late);
    Py_CLEAR(job->virtual_subclasses);
    fpk_memo_clear(&job->early);
    if (job->enumeration != NULL) {
        fpk_clear_enum_job(job->enumeration);
        job->enumeration = NULL;
    }
}

/* frame->size is the number of the class's job. */
static fpk_class_job *
current_job(fpk_encoder *e)
{
    fpk_context *c = e->byvalue;
    return &c->jobs[fpk_top_frame(e)->size];
}

static fpk_class_job *
add_job(fpk_encoder *e)
{
    fpk_context *c = fpk_get_context(e);
    if (c == NULL) {
        return NULL;
    }
    if (c->job_count == c->job_capacity) {
        size_t capacity = c->job_capacity == 0 ? 4 : 2 * c->job_capacity;
        fpk_class_job *jobs = PyMem_Realloc(c->jobs, capacity * sizeof *jobs);
        if (jobs == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        c->jobs = jobs;
        c->job_capacity = capacity;
    }
    fpk_class_job *job = &c->jobs[c->job_count++];
    memset(job, 0, sizeof *job);
    job->creator_index = FPK_UNWRITTEN;
    job->metaclass = FPK_UNWRITTEN;
    job->bases = FPK_UNWRITTEN;
    job->fixed = FPK_UNWRITTEN;
    job->target = FPK_UNWRITTEN;
    return job;
}

static int
end_job(fpk_encoder *e)
{
    fpk_context *c = e->byvalue;
    fpk_class_job job = c->jobs[--c->job_count];
    fpk_clear_class_job(&job);
    return FPK_DONE;
}

/* ---- prelude: what may lead back to the class before it exists ---------- */

static int
write_bases(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *bases = ((PyTypeObject *)frame->object)->tp_bases;
    Py_ssize_t size = PyTuple_GET_SIZE(bases);
    if (size == 1 &&
        PyTuple_GET_ITEM(bases, 0) == (PyObject *)&PyBaseObject_Type) {
        frame->step = PRELUDE_EARLY;
        return FPK_DONE;
    }
    if (frame->position == 0 && fpk_begin_tuple(e, size) < 0) {
        return FPK_ERROR;
    }
    while (frame->position < size) {
        PyObject *base = PyTuple_GET_ITEM(bases, frame->position++);
        int result = fpk_save(e, base);
        if (result != FPK_DONE) {
            return result;
        }
    }
    frame->step = PRELUDE_EARLY;
    frame->position = 0;
    if (fpk_end_tuple(e, size) < 0) {
        return FPK_ERROR;
    }
    return fpk_put_aside(e, &current_job(e)->bases);
}

/* ---- members ------------------------------------------------------------ */

/* The functions of [value] are completed when the class exists. */
static int
note_functions(fpk_class_job *job, PyObject *value)
{
    if (PyFunction_Check(value)) {
        return PyList_Append(job->functions, value);
    }
    PyObject *parts = fpk_wrapper_parts(value);
    if (parts == NULL) {
        return -1;
    }
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(parts); i++) {
        PyObject *part = PyTuple_GET_ITEM(parts, i);
        if (PyFunction_Check(part)) {
            status = PyList_Append(job->functions, part);
        }
    }
    Py_DECREF(parts);
    return status;
}

static int
note_late(fpk_class_job *job, PyObject *key)
{
    if (job->late == NULL && (job->late = PyList_New(0)) == NULL) {
        return -1;
    }
    return PyList_Append(job->late, key);
}

/* What runs at the receiver when the class is made may have changed a member:
   it is set again, unless that is pointless. */
static int
note_again(fpk_class_job *job, PyObject *key)
{
    if (PyUnicode_CompareWithASCIIString(key, "__module__") == 0 ||
        PyUnicode_CompareWithASCIIString(key, "__slots__") == 0 ||
        PyUnicode_CompareWithASCIIString(key, "__firstlineno__") == 0 ||
        PyUnicode_CompareWithASCIIString(key, "__static_attributes__") == 0) {
        return 0;
    }
    return note_late(job, key);
}

/* A member that is set later keeps its place in the class's dict. */
static int
write_placeholder(fpk_encoder *e, fpk_class_job *job, PyObject *key)
{
    int status = job->enumeration == NULL
                     ? 0
                     : fpk_save_enum_dict(e, job->enumeration, key);
    if (status != 0) {
        return status < 0 ? FPK_ERROR : fpk_emit_op(e, FPK_OP_SETITEM);
    }
    if (note_late(job, key) < 0 || fpk_save_atom(e, key, true) < 0 ||
        fpk_emit_op(e, FPK_OP_NONE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_SETITEM);
}

/* Where the early member [key] was put; NULL if it was not written. */
static const fpk_memo_entry *
find_early(const fpk_encoder *e, const fpk_class_job *job, PyObject *key)
{
    const fpk_memo_entry *entry = fpk_memo_find(&job->early, key);
    PyObject *names[FPK_EARLY_COUNT];
    fpk_get_early_names(e, names);
    for (int i = 0; entry == NULL && i < FPK_EARLY_COUNT; i++) {
        if (PyUnicode_Compare(key, names[i]) == 0) {
            entry = fpk_memo_find(&job->early, names[i]);
        }
    }
    return entry;
}

/* An early member has led to the class, and may be half of what it will be:
   the class is made without it, and without those that come after it and may
   need it.  Only the annotations and their like are taken as they are, because
   what makes a class asks for them. */
static bool
must_defer(const fpk_encoder *e, const fpk_class_job *job, PyObject *key,
           PyObject *value)
{
    return job->outer != 0 && find_early(e, job, key) == NULL &&
           (!fpk_is_early_name(e, key) || !fpk_can_recall(e, value));
}

/* The job [outer] sets the member when it has written it. */
static int
defer_member(fpk_encoder *e, size_t outer, PyObject *key)
{
    fpk_context *c = e->byvalue;
    return note_late(&c->jobs[outer], key);
}

static int
write_member(fpk_encoder *e, fpk_class_job *job, int kind, PyObject *key,
             PyObject *value)
{
    if (((job->reruns || job->updates) && note_again(job, key) < 0) ||
        fpk_save_atom(e, key, fpk_needs_memo(e, key)) < 0) {
        return FPK_ERROR;
    }
    if (kind == FPK_MEMBER_METHOD) {
        return note_functions(job, value) < 0 ? FPK_ERROR
                                              : fpk_create_callable(e, value);
    }
    if (kind == FPK_MEMBER_DATA) {
        return fpk_save(e, value);
    }
    const fpk_memo_entry *early = find_early(e, job, key);
    if (early != NULL) {
        return fpk_emit_get(e, early->index);
    }
    return fpk_recall(e, value) < 0 ? FPK_ERROR : FPK_DONE;
}

/* The next member that the class is created with. */
static int
write_members(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_class_job *job = current_job(e);
    PyObject *cls = frame->object;
    PyObject *key, *value;
    while (PyDict_Next(job->members, &frame->position, &key, &value)) {
        int kind = fpk_classify_member(e, job, cls, key, value);
        switch (kind) {
        case FPK_MEMBER_ERROR:
            return FPK_ERROR;
        case FPK_MEMBER_SKIP:
            break;
        case FPK_MEMBER_LATE:
            if (note_late(job, key) < 0) {
                return FPK_ERROR;
            }
            break;
        case FPK_MEMBER_PLACED:
            if (write_placeholder(e, job, key) < 0) {
                return FPK_ERROR;
            }
            break;
        default:
            if (kind == FPK_MEMBER_EARLY && must_defer(e, job, key, value)) {
                if (defer_member(e, job->outer - 1, key) < 0) {
                    return FPK_ERROR;
                }
                break;
            }
            frame->step = WRITE_MEMBER_DONE;
            return write_member(e, job, kind, key, value);
        }
    }
    frame->step = AFTER_CALL;
    frame->position = 0;
    return fpk_close_class_call(e, job, cls);
}

static int
complete_methods(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *functions = current_job(e)->functions;
    while (frame->position < PyList_GET_SIZE(functions)) {
        PyObject *function = PyList_GET_ITEM(functions, frame->position++);
        int result = fpk_complete_function(e, function);
        if (result != FPK_DONE) {
            return result;
        }
    }
    frame->step = SET_MEMBERS;
    frame->position = 0;
    return FPK_DONE;
}

/* Around the value of one attribute; the name is written between begin and the
   value. */
static int
begin_member(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    if (job->target == FPK_UNWRITTEN &&
        fpk_emit_class_target(e, job, cls) < 0) {
        return FPK_ERROR;
    }
    if (!job->by_setattr) {
        return fpk_begin_attribute(e);
    }
    if (fpk_emit_get(e, job->target) < 0 || fpk_begin_tuple(e, 3) < 0 ||
        fpk_recall(e, cls) < 0) {
        return FPK_ERROR;
    }
    return FPK_DONE;
}

static int
end_member(fpk_encoder *e, const fpk_class_job *job)
{
    if (!job->by_setattr) {
        return fpk_end_attribute(e);
    }
    if (fpk_end_tuple(e, 3) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

static int
restore_bases(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    if (begin_member(e, job, cls) < 0 || fpk_emit_str(e, "__bases__") < 0 ||
        fpk_emit_get(e, job->bases) < 0) {
        return FPK_ERROR;
    }
    return end_member(e, job);
}

/* The class has just been made: what has to be right before anything uses
   it. */
static int
after_call(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_class_job *job = current_job(e);
    PyObject *cls = frame->object;
    frame->step = COMPLETE_METHODS;
    if ((job->quiet && restore_bases(e, job, cls) < 0) ||
        (job->virtual_subclasses != NULL &&
         fpk_complete_abstract_class(e, job, cls) < 0)) {
        return FPK_ERROR;
    }
    return job->enumeration == NULL ? FPK_DONE
                                    : fpk_save_enum_members(e, job, cls);
}

/* The value of a late member. */
static int
save_late(fpk_encoder *e, const fpk_class_job *job, PyObject *value)
{
    if (job->enumeration != NULL) {
        const fpk_memo_entry *entry =
            fpk_memo_find(&job->enumeration->indices, value);
        if (entry != NULL) {
            return fpk_emit_get(e, entry->index);
        }
    }
    return fpk_save(e, value);
}

static int
set_members(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_class_job *job = current_job(e);
    PyObject *cls = frame->object;
    if (job->late != NULL && frame->position < PyList_GET_SIZE(job->late)) {
        PyObject *key = PyList_GET_ITEM(job->late, frame->position++);
        PyObject *value = PyDict_GetItemWithError(job->members, key);
        frame->step = SET_MEMBER_DONE;
        if (value == NULL || begin_member(e, job, cls) < 0 ||
            fpk_save_atom(e, key, fpk_needs_memo(e, key)) < 0) {
            return FPK_ERROR;
        }
        return save_late(e, job, value);
    }
    frame->step = REGISTER_VIRTUAL;
    frame->position = 0;
    return job->target == FPK_UNWRITTEN || job->by_setattr
               ? FPK_DONE
               : fpk_emit_op(e, FPK_OP_POP);
}

/* abc.ABCMeta.register(cls, subclass) */
static int
register_virtual(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *list = current_job(e)->virtual_subclasses;
    if (list == NULL || frame->position >= PyList_GET_SIZE(list)) {
        frame->step = END_CLASS;
        return current_job(e)->runtime_checkable
                   ? fpk_make_runtime_checkable(e, frame->object)
                   : FPK_DONE;
    }
    frame->step = REGISTER_VIRTUAL_DONE;
    PyObject *subclass = PyList_GET_ITEM(list, frame->position++);
    if (fpk_save_global_as(e, e->state->ABCMeta_register, e->state->str.abc,
                           "ABCMeta.register") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_recall(e, frame->object) < 0) {
        return FPK_ERROR;
    }
    return fpk_save(e, subclass);
}

static int
end_virtual(fpk_encoder *e)
{
    fpk_top_frame(e)->step = REGISTER_VIRTUAL;
    if (fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* ---- the frame ---------------------------------------------------------- */

/* Saves the early member [key]; its name waits in the frame. */
static int
save_early(fpk_encoder *e, PyObject *key, PyObject *value)
{
    fpk_frame *frame = fpk_top_frame(e);
    frame->step = PRELUDE_EARLY_DONE;
    Py_XSETREF(frame->aux, Py_NewRef(key));
    current_job(e)->in_early = true;
    return fpk_save(e, value);
}

/* The next member that is to be put aside. */
static int
write_early_member(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_class_job *job = current_job(e);
    PyObject *key, *value;
    PyObject *names[FPK_EARLY_COUNT];
    fpk_get_early_names(e, names);
    while (!job->superseded && job->early_names < FPK_EARLY_COUNT) {
        key = names[job->early_names++];
        value = PyDict_GetItemWithError(job->members, key);
        if (value != NULL) {
            return save_early(e, key, value);
        }
        if (PyErr_Occurred()) {
            return FPK_ERROR;
        }
    }
    if (job->reruns) {
        while (!job->superseded &&
               PyDict_Next(job->members, &frame->position, &key, &value)) {
            int kind = fpk_classify_member(e, job, frame->object, key, value);
            if (kind == FPK_MEMBER_ERROR) {
                return FPK_ERROR;
            }
            if (kind == FPK_MEMBER_EARLY && find_early(e, job, key) == NULL) {
                return save_early(e, key, value);
            }
        }
    }
    frame->step = OPEN_CALL;
    job->in_early = false;
    return job->enumeration == NULL
               ? FPK_DONE
               : fpk_write_enum_maker(e, job->enumeration);
}

static int
end_early_member(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    frame->step = PRELUDE_EARLY;
    uint64_t index;
    if (fpk_put_aside(e, &index) < 0) {
        return FPK_ERROR;
    }
    if (!fpk_memo_set(&current_job(e)->early, frame->aux, index)) {
        PyErr_NoMemory();
        return FPK_ERROR;
    }
    return FPK_DONE;
}

static int
advance_prelude(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_class_job *job = current_job(e);
    PyObject *cls = frame->object;
    switch (frame->step) {
    case PRELUDE_CREATOR:
        if (job->creator == (PyObject *)&PyType_Type) {
            frame->step = PRELUDE_BASES;
            return FPK_DONE;
        }
        frame->step = PRELUDE_CREATOR_DONE;
        return job->creator == e->state->type_new
                   ? fpk_save_global_as(e, job->creator,
                                        e->state->str.builtins, "type.__new__")
                   : fpk_save(e, job->creator);
    case PRELUDE_CREATOR_DONE:
        frame->step = job->needs_metaclass ? PRELUDE_METACLASS : PRELUDE_BASES;
        return fpk_put_aside(e, &job->creator_index);
    case PRELUDE_METACLASS:
        frame->step = PRELUDE_METACLASS_DONE;
        return fpk_save(e, (PyObject *)Py_TYPE(cls));
    case PRELUDE_METACLASS_DONE:
        frame->step = PRELUDE_BASES;
        return fpk_put_aside(e, &job->metaclass);
    case PRELUDE_BASES:
        return write_bases(e);
    case PRELUDE_EARLY:
        return write_early_member(e);
    default:
        return end_early_member(e);
    }
}

/* What the job that was superseded needs to set its members. */
static void
tell_outer(const fpk_encoder *e, const fpk_class_job *job)
{
    fpk_context *c = e->byvalue;
    if (job->outer != 0) {
        c->jobs[job->outer - 1].fixed = job->fixed;
    }
}

/* When an early member of the class has led to it, the job [number] makes it,
   with the early members that are complete. */
static bool
take_over(const fpk_encoder *e, size_t number)
{
    fpk_context *c = e->byvalue;
    fpk_class_job *job = &c->jobs[number];
    for (size_t i = 0; i < number; i++) {
        fpk_class_job *outer = &c->jobs[i];
        if (outer->cls == job->cls && outer->in_early && outer->reruns) {
            job->outer = i + 1;
            job->creator_index = outer->creator_index;
            job->metaclass = outer->metaclass;
            job->bases = outer->bases;
            job->early = outer->early;
            memset(&outer->early, 0, sizeof outer->early);
            outer->superseded = true;
            Py_CLEAR(outer->virtual_subclasses);
            outer->runtime_checkable = false;
            return true;
        }
    }
    return false;
}

static int
advance_class(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        PyObject *cls = frame->object;
        size_t depth = e->depth;
        int result;
        switch (frame->step) {
        case OPEN_CALL:
            result = fpk_recall(e, cls);
            if (result > 0 && current_job(e)->superseded) {
                frame->step = SET_MEMBERS;
                frame->position = 0;
                result = FPK_DONE;
                break;
            }
            if (result != 0) {
                /* The bases or the metaclass have led here. */
                (void)end_job(e);
                return result < 0 ? FPK_ERROR : FPK_DONE;
            }
            frame->step = WRITE_MEMBERS;
            frame->position = 0;
            result = fpk_open_class_call(e, current_job(e), cls);
            tell_outer(e, current_job(e));
            break;
        case WRITE_MEMBER_DONE:
            frame->step = WRITE_MEMBERS;
            result = fpk_emit_op(e, FPK_OP_SETITEM);
            break;
        case WRITE_MEMBERS:
            result = write_members(e);
            break;
        case AFTER_CALL:
            result = after_call(e);
            break;
        case COMPLETE_METHODS:
            result = complete_methods(e);
            break;
        case SET_MEMBER_DONE:
            frame->step = SET_MEMBERS;
            result = end_member(e, current_job(e));
            break;
        case SET_MEMBERS:
            result = set_members(e);
            break;
        case REGISTER_VIRTUAL:
            result = register_virtual(e);
            break;
        case REGISTER_VIRTUAL_DONE:
            result = end_virtual(e);
            break;
        case END_CLASS:
            return end_job(e);
        default:
            result = advance_prelude(e);
            break;
        }
        if (result == FPK_ERROR || e->depth != depth) {
            return result < 0 ? FPK_ERROR : FPK_MORE;
        }
    }
}

int
fpk_save_class_body(fpk_encoder *e, PyObject *cls)
{
    int found = fpk_recall(e, cls);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    fpk_class_job *job = add_job(e);
    if (job == NULL) {
        return FPK_ERROR;
    }
    fpk_frame *frame =
        fpk_plan_class(e, job, cls) < 0
            ? NULL
            : fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_class, cls, NULL);
    if (frame == NULL) {
        PyObject *exception = fpk_get_raised_exception();
        (void)end_job(e);
        fpk_set_raised_exception(exception);
        return FPK_ERROR;
    }
    const fpk_context *c = e->byvalue;
    frame->size = (Py_ssize_t)c->job_count - 1;
    c->jobs[frame->size].cls = cls;
    if (take_over(e, (size_t)frame->size)) {
        frame->step = OPEN_CALL;
    }
    return FPK_MORE;
}

void
fpk_abandon_class(fpk_encoder *e)
{
    if (fpk_top_frame(e)->advance == advance_class) {
        (void)end_job(e);
    }
}
