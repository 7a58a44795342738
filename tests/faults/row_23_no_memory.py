"""Each allocation of 40 dumps and loads fails, one after the other, and from each on all of them.

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

import fault

TIMEOUT = 300
ROUNDS = 4  # in which leaks are looked for

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


class Listed(list):
    pass


class Dicted(dict):
    pass


def function(x):
    return x + 1


def make_closure():
    count = [0]

    def inner(x, *, step=2):
        count[0] += step
        return Plain, count, inner
    return inner


class Unpicklable:
    def __reduce__(self):
        raise ZeroDivisionError


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
    yield "subclasses", [Listed([1, [2]]), Dicted(a=[1])]
    yield "dates", [datetime.datetime(2020, 1, 2), decimal.Decimal("1.5"),
                    collections.OrderedDict(a=[1]), collections.deque([1])]
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
            return __class__, Plain

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
        buffers, 5, buffer_callback=lambda buffer: None)
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
    yield "load with peek", None, lambda: module.load(
        io.BufferedReader(io.BytesIO(mixed)))
    yield "load of large with peek", None, lambda: module.load(
        io.BufferedReader(io.BytesIO(large)))
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
            if name == "lambda" or name == "closure":
                data = module.dumps(value, 5)
                yield (f"loads of {name}", None,
                       lambda d=data: module.loads(d))


def error_cases(row, options):
    """(name, object, call, error)"""
    module = row.module
    bad = [1, {"a": Unpicklable()}]
    yield ("dumps that fails", bad,
           lambda: module.dumps(bad, 4, **options), ZeroDivisionError)
    for name, data in (("truncated", b"](NX\x05\x00\x00\x00ab"),
                       ("unknown opcode", b"](N\xff"),
                       ("unset memo", b"h\x05."), ("no text", b"Vab\\u1\n."),
                       ("no UTF-8", b"\x8c\x01\xff."), ("no int", b"Ix\n."),
                       ("bad state", b"NN}K\x01Ns\x86b."),
                       ("no module", b"cno_such\nx\n."),
                       ("deep key", b"}K\x01" + b"\x85" * 2000 + b"Ns.")):
        if name == "deep key" and row.name != "fpickle":
            continue
        yield (f"loads, {name}", None, lambda d=data: module.loads(d),
               Exception)


def fail(call, n, stop):
    """call() while the allocations after [n] fail, up to number [stop] or, if
    that is 0, all: the exception, or None."""
    set_nomemory(n, stop)
    try:
        call()
    except BaseException as error:
        remove_mem_hooks()
        return error
    remove_mem_hooks()
    return None


class Case:
    def __init__(self, row, what, value, call, error):
        self.row, self.what, self.call, self.error = row, what, call, error
        self.value = value
        self.count = None
        self.reported = False

    def once(self, n, stop, how):
        error = fail(self.call, n, stop)
        self.row.checked += 1
        if error is None and self.error is None:
            return True
        if isinstance(error, MemoryError):
            return False
        if self.error is not None and isinstance(error, self.error):
            return True
        if not self.reported:
            self.reported = True
            self.row.ok(f"{self.what}, {how} {n}", False, fault.short(error))
        return True

    def rounds(self):
        """All failures once."""
        n = 0
        while not self.once(n, 0, "from allocation"):
            n += 1
        for i in range(n):
            self.once(i, i + 1, "allocation")
        self.count = n

    def parts(self):
        return ([self.value, *self.value] if isinstance(self.value, list)
                else [self.value])

    def check(self):
        before = [sys.getrefcount(part) for part in self.parts()]
        self.rounds()
        self.rounds()
        gc.collect()
        blocks = sys.getallocatedblocks()
        for _ in range(ROUNDS):
            self.rounds()
        gc.collect()
        grown = sys.getallocatedblocks() - blocks
        self.row.ok(f"{self.what}: nothing leaks in {self.count} failures",
                    grown < ROUNDS, f"{grown / ROUNDS:.1f} blocks a round")
        after = [sys.getrefcount(part) for part in self.parts()]
        self.row.ok(f"{self.what}: references", before == after,
                    f"{before} became {after}")
        try:
            self.call()
        except BaseException as error:
            self.row.ok(f"{self.what}: afterwards",
                        self.error and isinstance(error, self.error),
                        fault.short(error))


def check_pickler(row, options):
    """A Pickler and an Unpickler that fail go on when there is memory."""
    value = [shared(), [Plain(1)], "text"]
    file = io.BytesIO()
    pickler = row.module.Pickler(file, 4, **options)
    pickler.dump(["first"])
    done, n = False, 0
    while not done:
        done = fail(lambda: pickler.dump(value), n, 0) is None
        n += 1
        start = file.seek(0, 2)
        pickler.clear_memo()
        pickler.dump(["good"])
        row.gives(f"Pickler after failure {n}",
                  lambda: pickle.loads(file.getvalue()[start:]), ["good"])
    data = pickle.dumps([shared(), "text"], 4)
    file = io.BytesIO()
    unpickler = row.module.Unpickler(file)
    done, n = False, 0
    while not done:
        file.seek(0)
        file.truncate()
        file.write(data)
        file.seek(0)
        done = fail(unpickler.load, n, 0) is None
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
