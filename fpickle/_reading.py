"""The notes of an error of a load: where in the stream, what was being built,
why, and what to do.

The core calls `annotate` after an error (src/decode/loop.c), with what stands
on the stack. No code of the user runs here: texts are made of objects whose
exact types are known.
"""

from __future__ import annotations

import functools
import re
import sys
import types
from typing import Any

from fpickle import _reasons, _where

_NO_ATTRIBUTE = re.compile(
    r"Can't get (?:local )?attribute '([^']+)' on <module '([^']+)'"
)
_ARGUMENTS = re.compile(
    r"(?:missing \d+ required|takes .*positional argument|"
    r"unexpected keyword argument|takes no arguments|expected \d+ argument)"
)
_WRITER = re.compile(rb"bytecode of (\d+\.\d+)")


def _show(value: Any) -> str:
    """A short text for an object of the stream."""
    kind = type(value)
    if kind in _where._ATOMS or kind is tuple:
        return _where.key_text(value)
    if issubclass(kind, type):
        return _where.type_name(value)
    if kind in (types.FunctionType, types.BuiltinFunctionType):
        return _name_of(value)
    if kind in (list, dict, set):
        return f"<{kind.__name__} of {len(value)}>"
    return f"<{_where.type_name(kind)}>"


def _name_of(function: Any) -> str:
    module, name = function.__module__, function.__qualname__
    return name if module in (None, "builtins") else f"{module}.{name}"


_CALLABLES = (type, types.FunctionType, types.BuiltinFunctionType)


def _is_built(items: list[Any], at: int) -> bool:
    """True if the dict at [at] becomes the state of the object below it."""
    return at > 0 and _reasons.is_of_program(type(items[at - 1]))


def _key_step(items: list[Any], at: int, key: Any) -> tuple[str, int]:
    """The step from the dict at [at] to its value; where the way goes on."""
    if _is_built(items, at):
        return _where._attribute(key), at - 1
    return f"[{_where.key_text(key)}]", at


def _steps(items: list[Any], at: int) -> tuple[list[str], int]:
    """Steps to the item at [at] from what it becomes a part of without a mark;
    where that stands. The last step comes first."""
    steps = []
    while True:
        if at >= 2 and type(items[at - 2]) is dict and not items[at - 2] and (
            type(items[at - 1]) in _where._ATOMS
        ):
            step, at = _key_step(items, at - 2, items[at - 1])
            steps.append(step)
        elif at >= 1 and type(items[at - 1]) is list and not items[at - 1]:
            steps.append("[0]")
            at -= 1
        elif at >= 1 and any(
            _reasons.is_a(items[at - 1], kind) for kind in _CALLABLES
        ):
            steps.append(f" -> argument 0 of {_show(items[at - 1])}")
            at -= 1
        else:
            return steps, at


def _path(pieces: list[tuple[int, list[Any]]], is_new: bool) -> str:
    """Where in the graph stands what is on top, or if [is_new], what would
    come on top next. Told from the innermost piece outwards."""
    path: list[str] = []
    at = len(pieces[-1][1]) if is_new else len(pieces[-1][1]) - 1
    for number in range(len(pieces) - 1, -1, -1):
        size, items = pieces[number]
        if at < 0:
            return ""
        steps, at = _steps(items, at)
        path += steps
        if number == 0:
            if at > 0:
                path.append(f"[{at}]")  # of a tuple of two or three
            break
        index = at + size - len(items)
        below = pieces[number - 1][1]
        container = below[-1] if below else None
        outer = len(below) - 1
        if type(container) is list:
            path.append(f"[{len(container) + index}]")
        elif type(container) is dict:
            if index % 2 and at > 0:
                step, outer = _key_step(below, outer, items[at - 1])
                path.append(step)
            else:
                path.append(" -> a key")
        elif type(container) is set:
            path.append(" -> an item of the set")
        else:
            path.append(f"[{index}]")
            outer = len(below)  # a tuple that stands nowhere yet
        at = outer
    return "".join(reversed(path))


