/* state.h -- the state of one module object, and nothing else.

   Does:      names every Python object that the extension keeps.
   Owns:      one strong reference for each FPK_STATE_OBJECTS, FPK_STATE_TYPES
              and FPK_INTERNED entry; module.c visits and clears them.
   Invariant: after fpk_module_exec every entry is set and stays set until
              the module is cleared.
   Used by:   every room with a Python face.  There are no C globals. */
#ifndef FPK_STATE_H
#define FPK_STATE_H

#include "base/memo.h"
#include "compat/compat.h"

struct fpk_encoder;
struct fpk_byvalue_table;
struct fpk_survey_table;

/* Objects of the standard library, fetched once by the room named beside
   them. */
#define FPK_STATE_OBJECTS(X)                                                  \
    /* module.c: the standard module's own exceptions */                      \
    X(PickleError)                                                            \
    X(PicklingError)                                                          \
    X(UnpicklingError)                                                        \
    /* decode: UnpicklingErrors that are an EOFError, a ValueError, a         \
       UnicodeDecodeError, an AttributeError, too */                          \
    X(TruncatedError)                                                         \
    X(MalformedError)                                                         \
    X(InvalidTextError)                                                       \
    X(InvalidStateError)                                                      \
    /* module.c: the registries of copyreg; always read, never replaced */    \
    X(dispatch_table)                                                         \
    X(extension_registry)                                                     \
    X(inverted_registry)                                                      \
    X(extension_cache)                                                        \
    /* module.c: _compat_pickle's maps between Python 2 and 3 names */        \
    X(name_mapping_2to3)                                                      \
    X(import_mapping_2to3)                                                    \
    X(name_mapping_3to2)                                                      \
    X(import_mapping_3to2)                                                    \
    /* encode */                                                              \
    X(codecs_encode)                                                          \
    X(copyreg_newobj)                                                         \
    X(functools_partial)                                                      \
    X(namedtuple_newargs) /* code of __getnewargs__ of all named tuples */    \
    X(builtins_getattr)                                                       \
    X(RawIOBase)                                                              \
    /* byvalue */                                                             \
    X(ABCMeta_register)                                                       \
    X(KeyedRef)                                                               \
    X(RefusedError)                                                           \
    X(SimpleNamespace)                                                        \
    X(WeakValueDictionary)                                                    \
    X(abc_init)                                                               \
    X(builtins_exec)                                                          \
    X(builtins_import)                                                        \
    X(builtins_setattr)                                                       \
    X(builtins_vars)                                                          \
    X(bytecode_header)                                                        \
    X(bytecode_words)                                                         \
    X(call_type)                                                              \
    X(class_ids)                                                              \
    X(classify_pyc)                                                           \
    X(copyreg_dict)                                                           \
    X(dict_setdefault)                                                        \
    X(dict_update)                                                            \
    X(dispatcher_code)                                                        \
    X(getweakrefs)                                                            \
    X(guard_opcodes)                                                          \
    X(handled_types)                                                          \
    X(import_module)                                                          \
    X(lru_cache)                                                              \
    X(marshal_loads)                                                          \
    X(object_getstate)                                                        \
    X(operator_add)                                                           \
    X(operator_contains)                                                      \
    X(operator_getitem)                                                       \
    X(operator_is_not)                                                        \
    X(operator_methodcaller)                                                  \
    X(os_urandom)                                                             \
    X(plain_enums)                                                            \
    X(ready_modules)                                                          \
    X(rebuild_traceback)                                                      \
    X(reducers)                                                               \
    X(registered_modules)                                                     \
    X(singledispatch)                                                         \
    X(some_python_class)                                                      \
    X(stdlib_names)                                                           \
    X(type_names)                                                             \
    X(type_new)                                                               \
    X(type_setattr)                                                           \
    X(types_new_class)                                                        \
    X(unnamed_types)                                                          \
    X(weak_get)                                                               \
    X(weak_setdefault)

#define FPK_STATE_TYPES(X)                                                    \
    X(pickler_type)                                                           \
    X(pickler_memo_proxy_type)                                                \
    X(unpickler_type)                                                         \
    X(unpickler_memo_proxy_type)                                              \
    X(limits_type)

