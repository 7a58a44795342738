"""A task writes over the memory that its worker shares with the parent.

Required: the parent neither crashes nor hangs nor takes what it reads for a
result of another task; at worst that worker is killed and its task fails.
"""

import ctypes
import random
import time

import pool_fault
from pool_fault import plain, trial

N = 12
OURS = ("fpickle",)


def shared_mappings():
    """(address, length) of what this process may write and others see."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            span, access, _, _, inode, *path = line.split()
            if access[:2] != "rw" or access[3] != "s":
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            found.append((start, end - start))
    return found


class Scribbles:
    """Item BAD overwrites what is shared, in the way that [seed] chooses."""

    def __init__(self, seed, bad=5):
        self.seed = seed
        self.bad = bad

    def __call__(self, item):
        if item == self.bad:
            scribble(random.Random(self.seed))
        return item


PATTERNS = (b"\0", b"\xff", b"\x01\0\0\0\0\0\0\0", b"\xff\xff\xff\x7f")


def scribble(choose):
    mappings = shared_mappings()
    if not mappings:
        return
    for start, length in mappings:
        way = choose.randrange(4)
        if way == 0:  # everything
            size, at = min(length, 2**20), 0
        elif way == 1:  # the head
            size, at = min(length, 4096), 0
        elif way == 2:  # 64 bytes anywhere
            size = min(length, 64)
            at = choose.randrange(0, length - size + 1, 8)
        else:  # 8 bytes in the head
            size, at = 8, choose.randrange(0, min(length, 4096), 8)
        pattern = choose.choice(PATTERNS + (choose.randbytes(8),))
        data = (pattern * (size // len(pattern) + 1))[:size]
        ctypes.memmove(start + at, data, size)


def check(t, seeds):
    with t.open() as pool:
        t.goes_on(pool)
        for seed in seeds:
            found = pool.outcomes(Scribbles(seed), range(N))
            lost = [i for i, o in enumerate(found) if o.lost]
            if not t.ok(f"seed {seed}: tasks are lost", not lost, lost):
                break
            failed = [i for i, o in enumerate(found) if o.error is not None]
            # What the worker had ready may be gone with its ring.
            t.ok(f"seed {seed}: the results of others are wrong",
                 all(o.value == i for i, o in enumerate(found)
                     if o.error is None and i != 5))
            t.ok(f"seed {seed}: too many fail", len(failed) <= N // 2,
                 len(failed))
            time.sleep(0.05)
        t.goes_on(pool)


for first in range(0, 48, 8):
    trial(f"random writes, seeds {first} to {first + 7}", pools=OURS,
          noisy=True)(
        lambda t, first=first: check(t, range(first, first + 8)))


def forge(item):
    """Makes the bytes of every mapping go up by one, for a while."""
    if item == 5:
        end = time.monotonic() + 0.3
        choose = random.Random(7)
        mappings = shared_mappings()
        while time.monotonic() < end:
            start, length = choose.choice(mappings)
            at = choose.randrange(0, min(length, 65536), 4)
            word = ctypes.c_uint32.from_address(start + at)
            word.value = word.value + 1 & 0xFFFFFFFF
    return item


@trial("writes while the parent reads", pools=OURS, noisy=True)
def while_reading(t):
    with t.open() as pool:
        for _ in range(5):
            found = pool.outcomes(forge, range(N))
            lost = [i for i, o in enumerate(found) if o.lost]
            if not t.ok("tasks are lost", not lost, lost):
                break
        t.goes_on(pool)


def cut(item):
    """Tries to shrink what is behind the mappings."""
    import os

    if item == 5:
        for name in os.listdir("/proc/self/fd"):
            try:
                if "memfd" in os.readlink(f"/proc/self/fd/{name}"):
                    os.ftruncate(int(name), 0)
            except OSError:
                pass
    return item


@trial("shrinks the shared files", pools=OURS, noisy=True)
def shrinks(t):
    with t.open() as pool:
        for _ in range(3):
            found = pool.outcomes(cut, range(N))
            t.ok("tasks are lost", not any(o.lost for o in found))
        found = pool.outcomes(len, [bytearray(10**7)] * 4)
        t.ok("a task is wrong", all(o.value == 10**7 for o in found),
             found[0])
        t.goes_on(pool, plain)


if __name__ == "__main__":
    pool_fault.main()
