/* limits.c -- the thread that keeps the time limits of tasks.

   Does:      kills workers whose task takes longer than it may, whatever
              Python code the other threads of the pool are in.
   Owns:      the thread, which the first task with a limit starts.
   Invariant: while a task with a limit is outstanding the thread does not
              sleep beyond the moment when one is over; with none it sleeps
              until there is one.  It runs no Python.
   Called by: dispatch.c and places.c. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "transport/dispatch_parts.h"

/* Kills a worker, or says when to try again because it is not known yet which
   process it is. */
static uint64_t
stop_worker(fpk_worker_place *place, uint64_t now)
{
    fpk_kill_worker_locked(place);
    return place->killed ? UINT64_MAX : now + FPK_STANDBY_FOR_NS;
}

/* Kills the worker of [place] if the task in it takes too long.  Returns when
   it would be; of a task that has not been begun that is not known. */
static uint64_t
check_place(fpk_dispatch *d, fpk_worker_place *place, uint64_t now)
{
    fpk_task *task = place->in_flight.first;
    if (!place->open || place->killed || task == NULL ||
        task->timeout_ns == 0) {
        return UINT64_MAX;
    }
    fpk_channel_shared *shared = place->channel.shared;
    if (atomic_load(&shared->task) != task->id) {
        return UINT64_MAX;
    }
    uint64_t began = atomic_load(&shared->started_ns);
    /* Still the same task, so that was the time when it began. */
    if (atomic_load(&shared->task) != task->id || began > now) {
        return UINT64_MAX;
    }
    if (now - began < task->timeout_ns) {
        return began + task->timeout_ns;
    }
    /* The worker may end it this very moment, and must not be killed in the
       next one.  If it is in that, there is a reply to take in. */
    if (!fpk_isolate_locked(d, task) &&
        atomic_load(&shared->task) != task->id) {
        (void)fpk_drain_place_locked(d, place);
        fpk_tell_locked(d);
        return now;
    }
    task->killed = true;
    return stop_worker(place, now);
}

/* Kills workers whose task takes too long; returns when to look again. */
static uint64_t
check_limits(fpk_dispatch *d)
{
    uint64_t now = fpk_now_ns();
    /* A task that begins after this look is not over earlier. */
    uint64_t next = now + d->kept_ns;
    for (uint32_t i = 0; i < d->workers; i++) {
        uint64_t due = check_place(d, &d->places[i], now);
        next = due < next ? due : next;
    }
    if (d->queue.first != NULL) {
        (void)fpk_refill_locked(d); /* what was taken back */
    }
    return next;
}

static void *
keep_limits(void *argument)
{
    fpk_dispatch *d = argument;
    fpk_lock(d);
    while (!d->closed) {
        if (d->timed == 0) {
            d->kept_ns = UINT64_MAX;
            (void)pthread_cond_wait(&d->limits, &d->mutex);
            continue;
        }
        d->kept_ns =
            d->shortest_ns > FPK_STANDBY_NS ? d->shortest_ns : FPK_STANDBY_NS;
        struct timespec until = fpk_clock_time(check_limits(d));
        (void)pthread_cond_timedwait(&d->limits, &d->mutex, &until);
    }
    fpk_unlock(d);
    return NULL;
}

/* Signals belong to the threads of Python. */
static int
start_keeper(fpk_dispatch *d)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    size_t stack = 256 * 1024;
    if (stack < (size_t)PTHREAD_STACK_MIN) {
        stack = (size_t)PTHREAD_STACK_MIN;
    }
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    (void)pthread_attr_setstacksize(&attributes, stack);
    (void)sigfillset(&all);
    error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error == 0) {
        error = pthread_create(&d->keeper, &attributes, keep_limits, d);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&attributes);
    return error;
}

fpk_status
fpk_add_limit_locked(fpk_dispatch *d, uint64_t ns)
{
    if (!d->has_keeper) {
        int error = start_keeper(d);
        if (error != 0) {
            errno = error;
            return FPK_SYSTEM;
        }
        d->has_keeper = true;
    }
    d->shortest_ns =
        d->timed++ == 0 || ns < d->shortest_ns ? ns : d->shortest_ns;
    if (ns < d->kept_ns) {
        pthread_cond_signal(&d->limits);
    }
    return FPK_OK;
}

void
fpk_end_limits(fpk_dispatch *d)
{
    if (d->has_keeper) {
        (void)pthread_join(d->keeper, NULL);
        d->has_keeper = false;
    }
}
