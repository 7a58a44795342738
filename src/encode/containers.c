/* containers.c -- list, tuple, dict, set, frozenset, and what iterators yield.

   Does:      writes a container's opcode, then its items in batches.
   Owns:      nothing beyond the frames.
   Invariant: runs of atoms are written without leaving the loop; an item with
              parts ends the turn, and the frame's position says where to go
              on.  Containers that change their size meanwhile are noticed.
   Called by: driver.c; reduce.c for items of reductions. */
#include "encode/atom_inline.h"

/* True if writing the atom [item] can call the file: a large payload. */
static inline bool
is_large_payload(PyObject *item)
{
    /* A character takes up to four bytes. */
    return (PyUnicode_CheckExact(item) &&
            PyUnicode_GET_LENGTH(item) >= FPK_FRAME_SIZE_TARGET / 4) ||
           (PyBytes_CheckExact(item) &&
            PyBytes_GET_SIZE(item) >= FPK_FRAME_SIZE_TARGET);
}

/* Writes [item] if it is an atom and nothing has to be asked: 1, 0 or -1.  No
   Python code runs: what the caller has borrowed stays valid.  Items before
   which a full frame goes to the file are left to fpk_save. */
static inline int
save_item_atom(fpk_encoder *e, PyObject *item)
{
    if (fpk_put_common_atom(e, item)) {
        return 1;
    }
    if (e->persistent_id != NULL || e->out.length >= e->frame_limit ||
        (e->write != NULL && is_large_payload(item))) {
        return 0;
    }
    return fpk_save_atom(e, item, fpk_needs_memo(e, item));
}

/* ---- list --------------------------------------------------------------- */

/* Between items: opens a batch before an item, closes it when full.  frame->
   slot counts the items of the open batch; a batch of one, when the size is
   one, needs no MARK. */
static int
begin_item(fpk_encoder *e, fpk_frame *frame, enum fpk_opcode close)
{
    if (e->protocol == 0 || frame->size == 1) {
        return 0;
    }
    if (frame->slot == FPK_BATCH_SIZE) {
        if (fpk_emit_op(e, close) < 0) {
            return -1;
        }
        frame->slot = 0;
    }
    return frame->slot == 0 ? fpk_emit_op(e, FPK_OP_MARK) : 0;
}

static int
end_item(fpk_encoder *e, fpk_frame *frame, enum fpk_opcode close_one)
{
    frame->slot++;
    return e->protocol == 0 || frame->size == 1 ? fpk_emit_op(e, close_one)
                                                : 0;
}

static int
end_items(fpk_encoder *e, fpk_frame *frame, enum fpk_opcode close)
{
    return e->protocol == 0 || frame->size == 1 || frame->slot == 0
               ? FPK_DONE
               : fpk_emit_op(e, close);
}

/* A run of common atoms inside an open batch: nothing can change the list
   meanwhile. */
static void
put_atom_run(fpk_encoder *e, fpk_frame *frame)
{
    PyObject *list = frame->object;
    Py_ssize_t i = frame->position;
    Py_ssize_t end = i + FPK_BATCH_SIZE - (Py_ssize_t)frame->slot;
    if (end > PyList_GET_SIZE(list)) {
        end = PyList_GET_SIZE(list);
    }
    while (i < end && fpk_put_common_atom(e, PyList_GET_ITEM(list, i))) {
        i++;
    }
    frame->slot += (uint64_t)(i - frame->position);
    frame->position = i;
}

