"""Pickle streams made at random, and changes that keep most of them in shape.

A random change of a byte almost always ends a stream at once.  Here the units
are opcodes with their arguments, and a stack that is kept beside the stream
says which of them can come next.
"""

import pickletools
import random

# Everything that a stream of these targets may import.  None of it takes a
# number for a size, writes a text of what it is given, or calls back.
HARMLESS = [
    ("builtins", name)
    for name in ("list", "dict", "set", "frozenset", "tuple", "object", "int",
                 "float", "complex", "bool", "slice", "len", "Exception")
] + [
    ("collections", "OrderedDict"), ("collections", "deque"),
    ("collections", "Counter"), ("copyreg", "_reconstructor"),
    ("datetime", "date"), ("datetime", "timedelta"),
    ("__builtin__", "set"), ("__builtin__", "object"),
    ("copy_reg", "_reconstructor"),
] + [
    ("fuzz_graphs", name)
    for name in ("Plain", "Slotted", "SlottedAndDict", "Stateful",
                 "WithNewArgs", "ListChild", "DictChild", "IntChild",
                 "Appendable", "Persistent")
]

FIXED = {"uint1": 1, "uint2": 2, "int4": 4, "uint4": 4, "uint8": 8,
         "float8": 8}
COUNTED = {"string1": 1, "string4": 4, "bytes1": 1, "bytes4": 4, "bytes8": 8,
           "bytearray8": 8, "long1": 1, "long4": 4, "unicodestring1": 1,
           "unicodestring4": 4, "unicodestring8": 8}
LINES = {"stringnl_noescape_pair": 2}

OPCODES = {ord(op.code): op for op in pickletools.opcodes}
CODES = sorted(OPCODES)


def shape(code):
    """(bytes of a fixed argument or of its length, counted?, lines)."""
    op = OPCODES.get(code)
    if op is None or op.arg is None:
        return 0, False, 0
    name = op.arg.name
    if name in FIXED:
        return FIXED[name], False, 0
    if name in COUNTED:
        return COUNTED[name], True, 0
    return 0, False, LINES.get(name, 1)


SHAPES = [shape(code) for code in range(256)]


def split(data):
    """The opcodes with their arguments; what is cut off stays as it is."""
    pieces = []
    place = 0
    while place < len(data):
        start = place
        size, counted, lines = SHAPES[data[place]]
        place += 1 + size
        if counted:
            place += int.from_bytes(data[start + 1:place], "little")
        for _ in range(lines):
            newline = data.find(b"\n", place)
            place = len(data) if newline < 0 else newline + 1
        pieces.append(data[start:place])
    return pieces


# ---- single opcodes --------------------------------------------------------------


def number(rng):
    return rng.choice([0, 1, 2, 3, 127, 128, 255, 256, 1000, 0x7fffffff,
                       0x80000000, 0xffffffff, 2**63, 2**64 - 1])


def payload(rng):
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(12)))
    if kind == 1:
        return rng.choice(["é", "\U0001f600", "a\0b", "€" * 3]).encode()
    return rng.choice([b"", b"a", b"name", b"a", b"left", b"__dict__", b"x" * 9,
                       b"__setstate__", b"\xed\xa0\x80", b"\xff"])


def line(rng, name):
    if name == "stringnl_noescape_pair":
        module, attribute = rng.choice(HARMLESS)
        return f"{module}\n{attribute}\n".encode()
    if name == "stringnl":
        return rng.choice([b"'a'", b'"b"', b"'\\n'", b"''", b"'", b"a",
                           b"'\\x'"]) + b"\n"
    if name == "floatnl":
        return rng.choice([b"1.5", b"-0", b"nan", b"inf", b"1e999", b"x",
                           b""]) + b"\n"
    if name in ("unicodestringnl", "stringnl_noescape"):
        return rng.choice([b"a", b"", b"\\u20ac", b"\\U00110000", b"\xe9"]) + b"\n"
    return rng.choice([b"0", b"1", b"2", b"01", b"00", b"-1", b"7L", b"1_0",
                       b"0x10", b"9" * 30, b"9" * 30 + b"L", b"", b" 3",
                       b"12345"]) + b"\n"


def opcode(rng, code=None):
    """One opcode with an argument that often makes sense."""
    if code is None:
        code = rng.choice(CODES)
    size, counted, lines = SHAPES[code]
    if lines:
        return bytes([code]) + line(rng, OPCODES[code].arg.name)
    if counted:
        data = payload(rng)
        length = len(data) if rng.random() < 0.9 else number(rng)
        return (bytes([code])
                + (length % 256**size).to_bytes(size, "little") + data)
    if size:
        value = rng.randrange(6) if rng.random() < 0.7 else number(rng)
        return bytes([code]) + (value % 256**size).to_bytes(size, "little")
    return bytes([code])


