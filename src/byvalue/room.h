/* room.h -- what the files of the byvalue room share.

   Does:      declares the context that lives from the first object by value
              to the end of the encoder, and the writers.
   Owns:      see fpk_context.
   Invariant: the context holds a reference to every object that it remembers
              an address of.
   Used by:   byvalue only. */
#ifndef FPK_BYVALUE_ROOM_H
#define FPK_BYVALUE_ROOM_H

#include "byvalue/byvalue.h"

/* Memo index of what was not written yet. */
#define FPK_UNWRITTEN UINT64_MAX

/* One dict of globals and its copy at the receiver. */
typedef struct {
    PyObject *dict;   /* owned: the sender's */
    uint64_t index;   /* memo index of the receiver's */
    bool at_receiver; /* it is the dict of a module that the receiver imports:
                         nothing is to be added */
    fpk_memo names;   /* name (owned) -> FPK_NAME_WRITTEN, or the serial of the
                        last collection that met it */
} fpk_namespace;

#define FPK_NAME_WRITTEN 0

/* Members that whatever makes any class may look at, so that they are in the
   dict that it is made with, though they are no plain data. */
#define FPK_EARLY_COUNT 3

/* The members of an enumeration, while its class is being written. */
typedef struct {
    PyObject *members;    /* owned list: each member once */
    PyObject *maker;      /* owned: the __new__ that makes a member */
    fpk_memo indices;     /* member -> memo index; borrowed from [members] */
    uint64_t maker_index; /* memo indices */
    uint64_t by_name;
    uint64_t by_value;
    bool has_setstate;
} fpk_enum_job;

/* One class that is being written.  They end in the reverse order of their
   begin. */
typedef struct {
    PyObject *cls;       /* borrowed from the frame */
    PyObject *creator;   /* owned: the callable that makes the class */
    PyObject *members;   /* owned: a copy of the class's dict */
    PyObject *functions; /* owned list: methods that are to be completed */
    PyObject *late;      /* owned list of names, or NULL: members that are
                              set when the class exists */
    PyObject *virtual_subclasses; /* owned list, or NULL */
    fpk_enum_job *enumeration;    /* owned, or NULL */
    fpk_memo early; /* name -> memo index of a member that is written before;
                       borrowed from [members] */
    uint64_t creator_index; /* memo indices, or FPK_UNWRITTEN */
    uint64_t metaclass;
    uint64_t bases;
    uint64_t id;
    uint64_t present;       /* is the class at the receiver already? */
    uint64_t fixed;         /* is it one that this stream must not change? */
    uint64_t target;        /* what attributes are set on, or what sets them */
    size_t outer;           /* the job that this one supersedes, + 1; or 0 */
    int arguments;          /* of the creator */
    int early_names;        /* of fpk_get_early_names, done so far */
    bool in_early;          /* an early member is being written */
    bool superseded;        /* it led to the class, which another job makes */
    bool needs_metaclass;   /* as an argument */
    bool prepared;          /* by __prepare__ of the metaclass */
    bool quiet;             /* __init_subclass__ must not run again */
    bool reruns;            /* code of importable classes runs again */
    bool updates;           /* a class that streams have brought is changed */
    bool by_setattr;        /* attributes cannot be set by BUILD */
    bool runtime_checkable; /* a protocol, in a portable stream */
} fpk_class_job;

enum fpk_registry_method {
    FPK_REGISTRY_GET,
    FPK_REGISTRY_SETDEFAULT,
    FPK_REGISTRY_METHODS
};

/* Memo indices of what each portable code object refers to. */
enum fpk_source_index {
    FPK_SOURCE_DICT_GET,
    FPK_SOURCE_MAGIC,
    FPK_SOURCE_MAKER,
    FPK_SOURCE_INDICES
};

