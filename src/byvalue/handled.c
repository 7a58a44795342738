/* handled.c -- the other types that have no way into a pickle of their own.

   Does:      writes code, cells, modules, properties, class and static
              methods, lru_cache wrappers, cached properties, mapping proxies,
              and the sentinels of dataclasses.
   Owns:      the table of these types in the module state.
   Invariant: exact types only.  The types of modules that are slow to import
              join the table when somebody else has imported them.
   Called by: driver, through the table of the room. */
#include "byvalue/room.h"

enum handler {
    HANDLE_CODE,
    HANDLE_CELL,
    HANDLE_MODULE,
    HANDLE_WRAPPER,
    HANDLE_LRU_CACHE,
    HANDLE_CACHED_PROPERTY,
    HANDLE_MAPPING_PROXY,
    HANDLE_NAMED_TYPE,
    HANDLE_TYPE_ALIAS,
    HANDLE_SLOTTED,
    HANDLE_DISPATCH_METHOD,
    HANDLE_EXCEPTION,
    HANDLE_SENTINEL,
};

/* ---- the table ---------------------------------------------------------- */

static int
add_type(fpk_state *state, PyObject *type, enum handler handler)
{
    /* The list keeps the address from being used again. */
    if (PyList_Append(state->handled_types, type) < 0) {
        return -1;
    }
    if (!fpk_memo_set(&state->handlers, type, (uint64_t)handler)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static const char *const sentinel_names[] = {
    "MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY", "_FIELD", "_FIELD_CLASSVAR",
    "_FIELD_INITVAR",
};

static const struct {
    const char *name;
    enum handler handler;
} typing_types[] = {
    {"TypeVar", HANDLE_NAMED_TYPE},      {"ParamSpec", HANDLE_NAMED_TYPE},
    {"TypeVarTuple", HANDLE_NAMED_TYPE}, {"NewType", HANDLE_NAMED_TYPE},
    {"TypeAliasType", HANDLE_TYPE_ALIAS}, {"ForwardRef", HANDLE_SLOTTED},
    {"ParamSpecArgs", HANDLE_SLOTTED},    {"ParamSpecKwargs", HANDLE_SLOTTED},
};

/* The module called [name] if it is imported, or NULL, perhaps with an
   exception. */
static PyObject *
get_loaded(const char *name)
{
    PyObject *text = PyUnicode_FromString(name);
    PyObject *module = text == NULL ? NULL : PyImport_GetModule(text);
    Py_XDECREF(text);
    return module;
}

static int
add_optional(fpk_state *state, PyObject *module, const char *name,
             bool is_instance, enum handler handler)
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

static int
add_late_types(fpk_state *state)
{
    PyObject *module =
        state->has_dataclasses ? NULL : get_loaded("dataclasses");
    if (module != NULL) {
        state->has_dataclasses = true;
        if (add_optional(state, module, "Field", false, HANDLE_SLOTTED) < 0 ||
            add_optional(state, module, "InitVar", false, HANDLE_SLOTTED) <
                0 ||
            add_optional(state, module, "_DataclassParams", false,
                         HANDLE_SLOTTED) < 0) {
            Py_DECREF(module);
            return -1;
        }
        for (size_t i = 0; i < Py_ARRAY_LENGTH(sentinel_names); i++) {
            if (add_optional(state, module, sentinel_names[i], true,
                             HANDLE_SENTINEL) < 0) {
                Py_DECREF(module);
                return -1;
            }
        }
        Py_DECREF(module);
    }
    module = state->has_typing ? NULL : get_loaded("typing");
    if (module != NULL) {
        state->has_typing = true;
        for (size_t i = 0; i < Py_ARRAY_LENGTH(typing_types); i++) {
            if (add_optional(state, module, typing_types[i].name, false,
                             typing_types[i].handler) < 0) {
                Py_DECREF(module);
                return -1;
            }
        }
        Py_DECREF(module);
    }
    return PyErr_Occurred() ? -1 : 0;
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
    const fpk_memo_entry *entry = fpk_memo_find(&state->handlers, type);
    if (entry != NULL) {
        return (int)entry->index;
    }
    return PyType_HasFeature(type, Py_TPFLAGS_BASE_EXC_SUBCLASS)
               ? HANDLE_EXCEPTION
               : -1;
}

/* ---- simple reductions -------------------------------------------------- */

/* A classmethod or staticmethod outside of its class, taken from a module that
   the receiver can import: the standard module refuses it.  1, 0, or -1 on
   error. */
static int
is_bare_wrapper(fpk_encoder *e, PyObject *obj, PyObject *parts)
{
    const fpk_context *c = e->byvalue;
    if (Py_IS_TYPE(obj, &PyProperty_Type) || (c != NULL && c->job_count > 0)) {
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
        if (bare > 0) {
            PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object",
                         Py_TYPE(obj)->tp_name);
        }
        Py_XDECREF(parts);
        return FPK_ERROR;
    }
    PyObject *value =
        parts == NULL ? NULL : Py_BuildValue("(ON)", Py_TYPE(obj), parts);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

static int
save_mapping_proxy(fpk_encoder *e, PyObject *obj)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL || PyDict_Update(dict, obj) < 0) {
        Py_XDECREF(dict);
        return FPK_ERROR;
    }
    PyObject *value = Py_BuildValue("(O(N))", Py_TYPE(obj), dict);
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

static int
save_by_its_reduction(fpk_encoder *e, PyObject *obj)
{
    PyObject *value =
        PyObject_CallMethod(obj, "__reduce_ex__", "i", e->protocol);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, true);
}

