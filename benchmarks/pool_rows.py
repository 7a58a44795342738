"""The rows of pool.py: what is measured, how often, and in which unit.

A measurement opens a pool, warms it up, and returns one number; results are
checked, since a pool that is fast and wrong is no competitor.
"""

import array
import collections
import dataclasses
import time
import typing

from pool_peers import (
    Cpu,
    Loky,
    Mpire,
    Multiprocess,
    Ours,
    OurExecutor,
    StandardExecutor,
    StandardPool,
    descendants,
    memory_of_all,
    others_cpu,
    resident,
    switches,
)

WORKERS = 2
MIB = 1024 * 1024


class NotMeant(Exception):
    """This pool has no such thing."""


@dataclasses.dataclass
class Row:
    name: str
    unit: str
    measure: typing.Callable
    rounds: int = 5
    less_is_better: bool = True
    peers: tuple = ()  # classes; empty: all
    ours: tuple = ("fpickle",)
    long: bool = False
    once_is_enough: float = 0.0  # a value above which one round will do

    def fits(self, peer):
        return not self.peers or peer in self.peers


# ---- functions of tasks ---------------------------------------------------

def same(item):
    return item


def spin_1(item):
    for _ in range(25):
        pass
    return item


def spin_10(item):
    for _ in range(400):
        pass
    return item


def spin_100(item):
    for _ in range(4500):
        pass
    return item


def length(item):
    return len(item)


def make_bytes(size):
    return bytes(size)