typedef struct {
    bool guarded;      /* the guard of bytecode stands in this stream */
    uint64_t registry; /* memo index of the receiver's registry of classes */
    uint64_t registry_methods[FPK_REGISTRY_METHODS];
    uint64_t serial;    /* collections of names so far */
    fpk_memo parts_due; /* functions and cells -> 1 if they were created and
                           their parts are to be written; not owned, but in
                           the memo */
    fpk_namespace *namespaces;
    size_t namespace_count, namespace_capacity;
    fpk_memo namespace_of;      /* dict -> index in namespaces, when many */
    PyObject *missing_modules;  /* owned set of names that could not be
                                  imported, or NULL */
    size_t searches;            /* of all modules, for what has no module */
    PyObject *names_of_modules; /* owned set, or NULL */
    PyObject *sources;          /* owned: what source.c knows, or NULL */
    uint64_t source_indices[FPK_SOURCE_INDICES];
    fpk_class_job *jobs;
    size_t job_count, job_capacity;
    /* In fast mode the encoder keeps no memo.  What travels by value needs one
       nevertheless, and PUTs with an index of their own, because each stream
       may be loaded alone. */
    fpk_memo fast_memo; /* owns one reference to each key */
    fpk_memo stand_ins; /* the same: proxies sent as their objects */
    uint64_t fast_index;
} fpk_context;

/* ---- context.c ---------------------------------------------------------- */

/* The context of [e], made on first use; NULL with MemoryError. */
fpk_context *fpk_get_context(fpk_encoder *e);

void fpk_byvalue_begin_stream(fpk_encoder *e);
void fpk_byvalue_clear(fpk_encoder *e);

/* As fpk_memoize and fpk_emit_get_if_saved, also in fast mode. */
int fpk_remember(fpk_encoder *e, PyObject *obj);
int fpk_recall(fpk_encoder *e, PyObject *obj);
/* True if fpk_recall will find [obj], and not as a tuple or a reduction that
   is still open. */
bool fpk_can_recall(const fpk_encoder *e, PyObject *obj);

/* The stack top gets a memo entry of its own. */
int fpk_remember_anonymous(fpk_encoder *e, uint64_t *index);

/* [obj]'s parts are due: it was only created so far.  0 or -1. */
int fpk_mark_due(fpk_encoder *e, PyObject *obj);

/* True once for each fpk_mark_due. */
bool fpk_take_due(fpk_encoder *e, PyObject *obj);

/* The same without taking. */
bool fpk_is_due(fpk_encoder *e, PyObject *obj);

/* Opcodes that differ between protocols.  A tuple of [n] items needs both
   calls around the items. */
int fpk_emit_empty_dict(fpk_encoder *e);
int fpk_emit_empty_tuple(fpk_encoder *e);
int fpk_begin_tuple(fpk_encoder *e, Py_ssize_t n);
int fpk_end_tuple(fpk_encoder *e, Py_ssize_t n);

/* Around one value: the object on the stack gets an attribute by BUILD, which
   leaves the object there. */
int fpk_begin_attribute(fpk_encoder *e);
int fpk_end_attribute(fpk_encoder *e);

/* ---- rules.c ------------------------------------------------------------ */

/* 1 if the place where [function] was defined rules out a name (__main__, a
   function, a registered module), 0 if not, -1 on error. */
int fpk_belongs_to_stream(fpk_encoder *e, PyObject *function);

/* 1: [obj], a function or a class, goes by value; 0: by name; -1: error. */
int fpk_goes_by_value(fpk_encoder *e, PyObject *obj);

/* The same for any object that says its module and qualified name. */
int fpk_named_goes_by_value(fpk_encoder *e, PyObject *obj, PyObject *module,
                            PyObject *qualname);

/* 1 if everything of the module called [name] goes by value: it is registered,
   or the option by_value names it; 0 if not, -1 on error. */
int fpk_is_registered(fpk_encoder *e, PyObject *name);

/* True if [type] was made by a class statement, not in C. */
bool fpk_is_python_class(fpk_state *state, PyTypeObject *type);

int fpk_byvalue_save_function(fpk_encoder *e, PyObject *obj);
int fpk_byvalue_save_class(fpk_encoder *e, PyObject *obj);

int fpk_init_rules(PyObject *module, fpk_state *state);

