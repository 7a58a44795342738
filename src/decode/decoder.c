/* decoder.c -- the life of a decoder: its stacks, its memo, its errors.

   Does:      sets up and tears down, grows the stacks, keeps the memo, and
              says where in the stream a fault lies.
   Owns:      everything in fpk_decoder that is marked owned.
   Invariant: fence <= sp <= stack_end; fence is the height of the topmost
              mark.
   Called by: all of decode. */
#include "decode/limits.h"

#include <stdarg.h>

/* Below this index the dense memo may always grow; above it, to four times
   its entries. */
#define DENSE_MEMO_FLOOR 4096

void
fpk_decoder_init(fpk_decoder *d, fpk_state *state)
{
    memset(d, 0, offsetof(fpk_decoder, inline_stack));
    memset(d->inline_memo, 0, sizeof d->inline_memo);
    d->state = state;
    d->stack = d->sp = d->fence = d->inline_stack;
    d->stack_end = d->inline_stack + FPK_INLINE_STACK;
    d->marks = d->inline_marks;
    d->mark_capacity = FPK_INLINE_MARKS;
    d->memo = d->inline_memo;
    d->memo_size = FPK_INLINE_MEMO;
}

void
fpk_decoder_fini(fpk_decoder *d)
{
    /* Without memory, freeing an instance can lose the exception that is
       set. */
    PyObject *exception =
        PyErr_Occurred() ? fpk_get_raised_exception() : NULL;
    fpk_decoder_clear_stack(d);
    if (d->stack != d->inline_stack) {
        PyMem_Free(d->stack);
        d->stack = d->sp = d->fence = d->inline_stack;
        d->stack_end = d->inline_stack + FPK_INLINE_STACK;
    }
    if (d->marks != d->inline_marks) {
        PyMem_Free(d->marks);
        d->marks = d->inline_marks;
        d->mark_capacity = FPK_INLINE_MARKS;
    }
    fpk_decoder_clear_memo(d);
    fpk_guard_free(d);
    fpk_forget_skipped(d);
    Py_CLEAR(d->known_class);
    Py_CLEAR(d->known_id);
    Py_CLEAR(d->failed);
    Py_CLEAR(d->window);
    Py_CLEAR(d->read);
    Py_CLEAR(d->readline);
    Py_CLEAR(d->peek);
    Py_CLEAR(d->encoding_object);
    Py_CLEAR(d->errors_object);
    Py_CLEAR(d->buffers);
    Py_CLEAR(d->find_class);
    Py_CLEAR(d->persistent_load);
    if (exception != NULL) {
        fpk_set_raised_exception(exception);
    }
}

static int
set_name(PyObject *value, const char *parameter, PyObject **object,
         const char **text)
{
    if (value == NULL) {
        return 0;
    }
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %.200s", parameter,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(value, &size);
    if (utf8 == NULL) {
        return -1;
    }
    if (strlen(utf8) != (size_t)size) {
        PyErr_SetString(PyExc_ValueError, "embedded null character");
        return -1;
    }
    Py_XSETREF(*object, Py_NewRef(value));
    *text = utf8;
    return 0;
}

int
fpk_decoder_set_options(fpk_decoder *d, PyObject *fix_imports,
                        PyObject *encoding, PyObject *errors,
                        PyObject *buffers)
{
    d->fix_imports = true;
    d->encoding = "ASCII";
    d->errors = "strict";
    if (fix_imports != NULL) {
        int truth = PyObject_IsTrue(fix_imports);
        if (truth < 0) {
            return -1;
        }
        d->fix_imports = truth != 0;
    }
    if (set_name(encoding, "encoding", &d->encoding_object, &d->encoding) <
            0 ||
        set_name(errors, "errors", &d->errors_object, &d->errors) < 0) {
        return -1;
    }
    d->strings_as_bytes = strcmp(d->encoding, "bytes") == 0;
    PyObject *iterator = NULL;
    if (buffers != NULL && buffers != Py_None) {
        iterator = PyObject_GetIter(buffers);
        if (iterator == NULL) {
            return -1;
        }
    }
    Py_XSETREF(d->buffers, iterator);
    return 0;
}

/* ---- errors ------------------------------------------------------------- */

static const char *
opcode_name(uint8_t byte)
{
    switch (byte) {
#define FPK_OPCODE(name, code, protocol, argument, before, after, doc)        \
    case code:                                                                \
        return #name;
#include "wire/opcodes.def"
#undef FPK_OPCODE
    default:
        return NULL;
    }
}

PyObject *
fpk_describe_place(fpk_decoder *d)
{
    const char *name = opcode_name(d->op_at != NULL ? *d->op_at : d->op);
    unsigned long long offset =
        d->op_at != NULL ? d->base + (uint64_t)(d->op_at - d->start)
                         : d->op_offset;
    return name == NULL
               ? PyUnicode_FromFormat("at byte %llu", offset)
               : PyUnicode_FromFormat("opcode %s at byte %llu", name, offset);
}

