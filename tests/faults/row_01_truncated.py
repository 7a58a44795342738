"""Empty input, and input cut at every byte of a pickle with all opcodes.

Required: EOFError if empty, UnpicklingError else, at every protocol and for
every kind of input; the Unpickler can be used again.
"""

import copyreg
import io
import pickle
import pickletools

import fault

# Each leaves one object; together they have every opcode.
PIECES = [
    b"I5\n", b"I01\n", b"L7L\n", b"F1.5\n", b"S'a'\n", b"Va\n", b"K\x01",
    b"M\x01\x00", b"J\x01\x00\x00\x00", b"\x8a\x01\x05",
    b"\x8b\x01\x00\x00\x00\x05", b"G" + bytes(8), b"T\x01\x00\x00\x00a",
    b"U\x01a", b"B\x01\x00\x00\x00a", b"C\x01a",
    b"\x8e\x01\x00\x00\x00\x00\x00\x00\x00a", b"X\x01\x00\x00\x00a",
    b"\x8c\x01a", b"\x8d\x01\x00\x00\x00\x00\x00\x00\x00a",
    b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a", b"N", b"\x88", b"\x89",
    b"]K\x01a", b"](K\x01K\x02e", b"(K\x01l", b"(K\x01t", b")", b"N\x85",
    b"NN\x86", b"NNN\x87", b"}K\x01Ns", b"}(K\x01Nu", b"(K\x01Nd",
    b"\x8f(K\x01\x90", b"(K\x01\x91", b"cbuiltins\nint\n",
    b"\x8c\x08builtins\x8c\x03int\x93", b"cbuiltins\nint\n(K\x01tR",
    b"(cbuiltins\nint\nK\x01o", b"(K\x01ibuiltins\nint\n",
    b"cbuiltins\nint\n)\x81", b"cbuiltins\nint\n)}\x92",
    b"ctypes\nSimpleNamespace\n)\x81}\x8c\x01aNsb", b"\x82\xf0",
    b"\x83\xf1\xf0", b"\x84\xf2\xf0\xf0\x00", b"\x97", b"\x97\x98",
    b"Np0\n0Nq\x010Nr\x02\x00\x00\x000]\x94", b"g0\n", b"h\x01",
    b"j\x02\x00\x00\x00", b"NN0", b"N(NN1", b"N20",
    b"\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x01",
]
PERSISTENT = [b"Pid\n", b"NQ"]
CODES = {"int": 0xF0, "list": 0xF0F1, "dict": 0xF0F0F2}

PLAIN = [1, 300, 70_000, 2**40, 2**100, -1.5, None, True, "text", "é", b"raw",
         bytearray(b"array"), ([], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
         {1, 2}, frozenset([3]), complex(1, 2), OSError(2, "gone"), range(3)]


def stream(pieces):
    return b"\x80\x05(" + b"".join(pieces) + b"l."


def check_cuts(row, what, load, data):
    """load(data) for every beginning of data."""
    for size in range(1, len(data)):
        row.refuses(f"{what} cut at {size} of {len(data)}",
                    lambda: load(data[:size]))
    try:
        load(data)
    except Exception as error:
        row.ok(f"{what}, whole", False, fault.short(error))


def check_reuse(row, good, data):
    """An Unpickler whose file ended early goes on when there is more."""
    for size in range(1, len(data)):
        file = io.BytesIO(data[:size])
        unpickler = row.module.Unpickler(file)
        try:
            unpickler.load()
        except Exception:
            pass  # checked above
        file.seek(0)
        file.truncate()
        file.write(good)
        file.seek(0)
        row.gives(f"Unpickler used again after a cut at {size}",
                  unpickler.load, ["good"])


def check(row):
    for name, code in CODES.items():
        copyreg.add_extension("builtins", name, code)
    module = row.module

    class Persistent(module.Unpickler):
        def persistent_load(self, pid):
            return pid

    def buffers():
        return [bytearray(b"a"), bytearray(b"b")]

    full = stream(PIECES + PERSISTENT)
    found = {op.code for op, _, _ in pickletools.genops(full)}
    row.ok("the sample has every opcode",
           found == {op.code for op in pickletools.opcodes})
    data = stream(PIECES)
    for name, load in row.readers():
        error = row.raises(f"{name}, empty", lambda: load(b""), EOFError)
        row.ok(f"{name}, empty, is no UnpicklingError",
               not isinstance(error, module.UnpicklingError))
        row.refuses(f"{name}, only STOP", lambda: load(b"."))
        for protocol in range(6):
            check_cuts(row, f"{name}, protocol {protocol}", load,
                       pickle.dumps(PLAIN, protocol))
    check_cuts(row, "all opcodes, loads",
               lambda data: module.loads(data, buffers=buffers()), data)
    check_cuts(row, "all opcodes, load", lambda data: module.load(
        io.BytesIO(data), buffers=buffers()), data)
    check_cuts(row, "all opcodes, Unpickler", lambda data: Persistent(
        io.BytesIO(data), buffers=buffers()).load(), full)
    check_reuse(row, pickle.dumps(["good"], 4), pickle.dumps(PLAIN, 2))
    check_reuse(row, pickle.dumps(["good"], 0), pickle.dumps(PLAIN, 4))


if __name__ == "__main__":
    fault.main(check)