/* ---- registry.c --------------------------------------------------------- */

/* What dump's by_value names, as fpk_is_registered wants it: a new dict. */
PyObject *fpk_parse_modules(fpk_state *state, PyObject *value);

int fpk_init_registry(PyObject *module, fpk_state *state);

/* ---- unnamed.c ---------------------------------------------------------- */

/* Writes [type] after the attempt by its name has raised what is set; that
   stays if there is no other way. */
int fpk_save_unnamed_type(fpk_encoder *e, PyObject *type);

/* sys.flags and its like; by their reduction if they are not those of sys. */
int fpk_save_of_sys(fpk_encoder *e, PyObject *obj);

/* ---- ufunc.c ------------------------------------------------------------ */

/* A reduction of [obj], whose own is a name that does not lead to it; NULL,
   perhaps with an exception, if there is none. */
PyObject *fpk_reduce_unnamed(fpk_encoder *e, PyObject *obj);

/* ---- namedtuple.c ------------------------------------------------------- */

/* What object.__reduce_ex__ gives for the tuple [obj], stolen, or better. */
PyObject *fpk_reduce_tuple(fpk_encoder *e, PyObject *obj, PyObject *value);

/* ---- names.c ------------------------------------------------------------ */

/* The names in [space] that [function] uses and that are due, and the
   submodules that it reaches through modules: a new list of str and modules,
   in the order in which they are to be written, or NULL without exception if
   there are none. */
PyObject *fpk_collect_names(fpk_encoder *e, PyObject *function,
                            fpk_namespace *space);

/* ---- code.c ------------------------------------------------------------- */

int fpk_save_code(fpk_encoder *e, PyObject *code);

/* Writes [code] without its source; it is not remembered yet. */
int fpk_save_bytecode(fpk_encoder *e, PyObject *code, bool shared);

/* Writes the guard, which leaves nothing on the stack, if it is due. */
int fpk_guard_bytecode(fpk_encoder *e);

int fpk_init_code(PyObject *module, fpk_state *state);

/* ---- placeless.c: deterministic dumps ----------------------------------- */

/* True if the stream tells the file and the line of [code]. */
bool fpk_keeps_place(const fpk_encoder *e, const PyCodeObject *code);

/* The name of the file of [code] as the stream is to have it: a new
   reference. */
PyObject *fpk_lasting_filename(const fpk_encoder *e, const PyCodeObject *code);

/* What a deterministic dump writes for [value], which a class statement stores
   as [name]: a new reference. */
PyObject *fpk_normalise_constant(fpk_encoder *e, PyObject *name,
                                 PyObject *value);

/* Its instructions and its constants, two new references: 0 or -1. */
int fpk_normalise_code(fpk_encoder *e, PyCodeObject *code, PyObject **bytes,
                       PyObject **consts);

/* ---- marshalled.c ------------------------------------------------------- */

/* What marshal.loads makes [code] of: new bytes. */
PyObject *fpk_marshal_code(fpk_encoder *e, PyObject *code);

/* ---- source.c ----------------------------------------------------------- */

/* How the names of files begin that deterministic streams give to source
   (fpickle/_source.py). */
#define FPK_SOURCE_FILENAME "<source "

/* The same with its source, as the options say; it is not remembered yet. */
int fpk_save_code_with_source(fpk_encoder *e, PyObject *code);

/* ---- portable.c --------------------------------------------------------- */

/* 1 if the module called [name] is of the standard library, 0, or -1 on
   error. */
int fpk_is_of_stdlib(fpk_encoder *e, PyObject *name);

/* True for a function that other versions may not have under its name. */
bool fpk_is_unportable_name(PyObject *function);

/* Adds what EnumType of other versions looks for to the dict of an enumeration
   with this _member_map_; 0 or -1. */
int fpk_add_enum_lists(PyObject *members, PyObject *by_name);

/* Notes whether the class is a protocol that isinstance() may ask: 0 or -1. */
int fpk_plan_protocol(fpk_class_job *job);

