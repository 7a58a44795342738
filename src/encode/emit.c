/* emit.c -- bytes, frames and memo entries of the stream.

   Does:      puts opcodes into the output buffer, opens and closes the frames
              of protocol 4, hands full frames to the file, and keeps the memo.
   Owns:      the references that the memo holds.
   Invariant: from fpk_begin_output to fpk_end_output of a stream of protocol 4
              or later a frame is open, except inside fpk_emit_payload.
   Called by: encode, byvalue. */
#include "base/bytes.h"
#include "encode/encoder.h"

#include <stdio.h>

/* A function by value that is shorter needs no frame: frames save a reader of
   files small reads, and this was not written to a file. */
#define SHORT_OUTPUT 4096
#define PROTO_SIZE 2

bool
fpk_reserve_slow(fpk_encoder *e, size_t n)
{
    if (!fpk_buffer_reserve(&e->out, n)) {
        PyErr_NoMemory();
        return false;
    }
    return true;
}

/* ---- the file ----------------------------------------------------------- */

/* Whether None, as the answer of write, says that nothing was written: raw
   files that would block answer so.  Others just return nothing. */
static int
is_raw_file(fpk_encoder *e)
{
    PyObject *file;
    int found =
        PyObject_GetOptionalAttr(e->write, e->state->str.__self__, &file);
    if (found > 0) {
        found = PyObject_IsInstance(file, e->state->RawIOBase);
        Py_DECREF(file);
    }
    return found;
}

/* How much of [size] bytes the file took: what it answered, or all if it
   answered with something else than an int.  -1 with OSError if that is
   nothing. */
