/* keys.c -- keys that must not be hashed.

   Does:      measures tuples before they become keys of a dict or items of a
              set.  The interpreter hashes a tuple by recursion, each item
              each time it meets it: one that is nested too deep overruns the
              C stack, and one whose parts are shared again and again takes
              for ever.
   Owns:      nothing.
   Invariant: nothing here recurses, or looks at more than the limits say.
   Called by: containers.c. */
#include "decode/decoder.h"

/* Levels of tuples in a key.  Hashing needs less than 100 bytes of C stack a
   level; a thread may have no more than 256 KiB. */
#define MOST_LEVELS 1024

/* Items of a key, an item counted as often as it is met.  A key without shared
   parts has at most one for each byte of its stream; this comes on top. */
#define MOST_SHARED_ITEMS ((uint64_t)1 << 20)

typedef struct {
    PyObject *tuple; /* borrowed from the key, which the caller owns */
    Py_ssize_t next;
} level;

/* 1 for a tuple of tuples, for which the levels must be walked. */
static bool
has_inner_tuple(PyObject *tuple)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (PyTuple_Check(item) && PyTuple_GET_SIZE(item) > 0) {
            return true;
        }
    }
    return false;
}

/* Walks the tuples of [key] in [levels], which holds MOST_LEVELS. */
static int
walk(fpk_decoder *d, PyObject *key, level *levels)
{
    uint64_t left =
        MOST_SHARED_ITEMS + d->base + (uint64_t)(d->p - d->start);
    Py_ssize_t depth = 1;
    levels[0] = (level){key, 0};
    while (depth > 0) {
        level *top = &levels[depth - 1];
        if (top->next == PyTuple_GET_SIZE(top->tuple)) {
            depth--;
            continue;
        }
        if (left-- == 0) {
            return fpk_decode_error(d, d->state->UnpicklingError,
                                    "key takes too long to hash: its parts "
                                    "are shared too often");
        }
        PyObject *item = PyTuple_GET_ITEM(top->tuple, top->next++);
        if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) == 0) {
            continue;
        }
        if (depth == MOST_LEVELS) {
            return fpk_decode_error(d, d->state->UnpicklingError,
                                    "key nested too deep: more than %d "
                                    "tuples in each other",
                                    MOST_LEVELS);
        }
        levels[depth++] = (level){item, 0};
    }
    return 0;
}

int
fpk_check_tuple_key(fpk_decoder *d, PyObject *key)
{
    if (!has_inner_tuple(key)) {
        return 0;
    }
    level *levels = PyMem_New(level, MOST_LEVELS);
    if (levels == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int status = walk(d, key, levels);
    PyMem_Free(levels);
    return status;
}
