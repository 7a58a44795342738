/* blocks.h -- Block: a block of another process's arena as a buffer.

   The memory is mapped privately, so it is writable without a copy and what is
   written stays here.  It is unmapped, and its owner is told, when the last
   view of it is gone: a view holds the Block.  A process that has very many of
   them copies the bytes.

   Used by:   worker_call.c, and the parent's side. */
#ifndef FPK_POOL_BLOCKS_H
#define FPK_POOL_BLOCKS_H

#include "pool/poolstate.h"
#include "transport/segment.h"

/* Tells the owner of the arena that the block at [offset] is free.  Called
   with the GIL from a deallocation, or while the Block of a copy is made: it
   must not run Python code or block for long. */
typedef void (*fpk_release_block)(PyObject *keeper, void *context,
                                  uint64_t offset);

/* A new Block over [length] bytes at [offset] of [segment]; [keeper] is kept
   alive until the release was called.  NULL with an exception; then nothing
   is released. */
PyObject *fpk_block_new(fpk_pool_state *state, fpk_segment *segment,
                        uint64_t offset, uint64_t length, PyObject *keeper,
                        void *context, fpk_release_block release);

/* Where the bytes of a Block are, and how many. */
const unsigned char *fpk_block_bytes(PyObject *block, size_t *length);

int fpk_block_init_type(PyObject *module, fpk_pool_state *state);

#endif
