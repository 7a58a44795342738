/* counts.c -- an open hash table from offsets of blocks to how many hold them.

   Does:      add one, drop one.
   Owns:      its table.
   Invariant: the table is a power of two and at most half full; behind a free
              slot no probe sequence goes on, so a removal moves up what
              follows.
   Called by: dispatch, which counts who holds a block. */
#include "transport/counts.h"

#include <stdlib.h>

static size_t
hash_key(uint64_t key)
{
    return (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 20);
}

static size_t
find_slot(const fpk_counts *c, uint64_t key)
{
    size_t i = hash_key(key) & c->mask;
    while (c->table[i].count != 0 && c->table[i].key != key) {
        i = (i + 1) & c->mask;
    }
    return i;
}

static bool
grow(fpk_counts *c)
{
    size_t slots = c->table == NULL ? 16 : (c->mask + 1) * 2;
    fpk_counts_entry *table = calloc(slots, sizeof *table);
    if (table == NULL) {
        return false;
    }
    fpk_counts old = *c;
    c->table = table;
    c->mask = slots - 1;
    for (size_t i = 0; old.table != NULL && i <= old.mask; i++) {
        if (old.table[i].count != 0) {
            c->table[find_slot(c, old.table[i].key)] = old.table[i];
        }
    }
    free(old.table);
    return true;
}

bool
fpk_counts_add(fpk_counts *counts, uint64_t key)
{
    if ((counts->table == NULL || (counts->used + 1) * 2 > counts->mask) &&
        !grow(counts)) {
        return false;
    }
    fpk_counts_entry *entry = &counts->table[find_slot(counts, key)];
    if (entry->count == 0) {
        entry->key = key;
        counts->used++;
    }
    entry->count++;
    return true;
}

/* Frees slot [i] and closes the gap in the probe sequences across it. */
static void
remove_slot(fpk_counts *c, size_t i)
{
    size_t next = i;
    c->used--;
    for (;;) {
        c->table[i].count = 0;
        for (;;) {
            next = (next + 1) & c->mask;
            if (c->table[next].count == 0) {
                return;
            }
            size_t home = hash_key(c->table[next].key) & c->mask;
            /* May [next] move to [i]?  Not if its home lies between. */
            if (((next - home) & c->mask) >= ((next - i) & c->mask)) {
                break;
            }
        }
        c->table[i] = c->table[next];
        i = next;
    }
}

int
fpk_counts_drop(fpk_counts *counts, uint64_t key)
{
    if (counts->used == 0) {
        return -1;
    }
    size_t i = find_slot(counts, key);
    if (counts->table[i].count == 0) {
        return -1;
    }
    if (--counts->table[i].count > 0) {
        return 0;
    }
    remove_slot(counts, i);
    return 1;
}

bool
fpk_counts_pop(fpk_counts *counts, fpk_counts_entry *entry)
{
    if (counts->used == 0) {
        return false;
    }
    size_t i = 0;
    while (counts->table[i].count == 0) {
        i++;
    }
    *entry = counts->table[i];
    remove_slot(counts, i);
    return true;
}

void
fpk_counts_clear(fpk_counts *counts)
{
    free(counts->table);
    *counts = (fpk_counts){0};
}
