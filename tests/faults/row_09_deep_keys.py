"""A tuple nested a million times as a key of a dict or an item of a set.

Required: UnpicklingError "key nested too deep", also in a thread with a C
stack of 256 KiB (2 MiB on Python 3.13).
"""

import gc
import sys

import fault

# CPython 3.13 itself needs more to free a deep tuple, wherever it is from.
SMALL_STACK = (256 if sys.version_info < (3, 13) else 2048) * 1024

USES = {
    "SETITEM": b"}%sNs.", "SETITEMS": b"}(%sNu.", "DICT": b"(%sNd.",
    "ADDITEMS": b"\x8f(%s\x90.", "FROZENSET": b"(%s\x91.",
    "SETITEM of a subclass": b"ccollections\nOrderedDict\n)R%sNs.",
    "a key in a tuple": b"}%sN\x86Ns.",
}


def key(levels):
    return b"K\x01" + b"\x85" * levels


def check_all(row, where):
    readers = dict(row.readers())
    for what, use in USES.items():
        for name in "loads", "load":
            for levels in (1025, 1_000_000 if name == "loads" else 20_000):
                row.refuses(f"{where}, {name}, {what}, {levels} levels",
                            lambda: readers[name](use % key(levels)),
                            match="key nested too deep")


def check(row):
    gc.disable()  # which would visit all of it again and again
    for levels in (1, 10, 500):
        for what, use in USES.items():
            row.ok(f"{what}, {levels} levels",
                   len(row.module.loads(use % key(levels))) == 1)
    check_all(row, "main thread")
    fault.in_thread(lambda: check_all(row, "small stack"), SMALL_STACK)


if __name__ == "__main__":
    fault.main(check)
