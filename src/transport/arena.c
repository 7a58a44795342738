/* arena.c -- blocks of bytes in a growing segment.

   Does:      carves blocks out of the segment, hands free ones out again, gets
              memory behind them and gives it back.
   Owns:      the segment, the mappings of it in this process, and a record for
              each block, which lives as long as the arena.
   Invariant: an address that was handed out stays good until its block is
              freed: each extent of the segment is mapped once and never moves.
              Blocks do not overlap, and are never split or joined.  The first
              [backed] bytes of a block have memory behind them.  A block is
              either live or in one list of free blocks: warm[class] if it has
              memory, cold[class] if not; all warm ones are in [oldest] order,
              too, and have [warm_bytes] together.
   Called by: dispatch.c for arguments, the worker in src/pool for results.

   Sizes of blocks are classes, four to each power of two, so however sizes
   change, the segment grows no further than each class at its highest.  What a
   class adds to the length that is asked for costs addresses and no memory. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    CLASSES = 4 * 52,
    /* How much is added to the segment at once, at least and at most, if no
       block needs more. */
    SMALLEST_EXTENT = 4 << 20,
    LARGEST_EXTENT = 256 << 20,
    /* Up to this size a new block gets memory together with its neighbours,
       and for all of its class. */
    SMALL_BLOCK = 64 << 10,
    SMALLEST_BACKING = 128 << 10,
    LARGEST_BACKING = 2 << 20,
};

typedef struct block {
    uint64_t offset;
    uint64_t capacity; /* the size of its class */
    uint64_t backed;   /* bytes from its start that have memory */
    unsigned char *address;
    struct block *next_in_table;   /* all blocks, by offset */
    struct block *next, *before;   /* in the list of its class */
    struct block *younger, *older; /* among the warm ones */
    int class;
    bool live;
} block;

typedef struct extent {
    struct extent *next;
    unsigned char *address;
    uint64_t length;
} extent;

struct fpk_arena {
    fpk_segment segment;
    uint64_t unit; /* blocks are multiples of it */
    uint64_t keep;
    uint64_t used_bytes;
    uint64_t warm_bytes;
    uint64_t backing; /* how much memory the next small block brings along */
    bool can_discard;
    extent *extents;
    uint64_t mapped; /* bytes of the segment that are in extents */
    /* What is not carved yet: of the newest extent. */
    uint64_t fresh_offset, fresh_length, fresh_backed;
    unsigned char *fresh_address;
    block *warm[CLASSES], *cold[CLASSES];
    block *oldest, *youngest;
    block **table; /* chains by offset; a power of two */
    uint64_t table_size, block_count;
};

/* ---- classes ------------------------------------------------------------ */

/* The smallest class whose size is at least [units]. */
static int
class_of(uint64_t units)
{
    if (units <= 4) {
        return units == 0 ? 0 : (int)units - 1;
    }
    int top = 63 - __builtin_clzll(units - 1);
    return 4 * (top - 1) + (int)(((units - 1) >> (top - 2)) & 3);
}

/* Its size in units: 1 2 3 4, 5 6 7 8, 10 12 14 16, 20 ... */
static uint64_t
units_of(int class)
{
    if (class < 4) {
        return (uint64_t) class + 1;
    }
    return (uint64_t)(class % 4 + 5) << (class / 4 - 1);
}

/* ---- the table of blocks ------------------------------------------------ */

static uint64_t
slot_of(const fpk_arena *arena, uint64_t offset)
{
    uint64_t hash = offset / arena->unit * 0x9E3779B97F4A7C15U;
    return (hash >> 32) & (arena->table_size - 1);
}

static block *
find_block(const fpk_arena *arena, uint64_t offset)
{
    block *found = arena->table[slot_of(arena, offset)];
    while (found != NULL && found->offset != offset) {
        found = found->next_in_table;
    }
    return found;
}

/* Twice as many chains; without memory they just get longer. */
static void
grow_table(fpk_arena *arena)
{
    uint64_t old_size = arena->table_size;
    block **old = arena->table;
    block **table = calloc((size_t)old_size * 2, sizeof *table);
    if (table == NULL) {
        return;
    }
    arena->table = table;
    arena->table_size = old_size * 2;
    for (uint64_t i = 0; i < old_size; i++) {
        while (old[i] != NULL) {
            block *moved = old[i];
            old[i] = moved->next_in_table;
            block **chain = &table[slot_of(arena, moved->offset)];
            moved->next_in_table = *chain;
            *chain = moved;
        }
    }
    free(old);
}

