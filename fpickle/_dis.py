"""A disassembler of pickles: what each opcode does, and to what.

The core reads the opcodes; their effects on the stack are those that
opcodes.def lists. Here stand symbolic objects on the stack: nothing of the
stream is imported, called or built. What fpickle writes for a function by
value is recognised and gets its Python signature.
"""

from __future__ import annotations

import _compat_pickle
import dataclasses
import importlib.util
import re
from typing import Any, Iterator

from fpickle import _core
from fpickle._bytecode import Code, CodeError, read_code

OPCODES: dict[int, tuple[str, int, str, str, str, str]] = _core.opcode_table()
_MOST_PARTS = {"tuple": 10_000}  # of a container that are kept
_FEW_PARTS = 256
_LONGEST_TEXT = 120
_LONGEST_NAME = 1000


# ---- what is on the stack ----------------------------------------------------------


class Item:
    """An object that the stream makes, as far as it can be known.

    `kind` is a word of opcodes.def (``int``, ``list``, ...), or ``global``,
    ``call``, ``code``, ``function`` or ``check``. `value` is the value of an
    atom, the dotted name of a global, the `Code` of a code object; of a
    ``check`` the version of Python that it asks for.
    """

    __slots__ = ("kind", "value", "parts", "count", "callee", "extra")

    def __init__(self, kind: str, value: Any = None) -> None:
        self.kind = kind
        self.value = value
        self.parts: list[Item] = []  # the first of them
        self.count = 0  # of all
        self.callee: Item | None = None
        self.extra: dict[str, Item] = {}

    def add(self, *parts: Item) -> None:
        self.count += len(parts)
        most = _MOST_PARTS.get(self.kind, _FEW_PARTS)
        self.parts += parts[: most - len(self.parts)]

    def pairs(self) -> Iterator[tuple[Item, Item]]:
        return zip(self.parts[::2], self.parts[1::2])

    def find(self, key: str) -> Item | None:
        """The value of a str key of a dict."""
        found = None
        for name, value in self.pairs():
            if name.kind == "str" and name.value == key:
                found = value
        return found


def show(item: Item, depth: int = 2) -> str:
    """A short text for [item], as Python would write it where it can."""
    if item.kind in _SHORT_ATOMS:
        return repr(item.value)
    text = _show(item, depth)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."


_SHORT_ATOMS = {"bool", "float", "None"}


def show_value(value: Any) -> str:
    """repr of an atom, of a bounded length."""
    if isinstance(value, (str, bytes, bytearray)) and len(value) > 72:
        return f"{value[:60]!r}... ({len(value)} {'characters' if isinstance(value, str) else 'bytes'})"
    try:
        return repr(value)
    except ValueError:  # more digits than the interpreter writes
        return f"<int of {value.bit_length()} bits>"


def _join(parts: list[Item], count: int, depth: int) -> str:
    if depth <= 0 and parts:
        return "..."
    texts = [_show(part, depth - 1) for part in parts[:6]]
    return ", ".join(texts + ["..."] * (count > 6))


def _show(item: Item, depth: int) -> str:
    kind, count = item.kind, item.count
    if kind == "global":
        name = item.value.removeprefix("builtins.")
        return name if name[:2] != "__" else item.value
    if kind == "function":
        if depth < 2:  # its defaults may hold anything, itself as well
            return f"function {_name(item)}(...)"
        return f"function {signature(item)}"
    if kind == "code":
        return f"code of {item.value.qualname}"
    if kind == "check":
        return f"guard: bytecode of CPython {item.value}"
    if kind == "foreign code":
        return "bytecode of another Python"
    if kind == "call":
        assert item.callee is not None
        if depth <= 0 and item.callee.kind != "global":
            return "<call>"
        return f"{_show(item.callee, 0)}({_join(item.parts, count, depth)})"
    if kind == "tuple":
        comma = "," if count == 1 else ""
        return f"({_join(item.parts, count, depth)}{comma})"
    if kind == "list":
        return f"[{_join(item.parts, count, depth)}]"
    if kind == "dict":
        if depth <= 0 and count:
            return "{...}"
        texts = [
            f"{_show(key, 0)}: {_show(value, depth - 1)}"
            for key, value in list(item.pairs())[:4]
        ]
        return "{" + ", ".join(texts + ["..."] * (count > 8)) + "}"
    if kind in ("set", "frozenset"):
        text = "{" + _join(item.parts, count, depth) + "}" if count else ""
        return f"frozenset({text})" if kind == "frozenset" else text or "set()"
    if kind == "mark":
        return "mark"
    if kind in ("persistent", "extension"):
        return f"<{kind} {item.value}>"
    if kind in ("buffer", "any", "unknown"):
        return f"<{kind}>"
    return show_value(item.value)


