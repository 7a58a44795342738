"""100 MB of MARK, of NONE, and of EMPTY_SET, in 3 GiB of address space.

Required: an UnpicklingError at the cap where limits are given, a MemoryError
or success without; no crash.
"""

import gc
import io

import fault

TIMEOUT = 300
LONG = True  # 300 MB of opcodes
MEMORY = 3 * 1024

SIZE = 100_000_000
CAP = 100_000

FLOODS = {"MARK": b"(", "NONE": b"N", "EMPTY_SET": b"\x8f"}


def check_without(row, what, load, data):
    try:
        load(data)
    except (MemoryError, row.module.UnpicklingError):
        row.checked += 1
    except BaseException as error:
        row.ok(what, False, fault.short(error))
    else:
        row.ok(what, False, "returned")
    gc.collect()


def check(row):
    module = row.module
    gc.disable()  # which would visit all of it again and again
    limits = getattr(module, "Limits", None)
    row.ok("the module has limits", limits is not None)
    for what, op in FLOODS.items():
        data = op * SIZE
        if limits is not None:
            # Open marks are levels, not objects.
            for name in ("depth" if what == "MARK" else "objects", "bytes"):
                bound = limits(**{name: CAP})

                def limited():
                    row.refuses(f"{what}, limit on {name}",
                                lambda: module.loads(data, limits=bound))
                    row.refuses(f"{what}, limit on {name}, from a file",
                                lambda: module.load(io.BytesIO(data),
                                                    limits=bound))

                row.peak(f"{what}, limit on {name}", limited, 64 * fault.MIB)
        check_without(row, what, module.loads, data)
        del data
    row.gives("a load afterwards",
              lambda: module.loads(module.dumps([1, "a"])), [1, "a"])


if __name__ == "__main__":
    fault.main(check)