/* ---- the lists of free blocks ------------------------------------------- */

static void
push_free(fpk_arena *arena, block *freed)
{
    bool is_warm = freed->backed != 0;
    block **list = is_warm ? arena->warm : arena->cold;
    freed->before = NULL;
    freed->next = list[freed->class];
    if (freed->next != NULL) {
        freed->next->before = freed;
    }
    list[freed->class] = freed;
    if (is_warm) {
        arena->warm_bytes += freed->backed;
        freed->younger = NULL;
        freed->older = arena->youngest;
        if (freed->older != NULL) {
            freed->older->younger = freed;
        }
        else {
            arena->oldest = freed;
        }
        arena->youngest = freed;
    }
}

static void
remove_free(fpk_arena *arena, block *taken)
{
    bool is_warm = taken->backed != 0;
    block **list = is_warm ? arena->warm : arena->cold;
    if (taken->before != NULL) {
        taken->before->next = taken->next;
    }
    else {
        list[taken->class] = taken->next;
    }
    if (taken->next != NULL) {
        taken->next->before = taken->before;
    }
    if (is_warm) {
        arena->warm_bytes -= taken->backed;
        if (taken->younger != NULL) {
            taken->younger->older = taken->older;
        }
        else {
            arena->youngest = taken->older;
        }
        if (taken->older != NULL) {
            taken->older->younger = taken->younger;
        }
        else {
            arena->oldest = taken->younger;
        }
    }
}

/* Gives memory of free blocks back until at most [keep] bytes are warm. */
static void
discard_down_to(fpk_arena *arena, uint64_t keep)
{
    while (arena->can_discard && arena->warm_bytes > keep) {
        block *victim = arena->oldest;
        /* One block that is more than may be kept must not drive out all the
           others before itself. */
        if (arena->youngest->backed > keep) {
            victim = arena->youngest;
        }
        if (fpk_segment_discard(&arena->segment, victim->offset,
                                victim->backed) != FPK_OK) {
            arena->can_discard = false;
            return;
        }
        remove_free(arena, victim);
        victim->backed = 0;
        push_free(arena, victim);
    }
}

/* ---- carving ------------------------------------------------------------ */

/* A new block of [class] from the front of what is not carved, in no list;
   NULL without memory for its record. */
static block *
carve(fpk_arena *arena, int class)
{
    block *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    if (arena->block_count >= arena->table_size) {
        grow_table(arena);
    }
    made->class = class;
    made->offset = arena->fresh_offset;
    made->address = arena->fresh_address;
    made->capacity = units_of(class) * arena->unit;
    made->backed = arena->fresh_backed < made->capacity ? arena->fresh_backed
                                                        : made->capacity;
    arena->fresh_offset += made->capacity;
    arena->fresh_address += made->capacity;
    arena->fresh_length -= made->capacity;
    arena->fresh_backed -= made->backed;
    block **chain = &arena->table[slot_of(arena, made->offset)];
    made->next_in_table = *chain;
    *chain = made;
    arena->block_count++;
    return made;
}

/* Makes free blocks of what is left of the newest extent. */
static void
use_up_fresh(fpk_arena *arena)
{
    while (arena->fresh_length >= arena->unit) {
        uint64_t units = arena->fresh_length / arena->unit;
        int class = class_of(units);
        if (units_of(class) > units) {
            class --;
        }
        block *rest = carve(arena, class);
        if (rest == NULL) {
            return;
        }
        push_free(arena, rest);
    }
}

/* Maps the next [length] bytes of the segment; they are not carved yet. */
static fpk_status
map_extent(fpk_arena *arena, uint64_t length)
{
    extent *added = malloc(sizeof *added);
    if (added == NULL) {
        return FPK_NO_MEMORY;
    }
    void *address;
    fpk_status status = fpk_segment_map(&arena->segment, arena->mapped, length,
                                        FPK_MAP_WRITE, &address);
    if (status != FPK_OK) {
        free(added);
        return status;
    }
    added->address = address;
    added->length = length;
    added->next = arena->extents;
    arena->extents = added;
    use_up_fresh(arena);
    arena->fresh_offset = arena->mapped;
    arena->fresh_length = length;
    arena->fresh_address = address;
    arena->fresh_backed = 0;
    arena->mapped += length;
    return FPK_OK;
}

