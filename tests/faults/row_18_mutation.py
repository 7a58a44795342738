"""Containers and buffers that are changed, resized or released while they are pickled.

From __reduce__ and persistent_id of their items, write, and the buffer
callback.

Required: RuntimeError, or a consistent snapshot that can be loaded.
"""

import collections
import gc
import io
import pickle

import fault

HOOK = []


def hook():
    if HOOK:
        HOOK[0]()


class Item:
    """Changes what it is in when it is pickled."""

    def __reduce__(self):
        hook()
        return int, (17,)

    def __hash__(self):
        return 1


class Output:
    """Calls the hook with every write."""

    def __init__(self, hooked=True):
        self.file = io.BytesIO()
        self.hooked = hooked

    def write(self, data):
        if self.hooked:
            hook()
        return self.file.write(data)


class Instance:
    pass


def texts(n):
    """Strings that nothing else refers to."""
    return [f"text {i:060}" for i in range(n)]


def fresh(kind, item):
    """A container with an item in the middle; without, enough for several
    frames."""
    half = 50 if item is Item else 1000
    many = texts(2 * half)
    if kind is list:
        return many[:half] + [item()] + many[half:]
    if kind is dict:
        return {text: item() if i == half else [text]
                for i, text in enumerate(many)}
    if kind == "dict of keys":
        return {item() if i == half else text: [text]
                for i, text in enumerate(many)}
    if kind is set:
        return set(many + [item()])
    if kind is collections.deque:
        return collections.deque(many[:half] + [item()] + many[half:])
    if kind is Instance:
        obj = Instance()
        for i, text in enumerate(many):
            setattr(obj, text, item() if i == half else [text])
        return obj
    raise AssertionError(kind)


def clear(obj):
    if isinstance(obj, Instance):
        obj.__dict__ = {}
    else:
        obj.clear()


def shrink(obj):
    if isinstance(obj, list):
        del obj[10:]
    elif isinstance(obj, (dict, set)):
        while len(obj) > 10:
            obj.pop() if isinstance(obj, set) else obj.popitem()
    elif isinstance(obj, Instance):
        vars(obj).clear()
    else:
        while len(obj) > 10:
            obj.pop()


def grow(obj):
    new = [f"new {i}" for i in range(2000)]
    if isinstance(obj, dict):
        obj.update(dict.fromkeys(new))
    elif isinstance(obj, set):
        obj.update(new)
    elif isinstance(obj, Instance):
        vars(obj).update(dict.fromkeys(new))
    else:
        obj.extend(new)


def replace(obj):
    """As many items, but others."""
    if isinstance(obj, list):
        obj[:] = [[i] for i in range(len(obj))]
    elif isinstance(obj, dict):
        for key in list(obj):
            obj[key] = [1]
    elif isinstance(obj, set):
        size = len(obj)
        obj.clear()
        obj.update(range(size))
    elif isinstance(obj, Instance):
        obj.__dict__ = {f"x{i}": [i] for i in range(len(vars(obj)))}
    else:
        size = len(obj)
        obj.clear()
        obj.extend(range(size))


CHANGES = {"clear": clear, "shrink": shrink, "grow": grow,
           "replace": replace}
KINDS = [list, dict, "dict of keys", set, collections.deque, Instance]


def dump(row, obj, protocol, how, hooked):
    options = row.by_name()
    if how == "dumps":
        return row.module.dumps(obj, protocol, **options)
    output = Output(hooked)
    if how == "dump":
        row.module.dump(obj, output, protocol, **options)
    elif how == "Pickler":
        row.module.Pickler(output, protocol, **options).dump(obj)
    else:
        class Pickler(row.module.Pickler):
            def persistent_id(self, obj):
                if type(obj) is str and obj.endswith("0700"):
                    hook()
                return None

        Pickler(output, protocol, **options).dump(obj)
    return output.file.getvalue()


def check_changed(row, what, make, change, protocol, how, hooked):
    obj = make()
    left = [3]

    def change_now():
        if left[0]:
            left[0] -= 1
            change(obj)
            gc.collect()

    HOOK[:] = [change_now]
    try:
        data = dump(row, [obj, "end"], protocol, how, hooked)
    except RuntimeError:
        row.ok(what, True)
        return
    except BaseException as error:
        row.ok(what, False, fault.short(error))
        return
    finally:
        del HOOK[:]
    try:
        result = pickle.loads(data)
    except BaseException as error:
        row.ok(f"{what}, the result", False, fault.short(error))
        return
    row.ok(f"{what}, the result", result[1] == "end"
           and (isinstance(obj, pickle.PickleBuffer)
                or type(result[0]) is type(obj)))


def check_containers(row):
    ways = [("dumps", Item, False), ("dump", Item, False),
            ("dump", str, True), ("Pickler", str, True),
            ("persistent_id", str, False)]
    for protocol in (0, 2, 4, 5):
        for kind in KINDS:
            for name, change in CHANGES.items():
                for how, item, hooked in ways:
                    place = "write" if hooked else (
                        "__reduce__" if item is Item else "")
                    check_changed(
                        row, f"{kind}, {name}, {how} {place}, protocol "
                        f"{protocol}", lambda: fresh(kind, item), change,
                        protocol, how, hooked)


def check_buffers(row):
    """A bytearray resized by write, and buffers released by the callback."""
    def resize(array):
        def change(ignored):
            try:
                array.extend(bytes(100_000))
            except BufferError:
                pass  # it is locked: that is a consistent snapshot
        return change

    for protocol in (0, 3, 4, 5):
        for size in (10, 200_000):
            for how in ("dump", "Pickler"):
                array = bytearray(b"x" * size)
                change = resize(array)
                check_changed(row, f"bytearray of {size}, {how}, protocol "
                              f"{protocol}", lambda: array, change, protocol,
                              how, True)
                array.append(1)  # unlocked
    for size in (10, 200_000):
        for in_band in (True, False):
            for make in (bytes, bytearray):
                for sink in (None, Output):
                    check_release(row, make(b"x") * size, in_band, sink)


def check_release(row, data, in_band, sink):
    buffer = pickle.PickleBuffer(data)
    what = (f"PickleBuffer of {type(data).__name__} of {len(data)}, released "
            f"by the callback, {'in' if in_band else 'out of'} band")

    def release(ignored):
        buffer.release()
        if type(data) is bytearray:
            try:
                data.extend(bytes(100_000))
            except BufferError:
                pass
        return in_band

    def run():
        if sink is None:
            return row.module.dumps([buffer, "end"], 5,
                                    buffer_callback=release)
        output = sink(False)
        row.module.dump([buffer, "end"], output, 5, buffer_callback=release)
        return output.file.getvalue()

    try:
        stream = run()
        result = pickle.loads(stream, buffers=[b"x" * len(data)])
    except RuntimeError:
        row.ok(what, True)
    except BaseException as error:
        row.ok(what, False, fault.short(error))
    else:
        row.ok(what, result[1] == "end" and set(result[0]) <= {120})


def check(row):
    check_containers(row)
    check_buffers(row)


if __name__ == "__main__":
    fault.main(check)
