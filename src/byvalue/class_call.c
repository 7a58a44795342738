/* class_call.c -- the call that makes a class at the receiver.

   Does:      writes everything around the members of the class.
   Owns:      nothing.
   Invariant: a class that the receiver has already is looked up: it keeps its
              live attributes, and nothing is run twice that runs when a class
              is made.
   Called by: class.c.

   What the receiver does:

       held    = registry.get(id)
       present = operator.contains(registry, id)
       make    = operator.getitem((creator, registry.get), present)
       args    = operator.getitem(((name, bases, dict), (id,)), present)
       cls     = registry.setdefault(id, make(*args))
       target  = operator.getitem((cls, SimpleNamespace()), present)
       target.NAME = VALUE ...

   In an isolated stream, only what was not brought by one stays as it is:

       present = operator.is_not(held, None)
       fixed   = operator.gt(present, operator.contains(registry, (id,)))
       cls     = ...
       note    = operator.getitem((registry.setdefault, slice), fixed)
       note((id,), cls)
       target  = operator.getitem((cls, SimpleNamespace()), fixed)

   The memo holds the class meanwhile: the weak dict may be all that knows it.
   Where an attribute cannot be set by BUILD,

       setter  = operator.getitem((setattr, slice), present)
       setter(cls, NAME, VALUE) ...

   where slice is a callable that takes three arguments of any type and does
   nothing with them. */
#include "byvalue/room.h"

