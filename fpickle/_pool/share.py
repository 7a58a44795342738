"""`Pool.share`: an object that is sent to the workers once.

The parent defines it under a number; a handle that is pickled is that number
alone, and finds the object where it is read.
"""

from __future__ import annotations

import sys
import weakref
from types import GenericAlias

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable, Generic, TypeVar

    from fpickle._pool.engine import Engine

    T = TypeVar("T")
else:  # classes are made with these, which say nothing
    T, Generic = None, {None: object}

_known: weakref.WeakValueDictionary[tuple[bytes, int], Shared[Any]]
_known = weakref.WeakValueDictionary()


class Shared(Generic[T]):
    """A handle of an object that all workers of a pool have.

    Small when it is sent. Workers decode the object when they first need it
    and keep it as long as the parent keeps a handle; large buffers in it are
    mapped, not copied, and what one worker writes into them is its own.
    """

    __slots__ = ("_token", "_number", "_find", "__weakref__")

    def __init__(
        self, token: bytes, number: int, find: Callable[[], T]
    ) -> None:
        self._token = token
        self._number = number
        self._find = find

    def get(self) -> T:
        """The object: in the parent the one that was shared, in a worker the
        worker's copy of it, which is the same one at each call."""
        return self._find()

    __class_getitem__: Any = classmethod(GenericAlias)

    def __reduce__(self) -> Any:
        return find_shared, (self._token, self._number)

    def __repr__(self) -> str:
        return f"<fpickle shared object {self._number}>"


def make_handle(engine: Engine, number: int, obj: T) -> Shared[T]:
    """In the parent: a handle; [engine] forgets when the last one dies."""
    handle = Shared(engine.token, number, lambda: obj)
    _known[engine.token, number] = handle
    # The registry of finalizers lives for ever: if it held the engine, which
    # has functions with handles in their closures, no handle would ever die.
    weakref.finalize(
        handle, _forget, weakref.ref(engine), number
    ).atexit = False
    return handle


def _forget(reference: weakref.ref[Engine], number: int) -> None:
    engine = reference()
    if engine is not None:
        engine.forget(number)


def find_shared(token: bytes, number: int) -> Shared[Any]:
    """What a pickled handle becomes."""
    handle = _known.get((token, number))
    if handle is not None:
        return handle
    bootstrap = sys.modules.get("fpickle._pool.bootstrap")
    if bootstrap is None or bootstrap.token != token:
        raise RuntimeError(
            "a shared object can be used in the workers of the pool that "
            "shared it, and in the process that made that pool"
        )
    worker = bootstrap.engine
    handle = Shared(token, number, lambda: worker.object(number))
    _known[token, number] = handle
    return handle
