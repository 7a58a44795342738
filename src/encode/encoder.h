/* encoder.h -- the encoder: object graph in, opcodes out, on its own stack.

   The driver (driver.c) never recurses in C over user data.  Each object that
   has parts is a frame on a heap stack; a frame's advance function writes the
   next piece and hands parts to fpk_save.  The stack of open frames is at any
   moment the path from the root to the object being written, which is how an
   error can name it at no cost on success.

   Result of everything that saves:
     FPK_ERROR  an exception is set;
     FPK_DONE   the object is written;
     FPK_MORE   a frame was pushed (or the advance function wants to be called
                again): return to the driver at once.  Any fpk_frame pointer
                held across the call is stale, because the stack may have
                moved.

   References: [obj] arguments are borrowed from whoever the edge starts at,
   and that owner must live until the frame pushed for obj has taken its own
   reference, that is, until fpk_save returns.

   Used by: encode, byvalue, explain. */
#ifndef FPK_ENCODE_ENCODER_H
#define FPK_ENCODE_ENCODER_H

#include "base/buffer.h"
#include "base/memo.h"
#include "state.h"
#include "wire/opcodes.h"

typedef struct fpk_encoder fpk_encoder;
typedef struct fpk_frame fpk_frame;
typedef struct fpk_canonical fpk_canonical;

enum { FPK_ERROR = -1, FPK_DONE = 0, FPK_MORE = 1 };

/* Works on the top frame.  FPK_DONE: the driver pops it and releases what it
   owns. */
typedef int (*fpk_advance)(fpk_encoder *e);

/* What a frame is, for the room that explains errors. */
enum fpk_frame_kind {
    FPK_FRAME_LIST,     /* object: list; position: items begun */
    FPK_FRAME_TUPLE,    /* object: tuple; position: items begun */
    FPK_FRAME_DICT,     /* object: dict; aux: the key being written */
    FPK_FRAME_SET,      /* object: set or frozenset */
    FPK_FRAME_ITEMS,    /* object: iterator of list items; position: items */
    FPK_FRAME_PAIRS,    /* object: iterator of (key, value); aux: the pair */
    FPK_FRAME_REDUCE,   /* object: what is reduced; aux: the reduce tuple */
    FPK_FRAME_INSTANCE, /* object: a plain instance */
    FPK_FRAME_PERSID,   /* object: what persistent_id answered for */
    FPK_FRAME_BYVALUE,  /* object: what travels by value; owned by byvalue */
};

struct fpk_frame {
    fpk_advance advance;
    PyObject *object;    /* owned, never NULL */
    PyObject *aux;       /* owned or NULL; meaning depends on the kind */
    Py_ssize_t position; /* progress inside the object */
    Py_ssize_t size;     /* items, where the kind has a fixed number */
    uint64_t slot;       /* private to the kind */
    uint8_t kind;        /* enum fpk_frame_kind */
    uint8_t step;        /* private to the kind */
    bool shared;         /* the object needs its memo entry */
    bool late;           /* counted in late_open */
};

/* When an object needs no memo entry.  An object with one counted reference
   can be reached by one edge only, so nothing would ever fetch the entry.
   The one trap: below a tuple, frozenset or reduction that is still open and
   is memoised only when complete, a cycle back to it must meet an entry of
   something in between. */
enum fpk_memo_policy {
    FPK_MEMO_ALL,     /* Pickler objects: their memo is public */
    FPK_MEMO_CAREFUL, /* leave out the unshared, except below an open late
                         object */
    FPK_MEMO_MARKED,  /* leave out the unshared; meeting a late object that
                         is open restarts the dump with FPK_MEMO_ALL
                         (in-memory dumps only) */
};

/* Entries with an index from here on are of late objects that are open:
   FPK_MEMO_OPEN + how often the object was met again meanwhile.  Twice is what
   a cycle through something memoised takes; more than the limit never ends,
   because each reduction makes what leads back anew. */
#define FPK_MOST_REENTRIES 50
#define FPK_MEMO_OPEN (UINT64_MAX - FPK_MOST_REENTRIES - 1)

/* What becomes of open files and of locks. */
enum fpk_files { FPK_FILES_ERROR, FPK_FILES_REOPEN, FPK_FILES_CONTENTS };
enum fpk_locks { FPK_LOCKS_ERROR, FPK_LOCKS_RECREATE };

