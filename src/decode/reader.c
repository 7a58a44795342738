/* reader.c -- where the bytes come from: memory, or a file object.

   Does:      keeps a window of bytes for the loop, refills it from the file,
              and never takes more from the file than the pickle has.
   Owns:      the window of a file.
   Invariant: what the window shows beyond p is either peeked at, so that the
              file still has it, or was asked for by a length in the stream.
   Called by: all of decode. */
#include "decode/limits.h"

/* What is asked of peek, in bytes. */
#define PREFETCH_SIZE (128 * 1024)

/* Lengths that the stream claims are allocated in steps that start here and
   grow with what has come: a lie costs no more than the truth that came with
   it.  A step is never longer than the second: it exists twice for a
   moment. */
#define FIRST_CHUNK_SIZE ((size_t)1024 * 1024)
#define LONGEST_CHUNK_SIZE ((size_t)32 * 1024 * 1024)

static PyObject *read_file(fpk_decoder *d, size_t size);

int
fpk_read_from_memory(fpk_decoder *d, const void *data, Py_ssize_t size)
{
    d->p = d->start = data;
    d->end = d->p + size;
    return 0;
}

int
fpk_read_from_file(fpk_decoder *d, PyObject *file)
{
    PyObject *peek, *read = NULL, *readline = NULL;
    if (PyObject_GetOptionalAttr(file, d->state->str.peek, &peek) < 0) {
        return -1;
    }
    if (PyObject_GetOptionalAttr(file, d->state->str.read, &read) < 0 ||
        PyObject_GetOptionalAttr(file, d->state->str.readline, &readline) <
            0) {
        goto error;
    }
    if (read == NULL || readline == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "file must have 'read' and 'readline' attributes");
        goto error;
    }
    Py_XSETREF(d->peek, peek);
    Py_XSETREF(d->read, read);
    Py_XSETREF(d->readline, readline);
    return 0;
error:
    Py_XDECREF(peek);
    Py_XDECREF(read);
    Py_XDECREF(readline);
    return -1;
}

/* ---- the window --------------------------------------------------------- */

/* The window is about to change: what op_at points to is noted down. */
static void
keep_opcode_place(fpk_decoder *d)
{
    if (d->op_at != NULL) {
        d->op = *d->op_at;
        d->op_offset = d->base + (uint64_t)(d->op_at - d->start);
        d->op_at = NULL;
    }
}

/* [bytes] is stolen and becomes the window, its first byte the next. */
static void
set_window(fpk_decoder *d, PyObject *bytes, bool peeked)
{
    keep_opcode_place(d);
    d->base += (uint64_t)(d->p - d->start);
    Py_XSETREF(d->window, bytes);
    d->start = d->p = (const uint8_t *)PyBytes_AS_STRING(bytes);
    d->end = d->start + PyBytes_GET_SIZE(bytes);
    d->peeked = peeked;
}

/* The window shows what is behind the frame, too. */
static void
leave_frame(fpk_decoder *d)
{
    if (d->behind_frame != NULL) {
        d->end = d->behind_frame;
        d->behind_frame = NULL;
    }
}

static void
drop_window(fpk_decoder *d)
{
    keep_opcode_place(d);
    d->base += (uint64_t)(d->p - d->start);
    d->start = d->p = d->end = NULL;
    d->peeked = false;
    Py_CLEAR(d->window);
}

/* Calls read or peek: a new bytes object of at most [limit] bytes. */
static PyObject *
call_for_bytes(fpk_decoder *d, PyObject *method, const char *name,
               size_t request, size_t limit)
{
    PyObject *size = PyLong_FromSize_t(request);
    if (size == NULL) {
        return NULL;
    }
    PyObject *data = PyObject_CallOneArg(method, size);
    Py_DECREF(size);
    if (data == NULL) {
        return NULL;
    }
    if (!PyBytes_Check(data)) {
        PyErr_Format(PyExc_TypeError, "%s() returned %.200s, not bytes", name,
                     Py_TYPE(data)->tp_name);
        Py_DECREF(data);
        return NULL;
    }
    if ((size_t)PyBytes_GET_SIZE(data) > limit) {
        Py_DECREF(data);
        (void)fpk_decode_error(d, d->state->UnpicklingError,
                               "%s() returned more than it was asked for",
                               name);
        return NULL;
    }
    return data;
}

/* Moves the file behind what was used of a window that was only peeked at, and
   drops the window. */
static int
consume_peeked(fpk_decoder *d)
{
    size_t used = (size_t)(d->p - d->start);
    bool peeked = d->peeked;
    drop_window(d);
    while (peeked && used > 0) {
        PyObject *data = call_for_bytes(d, d->read, "read", used, used);
        if (data == NULL) {
            return -1;
        }
        size_t got = (size_t)PyBytes_GET_SIZE(data);
        Py_DECREF(data);
        if (got == 0) {
            return fpk_truncated(d);
        }
        used -= got;
    }
    return 0;
}

/* Looks ahead at what the file has ready.  The window is empty if that is
   nothing or peek does not work. */
