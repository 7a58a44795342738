/* pages.h -- memory that is about to be filled.

   Does:      asks the system for large pages behind a large block.  A block
              that is new to the process costs a page fault for each 4 KiB, and
              these take longer than what is written.
   Owns:      nothing.
   Used by:   base, encode, decode, pool.  No Python.h. */
#ifndef FPK_BASE_PAGES_H
#define FPK_BASE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __linux__
#    include <sys/mman.h>
#endif

/* It pays from here on: two large pages, wherever the block begins. */
#define FPK_HUGE_SIZE ((size_t)4 << 20)

/* A hint: nothing is said if it is not taken. */
static inline void
fpk_prefer_huge_pages(void *start, size_t size)
{
#ifdef MADV_HUGEPAGE
    if (size >= FPK_HUGE_SIZE) {
        const uintptr_t page = 4096;
        /* Outwards: a part of a mapping with other pages than the rest could
           not grow without being copied. */
        uintptr_t begin = (uintptr_t)start & ~(page - 1);
        uintptr_t end = ((uintptr_t)start + size + page - 1) & ~(page - 1);
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
    }
#else
    (void)start;
    (void)size;
#endif
}

#endif
