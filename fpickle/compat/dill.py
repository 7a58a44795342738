"""The names and keywords of dill, with fpickle behind them.

``import fpickle.compat.dill as dill`` is all that a program has to change.
The keywords, which may also be set for all calls in `settings`:

``protocol``
    As for `fpickle.dumps`.
``byref``
    True writes the classes of ``__main__`` by name, for a receiver that has
    them; False, the default, by value.
``recurse``
    Accepted and without effect: a function always brings exactly the globals
    that it uses, and functions of one module share them.
``fmode``
    `HANDLE_FMODE`, the default, opens the same path again at the receiver,
    without ever cutting it short; `CONTENTS_FMODE` and `FILE_FMODE` send the
    contents of the file as a file in memory.
``ignore``
    For `load` and `loads`: accepted and without effect, because an instance
    that comes back is one of the original class.

Locks are made anew, unlocked; dill copies their state, which can deadlock.
Sessions (``dump_module``), ``detect``, ``source`` and ``temp`` are not here.

Example:
    >>> import fpickle.compat.dill as dill
    >>> dill.loads(dill.dumps(lambda x: x + 1, recurse=True))(1)
    2
"""

from __future__ import annotations

import sys

from fpickle import _core
from fpickle._core import (
    DEFAULT_PROTOCOL,
    HIGHEST_PROTOCOL,
    PickleError,
    PicklingError,
    UnpicklingError,
)

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

__all__ = [
    "CONTENTS_FMODE",
    "DEFAULT_PROTOCOL",
    "FILE_FMODE",
    "HANDLE_FMODE",
    "HIGHEST_PROTOCOL",
    "PickleError",
    "Pickler",
    "PicklingError",
    "Unpickler",
    "UnpicklingError",
    "copy",
    "dump",
    "dumps",
    "load",
    "loads",
    "pickle",
    "pickles",
    "register",
    "settings",
]

HANDLE_FMODE = 0
CONTENTS_FMODE = 1
FILE_FMODE = 2

settings: dict[str, Any] = {
    "protocol": DEFAULT_PROTOCOL,
    "byref": False,
    "fmode": HANDLE_FMODE,
    "recurse": False,
    "ignore": False,
}

_FILES = {
    HANDLE_FMODE: "reopen",
    CONTENTS_FMODE: "contents",
    FILE_FMODE: "contents",
}


def _options(
    byref: bool | None, fmode: int | None, recurse: bool | None
) -> dict[str, Any]:
    """What the keywords of dill, None where not given, are for fpickle."""
    fmode = settings["fmode"] if fmode is None else fmode
    if fmode not in _FILES:
        raise ValueError(
            f"fmode must be HANDLE_FMODE, CONTENTS_FMODE or FILE_FMODE, not {fmode!r}"
        )
    options: dict[str, Any] = {"files": _FILES[fmode], "locks": "recreate"}
    if settings["byref"] if byref is None else byref:
        main = vars(sys.modules["__main__"])
        options["main_names"] = {
            name for name, value in main.items() if isinstance(value, type)
        }
    return options


def _protocol(protocol: int | None) -> int:
    return int(settings["protocol"]) if protocol is None else int(protocol)


class Pickler(_core.Pickler):
    """A `fpickle.Pickler` with the keywords of dill's."""

    def __init__(
        self,
        file: Any,
        protocol: int | None = None,
        *,
        byref: bool | None = None,
        fmode: int | None = None,
        recurse: bool | None = None,
        **keywords: Any,
    ) -> None:
        keywords = {**_options(byref, fmode, recurse), **keywords}
        super().__init__(file, _protocol(protocol), **keywords)


class Unpickler(_core.Unpickler):
    """A `fpickle.Unpickler` that accepts ``ignore``."""

    def __init__(
        self, file: Any, *, ignore: bool | None = None, **keywords: Any
    ) -> None:
        super().__init__(file, **keywords)


