/* encoder.c -- the life of an encoder and of one dump.

   Does:      sets up and tears down, runs one dump, and undoes a failed one.
   Owns:      everything in fpk_encoder that is marked owned.
   Invariant: between dumps the stack is empty and the memo names exactly what
              complete dumps wrote.
   Called by: pickler.c, dump.c. */
#include "encode/encoder.h"

#include "base/pages.h"

/* fpk_resize_block with the inside of bytes objects. */
static uint8_t *
resize_bytes_block(uint8_t *block, size_t size)
{
    const size_t header = offsetof(PyBytesObject, ob_sval);
    PyObject *bytes = block == NULL ? NULL : (PyObject *)(block - header);
    if (size == 0) {
        Py_XDECREF(bytes);
        return NULL;
    }
    if (bytes == NULL) {
        bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    }
    else {
        (void)fpk_resize_bytes(&bytes, (Py_ssize_t)size);
    }
    if (bytes == NULL) {
        return NULL;
    }
    fpk_prefer_huge_pages(PyBytes_AS_STRING(bytes), size);
    return (uint8_t *)PyBytes_AS_STRING(bytes);
}

/* Where the C library starts to give large blocks back to the system at once:
   below, a block that is not larger than the one before costs no page faults,
   and they cost more than all else in a stream of large strings. */
#define LARGEST_EXPECTED ((size_t)32 << 20)

/* The next stream is probably no longer than this one, or than one of the last
   few. */
static void
expect_output(fpk_state *state, size_t length)
{
    size_t expected = state->expected_output;
    expected -= expected / 8;
    length += length / 16;
    if (expected < length) {
        expected = length;
    }
    state->expected_output =
        expected < LARGEST_EXPECTED ? expected : LARGEST_EXPECTED;
}

/* A block that is taken may have room behind the content, which the bytes
   object keeps to itself: to give it back would move the block to where the
   next stream finds no room for its own. */
PyObject *
fpk_encoder_take_output(fpk_encoder *e)
{
    fpk_buffer *out = &e->out;
    if (out->data == out->inline_storage) {
        return PyBytes_FromStringAndSize((const char *)out->data,
                                         (Py_ssize_t)out->length);
    }
    size_t length = out->length;
    uint8_t *block = fpk_buffer_take_block(out);
    if (block == NULL) {
        return NULL;
    }
    expect_output(e->state, length);
    PyObject *bytes = (PyObject *)(block - offsetof(PyBytesObject, ob_sval));
    Py_SET_SIZE(bytes, (Py_ssize_t)length);
    block[length] = '\0';
    return bytes;
}

void
fpk_encoder_init(fpk_encoder *e, fpk_state *state)
{
    /* The inline storage is large and need not be cleared. */
    memset(e, 0, offsetof(fpk_encoder, inline_frames));
    e->state = state;
    e->frames = e->inline_frames;
    e->frame_capacity = FPK_INLINE_FRAMES;
    e->memo.first = e->inline_slots;
    e->frame_start = FPK_NO_FRAME;
    e->by_value = true;
    e->fix_imports = true;
    e->protocol = FPK_DEFAULT_PROTOCOL;
    e->bytes_beside = PY_SSIZE_T_MAX;
    fpk_buffer_init(&e->out, e->inline_bytes, sizeof e->inline_bytes,
                    resize_bytes_block);
    e->out.expected = state->expected_output;
}

/* Drops the entries with an index of at least [first]: what was written since
   the memo had that many.  The table is emptied first because a decref can
   run any code. */
static int
forget_from(fpk_encoder *e, uint64_t first)
{
    fpk_memo old = e->memo;
    int status = 0;
    memset(&e->memo, 0, sizeof e->memo);
    if (old.table == NULL) {
        return 0;
    }
    for (size_t i = 0; i <= old.mask; i++) {
        fpk_memo_entry *entry = &old.table[i];
        if (entry->key != NULL && entry->index < first) {
            if (!fpk_memo_set(&e->memo, entry->key, entry->index)) {
                status = -1;
                continue;
            }
            entry->key = NULL;
        }
    }
    for (size_t i = 0; i <= old.mask; i++) {
        Py_XDECREF((PyObject *)old.table[i].key);
    }
    fpk_memo_clear(&old);
    return status;
}

void
fpk_encoder_clear_memo(fpk_encoder *e)
{
    fpk_memo old = e->memo;
    memset(&e->memo, 0, sizeof e->memo);
    for (size_t i = 0, left = old.used; left > 0; i++) {
        if (old.table[i].key != NULL) {
            Py_DECREF((PyObject *)(uintptr_t)old.table[i].key);
            left--;
        }
    }
    fpk_memo_clear(&old);
    e->memo.first = e->inline_slots;
    e->next_index = 0;
    e->state->byvalue->clear(e);
}

