/* poolstate.h -- the state of one fpickle._poolcore module object.

   Used by:   every file of this room. */
#ifndef FPK_POOL_STATE_H
#define FPK_POOL_STATE_H

#include "compat/compat.h"

#define FPK_POOL_OBJECTS(X)                                                   \
    X(collector)  /* a buffer_callback that nobody uses now; or NULL */       \
    X(kw_buffers) /* ("buffers",) */                                          \
    X(kw_pack)    /* ("buffer_callback", "bytes_out_of_band") */              \
    X(protocol)   /* 5 */                                                     \
    X(smallest_buffer)   /* FPK_SMALLEST_BUFFER */                            \
    X(TimeoutError)      /* builtins.TimeoutError */                          \
    X(CancelledError)    /* concurrent.futures'; NULL until asked for */      \
    X(InvalidStateError) /* likewise: a worker needs neither, and the */      \
    X(logger)            /* of concurrent.futures; likewise */               \
    X(Condition)         /* imports cost more than its start; threading's */

#define FPK_POOL_TYPES(X)                                                     \
    X(block_type)                                                             \
    X(worker_type)                                                            \
    X(dispatcher_type)                                                        \
    X(task_type)                                                              \
    X(reader_type)                                                            \
    X(results_type)

typedef struct fpk_pool_state {
#define FPK_MEMBER(name) PyObject *name;
    FPK_POOL_OBJECTS(FPK_MEMBER)
#undef FPK_MEMBER
#define FPK_MEMBER(name) PyTypeObject *name;
    FPK_POOL_TYPES(FPK_MEMBER)
#undef FPK_MEMBER
    size_t mappings;      /* of Blocks; */
    size_t most_mappings; /* what is beyond them is copied; 0: not known yet */
} fpk_pool_state;

extern struct PyModuleDef fpk_pool_module_def;

/* The state of the module that made [type]. */
fpk_pool_state *fpk_pool_state_of_type(PyTypeObject *type);

/* Sets *[slot] to an attribute of a module if it is NULL; 0 or -1. */
int fpk_pool_fetch(PyObject **slot, const char *module_name, const char *name);

/* Makes a type from [spec], adds it to [module] and keeps it in *[slot]. */
int fpk_pool_add_type(PyObject *module, PyTypeObject **slot,
                      PyType_Spec *spec);

int fpk_worker_init_type(PyObject *module, fpk_pool_state *state);
int fpk_dispatcher_init_type(PyObject *module, fpk_pool_state *state);
int fpk_task_init_type(PyObject *module, fpk_pool_state *state);
int fpk_reader_init_type(PyObject *module, fpk_pool_state *state);
int fpk_results_init_type(PyObject *module, fpk_pool_state *state);

#endif
