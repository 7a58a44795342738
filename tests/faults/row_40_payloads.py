"""0 bytes to 100 MB both ways at once, many tiny tasks, endless input, slow consumers, callbacks and futures that misbehave.

Required: bounded memory, no deadlock; each task has exactly one outcome.
"""

import gc
import itertools
import threading
import time

import pool_fault
from pool_fault import MIB, plain, resident, trial

SIZES = (0, 1, 200, 16000, 16384, 16400, 65536, 10**6, 10**7, 10**8)
LAZY = ("fpickle", "mpire")


def echo(item):
    return item


def same(a, b):
    return type(a) is type(b) and a == b


def check_echo(t, make):
    with t.open() as pool:
        for size in SIZES:
            items = [make(size + i) for i in range(3)]
            found = pool.outcomes(echo, items)
            for item, outcome in zip(items, found):
                t.ok(f"{size} is another", same(item, outcome.value),
                     outcome)
        t.goes_on(pool)


@trial("bytes")
def payload_bytes(t):
    check_echo(t, bytes)


@trial("bytearrays")
def payload_bytearrays(t):
    check_echo(t, bytearray)


@trial("numpy arrays")
def payload_numpy(t):
    try:
        import numpy
    except ImportError:
        raise pool_fault.Skip("no numpy") from None

    with t.open() as pool:
        for size in SIZES:
            array = numpy.arange(size // 8)
            found = pool.outcomes(array_in_place, [array] * 3)
            for outcome in found:
                t.ok(f"{size} fails", outcome.error is None, outcome)
                if outcome.error is None:
                    t.ok(f"{size} is another",
                         (outcome.value == array + 1).all())
            t.ok("the argument is changed",
                 (array == numpy.arange(size // 8)).all())
        t.goes_on(pool)


def array_in_place(array):
    array += 1
    return array


def big_and_small(item):
    return bytes(item % 3 * 10**6), item


@trial("both ways full")
def both_full(t):
    with t.open() as pool:
        items = [(i, bytes(i % 5 * 500_000)) for i in range(200)]
        found = pool.outcomes(echo, items)
        t.ok("a task is lost or wrong",
             all(o.value == i for i, o in zip(items, found)))


@trial("20,000 tiny tasks")
def many(t):
    if t.face == "asyncio" and not t.ours:
        raise pool_fault.Skip("slow by itself")
    with t.open() as pool:
        count = 20_000
        found = pool.outcomes(plain, range(count))
        t.ok("a task is lost or wrong",
             all(o.value == ("done", i) for i, o in enumerate(found)))


class Counted:
    """An iterator that knows how far it was read."""

    def __init__(self, make=int, stop=None, error=None):
        self.read = 0
        self.make = make
        self.stop = stop
        self.error = error

    def __iter__(self):
        return self

    def __next__(self):
        if self.read == self.stop:
            if self.error is not None:
                raise self.error
            raise StopIteration
        self.read += 1
        return self.make(self.read - 1)


def lazy_iterator(pool, function, items):
    if pool.kind == "mpire":
        return pool.pool.imap(function, ((item,) for item in items),
                              iterable_len=10**9, chunk_size=1)
    return pool.imap(function, items)


@trial("endless input", faces=("iterator",))
def endless(t):
    with t.open() as pool:
        items = Counted()
        iterator = lazy_iterator(pool, plain, items)
        for i in range(2000):
            t.ok("wrong value", next(iterator) == ("done", i))
        t.ok("it reads ahead without bounds", items.read < 200_000,
             items.read)
        before = items.read
        time.sleep(0.3)
        t.ok("it reads on while nobody takes", items.read - before < 50_000,
             items.read - before)
        pool.terminate()


@trial("endless input of 1 MB each, a slow consumer", faces=("iterator",))
def endless_big(t):
    with t.open() as pool:
        items = Counted(lambda i: bytearray(MIB))
        iterator = lazy_iterator(pool, echo, items)
        for _ in range(100):
            next(iterator)
            time.sleep(0.005)
        t.ok("memory grows", resident() < 600 * MIB,
             f"{resident() // MIB} MiB, {items.read} read")
        pool.terminate()


@trial("two iterators at once, one of them left", faces=("iterator",))
def two(t):
    if t.kind == "mpire":
        raise pool_fault.Skip("one map at a time")
    with t.open() as pool:
        one = pool.imap(plain, iter(range(100)))
        left = pool.imap(plain, Counted(stop=50_000))
        next(left)
        t.ok("wrong", [next(one) for _ in range(100)]
             == [("done", i) for i in range(100)])
        del left
        gc.collect()
        t.goes_on(pool)


@trial("input that raises", faces=("iterator",))
def input_raises(t):
    with t.open() as pool:
        for at in (0, 1, 50):
            items = Counted(stop=at, error=ValueError("refused"))
            values = []
            try:
                for value in lazy_iterator(pool, plain, items):
                    values.append(value)
                t.ok(f"{at}: no error", False)
            except ValueError as error:
                t.ok(f"{at}: another error", "refused" in str(error), error)
            except Exception as error:
                t.ok(f"{at}: another error", False, repr(error))
            t.ok(f"{at}: tasks before it are lost", len(values) == at,
                 len(values))
        t.goes_on(pool)


@trial("input that raises, in map", faces=("pool",))
def input_raises_in_map(t):
    with t.open() as pool:
        items = Counted(stop=20, error=ValueError("refused"))
        t.raises("map", lambda: pool.pool.map(plain, items), ValueError)
        t.goes_on(pool)


@trial("input that uses the pool", faces=("iterator",))
def input_uses(t):
    if t.kind == "mpire":
        raise pool_fault.Skip("one map at a time")

    def items(pool):
        for i in range(5):
            yield pool.pool.apply(plain, (i,))[1]

    with t.open() as pool:
        found = list(pool.imap(plain, items(pool)))
        t.ok("wrong", found == [("done", i) for i in range(5)], found)


# ---- callbacks ------------------------------------------------------------

def broken_callback(_):
    raise ValueError("raised by a callback")


@trial("callbacks that raise", faces=("pool", "executor"), noisy=True)
def callback_raises(t):
    with t.open() as pool:
        handles = []
        for i in range(10):
            if t.face == "executor":
                handles.append(pool.submit(plain, i))
                handles[-1].add_done_callback(broken_callback)
            else:
                handles.append(pool.submit(plain, i,
                                           callback=broken_callback))
        found = [pool.wait(handle, 3) for handle in handles]
        t.ok("a task is lost", not any(o.lost for o in found))
        t.ok("a task is wrong",
             all(o.value == ("done", i) for i, o in enumerate(found)),
             found[0])
        t.goes_on(pool)


@trial("callbacks that submit", faces=("pool", "executor"))
def callback_submits(t):
    with t.open() as pool:
        done = threading.Event()
        values = []

        def callback(value):
            values.append(value)
            if len(values) == 50:
                done.set()
            elif t.face == "executor":
                pool.submit(plain, 1).add_done_callback(callback)
            else:
                pool.submit(plain, 1, callback=callback)

        callback(0)
        t.ok("it hangs", done.wait(8), len(values))
        t.goes_on(pool)


@trial("a callback that ends the pool", faces=("pool", "executor"),
       noisy=True)
def callback_ends(t):
    pool = t.open()
    done = threading.Event()

    def callback(_):
        pool.terminate()
        done.set()

    if t.face == "executor":
        pool.submit(plain, 1).add_done_callback(callback)
    else:
        pool.submit(plain, 1, callback=callback)
    t.ok("it hangs", done.wait(8))


@trial("futures that nobody keeps", faces=("pool", "executor"))
def forgotten(t):
    with t.open() as pool:
        for i in range(500):
            pool.submit(plain, i)
        gc.collect()
        t.goes_on(pool)


class Kept:
    """Results that stay alive, and go in another order."""

    def __init__(self, size):
        self.data = bytearray(size)


@trial("300 results of 1 MB are kept, then freed in another order")
def kept(t):
    with t.open() as pool:
        for _ in range(3):
            values = pool.values(bytearray, [MIB] * 100)
            del values[::2]
            values += pool.values(bytearray, [MIB + 3] * 100)
            values.reverse()
            del values
        gc.collect()
        t.ok("memory is kept", resident() < 700 * MIB,
             f"{resident() // MIB} MiB")
        t.goes_on(pool)


@trial("2,000 arguments and results of 200 KB: files and memory stay flat")
def flat(t):
    with t.open() as pool:
        pool.values(echo, [bytearray(200_000)] * 100)
        files, memory = pool_fault.open_files(), resident()
        for _ in range(20):
            pool.values(echo, [bytearray(200_000)] * 100)
        t.ok("files grow", pool_fault.open_files() <= files + 4,
             f"{files} to {pool_fault.open_files()}")
        t.ok("memory grows", resident() < memory + 100 * MIB,
             f"{memory // MIB} to {resident() // MIB} MiB")


@trial("a million items of one map", faces=("pool",), noisy=False)
def million(t):
    with t.open() as pool:
        count = 1_000_000
        if t.kind == "mpire":
            total = sum(pool.pool.map(abs, itertools.repeat(1, count),
                                      iterable_len=count))
        else:
            total = sum(pool.pool.map(abs, range(count))) // (count - 1) * 2
        t.ok("wrong", total == count, total)


if __name__ == "__main__":
    pool_fault.main()
