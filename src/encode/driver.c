/* driver.c -- which writer an object goes to, and the stack of open frames.

   Does:      dispatches on the exact type, in the order of the standard
              pickler: persistent id, atoms, memo, containers,
              reducer_override, classes and functions, everything else.
   Owns:      the frames on the stack.
   Invariant: an object whose part is being written has its frame below the
              part's; fpk_save never calls itself, however deep the data.
   Called by: every writer, for each part it has; encoder.c for the root. */
#include "encode/encoder.h"

/* In fast mode there is no memo to meet a cycle in.  Brent's method: a probe
   waits at a depth that doubles; a cycle leads back to the object it holds.
   Objects that are not too deep are not looked at, as in the standard
   module. */
#define FAST_NESTING_UNCHECKED 50

static int
check_fast_cycle(fpk_encoder *e, PyObject *obj)
{
    size_t depth = e->depth;
    if (depth <= FAST_NESTING_UNCHECKED) {
        e->cycle_probe = NULL;
        return 0;
    }
    if (e->cycle_probe != NULL && depth <= e->cycle_probe_depth) {
        e->cycle_probe = NULL;
    }
    if (obj == e->cycle_probe) {
        PyErr_Format(PyExc_ValueError,
                     "fast mode: can't pickle cyclic objects including object "
                     "type %.200s at %p",
                     Py_TYPE(obj)->tp_name, obj);
        return -1;
    }
    if (e->cycle_probe == NULL || depth >= 2 * e->cycle_probe_depth) {
        e->cycle_probe = obj;
        e->cycle_probe_depth = depth;
    }
    return 0;
}

static int
grow_frames(fpk_encoder *e)
{
    size_t capacity = e->frame_capacity * 2;
    fpk_frame *frames;
    if (capacity > (size_t)PY_SSIZE_T_MAX / sizeof *frames) {
        PyErr_NoMemory();
        return -1;
    }
    if (e->frames == e->inline_frames) {
        frames = PyMem_Malloc(capacity * sizeof *frames);
        if (frames != NULL) {
            memcpy(frames, e->frames, e->depth * sizeof *frames);
        }
    }
    else {
        frames = PyMem_Realloc(e->frames, capacity * sizeof *frames);
    }
    if (frames == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    e->frames = frames;
    e->frame_capacity = capacity;
    return 0;
}

fpk_frame *
fpk_push_frame(fpk_encoder *e, uint8_t kind, fpk_advance advance,
               PyObject *object, PyObject *aux)
{
    if ((e->fast && check_fast_cycle(e, object) < 0) ||
        (e->depth == e->frame_capacity && grow_frames(e) < 0)) {
        Py_XDECREF(aux);
        return NULL;
    }
    fpk_frame *frame = &e->frames[e->depth++];
    memset(frame, 0, sizeof *frame);
    frame->kind = kind;
    frame->advance = advance;
    frame->object = Py_NewRef(object);
    frame->aux = aux;
    return frame;
}

int
fpk_count_reduction(fpk_encoder *e)
{
    if (++e->reductions > FPK_MAX_REDUCTIONS) {
        PyErr_SetString(PyExc_RecursionError,
                        "reductions nest too deep: does __reduce__ or "
                        "__getstate__ make new objects without end?");
        return -1;
    }
    return 0;
}

int
fpk_open_late(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (!frame->shared || e->fast) {
        return FPK_DONE;
    }
    if (e->policy == FPK_MEMO_CAREFUL) {
        frame->late = true;
        e->late_open++;
    }
    fpk_memo_entry *entry = fpk_memo_find(&e->memo, frame->object);
    if (entry == NULL) {
        if (!fpk_memo_set(&e->memo, frame->object, FPK_MEMO_OPEN)) {
            PyErr_NoMemory();
            return FPK_ERROR;
        }
        Py_INCREF(frame->object);
    }
    else if (entry->index >= FPK_MEMO_OPEN &&
             entry->index++ == FPK_MEMO_OPEN + FPK_MOST_REENTRIES) {
        entry->index--;
        PyErr_Format(PyExc_RecursionError,
                     "cannot pickle a %.200s object whose parts lead back to "
                     "it before it can be built",
                     Py_TYPE(frame->object)->tp_name);
        return FPK_ERROR;
    }
    return FPK_DONE;
}

int
fpk_close_late(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (frame->late) {
        frame->late = false;
        e->late_open--;
    }
    if (!frame->shared) {
        return 0;
    }
    const fpk_memo_entry *entry = fpk_memo_find(&e->memo, frame->object);
    return entry != NULL && entry->index < FPK_MEMO_OPEN;
}

/* ---- persistent ids ----------------------------------------------------- */

static int
advance_persid(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    if (frame->step == 0) {
        frame->step = 1;
        int result = fpk_save_without_persid(e, frame->aux);
        if (result != FPK_DONE) {
            return result;
        }
    }
    return fpk_emit_op(e, FPK_OP_BINPERSID);
}

static int
save_persid(fpk_encoder *e, PyObject *obj, PyObject *pid)
{
    if (e->protocol >= 1) {
        /* The frame owns the pid from here on. */
        return fpk_push_frame(e, FPK_FRAME_PERSID, advance_persid, obj, pid) ==
                       NULL
                   ? FPK_ERROR
                   : FPK_MORE;
    }
    int status = FPK_ERROR;
    PyObject *text = PyObject_Str(pid);
    if (text == NULL) {
        goto done;
    }
    if (!PyUnicode_IS_ASCII(text)) {
        PyErr_SetString(e->state->PicklingError,
                        "persistent IDs in protocol 0 must be ASCII strings");
        goto done;
    }
    size_t size = (size_t)PyUnicode_GET_LENGTH(text);
    if (!fpk_reserve(e, size + 2)) {
        goto done;
    }
    fpk_put_byte(e, FPK_OP_PERSID);
    fpk_put_bytes(e, PyUnicode_1BYTE_DATA(text), size);
    fpk_put_byte(e, '\n');
    status = FPK_DONE;
done:
    Py_XDECREF(text);
    Py_DECREF(pid);
    return status;
}

/* ---- the dispatch ------------------------------------------------------- */

/* Bytes that are no atom. */
static int
emit_called_bytes(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (e->protocol >= 3) {
        return fpk_emit_beside(e, obj, shared);
    }
    PyObject *value = fpk_reduce_bytes(e, obj);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, shared);
}

