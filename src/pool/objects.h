/* objects.h -- the objects that numbers name in a worker.

   Used by:   worker.h. */
#ifndef FPK_POOL_OBJECTS_H
#define FPK_POOL_OBJECTS_H

#include "compat/compat.h"

typedef struct fpk_named {
    uint64_t id;
    PyObject *object; /* strong; NULL: this place is free */
    bool failed;      /* [object] is the exception that it could not be read
                         for */
} fpk_named;

/* All zeros is an empty table. */
typedef struct fpk_object_table {
    fpk_named *places; /* [mask] + 1 of them, or NULL */
    size_t mask;
    size_t count;
    size_t last; /* the place that was found last */
} fpk_object_table;

/* What [id] names, or NULL.  Valid until the table changes. */
fpk_named *fpk_objects_search(fpk_object_table *table, uint64_t id);

static inline fpk_named *
fpk_objects_find(fpk_object_table *table, uint64_t id)
{
    if (FPK_LIKELY(table->places != NULL)) {
        fpk_named *last = &table->places[table->last];
        if (FPK_LIKELY(last->id == id && last->object != NULL)) {
            return last;
        }
    }
    return fpk_objects_search(table, id);
}

/* [id] names [object] from now on, whose reference the table takes over on
   success.  *[before]: what it named, now the caller's, or NULL.  0 or -1. */
int fpk_objects_set(fpk_object_table *table, uint64_t id, PyObject *object,
                    bool failed, PyObject **before);

/* [id] names nothing any more: what it named, now the caller's, or NULL. */
PyObject *fpk_objects_remove(fpk_object_table *table, uint64_t id);

/* A new dict of what is named and did not fail, or NULL. */
PyObject *fpk_objects_as_dict(const fpk_object_table *table);

int fpk_objects_traverse(fpk_object_table *table, visitproc visit, void *arg);
void fpk_objects_clear(fpk_object_table *table);

#endif
