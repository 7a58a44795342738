/* class.c -- classes by value.

   Does:      writes a class as a call that makes it, unless the receiver has
              it already, then completes its methods and sets what is left.
   Owns:      the jobs in the context: one for each class on the stack.
   Invariant: the class is memoised before anything is written that may refer
              back to it, except its bases and metaclass; when these have led
              to the class, it is written and done when they return.
   Called by: rules.c.

   What the receiver does:

       present = operator.contains(registry, id)
       make    = operator.getitem((creator, WeakValueDictionary.get), present)
       args    = operator.getitem(((name, bases, dict), (registry, id)),
                                  present)
       cls     = WeakValueDictionary.setdefault(registry, id, make(*args))
       target  = operator.getitem((cls, SimpleNamespace()), present)
       target.NAME = VALUE ...

   so that a class that is there keeps its live attributes, and that nothing is
   run twice which runs when a class is made. */
#include "byvalue/room.h"

enum {
    PRELUDE_CREATOR,
    PRELUDE_CREATOR_DONE,
    PRELUDE_METACLASS,
    PRELUDE_METACLASS_DONE,
    PRELUDE_BASES,
    PRELUDE_ORIGINAL,
    PRELUDE_ORIGINAL_DONE,
    OPEN_CALL,
    WRITE_MEMBERS,
    WRITE_MEMBER_DONE,
    COMPLETE_METHODS,
    SET_MEMBERS,
    SET_MEMBER_DONE,
    REGISTER_VIRTUAL,
    REGISTER_VIRTUAL_DONE,
    END_CLASS,
};

/* ---- jobs ---------------------------------------------------------------------- */

void
fpk_clear_class_job(fpk_class_job *job)
{
    Py_CLEAR(job->creator);
    Py_CLEAR(job->members);
    Py_CLEAR(job->functions);
    Py_CLEAR(job->virtual_subclasses);
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
        fpk_class_job *jobs =
            PyMem_Realloc(c->jobs, capacity * sizeof *jobs);
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
    job->original_bases = FPK_UNWRITTEN;
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

/* ---- how the class is made --------------------------------------------------------- */

/* Metaclasses whose classes need more than this file knows. */
static int
check_metaclass(fpk_encoder *e, PyObject *cls)
{
    static const struct {
        const char *module;
        const char *name;
        const char *kind;
    } refused[] = {
        {"enum", "EnumMeta", "enumerations"},
        {"typing", "_TypedDictMeta", "TypedDict classes"},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(refused); i++) {
        PyObject *name = PyUnicode_FromString(refused[i].module);
        PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
        Py_XDECREF(name);
        if (module == NULL) {
            if (PyErr_Occurred()) {
                return -1;
            }
            continue;
        }
        PyObject *meta = PyObject_GetAttrString(module, refused[i].name);
        Py_DECREF(module);
        if (meta == NULL) {
            PyErr_Clear();
            continue;
        }
        bool is_refused =
            PyType_Check(meta) &&
            PyType_IsSubtype(Py_TYPE(cls), (PyTypeObject *)meta);
        Py_DECREF(meta);
        if (is_refused) {
            PyErr_Format(e->state->PicklingError,
                         "Can't pickle %R: %s cannot travel by value yet; "
                         "define it in a module that the receiver can import",
                         cls, refused[i].kind);
            return -1;
        }
    }
    return 0;
}

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

/* The __new__ of the first class above [metaclass] that goes by name: that of
   the metaclass itself has done its work at the sender. */
static PyObject *
find_inherited_new(fpk_encoder *e, PyTypeObject *metaclass)
{
    PyObject *mro = metaclass->tp_mro;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        int by_value = fpk_goes_by_value(e, base);
        if (by_value < 0) {
            return NULL;
        }
        if (!by_value) {
            return PyObject_GetAttr(base, e->state->str.__new__);
        }
    }
    Py_UNREACHABLE();
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
    if (check_metaclass(e, cls) < 0) {
        return -1;
    }
    int by_value = fpk_goes_by_value(e, (PyObject *)metaclass);
    if (by_value < 0) {
        return -1;
    }
    if (by_value) {
        job->needs_metaclass = true;
        job->arguments = 4;
        job->creator = find_inherited_new(e, metaclass);
    }
    else if (overrides_prepare((PyObject *)metaclass)) {
        job->needs_metaclass = true;
        job->arguments = 4;
        job->creator = Py_NewRef(e->state->types_new_class);
    }
    else {
        job->creator = Py_NewRef((PyObject *)metaclass);
    }
    return job->creator == NULL ? -1 : 0;
}

