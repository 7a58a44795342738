/* definitions.c -- functions, and the blocks that messages name.

   Does:      makes, keeps and drops functions, and counts who holds a block of
              the arena of arguments.
   Owns:      the arena's blocks: each is freed when nobody holds it any more.
   Invariant: a function is there as long as somebody refers to it; its blocks
              are held once by it and once by each worker that knows it.
   Called by: src/pool, with or without the GIL; dispatch.c, sending.c, pump.c
              and places.c, with the mutex. */
#include "transport/dispatch_parts.h"

#include <stdlib.h>
#include <string.h>

#include "transport/arena.h"

/* ---- blocks ------------------------------------------------------------- */

fpk_status
fpk_dispatch_allocate(void *context, uint64_t length, uint64_t *offset,
                      void **address)
{
    fpk_dispatch *d = context;
    fpk_lock(d);
    fpk_status status = fpk_arena_allocate(d->arena, length, offset, address);
    if (status == FPK_OK && !fpk_counts_add(&d->holds, *offset)) {
        (void)fpk_arena_free(d->arena, *offset);
        status = FPK_NO_MEMORY;
    }
    fpk_unlock(d);
    return status;
}

void
fpk_drop_hold_locked(fpk_dispatch *d, uint64_t offset)
{
    if (fpk_counts_drop(&d->holds, offset) == 1) {
        (void)fpk_arena_free(d->arena, offset);
    }
}

void
fpk_dispatch_free(void *context, uint64_t offset)
{
    fpk_dispatch *d = context;
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    fpk_drop_hold_locked(d, offset);
    fpk_unlock(d);
}

bool
fpk_hold_blocks_locked(fpk_dispatch *d, const fpk_message *message,
                       const fpk_place *places)
{
    uint32_t held = 0;
    for (; held < message->buffers; held++) {
        if (!fpk_counts_add(&d->holds, places[held].offset)) {
            break;
        }
    }
    if (held == message->buffers &&
        (!(message->flags & FPK_PAYLOAD_IN_BLOCK) ||
         fpk_counts_add(&d->holds, message->block))) {
        return true;
    }
    while (held > 0) {
        fpk_drop_hold_locked(d, places[--held].offset);
    }
    return false;
}

void
fpk_drop_blocks_locked(fpk_dispatch *d, const fpk_message *message,
                       const fpk_place *places)
{
    for (uint32_t i = 0; i < message->buffers; i++) {
        fpk_drop_hold_locked(d, places[i].offset);
    }
    if (message->flags & FPK_PAYLOAD_IN_BLOCK) {
        fpk_drop_hold_locked(d, message->block);
    }
}

/* A copy of [places]: false without memory; NULL for none. */
bool
fpk_copy_places(const fpk_place *places, uint32_t count, fpk_place **copy)
{
    *copy = NULL;
    if (count == 0) {
        return true;
    }
    *copy = malloc(count * sizeof **copy);
    if (*copy != NULL) {
        memcpy(*copy, places, count * sizeof **copy);
    }
    return *copy != NULL;
}

/* ---- functions ---------------------------------------------------------- */

fpk_function *
fpk_dispatch_define(fpk_dispatch *d, const fpk_message *message,
                    const fpk_place *places, const unsigned char *payload,
                    bool pinned)
{
    fpk_function *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return NULL;
    }
    size_t length = message->flags & FPK_PAYLOAD_IN_BLOCK
                        ? 0
                        : (size_t)message->payload_length;
    if (!fpk_copy_places(places, message->buffers, &f->places) ||
        (length > 0 && (f->payload = malloc(length)) == NULL)) {
        free(f->places);
        free(f);
        return NULL;
    }
    if (length > 0) {
        memcpy(f->payload, payload, length);
    }
    f->refs = 1;
    f->pinned = pinned;
    f->message = *message;
    f->message.kind = FPK_DEFINE;
    fpk_lock(d);
    f->id = ++d->last_function;
    f->message.function = f->id;
    if (pinned) {
        f->previous = d->last_pinned;
        if (f->previous == NULL) {
            d->pinned = f;
        }
        else {
            f->previous->next = f;
        }
        d->last_pinned = f;
        for (uint32_t i = 0; i < d->workers; i++) {
            if (d->places[i].open && !d->places[i].quitting) {
                /* What finds no room now is sent before the next task. */
                (void)fpk_define_pinned_locked(d, &d->places[i]);
            }
        }
        fpk_publish_locked(d);
    }
    fpk_unlock(d);
    return f;
}

uint64_t
fpk_function_id(const fpk_function *function)
{
    return function->id;
}

const fpk_message *
fpk_function_message(const fpk_function *function)
{
    return &function->message;
}

const void *
fpk_function_part(fpk_dispatch *d, const fpk_function *function, uint32_t part,
                  uint64_t *length)
{
    const fpk_message *message = &function->message;
    uint64_t block = message->block;
    if (part < message->buffers) {
        *length = function->places[part].length;
        block = function->places[part].offset;
    }
    else {
        *length = message->payload_length;
        if (!(message->flags & FPK_PAYLOAD_IN_BLOCK)) {
            return function->payload;
        }
    }
    fpk_lock(d);
    const void *address = fpk_arena_address(d->arena, block);
    fpk_unlock(d);
    return address;
}

uint64_t
fpk_function_call_ns(fpk_dispatch *d, const fpk_function *function)
{
    fpk_lock(d);
    uint64_t ns = function->call_ns;
    fpk_unlock(d);
    return ns;
}

fpk_function *
fpk_dispatch_keep_function(fpk_dispatch *d, fpk_function *function)
{
    fpk_lock(d);
    function->refs++;
    fpk_unlock(d);
    return function;
}

void
fpk_drop_function_locked(fpk_dispatch *d, fpk_function *function)
{
    if (--function->refs > 0) {
        return;
    }
    if (function->pinned) {
        if (function->previous == NULL) {
            d->pinned = function->next;
        }
        else {
            function->previous->next = function->next;
        }
        if (function->next == NULL) {
            d->last_pinned = function->previous;
        }
        else {
            function->next->previous = function->previous;
        }
    }
    fpk_message forget = {.kind = FPK_FORGET, .function = function->id};
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_worker_place *place = &d->places[i];
        bool told = place->open && function->pinned;
        for (uint32_t k = 0; place->open && k < place->known_count; k++) {
            if (place->known[k].function == function->id) {
                place->known[k] = place->known[--place->known_count];
                told = true;
                break;
            }
        }
        if (told) {
            fpk_send_control_locked(d, place, &forget);
        }
    }
    fpk_drop_blocks_locked(d, &function->message, function->places);
    free(function->places);
    free(function->payload);
    free(function);
}

void
fpk_dispatch_drop_function(fpk_dispatch *d, fpk_function *function)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    fpk_drop_function_locked(d, function);
    fpk_unlock(d);
}

void
fpk_dispatch_forget(fpk_dispatch *d, uint64_t id)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    fpk_function *function = d->pinned;
    while (function != NULL && function->id != id) {
        function = function->next;
    }
    if (function != NULL) {
        fpk_drop_function_locked(d, function);
    }
    fpk_unlock(d);
}
