"""A disk for `diskcache`: values and keys may hold functions and classes.

Example:
    >>> import diskcache
    >>> from fpickle.ext.diskcache import FpickleDisk
    >>> cache = diskcache.Cache(disk=FpickleDisk)  # doctest: +SKIP
    >>> cache["double"] = lambda x: 2 * x  # doctest: +SKIP
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import diskcache
from diskcache.core import MODE_PICKLE

from fpickle import _core

__all__ = ["FpickleDisk"]

_PLAIN = (bytes, str, int, float)  # diskcache does not pickle these


class FpickleDisk(diskcache.Disk):  # type: ignore[misc]
    """A `diskcache.Disk` that pickles with fpickle.

    Values are plain pickles, which a cache with the standard disk reads as
    well. Keys are written deterministically: equal keys are one entry in every
    process. As their bytes are others than those of the standard disk, a
    directory has to be opened with the disk that filled it, as diskcache wants
    it anyway.

    Args:
        As for `diskcache.Disk`; `diskcache.Cache` passes them.

    Thread-safety:
        That of `diskcache`: caches may be shared by threads and processes.

    Example:
        >>> import diskcache
        >>> from fpickle.ext.diskcache import FpickleDisk
        >>> with diskcache.Cache(disk=FpickleDisk) as cache:
        ...     cache["double"] = lambda x: 2 * x
        ...     cache["double"](21)
        42
    """

    def put(self, key: Any) -> Any:
        """What the database has for a key, and whether it is the key itself."""
        disk_key, raw = (None, False)
        if type(key) in _PLAIN:
            disk_key, raw = super().put(key)
        if raw:
            return disk_key, raw
        data = _core.dumps(key, self.pickle_protocol, deterministic=True)
        return sqlite3.Binary(data), False

    def get(self, key: Any, raw: bool) -> Any:
        """The key of what the database has for it."""
        return super().get(key, raw) if raw else _core.loads(key)

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Size, mode, file name and value for the database."""
        if read or type(value) in _PLAIN:
            return super().store(value, read, key)
        data = _core.dumps(value, self.pickle_protocol)
        # Kept as any bytes are, but with the mode of a pickle.
        size, _, filename, kept = super().store(data, False, key)
        return size, MODE_PICKLE, filename, kept

    def fetch(
        self, mode: int, filename: str | None, value: Any, read: bool
    ) -> Any:
        """The value of what the database has for it."""
        if mode != MODE_PICKLE:
            return super().fetch(mode, filename, value, read)
        if value is not None:
            return _core.loads(value)
        assert filename is not None
        with open(os.path.join(self._directory, filename), "rb") as file:
            return _core.load(file)
