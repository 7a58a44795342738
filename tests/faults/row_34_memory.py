"""A task, an argument or a result for which there is no memory: RLIMIT_AS, memory_limit, the kernel's SIGKILL.

Required: MemoryError to the caller, or WorkerDied; all others succeed, and the
pool goes on.
"""

import resource
import time

import pool_fault
from pool_fault import MIB, plain, resident, trial

BAD = 5
N = 12
KEPT = []


def limit_memory(more):
    """This process may have that many bytes more."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))


def take_too_much(item):
    if item == BAD:
        limit_memory(50 * MIB)
        return len(bytearray(1000 * MIB))
    return item


def unlimit(item):
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    time.sleep(0.01)
    return item


def expect_memory_error(t, error):
    if error is not None:
        t.ok("no MemoryError", isinstance(error, MemoryError) or t.ours and
             isinstance(error, __import__("fpickle").WorkerDied),
             repr(error)[:120])


@trial("a task takes more than RLIMIT_AS allows")
def in_task(t):
    with t.open() as pool:
        error = t.one_fails(pool, take_too_much, range(N), BAD)
        expect_memory_error(t, error)
        t.goes_on(pool, unlimit)


def return_much(item):
    if item == BAD:
        result = bytearray(100 * MIB)
        limit_memory(10 * MIB)
        return result
    return item


@trial("no memory to write a result")
def result(t):
    with t.open() as pool:
        error = t.one_fails(pool, return_much, range(N), BAD)
        expect_memory_error(t, error)
        t.goes_on(pool, unlimit)


def limit_then_sleep(item):
    limit_memory(20 * MIB)
    time.sleep(0.05)
    return item


@trial("no memory to read an argument")
def argument(t):
    with t.open() as pool:
        pool.outcomes(limit_then_sleep, range(4))
        items = list(range(N))
        # Not one buffer that could be mapped where there is room.
        items[BAD] = [bytes(50) + str(i).encode() for i in range(10**6)]
        error = t.one_fails(pool, plain, items, BAD)
        expect_memory_error(t, error)
        t.goes_on(pool, unlimit)


def return_list(item):
    if item == BAD:
        return [str(i) + "x" * 50 for i in range(10**6)]
    return item


@trial("no memory in the parent to read a result")
def parent(t):
    if t.face == "asyncio":
        raise pool_fault.Skip("the event loop needs memory of its own")
    with t.open() as pool:
        t.goes_on(pool)
        limit_memory(40 * MIB)
        try:
            error = t.one_fails(pool, return_list, range(N), BAD)
        finally:
            unlimit(0)
        expect_memory_error(t, error)
        t.goes_on(pool)


def grow(item):
    if item == BAD:
        kept = []
        for _ in range(50):
            kept.append(bytearray(b"x") * (10 * MIB))
        KEPT.extend(kept)
    return item


@trial("a task grows beyond memory_limit, and keeps it", pools=("fpickle",))
def limited(t):
    with t.open(memory_limit=300 * MIB) as pool:
        found = pool.outcomes(grow, range(N))
        t.ok("a task is lost", not any(o.lost for o in found))
        expect_memory_error(t, found[BAD].error)
        t.ok("other tasks fail",
             all(o.value == i for i, o in enumerate(found) if i != BAD))
        t.goes_on(pool)
        for pid in pool.pids():
            t.ok("the worker stays", resident(pid) < 300 * MIB,
                 resident(pid) // MIB)


def leak(item):
    KEPT.append(bytearray(b"x") * (20 * MIB))
    return resident()


@trial("workers that leak 20 MB a task, with memory_limit",
       pools=("fpickle",))
def leaking(t):
    with t.open(memory_limit=300 * MIB) as pool:
        values = pool.values(leak, range(60))
        t.ok("a worker grows on", max(values) < 500 * MIB,
             f"{max(values) // MIB} MiB")


if __name__ == "__main__":
    pool_fault.main()
