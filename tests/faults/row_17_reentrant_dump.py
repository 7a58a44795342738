"""Code that runs in the middle of a dump uses the same Pickler.

From __reduce__, __getstate__, reducers, reducer_override, persistent_id,
write, the buffer callback and iterators of items.

Required: RuntimeError inside; the dump around it goes on, and what it writes
can be loaded.
"""

import io
import pickle

import fault

HOOK = []


def hook():
    if HOOK:
        HOOK[0]()


def give(value):
    return value


def make_dict(*ignored):
    return {}


class Reduced:
    def __reduce__(self):
        hook()
        return give, (17,)


class State:
    def __getstate__(self):
        hook()
        return {"a": 17}


class Slots:
    __slots__ = ("a",)

    def __getstate__(self):
        hook()
        return None, {"a": 17}


class Items(list):
    def __reduce__(self):
        def items():
            for i in range(3):
                hook()
                yield i
        return list, (), None, items()


class Pairs(dict):
    def __reduce__(self):
        def pairs():
            for i in range(3):
                hook()
                yield i, i
        return make_dict, (), None, None, pairs()


class Registered:
    pass


class Overridden:
    pass


class Claimed:
    pass


OBJECTS = {
    "__reduce__": Reduced, "__getstate__": State, "slots": Slots,
    "items": Items, "pairs": Pairs, "dispatch_table": Registered,
    "reducer_override": Overridden, "persistent_id": Claimed,
    "write": lambda: b"x" * 200_000,
    "write, frames": lambda: [f"{i:050}" for i in range(5000)],
    "buffer_callback": lambda: pickle.PickleBuffer(b"buffer"),
}


def reduce_registered(obj):
    hook()
    return Registered, ()


class Output:
    def __init__(self, hooked):
        self.file = io.BytesIO()
        self.hooked = hooked

    def write(self, data):
        if self.hooked:
            hook()
        return self.file.write(data)


def make_pickler(row, output, protocol):
    class Pickler(row.module.Pickler):
        def persistent_id(self, obj):
            if type(obj) is Claimed:
                hook()
                return "pid"
            return None

        def reducer_override(self, obj):
            if type(obj) is Overridden:
                hook()
                return Overridden, ()
            return NotImplemented

    def answer(buffer):
        hook()
        return True

    options = {"buffer_callback": answer} if protocol >= 5 else {}
    options |= row.by_name()
    pickler = Pickler(output, protocol, **options)
    pickler.dispatch_table = {Registered: reduce_registered}
    return pickler


class Unpickler(pickle.Unpickler):
    def persistent_load(self, pid):
        return pid


def check_place(row, what, place, protocol):
    output = Output("write" in place)
    pickler = make_pickler(row, output, protocol)
    value = [OBJECTS[place](), OBJECTS[place](), "end"]
    met = []

    def reenter():
        met.append(True)
        del HOOK[:]
        for name, attempt in (
                ("dump", lambda: pickler.dump([1])),
                ("dump of the same", lambda: pickler.dump(value)),
                ("__init__", lambda: pickler.__init__(io.BytesIO())),
                ("clear_memo", pickler.clear_memo),
                ("memo =", lambda: setattr(pickler, "memo", {}))):
            row.raises(f"{what}, {name}", attempt, RuntimeError)
        HOOK.append(reenter)

    HOOK[:] = [reenter]
    try:
        pickler.dump(value)
    except BaseException as error:
        row.ok(f"{what}, the outer dump", False, fault.short(error))
        return
    finally:
        del HOOK[:]
    row.ok(f"{what}, the hook has run", met)
    try:
        loaded = Unpickler(io.BytesIO(output.file.getvalue())).load()
    except BaseException as error:
        row.ok(f"{what}, the result is loaded", False, fault.short(error))
        return
    row.ok(f"{what}, the result", len(loaded) == 3 and loaded[2] == "end")


def check(row):
    for protocol in range(6):
        for place in OBJECTS:
            if place == "buffer_callback" and protocol < 5:
                continue
            check_place(row, f"{place}, protocol {protocol}", place, protocol)


if __name__ == "__main__":
    fault.main(check)
