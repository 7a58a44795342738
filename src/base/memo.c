/* memo.c -- the slow paths of the pointer table in memo.h.

   Does:      growing, copying, clearing.
   Owns:      the table of each memo.
   Invariant: see memo.h.
   Called by: encode and byvalue, through memo.h. */
#include "base/memo.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 16

bool
fpk_memo_grow(fpk_memo *m)
{
    size_t slots = m->table == NULL ? FIRST_SLOTS : (m->mask + 1) * 4;
    fpk_memo_entry *table = calloc(slots, sizeof *table);
    if (table == NULL) {
        return false;
    }
    size_t mask = slots - 1;
    if (m->table != NULL) {
        for (size_t i = 0; i <= m->mask; i++) {
            if (m->table[i].key == NULL) {
                continue;
            }
            size_t j = fpk_memo_hash(m->table[i].key) & mask;
            while (table[j].key != NULL) {
                j = (j + 1) & mask;
            }
            table[j] = m->table[i];
        }
        free(m->table);
    }
    m->table = table;
    m->mask = mask;
    return true;
}

bool
fpk_memo_copy(fpk_memo *to, const fpk_memo *from)
{
    if (from->table == NULL) {
        return true;
    }
    size_t bytes = (from->mask + 1) * sizeof *from->table;
    fpk_memo_entry *table = malloc(bytes);
    if (table == NULL) {
        return false;
    }
    memcpy(table, from->table, bytes);
    *to = *from;
    to->table = table;
    return true;
}

void
fpk_memo_clear(fpk_memo *m)
{
    free(m->table);
    memset(m, 0, sizeof *m);
}
