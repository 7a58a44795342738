"""The names of cloudpickle, with fpickle behind them.

``import fpickle.compat.cloudpickle as cloudpickle`` is all that a program has
to change. Against `fpickle` itself, these defaults are cloudpickle's: the
protocol is the highest, `dumps` takes ``buffer_callback`` by position, an open
file becomes a file in memory with its contents, and streams are ``isolated``:
each brings the globals that its functions use, and brings classes up to date
that the receiver has from an earlier one. The class that is at home in a
process is left alone there, which cloudpickle does not.

Streams need no library at the receiver. What cloudpickle refuses and fpickle
can send is sent; functions of the internals of cloudpickle are not here.

Example:
    >>> import pickle, fpickle.compat.cloudpickle as cloudpickle
    >>> pickle.loads(cloudpickle.dumps(lambda x: x + 1))(1)
    2
"""

from __future__ import annotations

from types import ModuleType

from fpickle import _core
from fpickle._core import (
    PicklingError,
    RefusedError,
    UnpicklingError,
    load,
    loads,
)

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

    _BufferCallback = Callable[[Any], Any] | None

__all__ = [
    "CloudPickler",
    "DEFAULT_PROTOCOL",
    "Pickler",
    "PicklingError",
    "UnpicklingError",
    "dump",
    "dumps",
    "is_tornado_coroutine",
    "list_registry_pickle_by_value",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]

DEFAULT_PROTOCOL = _core.HIGHEST_PROTOCOL


class CloudPickler(_core.Pickler):
    """A `fpickle.Pickler` with the signature of cloudpickle's.

    Subclasses may define ``reducer_override``, ``persistent_id`` and
    ``dispatch_table``. They need not call cloudpickle's reducers: whatever
    they answer NotImplemented for is written by value where it has to be.
    """

    def __init__(
        self,
        file: Any,
        protocol: int | None = None,
        buffer_callback: _BufferCallback = None,
    ) -> None:
        super().__init__(
            file,
            DEFAULT_PROTOCOL if protocol is None else protocol,
            buffer_callback=buffer_callback,
            files="contents",
            isolated=True,
        )
        if type(self).reducer_override is CloudPickler.reducer_override:
            self.reducer_override = NotImplemented  # type: ignore[method-assign]

    def dump(self, obj: Any) -> None:
        """Writes the pickle of obj to the file."""
        try:
            super().dump(obj)
        except (RecursionError, RefusedError) as error:
            raise _translated(error)

    def reducer_override(self, obj: Any) -> Any:
        """Leaves every object to the pickler; for subclasses to call."""
        return NotImplemented


Pickler = CloudPickler


def dump(
    obj: Any,
    file: Any,
    protocol: int | None = None,
    buffer_callback: _BufferCallback = None,
) -> None:
    """Writes the pickle of obj to an open file; see `fpickle.dump`."""
    try:
        _core.dump(
            obj,
            file,
            DEFAULT_PROTOCOL if protocol is None else protocol,
            buffer_callback=buffer_callback,
            files="contents",
            isolated=True,
        )
    except (RecursionError, RefusedError) as error:
        raise _translated(error)


def dumps(
    obj: Any,
    protocol: int | None = None,
    buffer_callback: _BufferCallback = None,
) -> bytes:
    """Returns the pickle of obj; see `fpickle.dumps`."""
    try:
        return _core.dumps(
            obj,
            DEFAULT_PROTOCOL if protocol is None else protocol,
            buffer_callback=buffer_callback,
            files="contents",
            isolated=True,
        )
    except (RecursionError, RefusedError) as error:
        raise _translated(error)


def _translated(error: Exception) -> Exception:
    """An error of cloudpickle's, or the same."""
    if isinstance(error, RecursionError):
        text = "Could not pickle object as excessively deep recursion required."
    elif any("a closed file" in note for note in _notes(error)):
        text = "Cannot pickle closed files"
    else:
        return error
    made = PicklingError(text)
    made.__notes__ = _notes(error)
    return made


def _notes(error: Exception) -> list[str]:
    return getattr(error, "__notes__", [])


def register_pickle_by_value(module: ModuleType) -> None:
    """Lets a module, with its submodules, travel inside streams.

    Raises:
        ValueError: The argument is no module, or it is not in ``sys.modules``.
    """
    _core.register_by_value(_check(module))


def unregister_pickle_by_value(module: ModuleType) -> None:
    """Takes `register_pickle_by_value` back.

    Raises:
        ValueError: The argument is no module, or it is not registered.
    """
    _core.unregister_by_value(_check(module))


def list_registry_pickle_by_value() -> set[str]:
    """Returns the names of the registered modules, as a new set."""
    return set(_core.registered_by_value())


def is_tornado_coroutine(func: Any) -> bool:
    """Returns whether func is a coroutine function of Tornado.

    cloudpickle has deprecated it: the pickler makes no difference. Tornado is
    not imported for the answer.
    """
    import sys
    import warnings

    warnings.warn(
        "is_tornado_coroutine is deprecated: ask tornado.gen directly",
        DeprecationWarning,
        stacklevel=2,
    )
    gen = sys.modules.get("tornado.gen")
    is_coroutine = getattr(gen, "is_coroutine_function", None)
    return is_coroutine is not None and bool(is_coroutine(func))


def _check(module: Any) -> ModuleType:
    if not isinstance(module, ModuleType):
        raise ValueError(f"Input should be a module object, got {module} instead")
    return module
