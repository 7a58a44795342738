"""The notes of an error of a load: where in the stream, what was being built,
why, and what to do.

The core calls `annotate` after an error (src/decode/loop.c), with what stands
on the stack. No code of the user runs here: texts are made of objects whose
exact types are known.
"""

from __future__ import annotations

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


def _step(container: Any, index: int, key: Any, is_after_mark: bool) -> str:
    """Where in [container] stands the item at [index] above the mark."""
    kind = type(container)
    if kind is list:
        return f"[{len(container) + index}]"
    if kind is dict:
        return f"[{_where.key_text(key)}]" if index % 2 else " -> a key"
    if kind is set:
        return " -> an item of the set"
    return f"[{index}]" if is_after_mark else ""


def _path(pieces: list[tuple[int, Any, Any, Any]], is_call: bool) -> str:
    """Where in the graph the item on top stands; after a call that failed, its
    result would come on top."""
    path = ""
    for number, (size, third, second, top) in enumerate(pieces):
        is_last = number == len(pieces) - 1
        if is_last and is_call:
            index, before, key = size, second, top
            single = top
        else:
            index, before, key = size - 1, third, second
            single = second
        if number:
            if index < 0:
                continue
            path += _step(pieces[number - 1][3], index, key, True)
        elif type(single) is list and index == 1:
            path += f"[{len(single)}]"
        elif type(before) is dict and index == 2:
            path += f"[{_where.key_text(key)}]"
    return path


def _making(failed: Any, pieces: Any) -> tuple[str, Any]:
    """(what was being made, the callable or class)."""
    if failed is None:
        top = pieces[-1][3] if pieces and pieces[-1][0] else None
        if top is None or len(pieces) > 1 and pieces[-1][0] < 1:
            return "", None
        return f"what follows {_show(top)}", None
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


def _modules_beside(name: str) -> list[str]:
    """Names of modules that could be meant by [name]."""
    import pkgutil

    parent, _, last = name.rpartition(".")
    if parent:
        package = sys.modules.get(parent)
        path = getattr(package, "__dict__", {}).get("__path__")
        if path is None:
            return []
        return [f"{parent}.{info.name}" for info in pkgutil.iter_modules(path)]
    names = {info.name for info in pkgutil.iter_modules()}
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
    space = getattr(sys.modules.get(module), "__dict__", {})
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
    if isinstance(callee, type) and issubclass(callee, BaseException):
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
    pieces: list[tuple[int, Any, Any, Any]], failed: Any, protocol: int,
) -> None:
    """Adds the notes.

    Args:
      error: what the load raises.
      place: the core's words: 'opcode REDUCE at byte 34'; None if nothing
        was read.
      data: how the pickle begins, if that is still there.
      pieces: the stack between its marks: number of items, the last three.
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
        path = _path(pieces, failed is not None and failed[0] is not None)
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
