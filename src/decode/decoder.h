/* decoder.h -- the decoder: opcodes in, object graph out.

   A loop over opcodes (loop.c) works on a stack of objects, a stack of marks
   and a memo; nothing here recurses over the data.  Every load_x returns 0, or
   -1 with an exception set.  What is popped from the stack is owned by whoever
   popped it, across every call into Python.

   Used by: decode only. */
#ifndef FPK_DECODE_DECODER_H
#define FPK_DECODE_DECODER_H

#include "state.h"
#include "wire/opcodes.h"

#define FPK_INLINE_STACK 48
#define FPK_INLINE_MEMO 32
#define FPK_INLINE_MARKS 16

typedef struct fpk_guard fpk_guard;
typedef struct fpk_skipped fpk_skipped;

typedef struct {
    fpk_state *state;

    /* The window of input: bytes from start to end are in memory, p is the
       next.  [base] is the offset of start in the whole stream. */
    const uint8_t *p;
    const uint8_t *end;
    const uint8_t *start;
    const uint8_t *behind_frame; /* NULL, or the real end of the window: a
                                    frame is open, and ends where end is */
    uint64_t base;
    const uint8_t *op_at; /* the opcode being executed; NULL if the window has
                             changed since, then: */
    uint64_t op_offset;   /* its offset in the stream */
    uint8_t op;           /* the opcode; 0 before the first */
    PyObject *window;     /* owned: what the window lies in; file input */
    bool peeked;          /* the window was only peeked at: the file has not
                             moved */

    /* Of the file; owned, NULL for input in memory. */
    PyObject *read;
    PyObject *readline;
    PyObject *peek; /* may be NULL for files too */

    /* The stack: owned references from stack to sp. */
    PyObject **stack;
    PyObject **sp;
    PyObject **stack_end;
    PyObject **fence; /* items below the topmost mark are out of reach */
    size_t *marks;    /* heights, as offsets into the stack */
    size_t mark_count;
    size_t mark_capacity;

    /* The memo: owned references, NULL where nothing was put.  Indices far
       beyond the entries go to a dict, so that a huge one costs nothing. */
    PyObject **memo;
    size_t memo_size;
    size_t memo_count; /* entries: the index that MEMOIZE uses next */
    PyObject *sparse_memo;

    int protocol;
    bool fix_imports;
    bool strings_as_bytes;     /* encoding="bytes" */
    const char *encoding;      /* UTF-8 of encoding_object */
    const char *errors;        /* UTF-8 of errors_object */
    PyObject *encoding_object; /* owned or NULL */
    PyObject *errors_object;   /* owned or NULL */
    PyObject *buffers;         /* owned or NULL: out-of-band data, iterator */
    PyObject *find_class;      /* owned: bound method when overridden */
    PyObject *persistent_load; /* owned: bound method when overridden */

    fpk_guard *guard; /* owned; NULL without limits */

    /* Of skip.c. */
    fpk_skipped *skipped;  /* parts that were skipped, the last one first */
    bool executes_skipped; /* one of these is being executed */
    PyObject *known_class; /* owned or NULL: the class that the stream has just
                              asked for and found */
    PyObject *known_id;    /* owned or NULL: its id */

    PyObject *failed; /* owned or NULL: what failed, for the notes of the
                         error: (callable, arguments), (module, name) as texts,
                         or (None, object) for the state of an object */

    PyObject *inline_stack[FPK_INLINE_STACK];
    PyObject *inline_memo[FPK_INLINE_MEMO];
    size_t inline_marks[FPK_INLINE_MARKS];
} fpk_decoder;

/* ---- decoder.c: life cycle, stacks, memo, errors ------------------------ */

void fpk_decoder_init(fpk_decoder *d, fpk_state *state);
void fpk_decoder_fini(fpk_decoder *d);

/* As the keyword arguments of load; NULL where not given, for the default. */
int fpk_decoder_set_options(fpk_decoder *d, PyObject *fix_imports,
                            PyObject *encoding, PyObject *errors,
                            PyObject *buffers);

void fpk_decoder_clear_memo(fpk_decoder *d);
void fpk_decoder_clear_stack(fpk_decoder *d);

/* The opcode being executed and its offset, as words: a new reference. */
PyObject *fpk_describe_place(fpk_decoder *d);

/* Sets [type] with the message and where in the stream it happened; -1. */
int fpk_decode_error(fpk_decoder *d, PyObject *type, const char *format, ...);

/* Passes [text], what a codec made of bytes of the stream, through.  If it is
   NULL because they are not in the encoding, the UnicodeDecodeError becomes an
   UnpicklingError too, and says where. */
PyObject *fpk_decoded(fpk_decoder *d, PyObject *text);