/* step 1: the item at position - 1 was written by a frame of its own. */
static int
advance_list(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *list = frame->object;
    if (frame->step == 1) {
        frame->step = 0;
        if (end_item(e, frame, FPK_OP_APPEND) < 0) {
            return FPK_ERROR;
        }
    }
    while (frame->position < PyList_GET_SIZE(list)) {
        if (begin_item(e, frame, FPK_OP_APPENDS) < 0) {
            return FPK_ERROR;
        }
        if (frame->size > 1 && e->protocol >= 4) {
            Py_ssize_t before = frame->position;
            put_atom_run(e, frame);
            if (frame->position > before) {
                continue;
            }
        }
        PyObject *item = PyList_GET_ITEM(list, frame->position++);
        int atom = save_item_atom(e, item);
        if (atom == 0) {
            frame->step = 1;
            int result = fpk_save(e, item);
            if (result != FPK_DONE) {
                return result;
            }
            frame->step = 0;
        }
        if (atom < 0 || end_item(e, frame, FPK_OP_APPEND) < 0) {
            return FPK_ERROR;
        }
    }
    return end_items(e, frame, FPK_OP_APPENDS);
}

static int
emit_empty(fpk_encoder *e, enum fpk_opcode empty, enum fpk_opcode build)
{
    if (e->protocol >= 1) {
        return fpk_emit_op(e, empty);
    }
    return fpk_emit_op(e, FPK_OP_MARK) < 0 ? FPK_ERROR : fpk_emit_op(e, build);
}

int
fpk_save_list(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (emit_empty(e, FPK_OP_EMPTY_LIST, FPK_OP_LIST) < 0 ||
        (shared && fpk_memoize(e, obj) < 0)) {
        return FPK_ERROR;
    }
    Py_ssize_t size = PyList_GET_SIZE(obj);
    if (size == 0) {
        return FPK_DONE;
    }
    Py_ssize_t written = 0;
    if (size > 1 && size <= FPK_BATCH_SIZE) {
        if (fpk_emit_op(e, FPK_OP_MARK) < 0) {
            return FPK_ERROR;
        }
        while (written < size &&
               fpk_put_common_atom(e, PyList_GET_ITEM(obj, written))) {
            written++;
        }
        if (written == size) {
            return fpk_emit_op(e, FPK_OP_APPENDS);
        }
        if (written == 0) {
            e->out.length--; /* the frame opens the batch */
        }
    }
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_LIST, advance_list, obj, NULL);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->size = size;
    frame->position = written;
    frame->slot = (uint64_t)written;
    return FPK_MORE;
}

/* ---- tuple -------------------------------------------------------------- */

static int
emit_tuple_opcode(fpk_encoder *e, Py_ssize_t size)
{
    if (size <= 3 && e->protocol >= 2) {
        return fpk_emit_tuple(e, (int)size);
    }
    return fpk_emit_op(e, FPK_OP_TUPLE);
}

/* A cycle has built the tuple: drop the parts and fetch it. */
static int
fetch_built_tuple(fpk_encoder *e, PyObject *tuple, Py_ssize_t size)
{
    if (size > 3 && e->protocol >= 1) {
        if (fpk_emit_op(e, FPK_OP_POP_MARK) < 0) {
            return FPK_ERROR;
        }
    }
    else {
        Py_ssize_t pops = size + (e->protocol >= 2 ? 0 : 1);
        for (Py_ssize_t i = 0; i < pops; i++) {
            if (fpk_emit_op(e, FPK_OP_POP) < 0) {
                return FPK_ERROR;
            }
        }
    }
    return fpk_emit_get_if_saved(e, tuple) == 1 ? FPK_DONE : FPK_ERROR;
}

/* The items are on the stack; they were written from offset [start] on. */
static int
build_tuple(fpk_encoder *e, PyObject *tuple, Py_ssize_t size, bool shared,
            size_t start)
{
    if (shared && e->canonical != NULL) {
        int merged = fpk_canonical_merge(e, tuple, start);
        if (merged != 0) {
            return merged < 0 ? FPK_ERROR : FPK_DONE;
        }
    }
    if (emit_tuple_opcode(e, size) < 0) {
        return FPK_ERROR;
    }
    return shared ? fpk_memoize(e, tuple) : FPK_DONE;
}

