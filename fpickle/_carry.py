"""Errors on their way between processes.

`install` calls this module where a message cannot be written or read. The
standard library would print such an error in a thread of its own, or lose it,
and whoever waits for the message would wait for ever. Here the error takes
the place of the message: it is raised where the object would have come out.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from fpickle import _core


def raise_error(error: BaseException, *ignored: Any, **also: Any) -> Any:
    """Raises what a message could not be; called by its reader."""
    raise error


class _Raising:
    """Raises an error where it is loaded."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return raise_error, (self.error,)


def _portable(error: BaseException) -> BaseException:
    """The error, or one with its text if it cannot be sent itself."""
    try:
        copy = _core.loads(_core.dumps(error))
        if type(copy) is type(error):
            return error
    except Exception:
        pass
    other = _core.PicklingError(f"{type(error).__name__}: {error}")
    other.__notes__ = [str(note) for note in getattr(error, "__notes__", ())]
    return other


# ---- the words of the user for a message ---------------------------------------


def _pool_words(task: Any) -> list[tuple[str, str]]:
    function = getattr(task[2], "__name__", "")
    if function in ("mapstar", "starmapstar"):
        return [
            (r"\[3\]\[0\]\[0\]", "function"),
            (r"\[3\]\[0\]\[1\]", f"iterable: chunk {task[1]}, item"),
        ]
    return [(r"\[2\]", "function"), (r"\[3\]", "args"), (r"\[4\]", "kwds")]


def _words(message: Any) -> list[tuple[str, str]]:
    """(what a path in the message begins with, what it is to the user)."""
    kind = type(message)
    if kind is tuple and len(message) == 5 and callable(message[2]):
        return _pool_words(message)
    if _is_pool_result(message):
        return [(r"\[2\]\[1\]", "result")]
    if kind.__module__ == "concurrent.futures.process":
        if kind.__name__ == "_CallItem":
            chunk = getattr(getattr(message.fn, "func", None), "__name__", "")
            if chunk == "_process_chunk":
                return [(r"\.fn\.args\[0\]", "function"),
                        (r"\.args\[0\]", "iterable: chunk item")]
            return [(r"\.fn", "function"), (r"\.args", "args"),
                    (r"\.kwargs", "kwargs")]
        if kind.__name__ == "_ResultItem":
            return [(r"\.(?:result|exception)", "result")]
    process = sys.modules.get("multiprocessing.process")
    if process is not None and issubclass(kind, process.BaseProcess):
        return [(r"\._target", "target"), (r"\._args", "args"),
                (r"\._kwargs", "kwargs")]
    return []


def rename(error: BaseException, message: Any) -> None:
    """Lets the path of an error begin with what the user knows."""
    notes = getattr(error, "__notes__", None)
    if type(notes) is not list:
        return
    words = _words(message)
    for number, note in enumerate(notes):
        if type(note) is not str or not note.startswith("at: "):
            continue
        for start, word in words:
            match = re.match(rf"at: \w+{start}", note)
            if match:
                notes[number] = f"at: {word}{note[match.end():]}"
                break


# ---- messages that cannot be written ---------------------------------------------


def _is_pool_result(message: Any) -> bool:
    return (
        type(message) is tuple and len(message) == 3
        and type(message[2]) is tuple and len(message[2]) == 2
        and type(message[2][0]) is bool
    )


def _called_by(frame: Any, module: str, name: str) -> bool:
    return (
        frame is not None and frame.f_code.co_name == name
        and frame.f_globals.get("__name__") == module
    )


def _short(error: BaseException) -> str:
    text = repr(error)
    for note in getattr(error, "__notes__", ()):
        if str(note).startswith("at: "):
            return f"{text} {note}"
    return text


def replace_message(error: BaseException, message: Any, frame: Any) -> Any:
    """What to send instead of a message that cannot be written.

    Called while [error] is handled.

    Args:
      error: why it cannot be written.
      message: the object.
      frame: the frame that called ForkingPickler.dumps.

    Returns None if the caller is to get the error.
    """
    rename(error, message)
    if _called_by(frame, "multiprocessing.queues", "_feed"):
        queues = sys.modules["multiprocessing.queues"]
        on_error = frame.f_locals.get("onerror")
        if on_error is not queues.Queue._on_queue_feeder_error:  # type: ignore
            return None  # an executor tells its future
        on_error(error, message)
        return _Raising(_portable(error))
    if _is_pool_result(message) and _called_by(
        frame.f_back, "multiprocessing.pool", "worker"
    ):
        pool = sys.modules["multiprocessing.pool"]
        job, number, (_, value) = message
        wrapped = pool.MaybeEncodingError(error, value)  # type: ignore
        wrapped.exc = _short(error)
        wrapped.args = (wrapped.exc, wrapped.value)
        wrapped.__notes__ = [
            str(note) for note in getattr(error, "__notes__", ())
        ]
        return job, number, (False, wrapped)
    return None


# ---- messages that cannot be read ------------------------------------------------


def _first_atoms(data: Any, most: int = 40) -> list[Any]:
    """The texts, ints and None that a stream begins with."""
    atoms: list[Any] = []
    offset = 0
    opcodes = _core.opcode_table()
    try:
        for _ in range(most):
            code, argument, offset = _core.read_opcode(data, offset)
            name = opcodes[code][0]
            if name == "NONE":
                atoms.append(None)
            elif name not in ("PROTO", "FRAME") and type(argument) in (
                int, str
            ) and "PUT" not in name and "GET" not in name:
                atoms.append(argument)
    except Exception:
        pass
    return atoms


def _work_id(data: Any) -> int | None:
    atoms = _first_atoms(data)
    for name, value in zip(atoms, atoms[1:]):
        if name == "work_id" and type(value) is int:
            return value
    return None


def replace_object(error: BaseException, data: Any, frame: Any) -> Any:
    """What to return instead of a message that cannot be read; None if the
    caller is to get the error.

    Args:
      error: why it cannot be read.
      data: the message.
      frame: the frame that called ForkingPickler.loads.
    """
    # What is returned holds the error, and its traceback would hold the frame
    # that returns it. The notes say enough.
    behind = frame.f_back
    in_worker = _called_by(behind, "multiprocessing.pool", "worker")
    if in_worker or _called_by(
        behind, "multiprocessing.pool", "_handle_results"
    ):
        atoms = _first_atoms(data)
        if len(atoms) < 2 or type(atoms[0]) is not int:
            return None
        job, number = atoms[:2]
        if in_worker:
            return job, number, raise_error, (_portable(error),), {}
        return job, number, (False, error.with_traceback(None))
    process = "concurrent.futures.process"
    if _called_by(behind, process, "_process_worker"):
        work_id = _work_id(data)
        if work_id is not None:
            return sys.modules[process]._CallItem(  # type: ignore
                work_id, raise_error, (_portable(error),), {}
            )
    elif _called_by(behind, process, "wait_result_broken_or_wakeup"):
        work_id = _work_id(data)
        if work_id is not None:
            return sys.modules[process]._ResultItem(  # type: ignore
                work_id, exception=error.with_traceback(None)
            )
    return None
