/* loop.c -- the machine that executes a pickle.

   Does:      reads one opcode after the other up to STOP.  What is frequent
              and short is done here, the rest in the file of its family.
   Owns:      nothing.
   Invariant: between two opcodes the decoder is consistent, so that any error
              can end the loop at once; the loop never recurses.
   Called by: load.c, unpickler.c. */
#include "base/bytes.h"
#include "decode/limits.h"
#include "wire/known.h"

/* ---- atoms that are built on the spot ----------------------------------- */

/* True if none of the [size] bytes is above 127. */
static inline bool
is_ascii(const uint8_t *p, size_t size)
{
    uint64_t seen = 0;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        seen |= word;
    }
    for (; i < size; i++) {
        seen |= (uint64_t)p[i] << 56 | p[i];
    }
    return (seen & 0x8080808080808080u) == 0;
}

/* A str of [size] bytes of UTF-8 that are in the window. */
static FPK_ALWAYS_INLINE int
load_str(fpk_decoder *d, size_t size)
{
    const uint8_t *p = d->p;
    if (size < 2 || !is_ascii(p, size)) {
        /* One character strings are shared by the interpreter. */
        return fpk_load_counted_unicode(d, size);
    }
    PyObject *str = PyUnicode_New((Py_ssize_t)size, 127);
    if (str == NULL) {
        return -1;
    }
    memcpy(PyUnicode_1BYTE_DATA(str), p, size);
    d->p = p + size;
    return fpk_push(d, str);
}

static FPK_ALWAYS_INLINE int
load_none(fpk_decoder *d)
{
    return fpk_push(d, Py_NewRef(Py_None));
}

static FPK_ALWAYS_INLINE int
load_bool(fpk_decoder *d, bool value)
{
    return fpk_push(d, Py_NewRef(value ? Py_True : Py_False));
}

static FPK_ALWAYS_INLINE int
load_binfloat(fpk_decoder *d)
{
    if (fpk_need(d, 8) < 0) {
        return -1;
    }
    double value = fpk_load_double(d->p);
    d->p += 8;
    return fpk_push(d, PyFloat_FromDouble(value));
}

static FPK_ALWAYS_INLINE int
load_binint(fpk_decoder *d)
{
    if (fpk_need(d, 4) < 0) {
        return -1;
    }
    int32_t value = (int32_t)fpk_load_le32(d->p);
    d->p += 4;
    return fpk_push(d, PyLong_FromLong(value));
}

static FPK_ALWAYS_INLINE int
load_set(fpk_decoder *d)
{
    return fpk_push(d, PySet_New(NULL));
}

/* ---- arguments ---------------------------------------------------------- */

static FPK_ALWAYS_INLINE int
read_le8(fpk_decoder *d, uint32_t *value)
{
    if (fpk_need(d, 1) < 0) {
        return -1;
    }
    *value = *d->p++;
    return 0;
}

static FPK_ALWAYS_INLINE int
read_le16(fpk_decoder *d, uint32_t *value)
{
    if (fpk_need(d, 2) < 0) {
        return -1;
    }
    *value = fpk_load_le16(d->p);
    d->p += 2;
    return 0;
}

static FPK_ALWAYS_INLINE int
read_le32(fpk_decoder *d, uint32_t *value)
{
    if (fpk_need(d, 4) < 0) {
        return -1;
    }
    *value = fpk_load_le32(d->p);
    d->p += 4;
    return 0;
}

static FPK_ALWAYS_INLINE int
read_le64(fpk_decoder *d, uint64_t *value)
{
    if (fpk_need(d, 8) < 0) {
        return -1;
    }
    *value = fpk_load_le64(d->p);
    d->p += 8;
    return 0;
}

/* ---- the stack and the memo --------------------------------------------- */

/* POP takes the topmost mark if nothing stands on it. */
static int
load_pop(fpk_decoder *d)
{
    PyObject **items;
    if (d->mark_count > 0 && d->sp == d->fence) {
        return fpk_pop_mark(d, &items);
    }
    PyObject *top = fpk_pop(d);
    if (top == NULL) {
        return -1;
    }
    Py_DECREF(top);
    return 0;
}

static int
load_pop_mark(fpk_decoder *d)
{
    PyObject **items;
    if (fpk_pop_mark(d, &items) < 0) {
        return -1;
    }
    fpk_drop_items(d, items);
    return 0;
}

static int
load_dup(fpk_decoder *d)
{
    if (fpk_height(d) < 1) {
        return fpk_underflow(d);
    }
    return fpk_push(d, Py_NewRef(d->sp[-1]));
}

