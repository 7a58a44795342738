/* bell.h -- how one side of a channel sleeps until the other has written.

   A bell is two words in shared memory.  The sleeper: arm, look again whether
   there is work, wait, disarm.  The ringer: publish the work, ring.  Between
   "asleep is set" and "look again" on one side and between "published" and
   "is somebody asleep?" on the other stands a sequentially consistent fence,
   so at least one of the two sees the other: no wake-up is lost.
   A bell holds no lock: a process that dies at any instruction leaves it
   usable.  Several threads may sleep on one bell, and a ring wakes all of
   them; a sleeper that died costs later ringers system calls, no wake-up.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_BELL_H
#define FPK_BELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct fpk_bell {
    _Alignas(64) _Atomic uint32_t ticket; /* grows with each wake-up */
    _Atomic uint32_t asleep; /* bit 0: somebody must be woken; the rest: how
                                many may be waiting */
} fpk_bell;

/* Says that the caller is about to sleep; returns the ticket for the wait.
   The caller must look for work once more before it waits, and disarm when it
   has done so, whether it waited or not. */
uint32_t fpk_bell_arm(fpk_bell *bell);

/* Sleeps while the ticket is [ticket], at most [timeout_ns] (UINT64_MAX: no
   limit).  May return early for no reason, among others after a signal.
   Returns false on time-out.  To wait again, disarm and arm first. */
bool fpk_bell_wait(fpk_bell *bell, uint32_t ticket, uint64_t timeout_ns);

/* Says that the caller is awake.  Once for each arm. */
void fpk_bell_disarm(fpk_bell *bell);

/* Says that the caller looks for work instead of all who sleep: nobody needs
   to ring until fpk_bell_unmute, after which the caller must look once more,
   and ring all if it finds work that it leaves to the sleepers. */
void fpk_bell_mute(fpk_bell *bell);
void fpk_bell_unmute(fpk_bell *bell);

/* After work was published: wakes the sleeper if there is one.  Returns true
   if a system call was made. */
bool fpk_bell_ring(fpk_bell *bell);

/* Wakes all sleepers, whether they said that they sleep or not. */
void fpk_bell_ring_all(fpk_bell *bell);

#endif