/* typing.runtime_checkable(cls); FPK_DONE or FPK_ERROR. */
int fpk_make_runtime_checkable(fpk_encoder *e, PyObject *cls);

int fpk_save_dataclass_params(fpk_encoder *e, PyObject *obj);
int fpk_save_forward_reference(fpk_encoder *e, PyObject *obj);
int fpk_save_parameter_part(fpk_encoder *e, PyObject *obj);

/* ---- cell.c ------------------------------------------------------------- */

/* Writes [cell], empty if its content is no atom; never more than that. */
int fpk_create_cell(fpk_encoder *e, PyObject *cell);

/* The content of a cell that was created empty.  begin returns FPK_DONE if
   there is nothing to write; FPK_MORE if the content is being written or is
   written: return to the driver, end is due when it comes back. */
int fpk_begin_fill(fpk_encoder *e, PyObject *cell);
int fpk_end_fill(fpk_encoder *e);

int fpk_save_cell(fpk_encoder *e, PyObject *cell);

/* ---- namespace.c -------------------------------------------------------- */

/* Writes the receiver's dict for [globals] and remembers it. */
int fpk_save_namespace(fpk_encoder *e, PyObject *globals);

/* The same for the dict of [module], which goes by value and was not met. */
int fpk_add_module(fpk_encoder *e, PyObject *module, PyObject *name);

/* [name] is due in this collection of names, unless it was written; 0 or
   -1. */
int fpk_announce_name(fpk_namespace *space, PyObject *name, uint64_t serial);

/* What fpk_save_namespace remembered for [globals]; valid until the next
   namespace is written. */
fpk_namespace *fpk_find_namespace(fpk_encoder *e, PyObject *globals);

/* One item of fpk_collect_names, while the receiver's dict is on the stack.
   begin returns FPK_DONE if nothing is left to do; FPK_MORE as
   fpk_begin_fill. */
int fpk_begin_name(fpk_encoder *e, PyObject *globals, PyObject *item);
int fpk_end_name(fpk_encoder *e, PyObject *item);

/* ---- function.c --------------------------------------------------------- */

/* Writes [function] by value. */
int fpk_save_function_body(fpk_encoder *e, PyObject *function);

/* Only creates it; the parts stay due. */
int fpk_create_function(fpk_encoder *e, PyObject *function);

/* Writes the parts that are due, if they still are. */
int fpk_complete_function(fpk_encoder *e, PyObject *function);

/* ---- class.c ------------------------------------------------------------ */

int fpk_save_class_body(fpk_encoder *e, PyObject *cls);

/* The top frame goes without its end: its job does, too. */
void fpk_abandon_class(fpk_encoder *e);
void fpk_clear_class_job(fpk_class_job *job);

/* ---- class_plan.c ------------------------------------------------------- */

/* Fills in the new [job]. */
int fpk_plan_class(fpk_encoder *e, fpk_class_job *job, PyObject *cls);

/* What [type] or the first class above it has as [name], starting with number
 *[i] of its mro, which becomes the number where it was found: a new reference,
   or NULL, perhaps with an exception. */
PyObject *fpk_find_in_mro(PyTypeObject *type, PyObject *name, Py_ssize_t *i);

/* True if [function], which is one of Python, cannot be called with [given]
   positional arguments and nothing else. */
bool fpk_needs_more_arguments(PyObject *function, Py_ssize_t given);

/* 1 if [cls] would find the same function or object as [key] if it did not
   have [value] there, 0 if not, -1 on error. */
int fpk_is_inherited(PyObject *cls, PyObject *key, PyObject *value);

/* 1 if a class that is made with [value] in its dict tells it its name, 0, or
   -1 on error. */
int fpk_tells_name(fpk_encoder *e, PyObject *value);

/* ---- class_call.c ------------------------------------------------------- */

/* The stack top goes to the memo for later. */
int fpk_put_aside(fpk_encoder *e, uint64_t *index);

/* What stands before and after the items of the class's dict; after close the
   class is on the stack, and memoised. */