static FPK_ALWAYS_INLINE int
load_binput(fpk_decoder *d, uint64_t index)
{
    if (fpk_height(d) < 1) {
        return fpk_underflow(d);
    }
    if (FPK_LIKELY(index < d->memo_size && d->memo[index] == NULL &&
                   d->sparse_memo == NULL)) {
        d->memo[index] = Py_NewRef(d->sp[-1]);
        d->memo_count++;
        return 0;
    }
    return fpk_memo_put(d, index, d->sp[-1]);
}

static FPK_ALWAYS_INLINE int
load_binget(fpk_decoder *d, uint64_t index)
{
    return fpk_push(d, Py_XNewRef(fpk_memo_get(d, index)));
}

/* ---- the stream --------------------------------------------------------- */

static int
load_proto(fpk_decoder *d)
{
    uint32_t protocol;
    if (read_le8(d, &protocol) < 0) {
        return -1;
    }
    if (protocol > FPK_HIGHEST_PROTOCOL) {
        return fpk_decode_error(d, d->state->MalformedError,
                                "unsupported pickle protocol: %u", protocol);
    }
    d->protocol = (int)protocol;
    return 0;
}

static int
load_frame(fpk_decoder *d)
{
    uint64_t size;
    return read_le64(d, &size) < 0 ? -1 : fpk_begin_frame(d, size);
}

static int
load_unknown(fpk_decoder *d, unsigned op)
{
    if (op >= 0x20 && op <= 0x7e && op != '\'' && op != '\\') {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "invalid load key, '%c'.", (int)op);
    }
    return fpk_decode_error(d, d->state->UnpicklingError,
                            "invalid load key, '\\x%02x'.", op);
}

#define COUNTED(type, read, load)                                             \
    do {                                                                      \
        type argument;                                                        \
        status = read(d, &argument);                                          \
        if (status == 0) {                                                    \
            status = load;                                                    \
        }                                                                     \
    } while (0)

