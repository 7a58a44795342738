"""fpickle for what `ipyparallel` sends, as its ``use_cloudpickle`` and
``use_dill``.

Example:
    >>> import ipyparallel
    >>> from fpickle.ext.ipyparallel import use_fpickle
    >>> with ipyparallel.Cluster(n=2) as client:  # doctest: +SKIP
    ...     use_fpickle(client[:])
    ...     client[:].map_sync(lambda x: x * x, range(10))
"""

from __future__ import annotations

import importlib
from types import FunctionType
from typing import Any

import fpickle

__all__ = ["use_fpickle"]


def use_fpickle(view: Any = None) -> Any:
    """Sends functions and data with fpickle, from here and from engines.

    Functions bring the globals that they use, instead of finding them in the
    namespace of the engine. Engines without fpickle can run what is sent;
    they need it to send functions back. ``ipyparallel.serialize.use_pickle()``
    and ``view.use_pickle()`` put back what was there before.

    Args:
        view: Its engines do the same; None: only this process.

    Returns:
        The result of ``view.apply``, or None without a view.

    Raises:
        ipyparallel.CompositeError: An engine has no fpickle (when the result is
            waited for).

    Thread-safety:
        To be called before messages are sent by other threads.

    Example:
        >>> from fpickle.ext.ipyparallel import use_fpickle
        >>> use_fpickle()  # doctest: +SKIP
    """
    canning = importlib.import_module("ipyparallel.serialize.canning")
    serialize = importlib.import_module("ipyparallel.serialize.serialize")
    serialize.pickle = fpickle  # type: ignore[attr-defined]
    canning.can_map.pop(FunctionType, None)
    return None if view is None else view.apply(use_fpickle)
