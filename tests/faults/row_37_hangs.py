"""A task that hangs, in C with the GIL, deaf to signals, or stopped; with a time-out or a cancel.

Required: TimeoutError for that task, at its time; the worker is replaced, all
others succeed. Without a time-out only that worker is lost for as long, and
terminate ends it.
"""

import os
import signal
import time

import pool_fault
from pool_fault import kill, plain, trial

BAD = 5
N = 12
LIMITED = ("fpickle", "mpire")


def hang_asleep(item):
    if item == BAD:
        time.sleep(60)
    return item


def hang_in_loop(item):
    while item == BAD:
        pass
    return item


def hang_in_c(item):
    if item == BAD:
        import ctypes

        ctypes.PyDLL(None).sleep(60)
    return item


def hang_deaf(item):
    if item == BAD:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(60)
    return item


def hang_stopped(item):
    if item == BAD:
        os.kill(os.getpid(), signal.SIGSTOP)
    return item


def hang_catching(item):
    while item == BAD:
        try:
            time.sleep(60)
        except BaseException:
            pass
    return item


class HangsWhenRead:
    def __reduce__(self):
        return time.sleep, (60,)


class HangsWhenWritten:
    def __reduce__(self):
        time.sleep(60)


def return_hang(item):
    return HangsWhenWritten() if item == BAD else item


HANGS = {
    "it sleeps": hang_asleep,
    "it loops": hang_in_loop,
    "it holds the GIL in C": hang_in_c,
    "it blocks all signals": hang_deaf,
    "it catches everything": hang_catching,
    "it stops itself by SIGSTOP": hang_stopped,
    "its result is written for ever": return_hang,
}


def has_timeout(t):
    return t.ok("tasks have no time-out", t.kind in LIMITED)


def check(t, function, items, bad=BAD):
    if not has_timeout(t):
        return
    with t.open(timeout=1) as pool:
        t.goes_on(pool)
        start = time.monotonic()
        error = t.one_fails(pool, function, items, bad)
        taken = time.monotonic() - start
        if error is not None:
            t.ok("no TimeoutError", isinstance(error, TimeoutError),
                 repr(error)[:100])
        t.ok("too early or too late", 0.9 < taken < 3, f"{taken:.1f} s")
        t.goes_on(pool)


for name, function in HANGS.items():
    trial(f"timeout=1: {name}")(
        lambda t, function=function: check(t, function, range(N)))


@trial("timeout=1: its argument is read for ever")
def reading(t):
    items = list(range(N))
    items[BAD] = HangsWhenRead()
    check(t, plain, items)


def sleep_a_bit(item):
    time.sleep(0.3)
    return item


@trial("timeout=1: it counts for each task, not for the wait")
def each(t):
    if not has_timeout(t):
        return
    with t.open(timeout=1) as pool:
        t.ok("wrong values",
             pool.values(sleep_a_bit, range(16)) == list(range(16)))


def sleep_long(item):
    time.sleep(20)


@trial("timeout=0.3: twenty hang, one behind the other")
def twenty(t):
    if not has_timeout(t):
        return
    with t.open(timeout=0.3) as pool:
        start = time.monotonic()
        found = pool.outcomes(sleep_long, range(20))
        taken = time.monotonic() - start
        t.ok("one is lost", not any(o.lost for o in found))
        t.ok("no TimeoutError",
             all(isinstance(o.error, TimeoutError) for o in found))
        t.ok("too late", taken < 7, f"{taken:.1f} s")
        t.goes_on(pool)


@trial("an idle worker is stopped by SIGSTOP, timeout=1")
def stopped_idle(t):
    if not has_timeout(t):
        return
    with t.open(timeout=1) as pool:
        pids = pool.pids()
        kill(pids[0], signal.SIGSTOP)
        try:
            found = pool.outcomes(plain, range(N))
            # What it had before it began is done by another, or timed out.
            t.ok("one is lost", not any(o.lost for o in found))
            failed = [o for o in found if o.error is not None]
            t.ok("more than one fails", len(failed) <= 1, failed and failed[0])
        finally:
            kill(pids[0], signal.SIGCONT)
        t.goes_on(pool)


@trial("terminate ends workers that hang", noisy=True)
def terminated(t):
    for function in (hang_in_c, hang_deaf, hang_stopped):
        pool = t.open()
        if t.face in ("executor", "asyncio") and not t.ours:
            raise pool_fault.Skip("executors have no terminate")
        handles = [submit(pool, function, BAD) for _ in range(4)]
        time.sleep(0.5)
        start = time.monotonic()
        pool.terminate()
        taken = time.monotonic() - start
        t.ok("terminate is late", taken < 3, f"{taken:.1f} s")
        gone = pool_fault.wait_until(
            lambda: len(pool_fault.children()) <= keeps(t), 3)
        t.ok("processes are left", gone, len(pool_fault.children()))
        del handles


def keeps(t):
    """Processes that serve all pools of a program may stay."""
    return 1


def submit(pool, function, item):
    if pool.face == "iterator":
        return pool.imap(function, [item])
    return pool.submit(function, item)


if __name__ == "__main__":
    pool_fault.main()
