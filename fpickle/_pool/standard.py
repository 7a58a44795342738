"""Our classes as kinds of the standard ones, for programs that ask isinstance.

All that they do is ours. Made where the standard module is there anyway.
"""

from __future__ import annotations

from multiprocessing import pool as _standard

from fpickle import RefusedError
from fpickle._pool import pool, results

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any


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
    results.MapIterator, _standard.IMapUnorderedIterator  # type: ignore
):
    """Of an imap_unordered."""


class MapIteratorWithBar(  # type: ignore
    results.MapIteratorWithBar, _standard.IMapIterator  # type: ignore
):
    """Of an imap that shows how it gets on."""


class UnorderedIteratorWithBar(  # type: ignore
    results.MapIteratorWithBar,  # type: ignore
    _standard.IMapUnorderedIterator,  # type: ignore
):
    """Of an imap_unordered that does."""


class UnsentResult(  # type: ignore
    RefusedError, _standard.MaybeEncodingError
):
    """A call has returned what cannot be sent.

    Attributes:
        exc: What the attempt has raised, as text.
        value: The result, as text.
    """

    def __init__(self, text: str, exc: str, value: str) -> None:
        super(_standard.MaybeEncodingError, self).__init__(text, exc, value)
        self.exc = exc
        self.value = value

    def __str__(self) -> str:
        return str(self.args[0])

    __repr__ = RefusedError.__repr__


def unsent_result(error: Any, value: str) -> UnsentResult:
    """The exception for a result that looks like [value], and could not be sent
    because of [error]."""
    text = str(error)
    if not isinstance(error, RefusedError):
        text = f"{type(error).__name__}: {text}"
    found = UnsentResult(text, repr(error), value)
    found.__cause__ = error.__cause__  # says where, and what it was
    for note in getattr(error, "__notes__", ()):
        found.add_note(note)
    return found