def _name(item: Item) -> str:
    return item.extra["name"].value if "name" in item.extra else item.value.qualname


def signature(item: Item) -> str:
    """The signature of a function by value: ``load(path, *, retries=3)``."""
    code: Code = item.value
    extra = item.extra
    hints = extra.get("__annotations__")
    keyword_defaults = extra.get("__kwdefaults__")
    defaults = extra["defaults"].parts if "defaults" in extra else []
    first_default = code.argcount - len(defaults)
    words: list[str] = []
    slash = star = False
    for index, (mark, name) in enumerate(code.parameters()):
        if slash and mark != "/":
            words.append("/")
            slash = False
        if mark == "/":
            slash = True
        if mark == "k" and not star:
            words.append("*")
            star = True
        star = star or mark == "*"
        hint = hints.find(name) if hints is not None else None
        text = mark.strip("/k") + name
        if hint is not None:
            text += f": {_hint(hint)}"
        default = None
        if mark in ("", "/") and first_default <= index < code.argcount:
            default = defaults[index - first_default]
        elif mark == "k" and keyword_defaults is not None:
            default = keyword_defaults.find(name)
        if default is not None:
            equals = " = " if hint is not None else "="
            text += equals + _show(default, 1)
        words.append(text)
    if slash:
        words.append("/")
    returns = hints.find("return") if hints is not None else None
    arrow = f" -> {_hint(returns)}" if returns is not None else ""
    return f"{_name(item)}({', '.join(words)}){arrow}"


def _hint(item: Item) -> str:
    return item.value if item.kind == "str" else _show(item, 1)


# ---- what is recognised ------------------------------------------------------------


def _call(callee: Item, args: Item, guard: bytes) -> Item:
    """What REDUCE leaves: the call, or what it is known to make. [guard] is
    the magic number for bytecode of this pickle."""
    known = _KNOWN_CALLS.get(callee.value) if callee.kind == "global" else None
    made = known(args.parts, guard) if known is not None else None
    if made is not None:
        return made
    call = Item("call")
    call.callee = callee
    call.add(*args.parts)
    call.count = max(args.count, call.count)
    return call


def _call_getattr(parts: list[Item], guard: bytes) -> Item | None:
    if [part.kind for part in parts] == ["global", "str"]:
        return _dotted(parts[0].value, parts[1].value)
    return None


def _call_encode(parts: list[Item], guard: bytes) -> Item | None:
    """How the protocols before 3 write bytes."""
    if len(parts) == 2 and parts[0].kind == "str":
        try:
            return Item("bytes", parts[0].value.encode("latin-1"))
        except UnicodeEncodeError:
            pass
    return None


def _call_guard(parts: list[Item], guard: bytes) -> Item | None:
    """_classify_pyc(HEADER, {"bytecode of 3.13 in": sys.version}, {})"""
    kinds = [part.kind for part in parts]
    if kinds != ["bytes", "dict", "dict"] or parts[1].count != 2:
        return None
    words = parts[1].parts[0]
    match = re.fullmatch(r"bytecode of (\d+\.\d+) in", str(words.value))
    if match is None:
        return None
    check = Item("check", match[1])
    check.add(parts[0])
    return check


def _call_marshal(parts: list[Item], guard: bytes) -> Item | None:
    """Code of this Python is read, by our own reader; no other is."""
    if [part.kind for part in parts] != ["bytes"]:
        return None
    if guard != importlib.util.MAGIC_NUMBER:
        return Item("foreign code")
    try:
        return Item("code", read_code(parts[0].value))
    except CodeError:
        return None


