/* ring_test.c -- tests of transport/ring.h.

   Does:      reads and writes at every offset, with everything that the other
              side can do wrong, and between two processes.
   Owns:      rings in blocks of exactly their size, so that the sanitizers and
              valgrind see a byte too far.
   Invariant: no byte outside of a ring changes.
   Called by: transport_test.c. */
#include "transport_test.h"

#include "transport/ring.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 256 };

/* Both ends of one ring in one process. */
typedef struct pair {
    fpk_ring_counters *counters;
    unsigned char *data;
    fpk_ring producer, consumer;
} pair;

static void
open_pair(pair *rings, uint64_t size, uint64_t start)
{
    rings->counters = aligned_alloc(64, sizeof *rings->counters);
    rings->data = malloc(size);
    memset(rings->data, 0xEE, size);
    atomic_init(&rings->counters->head, start);
    atomic_init(&rings->counters->tail, start);
    CHECK(fpk_ring_open(&rings->producer, rings->counters, rings->data,
                        size) == FPK_OK);
    CHECK(fpk_ring_open(&rings->consumer, rings->counters, rings->data,
                        size) == FPK_OK);
}

static void
close_pair(pair *rings)
{
    free(rings->data);
    free(rings->counters);
}

/* Writes a record of [length] bytes that tell [number]. */
static fpk_status
put(fpk_ring *ring, uint32_t length, uint32_t number, uint64_t *position)
{
    fpk_record *record;
    fpk_status status = fpk_ring_reserve(ring, length, &record, position);
    if (status == FPK_OK) {
        CHECK(record->length == length && record->state == 0);
        CHECK((uintptr_t)record % 8 == 0);
        for (uint32_t i = 0; i < length; i++) {
            record->bytes[i] = (unsigned char)(number * 7 + i);
        }
    }
    return status;
}

/* Whether [record] is what put wrote for [number]. */
static bool
tells(const fpk_record *record, uint32_t length, uint32_t number)
{
    if (record == NULL || record->length != length) {
        return false;
    }
    for (uint32_t i = 0; i < length; i++) {
        if (record->bytes[i] != (unsigned char)(number * 7 + i)) {
            return false;
        }
    }
    return true;
}

/* ---- one process -------------------------------------------------------- */

/* Every length at every offset, also where the counters themselves overflow,
   until the ring is full; then all of it again in order. */
static void
ring_every_length_at_every_offset(void)
{
    static const uint64_t bases[] = {0, SIZE * 1000, 0 - (uint64_t)SIZE};
    uint32_t longest = fpk_ring_longest(SIZE);
    CHECK(longest == SIZE / 2 - 8);
    for (int base = 0; base < 3; base++) {
        for (uint64_t offset = 0; offset < SIZE; offset += 8) {
            for (uint32_t length = 0; length <= longest; length++) {
                pair rings;
                open_pair(&rings, SIZE, bases[base] + offset);
                uint64_t position = 0;
                uint32_t written = 0;
                while (put(&rings.producer, length, written, &position) ==
                       FPK_OK) {
                    CHECK(fpk_ring_at(&rings.producer, position) != NULL);
                    written++;
                }
                CHECK(written >= 1);
                /* Nothing may be wasted but one stretch before the end. */
                uint64_t space = 8 + ((length + 7) / 8) * 8;
                CHECK(written >= (SIZE - space + 8) / space);
                CHECK(written * space <= SIZE);
                fpk_record *record;
                CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK);
                CHECK(record == NULL); /* not published yet */
                fpk_ring_publish(&rings.producer);
                for (uint32_t i = 0; i < written; i++) {
                    CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK);
                    CHECK(tells(record, length, i));
                }
                CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK);
                CHECK(record == NULL);
                CHECK(put(&rings.producer, length, 0, &position) == FPK_FULL);
                fpk_ring_release(&rings.consumer);
                CHECK(fpk_ring_used(&rings.producer) == 0);
                CHECK(put(&rings.producer, length, 0, &position) == FPK_OK);
                close_pair(&rings);
            }
        }
    }
}

static void
ring_takes_the_longest_anywhere(void)
{
    for (uint64_t size = 64; size <= 4096; size *= 2) {
        uint32_t longest = fpk_ring_longest(size);
        for (uint64_t offset = 0; offset < size; offset += 8) {
            pair rings;
            uint64_t position;
            open_pair(&rings, size, size + offset);
            CHECK(put(&rings.producer, longest + 1, 0, &position) ==
                  FPK_TOO_LARGE);
            CHECK(put(&rings.producer, UINT32_MAX, 0, &position) ==
                  FPK_TOO_LARGE);
            CHECK(put(&rings.producer, longest, 5, &position) == FPK_OK);
            fpk_ring_publish(&rings.producer);
            fpk_record *record;
            CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK);
            CHECK(tells(record, longest, 5));
            close_pair(&rings);
        }
    }
    CHECK(fpk_ring_longest(UINT64_C(1) << 40) < UINT32_MAX / 2);
}