static int
finish_tuple(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *tuple = frame->object;
    Py_ssize_t size = frame->size;
    bool shared = frame->shared;
    size_t start = (size_t)frame->slot;
    return fpk_close_late(e) ? fetch_built_tuple(e, tuple, size)
                             : build_tuple(e, tuple, size, shared, start);
}

static int
advance_tuple(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *tuple = frame->object;
    while (frame->position < PyTuple_GET_SIZE(tuple)) {
        PyObject *item = PyTuple_GET_ITEM(tuple, frame->position++);
        int atom = save_item_atom(e, item);
        if (atom == 0) {
            int result = fpk_save(e, item);
            if (result != FPK_DONE) {
                return result;
            }
        }
        if (atom < 0) {
            return FPK_ERROR;
        }
    }
    return finish_tuple(e);
}

static int
push_tuple(fpk_encoder *e, PyObject *tuple, Py_ssize_t position,
           Py_ssize_t size, bool shared, size_t start)
{
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_TUPLE, advance_tuple, tuple, NULL);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->position = position;
    frame->size = size;
    frame->shared = shared;
    frame->slot = start;
    return fpk_open_late(e) < 0 ? FPK_ERROR : FPK_MORE;
}

static int
begin_tuple(fpk_encoder *e, Py_ssize_t size)
{
    return size > 3 || e->protocol < 2 ? fpk_emit_op(e, FPK_OP_MARK)
                                       : FPK_DONE;
}

static int
save_empty_tuple(fpk_encoder *e)
{
    return emit_empty(e, FPK_OP_EMPTY_TUPLE, FPK_OP_TUPLE);
}

/* Atoms are written on the spot; the first item with parts moves the rest into
   a frame. */
static int
write_tuple_items(fpk_encoder *e, PyObject *obj, Py_ssize_t first,
                    bool shared)
{
    Py_ssize_t length = PyTuple_GET_SIZE(obj);
    Py_ssize_t size = length - first;
    if (size <= 0) {
        return save_empty_tuple(e);
    }
    size_t start = e->out.length;
    if (begin_tuple(e, size) < 0) {
        return FPK_ERROR;
    }
    Py_ssize_t i = first;
    for (; i < length; i++) {
        int atom = save_item_atom(e, PyTuple_GET_ITEM(obj, i));
        if (atom < 0) {
            return FPK_ERROR;
        }
        if (atom == 0) {
            break;
        }
    }
    return i == length ? build_tuple(e, obj, size, shared, start)
                       : push_tuple(e, obj, i, size, shared, start);
}

int
fpk_save_tuple(fpk_encoder *e, PyObject *obj, bool shared)
{
    return write_tuple_items(e, obj, 0, shared);
}

int
fpk_save_tuple_tail(fpk_encoder *e, PyObject *tuple, Py_ssize_t first)
{
    return write_tuple_items(e, tuple, first, false);
}

/* ---- dict --------------------------------------------------------------- */

enum { DICT_NEXT_PAIR, DICT_KEY_WRITTEN, DICT_VALUE_WRITTEN };

/* The pair at frame->position stays the current one until its value is
   written: position moves on only then. */