int fpk_open_class_call(fpk_encoder *e, fpk_class_job *job, PyObject *cls);
int fpk_close_class_call(fpk_encoder *e, const fpk_class_job *job,
                         PyObject *cls);

/* What attributes are set on: left on the stack; or, if they are set by
   setattr, what to call for that, put aside. */
int fpk_emit_class_target(fpk_encoder *e, fpk_class_job *job, PyObject *cls);

/* ---- enum.c ------------------------------------------------------------- */

/* The class of C that an instance of [type] is made by. */
PyTypeObject *fpk_find_maker_type(fpk_state *state, PyTypeObject *type);

/* 1 if [cls] is an enumeration, 0, or -1 on error. */
int fpk_is_enum(fpk_state *state, PyObject *cls);

/* Prepares [job] for the enumeration [cls]. */
int fpk_plan_enum(fpk_encoder *e, fpk_class_job *job, PyObject *cls);

/* Writes what makes members, and puts it aside; no frames. */
int fpk_write_enum_maker(fpk_encoder *e, fpk_enum_job *job);

/* True for the dicts of an enumeration that lead from names and values to its
   members: written empty and put aside. */
int fpk_save_enum_dict(fpk_encoder *e, fpk_enum_job *job, PyObject *key);

/* Makes the members and fills the dicts: pushes a frame. */
int fpk_save_enum_members(fpk_encoder *e, const fpk_class_job *job,
                          PyObject *cls);

void fpk_clear_enum_job(fpk_enum_job *job);

/* ---- enum_call.c -------------------------------------------------------- */

/* What the metaclass of [cls], an enumeration with this dict and this
   _member_map_, can make it of again: a new reference to a dict of names,
   values and methods; NULL, perhaps without exception, if it cannot. */
PyObject *fpk_find_enum_items(fpk_encoder *e, PyObject *cls, PyObject *dict,
                              PyObject *by_name);

/* The dict that the metaclass wants to have the items in. */
int fpk_emit_prepared_dict(fpk_encoder *e, const fpk_class_job *job,
                           PyObject *cls);

int fpk_init_enum(PyObject *module, fpk_state *state);

/* An abstract class that was made without its metaclass's __new__. */
int fpk_complete_abstract_class(fpk_encoder *e, const fpk_class_job *job,
                                PyObject *cls);

int fpk_init_class(PyObject *module, fpk_state *state);

/* ---- members.c ---------------------------------------------------------- */

enum fpk_member {
    FPK_MEMBER_ERROR = -1,
    FPK_MEMBER_SKIP,   /* made anew with the class */
    FPK_MEMBER_DATA,   /* nothing that leads anywhere: created with */
    FPK_MEMBER_METHOD, /* created with, its functions completed later */
    FPK_MEMBER_EARLY,  /* created with, written before */
    FPK_MEMBER_PLACED, /* set on the class when it exists; until then, None
                          keeps its place */
    FPK_MEMBER_LATE,   /* the same, and nobody may see None there */
};

/* The names of the members that are always early. */
void fpk_get_early_names(const fpk_encoder *e,
                         PyObject *names[FPK_EARLY_COUNT]);
bool fpk_is_early_name(const fpk_encoder *e, PyObject *key);

/* An enum fpk_member. */
int fpk_classify_member(fpk_encoder *e, const fpk_class_job *job,
                        PyObject *cls, PyObject *key, PyObject *value);

/* True for atoms and tuples of atoms. */
bool fpk_is_plain_data(PyObject *value);

/* 1 if [value] is a function by value, or a property, classmethod or
   staticmethod of such functions; 0, or -1 on error. */
int fpk_is_method(fpk_encoder *e, PyObject *value);

/* ---- wrapper.c ---------------------------------------------------------- */

/* What a method is wrapped in: the functions inside a property, classmethod or
   staticmethod as a new tuple of constructor arguments; NULL, perhaps without
   exception, if [obj] is none of these. */
PyObject *fpk_wrapper_parts(PyObject *obj);

/* The same for what may be a subclass of property. */
PyObject *fpk_property_parts(PyObject *property);