static void
ring_random_traffic_in_order(void)
{
    uint64_t state = 1;
    pair rings;
    uint32_t lengths[64];
    uint32_t written = 0, published = 0, taken = 0;
    open_pair(&rings, 1024, 0 - UINT64_C(4096));
    for (long i = 0; i < scaled(300000); i++) {
        uint64_t choice = next_random(&state) % 8;
        fpk_record *record;
        uint64_t position;
        if (choice < 4) {
            uint32_t length = (uint32_t)(next_random(&state) % 121);
            fpk_status status =
                put(&rings.producer, length, written, &position);
            CHECK(status == FPK_OK || status == FPK_FULL);
            if (status == FPK_OK && written - taken < 64) {
                lengths[written++ % 64] = length;
            }
            else if (status == FPK_OK) {
                fpk_ring_retract(&rings.producer);
                written = published;
            }
        }
        else if (choice == 4) {
            fpk_ring_publish(&rings.producer);
            published = written;
        }
        else if (choice == 5 && next_random(&state) % 4 == 0) {
            fpk_ring_retract(&rings.producer);
            written = published;
        }
        else if (choice == 6) {
            fpk_ring_release(&rings.consumer);
        }
        else {
            CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK);
            CHECK((record == NULL) == (taken == published));
            if (record != NULL) {
                CHECK(tells(record, lengths[taken % 64], taken));
                taken++;
            }
        }
    }
    CHECK(taken > 10);
    close_pair(&rings);
}

static void
ring_finds_records_until_they_are_given_back(void)
{
    pair rings;
    uint64_t positions[3];
    open_pair(&rings, SIZE, 64);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(put(&rings.producer, 16, i, &positions[i]) == FPK_OK);
    }
    fpk_ring_publish(&rings.producer);
    CHECK(fpk_ring_used(&rings.producer) == 3 * 24);
    fpk_record *record, *second = fpk_ring_at(&rings.producer, positions[1]);
    CHECK(tells(second, 16, 1));
    /* A position that no record ever had. */
    CHECK(fpk_ring_at(&rings.producer, 0) == NULL);
    CHECK(fpk_ring_at(&rings.producer, 64 + 3 * 24) == NULL);
    CHECK(fpk_ring_at(&rings.producer, 65) == NULL);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK);
    }
    CHECK(record == second);
    CHECK(fpk_ring_at(&rings.producer, positions[1]) == second);
    fpk_ring_release(&rings.consumer);
    CHECK(fpk_ring_at(&rings.producer, positions[0]) == NULL);
    CHECK(fpk_ring_at(&rings.producer, positions[1]) == NULL);
    CHECK(tells(fpk_ring_at(&rings.producer, positions[2]), 16, 2));
    close_pair(&rings);
}

/* ---- what the other side can do wrong ----------------------------------- */

static void
ring_refuses_impossible_heads(void)
{
    uint64_t start = SIZE * 4 + 16;
    static const uint64_t bad[] = {
        1,    4,          7,  (uint64_t)-8, (uint64_t)-SIZE, SIZE + 8,
        9999, UINT64_MAX, 12, UINT64_C(1) << 63,
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pair rings;
        fpk_record *record;
        open_pair(&rings, SIZE, start);
        memset(rings.data, 0, SIZE); /* possible records, without bytes */
        atomic_store(&rings.counters->head, start + bad[i]);
        CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_CORRUPT);
        CHECK(record == NULL);
        CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_CORRUPT);
        close_pair(&rings);
    }
    /* Going back after a record was read. */
    pair rings;
    uint64_t position;
    fpk_record *record;
    open_pair(&rings, SIZE, start);
    CHECK(put(&rings.producer, 40, 1, &position) == FPK_OK);
    fpk_ring_publish(&rings.producer);
    CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK && record);
    atomic_store(&rings.counters->head, start + 8);
    CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_CORRUPT);
    close_pair(&rings);
    /* The counter of the consumer itself, changed by somebody else: a ring
       without records that never looks empty from outside. */
    open_pair(&rings, SIZE, start);
    CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_OK && !record);
    atomic_store(&rings.counters->tail, start + 8);
    CHECK(fpk_ring_next(&rings.consumer, &record) == FPK_CORRUPT);
    close_pair(&rings);
}

