/* watch.h -- a thread that ends this process with another one.

   Used by:   module.c. */
#ifndef FPK_POOL_WATCH_H
#define FPK_POOL_WATCH_H

/* Starts the thread.  [pidfd], -1 or a descriptor of the process [pid],
   becomes the thread's.  0, or -1 with errno. */
int fpk_watch_process(long pid, int pidfd);

#endif
