/* counts.h -- an open hash table from offsets of blocks to how many hold them.

   Used by:   dispatch.  No Python.h. */
#ifndef FPK_COUNTS_H
#define FPK_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fpk_counts_entry {
    uint64_t key;
    uint64_t count; /* 0: a free slot */
} fpk_counts_entry;

typedef struct fpk_counts {
    fpk_counts_entry *table; /* NULL until the first entry */
    size_t mask;             /* slots - 1 */
    size_t used;
} fpk_counts;

/* Adds one to the count of [key]; false without memory. */
bool fpk_counts_add(fpk_counts *counts, uint64_t key);

/* Takes one from the count of [key]: 1 if it is 0 now and gone, 0 if not, -1
   if there is no such key. */
int fpk_counts_drop(fpk_counts *counts, uint64_t key);

/* Takes any one entry out: false if there is none. */
bool fpk_counts_pop(fpk_counts *counts, fpk_counts_entry *entry);

void fpk_counts_clear(fpk_counts *counts);

#endif
