"""Each allocation of 70 dumps and loads fails, alone or the first of ten.

Required: MemoryError or success; nothing leaks; the engine works afterwards.
"""

import collections
import dataclasses
import datetime
import decimal
import gc
import io
import pickle
import sys
import threading
from contextlib import contextmanager, nullcontext

import fault

TIMEOUT = 300
ROUNDS = 4  # in which leaks are looked for
# Failures in a row.  CPython 3.11 does not survive too many; 3.13 prints and
# leaks when it frees an instance whose dict it cannot allocate.
BURSTS = (1, 10) if sys.version_info < (3, 13) else (1,)
CALM = 20  # as many successes after each other: there is no allocation left

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:
    set_nomemory = None


class Plain:
    def __init__(self, n):
        self.a = n
        self.b = [str(n)]


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, n):
        self.a = n
        self.b = [str(n)]


@dataclasses.dataclass
class Data:
    a: int
    b: list


Point = collections.namedtuple("Point", "x y")


class Reduced:
    def __reduce__(self):
        return Plain, (1,), {"c": 2}, iter([]), iter([])


class Stated:
    def __getstate__(self):
        return {"a": [1]}

    def __setstate__(self, state):
        self.a = state


class Extended:
    def extend(self, items):
        self.items = tuple(items)

    def __reduce__(self):
        return Extended, (), None, iter([1, [2]])


def function(x):
    return x + 1


def make_closure():
    count = [0]

    def inner(x, *, step=2):
        count[0] += step
        return count, inner
    return inner


def shared():
    inner = ["shared", {"a": 1}]
    return [inner, (inner, "text" * 3), {"k": inner}, inner]


def cycle():
    inner = []
    inner.append((inner, {"self": inner}))
    return inner


def values():
    """name -> object"""
    yield "atoms", [None, True, 5, 300, 70_000, 2**40, 2**100, -1.5, "text",
                    "é" * 10, b"raw", "x" * 300]
    yield "containers", [[], (), {}, set(), [1], (1, 2), {"a": [2]}, {3, 4},
                         frozenset([5, (6,)]), (1, 2, 3, [4]), [[[]]]]
    yield "long list", list(range(3000))
    yield "many memo entries", [shared() for _ in range(20)]
    yield "shared", shared()
    yield "cycle", cycle()
    yield "instances", [Plain(i) for i in range(4)]
    yield "slots", [Slots(i) for i in range(4)]
    yield "dataclasses", [Data(i, [i]) for i in range(4)]
    yield "named tuples", [Point(i, [i]) for i in range(4)]
    yield "__reduce__", [Reduced()]
    yield "__getstate__", [Stated(), Stated()]
    # No subclasses of list or dict: list.extend leaks its argument, and an
    # iterator of items of a dict that cannot be allocated crashes, both in
    # CPython itself.
    yield "items", [Extended(), Extended()]
    yield "dates", [datetime.datetime(2020, 1, 2), decimal.Decimal("1.5"),
                    collections.deque([1])]
    yield "bytearrays", [bytearray(b"x"), bytearray(b"y" * 1000)]
    yield "deep", nested(40)
    yield "globals", [len, Plain, collections.OrderedDict, function]


def nested(depth):
    obj = []
    for i in range(depth):
        obj = [obj, (obj,)] if i % 8 == 0 else [obj]
    return obj


def by_value():
    """What only fpickle writes."""
    class Local:
        attribute = [1]

        def method(self):
            return __class__

    yield "lambda", lambda x: (x, len)
    yield "closure", make_closure()
    yield "class", Local
    yield "instance of a local class", [Local(), Local()]


class Persistent:
    """Makes subclasses with hooks of the module's engines."""

    def __init__(self, module):
        class Pickler(module.Pickler):
            def persistent_id(self, obj):
                return "pid" if obj == 5 else None

            def reducer_override(self, obj):
                return NotImplemented

        class Unpickler(module.Unpickler):
            def find_class(self, module, name):
                return super().find_class(module, name)

            def persistent_load(self, pid):
                return pid

        self.Pickler, self.Unpickler = Pickler, Unpickler


