/* handled.c -- the other types that have no way into a pickle of their own.

   Does:      keeps the table of these types and sends an object to the file
              that writes its kind; writes properties, class and static
              methods, lru_cache wrappers, cached properties and the
              sentinels of dataclasses itself.
   Owns:      the table in the module state.
   Invariant: exact types only.  The types of modules that are slow to import
              join the table when somebody else has imported them.
   Called by: driver, through the table of the room. */
#include "byvalue/room.h"

static int save_wrapper(fpk_encoder *e, PyObject *obj);
static int save_abstract_wrapper(fpk_encoder *e, PyObject *obj);
static int save_class_descriptor(fpk_encoder *e, PyObject *obj);
static int save_lru_cache(fpk_encoder *e, PyObject *obj);
static int save_cached_property(fpk_encoder *e, PyObject *obj);
static int save_sentinel(fpk_encoder *e, PyObject *obj);

/* ---- the table ---------------------------------------------------------- */

typedef int (*writer)(fpk_encoder *e, PyObject *obj);

/* Types of the interpreter. */
static const struct {
    PyTypeObject *type;
    writer save;
} fixed_types[] = {
    {&PyCode_Type, fpk_save_code},
    {&PyCell_Type, fpk_save_cell},
    {&PyModule_Type, fpk_save_module},
    {&PyProperty_Type, save_wrapper},
    {&PyClassMethod_Type, save_wrapper},
    {&PyStaticMethod_Type, save_wrapper},
    {&PyMethod_Type, fpk_save_method},
    {&PyGetSetDescr_Type, fpk_save_descriptor},
    {&PyMemberDescr_Type, fpk_save_descriptor},
    {&PyMethodDescr_Type, fpk_save_descriptor},
    {&PyClassMethodDescr_Type, save_class_descriptor},
    {&PyWrapperDescr_Type, fpk_save_descriptor},
    {&PySuper_Type, fpk_save_super},
    {&PyDictKeys_Type, fpk_save_dict_view},
    {&PyDictValues_Type, fpk_save_dict_view},
    {&PyDictItems_Type, fpk_save_dict_view},
    {&PyODictKeys_Type, fpk_save_dict_view},
    {&PyODictValues_Type, fpk_save_dict_view},
    {&PyODictItems_Type, fpk_save_dict_view},
    {&PyDictProxy_Type, fpk_save_mapping_proxy},
    {&PyMemoryView_Type, fpk_save_memory_view},
    {&PyTraceBack_Type, fpk_save_traceback},
    {&PyContextVar_Type, fpk_save_context_variable},
    {&PyContext_Type, fpk_save_context},
};

#define FIXED_COUNT Py_ARRAY_LENGTH(fixed_types)

/* Types of modules: the type called [name], or the type of what has the
   name.  Entries of one module stand together. */