/* Writes [obj], a function that goes by value or a wrapper whose parts are
   such functions and atoms, without completing the functions. */
int fpk_create_callable(fpk_encoder *e, PyObject *obj);

/* ---- identity.c --------------------------------------------------------- */

/* The id of [cls], the same in every process that has it: a new reference to a
   str. */
PyObject *fpk_class_id(fpk_state *state, PyObject *cls);

/* The id of [obj], a class or a type variable, in this stream: the one above,
   or one made of its content in a deterministic dump. */
PyObject *fpk_object_id(fpk_encoder *e, PyObject *obj);

/* Writes the receiver's registry of classes, or a method of it. */
int fpk_emit_registry(fpk_encoder *e);
int fpk_emit_registry_method(fpk_encoder *e, enum fpk_registry_method method);

int fpk_init_identity(PyObject *module, fpk_state *state);

/* ---- calls.c ------------------------------------------------------------ */

/* The object called [name] of a module of the standard library: a new
   reference. */
PyObject *fpk_new_name(const char *module_name, const char *name);

/* As fpk_save_reduced, for [value] (stolen) that may be NULL with an
   exception. */
int fpk_save_value(fpk_encoder *e, PyObject *obj, PyObject *value);

/* A call of [callable] with [args], both stolen and perhaps NULL with an
   exception, that the receiver makes where the result stands in the arguments
   of another call.  It is a tuple (callable, args) of a type of its own. */
PyObject *fpk_make_call(fpk_state *state, PyObject *callable, PyObject *args);

/* functools.partial(callable, **kwargs), both stolen. */
PyObject *fpk_make_partial(const fpk_state *state, PyObject *callable,
                           PyObject *kwargs);
int fpk_save_call(fpk_encoder *e, PyObject *call);

/* What [obj] holds, as the garbage collector sees it: a new list; or the first
   of it that is not its type, TypeError if there is none. */
PyObject *fpk_referents(PyObject *obj);
PyObject *fpk_first_referent(PyObject *obj);

int fpk_init_calls(PyObject *module, fpk_state *state);

/* ---- methods.c ---------------------------------------------------------- */

int fpk_save_method(fpk_encoder *e, PyObject *obj);
int fpk_save_descriptor(fpk_encoder *e, PyObject *obj);
int fpk_save_super(fpk_encoder *e, PyObject *obj);

/* ---- views.c ------------------------------------------------------------ */

int fpk_save_dict_view(fpk_encoder *e, PyObject *obj);
int fpk_save_mapping_proxy(fpk_encoder *e, PyObject *obj);
int fpk_save_memory_view(fpk_encoder *e, PyObject *obj);

/* ---- weakrefs.c --------------------------------------------------------- */

int fpk_save_weak_proxy(fpk_encoder *e, PyObject *obj);
int fpk_save_weakref(fpk_encoder *e, PyObject *obj);
int fpk_save_keyed_ref(fpk_encoder *e, PyObject *obj);
int fpk_save_weak_method(fpk_encoder *e, PyObject *obj);
int fpk_save_weak_set(fpk_encoder *e, PyObject *obj);
int fpk_save_weak_dict(fpk_encoder *e, PyObject *obj);

/* ---- locks.c ------------------------------------------------------------ */

/* True if a class of this name is among the bases of [obj]'s class; no code of
   the user runs. */
bool fpk_is_instance_of(fpk_state *state, PyObject *obj, const char *module,
                        const char *name);

/* The object, borrowed, whose attribute *[attribute], borrowed, is being
   written; NULL if it is no attribute, or inside of one. */
PyObject *fpk_find_owner(fpk_encoder *e, PyObject **attribute);

int fpk_save_lock(fpk_encoder *e, PyObject *obj);
int fpk_save_rlock(fpk_encoder *e, PyObject *obj);
int fpk_save_condition(fpk_encoder *e, PyObject *obj);
int fpk_save_event(fpk_encoder *e, PyObject *obj);
int fpk_save_semaphore(fpk_encoder *e, PyObject *obj);
int fpk_save_barrier(fpk_encoder *e, PyObject *obj);

