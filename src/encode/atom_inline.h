/* atom_inline.h -- the commonest atoms, inlined into the container loops.

   Does:      writes small ints, floats, None, bools, and short ASCII strings
              of protocol 4 and later without a call.
   Owns:      nothing.
   Invariant: writes what atoms.c would write; runs no Python code.
   Used by:   containers.c, atoms.c. */
#ifndef FPK_ENCODE_ATOM_INLINE_H
#define FPK_ENCODE_ATOM_INLINE_H

#include "base/bytes.h"
#include "encode/encoder.h"

/* Bytes of the shortest two's complement form. */
static inline int
fpk_signed_size(int64_t value)
{
    uint64_t magnitude = (uint64_t)(value < 0 ? ~value : value);
    int size = 1;
    while (size < 8 && magnitude >> (8 * size - 1) != 0) {
        size++;
    }
    return size;
}

/* Binary protocols with LONG1 (2 and later) or 32 bits; needs 24 bytes of
   room. */
static inline void
fpk_put_int64(fpk_encoder *e, int64_t value)
{
    uint8_t *p = fpk_buffer_end(&e->out);
    if ((uint64_t)value < 256) {
        p[0] = FPK_OP_BININT1;
        p[1] = (uint8_t)value;
        e->out.length += 2;
    }
    else if ((uint64_t)value < 65536) {
        p[0] = FPK_OP_BININT2;
        fpk_store_le16(p + 1, (uint16_t)value);
        e->out.length += 3;
    }
    else if (value >= INT32_MIN && value <= INT32_MAX) {
        p[0] = FPK_OP_BININT;
        fpk_store_le32(p + 1, (uint32_t)(int32_t)value);
        e->out.length += 5;
    }
    else {
        int size = fpk_signed_size(value);
        p[0] = FPK_OP_LONG1;
        p[1] = (uint8_t)size;
        fpk_store_le64(p + 2, (uint64_t)value);
        e->out.length += 2 + (size_t)size;
    }
}

/* Needs 9 bytes of room. */
static inline void
fpk_put_float(fpk_encoder *e, double value)
{
    uint8_t *p = fpk_buffer_end(&e->out);
    p[0] = FPK_OP_BINFLOAT;
    fpk_store_double(p + 1, value);
    e->out.length += 9;
}

/* A memo entry that was met before, as GET; needs 6 bytes of room.  False if
   the entry needs more thought. */
static inline bool
fpk_put_get(fpk_encoder *e, const fpk_memo_entry *entry)
{
    uint8_t *p = fpk_buffer_end(&e->out);
    if (entry->index < 256) {
        p[0] = FPK_OP_BINGET;
        p[1] = (uint8_t)entry->index;
        e->out.length += 2;
        return true;
    }
    if (entry->index <= UINT32_MAX) {
        p[0] = FPK_OP_LONG_BINGET;
        fpk_store_le32(p + 1, (uint32_t)entry->index);
        e->out.length += 5;
        return true;
    }
    return false;
}

static inline bool
fpk_put_short_str(fpk_encoder *e, PyObject *str)
{
    if (!PyUnicode_IS_COMPACT_ASCII(str)) {
        return false;
    }
    size_t size = (size_t)PyUnicode_GET_LENGTH(str);
    if (size > 255 || e->out.capacity - e->out.length < 3 + size) {
        return false;
    }
    bool shared = fpk_needs_memo(e, str);
    if (shared) {
        const fpk_memo_entry *entry = fpk_memo_find(&e->memo, str);
        if (entry != NULL) {
            return fpk_put_get(e, entry);
        }
        if (e->fast || e->canonical != NULL ||
            !fpk_memo_has_room(&e->memo)) {
            return false;
        }
    }
    uint8_t *p = fpk_buffer_end(&e->out);
    p[0] = FPK_OP_SHORT_BINUNICODE;
    p[1] = (uint8_t)size;
    memcpy(p + 2, PyUnicode_1BYTE_DATA(str), size);
    e->out.length += 2 + size;
    if (shared) {
        (void)fpk_memo_set(&e->memo, Py_NewRef(str), e->next_index++);
        fpk_put_byte(e, FPK_OP_MEMOIZE);
    }
    return true;
}

/* What has no items and is met only once is one opcode, too. */
static inline bool
fpk_put_empty_container(fpk_encoder *e, PyObject *item, PyTypeObject *type)
{
    if (type == &PyTuple_Type && PyTuple_GET_SIZE(item) == 0) {
        fpk_put_byte(e, FPK_OP_EMPTY_TUPLE);
        return true;
    }
    if (type == &PyList_Type && PyList_GET_SIZE(item) == 0 &&
        !fpk_needs_memo(e, item)) {
        fpk_put_byte(e, FPK_OP_EMPTY_LIST);
        return true;
    }
    if (type == &PyDict_Type && PyDict_GET_SIZE(item) == 0 &&
        !fpk_needs_memo(e, item)) {
        fpk_put_byte(e, FPK_OP_EMPTY_DICT);
        return true;
    }
    return false;
}

/* True if [item] is written; false if the long way has to look at it. */
static inline bool
fpk_put_common_atom(fpk_encoder *e, PyObject *item)
{
    if (FPK_UNLIKELY(e->protocol < 4 || e->persistent_id != NULL ||
                     e->equal_texts != NULL ||
                     e->out.length >= e->frame_limit ||
                     e->out.capacity - e->out.length < 24)) {
        return false;
    }
    PyTypeObject *type = Py_TYPE(item);
    if (type == &PyUnicode_Type) {
        return fpk_put_short_str(e, item);
    }
    if (type == &PyLong_Type) {
        int64_t value;
        if (!fpk_int_is_compact(item, &value)) {
            return false;
        }
        fpk_put_int64(e, value);
        return true;
    }
    if (type == &PyFloat_Type) {
        fpk_put_float(e, PyFloat_AS_DOUBLE(item));
        return true;
    }
    if (item == Py_None) {
        fpk_put_byte(e, FPK_OP_NONE);
        return true;
    }
    if (type == &PyBool_Type) {
        fpk_put_byte(e, item == Py_True ? FPK_OP_NEWTRUE : FPK_OP_NEWFALSE);
        return true;
    }
    return fpk_put_empty_container(e, item, type);
}

#endif