int
fpk_put_aside(fpk_encoder *e, uint64_t *index)
{
    if (fpk_remember_anonymous(e, index) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* operator.getitem((FIRST, SECOND), present): the items stand between these
   two. */
static int
begin_choice(fpk_encoder *e)
{
    if (fpk_save_global_as(e, e->state->operator_getitem,
                           e->state->str.operator, "getitem") < 0 ||
        fpk_begin_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_begin_tuple(e, 2);
}

static int
end_choice(fpk_encoder *e, uint64_t answer)
{
    if (fpk_end_tuple(e, 2) < 0 || fpk_emit_get(e, answer) < 0 ||
        fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* The key under which the registry has the classes that streams brought: no
   str, so that it is not taken for an id. */
static int
emit_received_key(fpk_encoder *e, const fpk_class_job *job)
{
    if (fpk_begin_tuple(e, 1) < 0 || fpk_emit_get(e, job->id) < 0) {
        return FPK_ERROR;
    }
    return fpk_end_tuple(e, 1);
}

/* operator.gt(present, operator.contains(registry, (id,))) */
static int
emit_fixed(fpk_encoder *e, fpk_class_job *job)
{
    if (fpk_save_global_as(e, NULL, e->state->str.operator, "gt") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_emit_get(e, job->present) < 0 ||
        fpk_save_global_as(e, e->state->operator_contains,
                           e->state->str.operator, "contains") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_emit_registry(e) < 0 ||
        emit_received_key(e, job) < 0 || fpk_end_tuple(e, 2) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0 || fpk_end_tuple(e, 2) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_put_aside(e, &job->fixed);
}

/* A class that was not there before is one that a stream brought. */
static int
emit_received(fpk_encoder *e, const fpk_class_job *job, PyObject *cls)
{
    if (begin_choice(e) < 0 ||
        fpk_emit_registry_method(e, FPK_REGISTRY_SETDEFAULT) < 0 ||
        fpk_save_global_as(e, (PyObject *)&PySlice_Type,
                           e->state->str.builtins, "slice") < 0 ||
        end_choice(e, job->fixed) < 0 || fpk_begin_tuple(e, 2) < 0 ||
        emit_received_key(e, job) < 0 || fpk_recall(e, cls) < 0 ||
        fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

/* operator.contains(registry, id): our loader takes this as the place from
   which the definition may be skipped. */
static int
emit_is_known(fpk_encoder *e, const fpk_class_job *job)
{
    if (fpk_save_global_as(e, e->state->operator_contains,
                           e->state->str.operator, "contains") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_emit_registry(e) < 0 ||
        fpk_emit_get(e, job->id) < 0 || fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* operator.is_not(held, None): the same answer, and nothing is skipped. */
static int
emit_is_held(fpk_encoder *e, uint64_t held)
{
    if (fpk_save_global_as(e, e->state->operator_is_not,
                           e->state->str.operator, "is_not") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_emit_get(e, held) < 0 ||
        fpk_emit_op(e, FPK_OP_NONE) < 0 || fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

static int
emit_present(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    PyObject *id = fpk_object_id(e, cls);
    if (id == NULL) {
        return FPK_ERROR;
    }
    uint64_t held;
    int status = FPK_ERROR;
    if (fpk_emit_registry_method(e, FPK_REGISTRY_GET) == FPK_DONE &&
        fpk_begin_tuple(e, 1) == FPK_DONE &&
        fpk_emit_unicode(e, id) == FPK_DONE &&
        fpk_remember_anonymous(e, &job->id) == FPK_DONE &&
        fpk_end_tuple(e, 1) == FPK_DONE &&
        fpk_emit_op(e, FPK_OP_REDUCE) == FPK_DONE &&
        fpk_put_aside(e, &held) == FPK_DONE) {
        status = job->updates ? emit_is_held(e, held) : emit_is_known(e, job);
    }
    Py_DECREF(id);
    if (status < 0 || fpk_put_aside(e, &job->present) < 0) {
        return FPK_ERROR;
    }
    job->fixed = job->present;
    return job->updates ? emit_fixed(e, job) : FPK_DONE;
}

static int
emit_type(fpk_encoder *e)
{
    return fpk_save_global_as(e, (PyObject *)&PyType_Type,
                              e->state->str.builtins, "type");
}

/* A class that lets the classes below it be made in silence. */
static int
emit_quiet_class(fpk_encoder *e, bool slotted)
{
    if (emit_type(e) < 0 || fpk_begin_tuple(e, 3) < 0 ||
        fpk_emit_str(e, "_") < 0 || fpk_emit_empty_tuple(e) < 0 ||
        fpk_emit_empty_dict(e) < 0) {
        return FPK_ERROR;
    }
    /* Any callable that takes keywords and is no function. */
    if (fpk_emit_str(e, "__init_subclass__") < 0 ||
        fpk_save_global_as(e, (PyObject *)&PyDict_Type, e->state->str.builtins,
                           "dict") < 0 ||
        fpk_emit_op(e, FPK_OP_SETITEM) < 0) {
        return FPK_ERROR;
    }
    if (slotted &&
        (fpk_emit_str(e, "__slots__") < 0 || fpk_emit_empty_tuple(e) < 0 ||
         fpk_emit_op(e, FPK_OP_SETITEM) < 0)) {
        return FPK_ERROR;
    }
    return fpk_end_tuple(e, 3) < 0 ? FPK_ERROR : fpk_emit_op(e, FPK_OP_REDUCE);
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
    if (fpk_save_global_as(e, e->state->operator_add, e->state->str.operator,
                           "add") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_begin_tuple(e, 1) < 0 ||
        emit_quiet_class(e, type->tp_dictoffset == 0) < 0 ||
        fpk_end_tuple(e, 1) < 0 || fpk_emit_get(e, job->bases) < 0 ||
        fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_REDUCE);
}

/* Arguments up to the class's dict, which is open then. */
static int
open_arguments(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    PyTypeObject *type = (PyTypeObject *)cls;
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
         fpk_save_global_as(e, e->state->operator_methodcaller,
                            e->state->str.operator, "methodcaller") < 0 ||
         fpk_begin_tuple(e, 2) < 0 || fpk_emit_str(e, "update") < 0)) {
        return FPK_ERROR;
    }
    int status = job->prepared ? fpk_emit_prepared_dict(e, job, cls)
                               : fpk_emit_empty_dict(e);
    if (status < 0) {
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

int
fpk_open_class_call(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    if (emit_present(e, job, cls) < 0 ||
        fpk_emit_registry_method(e, FPK_REGISTRY_SETDEFAULT) < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_emit_get(e, job->id) < 0) {
        return FPK_ERROR;
    }
    if (begin_choice(e) < 0 ||
        (job->creator_index == FPK_UNWRITTEN
             ? emit_type(e)
             : fpk_emit_get(e, job->creator_index)) < 0 ||
        fpk_emit_registry_method(e, FPK_REGISTRY_GET) < 0 ||
        end_choice(e, job->present) < 0) {
        return FPK_ERROR;
    }
    if (begin_choice(e) < 0) {
        return FPK_ERROR;
    }
    return open_arguments(e, job, cls);
}

int
fpk_close_class_call(fpk_encoder *e, const fpk_class_job *job, PyObject *cls)
{
    if (job->creator == e->state->types_new_class &&
        (fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0)) {
        return FPK_ERROR;
    }
    if (fpk_end_tuple(e, job->arguments) < 0 || fpk_begin_tuple(e, 1) < 0 ||
        fpk_emit_get(e, job->id) < 0 || fpk_end_tuple(e, 1) < 0 ||
        end_choice(e, job->present) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_end_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_remember(e, cls) < 0) {
        return FPK_ERROR;
    }
    return job->updates ? emit_received(e, job, cls) : FPK_DONE;
}

/* A metaclass may forbid what its own classes need to get. */
static int
emit_setter(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    int status =
        Py_TYPE(cls)->tp_setattro != PyType_Type.tp_setattro
            ? fpk_save_global_as(e, e->state->type_setattr,
                                 e->state->str.builtins, "type.__setattr__")
            : fpk_save_global_as(e, e->state->builtins_setattr,
                                 e->state->str.builtins, "setattr");
    if (status < 0 ||
        fpk_save_global_as(e, (PyObject *)&PySlice_Type,
                           e->state->str.builtins, "slice") < 0) {
        return FPK_ERROR;
    }
    return FPK_DONE;
}

int
fpk_emit_class_target(fpk_encoder *e, fpk_class_job *job, PyObject *cls)
{
    if (begin_choice(e) < 0) {
        return FPK_ERROR;
    }
    if (job->by_setattr) {
        if (emit_setter(e, job, cls) < 0 || end_choice(e, job->fixed) < 0) {
            return FPK_ERROR;
        }
        return fpk_put_aside(e, &job->target);
    }
    if (fpk_recall(e, cls) < 0 ||
        fpk_save_global_as(e, e->state->SimpleNamespace, e->state->str.types,
                           "SimpleNamespace") < 0 ||
        fpk_emit_empty_tuple(e) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        end_choice(e, job->fixed) < 0) {
        return FPK_ERROR;
    }
    return fpk_remember_anonymous(e, &job->target);
}

/* _abc._abc_init(cls), where nothing else has called it. */
int
fpk_complete_abstract_class(fpk_encoder *e, const fpk_class_job *job,
                            PyObject *cls)
{
    if (job->creator != e->state->type_new) {
        return FPK_DONE;
    }
    /* A class that was there keeps what is registered with it. */
    if (begin_choice(e) < 0 ||
        fpk_save_global_as(e, e->state->abc_init, e->state->str._abc,
                           "_abc_init") < 0 ||
        fpk_save_global_as(e, (PyObject *)&PySlice_Type,
                           e->state->str.builtins, "slice") < 0 ||
        end_choice(e, job->present) < 0 || fpk_begin_tuple(e, 1) < 0 ||
        fpk_recall(e, cls) < 0 || fpk_end_tuple(e, 1) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_POP);
}

int
fpk_init_class(PyObject *module, fpk_state *state)
{
    if (fpk_fetch(&state->operator_add, "operator", "add") < 0 ||
        fpk_fetch(&state->operator_contains, "operator", "contains") < 0 ||
        fpk_fetch(&state->operator_is_not, "operator", "is_not") < 0 ||
        fpk_fetch(&state->operator_getitem, "operator", "getitem") < 0 ||
        fpk_fetch(&state->operator_methodcaller, "operator", "methodcaller") <
            0 ||
        fpk_fetch(&state->types_new_class, "types", "new_class") < 0 ||
        fpk_fetch(&state->SimpleNamespace, "types", "SimpleNamespace") < 0 ||
        fpk_fetch(&state->builtins_setattr, "builtins", "setattr") < 0 ||
        fpk_fetch(&state->abc_init, "_abc", "_abc_init") < 0 ||
        fpk_fetch(&state->stdlib_names, "sys", "stdlib_module_names") < 0 ||
        fpk_fetch(&state->ABCMeta_register, "abc", "ABCMeta") < 0) {
        return -1;
    }
    Py_SETREF(state->ABCMeta_register,
              PyObject_GetAttrString(state->ABCMeta_register, "register"));
    state->type_new =
        PyObject_GetAttrString((PyObject *)&PyType_Type, "__new__");
    state->type_setattr =
        PyObject_GetAttrString((PyObject *)&PyType_Type, "__setattr__");
    return state->ABCMeta_register == NULL || state->type_setattr == NULL ||
                   state->type_new == NULL
               ? -1
               : 0;
}