static const struct {
    const char *module, *name;
    bool is_instance;
    writer save;
} module_types[] = {
    {"_io", "BufferedRandom", false, fpk_save_file},
    {"_io", "BufferedReader", false, fpk_save_file},
    {"_io", "BufferedWriter", false, fpk_save_file},
    {"_io", "BytesIO", false, fpk_save_memory_file},
    {"_io", "FileIO", false, fpk_save_file},
    {"_io", "StringIO", false, fpk_save_memory_file},
    {"_io", "TextIOWrapper", false, fpk_save_file},
    {"_thread", "LockType", false, fpk_save_lock},
    {"_thread", "RLock", false, fpk_save_rlock},
    {"_blake2", "blake2b", false, fpk_save_hash},
    {"_blake2", "blake2s", false, fpk_save_hash},
    {"_hashlib", "HASH", false, fpk_save_hash},
    {"_hashlib", "HASHXOF", false, fpk_save_hash},
    {"_struct", "Struct", false, fpk_save_struct},
    {"abc", "abstractclassmethod", false, save_abstract_wrapper},
    {"abc", "abstractproperty", false, save_abstract_wrapper},
    {"abc", "abstractstaticmethod", false, save_abstract_wrapper},
    {"dataclasses", "Field", false, fpk_save_slotted},
    {"dataclasses", "InitVar", false, fpk_save_slotted},
    {"dataclasses", "_DataclassParams", false, fpk_save_dataclass_params},
    {"dataclasses", "KW_ONLY", true, save_sentinel},
    {"dataclasses", "MISSING", true, save_sentinel},
    {"dataclasses", "_FIELD", true, save_sentinel},
    {"dataclasses", "_FIELD_CLASSVAR", true, save_sentinel},
    {"dataclasses", "_FIELD_INITVAR", true, save_sentinel},
    {"dataclasses", "_HAS_DEFAULT_FACTORY", true, save_sentinel},
    {"functools", "KeyWrapper", false, fpk_save_sort_key},
    {"functools", "_lru_cache_wrapper", false, save_lru_cache},
    {"functools", "cached_property", false, save_cached_property},
    {"functools", "singledispatchmethod", false, fpk_save_dispatch_method},
    {"itertools", "pairwise", false, fpk_save_pairwise},
    {"re", "Match", false, fpk_save_match},
    {"sys", "flags", true, fpk_save_of_sys},
    {"sys", "float_info", true, fpk_save_of_sys},
    {"sys", "hash_info", true, fpk_save_of_sys},
    {"sys", "int_info", true, fpk_save_of_sys},
    {"sys", "thread_info", true, fpk_save_of_sys},
    {"sys", "version_info", true, fpk_save_of_sys},
    {"threading", "Barrier", false, fpk_save_barrier},
    {"threading", "BoundedSemaphore", false, fpk_save_semaphore},
    {"threading", "Condition", false, fpk_save_condition},
    {"threading", "Event", false, fpk_save_event},
    {"threading", "Semaphore", false, fpk_save_semaphore},
    {"typing", "ForwardRef", false, fpk_save_forward_reference},
    {"typing", "NewType", false, fpk_save_named_type},
    {"typing", "ParamSpec", false, fpk_save_named_type},
    {"typing", "ParamSpecArgs", false, fpk_save_parameter_part},
    {"typing", "ParamSpecKwargs", false, fpk_save_parameter_part},
    {"typing", "TypeAliasType", false, fpk_save_type_alias},
    {"typing", "TypeVar", false, fpk_save_named_type},
    {"typing", "TypeVarTuple", false, fpk_save_named_type},
    {"weakref", "CallableProxyType", false, fpk_save_weak_proxy},
    {"weakref", "KeyedRef", false, fpk_save_keyed_ref},
    {"weakref", "ProxyType", false, fpk_save_weak_proxy},
    {"weakref", "ReferenceType", false, fpk_save_weakref},
    {"weakref", "WeakKeyDictionary", false, fpk_save_weak_dict},
    {"weakref", "WeakMethod", false, fpk_save_weak_method},
    {"weakref", "WeakSet", false, fpk_save_weak_set},
    {"weakref", "WeakValueDictionary", false, fpk_save_weak_dict},
};

#define MODULE_COUNT Py_ARRAY_LENGTH(module_types)

/* What the table holds for a type: its place in fixed_types, behind that in
   module_types, behind that in fpk_refused_types; or the one of calls.
   Exceptions need no entry. */
#define HANDLER_CALL (FIXED_COUNT + MODULE_COUNT + FPK_REFUSED_COUNT)
#define HANDLER_EXCEPTION (HANDLER_CALL + 1)

/* The word and the bit of the filter for [type]. */
static inline uint64_t *
filter_word(fpk_state *state, const void *type, uint64_t *bit)
{
    uintptr_t hash = (uintptr_t)type >> 4 ^ (uintptr_t)type >> 11;
    *bit = (uint64_t)1 << (hash & 63);
    return &state
                ->handler_filter[hash >> 6 &
                                 (Py_ARRAY_LENGTH(state->handler_filter) - 1)];
}

