/* fork.h -- a fork of this process, for a pool.

   Used by:   module.c. */
#ifndef FPK_POOL_FORK_H
#define FPK_POOL_FORK_H

#include "compat/compat.h"

/* The function fork_process of the module. */
PyObject *fpk_fork_process(PyObject *module, PyObject *args);

#endif
