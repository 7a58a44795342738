"""The notes of an error: where in the graph it happened, why, what to do.

The core calls this module after an error (src/explain/path.c), with the
frames that were open: (kind, object, aux or NotImplemented, position), or a
number for those that are left out. Nothing here runs code of the user: types are asked for by
`type`, attributes through `object` and `type` themselves.
"""

from __future__ import annotations

import ast
import copyreg
import functools
import linecache
import sys
import types
from typing import Any

from fpickle import _reasons

# enum fpk_frame_kind in src/encode/encoder.h
(LIST, TUPLE, DICT, SET, ITEMS, PAIRS, REDUCE, INSTANCE, PERSID,
 BYVALUE) = range(10)

_MOST_SEGMENTS = 32
_LONGEST_KEY = 60
_ATOMS = (str, int, float, complex, bytes, bool, type(None))


class Trail:
    """The way to a culprit, in words, and what of it a remedy may use.

    Attributes:
      words: the parts of the path; those that start with '.' or '[' go on
        from the one before.
      owner: the nearest object around the culprit that is of a class of the
        program, or None.
      around: the object of which the culprit is an attribute, or None.
      holder: (kind, name, function) of the nearest variable that a function
        takes along, or None; kind is 'closure', 'global' or 'default'.
      member: (class, name) of the nearest class attribute, or None.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.split: int | None = None  # where frames were left out
        self.skipped = 0
        self.owner: Any = None
        self.around: Any = None
        self.holder: tuple[str, str, Any] | None = None
        self.member: tuple[type, str] | None = None

    def add(self, word: str) -> None:
        if word:
            self.words.append(word)

    def text(self, root: str) -> str:
        words = self.words
        many = len(words) > _MOST_SEGMENTS
        half = _MOST_SEGMENTS // 2
        result = [root]
        if not many and not self.skipped:
            _join(result, words)
            return "".join(result)
        dropped = len(words) - _MOST_SEGMENTS if many else 0
        _join(result, words[:half] if many else words[:self.split])
        result.append(f" ... {self.skipped + dropped} levels ... ")
        _join(result, words[-half:] if many else words[self.split:])
        return "".join(result)


def _join(result: list[str], words: list[str]) -> None:
    """Appends words to a path; a step behind a word needs an arrow, too."""
    arrow = False
    for number, word in enumerate(words):
        is_step = word[0] in ".["
        begins = number == 0 and result[-1].endswith("levels ... ")
        if (is_step and not arrow) or begins:
            result.append(word)
        else:
            result.append(f" -> {word}")
        arrow = not is_step


# ---- words ---------------------------------------------------------------------


def key_text(key: Any) -> str:
    """repr of a key, if its type is known to run no code of the user."""
    if type(key) is tuple and len(key) < 8 and all(
        type(part) in _ATOMS for part in key
    ):
        text = repr(key)
    elif type(key) in _ATOMS:
        text = repr(key)
    else:
        return f"<{class_name(type(key))}>"
    if len(text) > _LONGEST_KEY:
        return text[:_LONGEST_KEY] + "..."
    return text


def _attribute(key: Any) -> str:
    if type(key) is str and key.isidentifier() and len(key) < 256:
        return f".{key}"
    return f"[{key_text(key)}]"


def class_name(cls: type) -> str:
    return type.__dict__["__name__"].__get__(cls)


def type_name(cls: type, full: bool = True) -> str:
    """Module and qualified name of a class."""
    try:
        module = type.__getattribute__(cls, "__module__")
        name = type.__getattribute__(cls, "__qualname__")
    except AttributeError:
        return class_name(cls)
    if not full:
        return name
    if not isinstance(module, str) or module == "builtins":
        return name
    return f"{module}.{name}"


def place_of(code: types.CodeType) -> str:
    """etl.py:42"""
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{code.co_firstlineno}"


def _function_word(function: Any, kind: str = "function") -> str:
    code = function.__code__
    return f"{kind} {code.co_qualname!r} ({place_of(code)})"


def _module_of(function: Any) -> str:
    name = function.__globals__.get("__name__")
    return name if type(name) is str else "?"


# ---- what hangs on a function, a class, a module ---------------------------------


def _closure_name(function: Any, part: Any) -> str | None:
    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    for name, cell in cells:
        if cell is part:
            return name
        try:
            if cell.cell_contents is part:
                return name
        except ValueError:
            pass
    return None


def _function_part(function: Any, aux: Any, position: int, part: Any, trail):
    """Adds how [part] hangs on [function]; the role of the next frame."""
    space = function.__globals__
    name = None
    if type(aux) is list and 0 < position <= len(aux):
        current = aux[position - 1]
        if type(current) is str and space.get(current) is part:
            name = current
    if name is None:
        found = _closure_name(function, part)
        if found is not None:
            trail.add(f"closure variable {found!r}")
            trail.holder = ("closure", found, function)
            return None
    if part is function.__defaults__:
        return ("defaults", function)
    if part is function.__kwdefaults__:
        return ("keyword defaults", function)
    if type(part) is dict:
        if part is function.__annotations__:
            return ("annotations", function)
        if part is function.__dict__:
            return ("state", function)
    if part is function.__code__:
        return None
    if name is None:
        name = next(
            (key for key, value in space.items()
             if value is part and type(key) is str),
            None,
        )
    if name is not None:
        trail.add(f"global {name!r} of module {_module_of(function)}")
        trail.holder = ("global", name, function)
        return None
    for key, value in function.__dict__.items():
        if value is part:
            trail.add(_attribute(key))
            return None
    return None


def _parts_of_member(value: Any):
    kind = type(value)
    if kind is property:
        return (value.fget, value.fset, value.fdel)
    if kind in (staticmethod, classmethod):
        return (value.__func__,)
    return ()


def _class_part(cls: type, part: Any, trail):
    """Adds how [part] hangs on [cls]; the role of the next frame."""
    if part is None:
        return None
    members = type.__dict__["__dict__"].__get__(cls)
    for name, value in members.items():
        held = _parts_of_member(value)
        if value is not part and not any(item is part for item in held):
            continue
        trail.member = (cls, name)
        if type(value) is property:
            trail.add(f"property {name!r}")
        elif type(part) is types.FunctionType and (
            part.__code__.co_name == name
        ):
            return ("method", cls)
        else:
            trail.add(f"class attribute {name!r}")
        return None
    if any(base is part for base in type.__dict__["__bases__"].__get__(cls)):
        trail.add("base")
    elif type(cls) is part:
        trail.add("metaclass")
    return None


def _byvalue(frame: Any, part: Any, role: Any, trail):
    _, obj, aux, position = frame
    kind = type(obj)
    if kind is types.FunctionType:
        method = role is not None and role[0] == "method"
        trail.add(_function_word(obj, "method" if method else "function"))
        return _function_part(obj, aux, position, part, trail)
    if issubclass(kind, type):
        trail.add(f"class {class_name(obj)!r}")
        return _class_part(obj, part, trail)
    if issubclass(kind, types.ModuleType):
        space = types.ModuleType.__dict__["__dict__"].__get__(obj)
        trail.add(f"module {space.get('__name__')!r}")
        for name, value in space.items():
            if value is part and type(name) is str:
                trail.add(_attribute(name))
                break
        return None
    if kind is types.CellType:
        return None
    if kind is functools._lru_cache_wrapper:
        return None
    trail.add(f"{type_name(kind, False)} object")
    return None


# ---- reductions ------------------------------------------------------------------


def _is_state_pair(state: Any) -> bool:
    """True for (dict or None, dict of slots), what object.__getstate__ gives."""
    return type(state) is tuple and len(state) == 2 and all(
        part is None or type(part) is dict for part in state
    )


def _fields(cls: type) -> tuple[Any, ...]:
    for base in type.__dict__["__mro__"].__get__(cls):
        fields = type.__dict__["__dict__"].__get__(base).get("_fields")
        if type(fields) is tuple:
            return fields if issubclass(cls, tuple) else ()
    return ()


_GROWS = (list, dict, set, frozenset)


def _part(value: Any, i: int) -> Any:
    return value[i] if type(value) is tuple and len(value) > i else None


def _reduction(frame: Any, part: Any, part_kind: Any, trail):
    """The role of what comes next below a reduction or an instance."""
    kind, obj, value, _ = frame
    cls = type(obj)
    _note_owner(obj, trail)
    if part is None:
        return None
    if kind == INSTANCE:
        if part is obj:
            return ("items", obj)
        return None if part is cls else ("state", obj)
    if part is cls:
        return None
    if part is _part(value, 1):
        return ("arguments", obj, value[0])
    if part is _part(value, 2):
        return ("state", obj)
    if part_kind in (ITEMS, PAIRS):
        grows = issubclass(cls, _GROWS) or cls.__module__ == "collections"
        if not grows:
            trail.add(f"reduction of {type_name(cls, False)} object")
        return None
    if part_kind == TUPLE and _part(value, 1):
        return ("arguments", obj, value[0])
    if part_kind == DICT and type(_part(value, 2)) in (dict, tuple):
        return ("state", obj)
    trail.add(f"reduction of {type_name(cls, False)} object")
    if part is _part(value, 0):
        trail.add("callable")
    elif part is _part(value, 5):
        trail.add("state setter")
    else:
        arguments = _part(value, 1)
        if type(arguments) is tuple:
            for number, item in enumerate(arguments):
                if item is part:
                    trail.add(f"argument {number}")
                    break
    return None


def _note_owner(obj: Any, trail) -> None:
    trail.around = obj
    if _reasons.is_of_program(type(obj)):
        trail.owner = obj


def _arguments(frame: Any, role: Any, part: Any, trail):
    """A tuple of arguments of a reduction."""
    _, items, _, position = frame
    _, obj, callable = role
    index, cls = position - 1, type(obj)
    if index < len(items) and items[index] is cls and part is cls:
        return None
    if cls is types.MethodType:
        trail.add(".__self__" if part is obj.__self__ else ".__func__")
        return None
    if callable is copyreg.__newobj__ or (
        items and items[0] is cls and callable is not cls
    ):
        index -= 1
        fields = _fields(cls)
        if 0 <= index < len(fields):
            trail.add(_attribute(fields[index]))
            return None
        if issubclass(cls, tuple):
            trail.add(f"[{index}]")
            return None
    if issubclass(cls, BaseException):
        trail.add(f".args[{index}]")
    elif cls is functools.cached_property:
        trail.add(".func")
    elif cls.__module__ == "builtins":
        return None  # a view or an iterator, of what follows
    else:
        trail.add(f"reduction of {type_name(cls, False)} object")
        trail.add(f"argument {index}")
    return None


def _state_tuple(frame: Any, owner: Any, part: Any, trail):
    _, items, _, position = frame
    index = position - 1
    if _reasons.is_a(owner, functools.partial) and len(items) == 4:
        if index == 0:
            trail.add(".func")
        elif index == 1:
            trail.add(".args")
        elif index == 2:
            trail.add(".keywords")
            return None
        return ("state", owner) if index == 3 else None
    if _is_state_pair(items):
        return ("state", owner)
    trail.add("state")
    trail.add(f"[{index}]")
    return None


# ---- the walk over the frames ------------------------------------------------------


def find_trail(frames: list[Any], culprit: Any, has_culprit: bool) -> Trail:
    """Words for the frames from the root to the culprit."""
    trail, role = Trail(), None
    for i, frame in enumerate(frames):
        if type(frame) is int:
            trail.split, trail.skipped, role = len(trail.words), frame, None
            continue
        following = frames[i + 1] if i + 1 < len(frames) else None
        if type(following) is tuple:
            part, part_kind = following[1], following[0]
        else:
            part = culprit if following is None and has_culprit else None
            part_kind = None
        role = _describe(frame, role, part, part_kind, trail)
    return trail


def _describe(frame: Any, role: Any, part: Any, part_kind: Any, trail):
    """Adds the words of one frame; returns what the next one is for it."""
    kind, obj, aux, position = frame
    index = max(position - 1, 0)
    word = role[0] if role is not None else None
    if kind == BYVALUE:
        trail.around = None
        return _byvalue(frame, part, role, trail)
    if kind in (REDUCE, INSTANCE):
        return _reduction(frame, part, part_kind, trail)
    if word != "state":
        trail.around = None
    if kind == TUPLE:
        if word == "arguments":
            return _arguments(frame, role, part, trail)
        if word == "state":
            return _state_tuple(frame, role[1], part, trail)
        if word == "items":
            fields = _fields(type(obj))
            trail.add(
                _attribute(fields[index]) if index < len(fields)
                else f"[{index}]"
            )
            return None
        if word == "defaults":
            code = role[1].__code__
            names = code.co_varnames[:code.co_argcount]
            name = names[len(names) - len(obj) + index]
            trail.add(f"default of argument {name!r}")
            trail.holder = ("default", name, role[1])
            return None
        trail.add(f"[{index}]")
    elif kind in (LIST, ITEMS):
        if kind == LIST and word == "state":
            trail.add("state")
        trail.add(f"[{index}]")
    elif kind == DICT:
        if aux is NotImplemented or aux is part and aux is not None:
            trail.add("a key")
        elif word == "keyword defaults":
            trail.add(f"default of keyword {key_text(aux)}")
            trail.holder = ("default", aux, role[1])
        elif word == "annotations":
            trail.add(f"annotation of {key_text(aux)}")
        elif word == "state":
            trail.add(_attribute(aux))
        else:
            trail.add(f"[{key_text(aux)}]")
    elif kind == SET:
        trail.add("an item of the set")
    elif kind == PAIRS:
        if type(aux) is tuple and aux:
            if aux[0] is part:
                trail.add("a key")
            else:
                trail.add(f"[{key_text(aux[0])}]")
        else:
            trail.add("a pair")
    elif kind == PERSID:
        trail.add("its persistent id")
    return None


# ---- the name that the caller used ------------------------------------------------


_INSIDE = ("fpickle.", "multiprocessing.", "concurrent.futures.")


def _is_plain(node: ast.AST) -> bool:
    """True for names with attributes and simple subscripts behind them."""
    while True:
        if isinstance(node, ast.Name):
            return True
        if isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.Subscript) and isinstance(
            node.slice, (ast.Constant, ast.Name, ast.UnaryOp)
        ):
            node = node.value
        else:
            return False


def _call_text(frame: types.FrameType) -> str | None:
    """The source of the call that [frame] is in."""
    if frame.f_lasti < 0:
        return None
    positions = list(frame.f_code.co_positions())
    place = positions[frame.f_lasti // 2]
    first, last, start, end = place
    if first is None or last is None or start is None or end is None:
        return None
    if last - first > 50:
        return None
    file = frame.f_code.co_filename
    lines = [
        linecache.getline(file, number, frame.f_globals).encode()
        for number in range(first, last + 1)
    ]
    if not all(lines):
        return None
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return b"".join(lines).decode("utf-8", "replace")


_names_in_calls: dict[tuple[types.CodeType, int], str | None] = {}
_MOST_NAMES_KEPT = 256


def _name_in_call(frame: types.FrameType) -> str | None:
    """The first argument of the call that [frame] is in, if it is a name."""
    key = frame.f_code, frame.f_lasti
    if key not in _names_in_calls:
        if len(_names_in_calls) >= _MOST_NAMES_KEPT:
            _names_in_calls.clear()
        _names_in_calls[key] = _find_name_in_call(frame)
    return _names_in_calls.get(key)


def _find_name_in_call(frame: types.FrameType) -> str | None:
    text = _call_text(frame)
    if text is None:
        return None
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(call, ast.Call) or not call.args:
        return None
    first = call.args[0]
    if not _is_plain(first):
        return None
    name = ast.unparse(first)
    return name if len(name) <= 80 else None


def _name_in(space: dict[str, Any], obj: Any) -> str | None:
    """The one name that is bound to exactly [obj]."""
    names = [
        name for name, value in list(space.items())
        if value is obj and type(name) is str and not name.startswith("_")
    ]
    return names[0] if len(names) == 1 else None


def root_name(root: Any, frame: types.FrameType | None) -> str:
    """What the caller calls the object: 'tasks', 'self.jobs', or 'obj'."""
    direct = True
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if type(module) is not str or not (module + ".").startswith(_INSIDE):
            break
        frame, direct = frame.f_back, False
    if frame is None:
        return "obj"
    if direct:
        text = _name_in_call(frame)
        if text is not None:
            return text
    if type(root) in _ATOMS:
        return "obj"
    return _name_in(frame.f_locals, root) or "obj"


# ---- notes ------------------------------------------------------------------------


def _write(
    error: BaseException, path: str, why: str, remedies: list[str]
) -> None:
    """Notes at:, why: and do:; reasons that stand there already stay."""
    notes = getattr(error, "__notes__", None)
    if type(notes) is not list:
        notes = []
    has = {
        line.partition(":")[0]
        for note in notes if type(note) is str
        for line in note.splitlines()
    }
    if "at" in has:
        error.add_note(f"at: {path}")
        return
    kept = list(notes)
    if "why" in has:
        for number, note in enumerate(kept):
            if type(note) is str and note.startswith("why: "):
                break
        else:
            number, note = -1, ""
        if number >= 0 and "do" not in has and "\n" not in note:
            # From the core: "why: reason. Remedy"
            del kept[number]
            reason, _, rest = note[5:].partition(". ")
            why = reason
            if rest:
                last = rest[:1].lower() + rest[1:]
                remedies = [
                    text for text in remedies if text not in rest
                ]
                remedies.insert(0, last)
            has.discard("why")
    new = [f"at: {path}"]
    if "why" not in has and why:
        new.append(f"why: {why}")
    if "do" not in has and remedies:
        new.append("do: " + ", or ".join(remedies))
    error.__notes__ = new + kept


def path_of(
    frames: list[Any], culprit: Any, has_culprit: bool, root: Any,
    by_value: int, protocol: int, error: Any,
) -> str:
    """The path alone."""
    return find_trail(frames, culprit, has_culprit).text("obj")


def _annotate(frames, culprit, has_culprit, by_value, protocol, error, root):
    trail = find_trail(frames, culprit, has_culprit)
    if not has_culprit and frames and type(frames[-1]) is tuple:
        culprit, has_culprit = frames[-1][1], True
    why, remedies = _reasons.explain(
        error, culprit, has_culprit, trail, bool(by_value), protocol
    )
    _write(error, trail.text(root), why, remedies)


def annotate_problem(
    frames: list[Any], culprit: Any, has_culprit: bool, root: Any,
    by_value: int, protocol: int, error: BaseException,
) -> None:
    """The notes of a problem in a report, whose root is always 'obj'."""
    _annotate(frames, culprit, has_culprit, by_value, protocol, error, "obj")


def annotate(
    frames: list[Any], culprit: Any, has_culprit: bool, root: Any,
    by_value: int, protocol: int, error: BaseException,
) -> None:
    """The notes of an error that a dump raises."""
    name = root_name(root, sys._getframe(1))
    _annotate(frames, culprit, has_culprit, by_value, protocol, error, name)
