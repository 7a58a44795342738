"""fpickle for Dask's `distributed`: a serialization family, and functions.

`register` makes the family "fpickle" known, which clients, schedulers and
workers use for data when they are told so. What a task does (its function,
its graph) goes another way, that of `distributed.protocol.pickle`, which has no
hook: it asks the standard pickle first and cloudpickle when that fails.
`install` puts fpickle in the place of that cloudpickle, in this process.

Example:
    >>> import fpickle.ext.dask
    >>> fpickle.ext.dask.register()
    >>> client = Client(
    ...     address, serializers=["dask", "fpickle"],
    ...     deserializers=["dask", "fpickle", "pickle", "msgpack", "error"],
    ... )  # doctest: +SKIP

A worker that is started by command learns of the family by its preload:
``dask worker ADDRESS --preload fpickle.ext.dask``.
"""

from __future__ import annotations

from typing import Any

from distributed.protocol import pickle as _function_path
from distributed.protocol.serialize import register_serialization_family

from fpickle import _core
from fpickle.compat import cloudpickle as _ours

__all__ = ["dask_setup", "dumps", "install", "loads", "register", "uninstall"]

_theirs = _function_path.cloudpickle


def dumps(obj: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of an object: a pickle, and its large buffers."""
    frames: list[Any] = [b""]
    writable: list[bool] = []

    def keep(buffer: Any) -> None:
        view = memoryview(buffer)
        frames.append(view)
        writable.append(not view.readonly)

    frames[0] = _core.dumps(obj, 5, buffer_callback=keep)
    return {"serializer": "fpickle", "writable": writable}, frames


def loads(header: dict[str, Any], frames: list[Any]) -> Any:
    """The object; buffers stay where they are, if they are as writable as
    those that were sent."""
    buffers = []
    for frame, writable in zip(frames[1:], header["writable"]):
        view = memoryview(frame)
        if writable and view.readonly:
            view = memoryview(bytearray(view))
        elif not writable:
            view = view.toreadonly()
        buffers.append(view)
    return _core.loads(frames[0], buffers=buffers)


def register() -> None:
    """Makes the serialization family "fpickle" known in this process.

    A second call changes nothing. Every process that shall read such frames
    needs it: ``--preload fpickle.ext.dask`` calls it in schedulers and workers
    that are started by command.

    Thread-safety:
        Safe.

    Example:
        >>> import fpickle.ext.dask
        >>> fpickle.ext.dask.register()
    """
    register_serialization_family("fpickle", dumps, loads)


def dask_setup(service: Any) -> None:
    """What Dask calls when this module is in ``--preload``: `register`."""
    register()


def install() -> None:
    """From now on this process writes by fpickle what Dask would have given to
    cloudpickle: functions, graphs, and results that the standard pickle cannot
    write or that name ``__main__``.

    Other processes need not know: the streams are plain pickles. A second call
    changes nothing.

    Thread-safety:
        Safe; it holds for all threads.

    Example:
        >>> import fpickle.ext.dask
        >>> fpickle.ext.dask.install()
        >>> fpickle.ext.dask.uninstall()
    """
    _function_path.cloudpickle = _ours


def uninstall() -> None:
    """Puts back what `install` replaced."""
    if _function_path.cloudpickle is _ours:
        _function_path.cloudpickle = _theirs