/* Keeps what failed for the notes of the exception that is set; returns -1. */
int fpk_note_failure(fpk_decoder *d, PyObject *first, PyObject *second);

/* Input ends inside an opcode or before STOP, or an opcode goes beyond its
   frame; -1. */
int fpk_truncated(fpk_decoder *d);

/* The stack is too short, or a mark stands in the way; -1. */
int fpk_underflow(fpk_decoder *d);

int fpk_grow_stack(fpk_decoder *d);

/* Steals [obj], also on error; NULL is passed through as an error. */
static FPK_ALWAYS_INLINE int
fpk_push(fpk_decoder *d, PyObject *obj)
{
    if (FPK_UNLIKELY(obj == NULL)) {
        return -1;
    }
    if (FPK_UNLIKELY(d->sp == d->stack_end) && fpk_grow_stack(d) < 0) {
        Py_DECREF(obj);
        return -1;
    }
    *d->sp++ = obj;
    return 0;
}

/* The number of items that opcodes can reach. */
static inline Py_ssize_t
fpk_height(const fpk_decoder *d)
{
    return d->sp - d->fence;
}

/* The caller owns the result; NULL with an exception if there is none. */
static inline PyObject *
fpk_pop(fpk_decoder *d)
{
    if (FPK_UNLIKELY(d->sp <= d->fence)) {
        (void)fpk_underflow(d);
        return NULL;
    }
    return *--d->sp;
}

int fpk_push_mark(fpk_decoder *d);

/* Takes the topmost mark away; the items above it are from *[items] to d->sp.
   -1 if there is none. */
int fpk_pop_mark(fpk_decoder *d, PyObject ***items);

/* Releases the items from [items] to the top. */
void fpk_drop_items(fpk_decoder *d, PyObject **items);

/* Memo entry [index] becomes [obj], borrowed. */
int fpk_memo_put(fpk_decoder *d, uint64_t index, PyObject *obj);

/* Borrowed; NULL with UnpicklingError. */
PyObject *fpk_memo_get(fpk_decoder *d, uint64_t index);

/* ---- reader.c: input ---------------------------------------------------- */

int fpk_read_from_memory(fpk_decoder *d, const void *data, Py_ssize_t size);
int fpk_read_from_file(fpk_decoder *d, PyObject *file);

/* Makes [n] bytes available at p, or fails. */
int fpk_need_slow(fpk_decoder *d, size_t n);

static FPK_ALWAYS_INLINE int
fpk_need(fpk_decoder *d, size_t n)
{
    return FPK_LIKELY((size_t)(d->end - d->p) >= n) ? 0 : fpk_need_slow(d, n);
}

/* 1 if there is another byte, 0 at the end of input, -1 on error. */
int fpk_has_input(fpk_decoder *d);

/* A line with its newline: *[line] of *[size] bytes stays valid until the
   next read. */
int fpk_read_line(fpk_decoder *d, const char **line, Py_ssize_t *size);

/* [size] bytes as a new bytes or bytearray object; memory grows with what has
   arrived, not with what was claimed. */
PyObject *fpk_read_bytes(fpk_decoder *d, uint64_t size);
PyObject *fpk_read_bytearray(fpk_decoder *d, uint64_t size);

/* A frame of [size] bytes begins here.  Opcodes must not go beyond it. */
int fpk_begin_frame(fpk_decoder *d, uint64_t size);

/* The file is moved behind what was consumed; the window is dropped. */
int fpk_end_input(fpk_decoder *d);

/* ---- the opcodes, a family a file --------------------------------------- */

/* atoms.c */
int fpk_load_int(fpk_decoder *d);
int fpk_load_long(fpk_decoder *d);
int fpk_load_counted_long(fpk_decoder *d, uint32_t size);
int fpk_load_float(fpk_decoder *d);
int fpk_load_string(fpk_decoder *d);
int fpk_load_counted_string(fpk_decoder *d, uint32_t size);
int fpk_load_unicode(fpk_decoder *d);
int fpk_load_counted_unicode(fpk_decoder *d, uint64_t size);
int fpk_load_bytes(fpk_decoder *d, uint64_t size);
int fpk_load_bytearray(fpk_decoder *d, uint64_t size);

/* containers.c */
int fpk_load_tuple(fpk_decoder *d, Py_ssize_t size);
int fpk_load_marked_tuple(fpk_decoder *d);
int fpk_load_list(fpk_decoder *d);
int fpk_load_dict(fpk_decoder *d);
int fpk_load_frozenset(fpk_decoder *d);
int fpk_load_append(fpk_decoder *d);
int fpk_load_appends(fpk_decoder *d);
int fpk_load_setitem(fpk_decoder *d);
int fpk_load_setitems(fpk_decoder *d);
int fpk_load_additems(fpk_decoder *d);