# Of the arguments of types.CodeType, what is read here.
_CODE_KINDS = {
    0: "int", 1: "int", 2: "int", 4: "int", 5: "int", 6: "bytes", 7: "tuple",
    8: "tuple", 9: "tuple", 10: "str", 11: "str", 12: "str", 13: "int",
    16: "tuple", 17: "tuple",
}


def _call_code_type(parts: list[Item], guard: bytes) -> Item | None:
    if not 16 <= len(parts) <= 18:
        return None
    empty = Item("tuple")  # free variables and cells may be left out
    parts = parts + [empty] * (18 - len(parts))
    for index, kind in _CODE_KINDS.items():
        if parts[index].kind.replace("int_or_bool", "int") != kind:
            return None
    for index in (8, 9, 16, 17):
        if any(part.kind != "str" for part in parts[index].parts):
            return None
    numbers = [int(parts[i].value) for i in (0, 1, 2, 4, 5)]
    names, variables, free, cells = (
        tuple(part.value for part in parts[i].parts) for i in (8, 9, 16, 17)
    )
    if min(numbers[:3]) < 0 or not (
        numbers[1] <= numbers[0] <= len(variables) - numbers[2]
    ):
        return None
    locals = variables + tuple(n for n in cells if n not in variables) + free
    return Item("code", Code(
        *numbers,
        code=parts[6].value,
        consts=tuple(map(_constant, parts[7].parts)),
        names=names,
        locals=locals,
        filename=parts[10].value,
        name=parts[11].value,
        qualname=parts[12].value,
        firstlineno=int(parts[13].value),
        runs_here=guard == importlib.util.MAGIC_NUMBER,
    ))


class _Shown:
    """A constant that is known by its text."""

    def __init__(self, item: Item) -> None:
        self.text = show(item)

    def __repr__(self) -> str:
        return self.text


def _constant(item: Item) -> Any:
    if item.kind in ("code", "int", "int_or_bool", "str", "bytes", "float",
                     "bool", "None"):
        return item.value
    return _Shown(item)


def _call_function_type(parts: list[Item], guard: bytes) -> Item | None:
    if len(parts) >= 2 and parts[0].kind == "code":
        return _make_function(parts)
    return None


_KNOWN_CALLS = {
    "_codecs.encode": _call_encode,
    "_frozen_importlib_external._classify_pyc": _call_guard,
    "builtins.getattr": _call_getattr,
    "marshal.loads": _call_marshal,
    "types.CodeType": _call_code_type,
    "types.FunctionType": _call_function_type,
}


def _make_function(parts: list[Item]) -> Item:
    function = Item("function", parts[0].value)
    for name, part in zip(("name", "defaults"), parts[2:]):
        if part.kind in ("str", "tuple"):
            function.extra[name] = part
    return function


def _build(item: Item, state: Item) -> None:
    """BUILD: a function gets its annotations and keyword defaults."""
    if item.kind == "function":
        for part in [state] + (state.parts if state.kind == "tuple" else []):
            if part.kind == "dict":
                for name in ("__annotations__", "__kwdefaults__"):
                    value = part.find(name)
                    if value is not None:
                        item.extra[name] = value
                qualname = part.find("__qualname__")
                if qualname is not None and qualname.kind == "str":
                    item.extra["name"] = qualname