/* Interned strings, as state->str.NAME. */
#define FPK_INTERNED(X)                                                       \
    X(__annotations__)                                                        \
    X(__builtins__)                                                           \
    X(__class__)                                                              \
    X(__defaults__)                                                           \
    X(__dict__)                                                               \
    X(__doc__)                                                                \
    X(__file__)                                                               \
    X(__getinitargs__)                                                        \
    X(__getnewargs__)                                                         \
    X(__getnewargs_ex__)                                                      \
    X(__getstate__)                                                           \
    X(__hash__)                                                               \
    X(__init__)                                                               \
    X(__init_subclass__)                                                      \
    X(__kwdefaults__)                                                         \
    X(__main__)                                                               \
    X(__module__)                                                             \
    X(__mp_main__)                                                            \
    X(__name__)                                                               \
    X(__new__)                                                                \
    X(__newobj__)                                                             \
    X(__newobj_ex__)                                                          \
    X(__orig_bases__)                                                         \
    X(__package__)                                                            \
    X(__qualname__)                                                           \
    X(__reduce__)                                                             \
    X(__reduce_ex__)                                                          \
    X(__self__)                                                               \
    X(__set_name__)                                                           \
    X(__setstate__)                                                           \
    X(__slotnames__)                                                          \
    X(__spec__)                                                               \
    X(__supertype__)                                                          \
    X(__type_params__)                                                        \
    X(_abc)                                                                   \
    X(_abc_impl)                                                              \
    X(_sa_class_manager)                                                      \
    X(_codecs)                                                                \
    X(_compat_pickle)                                                         \
    X(_frozen_importlib_external)                                             \
    X(_initializing)                                                          \
    X(_loky_pickler_cls)                                                      \
    X(abc)                                                                    \
    X(add)                                                                    \
    X(add_note)                                                               \
    X(append)                                                                 \
    X(bit_length)                                                             \
    X(builtins)                                                               \
    X(cell_contents)                                                          \
    X(copyreg)                                                                \
    X(dataclasses)                                                            \
    X(data)                                                                   \
    X(dispatch_table)                                                         \
    X(dump)                                                                   \
    X(extend)                                                                 \
    X(find_class)                                                             \
    X(functools)                                                              \
    X(getattr)                                                                \
    X(importlib)                                                              \
    X(key)                                                                    \
    X(linecache)                                                              \
    X(load)                                                                   \
    X(marshal)                                                                \
    X(modules)                                                                \
    X(operator)                                                               \
    X(peek)                                                                   \
    X(persistent_id)                                                          \
    X(persistent_load)                                                        \
    X(raw)                                                                    \
    X(read)                                                                   \
    X(readinto)                                                               \
    X(readline)                                                               \
    X(reducer_override)                                                       \
    X(sys)                                                                    \
    X(to_bytes)                                                               \
    X(toreadonly)                                                             \
    X(types)                                                                  \
    X(typing)                                                                 \
    X(weakref)                                                                \
    X(write)

typedef struct fpk_state {
#define FPK_MEMBER(name) PyObject *name;
    FPK_STATE_OBJECTS(FPK_MEMBER)
    struct {
        FPK_INTERNED(FPK_MEMBER)
    } str;
#undef FPK_MEMBER
#define FPK_MEMBER(name) PyTypeObject *name;
    FPK_STATE_TYPES(FPK_MEMBER)
#undef FPK_MEMBER
    const void *datetime_api; /* encode/dates.c: a PyDateTime_CAPI, which the
                                 datetime module keeps; NULL until asked */
    size_t expected_output; /* encode/encoder.c: how long a stream may become,
                               judged by those before */
    fpk_memo plans; /* encode/instances.c: how instances of a type are written;
                       no references */
    fpk_memo descriptors; /* decode/build.c: names of attributes that a type
                             handles itself; no references */
    fpk_memo handlers; /* byvalue/handled.c: type -> handler; the types are in
                          handled_types */
    uint64_t handler_filter[16]; /* bits of the types in handlers: most others
                                    have none set */
    Py_ssize_t modules_seen; /* modules there were when handlers was made */
    uint64_t modules_known;  /* bits of modules whose types are in handlers */
    size_t guard_get; /* decode/calls.c: where guard_opcodes has an index */
    size_t class_id_limit; /* byvalue/identity.c: entries at the next sweep */
    /* What the encoder calls in rooms that it must not include. */
    const struct fpk_byvalue_table *byvalue; /* static storage */
    void (*add_error_path)(struct fpk_encoder *e);
    const struct fpk_survey_table *survey; /* static storage */
} fpk_state;

extern struct PyModuleDef fpk_module_def;

static inline fpk_state *
fpk_state_of_module(PyObject *module)
{
    return (fpk_state *)PyModule_GetState(module);
}

/* The state behind [type] or the fpickle type that it derives from; NULL with
   TypeError if there is none. */
static inline fpk_state *
fpk_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &fpk_module_def);
    return module == NULL ? NULL : fpk_state_of_module(module);
}

/* The object called [name] of an importable module; 0 or -1. */
int fpk_fetch(PyObject **slot, const char *module_name, const char *name);

/* One per room: adds its types and functions to [module]; 0 or -1. */
int fpk_encode_init(PyObject *module, fpk_state *state);
int fpk_decode_init(PyObject *module, fpk_state *state);
int fpk_byvalue_init(PyObject *module, fpk_state *state);
int fpk_explain_init(PyObject *module, fpk_state *state);

#endif