static int
advance_dict(fpk_encoder *e)
{
    fpk_frame *frame = fpk_top_frame(e);
    PyObject *dict = frame->object;
    Py_ssize_t next = frame->position;
    PyObject *key, *value;

    if (frame->step != DICT_NEXT_PAIR &&
        PyDict_GET_SIZE(dict) != frame->size) {
        goto changed;
    }
    if (frame->step == DICT_KEY_WRITTEN) {
        if (!PyDict_Next(dict, &next, &key, &value) || key != frame->aux) {
            goto changed;
        }
        goto key_written;
    }
    if (frame->step == DICT_VALUE_WRITTEN) {
        /* As large as before, and yet another dict: the pair can be gone. */
        if (!PyDict_Next(dict, &frame->position, &key, &value)) {
            goto changed;
        }
        if (end_item(e, frame, FPK_OP_SETITEM) < 0) {
            return FPK_ERROR;
        }
        next = frame->position;
    }
    frame->step = DICT_NEXT_PAIR;
    while (PyDict_Next(dict, &next, &key, &value)) {
        if (begin_item(e, frame, FPK_OP_SETITEMS) < 0) {
            return FPK_ERROR;
        }
        int atom = save_item_atom(e, key);
        if (atom == 0) {
            size_t here = e->depth - 1;
            frame->step = DICT_KEY_WRITTEN;
            int result = fpk_save(e, key);
            if (result == FPK_MORE) {
                /* Only now: a reference of ours would make it look shared. */
                Py_XSETREF(e->frames[here].aux, Py_NewRef(key));
            }
            if (result != FPK_DONE) {
                return result;
            }
            PyObject *written = key;
            next = frame->position;
            if (PyDict_GET_SIZE(dict) != frame->size ||
                !PyDict_Next(dict, &next, &key, &value) || key != written) {
                goto changed;
            }
        }
        if (atom < 0) {
            return FPK_ERROR;
        }
    key_written:
        atom = save_item_atom(e, value);
        if (atom == 0) {
            if (frame->aux != key) {
                Py_XSETREF(frame->aux, Py_NewRef(key));
                /* The old key can have been the last of its kind, and its
                   end may have run any code. */
                if (PyDict_GET_SIZE(dict) != frame->size) {
                    goto changed;
                }
                next = frame->position;
                if (!PyDict_Next(dict, &next, &key, &value) ||
                    key != frame->aux) {
                    goto changed;
                }
            }
            frame->step = DICT_VALUE_WRITTEN;
            int result = fpk_save(e, value);
            if (result != FPK_DONE) {
                return result;
            }
            return FPK_MORE;
        }
        if (atom < 0) {
            return FPK_ERROR;
        }
        frame->position = next;
        if (end_item(e, frame, FPK_OP_SETITEM) < 0) {
            return FPK_ERROR;
        }
    }
    return end_items(e, frame, FPK_OP_SETITEMS);
changed:
    PyErr_SetString(PyExc_RuntimeError,
                    "dictionary changed size during iteration");
    return FPK_ERROR;
}

int
fpk_save_dict(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (emit_empty(e, FPK_OP_EMPTY_DICT, FPK_OP_DICT) < 0 ||
        (shared && fpk_memoize(e, obj) < 0)) {
        return FPK_ERROR;
    }
    Py_ssize_t size = PyDict_GET_SIZE(obj);
    if (size == 0) {
        return FPK_DONE;
    }
    fpk_frame *frame =
        fpk_push_frame(e, FPK_FRAME_DICT, advance_dict, obj, NULL);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->size = size;
    return FPK_MORE;
}

/* ---- set, frozenset ----------------------------------------------------- */

/* Writes what frame->aux yields until an item has parts: FPK_DONE at the end.
   The iterator's own reference is given back at once, so that the set's alone
   tells whether the item is shared. */
static int
advance_set_items(fpk_encoder *e, enum fpk_opcode close)
{
    fpk_frame *frame = fpk_top_frame(e);
    for (;;) {
        PyObject *item = PyIter_Next(frame->aux);
        if (item == NULL) {
            return PyErr_Occurred() ? FPK_ERROR : FPK_DONE;
        }
        Py_DECREF(item); /* borrowed from the set, which the frame owns */
        if (close == FPK_OP_ADDITEMS) {
            if (begin_item(e, frame, close) < 0) {
                return FPK_ERROR;
            }
            frame->slot++;
        }
        int atom = save_item_atom(e, item);
        if (atom > 0) {
            continue;
        }
        int result = atom < 0 ? FPK_ERROR : fpk_save(e, item);
        if (result != FPK_DONE) {
            return result;
        }
        frame = fpk_top_frame(e);
    }
}

