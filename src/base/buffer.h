/* buffer.h -- a growing byte buffer that starts in storage of the caller.

   Does:      collects output; small results never touch the allocator.
   Owns:      its block, once it has outgrown the inline storage.
   Invariant: length <= capacity; data points to the inline storage or to a
              block of its own.
   Errors:    only running out of memory: fpk_buffer_reserve returns false,
              and the buffer is empty.
   Used by:   encode.  No Python.h, no locks.

   Where blocks come from is the caller's choice: what was collected can so be
   handed on without a copy. */
#ifndef FPK_BASE_BUFFER_H
#define FPK_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Moves the content of [block] to one of [size] bytes and returns that, or
   frees [block] and returns NULL.  A NULL block holds nothing; a [size] of 0
   only frees. */
typedef uint8_t *(*fpk_resize_block)(uint8_t *block, size_t size);

typedef struct {
    uint8_t *data;
    size_t length;   /* bytes used */
    size_t capacity; /* bytes available at data */
    uint8_t *inline_storage; /* borrowed from the caller of init */
    fpk_resize_block resize;
    size_t expected; /* a length that would be no surprise, or 0 */
} fpk_buffer;

/* [storage] must outlive the buffer. */
static inline void
fpk_buffer_init(fpk_buffer *b, uint8_t *storage, size_t size,
                fpk_resize_block resize)
{
    b->data = storage;
    b->length = 0;
    b->capacity = size;
    b->inline_storage = storage;
    b->resize = resize;
    b->expected = 0;
}

/* Frees the block, if any; the buffer is empty and usable after. */
void fpk_buffer_reset(fpk_buffer *b, size_t inline_size);

/* Gives up the block, which holds the content and may have a little room
   behind it; NULL if the content is in the inline storage or there is no
   memory.  The buffer is empty after. */
uint8_t *fpk_buffer_take_block(fpk_buffer *b);

/* Grows so that [extra] more bytes fit.  The slow half of reserve. */
bool fpk_buffer_grow(fpk_buffer *b, size_t extra);

/* True if [extra] more bytes fit after the call. */
static inline bool
fpk_buffer_reserve(fpk_buffer *b, size_t extra)
{
    return b->capacity - b->length >= extra || fpk_buffer_grow(b, extra);
}

/* Where the next byte goes; [length] is advanced by the caller. */
static inline uint8_t *
fpk_buffer_end(fpk_buffer *b)
{
    return b->data + b->length;
}

#endif