# ---- whole streams ---------------------------------------------------------------

ATOMS = [ord(code) for code in
         "NIJKMLGFSVUXTCB\x88\x89\x8a\x8b\x8c\x8d\x8e\x96)"]
CONTAINERS = {b"]": "list", b"}": "dict", b"\x8f": "set", b")": "tuple"}


class Writer:
    """A stream that mostly works, and the stack that it leaves."""

    def __init__(self, rng):
        self.rng = rng
        self.out = []
        self.stack = []  # kinds; "mark" for a mark
        self.memo = []  # kinds

    def write(self, piece, kind=None, drop=0):
        self.out.append(piece)
        if drop:
            del self.stack[-drop:]
        if kind is not None:
            self.stack.append(kind)
            if self.rng.random() < 0.2:
                self.put()

    def put(self):
        index = len(self.memo)
        self.memo.append(self.stack[-1])
        choice = self.rng.randrange(4)
        if choice == 0 or index > 255:
            self.out.append(b"\x94")
        elif choice == 1:
            self.out.append(b"q%c" % index)
        elif choice == 2:
            self.out.append(b"r" + index.to_bytes(4, "little"))
        else:
            self.out.append(b"p%d\n" % index)

    def atom(self):
        code = self.rng.choice(ATOMS)
        size, counted, _ = SHAPES[code]
        if counted:
            data = self.rng.choice([b"", b"a", b"left", b"b", b"x" * 5])
            piece = bytes([code]) + len(data).to_bytes(size, "little") + data
        elif chr(code) in "ILFSV":
            piece = {"I": b"I12\n", "L": b"L7L\n", "F": b"F1.5\n",
                     "S": b"S'a'\n", "V": b"Va\n"}[chr(code)]
        else:
            piece = bytes([code]) + self.rng.randbytes(size)
        kind = "str" if chr(code) in "VX\x8c\x8d" else "atom"
        self.write(piece, "tuple" if code == 0x29 else kind)

    def container(self):
        piece, kind = self.rng.choice(list(CONTAINERS.items()))
        self.write(piece, kind)

    def mark(self):
        self.write(b"(")
        self.stack.append("mark")

    def collect(self):
        """What is above the topmost mark becomes something."""
        place = len(self.stack) - 1 - self.stack[::-1].index("mark")
        items = self.stack[place + 1:]
        target = self.stack[place - 1] if place else None
        drop = len(self.stack) - place
        choices = [(b"t", "tuple"), (b"l", "list"), (b"1", None)]
        if len(items) % 2 == 0:
            choices.append((b"d", "dict"))
            if target in ("dict", "object"):
                choices += [(b"u", None)] * 4
        choices.append((b"\x91", "set"))
        if items and items[0] == "class":
            choices += [(b"o", "object")] * 3
        if target in ("list", "object"):
            choices += [(b"e", None)] * 4
        if target in ("set", "object"):
            choices += [(b"\x90", None)] * 4
        piece, kind = self.rng.choice(choices)
        self.write(piece, kind, drop)

    def inst(self):
        place = len(self.stack) - 1 - self.stack[::-1].index("mark")
        self.write(b"i" + line(self.rng, "stringnl_noescape_pair"), "object",
                   len(self.stack) - place)

    def short_tuple(self):
        count = self.rng.randrange(1, 4)
        if self.reachable() >= count:
            self.write(b"%c" % (0x84 + count), "tuple", count)

    def reachable(self):
        return (self.stack[::-1].index("mark") if "mark" in self.stack
                else len(self.stack))

    def add(self):
        kinds = self.stack[-3:]
        if self.reachable() >= 2 and kinds[-2] in ("list", "object"):
            self.write(b"a", drop=1)
        elif self.reachable() >= 3 and kinds[0] in ("dict", "object"):
            self.write(b"s", drop=2)

    def build(self):
        if self.reachable() >= 2 and self.stack[-2] == "object":
            self.write(b"b", drop=1)

    def get(self):
        if self.memo:
            index = self.rng.randrange(len(self.memo))
            self.write(
                self.rng.choice([b"h%c" % (index % 256), b"g%d\n" % index,
                                 b"j" + index.to_bytes(4, "little")]),
                self.memo[index])

    def duplicate(self):
        if self.reachable():
            self.write(b"2", self.stack[-1])

    def pop(self):
        if self.stack:
            self.write(b"0", drop=1)

    def name(self):
        module, attribute = self.rng.choice(HARMLESS)
        if self.rng.random() < 0.5:
            self.write(f"c{module}\n{attribute}\n".encode(), "class")
            return
        for text in (module, attribute):
            self.write(b"\x8c%c" % len(text) + text.encode(), "str")
        self.write(b"\x93", "class", 2)

    def instance(self):
        self.name()
        kind = self.rng.choice(["list", "tuple", "tuple", "tuple"])
        choice = self.rng.randrange(4)
        if choice == 0:
            self.write(b")", "tuple")
        elif choice == 1:
            self.atom()
            self.write(b"\x85", "tuple", 1)
        else:
            self.write(b"]" if kind == "list" else b")", kind)
        if choice == 3:
            self.write(b"}", "dict")
            self.write(b"\x92", "object", 3)
        else:
            self.write(self.rng.choice([b"\x81", b"R"]), "object", 2)
        if self.rng.random() < 0.5:
            self.write(b"}", "dict")
            if self.rng.random() < 0.7:
                self.write(b"\x8c\1a", "str")
                self.atom()
                self.write(b"s", drop=2)
            self.write(b"b", drop=1)

    def outside(self):
        choice = self.rng.randrange(5)
        if choice == 0 and self.reachable():
            self.write(b"Q", "object", 1)
        elif choice == 1:
            self.write(b"Pid\n", "object")
        elif choice == 2:
            self.write(b"\x97", "atom")
            self.write(b"\x98", "atom", 1)
        elif choice == 3:
            self.write(b"\x80%c" % self.rng.randrange(7))
        else:
            self.out.append(opcode(self.rng))

    STEPS = (
        [atom] * 6 + [container] * 3 + [mark] * 3 + [short_tuple] * 3
        + [add] * 4 + [build] * 2 + [get] * 3 + [duplicate, pop, name]
        + [instance] * 3 + [outside]
    )

    def stream(self, steps):
        for _ in range(steps):
            if "mark" in self.stack and self.rng.random() < 0.2:
                self.rng.choice([self.collect] * 6 + [self.inst])()
            self.rng.choice(self.STEPS)(self)
        while "mark" in self.stack:
            self.collect()
        while len(self.stack) > 1:
            count = min(3, len(self.stack))
            self.write(b"%c" % (0x84 + count), "tuple", count)
        if not self.stack:
            self.out.append(b"N")
        return self.out + [b"."]


