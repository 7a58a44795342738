/* arena_test.c -- tests of transport/arena.h.

   Does:      allocates and frees against a model that knows each block; looks
              at how much memory stays.
   Owns:      the arenas that it makes.
   Invariant: no two live blocks share a page, and none moves or changes.
   Called by: transport_test.c. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport_test.h"

#include "transport/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t
memory_of(const fpk_arena *arena)
{
    struct stat found;
    CHECK(fstat(fpk_arena_fd(arena), &found) == 0);
    return (uint64_t)found.st_blocks * 512;
}

typedef struct held {
    uint64_t offset, length;
    unsigned char *address, tag;
} held;

enum { MOST_HELD = 200 };

/* A length as they come: mostly small, some large. */
static uint64_t
random_length(uint64_t *state)
{
    uint64_t bits = 1 + next_random(state) % 20;
    return next_random(state) % (UINT64_C(1) << bits);
}

/* Its first and last bytes, and one in each page, tell whose the block is. */
static void
mark(const held *block)
{
    for (uint64_t i = 0; i < block->length; i += 4096) {
        block->address[i] = block->tag;
    }
    if (block->length != 0) {
        block->address[block->length - 1] = block->tag;
    }
}

static bool
is_marked(const held *block)
{
    for (uint64_t i = 0; i < block->length; i += 4096) {
        if (block->address[i] != block->tag) {
            return false;
        }
    }
    return block->length == 0 ||
           block->address[block->length - 1] == block->tag;
}

static void
arena_against_a_model(void)
{
    static const uint64_t keeps[] = {0, 1 << 20, UINT64_MAX};
    for (int k = 0; k < 3; k++) {
        uint64_t state = 11;
        fpk_arena *arena;
        static held blocks[MOST_HELD];
        int count = 0;
        uint64_t least = 0;
        CHECK(fpk_arena_create(&arena, "test", keeps[k]) == FPK_OK);
        for (long i = 0; i < scaled(20000); i++) {
            bool more = next_random(&state) % 100 <
                        ((i / 1000) % 2 == 0 ? 60 : 40);
            if (count == MOST_HELD || (count > 0 && !more)) {
                int which = (int)(next_random(&state) % (uint64_t)count);
                CHECK(is_marked(&blocks[which]));
                CHECK(fpk_arena_free(arena, blocks[which].offset) == FPK_OK);
                CHECK(fpk_arena_free(arena, blocks[which].offset) ==
                      FPK_CORRUPT);
                least -= blocks[which].length;
                blocks[which] = blocks[--count];
                CHECK(fpk_arena_warm(arena) <= keeps[k]);
                continue;
            }
            held *made = &blocks[count++];
            void *address;
            made->length = random_length(&state);
            made->tag = (unsigned char)next_random(&state);
            CHECK(fpk_arena_allocate(arena, made->length, &made->offset,
                                     &address) == FPK_OK);
            made->address = address;
            CHECK(made->offset % FPK_BLOCK_ALIGNMENT == 0);
            CHECK((uintptr_t)address % FPK_BLOCK_ALIGNMENT == 0);
            CHECK(made->offset + made->length <= fpk_arena_size(arena));
            mark(made);
            least += made->length;
            CHECK(fpk_arena_used(arena) >= least);
            for (int j = 0; j < count - 1; j++) {
                uint64_t end = (blocks[j].length + 4095) / 4096 * 4096;
                end = blocks[j].offset + (end == 0 ? 4096 : end);
                CHECK(made->offset >= end ||
                      made->offset + made->length <= blocks[j].offset);
                CHECK(made->offset != blocks[j].offset);
            }
            if (i % 64 == 0) {
                for (int j = 0; j < count; j++) {
                    CHECK(is_marked(&blocks[j]));
                }
            }
        }
        while (count > 0) {
            CHECK(is_marked(&blocks[--count]));
            CHECK(fpk_arena_free(arena, blocks[count].offset) == FPK_OK);
        }
        CHECK(fpk_arena_used(arena) == 0);
        CHECK(fpk_arena_warm(arena) <= keeps[k]);
        if (keeps[k] != UINT64_MAX) {
            /* Besides what is kept only what is not carved yet. */
            CHECK(memory_of(arena) <= keeps[k] + (3 << 20));
        }
        CHECK(fpk_arena_size(arena) < 512 << 20);
        fpk_arena_destroy(arena);
    }
}

static void
arena_refuses_foreign_offsets(void)
{
    fpk_arena *arena;
    uint64_t offsets[3];
    void *address;
    CHECK(fpk_arena_create(&arena, "test", 1 << 20) == FPK_OK);
    CHECK(fpk_arena_free(arena, 0) == FPK_CORRUPT);
    for (int i = 0; i < 3; i++) {
        CHECK(fpk_arena_allocate(arena, 10000, &offsets[i], &address) ==
              FPK_OK);
    }
    uint64_t used = fpk_arena_used(arena);
    static const uint64_t bad[] = {1, 4096, 8192, UINT64_MAX,
                                   UINT64_C(1) << 40};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 5; j++) {
            CHECK(fpk_arena_free(arena, offsets[i] + bad[j]) == FPK_CORRUPT);
        }
    }
    CHECK(fpk_arena_used(arena) == used);
    CHECK(fpk_arena_free(arena, offsets[1]) == FPK_OK);
    CHECK(fpk_arena_free(arena, offsets[1]) == FPK_CORRUPT);
    CHECK(fpk_arena_free(arena, offsets[0]) == FPK_OK);
    CHECK(fpk_arena_free(arena, offsets[2]) == FPK_OK);
    CHECK(fpk_arena_used(arena) == 0);
    fpk_arena_destroy(arena);
    fpk_arena_destroy(NULL);
}