static int
advance_set(fpk_encoder *e)
{
    int result = advance_set_items(e, FPK_OP_ADDITEMS);
    if (result != FPK_DONE) {
        return result;
    }
    return fpk_top_frame(e)->slot == 0 ? FPK_DONE
                                       : fpk_emit_op(e, FPK_OP_ADDITEMS);
}

static int
advance_frozenset(fpk_encoder *e)
{
    int result = advance_set_items(e, FPK_OP_FROZENSET);
    if (result != FPK_DONE) {
        return result;
    }
    PyObject *set = fpk_top_frame(e)->object;
    bool shared = fpk_top_frame(e)->shared;
    size_t start = (size_t)fpk_top_frame(e)->slot;
    if (fpk_close_late(e)) {
        if (fpk_emit_op(e, FPK_OP_POP_MARK) < 0) {
            return FPK_ERROR;
        }
        return fpk_emit_get_if_saved(e, set) == 1 ? FPK_DONE : FPK_ERROR;
    }
    if (e->canonical != NULL) {
        int merged = fpk_canonical_merge(e, set, start);
        if (merged != 0) {
            return merged < 0 ? FPK_ERROR : FPK_DONE;
        }
    }
    if (fpk_emit_op(e, FPK_OP_FROZENSET) < 0) {
        return FPK_ERROR;
    }
    return shared ? fpk_memoize(e, set) : FPK_DONE;
}

static PyObject *
list_items(fpk_encoder *e, PyObject *set)
{
    return e->canonical != NULL ? fpk_canonical_items(e, set)
                                : PySequence_List(set);
}

/* Below protocol 4 a set is a call of its type with a list. */
static int
save_set_by_call(fpk_encoder *e, PyObject *obj, bool shared)
{
    PyObject *items = list_items(e, obj);
    if (items == NULL) {
        return FPK_ERROR;
    }
    PyObject *value = Py_BuildValue("(O(N))", Py_TYPE(obj), items);
    return value == NULL ? FPK_ERROR : fpk_save_reduced(e, obj, value, shared);
}

static fpk_frame *
push_set(fpk_encoder *e, PyObject *obj, fpk_advance advance)
{
    PyObject *items = e->canonical == NULL ? Py_NewRef(obj)
                                           : fpk_canonical_items(e, obj);
    PyObject *iterator = items == NULL ? NULL : PyObject_GetIter(items);
    Py_XDECREF(items);
    if (iterator == NULL) {
        return NULL;
    }
    return fpk_push_frame(e, FPK_FRAME_SET, advance, obj, iterator);
}

int
fpk_save_set(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (e->protocol < 4) {
        return save_set_by_call(e, obj, shared);
    }
    if (fpk_emit_op(e, FPK_OP_EMPTY_SET) < 0 ||
        (shared && fpk_memoize(e, obj) < 0)) {
        return FPK_ERROR;
    }
    if (PySet_GET_SIZE(obj) == 0) {
        return FPK_DONE;
    }
    return push_set(e, obj, advance_set) == NULL ? FPK_ERROR : FPK_MORE;
}

int
fpk_save_frozenset(fpk_encoder *e, PyObject *obj, bool shared)
{
    if (e->protocol < 4) {
        return save_set_by_call(e, obj, shared);
    }
    size_t start = e->out.length;
    if (fpk_emit_op(e, FPK_OP_MARK) < 0) {
        return FPK_ERROR;
    }
    fpk_frame *frame = push_set(e, obj, advance_frozenset);
    if (frame == NULL) {
        return FPK_ERROR;
    }
    frame->shared = shared;
    frame->slot = start;
    return fpk_open_late(e) < 0 ? FPK_ERROR : FPK_MORE;
}

/* ---- what iterators yield ----------------------------------------------- */

