"""Files whose read, readline, readinto or peek gives a str, None, too much, too little, or an exception, or keeps the view.

Required: TypeError, UnpicklingError, or the file's own error; a view that the
file keeps is released.
"""

import io
import pickle

import fault

TIMEOUT = 30

VALUE = ["text", b"x" * 100_000, {"a": [1, 2.5, None]}, bytearray(70_000)]
STREAMS = {protocol: pickle.dumps(VALUE, protocol) for protocol in range(6)}


class Mine(Exception):
    pass


def raising(*args):
    raise Mine("mine")


def interrupting(*args):
    raise KeyboardInterrupt


ANSWERS = {
    "a str": (lambda *args: "text", TypeError),
    "None": (lambda *args: None, TypeError),
    "an int": (lambda *args: 5, TypeError),
    "a list": (lambda *args: [1], TypeError),
    "too much": (lambda *args: b"N" * 1_000_000, None),
    "nothing": (lambda *args: b"", (EOFError, None)),
    "its own error": (raising, Mine),
    "KeyboardInterrupt": (interrupting, KeyboardInterrupt),
}


class File:
    """Answers one of its methods badly, from the call with number [first]
    on."""

    def __init__(self, data, method, answer, first, extra=()):
        self.file = io.BytesIO(data)
        self.left = {method: first}
        self.answer = answer
        for name in ("read", "readline", *extra):
            setattr(self, name, self.make(name))

    def make(self, name):
        def method(*args):
            if name in self.left:
                self.left[name] -= 1
                if self.left[name] < 0:
                    return self.answer(*args)
            if name == "peek":
                place = self.file.tell()
                data = self.file.read(100)
                self.file.seek(place)
                return data
            return getattr(self.file, name)(*args)
        return method


def check_answers(row):
    module = row.module
    for what, (answer, errors) in ANSWERS.items():
        errors = errors if isinstance(errors, tuple) else (errors,)
        errors = tuple(module.UnpicklingError if error is None else error
                       for error in errors)
        for protocol, data in STREAMS.items():
            for first in (0, 1, 2):
                methods = ("read", "readline") if protocol else ("readline",)
                for method in methods:
                    calls = File(data, method, answer, first)
                    if method == "readline" and (protocol or first > 1):
                        calls = File(b"I5\n0I6\n.", method, answer,
                                     min(first, 1))
                    for how, load in (
                            ("load", module.load),
                            ("Unpickler",
                             lambda file: module.Unpickler(file).load())):
                        if method == "readline" and what == "too much":
                            continue  # a line has any length
                        again = File(calls.file.getvalue(), method, answer,
                                     calls.left[method])
                        row.raises(f"{method} gives {what}, call {first}, "
                                   f"{how}, protocol {protocol}",
                                   lambda: load(again), *errors)


def check_little(row):
    for protocol, data in STREAMS.items():
        for step in (1, 2, 7, 1000):
            row.gives(f"{step} bytes at a time, protocol {protocol}",
                      lambda: row.module.load(fault.File(data, step)), VALUE)


def check_peek(row):
    """What peek says may be too much, too little or wrong; the data are
    those of read."""
    for what, answer in (("nothing", lambda *args: b""),
                         ("an error", raising),
                         ("a str", lambda *args: "text"),
                         ("None", lambda *args: None)):
        for protocol in (0, 2, 4, 5):
            file = File(STREAMS[protocol], "peek", answer, 0, ["peek"])
            try:
                right = row.module.load(file) == VALUE
            except (TypeError, row.module.UnpicklingError, Mine):
                right = True
            except BaseException:
                right = False
            row.ok(f"peek gives {what}, protocol {protocol}", right)


class ReadsInto:
    def __init__(self, data, size=None, answer=None, keep=None):
        self.file = io.BytesIO(data)
        self.size = size
        self.answer = answer
        self.keep = keep

    def read(self, n):
        return self.file.read(n)

    def readline(self):
        return self.file.readline()

    def readinto(self, view):
        if self.keep is not None:
            self.keep.append(view)
        if self.answer is not None:
            return self.answer(view)
        return self.file.readinto(view)


def check_readinto(row):
    """It may lie about how much it read; data that never came must not be
    shown."""
    for what, answer in (
            ("more than there is room", lambda view: len(view) + 1000),
            ("a negative number", lambda view: -1),
            ("a str", lambda view: "text"),
            ("None", lambda view: None),
            ("2**100", lambda view: 2**100),
            ("its own error", raising)):
        for protocol in (2, 5):
            file = ReadsInto(STREAMS[protocol], answer=answer)
            try:
                right = row.module.load(file) == VALUE
            except (TypeError, ValueError, OverflowError, EOFError,
                    row.module.UnpicklingError, Mine):
                right = True
            except BaseException:
                right = False
            row.ok(f"readinto gives {what}, protocol {protocol}", right)
    for protocol in (3, 5):
        kept = []
        row.gives(f"readinto keeps the view, protocol {protocol}",
                  lambda: row.module.load(
                      ReadsInto(STREAMS[protocol], keep=kept)), VALUE)
        for view in kept:
            row.raises(f"the kept view is released, protocol {protocol}",
                       lambda: view[0], ValueError)


def check_attributes(row):
    class Half:
        def read(self, n):
            return b""

    class Raises:
        readline = None

        @property
        def read(self):
            raise Mine

    for what, file, error in (
            ("object()", object(), TypeError), ("Half", Half(), TypeError),
            ("None", None, TypeError),
            ("a text file", io.StringIO("x"), TypeError),
            ("read raises", Raises(), Mine)):
        for how, load in (("load", row.module.load),
                          ("Unpickler", lambda file: row.module.Unpickler(
                              file).load())):
            row.raises(f"{how} of {what}", lambda: load(file), error)


def check(row):
    check_answers(row)
    check_little(row)
    check_peek(row)
    check_readinto(row)
    check_attributes(row)


if __name__ == "__main__":
    fault.main(check)