# ---- the machine -------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class Step:
    """One opcode of a pickle, and what it does.

    Attributes:
        pickle: Which pickle of the file this is, from 0.
        offset: Of the opcode, from the start of the data.
        next: The offset behind it.
        name: As in `pickletools`.
        protocol: The first protocol that has the opcode.
        argument: As `pickletools.genops` gives it; None if there is none.
        taken: Texts for what it takes from the stack, lowest first.
        left: Texts for what it leaves there.
        stack_before: Items on the stack, with its marks.
        stack_after: The same after it.
        marks: Marks on the stack before it.
        memo_before: Entries of the memo.
        memo_after: The same after it.
        memo_key: The entry that it reads or writes; None if it does not.
        code: The code object that it makes, as data; None mostly.
    """

    pickle: int
    offset: int
    next: int
    name: str
    protocol: int
    argument: Any
    taken: tuple[str, ...]
    left: tuple[str, ...]
    stack_before: int
    stack_after: int
    marks: int
    memo_before: int
    memo_after: int
    memo_key: int | None
    code: Code | None

    def to_dict(self) -> dict[str, Any]:
        """Strings, numbers and lists; bytes become their repr."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "code"
        }
        argument = self.argument
        if isinstance(argument, (bytes, bytearray)):
            values["argument"] = repr(argument)
        elif isinstance(argument, int) and argument.bit_length() > 10_000:
            values["argument"] = show_value(argument)
        elif isinstance(argument, float) and argument - argument != 0:
            values["argument"] = repr(argument)
        values["taken"], values["left"] = list(self.taken), list(self.left)
        return values


class Machine:
    """The stack and the memo while a pickle is read.

    `step` raises UnpicklingError where the stream makes no sense.
    """

    def __init__(self, data: Any, keep_memo: bool = False) -> None:
        self.data = data
        self.size = len(memoryview(data).cast("B")) if data else 0
        self.keep_memo = keep_memo
        self.offset = 0
        self.pickle = 0
        self.stack: list[Item] = []
        self.marks: list[int] = []  # where they are on the stack
        self.memo: dict[int, Item] = {}
        self.highest = 0  # protocol seen in this pickle
        self.ended = False  # by STOP
        self.guard = b""  # the magic number for bytecode of this pickle

    def fail(self, what: str) -> _core.UnpicklingError:
        return _core.MalformedError(f"{what} at byte {self.offset}")

    def step(self) -> Step:
        """Executes the opcode at `offset`."""
        code, argument, following = _core.read_opcode(self.data, self.offset)
        name, protocol, _, before, after, _ = OPCODES[code]
        depth, marks, entries = len(self.stack), len(self.marks), len(self.memo)
        # Those that write to the memo leave the item where it is.
        taken = [] if name in _KEEPERS else self.take(name, before)
        if name in _KEEPERS:
            texts = tuple(map(show, self.stack[-1:]))
        else:
            texts = tuple(map(show, taken))
        left, key = self.results(name, argument, taken, after.split())
        for item in left:
            if item.kind == "mark":
                self.marks.append(len(self.stack))
            self.stack.append(item)
        self.highest = max(self.highest, protocol)
        made = left[-1] if left else None
        step = Step(
            self.pickle, self.offset, following, name, protocol, argument,
            texts,
            texts if name in _KEEPERS else tuple(map(show, left)), depth, len(self.stack),
            marks, entries, len(self.memo), key,
            made.value if made is not None and name == "REDUCE"
            and made.kind == "code" else None,
        )
        self.offset = following
        self.ended = name == "STOP"
        if name == "STOP":
            self.end()
        return step

    def end(self) -> None:
        self.stack.clear()
        self.marks.clear()
        if not self.keep_memo:
            self.memo = {}
        self.pickle += 1
        self.highest = 0
        self.guard = b""

    def take(self, name: str, before: str) -> list[Item]:
        """Takes from the stack what opcodes.def lists, lowest item first."""
        words = before.split()
        if name == "POP" and self.stack and self.stack[-1].kind == "mark":
            self.marks.pop()
            return [self.stack.pop()]
        above: list[Item] = []
        if words and words[-1] == "mark..":
            if not self.marks:
                raise self.fail(f"{name} finds no mark")
            place = self.marks.pop()
            above = self.stack[place + 1 :]
            del self.stack[place:]
            words.pop()
        count = len(words)
        lowest = self.marks[-1] + 1 if self.marks else 0
        if len(self.stack) - lowest < count:
            raise self.fail(
                f"{name} takes {count} from the stack, which holds "
                f"{len(self.stack) - lowest}"
            )
        rest = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return rest + above

    def results(
        self, name: str, argument: Any, taken: list[Item], after: list[str]
    ) -> tuple[list[Item], int | None]:
        """What the opcode leaves on the stack, and its memo entry."""
        if name in _KEEPERS:
            return [], self.keep(name, argument)
        if name in _FETCHERS:
            if argument not in self.memo:
                raise self.fail(f"{name} finds no memo entry {argument}")
            return [self.memo[argument]], argument
        if name in _IN_PLACE:
            item, parts = taken[0], taken[1:]
            if name in ("SETITEM", "SETITEMS") and len(parts) % 2:
                raise self.fail(f"{name} finds a key without a value")
            if name == "BUILD":
                _build(item, parts[0])
            else:
                item.add(*parts)
            return [item], None
        if name == "DUP":
            return [taken[0], taken[0]], None
        if name == "STACK_GLOBAL":
            return [_stack_global(*taken)], None
        if name in ("GLOBAL", "INST"):
            made = _named(str(argument), self.highest)
            if name == "INST":
                made = _instance(made, taken)
            return [made], None
        if name == "OBJ":
            if not taken:
                raise self.fail("OBJ finds no class above the mark")
            return [_instance(taken[0], taken[1:])], None
        if name in ("REDUCE", "NEWOBJ"):
            made = _call(*taken, self.guard)
            if made.kind == "check":
                self.guard = made.parts[0].value[:4]
            return [made], None
        if name == "NEWOBJ_EX":
            return [_instance(taken[0], taken[1].parts)], None
        if name in ("PERSID", "BINPERSID"):
            value = argument if name == "PERSID" else show(taken[0])
            return [Item("persistent", value)], None
        if name.startswith("EXT"):
            return [Item("extension", argument)], None
        if name == "READONLY_BUFFER":
            return taken, None
        return [_make(word, name, argument, taken) for word in after], None

    def keep(self, name: str, argument: Any) -> int:
        if not self.stack or self.stack[-1].kind == "mark":
            raise self.fail(f"{name} finds nothing on the stack")
        key = len(self.memo) if name == "MEMOIZE" else argument
        self.memo[key] = self.stack[-1]
        return key


_KEEPERS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_FETCHERS = {"GET", "BINGET", "LONG_BINGET"}
_IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}


def _make(word: str, name: str, argument: Any, taken: list[Item]) -> Item:
    """An item of a kind that opcodes.def names: an atom or a container."""
    if word == "None":
        return Item(word)
    if word == "bool":
        return Item(word, name == "NEWTRUE")
    if word == "bytes_or_str":
        return Item("str", argument)
    item = Item(word, argument)
    if word in ("tuple", "list", "dict", "set", "frozenset"):
        item.add(*taken)
    return item


def _named(text: str, protocol: int) -> Item:
    """A global by its two lines; in protocols 0 to 2 they are of Python 2."""
    module, _, name = text.partition(" ")
    if protocol < 3:
        if (module, name) in _compat_pickle.NAME_MAPPING:
            module, name = _compat_pickle.NAME_MAPPING[module, name]
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    return _dotted(module, name)


def _stack_global(module: Item, name: Item) -> Item:
    if module.kind == name.kind == "str":
        return _dotted(module.value, name.value)
    return Item("unknown")


def _dotted(module: str, name: str) -> Item:
    if len(module) + len(name) > _LONGEST_NAME:
        return Item("unknown")
    return Item("global", f"{module}.{name}")


def _instance(callee: Item, parts: list[Item]) -> Item:
    call = Item("call")
    call.callee = callee
    call.add(*parts)
    return call


def disassemble(data: Any, *, keep_memo: bool = False) -> Iterator[Step]:
    """Tells opcode by opcode what a pickle does; executes nothing of it.

    Args:
        data: One pickle or several, one behind the other: bytes, bytearray, a
            memoryview of bytes or an mmap.
        keep_memo: Whether a pickle may use memo entries of those before it,
            as those of one `Pickler` object do.

    Returns:
        An iterator of `Step` objects: offset, name, argument and effects of
        each opcode.

    Raises:
        UnpicklingError: While iterating, where the data are damaged; the
            message ends with the offset. What is readable came before.

    >>> import fpickle
    >>> [step.name for step in fpickle.disassemble(b"\\x80\\x04K\\x05.")]
    ['PROTO', 'BININT1', 'STOP']
    """
    machine = Machine(data, keep_memo)
    if machine.size == 0:
        raise _core.TruncatedError("an empty pickle: it ends at byte 0")
    while machine.offset < machine.size:
        yield machine.step()
    if not machine.ended:
        raise _core.TruncatedError(
            f"the pickle ends without STOP at byte {machine.offset}"
        )

