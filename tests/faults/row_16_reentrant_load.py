"""Code that runs in the middle of a load uses the same Unpickler.

From __hash__, __eq__, __setstate__, __setattr__, append, extend, add,
__setitem__, __del__, __new__, find_class, persistent_load, read, readline,
peek and the buffers.

Required: RuntimeError inside; the load around it goes on, and its result is
right.
"""

import gc
import io
import sys

import fault

HOOK = []  # what the methods below do


def hook(*args):
    if HOOK:
        HOOK[0]()


class Hashed:
    def __hash__(self):
        hook()
        return 1

    def __eq__(self, other):
        hook()
        return self is other


class Target:
    def __setitem__(self, key, value):
        hook()

    def add(self, item):
        hook()


class Extends(Target):
    def extend(self, items):
        hook()


class Appends(Target):
    def append(self, item):
        hook()


class Dies:
    def __del__(self):
        hook()


class State:
    def __setstate__(self, state):
        hook()


class Slots:
    def __setattr__(self, name, value):
        hook()


class Made:
    def __new__(cls, *args, **kwargs):
        hook()
        return super().__new__(cls)


def new(cls):
    return f"c__main__\n{cls.__name__}\n)\x81".encode("latin-1")


PLACES = {
    "__hash__, SETITEM": b"}%sNs" % new(Hashed),
    "__eq__, SETITEMS": b"}(%sN%sNu" % (new(Hashed), new(Hashed)),
    "__eq__, DICT": b"(%sN%sNd" % (new(Hashed), new(Hashed)),
    "__eq__, ADDITEMS": b"\x8f(%s%s\x90" % (new(Hashed), new(Hashed)),
    "__eq__, FROZENSET": b"(%s%s\x91" % (new(Hashed), new(Hashed)),
    "extend": b"%s(NNe" % new(Extends),
    "extend, one": b"%sNa" % new(Extends),
    "append": b"%s(NNe" % new(Appends),
    "append, one": b"%sNa" % new(Appends),
    "__setitem__": b"%sNNs" % new(Target),
    "__setitem__, many": b"%s(NNNNu" % new(Target),
    "add": b"%s(NN\x90" % new(Target),
    "__del__, POP": b"%s0N" % new(Dies),
    "__del__, POP_MARK": b"(%s%s1N" % (new(Dies), new(Dies)),
    "__del__, BINPUT": b"%sq\x000Nq\x00" % new(Dies),
    "__del__, LONG_BINPUT":
        b"%sr\xff\xff\xff\x000Nr\xff\xff\xff\x00" % new(Dies),
    "__setstate__": b"%sNb" % new(State),
    "__setattr__": b"%sN}\x8c\x01aNs\x86b" % new(Slots),
    "__new__, NEWOBJ": b"c__main__\nMade\nN\x85\x81",
    "__new__, NEWOBJ_EX": b"c__main__\nMade\n)}\x8c\x01aNs\x92",
    "__new__, REDUCE": b"c__main__\nMade\n)R",
    "__new__, OBJ": b"(c__main__\nMade\nNo",
    "__new__, INST": b"(Ni__main__\nMade\n",
    "find_class": b"\x8c\x08__main__\x8c\x05State\x93",
    "find_class, EXT": b"\x82\xf0",
    "persistent_load": b"NQ",
    "persistent_load, PERSID": b"Px\n",
    "buffers": b"\x97",
    "read": b"B\x00\x00\x03\x00" + bytes(0x30000),
    "readline": b"I5\n",
}


class HookedFile(io.BytesIO):
    """Each of its methods runs the hook."""

    calls = 0

    def called(self):
        self.calls += 1
        hook()

    def read(self, n=-1):
        self.called()
        return super().read(n)

    def readline(self, n=-1):
        self.called()
        return super().readline(n)


class PeekingFile(HookedFile):
    def peek(self, n=0):
        self.called()
        place = self.tell()
        data = super().read(64)
        self.seek(place)
        return data


def buffers():
    for _ in range(10):
        hook()
        yield b"buffer"


def check_place(row, what, place, file_type):
    class Unpickler(row.module.Unpickler):
        def find_class(self, module, name):
            hook()
            return super().find_class(module, name)

        def persistent_load(self, pid):
            hook()
            return pid

    data = b"\x80\x05]q\x07(" + PLACES[place] + b"K\x05e."
    file = file_type(data)
    unpickler = Unpickler(file, buffers=buffers())
    attempts = {
        "load": unpickler.load,
        "__init__": lambda: unpickler.__init__(io.BytesIO(b"N.")),
        "memo =": lambda: setattr(unpickler, "memo", {}),
        "memo.clear": lambda: unpickler.memo.clear(),
    }
    met = []

    def reenter():
        met.append(True)
        del HOOK[:]  # not again from inside
        gc.collect()
        for name, attempt in attempts.items():
            row.raises(f"{what}, {name}", attempt, RuntimeError)
        HOOK.append(reenter)

    HOOK[:] = [reenter]
    try:
        result = unpickler.load()
    except BaseException as error:
        row.ok(f"{what}, the outer load", False, fault.short(error))
        return
    finally:
        del HOOK[:]
    row.ok(f"{what}, the hook has run", met)
    row.ok(f"{what}, the result", type(result) is list and len(result) == 2
           and result[1] == 5, f"{type(result).__name__}")
    file.seek(0)
    row.gives(f"{what}, another load", lambda: len(unpickler.load())
              if place != "buffers" else 2, 2)
    row.ok(f"{what}, sizeof", sys.getsizeof(unpickler) > 0)


def check(row):
    import copyreg
    copyreg.add_extension("__main__", "Made", 0xF0)
    for place in PLACES:
        for file_type in (io.BytesIO, HookedFile, PeekingFile):
            copyreg.clear_extension_cache()
            if place in ("read", "readline") and file_type is io.BytesIO:
                continue
            check_place(row, f"{place} ({file_type.__name__})", place,
                        file_type)


if __name__ == "__main__":
    fault.main(check)
