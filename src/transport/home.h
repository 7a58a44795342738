/* home.h -- whether this is the process that made something, or a fork of it.

   A fork has copies of objects whose shared memory belongs to its parent.  It
   must see that at a cost that does not show, and without a lock, which a
   thread may have held that is not there.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_HOME_H
#define FPK_HOME_H

#include <stdbool.h>
#include <unistd.h>

typedef struct fpk_home {
    const unsigned char *page; /* 1, in a fork 0; NULL: only the pid tells */
    pid_t pid;
} fpk_home;

/* This process is the home. */
void fpk_home_make(fpk_home *home);
void fpk_home_clear(fpk_home *home);

static inline bool
fpk_is_home(const fpk_home *home)
{
    return home->page != NULL ? *home->page != 0 : home->pid == getpid();
}

#endif