static void
arena_hands_warm_blocks_out_again(void)
{
    fpk_arena *arena;
    uint64_t first, again;
    void *address, *same;
    CHECK(fpk_arena_create(&arena, "test", 64 << 20) == FPK_OK);
    CHECK(fpk_arena_allocate(arena, 10 << 20, &first, &address) == FPK_OK);
    uint64_t memory = memory_of(arena);
    CHECK(memory >= 10 << 20 && memory < 11 << 20);
    for (uint64_t length = 10 << 20; length >= 6 << 20; length -= 1 << 20) {
        CHECK(fpk_arena_free(arena, first) == FPK_OK);
        CHECK(fpk_arena_warm(arena) == 10 << 20);
        CHECK(fpk_arena_allocate(arena, length, &again, &same) == FPK_OK);
        CHECK(again == first && same == address);
        CHECK(fpk_arena_warm(arena) == 0);
    }
    /* A much smaller one is not worth the large one. */
    CHECK(fpk_arena_free(arena, first) == FPK_OK);
    CHECK(fpk_arena_allocate(arena, 1 << 20, &again, &same) == FPK_OK);
    CHECK(again != first);
    CHECK(fpk_arena_warm(arena) == 10 << 20);
    fpk_arena_destroy(arena);
}

static void
arena_keeps_what_was_used_last(void)
{
    fpk_arena *arena;
    uint64_t old[8], young[8], huge;
    void *address;
    CHECK(fpk_arena_create(&arena, "test", 2 << 20) == FPK_OK);
    for (int i = 0; i < 8; i++) {
        CHECK(fpk_arena_allocate(arena, 1 << 18, &old[i], &address) ==
              FPK_OK);
        memset(address, 1, 1 << 18);
    }
    for (int i = 0; i < 8; i++) {
        CHECK(fpk_arena_free(arena, old[i]) == FPK_OK);
    }
    CHECK(fpk_arena_warm(arena) == 2 << 20);
    for (int i = 0; i < 8; i++) {
        CHECK(fpk_arena_allocate(arena, 1 << 16, &young[i], &address) ==
              FPK_OK);
    }
    uint64_t memory = memory_of(arena);
    for (int i = 0; i < 8; i++) {
        CHECK(fpk_arena_free(arena, young[i]) == FPK_OK);
    }
    /* The oldest two large ones went, and no small one. */
    CHECK(fpk_arena_warm(arena) == 2 << 20);
    CHECK(memory_of(arena) == memory - (1 << 19));
    memory = memory_of(arena);
    for (int i = 0; i < 8; i++) {
        CHECK(fpk_arena_allocate(arena, 1 << 16, &young[i], &address) ==
              FPK_OK);
    }
    CHECK(memory_of(arena) == memory);
    for (int i = 0; i < 8; i++) {
        CHECK(fpk_arena_free(arena, young[i]) == FPK_OK);
    }
    /* What is more than may be kept goes by itself. */
    CHECK(fpk_arena_allocate(arena, 3 << 20, &huge, &address) == FPK_OK);
    memset(address, 1, 3 << 20);
    CHECK(fpk_arena_free(arena, huge) == FPK_OK);
    CHECK(fpk_arena_warm(arena) <= 2 << 20);
    CHECK(fpk_arena_warm(arena) >= 1 << 20);
    /* A discarded block reads as zeros and can be written again. */
    CHECK(fpk_arena_allocate(arena, 3 << 20, &huge, &address) == FPK_OK);
    CHECK(*(char *)address == 0);
    memset(address, 1, 3 << 20);
    fpk_arena_destroy(arena);
}

/* Lengths that grow a page at a time: each fits no block before it, and still
   neither memory nor addresses add up. */
static void
arena_does_not_grow_with_lengths(void)
{
    fpk_arena *arena;
    uint64_t offset;
    void *address;
    CHECK(fpk_arena_create(&arena, "test", 1 << 20) == FPK_OK);
    for (uint64_t pages = 1; pages < 2000; pages += 9) {
        CHECK(fpk_arena_allocate(arena, pages * 4096, &offset, &address) ==
              FPK_OK);
        CHECK(fpk_arena_free(arena, offset) == FPK_OK);
    }
    CHECK(memory_of(arena) < 5 << 20);
    CHECK(fpk_arena_size(arena) < 128 << 20);
    fpk_arena_destroy(arena);
}

