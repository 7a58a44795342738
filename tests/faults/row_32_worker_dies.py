"""A worker dies: by signals, os._exit, a crash; idle, reading an argument, in the task, writing a result.

Required: WorkerDied with the signal or exit code and the pid, for its task
only; no task if it was idle; all others succeed, and the worker is replaced
within a second.
"""

import os
import time

import pool_fault
from pool_fault import DEATHS, MIB, die, kill, plain, trial

BAD = 5
N = 12


class DiesWhenRead:
    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return die_first, (self.how,)


def die_first(how):
    die(how)


class DiesWhenWritten:
    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        die(self.how)


class Dies:
    """The item BAD kills its worker."""

    def __init__(self, how, slow=0.0, returns=None):
        self.how = how
        self.slow = slow

    def __call__(self, item):
        time.sleep(self.slow)
        if item == BAD:
            die(self.how)
        return item


class ReturnsDeath:
    def __init__(self, how, ballast=0):
        self.how = how
        self.ballast = ballast

    def __call__(self, item):
        if item == BAD:
            return bytearray(self.ballast), DiesWhenWritten(self.how)
        return item


def in_task(t, how):
    with t.open() as pool:
        t.died(t.one_fails(pool, Dies(how), range(N), BAD), how)
        t.goes_on(pool)


def reading(t, how):
    with t.open() as pool:
        items = list(range(N))
        items[BAD] = DiesWhenRead(how)
        t.died(t.one_fails(pool, plain, items, BAD), how)
        t.goes_on(pool)


def writing(t, how):
    with t.open() as pool:
        t.died(t.one_fails(pool, ReturnsDeath(how), range(N), BAD), how)
        t.goes_on(pool)


for how in DEATHS:
    trial(f"{how} in the task")(lambda t, how=how: in_task(t, how))
for how in ("SIGKILL", "SIGSEGV", "os._exit(3)", "a stack overflow in C"):
    trial(f"{how} while an argument is read")(
        lambda t, how=how: reading(t, how))
    trial(f"{how} while a result is written")(
        lambda t, how=how: writing(t, how))


def idle(t, number):
    with t.open() as pool:
        victim = pool.pids()[0]
        time.sleep(0.2)
        kill(victim, number)
        pool_fault.wait_until(
            lambda: pool_fault.process_state(victim) in "ZX", 1)
        t.goes_on(pool)
        start = time.monotonic()
        pids = pool.pids()
        t.ok("the dead one works", victim not in pids)
        t.ok("the worker is not replaced", len(pids) == 2, pids)
        t.ok("replaced late", time.monotonic() - start < 3,
             f"{time.monotonic() - start:.1f} s")


trial("SIGKILL when idle")(lambda t: idle(t, pool_fault.SIGNALS["SIGKILL"]))
trial("SIGSEGV when idle")(lambda t: idle(t, pool_fault.SIGNALS["SIGSEGV"]))


@trial("all workers are killed when idle")
def all_idle(t):
    with t.open() as pool:
        for _ in range(3):
            for victim in pool.pids():
                kill(victim)
            time.sleep(0.2)
            t.goes_on(pool)


@trial("the worker is killed and at once there is work")
def no_pause(t):
    with t.open() as pool:
        for _ in range(5):
            victims = pool.pids()
            kill(victims[0])
            found = pool.outcomes(plain, range(20))
            t.ok("a task is lost", not any(o.lost for o in found))
            failed = [o for o in found if o.error is not None]
            t.ok("more than one task fails", len(failed) <= 1, len(failed))


@trial("SIGKILL while 100 MB are written")
def big_result(t):
    how = "SIGKILL"
    with t.open() as pool:
        error = t.one_fails(pool, ReturnsDeath(how, 100 * MIB), range(N), BAD)
        t.died(error, how)
        t.goes_on(pool)


def length_or_death(item):
    if isinstance(item, tuple):
        die("SIGKILL")
    return item


@trial("SIGKILL with an argument of 100 MB")
def big_argument(t):
    with t.open() as pool:
        for _ in range(3):
            items = list(range(N))
            items[BAD] = (BAD, bytearray(100 * MIB))
            t.died(t.one_fails(pool, length_or_death, items, BAD), "SIGKILL")
        t.goes_on(pool)
        if t.ours:
            t.ok("memory is left", pool_fault.resident() < 500 * MIB,
                 f"{pool_fault.resident() // MIB} MiB")


def kill_or_sleep(item):
    if item == BAD:
        die("SIGKILL")
    time.sleep(0.5)
    return item


@trial("SIGKILL while the others are in long tasks")
def long_tasks(t):
    with t.open(workers=4) as pool:
        t.died(t.one_fails(pool, kill_or_sleep, range(N), BAD), "SIGKILL")
        t.goes_on(pool)


class Many:
    """Every tenth item kills its worker."""

    def __call__(self, item):
        if item % 10 == 5:
            die("os._exit(3)" if item % 20 == 5 else "SIGKILL")
        return item


@trial("every tenth task of 60 kills its worker")
def many(t):
    with t.open() as pool:
        found = pool.outcomes(Many(), range(60))
        for i, outcome in enumerate(found):
            if i % 10 == 5:
                t.ok(f"{i} is lost", not outcome.lost)
                t.died(outcome.error,
                       "os._exit(3)" if i % 20 == 5 else "SIGKILL")
            else:
                t.ok(f"{i} ends otherwise", outcome.value == i, outcome)
        t.goes_on(pool)




@trial("the parent has no memory of the dead: files, processes")
def nothing_left(t):
    with t.open() as pool:
        t.goes_on(pool)
        pool.outcomes(Dies("SIGKILL"), range(N))
        t.goes_on(pool)
        time.sleep(0.5)  # the last of the dead is replaced
        files = pool_fault.open_files()
        count = len(pool_fault.children())
        for _ in range(10):
            found = pool.outcomes(Dies("SIGKILL"), range(N))
            t.ok("a task is lost", not any(o.lost for o in found))
        t.goes_on(pool)
        time.sleep(0.5)
        t.ok("files are left", pool_fault.open_files() <= files + 2,
             f"{pool_fault.open_files()}, before {files}")
        t.ok("processes are left",
             len(pool_fault.children()) <= count, pool_fault.children())


if __name__ == "__main__":
    pool_fault.main()