/* A new extent with room for a block of [capacity] bytes. */
static fpk_status
add_extent(fpk_arena *arena, uint64_t capacity)
{
    /* What an attached segment has, or what could not be mapped before. */
    uint64_t there = arena->segment.size - arena->mapped;
    there -= there % arena->unit;
    if (there >= capacity) {
        return map_extent(arena, there);
    }
    uint64_t length = arena->mapped;
    if (length < SMALLEST_EXTENT) {
        length = SMALLEST_EXTENT;
    }
    if (length > LARGEST_EXTENT) {
        length = LARGEST_EXTENT;
    }
    if (length < capacity) {
        length = capacity;
    }
    for (;;) {
        fpk_status status =
            fpk_segment_extend(&arena->segment, arena->mapped + length);
        if (status == FPK_OK) {
            status = map_extent(arena, length);
        }
        if (status != FPK_NO_MEMORY || length == capacity) {
            return status;
        }
        /* Addresses or the size of files are limited: only what is needed. */
        length = capacity;
    }
}

/* ---- memory ------------------------------------------------------------- */

/* Gets memory for a range and enters it into the page tables in one go, which
   costs less than a fault for each page. */
static fpk_status
back_range(fpk_arena *arena, uint64_t offset, unsigned char *address,
           uint64_t length)
{
    fpk_status status = fpk_segment_back(&arena->segment, offset, length);
    if (status == FPK_NO_MEMORY && arena->warm_bytes != 0) {
        discard_down_to(arena, 0);
        status = fpk_segment_back(&arena->segment, offset, length);
    }
    (void)address;
#ifdef __linux__
#    ifndef MADV_POPULATE_WRITE
    enum { MADV_POPULATE_WRITE = 23 };
#    endif
    if (status == FPK_OK) {
        /* An older system refuses; then the pages come one by one. */
        int reason = errno;
        madvise(address, (size_t)length, MADV_POPULATE_WRITE);
        errno = reason;
    }
#endif
    return status;
}

/* Memory for the first [length] bytes of a block that is in no list. */
static fpk_status
back_block(fpk_arena *arena, block *taken, uint64_t length)
{
    if (taken->backed >= length) {
        return FPK_OK;
    }
    fpk_status status =
        back_range(arena, taken->offset + taken->backed,
                   taken->address + taken->backed, length - taken->backed);
    if (status == FPK_OK) {
        taken->backed = length;
    }
    return status;
}

/* Memory for a small block and for those that will come after it. */
static fpk_status
back_fresh(fpk_arena *arena, uint64_t length)
{
    if (arena->fresh_backed >= length) {
        return FPK_OK;
    }
    uint64_t missing = length - arena->fresh_backed;
    uint64_t most = arena->fresh_length - arena->fresh_backed;
    uint64_t wanted = arena->backing < missing ? missing : arena->backing;
    if (wanted > most) {
        wanted = most;
    }
    uint64_t offset = arena->fresh_offset + arena->fresh_backed;
    unsigned char *address = arena->fresh_address + arena->fresh_backed;
    fpk_status status = back_range(arena, offset, address, wanted);
    if (status == FPK_NO_MEMORY && wanted > missing) {
        wanted = missing;
        status = back_range(arena, offset, address, wanted);
    }
    if (status == FPK_OK) {
        arena->fresh_backed += wanted;
        if (arena->backing < LARGEST_BACKING) {
            arena->backing *= 2;
        }
    }
    return status;
}

/* ---- the public face ---------------------------------------------------- */

static fpk_arena *
new_arena(uint64_t keep)
{
    fpk_arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL) {
        return NULL;
    }
    arena->table_size = 64;
    arena->table = calloc((size_t)arena->table_size, sizeof *arena->table);
    if (arena->table == NULL) {
        free(arena);
        return NULL;
    }
    arena->unit = fpk_page_size();
    if (arena->unit < FPK_BLOCK_ALIGNMENT) {
        arena->unit = FPK_BLOCK_ALIGNMENT;
    }
    arena->keep = keep;
    arena->backing = SMALLEST_BACKING;
    arena->can_discard = true;
    return arena;
}

static void
free_arena(fpk_arena *arena)
{
    free(arena->table);
    free(arena);
}

fpk_status
fpk_arena_create(fpk_arena **arena, const char *label, uint64_t keep)
{
    *arena = NULL;
    fpk_arena *made = new_arena(keep);
    if (made == NULL) {
        return FPK_NO_MEMORY;
    }
    fpk_status status = fpk_segment_create(&made->segment, label, 0);
    if (status != FPK_OK) {
        free_arena(made);
        return status;
    }
    *arena = made;
    return FPK_OK;
}

