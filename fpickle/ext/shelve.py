"""The standard `shelve`, with values that fpickle writes and reads.

What was stored is a plain pickle: the standard `shelve` reads these files, and
this module reads those that the standard one has written.

Example:
    >>> from fpickle.ext import shelve
    >>> with shelve.open("recipes") as shelf:  # doctest: +SKIP
    ...     shelf["double"] = lambda x: 2 * x
"""

from __future__ import annotations

import shelve as _standard
from typing import Any, MutableMapping

from fpickle import _core

__all__ = ["DbfilenameShelf", "Shelf", "open"]


class Shelf(_standard.Shelf[Any]):
    """A `shelve.Shelf` whose values may hold functions and classes.

    Args:
        dict: The mapping of bytes to bytes that keeps the pickles.
        protocol: Of the pickles; None: the default one.
        writeback: Keep what was read, and write it back at `sync` and `close`.
        keyencoding: Of the keys.

    Thread-safety:
        That of the standard class: none.

    Example:
        >>> from fpickle.ext import shelve
        >>> shelf = shelve.Shelf({})
        >>> shelf["double"] = lambda x: 2 * x
        >>> shelf["double"](21)
        42
    """

    dict: MutableMapping[bytes, bytes]
    cache: MutableMapping[str, Any]
    keyencoding: str
    writeback: bool
    _protocol: int

    def __getitem__(self, key: str) -> Any:
        try:
            return self.cache[key]
        except KeyError:
            value = _core.loads(self.dict[key.encode(self.keyencoding)])
        if self.writeback:
            self.cache[key] = value
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        if self.writeback:
            self.cache[key] = value
        data = _core.dumps(value, self._protocol)
        self.dict[key.encode(self.keyencoding)] = data


class DbfilenameShelf(Shelf):
    """A `Shelf` in a file of `dbm`; the arguments are those of `open`."""

    def __init__(
        self,
        filename: Any,
        flag: Any = "c",
        protocol: int | None = None,
        writeback: bool = False,
    ) -> None:
        import dbm

        database: Any = dbm.open(filename, flag)
        super().__init__(database, protocol, writeback)


def open(
    filename: Any,
    flag: Any = "c",
    protocol: int | None = None,
    writeback: bool = False,
) -> DbfilenameShelf:
    """Opens a dictionary that is kept in a file, as `shelve.open` does.

    Args:
        filename: Of the database; `dbm` may add an extension.
        flag: As for `dbm.open`.
        protocol: Of the pickles; None: the default one.
        writeback: Keep what was read, and write it back at `sync` and `close`.

    Returns:
        A `DbfilenameShelf`, which is a context manager.

    Raises:
        dbm.error: The file cannot be opened.

    Thread-safety:
        Not to be used by two threads at a time, as the standard shelf.

    Example:
        >>> from fpickle.ext import shelve
        >>> with shelve.open("recipes") as shelf:  # doctest: +SKIP
        ...     shelf["double"] = lambda x: 2 * x
    """
    return DbfilenameShelf(filename, flag, protocol, writeback)