def dump(
    obj: Any,
    file: Any,
    protocol: int | None = None,
    byref: bool | None = None,
    fmode: int | None = None,
    recurse: bool | None = None,
    **keywords: Any,
) -> None:
    """Writes the pickle of obj to an open file.

    Further keywords are those of `fpickle.dump`.
    """
    keywords = {**_options(byref, fmode, recurse), **keywords}
    _core.dump(obj, file, _protocol(protocol), **keywords)


def dumps(
    obj: Any,
    protocol: int | None = None,
    byref: bool | None = None,
    fmode: int | None = None,
    recurse: bool | None = None,
    **keywords: Any,
) -> bytes:
    """Returns the pickle of obj.

    Further keywords are those of `fpickle.dumps`.
    """
    keywords = {**_options(byref, fmode, recurse), **keywords}
    return _core.dumps(obj, _protocol(protocol), **keywords)


def load(file: Any, ignore: bool | None = None, **keywords: Any) -> Any:
    """Reads an object from an open file; see `fpickle.load`."""
    return _core.load(file, **keywords)


def loads(str: Any, ignore: bool | None = None, **keywords: Any) -> Any:
    """Reads an object from bytes; see `fpickle.loads`."""
    return _core.loads(str, **keywords)


def copy(obj: Any, *args: Any, **keywords: Any) -> Any:
    """Copies an object by pickling it; the arguments are those of `dumps`."""
    ignore = keywords.pop("ignore", None)
    return loads(dumps(obj, *args, **keywords), ignore)


def pickles(obj: Any, exact: bool = False, safe: bool = False, **keywords: Any) -> bool:
    """Tells whether an object can be pickled and loaded.

    Args:
        obj: The object.
        exact: The copy must be equal; otherwise one of the same type will do.
        safe: Errors of any kind count as a no; otherwise only those of
            pickling.
        keywords: Those of `dumps`.
    """
    errors: tuple[type[Exception], ...]
    errors = (Exception,) if safe else (TypeError, PickleError, NotImplementedError)
    try:
        made = copy(obj, **keywords)
    except errors:
        return False
    if made is obj:
        return True
    try:
        same = made == obj
        same = bool(same.all() if hasattr(same, "all") else same)
    except (TypeError, ValueError):
        same = False
    return same or (not exact and type(made) is type(obj))


class _Recorder:
    """What a function that was written for dill takes for a pickler."""

    reduction: tuple[Any, ...] | None = None

    def save_reduce(
        self,
        func: Any,
        args: Any,
        state: Any = None,
        listitems: Any = None,
        dictitems: Any = None,
        state_setter: Any = None,
        *,
        obj: Any = None,
    ) -> None:
        self.reduction = (func, args, state, listitems, dictitems, state_setter)


def register(kind: type) -> Any:
    """Returns a decorator for a function ``f(pickler, obj)``.

    From then on it says how objects of exactly this type are pickled: it has
    to call ``pickler.save_reduce`` once. See `fpickle.register` for a function
    that just returns the reduction.
    """

    def decorate(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        pickle(kind, function)
        return function

    return decorate


def pickle(kind: type, function: Callable[[Any, Any], Any]) -> None:
    """The same as `register`, as a plain call."""

    def reduce(obj: Any) -> Any:
        recorder = _Recorder()
        function(recorder, obj)
        if recorder.reduction is None:
            raise PicklingError(
                f"{function!r} did not call save_reduce for a {kind.__name__} object"
            )
        return recorder.reduction

    _core.set_reducer(kind, reduce)


_ELSEWHERE = {
    "dump_module": "fpickle has no sessions: dump the objects that you need",
    "load_module": "fpickle has no sessions: load the objects that you need",
    "load_module_asdict": "fpickle has no sessions: load the objects that you need",
    "dump_session": "fpickle has no sessions: dump the objects that you need",
    "load_session": "fpickle has no sessions: load the objects that you need",
    "detect": "the note of an error gives the path to what cannot be pickled",
    "source": "use inspect",
    "temp": "use tempfile",
    "extend": "the standard pickle is never changed; see fpickle.install",
}


def __getattr__(name: str) -> Any:
    hint = _ELSEWHERE.get(name)
    reason = f": {hint}" if hint else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{reason}")
