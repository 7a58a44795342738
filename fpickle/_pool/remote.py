"""Exceptions on their way from a worker to the parent.

The worker sends (pickle, name of the type, text of the traceback), and the text
of a result if the exception is about that it cannot be sent. The pickle holds the exception and those that it comes from, because pickling an
exception alone loses its ``__cause__`` and ``__context__``. If there is no
pickle, or if it cannot be read, the name and the text remain.

What only the parent or only an error needs is imported when it is needed: a
worker imports this module before it is ready.
"""

from __future__ import annotations

from fpickle import _core

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

    _Packed = tuple[bytes | None, str, str] | tuple[bytes | None, str, str, str]

_MOST_LINKED = 100  # exceptions that one may come from
_MOST_TEXT = 1 << 20
_MOST_SHOWN = 200  # characters of a result that cannot be sent


# ---- in the worker ------------------------------------------------------------


def pack_exception(error: BaseException, *result: Any) -> _Packed:
    """What is sent instead of [error], or instead of a [result] that cannot be.
    Never raises what can be helped."""
    text = render(error)
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ in ("builtins", "__main__"):
        name = kind.__qualname__
    try:
        data = _core.dumps(_take_apart(error), 5)
    except Exception as failure:
        data = None
        text += _note(failure)
    if (
        not result
        or isinstance(error, MemoryError)
        or not isinstance(error, Exception)
    ):
        return data, name, text
    import reprlib

    short = reprlib.Repr()
    short.maxother = short.maxstring = _MOST_SHOWN
    return data, name, text, short.repr(result[0])


def render(error: BaseException) -> str:
    """The traceback of [error] as the interpreter would print it."""
    try:
        import traceback

        lines = traceback.format_exception(type(error), error, error.__traceback__)
        text = "".join(lines)
    except Exception as failure:  # a __str__ that raises what it should not
        text = (
            f"{type(error).__qualname__} (its traceback cannot be shown: "
            f"{type(failure).__name__})\n"
        )
    if len(text) > _MOST_TEXT:
        half = _MOST_TEXT // 2
        text = f"{text[:half]}\n[...]\n{text[-half:]}"
    return text


def _note(failure: BaseException) -> str:
    try:
        reason = str(failure)
    except Exception:
        reason = ""
    return (
        "\nThe exception itself could not be pickled: "
        f"{type(failure).__name__}: {reason}\n"
    )


def _take_apart(error: BaseException) -> tuple[list[Any], list[Any]]:
    """The exceptions that hang together, and how: (number of the cause, number
    of the context, whether the context is hidden) for each."""
    found = [error]
    numbers = {id(error): 0}
    links: list[Any] = []
    for current in found:  # grows meanwhile
        members = getattr(current, "exceptions", ())
        parts = [current.__cause__, current.__context__]
        if isinstance(members, tuple):
            parts += [m for m in members if isinstance(m, BaseException)]
        places: list[int | None] = []
        for part in parts:
            number = None if part is None else numbers.get(id(part))
            if number is None and part is not None and len(found) < _MOST_LINKED:
                number = numbers[id(part)] = len(found)
                found.append(part)
            places.append(number)
        links.append((places[0], places[1], current.__suppress_context__))
    return found, links


# ---- in the parent ------------------------------------------------------------


class Unpacker:
    """Makes exceptions of what `pack_exception` has made.

    Args:
        style: "pool" or "futures": whose class holds the text of the
            traceback, so that programs that look for it find it.
    """

    def __init__(self, style: str) -> None:
        self.style = style

    def __call__(self, packed: _Packed) -> BaseException:
        data, name, text, *result = packed
        error: BaseException | None = None
        reason = "the exception could not be pickled in the worker"
        if data is not None:
            try:
                found, links = _core.loads(data)
                error = _put_together(found, links)
            except Exception as failure:
                reason = (
                    "the exception could not be unpickled: "
                    f"{type(failure).__name__}: {failure}"
                )
        if error is None:
            from fpickle._pool.errors import RemoteError

            error = RemoteError(name, text, reason)
        attach_text(error, text, self.style)
        if result and self.style == "pool":
            from fpickle._pool import standard

            return standard.unsent_result(error, result[0])
        return error


def _put_together(found: list[Any], links: list[Any]) -> BaseException:
    for error in found:
        if not isinstance(error, BaseException):
            raise TypeError(f"{type(error).__name__} is no exception")
    for error, (cause, context, is_hidden) in zip(found, links):
        if cause is not None:
            error.__cause__ = found[cause]
        if context is not None:
            error.__context__ = found[context]
        error.__suppress_context__ = is_hidden
    return found[0]  # type: ignore[no-any-return]


def attach_text(error: BaseException, text: str, style: str) -> None:
    """Makes the worker's traceback the cause of [error].

    What was its cause becomes the cause of that.
    """
    remote: Any
    if style == "pool":
        from multiprocessing.pool import RemoteTraceback

        remote = RemoteTraceback(f'\n"""\n{text}"""')
    else:
        from concurrent.futures.process import _RemoteTraceback  # type: ignore

        remote = _RemoteTraceback(f'\n"""\n{text}"""')
    remote.__cause__ = error.__cause__
    error.__cause__ = remote
