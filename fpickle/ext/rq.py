"""A serializer for RQ: arguments and results may hold functions and classes.

RQ stores the function of a job by its name, whatever the serializer. A function
without one goes as an argument: ``queue.enqueue(operator.call, lambda: 1)``.

Example:
    >>> import fpickle.ext.rq
    >>> fpickle.ext.rq.register()  # in the worker, too
    >>> queue = rq.Queue(connection=..., serializer="fpickle")  # doctest: +SKIP

By command: ``rq worker --serializer fpickle.ext.rq.Serializer``.
"""

from __future__ import annotations

from typing import Any

from rq import serializers

from fpickle import _core

__all__ = ["Serializer", "register"]


class Serializer:
    """What ``Queue(serializer=)``, ``Worker(serializer=)`` and ``rq worker
    --serializer`` take; it need not be registered.

    Thread-safety:
        Safe.

    Example:
        >>> from fpickle.ext.rq import Serializer
        >>> Serializer.loads(Serializer.dumps(lambda x: x + 1))(1)
        2
    """

    @staticmethod
    def dumps(obj: Any) -> bytes:
        """Pickles at the highest protocol."""
        return _core.dumps(obj, _core.HIGHEST_PROTOCOL)

    @staticmethod
    def loads(data: Any) -> Any:
        """Loads what `dumps`, or RQ's own pickle serializer, has written."""
        return _core.loads(data)


def register() -> None:
    """Makes "fpickle" a name for `Serializer` in this process.

    A second call changes nothing. Older releases of RQ have no such names; with
    them, pass the class.

    Thread-safety:
        Safe.

    Example:
        >>> import fpickle.ext.rq
        >>> fpickle.ext.rq.register()
    """
    serializers.SERIALIZER_ALIASES["fpickle"] = Serializer
