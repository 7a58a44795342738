"""Our classes as kinds of the standard ones, for programs that ask isinstance.

All that they do is ours. Made where the standard module is there anyway.
"""

from __future__ import annotations

from multiprocessing import pool as _standard

from fpickle._pool import pool, results


class Pool(pool.Pool, vars(_standard)["Pool"]):  # type: ignore[misc]
    """A `fpickle.Pool` that is a standard one, too."""

    def __del__(self) -> None:
        """Not that of the standard pool, whose state it has not."""


class ApplyResult(results.ApplyResult, _standard.ApplyResult):  # type: ignore
    """Of one call."""


class MapResult(results.MapResult, _standard.MapResult):  # type: ignore
    """Of a map."""


class MapIterator(results.MapIterator, _standard.IMapIterator):  # type: ignore
    """Of an imap."""


class UnorderedIterator(  # type: ignore
    results.MapIterator, _standard.IMapUnorderedIterator
):
    """Of an imap_unordered."""


class MapIteratorWithBar(  # type: ignore
    results.MapIteratorWithBar, _standard.IMapIterator
):
    """Of an imap that shows how it gets on."""


class UnorderedIteratorWithBar(  # type: ignore
    results.MapIteratorWithBar, _standard.IMapUnorderedIterator
):
    """Of an imap_unordered that does."""