/* Everything but STOP. */
static FPK_ALWAYS_INLINE int
execute(fpk_decoder *d, unsigned op)
{
    int status;
    switch (op) {
    case FPK_OP_SHORT_BINUNICODE: {
        if (FPK_LIKELY(d->end - d->p > 0 && d->end - d->p > d->p[0])) {
            size_t size = *d->p++;
            if (FPK_UNLIKELY(size == sizeof FPK_GUARD_MODULE - 1)) {
                int passed = fpk_pass_guard(d);
                if (passed != 0) {
                    return passed < 0 ? -1 : 0;
                }
            }
            return load_str(d, size);
        }
        COUNTED(uint32_t, read_le8, fpk_load_counted_unicode(d, argument));
        return status;
    }
    case FPK_OP_BINUNICODE:
        COUNTED(uint32_t, read_le32,
                (uint64_t)(d->end - d->p) >= argument
                    ? load_str(d, argument)
                    : fpk_load_counted_unicode(d, argument));
        return status;
    case FPK_OP_BINUNICODE8:
        COUNTED(uint64_t, read_le64, fpk_load_counted_unicode(d, argument));
        return status;
    case FPK_OP_MEMOIZE:
        return load_binput(d, d->memo_count);
    case FPK_OP_BINGET:
        COUNTED(uint32_t, read_le8, load_binget(d, argument));
        return status;
    case FPK_OP_LONG_BINGET:
        COUNTED(uint32_t, read_le32, load_binget(d, argument));
        return status;
    case FPK_OP_BINPUT:
        COUNTED(uint32_t, read_le8, load_binput(d, argument));
        return status;
    case FPK_OP_LONG_BINPUT:
        COUNTED(uint32_t, read_le32, load_binput(d, argument));
        return status;
    case FPK_OP_BININT1:
        COUNTED(uint32_t, read_le8,
                fpk_push(d, PyLong_FromLong((long)argument)));
        return status;
    case FPK_OP_BININT2:
        COUNTED(uint32_t, read_le16,
                fpk_push(d, PyLong_FromLong((long)argument)));
        return status;
    case FPK_OP_BININT:
        return load_binint(d);
    case FPK_OP_BINFLOAT:
        return load_binfloat(d);
    case FPK_OP_NONE:
        return load_none(d);
    case FPK_OP_NEWTRUE:
        return load_bool(d, true);
    case FPK_OP_NEWFALSE:
        return load_bool(d, false);
    case FPK_OP_LONG1:
        COUNTED(uint32_t, read_le8, fpk_load_counted_long(d, argument));
        return status;
    case FPK_OP_LONG4:
        COUNTED(uint32_t, read_le32, fpk_load_counted_long(d, argument));
        return status;
    case FPK_OP_MARK:
        return fpk_push_mark(d);
    case FPK_OP_EMPTY_TUPLE:
        return fpk_push(d, PyTuple_New(0));
    case FPK_OP_TUPLE1:
        return fpk_load_tuple(d, 1);
    case FPK_OP_TUPLE2:
        return fpk_load_tuple(d, 2);
    case FPK_OP_TUPLE3:
        return fpk_load_tuple(d, 3);
    case FPK_OP_TUPLE:
        return fpk_load_marked_tuple(d);
    case FPK_OP_EMPTY_LIST:
        return fpk_push(d, PyList_New(0));
    case FPK_OP_APPEND:
        return fpk_load_append(d);
    case FPK_OP_APPENDS:
        return fpk_load_appends(d);
    case FPK_OP_EMPTY_DICT:
        return fpk_push(d, PyDict_New());
    case FPK_OP_SETITEM:
        return fpk_load_setitem(d);
    case FPK_OP_SETITEMS:
        return fpk_load_setitems(d);
    case FPK_OP_EMPTY_SET:
        return load_set(d);
    case FPK_OP_ADDITEMS:
        return fpk_load_additems(d);
    case FPK_OP_FROZENSET:
        return fpk_load_frozenset(d);
    case FPK_OP_SHORT_BINBYTES:
        COUNTED(uint32_t, read_le8, fpk_load_bytes(d, argument));
        return status;
    case FPK_OP_BINBYTES:
        COUNTED(uint32_t, read_le32, fpk_load_bytes(d, argument));
        return status;
    case FPK_OP_BINBYTES8:
        COUNTED(uint64_t, read_le64, fpk_load_bytes(d, argument));
        return status;
    case FPK_OP_BYTEARRAY8:
        COUNTED(uint64_t, read_le64, fpk_load_bytearray(d, argument));
        return status;
    case FPK_OP_NEXT_BUFFER:
        return fpk_load_buffer(d);
    case FPK_OP_READONLY_BUFFER:
        return fpk_load_readonly_buffer(d);
    case FPK_OP_STACK_GLOBAL:
        return fpk_load_stack_global(d);
    case FPK_OP_GLOBAL:
        return fpk_load_global(d);
    case FPK_OP_REDUCE:
        return fpk_load_reduce(d);
    case FPK_OP_NEWOBJ:
        return fpk_load_newobj(d, false);
    case FPK_OP_NEWOBJ_EX:
        return fpk_load_newobj(d, true);
    case FPK_OP_BUILD:
        return fpk_load_build(d);
    case FPK_OP_PROTO:
        return load_proto(d);
    case FPK_OP_FRAME:
        return load_frame(d);
    case FPK_OP_POP:
        return load_pop(d);
    case FPK_OP_POP_MARK:
        return load_pop_mark(d);
    case FPK_OP_DUP:
        return load_dup(d);
    case FPK_OP_GET:
        return fpk_load_get(d);
    case FPK_OP_PUT:
        return fpk_load_put(d);
    case FPK_OP_EXT1:
        COUNTED(uint32_t, read_le8, fpk_load_ext(d, (long)argument));
        return status;
    case FPK_OP_EXT2:
        COUNTED(uint32_t, read_le16, fpk_load_ext(d, (long)argument));
        return status;
    case FPK_OP_EXT4:
        COUNTED(uint32_t, read_le32,
                fpk_load_ext(d, (long)(int32_t)argument));
        return status;
    case FPK_OP_PERSID:
        return fpk_load_persid(d);
    case FPK_OP_BINPERSID:
        return fpk_load_binpersid(d);
    case FPK_OP_INST:
        return fpk_load_inst(d);
    case FPK_OP_OBJ:
        return fpk_load_obj(d);
    case FPK_OP_INT:
        return fpk_load_int(d);
    case FPK_OP_LONG:
        return fpk_load_long(d);
    case FPK_OP_FLOAT:
        return fpk_load_float(d);
    case FPK_OP_STRING:
        return fpk_load_string(d);
    case FPK_OP_BINSTRING:
        COUNTED(uint32_t, read_le32, fpk_load_counted_string(d, argument));
        return status;
    case FPK_OP_SHORT_BINSTRING:
        COUNTED(uint32_t, read_le8, fpk_load_counted_string(d, argument));
        return status;
    case FPK_OP_UNICODE:
        return fpk_load_unicode(d);
    case FPK_OP_LIST:
        return fpk_load_list(d);
    case FPK_OP_DICT:
        return fpk_load_dict(d);
    default:
        return load_unknown(d, op);
    }
}

#undef COUNTED

