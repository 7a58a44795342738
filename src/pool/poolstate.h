/* poolstate.h -- the state of one fpickle._poolcore module object. */
#ifndef FPK_POOL_STATE_H
#define FPK_POOL_STATE_H

#include "compat/compat.h"

#define FPK_POOL_OBJECTS(X)                                                   \
    X(PickleBuffer)                                                           \
    X(kw_buffers)         /* ("buffers",) */                                  \
    X(kw_buffer_callback) /* ("buffer_callback",) */                          \
    X(protocol)           /* 5 */                                             \
    X(TimeoutError)       /* builtins.TimeoutError */                         \
    X(CancelledError)     /* concurrent.futures.CancelledError */             \
    X(InvalidStateError)  /* concurrent.futures.InvalidStateError */          \
    X(Condition)          /* threading.Condition; NULL until asked for */

#define FPK_POOL_TYPES(X)                                                     \
    X(block_type)                                                             \
    X(worker_type)                                                            \
    X(dispatcher_type)                                                        \
    X(task_type)                                                              \
    X(results_type)

typedef struct fpk_pool_state {
#define FPK_MEMBER(name) PyObject *name;
    FPK_POOL_OBJECTS(FPK_MEMBER)
#undef FPK_MEMBER
#define FPK_MEMBER(name) PyTypeObject *name;
    FPK_POOL_TYPES(FPK_MEMBER)
#undef FPK_MEMBER
} fpk_pool_state;

extern struct PyModuleDef fpk_pool_module_def;

fpk_pool_state *fpk_pool_state_of_type(PyTypeObject *type);

int fpk_worker_init_type(PyObject *module, fpk_pool_state *state);
int fpk_dispatcher_init_type(PyObject *module, fpk_pool_state *state);
int fpk_task_init_type(PyObject *module, fpk_pool_state *state);
int fpk_results_init_type(PyObject *module, fpk_pool_state *state);

#endif