def frame(rng, pieces):
    """Part of the stream inside of a frame, of the right length mostly."""
    start = rng.randrange(len(pieces) + 1)
    end = rng.randrange(start, len(pieces) + 1)
    length = sum(map(len, pieces[start:end]))
    if rng.random() < 0.3:
        length += rng.choice([-1, 1, 5])
    pieces.insert(start, b"\x95" + (length % 2**64).to_bytes(8, "little"))


def generate(rng):
    pieces = Writer(rng).stream(rng.choice([1, 3, 8, 20, 60]))
    if rng.random() < 0.5:
        pieces.insert(0, b"\x80%c" % rng.randrange(6))
    if rng.random() < 0.3:
        frame(rng, pieces)
    return pieces


def change(rng, pieces):
    """One change of the list of opcodes."""
    here = rng.randrange(len(pieces))
    end = min(len(pieces), here + rng.choice([1, 1, 2, 5, 20]))
    choice = rng.randrange(9)
    if choice == 0:
        pieces.insert(here, opcode(rng))
    elif choice == 1:
        pieces[here] = opcode(rng)
    elif choice == 2:
        pieces[here] = opcode(rng, pieces[here][0])
    elif choice == 3:
        del pieces[here:end]
    elif choice == 4:
        to = rng.randrange(len(pieces))
        pieces[to:to] = pieces[here:end] * rng.choice([1, 1, 2, 10])
    elif choice == 5:
        to = rng.randrange(len(pieces))
        pieces[here], pieces[to] = pieces[to], pieces[here]
    elif choice == 6:
        other = generate(rng)
        start = rng.randrange(len(other))
        pieces[here:here] = other[start:start + rng.randrange(1, 20)]
    elif choice == 7:
        frame(rng, pieces)
    else:
        piece = bytearray(pieces[here] or b"N")
        piece[rng.randrange(len(piece))] = rng.randrange(256)
        pieces[here] = bytes(piece)


def mutate(data, seed):
    """Another stream, like [data] or quite new."""
    rng = random.Random(seed)
    if not data or rng.random() < 0.1:
        return b"".join(generate(rng))
    pieces = split(data)
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        if pieces:
            change(rng, pieces)
    return b"".join(pieces)


def is_expensive(data):
    """Whether the standard module might allocate gigabytes: for an entry of
    the memo that is far off, or a length that lies."""
    for piece in split(data):
        size, counted, _ = SHAPES[piece[0]]
        if counted or piece[:1] in b"r\x95":
            if int.from_bytes(piece[1:1 + size], "little") > 2**20:
                return True
        elif piece[:1] == b"p" and len(piece) > 8:
            return True
    return False