/* What an extent has left when the next one is added is used later. */
static void
arena_uses_the_ends_of_extents(void)
{
    fpk_arena *arena;
    uint64_t offset;
    void *address;
    CHECK(fpk_arena_create(&arena, "test", 0) == FPK_OK);
    for (int i = 0; i < 2; i++) {
        CHECK(fpk_arena_allocate(arena, 3 << 20, &offset, &address) ==
              FPK_OK);
    }
    uint64_t size = fpk_arena_size(arena);
    CHECK(size == 8 << 20);
    for (int i = 0; i < 2; i++) {
        CHECK(fpk_arena_allocate(arena, 1 << 20, &offset, &address) ==
              FPK_OK);
    }
    CHECK(fpk_arena_size(arena) == size);
    fpk_arena_destroy(arena);
}

static void
arena_without_memory(void)
{
    struct rlimit before, limit;
    fpk_arena *arena;
    uint64_t offset, other;
    void *address;
    CHECK(fpk_arena_create(&arena, "test", 64 << 20) == FPK_OK);
    CHECK(fpk_arena_allocate(arena, UINT64_MAX, &offset, &address) ==
          FPK_NO_MEMORY);
    CHECK(fpk_arena_allocate(arena, UINT64_C(1) << 45, &offset, &address) ==
          FPK_NO_MEMORY);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    limit = before;
    limit.rlim_cur = 1 << 20;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(fpk_arena_allocate(arena, 2 << 20, &offset, &address) ==
          FPK_NO_MEMORY);
    CHECK(fpk_arena_used(arena) == 0 && fpk_arena_size(arena) == 0);
    /* Less than it would like to add at once. */
    CHECK(fpk_arena_allocate(arena, 1 << 19, &offset, &address) == FPK_OK);
    memset(address, 1, 1 << 19);
    CHECK(fpk_arena_allocate(arena, 1 << 20, &other, &address) ==
          FPK_NO_MEMORY);
    CHECK(fpk_arena_free(arena, offset) == FPK_OK);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(fpk_arena_allocate(arena, 2 << 20, &offset, &address) == FPK_OK);
    memset(address, 1, 2 << 20);
    fpk_arena_destroy(arena);
}

static void
arena_over_a_given_segment(void)
{
    fpk_segment segment;
    fpk_arena *arena;
    uint64_t offset, size = 3 * fpk_page_size() + (1 << 20);
    void *address, *seen;
    CHECK(fpk_segment_create(&segment, "test", size) == FPK_OK);
    CHECK(fpk_arena_attach(&arena, dup(segment.fd), 1 << 20) == FPK_OK);
    CHECK(fpk_arena_size(arena) == size);
    CHECK(fpk_arena_allocate(arena, 5000, &offset, &address) == FPK_OK);
    CHECK(fpk_arena_size(arena) == size); /* it uses what is there */
    memset(address, 3, 5000);
    CHECK(fpk_segment_map(&segment, offset, 5000, FPK_MAP_PRIVATE, &seen) ==
          FPK_OK);
    CHECK(memcmp(seen, address, 5000) == 0);
    fpk_segment_unmap(seen, 5000);
    CHECK(fpk_arena_allocate(arena, 9 << 20, &offset, &address) == FPK_OK);
    memset(address, 4, 9 << 20);
    CHECK(fpk_segment_map(&segment, offset, 9 << 20, FPK_MAP_READ, &seen) ==
          FPK_OK);
    CHECK(memcmp(seen, address, 9 << 20) == 0);
    /* What others mapped outlives the arena. */
    fpk_arena_destroy(arena);
    CHECK(*(char *)seen == 4);
    fpk_segment_unmap(seen, 9 << 20);
    fpk_segment_close(&segment);
    CHECK(fpk_arena_attach(&arena, -1, 0) == FPK_CLOSED);
    CHECK(arena == NULL);
}

/* The user closed the fd, or put another file there. */
static void
arena_without_its_file(void)
{
    fpk_arena *arena;
    uint64_t offset, other;
    void *address;
    CHECK(fpk_arena_create(&arena, "test", 0) == FPK_OK);
    CHECK(fpk_arena_allocate(arena, 5000, &offset, &address) == FPK_OK);
    close(fpk_arena_fd(arena));
    memset(address, 1, 5000);
    CHECK(fpk_arena_allocate(arena, 9 << 20, &other, &address) == FPK_CLOSED);
    CHECK(fpk_arena_free(arena, offset) == FPK_OK);
    CHECK(fpk_arena_allocate(arena, 5000, &other, &address) == FPK_OK);
    CHECK(other == offset);
    fpk_arena_destroy(arena);
}

void
test_arenas(void)
{
    RUN(arena_against_a_model);
    RUN(arena_refuses_foreign_offsets);
    RUN(arena_hands_warm_blocks_out_again);
    RUN(arena_keeps_what_was_used_last);
    RUN(arena_does_not_grow_with_lengths);
    RUN(arena_uses_the_ends_of_extents);
    RUN(arena_without_memory);
    RUN(arena_over_a_given_segment);
    RUN(arena_without_its_file);
}
