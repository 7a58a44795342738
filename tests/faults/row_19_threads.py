"""Two threads share a Pickler or an Unpickler, or one changes what the other pickles.

Required: RuntimeError for who comes second to the engine; RuntimeError or a
snapshot for what is changed; no crash.
"""

import collections
import io
import pickle
import sys
import threading
import time

import fault

TIMEOUT = 60
SECONDS = 0.6  # of each of the unguided parts


class Gate:
    """Holds the first thread inside an engine until another has tried its
    luck."""

    def __init__(self):
        self.first = None
        self.inside = threading.Event()
        self.leave = threading.Event()

    def wait(self):
        if self.first is None:
            self.first = threading.get_ident()
        if self.first != threading.get_ident():
            return
        self.inside.set()
        self.leave.wait(10)


class GatedFile(io.BytesIO):
    gate = None

    def write(self, data):
        self.gate.wait()
        return super().write(data)

    def read(self, n=-1):
        self.gate.wait()
        return super().read(n)


def check_second(row, what, first, attempts, right):
    """While first() is inside of an engine, each of [attempts] in another
    thread is refused; first() gives the right result."""
    gate = GatedFile.gate = Gate()
    results = []

    def target():
        try:
            results.append(first())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    if not gate.inside.wait(10):
        row.ok(f"{what}: the first thread is inside", False)
    for name, attempt in attempts.items():
        row.raises(f"{what}: {name} by a second thread", attempt,
                   RuntimeError)
    gate.leave.set()
    thread.join()
    row.ok(f"{what}: the first thread", right(results[0]),
           f"{results[0]!r:.60}")


def check_shared(row):
    value = ["text", {"a": (1, 2.5)}, [None] * 10]
    for protocol in range(6):
        file = GatedFile()
        pickler = row.module.Pickler(file, protocol)
        check_second(
            row, f"Pickler, protocol {protocol}",
            lambda: pickler.dump(value),
            {"dump": lambda: pickler.dump([1]),
             "clear_memo": pickler.clear_memo,
             "memo =": lambda: setattr(pickler, "memo", {}),
             "__init__": lambda: pickler.__init__(io.BytesIO())},
            lambda result: result is None
            and pickle.loads(file.getvalue()) == value)
        unpickler = row.module.Unpickler(
            GatedFile(pickle.dumps(value, protocol)))
        check_second(
            row, f"Unpickler, protocol {protocol}", unpickler.load,
            {"load": unpickler.load,
             "memo.clear": lambda: unpickler.memo.clear(),
             "memo =": lambda: setattr(unpickler, "memo", {}),
             "__init__": lambda: unpickler.__init__(io.BytesIO())},
            lambda result: result == value)


def run_together(row, what, *loops):
    """All loops run in threads until the time is over; each may raise
    RuntimeError as often as it likes."""
    end = time.monotonic() + SECONDS
    faults = collections.Counter()

    def target(loop):
        while time.monotonic() < end:
            try:
                loop()
            except RuntimeError:
                pass
            except BaseException as error:
                faults[fault.short(error)] += 1

    threads = [threading.Thread(target=target, args=(loop,))
               for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row.ok(what, not faults, str(dict(faults))[:150])


class Slow:
    """Takes Python code to pickle, so that others get their turn."""

    def __reduce__(self):
        time.sleep(0)
        return int, (1,)


def check_changed(row):
    module, options = row.module, row.by_name()
    shared = {"list": [Slow() for _ in range(50)],
              "dict": {i: Slow() for i in range(50)},
              "set": {Slow() for _ in range(50)},
              "bytes": bytearray(b"x" * 1000)}

    def dump():
        for protocol in (2, 5):
            pickle.loads(module.dumps(shared, protocol, **options))

    def change_list():
        shared["list"].append([Slow()])
        time.sleep(0)
        del shared["list"][:2]
        if len(shared["list"]) < 10:
            shared["list"].extend(Slow() for _ in range(50))

    def change_dict():
        shared["dict"][time.monotonic()] = Slow()
        shared["dict"].pop(next(iter(shared["dict"])))
        time.sleep(0)

    def change_set():
        shared["set"].add(Slow())
        shared["set"].pop()
        time.sleep(0)
        shared["bytes"].append(120)

    run_together(row, "containers changed by other threads", dump, dump,
                 change_list, change_dict, change_set)


def check_hammered(row):
    """Engines that two threads use all the time."""
    module, options = row.module, row.by_name()
    value = [Slow() for _ in range(5)]
    output = io.BytesIO()
    pickler = module.Pickler(output, 5, **options)
    stream = pickle.dumps([[1, {"a": "b"}]] * 50, 5)

    class Source(io.BytesIO):
        def read(self, n=-1):
            time.sleep(0)
            return super().read(n)

    source = Source(stream)
    unpickler = module.Unpickler(source)

    def dump():
        pickler.dump(value)
        pickler.clear_memo()
        output.seek(0)
        output.truncate()

    def load():
        source.seek(0)
        try:
            unpickler.load()
        except (pickle.UnpicklingError, EOFError, KeyError):
            pass  # the other one has moved the file

    run_together(row, "one Pickler, two threads", dump, dump)
    run_together(row, "one Unpickler, two threads", load, load)


def check(row):
    before = sys.getswitchinterval()
    check_shared(row)
    sys.setswitchinterval(1e-5)
    try:
        check_changed(row)
        check_hammered(row)
    finally:
        sys.setswitchinterval(before)


if __name__ == "__main__":
    fault.main(check)