static void
drop_frames(fpk_encoder *e)
{
    while (e->depth > 0) {
        fpk_frame frame = e->frames[--e->depth];
        Py_XDECREF(frame.aux);
        Py_DECREF(frame.object);
    }
    Py_CLEAR(e->culprit);
    e->late_open = 0;
    e->reductions = 0;
    e->cycle_probe = NULL;
}

void
fpk_encoder_fini(fpk_encoder *e)
{
    drop_frames(e);
    fpk_encoder_clear_memo(e);
    fpk_buffer_reset(&e->out, sizeof e->inline_bytes);
    if (e->frames != e->inline_frames) {
        PyMem_Free(e->frames);
        e->frames = e->inline_frames;
        e->frame_capacity = FPK_INLINE_FRAMES;
    }
    Py_CLEAR(e->write);
    Py_CLEAR(e->buffer_callback);
    Py_CLEAR(e->buffer_answers);
    Py_CLEAR(e->persistent_id);
    Py_CLEAR(e->reducer_override);
    Py_CLEAR(e->dispatch_table);
    Py_CLEAR(e->main_names);
    Py_CLEAR(e->replaced_globals);
    Py_CLEAR(e->by_value_modules);
    Py_CLEAR(e->equal_texts);
}

int
fpk_encoder_set_protocol(fpk_encoder *e, PyObject *protocol, int fix_imports,
                         PyObject *buffer_callback)
{
    long number = FPK_DEFAULT_PROTOCOL;
    if (protocol != NULL && protocol != Py_None) {
        number = PyLong_AsLong(protocol);
        if (number == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (number < 0) {
            number = FPK_HIGHEST_PROTOCOL;
        }
        else if (number > FPK_HIGHEST_PROTOCOL) {
            PyErr_Format(PyExc_ValueError, "pickle protocol must be <= %d",
                         FPK_HIGHEST_PROTOCOL);
            return -1;
        }
    }
    if (buffer_callback == Py_None) {
        buffer_callback = NULL;
    }
    if (buffer_callback != NULL && number < 5) {
        PyErr_SetString(PyExc_ValueError,
                        "buffer_callback needs protocol >= 5");
        return -1;
    }
    e->protocol = (int)number;
    e->fix_imports = fix_imports && number < 3;
    Py_XSETREF(e->buffer_callback, Py_XNewRef(buffer_callback));
    return 0;
}

int
fpk_encoder_write(fpk_encoder *e, PyObject *root)
{
    e->buffers_met = 0;
    e->state->byvalue->begin_stream(e);
    if (fpk_begin_output(e) < 0) {
        return -1;
    }
    int result = fpk_save(e, root);
    while (result != FPK_ERROR && e->depth > 0) {
        result = fpk_top_frame(e)->advance(e);
        if (result == FPK_DONE) {
            fpk_frame frame = e->frames[--e->depth];
            Py_XDECREF(frame.aux);
            Py_DECREF(frame.object);
        }
    }
    return result == FPK_ERROR ? -1 : fpk_end_output(e);
}

/* What failed halfway is forgotten; the exception stays set. */
static void
undo(fpk_encoder *e, uint64_t first_index)
{
    PyObject *exception = fpk_get_raised_exception();
    drop_frames(e);
    /* Out of memory while filtering: an emptier memo is still a right one. */
    (void)forget_from(e, first_index);
    e->next_index = first_index;
    e->state->byvalue->clear(e);
    e->out.length = 0;
    e->frame_start = FPK_NO_FRAME;
    fpk_set_raised_exception(exception);
}

int
fpk_encoder_dump_once(fpk_encoder *e, PyObject *root)
{
    uint64_t first_index = e->next_index;
    if (fpk_encoder_write(e, root) == 0) {
        return 0;
    }
    if (!e->restart) {
        e->state->add_error_path(e);
        undo(e, first_index);
        return -1;
    }
    assert(e->policy == FPK_MEMO_MARKED && e->write == NULL);
    PyErr_Clear();
    drop_frames(e);
    fpk_encoder_clear_memo(e);
    e->restart = false;
    e->policy = FPK_MEMO_ALL;
    if (fpk_encoder_write(e, root) < 0) {
        e->state->add_error_path(e);
        undo(e, first_index);
        return -1;
    }
    return 0;
}

int
fpk_encoder_dump(fpk_encoder *e, PyObject *root)
{
    return e->deterministic ? fpk_canonical_dump(e, root)
                            : fpk_encoder_dump_once(e, root);
}
