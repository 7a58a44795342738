"""Functions on their way to the workers, answers on their way back."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from fpickle import _core
from fpickle._pool import remote

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any, Callable

# Functions that stay with the engine for a next call.
MOST_KEPT = 64
MOST_BYTES = 1 << 28


class Function:
    """A function that has been pickled.

    Attributes:
        fn: The function itself: as long as it lives, so do the classes that
            it uses, and instances that come back find them.
        digest: What workers know it by.
        data: Its stream.
        body: What leads workers to the stream; None before `Shipper.send`.
        copies: Of engines that have no place for bodies: how many messages
            with the body are under way.
        owners: Likewise: the workers that have it.
    """

    __slots__ = ("fn", "digest", "data", "body", "copies", "owners")

    def __init__(self, fn: Any, digest: str, data: bytes) -> None:
        self.fn = fn
        self.digest = digest
        self.data = data
        self.body: Any = None
        self.copies = 0
        self.owners: set[str] = set()


class Shipper:
    """Gives each function to an engine once, as long as it is in use.

    Args:
        ship: Makes a body of a stream; what it is depends on the engine.
        drop: Is given the bodies that are needed no more.
    """

    def __init__(
        self, ship: Callable[[bytes], Any], drop: Callable[[Any], None]
    ) -> None:
        self._ship = ship
        self._drop = drop
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Function] = OrderedDict()

    def send(self, fn: Any) -> Function:
        """The function, at the engine.

        Raises:
            fpickle.PicklingError: It cannot be pickled.
        """
        data = _core.dumps(fn, 5)
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            found = self._kept.get(digest)
            if found is not None:
                self._kept.move_to_end(digest)
                return found
            function = Function(fn, digest, data)
            function.body = self._ship(data)
            self._kept[digest] = function
            dropped = []
            size = sum(len(kept.data) for kept in self._kept.values())
            while len(self._kept) > 1 and (
                len(self._kept) > MOST_KEPT or size > MOST_BYTES
            ):
                _, old = self._kept.popitem(last=False)
                size -= len(old.data)
                dropped.append(old)
        for old in dropped:
            self._drop(old)
        return function

    def ship_again(self, function: Function, lost: Any) -> None:
        """Makes another body of a function whose body was lost, once."""
        with self._lock:
            if function.body is lost and not isinstance(lost, bytes):
                function.body = self._ship(function.data)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


def pickle_calls(kind: str, calls: list[Any]) -> bytes:
    """The chunk that `trampoline.run` takes.

    Raises:
        fpickle.PicklingError: An argument cannot be pickled. Its path begins
            at the argument.
    """
    try:
        return _core.dumps((kind, calls), 5)
    except Exception:
        for call in calls:
            arguments = [call] if kind == "one" else call
            if kind == "call":
                arguments = [*call[0], *call[1].values()]
            for argument in arguments:
                _core.dumps(argument, 5)
        raise


_unpack = remote.Unpacker("futures")


def open_results(parts: list[tuple[int, bytes]]) -> list[tuple[bool, Any]]:
    """(True, value) or (False, exception) of each call.

    A part that cannot be unpickled here is the exception that says so.
    """
    opened: list[tuple[bool, Any]] = []
    for count, data in parts:
        try:
            results = _core.loads(data)
        except Exception as error:
            error.add_note(
                "the result has arrived from the worker, and cannot be "
                "unpickled here"
            )
            opened += [(False, error)] * count
            continue
        for is_value, value in results:
            opened.append(
                (True, value) if is_value else (False, _unpack(value))
            )
    return opened


def open_failure(packed: Any) -> BaseException:
    """The exception of a chunk of which nothing could be called."""
    error = _unpack(packed)
    name = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and name and find_here(name):
        error.add_note(
            f"the workers do not have the module {name!r}, which this process "
            f"has: install it there, or fpickle.register_by_value({name!r}) "
            "lets its functions and classes travel with the call"
        )
    return error


def find_here(name: str) -> bool:
    import sys

    return name in sys.modules
