"""Batches of tasks for a pool, whose large arrays are sent once.

A `Sender` pickles a batch. Arrays from a size on become handles of objects that
the pool shares with its workers, and arrays that lie in a file become the place
in the file.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from pickle import PickleBuffer
from typing import Any, Callable

from fpickle import _core


class Sender:
    """Pickles the batches of one call of `joblib.Parallel`.

    Args:
        share: Returns a handle of an array that workers have; the handle must
            not keep the array.
        limit: The bytes from which on an array is shared; None: none is.
    """

    def __init__(self, share: Callable[[Any], Any], limit: int | None) -> None:
        self._share = share
        self._limit = sys.maxsize if limit is None else limit
        self._handles: dict[int, tuple[Any, Any]] = {}
        self._used: list[Any] = []

    def pack(self, batch: Any) -> tuple[bytes, list[PickleBuffer], Handles]:
        """The pickle of [batch], its buffers, and what has to live until it
        was run.

        Functions bring the globals that they use, as they are now: workers
        serve more than one call.

        Called by one thread at a time: joblib holds a lock.
        """
        table: dict[type, Any] | None = None
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            copyreg = sys.modules["copyreg"]
            table = {
                **copyreg.dispatch_table,
                numpy.ndarray: self._reduce_array,
                numpy.memmap: self._reduce_array,
            }
        buffers: list[PickleBuffer] = []
        stream = _core.dumps(
            batch, 5, buffer_callback=buffers.append, dispatch_table=table,
            isolated=True,
        )  # fmt: skip
        used, self._used = self._used, []
        return stream, buffers, Handles(used)

    def _reduce_array(self, array: Any) -> Any:
        place = _place_in_file(array)
        if place is not None:
            return _map, place
        if array.nbytes < self._limit or array.dtype.hasobject:
            return array.__reduce_ex__(5)
        key, handles = id(array), self._handles
        if key not in handles:
            # Once the array is gone its id means nothing, and nobody needs the
            # copy that the pool has but the batches that are under way.
            alive = weakref.ref(array, lambda dead: handles.pop(key, None))
            handles[key] = alive, self._share(array)
        handle = handles[key][1]
        self._used.append(handle)
        return _open, (handle,)


class Handles:
    """Handles of shared arrays that a batch needs until its future is done."""

    def __init__(self, handles: list[Any]) -> None:
        self._handles = handles

    def __call__(self, future: Any) -> None:
        self._handles.clear()


def _open(handle: Any) -> Any:
    """In a worker: a shared array. All tasks of the worker see this one."""
    array = handle.get()
    array.setflags(write=False)
    return array


def _place_in_file(array: Any) -> tuple[Any, ...] | None:
    """The arguments of `_map`, if [array] is a part of a mapped file."""
    numpy = sys.modules["numpy"]
    owner = array
    while type(owner) is numpy.ndarray:
        owner = owner.base
    if not isinstance(owner, numpy.memmap) or owner.filename is None:
        return None
    mapped = getattr(owner, "_mmap", None)
    flags = array.flags
    if not isinstance(mapped, mmap.mmap) or owner.mode == "c":
        return None  # changes of "c" are in this process alone
    if array.nbytes == 0 or not os.path.isfile(owner.filename):
        return None
    if not (flags.c_contiguous or flags.f_contiguous) or array.dtype.hasobject:
        return None
    start = numpy.frombuffer(mapped, dtype=numpy.uint8)
    distance = array.__array_interface__["data"][0]
    distance -= start.__array_interface__["data"][0]
    if not 0 <= distance <= start.nbytes - array.nbytes:
        return None
    begin = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY
    order = "C" if flags.c_contiguous else "F"
    mode = "r" if owner.mode == "r" or not flags.writeable else "r+"
    return (
        str(owner.filename), array.dtype, mode, begin + distance, array.shape,
        order,
    )  # fmt: skip


def _map(
    filename: str, dtype: Any, mode: str, offset: int, shape: Any, order: Any
) -> Any:
    """In a worker: the same part of the file."""
    import numpy

    return numpy.memmap(
        filename, dtype=dtype, mode=mode, offset=offset, shape=shape, order=order
    )