/* Everything that is no atom.  The caller's edge to [obj] may go away as soon
   as Python code runs. */
static int
save_compound(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyTypeObject *type = Py_TYPE(obj);
    FPK_NOTE_START(e);
    if (shared) {
        int found = fpk_emit_get_if_saved(e, obj);
        if (found != 0) {
            return found < 0 ? FPK_ERROR : FPK_DONE;
        }
    }
    if (type == &PyDict_Type) {
        return fpk_save_dict(e, obj, shared);
    }
    if (type == &PyList_Type) {
        return fpk_save_list(e, obj, shared);
    }
    if (type == &PyTuple_Type) {
        return fpk_save_tuple(e, obj, shared);
    }
    /* A weak reference is an edge that is not counted. */
    shared = shared || fpk_has_weakrefs(obj);
    int status;
    Py_INCREF(obj);
    if (type == &PyBytes_Type) {
        status = emit_called_bytes(e, obj, shared);
    }
    else if (type == &PySet_Type) {
        status = fpk_save_set(e, obj, shared);
    }
    else if (type == &PyFrozenSet_Type) {
        status = fpk_save_frozenset(e, obj, shared);
    }
    else if (type == &PyByteArray_Type) {
        status = fpk_save_bytearray(e, obj, shared);
    }
    else if (type == &PyPickleBuffer_Type) {
        status = fpk_save_buffer(e, obj, shared);
    }
    else {
        status = fpk_save_object(e, obj, shared);
    }
    if (FPK_UNLIKELY(status == FPK_ERROR)) {
        if (FPK_IS_SURVEYED(e)) {
            status = e->state->survey->forgive_object(e, obj);
        }
        else if (e->culprit == NULL) {
            e->culprit = Py_NewRef(obj);
        }
    }
    Py_DECREF(obj);
    return status;
}

static inline int
write_in_frame(fpk_encoder *e, PyObject *obj, bool shared)
{
    int atom = fpk_save_atom(e, obj, shared);
    if (atom != 0) {
        return atom < 0 ? FPK_ERROR : FPK_DONE;
    }
    return save_compound(e, obj, shared);
}

/* The frame is full.  The file gets it now, and its write method may take away
   the edge that leads to [obj]. */
static int
write_in_next_frame(fpk_encoder *e, PyObject *obj, bool shared)
{
    Py_INCREF(obj);
    int result = fpk_end_frame(e) < 0 ? FPK_ERROR
                                      : write_in_frame(e, obj, shared);
    Py_DECREF(obj);
    return result;
}

static inline int
save(fpk_encoder *e, PyObject *obj, bool shared)
{
    return FPK_LIKELY(e->out.length < e->frame_limit)
               ? write_in_frame(e, obj, shared)
               : write_in_next_frame(e, obj, shared);
}

/* 1 if persistent_id claimed [obj], 0 if not. */
static int
ask_persistent_id(fpk_encoder *e, PyObject *obj, int *result)
{
    Py_INCREF(obj);
    PyObject *pid = PyObject_CallOneArg(e->persistent_id, obj);
    if (pid == NULL) {
        *result = FPK_ERROR;
    }
    else if (pid == Py_None) {
        Py_DECREF(pid);
        Py_DECREF(obj);
        return 0;
    }
    else {
        *result = save_persid(e, obj, pid);
    }
    Py_DECREF(obj);
    return 1;
}

int
fpk_save(fpk_encoder *e, PyObject *obj)
{
    if (FPK_UNLIKELY(e->persistent_id != NULL)) {
        int result;
        /* Foreign code may take away the edge that leads here. */
        Py_INCREF(obj);
        if (!ask_persistent_id(e, obj, &result)) {
            result = save(e, obj, true);
        }
        Py_DECREF(obj);
        return result;
    }
    return save(e, obj, fpk_needs_memo(e, obj));
}

int
fpk_save_shared(fpk_encoder *e, PyObject *obj)
{
    int result;
    if (e->persistent_id != NULL && ask_persistent_id(e, obj, &result)) {
        return result;
    }
    return save(e, obj, true);
}

int
fpk_save_without_persid(fpk_encoder *e, PyObject *obj)
{
    return save(e, obj, true);
}
