"""An opcode or its argument that goes beyond its FRAME; a frame in a frame; a frame of nothing.

Required: UnpicklingError; frames that end between opcodes are read.
"""

import pickle
import pickletools

import fault

# Opcode with argument, and what it takes to end well after it.
OPCODES = [
    b"I5\n", b"L7L\n", b"F1.5\n", b"S'abc'\n", b"Vabc\n", b"K\x01",
    b"M\x01\x00", b"J\x01\x00\x00\x00", b"\x8a\x02\x05\x06",
    b"\x8b\x01\x00\x00\x00\x05", b"G" + bytes(8), b"T\x02\x00\x00\x00ab",
    b"U\x02ab", b"B\x02\x00\x00\x00ab", b"C\x02ab",
    b"\x8e\x02\x00\x00\x00\x00\x00\x00\x00ab", b"X\x02\x00\x00\x00ab",
    b"\x8c\x02ab", b"\x8d\x02\x00\x00\x00\x00\x00\x00\x00ab",
    b"\x96\x02\x00\x00\x00\x00\x00\x00\x00ab", b"cbuiltins\nint\n",
    b"(K\x01ibuiltins\nint\n", b"Np0\n", b"Nq\x00", b"Nr\x00\x00\x00\x00",
]


def frame(data, size=None):
    size = len(data) if size is None else size
    return b"\x95" + size.to_bytes(8, "little") + data


def boundaries(data):
    """The offsets at which an opcode begins, and the end."""
    found = [pos for _, _, pos in pickletools.genops(data + b".")]
    return set(found)


def check(row):
    for name, load in row.readers():
        for data in OPCODES:
            ends = boundaries(data)
            stop = b"."
            for size in range(1, len(data)):
                split = b"\x80\x04" + frame(data, size) + stop
                again = (b"\x80\x04" + frame(data[:size])
                         + frame(data[size:]) + stop)
                if size in ends:
                    row.ok(f"{name}, {data!r} in two frames",
                           load(split) == load(again) == load(data + stop))
                    continue
                row.refuses(f"{name}, {data!r}, frame of {size}",
                            lambda: load(split))
                row.refuses(f"{name}, {data!r}, frames of {size} and the rest",
                            lambda: load(again))
            row.refuses(f"{name}, {data!r}, frame longer than the input",
                        lambda: load(frame(data, len(data) + 2) + stop))
        value = b"K\x05"
        for what, data in (
                ("a frame in a frame", frame(value + frame(value + b"0."))),
                ("a frame that ends with the one around it",
                 frame(value + frame(value + b"0")) + b"."),
                ("a frame header at the end of a frame",
                 frame(value + frame(b"", 3)) + value + b"0."),
                ("a frame header across the end of a frame",
                 frame((frame(value) + b".")[:4]) + frame(value)[4:] + b"."),
                ("a frame of nothing", frame(b"") + value + b"."),
                ("a frame of nothing at the end", value + frame(b"") + b".")):
            row.refuses(f"{name}, {what}", lambda: load(data))
        for what, data in (
                ("one frame", frame(value + b".")),
                ("two frames", frame(value) + frame(b".")),
                ("opcodes between frames",
                 frame(b"N") + b"0" + frame(value) + b".")):
            row.gives(f"{name}, {what}", lambda: load(data), 5)
        large = [b"x" * 100_000, list(range(100_000)), "é" * 100_000]
        for protocol in (4, 5):
            row.gives(f"{name}, frames as the standard module writes them",
                      lambda: load(pickle.dumps(large, protocol)), large)


if __name__ == "__main__":
    fault.main(check)