/* [guarded] is known at compile time: without limits nothing is checked. */
static FPK_ALWAYS_INLINE PyObject *
run(fpk_decoder *d, const bool guarded)
{
    for (;;) {
        if (FPK_UNLIKELY(d->p >= d->end)) {
            int more = fpk_has_input(d);
            if (more <= 0) {
                if (more == 0) {
                    (void)fpk_truncated(d);
                }
                return NULL;
            }
        }
        d->op_at = d->p;
        unsigned op = *d->p++;
        if (guarded && fpk_guard_before(d, op) < 0) {
            return NULL;
        }
        if (op == FPK_OP_STOP) {
            return fpk_pop(d);
        }
        if (execute(d, op) < 0 || (guarded && fpk_guard_after(d, op) < 0)) {
            return NULL;
        }
    }
}

/* Apart, so that the compiler keeps it out of the way of the other. */
static FPK_NO_INLINE PyObject *
run_guarded(fpk_decoder *d)
{
    fpk_guard_begin(d);
    PyObject *result = run(d, true);
    if (result != NULL && fpk_guard_result(d, result) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

FPK_NO_INLINE int
fpk_execute_to_end(fpk_decoder *d)
{
    while (d->p < d->end) {
        d->op_at = d->p;
        unsigned op = *d->p++;
        if (execute(d, op) < 0) {
            return -1;
        }
    }
    return 0;
}

/* What stands between two marks: (how many, the last of them). */
static PyObject *
describe_piece(PyObject **first, PyObject **end)
{
    static const Py_ssize_t most = 64;
    Py_ssize_t size = end - first;
    Py_ssize_t shown = size < most ? size : most;
    PyObject *last = PyList_New(shown);
    for (Py_ssize_t i = 0; last != NULL && i < shown; i++) {
        PyList_SET_ITEM(last, i, Py_NewRef(end[i - shown]));
    }
    return last == NULL ? NULL : Py_BuildValue("(nN)", size, last);
}

/* The stack between its marks, from the bottom; of many pieces the first. */
static PyObject *
list_pieces(const fpk_decoder *d)
{
    static const size_t most = 32;
    PyObject *pieces = PyList_New(0);
    PyObject **first = d->stack;
    for (size_t i = 0; pieces != NULL && i <= d->mark_count && i < most; i++) {
        PyObject **end =
            i < d->mark_count ? d->stack + d->marks[i] : d->sp;
        PyObject *piece = describe_piece(first, end);
        if (piece == NULL || PyList_Append(pieces, piece) < 0) {
            Py_CLEAR(pieces);
        }
        Py_XDECREF(piece);
        first = end;
    }
    return pieces;
}

/* The first bytes of the input, if they are still there. */
static PyObject *
get_start(const fpk_decoder *d)
{
    static const Py_ssize_t most = 4096;
    if (d->base != 0 || d->start == NULL || d->end <= d->start) {
        return Py_NewRef(Py_None);
    }
    Py_ssize_t size = d->end - d->start;
    return PyBytes_FromStringAndSize((const char *)d->start,
                                     size < most ? size : most);
}

/* The notes of an error: where in the stream, what was being built, why, and
   what to do. */
static void
note_place(fpk_decoder *d, PyObject *exception)
{
    if (!PyErr_GivenExceptionMatches(exception, PyExc_Exception) ||
        PyErr_GivenExceptionMatches(exception, PyExc_MemoryError)) {
        return;
    }
    bool nothing_read = d->op_at == NULL && d->op == 0;
    PyObject *answer = NULL;
    PyObject *words = PyImport_ImportModule("fpickle._reading");
    PyObject *place = nothing_read ? Py_NewRef(Py_None)
                                   : fpk_describe_place(d);
    PyObject *start = get_start(d);
    PyObject *pieces = list_pieces(d);
    if (words != NULL && place != NULL && start != NULL && pieces != NULL) {
        answer = PyObject_CallMethod(
            words, "annotate", "OOOOOi", exception, place, start, pieces,
            d->failed == NULL ? Py_None : d->failed, d->protocol);
    }
    Py_XDECREF(answer);
    Py_XDECREF(words);
    Py_XDECREF(place);
    Py_XDECREF(start);
    Py_XDECREF(pieces);
    PyErr_Clear(); /* the error itself matters more than its note */
}

PyObject *
fpk_decoder_load(fpk_decoder *d)
{
    d->protocol = 0;
    d->op_at = NULL;
    d->op = 0;
    PyObject *result =
        FPK_LIKELY(d->guard == NULL) ? run(d, false) : run_guarded(d);
    PyObject *exception = result == NULL ? fpk_get_raised_exception() : NULL;
    if (exception != NULL) {
        note_place(d, exception);
        Py_CLEAR(d->failed);
    }
    fpk_decoder_clear_stack(d);
    /* The file stands behind what was used, also after an error; that error
       matters more than one from moving the file. */
    if (fpk_end_input(d) < 0) {
        if (exception != NULL) {
            PyErr_Clear();
        }
        Py_CLEAR(result);
    }
    if (exception != NULL) {
        fpk_set_raised_exception(exception);
    }
    return result;
}
