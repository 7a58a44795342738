/* bell.c -- sleeping until another process rings.

   Does:      arms, waits, disarms and rings; on Linux by futex, elsewhere by
              looking again in short intervals.
   Owns:      nothing; the two words lie in shared memory.
   Invariant: a ringer that finds bit 0 of [asleep] set clears it, changes the
              ticket and wakes all; a sleeper sets bit 0 before it looks for
              work for the last time.  So of a sleeper and a ringer that meet,
              the sleeper sees the work, or the ringer sees the sleeper and the
              sleeper's ticket is out of date.
   Called by: dispatch.c and the worker in src/pool. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport/bell.h"

#include "transport/cpus.h"

#include <errno.h>
#include <limits.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#    include <linux/futex.h>
#    include <sys/syscall.h>
#endif

/* ---- the system's part -------------------------------------------------- */

#if defined(__linux__) && !defined(FPK_BELL_WITHOUT_FUTEX)

/* The word lies in memory that processes share, so the operations are not the
   private ones. */

static bool
sleep_while(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    struct {
        long seconds;
        long nanoseconds;
    } limit; /* as the kernel has it for this call, whatever time_t is */
    void *where = NULL;
    if (timeout_ns != UINT64_MAX) {
        uint64_t seconds = timeout_ns / 1000000000U;
        limit.seconds = seconds > INT_MAX ? INT_MAX : (long)seconds;
        limit.nanoseconds = (long)(timeout_ns % 1000000000U);
        where = &limit;
    }
    long result = syscall(SYS_futex, word, FUTEX_WAIT, value, where, NULL, 0);
    return result == 0 || errno != ETIMEDOUT;
}

static void
wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

#else

/* Without futexes the sleeper looks for itself, at first every 20 us, later
   every ms: short for who has just sent a task, cheap for who is idle. */

static bool
sleep_while(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    uint64_t start = fpk_now_ns();
    uint64_t pause = 20000;
    while (atomic_load(word) == value) {
        uint64_t passed = fpk_now_ns() - start;
        if (passed >= timeout_ns) {
            return false;
        }
        uint64_t now = pause;
        if (now > timeout_ns - passed) {
            now = timeout_ns - passed;
        }
        struct timespec span = {0, (long)now};
        if (nanosleep(&span, NULL) != 0) {
            return true; /* a signal, of which the caller must hear */
        }
        pause = pause * 5 / 4 > 1000000 ? 1000000 : pause * 5 / 4;
    }
    return true;
}

static void
wake_all(_Atomic uint32_t *word)
{
    (void)word;
}

#endif

/* ---- the protocol ------------------------------------------------------- */

uint32_t
fpk_bell_arm(fpk_bell *bell)
{
    /* The ticket is read before anybody can know that it matters. */
    uint32_t ticket =
        atomic_load_explicit(&bell->ticket, memory_order_acquire);
    uint32_t asleep =
        atomic_load_explicit(&bell->asleep, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
        &bell->asleep, &asleep, (asleep + 2) | 1, memory_order_seq_cst,
        memory_order_relaxed)) {
    }
    atomic_thread_fence(memory_order_seq_cst);
    return ticket;
}

bool
fpk_bell_wait(fpk_bell *bell, uint32_t ticket, uint64_t timeout_ns)
{
    if (atomic_load_explicit(&bell->ticket, memory_order_acquire) != ticket) {
        return true;
    }
    bool woken = sleep_while(&bell->ticket, ticket, timeout_ns);
    /* What was published before the ring is seen after the wait. */
    (void)atomic_load_explicit(&bell->ticket, memory_order_acquire);
    return woken;
}

void
fpk_bell_disarm(fpk_bell *bell)
{
    uint32_t asleep =
        atomic_load_explicit(&bell->asleep, memory_order_relaxed);
    uint32_t less;
    do {
        /* The last one takes the bit along, so that nobody rings in vain. */
        less = asleep < 4 ? 0 : asleep - 2;
    } while (!atomic_compare_exchange_weak_explicit(&bell->asleep, &asleep,
                                                    less, memory_order_seq_cst,
                                                    memory_order_relaxed));
}

void
fpk_bell_mute(fpk_bell *bell)
{
    if (atomic_load_explicit(&bell->asleep, memory_order_relaxed) & 1) {
        (void)atomic_fetch_and_explicit(&bell->asleep, ~1U,
                                        memory_order_seq_cst);
    }
}

void
fpk_bell_unmute(fpk_bell *bell)
{
    (void)atomic_fetch_or_explicit(&bell->asleep, 1U, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
}

bool
fpk_bell_ring(fpk_bell *bell)
{
    atomic_thread_fence(memory_order_seq_cst);
    if ((atomic_load_explicit(&bell->asleep, memory_order_relaxed) & 1) == 0) {
        return false;
    }
    /* Of several ringers one makes the call. */
    if ((atomic_fetch_and_explicit(&bell->asleep, ~1U, memory_order_seq_cst) &
         1) == 0) {
        return false;
    }
    fpk_bell_ring_all(bell);
    return true;
}

void
fpk_bell_ring_all(fpk_bell *bell)
{
    atomic_fetch_add_explicit(&bell->ticket, 1, memory_order_seq_cst);
    wake_all(&bell->ticket);
}
