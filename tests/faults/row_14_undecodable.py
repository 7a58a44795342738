"""Bytes that are no UTF-8, and escapes of no character, in each opcode for text.

Required: UnicodeDecodeError that is an UnpicklingError too; nothing of the
text is kept.
"""

import io

import fault

BAD = [b"\xff", b"a\xff", b"\x80", b"\xc3", b"\xc3(", b"\xe2\x82",
       b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"x" * 300 + b"\xff",
       b"\xe9" * 70_000]
ESCAPES = [b"\\u12", b"\\uzzzz", b"\\U0001f6", b"\\U00110000", b"a\\u"]


def counted(code, width):
    return lambda text: code + len(text).to_bytes(width, "little") + text


OPCODES = {
    "BINUNICODE": counted(b"X", 4), "BINUNICODE8": counted(b"\x8d", 8),
    "SHORT_BINUNICODE": counted(b"\x8c", 1), "BINSTRING": counted(b"T", 4),
    "SHORT_BINSTRING": counted(b"U", 1),
    "STRING": lambda text: b"S'" + text + b"'\n",
}
NAMES = {
    "GLOBAL, module": b"cbuil\xfftins\nint\n",
    "GLOBAL, name": b"cbuiltins\ni\xffnt\n",
    "INST": b"(ibuiltins\ni\xffnt\n",
}


def check_one(row, what, load, data):
    error = row.raises(what, lambda: load(data), UnicodeDecodeError)
    if error is None:
        return
    row.ok(f"{what}, is an UnpicklingError",
           isinstance(error, row.module.UnpicklingError), fault.short(error))
    if "at byte" not in str(error) + "".join(
            getattr(error, "__notes__", ())):
        row.placeless += 1


def check(row):
    for name, load in row.readers():
        for op, write in OPCODES.items():
            for bad in BAD:
                if len(bad) < 256 or "SHORT" not in op:
                    check_one(row, f"{name}, {op}, {bad[:8]!r}", load,
                              write(bad) + b".")
        for bad in ESCAPES:
            check_one(row, f"{name}, UNICODE, {bad!r}", load,
                      b"V" + bad + b"\n.")
        for what, data in NAMES.items():
            check_one(row, f"{name}, {what}", load, data + b".")
    for op, write in OPCODES.items():
        if op == "STRING":
            continue
        file = io.BytesIO(b"]q\x00" + write(b"good\xff") + b"q\x01a.Kh")
        unpickler = row.module.Unpickler(file)
        row.raises(f"{op}, Unpickler", unpickler.load, UnicodeDecodeError)
        row.gives(f"{op}: the memo afterwards",
                  lambda: unpickler.memo.copy(), {0: []})
        file = io.BytesIO(b"N.")
        unpickler = row.module.Unpickler(file)
        row.gives(f"{op}: another load", unpickler.load, None)


if __name__ == "__main__":
    fault.main(check)