def dump_cases(row, options):
    module, hooks = row.module, Persistent(row.module)
    large = [b"x" * 70_000, bytearray(70_000), "é" * 70_000]
    buffers = [pickle.PickleBuffer(b"a"), pickle.PickleBuffer(bytearray(9))]
    out_of_band = collections.deque(maxlen=1)

    def pickler_twice(value):
        pickler = module.Pickler(io.BytesIO(), 4, **options)
        pickler.dump(value)
        pickler.memo = pickler.memo.copy()
        pickler.dump(value)

    for name, value in values():
        for protocol in ((0, 2, 5) if name in ("atoms", "containers",
                                               "instances", "shared")
                         else (4,)):
            yield (f"dumps of {name}, protocol {protocol}", value,
                   lambda v=value, p=protocol: module.dumps(v, p, **options))
    mixed = [[1, "a", 5], {"k": (2.5, Plain(3))}, shared()]
    yield "dump", mixed, lambda: module.dump(mixed, io.BytesIO(), **options)
    yield "dump of large", large, lambda: module.dump(large, io.BytesIO(), 5)
    yield "dumps of large", large, lambda: module.dumps(large, 5)
    yield "Pickler", mixed, lambda: pickler_twice(mixed)
    yield "Pickler with hooks", mixed, lambda: hooks.Pickler(
        io.BytesIO(), 5, **options).dump(mixed)
    yield "buffers", buffers, lambda: module.dumps(
        buffers, 5, buffer_callback=out_of_band.append)
    yield "buffers in band", buffers, lambda: module.dumps(buffers, 5)
    if row.name == "fpickle":
        for name, value in by_value():
            yield (f"dumps of {name}", value,
                   lambda v=value: module.dumps(v, 5))


def load_cases(row, options):
    module, hooks = row.module, Persistent(row.module)
    for name, value in values():
        for protocol in ((0, 2, 5) if name in ("atoms", "containers",
                                               "instances", "shared")
                         else (4,)):
            data = pickle.dumps(value, protocol)
            yield (f"loads of {name}, protocol {protocol}", None,
                   lambda d=data: module.loads(d))
    mixed = pickle.dumps([[1, "a", 5], {"k": (2.5, Plain(3))}, shared()], 4)
    large = pickle.dumps([b"x" * 70_000, bytearray(70_000), "é" * 70_000], 5)
    yield "load", None, lambda: module.load(io.BytesIO(mixed))
    yield "load of large", None, lambda: module.load(io.BytesIO(large))
    for name, data in ("", mixed), (" of large", large):
        file = io.BufferedReader(io.BytesIO(data))
        yield (f"load{name} with peek", None,
               lambda f=file: (f.seek(0), module.load(f)))
    yield "Unpickler with hooks", None, lambda: hooks.Unpickler(
        io.BytesIO(b"NQ0cbuiltins\nint\n0" + mixed)).load()
    sparse = b"".join(b"Nr" + (i * 1000 + 99_999).to_bytes(4, "little")
                      for i in range(9)) + b"j\x9f\x86\x01\x00."
    yield "sparse memo", None, lambda: module.loads(sparse)
    marks = b"(" * 60 + b"t" * 60 + b"."
    yield "marks", None, lambda: module.loads(marks)
    text = b"(I5\nL77777777777777777777L\nF1.5\nS'a'\nVb\nl."
    yield "text", None, lambda: module.load(io.BytesIO(text))
    key = b"}K\x01" + b"\x85" * 50 + b"Ns."
    yield "keys", None, lambda: module.loads(key)
    yield "buffers of loads", None, lambda: module.loads(
        b"\x80\x05\x97\x97\x98\x86.", buffers=[b"a", bytearray(b"b")])
    if row.name == "fpickle":
        for name, value in by_value():
            # Streams with classes make a WeakValueDictionary, whose Python
            # code meets the same fault of CPython as items of a dict.
            if name == "lambda" or name == "closure":
                data = module.dumps(value, 5)
                yield (f"loads of {name}", None,
                       lambda d=data: module.loads(d))


def error_cases(row, options):
    """(name, object, call, error)"""
    module = row.module
    bad = [1, {"a": threading.Lock()}]
    yield ("dumps that fails", bad,
           lambda: module.dumps(bad, 4, **options), TypeError)
    for name, data in (("truncated", b"](NX\x05\x00\x00\x00ab"),
                       ("unknown opcode", b"](N\xff"),
                       ("unset memo", b"h\x05."), ("no text", b"Vab\\u1\n."),
                       ("no UTF-8", b"\x8c\x01\xff."), ("no int", b"Ix\n."),
                       ("bad state", b"NN}K\x01Ns\x86b."),
                       ("deep key", b"}K\x01" + b"\x85" * 2000 + b"Ns.")):
        if name == "deep key" and row.name != "fpickle":
            continue
        yield (f"loads, {name}", None, lambda d=data: module.loads(d),
               Exception)


