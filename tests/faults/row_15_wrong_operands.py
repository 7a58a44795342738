"""REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST and BUILD with operands of the wrong type.

Required: UnpicklingError or TypeError.
"""

import itertools

import fault

# Opcodes that make one object.
VALUES = {
    "None": b"N", "int": b"K\x05", "str": b"\x8c\x01x", "bytes": b"C\x01x",
    "list": b"]", "full list": b"]K\x05a", "dict": b"}",
    "dict of ints": b"}K\x01K\x02s", "set": b"\x8f", "tuple": b")",
    "pair": b"K\x01K\x02\x86", "type": b"cbuiltins\nint\n",
    "function": b"cbuiltins\nlen\n", "module": b"cbuiltins\n__name__\n",
    "generator type": b"ctypes\nGeneratorType\n",
    "module type": b"ctypes\nModuleType\n", "metaclass": b"cbuiltins\ntype\n",
}
CALLABLE = {"type", "function", "generator type", "module type", "metaclass"}
TYPES = CALLABLE - {"function"}
TUPLES = {"tuple", "pair"}
DICTS = {"dict", "dict of ints"}
HAVE_DICT = {"type", "function"}  # an empty state changes nothing
# What they do with arguments of the right type is theirs.
MAKERS = {"type", "metaclass"}


def combinations(*operands):
    """(names, opcodes) of every choice of operands."""
    for names in itertools.product(VALUES, repeat=len(operands) or 0):
        yield names, b"".join(VALUES[name] for name in names)


def check(row):
    for name, load in row.readers():
        def refuse(what, data):
            row.refuses(f"{name}, {what}", lambda: load(data + b"."),
                        TypeError)

        for (cls, args), data in combinations(1, 2):
            if cls not in CALLABLE or args not in TUPLES:
                refuse(f"REDUCE of {cls} and {args}", data + b"R")
            if cls not in TYPES or args not in TUPLES:
                refuse(f"NEWOBJ of {cls} and {args}", data + b"\x81")
        for (cls, args, kwargs), data in combinations(1, 2, 3):
            right = cls in TYPES and args in TUPLES and kwargs in DICTS
            if not right or (cls in MAKERS and kwargs == "dict of ints"):
                refuse(f"NEWOBJ_EX of {cls}, {args} and {kwargs}",
                       data + b"\x92")
        for cls, data in VALUES.items():
            if cls not in CALLABLE:
                refuse(f"OBJ of {cls}", b"(" + data + b"o")
                refuse(f"OBJ of {cls} with arguments",
                       b"(" + data + b"NNo")
        for line in (b"sys\nmaxsize\n", b"sys\npath\n", b"os\nname\n"):
            refuse(f"INST of {line!r}", b"(Ni" + line)
        for obj in ("None", "int", "str", "list", "dict", "tuple", "function",
                    "type", "set"):
            for state, data in VALUES.items():
                if state == "None":
                    continue
                if state != "dict" or obj not in HAVE_DICT:
                    refuse(f"BUILD of {obj} with {state}",
                           VALUES[obj] + data + b"b")
                if state != "dict":  # no slots at all
                    refuse(f"BUILD of {obj} with slots {state}",
                           VALUES[obj] + b"N" + data + b"\x86b")
            refuse(f"BUILD of {obj} with a slot",
                   VALUES[obj] + b"N}\x8c\x01xNs\x86b")
        for what, data in (
                ("STACK_GLOBAL of ints", b"K\x01K\x02\x93"),
                ("STACK_GLOBAL of bytes", b"C\x01aC\x01b\x93"),
                ("APPEND to an int", b"K\x01Na"),
                ("APPENDS to None", b"N(NNe"),
                ("SETITEM of an int", b"K\x01NNs"),
                ("SETITEMS of a tuple", b")(NNu"),
                ("ADDITEMS to a str", b"\x8c\x01x(N\x90"),
                ("a list as key", b"}]Ns"), ("a list in a set", b"\x8f(]\x90"),
                ("a dict in a frozenset", b"(}\x91"),
                ("READONLY_BUFFER of an int", b"K\x01\x98"),
                ("EXT of no code", b"\x84" + bytes(4)),
                ("EXT of a negative code", b"\x84" + b"\xff" * 4)):
            also = () if "EXT" in what else (AttributeError,)
            row.refuses(f"{name}, {what}", lambda: load(data + b"."),
                        TypeError, *also)


if __name__ == "__main__":
    fault.main(check)