def _making(failed: Any, pieces: Any) -> tuple[str, Any]:
    """(what was being made, the callable or class)."""
    if failed is None:
        items = pieces[-1][1] if pieces else []
        return (f"what follows {_show(items[-1])}" if items else "", None)
    first, second = failed
    if first is None:
        return (
            f"the state of a {_where.type_name(type(second))} object",
            type(second),
        )
    if type(first) is str and type(second) is str:
        return f"{first}.{second}", None
    args = ", ".join(_show(part) for part in second[:6]) if (
        type(second) is tuple
    ) else "..."
    return f"{_show(first)}({args})", first


def _written(data: bytes | None, protocol: int) -> str:
    """What can be told of the writer."""
    parts = []
    if protocol > 1:
        since = {2: "2.3", 3: "3.0", 4: "3.4", 5: "3.8"}.get(protocol)
        parts.append(
            f"protocol {protocol}"
            + (f", of Python {since} or later" if since else "")
        )
    else:
        parts.append("protocol 0 or 1")
    found = _WRITER.search(data or b"")
    if found:
        parts.append(f"bytecode of Python {found.group(1).decode()}")
    version = "{}.{}".format(*sys.version_info)
    return f"written in {', with '.join(parts)}; read by Python {version}"


# ---- why --------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _top_modules(path: tuple[str, ...]) -> frozenset[str]:
    """What can be imported without a package, found once for each sys.path."""
    import pkgutil

    return frozenset(info.name for info in pkgutil.iter_modules())


def _modules_beside(name: str) -> list[str]:
    """Names of modules that could be meant by [name]."""
    import pkgutil

    parent, _, last = name.rpartition(".")
    if parent:
        package = sys.modules.get(parent)
        path = _reasons._members(package).get("__path__")
        if path is None:
            return []
        return [f"{parent}.{info.name}" for info in pkgutil.iter_modules(path)]
    names = _top_modules(tuple(map(str, sys.path)))
    return [*names, *sys.stdlib_module_names, *sys.modules]


def _missing_module(error: ModuleNotFoundError):
    name = error.name or ""
    near = _reasons._close(name, _modules_beside(name))
    remedies = [f"install {name} here, or put it on sys.path"]
    if near:
        remedies.insert(0, f"is it {near}, the nearest name here? then say "
                        "so in find_class of an Unpickler, or import it as "
                        f"sys.modules[{name!r}]")
    remedies.append(
        "let the writer send it by value: "
        f"fpickle.register_by_value({name.partition('.')[0]})"
    )
    return (
        f"the pickle refers to module {name}, which is not here",
        remedies,
    )


def _missing_attribute(name: str, module: str):
    space = _reasons._members(sys.modules.get(module))
    near = _reasons._close(name.rpartition(".")[2], space)
    remedies = []
    if near:
        remedies.append(f"{module}.{near} is the nearest name: if it was "
                        f"renamed, leave the old name: {name} = {near}")
    if module in ("__main__", "__mp_main__"):
        remedies += [
            "dump with fpickle, which sends what __main__ defines by value",
            "define it in a module that both sides import",
        ]
        return (
            f"the writer's {module} has {name}; the {module} of this process "
            "is another program",
            remedies,
        )
    remedies += [
        f"use the version of {module} that the writer had",
        f"let the writer send it by value: fpickle.register_by_value({module})",
    ]
    return (
        f"module {module} has no {name} here: it was renamed, moved or "
        "deleted since the pickle was written",
        remedies,
    )


