"""GET, BINGET and LONG_BINGET of an index that was never put, or was cleared.

Required: UnpicklingError.
"""

import io

import fault

GETS = {"GET": lambda i: b"g%d\n" % i,
        "BINGET": lambda i: b"h" + bytes([i & 255]),
        "LONG_BINGET": lambda i: b"j" + (i % 2**32).to_bytes(4, "little")}


def check(row):
    for name, load in row.readers():
        for op, get in GETS.items():
            for index in (0, 1, 5, 200, 10**6, 2**31, 2**40):
                row.refuses(f"{name}, {op} {index}, empty memo",
                            lambda: load(get(index) + b"."))
                put = b"Nr" + (index % 2**32 + 7).to_bytes(4, "little")
                row.refuses(f"{name}, {op} {index}, others are put",
                            lambda: load(b"N\x940" + put + get(index + 2)
                                         + b"."))
    forget = {"clear()": lambda unpickler: unpickler.memo.clear(),
              "= {}": lambda unpickler: setattr(unpickler, "memo", {})}
    for op, get in GETS.items():
        for how, clear in forget.items():
            file = io.BytesIO(b"Nq\x05." + get(5) + b"." + get(5) + b".")
            unpickler = row.module.Unpickler(file)
            unpickler.load()
            row.gives(f"{op} before memo{how}", unpickler.load, None)
            clear(unpickler)
            row.refuses(f"{op} after memo{how}", unpickler.load)


if __name__ == "__main__":
    fault.main(check)