#define FPK_INLINE_FRAMES 8
#define FPK_INLINE_BYTES 512

struct fpk_encoder {
    fpk_state *state;
    fpk_buffer out;
    size_t frame_start;  /* offset of the open frame's header in out, or
                           FPK_NO_FRAME */
    size_t frame_limit;  /* length of out at which the frame is closed */
    fpk_memo memo;       /* owns one reference to each key */
    uint64_t next_index; /* the index that MEMOIZE would use now */
    fpk_frame *frames;   /* the stack; the top is frames[depth - 1] */
    size_t depth;
    size_t frame_capacity;
    size_t reductions; /* REDUCE frames on the stack */
    size_t late_open;  /* open late objects (FPK_MEMO_CAREFUL) */

    int protocol; /* 0..5 */
    bool fix_imports;
    bool by_value;  /* functions and classes that the receiver cannot import
                      travel inside the stream */
    bool isolated;  /* streams share nothing at the receiver but the identity
                      of classes */
    bool portable;  /* with its source, for other versions of Python */
    bool source;    /* with its source, for tracebacks and inspect */
    bool fast;      /* no memo at all */
    bool deterministic; /* equal graphs give equal bytes */
    bool restart;   /* a cycle through an open late object was met */
    uint8_t policy; /* enum fpk_memo_policy */
    uint8_t files;  /* enum fpk_files */
    uint8_t locks;  /* enum fpk_locks */

    /* All owned or NULL. */
    PyObject *write; /* file.write; NULL: in memory */
    PyObject *buffer_callback;
    PyObject *persistent_id;    /* bound method, when overridden */
    PyObject *reducer_override; /* bound method, when defined */
    PyObject *dispatch_table;   /* the Pickler's private table */
    PyObject *buffer_answers;   /* what buffer_callback said so far: a list
                                   of bools, kept for a restart */
    PyObject *main_names;       /* names of __main__ that the receiver can
                                   import: a set or frozenset, or NULL */
    PyObject *replaced_globals; /* what travels instead of globals: a dict of
                                   dicts, or NULL */

    PyObject *by_value_modules; /* which modules travel by value in this dump,
                                   a dict of the byvalue room, or NULL */

    PyObject *equal_texts; /* str -> the equal one that was met first: which
                              texts are one object differs from process to
                              process. A dict that the byvalue room makes in an
                              isolated stream, or NULL */

    PyObject *culprit; /* the object that could not be written */

    void *survey; /* of the explain room while it looks on, else NULL */
    size_t object_start; /* offset in out of the last compound object begun */

    Py_ssize_t buffers_met;   /* buffers that buffer_callback decides on */
    Py_ssize_t bytes_beside;  /* bytes and bytearrays as long go there, too */
    PyObject *cycle_probe;    /* borrowed from a frame; fast mode only */
    size_t cycle_probe_depth; /* depth of its frame */

    fpk_canonical *canonical; /* what the first pass of a deterministic dump
                                 knows; NULL otherwise */

    void *byvalue; /* context of the byvalue room, NULL until it needs one */

    fpk_frame inline_frames[FPK_INLINE_FRAMES];
    fpk_memo_entry inline_slots[FPK_MEMO_FIRST_SLOTS];
    uint8_t inline_bytes[FPK_INLINE_BYTES];
};

#define FPK_NO_FRAME SIZE_MAX

/* How the driver reaches the byvalue room. */
struct fpk_byvalue_table {
    /* A function or a class (instance of type) was met and nothing else
       claimed it: write it, by value or with fpk_save_global. */
    int (*save_function)(fpk_encoder *e, PyObject *obj);
    int (*save_class)(fpk_encoder *e, PyObject *obj);
    /* Index of the handler for exactly [type], or -1: a probe of a pointer
       table, no Python call. */
    int (*find_handler)(fpk_encoder *e, PyTypeObject *type);
    int (*save_handled)(fpk_encoder *e, PyObject *obj, int handler);
    /* Another reduction of [obj], whose own is a name that does not lead to
       it; NULL, perhaps with an exception, if there is none. */
    PyObject *(*reduce_unnamed)(fpk_encoder *e, PyObject *obj);
    /* The reduction of a tuple of a type of its own, given the one that object
       made, which is stolen. */
    PyObject *(*reduce_tuple)(fpk_encoder *e, PyObject *obj, PyObject *value);
    /* Checks what by_value names and returns it in a form for
       by_value_modules: a new reference, or NULL with an exception. */
    PyObject *(*parse_modules)(fpk_state *state, PyObject *value);
    /* A dump begins, as opposed to a Pickler object: what must stand once in
       each stream is due again. */
    void (*begin_stream)(fpk_encoder *e);
    /* The top frame is dropped without its end, after an error. */
    void (*abandon_frame)(fpk_encoder *e);
    /* Forgets the context: the memo was cleared or the encoder ends. */
    void (*clear)(fpk_encoder *e);
};

