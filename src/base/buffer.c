/* buffer.c -- the slow paths of the growing byte buffer in buffer.h.

   Does:      moves to a block, grows by doubling, frees, hands over.
   Owns:      the block of each buffer.
   Invariant: see buffer.h.
   Called by: encode, through the inline functions of buffer.h. */
#include "base/buffer.h"

/* Leaves the buffer without a block and without room. */
static void
forget_block(fpk_buffer *b)
{
    b->data = b->inline_storage;
    b->length = 0;
    b->capacity = 0;
}

bool
fpk_buffer_grow(fpk_buffer *b, size_t extra)
{
    if (extra > (size_t)PTRDIFF_MAX - b->length) {
        fpk_buffer_reset(b, 0);
        return false;
    }
    size_t needed = b->length + extra;
    size_t capacity = b->capacity < 64 ? 64 : b->capacity;
    while (capacity < needed) {
        capacity = capacity > (size_t)PTRDIFF_MAX / 2 ? needed : capacity * 2;
    }
    if (capacity < b->expected && capacity >= b->expected / 8) {
        capacity = b->expected;
    }
    bool is_inline = b->data == b->inline_storage;
    uint8_t *data = b->resize(is_inline ? NULL : b->data, capacity);
    if (data == NULL) {
        forget_block(b);
        return false;
    }
    if (is_inline) {
        memcpy(data, b->data, b->length);
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void
fpk_buffer_reset(fpk_buffer *b, size_t inline_size)
{
    if (b->data != b->inline_storage) {
        (void)b->resize(b->data, 0);
    }
    forget_block(b);
    b->capacity = inline_size;
}

uint8_t *
fpk_buffer_take_block(fpk_buffer *b)
{
    uint8_t *block = NULL;
    if (b->data != b->inline_storage) {
        block = b->data;
        if (b->capacity - b->length > b->capacity / 8) {
            block = b->resize(block, b->length);
        }
    }
    forget_block(b);
    return block;
}
