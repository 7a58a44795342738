/* ring.h -- a queue of records from one process to one other.

   The bytes lie in shared memory; the two counters, [head] of the producer and
   [tail] of the consumer, never wrap, and each stands in a cache line of its
   own.  A record is 8 bytes of header (its length, and a state word that
   belongs to whoever uses the ring), then its bytes, padded to 8.  A record
   never wraps: where it does not fit before the end, a record of padding fills
   the rest.

   Each side trusts nothing that the other can write: a counter or a length
   that cannot be is FPK_CORRUPT, and no byte outside of the ring is touched.
   After FPK_CORRUPT the ring stays as it was; nothing more comes of it.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_RING_H
#define FPK_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/status.h"

typedef struct fpk_ring_counters {
    _Alignas(64) _Atomic uint64_t head; /* bytes published; the producer's */
    _Alignas(64) _Atomic uint64_t tail; /* bytes given back; the consumer's */
} fpk_ring_counters;

typedef struct fpk_record {
    uint32_t length;        /* bytes that follow, less the padding */
    _Atomic uint32_t state; /* the user's; 0 when published */
    unsigned char bytes[];
} fpk_record;

/* One end of a ring, in the memory of its process. */
typedef struct fpk_ring {
    fpk_ring_counters *shared;
    unsigned char *data;
    uint64_t size;      /* bytes of data, a power of two */
    uint64_t head;      /* producer: written so far, published or not */
    uint64_t published; /* producer: what shared->head must be */
    uint64_t tail;      /* consumer: read so far, given back or not */
    uint64_t released;  /* consumer: what shared->tail must be */
    uint64_t seen; /* the other side's counter when it was last looked at */
} fpk_ring;

/* Both ends start with the counters as they are in shared memory.  [size] is a
   power of two, at least 64; [data] is aligned to 8.  FPK_CORRUPT if the
   counters cannot be; then the ring must not be used. */
fpk_status fpk_ring_open(fpk_ring *ring, fpk_ring_counters *shared,
                         unsigned char *data, uint64_t size);

/* The longest record that an empty ring of [size] takes for sure. */
uint32_t fpk_ring_longest(uint64_t size);

/* ---- the producer ------------------------------------------------------- */

/* Room for a record of [length] bytes: FPK_OK with *[record], whose length is
   set and whose state is 0, and *[position], by which fpk_ring_at finds it;
   FPK_FULL; FPK_TOO_LARGE; FPK_CORRUPT.  Records become visible to the
   consumer at the next fpk_ring_publish, all at once. */
fpk_status fpk_ring_reserve(fpk_ring *ring, uint32_t length,
                            fpk_record **record, uint64_t *position);
void fpk_ring_publish(fpk_ring *ring);

/* Takes back what was reserved and not published. */
void fpk_ring_retract(fpk_ring *ring);

/* The record that was written at [position], or NULL if the consumer has given
   its bytes back already.  Its state is the user's to change; its length may
   be anything by now. */
fpk_record *fpk_ring_at(fpk_ring *ring, uint64_t position);

/* Bytes that are published and not given back; UINT64_MAX if corrupt. */
uint64_t fpk_ring_used(fpk_ring *ring);

/* ---- the consumer ------------------------------------------------------- */

/* The next record: FPK_OK with *[record]; *[record] is NULL if there is none;
   or FPK_CORRUPT.  The bytes stay valid until fpk_ring_release. */
fpk_status fpk_ring_next(fpk_ring *ring, fpk_record **record);

/* Gives back all records that were read. */
void fpk_ring_release(fpk_ring *ring);

#endif
