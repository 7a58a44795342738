/* status.h -- what a function of the transport says.

   The transport knows no Python, so it returns a status instead of setting an
   exception; src/pool turns it into one in a single function.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_STATUS_H
#define FPK_STATUS_H

typedef enum fpk_status {
    FPK_OK = 0,
    FPK_NO_MEMORY, /* malloc, memfd or address space; ENOSPC, too */
    FPK_SYSTEM,    /* a system call failed; errno says why */
    FPK_CORRUPT,   /* shared memory holds what its writer never writes */
    FPK_FULL,      /* no room now; try again when the reader went on */
    FPK_TOO_LARGE, /* it would not fit into an empty ring either */
    FPK_CLOSED,    /* the other side or the object is closed */
} fpk_status;

#endif