static Py_ssize_t
count_written(fpk_encoder *e, PyObject *answer, Py_ssize_t size)
{
    if (answer == Py_None) {
        int raw = is_raw_file(e);
        if (raw > 0) {
            PyErr_Format(PyExc_BlockingIOError,
                         "write() would block: %zd bytes are left", size);
        }
        return raw == 0 ? size : -1;
    }
    if (!PyLong_CheckExact(answer)) {
        return size;
    }
    Py_ssize_t taken = PyLong_AsSsize_t(answer);
    if (taken == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (taken <= 0) {
        PyErr_Format(PyExc_OSError, "write() took %zd of %zd bytes", taken,
                     size);
        return -1;
    }
    return taken < size ? taken : size;
}

/* Calls write until [data] is written. */
static int
write_to_file(fpk_encoder *e, PyObject *data)
{
    Py_ssize_t size = PyObject_Length(data);
    Py_ssize_t done = 0;
    PyObject *rest = Py_NewRef(data);
    int status = -1;

    if (size < 0) {
        goto done;
    }
    for (;;) {
        PyObject *answer = PyObject_CallOneArg(e->write, rest);
        if (answer == NULL) {
            goto done;
        }
        Py_ssize_t taken = count_written(e, answer, size - done);
        Py_DECREF(answer);
        if (taken < 0) {
            goto done;
        }
        done += taken;
        if (done == size) {
            break;
        }
        Py_SETREF(rest, PySequence_GetSlice(data, done, size));
        if (rest == NULL) {
            goto done;
        }
    }
    status = 0;
done:
    Py_XDECREF(rest);
    return status;
}

/* Every write gets a bytes object of its own: a file may keep it. */
static int
flush_output(fpk_encoder *e)
{
    if (e->write == NULL || e->out.length == 0) {
        return 0;
    }
    PyObject *chunk = PyBytes_FromStringAndSize((const char *)e->out.data,
                                                (Py_ssize_t)e->out.length);
    if (chunk == NULL) {
        return -1;
    }
    e->out.length = 0;
    int status = write_to_file(e, chunk);
    Py_DECREF(chunk);
    return status;
}

/* ---- frames ------------------------------------------------------------- */

static int
open_frame(fpk_encoder *e)
{
    if (e->protocol < 4 || e->canonical != NULL) {
        e->frame_start = FPK_NO_FRAME;
        e->frame_limit = e->write == NULL
                             ? SIZE_MAX
                             : e->out.length + FPK_FRAME_SIZE_TARGET;
        return 0;
    }
    if (!fpk_reserve(e, FPK_FRAME_HEADER_SIZE)) {
        return -1;
    }
    e->frame_start = e->out.length;
    e->out.length += FPK_FRAME_HEADER_SIZE;
    e->frame_limit = e->out.length + FPK_FRAME_SIZE_TARGET;
    return 0;
}

static void
drop_frame_header(fpk_encoder *e)
{
    uint8_t *header = e->out.data + e->frame_start;
    e->out.length -= FPK_FRAME_HEADER_SIZE;
    memmove(header, header + FPK_FRAME_HEADER_SIZE,
            e->out.length - e->frame_start);
    e->frame_start = FPK_NO_FRAME;
}

/* Fills in the header of the open frame, or takes it out again if the frame is
   too short to be worth one. */
static void
close_frame(fpk_encoder *e)
{
    if (e->frame_start == FPK_NO_FRAME) {
        return;
    }
    uint8_t *header = e->out.data + e->frame_start;
    size_t size = e->out.length - e->frame_start - FPK_FRAME_HEADER_SIZE;
    if (size < FPK_FRAME_SIZE_MIN) {
        drop_frame_header(e);
        return;
    }
    header[0] = FPK_OP_FRAME;
    fpk_store_le64(header + 1, size);
    e->frame_start = FPK_NO_FRAME;
}

int
fpk_end_frame(fpk_encoder *e)
{
    close_frame(e);
    if (flush_output(e) < 0) {
        return FPK_ERROR;
    }
    return open_frame(e);
}

int
fpk_begin_output(fpk_encoder *e)
{
    e->out.length = 0;
    e->frame_start = FPK_NO_FRAME;
    if (e->protocol >= 2) {
        if (!fpk_reserve(e, 2)) {
            return FPK_ERROR;
        }
        fpk_put_byte(e, FPK_OP_PROTO);
        fpk_put_byte(e, (uint8_t)e->protocol);
    }
    return open_frame(e);
}

int
fpk_end_output(fpk_encoder *e)
{
    if (fpk_emit_op(e, FPK_OP_STOP) < 0) {
        return FPK_ERROR;
    }
    if (e->byvalue != NULL && e->write == NULL &&
        e->frame_start == PROTO_SIZE && e->out.length < SHORT_OUTPUT) {
        drop_frame_header(e);
        return FPK_DONE;
    }
    close_frame(e);
    return flush_output(e);
}

/* ---- payloads ----------------------------------------------------------- */

/* [data] as an object that keeps it alive whatever the file does. */
static PyObject *
own_payload(const char *data, Py_ssize_t size, PyObject *owner)
{
    if (owner != NULL && PyBytes_CheckExact(owner)) {
        return Py_NewRef(owner);
    }
    if (owner != NULL && !PyUnicode_Check(owner)) {
        return PyMemoryView_FromObject(owner);
    }
    return PyBytes_FromStringAndSize(data, size);
}

/* Straight to the file, without passing through the buffer. */
static int
write_payload(fpk_encoder *e, const uint8_t *header, size_t header_size,
              const char *data, Py_ssize_t size, PyObject *owner)
{
    int status = -1;
    PyObject *chunk = own_payload(data, size, owner);
    if (chunk == NULL || !fpk_reserve(e, header_size)) {
        goto done;
    }
    fpk_put_bytes(e, header, header_size);
    if (flush_output(e) < 0 || write_to_file(e, chunk) < 0) {
        goto done;
    }
    status = 0;
done:
    Py_XDECREF(chunk);
    return status;
}

int
fpk_emit_payload(fpk_encoder *e, const uint8_t *header, size_t header_size,
                 const char *data, Py_ssize_t size, PyObject *owner)
{
    bool large = size >= FPK_FRAME_SIZE_TARGET;
    if (large) {
        close_frame(e);
        if (e->write != NULL) {
            return write_payload(e, header, header_size, data, size, owner) < 0
                       ? FPK_ERROR
                       : open_frame(e);
        }
    }
    if (FPK_IS_SURVEYED(e)) {
        int counted = e->state->survey->count_payload(
            e, header_size + (size_t)size, owner, large);
        if (counted != 0) {
            return counted < 0 ? FPK_ERROR : open_frame(e);
        }
    }
    if (!fpk_reserve(e, header_size + (size_t)size)) {
        return FPK_ERROR;
    }
    fpk_put_bytes(e, header, header_size);
    fpk_put_bytes(e, data, (size_t)size);
    return large ? open_frame(e) : FPK_DONE;
}

int
fpk_emit_raw(fpk_encoder *e, const void *bytes, size_t n)
{
    if (!fpk_reserve(e, n)) {
        return FPK_ERROR;
    }
    fpk_put_bytes(e, bytes, n);
    return FPK_DONE;
}

int
fpk_emit_str(fpk_encoder *e, const char *ascii)
{
    size_t n = strlen(ascii);
    assert(n < 256);
    if (!fpk_reserve(e, n + 6)) {
        return FPK_ERROR;
    }
    if (e->protocol >= 4) {
        fpk_put_byte(e, FPK_OP_SHORT_BINUNICODE);
        fpk_put_byte(e, (uint8_t)n);
    }
    else if (e->protocol >= 1) {
        uint8_t header[5] = {FPK_OP_BINUNICODE};
        fpk_store_le32(header + 1, (uint32_t)n);
        fpk_put_bytes(e, header, sizeof header);
    }
    else {
        fpk_put_byte(e, FPK_OP_UNICODE);
    }
    fpk_put_bytes(e, ascii, n);
    if (e->protocol == 0) {
        fpk_put_byte(e, '\n');
    }
    return FPK_DONE;
}

int
fpk_emit_uint(fpk_encoder *e, uint32_t value)
{
    if (!fpk_reserve(e, 16)) {
        return FPK_ERROR;
    }
    uint8_t *p = fpk_buffer_end(&e->out);
    if (e->protocol == 0) {
        e->out.length +=
            (size_t)snprintf((char *)p, 16, "I%lu\n", (unsigned long)value);
    }
    else if (value < 256) {
        fpk_put_byte(e, FPK_OP_BININT1);
        fpk_put_byte(e, (uint8_t)value);
    }
    else if (value < 65536) {
        p[0] = FPK_OP_BININT2;
        fpk_store_le16(p + 1, (uint16_t)value);
        e->out.length += 3;
    }
    else {
        assert(value <= INT32_MAX);
        p[0] = FPK_OP_BININT;
        fpk_store_le32(p + 1, value);
        e->out.length += 5;
    }
    return FPK_DONE;
}

int
fpk_emit_tuple_mark(fpk_encoder *e)
{
    return e->protocol >= 2 ? FPK_DONE : fpk_emit_op(e, FPK_OP_MARK);
}

int
fpk_emit_tuple(fpk_encoder *e, int n)
{
    static const enum fpk_opcode ops[] = {FPK_OP_TUPLE1, FPK_OP_TUPLE2,
                                          FPK_OP_TUPLE3};
    assert(n >= 1 && n <= 3);
    return fpk_emit_op(e, e->protocol >= 2 ? ops[n - 1] : FPK_OP_TUPLE);
}

/* ---- the memo ----------------------------------------------------------- */

static int
put_index(fpk_encoder *e)
{
    uint64_t index = e->next_index;
    if (!fpk_reserve(e, 32)) {
        return FPK_ERROR;
    }
    uint8_t *p = fpk_buffer_end(&e->out);
    if (e->protocol >= 4) {
        fpk_put_byte(e, FPK_OP_MEMOIZE);
    }
    else if (e->protocol == 0) {
        e->out.length += (size_t)snprintf((char *)p, 32, "p%llu\n",
                                          (unsigned long long)index);
    }
    else if (index < 256) {
        p[0] = FPK_OP_BINPUT;
        p[1] = (uint8_t)index;
        e->out.length += 2;
    }
    else if (index <= UINT32_MAX) {
        p[0] = FPK_OP_LONG_BINPUT;
        fpk_store_le32(p + 1, (uint32_t)index);
        e->out.length += 5;
    }
    else {
        PyErr_SetString(e->state->PicklingError,
                        "memo id too large for LONG_BINPUT");
        return FPK_ERROR;
    }
    e->next_index++;
    return FPK_DONE;
}

int
fpk_emit_get(fpk_encoder *e, uint64_t index)
{
    if (!fpk_reserve(e, 32)) {
        return FPK_ERROR;
    }
    uint8_t *p = fpk_buffer_end(&e->out);
    if (e->protocol == 0) {
        e->out.length += (size_t)snprintf((char *)p, 32, "g%llu\n",
                                          (unsigned long long)index);
    }
    else if (index < 256) {
        p[0] = FPK_OP_BINGET;
        p[1] = (uint8_t)index;
        e->out.length += 2;
    }
    else if (index <= UINT32_MAX) {
        p[0] = FPK_OP_LONG_BINGET;
        fpk_store_le32(p + 1, (uint32_t)index);
        e->out.length += 5;
    }
    else {
        PyErr_SetString(e->state->PicklingError,
                        "memo id too large for LONG_BINGET");
        return FPK_ERROR;
    }
    return FPK_DONE;
}

int
fpk_memoize(fpk_encoder *e, PyObject *obj)
{
    if (e->fast) {
        return FPK_DONE;
    }
    fpk_memo_entry *entry = fpk_memo_find(&e->memo, obj);
    if (entry != NULL) {
        entry->index = e->next_index;
    }
    else {
        if (!fpk_memo_set(&e->memo, obj, e->next_index)) {
            PyErr_NoMemory();
            return FPK_ERROR;
        }
        Py_INCREF(obj);
    }
    return put_index(e);
}

int
fpk_memoize_anonymous(fpk_encoder *e, uint64_t *index)
{
    *index = e->next_index;
    return put_index(e);
}

int
fpk_emit_get_if_saved(fpk_encoder *e, PyObject *obj)
{
    const fpk_memo_entry *entry = fpk_memo_find(&e->memo, obj);
    if (entry == NULL) {
        return 0;
    }
    if (FPK_UNLIKELY(entry->index >= FPK_MEMO_OPEN)) {
        if (FPK_IS_SURVEYED(e)) {
            return e->state->survey->meet_open_object(e, obj);
        }
        if (e->policy != FPK_MEMO_MARKED) {
            return 0;
        }
        e->restart = true;
        PyErr_SetString(PyExc_RuntimeError,
                        "a cycle needs the dump to start again");
        return -1;
    }
    return fpk_emit_get(e, entry->index) < 0 ? -1 : 1;
}
