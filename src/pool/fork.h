/* fork.h -- a zygote and its first worker, forked from this process.

   Used by:   module.c. */
#ifndef FPK_POOL_FORK_H
#define FPK_POOL_FORK_H

#include "compat/compat.h"

/* The function fork_zygote of the module. */
PyObject *fpk_fork_zygote(PyObject *module, PyObject *args);

#endif
