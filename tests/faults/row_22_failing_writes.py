"""write that takes only a part, returns None because it would block, or raises in the middle.

Required: all is written; BlockingIOError on None of a raw file; OSError is
raised; the memo keeps nothing of what failed.
"""

import errno
import io
import os
import pickle

import fault

# Unshared strings, which need several frames, and large payloads.
VALUE = [[f"text {i:050}" for i in range(3000)], b"x" * 200_000,
         {"a": [1, 2.5, None]}, bytearray(100_000), "é" * 90_000]


class Short(io.RawIOBase):
    """Takes [step] bytes of each write at most."""

    def __init__(self, step):
        self.step = step
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        taken = bytes(data)[:self.step]
        self.data += taken
        return len(taken)


class Blocks(io.RawIOBase):
    """Takes [room] bytes, then answers None, or whatever [answer] does."""

    def __init__(self, room, answer=lambda: None):
        self.room = room
        self.answer = answer
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        if self.room <= 0:
            return self.answer()
        taken = bytes(data)[:self.room]
        self.room -= len(taken)
        self.data += taken
        return len(taken)


def ways(row, protocol):
    module = row.module
    yield "dump", lambda obj, file: module.dump(obj, file, protocol)
    yield "Pickler", lambda obj, file: module.Pickler(
        file, protocol).dump(obj)


def raiser(code):
    def answer():
        raise OSError(code, os.strerror(code))
    return answer


def check_short(row, protocol):
    for how, dump in ways(row, protocol):
        for step in (1000, 65536, 100_000):
            what = f"{how}, protocol {protocol}, writes of {step}"
            file = Short(step)
            try:
                dump(VALUE, file)
            except BaseException as error:
                row.ok(what, False, fault.short(error))
                continue
            row.gives(what, lambda: pickle.loads(bytes(file.data)), VALUE)
        silent = []
        dump(VALUE, type("Silent", (), {"write": lambda self, data:
                                        silent.append(bytes(data))})())
        row.gives(f"{how}, protocol {protocol}, a write that returns nothing",
                  lambda: pickle.loads(b"".join(silent)), VALUE)


def check_failing(row, protocol):
    answers = {"None": (lambda: None, BlockingIOError),
               "0": (lambda: 0, OSError), "-1": (lambda: -1, OSError),
               "ENOSPC": (raiser(errno.ENOSPC), OSError),
               "EPIPE": (raiser(errno.EPIPE), BrokenPipeError),
               "EINTR": (raiser(errno.EINTR), InterruptedError)}
    for how, dump in ways(row, protocol):
        for answer, (function, error) in answers.items():
            for room in (0, 10, 70_000, 300_000):
                file = Blocks(room, function)
                what = (f"{how}, protocol {protocol}, {answer} after {room} "
                        f"bytes")
                row.raises(what, lambda: dump(VALUE, file), error)
                try:
                    pickle.loads(bytes(file.data))
                except Exception:
                    row.checked += 1
                else:
                    row.ok(f"{what}: the part is no pickle", False)


def check_memo(row, protocol):
    """After a failure the Pickler writes everything anew."""
    class File:
        fails = True

        def __init__(self):
            self.data = b""

        def write(self, data):
            if self.fails and len(self.data) > 100_000:
                raise OSError(errno.ENOSPC, "full")
            self.data += bytes(data)
            return len(data)

    file = File()
    pickler = row.module.Pickler(file, protocol)
    before = ["before"]
    pickler.dump(before)
    first = len(file.data)
    known = dict(pickler.memo.copy())
    value = [before, VALUE, VALUE]
    row.raises(f"protocol {protocol}, full", lambda: pickler.dump(value),
               OSError)
    row.ok(f"protocol {protocol}, the memo after a failure",
           pickler.memo.copy() == known,
           f"{len(pickler.memo.copy())} entries, not {len(known)}")
    file.fails = False
    first_part, file.data = file.data[:first], b""
    pickler.dump(value)
    unpickler = pickle.Unpickler(io.BytesIO(first_part + file.data))
    row.gives(f"protocol {protocol}, the first pickle", unpickler.load,
              before)
    row.gives(f"protocol {protocol}, the dump after a failure",
              unpickler.load, value)


def check_pipe(row):
    """A real one, which does not block and is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "wb", buffering=0) as file:
        row.raises("a pipe that is full",
                   lambda: row.module.dump(VALUE, file, 4), BlockingIOError)
    os.close(reader)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as file:
        row.raises("a pipe that nobody reads",
                   lambda: row.module.dump(VALUE, file, 4), BrokenPipeError)
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb", buffering=0) as file:
            row.raises("/dev/full", lambda: row.module.dump(VALUE, file, 4),
                       OSError)


def check(row):
    for protocol in range(6):
        check_short(row, protocol)
        check_failing(row, protocol)
        check_memo(row, protocol)
    check_pipe(row)


if __name__ == "__main__":
    fault.main(check)
