/* limits.h -- bounds on what one stream may cost: fpickle.Limits.

   Does:      declares the type, and the checks that the loop makes before and
              after each opcode when a load has limits.  A load without them
              has no guard and makes no checks.
   Owns:      nothing.
   Used by:   decode only. */
#ifndef FPK_DECODE_LIMITS_H
#define FPK_DECODE_LIMITS_H

#include "decode/decoder.h"

#define FPK_UNLIMITED UINT64_MAX

/* Each of them a member of Limits, in this order. */
#define FPK_LIMITS(X) X(bytes) X(objects) X(depth) X(memo) X(allocation)

typedef struct {
#define FPK_MEMBER(name) uint64_t name;
    FPK_LIMITS(FPK_MEMBER)
#undef FPK_MEMBER
} fpk_limit_values;

struct fpk_guard {
    fpk_limit_values most;
    uint64_t start;   /* offset of the first byte of this load */
    uint64_t objects; /* put on the stack in this load */
    uint64_t height;  /* of what the opcode being executed makes */

    /* What the stream has made, by address, with its height: the levels of
       objects from it down.  0: something else lives there now.  Kept only for
       a limit on depth. */
    fpk_memo heights;
};

/* Gives [d] the guard that [limits] asks for: a Limits object, or None or NULL
   for none. */
int fpk_guard_set(fpk_decoder *d, PyObject *limits);

void fpk_guard_free(fpk_decoder *d);

/* The rest is called only if d->guard is not NULL. */

/* A load begins: what it uses is counted from here. */
void fpk_guard_begin(fpk_decoder *d);

/* [op] was taken from the window, its argument was not.  -1 with
   UnpicklingError if executing it would exceed a limit. */
int fpk_guard_before(fpk_decoder *d, unsigned op);

/* [op] was executed. */
int fpk_guard_after(fpk_decoder *d, unsigned op);

/* STOP: how deep [result] is, whichever way it was put together. */
int fpk_guard_result(fpk_decoder *d, PyObject *result);

/* The longest line, in bytes, that may be read now. */
uint64_t fpk_guard_longest_line(const fpk_decoder *d);

/* A line is longer than that; -1. */
int fpk_guard_refuse_line(fpk_decoder *d);

/* The height of [obj]; 0 if the stream has not made it. */
uint64_t fpk_guard_height(const fpk_guard *guard, PyObject *obj);

/* Sets UnpicklingError with the limit and the place in the stream; -1. */
int fpk_guard_refuse(fpk_decoder *d, const char *name, uint64_t most);

/* Adds the type Limits. */
int fpk_limits_init_type(PyObject *module, fpk_state *state);

#endif
