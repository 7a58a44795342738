"""KeyboardInterrupt, SystemExit and what a signal handler raises, inside of each callback.

Required: it passes through; nothing leaks, the engine can be used again, and
what was written until then is no complete pickle.
"""

import gc
import io
import pickle
import signal
import sys

import fault

HOOK = []


class Stop(BaseException):
    """What the signal handler raises."""


def raise_interrupt():
    raise KeyboardInterrupt


def raise_exit():
    raise SystemExit(3)


def raise_in_handler():
    signal.raise_signal(signal.SIGUSR1)
    for _ in range(1000):  # the handler runs between two instructions
        pass


def raise_late():
    """The signal comes by itself, while Python code runs."""
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while True:
        pass


def handler(*args):
    raise Stop


RAISERS = {"KeyboardInterrupt": (raise_interrupt, KeyboardInterrupt),
           "SystemExit": (raise_exit, SystemExit),
           "a signal": (raise_in_handler, Stop),
           "a timer": (raise_late, Stop)}


def hook(*args):
    if HOOK:
        HOOK[0]()


class Reduced:
    def __reduce__(self):
        hook()
        return int, (17,)


class State:
    def __getstate__(self):
        hook()
        return {"a": 17}

    def __setstate__(self, state):
        hook()


class Items(list):
    def __reduce__(self):
        def items():
            yield 1
            hook()
            yield 2
        return list, (), None, items()


class Registered:
    pass


class Overridden:
    pass


class Hashed:
    def __hash__(self):
        hook()
        return 1

    def __eq__(self, other):
        hook()
        return self is other


class Target:
    def append(self, item):
        hook()

    add = append

    def __setitem__(self, key, value):
        hook()


class Made:
    def __new__(cls, *args):
        hook()
        return super().__new__(cls)

    def __setattr__(self, name, value):
        hook()


class Output(io.BytesIO):
    def write(self, data):
        hook()
        return super().write(data)


class Input(io.BytesIO):
    def read(self, n=-1):
        hook()
        return super().read(n)

    def readline(self, n=-1):
        hook()
        return super().readline(n)


class Peeking(io.BufferedReader):
    def peek(self, n=0):
        hook()
        return super().peek(n)


def reduce_registered(obj):
    hook()
    return int, (17,)


DUMPED = {
    "__reduce__": Reduced, "__getstate__": State, "items": Items,
    "dispatch_table": Registered, "reducer_override": Overridden,
    "persistent_id": lambda: "claimed", "write": lambda: b"x" * 200_000,
    "buffer_callback": lambda: pickle.PickleBuffer(bytearray(b"buffer")),
}


def new(cls):
    return f"c__main__\n{cls.__name__}\n)\x81".encode("latin-1")


LOADED = {
    "__setstate__": b"%sNb" % new(State),
    "__hash__": b"}%sNs" % new(Hashed),
    "__eq__": b"\x8f(%s%s\x90" % (new(Hashed), new(Hashed)),
    "append": b"%s(NNe" % new(Target), "add": b"%s(NN\x90" % new(Target),
    "__setitem__": b"%sNNs" % new(Target),
    "__new__, REDUCE": b"c__main__\nMade\n)R",
    "__new__, NEWOBJ": b"c__main__\nMade\n)\x81",
    "__setattr__": b"c__main__\nMade\n)\x81N}\x8c\x01aNs\x86b",
    "find_class": b"cbuiltins\nint\n", "persistent_load": b"NQ",
    "buffers": b"\x97", "read": b"N", "readline": b"I5\n", "peek": b"N",
}


def make_pickler(row, protocol, output):
    class Pickler(row.module.Pickler):
        def persistent_id(self, obj):
            if obj == "claimed":
                hook()
                return "pid"
            return None

        def reducer_override(self, obj):
            if type(obj) is Overridden:
                hook()
                return int, (17,)
            return NotImplemented

    def answer(buffer):
        hook()
        return True

    options = row.by_name()
    if protocol >= 5:
        options["buffer_callback"] = answer
    pickler = Pickler(output, protocol, **options)
    pickler.dispatch_table = {Registered: reduce_registered}
    return pickler


def dump_once(row, what, place, protocol, function, error):
    output = Output() if place == "write" else io.BytesIO()
    value = [["before"] * 3, DUMPED[place](), {"after": 1.5}]
    pickler = make_pickler(row, protocol, output)
    HOOK[:] = [function]
    row.raises(what, lambda: pickler.dump(value), error)
    del HOOK[:]
    part = output.getvalue()
    try:
        pickle.loads(part)
    except Exception:
        row.checked += 1
    else:
        row.ok(f"{what}: what was written is no pickle", False)
    row.ok(f"{what}: the memo", not pickler.memo.copy())
    start = output.seek(0, 2)
    row.gives(f"{what}: another dump", lambda: pickler.dump(["good"]), None)
    row.gives(f"{what}: its pickle",
              lambda: pickle.loads(output.getvalue()[start:]), ["good"])


def make_unpickler(row, file):
    def buffers():
        hook()
        yield b"buffer"

    class Unpickler(row.module.Unpickler):
        def find_class(self, module, name):
            if module == "builtins":
                hook()
            return super().find_class(module, name)

        def persistent_load(self, pid):
            hook()
            return pid

    return Unpickler(file, buffers=buffers())


def load_once(row, what, place, function, error):
    data = b"\x80\x05](]N" + LOADED[place] + b"K\x05e."
    file = (Input if place in ("read", "readline") else io.BytesIO)(data)
    opened = Peeking(file) if place == "peek" else file
    unpickler = make_unpickler(row, opened)
    HOOK[:] = [function]
    row.raises(what, unpickler.load, error)
    del HOOK[:]
    if place == "buffers":
        return  # the iterator has ended with its exception
    opened.seek(0)
    row.gives(f"{what}: another load", lambda: len(unpickler.load()), 4)


def check_leaks(row, what, once):
    """Three more rounds leave no more objects behind."""
    once(row)
    gc.collect()
    before, checked = sys.getallocatedblocks(), row.checked
    for _ in range(3):
        once(row)
    gc.collect()
    grown = sys.getallocatedblocks() - before
    row.ok(f"{what}: nothing leaks", grown < 40, f"{grown} blocks")
    row.checked = checked + 1


def check(row):
    signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGALRM, handler)
    for name, (function, error) in RAISERS.items():
        for place in DUMPED:
            for protocol in (0, 2, 4, 5):
                if place != "buffer_callback" or protocol >= 5:
                    what = f"{name} in {place}, protocol {protocol}"
                    dump_once(row, what, place, protocol, function, error)
        for place in LOADED:
            load_once(row, f"{name} in {place}", place, function, error)
        for place in DUMPED:
            check_leaks(row, f"{name} in {place}",
                        lambda row: dump_once(row, name, place, 5, function,
                                              error))
        for place in LOADED:
            check_leaks(row, f"{name} in {place}",
                        lambda row: load_once(row, name, place, function,
                                              error))


if __name__ == "__main__":
    fault.main(check)