/* keys.c */

/* 0 if [key], a tuple, can be hashed safely; else -1 with UnpicklingError. */
int fpk_check_tuple_key(fpk_decoder *d, PyObject *key);

static FPK_ALWAYS_INLINE int
fpk_check_key(fpk_decoder *d, PyObject *key)
{
    return FPK_UNLIKELY(PyTuple_Check(key)) ? fpk_check_tuple_key(d, key) : 0;
}

/* memo.c */
int fpk_load_get(fpk_decoder *d);
int fpk_load_put(fpk_decoder *d);

/* globals.c */

/* Looks the class up in the module itself: what Unpickler.find_class does. */
PyObject *fpk_find_class_directly(fpk_decoder *d, PyObject *module,
                                  PyObject *name);

/* Asks an overridden find_class, or looks the class up. */
PyObject *fpk_find_class(fpk_decoder *d, PyObject *module, PyObject *name);
int fpk_load_global(fpk_decoder *d);
int fpk_load_stack_global(fpk_decoder *d);
int fpk_load_ext(fpk_decoder *d, long code);
int fpk_load_persid(fpk_decoder *d);
int fpk_load_binpersid(fpk_decoder *d);

/* Two lines, module and name, as the class they name: a new reference. */
PyObject *fpk_load_class_lines(fpk_decoder *d);

/* calls.c */

/* callable(*args), which is a tuple: a new reference, or NULL. */
PyObject *fpk_call(fpk_decoder *d, PyObject *callable, PyObject *args);
int fpk_init_known_calls(fpk_state *state);

/* At a str as long as the name of the guard's module: 1 if a guard that this
   Python passes stands here, and was passed; 0 if not, -1 on error. */
int fpk_pass_guard(fpk_decoder *d);

/* True for the setdefault of a weak dict of classes. */
bool fpk_is_registry_setdefault(const fpk_decoder *d, PyObject *obj);

/* skip.c */

/* Nobody but the stream sees what is done, and its bytes stay where they
   are. */
static inline bool
fpk_may_skip(const fpk_decoder *d)
{
    return d->read == NULL && d->guard == NULL && d->find_class == NULL &&
           d->persistent_load == NULL && !d->executes_skipped;
}

/* The stream has found that known_class is here, which is said on the stack:
   skips the definition, if it is one. */
int fpk_skip_known_class(fpk_decoder *d);

/* Makes the memo entry [index] if it was skipped. */
int fpk_fetch_skipped(fpk_decoder *d, uint64_t index);

void fpk_forget_skipped(fpk_decoder *d);

/* loop.c: executes the opcodes of the window, of which none is STOP. */
int fpk_execute_to_end(fpk_decoder *d);

/* globals.c */

/* The imported module called [name], if its import is complete: a new
   reference, or NULL, perhaps without exception. */
PyObject *fpk_find_ready_module(fpk_decoder *d, PyObject *name);

/* objects.c */
int fpk_load_reduce(fpk_decoder *d);
int fpk_load_newobj(fpk_decoder *d, bool with_keywords);
int fpk_load_inst(fpk_decoder *d);
int fpk_load_obj(fpk_decoder *d);

/* build.c */
int fpk_load_build(fpk_decoder *d);

/* The names and values from [items] on would go into a new dict below them,
   and that by the next opcodes, BUILD or TUPLE2 and BUILD, into the object
   below: 1 if they are the object's attributes now and these opcodes are done,
   0 if the object has a say in it, -1 on error. */
int fpk_build_from_items(fpk_decoder *d, PyObject **items);

/* buffers.c */
int fpk_load_buffer(fpk_decoder *d);
int fpk_load_readonly_buffer(fpk_decoder *d);

/* As PyBytes_FromStringAndSize and PyByteArray_FromStringAndSize. */
PyObject *fpk_copy_bytes(const void *data, Py_ssize_t size);
PyObject *fpk_copy_bytearray(const void *data, Py_ssize_t size);

/* The result of [type](source), where [type] is bytes or bytearray: a new
   reference; or NULL, without an exception if that is not for us. */
PyObject *fpk_copy_buffer(PyObject *type, PyObject *source);

/* ---- loop.c ------------------------------------------------------------- */

/* Executes one pickle up to STOP: a new reference, or NULL.  The stack is
   empty afterwards. */
PyObject *fpk_decoder_load(fpk_decoder *d);

/* ---- unpickler.c -------------------------------------------------------- */

int fpk_unpickler_init_types(PyObject *module, fpk_state *state);

#endif
