"""Lengths of 2**31 to 2**64-1, and negative ones, with two bytes of data.

Required: UnpicklingError; resident memory below twice what was received (and
4 MiB); nothing on standard error.
"""

import io
import os
import tempfile

import fault

TIMEOUT = 90
MEMORY = 16 * 1024

EIGHT = {"BINBYTES8": b"\x8e", "BINUNICODE8": b"\x8d", "BYTEARRAY8": b"\x96",
         "FRAME": b"\x95"}
FOUR = {"BINBYTES": b"B", "BINUNICODE": b"X", "BINSTRING": b"T",
        "LONG4": b"\x8b"}
RECEIVED = 24 * fault.MIB  # of the cases that have data
FLOOR = 4 * fault.MIB


def cases():
    for op, code in EIGHT.items():
        for length in (2**31, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1):
            yield op, length, code + length.to_bytes(8, "little")
    for op, code in FOUR.items():
        for length in (2**31 - 1, 2**31, 2**32 - 1):
            yield op, length, code + length.to_bytes(4, "little")


def check(row):
    for name, load in row.readers():
        # What the first error of all imports is not what a length costs.
        row.refuses(f"{name}, a short stream", lambda: load(b"B\x05"))
        for op, length, header in cases():
            row.peak(f"{name}, {op} of {length}", lambda: row.refuses(
                f"{name}, {op} of {length}", lambda: load(header + b"xx")),
                FLOOR)
    with tempfile.NamedTemporaryFile() as file:
        def load_from_disk(buffering):
            with open(file.name, "rb", buffering) as opened:
                return row.module.load(opened)

        for op, length, header in cases():
            # Zeros from a hole; the first bytes are the header.
            file.seek(0)
            file.write(header)
            file.flush()
            os.truncate(file.name, RECEIVED)
            for how, buffering in (("buffered", -1), ("raw", 0)):
                what = f"{how} file of 24 MiB, {op} of {length}"
                row.peak(what, lambda: row.refuses(
                    what, lambda: load_from_disk(buffering)),
                    2 * RECEIVED + FLOOR)


if __name__ == "__main__":
    fault.main(check)
