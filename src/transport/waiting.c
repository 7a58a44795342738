/* waiting.c -- who pumps, who sleeps, and the I/O thread.

   Does:      lets one thread at a time take care of the rings while it waits,
              and the others sleep until it has something to tell.
   Owns:      nothing of its own.
   Invariant: while something is outstanding, somebody will look at the rings:
              a thread that pumps, or the I/O thread, which looks every
              millisecond or sleeps with the bell armed.
   Called by: src/pool, without the GIL.

   A thread that waits for its own task pumps itself: no hand-over to another
   thread and back.  It spins only where that takes the core from no worker,
   then naps while many short tasks are under way, then sleeps on the bell. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transport/dispatch_parts.h"

void
fpk_wake_io_locked(fpk_dispatch *d)
{
    if (d->io_parked) {
        fpk_bell_ring_all(d->bell);
    }
    else if (d->io_napping) {
        pthread_cond_signal(&d->wanted);
    }
}

void
fpk_wake_sleeper_locked(fpk_dispatch *d)
{
    if (d->pumper_sleeps) {
        fpk_bell_ring_all(d->bell);
    }
    else {
        fpk_wake_io_locked(d);
    }
}

void
fpk_tell_locked(fpk_dispatch *d)
{
    if (d->waiting > 0) {
        pthread_cond_broadcast(&d->changed);
    }
    if (d->pumper_sleeps) {
        /* It waits for one of them, too. */
        fpk_bell_ring_all(d->bell);
    }
    if (d->notices.first != NULL || d->group_notices != NULL) {
        fpk_wake_io_locked(d);
    }
}

/* Takes in and sends what there is; true if a reply came. */
static bool
pump_once(fpk_dispatch *d)
{
    bool any = fpk_drain_locked(d);
    /* Of two tasks one may wait behind the other, while a worker is idle. */
    if (any || d->queue.first != NULL || d->outstanding > 1) {
        (void)fpk_refill_locked(d);
    }
    if (any) {
        fpk_tell_locked(d);
    }
    return any;
}

void
fpk_dispatch_pump(fpk_dispatch *d)
{
    if (fpk_is_foreign(d)) {
        return;
    }
    fpk_lock(d);
    if (!d->pumping) {
        (void)pump_once(d);
    }
    fpk_unlock(d);
}

/* Is a reply there?  Without the mutex: closed channels stay mapped while
   somebody pumps. */
