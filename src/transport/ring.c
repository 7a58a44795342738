/* ring.c -- a queue of records between two processes.

   Does:      reserves, publishes and takes back records on one end; reads them
              and gives their bytes back on the other.
   Owns:      nothing; bytes and counters lie in shared memory.
   Invariant: tail <= head <= tail + size, all multiples of 8; the bytes from
              tail to head are whole records, of which none wraps.  What an end
              knows of itself it keeps in its own memory and never reads back;
              what it reads of the other side it checks against that.
   Called by: channel.c, dispatch.c and the worker in src/pool. */
#include "transport/ring.h"

#include <stdbool.h>

enum {
    RECORD_HEADER = 8,
    LARGEST_RECORD = 1 << 30,
};

/* The length that marks padding: the rest of the ring holds nothing. */
#define PADDING UINT32_MAX

_Static_assert(sizeof(fpk_record) == RECORD_HEADER, "the header of a record");
_Static_assert(offsetof(fpk_ring_counters, tail) == 64,
               "the counters do not share a cache line");

/* Bytes that a record of [length] bytes takes. */
static uint64_t
space_of(uint32_t length)
{
    return RECORD_HEADER + (((uint64_t)length + 7) & ~(uint64_t)7);
}

static fpk_record *
record_at(const fpk_ring *ring, uint64_t position)
{
    return (fpk_record *)(void *)(ring->data + (position & (ring->size - 1)));
}

/* Bytes from [position] to the end of the ring. */
static uint64_t
before_end(const fpk_ring *ring, uint64_t position)
{
    return ring->size - (position & (ring->size - 1));
}

fpk_status
fpk_ring_open(fpk_ring *ring, fpk_ring_counters *shared, unsigned char *data,
              uint64_t size)
{
    ring->shared = shared;
    ring->data = data;
    ring->size = size;
    ring->head = atomic_load_explicit(&shared->head, memory_order_acquire);
    ring->tail = atomic_load_explicit(&shared->tail, memory_order_acquire);
    ring->published = ring->head;
    ring->released = ring->tail;
    /* For the producer this is the consumer's counter; for the consumer it
       means that nothing is known to be published yet. */
    ring->seen = ring->tail;
    bool possible = ring->head % 8 == 0 && ring->tail % 8 == 0 &&
                    ring->head - ring->tail <= size;
    return possible ? FPK_OK : FPK_CORRUPT;
}

uint32_t
fpk_ring_longest(uint64_t size)
{
    /* In the worst place a record of half the ring finds the half less 8 in
       front of the end, which it pads. */
    uint64_t space = size / 2;
    if (space > LARGEST_RECORD) {
        space = LARGEST_RECORD;
    }
    return (uint32_t)space - RECORD_HEADER;
}

/* ---- the producer ------------------------------------------------------- */

/* The consumer's counter, if it can be: it never goes back and never beyond
   what was published. */
static bool
look_at_tail(fpk_ring *ring, uint64_t *tail)
{
    *tail = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
    return *tail % 8 == 0 &&
           *tail - ring->seen <= ring->published - ring->seen;
}

fpk_status
fpk_ring_reserve(fpk_ring *ring, uint32_t length, fpk_record **record,
                 uint64_t *position)
{
    if (length > fpk_ring_longest(ring->size)) {
        return FPK_TOO_LARGE;
    }
    uint64_t space = space_of(length);
    uint64_t skipped = before_end(ring, ring->head);
    if (skipped >= space) {
        skipped = 0;
    }
    if (space + skipped > ring->size - (ring->head - ring->seen)) {
        uint64_t tail;
        if (!look_at_tail(ring, &tail)) {
            return FPK_CORRUPT;
        }
        ring->seen = tail;
        if (space + skipped > ring->size - (ring->head - tail)) {
            return FPK_FULL;
        }
    }
    if (skipped != 0) {
        record_at(ring, ring->head)->length = PADDING;
        ring->head += skipped;
    }
    *position = ring->head;
    *record = record_at(ring, ring->head);
    (*record)->length = length;
    atomic_store_explicit(&(*record)->state, 0, memory_order_relaxed);
    ring->head += space;
    return FPK_OK;
}

void
fpk_ring_publish(fpk_ring *ring)
{
    ring->published = ring->head;
    atomic_store_explicit(&ring->shared->head, ring->head,
                          memory_order_release);
}

void
fpk_ring_retract(fpk_ring *ring)
{
    ring->head = ring->published;
}

fpk_record *
fpk_ring_at(fpk_ring *ring, uint64_t position)
{
    uint64_t tail;
    if (!look_at_tail(ring, &tail)) {
        return NULL;
    }
    uint64_t behind = ring->head - position;
    if (behind == 0 || behind > ring->head - tail || position % 8 != 0) {
        return NULL;
    }
    return record_at(ring, position);
}

uint64_t
fpk_ring_used(fpk_ring *ring)
{
    uint64_t tail;
    return look_at_tail(ring, &tail) ? ring->published - tail : UINT64_MAX;
}

/* ---- the consumer ------------------------------------------------------- */

/* The producer's counter, if it can be: it never goes back and never a ring's
   length beyond what was given back. */
static bool
look_at_head(fpk_ring *ring, uint64_t *head)
{
    *head = atomic_load_explicit(&ring->shared->head, memory_order_acquire);
    return *head % 8 == 0 && *head - ring->released <= ring->size &&
           *head - ring->released >= ring->seen - ring->released;
}

fpk_status
fpk_ring_next(fpk_ring *ring, fpk_record **record)
{
    *record = NULL;
    for (;;) {
        if (ring->tail == ring->seen) {
            uint64_t head;
            if (!look_at_head(ring, &head)) {
                return FPK_CORRUPT;
            }
            ring->seen = head;
            if (ring->tail == head) {
                /* Ours alone to write: who compares the two counters from
                   outside would find a record for ever. */
                return atomic_load_explicit(&ring->shared->tail,
                                            memory_order_relaxed) ==
                               ring->released
                           ? FPK_OK
                           : FPK_CORRUPT;
            }
        }
        uint64_t there = ring->seen - ring->tail;
        uint64_t rest = before_end(ring, ring->tail);
        fpk_record *next = record_at(ring, ring->tail);
        /* Read once: it must not change between check and use. */
        uint32_t length = *(const volatile uint32_t *)&next->length;
        if (length == PADDING) {
            /* There is always a record behind padding, at the front. */
            if (rest >= there || rest == ring->size) {
                return FPK_CORRUPT;
            }
            ring->tail += rest;
            continue;
        }
        if (length > fpk_ring_longest(ring->size) || space_of(length) > rest ||
            space_of(length) > there) {
            return FPK_CORRUPT;
        }
        ring->tail += space_of(length);
        *record = next;
        return FPK_OK;
    }
}

void
fpk_ring_release(fpk_ring *ring)
{
    if (ring->released != ring->tail) {
        ring->released = ring->tail;
        atomic_store_explicit(&ring->shared->tail, ring->tail,
                              memory_order_release);
    }
}