int
fpk_decode_error(fpk_decoder *d, PyObject *type, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (message == NULL) {
        return -1;
    }
    PyObject *place = fpk_describe_place(d);
    if (place != NULL) {
        PyErr_Format(type, "%U (%U)", message, place);
        Py_DECREF(place);
    }
    Py_DECREF(message);
    return -1;
}

PyObject *
fpk_decoded(fpk_decoder *d, PyObject *text)
{
    if (text != NULL || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        return text;
    }
    Py_ssize_t start, end;
    PyObject *error = fpk_get_raised_exception();
    PyObject *place = fpk_describe_place(d);
    PyObject *encoding = PyUnicodeDecodeError_GetEncoding(error);
    PyObject *bytes = PyUnicodeDecodeError_GetObject(error);
    PyObject *reason = PyUnicodeDecodeError_GetReason(error);
    PyObject *better = NULL;
    if (place != NULL && encoding != NULL && bytes != NULL && reason != NULL &&
        PyUnicodeDecodeError_GetStart(error, &start) == 0 &&
        PyUnicodeDecodeError_GetEnd(error, &end) == 0) {
        better = PyObject_CallFunction(
            d->state->InvalidTextError, "OOnnN", encoding, bytes, start, end,
            PyUnicode_FromFormat("%U (%U)", reason, place));
    }
    if (better != NULL) {
        fpk_set_raised_exception(better);
    }
    Py_XDECREF(error);
    Py_XDECREF(place);
    Py_XDECREF(encoding);
    Py_XDECREF(bytes);
    Py_XDECREF(reason);
    return NULL;
}

FPK_NO_INLINE int
fpk_note_failure(fpk_decoder *d, PyObject *first, PyObject *second)
{
    PyObject *exception = fpk_get_raised_exception();
    PyObject *failed = PyTuple_Pack(2, first, second);
    Py_XSETREF(d->failed, failed);
    if (exception != NULL) {
        fpk_set_raised_exception(exception);
    }
    return -1;
}

int
fpk_truncated(fpk_decoder *d)
{
    if (d->behind_frame != NULL) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "opcode goes beyond its frame");
    }
    if (d->op_at == NULL && d->op == 0) {
        PyErr_SetString(PyExc_EOFError, "Ran out of input");
        return -1;
    }
    return fpk_decode_error(d, d->state->TruncatedError,
                            "pickle data was truncated");
}

int
fpk_underflow(fpk_decoder *d)
{
    return fpk_decode_error(d, d->state->UnpicklingError,
                            d->mark_count > 0 ? "unexpected MARK found"
                                              : "unpickling stack underflow");
}

/* ---- the stacks --------------------------------------------------------- */

int
fpk_grow_stack(fpk_decoder *d)
{
    size_t used = (size_t)(d->sp - d->stack);
    size_t fence = (size_t)(d->fence - d->stack);
    size_t capacity = (size_t)(d->stack_end - d->stack) * 2;
    PyObject **stack;
    if (capacity > (size_t)PY_SSIZE_T_MAX / sizeof *stack) {
        PyErr_NoMemory();
        return -1;
    }
    if (d->stack == d->inline_stack) {
        stack = PyMem_Malloc(capacity * sizeof *stack);
        if (stack != NULL) {
            memcpy(stack, d->stack, used * sizeof *stack);
        }
    }
    else {
        stack = PyMem_Realloc(d->stack, capacity * sizeof *stack);
    }
    if (stack == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    d->stack = stack;
    d->sp = stack + used;
    d->fence = stack + fence;
    d->stack_end = stack + capacity;
    return 0;
}

int
fpk_push_mark(fpk_decoder *d)
{
    if (d->mark_count == d->mark_capacity) {
        size_t capacity = d->mark_capacity * 2;
        size_t *marks;
        if (capacity > (size_t)PY_SSIZE_T_MAX / sizeof *marks) {
            PyErr_NoMemory();
            return -1;
        }
        if (d->marks == d->inline_marks) {
            marks = PyMem_Malloc(capacity * sizeof *marks);
            if (marks != NULL) {
                memcpy(marks, d->marks, d->mark_count * sizeof *marks);
            }
        }
        else {
            marks = PyMem_Realloc(d->marks, capacity * sizeof *marks);
        }
        if (marks == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        d->marks = marks;
        d->mark_capacity = capacity;
    }
    d->marks[d->mark_count++] = (size_t)(d->sp - d->stack);
    d->fence = d->sp;
    return 0;
}

int
fpk_pop_mark(fpk_decoder *d, PyObject ***items)
{
    if (d->mark_count == 0) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "could not find MARK");
    }
    *items = d->stack + d->marks[--d->mark_count];
    d->fence =
        d->stack + (d->mark_count > 0 ? d->marks[d->mark_count - 1] : 0);
    return 0;
}

void
fpk_drop_items(fpk_decoder *d, PyObject **items)
{
    /* A decref can run code, but none that reaches this decoder. */
    while (d->sp > items) {
        Py_DECREF(*--d->sp);
    }
}