/* Looks one item ahead, to know a batch of one.  frame->aux is the item to
   write, frame->size 1 if it is the only one. */
static int
advance_items(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        if (frame->step == 1) {
            frame->step = 0;
            if (end_item(e, frame, FPK_OP_APPEND) < 0) {
                return FPK_ERROR;
            }
        }
        if (frame->aux == NULL) {
            return end_items(e, frame, FPK_OP_APPENDS);
        }
        PyObject *item = frame->aux;
        frame->aux = PyIter_Next(frame->object);
        if (frame->aux == NULL && PyErr_Occurred()) {
            Py_DECREF(item);
            return FPK_ERROR;
        }
        if (frame->position++ == 0 && frame->aux == NULL) {
            frame->size = 1;
        }
        frame->step = 1;
        int result = begin_item(e, frame, FPK_OP_APPENDS);
        if (result == FPK_DONE) {
            result = fpk_save(e, item);
        }
        Py_DECREF(item);
        if (result != FPK_DONE) {
            return result;
        }
    }
}

int
fpk_save_items(fpk_encoder *e, PyObject *iterator)
{
    PyObject *first = PyIter_Next(iterator);
    if (first == NULL) {
        return PyErr_Occurred() ? FPK_ERROR : FPK_DONE;
    }
    return fpk_push_frame(e, FPK_FRAME_ITEMS, advance_items, iterator,
                          first) == NULL
               ? FPK_ERROR
               : FPK_MORE;
}

enum { PAIRS_NEXT, PAIRS_KEY_WRITTEN, PAIRS_VALUE_WRITTEN };

static PyObject *
next_pair(fpk_encoder *e, PyObject *iterator)
{
    PyObject *pair = PyIter_Next(iterator);
    if (pair != NULL &&
        (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)) {
        Py_DECREF(pair);
        PyErr_SetString(PyExc_TypeError,
                        "dict items iterator must return 2-tuples");
        return NULL;
    }
    return pair;
}

/* frame->aux is the pair being written.  The iterator of a dict reuses its
   tuple while nobody else holds it, so a pair is released before the next is
   asked for. */
static int
advance_pairs(fpk_encoder *e)
{
    for (;;) {
        fpk_frame *frame = fpk_top_frame(e);
        int result;
        if (frame->step == PAIRS_NEXT) {
            frame->step = PAIRS_KEY_WRITTEN;
            if (begin_item(e, frame, FPK_OP_SETITEMS) < 0) {
                return FPK_ERROR;
            }
            result = fpk_save(e, PyTuple_GET_ITEM(frame->aux, 0));
            if (result != FPK_DONE) {
                return result;
            }
        }
        frame = fpk_top_frame(e);
        if (frame->step == PAIRS_KEY_WRITTEN) {
            frame->step = PAIRS_VALUE_WRITTEN;
            result = fpk_save(e, PyTuple_GET_ITEM(frame->aux, 1));
            if (result != FPK_DONE) {
                return result;
            }
        }
        frame = fpk_top_frame(e);
        frame->step = PAIRS_NEXT;
        frame->position++;
        if (end_item(e, frame, FPK_OP_SETITEM) < 0) {
            return FPK_ERROR;
        }
        Py_CLEAR(frame->aux);
        frame->aux = next_pair(e, frame->object);
        if (frame->aux == NULL) {
            return PyErr_Occurred() ? FPK_ERROR
                                    : end_items(e, frame, FPK_OP_SETITEMS);
        }
    }
}

int
fpk_save_pairs(fpk_encoder *e, PyObject *iterator)
{
    PyObject *first = next_pair(e, iterator);
    if (first == NULL) {
        return PyErr_Occurred() ? FPK_ERROR : FPK_DONE;
    }
    return fpk_push_frame(e, FPK_FRAME_PAIRS, advance_pairs, iterator,
                          first) == NULL
               ? FPK_ERROR
               : FPK_MORE;
}