/* __init_subclass__ of a base that travels by value has left its traces in
   what travels: it must not run again.  That of an importable base has to, as
   that base knows nothing of the class at the receiver. */
static int
is_quiet(fpk_encoder *e, PyTypeObject *type)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        if (base == (PyObject *)&PyBaseObject_Type) {
            break;
        }
        PyObject *dict = fpk_type_dict((PyTypeObject *)base);
        if (dict == NULL) {
            return -1;
        }
        int has = PyDict_Contains(dict, e->state->str.__init_subclass__);
        Py_DECREF(dict);
        if (has != 0) {
            return has < 0 ? -1 : fpk_goes_by_value(e, base);
        }
    }
    return 0;
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
    return result;
}

static int
plan_job(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    PyObject *dict = fpk_type_dict((PyTypeObject *)cls);
    job->members = dict == NULL ? NULL : PyDict_Copy(dict);
    job->functions = PyList_New(0);
    Py_XDECREF(dict);
    if (job->members == NULL || job->functions == NULL ||
        choose_creator(e, job, cls) < 0) {
        return -1;
    }
    int quiet = is_quiet(e, (PyTypeObject *)cls);
    int by_setattr = needs_setattr(e, cls);
    int is_abstract =
        PyDict_Contains(job->members, e->state->str._abc_impl);
    if (quiet < 0 || by_setattr < 0 || is_abstract < 0) {
        return -1;
    }
    job->quiet = quiet;
    job->by_setattr = by_setattr;
    if (is_abstract) {
        job->virtual_subclasses = find_virtual_subclasses(e, cls);
        if (job->virtual_subclasses == NULL) {
            return -1;
        }
    }
    return 0;
}

/* ---- prelude: what may lead back to the class before it exists ------------------- */