void
fpk_decoder_clear_stack(fpk_decoder *d)
{
    d->mark_count = 0;
    d->fence = d->stack;
    fpk_drop_items(d, d->stack);
}

/* ---- the memo ----------------------------------------------------------- */

void
fpk_decoder_clear_memo(fpk_decoder *d)
{
    PyObject **memo = d->memo;
    size_t size = d->memo_size;
    size_t left = d->memo_count;
    PyObject *inline_copy[FPK_INLINE_MEMO];
    if (memo == d->inline_memo) {
        if (left == 0 && d->sparse_memo == NULL) {
            return;
        }
        memcpy(inline_copy, memo, sizeof inline_copy);
        memset(memo, 0, sizeof inline_copy);
        memo = inline_copy;
    }
    else {
        d->memo = d->inline_memo;
        d->memo_size = FPK_INLINE_MEMO;
    }
    d->memo_count = 0;
    Py_CLEAR(d->sparse_memo);
    /* The objects have left the cache long ago. */
    const size_t ahead = 16;
    for (size_t i = 0; i < size && left > 0; i++) {
        if (i + ahead < size) {
            FPK_PREFETCH(memo[i + ahead]);
        }
        if (memo[i] != NULL) {
            Py_DECREF(memo[i]);
            left--;
        }
    }
    if (memo != inline_copy) {
        PyMem_Free(memo);
    }
}

static int
grow_memo(fpk_decoder *d, size_t needed)
{
    size_t size = d->memo_size * 2;
    if (size < needed) {
        size = needed;
    }
    PyObject **memo;
    if (size > (size_t)PY_SSIZE_T_MAX / sizeof *memo) {
        PyErr_NoMemory();
        return -1;
    }
    if (d->memo == d->inline_memo) {
        memo = PyMem_Malloc(size * sizeof *memo);
        if (memo != NULL) {
            memcpy(memo, d->memo, sizeof d->inline_memo);
            memset(d->inline_memo, 0, sizeof d->inline_memo);
        }
    }
    else {
        memo = PyMem_Realloc(d->memo, size * sizeof *memo);
    }
    if (memo == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(memo + d->memo_size, 0, (size - d->memo_size) * sizeof *memo);
    d->memo = memo;
    d->memo_size = size;
    return 0;
}

static int
put_sparse(fpk_decoder *d, uint64_t index, PyObject *obj)
{
    if (d->sparse_memo == NULL) {
        d->sparse_memo = PyDict_New();
        if (d->sparse_memo == NULL) {
            return -1;
        }
    }
    PyObject *key = PyLong_FromUnsignedLongLong(index);
    if (key == NULL) {
        return -1;
    }
    Py_ssize_t before = PyDict_GET_SIZE(d->sparse_memo);
    int status = PyDict_SetItem(d->sparse_memo, key, obj);
    Py_DECREF(key);
    if (status == 0 && PyDict_GET_SIZE(d->sparse_memo) > before) {
        d->memo_count++;
    }
    return status;
}

int
fpk_memo_put(fpk_decoder *d, uint64_t index, PyObject *obj)
{
    if (FPK_UNLIKELY(index >= d->memo_size)) {
        if (index >= DENSE_MEMO_FLOOR && index / 4 > d->memo_count) {
            return put_sparse(d, index, obj);
        }
        if (grow_memo(d, (size_t)index + 1) < 0) {
            return -1;
        }
    }
    PyObject *old = d->memo[index];
    d->memo[index] = Py_NewRef(obj);
    if (old != NULL) {
        Py_DECREF(old);
    }
    else {
        d->memo_count++;
        if (FPK_UNLIKELY(d->sparse_memo != NULL)) {
            /* The dense part has grown over an index of the sparse one. */
            PyObject *key = PyLong_FromUnsignedLongLong(index);
            int found =
                key == NULL ? -1 : PyDict_Contains(d->sparse_memo, key);
            if (found > 0) {
                d->memo_count--;
                found = PyDict_DelItem(d->sparse_memo, key);
            }
            Py_XDECREF(key);
            return found < 0 ? -1 : 0;
        }
    }
    return 0;
}

PyObject *
fpk_memo_get(fpk_decoder *d, uint64_t index)
{
    if (FPK_LIKELY(index < d->memo_size && d->memo[index] != NULL)) {
        return d->memo[index];
    }
    if (d->skipped != NULL) {
        if (fpk_fetch_skipped(d, index) < 0) {
            return NULL;
        }
        if (index < d->memo_size && d->memo[index] != NULL) {
            return d->memo[index];
        }
    }
    if (d->sparse_memo != NULL) {
        PyObject *key = PyLong_FromUnsignedLongLong(index);
        if (key == NULL) {
            return NULL;
        }
        PyObject *obj = PyDict_GetItemWithError(d->sparse_memo, key);
        Py_DECREF(key);
        if (obj != NULL || PyErr_Occurred()) {
            return obj; /* borrowed from the memo */
        }
    }
    (void)fpk_decode_error(d, d->state->UnpicklingError,
                           "Memo value not found at index %llu",
                           (unsigned long long)index);
    return NULL;
}
