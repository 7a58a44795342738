/* arena.h -- blocks of bytes in a growing segment, for what is too large for a
   ring.

   One process owns an arena: it alone allocates and frees, and its lists lie
   in its own memory, where no other process can damage them.  Others are told
   (offset, length) and map that range.  Freed blocks stay warm: copying into
   pages that exist is ten times as fast as into new ones.  What is free beyond
   [keep] bytes is given back to the system, the longest unused first.

   Not thread-safe: its owner has a lock, and needs it for allocate and free
   alone; a block may be filled without it.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_ARENA_H
#define FPK_ARENA_H

#include "transport/segment.h"

typedef struct fpk_arena fpk_arena;

/* Blocks begin at multiples of this many bytes, or of a page where that is
   larger, so that no two blocks share a page that is mapped privately. */
enum { FPK_BLOCK_ALIGNMENT = 4096 };

/* An arena over a new segment.  [keep]: bytes of free memory to stay warm. */
fpk_status fpk_arena_create(fpk_arena **arena, const char *label,
                            uint64_t keep);

/* An arena over a segment that another process made for this one: [fd] is
   taken over as by fpk_segment_attach, and all of it is taken as free. */
fpk_status fpk_arena_attach(fpk_arena **arena, int fd, uint64_t keep);

int fpk_arena_fd(const fpk_arena *arena);
fpk_segment *fpk_arena_segment(fpk_arena *arena);

/* A block of at least [length] bytes: FPK_OK with *[offset] and *[address], at
   which this process may write it; FPK_NO_MEMORY. */
fpk_status fpk_arena_allocate(fpk_arena *arena, uint64_t length,
                              uint64_t *offset, void **address);

/* Frees the block at [offset]: FPK_CORRUPT if there is none, because the
   offset came from another process; then nothing was done. */
fpk_status fpk_arena_free(fpk_arena *arena, uint64_t offset);

/* Where the block at [offset] lies, or NULL if there is none. */
const void *fpk_arena_address(const fpk_arena *arena, uint64_t offset);

/* Bytes of memory in blocks that are not free; in free blocks that are kept
   warm; bytes of the segment, with memory behind them or not. */
uint64_t fpk_arena_used(const fpk_arena *arena);
uint64_t fpk_arena_warm(const fpk_arena *arena);
uint64_t fpk_arena_size(const fpk_arena *arena);

/* Unmaps, closes the fd and forgets; mappings of others stay.  NULL is
   allowed. */
void fpk_arena_destroy(fpk_arena *arena);

#endif