/* True while the explain room looks on.  A build with FPK_WITHOUT_EXPLAIN has
   nothing of that in the way of a dump: it shows what the rest costs. */
#ifdef FPK_WITHOUT_EXPLAIN
#define FPK_IS_SURVEYED(e) false
#define FPK_NOTE_START(e) (void)0
#else
#define FPK_IS_SURVEYED(e) FPK_UNLIKELY((e)->survey != NULL)
#define FPK_NOTE_START(e) ((e)->object_start = (e)->out.length)
#endif

/* How the driver reaches the explain room.  All but the first are called only
   while e->survey is set. */
struct fpk_survey_table {
    /* Walks [root] as a dump would, without a stream: a new reference to a
       dict that describes the dump. */
    PyObject *(*survey)(fpk_encoder *e, PyObject *root);
    /* [obj] could not be written, an exception is set: FPK_DONE if something
       else was written in its place, else FPK_ERROR. */
    int (*forgive_object)(fpk_encoder *e, PyObject *obj);
    /* [size] bytes follow, with their opcode, for [owner], which may be NULL:
       1 if they are not to be written, 0, or -1. */
    int (*count_payload)(fpk_encoder *e, size_t size, PyObject *owner,
                         bool large);
    /* [obj] is met while it is being made: as fpk_emit_get_if_saved. */
    int (*meet_open_object)(fpk_encoder *e, PyObject *obj);
    /* [obj] goes by name, or by a writer for its type: 0 or -1. */
    int (*note_way)(fpk_encoder *e, PyObject *obj, int way);
};

enum { FPK_WENT_BY_NAME, FPK_WENT_BY_VALUE, FPK_WENT_BY_TYPE };

/* An endless chain of reductions ends here.  It leaves room for a million
   objects that are linked one by one. */
#define FPK_MAX_REDUCTIONS 1500000

/* ---- encoder.c: life cycle ---------------------------------------------- */

/* [e] may be uninitialised memory; it holds inline storage and must not be
   copied or moved afterwards. */
void fpk_encoder_init(fpk_encoder *e, fpk_state *state);
void fpk_encoder_fini(fpk_encoder *e);

/* Forgets which objects were written. */
void fpk_encoder_clear_memo(fpk_encoder *e);

/* Checks [protocol] as the standard module does: None is the default, negative
   the highest.  ValueError if it is unknown, or too old for out-of-band
   [buffer_callback]. */
int fpk_encoder_set_protocol(fpk_encoder *e, PyObject *protocol,
                             int fix_imports, PyObject *buffer_callback);

/* Writes one complete pickle of [root], PROTO .. STOP: to [write] if it is
   set, else into [out].  On error the output is dropped and the memo keeps
   only what earlier dumps wrote. */
int fpk_encoder_dump(fpk_encoder *e, PyObject *root);

/* The same in one pass, whatever deterministic says; write does not undo
   anything on error either. */
int fpk_encoder_dump_once(fpk_encoder *e, PyObject *root);
int fpk_encoder_write(fpk_encoder *e, PyObject *root);

/* The complete pickle in [out] as bytes, without a copy unless it is short. */
PyObject *fpk_encoder_take_output(fpk_encoder *e);

/* ---- driver.c: the stack and the dispatch ------------------------------- */

/* Writes [obj], reached by the one reference that its container holds. */
int fpk_save(fpk_encoder *e, PyObject *obj);

/* The same without asking persistent_id; for the persistent id itself. */
int fpk_save_without_persid(fpk_encoder *e, PyObject *obj);

/* Writes [obj] as if others referred to it too. */
int fpk_save_shared(fpk_encoder *e, PyObject *obj);

