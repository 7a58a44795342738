"""wrap(obj): by-value pickling for picklers that know nothing of fpickle."""

from __future__ import annotations

from _pickle import loads

from fpickle import _core, _mainnames

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any


class Wrapped:
    """An object that any pickler can pickle: it carries its own stream.

    Whoever loads the pickle gets the object itself, without this wrapper, and
    needs no fpickle for it. `__wrapped__` is the object.
    """

    def __init__(self, obj: Any) -> None:
        self.__wrapped__ = obj

    def __repr__(self) -> str:
        return f"fpickle.wrap({self.__wrapped__!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (_core.dumps(self.__wrapped__),)


class WrappedCallable(Wrapped):
    """A `Wrapped` object that can be called as the object can."""

    def __init__(self, obj: Any) -> None:
        from functools import update_wrapper

        update_wrapper(self, obj, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


def wrap(obj: Any) -> Any:
    """Makes any object picklable by any pickler, without `install`.

    Args:
        obj: A function, a class, an instance, data that hold such.

    Returns:
        A wrapper. Pickled, by whatever pickler and in whatever process, it is
        the object itself that is loaded, by the standard library alone. If
        the object can be called, so can the wrapper, which has its name,
        docstring and module. `__wrapped__` is the object.

    Raises:
        pickle.PicklingError, TypeError: When it is pickled, not here: a part
            of the object cannot be pickled.

    Thread-safety:
        As safe as the object itself.

    Example:
        >>> import pickle, fpickle
        >>> pickle.loads(pickle.dumps(fpickle.wrap(lambda x: x + 1)))(41)
        42
    """
    _register_with_multiprocessing()
    return WrappedCallable(obj) if callable(obj) else Wrapped(obj)


def _register_with_multiprocessing() -> None:
    """Lets a message to a child use what only such a message may contain.

    Locks, queues and connections travel to children through reducers of
    ForkingPickler, which must not be used for a pickle that is kept.
    """
    from multiprocessing.reduction import ForkingPickler

    for kind in (Wrapped, WrappedCallable):
        ForkingPickler.register(kind, reduce_for_child)


def reduce_for_child(wrapped: Wrapped) -> tuple[Any, ...]:
    """Reduces a wrapper inside a message of multiprocessing."""
    from multiprocessing.reduction import ForkingPickler

    from fpickle._install import dispatch_table

    stream = _core.dumps(
        wrapped.__wrapped__,
        main_names=_mainnames.current(),
        dispatch_table=dispatch_table(ForkingPickler),
    )
    return loads, (stream,)
