/* fork.h -- two forks of this process at once.

   Used by:   module.c. */
#ifndef FPK_POOL_FORK_H
#define FPK_POOL_FORK_H

#include "compat/compat.h"

/* The function fork_twice of the module. */
PyObject *fpk_fork_twice(PyObject *module, PyObject *args);

#endif