/* Pushes a frame that owns [object] (taken as a new reference) and [aux]
   (stolen, also on error; may be NULL).  The frame starts zeroed; NULL with an
   exception when out of memory. */
fpk_frame *fpk_push_frame(fpk_encoder *e, uint8_t kind, fpk_advance advance,
                          PyObject *object, PyObject *aux);

static inline fpk_frame *
fpk_top_frame(fpk_encoder *e)
{
    return &e->frames[e->depth - 1];
}

/* Raises RecursionError when objects nest deeper than anything that ends. */
int fpk_count_reduction(fpk_encoder *e);

/* Bookkeeping for an object that is memoised only when its parts are written
   (tuple, frozenset, reduction).  open: call when its frame is on top; close:
   call when the parts are written, before the opcode that builds it.  close
   returns 1 if a cycle has stored the object meanwhile. */
int fpk_open_late(fpk_encoder *e);
int fpk_close_late(fpk_encoder *e);

/* ---- emit.c: opcodes and the memo --------------------------------------- */

/* Room for [n] more bytes; false with MemoryError. */
bool fpk_reserve_slow(fpk_encoder *e, size_t n);

static inline bool
fpk_reserve(fpk_encoder *e, size_t n)
{
    return FPK_LIKELY(e->out.capacity - e->out.length >= n) ||
           fpk_reserve_slow(e, n);
}

/* The put_ functions need reserved room; the emit_ functions reserve it. */
static inline void
fpk_put_byte(fpk_encoder *e, uint8_t byte)
{
    e->out.data[e->out.length++] = byte;
}

static inline void
fpk_put_bytes(fpk_encoder *e, const void *bytes, size_t n)
{
    memcpy(e->out.data + e->out.length, bytes, n);
    e->out.length += n;
}

static inline int
fpk_emit_op(fpk_encoder *e, enum fpk_opcode op)
{
    if (!fpk_reserve(e, 1)) {
        return FPK_ERROR;
    }
    fpk_put_byte(e, (uint8_t)op);
    return FPK_DONE;
}

/* Called between two elements: closes a frame that is full. */
int fpk_end_frame(fpk_encoder *e);

static inline int
fpk_element_boundary(fpk_encoder *e)
{
    return FPK_LIKELY(e->out.length < e->frame_limit) ? FPK_DONE
                                                      : fpk_end_frame(e);
}

/* A stream begins (PROTO and the first frame) and ends (STOP). */
int fpk_begin_output(fpk_encoder *e);
int fpk_end_output(fpk_encoder *e);

/* [header_size] bytes of opcode and length, then the payload.  A large payload
   travels outside frames, and straight to the file: as [owner], the bytes or
   buffer object that holds [data], or as a copy if [owner] is NULL or a
   str. */
int fpk_emit_payload(fpk_encoder *e, const uint8_t *header, size_t header_size,
                     const char *data, Py_ssize_t size, PyObject *owner);

/* [n] raw bytes of opcodes. */
int fpk_emit_raw(fpk_encoder *e, const void *bytes, size_t n);

/* A str that is written where it stands and gets no memo entry: a C literal
   in ASCII, shorter than 256 bytes. */
int fpk_emit_str(fpk_encoder *e, const char *ascii);

/* Bytes without a memo entry, at any protocol and size. */
int fpk_emit_bytes(fpk_encoder *e, const char *data, Py_ssize_t size);

/* A non-negative int. */
int fpk_emit_uint(fpk_encoder *e, uint32_t value);

/* TUPLE1..TUPLE3 for [n] items on the stack.  n is 1, 2 or 3.  Below protocol
   2 a MARK must stand under them: see fpk_emit_tuple_mark. */
int fpk_emit_tuple(fpk_encoder *e, int n);

/* Writes MARK where fpk_emit_tuple of 1..3 items will need it. */
int fpk_emit_tuple_mark(fpk_encoder *e);

/* The stack top becomes the memo entry of [obj]; the memo takes a reference.
   In fast mode nothing happens. */
int fpk_memoize(fpk_encoder *e, PyObject *obj);

/* The stack top gets a memo entry that no object is looked up by; returns its
   index through [index]. */
int fpk_memoize_anonymous(fpk_encoder *e, uint64_t *index);

/* 1 if [obj] was written before and a GET for it now stands in the stream, 0
   if not, -1 on error. */
