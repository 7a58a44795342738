/* home.c -- whether this is the process that made something, or a fork of it.

   Does:      makes a page that the system clears in every fork.
   Owns:      the page.
   Invariant: the page is never written after it was made.
   Called by: places.c; the worker in src/pool. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport/home.h"

#include <sys/mman.h>

#include "transport/segment.h"

/* The page; NULL without memory, or where the system clears none. */
static unsigned char *
make_page(size_t size)
{
#ifdef MADV_WIPEONFORK
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    if (madvise(page, size, MADV_WIPEONFORK) == 0) {
        return (unsigned char *)page;
    }
    (void)munmap(page, size);
#else
    (void)size;
#endif
    return NULL;
}

void
fpk_home_make(fpk_home *home)
{
    unsigned char *page = make_page((size_t)fpk_page_size());
    if (page != NULL) {
        *page = 1;
    }
    *home = (fpk_home){page, getpid()};
}

void
fpk_home_clear(fpk_home *home)
{
    if (home->page != NULL) {
        (void)munmap((void *)home->page, (size_t)fpk_page_size());
        home->page = NULL;
    }
}
