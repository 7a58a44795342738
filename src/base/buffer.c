/* buffer.c -- the slow paths of the growing byte buffer in buffer.h.

   Does:      moves to the heap, grows by doubling, frees.
   Owns:      the heap block of each buffer.
   Invariant: see buffer.h.
   Called by: encode, through the inline functions of buffer.h. */
#include "base/buffer.h"

#include <stdlib.h>

bool
fpk_buffer_grow(fpk_buffer *b, size_t extra)
{
    if (extra > (size_t)PTRDIFF_MAX - b->length) {
        return false;
    }
    size_t needed = b->length + extra;
    size_t capacity = b->capacity < 64 ? 64 : b->capacity;
    while (capacity < needed) {
        capacity = capacity > (size_t)PTRDIFF_MAX / 2 ? needed : capacity * 2;
    }
    uint8_t *data;
    if (b->data == b->inline_storage) {
        data = malloc(capacity);
        if (data != NULL) {
            memcpy(data, b->data, b->length);
        }
    }
    else {
        data = realloc(b->data, capacity);
    }
    if (data == NULL) {
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void
fpk_buffer_reset(fpk_buffer *b, size_t inline_size)
{
    if (b->data != b->inline_storage) {
        free(b->data);
    }
    fpk_buffer_init(b, b->inline_storage, inline_size);
}