int fpk_emit_get_if_saved(fpk_encoder *e, PyObject *obj);

/* GET for an index of this stream. */
int fpk_emit_get(fpk_encoder *e, uint64_t index);

/* True if a memo entry for [obj] could be fetched later: the policy and the
   reference count decide. */
static inline bool
fpk_needs_memo(const fpk_encoder *e, PyObject *obj)
{
    return e->policy == FPK_MEMO_ALL || e->late_open > 0 ||
           !fpk_is_unshared(obj);
}

/* ---- atoms.c: what has no parts ----------------------------------------- */

/* 1 if [obj] was an atom and is written, 0 if it is none, -1 on error: None,
   bool, int, float, str, bytes of exactly these types; but bytes only if
   fpk_bytes_are_atom. */
int fpk_save_atom(fpk_encoder *e, PyObject *obj, bool shared);

/* Other bytes are called for: in Python 2, which has none, or to be made of a
   buffer that is not in the stream. */
static inline bool
fpk_bytes_are_atom(const fpk_encoder *e, PyObject *bytes)
{
    return e->protocol >= 3 && PyBytes_GET_SIZE(bytes) < e->bytes_beside;
}

/* Python 2 has no bytes: protocols 0 to 2 call a function that makes them.
   Returns the reduction of [obj], a new reference. */
PyObject *fpk_reduce_bytes(fpk_encoder *e, PyObject *obj);

/* A str without memo entry, at any protocol. */
int fpk_emit_unicode(fpk_encoder *e, PyObject *str);

/* ---- containers.c ------------------------------------------------------- */

/* [shared] says whether the object needs its memo entry. */
int fpk_save_list(fpk_encoder *e, PyObject *obj, bool shared);
int fpk_save_dict(fpk_encoder *e, PyObject *obj, bool shared);
int fpk_save_tuple(fpk_encoder *e, PyObject *obj, bool shared);
int fpk_save_set(fpk_encoder *e, PyObject *obj, bool shared);
int fpk_save_frozenset(fpk_encoder *e, PyObject *obj, bool shared);

/* The items of [tuple] from [first] on as a tuple of its own, which gets no
   memo entry. */
int fpk_save_tuple_tail(fpk_encoder *e, PyObject *tuple, Py_ssize_t first);

/* What an iterator yields, appended to the list, or stored in the dict, that
   is on top of the stack.  [iterator] is borrowed. */
int fpk_save_items(fpk_encoder *e, PyObject *iterator);
int fpk_save_pairs(fpk_encoder *e, PyObject *iterator);

/* ---- canonical.c: deterministic dumps ----------------------------------- */

/* As fpk_encoder_dump, with bytes that depend on nothing but the graph. */
int fpk_canonical_dump(fpk_encoder *e, PyObject *root);

/* A digest of the same, in which classes have no identity beyond their
   content: a new bytes object. */
PyObject *fpk_canonical_fingerprint(fpk_encoder *e, PyObject *root);

/* The rest only while e->canonical is set.

   The items of a set, or of what is as unordered, in order: a new list. */
PyObject *fpk_canonical_items(fpk_encoder *e, PyObject *unordered);

/* 1 if an equal str or bytes object was written and a GET for it now stands in
   the stream, 0 if [atom] is the first of its value, -1 on error. */
int fpk_canonical_get_atom(fpk_encoder *e, PyObject *atom);

/* The items of [obj], a tuple or frozenset, have been written from offset
   [start] on.  1 if an equal one was written before: a GET stands there
   instead; 0 if [obj] is the first, and gets the next index; -1 on error. */
int fpk_canonical_merge(fpk_encoder *e, PyObject *obj, size_t start);

/* What a subclass of set reduces to lists its items in any order: the same in
   order.  [value] is stolen; NULL on error. */
PyObject *fpk_canonical_reduction(fpk_encoder *e, PyObject *value);

/* A digest of what [obj] is made of, a new bytes object; NULL without
   exception in passes that only look at content. */
PyObject *fpk_canonical_content(fpk_encoder *e, PyObject *obj);

/* ---- prune.c ------------------------------------------------------------ */

/* Writes [pickle], which has [entries] memo entries, without those that
   nothing fetches, into [e], which is fresh. */
int fpk_prune(fpk_encoder *e, PyObject *pickle, uint64_t entries);

