"""Code objects as data: what a disassembler may make of them.

A real code object is not made, because code of a stream that was made to harm
could crash the interpreter. For those that marshal wrote, there is a reader
that checks every length, because marshal trusts its input; it knows the layout
of CPython 3.11 and later, and is for bytes whose magic number is that of the
running Python.
"""

from __future__ import annotations

import dataclasses
import dis
import struct
import sys
from typing import Any, Iterator

_DEEPEST = 100
_FLAG_REF = 0x80
_VARARGS, _VARKEYWORDS = 0x04, 0x08  # co_flags


class CodeError(ValueError):
    """The bytes are no code object that this Python could have written."""


@dataclasses.dataclass
class Code:
    """A code object, as data; nothing of it can run."""

    argcount: int
    posonlyargcount: int
    kwonlyargcount: int
    stacksize: int
    flags: int
    code: bytes
    consts: tuple[Any, ...]
    names: tuple[str, ...]
    locals: tuple[str, ...]
    filename: str
    name: str
    qualname: str
    firstlineno: int
    runs_here: bool = True  # it is of the running version of Python

    def parameters(self) -> Iterator[tuple[str, str]]:
        """(mark, name): the mark is '', '/', 'k' for keyword only, '*' or
        '**'."""
        names = iter(self.locals)
        for index in range(self.argcount):
            yield "/" if index < self.posonlyargcount else "", next(names, "?")
        keywords = [next(names, "?") for _ in range(self.kwonlyargcount)]
        if self.flags & _VARARGS:
            yield "*", next(names, "?")
        for name in keywords:
            yield "k", name
        if self.flags & _VARKEYWORDS:
            yield "**", next(names, "?")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0
        self.depth = 0
        self.references: list[Any] = []

    def take(self, length: int) -> bytes:
        if not 0 <= length <= len(self.data) - self.offset:
            raise CodeError("a code object ends too early")
        self.offset += length
        return self.data[self.offset - length : self.offset]

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def read(self) -> Any:
        first = self.take(1)[0]
        kind, slot = chr(first & ~_FLAG_REF), None
        if first & _FLAG_REF and kind != "r":
            slot = len(self.references)
            self.references.append(None)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise CodeError("a code object is nested too deep")
        value = self.value(kind)
        self.depth -= 1
        if slot is not None:
            self.references[slot] = value
        return value

    def items(self, count: int) -> list[Any]:
        if not 0 <= count <= len(self.data) - self.offset:
            raise CodeError("a code object ends too early")
        return [self.read() for _ in range(count)]

    def value(self, kind: str) -> Any:
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind == "i":
            return self.int32()
        if kind == "l":
            return self.long()
        if kind == "g":
            return struct.unpack("<d", self.take(8))[0]
        if kind == "y":
            return complex(*struct.unpack("<dd", self.take(16)))
        if kind == "s":
            return self.take(self.int32())
        if kind in "aA":
            return self.take(self.int32()).decode("latin-1")
        if kind in "zZ":
            return self.take(self.take(1)[0]).decode("latin-1")
        if kind in "ut":
            return self.take(self.int32()).decode("utf-8", "surrogatepass")
        if kind == ")":
            return tuple(self.items(self.take(1)[0]))
        if kind == "(":
            return tuple(self.items(self.int32()))
        if kind in "<>[":
            return _Group(kind, self.items(self.int32()))
        if kind == "r":
            index = self.int32()
            if not 0 <= index < len(self.references):
                raise CodeError("a code object refers to nothing")
            return self.references[index]
        if kind == "c":
            return self.code()
        raise CodeError(f"a code object holds an unknown type {kind!r}")

    def long(self) -> int:
        count = self.int32()
        digits = struct.unpack(f"<{abs(count)}H", self.take(2 * abs(count)))
        number = sum(digit << 15 * i for i, digit in enumerate(digits))
        return -number if count < 0 else number

    def expect(self, kind: type) -> Any:
        value = self.read()
        if not isinstance(value, kind):
            raise CodeError("a code object is not laid out as one")
        return value

    def names(self) -> tuple[str, ...]:
        names = self.expect(tuple)
        if not all(isinstance(name, str) for name in names):
            raise CodeError("a code object is not laid out as one")
        return names

    def kinds_and_filename(self) -> str:
        self.expect(bytes)  # which of the locals are cells
        return self.expect(str)

    def code(self) -> Code:
        numbers = [self.int32() for _ in range(5)]
        if min(numbers[:4]) < 0:
            raise CodeError("a code object is not laid out as one")
        code = Code(
            *numbers,
            code=self.expect(bytes),
            consts=self.expect(tuple),
            names=self.names(),
            locals=self.names(),
            filename=self.kinds_and_filename(),
            name=self.expect(str),
            qualname=self.expect(str),
            firstlineno=self.int32(),
        )
        self.expect(bytes)  # the lines
        self.expect(bytes)  # the exception table
        count = code.argcount + code.kwonlyargcount
        if code.posonlyargcount > code.argcount or count > len(code.locals):
            raise CodeError("a code object is not laid out as one")
        return code


