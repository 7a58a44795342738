/* bell.h -- how one side of a channel sleeps until the other has written.

   A bell is two words in shared memory.  The sleeper: arm, look again whether
   there is work, wait, disarm.  The ringer: publish the work, ring.  Between
   "asleep is set" and "look again" on one side and between "published" and
   "is somebody asleep?" on the other stands a sequentially consistent fence,
   so at least one of the two sees the other: no wake-up is lost.
   A bell holds no lock: a process that dies at any instruction leaves it
   usable. */
#ifndef FPK_BELL_H
#define FPK_BELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct fpk_bell {
    _Alignas(64) _Atomic uint32_t ticket; /* grows with each wake-up */
    _Atomic uint32_t asleep;              /* 1 while the sleeper may wait */
} fpk_bell;

/* Says that the caller is about to sleep; returns the ticket for the wait.
   The caller must look for work once more before it waits. */
uint32_t fpk_bell_arm(fpk_bell *bell);

/* Sleeps while the ticket is [ticket], at most [timeout_ns] (UINT64_MAX: no
   limit).  May return early for no reason.  Returns false on time-out. */
bool fpk_bell_wait(fpk_bell *bell, uint32_t ticket, uint64_t timeout_ns);

/* Says that the caller is awake. */
void fpk_bell_disarm(fpk_bell *bell);

/* After work was published: wakes the sleeper if there is one.  Returns true
   if a system call was made. */
bool fpk_bell_ring(fpk_bell *bell);

/* Wakes all sleepers, whether they said that they sleep or not. */
void fpk_bell_ring_all(fpk_bell *bell);

#endif
