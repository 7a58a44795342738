"""No file descriptor, no process, no shared memory, no memfd: when the pool starts, and when it runs.

Required: a clean OSError or MemoryError, or it does without; no process or file
is left, and the pool works when there is room again.
"""

import contextlib
import ctypes
import errno
import gc
import os
import resource
import struct
import time

import pool_fault
from pool_fault import MIB, die, plain, trial

BAD = 5
N = 12


def set_limit(what, value):
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (value if value is not None else hard, hard))


def highest_file():
    return max(map(int, os.listdir("/proc/self/fd")))


@contextlib.contextmanager
def few(free):
    """Only that many descriptors are free; children are not concerned."""
    set_limit(resource.RLIMIT_NOFILE, highest_file() + 60)
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
    for _ in range(free):
        os.close(held.pop())
    try:
        yield
    finally:
        for number in held:
            os.close(number)
        set_limit(resource.RLIMIT_NOFILE, None)


def try_all(t, first, last):
    """Opens a pool and uses it, with so many free descriptors in turn."""
    # What serves all pools of a program may stay.
    files = pool_fault.open_files() + 6
    for free in range(first, last):
        pool = None
        with few(free):
            try:
                pool = t.open()
                found = pool.outcomes(plain, range(4))
                errors = [o.error for o in found if o.error is not None]
                t.ok(f"{free} free: a task is lost",
                     not any(o.lost for o in found))
                t.ok(f"{free} free: no clean error",
                     all(isinstance(e, (OSError, RuntimeError))
                         for e in errors), repr(errors[:1]))
            except (OSError, RuntimeError, ImportError):
                t.ok(f"{free} free: a clean error", True)
        if pool is not None:
            pool.terminate()
            del pool
        gc.collect()
        left = pool_fault.wait_until(
            lambda: pool_fault.open_files() <= files, 2)
        t.ok(f"{free} free: files are left", left,
             f"{pool_fault.open_files()}, allowed {files}")
        if t.wrong:
            return


@trial("EMFILE when it starts", noisy=True)
def few_files(t):
    try_all(t, 0, 24)
    with t.open() as pool:
        t.goes_on(pool)


@trial("EMFILE when a worker has to be replaced", noisy=True)
def few_later(t):
    if t.face == "asyncio":
        raise pool_fault.Skip("the event loop needs files of its own")
    with t.open() as pool:
        t.goes_on(pool)
        with few(0):
            found = pool.outcomes(kill_at_bad, range(N))
            t.ok("a task is lost", not any(o.lost for o in found))
            t.ok("the bad task succeeds", found[BAD].error is not None)
        time.sleep(0.3)
        t.goes_on(pool)


@trial("EMFILE while there is work", noisy=True)
def none_left(t):
    if t.face == "asyncio":
        raise pool_fault.Skip("the event loop needs files of its own")
    with t.open() as pool:
        t.goes_on(pool)
        with few(0):
            found = pool.outcomes(return_bytes, [100, 10**7, 3 * 10**7] * 3)
        t.ok("a task is lost", not any(o.lost for o in found))
        errors = [o.error for o in found if o.error is not None]
        t.ok("no clean error", all(isinstance(e, (OSError, MemoryError))
                                   for e in errors), repr(errors[:1]))
        t.goes_on(pool)


def kill_at_bad(item):
    if item == BAD:
        die("SIGKILL")
    return item


def return_bytes(size):
    return bytes(size)


@trial("ENOSPC: files and shared memory of 4 MB at most", noisy=True)
def small_files(t):
    with t.open() as pool:
        t.goes_on(pool)
    set_limit(resource.RLIMIT_FSIZE, 4 * MIB)
    try:
        with t.open() as pool:
            items = [bytearray(100), bytearray(50 * MIB), bytearray(100),
                     bytearray(20 * MIB), b"", bytearray(3 * MIB)]
            found = pool.outcomes(len, items)
            t.ok("a task is lost", not any(o.lost for o in found))
            for item, outcome in zip(items, found):
                t.ok("no clean error",
                     isinstance(outcome.error, (OSError, MemoryError))
                     or outcome.value == len(item), outcome)
            t.ok("small ones fail", found[0].value == 100, found[0])
            found = pool.outcomes(return_bytes, [10, 50 * MIB, 10])
            t.ok("a result is lost", not any(o.lost for o in found))
            t.ok("small results fail", found[2].error is None, found[2])
            t.goes_on(pool)
    finally:
        set_limit(resource.RLIMIT_FSIZE, None)


