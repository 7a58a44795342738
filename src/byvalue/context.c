/* context.c -- what by-value pickling remembers during a dump.

   Does:      keeps the context of an encoder, its memo entries in fast mode,
              and the opcodes that differ between protocols.
   Owns:      fpk_context and every reference in it.
   Invariant: no context without need: a dump of plain data has none.
   Called by: all of byvalue; encoder.c through the table. */
#include "base/bytes.h"
#include "byvalue/room.h"

#include <stdio.h>

/* ---- life --------------------------------------------------------------- */

fpk_context *
fpk_get_context(fpk_encoder *e)
{
    if (e->byvalue == NULL) {
        if (e->isolated && !e->fast && e->equal_texts == NULL &&
            (e->equal_texts = PyDict_New()) == NULL) {
            return NULL;
        }
        fpk_context *c = PyMem_Calloc(1, sizeof *c);
        if (c == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        c->registry = FPK_UNWRITTEN;
        for (int i = 0; i < FPK_REGISTRY_METHODS; i++) {
            c->registry_methods[i] = FPK_UNWRITTEN;
        }
        for (int i = 0; i < FPK_SOURCE_INDICES; i++) {
            c->source_indices[i] = FPK_UNWRITTEN;
        }
        e->byvalue = c;
    }
    return e->byvalue;
}

/* Releases the keys of [m] and clears it.  The table is taken away first: a
   decref can run any code. */
static void
release_keys(fpk_memo *m)
{
    fpk_memo old = *m;
    memset(m, 0, sizeof *m);
    for (size_t i = 0; old.table != NULL && i <= old.mask; i++) {
        Py_XDECREF((PyObject *)old.table[i].key);
    }
    fpk_memo_clear(&old);
}

void
fpk_byvalue_clear(fpk_encoder *e)
{
    fpk_context *c = e->byvalue;
    if (c == NULL) {
        return;
    }
    e->byvalue = NULL;
    Py_CLEAR(e->equal_texts);
    for (size_t i = 0; i < c->namespace_count; i++) {
        release_keys(&c->namespaces[i].names);
        Py_DECREF(c->namespaces[i].dict);
    }
    for (size_t i = 0; i < c->job_count; i++) {
        fpk_clear_class_job(&c->jobs[i]);
    }
    fpk_memo_clear(&c->namespace_of);
    fpk_memo_clear(&c->parts_due);
    release_keys(&c->fast_memo);
    release_keys(&c->stand_ins);
    Py_XDECREF(c->missing_modules);
    Py_XDECREF(c->names_of_modules);
    Py_XDECREF(c->sources);
    PyMem_Free(c->namespaces);
    PyMem_Free(c->jobs);
    PyMem_Free(c);
}

void
fpk_byvalue_begin_stream(fpk_encoder *e)
{
    fpk_context *c = e->byvalue;
    if (c == NULL) {
        return;
    }
    if (e->fast) {
        fpk_byvalue_clear(e);
        return;
    }
    c->guarded = false;
    c->searches = 0;
    Py_CLEAR(c->names_of_modules);
}

/* ---- memo entries ------------------------------------------------------- */

/* PUT with an explicit index: right whatever memo the reader has already. */
static int
put_explicitly(fpk_encoder *e, uint64_t index)
{
    uint8_t op[32];
    size_t size;
    if (e->protocol == 0) {
        size = (size_t)snprintf((char *)op, sizeof op, "p%llu\n",
                                (unsigned long long)index);
    }
    else if (index < 256) {
        op[0] = FPK_OP_BINPUT;
        op[1] = (uint8_t)index;
        size = 2;
    }
    else if (index <= UINT32_MAX) {
        op[0] = FPK_OP_LONG_BINPUT;
        fpk_store_le32(op + 1, (uint32_t)index);
        size = 5;
    }
    else {
        PyErr_SetString(e->state->PicklingError,
                        "memo id too large for LONG_BINPUT");
        return FPK_ERROR;
    }
    return fpk_emit_raw(e, op, size);
}

int
fpk_remember_anonymous(fpk_encoder *e, uint64_t *index)
{
    if (!e->fast) {
        return fpk_memoize_anonymous(e, index);
    }
    fpk_context *c = fpk_get_context(e);
    if (c == NULL) {
        return FPK_ERROR;
    }
    *index = c->fast_index++;
    return put_explicitly(e, *index);
}

int
fpk_remember(fpk_encoder *e, PyObject *obj)
{
    if (!e->fast) {
        return fpk_memoize(e, obj);
    }
    uint64_t index;
    if (fpk_remember_anonymous(e, &index) < 0) {
        return FPK_ERROR;
    }
    fpk_context *c = e->byvalue;
    bool is_new = fpk_memo_find(&c->fast_memo, obj) == NULL;
    if (!fpk_memo_set(&c->fast_memo, obj, index)) {
        PyErr_NoMemory();
        return FPK_ERROR;
    }
    if (is_new) {
        Py_INCREF(obj);
    }
    return FPK_DONE;
}

int
fpk_recall(fpk_encoder *e, PyObject *obj)
{
    if (!e->fast) {
        return fpk_emit_get_if_saved(e, obj);
    }
    const fpk_context *c = e->byvalue;
    const fpk_memo_entry *entry =
        c == NULL ? NULL : fpk_memo_find(&c->fast_memo, obj);
    if (entry == NULL) {
        return 0;
    }
    return fpk_emit_get(e, entry->index) < 0 ? -1 : 1;
}

bool
fpk_can_recall(const fpk_encoder *e, PyObject *obj)
{
    const fpk_context *c = e->byvalue;
    const fpk_memo_entry *entry = !e->fast ? fpk_memo_find(&e->memo, obj)
                                  : c != NULL
                                      ? fpk_memo_find(&c->fast_memo, obj)
                                      : NULL;
    return entry != NULL && entry->index < FPK_MEMO_OPEN;
}

/* ---- parts that are due ------------------------------------------------- */

int
fpk_mark_due(fpk_encoder *e, PyObject *obj)
{
    fpk_context *c = fpk_get_context(e);
    if (c == NULL) {
        return -1;
    }
    if (!fpk_memo_set(&c->parts_due, obj, 1)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

bool
fpk_is_due(fpk_encoder *e, PyObject *obj)
{
    const fpk_context *c = e->byvalue;
    const fpk_memo_entry *entry =
        c == NULL ? NULL : fpk_memo_find(&c->parts_due, obj);
    return entry != NULL && entry->index == 1;
}

bool
fpk_take_due(fpk_encoder *e, PyObject *obj)
{
    fpk_context *c = e->byvalue;
    fpk_memo_entry *entry =
        c == NULL ? NULL : fpk_memo_find(&c->parts_due, obj);
    if (entry == NULL || entry->index == 0) {
        return false;
    }
    entry->index = 0;
    return true;
}

/* ---- opcodes ------------------------------------------------------------ */

int
fpk_emit_empty_dict(fpk_encoder *e)
{
    return e->protocol >= 1 ? fpk_emit_op(e, FPK_OP_EMPTY_DICT)
                            : fpk_emit_raw(e, "(d", 2);
}

int
fpk_emit_empty_tuple(fpk_encoder *e)
{
    return e->protocol >= 1 ? fpk_emit_op(e, FPK_OP_EMPTY_TUPLE)
                            : fpk_emit_raw(e, "(t", 2);
}

int
fpk_begin_tuple(fpk_encoder *e, Py_ssize_t n)
{
    return n > 3 || (n > 0 && e->protocol < 2) ? fpk_emit_op(e, FPK_OP_MARK)
                                               : FPK_DONE;
}

int
fpk_end_tuple(fpk_encoder *e, Py_ssize_t n)
{
    if (n == 0) {
        return fpk_emit_empty_tuple(e);
    }
    return n > 3 ? fpk_emit_op(e, FPK_OP_TUPLE) : fpk_emit_tuple(e, (int)n);
}

int
fpk_begin_attribute(fpk_encoder *e)
{
    if (fpk_begin_tuple(e, 2) < 0 || fpk_emit_op(e, FPK_OP_NONE) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_empty_dict(e);
}

int
fpk_end_attribute(fpk_encoder *e)
{
    if (fpk_emit_op(e, FPK_OP_SETITEM) < 0 || fpk_end_tuple(e, 2) < 0) {
        return FPK_ERROR;
    }
    return fpk_emit_op(e, FPK_OP_BUILD);
}