/* ---- buffers.c ---------------------------------------------------------- */

int fpk_save_bytearray(fpk_encoder *e, PyObject *obj, bool shared);
int fpk_save_buffer(fpk_encoder *e, PyObject *obj, bool shared);

/* A bytes object or bytearray that is not in the stream: a call of its type
   with a buffer. */
int fpk_emit_beside(fpk_encoder *e, PyObject *obj, bool shared);

/* ---- globals.c ---------------------------------------------------------- */

/* Writes a reference by name, as the standard module does: by [name] if it is
   not NULL, else by the object's own __qualname__; PicklingError if the name
   does not lead to the object. */
int fpk_save_global(fpk_encoder *e, PyObject *obj, PyObject *name);

/* Writes [module].[qualname], checked by nobody, memoised for [obj] if that is
   not NULL: for objects of the standard library that cannot be found under
   their own name, or that this process may not have.  [module] is an interned
   str, which other names of the module share; [qualname] may be dotted at any
   protocol. */
int fpk_save_global_as(fpk_encoder *e, PyObject *obj, PyObject *module,
                       const char *qualname);

/* A class: the types of the three singletons by their singleton, all others by
   the rules of the byvalue room. */
int fpk_save_type(fpk_encoder *e, PyObject *obj);

/* The module that [obj] says or is found to live in: a new reference to a str,
   NULL on error. */
PyObject *fpk_whichmodule(fpk_encoder *e, PyObject *obj, PyObject *qualname);

/* The name of an imported module in whose dict [qualname] begins and leads to
   [obj], the main module apart: a new reference; NULL without an exception if
   there is none. */
PyObject *fpk_find_home(fpk_encoder *e, PyObject *obj, PyObject *qualname);

/* 1 if module.qualname can be imported here and is [obj], 0 if not (no
   exception is left), -1 on an error that is not a failed look-up. */
int fpk_resolves_to(fpk_encoder *e, PyObject *obj, PyObject *module_name,
                    PyObject *qualname);

/* ---- reduce.c ----------------------------------------------------------- */

/* Writes what a reduction describes: [value] is the str or tuple that
   __reduce__ or a reducer returned for [obj] (stolen, also on error). */
int fpk_save_reduce(fpk_encoder *e, PyObject *obj, PyObject *value);

/* The same where the caller knows whether [obj], which may be NULL, needs its
   memo entry. */
int fpk_save_reduced(fpk_encoder *e, PyObject *obj, PyObject *value,
                     bool shared);

/* ---- instances.c -------------------------------------------------------- */

/* Writes a plain instance; FPK_NO_PLAN, with nothing written, if its class is
   not known to be one. */
enum { FPK_NO_PLAN = 2 };
int fpk_save_instance(fpk_encoder *e, PyObject *obj, bool shared);

/* Tells that __reduce_ex__ of an instance of [type] returned [value]; 0 or
   -1. */
int fpk_learn_instance(fpk_encoder *e, PyTypeObject *type, PyObject *value);

/* ---- dates.c ------------------------------------------------------------ */

enum fpk_date_kind {
    FPK_DATETIME,
    FPK_DATE,
    FPK_TIME,
    FPK_TIMEDELTA,
    FPK_NO_DATE,
};

/* What [type] is of the classes of the datetime module; never fails. */
enum fpk_date_kind fpk_find_date_kind(fpk_state *state, PyTypeObject *type);

/* True if the fields of [obj] are numbers only, and the protocol has opcodes
   for them. */
bool fpk_has_plain_date_fields(const fpk_encoder *e, PyObject *obj,
                               enum fpk_date_kind kind);

/* Writes the tuple that the class is called with to make [obj]. */
int fpk_emit_date_fields(fpk_encoder *e, PyObject *obj,
                         enum fpk_date_kind kind);

/* ---- reduce.c, the end of the dispatch ---------------------------------- */

/* Writes [obj], which is none of the built-in kinds, by the first of the
   private dispatch table, copyreg, the byvalue room and __reduce_ex__ that
   knows it. */
int fpk_save_object(fpk_encoder *e, PyObject *obj, bool shared);

/* ---- pickler.c, dump.c: the Python face --------------------------------- */

int fpk_pickler_init_types(PyObject *module, fpk_state *state);

#endif