def fail(call, n, burst):
    """call() while [burst] allocations after [n] fail: the exception, or
    None."""
    set_nomemory(n, n + burst)
    try:
        # Freed when there is memory again: CPython 3.13 allocates to free the
        # dict of an instance, and leaks it if it cannot.
        result = call()  # noqa: F841
    except BaseException as error:
        remove_mem_hooks()
        # The frames of its traceback lead back to it.
        return error.with_traceback(None)
    remove_mem_hooks()
    return None


def count_blocks():
    gc.collect()
    sys._clear_type_cache()  # which keeps names
    return sys.getallocatedblocks()


@contextmanager
def without_words(row):
    """fpickle's errors have no notes."""
    if row.name != "fpickle":
        yield
        return
    from fpickle import _reading, _where

    before = _reading.annotate, _where.annotate
    _reading.annotate = _where.annotate = "".format
    try:
        yield
    finally:
        _reading.annotate, _where.annotate = before


class Case:
    def __init__(self, row, what, value, call, error):
        self.row, self.what, self.call, self.error = row, what, call, error
        self.value = value
        self.count = None
        self.reported = False

    def once(self, n, burst):
        """True if the call ended as without a failure."""
        error = fail(self.call, n, burst)
        self.row.checked += 1
        if isinstance(error, MemoryError):
            return False
        if error is None and self.error is None:
            return True
        if self.error is not None and isinstance(error, (self.error,
                                                         SystemError)):
            # SystemError: CPython has no memory for the traceback.
            return True
        if not self.reported:
            self.reported = True
            self.row.ok(f"{self.what}, {burst} failures from allocation {n}",
                        False, fault.short(error))
        return False

    def rounds(self):
        """All failures once."""
        for burst in BURSTS:
            n = calm = 0
            while calm < CALM:
                calm = calm + 1 if self.once(n, burst) else 0
                n += 1
            self.count = n - CALM

    def parts(self):
        """The objects that only the case refers to."""
        parts = ([self.value, *self.value] if isinstance(self.value, list)
                 else [self.value])
        return [part for part in parts if gc.is_tracked(part)]

    def check(self):
        try:
            self.call()  # what is made once, is made now
        except Exception:
            pass
        # The words of an error are made by Python code, and CPython itself leaks,
        # and from 3.12 on crashes, if allocations fail while that runs.
        with without_words(self.row) if self.error else nullcontext():
            self.check_leaks()
        try:
            self.call()
        except BaseException as error:
            self.row.ok(f"{self.what}: afterwards",
                        self.error and isinstance(error, self.error),
                        fault.short(error))

    def check_leaks(self):
        before = [sys.getrefcount(part) for part in self.parts()]
        self.rounds()
        self.rounds()
        blocks = count_blocks()
        for _ in range(ROUNDS):
            self.rounds()
        grown = count_blocks() - blocks
        self.row.ok(f"{self.what}: nothing leaks in {self.count} failures",
                    grown < ROUNDS, f"{grown / ROUNDS:.1f} blocks a round")
        after = [sys.getrefcount(part) for part in self.parts()]
        self.row.ok(f"{self.what}: references", before == after,
                    f"{before} became {after}")


class Chunks(list):
    """A file to write to."""

    write = list.append


def check_pickler(row, options):
    """A Pickler and an Unpickler that fail go on when there is memory."""
    value = [shared(), [Plain(1)], "text"]
    file = Chunks()
    pickler = row.module.Pickler(file, 4, **options)
    pickler.dump(["first"])
    calm = n = 0
    while calm < CALM:
        error = fail(lambda: pickler.dump(value), n, 10)
        calm = calm + 1 if error is None else 0
        n += 1
        file.clear()
        pickler.clear_memo()
        pickler.dump(["good"])
        row.gives(f"Pickler after failure {n}",
                  lambda: pickle.loads(b"".join(file)), ["good"])
    data = pickle.dumps([shared(), "text"], 4)
    file = io.BytesIO()
    unpickler = row.module.Unpickler(file)
    calm = n = 0
    while calm < CALM:
        file.seek(0)
        file.truncate()
        file.write(data)
        file.seek(0)
        error = fail(unpickler.load, n, 10)
        calm = calm + 1 if error is None else 0
        n += 1
        file.seek(0)
        row.gives(f"Unpickler after failure {n}", unpickler.load,
                  [shared(), "text"])


def check(row):
    if not row.ok("the interpreter has _testcapi", set_nomemory is not None):
        return
    options = row.by_name()
    cases = [(*case, None) for case in dump_cases(row, options)]
    cases += [(*case, None) for case in load_cases(row, options)]
    cases += list(error_cases(row, options))
    gc.disable()  # a run of it in the middle of a round counts as a leak
    for case in cases:
        Case(row, *case).check()
    check_pickler(row, options)


if __name__ == "__main__":
    fault.main(check)