static int
add_type(fpk_state *state, PyObject *type, size_t handler)
{
    uint64_t bit;
    *filter_word(state, type, &bit) |= bit;
    /* The list keeps the address from being used again. */
    if (PyList_Append(state->handled_types, type) < 0) {
        return -1;
    }
    if (!fpk_memo_set(&state->handlers, type, handler)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Adds what [module] has of one type; it may have nothing. */
static int
add_named(fpk_state *state, PyObject *module, const char *name,
          bool is_instance, size_t handler)
{
    PyObject *text = PyUnicode_FromString(name);
    PyObject *value;
    if (text == NULL) {
        return -1;
    }
    int found = PyObject_GetOptionalAttr(module, text, &value);
    Py_DECREF(text);
    if (found <= 0) {
        return found;
    }
    int status = 0;
    PyObject *type = is_instance ? (PyObject *)Py_TYPE(value) : value;
    if (PyType_Check(type) &&
        (!is_instance || type != (PyObject *)&PyType_Type)) {
        status = add_type(state, type, handler);
    }
    Py_DECREF(value);
    return status;
}

/* Entry [i] of all types of modules, the refused ones last. */
static const char *
module_of_entry(size_t i)
{
    return i < MODULE_COUNT ? module_types[i].module
                            : fpk_refused_types[i - MODULE_COUNT].module;
}

/* Adds the types of the entries from [first] to [end], which are of one
   module, if that is imported: 1, 0 if it is not, -1 on error. */
static int
add_types_of_module(fpk_state *state, size_t first, size_t end)
{
    PyObject *name = PyUnicode_FromString(module_of_entry(first));
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (module == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int status = 1;
    for (size_t i = first; status > 0 && i < end; i++) {
        const char *type = i < MODULE_COUNT
                               ? module_types[i].name
                               : fpk_refused_types[i - MODULE_COUNT].name;
        bool is_instance = i < MODULE_COUNT && module_types[i].is_instance;
        if (add_named(state, module, type, is_instance, FIXED_COUNT + i) < 0) {
            status = -1;
        }
    }
    Py_DECREF(module);
    return status;
}

/* Looks at each module that was not imported yet. */
static int
add_late_types(fpk_state *state)
{
    size_t count = MODULE_COUNT + FPK_REFUSED_COUNT;
    unsigned group = 0;
    for (size_t first = 0, end; first < count; first = end, group++) {
        for (end = first + 1;
             end < count &&
             strcmp(module_of_entry(first), module_of_entry(end)) == 0;) {
            end++;
        }
        uint64_t bit = (uint64_t)1 << group;
        if ((state->modules_known & bit) != 0) {
            continue;
        }
        int found = add_types_of_module(state, first, end);
        if (found < 0) {
            return -1;
        }
        if (found > 0) {
            state->modules_known |= bit;
        }
    }
    return 0;
}

int
fpk_find_handler(fpk_encoder *e, PyTypeObject *type)
{
    fpk_state *state = e->state;
    if (!e->by_value) {
        return -1;
    }
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (FPK_UNLIKELY(PyDict_CheckExact(modules) &&
                     PyDict_GET_SIZE(modules) != state->modules_seen)) {
        state->modules_seen = PyDict_GET_SIZE(modules);
        if (add_late_types(state) < 0) {
            /* Without them, the types fail as in the standard module. */
            PyErr_Clear();
        }
    }
    uint64_t bit;
    if ((*filter_word(state, type, &bit) & bit) != 0) {
        const fpk_memo_entry *entry = fpk_memo_find(&state->handlers, type);
        if (entry != NULL) {
            return (int)entry->index;
        }
    }
    return PyType_HasFeature(type, Py_TPFLAGS_BASE_EXC_SUBCLASS)
               ? (int)HANDLER_EXCEPTION
               : -1;
}

int
fpk_save_handled(fpk_encoder *e, PyObject *obj, int handler)
{
    size_t i = (size_t)handler;
    if (i == HANDLER_EXCEPTION) {
        return fpk_save_exception(e, obj);
    }
    if (i < FIXED_COUNT) {
        return fixed_types[i].save(e, obj);
    }
    i -= FIXED_COUNT;
    if (i < MODULE_COUNT) {
        return module_types[i].save(e, obj);
    }
    i -= MODULE_COUNT;
    return i < FPK_REFUSED_COUNT
               ? fpk_refuse(e, obj, NULL)
               : fpk_save_call(e, obj);
}

/* The type of the keys of cmp_to_key, which no module names. */
static int
add_sort_keys(fpk_state *state)
{
    size_t i = 0;
    while (module_types[i].save != fpk_save_sort_key) {
        i++;
    }
    PyObject *maker = NULL;
    if (fpk_fetch(&maker, "functools", "cmp_to_key") < 0) {
        return -1;
    }
    PyObject *key = PyObject_CallOneArg(maker, maker);
    int status = key == NULL ? -1
                             : add_type(state, (PyObject *)Py_TYPE(key),
                                        FIXED_COUNT + i);
    Py_XDECREF(key);
    Py_DECREF(maker);
    return status;
}

int
fpk_init_handlers(PyObject *module, fpk_state *state)
{
    state->handled_types = PyList_New(0);
    if (state->handled_types == NULL ||
        fpk_fetch(&state->lru_cache, "functools", "lru_cache") < 0 ||
        add_type(state, state->call_type, HANDLER_CALL) < 0 ||
        add_sort_keys(state) < 0) {
        return -1;
    }
    for (size_t i = 0; i < FIXED_COUNT; i++) {
        if (add_type(state, (PyObject *)fixed_types[i].type, i) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- simple reductions -------------------------------------------------- */

/* Whether a method that binds to classes is met outside of a class, where the
   standard module refuses it, and what takes an isolated stream does not. */
static bool
is_out_of_class(const fpk_encoder *e)
{
    const fpk_context *c = e->byvalue;
    return !e->isolated && (c == NULL || c->job_count == 0);
}

static int
refuse_out_of_class(PyObject *obj)
{
    PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object",
                 Py_TYPE(obj)->tp_name);
    return FPK_ERROR;
}

/* A classmethod or staticmethod out of its class, taken from a module that the
   receiver can import.  1, 0, or -1 on error. */
static int
is_bare_wrapper(fpk_encoder *e, PyObject *obj, PyObject *parts)
{
    if (Py_IS_TYPE(obj, &PyProperty_Type) || !is_out_of_class(e)) {
        return 0;
    }
    int belongs = fpk_belongs_to_stream(e, PyTuple_GET_ITEM(parts, 0));
    return belongs < 0 ? -1 : !belongs;
}

static int
save_wrapper(fpk_encoder *e, PyObject *obj)
{
    PyObject *parts = fpk_wrapper_parts(obj);
    int bare = parts == NULL ? -1 : is_bare_wrapper(e, obj, parts);
    if (bare != 0) {
        Py_XDECREF(parts);
        return bare > 0 ? refuse_out_of_class(obj) : FPK_ERROR;
    }
    PyObject *value =
        parts == NULL ? NULL : Py_BuildValue("(ON)", Py_TYPE(obj), parts);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

/* What stands for a class method in the dict of a class made in C. */
static int
save_class_descriptor(fpk_encoder *e, PyObject *obj)
{
    return is_out_of_class(e) ? refuse_out_of_class(obj)
                              : fpk_save_descriptor(e, obj);
}

/* The abstract ones of abc, which are subclasses of the three. */
static int
save_abstract_wrapper(fpk_encoder *e, PyObject *obj)
{
    PyObject *parts;
    if (PyObject_TypeCheck(obj, &PyProperty_Type)) {
        parts = fpk_property_parts(obj);
    }
    else {
        PyObject *function = PyObject_GetAttrString(obj, "__func__");
        parts = function == NULL ? NULL : PyTuple_Pack(1, function);
        Py_XDECREF(function);
    }
    PyObject *value =
        parts == NULL ? NULL : Py_BuildValue("(ON)", Py_TYPE(obj), parts);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

/* Python 3.11's holds a lock. */
static int
save_cached_property(fpk_encoder *e, PyObject *obj)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    PyObject *function = PyObject_GetAttrString(obj, "func");
    PyObject *state = NULL, *value = NULL;
    if (dict == NULL || function == NULL ||
        (state = PyDict_Copy(dict)) == NULL) {
        goto done;
    }
    if (PyDict_GetItemString(state, "lock") != NULL &&
        PyDict_DelItemString(state, "lock") < 0) {
        goto done;
    }
    value = Py_BuildValue("(O(O)O)", Py_TYPE(obj), function, state);
done:
    Py_XDECREF(dict);
    Py_XDECREF(function);
    Py_XDECREF(state);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

int
fpk_save_by_its_reduction(fpk_encoder *e, PyObject *obj)
{
    PyObject *value =
        PyObject_CallMethod(obj, "__reduce_ex__", "i", e->protocol);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

static const char *const sentinel_names[] = {
    "MISSING", "KW_ONLY",         "_HAS_DEFAULT_FACTORY",
    "_FIELD",  "_FIELD_CLASSVAR", "_FIELD_INITVAR",
};

/* dataclasses compares its sentinels by identity. */
static int
save_sentinel(fpk_encoder *e, PyObject *obj)
{
    PyObject *name = e->state->str.dataclasses;
    PyObject *module = PyImport_GetModule(name);
    const char *found = NULL;
    PyObject *dict = module != NULL && PyModule_Check(module)
                         ? PyModule_GetDict(module)
                         : NULL;
    for (size_t i = 0; dict != NULL && i < Py_ARRAY_LENGTH(sentinel_names);
         i++) {
        if (PyDict_GetItemString(dict, sentinel_names[i]) == obj) {
            found = sentinel_names[i];
            break;
        }
    }
    Py_XDECREF(module);
    if (found == NULL) {
        return PyErr_Occurred() ? FPK_ERROR
                                : fpk_save_by_its_reduction(e, obj);
    }
    return fpk_save_global_as(e, obj, name, found);
}

/* ---- functools.lru_cache ------------------------------------------------ */

enum { LRU_WRAPPED, LRU_WRAPPED_DONE, LRU_EXTRAS_DONE };

/* What update_wrapper does not put into the wrapper's dict by itself: a new
   dict. */
static PyObject *
find_extras(PyObject *wrapper, PyObject *wrapped)
{
    PyObject *dict = PyObject_GenericGetDict(wrapper, NULL);
    PyObject *extras = PyDict_New();
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (extras != NULL && dict != NULL &&
           PyDict_Next(dict, &position, &key, &value)) {
        if (!PyUnicode_CheckExact(key) || value == wrapped ||
            PyUnicode_CompareWithASCIIString(key, "cache_parameters") == 0) {
            continue;
        }
        PyObject *own;
        int found = PyObject_GetOptionalAttr(wrapped, key, &own);
        bool same = found == 1 && own == value;
        Py_XDECREF(own);
        if (found < 0 || (!same && PyDict_SetItem(extras, key, value) < 0)) {
            Py_CLEAR(extras);
        }
    }
    Py_XDECREF(dict);
    return extras;
}

static int
end_lru_cache(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *obj = frame->object;
    if (fpk_close_late(e)) {
        /* The function has led to its own wrapper. */
        int pops = e->protocol >= 2 ? 2 : 3;
        for (int i = 0; i < pops; i++) {
            if (fpk_emit_op(e, FPK_OP_POP) < 0) {
                return FPK_ERROR;
            }
        }
        return fpk_emit_get_if_saved(e, obj) == 1 ? FPK_DONE : FPK_ERROR;
    }
    if (fpk_end_tuple(e, 1) < 0 || fpk_emit_op(e, FPK_OP_REDUCE) < 0 ||
        fpk_remember(e, obj) < 0) {
        return FPK_ERROR;
    }
    PyObject *extras = PyTuple_GET_ITEM(frame->aux, 1);
    if (PyDict_GET_SIZE(extras) == 0) {
        return FPK_DONE;
    }
    frame->step = LRU_EXTRAS_DONE;
    int result = fpk_save(e, extras);
    return result < 0 ? FPK_ERROR : FPK_MORE;
}

/* frame->aux: (wrapped, extras) */
static int
advance_lru_cache(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    int result;
    switch (frame->step) {
    case LRU_WRAPPED:
        frame->step = LRU_WRAPPED_DONE;
        result = fpk_save_shared(e, PyTuple_GET_ITEM(frame->aux, 0));
        return result == FPK_DONE ? FPK_MORE : result;
    case LRU_WRAPPED_DONE:
        return end_lru_cache(e);
    default:
        return fpk_emit_op(e, FPK_OP_BUILD);
    }
}

/* functools.lru_cache(maxsize, typed), and where the function goes. */
static int
open_lru_cache(fpk_encoder *e, PyObject *parameters)
{
    PyObject *maxsize = PyDict_GetItemString(parameters, "maxsize");
    PyObject *typed = PyDict_GetItemString(parameters, "typed");
    if (maxsize == NULL || typed == NULL) {
        PyErr_SetString(e->state->PicklingError,
                        "cache_parameters() of an lru_cache wrapper should "
                        "give maxsize and typed");
        return FPK_ERROR;
    }
    if (fpk_save_global_as(e, e->state->lru_cache, e->state->str.functools,
                           "lru_cache") < 0 ||
        fpk_begin_tuple(e, 2) < 0 || fpk_save_atom(e, maxsize, false) < 0 ||
        fpk_save_atom(e, typed, false) < 0 || fpk_end_tuple(e, 2) < 0 ||
        fpk_emit_op(e, FPK_OP_REDUCE) < 0) {
        return FPK_ERROR;
    }
    return fpk_begin_tuple(e, 1);
}

static int
save_lru_cache_by_value(fpk_encoder *e, PyObject *obj)
{
    int status = FPK_ERROR;
    PyObject *wrapped = NULL, *extras = NULL;
    PyObject *parameters = PyObject_CallMethod(obj, "cache_parameters", NULL);
    if (parameters == NULL || !PyDict_Check(parameters)) {
        goto done;
    }
    wrapped = PyObject_GetAttrString(obj, "__wrapped__");
    extras = wrapped == NULL ? NULL : find_extras(obj, wrapped);
    if (extras == NULL || open_lru_cache(e, parameters) < 0) {
        goto done;
    }
    PyObject *parts = PyTuple_Pack(2, wrapped, extras);
    if (parts == NULL) {
        goto done;
    }
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_lru_cache, obj, parts);
    if (frame == NULL) {
        goto done;
    }
    frame->shared = true;
    status = fpk_open_late(e) < 0 ? FPK_ERROR : FPK_MORE;
done:
    Py_XDECREF(parameters);
    Py_XDECREF(wrapped);
    Py_XDECREF(extras);
    return status;
}

static int
save_lru_cache(fpk_encoder *e, PyObject *obj)
{
    int status = FPK_ERROR;
    PyObject *module = NULL, *qualname = NULL;
    int found = fpk_recall(e, obj);
    if (found != 0) {
        return found < 0 ? FPK_ERROR : FPK_DONE;
    }
    if (PyObject_GetOptionalAttr(obj, e->state->str.__module__, &module) < 0 ||
        PyObject_GetOptionalAttr(obj, e->state->str.__qualname__, &qualname) <
            0) {
        goto done;
    }
    int by_value = fpk_named_goes_by_value(e, obj, module, qualname);
    if (by_value >= 0) {
        status = by_value ? save_lru_cache_by_value(e, obj)
                          : fpk_save_global(e, obj, NULL);
    }
done:
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return status;
}