/* dataclasses compares its sentinels by identity. */
static int
save_sentinel(fpk_encoder *e, PyObject *obj)
{
    PyObject *module = PyImport_ImportModule("dataclasses");
    if (module == NULL) {
        return FPK_ERROR;
    }
    const char *name = NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(sentinel_names); i++) {
        PyObject *found = PyObject_GetAttrString(module, sentinel_names[i]);
        if (found == NULL) {
            PyErr_Clear();
        }
        Py_XDECREF(found);
        if (found == obj) {
            name = sentinel_names[i];
            break;
        }
    }
    Py_DECREF(module);
    return name == NULL ? save_by_its_reduction(e, obj)
                        : fpk_save_global_as(e, obj, "dataclasses", name);
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
    if (fpk_save_global_as(e, e->state->lru_cache, "functools", "lru_cache") <
            0 ||
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
    fpk_frame *frame = fpk_push_frame(e, FPK_FRAME_BYVALUE, advance_lru_cache,
                                      obj, parts);
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

/* ---- dispatch ----------------------------------------------------------- */

int
fpk_save_handled(fpk_encoder *e, PyObject *obj, int handler)
{
    switch ((enum handler)handler) {
    case HANDLE_CODE:
        return fpk_save_code(e, obj);
    case HANDLE_CELL:
        return fpk_save_cell(e, obj);
    case HANDLE_MODULE:
        return fpk_save_module(e, obj);
    case HANDLE_WRAPPER:
        return save_wrapper(e, obj);
    case HANDLE_LRU_CACHE:
        return save_lru_cache(e, obj);
    case HANDLE_CACHED_PROPERTY:
        return save_cached_property(e, obj);
    case HANDLE_MAPPING_PROXY:
        return save_mapping_proxy(e, obj);
    case HANDLE_NAMED_TYPE:
        return fpk_save_named_type(e, obj);
    case HANDLE_TYPE_ALIAS:
        return fpk_save_type_alias(e, obj);
    case HANDLE_DISPATCH_METHOD:
        return fpk_save_dispatch_method(e, obj);
    case HANDLE_EXCEPTION:
        return fpk_save_exception(e, obj);
    case HANDLE_SLOTTED:
        return fpk_save_slotted(e, obj);
    case HANDLE_SENTINEL:
        return save_sentinel(e, obj);
    }
    Py_UNREACHABLE();
}

int
fpk_init_handlers(PyObject *module, fpk_state *state)
{
    static const struct {
        PyTypeObject *type;
        enum handler handler;
    } fixed[] = {
        {&PyCode_Type, HANDLE_CODE},
        {&PyCell_Type, HANDLE_CELL},
        {&PyModule_Type, HANDLE_MODULE},
        {&PyProperty_Type, HANDLE_WRAPPER},
        {&PyClassMethod_Type, HANDLE_WRAPPER},
        {&PyStaticMethod_Type, HANDLE_WRAPPER},
        {&PyDictProxy_Type, HANDLE_MAPPING_PROXY},
    };
    state->handled_types = PyList_New(0);
    if (state->handled_types == NULL) {
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(fixed); i++) {
        if (add_type(state, (PyObject *)fixed[i].type, fixed[i].handler) < 0) {
            return -1;
        }
    }
    int status = -1;
    PyObject *cached_property = NULL, *wrapper = NULL;
    PyObject *functools = PyImport_ImportModule("functools");
    if (functools == NULL) {
        return -1;
    }
    state->lru_cache = PyObject_GetAttrString(functools, "lru_cache");
    cached_property = PyObject_GetAttrString(functools, "cached_property");
    wrapper = PyObject_GetAttrString(functools, "_lru_cache_wrapper");
    if (add_optional(state, functools, "singledispatchmethod", false,
                     HANDLE_DISPATCH_METHOD) == 0 &&
        state->lru_cache != NULL && cached_property != NULL &&
        wrapper != NULL &&
        add_type(state, cached_property, HANDLE_CACHED_PROPERTY) == 0 &&
        add_type(state, wrapper, HANDLE_LRU_CACHE) == 0) {
        status = 0;
    }
    Py_DECREF(functools);
    Py_XDECREF(cached_property);
    Py_XDECREF(wrapper);
    return status;
}