def make_array(size):
    import numpy

    return numpy.ones(size // 8)


class Closure:
    """A function that carries 20 MB."""

    def __init__(self):
        self.data = bytes(20_000_000)

    def __call__(self, item):
        return item + len(self.data)


def expect(found, wanted):
    if found != wanted:
        raise AssertionError(f"{str(found)[:60]}, not {str(wanted)[:60]}")


# ---- measurements ---------------------------------------------------------

def warm_up(pool):
    expect(sorted(pool.queue(same, list(range(200)))), list(range(200)))
    for i in range(20):
        expect(pool.apply(same, i), i)


def opened(workers=WORKERS, start=None):
    """Decorates a measurement of an open and warm pool."""

    def decorate(body):
        def measure(peer, quick):
            pool = peer(workers, start)
            try:
                warm_up(pool)
                return body(pool, quick)
            finally:
                pool.close()

        return measure

    return decorate


def consume(iterator):
    collections.deque(iterator, maxlen=0)


def queued(workers, cpu):
    @opened(workers)
    def body(pool, quick):
        count = 5_000 if quick else 20_000
        if isinstance(pool, (Ours, OurExecutor)):
            count *= 5
        items = list(range(count))
        for _ in range(2 if isinstance(pool, (Ours, OurExecutor)) else 1):
            used, start = Cpu(), time.perf_counter()
            consume(pool.queue(same, items))
            elapsed = time.perf_counter() - start
            taken = used.taken()
        return (taken if cpu else elapsed) / count * 1e6

    return body


def throughput(peer, quick):
    return 1e6 / queued(WORKERS, False)(peer, quick)


def round_trip(workers):
    @opened(workers)
    def body(pool, quick):
        count = 300 if quick else 1500
        for i in range(50):
            pool.apply(same, i)
        start = time.perf_counter()
        for i in range(count):
            pool.apply(same, i)
        return (time.perf_counter() - start) / count * 1e6

    return body


def chunked(function, count):
    """The pool's own map, with its own chunks."""

    @opened()
    def body(pool, quick):
        items = range(count // 10 if quick else count)
        start = time.perf_counter()
        found = pool.chunks(function, items)
        elapsed = time.perf_counter() - start
        expect(len(found), len(items))
        expect(found[-1], items[-1])
        return elapsed / len(items) * 1e6

    return body


def argument(make, check):
    @opened(1)
    def body(pool, quick):
        data = make()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            found = pool.apply(check, data)
            times.append(time.perf_counter() - start)
            expect(found, len(data))
        return min(times) * 1e3

    return body


def result(make, size, items):
    @opened(1)
    def body(pool, quick):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            found = pool.apply(make, size)
            times.append(time.perf_counter() - start)
            expect(len(found), items)
            del found
        return min(times) * 1e3

    return body


def numpy_ones():
    import numpy

    return numpy.ones(100_000_000 // 8)


@opened()
def closure(pool, quick):
    function = Closure()
    items = list(range(64))
    start = time.perf_counter()
    found = sorted(pool.queue(function, items))
    elapsed = time.perf_counter() - start
    expect(found, [item + 20_000_000 for item in items])
    return elapsed * 1e3


def first_result(start, workers=1):
    def measure(peer, quick):
        if start not in peer.starts:
            raise NotMeant(start)
        begin = time.perf_counter()
        pool = peer(workers, start)
        try:
            # A builtin: a function of this file would have each worker import
            # it, and all that it imports.
            expect(pool.apply(abs, -1), 1)
            return (time.perf_counter() - begin) * 1e3
        finally:
            pool.close()

    return measure


def idle(what):
    """Of a pool that has worked, and that nobody asks for anything."""

    @opened()
    def body(pool, quick):
        time.sleep(0.5)
        seconds = 2.0
        used, before = others_cpu(), switches()
        time.sleep(seconds)
        # The sleep of this thread is one of them.
        woken = max(0, switches() - before - 1)
        taken = others_cpu() - used
        return woken / seconds if what == "wake-ups" else taken / seconds * 1e3

    return body


def generator_memory(count, slowly):
    """By how much memory grows while a generator is read; the consumer may be
    slower than the workers."""

    @opened()
    def body(pool, quick):
        limit = count // 5 if quick else count
        before = most = resident()
        done = 0
        for value in pool.ordered(same, iter(range(limit)), limit):
            done += 1
            if slowly and done % 10 == 0:
                time.sleep(0.0005)
            if done % 1000 == 0:
                most = max(most, resident())
        expect(done, limit)
        return max(0, most - before) / MIB

    return body


def leak(what, count):
    """Growth over [count] payloads of 100 KB, both ways."""

    @opened()
    def body(pool, quick):
        import os

        data = bytes(100_000)

        def run(times):
            for value in pool.queue(same, [data] * times):
                expect(len(value), len(data))

        run(2000)
        files = len(os.listdir("/proc/self/fd"))
        memory = memory_of_all()
        left = count // 20 if quick else count
        while left > 0:
            run(min(left, 2000))
            left -= 2000
        if what == "files":
            return len(os.listdir("/proc/self/fd")) - files
        return (memory_of_all() - memory) / MIB

    return body


def restarts(peer, quick):
    """Files and processes left by 20 pools."""
    import os

    def once():
        pool = peer(WORKERS)
        expect(pool.apply(same, 1), 1)
        pool.close()

    once()
    files, count = len(os.listdir("/proc/self/fd")), len(descendants())
    for _ in range(20):
        once()
    return (len(os.listdir("/proc/self/fd")) - files
            + len(descendants()) - count)


POOLS = (Ours, StandardPool, Mpire, Multiprocess)
ALL_CHUNKS = (Ours, OurExecutor, StandardPool, StandardExecutor, Loky, Mpire,
              Multiprocess)

ROWS = [
    Row("queued int, chunk 1, 1 worker, CPU", "us a task",
        queued(1, True)),
    Row("queued int, chunk 1, 2 workers, CPU", "us a task",
        queued(2, True)),
    Row("queued int, chunk 1, 2 workers", "tasks/s", throughput,
        less_is_better=False),
    Row("round trip, 1 worker", "us", round_trip(1)),
    Row("round trip, 2 workers", "us", round_trip(2)),
    Row("map of 10^6 items of 1 us", "us an item",
        chunked(spin_1, 1_000_000), rounds=3, peers=ALL_CHUNKS),
    Row("map of 10^5 items of 10 us", "us an item",
        chunked(spin_10, 100_000), rounds=3, peers=ALL_CHUNKS),
    Row("map of 10^4 items of 100 us", "us an item",
        chunked(spin_100, 20_000), rounds=3, peers=ALL_CHUNKS),
    Row("100 MB numpy argument", "ms", argument(numpy_ones, length),
        rounds=3),
    Row("100 MB numpy result", "ms",
        result(make_array, 100_000_000, 12_500_000), rounds=3),
    Row("100 MB bytes argument", "ms",
        argument(lambda: bytes(100_000_000), length), rounds=3),
    Row("100 MB bytes result", "ms",
        result(make_bytes, 100_000_000, 100_000_000), rounds=3),
    Row("1 MB bytes argument", "ms",
        argument(lambda: bytes(1_000_000), length)),
    Row("100 KB array argument", "ms",
        argument(lambda: array.array("d", bytes(100_000)), length)),
    Row("20 MB closure, 64 tasks, chunk 1", "ms", closure, rounds=3,
        once_is_enough=1000.0),
    Row("start to first result, fork", "ms", first_result("fork", WORKERS)),
    Row("start to first result, fork, 1 worker", "ms", first_result("fork")),
    Row("start to first result, zygote", "ms", first_result("zygote")),
    Row("start to first result, forkserver", "ms",
        first_result("forkserver")),
    Row("start to first result, spawn", "ms", first_result("spawn")),
    Row("idle pool", "wake-ups/s", idle("wake-ups"), rounds=1),
    Row("idle pool, CPU", "ms/s", idle("CPU"), rounds=1),
    Row("memory for a generator of 2 * 10^5 items, slow consumer", "MiB",
        generator_memory(200_000, True), rounds=1, peers=POOLS),
    Row("memory for a generator of 10^6 items", "MiB",
        generator_memory(1_000_000, False), rounds=1, peers=(Ours,)),
    Row("memory for a generator of 10^7 items", "MiB",
        generator_memory(10_000_000, False), rounds=1, peers=(Ours,),
        long=True),
    Row("files and processes left by 20 pools", "", restarts, rounds=1,
        peers=(Ours, OurExecutor, StandardPool, StandardExecutor, Loky)),
    Row("files left by 10^4 payloads of 100 KB", "", leak("files", 10_000),
        rounds=1, peers=(Ours, OurExecutor, StandardPool)),
    Row("memory left by 10^4 payloads of 100 KB", "MiB",
        leak("memory", 10_000), rounds=1,
        peers=(Ours, OurExecutor, StandardPool)),
    Row("memory left by 10^5 payloads of 100 KB", "MiB",
        leak("memory", 100_000), rounds=1, peers=(Ours,), long=True),
]