static bool
has_reply(fpk_dispatch *d)
{
    for (uint32_t i = 0; i < d->workers; i++) {
        fpk_channel_shared *shared =
            atomic_load_explicit(&d->places[i].live, memory_order_acquire);
        if (shared != NULL && atomic_load_explicit(&shared->replies.head,
                                                   memory_order_acquire) !=
                                  atomic_load_explicit(&shared->replies.tail,
                                                       memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

static uint32_t
count_busy(const fpk_dispatch *d)
{
    uint32_t busy = 0;
    for (uint32_t i = 0; i < d->workers; i++) {
        busy += d->places[i].open && d->places[i].in_flight.count > 0;
    }
    return busy;
}

struct timespec
fpk_clock_time(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
                             .tv_nsec = (long)(ns % 1000000000)};
}

/* How long a pause may be in which no worker runs out of work. */
static uint64_t
choose_nap(const fpk_dispatch *d)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < d->workers; i++) {
        const fpk_worker_place *place = &d->places[i];
        if (place->open && place->load_ns < least) {
            least = place->load_ns;
        }
    }
    if (least / 2 < FPK_NAP_NS) {
        return FPK_NAP_NS;
    }
    return least / 2 < FPK_LONG_NAP_NS ? least / 2 : FPK_LONG_NAP_NS;
}

static void
nap(uint64_t ns)
{
    struct timespec time = fpk_clock_time(ns);
    (void)nanosleep(&time, NULL);
}

/* Spins for a reply; true if one came.  Called and returns with the mutex. */
static bool
spin_for_reply(fpk_dispatch *d)
{
    uint32_t busy = count_busy(d);
    if (busy == 0 || busy >= (uint32_t)d->cpus) {
        return false;
    }
    /* Where other programs want the cores, or tasks are long, spinning fails
       and is soon given up, but for a try now and then. */
    uint64_t spin_ns =
        ++d->spins % FPK_SPIN_PROBE == 0 ? FPK_SPIN_NS : d->spin_ns;
    fpk_unlock(d);
    bool found = false;
    uint64_t until = fpk_now_ns() + spin_ns;
    do {
        for (int i = 0; i < 64 && !found; i++) {
            found = has_reply(d);
            fpk_cpu_relax();
        }
    } while (!found && fpk_now_ns() < until);
    fpk_lock(d);
    d->spin_ns = found ? FPK_SPIN_NS : d->spin_ns / 2;
    return found;
}

/* Sleeps on the bell until [until_ns] at most: false if it was time.
   [asleep]: set meanwhile.  Called and returns with the mutex. */
static bool
sleep_on_bell(fpk_dispatch *d, uint64_t until_ns, bool *asleep)
{
    uint64_t next = fpk_check_times_locked(d);
    if (next < until_ns) {
        until_ns = next;
    }
    if (d->outstanding > 0 && fpk_now_ns() + FPK_LONGEST_NS < until_ns) {
        until_ns = fpk_now_ns() + FPK_LONGEST_NS;
    }
    uint32_t ticket = fpk_bell_arm(d->bell);
    bool rung = true;
    if (!has_reply(d)) {
        *asleep = true;
        if (asleep == &d->io_parked) {
            d->io_until_ns = until_ns;
        }
        fpk_unlock(d);
        uint64_t timeout = UINT64_MAX;
        if (until_ns != UINT64_MAX) {
            uint64_t now = fpk_now_ns();
            timeout = until_ns > now ? until_ns - now : 0;
        }
        rung = fpk_bell_wait(d->bell, ticket, timeout);
        fpk_lock(d);
        *asleep = false;
    }
    fpk_bell_disarm(d->bell);
    return rung;
}

/* Stops pumping; somebody else takes over if something is outstanding. */
static void
stop_pumping(fpk_dispatch *d)
{
    d->pumping = false;
    fpk_bury_locked(d);
    if (d->waiting > 0) {
        pthread_cond_broadcast(&d->changed);
    }
    if (d->io_standby) {
        pthread_cond_signal(&d->wanted);
    }
    if (d->io_parked) {
        fpk_bell_unmute(d->bell);
        if (has_reply(d)) {
            fpk_bell_ring_all(d->bell);
        }
    }
}

typedef bool (*condition_fn)(fpk_dispatch *d, void *argument);

/* Sleeps until another thread has something to tell. */
static void
wait_for_other(fpk_dispatch *d, uint64_t until_ns)
{
    /* Signals end a sleep on the bell, but not this one: not too long. */
    uint64_t most = fpk_now_ns() + FPK_OTHER_NS;
    if (most < until_ns) {
        until_ns = most;
    }
    struct timespec until = fpk_clock_time(until_ns);
    d->waiting++;
    (void)pthread_cond_timedwait(&d->changed, &d->mutex, &until);
    d->waiting--;
}

static fpk_wait_result
wait_until(fpk_dispatch *d, condition_fn condition, void *argument,
           uint64_t timeout_ns, bool many)
{
    fpk_wait_result result = FPK_WAIT_DONE;
    uint64_t now = fpk_now_ns();
    uint64_t until_ns =
        timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    /* A signal that comes just before a sleep does not end it, nor one in a
       nap: whoever waits is to look for them before long. */
    uint64_t look_ns = now + FPK_OTHER_NS;
    fpk_lock(d);
    for (; !condition(d, argument); now = fpk_now_ns()) {
        if (now >= until_ns || now >= look_ns) {
            result = now >= until_ns ? FPK_WAIT_TIMEOUT : FPK_WAIT_AGAIN;
            break;
        }
        if (d->pumping) {
            wait_for_other(d, until_ns);
            if (!condition(d, argument) && d->pumping) {
                result = FPK_WAIT_AGAIN;
                break;
            }
            continue;
        }
        d->pumping = true;
        /* An armed bell of the parked I/O thread would cost each reply a
           system call. */
        fpk_bell_mute(d->bell);
        if (pump_once(d) || spin_for_reply(d)) {
            stop_pumping(d);
            continue;
        }
        if (many && d->outstanding > 8 && d->active_ns != 0 &&
            fpk_now_ns() - d->active_ns < FPK_STANDBY_NS) {
            uint64_t ns = choose_nap(d);
            fpk_unlock(d);
            nap(ns);
            fpk_lock(d);
            stop_pumping(d);
            continue;
        }
        bool rung = sleep_on_bell(d, until_ns < look_ns ? until_ns : look_ns,
                                  &d->pumper_sleeps);
        bool found = has_reply(d);
        stop_pumping(d);
        if (rung && !found && !condition(d, argument)) {
            result = FPK_WAIT_AGAIN;
            break;
        }
    }
    fpk_unlock(d);
    return result;
}

static bool
task_is_there(fpk_dispatch *d, void *argument)
{
    (void)d;
    return fpk_task_ended(argument);
}

typedef struct group_wait {
    fpk_group *group;
    uint64_t takes;
} group_wait;

static bool
group_is_there(fpk_dispatch *d, void *argument)
{
    (void)d;
    group_wait *wait = argument;
    return wait->group->first != NULL || wait->group->unfinished == 0 ||
           wait->group->takes != wait->takes;
}

static bool
nothing_is_outstanding(fpk_dispatch *d, void *argument)
{
    (void)argument;
    return d->outstanding == 0;
}

fpk_wait_result
fpk_dispatch_wait_task(fpk_dispatch *d, fpk_task *task, uint64_t timeout_ns)
{
    return fpk_task_ended(task)
               ? FPK_WAIT_DONE
               : wait_until(d, task_is_there, task, timeout_ns, true);
}

fpk_wait_result
fpk_dispatch_wait_group(fpk_dispatch *d, fpk_group *group, uint64_t takes,
                        uint64_t timeout_ns)
{
    group_wait wait = {group, takes};
    return wait_until(d, group_is_there, &wait, timeout_ns, true);
}

fpk_wait_result
fpk_dispatch_wait_idle(fpk_dispatch *d, uint64_t timeout_ns)
{
    return wait_until(d, nothing_is_outstanding, NULL, timeout_ns, true);
}

/* ---- the I/O thread ----------------------------------------------------- */

/* Sleeps for [ns] at most, until somebody wants the I/O thread. */
static void
wait_to_be_wanted(fpk_dispatch *d, uint64_t ns)
{
    uint64_t now = fpk_now_ns();
    uint64_t due = fpk_check_times_locked(d);
    if (due != UINT64_MAX && due < now + ns) {
        ns = due > now ? due - now : 0;
    }
    struct timespec until = fpk_clock_time(now + ns);
    d->io_napping = true;
    (void)pthread_cond_timedwait(&d->wanted, &d->mutex, &until);
    d->io_napping = false;
}

/* The next thing to tell; false if there is none. */
static bool
take_notice(fpk_dispatch *d, fpk_notice *notice)
{
    *notice = (fpk_notice){FPK_NOTICE_CLOSED, NULL, NULL};
    if (d->notices.first != NULL) {
        fpk_task *task = d->notices.first;
        fpk_list_remove(&d->notices, task);
        notice->kind = task->id != 0 ? FPK_NOTICE_TASK : FPK_NOTICE_MESSAGE;
        notice->task = task;
        d->noticed -= task->id != 0;
        return true;
    }
    if (d->group_notices != NULL) {
        notice->kind = FPK_NOTICE_GROUP;
        notice->group = d->group_notices;
        d->group_notices = notice->group->next_notice;
        notice->group->noticed = false;
        d->noticed--;
        return true;
    }
    return d->closed;
}

fpk_notice
fpk_dispatch_run(fpk_dispatch *d)
{
    fpk_notice notice;
    int cpus = d->io_runs ? 0 : fpk_available_cpus();
    fpk_lock(d);
    if (!d->io_runs) {
        d->io_runs = true;
        d->cpus = cpus;
    }
    while (!take_notice(d, &notice)) {
        if (!d->pumping && pump_once(d)) {
            continue;
        }
        uint64_t now = fpk_now_ns();
        bool lively =
            d->active_ns != 0 && now - d->active_ns < FPK_STANDBY_FOR_NS;
        if (d->pumping) {
            /* Whoever pumps tells us; but he may stop with work left.  Where
               he stops again and again, it is for a moment. */
            d->io_standby = !lively;
            wait_to_be_wanted(d, lively ? FPK_STANDBY_NS : FPK_OTHER_NS);
            d->io_standby = false;
            continue;
        }
        if (lively && (d->noticed == 0 || d->outstanding > 8)) {
            /* Replies come fast: to be rung for each of them would cost more
               than to look now and then. */
            bool soon = d->noticed > 0 || d->queue.first != NULL;
            wait_to_be_wanted(d, soon ? FPK_NAP_NS : FPK_STANDBY_NS);
            continue;
        }
        (void)sleep_on_bell(d, UINT64_MAX, &d->io_parked);
    }
    fpk_unlock(d);
    return notice;
}
