"""The functions and classes that pickle, watched for their first failure.

A watch replaces the entry points of the standard module and of fpickle by
functions that do the same, and tells about the first object that one of them
could not pickle. Programs that run under it behave as without it.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import sysconfig
import threading
from types import FrameType
from typing import Any, Callable

# Failures of the file or of the machine, not of the object.
_OTHER_ERRORS = (OSError, MemoryError, io.UnsupportedOperation)


class Failure:
    """What could not be pickled, where and why.

    Attributes:
        obj: The object that was given.
        error: The exception.
        entry: The name of the function or method that raised it.
        options: For `fpickle.explain`, which judges as that function did.
        thread: The name of the thread, or None if it is the main one.
        place: File, line and name of the code that called; None if no code
            but the standard library's is on any stack.
    """

    def __init__(
        self, obj: Any, error: BaseException, entry: str, options: dict[str, Any]
    ) -> None:
        self.obj = obj
        self.error = error
        self.entry = entry
        self.options = options
        in_main = threading.current_thread() is threading.main_thread()
        self.thread = None if in_main else threading.current_thread().name
        self.place = find_place(sys._getframe(2))
        if self.place is None and not in_main:
            # A helper thread of a pool or a queue works for the main thread,
            # which waits for it where the user called.
            frames = sys._current_frames()
            self.place = find_place(frames.get(threading.main_thread().ident))

    def explain(self) -> Any:
        """The report on the object."""
        from fpickle._explain import explain

        return explain(self.obj, **self.options)


def find_place(frame: FrameType | None) -> tuple[str, int, str] | None:
    """File, line and name of the innermost code of the user."""
    paths = sysconfig.get_paths()
    ours = os.path.dirname(os.path.abspath(__file__))
    folders = [paths["stdlib"], paths["platstdlib"], ours]
    sites = (paths["purelib"], paths["platlib"])
    while frame is not None:
        name = frame.f_code.co_filename
        inside = any(name.startswith(folder + os.sep) for folder in folders)
        in_site = any(name.startswith(folder + os.sep) for folder in sites)
        mine = name.startswith(ours + os.sep)
        if not name.startswith("<frozen") and not mine and (
            in_site or not inside
        ):
            return name, frame.f_lineno, frame.f_code.co_qualname
        frame = frame.f_back
    return None


class Watch:
    """Watches until `stop`; calls [tell] with the first Failure."""

    def __init__(self, tell: Callable[[Failure], None]) -> None:
        self.tell = tell
        self.found: Failure | None = None
        self.lock = threading.Lock()
        self.busy = threading.local()
        self.undo: list[tuple[Any, str, Any]] = []

    def start(self) -> None:
        import _pickle
        import pickle

        import fpickle

        for module in (_pickle, pickle, fpickle):
            name = "fpickle" if module is fpickle else "pickle"
            for function in ("dump", "dumps"):
                real = getattr(module, function)
                self._replace(
                    module, function, self._function(real, f"{name}.{function}")
                )
        watched = self._pickler(_pickle.Pickler, "pickle.Pickler.dump")
        self._replace(_pickle, "Pickler", watched)
        self._replace(pickle, "Pickler", watched)
        self._replace(
            fpickle, "Pickler",
            self._pickler(fpickle.Pickler, "fpickle.Pickler.dump"),
        )
        reduction = sys.modules.get("multiprocessing.reduction")
        if reduction is not None:  # its class has the old base
            forking = reduction.ForkingPickler
            self._replace(
                forking, "dump",
                self._method(forking.dump, "ForkingPickler.dump"),
            )

    def stop(self) -> None:
        for owner, name, old in reversed(self.undo):
            if old is self:  # there was none
                delattr(owner, name)
            else:
                setattr(owner, name, old)
        self.undo.clear()

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self.undo.append((owner, name, vars(owner).get(name, self)))
        setattr(owner, name, new)

    def _function(self, real: Any, entry: str) -> Any:
        @functools.wraps(real)
        def call(obj: Any, /, *args: Any, **options: Any) -> Any:
            try:
                return real(obj, *args, **options)
            except Exception as error:
                given = {
                    name: options[name]
                    for name in ("by_value", "files", "locks")
                    if name in options
                }
                self.failed(obj, error, entry, given)
                raise

        return call

    def _method(self, real: Any, entry: str) -> Any:
        @functools.wraps(real)
        def dump(pickler: Any, obj: Any, /) -> Any:
            try:
                return real(pickler, obj)
            except Exception as error:
                table = getattr(pickler, "dispatch_table", None)
                options = {} if table is None else {"dispatch_table": table}
                name = type(pickler).__qualname__
                self.failed(
                    obj, error,
                    entry if name == "Pickler" else f"{name}.dump", options,
                )
                raise

        return dump

    def _pickler(self, base: Any, entry: str) -> Any:
        return type("Pickler", (base,), {
            "__module__": base.__module__,
            "__doc__": base.__doc__,
            "dump": self._method(base.dump, entry),
        })

    def failed(
        self, obj: Any, error: Exception, entry: str, options: dict[str, Any]
    ) -> None:
        """Tells about the first failure; what happens while telling is none."""
        if isinstance(error, _OTHER_ERRORS) or getattr(self.busy, "yes", False):
            return
        with self.lock:
            if self.found is not None:
                return
            self.found = Failure(obj, error, entry, options)
        self.busy.yes = True
        try:
            self.tell(self.found)
        finally:
            self.busy.yes = False
