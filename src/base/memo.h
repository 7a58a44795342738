/* memo.h -- an open hash table from addresses to indices.

   Does:      answers "which index has this object?" in one probe sequence.
   Owns:      its table once it has outgrown the caller's storage; not what
              the addresses point to.
   Invariant: the table is a power of two, at most half full; a key is never
              NULL and never removed except by clear.
   Errors:    only running out of memory.
   Used by:   encode (objects already written), byvalue.  No Python.h. */
#ifndef FPK_BASE_MEMO_H
#define FPK_BASE_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const void *key; /* NULL: free */
    uint64_t index;
} fpk_memo_entry;

#define FPK_MEMO_FIRST_SLOTS 16

typedef struct {
    fpk_memo_entry *table; /* NULL until the first entry */
    size_t mask;           /* slots - 1 */
    size_t used;           /* entries */
    fpk_memo_entry *first; /* storage of the caller for the first
                              FPK_MEMO_FIRST_SLOTS slots, or NULL */
} fpk_memo;

/* All zero bytes are an empty memo; clear makes it one again. */
void fpk_memo_clear(fpk_memo *m);

/* Makes room for one more entry.  The slow half of insert. */
bool fpk_memo_grow(fpk_memo *m);

static inline size_t
fpk_memo_hash(const void *key)
{
    /* Objects are 16-byte aligned: the low bits tell nothing. */
    uint64_t h = (uint64_t)(uintptr_t)key >> 4;
    return (size_t)(h ^ (h >> 15));
}

/* True if one more entry fits without asking for memory. */
static inline bool
fpk_memo_has_room(const fpk_memo *m)
{
    return m->table != NULL && (m->used + 1) * 2 <= m->mask;
}

/* The entry of [key], or NULL. */
static inline fpk_memo_entry *
fpk_memo_find(const fpk_memo *m, const void *key)
{
    if (m->used == 0) {
        return NULL;
    }
    size_t i = fpk_memo_hash(key) & m->mask;
    while (m->table[i].key != NULL) {
        if (m->table[i].key == key) {
            return &m->table[i];
        }
        i = (i + 1) & m->mask;
    }
    return NULL;
}

/* Adds [key], which must not be there, or overwrites its index; false when
   out of memory. */
static inline bool
fpk_memo_set(fpk_memo *m, const void *key, uint64_t index)
{
    if (!fpk_memo_has_room(m) && !fpk_memo_grow(m)) {
        return false;
    }
    size_t i = fpk_memo_hash(key) & m->mask;
    while (m->table[i].key != NULL) {
        if (m->table[i].key == key) {
            m->table[i].index = index;
            return true;
        }
        i = (i + 1) & m->mask;
    }
    m->table[i].key = key;
    m->table[i].index = index;
    m->used++;
    return true;
}

#endif