/* The stack top is kept for later. */
static int
put_aside(fpk_encoder *e, uint64_t *index)
{
    if (fpk_remember_anonymous(e, index) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

static int
write_bases(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *bases = ((PyTypeObject *)frame->object)->tp_bases;
    Py_ssize_t size = PyTuple_GET_SIZE(bases);
    if (size == 1 &&
        PyTuple_GET_ITEM(bases, 0) == (PyObject *)&PyBaseObject_Type) {
        frame->step = PRELUDE_ORIGINAL;
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
    frame->step = PRELUDE_ORIGINAL;
    if (fpk_end_tuple(e, size) < 0) {
        return FPK_ERROR;
    }
    return put_aside(e, &current_job(e)->bases);
}

/* ---- the call that makes the class ------------------------------------------------ */

/* operator.getitem((FIRST, SECOND), present): the items stand between these
   two. */
static int
begin_choice(fpk_encoder *e)
{
    if (fpk_save_global_as(e, e->state->operator_getitem, "operator",
                           "getitem") < 0 ||
        fpk_begin_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_begin_tuple(e, 2);
}

static int
end_choice(fpk_encoder *e, const fpk_class_job *job)
{
    if (fpk_end_tuple(e, 2) < 0 || fpk_emit_get(e, job->present) < 0 ||
        fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* (registry, id) */
static int
emit_key(fpk_encoder *e, const fpk_class_job *job)
{
    if (fpk_begin_tuple(e, 2) < 0 || fpk_emit_registry(e) < 0 ||
        fpk_emit_get(e, job->id) < 0) {
        return FPK_ERROR;
    }
    return fpk_end_tuple(e, 2);
}

static int
emit_present(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    PyObject *id = fpk_class_id(e->state, cls);
    if (id == NULL) {
        return FPK_ERROR;
    }
    int status = FPK_ERROR;
    if (fpk_save_global_as(e, e->state->operator_contains, "operator",
                           "contains") == FPK_DONE &&
        fpk_begin_tuple(e, 2) == FPK_DONE &&
        fpk_emit_registry(e) == FPK_DONE &&
        fpk_emit_unicode(e, id) == FPK_DONE &&
        fpk_remember_anonymous(e, &job->id) == FPK_DONE &&
        fpk_end_tuple(e, 2) == FPK_DONE &&
        fpk_emit_op(e, FPK_OP_REDUCE) == FPK_DONE) {
        status = put_aside(e, &job->present);
    }
    Py_DECREF(id);
    return status;
}

static int
emit_type(fpk_encoder *e)
{
    return fpk_save_global_as(e, (PyObject *)&PyType_Type, "builtins", "type");
}

/* A class without bases and members that takes part in nothing. */
static int
emit_empty_class(fpk_encoder *e, bool quiet, bool slotted)
{
    if (emit_type(e) < 0 || fpk_begin_tuple(e, 3) < 0 ||
        fpk_emit_str(e, "_") < 0 || fpk_emit_empty_tuple(e) < 0 ||
        fpk_emit_empty_dict(e) < 0) {
        return FPK_ERROR;
    }
    /* Any callable that takes keywords and is no function. */
    if (quiet &&
        (fpk_emit_str(e, "__init_subclass__") < 0 ||
         fpk_save_global_as(e, (PyObject *)&PyDict_Type, "builtins", "dict") <
             0 ||
         fpk_emit_op(e, FPK_OP_SETITEM) < 0)) {
        return FPK_ERROR;
    }
    if (slotted &&
        (fpk_emit_str(e, "__slots__") < 0 || fpk_emit_empty_tuple(e) < 0 ||
         fpk_emit_op(e, FPK_OP_SETITEM) < 0)) {
        return FPK_ERROR;
    }
    return fpk_end_tuple(e, 3) < 0 ? FPK_ERROR
                                   : fpk_emit_op(e, FPK_OP_REDUCE);
}

/* The bases to create with: where __init_subclass__ must keep quiet, a class
   with a silent one stands in front; __bases__ is set right afterwards. */
static int
emit_bases(fpk_encoder *e, const fpk_class_job *job, PyTypeObject *type)
{
    if (job->bases == FPK_UNWRITTEN) {
        return fpk_emit_empty_tuple(e);
    }
    if (!job->quiet) {
        return fpk_emit_get(e, job->bases);
    }
    if (fpk_save_global_as(e, e->state->operator_add, "operator", "add") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_begin_tuple(e, 1) < 0 ||
        emit_empty_class(e, true, type->tp_dictoffset == 0) < 0 ||
        fpk_end_tuple(e, 1) < 0 || fpk_emit_get(e, job->bases) < 0 ||
        fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* Arguments up to the class's dict, which is open then. */
static int
open_arguments(fpk_encoder *e, fpk_class_job *job, PyTypeObject *type)
{
    bool by_new_class = job->creator == e->state->types_new_class;
    PyHeapTypeObject *heap = (PyHeapTypeObject *)type;
    if (fpk_begin_tuple(e, job->arguments) < 0 ||
        (job->needs_metaclass && !by_new_class &&
         fpk_emit_get(e, job->metaclass) < 0) ||
        fpk_emit_unicode(e, heap->ht_name) < 0 ||
        emit_bases(e, job, type) < 0) {
        return FPK_ERROR;
    }
    if (by_new_class &&
        (fpk_emit_empty_dict(e) < 0 || fpk_emit_str(e, "metaclass") < 0 ||
         fpk_emit_get(e, job->metaclass) < 0 ||
         fpk_emit_op(e, FPK_OP_SETITEM) < 0 ||
         fpk_save_global_as(e, e->state->operator_methodcaller, "operator",
                            "methodcaller") < 0 ||
         fpk_begin_tuple(e, 2) < 0 || fpk_emit_str(e, "update") < 0)) {
        return FPK_ERROR;
    }
    if (fpk_emit_empty_dict(e) < 0) {
        return FPK_ERROR;
    }
    if (PyUnicode_Compare(heap->ht_qualname, heap->ht_name) == 0) {
        return FPK_DONE;
    }
    if (fpk_emit_str(e, "__qualname__") < 0 ||
        fpk_emit_unicode(e, heap->ht_qualname) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_SETITEM);
}

static int
open_call(fpk_encoder *e, PyObject *cls)
{
    fpk_state *state = e->state;
    fpk_class_job *job = current_job(e);
    if (emit_present(e, job, cls) < 0 ||
        fpk_save_global_as(e, state->weak_setdefault, "weakref",
                           "WeakValueDictionary.setdefault") < 0 ||
        fpk_begin_tuple(e, 3) < 0 || fpk_emit_registry(e) < 0 ||
        fpk_emit_get(e, job->id) < 0) {
        return FPK_ERROR;
    }
    if (begin_choice(e) < 0 ||
        (job->creator_index == FPK_UNWRITTEN
             ? emit_type(e)
             : fpk_emit_get(e, job->creator_index)) < 0 ||
        fpk_save_global_as(e, state->weak_get, "weakref",
                           "WeakValueDictionary.get") < 0 ||
        end_choice(e, job) < 0) {
        return FPK_ERROR;
    }
    if (begin_choice(e) < 0) {
        return FPK_ERROR;
    }
    return open_arguments(e, job, (PyTypeObject *)cls);
}

static int
close_call(fpk_encoder *e, PyObject *cls)
{
    fpk_class_job *job = current_job(e);
    if (job->creator == e->state->types_new_class &&
        (fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0)) {
        return FPK_ERROR;
    }
    if (fpk_end_tuple(e, job->arguments) < 0 || emit_key(e, job) < 0 ||
        end_choice(e, job) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_end_tuple(e, 3) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_remember(e, cls);
}

/* ---- members ----------------------------------------------------------------------- */

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

/* The next member that the class is created with. */
static int
write_members(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_class_job *job = current_job(e);
    PyObject *cls = frame->object;
    PyObject *key, *value;
    while (PyDict_Next(job->members, &frame->position, &key, &value)) {
        enum fpk_member kind = fpk_classify_member(e, cls, key, value);
        if (kind == FPK_MEMBER_ERROR) {
            return FPK_ERROR;
        }
        if (kind == FPK_MEMBER_SKIP || kind == FPK_MEMBER_LATE) {
            continue;
        }
        frame->step = WRITE_MEMBER_DONE;
        if (fpk_emit_unicode(e, key) < 0) {
            return FPK_ERROR;
        }
        if (kind == FPK_MEMBER_METHOD) {
            return note_functions(job, value) < 0
                       ? FPK_ERROR
                       : fpk_create_callable(e, value);
        }
        return kind == FPK_MEMBER_DATA ? fpk_save(e, value)
                                       : fpk_emit_get(e, job->original_bases);
    }
    frame->step = COMPLETE_METHODS;
    frame->position = 0;
    return close_call(e, cls);
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

/* What attributes are set on: the class, or nothing that matters if the
   receiver had it already. */
static int
emit_target(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    if (begin_choice(e) < 0 || fpk_recall(e, cls) < 0) {
        return FPK_ERROR;
    }
    if (Py_TYPE(cls)->tp_setattro != PyType_Type.tp_setattro) {
        if (emit_empty_class(e, false, false) < 0) {
            return FPK_ERROR;
        }
    }
    else if (fpk_save_global_as(e, e->state->SimpleNamespace, "types",
                                "SimpleNamespace") < 0 ||
             fpk_emit_empty_tuple(e) < 0 ||
             fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    if (end_choice(e, job) < 0) {
        return FPK_ERROR;
    }
    return job->by_setattr ? put_aside(e, &job->target)
                           : fpk_remember_anonymous(e, &job->target);
}

/* Around the value of one attribute; the name is written between begin and the
   value. */
static int
begin_member(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    if (job->target == FPK_UNWRITTEN && emit_target(e, job, cls) < 0) {
        return FPK_ERROR;
    }
    if (!job->by_setattr) {
        return fpk_begin_attribute(e);
    }
    int status =
        Py_TYPE(cls)->tp_setattro != PyType_Type.tp_setattro
            ? fpk_save_global_as(e, e->state->type_setattr, "builtins",
                                 "type.__setattr__")
            : fpk_save_global_as(e, e->state->builtins_setattr, "builtins",
                                 "setattr");
    if (status < 0 || fpk_begin_tuple(e, 3) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_get(e, job->target);
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
    if (!job->quiet) {
        return FPK_DONE;
    }
    job->quiet = false;
    if (begin_member(e, job, cls) < 0 || fpk_emit_str(e, "__bases__") < 0 ||
        fpk_emit_get(e, job->bases) < 0) {
        return FPK_ERROR;
    }
    return end_member(e, job);
}

static int
set_members(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    fpk_class_job *job = current_job(e);
    PyObject *cls = frame->object;
    PyObject *key, *value;
    while (PyDict_Next(job->members, &frame->position, &key, &value)) {
        enum fpk_member kind = fpk_classify_member(e, cls, key, value);
        if (kind == FPK_MEMBER_ERROR) {
            return FPK_ERROR;
        }
        if (kind == FPK_MEMBER_LATE) {
            frame->step = SET_MEMBER_DONE;
            if (begin_member(e, job, cls) < 0 ||
                fpk_emit_unicode(e, key) < 0) {
                return FPK_ERROR;
            }
            return fpk_save(e, value);
        }
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
        return FPK_DONE;
    }
    frame->step = REGISTER_VIRTUAL_DONE;
    PyObject *subclass = PyList_GET_ITEM(list, frame->position++);
    if (fpk_save_global_as(e, e->state->ABCMeta_register, "abc",
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

/* ---- the frame ------------------------------------------------------------------------ */

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
        return fpk_save(e, job->creator);
    case PRELUDE_CREATOR_DONE:
        frame->step = job->needs_metaclass ? PRELUDE_METACLASS : PRELUDE_BASES;
        return put_aside(e, &job->creator_index);
    case PRELUDE_METACLASS:
        frame->step = PRELUDE_METACLASS_DONE;
        return fpk_save(e, (PyObject *)Py_TYPE(cls));
    case PRELUDE_METACLASS_DONE:
        frame->step = PRELUDE_BASES;
        return put_aside(e, &job->metaclass);
    case PRELUDE_BASES:
        return write_bases(e);
    case PRELUDE_ORIGINAL: {
        PyObject *original = PyDict_GetItemWithError(
            job->members, e->state->str.__orig_bases__);
        if (original == NULL) {
            frame->step = OPEN_CALL;
            return PyErr_Occurred() ? FPK_ERROR : FPK_DONE;
        }
        frame->step = PRELUDE_ORIGINAL_DONE;
        return fpk_save(e, original);
    }
    default:
        frame->step = OPEN_CALL;
        return put_aside(e, &job->original_bases);
    }
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
            if (result != 0) {
                /* The bases or the metaclass have led here. */
                (void)end_job(e);
                return result < 0 ? FPK_ERROR : FPK_DONE;
            }
            frame->step = WRITE_MEMBERS;
            frame->position = 0;
            result = open_call(e, cls);
            break;
        case WRITE_MEMBER_DONE:
            frame->step = WRITE_MEMBERS;
            result = fpk_emit_op(e, FPK_OP_SETITEM);
            break;
        case WRITE_MEMBERS:
            result = write_members(e);
            break;
        case COMPLETE_METHODS:
            result = restore_bases(e, current_job(e), cls);
            if (result == FPK_DONE) {
                result = complete_methods(e);
            }
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
    if (job == NULL || plan_job(e, job, cls) < 0) {
        return FPK_ERROR;
    }
    fpk_context *c = e->byvalue;
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_class, cls, NULL);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->size = (Py_ssize_t)c->job_count - 1;
    return FPK_MORE;
}

/* ---- init ------------------------------------------------------------------------------- */

static int
fetch(PyObject **slot, const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return -1;
    }
    *slot = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return *slot == NULL ? -1 : 0;
}

int
fpk_init_class(PyObject *module, fpk_state *state)
{
    if (fetch(&state->operator_add, "operator", "add") < 0 ||
        fetch(&state->operator_contains, "operator", "contains") < 0 ||
        fetch(&state->operator_getitem, "operator", "getitem") < 0 ||
        fetch(&state->operator_methodcaller, "operator", "methodcaller") < 0 ||
        fetch(&state->types_new_class, "types", "new_class") < 0 ||
        fetch(&state->SimpleNamespace, "types", "SimpleNamespace") < 0 ||
        fetch(&state->builtins_setattr, "builtins", "setattr") < 0 ||
        fetch(&state->ABCMeta_register, "abc", "ABCMeta") < 0) {
        return -1;
    }
    Py_SETREF(state->ABCMeta_register,
              PyObject_GetAttrString(state->ABCMeta_register, "register"));
    state->type_setattr =
        PyObject_GetAttrString((PyObject *)&PyType_Type, "__setattr__");
    state->weak_get =
        PyObject_GetAttrString(state->WeakValueDictionary, "get");
    state->weak_setdefault =
        PyObject_GetAttrString(state->WeakValueDictionary, "setdefault");
    return state->ABCMeta_register == NULL || state->type_setattr == NULL ||
                   state->weak_get == NULL || state->weak_setdefault == NULL
               ? -1
               : 0;
}