static int
peek_window(fpk_decoder *d)
{
    PyObject *data =
        call_for_bytes(d, d->peek, "peek", PREFETCH_SIZE, SIZE_MAX);
    if (data == NULL) {
        /* A raw file below can refuse; reading still works. */
        if (!PyErr_ExceptionMatches(PyExc_NotImplementedError) &&
            !PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        PyErr_Clear();
        Py_CLEAR(d->peek);
        return 0;
    }
    set_window(d, data, true);
    return 0;
}

/* Joins pieces until there are [n] bytes: a window of its own. */
static int
read_window(fpk_decoder *d, size_t n)
{
    PyObject *first = NULL, *rest = NULL;
    size_t have = (size_t)(d->end - d->p);
    int status = -1;
    if (have > 0 && !d->peeked) {
        /* Bytes already taken from the file come first. */
        first = PyBytes_FromStringAndSize((const char *)d->p,
                                          (Py_ssize_t)have);
        if (first == NULL) {
            goto done;
        }
        n -= have;
    }
    else if (consume_peeked(d) < 0) {
        goto done;
    }
    rest = read_file(d, n);
    if (rest == NULL) {
        goto done;
    }
    if ((size_t)PyBytes_GET_SIZE(rest) < n) {
        (void)fpk_truncated(d);
        goto done;
    }
    if (first != NULL) {
        PyBytes_Concat(&first, rest);
        if (first == NULL) {
            goto done;
        }
        set_window(d, Py_NewRef(first), false);
    }
    else {
        set_window(d, Py_NewRef(rest), false);
    }
    status = 0;
done:
    Py_XDECREF(first);
    Py_XDECREF(rest);
    return status;
}

/* Reads [size] bytes, or fewer at the end of the file, in chunks that grow
   with what arrives. */
static PyObject *
read_file(fpk_decoder *d, size_t size)
{
    size_t chunk = FIRST_CHUNK_SIZE;
    PyObject *all = NULL;
    for (size_t done = 0; done < size || all == NULL;) {
        size_t request = size - done < chunk ? size - done : chunk;
        PyObject *data =
            call_for_bytes(d, d->read, "read", request, request);
        if (data == NULL) {
            Py_XDECREF(all);
            return NULL;
        }
        size_t got = (size_t)PyBytes_GET_SIZE(data);
        if (all == NULL) {
            all = data;
        }
        else {
            PyBytes_ConcatAndDel(&all, data);
            if (all == NULL) {
                return NULL;
            }
        }
        if (got == 0) {
            break;
        }
        done += got;
        if (done / 8 > chunk && chunk < LONGEST_CHUNK_SIZE) {
            chunk *= 2;
        }
    }
    return all;
}

int
fpk_need_slow(fpk_decoder *d, size_t n)
{
    if (d->read == NULL || d->behind_frame != NULL) {
        return fpk_truncated(d);
    }
    if (d->peek != NULL && (d->peeked || d->p == d->end)) {
        if (consume_peeked(d) < 0 || peek_window(d) < 0) {
            return -1;
        }
        if ((size_t)(d->end - d->p) >= n) {
            return 0;
        }
    }
    return read_window(d, n);
}

int
fpk_has_input(fpk_decoder *d)
{
    leave_frame(d);
    if (d->p < d->end) {
        return 1;
    }
    if (d->read == NULL) {
        return 0;
    }
    if (fpk_need_slow(d, 1) < 0) {
        if (!PyErr_ExceptionMatches(d->state->TruncatedError) &&
            !PyErr_ExceptionMatches(PyExc_EOFError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    return 1;
}

/* ---- lines -------------------------------------------------------------- */

/* Calls readline, where [have] bytes of the line are in the window; with
   limits it is told how much is wanted, so that a longer line is not read at
   all. */
static PyObject *
call_readline(fpk_decoder *d, size_t have)
{
    uint64_t most =
        d->guard == NULL ? FPK_UNLIMITED : fpk_guard_longest_line(d);
    if (most >= (uint64_t)PY_SSIZE_T_MAX) {
        return PyObject_CallNoArgs(d->readline);
    }
    /* One byte more than may be there, to see that it is. */
    PyObject *size =
        PyLong_FromUnsignedLongLong(most > have ? most - have + 1 : 1);
    if (size == NULL) {
        return NULL;
    }
    PyObject *line = PyObject_CallOneArg(d->readline, size);
    Py_DECREF(size);
    return line;
}

/* The line goes on behind the window: takes the rest from readline. */
static int
read_line_from_file(fpk_decoder *d)
{
    PyObject *line = NULL, *first = NULL;
    int status = -1;
    size_t have = d->peeked ? 0 : (size_t)(d->end - d->p);
    if (have > 0) {
        first = PyBytes_FromStringAndSize((const char *)d->p,
                                          (Py_ssize_t)have);
        if (first == NULL) {
            goto done;
        }
    }
    else if (consume_peeked(d) < 0) {
        goto done;
    }
    line = call_readline(d, have);
    if (line == NULL) {
        goto done;
    }
    if (!PyBytes_Check(line)) {
        PyErr_Format(PyExc_TypeError, "readline() returned %.200s, not bytes",
                     Py_TYPE(line)->tp_name);
        goto done;
    }
    if (first != NULL) {
        PyBytes_Concat(&first, line);
        if (first == NULL) {
            goto done;
        }
        set_window(d, Py_NewRef(first), false);
    }
    else {
        set_window(d, Py_NewRef(line), false);
    }
    status = 0;
done:
    Py_XDECREF(line);
    Py_XDECREF(first);
    return status;
}

int
fpk_read_line(fpk_decoder *d, const char **line, Py_ssize_t *size)
{
    const uint8_t *newline = NULL;
    if (d->p < d->end) {
        newline = memchr(d->p, '\n', (size_t)(d->end - d->p));
    }
    if (newline == NULL && d->read != NULL && d->behind_frame == NULL) {
        if (read_line_from_file(d) < 0) {
            return -1;
        }
        if (d->p < d->end) {
            newline = memchr(d->p, '\n', (size_t)(d->end - d->p));
        }
    }
    if (d->guard != NULL) {
        const uint8_t *end = newline == NULL ? d->end : newline + 1;
        if ((uint64_t)(end - d->p) > fpk_guard_longest_line(d)) {
            return fpk_guard_refuse_line(d);
        }
    }
    if (newline == NULL) {
        return fpk_truncated(d);
    }
    *line = (const char *)d->p;
    *size = newline + 1 - d->p;
    d->p = newline + 1;
    return 0;
}

/* ---- payloads ----------------------------------------------------------- */

/* The part of the next [size] bytes that the window has. */
static size_t
available(const fpk_decoder *d, uint64_t size)
{
    size_t have = (size_t)(d->end - d->p);
    return have < size ? have : (size_t)size;
}

static int
check_payload(fpk_decoder *d, uint64_t size)
{
    if (size > (uint64_t)PY_SSIZE_T_MAX) {
        return fpk_decode_error(d, d->state->MalformedError,
                                "length exceeds system's maximum of %zd bytes",
                                PY_SSIZE_T_MAX);
    }
    if (available(d, size) < size &&
        (d->read == NULL || d->behind_frame != NULL)) {
        return fpk_truncated(d);
    }
    return 0;
}

/* The next [size] bytes, in memory or in the file. */
static PyObject *
read_payload(fpk_decoder *d, size_t size)
{
    size_t have = available(d, size);
    PyObject *result = NULL, *rest = NULL;
    if (have == size) {
        result = fpk_copy_bytes(d->p, (Py_ssize_t)size);
        if (result != NULL) {
            d->p += size;
        }
        return result;
    }
    if (d->peeked) {
        have = 0;
        if (consume_peeked(d) < 0) {
            return NULL;
        }
    }
    else {
        result = PyBytes_FromStringAndSize((const char *)d->p,
                                           (Py_ssize_t)have);
        if (result == NULL) {
            return NULL;
        }
        d->p += have;
        drop_window(d);
    }
    rest = read_file(d, size - have);
    if (rest == NULL) {
        Py_XDECREF(result);
        return NULL;
    }
    d->base += (uint64_t)PyBytes_GET_SIZE(rest);
    if ((size_t)PyBytes_GET_SIZE(rest) < size - have) {
        Py_DECREF(rest);
        Py_XDECREF(result);
        (void)fpk_truncated(d);
        return NULL;
    }
    if (have == 0) {
        Py_XDECREF(result);
        return rest;
    }
    PyBytes_ConcatAndDel(&result, rest);
    return result;
}

PyObject *
fpk_read_bytes(fpk_decoder *d, uint64_t size)
{
    return check_payload(d, size) < 0 ? NULL : read_payload(d, (size_t)size);
}

PyObject *
fpk_read_bytearray(fpk_decoder *d, uint64_t size)
{
    if (check_payload(d, size) < 0) {
        return NULL;
    }
    if (available(d, size) == size) {
        PyObject *result = fpk_copy_bytearray(d->p, (Py_ssize_t)size);
        if (result != NULL) {
            d->p += size;
        }
        return result;
    }
    PyObject *bytes = read_payload(d, (size_t)size);
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *result = PyByteArray_FromObject(bytes);
    Py_DECREF(bytes);
    return result;
}

/* ---- frames ------------------------------------------------------------- */

/* The bytes of a frame are fetched in one go, and the window ends with them
   until they are used up: what reads beyond finds that there is no more. */
int
fpk_begin_frame(fpk_decoder *d, uint64_t size)
{
    if (d->behind_frame != NULL) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "a frame begins inside of another");
    }
    if (size == 0) {
        return fpk_decode_error(d, d->state->UnpicklingError,
                                "a frame of no bytes");
    }
    if (check_payload(d, size) < 0) {
        return -1;
    }
    if ((uint64_t)(d->end - d->p) < size &&
        fpk_need_slow(d, (size_t)size) < 0) {
        return -1;
    }
    d->behind_frame = d->end;
    d->end = d->p + size;
    return 0;
}

int
fpk_end_input(fpk_decoder *d)
{
    leave_frame(d);
    if (d->read == NULL) {
        return 0;
    }
    return consume_peeked(d);
}
