"""Every byte as the first opcode; unknown opcodes in the middle.

Required: UnpicklingError that names an unknown byte, and its offset.
"""

import pickletools

import fault

KNOWN = {ord(op.code) for op in pickletools.opcodes}


def spellings(byte):
    return {f"\\x{byte:02x}", repr(chr(byte))[1:-1], chr(byte)}


def check_named(row, what, call, byte, offset):
    error = row.refuses(what, call)
    if isinstance(error, row.module.UnpicklingError):
        text = str(error)
        row.ok(f"{what}: byte and offset are named",
               any(name in text for name in spellings(byte))
               and (f"at byte {offset}" in text or "at byte" not in text),
               text)


def check(row):
    for name, load in row.readers():
        for byte in range(256):
            data = bytes([byte])
            if byte in KNOWN:
                row.refuses(f"{name}, first byte {byte}", lambda: load(data))
                continue
            check_named(row, f"{name}, first byte {byte}",
                        lambda: load(data), byte, 0)
            check_named(row, f"{name}, byte {byte} after three opcodes",
                        lambda: load(b"\x80\x04]K\x07" + data + b"a."), byte,
                        5)


if __name__ == "__main__":
    fault.main(check)