fpk_status
fpk_arena_attach(fpk_arena **arena, int fd, uint64_t keep)
{
    *arena = NULL;
    fpk_arena *made = new_arena(keep);
    if (made == NULL) {
        return FPK_NO_MEMORY;
    }
    fpk_status status = fpk_segment_attach(&made->segment, fd);
    if (status != FPK_OK) {
        free_arena(made);
        return status;
    }
    *arena = made;
    return FPK_OK;
}

int
fpk_arena_fd(const fpk_arena *arena)
{
    return arena->segment.fd;
}

fpk_segment *
fpk_arena_segment(fpk_arena *arena)
{
    return &arena->segment;
}

/* A free block of at least the size of [class] and at most twice that, taken
   out of its list; NULL if there is none. */
static block *
take_free(fpk_arena *arena, int class)
{
    uint64_t most = 2 * units_of(class);
    block **const lists[] = {arena->warm, arena->cold};
    for (int i = 0; i < 2; i++) {
        for (int c = class; c < CLASSES && units_of(c) <= most; c++) {
            block *found = lists[i][c];
            if (found != NULL) {
                remove_free(arena, found);
                return found;
            }
        }
    }
    return NULL;
}

/* A block that was never used. */
static fpk_status
take_fresh(fpk_arena *arena, int class, block **taken)
{
    uint64_t capacity = units_of(class) * arena->unit;
    if (arena->fresh_length < capacity) {
        fpk_status status = add_extent(arena, capacity);
        if (status != FPK_OK) {
            return status;
        }
    }
    if (capacity <= SMALL_BLOCK) {
        fpk_status status = back_fresh(arena, capacity);
        if (status != FPK_OK) {
            return status;
        }
    }
    *taken = carve(arena, class);
    return *taken == NULL ? FPK_NO_MEMORY : FPK_OK;
}

fpk_status
fpk_arena_allocate(fpk_arena *arena, uint64_t length, uint64_t *offset,
                   void **address)
{
    if (length > UINT64_C(1) << 46 || (length > LARGEST_EXTENT &&
                                       !fpk_memory_is_possible(length))) {
        return FPK_NO_MEMORY;
    }
    uint64_t units = (length + arena->unit - 1) / arena->unit;
    units += units == 0;
    int class = class_of(units);
    block *taken = take_free(arena, class);
    if (taken == NULL) {
        fpk_status status = take_fresh(arena, class, &taken);
        if (status != FPK_OK) {
            return status;
        }
    }
    fpk_status status = back_block(arena, taken, units * arena->unit);
    if (status != FPK_OK) {
        push_free(arena, taken);
        return status;
    }
    taken->live = true;
    arena->used_bytes += taken->backed;
    *offset = taken->offset;
    *address = taken->address;
    return FPK_OK;
}

fpk_status
fpk_arena_free(fpk_arena *arena, uint64_t offset)
{
    block *freed = find_block(arena, offset);
    if (freed == NULL || !freed->live) {
        return FPK_CORRUPT;
    }
    freed->live = false;
    arena->used_bytes -= freed->backed;
    push_free(arena, freed);
    discard_down_to(arena, arena->keep);
    return FPK_OK;
}

const void *
fpk_arena_address(const fpk_arena *arena, uint64_t offset)
{
    const block *found = find_block(arena, offset);
    return found != NULL && found->live ? found->address : NULL;
}

uint64_t
fpk_arena_used(const fpk_arena *arena)
{
    return arena->used_bytes;
}

uint64_t
fpk_arena_warm(const fpk_arena *arena)
{
    return arena->warm_bytes;
}

uint64_t
fpk_arena_size(const fpk_arena *arena)
{
    return arena->segment.size;
}

void
fpk_arena_destroy(fpk_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    while (arena->extents != NULL) {
        extent *gone = arena->extents;
        arena->extents = gone->next;
        fpk_segment_unmap(gone->address, gone->length);
        free(gone);
    }
    for (uint64_t i = 0; i < arena->table_size; i++) {
        while (arena->table[i] != NULL) {
            block *gone = arena->table[i];
            arena->table[i] = gone->next_in_table;
            free(gone);
        }
    }
    fpk_segment_close(&arena->segment);
    free_arena(arena);
}
