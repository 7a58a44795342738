/* nesting.c -- how deep the result of a load is.

   Does:      walks what the stream has made, for a limit on depth.  The guard
              knows the height of what is complete before it becomes a part;
              a stream that links what it has made before can build deeper.
   Owns:      its own stack, for the time of the walk.
   Invariant: each object is entered once; when the walk leaves it, its
              longest way down is known.  No Python code runs, nothing
              recurses.
   Called by: loop.c. */
#include "decode/limits.h"

typedef struct {
    PyObject *obj;   /* borrowed: the result owns it, and no code runs */
    size_t children; /* where its parts begin */
    uint64_t height; /* of its parts so far */
    bool known;      /* made by the stream; else a __dict__ of what was */
} walk_step;

typedef struct {
    fpk_guard *guard;
    walk_step *path;
    size_t length, capacity;
    struct child {
        PyObject *obj;
        bool known;
    } * children;
    size_t child_count, child_capacity;
    fpk_memo seen; /* 0: on the path; else the height */
} result_walk;

/* Makes room for one more item of [size] bytes in *[array]. */
static int
reserve_one(void **array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return 0;
    }
    size_t more = *capacity == 0 ? 64 : *capacity * 2;
    void *grown = more > (size_t)PY_SSIZE_T_MAX / size
                      ? NULL
                      : PyMem_Realloc(*array, more * size);
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *array = grown;
    *capacity = more;
    return 0;
}

static int
visit_part(PyObject *part, void *arg)
{
    result_walk *walk = arg;
    bool known = fpk_guard_height(walk->guard, part) > 0;
    if (!known &&
        !(PyDict_CheckExact(part) && walk->path[walk->length - 1].known)) {
        return 0;
    }
    if (reserve_one((void **)&walk->children, walk->child_count,
                    &walk->child_capacity, sizeof *walk->children) < 0) {
        return -1;
    }
    walk->children[walk->child_count++] = (struct child){part, known};
    return 0;
}

static int
enter(result_walk *walk, struct child child)
{
    if (!fpk_memo_set(&walk->seen, child.obj, 0)) {
        PyErr_NoMemory();
        return -1;
    }
    if (reserve_one((void **)&walk->path, walk->length, &walk->capacity,
                    sizeof *walk->path) < 0) {
        return -1;
    }
    walk->path[walk->length++] =
        (walk_step){child.obj, walk->child_count, 0, child.known};
    traverseproc traverse = Py_TYPE(child.obj)->tp_traverse;
    return traverse == NULL ? 0 : traverse(child.obj, visit_part, walk);
}

/* One step: into the next part, or back with the height.  1 if there is more
   to do, 0 at the end, -1 on error, 2 if it is too deep. */
static int
take_step(result_walk *walk)
{
    walk_step *top = &walk->path[walk->length - 1];
    uint64_t most = walk->guard->most.depth;
    if (walk->child_count > top->children) {
        struct child child = walk->children[--walk->child_count];
        const fpk_memo_entry *entry = fpk_memo_find(&walk->seen, child.obj);
        if (entry != NULL) {
            if (entry->index > top->height) {
                top->height = entry->index;
            }
            return walk->length + top->height > most ? 2 : 1;
        }
        if (walk->length >= most) {
            return 2;
        }
        return enter(walk, child) < 0 ? -1 : 1;
    }
    uint64_t height = top->height + 1;
    fpk_memo_find(&walk->seen, top->obj)->index = height;
    walk->length--;
    if (walk->length > 0 && walk->path[walk->length - 1].height < height) {
        walk->path[walk->length - 1].height = height;
    }
    return walk->length > 0;
}

int
fpk_guard_result(fpk_decoder *d, PyObject *result)
{
    fpk_guard *guard = d->guard;
    if (guard->most.depth == FPK_UNLIMITED ||
        fpk_guard_height(guard, result) == 0) {
        return 0;
    }
    result_walk walk = {.guard = guard};
    int status = enter(&walk, (struct child){result, true}) < 0 ? -1 : 1;
    while (status == 1) {
        status = take_step(&walk);
    }
    PyMem_Free(walk.path);
    PyMem_Free(walk.children);
    fpk_memo_clear(&walk.seen);
    return status == 2 ? fpk_guard_refuse(d, "depth", guard->most.depth)
                       : status;
}