/* ---- values.c ----------------------------------------------------------- */

int fpk_save_match(fpk_encoder *e, PyObject *obj);
int fpk_save_struct(fpk_encoder *e, PyObject *obj);
int fpk_save_hash(fpk_encoder *e, PyObject *obj);
int fpk_save_sort_key(fpk_encoder *e, PyObject *obj);
int fpk_save_pairwise(fpk_encoder *e, PyObject *obj);
int fpk_save_context_variable(fpk_encoder *e, PyObject *obj);
int fpk_save_context(fpk_encoder *e, PyObject *obj);

/* ---- files.c ------------------------------------------------------------ */

int fpk_save_memory_file(fpk_encoder *e, PyObject *obj);
int fpk_save_file(fpk_encoder *e, PyObject *obj);

/* ---- traceback.c -------------------------------------------------------- */

/* The text of the function that makes tracebacks, and the file name of its
   code. */
extern const char fpk_rebuild_source[];
#define FPK_REBUILD_FILENAME "<traceback>"

int fpk_save_traceback(fpk_encoder *e, PyObject *obj);

/* ---- refused.c ---------------------------------------------------------- */

typedef struct {
    const char *module, *name;
} fpk_refused_type;

#define FPK_REFUSED_COUNT 21
extern const fpk_refused_type fpk_refused_types[FPK_REFUSED_COUNT];

/* RefusedError: the object cannot be pickled, for [reason], "why. What to
   do", or NULL if it is that of all objects of its type.  Always FPK_ERROR. */
int fpk_refuse(fpk_encoder *e, PyObject *obj, const char *reason);

int fpk_init_refused(PyObject *module, fpk_state *state);

/* ---- modules.c ---------------------------------------------------------- */

int fpk_save_module(fpk_encoder *e, PyObject *module);

/* 1 if the receiver can be expected to import [module] under its name. */
int fpk_is_importable(fpk_encoder *e, PyObject *module);

/* 1 if the module called [name] is imported here and no import can make it
   elsewhere, 0 if not, -1 on error. */
int fpk_is_made_here(fpk_encoder *e, PyObject *name);

/* Makes an empty module at the receiver; its dict is left on the stack.  The
   content is due. */
int fpk_create_module(fpk_encoder *e, PyObject *module, PyObject *name);
int fpk_init_modules(PyObject *module, fpk_state *state);

/* ---- exceptions.c ------------------------------------------------------- */

int fpk_save_exception(fpk_encoder *e, PyObject *obj);

/* ---- dispatcher.c ------------------------------------------------------- */

/* True if functools.singledispatch made [function]. */
bool fpk_is_dispatcher(fpk_state *state, PyObject *function);

int fpk_save_dispatcher(fpk_encoder *e, PyObject *function);
int fpk_save_dispatch_method(fpk_encoder *e, PyObject *obj);
int fpk_init_dispatcher(PyObject *module, fpk_state *state);

/* ---- typenames.c -------------------------------------------------------- */

/* A TypeVar, ParamSpec, TypeVarTuple or NewType. */
int fpk_save_named_type(fpk_encoder *e, PyObject *obj);

/* The default of a type parameter, a new reference: 1, 0 without, -1 on
   error. */
int fpk_get_parameter_default(PyObject *parameter, PyObject **value);

/* An object of the standard library with __slots__. */
int fpk_save_slotted(fpk_encoder *e, PyObject *obj);

/* ---- typealias.c -------------------------------------------------------- */

/* What a type statement binds. */
int fpk_save_type_alias(fpk_encoder *e, PyObject *obj);

/* ---- handled.c ---------------------------------------------------------- */

int fpk_find_handler(fpk_encoder *e, PyTypeObject *type);
int fpk_save_handled(fpk_encoder *e, PyObject *obj, int handler);
int fpk_init_handlers(PyObject *module, fpk_state *state);

/* As its __reduce_ex__ says. */
int fpk_save_by_its_reduction(fpk_encoder *e, PyObject *obj);

#endif