def _wrong_arguments(callee: Any):
    if _reasons.is_a(callee, type) and BaseException in _reasons._mro(
        callee
    ):
        return (
            f"an exception is made again as {_where.class_name(callee)}"
            "(*self.args), and __init__ wants other arguments than those that "
            "it gave to super().__init__",
            ["give all arguments to super().__init__ in __init__",
             "define __reduce__", "dump with fpickle, which does not call "
             "__init__ of such exceptions"],
        )
    name = _show(callee) if callee is not None else "the class"
    return (
        f"{name} is called with the arguments that its reduction gave, and "
        "takes others here",
        [f"use the version of {name.rpartition('.')[0] or 'the module'} that "
         "the writer had",
         "define __reduce__ or __getnewargs__ for its arguments"],
    )


def _explain(error: BaseException, callee: Any):
    text = _reasons._text_of(error)
    if isinstance(error, ModuleNotFoundError):
        return _missing_module(error)
    match = _NO_ATTRIBUTE.search(text)
    if match:
        return _missing_attribute(*match.groups())
    if isinstance(error, EOFError) and text == "Ran out of input":
        return (
            "there is nothing to read: the file is empty, at its end, or was "
            "not closed by its writer yet",
            ["look at the size of the file, and go back to its start: "
             "file.seek(0)"],
        )
    if "truncated" in text:
        return (
            "the pickle ends before its STOP: a part of it was not written "
            "or not sent",
            ["close or flush the file before it is read",
             "read as many bytes as were sent"],
        )
    if "protocol" in text and "unsupported" in text:
        return (
            "it was written by a later version of Python, or is no pickle",
            ["write it with a protocol that this Python knows: "
             "dumps(obj, protocol=5)"],
        )
    if "bytecode" in text:
        return (
            "bytecode belongs to one version of Python",
            ["dump with portable=True, which sends the source, too",
             "read it with the version that wrote it"],
        )
    if isinstance(error, ImportError):
        return (
            "the import of a module that the pickle refers to failed",
            ["import it by itself to see more"],
        )
    if isinstance(error, TypeError) and (
        _ARGUMENTS.search(text) or "argument" in text
    ):
        return _wrong_arguments(callee)
    if isinstance(error, RecursionError) and "__getattr__" in \
            _reasons._source_of(error):
        return _reasons._recursion(None, error, None, None, True)
    source = _reasons._source_of(error)
    if source:
        detail = f": {text[:200]}" if text else ""
        return (
            f"{source} raised {type(error).__name__}{detail}",
            [f"correct {source.partition(' ')[0]}"],
        )
    if "opcode" in text or "STACK_GLOBAL" in text or "underflow" in text or (
        "MARK" in text or "memo" in text.lower()
    ):
        return (
            "this is no pickle, or a damaged one",
            ["open the file in mode 'rb', not as text", "look at it: "
             "fpickle dis FILE"],
        )
    return "", []


def annotate(
    error: BaseException, place: str | None, data: bytes | None,
    pieces: list[tuple[int, list[Any]]], failed: Any, protocol: int,
) -> None:
    """Adds the notes.

    Args:
      error: what the load raises.
      place: the core's words: 'opcode REDUCE at byte 34'; None if nothing
        was read.
      data: how the pickle begins, if that is still there.
      pieces: the stack between its marks: number of items, the last of them.
      failed: (callable, arguments), (module, name), (None, object whose state
        was being set) or None.
      protocol: of the pickle, as far as it says so.
    """
    notes = getattr(error, "__notes__", None) or []
    if any(type(note) is str and note.startswith("at: ") for note in notes):
        return  # a load within the load has said it
    what, callee = _making(failed, pieces)
    if place is not None:
        note = f"at: {place}"
        path = _path(pieces, failed is None or failed[0] is not None)
        if path:
            note += f", in obj{path}"
        if what:
            note += f", while making {what[:200]}"
        error.add_note(note)
    why, remedies = _explain(error, callee)
    if why:
        error.add_note(f"why: {why}")
    if remedies:
        error.add_note("do: " + ", or ".join(remedies))
    if place is not None:
        error.add_note(f"stream: {_written(data, protocol)}")