class _Group:
    """A set, a frozenset or a list, whose items may be unhashable here."""

    def __init__(self, kind: str, items: list[Any]) -> None:
        self.kind, self.items = kind, items

    def __repr__(self) -> str:
        items = ", ".join(map(repr, self.items))
        if self.kind == "[":
            return f"[{items}]"
        text = "{" + items + "}" if items else ""
        return f"frozenset({text})" if self.kind == ">" else text or "set()"


_CONSTANTS = {
    "0": None, "N": None, "F": False, "T": True, "S": StopIteration,
    ".": Ellipsis,
}


def read_code(data: bytes) -> Code:
    """Reads what marshal wrote for a code object.

    Raises:
        CodeError: It is none, or it is damaged.
    """
    reader = _Reader(data)
    try:
        return reader.expect(Code)
    except UnicodeDecodeError as error:
        raise CodeError("a name in a code object is no text") from error


# ---- bytecode ---------------------------------------------------------------------

# How far the index in an argument is shifted: flags are below it.
_SHIFTS = {"LOAD_GLOBAL": 1}
if "LOAD_SUPER_ATTR" in dis.opmap:  # these came together
    _SHIFTS.update(LOAD_ATTR=1, LOAD_SUPER_ATTR=2)
_COMPARE_SHIFT = {11: 0, 12: 4}.get(sys.version_info[1], 5)


def _pick(items: Any, index: int) -> str:
    if 0 <= index < len(items):
        return show_constant(items[index])
    return "?"


def show_constant(value: Any) -> str:
    """repr of what a code object can hold, cut to a line."""
    if isinstance(value, Code):
        return f"<code {value.qualname}>"
    try:
        text = repr(value)
    except ValueError:  # an int of too many digits
        text = "<large int>"
    return text if len(text) <= 60 else text[:57] + "..."


def _meaning(code: Code, opcode: int, name: str, argument: int) -> str:
    if opcode in dis.hasconst:
        return _pick(code.consts, argument)
    if opcode in dis.hasname:
        index = argument >> _SHIFTS.get(name, 0)
        return code.names[index] if index < len(code.names) else "?"
    if opcode in dis.haslocal or opcode in dis.hasfree:
        # Since 3.13 one instruction may work on two locals.
        both = name.count("_FAST") + name.startswith("FAST") == 2
        indices = (argument >> 4, argument & 15) if both else (argument,)
        return ", ".join(
            code.locals[i] if i < len(code.locals) else "?" for i in indices
        )
    if opcode in dis.hascompare:
        index = argument >> _COMPARE_SHIFT
        return dis.cmp_op[index] if index < len(dis.cmp_op) else "?"
    return ""


def list_instructions(code: Code) -> Iterator[tuple[int, str, str, str]]:
    """(offset, name, argument, meaning) of the bytecode; inline caches are
    left out."""
    cache = dis.opmap.get("CACHE")
    extended = dis.opmap["EXTENDED_ARG"]
    wide = 0
    for offset in range(0, len(code.code) - 1, 2):
        opcode, argument = code.code[offset], code.code[offset + 1] | wide
        if opcode == cache:
            continue
        wide = (argument << 8) & 0xFFFFFFFF if opcode == extended else 0
        if opcode == extended:
            continue
        name = dis.opname[opcode]
        has = opcode >= dis.HAVE_ARGUMENT
        yield (
            offset,
            name,
            str(argument) if has else "",
            _meaning(code, opcode, name, argument) if has else "",
        )
