"""A million nested lists, tuples and dicts, loaded and freed.

Required: they are loaded, or refused with an UnpicklingError.
"""

import gc

import fault

DEPTH = 1_000_000

NESTED = {
    "lists": (b"]" * DEPTH + b"a" * (DEPTH - 1), list),
    "marked lists": (b"(" * DEPTH + b"l" * DEPTH, list),
    "tuples": (b")" + b"\x85" * (DEPTH - 1), tuple),
    "marked tuples": (b"(" * DEPTH + b"t" * DEPTH, tuple),
    "dicts": (b"}N" * DEPTH + b"N" + b"s" * DEPTH, dict),
    "frozensets": (b"(" * DEPTH + b"\x91" * DEPTH, frozenset),
}


def depth_of(obj, step):
    depth = 0
    while type(obj) is step and len(obj) > 0:
        depth += 1
        obj = obj[None] if step is dict else next(iter(obj))
    return depth + (type(obj) is step)


def check(row):
    readers = dict(row.readers())
    gc.disable()  # which would visit all of it again and again
    for name in "loads", "load":
        load = readers[name]
        for what, (data, step) in NESTED.items():
            if what == "frozensets" and name == "load":
                continue  # they take most of the time
            try:
                depth = depth_of(load(data + b"."), step)
            except row.module.UnpicklingError:
                depth = DEPTH
            row.ok(f"{name}, {what}", depth == DEPTH, f"depth {depth}")


if __name__ == "__main__":
    fault.main(check)