static void
ring_refuses_impossible_tails(void)
{
    uint64_t start = SIZE * 4 + 16;
    static const uint64_t bad[] = {
        1, 4, (uint64_t)-8, 5 * 48 + 8, SIZE * 2, UINT64_C(1) << 63, 13,
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pair rings;
        uint64_t position;
        open_pair(&rings, SIZE, start);
        while (put(&rings.producer, 40, 1, &position) == FPK_OK) {
        }
        fpk_ring_publish(&rings.producer);
        atomic_store(&rings.counters->tail, start + bad[i]);
        CHECK(put(&rings.producer, 40, 1, &position) == FPK_CORRUPT);
        CHECK(fpk_ring_used(&rings.producer) == UINT64_MAX);
        CHECK(fpk_ring_at(&rings.producer, start) == NULL);
        close_pair(&rings);
    }
}

static void
ring_refuses_to_open_with_impossible_counters(void)
{
    static const uint64_t bad[][2] = {
        {8, 16}, {SIZE + 8, 0}, {4, 0}, {8, 4}, {UINT64_MAX, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pair rings;
        fpk_ring again;
        open_pair(&rings, SIZE, 0);
        atomic_store(&rings.counters->head, bad[i][0]);
        atomic_store(&rings.counters->tail, bad[i][1]);
        CHECK(fpk_ring_open(&again, rings.counters, rings.data, SIZE) ==
              FPK_CORRUPT);
        close_pair(&rings);
    }
}

static void
ring_refuses_impossible_lengths(void)
{
    /* At each offset, with so many bytes published, each length: only what
       lies within what is published and within the ring is handed out. */
    for (uint64_t offset = 0; offset < SIZE; offset += 8) {
        for (uint64_t there = 8; there <= SIZE; there += 8) {
            for (uint32_t step = 0; step < 300; step++) {
                uint32_t length = step < 280 ? step
                                             : UINT32_MAX - (step - 280);
                pair rings;
                open_pair(&rings, SIZE, offset);
                memset(rings.data, 0, SIZE);
                memcpy(rings.data + offset, &length, 4);
                atomic_store(&rings.counters->head, offset + there);
                fpk_record *record;
                fpk_status status = fpk_ring_next(&rings.consumer, &record);
                uint64_t space = 8 + (((uint64_t)length + 7) & ~UINT64_C(7));
                bool possible = space <= there && offset + space <= SIZE &&
                                length <= SIZE / 2 - 8;
                bool padding = length == UINT32_MAX && offset != 0 &&
                               SIZE - offset < there;
                CHECK(status ==
                      (possible || padding ? FPK_OK : FPK_CORRUPT));
                CHECK((record != NULL) == (possible || padding));
                close_pair(&rings);
            }
        }
    }
}

static void
ring_survives_garbage(void)
{
    uint64_t state = 2;
    for (long i = 0; i < scaled(30000); i++) {
        pair rings;
        uint64_t start = next_random(&state) & ~UINT64_C(7);
        open_pair(&rings, SIZE, start);
        for (int at = 0; at < SIZE; at += 4) {
            /* Mostly small, so that many records are possible. */
            uint64_t word = next_random(&state);
            uint32_t value = (uint32_t)(word % 32);
            if (word >> 60 == 0) {
                value = (uint32_t)(word >> 8);
            }
            else if (word >> 60 == 1) {
                value = UINT32_MAX;
            }
            memcpy(rings.data + at, &value, 4);
        }
        uint64_t there = (next_random(&state) % (SIZE / 8 + 1)) * 8;
        atomic_store(&rings.counters->head, start + there);
        uint64_t read = 0;
        for (;;) {
            fpk_record *record;
            fpk_status status = fpk_ring_next(&rings.consumer, &record);
            if (status != FPK_OK || record == NULL) {
                CHECK(status == FPK_CORRUPT || status == FPK_OK);
                break;
            }
            uint64_t at = (uint64_t)((unsigned char *)record - rings.data);
            CHECK(at + 8 + record->length <= SIZE);
            read += 8 + record->length;
        }
        CHECK(read <= there);
        fpk_ring_release(&rings.consumer);
        CHECK(atomic_load(&rings.counters->tail) - start <= there);
        close_pair(&rings);
    }
}

/* ---- two processes ------------------------------------------------------ */

enum { STREAM_SIZE = 8192 };

typedef struct stream {
    fpk_ring_counters counters;
    _Alignas(8) unsigned char data[STREAM_SIZE];
    long records;
} stream;

static void
produce(void *context)
{
    stream *shared = context;
    fpk_ring ring;
    uint64_t state = 3;
    CHECK(fpk_ring_open(&ring, &shared->counters, shared->data,
                        STREAM_SIZE) == FPK_OK);
    for (long i = 0; i < shared->records; i++) {
        uint32_t length = (uint32_t)(next_random(&state) % 200);
        if (next_random(&state) % 256 == 0) {
            length = fpk_ring_longest(STREAM_SIZE);
        }
        fpk_record *record;
        uint64_t position;
        fpk_status status;
        while ((status = fpk_ring_reserve(&ring, length, &record,
                                          &position)) == FPK_FULL) {
            fpk_ring_publish(&ring);
            sched_yield();
        }
        if (status != FPK_OK) {
            CHECK(status == FPK_OK);
            return;
        }
        memset(record->bytes, (int)(i & 0xff), length);
        if (next_random(&state) % 4 == 0) {
            fpk_ring_publish(&ring);
        }
    }
    fpk_ring_publish(&ring);
}

static void
consume(void *context)
{
    stream *shared = context;
    fpk_ring ring;
    uint64_t state = 3, own = 4;
    CHECK(fpk_ring_open(&ring, &shared->counters, shared->data,
                        STREAM_SIZE) == FPK_OK);
    for (long i = 0; i < shared->records; i++) {
        uint32_t length = (uint32_t)(next_random(&state) % 200);
        if (next_random(&state) % 256 == 0) {
            length = fpk_ring_longest(STREAM_SIZE);
        }
        (void)next_random(&state);
        fpk_record *record = NULL;
        fpk_status status;
        while ((status = fpk_ring_next(&ring, &record)) == FPK_OK &&
               record == NULL) {
            fpk_ring_release(&ring);
            sched_yield();
        }
        if (status != FPK_OK || record->length != length) {
            CHECK(status == FPK_OK);
            CHECK(record != NULL && record->length == length);
            return;
        }
        for (uint32_t at = 0; at < length; at++) {
            if (record->bytes[at] != (unsigned char)i) {
                CHECK(record->bytes[at] == (unsigned char)i);
                return;
            }
        }
        if (next_random(&own) % 4 == 0) {
            fpk_ring_release(&ring);
        }
    }
}

static void
pump(bool threads)
{
    stream *shared = shared_zeros(sizeof *shared);
    shared->records = scaled(1000000);
    run_both(produce, consume, shared, threads, false);
    free_shared(shared, sizeof *shared);
}

static void
ring_between_processes(void)
{
    pump(false);
}

static void
ring_between_threads(void)
{
    pump(true);
}

/* A record belongs to who changes its state first: the consumer takes, the
   producer revokes. */
typedef struct race {
    stream stream;
    _Atomic long taken, revoked;
} race;

static void
offer_and_revoke(void *context)
{
    race *shared = context;
    fpk_ring ring;
    uint64_t state = 5;
    CHECK(fpk_ring_open(&ring, &shared->stream.counters, shared->stream.data,
                        STREAM_SIZE) == FPK_OK);
    for (long i = 0; i < shared->stream.records; i++) {
        fpk_record *record;
        uint64_t position;
        while (fpk_ring_reserve(&ring, 24, &record, &position) == FPK_FULL) {
            sched_yield();
        }
        memset(record->bytes, 1, 24);
        fpk_ring_publish(&ring);
        for (uint64_t spin = next_random(&state) % 64; spin > 0; spin--) {
            atomic_signal_fence(memory_order_seq_cst);
        }
        record = fpk_ring_at(&ring, position);
        uint32_t expected = 0;
        if (record != NULL &&
            atomic_compare_exchange_strong(&record->state, &expected, 2)) {
            shared->revoked++;
        }
    }
}

static void
take_what_is_ready(void *context)
{
    race *shared = context;
    fpk_ring ring;
    CHECK(fpk_ring_open(&ring, &shared->stream.counters, shared->stream.data,
                        STREAM_SIZE) == FPK_OK);
    for (long i = 0; i < shared->stream.records;) {
        fpk_record *record;
        if (fpk_ring_next(&ring, &record) != FPK_OK) {
            CHECK(false);
            return;
        }
        if (record == NULL) {
            sched_yield();
            continue;
        }
        i++;
        uint32_t expected = 0;
        if (atomic_compare_exchange_strong(&record->state, &expected, 1)) {
            shared->taken++;
        }
        else {
            CHECK(expected == 2);
        }
        fpk_ring_release(&ring);
    }
}

static void
ring_records_are_taken_or_revoked(void)
{
    race *shared = shared_zeros(sizeof *shared);
    shared->stream.records = scaled(200000);
    run_both(offer_and_revoke, take_what_is_ready, shared, false, false);
    CHECK(shared->taken + shared->revoked == shared->stream.records);
    free_shared(shared, sizeof *shared);
}

void
test_rings(void)
{
    RUN(ring_every_length_at_every_offset);
    RUN(ring_takes_the_longest_anywhere);
    RUN(ring_random_traffic_in_order);
    RUN(ring_finds_records_until_they_are_given_back);
    RUN(ring_refuses_impossible_heads);
    RUN(ring_refuses_impossible_tails);
    RUN(ring_refuses_to_open_with_impossible_counters);
    RUN(ring_refuses_impossible_lengths);
    RUN(ring_survives_garbage);
    RUN(ring_between_processes);
    RUN(ring_between_threads);
    RUN(ring_records_are_taken_or_revoked);
}
