/* memo.c -- the slow paths of the pointer table in memo.h.

   Does:      growing, clearing.
   Owns:      the table of each memo.
   Invariant: see memo.h.
   Called by: encode and byvalue, through memo.h. */
#include "base/memo.h"

#include <stdlib.h>
#include <string.h>

bool
fpk_memo_grow(fpk_memo *m)
{
    if (m->table == NULL && m->first != NULL) {
        memset(m->first, 0, FPK_MEMO_FIRST_SLOTS * sizeof *m->first);
        m->table = m->first;
        m->mask = FPK_MEMO_FIRST_SLOTS - 1;
        return true;
    }
    size_t slots = m->table == NULL ? FPK_MEMO_FIRST_SLOTS : (m->mask + 1) * 4;
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
        if (m->table != m->first) {
            free(m->table);
        }
    }
    m->table = table;
    m->mask = mask;
    return true;
}

void
fpk_memo_clear(fpk_memo *m)
{
    if (m->table != m->first) {
        free(m->table);
    }
    memset(m, 0, sizeof *m);
}
