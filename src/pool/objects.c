/* objects.c -- the objects that numbers name in a worker: functions, and what
   the parent shares.

   Does:      a hash table from 64-bit numbers to objects.
   Owns:      the references to the objects.
   Invariant: open addressing with linear probing, at most half full; what is
              removed leaves no gap, for those behind it move up.  No reference
              is dropped while the table changes, because that may run code
              that looks into it.
   Called by: worker.c, worker_call.c. */
#include "pool/objects.h"

enum { SMALLEST_TABLE = 16 };

/* Multiplying spreads numbers that count up, too, over the high bits. */
static size_t
first_place(const fpk_object_table *table, uint64_t id)
{
    return (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & table->mask;
}

/* The place of [id], or the free one where it belongs. */
static size_t
probe(const fpk_object_table *table, uint64_t id)
{
    size_t at = first_place(table, id);
    while (table->places[at].object != NULL && table->places[at].id != id) {
        at = (at + 1) & table->mask;
    }
    return at;
}

fpk_named *
fpk_objects_search(fpk_object_table *table, uint64_t id)
{
    if (table->places == NULL) {
        return NULL;
    }
    size_t at = probe(table, id);
    if (table->places[at].object == NULL) {
        return NULL;
    }
    table->last = at;
    return &table->places[at];
}

static int
grow(fpk_object_table *table)
{
    size_t size =
        table->places == NULL ? SMALLEST_TABLE : 2 * (table->mask + 1);
    fpk_object_table larger = {
        .places = (fpk_named *)PyMem_Calloc(size, sizeof(fpk_named)),
        .mask = size - 1,
        .count = table->count,
    };
    if (larger.places == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; table->places != NULL && i <= table->mask; i++) {
        if (table->places[i].object != NULL) {
            larger.places[probe(&larger, table->places[i].id)] =
                table->places[i];
        }
    }
    PyMem_Free(table->places);
    *table = larger;
    return 0;
}

int
fpk_objects_set(fpk_object_table *table, uint64_t id, PyObject *object,
                bool failed, PyObject **before)
{
    *before = NULL;
    if ((table->places == NULL || 2 * table->count > table->mask) &&
        grow(table) < 0) {
        return -1;
    }
    size_t at = probe(table, id);
    *before = table->places[at].object;
    table->count += *before == NULL;
    table->places[at] =
        (fpk_named){.id = id, .object = object, .failed = failed};
    table->last = at;
    return 0;
}

PyObject *
fpk_objects_remove(fpk_object_table *table, uint64_t id)
{
    fpk_named *found = fpk_objects_search(table, id);
    if (found == NULL) {
        return NULL;
    }
    PyObject *object = found->object;
    size_t hole = (size_t)(found - table->places);
    size_t at = hole;
    for (;;) {
        at = (at + 1) & table->mask;
        if (table->places[at].object == NULL) {
            break;
        }
        /* It may move to the hole unless that lies before its first place. */
        size_t from = first_place(table, table->places[at].id);
        if (((at - from) & table->mask) >= ((at - hole) & table->mask)) {
            table->places[hole] = table->places[at];
            hole = at;
        }
    }
    table->places[hole] = (fpk_named){0};
    table->count--;
    return object;
}

PyObject *
fpk_objects_as_dict(const fpk_object_table *table)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0;
         dict != NULL && table->places != NULL && i <= table->mask; i++) {
        const fpk_named *named = &table->places[i];
        if (named->object == NULL || named->failed) {
            continue;
        }
        /* A collection may run code that changes the table: each step looks
           at it anew, and what it has is owned. */
        PyObject *object = Py_NewRef(named->object);
        PyObject *id = PyLong_FromUnsignedLongLong(named->id);
        if (id == NULL || PyDict_SetItem(dict, id, object) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(id);
        Py_DECREF(object);
    }
    return dict;
}

int
fpk_objects_traverse(fpk_object_table *table, visitproc visit, void *arg)
{
    for (size_t i = 0; table->places != NULL && i <= table->mask; i++) {
        Py_VISIT(table->places[i].object);
    }
    return 0;
}

void
fpk_objects_clear(fpk_object_table *table)
{
    fpk_object_table gone = *table;
    *table = (fpk_object_table){0};
    for (size_t i = 0; gone.places != NULL && i <= gone.mask; i++) {
        Py_XDECREF(gone.places[i].object);
    }
    PyMem_Free(gone.places);
}