# ---- a kernel without a system call ---------------------------------------

NUMBERS = {
    "x86_64": {"memfd_create": 319, "pidfd_open": 434, "clone": 56,
               "fork": 57, "vfork": 58, "clone3": 435},
    "aarch64": {"memfd_create": 279, "pidfd_open": 434, "clone": 220,
                "clone3": 435},
}
PROCESSES = ("clone", "fork", "vfork", "clone3")


def forbid(*names, error=errno.ENOSYS):
    """From here on these calls fail with [error], in children, too."""
    machine = os.uname().machine
    if machine not in NUMBERS:
        raise pool_fault.Skip(f"no call numbers of {machine}")
    code = b""
    load, equal, give = 0x20, 0x15, 0x06
    code += struct.pack("HBBI", load, 0, 0, 0)
    numbers = NUMBERS[machine]
    for name in names:
        if name not in numbers:
            continue
        code += struct.pack("HBBI", equal, 0, 1, numbers[name])
        code += struct.pack("HBBI", give, 0, 0, 0x00050000 | error)
    code += struct.pack("HBBI", give, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8,
                          ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if (libc.prctl(38, 1, 0, 0, 0) != 0
            or libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) != 0):
        raise pool_fault.Skip("seccomp is not allowed")


def check_without(t, *names):
    forbid(*names)
    with t.open() as pool:
        t.goes_on(pool)
        found = pool.outcomes(len, [bytearray(10 * MIB), b"", b"x" * 200])
        t.ok("wrong values",
             [o.value for o in found] == [10 * MIB, 0, 200], found[0])
        if t.ours:  # row 32 is about the others
            t.died(t.one_fails(pool, kill_at_bad, range(N), BAD), "SIGKILL")
            t.goes_on(pool)


trial("a kernel without memfd_create")(
    lambda t: check_without(t, "memfd_create"))
trial("a kernel without pidfd_open")(
    lambda t: check_without(t, "pidfd_open"))
trial("a kernel without either")(
    lambda t: check_without(t, "memfd_create", "pidfd_open"))


@trial("EAGAIN: no process can be started", noisy=True)
def no_process(t):
    forbid(*PROCESSES, error=errno.EAGAIN)
    files = pool_fault.open_files()
    pool = None
    try:
        pool = t.open()
        found = pool.outcomes(plain, range(4))
        t.ok("a task is lost", not any(o.lost for o in found))
        t.ok("no clean error",
             all(isinstance(o.error, (OSError, RuntimeError)) for o in found),
             found[0])
    except (OSError, RuntimeError):
        t.ok("a clean error", True)
    finally:
        if pool is not None:
            pool.terminate()
    del pool
    gc.collect()
    t.ok("files are left", pool_fault.wait_until(
        lambda: pool_fault.open_files() <= files + 3, 2),
        f"{pool_fault.open_files()}, before {files}")


@trial("EAGAIN when a worker has to be replaced", noisy=True)
def no_replacement(t):
    with t.open() as pool:
        pool.pids()
        forbid(*PROCESSES, error=errno.EAGAIN)
        found = pool.outcomes(kill_at_bad, range(N))
        t.ok("a task is lost", not any(o.lost for o in found))
        t.ok("the bad task succeeds", found[BAD].error is not None)
        failed = [o for i, o in enumerate(found) if i != BAD and o.error]
        t.ok("other tasks fail", not failed, failed and failed[0])
        # One worker is left.
        found = pool.outcomes(plain, range(N))
        t.ok("a later task is lost", not any(o.lost for o in found))
        t.ok("a later task fails", not any(o.error for o in found), found[0])


@trial("one CPU")
def one_cpu(t):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with t.open() as pool:
        start = time.monotonic()
        found = pool.outcomes(plain, range(1000))
        t.ok("a task fails", all(o.error is None for o in found))
        t.ok("too slow", time.monotonic() - start < 5)
        if t.ours:
            t.died(t.one_fails(pool, kill_at_bad, range(N), BAD), "SIGKILL")
            t.goes_on(pool)


if __name__ == "__main__":
    pool_fault.main()
